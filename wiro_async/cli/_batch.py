"""``wiro batch`` and ``wiro resume``: a file of jobs, each paid for once, and a journal to go on from."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import attrs

from wiro_async import (
    Batch,
    BatchPlan,
    BatchProgress,
    BatchReport,
    BatchStopped,
    Client,
    ConfigurationError,
    InvalidInput,
    Job,
    TaskTimeout,
)
from wiro_async.cli._batch_options import Memory, Options, in_options
from wiro_async.cli._batch_view import (
    REFRESHES_PER_SECOND,
    BatchView,
    outcome_record,
    plan_record,
    progress_record,
)
from wiro_async.cli._commands import check_folder
from wiro_async.cli._jobs_reader import JobsFile, JobsReader, find_jobs, given_jobs
from wiro_async.cli._journal_view import open_existing
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code, Session, without_warnings
from wiro_async.cli._text import clean, clock, usd

__all__ = ["batch", "resume"]

PROBLEMS_SHOWN = 20
REASONS_SHOWN = 5


# -- the two commands ----------------------------------------------------------------------------------------


def batch(name: str, journal: Path | None, options: Options, session: Session, *, dry_run: bool) -> int:
    """Run the jobs of a file.

    Args:
        name: The file; ``-`` is stdin.
        journal: The journal (None: beside the file).
        options: What was said.
        session: The command.
        dry_run: Whether only to check and to estimate.
    """
    if journal is None and name == "-":
        raise InvalidInput("jobs from stdin need a name for their journal; give --journal run.db")
    place = journal or Path(name).with_suffix(".journal.db")
    with given_jobs(name, options.format) as jobs:
        return session.perform(BatchCommand(session, place, jobs, options.settled(), dry_run=dry_run))


def resume(journal: Path, jobs: str | None, options: Options, session: Session) -> int:
    """Take up a batch from its journal.

    Args:
        journal: The journal.
        jobs: The job file to go on with (None: the one that the journal remembers).
        options: What was said; it counts for more than what the journal remembers.
        session: The command.
    """
    memory = asyncio.run(_remembered(journal))
    options = options.settled().over(memory.options.said)
    if jobs is not None:
        with given_jobs(jobs, options.format) as given:
            return session.perform(BatchCommand(session, journal, given, options, memory))
    known = _jobs_of_memory(memory, options, session.report)
    return session.perform(BatchCommand(session, journal, known, options, memory))


async def _remembered(path: Path) -> Memory:
    async with open_existing(path) as journal:
        return Memory.read(await journal.memo())


def _jobs_of_memory(memory: Memory, options: Options, report: Report) -> JobsFile | None:
    """Return the job file that the journal remembers, if it is as it was."""
    if not memory.jobs:
        report.problem("only the journal's own jobs are resumed; --jobs FILE adds those of a file")
        return None
    try:
        found = find_jobs(Path(memory.jobs), options.format)
        problem = "" if found.sha256 == memory.sha256 else f"{memory.jobs} has changed since"
    except InvalidInput as error:
        found, problem = None, error.message
    if not problem:
        return found
    report.problem(f"{problem}; only the journal's own jobs are resumed; --jobs FILE adds those of a file")
    return None


# -- the work ------------------------------------------------------------------------------------------------


@attrs.frozen
class BatchCommand:
    """Checks the jobs of a file, then makes them.

    Args:
        session: The command.
        journal: The journal's path.
        jobs: The file (None: only what the journal has).
        options: What was said, or remembered.
        before: What the journal remembers, if it is resumed.
        dry_run: Whether only to check and to estimate.
    """

    session: Session
    journal: Path
    jobs: JobsFile | None
    options: Options
    before: Memory = attrs.field(factory=Memory)
    dry_run: bool = attrs.field(default=False, kw_only=True)

    async def __call__(self, client: Client) -> int:
        """Do it."""
        report = self.session.report
        self._check_service(client)
        with closing(self._reader()) as reader, without_warnings("wiro_async.checks"):
            plan = await self._batch(client, reader).plan(on_invalid=reader.reject, unique=True)
        # The reader knows of the rows, too, that hold no job.
        plan = attrs.evolve(plan, invalid=tuple(reader.invalid), invalid_jobs=reader.invalid_jobs)
        _say_plan(report, plan, self.options.max_cost)
        report.record(plan_record(plan, str(self.journal)))
        if plan.invalid_jobs and not self.options.skip_invalid:
            invalid, them = _jobs(plan.invalid_jobs), "it" if plan.invalid_jobs == 1 else "them"
            report.problem(f"{invalid} cannot be sent, so nothing was; fix {them}, or give --skip-invalid")
            return Code.USAGE
        if self.jobs is not None and not reader.bad and not plan.taken_up:
            report.problem(f"{self.jobs.name} holds no job; write one a line, in a CSV file below its header")
            return Code.USAGE
        if self.dry_run:
            if plan.price_sources:
                report.say(f"prices: {'; '.join(plan.price_sources[:REASONS_SHOWN])}")
            return Code.OK
        if self.options.download is not None:
            await check_folder(_folder_of(self.options.download))
        report.say(f"journal {self.journal}")
        return await self._perform(client, plan, reader.bad)

    def _check_service(self, client: Client) -> None:
        """Refuse a journal of another service: its tasks would all seem to be lost."""
        expected = self.before.base_url
        # An address that was given is meant; the environment's may be that of another day.
        if expected not in ("", client.base_url) and self.session.base_url is None:
            raise ConfigurationError(
                f"the journal's tasks are at {expected}, and this would ask {client.base_url}; "
                f"give --base-url {expected}, or the other one if they moved"
            )

    def _reader(self, bad: bytearray | None = None) -> JobsReader:
        return JobsReader(self.jobs, self.options.key, needs_model=self.options.model is None, bad=bad)

    def _batch(self, client: Client, jobs: AsyncIterator[Job], **more: Any) -> Batch:
        try:
            return client.batch(jobs, journal=self.journal, **self.options.arguments(), **more)
        except ConfigurationError as error:
            raise ConfigurationError(in_options(error.message)) from None

    async def _perform(self, client: Client, plan: BatchPlan, bad: bytearray) -> int:
        """Read the jobs again, and make them."""
        view = BatchView(self.session.report, self.options.max_cost)
        total = plan.jobs + plan.duplicates + plan.failed_before + plan.taken_up
        memo = self.before.after(self.options, self.jobs, client.base_url).record()
        last_words = f"\nwiro: exited at once; nothing is lost: {self._way_on()}\n"
        with (
            closing(self._reader(bad)) as jobs,
            without_warnings("wiro_async.batch", "wiro_async.checks"),
            _signals(last_words, self.session.report) as signals,
        ):
            async with self._batch(client, jobs, total=total, memo=memo) as batch:
                late = await _follow(batch, view, signals)
            if signals.came:
                return await self._interrupted()
        return self._concluded(batch.report, plan.failed, late)

    def _resume(self, *options: str) -> str:
        return self.session.command("resume", str(self.journal), *options)

    def _way_on(self, *options: str) -> str:
        return f"{self._resume(*options)} goes on"

    async def _interrupted(self) -> int:
        async with open_existing(self.journal) as journal:
            counts = (await journal.counts()).jobs
        left = counts["running"] + counts["intended"]
        report = self.session.report
        report.record({"type": "interrupted", "journal": str(self.journal), "running": left, "task_ids": []})
        way_on = f"resumes {'it' if left == 1 else 'them'}" if left else "runs the remaining jobs"
        report.problem(f"interrupted; {_go_on(left)}; {self._resume()} {way_on}")
        return Code.INTERRUPTED

    def _concluded(self, ended: BatchReport, failed_before: int, late: int) -> int:
        report, progress = self.session.report, ended.progress
        report.record(
            {
                **progress_record(progress),
                "type": "batch",
                "complete": ended.complete,
                "stopped": None if ended.stopped is None else ended.stopped.reason,
                "failures": [{"reason": each.reason, "jobs": each.jobs} for each in ended.failures],
                "journal": ended.journal,
            }
        )
        _say_end(report, ended, late)
        if late:
            report.problem(f"{_go_on(late)}; {self._resume()} waits again")
        if ended.stopped is not None:
            report.problem(self._why_stopped(ended.stopped, progress))
            return Code.STOPPED
        if progress.unknown:
            runs, they = ("1 run", "it") if progress.unknown == 1 else (f"{progress.unknown} runs", "they")
            report.problem(
                f"the outcome of {runs} is unknown, and {they} may be billed: {self._resume()} looks again"
            )
        return Code.OK if ended.complete and not failed_before else Code.TASK_FAILED

    def _why_stopped(self, stopped: BatchStopped, progress: BatchProgress) -> str:
        if stopped.reason != "max_cost":
            return f"{in_options(stopped.message)}; {self._way_on()}"
        limit = usd(Decimal(self.options.max_cost or 0))
        begun = "" if progress.total is None else f"; {progress.begun} of {_jobs(progress.total)} were begun"
        return (
            f"the batch makes no more runs: --max-cost {limit} is spent, or too little is left for another "
            f"run{begun}; {self._way_on('--max-cost', 'MORE')}"
        )


def _folder_of(template: str) -> Path:
    """Return the part of a template that is the same for all outputs."""
    fixed, brace, _ = template.replace("{{", "\0").replace("}}", "\1").partition("{")
    if brace:
        fixed = fixed.rpartition(os.sep)[0]
    return Path(fixed.replace("\0", "{").replace("\1", "}"))


async def _follow(batch: Batch, view: BatchView, signals: _Signals) -> int:
    """Tell of the batch until it ends, or until a signal comes.

    Returns:
        How many jobs were given up while their tasks go on.
    """
    late = 0

    async def tick() -> None:
        while True:
            view.progress(progress_record(batch.progress))
            await asyncio.sleep(1 / REFRESHES_PER_SECOND)

    with view.shown(), anyio.CancelScope() as scope:
        signals.begin(scope.cancel)
        ticker = asyncio.create_task(tick())
        try:
            async for outcome in batch:
                view.outcome(outcome_record(outcome))
                late += isinstance(outcome.error, TaskTimeout)
        finally:
            ticker.cancel()
        view.progress(progress_record(batch.progress))
    return late


# -- signals -------------------------------------------------------------------------------------------------


class _Signals:
    """The first signal ends the batch in order, the second one at once."""

    def __init__(self) -> None:
        self.came: bool = False
        self._on_first: Callable[[], object] | None = None

    def begin(self, on_first: Callable[[], object]) -> None:
        """Have something called once the first signal comes, or now if it came already."""
        self._on_first = on_first
        if self.came:
            on_first()

    def tell(self) -> None:
        """Tell of the first signal, on the event loop."""
        if self._on_first is not None:
            self._on_first()


@contextmanager
def _signals(last_words: str, report: Report) -> Iterator[_Signals]:
    """Handle SIGINT, SIGTERM and SIGHUP for the length of the block; those that are ignored stay so."""
    signals, loop = _Signals(), asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if signals.came:
            _leave(last_words, report)
        signals.came = True
        loop.call_soon_threadsafe(signals.tell)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(last_words: str, report: Report) -> None:
    """End this process now. Whatever it was doing, the journal is as after a power cut: whole."""
    with suppress(OSError):
        if report.is_live:
            os.write(sys.stdout.fileno(), b"\x1b[?25h")  # the live view hides the cursor
        os.write(sys.stderr.fileno(), last_words.encode("utf-8", "replace"))
    os._exit(Code.INTERRUPTED)


# -- words ---------------------------------------------------------------------------------------------------


def _say_plan(report: Report, plan: BatchPlan, max_cost: str | None) -> None:
    """Say what is wrong with the jobs, and what is going to happen to the others."""
    for invalid in plan.invalid[:PROBLEMS_SHOWN]:
        report.problem(f"{invalid.where}: {invalid.reason}")
    if plan.invalid_jobs > PROBLEMS_SHOWN:
        report.problem(f"… and {plan.invalid_jobs - PROBLEMS_SHOWN} more")
    for note in plan.notes[:PROBLEMS_SHOWN]:
        report.problem(f"note: {note}")
    parts = [f"{_jobs(plan.jobs)} to run"]
    for count, words in (
        (plan.taken_up, "to resume"),
        (plan.ended, "ended before"),
        (plan.invalid_jobs, "invalid"),
    ):
        if count:
            parts.append(f"{count} {words}")
    report.say(", ".join(parts), "bold")
    if plan.jobs:
        cost = "an unknown cost" if plan.estimated_cost is None else usd(plan.estimated_cost)
        unpriced = f" ({_jobs(plan.unpriced)} without a known price)" if plan.unpriced else ""
        seconds = plan.estimated_seconds
        duration = "an unknown time" if seconds is None else f"{clock(seconds)} or more"
        report.say(f"about {cost}{unpriced}, {duration}")
    if max_cost is not None and plan.estimated_cost:
        left = max(Decimal(max_cost) - plan.spent, Decimal(0))
        affordable = int(left * (plan.jobs - plan.unpriced) / plan.estimated_cost)
        if affordable < plan.jobs:
            spent = f", {usd(plan.spent)} of it are spent" if plan.spent else ""
            limit = usd(Decimal(max_cost))
            report.say(f"max-cost {limit} covers about {affordable} of {plan.jobs}{spent}")
    if plan.failed:
        report.say(f"{_jobs(plan.failed)} failed before; --retry-failed N runs such jobs again, N times each")


def _go_on(count: int) -> str:
    return f"{count} tasks go on" if count > 1 else f"{'1' if count else 'no'} task goes on"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _say_end(report: Report, ended: BatchReport, late: int) -> None:
    """Say what came of all jobs. The library counts those that are late, whose tasks go on, as failed."""
    progress = ended.progress
    names = ("succeeded", "failed", "cancelled", "unknown", "not_started", "skipped", "failed_before")
    figures = {name.replace("_", " "): getattr(progress, name) for name in names}
    figures["failed"] -= late
    figures["still running"] = late
    counts = [f"{count} {name}" for name, count in figures.items() if count]
    report.say(
        f"{', '.join(counts) or 'no jobs'}; {usd(progress.spent)} in all; {clock(progress.elapsed)}", "bold"
    )
    failures = [failure for failure in ended.failures if failure.error != TaskTimeout.__name__]
    for failure in failures[:REASONS_SHOWN]:
        report.say(f"  {failure.jobs} × {clean(failure.reason)}", "red")
