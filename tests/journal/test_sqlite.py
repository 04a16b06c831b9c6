"""The journal as a batch uses it: durable when told so, one flush for many, out of reach of cancellation."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.journals import (
    Database,
    apply,
    cancelled,
    clock,
    dump,
    entries_of,
    error,
    failed,
    intended,
    opened,
    quick,
    refused,
    rows_of,
    succeeded,
)
from tests.journals import databases_are_closed as databases_are_closed
from wiro_async import ClientUseError, InvalidInput, JournalError, Secret
from wiro_async._journal import sqlite as _sqlite
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import (
    MEMO,
    Accepted,
    Done,
    Doubted,
    Learned,
    LocalFile,
    Released,
    Saved,
    Step,
    Uploaded,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    """Every test must end with as many threads of ours as it began with."""
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "wiro-journal":
            thread.join(10)
            assert not thread.is_alive()


async def open_quick(path: Path) -> tuple[SQLiteJournal, Database]:
    """Open a journal that does not wait for the disk, and return its database too."""
    connecting, databases = quick()
    journal = await SQLiteJournal.open(path, connect=connecting, clock=clock, ticks=clock)
    return journal, databases[0]


def commits(database: Database) -> int:
    return database.ran.count("COMMIT")


class Stopped:
    """Holds a database's next commits up until it is let go."""

    def __init__(self, database: Database) -> None:
        self.go: threading.Event = threading.Event()
        self.reached: threading.Event = threading.Event()
        self._database = database
        database.fail = self._hold

    def _hold(self, sql: str) -> None:
        if sql == "COMMIT":
            self.reached.set()
            assert self.go.wait(30)

    async def arrival(self) -> None:
        """Wait until a commit is held up."""
        assert await anyio.to_thread.run_sync(self.reached.wait, 30)

    def let_go(self) -> None:
        self._database.fail = lambda _: None
        self.go.set()


# -- what a batch does -----------------------------------------------------------------------------------


async def test_a_jobs_whole_life(path: Path) -> None:
    """Every write is there for every read after it, and in the file when it is closed."""
    async with await SQLiteJournal.open(path, clock=clock) as journal:
        await journal.record(intended("k", prompt="waves", image=Path("a.jpg")))
        await journal.record(Accepted("k", "2221", Secret("canary-token")))
        await journal.record(succeeded("k"))
        await journal.record(Saved("k", 0, "/clips/0.mp4", 11, "ab"))
        await journal.record(Done("k"))
        row = await journal.find("k")
        assert row is not None
        assert (row.state, row.token) == ("done", Secret("canary-token"))
        assert row.inputs == {"prompt": "waves", "image": LocalFile("a.jpg")}
        assert (await journal.counts()).cost == Decimal("0.35")
        assert journal.durable
        assert await journal.find("other") is None
    assert (await rows_of(path))["k"] == row
    assert "canary" not in repr(row)


async def test_the_ways_a_run_can_fail(path: Path) -> None:
    """Refused, in doubt, failed, cancelled."""
    async with (await open_quick(path))[0] as journal:
        for key in "abcd":
            await journal.record(intended(key))
        await journal.record(Released("a", "RateLimited", "slow down"))
        await journal.record(Doubted("b", "ReadTimeout"))
        for step in (failed("c"), cancelled("d")):
            await journal.record(Accepted(step.key, f"task {step.key}"), step)
        found = {row.key: (row.state, row.error, row.reason) async for row in journal.entries()}
    assert found == {
        "a": ("refused", "RateLimited", "slow down"),
        "b": ("unknown", "SubmissionUnknown", "ReadTimeout"),
        "c": ("failed", "", "no face found"),
        "d": ("cancelled", "", ""),
    }


async def test_uploads_and_lessons(path: Path) -> None:
    """Kept by content and by name."""
    async with (await open_quick(path))[0] as journal:
        await journal.record(Uploaded("ab", "https://x/1.jpg", 10))
        await journal.record(Learned("prices", {"o/m": [1, "0.35"]}))
        assert await journal.url_of("ab") == "https://x/1.jpg"
        assert await journal.url_of("cd") is None
        assert await journal.load_stats("prices") == {"o/m": [1, "0.35"]}
        assert await journal.load_stats("durations") == {}


@pytest.mark.parametrize("data", ["{", "[1]", "null", "[" * 100_000, 5, b"\xff"])
async def test_a_row_that_was_edited_by_hand_is_learned_anew(
    path: Path, data: object, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning; but the options of a batch are not dropped, because a limit may be among them."""
    async with (await open_quick(path))[0] as journal:
        await journal.record(Learned("prices", {"o/m": [1, "0.35"]}), Learned(MEMO, {"max_cost": "5"}))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE learned SET data = ?", (data,))
    async with (await open_quick(path))[0] as journal:
        assert await journal.load_stats("prices") == {}
        assert "has learned of prices cannot be read" in caplog.text
        with pytest.raises(JournalError, match="has an unreadable memo") as caught:
            await journal.load_stats(MEMO)
        assert caught.value.reason == "corrupt"
        assert journal.broken is None
        assert await journal.task_ids() == []
        with pytest.raises(InvalidInput):
            await journal.record(Learned("prices", {"x": float("nan")}))


async def test_rows_come_by_state_and_in_order_of_arrival(path: Path) -> None:
    """Over page after page, each state once, and any iterator can be left at any time."""

    def fill() -> None:
        store = opened(path)
        with store.transaction():
            for number in range(410):
                apply(store, intended(f"{number:04d}"))
                if number % 2:
                    apply(store, refused(f"{number:04d}"))
        store.close()

    await anyio.to_thread.run_sync(fill)
    async with (await open_quick(path))[0] as journal:
        every = [row.key async for row in journal.entries()]
        assert every == [f"{number:04d}" for number in range(410)]
        assert [row.key async for row in journal.entries("refused", "intended", "refused")] == every[
            1::2
        ] + every[::2]
        assert [row.key async for row in journal.entries("running")] == []
        async for row in journal.entries():
            assert row.key == "0000"
            break
        with pytest.raises(InvalidInput, match="'over' is none of intended"):
            journal.entries("over")  # type: ignore[arg-type]


# -- one flush for many ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("writers", "shared"), [(100, 1), (2001, 3)])
async def test_what_waits_is_committed_together(path: Path, writers: int, shared: int) -> None:
    """Writers that come while one commit is under way share the next, a thousand at a time."""
    journal, database = await open_quick(path)
    async with journal:
        stopped = Stopped(database)
        before = commits(database)
        async with anyio.create_task_group() as group:
            group.start_soon(journal.record, intended("first"))
            await stopped.arrival()
            for number in range(writers):
                group.start_soon(journal.record, intended(f"{number}"))
            await anyio.wait_all_tasks_blocked()
            stopped.let_go()
        assert commits(database) - before == 1 + shared
        assert (await journal.counts()).total == 1 + writers


async def test_a_write_that_is_refused_harms_no_other(path: Path) -> None:
    """Those beside it in the transaction are durable."""
    journal, database = await open_quick(path)
    outcomes: dict[str, str] = {}

    async def write(name: str, work: Awaitable[None]) -> None:
        try:
            await work
            outcomes[name] = "written"
        except (JournalError, TypeError, sqlite3.Error) as problem:
            outcomes[name] = getattr(problem, "reason", "wrong argument")

    async with journal:
        await journal.record(intended("there"))
        stopped = Stopped(database)
        async with anyio.create_task_group() as group:
            group.start_soon(write, "first", journal.record(intended("first")))
            await stopped.arrival()
            group.start_soon(write, "good", journal.record(intended("good")))
            group.start_soon(write, "conflict", journal.record(intended("there")))
            group.start_soon(write, "wrong", journal.record(Uploaded(object(), "u", 1)))  # type: ignore[arg-type]
            group.start_soon(write, "worse", journal.record(Uploaded("ab", "u", "1")))  # type: ignore[arg-type]
            group.start_soon(write, "last", journal.record(intended("last")))
            await anyio.wait_all_tasks_blocked()
            stopped.let_go()
        assert journal.broken is None
        assert {row.key async for row in journal.entries()} == {"there", "first", "good", "last"}
    assert outcomes == {
        "first": "written",
        "good": "written",
        "last": "written",
        "conflict": "conflict",
        "wrong": "wrong argument",
        "worse": "wrong argument",
    }


async def test_a_journal_that_is_gone_takes_no_more(path: Path) -> None:
    """Nothing that it took would be found: it is broken, and says why to all who ask."""
    journal, _ = await open_quick(path)
    async with journal:
        await journal.record(intended("k"))
        await journal.record(Accepted("k", "1"))
        await anyio.to_thread.run_sync(path.rename, path.with_name("moved"))
        await journal.record(Accepted("k", "1"))
        with pytest.raises(JournalError) as caught:
            await journal.record(intended("other"))
        assert caught.value.reason == "missing"
        assert journal.broken is not None
        with pytest.raises(JournalError, match="deleted, moved or replaced"):
            await journal.record(succeeded("k"))
    assert list(await rows_of(path.with_name("moved"))) == ["k"]


async def test_a_token_is_no_local_of_a_write_that_fails(path: Path) -> None:
    """Neither in the caller's frames nor in the error."""
    journal, database = await open_quick(path)
    async with journal:
        await journal.record(intended("k"))
        database.fail = lambda sql: ValueError("no") if sql.startswith("UPDATE runs") else None
        with pytest.raises(ValueError, match="no") as caught:
            await journal.record(Accepted("k", "1", Secret("canary-token")))
        shown = [repr(entry.frame.f_locals) for entry in caught.traceback[1:]]
        assert len(shown) > 2
        assert not [each for each in shown if "canary" in each]
        database.fail = lambda _: None
        await journal.record(Accepted("k", "1", Secret("canary\ud800")))


async def test_steps_that_are_recorded_together_are_made_together(path: Path) -> None:
    """All or none, by one commit: what cannot be made undoes what came before it, and harms no other."""
    journal, database = await open_quick(path)
    whole: tuple[Step, ...] = (intended("whole"), Accepted("whole", "1"), succeeded("whole"))
    broken: tuple[Step, ...] = (intended("broken"), Accepted("broken", "2"), Done("broken"))
    wrong: tuple[Step, ...] = (Uploaded("ab", "https://x", 1), Uploaded(object(), "u", 1))  # type: ignore[arg-type]

    async def refused_as(kind: type[Exception], *steps: Step) -> None:
        with pytest.raises(kind):
            await journal.record(*steps)

    async with journal:
        stopped = Stopped(database)
        async with anyio.create_task_group() as group:
            group.start_soon(journal.record, intended("first"))
            await stopped.arrival()
            before = commits(database)
            group.start_soon(journal.record, *whole)
            group.start_soon(refused_as, JournalError, *broken)
            group.start_soon(refused_as, sqlite3.Error, *wrong)
            group.start_soon(journal.record, intended("last"))
            await anyio.wait_all_tasks_blocked()
            stopped.let_go()
        assert commits(database) - before == 1
        assert await journal.url_of("ab") is None
        await journal.record(*broken[:2])
        await journal.record()
        await refused_as(InvalidInput, Accepted("first", "3"), intended(""))
        states = {entry.key: entry.state async for entry in journal.entries()}
    assert states == {"first": "intended", "whole": "ended", "last": "intended", "broken": "running"}


SEVERAL = st.lists(
    st.lists(
        st.one_of(
            st.builds(intended, st.sampled_from("ab")),
            st.builds(Accepted, st.sampled_from("ab"), st.sampled_from("78")),
            st.builds(refused, st.sampled_from("ab")),
            st.builds(Doubted, st.sampled_from("ab"), st.just("ReadTimeout")),
            st.builds(succeeded, st.sampled_from("ab")),
            st.builds(Done, st.sampled_from("ab")),
            st.builds(Learned, st.just("x"), st.builds(dict, n=st.integers(0, 9))),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=6,
)


@examples(40)
@given(SEVERAL)
def test_whatever_waits_together_ends_as_one_by_one(orders: list[list[Step]]) -> None:
    """What shares a transaction with steps that are refused is as if each had been alone."""
    with tempfile.TemporaryDirectory() as folder:
        together, alone = Path(folder) / "a.db", Path(folder) / "b.db"
        assert anyio.run(recorded, together, orders, True) == anyio.run(recorded, alone, orders, False)
        stores = opened(together), opened(alone)
        assert dump(stores[0]) == dump(stores[1])
        for store in stores:
            store.close()


async def recorded(path: Path, orders: list[list[Step]], together: bool) -> list[str]:
    """Record orders that wait for the disk *together*, or one by one; return what was said to each."""
    journal, database = await open_quick(path)
    said = [""] * len(orders)

    async def record(place: int) -> None:
        try:
            await journal.record(*orders[place])
        except JournalError as refusal:
            said[place] = refusal.message.partition("' ")[2]

    async with journal, anyio.create_task_group() as group:
        if not together:
            await journal.record(Learned("first", {}))
            for place in range(len(orders)):
                await record(place)
            return said
        stopped = Stopped(database)
        group.start_soon(journal.record, Learned("first", {}))
        await stopped.arrival()
        for place in range(len(orders)):
            group.start_soon(record, place)
        await anyio.wait_all_tasks_blocked()
        stopped.let_go()
    return said


# -- faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "code", "reason"),
    [("COMMIT", 13, "full"), ("COMMIT", 10, "io"), ("INSERT INTO runs", 13, "full"), ("BEGIN", 10, "io")],
)
async def test_after_a_failure_nothing_more_is_written(
    path: Path, statement: str, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes is told at once, with the first cause; reads go on; nothing that was durable is lost."""
    journal, database = await open_quick(path)
    async with journal:
        await journal.record(intended("before"))
        problem = error(sqlite3.OperationalError, code, "canary of the disk")
        database.fail = lambda sql: problem if sql.startswith(statement) else None
        with pytest.raises(JournalError, match="canary of the disk") as first:
            await journal.record(intended("during"))
        database.fail = lambda _: None
        ran = len(database.ran)
        with pytest.raises(JournalError) as later:
            await journal.record(intended("after"))
        assert (first.value.reason, later.value.reason) == (reason, reason)
        assert later.value is not first.value
        assert later.value.message == first.value.message
        assert "BEGIN IMMEDIATE" not in database.ran[ran:]
        assert [row.key async for row in journal.entries()] == ["before"]
        assert "broken" in repr(journal)
        assert not journal.durable
    assert "nothing more is recorded" in caplog.text
    assert list(await rows_of(path)) == ["before"]


async def test_everybody_in_a_failed_transaction_is_told(path: Path) -> None:
    """Also the one whose write would have been refused, and those who come after."""
    journal, database = await open_quick(path)
    reasons: list[str] = []

    async def write(key: str) -> None:
        with pytest.raises(JournalError) as caught:
            await journal.record(intended(key))
        reasons.append(caught.value.reason)

    async with journal:
        await journal.record(intended("k"))
        database.fail = lambda sql: error(sqlite3.OperationalError, 13, "full") if sql == "COMMIT" else None
        async with anyio.create_task_group() as group:
            for key in "kabcdefgh":
                group.start_soon(write, key)
        assert set(reasons) <= {"full", "conflict"}
        assert reasons.count("full") >= 8


async def test_a_read_that_fails_stops_nothing(path: Path) -> None:
    """A damaged page concerns those who need it."""
    journal, database = await open_quick(path)
    async with journal:
        damaged = error(sqlite3.DatabaseError, 11, "malformed")
        database.fail = lambda sql: damaged if sql.startswith("SELECT url") else None
        with pytest.raises(JournalError) as caught:
            await journal.url_of("ab")
        assert caught.value.reason == "corrupt"
        await journal.record(intended("k"))


async def test_a_full_disk_for_real(path: Path) -> None:
    """Everything that was acknowledged is there, and nothing else."""
    connecting, _ = quick("PRAGMA max_page_count = 40")
    acknowledged = 0
    reason = ""
    async with await SQLiteJournal.open(path, connect=connecting) as journal:
        while not reason:
            try:
                await journal.record(intended(f"{acknowledged}", prompt="x" * 500))
                acknowledged += 1
            except JournalError as problem:
                reason = problem.reason
    assert reason == "full"
    assert len(await rows_of(path)) == acknowledged > 10


async def test_inputs_that_cannot_be_recorded_never_reach_the_file(path: Path) -> None:
    """Nor do keys."""
    journal, database = await open_quick(path)
    async with journal:
        before = len(database.ran)
        with pytest.raises(InvalidInput):
            await journal.record(intended("k", prompt={1, 2}))
        with pytest.raises(InvalidInput):
            await journal.record(intended(""))
        assert len(database.ran) == before


# -- cancellation ----------------------------------------------------------------------------------------


async def test_a_cancelled_write_is_made_all_the_same(path: Path) -> None:
    """Its caller is not told; whoever comes later sees it."""
    journal, database = await open_quick(path)
    async with journal:
        stopped = Stopped(database)
        async with anyio.create_task_group() as group:
            group.start_soon(journal.record, intended("k"))
            await stopped.arrival()
            group.cancel_scope.cancel()
        stopped.let_go()
        assert await journal.find("k") is not None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_storm_of_native_cancellations(path: Path, seed: int) -> None:
    """Whatever is cancelled and when: what was acknowledged is there, and the journal goes on."""
    chance = random.Random(seed)
    journal, _ = await open_quick(path)
    acknowledged: list[str] = []

    async def write(key: str) -> None:
        await journal.record(intended(key))
        acknowledged.append(key)

    tasks = []
    for number in range(100):
        tasks.append(asyncio.get_running_loop().create_task(write(f"{number}")))
        for _ in range(chance.randrange(4)):
            await anyio.lowlevel.checkpoint()
        chance.choice(tasks).cancel()
    await asyncio.wait(tasks)
    seen = {row.key async for row in journal.entries()}
    await journal.aclose()
    assert set(acknowledged) <= seen == set(await rows_of(path))


async def test_a_cancelled_opening_leaves_nothing_open(path: Path) -> None:
    """The file is free when the cancellation goes on, and the thread has ended."""
    connecting, _ = quick()
    begun, go = threading.Event(), threading.Event()

    def slow(file: str) -> sqlite3.Connection:
        begun.set()
        assert go.wait(30)
        return connecting(file)

    async with anyio.create_task_group() as group:

        async def open_it() -> None:
            await SQLiteJournal.open(path, connect=slow)

        group.start_soon(open_it)
        assert await anyio.to_thread.run_sync(begun.wait, 30)
        group.cancel_scope.cancel()
        go.set()
    async with (await open_quick(path))[0]:
        pass


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_native_cancellations_of_opening_and_closing(path: Path) -> None:
    """Any number of them: both end properly, and then the cancellation goes on."""
    connecting, _ = quick()
    begun, go = threading.Event(), threading.Event()

    def slow(file: str) -> sqlite3.Connection:
        begun.set()
        assert go.wait(30)
        return connecting(file)

    opening = asyncio.get_running_loop().create_task(SQLiteJournal.open(path, connect=slow))
    await anyio.to_thread.run_sync(begun.wait, 30)
    for _ in range(3):
        opening.cancel()
        await anyio.lowlevel.checkpoint()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    journal, database = await open_quick(path)
    stopped = Stopped(database)
    write = asyncio.get_running_loop().create_task(journal.record(intended("k")))
    await stopped.arrival()
    closing = asyncio.get_running_loop().create_task(journal.aclose())
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        closing.cancel()
    stopped.let_go()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await write
    assert not journal._writer_thread.thread.is_alive()
    assert "k" in await rows_of(path)


# -- closing ---------------------------------------------------------------------------------------------


async def test_closing_leaves_one_file(path: Path) -> None:
    """And again does no harm."""
    journal = await SQLiteJournal.open(path)
    await journal.record(Learned("x", {"a": 1}))
    assert repr(journal) == f"<SQLiteJournal {str(path)!r} open>"
    assert journal.path == str(path)
    await journal.aclose()
    await journal.aclose()
    assert repr(journal) == f"<SQLiteJournal {str(path)!r} closed>"
    assert [file.name for file in path.parent.iterdir()] == ["a.db"]


async def test_a_closed_journal_says_so(path: Path) -> None:
    """In every call."""
    journal, _ = await open_quick(path)
    await journal.aclose()
    for work in (
        journal.counts,
        lambda: journal.record(intended("k")),
        lambda: journal.entries().__anext__(),
    ):
        with pytest.raises(ClientUseError, match="is closed; open it again"):
            await work()


async def test_a_broken_journal_that_is_closed_says_that_it_is_closed(path: Path) -> None:
    """What can be mended by the caller comes first."""
    journal, database = await open_quick(path)
    database.fail = lambda sql: error(sqlite3.OperationalError, 13, "full") if sql == "COMMIT" else None
    with pytest.raises(JournalError):
        await journal.record(intended("k"))
    await journal.aclose()
    with pytest.raises(ClientUseError):
        await journal.record(intended("k"))


async def test_a_disk_that_hangs_does_not_hang_the_closing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while it is left to itself, and the caller is told."""
    monkeypatch.setattr(_sqlite, "CLOSE_SECONDS", 0.05)
    journal, database = await open_quick(path)
    stopped = Stopped(database)
    async with anyio.create_task_group() as group:
        group.start_soon(journal.record, intended("k"))
        await stopped.arrival()
        with pytest.raises(JournalError, match=r"did not answer within 0\.05 s") as caught:
            await journal.aclose()
        assert caught.value.reason == "slow"
        stopped.let_go()


async def test_a_journal_that_nobody_closes_is_closed_with_a_warning(path: Path) -> None:
    """As the garbage collector finds it; what it had to do is done."""
    journal, _ = await open_quick(path)
    thread = journal._writer_thread.thread
    await journal.record(intended("k"))
    kept = [journal]
    del journal
    with pytest.warns(ResourceWarning, match="was not closed"):
        kept.clear()
    await anyio.to_thread.run_sync(thread.join, 30)
    assert "k" in await rows_of(path)


UNCLOSED = """
import asyncio, sys, warnings
from wiro_async._journal.sqlite import SQLiteJournal
from tests.journals import intended
kept = []
async def main():
    journal = await SQLiteJournal.open(sys.argv[1])
    await journal.record(intended("k"))
    kept.append(journal)
    print("end")
asyncio.run(main())
"""


def test_a_program_that_forgets_its_journal_ends_and_loses_nothing(path: Path) -> None:
    """The interpreter closes it: at once, and with everything that was on its way."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNCLOSED, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout == "end\n"
    assert [file.name for file in path.parent.iterdir()] == ["a.db"]
    assert set(entries_of(path)) == {"k"}


# -- one process, one event loop -------------------------------------------------------------------------


async def test_a_second_journal_is_refused(path: Path) -> None:
    """At once, and the first one goes on."""
    async with await SQLiteJournal.open(path) as journal:
        with pytest.raises(JournalError) as caught:
            await SQLiteJournal.open(path)
        assert caught.value.reason == "locked"
        await journal.record(intended("k"))
    async with await SQLiteJournal.open(path, create=False) as journal:
        assert await journal.find("k") is not None


async def test_a_journal_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    """And leaves no thread behind."""
    for path, reason in ((tmp_path, "foreign"), (tmp_path / "x" / "a.db", "missing")):
        with pytest.raises(JournalError) as caught:
            await SQLiteJournal.open(path)
        assert caught.value.reason == reason


def test_a_second_event_loop_is_refused(path: Path) -> None:
    """But it may close the journal."""
    connecting, _ = quick()
    journal = anyio.run(lambda: SQLiteJournal.open(path, connect=connecting))

    async def use() -> None:
        with pytest.raises(ClientUseError, match="another event loop"):
            await journal.counts()
        await journal.aclose()

    anyio.run(use)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_answers_to_an_event_loop_that_is_gone_are_dropped(path: Path, backend: str) -> None:
    """The thread goes on to the end of its work."""
    connecting, databases = quick()

    async def leave() -> tuple[SQLiteJournal, Stopped]:
        journal = await SQLiteJournal.open(path, connect=connecting)
        stopped = Stopped(databases[0])
        async with anyio.create_task_group() as group:
            group.start_soon(journal.record, intended("k"))
            await stopped.arrival()
            group.cancel_scope.cancel()
        return journal, stopped

    journal, stopped = anyio.run(leave, backend=backend)
    stopped.let_go()
    anyio.run(journal.aclose, backend=backend)
    assert "k" in entries_of(path)


FORKED = """
import os, sys, warnings
import anyio
from wiro_async._errors import ClientUseError
from wiro_async._journal.sqlite import SQLiteJournal
from tests.journals import intended

warnings.simplefilter("ignore", DeprecationWarning)  # of later Pythons, about forking beside threads

async def begin():
    journal = await SQLiteJournal.open(sys.argv[1])
    await journal.record(intended("k"))
    return journal

# Outside of a running event loop, which no fork survives.
journal = anyio.run(begin)
child = os.fork()
if child:
    print(os.waitpid(child, 0)[1], os.path.exists(sys.argv[1] + "-wal"), flush=True)
    anyio.run(journal.aclose)
else:
    for work in (journal.counts(), journal.record(intended("child")), journal.aclose()):
        try:
            work.send(None)
        except ClientUseError as error:
            print("before a fork" in str(error), flush=True)
        except StopIteration:
            print("closed", flush=True)
"""


def test_a_forked_child_is_refused_and_harms_nothing(path: Path) -> None:
    """Even when it ends in the ordinary way: it must not remove the -wal file below its parent."""
    run = subprocess.run(
        [sys.executable, "-c", FORKED, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["True", "True", "closed", "0", "True"], run.stderr
    assert set(entries_of(path)) == {"k"}


def test_in_a_forked_child_nothing_of_the_journal_is_cleaned_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at its exit nor by its garbage collector: the thread is the parent's."""
    connecting, _ = quick()
    journal = anyio.run(lambda: SQLiteJournal.open(path, connect=connecting))
    writer = journal._writer_thread
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        _sqlite._close_all()
        journal.__del__()
        anyio.run(journal.aclose)
        assert writer._orders.empty()
    assert writer.thread.is_alive()
    _sqlite._close_all()
    assert not writer.thread.is_alive()
    anyio.run(journal.aclose)


def test_uvloop_will_do(path: Path) -> None:
    """As any loop of asyncio."""
    uvloop = pytest.importorskip("uvloop")

    async def use() -> None:
        async with await SQLiteJournal.open(path) as journal:
            await journal.record(intended("k"))

    anyio.run(use, backend_options={"loop_factory": uvloop.new_event_loop})
    assert set(entries_of(path)) == {"k"}
