"""What one Detail call costs the client in CPU: sign, send, receive, decode, build the record.

wiro_async against the obvious script on ``httpx.AsyncClient`` (which signs and decodes, but builds no
record), in one run, interleaved; medians, and the ratio. The server is another process.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import httpx

import wiro_async

Contender = Callable[[str, int, int], Coroutine[None, None, float]]


async def ours(base: str, in_flight: int, calls: int) -> float:
    """Return CPU seconds a call of wiro_async."""
    limits = wiro_async.Limits(max_in_flight=in_flight)
    async with wiro_async.Client("key", "secret", base_url=base, limits=limits) as client:
        handle = client.attach("2221")

        async def call() -> None:
            await handle.refresh()

        return await spread(call, in_flight, calls)


async def obvious(base: str, in_flight: int, calls: int) -> float:
    """Return CPU seconds a call of a script on httpx, with its pool of 100 connections."""
    async with httpx.AsyncClient() as client:

        async def call() -> None:
            nonce = str(time.time_ns())
            signature = hmac.new(b"key", b"secret" + nonce.encode(), hashlib.sha256).hexdigest()
            headers = {"x-api-key": "key", "x-nonce": nonce, "x-signature": signature}
            reply = await client.post(f"{base}/Task/Detail", json={"taskid": "2221"}, headers=headers)
            assert reply.json()["result"] is True

        return await spread(call, in_flight, calls)


async def spread(call: Callable[[], Awaitable[None]], in_flight: int, calls: int) -> float:
    """Make *calls* calls by *in_flight* workers, after a warm-up, and return the CPU seconds of each."""

    async def worker(number: int) -> None:
        for _ in range(number):
            await call()

    await asyncio.gather(*(worker(1) for _ in range(in_flight)))
    start = time.process_time()
    await asyncio.gather(*(worker(calls // in_flight) for _ in range(in_flight)))
    return (time.process_time() - start) / (calls // in_flight * in_flight)


CONTENDERS: dict[str, Contender] = {"wiro_async": ours, "httpx.AsyncClient": obvious}


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "server.py")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        print("| in flight | wiro_async, µs | httpx.AsyncClient, µs | ratio |\n|---|---|---|---|")
        for in_flight in (1, 10, 100):
            calls = options.calls * (2 if in_flight == 100 else 1)
            figures: dict[str, list[float]] = {name: [] for name in CONTENDERS}
            for _ in range(options.rounds):
                for name, contender in CONTENDERS.items():
                    figures[name].append(asyncio.run(contender(base, in_flight, calls)))
            mine, theirs = (statistics.median(figures[name]) for name in CONTENDERS)
            print(
                f"| {in_flight} | {mine * 1e6:.0f} | {theirs * 1e6:.0f} | {theirs / mine:.1f} |", flush=True
            )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
