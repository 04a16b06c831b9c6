"""Looks at tasks when something is due in their lives: a heap, and one timer for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs

__all__ = ["Follower", "Look", "Scheduler"]

_BATCH = 200  # looks in a row before the loop gets to do something else

Look: TypeAlias = Callable[[float], float | None]
"""Does what is due at this time, and says when to be called next; None: once the timeline has changed."""


@attrs.define(eq=False)
class Follower:
    """Somebody who wants to know how a task fares; ``due`` is when to look for him."""

    task_id: str
    look: Look
    due: float | None = None


class Scheduler:
    """Calls those who follow a task whenever something is due for it.

    All methods but :meth:`changed` are for the loop's own thread.

    Args:
        clock: Gives the time in unix seconds. If it is not the machine's, no timer is right: then
            :meth:`ring` is to be called once it was moved.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Callable[[], float] = clock
        self._followers: dict[str, list[Follower]] = {}
        self._heap: list[tuple[float, int, Follower]] = []
        self._numbers: Iterator[int] = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: float = 0.0

    def start(self) -> None:
        """Let the running loop's timers ring."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        """Let no timer ring any more."""
        self._disarm()
        self._loop = None

    def follow(self, task_id: str, look: Look) -> Follower:
        """Call *look* soon, and then whenever it asked for it or the task's timeline has changed."""
        follower = Follower(task_id, look)
        self._followers.setdefault(task_id, []).append(follower)
        self._expect(follower, self._clock())
        self._arm()
        return follower

    def unfollow(self, follower: Follower) -> None:
        """End this. Doing so twice is no fault."""
        others = self._followers.get(follower.task_id, [])
        if follower in others:
            others.remove(follower)
        if not others:
            self._followers.pop(follower.task_id, None)
        follower.due = None

    def changed(self, task_id: str) -> None:
        """Take the news that a task's timeline is another one, from any thread. Listens to the engine."""
        loop = self._loop
        if loop is not None and task_id in self._followers:
            with contextlib.suppress(RuntimeError):  # the loop was closed this very moment
                loop.call_soon_threadsafe(self._look_again, task_id)

    def ring(self) -> None:
        """Look for all those for whom something is due."""
        now = self._clock()
        for _ in range(_BATCH):
            if not (self._heap and self._heap[0][0] <= now):
                break
            at, _, follower = heapq.heappop(self._heap)
            if follower.due == at:
                self._look(follower, now)
        self._arm()

    def ring_if_due(self) -> None:
        """Do as the timer does, if its time has come: under a virtual clock it does not."""
        if self._heap and self._heap[0][0] <= self._clock():
            self.ring()

    def _look_again(self, task_id: str) -> None:
        now = self._clock()
        for follower in tuple(self._followers.get(task_id, ())):
            self._look(follower, now)
        self._arm()

    def _look(self, follower: Follower, now: float) -> None:
        follower.due = None
        due = follower.look(now)
        if due is not None:
            self._expect(follower, due)

    def _expect(self, follower: Follower, due: float) -> None:
        # Entries of before that no longer hold stay in the heap until their time.
        follower.due = due
        heapq.heappush(self._heap, (due, next(self._numbers), follower))

    def _arm(self) -> None:
        """Set the timer for what is due next."""
        if self._loop is None or not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None and self._timer_due <= due:
            return
        self._disarm()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self.ring()
