"""``wiro batch`` and ``wiro resume``: a file of jobs, each paid for once, and a journal to go on from."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import attrs

from wiro_async._batch.batch import Batch, BatchReport, Settings
from wiro_async._batch.plan import BatchPlan, InvalidJob
from wiro_async._batch.planning import Planning, open_known
from wiro_async._batch.source import CHANGED
from wiro_async._batch.stopping import reason_key, reason_of
from wiro_async._client import Client
from wiro_async._errors import BatchStopped, ConfigurationError, InvalidInput
from wiro_async._jobs.job import Job
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import Learned
from wiro_async._protocol.catalogue import FILE_RULE, undocumented
from wiro_async._tasks.handle import TaskTimeout
from wiro_async._types import JSON
from wiro_async.cli._batch_options import MEMORY, Memory, Options, in_options
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
from wiro_async.cli._session import Code, Session
from wiro_async.cli._text import clean, clock, usd

__all__ = ["batch", "resume"]

PROBLEMS_SHOWN = 20
REASONS_SHOWN = 5
NOTES_KEPT = 100


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
    place = journal or _journal_of(name)
    with given_jobs(name, options.format) as jobs:
        return session.perform(BatchCommand(session, place, jobs, options.settled(), dry_run=dry_run))


def _journal_of(name: str) -> Path:
    if name == "-":
        raise InvalidInput("jobs from stdin need a name for their journal; give --journal run.db")
    return Path(name).with_suffix(".journal.db")


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
    async with await open_existing(path) as journal:
        return Memory.read(await journal.load_stats(MEMORY))


def _jobs_of_memory(memory: Memory, options: Options, report: Report) -> JobsFile | None:
    """Return the job file that the journal remembers, if it is as it was."""
    if not memory.jobs:
        report.problem("only what the journal knows is taken up; --jobs FILE adds the jobs of a file")
        return None
    try:
        found = find_jobs(Path(memory.jobs), options.format)
        problem = "" if found.sha256 == memory.sha256 else f"{memory.jobs} has changed since"
    except InvalidInput as error:
        found, problem = None, error.message
    if not problem:
        return found
    report.problem(f"{problem}; only what the journal knows is taken up; --jobs FILE adds the jobs of a file")
    return None


# -- the work ------------------------------------------------------------------------------------------------


@attrs.frozen
class _Survey:
    """What the first reading has shown.

    Attributes:
        plan: The sums.
        taken_up: Jobs of the journal that have had a Run.
        ended: Jobs of the file that have ended before.
        failed: Jobs of the journal that came to nothing, and are not run again.
        bad: A byte for each row; 1 where it cannot be sent.
        max_cost: USD that the journal's runs may cost in all (None: no limit).
        spent: USD that they have cost.
        notes: What looks like a mistake, and is none for certain.
    """

    plan: BatchPlan
    taken_up: int
    ended: int
    failed: int
    bad: bytearray
    max_cost: Decimal | None
    spent: Decimal
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many jobs the batch is going to read."""
        return self.plan.jobs + self.plan.duplicates + self.plan.failed_before + self.taken_up

    @property
    def affordable(self) -> int | None:
        """About how many jobs max-cost still covers (None: all of them, or it cannot be told)."""
        plan = self.plan
        if self.max_cost is None or not plan.estimated_cost:
            return None
        left = max(self.max_cost - self.spent, Decimal(0))
        count = int(left * (plan.jobs - plan.unpriced) / plan.estimated_cost)
        return count if count < plan.jobs else None

    def record(self, journal: Path) -> JSON:
        """Return it for programs."""
        return plan_record(
            self.plan,
            taken_up=self.taken_up,
            ended=self.ended,
            failed=self.failed,
            notes=self.notes,
            journal=str(journal),
        )


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
        arguments = self.options.arguments()
        survey = await self._survey(client, arguments)
        plan = survey.plan
        _say_plan(report, survey)
        report.record(survey.record(self.journal))
        if plan.invalid_jobs and not self.options.skip_invalid:
            invalid, them = _jobs(plan.invalid_jobs), "it" if plan.invalid_jobs == 1 else "them"
            report.problem(f"{invalid} cannot be sent, and nothing was; mend {them}, or give --skip-invalid")
            return Code.USAGE
        if self.jobs is not None and not survey.bad and not survey.taken_up:
            report.problem(f"{self.jobs.name} holds no job; write one a line, in a CSV file below its header")
            return Code.USAGE
        if self.dry_run:
            return Code.OK
        if self.options.download is not None:
            await check_folder(_folder_of(self.options.download))
        await self._remember(client)
        report.say(f"journal {self.journal}")
        return await self._perform(client, arguments, survey)

    def _check_service(self, client: Client) -> None:
        """Refuse a journal of another service: its tasks would all seem to be lost."""
        expected, base_url = self.before.base_url, client._config.base_url
        # An address that was given is meant; the environment's may be that of another day.
        if expected not in ("", base_url) and self.session.base_url is None:
            raise ConfigurationError(
                f"the journal's tasks are at {expected}, and this would ask {base_url}; "
                f"give --base-url {expected}, or the other one if they moved"
            )

    async def _remember(self, client: Client) -> None:
        memory = self.before.after(self.options, self.jobs, client._config.base_url)
        async with await SQLiteJournal.open(self.journal) as journal:
            await journal.record(Learned(MEMORY, memory.record()))

    # -- the first reading -------------------------------------------------------------------------------

    async def _survey(self, client: Client, arguments: dict[str, Any]) -> _Survey:
        """Read and check everything, before anything is paid for."""
        bad, spent = bytearray(), Decimal(0)
        notes: dict[tuple[str, str], str] = {}
        settings = self._settings(client, arguments)
        async with AsyncExitStack() as stack:
            journal = await open_known(self.journal)
            if journal is not None:
                stack.push_async_callback(journal.aclose)
                spent = (await journal.counts()).cost
            reader = stack.enter_context(closing(self._reader(bad)))
            planning = Planning(
                client,
                settings,
                journal,
                where=lambda: reader.place,
                on_invalid=reader.reject,
                unique=True,
            )
            reader.on_problem = planning.reject
            jobs = _noted(reader, planning, self.options.model or "", notes)
            plan = await planning.plan(await stack.enter_async_context(aclosing(jobs)))
        plan = attrs.evolve(plan, invalid=tuple(map(_in_words_of_files, plan.invalid)))
        told = tuple(
            f"{where}: {name!r} is not listed among the inputs of {slug}, and is sent all the same"
            for (slug, name), where in notes.items()
        )
        if planning.changed:
            told = (CHANGED % planning.changed, *told)
        counts = (planning.taken_up, planning.ended, planning.failed)
        return _Survey(plan, *counts, bad, settings.max_cost, spent, told)

    def _reader(self, bad: bytearray) -> JobsReader:
        return JobsReader(self.jobs, self.options.key, bad, needs_model=self.options.model is None)

    def _settings(self, client: Client, arguments: dict[str, Any]) -> Settings:
        try:
            return client.batch(**arguments)._settings
        except ConfigurationError as error:
            raise ConfigurationError(in_options(error.message)) from None

    # -- the second reading ------------------------------------------------------------------------------

    async def _perform(self, client: Client, arguments: dict[str, Any], survey: _Survey) -> int:
        view = BatchView(self.session.report, self.options.max_cost)
        last_words = f"\nwiro: left at once; nothing is lost: {self._way_on()}\n"
        with (
            closing(self._reader(survey.bad)) as jobs,
            _quiet_about_stops(),
            _signals(last_words, self.session.report) as signals,
        ):
            batch = client.batch(jobs, journal=self.journal, total=survey.total, **arguments)
            async with batch:
                late, unmade = await _follow(batch, view, signals)
            if signals.came:
                return await self._interrupted()
        return self._concluded(batch.report, survey.failed, late, unmade)

    def _resume(self, *options: str) -> str:
        return self.session.command("resume", str(self.journal), *options)

    def _way_on(self, *options: str) -> str:
        return f"{self._resume(*options)} goes on"

    async def _interrupted(self) -> int:
        async with await SQLiteJournal.open(self.journal, create=False) as journal:
            counts = (await journal.counts()).jobs
        left = counts["running"] + counts["intended"]
        report = self.session.report
        report.record({"type": "interrupted", "journal": str(self.journal), "running": left, "task_ids": []})
        way_on = f"takes {'it' if left == 1 else 'them'} up" if left else "makes the jobs that had no run"
        report.problem(f"interrupted; {_go_on(left)}; {self._resume()} {way_on}")
        return Code.INTERRUPTED

    def _concluded(self, ended: BatchReport, failed_before: int, late: Sequence[str], unmade: int) -> int:
        report, progress = self.session.report, ended.progress
        standing = progress_record(progress)
        report.record(
            {
                **standing,
                "type": "batch",
                "complete": ended.complete,
                "stopped": None if ended.stopped is None else ended.stopped.reason,
                "failures": [{"reason": reason, "jobs": jobs} for reason, jobs in ended.failures],
                "journal": ended.journal,
            }
        )
        _say_end(report, ended, late, unmade)
        if late:
            report.problem(f"{_go_on(len(late))}; {self._resume()} waits again")
        if ended.stopped is not None:
            report.problem(self._why_stopped(ended.stopped))
            return Code.STOPPED
        if progress.unknown:
            runs = "1 run; it" if progress.unknown == 1 else f"{progress.unknown} runs; they"
            report.problem(
                f"nobody knows what came of {runs} may be billed: {self._way_on()}, and looks again"
            )
        return Code.OK if ended.complete and not failed_before else Code.TASK_FAILED

    def _why_stopped(self, stopped: BatchStopped) -> str:
        if stopped.reason != "max_cost" or self.options.max_cost is None or "is spent" not in stopped.message:
            return f"{stopped.message}; {self._way_on()}"
        limit = usd(Decimal(self.options.max_cost))
        return (
            f"the batch makes no more runs: --max-cost {limit} is spent, or would be by one more run; "
            f"{self._way_on('--max-cost', 'MORE')}"
        )


def _folder_of(template: str) -> Path:
    """Return the part of a template that is the same for all outputs."""
    fixed, brace, _ = template.replace("{{", "\0").replace("}}", "\1").partition("{")
    if brace:
        fixed = fixed.rpartition(os.sep)[0]
    return Path(fixed.replace("\0", "{").replace("\1", "}"))


async def _noted(
    reader: JobsReader, planning: Planning, model: str, notes: dict[tuple[str, str], str]
) -> AsyncGenerator[Job, None]:
    """Pass jobs on, and take note of inputs that their models do not list, and where they came first."""
    async for job in reader:
        place = reader.place
        yield job
        # By now it was checked, and its model is known if there is one.
        known = planning.model(job.model or model)
        if known is None or not isinstance(job.inputs, Mapping):
            continue
        for name in undocumented(known, job.inputs):
            if len(notes) < NOTES_KEPT:
                notes.setdefault((known.slug, name), place)


def _in_words_of_files(invalid: InvalidJob) -> InvalidJob:
    rule = "write @ before the path of a local file, or give a URL"
    return attrs.evolve(invalid, reason=invalid.reason.replace(FILE_RULE, rule))


async def _follow(batch: Batch, view: BatchView, signals: _Signals) -> tuple[list[str], int]:
    """Tell of the batch until it ends, or until a signal comes.

    Returns:
        The reasons of jobs whose tasks go on, one for each, and how many jobs were not made.
    """
    late: list[str] = []
    unmade = 0

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
                if isinstance(outcome.error, TaskTimeout):
                    late.append(reason_key(reason_of(outcome.error)))
                unmade += isinstance(outcome.error, BatchStopped)
        finally:
            ticker.cancel()
        view.progress(progress_record(batch.progress))
    return late, unmade


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


class _NoStops(logging.Filter):
    """Leaves out those of the library's warnings that the command words itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        stops = any(isinstance(value, BatchStopped) for value in record.args or ())
        return not stops and record.msg != CHANGED


@contextmanager
def _quiet_about_stops() -> Iterator[None]:
    logger, no_stops = logging.getLogger("wiro_async"), _NoStops()
    logger.addFilter(no_stops)
    try:
        yield
    finally:
        logger.removeFilter(no_stops)


# -- words ---------------------------------------------------------------------------------------------------


def _say_plan(report: Report, survey: _Survey) -> None:
    """Say what is wrong with the jobs, and what is going to happen to the others."""
    plan = survey.plan
    for invalid in plan.invalid[:PROBLEMS_SHOWN]:
        report.problem(f"{invalid.where}: {invalid.reason}")
    if plan.invalid_jobs > PROBLEMS_SHOWN:
        report.problem(f"… and {plan.invalid_jobs - PROBLEMS_SHOWN} more")
    for note in survey.notes[:PROBLEMS_SHOWN]:
        report.problem(f"note: {note}")
    parts = [f"{_jobs(plan.jobs)} to make"]
    for count, words in (
        (survey.taken_up, "to see to their ends"),
        (survey.ended, "ended before"),
        (plan.invalid_jobs, "invalid"),
    ):
        if count:
            parts.append(f"{count} {words}")
    report.say(", ".join(parts), "bold")
    if plan.jobs:
        report.say(f"about {_estimate(plan)}")
    if survey.affordable is not None:
        spent = f", {usd(survey.spent)} of it are spent" if survey.spent else ""
        report.say(f"max-cost {usd(survey.max_cost)} covers about {survey.affordable} of {plan.jobs}{spent}")
    if survey.failed:
        report.say(
            f"{_jobs(survey.failed)} failed before; --retry-failed N runs such jobs again, N times each"
        )


def _go_on(count: int) -> str:
    return f"{count} tasks go on" if count > 1 else f"{'1' if count else 'no'} task goes on"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _estimate(plan: BatchPlan) -> str:
    """Say what it may cost and take: ``$11.20 (3 jobs without a known price), 4:10 or more``."""
    cost = "an unknown cost" if plan.estimated_cost is None else usd(plan.estimated_cost)
    unpriced = f" ({_jobs(plan.unpriced)} without a known price)" if plan.unpriced else ""
    seconds = plan.estimated_seconds
    return f"{cost}{unpriced}, " + ("an unknown time" if seconds is None else f"{clock(seconds)} or more")


def _say_end(report: Report, ended: BatchReport, late: Sequence[str], unmade: int) -> None:
    """Say what came of all jobs.

    Those in *late* run on, which the library counts as failed; those not made it counts as cancelled.
    """
    progress = ended.progress
    names = ("succeeded", "failed", "cancelled", "unknown", "skipped", "failed_before")
    figures = {name.replace("_", " "): getattr(progress, name) for name in names}
    figures["failed"] -= len(late)
    figures["still running"] = len(late)
    figures["cancelled"] -= unmade
    figures["not made"] = unmade
    counts = [f"{count} {name}" for name, count in figures.items() if count]
    report.say(
        f"{', '.join(counts) or 'no jobs'}; {usd(progress.spent)} in all; {clock(progress.elapsed)}", "bold"
    )
    failures = [failure for failure in ended.failures if reason_key(failure[0]) not in late]
    for reason, jobs in failures[:REASONS_SHOWN]:
        report.say(f"  {jobs} × {clean(reason)}", "red")
