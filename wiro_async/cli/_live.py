"""The status of one task: a line that is redrawn on a terminal, and one line per transition everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from wiro_async import LogLine, TaskEvent, TaskProgress, Transition
from wiro_async.cli._records import line_record, progress_record, transition_record
from wiro_async.cli._report import Report
from wiro_async.cli._text import clean, clipped, clock

__all__ = ["StatusLine", "status_line"]

REFRESHES_PER_SECOND = 8

LINES_SHOWN = 5
LINE_LENGTH = 200
"""How much of what a task writes is shown: the whole of it is in ``debug_output``, and with ``--json``."""


class StatusLine:
    """What is known of the task that a command waits for.

    Args:
        report: Where transitions are written.
        doing: What the command does until the first transition is known.
    """

    def __init__(self, report: Report, doing: str) -> None:
        self._report: Report = report
        self._doing: str = doing
        self._began: float = time.monotonic()
        self._first: Transition | None = None
        self._spinner: Spinner = Spinner("dots")

    def __rich__(self) -> Spinner:
        waited = clock(time.monotonic() - self._began)
        self._spinner.update(text=Text(f"{waited}  {self._doing}", no_wrap=True, overflow="ellipsis"))
        return self._spinner

    def doing(self, what: str) -> None:
        """Say what the command does now."""
        self._doing = clean(what)

    def add(self, task_id: str | None, event: TaskEvent) -> None:
        """Write what is told of the task: statuses on lines of their own, progress in the line at the end."""
        if isinstance(event, Transition):
            self._add_transition(task_id, event)
        elif isinstance(event, TaskProgress):
            self._report.record(progress_record(task_id, event))
            self.doing(_told(event))
        else:
            self._add_line(task_id, event)

    def _add_line(self, task_id: str | None, line: LogLine) -> None:
        self._report.record(line_record(task_id, line))
        for text in line.text.splitlines()[:LINES_SHOWN]:
            self._report.say(f"{'':>8}  {clipped(text, LINE_LENGTH)}", "dim italic")

    def _add_transition(self, task_id: str | None, transition: Transition) -> None:
        """Write one transition, with its time since the first."""
        self._first = self._first or transition
        after = (transition.at - self._first.at).total_seconds()
        self._report.record(transition_record(task_id, transition))
        self._report.say(f"{clock(max(after, 0.0)):>8}  {transition.status}", "dim")
        self.doing(transition.status)


@contextmanager
def status_line(report: Report, doing: str) -> Iterator[StatusLine]:
    """Keep a status line below what is printed meanwhile, where lines can be redrawn."""
    line = StatusLine(report, doing)
    if not report.is_live:
        yield line
        return
    with Live(line, console=report.console, refresh_per_second=REFRESHES_PER_SECOND, transient=True):
        yield line


def _told(progress: TaskProgress) -> str:
    """Say how far a task is: ``Generate 60 %, step 6 of 10, 3s left``."""
    parts = []
    if progress.percentage is not None:
        parts.append(f"{progress.percentage:.0f} %")
    if progress.step is not None and progress.steps is not None:
        parts.append(f"step {progress.step} of {progress.steps}")
    if progress.speed is not None:
        parts.append(f"{progress.speed:g} {progress.speed_unit}".rstrip())
    if progress.remaining:
        parts.append(f"{progress.remaining} left")
    return " ".join(part for part in (progress.task, ", ".join(parts)) if part)
