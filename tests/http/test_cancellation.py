"""Ten thousand cancellations, and the client still answers: httpcore's own pool would be dead by now.

Every run plays the first fifth of them, CI all.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import anyio
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.depth import plays
from wiro_async import Client, TaskHandle
from wiro_async.sandbox import Sandbox

MODEL = "MiniMax/image-to-video-01-director"
INPUTS = {"inputImageFirstUrl": "http://127.0.0.1:9/x.jpg"}
POLLING = wiro_async.Polling(min_interval=0.02, max_interval=0.1, requests_per_second=5000)
LIMITS = wiro_async.Limits(max_in_flight=16)
WORKERS = 50


def make_sandbox() -> Sandbox:
    return Sandbox(
        api_key=KEY, api_secret=SECRET, speed=50, render=False, concurrency_limit=10**6, balance=10**6
    )


class Churn:
    """Starts random calls and waits on one client, to be cancelled at random moments."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.chance = random.Random(seed)
        self.handles: list[TaskHandle] = []
        self.cancelled = 0

    async def prepare(self) -> None:
        """Submit the tasks to wait on: they never end."""
        for _ in range(20):
            self.handles.append(await self.client.submit(MODEL, {**INPUTS, "prompt": "[sandbox:hang]"}))

    async def act(self) -> None:
        """Do one thing that takes longer than anyone waits."""
        handle = self.chance.choice(self.handles)
        dice = self.chance.random()
        if dice < 0.4:
            await handle.wait()
        elif dice < 0.7:
            while True:
                await handle.refresh()
        elif dice < 0.8:
            async for _ in handle:
                pass
        elif dice < 0.9:
            await self.client.run(MODEL, {**INPUTS, "prompt": "[sandbox:hang]"})
        elif dice < 0.95:
            await self.client.run(MODEL, {**INPUTS, "prompt": "[sandbox:hang]"}, on_cancel="stop")
        else:
            while True:
                async for _ in self.client.list_tasks(limit=20):
                    pass

    async def check(self) -> None:
        """Nothing is stuck: no slot, no connection, and a probe is answered."""
        assert self.client._service.transport.gate.in_flight == 0
        assert self.client._service.transport.gate.waiting == 0
        stack: Any = self.client._service.transport._http._inner  # type: ignore[attr-defined]
        assert not stack._busy
        assert stack.connections <= LIMITS.max_in_flight
        with anyio.fail_after(30):
            await self.handles[0].refresh()


@pytest.mark.deep
@pytest.mark.timeout(240)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_native_cancels_leave_nothing_stuck() -> None:
    """``task.cancel()``, twice at times, and ``asyncio.timeout``, at random moments of waits and calls."""
    logging.getLogger("wiro_async").disabled = True
    async with make_sandbox() as sandbox, Client(
        KEY, SECRET, base_url=sandbox.base_url, polling=POLLING, limits=LIMITS
    ) as client:  # fmt: skip
        before = asyncio.all_tasks()
        churn = Churn(client, 7)
        await churn.prepare()

        async def cancel_one() -> None:
            moment = churn.chance.random() ** 2 * 0.05
            if churn.chance.random() < 0.5:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(moment):
                        await churn.act()
            else:
                task = asyncio.create_task(churn.act())
                await asyncio.sleep(moment)
                task.cancel()
                if churn.chance.random() < 0.3:
                    await asyncio.sleep(0.001)
                    task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            churn.cancelled += 1

        async def worker() -> None:
            for _ in range(plays(40, 200)):
                await cancel_one()

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        assert churn.cancelled == WORKERS * plays(40, 200)
        await churn.check()
        assert asyncio.all_tasks() == before
    logging.getLogger("wiro_async").disabled = False


@pytest.mark.deep
@pytest.mark.timeout(120)
async def test_scope_cancels_leave_nothing_stuck() -> None:
    """The same by anyio's cancel scopes, on both event loops."""
    logging.getLogger("wiro_async").disabled = True
    async with make_sandbox() as sandbox, Client(
        KEY, SECRET, base_url=sandbox.base_url, polling=POLLING, limits=LIMITS
    ) as client:  # fmt: skip
        churn = Churn(client, 11)
        await churn.prepare()

        async def worker() -> None:
            for _ in range(plays(8, 40)):
                with anyio.move_on_after(churn.chance.random() ** 2 * 0.05) as scope:
                    await churn.act()
                churn.cancelled += scope.cancelled_caught

        async with anyio.create_task_group() as group:
            for _ in range(WORKERS):
                group.start_soon(worker)
        assert churn.cancelled == WORKERS * plays(8, 40)
        await churn.check()
    logging.getLogger("wiro_async").disabled = False
