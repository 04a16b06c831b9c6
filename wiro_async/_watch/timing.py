"""What a task's record says of how long its stages took, and how late we were to know. Pure.

The service's stamps are whole seconds, cut off; what was seen of the task in between narrows that down.
"""

from __future__ import annotations

from wiro_async._protocol.records import Task
from wiro_async._types import Status

__all__ = ["clock_offset", "lateness", "stages", "started_after"]

HALF_A_SECOND = 0.5
"""What is added to a stamp that is cut to a whole second: the middle of where it may lie."""

NOTICEABLE_OFFSET = 1.5
"""Seconds below which the difference of two clocks cannot be told from the cutting of stamps."""


def stages(task: Task) -> tuple[float | None, float | None]:
    """Return the seconds that a finished task has queued and has run, files included (None: not told)."""
    times = task.timestamps
    created, start = times.get(Status.QUEUE), times.get(Status.START)
    ended = _end(task)
    queued = None if created is None or start is None else max(start - created, 0.0)
    ran = None if start is None or ended is None else max(ended - start, 0.0)
    elapsed = task.elapsed_seconds
    if ran is not None and elapsed is not None and not elapsed.is_integer():
        # Told to the fraction, but only to the end of the work itself.
        after = max(ended - times.get(Status.END, ended), 0.0) if ended is not None else 0.0
        ran = elapsed + after
    return queued, ran


def started_after(task: Task) -> float | None:
    """Return the seconds from a task's creation to the beginning of its run (None: not told)."""
    created, start = task.timestamps.get(Status.QUEUE), task.timestamps.get(Status.START)
    return None if created is None or start is None else max(start - created, 0.0)


def clock_offset(task: Task, submitted_at: float) -> float:
    """Return by how many seconds the service's clock is ahead of ours.

    Args:
        task: A snapshot of a task that we submitted.
        submitted_at: When that was, in unix seconds of our clock.
    """
    created = task.timestamps.get(Status.QUEUE)
    if created is None:
        return 0.0
    offset = _middle(created) - submitted_at
    return offset if abs(offset) > NOTICEABLE_OFFSET else 0.0


def lateness(task: Task, *, offset: float, now: float, unknown_for: float) -> float:
    """Return the seconds from a task's end to the moment that we knew.

    Args:
        task: The final snapshot.
        offset: By how much the service's clock is ahead of ours.
        now: Our time of day, in unix seconds.
        unknown_for: Seconds since the task was last known to be alive: it cannot have ended before.
    """
    ended = _end(task)
    estimate = unknown_for if ended is None else now + offset - _middle(ended)
    return min(max(estimate, 0.0), max(unknown_for, 0.0))


def _end(task: Task) -> float | None:
    times = task.timestamps
    last = Status.CANCEL if task.status == Status.CANCEL else Status.POSTPROCESS_END
    return times.get(last, times.get(Status.END))


def _middle(stamp: float) -> float:
    return stamp + HALF_A_SECOND if stamp.is_integer() else stamp
