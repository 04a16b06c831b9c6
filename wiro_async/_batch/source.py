"""The source of a batch's jobs: the journal's unfinished jobs, then the caller's, one by one."""

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
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import anyio.lowlevel

from wiro_async._aio import run_in_thread
from wiro_async._errors import InvalidInput
from wiro_async._files.inputs import TypedInputs, by_name, holds
from wiro_async._jobs.job import Inputs, Job, JobState
from wiro_async._jobs.options import DEFAULTS, CallSettings
from wiro_async._journal.journal import Journal
from wiro_async._journal.steps import FAILED, Blob, JournalEntry, State, check_key, described, key_of

__all__ = ["CHANGED", "JobSource", "Jobs", "KeyFunction"]

Jobs: TypeAlias = Iterable[Job] | AsyncIterable[Job]
KeyFunction: TypeAlias = Callable[[Job], object]

UNFINISHED: tuple[State, ...] = ("running", "stalled", "ended", "unknown", "intended", "refused")
"""What a batch resumes: first jobs with money reserved, last those that need some."""

CHANGED = (
    "jobs with other inputs than the journal has under the same keys: %d; they are not run again, give such "
    "jobs other keys"
)
"""The warning about keys that a journal knows with other inputs."""

AT_ONCE = 200
"""How many jobs' files are checked at once, in a thread."""


_END: Final = object()
"""What an iterator has instead of another job."""


def named(job: Job, model: str | None) -> tuple[str, Inputs]:
    """Return the model and the inputs of a job.

    Args:
        job: The job.
        model: The batch's model, for jobs without one.

    Raises:
        InvalidInput: There is no model, or the inputs are neither a mapping nor typed inputs.
    """
    inputs = job.inputs
    if not isinstance(inputs, Mapping | TypedInputs):
        raise InvalidInput(
            f"the inputs of a job are a {type(inputs).__name__}; give a mapping or typed inputs",
            name="inputs",
        )
    slug = job.model or (inputs.model if isinstance(inputs, TypedInputs) else model)
    if not slug:
        raise InvalidInput(
            "a job names no model; give Job('owner/model', {...}) or batch(model=...)", name="model"
        )
    if not isinstance(slug, str):
        raise InvalidInput(f"the model of a job is a {type(slug).__name__}; give its slug", name="model")
    return slug, inputs


def check_iterable(name: str, given: object, wanted: str) -> None:
    """Refuse what is no iterable of jobs, and the iterables that are one thing, such as a str.

    Raises:
        InvalidInput: It is one of these.
    """
    one_thing = isinstance(given, str | bytes | Mapping | TypedInputs)
    if one_thing or not isinstance(given, Iterable | AsyncIterable):
        raise InvalidInput(f"{name} is a {type(given).__name__}; give {wanted}", name=name)


class _Seen:
    """Keys, stored as 10 bytes of their digests: a million of them take 12 MB.

    Among a million the odds of a collision are one in 10**12.
    """

    def __init__(self) -> None:
        self._buckets: list[bytes] = [b""] * 65536

    def add(self, key: str) -> bool:
        """Add a key; return whether it is new."""
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
    """Yields jobs, each key once.

    Args:
        jobs: The caller's jobs; read lazily.
        journal: What is known from before.
        options: The options of the jobs' calls.
        is_new: Whether the journal had no jobs when it was opened, so that none need be looked up.
        key: The caller's keys (None: the jobs' own, or digests).
        model: The model of jobs without one.
        retries: How often a failed job is rerun.
        fetches: Whether finished jobs are resumed if files are missing: those that the caller gives, or all
            if the caller gives none.

    Attributes:
        skipped: How many of the caller's jobs were skipped as already done or as duplicates.
        failed_before: How many were skipped because they failed before; all of the journal's if the caller
            gives no jobs.
        changed: How many skipped jobs have another model, or other inputs, than the journal has for their
            key.
    """

    def __init__(
        self,
        jobs: Jobs,
        journal: Journal,
        options: CallSettings = DEFAULTS,
        *,
        is_new: bool = False,
        key: KeyFunction | None = None,
        model: str | None = None,
        retries: int = 0,
        fetches: bool = False,
    ) -> None:
        self._jobs = jobs
        self._options = options
        # Without a journal keys tell jobs apart in the outcomes only.
        self._keeps: bool = bool(journal.path)
        self._known = journal if self._keeps and not is_new else None
        self._key = key
        self._model = model
        self._retries = retries
        self._fetches = fetches
        self._failed: tuple[State, ...] = FAILED if retries else ()
        self._entries: AsyncIterator[JournalEntry] | _Lacking | None = None
        if self._known is not None:
            self._entries = self._known.entries(*UNFINISHED, *self._failed)
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

    async def next(self) -> JobState | None:
        """Return the next job (None: none left).

        Raises:
            JournalError: The journal cannot be read.
            Exception: Whatever the caller's iterable, or key function, raises.
        """
        state = await self._next_entry() or await self._next_job()
        if state is None and self._deferred:
            assert self._known is not None
            self._deferred = False
            self._entries = self._known.entries("refused", *self._failed)
            state = await self._next_entry()
        if state is None and not self._looked_back:
            self._looked_back = True
            await self._look_back()
            state = await self._next_entry()
        if state is not None:
            state.index = self._count
            self._count += 1
        return state

    async def aclose(self) -> None:
        """Close the caller's iterable if it is an async generator: only we have a reference."""
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()

    # -- from the journal --------------------------------------------------------------------------------

    async def _next_entry(self) -> JobState | None:
        while self._entries is not None:
            entry = await anext(self._entries, None)
            if entry is None:
                self._entries = None
            elif self._is_wanted(entry):
                return JobState(
                    entry.model,
                    entry.inputs,
                    self._options,
                    entry.key,
                    told=entry.inputs,
                    entry=entry,
                    attempts=entry.runs,
                    spent=entry.cost,
                    is_uncharged=_is_uncharged(entry),
                )
        return None

    def _is_wanted(self, entry: JournalEntry) -> bool:
        """Whether to resume an entry now: never twice, and bytes first from the job that has them."""
        if entry.state in FAILED and entry.runs > self._retries:
            return False
        if self._source is None and entry.state in ("refused", *FAILED) and holds(entry.inputs, _is_blob):
            self._deferred = True
            return False
        # A job that goes on to another state meanwhile is read again there.
        return entry.key not in self._given and self._resumed.add(entry.key)

    async def _look_back(self) -> None:
        """Turn to jobs that ended before, if the caller gave none; else only the caller's count."""
        assert self._known is not None
        if self._gave:
            return
        async for entry in self._known.entries(*FAILED):
            self.failed_before += entry.key not in self._resumed
        if self._fetches:
            self._entries = _Lacking(self._known.entries("done"))

    # -- from the caller ---------------------------------------------------------------------------------

    async def _next_job(self) -> JobState | None:
        while (job := await self._read()) is not None:
            if (state := await self._state(job)) is not None:
                return state
            # Thousands may be left out in a row.
            await anyio.lowlevel.checkpoint()
        return None

    async def _read(self) -> Job | None:
        job: Job | object
        if isinstance(self._jobs, AsyncIterable):
            self._source = self._source or aiter(self._jobs)
            job = await anext(cast(AsyncIterator[Job], self._source), _END)
        else:
            self._source = self._source or iter(self._jobs)
            job = next(cast(Iterator[Job], self._source), _END)
        if job is _END:
            return None
        self._gave = True
        if not isinstance(job, Job):
            raise InvalidInput(
                f"a batch got a {type(job).__name__} for a job; give Job(model, inputs), or use client.map()",
                name="jobs",
            )
        return job

    async def _state(self, job: Job) -> JobState | None:
        """Give a job its key (None: already done, or a duplicate)."""
        try:
            model, given = named(job, self._model)
            # A copy, because some generators yield the same dict again and again.
            inputs = dict(by_name(given))
            told: Mapping[str, Any] = inputs
            if self._keeps and holds(inputs, _is_bytes):
                # As the journal keeps them; bytes are hashed in a worker thread.
                told = await run_in_thread(described, inputs)
            key, is_own = self._key_of(job, model, told)
        except InvalidInput as error:
            name = str(job.key)[:60] if job.key else str(self._count)
            return JobState(job.model or self._model or "", {}, self._options, name, job=job, problem=error)
        if is_own and not self._given.add(key):
            self.skipped += 1
            return None
        entry = None if self._known is None else await self._known.find(key)
        state = JobState(model, inputs, self._options, key, told=told, job=job)
        if entry is None:
            return state
        again = await self._again(state, entry)
        self.changed += again is None and key_of(model, told) != key_of(entry.model, entry.inputs)
        return again

    async def _again(self, state: JobState, entry: JournalEntry) -> JobState | None:
        """Return a job that the journal knows, if it is only resumed when given again."""
        if entry.key in self._resumed:
            return None
        if entry.state in FAILED and entry.runs > self._retries:
            self.failed_before += 1
            return None
        gone = self._fetches and entry.state == "done" and await run_in_thread(_lacks_files, entry)
        if entry.state not in ("refused", *FAILED) and not gone:
            self.skipped += 1
            return None
        state.entry, state.attempts, state.spent = entry, entry.runs, entry.cost
        state.is_uncharged = _is_uncharged(entry)
        return state

    def _key_of(self, job: Job, model: str, told: Mapping[str, Any]) -> tuple[str, bool]:
        """Return a job's key, and whether another job with that key is the same job."""
        key = job.key if self._key is None else self._key(job)
        if key is not None:
            return check_key(key), True
        if not self._keeps:
            return str(self._count), False
        first = key_of(model, told)
        if first not in self._given:
            return first, True
        self._twins[first] = self._twins.get(first, 0) + 1
        return key_of(model, told, self._twins[first]), True


class _Lacking:
    """Those of some jobs with missing files; some hundreds are checked at a time."""

    def __init__(self, rows: AsyncIterator[JournalEntry]) -> None:
        self._entries = rows
        self._found: deque[JournalEntry] = deque()

    async def __anext__(self) -> JournalEntry:
        while not self._found:
            page: list[JournalEntry] = []
            while len(page) < AT_ONCE and (entry := await anext(self._entries, None)) is not None:
                page.append(entry)
            if not page:
                raise StopAsyncIteration
            self._found.extend(await run_in_thread(list, filter(_lacks_files, page)))
        return self._found.popleft()


def _lacks_files(entry: JournalEntry) -> bool:
    """Whether an output of a job is missing on disk; one without a URL was never available."""
    return any(file.url and not (file.path and Path(file.path).is_file()) for file in entry.files)


def _is_uncharged(entry: JournalEntry) -> bool:
    return entry.ended_at is not None and not entry.cost_final


def _is_bytes(value: object) -> bool:
    return isinstance(value, bytes | bytearray)


def _is_blob(value: object) -> bool:
    return isinstance(value, Blob)
