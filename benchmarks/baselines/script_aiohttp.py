"""The obvious script on aiohttp: one ``ClientSession``, ``gather``, sleep, look, every 3 s."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from benchmarks.contender import LOOK_SECONDS, Call, Known, Order, clock, headers, main

ENDS = ("task_postprocess_end", "task_cancel")


@asynccontextmanager
async def calls(order: Order) -> AsyncIterator[Call]:
    """Yield one Detail call; the connector has its default of 100 connections."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def call() -> None:
            url = f"{order.base}/Task/Detail"
            async with session.post(url, json={"taskid": "2221"}, headers=headers()) as reply:
                assert (await reply.json())["result"] is True

        yield call


async def jobs(order: Order, known: Known) -> None:
    """Submit all at once and wait for all."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def post(path: str, payload: dict[str, str]) -> Any:
            async with session.post(f"{order.base}/{path}", json=payload, headers=headers()) as reply:
                answer = await reply.json()
                assert answer["result"] is True
                return answer

        async def job() -> None:
            taskid = (await post(f"Run/{order.model}", order.inputs))["taskid"]
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                task = (await post("Task/Detail", {"taskid": taskid}))["tasklist"][0]
                if task["status"] in ENDS:
                    known[taskid] = clock()
                    return

        await asyncio.gather(*(job() for _ in range(order.count)))


if __name__ == "__main__":
    main(calls, jobs)
