"""The schedule: how long between two looks, and whose turn it is."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wiro_async._config import Polling
from wiro_async._schedule import BURST_SECONDS, Schedule

seconds = st.floats(1e-3, 1e4)
ages = st.floats(0, 1e9)
chances = st.floats(0, 1)
policies = st.builds(
    Polling,
    min_interval=seconds,
    max_interval=seconds,
    growth=st.floats(1e-3, 10),
    jitter=st.floats(0, 0.99),
    requests_per_second=st.floats(0.1, 1000),
)


@given(policies, ages, st.integers(0, 1000), chances)
@settings(max_examples=500, deadline=None)
def test_an_interval_is_within_its_bounds(policy: Polling, age: float, failures: int, chance: float) -> None:
    """Between the shortest and the longest, give or take the jitter; the shortest wins where they cross."""
    interval = Schedule(policy).interval(age, failures, chance)
    longest = max(policy.min_interval, policy.max_interval)
    assert policy.min_interval * (1 - policy.jitter) * 0.999 <= interval
    assert interval <= longest * (1 + policy.jitter) * 1.001
    assert interval > 0


@given(policies, st.tuples(ages, ages), st.tuples(st.integers(0, 100), st.integers(0, 100)), chances)
@settings(max_examples=500, deadline=None)
def test_patience_grows(
    policy: Polling, times: tuple[float, float], misses: tuple[int, int], chance: float
) -> None:
    """An older task, or one that could not be looked at, is not looked at more often."""
    schedule = Schedule(policy)
    (age, more), (failures, worse) = times, misses
    interval = schedule.interval(age, failures, chance)
    assert schedule.interval(age + more, failures, chance) >= interval
    assert schedule.interval(age, failures + worse, chance) >= interval
    assert schedule.interval(age, failures, 1.0) >= interval >= schedule.interval(age, failures, 0.0)


@pytest.mark.parametrize(
    ("age", "failures", "chance", "interval"),
    [
        (0, 0, 0.5, 1.5), (9, 0, 0.5, 1.5), (10, 0, 0.5, 1.5), (20, 0, 0.5, 3.0), (60, 0, 0.5, 9.0),
        (70, 0, 0.5, 10.0),
        (3600, 0, 0.5, 10.0), (0, 1, 0.5, 3.0), (0, 2, 0.5, 6.0), (0, 3, 0.5, 10.0), (0, 10**6, 0.5, 10.0),
        (60, 0, 0.0, 8.1), (60, 0, 1.0, 9.9), (3600, 0, 1.0, 11.0), (0, 0, 0.0, 1.35),
    ],
)  # fmt: skip
def test_the_default_intervals(age: float, failures: int, chance: float, interval: float) -> None:
    """15 % of the age, from 1.5 s to 10 s, doubled for each failure, with 10 % of jitter."""
    assert Schedule(Polling()).interval(age, failures, chance) == pytest.approx(interval)


def test_a_wait_of_an_hour_takes_a_few_hundred_looks() -> None:
    """And the first minute, in which most tasks end, about twenty."""
    schedule = Schedule(Polling())

    def looks(until: float) -> int:
        age, count = 0.0, 0
        while (age := age + schedule.interval(age, 0, 0.5)) <= until:
            count += 1
        return count

    assert looks(60) == 19
    assert looks(3600) == 373


@given(policies, st.lists(st.floats(0, 3), min_size=1, max_size=80), st.floats(-1e6, 1e6))
@settings(max_examples=500, deadline=None)
def test_no_window_holds_more_than_the_budget(policy: Polling, gaps: list[float], start: float) -> None:
    """In any window of w seconds there are at most rate × (w + 0.25) + 1 places, in the order of asking."""
    schedule = Schedule(policy)
    now, places = start, []
    for gap in gaps:
        now += gap if gap > 1 else 0.0
        place = schedule.reserve(now)
        assert place >= now
        places.append(place)
    assert places == sorted(places), "first come, first served"
    rate = policy.requests_per_second
    for first, begin in enumerate(places):
        for last in range(first, len(places)):
            window = places[last] - begin
            assert last - first + 1 <= rate * (window + BURST_SECONDS) + 1 + 1e-3


def test_a_lone_task_is_never_delayed() -> None:
    """One look a second is far below the budget: each is at once."""
    schedule = Schedule(Polling())
    assert all(schedule.reserve(float(now)) == now for now in range(1000))


def test_a_crowd_is_spread_evenly() -> None:
    """13 at once, then one every 20 ms; after a rest the burst is there again."""
    schedule = Schedule(Polling(requests_per_second=50))
    places = [schedule.reserve(100.0) for _ in range(1000)]
    assert places.count(100.0) == 13
    gaps = [later - earlier for earlier, later in itertools.pairwise(places[13:])]
    assert gaps == pytest.approx([0.02] * len(gaps))
    assert places[-1] == pytest.approx(100 + 999 / 50 - BURST_SECONDS)
    assert [schedule.reserve(1000.0) for _ in range(14)].count(1000.0) == 13


def test_a_slow_budget_still_begins_at_once() -> None:
    """The first look needs no waiting, the next one is due when the budget says, less the quarter second."""
    schedule = Schedule(Polling(requests_per_second=0.1))
    assert schedule.free_at == -math.inf
    assert [schedule.reserve(50.0) for _ in range(3)] == pytest.approx([50.0, 59.75, 69.75])


def test_those_who_wait_longest_come_first() -> None:
    """Two tasks that ask in turn share the budget half and half, whoever began."""
    schedule = Schedule(Polling(requests_per_second=10))
    turns = sorted((schedule.reserve(0.0), name) for _ in range(50) for name in ("a", "b"))
    assert [name for _, name in turns[4:]] == ["a", "b"] * 48
