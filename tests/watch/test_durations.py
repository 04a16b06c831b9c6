"""What durations are learned as, and how densely they make one poll."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async import Polling
from wiro_async._watch.durations import Durations, PollPlan, Polls
from wiro_async._watch.schedule import Schedule, TaskTiming

EDGES = (0.0, *(0.25 * 1.08**index for index in range(1, 166)))
"""Where the bins begin, in seconds."""

MEMORY = 200
"""How many samples are remembered."""

SHORTEST = 0.2
"""The shortest time between two polls, in seconds."""

ODD = [-1.0, -math.inf, math.inf, math.nan, 1e300, True, None, "60", 10**400, [60.0]]
seconds = st.floats(0, 2e5)
places = st.floats(0, 1)


def learned(*samples: float) -> Durations:
    durations = Durations()
    for sample in samples:
        durations.add(sample)
    return durations


def normal(median: float, sigma: float, count: int = 400, seed: int = 1) -> Durations:
    chance = random.Random(seed)
    return learned(*(chance.lognormvariate(math.log(median), sigma) for _ in range(count)))


# -- learning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 2, 80, 164, 165])
def test_the_bins_reach_from_a_quarter_of_a_second_to_a_day(index: int) -> None:
    """Each is 8 % wider than the one before; what one bin holds is told from its neighbours only."""
    begin, end = (*EDGES, math.inf)[index : index + 2]
    within = learned(begin + 1e-9).export()
    assert within == learned(min(end, 1e9) - 1e-9).export()
    assert within[0] == index
    assert end == math.inf or learned(end + 1e-9).export() == [index + 1, *within[1:]]
    assert len(learned(60.0).survival()) == len(EDGES)


def test_survival_of_nothing_known_is_the_prior() -> None:
    """It falls from one, and no sample is needed."""
    survival = Durations().survival()
    assert survival[0] == pytest.approx(1.0, abs=1e-3)
    assert all(later <= earlier for earlier, later in pairwise(survival))
    assert survival[-1] > 0


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_a_duration_is_ignored(odd: object) -> None:
    """It changes nothing."""
    durations = learned(60.0)
    before = durations.export()
    durations.add(odd)  # type: ignore[arg-type]
    assert durations.export() == before


@pytest.mark.parametrize("value", [0, 0.0, 1e-300, 60, 1e9])
def test_what_can_be_a_duration(value: float) -> None:
    """Zero is one: stamps are whole seconds."""
    assert learned(value).count == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("median", "sigma"), [(1.5, 0.3), (60, 0.1), (60, 0.5), (3600, 0.25)])
def test_quantiles_are_those_of_what_was_learned(median: float, sigma: float) -> None:
    """To the width of a bin, and what the last two hundred samples tell."""
    durations = normal(median, sigma)
    for share, deviations in ((0.25, -0.674), (0.5, 0), (0.75, 0.674)):
        true = median * math.exp(sigma * deviations)
        assert durations.quantile(share) == pytest.approx(true, rel=0.05 + 0.15 * sigma)
    assert durations.quantile(0.5, 1.2 * median) > 1.2 * median
    assert durations.quantile(0.5, 50 * median) == 50 * median, "none is longer"


def test_nothing_known_has_no_quantile() -> None:
    """The answer is then the question's own bound."""
    assert learned().quantile(0.5) == 0
    assert learned().quantile(0.5, 7.0) == 7.0
    assert learned(1e6).quantile(0.5) == EDGES[-1]


def test_the_old_is_forgotten() -> None:
    """The histogram is worth 200 samples at most; of those before, e^-2.5 are left after 500 more."""
    durations = normal(60, 0.3, 3000)
    assert durations.count == pytest.approx(MEMORY, rel=0.01)
    before = durations.quantile(0.5)
    for _ in range(30):
        durations.add(55.0)
        durations.add(66.0)
    assert before * 0.95 < durations.quantile(0.5) < before * 1.05


def test_whole_seconds_are_blurred_where_bins_are_finer() -> None:
    """A stamped second may be anything from 0 to 2 s; a fraction was measured otherwise and is exact."""
    stamped, exact = learned(*[1.0] * 10), learned(*[1.01] * 10)
    assert stamped.quantile(0.05) < 0.6
    assert stamped.quantile(0.95) > 1.4
    three = learned(*[3.0] * 10)
    assert [three.quantile(share) for share in (0.05, 0.5, 0.95)] == pytest.approx([2.4, 3.0, 3.6], abs=0.25)
    assert exact.quantile(0.95) - exact.quantile(0.05) < 0.1


def test_a_few_odd_ones_move_little() -> None:
    """Three that took an hour, three that took no time, and the curve around the median stays."""
    durations = normal(60, 0.25)
    before = durations.survival()
    for odd in (3600.0, 0.0) * 3:
        durations.add(odd)
    moved = max(abs(one - other) for one, other in zip(durations.survival(), before, strict=True))
    assert moved < 0.04
    assert durations.count == pytest.approx(MEMORY, rel=0.15)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_change_is_followed(factor: float, sigma: float, seed: int) -> None:
    """Within fifty samples the median is the new one."""
    durations = normal(60, sigma, seed=seed)
    chance = random.Random(seed + 100)
    for _ in range(50):
        durations.add(chance.lognormvariate(math.log(60 * factor), sigma))
    assert durations.quantile(0.5) == pytest.approx(60 * factor, rel=0.1 + 0.4 * sigma)


@pytest.mark.parametrize("before", [2.25, 225.5])
def test_after_a_change_nothing_from_before_it_is_left(before: float) -> None:
    """A dozen samples in a row beyond all others are one, however few seconds that is."""
    durations = learned(*[before] * 100, *[before / 3] * 12)
    assert durations.count == pytest.approx(12, rel=0.05)
    assert durations.quantile(0.99) < before / 2


def test_a_change_that_is_not_far_off_keeps_all_of_the_latest() -> None:
    """Where few of them are beyond nine tenths of the old, all twelve are kept."""
    durations = learned(*([50.0] * 22 + [100.0] * 3) * 12)
    for _ in range(40):
        durations.add(70.0)
        if durations.count < 20:
            break
    assert durations.count == pytest.approx(12, rel=0.05)


def test_no_change_is_seen_where_there_is_none() -> None:
    """In three thousand samples of a wide distribution all are remembered throughout."""
    durations = normal(60, 1.0, 600)
    chance = random.Random(5)
    for _ in range(3000):
        durations.add(chance.lognormvariate(math.log(60), 1.0))
        assert durations.count > 100


# -- export and merge ------------------------------------------------------------------------------------


def exported(durations: Durations) -> list[float]:
    """Return what *durations* exports; an empty one is a histogram without bins."""
    return durations.export() or [0.0]


@given(st.lists(seconds, max_size=80))
@examples(30)
def test_what_is_exported_can_be_merged(samples: list[float]) -> None:
    """Through JSON, and with the same shape, to a hundredth of a sample in each bin."""
    durations = learned(*samples)
    copy = learned()
    copy.merge(json.loads(json.dumps(durations.export())))
    assert copy.count == pytest.approx(durations.count, abs=0.005 * len(EDGES))
    # Not the curves are compared: their smoothing jumps where a quartile lies on the edge of a gap.
    kept, had = (dict(enumerate(bins, int(first))) for first, *bins in map(exported, (copy, durations)))
    assert all(abs(kept.get(index, 0.0) - had.get(index, 0.0)) < 0.02 for index in kept | had)


@given(st.lists(seconds, min_size=10, max_size=60), st.lists(seconds, min_size=10, max_size=60))
@examples(30)
def test_merging_does_not_depend_on_the_order(some: list[float], others: list[float]) -> None:
    """One with the other is the other with the one."""
    one, other = learned(*some), learned(*others)
    mine, theirs = one.export(), other.export()
    one.merge(theirs)
    other.merge(mine)
    assert one.count == pytest.approx(other.count, rel=0.1, abs=1)
    for share in (0.3, 0.5, 0.7):
        low, high = (one.quantile(share + step) for step in (-0.1, 0.1))
        assert low * 0.8 - 0.3 <= other.quantile(share) <= high * 1.2 + 0.3


def test_a_single_bin_can_be_merged() -> None:
    """What one task has taught elsewhere."""
    durations, other = learned(60.5), learned()
    assert len(durations.export()) == 2
    other.merge(durations.export())
    assert other.count == 1
    assert other.quantile(0.5) == pytest.approx(60.5, rel=0.08)


def test_merging_is_bounded() -> None:
    """However often, and however much, it is worth 200 samples, and what is learned after it counts."""
    durations = learned()
    for _ in range(20):
        durations.merge([60, 1e9, 1e9])
        durations.merge([70, 100.0, 100.0])
        assert durations.count <= MEMORY * 1.001
    for _ in range(60):
        durations.add(3000.0)
    assert durations.quantile(0.5) == pytest.approx(3000, rel=0.1)


@pytest.mark.parametrize(
    "garbage",
    [
        None, {}, "x", 7, [], [1], [0.5, 1, 1], [0, 0.0], [0, "1"], [0, -1], [0, math.nan], [math.inf, 1],
        [165, 1, 1], [-1, 1], [0, True], [0, 10**400], [0, None], [[0], 1], [0, *[1.0] * 167],
    ],
)  # fmt: skip
def test_garbage_is_not_merged(garbage: object) -> None:
    """It changes nothing and raises nothing."""
    durations = learned(60.0)
    before = durations.export()
    durations.merge(garbage)
    assert durations.export() == before


def test_what_is_too_light_to_hold_changes_nothing_that_matters() -> None:
    """A total far below one sample."""
    durations = learned()
    durations.merge([3, 1e-300])
    assert durations.count < 1e-6
    assert durations.export() == []


# -- survival --------------------------------------------------------------------------------------------


@given(st.lists(seconds, min_size=1, max_size=60))
@examples(40)
def test_survival_falls_from_one_and_is_never_nothing(samples: list[float]) -> None:
    """There may always be a task that takes longer than all before."""
    survival = learned(*samples).survival()
    assert survival[0] == pytest.approx(1)
    assert all(earlier >= later > 0 for earlier, later in pairwise(survival))


def test_survival_is_that_of_the_durations() -> None:
    """Within two hundredths or so where 200 samples were learned from."""
    survival = normal(60, 0.25, 2000).survival()
    for edge, share in zip(EDGES[1:], survival[1:], strict=True):
        true = 0.5 * math.erfc(math.log(edge / 60) / 0.25 / math.sqrt(2))
        assert share == pytest.approx(true, abs=0.08)


# -- polls -----------------------------------------------------------------------------------------------


def exponential(mean: float) -> list[float]:
    return [math.exp(-edge / mean) + 1e-30 for edge in EDGES]


def test_a_constant_hazard_has_kellers_interval() -> None:
    """``sqrt(2c / h)``, at any age."""
    polls = Polls(exponential(100.0), 1e9)
    for age in (0.0, 10.0, 100.0, 200.0):
        assert polls.interval(age, 0.5) == pytest.approx(math.sqrt(2 * 0.3 * 100), rel=0.01)


def test_no_interval_is_longer_than_the_policys_where_an_end_is_likely() -> None:
    """Before, it may be."""
    polls = Polls(normal(3600, 0.25).survival(), 10.0)
    assert polls.interval(0.0, 0.5) > 500
    assert polls.interval(3000.0, 0.5) <= 10.1
    assert polls.interval(20_000.0, 0.5) <= 10.1


def test_no_interval_is_shorter_than_a_fifth_of_a_second() -> None:
    """However certain the end is."""
    polls = Polls(learned(*[60.0] * 200).survival(), 10.0)
    assert min(polls.interval(age / 10, 0.5) for age in range(700)) >= SHORTEST


def test_beyond_the_last_bin_no_poll_pays() -> None:
    """The policy must say."""
    assert Polls(exponential(100.0), 1e9).interval(1e6, 0.5) == math.inf


def test_first_polls_are_spread_over_an_interval() -> None:
    """The place decides when between 0.5 and 1.5 polls are due; after two it decides nothing."""
    polls = Polls(exponential(100.0), 1e9)
    first = [polls.interval(0.0, place) for place in (0.0, 0.5, 1.0)]
    assert first == pytest.approx([first[1] * 0.5, first[1], first[1] * 1.5], rel=0.02)
    later = 2.5 * first[1]
    assert polls.interval(later, 0.0) == polls.interval(later, 1.0)


@pytest.mark.parametrize("stretch", [0.1, 0.5, 4.0, 60.0])
def test_a_stretch_is_another_unit_of_time(stretch: float) -> None:
    """Polls of tasks that are so much longer are those of a distribution that is so much longer."""
    stretched = Polls(exponential(100.0), 1e9)
    plain = Polls(exponential(100.0 * stretch), 1e9)
    for age in (0.0, 30.0 * stretch, 150.0 * stretch):
        assert stretched.interval(age, 0.5, stretch) == pytest.approx(plain.interval(age, 0.5), rel=0.02)


@given(st.lists(seconds, min_size=1, max_size=40), seconds, places, st.floats(1e-6, 1e6))
@examples(60)
def test_an_interval_is_positive(samples: list[float], age: float, place: float, stretch: float) -> None:
    """Whatever was learned."""
    assert Polls(learned(*samples).survival(), 10.0).interval(age, place, stretch) >= SHORTEST


# -- plans --------------------------------------------------------------------------------------------


def plan_of(queue: Durations, ran: Durations) -> PollPlan:
    return PollPlan(queue, ran, 10.0)


def test_the_first_poll_comes_before_most_ends() -> None:
    """At tasks of 6 s and 60 s it is when about one in thirty has ended, and is spread."""
    both = plan_of(normal(6, 0.8), normal(60, 0.25))
    assert 25 < both.first(0.0) < both.first(0.5) < both.first(1.0) < 60
    assert both.first(0.125) == pytest.approx((both.first(0.0) + both.first(0.25)) / 2)


def test_an_unknown_queue_counts_for_nothing() -> None:
    """The first poll is then that of a task that has begun at once."""
    alone = plan_of(learned(), normal(60, 0.25))
    assert alone.first(0.5) == pytest.approx(alone.polls.interval(0.0, 0.5), rel=0.05)
    assert alone.unseen(20.0, 20.0, 0.5) == pytest.approx(alone.polls.interval(0.0, 0.5))


def test_a_task_that_is_still_queued_has_all_of_its_run_before_it() -> None:
    """The next poll is a run away; if the last one failed, it may run already."""
    both = plan_of(normal(6, 0.8), normal(60, 0.25))
    run = both.polls.interval(0.0, 0.5)
    assert run < both.unseen(40.0, 40.0, 0.5) < run + 20
    assert both.unseen(40.0, 0.0, 0.5) < run / 2


def test_a_long_queue_is_polled_rarely() -> None:
    """A task that queues for 1 000 s before it runs for 10 s needs some tens of polls in the queue."""
    both = plan_of(normal(1000, 0.1), normal(10, 0.1))
    age, polls = both.first(0.5), 1
    while age < 1000:
        age += both.unseen(age, age, 0.5)
        polls += 1
    assert polls < 50


def test_short_tasks_are_polled_soon() -> None:
    """A sped-up service ends them within a second or two."""
    both = plan_of(learned(*[0.0, 1.0] * 50), learned(*[1.0, 0.0, 1.0, 2.0] * 25))
    assert SHORTEST <= both.first(0.5) < 2
    assert both.polls.interval(1.0, 0.5) < 1.5


some = st.lists(seconds, min_size=1, max_size=30)


@given(st.lists(seconds, max_size=30), some, seconds, places, st.floats(1, 3600))
@examples(40)
def test_a_plan_is_finite(
    queue: list[float], ran: list[float], age: float, place: float, longest: float
) -> None:
    """And each poll is later than the last."""
    both = PollPlan(learned(*queue), learned(*ran), longest)
    assert SHORTEST <= both.first(place) < 1e6
    assert both.unseen(age, age, place) > 0
    assert both.unseen(age, 0.0, place) > 0


@pytest.mark.parametrize("expected", [6.0, 60.0, 3600.0])
def test_expectations_are_met_with_polls_around_them(expected: float) -> None:
    """The first poll comes before the end, more polls when it is due, and one at once is not needed."""
    schedule = Schedule(Polling(min_interval=1e4, max_interval=1e4))

    def interval(age: float) -> float:
        return schedule.next_poll(TaskTiming("", 0.0, polled_at=age, place=0.5, expected=expected), age) - age

    assert 0.05 * expected < interval(0.0) < 1.1 * expected
    assert interval(expected) < 0.5 * expected


# -- size ------------------------------------------------------------------------------------------------


def _size(thing: object) -> int:
    total = sys.getsizeof(thing)
    for name in getattr(type(thing), "__slots__", ()):
        value = getattr(thing, name)
        if not isinstance(value, Durations):
            total += _size(value)
    return total + (sum(map(sys.getsizeof, thing)) if isinstance(thing, tuple) else 0)


@pytest.mark.parametrize("draw", [lambda c: c.uniform(0, 1e5), lambda c: 10 ** c.uniform(-1, 5)])
def test_what_is_known_of_a_model_is_below_4_kilobytes(draw: Callable[[random.Random], float]) -> None:
    """Two histograms and a plan, whatever was learned; exported as JSON, less than 3."""
    chance = random.Random(1)
    queued, ran = (learned(*(draw(chance) for _ in range(1000))) for _ in range(2))
    assert _size(queued) + _size(ran) + _size(PollPlan(queued, ran, 10.0)) <= 4000
    assert len(json.dumps([queued.export(), ran.export()])) < 3000
