"""What the workers of one batch share: the door, the money, the book, and the decision to stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import anyio
import attrs

from wiro_async._book import Book
from wiro_async._breaker import Breaker, Canary, reason_of
from wiro_async._door import Bell, Door
from wiro_async._errors import (
    AuthenticationError,
    BatchStopped,
    InsufficientBalance,
    JournalError,
    SubmissionUnknown,
    WiroError,
)
from wiro_async._gate import Gate
from wiro_async._intake import Entry
from wiro_async._keeper import Keeper, Uploads
from wiro_async._models import Task
from wiro_async._money import Budget, Prices
from wiro_async._operations import Accepted, TaskKey
from wiro_async._reconcile import Doubt
from wiro_async._submit import Run
from wiro_async._tally import Stage, Tally
from wiro_async._task import TaskHandle
from wiro_async._types import OnUnknown

if TYPE_CHECKING:
    from wiro_async._client import Client

__all__ = ["Desk", "Terms"]

logger = logging.getLogger("wiro_async")


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


class Desk:
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
    """

    def __init__(
        self,
        client: Client,
        terms: Terms,
        *,
        door: Door,
        bell: Bell,
        book: Book,
        budget: Budget,
        prices: Prices,
        breaker: Breaker,
        canary: Canary,
        tally: Tally,
        sending: int,
    ) -> None:
        self._client = client
        self._bell = bell
        self._breaker = breaker
        self._canary = canary
        self.terms: Terms = terms
        self.door: Door = door
        self.book: Book = book
        self.budget: Budget = budget
        self.prices: Prices = prices
        self.tally: Tally = tally
        self.sending: Gate = Gate(sending)
        self.keeper: Keeper | None = None if terms.download is None else Keeper(terms.download, book)
        self.stopped: BatchStopped | None = None
        self._uploads: Uploads = Uploads(client.upload, book)

    # -- the service -------------------------------------------------------------------------------------

    async def prepare(self, model: str, inputs: Mapping[str, Any]) -> Run:
        """Check a job's inputs, and upload what is local, before anything is paid for."""
        return await self._client._prepare(model, inputs, url_of=self._uploads.url_of)

    async def send(self, run: Run) -> Accepted:
        """Make one Run's exchange; its answer is not looked for here.

        Raises:
            SubmissionUnknown: Nobody knows whether it was taken.
            WiroError: It was not.
        """
        return await self._client._submitter.send(run)

    async def look_for(self, doubt: Doubt, cause: str) -> Accepted | SubmissionUnknown:
        """Look for the task of a Run whose answer is lost, for as long as the list may lag behind."""
        return await self._client._look_for(doubt, cause)

    def handle(self, key: TaskKey, run: Run) -> TaskHandle:
        """Return the handle of a task that was just accepted."""
        return self._client._handle(key, run)

    def attach(self, key: TaskKey) -> TaskHandle:
        """Return the handle of a task that an earlier process has started."""
        return self._client.attach(key.id, token=key.token)

    # -- through the door --------------------------------------------------------------------------------

    async def enter(self, entry: Entry, *, again: bool) -> None:
        """Wait for room and money for a Run.

        Raises:
            BatchStopped: No more Runs are made.
        """
        estimate = self.prices.highest(entry.model, entry.inputs)
        if not again:
            await self.door.enter(lambda: self._may_begin(entry, estimate))
            self._canary.started()
        else:
            await self.door.enter(self._may_go_on, again=True)
        self.move(entry, "submitting")

    def _may_go_on(self) -> bool:
        self.check()
        return True

    def _may_begin(self, entry: Entry, estimate: Decimal | None) -> bool:
        self.check()
        if not self._canary.may_start():
            return False
        if self.budget.reserve(entry.key, estimate):
            return True
        if not self.budget.may_fit(estimate):
            self.stop("max_cost", f"max_cost={self.budget.max_cost} is spent, or would be by one more run")
            self.check()
        return False

    def adopt(self, entry: Entry) -> None:
        """Count a task that runs already: it holds a slot, and its cost will come."""
        self.door.adopt()
        self.budget.adopt(entry.key, self.prices.highest(entry.model, entry.inputs))
        self.move(entry, "running")

    def over(self, entry: Entry, task: Task | None) -> None:
        """Count a task out: it has ended, or (None) nobody knows, and its money stays reserved."""
        cost = task.total_cost if task is not None else None
        self.door.ended(cost)
        if task is not None:
            self.budget.settle(entry.key, cost if task.outcome == "succeeded" else cost or Decimal(0))
            if task.outcome == "succeeded":
                self.prices.learn(entry.model, entry.inputs, cost)
        self._bell.ring()

    # -- counting, and stopping --------------------------------------------------------------------------

    def move(self, entry: Entry, stage: Stage) -> None:
        """Count a job's step."""
        self.tally.moved(entry.stage, stage, anyio.current_time())
        entry.stage = stage

    def succeeded(self) -> None:
        """A run has succeeded."""
        self._breaker.succeeded()
        self._canary.succeeded()

    def failed(self, error: WiroError | OSError) -> None:
        """A job has failed, or one of its runs: see whether that is a reason to stop."""
        if isinstance(error, BatchStopped):
            return
        if isinstance(error, InsufficientBalance):
            self.stop("balance", error.message)
        elif isinstance(error, AuthenticationError):
            self.stop("credentials", error.message)
        elif self.terms.fail_fast:
            self.stop("fail_fast", f"a job failed: {error}")
        if not isinstance(error, WiroError):
            return
        reason = reason_of(error)
        self._canary.failed(reason)
        if self._canary.state == "failed":
            self.stop("canary", f"one of the first {self._canary.size} jobs failed: {self._canary.reason}")
        if self._breaker.failed(reason):
            self.stop("breaker", f"{self._breaker.count} jobs in a row failed alike: {self._breaker.reason}")

    def broken(self, error: JournalError) -> None:
        """The journal cannot be written: what runs goes on in memory, and nothing new is paid for."""
        logger.error("%s", error)
        self.stop("journal", error.message)

    def stop(self, reason: str, why: str) -> None:
        """Make no more Runs."""
        if self.stopped is None:
            self.stopped = BatchStopped(
                f"the batch makes no more runs: {why}. What runs is seen to its end, and what had no run "
                f"costs nothing; with a journal it goes on where it stopped",
                reason=reason,
            )
            logger.warning("%s", self.stopped)
        self._bell.ring()

    def check(self) -> None:
        """Raise if no more Runs are to be made."""
        if self.stopped is not None:
            raise BatchStopped(self.stopped.message, reason=self.stopped.reason)
