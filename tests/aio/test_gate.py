"""The gate: who goes first, that no slot is lost or made, and what a call costs."""

from __future__ import annotations

import asyncio
import random
import sys
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from wiro_async._aio import Alarm, Gate
from wiro_async._types import Priority


async def settle(rounds: int = 5) -> None:
    """Let every task run that can."""
    for _ in range(rounds):
        await anyio.lowlevel.checkpoint()


async def test_a_free_slot_is_taken_at_once() -> None:
    """While slots are free nobody waits, and each entry and exit is counted."""
    gate = Gate(2)
    await gate.enter(Priority.READ)
    assert gate.enter_nowait()
    assert not gate.enter_nowait()
    assert (gate.in_flight, gate.waiting) == (2, 0)
    gate.leave()
    gate.leave()
    assert gate.in_flight == 0


async def test_priority_goes_first_then_first_come_first_served() -> None:
    """Whoever has the better priority enters first; among equals, whoever came first."""
    gate = Gate(1)
    assert gate.enter_nowait()
    entered: list[tuple[Priority, int]] = []

    async def call(priority: Priority, number: int) -> None:
        await gate.enter(priority)
        entered.append((priority, number))
        gate.leave()

    arrivals = [(priority, number) for number in range(5) for priority in reversed(Priority)]
    async with anyio.create_task_group() as group:
        for arrival in arrivals:
            group.start_soon(call, *arrival)
            await settle()
        assert gate.waiting == len(arrivals)
        gate.leave()
    assert entered == sorted(arrivals)
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_a_wait_ends_at_its_time() -> None:
    """Who gave up is not in the line any more, and gets no slot later."""
    gate = Gate(1)
    assert await gate.enter(Priority.READ)
    until = anyio.current_time() + 0.02
    assert not await gate.enter(Priority.STOP, until)
    assert anyio.current_time() >= until
    assert gate.waiting == 0
    gate.leave()
    assert gate.in_flight == 0
    assert await gate.enter(Priority.READ, until)


async def test_a_slot_that_comes_at_the_last_moment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is over, and before the caller runs again a slot is handed to it: not lost, not doubled."""
    gate = Gate(1)
    assert gate.enter_nowait()

    async def sleep_until(_alarm: Alarm, _time: float) -> bool:
        gate.leave()
        return True

    monkeypatch.setattr(Alarm, "sleep_until", sleep_until)
    assert await gate.enter(Priority.READ, 0.0)
    assert gate.in_flight == 1
    gate.leave()
    assert gate.in_flight == 0


async def test_nobody_overtakes_a_waiting_call() -> None:
    """A slot that is handed over is never free in between, so a newcomer cannot take it."""
    gate = Gate(1)
    assert gate.enter_nowait()
    async with anyio.create_task_group() as group:
        group.start_soon(gate.enter, Priority.READ)
        await settle()
        gate.leave()
        assert not gate.enter_nowait()
    assert gate.in_flight == 1


async def test_a_waiter_who_gave_up_is_passed_over() -> None:
    """A cancelled waiter gets no slot: the next one does, or the slot is free."""
    gate = Gate(1)
    assert gate.enter_nowait()
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0) as scope:
            await gate.enter(Priority.STOP)
        assert scope.cancelled_caught
        group.start_soon(gate.enter, Priority.READ)
        await settle()
        assert gate.waiting == 1
        gate.leave()
    assert gate.in_flight == 1
    gate.leave()
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_cancelled_after_it_was_let_in() -> None:
    """A waiter that is cancelled between its admission and its waking hands the slot on."""
    gate = Gate(1)
    assert gate.enter_nowait()
    scope = anyio.CancelScope()
    entered = []

    async def unlucky() -> None:
        with scope:
            await gate.enter(Priority.STOP)
            entered.append("unlucky")
            gate.leave()

    async def next_in_line() -> None:
        await gate.enter(Priority.READ)
        entered.append("next")
        gate.leave()

    async with anyio.create_task_group() as group:
        group.start_soon(unlucky)
        await settle()
        group.start_soon(next_in_line)
        await settle()
        # Both in one step: the cancellation arrives before the admitted task runs.
        gate.leave()
        scope.cancel()
    assert entered in (["next"], ["unlucky", "next"])
    assert (gate.in_flight, gate.waiting) == (0, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_native_cancel_after_it_was_let_in() -> None:
    """The same with a native ``task.cancel()``, which always wins over the waking."""
    gate = Gate(1)
    assert gate.enter_nowait()
    waiter = asyncio.get_running_loop().create_task(gate.enter(Priority.STOP))
    await settle()
    gate.leave()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert (gate.in_flight, gate.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_made_under_random_cancellation(seed: int) -> None:
    """Whatever is cancelled and whenever, never are more inside than slots, and in the end all are free."""
    chance = random.Random(seed)
    slots = chance.randint(1, 4)
    gate = Gate(slots)
    inside = peak = 0

    async def call(scope: anyio.CancelScope) -> None:
        nonlocal inside, peak
        with scope:
            await gate.enter(chance.choice(list(Priority)))
            try:
                inside += 1
                peak = max(peak, inside)
                assert gate.in_flight >= inside
                await settle(chance.randint(0, 4))
            finally:
                inside -= 1
                gate.leave()

    scopes = [anyio.CancelScope() for _ in range(60)]
    async with anyio.create_task_group() as group:
        for scope in scopes:
            group.start_soon(call, scope)
            await settle(chance.randint(0, 1))
            chance.choice(scopes).cancel()
    assert 0 < peak <= slots
    assert (gate.in_flight, gate.waiting) == (0, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_made_under_native_cancellation(seed: int) -> None:
    """The same with native cancellation, twice to some tasks."""
    chance = random.Random(seed)
    gate = Gate(2)
    inside = peak = 0

    async def call() -> None:
        nonlocal inside, peak
        await gate.enter(chance.choice(list(Priority)))
        try:
            inside += 1
            peak = max(peak, inside)
            await settle(chance.randint(0, 4))
        finally:
            inside -= 1
            gate.leave()

    tasks = []
    for _ in range(60):
        tasks.append(asyncio.get_running_loop().create_task(call()))
        await settle(chance.randint(0, 1))
        chance.choice(tasks).cancel()
    await asyncio.wait(tasks)
    assert 0 < peak <= 2
    assert (gate.in_flight, gate.waiting) == (0, 0)


class Steps:
    """Counts the lines that the gate's code runs."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Steps | None:
        if frame.f_code.co_filename != sys.modules[Gate.__module__].__file__:
            return None
        self.count += event == "line"
        return self

    def __enter__(self) -> Steps:
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


async def steps_of_a_call(waiting: int) -> int:
    """Return how many lines of the gate one call runs while *waiting* others wait."""
    gate = Gate(1)
    assert gate.enter_nowait()
    async with anyio.create_task_group() as group:
        for _ in range(waiting):
            group.start_soon(gate.enter, Priority.READ)
        await settle()
        assert gate.waiting == waiting
        with Steps() as steps:
            coroutine = gate.enter(Priority.STOP)
            coroutine.send(None)
            gate.leave()
        coroutine.close()
        group.cancel_scope.cancel()
    return steps.count


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_costs_the_same_however_many_wait() -> None:
    """Queueing and leaving take as many steps with 2 000 waiting calls as with 2."""
    few = await steps_of_a_call(2)
    many = await steps_of_a_call(2000)
    assert few == many > 0
