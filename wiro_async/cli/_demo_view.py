"""What a viewer sees of the demo: all jobs side by side, and a summary at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wiro_async.cli._demo_plan import STAGES, Books, Job
from wiro_async.cli._live import REFRESHES_PER_SECOND
from wiro_async.cli._report import Report
from wiro_async.cli._text import clean, clipped, clock, megabytes, plain_status, usd

__all__ = ["DemoView", "say_summary"]

_WIDTHS = {"model": 8, "camera": 16, "stages": len(STAGES), "status": 17, "time": 6}
"""Columns of everything but the image's name, which gets the rest."""
_CHROME = 4
"""Lines that everything but the jobs takes."""


class DemoView:
    """Shows jobs while they run: a table that is redrawn on a terminal, else a line per change.

    Args:
        report: Where to.
        jobs: What to show.
    """

    def __init__(self, report: Report, jobs: Sequence[Job]) -> None:
        self._report: Report = report
        self._jobs: Sequence[Job] = jobs
        self._began: float = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the table on the screen, where it can be redrawn; it goes when the block is left."""
        if not self._report.is_live:
            yield
            return
        with Live(
            self, console=self._report.console, refresh_per_second=REFRESHES_PER_SECOND, transient=True
        ):
            yield

    def changed(self, job: Job) -> None:
        """Take note of a job's new status."""
        if not self._report.is_live:
            passed = clock(time.monotonic() - self._began)
            what = f"{job.image.name}, {job.model}, {job.label}"
            self._report.say(f"{passed:>8}  {clean(what):<44}  {_state(job).plain}")

    def __rich__(self) -> Group:
        console = self._report.console
        visible = _most_telling(self._jobs, max(3, console.height - _CHROME))
        width = max(8, min(30, console.width - sum(_WIDTHS.values()) - len(_WIDTHS)))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        # Fixed widths: columns that follow their contents would jump about.
        for name, columns in {"image": width, **_WIDTHS}.items():
            table.add_column(name, width=columns, no_wrap=True, justify="right" if name == "time" else "left")
        for job in visible:
            table.add_row(
                Text(clipped(job.image.name, width)),
                job.model,
                Text(job.label, "" if job.purpose == "clip" else "dim"),
                _bar(job),
                _state(job),
                _time(job),
            )
        done = sum(job.ended is not None for job in self._jobs)
        hidden = len(self._jobs) - len(visible)
        more = f", {hidden} more not shown" if hidden else ""
        passed = clock(time.monotonic() - self._began)
        return Group(table, Text(f"{done} of {len(self._jobs)} jobs done{more}, {passed}", "dim"))


def _most_telling(jobs: Sequence[Job], room: int) -> list[Job]:
    """Choose the jobs that fit: those that run, then those that ended last, then those that wait."""
    if len(jobs) <= room:
        return list(jobs)

    def rank(job: Job) -> tuple[int, float]:
        if job.began is None:
            return 2, 0.0
        return (0, 0.0) if job.ended is None else (1, -job.ended)

    chosen = {id(job) for job in sorted(jobs, key=rank)[:room]}
    return [job for job in jobs if id(job) in chosen]


def _bar(job: Job) -> Text:
    """One cell for each of the known stages."""
    bar = Text("━" * job.reached, "green" if job.as_planned and job.ended else "cyan")
    return bar.append("─" * (len(STAGES) - job.reached), "dim")


def _state(job: Job) -> Text:
    if job.ended is None:
        return Text(plain_status(job.status) if job.status else "waiting")
    if not job.as_planned:
        return Text("went wrong", "bold red")
    words = {"clip": "✓ saved", "failure": "✓ failed", "cancellation": "✓ cancelled"}
    return Text(words[job.purpose], "green")


def _time(job: Job) -> str:
    if job.began is None:
        return ""
    return clock((job.ended or time.monotonic()) - job.began)


def say_summary(report: Report, jobs: Sequence[Job], folder: Path, books: Books) -> None:
    """Say what came of it, what it cost, and what to do next."""
    width = max(len(job.file_name) for job in jobs)
    for job in jobs:
        report.show(_result_line(job, width), soft_wrap=True)
    clips = [job for job in jobs if job.saved is not None]
    theirs = "say so, too" if books.agree else f"say {usd(books.charged)}"
    report.say()
    report.say(f"{len(clips)} clips of 6 s are in {folder}/", "bold")
    report.say(f"Bill: {usd(books.bill)} of play money; the sandbox's books {theirs}.")
    report.say("The failed and the cancelled job cost nothing.")
    report.say(f"{books.requests} requests in {clock(books.seconds)}, none of which left this machine.")
    report.say()
    for line in _NEXT:
        report.say(line)


_NEXT = (
    "Next, open the clips. Then try a picture of yours: wiro demo photo.jpg",
    "(wiro is in the bin folder of the environment: .venv/bin/wiro after make demo.)",
    "With an account of yours (this costs money):",
    "  export WIRO_API_KEY=... WIRO_API_SECRET=...",
    "  wiro run MiniMax/image-to-video-01-director -i inputImageFirstUrl=@photo.jpg \\",
    '      -i prompt="[Zoom in] waves roll in" --download clips',
)


def _result_line(job: Job, width: int) -> Text:
    line = Text("✓ " if job.as_planned else "✗ ", "green" if job.as_planned else "bold red")
    if job.saved is not None:
        return line.append(
            f"{job.saved.name:<{width}} {megabytes(job.size):>8}  {job.label:<12} {usd(job.cost)}", "default"
        )
    what = f"{clean(job.image.name)}, {job.model}"
    if job.as_planned:
        ended = "failed" if job.purpose == "failure" else "was cancelled"
        return line.append(f"{what}: {ended}, on purpose", "default")
    return line.append(f"{what}: {clean(job.trouble)}", "default")
