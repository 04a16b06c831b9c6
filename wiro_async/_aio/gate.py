"""A limit on what is in flight, with priorities. Its cost does not depend on how many wait."""

from __future__ import annotations

import math
from collections import deque

from wiro_async._aio.clock import Alarm
from wiro_async._protocol.operations import Priority

__all__ = ["Gate"]


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
