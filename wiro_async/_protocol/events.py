"""What a task's WebSocket tells: progress and lines of output beside the statuses.

A message is a hint, never a proof: whatever cannot be read is left out, and a poll of the task decides.
"""

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple, TypeAlias

import attrs

from wiro_async._protocol.envelope import decoded, integer, number, secret, text, too_deep
from wiro_async._protocol.records import STALLED, TERMINAL, Transition, status_of
from wiro_async._types import JSON, MAX_DEPTH, JSONMapping, Record, Secret, Status

__all__ = ["MAX_READ", "LogLine", "Message", "TaskEvent", "TaskProgress", "read_message", "register"]

MAX_READ = 256 * 1024
"""Bytes of a message that is decoded; of a longer one only its head is looked at."""

MAX_VALUES = 1024
"""Lists, objects and values of a message that is decoded: they, not its bytes, are what takes time."""

MAX_UNCOUNTED = 2 * 1024
"""Bytes of a message in which these are not counted first, nor in text within it that looks like JSON."""

MAX_DIGITS = 400

MAX_LINE = 64 * 1024
"""Characters kept of a line."""

MAX_WORD = 200
"""Characters kept of every other text, and read of a duration."""

_HEAD = 1024

_Ends: TypeAlias = Literal["output", "error"]


@attrs.frozen
class TaskProgress(Record):
    """How far a task says it is.

    Attributes:
        task: What it is doing, in the service's words ("Generate").
        percentage: How much of that is done, from 0 to 100 (None where the service does not tell).
        step: The step that it is at (None where the service does not tell).
        steps: How many steps there are (None where the service does not tell).
        speed: Steps in a unit of time (None where the service does not tell).
        speed_unit: That unit, in the service's words ("it/s").
        elapsed: How long it has taken so far, in the service's words ("1m 20s").
        remaining: How long it will go on, in the service's words ("3s").
        elapsed_seconds: ``elapsed`` in seconds (None: not told, or not understood).
        remaining_seconds: ``remaining`` in seconds (None: not told, or not understood).
        raw: What the service sent beyond the above.
    """

    task: str = ""
    percentage: float | None = None
    step: int | None = None
    steps: int | None = None
    speed: float | None = None
    speed_unit: str = ""
    elapsed: str = ""
    remaining: str = ""
    elapsed_seconds: float | None = None
    remaining_seconds: float | None = None
    raw: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)


@attrs.frozen
class LogLine(Record):
    """Something that a task wrote.

    Attributes:
        text: What it wrote, at most 65 536 characters of it.
        stream: Where: ``"output"``, or ``"error"``, which is no failure by itself.
    """

    text: str
    stream: _Ends


TaskEvent: TypeAlias = Transition | TaskProgress | LogLine
"""What ``TaskHandle.events()`` yields."""


class Message(NamedTuple):
    """One message of a task's socket, read.

    Attributes:
        type: Its kind, by the wire name.
        status: The status that it announces (None: it announces none).
        task_id: The task that it is about ("" where it does not tell).
        token: The token of that task (None where it does not tell).
        events: What it tells beside the status.
        refused: Why the service refused what it was sent ("" if it did not).
    """

    type: str
    status: Status | None = None
    task_id: str = ""
    token: Secret | None = None
    events: tuple[TaskProgress | LogLine, ...] = ()
    refused: str = ""

    def __repr__(self) -> str:
        # Events may be long, and the service may quote what it refuses.
        return f"<Message {self.type} of task {self.task_id or '?'}>"

    @property
    def is_terminal(self) -> bool:
        """Whether it announces the task's end."""
        return self.status in TERMINAL


def register(token: Secret) -> str:
    """Return the message that asks for everything about the task of that token."""
    return json.dumps({"type": "task_info", "tasktoken": token.reveal()})


def read_message(message: str | bytes | bytearray) -> Message | None:
    """Read a message; of one that would take long only whether its beginning tells of a task's end.

    Returns:
        What it says; None if that is nothing we know: not a JSON object, nested deeper than 64 levels, of
        an unknown type, or without content.
    """
    words = message if isinstance(message, str) else message[: MAX_READ + 1].decode("utf-8", "replace")
    if len(message) > MAX_READ or (len(words) > MAX_UNCOUNTED and sum(map(words.count, "[{,")) > MAX_VALUES):
        return _read_head(words)
    try:
        wire: object = _DECODER.decode(words)
    except (ValueError, RecursionError):
        return None
    # Counting brackets first spares most messages the walk.
    if not isinstance(wire, dict) or (words.count("{") + words.count("[") > MAX_DEPTH and too_deep(wire)):
        return None
    kind = text(wire.get("type"))
    status = _status(kind)
    events = _events(kind, wire.get("message"))
    refused = ""
    if kind == "error" and wire.get("result") is not True:
        refused = text(wire.get("message"))[:MAX_WORD] or "no reason given"
    if status is None and not events and not refused:
        return None
    return Message(
        kind, status, text(wire.get("id")), secret(wire.get("tasktoken")), events=events, refused=refused
    )


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        # Their number squared is what the reading would take.
        raise ValueError("an integer of too many digits")
    return int(digits)


_DECODER = json.JSONDecoder(parse_int=_integer)

_END = re.compile(r'\s*\{\s*"type"\s*:\s*"(task_postprocess_end|task_cancel)"')
_NAMES = re.compile(r'"(id|tasktoken)"\s*:\s*"?([\w-]{1,200})', re.ASCII)


def _read_head(words: str) -> Message | None:
    """Tell whether a message that is not decoded announces an end, and whose.

    A mistake costs one poll.
    """
    head = words[:_HEAD]
    end = _END.match(head)
    if end is None:
        return None
    # The first of each counts: later ones would belong to what is nested, such as the outputs.
    names: dict[str, str] = dict(reversed(_NAMES.findall(head.partition('"message"')[0])))
    return Message(end[1], _status(end[1]), names.get("id", ""), secret(names.get("tasktoken")))


def _status(kind: str) -> Status | None:
    status = status_of(kind)
    # On the socket this is a line on the error stream, and says nothing about the task's state.
    return status if isinstance(status, Status) and status not in STALLED else None


def _events(kind: str, said: object) -> tuple[TaskProgress | LogLine, ...]:
    if kind in STALLED:
        return _lines(_words(said), "error")
    if kind != Status.OUTPUT:
        return ()
    content = decoded(said) if not isinstance(said, str) or len(said) <= MAX_UNCOUNTED else said
    if not isinstance(content, dict):
        return _lines(_words(said), "output")
    if content.keys() & {"raw", "thinking", "answer"}:
        # A language model says it all in one text, or its thoughts and then its answer.
        parts = [_words(content.get(key)) for key in ("thinking", "answer")]
        return _lines(_words(content.get("raw")) or _words(parts), "output")
    if content.keys() & _PROGRESS_KEYS:
        return (_progress(content),)
    # An object that says nothing of progress is a line only where the task itself wrote it as text.
    return _lines(said if isinstance(said, str) else "", "output")


def _lines(said: str, stream: _Ends) -> tuple[LogLine, ...]:
    return (LogLine(said[:MAX_LINE], stream),) if said else ()


def _words(said: object) -> str:
    """Read a text that came as such, or as a list of its parts."""
    if isinstance(said, list):
        return "\n".join(filter(None, map(text, said)))
    return text(said)


_PROGRESS_KEYS = frozenset(
    {"task", "percentage", "stepCurrent", "stepTotal", "speed", "speedType", "elapsedTime", "remainingTime"}
)


def _progress(wire: JSON) -> TaskProgress:
    said = wire.get("percentage")
    percentage = number(said.strip().removesuffix("%") if isinstance(said, str) else said)
    elapsed, remaining = _word(wire.get("elapsedTime")), _word(wire.get("remainingTime"))
    return TaskProgress(
        task=_word(wire.get("task")),
        percentage=None if percentage is None else min(max(percentage, 0.0), 100.0),
        step=integer(wire.get("stepCurrent")),
        steps=integer(wire.get("stepTotal")),
        speed=number(wire.get("speed")),
        speed_unit=_word(wire.get("speedType")),
        elapsed=elapsed,
        remaining=remaining,
        elapsed_seconds=_seconds(elapsed),
        remaining_seconds=_seconds(remaining),
        raw={key: value for key, value in wire.items() if key not in _PROGRESS_KEYS},
    )


def _word(value: object) -> str:
    return text(value)[:MAX_WORD]


_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[dhms])(?:[a-z]*)", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", re.ASCII)


def _seconds(said: str) -> float | None:
    """Read a duration: "3.5", "3s", "1m 20s", "2 min", "00:03", "1:02:03"."""
    bare = said.strip().lower()
    seconds = number(bare)
    if seconds is not None:
        return seconds if seconds >= 0 else None
    clock = _CLOCK.fullmatch(bare)
    if clock is not None:
        hours, minutes, rest = (float(part or 0) for part in clock.groups())
        return hours * 3600 + minutes * 60 + rest
    total, place = 0.0, 0
    while part := _PART.match(bare, place):
        total += float(part[1]) * _UNITS[part[2]]
        place = part.end()
    return total if 0 < place == len(bare) else None
