"""Watching by asking: whoever awaits does the asking, and several awaiters of one task share it.

There is no background task. The first awaiter leads: it sleeps until the schedule's next look and makes it.
The others follow: they sleep until a look was made or the leader is gone, and then one of them leads.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio

from wiro_async._errors import WiroError
from wiro_async._retry import is_transient, is_unwell
from wiro_async._schedule import Schedule, Sight

__all__ = ["Poll"]


class Poll:
    """Paces the looks at one task.

    Args:
        look: Makes one look.
        schedule: The client's schedule.
        chance: A source of random numbers between 0 and 1: the task's place among equals.

    Attributes:
        model: The task's model ("" while unknown).
        since: When the task was created, on the event loop's clock (None: not known yet).
        started: When it began to run, on the same clock (None: not seen running).
        expected: Seconds that the user expects it to take (None: no idea).
        looked_at: When the last look ended (None: there was none).
        calm: Seconds between two looks while something else will tell the end (None: nothing will).
        soon: Seconds between two looks at most, because the end is known to be near (None: it is not).
        failures: How many looks in a row have failed.
    """

    __slots__ = (
        "__weakref__", "_hurry", "_leading", "_look", "_news", "_place", "_reserved", "_schedule", "calm",
        "expected", "failures", "looked_at", "model", "since", "soon", "started",
    )  # fmt: skip

    def __init__(
        self,
        look: Callable[[], Awaitable[object]],
        schedule: Schedule,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._look = look
        self._schedule = schedule
        self._place = chance()
        self._leading: bool = False
        self._news: anyio.Event | None = None
        self._hurry: bool = False
        self._reserved: float | None = None
        self.model: str = ""
        self.since: float | None = None
        self.started: float | None = None
        self.expected: float | None = None
        self.looked_at: float | None = None
        self.calm: float | None = None
        self.soon: float | None = None
        self.failures: int = 0

    def begin(self, *, fresh: bool) -> None:
        """Tell when the task was first known: a *fresh* one needs no look before its first interval."""
        now = self.since = anyio.current_time()
        self.looked_at = now if fresh else None
        # The schedule learns from tasks in the order in which it first met them.
        self._schedule.next_look(self.sight(now), now)

    async def step(self) -> None:
        """Return once one more look was made, by this awaiter or another, or there were other news.

        Raises:
            WiroError: The look failed in a way that another look would not mend.
        """
        if self._leading:
            await self._wait_for_news()
        else:
            await self._lead()

    def notify(self) -> None:
        """Wake every awaiter, for something was learned of the task in another way."""
        if self._news is not None:
            self._news.set()
            self._news = None

    def hurry(self) -> None:
        """Make the next look due at once, before all budgets: an event says that it pays."""
        self._hurry = True
        self.notify()

    def due(self, now: float) -> float:
        """Return when the next look is due, before the budget."""
        if self.looked_at is None:
            return now
        if self.calm is not None and self.soon is None and not self.failures:
            return self.looked_at + self.calm
        due = self._schedule.next_look(self.sight(now), now)
        return due if self.soon is None or self.failures else min(due, self.looked_at + self.soon)

    def sight(self, now: float) -> Sight:
        """Return what the schedule is told of the task."""
        since = now if self.since is None else self.since
        return Sight(
            self.model, since, self.started, self.looked_at, self.failures, self._place, self.expected
        )

    async def _wait_for_news(self) -> None:
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()

    async def _lead(self) -> None:
        self._leading = True
        try:
            if await self._come_due():
                await self._look_once()
        finally:
            # Synchronous: a leader that is cancelled here still hands over.
            self._leading = False
            self.notify()

    async def _come_due(self) -> bool:
        """Sleep until the next look; False if there were news before."""
        now = anyio.current_time()
        if self.since is None:
            self.since = now
        if self._hurry:
            return True
        due = self.due(now)
        if due > now and not await self._sleep_until(due):
            return False
        if self._reserved is None:
            # Kept when news come between, or else each of them would cost a place in the budget.
            self._reserved = self._schedule.reserve(anyio.current_time(), max(now - due, 0.0))
        if not await self._sleep_until(self._reserved):
            return False
        # Meanwhile another's look may have shown that the service is unwell.
        while (rest := self._schedule.rest(self._place)) > anyio.current_time():
            if not await self._sleep_until(rest):
                return False
        return True

    async def _sleep_until(self, due: float) -> bool:
        if due <= anyio.current_time():
            return True
        with anyio.CancelScope(deadline=due):
            await self._wait_for_news()
            return False
        return True

    async def _look_once(self) -> None:
        self._hurry = False
        self._reserved = None
        self._schedule.looked()
        try:
            await self._look()
        except WiroError as error:
            if not is_transient(error):
                raise
            self.failures += 1
            if is_unwell(error):
                self._schedule.unwell(anyio.current_time(), getattr(error, "retry_after", None))
        else:
            self.failures = 0
            self._schedule.well()
        finally:
            self.looked_at = anyio.current_time()
