"""What the journal's tests share: jobs, and databases that are quick, count, or fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from wiro_async import JournalEntry, JournalFile
from wiro_async._journal.steps import Ended, Intended, Released, Step, text_of
from wiro_async._journal.store import Store
from wiro_async._protocol.matching import RunFingerprint

MODEL = "MiniMax/image-to-video-01-director"
NOW = 1_700_000_000.0
OUTPUT = JournalFile(0, "0.mp4", "https://cdn1.wiro.ai/x/0.mp4", "video/mp4", 10)


def intended(key: str, marker: str = "mark", **inputs: Any) -> Intended:
    fingerprint = RunFingerprint(MODEL, ("image", "prompt"), "d" * 64, NOW, marker, NOW + 85)
    return Intended(key, inputs or {"prompt": "waves"}, fingerprint, NOW + 10)


def refused(key: str) -> Released:
    return Released(key, "InsufficientBalance", "no money")


def succeeded(key: str) -> Ended:
    return Ended(key, "succeeded", NOW + 60, Decimal("0.35"), 60.5, outputs=(OUTPUT,))


def failed(key: str) -> Ended:
    return Ended(key, "failed", NOW + 60, Decimal(0), 6.0, "no face found")


def cancelled(key: str) -> Ended:
    return Ended(key, "cancelled", NOW + 60)


def apply(store: Store, *steps: Step) -> None:
    """Make steps, as the writer thread does."""
    for step in steps:
        store.apply(step, text_of(step))


def intend(store: Store, key: str, marker: str = "mark") -> None:
    apply(store, intended(key, marker))


def clock() -> float:
    return NOW


def error(kind: type[sqlite3.Error], code: int, text: str) -> sqlite3.Error:
    """Make an error as SQLite raises it."""
    made = kind(text)
    made.sqlite_errorcode = code
    return made


_made: list[Database] = []


@pytest.fixture(autouse=True)
def databases_are_closed() -> Iterator[None]:
    """Import this to have closed what a test leaves open; a thread's own are the thread's to close."""
    yield
    while _made:
        with suppress(sqlite3.ProgrammingError):
            _made.pop().close()


class Database(sqlite3.Connection):
    """A connection that does not wait for the disk, keeps what was run, and fails or lies on demand."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _made.append(self)
        self.ran: list[str] = []
        self.instead: dict[str, str] = {}
        self.fail: Callable[[str], Exception | None] = lambda _: None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.ran.append(sql)
        problem = self.fail(sql)
        if problem is not None:
            raise problem
        if sql.startswith(("PRAGMA synchronous", "PRAGMA fullfsync", "PRAGMA checkpoint_fullfsync")):
            sql = "PRAGMA synchronous = OFF"
        return super().execute(self.instead.get(sql, sql), parameters)


def quick(*first: str) -> tuple[Callable[[str], sqlite3.Connection], list[Database]]:
    """Return how to open quick databases, each running *first*, and the list that they will be in."""
    opened: list[Database] = []

    def connect(path: str) -> sqlite3.Connection:
        uri = f"{Path(path).as_uri()}?mode=rw"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0, factory=Database)
        for sql in first:
            db.execute(sql)
        opened.append(db)
        return db

    return connect, opened


def opened(path: Path, *first: str, **options: Any) -> Store:
    """Open a quick store."""
    given = {"connect": quick(*first)[0], "clock": clock, **options}
    return Store(path, **given)


def entries_of(path: Path) -> dict[str, JournalEntry]:
    """Return what a journal that nobody uses holds."""
    store = opened(path)
    entries = {entry.key: entry for _, entry in store.page(None, 0)}
    store.close()
    return entries


async def rows_of(path: Path) -> dict[str, JournalEntry]:
    """Return the same, read outside of the event loop."""
    return await anyio.to_thread.run_sync(entries_of, path)


def dump(
    store: Store, tables: Iterable[str] = ("jobs", "runs", "tasks", "files", "uploads", "learned")
) -> list[Any]:
    """Return every row of a journal."""
    # The connection is private; nothing but a dump tells that nothing at all was lost.
    return [store._db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]
