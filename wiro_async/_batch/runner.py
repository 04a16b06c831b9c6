"""One job of a batch, from its intent to its outcome: never two paid Runs, and every step written down first.

What must not be cut in half is shielded: from the intent to the answer, and from an end to its record. All
else may be cancelled at any moment, and is taken up again from the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from wiro_async._batch.source import FAILED, Entry, holds
from wiro_async._errors import (
    BatchStopped,
    ConcurrencyLimited,
    ConnectionFailed,
    DownloadError,
    InvalidInput,
    RateLimited,
    SubmissionUnknown,
    TaskFailed,
    WiroError,
)
from wiro_async._files.inputs import is_local_file
from wiro_async._http.retry import backoff
from wiro_async._jobs.job import JobOutcome
from wiro_async._jobs.submit import RESUBMITS, Run
from wiro_async._journal import steps
from wiro_async._journal.steps import TURNED_AWAY, Blob, JournalFile
from wiro_async._protocol.matching import fingerprint_of
from wiro_async._protocol.records import Accepted, Task, TaskKey, TaskResult
from wiro_async._tasks.handle import TaskHandle, ending
from wiro_async._types import Priority

if TYPE_CHECKING:
    from wiro_async._batch.coordinator import Coordinator

__all__ = ["JobRunner"]

MOST_TRIES = 8
"""How often a Run that did not reach the service is tried, with pauses that all jobs share."""

PATIENT = 3
"""How many doublings the first of these pauses has behind it: from 0.8 s they grow to a minute in all."""

STOPPING_SECONDS = 30.0


class JobRunner:
    """Takes one job to its outcome.

    Args:
        desk: What the workers of a batch share.
        entry: The job.
        through: Called once it stands in nobody's way any more.
    """

    def __init__(self, desk: Coordinator, entry: Entry, through: Callable[[], object]) -> None:
        self._desk = desk
        self._entry = entry
        self._through = through
        self._run: Run | None = None
        self._handle: TaskHandle | None = None
        self._task: Task | None = None
        self._paths: list[Path] = []
        self._failure: TaskFailed | None = None
        self._tries: int = 0
        self._resubmits: int = 0

    async def perform(self) -> JobOutcome:
        """Do the job; whatever becomes of it is an outcome."""
        problem: WiroError | OSError | None = None
        try:
            await self._do()
            self._desk.succeeded(self._entry)
        except (WiroError, OSError) as error:
            # That there was to be another Run is less than why the last one failed.
            problem = self._failure if isinstance(error, BatchStopped) and self._failure else error
            self._desk.failed(self._entry, problem)
        except BaseException:
            if self._handle is not None:
                self._desk.leave(self._handle)
            raise
        return self._outcome(problem)

    def _outcome(self, problem: WiroError | OSError | None) -> JobOutcome:
        entry = self._entry
        known = getattr(problem, "task_id", None) if self._handle is None else self._handle.id
        return JobOutcome(
            entry.key,
            entry.job,
            None if self._task is None else TaskResult.of(self._task),
            problem,
            entry.attempts,
            entry.spent,
            tuple(self._paths),
            known or "",
        )

    async def _do(self) -> None:
        row = self._entry.row
        if row is not None and row.state in ("ended", "done"):
            await self._fetch(row.files)
            return
        self._handle = await self._taken_up()
        while self._task is None:
            if self._handle is None:
                self._handle = await self._started()
            self._handle = await self._seen_to_its_end(self._handle)
        assert self._handle is not None
        await self._keep(self._handle, self._task)

    # -- taking up what the journal has ------------------------------------------------------------------

    async def _taken_up(self) -> TaskHandle | None:
        """Return the task that the job has already (None: it has none, and needs a Run)."""
        row = self._entry.row
        if row is None or row.state in ("refused", *FAILED):
            return None
        # Before anything is set aside for it: a task of unknown price holds back all others.
        await self._desk.ask_the_price(row.model)
        if row.state != "running":
            return await self._found_again()
        handle = self._adopted(Accepted(row.task_id, row.token))
        self._through()
        return handle

    async def _found_again(self) -> TaskHandle | None:
        """Look for the task of a Run that may have left before the program ended."""
        desk, row = self._desk, self._entry.row
        assert row is not None
        # Before the next job may come: it may have been paid.
        desk.reserve(self._entry)
        async with desk.ahead:
            self._through()
            cause = "the program ended before its answer was recorded"
            # A doubt was looked into when it was new. Of an intended Run nobody knows when it really left.
            outcome = await desk.look_for(row.fingerprint, cause, again=row.state == "unknown")
        if isinstance(outcome, Accepted):
            await desk.record(steps.Accepted(row.key, outcome.id, outcome.token))
            return self._adopted(outcome)
        # Whoever sent an intended Run is gone, and the service has had half a minute: it did not arrive.
        if outcome.absent and (row.state == "intended" or desk.terms.on_unknown == "resubmit"):
            await desk.record(steps.Released.of(row.key, outcome))
            desk.budget.release(self._entry)
            return None
        raise outcome

    def _adopted(self, accepted: Accepted) -> TaskHandle:
        """Return the handle of a task that runs already, and holds a slot and money."""
        self._desk.adopt(self._entry)
        return self._desk.attach(TaskKey(accepted.id, accepted.token))

    # -- submitting --------------------------------------------------------------------------------------

    async def _started(self) -> TaskHandle:
        """Make a Run, as soon as there is room and money for it.

        Raises:
            BatchStopped: No more Runs are made.
            WiroError: It was refused, or nobody knows.
        """
        desk, entry = self._desk, self._entry
        entry.on_trial = True
        is_slow = self._run is None and holds(entry.inputs, is_local_file)
        async with desk.ahead if is_slow else nullcontext():
            if is_slow:
                self._through()
            self._run = self._run or await self._prepared()
            await desk.enter(entry)
        self._through()
        while True:
            handle = await self._tried(self._run)
            if handle is not None:
                return handle
            await desk.enter(entry)

    async def _prepared(self) -> Run:
        entry = self._entry
        if entry.problem is not None:
            raise entry.problem
        return await self._desk.prepare(entry.model, await self._revived("inputs", entry.inputs))

    async def _revived(self, name: str, value: Any) -> Any:
        """Return inputs that can be submitted: bytes that only their digest is left of are their uploads."""
        if isinstance(value, Mapping):
            return {each: await self._revived(each, item) for each, item in value.items()}
        if isinstance(value, list):
            return [await self._revived(name, item) for item in value]
        if not isinstance(value, Blob):
            return value
        url = await self._desk.journal.url_of(value.sha256)
        if url is None:
            raise InvalidInput(
                f"the input {name!r} was {value.size} bytes, which no journal keeps; give the job again",
                name=name,
            )
        return url

    async def _tried(self, run: Run) -> TaskHandle | None:
        """Send a Run, and return its task (None: there is none, and it is to be tried again).

        Raises:
            WiroError: It is not to be tried again.
        """
        desk, entry = self._desk, self._entry
        try:
            accepted, run = await self._sent(run)
        except ConcurrencyLimited as error:
            desk.turned_away(entry, error)
            return None
        except SubmissionUnknown:
            # Its money stays set aside, because it may have been paid.
            desk.door.dropped()
            raise
        except (RateLimited, ConnectionFailed) as error:
            self._tries += 1
            asked = getattr(error, "retry_after", None)
            desk.turned_away(entry, pause=backoff(self._tries + PATIENT, 1.0, asked))
            if self._tries >= MOST_TRIES:
                raise
            return None
        except BaseException:
            desk.turned_away(entry)
            raise
        if accepted is None:
            desk.turned_away(entry)
            return None
        self._tries = 0
        desk.accepted(entry)
        return desk.handle(TaskKey(accepted.id, accepted.token), run)

    async def _sent(self, run: Run) -> tuple[Accepted | None, Run]:
        """Send a Run, and make sure that the journal knows what became of it.

        Returns:
            Its task (None: it is to be sent anew), and the Run with the time at which it left.
        """
        desk = self._desk
        # In turn, so that leaving the batch waits for what is being sent, and not for all that would like to.
        await desk.sending.enter(Priority.RUN)
        answer: Accepted | SubmissionUnknown | None = None
        try:
            desk.check()
            # Not before its turn, which may have taken minutes: by this time it is judged how old it is.
            run = attrs.evolve(run, sent_at=time.time())
            with anyio.CancelScope(shield=True):
                answer = await self._answered(run)
        finally:
            desk.sending.leave()
        assert answer is not None
        return answer if isinstance(answer, Accepted) else await self._looked_for(answer), run

    async def _answered(self, run: Run) -> Accepted | SubmissionUnknown:
        entry, desk = self._entry, self._desk
        await desk.journal.record(steps.Intended(entry.key, entry.told, run.fingerprint))
        entry.attempts += 1
        try:
            accepted = await desk.send(run)
        except SubmissionUnknown as error:
            return error
        except WiroError as error:
            # Before the record, which takes its time: others are about to send.
            desk.heed(error)
            if isinstance(error, TURNED_AWAY):
                entry.attempts -= 1
            await desk.record(steps.Released.of(entry.key, error))
            raise
        await desk.record(steps.Accepted(entry.key, accepted.id, accepted.token))
        return accepted

    async def _looked_for(self, error: SubmissionUnknown) -> Accepted | None:
        """Find the task of a Run whose answer was lost, or was another's.

        Returns:
            The task (None: it is proved absent, and the terms say that it may be sent anew).

        Raises:
            SubmissionUnknown: It is not there, and that is all that can be done.
        """
        desk, entry = self._desk, self._entry
        outcome = await desk.look_for(fingerprint_of(error), error.cause)
        if isinstance(outcome, Accepted):
            await desk.record(steps.Accepted(entry.key, outcome.id, outcome.token))
            return outcome
        await desk.record(steps.Doubted(entry.key, outcome.cause))
        if not outcome.absent or desk.terms.on_unknown != "resubmit" or self._resubmits == RESUBMITS:
            raise outcome
        self._resubmits += 1
        await desk.record(steps.Released.of(entry.key, outcome))
        return None

    # -- running -----------------------------------------------------------------------------------------

    async def _seen_to_its_end(self, handle: TaskHandle) -> TaskHandle | None:
        """See a task to its end.

        Returns:
            The handle of the task that has succeeded, or of the one that it really was; None: there is to be
            another Run.

        Raises:
            TaskFailed, TaskCancelled: It has, for good.
            WiroError: Its end cannot be seen.
        """
        try:
            task = await self._ended(handle)
        except SubmissionUnknown as error:
            return await self._exchanged(error)
        if task.outcome == "succeeded":
            self._task = task
            return handle
        failure = ending(task)
        if not isinstance(failure, TaskFailed):
            raise failure
        self._desk.run_failed(failure)
        if self._entry.attempts > self._desk.terms.retry_failed:
            raise failure
        self._failure = failure
        return None

    async def _ended(self, handle: TaskHandle) -> Task:
        """Wait for a task's end, and write it down."""
        desk = self._desk
        try:
            task = await self._waited(handle)
        except SubmissionUnknown:
            raise
        except BaseException:
            desk.over(None)
            raise
        await self._record(task)
        desk.over(task)
        return task

    async def _record(self, task: Task) -> None:
        """Write down a task's end and its cost, which is an estimate where the service does not tell it."""
        entry, desk = self._entry, self._desk
        cost = desk.settle(entry, task)
        # Else the next process would begin with money that is spent.
        await desk.record(steps.Ended.of(entry.key, task, cost))
        if cost is not None:
            entry.spent = cost if entry.spent is None else entry.spent + cost

    async def _waited(self, handle: TaskHandle) -> Task:
        desk = self._desk
        try:
            return await handle.wait(desk.terms.timeout)
        except anyio.get_cancelled_exc_class():
            if desk.terms.stop_on_exit == "stop":
                await self._stopped(handle)
            raise

    async def _stopped(self, handle: TaskHandle) -> None:
        """Stop a task on the way out; what that leaves behind is in the journal."""
        with anyio.CancelScope(shield=True):
            try:
                task = await handle.stop(STOPPING_SECONDS)
            except WiroError:
                return
            await self._record(task)

    async def _exchanged(self, error: SubmissionUnknown) -> TaskHandle | None:
        """Find the task of a Run whose answer was about another job's, as the first look has shown."""
        desk, entry, run = self._desk, self._entry, self._run
        assert run is not None
        self._handle = None
        await desk.record(steps.Doubted(entry.key, error.cause))
        try:
            accepted = await self._looked_for(error)
        except BaseException:
            desk.over(None)
            raise
        if accepted is None:
            desk.disowned(entry)
            return None
        again = attrs.evolve(run, sent_at=error.submitted_at)
        return desk.handle(TaskKey(accepted.id, accepted.token), again)

    # -- keeping what it brought -------------------------------------------------------------------------

    async def _fetch(self, files: tuple[JournalFile, ...]) -> None:
        """Take up a job whose task has ended: fetch what is not there yet."""
        row, desk = self._entry.row, self._desk
        assert row is not None
        desk.move(self._entry, "downloading")
        self._through()
        handle = self._handle = desk.attach(TaskKey(row.task_id, row.token))
        if desk.keeper is not None and files:
            self._paths = await desk.keeper.all_there(files)
        if self._paths:
            await self._close(handle)
            return
        self._task = await handle.refresh()
        if desk.keeper is not None:
            _check_known(self._task, files)
        await self._keep(handle, self._task, {file.n: file for file in files if file.path})

    async def _keep(
        self, handle: TaskHandle, task: Task, known: Mapping[int, JournalFile] | None = None
    ) -> None:
        """Save the outputs, if that is wanted, and close the job."""
        desk, entry = self._desk, self._entry
        if desk.keeper is not None:
            if entry.stage != "downloading":
                desk.move(entry, "downloading")
            for output in task.outputs:
                if output.url:
                    before = (known or {}).get(output.index)
                    self._paths.append(await desk.keeper.keep(handle, entry, output, before))
        await self._close(handle)

    async def _close(self, handle: TaskHandle) -> None:
        """Close the job, once the service's copies are gone: else they would be forgotten."""
        if self._desk.terms.delete_remote and self._paths:
            await handle.delete_files()
        await self._desk.record(steps.Done(self._entry.key))


def _check_known(task: Task, files: tuple[JournalFile, ...]) -> None:
    """Refuse a task that the service tells fewer outputs of than the journal.

    Raises:
        DownloadError: An output cannot be had any more.
    """
    known = {output.index for output in task.outputs if output.url}
    for file in files:
        if file.url and file.n not in known:
            raise DownloadError(
                f"output {file.name[:60]!r} of task {task.id} is not at the service any more, and not on the "
                f"disk as it was saved",
                url=file.url,
                path=file.path,
            )
