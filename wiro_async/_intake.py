"""Where a batch's jobs come from: what the journal has unfinished, then what the caller gives, one by one."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import anyio.to_thread
import attrs

from wiro_async._inputs import TypedInputs
from wiro_async._jobs import Job, check_key, named
from wiro_async._journal import Journal, Rows
from wiro_async._ledger import Row, State, described, key_of
from wiro_async._tally import Stage

__all__ = ["Entry", "Intake", "Jobs", "KeyFunction"]

Jobs: TypeAlias = Iterable[Job] | AsyncIterable[Job]
KeyFunction: TypeAlias = Callable[[Job], object]

UNFINISHED: tuple[State, ...] = ("intended", "running", "ended", "unknown", "refused")
"""What a resumed batch takes up again."""


@attrs.define(eq=False)
class Entry:
    """A job on its way through a batch.

    Attributes:
        key: What it is known by.
        index: Its place in the order of outcomes.
        model: The slug.
        inputs: The inputs, by name.
        job: What the caller gave (None: it was taken up from the journal).
        row: What the journal had of it (None: nothing).
        attempts: How many Runs were made for it.
        spent: What these were charged, in USD (None: not known).
        stage: Where it is, for the counting.
    """

    key: str
    index: int
    model: str
    inputs: Mapping[str, Any]
    job: Job | None = None
    row: Row | None = None
    attempts: int = 0
    spent: Decimal | None = None
    stage: Stage | None = None


class Intake:
    """Hands out jobs, each key once.

    Args:
        jobs: What the caller gives; read only as far as asked.
        journal: What is known from before (None: nothing is kept).
        key: The caller's keys (None: the jobs' own, or digests).
        model: The model of jobs that name none.
        retries: How often a failed job is run again.

    Attributes:
        skipped: How many jobs were left out because their keys are done, or under way.
    """

    def __init__(
        self,
        jobs: Jobs,
        journal: Journal | None,
        *,
        key: KeyFunction | None = None,
        model: str | None = None,
        retries: int = 0,
    ) -> None:
        self._jobs = jobs
        self._journal = journal
        self._key = key
        self._model = model
        self._retries = retries
        self._rows: Rows | None = None if journal is None else journal.rows(*UNFINISHED, *_retried(retries))
        self._source: Iterator[Job] | AsyncIterator[Job] | None = None
        self._count: int = 0
        self._twins: dict[str, int] = {}
        self._live: set[str] = set()
        self._taken: set[str] = set()
        self.skipped: int = 0

    async def next(self) -> Entry | None:
        """Return the next job (None: there is none left)."""
        entry = await self._next_row() or await self._next_job()
        if entry is not None:
            self._count += 1
            self._live.add(entry.key)
        return entry

    def over(self, entry: Entry) -> None:
        """Forget a job that has had its outcome."""
        self._live.discard(entry.key)

    # -- from the journal --------------------------------------------------------------------------------

    async def _next_row(self) -> Entry | None:
        while self._rows is not None:
            row = await anext(self._rows, None)
            if row is None:
                self._rows = None
            # A job that goes on to another state meanwhile is read again there.
            elif row.key not in self._taken and (row.state != "failed" or row.attempt <= self._retries):
                self._taken.add(row.key)
                return Entry(
                    row.key, self._count, row.model, row.inputs, row=row, attempts=row.attempt, spent=row.cost
                )
        return None

    # -- from the caller ---------------------------------------------------------------------------------

    async def _next_job(self) -> Entry | None:
        while True:
            job = await self._read()
            if job is None:
                return None
            entry = await self._entry(job)
            if entry is not None:
                return entry
            self.skipped += 1

    async def _read(self) -> Job | None:
        if self._source is None:
            jobs = self._jobs
            self._source = aiter(jobs) if isinstance(jobs, AsyncIterable) else iter(jobs)
        if isinstance(self._source, AsyncIterator):
            return await anext(self._source, None)
        return next(self._source, None)

    async def _entry(self, job: Job) -> Entry | None:
        """Give a job its key; None if that is under way or has been seen to its end."""
        model, given = named(job, self._model)
        inputs = given.to_inputs() if isinstance(given, TypedInputs) else given
        key = await self._key_of(job, model, inputs)
        if key in self._live:
            return None
        row = None if self._journal is None else await self._journal.find(key)
        if row is not None:
            return None
        return Entry(key, self._count, model, inputs, job)

    async def _key_of(self, job: Job, model: str, inputs: Mapping[str, Any]) -> str:
        key = job.key if self._key is None else self._key(job)
        if key is not None:
            return check_key(key)
        if self._journal is None:
            return str(self._count)
        told = await _told(inputs)
        first = key_of(model, told)
        seen = self._twins.get(first, 0)
        self._twins[first] = seen + 1
        return key_of(model, told, seen) if seen else first


def _retried(retries: int) -> tuple[State, ...]:
    return ("failed",) if retries else ()


async def _told(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the inputs as the journal tells them; bytes are hashed in a worker thread."""
    if any(isinstance(value, bytes | bytearray) for value in inputs.values()):
        return await anyio.to_thread.run_sync(described, inputs)
    return inputs
