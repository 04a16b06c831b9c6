"""Stamps cut to whole seconds, two clocks, and what was seen in between become durations and a lateness."""

from __future__ import annotations

import time
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeService, client, ok
from tests.fakes import task as record
from tests.tasks.test_handle import CALM, RecordingSchedule
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Status, Task, TaskHandle
from wiro_async._protocol.records import parse_task
from wiro_async._watch.schedule import clock_offset, lateness

T0 = 1734513800


def task(status: str = "task_postprocess_end", **times: float) -> Task:
    """Return a snapshot with timestamps in seconds after the beginning."""
    stamps = {f"{name}time": T0 + value for name, value in times.items()}
    return parse_task({"id": "2221", "status": status, **stamps})


# -- stages, as the schedule is told of them -----------------------------------------------------------


def attached_to(status: str, times: dict[str, float], **fields: Any) -> tuple[TaskHandle, RecordingSchedule]:
    """Attach to a task of ten minutes ago, with times in seconds after its beginning."""
    start = int(time.time() - 600)
    stamps = {f"{name}time": str(start + seconds) for name, seconds in times.items()}
    handle = client(FakeService(Task_Detail=ok(tasklist=[record(status=status, **stamps, **fields)]))).attach(
        "2221"
    )
    schedule = RecordingSchedule(CALM)
    handle._state.context = attrs.evolve(handle._state.context, schedule=schedule)
    return handle, schedule


@pytest.mark.parametrize(
    ("times", "after"),
    [
        ({"create": 0, "start": 6}, 6.0),
        ({"create": 7, "start": 6}, 0.0),
        ({"create": 0}, None),
        ({"start": 6}, None),
    ],
)
async def test_when_a_task_began(times: dict[str, float], after: float | None) -> None:
    """In seconds after its creation, if both are told."""
    handle, schedule = attached_to("task_start", times)
    with anyio.move_on_after(20.0):
        await handle
    timing = schedule.timings[-1]
    assert handle.status == Status.START
    assert (timing.started and timing.started - timing.since) == pytest.approx(after)


@pytest.mark.parametrize(
    ("times", "elapsed", "stages"),
    [
        # It has queued until it began, and has run until its files were there.
        ({"create": 0, "start": 6, "end": 64, "postprocessend": 66}, "", (6.0, 60.0)),
        # Missing stamps give no duration, and clocks that disagree give none below zero.
        ({}, "", (None, None)),
        ({"create": 0, "start": 6}, "", (6.0, None)),
        ({"start": 6, "end": 10}, "", (None, 4.0)),
        ({"create": 9, "start": 6, "end": 2}, "", (0.0, 0.0)),
        # An elapsed time with a fraction is finer than stamps, which tell only what came after the work.
        ({"create": 0, "start": 1, "end": 2, "postprocessend": 3}, "1.4200", (1.0, 2.42)),
        ({"create": 0, "start": 1, "end": 8, "postprocessend": 8}, "6.0000", (1.0, 7.0)),
        ({"create": 0}, "1.42", (None, None)),
    ],
)
async def test_the_stages_of_a_finished_task(
    times: dict[str, float], elapsed: str, stages: tuple[float | None, float | None]
) -> None:
    """How long it has queued and run is learned from what its record tells."""
    handle, schedule = attached_to("task_postprocess_end", times, pexit="0", elapsedseconds=elapsed)
    await handle.wait()
    assert schedule.learned == [pytest.approx(stages)]


@pytest.mark.parametrize(
    "ended", [{"status": "task_postprocess_end", "pexit": "1"}, {"status": "task_cancel"}]
)
async def test_of_a_task_that_did_not_succeed_only_the_queue_is_learned(ended: dict[str, str]) -> None:
    """It ended early for reasons of its own."""
    handle, schedule = attached_to(times={"create": 0, "start": 6, "end": 10, "cancel": 10}, **ended)
    await handle.refresh()
    assert schedule.learned == [(6.0, None)]


# -- clocks and lateness -------------------------------------------------------------------------------


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
