"""The schedule: when the next poll is due, whose turn it is, and what is learned from it."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lines import Line
from benchmarks.simulate import SIGMAS, cold, crowd, draw, learn, play, shift, steady
from tests.depth import examples
from wiro_async import Polling
from wiro_async._watch.schedule import Schedule, TaskTiming

MODEL = "owner/model"
NOW = 5000.0

seconds = st.floats(1e-3, 1e4)
places = st.floats(0, 1)
policies = st.builds(
    Polling,
    min_interval=seconds,
    max_interval=seconds,
    growth=st.floats(1e-3, 10),
    jitter=st.floats(0, 0.99),
    requests_per_second=st.floats(0.1, 1000),
    learn=st.booleans(),
)
maybe = st.none() | st.floats(-1e5, 1e5)
timings = st.builds(
    TaskTiming,
    model=st.sampled_from(["", MODEL, "x/y"]),
    since=st.floats(-1e5, 1e5),
    started=maybe,
    polled_at=maybe,
    failures=st.integers(0, 1000),
    place=places,
    expected=st.none() | st.floats(allow_nan=True, allow_infinity=True),
)


def timing(age: float, failures: int = 0, place: float = 0.5, model: str = "", **more: Any) -> TaskTiming:
    """Return what is known of a task that was polled just now."""
    return TaskTiming(model, NOW - age, polled_at=NOW, failures=failures, place=place, **more)


def interval(schedule: Schedule, age: float, *rest: Any, **more: Any) -> float:
    """Return the seconds to the next poll of a task that was polled just now."""
    return schedule.next_poll(timing(age, *rest, **more), NOW) - NOW


def warm(
    sigma: float = 0.25, run: float = 60.0, polling: Polling | None = None, count: int = 400
) -> Schedule:
    """Return a schedule that has seen tasks of a model end."""
    schedule = Schedule(polling or Polling())
    chance = random.Random(1)
    for _ in range(count):
        queued, ran = chance.expovariate(1 / 6), chance.lognormvariate(math.log(run), sigma)
        schedule.learn(MODEL, queued=queued, ran=ran)
    return schedule


# -- by age ----------------------------------------------------------------------------------------------


@given(policies, st.floats(0, 1e9), st.integers(0, 1000), places)
@examples(60)
def test_an_interval_by_age_is_within_its_bounds(
    policy: Polling, age: float, failures: int, place: float
) -> None:
    """Between the shortest and the longest, give or take the jitter; the shortest wins where they cross."""
    schedule = Schedule(policy)
    wait = schedule.next_poll(TaskTiming("", 0.0, None, age, failures, place), age) - age
    longest = max(policy.min_interval, policy.max_interval)
    rounding = age * 1e-14
    assert policy.min_interval * (1 - policy.jitter) * 0.999 <= wait + rounding
    assert wait - rounding <= longest * (1 + policy.jitter) * 1.001


@pytest.mark.parametrize(
    ("age", "failures", "place", "wait"),
    [
        (0, 0, 0.5, 1.5), (9, 0, 0.5, 1.5), (10, 0, 0.5, 1.5), (20, 0, 0.5, 3.0), (60, 0, 0.5, 9.0),
        (70, 0, 0.5, 10.0), (3600, 0, 0.5, 10.0),
        (0, 1, 0.5, 3.0), (0, 2, 0.5, 6.0), (0, 3, 0.5, 10.0), (0, 10**6, 0.5, 10.0),
        (60, 0, 0.0, 8.1), (60, 0, 1.0, 9.9), (3600, 0, 1.0, 11.0), (0, 0, 0.0, 1.35),
    ],
)  # fmt: skip
def test_intervals_by_age(age: float, failures: int, place: float, wait: float) -> None:
    """15 % of the age, from 1.5 s to 10 s, doubled for each failure, with 10 % of jitter."""
    policy = Polling(min_interval=1.5, max_interval=10.0, growth=0.15, jitter=0.1)
    assert interval(Schedule(policy), age, failures, place) == pytest.approx(wait)


def test_a_task_that_was_never_polled_is_due_at_once() -> None:
    """Whatever is known of its model."""
    assert Schedule(Polling()).next_poll(TaskTiming("", 10.0), 12.0) == 12.0
    assert warm().next_poll(TaskTiming(MODEL, 10.0), 12.0) == 12.0


# -- by what was learned ---------------------------------------------------------------------------------


@given(policies, timings, st.lists(st.tuples(maybe, maybe), max_size=20), st.floats(-1e5, 1e5))
@examples(60)
def test_a_next_poll_is_a_time_after_the_last(
    policy: Polling, seen: TaskTiming, samples: list[tuple[float | None, float | None]], now: float
) -> None:
    """Whatever was learned, and whatever the clocks say."""
    schedule = Schedule(policy)
    for queued, ran in samples:
        schedule.learn(MODEL, queued=queued, ran=ran)
    due = schedule.next_poll(seen, now)
    assert math.isfinite(due)
    assert due >= (now if seen.polled_at is None else seen.polled_at)


@given(timings, st.integers(1, 100))
@examples(60)
def test_patience_grows_with_failures(seen: TaskTiming, more: int) -> None:
    """A task that could not be polled is not polled more often, in either stage."""
    schedule = KNOWN
    worse = TaskTiming(
        seen.model, seen.since, seen.started, seen.polled_at, seen.failures + more, seen.place, seen.expected
    )
    # How much of the queue is known depends on whether the last poll failed, not on how often.
    if seen.failures or seen.started is not None or seen.model != MODEL:
        assert schedule.next_poll(worse, 0.0) >= schedule.next_poll(seen, 0.0)


KNOWN = warm()


def test_what_was_learned_places_the_polls() -> None:
    """Of tasks of 60 s the first poll comes after more than half of it; then they are close together."""
    schedule = warm()
    assert 30 < interval(schedule, 0.0, model=MODEL) < 50
    started = NOW - 60.0
    assert interval(schedule, 66.0, model=MODEL, started=started) < 5
    assert interval(schedule, 0.0, model="x/y") < 3, "another model is another matter"


def test_a_failed_poll_has_not_told_that_a_task_is_queued() -> None:
    """One that was queued after 60 s will run for a minute; of one that could not be seen who knows."""
    schedule = warm()
    assert interval(schedule, 60.0, model=MODEL) > 20
    assert interval(schedule, 60.0, 1, model=MODEL) <= 10


def test_four_tasks_are_too_few() -> None:
    """The fifth changes the schedule; and what was polled only is not exported."""
    schedule = Schedule(Polling())
    for ended in range(6):
        assert interval(schedule, 0.0, model=MODEL) < 3
        assert len(schedule.export()["models"]) == min(ended, 1)
        schedule.learn(MODEL, queued=3.0, ran=60.0)
    assert interval(schedule, 0.0, model=MODEL) > 10


def test_failures_teach_nothing_of_the_run() -> None:
    """Only of the queue."""
    schedule = Schedule(Polling())
    for _ in range(50):
        schedule.learn(MODEL, queued=3.0, ran=None)
    assert interval(schedule, 0.0, model=MODEL) < 3
    assert schedule.export()["models"][MODEL]["ran"] == []


@pytest.mark.parametrize("odd", [-1.0, math.inf, -math.inf, math.nan, 1e300])
def test_odd_durations_teach_nothing(odd: float) -> None:
    """However many."""
    schedule = warm()
    before = interval(schedule, 0.0, model=MODEL), schedule.export()
    for _ in range(500):
        schedule.learn(MODEL, queued=odd, ran=odd)
    assert (interval(schedule, 0.0, model=MODEL), schedule.export()) == before


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_model_without_a_sensible_name_is_not_learned(name: str) -> None:
    """Memory is bounded."""
    schedule = Schedule(Polling())
    for _ in range(10):
        schedule.learn(name, queued=1.0, ran=60.0)
    schedule.merge({"version": 1, "models": {name: warm().export()["models"][MODEL]}})
    assert interval(schedule, 0.0, model=name) < 3
    assert schedule.export()["models"] == {}


def test_learning_can_be_turned_off() -> None:
    """Then the age decides, and an expectation."""
    schedule = warm(polling=Polling(learn=False))
    schedule.merge(warm().export())
    assert interval(schedule, 0.0, model=MODEL) < 3
    assert interval(schedule, 0.0, model=MODEL, expected=60.0) > 20
    assert schedule.export()["models"] == {}


def test_the_least_recently_used_model_is_forgotten() -> None:
    """A poll is a use."""
    schedule = warm()
    for number in range(512):
        schedule.learn(f"x/{number}", queued=1.0, ran=2.0)
        interval(schedule, 0.0, model=MODEL)
    models = schedule.export()["models"]
    assert len(models) == 256
    assert MODEL in models
    assert "x/0" not in models
    assert f"x/{511}" in models


def test_no_task_is_left_alone_for_long() -> None:
    """Of tasks of an hour, one that fails early is seen within a minute and a half, or as the policy says."""
    schedule = warm(run=3600.0)
    waits = [interval(schedule, 0.0, place=place, model=MODEL) for place in (0.0, 0.5, 1.0)]
    assert waits == pytest.approx([60, 75, 90])
    patient = warm(run=3600.0, polling=Polling(max_interval=300.0))
    assert interval(patient, 0.0, model=MODEL) == 300.0


@pytest.mark.parametrize("run", [0.0, 0.5, 1.0, 2.0])
def test_short_tasks_are_seen_soon(run: float) -> None:
    """A sped-up service's tasks are found within a second or two, and by a fast policy as it says."""
    schedule = Schedule(Polling())
    quick = Schedule(Polling(min_interval=0.01))
    for _ in range(50):
        for each in (schedule, quick):
            each.learn(MODEL, queued=0.0, ran=run)
    assert 0.2 <= interval(schedule, 0.0, model=MODEL) <= 2.5
    assert interval(schedule, 4.0, model=MODEL, started=NOW - 4.0) <= 10.0
    assert interval(quick, 0.0, model=MODEL) < 0.1 or run > 1


def test_the_policys_longest_interval_holds_for_what_was_learned() -> None:
    """Once the first hundredth has ended, and however seldom a task is still running."""
    schedule = warm(polling=Polling(min_interval=2.0, max_interval=3.0))
    for age in range(40, 600, 10):
        assert interval(schedule, float(age), model=MODEL, started=NOW - age) <= 3.001


def test_very_long_intervals_can_be_asked_for() -> None:
    """They bound, and do not break, what was learned."""
    schedule = warm(polling=Polling(min_interval=1e300, max_interval=1e308))
    assert 20 < interval(schedule, 0.0, model=MODEL) < 60


# -- by what the user expects ----------------------------------------------------------------------------


def test_an_expectation_is_used() -> None:
    """Before what was learned: the user knows the inputs."""
    cold_one, schedule = Schedule(Polling()), warm()
    assert interval(cold_one, 0.0, expected=60.0) > 20
    assert interval(schedule, 0.0, model=MODEL, expected=600.0) > interval(schedule, 0.0, model=MODEL)
    assert interval(cold_one, 600.0, expected=600.0) <= 10


@pytest.mark.parametrize("odd", [0.0, -5.0, math.nan, math.inf])
def test_an_odd_expectation_is_none(odd: float) -> None:
    """The task is polled as if there were none."""
    assert interval(Schedule(Polling()), 0.0, expected=odd) < 3


def test_an_expectation_of_no_time_leaves_it_to_the_age() -> None:
    """No poll pays before such a task's end."""
    assert interval(Schedule(Polling()), 0.0, expected=1e-6) < 3


def test_an_expectation_that_was_wrong_does_little_harm() -> None:
    """A task of 600 s that was expected in 60 s is polled as if nothing were known."""
    schedule, age, polls = Schedule(Polling()), 0.0, 0
    while age < 600:
        age += interval(schedule, age, expected=60.0)
        polls += 1
    assert polls < 90


# -- in order --------------------------------------------------------------------------------------------


def test_a_crowd_that_ends_is_no_change() -> None:
    """Of a thousand tasks submitted together the short ones end first; the next are expected as before."""
    schedule = warm()
    before = interval(schedule, 0.0, model=MODEL)
    jobs = list(draw(1000, "x", 0.25, 0.0))
    for job in jobs:
        schedule.next_poll(timing_of(job.number), 0.0)
    for ended, job in enumerate(sorted(jobs, key=lambda job: job.end)):
        learn(schedule, job, timing_of(job.number))
        if ended % 100 == 0:
            assert interval(schedule, 0.0, model=MODEL) == pytest.approx(before, rel=0.2)


def timing_of(number: int, since: float = 0.0) -> TaskTiming:
    """Return one of a crowd's tasks."""
    return TaskTiming(MODEL, since, polled_at=since, place=number / 1000)


def samples(schedule: Schedule) -> float:
    """Return how many ended tasks were learned from."""
    models = schedule.export()["models"]
    return sum(models[MODEL]["ran"][1:]) if models else 0.0


def test_a_plan_is_made_anew_when_a_twelfth_of_its_tasks_has_come_after_it() -> None:
    """Not at each end, for it takes a while."""
    schedule = Schedule(Polling())
    for _ in range(12):
        schedule.learn(MODEL, queued=1.5, ran=60.5)
    planned = interval(schedule, 0.0, model=MODEL)
    for changed in (False, True):
        schedule.learn(MODEL, queued=1.5, ran=10.5)
        assert (interval(schedule, 0.0, model=MODEL) != planned) is changed


def test_an_end_waits_for_those_of_older_tasks() -> None:
    """And is learned from when they have ended, however they did."""
    schedule = Schedule(Polling())
    for number in range(3):
        schedule.next_poll(timing_of(number), 0.0)
    schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(2))
    schedule.learn(MODEL, queued=1.0, ran=61.5, timing=timing_of(1))
    assert samples(schedule) == 0
    schedule.learn(MODEL, queued=None, ran=None, timing=timing_of(0))
    assert samples(schedule) == pytest.approx(2, abs=0.1)


def test_an_end_out_of_line_is_learned_at_once() -> None:
    """When the task was never polled, or nobody says which it was."""
    schedule = Schedule(Polling())
    schedule.next_poll(timing_of(0), 0.0)
    schedule.learn(MODEL, queued=1.0, ran=60.5)
    schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(5))
    assert samples(schedule) == pytest.approx(2, abs=0.1)


def test_the_order_of_creation_counts_however_the_waits_begin() -> None:
    """Who waits for the newest task first learns from it last."""
    schedule = Schedule(Polling())
    for since in (2.0, 0.0, 1.0):
        schedule.enter(timing_of(0, since))
    for since in (2.0, 1.0):
        schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(0, since))
        assert samples(schedule) == 0
    schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(0, 0.0))
    assert samples(schedule) == pytest.approx(3, abs=0.1)


def test_a_stuck_task_holds_up_nobody_for_long() -> None:
    """When it takes more than twice as long as the others, they are learned from without it, and it later."""
    schedule = Schedule(Polling())
    stuck = timing_of(0)
    schedule.next_poll(stuck, 0.0)
    for since in (10.0, 60.0, 110.0):
        schedule.next_poll(timing_of(1, since), since)
        schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(1, since))
        assert (samples(schedule) > 0) == (since > 61.5)
    assert samples(schedule) == pytest.approx(3, abs=0.1)
    schedule.learn(MODEL, queued=1.0, ran=900.5, timing=stuck)
    assert samples(schedule) == pytest.approx(4, abs=0.1)


def test_a_stuck_task_holds_up_quick_ones_no_longer_than_twice_their_time() -> None:
    """However short that is: of a model whose tasks take half a second, those are learned from at once."""
    schedule = Schedule(Polling())
    for timing in (timing_of(0), timing_of(1, 1.2)):
        schedule.next_poll(timing, timing.since)
    schedule.learn(MODEL, queued=0.25, ran=0.25, timing=timing_of(1, 1.2))
    assert samples(schedule) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("odd", [-1.0, math.inf, -math.inf, math.nan, 1e300])
def test_an_odd_duration_does_not_stop_the_line(odd: float) -> None:
    """Nor does it open it for all."""
    schedule = Schedule(Polling())
    for number in range(3):
        schedule.next_poll(timing_of(number), 0.0)
    schedule.learn(MODEL, queued=odd, ran=odd, timing=timing_of(2))
    schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(1))
    assert samples(schedule) == 0
    schedule.learn(MODEL, queued=1.0, ran=61.5, timing=timing_of(0))
    assert samples(schedule) == pytest.approx(2, abs=0.1)


def test_the_line_is_bounded() -> None:
    """Tasks that nobody waits for any more leave it in the end."""
    schedule = Schedule(Polling())
    for number in range(4097):
        schedule.next_poll(timing_of(number), 0.0)
    schedule.learn(MODEL, queued=1.0, ran=60.5, timing=timing_of(1))
    assert samples(schedule) == pytest.approx(1, abs=0.1), "task 0 has left"


# -- the budget ------------------------------------------------------------------------------------------


@given(
    policies,
    st.lists(st.tuples(st.floats(0, 3), st.floats(-1, 9)), min_size=1, max_size=60),
    st.floats(-1e6, 1e6),
)
@examples(60)
def test_no_window_holds_more_than_the_budget(
    policy: Polling, asked: list[tuple[float, float]], start: float
) -> None:
    """In any window of w seconds there are at most rate × (w + 0.5) + 1 places, none too early."""
    schedule = Schedule(policy)
    now, found = start, []
    for gap, waited in asked:
        now += gap if gap > 1 else 0.0
        place = schedule.reserve(now, waited)
        assert place >= now
        found.append(place)
    rate = policy.requests_per_second
    found.sort()
    for first, begin in enumerate(found):
        for last in range(first, len(found)):
            window = found[last] - begin + 0.5
            assert last - first + 1 <= rate * window + 1 + 1e-3


def test_a_lone_task_is_never_delayed() -> None:
    """One poll a second is far below the budget: each is at once."""
    schedule = Schedule(Polling())
    assert all(schedule.reserve(float(now)) == now for now in range(1000))


def test_a_crowd_is_spread_evenly() -> None:
    """13 at once, then one every 20 ms; after a rest the burst is there again."""
    schedule = Schedule(Polling(requests_per_second=50))
    turns = [schedule.reserve(100.0) for _ in range(1000)]
    assert turns.count(100.0) == 13
    gaps = [later - earlier for earlier, later in itertools.pairwise(turns[13:])]
    assert gaps == pytest.approx([0.02] * len(gaps))
    assert turns[-1] == pytest.approx(100 + 999 / 50 - 0.25)
    assert [schedule.reserve(1000.0) for _ in range(14)].count(1000.0) == 13


def test_a_slow_budget_still_begins_at_once() -> None:
    """The first poll needs no waiting, the next one is due when the budget says, less the quarter second."""
    schedule = Schedule(Polling(requests_per_second=0.1))
    assert [schedule.reserve(50.0) for _ in range(3)] == pytest.approx([50.0, 59.75, 69.75])


def test_failures_double_the_interval_up_to_the_longest_however_short_it_was() -> None:
    """Of polls that are a microsecond apart it takes 24 failures."""
    schedule = Schedule(Polling(min_interval=1e-6, max_interval=10.0, growth=1e-9, jitter=0.0))
    waits = [interval(schedule, 0.0, failures) for failures in (0, 1, 16, 20, 23, 24, 1000)]
    assert waits == pytest.approx([1e-6, 2e-6, 2**16 * 1e-6, 2**20 * 1e-6, 2**23 * 1e-6, 10.0, 10.0])


def test_those_who_wait_longest_come_first() -> None:
    """Two tasks that ask in turn share the budget half and half; one that is overdue comes earlier."""
    schedule = Schedule(Polling(requests_per_second=10))
    turns = sorted((schedule.reserve(0.0), name) for _ in range(50) for name in ("a", "b"))
    assert [name for _, name in turns[4:]] == ["a", "b"] * 48
    late = schedule.reserve(0.0)
    assert schedule.reserve(0.0, 5.0) == pytest.approx(late + 0.1 - 0.25)
    assert schedule.reserve(0.0) == pytest.approx(late + 0.2)


# -- an unwell service -----------------------------------------------------------------------------------


def test_all_polls_pause_together() -> None:
    """After one that met an unwell service, by half a second, and a little more by their place."""
    schedule = Schedule(Polling())
    schedule.back_off(NOW, None)
    assert schedule.reserve(NOW) == NOW + 0.5
    assert schedule.next_poll(TaskTiming("", NOW), NOW) == NOW + 0.5
    overdue = [
        schedule.next_poll(TaskTiming("", 0.0, polled_at=9.0, place=place), NOW) for place in (0.0, 1.0)
    ]
    assert overdue == pytest.approx([NOW + 0.5, NOW + 0.5 * 1.25])
    assert overdue == [schedule.paused_until(0.0), schedule.paused_until(1.0)]
    assert interval(schedule, 60.0) > 5, "what is due later is not put off"


def test_a_pause_doubles_while_the_service_stays_unwell() -> None:
    """To half a minute; failures of polls that had begun before count once; each success takes back one."""
    schedule, now, pauses = Schedule(Polling()), NOW, []
    for _ in range(9):
        schedule.back_off(now, None)
        until = schedule.paused_until(0.0)
        for _ in range(5):
            schedule.back_off(now + 0.1, None)
        assert schedule.paused_until(0.0) == until
        pauses.append(until - now)
        now = until
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])
    for _ in range(20):
        schedule.recover()
    schedule.back_off(now, None)
    assert schedule.paused_until(0.0) - now == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        (10.0, 10.0), (0.0, 0.5), (3600.0, 120.0),
        (-5.0, 0.5), (math.nan, 0.5), (math.inf, 0.5),
    ],
)  # fmt: skip
def test_retry_after_is_honoured(asked: float, pause: float) -> None:
    """Up to two minutes of it, if it is a time."""
    schedule = Schedule(Polling())
    schedule.back_off(NOW, asked)
    assert schedule.paused_until(0.0) == NOW + pause
    assert schedule.reserve(NOW) == NOW + pause
    schedule.back_off(NOW + 0.1, 20.0)
    assert schedule.paused_until(0.0) == NOW + max(pause, 20.1), "a longer one counts during a pause too"


def test_after_a_pause_the_budget_is_kept() -> None:
    """Those who waited do not come all at once."""
    schedule = Schedule(Polling(requests_per_second=10))
    schedule.back_off(NOW, 5.0)
    turns = [schedule.reserve(NOW, 9.0) for _ in range(21)]
    assert turns[0] == NOW + 5
    assert turns[-1] == pytest.approx(NOW + 5 + 2 - 0.25)


# -- export and merge ------------------------------------------------------------------------------------


def test_what_was_learned_goes_on_in_another_process() -> None:
    """Through JSON, at less than 3 kB a model."""
    schedule, other = warm(), Schedule(Polling())
    text = json.dumps(schedule.export())
    assert len(text) < 3000
    other.merge(json.loads(text))
    for age in (0.0, 40.0, 60.0):
        same = interval(schedule, age, model=MODEL, started=NOW - age)
        assert interval(other, age, model=MODEL, started=NOW - age) == pytest.approx(same, rel=0.1)
    for stage in ("queued", "ran"):
        mine, theirs = (each.export()["models"][MODEL][stage] for each in (schedule, other))
        assert len(mine) > 10
        assert theirs == pytest.approx(mine, abs=0.1)


def test_queues_that_another_process_saw_put_off_the_first_poll() -> None:
    """Of tasks that run for a minute after ten minutes in the queue, none ends in the first eight."""
    schedule, other = Schedule(Polling(max_interval=3600.0)), Schedule(Polling(max_interval=3600.0))
    for _ in range(50):
        schedule.learn(MODEL, queued=600.0, ran=60.0)
    assert interval(schedule, 0.0, model=MODEL) > 480
    other.merge(json.loads(json.dumps(schedule.export())))
    assert interval(other, 0.0, model=MODEL) > 480


def test_merging_two_ways_is_the_same() -> None:
    """About: each process weighs alike."""
    fast, slow = warm(run=30.0), warm(run=60.0)
    one, other = warm(run=30.0), warm(run=60.0)
    one.merge(slow.export())
    other.merge(fast.export())
    assert interval(one, 0.0, model=MODEL) == pytest.approx(interval(other, 0.0, model=MODEL), rel=0.1)


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["version", "models", MODEL, "queued", "ran", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
weights = garbage | st.lists(st.floats() | st.integers())
stages = garbage | st.fixed_dictionaries({"queued": garbage, "ran": weights})
nearly = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "models": garbage | st.dictionaries(st.sampled_from([MODEL, "", 7, None]), stages),
    }
)


@given(garbage | nearly)
@examples(60)
def test_no_garbage_breaks_a_merge(data: Any) -> None:
    """It is ignored, and the schedule works as before."""
    schedule = warm(count=10)
    schedule.merge(data)
    assert 0 < interval(schedule, 0.0, model=MODEL) < 100
    json.dumps(schedule.export(), allow_nan=False)


# -- statistics ------------------------------------------------------------------------------------------


def test_statistics_of_nothing() -> None:
    """There are no means before the first end."""
    told = Schedule(Polling()).statistics(in_flight=3, waiting=4)
    assert (told.polls, told.finished, told.in_flight, told.waiting) == (0, 0, 3, 4)
    assert (told.polls_per_task, told.mean_lateness, told.p99_lateness) == (None, None, None)


def test_statistics() -> None:
    """Polls and ends are counted, lateness has a mean and a 99th percentile; unknown ones are left out."""
    schedule = Schedule(Polling())
    for number in range(1000):
        schedule.polled()
        schedule.polled()
        schedule.finished(number / 100)
    schedule.finished(None)
    schedule.finished(math.nan)
    told = schedule.statistics(in_flight=0, waiting=0)
    assert (told.polls, told.finished) == (2000, 1002)
    assert told.polls_per_task == pytest.approx(2000 / 1002)
    assert told.mean_lateness == pytest.approx(4.995)
    assert told.p99_lateness == pytest.approx(9.9, rel=0.05)


def test_lateness_may_be_beyond_all_bounds() -> None:
    """Then the percentile is the greatest that is told, six hours."""
    schedule = Schedule(Polling())
    schedule.finished(1e8)
    p99 = schedule.statistics(in_flight=0, waiting=0).p99_lateness
    assert p99 is not None
    assert 6 * 3600 * 0.9 < p99 < 1e5


# -- simulated -------------------------------------------------------------------------------------------


def check(lines: Iterable[Line], slack: float = 1.0) -> None:
    """Compare a simulation's figures with their targets."""
    for line in lines:
        assert line.target is not None
        assert line.value <= line.target * slack, f"{line.name}: {line.note}"


@pytest.mark.parametrize("sigma", SIGMAS)
def test_polls_times_lateness(sigma: float) -> None:
    """Against the service's own schedule and the best fixed one, and the latest hundredth of the tasks."""
    check(steady(1500, 3, sigma), 1.05)


@pytest.mark.parametrize("gap", [0.0, 1000.0])
def test_a_cold_start(gap: float) -> None:
    """The first twenty tasks are not polled more than a fifth more often, nor seen so much later."""
    check(cold(25, 3, 0.25, gap), 1.05)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_shift_is_followed(factor: float) -> None:
    """Fifty tasks after runs take half or twice as long, polls × lateness is what it would be."""
    check(shift(3, 3, 0.25, factor), 1.15)


def test_a_thousand_equal_tasks_are_not_polled_together() -> None:
    """Without a budget no second holds more than half of them; with one, no more than it."""
    check([crowd(3, 0.1, Polling(requests_per_second=1e9), "no budget", 500.0)])
    check([crowd(3, 0.1, Polling(), "50 polls a second", 76.0)])


def test_the_simulation_is_repeatable() -> None:
    """The place is the only chance in it."""
    runs = [list(play(draw(50, "same", 0.25), Schedule(Polling()))) for _ in range(2)]
    assert runs[0] == runs[1]
