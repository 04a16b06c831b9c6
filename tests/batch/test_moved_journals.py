"""A journal that is not where it was: moved without its -wal file, restored from a backup, copied."""

from __future__ import annotations

import itertools
import logging
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest

from tests.batch.test_batch_sandbox import POLLING
from tests.batches import MODEL
from tests.fakes import FakeService
from tests.fakes import client as fake_client
from tests.journals import apply, databases_are_closed, opened
from wiro_async import (
    Batch,
    BatchReport,
    Client,
    InvalidResponse,
    Job,
    JournalError,
    Limits,
    WiroError,
)
from wiro_async._journal.comparison import JournalComparison
from wiro_async._journal.steps import Accepted, Intended
from wiro_async._protocol.matching import RunFingerprint
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox.faults import FaultPlan, Reset, Status

__all__ = ["databases_are_closed"]

CALLBACK = {"callbackUrl": "http://127.0.0.1:9/done"}
"""Nobody listens there; the service keeps it with the task, and our marker in it."""


def sandbox_of(plan: FaultPlan | None = None) -> Sandbox:
    return Sandbox(
        speed=500.0, render=False, balance=1000, faults=plan, callback_pause=0.0, callback_timeout=0.2
    )


def client(sandbox: Sandbox) -> Client:
    return Client(
        "sandbox-key",
        "sandbox-secret",
        base_url=sandbox.base_url,
        watch="poll",
        polling=POLLING,
        limits=Limits(settle_timeout=0.5),
    )


def jobs(*keys: str, callback: bool) -> list[Job]:
    more = CALLBACK if callback else {}
    return [
        Job(MODEL, {"prompt": key, "inputImageFirstUrl": "https://host/a.jpg", **more}, key=key)
        for key in keys
    ]


async def ran(own: Client, journal: Path, *keys: str, callback: bool = True, **options: Any) -> BatchReport:
    """Run a batch to its end."""
    batch: Batch
    async with own.batch(jobs(*keys, callback=callback), journal=journal, **options) as batch:
        return await batch.wait()


async def copied(journal: Path, copy: Path) -> Path:
    """Copy a journal that nobody uses: it is one file."""
    await anyio.to_thread.run_sync(shutil.copyfile, journal, copy)
    return copy


async def killed(journal: Path, copy: Path, *keys: str, wal: bool) -> Path:
    """Leave a copy of a journal as a kill would, with Runs in it that nobody else knows of."""

    def kill() -> None:
        store = opened(journal)
        for number, key in enumerate(keys):
            with store.transaction():
                run = RunFingerprint(MODEL, ("prompt",), "d" * 64, 1.7e9, "")
                apply(store, Intended(key, {"prompt": key}, run), Accepted(key, f"{9000 + number}"))
        shutil.copyfile(journal, copy)
        if wal:
            shutil.copyfile(f"{journal}-wal", f"{copy}-wal")
        store.close()

    await anyio.to_thread.run_sync(kill)
    return copy


# -- without its -wal file ---------------------------------------------------------------------------------


async def test_a_batch_on_half_a_journal_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    """All of its jobs would look new."""
    async with sandbox_of() as sandbox, client(sandbox) as own:
        half = await killed(tmp_path / "a.db", tmp_path / "half.db", "a", "b", wal=False)
        with pytest.raises(JournalError, match="put its own -wal file beside it") as caught:
            await ran(own, half, "a", "b")
        assert caught.value.reason == "apart"
        with pytest.raises(JournalError, match="`wiro journal accept`"):
            await own.batch(jobs("a", callback=False), journal=half).plan()
        assert sandbox.ledger()["runs"] == 0


async def test_a_journal_that_a_tool_has_put_together_is_accepted_after_a_comparison(tmp_path: Path) -> None:
    """And goes on with what it knows."""

    def look(path: Path) -> None:
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
        db.close()

    async with sandbox_of() as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        left = await killed(tmp_path / "a.db", tmp_path / "left.db", "b", wal=True)
        await anyio.to_thread.run_sync(look, left)
        with pytest.raises(JournalError, match="sqlite3 or DB Browser"):
            await ran(own, left, "a")
        found = await own.accept_journal(left)
        assert (found.missing, found.others, found.complete) == ((), (), True)
        assert found.tasks == 1
        report = await ran(own, left, "a", timeout=0.1)
        assert report.progress.skipped == 1
        assert sandbox.ledger()["runs"] == 1


async def test_nothing_is_accepted_without_a_comparison(tmp_path: Path) -> None:
    """The service does not answer: the journal stays as it is."""
    plan = FaultPlan()
    async with sandbox_of(plan) as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        half = await killed(tmp_path / "a.db", tmp_path / "half.db", "b", wal=False)
        plan.script("Task/List", Status(500), times=None)
        with pytest.raises(WiroError):
            await own.accept_journal(half)
        plan.clear()
        with pytest.raises(JournalError, match="put its own -wal file beside it"):
            await ran(own, half, "a")
        await own.accept_journal(half)
        assert (await ran(own, half, "a")).progress.skipped == 1


async def test_a_list_that_cannot_be_read_at_all_accepts_nothing(tmp_path: Path) -> None:
    """No task of it has an id that could be one."""
    journal = tmp_path / "a.db"
    await killed(journal, tmp_path / "copy.db", "a", wal=True)
    page = httpx.Response(200, content=rb'{"result": true, "errors": [], "tasklist": [{"id": "\ud800"}]}')
    async with fake_client(FakeService(Task_List=lambda _: page)) as own:
        with pytest.raises(InvalidResponse, match=r"more than \d+ tasks since the submit"):
            await own.accept_journal(journal)


async def test_a_journal_without_a_run_has_nothing_to_compare(tmp_path: Path) -> None:
    """It is accepted as it is."""
    async with sandbox_of() as sandbox, client(sandbox) as own:
        await ran(own, tmp_path / "a.db")
        assert await own.accept_journal(tmp_path / "a.db") == JournalComparison()
        with pytest.raises(JournalError, match="does not exist"):
            await own.accept_journal(tmp_path / "b.db")
        assert sandbox.ledger()["runs"] == 0


# -- restored, or resumed elsewhere --------------------------------------------------------------------------


async def test_a_restored_journal_stops_its_batch_before_the_first_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not know what was run since: the markers of those Runs are its own."""
    async with sandbox_of() as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        backup = await copied(tmp_path / "a.db", tmp_path / "backup.db")
        assert (await ran(own, tmp_path / "a.db", "a", "b", "c")).complete
        assert sandbox.ledger()["paid"] == 3

        for _ in range(2):
            report = await ran(own, backup, "a", "b", "c", "d")
            assert report.stopped is not None
            assert report.stopped.reason == "journal"
            assert "is behind: it does not know 2 tasks" in report.stopped.message
            assert "`wiro journal accept`" in report.stopped.message
        assert sandbox.ledger()["runs"] == 3

        # Its owner says that it is the one to go on with, and leaves out what is paid for.
        found = await own.accept_journal(backup)
        books = {task["prompt"]: task["id"] for task in sandbox.ledger()["tasks"]}
        assert set(found.missing) == {books["b"], books["c"]}
        assert (await ran(own, backup, "a", "d")).complete
        # What was run since it was confirmed is known, and what was confirmed is no reason any more.
        assert (await ran(own, backup, "a", "d", "e")).complete
        assert sandbox.ledger()["paid"] == 5

        # And the other copy lacks what this one has run.
        report = await ran(own, tmp_path / "a.db", "a", "f")
        assert report.stopped is not None
        assert sandbox.ledger()["runs"] == 5


async def test_a_journal_is_compared_once_in_a_batch(tmp_path: Path) -> None:
    """Before its first Run, and not before each, which would read the account's list for every job."""
    async with sandbox_of() as sandbox, client(sandbox) as own:
        readings = [0]
        for keys in (["a"], ["b"], ["c", "d", "e"]):
            assert (await ran(own, tmp_path / "a.db", *keys)).complete
            readings.append(sandbox.ledger()["requests"].get("Task/List", 0))
        new, one, three = (after - before for before, after in itertools.pairwise(readings))
        assert new == 0, "a new journal has nothing to compare"
        assert three == one > 0


async def test_a_restored_journal_finishes_what_it_knows(tmp_path: Path) -> None:
    """Nothing has to be run for that: a batch whose jobs are all done is no danger."""
    async with sandbox_of() as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        backup = await copied(tmp_path / "a.db", tmp_path / "backup.db")
        assert (await ran(own, tmp_path / "a.db", "b")).complete
        assert (await ran(own, backup, "a")).complete
        assert sandbox.ledger()["runs"] == 2


async def test_a_doubt_of_its_own_is_not_missing(tmp_path: Path) -> None:
    """The intent is recorded with its marker, so the task is found, and nothing stops."""
    plan = FaultPlan()
    async with sandbox_of(plan) as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        plan.script("Run", Reset(after="processing"))
        plan.script("Task/List", Status(500), times=None, skip=2)
        report = await ran(own, tmp_path / "a.db", "a", "b")
        assert report.progress.unknown == 1
        plan.clear()
        # "c" is the first Run of this process: by then the list has the task of "b".
        assert (await ran(own, tmp_path / "a.db", "a", "b", "c")).complete
        assert sandbox.ledger()["paid"] == 3


async def test_without_the_list_there_is_no_first_run(tmp_path: Path) -> None:
    """Each job fails by itself, and the next one asks again."""
    plan = FaultPlan()
    async with sandbox_of(plan) as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        plan.script("Task/List", Status(500), times=3)
        report = await ran(own, tmp_path / "a.db", "b", "c", concurrency=1)
        assert report.progress.failed >= 1
        assert report.stopped is None
        assert (await ran(own, tmp_path / "a.db", "b", "c")).complete
        assert sandbox.ledger()["paid"] == 3


async def test_equal_inputs_without_a_marker_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can tell whose task that is: another program's, or a lost copy's."""
    async with sandbox_of() as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a", callback=False)).complete
        backup = await copied(tmp_path / "a.db", tmp_path / "backup.db")
        assert (await ran(own, tmp_path / "a.db", "b", "c", callback=False)).complete
        with caplog.at_level(logging.WARNING, "wiro_async"):
            assert (await ran(own, backup, "a", "b", "d", callback=False)).complete
        books = {task["prompt"]: task["id"] for task in sandbox.ledger()["tasks"][:3]}
        told = [record.getMessage() for record in caplog.records]
        twins = [text for text in told if "newer than all that the journal knows" in text]
        assert len(twins) == 1
        assert twins[0].startswith(f"task {books['b']} is newer")
        assert "of the job 'b'; if it is that job's" in twins[0]
        assert sandbox.ledger()["paid"] == 5
        found = await own.accept_journal(backup)
        assert {task.id for task in found.others} == {books["b"], books["c"]}


async def test_more_newer_tasks_than_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are compared, and that the others are not is said."""
    monkeypatch.setattr("wiro_async._jobs.reconcile.MAX_PAGES", 1)
    async with sandbox_of() as sandbox, client(sandbox) as own:
        assert (await ran(own, tmp_path / "a.db", "a")).complete
        with caplog.at_level(logging.WARNING, "wiro_async"):
            assert (await ran(own, tmp_path / "a.db", "b")).complete
        assert "more newer tasks than could be compared" in caplog.text
        assert not (await own.accept_journal(tmp_path / "a.db")).complete
        assert sandbox.ledger()["paid"] == 2
