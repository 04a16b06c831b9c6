"""The vocabulary that all other modules share. Imports nothing of the package but the errors."""

from __future__ import annotations

import math
from collections.abc import KeysView, Mapping
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Literal, TypeAlias, cast, final

import attrs

from wiro_async._errors import ConfigurationError

__all__ = [
    "JSON", "MAX_DEPTH", "CheckMode", "JSONMapping", "OnCancel", "OnUnknown", "Outcome", "Payload",
    "Priority", "Record", "Secret", "Stage", "Status", "Watch",
]  # fmt: skip

JSON: TypeAlias = dict[str, Any]
"""A decoded JSON object, as it came off the wire: the only place where ``Any`` is at home."""

JSONMapping: TypeAlias = Mapping[str, Any]
"""The same, where nobody may change it."""

MAX_DEPTH = 64
"""Levels of what is sent and read; itself is the first."""

CheckMode: TypeAlias = Literal[True, False, "strict"]
"""How a job's inputs are checked: clear mistakes only, not at all, or unknown names, too."""

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

    Only ``POSTPROCESS_END`` and ``CANCEL`` are terminal. ``END`` is not: outputs come after it. ``ERROR`` and
    ``ERROR_FULL`` are not either, though nobody outside the service knows what comes after them: see
    ``TaskStalled``.
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
    ERROR_FULL = "task_error_full"
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
    "not_started",
    "skipped",
    "failed_before",
]
"""Where a job of a batch stands; the last seven are its end."""


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


# -- records as plain data -------------------------------------------------------------------------------

_TOKENS = frozenset({"token", "access_key"})

_DEEPEST = 100
"""Levels that plain data has; what is below is left out. The service's replies have fewer."""


class Record:
    """What the library hands out: an attrs class that can be had as plain data.

    ``json.dumps(record.to_dict())``, ``dict(record)`` and ``record["cost"]`` work. FastAPI and pydantic take
    a record as a response and as a field. Records are equal if their content is, and can be in sets.
    """

    __slots__ = ()

    _derived: ClassVar[tuple[str, ...]] = ()
    """Properties that plain data has beside the fields."""

    __iter__: ClassVar[None] = None
    """``dict()`` needs ``keys()`` and brackets only; a loop over a record would be a mistake."""

    def to_dict(self, *, tokens: bool = False) -> JSON:
        """Return the content as plain data, which ``json.dumps`` takes.

        Money is in strings, to the last digit; times are ISO 8601 strings; durations are seconds; paths are
        strings; an error is its type and its message; unknown is None.

        Args:
            tokens: Whether to give tokens and access keys away: whoever has a task's token can kill it.
        """
        return {name: _plain(getattr(self, name), tokens) for name in self._names(tokens=tokens)}

    def keys(self) -> KeysView[str]:
        """Return the names that ``to_dict()`` has."""
        return dict.fromkeys(self._names(tokens=False)).keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return _plain(getattr(self, name), tokens=False)

    def _names(self, *, tokens: bool) -> list[str]:
        return [name for name in (*_fields_of(self), *self._derived) if tokens or name not in _TOKENS]

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - pydantic asks, so it is there

        plain = core_schema.plain_serializer_function_ser_schema(cls.to_dict)
        return core_schema.is_instance_schema(cls, serialization=plain)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: object, _handler: object) -> JSON:
        return {"type": "object", "title": cls.__name__}


def _fields_of(record: object) -> list[str]:
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cast(Any, type(record)))
    return [field.name for field in fields if not field.name.startswith("_")]


def _plain(value: object, tokens: bool, depth: int = 0) -> Any:
    match value:
        case _ if depth > _DEEPEST:
            return None
        case None | bool() | int():
            return value
        case str():
            return str(value)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat()
        case Record():
            return value.to_dict(tokens=tokens)
        case Secret():
            return value._value if tokens else None
        case Mapping():
            return {str(name): _plain(item, tokens, depth + 1) for name, item in value.items()}
        case tuple() if (named := getattr(value, "_asdict", None)) is not None:
            return _plain(named(), tokens, depth)
        case list() | tuple():
            return [_plain(item, tokens, depth + 1) for item in value]
        case BaseException():
            return {"type": type(value).__name__, "message": str(value)}
        case _ if attrs.has(type(value)):
            return {name: _plain(getattr(value, name), tokens, depth + 1) for name in _fields_of(value)}
        case bytes() | bytearray():
            return f"<{len(value)} bytes>"
        case _ if hasattr(value, "__fspath__"):
            return str(value)
        case _:
            # An open file, or whatever else was given as an input.
            return f"<{type(value).__name__}>"
