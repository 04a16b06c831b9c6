"""Watching by asking: whoever awaits does the asking, and several awaiters of one task share it.

There is no background task. The first awaiter leads: it sleeps until the schedule's next look and makes it.
The others follow: they sleep until a look was made or the leader is gone, and then one of them leads.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from wiro_async._aio.waiting import Alarm, now
from wiro_async._errors import WiroError
from wiro_async._http.retry import is_transient, is_unwell
from wiro_async._watch.schedule import Schedule, Sight

__all__ = ["Poll"]

Look: TypeAlias = Callable[[float], Awaitable[object]]
"""Makes one look, and gives up at the time that it gets, on the event loop's clock."""


class Poll:
    """Paces the looks at one task.

    It does not know who looks: whoever waits says so, or else each task and its poll would hold each other.

    Args:
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
        "__weakref__",
        "_alarm",
        "_hurry",
        "_leading",
        "_place",
        "_reserved",
        "_schedule",
        "expected",
        "failures",
        "model",
        "polled_at",
        "safety_interval",
        "since",
        "started",
        "urgent_interval",
    )  # fmt: skip

    def __init__(
        self,
        schedule: Schedule,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._schedule = schedule
        self._place = chance()
        self._leading: bool = False
        self._alarm: Alarm = Alarm()
        self._hurry: bool = False
        self._reserved: float | None = None
        self.model: str = ""
        self.since: float | None = None
        self.started: float | None = None
        self.expected: float | None = None
        self.polled_at: float | None = None
        self.safety_interval: float | None = None
        self.urgent_interval: float | None = None
        self.failures: int = 0

    def begin(self, *, fresh: bool) -> None:
        """Tell when the task was first known: a *fresh* one needs no look before its first interval."""
        time = self.since = now()
        self.polled_at = time if fresh else None
        # The schedule learns from tasks in the order in which it first met them.
        self._schedule.next_poll(self.sight(time), time)

    async def step(self, look: Look, until: float = math.inf) -> None:
        """Return once one more look was made, by this awaiter or another, or there were other news.

        Args:
            look: Makes one look at the task.
            until: When to return without any, on the event loop's clock; a look under way is broken off.

        Raises:
            WiroError: The look failed in a way that another look would not mend.
        """
        if self._leading:
            await self._alarm.sleep_until(until)
            return
        self._leading = True
        try:
            time = now()
            due = self._first_due(time)
            waited = max(time - due, 0.0)
            while (ready := self._ready(due, waited, time)) > time:
                if not await self._alarm.sleep_until(min(ready, until)) or ready > until:
                    return
                time = now()
            await self._poll_once(look, until)
        finally:
            # Synchronous: a leader that is cancelled here still hands over.
            self._leading = False
            self.notify()

    def notify(self) -> None:
        """Wake every awaiter, for something was learned of the task in another way."""
        self._alarm.ring()

    def hurry(self) -> None:
        """Make the next look due at once, before all budgets: an event says that it pays."""
        self._hurry = True
        self.notify()

    def due(self, time: float) -> float:
        """Return when the next look is due, before the budget, as things are at *time*."""
        if self.polled_at is None:
            return time
        if self.safety_interval is not None and self.urgent_interval is None and not self.failures:
            return self.polled_at + self.safety_interval
        due = self._schedule.next_poll(self.sight(time), time)
        return (
            due
            if self.urgent_interval is None or self.failures
            else min(due, self.polled_at + self.urgent_interval)
        )

    def sight(self, time: float) -> Sight:
        """Return what the schedule is told of the task at *time*."""
        since = time if self.since is None else self.since
        return Sight(
            self.model, since, self.started, self.polled_at, self.failures, self._place, self.expected
        )

    def _first_due(self, time: float) -> float:
        if self.since is None:
            self.since = time
        return time if self._hurry else self.due(time)

    def _ready(self, due: float, waited: float, time: float) -> float:
        """Return when a look that is *due* can be made, or when to ask again."""
        if due > time or self._hurry:
            return due
        if self._reserved is None:
            # Kept when news come between, or else each of them would cost a place in the budget.
            self._reserved = self._schedule.reserve(time, waited)
        # Meanwhile another's look may have shown that the service is unwell.
        return max(self._reserved, self._schedule.rest(self._place))

    async def _poll_once(self, look: Look, until: float) -> None:
        self._hurry = False
        self._reserved = None
        self._schedule.polled()
        try:
            await look(until)
        except WiroError as error:
            if not is_transient(error):
                raise
            if now() >= until:
                return  # It was broken off, and tells nothing.
            self.failures += 1
            if is_unwell(error):
                self._schedule.unwell(now(), getattr(error, "retry_after", None))
        else:
            self.failures = 0
            self._schedule.well()
        finally:
            self.polled_at = now()
