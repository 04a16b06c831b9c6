"""When a batch makes no more Runs, and what it counts: slots, money, failures."""

from __future__ import annotations

import errno
import logging
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest

from tests.batches import MODEL, Fate, Service, batch_of, full, job, jobs, outcomes, priced, states_of
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import client
from tests.journals import Database
from wiro_async import (
    AuthenticationError,
    BatchStopped,
    DownloadError,
    InsufficientBalance,
    InvalidInput,
    JournalError,
    ServiceError,
    SubmissionUnknown,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    WiroError,
)
from wiro_async._batch.options import BatchSettings
from wiro_async._batch.progress import ProgressCounter
from wiro_async._batch.stopping import Coordinator
from wiro_async._jobs.budget import Budget
from wiro_async._jobs.job import JobState
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Doubted, Intended, UnchargedRun
from wiro_async._protocol.matching import RunFingerprint

ZERO = Decimal(0)


class Calls:
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.count: int = 0

    def __call__(self) -> None:
        self.count += 1


@attrs.define
class Desk:
    """A coordinator, and what it works with."""

    at: Coordinator
    budget: Budget
    counter: ProgressCounter
    stops: Calls
    changes: Calls

    @property
    def reason(self) -> str | None:
        """Why it has stopped (None: it has not)."""
        return None if self.at.stopped is None else self.at.stopped.reason

    def job(self, *, on_trial: bool = True) -> JobState:
        """Return a job that was read."""
        made = JobState(MODEL, {}, on_trial=on_trial)
        self.at.moved(made, "waiting")
        return made

    def begins(self, job: JobState) -> bool:
        """Let a job have a Run, if that is allowed; say whether it was."""
        if not self.at.may_start(job):
            return False
        self.at.moved(job, "submitting")
        job.through = True
        self.at.moved(job, "running")
        return True

    def begun(self) -> JobState:
        """Return a job that has a Run."""
        job = self.job()
        assert self.begins(job)
        return job


def desk(**options: Any) -> Desk:
    """Return a coordinator of a batch with these options."""
    settings = BatchSettings(**options)
    budget, counter = Budget(settings.max_cost), ProgressCounter(0.0)
    stops, changes = Calls(), Calls()
    at = Coordinator(settings, budget, counter, now=time.monotonic, change=changes, on_stop=stops)
    return Desk(at, budget, counter, stops, changes)


# -- what stops a batch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InsufficientBalance("no money"), "balance"),
        (AuthenticationError("no access"), "credentials"),
        (JournalError("no room", path="x", reason="full"), "journal"),
        (OSError(errno.ENOSPC, "no room"), "disk"),
        (OSError(errno.EDQUOT, "no room of yours"), "disk"),
        (OSError(errno.EROFS, "read-only"), "disk"),
        (OSError(errno.EIO, "i/o"), "disk"),
        (OSError("odd"), None),
        (PermissionError(errno.EACCES, "not yours"), None),
        (IsADirectoryError(errno.EISDIR, "a folder"), None),
        (OSError(errno.ENAMETOOLONG, "too long"), None),
        (JournalError("no", path="x", reason="conflict"), None),
        (TaskTimeout("too long"), None),
        (InvalidInput("no such file"), None),
        (TaskFailed("no face"), None),
        (TaskCancelled("cancelled"), None),
        (DownloadError("gone"), None),
        (ServiceError("busy"), None),
    ],
)
def test_what_concerns_all_jobs_stops_them(error: WiroError | OSError, reason: str | None) -> None:
    """What concerns one job does not; a timeout is an OSError to Python, and none to us."""
    given = desk()
    given.at.failed(given.job(), error)
    assert given.reason == reason
    given = desk()
    given.at.heed(error)
    assert given.reason == reason


def test_a_step_that_is_lost_stops_it() -> None:
    """Whatever was the matter: the next process would not know of it."""
    given = desk()
    given.at.broken(JournalError("no", path="x", reason="conflict"))
    assert given.reason == "journal"


def test_the_first_reason_counts(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, to the log and to the batch; whoever waits looks again."""
    given = desk()
    given.at.check()
    with caplog.at_level(logging.WARNING, "wiro_async"):
        given.at.stop("balance", "no money")
        given.at.stop("stopped", "stop() was called")
    assert len(caplog.records) == given.stops.count == 1
    assert given.changes.count == 2
    with pytest.raises(BatchStopped, match="no money") as caught:
        given.at.check()
    assert caught.value is not given.at.stopped
    assert caught.value.reason == "balance"


def test_that_it_has_stopped_is_no_failure() -> None:
    """Nor a reason to stop for another reason."""
    given = desk(fail_fast=True, breaker=1, canary=1)
    given.at.failed(given.begun(), BatchStopped("stopped", reason="balance"))
    assert given.reason is None


@pytest.mark.parametrize("error", [TaskCancelled("cancelled"), TaskFailed("no face"), ServiceError("busy")])
def test_the_first_failure_can_be_enough(error: WiroError) -> None:
    """A cancelled job too has brought nothing."""
    given = desk(fail_fast=True)
    given.at.failed(given.job(), error)
    assert given.reason == "fail_fast"


def test_failures_in_a_row() -> None:
    """Runs and jobs count alike, a success ends the row, and a failed run is not counted twice."""
    given = desk(breaker=4)
    failure = TaskFailed("failed", reason="no face in 123")
    for _ in range(3):
        given.at.run_failed(failure)
        given.at.failed(given.job(), failure)
    given.at.check()
    given.at.succeeded(given.job())
    for number in range(3):
        given.at.failed(given.job(), DownloadError(f"output {number} is gone"))
    given.at.check()
    given.at.failed(given.job(), DownloadError("output 3 is gone"))
    with pytest.raises(BatchStopped, match="4 failures in a row were identical: output 3 is gone") as caught:
        given.at.check()
    assert caught.value.reason == "breaker"


def test_what_an_earlier_process_paid_for_tells_nothing() -> None:
    """Its files may be gone, and the next run still succeeds."""
    given = desk(breaker=1, canary=1)
    given.at.failed(given.job(on_trial=False), DownloadError("gone"))
    assert given.reason is None


# -- who may start ---------------------------------------------------------------------------------------


def test_no_more_than_its_own_concurrency_at_a_time() -> None:
    """Whoever is being sent, or runs, counts; so does one that goes through again."""
    given = desk(concurrency=2)
    one, two = given.begun(), given.begun()
    assert given.at.active == 2
    assert not given.begins(given.job())
    given.at.moved(one, "downloading")
    given.at.moved(two, "waiting")
    assert given.at.active == 0
    assert given.begins(two)
    assert given.begins(given.job())
    assert not given.begins(given.job())


def test_canaries_hold_the_others_back() -> None:
    """Until all have succeeded, files and all; one that was cancelled makes room for another."""
    given = desk(canary=2)
    one, two, three, four = given.begun(), given.begun(), given.job(), given.job()
    assert not given.begins(three)
    given.at.failed(one, TaskCancelled("cancelled"))
    assert given.begins(three)
    given.at.succeeded(two)
    assert not given.begins(four)
    changes = given.changes.count
    given.at.succeeded(three)
    assert given.changes.count > changes
    assert given.begins(four)


def test_what_an_earlier_process_paid_for_is_no_canary() -> None:
    """That it succeeds does not tell whether new Runs do."""
    given = desk(canary=1)
    given.at.succeeded(given.job(on_trial=False))
    given.begun()
    assert not given.begins(given.job())


def test_a_canary_that_fails_ends_it() -> None:
    """Later failures are no canaries'."""
    given = desk(canary=1)
    given.at.failed(given.begun(), ServiceError("busy"))
    with pytest.raises(BatchStopped, match="one of the first 1 jobs failed: busy") as caught:
        given.at.check()
    assert caught.value.reason == "canary"
    given = desk(canary=1)
    given.at.succeeded(given.begun())
    given.at.failed(given.begun(), ServiceError("busy"))
    assert given.reason is None


def test_a_job_that_never_came_to_a_run_is_no_canary() -> None:
    """An invalid one beside the first tells nothing of them, and takes no place among them."""
    given = desk(canary=1)
    given.at.failed(given.job(), InvalidInput("no such input"))
    assert given.reason is None
    assert given.begins(given.job())


def test_a_canary_goes_through_again() -> None:
    """Where its Run was turned away it needs no second leave, and takes no second place."""
    given = desk(canary=2)
    one = given.begun()
    given.at.moved(one, "waiting")
    assert given.begins(one)
    assert given.begins(given.job())
    assert not given.begins(given.job())


# -- money -----------------------------------------------------------------------------------------------


def test_as_long_as_something_runs_money_may_come_back() -> None:
    """It may cost less than was set aside, so that the job waits."""
    given = desk(max_cost=1)
    assert given.budget.reserve(given.begun(), Decimal("0.90"))
    given.at.no_money(given.job(), Decimal("0.35"))
    assert given.reason is None


def test_where_nothing_runs_nobody_waits_for_money() -> None:
    """A limit that is too low for a single run ends the batch."""
    given = desk(max_cost="0.20")
    with pytest.raises(BatchStopped) as caught:
        given.at.no_money(given.job(), Decimal("0.50"))
    assert caught.value.reason == "max_cost"


@pytest.mark.parametrize(
    ("estimates", "reason", "why"),
    [
        (
            [None],
            "unpriced",
            "max_cost=2 cannot be guaranteed for another run: a run of unknown price is still in flight",
        ),
        ([None, "1.75"], "max_cost", "max_cost=2 is spent, or too little is left for another run"),
        (["1.75"], "max_cost", "max_cost=2 is spent, or too little is left for another run"),
    ],
)
def test_why_there_is_no_money(estimates: list[str | None], reason: str, why: str) -> None:
    """A run without a price in doubt is not the same as money that is spent."""
    given = desk(max_cost=Decimal("2.000"))
    for number, estimate in enumerate(estimates):
        given.budget.adopt(number, None if estimate is None else Decimal(estimate))
    with pytest.raises(BatchStopped) as caught:
        given.at.no_money(given.job(), Decimal("0.50"))
    assert caught.value.reason == reason
    assert f"{why}." in str(caught.value)


def test_what_nobody_can_count_stops_a_batch_with_a_limit() -> None:
    """Neither a price nor a charge is known."""
    given = desk(max_cost="1.00")
    given.at.uncounted(UnchargedRun("a", MODEL, {}, "7", 0.0, 0.0, None))
    assert given.reason == "unpriced"
    assert "a minute after its end the service shows no charge for task 7" in str(given.at.stopped)


# -- the same in a batch ---------------------------------------------------------------------------------


async def test_money_is_set_aside_and_settled() -> None:
    """By what runs of the model have cost; a failed one cost nothing, and what is not told is estimated."""
    service = Service()
    service.fates |= {"b": Fate(pexit="1", cost="0"), "c": Fate(cost=None)}
    async with batch_of(service, jobs(*"abcd"), max_cost=1) as batch:
        await anyio.sleep(30)
        assert (batch.progress.running, batch.progress.spent, batch.progress.reserved) == (1, ZERO, ZERO)
        found = [await anext(batch)]
        await anyio.sleep(30)
        assert (batch.progress.running, batch.progress.waiting) == (1, 1)
        assert batch.progress.spent == batch.progress.reserved == Decimal("0.35")
        found += [outcome async for outcome in batch]
        report = batch.report
    assert [(outcome.key, outcome.cost) for outcome in found] == [
        ("a", Decimal("0.35")), ("b", ZERO), ("c", None), ("d", None),
    ]  # fmt: skip
    assert (report.progress.spent, report.progress.reserved) == (Decimal("0.70"), ZERO)
    assert report.stopped is not None
    assert report.stopped.reason == "max_cost"
    assert service.runs == dict.fromkeys("abc", 1)


@pytest.mark.parametrize("answer", [full(8), httpx.ConnectError("down"), "other", "lost"])
async def test_money_comes_back_with_a_run_that_came_to_nothing(answer: object) -> None:
    """Turned away, or another's task: it is not counted twice, and nothing stays set aside."""
    service = priced(Service(), "0.90")
    service.answers["a"] = [answer]
    async with batch_of(service, jobs("a", "b"), max_cost="1.30") as batch:
        report = await batch.wait()
    assert report.stopped is None
    assert (report.progress.spent, report.progress.reserved) == (Decimal("0.70"), ZERO)
    assert (service.runs["a"], service.runs["b"]) == (1, 1)


async def test_tasks_of_an_earlier_process_count(tmp_path: Path, databases: list[Database]) -> None:
    """They hold slots and money; those in doubt hold money only, and that to the end."""
    service = priced(Service(), "0.50")
    service.fates["a"] = Fate(lasts=200.0)
    service.answers["b"] = ["gone"]
    async with batch_of(service, jobs("a", "b"), journal=tmp_path / "a.db"):
        await anyio.sleep(100)
    async with batch_of(service, jobs("c"), journal=tmp_path / "a.db", max_cost="1.20") as batch:
        await anyio.sleep(1)
        assert batch.progress.reserved == Decimal("1.00")
        assert batch.progress.running == 1
        found = {outcome.key: outcome.error async for outcome in batch}
    assert found["a"] is None
    assert isinstance(found["b"], SubmissionUnknown)
    assert isinstance(found["c"], BatchStopped)
    assert (batch.progress.spent, batch.progress.reserved) == (Decimal("0.35"), Decimal("0.50"))
    assert "c" not in service.runs


async def test_jobs_that_ask_for_a_price_together_ask_once() -> None:
    """Those that come while it is being asked wait for the answer."""
    service = priced(Service(), "0.35")
    service.delays["Tool/Detail"] = 5.0
    given = [job(key, key, image=key.encode()) for key in "abc"]
    assert len(await outcomes(service, given, max_cost=10)) == 3
    assert service.counts["Tool/Detail"] == 1


async def test_what_is_left_is_the_journals(tmp_path: Path, databases: list[Database]) -> None:
    """Tasks and doubts alike; only without a journal does the client keep them."""
    service = Service()
    service.answers["b"] = ["gone"]
    async with client(service) as own:
        async with own.batch(jobs("a", "b"), model=MODEL, journal=tmp_path / "a.db"):
            await anyio.sleep(20)
        assert not own.unclaimed
        assert not own.unresolved
    assert await states_of(tmp_path / "a.db") == {"a": "running", "b": "intended"}


@pytest.mark.parametrize(
    ("in_doubt", "ago", "polls"),
    [(False, 1000.0, 1), (True, 1000.0, 1), (False, 83.0, 2), (True, 0.0, 5), (False, 0.0, 6)],
)
async def test_how_often_a_run_of_an_earlier_process_is_searched_for(
    in_doubt: bool, ago: float, polls: int, tmp_path: Path, databases: list[Database]
) -> None:
    """At once, and until no request of that process can be on its way and the list has caught up.

    Once if that is long ago; and what was searched for before is not waited for until it is proved absent.
    """
    service = Service()
    fingerprint = RunFingerprint(MODEL, ("prompt",), "d" * 64, time.time() - ago, "", time.time() - ago + 85)
    async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
        await journal.record(Intended("a", {"prompt": "a"}, fingerprint))
        if in_doubt:
            await journal.record(Doubted("a", "ReadTimeout"))
    async with batch_of(service, journal=tmp_path / "a.db") as batch:
        report = await batch.wait()
    # Before another Run the list is read once more: the journal may be an older copy of itself.
    assert service.counts["Task/List"] == polls + (not in_doubt)
    # What was intended and is not there never left; what was in doubt stays so.
    assert (report.progress.unknown, report.progress.succeeded) == (int(in_doubt), int(not in_doubt))
