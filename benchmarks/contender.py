"""What every contender's process does alike: take its order, measure itself, say what it saw.

A baseline gives a context manager that yields one Detail call, and a coroutine that does all jobs.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import json
import os
import selectors
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "LOOK_SECONDS",
    "Call",
    "Calls",
    "Jobs",
    "Known",
    "Order",
    "Probe",
    "clock",
    "headers",
    "main",
    "resident",
]

Call = Callable[[], Awaitable[object]]
Calls = Callable[["Order"], AbstractAsyncContextManager[Call]]
Jobs = Callable[["Order", "Known"], Awaitable[None]]
Known = dict[str, float]
"""When the end of each task was known, as a unix time, by its id."""

LOOK_SECONDS = 3.0
"""What scripts sleep between two looks, before time is compressed: the service's mobile SDKs do so."""

WARM_UP = 300
"""Calls that are not counted: compilers learn from them."""

DRAIN = 1.5
"""Seconds that calls on their way have to come to an end."""

LATE = 1.0
"""Seconds that a blocked event loop gets to say itself that time is over."""

clock = time.time
"""The true time of day, whatever the clock of this process does."""

STALL_PROBE = 0.01
"""Seconds between two looks at how late the event loop is."""


@dataclass(frozen=True)
class Order:
    """What a contender is to do.

    Attributes:
        do: ``calls``, ``jobs``, or what else the contender can do.
        base: The API's address.
        count: How many calls at most, or how many jobs.
        waiting: How many coroutines make the calls, one number after the other.
        in_flight: How many calls may be on the wire at a time.
        factor: By how much time is compressed: the clocks of the contender's process run that much faster.
        epoch: Since when, as a unix time.
        seconds: For how long to make calls each time; when to give up jobs.
        watch: How ends are learned, where there is a choice.
        model: The model to run.
        inputs: Its inputs.
        journal: Where a batch keeps its journal.
        earlier: How long earlier jobs were queued and ran, in seconds, for who learns from that.
    """

    do: str
    base: str
    count: int = 1000
    waiting: Sequence[int] = (1,)
    in_flight: int = 100
    factor: float = 1.0
    epoch: float = 0.0
    seconds: float = 30.0
    watch: str = "poll"
    model: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    journal: str = ""
    earlier: Sequence[Sequence[float]] = ()


class _FastSelector(selectors.DefaultSelector):
    factor: float = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self.factor if timeout else timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs faster, so that code with its true times goes through its day sooner.

    Only what waits is faster: CPU and the network are what they are, so timeouts are to be off or very long.

    Args:
        factor: By how much.
    """

    def __init__(self, factor: float) -> None:
        self._factor: float = factor
        selector = _FastSelector()
        selector.factor = factor
        super().__init__(selector)

    def time(self) -> float:
        """Return the clock's seconds."""
        return time.monotonic() * self._factor


def headers() -> dict[str, str]:
    """Sign as the service's pages show it."""
    nonce = str(time.time_ns())
    signature = hmac.new(b"key", b"secret" + nonce.encode(), hashlib.sha256).hexdigest()
    return {"x-api-key": "key", "x-nonce": nonce, "x-signature": signature}


def resident() -> int:
    """Return the resident memory of this process in bytes (0 where the system does not tell)."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most resident memory so far, in bytes."""
    return _status("VmHWM") or _maxrss()


def _status(name: str) -> int:
    # Not from getrusage where it can be helped: there a child begins with its parent's peak.
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def _maxrss() -> int:
    import resource  # noqa: PLC0415 - not on Windows

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


class Probe:
    """What a stretch of work cost this process: CPU, time, and the event loop's longest stall.

    Args:
        factor: By how much faster the event loop's clock runs.
    """

    def __init__(self, factor: float = 1.0) -> None:
        self._factor = factor
        self._stall: float = 0.0
        self._due: float
        self._timer: asyncio.TimerHandle
        gc.collect()
        self._began: float = clock()
        self._wall: float = time.perf_counter()
        self._cpu: float = time.process_time()
        self._next()

    def _next(self) -> None:
        self._due = time.perf_counter() + STALL_PROBE
        self._timer = asyncio.get_running_loop().call_later(STALL_PROBE * self._factor, self._look)

    def _look(self) -> None:
        self._stall = max(self._stall, time.perf_counter() - self._due)
        self._next()

    def figures(self) -> dict[str, float]:
        """Return the figures so far, in seconds and bytes; any thread may ask."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        stall = max(self._stall, time.perf_counter() - self._due)
        return {"cpu": cpu, "wall": wall, "began": self._began, "stall": stall, "rss": float(peak())}

    def stop(self) -> dict[str, float]:
        """Return the figures, and look no more."""
        self._timer.cancel()
        return self.figures()


@contextmanager
def watchdog(seconds: float, report: Callable[[], object]) -> Iterator[None]:
    """Print what is known and end the process if the block takes longer, be the event loop blocked."""

    def bark() -> None:
        _tell(report())

    timer = threading.Timer(seconds, bark)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(seen: object) -> NoReturn:
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()
    # Without taking leave: closing thousands of connections is not what is measured.
    os._exit(0)


async def make_calls(calls: Calls, order: Order) -> dict[str, Any]:
    """Make calls for ``order.seconds``, by each number of coroutines in turn, after a warm-up."""
    async with calls(order) as call:
        for _ in range(WARM_UP // 10):
            await asyncio.gather(*(call() for _ in range(10)))
    seen: dict[str, Any] = {}
    for waiting in order.waiting:
        seen[str(waiting)] = await _level(calls, order, waiting, seen)
    return seen


async def _level(calls: Calls, order: Order, waiting: int, before: dict[str, Any]) -> dict[str, Any]:
    begun = done = 0

    def report() -> dict[str, Any]:
        return {**before, str(waiting): {**probe.figures(), "begun": begun, "done": done}}

    async with calls(order) as call:
        await asyncio.gather(*(call() for _ in range(min(waiting, order.in_flight))))

        async def worker() -> None:
            nonlocal begun, done
            while begun < order.count and time.perf_counter() < until:
                begun += 1
                await call()
                done += 1

        probe = Probe()
        until = time.perf_counter() + order.seconds
        with watchdog(order.seconds + DRAIN + LATE, report):
            await _all(worker, waiting, order.seconds + DRAIN)
        return {**probe.stop(), "begun": begun, "done": done}


async def _all(worker: Callable[[], Awaitable[None]], count: int, seconds: float) -> None:
    # Whoever is not done in time is left as it is: taking thousands of requests back can take minutes.
    tasks = [asyncio.ensure_future(worker()) for _ in range(count)]
    done, _ = await asyncio.wait(tasks, timeout=seconds)
    for task in done:
        task.result()


async def do_jobs(jobs: Jobs, order: Order) -> dict[str, Any]:
    """Do all jobs; say when each end was known, and which were not done in time."""
    known: Known = {}
    probe = Probe(order.factor)

    async def everything() -> None:
        await jobs(order, known)

    with watchdog(order.seconds + LATE, lambda: {**probe.figures(), "known": dict(known)}):
        await _all(everything, 1, order.seconds * order.factor)
    return {**probe.stop(), "known": dict(known)}


def main(
    calls: Calls, jobs: Jobs, others: Mapping[str, Callable[[Order], Awaitable[Any]]] | None = None
) -> None:
    """Follow the order on the command line, and print what was measured as one line of JSON."""
    order = Order(**json.loads(sys.argv[1]))

    async def follow() -> None:
        if order.do == "calls":
            seen = await make_calls(calls, order)
        elif order.do == "jobs":
            seen = await do_jobs(jobs, order)
        else:
            seen = await (others or {})[order.do](order)
        _tell(seen)

    with asyncio.Runner(loop_factory=lambda: FastLoop(order.factor)) as runner:
        if order.factor != 1.0:
            time.time = lambda: order.epoch + (clock() - order.epoch) * order.factor
        runner.run(follow())
