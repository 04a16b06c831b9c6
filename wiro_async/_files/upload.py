"""Uploads: one local file as multipart/form-data, of a length that is known before the first byte leaves.

An upload costs nothing and can be repeated, so it is retried on whatever may pass.
"""

from __future__ import annotations

import inspect
import io
import logging
import math
import mimetypes
import os
import random
import secrets
import stat
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import anyio
import httpx

from wiro_async._aio import now, run_in_thread
from wiro_async._config import MAX_UPLOAD_BYTES, Limits, Option, check, text
from wiro_async._errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    InvalidInput,
    InvalidResponse,
    WiroError,
)
from wiro_async._files.images import image_size
from wiro_async._files.inputs import FileSource, unwrapped
from wiro_async._files.naming import extension_by, upload_name
from wiro_async._http.retry import UPLOADS, is_transient
from wiro_async._http.transport import Transport
from wiro_async._protocol.envelope import objects
from wiro_async._protocol.operations import UPLOAD
from wiro_async._protocol.records import Upload, parse_upload
from wiro_async._types import Payload

__all__ = ["MultipartFile", "Source", "Uploader", "look_at", "open_source"]

logger = logging.getLogger("wiro_async")

CHUNK = 256 * 1024


class Uploader:
    """Uploads local files.

    Args:
        transport: Makes the calls.
        limits: The client's bounds.
        chance: A source of random numbers between 0 and 1, for the pauses between attempts.
    """

    def __init__(
        self, transport: Transport, limits: Limits, chance: Callable[[], float] = random.random
    ) -> None:
        self._transport = transport
        self._timeout = limits.upload_timeout
        self._chance = chance

    async def upload(self, file: FileSource, name: str | None = None, folder: str = "") -> Upload:
        """Upload one local file; see ``Client.upload``.

        Raises:
            InvalidInput: The file cannot be read, is empty, is too large, or changed meanwhile.
            WiroError: The service refused, or was not reached.
        """
        check("name", name, text)
        check("folder", folder, _folder_id)
        source: Source | None = None
        with anyio.move_on_after(self._timeout):
            source = await open_source(file, name)
        if source is None:
            raise ConnectionFailed(
                f"{UPLOAD.name}: the file was not open within {self._timeout:g} s, for all threads wait for "
                f"their disks; see Limits.upload_timeout",
                sent=False,
                operation=UPLOAD.name,
            )
        try:
            answer = await self._send(source, folder)
        finally:
            await source.aclose()
        for item in objects(answer.get("list")):
            upload = parse_upload(item)
            if upload.url:
                return upload
        raise InvalidResponse(
            f"{UPLOAD.name}: the reply names no file", http_status=200, operation=UPLOAD.name
        )

    async def _send(self, source: Source, folder: str) -> Payload:
        """Send a file, again where that may help, within ``Limits.upload_timeout`` from its first byte on.

        The wait for a slot has a limit of its own, as for all calls.
        """
        until = math.inf
        attempt, refused = 1, 0
        while True:
            body = MultipartFile(source, folder)
            try:
                return await self._transport.upload(UPLOAD, body.headers, body, until=until)
            except WiroError as error:
                if attempt == 1:  # Its wait for a slot does not count, and the later ones' do.
                    until = (now() if body.begun_at is None else body.begun_at) + self._timeout
                delay = None
                if isinstance(error, AuthenticationError):
                    refused += 1
                    delay = self._transport.credentials.refused_read(refused)
                elif is_transient(error):
                    delay = UPLOADS.delay(attempt, self._chance(), getattr(error, "retry_after", None))
                if delay is None or now() + delay >= until:
                    raise
                logger.debug("%s: %s; again in %.2f s", UPLOAD.name, type(error).__name__, delay)
            await anyio.sleep(delay)
            await run_in_thread(source.rewind, at_once=True)
            attempt += 1


def _folder_id(_record: object, option: Option, value: Any) -> None:
    """Reject what would not stay in its part of the body."""
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigurationError(
            f"{option.name} is {value!r}; it must be the service's id of a folder, or '' for none"
        )


class Source(NamedTuple):
    """An open local file, checked.

    Attributes:
        name: Its own name, or the one that the caller gave.
        content_type: Its media type, from the name.
        size: Its length in bytes from *start* on.
        file: What to read from.
        owned: Whether it was opened here, so that it is closed here.
        start: The position in the file at which it begins.
    """

    name: str
    content_type: str
    size: int
    file: BinaryIO
    owned: bool
    start: int = 0

    def rewind(self) -> None:
        """Go back to where the file begins. Blocks.

        Raises:
            InvalidInput: The file has another size than before, or cannot be sought any more.
        """
        start, size = _extent(self.file)
        self.file.seek(self.start)
        if start + size != self.start + self.size:
            raise InvalidInput(
                f"{self.name!r} changed its size while it was uploaded; upload it again", name=self.name
            )

    async def aclose(self) -> None:
        """Close the file if it was opened here."""
        if self.owned:
            await run_in_thread(self.file.close, at_once=True)


async def open_source(source: FileSource, name: str | None = None) -> Source:
    """Open and check a local file, without blocking the event loop.

    Args:
        source: A path, bytes, an open binary file that can be sought, or what ``unwrapped`` finds one in.
        name: What to call it (None: by its own name).

    Raises:
        InvalidInput: It cannot be read, is no regular file, is empty, or is larger than the service takes.
    """

    def late(opened: Source) -> None:
        if opened.owned:
            opened.file.close()

    return await run_in_thread(_open, source, name, late=late)


def look_at(source: FileSource) -> tuple[int, int] | None:
    """Check a local file as an upload of it would, and leave it as it was. Blocks.

    Returns:
        The pixels of an image (None: it is of a kind that is not read).

    Raises:
        InvalidInput: It cannot be uploaded.
    """
    opened = _open(source, None)
    try:
        return image_size(opened.file)
    finally:
        if opened.owned:
            opened.file.close()
        else:
            opened.file.seek(opened.start)


def _open(source: FileSource, name: str | None) -> Source:
    start = 0
    if isinstance(source, bytes):
        size = len(source)
        file: BinaryIO = io.BytesIO(source)
        own_name = f"file{extension_by(source[:16])}"
    elif isinstance(source, str | PathLike):
        file, size = _open_path(Path(source))
        own_name = Path(source).name
    else:
        plain, told = unwrapped(source)
        file = cast(BinaryIO, plain)
        start, size = _extent(file)
        own_name = Path(told).name or _own_name(file, start)
    owned = isinstance(source, bytes | str | PathLike)
    try:
        _check_size(size, own_name)
    except InvalidInput:
        if owned:
            file.close()
        raise
    chosen = name or own_name
    # By a harmless name: of a name like data:x/y the header would get what it says.
    content_type = mimetypes.guess_type(upload_name(chosen, ""))[0] or "application/octet-stream"
    return Source(chosen, content_type, size, file, owned, start)


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


def _extent(file: BinaryIO) -> tuple[int, int]:
    """Return the position from which an open file is to be sent, and how many bytes there are from there on.

    It is where the file stands; or its beginning, if it stands at its end: it was just written, or read.

    Raises:
        InvalidInput: It gives no bytes, or cannot be sought.
    """
    try:
        nothing: object = file.read(0)
        if inspect.iscoroutine(nothing):
            nothing.close()
            raise InvalidInput(
                f"the open file has the type {type(file).__name__}, which is read with await; give its "
                f"content, `await file.read()`, or the plain file in it"
            )
        if not isinstance(nothing, bytes):
            raise InvalidInput("the open file gives text; open it with mode 'rb'")
        position = file.tell()
        file.seek(0, os.SEEK_END)  # what it returns is not the same everywhere
        end = file.tell()
        if position >= end:
            position = 0
        file.seek(position)
    except (OSError, AttributeError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"the open file cannot be read or sought ({error}); open it with mode 'rb', or give its bytes"
        ) from None
    return position, end - position


def _own_name(file: BinaryIO, position: int) -> str:
    name = getattr(file, "name", None)
    if isinstance(name, str):
        return Path(name).name
    # Files in memory have no name, and those of a descriptor have a number.
    head = file.read(16)
    file.seek(position)
    return f"file{extension_by(head)}"


def _check_size(size: int, name: str) -> None:
    if size <= 0:
        raise InvalidInput(f"{name!r} is empty; there is nothing to upload", name=name)
    if size > MAX_UPLOAD_BYTES:
        raise InvalidInput(
            f"{name!r} has {size:,} bytes; the service takes at most {MAX_UPLOAD_BYTES:,} a file", name=name
        )


class MultipartFile(httpx.AsyncByteStream):
    """A multipart body with one file in it, read in a worker thread piece by piece, once.

    Args:
        source: The file.
        folder: The service's id of the folder to put it in ("" for none).

    Attributes:
        name: The name to upload it under, without anything that a header could not hold. It is unique,
            because the service refuses a name that it has, be it from an attempt whose answer was lost.
        begun_at: When the first piece was read, on the event loop's clock (None: none was).
    """

    def __init__(self, source: Source, folder: str = "") -> None:
        self.name: str = upload_name(source.name, secrets.token_hex(4))
        self.begun_at: float | None = None
        self._boundary = secrets.token_hex(16)
        self._source = source
        self._left = source.size
        folder_part = (
            f'Content-Disposition: form-data; name="folderid"\r\n\r\n{folder}\r\n--{self._boundary}\r\n'
        )
        self._head: bytes = (
            f"--{self._boundary}\r\n{folder_part if folder else ''}"
            f'Content-Disposition: form-data; name="file"; filename="{self.name}"\r\n'
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
            self.begun_at = now()
            head, self._head = self._head, b""
            return head
        if self._left:
            chunk = await run_in_thread(self._source.file.read, min(CHUNK, self._left))
            if not chunk:
                raise InvalidInput(f"{self._source.name!r} became shorter while it was read; upload it again")
            self._left -= len(chunk)
            return chunk
        if self._tail:
            tail, self._tail = self._tail, b""
            return tail
        raise StopAsyncIteration
