"""A batch as its user sees it: many jobs, each paid for once, whatever becomes of some of them."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest

from tests.batches import MODEL, Databases, Fate, Service, batch_of, job, jobs, outcomes, states_of
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import client, no, ok
from tests.journals import Database
from tests.journals import error as sqlite_error
from wiro_async import (
    AuthenticationError,
    BatchFailure,
    BatchProgress,
    BatchStopped,
    Client,
    ClientUseError,
    Director,
    InsufficientBalance,
    InvalidInput,
    Job,
    JournalError,
    SubmissionUnknown,
    TaskFailed,
)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """No test leaves a journal open."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "wiro-journal"]


def endless(prompt: str = "p") -> Iterator[Job]:
    number = 0
    while True:
        yield job(f"{prompt}{number}", f"{prompt}{number}")
        number += 1


def unreadable(part: str) -> Callable[[str], Exception | None]:
    """Return what fails the statements that have this part."""

    def fail(sql: str) -> Exception | None:
        error = sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR, "disk I/O error")
        return error if part in sql else None

    return fail


async def used(own: Client) -> None:
    """Run a batch of one job without a journal, on a client that outlives it."""
    async with own.batch(jobs("a"), model=MODEL) as batch:
        await batch.wait()


# -- jobs in, outcomes out -------------------------------------------------------------------------------


async def test_jobs_become_outcomes() -> None:
    """One for each, with the job, its result and what it cost."""
    service = Service()
    given = jobs("a", "b", "c")
    found = await outcomes(service, given)
    assert [found[key].job for key in "abc"] == given
    for outcome in found.values():
        assert outcome.succeeded
        assert outcome.result is not None
        assert (outcome.attempts, outcome.cost) == (1, Decimal("0.35"))
        assert outcome.task_id == outcome.result.task.id
    assert service.runs == {"a": 1, "b": 1, "c": 1}


async def test_the_report_counts() -> None:
    """Jobs, money, and the commonest failures."""
    service = Service()
    service.fates["bad"] = Fate(pexit="1", cost="0", reason="no face in image 7")
    service.fates["worse"] = Fate(lasts=90.0, pexit="1", cost="0", reason="no face in image 8")
    async with batch_of(service, jobs("a", "bad", "worse")) as batch:
        report = await batch.wait()
    assert not report.complete
    assert report.stopped is None
    assert report.failures == (BatchFailure("TaskFailed", "no face in image 7", 2),)
    assert (report.progress.succeeded, report.progress.failed, report.progress.read) == (1, 2, 3)
    assert report.progress.total == 3
    assert report.progress.spent == Decimal("0.35")
    assert report.progress.reserved == 0
    assert report.journal == ""


async def test_a_batch_in_which_all_succeeded_is_complete(tmp_path: Path, databases: list[Database]) -> None:
    """Jobs that were done before count too."""
    path = tmp_path / "a.db"
    for read in (2, 2):
        async with batch_of(Service(), jobs("a", "b"), journal=path) as batch:
            report = await batch.wait()
        assert report.complete
        assert report.journal == str(path.resolve())
        assert report.progress.read == read
    assert report.progress.skipped == 2
    assert report.progress.spent == Decimal("0.70")


async def test_async_iterables_and_typed_inputs(tmp_path: Path) -> None:
    """Whatever yields jobs will do, and ``map`` makes them of inputs."""

    async def rows() -> AsyncIterator[Job]:
        for number in range(3):
            await anyio.sleep(1)
            yield Job(Director("https://host/a.jpg", f"waves {number}"))

    async def inputs() -> AsyncIterator[dict[str, str]]:
        for number in range(3):
            yield {"prompt": f"sand {number}"}

    service = Service()
    assert sorted(await outcomes(service, rows())) == ["0", "1", "2"]
    async with client(service) as own:
        for given in (inputs(), [{"prompt": "rocks"}]):
            async with own.map(MODEL, given, concurrency=2) as batch:
                assert (await batch.wait()).complete
    assert sum(service.runs.values()) == 7


async def test_a_job_that_fails_does_not_stop_the_others() -> None:
    """Whether the model, the service, the inputs or the job itself is to blame."""
    service = Service()
    service.fates["model"] = Fate(pexit="1", cost="0", reason="no face")
    service.answers["service"] = [no(0, "Request parameter [prompt] must be polite")]
    given = [
        *jobs("model", "service"),
        job("inputs", "inputs", image=object()),
        Job(inputs={"prompt": "x"}, key=""),
        Job(Director("ftp://host/a", "x"), key="typed"),
        *jobs("good"),
    ]
    found = await outcomes(service, given)
    kinds = {key: type(outcome.error).__name__ for key, outcome in found.items()}
    assert kinds == {
        "model": "TaskFailed",
        "service": "InvalidInput",
        "inputs": "InvalidInput",
        "3": "InvalidInput",
        "typed": "InvalidInput",
        "good": "NoneType",
    }
    assert found["model"].attempts == 1
    assert found["inputs"].attempts == 0


def invalid(read: list[Job]) -> Iterator[Job]:
    """Yield jobs without end that cost no Run, and note which were read."""
    while True:
        read.append(Job("nobody", {}, key=f"p{len(read)}"))
        yield read[-1]


async def test_outcomes_come_in_order_if_asked_for() -> None:
    """A slow first job holds the others back, and not more of them than there is room for."""
    service, read = Service(), list[Job]()
    service.fates["first"] = Fate(lasts=3000.0)
    given = itertools.chain(jobs("first"), invalid(read))
    async with batch_of(service, given, ordered=True, breaker=None) as batch:
        await anyio.sleep(2900)
        assert batch.progress.failed == len(read) == 1000
        assert batch.progress.running == 1
        keys = []
        async for outcome in batch:
            keys.append(outcome.key)
            if len(keys) == 20:
                batch.stop()
    assert keys == ["first", *(each.key for each in read)]


async def test_outcomes_that_nobody_takes_hold_the_batch_up() -> None:
    """Reading goes on when they are taken."""
    read = list[Job]()
    async with batch_of(Service(), invalid(read), breaker=None) as batch:
        for taken in (0, 0, 20):
            for _ in range(taken):
                await anext(batch)
            await anyio.sleep(1000)
            assert len(read) == 1000 + taken


async def test_downloads_that_are_slow_hold_the_batch_up(tmp_path: Path) -> None:
    """So that no more is paid for than can be fetched soon."""
    service = Service(limit=50)
    service.fetching = 25.0
    told: list[BatchProgress] = []
    async with batch_of(service, endless(), download=tmp_path, on_progress=told.append):
        await anyio.sleep(150)
    active = max(now.submitting + now.running for now in told)
    unfinished = max(now.submitting + now.running + now.downloading for now in told)
    # While 64 jobs download no Run is made, not even one that was refused before: only what runs comes to it.
    assert max(now.downloading for now in told) >= 64
    assert unfinished < 64 + active


async def test_what_follows_the_charges_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours there ends the batch, and is told at its end; the outcomes are there all the same."""

    async def fail(_pipeline: object, *, last: bool = False) -> None:
        if last:
            raise RuntimeError("a mistake")

    monkeypatch.setattr("wiro_async._jobs.pipeline.Pipeline.settle_charges", fail)
    got = []
    with pytest.raises(RuntimeError, match="a mistake"):
        async with batch_of(Service(), jobs("a", "b")) as batch:
            got += [outcome async for outcome in batch]
    assert batch.report.stopped is not None
    assert "charges could not be read" in batch.report.stopped.message
    assert batch.progress.succeeded == 2


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [False, True])
async def test_no_key_is_paid_twice_in_one_run(
    journal: bool, tmp_path: Path, databases: list[Database]
) -> None:
    """Neither while the first one runs nor after its end."""
    service = Service()
    options = {"journal": tmp_path / "a.db"} if journal else {}
    async with batch_of(service, [*jobs("a", "a"), *jobs("b", "a")], concurrency=1, **options) as batch:
        report = await batch.wait()
    assert service.runs == {"a": 1, "b": 1}
    assert (report.progress.skipped, report.progress.succeeded) == (2, 2)
    assert report.complete


@pytest.mark.parametrize("journal", [False, True])
async def test_equal_jobs_without_keys_are_several(
    journal: bool, tmp_path: Path, databases: list[Database]
) -> None:
    """Who wants three clips of one prompt gets three; of a resumed list none is paid for again."""
    service = Service()
    options = {"journal": tmp_path / "a.db"} if journal else {}
    given = [Job(inputs={"prompt": "a"})] * 3
    assert len(await outcomes(service, given, **options)) == 3
    await outcomes(service, given, **options)
    assert service.runs["a"] == (3 if journal else 6)


async def test_a_key_function_gives_the_keys(tmp_path: Path, databases: list[Database]) -> None:
    """Numbers become texts."""
    given = [job("a", "ignored"), job("b")]
    found = await outcomes(Service(), given, key=lambda each: ord(each.inputs["prompt"]))
    assert set(found) == {"97", "98"}


# -- what stops a batch ----------------------------------------------------------------------------------


async def test_no_money_stops_it_at_once(tmp_path: Path, databases: list[Database]) -> None:
    """Code 97: what runs is seen to its end, nothing more is sent, and a top-up goes on from there."""
    service = Service()
    service.answers["p7"] = [no(97, "Insufficient balance")]
    given = [job(f"p{number}", f"p{number}") for number in range(14)]
    async with batch_of(service, given, journal=tmp_path / "a.db") as batch:
        found = {outcome.key: outcome async for outcome in batch}
        stopped = batch.report.stopped
    assert stopped is not None
    assert stopped.reason == "balance"
    assert isinstance(found["p7"].error, InsufficientBalance)
    sent = service.counts["Run"]
    assert sent <= 12
    assert all(isinstance(each.error, BatchStopped | InsufficientBalance | None) for each in found.values())
    again = await outcomes(service, given, journal=tmp_path / "a.db")
    assert all(outcome.succeeded for outcome in again.values())
    assert service.runs == {f"p{number}": 1 for number in range(14)}


async def test_a_refused_key_stops_it(tmp_path: Path, databases: list[Database]) -> None:
    """Also where it is refused in the middle, with tasks that nobody can look at any more."""
    service = Service()
    good = dict(service.handlers)
    async with batch_of(service, endless(), journal=tmp_path / "a.db") as batch:
        async for outcome in batch:
            if outcome.succeeded:
                for call in ("Task/Detail", "Run"):
                    service.handlers[call] = httpx.Response(
                        401, json=no(None, "Project authorization failed")
                    )
            else:
                assert isinstance(outcome.error, AuthenticationError | BatchStopped)
        assert batch.report.stopped is not None
        assert batch.report.stopped.reason == "credentials"
    service.handlers = good
    assert all(outcome.succeeded for outcome in (await outcomes(service, journal=tmp_path / "a.db")).values())
    assert set((await states_of(tmp_path / "a.db")).values()) == {"done"}


async def test_the_first_failure_stops_it_if_asked_for() -> None:
    """``fail_fast``."""
    service = Service()
    service.fates["p3"] = Fate(lasts=10.0, pexit="1", cost="0", reason="no face")
    async with batch_of(service, endless(), fail_fast=True) as batch:
        found = [outcome async for outcome in batch]
        report = batch.report
    assert report.stopped is not None
    assert report.stopped.reason == "fail_fast"
    assert [outcome.key for outcome in found if isinstance(outcome.error, TaskFailed)] == ["p3"]
    assert len(service.made) < 40


async def test_equal_failures_in_a_row_stop_it() -> None:
    """The breaker: the next ones would fail alike."""
    service = Service(limit=2)
    service.handlers["Run"] = no(1, "prompt 1234 is too rude")
    async with batch_of(service, endless()) as batch:
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "breaker"
    assert service.counts["Run"] == 20
    assert report.failures[0].jobs == 20


async def test_refusals_that_may_be_none_are_not_asked_for_by_the_thousand() -> None:
    """Nobody knows what "too rude" means for the Run: each is looked for, and the next ones wait longer."""
    service = Service()
    service.handlers["Run"] = no(0, "prompt 1234 is too rude")
    async with batch_of(service, endless()) as batch:
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "breaker"
    assert service.counts["Run"] < 30
    assert report.progress.unknown == service.counts["Run"]


async def test_different_failures_do_not() -> None:
    """Nor does any number of them without a breaker, and of their reasons the first fifty are kept."""
    service = Service()
    given = [job(f"p{number}") for number in range(60)]
    for number in range(60):
        service.answers[f"p{number}"] = [
            no(1, "abcdefghijklmnopqrstuvwxyz"[number % 26] * (1 + number // 26))
        ]
    async with batch_of(service, given, breaker=None) as batch:
        report = await batch.wait()
    assert report.stopped is None
    assert report.progress.failed == 60
    assert len(report.failures) == 50


@pytest.mark.parametrize("answer", [None, no(0, "prompt is too rude")])
async def test_canaries_go_first(answer: Any) -> None:
    """Three of them; if one fails, nothing more is sent."""
    service = Service()
    service.answers["p2"] = [answer]
    async with batch_of(service, endless(), canary=3) as batch:
        await anyio.sleep(55)
        assert len(service.made) == (3 if answer is None else 2)
        await anyio.sleep(60)
        stopped = batch.report.stopped
        if answer is None:
            assert stopped is None
            assert len(service.made) > 3
        else:
            assert stopped is not None
            assert stopped.reason == "canary"


async def test_stop_is_heard_while_the_next_job_is_waited_for() -> None:
    """What runs is seen to its end; the caller's generator is closed."""
    closed = []

    async def slow() -> AsyncIterator[Job]:
        try:
            yield job("a", "a")
            await anyio.sleep_forever()
        finally:
            closed.append(anyio.current_time())

    service = Service()
    async with batch_of(service, slow()) as batch:
        await anyio.sleep(10)
        batch.stop()
        batch.stop()
        report = await batch.wait()
    assert closed
    assert report.progress.succeeded == 1
    assert report.stopped is not None
    assert report.stopped.reason == "stopped"
    assert batch.progress.waiting == 0


async def test_stopping_what_has_not_begun_does_nothing() -> None:
    """There is nothing to stop, and what begins later runs to its end."""
    service = Service()
    async with client(service) as caller:
        batch = caller.batch(jobs("a", "b"), model=MODEL)
        batch.stop()
        async with batch:
            report = await batch.wait()
    assert report.stopped is None
    assert (report.progress.succeeded, service.counts["Run"]) == (2, 2)


# -- money -----------------------------------------------------------------------------------------------


async def test_max_cost_is_not_passed() -> None:
    """With equal prices not by a cent, however many could run at a time."""
    service = Service()
    async with batch_of(service, endless(), max_cost="2.00") as batch:
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "max_cost"
    assert len(service.made) == 5
    assert report.progress.spent == Decimal("1.75")


async def test_the_catalogues_price_lets_several_begin_at_once() -> None:
    """What costs nobody knows what begins one by one; the model is looked up once, and only for a limit."""
    owner, project = MODEL.split("/")
    listed = {"slugowner": owner, "slugproject": project}
    at_once = {}
    for price in ([], [{"inputs": {}, "price": "0.35", "priceMethod": "cpr"}]):
        service = Service()
        service.handlers["Tool/Detail"] = ok(tool=[listed | {"dynamicprice": price}])
        async with batch_of(service, jobs(*"abcd"), max_cost="1.50") as batch:
            await anyio.sleep(30)
            at_once[bool(price)] = batch.progress.running
            report = await batch.wait()
        assert report.progress.spent == Decimal("1.40")
        assert service.counts["Tool/Detail"] == 1
    assert at_once == {False: 1, True: 4}
    service = Service()
    await outcomes(service, jobs("a"))
    assert service.counts["Tool/Detail"] == 0


async def test_known_keys_with_other_inputs_are_warned_of(
    tmp_path: Path, databases: list[Database], caplog: pytest.LogCaptureFixture
) -> None:
    """Once a batch, with their number."""
    service, path = Service(), tmp_path / "a.db"
    await outcomes(service, [job("a", "a"), job("b", "b")], journal=path)
    assert "other inputs" not in caplog.text
    await outcomes(service, [job("better", "a"), job("b", "b")], journal=path)
    assert "jobs with other inputs than the journal has under the same keys: 1;" in caplog.text
    assert service.counts["Run"] == 2


async def test_a_price_that_cannot_be_asked_is_learned(caplog: pytest.LogCaptureFixture) -> None:
    """A model that the catalogue does not show may be run all the same; without access nothing is."""
    service = Service()
    found = await outcomes(service, jobs("a"), max_cost=1)
    assert found["a"].error is None
    assert "learned from its runs" in caplog.text
    service = Service()
    service.handlers["Tool/Detail"] = httpx.Response(401, json=no(0, "Project authorization is not valid."))
    found = await outcomes(service, jobs("a", "b"), max_cost=1)
    assert isinstance(found["a"].error, AuthenticationError)
    assert not service.made


async def test_a_limit_holds_where_no_costs_are_told(tmp_path: Path, databases: list[Database]) -> None:
    """The catalogue's price counts in their place, at every resume; without one, a minute is given."""
    owner, project = MODEL.split("/")
    listed = {"slugowner": owner, "slugproject": project}
    made = {}
    for price in ("0.50", ""):
        service = Service()
        service.fates = {f"p{number}": Fate(cost=None) for number in range(9)}
        priced = {"approximatelycost": price} if price else {}
        service.handlers["Tool/Detail"] = ok(tool=[listed | priced])
        for _ in range(3 if price else 1):
            path = tmp_path / f"{price}.db"
            async with batch_of(service, endless(), max_cost=1, journal=path) as batch:
                report = await batch.wait()
            assert report.stopped is not None
            assert report.stopped.reason == ("max_cost" if price else "unpriced")
        made[price] = len(service.made), report.progress.spent
    assert made == {"0.50": (2, Decimal(1)), "": (2, Decimal(0))}
    assert "the service shows no charge for task" in str(report.stopped)
    # An hour later there is still no charge: nothing more is paid.
    await anyio.to_thread.run_sync(_an_hour_ago, path)
    async with batch_of(service, endless(), max_cost=1, journal=path) as batch:
        report = await batch.wait()
    assert report.stopped is not None
    assert (report.stopped.reason, len(service.made)) == ("unpriced", 2)


def _an_hour_ago(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE runs SET ended_at = ended_at - 3600")
    database.close()


async def test_the_journals_earlier_cost_counts(tmp_path: Path, databases: list[Database]) -> None:
    """The limit is on all of the journal's runs."""
    service = Service()
    for _ in range(2):
        async with batch_of(service, endless(), max_cost=1, journal=tmp_path / "a.db") as batch:
            await batch.wait()
    assert len(service.made) == 2
    assert batch.progress.spent == Decimal("0.70")


async def test_money_of_a_run_in_doubt_stays_set_aside() -> None:
    """Nothing that runs will free it, so the batch ends, and does not wait for ever."""
    service = Service()
    service.answers["p1"] = ["gone"]
    async with batch_of(service, endless(), max_cost="1.00", concurrency=1) as batch:
        found = {outcome.key: outcome async for outcome in batch}
        report = batch.report
    assert isinstance(found["p1"].error, SubmissionUnknown)
    assert report.stopped is not None
    assert report.stopped.reason == "max_cost"
    assert report.progress.unknown == 1
    assert report.progress.spent + report.progress.reserved <= 1
    assert len(service.made) == 1


async def test_prices_are_kept_in_the_journal(tmp_path: Path, databases: list[Database]) -> None:
    """The second batch knows what a run costs before its first."""
    service = Service()
    await outcomes(service, jobs("a"), journal=tmp_path / "a.db")
    async with batch_of(service, jobs("b", "c"), journal=tmp_path / "a.db", max_cost=10) as batch:
        await anyio.sleep(30)
        assert batch.progress.reserved == Decimal("0.70")
        await batch.wait()


# -- entering and leaving --------------------------------------------------------------------------------


async def test_a_batch_works_once(tmp_path: Path, databases: list[Database]) -> None:
    """It must be entered to be used, and only once."""
    async with client(Service()) as own:
        batch = own.batch(jobs("a"), model=MODEL)
        with pytest.raises(ClientUseError, match="has not begun"):
            await anext(batch)
        with pytest.raises(ClientUseError, match="has not begun"):
            _ = batch.progress
        async with batch:
            with pytest.raises(ClientUseError, match="used only once"):
                await batch.__aenter__()
            await batch.wait()
        with pytest.raises(ClientUseError, match="used only once"):
            await batch.__aenter__()


async def test_a_journal_that_cannot_be_opened_is_told_on_entering(tmp_path: Path) -> None:
    """Nothing was begun."""
    async with client(Service()) as own:
        with pytest.raises(JournalError):
            await own.batch(journal=tmp_path / "no" / "such" / "folder.db").__aenter__()


async def test_a_journal_that_cannot_be_read_is_closed(tmp_path: Path, databases: Databases) -> None:
    """Nobody else would close it."""
    databases.fail = unreadable("GROUP BY state")
    async with client(Service()) as own:
        with pytest.raises(JournalError):
            await own.batch(journal=tmp_path / "a.db").__aenter__()


async def test_leaving_early_loses_nothing(tmp_path: Path, databases: list[Database]) -> None:
    """The Runs on their way end, the running tasks are in the journal, and the next batch takes them up."""
    service = Service()
    service.delays["Run"] = 5.0
    path = tmp_path / "a.db"
    async with batch_of(service, endless(), journal=path) as batch:
        async for _ in batch:
            break
        assert batch.progress.submitting
        with pytest.raises(ClientUseError):
            await batch.__aenter__()
    left = await states_of(path)
    assert set(left.values()) <= {"running", "done"}
    assert len(left) == len(service.made)
    again = await outcomes(service, journal=path)
    assert all(outcome.succeeded and outcome.job is None for outcome in again.values())
    assert set((await states_of(path)).values()) == {"done"}
    assert set(service.runs.values()) == {1}


async def test_what_is_left_can_be_iterated_to_its_end() -> None:
    """The outcomes that nobody took are there, and then there is an end."""
    async with batch_of(Service(), jobs("a", "b", "c"), concurrency=3) as batch:
        await anyio.sleep(300)
    assert len([outcome async for outcome in batch]) == 3
    async with batch_of(Service(), endless()) as batch:
        pass
    assert [outcome async for outcome in batch] == []
    assert batch.report.stopped is not None


async def test_leaving_can_stop_what_runs(tmp_path: Path, databases: list[Database]) -> None:
    """``stop_on_exit``: the tasks are cancelled, and the journal knows it."""
    service = Service()
    path = tmp_path / "a.db"
    async with batch_of(service, endless(), journal=path, stop_on_exit="stop"):
        await anyio.sleep(30)
    assert service.active == 0
    states = await states_of(path)
    assert {states[prompt] for prompt in service.runs} == {"cancelled"}


async def test_tasks_that_were_stopped_can_be_made_again(tmp_path: Path, databases: list[Database]) -> None:
    """Who asks for failed jobs gets them too; who does not is told that the batch is not complete."""
    service, path = Service(), tmp_path / "a.db"
    async with batch_of(service, jobs("a"), journal=path, stop_on_exit="stop"):
        await anyio.sleep(20)
    for given, retries, complete in (
        (jobs("a"), 0, False),
        ((), 0, False),
        ((), 1, True),
        (jobs("a"), 0, True),
    ):
        async with batch_of(service, given, journal=path, retry_failed=retries) as batch:
            report = await batch.wait()
        assert report.complete == complete
        assert report.progress.failed_before == (not complete)
        assert report.progress.finished == report.progress.read == 1
    assert service.runs == {"a": 2}


async def test_a_report_stays_as_it_is() -> None:
    """The time after the batch is not its time."""
    async with batch_of(Service(), jobs("a")) as batch:
        await batch.wait()
    report = batch.report
    await anyio.sleep(100)
    assert batch.report == report


async def test_jobs_that_were_planned() -> None:
    """Those of a list are there again; an iterator's are gone, and the batch says so."""
    service = Service()

    async def inputs() -> AsyncIterator[dict[str, str]]:
        yield {"prompt": "b"}

    async with client(service) as own:
        batch = own.map(MODEL, [{"prompt": "a"}])
        await batch.plan()
        async with batch:
            assert (await batch.wait()).progress.succeeded == 1
        for given in (inputs(), iter([{"prompt": "b"}])):
            batch = own.map(MODEL, given)
            await batch.plan()
            with pytest.raises(ClientUseError, match="make a new batch"):
                async with batch:
                    pass
    assert service.runs == {"a": 1}


@pytest.mark.parametrize("stop_on_exit", ["leave", "stop"])
async def test_without_a_journal_the_client_keeps_what_is_left(stop_on_exit: Any) -> None:
    """Running tasks in ``unclaimed``, Runs in doubt in ``unresolved``."""
    service = Service()
    service.answers["p1"] = ["gone"]
    async with client(service) as own:
        async with own.batch(endless(), model=MODEL, stop_on_exit=stop_on_exit):
            await anyio.sleep(20)
        assert len(own.unresolved) == 1
        left = {handle.id for handle in own.unclaimed}
        assert left == (set(service.made) if stop_on_exit == "leave" else set())


@pytest.mark.parametrize("stop_on_exit", ["leave", "stop"])
async def test_a_task_that_cannot_be_stopped_is_kept(stop_on_exit: Any) -> None:
    """It may yet succeed, and be paid for."""
    service = Service()
    service.handlers["Task/Cancel"] = service.handlers["Task/Kill"] = no(0, "something is wrong")
    async with client(service) as own:
        async with own.batch(jobs("a"), model=MODEL, stop_on_exit=stop_on_exit):
            await anyio.sleep(20)
        assert [handle.id for handle in own.unclaimed] == ["2221"]


class Oops(Exception):
    pass


@pytest.mark.parametrize("problem", [Oops("mine"), KeyboardInterrupt(), ExceptionGroup("mine", [Oops()])])
async def test_the_users_exception_comes_out_as_it_is(
    problem: BaseException, tmp_path: Path, databases: list[Database]
) -> None:
    """No group around it, and the journal is closed."""

    async def use() -> None:
        async with batch_of(Service(), endless(), journal=tmp_path / "a.db"):
            await anyio.sleep(20)
            raise problem

    with pytest.raises(type(problem)) as caught:
        await use()
    assert caught.value is problem


def raising(at: int) -> Iterator[Job]:
    yield from jobs(*(f"p{number}" for number in range(at)))
    raise Oops("line 7")


async def raising_later(at: int) -> AsyncIterator[Job]:
    for each in jobs(*(f"p{number}" for number in range(at))):
        yield each
    raise Oops("line 7")


@pytest.mark.parametrize("make", [raising, raising_later])
async def test_a_generator_that_raises(make: Callable[[int], Any]) -> None:
    """All outcomes first, then its own exception."""
    async with batch_of(Service(), make(5)) as batch:
        for _ in range(5):
            assert (await anext(batch)).succeeded
        with pytest.raises(Oops, match="line 7"):
            await anext(batch)
        report = await batch.wait()
    assert report.stopped is not None
    assert "line 7" in report.stopped.message


async def test_nobody_needs_to_iterate_to_hear_of_it() -> None:
    """It is raised when the block is left, unless that is left with an exception of its own."""

    async def use(problem: Exception | None) -> None:
        async with batch_of(Service(), raising(2)):
            await anyio.sleep(1000)
            if problem is not None:
                raise problem

    with pytest.raises(Oops, match="line 7"):
        await use(None)
    with pytest.raises(KeyError):
        await use(KeyError())


async def test_a_key_function_that_raises() -> None:
    """So does the caller's mistake of giving no jobs at all."""
    with pytest.raises(ZeroDivisionError):
        await outcomes(Service(), jobs("a"), key=lambda _: 1 / 0)
    mistakes: list[Any] = [[{"prompt": "a"}], 5]
    with pytest.raises(InvalidInput, match=r"got a dict for a job; give Job"):
        await outcomes(Service(), mistakes[0])
    with pytest.raises(InvalidInput, match=r"jobs is a int; give a list of Job records"):
        await outcomes(Service(), mistakes[1])


class Trap(dict[str, object]):
    """A part of inputs that raises when it is looked at."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(size="s")
        self.error: BaseException = error

    def values(self) -> Any:
        raise self.error

    def items(self) -> Any:
        raise self.error


async def test_an_error_that_nobody_thought_of() -> None:
    """It is raised as it is, and nothing of the user's is cancelled."""
    async with batch_of(Service(), [job("a", odd=Trap(Oops("a bug")))]) as batch:
        await anyio.sleep(10)
        with pytest.raises(Oops, match="a bug"):
            await batch.wait()


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_error_that_nobody_thought_of_hides_no_outcome(ordered: bool) -> None:
    """The other jobs' outcomes are handed out before it is raised."""
    service = Service()
    # The first job looks at its inputs after the price is known, and lets the next one be read before.
    service.delays["Tool/Detail"] = 3.0
    given = [job("odd", "odd", image=b"jpeg", odd=Trap(Oops("a bug"))), *jobs("a")]
    async with batch_of(service, given, ordered=ordered, max_cost=10) as batch:
        assert isinstance((await anext(batch)).error, BatchStopped)
        with pytest.raises(Oops, match="a bug"):
            await anext(batch)


async def test_what_is_left_in_order_can_be_iterated_to_its_end() -> None:
    """A job that was cut off has no outcome, and hides none of those behind it."""
    service = Service()
    service.fates["a"] = Fate(lasts=1000.0)
    async with batch_of(service, jobs("a", "b", "c"), ordered=True) as batch:
        await anyio.sleep(300)
        assert batch.progress.succeeded == 2
    assert [outcome.key async for outcome in batch] == ["b", "c"]


async def test_an_error_that_nobody_thought_of_loses_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose Run was accepted is in ``unclaimed`` where no journal has it."""

    async def settle(*_: object) -> None:
        raise Oops("a bug")

    monkeypatch.setattr("wiro_async._jobs.pipeline.Pipeline._settle", settle)
    service = Service()
    async with client(service) as own:
        with pytest.raises(Oops, match="a bug"):
            await used(own)
        assert [handle.id for handle in own.unclaimed] == list(service.made)


# -- cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 0.5, 3.0, 8.0, 30.0, 61.0, 70.0])
async def test_an_outer_cancellation_leaves_nothing_behind(
    after: float, tmp_path: Path, databases: list[Database]
) -> None:
    """Anywhere in the block: the journal is closed and has everything, and the next batch ends it."""
    service = Service()
    service.delays["Run"] = 2.0
    service.fates["d"] = Fate(lasts=100.0)
    given = jobs("a", "b", "c", "d")
    path = tmp_path / "a.db"
    with anyio.move_on_after(after) as scope:
        await outcomes(service, given, journal=path, download=tmp_path / "clips")
    assert scope.cancelled_caught
    found = await outcomes(service, given, journal=path, download=tmp_path / "clips")
    assert all(outcome.succeeded for outcome in found.values())
    assert await states_of(path) == dict.fromkeys("abcd", "done")
    assert service.runs == dict.fromkeys("abcd", 1)
    assert len(await anyio.to_thread.run_sync(lambda: list((tmp_path / "clips").iterdir()))) == 4


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("after", [0.0, 0.5, 3.0, 8.0, 30.0, 61.0])
async def test_a_native_cancellation_leaves_nothing_behind(
    after: float, times: int, tmp_path: Path, databases: list[Database], anyio_backend_name: str
) -> None:
    """``task.cancel()``, once or again and again."""
    if anyio_backend_name != "asyncio":
        return
    service = Service()
    service.delays["Run"] = 2.0
    given = jobs("a", "b", "c", "d")
    path = tmp_path / "a.db"
    before = asyncio.all_tasks()
    task = asyncio.create_task(outcomes(service, given, journal=path))
    await anyio.sleep(after)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    found = await outcomes(service, given, journal=path)
    assert all(outcome.succeeded for outcome in found.values())
    assert service.runs == dict.fromkeys("abcd", 1)


@pytest.mark.parametrize(("after", "left"), [(1.0, (0, 1)), (3.0, (1, 0))])
async def test_a_native_cancellation_of_all_tasks_loses_no_run(
    after: float, left: tuple[int, int], anyio_backend_name: str
) -> None:
    """As at the end of ``asyncio.run``: without a journal the client keeps the task, or the doubt."""
    if anyio_backend_name != "asyncio":
        return
    service = Service()
    service.delays["Run"] = 2.0
    before = asyncio.all_tasks()
    async with client(service) as own:
        task = asyncio.create_task(used(own))
        await asyncio.sleep(after)
        for each in asyncio.all_tasks() - before:
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (len(own.unclaimed), len(own.unresolved)) == left
        assert len(service.made) == 1


async def test_an_answer_that_comes_to_a_cancelled_worker_is_kept(anyio_backend_name: str) -> None:
    """The worker alone is cancelled by asyncio, and its Run goes on to its answer."""
    if anyio_backend_name != "asyncio":
        return
    service = Service()
    service.delays["Run"] = 2.0
    async with client(service) as own:
        task = asyncio.create_task(used(own))
        await asyncio.sleep(1)
        for each in asyncio.all_tasks():
            if "Batch._work" in repr(each):
                each.cancel()
        await asyncio.wait({task})
        assert [handle.id for handle in own.unclaimed] == list(service.made)


async def stray() -> BaseException:
    """Return a cancellation that is over."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            caught = error
            raise
    return caught


@pytest.mark.parametrize("whose", ["iterable", "key", "on_progress", "input"])
async def test_a_cancellation_that_nobody_asked_for_is_an_error(whose: str) -> None:
    """The user's code raised it: it stops the batch, is told, and cancels nothing of the user's."""
    error = await stray()

    def fail(*_: object) -> Any:
        raise error

    async def given() -> AsyncIterator[Job]:
        yield job("a", odd=Trap(error)) if whose == "input" else job("a")
        if whose == "iterable":
            fail()

    options = {whose: fail} if whose in ("key", "on_progress") else {}
    async with batch_of(Service(), given(), **options) as batch:
        await anyio.sleep(100)
        with pytest.raises(
            RuntimeError, match=r"raised Cancelled(Error)?, and nothing was cancelled"
        ) as caught:
            await batch.wait()
        assert caught.value.__cause__ is error
        assert not batch.report.complete


async def test_a_cancellation_of_its_own_ends_a_stopped_iterable() -> None:
    """The batch has cancelled it, so what it makes of that is no matter."""
    error = await stray()

    async def given() -> AsyncIterator[Job]:
        yield job("a")
        try:
            await anyio.sleep_forever()
        finally:
            raise error

    async with batch_of(Service(), given()) as batch:
        await anyio.sleep(10)
        batch.stop()
        report = await batch.wait()
    assert report.progress.succeeded == 1


# -- a journal that breaks -------------------------------------------------------------------------------


def full_disk(nth: int) -> Callable[[str], Exception | None]:
    left = [nth]

    def fail(sql: str) -> Exception | None:
        if sql == "COMMIT":
            left[0] -= 1
        full = sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "database or disk is full")
        return full if sql == "COMMIT" and left[0] < 0 else None

    return fail


@pytest.mark.parametrize("nth", range(9))
async def test_a_full_disk_stops_it(nth: int, tmp_path: Path, databases: list[Database]) -> None:
    """At whatever write: nothing more is paid for, what runs is seen to its end, what was written stays."""
    service = Service()
    path = tmp_path / "a.db"
    given = jobs(*(f"p{number}" for number in range(12)))
    async with client(service) as own:
        async with own.batch(given, model=MODEL, journal=path) as batch:
            databases[0].fail = full_disk(nth)
            found = [outcome async for outcome in batch]
            stopped = batch.report.stopped
        assert stopped is not None
        assert stopped.reason == "journal"
    assert len(service.made) <= nth // 2 + 1
    for outcome in found:
        assert outcome.succeeded or isinstance(outcome.error, JournalError | BatchStopped)
    assert sum(outcome.succeeded for outcome in found) == len(service.made)
    again = await outcomes(service, given, journal=path)
    assert all(outcome.succeeded for outcome in again.values())
    assert set(service.runs.values()) == {1}
    assert set((await states_of(path)).values()) == {"done"}


async def test_a_journal_that_cannot_be_read_any_more_stops_it(tmp_path: Path, databases: Databases) -> None:
    """Without knowing what was done nothing more is begun."""
    path = tmp_path / "a.db"
    service = Service()
    await outcomes(service, jobs("a"), journal=path)

    databases.fail = unreadable("WHERE key = ?")
    async with batch_of(service, jobs("b"), journal=path) as batch:
        report = await batch.wait()
    assert report.stopped is not None
    assert report.stopped.reason == "journal"
    assert service.runs == {"a": 1}


# -- progress --------------------------------------------------------------------------------------------


async def test_progress_is_told_as_it_changes() -> None:
    """At once, not more than ten times a second, and the last word is how it ended."""
    told: list[tuple[float, BatchProgress]] = []
    async with batch_of(
        Service(), jobs("a", "b", "c"), on_progress=lambda now: told.append((anyio.current_time(), now))
    ) as batch:
        await batch.wait()
    assert told[0][1].finished == 0
    assert any(now.running == 3 for _, now in told)
    assert (told[-1][1].succeeded, told[-1][1].running) == (3, 0)
    times = [at for at, _ in told]
    assert all(later - earlier > 0.09 for earlier, later in itertools.pairwise(times))
    assert len(told) < 20


async def test_a_callback_that_raises_stops_the_batch() -> None:
    """Its exception comes out as it is; what runs is seen to its end."""
    service = Service()

    def tell(now: BatchProgress) -> None:
        if now.running:
            raise Oops("the display is gone")

    with pytest.raises(Oops, match="the display is gone"):
        await outcomes(service, endless(), on_progress=tell)
    assert service.made
    assert service.active == 0


async def test_the_total_gives_an_estimate_of_the_end() -> None:
    """When it is told beforehand, and again when all are read."""
    async with batch_of(Service(), jobs("a", "b"), total=10) as batch:
        await anyio.lowlevel.checkpoint()
        assert batch.progress.total == 10
        await batch.wait()
        assert (batch.progress.total, batch.progress.eta) == (2, 0.0)


# -- files ----------------------------------------------------------------------------------------------


async def test_outputs_that_a_template_gives_one_path_are_all_kept(tmp_path: Path) -> None:
    """Of one task or of two, before the service's copies are deleted."""
    service = Service()
    service.fates["a"] = Fate(outputs=12)
    options = {"download": f"{tmp_path}/{{key}}{{n}}{{ext}}", "delete_remote": True}
    found = await outcomes(service, [job("a", "a"), job("b", "a1")], **options)
    paths = [path for outcome in found.values() for path in outcome.paths]
    assert len(paths) == len(set(paths)) == 13
    assert await anyio.to_thread.run_sync(lambda: set(tmp_path.iterdir())) == set(paths)
    assert len(service.deleted) == 2
