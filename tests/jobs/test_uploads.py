"""Local files are uploaded once per content."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.journals import Database
from wiro_async import InvalidInput, ServiceError, Upload
from wiro_async._jobs.uploads import Uploads
from wiro_async._journal.journal import NullJournal
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import LocalFile


class Site:
    """Takes uploads.

    Attributes:
        taken: What was uploaded.
        problems: What the next uploads raise.
    """

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.problems: list[Exception] = []

    async def upload(self, file: Any) -> Upload:
        await anyio.sleep(5)
        if self.problems:
            raise self.problems.pop(0)
        self.taken.append(file)
        return Upload(f"https://host/{len(self.taken)}")


async def test_a_content_is_uploaded_once(tmp_path: Path) -> None:
    """By path, as bytes, from the journal; at the same time or later."""
    path = tmp_path / "a.jpg"
    await anyio.to_thread.run_sync(path.write_bytes, b"jpeg")
    site = Site()
    uploads = Uploads(site.upload, NullJournal())
    files: list[Any] = [path, str(path), b"jpeg", bytearray(b"jpeg"), LocalFile(str(path)), b"other"]
    found: dict[int, str] = {}

    async def url_of(number: int) -> None:
        found[number] = await uploads.url_of(files[number])

    async with anyio.create_task_group() as group:
        for number in range(len(files)):
            group.start_soon(url_of, number)
    assert await uploads.url_of(path) == found[0]
    assert len(site.taken) == 2
    assert len({found[number] for number in range(5)}) == 1
    assert found[5] != found[0]


async def test_an_open_file_is_uploaded_each_time() -> None:
    """It could not be read twice."""
    site = Site()
    uploads = Uploads(site.upload, NullJournal())
    for _ in range(2):
        await uploads.url_of(io.BytesIO(b"jpeg"))
    assert len(site.taken) == 2


async def test_a_file_that_cannot_be_read_is_told_by_the_upload() -> None:
    """Which knows to say it well."""
    site = Site()
    site.problems = [InvalidInput("no such file")]
    with pytest.raises(InvalidInput, match="no such file"):
        await Uploads(site.upload, NullJournal()).url_of("/no/such/file")


async def test_an_upload_that_fails_is_tried_by_the_next() -> None:
    """Those that waited for it do not fail with it."""
    site, found = Site(), list[str]()
    site.problems = [ServiceError("busy")]
    uploads = Uploads(site.upload, NullJournal())

    async def url_of() -> None:
        try:
            found.append(await uploads.url_of(b"jpeg"))
        except ServiceError:
            found.append("failed")

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(url_of)
    assert sorted(found) == ["failed", "https://host/1", "https://host/1"]


async def test_an_upload_outlives_the_process(tmp_path: Path, databases: list[Database]) -> None:
    """It is in the journal, for a day."""
    site = Site()
    for _ in range(2):
        async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
            await Uploads(site.upload, journal).url_of(b"jpeg")
    assert len(site.taken) == 1


async def test_only_the_newest_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million different images take no memory."""
    monkeypatch.setattr("wiro_async._jobs.uploads.URLS_KEPT", 2)
    site = Site()
    uploads = Uploads(site.upload, NullJournal())
    for content in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await uploads.url_of(content)
    assert site.taken == [b"a", b"b", b"c", b"b"]
