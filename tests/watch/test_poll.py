"""Watching by asking: one poll for any number of awaiters, handed over when its leader goes."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

import wiro_async
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import (
    ConnectionFailed,
    InvalidResponse,
    Polling,
    RateLimited,
    ServiceError,
    WiroError,
)
from wiro_async._watch.poll import Poll
from wiro_async._watch.schedule import Schedule

EVEN = Polling(min_interval=2.0, max_interval=10.0, growth=0.5, jitter=0.0)


class Polls:
    """Records when it was polled, and fails on demand."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.errors: list[Exception] = []
        self.lasts = 0.0

    async def poll_once(self, until: float) -> None:
        self.at.append(anyio.current_time())
        left = until - anyio.current_time()
        await anyio.sleep(min(self.lasts, left))
        if left <= self.lasts:
            raise ConnectionFailed("no whole answer in time", sent=True)
        if self.errors:
            raise self.errors.pop(0)


def attached(polling: Polling = EVEN) -> Poll:
    return Poll(Schedule(polling), chance=lambda: 0.5)


def fresh(polling: Polling = EVEN, chance: Callable[[], float] = lambda: 0.5) -> Poll:
    return Poll(Schedule(polling), since=anyio.current_time(), chance=chance)


async def test_the_first_poll_of_an_unknown_task_is_at_once() -> None:
    """An attached task is polled now, then at a growing share of its age."""
    polls = Polls()
    start = anyio.current_time()
    watch = attached()
    for _ in range(5):
        await watch.step(polls)
    assert [round(at - start, 3) for at in polls.at] == [0.0, 2.0, 4.0, 6.0, 9.0]


async def test_a_fresh_task_has_time_before_its_first_poll() -> None:
    """A task that was submitted just now is not done yet."""
    polls = Polls()
    watch = fresh()
    start = anyio.current_time()
    await watch.step(polls)
    assert polls.at == [start + 2.0]


async def test_fifty_awaiters_share_one_poll() -> None:
    """However many wait, each poll is made once."""
    polls = Polls()
    watch = attached()
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(watch.step, polls)
    assert len(polls.at) == 1


async def test_when_the_leader_is_cancelled_a_follower_takes_over() -> None:
    """Neither sleeping nor in mid-poll does a cancelled leader take the others down with it."""
    polls = Polls()
    polls.lasts = 1.0
    watch = attached()
    start = anyio.current_time()
    await watch.step(polls)
    ends: list[float] = []

    async def lead(patience: float) -> None:
        with anyio.move_on_after(patience):
            await watch.step(polls)

    async def follow() -> None:
        while len(polls.at) < 3:
            await watch.step(polls)
        ends.append(anyio.current_time() - start)

    async with anyio.create_task_group() as group:
        group.start_soon(lead, 1.0)  # cancelled while it sleeps
        await anyio.wait_all_tasks_blocked()
        group.start_soon(lead, 2.5)  # cancelled while it polls
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            group.start_soon(follow)
    assert [round(at - start, 3) for at in polls.at][:2] == [0.0, 3.0]
    assert len(polls.at) == 3
    assert len(ends) == 3


async def test_news_wake_everyone_without_a_poll() -> None:
    """What is learned in another way ends the step of leader and followers alike."""
    polls = Polls()
    watch = fresh()
    woken: list[float] = []

    async def wait() -> None:
        await watch.step(polls)
        woken.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        watch.ring()
    assert len(woken) == 3
    assert not polls.at
    watch.ring()


async def test_passing_failures_are_counted_and_slow_the_polls() -> None:
    """Failed polls back off up to the longest interval; a good one resets the count."""
    polls = Polls()
    error = wiro_async.ConnectionFailed("cut", sent=True)
    polls.errors = [error] * 6
    watch = attached(Polling(min_interval=2.0, max_interval=30.0, growth=0.01, jitter=0.0))
    start = anyio.current_time()
    for _ in range(7):
        await watch.step(polls)
    assert watch.failures == 0
    gaps = [later - earlier for earlier, later in zip([start, *polls.at], polls.at, strict=False)]
    assert gaps == pytest.approx([0.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])


async def test_a_failure_for_good_ends_the_step() -> None:
    """Wrong credentials do not get better by waiting."""
    polls = Polls()
    polls.errors = [wiro_async.AuthenticationError("no")]
    watch = attached()
    with pytest.raises(wiro_async.AuthenticationError):
        await watch.step(polls)
    assert watch.failures == 0


async def test_tasks_share_the_budget_of_polls() -> None:
    """A thousand tasks due at once are polled no faster than the budget allows, each once."""
    schedule = Schedule(Polling(requests_per_second=100.0))
    polls = [Polls() for _ in range(1000)]
    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        for poll in polls:
            group.start_soon(Poll(schedule).step, poll)
    times = sorted(poll.at[0] - start for poll in polls)
    assert [len(poll.at) for poll in polls] == [1] * 1000
    assert times[-1] == pytest.approx(10.0, abs=0.3)
    assert all(times[n + 100] - times[n] >= 0.74 for n in range(900))


async def test_an_event_makes_the_next_poll_due_at_once() -> None:
    """Before its interval and before the budget, and once."""
    polls = Polls()
    schedule = Schedule(Polling(requests_per_second=0.001))
    schedule.reserve(anyio.current_time())
    watch = Poll(schedule, since=anyio.current_time())
    start = anyio.current_time()

    async def wait() -> None:
        while not polls.at:
            await watch.step(polls)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        watch.hurry()
    assert polls.at == [start]
    with anyio.move_on_after(2.0):
        await watch.step(polls)
    assert len(polls.at) == 1


async def test_a_place_in_the_budget_outlasts_news() -> None:
    """Or else a task that has much to tell would be polled never, and use up everybody's budget."""
    polls = Polls()
    schedule = Schedule(Polling(requests_per_second=0.1))
    for _ in range(3):
        schedule.reserve(anyio.current_time())
    watch = Poll(schedule)
    start = anyio.current_time()
    for _ in range(20):
        async with anyio.create_task_group() as group:
            group.start_soon(watch.step, polls)
            await anyio.sleep(0.1)
            watch.ring()
    await watch.step(polls)
    assert polls.at == [pytest.approx(start + 30.0, abs=0.5)]


async def test_while_something_else_tells_the_end_polls_are_rare() -> None:
    """As long as they work: after a failure it is the schedule that decides."""
    polls = Polls()
    watch = fresh()
    watch.safety_interval = 60.0
    start = anyio.current_time()
    await watch.step(polls)
    polls.errors = [wiro_async.ConnectionFailed("cut", sent=True)]
    await watch.step(polls)
    await watch.step(polls)
    assert [round(at - start, 3) for at in polls.at[:2]] == [60.0, 120.0]
    assert polls.at[2] < start + 140.0


async def test_when_the_end_was_told_polls_are_frequent() -> None:
    """Until the service's own record knows it too."""
    polls = Polls()
    watch = fresh()
    watch.safety_interval = 60.0
    watch.urgent_interval = 1.0
    start = anyio.current_time()
    for _ in range(3):
        await watch.step(polls)
    assert [round(at - start, 3) for at in polls.at] == [1.0, 2.0, 3.0]


async def test_polls_pause_while_the_service_is_unwell() -> None:
    """One task's failed poll puts off the others', those that have a place in the budget too."""
    schedule = Schedule(Polling(requests_per_second=1.0))
    bad, good = Polls(), Polls()
    bad.errors = [wiro_async.RateLimited("slow down", retry_after=30.0)]
    start = anyio.current_time()
    for _ in range(5):
        schedule.reserve(start)

    async def wait() -> None:
        watch = Poll(schedule)
        async with anyio.create_task_group() as news:
            news.start_soon(tell, watch)
            while not good.at:
                await watch.step(good)

    async def tell(watch: Poll) -> None:
        await anyio.sleep(10.0)
        watch.ring()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        failing = Poll(schedule)
        failing.hurry()
        await failing.step(bad)
    assert bad.at[0] <= start + 0.2
    assert start + 30.0 <= good.at[0] <= start + 45.0


async def test_one_task_s_bad_record_lets_nobody_rest() -> None:
    """It is this task that is polled less often."""
    schedule = Schedule(Polling())
    polls = Polls()
    polls.errors = [wiro_async.InvalidResponse("no task list", http_status=200)]
    watch = Poll(schedule)
    await watch.step(polls)
    assert watch.failures == 1
    assert schedule.paused_until(0.5) <= anyio.current_time()


async def test_chance_spreads_the_polls() -> None:
    """The jitter is a share of the interval, both ways."""
    polling = Polling(min_interval=10.0, max_interval=10.0, jitter=0.2)
    gaps = []
    for chance in (0.0, 0.5, 1.0):
        polls = Polls()
        watch = fresh(polling, lambda chance=chance: chance)  # type: ignore[misc]
        start = anyio.current_time()
        await watch.step(polls)
        gaps.append(polls.at[0] - start)
    assert gaps == pytest.approx([8.0, 10.0, 12.0])


async def test_a_step_has_an_end() -> None:
    """Whoever leads and whoever follows returns in time, without a poll that is not due yet."""
    polls = Polls()
    watch = fresh(Polling(min_interval=10.0, max_interval=10.0, jitter=0.0))
    start = anyio.current_time()
    ends: list[float] = []

    async def wait(seconds: float) -> None:
        await watch.step(polls, start + seconds)
        ends.append(anyio.current_time() - start)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, 3.0)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(wait, 2.0)
    assert ends == [2.0, 3.0]
    assert polls.at == []


async def test_a_poll_is_broken_off_at_the_step_s_end() -> None:
    """A service that does not answer holds nobody for longer than he wants to wait."""
    polls = Polls()
    polls.lasts = 60.0
    watch = attached()
    start = anyio.current_time()
    await watch.step(polls, start + 5.0)
    assert (polls.at, watch.polled_at) == ([start], start + 5.0)
    assert watch.failures == 0


async def test_what_was_broken_off_makes_nobody_rest() -> None:
    """It was the caller who had no more time: that tells nothing of the service."""
    polls, schedule = Polls(), Schedule(EVEN)
    polls.lasts = 60.0
    await Poll(schedule).step(polls, anyio.current_time() + 5.0)
    assert schedule.paused_until(1.0) < anyio.current_time()


# -- replies that are not the service's --------------------------------------------------------------------


def page(status: int | None = 403, *, too_large: bool = False) -> InvalidResponse:
    return InvalidResponse(
        f"Task/Detail: HTTP {status} with a body that is a web page",
        http_status=status,
        operation="Task/Detail",
        excerpt="<html>",
        too_large=too_large,
    )


async def steps(polls: Polls, count: int, polling: Polling = EVEN) -> None:
    watch = attached(polling)
    for _ in range(count):
        await watch.step(polls)


@pytest.mark.parametrize("error", [page(), page(404), page(401), page(200, too_large=True)], ids=str)
async def test_foreign_replies_in_a_row_end_a_wait(error: InvalidResponse) -> None:
    """Five at least, over half a minute at least; the message says what was seen, how often and how long."""
    polls = Polls()
    polls.errors = [error] * 100
    start = anyio.current_time()
    with pytest.raises(InvalidResponse) as caught:
        await steps(polls, 100)
    assert 30 <= anyio.current_time() - start <= 60
    assert len(polls.at) >= 5
    said = str(caught.value)
    assert said.startswith(f"{error}. The last {len(polls.at)} replies in a row were like this, over ")
    assert "the task goes on" in said
    facts = (caught.value.http_status, caught.value.operation, caught.value.excerpt, caught.value.too_large)
    assert facts == (error.http_status, "Task/Detail", "<html>", error.too_large)


async def test_few_foreign_replies_do_not_end_a_wait_however_long_it_takes() -> None:
    """Four of them, a minute apart."""
    polls = Polls()
    polls.errors = [page()] * 4
    await steps(polls, 5, Polling(min_interval=60.0, max_interval=60.0, jitter=0.0))
    assert polls.at[-1] - polls.at[0] >= 240


async def test_many_foreign_replies_do_not_end_a_wait_within_half_a_minute() -> None:
    """A bot check is over soon."""
    polls = Polls()
    polls.errors = [page()] * 6
    await steps(polls, 7, Polling(min_interval=0.2, max_interval=0.2, jitter=0.0))
    assert polls.at[-2] - polls.at[0] < 30


@pytest.mark.parametrize(
    "error",
    [
        ServiceError("m", http_status=502),
        RateLimited("m", http_status=429),
        ConnectionFailed("m", sent=True),
        page(200),
        page(302),
        page(None),
    ],
    ids=repr,
)
async def test_an_outage_never_ends_a_wait(error: WiroError) -> None:
    """However long it lasts: only the wait's own time does. It breaks a row of foreign replies, too."""
    polls = Polls()
    polls.errors = [error] * 40
    await steps(polls, 41)
    assert polls.at[-1] - polls.at[0] > 60
    polls = Polls()
    polls.errors = [*[page()] * 4, error] * 8
    await steps(polls, 41)


async def test_a_good_reply_breaks_a_row_of_foreign_ones() -> None:
    """Whatever comes after it is counted anew."""
    polls, watch = Polls(), attached()
    for _ in range(8):
        polls.errors = [page()] * 4
        for _ in range(5):
            await watch.step(polls)
    assert polls.at[-1] - polls.at[0] > 60
