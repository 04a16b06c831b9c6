"""The tally: every job is at one place, and the pace is that of late."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async import BatchProgress
from wiro_async._batch.progress import ProgressCounter
from wiro_async._types import Stage

ZERO = Decimal(0)


def progress(tally: ProgressCounter, now: float) -> BatchProgress:
    """Return how the batch stands, without money."""
    return tally.progress(now, ZERO, ZERO)


def finish(tally: ProgressCounter, now: float, ending: Stage = "succeeded") -> None:
    """Lead a job through all its stages at once."""
    tally.moved(None, "waiting", now)
    tally.moved("waiting", "submitting", now)
    tally.moved("submitting", "running", now)
    tally.moved("running", ending, now)


def test_a_batch_that_has_not_begun() -> None:
    """Nothing is read, and nothing can be told."""
    assert progress(ProgressCounter(5.0), 5.0) == BatchProgress(
        total=None, read=0, skipped=0, waiting=0, submitting=0, running=0, downloading=0, succeeded=0,
        failed=0, cancelled=0, unknown=0, spent=ZERO, reserved=ZERO, rate=0.0, eta=None, elapsed=0.0,
    )  # fmt: skip


def test_a_job_is_counted_where_it_is() -> None:
    """At every step it leaves one place for another."""
    tally = ProgressCounter(0.0, total=3)
    tally.moved(None, "skipped", 1.0)
    tally.moved(None, "waiting", 2.0)
    tally.moved(None, "waiting", 3.0)
    steps: list[Stage] = ["waiting", "submitting", "running", "downloading", "succeeded"]
    for old, new in itertools.pairwise(steps):
        tally.moved(old, new, 4.0)
        seen = attrs.asdict(progress(tally, 4.0))
        assert seen[new] == tally.count(new) == 1
        assert (seen["read"], seen["skipped"], seen["waiting"]) == (3, 1, 1)
    assert progress(tally, 4.0).finished == 2


def test_money_is_passed_on() -> None:
    """It is the budget's to say."""
    seen = ProgressCounter(0.0).progress(1.0, Decimal("1.5"), Decimal("0.3"))
    assert (seen.spent, seen.reserved) == (Decimal("1.5"), Decimal("0.3"))


def test_a_step_that_cannot_be_is_a_mistake() -> None:
    """The message says which, and nothing is counted."""
    tally = ProgressCounter(0.0)
    with pytest.raises(ValueError, match="no job is waiting, so none can become running; count every step"):
        tally.moved("waiting", "running", 1.0)
    assert progress(tally, 1.0).running == 0


def test_what_was_not_begun_has_not_ended() -> None:
    """Nor does it count for the pace; but nobody waits for it any more."""
    tally = ProgressCounter(0.0, total=3)
    tally.moved(None, "skipped", 0.0)
    finish(tally, 10.0)
    tally.moved(None, "waiting", 10.0)
    before = progress(tally, 10.0)
    tally.moved("waiting", "not_started", 10.0)
    seen = progress(tally, 10.0)
    assert (seen.read, seen.not_started, seen.begun, seen.finished) == (3, 1, 2, 2)
    assert before.begun == 2
    assert seen.rate == before.rate
    assert before.eta == pytest.approx(10.0, rel=0.1)
    assert seen.eta == 0


@pytest.mark.parametrize("every", [0.05, 1.0, 30.0, 300.0])
def test_a_steady_pace_is_told(every: float) -> None:
    """Fast batches and slow ones: within 5 %, and the end is where it will be."""
    tally = ProgressCounter(0.0, total=2000)
    for number in range(1, 1001):
        finish(tally, number * every)
    seen = progress(tally, 1000 * every)
    assert seen.rate == pytest.approx(1 / every, rel=0.05)
    assert seen.eta == pytest.approx(1000 * every, rel=0.05)
    assert seen.elapsed == 1000 * every


def test_a_change_of_pace_is_followed() -> None:
    """Half of the batch's time later most of the old pace is forgotten."""
    tally = ProgressCounter(0.0)
    for number in range(100):
        finish(tally, float(number))
    for number in range(200):
        finish(tally, 100.0 + number / 2)
    assert 1.6 < progress(tally, 200.0).rate < 2.0


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled", "unknown"])
def test_every_end_counts_for_the_pace(ending: Stage) -> None:
    """Jobs that were skipped do not, for they take no time."""
    tally = ProgressCounter(0.0, total=4)
    tally.moved(None, "skipped", 1.0)
    assert progress(tally, 1.0).rate == 0
    assert progress(tally, 1.0).eta is None
    finish(tally, 10.0, ending)
    seen = progress(tally, 10.0)
    assert seen.rate == pytest.approx(0.1, rel=0.1)
    assert seen.eta == pytest.approx(20.0, rel=0.1)


def test_a_doubt_that_is_settled_is_one_end() -> None:
    """From unknown to succeeded is no second job."""
    once, twice = ProgressCounter(0.0), ProgressCounter(0.0)
    for tally in (once, twice):
        finish(tally, 10.0, "unknown")
    twice.moved("unknown", "succeeded", 10.0)
    assert progress(twice, 10.0).rate == progress(once, 10.0).rate


def test_the_end_is_now_when_nothing_is_left() -> None:
    """Even when nothing took any time."""
    tally = ProgressCounter(0.0, total=1)
    tally.moved(None, "skipped", 0.0)
    assert progress(tally, 0.0).eta == 0


def test_a_total_that_was_too_small_grows() -> None:
    """There are at least as many jobs as were read."""
    tally = ProgressCounter(0.0, total=1)
    finish(tally, 1.0)
    finish(tally, 1.0)
    assert progress(tally, 1.0).total == 2
    tally.total = None
    assert progress(tally, 1.0).total is None


def test_a_clock_that_stands_or_goes_back_does_no_harm() -> None:
    """Time passes only forwards."""
    tally = ProgressCounter(100.0)
    finish(tally, 99.0)
    assert progress(tally, 98.0).elapsed == 0
    assert progress(tally, 98.0).rate == 0


STAGES: tuple[Stage, ...] = get_args(Stage)

moves = st.lists(st.tuples(st.sampled_from((None, *STAGES)), st.sampled_from(STAGES), st.floats(0, 50)))


@given(moves, st.none() | st.integers(0, 50))
@examples(300)
def test_the_counts_add_up(steps: list[tuple[Stage | None, Stage, float]], total: int | None) -> None:
    """To the jobs that were read, whatever happens; and pace and end are never negative."""
    tally, now, read = ProgressCounter(0.0, total), 0.0, 0
    places: dict[Stage, int] = dict.fromkeys(STAGES, 0)
    for old, new, seconds in steps:
        now += seconds
        if old is None:
            read += 1
        elif not places[old]:
            continue
        else:
            places[old] -= 1
        places[new] += 1
        tally.moved(old, new, now)
        seen = attrs.asdict(progress(tally, now))
        assert {stage: seen[stage] for stage in STAGES} == places
        assert sum(places.values()) == seen["read"] == read
        assert seen["rate"] >= 0
        assert seen["eta"] is None or seen["eta"] >= 0


def test_the_stages_are_the_progress_own_names() -> None:
    """So each is one of its attributes."""
    assert set(STAGES) <= {field.name for field in attrs.fields(BatchProgress)}
