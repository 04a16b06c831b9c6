"""What the service tells late, oddly or never, over real sockets: alone, in a batch, and in its resume."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.batches import MODEL
from tests.sandboxes import HANG, IN_A_BATCH, WAYS, Bench, Way, begun, outcomes_of
from tests.servers import until
from wiro_async import Job, TaskFailed, TaskStalled, TaskUnclear, WiroError
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Charged, Step
from wiro_async.sandbox.faults import Refused

PRICE = Decimal("0.45")
LISTED = Decimal("0.50")
"""What a run costs, and what the catalogue says that it does."""
NEVER: dict[str, Any] = {"charge_delay": float("inf"), "price": float(PRICE), "listed_price": float(LISTED)}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    """Each way to play a job."""
    return request.param


@pytest.fixture
def charges(monkeypatch: pytest.MonkeyPatch) -> list[Charged]:
    """The steps by which charges were recorded, in whichever journal."""
    seen: list[Charged] = []
    record = SQLiteJournal.record

    async def recording(journal: SQLiteJournal, *steps: Step) -> None:
        seen.extend(step for step in steps if isinstance(step, Charged))
        await record(journal, *steps)

    monkeypatch.setattr(SQLiteJournal, "record", recording)
    return seen


# -- charges -----------------------------------------------------------------------------------------------


async def test_a_charge_that_is_recorded_late(way: Way, tmp_path: Path, charges: list[Charged]) -> None:
    """Whether "0", null or "" stands there until then: the estimate counts; the charge is settled once."""
    async with Bench(way, tmp_path, **NEVER) as bench:
        prompts = "abc" if way == "single" else "abcdef"
        told = await bench.play(*prompts, tasks=3, max_cost=1.6)
        # Three estimates fill the budget; charges of 0 would leave room for all six.
        assert bench.runs == 3
        assert {key: (each.error, each.cost) for key, each in told.items()} == dict.fromkeys(
            "abc", (None, None)
        )
        if way != "single":
            assert bench.stopped == "max_cost"
            assert bench.spent == 3 * LISTED
            assert [each.row.cost for each in told.values() if each.row is not None] == [LISTED] * 3
        assert not charges
        bench.steer("tell")
        told = await bench.again(max_cost=1.6)
        assert {key: each.cost for key, each in told.items()} == dict.fromkeys("abc", PRICE)
        if way != "single":
            assert bench.spent == 3 * PRICE
            # What is settled is not asked for again.
            asked = bench.plan.seen["Task/Detail"]
            await bench.again(max_cost=1.6)
            assert bench.plan.seen["Task/Detail"] == asked
            assert sorted((step.key, step.cost) for step in charges) == [(key, PRICE) for key in "abc"]
        assert bench.runs == 3


@pytest.mark.parametrize("way", IN_A_BATCH)
async def test_a_batchs_end_settles_what_was_recorded_meanwhile(
    way: Way, tmp_path: Path, charges: list[Charged]
) -> None:
    """What was not recorded by then keeps its estimate; the next one has it."""
    async with Bench(way, tmp_path, **NEVER) as bench:
        bench.prepare(*"abc")
        if way == "resumed":
            await bench.cut_off(3)
        async with bench.batch(max_cost=10) as batch:
            await until(lambda: begun(batch) == 3)
            bench.steer("finish", "a", "b")
            await until(lambda: batch.progress.succeeded == 2)
            assert batch.progress.spent == 2 * LISTED
            bench.steer("tell", "a")
            bench.steer("finish", "c")
            outcomes = await outcomes_of(batch)
        told = await bench.told(outcomes)
        assert bench.spent == PRICE + 2 * LISTED
        assert {key: each.cost for key, each in told.items()} == {"a": PRICE, "b": None, "c": None}
        assert [(step.key, step.cost) for step in charges] == [("a", PRICE)]
        bench.steer("tell", "b")
        told = await bench.again()
        assert {key: each.cost for key, each in told.items()} == {"a": PRICE, "b": PRICE, "c": None}
        assert bench.runs == 3


@pytest.mark.parametrize("way", IN_A_BATCH)
@pytest.mark.parametrize("read", ["list", "refresh"])
async def test_whoever_reads_a_charge_settles_it(
    way: Way, read: str, tmp_path: Path, charges: list[Charged]
) -> None:
    """While a batch is open: it counts at once, and is recorded, though the batch itself asks for nothing."""
    async with Bench(way, tmp_path, **NEVER) as bench:
        bench.prepare(*"abc")
        if way == "resumed":
            await bench.cut_off(3)

        async def look() -> None:
            if read == "list":
                assert len([task async for task in bench.own.list_tasks()]) == 3
            else:
                for task in bench.sandbox.ledger()["tasks"]:
                    await bench.own.attach(task["id"]).refresh()

        async with bench.batch(max_cost=10) as batch:
            await until(lambda: begun(batch) == 3)
            bench.steer("finish", "a", "b")
            await until(lambda: batch.progress.succeeded == 2)
            assert batch.progress.spent == 2 * LISTED
            bench.steer("tell", "a")
            await look()
            assert batch.progress.spent == PRICE + LISTED
            await until(lambda: charges)
            assert [(step.key, step.cost) for step in charges] == [("a", PRICE)]
            bench.steer("finish", "c")
            outcomes = await outcomes_of(batch)
            # The batch is over; its block is not left yet.
            bench.steer("tell", "b")
            await look()
        told = await bench.told(outcomes)
        assert {key: each.cost for key, each in told.items()} == {"a": PRICE, "b": PRICE, "c": None}
        assert sorted(step.key for step in charges) == ["a", "b"]


@pytest.mark.parametrize("way", IN_A_BATCH)
async def test_a_resume_settles_before_it_spends(way: Way, tmp_path: Path) -> None:
    """What was charged less than its estimate makes room at once."""
    async with Bench(way, tmp_path, **NEVER) as bench:
        await bench.play("a", "b", fate="[sandbox:run=5]", tasks=1, then=lambda: None, max_cost=0.95)
        await bench.again(max_cost=0.95)
        assert (bench.stopped, bench.runs) == ("max_cost", 1)
        bench.steer("tell")
        await bench.again(max_cost=0.95)
        assert (bench.stopped, bench.runs) == (None, 2)


@pytest.mark.parametrize("way", IN_A_BATCH)
async def test_a_budget_without_any_estimate(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run at a time; if the first shows no charge after a while, none follows, nor in a resume."""
    monkeypatch.setattr("wiro_async._jobs.budget.FIRST_LOOKS", (0.1, 0.2, 0.3))
    async with Bench(way, tmp_path, **NEVER) as bench:
        bench.plan.script("Tool/Detail", Refused(code=1, message="tool-not-accessible"), times=None)
        bench.prepare("a", fate="[sandbox:run=5]")
        bench.prepare("b", "c")
        if way == "resumed":
            await bench.cut_off(2, max_cost=1)
        async with bench.batch(max_cost=1) as batch:
            await until(lambda: batch.report.stopped is not None)
            bench.steer("finish")
            await outcomes_of(batch)
        for _ in range(2):
            assert (bench.stopped, bench.runs) == ("unpriced", 2)
            assert bench.spent == 0
            told = await bench.again(max_cost=1)
            assert {each.cost for each in told.values()} == {None}
        bench.steer("tell")
        await bench.again(max_cost=1)
        assert (bench.stopped, bench.runs, bench.spent) == ("max_cost", 2, 2 * PRICE)


# -- ends that are none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["bare", "nofiles"])
@pytest.mark.parametrize("late", ["20", "never"])
async def test_an_end_that_comes_in_pieces(way: Way, fate: str, late: str, tmp_path: Path) -> None:
    """It is polled again for a while. If it stays so, the job stays ended, and is looked at again."""
    async with Bench(way, tmp_path, download=True) as bench:
        told = (await bench.play("a", fate=f"{HANG}[sandbox:{fate}={late}]"))["a"]
        if late == "never":
            for _ in range(2):
                assert isinstance(told.error, TaskUnclear)
                assert "may be billed" in str(told.error)
                assert told.row is None or (told.row.state, told.row.files) == ("ended", ())
                told = (await bench.again())["a"]
            bench.steer("tell")
            told = (await bench.again())["a"]
        assert told.error is None
        assert [path.suffix for path in told.paths] == [".mp4"]
        assert told.row is None or (told.row.state, len(told.row.files)) == ("done", 1)
        assert bench.runs == 1


@pytest.mark.parametrize("late", ["20", "never"])
async def test_a_failure_that_comes_in_pieces(way: Way, late: str, tmp_path: Path) -> None:
    """It is called a failure, and unbilled, only once the exit code says so."""
    async with Bench(way, tmp_path) as bench:
        fate = f"[sandbox:queue][sandbox:fail no face][sandbox:bare={late}]"
        told = (await bench.play("a", fate=fate, then=lambda: bench.steer("release")))["a"]
        if late == "never":
            assert isinstance(told.error, TaskUnclear)
            assert told.row is None or told.row.state == "ended"
            bench.steer("tell")
            told = (await bench.again())["a"]
        assert isinstance(told.error, TaskFailed)
        assert "no face; it was not billed" in str(told.error)
        assert told.row is None or told.row.state == "failed"
        assert told.cost == 0
        assert bench.runs == 1


# -- task_error --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["stay", "end", "requeue"])
async def test_a_stored_error(way: Way, after: Any, tmp_path: Path) -> None:
    """It stays, and is looked at again; it ends as a failure; or it is queued again and succeeds."""
    async with Bench(way, tmp_path, after_error=after, error_seconds=20.0) as bench:
        told = (await bench.play("a", fate="[sandbox:error worker lost]", then=lambda: None, retry_failed=0))[
            "a"
        ]
        if after == "requeue":
            assert told.error is None
        elif after == "end":
            assert isinstance(told.error, TaskFailed)
            assert "worker lost" in str(told.error)
        else:
            for _ in range(2):
                assert isinstance(told.error, TaskStalled)
                assert told.error.debug_error == "worker lost"
                assert "worker lost" in str(told.error)
                assert told.row is None or (told.row.state, told.row.reason) == ("stalled", "worker lost")
                told = (await bench.again(retry_failed=3))["a"]
            bench.steer("release")
            told = (await bench.again(retry_failed=3))["a"]
            assert told.error is None
        assert bench.runs == 1
        states = {"stay": "done", "requeue": "done", "end": "failed"}
        assert told.row is None or told.row.state == states[after]


async def test_a_stalled_task_frees_its_slot(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Run that waits for a slot goes on in its place; its money stays set aside."""
    # Nothing but a free slot lets a Run that was refused be sent again.
    monkeypatch.setattr("wiro_async._jobs.limiter.FIRST_ASKING", 1e6)
    monkeypatch.setattr("wiro_async._jobs.limiter.LONGEST_ASKING", 1e6)
    async with Bench(way, tmp_path) as bench:
        bench.prepare("a", fate="[sandbox:error worker lost]")
        bench.prepare("b", fate="[sandbox:run=5]")
        outcomes = await (_side_by_side(bench) if way == "single" else _in_turn(bench))
        assert isinstance(outcomes["a"], TaskStalled)
        assert outcomes["b"] is None
        assert bench.runs == 2
        assert bench.sandbox.ledger()["active"] == 1


FULL = Refused(
    code=96,
    message="You have reached your concurrent task limit. You can run up to 1 tasks at the same time.",
)


async def _side_by_side(bench: Bench) -> dict[str, Exception | None]:
    """Run two single calls: the second one is refused until the first has given its slot back."""
    outcomes: dict[str, Exception | None] = {}

    async def run(job: Job) -> None:
        try:
            await bench.own.run(MODEL, job.inputs)
        except WiroError as error:
            outcomes[str(job.key)] = error
        else:
            outcomes[str(job.key)] = None

    bench.plan.script("Run", FULL, skip=1)
    async with anyio.create_task_group() as group:
        for job in bench.jobs:
            group.start_soon(run, job)
            await until(lambda: bench.runs == 1)
    return outcomes


async def _in_turn(bench: Bench) -> dict[str, Exception | None]:
    """Do the same in a batch, or in the resume of one."""
    bench.plan.script("Run", FULL, skip=1)
    if bench.way == "resumed":
        await bench.cut_off(1, concurrency="auto")
        bench.plan.clear()
        bench.plan.script("Run", FULL)
    async with bench.batch(concurrency="auto", max_cost=10) as batch:
        outcomes = await outcomes_of(batch)
        assert batch.progress.reserved == Decimal("0.35")
    return {key: outcome.error for key, outcome in outcomes.items()}
