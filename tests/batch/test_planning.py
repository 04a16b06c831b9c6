"""A plan: what a batch would do, and that finding it out does nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.fakes import FakeService, client, no, ok
from tests.journals import cancelled, failed, intended, succeeded
from wiro_async import Client, ConnectionFailed, InvalidInput, Job, JournalError
from wiro_async._batch.planning import Planning, make_plan
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


def settings(client: Client, **options: Any) -> Any:
    return client.batch(model=MODEL, **options)._settings


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
        await journal.record(succeeded("done"))
        await journal.record(Done("done"))
        await journal.record(failed("failed"))
        await journal.record(cancelled("cancelled"))
        await journal.record(Learned("durations", DURATIONS))


async def test_a_plan_adds_up_what_would_be_sent() -> None:
    """Each model is looked up once, and nothing else is called."""
    fake = service()
    async with client(fake) as api:
        plan = await make_plan(api, jobs("a", "b", "c"), settings(api, concurrency=2))
    assert (plan.jobs, plan.invalid_jobs, plan.duplicates, plan.unpriced) == (3, 0, 0, 0)
    assert plan.estimated_cost == Decimal("0.84")
    assert plan.estimated_seconds is None
    assert fake.counts == {"Tool/Detail": 1}


async def test_a_batch_tells_its_plan() -> None:
    """Before it is entered, and without doing any of it."""
    fake = service()
    async with client(fake) as api:
        plan = await api.batch(jobs("a", "b"), model=MODEL, concurrency=2).plan()
        assert plan == await make_plan(api, jobs("a", "b"), settings(api, concurrency=2))
    assert plan.jobs == 2
    assert "Run" not in fake.counts


async def test_jobs_may_come_from_an_async_iterable() -> None:
    """As in the batch itself."""

    async def given() -> AsyncIterator[Job]:
        for job in jobs("a", "b"):
            yield job

    async with client(service()) as api:
        assert (await make_plan(api, given(), settings(api))).jobs == 2


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
    async with client(service()) as api:
        plan = await make_plan(api, [*jobs("a"), job, *jobs("c")], settings(api))
    (invalid,) = plan.invalid
    assert invalid.where == "job 2"
    assert reason in invalid.reason
    assert plan.jobs == 2


async def test_a_model_that_is_not_there_is_asked_for_once() -> None:
    """Its jobs are invalid."""
    fake = service(Tool_Detail=no(1, "tool-not-accessible"))
    async with client(fake) as api:
        plan = await make_plan(api, jobs("a", "b"), settings(api))
    assert plan.invalid_jobs == 2
    assert fake.counts == {"Tool/Detail": 1}


async def test_a_catalogue_that_is_not_reached_is_an_error() -> None:
    """No plan is made without it."""
    fake = service(Tool_Detail=no(None, "x"))
    async with client(fake) as api:
        fake.handlers["Tool/Detail"] = ConnectionFailed("down", sent=False)
        with pytest.raises(Exception, match="down"):
            await make_plan(api, jobs("a"), settings(api))


async def test_a_key_that_came_before_is_a_duplicate() -> None:
    """The batch would leave it out."""
    async with client(service()) as api:
        plan = await make_plan(api, jobs("a", "b", key="k"), settings(api))
    assert (plan.jobs, plan.duplicates) == (1, 1)


async def test_a_key_that_came_before_can_be_a_mistake() -> None:
    """A command line says so; the hook is called while the job's place is known."""
    rejected = []
    async with client(service()) as api:
        chosen = settings(api, key=lambda job: job.inputs["prompt"][0])
        planning = Planning(
            api, chosen, None, where=lambda: "here", on_invalid=lambda: rejected.append(1), unique=True
        )
        plan = await planning.plan(jobs("ab", "ac", "b"))
    assert rejected == [1]
    assert [(one.where, one.reason) for one in plan.invalid] == [
        ("here", "the key 'a' came before; give every job a key of its own")
    ]
    assert (plan.jobs, plan.duplicates) == (2, 0)


async def test_what_the_journal_has_is_not_sent_again(tmp_path: Path) -> None:
    """Running jobs are taken up, ended ones left out, refused ones sent; nothing is written."""
    path = tmp_path / "run.db"
    await begun(path)
    async with client(service()) as api:
        chosen = settings(api, journal=path)
        async with await SQLiteJournal.open(path) as journal:
            planning = Planning(api, chosen, journal, unique=True)
            given = [Job(inputs={"prompt": key}, key=key) for key in ("running", "done", "failed", "new")]
            plan = await planning.plan(given)
        assert (planning.taken_up, planning.ended, planning.failed) == (1, 2, 2)
        assert (plan.jobs, plan.duplicates, plan.failed_before) == (2, 1, 1)
        again = await make_plan(api, [], chosen)
    assert again.jobs == 1
    assert plan.estimated_seconds is not None


async def test_failed_jobs_are_sent_again_where_that_is_wanted(tmp_path: Path) -> None:
    """They do not count as failed then."""
    path = tmp_path / "run.db"
    await begun(path)
    async with client(service()) as api, await SQLiteJournal.open(path) as journal:
        planning = Planning(api, settings(api, retry_failed=1), journal)
        assert (await planning.plan([])).jobs == 3
    assert planning.failed == 0


async def test_jobs_of_the_journal_are_sent_whatever_the_catalogue_says(tmp_path: Path) -> None:
    """They were taken before."""
    path = tmp_path / "run.db"
    await begun(path)
    async with client(service(Tool_Detail=no(1, "tool-not-accessible"))) as api:
        plan = await make_plan(api, [], settings(api, journal=path))
    assert (plan.jobs, plan.invalid_jobs, plan.unpriced) == (1, 0, 1)


async def test_jobs_without_keys_are_known_by_their_inputs(tmp_path: Path) -> None:
    """The second one is another job; all are done in the journal of the first time."""
    path = tmp_path / "run.db"
    async with client(service()) as api:
        chosen = settings(api, journal=path)
        assert (await make_plan(api, jobs("a", "a"), chosen)).jobs == 2
        assert not path.exists()
        async with await SQLiteJournal.open(path) as journal:
            intake_keys = [key async for key in _keys(jobs("a", "a"), journal)]
            for key in intake_keys:
                await journal.record(intended(key, prompt="a"))
                await journal.record(Accepted(key, f"task-{key}"))
                await journal.record(failed(key))
        async with await SQLiteJournal.open(path) as journal:
            planning = Planning(api, attrs.evolve(chosen, journal=None), journal)
            plan = await planning.plan(jobs("a", "a", "b"))
    assert (plan.jobs, plan.duplicates, plan.failed_before, planning.ended) == (1, 0, 2, 2)


async def _keys(given: list[Job], journal: SQLiteJournal) -> AsyncIterator[str]:
    from wiro_async._batch.source import JobSource

    intake = JobSource(given, journal, model=MODEL)
    while (entry := await intake.next()) is not None:
        yield entry.key


async def test_what_is_no_job_is_an_error() -> None:
    """As in the batch itself."""
    async with client(service()) as api:
        with pytest.raises(InvalidInput, match="for a job"):
            await make_plan(api, [{"prompt": "x"}], settings(api))  # type: ignore[list-item]


async def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing one is empty; any other trouble is told."""
    path = tmp_path / "run.db"
    async with client(service()) as api, await SQLiteJournal.open(path):
        with pytest.raises(JournalError) as caught:
            await make_plan(api, [], settings(api, journal=path))
    assert caught.value.reason == "locked"


async def test_durations_of_no_sense_are_no_durations(tmp_path: Path) -> None:
    """A journal may have been written by a later version."""
    path = tmp_path / "run.db"
    async with await SQLiteJournal.open(path) as journal:
        await journal.record(Learned("durations", {"models": 7}))
    async with client(service()) as api:
        assert (await make_plan(api, jobs("a"), settings(api, journal=path))).estimated_seconds is None
