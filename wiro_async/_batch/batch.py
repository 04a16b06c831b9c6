"""Many jobs, each paid for once: read as there is room, submitted as the account allows, seen to their ends.

A batch does its work in tasks of its own, between entering its block and leaving it. It never cancels the
code in the block, and never wraps what that raises.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast, final, get_args

import anyio
import attrs

from wiro_async._aio.shield import on_asyncio
from wiro_async._batch.coordinator import Coordinator, Terms
from wiro_async._batch.progress import BatchProgress, ProgressCounter, Stage
from wiro_async._batch.runner import JobRunner
from wiro_async._batch.source import CHANGED, Entry, Jobs, JobSource, KeyFunction
from wiro_async._batch.stopping import Breaker, Canary, reason_key, reason_of
from wiro_async._errors import (
    BatchStopped,
    ClientUseError,
    ConfigurationError,
    JournalError,
    SubmissionUnknown,
    TaskCancelled,
    WiroError,
)
from wiro_async._jobs.book import Book
from wiro_async._jobs.budget import Budget, Prices
from wiro_async._jobs.job import Inputs, Job, JobOutcome, check_template
from wiro_async._jobs.limiter import Bell, ConcurrencyLimiter
from wiro_async._jobs.window import Window
from wiro_async._journal.sqlite import Journal
from wiro_async._types import JSONMapping, OnUnknown

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from wiro_async._batch.plan import BatchPlan, InvalidJob
    from wiro_async._client import Client

__all__ = ["Batch", "BatchFailure", "BatchReport", "as_jobs", "batch_settings"]

batch_logger = logging.getLogger("wiro_async.batch")
"""Has the warnings that a caller gets as values too, in ``BatchPlan`` and ``BatchReport``."""

MOST_PENDING = 1000
"""Outcomes that may wait to be taken before no more jobs are read."""

MOST_DOWNLOADS = 64
"""Jobs whose outputs may be on the way before no more jobs are submitted."""

REASONS_KEPT = 50

MEMO = "batch"
"""Under which name the journal keeps what its batch is asked to remember."""

TELL_EVERY = 0.1
"""Seconds between two calls of ``on_progress`` at least."""


@attrs.frozen(kw_only=True)
class Settings:
    """How a batch is to work; the arguments of ``Client.batch``, checked."""

    terms: Terms
    journal: str | PathLike[str] | None = None
    key: KeyFunction | None = None
    model: str | None = None
    concurrency: int | None = None
    max_cost: Decimal | None = None
    ordered: bool = False
    breaker: int | None = 20
    canary: int = 0
    on_progress: Callable[[BatchProgress], object] | None = None
    total: int | None = None
    memo: JSONMapping | None = None


def batch_settings(
    *,
    journal: str | PathLike[str] | None,
    key: KeyFunction | None,
    model: str | None,
    concurrency: object,
    max_cost: object,
    download: str | PathLike[str] | None,
    ordered: bool,
    breaker: int | None,
    canary: int,
    on_progress: Callable[[BatchProgress], object] | None,
    total: int | None,
    memo: JSONMapping | None,
    **terms: Any,
) -> Settings:
    """Check a batch's arguments.

    Raises:
        ConfigurationError: One of them cannot work.
    """
    for name, value, least in (
        ("breaker", breaker, 1),
        ("total", total, 0),
        ("concurrency", None if concurrency == "auto" else concurrency, 1),
    ):
        if value is not None:
            _check_count(name, value, least)
    _check_count("canary", canary, 0)
    _check_terms(download, **terms)
    if memo is not None and journal is None:
        raise ConfigurationError("memo is kept in the journal, and there is none; name one: journal=...")
    return Settings(
        terms=Terms(download=None if download is None else check_template(os.fspath(download)), **terms),
        journal=journal,
        key=key,
        model=model,
        concurrency=concurrency if isinstance(concurrency, int) else None,
        max_cost=_amount(max_cost),
        ordered=ordered,
        breaker=breaker,
        canary=canary,
        on_progress=on_progress,
        total=total,
        memo=memo,
    )


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is {value!r}; it must be a whole number of at least {least}")


def _check_terms(
    download: object,
    *,
    retry_failed: object,
    timeout: object,
    on_unknown: object,
    stop_on_exit: object,
    delete_remote: bool,
    **_: object,
) -> None:
    _check_count("retry_failed", retry_failed, 0)
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and cast(float, timeout) >= 0):
        raise ConfigurationError(f"timeout is {timeout!r}; it must be seconds that are not negative, or None")
    for name, value, choices in (
        ("on_unknown", on_unknown, get_args(OnUnknown)),
        ("stop_on_exit", stop_on_exit, ("leave", "stop")),
    ):
        if value not in choices:
            raise ConfigurationError(f"{name} is {value!r}; it must be {' or '.join(map(repr, choices))}")
    if delete_remote and download is None:
        raise ConfigurationError(
            "delete_remote is for outputs that were saved; name a folder for them: download=..."
        )


def _amount(value: object) -> Decimal | None:
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"max_cost is {value!r}; it must be an amount in USD that is not negative")
    return amount


class _EachJob:
    """A job for each of some inputs, as often as these can be iterated."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self._inputs = inputs

    def __iter__(self) -> Iterator[Job]:
        return (Job(inputs=inputs) for inputs in self._inputs)


class _JobsOf:
    """A job for each of some inputs. A class, because a generator that is left would have to be closed."""

    def __init__(self, inputs: AsyncIterable[Inputs]) -> None:
        self._inputs = aiter(inputs)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        return Job(inputs=await anext(self._inputs))


def as_jobs(inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> Jobs:
    """Return a job for each of some inputs, as they come."""
    if isinstance(inputs, AsyncIterable):
        return _JobsOf(inputs)
    return iter(_EachJob(inputs)) if isinstance(inputs, Iterator) else _EachJob(inputs)


@attrs.frozen
class BatchFailure:
    """A way in which jobs of a batch came to nothing.

    Attributes:
        error: The class of the error, such as ``TaskFailed``.
        reason: What was said; one example where the jobs differ in numbers, ids and quoted texts only.
        jobs: How many jobs.
    """

    error: str
    reason: str
    jobs: int


@attrs.frozen(kw_only=True)
class BatchReport:
    """What became of a batch.

    Attributes:
        progress: The counts, the money and the time.
        stopped: Why it made no more Runs before all were done (None: it did all that it was given).
        failures: The commonest failures, at most 50, most frequent first.
        journal: The journal's path ("" without one).
    """

    progress: BatchProgress
    stopped: BatchStopped | None
    failures: tuple[BatchFailure, ...]
    journal: str = ""

    @property
    def complete(self) -> bool:
        """Whether every job that was read has succeeded, now or before, and none was left unread."""
        counts = self.progress
        return self.stopped is None and counts.read == counts.skipped + counts.succeeded


@final
class Batch:
    """A batch of jobs, as ``Client.batch`` returns it.

    It is an async context manager, and an async iterator of outcomes.

    ``async with`` begins the work; iterating yields each job's ``JobOutcome`` as it ends. Leaving the block
    early submits nothing more, waits for the Runs that are on their way, and leaves the tasks that run to the
    journal (or stops them, with ``stop_on_exit="stop"``); without a journal they are in ``Client.unclaimed``.

    What the jobs' iterable, the key function or ``on_progress`` raises stops the batch, and is raised, as it
    is, when all outcomes have been handed out, or the block is left.

    Do not instantiate directly.
    """

    def __init__(self, client: Client, jobs: Jobs, settings: Settings) -> None:
        self._client = client
        self._jobs = jobs
        self._settings = settings
        self._bell = Bell()
        self._entered: bool = False
        self._used_up: bool = False
        self._group: TaskGroup
        self._reading: anyio.CancelScope
        self._journal: Journal | None = None
        self._intake: JobSource
        self._desk: Coordinator | None = None
        self._outcomes: deque[JobOutcome] = deque()
        self._held_back: list[tuple[int, JobOutcome]] = []
        self._next: int = 0
        self._working: int = 0
        self._ended_at: float | None = None
        self._all_read: bool = False
        self._problem: Exception | None = None
        self._failures: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}

    async def plan(
        self, *, on_invalid: Callable[[InvalidJob], object] | None = None, unique: bool = False
    ) -> BatchPlan:
        """Find out what this batch would do. Nothing is submitted, and no journal is made.

        The jobs are read to their end. Those of a generator, or of another iterator, are gone then: plan such
        jobs on a batch of their own.

        Args:
            on_invalid: Called with each job that cannot be sent, before the next job is read.
            unique: Whether a key that came before makes a job invalid; else the job is a duplicate, which
                the batch leaves out.

        Returns:
            How many jobs there are, which of them cannot work, what they cost and how long they take, as far
            as the catalogue and the journal tell.

        Raises:
            JournalError: The journal cannot be read.
            WiroError: The catalogue was not reached.
        """
        from wiro_async._batch.plan import make_plan  # noqa: PLC0415 - it is for those who plan

        self._used_up = isinstance(self._jobs, Iterator | AsyncIterator)
        settings = self._settings
        return await make_plan(
            self._jobs,
            settings.journal,
            self._client.get_model,
            key=settings.key,
            model=settings.model,
            retries=settings.terms.retry_failed,
            fetches=settings.terms.download is not None,
            slots=settings.concurrency,
            on_invalid=on_invalid,
            unique=unique,
        )

    # -- entering and leaving ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ClientUseError("a batch works once; make a new one, on the same journal if it has one")
        if self._used_up:
            raise ClientUseError(
                "plan() has read this batch's jobs to their end, and an iterator gives them once; make a new "
                "batch with new jobs, or give them as a list"
            )
        self._entered = True
        group = anyio.create_task_group()
        self._reading = anyio.CancelScope()
        try:
            if self._settings.journal is not None:
                self._journal = await Journal.open(self._settings.journal)
                if self._settings.memo is not None:
                    await self._journal.save_stats(MEMO, dict(self._settings.memo))
            self._desk = await self._set_up(self._journal)
        except BaseException:
            await self._close_journal()
            raise
        self._group = await group.__aenter__()
        group.start_soon(self._read_all, self._desk)
        if self._settings.on_progress is not None:
            group.start_soon(self._tell_on, self._settings.on_progress)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._desk is not None
        try:
            if not self._is_over():
                self._desk.stop("stopped", "its block was left")
                self._group.cancel_scope.cancel()
            # The group hears of no error: it would wrap it.
            await self._group.__aexit__(None, None, None)
        finally:
            self._ended_at = anyio.current_time()
            self._bell.ring()
            await self._put_away(self._desk)
        if error is None:
            self._raise_problem()

    async def _put_away(self, desk: Coordinator) -> None:
        """Write down what was learned, and close the journal, whatever cancellation comes."""
        try:
            with anyio.CancelScope(shield=True):
                await desk.book.save_stats("prices", desk.prices.export())
                await desk.book.save_stats("durations", self._client._shared.schedule.export())
        finally:
            await self._close_journal()

    async def _close_journal(self) -> None:
        if self._journal is not None:
            with anyio.CancelScope(shield=True):
                await self._journal.aclose()

    async def _set_up(self, journal: Journal | None) -> Coordinator:
        """Take over what the journal knows: what was spent, what it costs, how long it takes."""
        settings, client = self._settings, self._client
        spent, is_new = Decimal(0), True
        if journal is not None:
            counts = await journal.counts()
            spent, is_new = counts.cost, counts.total == 0
            await client._hold(journal)
        book = Book(journal)
        prices = Prices()
        prices.merge(await book.load_stats("prices"))
        client._shared.schedule.merge(await book.load_stats("durations"))
        self._intake = JobSource(
            self._jobs,
            journal,
            is_new=is_new,
            key=settings.key,
            model=settings.model,
            retries=settings.terms.retry_failed,
            fetches=settings.terms.download is not None,
        )
        return Coordinator(
            client,
            settings.terms,
            door=ConcurrencyLimiter(Window(settings.concurrency), self._bell),
            bell=self._bell,
            book=book,
            budget=Budget(settings.max_cost, spent),
            prices=prices,
            breaker=Breaker(settings.breaker),
            canary=Canary(settings.canary),
            tally=ProgressCounter(anyio.current_time(), settings.total),
            on_stop=self._reading.cancel,
        )

    # -- the work ----------------------------------------------------------------------------------------

    async def _read_all(self, desk: Coordinator) -> None:
        try:
            with _no_stray_cancellation("the jobs' iterable, or the key function"):
                try:
                    # Who stops the batch does not wait for the next job.
                    with self._reading:
                        await self._read_on(desk)
                finally:
                    await self._intake.aclose()
        except JournalError as error:
            desk.heed(error)
        except Exception as error:
            self._give_up(error, f"its jobs could not be read: {error}")
        finally:
            self._all_read = True
            self._bell.ring()
            if self._intake.changed:
                batch_logger.warning(CHANGED, self._intake.changed)

    async def _read_on(self, desk: Coordinator) -> None:
        """Read jobs as long as there is room for what they bring, and set a worker on each."""
        while desk.stopped is None:
            await self._make_room(desk)
            entry = await self._intake.next()
            self._count_left_out(desk)
            if entry is None:
                desk.tally.total = self.progress.read
                return
            await self._begin(desk, entry)

    async def _begin(self, desk: Coordinator, entry: Entry) -> None:
        self._working += 1
        desk.move(entry, "waiting")
        started = anyio.Event()
        self._group.start_soon(self._work, desk, entry, started)
        # One job at a time stands at the door; those behind it are not even read.
        await started.wait()

    async def _work(self, desk: Coordinator, entry: Entry, started: anyio.Event) -> None:
        try:
            with _no_stray_cancellation(f"an input of the job {entry.key!r}"):
                outcome = await JobRunner(desk, entry, started.set).perform()
            self._take(desk, entry, outcome)
        except Exception as error:
            self._give_up(error, f"the job {entry.key!r} met an error that nobody thought of: {error!r}")
        finally:
            started.set()
            self._working -= 1
            self._bell.ring()

    async def _make_room(self, desk: Coordinator) -> None:
        while (
            len(self._outcomes) + len(self._held_back) >= MOST_PENDING
            or desk.tally.count("downloading") >= MOST_DOWNLOADS
        ):
            await self._bell.wait()

    def _count_left_out(self, desk: Coordinator) -> None:
        intake, now = self._intake, anyio.current_time()
        left_out: dict[Stage, int] = {"skipped": intake.skipped, "failed_before": intake.failed_before}
        for stage, count in left_out.items():
            for _ in range(count - desk.tally.count(stage)):
                desk.tally.moved(None, stage, now)

    def _give_up(self, error: Exception, why: str) -> None:
        """Keep the first error that is no job's outcome, to raise it at the end."""
        assert self._desk is not None
        self._problem = self._problem or error
        self._desk.stop("stopped", why)

    def _raise_problem(self) -> None:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    async def _tell_on(self, tell: Callable[[BatchProgress], object]) -> None:
        """Tell the caller how it goes: at once, and then at most ten times a second, the end included."""
        try:
            told, is_over = None, False
            while not is_over:
                is_over, now = self._is_over(), self.progress
                counts = attrs.evolve(now, rate=0.0, eta=None, elapsed=0.0)
                if is_over or counts != told:
                    told = counts
                    with _no_stray_cancellation("on_progress"):
                        tell(now)
                if not is_over:
                    await anyio.sleep(TELL_EVERY)
        except Exception as error:
            self._give_up(error, f"on_progress raised {error!r}")

    # -- outcomes ----------------------------------------------------------------------------------------

    def _take(self, desk: Coordinator, entry: Entry, outcome: JobOutcome) -> None:
        """Take the outcome of a job, and hand it out when it is its turn."""
        desk.move(entry, _stage_of(outcome.error))
        if outcome.error is not None and not isinstance(outcome.error, BatchStopped):
            self._note(outcome.error)
        if not self._settings.ordered:
            self._outcomes.append(outcome)
            return
        heapq.heappush(self._held_back, (entry.index, outcome))
        while self._held_back and self._held_back[0][0] == self._next:
            self._outcomes.append(heapq.heappop(self._held_back)[1])
            self._next += 1

    def _note(self, error: WiroError | OSError) -> None:
        reason = reason_of(error) if isinstance(error, WiroError) else str(error)
        key = (type(error).__name__, reason_key(reason))
        if key in self._failures or len(self._failures) < REASONS_KEPT:
            self._failures[key] += 1
            self._examples.setdefault(key, reason)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobOutcome:
        if self._desk is None:
            raise ClientUseError("this batch has not begun: iterate within `async with client.batch(...)`")
        while not self._outcomes:
            if self._is_over():
                self._raise_problem()
                raise StopAsyncIteration
            await self._bell.wait()
        outcome = self._outcomes.popleft()
        self._bell.ring()
        return outcome

    def _is_over(self) -> bool:
        return self._ended_at is not None or (self._all_read and self._working == 0)

    async def wait(self) -> BatchReport:
        """Let the batch run to its end, and leave out the outcomes.

        Returns:
            What became of it.

        Raises:
            Exception: What the jobs' iterable, the key function or ``on_progress`` raised.
        """
        async for _ in self:
            pass
        return self.report

    def stop(self) -> None:
        """Make no more Runs; what runs is seen to its end."""
        if self._desk is not None:
            self._desk.stop("stopped", "stop() was called")

    @property
    def progress(self) -> BatchProgress:
        """How it stands now, or how it stood when its block was left."""
        if self._desk is None:
            raise ClientUseError("this batch has not begun: enter it with `async with client.batch(...)`")
        budget = self._desk.budget
        now = anyio.current_time() if self._ended_at is None else self._ended_at
        return self._desk.tally.progress(now, budget.spent, budget.reserved)

    @property
    def report(self) -> BatchReport:
        """What became of it so far."""
        progress = self.progress
        assert self._desk is not None
        failures = tuple(
            BatchFailure(key[0], self._examples[key], count) for key, count in self._failures.most_common()
        )
        path = "" if self._journal is None else self._journal.path
        return BatchReport(progress=progress, stopped=self._desk.stopped, failures=failures, journal=path)


@contextmanager
def _no_stray_cancellation(whose: str) -> Iterator[None]:
    """Make a cancellation that the caller's code raises by itself an error like any other.

    A task group would take it for its own, and cancel the block that the batch is used in.
    """
    try:
        yield
    except anyio.get_cancelled_exc_class() as error:
        if _is_being_cancelled():
            raise
        raise RuntimeError(f"{whose} raised {type(error).__name__}, and nothing was cancelled") from error


def _is_being_cancelled() -> bool:
    """Tell whether this task is being cancelled: by a scope around it, or by asyncio itself."""
    if anyio.current_effective_deadline() == float("-inf"):
        return True
    task = asyncio.current_task() if on_asyncio() else None
    return task is not None and task.cancelling() > 0


def _stage_of(error: WiroError | OSError | None) -> Stage:
    if error is None:
        return "succeeded"
    if isinstance(error, TaskCancelled | BatchStopped):
        return "cancelled"
    return "unknown" if isinstance(error, SubmissionUnknown) else "failed"
