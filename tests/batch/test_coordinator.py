"""What the workers share: who may begin, what it may cost, and what stops all of them."""

from __future__ import annotations

import logging
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from wiro_async._batch.coordinator import Coordinator, Terms
from wiro_async._jobs.window import Window

from tests.batches import MODEL, Service
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import client, task
from tests.journals import Database
from wiro_async._batch.progress import ProgressCounter
from wiro_async._batch.source import Entry
from wiro_async._batch.stopping import Breaker, Canary
from wiro_async._client import Client
from wiro_async._errors import (
    AuthenticationError,
    BatchStopped,
    ConcurrencyLimited,
    DownloadError,
    InsufficientBalance,
    InvalidInput,
    JournalError,
    ServiceError,
    WiroError,
)
from wiro_async._jobs.budget import Budget, Prices
from wiro_async._jobs.limiter import Bell, ConcurrencyLimiter
from wiro_async._journal.journal import NullJournal
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._protocol.records import TaskKey, parse_task
from wiro_async._tasks.ends import TaskCancelled, TaskFailed
from wiro_async._tasks.handle import TaskTimeout
from wiro_async._types import Secret


class Stops:
    """JournalCounts how often a desk says that it stops."""

    def __init__(self) -> None:
        self.count: int = 0

    def __call__(self) -> None:
        self.count += 1


def desk(own: Client | None = None, journal: SQLiteJournal | None = None, **options: Any) -> Coordinator:
    """Return a desk with as much room, and as little else, as a test wants."""
    bell = Bell()
    window = Window(options.pop("ceiling", 10))
    window.size = 10.0
    return Coordinator(
        own or client(Service()),
        Terms(fail_fast=options.pop("fail_fast", False)),
        door=ConcurrencyLimiter(window, bell),
        bell=bell,
        journal=journal or NullJournal(),
        budget=Budget(options.pop("max_cost", None)),
        prices=Prices(),
        breaker=Breaker(options.pop("breaker", 20)),
        canary=Canary(options.pop("canary", 0)),
        tally=ProgressCounter(0.0),
        on_stop=options.pop("on_stop", lambda: None),
    )


def entry(at: Coordinator, key: str = "k", *, on_trial: bool = True) -> Entry:
    """Return a job that was read."""
    made = Entry(key, MODEL, {}, told={}, on_trial=on_trial)
    at.move(made, "waiting")
    return made


def ended(outcome: str = "succeeded", cost: str | None = "0.35") -> Any:
    fields = {} if cost is None else {"totalcost": cost}
    pexit = "0" if outcome == "succeeded" else "1"
    return parse_task(task("1", "task_postprocess_end", pexit=pexit, **fields))


# -- what stops a batch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InsufficientBalance("no money"), "balance"),
        (AuthenticationError("no access"), "credentials"),
        (JournalError("no room", path="x", reason="full"), "journal"),
        (OSError("no room"), "disk"),
        (JournalError("no", path="x", reason="conflict"), None),
        (TaskTimeout("too long"), None),
        (InvalidInput("no such file"), None),
        (TaskFailed("no face"), None),
        (TaskCancelled("cancelled"), None),
        (DownloadError("gone"), None),
        (ServiceError("busy"), None),
    ],
)
async def test_what_concerns_all_jobs_stops_them(error: WiroError | OSError, reason: str | None) -> None:
    """What concerns one job does not; a timeout is an OSError to Python, and none to us."""
    at = desk()
    at.failed(entry(at), error)
    assert (None if at.stopped is None else at.stopped.reason) == reason


async def test_the_first_reason_counts(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, to the log and to the batch."""
    stops = Stops()
    at = desk(on_stop=stops)
    at.check()
    with caplog.at_level(logging.WARNING, "wiro_async"):
        at.stop("balance", "no money")
        at.stop("stopped", "stop() was called")
    assert len(caplog.records) == stops.count == 1
    with pytest.raises(BatchStopped, match="no money") as caught:
        at.check()
    assert caught.value is not at.stopped
    assert caught.value.reason == "balance"


async def test_that_it_has_stopped_is_no_failure() -> None:
    """Nor a reason to stop for another reason."""
    at = desk(fail_fast=True, breaker=1, canary=1)
    at.failed(entry(at), BatchStopped("stopped", reason="balance"))
    assert at.stopped is None


@pytest.mark.parametrize("error", [TaskCancelled("cancelled"), TaskFailed("no face"), ServiceError("busy")])
async def test_the_first_failure_can_be_enough(error: WiroError) -> None:
    """A cancelled job too has brought nothing."""
    at = desk(fail_fast=True)
    at.failed(entry(at), error)
    assert at.stopped is not None
    assert at.stopped.reason == "fail_fast"


async def test_failures_in_a_row() -> None:
    """Runs and jobs count alike, a success ends the row, and a failed run is not counted twice."""
    at = desk(breaker=4)
    failure = TaskFailed("failed", reason="no face in 123")
    for _ in range(3):
        at.run_failed(failure)
        at.failed(entry(at), failure)
    at.check()
    at.succeeded(entry(at))
    for number in range(3):
        at.failed(entry(at), DownloadError(f"output {number} is gone"))
    at.check()
    at.failed(entry(at), DownloadError("output 3 is gone"))
    with pytest.raises(BatchStopped, match="4 failures in a row were alike: output 3 is gone"):
        at.check()


async def test_what_an_earlier_process_paid_for_tells_nothing() -> None:
    """Its files may be gone, and the next run still succeeds."""
    at = desk(breaker=1, canary=1)
    at.failed(entry(at, on_trial=False), DownloadError("gone"))
    assert at.stopped is None


# -- who may begin ---------------------------------------------------------------------------------------


async def begins(at: Coordinator, *entries: Entry) -> bool:
    """Whether all of these get through the door within a minute."""
    with anyio.move_on_after(60):
        for each in entries:
            await at.enter(each)
            at.accepted(each)
        return True
    return False


async def test_canaries_hold_the_others_back() -> None:
    """Until all have succeeded, files and all; one that was cancelled makes room for another."""
    at = desk(canary=2)
    one, two, three, four = (entry(at, key) for key in "abcd")
    assert await begins(at, one, two)
    assert not await begins(at, three)
    at.failed(one, TaskCancelled("cancelled"))
    assert await begins(at, three)
    at.succeeded(two)
    assert not await begins(at, four)
    at.succeeded(three)
    assert await begins(at, four)


async def test_a_canary_that_fails_ends_it() -> None:
    """Later failures are no canaries'."""
    at = desk(canary=1)
    one = entry(at)
    await at.enter(one)
    at.failed(one, ServiceError("busy"))
    with pytest.raises(BatchStopped, match="one of the first 1 jobs failed: busy"):
        at.check()
    at = desk(canary=1)
    at.succeeded(entry(at))
    at.failed(entry(at), ServiceError("busy"))
    assert at.stopped is None


async def test_a_job_that_never_came_to_a_run_is_no_canary() -> None:
    """An invalid one beside the first tells nothing of them, and takes no place among them."""
    at = desk(canary=1)
    at.failed(entry(at), InvalidInput("no such input"))
    assert at.stopped is None
    assert await begins(at, entry(at, "other"))


async def test_a_canary_goes_through_again() -> None:
    """Where its Run was turned away it needs no second leave."""
    at = desk(canary=1)
    one = entry(at)
    await at.enter(one)
    at.turned_away(one, ConcurrencyLimited("96", detail="", limit=3))
    assert await begins(at, one)
    assert not await begins(at, entry(at, "other"))


async def test_money_is_set_aside_and_settled() -> None:
    """By what runs of the model have cost; failed ones cost nothing, and of others the price is learned."""
    at = desk(max_cost=Decimal("1.00"))
    one, two, three = (entry(at, key) for key in "abc")
    assert await begins(at, one)
    assert not await begins(at, two)
    assert at.settle(one, ended()) == Decimal("0.35")
    at.over(ended())
    assert at.budget.spent == Decimal("0.35")
    assert await begins(at, two)
    assert at.budget.reserved == Decimal("0.35")
    assert at.settle(two, ended("failed", None)) is None
    at.over(ended("failed", None))
    assert (at.budget.spent, at.budget.reserved) == (Decimal("0.35"), Decimal(0))
    assert await begins(at, three)
    assert at.settle(three, ended(cost=None)) == Decimal("0.35")
    at.over(ended(cost=None))
    assert at.budget.spent == Decimal("0.70")
    assert at.door.active == 0


async def test_what_nobody_can_count_stops_a_batch_with_a_limit() -> None:
    """Neither a price nor a cost is known; without a limit that is no matter."""
    at = desk(max_cost=Decimal("1.00"))
    one = entry(at)
    assert await begins(at, one)
    assert at.settle(one, ended(cost=None)) is None
    with pytest.raises(BatchStopped, match="the service does not tell what task 1 cost") as caught:
        at.check()
    assert caught.value.reason == "unpriced"
    at = desk()
    assert at.settle(entry(at), ended(cost=None)) is None
    assert at.stopped is None


async def test_money_comes_back_with_a_run_that_came_to_nothing() -> None:
    """Turned away, or another's task; what nobody knows the end of keeps it."""
    at = desk(max_cost=Decimal("1.00"))
    at.prices.learn(MODEL, {}, Decimal("0.90"))
    one, two, three = (entry(at, key) for key in "abc")
    await at.enter(one)
    at.turned_away(one, pause=5.0)
    start = anyio.current_time()
    assert await begins(at, two)
    assert anyio.current_time() == pytest.approx(start + 5)
    at.disowned(two)
    assert at.door.active == 0
    assert await begins(at, three)
    at.over(None)
    with pytest.raises(BatchStopped, match="max_cost=1"):
        await at.enter(entry(at, "d"))
    assert at.budget.reserved == Decimal("0.90")


async def test_tasks_of_an_earlier_process_count() -> None:
    """They hold slots and money; those in doubt hold money only."""
    at = desk(max_cost=Decimal(2))
    at.prices.learn(MODEL, {}, Decimal("0.50"))
    at.adopt(entry(at, "a"))
    at.reserve(entry(at, "b"))
    assert at.budget.reserved == Decimal("1.00")
    assert at.door.active == 1
    assert at.tally.count("running") == 1


async def test_where_nothing_runs_nobody_waits_for_money() -> None:
    """A limit that is too low for a single run ends the batch."""
    at = desk(max_cost=Decimal("0.20"))
    at.prices.learn(MODEL, {}, Decimal("0.50"))
    with pytest.raises(BatchStopped) as caught:
        await at.enter(entry(at))
    assert caught.value.reason == "max_cost"


@pytest.mark.parametrize(
    ("estimates", "reason", "why"),
    [
        (
            [None],
            "unpriced",
            "max_cost=2 cannot be kept by one more run: a run of unknown price is still in flight",
        ),
        ([None, "1.75"], "max_cost", "max_cost=2 is spent, or would be by one more run"),
        (["1.75"], "max_cost", "max_cost=2 is spent, or would be by one more run"),
    ],
)
async def test_why_there_is_no_money(estimates: list[str | None], reason: str, why: str) -> None:
    """A run without a price in doubt is not the same as money that is spent."""
    at = desk(max_cost=Decimal("2.000"))
    for number, estimate in enumerate(estimates):
        at.budget.adopt(number, None if estimate is None else Decimal(estimate))
    at.prices.learn(MODEL, {}, Decimal("0.50"))
    with pytest.raises(BatchStopped) as caught:
        await at.enter(entry(at))
    assert caught.value.reason == reason
    assert f"{why}." in str(caught.value)


async def test_a_price_is_asked_once_and_only_for_a_limit() -> None:
    """A catalogue that does not answer is no failure."""
    service = Service()
    for limit, asked in ((None, 0), (Decimal(1), 1)):
        at = desk(client(service), max_cost=limit)
        for _ in range(2):
            await at.ask_the_price(MODEL)
        assert service.counts["Tool/Detail"] == asked


async def test_jobs_that_ask_for_a_price_together_ask_once() -> None:
    """Those that come while it is being asked wait for the answer."""
    service = Service()
    at = desk(client(service), max_cost=Decimal(1))
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(at.ask_the_price, MODEL)
    assert service.counts["Tool/Detail"] == 1


# -- what is left ----------------------------------------------------------------------------------------


async def test_tasks_that_are_left(tmp_path: Path, databases: list[Database]) -> None:
    """They are in the journal, or else in ``unclaimed``, unless they came to nothing."""
    async with client(service := Service()) as own:
        at = desk(own)
        handles = [await own.submit(MODEL, {"prompt": key}) for key in "abc"]
        service._kill({"taskid": handles[0].id})
        for handle in handles[:2]:
            await handle.refresh()
        for handle in handles:
            at.leave(handle)
        assert list(own.unclaimed) == handles[1:]
        async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
            desk(own, journal).leave(handles[1])
        assert list(own.unclaimed) == handles[1:]


async def test_doubts_that_are_left(tmp_path: Path, databases: list[Database]) -> None:
    """They are in the journal, or else in ``unresolved``."""
    fingerprint = RunFingerprint(MODEL, ("prompt",), "d" * 64, 1e12)
    async with client(Service()) as own:
        with anyio.move_on_after(5):
            await desk(own).look_for(fingerprint, "ReadTimeout")
        assert [error.cause for error in own.unresolved] == ["ReadTimeout"]
        async with await SQLiteJournal.open(tmp_path / "a.db") as journal:
            with anyio.move_on_after(5):
                await desk(own, journal).look_for(fingerprint, "ReadTimeout")
        assert len(own.unresolved) == 1


async def test_how_often_is_looked() -> None:
    """As long as the list may lag; but once for what was looked for before, and has been there long since."""
    service = Service()
    async with client(service) as own:
        at = desk(own)
        for again, ago, polls in ((False, 1000.0, 5), (True, 50.0, 5), (True, 1000.0, 1)):
            before = service.counts["Task/List"]
            await at.look_for(
                RunFingerprint(MODEL, (), "d" * 64, time.time() - ago), "ReadTimeout", again=again
            )
            assert service.counts["Task/List"] - before == polls


async def test_handles() -> None:
    """Of a task of an earlier process, and of one that was just accepted."""
    async with client(Service()) as own:
        at = desk(own)
        key = TaskKey("2221", Secret("token"))
        run = await at.prepare(MODEL, {"prompt": "a"})
        assert at.attach(key).model == ""
        assert at.handle(key, run).model == MODEL
