"""When a batch makes no more Runs: the breaker, the canaries, and the coordinator of its jobs."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeAlias

import attrs

from wiro_async._batch.options import BatchSettings
from wiro_async._batch.progress import ProgressCounter
from wiro_async._errors import (
    AuthenticationError,
    BatchStopped,
    InsufficientBalance,
    JournalError,
    WiroError,
)
from wiro_async._jobs.budget import ZERO, Budget, plain
from wiro_async._jobs.job import JobState
from wiro_async._jobs.pipeline import Monitor
from wiro_async._journal.steps import UnchargedRun
from wiro_async._tasks.ends import TaskCancelled, TaskFailed
from wiro_async._types import Stage

__all__ = ["Breaker", "Canary", "Coordinator", "Trial", "reason_key", "reason_of"]

logger = logging.getLogger("wiro_async.batch")
"""Logs warnings that callers also get as values, in ``BatchPlan`` and ``BatchReport``."""

MOST_DOWNLOADS = 64
"""How many jobs may be downloading before submission pauses."""

LONGEST_KEY = 200

_OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE}
)
"""Errors of the place where all outputs go: no room, read-only, failing. All others are one path's."""

_VARYING = re.compile(
    r"""https?://\S+                            # addresses
      | (?<!\w)[/~.]?[\w.-]*/[\w./-]+           # paths and slugs
      | "[^"]*" | '[^']*'                       # what is quoted
      | \b(?=\w*\d)[0-9A-Za-z_-]{6,}\b          # ids: letters and digits
      | [-+]?\d+(?:[.,:]\d+)*                   # numbers and times
    """,
    re.VERBOSE,
)


def reason_of(error: WiroError | OSError) -> str:
    """Return why a job failed, for humans: the model's own last line if there is one."""
    if isinstance(error, TaskFailed) and error.reason:
        return error.reason
    return error.message if isinstance(error, WiroError) else str(error)


def reason_key(reason: str) -> str:
    """Return *reason* without what varies by job: numbers, ids, addresses, paths, quoted texts."""
    masked = _VARYING.sub("#", reason[: 2 * LONGEST_KEY])
    return " ".join(masked.lower().split())[:LONGEST_KEY]


@attrs.define
class Breaker:
    """Opens after *limit* identical failures in a row: the next jobs would fail too, and take time.

    Attributes:
        limit: How many failures open it (None: it never opens).
        count: The current number in a row.
        reason: The message of the last ("" if there is none).
        is_open: Whether nothing more should be sent; once open, it stays open.
    """

    limit: int | None = 20
    count: int = attrs.field(default=0, init=False)
    reason: str = attrs.field(default="", init=False)
    is_open: bool = attrs.field(default=False, init=False)
    _key: str = attrs.field(default="", init=False)

    def failed(self, reason: str) -> bool:
        """Note a failure; return whether the breaker is now open."""
        if not self.is_open:
            key = reason_key(reason)
            self.count = self.count + 1 if key == self._key else 1
            self._key, self.reason = key, reason
            self.is_open = self.limit is not None and self.count >= self.limit
        return self.is_open

    def succeeded(self) -> None:
        """Note a success: the earlier failure is not permanent."""
        if not self.is_open:
            self.count, self.reason, self._key = 0, "", ""


Trial: TypeAlias = Literal["trying", "passed", "failed"]
"""The state of the canaries."""


@attrs.define
class Canary:
    """Holds a batch back until its first jobs have succeeded; a failure among them ends it.

    Attributes:
        size: How many jobs go first (0: no trial).
        reason: The message of the first failure among them ("" if there is none).
    """

    size: int
    reason: str = attrs.field(default="", init=False)
    _started: int = attrs.field(default=0, init=False)
    _succeeded: int = attrs.field(default=0, init=False)
    _failed: bool = attrs.field(default=False, init=False)

    @property
    def state(self) -> Trial:
        """Whether they are still being tried, have passed, or have failed."""
        if self._failed:
            return "failed"
        return "passed" if self._succeeded >= self.size else "trying"

    def may_start(self) -> bool:
        """Whether another job may start."""
        return self.state == "passed" or (self.state == "trying" and self._started < self.size)

    def started(self) -> None:
        """A job starts."""
        self._started += 1

    def withdrawn(self) -> None:
        """A started job was cancelled by the user, or put back: that proves nothing."""
        self._started = max(self._started - 1, 0)

    def succeeded(self) -> None:
        """A job succeeded."""
        self._succeeded += 1

    def failed(self, reason: str) -> None:
        """A job failed; after the trial this has no effect."""
        if self.state == "trying":
            self._failed = True
            self.reason = reason


class Coordinator(Monitor):
    """Observes the jobs of one batch, and decides when it makes no more Runs.

    Args:
        settings: The batch's options.
        budget: The batch's money.
        counter: Counts the jobs.
        now: The event loop's time.
        change: Called at every change that a job may wait for.
        on_stop: Called once, when the batch stops.

    Attributes:
        stopped: Why no more Runs are made (None: not stopped).
    """

    def __init__(
        self,
        settings: BatchSettings,
        budget: Budget,
        counter: ProgressCounter,
        *,
        now: Callable[[], float],
        change: Callable[[], object],
        on_stop: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._counter = counter
        self._now = now
        self._change = change
        self._on_stop = on_stop
        self._breaker = Breaker(settings.breaker)
        self._canary = Canary(settings.canary)
        self.stopped: BatchStopped | None = None

    # -- who may start -----------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many jobs are being submitted, or have a running task."""
        return self._counter.count("submitting") + self._counter.count("running")

    @property
    def may_download(self) -> bool:
        """Whether what is paid for can be fetched soon: new jobs wait while too many are downloading."""
        return self._counter.count("downloading") < MOST_DOWNLOADS

    def check(self) -> None:
        """Raise if no more Runs are to be made.

        Raises:
            BatchStopped: It stopped.
        """
        if self.stopped is not None:
            raise BatchStopped(self.stopped.message, reason=self.stopped.reason)

    def may_start(self, job: JobState) -> bool:
        """Whether the batch's own concurrency, its downloads and its canaries allow a Run."""
        most = self._settings.concurrency
        if (most != "auto" and self.active >= most) or not self.may_download:
            return False
        return job.through or self._canary.may_start()

    def no_money(self, _job: JobState, estimate: Decimal | None) -> None:
        """Stop if waiting cannot help: money reserved for Runs in doubt is never released.

        Raises:
            BatchStopped: It cannot.
        """
        if self.active and self._budget.may_fit(estimate):
            return
        short = self._budget.refusing(estimate) or self._budget
        limit = self._limit_of(short)
        # Nothing is left although there is a rest: that is what a run without any estimate does.
        if short.left == 0 and 0 < short.rest >= (estimate or ZERO):
            self.stop(
                "unpriced",
                f"{limit} cannot be guaranteed for another run: a run of unknown price is still in flight",
            )
        else:
            reason = "max_cost" if short is self._budget else "budget"
            self.stop(reason, f"{limit} is spent, or too little is left for another run")
        self.check()

    def _limit_of(self, budget: Budget) -> str:
        """Name a limit: the batch's own, or the client's, which covers its jobs, too."""
        whose = "" if budget is self._budget else "the client's "
        return f"{whose}max_cost={plain(budget.max_cost or ZERO)}"

    # -- what becomes of them ----------------------------------------------------------------------------

    def moved(self, job: JobState, stage: Stage) -> None:
        """Count a job's step."""
        if stage == "submitting" and not job.through:
            self._canary.started()
        self._counter.moved(job.stage, stage, self._now())
        job.stage = stage
        self._change()

    def heed(self, error: WiroError | OSError) -> None:
        """Stop at once if an error affects all jobs: no money, no access, no disk space."""
        match error:
            case InsufficientBalance():
                self.stop("balance", error.message)
            case AuthenticationError(passing=False):
                self.stop("credentials", error.message)
            case JournalError(reason=reason) if reason != "conflict":
                self.stop("journal", error.message)
            case OSError(errno=number) if number in _OF_THE_DISK:
                self.stop("disk", f"a file could not be written: {error}")

    def broken(self, error: JournalError) -> None:
        """A step happened but could not be recorded."""
        self.stop("journal", error.message)

    def run_failed(self, error: WiroError | OSError) -> None:
        """Count a failed run: the breaker may open."""
        if self._breaker.failed(reason_of(error)):
            self.stop(
                "breaker", f"{self._breaker.count} failures in a row were identical: {self._breaker.reason}"
            )

    def uncounted(self, run: UnchargedRun) -> None:
        """Stop a batch with a limit: it is not known what its runs cost."""
        limited = next(budget for budget in self._budget.chain if budget.max_cost is not None)
        self.stop(
            "unpriced",
            f"{self._limit_of(limited)} cannot be guaranteed: a minute after its end "
            f"the service shows no charge for task {run.task_id}, and no price of {run.model} is known; "
            f"resume later, or omit max_cost to go on",
        )

    def succeeded(self, job: JobState) -> None:
        """Count a job that succeeded, including its files."""
        self._breaker.succeeded()
        if job.on_trial:
            self._canary.succeeded()
            self._change()

    def failed(self, job: JobState, error: WiroError | OSError) -> None:
        """Count a failed job: it may be a reason to stop."""
        self.heed(error)
        if isinstance(error, BatchStopped):
            return
        if self._settings.fail_fast:
            self.stop("fail_fast", f"a job failed: {error}")
        # A failure of what an earlier process has paid for tells nothing of the Runs to come.
        if not job.on_trial:
            return
        if isinstance(error, TaskCancelled):
            self._canary.withdrawn()
            self._change()
            return
        if not isinstance(error, TaskFailed):
            self.run_failed(error)
        # What never came to a Run, such as a job that is invalid, tells nothing of those that do.
        if job.through:
            self._canary.failed(reason_of(error))
        if self._canary.state == "failed":
            self.stop("canary", f"one of the first {self._canary.size} jobs failed: {self._canary.reason}")

    def stop(self, reason: str, why: str) -> None:
        """Make no more Runs."""
        if self.stopped is None:
            self.stopped = BatchStopped(
                f"the batch makes no more runs: {why}. Tasks that run are awaited; jobs without a "
                f"run cost nothing; with a journal, the same call resumes",
                reason=reason,
            )
            logger.warning("%s", self.stopped)
            self._on_stop()
        self._change()
