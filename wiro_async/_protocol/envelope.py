"""The service's envelope: bytes to a JSON object, and the object to a payload or the right error.

Most refusals come as HTTP 200 with ``"result": false``. Only a literal ``true`` is success.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import Any, NamedTuple, Never

from wiro_async._errors import (
    APIError,
    AuthenticationError,
    ConcurrencyLimited,
    InsufficientBalance,
    InvalidInput,
    InvalidResponse,
    InvalidTaskState,
    ModelNotFound,
    RateLimited,
    ServiceError,
    TaskNotFound,
    TermsNotAccepted,
    WiroError,
)
from wiro_async._types import JSON, Payload

__all__ = ["MAX_DEPTH", "MAX_REPLY_BYTES", "Reply", "encode", "judge", "too_deep"]

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""The largest reply that is read; the service's own clients use the same bound."""

MAX_UNCOUNTED_BYTES = 64 * 1024
MAX_CONTAINERS = 20_000
MAX_VALUES = 100_000
MAX_ESCAPES = 1_000_000
MAX_BLANKS = 2_000_000
MAX_DIGITS = 400

_COSTS: tuple[tuple[str, tuple[bytes, ...], int], ...] = (
    ("lists and objects", (b"[", b"{"), MAX_CONTAINERS),
    ("values", (b",",), MAX_VALUES),
    ("escapes", (b"\\",), MAX_ESCAPES),
    ("blanks", (b" ", b"\n", b"\r", b"\t"), MAX_BLANKS),
)
"""What takes time or memory to decode, the bytes that tell how much of it there is, and the most of it."""

_SLICE = 256 * 1024
"""Bytes that are counted at a time: while a call counts, in whichever thread, the event loop stands still."""

_FOUR_BYTE_LEADS = bytes(range(0xF0, 0xF8))

MAX_DEPTH = 64
MAX_INTEGER_BITS = 1024
MAX_RETRY_AFTER = 120.0
_EXCERPT = 500

_CREDENTIAL = re.compile(
    r"(socketaccesstoken|tasktoken|accesskey|x-api-key|x-signature)(\W{0,4}[:=]\W{0,4})[\w+/=.-]+",
    re.IGNORECASE,
)
"""A credential beside its name: in JSON, in JSON within JSON, in a query, or in headers echoed by a proxy."""


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
    """Return the payload of a reply that means yes.

    Raises:
        APIError: The service said no; the class tells what can be done about it.
        InvalidInput: The service refused an input.
        InvalidResponse: The reply is not the service's protocol.
    """
    if 300 <= reply.status < 400:
        raise _unreadable(reply, f"a redirect (HTTP {reply.status}), which is never followed; check base_url")
    try:
        payload = _decode(reply)
    except InvalidResponse:
        if reply.status < 400:
            raise
        payload = Payload()
    if reply.status < 300 and payload.get("result") is True:
        return payload
    raise _refusal(reply, payload)


UNCHANGED = Payload()
"""In place of the payload of a reply that is the one that is known already."""


def judge_anew(reply: Reply, known: int) -> Payload:
    """Return the payload of a reply that means yes, or ``UNCHANGED``.

    Most looks at a task find what the last one found, to the byte. A fingerprint has 64 bits, is made with a
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
        raise _unreadable(reply, problem)
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
    """
    if len(body) <= MAX_UNCOUNTED_BYTES:
        return ""
    if len(body) > MAX_REPLY_BYTES:
        return f"larger than {MAX_REPLY_BYTES} bytes"
    counts = [0] * len(_COSTS)
    width = 1
    for start in range(0, len(body), _SLICE):
        piece = body[start : start + _SLICE]
        for place, (what, characters, most) in enumerate(_COSTS):
            counts[place] += sum(map(piece.count, characters))
            if counts[place] > most:
                return f"larger than {most} {what}"
        width = max(width, _width(piece))
    return f"larger than {MAX_REPLY_BYTES} bytes in memory" if len(body) * width > MAX_REPLY_BYTES else ""


def _width(text: bytes | bytearray) -> int:
    """Return how many bytes Python takes for each character of this UTF-8 text (PEP 393)."""
    if text.isascii():
        return 1
    return 4 if len(text.translate(None, _FOUR_BYTE_LEADS)) < len(text) else 2


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


def _unreadable(reply: Reply, problem: str) -> InvalidResponse:
    return InvalidResponse(
        f"{reply.operation}: HTTP {reply.status} with a body that is {problem}",
        http_status=reply.status,
        operation=reply.operation,
        excerpt=_excerpt(reply.body),
    )


def _excerpt(body: bytes | bytearray) -> str:
    # UTF-16 read as UTF-8 has a NUL beside each letter, behind which a credential would not be found.
    return _redacted(body[: _EXCERPT * 4].decode("utf-8", "replace").replace("\0", ""))[:_EXCERPT]


def _redacted(said: str) -> str:
    return _CREDENTIAL.sub(r"\1\2**********", said)


# -- refusals --------------------------------------------------------------------------------------------

_CODES: dict[int, type[APIError]] = {
    96: ConcurrencyLimited,
    97: InsufficientBalance,
    98: TermsNotAccepted,
    99: AuthenticationError,
}

# The same code stands for several refusals, so the words decide first; they are matched in lower case.
_WORDS: tuple[tuple[str, type[APIError]], ...] = (
    ("project authorization", AuthenticationError),
    ("project requires signature", AuthenticationError),
    ("requested ip", AuthenticationError),
    ("concurrent task limit", ConcurrencyLimited),
    ("insufficient balance", InsufficientBalance),
    ("sign in to run", TermsNotAccepted),
    ("tool-not-accessible", ModelNotFound),
    ("slug-owner-project-not-exist", ModelNotFound),
    ("there is no task yet", TaskNotFound),
    ("task-not-exist", TaskNotFound),
    ("not in a cancellable state", InvalidTaskState),
    ("could not be killed", InvalidTaskState),
)

_CODE_1: dict[str, type[APIError]] = {
    "Run": ModelNotFound,
    "Tool/Detail": ModelNotFound,
    "Task/Detail": TaskNotFound,
    "Task/Cancel": InvalidTaskState,
    "Task/Kill": InvalidTaskState,
}

_HINTS: dict[type[APIError], str] = {
    AuthenticationError: "check the key and secret, and whether the project is signed or key-only",
    ModelNotFound: "list the models with client.models('word') or `wiro models WORD`",
    TaskNotFound: "check the id, and that it was made by a project of the same account",
    InvalidTaskState: "cancel() is for queued tasks, kill() for running ones; stop() picks by itself",
    ConcurrencyLimited: "wait for one of your tasks to end, or add funds",
    InsufficientBalance: "add funds; nothing was charged",
    TermsNotAccepted: "sign in on the service's site and accept the model's terms",
    RateLimited: "slow down",
}


def _refusal(reply: Reply, payload: JSON) -> WiroError:
    code, detail = _first_error(payload.get("errors"))
    if not payload and reply.status >= 400:
        detail = f"HTTP {reply.status}, no JSON object in the body"
    facts: dict[str, Any] = {
        "code": code, "http_status": reply.status, "operation": reply.operation, "detail": detail,
    }  # fmt: skip
    name = _refused_input(detail) if _is_about_inputs(reply.status) else None
    if name is not None:
        return InvalidInput(f"{reply.operation}: the service refused an input: {detail}", name=name or None)
    kind = _kind(reply, code, detail)
    if kind is ConcurrencyLimited:
        facts["limit"] = _limit(detail)
    if kind in (RateLimited, ServiceError):
        facts["retry_after"] = retry_after(reply.retry_after, reply.now)
    hint = _HINTS.get(kind, "")
    message = f"{reply.operation}: {detail or 'refused without a reason'}"
    return kind(f"{message} ({hint})" if hint else message, **facts)


def _kind(reply: Reply, code: int | None, detail: str) -> type[APIError]:
    said = detail.lower()
    by_words = next((kind for words, kind in _WORDS if words in said), None)
    if reply.status == 429:
        return RateLimited
    if reply.status in (401, 403):
        return AuthenticationError
    if reply.status >= 500:
        return ServiceError
    if by_words is not None:
        return by_words
    if code == 1:
        return _CODE_1.get(reply.operation, ServiceError)
    return _CODES.get(code, ServiceError) if code is not None else ServiceError


def _first_error(errors: object) -> tuple[int | None, str]:
    """Read the first error: objects, plain strings, null and nothing at all have been seen."""
    item = errors
    while isinstance(item, list):
        item = item[0] if item else None
    if isinstance(item, dict):
        return _code(item.get("code")), _words(item.get("message"))
    return None, _words(item)


def _words(message: object) -> str:
    """Read the service's own words as one line that is safe to log and to print on a terminal."""
    if not isinstance(message, str):
        return ""
    line = "".join(character if character.isprintable() else " " for character in message[: 2 * _EXCERPT])
    return _redacted(" ".join(line.split()))[:_EXCERPT]


def _code(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,6}\s*", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_about_inputs(status: int) -> bool:
    """Whether a reply of this HTTP status can be a complaint about an input."""
    return status < 500 and status not in (401, 403, 429)


def _refused_input(detail: str) -> str | None:
    """Return the name of the input that the service complains of ("" for all of them, None for none)."""
    match = re.match(r"Request (?:parameters?|files?)\b(?: \[([^\]]*)\])?", detail)
    return None if match is None else match.group(1) or ""


def _limit(detail: str) -> int | None:
    match = re.search(r"up to (\d{1,9}) task", detail)
    return int(match.group(1)) if match else None


def retry_after(header: str, now: float) -> float | None:
    """Read a Retry-After header: seconds or a date; between 0 and 120 s, whatever it says.

    Args:
        header: The header's value ("" for none).
        now: The time of day, in unix seconds.
    """
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
            # Two of HTTP's three date formats may come without a zone; all are in GMT (RFC 9110, 5.6.7).
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if not math.isnan(seconds) else None
