"""The path of every job, from inputs to a paid result, stage by stage.

::

    check       inputs are checked against the catalogue; what is wrong is refused before anything is sent
    resolve     model and inputs become a payload; local files are uploaded
    reserve     the estimate is reserved from every budget that covers the Run; a single call's before its
                uploads, a batch's job's together with its slot
    slot        one of the account's slots for concurrent tasks
    intend      the intent is durable
    send        the Run, shielded from cancellation
    reconcile   the task of an unknown outcome is searched for
    accepted    the task's id is durable                                <- submit() returns here
    watch       polls, socket or callback, to the end
    settle      the cost counted, the end durable                       <- run() returns here
    save        outputs are on disk                                     <- a batch's job ends here

A single call and a job of a batch take the same path. A stage that is not needed has a null form:
``NullJournal`` records nothing, ``NullBudget`` limits nothing, a plain ``Monitor`` does nothing.

Money is safe between *intend* and *accepted* because nothing interrupts them: both, and the exchange between
them, run to completion despite any cancellation. Everywhere else a job may be interrupted at any moment.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs

from wiro_async._aio import finish, now
from wiro_async._errors import (
    AuthenticationError,
    BatchStopped,
    BudgetExceeded,
    ConcurrencyLimited,
    DownloadError,
    InvalidInput,
    JournalError,
    SubmissionUnknown,
    TaskNotFound,
    WiroError,
)
from wiro_async._files.inputs import FileSource, by_name, holds, is_local_file, resolve
from wiro_async._http.retry import RUNS, run_knowledge, run_may_repeat
from wiro_async._jobs.budget import (
    ZERO,
    Bill,
    Budget,
    Charges,
    Estimate,
    NullBudget,
    Prices,
    plain,
)
from wiro_async._jobs.checks import Check, check_job
from wiro_async._jobs.job import JobOutcome, JobState
from wiro_async._jobs.limiter import Line, Slot
from wiro_async._jobs.saver import OutputSaver
from wiro_async._jobs.service import Service
from wiro_async._jobs.submit import Attempt, Run, send
from wiro_async._journal.comparison import check_not_behind, compare
from wiro_async._journal.journal import Conflict, Journal, NullJournal
from wiro_async._journal.steps import (
    FAILED,
    TURNED_AWAY,
    Accepted,
    Blob,
    Charged,
    Done,
    Doubted,
    Ended,
    Found,
    Intended,
    JournalEntry,
    JournalFile,
    Late,
    Released,
    Stalled,
    Step,
    UnchargedRun,
)
from wiro_async._protocol import records
from wiro_async._protocol.envelope import encode
from wiro_async._protocol.matching import Claim, Strangers, fingerprint_of, marker_of, unknown, with_marker
from wiro_async._protocol.operations import run as run_of
from wiro_async._protocol.records import Task, TaskKey, TaskResult
from wiro_async._protocol.refusals import was_believed_too_soon
from wiro_async._tasks.ends import TaskError, TaskFailed, ending
from wiro_async._tasks.handle import TaskHandle, TaskStalled, TaskTimeout, TaskUnclear, unfinished
from wiro_async._tasks.state import TaskState
from wiro_async._types import CheckMode, Stage, Watch

__all__ = ["AHEAD", "Monitor", "Pipeline"]

logger = logging.getLogger("wiro_async")

RESUBMITS = 2
"""How often a Run that was proved absent is resent, if the caller asks for that."""

FEW = 10
"""Up to so many charges are read by polling their tasks; more of them from the service's list."""

LIST_MARGIN = 3600.0
"""Seconds by which the service's clock may differ from ours where a reading of its list ends."""

AHEAD = 8
"""How many jobs of a batch may upload files, or be searched for, before their turn for a slot."""


class Monitor:
    """Observes the jobs, and decides when to run no more. This one does neither."""

    def check(self) -> None:
        """Raise if no more Runs are to be made.

        Raises:
            BatchStopped: The batch has stopped.
        """

    def may_start(self, _job: JobState) -> bool:
        """Whether this monitor allows the job a Run now."""
        return True

    def no_money(self, _job: JobState, estimate: Decimal | None) -> None:
        """The budget has too little left for a Run."""

    def moved(self, job: JobState, stage: Stage) -> None:
        """The job has moved to another stage."""

    def heed(self, error: WiroError | OSError) -> None:
        """Something failed, perhaps for a reason that affects all jobs."""

    def run_failed(self, error: WiroError) -> None:
        """A task has failed."""

    def uncounted(self, run: UnchargedRun) -> None:
        """A minute after its end a run shows no charge, and nobody knows what such runs cost."""

    def broken(self, error: JournalError) -> None:
        """A step happened but could not be recorded."""

    def succeeded(self, job: JobState) -> None:
        """The job has succeeded, files and all."""

    def failed(self, job: JobState, error: WiroError | OSError) -> None:
        """The job has failed."""


@attrs.define(kw_only=True, eq=False)
class Pipeline:
    """Takes jobs through the stages. A client has one for its single calls, and one for each batch.

    Args:
        service: What the client's rooms share.
        line: Where the jobs wait for a slot.
        url_of: Uploads a local file, and returns its URL.
        journal: Where steps are recorded.
        budget: The money.
        prices: What Runs cost, for the budget.
        charges: The charges that are recorded late (None: they are the caller's affair).
        saver: Saves outputs (None: not wanted).
        monitor: Observes the jobs.
        slot_timeout: The default seconds that a job waits for a slot.
        wait_timeout: The default seconds to wait for a task's end.
        retry_failed: How often a job whose task failed is rerun.
        stop_on_exit: Whether a task is stopped when its job of a batch is cancelled.
        delete_remote: Whether the service's copies are deleted once the outputs are saved.
        ahead: Lets this many jobs prepare before their turn (None: any number).
        hands_over: Whether tasks are handed to callers together with their slots (single calls).

    Attributes:
        charged: Charges that were seen, and are not recorded yet.
    """

    service: Service
    line: Line
    url_of: Callable[[FileSource], Awaitable[str]]
    journal: Journal = attrs.field(factory=NullJournal)
    budget: Budget = attrs.field(factory=NullBudget)
    prices: Prices = attrs.field(factory=Prices)
    charges: Charges | None = None
    saver: OutputSaver | None = None
    monitor: Monitor = attrs.field(factory=Monitor)
    slot_timeout: float = math.inf
    wait_timeout: float
    retry_failed: int = 0
    stop_on_exit: bool = False
    delete_remote: bool = False
    ahead: anyio.Semaphore | None = None
    hands_over: bool = False
    charged: list[Charged] = attrs.field(factory=list, init=False)
    _comparing: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)
    _is_compared: bool = attrs.field(default=False, init=False)
    _strangers: Strangers = attrs.field(factory=Strangers, init=False)

    @classmethod
    def for_single_calls(cls, service: Service) -> Pipeline:
        """Return the pipeline of a client's single calls: no journal, nothing saved."""

        async def url_of(file: FileSource) -> str:
            return (await service.uploader.upload(file)).url

        limits, bills = service.config.limits, service.bills
        return cls(
            service=service,
            line=service.line,
            url_of=url_of,
            budget=NullBudget() if bills is None else bills.budget,
            prices=Prices() if bills is None else bills.prices,
            slot_timeout=limits.slot_timeout,
            wait_timeout=limits.wait_timeout,
            hands_over=True,
        )

    # -- the whole way -----------------------------------------------------------------------------------

    async def submit(self, job: JobState) -> TaskHandle:
        """Take a single call to its task: the stages from *resolve* to *accepted*.

        Raises:
            SubmissionUnknown: It is unknown whether a task exists.
            WiroError: No task exists.
        """
        try:
            return TaskHandle(await self._accepted(job))
        except BaseException:
            self._release_unsent(job)
            if job.state is not None:
                self.service.leave(job.state, "was accepted after its caller was cancelled")
            raise

    async def run(self, job: JobState) -> TaskResult:
        """Take a single call to its result: the stages from *resolve* to *settle*.

        Raises:
            TaskError: How its task ended, or that it has not.
            SubmissionUnknown: It is unknown whether a task exists.
            WiroError: No task exists.
        """
        try:
            while job.task is None:
                await self._watch(job, job.state or await self._accepted(job))
        except BaseException as error:
            self._release_unsent(job)
            state, is_told = job.state, isinstance(error, TaskError | SubmissionUnknown)
            if state is not None:
                try:
                    cut_off = isinstance(error, TaskTimeout | anyio.get_cancelled_exc_class())
                    if cut_off and job.options.on_cancel == "stop":
                        await self._stop(job, state)
                except BaseException:
                    # A cancellation takes the place of an error that would have told of the task.
                    is_told = False
                    raise
                finally:
                    if not is_told:
                        # Whoever called run() has no handle of the task, which may go on and be billed.
                        self.service.leave(state, "was left by its run()")
            raise
        return TaskResult.of(job.task)

    async def perform(self, job: JobState) -> JobOutcome:
        """Take a job of a batch to its end, from its state in the journal. Never raises a WiroError."""
        problem: WiroError | OSError | None = None
        try:
            await self._perform(job)
            self.monitor.succeeded(job)
        except (WiroError, OSError) as error:
            # That there was to be another Run matters less than why the last one failed.
            problem = job.failure if isinstance(error, BatchStopped) and job.failure else error
            self.monitor.failed(job, problem)
        except BaseException as error:
            if job.state is not None:
                if self.stop_on_exit and isinstance(error, anyio.get_cancelled_exc_class()):
                    try:
                        await self._stop(job, job.state)
                    finally:
                        self._leave(job.state)
                else:
                    self._leave(job.state)
            raise
        known = getattr(problem, "task_id", None) if job.state is None else job.state.key.id
        return JobOutcome(
            key=job.key,
            job=job.job,
            result=None if job.task is None else TaskResult.of(job.task),
            error=problem,
            attempts=job.attempts,
            cost=None if job.is_uncharged else job.spent,
            paths=tuple(job.paths),
            task_id=known or "",
        )

    async def _perform(self, job: JobState) -> None:
        if job.entry is not None and job.entry.state in ("ended", "done"):
            await self._fetch(job, job.entry)
            return
        await self._take_up(job)
        while job.task is None:
            await self._watch(job, job.state or await self._accepted(job))
        await self._save(job, job.task, {})

    def _leave(self, state: TaskState) -> None:
        """Leave a task running when its batch is left; without a journal, the client keeps it."""
        came_to_nothing = state.task is not None and state.task.outcome in ("failed", "cancelled")
        if not self.journal.durable and not came_to_nothing:
            self.service.leave(state, "was left by its batch")

    # -- check -------------------------------------------------------------------------------------------

    async def check(self, job: JobState, *, strict: bool) -> Check:
        """Check a job and estimate its price, and go no further; see ``Client.check``.

        Raises:
            InvalidInput: It is no job.
            AuthenticationError: The service rejects our credentials.
        """
        run_of(job.model)
        mode: CheckMode = "strict" if strict else True
        checked = await check_job(self.service.catalogue, job, by_name(job.inputs), mode)
        if checked.model is not None:
            self.prices.know(checked.model)
        price, source = self.prices.estimate(job.model, checked.inputs)
        if price is None and checked.model is None:
            source = self.service.catalogue.why_not(job.model)
        return Check(
            problems=checked.problems,
            notes=checked.notes,
            price=price,
            price_source=source,
            model=checked.model,
        )

    async def _checked(self, job: JobState, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Refuse inputs that are clearly wrong, and fill in what the catalogue knows.

        Raises:
            InvalidInput: All that is wrong with them.
            AuthenticationError: The service rejects our credentials.
        """
        mode, catalogue = self._mode_of(job), self.service.catalogue
        if mode is False:
            return inputs
        # A single call without a price may be refused: it asks again, though the last one had no answer.
        insists = self.hands_over and self._is_limited(job)
        checked = await check_job(catalogue, job, inputs, mode, insist=insists)
        if checked.problems:
            raise InvalidInput("; ".join(checked.problems))
        for note in checked.notes if checked.model is not None else ():
            catalogue.tell(job.model, note)
        return checked.inputs

    def _mode_of(self, job: JobState) -> CheckMode:
        return self.service.config.check if job.options.check is None else job.options.check

    def _is_limited(self, job: JobState) -> bool:
        """Whether there is a cost limit for which the price of a job has to be known."""
        return self.budget.is_limited or job.options.max_cost is not None

    # -- resolve -----------------------------------------------------------------------------------------

    async def _resolve(self, job: JobState) -> Run:
        """Check everything and upload local files, before anything is paid for."""
        if job.problem is not None:
            raise job.problem
        await self.service.tasks.turnstile.enter()
        options, operation = job.options, run_of(job.model)
        inputs = await self._checked(job, by_name(job.inputs))
        has_callback = options.callback_url is not None or "callbackUrl" in inputs
        watch = self._watch_of(options.watch, has_callback=has_callback)
        await self._learn_price(job)
        if self.hands_over:
            self._reserve(job, inputs)
        if job.entry is not None:
            inputs = await self._revived("inputs", inputs)
        payload = await resolve(inputs, self.url_of)
        for name, value in (("callbackUrl", options.callback_url), ("projectid", options.project_id)):
            if value is not None:
                if name in payload:
                    raise InvalidInput(f"{name} is given twice: among the inputs and as an option", name=name)
                payload[name] = value
        if has_callback:
            url = payload["callbackUrl"]
            if not isinstance(url, str) or not url.startswith(("http://", "https://")):
                raise InvalidInput(
                    "callback_url must be an http or https URL that the service can reach",
                    name="callback_url",
                )
            marker = marker_of(self.journal.tag, secrets.token_hex(8))
            payload["callbackUrl"] = with_marker(url, marker)
        callback = None
        if options.callback_url is not None:
            from wiro_async._watch.callbacks import CallbackURL  # noqa: PLC0415 - for those who wait so

            callback = options.callback_url if isinstance(options.callback_url, CallbackURL) else None
        return Run(operation, job.model, payload, encode(payload), watch, options.expected_duration, callback)

    def _watch_of(self, chosen: Watch | None, *, has_callback: bool) -> Watch:
        watch = self.service.config.watch if chosen is None else chosen
        if watch == "callback" and not has_callback:
            if chosen is None:
                return "poll"
            raise InvalidInput(
                "watch='callback' waits for the service's callback, and there is no callback_url; give one "
                "or leave watch out",
                name="callback_url",
            )
        if watch == "socket" and chosen is not None:
            from wiro_async._watch import pool  # noqa: PLC0415 - for those who listen

            pool.require()
        return watch

    async def _revived(self, name: str, value: Any) -> Any:
        """Return recorded inputs in sendable form: bytes by their upload, as only a digest is left."""
        if isinstance(value, Mapping):
            return {each: await self._revived(each, item) for each, item in value.items()}
        if isinstance(value, list):
            return [await self._revived(name, item) for item in value]
        if not isinstance(value, Blob):
            return value
        url = await self.journal.url_of(value.sha256)
        if url is None:
            raise InvalidInput(
                f"the input {name!r} was {value.size} bytes, and the journal keeps none; pass the job again",
                name=name,
            )
        return url

    async def _learn_price(self, job: JobState) -> None:
        """With a cost limit, look up a model's price: without one, a batch's jobs run one at a time.

        Raises:
            AuthenticationError: The service rejects our credentials.
        """
        if not self._is_limited(job):
            return
        # The check, if there was one, has just asked.
        insists = self.hands_over and self._mode_of(job) is False
        model = await self.service.catalogue.find(job.model, insist=insists)
        if model is not None:
            self.prices.know(model)

    # -- reserve, slot -----------------------------------------------------------------------------------

    def _reserve(self, job: JobState, inputs: Mapping[str, Any]) -> None:
        """Reserve a single call's money before anything is uploaded for it; it is kept until the task's end.

        Nothing else can happen between the check and the reservation.

        Raises:
            BudgetExceeded: The call's own limit, or the client's, does not cover it.
        """
        bills, limit = self.service.bills, job.options.max_cost
        if bills is None and limit is None:
            return
        estimate = self.prices.estimate(job.model, inputs)
        price = estimate.amount
        allowed = job.options.allow_unpriced
        allowed = self.budget.allow_unpriced if allowed is None else allowed
        if limit is not None and (not allowed if price is None else price > limit):
            raise _exceeded(job.model, estimate, ZERO, limit, "call", allowed=allowed)
        if bills is None:
            return
        bills.sweep()
        budget, limit = bills.budget, bills.budget.max_cost
        is_known = limit is None or price is not None or allowed
        if not (is_known and budget.reserve(job.bill, price, allow_unpriced=allowed)):
            assert limit is not None
            raise _exceeded(job.model, estimate, budget.gone, limit, "client", allowed=allowed)
        bills.describe(job.bill, job.model, inputs)

    def _release_unsent(self, job: JobState) -> None:
        """Release a single call's money if no task came of it, and none may have."""
        if not job.bill.name:
            self.budget.release(job.bill)

    async def _accepted(self, job: JobState) -> TaskState:
        """Take a job to its task: the stages from *resolve* to *accepted*.

        Raises:
            BatchStopped: No more Runs are made.
            SubmissionUnknown: It is unknown whether a task exists.
            WiroError: No task exists.
        """
        job.on_trial = True
        if self.journal.path and not self._is_compared:
            await self._compare_journal()
        if job.run is not None:
            slot = await self._slot(job)
        elif self.ahead is not None and holds(job.inputs, is_local_file):
            # Its uploads take time: the jobs behind it need not wait for them.
            async with self.ahead:
                self._let_next(job)
                job.run = await self._resolve(job)
                slot = await self._slot(job)
        else:
            job.run = await self._resolve(job)
            self._start_clocks(job)
            slot = await self._slot(job)
        self._let_next(job)
        self._warn_of_twin(job)
        while True:
            state = await self._sent(job, slot)
            if state is not None:
                return state
            slot = await self._slot(job)

    async def _compare_journal(self) -> None:
        """Before the first Run, look for newer tasks that the journal should know: it may be an older copy.

        Raises:
            JournalError: ``behind``: there are some.
            WiroError: The account's tasks could not be read.
        """
        async with self._comparing:
            if self._is_compared:
                return
            # A new journal is not read for it.
            if await self.journal.newest() is not None:
                comparison = await compare(self.journal, self.service.search.since)
                check_not_behind(comparison, self.journal.path)
                if not comparison.complete:
                    logger.warning(
                        "the account has more newer tasks than could be compared with the journal %s; the "
                        "newest %d were",
                        self.journal.path,
                        comparison.tasks,
                    )
                self._strangers = Strangers(comparison.others)
            self._is_compared = True

    def _warn_of_twin(self, job: JobState) -> None:
        """Warn of a newer task of equal inputs: only a marker could tell whose it is."""
        assert job.run is not None
        # A fingerprint takes a digest of all inputs: it is made only where there is something to compare.
        twin = self._strangers.take(job.run.fingerprint) if self._strangers else None
        if twin is not None:
            logger.warning(
                "task %s is newer than all that the journal knows, and has the model and the inputs of the "
                "job %r; if it is that job's, of a newer copy of the journal, the job is paid for again now",
                twin.id,
                job.key,
            )

    def _let_next(self, job: JobState) -> None:
        """Let the next job of a batch be read: this one no longer blocks it."""
        if job.let_next is not None:
            job.let_next()

    def _start_clocks(self, job: JobState) -> None:
        """Start a call's timeouts, now that its files are uploaded."""
        options = job.options
        job.patience = self.slot_timeout if options.slot_timeout is None else options.slot_timeout
        if options.timeout is not None:
            job.patience = min(job.patience, options.timeout)
            job.until = now() + options.timeout
        if job.patience < math.inf:
            job.slot_until = now() + job.patience

    async def _slot(self, job: JobState) -> Slot:
        """Wait until the job may have a Run: it has money and a slot.

        Raises:
            BatchStopped: No more Runs are made.
            WiroError: No slot became free in time.
        """
        if job.patience <= 0:
            return self.line.take()
        slot = await self.line.enter(
            lambda: self._may_start(job), self.monitor.check, again=job.through, until=job.slot_until
        )
        if slot is None:
            raise self._out_of_patience(job)
        self.monitor.moved(job, "submitting")
        job.through = True
        return slot

    def _may_start(self, job: JobState) -> bool:
        if not self.monitor.may_start(job):
            return False
        if self.hands_over:
            return True  # Its money was reserved before its uploads.
        bills = self.service.bills
        if bills is not None:
            bills.sweep()
        # Anew at each try: what ended meanwhile may have told what such a run costs.
        estimate = self.prices.highest(job.model, job.told)
        if self.budget.reserve(job.bill, estimate):
            if bills is not None:
                bills.describe(job.bill, job.model, job.told)
            return True
        self.monitor.no_money(job, estimate)
        return False

    def _out_of_patience(self, job: JobState) -> WiroError:
        """Return the error for a call that got no slot in time."""
        refusal = job.refusal
        if refusal is not None and not isinstance(refusal, ConcurrencyLimited):
            return refusal  # It waited for the service to come back.
        said = "as many tasks run as the account's limit allows" if refusal is None else refusal.message
        return ConcurrencyLimited(
            f"{said}; no slot became free within {job.patience:g} s (slot_timeout)",
            limit=self.service.limiter.learned.limit if refusal is None else refusal.limit,
            code=96 if refusal is None else refusal.code,
            http_status=None if refusal is None else refusal.http_status,
            operation="Run",
            detail="" if refusal is None else refusal.detail,
        )

    # -- intend, send ------------------------------------------------------------------------------------

    async def _sent(self, job: JobState, slot: Slot) -> TaskState | None:
        """Send a Run, and return its task (None: no task exists; resend it).

        Raises:
            SubmissionUnknown: It is unknown whether a task exists.
            WiroError: No task exists.
        """
        assert job.run is not None
        transport = self.service.transport
        try:
            # In turn, so that a cancellation waits for what is being sent, not for all that would like to be.
            await transport.enter(job.run.operation, min(job.until, job.slot_until))
        except BaseException:
            self._give_back(job, slot)
            raise

        def late(outcome: TaskState | WiroError) -> None:
            # The caller was cancelled meanwhile. A task is in job.state, for whoever clears up.
            self._count(job, slot, outcome)
            if isinstance(outcome, SubmissionUnknown):
                slot.release()
                self._leave_open(outcome)

        try:
            self._check(job, slot)
            outcome = await finish(lambda: self._exchange(job, slot), late)
        finally:
            transport.leave()
        self._count(job, slot, outcome)
        match outcome:
            case TaskState():
                job.tries = 0
                return outcome
            case SubmissionUnknown():
                job.tries = 0
                return await self._reconcile(job, slot, outcome)
            case WiroError() if isinstance(outcome, ConcurrencyLimited) or run_may_repeat(outcome):
                self._wait_or_raise(job, outcome)
                return None
            case AuthenticationError(passing=True):
                # The next Run shows whether it was a moment only.
                self.service.limiter.rest(transport.credentials.rest(now()))
                raise outcome
            case _:
                raise outcome

    def _check(self, job: JobState, slot: Slot) -> None:
        try:
            self.monitor.check()
        except BatchStopped:
            self._give_back(job, slot)
            raise

    def _count(self, job: JobState, slot: Slot, outcome: TaskState | WiroError) -> None:
        """Count the slot and the money of a Run by its outcome.

        This runs in the caller's task, not in the exchange: if the outcome stops a batch, the next job let
        through must see it stopped.
        """
        match outcome:
            case TaskState():
                slot.accepted()
                self.monitor.moved(job, "running")
            case SubmissionUnknown():
                # Slot and money stay taken: it may run, and may have been paid.
                slot.doubted()
                self._doubt_bill(job, outcome)
            case _:
                self._give_back(job, slot, outcome)

    async def _exchange(self, job: JobState, slot: Slot) -> TaskState | WiroError:
        """Record the intent, send the Run, and record its outcome, without interruption.

        Returns:
            The task; or why there is none; or ``SubmissionUnknown``.
        """
        assert job.run is not None
        service = self.service
        # Not before its turn, which may have taken minutes: by this time it is judged which task can be its.
        # And before the intent, as the time within which the Run leaves counts from here.
        attempt = service.runs.begin(job.run)
        job.run = attempt.run
        try:
            if self.journal.path:
                leaves = service.runs.not_after(attempt)
                await self.journal.record(
                    Intended(job.key, job.told, attempt.fingerprint, leaves, job.number + 1)
                )
        except WiroError as error:
            service.runs.close(attempt)
            return error
        job.number += 1
        job.attempts += 1
        try:
            accepted, claim = await send(attempt, service.transport, service.known, service.runs)
        except SubmissionUnknown as error:
            await self._record_lateness(job, attempt)
            return error
        except WiroError as error:
            # Before the record, which takes its time: others are about to send.
            self.monitor.heed(error)
            job.attempts -= isinstance(error, TURNED_AWAY)
            await self._record(Released.of(job.key, error, job.number))
            return error
        except BaseException:
            # The end of asyncio.run(), or Ctrl-C on trio: nothing holds those off.
            slot.release()
            doubt = unknown(attempt.fingerprint, "the program ended before the answer was in")
            self._doubt_bill(job, doubt)
            self._leave_open(doubt)
            raise
        state = self._accept(job, slot, accepted, claim)
        if await self._record_task(job, accepted, "answer"):
            return state
        # It is no refusal: a task of this Run may exist all the same.
        job.state = job.slot = None
        cause = f"the reply names task {accepted.id}, which the journal has as another Run's"
        service.runs.doubt(attempt)
        await self._record_lateness(job, attempt)
        return unknown(attempt.fingerprint, cause)

    async def _record_lateness(self, job: JobState, attempt: Attempt) -> None:
        """Record that a Run in doubt may have left too late, if so: its task is waited for longer."""
        if attempt.is_late:
            logger.error(
                "a Run of %s may have left after its time (Limits.send_window): this machine stood still as "
                "it was being sent; its task is waited for so much longer",
                attempt.model,
            )
            await self._record(Late(job.key, attempt.fingerprint.quiet_at, job.number))

    def _accept(
        self, job: JobState, slot: Slot, accepted: records.Accepted, claim: Claim | None
    ) -> TaskState:
        run = job.run
        assert run is not None
        state = job.state = TaskState(
            TaskKey(accepted.id, accepted.token),
            self.service.tasks,
            model=run.model,
            watch=run.watch,
            expected=run.expected,
            submitted_at=time.time(),
            since=now(),
            claim=claim,
            # Whoever holds a single call's handle may see its end, or let go of it; a batch settles first.
            slot=slot if self.hands_over else None,
        )
        if run.callback is not None:
            state.await_callback(run.callback)
        job.slot = slot
        self._bill_to(job, state, accepted.id)
        return state

    def _bill_to(self, job: JobState, state: TaskState, task_id: str) -> None:
        """Tell the client's budget which task a Run's money is for."""
        if self.service.bills is not None:
            state.hold = self.service.bills.hold(job.bill, task_id)

    def _doubt_bill(self, job: JobState, error: SubmissionUnknown) -> None:
        """Tell the client's budget that it is not known which task a Run's money is for, if any."""
        if self.service.bills is not None:
            self.service.bills.doubt(job.bill, error)

    def _wait_or_raise(self, job: JobState, error: WiroError) -> None:
        """Have a Run that the service provably did not accept resent, or raise why not.

        Code 96 waits in the queue. If the service was unreachable or asks for it, all jobs back off.
        """
        job.refusal = error
        if job.patience <= 0:
            raise error
        if isinstance(error, ConcurrencyLimited):
            return
        job.tries += 1
        delay = RUNS.delay(job.tries, self.service.chance(), getattr(error, "retry_after", None))
        if delay is None or now() + delay >= job.slot_until:
            raise error
        self.service.limiter.rest(delay)

    def _give_back(self, job: JobState, slot: Slot, error: WiroError | None = None) -> None:
        """Release the slot and the money of a Run that has no task."""
        if isinstance(error, ConcurrencyLimited):
            slot.refused(error)
        else:
            slot.release(reached=error is not None and run_knowledge(error) == "refused")
        if self.service.bills is not None:
            self.service.bills.withdraw(job.bill)
        if not self.hands_over:
            # A single call keeps it until it ends: its files are uploaded.
            self.budget.release(job.bill)
        self.monitor.moved(job, "waiting")

    async def _record_task(
        self, job: JobState, found: records.Accepted, how: Found, *, doubt: str = ""
    ) -> bool:
        """Make it durable that a task is the job's; False if the journal has it as another attempt's.

        With a *doubt* it takes the place of another task, which turned out not to be the job's.
        """
        accepted = Accepted(job.key, found.id, found.token, job.number, how)
        try:
            await self._record(*([Doubted(job.key, doubt, job.number)] if doubt else []), accepted)
        except Conflict:
            return False
        return True

    async def _record(self, *steps: Step) -> None:
        """Make steps that have happened durable, despite any cancellation.

        Raises:
            Conflict: They name a task that the journal has as another attempt's. Nothing else is raised.

        The money is spent, so the job continues in memory; the monitor stops the batch on a journal failure.
        """
        if self.journal.path:
            try:
                with anyio.CancelScope(shield=True):
                    await self.journal.record(*steps)
            except JournalError as error:
                if isinstance(error, Conflict) and error.held_by is not None:
                    raise
                self.monitor.broken(error)

    # -- reconcile ---------------------------------------------------------------------------------------

    async def _reconcile(self, job: JobState, slot: Slot, error: SubmissionUnknown) -> TaskState | None:
        """Find the task of a Run whose response was lost, or was about another task.

        If the caller wants it resent, its absence has to be proved, which takes longer.

        Returns:
            The task (None: it was proved absent, and the caller wants it resent).

        Raises:
            SubmissionUnknown: It was not found. Its money stays reserved, because it may have been paid.
        """
        outcome: records.Accepted | SubmissionUnknown = error
        resends = job.options.on_unknown == "resubmit" and job.resubmits < RESUBMITS
        attempt = self.service.runs.find(fingerprint_of(error))
        try:
            with anyio.CancelScope(deadline=job.until):
                outcome = await self.service.search.find(
                    attempt, error.cause, proves=resends, take=partial(self._record_task, job)
                )
        except BaseException:
            slot.release()
            self._leave_open(error)
            raise
        if isinstance(outcome, records.Accepted):
            return self._found(job, slot, outcome)
        await self._record(Doubted(job.key, outcome.cause, job.number))
        if not (outcome.absent and resends):
            slot.release()
            raise outcome
        job.resubmits += 1
        # What was waited for so far was no slot.
        job.slot_until = min(now() + job.patience, job.until)
        logger.warning("a Run of %s was proved absent; resending it (on_unknown='resubmit')", job.model)
        await self._record(Released.of(job.key, outcome, job.number))
        self._give_back(job, slot)
        return None

    def _found(self, job: JobState, slot: Slot, task: records.Accepted) -> TaskState:
        """Take the task that a search has found, and recorded, for the job's Run."""
        assert job.run is not None
        state = self._accept(job, slot, task, job.run.claim(self.service.known))
        slot.found()
        self.monitor.moved(job, "running")
        return state

    def _leave_open(self, error: SubmissionUnknown) -> None:
        """Keep a ``SubmissionUnknown`` that no outcome reports, unless the journal keeps it."""
        if not self.journal.durable:
            self.service.leave_open(error)

    async def _take_up(self, job: JobState) -> None:
        """Resume the task that an earlier process started for the job, if any."""
        entry = job.entry
        if entry is None:
            return
        job.number = entry.attempt
        if entry.state in FAILED:
            return
        if entry.state == "refused" and not was_believed_too_soon(entry.error, entry.reason):
            return
        # Before anything is set aside for it: a task of unknown price holds back all others.
        await self._learn_price(job)
        # A Run that may have left may have been paid: its money is set aside before the next job comes.
        self.budget.adopt(job.bill, self.prices.highest(job.model, job.told))
        if self.service.bills is not None:
            self.service.bills.describe(job.bill, job.model, job.told)
        if entry.state in ("running", "stalled"):
            self._adopt(job, TaskKey(entry.task_id, entry.token))
            self._let_next(job)
            return
        # It may have to wait until no request of the dead process can be on its way: the others need not.
        self._let_next(job)
        attempt = self.service.runs.find(entry.fingerprint)
        # Whoever sent an intended Run is gone, and waits for no answer any more.
        resends = entry.state != "unknown" or job.options.on_unknown == "resubmit"
        async with self.ahead or nullcontext():
            outcome = await self.service.search.find(
                attempt,
                entry.reason or "the program ended before its answer was recorded",
                proves=resends,
                take=partial(self._record_task, job),
            )
        if isinstance(outcome, records.Accepted):
            self._adopt(job, TaskKey(outcome.id, outcome.token))
        elif outcome.absent and resends:
            await self._record(Released.of(job.key, outcome, job.number))
            self.budget.release(job.bill)
        else:
            self._doubt_bill(job, outcome)
            raise outcome

    def _adopt(self, job: JobState, key: TaskKey) -> None:
        """Count a task that is already running."""
        job.slot = self.line.adopt()
        job.state = self.service.attach(key, exists=True)
        self._bill_to(job, job.state, key.id or "")
        self.monitor.moved(job, "running")

    # -- watch, settle -----------------------------------------------------------------------------------

    async def _watch(self, job: JobState, state: TaskState) -> None:
        """Wait for a task's end, and settle it. If another Run is to follow, the job then has no task.

        Raises:
            TaskFailed, TaskCancelled: It ended so, with no retry left.
            TaskTimeout: The wait timed out; the task continues.
            TaskStalled: It stands in ``task_error``; perhaps it continues.
            TaskUnclear: It has ended, and the service does not say how.
            WiroError: Its end cannot be seen.
        """
        slot = job.slot
        assert slot is not None
        wait = self.wait_timeout if job.until == math.inf else max(job.until - now(), 0.0)
        # One that was found so by an earlier process has had its grace: a poll tells whether it still is.
        was_stalled = job.entry is not None and job.entry.state == "stalled" and job.run is None
        try:
            obstacle = await state.reach(None, wait, grace=0.0 if was_stalled else None)
            if obstacle is not None:
                raise unfinished(TaskHandle(state), obstacle, wait)
        except SubmissionUnknown as error:
            # The first poll has shown that the Run's answer was about another's task.
            job.state = None
            slot.doubted()
            await self._record(Doubted(job.key, error.cause, job.number))
            await self._reconcile(job, slot, error)
            return
        except TaskNotFound as error:
            if not await self._replaced(job, slot, error):
                self._let_go(slot)
                raise
            return
        except TaskUnclear:
            assert state.task is not None
            await self._settle(job, state.task)
            raise
        except BaseException as error:
            self._let_go(slot)
            if isinstance(error, TaskStalled):
                await self._record(Stalled(job.key, error.debug_error))
            raise
        task = state.task
        assert task is not None
        await self._settle(job, task)
        if task.outcome == "succeeded":
            job.task = task
            return
        failure = ending(task)
        if not isinstance(failure, TaskFailed):
            raise failure
        self.monitor.run_failed(failure)
        if job.attempts > self.retry_failed:
            raise failure
        job.failure, job.state = failure, None

    def _let_go(self, slot: Slot) -> None:
        """Release the slot of a task whose end was not seen; its money stays set aside."""
        if not self.hands_over:
            slot.release()

    async def _replaced(self, job: JobState, slot: Slot, error: TaskNotFound) -> bool:
        """Search for the task of a Run whose answer named one that the service does not know.

        The answer may have been another Run's. The id in hand is not given up before another task is found.

        Returns:
            Whether one was found; it is the job's task from here on.
        """
        doubt, denied = error.doubt, job.state
        if doubt is None or denied is None:
            return False

        async def take(found: records.Accepted, how: Found) -> bool:
            # Its own id may be in the list: then it is that task, and Detail denies it all the same.
            return found.id != denied.key.id and await self._record_task(job, found, how, doubt=doubt.cause)

        try:
            with anyio.CancelScope(deadline=job.until):
                attempt = self.service.runs.find(fingerprint_of(doubt))
                found = await self.service.search.find(attempt, doubt.cause, proves=False, take=take)
                if isinstance(found, records.Accepted):
                    job.state = None
                    self._found(job, slot, found)
                    return True
        except BaseException:
            self._let_go(slot)
            raise
        return False

    async def _settle(self, job: JobState, task: Task) -> None:
        """Count what a task cost, and record its end.

        Until the service tells the charge, the estimate counts, in the journal too: otherwise the next
        process would start with money already spent.
        """
        cost = task.cost
        # Without a slot it is settled: whoever stops it does not count it again.
        slot, job.slot = job.slot, None
        assert slot is not None
        bill, job.bill = job.bill, Bill()
        counted = self.budget.settle(bill, cost, task.id)
        if cost is None:
            job.is_uncharged = True
            self._await_charge(job, task, counted or None)
        else:
            job.spent = cost if job.spent is None else job.spent + cost
            if task.outcome == "succeeded" and self.charges is not None:
                self.prices.learn(job.model, job.told, cost)
        try:
            await self._record(Ended.of(job.key, task, counted or None))
        finally:
            # Whoever waits for the slot is woken even if the end of asyncio.run() cuts the record off.
            slot.release(cost)

    # -- charges -----------------------------------------------------------------------------------------

    def _await_charge(self, job: JobState, task: Task, counted: Decimal | None) -> None:
        if self.charges is not None:
            sent_at = time.time() if task.created_at is None else task.created_at.timestamp()
            run = UnchargedRun(job.key, job.model, job.told, task.id, sent_at, time.time(), counted)
            self.charges.add(run, now())

    def saw(self, task: Task) -> bool:
        """Count the charge of a task that a reply has shown, if it is awaited, and keep it to be recorded.

        Whoever asked for the reply: this batch, or a caller who lists tasks or refreshes a handle.

        Returns:
            Whether there is a charge to record.
        """
        assert self.charges is not None
        step = self.charges.take(task, time.time())
        if step is None:
            return False
        self.charged.append(step)
        self.service.limiter.change()
        return True

    async def record_charges(self) -> None:
        """Record the charges that were seen, each once."""
        steps, self.charged = self.charged, []
        if steps:
            await self._record(*steps)

    async def settle_charges(self, *, last: bool = False) -> None:
        """Look for charges that were not recorded when their tasks ended.

        Args:
            last: Whether this batch looks no more: then all are looked for.
        """
        charges = self.charges
        assert charges is not None
        runs = {run.task_id: run for run in charges.wanted(now(), last=last)}
        try:
            with anyio.move_on_after(self.service.config.limits.request_timeout):
                await self._read_tasks(runs)
        finally:
            await self.record_charges()
        overdue = charges.overdue()
        if overdue is not None:
            self.monitor.uncounted(overdue)

    async def _read_tasks(self, runs: Mapping[str, UnchargedRun]) -> None:
        """Read the tasks of runs, so that ``saw`` hears of them.

        A few are polled; of many the list is read, back to the oldest of them. What cannot be read now stays
        for another time.
        """
        if len(runs) <= FEW:
            for task_id in runs:
                try:
                    await self.service.attach(TaskKey(task_id)).poll_once()
                except WiroError as error:
                    logger.debug("reading the charge of task %s: %s", task_id, error)
            return
        left, oldest = set(runs), min(run.sent_at for run in runs.values()) - LIST_MARGIN
        try:
            async for task in self.service.list_tasks(None, None):
                left.discard(task.id)
                if not left or (task.created_at is not None and task.created_at.timestamp() < oldest):
                    break
        except WiroError as error:
            logger.debug("reading charges from the list: %s", error)

    async def _stop(self, job: JobState, state: TaskState) -> None:
        """Stop a task whose caller leaves, within ``Limits.stop_timeout``; ignore failures."""
        if job.slot is None:
            return

        async def stop() -> None:
            await state.try_stop()
            if state.done and state.task is not None:
                await self._settle(job, state.task)

        await finish(stop, lambda _: None)

    # -- save --------------------------------------------------------------------------------------------

    async def _fetch(self, job: JobState, entry: JournalEntry) -> None:
        """Resume a job whose task has ended: fetch what is not on disk yet.

        Raises:
            DownloadError: The service has fewer outputs than the journal, so one is gone.
        """
        self.monitor.moved(job, "downloading")
        self._let_next(job)
        state = job.state = self.service.attach(TaskKey(entry.task_id, entry.token), exists=True)
        if self.saver is not None and entry.files:
            job.paths = await self.saver.all_there(entry.files)
        if job.paths:
            job.unproved = [Path(file.path) for file in entry.files if not file.whole]
            await self._close(job)
            return
        task = await state.poll_once()
        if not entry.files:
            task = await self._judge(job, state, entry)
        job.task = task
        if self.saver is not None:
            known = {output.index for output in task.outputs if output.url}
            for file in entry.files:
                if file.url and file.n not in known:
                    raise DownloadError(
                        f"output {file.name[:60]!r} of task {task.id} is no longer at the service, and "
                        f"not on disk as it was saved",
                        url=file.url,
                        path=file.path,
                    )
        await self._save(job, task, {file.n: file for file in entry.files if file.path})

    async def _judge(self, job: JobState, state: TaskState, entry: JournalEntry) -> Task:
        """Look again at an end that was recorded without outputs: perhaps it is whole now.

        Raises:
            TaskFailed: It is clear now that the task failed.
            TaskUnclear: It is not clear yet.
            WiroError: It cannot be read.
        """
        obstacle = await state.reach(None, self.wait_timeout)
        if obstacle is not None:
            raise unfinished(TaskHandle(state), obstacle, self.wait_timeout)
        task = state.task
        assert task is not None
        if entry.state == "ended" and entry.outcome in (None, task.outcome):
            await self._record(Ended.of(job.key, task, entry.cost))
        if task.outcome != "succeeded":
            raise ending(task)
        return task

    async def _save(self, job: JobState, task: Task, before: Mapping[int, JournalFile]) -> None:
        """Save the outputs, if wanted, and close the job."""
        if self.saver is not None:
            if job.stage != "downloading":
                self.monitor.moved(job, "downloading")
            for output in task.outputs:
                if output.url:
                    known = before.get(output.index)
                    path, step = await self.saver.save(job.key, job.model, output, known)
                    if step is not None:
                        await self._record(step)
                    job.paths.append(path)
                    is_whole = step.whole if step is not None else known is not None and known.whole
                    if not is_whole:
                        job.unproved.append(path)
        await self._close(job)

    async def _close(self, job: JobState) -> None:
        """Close the job after deleting the service's copies, which would otherwise be left.

        They are kept if it is not certain that ours are whole.
        """
        if self.delete_remote and job.unproved:
            logger.warning(
                "the service's copies of the outputs of the job %r stay: it is not certain that %s is whole",
                job.key,
                job.unproved[0],
            )
        elif self.delete_remote and job.paths:
            assert job.state is not None
            await job.state.delete_files()
        await self._record(Done(job.key))


def _exceeded(
    model: str,
    estimate: Estimate,
    spent: Decimal,
    limit: Decimal,
    scope: Literal["call", "client"],
    *,
    allowed: bool,
) -> BudgetExceeded:
    """Return the error of a single call that its own limit, or the client's, does not cover.

    Args:
        model: The slug.
        estimate: What the Run may cost.
        spent: USD of the limit that are gone.
        limit: The limit, in USD.
        scope: Whose it is.
        allowed: Whether a Run of unknown price may be sent.
    """
    whose = "this call's" if scope == "call" else "the client's"
    gone = f", of which {plain(spent)} are spent, or reserved for runs in flight" if spent else ""
    budget = f"{whose} max_cost is {plain(limit)} USD{gone}"
    if estimate.amount is not None:
        price = f"a run of {model} may cost {plain(estimate.amount)} USD ({estimate.source})"
        other = "wait for the runs in flight" if spent else "choose inputs that cost less"
        advice = f"raise the limit, or {other}"
    else:
        price = f"nobody knows what a run of {model} costs ({estimate.source})"
        advice = "raise the limit" if allowed else "allow_unpriced=True sends it all the same"
    return BudgetExceeded(
        f"{price}, and {budget}; nothing was sent; {advice}",
        price=estimate.amount,
        spent=spent,
        limit=limit,
        scope=scope,
    )
