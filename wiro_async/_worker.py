"""One job of a batch, from its intent to its outcome: never two paid Runs, and every step written down first.

What must not be cut in half is shielded: from the intent to the answer, and from an end to its record. All
else may be cancelled at any moment, and is taken up again from the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from wiro_async._errors import (
    ConcurrencyLimited,
    ConnectionFailed,
    InvalidInput,
    RateLimited,
    SubmissionUnknown,
    WiroError,
)
from wiro_async._intake import Entry
from wiro_async._jobs import JobOutcome
from wiro_async._ledger import Blob, LocalFile
from wiro_async._models import Task, TaskResult
from wiro_async._operations import Accepted, Priority, TaskKey
from wiro_async._reconcile import doubt_of
from wiro_async._retry import backoff
from wiro_async._submit import Run
from wiro_async._task import TaskHandle, ending

if TYPE_CHECKING:
    from wiro_async._desk import Desk

__all__ = ["Worker"]

MOST_TRIES = 8
"""How often a Run that did not reach the service is tried, with pauses that all jobs share."""

STOPPING_SECONDS = 30.0


class Worker:
    """Takes one job to its outcome.

    Args:
        desk: What the workers of a batch share.
        entry: The job.
        through: Called once it stands in nobody's way any more.
    """

    def __init__(self, desk: Desk, entry: Entry, through: Callable[[], object]) -> None:
        self._desk = desk
        self._entry = entry
        self._through = through

    async def perform(self) -> JobOutcome:
        """Do the job; whatever becomes of it is an outcome."""
        entry = self._entry
        result, problem, task_id = None, None, ""
        paths: list[Path] = []
        try:
            handle = await self._taken_up()
            if handle is not None:
                self._through()
            handle, task = await self._finished(handle)
            task_id = task.id
            result = TaskResult.of(task)
            paths = await self._kept(handle, task)
        except (WiroError, OSError) as error:
            problem = error
            task_id = task_id or getattr(error, "task_id", "") or ""
            self._desk.failed(error)
        return JobOutcome(
            entry.key, entry.job, result, problem, entry.attempts, entry.spent, tuple(paths), task_id
        )

    # -- taking up what the journal has ------------------------------------------------------------------

    async def _taken_up(self) -> TaskHandle | None:
        """Return the task that the job has already (None: it has none, and needs a Run)."""
        row = self._entry.row
        if row is None or row.state in ("refused", "failed"):
            return None
        if row.state == "ended":
            return self._attached(row.task_id, row.token)
        if row.state == "running":
            return self._adopted(Accepted(row.task_id, row.token))
        return await self._found_again()

    async def _found_again(self) -> TaskHandle | None:
        """Look for the task of a Run that may have left before the program ended."""
        desk, row = self._desk, self._entry.row
        assert row is not None
        outcome = await desk.look_for(row.doubt, "the program ended before its answer was recorded")
        if isinstance(outcome, Accepted):
            await desk.book.accepted(row.key, outcome)
            return self._adopted(outcome)
        if row.state == "intended" and outcome.absent:
            # Whoever sent it is gone, and the service has had half a minute: it did not arrive.
            await desk.book.released(row.key, outcome)
            return None
        await desk.book.doubted(row.key, outcome.cause)
        if outcome.absent and desk.terms.on_unknown == "resubmit":
            await desk.book.released(row.key, outcome)
            return None
        raise outcome

    def _adopted(self, accepted: Accepted) -> TaskHandle:
        """Return the handle of a task that runs already, and holds a slot and money."""
        self._desk.adopt(self._entry)
        return self._attached(accepted.id, accepted.token)

    def _attached(self, task_id: str, token: Any) -> TaskHandle:
        return self._desk.attach(TaskKey(task_id, token))

    # -- running -----------------------------------------------------------------------------------------

    async def _finished(self, handle: TaskHandle | None) -> tuple[TaskHandle, Task]:
        """Return a task that has succeeded, after as many Runs as the terms allow.

        Raises:
            TaskFailed, TaskCancelled: The last one did not.
            WiroError: There is none, or nobody knows.
        """
        entry, desk = self._entry, self._desk
        if entry.row is not None and entry.row.state == "ended":
            assert handle is not None
            return handle, await handle.refresh()
        while True:
            if handle is None:
                handle = await self._started()
            task = await self._ended(handle)
            if task.outcome == "succeeded":
                desk.succeeded()
                return handle, task
            if task.outcome == "cancelled" or entry.attempts > desk.terms.retry_failed:
                raise ending(task)
            desk.failed(ending(task))
            desk.check()
            handle = None

    async def _started(self) -> TaskHandle:
        """Make a Run, as soon as there is room and money for it.

        Raises:
            BatchStopped: No more Runs are made.
            WiroError: It was refused, or nobody knows.
        """
        desk, entry = self._desk, self._entry
        run = await desk.prepare(entry.model, _revived(entry.inputs, await self._blobs()))
        again = False
        tries = 0
        while True:
            await desk.enter(entry, again=again)
            self._through()
            try:
                return await self._sent(attrs.evolve(run, sent_at=time.time()))
            except ConcurrencyLimited as error:
                desk.door.refused(error)
                desk.move(entry, "waiting")
            except (RateLimited, ConnectionFailed) as error:
                tries += 1
                self._turned_away(error, give_up=tries >= MOST_TRIES)
                desk.move(entry, "waiting")
                desk.door.rest(backoff(tries, 1.0, getattr(error, "retry_after", None)))
            except BaseException as error:
                self._turned_away(error, give_up=True)
            again = True

    def _turned_away(self, error: BaseException, *, give_up: bool) -> None:
        """Give back the slot, and with it the money unless a task may exist."""
        self._desk.door.dropped()
        if give_up:
            if not isinstance(error, SubmissionUnknown):
                self._desk.budget.release(self._entry.key)
            raise error

    async def _blobs(self) -> Mapping[str, str]:
        """Return where bytes that only their digests are left of were uploaded to."""
        found: dict[str, str] = {}
        for value in self._entry.inputs.values():
            if isinstance(value, Blob):
                url = await self._desk.book.url_of(value.sha256)
                if url is not None:
                    found[value.sha256] = url
        return found

    async def _sent(self, run: Run) -> TaskHandle:
        """Send a Run, and make sure that the journal knows what became of it."""
        entry, desk = self._entry, self._desk
        # In turn, so that leaving the batch waits for what is being sent, and not for all that would like to.
        await desk.sending.enter(Priority.RUN)
        try:
            with anyio.CancelScope(shield=True):
                answer = await self._answered(run)
        finally:
            desk.sending.leave()
        if isinstance(answer, SubmissionUnknown):
            answer = await self._looked_for(answer)
        desk.door.accepted()
        desk.move(entry, "running")
        return desk.handle(TaskKey(answer.id, answer.token), run)

    async def _answered(self, run: Run) -> Accepted | SubmissionUnknown:
        entry, book = self._entry, self._desk.book
        await book.intend(entry.key, entry.inputs, run.doubt)
        entry.attempts += 1
        try:
            accepted = await self._desk.send(run)
        except SubmissionUnknown as error:
            return error
        except WiroError as error:
            if isinstance(error, ConcurrencyLimited | RateLimited | ConnectionFailed):
                entry.attempts -= 1
            await book.released(entry.key, error)
            raise
        await book.accepted(entry.key, accepted)
        return accepted

    async def _looked_for(self, error: SubmissionUnknown) -> Accepted:
        """Find the task of a Run whose answer was lost.

        Raises:
            SubmissionUnknown: It is not there.
            ConnectionFailed: It is not there, and the terms say that it may be sent anew.
        """
        desk, entry = self._desk, self._entry
        outcome = await desk.look_for(doubt_of(error), error.cause)
        if isinstance(outcome, Accepted):
            await desk.book.accepted(entry.key, outcome)
            return outcome
        await desk.book.doubted(entry.key, outcome.cause)
        if outcome.absent and desk.terms.on_unknown == "resubmit":
            await desk.book.released(entry.key, outcome)
            raise ConnectionFailed(
                f"{outcome.cause}; the task was proved absent", sent=False, operation="Run"
            )
        raise outcome

    async def _ended(self, handle: TaskHandle) -> Task:
        """See a task to its end, and write it down."""
        entry, desk = self._entry, self._desk
        try:
            task = await self._waited(handle)
        except SubmissionUnknown as error:
            # The first look has shown that the Run's answer was about another job's task.
            await desk.book.doubted(entry.key, error.cause)
            desk.over(entry, None)
            raise
        except BaseException:
            desk.over(entry, None)
            raise
        await desk.book.ended(entry.key, task)
        cost = task.total_cost
        if cost is not None:
            entry.spent = cost if entry.spent is None else entry.spent + cost
        desk.over(entry, task)
        return task

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
            await self._desk.book.ended(self._entry.key, task)

    # -- keeping what it brought -------------------------------------------------------------------------

    async def _kept(self, handle: TaskHandle, task: Task) -> list[Path]:
        """Save the outputs, if that is wanted, and close the job."""
        desk, entry = self._desk, self._entry
        paths = []
        if desk.keeper is not None:
            desk.move(entry, "downloading")
            known = {file.n: file for file in entry.row.files if file.path} if entry.row is not None else {}
            for output in task.outputs:
                if not output.url:
                    continue
                before = known.get(output.index)
                paths.append(await desk.keeper.keep(handle, entry, output, before))
        await desk.book.done(entry.key)
        if desk.terms.delete_remote and paths:
            await handle.delete_files()
        return paths


def _revived(inputs: Mapping[str, Any], urls: Mapping[str, str]) -> dict[str, Any]:
    """Return inputs that can be submitted: recorded files are files again, recorded bytes their uploads."""
    return {name: _alive(name, value, urls) for name, value in inputs.items()}


def _alive(name: str, value: Any, urls: Mapping[str, str]) -> Any:
    if isinstance(value, LocalFile):
        return Path(value.path)
    if isinstance(value, Blob):
        if value.sha256 not in urls:
            raise InvalidInput(
                f"the input {name!r} was {value.size} bytes, which no journal keeps; submit the job anew",
                name=name,
            )
        return urls[value.sha256]
    if isinstance(value, list):
        return [_alive(name, item, urls) for item in value]
    return value
