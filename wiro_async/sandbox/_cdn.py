"""Public files, served as a CDN does it: by URL, without credentials, in ranges."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from email.utils import formatdate
from urllib.parse import quote, unquote

import attrs
from starlette.types import Receive, Scope, Send

__all__ = ["Cdn", "File", "Store", "file_path"]

_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@attrs.frozen
class File:
    """A stored file and its validators."""

    data: bytes = attrs.field(repr=False)
    contenttype: str
    etag: str
    modified: str


def file_path(folder: str, name: str) -> str:
    """The address of a file below the CDN's root."""
    return f"{folder}/{quote(name, safe='')}"


class Store:
    """Files by path. When they take too much room together, the oldest expire, as the service's outputs do.

    Args:
        limit: Bytes that all files may take.
    """

    def __init__(self, limit: int) -> None:
        self._limit: int = limit
        self._size: int = 0
        self._serial: int = 0
        self._files: dict[str, File] = {}

    def put(self, path: str, data: bytes, contenttype: str, now: float) -> None:
        """Keep a file."""
        self.remove(path)
        self._serial += 1
        etag = f'"{self._serial:x}-{len(data):x}"'  # no digest: 100 MB of it would hold the loop up
        self._files[path] = File(data, contenttype, etag, formatdate(now, usegmt=True))
        self._size += len(data)
        while self._size > self._limit and len(self._files) > 1:
            self.remove(next(iter(self._files)))

    def get(self, path: str) -> File | None:
        """The file at this path."""
        return self._files.get(path)

    def remove(self, path: str) -> None:
        """Forget the file at this path, if there is one."""
        file = self._files.pop(path, None)
        if file is not None:
            self._size -= len(file.data)


class Cdn:
    """The ASGI application over a store.

    Args:
        find: Gives the file for a path below ``/cdn/``.
        count: Called for each request, with whether it carried credentials.
        encoding: The Content-Encoding of whole files ("": none).
        length: Whether whole files have a Content-Length.
    """

    def __init__(
        self,
        find: Callable[[str], File | None],
        count: Callable[[bool], None],
        *,
        encoding: str = "",
        length: bool = True,
    ) -> None:
        self._encoding: str = encoding
        self._length: bool = length
        self._find: Callable[[str], File | None] = find
        self._count: Callable[[bool], None] = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one GET or HEAD."""
        del receive  # neither has a body
        headers = dict(scope["headers"])
        self._count(b"x-api-key" in headers or b"x-signature" in headers)
        path = scope["raw_path"].decode("latin-1").removeprefix("/cdn/")
        file = self._find(path) or self._find(
            "/".join(quote(unquote(part), safe="") for part in path.split("/"))
        )
        if scope["method"] not in {"GET", "HEAD"}:
            await _send(send, 405, [(b"allow", b"GET, HEAD")], b"")
        elif file is None:
            await _send(send, 404, [(b"content-type", b"text/plain")], b"Not Found")
        elif self._encoding or not self._length:
            await self._serve_oddly(file, send, head=scope["method"] == "HEAD")
        else:
            await _serve(file, headers, send, head=scope["method"] == "HEAD")

    async def _serve_oddly(self, file: File, send: Send, *, head: bool) -> None:
        """Serve the whole of a file, as an uploader stored it."""
        headers = [(b"content-type", file.contenttype.encode("latin-1", "replace"))]
        data = file.data
        if self._encoding:
            headers.append((b"content-encoding", self._encoding.encode()))
        if self._encoding in {"gzip", "deflate"}:
            data = gzip.compress(data) if self._encoding == "gzip" else zlib.compress(data)
        await _send(send, 200, headers, b"" if head else data, length=len(data) if self._length else None)


async def _serve(file: File, headers: Mapping[bytes, bytes], send: Send, *, head: bool) -> None:
    common = [
        (b"etag", file.etag.encode()),
        (b"last-modified", file.modified.encode()),
        (b"accept-ranges", b"bytes"),
        (b"content-type", file.contenttype.encode("latin-1", "replace")),
    ]
    if headers.get(b"if-none-match", b"").decode("latin-1") == file.etag:
        await _send(send, 304, common[:3], b"", length=None)
        return
    size = len(file.data)
    span = _span(file, headers)
    if span is None:
        await _send(send, 200, common, b"" if head else file.data, length=size)
    elif not span:
        await _send(send, 416, [(b"content-range", b"bytes */%d" % size)], b"")
    else:
        common.append((b"content-range", b"bytes %d-%d/%d" % (span.start, span.stop - 1, size)))
        body = b"" if head else file.data[span.start : span.stop]
        await _send(send, 206, common, body, length=len(span))


def _span(file: File, headers: Mapping[bytes, bytes]) -> range | None:
    """The bytes that were asked for: None for all of them, an empty range for none that exist.

    Several ranges in one request may be answered with the whole file (RFC 9110, 14.2), and are.
    """
    match = _RANGE.fullmatch(headers.get(b"range", b"").decode("latin-1").strip())
    condition = headers.get(b"if-range", b"").decode("latin-1")
    if match is None or match.groups() == ("", "") or condition not in {"", file.etag, file.modified}:
        return None
    size = len(file.data)
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, length: int | None = -1
) -> None:
    if length is not None:
        headers = [*headers, (b"content-length", b"%d" % (len(body) if length < 0 else length))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for start in range(0, len(body), _CHUNK):
        await send({"type": "http.response.body", "body": body[start : start + _CHUNK], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
