"""Reading a journal by public names only."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import anyio
import pytest

import wiro_async
from tests.journals import apply, failed, intended, opened, refused, succeeded
from tests.journals import databases_are_closed as databases_are_closed
from wiro_async._journal.steps import Accepted, Learned, Saved


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with three jobs."""
    path = tmp_path / "jobs.db"
    store = opened(path)
    for key in ("a", "b", "c"):
        apply(store, intended(key, prompt=key))
    for step in (succeeded("a"), failed("b")):
        apply(store, Accepted(step.key, f"task-{step.key}"), step)
    apply(store, Saved("a", 0, "/clips/a.mp4", 10, "ab"), refused("c"))
    apply(store, Learned("batch", {"source": "jobs.csv"}))
    store.close()
    return path


async def test_a_journal_is_counted_listed_and_searched(path: Path) -> None:
    """As often as one likes, in any order."""
    async with wiro_async.JournalReader(path) as journal:
        counts: wiro_async.JournalCounts = await journal.counts()
        assert (counts.total, counts.jobs["failed"], counts.cost) == (3, 1, Decimal("0.35"))
        assert wiro_async.JournalFailure("failed", "", "no face found", 1) in counts.failures
        assert [entry.key async for entry in journal.entries()] == ["a", "b", "c"]
        assert [entry.key async for entry in journal.entries("refused", "failed")] == ["c", "b"]
        entry = await journal.find("a")
        assert isinstance(entry, wiro_async.JournalEntry)
        assert (entry.state, entry.inputs, entry.task_id, entry.runs) == (
            "ended",
            {"prompt": "a"},
            "task-a",
            1,
        )
        (file,) = entry.files
        assert isinstance(file, wiro_async.JournalFile)
        assert (file.name, file.path) == ("0.mp4", "/clips/a.mp4")
        assert await journal.find("d") is None
        with pytest.raises(wiro_async.InvalidInput):
            journal.entries("over")  # type: ignore[arg-type]


async def test_what_a_batch_has_asked_to_keep_is_told(path: Path) -> None:
    """See ``Client.batch(memo=...)``."""
    async with wiro_async.JournalReader(path) as journal:
        assert await journal.memo() == {"source": "jobs.csv"}


async def test_it_says_which_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its absolute path, once it is open."""
    monkeypatch.chdir(path.parent)
    journal = wiro_async.JournalReader("jobs.db")
    assert (journal.path, repr(journal)) == ("jobs.db", "<JournalReader 'jobs.db'>")
    async with journal:
        assert journal.path == str(path)


async def test_no_journal_is_made(tmp_path: Path) -> None:
    """What is not there is an error."""
    with pytest.raises(wiro_async.JournalError, match="does not exist; check the path") as caught:
        await wiro_async.JournalReader(tmp_path / "no.db").__aenter__()
    assert caught.value.reason == "missing"
    assert not await anyio.Path(tmp_path / "no.db").exists()


async def test_two_cannot_read_at_once(path: Path) -> None:
    """The second is told so at once; the first one reads on."""
    async with wiro_async.JournalReader(path) as journal:
        with pytest.raises(wiro_async.JournalError) as caught:
            await wiro_async.JournalReader(path).__aenter__()
        assert caught.value.reason == "locked"
        assert (await journal.counts()).total == 3


async def test_it_must_be_open(path: Path) -> None:
    """Before the block, and after it."""
    journal = wiro_async.JournalReader(path)
    with pytest.raises(wiro_async.ClientUseError, match="use `async with JournalReader"):
        await journal.counts()
    async with journal:
        entries = journal.entries()
        assert (await anext(entries)).key == "a"
    with pytest.raises(wiro_async.ClientUseError, match="is closed; open it again"):
        await journal.find("a")
    async with journal:
        assert await journal.find("a") is not None
