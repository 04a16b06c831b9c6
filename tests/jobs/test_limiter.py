"""The door: one line, in which only the first asks, and whoever was through before goes first."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest
from wiro_async._jobs.window import Window

from tests.virtual import anyio_backend as anyio_backend
from wiro_async._errors import BatchStopped, ConcurrencyLimited
from wiro_async._jobs.limiter import Bell, ConcurrencyLimiter


def yes() -> bool:
    return True


def fine() -> None:
    return None


def door(ceiling: int = 1) -> ConcurrencyLimiter:
    """Return a door behind which there is room for some."""
    window = Window(ceiling)
    window.size = float(ceiling)
    return ConcurrencyLimiter(window, Bell())


def refusal(detail: str = "", limit: int | None = None) -> ConcurrencyLimited:
    return ConcurrencyLimited("96", detail=detail, limit=limit)


# -- the bell --------------------------------------------------------------------------------------------


async def test_a_bell_wakes_all_who_wait() -> None:
    """Each ring those that wait for it; one that nobody waits for does nothing."""
    bell, woken = Bell(), []

    async def wait(name: int) -> None:
        await bell.wait()
        woken.append(name)

    bell.ring()
    async with anyio.create_task_group() as group:
        for name in range(3):
            group.start_soon(wait, name)
        await anyio.sleep(1)
        assert woken == []
        bell.ring()
    assert sorted(woken) == [0, 1, 2]


async def test_waiting_for_a_bell_may_have_an_end() -> None:
    """A time at which to look anyway."""
    start = anyio.current_time()
    await Bell().wait(start + 5)
    assert anyio.current_time() == pytest.approx(start + 5)


# -- the line --------------------------------------------------------------------------------------------


async def entered(
    at: ConcurrencyLimiter, order: list[str], name: str, may: Callable[[], bool] = yes, *, again: bool = False
) -> None:
    await at.enter(may, fine, again=again)
    order.append(name)


async def test_first_come_first_served() -> None:
    """And whoever was through before goes before all that were not."""
    at, order = door(), list[str]()
    await entered(at, order, "first")
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(entered, at, order, name)
            await anyio.sleep(1)
        group.start_soon(lambda: entered(at, order, "again", again=True))
        await anyio.sleep(1)
        for _ in range(4):
            at.accepted()
            at.ended()
            await anyio.sleep(1)
    assert order == ["first", "again", "a", "b", "c"]
    assert at.active == 1


async def test_only_the_first_in_line_asks() -> None:
    """Five hundred that wait cost no more at a change than one."""
    at, asked, order = door(ceiling=500), 0, list[str]()
    is_open = False

    def may() -> bool:
        nonlocal asked
        asked += 1
        return is_open

    async with anyio.create_task_group() as group:
        for name in range(500):
            group.start_soon(entered, at, order, str(name), may)
            await anyio.sleep(0.001)
        for _ in range(10):
            at.rest(0.0)
            await anyio.sleep(1)
        assert asked == 11
        is_open = True
        at.rest(0.0)
    assert order == [str(number) for number in range(500)]


async def test_nobody_asks_for_money_without_room() -> None:
    """``may`` sets money aside, so it comes last."""
    at, order = door(), list[str]()
    asked = 0

    def may() -> bool:
        nonlocal asked
        asked += 1
        return True

    await entered(at, order, "first")
    with anyio.move_on_after(10):
        await entered(at, order, "second", may)
    assert asked == 0
    assert at.active == 1


async def test_who_leaves_the_line_makes_room() -> None:
    """A cancelled first lets the next one ask; a cancelled other one is just gone."""
    at, order = door(), list[str]()
    await entered(at, order, "first")
    scopes = [anyio.CancelScope() for _ in range(3)]

    async def wait(number: int) -> None:
        with scopes[number]:
            await entered(at, order, str(number))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
            await anyio.sleep(1)
        scopes[1].cancel()
        await anyio.sleep(1)
        scopes[0].cancel()
        await anyio.sleep(1)
        assert order == ["first"]
        at.dropped()
    assert order == ["first", "2"]
    assert at.active == 1


async def test_all_who_wait_hear_that_it_is_over() -> None:
    """With room or without."""
    at, order, stopped = door(), list[str](), 0
    over = False

    def check() -> None:
        if over:
            raise BatchStopped("over", reason="stopped")

    async def wait() -> None:
        nonlocal stopped
        with pytest.raises(BatchStopped):
            await at.enter(yes, check)
        stopped += 1

    await entered(at, order, "first")
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(wait)
        await anyio.sleep(1)
        over = True
        at.rest(0.0)
    assert stopped == 5


# -- what became of it -----------------------------------------------------------------------------------


async def test_a_rest_is_for_all() -> None:
    """The longest that was asked for, and no ring ends it."""
    at, order = door(ceiling=3), list[str]()
    start = anyio.current_time()
    at.rest(10)
    at.rest(5)
    async with anyio.create_task_group() as group:
        group.start_soon(entered, at, order, "a")
        await anyio.sleep(1)
        at.rest(1)
        await anyio.sleep(1)
        assert order == []
    assert anyio.current_time() == pytest.approx(start + 10)


async def test_a_refusal_teaches_the_limit() -> None:
    """By its number, or by the balance that its words name."""
    at, window = door(ceiling=50), None
    for detail, limit, learned in (
        ("up to 3 tasks", 3, 3),
        ("current balance of $1,045.50, you", None, None),
        ("current balance of $45.50, you", None, 4),
    ):
        window = at._window
        await at.enter(yes, fine)
        at.refused(refusal(detail, limit))
        assert window.limit == learned
        window.size = 50.0
    assert at.active == 0


async def test_after_a_refusal_time_brings_the_next_try() -> None:
    """Where nothing of ours runs, nothing else could."""
    at = door(ceiling=50)
    await at.enter(yes, fine)
    at.refused(refusal("up to 3 tasks", 3))
    start = anyio.current_time()
    await at.enter(yes, fine)
    assert start + 1 < anyio.current_time() < start + 120


async def test_tasks_are_counted_in_and_out() -> None:
    """Those of an earlier process too."""
    at = door(ceiling=2)
    at.adopt()
    assert at.active == 1
    await at.enter(yes, fine)
    at.accepted()
    assert at.active == 2
    at.ended(Decimal("0.35"))
    at.ended()
    assert at.active == 0
