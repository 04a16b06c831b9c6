"""Watching by asking: whoever awaits does the asking, and several awaiters of one task share it.

There is no background task. The first awaiter leads: it sleeps until the schedule's next look and makes it.
The others follow: they sleep until a look was made or the leader is gone, and then one of them leads.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio

from wiro_async._errors import WiroError
from wiro_async._retry import is_transient
from wiro_async._schedule import Schedule

__all__ = ["Poll"]


class Poll:
    """Paces the looks at one task.

    Args:
        look: Makes one look.
        schedule: The client's schedule.
        chance: A source of random numbers between 0 and 1, for jitter.
    """

    __slots__ = ("_chance", "_failures", "_leading", "_look", "_looked_at", "_news", "_schedule", "_since")

    def __init__(
        self,
        look: Callable[[], Awaitable[object]],
        schedule: Schedule,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._look = look
        self._schedule = schedule
        self._chance = chance
        self._since: float | None = None
        self._looked_at: float | None = None
        self._failures: int = 0
        self._leading: bool = False
        self._news: anyio.Event | None = None

    @property
    def failures(self) -> int:
        """How many looks in a row have failed."""
        return self._failures

    def begin(self, *, fresh: bool) -> None:
        """Tell when the task was first known: a *fresh* one needs no look before its first interval."""
        self._since = anyio.current_time()
        self._looked_at = self._since if fresh else None

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
        if self._since is None:
            self._since = now
        if self._looked_at is not None:
            interval = self._schedule.interval(now - self._since, self._failures, self._chance())
            if not await self._sleep_until(self._looked_at + interval):
                return False
        return await self._sleep_until(self._schedule.reserve(anyio.current_time()))

    async def _sleep_until(self, due: float) -> bool:
        if due <= anyio.current_time():
            return True
        with anyio.CancelScope(deadline=due):
            await self._wait_for_news()
            return False
        return True

    async def _look_once(self) -> None:
        try:
            await self._look()
        except WiroError as error:
            if not is_transient(error):
                raise
            self._failures += 1
        else:
            self._failures = 0
        finally:
            self._looked_at = anyio.current_time()
