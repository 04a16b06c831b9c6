"""One behaviour of the service over real sockets, met in three ways.

A job is a single call, a job of a batch with a journal, or one of a batch that was cut off while its task
ran, and that another client resumes. A task runs until the sandbox lets it end, so that it is certain what
the batch that was cut off had seen of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, get_args

import attrs

from tests.batches import MODEL
from tests.journals import rows_of
from tests.servers import until
from wiro_async import (
    Batch,
    BatchReport,
    BatchStopped,
    Client,
    Job,
    JobOutcome,
    JournalEntry,
    Limits,
    Polling,
    TaskHandle,
    WiroError,
)
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox._engine import Action
from wiro_async.sandbox.faults import FaultPlan

Way: TypeAlias = Literal["single", "batch", "resumed"]
WAYS: tuple[Way, ...] = get_args(Way)
IN_A_BATCH: tuple[Way, ...] = ("batch", "resumed")

POLLING = Polling(min_interval=0.03, max_interval=0.1, requests_per_second=500.0)
LIMITS = Limits(settle_timeout=0.25, error_grace=0.25, request_timeout=5.0)
HANG = "[sandbox:hang]"
TERMINAL = ("task_postprocess_end", "task_cancel")


@attrs.frozen
class Told:
    """What was told of a job.

    Attributes:
        error: What its caller met, or its outcome (None: it succeeded, now or before).
        cost: Its charge in USD, where the service has told it.
        paths: What was saved of it.
        row: What the journal has of it (None: it is a single call).
    """

    error: WiroError | OSError | None
    cost: Decimal | None
    paths: tuple[Path, ...] = ()
    row: JournalEntry | None = None


class Bench:
    """A sandbox, and what plays jobs on it in one of the ways.

    Args:
        way: Which one.
        folder: For the journal, and for outputs.
        download: Whether outputs are saved, in *folder*.
        limits: The client's bounds.
        options: The sandbox's.

    Attributes:
        plan: What the wire does.
        jobs: What is played.
        own: The client that makes the single calls, or has the batch.
        clips: Where outputs are saved.
        journal: The batch's journal.
        report: The last batch's (None: there was none).
    """

    def __init__(
        self, way: Way, folder: Path, *, download: bool = False, limits: Limits = LIMITS, **options: Any
    ) -> None:
        self.way: Way = way
        self.plan: FaultPlan = FaultPlan()
        self.clips: Path = folder / "clips"
        self.limits: Limits = limits
        self.report: BatchReport | None = None
        self.journal: Path = folder / "a.db"
        self._download = download
        usual = {"speed": 200.0, "render": False, "balance": 1000.0, "price": 0.35, "queue_mean": 0.0}
        self.sandbox: Sandbox = Sandbox(faults=self.plan, **{**usual, **options})
        self._handles: dict[str, TaskHandle] = {}
        self.jobs: list[Job] = []
        self.own: Client
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self.sandbox)
        if self.way == "single":
            self.own = await self._open.enter_async_context(self._client())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    # -- the service ---------------------------------------------------------------------------------------

    @property
    def runs(self) -> int:
        """How many tasks were made."""
        return int(self.sandbox.ledger()["runs"])

    def steer(self, action: Action, *prompts: str) -> None:
        """Steer the tasks of some prompts (none: all), as far as they live or are to tell something."""
        for task in self.sandbox.ledger()["tasks"]:
            is_meant = not prompts or task["prompt"].split()[0] in prompts
            if is_meant and (task["status"] not in TERMINAL or action == "tell"):
                self.sandbox.engine.steer(task["id"], action, self.sandbox._clock())

    @property
    def stopped(self) -> str | None:
        """Why the last batch stopped (None: it did not)."""
        assert self.report is not None
        return None if self.report.stopped is None else self.report.stopped.reason

    @property
    def spent(self) -> Decimal:
        """What the last batch counts as spent."""
        assert self.report is not None
        return self.report.progress.spent

    # -- the caller ----------------------------------------------------------------------------------------

    async def play(
        self,
        *prompts: str,
        fate: str = HANG,
        tasks: int | None = None,
        then: Callable[[], object] | None = None,
        **options: Any,
    ) -> dict[str, Told]:
        """Play a job for each prompt, by which it is called afterwards.

        Args:
            prompts: The prompts.
            fate: What else their prompts ask of the sandbox.
            tasks: How many tasks are made before they go on (None: one for each).
            then: What happens then, after the batch was cut off if it is (None: all tasks finish).
            options: The batch's.
        """
        self.prepare(*prompts, fate=fate)
        happen = then or (lambda: self.steer("finish"))
        if self.way == "single":
            for job in self.jobs:
                self._handles[str(job.key)] = await self.own.submit(MODEL, job.inputs)
            happen()
            return {prompt: await self._waited(prompt) for prompt in prompts}
        tasks = len(self.jobs) if tasks is None else tasks
        if self.way == "resumed":
            await self.cut_off(tasks, **options)
            happen()
            return await self.again(**options)
        async with self.batch(**options) as batch:
            await until(lambda: begun(batch) >= tasks)
            happen()
            outcomes = await outcomes_of(batch)
        return await self.told(outcomes)

    def prepare(self, *prompts: str, fate: str = HANG) -> None:
        """Have a job for each prompt, beside those that there are."""
        for prompt in prompts:
            inputs = {"prompt": f"{prompt} {fate}", "inputImageFirstUrl": "https://example.org/a.jpg"}
            self.jobs.append(Job(MODEL, inputs, key=prompt))

    async def again(self, **options: Any) -> dict[str, Told]:
        """Look again at all jobs: who has handles refreshes them, and waits; a batch is resumed."""
        if self.way == "single":
            for handle in self._handles.values():
                await handle.refresh()
            return {prompt: await self._waited(prompt) for prompt in self._handles}
        async with self.batch(**options) as batch:
            outcomes = await outcomes_of(batch)
        return await self.told(outcomes)

    async def cut_off(self, tasks: int, **options: Any) -> None:
        """Leave the block of a batch once so many tasks are known."""
        async with self.batch(**options) as batch:
            await until(lambda: begun(batch) >= tasks)

    @asynccontextmanager
    async def batch(self, **options: Any) -> AsyncIterator[Batch]:
        """Enter a batch of the jobs, or resume it, on a client of its own."""
        download = f"{self.clips}/{{key}}_{{n}}{{ext}}" if self._download else None
        usual = {"journal": self.journal, "download": download, "concurrency": max(len(self.jobs), 1)}
        async with self._client() as own, own.batch(self.jobs, **{**usual, **options}) as batch:
            self.own = own
            yield batch
        self.report = batch.report

    async def told(self, outcomes: dict[str, JobOutcome]) -> dict[str, Told]:
        """Tell what became of each job that has ended, now or before; those without a row had no Run."""
        rows = await rows_of(self.journal)
        for key in outcomes.keys() - rows.keys():
            assert isinstance(outcomes[key].error, BatchStopped)
        return {
            key: _told(outcomes.get(key), row)
            for key, row in rows.items()
            if key in outcomes or row.state in ("done", "failed", "cancelled")
        }

    async def _waited(self, prompt: str) -> Told:
        handle, paths = self._handles[prompt], tuple[Path, ...]()
        try:
            result = await handle
            if self._download:
                paths = tuple(await result.save(self.clips))
        except (WiroError, OSError) as error:
            return Told(error, None if handle.task is None else handle.task.cost)
        return Told(None, result.cost, paths)

    def _client(self) -> Client:
        config = self.sandbox.config
        return Client(
            config.api_key,
            config.api_secret,
            base_url=self.sandbox.base_url,
            watch="poll",
            polling=POLLING,
            limits=self.limits,
        )


def begun(batch: Batch) -> int:
    """How many of a batch's jobs have a task, be it over or not."""
    counts = batch.progress
    return counts.running + counts.downloading + counts.succeeded + counts.failed


async def outcomes_of(batch: Batch) -> dict[str, JobOutcome]:
    """Return all outcomes of a batch, by their keys."""
    return {outcome.key: outcome async for outcome in batch}


def _told(outcome: JobOutcome | None, row: JournalEntry) -> Told:
    cost = row.cost if row.cost_final else None
    if outcome is None:
        return Told(None, cost, row=row)
    assert outcome.error is not None or outcome.cost in (None, cost)
    return Told(outcome.error, cost, outcome.paths, row)
