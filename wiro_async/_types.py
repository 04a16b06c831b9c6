"""The vocabulary that all other modules share. Imports nothing of the package but the errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, Literal, TypeAlias, final

import attrs

from wiro_async._errors import ConfigurationError

__all__ = [
    "JSON", "JSONMapping", "OnCancel", "OnUnknown", "Outcome", "Payload", "Priority", "Secret", "Stage",
    "Status", "Watch",
]  # fmt: skip

JSON: TypeAlias = dict[str, Any]
"""A decoded JSON object, as it came off the wire: the only place where ``Any`` is at home."""

JSONMapping: TypeAlias = Mapping[str, Any]
"""The same, where nobody may change it."""

OnCancel: TypeAlias = Literal["keep", "stop"]
"""What becomes of the remote task when its waiter is cancelled or times out."""

OnUnknown: TypeAlias = Literal["raise", "resubmit"]
"""What to do with a Run whose answer was lost, once its task was proved absent."""

Outcome: TypeAlias = Literal["succeeded", "failed", "cancelled"]
"""How a task ended."""

Watch: TypeAlias = Literal["auto", "socket", "poll", "callback"]
"""How to learn of a task's end; whichever it is, polling goes on below it.

``"auto"`` listens on the service's WebSocket where that can be done, and polls what is left; ``"socket"`` is
the same, and says so when it cannot be done; ``"poll"`` only polls; ``"callback"`` waits for the service's
callback, and polls slowly in case that it never comes.
"""


class Priority(IntEnum):
    """Who goes first when there are more calls than slots: stopping saves money, submitting earns it."""

    STOP = 0
    RUN = 1
    READ = 2


class Status(StrEnum):
    """The statuses of a task, by their wire names.

    A status that the service invents later stays a plain ``str``; every member compares equal to its
    wire name, so both can be handled alike.

    Only ``POSTPROCESS_END`` and ``CANCEL`` are terminal. ``END`` is not: outputs come after it. ``ERROR``
    is not either: a stored ``task_error`` waits to be queued again.
    """

    QUEUE = "task_queue"
    ACCEPT = "task_accept"
    PREPROCESS_START = "task_preprocess_start"
    PREPROCESS_END = "task_preprocess_end"
    ASSIGN = "task_assign"
    START = "task_start"
    OUTPUT = "task_output"
    OUTPUT_FULL = "task_output_full"
    END = "task_end"
    POSTPROCESS_START = "task_postprocess_start"
    POSTPROCESS_END = "task_postprocess_end"
    CANCEL = "task_cancel"
    ERROR = "task_error"
    STREAM_READY = "task_stream_ready"
    STREAM_END = "task_stream_end"
    COST = "task_cost"


class Payload(dict[str, Any]):
    """A request's or reply's JSON object: its repr tells the keys only, for values may be tokens.

    Attributes:
        fingerprint: Stands for the reply that it was read from (0: there is none).
    """

    fingerprint: int = 0

    def __repr__(self) -> str:
        return f"<Payload {' '.join(sorted(map(str, self))[:20])}>"


Stage: TypeAlias = Literal[
    "waiting",
    "submitting",
    "running",
    "downloading",
    "succeeded",
    "failed",
    "cancelled",
    "unknown",
    "skipped",
    "failed_before",
]
"""Where a job of a batch stands; the last six are its end."""


@final
@attrs.frozen(repr=False, weakref_slot=False, match_args=False, getstate_setstate=False)
class Secret:
    """A string that is shown only when asked for by name.

    ``repr``, ``str``, formatting, copies, pickles and ``attrs.asdict()`` never hold the value. What comes out
    of a copy or a pickle is an empty ``Secret`` whose ``reveal()`` raises.

    Args:
        value: The text to keep.
    """

    _value: str = attrs.field(repr=False)

    def reveal(self) -> str:
        """Return the text itself.

        Raises:
            ConfigurationError: This one went through a pickle, which never carries the text; or it was made
                of something else than a str, which the message does not show.
        """
        value: object = self._value  # None: __reduce__ left the text behind.
        if value is None:
            raise ConfigurationError(
                "this Secret came out of a pickle, which never carries the text; fetch it anew"
            )
        if not isinstance(value, str):
            raise ConfigurationError(f"this Secret was made of a {type(value).__name__}; it must be a str")
        return value

    def __repr__(self) -> str:
        return "Secret('**********')"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return (Secret, (None,))


# What knows an attrs class by this list shows every field: asdict(), rich's tracebacks, pytest's comparisons.
delattr(Secret, "__attrs_attrs__")
