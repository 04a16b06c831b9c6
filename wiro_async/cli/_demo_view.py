"""What a viewer is told at the end of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from wiro_async.cli._demo_plan import Books, Job
from wiro_async.cli._report import Report
from wiro_async.cli._text import clean, clock, megabytes, usd

__all__ = ["say_summary"]

_NEXT = (
    "Next, open the clips. Then try a picture of yours: wiro demo photo.jpg",
    "(wiro is in the bin folder of the environment: .venv/bin/wiro after make demo.)",
    "With an account of yours (this costs money):",
    "  export WIRO_API_KEY=... WIRO_API_SECRET=...",
    "  wiro run MiniMax/image-to-video-01-director -i inputImageFirstUrl=@photo.jpg \\",
    '      -i prompt="[Zoom in] waves roll in" --download clips',
    "or many at a time, from a table with the columns prompt and inputImageFirstUrl:",
    "  wiro batch jobs.csv --model MiniMax/image-to-video-01-director --download clips --max-cost 5",
)


def say_summary(report: Report, jobs: Sequence[Job], folder: Path, books: Books) -> None:
    """Say what came of it, what it cost, and what to do next."""
    for job in jobs:
        report.show(_result_line(job), soft_wrap=True)
    clips = sum(job.clip is not None for job in jobs)
    theirs = "agree" if books.bill == books.charged else f"say {usd(books.charged)}"
    twice = "nothing was paid for twice" if books.agree(jobs) else "the books do not agree"
    report.say()
    report.say(f"{clips} clips of 6 s are in {folder}/", "bold")
    report.say(f"The batch was killed once, and {twice}: {books.runs} runs for {len(jobs)} jobs,")
    report.say(
        f"{books.paid} of them paid. Bill: {usd(books.bill)} of play money; the sandbox's books {theirs}."
    )
    report.say("The failed job cost nothing, and no charge is recorded for the cancelled one.")
    report.say(f"{books.requests} requests in {clock(books.seconds)}, none of which left this machine.")
    report.say()
    for line in _NEXT:
        report.say(line)


def _result_line(job: Job) -> Text:
    line = Text("✓ " if job.as_planned else "✗ ", "green" if job.as_planned else "bold red")
    if job.clip is not None:
        name = Path(job.clip.path).name
        told = f"{clean(name):<36} {megabytes(job.clip.size):>8}  {job.label:<12} {usd(job.cost)}"
        return line.append(told, "default")
    what = f"{clean(job.image.name)}, {job.model}"
    if job.as_planned:
        ended = "failed" if job.purpose == "failure" else "was cancelled"
        return line.append(f"{what}: {ended}, on purpose", "default")
    return line.append(f"{what}: {clean(job.trouble)}", "default")
