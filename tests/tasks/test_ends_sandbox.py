"""The end of a single call's task over real sockets: late, in pieces, or not at all."""

from __future__ import annotations

import time
from decimal import Decimal
from functools import partial
from typing import Any

import anyio
import pytest

import wiro_async
from tests.servers import PATIENCE, until
from wiro_async import Client, Limits, Polling, Status, TaskHandle, Watch
from wiro_async.sandbox import Sandbox

MODEL = "MiniMax/image-to-video-01-director"
QUICK = Polling(min_interval=0.05, max_interval=0.2, safety_interval=1.0, requests_per_second=1000)
LIMITS = Limits(settle_timeout=0.6, error_grace=0.4, wait_timeout=20.0)
WATCHES: list[Watch] = ["poll", "socket"]


@pytest.fixture(params=WATCHES)
def watch(request: pytest.FixtureRequest, anyio_backend: Any) -> Any:
    """How to learn of the end; there are no sockets on trio."""
    if anyio_backend == "trio" and request.param == "socket":
        pytest.skip("there are no sockets on trio")
    return request.param


def sandbox(**options: Any) -> Sandbox:
    return Sandbox(**{"speed": 100.0, "render": False, "price": 0.35, **options})


def client(at: Sandbox, watch: Watch, polling: Polling = QUICK) -> Client:
    config = at.config
    return Client(
        config.api_key,
        config.api_secret,
        base_url=at.base_url,
        socket_url=at.socket_url,
        polling=polling,
        limits=LIMITS,
        watch=watch,
    )


def inputs(prompt: str) -> dict[str, str]:
    return {"inputImageFirstUrl": "https://example.org/a.png", "prompt": prompt}


async def runs(task: TaskHandle) -> None:
    """Return once somebody else's wait has seen that it runs.

    The socket tells the first output in one breath with the start, which may never be the newest status here.
    """
    await until(lambda: task.status in (Status.START, Status.OUTPUT))


async def charged(task: TaskHandle) -> None:
    """Return once a refresh has seen the charge."""
    with anyio.fail_after(PATIENCE):
        while (await task.refresh()).cost is None:  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def test_a_charge_that_is_recorded_late(watch: Watch) -> None:
    """The result does not wait for it, whatever the service shows instead; a refresh has it."""
    async with sandbox(charge_delay=60.0) as at, client(at, watch) as own:
        tasks = [await own.submit(MODEL, inputs(f"[sandbox:run=1] {number}")) for number in range(3)]
        for task in tasks:
            assert (await task).cost is None
        for task in tasks:
            await charged(task)
            assert (await task).cost == Decimal("0.35")
        assert at.ledger()["charged"] == "1.050000000000"
        assert [task.cost async for task in own.list_tasks()] == [Decimal("0.35")] * 3


@pytest.mark.parametrize("fate", ["bare=20", "nofiles=20"])
@pytest.mark.parametrize("name", ["outputs", "output"])
async def test_an_end_in_pieces(watch: Watch, fate: str, name: Any) -> None:
    """It is a success with its file, under either name of the outputs."""
    async with sandbox(outputs_name=name) as at, client(at, watch) as own:
        result = await own.run(MODEL, inputs(f"[sandbox:run=1][sandbox:{fate}] waves"))
        assert (len(result.outputs), result.cost) == (1, Decimal("0.35"))


async def test_a_failure_in_pieces(watch: Watch) -> None:
    """A failure is one once its exit code is there."""
    async with sandbox(bare_seconds=20.0) as at, client(at, watch) as own:
        with pytest.raises(wiro_async.TaskFailed, match="no face; it was not billed"):
            await own.run(MODEL, inputs("[sandbox:run=1][sandbox:fail no face] waves"))


@pytest.mark.parametrize("fate", ["bare", "nofiles"])
async def test_an_end_that_stays_in_pieces(watch: Watch, fate: str) -> None:
    """Nobody knows: InvalidResponse, with the handle."""
    async with sandbox() as at, client(at, watch) as own:
        with pytest.raises(wiro_async.InvalidResponse, match="has ended, and its record has") as caught:
            await own.run(MODEL, inputs(f"[sandbox:run=1][sandbox:{fate}=never] waves"))
        assert isinstance(caught.value, wiro_async.TaskUnclear)
        assert caught.value.handle is not None
        assert not own.unclaimed


@pytest.mark.parametrize("after", ["stay", "end", "requeue"])
async def test_a_stored_error(watch: Watch, after: Any) -> None:
    """It stays, and is told after the grace; it ends as a failure; or it is queued again and succeeds."""
    # In real time an error that passes does so in a twentieth of a second, well within the grace.
    seconds = 20.0 if after == "stay" else 5.0
    async with sandbox(after_error=after, error_seconds=seconds) as at, client(at, watch) as own:
        running = partial(own.run, MODEL, inputs("[sandbox:run=1][sandbox:error worker lost] waves"))
        if after == "requeue":
            assert (await running()).cost == Decimal("0.35")
        elif after == "end":
            with pytest.raises(wiro_async.TaskFailed, match="worker lost"):
                await running()
        else:
            with pytest.raises(wiro_async.TaskStalled, match=r"task_error \(worker lost\)") as caught:
                await running()
            task = caught.value.handle
            assert task is not None
            at.engine.steer(task.id or "", "release", time.time())
            assert (await task).cost == Decimal("0.35")
        assert at.ledger()["runs"] == 1


async def test_a_line_on_the_error_stream_is_looked_into_at_once(watch: Watch) -> None:
    """The record shows task_error long before the next poll is due."""
    rarely = Polling(min_interval=30.0, max_interval=30.0, safety_interval=30.0)
    if watch == "poll":
        pytest.skip("nobody tells")
    async with sandbox(queue_mean=0.0) as at, client(at, watch, rarely) as own:
        task = await own.submit(MODEL, inputs("[sandbox:run=100000] waves"))
        async with anyio.create_task_group() as group:
            group.start_soon(task.wait)
            await runs(task)
            at.engine.steer(task.id or "", "error", time.time(), "worker lost")
            await until(lambda: task.task is not None and task.task.reason == "worker lost")
            assert task.status == Status.ERROR
            group.cancel_scope.cancel()


async def test_a_killed_task_that_is_charged_all_the_same(watch: Watch) -> None:
    """Nobody says that it was not billed; the charge is read later."""
    async with sandbox(charge_stopped=True, charge_delay=60.0) as at, client(at, watch) as own:
        task = await own.submit(MODEL, inputs("[sandbox:run=100000] waves"))
        with anyio.fail_after(PATIENCE):
            while (await task.refresh()).started_at is None:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert (await task.kill()).cost is None
        with pytest.raises(wiro_async.TaskCancelled, match="does not say yet whether it is billed"):
            await task
        await charged(task)
        assert at.ledger()["charged"] == "0.350000000000"


async def test_a_process_that_was_frozen_beyond_its_timeout(watch: Watch) -> None:
    """Nothing of it ran while the task ended: on waking, one last poll tells."""
    async with sandbox(speed=50.0, queue_mean=0.0) as at, client(at, watch) as own:
        task = await own.submit(MODEL, inputs("[sandbox:run=30] waves"))
        await task.refresh()
        found: list[wiro_async.Task] = []

        async def wait() -> None:
            found.append(await task.wait(0.4))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            time.sleep(1.5)  # noqa: ASYNC251  # the process is frozen
        assert found[0].outcome == "succeeded"
