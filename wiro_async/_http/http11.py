"""HTTP/1.1 as a client speaks it: the bytes of a request's head, and the parts of a reply. Pure.

Odd replies are read as h11 reads them where their oddity cannot move a body's end: control characters in a
value, a folded line, a line feed alone between two lines, one length told twice, spaces or an extension
behind a chunk's size. No other reply follows behind such a head. What can move it is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "MAX_EXTRA_BYTES",
    "EndedEarlyError",
    "Head",
    "LocalProtocolError",
    "RemoteProtocolError",
    "ReplyParser",
    "header_lines",
    "parse_head",
    "read_head",
    "request_line",
]

MAX_EXTRA_BYTES = 100 * 1024
"""The most that may come before a body, or between two bytes of it: interim replies, headers, the sizes and
extensions of chunks, trailers. h11's limit is the same."""

_VERSION = b"HTTP/1."
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
_FIELD = re.compile(rb"(?<=\n)([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([\t -~\x80-\xff]*)\r\n")
# The same, as h11 reads them.
_ODD_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: ([^\0\v\f\r\n]*))?\r?")
_ODD_FIELD = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*([^\0\v\f\r\n]*)\r?")
_BLANK_LINE = re.compile(rb"\n(\r?)\n")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]*)?[ \t]*\r\n")
_CHUNK_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:;[\t -~\x80-\xff]*)?[ \t]*\r?)?")
_LINE_FEED_ALONE = re.compile(rb"(?:^|[^\r])\n")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_TARGET = re.compile(rb"[!-~]+")


class LocalProtocolError(Exception):
    """Our own request cannot be sent as HTTP."""


class RemoteProtocolError(Exception):
    """What came is no HTTP/1.1 reply, or not a whole one."""


class EndedEarlyError(RemoteProtocolError):
    """The stream ended before the reply did."""


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
        odd: Whether it holds what HTTP does not allow, and what does no harm.
    """

    __slots__ = ("headers", "odd", "reason", "status", "version")

    def __init__(
        self, status: int, reason: bytes, version: bytes, headers: list[tuple[bytes, bytes]], odd: bool
    ) -> None:
        self.status: int = status
        self.reason: bytes = reason
        self.version: bytes = version
        self.headers: list[tuple[bytes, bytes]] = headers
        self.odd: bool = odd


def read_head(data: bytes, searched: int = 0) -> tuple[bytes, bytes] | None:
    """Cut *data* behind the head that it begins with (None: its end has not come yet).

    Args:
        data: What has come.
        searched: So many bytes of it were searched before.

    Raises:
        RemoteProtocolError: A line feed alone ends the head: others would read on.
    """
    end = _BLANK_LINE.search(data, max(searched - 2, 0))
    if end is None:
        return None
    if not end[1]:
        raise RemoteProtocolError(
            "the blank line behind the headers is a line feed alone: it is not certain where the body begins"
        )
    return data[: end.end()], data[end.end() :]


def parse_head(head: bytes) -> Head:
    """Return what a head says, its blank line included.

    Raises:
        RemoteProtocolError: It is no HTTP/1.1, or is odd where that could move the body's end.
    """
    line = _STATUS_LINE.match(head)
    headers = _FIELD.findall(head)
    # Each header is a line of its own, so they are all of it if they are as many as its lines.
    odd = line is None or len(headers) != head.count(b"\n") - 2
    if odd:
        line, headers = _odd_lines(head.split(b"\n")[:-2])
    assert line is not None
    return Head(int(line[2]), line[3] or b"", line[1], headers, odd)


def _odd_lines(lines: list[bytes]) -> tuple[re.Match[bytes], list[tuple[bytes, bytes]]]:
    """Read status line and headers as h11 does, as long as none that frames the body is odd."""
    first = _ODD_STATUS_LINE.fullmatch(lines[0])
    if first is None:
        raise _not_http()
    headers: list[tuple[bytes, bytes]] = []
    before = lines[0]
    for line in lines[1:]:
        text = line
        if text[:1] in (b" ", b"\t") and headers and headers[-1][0].lower() not in _FRAMING:
            # A folded line goes on with the value above it.
            name, value = headers.pop()
            text = b"%b: %b %b" % (name, value, text.strip(b" \t"))
        field = _ODD_FIELD.fullmatch(text)
        if field is None:
            raise RemoteProtocolError(f"{text[:80]!r} is no line of a header")
        name = field[1]
        if name.lower() in _FRAMING and not (before.endswith(b"\r") and line.endswith(b"\r")):
            raise RemoteProtocolError(f"{name!r} stands beside a line feed alone: others would not read it")
        headers.append((name, field[2]))
        before = line
    return first, headers


class ReplyParser:
    """Reads one reply, as its bytes come.

    Attributes:
        head: The head, once it is known. Interim replies (1xx) are left out.
        whole: Whether the reply has come to its end.
        reusable: Whether another reply may follow on the connection: this one is whole, there is no byte
            behind it, nothing in it was odd, and neither version nor headers say that it is the last.
    """

    __slots__ = ("_beside", "_buffer", "_chunk", "_lasting", "_left", "head", "reusable", "whole")

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
        # Bytes that are still to come of a chunk, its line break included; None where there are no chunks.
        self._chunk: int | None = None

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
        if self._chunk is not None:
            return self._feed_chunks(self._chunk, data)
        return data if self._left is None else self._feed_counted(self._left, data)

    def feed_end(self) -> None:
        """Take the end of the stream.

        Raises:
            EndedEarlyError: The reply is not whole.
        """
        if self.head is None:
            where = "in the middle of a head" if self._buffer else "without an answer"
            raise EndedEarlyError(f"the connection was closed {where}")
        if self._chunk is None and self._left is None:
            self.whole = True
        if not self.whole:
            lacking = "the last chunk" if self._left is None else f"{self._left} bytes"
            raise EndedEarlyError(f"the connection was closed in the middle of a body, before {lacking}")

    # -- the head ----------------------------------------------------------------------------------------

    def _feed_head(self, data: bytes) -> bytes:
        """Read heads until one is final, and return what is behind it."""
        searched = len(self._buffer)
        data = self._buffer + data
        while (cut := read_head(data, searched)) is not None:
            head, data = cut
            searched = 0
            self._beside += len(head)
            _check_size(self._beside)
            self._take_head(parse_head(head))
            if self.head is not None:
                self._buffer = b""
                return data
        self._buffer = data
        _check_size(self._beside + len(data))
        if not data.startswith(_VERSION[: len(data)]):
            raise _not_http()
        return b""

    def _take_head(self, head: Head) -> None:
        """Learn where the body ends, and whether another reply may follow it (RFC 9112, 6.3 and 9.3)."""
        if head.status == 101:
            raise RemoteProtocolError("a change of protocol that nobody asked for")
        if head.status < 200:
            return
        self.head = head
        self._beside = 0
        fields: dict[bytes, list[bytes]] = {}
        for name, value in head.headers:
            fields.setdefault(name.lower(), []).append(value.strip(b" \t").lower())
        wishes = b",".join(fields.get(b"connection", ())).split(b",")
        lengths = [each.strip(b" \t") for each in b",".join(fields.get(b"content-length", ())).split(b",")]
        told_once = len(lengths) == 1
        self._lasting = (
            head.version == b"HTTP/1.1"
            and b"close" not in map(bytes.strip, wishes)
            and told_once
            and not head.odd
        )
        codings = fields.get(b"transfer-encoding")
        if codings is not None and codings != [b"chunked"]:
            raise RemoteProtocolError("a body in a transfer coding other than chunked")
        has_length = b"content-length" in fields
        if has_length and (len(set(lengths)) > 1 or not _LENGTH.fullmatch(lengths[0])):
            raise RemoteProtocolError(f"a body of the length {b', '.join(lengths)[:60]!r}")
        if has_length and codings is not None:
            raise RemoteProtocolError("a body with a length, and in chunks")
        if head.status in (204, 304):
            self._end(behind=0)
        elif codings is not None:
            self._chunk = 0
        elif has_length:
            self._left = int(lengths[0])
            if self._left == 0:
                self._end(behind=0)

    # -- the body ----------------------------------------------------------------------------------------

    def _feed_counted(self, left: int, data: bytes) -> bytes:
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._end(len(data) - left)
        return data[:left]

    def _feed_chunks(self, left: int, data: bytes) -> bytes:
        """Read chunks; *left* bytes of the present one are still to come, and the last two are no body."""
        came = len(data)
        data = self._buffer + data
        at = 0
        body: list[bytes] = []
        while True:
            if left > 2:
                piece = data[at : at + left - 2]
                body.append(piece)
                at += len(piece)
                left -= len(piece)
            if 0 < left <= 2:
                rest = data[at : at + left]
                if rest != b"\r\n"[2 - left :][: len(rest)]:
                    raise RemoteProtocolError("no line break behind a chunk")
                at += len(rest)
                left -= len(rest)
            if left:
                break
            line = _CHUNK.match(data, at)
            if line is None:
                if not _CHUNK_BEGUN.fullmatch(data, at):
                    raise RemoteProtocolError(f"{data[at : at + 40]!r} is no chunk")
                break
            size = int(line[1], 16)
            if size == 0:
                # The last one. Its line is read again as long as trailers are still to come.
                if self._feed_trailers(data[line.end() :]):
                    at = len(data)
                break
            at = line.end()
            end = at + size
            if data[end : end + 2] == b"\r\n":
                body.append(data[at:end])
                at = end + 2
            else:
                left = size + 2
        self._chunk = left
        self._buffer = data[at:]
        self._beside = 0 if body else self._beside + came
        _check_size(self._beside)
        return b"".join(body)

    def _feed_trailers(self, data: bytes) -> bool:
        """Read what follows the last chunk, which nobody needs; False if more is to come."""
        if data.startswith(b"\r\n"):
            self._end(len(data) - 2)
            return True
        lines, end, behind = data.partition(b"\r\n\r\n")
        if not end:
            if _LINE_FEED_ALONE.search(data):
                raise RemoteProtocolError("a line feed alone behind the last chunk")
            return False
        for line in lines.split(b"\r\n"):
            field = _ODD_FIELD.fullmatch(line)
            if field is None or field[1].lower() in _FRAMING:
                raise RemoteProtocolError(f"{line[:80]!r} is no trailer")
        self._end(len(behind))
        return True

    def _end(self, behind: int) -> None:
        self._left = 0
        self.whole = True
        self.reusable = self._lasting and behind == 0


def _check_size(beside: int) -> None:
    if beside > MAX_EXTRA_BYTES:
        raise RemoteProtocolError(f"more than {MAX_EXTRA_BYTES} bytes beside the body")


def _not_http() -> RemoteProtocolError:
    return RemoteProtocolError("the answer does not begin as HTTP/1.1 does")
