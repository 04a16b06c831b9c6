"""The obvious script: ``httpx.AsyncClient``, ``gather``, sleep, look, every 3 s."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.contender import LOOK_SECONDS, Call, Known, Order, Probe, clock, headers, main

ENDS = ("task_postprocess_end", "task_cancel")


@asynccontextmanager
async def calls(order: Order) -> AsyncIterator[Call]:
    """Yield one Detail call; the pool has its default of 100 connections."""
    async with httpx.AsyncClient(timeout=None) as client:

        async def call() -> None:
            reply = await client.post(f"{order.base}/Task/Detail", json={"taskid": "2221"}, headers=headers())
            assert reply.json()["result"] is True

        yield call


async def jobs(order: Order, known: Known) -> None:
    """Submit all at once and wait for all."""
    async with httpx.AsyncClient(timeout=None) as client:

        async def post(path: str, payload: dict[str, str]) -> dict[str, object]:
            reply = await client.post(f"{order.base}/{path}", json=payload, headers=headers())
            answer: dict[str, object] = reply.json()
            assert answer["result"] is True
            return answer

        async def job() -> None:
            taskid = str((await post(f"Run/{order.model}", order.inputs))["taskid"])
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                tasks = (await post("Task/Detail", {"taskid": taskid}))["tasklist"]
                assert isinstance(tasks, list)
                if tasks[0]["status"] in ENDS:
                    known[taskid] = clock()
                    return

        await asyncio.gather(*(job() for _ in range(order.count)))


async def download(order: Order) -> dict[str, float]:
    """Stream one large output to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "0.mp4"
        probe = Probe()
        async with httpx.AsyncClient() as client, client.stream("GET", order.base) as reply:
            with path.open("wb") as file:
                async for chunk in reply.aiter_bytes():
                    file.write(chunk)
        return probe.stop()


if __name__ == "__main__":
    main(calls, jobs, {"download": download})
