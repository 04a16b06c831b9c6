"""What a batch would do, found out before anything is paid: its jobs, checked and added up one by one.

Jobs go through the same intake as in the batch itself, so that both agree on keys, on what is done already,
and on what is taken up from the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from os import PathLike
from typing import TYPE_CHECKING, Self

from wiro_async._batch.plan import BatchPlan, Planner
from wiro_async._batch.source import FAILED, Entry, Jobs, JobSource
from wiro_async._errors import InvalidInput, JournalError, ModelNotFound
from wiro_async._jobs.budget import Prices
from wiro_async._jobs.job import Job
from wiro_async._journal.journal import Journal
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import State
from wiro_async._protocol.catalogue import check_inputs
from wiro_async._protocol.operations import clean_slug, split_slug
from wiro_async._protocol.records import Model
from wiro_async._types import JSON
from wiro_async._watch.durations import Durations

if TYPE_CHECKING:
    from wiro_async._batch.batch import Settings
    from wiro_async._client import Client

__all__ = ["Planning", "make_plan", "open_known"]

PAID: frozenset[State] = frozenset({"intended", "running", "ended", "done", "unknown"})
"""States of a job that has had a Run: it needs no other, unless that one is proved absent."""


async def make_plan(client: Client, jobs: Jobs, settings: Settings) -> BatchPlan:
    """Find out what a batch would do. Nothing is submitted, and no journal is made.

    Each model is looked up in the catalogue once. Prices and durations come from the journal, where it has
    any, and prices else from the catalogue.

    Args:
        client: Looks up the models.
        jobs: As for ``Client.batch``; they are read to their end.
        settings: The batch's.

    Returns:
        What it would do.

    Raises:
        JournalError: The journal cannot be read; one that does not exist is empty.
        WiroError: The catalogue was not reached.
    """
    async with AsyncExitStack() as stack:
        journal = await open_known(settings.journal)
        if journal is not None:
            stack.push_async_callback(journal.aclose)
        return await Planning(client, settings, journal).plan(jobs)


async def open_known(path: str | PathLike[str] | None) -> Journal | None:
    """Open a journal if there is one.

    Raises:
        JournalError: It cannot be opened.
    """
    if path is None:
        return None
    try:
        return await SQLiteJournal.open(path, create=False)
    except JournalError as error:
        if error.reason != "missing":
            raise
        return None


class Planning:
    """Checks the jobs of one batch, and adds them up.

    Args:
        client: Looks up the models.
        settings: The batch's.
        journal: What is known from before (None: nothing).
        where: Names the place of the job that was read last (None: ``job 7``).
        on_invalid: Called once for each job that cannot be sent, while ``where`` names it.
        unique: Whether a key that came before makes a job invalid; else it is a duplicate.

    Attributes:
        taken_up: How many jobs of the journal have had a Run, and are seen to their ends.
        ended: How many of the given jobs have ended before, well or badly, and are left out.
        failed: How many jobs of the journal have failed or were cancelled, and are not run again.
        changed: How many given jobs are left out although the journal has other inputs under their keys.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        journal: Journal | None,
        *,
        where: Callable[[], str] | None = None,
        on_invalid: Callable[[], object] = lambda: None,
        unique: bool = False,
    ) -> None:
        self._client = client
        self._settings = settings
        self._journal = journal
        self._where = where or (lambda: f"job {self._read}")
        self._on_invalid = on_invalid
        self._unique = unique
        self._read: int = 0
        self._planner: Planner = Planner()
        self._prices: Prices = Prices()
        self._medians: dict[str, float] = {}
        self._models: dict[str, Model | str] = {}
        self._skipped: int = 0
        self._failed_before: int = 0
        self.taken_up: int = 0
        self.ended: int = 0
        self.failed: int = 0
        self.changed: int = 0

    async def plan(self, jobs: Jobs) -> BatchPlan:
        """Read all jobs, and return the sums."""
        settings = self._settings
        await self._recall()
        watched = _Watched(jobs, self._reads)
        intake = JobSource(
            watched,
            self._journal,
            key=settings.key,
            model=settings.model,
            retries=settings.terms.retry_failed,
            fetches=settings.terms.download is not None,
        )
        watched.left_out = lambda job: self._left_out(job, intake)
        while (entry := await intake.next()) is not None:
            watched.taken()
            await self._add(entry)
        self.changed = intake.changed
        return self._planner.plan(settings.concurrency)

    def reject(self, reason: str) -> None:
        """Count the job that was read last as one that cannot be sent."""
        self._planner.invalid(self._where(), reason)
        self._on_invalid()

    async def _recall(self) -> None:
        if self._journal is not None:
            prices = await self._journal.load_stats("prices")
            self._prices.merge(prices or {})
            self._medians = _medians(await self._journal.load_stats("durations"))
            known = (await self._journal.counts()).jobs
            self.failed = known["failed"] + known["cancelled"]

    def _reads(self) -> None:
        self._read += 1

    # -- one job -----------------------------------------------------------------------------------------

    async def _left_out(self, job: Job, intake: JobSource) -> None:
        """Count a job that the intake did not hand out."""
        if intake.failed_before > self._failed_before:
            self._failed_before = intake.failed_before
            self.ended += 1
            self._planner.failed_before()
            return
        if intake.skipped == self._skipped:
            return  # It was taken up from the journal, and is counted.
        self._skipped = intake.skipped
        key = job.key if self._settings.key is None else self._settings.key(job)
        known = self._journal is not None and (key is None or await self._journal.find(str(key)) is not None)
        if known or not self._unique:
            self.ended += known
            self._planner.duplicate()
        else:
            self.reject(f"the key {str(key)[:60]!r} came before; give every job a key of its own")

    async def _add(self, entry: Entry) -> None:
        if entry.problem is not None:
            self.reject(entry.problem.message)
        elif entry.row is not None and entry.row.state in PAID:
            self.taken_up += 1
        else:
            self.failed -= entry.row is not None and entry.row.state in FAILED
            complaint = await self._complaint(entry)
            if complaint and entry.job is not None:
                self.reject(complaint)
            else:
                self._count(entry)

    def model(self, slug: str) -> Model | None:
        """Return what the catalogue told of a model (None: it was not asked for, or there is none)."""
        known = self._models.get(slug)
        return known if isinstance(known, Model) else None

    async def _complaint(self, entry: Entry) -> str:
        model = await self._model(entry.model)
        return model if isinstance(model, str) else "; ".join(check_inputs(model, entry.inputs))

    async def _model(self, slug: str) -> Model | str:
        """Return a model, or why there is none."""
        if slug not in self._models:
            try:
                split_slug(slug)
                model = await self._client.get_model(slug)
                self._prices.know(model)
                self._models[slug] = model
            except (InvalidInput, ModelNotFound) as error:
                self._models[slug] = error.message
        return self._models[slug]

    def _count(self, entry: Entry) -> None:
        seconds = self._medians.get(clean_slug(entry.model))
        self._planner.job(self._prices.expected(entry.model, entry.told, seconds=seconds), seconds)


class _Watched:
    """Jobs on their way to the intake, so that it is noticed which of them are left out there."""

    def __init__(self, jobs: Jobs, on_read: Callable[[], object]) -> None:
        self._source: Iterator[Job] | AsyncIterator[Job] = (
            aiter(jobs) if isinstance(jobs, AsyncIterable) else iter(jobs)
        )
        self._on_read = on_read
        self._last: Job | None = None
        self.left_out: Callable[[Job], Awaitable[None]]

    def taken(self) -> None:
        """Take note that the last job was not left out."""
        self._last = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        if self._last is not None:
            last, self._last = self._last, None
            await self.left_out(last)
        job = await self._next()
        self._on_read()
        self._last = job
        return job

    async def _next(self) -> Job:
        if isinstance(self._source, AsyncIterator):
            return await anext(self._source)
        for job in self._source:
            return job
        raise StopAsyncIteration


def _medians(data: JSON | None) -> dict[str, float]:
    """Return what models' tasks take from submit to end, in seconds, from what a schedule has exported."""
    models = (data or {}).get("models")
    medians: dict[str, float] = {}
    for name, stages in models.items() if isinstance(models, Mapping) else ():
        queued, ran = Durations(), Durations()
        if isinstance(stages, Mapping):
            queued.merge(stages.get("queued"))
            ran.merge(stages.get("ran"))
        if ran.count:
            medians[clean_slug(str(name))] = queued.quantile(0.5) + ran.quantile(0.5)
    return medians
