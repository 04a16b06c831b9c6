"""Watching by polling: whoever awaits does the polling, and several awaiters of one task share it.

There is no background task. The first awaiter leads: it sleeps until the schedule's next poll and makes it.
The others follow: they sleep until a poll was made or the leader is gone, and then one of them leads.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Protocol

from wiro_async._aio import Alarm, now
from wiro_async._errors import InvalidResponse, WiroError
from wiro_async._http.retry import is_transient, is_unwell
from wiro_async._watch.schedule import Schedule, TaskTiming

__all__ = ["Poll", "Pollable"]

FOREIGN_REPLIES = 5
FOREIGN_SECONDS = 30.0
"""So many replies in a row that are not the service's, over so many seconds, end a wait. A page from the edge
passes; a firewall's rule, or a wrong address, does not."""


class Pollable(Protocol):
    """What is polled."""

    async def poll_once(self, until: float) -> object:
        """Make one poll, and give up at that time, on the event loop's clock."""
        ...


class Poll(Alarm):
    """Paces the polls of one task, and wakes its awaiters.

    It is an alarm, and has none, because thousands of tasks may wait, and the garbage collector visits each
    object. It is told anew at each step whom to poll, or else each task and its poll would hold each other.

    Args:
        schedule: The client's schedule.
        model: The task's model ("" while unknown).
        since: When the task was submitted (None: by somebody else, so that the first poll is due at once).
        expected: Seconds that the user expects it to take (None: no idea).
        chance: A source of random numbers between 0 and 1: the task's place among equals.

    Attributes:
        model: The task's model.
        since: When the task was created, on the event loop's clock (None: not known yet).
        started: When it began to run, on the same clock (None: not seen running).
        polled_at: When the last poll ended, or the submit (None: there was neither).
        safety_interval: Seconds between two polls while something else will tell the end (None: nothing
            will).
        urgent_interval: Seconds between two polls at most, because the end is known to be near (None: it is
            not).
        latest: When the next poll is due at the latest, on the same clock (inf: the schedule decides). It
            does not hold once that poll was made, nor while polls fail.
        failures: How many polls in a row have failed.
    """

    __slots__ = (
        "__weakref__",
        "_expected",
        "_foreign",
        "_foreign_since",
        "_hurry",
        "_leading",
        "_place",
        "_reserved",
        "_schedule",
        "failures",
        "latest",
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
        model: str = "",
        *,
        since: float | None = None,
        expected: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._schedule: Schedule = schedule
        self._place: float = chance()
        self._expected: float | None = expected
        self._leading: bool = False
        self._hurry: bool = False
        self._reserved: float | None = None
        self._foreign: int = 0
        self._foreign_since: float = 0.0
        self.model: str = model
        self.since: float | None = since
        self.started: float | None = None
        self.polled_at: float | None = since
        self.safety_interval: float | None = None
        self.urgent_interval: float | None = None
        self.latest: float = math.inf
        self.failures: int = 0
        if since is not None:
            schedule.enter(self.timing(since))

    async def step(self, task: Pollable, until: float = math.inf) -> None:
        """Return once one more poll was made, by this awaiter or another, or there were other news.

        Args:
            task: What to poll.
            until: When to return without any, on the event loop's clock; a poll under way is broken off.

        Raises:
            WiroError: The poll failed in a way that another one would not mend.
        """
        if self._leading:
            await self.sleep_until(until)
            return
        self._leading = True
        try:
            time = now()
            if self.since is None:
                self.since = time
            due = time if self._hurry else self.due(time)
            overdue = max(time - due, 0.0)
            while (ready := self._ready(due, overdue, time)) > time:
                if not await self.sleep_until(min(ready, until)) or ready > until:
                    # There are news, or there is no time left: the caller decides whether to go on.
                    return
                # Asked again: meanwhile another task's poll may have shown that the service is unwell.
                time = now()
            await self._poll(task, until)
        finally:
            # Synchronous: a leader that is cancelled here still hands over.
            self._leading = False
            self.ring()

    def hurry(self) -> None:
        """Make the next poll due at once, before all budgets: an event says that it pays."""
        self._hurry = True
        self.ring()

    def due(self, time: float) -> float:
        """Return when the next poll is due, before the budget, as things are at *time*."""
        if self.polled_at is None:
            return time
        # None of what follows holds while polls fail: then the schedule backs off.
        if self.failures:
            return self._schedule.next_poll(self.timing(time), time)
        # One that was due before the last poll has been made.
        latest = self.latest if self.latest > self.polled_at else math.inf
        if self.urgent_interval is not None:
            latest = min(latest, self.polled_at + self.urgent_interval)
        elif self.safety_interval is not None:
            return min(latest, self.polled_at + self.safety_interval)
        return min(latest, self._schedule.next_poll(self.timing(time), time))

    def timing(self, time: float) -> TaskTiming:
        """Return what the schedule is told of the task at *time*."""
        since = time if self.since is None else self.since
        return TaskTiming(
            self.model, since, self.started, self.polled_at, self.failures, self._place, self._expected
        )

    def _ready(self, due: float, overdue: float, time: float) -> float:
        """Return when a poll that is *due* can be made, or when to ask again."""
        if due > time or self._hurry:
            return due
        if self._reserved is None:
            # Kept when news come between, or else each of them would cost a place in the budget.
            self._reserved = self._schedule.reserve(time, overdue)
        return max(self._reserved, self._schedule.paused_until(self._place))

    async def _poll(self, task: Pollable, until: float) -> None:
        self._hurry = False
        self._reserved = None
        self._schedule.polled()
        try:
            await task.poll_once(until)
        except WiroError as error:
            if not is_transient(error):
                raise
            if now() >= until:
                return  # It was broken off, and tells nothing.
            self._count_foreign(error)
            self.failures += 1
            if is_unwell(error):
                self._schedule.back_off(now(), getattr(error, "retry_after", None))
        else:
            self.failures = self._foreign = 0
            self._schedule.recover()
        finally:
            self.polled_at = now()

    def _count_foreign(self, error: WiroError) -> None:
        """Count replies in a row that are no outage, and not the service's either: they end the wait.

        Raises:
            InvalidResponse: There were too many, for too long.
        """
        if not isinstance(error, InvalidResponse) or not (
            error.too_large or 400 <= (error.http_status or 0) < 500
        ):
            self._foreign = 0
            return
        if not self._foreign:
            self._foreign_since = now()
        self._foreign += 1
        lasted = now() - self._foreign_since
        if self._foreign >= FOREIGN_REPLIES and lasted >= FOREIGN_SECONDS:
            raise InvalidResponse(
                f"{error.message}. The last {self._foreign} replies in a row were like this, over "
                f"{lasted:.0f} s, which ends the wait; the task goes on: attach to it when the service can "
                f"be reached again",
                http_status=error.http_status,
                operation=error.operation,
                excerpt=error.excerpt,
                too_large=error.too_large,
            ) from error
