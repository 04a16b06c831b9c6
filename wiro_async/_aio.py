"""What asyncio and trio do not have in common: work that must not be cut in half, and ways to wait.

The work: anyio's shield holds off the cancellation of anyio and trio, but not a native ``task.cancel()`` or
``asyncio.timeout``. Here those are caught, and delivered once the work has ended.

The waits, for a time, for an alarm, for a turn, for a slot: on trio they are anyio's. On asyncio a sleep is a
future and a timer: a cancel scope would take six times as long and hold a kilobyte, and there are as many
sleeps as there are tasks that are waited for.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs

from wiro_async._types import Priority

__all__ = [
    "Alarm",
    "Gate",
    "SendWindow",
    "Turnstile",
    "ask_in_thread",
    "cancel_softly",
    "finish",
    "now",
    "on_asyncio",
    "run_in_thread",
    "running_loop",
    "uptime",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PER_TURN = 50
"""How many may begin in one turn of the event loop, which then takes some 5 ms."""

FIRST_TURNS = 3
"""Turns of the event loop that a step has before it is cancelled."""

GRACE_SECONDS = 2.0
"""Seconds that a cancellation may be put off until its work is ready for it."""

LOOK_SECONDS = 0.005
"""Seconds between two looks at whether it is."""

THREADS = 40
"""How many threads of ours work at a time for one event loop; AnyIO's number."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's (or uvloop's) event loop if a task of it runs this; None on trio."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    # Where trio runs as a guest of asyncio, asyncio's loop runs, but none of its tasks does.
    return None if asyncio.current_task(loop) is None else loop


def now() -> float:
    """Return the event loop's time in seconds, as ``anyio.current_time`` does."""
    loop = running_loop()
    return anyio.current_time() if loop is None else loop.time()


def uptime() -> float:
    """Return seconds of a clock that nobody sets, and that counts the time for which the machine was asleep.

    Where the system has no such clock, it is the wall clock, which may be set.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.time() if clock is None else time.clock_gettime(clock)


class SendWindow:
    """The time within which the first byte of a Run leaves. It begins when this is made.

    To be made before the Run's intent is recorded: whoever finds the record counts from there too. Of two
    clocks it takes the one by which more time has passed: the event loop's is never set, and the other goes
    on while the machine sleeps.

    Args:
        seconds: How long it is open.

    Attributes:
        seconds: How long it is open.
        late: Whether something may have left after its end: the machine stood still between check and write.
    """

    __slots__ = ("_loop", "_system", "late", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        self.late: bool = False
        self._loop: float = now()
        self._system: float = uptime()

    @property
    def elapsed(self) -> float:
        """The seconds since it began."""
        return max(now() - self._loop, uptime() - self._system)

    def written(self) -> None:
        """Note that something has left."""
        self.late = self.elapsed > self.seconds


def on_asyncio() -> bool:
    """Tell whether asyncio (or uvloop) runs this, and not trio."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


async def finish(work: Callable[[], Coroutine[Any, Any, T]], late: Callable[[T], object]) -> T:
    """Run *work* to its end even if the caller is cancelled meanwhile.

    Args:
        work: What to do. It must have a deadline of its own, because a cancellation waits for it.
        late: Called with the result when the caller was cancelled and so will not get it.

    Returns:
        What *work* returned.
    """
    return await (_finish_asyncio(work, late) if on_asyncio() else _finish_trio(work, late))


async def run_in_thread(
    function: Callable[[*Ts], T],
    *args: *Ts,
    late: Callable[[T], object] = lambda _: None,
    at_once: bool = False,
) -> T:
    """Run a blocking function in a worker thread, to its end even if the caller is cancelled meanwhile.

    A native cancellation would leave the thread at work, while its caller goes on to close the file that the
    thread reads or writes.

    The threads are ours, ``THREADS`` for each event loop: those of AnyIO, and of asyncio's own executor, may
    all be held by callers who wait for us, as FastAPI's ``def`` endpoints do. None of ours ever waits for
    another one. The wait for one can be cancelled.

    Args:
        function: What to run. The cancellation waits for it.
        *args: Its arguments.
        late: Called with the result when the caller was cancelled and so will not get it.
        at_once: Whether it waits for none of them: what closes a file must not.

    Returns:
        What *function* returned.
    """
    threads = _own_threads()
    if at_once:
        return await finish(lambda: anyio.to_thread.run_sync(function, *args, limiter=threads.no_limit), late)
    await threads.gate.enter(Priority.READ)
    try:
        return await finish(lambda: anyio.to_thread.run_sync(function, *args, limiter=threads.no_limit), late)
    finally:
        threads.gate.leave()


async def ask_in_thread(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run a blocking question in a thread of ours; a caller who is cancelled leaves it to itself.

    Args:
        function: What to run. It must leave nothing behind that somebody would have to close.
        *args: Its arguments.

    Returns:
        What *function* returned.
    """
    threads = _own_threads()
    await threads.gate.enter(Priority.READ)
    try:
        return await anyio.to_thread.run_sync(
            function, *args, abandon_on_cancel=True, limiter=threads.no_limit
        )
    finally:
        threads.gate.leave()


async def cancel_softly(
    work: Callable[[], Coroutine[Any, Any, T]],
    undo: Callable[[T], Coroutine[Any, Any, object]],
    ready: Callable[[], bool] = lambda: True,
) -> T:
    """Run *work* so that a cancellation of the caller reaches it as AnyIO's, and never as a native one.

    Libraries that are built on AnyIO may lose a connection for ever when a native cancellation meets them.

    Args:
        work: What to do. The cancellation waits for its end.
        undo: Called with the result when the caller was cancelled and so will not get it.
        ready: Whether *work* may be cancelled now; it is in any case ``GRACE_SECONDS`` later.

    Returns:
        What *work* returned.
    """
    if not on_asyncio():
        return await work()
    scope = anyio.CancelScope()
    results: list[T] = []

    async def guarded() -> None:
        with scope:
            results.append(await work())

    loop = asyncio.get_running_loop()
    task = loop.create_task(guarded())
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await _outlast(loop.create_task(_turns(FIRST_TURNS)))
        until = loop.time() + GRACE_SECONDS
        while not ready() and not task.done() and loop.time() < until:
            await _outlast(task, LOOK_SECONDS)
        scope.cancel()
        await _outlast(task)
        if results:
            await _outlast(loop.create_task(undo(results[0])))
        raise
    task.result()
    return results[0]


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _outlast(task: asyncio.Task[Any], seconds: float = math.inf) -> None:
    """Wait for a task's end, but no longer than so many seconds, through any number of cancellations."""
    until = asyncio.get_running_loop().time() + seconds
    # The shield holds off anyio, which would cancel again in each turn of the event loop; native
    # cancellations come one by one.
    with anyio.CancelScope(shield=True):
        while not task.done() and (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.wait({task}, timeout=None if left == math.inf else left)
            except asyncio.CancelledError:
                continue
    if task.done() and not task.cancelled():
        # Else asyncio logs what it ended in, with the frames of a request that may be signed.
        task.exception()


async def _finish_trio(work: Callable[[], Coroutine[Any, Any, T]], late: Callable[[T], object]) -> T:
    results: list[T] = []  # a scope may swallow an exception, as far as pyright knows
    with anyio.CancelScope(shield=True):
        results.append(await work())
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        late(results[0])
        raise
    return results[0]


async def _finish_asyncio(work: Callable[[], Coroutine[Any, Any, T]], late: Callable[[T], object]) -> T:
    # A task of its own: a native cancel of the caller's task does not reach into it.
    task = asyncio.get_running_loop().create_task(work())
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await _outlast(task)
        if not task.cancelled() and task.exception() is None:
            late(task.result())
        raise
    return task.result()


@attrs.frozen(eq=False)
class _Threads:
    """The threads of one event loop: the gate counts them, and AnyIO starts them."""

    gate: Gate = attrs.field(factory=lambda: Gate(THREADS))
    no_limit: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(math.inf))


_threads: anyio.lowlevel.RunVar[_Threads] = anyio.lowlevel.RunVar("wiro_async.threads")


def _own_threads() -> _Threads:
    try:
        return _threads.get()
    except LookupError:
        threads = _Threads()
        _threads.set(threads)
        return threads


class Alarm:
    """Wakes its sleepers: all of them when it rings, and each one at a time of its own."""

    __slots__ = ("_event", "_others", "_sleeper")

    def __init__(self) -> None:
        # Most alarms have one sleeper: thousands of lists would be work for the garbage collector.
        self._sleeper: asyncio.Future[bool] | None = None
        self._others: list[asyncio.Future[bool]] | None = None
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake everyone who sleeps now."""
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

        Args:
            time: When to wake at the latest, on the event loop's clock.

        Returns:
            Whether that time has come; False if the alarm rang before.
        """
        loop = running_loop()
        if loop is None:
            return await self._sleep_on_trio(time)
        sleeper: asyncio.Future[bool] = loop.create_future()
        timer = None if time == math.inf else loop.call_at(time, _wake, sleeper, context=_thread.context)
        if self._sleeper is None:
            self._sleeper = sleeper
        else:
            self._others = self._others or []
            self._others.append(sleeper)
        try:
            return await sleeper
        finally:
            if timer is not None:
                timer.cancel()
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
    """The context that all timers of a thread share; each would otherwise keep a copy of its maker's.

    One for each thread, because only one thread at a time can be in a context.
    """

    def __init__(self) -> None:
        self.context: contextvars.Context = contextvars.Context()


_thread = _Thread()


def _wake(sleeper: asyncio.Future[bool], in_time: bool = True) -> None:
    if not sleeper.done():
        sleeper.set_result(in_time)


class Turnstile:
    """Lets ``PER_TURN`` through in each turn of asyncio's event loop, first come, first served.

    Thousands that begin at once, as with ``asyncio.gather``, would otherwise all begin in one turn, and hold
    up everything else. On trio everyone goes through at once: its turns cannot be counted.
    """

    __slots__ = ("_left", "_loop", "_waiting")

    def __init__(self) -> None:
        self._left: int = 0
        # The loop whose turns are being counted (None: nobody came in the last turn). Another loop is
        # counted anew, because this one may have ended in the middle of a turn.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Return at once, or in a later turn of the event loop."""
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
            # Nobody came in this turn: whoever comes next starts the count again.
            self._loop = None
            return
        self._left = PER_TURN
        while self._waiting and self._left:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._left -= 1
        loop.call_soon(self._turn, loop)


@attrs.define(eq=False)
class _Waiter:
    alarm: Alarm = attrs.field(factory=Alarm)
    admitted: bool = False
    gone: bool = False


class Gate:
    """Hands out a fixed number of slots: by priority, then first come, first served.

    Every change of state is one synchronous step, so a cancellation at any moment neither loses a slot nor
    makes one. A slot is handed from one holder to the next and is not free in between, so that no newcomer
    can overtake a waiter.

    Args:
        slots: How many there are.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._slots = slots
        self._queues: tuple[deque[_Waiter], ...] = tuple(deque() for _ in Priority)

    @property
    def in_flight(self) -> int:
        """How many slots are taken."""
        return self._slots - self._free

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
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
            priority: Its place in the queue.
            until: When to give up, on the event loop's clock.

        Returns:
            Whether there is one; False if the time ran out.
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
                # Cancelled after the slot was handed over, and before this could run again.
                self.leave()
            raise
        # The slot may have come in the same turn as the time: then it counts.
        waiter.gone = not waiter.admitted
        return waiter.admitted

    def leave(self) -> None:
        """Hand the slot to the next in line; it is free only when nobody waits."""
        for queue in self._queues:
            while queue:
                waiter = queue.popleft()
                if not waiter.gone:
                    waiter.admitted = True
                    waiter.alarm.ring()
                    return
        self._free += 1
