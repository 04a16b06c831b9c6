"""The files of a batch: local ones uploaded once per content, outputs saved, checked and recorded."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread

from wiro_async._batch.source import Entry
from wiro_async._errors import DownloadError, WiroError
from wiro_async._files.inputs import FileSource
from wiro_async._http.retry import is_transient
from wiro_async._jobs.job import file_name, has_magic
from wiro_async._journal.journal import Journal
from wiro_async._journal.steps import JournalFile, Saved, Step, Uploaded
from wiro_async._protocol.records import Output, Upload
from wiro_async._tasks.handle import TaskHandle

__all__ = ["OutputSaver", "Uploads"]

MISSING = frozenset({403, 404})
"""HTTP statuses of an output that may be on its way to the CDN, or whose address has run out."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between the attempts at an output that is not there (yet)."""

URLS_KEPT = 10_000
"""Addresses of uploads that are remembered: the newest."""

Record: TypeAlias = Callable[[Step], Awaitable[object]]

_PIECE = 1024 * 1024
_HEAD = 16


class Uploads:
    """Uploads local files, each content once.

    Args:
        upload: Uploads one file.
        journal: Remembers where a content is, beyond this process.
        record: Records a step that has happened.
    """

    def __init__(
        self, upload: Callable[[FileSource], Awaitable[Upload]], journal: Journal, record: Record
    ) -> None:
        self._upload = upload
        self._journal = journal
        self._record = record
        self._urls: OrderedDict[str, str] = OrderedDict()
        self._busy: dict[str, anyio.Event] = {}

    async def url_of(self, file: FileSource) -> str:
        """Return the address of a file's content, uploaded now if it is nowhere yet.

        Raises:
            InvalidInput: The file cannot be read.
            WiroError: The upload failed.
        """
        told = await anyio.to_thread.run_sync(_digest_of, file)
        if told is None:
            return (await self._upload(file)).url
        sha256, size = told
        while sha256 in self._busy:
            await self._busy[sha256].wait()
        # No await since that was seen: whoever has the same content finds it busy.
        done = self._busy[sha256] = anyio.Event()
        try:
            url = self._urls.get(sha256) or await self._journal.url_of(sha256)
            if url is None:
                url = (await self._upload(file)).url
                await self._record(Uploaded(sha256, url, size))
            self._remember(sha256, url)
        finally:
            del self._busy[sha256]
            done.set()
        return url

    def _remember(self, sha256: str, url: str) -> None:
        self._urls[sha256] = url
        self._urls.move_to_end(sha256)
        if len(self._urls) > URLS_KEPT:
            self._urls.popitem(last=False)


def _digest_of(file: FileSource) -> tuple[str, int] | None:
    """Return the SHA-256 and the size of a file (None: it cannot be read twice, or not at all)."""
    if isinstance(file, bytes | bytearray):
        return hashlib.sha256(file).hexdigest(), len(file)
    if not isinstance(file, str | os.PathLike):
        return None
    try:
        return _sha256(Path(file))
    except OSError:
        return None  # The upload says why, and better.


def _sha256(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


class _Paths:
    """Which path is whose, remembered by 16 bytes of two digests: a million of them take 20 MB.

    Among a million the odds that one is mistaken for another are one in 10**12, and then a file gets a
    longer name.
    """

    def __init__(self) -> None:
        self._buckets: list[bytes] = [b""] * 65536

    def claim(self, path: str | os.PathLike[str], owner: bytes) -> bool:
        """Make a path its claimant's; False if it is somebody else's."""
        # Some file systems cannot tell Clip.mp4 from clip.mp4.
        name = str(Path(path).absolute()).casefold()
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=10).digest()
        place, mark = int.from_bytes(digest[:2], "big"), digest[2:]
        bucket = self._buckets[place]
        entries = (bucket[at : at + 16] for at in range(0, len(bucket), 16))
        former = next((entry[8:] for entry in entries if entry.startswith(mark)), None)
        if former is None:
            self._buckets[place] = bucket + mark + owner
        return former in (None, owner)


_NOBODY = bytes(8)
"""Whose the files of a job are that needs no more saved."""


class OutputSaver:
    """Saves outputs, each under a path of its own.

    Args:
        template: Where they go; see ``check_template``.
        record: Records a step that has happened.
    """

    def __init__(self, template: str, record: Record) -> None:
        self._template = template
        self._record = record
        self._paths: _Paths = _Paths()

    async def all_there(self, files: Collection[JournalFile]) -> list[Path]:
        """Return the paths of files that were saved before (none: not all of them are there, and whole)."""
        if not await anyio.to_thread.run_sync(lambda: all(map(_is_there, files))):
            return []
        for file in files:
            self._paths.claim(file.path, _NOBODY)
        return [Path(file.path) for file in files]

    async def keep(
        self, handle: TaskHandle, entry: Entry, output: Output, before: JournalFile | None
    ) -> Path:
        """Save one output, unless it is there from before.

        Raises:
            DownloadError: It could not be had, or is not what it says.
            OSError: The file system refused.
        """
        owner = _owner_of(entry.key, output)
        if before is not None and await anyio.to_thread.run_sync(_is_there, before):
            self._paths.claim(before.path, owner)
            return Path(before.path)
        path = file_name(self._template, entry.key, entry.model, output)
        path = await self._fetched(handle, output, self._own(path, owner, before))
        where, sha256, size = await anyio.to_thread.run_sync(_checked, path, output)
        await self._record(Saved(entry.key, output.index, str(where), size, sha256))
        return path

    def _own(self, path: Path, owner: bytes, before: JournalFile | None) -> Path:
        """Return *path*, or one like it where that is another output's, now or when it was saved before."""
        apart = path.with_stem(f"{path.stem}-{owner.hex()}")
        was_apart = before is not None and Path(before.path) == apart.absolute()
        if not was_apart and self._paths.claim(path, owner):
            return path
        self._paths.claim(apart, owner)
        return apart

    async def _fetched(self, handle: TaskHandle, output: Output, path: Path) -> Path:
        for pause in PAUSES:
            try:
                return await output.save(path)
            except DownloadError as error:
                if error.http_status not in MISSING:
                    raise
            await anyio.sleep(pause)
            output = await _looked_up(handle, output)
        return await output.save(path)


async def _looked_up(handle: TaskHandle, output: Output) -> Output:
    """Return the output as it is now: its address may have changed, or come to life."""
    try:
        task = await handle.refresh()
    except WiroError as error:
        if not is_transient(error):
            raise
        return output
    return next((known for known in task.outputs if known.index == output.index), output)


def _owner_of(key: str, output: Output) -> bytes:
    """Return what tells an output from all others; without a journal, two jobs may have one key."""
    told = f"{key}\0{output.task_id}\0{output.index}"
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _is_there(file: JournalFile) -> bool:
    """Whether a file that was saved before is still whole."""
    try:
        return _sha256(Path(file.path)) == (file.sha256, file.size)
    except OSError:
        return False


def _checked(path: Path, output: Output) -> tuple[Path, str, int]:
    """Return where a saved file is, its digest and its size, if it is what it says."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if not has_magic(output.content_type, head):
        path.unlink()
        raise DownloadError(
            f"output {output.name[:60]!r} of task {output.task_id} says that it is {output.content_type}, "
            f"and begins with {head[:8]!r}; it was not kept",
            url=output.url,
            path=str(path),
        )
    return path.absolute(), *_sha256(path)
