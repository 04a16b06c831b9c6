"""The options of submit() and run(): each declared once for type checkers, and once with its validator.

``tests/jobs/test_options.py`` compares the two.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypedDict, get_args

import attrs

from wiro_async._config import check_mode, of_type, on_cancel, one_of, seconds, text, usd
from wiro_async._types import CheckMode, OnCancel, OnUnknown, Watch

__all__ = ["DEFAULTS", "CallSettings", "RunOptions", "SubmitOptions"]


class SubmitOptions(TypedDict, total=False):
    """The options of ``Client.submit``.

    Attributes:
        slot_timeout: Seconds to wait for a slot when as many tasks run as the balance allows (defaults to
            ``Limits.slot_timeout``; 0: raise at once). It also bounds the wait for a service that cannot be
            reached, which ends after a minute in any case.
        on_unknown: What to do if the Run's response was lost and its task was proved absent: ``"raise"``, or
            ``"resubmit"``, which may pay twice if the service's list is wrong. To prove it absent takes
            until 85 s after the Run by default (``send_window + request_timeout + margin + settle_timeout``
            of ``Limits``) and one reading of the list; it is resent twice at most.
        callback_url: Where the service POSTs the result when the task ends. A query item is added, to find
            the task if the Run's response is lost.
        project_id: The project to assign the task to (defaults to the key's own).
        watch: How to notice the task's end (defaults to the client's ``watch``, or to polling if that is
            ``"callback"`` and there is no *callback_url*).
        expected_duration: Expected seconds from submit to end (None: the client learns this for each
            model).
        max_cost: USD that this call may cost at most (None: no limit of its own; the client's ``max_cost``
            holds in any case). The price is the catalogue's, or what such runs have cost: the service bills
            what it bills. If it is above the limit, the call raises ``BudgetExceeded`` before anything is
            uploaded or sent.
        allow_unpriced: Whether to start a run of which nobody knows the price although there is a limit
            (None: as the client's ``allow_unpriced`` says).
        check: Whether the inputs are checked before anything is uploaded or paid for, and how (defaults to
            the client's *check*).
    """

    slot_timeout: float | None
    on_unknown: OnUnknown
    callback_url: str | None
    project_id: str | None
    watch: Watch | None
    expected_duration: float | None
    max_cost: Decimal | float | str | None
    allow_unpriced: bool | None
    check: CheckMode | None


class RunOptions(SubmitOptions, total=False):
    """The options of ``Client.run``: those of ``submit``, and two for the wait.

    Attributes:
        timeout: Seconds from submit to end (defaults to ``Limits.slot_timeout`` for a slot, then
            ``Limits.wait_timeout``). Uploads, and the check (``Limits.check_timeout`` at most), are not
            counted. A Run in flight when the time is up still has ``Limits.request_timeout`` to complete.
        on_cancel: What to do if the caller is cancelled or the wait times out: ``"keep"`` leaves the task
            alone, ``"stop"`` stops it before the exception is raised.
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
    max_cost: Decimal | None = attrs.field(default=None, converter=usd)
    allow_unpriced: bool | None = attrs.field(default=None, validator=of_type("True or False", bool))
    check: CheckMode | None = attrs.field(default=None, validator=check_mode)
    timeout: float | None = attrs.field(default=None, validator=seconds)
    on_cancel: OnCancel = attrs.field(default="keep", validator=on_cancel)


DEFAULTS = CallSettings()
"""The default settings."""
