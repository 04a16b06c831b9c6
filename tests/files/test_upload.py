"""Local files as multipart bodies: which are taken, under which name, and byte for byte what is sent."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import python_multipart

from tests.files.conftest import Denial
from wiro_async import InvalidInput
from wiro_async._files.upload import MultipartFile, open_source

PIECE = 256 * 1024
"""How much is read of a file at a time."""

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


async def whole(body: MultipartFile) -> bytes:
    """Read a body to its end."""
    return b"".join([piece async for piece in body])


def parsed(headers: dict[bytes, bytes], body: bytes) -> tuple[dict[str, bytes], dict[str, tuple[str, bytes]]]:
    """Return the fields and the files that python-multipart finds in a body."""
    fields: dict[str, bytes] = {}
    files: dict[str, tuple[str, bytes]] = {}

    def on_field(field: Any) -> None:
        fields[field.field_name.decode()] = field.value

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        files[file.field_name.decode()] = (file.file_name.decode(), file.file_object.read())

    by_name = {name.decode(): value for name, value in headers.items()}
    python_multipart.parse_form(by_name, io.BytesIO(body), on_field, on_file)
    return fields, files


# -- what is taken ---------------------------------------------------------------------------------------


class Pathlike:
    """A path of the caller's own making."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.mark.parametrize("kind", [str, Path, Pathlike])
async def test_a_path_is_opened(tmp_path: Path, kind: Any) -> None:
    """A path, as text or as an object, is opened, measured, and closed in the end."""
    path = tmp_path / "a cat.png"
    path.write_bytes(PNG)
    source = await open_source(kind(path))
    assert (source.size, source.content_type, source.owned) == (len(PNG), "image/png", True)
    assert source.name == "a cat.png"
    assert re.fullmatch(r"a_cat-[0-9a-f]{8}\.png", MultipartFile(source).name)
    assert not source.file.closed
    await source.aclose()
    assert source.file.closed


@pytest.mark.parametrize(
    ("data", "extension", "content_type"),
    [
        (PNG, ".png", "image/png"),
        (b"\xff\xd8\xff\xe0JFIF", ".jpg", "image/jpeg"),
        (b"GIF89a", ".gif", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", ".webp", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", ".wav", "audio/x-wav"),
        (b"\0\0\0\x20ftypisom", ".mp4", "video/mp4"),
        (b"\x1a\x45\xdf\xa3", ".webm", "video/webm"),
        (b"%PDF-1.7", ".pdf", "application/pdf"),
        (b"?", ".bin", "application/octet-stream"),
    ],
)
@pytest.mark.parametrize("kind", ["bytes", "file"])
async def test_bytes_are_named_for_what_they_are(
    data: bytes, extension: str, content_type: str, kind: str
) -> None:
    """Bytes, and files in memory, have no name; their first bytes tell the kind."""
    source = await open_source(data if kind == "bytes" else io.BytesIO(data))
    assert source.name == f"file{extension}"
    assert source.content_type in (content_type, "application/octet-stream")
    assert (source.size, source.owned) == (len(data), kind == "bytes")
    assert source.file.read() == data


async def test_an_open_file_is_sent_from_where_it_stands(tmp_path: Path) -> None:
    """An open file's present position is its beginning, and it stays open: it is the caller's."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.seek(4)
        source = await open_source(file)
        assert (source.size, source.owned) == (6, False)
        assert source.name == "clip.mp4"
        assert b"\r\n\r\n456789\r\n--" in await whole(MultipartFile(source))
        await source.aclose()
        assert not file.closed


async def test_files_without_a_useful_name() -> None:
    """Temporary files, whose name is None or a number, are named for what they are."""
    with tempfile.SpooledTemporaryFile() as spooled, tempfile.TemporaryFile() as numbered:
        for file in (spooled, numbered):
            file.write(PNG)
            file.seek(0)
            source = await open_source(file)  # type: ignore[arg-type]
            assert source.name == "file.png"
            assert file.read() == PNG


async def test_a_name_may_be_given(tmp_path: Path) -> None:
    """The caller's name wins, and the media type follows it."""
    source = await open_source(PNG, "first frame.jpeg")
    assert re.fullmatch(r"first_frame-[0-9a-f]{8}\.jpeg", MultipartFile(source).name)
    assert source.content_type == "image/jpeg"


async def test_every_upload_has_a_name_of_its_own() -> None:
    """The service refuses a name that it has already, be it from an earlier attempt at the same file."""
    source = await open_source(PNG)
    assert len({MultipartFile(source).name for _ in range(20)}) == 20


# -- what is refused -------------------------------------------------------------------------------------


async def refused(source: Any) -> str:
    """Return why *source* is refused."""
    with pytest.raises(InvalidInput) as caught:
        await open_source(source)
    return caught.value.message


async def test_what_is_no_readable_regular_file_is_refused(tmp_path: Path) -> None:
    """Missing files, folders, pipes, devices and impossible names: an error that says which, and no wait."""
    os.mkfifo(tmp_path / "fifo")
    assert "No such file" in await refused(tmp_path / "missing.png")
    assert "not a regular file" in await refused(tmp_path)
    assert "not a regular file" in await refused(tmp_path / "fifo")
    assert "not a regular file" in await refused("/dev/zero")
    assert "null" in await refused("a\0b")
    assert "cannot be read" in await refused("\ud800")
    assert "File name too long" in await refused("x" * 5000)
    gc.collect()  # An open descriptor would warn here.


async def test_an_unreadable_file_is_refused(tmp_path: Path, no_file_opens: Denial) -> None:
    """Without the permission to read, the error says so."""
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    with no_file_opens():
        assert "Permission denied" in await refused(path)


async def test_empty_files_are_refused(tmp_path: Path) -> None:
    """There is nothing to upload in an empty file, or in empty bytes."""
    path = tmp_path / "empty.png"
    path.touch()
    for source in (path, b"", io.BytesIO()):
        assert "empty" in await refused(source)


@pytest.mark.parametrize("position", [0, len(PNG), len(PNG) + 10])
async def test_a_file_that_stands_at_its_end_is_sent_from_its_beginning(position: int) -> None:
    """It was just written, or read by somebody else."""
    file = io.BytesIO(PNG)
    file.seek(position)
    source = await open_source(file)
    assert (source.start, source.size) == (0, len(PNG))
    assert file.tell() == 0


async def test_the_largest_file_and_one_byte_more(tmp_path: Path) -> None:
    """100 MB are taken; a byte more is refused before anything is read."""
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    source = await open_source(path)
    assert source.size == 100_000_000
    await source.aclose()
    with path.open("r+b") as file:
        file.truncate(100_000_001)
        assert "at most 100,000,000" in await refused(path)
        assert "at most 100,000,000" in await refused(file)


async def test_open_files_that_cannot_be_uploaded(tmp_path: Path) -> None:
    """Text files, pipes, closed files, write-only files and what is no file: each has its own reason."""
    path = tmp_path / "text.txt"
    path.write_text("text")
    with path.open() as text:
        assert "mode 'rb'" in await refused(text)
    assert "mode 'rb'" in await refused(io.StringIO("text"))
    assert "cannot be read or sought" in await refused(text)
    with path.open("ab") as appended:
        assert "cannot be read or sought" in await refused(appended)
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb") as end:  # noqa: ASYNC230, PTH123  (no path)
        end.write(b"x")
        end.flush()
        assert "cannot be read or sought" in await refused(pipe)
    assert "cannot be read or sought" in await refused(object())


async def test_a_file_that_is_read_with_await_is_refused() -> None:
    """The error says what to give."""

    class Stream:
        async def read(self, _size: int = -1) -> bytes:
            return PNG

    message = await refused(Stream())
    assert "Stream" in message
    assert "await file.read()" in message
    gc.collect()  # A coroutine that was never awaited would warn here.


# -- what is sent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
async def test_the_body_is_byte_exact(tmp_path: Path, size: int) -> None:
    """Head, file and tail are exactly what multipart/form-data asks for, and as long as announced."""
    data = (PNG * (size // len(PNG) + 1))[:size]
    path = tmp_path / "cat.png"
    path.write_bytes(data)
    source = await open_source(path)
    multipart = MultipartFile(source)
    headers = dict(multipart.headers)
    body = await whole(multipart)
    await source.aclose()
    boundary = headers[b"Content-Type"].removeprefix(b"multipart/form-data; boundary=")
    assert re.fullmatch(rb"[0-9a-f]{32}", boundary)
    assert body == (
        b"--" + boundary + b"\r\n"
        b'Content-Disposition: form-data; name="file"; filename="' + multipart.name.encode() + b'"\r\n'
        b"Content-Type: image/png\r\n\r\n" + data + b"\r\n--" + boundary + b"--\r\n"
    )
    assert headers[b"Content-Length"] == b"%d" % len(body)
    assert parsed(headers, body) == ({}, {"file": (multipart.name, data)})


async def test_a_folder_is_a_field_before_the_file() -> None:
    """The folder's id comes first, as a field, and counts in the length."""
    source = await open_source(PNG)
    multipart = MultipartFile(source, "folder-7")
    headers = dict(multipart.headers)
    body = await whole(multipart)
    assert headers[b"Content-Length"] == b"%d" % len(body)
    assert parsed(headers, body) == ({"folderid": b"folder-7"}, {"file": (multipart.name, PNG)})
    assert body.index(b"folder-7") < body.index(b"filename=")


async def test_two_bodies_have_two_boundaries() -> None:
    """A boundary is random, so that no content can hold it."""
    source = await open_source(PNG)
    assert MultipartFile(source).headers[0] != MultipartFile(source).headers[0]


async def test_a_file_that_grows_is_cut_at_its_announced_length(tmp_path: Path) -> None:
    """What is added while the file is sent is left out, so that the length stays true."""
    path = tmp_path / "growing.bin"
    path.write_bytes(b"a" * (PIECE + 5))
    source = await open_source(path)
    multipart = MultipartFile(source)
    length = int(dict(multipart.headers)[b"Content-Length"])
    pieces = [await anext(multipart), await anext(multipart)]
    with path.open("ab") as file:
        file.write(b"b" * PIECE)
    body = b"".join(pieces) + await whole(multipart)
    await source.aclose()
    assert len(body) == length
    assert body.count(b"a" * 100) == (PIECE + 5) // 100


async def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    """A file that ends too early breaks the upload off with a reason; no wrong length is completed."""
    path = tmp_path / "shrinking.bin"
    path.write_bytes(b"a" * (2 * PIECE))
    source = await open_source(path)
    multipart = MultipartFile(source)
    await anext(multipart)
    os.truncate(path, 10)
    with pytest.raises(InvalidInput, match="became shorter"):
        await whole(multipart)
    await source.aclose()


class SlowFile(io.BytesIO):
    """A file whose disk takes its time."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reading = threading.Event()
        self.may_read = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        if size and size > 16:
            self.reading.set()
            assert self.may_read.wait(10)
        return super().read(size)


async def test_a_slow_disk_does_not_stop_the_loop() -> None:
    """While a piece is read from a slow disk, other tasks run."""
    file = SlowFile(PNG)
    source = await open_source(file)
    bodies: list[bytes] = []

    async def send() -> None:
        bodies.append(await whole(MultipartFile(source)))

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.to_thread.run_sync(file.reading.wait)
        assert not bodies
        file.may_read.set()
    assert PNG in bodies[0]


async def test_a_cancelled_scope_closes_the_file(tmp_path: Path) -> None:
    """Closing works inside a cancelled scope, as in the `finally` of a cancelled upload."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    source = await open_source(path)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await source.aclose()
    assert source.file.closed


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_while_opening_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is opened for a cancelled caller is closed again."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    opening, may_open = threading.Event(), threading.Event()
    opened: list[int] = []
    unwrapped = os.open

    def slow(*arguments: Any) -> int:
        opening.set()
        assert may_open.wait(10)
        opened.append(unwrapped(*arguments))
        return opened[0]

    monkeypatch.setattr(os, "open", slow)
    task = asyncio.get_running_loop().create_task(open_source(path))
    await anyio.to_thread.run_sync(opening.wait)
    task.cancel()
    await asyncio.sleep(0)
    may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


class SlowToSeek(io.BytesIO):
    """A file that takes its time to tell its length."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.seeking = threading.Event()
        self.may_seek = threading.Event()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.seeking.set()
        assert self.may_seek.wait(10)
        return super().seek(offset, whence)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_while_opening_leaves_the_callers_file_open() -> None:
    """It was opened elsewhere, so it is closed elsewhere."""
    file = SlowToSeek(PNG)
    task = asyncio.get_running_loop().create_task(open_source(file))
    await anyio.to_thread.run_sync(file.seeking.wait)
    task.cancel()
    await asyncio.sleep(0)
    file.may_seek.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not file.closed


async def test_a_source_shows_no_content() -> None:
    """Printing a source shows its name and size, not its bytes."""
    assert "abc" not in repr(await open_source(b"abc"))
