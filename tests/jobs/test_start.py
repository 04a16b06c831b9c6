"""The start of a task over real sockets: false refusals, late records, pages from the edge, logs."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from tests.batches import MODEL, states_of
from tests.journals import rows_of
from wiro_async import (
    AuthenticationError,
    Client,
    Job,
    JobOutcome,
    Limits,
    Polling,
    SubmissionUnknown,
    TaskNotFound,
)
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Accepted, Intended, Released, Step
from wiro_async._protocol.matching import RunFingerprint
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox.faults import (
    Fault,
    FaultPlan,
    Foreign,
    Html,
    ListLag,
    NoTask,
    Refused,
    RotateKey,
    Status,
)

KEY, SECRET = "sandbox-key", "sandbox-secret"
POLLING = Polling(min_interval=0.03, max_interval=0.3, requests_per_second=500.0)
LIMITS = Limits(settle_timeout=0.5, request_timeout=2.0, send_window=1.0, margin=0.1)
"""A Run is quiet 3.6 s after its intent."""
BLIP = Refused(message="Project authorization is not valid.", status=401)

FALSE_REFUSALS: list[Fault] = [
    Refused(processed=True),
    Refused(processed=True, message="Request files could not be stored"),
    Refused(processed=True, code=12345, message="?"),
    Refused(processed=True, status=400),
    Refused(processed=True, status=409, code=97, message="Insufficient balance"),
    Status(408, processed=True),
    Status(425, processed=True),
    Status(499, processed=True),
    Html(403, processed=True),
    Html(401, processed=True),
    Html(404, processed=True),
]
TRUE_REFUSALS: list[tuple[Fault, str]] = [
    (Refused(message="Request parameter [prompt] required"), "InvalidInput"),
    (Refused(message="Error parsing url.", status=404), "ServiceError"),
    (Refused(message="x", code=97), "InsufficientBalance"),
    (Refused(message="x", code=98), "TermsNotAccepted"),
    (Refused(message="x", code=1), "ModelNotFound"),
    (BLIP, "AuthenticationError"),
]


def sandbox(plan: FaultPlan, **options: Any) -> Sandbox:
    return Sandbox(speed=200, render=False, balance=1000, faults=plan, **options)


def client(server: Sandbox, key: str = KEY, limits: Limits = LIMITS) -> Client:
    return Client(key, SECRET, base_url=server.base_url, watch="poll", polling=POLLING, limits=limits)


def inputs(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "inputImageFirstUrl": "https://example.org/a.jpg"}


def jobs(*keys: str) -> list[Job]:
    return [Job(inputs=inputs(key), key=key) for key in keys]


async def outcomes(server: Sandbox, path: Path, given: Any = (), **options: Any) -> dict[str, JobOutcome]:
    """Run a batch with a journal to its end, on a client of its own."""
    async with client(server) as own, own.batch(given, model=MODEL, journal=path, **options) as batch:
        return {outcome.key: outcome async for outcome in batch}


async def written(path: Path, *steps: Step) -> None:
    """Record what an earlier process saw."""
    async with await SQLiteJournal.open(path) as journal:
        await journal.record(*steps)


def intended(key: str) -> Intended:
    sent_at = time.time() - 5
    return Intended(key, inputs(key), RunFingerprint.of(MODEL, inputs(key), sent_at, sent_at + 1))


# -- a refusal is believed only in words that are known to be one ------------------------------------------


@pytest.mark.parametrize("fault", FALSE_REFUSALS, ids=repr)
async def test_a_refused_run_that_was_accepted_is_found(fault: Fault, tmp_path: Path) -> None:
    """By a single call and by a batch, although the list lags; each is paid for once."""
    plan = FaultPlan()
    plan.script("Run", fault, times=2)
    plan.script("Task/List", ListLag(5.0))
    async with sandbox(plan) as server:
        async with client(server) as own:
            result = await own.run(MODEL, inputs("single"))
        found = await outcomes(server, tmp_path / "a.db", jobs("batch"))
        assert result.task.parameters["prompt"] == "single"
        assert found["batch"].succeeded
        assert server.ledger()["runs"] == server.ledger()["paid"] == 2
    assert await states_of(tmp_path / "a.db") == {"batch": "done"}


@pytest.mark.parametrize("fault", [Refused(), Html(403), Status(409)], ids=repr)
async def test_a_run_that_may_have_been_accepted_is_not_sent_again_before_it_was_looked_for(
    fault: Fault,
) -> None:
    """It was not: whoever asks for that has it sent anew, and others can have its absence proved."""
    plan = FaultPlan()
    async with sandbox(plan) as server, client(server) as own:
        plan.script("Run", fault)
        with pytest.raises(SubmissionUnknown) as caught:
            await own.submit(MODEL, inputs("a"))
        with pytest.raises(SubmissionUnknown, match="so it does not exist"):
            await own.reconcile(caught.value)
        assert server.ledger()["runs"] == 0
        listed = plan.seen["Task/List"]
        plan.script("Run", fault)
        await own.submit(MODEL, inputs("a"), on_unknown="resubmit")
        assert plan.seen["Task/List"] > listed
        assert server.ledger()["runs"] == 1


@pytest.mark.parametrize(("fault", "kind"), TRUE_REFUSALS, ids=repr)
async def test_a_known_refusal_is_believed(fault: Fault, kind: str) -> None:
    """At once, without a look into the list."""
    plan = FaultPlan()
    plan.script("Run", fault)
    async with sandbox(plan) as server, client(server) as own:
        with pytest.raises(Exception, match=r"\w") as caught:
            await own.submit(MODEL, inputs("a"))
        assert type(caught.value).__name__ == kind
        assert "Task/List" not in plan.seen
        await own.submit(MODEL, inputs("a"))


@pytest.mark.parametrize("fault", [Status(429, retry_after=0), Html(429)], ids=repr)
async def test_429_means_that_a_run_was_not_taken(fault: Fault) -> None:
    """Whoever says so: it is sent again."""
    plan = FaultPlan()
    plan.script("Run", fault)
    async with sandbox(plan) as server, client(server) as own:
        await own.submit(MODEL, inputs("a"))
        assert server.ledger()["runs"] == 1
        assert "Task/List" not in plan.seen


async def test_a_refusal_that_names_a_task_is_that_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning, and without a search."""
    plan = FaultPlan()
    for status in (200, 500):
        plan.script("Run", Refused(processed=True, names_task=True, status=status))
    async with sandbox(plan) as server:
        async with client(server) as own:
            assert (await own.run(MODEL, inputs("single"))).task.outcome == "succeeded"
        found = await outcomes(server, tmp_path / "a.db", jobs("batch"))
        assert found["batch"].succeeded
        assert server.ledger()["runs"] == 2
        assert "Task/List" not in plan.seen
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [text for text in said if "Database connection lost" in text and "names task 2221" in text]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ServiceError", "Run: Database connection lost"),
        ("AuthenticationError", "Run: HTTP 403, no JSON object in the body (check the key and secret)"),
        ("InvalidInput", "Run: the service refused an input: Request files could not be stored"),
    ],
)
async def test_a_refusal_on_record_is_looked_into_before_the_job_runs_again(
    error: str, message: str, tmp_path: Path
) -> None:
    """An earlier version had believed it. One Run had been accepted, the other one had not."""
    path, plan = tmp_path / "a.db", FaultPlan()
    async with sandbox(plan) as server:
        async with client(server) as own:
            handle = await own.submit(MODEL, inputs("taken"))
        for key in ("taken", "not taken"):
            await written(path, intended(key), Released(key, error, message))
        found = await outcomes(server, path, jobs("not taken"))
        assert found["taken"].task_id == handle.id
        assert all(outcome.succeeded for outcome in found.values())
        assert server.ledger()["runs"] == server.ledger()["paid"] == 2


async def test_a_known_refusal_on_record_is_not_looked_into(tmp_path: Path) -> None:
    """No task came of it, so the job just runs again."""
    path, plan = tmp_path / "a.db", FaultPlan()
    refusals = {
        "a": ("InsufficientBalance", "Run: Insufficient balance"),
        "b": ("InvalidInput", "Run: the service refused an input: Request parameter [x] required"),
        "c": ("AuthenticationError", "Run: Project authorization is not valid."),
        "d": ("ServiceError", "Run: Error parsing url."),
    }
    for key, (error, message) in refusals.items():
        await written(path, intended(key), Released(key, error, message))
    async with sandbox(plan) as server:
        found = await outcomes(server, path)
        assert len(found) == 4
        assert all(outcome.succeeded for outcome in found.values())
        # The journal is compared with the list; the jobs are not looked for.
        assert plan.seen.get("Task/List", 0) < 4


async def test_a_refusal_on_record_that_cannot_be_looked_into_stays(tmp_path: Path) -> None:
    """Nothing is sent while the list cannot be read; the next resume looks again."""
    path, plan = tmp_path / "a.db", FaultPlan()
    await written(path, intended("a"), Released("a", "ServiceError", "Run: Database connection lost"))
    async with sandbox(plan) as server:
        plan.script("Task/List", Html(403), times=None)
        found = await outcomes(server, path)
        assert isinstance(found["a"].error, SubmissionUnknown)
        assert server.ledger()["runs"] == 0
        plan.clear()
        assert (await outcomes(server, path))["a"].succeeded


# -- the first poll knows nothing of the task --------------------------------------------------------------


@pytest.mark.parametrize("fault", [NoTask(), NoTask(empty=True)], ids=repr)
async def test_a_task_that_is_not_everywhere_yet(fault: Fault, tmp_path: Path) -> None:
    """It is looked for: by a single call, by a batch, and by a resume of a batch."""
    plan, path = FaultPlan(), tmp_path / "a.db"
    async with sandbox(plan) as server:
        async with client(server) as own:
            plan.script("Task/Detail", fault, times=3)
            assert (await own.run(MODEL, inputs("single"))).task.outcome == "succeeded"
            plan.script("Task/Detail", fault, times=3)
            handle = await own.submit(MODEL, inputs("resumed"))
            with pytest.raises(TaskNotFound) as caught:
                await handle.refresh()
            assert caught.value.passing
        assert handle.id is not None
        await written(path, intended("resumed"), Accepted("resumed", handle.id, handle.token))
        plan.script("Task/Detail", fault, times=3)
        found = await outcomes(server, path, jobs("batch"))
        assert found["resumed"].task_id == handle.id
        assert all(outcome.succeeded for outcome in found.values())
        assert server.ledger()["runs"] == 3


async def test_an_answer_that_names_no_task_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the Run's own task is found in the list, by a single call and by a batch."""
    monkeypatch.setattr("wiro_async._tasks.state.UNSEEN", 0.3)
    plan = FaultPlan()
    async with sandbox(plan) as server:
        async with client(server) as own:
            plan.script("Run", Foreign(invented=True))
            assert (await own.run(MODEL, inputs("single"))).task.parameters["prompt"] == "single"
            plan.script("Run", Foreign(invented=True))
            handle = await own.submit(MODEL, inputs("handle"))
            with pytest.raises(TaskNotFound) as caught:
                await handle.wait()
            assert caught.value.doubt is not None
            found = await own.reconcile(caught.value.doubt)
            assert (await found.wait()).parameters["prompt"] == "handle"
        plan.script("Run", Foreign(invented=True))
        assert (await outcomes(server, tmp_path / "a.db", jobs("batch")))["batch"].succeeded
        assert server.ledger()["paid"] == 3


@pytest.mark.parametrize("verb", ["cancel", "kill"])
@pytest.mark.parametrize("fault", [NoTask(), NoTask(empty=True)], ids=repr)
async def test_a_stop_that_shows_no_task(fault: Fault, verb: str) -> None:
    """The next poll tells what became of it."""
    plan = FaultPlan()
    plan.script(f"Task/{verb.title()}", fault)
    async with sandbox(plan) as server, client(server) as own:
        mark = "[sandbox:queue]" if verb == "cancel" else "[sandbox:hang]"
        handle = await own.submit(MODEL, inputs(mark))
        if verb == "kill":
            async for transition in handle:
                if transition.status == "task_start":
                    break
        assert (await getattr(handle, verb)()).outcome == "cancelled"


# -- pages from the edge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 408, 503])
async def test_a_page_from_the_edge_passes(status: int, tmp_path: Path) -> None:
    """It is no refusal, and no end: reads of all kinds go on."""
    plan, path = FaultPlan(), tmp_path / "a.db"
    async with sandbox(plan) as server:
        async with client(server) as own:
            handle = await own.submit(MODEL, inputs("single"))
            plan.script("Task/Detail", Html(status), times=4)
            assert (await handle.wait()).outcome == "succeeded"
            plan.script("Task/List", Html(status), times=2)
            assert [task.id async for task in own.list_tasks()] == [handle.id]
            plan.script("Tool/Detail", Html(status), times=2)
            assert (await own.get_model(MODEL)).slug == MODEL
        plan.script("Task/Detail", Html(status), times=4, skip=3)
        found = await outcomes(server, path, jobs(*"abcdef"))
        assert all(outcome.succeeded for outcome in found.values())
        assert server.ledger()["paid"] == 7


# -- credentials -------------------------------------------------------------------------------------------


@pytest.fixture
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for ten seconds; tests/http has the real ones, on virtual time."""
    monkeypatch.setattr("wiro_async._http.retry.REFUSALS", (0.01, 0.03, 0.06))


@pytest.mark.usefixtures("quick_refusals")
async def test_credentials_that_worked_are_asked_again(tmp_path: Path) -> None:
    """By reads and uploads: three refusals pass, a fourth one is believed."""
    plan, path = FaultPlan(), tmp_path / "a.db"
    async with sandbox(plan) as server:
        async with client(server) as own:
            handle = await own.submit(MODEL, inputs("single"))
            plan.script("Task/Detail", BLIP, times=3)
            assert (await handle.wait()).outcome == "succeeded"
            plan.script("File/Upload", BLIP, times=3)
            assert (await own.upload(b"\xff\xd8\xff")).url
            plan.script("Task/Detail", BLIP, times=4)
            with pytest.raises(AuthenticationError) as caught:
                await handle.refresh()
            assert not caught.value.passing
            plan.script("Task/Detail", BLIP)
            with pytest.raises(AuthenticationError):
                await handle.refresh()
            await handle.refresh()
        plan.script("Task/Detail", BLIP, times=2, skip=2)
        found = await outcomes(server, path, jobs(*"abc"))
        assert all(outcome.succeeded for outcome in found.values())


@pytest.mark.usefixtures("quick_refusals")
async def test_a_run_that_is_refused_for_a_moment_does_not_stop_the_batch(tmp_path: Path) -> None:
    """That one is refused at once, and no task came of it; the others go on, and a resume makes it good."""
    plan, path = FaultPlan(), tmp_path / "a.db"
    plan.script("Run", BLIP, skip=1)
    async with sandbox(plan) as server:
        async with client(server) as own:
            async with own.batch(jobs(*"abcd"), model=MODEL, journal=path, concurrency=1) as batch:
                found = {outcome.key: outcome.error async for outcome in batch}
            assert batch.report.stopped is None
        assert isinstance(error := found.pop("b"), AuthenticationError)
        assert error.passing
        assert set(found.values()) == {None}
        assert (await rows_of(path))["b"].state == "refused"
        assert (await outcomes(server, path))["b"].succeeded
        assert server.ledger()["paid"] == 4


@pytest.mark.usefixtures("quick_refusals")
@pytest.mark.parametrize("operation", ["Run", "Task/Detail"])
async def test_credentials_that_were_revoked_stop_the_batch(operation: str, tmp_path: Path) -> None:
    """After three more refusals, of a read or of Runs; jobs that did not run cost nothing."""
    plan, path = FaultPlan(), tmp_path / "a.db"
    plan.script(operation, RotateKey(), skip=2)
    async with sandbox(plan) as server, client(server) as own:
        async with own.batch(jobs(*map(str, range(30))), model=MODEL, journal=path, concurrency=1) as batch:
            report = await batch.wait()
        assert report.stopped is not None
        assert report.stopped.reason == "credentials"
        assert server.ledger()["runs"] <= 3
        assert plan.seen["Run"] <= 7


async def test_credentials_that_never_worked_are_refused_at_once(tmp_path: Path) -> None:
    """They stop a batch before its first Run: the catalogue is asked before."""
    plan = FaultPlan()
    async with sandbox(plan) as server, client(server, "another-key") as own:
        with pytest.raises(AuthenticationError):
            await own.get_model(MODEL)
        assert plan.seen == {"Tool/Detail": 1}
        with pytest.raises(AuthenticationError) as caught:
            await own.submit(MODEL, inputs("a"))
        assert not caught.value.passing
        async with own.batch(jobs(*"abc"), model=MODEL, journal=tmp_path / "a.db", concurrency=1) as batch:
            report = await batch.wait()
        assert report.stopped is not None
        assert report.stopped.reason == "credentials"
        assert set(plan.seen) == {"Tool/Detail"}


# -- logs --------------------------------------------------------------------------------------------------


async def test_long_logs_hide_no_task(tmp_path: Path) -> None:
    """Of 427 kB each, with brackets, commas and quotes; a page of them is asked for in halves."""
    plan = FaultPlan()
    async with sandbox(plan) as server:
        given = [
            Job(inputs=inputs(f"[sandbox:log=427000] {number}"), key=str(number)) for number in range(45)
        ]
        found = await outcomes(server, tmp_path / "a.db", given)
        assert all(outcome.succeeded for outcome in found.values())
        # Pages of 16 MB take their time.
        async with client(server, limits=Limits()) as own:
            assert len([task async for task in own.list_tasks()]) == 45
            # A lost Run's task is found behind them.
            plan.script("Run", Refused(processed=True))
            handle = await own.submit(MODEL, inputs("lost"))
            assert (await handle.wait()).outcome == "succeeded"
        assert server.ledger()["paid"] == 46
