"""One job's way: refusals, lost answers, tasks that are another's, and what an earlier process left."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.batches import (
    CLIP,
    MODEL,
    RARELY,
    Fate,
    Made,
    Service,
    alone,
    batch_of,
    full,
    job,
    jobs,
    outcomes,
    priced,
    states_of,
)
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import client, no, ok
from tests.journals import Database, error, rows_of
from wiro_async import (
    BatchStopped,
    CallbackReceiver,
    ConnectionFailed,
    DownloadError,
    InvalidInput,
    JournalFile,
    Limits,
    Secret,
    ServiceError,
    SubmissionUnknown,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskTimeout,
    TermsNotAccepted,
)
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Accepted, Doubted, Ended, Intended, Released, Saved, Step
from wiro_async._protocol.matching import RunFingerprint

FULL = error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "database or disk is full")


# -- room ------------------------------------------------------------------------------------------------


async def test_code_96_is_waited_out() -> None:
    """All jobs get their Run, no more than the account allows at a time, and few are refused."""
    service = Service(limit=3)
    found = await outcomes(service, jobs(*(f"p{number}" for number in range(12))))
    assert all(outcome.succeeded and outcome.attempts == 1 for outcome in found.values())
    assert service.most == 3
    assert set(service.runs.values()) == {1}
    assert service.counts["Run"] <= 12 + 6


@pytest.mark.parametrize(("limit", "most"), [(100, 10), (25, 10), (5, 5)])
async def test_a_plain_number_is_a_ceiling(limit: int, most: int) -> None:
    """Never more than that, and fewer where the account allows fewer."""
    service = Service(limit=limit)
    found = await outcomes(service, jobs(*(f"p{number}" for number in range(40))), concurrency=10)
    assert all(outcome.succeeded for outcome in found.values())
    assert service.most == most


async def test_a_storm_of_code_96_passes(tmp_path: Path, databases: list[Database]) -> None:
    """Another program holds every slot for ten minutes: nothing is lost, and the asking is slow."""
    service = Service()
    usual = service.handlers["Run"]
    service.handlers["Run"] = full(8)
    async with batch_of(service, jobs("a", "b", "c"), journal=tmp_path / "a.db") as batch:
        await anyio.sleep(600)
        assert 3 <= service.counts["Run"] <= 60
        service.handlers["Run"] = usual
        assert (await batch.wait()).complete


async def test_too_many_requests_are_waited_out() -> None:
    """HTTP 429 with the time that the service asks for."""
    service = Service()
    service.answers["a"] = [httpx.Response(429, headers={"retry-after": "15"}, json=no(None, "slow"))] * 4
    start = anyio.current_time()
    assert (await alone(service)).succeeded
    assert anyio.current_time() - start >= 60 + 60


async def test_a_service_that_is_not_reached_is_given_time() -> None:
    """A restart of half a minute is nothing that a batch tells of."""
    service = Service()
    usual = service.handlers["Run"]
    service.handlers["Run"] = httpx.ConnectError("refused")
    async with batch_of(service, jobs("a", "b", "c")) as batch:
        await anyio.sleep(30)
        assert batch.progress.waiting + batch.progress.submitting >= 1
        service.handlers["Run"] = usual
        report = await batch.wait()
    assert report.complete


async def test_a_service_that_stays_away_is_given_up(tmp_path: Path, databases: list[Database]) -> None:
    """After eleven tries, a minute in all; nothing was paid, and the next batch tries again."""
    service = Service()
    usual = service.handlers["Run"]
    service.handlers["Run"] = httpx.ConnectError("refused")
    start = anyio.current_time()
    outcome = await alone(service, journal=tmp_path / "a.db", max_cost=1)
    assert 30 < anyio.current_time() - start < 67
    assert isinstance(outcome.error, ConnectionFailed)
    assert outcome.attempts == 0
    assert service.counts["Run"] == 11
    service.handlers["Run"] = usual
    assert (await alone(service, journal=tmp_path / "a.db")).succeeded


# -- lost answers ----------------------------------------------------------------------------------------


async def test_a_lost_answers_task_is_found(tmp_path: Path, databases: list[Database]) -> None:
    """Nothing is sent again."""
    service = Service()
    service.answers["a"] = ["lost"]
    outcome = await alone(service, journal=tmp_path / "a.db")
    assert outcome.succeeded
    assert service.counts["Run"] == 1
    assert await states_of(tmp_path / "a.db") == {"a": "done"}


async def test_equal_jobs_whose_answers_are_lost_find_their_own(
    tmp_path: Path, databases: list[Database]
) -> None:
    """Each has a task, and no task has two."""
    service = Service()
    service.answers["a"] = ["lost"] * 3
    given = [job("a", key) for key in "xyz"]
    found = await outcomes(service, given, journal=tmp_path / "a.db")
    assert all(outcome.succeeded for outcome in found.values())
    assert len({outcome.task_id for outcome in found.values()}) == 3
    assert service.runs["a"] == 3


async def test_an_absent_run_is_not_sent_again(tmp_path: Path, databases: list[Database]) -> None:
    """Neither now nor by the next batch: it may have been paid for, and its money stays set aside."""
    service = Service()
    service.answers["a"] = ["gone"]
    path = tmp_path / "a.db"
    for _ in range(2):
        async with batch_of(service, jobs("a"), journal=path, max_cost=1) as batch:
            outcome = await anext(batch)
            assert isinstance(outcome.error, SubmissionUnknown)
            assert not outcome.error.absent
            assert outcome.attempts == 1
            assert batch.progress.unknown == 1
        assert await states_of(path) == {"a": "unknown"}
    assert service.counts["Run"] == 1


async def test_an_absent_run_is_sent_anew_if_asked_for(tmp_path: Path, databases: list[Database]) -> None:
    """Twice, no more; and by the next batch."""
    service = Service()
    service.answers["a"] = ["gone"] * 4
    path = tmp_path / "a.db"
    outcome = await alone(service, journal=path, on_unknown="resubmit")
    assert isinstance(outcome.error, SubmissionUnknown)
    assert service.counts["Run"] == 3
    outcome = await alone(service, journal=path, on_unknown="resubmit")
    assert outcome.succeeded
    assert service.counts["Run"] == 5
    assert service.runs["a"] == 1


async def test_an_answer_that_names_anothers_task(tmp_path: Path, databases: list[Database]) -> None:
    """The first look shows it; the job's own task is found in the list."""
    service = Service()
    service.answers["a"] = ["other"]
    outcome = await alone(service, journal=tmp_path / "a.db")
    assert outcome.succeeded
    assert outcome.result is not None
    assert outcome.result.task.parameters["prompt"] == "a"
    assert service.counts["Run"] == 1


def disowning(service: Service) -> Callable[[dict[str, Any]], Any]:
    """Return a Run that names a task of somebody else, and makes none of its own."""

    def run(_: dict[str, Any]) -> Any:
        return ok(taskid=service._accept({"prompt": "somebody else's", "n": 1}).id)

    return run


@pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])
async def test_an_answer_that_names_anothers_task_and_none_of_ours(
    on_unknown: Any, tmp_path: Path, databases: list[Database]
) -> None:
    """It is in doubt, and sent anew only if the terms say so."""
    service = Service()
    service.answers["a"] = [disowning(service)(None)]  # type: ignore[arg-type]
    outcome = await alone(service, journal=tmp_path / "a.db", on_unknown=on_unknown, max_cost=1)
    if on_unknown == "raise":
        assert isinstance(outcome.error, SubmissionUnknown)
        assert outcome.task_id == ""
        assert await states_of(tmp_path / "a.db") == {"a": "unknown"}
    else:
        assert outcome.succeeded
        assert service.runs == {"somebody else's": 1, "a": 1}


async def test_a_task_that_is_not_there_is_looked_for() -> None:
    """For half a minute; no other one is found in the list. The id in hand is told, and nothing is resent."""
    service = Service()
    service.answers["a"] = [ok(taskid="999", socketaccesstoken="x")]
    outcome = await alone(service, on_unknown="resubmit")
    assert isinstance(outcome.error, TaskNotFound)
    assert not outcome.error.passing
    assert outcome.task_id == "999"
    assert service.counts["Run"] == 1
    assert service.counts["Task/Detail"] >= 3


async def test_the_task_of_an_answer_about_nothing_is_found_in_the_list(
    tmp_path: Path, databases: list[Database]
) -> None:
    """The answer named a task that does not exist: after half a minute, the Run's own one takes its place."""
    service, path = Service(), tmp_path / "a.db"
    usual = service.handlers["Run"]
    service.handlers["Run"] = lambda inputs: usual(inputs) | {"taskid": "999"}
    outcome = await alone(service, journal=path)
    assert outcome.succeeded
    assert outcome.task_id == "2221"
    assert service.runs == {"a": 1}
    assert (await rows_of(path))["a"].task_id == "2221"


async def test_a_task_that_is_in_the_list_only_is_not_given_up(
    tmp_path: Path, databases: list[Database]
) -> None:
    """Detail denies it, the list shows it: its id stays on record, and a resume waits for it."""
    service, path = Service(), tmp_path / "a.db"
    usual = service.handlers["Task/Detail"]
    service.handlers["Task/Detail"] = no(1, "There is no task yet.")
    outcome = await alone(service, journal=path)
    assert isinstance(outcome.error, TaskNotFound)
    row = (await rows_of(path))["a"]
    assert (row.state, row.task_id) == ("running", "2221")
    service.handlers["Task/Detail"] = usual
    assert (await outcomes(service, journal=path))["a"].succeeded
    assert service.runs == {"a": 1}


async def test_a_resumed_task_that_is_denied_is_looked_for(tmp_path: Path, databases: list[Database]) -> None:
    """For half a minute; its id stays on record, and nothing is sent in its place."""
    service, path = Service(), tmp_path / "a.db"
    service.answers["a"] = [ok(taskid="999", socketaccesstoken="x")]
    assert isinstance((await alone(service, journal=path)).error, TaskNotFound)
    outcome = (await outcomes(service, journal=path))["a"]
    assert isinstance(outcome.error, TaskNotFound)
    assert (await rows_of(path))["a"].task_id == "999"
    assert service.counts["Run"] == 1


async def test_a_batch_that_is_left_while_a_denied_task_is_looked_for(
    tmp_path: Path, databases: list[Database]
) -> None:
    """Its id stays on record."""
    service, path = Service(), tmp_path / "a.db"
    service.answers["a"] = [ok(taskid="999", socketaccesstoken="x")]
    with anyio.move_on_after(65):
        await alone(service, journal=path)
    assert service.counts["Task/List"] >= 1
    row = (await rows_of(path))["a"]
    assert (row.state, row.task_id) == ("running", "999")


# -- ends ------------------------------------------------------------------------------------------------


async def test_a_failed_run_is_made_again_if_asked_for(tmp_path: Path, databases: list[Database]) -> None:
    """It is free; the third one succeeds."""
    service = Service()
    fates = [Fate(pexit="1", cost="0", reason="worker lost"), Fate(pexit="1", cost="0"), Fate()]

    def next_fate() -> None:
        if fates:
            service.fates["a"] = fates.pop(0)

    usual = service.handlers["Run"]

    def run(inputs: dict[str, Any]) -> Any:
        next_fate()
        return usual(inputs)

    service.handlers["Run"] = run
    outcome = await alone(
        service, journal=tmp_path / "a.db", retry_failed=2, canary=1, fail_fast=True, max_cost=1
    )
    assert outcome.succeeded
    assert (outcome.attempts, outcome.cost) == (3, Decimal("0.35"))
    assert service.runs["a"] == 3
    row = (await rows_of(tmp_path / "a.db"))["a"]
    assert (row.state, row.attempt) == ("done", 3)


async def test_a_run_that_keeps_failing_is_given_up(tmp_path: Path, databases: list[Database]) -> None:
    """The outcome says why; the next batch with more patience goes on."""
    service = Service()
    service.fates["a"] = Fate(pexit="1", cost="0", reason="no face")
    path = tmp_path / "a.db"
    outcome = await alone(service, journal=path, retry_failed=1)
    assert isinstance(outcome.error, TaskFailed)
    assert outcome.error.reason == "no face"
    assert (outcome.attempts, outcome.task_id, outcome.cost) == (2, "2222", Decimal(0))
    assert await outcomes(service, jobs("a"), journal=path, retry_failed=1) == {}
    service.fates["a"] = Fate()
    outcome = await alone(service, journal=path, retry_failed=2)
    assert outcome.succeeded
    assert outcome.attempts == 3


async def test_a_failed_run_whose_batch_has_stopped_tells_why_it_failed() -> None:
    """Not that there was to be another."""
    service = Service(limit=2)
    service.fates["a"] = Fate(pexit="1", cost="0", reason="no face")
    service.fates["b"] = Fate(lasts=61.0)
    async with batch_of(service, jobs("a", "b", "c"), retry_failed=1, concurrency=1) as batch:
        await anyio.sleep(30)
        batch.stop()
        found = {outcome.key: outcome async for outcome in batch}
    assert isinstance(found["a"].error, TaskFailed)
    assert found["a"].task_id == "2221"
    assert isinstance(found["b"].error, BatchStopped)
    assert found["b"].task_id == ""


async def test_a_task_that_somebody_cancels(tmp_path: Path, databases: list[Database]) -> None:
    """It is not run again, and tells nothing of the others: another goes as canary."""
    service = Service()
    path = tmp_path / "a.db"
    async with batch_of(service, jobs("a", "b"), journal=path, canary=1, retry_failed=3) as batch:
        await anyio.sleep(10)
        service._kill({"taskid": "2221"})
        found = {outcome.key: outcome async for outcome in batch}
        assert batch.progress.cancelled == 1
    assert isinstance(found["a"].error, TaskCancelled)
    assert found["b"].succeeded
    assert await states_of(path) == {"a": "cancelled", "b": "done"}


async def test_a_wait_that_runs_out(tmp_path: Path, databases: list[Database]) -> None:
    """The task goes on, its money stays set aside, and the next batch waits for it again."""
    service = Service()
    service.fates["a"] = Fate(lasts=1000.0)
    path = tmp_path / "a.db"
    async with batch_of(service, jobs("a"), journal=path, timeout=100) as batch:
        outcome = await anext(batch)
        assert isinstance(outcome.error, TaskTimeout)
        assert outcome.task_id == "2221"
    assert await states_of(path) == {"a": "running"}
    assert (await alone(service, journal=path)).succeeded
    assert service.runs["a"] == 1


async def test_a_cost_that_is_not_told(tmp_path: Path, databases: list[Database]) -> None:
    """The budget, the outcome and the journal count what such runs cost."""
    service, path = Service(), tmp_path / "a.db"
    service.fates["a"] = Fate(cost=None)
    async with batch_of(service, jobs("b", "a"), max_cost=1, concurrency=1, journal=path) as batch:
        found = {outcome.key: outcome async for outcome in batch}
        assert batch.progress.spent == Decimal("0.70")
    assert found["a"].cost is None
    assert found["a"].result is not None
    assert found["a"].result.cost is None
    assert (await rows_of(path))["a"].cost == Decimal("0.35")
    async with batch_of(service, jobs("c"), max_cost=1, journal=path) as batch:
        assert isinstance((await anext(batch)).error, BatchStopped)
    assert "c" not in service.runs


async def test_a_task_that_is_stopped_after_all_counts(tmp_path: Path, databases: list[Database]) -> None:
    """It succeeded before it could be cancelled: what it cost is in the journal, told or not."""
    service, path = Service(), tmp_path / "a.db"
    service.fates["a"] = Fate(cost=None)
    await outcomes(service, jobs("b"), journal=path)
    async with batch_of(service, jobs("a"), journal=path, stop_on_exit="stop") as batch:
        await anyio.sleep(20)
        next(made for made in service.made.values() if made.inputs["prompt"] == "a").born -= 60
    assert (await rows_of(path))["a"].cost == batch.progress.spent - Decimal("0.35") == Decimal("0.35")


# -- taking up what is left ------------------------------------------------------------------------------


def begun(service: Service, prompt: str = "a", ago: float = 300.0, **fate: Any) -> Made:
    """Return a task that the service has from before."""
    service.fates[prompt] = Fate(**fate)
    made = service._accept({"prompt": prompt})
    made.born -= ago
    made.created -= ago
    return made


def meant(key: str = "a", ago: float = 300.0, **inputs: Any) -> Intended:
    """Return the intent of a Run that left some time ago."""
    given = inputs or {"prompt": key}
    sent_at = time.time() - ago
    return Intended(key, given, RunFingerprint.of(MODEL, given, sent_at, sent_at + 85.0))


async def written(path: Path, *steps: Step) -> None:
    """Write a journal as an earlier process would have left it."""
    async with await SQLiteJournal.open(path) as journal:
        for step in steps:
            await journal.record(step)


async def test_intended_and_found(tmp_path: Path, databases: list[Database]) -> None:
    """The program ended between the Run and its record."""
    service, path = Service(), tmp_path / "a.db"
    begun(service)
    await written(path, meant())
    outcome = await alone(service, journal=path)
    assert outcome.succeeded
    assert outcome.job is None
    assert outcome.attempts == 1
    assert service.counts["Run"] == 0


async def test_intended_lately_and_slow_to_appear(tmp_path: Path, databases: list[Database]) -> None:
    """A request that the network holds lands after the resume, which waits until none can."""
    service, path = Service(), tmp_path / "a.db"
    begun(service, ago=4.0)
    usual, start = service.handlers["Task/List"], anyio.current_time()
    service.handlers["Task/List"] = lambda payload: (
        usual(payload) if anyio.current_time() > start + 50 else ok(tasklist=[])
    )
    await written(path, meant(ago=5.0))
    assert (await alone(service, journal=path)).succeeded
    assert service.counts["Run"] == 0
    assert anyio.current_time() - start > 79.0


async def test_a_run_is_as_old_as_its_turn(
    tmp_path: Path, databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age counts from when it leaves, however long it waited for others that were under way."""
    service, path, left = Service(), tmp_path / "a.db", dict[str, float]()
    usual = service.handlers["Run"]

    def run(inputs: dict[str, Any]) -> Any:
        left[inputs["prompt"]] = anyio.current_time()
        return usual(inputs)

    service.handlers["Run"] = run
    monkeypatch.setattr("wiro_async._jobs.submit.time", SimpleNamespace(time=anyio.current_time))
    async with (
        client(service, polling=RARELY, limits=Limits(max_in_flight=1)) as own,
        own.batch(jobs(*"abcdefgh"), model=MODEL, concurrency=4, journal=path) as batch,
    ):
        # Four run, and end together: the next four are let through at once.
        await anyio.sleep(30)
        service.delays["Run"] = 20.0
        await batch.wait()
    rows = await rows_of(path)
    # No two have the same time; virtual time alone would give them one.
    assert {key: row.fingerprint.sent_at for key, row in rows.items()} == pytest.approx(left, abs=1e-4)
    assert len({row.fingerprint.sent_at for row in rows.values()}) == 8
    assert max(left.values()) - min(left.values()) >= 60 + 3 * 20


async def test_intended_and_absent(tmp_path: Path, databases: list[Database]) -> None:
    """The program ended before the Run."""
    service, path = Service(), tmp_path / "a.db"
    await written(path, meant())
    assert (await alone(service, journal=path)).succeeded
    assert service.runs == {"a": 1}


async def test_intended_and_the_list_cannot_be_read(tmp_path: Path, databases: list[Database]) -> None:
    """Nobody knows; so it is looked for again by the next batch, and not sent before."""
    service, path = Service(), tmp_path / "a.db"
    usual = service.handlers["Task/List"]
    service.handlers["Task/List"] = no(0, "database is down")
    await written(path, meant())
    outcome = await alone(service, journal=path)
    assert isinstance(outcome.error, SubmissionUnknown)
    assert not outcome.error.absent
    assert await states_of(path) == {"a": "intended"}
    service.handlers["Task/List"] = usual
    assert (await alone(service, journal=path)).succeeded
    assert service.runs == {"a": 1}


async def test_equal_intents_are_not_mixed_up(tmp_path: Path, databases: list[Database]) -> None:
    """Three equal Runs may have left and two have: two are found, and one is sent."""
    service, path = Service(), tmp_path / "a.db"
    begun(service)
    begun(service)
    await written(
        path,
        *(meant(key, prompt="a") for key in "xyz"),
    )
    found = await outcomes(service, journal=path)
    assert all(outcome.succeeded for outcome in found.values())
    assert service.runs == {"a": 3}
    assert service.counts["Run"] == 1
    assert len({outcome.task_id for outcome in found.values()}) == 3


async def test_a_task_of_the_journal_is_nobody_elses(tmp_path: Path, databases: list[Database]) -> None:
    """An equal job's task, which the journal knows, is not taken for the lost one."""
    service, path = Service(), tmp_path / "a.db"
    begun(service)

    await written(
        path,
        meant("x", prompt="a"),
        Accepted("x", "2221"),
        meant("y", prompt="a"),
    )
    found = await outcomes(service, journal=path)
    assert found["x"].task_id == "2221"
    assert found["y"].task_id == "2222"


async def test_many_intents_are_looked_for_at_a_time(tmp_path: Path, databases: list[Database]) -> None:
    """Each that just left takes half a minute to be proved absent; eight go together."""
    service, path = Service(limit=100), tmp_path / "a.db"
    keys = [f"k{number}" for number in range(16)]
    await written(
        path,
        *(meant(key, ago=0.0, prompt=key) for key in keys),
    )
    start = anyio.current_time()
    found = await outcomes(service, journal=path)
    assert all(outcome.succeeded for outcome in found.values())
    assert set(service.runs.values()) == {1}
    assert anyio.current_time() - start < 2 * 30 + 200


async def test_running(tmp_path: Path, databases: list[Database]) -> None:
    """Its task is waited for; it holds a slot and money."""
    service, path = Service(), tmp_path / "a.db"
    begun(service, ago=0.0)
    await written(
        path,
        meant(),
        Accepted("a", "2221", Secret("token-2221")),
    )
    async with batch_of(service, jobs("b"), journal=path, concurrency=1) as batch:
        await anyio.sleep(30)
        assert batch.progress.running == 1
        assert batch.progress.waiting == 1
        found = {outcome.key: outcome async for outcome in batch}
    assert found["a"].succeeded
    assert found["b"].succeeded
    assert service.runs == {"a": 1, "b": 1}


async def test_running_and_failed_since(tmp_path: Path, databases: list[Database]) -> None:
    """It is run again, if asked for."""
    service, path = Service(), tmp_path / "a.db"
    begun(service, pexit="1", cost="0", reason="no face")
    await written(path, meant(), Accepted("a", "2221"))
    service.fates["a"] = Fate()
    outcome = await alone(service, journal=path, retry_failed=1, canary=1)
    assert outcome.succeeded
    assert outcome.attempts == 2
    assert service.counts["Run"] == 1


async def test_running_and_forgotten_by_the_service(tmp_path: Path, databases: list[Database]) -> None:
    """The outcome says so; the others go on, however many of these there are."""
    service, path = Service(), tmp_path / "a.db"
    steps: list[Step] = []
    for number in range(25):
        steps.append(meant(f"k{number}"))
        steps.append(Accepted(f"k{number}", f"9k{number}"))
    await written(path, *steps)
    found = await outcomes(service, jobs("b"), journal=path)
    assert sum(isinstance(outcome.error, TaskNotFound) for outcome in found.values()) == 25
    assert found["b"].succeeded


async def saved(folder: Path, name: str, content: bytes = CLIP) -> tuple[str, int, str]:
    """Write a clip, and return what the journal says of it."""

    def write() -> tuple[str, int, str]:
        path = folder / name
        path.write_bytes(content)
        return str(path), len(content), hashlib.sha256(content).hexdigest()

    return await anyio.to_thread.run_sync(write)


def finished(task_id: str = "2221", outputs: int = 2) -> list[Step]:
    """Return the steps to a job whose task has ended."""
    notes = tuple(JournalFile(n, f"{n}.mp4", f"https://cdn1.wiro.ai/x/{n}.mp4") for n in range(outputs))
    return [
        meant(),
        Accepted("a", task_id),
        Ended("a", "succeeded", time.time(), Decimal("0.35"), outputs=notes),
    ]


async def test_ended_and_all_is_there(tmp_path: Path, databases: list[Database]) -> None:
    """Nothing is asked for; where wanted, the service's copies are deleted."""
    service, path = Service(), tmp_path / "a.db"
    begun(service, outputs=2)
    files = [await saved(tmp_path, f"{n}.mp4") for n in range(2)]
    await written(
        path,
        *finished(),
        *(Saved("a", n, *files[n], whole=True) for n in range(2)),
    )
    outcome = await alone(service, journal=path, download=tmp_path, delete_remote=True)
    assert outcome.succeeded
    assert [str(each) for each in outcome.paths] == [file[0] for file in files]
    assert (outcome.cost, outcome.task_id, outcome.result) == (Decimal("0.35"), "2221", None)
    assert service.deleted == ["token-2221"]
    assert not service.fetched
    assert await states_of(path) == {"a": "done"}


@pytest.mark.parametrize("content", [None, CLIP[:-1], CLIP[:-1] + b"x"])
async def test_ended_and_a_file_is_missing_or_damaged(
    content: bytes | None, tmp_path: Path, databases: list[Database]
) -> None:
    """That one is fetched, the other is not."""
    service, path = Service(), tmp_path / "a.db"
    begun(service, outputs=2)
    good, bad = [await saved(tmp_path, f"{n}.mp4") for n in range(2)]
    await written(
        path,
        *finished(),
        Saved("a", 0, *good),
        Saved("a", 1, *bad),
    )
    if content is None:
        await anyio.to_thread.run_sync(Path(bad[0]).unlink)
    else:
        await saved(tmp_path, "1.mp4", content)
    outcome = await alone(service, journal=path, download=tmp_path / "{key}_{n}{ext}")
    assert outcome.succeeded
    assert [each.name for each in outcome.paths] == ["0.mp4", "a_1.mp4"]
    assert set(service.fetched) == {"/cdn/2221/1.mp4"}
    assert outcome.result is not None


async def test_ended_and_nothing_is_there(tmp_path: Path, databases: list[Database]) -> None:
    """All is fetched; or, if it is not wanted any more, nothing."""
    for download in (tmp_path / "clips", None):
        service, path = Service(), tmp_path / f"{download is None}.db"
        begun(service, outputs=2)
        await written(path, *finished())
        outcome = await alone(service, journal=path, download=download)
        assert outcome.succeeded
        assert outcome.result is not None
        assert len(outcome.paths) == len(service.fetched) == (0 if download is None else 2)


@pytest.mark.parametrize("given", [(), jobs("a")])
async def test_done_and_files_are_missing(given: Any, tmp_path: Path, databases: list[Database]) -> None:
    """They were not wanted at first, or deleted since: they are fetched, and nothing is paid."""
    service, path = Service(), tmp_path / "a.db"
    await outcomes(service, jobs("a", "b"), journal=path)
    first = await outcomes(service, given, journal=path, download=tmp_path / "clips")
    assert sorted(first) == (["a"] if given else ["a", "b"])
    [clip] = first["a"].paths
    await anyio.to_thread.run_sync(clip.unlink)
    [again] = (await outcomes(service, given, journal=path, download=tmp_path / "clips")).values()
    assert (again.key, again.succeeded, again.paths) == ("a", True, (clip,))
    assert not await outcomes(service, given, journal=path, download=tmp_path / "clips")
    assert not await outcomes(service, given, journal=path)
    assert service.runs == {"a": 1, "b": 1}
    assert await states_of(path) == {"a": "done", "b": "done"}


async def test_done_and_the_service_has_no_files(tmp_path: Path, databases: list[Database]) -> None:
    """The outcome says so; the job stays done."""
    service, path = Service(), tmp_path / "a.db"
    await outcomes(service, jobs("a"), journal=path)
    next(iter(service.made.values())).fate.outputs = 0
    found = await outcomes(service, journal=path, download=tmp_path / "clips")
    assert isinstance(found["a"].error, DownloadError)
    assert await states_of(path) == {"a": "done"}


async def test_prices_are_asked_before_tasks_are_adopted(tmp_path: Path, databases: list[Database]) -> None:
    """Else the tasks of an earlier process would hold all the money, and nothing else could begin."""
    service, path = Service(), tmp_path / "a.db"
    async with batch_of(service, jobs("a"), journal=path):
        await anyio.sleep(5)
    priced(service, "0.35")
    async with batch_of(service, jobs("a", "b"), journal=path, max_cost=1) as batch:
        await anyio.sleep(5)
        assert batch.progress.running == 2
        assert batch.progress.reserved == Decimal("0.70")
        report = await batch.wait()
    assert report.complete
    assert report.progress.spent == Decimal("0.70")


async def test_ended_and_gone_at_the_service(tmp_path: Path, databases: list[Database]) -> None:
    """The outcome says so, and tells nothing of the Runs to come."""
    service, path = Service(), tmp_path / "a.db"
    await written(path, *finished("77"))
    found = await outcomes(service, jobs("b"), journal=path, download=tmp_path, breaker=1, canary=1)
    assert isinstance(found["a"].error, TaskNotFound)
    assert found["b"].succeeded
    assert (await states_of(path))["a"] == "ended"


async def test_unknown_and_found(tmp_path: Path, databases: list[Database]) -> None:
    """A list that lagged behind has it now."""
    service, path = Service(), tmp_path / "a.db"
    begun(service)
    await written(
        path,
        meant(),
        Doubted("a", "ReadTimeout"),
    )
    assert (await alone(service, journal=path)).succeeded
    assert service.counts["Run"] == 0


async def test_refused_before_and_accepted_now(tmp_path: Path, databases: list[Database]) -> None:
    """The reason may be gone."""
    service, path = Service(), tmp_path / "a.db"
    await written(
        path,
        meant(),
        Released("a", "InsufficientBalance", "no money"),
    )
    outcome = await alone(service, journal=path)
    assert outcome.succeeded
    assert outcome.attempts == 2


# -- files among the inputs ------------------------------------------------------------------------------


async def test_files_are_uploaded_once_and_again_found_after_a_resume(
    tmp_path: Path, databases: list[Database]
) -> None:
    """However many jobs use them, by path or as bytes, nested or not."""
    service, path = Service(limit=50), tmp_path / "a.db"
    image = tmp_path / "a.jpg"
    await anyio.to_thread.run_sync(image.write_bytes, b"jpeg")
    given = [
        *(job(f"p{number}", f"p{number}", image=image) for number in range(12)),
        job("bytes", "bytes", image=b"jpeg"),
        job("nested", "nested", images=[{"first": bytearray(b"jpeg")}, b"other"]),
    ]
    service.answers[""] = [no(98, "sign in to run this model")] * 14
    async with batch_of(service, given, journal=path, breaker=None) as batch:
        found = [outcome async for outcome in batch]
    assert all(isinstance(outcome.error, TermsNotAccepted) for outcome in found)
    again = await outcomes(service, journal=path)
    assert all(outcome.succeeded for outcome in again.values())
    assert service.uploads == 2
    sent = [made.inputs for made in service.made.values()]
    images = {str(inputs.get("image", "https://api.wiro.ai/v1/File/1")) for inputs in sent}
    assert images == {"https://api.wiro.ai/v1/File/1"}
    assert {"first": "https://api.wiro.ai/v1/File/1"} in next(
        inputs["images"] for inputs in sent if "images" in inputs
    )


async def test_bytes_whose_upload_is_gone(tmp_path: Path, databases: list[Database]) -> None:
    """No journal keeps them: the caller's own job brings them again, and without it the outcome says so."""
    service, path = Service(), tmp_path / "a.db"
    await written(
        path,
        meant("a", prompt="a", image=b"jpeg"),
        Released("a", "ServiceError", "busy"),
    )
    outcome = (await outcomes(service, journal=path))["a"]
    assert isinstance(outcome.error, InvalidInput)
    assert "'image' was 4 bytes" in str(outcome.error)
    found = await outcomes(service, [job("a", "a", image=b"jpeg")], journal=path)
    assert found["a"].succeeded
    assert found["a"].job is not None
    assert service.uploads == 1


async def test_uploads_go_ahead_of_their_turn() -> None:
    """A few jobs make ready while the first ones run, and not all that there are."""
    service = Service(limit=1)
    given = [job(f"p{number}", image=b"%d" % number) for number in range(30)]
    async with batch_of(service, given, concurrency=1) as batch:
        await anyio.sleep(50)
        assert service.uploads == 1 + 8
        batch.stop()
        await batch.wait()


async def test_an_upload_that_fails_costs_nothing() -> None:
    """No file, no Run."""
    service = Service()
    given = [job("a", "a", image=Path("/no/such/file")), *jobs("b")]
    found = await outcomes(service, given)
    assert isinstance(found["a"].error, InvalidInput)
    assert found["b"].succeeded
    assert service.runs == {"b": 1}


# -- outputs ---------------------------------------------------------------------------------------------


async def test_outputs_are_saved_while_others_run(tmp_path: Path, databases: list[Database]) -> None:
    """Each as its job ends, and the service's copies are deleted after that."""
    service, path = Service(), tmp_path / "a.db"
    service.fates["a"] = Fate(lasts=20.0, outputs=2)
    async with batch_of(
        service, jobs("a", "b"), journal=path, download=tmp_path / "clips", delete_remote=True
    ) as batch:
        outcome = await anext(batch)
        assert service.active == 1
        assert [each.name for each in outcome.paths] == ["a_2221_0.mp4", "a_2221_1.mp4"]
        assert service.deleted == ["token-2221"]
        await batch.wait()
    for each in outcome.paths:
        assert await anyio.to_thread.run_sync(each.read_bytes) == CLIP
    row = (await rows_of(path))["a"]
    assert [file.path for file in row.files] == [str(each) for each in outcome.paths]
    assert row.state == "done"


async def test_an_output_without_an_address_is_left_out(tmp_path: Path) -> None:
    """Language models answer in ``content``."""
    service = Service()
    usual = service.wire
    service.wire = lambda task: usual(task) | {"outputs": [{"content": {}}]}  # type: ignore[method-assign]
    outcome = await alone(service, download=tmp_path)
    assert outcome.succeeded
    assert outcome.paths == ()


async def test_an_output_that_is_not_what_it_says(tmp_path: Path, databases: list[Database]) -> None:
    """The job has failed, and its files are fetched again by the next batch; what is good is kept."""
    service, path = Service(), tmp_path / "a.db"
    service.fates["a"] = Fate(content=b"<html>sorry</html>")
    outcome = await alone(service, journal=path, download=tmp_path / "clips")
    assert isinstance(outcome.error, DownloadError)
    assert outcome.result is not None
    assert await states_of(path) == {"a": "ended"}
    service.made["2221"].fate.content = CLIP
    assert (await alone(service, journal=path, download=tmp_path / "clips")).succeeded
    assert service.runs["a"] == 1


async def test_copies_that_cannot_be_deleted_are_tried_again(
    tmp_path: Path, databases: list[Database]
) -> None:
    """The files are there, so the next batch does nothing but delete."""
    service, path = Service(), tmp_path / "a.db"
    usual = service.handlers["Task/InputOutputDelete"]
    service.handlers["Task/InputOutputDelete"] = no(1, "something is wrong")
    outcome = await alone(service, journal=path, download=tmp_path / "clips", delete_remote=True)
    assert isinstance(outcome.error, ServiceError)
    assert len(outcome.paths) == 1
    assert await states_of(path) == {"a": "ended"}
    service.handlers["Task/InputOutputDelete"] = usual
    assert (await alone(service, journal=path, download=tmp_path / "clips", delete_remote=True)).succeeded
    assert service.deleted == ["token-2221"]
    assert sum(service.fetched.values()) == 1


def refusing(number: int, name: str) -> Callable[..., int]:
    """Return an ``os.open`` that refuses to make files whose path has *name* in it."""
    make = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_CREAT and name in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return make(path, flags, *more)

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_folder_that_cannot_be_written_stops_the_batch(
    number: int, tmp_path: Path, databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is paid for; what was paid for is fetched when there is room again."""
    service, path = Service(limit=1), tmp_path / "a.db"
    folder = tmp_path / "clips"
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing(number, "clips"))
        async with batch_of(service, jobs("a", "b", "c"), journal=path, download=folder) as batch:
            report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "disk"
    assert 1 <= report.progress.failed == len(service.made) <= 2
    found = await outcomes(service, jobs("a", "b", "c"), journal=path, download=folder)
    assert all(outcome.succeeded for outcome in found.values())
    assert set(service.runs.values()) == {1}


async def test_a_path_of_one_job_that_cannot_be_written_is_its_own_affair(
    tmp_path: Path, databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on, and its files are fetched when its path can be written."""
    service, path = Service(), tmp_path / "a.db"
    template = f"{tmp_path}/clips/{{key}}/{{n}}{{ext}}"
    await anyio.to_thread.run_sync((tmp_path / "clips").mkdir)
    await anyio.to_thread.run_sync((tmp_path / "clips" / "b").write_bytes, b"in the way")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refusing(errno.EACCES, "/c/"))
        async with batch_of(service, jobs("a", "b", "c", "d"), journal=path, download=template) as batch:
            found = {outcome.key: outcome async for outcome in batch}
            assert batch.report.stopped is None
    assert {key for key, outcome in found.items() if outcome.succeeded} == {"a", "d"}
    assert isinstance(found["b"].error, InvalidInput)
    assert isinstance(found["c"].error, PermissionError)
    await anyio.to_thread.run_sync((tmp_path / "clips" / "b").unlink)
    found = await outcomes(service, journal=path, download=template)
    assert {key for key, outcome in found.items() if outcome.succeeded} == {"b", "c"}
    assert set(service.runs.values()) == {1}


async def test_what_is_not_certain_to_be_whole_is_not_deleted(
    tmp_path: Path, databases: list[Database], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor by the next batch, which finds it on the disk."""
    service, path = Service(), tmp_path / "a.db"
    service.fates["a"] = Fate(content=b"\xff\xd8\xff" + CLIP)
    service.handlers["Task/InputOutputDelete"] = no(1, "must not be asked")
    for _ in range(2):
        outcome = await alone(service, journal=path, download=tmp_path / "clips", delete_remote=True)
        assert outcome.succeeded
        assert [each.suffix for each in outcome.paths] == [".jpg"]
        assert "the service's copies of the outputs of the job 'a' stay" in caplog.text
        caplog.clear()
        assert (await rows_of(path))["a"].files[0].whole is False
        await anyio.to_thread.run_sync(_end_again, path)
    assert service.runs["a"] == 1


def _end_again(path: Path) -> None:
    """Have a journal say that its jobs' outputs may be missing, as a batch that was killed leaves it."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE jobs SET state = 'ended'")
    db.close()


async def test_left_while_downloading(tmp_path: Path) -> None:
    """Without a journal the finished task is in ``unclaimed``."""
    service = Service()
    service.missing = [404] * 100
    async with client(service) as own:
        async with own.batch(jobs("a"), model=MODEL, download=tmp_path):
            await anyio.sleep(70)
        assert [handle.id for handle in own.unclaimed] == ["2221"]


async def test_left_while_downloading_is_counted_once(tmp_path: Path, databases: list[Database]) -> None:
    """Its task has ended and is settled, so there is nothing to stop, by this batch or the next."""
    service, path = Service(), tmp_path / "a.db"
    service.missing = [404] * 100
    for seconds in (80, 10):
        async with batch_of(
            service, jobs("a"), journal=path, download=tmp_path, stop_on_exit="stop", max_cost=5
        ) as batch:
            await anyio.sleep(seconds)
            assert batch.progress.downloading == 1
        assert batch.progress.spent == Decimal("0.35")
        row = (await rows_of(path))["a"]
        assert (row.state, row.cost) == ("ended", Decimal("0.35"))
        service.missing = [404] * 100
    assert not {name for name in service.counts if name in ("Task/Cancel", "Task/Kill")}


async def test_a_task_that_cannot_be_stopped_is_left_to_the_next_batch(
    tmp_path: Path, databases: list[Database]
) -> None:
    """The service refuses, or takes longer than ``Limits.stop_timeout``."""
    for number, problem in enumerate((httpx.Response(401, json=no(None, "unknown key")), no(0, "busy"))):
        service, path = Service(), tmp_path / f"{number}.db"
        service.fates["a"] = Fate(lasts=500.0)
        service.handlers["Task/Cancel"] = service.handlers["Task/Kill"] = problem
        async with batch_of(service, jobs("a"), journal=path, stop_on_exit="stop"):
            await anyio.sleep(20)
        assert await states_of(path) == {"a": "running"}
        assert (await alone(service, journal=path)).succeeded
        assert service.counts["Run"] == 1


# -- what concerns all jobs ------------------------------------------------------------------------------


async def test_a_price_is_asked_for_once() -> None:
    """However many jobs get ready at the same time."""
    service = Service()
    service.delays["Tool/Detail"] = 5.0
    given = [job(f"p{number}", image=b"%d" % number) for number in range(6)]
    found = await outcomes(service, given, max_cost=10)
    assert all(outcome.succeeded for outcome in found.values())
    assert service.counts["Tool/Detail"] == 1


async def test_a_catalogue_that_refuses_the_key_stops_the_batch() -> None:
    """Nothing is uploaded or sent."""
    service = Service()
    service.handlers["Tool/Detail"] = httpx.Response(401, json=no(None, "unknown key"))
    async with batch_of(service, jobs("a", "b"), max_cost=1) as batch:
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "credentials"
    assert not service.made


async def test_a_run_whose_cost_nobody_knows_stops_a_batch_with_a_limit() -> None:
    """No price is known either; a minute after its end there is no charge yet, and nothing follows."""
    service = Service()
    service.fates |= {"a": Fate(cost="0"), "b": Fate(lasts=200.0)}
    async with batch_of(service, jobs("a", "b", "c"), max_cost=1) as batch:
        await anyio.sleep(118)
        moments = [(batch.report.stopped is None, batch.progress.running, batch.progress.waiting)]
        await anyio.sleep(40)
        moments += [(batch.report.stopped is None, batch.progress.running, batch.progress.waiting)]
        report = await batch.wait()
    assert moments == [(True, 1, 1), (False, 1, 0)], "one at a time, for a minute"
    assert report.stopped is not None
    assert report.stopped.reason == "unpriced"
    assert service.runs == {"a": 1, "b": 1}
    assert report.progress.spent == Decimal("0.70"), "what is not told counts as the highest charge"


async def test_a_job_that_waits_for_its_turn_when_the_batch_stops_is_not_sent() -> None:
    """It has a slot by then, and gives it back."""
    service = Service(limit=1)
    async with (
        client(service, polling=RARELY, limits=Limits(max_in_flight=1)) as own,
        anyio.create_task_group() as group,
    ):
        service.latency = 20.0
        group.start_soon(partial(own.upload, b"another call", name="a.jpg"))
        await anyio.sleep(1)
        async with own.batch(jobs("a"), model=MODEL) as batch:
            await anyio.sleep(5)
            assert batch.progress.submitting == 1
            batch.stop()
            outcome = await anext(batch)
            assert isinstance(outcome.error, BatchStopped)
        assert not service.counts["Run"]
        service.latency = 0.0
        await own.submit(MODEL, {"prompt": "b"})
    assert service.runs == {"b": 1}


async def test_a_rest_that_others_were_told_to_take_can_outlast_patience() -> None:
    """Who waits for a service that was not reached is told that, and not that there was no slot."""
    service = Service()
    slow = httpx.Response(429, headers={"retry-after": "60"}, json=no(None, "slow"))
    service.answers["a"] = [httpx.ConnectError("refused")]
    service.answers["b"] = [slow]
    async with client(service, polling=RARELY) as own, anyio.create_task_group() as group:
        group.start_soon(own.submit, MODEL, {"prompt": "b"})

        async def impatient() -> None:
            start = anyio.current_time()
            with pytest.raises(ConnectionFailed):
                await own.submit(MODEL, {"prompt": "a"}, slot_timeout=10)
            assert anyio.current_time() - start == pytest.approx(10, abs=1)

        group.start_soon(impatient)
    assert service.runs == {"b": 1}


async def test_an_intent_that_cannot_be_recorded_is_no_run(tmp_path: Path, databases: list[Database]) -> None:
    """The journal's disk is full before the first."""
    service = Service()
    async with batch_of(service, jobs("a", "b"), journal=tmp_path / "a.db") as batch:
        databases[0].fail = lambda sql: FULL if sql.startswith(("INSERT", "UPDATE")) else None
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "journal"
    assert not service.counts["Run"]


async def test_a_task_that_cannot_be_recorded_goes_on_in_memory(
    tmp_path: Path, databases: list[Database]
) -> None:
    """It is paid for; and no more Runs are made."""
    service = Service()
    usual = service.handlers["Run"]

    def run(inputs: dict[str, Any]) -> Any:
        databases[0].fail = lambda sql: FULL if sql.startswith(("INSERT", "UPDATE")) else None
        return usual(inputs)

    service.handlers["Run"] = run
    async with batch_of(service, jobs("a", "b"), journal=tmp_path / "a.db", concurrency=1) as batch:
        found = {outcome.key: outcome async for outcome in batch}
        assert batch.report.stopped is not None
        assert batch.report.stopped.reason == "journal"
    assert found["a"].succeeded
    assert service.runs == {"a": 1}


async def test_a_task_whose_end_is_called_back() -> None:
    """The receiver wakes whoever waits for it."""
    receiver = CallbackReceiver("https://host/callbacks", keys=[b"k" * 32])
    service = Service()
    async with client(service, watch="callback", polling=RARELY) as own:
        url = receiver.url_for("clip")
        handle = await own.submit(MODEL, {"prompt": "a"}, callback_url=url)
        assert str(service.calls[-1][1]["callbackUrl"]).startswith(str(url))
        assert (await handle.result()).cost == Decimal("0.35")
