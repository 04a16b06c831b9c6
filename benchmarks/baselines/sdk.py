"""In the manner of the generated SDKs: httpx with 1 000 connections, 2 retries, a look every 6 s ± 1.5 s."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from benchmarks.contender import Call, Known, Order, clock, headers, main

ENDS = ("task_postprocess_end", "task_cancel")
RETRIES = 2
RETRIED = (408, 409, 429)


class Client:
    """Posts with retries."""

    def __init__(self, order: Order) -> None:
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        self._http: httpx.AsyncClient = httpx.AsyncClient(base_url=order.base, timeout=None, limits=limits)

    async def post(self, path: str, payload: dict[str, str]) -> Any:
        """Return the answer of the first attempt that brings one."""
        for attempt in range(RETRIES + 1):
            try:
                request = self._http.build_request("POST", path, json=payload, headers=headers())
                reply = await self._http.send(request)
                if reply.status_code not in RETRIED and reply.status_code < 500:
                    reply.raise_for_status()
                    return reply.json()
            except httpx.TransportError:
                if attempt == RETRIES:
                    raise
            await asyncio.sleep(min(0.5 * 2**attempt, 8.0))
        raise RuntimeError(f"{path}: no answer in {RETRIES + 1} attempts")


@asynccontextmanager
async def calls(order: Order) -> AsyncIterator[Call]:
    """Yield one Detail call."""
    client = Client(order)

    async def call() -> None:
        assert (await client.post("/Task/Detail", {"taskid": "2221"}))["result"] is True

    yield call


async def jobs(order: Order, known: Known) -> None:
    """Submit all at once and wait for all."""
    client = Client(order)

    async def job() -> None:
        taskid = (await client.post(f"/Run/{order.model}", order.inputs))["taskid"]
        while True:
            await asyncio.sleep(6 + random.uniform(-1.5, 1.5))
            task = (await client.post("/Task/Detail", {"taskid": taskid}))["tasklist"][0]
            if task["status"] in ENDS:
                known[taskid] = clock()
                return

    await asyncio.gather(*(job() for _ in range(order.count)))


if __name__ == "__main__":
    main(calls, jobs)
