"""Stamps cut to whole seconds, two clocks, and what was seen in between become a lateness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wiro_async import Task
from wiro_async._protocol.records import parse_task
from wiro_async._watch.schedule import clock_offset, lateness

T0 = 1734513800


def task(status: str = "task_postprocess_end", **times: float) -> Task:
    """Return a snapshot with timestamps in seconds after the beginning."""
    stamps = {f"{name}time": T0 + value for name, value in times.items()}
    return parse_task({"id": "2221", "status": status, **stamps})


@pytest.mark.parametrize(
    ("created", "submitted", "offset"),
    [
        (0.0, T0 + 0.9, 0.0),
        (0.0, T0 - 0.9, 0.0),
        (90.0, T0 + 0.5, 90.0),
        (-90.0, T0 + 0.5, -90.0),
        (90.25, T0 + 0.25, 90.0),
    ],
)
def test_the_difference_of_two_clocks(created: float, submitted: float, offset: float) -> None:
    """It shows in the creation of a task that we submitted, as far as it exceeds the cutting of stamps."""
    assert clock_offset(task(create=created), submitted) == offset


def test_without_a_creation_the_clocks_are_taken_to_agree() -> None:
    """Nothing else is known."""
    assert clock_offset(task(), T0) == 0.0


def test_lateness_is_from_the_end_to_now() -> None:
    """In the middle of the stamp's second, on the service's clock."""
    ended = task(end=58, postprocessend=60)
    assert lateness(ended, offset=0.0, now=T0 + 63.5, unknown_for=100.0) == 3.0
    assert lateness(ended, offset=90.0, now=T0 - 26.5, unknown_for=100.0) == 3.0
    assert lateness(task(end=60.25), offset=0.0, now=T0 + 63.25, unknown_for=100.0) == 3.0


def test_lateness_of_a_cancelled_task_counts_from_the_cancel() -> None:
    """A kill's record may have an end before it, or none."""
    assert lateness(task("task_cancel", end=40, cancel=60), offset=0.0, now=T0 + 61.5, unknown_for=9.0) == 1.0


def test_a_task_cannot_have_ended_before_it_was_last_seen_alive() -> None:
    """That bounds what whole seconds leave open, and clocks that are off."""
    ended = task(end=60)
    assert lateness(ended, offset=0.0, now=T0 + 63.5, unknown_for=0.2) == 0.2
    assert lateness(ended, offset=0.0, now=T0 + 50.0, unknown_for=0.2) == 0.0
    assert lateness(task(), offset=0.0, now=T0, unknown_for=0.7) == 0.7


@given(
    end=st.floats(-1e6, 1e9) | st.none(),
    offset=st.floats(-1e6, 1e6),
    now=st.floats(0, 1e10),
    unknown_for=st.floats(-10, 1e6),
)
def test_lateness_is_never_negative_and_never_more_than_can_be(
    end: float | None, offset: float, now: float, unknown_for: float
) -> None:
    """Whatever the clocks say."""
    ended = task() if end is None else task(end=end)
    late = lateness(ended, offset=offset, now=now, unknown_for=unknown_for)
    assert 0.0 <= late <= max(unknown_for, 0.0)
