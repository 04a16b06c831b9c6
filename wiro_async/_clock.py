"""The event loop's time: what it is, and sleeping until it, or until something happens.

On trio this is anyio. On asyncio it is a future and a timer: a cancel scope for each sleep takes six times as
long and holds a kilobyte, and there are as many as there are tasks that are waited for.
"""

from __future__ import annotations

import asyncio
import math

import anyio

__all__ = ["Alarm", "now", "running_loop"]


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

    __slots__ = ("_event", "_sleepers")

    def __init__(self) -> None:
        self._sleepers: list[asyncio.Future[bool]] | None = None
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake everybody who sleeps now."""
        if self._sleepers is not None:
            sleepers, self._sleepers = self._sleepers, None
            for sleeper in sleepers:
                _wake(sleeper, in_time=False)
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
        timer = None if time == math.inf else loop.call_at(time, _wake, sleeper)
        if self._sleepers is None:
            self._sleepers = [sleeper]
        else:
            self._sleepers.append(sleeper)
        try:
            return await sleeper
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(sleeper)

    def _forget(self, sleeper: asyncio.Future[bool]) -> None:
        if self._sleepers is not None and sleeper in self._sleepers:
            self._sleepers.remove(sleeper)

    async def _sleep_on_trio(self, time: float) -> bool:
        if self._event is None:
            self._event = anyio.Event()
        with anyio.CancelScope(deadline=time):
            await self._event.wait()
            return False
        return True


def _wake(sleeper: asyncio.Future[bool], in_time: bool = True) -> None:
    if not sleeper.done():
        sleeper.set_result(in_time)
