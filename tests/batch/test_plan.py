"""The plan: what a batch would send, what that would cost, and how long it would take."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wiro_async._batch.plan import MAX_INVALID, BatchPlan, InvalidJob, Planner


def test_nothing_costs_nothing_and_takes_no_time() -> None:
    """A batch without jobs is no question of prices."""
    assert Planner().plan() == BatchPlan(
        jobs=0, invalid=(), invalid_jobs=0, duplicates=0, estimated_cost=Decimal(0), unpriced=0,
        estimated_seconds=0.0,
    )  # fmt: skip


def test_the_sums() -> None:
    """Jobs, what is wrong with others, what was done before; USD of those whose price is known."""
    planner = Planner()
    planner.job(Decimal("0.28"), 60.0)
    planner.job(Decimal("0.02"), 20.0)
    planner.job()
    planner.invalid("line 4", "'duration' is 7; it must be one of '6', '10'")
    planner.duplicate()
    planner.duplicate()
    assert planner.plan(slots=1) == BatchPlan(
        jobs=3,
        invalid=(InvalidJob("line 4", "'duration' is 7; it must be one of '6', '10'"),),
        invalid_jobs=1,
        duplicates=2,
        estimated_cost=Decimal("0.30"),
        unpriced=1,
        estimated_seconds=120.0,
    )


def test_jobs_of_unknown_price_and_duration() -> None:
    """Nothing is guessed where nothing is known."""
    planner = Planner()
    planner.job()
    plan = planner.plan()
    assert (plan.jobs, plan.estimated_cost, plan.unpriced, plan.estimated_seconds) == (1, None, 1, None)


@pytest.mark.parametrize(
    ("slots", "seconds"), [(1, 6000.0), (10, 600.0), (0.5, 6000.0), (1000, 60.0), (None, 60.0)]
)
def test_the_time_is_shared_by_those_who_run_at_a_time(slots: float | None, seconds: float) -> None:
    """A hundred jobs of a minute; it is never shorter than one of them."""
    planner = Planner()
    for _ in range(100):
        planner.job(seconds=60.0)
    assert planner.plan(slots).estimated_seconds == seconds


def test_the_list_of_invalid_jobs_is_bounded() -> None:
    """A million of them fill no memory; all are counted."""
    planner = Planner()
    for line in range(MAX_INVALID + 7):
        planner.invalid(f"line {line}", "no model")
    plan = planner.plan()
    assert len(plan.invalid) == MAX_INVALID
    assert plan.invalid[0].where == "line 0"
    assert plan.invalid_jobs == MAX_INVALID + 7


costs = st.none() | st.decimals(0, 100, places=6)


@given(st.lists(st.tuples(costs, st.none() | st.floats(0, 1e4)), max_size=30), st.floats(1, 100))
@settings(max_examples=200, deadline=None)
def test_the_estimates_are_bounded_by_the_jobs(
    jobs: list[tuple[Decimal | None, float | None]], slots: float
) -> None:
    """The cost is the exact sum of what is known; the time lies between the longest job and one by one."""
    planner = Planner()
    for cost, seconds in jobs:
        planner.job(cost, seconds)
    plan = planner.plan(slots)
    known = [cost for cost, _ in jobs if cost is not None]
    assert plan.unpriced == len(jobs) - len(known)
    assert plan.estimated_cost == (sum(known, Decimal(0)) if known or not jobs else None)
    times = [seconds for _, seconds in jobs if seconds is not None]
    if plan.estimated_seconds is not None and times:
        assert max(times) <= plan.estimated_seconds <= max(times) * len(jobs) * 1.001
