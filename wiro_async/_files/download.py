"""Downloads: whole or not at all, resumed after a break, without credentials, and never outside the folder.

What the service says of an output (its name, its address, its size) is hostile until it is checked.

There are three loops, one in the other. A request follows redirects. A download goes on where a break left
it. And a file that the CDN does not have (yet), or whose address has expired, is waited for and looked up
again.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import re
import stat
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn, Protocol, TypeAlias

import anyio
import anyio.lowlevel
import attrs
import httpx

from wiro_async._aio import Gate, run_in_thread
from wiro_async._config import Config, check, check_path, seconds_of, whole
from wiro_async._errors import DownloadError, InvalidInput, TaskNotFound, WiroError
from wiro_async._files.naming import HEAD, KINDS, extension_by, folder_names, is_page, retyped, safe_name
from wiro_async._http.messages import Content
from wiro_async._http.retry import DOWNLOADS, is_transient
from wiro_async._http.transport import USER_AGENT, Transport
from wiro_async._protocol.operations import DETAIL
from wiro_async._protocol.records import Output, TaskKey, read_task
from wiro_async._types import Priority

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no fcntl, and this machine is not one
    fcntl = None  # type: ignore[assignment]

__all__ = ["Downloader", "Refresh", "Stored", "current", "has_magic"]

logger = logging.getLogger("wiro_async")

Refresh: TypeAlias = Callable[[Output], Awaitable[Output]]
"""Looks an output up again: its address may have changed since."""

Places: TypeAlias = Callable[[str], Sequence[Path]]
"""Where a file may go, by the extension that it should have ("": the one that is expected): to the first path
that is free, or has the same content already; else to the last one, whatever is there."""

MISSING = frozenset({403, 404})
"""HTTP statuses of a file that the CDN may not have yet, or whose address has expired. 410 is final."""

LAGS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds to wait before a file that was missing is asked for again: the CDN gets half a minute."""

STALL_SECONDS = 30.0
MAX_REDIRECTS = 3
CLOSE_SECONDS = 1.0
_FLUSH = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})
_PIECE = 1024 * 1024
_NO_ENCODING = frozenset({"", "identity", "aws-chunked", "utf-8"})
"""Content encodings that change no byte; object stores keep what an uploader called it."""

_UNLINKABLE = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems answer that have no hard links."""


class _BreakError(Exception):
    """A download broke off in a way that may pass.

    Attributes:
        status: The HTTP status, where that was the reason.
        stale: Whether what was received so far is no part of what the server has now.
    """

    def __init__(self, problem: str, status: int | None = None, *, stale: bool = False) -> None:
        super().__init__(problem)
        self.status: int | None = status
        self.stale: bool = stale


class _Sink(Protocol):
    """Where a download's bytes go."""

    @property
    def size(self) -> int: ...

    async def write(self, data: bytes) -> None: ...

    async def restart(self) -> None: ...


@attrs.define(eq=False)
class _Progress:
    """What is known of a download between its attempts.

    Attributes:
        output: The output, as the service described it last.
        path: The file to write (None: it is read into memory).
        total: The file's length: as the server tells it, else as the record does (None: nobody has told).
        is_whole: Whether it is certain that all of the file came.
        odd: A length that the server told, and that is not the record's: believed when it is told again.
        validator: What an If-Range may hold ("": nothing).
        missing: The HTTP status of a file that the CDN did not have when it was last asked for it.
    """

    output: Output
    path: str | None
    total: int | None = attrs.field(default=attrs.Factory(lambda self: self.output.size, takes_self=True))
    is_whole: bool = False
    odd: int | None = None
    validator: str = ""
    missing: int | None = None

    def late(self, seconds: float, size: int) -> DownloadError:
        problem = f"not whole after {seconds:g} s ({size} of {self.total or '?'} bytes)"
        if self.missing is not None:
            problem = f"{problem}; the server answered {_refused(self.missing)}"
        return self.error(problem, self.missing)

    def error(self, problem: str, status: int | None = None) -> DownloadError:
        shown = self.output.name[:60] or self.output.url[:60]
        return DownloadError(
            f"output {shown!r} of task {self.output.task_id or '?'}: {problem}",
            url=self.output.url,
            path=self.path,
            http_status=status,
        )

    def leaves_the_folder(self) -> DownloadError:
        return self.error(
            f"its name {self.output.name[:80]!r} would leave the folder; save it to a path of your own"
        )


@attrs.frozen
class Stored:
    """A file that was saved.

    Attributes:
        path: Where.
        is_whole: Whether it is certain that all of it came, and that it is what it claims to be.
    """

    path: Path
    is_whole: bool


class Downloader:
    """Reads outputs over connections that have never seen a credential.

    Args:
        config: The client's settings.
        http: What sends the requests.
        refresh: Looks an output up again (None: its address is taken to be the only one).
    """

    def __init__(
        self, config: Config, http: httpx.AsyncBaseTransport, refresh: Refresh | None = None
    ) -> None:
        self._http = http
        self._refresh = refresh
        self._hosts = config.download_hosts
        self._config = config
        self._timeout = config.limits.download_timeout
        self._most = config.limits.max_download
        self._gate = Gate(config.limits.max_downloads)

    async def save(self, output: Output, target: str | PathLike[str], timeout: float | None) -> Path:
        """Store *output* as *target*, or in it if that is a folder; see ``Output.save``."""
        return (await self.store(output, target, timeout)).path

    async def store(
        self,
        output: Output,
        target: str | PathLike[str],
        timeout: float | None = None,
        places: Places | None = None,
    ) -> Stored:
        """Store *output* as *target*, or in it if that is a folder, and say how certain that is.

        Args:
            output: What to store.
            target: A path, or a folder, where the file is named by the service and its content.
            timeout: As for ``Output.save``.
            places: Where it goes instead, once its first bytes are known (None: to the target).
        """
        seconds = seconds_of("timeout", timeout, self._timeout)
        progress = _Progress(output, check_path("path_or_folder", target))
        self._check_url(output.url, progress)
        path = Path(target)
        file: _PartFile | None = None
        try:
            with anyio.move_on_after(seconds) as scope:
                path = await run_in_thread(_target, target, progress)
                progress.path = str(path)
                file = _PartFile(path, progress)
                await run_in_thread(file.open)
                await self._fetch(progress, file)
            if file is None or scope.cancelled_caught:
                raise progress.late(seconds, 0 if file is None else file.size)
            head = await run_in_thread(file.head, at_once=True)
            is_right = has_magic(output.content_type, head)
            extension = "" if is_right else await self._true_extension(progress, file, head)
            if places is not None:
                candidates = places(extension)
            elif extension and path != Path(target):
                candidates = [path.with_suffix(extension)]
            else:
                candidates = [path]
            final = await run_in_thread(file.finish, candidates, at_once=True)
        finally:
            if file is not None:  # pragma: no branch - where there is no error, there is a file
                await run_in_thread(file.close, at_once=True)
        return Stored(final, is_right and progress.is_whole)

    async def _true_extension(self, progress: _Progress, file: _PartFile, head: bytes) -> str:
        """Return the extension of a file that is not what it claims to be ("": its kind is not known).

        Raises:
            DownloadError: It is a web page.
        """
        claimed = progress.output.content_type
        if is_page(head):
            await file.restart()
            raise progress.error(f"it claims to be {claimed}, but is a web page; nothing was kept")
        logger.warning(
            "output %r of task %s claims to be %s, but begins with %r; it is kept as what it is",
            progress.output.name[:60],
            progress.output.task_id,
            claimed,
            head[:8],
        )
        extension = extension_by(head)
        return "" if extension == ".bin" else extension

    async def save_all(
        self, outputs: Sequence[Output], folder: str | PathLike[str], timeout: float | None
    ) -> list[Path]:
        """Store every one of *outputs* in *folder*, under a name of its own; see ``TaskResult.save``."""
        check_path("folder", folder)
        until = anyio.current_time() + seconds_of("timeout", timeout, math.inf)
        names: list[str] = []
        for output, name in zip(outputs, folder_names(outputs), strict=True):
            if name is None:
                raise _Progress(output, os.fspath(folder)).leaves_the_folder()
            names.append(name)
        paths: list[Path] = []
        taken = set(names)
        for output, name in zip(outputs, names, strict=True):

            def places(extension: str, index: int = output.index, name: str = name) -> list[Path]:
                true = retyped(name, extension, index, taken) if extension else name
                return [Path(folder, true)]

            left = None if timeout is None else max(until - anyio.current_time(), 0.0)
            stored = await self.store(output, Path(folder, name), left, places)
            paths.append(stored.path)
        return paths

    async def read(self, output: Output, timeout: float | None, max_bytes: int) -> bytes:
        """Return the bytes of *output*; see ``Output.read``."""
        seconds = seconds_of("timeout", timeout, self._timeout)
        check("max_bytes", max_bytes, whole(0))
        progress = _Progress(output, None)
        self._check_url(output.url, progress)
        memory = _Memory(max_bytes, progress)
        with anyio.move_on_after(seconds):
            await self._fetch(progress, memory)
            return bytes(memory.data)
        raise progress.late(seconds, memory.size)

    async def aclose(self) -> None:
        """Close the connections."""
        with anyio.CancelScope(shield=True):
            await self._http.aclose()

    async def _fetch(self, progress: _Progress, sink: _Sink) -> None:
        """Fetch, and wait for a file that the CDN does not have yet."""
        lags = iter(LAGS)
        while True:
            await self._gate.enter(Priority.READ)
            try:
                await self._until_whole(progress, sink)
                return
            except DownloadError as error:
                lag = next(lags, None) if error.http_status in MISSING else None
                if lag is None:
                    raise
                progress.missing = error.http_status
            finally:
                # Others may fetch while this one waits.
                self._gate.leave()
            logger.debug(
                "download of task %s: HTTP %s; again in %g s", progress.output.task_id, progress.missing, lag
            )
            await anyio.sleep(lag)
            await self._look_up(progress, sink)
            progress.missing = None

    async def _look_up(self, progress: _Progress, sink: _Sink) -> None:
        """Take over the output's present address, if it can be learned."""
        if self._refresh is None or not progress.output.task_id:
            return
        try:
            output = await self._refresh(progress.output)
        except WiroError as error:
            # A service that lags may not find the task either, so even that is no reason to give up the file.
            if not is_transient(error) and not isinstance(error, TaskNotFound):
                raise
            return
        if output.size != progress.output.size:
            # What came so far was measured by another size, so it may be part of another file.
            await sink.restart()
            progress.total = output.size
        progress.output = output

    async def _until_whole(self, progress: _Progress, sink: _Sink) -> None:
        """Fetch, and go on where it broke, until every byte is there."""
        breaks = restarts = 0
        furthest = sink.size
        while True:
            try:
                await self._attempt(progress, sink)
                return
            except _BreakError as error:
                # Only breaks in a row count, without a byte between them. A file that starts again from its
                # beginning brings bytes too, so restarts count for good.
                breaks = 1 if sink.size > furthest else breaks + 1
                furthest = max(furthest, sink.size)
                delay = DOWNLOADS.delay(breaks + restarts, 1.0)
                if delay is None:
                    raise progress.error(
                        f"given up after {breaks + restarts} breaks: {error}", error.status
                    ) from None
                logger.debug("download of task %s: %s; resuming", progress.output.task_id, error)
                if error.stale:
                    restarts += 1
                    furthest = 0
                    await sink.restart()
            await anyio.sleep(delay)

    async def _attempt(self, progress: _Progress, sink: _Sink) -> None:
        url = self._check_url(progress.output.url, progress)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._get(url, progress, sink.size)
            chunks = _Chunks(response)
            try:
                if response.status_code not in _REDIRECTS:
                    await self._receive(response, chunks, progress, sink)
                    return
                url = self._check_url(response.headers.get("location", ""), progress, url)
            finally:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await chunks.aclose()
                    await response.aclose()
        raise progress.error(f"more than {MAX_REDIRECTS} redirects")

    async def _get(self, url: httpx.URL, progress: _Progress, offset: int) -> httpx.Response:
        # Some CDNs answer a Range with the whole file when an encoding is accepted, so none is.
        headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if progress.validator:
                headers["If-Range"] = progress.validator
        request = httpx.Request("GET", url, headers=headers, stream=Content())
        try:
            with anyio.move_on_after(STALL_SECONDS):
                return await self._http.handle_async_request(request)
        except httpx.TransportError as error:
            raise _BreakError(f"{type(error).__name__}: {error}") from None
        raise _BreakError(f"no answer within {STALL_SECONDS:g} s")

    async def _receive(
        self, response: httpx.Response, chunks: _Chunks, progress: _Progress, sink: _Sink
    ) -> None:
        """Check what an answer promises, take its body, and check that the promise was kept.

        The server knows how long its file is; the service's record may be wrong, or say nothing.
        """
        start = _judge(response, progress, sink.size)
        decoder = _decoder(response, progress)
        length = _promised(response)
        if decoder is not None:
            if start:
                raise _BreakError("a compressed file cannot be resumed in its middle", stale=True)
            await self._decode(chunks, decoder, progress, sink)
            _conclude(progress, sink.size, length, is_certain=True)
            return
        if start and None not in (length, progress.total) and length != progress.total:
            raise _BreakError("the file has another length than before", stale=True)
        told = progress.output.size
        if None not in (told, length) and length != told and (length == 0 or length != progress.odd):
            # Perhaps it is not there in full yet.
            progress.odd = length
            raise _BreakError(
                f"it should have {told} bytes, the server offers {length}", response.status_code
            )
        if length is not None:
            progress.total = length
        progress.validator = _validator(response)
        if start != sink.size:
            await sink.restart()
        await self._drain(chunks, progress, sink, length)
        is_certain = length is not None or _is_framed(response)
        if not is_certain and progress.total is not None and sink.size < progress.total:
            raise _BreakError(f"the connection ended after {sink.size} of {progress.total} bytes")
        _conclude(progress, sink.size, length, is_certain=is_certain)

    async def _drain(self, chunks: _Chunks, progress: _Progress, sink: _Sink, length: int | None) -> None:
        """Take a body as it is; *length* is what the server told of it."""
        most = max(progress.total or 0, self._most) if length is None else length
        while (chunk := await chunks.next(is_all=sink.size == progress.total)) is not None:
            if sink.size + len(chunk) > most:
                if length is not None:
                    raise progress.error(f"it should have {length} bytes, the server sends more")
                await self._refuse_more(progress, sink, most)
            await sink.write(chunk)
        if length is not None and sink.size < length:
            raise _BreakError(f"the connection ended after {sink.size} of {length} bytes")

    async def _decode(self, chunks: _Chunks, decoder: _Decoder, progress: _Progress, sink: _Sink) -> None:
        """Take a compressed body, piece by piece."""
        await sink.restart()
        progress.total = None
        try:
            while (chunk := await chunks.next()) is not None:
                for piece in decoder.pieces(chunk):
                    if sink.size + len(piece) > self._most:
                        await self._refuse_more(progress, sink, self._most)
                    await sink.write(piece)
                    await anyio.lowlevel.checkpoint()
        except zlib.error as error:
            raise _BreakError(f"the server's {decoder.kind} is damaged: {error}", stale=True) from None
        except _BreakError as error:
            raise _BreakError(str(error), error.status, stale=True) from None
        if not decoder.is_at_end:
            raise _BreakError(f"the server's {decoder.kind} was cut short", stale=True)

    async def _refuse_more(self, progress: _Progress, sink: _Sink, most: int) -> NoReturn:
        # What is of no use is not left on the disk.
        await sink.restart()
        raise progress.error(
            f"nobody told how long it is, and it has more than {most} bytes; allow more with "
            f"Limits(max_download=...)"
        )

    def _check_url(self, url: str, progress: _Progress, base: httpx.URL | None = None) -> httpx.URL:
        """Refuse every address that is not a known host's over TLS, or the sandbox's."""
        if not url:
            raise progress.error(
                "it has no file; language models answer in `content`"
                if base is None
                else "the server sent a redirect without an address"
            )
        try:
            parsed = httpx.URL(url) if base is None else base.join(url)
            hosts = {parsed.host, parsed.raw_host.decode("ascii")}
        except (httpx.InvalidURL, ValueError, TypeError):
            raise progress.error(f"its address {url[:80]!r} is no URL") from None
        if parsed.userinfo:
            raise progress.error("its address holds a user name, which no output has")
        local = self._config.is_local and self._config.may_be_plain(parsed.host)
        known = parsed.scheme == "https" and not hosts.isdisjoint(self._hosts) and parsed.port is None
        if parsed.scheme not in ("http", "https") or not (local or known):
            raise progress.error(
                f"its address is {parsed.scheme}://{parsed.netloc.decode('ascii', 'replace')[:80]}, not "
                f"one of the service's hosts; name it in Client(download_hosts=...) if you trust it"
            )
        return parsed


async def current(transport: Transport, output: Output) -> Output:
    """Return *output* as its task has it now; bound to a client's transport, this is a ``Refresh``.

    Raises:
        WiroError: The task could not be looked up.
    """
    key = TaskKey(output.task_id)
    task = read_task(DETAIL, await transport.call(DETAIL, key.payload("tasktoken")), key)
    return next((known for known in task.outputs if known.index == output.index and known.url), output)


class _Chunks:
    """The body of an answer, as it arrives."""

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._chunks = response.stream.__aiter__()

    async def next(self, *, is_all: bool = False) -> bytes | None:
        """Return the next bytes (None: that was all).

        Args:
            is_all: Whether every byte is there, so that only the end of the framing can be cut off.

        Raises:
            _BreakError: The connection broke, or nothing came.
        """
        problem = f"no byte for {STALL_SECONDS:g} s"
        try:
            with anyio.move_on_after(STALL_SECONDS):
                return await anext(self._chunks, None)
        except httpx.TransportError as error:
            problem = f"{type(error).__name__}: {error}"
        if is_all:
            return None
        raise _BreakError(problem)

    async def aclose(self) -> None:
        """Close a generator that was left before its end: nobody else has it."""
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()


class _Decoder:
    """Decompresses gzip or deflate, a megabyte at a time.

    Args:
        kind: Which, as in Content-Encoding.
    """

    def __init__(self, kind: str) -> None:
        self.kind: str = kind
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._head: bytes = b""
        self._is_first: bool = True

    @property
    def is_at_end(self) -> bool:
        """Whether the compressed data said that it ends, and its sum was right."""
        return self._zlib.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what some bytes decompress to.

        Raises:
            zlib.error: They are no such data.
        """
        if self._is_first:
            # Some servers send deflate without zlib's header; two bytes tell.
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            self._is_first = False
            if data[:2] != b"\x1f\x8b" and (data[0] & 15 != 8 or int.from_bytes(data[:2], "big") % 31):
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        piece = b""
        # A full piece may have more behind it, even where all bytes were taken.
        while data or len(piece) == _PIECE:
            if self._zlib.eof:
                # Several files compressed one after the other are one; what else follows is padding.
                if not data.startswith(b"\x1f\x8b"):
                    return
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)
            piece = self._zlib.decompress(data, _PIECE)
            data = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            if piece:
                yield piece


def _decoder(response: httpx.Response, progress: _Progress) -> _Decoder | None:
    """Return what undoes the answer's compression (None: it has none).

    Raises:
        DownloadError: It has one that was not asked for, and that is not known here.
    """
    said = response.headers.get("content-encoding", "").lower().split(",")
    kinds = [kind for kind in map(str.strip, said) if kind not in _NO_ENCODING]
    if not kinds:
        return None
    if len(kinds) > 1 or kinds[0].removeprefix("x-") not in ("gzip", "deflate"):
        raise progress.error(
            f"the server sent an encoding that was not asked for: {', '.join(kinds)[:60]!r}",
            response.status_code,
        )
    return _Decoder(kinds[0])


def _is_framed(response: httpx.Response) -> bool:
    """Return whether the end of the body is told by other means than the connection's end."""
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        return True
    return str(response.extensions.get("http_version", b"")).find("HTTP/2") >= 0


def _conclude(progress: _Progress, size: int, length: int | None, *, is_certain: bool) -> None:
    """Note whether it is certain that all of a file came, and warn if the service's record says otherwise.

    Args:
        progress: The download.
        size: The bytes that came.
        length: The bytes that the server told.
        is_certain: Whether the answer told where its body ends; the end of a connection may be a break.
    """
    told, task = progress.output.size, progress.output.task_id
    # Of a compressed file the record may have either length.
    if told is not None and told in (size, length):
        progress.is_whole = True
    elif told is not None:
        progress.is_whole = False
        logger.warning(
            "download of task %s: its record says %d bytes, the server sent %d; the file is kept as it came",
            task,
            told,
            size,
        )
    else:
        progress.is_whole = is_certain
        if not is_certain:
            logger.warning("download of task %s: no size was told, so none was checked", task)


def has_magic(content_type: str, head: bytes) -> bool:
    """Return whether a file that begins with *head* can have that type; types without a magic always can."""
    media_type = content_type.partition(";")[0].strip().lower()
    for kind in KINDS:
        if media_type in kind.media_types:
            return head[kind.offset :].startswith(kind.marks)
    return True


def _judge(response: httpx.Response, progress: _Progress, offset: int) -> int:
    """Return the place in the file at which the answer's body begins.

    Raises:
        DownloadError: The answer is no file, and asking again would not make it one.
        _BreakError: The answer may be better next time.
    """
    status = response.status_code
    if status in _TRANSIENT or status >= 500:
        raise _BreakError(f"HTTP {status}", status)
    if status == 416 and offset:
        problem = f"the server has less than the {offset} bytes that were already received"
        raise _BreakError(problem, status, stale=True)
    if status not in (200, 206):
        raise progress.error(_refused(status), status)
    # What is known of the kind of file: its media type, or else its name's ending.
    expected = progress.output.content_type or PurePosixPath(progress.output.name).suffix
    is_page = response.headers.get("content-type", "").lower().startswith("text/html")
    if is_page and expected and "htm" not in expected.lower():
        raise progress.error(f"the server sent a web page instead of {expected}", status)
    return 0 if status == 200 else _resumed(response, progress, offset)


def _refused(status: int) -> str:
    """Return what an error says about an HTTP status that is not a success."""
    return f"HTTP {status}" + ("; outputs are kept for a limited time" if status in (403, 404, 410) else "")


def _resumed(response: httpx.Response, progress: _Progress, offset: int) -> int:
    """Return *offset* if the answer's body goes on from there, with the same file as before."""
    where = re.fullmatch(
        r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", response.headers.get("content-range", "")
    )
    changed = progress.validator and _validator(response) not in ("", progress.validator)
    if where is not None and int(where.group(1)) == offset and not changed:
        return offset
    if offset:
        raise _BreakError("the server went on with another part or another file", 206, stale=True)
    raise progress.error("the server sent another part of the file than was asked for", 206)


def _promised(response: httpx.Response) -> int | None:
    """Return the length of the whole file, as far as the answer tells."""
    if response.status_code == 206:
        match = re.search(r"/(\d{1,18})$", response.headers.get("content-range", ""))
    else:
        match = re.fullmatch(r"(\d{1,18})", response.headers.get("content-length", ""))
    return None if match is None else int(match.group(1))


def _validator(response: httpx.Response) -> str:
    """Return what an If-Range may hold: a strong ETag, or else the date."""
    etag = response.headers.get("etag", "")
    validator: str = etag if etag.startswith('"') else response.headers.get("last-modified", "")
    return validator


# -- where the bytes go ----------------------------------------------------------------------------------


def _target(target: str | PathLike[str], progress: _Progress) -> Path:
    """Return the path to write: *target* itself, or a checked name in it if it is a folder."""
    text = os.fspath(target)
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        name = safe_name(progress.output)
        if name is None:
            raise progress.leaves_the_folder()
        path /= name
    _make_folder(path.parent)
    return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInput(
            f"{str(folder)!r} cannot be a folder: it is a file, or lies below one; save to another path",
            name="folder",
        ) from None


class _Memory:
    """Bytes in memory, up to a limit."""

    def __init__(self, max_bytes: int, progress: _Progress) -> None:
        self.data: bytearray = bytearray()
        self._max = max_bytes
        self._progress = progress

    @property
    def size(self) -> int:
        return len(self.data)

    async def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > self._max:
            raise self._progress.error(f"it is larger than max_bytes={self._max}; save() it to a file")
        self.data += data

    async def restart(self) -> None:
        self.data.clear()


class _PartFile:
    """The ``.part`` file beside the target, and its way to become the target.

    Its name holds a digest of the output: a part that an earlier process left of the same output is resumed,
    and a part of another one is not. What changes between two looks at one output is not in it, or the part
    would stay for ever: the query of its address, which expires, and its size, which may be told later.
    """

    def __init__(self, path: Path, progress: _Progress) -> None:
        output = progress.output
        known = f"{output.task_id}\0{output.index}\0{output.name}"
        identity = known if output.task_id else re.split(r"[?#]", output.url)[0]
        digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:8]
        name = os.fsdecode(os.fsencode(path.name)[:200])
        self._path = path
        self._part = path.with_name(f"{name}.{digest}.part")
        self._progress = progress
        self._file: BinaryIO | None = None
        self._stored = 0
        self._pending = bytearray()
        self._renamed = False

    @property
    def size(self) -> int:
        return self._stored + len(self._pending)

    def open(self) -> None:
        self._file = os.fdopen(self._descriptor(), "r+b", buffering=0)
        try:
            self._claim(self._file)
        except BaseException:
            self._file.close()
            self._file = None
            raise
        self._stored = self._file.seek(0, os.SEEK_END)
        if self._progress.total is None or self._stored >= self._progress.total:
            # Without a size to check the end result against, old bytes are not to be trusted; and where all
            # of them seem to be there, the server could not be asked to go on.
            self._truncate()

    def _descriptor(self) -> int:
        """Make the file, or open the one that an earlier download has left.

        Nothing is written through a link: whoever can make one here would have us write to another file.
        """
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with suppress(FileExistsError):
            return os.open(self._part, flags | os.O_CREAT | os.O_EXCL, 0o644)
        facts = self._part.lstat()
        if stat.S_ISLNK(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1):
            # This name only is removed; what it leads to stays.
            self._part.unlink()
            return os.open(self._part, flags | os.O_CREAT | os.O_EXCL, 0o644)
        if not stat.S_ISREG(facts.st_mode):
            raise self._progress.error(f"{self._part.name} is not a regular file; remove it")
        return os.open(self._part, flags)

    def _claim(self, file: BinaryIO) -> None:
        """Refuse what another download writes or has just renamed to its target, or what became a link."""
        free = os.fstat(file.fileno()).st_nlink == 1
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free = False
            except OSError:
                logger.debug("%s cannot be locked here", self._part.name)  # some network file systems
        if not free or not _is_at(file, self._part):
            raise self._progress.error(f"{self._part.name} is being written by another download")

    async def write(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) >= _FLUSH:
            await run_in_thread(self._flush)

    def _flush(self) -> None:
        assert self._file is not None
        while self._pending:
            count = self._file.write(self._pending)
            self._stored += count
            del self._pending[:count]

    async def restart(self) -> None:
        await run_in_thread(self._truncate)

    def _truncate(self) -> None:
        assert self._file is not None
        self._pending.clear()
        self._file.seek(0)
        self._file.truncate()
        self._stored = 0

    def head(self) -> bytes:
        """Return the first bytes."""
        assert self._file is not None
        self._flush()
        self._file.seek(0)
        return self._file.read(HEAD)

    def finish(self, candidates: Sequence[Path]) -> Path:
        """Flush to the disk and rename: from here on the file is there, whole, whatever happens.

        Args:
            candidates: Where it may go. Nothing is replaced but by the last of them.
        """
        assert self._file is not None
        self._flush()
        os.fsync(self._file.fileno())
        *free_only, last = candidates
        path = next((path for path in free_only if self._took(path)), None)
        if path is None:
            self._part.replace(last)
            path = last
        self._renamed = True
        _sync_folder(path.parent)
        return path

    def _took(self, path: Path) -> bool:
        """Take a path that is free, or that has the same content already; False if it is somebody else's."""
        try:
            os.link(self._part, path)
        except FileExistsError:
            if not _is_same(self._part, path):
                return False
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            if not path.is_symlink() and not path.exists():
                self._part.replace(path)
                return True
            if not _is_same(self._part, path):
                return False
        self._part.unlink()
        return True

    def close(self) -> None:
        """Keep what was received, if anything."""
        if self._file is None:
            return
        try:
            # An error of the disk was raised before, by finish() or write().
            with suppress(OSError):
                self._flush()
                if not self._stored and not self._renamed:
                    self._part.unlink()
        finally:
            self._file.close()


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two files have the same content."""
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        return hashlib.file_digest(first, "sha256").digest() == hashlib.file_digest(second, "sha256").digest()


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # pragma: no cover - Windows cannot open a folder, and does not need this
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
