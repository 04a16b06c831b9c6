"""The book: each step durable when it returns, and what is paid for is never stopped by a disk."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.batches import rows_of
from tests.fakes import task
from tests.journals import Database
from tests.journals import error as sqlite_error
from wiro_async._errors import JournalError, RateLimited
from wiro_async._jobs.book import Book
from wiro_async._journal.sqlite import Journal
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._protocol.records import Accepted, parse_task
from wiro_async._types import Secret

DOUBT = RunFingerprint("a/b", ("prompt",), "d" * 64, 1.7e9)
ENDED = parse_task(
    task(
        "2221",
        "task_postprocess_end",
        pexit="0",
        totalcost="0.35",
        outputs=[{"name": "0.mp4", "url": "https://cdn1.wiro.ai/0.mp4", "size": "3"}],
    )
)
FAILED = parse_task(
    task("2222", "task_postprocess_end", pexit="1", debugoutput="no face", postprocessendtime="1700000000")
)


async def test_without_a_journal_nothing_is_kept() -> None:
    """And nothing is found."""
    book = Book(None)
    await book.intend("a", {}, DOUBT)
    await book.accepted("a", Accepted("2221", None))
    await book.released("a", RateLimited("slow down"))
    await book.doubted("a", "ReadTimeout")
    await book.ended("a", ENDED)
    await book.saved("a", 0, Path("a.mp4"), 3, "d")
    await book.done("a")
    await book.uploaded("d", "https://host/a", 3)
    await book.save_stats("prices", {"a": 1})
    assert await book.url_of("d") is None
    assert await book.load_stats("prices") == {}
    assert not book.keeps


async def test_a_jobs_life_is_kept(tmp_path: Path, databases: list[Database]) -> None:
    """Every step of it, and what was learned."""
    async with await Journal.open(tmp_path / "a.db") as journal:
        book = Book(journal)
        assert book.keeps
        for key in "abcd":
            await book.intend(key, {"prompt": key}, DOUBT)
        await book.accepted("a", Accepted("2221", Secret("token")))
        await book.ended("a", ENDED)
        await book.saved("a", 0, tmp_path / "a.mp4", 3, "d")
        await book.done("a")
        await book.released("b", RateLimited("slow down"))
        await book.doubted("c", "ReadTimeout")
        await book.accepted("d", Accepted("2222", None))
        await book.ended("d", FAILED)
        await book.uploaded("d", "https://host/a", 3)
        await book.save_stats("prices", {"a": 1})
        assert await book.url_of("d") == "https://host/a"
        assert await book.load_stats("prices") == {"a": 1}
        assert await book.load_stats("durations") == {}
    rows = await rows_of(tmp_path / "a.db")
    assert {key: row.state for key, row in rows.items()} == {
        "a": "done", "b": "refused", "c": "unknown", "d": "failed",
    }  # fmt: skip
    assert (rows["a"].cost, rows["a"].files[0].path) == (Decimal("0.35"), str(tmp_path / "a.mp4"))
    assert (rows["d"].reason, rows["d"].ended_at) == ("no face", 1.7e9)


async def test_a_disk_that_fails(tmp_path: Path, databases: list[Database]) -> None:
    """Before a Run it raises, because that must not leave; after it, it tells of it and goes on."""
    problems: list[JournalError] = []
    async with await Journal.open(tmp_path / "a.db") as journal:
        book = Book(journal)
        await book.intend("a", {}, DOUBT)
        databases[0].fail = lambda sql: (
            sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "full") if sql == "COMMIT" else None
        )
        await book.accepted("a", Accepted("2221", None))
        book.broken = problems.append
        await book.ended("a", ENDED)
        with pytest.raises(JournalError):
            await book.intend("b", {}, DOUBT)
        assert not book.keeps
    assert [problem.reason for problem in problems] == ["full"]


async def test_what_has_happened_is_written_whatever_is_cancelled(
    tmp_path: Path, databases: list[Database]
) -> None:
    """The answer to a paid Run above all."""
    async with await Journal.open(tmp_path / "a.db") as journal:
        book = Book(journal)
        await book.intend("a", {}, DOUBT)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await book.accepted("a", Accepted("2221", None))
        row = await journal.find("a")
        assert row is not None
        assert row.state == "running"
