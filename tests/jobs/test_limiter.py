"""The limiter: lines in which only the first asks, and slots that are never lost and never two's."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from decimal import Decimal

import anyio
import pytest

from tests.virtual import anyio_backend as anyio_backend
from wiro_async import BatchStopped, ConcurrencyLimited
from wiro_async._aio import on_asyncio
from wiro_async._jobs.limiter import ConcurrencyLimiter, Line, Slot

WIDTH = 4
"""How many Runs of single calls may be on their way."""


def line_of(room: int = 1) -> Line:
    """Return a batch's line, where so many tasks may run as far as is known, and no more are looked for."""
    line = Line(ConcurrencyLimiter(WIDTH, lambda: 0.5))
    limit(line, room)
    return line


def limit(line: Line, room: int) -> None:
    """Let the service refuse one Run beyond *room* tasks, which have ended by now."""
    slots = [line.take() for _ in range(room)]
    for slot in slots:
        slot.accepted()
    line.take().refused(refusal(room))
    for slot in slots:
        slot.release()


def refusal(limit: int | None = None, detail: str = "") -> ConcurrencyLimited:
    return ConcurrencyLimited("96", detail=detail, limit=limit)


def running(line: Line) -> Slot:
    """Return the slot of a task that runs."""
    slot = line.take()
    slot.accepted()
    return slot


class Crowd:
    """Callers who wait for slots, and the service that answers their Runs at once.

    Attributes:
        room: How many tasks the service lets run (None: any number).
        order: Whose Runs were accepted.
        slots: The slots of their tasks.
        refusals: How many Runs were refused.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.order: list[str] = []
        self.slots: list[Slot] = []
        self.refusals = 0

    async def enter(
        self, line: Line, name: str, may: Callable[[], bool] | None = None, *, again: bool = False
    ) -> None:
        """Wait for a slot, and let its task run."""
        slot = await line.enter(may, again=again)
        assert slot is not None
        while self.room is not None and line.limiter.active > self.room:
            slot.refused(refusal(self.room))
            self.refusals += 1
            slot = await line.enter(may, again=True)
            assert slot is not None
        slot.accepted()
        self.order.append(name)
        self.slots.append(slot)


# -- one line --------------------------------------------------------------------------------------------


async def test_who_had_a_slot_before_goes_first() -> None:
    """Then first come, first served; and never two hold the one slot."""
    line, crowd = line_of(), Crowd()
    await crowd.enter(line, "first")
    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(crowd.enter, line, name)
            await anyio.sleep(1)
        group.start_soon(lambda: crowd.enter(line, "again", again=True))
        await anyio.sleep(1)
        assert line.waiting == 4
        for place in range(4):
            assert line.limiter.active == line.held == 1
            assert len(crowd.order) == place + 1
            crowd.slots[place].release()
            await anyio.sleep(1)
    assert crowd.order == ["first", "again", "a", "b", "c"]
    assert line.limiter.active == 1
    assert line.waiting == 0


async def test_only_the_first_asks() -> None:
    """Five hundred that wait cost no more at a change than one."""
    line, asked, crowd = line_of(500), 0, Crowd()
    is_open = False

    def may() -> bool:
        nonlocal asked
        asked += 1
        return is_open

    async with anyio.create_task_group() as group:
        for name in range(500):
            group.start_soon(crowd.enter, line, str(name), may)
            await anyio.sleep(0.001)
        for _ in range(10):
            line.limiter.change()
            await anyio.sleep(1)
        assert asked <= 12
        is_open = True
        line.limiter.change()
    assert crowd.order == [str(number) for number in range(500)]
    assert asked <= 12 + 2 * 500


async def test_nobody_asks_for_money_without_room() -> None:
    """``may`` sets money aside, so it comes last."""
    line, asked = line_of(), 0

    def may() -> bool:
        nonlocal asked
        asked += 1
        return True

    slot = running(line)
    start = anyio.current_time()
    assert await line.enter(may, until=start + 10) is None
    assert anyio.current_time() == start + 10
    assert asked == 0
    assert line.limiter.active == 1
    slot.release()
    assert await line.enter(may) is not None
    assert asked == 1


async def test_a_time_that_is_over_is_none_to_wait() -> None:
    """Even where there is room."""
    line = line_of()
    assert await line.enter(until=anyio.current_time()) is None
    assert line.limiter.active == 0


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 1], [1, 0], [0, 2], [2, 1, 0]])
async def test_who_leaves_the_line_takes_no_slot_along(gone: list[int]) -> None:
    """A cancelled first lets the next one ask; a cancelled other one is just gone."""
    line, crowd = line_of(), Crowd()
    slot = running(line)
    scopes = [anyio.CancelScope() for _ in range(3)]

    async def wait(number: int) -> None:
        with scopes[number]:
            await crowd.enter(line, str(number))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
            await anyio.sleep(1)
        for number in gone:
            scopes[number].cancel()
            await anyio.sleep(1)
        assert line.waiting == 3 - len(gone)
        assert crowd.order == []
        slot.release()
        await anyio.sleep(1)
        left = [number for number in range(3) if number not in gone]
        assert crowd.order == [str(number) for number in left[:1]]
        assert line.limiter.active == bool(left)
        group.cancel_scope.cancel()
    for taken in crowd.slots:
        taken.release()
    assert (line.limiter.active, line.held, line.waiting) == (0, 0, 0)


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_as_the_slot_comes_free_loses_no_slot(turns: int) -> None:
    """Whichever of the two is first: the slot is the cancelled one's, or the next one's."""
    line, crowd = line_of(), Crowd()
    slot = running(line)
    scope = anyio.CancelScope()

    async def first() -> None:
        with scope:
            await crowd.enter(line, "first")

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.sleep(1)
        group.start_soon(crowd.enter, line, "second")
        await anyio.sleep(1)
        slot.release()
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()
        await anyio.sleep(1)
        assert line.limiter.active == 1
        if crowd.order == ["first"]:
            crowd.slots[0].release()
    assert crowd.order[-1] == "second"
    assert line.limiter.active == 1


async def test_all_who_wait_hear_that_it_is_over() -> None:
    """With room or without."""
    line, over, stopped = line_of(), False, 0

    def check() -> None:
        if over:
            raise BatchStopped("over", reason="stopped")

    async def wait() -> None:
        nonlocal stopped
        with pytest.raises(BatchStopped):
            await line.enter(None, check)
        stopped += 1

    slot = running(line)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(wait)
        await anyio.sleep(1)
        over = True
        line.limiter.change()
    assert stopped == 5
    slot.release()
    with pytest.raises(BatchStopped):
        await line.enter(None, check)
    assert line.limiter.active == 0


async def test_what_may_raises_ends_the_wait_only_of_whom_it_concerns() -> None:
    """The next one asks at once."""
    line, crowd = line_of(), Crowd()

    def may() -> bool:
        raise BatchStopped("no money", reason="max_cost")

    slot = running(line)
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(BatchStopped):
                await line.enter(may)

        group.start_soon(wait)
        await anyio.sleep(1)
        group.start_soon(crowd.enter, line, "next")
        await anyio.sleep(1)
        slot.release()
    assert crowd.order == ["next"]


# -- single calls and batches ----------------------------------------------------------------------------


async def test_single_calls_are_as_many_as_their_callers_want_until_a_limit_is_met() -> None:
    """So many at a time on their way; a batch looks for room one by one."""
    single = Line(ConcurrencyLimiter(WIDTH, lambda: 0.5), eager=True)
    batch = Line(single.limiter)
    slots = [await single.enter(until=anyio.current_time() + 1) for _ in range(WIDTH + 1)]
    assert [slot is not None for slot in slots] == [True] * WIDTH + [False]
    assert await batch.enter(until=anyio.current_time() + 1) is None
    for slot in slots[:WIDTH]:
        assert slot is not None
        slot.accepted()
    assert await batch.enter() is not None
    assert await batch.enter(until=anyio.current_time() + 1) is None


async def waits_between_refusals(line: Line, runs: int) -> list[float]:
    """Return how long each of some Runs waits for its slot, if all are refused."""
    waits = []
    for _ in range(runs):
        start = anyio.current_time()
        slot = await line.enter()
        assert slot is not None
        waits.append(anyio.current_time() - start)
        slot.refused(refusal(1))
    return waits


async def test_a_single_call_asks_again_though_no_task_of_ours_has_ended() -> None:
    """After 2 s, growing to 20 s, because other programs' tasks end unseen; a batch waits for its own."""
    batch = line_of()
    single = Line(batch.limiter, eager=True)
    own = running(batch)
    assert await waits_between_refusals(single, 9) == pytest.approx(
        [0, 2, 3, 4.5, 6.75, 10.125, 15.1875, 20, 20], abs=1e-6
    )
    assert await batch.enter(until=anyio.current_time() + 1000) is None
    own.release()
    # Their callers stand in one line, so that together they ask no more often than one.
    crowd = Crowd(room=3)
    async with anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(crowd.enter, single, name)
        await anyio.sleep(0.1)
    assert sorted(crowd.order) == ["a", "b"]
    assert crowd.refusals == 0


async def test_one_single_call_asks_at_a_time() -> None:
    """While its Run is in flight at a full account, nobody else's leaves, however long the answer takes."""
    batch = line_of()
    single = Line(batch.limiter, eager=True)
    running(batch)
    first = await single.enter()
    assert first is not None
    assert await single.enter(until=anyio.current_time() + 1000) is None
    first.refused(refusal(1))
    assert await single.enter() is not None


async def test_a_batch_without_tasks_of_its_own_does_not_wait_for_those_of_single_calls() -> None:
    """Nobody may ever poll them, so it asks now and then, like a single call."""
    batch = line_of()
    single = Line(batch.limiter, eager=True)
    unwatched = running(single)
    assert await waits_between_refusals(batch, 4) == pytest.approx([0, 2, 3, 4.5], abs=1e-6)
    unwatched.release()


async def test_a_batch_with_tasks_of_its_own_waits_for_one_to_end() -> None:
    """It sees that, and keeps refusals rare."""
    batch = line_of(2)
    single = Line(batch.limiter, eager=True)
    unwatched, own = running(single), running(batch)
    assert await batch.enter(until=anyio.current_time() + 1000) is None
    own.release()
    assert await batch.enter() is not None
    unwatched.release()


@pytest.mark.parametrize("first", ["single", "batch"])
async def test_two_lines_take_turns(first: str) -> None:
    """Neither starves the other, however many stand in it."""
    batch = line_of()
    lines = {"single": Line(batch.limiter, eager=True), "batch": batch}
    crowd = Crowd(room=1)
    crowd.slots.append(running(batch))
    async with anyio.create_task_group() as group:
        for name in sorted(lines, key=first.__ne__) * 30:
            group.start_soon(crowd.enter, lines[name], name)
        await anyio.sleep(0.01)
        while crowd.slots:
            assert len(crowd.slots) == batch.limiter.active == sum(line.held for line in lines.values()) == 1
            crowd.slots.pop().release()
            await anyio.sleep(30)
    assert len(crowd.order) == 60
    # Trio wakes those who wait for one event in no order.
    window = 4 if on_asyncio() else 25
    for place in range(30 - window):
        assert set(crowd.order[place : place + window]) == set(lines), crowd.order


# -- no notification is missed ---------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["refused", "released", "doubted", "accepted"])
async def test_whatever_becomes_of_a_run_lets_the_next_one_go(end: str) -> None:
    """A single call waits only because so many are on their way."""
    single = Line(ConcurrencyLimiter(1, lambda: 0.5), eager=True)
    slot = await single.enter()
    assert slot is not None
    crowd = Crowd()
    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(crowd.enter, single, "next")
        await anyio.sleep(1)
        assert crowd.order == []
        if end == "refused":
            slot.refused(refusal())
        elif end == "doubted":
            slot.doubted()
        elif end == "accepted":
            slot.accepted()
        else:
            slot.release()
    assert anyio.current_time() - start <= {"refused": 4, "doubted": 1.075 + 1e-6}.get(end, 1)


async def test_a_doubt_does_not_end_the_search_for_room() -> None:
    """A batch that waits for one Run's answer sends the next when there will be none."""
    batch, crowd = Line(ConcurrencyLimiter(WIDTH, lambda: 0.5)), Crowd()
    slot = await batch.enter()
    assert slot is not None
    async with anyio.create_task_group() as group:
        group.start_soon(crowd.enter, batch, "next")
        await anyio.sleep(1)
        assert crowd.order == []
        slot.doubted()
        await anyio.sleep(1)
    assert crowd.order == ["next"]
    assert batch.limiter.active == 2


async def test_a_slot_that_comes_free_as_somebody_begins_to_wait_is_his() -> None:
    """Between the no and the sleep nothing can come."""
    for turns in range(6):
        line, crowd = line_of(), Crowd()
        slot = running(line)
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(crowd.enter, line, name)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            slot.release()
            await anyio.sleep(1)
            assert len(crowd.order) == 1
            group.cancel_scope.cancel()


# -- what became of it -----------------------------------------------------------------------------------


async def test_runs_that_came_to_nothing_do_not_stand_in_the_way_of_more_room() -> None:
    """A bad input says nothing about the limit: it is looked for as if those Runs had not been."""
    line, crowd = Line(ConcurrencyLimiter(WIDTH, lambda: 0.5)), Crowd()
    with anyio.fail_after(60):
        for _ in range(3):
            slot = await line.enter()
            assert slot is not None
            slot.release(reached=True)
        for name in "abcde":
            await crowd.enter(line, name)
    assert line.limiter.active == line.limiter.learned.size == 5


async def test_a_rest_is_for_all() -> None:
    """The longest that was asked for, and no change ends it."""
    line, crowd = line_of(3), Crowd()
    single = Line(line.limiter, eager=True)
    start = anyio.current_time()
    line.limiter.rest(10)
    line.limiter.rest(5)
    async with anyio.create_task_group() as group:
        group.start_soon(crowd.enter, line, "a")
        group.start_soon(crowd.enter, single, "b")
        await anyio.sleep(1)
        line.limiter.rest(1)
        await anyio.sleep(1)
        assert crowd.order == []
    assert anyio.current_time() == pytest.approx(start + 10)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("readings", range(8))
async def test_a_rest_may_end_between_two_looks_at_the_clock(
    readings: int, eager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for its end wakes then, wherever the clock stands as he begins to sleep."""
    start, looks = anyio.current_time(), itertools.count()
    monkeypatch.setattr("wiro_async._jobs.limiter.now", lambda: anyio.current_time() + next(looks))
    line = Line(ConcurrencyLimiter(WIDTH), eager=eager)
    line.limiter.rest(readings + 0.5)
    with anyio.fail_after(60):
        assert await line.enter() is not None
    assert anyio.current_time() <= start + readings + 0.5


async def test_after_a_rest_one_goes_at_a_time_until_the_service_answers() -> None:
    """A crowd would meet a service that has just come back; one that is only beginning may be refused."""
    line = line_of(10)
    single = Line(line.limiter, eager=True)
    line.limiter.rest(1)
    for _ in range(3):
        slot = await line.enter()
        assert slot is not None
        for other in (line, single):
            assert await other.enter(until=anyio.current_time() + 5) is None
        slot.release()
        assert line.limiter.active == 0
    slot = await line.enter()
    assert slot is not None
    slot.release(reached=True)
    for _ in range(10):
        assert await line.enter() is not None


async def test_after_a_rest_a_refusal_is_an_answer_too() -> None:
    """Then as many may leave at once as tasks of ours may run."""
    line = line_of(3)
    tasks = [running(line), running(line)]
    line.limiter.rest(1)
    slot = await line.enter()
    assert slot is not None
    # Another program's task is the third.
    slot.refused(refusal(3))
    for task in tasks:
        task.release()
    for _ in tasks:
        assert await line.enter(until=anyio.current_time() + 1) is not None


async def test_who_waits_for_an_answer_sleeps() -> None:
    """However long ago the time was at which more room could have been looked for."""
    batch = line_of()
    single = Line(batch.limiter, eager=True)
    task = running(batch)
    for _ in range(60):
        # Another program's slot came free, and is taken, again and again: refusals are saved up.
        task.release()
        task = running(batch)
    assert await batch.enter(until=anyio.current_time() + 1) is None
    batch.limiter.rest(1)
    slot = await single.enter()
    assert slot is not None
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        assert asked < 100, "it does not sleep"

    assert await single.enter(None, check, until=anyio.current_time() + 1000) is None
    assert asked <= 3


@pytest.mark.parametrize(
    ("detail", "limit", "learned"),
    [
        ("up to 3 tasks", 3, 3),
        ("current balance of $1,045.50, you", None, None),
        ("current balance of $45.50, you", None, 4),
        ("", None, None),
    ],
)
async def test_a_refusal_teaches_the_limit(detail: str, limit: int | None, learned: int | None) -> None:
    """By its number, or by the balance that its words name."""
    line = Line(ConcurrencyLimiter(WIDTH))
    slot = await line.enter()
    assert slot is not None
    slot.refused(refusal(limit, detail))
    assert line.limiter.learned.limit == learned
    assert (line.limiter.active, line.held) == (0, 0)


async def test_after_a_refusal_time_brings_the_next_try() -> None:
    """Where nothing of ours runs, nothing else could."""
    line = line_of(50)
    slot = await line.enter()
    assert slot is not None
    slot.refused(refusal(3))
    start = anyio.current_time()
    assert await line.enter() is not None
    assert start + 1 < anyio.current_time() < start + 120


async def test_tasks_are_counted_in_and_out() -> None:
    """Those of an earlier process too; and a slot can be given back as often as one likes."""
    line = line_of(2)
    adopted = line.adopt()
    assert line.limiter.active == 1
    slot = await line.enter()
    assert slot is not None
    slot.accepted()
    assert line.limiter.active == 2
    for _ in range(2):
        slot.release(Decimal("0.35"))
        assert line.limiter.active == 1
    adopted.release()
    assert (line.limiter.active, line.held) == (0, 0)


async def test_a_doubt_holds_its_slot() -> None:
    """Its task may run; once that is disproved, or given up, the slot is free."""
    line = line_of()
    slot = await line.enter()
    assert slot is not None
    slot.doubted()
    assert await line.enter(until=anyio.current_time() + 30) is None
    slot.release()
    assert line.limiter.active == 0
    again = await line.enter()
    assert again is not None
    again.accepted()
    # Its first poll shows that the answer was about another's task.
    again.doubted()
    assert await line.enter(until=anyio.current_time() + 30) is None
    again.found()
    again.release()
    again.doubted()
    assert line.limiter.active == 0


@pytest.mark.parametrize("stage", ["sending", "in doubt", "runs"])
async def test_a_task_whose_handle_is_dropped_gives_back_its_slot(stage: str) -> None:
    """Nobody will see its end. A Run that is not known to have become a task is somebody's still."""
    line = line_of()
    slot = await line.enter()
    assert slot is not None
    if stage == "runs":
        slot.accepted()
    elif stage == "in doubt":
        slot.doubted()
    del slot
    gc.collect()
    assert line.limiter.active == line.held == (stage != "runs")


async def test_who_waits_for_a_task_whose_handle_is_dropped_is_not_forgotten() -> None:
    """Nobody wakes him, so he looks again after a while: a single call, and a batch without other tasks."""
    for eager in (True, False):
        single = Line(ConcurrencyLimiter(WIDTH, lambda: 0.5), eager=True)
        limit(single, 1)
        task = running(single)
        waiting = single if eager else Line(single.limiter)
        crowd = Crowd()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(crowd.enter, waiting, "next")
                await anyio.sleep(1)
                single.take().refused(refusal(1))
                del task
                gc.collect()
        assert crowd.order == ["next"]


async def test_who_comes_by_and_finds_a_dropped_slot_wakes_the_others() -> None:
    """There may be more of them: the first of the new ones waits since before those slots came free."""
    line, crowd = line_of(2), Crowd()
    tasks = [running(line), running(line)]
    async with anyio.create_task_group() as group:
        group.start_soon(crowd.enter, line, "new")
        await anyio.sleep(1)
        tasks.clear()
        gc.collect()
        await anyio.sleep(1)
        assert crowd.order == []
        slot = await line.enter(again=True)
        assert slot is not None
        await anyio.sleep(1)
        assert crowd.order == ["new"]
