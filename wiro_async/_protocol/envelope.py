"""The service's envelope: bytes to a JSON object, and the object to a payload or the right error.

Most refusals come as HTTP 200 with ``"result": false``. Only a literal ``true`` is success.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Never

from wiro_async._errors import InvalidInput, InvalidResponse
from wiro_async._protocol.refusals import EXCERPT, one_line, read_retry_after, redacted, refusal
from wiro_async._types import JSON, MAX_DEPTH, Payload, Secret

__all__ = [
    "MAX_REPLY_BYTES", "UNCHANGED", "Reply", "decoded", "encode", "flag", "given", "integer",
    "is_utf8", "judge", "judge_anew", "mapping", "money", "number", "objects", "secret", "spelled", "strings",
    "text", "too_deep",
]  # fmt: skip

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""The largest reply that is read; the service's own clients use the same bound."""

MAX_UNCOUNTED_BYTES = 64 * 1024
MAX_DIGITS = 400

MAX_ESCAPES = 1_000_000

MAX_QUOTES = 1_500_000
"""Each quote costs the counting itself a step. Replies within the other bounds have fewer: a million escaped
ones, and four for each of 100 000 keys and values."""

_COSTS: tuple[tuple[str, tuple[bytes, ...], int], ...] = (
    ("lists and objects", (b"[", b"{"), 20_000),
    ("values", (b",",), 100_000),
    ("blanks", (b" ", b"\n", b"\r", b"\t"), 2_000_000),
)
"""What takes time or memory to decode, the bytes that tell how much of it there is, and the most of it.

What is outside of texts counts, and what is in texts that look like JSON, because some of them are decoded
once more. In other texts, and in all logs, nothing does: ordinary lines hold brackets and commas by the ten
thousand.
"""

_LOGS = frozenset({b"debugoutput", b"debugerror"})
"""The texts that nothing is decoded from; the structure of others counts if they look like JSON."""

_LONGEST_LOG_NAME = 16

_SLICE = 256 * 1024
"""Bytes that are counted at a time: while a call counts, in whichever thread, the event loop stands still."""

_FOUR_BYTE_LEADS = bytes(range(0xF0, 0xF8))

MAX_INTEGER_BITS = 1024


class Reply(NamedTuple):
    """One HTTP answer, read to its end.

    Attributes:
        operation: The call it answers, such as ``Task/Detail``.
        status: The HTTP status.
        body: The whole body.
        retry_after: The Retry-After header as sent.
        now: The time of day when it came, in unix seconds (a Retry-After may be a date).
    """

    operation: str
    status: int
    body: bytes | bytearray
    retry_after: str = ""
    now: float = 0.0

    def __repr__(self) -> str:
        # The body may hold tokens.
        return f"<Reply {self.operation} {self.status}, {len(self.body)} bytes>"


# -- sending ---------------------------------------------------------------------------------------------


def encode(payload: JSON) -> bytes:
    """Turn a request's payload into JSON bytes.

    Raises:
        InvalidInput: Something in it has no JSON form: NaN, a lone surrogate, bytes, a set, a key that is no
            string, an integer beyond 1 024 bits, or deeper than 64 levels. The message tells where.
    """
    _check(payload, "inputs", 0)
    return _ENCODER.encode(payload).encode()


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _check(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(
            f"{path[:80]}… is nested deeper than {MAX_DEPTH} levels; flatten it", name=path[:80]
        )
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"{path} has the key {key!r}; keys must be strings", name=path)
            _check_text(key, f"a key of {path}", path)
            _check(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, path, path)
    else:
        _check_scalar(value, path)


def _check_scalar(value: object, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{path} is {value}; JSON has only finite numbers", name=path)
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise InvalidInput(
            f"{path} is an integer of {value.bit_length()} bits; readers take at most {MAX_INTEGER_BITS}: "
            f"send it as a string",
            name=path,
        )
    if value is not None and not isinstance(value, bool | int | float):
        kind = type(value).__name__
        raise InvalidInput(
            f"{path} is a {kind}; inputs are str, int, float, bool, None, lists and dicts of these, and "
            f"local files as pathlib.Path, bytes or an open binary file",
            name=path,
        )


def _check_text(value: str, what: str, path: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        place = error.start
    else:
        return
    raise InvalidInput(
        f"{what} holds half a surrogate pair at character {place}, which UTF-8 cannot carry", name=path
    )


# -- receiving -------------------------------------------------------------------------------------------


def judge(reply: Reply) -> Payload:
    """Return the payload of a reply that means yes, or that names the task of a Run whatever else it says.

    What the service itself says comes in its own envelope, an object with a boolean ``result``. Anything else
    with a 4xx was said by a server before it, which knows nothing of the credentials, inputs and tasks; but a
    429 and a 5xx mean the same whoever says them.

    Raises:
        APIError: The service said no; the class tells what can be done about it.
        InvalidInput: The service refused an input.
        InvalidResponse: The reply is not the service's protocol.
    """
    if 300 <= reply.status < 400:
        raise _unreadable(reply, f"a redirect (HTTP {reply.status}), which is never followed; check base_url")
    may_be_foreign = 400 <= reply.status < 500 and reply.status != 429
    try:
        payload = _decode(reply)
    except InvalidResponse as error:
        if reply.status < 400:
            raise
        if may_be_foreign:
            raise _unreadable(reply, _page_of(reply), too_large=error.too_large) from None
        payload = Payload()
    if reply.status < 300 and payload.get("result") is True:
        return payload
    is_own = isinstance(payload.get("result"), bool)
    if is_own and reply.operation == "Run" and reply.status != 429 and text(payload.get("taskid")):
        return payload
    if may_be_foreign and not is_own:
        raise _unreadable(reply, "a JSON object without a result, which is not the service's")
    raise refusal(reply.operation, reply.status, payload, read_retry_after(reply.retry_after, reply.now))


UNCHANGED = Payload()
"""In place of the payload of a reply that is the one that is known already."""


def judge_anew(reply: Reply, known: int) -> Payload:
    """Return the payload of a reply that means yes, or ``UNCHANGED``.

    Most polls of a task find what the last one found, to the byte. A fingerprint has 64 bits, is made with a
    secret of this process (SipHash), and is only compared with the last one of the same task.

    Args:
        reply: The reply.
        known: The fingerprint of the payload that is known (0: none is).

    Raises:
        WiroError: As ``judge()``.
    """
    fingerprint = hash((reply.status, bytes(reply.body)))
    if fingerprint == known != 0:
        return UNCHANGED
    payload = judge(reply)
    payload.fingerprint = fingerprint
    return payload


def _decode(reply: Reply) -> Payload:
    body = reply.body
    problem = _too_costly(body)
    if problem:
        raise _unreadable(reply, problem, too_large=True)
    try:
        value: object = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except RecursionError:
        problem = f"nested deeper than {MAX_DEPTH} levels"
    except ValueError as error:
        problem = "empty" if not body or body.isspace() else f"not JSON ({str(error)[:80]})"
    else:
        if not isinstance(value, dict):
            problem = f"a JSON {type(value).__name__} where an object belongs"
        # Counting brackets first spares most replies the walk.
        elif body.count(b"{") + body.count(b"[") > MAX_DEPTH and too_deep(value):
            problem = f"nested deeper than {MAX_DEPTH} levels"
        else:
            return Payload(value)
    raise _unreadable(reply, problem)


def _too_costly(body: bytes | bytearray) -> str:
    """Say why decoding *body* would block the event loop or fill the memory ("" if it would not).

    A reply of a few kilobytes, as almost all are, is not looked into. In a larger one, what costs is counted:
    values, lists and objects above all, escapes, and characters that make Python store all of the text with
    two or four bytes each.

    Where a text begins and ends is read as the decoder does, up to where the JSON is broken: there the
    decoder stops, too.
    """
    if len(body) <= MAX_UNCOUNTED_BYTES:
        return ""
    if len(body) > MAX_REPLY_BYTES:
        return f"larger than {MAX_REPLY_BYTES} bytes"
    # First what is quickly counted: each quote is a step of the counting that follows.
    for what, character, most in (("escapes", b"\\", MAX_ESCAPES), ("quotes", b'"', MAX_QUOTES)):
        count = 0
        for start in range(0, len(body), _SLICE):
            count += body.count(character, start, start + _SLICE)
            if count > most:
                return f"larger than {most} {what}"
    counts = [0] * len(_COSTS)
    width = 1
    structure_of = _Structure().of
    for start in range(0, len(body), _SLICE):
        piece = body[start : start + _SLICE]
        # Python takes 1, 2 or 4 bytes for each character of a text (PEP 393).
        if not piece.isascii():
            width = max(width, 4 if len(piece.translate(None, _FOUR_BYTE_LEADS)) < len(piece) else 2)
        structure = structure_of(piece)
        for place, (what, characters, most) in enumerate(_COSTS):
            counts[place] += sum(map(structure.count, characters))
            if counts[place] > most:
                return f"larger than {most} {what}"
    return f"larger than {MAX_REPLY_BYTES} bytes in memory" if len(body) * width > MAX_REPLY_BYTES else ""


class _Structure:
    """Takes out of a body, slice by slice, what costs to decode: all but plain texts."""

    def __init__(self) -> None:
        self._in_text: bool = False
        # Whether the text looks like JSON; what is known of it; the text before it, which may be its key.
        self._counts: bool = False
        self._text: bytes = b""
        self._key: bytes = b""
        self._rest: bytes = b""

    def of(self, piece: bytes | bytearray) -> bytes:
        """Return what costs to decode in the next slice."""
        data = self._rest + bytes(piece)
        # An escape may be cut in two: an odd backslash at the end belongs to the next slice.
        odd = (len(data) - len(data.rstrip(b"\\"))) % 2
        self._rest = data[len(data) - odd :]
        plain = data[: len(data) - odd].replace(b"\\\\", b"").replace(b'\\"', b"")
        taken = []
        for place, part in enumerate(plain.split(b'"')):
            if place:
                # A quote is before it.
                self._in_text, self._counts = not self._in_text, False
                if self._in_text:
                    self._key, self._text = self._text, b""
            if self._in_text:
                if not self._text:
                    # The like of a task's parameters is decoded once more; a bracket may be an escape.
                    self._counts = part.startswith((b"[", b"{", rb"\u")) and self._key not in _LOGS
                self._text = (self._text + part)[:_LONGEST_LOG_NAME]
            if self._counts or not self._in_text:
                taken.append(part)
        return b"".join(taken)


def _integer(digits: str) -> int:
    return int(_number(digits))


def _float(digits: str) -> float:
    return float(_number(digits))


def _number(digits: str) -> str:
    """Refuse thousands of digits: reading them takes time that grows with their square."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return digits


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")


def _unambiguous(pairs: list[tuple[str, Any]]) -> JSON:
    """Refuse an object that says two things under one key: which of them holds is anybody's guess."""
    value = dict(pairs)
    if len(value) < len(pairs) and any(value[key] != item for key, item in pairs):
        raise ValueError("one key, two values")
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_int=_integer,
    parse_float=_float,
    object_pairs_hook=_unambiguous,
)


def too_deep(value: dict[str, Any] | list[Any]) -> bool:
    """Tell whether *value* is nested deeper than 64 levels, itself being the first."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [item for item in chain.from_iterable(map(_children, level)) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _children(value: dict[str, Any] | list[Any]) -> Any:
    return value.values() if isinstance(value, dict) else value


def _page_of(reply: Reply) -> str:
    """Describe a body that is not the service's: by its title if it is a web page."""
    title = re.search(rb"<title[^>]*>([^<]{0,200})", bytes(reply.body[:4096]), re.IGNORECASE)
    if title is None:
        return "not the service's" if reply.body else "empty"
    return f"a web page ({one_line(title[1].decode('utf-8', 'replace'))!r}), not the service's"


def _unreadable(reply: Reply, problem: str, *, too_large: bool = False) -> InvalidResponse:
    return InvalidResponse(
        f"{reply.operation}: HTTP {reply.status} with a body that is {problem}",
        http_status=reply.status,
        operation=reply.operation,
        too_large=too_large,
        # UTF-16 read as UTF-8 has a NUL beside each letter, behind which a credential would not be found.
        excerpt=redacted(reply.body[: EXCERPT * 4].decode("utf-8", "replace").replace("\0", ""))[:EXCERPT],
    )


# -- the wire's loose values -----------------------------------------------------------------------------

_SHORT = 256
"""Characters of a text whose reading is remembered."""

_LONGEST_AMOUNT = 400
"""Digits of an amount: enough for every float. "1e999999999" would fill the memory when it is written out."""


# Not a union: those are put together anew at every call.
_SCALARS = (str, int, float)


def secret(value: object) -> Secret | None:
    """Read a token; "" is none."""
    token = text(value)
    return Secret(token) if token else None


def text(value: object) -> str:
    """Read a string; numbers become their digits, everything else "" (booleans as JSON writes them)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    return ""


def number(value: object) -> float | None:
    """Read a finite number that came as a number or a string."""
    if not isinstance(value, _SCALARS) or isinstance(value, bool):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def spelled(value: object) -> str:
    """Return a value's one spelling: 6, 6.0 and "6" are the same, and so are "1K" and "1k"."""
    figure = number(value)
    return text(figure) if figure is not None else text(value).strip().casefold()


def given(value: object) -> Iterator[object]:
    """Yield what was really given as an input: forms send the unused one of two names empty."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if item is not None and not (isinstance(item, str) and not item):
            yield item


def integer(value: object) -> int | None:
    """Read a count: a whole number that is not negative."""
    result = number(value)
    return int(result) if result is not None and result >= 0 and result.is_integer() else None


def money(value: object) -> Decimal | None:
    """Read an amount in USD, to the last digit that was sent."""
    if not isinstance(value, _SCALARS) or isinstance(value, bool):
        return None
    digits = str(value)
    return _amount(digits) if len(digits) <= _LONGEST_AMOUNT else None


@lru_cache(maxsize=256)
def _amount(digits: str) -> Decimal | None:
    try:
        result = Decimal(digits)
    except InvalidOperation:
        return None
    exponent = result.as_tuple().exponent
    # NaN and the infinities have letters for exponents.
    return result if isinstance(exponent, int) and abs(exponent) <= _LONGEST_AMOUNT else None


def flag(value: object) -> bool:
    """Read a truth value that came as a boolean, a number or a string."""
    return text(value).lower() in ("true", "1", "yes")


def decoded(value: object) -> object:
    """Undo one layer of JSON text around an object or a list, no deeper than a reply may be."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        result = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return value if too_deep(result) else result


def mapping(value: object) -> JSON:
    """Read an object that came as such or as JSON text; anything else is an empty one."""
    result = decoded(value)
    return result if isinstance(result, dict) else {}


def objects(value: object) -> Iterable[JSON]:
    """Read a list of objects; whatever else is in it is left out."""
    result = decoded(value)
    return [item for item in result if isinstance(item, dict)] if isinstance(result, list) else []


def strings(value: object) -> tuple[str, ...]:
    """Read a list of strings that came as such, as JSON text, or as one string; empty ones are left out."""
    return _short_strings(value) if isinstance(value, str) and len(value) <= _SHORT else _strings(value)


def _strings(value: object) -> tuple[str, ...]:
    result = decoded(value)
    if not isinstance(result, list | str):
        return ()
    items = result if isinstance(result, list) else [result]
    return tuple(name for name in map(text, items) if name)


_short_strings = lru_cache(maxsize=256)(_strings)
"""The same few lists of categories come with every poll."""


def is_utf8(text: str) -> bool:
    """Tell whether a text can be sent and stored: JSON can bring halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
