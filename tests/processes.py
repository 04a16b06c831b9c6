"""What other processes do for tests. They import this module, and so as little as possible with it."""

from __future__ import annotations

import asyncio

from wiro_async import Client
from wiro_async._http.signing import next_nonce


def nonces_of_a_process(_number: int) -> list[int]:
    """Return nonces of this process."""
    return [next_nonce() for _ in range(25_000)]


def calls_of_a_process(base_url: str, key: str, secret: str, calls: int) -> None:
    """Make signed calls, one after the other; none may be refused."""

    async def main() -> None:
        async with Client(key, secret, base_url=base_url, watch="poll") as client:
            for _ in range(calls):
                assert [task async for task in client.list_tasks(limit=1)] == []

    asyncio.run(main())
