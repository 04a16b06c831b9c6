"""One timer for everything that becomes due in tasks' lives, on virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from tests.virtual import VirtualLoop
from wiro_async.sandbox._scheduler import Look, Scheduler


@pytest.fixture
def anyio_backend() -> object:
    """Run on asyncio only, as the sandbox's server does, and on virtual time."""
    return "asyncio", {"loop_factory": VirtualLoop}


class Diary:
    """Writes down when it was looked at, and asks for the next look."""

    def __init__(self, *due: float | None) -> None:
        self.at: list[float] = []
        self.due: list[float | None] = list(due)

    def __call__(self, now: float) -> float | None:
        self.at.append(now)
        return self.due.pop(0) if self.due else None


def started() -> Scheduler:
    """A scheduler on the running loop's time."""
    scheduler = Scheduler(asyncio.get_running_loop().time)
    scheduler.start()
    return scheduler


async def test_a_look_comes_at_once_and_whenever_it_was_asked_for() -> None:
    """Also for several tasks, in the order of time."""
    scheduler = started()
    one, two = Diary(1005.0, 1009.0), Diary(1003.0)
    scheduler.follow("1", one)
    scheduler.follow("2", two)
    await asyncio.sleep(60)
    assert (one.at, two.at) == ([1000.0, 1005.0, 1009.0], [1000.0, 1003.0])


async def test_an_earlier_look_sets_the_timer_anew_and_a_later_one_does_not() -> None:
    """There is one timer, for what is due next."""
    scheduler = started()
    late, early = Diary(1010.0), Diary(1002.0)
    scheduler.follow("1", late)
    await asyncio.sleep(1)
    scheduler.follow("2", early)
    await asyncio.sleep(60)
    assert (late.at, early.at) == ([1000.0, 1010.0], [1001.0, 1002.0])


async def test_a_change_of_the_timeline_is_looked_at_from_any_thread() -> None:
    """The look that was due before does not come any more."""
    scheduler = started()
    diary = Diary(1010.0, 1020.0)
    scheduler.follow("1", diary)
    scheduler.follow("2", Diary())
    await asyncio.sleep(2)
    thread = threading.Thread(target=scheduler.changed, args=("1",))
    thread.start()
    thread.join()
    scheduler.changed("of no interest")
    await asyncio.sleep(60)
    assert diary.at == [1000.0, 1002.0, 1020.0]


async def test_who_left_is_not_looked_for() -> None:
    """Leaving twice is no fault, and others who follow the task stay."""
    scheduler = started()
    gone, stays = Diary(1010.0), Diary(1010.0)
    follower = scheduler.follow("1", gone)
    other = scheduler.follow("1", stays)
    await asyncio.sleep(1)
    scheduler.unfollow(follower)
    scheduler.unfollow(follower)
    await asyncio.sleep(60)
    assert (gone.at, stays.at) == ([1000.0], [1000.0, 1010.0])
    scheduler.changed("1")
    await asyncio.sleep(0.1)
    assert (len(gone.at), len(stays.at)) == (1, 3)
    scheduler.unfollow(other)
    scheduler.changed("1")
    await asyncio.sleep(0.1)
    assert (len(gone.at), len(stays.at)) == (1, 3)


async def test_a_look_may_end_the_following() -> None:
    """Though a change is told to several of the same task."""
    scheduler = started()
    diary = Diary()
    follower = scheduler.follow("1", lambda _: scheduler.unfollow(follower))
    scheduler.follow("1", diary)
    scheduler.changed("1")
    await asyncio.sleep(1)
    scheduler.changed("1")
    await asyncio.sleep(1)
    assert diary.at == [1000.0, 1001.0]


async def test_many_looks_at_once_leave_room_for_others() -> None:
    """A batch, then the loop's other work."""
    scheduler = started()
    order: list[str] = []

    def noted(name: str) -> Look:
        def look(_: float) -> None:
            order.append(name)

        return look

    for number in range(202):
        scheduler.follow(str(number), noted(str(number)))
    asyncio.get_running_loop().call_later(0, order.append, "other")
    await asyncio.sleep(1)
    assert order == [*map(str, range(200)), "other", "200", "201"]


async def test_after_the_end_no_timer_rings() -> None:
    """And news of changes, which come from other threads, are let pass."""
    scheduler = started()
    diary = Diary(1010.0)
    scheduler.follow("1", diary)
    await asyncio.sleep(1)
    scheduler.stop()
    scheduler.stop()
    scheduler.changed("1")
    await asyncio.sleep(60)
    assert diary.at == [1000.0]


def test_a_loop_that_is_closed_already_is_no_fault() -> None:
    """A task may be steered at the very moment when the sandbox stops."""

    async def leave() -> Scheduler:
        scheduler = Scheduler(lambda: 0.0)
        scheduler.start()
        scheduler.follow("1", Diary())
        return scheduler

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        scheduler = runner.run(leave())
    scheduler.changed("1")


def test_a_clock_that_is_moved_by_hand_is_followed_by_hand() -> None:
    """Without a loop there is no timer."""
    now = 5.0
    clock: Callable[[], float] = lambda: now  # noqa: E731
    scheduler = Scheduler(clock)
    diary = Diary(10.0)
    scheduler.ring_if_due()
    scheduler.follow("1", diary)
    scheduler.ring_if_due()
    scheduler.ring_if_due()
    assert diary.at == [5.0]
    now = 30.0
    scheduler.ring_if_due()
    assert diary.at == [5.0, 30.0]
