"""The event loop's time, and waiting: for a moment, for a ring, for a turn.

On trio this is anyio. On asyncio it is a future and a timer: a cancel scope for each sleep takes six times as
long and holds a kilobyte, and there are as many as there are tasks that are waited for.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections import deque

import anyio

from wiro_async._types import Priority

__all__ = ["Alarm", "Gate", "Turnstile", "now", "running_loop"]

PER_TURN = 50
"""How many may begin in one turn of the event loop: what they do at once then takes it some 5 ms."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's (or uvloop's) event loop if a task of it runs this; None on trio."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    # Where trio is asyncio's guest, asyncio's loop runs, but none of its tasks.
    return None if asyncio.current_task(loop) is None else loop


def now() -> float:
    """Return the event loop's time in seconds, as ``anyio.current_time`` does."""
    loop = running_loop()
    return anyio.current_time() if loop is None else loop.time()


class Alarm:
    """Wakes whoever sleeps: all at once when it rings, and each at a time of its own."""

    __slots__ = ("_event", "_others", "_sleeper")

    def __init__(self) -> None:
        # Mostly there is one, and a list for each of thousands is something to be collected.
        self._sleeper: asyncio.Future[bool] | None = None
        self._others: list[asyncio.Future[bool]] | None = None
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake everybody who sleeps now."""
        sleeper, self._sleeper = self._sleeper, None
        others, self._others = self._others, None
        for sleeping in (sleeper, *(others or ())):
            if sleeping is not None:
                _wake(sleeping, in_time=False)
        if self._event is not None:
            self._event.set()
            self._event = None

    async def sleep_until(self, time: float = math.inf) -> bool:
        """Sleep until it rings, or until *time*, and give the event loop a turn in any case.

        Returns:
            Whether it is that time; False if it has rung before.
        """
        loop = running_loop()
        if loop is None:
            return await self._sleep_on_trio(time)
        sleeper: asyncio.Future[bool] = loop.create_future()
        timer = None if time == math.inf else loop.call_at(time, _wake, sleeper, context=_thread.context)
        self._remember(sleeper)
        try:
            return await sleeper
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(sleeper)

    def _remember(self, sleeper: asyncio.Future[bool]) -> None:
        if self._sleeper is None:
            self._sleeper = sleeper
        elif self._others is None:
            self._others = [sleeper]
        else:
            self._others.append(sleeper)

    def _forget(self, sleeper: asyncio.Future[bool]) -> None:
        if self._sleeper is sleeper:
            self._sleeper = None
        elif self._others is not None and sleeper in self._others:
            self._others.remove(sleeper)

    async def _sleep_on_trio(self, time: float) -> bool:
        if self._event is None:
            self._event = anyio.Event()
        with anyio.CancelScope(deadline=time):
            await self._event.wait()
            return False
        return True


class _Thread(threading.local):
    """What timers share: each would else keep a copy of its maker's context.

    One for each thread, because a context is entered by one at a time.
    """

    def __init__(self) -> None:
        self.context: contextvars.Context = contextvars.Context()


_thread = _Thread()


def _wake(sleeper: asyncio.Future[bool], in_time: bool = True) -> None:
    if not sleeper.done():
        sleeper.set_result(in_time)


class Turnstile:
    """Lets a few through in each turn of asyncio's event loop, first come, first served.

    Thousands that begin at once, as with ``asyncio.gather``, would all begin in the same turn, and nothing
    else had one meanwhile. On trio everybody goes through: it has no turns that can be counted.
    """

    __slots__ = ("_left", "_loop", "_waiting")

    def __init__(self) -> None:
        self._left: int = 0
        # Counted anew on another loop, for this one may end in the middle of a turn.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Return at once, or after some turns."""
        loop = running_loop()
        if loop is None:
            return
        if loop is not self._loop:
            self._loop, self._left = loop, PER_TURN
            self._waiting.clear()
            loop.call_soon(self._turn, loop)
        if self._left:
            self._left -= 1
            return
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        if self._left == PER_TURN:
            # A turn in which nobody came: whoever is next begins to count.
            self._loop = None
            return
        self._left = PER_TURN
        while self._waiting and self._left:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._left -= 1
        loop.call_soon(self._turn, loop)


class _Waiter:
    __slots__ = ("admitted", "alarm", "gone")

    def __init__(self) -> None:
        self.alarm: Alarm = Alarm()
        self.admitted: bool = False
        self.gone: bool = False


class Gate:
    """Lets a fixed number of calls through at a time: by priority, then first come, first served.

    Every change of state is made in one synchronous step, so a cancellation at any moment neither loses a
    slot nor makes one.

    Args:
        slots: How many may be inside.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._slots = slots
        self._queues: tuple[deque[_Waiter], ...] = tuple(deque() for _ in Priority)

    @property
    def in_flight(self) -> int:
        """How many are inside."""
        return self._slots - self._free

    @property
    def waiting(self) -> int:
        """How many wait outside."""
        return sum(not waiter.gone for queue in self._queues for waiter in queue)

    def enter_nowait(self) -> bool:
        """Take a slot if one is free; whoever gets one must call ``leave()``."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def enter(self, priority: Priority, until: float = math.inf) -> bool:
        """Wait for a slot; whoever gets one must call ``leave()``.

        Args:
            priority: Whom it lets go first.
            until: When to give up, on the event loop's clock.

        Returns:
            Whether there is one.
        """
        if self.enter_nowait():
            return True
        waiter = _Waiter()
        self._queues[priority].append(waiter)
        try:
            await waiter.alarm.sleep_until(until)
        except BaseException:
            waiter.gone = True
            if waiter.admitted:
                self.leave()
            raise
        waiter.gone = not waiter.admitted
        return waiter.admitted

    def leave(self) -> None:
        """Hand the slot to the next in line; only when nobody waits is it free."""
        for queue in self._queues:
            while queue:
                waiter = queue.popleft()
                if not waiter.gone:
                    waiter.admitted = True
                    waiter.alarm.ring()
                    return
        self._free += 1
