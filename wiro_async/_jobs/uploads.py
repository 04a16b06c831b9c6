"""Local files of jobs, uploaded once per content."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import attrs

from wiro_async._aio import run_in_thread
from wiro_async._files.inputs import FileSource
from wiro_async._journal.journal import Journal
from wiro_async._journal.steps import Uploaded
from wiro_async._protocol.records import Upload

__all__ = ["Uploads"]

URLS_KEPT = 10_000
"""How many of the newest upload URLs are remembered."""


@attrs.define(eq=False)
class Uploads:
    """Uploads local files, each content once.

    Args:
        upload: Uploads one file.
        journal: Remembers each content's URL beyond this process.
    """

    _upload: Callable[[FileSource], Awaitable[Upload]]
    _journal: Journal
    _urls: OrderedDict[str, str] = attrs.field(factory=OrderedDict, init=False)
    _busy: dict[str, anyio.Event] = attrs.field(factory=dict, init=False)

    async def url_of(self, file: FileSource) -> str:
        """Return the URL of a file's content, uploading it now if needed.

        Raises:
            InvalidInput: The file cannot be read.
            WiroError: The upload failed.
        """
        told = await run_in_thread(_digest_of, file)
        if told is None:
            return (await self._upload(file)).url
        sha256, size = told
        while sha256 in self._busy:
            await self._busy[sha256].wait()
        # There was no await since that check, so whoever comes next with the same content finds it busy.
        done = self._busy[sha256] = anyio.Event()
        try:
            url = self._urls.get(sha256) or await self._journal.url_of(sha256)
            if url is None:
                url = (await self._upload(file)).url
                await self._journal.record(Uploaded(sha256, url, size))
        finally:
            del self._busy[sha256]
            done.set()
        self._urls[sha256] = url
        self._urls.move_to_end(sha256)
        if len(self._urls) > URLS_KEPT:
            self._urls.popitem(last=False)
        return url


def _digest_of(file: FileSource) -> tuple[str, int] | None:
    """Return a file's SHA-256 and size (None: it cannot be read twice, or at all)."""
    if isinstance(file, bytes | bytearray):
        return hashlib.sha256(file).hexdigest(), len(file)
    if not isinstance(file, str | os.PathLike):
        return None
    try:
        with Path(file).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()
    except (OSError, ValueError):
        return None  # The upload raises the error that says why.
