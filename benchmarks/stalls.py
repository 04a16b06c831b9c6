"""How long an event loop did not turn, and how much of that was CPython's garbage collector."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any, Literal, TypeAlias, get_args

from benchmarks.lines import Line

__all__ = ["COLLECTORS", "Beat", "Collector", "set_collector"]

BEAT = 0.01
MOST_STALL = 50.0

Collector: TypeAlias = Literal["usual", "frozen", "off"]
COLLECTORS: tuple[Collector, ...] = get_args(Collector)


def set_collector(how: Collector) -> None:
    """Set the garbage collector as a user might, once everything is imported.

    Args:
        how: ``"usual"`` leaves it alone; ``"frozen"`` spares it what is imported; ``"off"`` does without.
    """
    if how == "frozen":
        gc.collect()
        gc.freeze()
    elif how == "off":
        gc.disable()


class Beat:
    """Looks every few milliseconds whether the event loop still turns.

    Attributes:
        stall: The longest time that it did not, in seconds.
        busy: How long the loop's own thread computed in the worst of these times: on a busy machine the rest
            was another program's.
        collection: The longest garbage collection, in seconds.
        full: How many collections were full.
    """

    def __init__(self) -> None:
        self.stall: float = 0.0
        self.busy: float = 0.0
        self.collection: float = 0.0
        self.full: int = 0
        self._collecting: float = 0.0
        self._due: float = 0.0
        self._cpu: float = 0.0
        gc.callbacks.append(self._collects)
        self._next()

    def _next(self) -> None:
        self._due, self._cpu = time.perf_counter() + BEAT, time.thread_time()
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._look)

    def _look(self) -> None:
        self.stall = max(self.stall, time.perf_counter() - self._due)
        self.busy = max(self.busy, time.thread_time() - self._cpu - BEAT)
        self._next()

    def _collects(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
            return
        self.collection = max(self.collection, time.perf_counter() - self._collecting)
        self.full += info["generation"] == 2

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
        gc.callbacks.remove(self._collects)

    @property
    def line(self) -> Line:
        """All of it, as a row of a table."""
        note = (
            f"of its own work {self.busy * 1e3:.0f} ms; longest garbage collection "
            f"{self.collection * 1e3:.0f} ms, {self.full} of them full"
        )
        return Line("longest stall of the event loop, ms", self.stall * 1e3, MOST_STALL, note)
