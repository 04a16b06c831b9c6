"""HTTP/1.1 as bytes: just enough to find where messages end, and to say something else instead. Pure."""

from __future__ import annotations

import http
import json
from typing import Any, NamedTuple
from urllib.parse import unquote

from wiro_async.sandbox.faults import OPERATIONS, Garbage, Html, NoTask, Refused, Status

__all__ = [
    "NO_BODY",
    "UNTIL_EOF",
    "Framing",
    "Headers",
    "answer",
    "body_of",
    "envelope",
    "operation_of",
    "reply_framing",
    "request_framing",
    "split_head",
    "status_of",
    "with_header",
    "with_length",
]

Headers = dict[str, str]
"""By name in lower case."""

_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"


class Framing(NamedTuple):
    """Where a body ends: at a length, with its last chunk, or, with neither, when the connection does."""

    length: int | None = None
    chunked: bool = False


NO_BODY = Framing(0)
UNTIL_EOF = Framing()


def split_head(head: bytes) -> tuple[list[str], Headers]:
    """The three words of a request's or a reply's first line, and its headers.

    Raises:
        ValueError: If it is not HTTP/1.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ", 2)
    if len(words) != 3 or not (words[0].startswith("HTTP/1.") or words[2] in {"HTTP/1.0", "HTTP/1.1"}):
        raise ValueError(f"not HTTP/1: {first[:100]!r}")
    headers: Headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"not a header: {name[:100]!r}")
        headers[name.lower()] = value.strip()
    return words, headers


def request_framing(headers: Headers) -> Framing:
    """Where a request's body ends.

    Raises:
        ValueError: If the Content-Length is not a number.
    """
    return _framing(headers, NO_BODY)


def reply_framing(method: str, status: int, headers: Headers) -> Framing:
    """Where the body of a reply to a request with this method ends."""
    return NO_BODY if method == "HEAD" or status in {204, 304} else _framing(headers, UNTIL_EOF)


def _framing(headers: Headers, default: Framing) -> Framing:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Framing(None, chunked=True)
    length = headers.get("content-length")
    if length is None:
        return default
    if not (length.isascii() and length.isdigit()):
        raise ValueError(f"not a length: {length[:100]!r}")
    return Framing(int(length))


def operation_of(path: str, headers: Headers) -> str:
    """One of ``OPERATIONS``, or ``"other"``."""
    if headers.get("upgrade", "").lower() == "websocket":
        return "socket"
    _, *parts = [unquote(part) for part in path.partition("?")[0].split("/")]
    if parts[:1] == ["cdn"]:
        return "cdn"
    if len(parts) == 4 and parts[:2] == ["v1", "Run"]:
        return "Run"
    name = "/".join(parts[1:])
    return (
        name if parts[:1] == ["v1"] and name in OPERATIONS - {"Run", "cdn", "socket", "callback"} else "other"
    )


def status_of(head: bytes) -> int:
    """A reply's status code."""
    return int(head[9:12])


def body_of(reply: bytes) -> bytes:
    """What follows a reply's head."""
    return reply.partition(b"\r\n\r\n")[2]


def with_header(head: bytes, line: str) -> bytes:
    """A head with one more header."""
    return head[:-2] + line.encode("latin-1") + b"\r\n\r\n"


def with_length(reply: bytes, delta: int) -> bytes:
    """A reply whose Content-Length is off by so much, but not below 0. One without any stays as it is."""
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = [
        b"content-length: %d" % max(0, len(body) + delta)
        if line.lower().startswith(b"content-length:")
        else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def without_length(reply: bytes, lost: int) -> bytes:
    """A reply that tells no length, without so many bytes of its end. A chunked one stays as it is."""
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*lines, b"connection: close"]) + b"\r\n\r\n" + body[: max(len(body) - lost, 0)]


def answer(fault: Garbage | Html | Status | Refused | NoTask, method: str, *, last: bool) -> bytes:
    """The reply that a fault puts in the place of the true one.

    Args:
        fault: The fault.
        method: The request's method: the reply to a HEAD has no body.
        last: Whether the connection ends with it.
    """
    if isinstance(fault, Garbage):
        return fault.data if fault.part == "head" else _render(200, _JSON, fault.data, method, last=last)
    if isinstance(fault, Html):
        title = f"{fault.status} {_phrase(fault.status)}"
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\r\n"
        return _render(fault.status, _HTML, page.encode(), method, last=last)
    if isinstance(fault, Refused):
        return _render(fault.status, _JSON, _refusal(fault.code, fault.message), method, last=last)
    if isinstance(fault, NoTask):
        body = _encode({"total": "0", "errors": [], "tasklist": [], "result": True})
        reply = body if fault.empty else _refusal(1, "There is no task yet.")
        return _render(200, _JSON, reply, method, last=last)
    error = _refusal(0, _phrase(fault.code))
    return _render(fault.code, _JSON, error, method, last=last, retry_after=fault.retry_after)


def refused(fault: Refused, reply: bytes) -> bytes:
    """Turn the good reply to a Run into a refusal that names the task."""
    task = {name: value for name, value in json.loads(body_of(reply)).items() if name not in _VERDICT}
    return _render(fault.status, _JSON, _refusal(fault.code, fault.message, **task), "POST", last=False)


_VERDICT = ("errors", "result")


def _refusal(code: int, message: str, **more: Any) -> bytes:
    return _encode({"result": False, "errors": [{"code": code, "message": message}], **more})


def envelope(payload: dict[str, Any]) -> bytes:
    """A good reply in the service's envelope."""
    return _render(200, _JSON, _encode({"errors": [], **payload, "result": True}), "POST", last=False)


def _render(
    status: int,
    content_type: str,
    body: bytes,
    method: str,
    *,
    last: bool,
    retry_after: float | str | None = None,
) -> bytes:
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", f"content-type: {content_type}"]
    if retry_after is not None:
        lines.append(f"retry-after: {retry_after}")
    if last:
        lines.append("connection: close")
    lines.append(f"content-length: {len(body)}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if method == "HEAD" else head + body


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
