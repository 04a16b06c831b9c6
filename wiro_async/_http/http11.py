"""HTTP/1.1 as a client speaks it: the bytes of a request's head, and the parts of a reply. Pure.

llhttp (by httptools) reads heads and chunks, in its strict mode. What it leaves to its user is decided here:
where a reply ends, whether another one may follow it, and how much may come beside a body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httptools

__all__ = [
    "MAX_EXTRA_BYTES",
    "Head",
    "LocalProtocolError",
    "RemoteProtocolError",
    "ReplyParser",
    "header_lines",
    "request_line",
]

MAX_EXTRA_BYTES = 100 * 1024
"""The most that may come before a body, or between two bytes of it: interim replies, headers, the sizes and
extensions of chunks, trailers. h11's limit is the same."""

_LLHTTP_ERRORS = (httptools.HttpParserError, httptools.HttpParserUpgrade)

_VERSION = b"HTTP/1."
_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_TARGET = re.compile(rb"[!-~]+")


class LocalProtocolError(Exception):
    """Our own request cannot be sent as HTTP."""


class RemoteProtocolError(Exception):
    """What came is no HTTP/1.1 reply, or not a whole one."""


# -- requests --------------------------------------------------------------------------------------------


def request_line(method: str, target: bytes) -> bytes:
    """Return the first line of a request.

    Raises:
        LocalProtocolError: It would be no line.
    """
    name = method.encode("ascii", "replace")
    if not _TOKEN.fullmatch(name) or not _TARGET.fullmatch(target):
        raise LocalProtocolError(f"{method[:20]!r} {target[:80]!r} is no method and target of a request")
    return b"%b %b HTTP/1.1\r\n" % (name, target)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the lines of *headers*.

    Raises:
        LocalProtocolError: HTTP cannot carry one of them. Its value is not shown, for it may be a key.
    """
    lines = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise LocalProtocolError(
                f"the header {name[:40]!r} has a control character in it, or a space at one end"
            )
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


# -- replies ---------------------------------------------------------------------------------------------


class Head:
    """A reply's status and headers.

    Attributes:
        status: The status.
        reason: The server's words for it.
        version: ``HTTP/1.1`` or ``HTTP/1.0``.
        headers: The headers as they came.
    """

    __slots__ = ("headers", "reason", "status", "version")

    def __init__(
        self, status: int, reason: bytes, version: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.status: int = status
        self.reason: bytes = reason
        self.version: bytes = version
        self.headers: list[tuple[bytes, bytes]] = headers


class _Sink:
    """Collects what llhttp finds, as far as the end of one message."""

    __slots__ = ("body", "done", "headers", "in_body")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.in_body: bool = False
        self.done: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind a body come trailers, which nobody needs.
        if not self.in_body:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, data: bytes) -> None:
        if not self.done:
            self.body.append(data)

    def on_message_complete(self) -> None:
        self.done = True


class ReplyParser:
    """Reads one reply, as its bytes come.

    Attributes:
        head: The head, once it is known. Interim replies (1xx) are left out.
        whole: Whether the reply has come to its end.
        reusable: Whether another reply may follow on the connection: this one is whole, there is no byte
            behind it, and neither version nor headers say that it is the last.
    """

    __slots__ = ("_beside", "_buffer", "_chunks", "_lasting", "_left", "_sink", "head", "reusable", "whole")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.whole: bool = False
        self.reusable: bool = False
        self._lasting: bool = False
        self._buffer: bytes = b""
        # Bytes that were not a body's, since the last one that was.
        self._beside: int = 0
        # Bytes of the body that are still to come; None where its end is marked in another way.
        self._left: int | None = None
        self._chunks: httptools.HttpResponseParser | None = None
        self._sink: _Sink = _Sink()

    def feed(self, data: bytes) -> bytes:
        """Take what has arrived, and return the part of it that is body.

        Raises:
            RemoteProtocolError: It is no HTTP/1.1 reply.
        """
        if self.head is None:
            data = self._feed_head(data)
        if self.whole:
            self.reusable = self.reusable and not data
            return b""
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        return data if self._left is None else self._feed_counted(self._left, data)

    def feed_end(self) -> None:
        """Take the end of the stream.

        Raises:
            RemoteProtocolError: The reply is not whole.
        """
        if self.head is None:
            where = "in the middle of a head" if self._buffer else "without an answer"
            raise RemoteProtocolError(f"the connection was closed {where}")
        if self._chunks is None and self._left is None:
            self.whole = True
        if not self.whole:
            lacking = "the last chunk" if self._left is None else f"{self._left} bytes"
            raise RemoteProtocolError(f"the connection was closed in the middle of a body, before {lacking}")

    # -- the head ----------------------------------------------------------------------------------------

    def _feed_head(self, data: bytes) -> bytes:
        """Read heads until one is final, and return what is behind it."""
        searched = max(len(self._buffer) - len(_END) + 1, 0)
        start = 0
        data = self._buffer + data
        while (found := data.find(_END, searched)) >= 0:
            end = searched = found + len(_END)
            self._read_head(data[start:end])
            if self.head is not None:
                self._buffer = b""
                return data[end:]
            start = end
        self._buffer = data[start:]
        _check_size(self._beside + len(self._buffer))
        if not self._buffer.startswith(_VERSION[: len(self._buffer)]):
            raise _not_http()
        return b""

    def _read_head(self, head: bytes) -> None:
        self._beside += len(head)
        _check_size(self._beside)
        line = _STATUS_LINE.match(head)
        if line is None:
            raise _not_http()
        status = int(line[2])
        if status == 101:
            raise RemoteProtocolError("a change of protocol that nobody asked for")
        sink = _Sink()
        parser = httptools.HttpResponseParser(sink)
        try:
            parser.feed_data(head)
        except _LLHTTP_ERRORS as error:
            raise RemoteProtocolError(f"no HTTP: {error}") from None
        if status >= 200:
            self.head = Head(status, line[3] or b"", line[1], sink.headers)
            self._frame(self.head, parser, sink)

    def _frame(self, head: Head, parser: httptools.HttpResponseParser, sink: _Sink) -> None:
        """Learn where the body ends, and whether another reply may follow it (RFC 9112, 6.3 and 9.3)."""
        fields: dict[bytes, list[bytes]] = {}
        for name, value in head.headers:
            fields.setdefault(name.lower(), []).append(value.strip().lower())
        wishes = b",".join(fields.get(b"connection", ())).split(b",")
        self._lasting = head.version == b"HTTP/1.1" and b"close" not in map(bytes.strip, wishes)
        self._beside = 0
        codings = fields.get(b"transfer-encoding")
        if codings is not None and codings != [b"chunked"]:
            raise RemoteProtocolError("a body in a transfer coding other than chunked")
        if head.status in (204, 304):
            self._end(behind=0)
        elif codings is not None:
            self._chunks, self._sink = parser, sink
        elif b"content-length" in fields:
            # llhttp takes one only, and digits only, and not both this and chunks.
            self._left = int(fields[b"content-length"][0])
            if self._left == 0:
                self._end(behind=0)

    # -- the body ----------------------------------------------------------------------------------------

    def _feed_counted(self, left: int, data: bytes) -> bytes:
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._end(len(data) - left)
        return data[:left]

    def _feed_chunks(self, parser: httptools.HttpResponseParser, data: bytes) -> bytes:
        # llhttp does not tell where a message ended. When it gets the last byte apart, and had the end
        # before, there is something behind it.
        sink = self._sink
        behind = 0
        try:
            parser.feed_data(data[:-1])
            behind = int(sink.done)
            parser.feed_data(data[-1:])
        except _LLHTTP_ERRORS as error:
            if not sink.done:
                raise RemoteProtocolError(f"no chunk: {error}") from None
            behind = 1
        body = b"".join(sink.body)
        sink.body.clear()
        self._beside = 0 if body else self._beside + len(data)
        _check_size(self._beside)
        if sink.done:
            self._end(behind)
        return body

    def _end(self, behind: int) -> None:
        self._left = 0
        self.whole = True
        self.reusable = self._lasting and behind == 0


def _check_size(beside: int) -> None:
    if beside > MAX_EXTRA_BYTES:
        raise RemoteProtocolError(f"more than {MAX_EXTRA_BYTES} bytes beside the body")


def _not_http() -> RemoteProtocolError:
    return RemoteProtocolError("the answer does not begin as HTTP/1.1 does")
