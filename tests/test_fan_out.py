"""At the size that users have: a thousand handles of one client, over real sockets; quick runs have 200."""

from __future__ import annotations

import anyio
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.depth import plays
from wiro_async import Client, Status
from wiro_async.sandbox import Sandbox

JOBS = plays(200, 1000)
MODEL = "MiniMax/image-to-video-01-director"

ALWAYS = [
    Status.QUEUE, Status.ACCEPT, Status.PREPROCESS_START, Status.PREPROCESS_END, Status.ASSIGN, Status.START,
    Status.END, Status.POSTPROCESS_START, Status.POSTPROCESS_END,
]  # fmt: skip
"""The statuses whose beginning the service records; the outputs' have none, and show only when looked at."""


@pytest.mark.deep
@pytest.mark.timeout(600)
async def test_many_handles_awaited_together() -> None:
    """Each ends with its own result and every transition in order, on a few dozen connections."""
    sandbox = Sandbox(
        api_key=KEY, api_secret=SECRET, speed=20, seed=4, render=False, concurrency_limit=JOBS, balance=10**6
    )
    polling = wiro_async.Polling(min_interval=0.5, max_interval=1.0, requests_per_second=2000)
    seen: dict[int, list[wiro_async.Transition]] = {}
    prompts: dict[int, object] = {}

    async with sandbox, Client(KEY, SECRET, base_url=sandbox.base_url, polling=polling) as client:

        async def job(number: int) -> None:
            inputs = {"inputImageFirstUrl": f"{sandbox.base_url}/{number}.jpg", "prompt": f"job {number}"}
            handle = await client.submit(MODEL, inputs)
            async with anyio.create_task_group() as group:
                group.start_soon(follow, number, handle)
                prompts[number] = (await handle).task.parameters["prompt"]

        async def follow(number: int, handle: wiro_async.TaskHandle) -> None:
            seen[number] = [transition async for transition in handle]

        async with anyio.create_task_group() as group:
            for number in range(JOBS):
                group.start_soon(job, number)
        stack = client._service.transport._http._inner  # type: ignore[attr-defined]
        assert stack.connections <= 32

    assert prompts == {number: f"job {number}" for number in range(JOBS)}
    for transitions in seen.values():
        statuses = [transition.status for transition in transitions]
        assert [status for status in statuses if status in ALWAYS] == ALWAYS
        assert set(statuses) - set(ALWAYS) <= {Status.OUTPUT, Status.OUTPUT_FULL}
        assert len(set(statuses)) == len(statuses)
    ledger = sandbox.ledger()
    assert ledger["runs"] == ledger["paid"] == ledger["requests"]["Run"] == JOBS
