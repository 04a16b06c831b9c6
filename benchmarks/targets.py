"""What the figures should show. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "AIOHTTP", "CALLBACK", "HTTPX", "LIBRARIES", "LIBRARIES_AND_LOOP", "NODE", "POLL", "RAW", "SDK", "SOCKET",
    "SOCKETS", "TARGETS", "WIRO", "Target",
]  # fmt: skip

WIRO = "wiro_async"
POLL = "wiro_async, polling"
SOCKET = "wiro_async, a socket a task"
SOCKETS = "wiro_async, 100 tasks a socket"
CALLBACK = "wiro_async, callbacks"
HTTPX = "script on httpx"
AIOHTTP = "script on aiohttp"
SDK = "generated SDK's loop"
NODE = "official schedule in Node"
RAW = "lower bound"
LIBRARIES = "import httpx, anyio, attrs"
LIBRARIES_AND_LOOP = "import asyncio, httpx, anyio, attrs"


@dataclass(frozen=True)
class Target:
    """The most that a figure may be.

    Attributes:
        section: Of which section.
        metric: Which figure.
        contender: Whose.
        at_most: The bound, in the figure's unit; with *against*, of the ratio.
        against: Whose figure ours is divided by ("": nobody's).
        n: For which n (empty: for all).
    """

    section: str
    metric: str
    contender: str
    at_most: float
    against: str = ""
    n: tuple[int, ...] = ()

    def applies(self, n: int) -> bool:
        """Tell whether the target is for *n*."""
        return not self.n or n in self.n


def _targets() -> Iterator[Target]:
    yield Target("calls", "CPU", WIRO, 0.1, against=HTTPX, n=(100,))
    yield Target("calls", "CPU", WIRO, 2.5, against=AIOHTTP, n=(100,))
    yield Target("pieces", "signing", WIRO, 10.0)
    yield Target("pieces", "decoding and building a Task", WIRO, 40.0)
    yield Target("jobs", "CPU a job", POLL, 1.0, against=AIOHTTP)
    yield Target("jobs", "lateness p50", POLL, 1.0, against=AIOHTTP)
    for ours in (SOCKET, SOCKETS):
        yield Target("jobs", "CPU a job", ours, 1.0, against=POLL)
        yield Target("jobs", "lateness p50", ours, 10.0)
    for ours in (POLL, SOCKET):
        for theirs in (HTTPX, AIOHTTP, SDK, NODE):
            yield Target("jobs", "lateness p99", ours, 1.0, against=theirs, n=(1000, 5000))
            yield Target("jobs", "makespan", ours, 1.0, against=theirs, n=(1000, 5000))
        yield Target("jobs", "beyond the ideal makespan", ours, 2.0, n=(1000,))
    yield Target("start", "CPU of the import", "import wiro_async", 1.25, against=LIBRARIES)
    # A client needs an event loop, which the libraries leave for later.
    yield Target(
        "start", "CPU of the import", "from wiro_async import Client", 1.25, against=LIBRARIES_AND_LOOP
    )
    yield Target("growth", "memory a waiting job", WIRO, 8.0, n=(1000, 10_000, 50_000))
    yield Target("journal", "commit p99", f"{WIRO}, one writer", 10.0)
    yield Target("journal", "commit p99", f"{WIRO}, 100 writers", 10.0)
    yield Target("journal", "open", WIRO, 2.0)


TARGETS = tuple(_targets())
