"""The interface: what every journal can do, and the one that keeps nothing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from tests.journals import intended, refused
from wiro_async import InvalidInput
from wiro_async._journal.journal import Journal, NullJournal
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Learned, State, Uploaded


async def test_without_a_journal_nothing_is_kept() -> None:
    """And nothing is found."""
    journal: Journal = NullJournal()
    await journal.record(
        intended("k"), refused("k"), Uploaded("ab", "https://x", 1), Learned("prices", {"a": 1})
    )
    assert (journal.path, journal.durable) == ("", False)
    assert await journal.find("k") is None
    assert [entry async for entry in journal.entries()] == []
    assert [entry async for entry in journal.entries("failed", "done")] == []
    counts = await journal.counts()
    assert (dict(counts.jobs), counts.cost, counts.failures) == (
        dict.fromkeys(get_args(State), 0),
        Decimal(0),
        (),
    )
    assert await journal.url_of("ab") is None
    assert list(await journal.task_ids()) == []
    assert await journal.load_stats("prices") == {}
    await journal.aclose()


@pytest.mark.parametrize("kind", ["null", "sqlite"])
async def test_a_state_that_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    """By every journal, before anything is read."""
    journal: Journal = NullJournal() if kind == "null" else await SQLiteJournal.open(tmp_path / "a.db")
    with pytest.raises(InvalidInput, match="'over' is none of intended"):
        journal.entries("over")  # type: ignore[arg-type]
    await journal.aclose()


async def test_a_journal_that_keeps_nothing_knows_nothing() -> None:
    """Neither tasks nor where its newest is."""
    journal = NullJournal()
    assert await journal.task_ids() == ()
    assert await journal.known([("2221", "")]) == frozenset()
