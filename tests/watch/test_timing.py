"""Stamps cut to whole seconds, two clocks, and what was seen in between become durations and a lateness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wiro_async import Task
from wiro_async._protocol.records import parse_task
from wiro_async._watch.schedule import clock_offset, lateness, stages, started_after

T0 = 1734513800


def task(status: str = "task_postprocess_end", elapsed: str = "", **times: float) -> Task:
    """Return a snapshot with timestamps in seconds after the beginning."""
    stamps = {f"{name}time": T0 + value for name, value in times.items()}
    return parse_task({"id": "2221", "status": status, "elapsedseconds": elapsed, **stamps})


def test_the_stages_of_a_finished_task() -> None:
    """It has queued until it began, and has run until its files were there."""
    assert stages(task(create=0, start=6, end=64, postprocessend=66)) == (6.0, 60.0)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, (None, None)),
        ({"create": 0, "start": 6}, (6.0, None)),
        ({"start": 6, "end": 10}, (None, 4.0)),
        ({"create": 9, "start": 6, "end": 2}, (0.0, 0.0)),
    ],
)
def test_what_is_not_told_is_not_made_up(
    times: dict[str, float], expected: tuple[float | None, float | None]
) -> None:
    """Missing stamps give no duration, and clocks that disagree give none below zero."""
    assert stages(task("task_postprocess_end", "", **times)) == expected


def test_an_elapsed_time_with_a_fraction_is_finer_than_stamps() -> None:
    """Then the stamps tell only what came after the work itself."""
    queued, ran = stages(task(elapsed="1.4200", create=0, start=1, end=2, postprocessend=3))
    assert (queued, ran) == (1.0, 2.42)
    assert stages(task(elapsed="6.0000", create=0, start=1, end=8, postprocessend=8)) == (1.0, 7.0)
    assert stages(task(elapsed="1.42", create=0)) == (None, None)


def test_when_a_task_began() -> None:
    """In seconds after its creation, if both are told."""
    assert started_after(task("task_start", create=0, start=6)) == 6.0
    assert started_after(task("task_start", create=7, start=6)) == 0.0
    assert started_after(task("task_queue", create=0)) is None
    assert started_after(task("task_start", start=6)) is None


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
