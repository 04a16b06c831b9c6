"""A plan: what a batch would do, what that would cost and take, and that finding it out does nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.fakes import FakeService, client, no, ok
from tests.journals import cancelled, failed, intended, succeeded
from wiro_async import (
    BatchPlan,
    ClientUseError,
    ConnectionFailed,
    InvalidInput,
    InvalidJob,
    Job,
    JournalError,
)
from wiro_async._batch import plan as plan_module
from wiro_async._batch.plan import Sums
from wiro_async._batch.source import JobSource
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Accepted, Done, Learned, Released

MODEL = "MiniMax/image-to-video-01-director"
TOOL = {
    "slugowner": "MiniMax",
    "slugproject": "image-to-video-01-director",
    "dynamicprice": '[{"inputs": {}, "price": "0.28", "priceMethod": "cpr"}]',
    "parameters": [
        {
            "items": [
                {"id": "prompt", "type": "text", "required": True},
                {"id": "n", "type": "range", "min": "1", "max": "4", "value": "1"},
            ]
        }
    ],
}
DURATIONS = {
    "version": 1,
    "models": {MODEL: {"queued": [], "ran": [50, 4.0]}, "o/m": "nonsense", "o/n": {"queued": [], "ran": []}},
}


def service(**handlers: Any) -> FakeService:
    return FakeService(**{"Tool_Detail": ok(tool=[TOOL]), **handlers})


async def plan_of(given: Any, fake: FakeService | None = None, **options: Any) -> BatchPlan:
    """Plan a batch of *given* jobs."""
    planning = {name: options.pop(name) for name in ("unique", "on_invalid") if name in options}
    async with client(fake or service(), check=True) as api:
        return await api.batch(given, model=MODEL, **options).plan(**planning)


def jobs(*prompts: str, **fields: Any) -> list[Job]:
    return [Job(inputs={"prompt": prompt}, **fields) for prompt in prompts]


async def begun(path: Path) -> None:
    """Make a journal with a job in each state that matters."""
    async with await SQLiteJournal.open(path) as journal:
        for key in ("running", "done", "failed", "cancelled", "refused"):
            await journal.record(intended(key, prompt=key))
        for key in ("running", "done", "failed", "cancelled"):
            await journal.record(Accepted(key, f"task-{key}"))
        await journal.record(Released("refused", "RateLimited", "later"))
        await journal.record(succeeded("done"), Done("done"))
        await journal.record(failed("failed"), cancelled("cancelled"))
        await journal.record(Learned("durations", DURATIONS))


# -- jobs ------------------------------------------------------------------------------------------------


async def test_a_plan_adds_up_what_would_be_sent() -> None:
    """Each model is looked up once, and nothing else is called."""
    fake = service()
    assert await plan_of(jobs("a", "b", "c"), fake, concurrency=2) == BatchPlan(
        jobs=3,
        estimated_cost=Decimal("0.84"),
        unpriced=0,
        price_sources=("the catalogue's price list (cpr)",),
        estimated_seconds=None,
    )
    assert fake.counts == {"Tool/Detail": 1}


async def test_no_jobs_cost_nothing_and_take_no_time() -> None:
    """Nothing is looked up for them."""
    fake = service()
    assert await plan_of([], fake) == BatchPlan(
        jobs=0, estimated_cost=Decimal(0), unpriced=0, estimated_seconds=0.0
    )
    assert not fake.calls


async def test_jobs_may_come_from_an_async_iterable() -> None:
    """As in the batch itself."""

    async def given() -> AsyncIterator[Job]:
        for job in jobs("a", "b"):
            yield job

    assert (await plan_of(given())).jobs == 2


async def test_a_batch_whose_iterator_was_planned_cannot_be_entered() -> None:
    """Its jobs are gone; those of a list are not."""
    async with client(service()) as api:
        batch = api.batch(iter(jobs("a")), model=MODEL)
        assert (await batch.plan()).jobs == 1
        with pytest.raises(ClientUseError, match="an iterator can be read only once"):
            await batch.__aenter__()


async def test_what_is_no_job_is_an_error() -> None:
    """As in the batch itself."""
    with pytest.raises(InvalidInput, match="for a job"):
        await plan_of([{"prompt": "x"}])


# -- jobs that cannot be sent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (Job(inputs={}), "'prompt' is missing"),
        (Job(inputs={"prompt": "x", "n": 9}), "'n' is 9; it must be between 1 and 4"),
        (Job("nomodel", {"prompt": "x"}), "is not owner/model"),
        (Job(inputs={"prompt": "x"}, key=""), "the key ''"),
    ],
)
async def test_a_job_that_cannot_be_sent_is_told_with_its_place(job: Job, reason: str) -> None:
    """The others are counted all the same."""
    plan = await plan_of([*jobs("a"), job, *jobs("c")])
    (invalid,) = plan.invalid
    assert invalid.where == "job 2"
    assert reason in invalid.reason
    assert (plan.jobs, plan.invalid_jobs) == (2, 1)


async def test_a_job_may_say_where_it_comes_from() -> None:
    """Whoever reads a file knows the line; it is told before the next job is read."""
    told: list[object] = []

    def given() -> Any:
        for line in (3, 5, 8):
            told.append(line)
            yield Job(inputs={"prompt": "x"} if line == 3 else {}, where=f"line {line}")

    plan = await plan_of(given(), on_invalid=told.append)
    reason = f"'prompt' is missing; {MODEL} needs a value for it"
    first, second = InvalidJob("line 5", reason), InvalidJob("line 8", reason)
    assert plan.invalid == (first, second)
    assert told == [3, 5, first, 8, second]


async def test_the_list_of_invalid_jobs_is_bounded() -> None:
    """A million of them fill no memory; all are counted."""
    plan = await plan_of(Job(inputs={}) for _ in range(1000 + 7))
    assert len(plan.invalid) == 1000
    assert plan.invalid[0].where == "job 1"
    assert plan.invalid_jobs == 1000 + 7


async def test_a_model_that_is_not_there_is_asked_for_once() -> None:
    """Its jobs are not checked, which is noted: the catalogue may not list all that can be run."""
    fake = service(Tool_Detail=no(1, "tool-not-accessible"))
    plan = await plan_of(jobs("a", "b"), fake)
    assert (plan.jobs, plan.unpriced, plan.invalid_jobs) == (2, 2, 0)
    assert plan.notes == (f"job 1: the inputs of {MODEL} are not checked: the catalogue has no such model",)
    assert fake.counts == {"Tool/Detail": 1}


async def test_a_plan_is_made_without_a_catalogue_that_is_not_reached() -> None:
    """It says so, as the batch goes on, too."""
    fake = service(Tool_Detail=ConnectionFailed("down", sent=False))
    plan = await plan_of(jobs("a", "b"), fake)
    assert (plan.jobs, plan.unpriced, plan.estimated_cost) == (2, 2, None)
    assert plan.notes == (
        f"job 1: the inputs of {MODEL} are not checked: the catalogue could not be read: down",
    )
    assert fake.counts == {"Tool/Detail": 3}


async def test_a_plan_without_the_check_knows_prices() -> None:
    """The inputs may be what they like."""
    plan = await plan_of([Job(inputs={"promt": "x"})], check=False)
    assert (plan.jobs, plan.invalid_jobs, plan.estimated_cost) == (1, 0, Decimal("0.28"))


async def test_a_plan_may_be_strict() -> None:
    """Then names that are not listed are mistakes."""
    plan = await plan_of([Job(inputs={"prompt": "x", "style": 1})], check="strict")
    (invalid,) = plan.invalid
    assert invalid.reason.startswith(f"'style' is not listed among the inputs of {MODEL}; leave it out")


async def test_a_key_that_came_before_is_a_duplicate() -> None:
    """The batch would leave it out."""
    plan = await plan_of(jobs("a", "b", key="k"))
    assert (plan.jobs, plan.duplicates, plan.invalid_jobs) == (1, 1, 0)


async def test_a_key_that_came_before_can_be_a_mistake() -> None:
    """For a file of jobs, whose keys are all meant to be different."""
    plan = await plan_of(jobs("ab", "ac", "b"), key=lambda job: job.inputs["prompt"][0], unique=True)
    assert plan.invalid == (InvalidJob("job 2", "the key 'a' is a duplicate; give each job a unique key"),)
    assert (plan.jobs, plan.duplicates) == (2, 0)


async def test_inputs_that_are_not_listed_are_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be undocumented; of many, the first are kept."""
    given = [
        Job(inputs={"prompt": "x", "style": 1}, where="line 2"),
        Job(inputs={"prompt": "x", "style": 2, "mood": 3}),
        Job(inputs={"style": 1}),
    ]
    plan = await plan_of(given)
    listed = f"is not listed among the inputs of {MODEL}, but is sent anyway"
    assert plan.notes == (f"line 2: 'style' {listed}", f"job 2: 'mood' {listed}")
    assert (plan.jobs, plan.invalid_jobs) == (2, 1)
    monkeypatch.setattr(plan_module, "MAX_NOTES", 1)
    assert len((await plan_of(given)).notes) == 1


# -- with a journal --------------------------------------------------------------------------------------


async def test_what_the_journal_has_is_not_sent_again(tmp_path: Path) -> None:
    """Running jobs are taken up, ended ones left out, refused ones sent; nothing is written."""
    path = tmp_path / "run.db"
    await begun(path)
    given = [Job(inputs={"prompt": key}, key=key) for key in ("running", "done", "failed", "new")]
    plan = await plan_of(given, journal=path, unique=True)
    assert (plan.taken_up, plan.ended, plan.failed) == (1, 2, 2)
    assert (plan.jobs, plan.duplicates, plan.failed_before, plan.invalid_jobs) == (2, 1, 1, 0)
    assert plan.estimated_seconds is not None
    assert plan.spent == succeeded("done").cost
    assert plan.changed == 0
    assert (await plan_of([], journal=path)).jobs == 1


async def test_a_known_key_with_other_inputs_is_noted(tmp_path: Path) -> None:
    """No new run is made for it."""
    path = tmp_path / "run.db"
    await begun(path)
    plan = await plan_of([Job(inputs={"prompt": "other"}, key="done")], journal=path)
    assert plan.changed == 1
    assert plan.notes[0].startswith("jobs with other inputs than the journal has under the same keys: 1;")


async def test_failed_jobs_are_sent_again_where_that_is_wanted(tmp_path: Path) -> None:
    """They do not count as failed then."""
    path = tmp_path / "run.db"
    await begun(path)
    plan = await plan_of([], journal=path, retry_failed=1)
    assert (plan.jobs, plan.failed) == (3, 0)


async def test_jobs_of_the_journal_are_sent_whatever_the_catalogue_says(tmp_path: Path) -> None:
    """They were taken before."""
    path = tmp_path / "run.db"
    await begun(path)
    plan = await plan_of([], service(Tool_Detail=no(1, "tool-not-accessible")), journal=path)
    assert (plan.jobs, plan.invalid_jobs, plan.unpriced, plan.estimated_cost) == (1, 0, 1, None)


async def test_jobs_without_keys_are_known_by_their_inputs(tmp_path: Path) -> None:
    """The second one is another job; all are done in the journal of the first time."""
    path = tmp_path / "run.db"
    assert (await plan_of(jobs("a", "a"), journal=path)).jobs == 2
    assert not path.exists()
    async with await SQLiteJournal.open(path) as journal:
        source = JobSource(jobs("a", "a"), journal, model=MODEL)
        keys = []
        while (entry := await source.next()) is not None:
            keys.append(entry.key)
        for key in keys:
            await journal.record(intended(key, prompt="a"))
            await journal.record(Accepted(key, f"task-{key}"))
            await journal.record(failed(key))
    plan = await plan_of(jobs("a", "a", "b"), journal=path)
    assert (plan.jobs, plan.duplicates, plan.failed_before, plan.ended) == (1, 0, 2, 2)


async def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing one is empty; any other trouble is told."""
    path = tmp_path / "run.db"
    async with await SQLiteJournal.open(path):
        with pytest.raises(JournalError) as caught:
            await plan_of([], journal=path)
    assert caught.value.reason == "locked"


async def test_durations_of_no_sense_are_no_durations(tmp_path: Path) -> None:
    """A journal may have been written by a later version."""
    path = tmp_path / "run.db"
    async with await SQLiteJournal.open(path) as journal:
        await journal.record(Learned("durations", {"models": 7}))
    assert (await plan_of(jobs("a"), journal=path)).estimated_seconds is None


# -- the sums --------------------------------------------------------------------------------------------


def test_jobs_of_unknown_price_and_duration() -> None:
    """Nothing is guessed where nothing is known."""
    sums = Sums()
    sums.add(None, None)
    assert (sums.jobs, sums.cost, sums.unpriced, sums.seconds(1)) == (1, None, 1, None)


@pytest.mark.parametrize(
    ("slots", "seconds"), [(1, 6000.0), (10, 600.0), (0.5, 6000.0), (1000, 60.0), (None, 60.0)]
)
def test_the_time_is_shared_by_those_who_run_at_a_time(slots: float | None, seconds: float) -> None:
    """A hundred jobs of a minute; it is never shorter than one of them."""
    sums = Sums()
    for _ in range(100):
        sums.add(None, 60.0)
    assert sums.seconds(slots) == seconds


costs = st.none() | st.decimals(0, 100, places=6)


@given(st.lists(st.tuples(costs, st.none() | st.floats(0, 1e4)), max_size=30), st.floats(1, 100))
@examples(200)
def test_the_estimates_are_bounded_by_the_jobs(
    jobs: list[tuple[Decimal | None, float | None]], slots: float
) -> None:
    """The cost is the exact sum of what is known; the time lies between the longest job and one by one."""
    sums = Sums()
    for cost, seconds in jobs:
        sums.add(cost, seconds)
    known = [cost for cost, _ in jobs if cost is not None]
    assert sums.unpriced == len(jobs) - len(known)
    assert sums.cost == (sum(known, Decimal(0)) if known or not jobs else None)
    times = [seconds for _, seconds in jobs if seconds is not None]
    estimate = sums.seconds(slots)
    if estimate is not None and times:
        assert max(times) <= estimate <= max(times) * len(jobs) * 1.001
