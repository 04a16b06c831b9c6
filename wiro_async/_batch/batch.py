"""Many jobs, each paid for once: read lazily, submitted as the account allows, followed to their ends.

A batch runs its own tasks between entering and leaving its block. It never cancels the code in the block, and
never wraps its exceptions.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, final

import anyio
import attrs

from wiro_async._aio import Alarm, on_asyncio
from wiro_async._batch.options import BatchSettings
from wiro_async._batch.progress import BatchProgress, ProgressCounter
from wiro_async._batch.source import CHANGED, Jobs, JobSource, check_iterable
from wiro_async._batch.stopping import Coordinator, reason_key, reason_of
from wiro_async._config import check, function, truth
from wiro_async._errors import (
    BatchStopped,
    ClientUseError,
    ConfigurationError,
    JournalError,
    SubmissionUnknown,
    WiroError,
)
from wiro_async._jobs.budget import Budget, Charges, Prices
from wiro_async._jobs.job import Inputs, Job, JobOutcome, JobState
from wiro_async._jobs.limiter import Line
from wiro_async._jobs.options import CallSettings
from wiro_async._jobs.pipeline import AHEAD, Pipeline
from wiro_async._jobs.saver import OutputSaver
from wiro_async._jobs.service import Service
from wiro_async._jobs.uploads import Uploads
from wiro_async._journal.journal import Journal, NullJournal
from wiro_async._journal.steps import MEMO, Learned
from wiro_async._protocol.records import Task
from wiro_async._tasks.ends import TaskCancelled
from wiro_async._types import Record, Stage

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from wiro_async._batch.plan import BatchPlan, InvalidJob

__all__ = ["Batch", "BatchFailure", "BatchReport", "as_jobs"]

logger = logging.getLogger("wiro_async.batch")
"""Logs warnings that callers also get as values, in ``BatchPlan`` and ``BatchReport``."""

MOST_PENDING = 1000
"""How many outcomes may wait to be taken before reading pauses."""

REASONS_KEPT = 50

TELL_EVERY = 0.1
"""Minimum seconds between two calls of ``on_progress``."""


class _EachJob:
    """A job for each of some inputs, re-iterable if they are."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self._inputs = inputs

    def __iter__(self) -> Iterator[Job]:
        return (Job(inputs=inputs) for inputs in self._inputs)


class _JobsOf:
    """A job for each of some inputs. A class, because an abandoned generator would have to be closed."""

    def __init__(self, inputs: AsyncIterable[Inputs]) -> None:
        self._inputs = aiter(inputs)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        return Job(inputs=await anext(self._inputs))


def as_jobs(inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> Jobs:
    """Return a job for each of some inputs, lazily.

    Raises:
        InvalidInput: They are no iterable of inputs.
    """
    check_iterable("inputs", inputs, "a list of mappings, one for each job")
    if isinstance(inputs, AsyncIterable):
        return _JobsOf(inputs)
    return iter(_EachJob(inputs)) if isinstance(inputs, Iterator) else _EachJob(inputs)


@attrs.frozen
class BatchFailure(Record):
    """One kind of failure of a batch's jobs.

    Attributes:
        error: The class of the error, such as ``TaskFailed``.
        reason: The message; one example if they differ only in numbers, ids and quoted texts.
        jobs: How many jobs.
    """

    error: str
    reason: str
    jobs: int


@attrs.frozen(kw_only=True)
class BatchReport(Record):
    """The result of a batch.

    Attributes:
        progress: The counts, the money and the time.
        stopped: Why it stopped before all jobs were done (None: it did not).
        failures: The most frequent failures, up to 50, most frequent first.
        journal: The journal's path ("" without one).
    """

    _derived: ClassVar[tuple[str, ...]] = ("complete",)

    progress: BatchProgress
    stopped: BatchStopped | None
    failures: tuple[BatchFailure, ...]
    journal: str = ""

    @property
    def complete(self) -> bool:
        """Whether every job read has succeeded, now or before, and none was left unread."""
        counts = self.progress
        return self.stopped is None and counts.read == counts.skipped + counts.succeeded


@final
class Batch:
    """A batch of jobs, as ``Client.batch`` returns it.

    It is an async context manager, and an async iterator of outcomes.

    ``async with`` starts the work; iterating yields each job's ``JobOutcome`` as it ends. Leaving the block
    early submits nothing more, waits for the Runs in flight, and leaves running tasks to the journal (or
    stops them, with ``stop_on_exit="stop"``); without a journal they are in ``Client.unclaimed``.

    An exception from the jobs' iterable, the key function or ``on_progress`` stops the batch, and is raised
    unchanged after the last outcome, or when the block is left.

    Do not instantiate directly.
    """

    def __init__(self, service: Service, jobs: Jobs, settings: BatchSettings) -> None:
        if settings.memo is not None and settings.journal is None:
            raise ConfigurationError("memo needs a journal to be kept in; pass journal=...")
        if settings.delete_remote and settings.download is None:
            raise ConfigurationError(
                "delete_remote is for outputs that were saved; name a folder for them: download=..."
            )
        check_iterable("jobs", jobs, "a list of Job records")
        self._saver = None
        if settings.download is not None:
            store = service.downloader.store
            self._saver = OutputSaver(settings.download, store, overwrite=settings.overwrite)
        self._service = service
        self._jobs = jobs
        self._settings = settings
        # Wakes whoever waits for an outcome, or for room for another job.
        self._news = Alarm()
        self._entered: bool = False
        self._used_up: bool = False
        self._group: TaskGroup
        self._reading: anyio.CancelScope
        self._journal: Journal = NullJournal()
        self._source: JobSource
        self._budget: Budget
        self._counter: ProgressCounter
        self._coordinator: Coordinator | None = None
        self._pipeline: Pipeline
        self._outcomes: deque[JobOutcome] = deque()
        self._held_back: list[tuple[int, JobOutcome]] = []
        self._next: int = 0
        self._working: int = 0
        self._ended_at: float | None = None
        self._all_read: bool = False
        self._settled: bool = False
        self._problem: Exception | None = None
        self._failures: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}

    async def plan(
        self, *, on_invalid: Callable[[InvalidJob], object] | None = None, unique: bool = False
    ) -> BatchPlan:
        """Work out what this batch would do. Nothing is submitted, and no journal is created.

        All jobs are read. This exhausts a generator or another iterator: plan such jobs on a separate batch.

        Args:
            on_invalid: Called with each job that cannot be sent, before the next job is read.
            unique: Whether a repeated key makes a job invalid; otherwise the job is a duplicate, which
                the batch skips.

        Returns:
            How many jobs there are, which are invalid, what they cost and how long they take, as far as the
            catalogue and the journal tell.

        Raises:
            ConfigurationError: An argument is invalid.
            JournalError: The journal cannot be read.
            AuthenticationError: The service rejects our credentials.
        """
        from wiro_async._batch.plan import make_plan  # noqa: PLC0415 - for those who plan

        check("on_invalid", on_invalid, function)
        check("unique", unique, truth)
        self._used_up = isinstance(self._jobs, Iterator | AsyncIterator)
        settings = self._settings
        return await make_plan(
            self._jobs,
            settings.journal,
            self._service.catalogue,
            check=self._service.config.check if settings.check is None else settings.check,
            key=settings.key,
            model=settings.model,
            retries=settings.retry_failed,
            fetches=settings.download is not None,
            slots=None if settings.concurrency == "auto" else settings.concurrency,
            on_invalid=on_invalid,
            unique=unique,
        )

    # -- entering and leaving ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ClientUseError(
                "a batch can be used only once; make a new one, with the same journal if it has one"
            )
        if self._used_up:
            raise ClientUseError(
                "plan() has read this batch's jobs to their end, and an iterator can be read only once; make "
                "a new batch with new jobs, or pass them as a list"
            )
        self._service.transport.check_use()
        if self._saver is not None:
            await self._saver.check_folder()
        self._entered = True
        group = anyio.create_task_group()
        self._reading = anyio.CancelScope()
        try:
            if self._settings.journal is not None:
                from wiro_async._journal.sqlite import SQLiteJournal  # noqa: PLC0415 - SQLite, for journals

                self._journal = await SQLiteJournal.open(self._settings.journal)
                if self._settings.memo is not None:
                    await self._journal.record(Learned(MEMO, dict(self._settings.memo)))
            await self._set_up()
        except BaseException:
            await self._close_journal()
            raise
        self._group = await group.__aenter__()
        group.start_soon(self._read_all)
        group.start_soon(self._follow_charges)
        if self._settings.on_progress is not None:
            group.start_soon(self._tell_on, self._settings.on_progress)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._jobs_ended():
                self._stop("stopped", "its block was left")
                self._group.cancel_scope.cancel()
            # The group hears of no error: it would wrap it.
            await self._group.__aexit__(None, None, None)
        finally:
            self._ended_at = anyio.current_time()
            self._news.ring()
            await self._put_away()
        if error is None:
            self._raise_problem()

    async def _put_away(self) -> None:
        """Record what was learned, and close the journal, despite any cancellation."""
        self._service.tasks.readers.discard(self._saw)
        learned = (
            Learned("prices", self._pipeline.prices.export()),
            Learned("durations", self._service.tasks.schedule.export()),
        )
        try:
            with anyio.CancelScope(shield=True):
                await self._pipeline.record_charges()
                await self._journal.record(*learned)
        except JournalError as error:
            self._stop("journal", error.message)
        finally:
            await self._close_journal()

    async def _close_journal(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._journal.aclose()

    async def _set_up(self) -> None:
        """Load what the journal knows: money spent, prices, durations."""
        settings, service, journal = self._settings, self._service, self._journal
        counts = await journal.counts()
        # None of the journal's tasks is what a lost answer was about.
        for task_id in await journal.task_ids():
            service.known.add(task_id)
        # A search must not take a task that may be one of theirs, though their turn is yet to come.
        if counts.jobs["intended"] or counts.jobs["unknown"]:
            async for entry in journal.entries("intended", "unknown"):
                service.runs.find(entry.fingerprint)
        prices = Prices()
        prices.merge(await journal.load_stats("prices"))
        service.tasks.schedule.merge(await journal.load_stats("durations"))
        self._source = JobSource(
            self._jobs,
            journal,
            CallSettings(on_unknown=settings.on_unknown, check=settings.check),
            is_new=counts.total == 0,
            key=settings.key,
            model=settings.model,
            retries=settings.retry_failed,
            fetches=settings.download is not None,
        )
        self._budget, charges = await self._count_earlier(counts.cost, prices)
        self._counter = ProgressCounter(anyio.current_time(), settings.total)
        self._coordinator = Coordinator(
            settings,
            self._budget,
            self._counter,
            now=anyio.current_time,
            change=service.limiter.change,
            on_stop=self._reading.cancel,
        )
        self._pipeline = Pipeline(
            service=service,
            line=Line(service.limiter),
            url_of=Uploads(service.uploader.upload, journal).url_of,
            journal=journal,
            budget=self._budget,
            prices=prices,
            charges=charges,
            saver=self._saver,
            monitor=self._coordinator,
            wait_timeout=service.config.limits.wait_timeout if settings.timeout is None else settings.timeout,
            retry_failed=settings.retry_failed,
            stop_on_exit=settings.stop_on_exit == "stop",
            delete_remote=settings.delete_remote,
            ahead=anyio.Semaphore(AHEAD),
        )
        service.tasks.readers.add(self._saw)

    def _saw(self, task: Task) -> None:
        """Hear of a task that a reply to this client has shown: its charge may be awaited."""
        if self._pipeline.saw(task):
            self._news.ring()

    async def _count_earlier(self, spent: Decimal, prices: Prices) -> tuple[Budget, Charges]:
        """Count what earlier processes spent, with estimates for charges that are not recorded yet."""
        uncharged = await self._journal.uncharged()
        bills = self._service.bills
        budget = Budget(self._settings.max_cost, spent, within=None if bills is None else bills.budget)
        charges = Charges(budget, prices)
        for run in reversed(uncharged):  # from the oldest end on
            estimate = run.counted or prices.highest(run.model, run.inputs)
            budget.expect(run.task_id, estimate, before=run.counted)
            charges.add(run, anyio.current_time() - max(time.time() - run.ended_at, 0.0))
        return budget, charges

    # -- the work ----------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        """Read jobs while there is room for their outcomes, and start a worker for each."""
        source = self._source
        try:
            with _no_stray_cancellation("the jobs' iterable, or the key function"):
                try:
                    # Whoever stops the batch does not wait for the next job.
                    with self._reading:
                        # Before new money is spent: what earlier processes spent may be known by now.
                        await self._pipeline.settle_charges()
                        while self._stopped is None:
                            await self._make_room()
                            job = await source.next()
                            self._count_left_out()
                            if job is None:
                                self._counter.total = self.progress.read
                                break
                            await self._begin(job)
                finally:
                    await source.aclose()
        except JournalError as error:
            assert self._coordinator is not None
            self._coordinator.heed(error)
        except Exception as error:
            self._give_up(error, f"its jobs could not be read: {error}")
        finally:
            self._all_read = True
            self._news.ring()
            if source.changed:
                logger.warning(CHANGED, source.changed)

    async def _follow_charges(self) -> None:
        """Read charges that are recorded late: now and then, and once more when all jobs have ended."""
        pipeline, charges = self._pipeline, self._pipeline.charges
        assert charges is not None
        try:
            while not self._jobs_ended():
                look = charges.next_look()
                if pipeline.charged:
                    await pipeline.record_charges()
                elif anyio.current_time() >= look:
                    await pipeline.settle_charges()
                else:
                    await self._news.sleep_until(look)
            await pipeline.settle_charges(last=True)
        except Exception as error:
            self._give_up(error, f"charges could not be read: {error!r}")
        finally:
            self._settled = True
            self._news.ring()

    async def _make_room(self) -> None:
        assert self._coordinator is not None
        while (
            len(self._outcomes) + len(self._held_back) >= MOST_PENDING or not self._coordinator.may_download
        ):
            await self._news.sleep_until()

    def _count_left_out(self) -> None:
        source, now = self._source, anyio.current_time()
        left_out: dict[Stage, int] = {"skipped": source.skipped, "failed_before": source.failed_before}
        for stage, count in left_out.items():
            for _ in range(count - self._counter.count(stage)):
                self._counter.moved(None, stage, now)

    async def _begin(self, job: JobState) -> None:
        assert self._coordinator is not None
        self._working += 1
        self._coordinator.moved(job, "waiting")
        started = anyio.Event()
        job.let_next = started.set
        self._group.start_soon(self._work, job, started)
        # One job at a time waits for a slot; those behind it are not even read.
        await started.wait()

    async def _work(self, job: JobState, started: anyio.Event) -> None:
        try:
            with _no_stray_cancellation(f"an input of the job {job.key!r}"):
                outcome = await self._pipeline.perform(job)
            self._take(job, outcome)
        except Exception as error:
            self._give_up(error, f"the job {job.key!r} raised an unexpected error: {error!r}")
        finally:
            started.set()
            self._working -= 1
            self._news.ring()

    @property
    def _stopped(self) -> BatchStopped | None:
        return None if self._coordinator is None else self._coordinator.stopped

    def _stop(self, reason: str, why: str) -> None:
        if self._coordinator is not None:
            self._coordinator.stop(reason, why)
            self._news.ring()

    def _give_up(self, error: Exception, why: str) -> None:
        """Keep the first error that is not a job's outcome, to raise at the end."""
        self._problem = self._problem or error
        self._stop("stopped", why)

    def _raise_problem(self) -> None:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    async def _tell_on(self, tell: Callable[[BatchProgress], object]) -> None:
        """Report progress to the caller: at once, then at most ten times a second, and at the end."""
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

    def _take(self, job: JobState, outcome: JobOutcome) -> None:
        """Take the outcome of a job, and release it in its turn."""
        assert self._coordinator is not None
        error = outcome.error
        self._coordinator.moved(job, _stage_of(error))
        if error is not None and not isinstance(error, BatchStopped):
            reason = reason_of(error)
            key = (type(error).__name__, reason_key(reason))
            if key in self._failures or len(self._failures) < REASONS_KEPT:
                self._failures[key] += 1
                self._examples.setdefault(key, reason)
        if not self._settings.ordered:
            self._outcomes.append(outcome)
            return
        heapq.heappush(self._held_back, (job.index, outcome))
        while self._held_back and self._held_back[0][0] == self._next:
            self._outcomes.append(heapq.heappop(self._held_back)[1])
            self._next += 1

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobOutcome:
        if self._coordinator is None:
            raise ClientUseError("this batch has not begun: iterate within `async with client.batch(...)`")
        while not self._outcomes:
            if not self._is_over():
                await self._news.sleep_until()
            elif self._held_back:
                # A job that was cut off has no outcome: those behind it wait for nothing.
                self._outcomes.append(heapq.heappop(self._held_back)[1])
            else:
                self._raise_problem()
                raise StopAsyncIteration
        outcome = self._outcomes.popleft()
        self._news.ring()
        return outcome

    def _is_over(self) -> bool:
        return self._ended_at is not None or (self._jobs_ended() and self._settled)

    def _jobs_ended(self) -> bool:
        return self._all_read and self._working == 0

    async def wait(self) -> BatchReport:
        """Run the batch to its end, and discard the outcomes.

        Returns:
            The report.

        Raises:
            Exception: What the jobs' iterable, the key function or ``on_progress`` raised.
        """
        async for _ in self:
            pass
        return self.report

    def stop(self) -> None:
        """Make no more Runs; running tasks are awaited."""
        self._stop("stopped", "stop() was called")

    @property
    def progress(self) -> BatchProgress:
        """The current progress, or the final one after the block."""
        if self._coordinator is None:
            raise ClientUseError("this batch has not begun: enter it with `async with client.batch(...)`")
        now = anyio.current_time() if self._ended_at is None else self._ended_at
        return self._counter.progress(now, self._budget.spent, self._budget.reserved)

    @property
    def report(self) -> BatchReport:
        """The report so far."""
        failures = tuple(
            BatchFailure(key[0], self._examples[key], count) for key, count in self._failures.most_common()
        )
        return BatchReport(
            progress=self.progress, stopped=self._stopped, failures=failures, journal=self._journal.path
        )


@contextmanager
def _no_stray_cancellation(whose: str) -> Iterator[None]:
    """Turn a cancellation that the caller's code raises itself into an ordinary error.

    A task group would mistake it for its own, and cancel the block that the batch is used in.
    """
    try:
        yield
    except anyio.get_cancelled_exc_class() as error:
        if _is_being_cancelled():
            raise
        raise ClientUseError(f"{whose} raised {type(error).__name__}, and nothing was cancelled") from error


def _is_being_cancelled() -> bool:
    """Return whether this task is being cancelled, by a scope around it or by asyncio."""
    if anyio.current_effective_deadline() == float("-inf"):
        return True
    task = asyncio.current_task() if on_asyncio() else None
    return task is not None and task.cancelling() > 0


def _stage_of(error: WiroError | OSError | None) -> Stage:
    if error is None:
        return "succeeded"
    if isinstance(error, BatchStopped):
        return "not_started"
    if isinstance(error, TaskCancelled):
        return "cancelled"
    return "unknown" if isinstance(error, SubmissionUnknown) else "failed"
