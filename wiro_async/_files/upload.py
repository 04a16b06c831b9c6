"""Streams one local file as multipart/form-data, of a length that is known before the first byte leaves."""

from __future__ import annotations

import io
import mimetypes
import os
import re
import secrets
import stat
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import anyio
import anyio.to_thread
import httpx

from wiro_async._aio.shield import finish
from wiro_async._config import MAX_UPLOAD_BYTES
from wiro_async._errors import InvalidInput
from wiro_async._files.inputs import FileSource

__all__ = ["MultipartFile", "Source", "open_source"]

CHUNK = 256 * 1024

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"%PDF", ".pdf"),
)


class Source(NamedTuple):
    """An open local file, checked.

    Attributes:
        name: The name to upload it under: harmless, and unique, because the service refuses a name twice.
        content_type: Its media type, from the name.
        size: Its length in bytes from the present position.
        file: What to read from.
        owned: Whether it was opened here, so that it is closed here.
    """

    name: str
    content_type: str
    size: int
    file: BinaryIO
    owned: bool

    async def aclose(self) -> None:
        """Close the file if it was opened here."""
        if self.owned:
            await finish(lambda: anyio.to_thread.run_sync(self.file.close), lambda _: None)


async def open_source(source: FileSource, name: str | None = None) -> Source:
    """Open and check a local file, without blocking the event loop.

    Args:
        source: A path, bytes, or an open binary file that can be sought.
        name: What to call it (None: by its own name).

    Raises:
        InvalidInput: It cannot be read, is no regular file, is empty, or is larger than the service takes.
    """

    def late(opened: Source) -> None:
        if opened.owned:
            opened.file.close()

    # A native cancellation would leave the thread alone with a file that nobody closes.
    return await finish(lambda: anyio.to_thread.run_sync(_open, source, name), late)


def _open(source: FileSource, name: str | None) -> Source:
    if isinstance(source, bytes):
        size = len(source)
        file: BinaryIO = io.BytesIO(source)
        own_name = f"file{_extension(source[:16])}"
    elif isinstance(source, str | PathLike):
        file, size = _open_path(Path(source))
        own_name = Path(source).name
    else:
        file, size = source, _remaining(source)
        own_name = _own_name(source)
    owned = file is not source
    try:
        _check_size(size, own_name)
    except InvalidInput:
        if owned:
            file.close()
        raise
    chosen = upload_name(name or own_name, secrets.token_hex(4))
    content_type = mimetypes.guess_type(chosen)[0] or "application/octet-stream"
    return Source(chosen, content_type, size, file, owned)


def _open_path(path: Path) -> tuple[BinaryIO, int]:
    try:
        # Without O_NONBLOCK, opening a FIFO waits for its writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"the file {str(path)!r} cannot be read: {reason}", name=str(path)) from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise InvalidInput(f"{str(path)!r} is not a regular file; give an image file", name=str(path))
    return os.fdopen(descriptor, "rb"), facts.st_size


def _remaining(file: BinaryIO) -> int:
    try:
        if not isinstance(file.read(0), bytes):
            raise InvalidInput("the open file gives text; open it with mode 'rb'")
        position = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(position)
    except (OSError, AttributeError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"the open file cannot be sought ({error}); read it, and give its bytes") from None
    return end - position


def _own_name(file: BinaryIO) -> str:
    name = getattr(file, "name", None)
    if isinstance(name, str):
        return Path(name).name
    # Files in memory have no name, and those of a descriptor have a number.
    position = file.tell()
    head = file.read(16)
    file.seek(position)
    return f"file{_extension(head)}"


def _check_size(size: int, name: str) -> None:
    if size <= 0:
        raise InvalidInput(f"{name!r} is empty; there is nothing to upload", name=name)
    if size > MAX_UPLOAD_BYTES:
        raise InvalidInput(
            f"{name!r} has {size:,} bytes; the service takes at most {MAX_UPLOAD_BYTES:,} a file", name=name
        )


def _extension(head: bytes) -> str:
    if head[8:12] == b"WEBP":
        return ".webp"
    if head[4:8] == b"ftyp":
        return ".mp4"
    return next((extension for magic, extension in _MAGIC if head.startswith(magic)), ".bin")


def upload_name(name: str, salt: str) -> str:
    """Return *name* with only harmless characters, at most 100 of them, and *salt* before its extension."""
    path = PurePosixPath(re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "file")
    return f"{path.stem[:70] or 'file'}-{salt}{path.suffix[:12]}"


class MultipartFile(httpx.AsyncByteStream):
    """A multipart body with one file in it, read in a worker thread piece by piece.

    Args:
        source: The file.
        folder: The service's id of the folder to put it in ("" for none).
    """

    def __init__(self, source: Source, folder: str = "") -> None:
        self._boundary = secrets.token_hex(16)
        self._source = source
        self._left = source.size
        folder_part = (
            f'Content-Disposition: form-data; name="folderid"\r\n\r\n{folder}\r\n--{self._boundary}\r\n'
        )
        self._head: bytes = (
            f"--{self._boundary}\r\n{folder_part if folder else ''}"
            f'Content-Disposition: form-data; name="file"; filename="{source.name}"\r\n'
            f"Content-Type: {source.content_type}\r\n\r\n"
        ).encode()
        self._tail: bytes = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that describe this body."""
        length = len(self._head) + self._source.size + len(self._tail)
        return [
            (b"Content-Type", f"multipart/form-data; boundary={self._boundary}".encode()),
            (b"Content-Length", b"%d" % length),
        ]

    def __aiter__(self) -> MultipartFile:
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        if self._left:
            chunk = await anyio.to_thread.run_sync(self._source.file.read, min(CHUNK, self._left))
            if not chunk:
                raise InvalidInput(f"{self._source.name!r} became shorter while it was read; upload it again")
            self._left -= len(chunk)
            return chunk
        if self._tail:
            tail, self._tail = self._tail, b""
            return tail
        raise StopAsyncIteration
