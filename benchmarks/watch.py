"""Thousands of tasks that are waited for under one client: memory, event loop, CPU, requests, lateness.

``python -m benchmarks.watch --jobs 5000`` submits them together to a sandbox in a process of its own, whose
tasks live as long as real ones, and waits for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import attrs

from benchmarks.batch import MIB, jobs, sandbox
from benchmarks.contender import peak, resident
from benchmarks.harness import environment
from benchmarks.lines import Line, show
from benchmarks.load import MODEL
from benchmarks.stalls import COLLECTORS, Beat, set_collector
from wiro_async import Client, Limits, Polling, Statistics, TaskResult
from wiro_async._types import Watch

MOST_MEMORY = 150.0


@attrs.frozen
class Seen:
    """What was seen of one fan-out."""

    beat: Beat
    cpu: float
    wall: float
    succeeded: int
    statistics: Statistics
    memory: tuple[int, int]


async def measure(count: int, watch: Watch, sockets: int, polls: float, address: dict[str, str]) -> Seen:
    """Run *count* jobs together, and return what was seen."""
    async with Client(
        address["api_key"],
        address["api_secret"],
        base_url=address["base_url"],
        socket_url=address["socket_url"],
        watch=watch,
        polling=Polling(requests_per_second=polls),
        limits=Limits(max_sockets=sockets),
    ) as client:
        # What is imported at the first use is no stall of a large fan-out.
        await client.run(MODEL, next(jobs(1)).inputs)
        given = [job.inputs for job in jobs(count)]
        before, beat = resident(), Beat()
        wall, cpu = time.perf_counter(), time.process_time()
        ends = (client.run(MODEL, inputs) for inputs in given)
        found = await asyncio.gather(*ends, return_exceptions=True)
        beat.stop()
        return Seen(
            beat,
            time.process_time() - cpu,
            time.perf_counter() - wall,
            sum(isinstance(end, TaskResult) for end in found),
            client.statistics(),
            (before, peak()),
        )


def lines(count: int, seen: Seen) -> Iterator[Line]:
    """Yield the table."""
    before, most = (size / MIB for size in seen.memory)
    each = (most - before) * 1024 / count
    known = seen.statistics
    late = f"p99 {known.p99_lateness or 0.0:.2f} s"
    yield Line("jobs that did not succeed", count - seen.succeeded, 0)
    yield seen.beat.line
    yield Line("most RSS, MiB", most, MOST_MEMORY, f"{before:.0f} before, {each:.1f} KiB more a job")
    yield Line("CPU a job, ms", seen.cpu / count * 1e3, None, f"{seen.wall:.0f} s in all")
    yield Line("polls a job", known.polls_per_task or 0.0)
    yield Line("mean lateness, s", known.mean_lateness or 0.0, None, late)


def main() -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--watch", choices=get_args(Watch)[:-1], default="auto")
    parser.add_argument("--sockets", type=int, default=Limits().max_sockets, help="open at a time")
    parser.add_argument("--polls", type=float, default=400.0, help="requests per second at most")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster the tasks live")
    parser.add_argument("--collector", choices=COLLECTORS, default="usual", help="the garbage collector")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with sandbox(100_000, options.speed) as address:
        set_collector(options.collector)
        seen = asyncio.run(measure(options.jobs, options.watch, options.sockets, options.polls, address))
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    reached = show(lines(options.jobs, seen), options.json, **settings, environment=environment())
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
