"""The options of submit() and run(): each written once for type checkers, and once with its check.

``tests/jobs/test_options.py`` holds the two against each other.
"""

from __future__ import annotations

from typing import TypedDict, get_args

import attrs

from wiro_async._config import one_of, seconds, text
from wiro_async._types import OnCancel, OnUnknown, Watch

__all__ = ["DEFAULTS", "CallSettings", "RunOptions", "SubmitOptions"]


class SubmitOptions(TypedDict, total=False):
    """The options of ``Client.submit``.

    Attributes:
        slot_timeout: Seconds to wait for a slot when as many tasks run as the balance allows (None:
            ``Limits.slot_timeout``; 0: raise at once). They bound the wait for a service that cannot be
            reached, too, which ends after a minute in any case.
        on_unknown: What to do when the Run's answer was lost and its task was proved absent: ``"raise"``, or
            ``"resubmit"``, which may pay twice if the service's list is wrong.
        callback_url: Where the service shall POST the result when the task ends. A query item is added, by
            which the task can be found if the Run's answer is lost.
        project_id: The project to book the task on (None: the key's own).
        watch: How to learn of the task's end (None: as the client does; it polls where a callback is its way
            and there is no *callback_url*).
        expected_duration: Seconds that the task is likely to take, from submit to end (None: the client
            learns this for each model).
    """

    slot_timeout: float | None
    on_unknown: OnUnknown
    callback_url: str | None
    project_id: str | None
    watch: Watch | None
    expected_duration: float | None


class RunOptions(SubmitOptions, total=False):
    """The options of ``Client.run``: those of ``submit``, and two for the wait.

    Attributes:
        timeout: Seconds from the submit to the end (None: ``Limits.slot_timeout`` for a slot, and then
            ``Limits.wait_timeout``). Uploads are not counted. A Run that is under way when the time is up has
            ``Limits.request_timeout`` to be answered.
        on_cancel: What becomes of the task when the caller is cancelled or the wait times out: ``"keep"``
            leaves it alone, ``"stop"`` stops it before the exception goes on.
    """

    timeout: float | None
    on_cancel: OnCancel


@attrs.frozen(kw_only=True)
class CallSettings:
    """The options of one call, checked; see ``SubmitOptions`` and ``RunOptions``."""

    slot_timeout: float | None = attrs.field(default=None, validator=seconds)
    on_unknown: OnUnknown = attrs.field(default="raise", validator=one_of(*get_args(OnUnknown)))
    callback_url: str | None = None
    project_id: str | None = attrs.field(default=None, validator=text)
    watch: Watch | None = attrs.field(default=None, validator=one_of(None, *get_args(Watch)))
    expected_duration: float | None = attrs.field(default=None, validator=seconds)
    timeout: float | None = attrs.field(default=None, validator=seconds)
    on_cancel: OnCancel = attrs.field(default="keep", validator=one_of(*get_args(OnCancel)))


DEFAULTS = CallSettings()
"""What most calls have."""
