"""The event loop's time, and sleeping on it: on both event loops, under every kind of cancellation."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from tests.virtual import VirtualLoop
from tests.virtual import anyio_backend as anyio_backend
from wiro_async._aio import Alarm, Turnstile, now, running_loop

only_asyncio = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})])


async def test_the_time_is_the_event_loop_s() -> None:
    """Also while it jumps."""
    for _ in range(2):
        assert now() == anyio.current_time()
        await anyio.sleep(3.0)


@only_asyncio
async def test_a_callback_is_nobody_s_task() -> None:
    """A loop is told of only where one of its tasks runs, or else trio as a guest would be taken for it."""
    loop = asyncio.get_running_loop()
    seen: list[object] = []
    loop.call_soon(lambda: seen.append(running_loop()))
    await anyio.sleep(1.0)
    assert seen == [None]
    assert running_loop() is loop


def test_a_guest_has_its_own_time() -> None:
    """On trio that runs within asyncio's loop, time and sleep are trio's."""
    seen: list[bool] = []

    async def guest() -> None:
        seen.extend((running_loop() is None, abs(now() - trio.current_time()) < 1.0))
        seen.append(await Alarm().sleep_until(now()))

    async def host() -> None:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=done.set_result,
        )
        (await done).unwrap()

    asyncio.run(host())
    assert seen == [True, True, True]


async def test_whoever_sleeps_wakes_in_time() -> None:
    """Each at a time of its own."""
    alarm, start = Alarm(), now()
    woken: list[tuple[bool, float]] = []

    async def sleep(seconds: float) -> None:
        woken.append((await alarm.sleep_until(start + seconds), now() - start))

    async with anyio.create_task_group() as group:
        for seconds in (2.0, 1.0, 3.0):
            group.start_soon(sleep, seconds)
    assert woken == [(True, 1.0), (True, 2.0), (True, 3.0)]


async def test_a_ring_wakes_everybody_who_sleeps() -> None:
    """And nobody who begins to sleep afterwards."""
    alarm, start = Alarm(), now()
    woken: list[bool] = []

    async def sleep() -> None:
        woken.append(await alarm.sleep_until(start + 9.0))

    alarm.ring()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(sleep)
        await anyio.wait_all_tasks_blocked()
        alarm.ring()
    assert (woken, now()) == ([False] * 3, start)
    assert await alarm.sleep_until(start + 1.0)


@only_asyncio
async def test_what_is_over_takes_a_turn() -> None:
    """So that a loop of waits without patience does not hold up the event loop."""
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        assert await Alarm().sleep_until(now() - 1.0)
        turns.append("sleeper")
    assert turns == ["other", "sleeper"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_what_is_over_takes_a_turn_on_trio() -> None:
    """There the order of turns is drawn by lot."""
    with trio.testing.assert_checkpoints():
        assert await Alarm().sleep_until(now() - 1.0)


async def test_a_cancelled_sleeper_leaves_nothing_behind() -> None:
    """The others sleep on, and the next ring finds them."""
    alarm, woken = Alarm(), []

    async def sleep() -> None:
        woken.append(await alarm.sleep_until(math.inf))

    async with anyio.create_task_group() as group:
        group.start_soon(sleep)
        with anyio.move_on_after(1.0):
            await alarm.sleep_until()
        assert woken == []
        alarm.ring()
    assert woken == [False]


@only_asyncio
async def test_a_sleeper_may_be_cancelled_as_it_is_woken() -> None:
    """Natively, in the same turn as the ring and as its time."""
    alarm = Alarm()
    for wake in (alarm.ring, lambda: None):
        sleeper = asyncio.ensure_future(alarm.sleep_until(now() + 1.0))
        await asyncio.sleep(0.5)
        sleeper.cancel()
        wake()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
    assert alarm._sleeper is None
    assert alarm._others is None


@only_asyncio
async def test_a_ring_and_the_time_may_meet() -> None:
    """The first of them counts."""
    alarm = Alarm()
    sleeper = asyncio.ensure_future(alarm.sleep_until(now() + 1.0))
    await asyncio.sleep(0.0)
    asyncio.get_running_loop().call_at(now() + 1.0, alarm.ring)
    assert await sleeper
    assert now() == pytest.approx(1001.0)


# -- the turnstile ---------------------------------------------------------------------------------------


async def enter_all(turnstile: Turnstile, count: int) -> list[int]:
    """Let so many enter at once, and return how many came through in each turn."""
    turn, through = 0, [0]

    async def enter() -> None:
        await turnstile.enter()
        through[-1] += 1

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(enter)
        while sum(through) < count:
            turn += 1
            await anyio.lowlevel.checkpoint()
            through.append(0)
    return [number for number in through if number]


@only_asyncio
async def test_thousands_go_through_a_few_in_each_turn() -> None:
    """And a few go through at once, however often they come."""
    turnstile = Turnstile()
    assert await enter_all(turnstile, 500) == [50] * 10
    for _ in range(3):
        assert await enter_all(turnstile, 3) == [3]
        await asyncio.sleep(1.0)


async def test_trio_lets_everybody_through() -> None:
    """On either event loop all get through in the end."""
    assert sum(await enter_all(Turnstile(), 150)) == 150


@only_asyncio
async def test_who_was_cancelled_at_the_turnstile_takes_nobody_s_turn() -> None:
    """The next in line goes instead."""
    turnstile = Turnstile()
    tasks = [asyncio.ensure_future(turnstile.enter()) for _ in range(150)]
    await asyncio.sleep(0)
    for task in tasks[50:100]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(seen, asyncio.CancelledError) for seen in done] == [
        50 <= number < 100 for number in range(150)
    ]


def test_a_turnstile_outlives_an_event_loop() -> None:
    """One that ended with somebody in line does not hold up the next."""
    turnstile = Turnstile()

    async def leave_some() -> None:
        for _ in range(100):
            asyncio.ensure_future(turnstile.enter())  # noqa: RUF006 - the end of the loop cancels it
        await asyncio.sleep(0)

    async def enter() -> None:
        await asyncio.wait_for(asyncio.gather(*(turnstile.enter() for _ in range(100))), 10.0)

    asyncio.run(leave_some())
    asyncio.run(enter())


@only_asyncio
async def test_a_turn_of_another_loop_counts_for_nothing() -> None:
    """Two loops may be alive in two threads."""
    turnstile = Turnstile()
    await turnstile.enter()
    other = asyncio.new_event_loop()
    try:
        turnstile._turn(other)
        assert turnstile._left == 49
    finally:
        other.close()
