"""One fold over everything that is learned of a task, into one list of transitions.

Polls and announcements may come late, twice and out of order. Whatever comes, the list only grows at its end,
holds every status once, never goes back, and ends with the first terminal status that a poll has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from wiro_async._protocol.records import TERMINAL, Task, Transition, status_of
from wiro_async._types import Status

__all__ = ["History", "fold", "hear"]

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


Step: TypeAlias = tuple[str, datetime, bool]
"""A transition as it is kept: of plain values only, which the garbage collector need not visit."""


class History(NamedTuple):
    """What is known of one task.

    Attributes:
        task: The newest snapshot (None before the first poll).
        steps: Every status once, in order: its wire name, when it began, whether it was observed.
        asked: When the poll that brought ``task`` was begun, on any clock that never goes back.
        heard: A status that was announced since then ("" for none).
        heard_at: When that was, on the same clock.
    """

    task: Task | None = None
    steps: tuple[Step, ...] = ()
    asked: float = float("-inf")
    heard: str = ""
    heard_at: float = float("-inf")

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Every status once, in order."""
        return tuple(Transition(status_of(status), at, observed) for status, at, observed in self.steps)

    @property
    def status(self) -> str | None:
        """The newest status (None: nothing is known yet)."""
        return self.heard or (self.task.status if self.task is not None else None)

    @property
    def is_terminal(self) -> bool:
        """Whether the task's end has been seen."""
        return self.task is not None and self.task.is_terminal


def fold(history: History, task: Task, *, asked: float, now: float) -> History:
    """Add one snapshot to what is known.

    Args:
        history: What was known before.
        task: The snapshot.
        asked: When the poll was begun, on the clock of ``History.asked``: of two snapshots the one asked
            for later is the newer, whichever arrives first.
        now: The time of day, in unix seconds, for a status whose beginning the service does not tell.

    Returns:
        What is known now; the same object if nothing is new, not even the time of asking.
    """
    if history.is_terminal:
        return _settle(history, task, asked)
    if asked < history.asked and not task.is_terminal:
        # What a late poll saw came before what is known already, and cannot go there.
        return history
    steps = history.steps
    if history.task is not None and (task is history.task or task == history.task):
        # Most polls find what the last one found. Of equal snapshots the old one costs no memory.
        task = history.task
    else:
        steps += tuple(_news(steps, _passed(task), task.status, task, now))
    latest = max(asked, history.asked)
    # Polls and announcements come by different ways: an old poll does not take back a newer announcement.
    heard = history.heard if asked < history.heard_at and not task.is_terminal else ""
    seen = History(task, steps, latest, heard, history.heard_at)
    return seen if latest > history.asked or seen != history else history


def hear(history: History, status: str, *, at: float, now: float) -> History:
    """Add a status that was announced, without a snapshot.

    Args:
        history: What was known before.
        status: The status. A terminal one changes nothing: it is the snapshot that tells how a task ended,
            and so it is the snapshot that ends the list.
        at: When it was announced, on the clock of ``History.asked``.
        now: The time of day, in unix seconds.

    Returns:
        What is known now; the same object if that is nothing new.
    """
    if history.is_terminal or status in TERMINAL or status not in _STAGES:
        return history
    news = tuple(_news(history.steps, (), status, None, now))
    if not news:
        return history
    return history._replace(steps=(*history.steps, *news), heard=status, heard_at=at)


def _settle(history: History, task: Task, asked: float) -> History:
    """After the end only the same end's later details count, such as the final cost."""
    known = history.task
    if known is None or task.status != known.status or asked < history.asked:
        return history
    settled = history._replace(task=known if task == known else task, asked=asked)
    return settled if settled != history else history


def _news(
    known: tuple[Step, ...], passed: Iterable[str], present: str, task: Task | None, now: float
) -> Iterator[Step]:
    """Yield the steps to *present*, by way of those that have passed, in order."""
    seen = {status for status, _, _ in known}
    present = present.value if isinstance(present, Status) else present
    stage = max((_STAGES.get(status, 0) for status in seen), default=0)
    last = known[-1][1] if known else None
    for status in (*passed, present):
        if not status or status in seen or _STAGES.get(status, stage) < stage:
            continue
        if status == Status.PREPROCESS_START and Status.PREPROCESS_END in seen:
            continue
        seen.add(status)
        stage = _STAGES.get(status, stage)
        last = _beginning(status, task, now, last)
        yield status, last, status == present


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


def _beginning(status: str, task: Task | None, now: float, last: datetime | None) -> datetime:
    """Return the service's time for *status*; without one, ours, cut to the service's whole seconds.

    It is never before *last*: either clock may have been set back, and ours may be ahead of the service's.
    """
    told = None if task is None else task.time_of(status)
    began = datetime.fromtimestamp(int(now), UTC) if told is None else told
    return began if last is None else max(began, last)
