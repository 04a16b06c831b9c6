"""One fold over everything that is learned of a task, into one list of transitions.

Looks may come late, twice and out of order. Whatever comes, the list only grows at its end, holds every
status once, never goes back, and ends with the first terminal status that was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import attrs

from wiro_async._models import TERMINAL, Task, Transition
from wiro_async._types import Status

__all__ = ["History", "fold"]

# A status may follow one of its own stage or of an earlier one. The assignment has no fixed place among the
# preparations: the service's older documents put it before, the newer ones after.
_STAGES: dict[str, int] = {
    Status.QUEUE: 0,
    Status.ACCEPT: 1,
    Status.PREPROCESS_START: 2,
    Status.PREPROCESS_END: 2,
    Status.ASSIGN: 2,
    Status.START: 3,
    Status.OUTPUT: 4,
    Status.OUTPUT_FULL: 5,
    Status.END: 6,
    Status.POSTPROCESS_START: 7,
    Status.POSTPROCESS_END: 8,
    Status.CANCEL: 8,
}
_RANKS: dict[str, int] = {status: rank for rank, status in enumerate(_STAGES)}


@attrs.frozen
class History:
    """What is known of one task.

    Attributes:
        task: The newest snapshot (None before the first look).
        transitions: Every status once, in order.
        asked: When the look that brought ``task`` was begun, on any clock that never goes back.
    """

    task: Task | None = None
    transitions: tuple[Transition, ...] = ()
    asked: float = float("-inf")

    @property
    def is_terminal(self) -> bool:
        """Whether the task's end has been seen."""
        return self.task is not None and self.task.is_terminal


def fold(history: History, task: Task, *, asked: float, now: float) -> History:
    """Add one snapshot to what is known.

    Args:
        history: What was known before.
        task: The snapshot.
        asked: When the look was begun, on the clock of ``History.asked``: of two snapshots the one asked
            for later is the newer, whichever arrives first.
        now: The time of day, in unix seconds, for a status whose beginning the service does not tell.

    Returns:
        What is known now; the same object if nothing is new, not even the time of asking.
    """
    if history.is_terminal:
        return _settle(history, task, asked)
    if asked < history.asked and not task.is_terminal:
        # What a late look saw came before what is known already, and cannot go there.
        return history
    transitions = (*history.transitions, *_news(history.transitions, task, now))
    latest = max(asked, history.asked)
    if transitions == history.transitions and task == history.task and latest == history.asked:
        return history
    return History(task, transitions, latest)


def _settle(history: History, task: Task, asked: float) -> History:
    """After the end only the same end's later details count, such as the final cost."""
    known = history.task
    if known is None or task.status != known.status or asked < history.asked or task == known:
        return history
    return attrs.evolve(history, task=task, asked=asked)


def _news(known: tuple[Transition, ...], task: Task, now: float) -> Iterator[Transition]:
    """Yield the transitions that *task* reveals, in order."""
    seen = {transition.status for transition in known}
    stage = max((_STAGES.get(status, 0) for status in seen), default=0)
    last = known[-1].at if known else None
    for status in (*_passed(task), task.status):
        if not status or status in seen or _STAGES.get(status, stage) < stage:
            continue
        if status == Status.PREPROCESS_START and Status.PREPROCESS_END in seen:
            continue
        seen.add(status)
        stage = _STAGES.get(status, stage)
        last = _beginning(status, task, now, last)
        yield Transition(status, last, observed=status == task.status)


def _passed(task: Task) -> list[str]:
    """Return the statuses before the present one whose beginning is on record."""
    limit = _STAGES.get(task.status, _STAGES[Status.POSTPROCESS_END])
    times = dict(task.timestamps)
    if {Status.PREPROCESS_START, Status.PREPROCESS_END} <= times.keys():
        times[Status.PREPROCESS_END] = max(times[Status.PREPROCESS_END], times[Status.PREPROCESS_START])
    passed = [status for status in times if _STAGES[status] <= limit and status not in TERMINAL]
    if task.status in _STAGES:
        # Within its stage, what began after the present status has not been reached: an outdated clock.
        passed = [status for status in passed if _precedes(status, task.status, times)]
    return sorted(passed, key=lambda status: (_STAGES[status], times[status], _RANKS[status]))


def _precedes(status: str, present: str, times: dict[str, float]) -> bool:
    if _STAGES[status] != _STAGES[present]:
        return True
    if present not in times:
        return False
    if status == Status.ASSIGN:
        # The assignment has no rank among the preparations, and within one second its record is all there is.
        return times[status] <= times[present]
    return (times[status], _RANKS[status]) < (times[present], _RANKS[present])


def _beginning(status: str, task: Task, now: float, last: datetime | None) -> datetime:
    """Return the service's time for *status*; without one, ours, cut to the service's whole seconds."""
    told = task.time_of(status)
    if told is not None:
        return told
    ours = datetime.fromtimestamp(int(now), UTC)
    return ours if last is None else max(ours, last)
