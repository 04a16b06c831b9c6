"""What a batch would do, before anything is paid: its jobs, checked and added up one by one.

The jobs go through the same source as in the batch itself, so that both agree on keys, on finished jobs, and
on what is resumed from the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from decimal import ROUND_CEILING, Context, Decimal
from os import PathLike
from typing import Self

import attrs

from wiro_async._batch.source import CHANGED, Jobs, JobSource, KeyFunction
from wiro_async._errors import InvalidInput, JournalError
from wiro_async._files.inputs import by_name
from wiro_async._jobs.budget import Prices
from wiro_async._jobs.checks import Catalogue, check_job
from wiro_async._jobs.job import Job, JobState
from wiro_async._journal.journal import Journal, NullJournal
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import FAILED, State
from wiro_async._protocol.operations import clean_slug, run
from wiro_async._types import JSON, CheckMode, Record
from wiro_async._watch.durations import Durations

__all__ = ["BatchPlan", "InvalidJob", "Sums", "make_plan"]

MAX_INVALID = 1000
"""How many invalid jobs are listed; all are counted."""

MAX_NOTES = 100
"""How many notes are kept."""

PAID: frozenset[State] = frozenset({"intended", "running", "ended", "done", "unknown"})
"""States of a job that has had a Run: it needs no other, unless that is proved absent."""

_EXACT = Context(prec=60, rounding=ROUND_CEILING)


# -- what a plan says ------------------------------------------------------------------------------------


@attrs.frozen
class InvalidJob(Record):
    """A job that cannot be sent.

    Attributes:
        where: Its place in the input: ``Job.where``, or its number, such as ``job 7``.
        reason: The value, the rule, and the fix.
    """

    where: str
    reason: str


@attrs.frozen(kw_only=True)
class BatchPlan(Record):
    """What a batch would do.

    Attributes:
        jobs: How many jobs would be sent.
        invalid: Jobs that cannot be sent, in order; the first 1 000.
        invalid_jobs: The total number of these.
        duplicates: How many given jobs need nothing: equal to an earlier one, or done before.
        failed_before: How many of the given jobs failed or were cancelled in an earlier run, and are not run
            again.
        taken_up: How many jobs of the journal have had a Run and are followed to their ends.
        ended: How many of the given jobs have ended before, well or badly, and are skipped.
        failed: How many jobs of the journal failed or were cancelled, and are not run again.
        changed: How many given jobs are skipped although the journal has different inputs for their keys.
        estimated_cost: USD of the jobs with a known price (None: no price is known).
        unpriced: How many jobs have no known price.
        price_sources: Where the estimates come from, or why there is none; the first 100.
        estimated_seconds: How long the batch would take (None: no duration is known).
        spent: USD that the journal's runs have cost so far.
        notes: Possible mistakes, a sentence each; the first 100.
    """

    jobs: int
    invalid: tuple[InvalidJob, ...] = ()
    invalid_jobs: int = 0
    duplicates: int = 0
    failed_before: int = 0
    taken_up: int = 0
    ended: int = 0
    failed: int = 0
    changed: int = 0
    estimated_cost: Decimal | None
    unpriced: int
    price_sources: tuple[str, ...] = ()
    estimated_seconds: float | None
    spent: Decimal = Decimal(0)
    notes: tuple[str, ...] = ()


# -- making one ------------------------------------------------------------------------------------------


async def make_plan(
    jobs: Jobs,
    journal: str | PathLike[str] | None,
    catalogue: Catalogue,
    *,
    check: CheckMode = True,
    key: KeyFunction | None = None,
    model: str | None = None,
    retries: int = 0,
    fetches: bool = False,
    slots: int | None = None,
    on_invalid: Callable[[InvalidJob], object] | None = None,
    unique: bool = False,
) -> BatchPlan:
    """Work out what a batch would do. Nothing is submitted, and no journal is created.

    Each job goes through the check that it meets in the batch. Prices and durations come from the journal, or
    else from the catalogue.

    Args:
        jobs: As for ``Client.batch``; all are read.
        journal: The journal's path; a missing file counts as empty (None: no journal).
        catalogue: Knows the models.
        check: How the jobs' inputs are checked.
        key: As for ``JobSource``.
        model: As for ``JobSource``.
        retries: As for ``JobSource``.
        fetches: As for ``JobSource``.
        slots: How many jobs run at a time (None: all at once).
        on_invalid: Called with each job that cannot be sent, before the next job is read.
        unique: Whether a repeated key makes a job invalid; otherwise it is a duplicate.

    Raises:
        JournalError: The journal cannot be read.
        AuthenticationError: The service rejects our credentials.
    """
    async with AsyncExitStack() as stack:
        known: Journal = NullJournal()
        if journal is not None:
            try:
                known = await stack.enter_async_context(await SQLiteJournal.open(journal, create=False))
            except JournalError as error:
                if error.reason != "missing":
                    raise
        planner = _Planner(jobs, known, catalogue, check=check, key=key, on_invalid=on_invalid, unique=unique)
        source = JobSource(planner, known, key=key, model=model, retries=retries, fetches=fetches)
        return await planner.plan(source, slots)


class _Planner:
    """Checks the jobs of one batch and adds them up.

    It passes the jobs to a ``JobSource``, which returns those that need work. If the source asks for the next
    job before returning one, it has skipped that one; its counts say why.
    """

    def __init__(
        self,
        jobs: Jobs,
        journal: Journal,
        catalogue: Catalogue,
        *,
        check: CheckMode,
        key: KeyFunction | None,
        on_invalid: Callable[[InvalidJob], object] | None,
        unique: bool,
    ) -> None:
        self._jobs: Iterator[Job] | AsyncIterator[Job] = (
            aiter(jobs) if isinstance(jobs, AsyncIterable) else iter(jobs)
        )
        self._journal = journal
        self._catalogue = catalogue
        self._check: CheckMode = check
        self._key = key
        self._on_invalid = on_invalid
        self._unique = unique
        self._source: JobSource
        self._read: int = 0
        self._last: Job | None = None
        self._prices: Prices = Prices()
        self._medians: dict[str, float] = {}
        self._sums: Sums = Sums()
        self._invalid: list[InvalidJob] = []
        self._invalid_jobs: int = 0
        self._duplicates: int = 0
        self._failed_before: int = 0
        self._skipped: int = 0
        self._taken_up: int = 0
        self._ended: int = 0
        self._failed: int = 0
        self._notes: dict[tuple[str, str], str] = {}
        # A set in the order in which they came.
        self._sources: dict[str, None] = {}

    async def plan(self, source: JobSource, slots: int | None) -> BatchPlan:
        """Read all jobs through *source*, and return the sums."""
        self._source = source
        self._prices.merge(await self._journal.load_stats("prices"))
        self._medians = _medians(await self._journal.load_stats("durations"))
        counts = await self._journal.counts()
        self._failed = counts.jobs["failed"] + counts.jobs["cancelled"]
        while (state := await source.next()) is not None:
            self._last = None
            await self._add(state)
        notes = [CHANGED % source.changed] if source.changed else []
        return BatchPlan(
            jobs=self._sums.jobs,
            invalid=tuple(self._invalid),
            invalid_jobs=self._invalid_jobs,
            duplicates=self._duplicates,
            failed_before=self._failed_before,
            taken_up=self._taken_up,
            ended=self._ended,
            failed=self._failed,
            changed=source.changed,
            estimated_cost=self._sums.cost,
            unpriced=self._sums.unpriced,
            price_sources=tuple(self._sources),
            estimated_seconds=self._sums.seconds(slots),
            spent=counts.cost,
            notes=(*notes, *self._notes.values()),
        )

    # -- on their way to the source ----------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        if self._last is not None:
            last, self._last = self._last, None
            await self._left_out(last)
        jobs = self._jobs
        try:
            job = await anext(jobs) if isinstance(jobs, AsyncIterator) else next(jobs)
        except StopIteration:
            raise StopAsyncIteration from None
        self._read += 1
        self._last = job
        return job

    async def _left_out(self, job: Job) -> None:
        """Count a job that the source did not return."""
        if self._source.failed_before > self._failed_before:
            self._failed_before = self._source.failed_before
            self._ended += 1
            return
        if self._source.skipped == self._skipped:
            return  # It was taken up from the journal, and is counted.
        self._skipped = self._source.skipped
        key = job.key if self._key is None else self._key(job)
        known = bool(self._journal.path) and (key is None or await self._journal.find(str(key)) is not None)
        if known or not self._unique:
            self._ended += known
            self._duplicates += 1
        else:
            self._reject(job, f"the key {str(key)[:60]!r} is a duplicate; give each job a unique key")

    # -- back from the source ----------------------------------------------------------------------------

    async def _add(self, state: JobState) -> None:
        if state.problem is not None:
            self._reject(state.job, state.problem.message)
            return
        if state.entry is not None and state.entry.state in PAID:
            self._taken_up += 1
            return
        self._failed -= state.entry is not None and state.entry.state in FAILED
        try:
            run(state.model)
            checked = await check_job(self._catalogue, state, by_name(state.inputs), self._check)
        except InvalidInput as error:
            self._reject(state.job, error.message)
            return
        if checked.problems:
            self._reject(state.job, "; ".join(checked.problems))
            return
        for note in checked.notes if state.job is not None else ():
            # Each at the first job with it.
            if (state.model, note) not in self._notes and len(self._notes) < MAX_NOTES:
                self._notes[state.model, note] = f"{self._where(state.job)}: {note}"
        model = await self._catalogue.find(state.model)
        if model is not None:
            self._prices.know(model)
        seconds = self._medians.get(clean_slug(state.model))
        estimate = self._prices.estimate(state.model, state.told, seconds=seconds, mean=True)
        if len(self._sources) < MAX_NOTES:
            self._sources[estimate.source] = None
        self._sums.add(estimate.amount, seconds)

    def _reject(self, job: Job | None, reason: str) -> None:
        invalid = InvalidJob(self._where(job), reason)
        self._invalid_jobs += 1
        if len(self._invalid) < MAX_INVALID:
            self._invalid.append(invalid)
        if self._on_invalid is not None:
            self._on_invalid(invalid)

    def _where(self, job: Job | None) -> str:
        return (job.where if job is not None else "") or f"job {self._read}"


@attrs.define
class Sums:
    """Adds up the jobs that would be sent, in a fixed amount of memory.

    Attributes:
        jobs: How many there are.
        unpriced: How many of them have no known price.
    """

    jobs: int = attrs.field(default=0, init=False)
    unpriced: int = attrs.field(default=0, init=False)
    _cost: Decimal = attrs.field(default=Decimal(0), init=False)
    _seconds: float = attrs.field(default=0.0, init=False)
    _timed: int = attrs.field(default=0, init=False)
    _longest: float = attrs.field(default=0.0, init=False)

    def add(self, cost: Decimal | None, seconds: float | None) -> None:
        """Count a job.

        Args:
            cost: USD that it costs on average (None: unknown).
            seconds: The median duration of its kind (None: unknown).
        """
        self.jobs += 1
        if cost is None:
            self.unpriced += 1
        else:
            self._cost = _EXACT.add(self._cost, cost)
        if seconds is not None:
            self._seconds += seconds
            self._timed += 1
            self._longest = max(self._longest, seconds)

    @property
    def cost(self) -> Decimal | None:
        """USD of the jobs with a known price (None: there are jobs, but no price is known)."""
        return self._cost if self.unpriced < self.jobs or not self.jobs else None

    def seconds(self, slots: float | None) -> float | None:
        """Estimate how long all of them take.

        Jobs of unknown duration are assumed to take the average of the others. The total is at least the
        longest job.

        Args:
            slots: How many jobs run at a time (None: all at once).

        Returns:
            Seconds (None: no duration is known).
        """
        if not self.jobs:
            return 0.0
        if not self._timed:
            return None
        total = self._seconds / self._timed * self.jobs
        return max(total / max(slots or self.jobs, 1.0), self._longest)


def _medians(data: JSON) -> dict[str, float]:
    """Return models' median seconds from submit to end, from a schedule's export."""
    models = data.get("models")
    medians: dict[str, float] = {}
    for name, stages in models.items() if isinstance(models, Mapping) else ():
        queued, ran = Durations(), Durations()
        if isinstance(stages, Mapping):
            queued.merge(stages.get("queued"))
            ran.merge(stages.get("ran"))
        if ran.count:
            medians[clean_slug(str(name))] = queued.quantile(0.5) + ran.quantile(0.5)
    return medians
