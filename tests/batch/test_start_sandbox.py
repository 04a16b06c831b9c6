"""What the service says of a task's start and life, over real sockets: alone, in a batch, and in its resume.

tests/jobs/test_start.py has more of it for single calls and batches.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.sandboxes import HANG, IN_A_BATCH, LIMITS, WAYS, Bench, Way, begun, outcomes_of
from tests.servers import until
from wiro_async import SubmissionUnknown, TaskCancelled
from wiro_async.sandbox.faults import Fault, Html, Latency, NoTask, Refused, Request, Reset, Status

BLIP = Refused(message="Project authorization is not valid.", status=401)
QUICK = attrs.evolve(LIMITS, request_timeout=1.0, send_window=0.5, margin=0.1, settle_timeout=0.2)
"""A Run is quiet 1.8 s after its intent."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    """Each way to play a job."""
    return request.param


# -- polls that tell nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        *((Html(status), 4) for status in (401, 403, 404, 408, 503)),
        (NoTask(), 3),
        (NoTask(empty=True), 3),
        (BLIP, 3),
    ],
    ids=repr,
)
async def test_polls_that_tell_nothing_pass(
    way: Way, fault: Fault, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages from the edge, machines that do not know the task, and refusals of a key that has worked."""
    monkeypatch.setattr("wiro_async._http.retry.REFUSALS", (0.01, 0.03, 0.06))
    async with Bench(way, tmp_path) as bench:

        def heed(request: Request) -> bool:
            # The task goes on until all of them were met.
            if request.operation == "Task/Detail" and len(bench.plan.injected) == times:
                bench.steer("finish")
            return False

        def then() -> None:
            # A resume begins with a client whose key has not worked yet: it is refused after its first poll.
            bench.plan.script("Task/Detail", fault, times=times, skip=1 if fault == BLIP else 0)
            bench.plan.script(heed, Latency(0.0))

        told = (await bench.play("a", then=then))["a"]
        assert told.error is None
        assert sum(injection.fault == fault for injection in bench.plan.injected) == times
        assert bench.runs == 1


async def test_a_long_log_hides_no_task(way: Way, tmp_path: Path) -> None:
    """427 kB of ordinary lines, with brackets, commas and quotes."""
    async with Bench(way, tmp_path) as bench:
        told = (await bench.play("a", fate=f"{HANG}[sandbox:log=427000]"))["a"]
        assert told.error is None
        assert bench.runs == 1


# -- Runs in doubt -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", IN_A_BATCH)
@pytest.mark.parametrize(
    "fault", [Refused(processed=True), Html(403, processed=True), Status(409, processed=True)], ids=repr
)
async def test_a_false_refusal_is_looked_into_by_a_resume(way: Way, fault: Fault, tmp_path: Path) -> None:
    """The list cannot be read at first, so the Run stays in doubt; it is found, and not sent again."""
    async with Bench(way, tmp_path) as bench:
        bench.prepare("a", fate="[sandbox:run=5]")
        bench.plan.script("Run", fault)
        bench.plan.script("Task/List", Status(503), times=None)
        async with bench.batch() as batch:
            if way == "resumed":
                # It is cut off while it searches.
                await until(lambda: bench.plan.seen.get("Task/List"))
            else:
                error = (await outcomes_of(batch))["a"].error
                assert isinstance(error, SubmissionUnknown)
        bench.plan.clear()
        told = (await bench.again())["a"]
        assert told.error is None
        assert told.row is not None
        assert told.row.state == "done"
        assert bench.runs == 1


@pytest.mark.parametrize("way", IN_A_BATCH)
@pytest.mark.parametrize("skew", [600.0, -600.0])
async def test_a_look_alike_by_another_clock_is_never_absent(way: Way, skew: float, tmp_path: Path) -> None:
    """Ten minutes off, and without a Date: nothing is proved absent, by no resume, and nothing paid twice."""
    async with Bench(way, tmp_path, limits=QUICK, clock_skew=skew, send_date=False) as bench:
        bench.prepare("a", fate="[sandbox:run=5]")
        bench.plan.script("Run", Reset(after="processing"))
        if way == "resumed":
            async with bench.batch(on_unknown="resubmit"):
                await until(lambda: bench.plan.seen.get("Task/List"))
        for _ in range(2 if way == "batch" else 1):
            told = (await bench.again(on_unknown="resubmit"))["a"]
            assert isinstance(told.error, SubmissionUnknown)
            assert "task 2221 has the same model and inputs" in str(told.error)
        assert bench.runs == 1


# -- a task that is stopped, and a process that stands still -----------------------------------------------


async def test_a_task_that_is_stopped_while_it_runs(way: Way, tmp_path: Path) -> None:
    """Nobody says that it was not billed, though the record says "0"; its charge is settled later."""
    async with Bench(
        way, tmp_path, charge_stopped=True, charge_delay=float("inf"), first_task_id=2223
    ) as bench:

        def stop() -> None:
            bench.steer("hang")  # It starts at once.
            bench.steer("cancel")

        told = (await bench.play("a", then=stop))["a"]
        assert isinstance(told.error, TaskCancelled)
        assert "does not say yet whether it is billed" in str(told.error)
        assert told.cost is None
        bench.steer("tell")
        told = (await bench.again())["a"]
        assert told.cost is not None
        assert f"{told.cost:.2f}" == "0.35"
        assert bench.runs == 1


@pytest.mark.parametrize("way", IN_A_BATCH)
async def test_a_process_that_was_frozen_beyond_its_timeout(way: Way, tmp_path: Path) -> None:
    """Nothing of it ran while the task ended: on waking, one last poll tells."""
    async with Bench(way, tmp_path) as bench:
        bench.prepare("a")
        if way == "resumed":
            await bench.cut_off(1)
        async with bench.batch(timeout=1.0) as batch:
            await until(lambda: begun(batch) == 1)
            bench.steer("finish")
            time.sleep(1.3)  # noqa: ASYNC251  # the process is frozen
            assert (await outcomes_of(batch))["a"].error is None
        assert bench.runs == 1
