"""What the workers of one batch share: the door, the money, the book, and the decision to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import anyio
import attrs

from wiro_async._aio.waiting import Gate
from wiro_async._batch.progress import ProgressCounter, Stage
from wiro_async._batch.source import Entry
from wiro_async._batch.stopping import Breaker, Canary, reason_of
from wiro_async._errors import (
    AuthenticationError,
    BatchStopped,
    ConcurrencyLimited,
    InsufficientBalance,
    JournalError,
    SubmissionUnknown,
    TaskCancelled,
    TaskFailed,
    WiroError,
)
from wiro_async._jobs.book import Book
from wiro_async._jobs.budget import ZERO, Budget, Prices, plain
from wiro_async._jobs.limiter import Bell, ConcurrencyLimiter
from wiro_async._jobs.saver import OutputSaver, Uploads
from wiro_async._jobs.submit import Run
from wiro_async._protocol.matching import RunFingerprint, unknown
from wiro_async._protocol.operations import clean_slug
from wiro_async._protocol.records import Accepted, Task, TaskKey
from wiro_async._tasks.handle import TaskHandle
from wiro_async._types import OnUnknown

if TYPE_CHECKING:
    from wiro_async._client import Client

__all__ = ["Coordinator", "Terms"]

logger = logging.getLogger("wiro_async")
batch_logger = logging.getLogger("wiro_async.batch")
"""Has the warnings that a caller gets as values too, in ``BatchPlan`` and ``BatchReport``."""

AHEAD = 8
"""How many jobs may upload their files, or be looked for, before it is their turn."""


@attrs.frozen(kw_only=True)
class Terms:
    """What a batch was told.

    Attributes:
        download: Where outputs go; see ``check_template`` (None: nowhere).
        delete_remote: Whether the service's copies are deleted after that.
        timeout: Seconds to wait for one task's end (None: ``Limits.wait_timeout``).
        retry_failed: How often a failed job is run again.
        fail_fast: Whether the first failure stops the batch.
        on_unknown: What to do with a Run whose answer was lost and whose task was proved absent.
        stop_on_exit: What becomes of running tasks when the batch is left.
    """

    download: str | None = None
    delete_remote: bool = False
    timeout: float | None = None
    retry_failed: int = 0
    fail_fast: bool = False
    on_unknown: OnUnknown = "raise"
    stop_on_exit: Literal["leave", "stop"] = "leave"


class Coordinator:
    """Serves the workers of one batch.

    Args:
        client: Makes the calls.
        terms: What the batch was told.
        door: Who may submit next.
        bell: Rung at every change.
        book: Where the steps are written down.
        budget: The money.
        prices: What Runs cost.
        breaker: Watches for equal failures in a row.
        canary: Watches the first jobs.
        tally: Counts.
        on_stop: Called once, when no more Runs are to be made.

    Attributes:
        sending: Lets so many Runs be under way at a time.
        ahead: Lets so many jobs be made ready, or be looked for, before their turn at the door.
        keeper: Saves outputs (None: they are not wanted).
        stopped: Why no more Runs are made (None: they are).
    """

    def __init__(
        self,
        client: Client,
        terms: Terms,
        *,
        door: ConcurrencyLimiter,
        bell: Bell,
        book: Book,
        budget: Budget,
        prices: Prices,
        breaker: Breaker,
        canary: Canary,
        tally: ProgressCounter,
        on_stop: Callable[[], object],
    ) -> None:
        self._client = client
        self._bell = bell
        self._breaker = breaker
        self._canary = canary
        self._on_stop = on_stop
        self.terms: Terms = terms
        self.door: ConcurrencyLimiter = door
        self.book: Book = book
        self.budget: Budget = budget
        self.prices: Prices = prices
        self.tally: ProgressCounter = tally
        self.sending: Gate = Gate(client._config.limits.max_in_flight)
        self.ahead: anyio.Semaphore = anyio.Semaphore(AHEAD)
        self.keeper: OutputSaver | None = (
            None if terms.download is None else OutputSaver(terms.download, book)
        )
        self.stopped: BatchStopped | None = None
        self._asking: anyio.Lock = anyio.Lock()
        self._asked: set[str] = set()
        self._uploads: Uploads = Uploads(client.upload, book)
        book.broken = lambda error: self.stop("journal", error.message)

    # -- the service -------------------------------------------------------------------------------------

    async def prepare(self, model: str, inputs: Mapping[str, Any]) -> Run:
        """Check a job's inputs, and upload what is local, before anything is paid for."""
        await self.ask_the_price(model)
        return await self._client._prepare(model, inputs, url_of=self._uploads.url_of)

    async def ask_the_price(self, slug: str) -> None:
        """Look a model up in the catalogue, once, if there is a limit: without a price one runs at a time.

        Raises:
            AuthenticationError: The service lets us do nothing.
        """
        slug = clean_slug(slug)
        if self.budget.max_cost is None or slug in self._asked:
            return
        async with self._asking:
            if slug in self._asked:
                return
            try:
                self.prices.know(await self._client.get_model(slug))
            except AuthenticationError:
                raise
            except WiroError as error:
                logger.warning("the price of %s is learned from its runs: %s", slug, error)
            self._asked.add(slug)

    async def send(self, run: Run) -> Accepted:
        """Make one Run's exchange; its answer is not looked for here.

        Raises:
            SubmissionUnknown: Nobody knows whether it was taken.
            WiroError: It was not.
        """

        def late(outcome: Accepted | SubmissionUnknown) -> None:
            # The worker was cancelled by asyncio itself, which no shield holds off.
            if isinstance(outcome, Accepted):
                self.leave(self.handle(TaskKey(outcome.id, outcome.token), run))
            else:
                self._leave_open(outcome)

        return await self._client._submitter.send(run, late)

    async def look_for(
        self, fingerprint: RunFingerprint, cause: str, *, again: bool = False
    ) -> Accepted | SubmissionUnknown:
        """Look for the task of a Run whose answer is lost, for as long as the list may lag behind.

        Args:
            fingerprint: What to look for.
            cause: What was seen instead of an answer.
            again: Whether it was looked for before: then once will do, if the list has had its time since.
        """
        try:
            return await self._client._look_for(fingerprint, cause, sent_within=0.0 if again else None)
        except BaseException:
            self._leave_open(unknown(fingerprint, cause))
            raise

    def handle(self, key: TaskKey, run: Run) -> TaskHandle:
        """Return the handle of a task that was just accepted."""
        return self._client._handle(key, run)

    def attach(self, key: TaskKey) -> TaskHandle:
        """Return the handle of a task that an earlier process has started."""
        return self._client.attach(key.id, token=key.token)

    def leave(self, handle: TaskHandle) -> None:
        """Leave a task alone, because the batch is left; where no journal keeps it, the client does."""
        came_to_nothing = handle.task is not None and handle.task.outcome in ("failed", "cancelled")
        if not self.book.keeps and not came_to_nothing:
            self._client._unclaimed.append(handle)
            logger.warning("task %s was left by its batch; it is %s", handle.id, handle.status)

    def _leave_open(self, error: SubmissionUnknown) -> None:
        """Leave a doubt that no outcome will tell; where no journal keeps it, the client does."""
        if not self.book.keeps:
            self._client._submitter.unresolved.append(error)
            logger.warning("a Run was left in doubt by its batch: %s", error)

    # -- through the door --------------------------------------------------------------------------------

    async def enter(self, entry: Entry) -> None:
        """Wait for room and money for a Run.

        Raises:
            BatchStopped: No more Runs are made.
        """
        await self.door.enter(lambda: self._may_begin(entry), self.check, again=entry.through)
        if not entry.through:
            entry.through = True
            self._canary.started()
        self.move(entry, "submitting")

    def _may_begin(self, entry: Entry) -> bool:
        if not entry.through and not self._canary.may_start():
            return False
        # Anew at each try: what ended meanwhile may have told what such a run costs.
        estimate = self._estimate(entry)
        if self.budget.reserve(entry, estimate):
            return True
        # What is set aside for Runs in doubt never comes back: where nothing runs, waiting has no use.
        if self.door.active == 0 or not self.budget.may_fit(estimate):
            limit = f"max_cost={plain(self.budget.max_cost or ZERO)}"
            # Nothing is left although there is a rest: that is what a run without any estimate does.
            if self.budget.left == 0 and 0 < self.budget.rest >= (estimate or ZERO):
                self.stop(
                    "unpriced",
                    f"{limit} cannot be kept by one more run: a run of unknown price is still in flight",
                )
            else:
                self.stop("max_cost", f"{limit} is spent, or would be by one more run")
            self.check()
        return False

    def _estimate(self, entry: Entry) -> Decimal | None:
        return self.prices.highest(entry.model, entry.told)

    def adopt(self, entry: Entry) -> None:
        """Count a task that runs already: it holds a slot, and its cost will come."""
        self.door.adopt()
        self.budget.adopt(entry, self._estimate(entry))
        self.move(entry, "running")

    def accepted(self, entry: Entry) -> None:
        """Count a task that came of a Run."""
        self.door.accepted()
        self.move(entry, "running")

    def turned_away(self, entry: Entry, error: ConcurrencyLimited | None = None, pause: float = 0.0) -> None:
        """Take back the slot and the money of a Run that came to nothing.

        Args:
            entry: The job.
            error: The refusal for want of a slot (None: it was something else).
            pause: Seconds in which the service is left alone, by all jobs.
        """
        self.budget.release(entry)
        self.move(entry, "waiting")
        if error is not None:
            self.door.refused(error)
        else:
            self.door.dropped()
        if pause:
            self.door.rest(pause)

    def reserve(self, entry: Entry) -> None:
        """Set money aside for a Run of an earlier process that stays in doubt: it may have been paid."""
        self.budget.adopt(entry, self._estimate(entry))

    def settle(self, entry: Entry, task: Task) -> Decimal | None:
        """Count what a task that has ended cost.

        Returns:
            USD: what the service tells, else what such a run is taken to cost (None: nobody knows).
        """
        cost = task.total_cost
        if task.outcome != "succeeded":
            self.budget.settle(entry, cost or ZERO)
            return cost
        counted = self.budget.settle(entry, cost)
        self.prices.learn(entry.model, entry.told, cost)
        if cost is not None or counted:
            return counted if cost is None else cost
        if self.budget.max_cost is not None:
            self.stop(
                "unpriced",
                f"max_cost={plain(self.budget.max_cost)} cannot be kept: the service does not tell what "
                f"task {task.id} cost, and no price of {entry.model} is known; leave max_cost out to go on",
            )
        return None

    def over(self, task: Task | None) -> None:
        """Count a task out: it has ended, or (None) nobody knows, and its money stays set aside."""
        self.door.ended(None if task is None else task.total_cost)

    def disowned(self, entry: Entry) -> None:
        """Take back the slot and the money of a task that is not the job's, after all."""
        self.budget.release(entry)
        self.move(entry, "waiting")
        self.door.ended()

    # -- counting ----------------------------------------------------------------------------------------

    def move(self, entry: Entry, stage: Stage) -> None:
        """Count a job's step."""
        self.tally.moved(entry.stage, stage, anyio.current_time())
        entry.stage = stage

    def run_failed(self, error: WiroError) -> None:
        """Count a run that has failed: see whether all of them do."""
        if self._breaker.failed(reason_of(error)):
            self.stop(
                "breaker", f"{self._breaker.count} failures in a row were alike: {self._breaker.reason}"
            )

    def succeeded(self, entry: Entry) -> None:
        """Count a job that has succeeded, files and all."""
        self._breaker.succeeded()
        if entry.on_trial:
            self._canary.succeeded()
            self._bell.ring()

    def failed(self, entry: Entry, error: WiroError | OSError) -> None:
        """Count a job that has failed: see whether that is a reason to stop."""
        self.heed(error)
        if isinstance(error, BatchStopped):
            return
        if self.terms.fail_fast:
            self.stop("fail_fast", f"a job failed: {error}")
        # A failure of what an earlier process has paid for tells nothing of the Runs to come.
        if not entry.on_trial or not isinstance(error, WiroError):
            return
        if isinstance(error, TaskCancelled):
            self._canary.withdrawn()
            self._bell.ring()
            return
        if not isinstance(error, TaskFailed):
            self.run_failed(error)
        # What never came to a Run, such as a job that is invalid, tells nothing of those that do.
        if entry.through:
            self._canary.failed(reason_of(error))
        if self._canary.state == "failed":
            self.stop("canary", f"one of the first {self._canary.size} jobs failed: {self._canary.reason}")

    # -- stopping ----------------------------------------------------------------------------------------

    def heed(self, error: WiroError | OSError) -> None:
        """Stop at once where an error concerns all jobs: no money, no access, no room on a disk."""
        match error:
            case InsufficientBalance():
                self.stop("balance", error.message)
            case AuthenticationError():
                self.stop("credentials", error.message)
            case JournalError(reason=reason) if reason != "conflict":
                self.stop("journal", error.message)
            case OSError() if not isinstance(error, WiroError):
                self.stop("disk", f"a file could not be written: {error}")

    def stop(self, reason: str, why: str) -> None:
        """Make no more Runs."""
        if self.stopped is None:
            self.stopped = BatchStopped(
                f"the batch makes no more runs: {why}. What runs is seen to its end, and what had no run "
                f"costs nothing; with a journal it goes on where it stopped",
                reason=reason,
            )
            batch_logger.warning("%s", self.stopped)
            self._on_stop()
        self._bell.ring()

    def check(self) -> None:
        """Raise if no more Runs are to be made."""
        if self.stopped is not None:
            raise BatchStopped(self.stopped.message, reason=self.stopped.reason)
