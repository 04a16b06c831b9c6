"""Where a batch's jobs come from: what the journal has unfinished, then what the caller gives, one by one."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio.lowlevel
import anyio.to_thread
import attrs

from wiro_async._batch.progress import Stage
from wiro_async._errors import InvalidInput
from wiro_async._files.inputs import by_name
from wiro_async._jobs.job import Job, check_key, named
from wiro_async._journal.journal import Journal
from wiro_async._journal.steps import Blob, JournalEntry, State, described, key_of
from wiro_async._protocol.envelope import MAX_DEPTH

__all__ = ["FAILED", "Entry", "JobSource", "Jobs", "KeyFunction", "holds"]

Jobs: TypeAlias = Iterable[Job] | AsyncIterable[Job]
KeyFunction: TypeAlias = Callable[[Job], object]

UNFINISHED: tuple[State, ...] = ("running", "ended", "unknown", "intended", "refused")
"""What a resumed batch takes up again: first what has its money set aside, last what needs some."""

CHANGED = (
    "%d of the jobs come with other inputs than the journal has under their keys; no new runs are made for "
    "them: give such jobs other keys"
)
"""What is said of keys that a journal knows with other inputs."""

FAILED: tuple[State, ...] = ("failed", "cancelled")
"""What came to nothing, and is run again only for those who ask for it."""

AT_ONCE = 200
"""Jobs whose files are looked at in one go, in a thread."""


@attrs.define(eq=False)
class Entry:
    """A job on its way through a batch.

    Attributes:
        key: What it is known by.
        model: The slug.
        inputs: The inputs, by name.
        job: What the caller gave (None: it was taken up from the journal).
        row: What the journal had of it (None: nothing).
        told: The inputs as the journal keeps them: bytes are digests.
        problem: Why it cannot even be begun (None: it can).
        index: Its place in the order of outcomes.
        attempts: How many Runs were made for it.
        spent: What these were charged, in USD (None: not known).
        stage: Where it is, for the counting.
        on_trial: Whether it needs a Run of this batch, so that its success or failure tells of those to come.
        through: Whether it has been let through to a Run.
    """

    key: str
    model: str
    inputs: Mapping[str, Any]
    job: Job | None = None
    row: JournalEntry | None = None
    told: Mapping[str, Any] = attrs.field(kw_only=True)
    problem: InvalidInput | None = None
    index: int = 0
    attempts: int = 0
    spent: Decimal | None = None
    stage: Stage | None = None
    on_trial: bool = False
    through: bool = False


class _Seen:
    """Keys, remembered by 10 bytes of their digests: a million of them take 12 MB.

    Among a million the odds that one is mistaken for another are one in 10**12.
    """

    def __init__(self) -> None:
        self._buckets: list[bytes] = [b""] * 65536

    def add(self, key: str) -> bool:
        """Remember a key; say whether it is new."""
        place, mark, at = self._find(key)
        if at < 0:
            self._buckets[place] += mark
        return at < 0

    def __contains__(self, key: str) -> bool:
        return self._find(key)[2] >= 0

    def _find(self, key: str) -> tuple[int, bytes, int]:
        digest = hashlib.blake2b(key.encode(), digest_size=10).digest()
        place, mark = int.from_bytes(digest[:2], "big"), digest[2:]
        bucket = self._buckets[place]
        at = bucket.find(mark)
        while at > 0 and at % 8:
            at = bucket.find(mark, at + 1)
        return place, mark, at


class JobSource:
    """Hands out jobs, each key once.

    Args:
        jobs: What the caller gives; read only as far as asked.
        journal: What is known from before (None: nothing is kept).
        is_new: Whether the journal had no jobs when it was opened, so that none need be looked up.
        key: The caller's keys (None: the jobs' own, or digests).
        model: The model of jobs that name none.
        retries: How often a failed job is run again.
        fetches: Whether jobs that are done are taken up again if their files are not all there: those that
            the caller gives, and all of them if the caller gives none.

    Attributes:
        skipped: How many of the caller's jobs were left out, because they were done before or came before.
        failed_before: How many were left out because they failed before; all of the journal's if the caller
            gives no jobs.
        changed: How many of those that were left out have another model, or other inputs, than the journal
            has for their key.
    """

    def __init__(
        self,
        jobs: Jobs,
        journal: Journal | None,
        *,
        is_new: bool = False,
        key: KeyFunction | None = None,
        model: str | None = None,
        retries: int = 0,
        fetches: bool = False,
    ) -> None:
        self._jobs = jobs
        self._journal = journal
        self._known = None if is_new else journal
        self._key = key
        self._model = model
        self._retries = retries
        self._fetches = fetches
        self._failed: tuple[State, ...] = FAILED if retries else ()
        self._rows: AsyncIterator[JournalEntry] | _Lacking | None = None
        if self._known is not None:
            self._rows = self._known.entries(*UNFINISHED, *self._failed)
        self._deferred: bool = False
        self._gave: bool = False
        self._looked_back: bool = self._known is None
        self._source: Iterator[Job] | AsyncIterator[Job] | None = None
        self._count: int = 0
        self._resumed: _Seen = _Seen()
        self._given: _Seen = _Seen()
        self._twins: dict[str, int] = {}
        self.skipped: int = 0
        self.failed_before: int = 0
        self.changed: int = 0

    async def next(self) -> Entry | None:
        """Return the next job (None: there is none left).

        Raises:
            JournalError: The journal cannot be read.
            Exception: Whatever the caller's iterable, or key function, raises.
        """
        entry = await self._next_row() or await self._next_job()
        if entry is None and self._deferred:
            assert self._known is not None
            self._deferred = False
            self._rows = self._known.entries("refused", *self._failed)
            entry = await self._next_row()
        if entry is None and not self._looked_back:
            self._looked_back = True
            await self._look_back()
            entry = await self._next_row()
        if entry is not None:
            entry.index = self._count
            self._count += 1
        return entry

    async def aclose(self) -> None:
        """Close the caller's iterable if it is an async generator: nobody else could, for lack of a name."""
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()

    # -- from the journal --------------------------------------------------------------------------------

    async def _next_row(self) -> Entry | None:
        while self._rows is not None:
            row = await anext(self._rows, None)
            if row is None:
                self._rows = None
            elif self._is_wanted(row):
                return _resumed(row)
        return None

    def _is_wanted(self, row: JournalEntry) -> bool:
        """Whether to take a row up now: not twice, and bytes first by the job that still has them."""
        if row.state in FAILED and not self._is_retried(row):
            return False
        if self._source is None and row.state in ("refused", *FAILED) and holds(row.inputs, _is_blob):
            self._deferred = True
            return False
        # A job that goes on to another state meanwhile is read again there.
        return row.key not in self._given and self._resumed.add(row.key)

    def _is_retried(self, row: JournalEntry) -> bool:
        return row.state in FAILED and row.runs <= self._retries

    async def _look_back(self) -> None:
        """Turn to what has ended before, if the caller gave no jobs; else only those count that he gave."""
        assert self._known is not None
        if self._gave:
            return
        async for row in self._known.entries(*FAILED):
            self.failed_before += row.key not in self._resumed
        if self._fetches:
            self._rows = _Lacking(self._known.entries("done"))

    # -- from the caller ---------------------------------------------------------------------------------

    async def _next_job(self) -> Entry | None:
        while True:
            job = await self._read()
            if job is None:
                return None
            entry = await self._entry(job)
            if entry is not None:
                return entry
            # Thousands may be left out in a row.
            await anyio.lowlevel.checkpoint()

    async def _read(self) -> Job | None:
        job: Job | None
        if isinstance(self._jobs, AsyncIterable):
            self._source = self._source or aiter(self._jobs)
            job = await anext(cast(AsyncIterator[Job], self._source), None)
        else:
            self._source = self._source or iter(self._jobs)
            job = next(cast(Iterator[Job], self._source), None)
        self._gave = self._gave or job is not None
        if job is not None and not isinstance(job, Job):
            raise InvalidInput(
                f"a batch got a {type(job).__name__} for a job; give Job(inputs, ...), or use client.map()",
                name="jobs",
            )
        return job

    async def _entry(self, job: Job) -> Entry | None:
        """Give a job its key; None if it was done before, or came before."""
        try:
            model, given = named(job, self._model)
            # A copy, because some generators yield the same dict again and again.
            inputs = dict(by_name(given))
            told = await self._told(inputs)
            key, is_own = self._key_of(job, model, told)
        except InvalidInput as error:
            name = str(job.key)[:60] if job.key else str(self._count)
            return Entry(name, job.model or self._model or "", {}, job, told={}, problem=error)
        if is_own and not self._given.add(key):
            self.skipped += 1
            return None
        row = None if self._known is None else await self._known.find(key)
        entry = Entry(key, model, inputs, job, told=told)
        if row is None:
            return entry
        again = await self._again(entry, row)
        self.changed += again is None and key_of(model, told) != key_of(row.model, row.inputs)
        return again

    async def _again(self, entry: Entry, row: JournalEntry) -> Entry | None:
        """Return a job that the journal knows, if it was left for its caller to give again."""
        if row.key in self._resumed:
            return None
        if row.state in FAILED and not self._is_retried(row):
            self.failed_before += 1
            return None
        if row.state not in ("refused", *FAILED) and not await self._lacks(row):
            self.skipped += 1
            return None
        entry.row, entry.attempts, entry.spent = row, row.runs, row.cost
        return entry

    async def _lacks(self, row: JournalEntry) -> bool:
        if not self._fetches or row.state != "done":
            return False
        return await anyio.to_thread.run_sync(_lacks_files, row)

    def _key_of(self, job: Job, model: str, told: Mapping[str, Any]) -> tuple[str, bool]:
        """Return a job's key, and whether another job of the same key would be the same job."""
        key = job.key if self._key is None else self._key(job)
        if key is not None:
            return check_key(key), True
        if self._journal is None:
            return str(self._count), False
        first = key_of(model, told)
        if first not in self._given:
            return first, True
        self._twins[first] = self._twins.get(first, 0) + 1
        return key_of(model, told, self._twins[first]), True

    async def _told(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return inputs as the journal tells them; bytes are hashed in a worker thread."""
        if self._journal is not None and holds(inputs, _is_bytes):
            return await anyio.to_thread.run_sync(described, inputs)
        return inputs


class _Lacking:
    """Those of some jobs whose files are not all there; some hundreds at a time are looked at."""

    def __init__(self, rows: AsyncIterator[JournalEntry]) -> None:
        self._rows = rows
        self._found: deque[JournalEntry] = deque()

    async def __anext__(self) -> JournalEntry:
        while not self._found:
            page: list[JournalEntry] = []
            while len(page) < AT_ONCE and (row := await anext(self._rows, None)) is not None:
                page.append(row)
            if not page:
                raise StopAsyncIteration
            self._found.extend(await anyio.to_thread.run_sync(list, filter(_lacks_files, page)))
        return self._found.popleft()


def _lacks_files(row: JournalEntry) -> bool:
    """Whether an output of a job is not on the disk; one without an address was never to be had."""
    return any(file.url and not (file.path and Path(file.path).is_file()) for file in row.files)


def _resumed(row: JournalEntry) -> Entry:
    return Entry(row.key, row.model, row.inputs, row=row, told=row.inputs, attempts=row.runs, spent=row.cost)


def holds(value: object, wanted: Callable[[object], bool], depth: int = 0) -> bool:
    """Whether there is something wanted in *value*, which may be nested.

    Raises:
        InvalidInput: It is nested too deep for inputs.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(f"inputs is nested deeper than {MAX_DEPTH} levels; flatten it", name="inputs")
    if isinstance(value, Mapping):
        return any(holds(item, wanted, depth + 1) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds(item, wanted, depth + 1) for item in value)
    return wanted(value)


def _is_bytes(value: object) -> bool:
    return isinstance(value, bytes | bytearray)


def _is_blob(value: object) -> bool:
    return isinstance(value, Blob)
