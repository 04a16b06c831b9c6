"""The handle of one remote task: look at it, wait for it, follow it, stop it."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, final

import anyio

from wiro_async._errors import TaskCancelled, TaskFailed, TaskNotFound, TaskTimeout, WiroError, WrongState
from wiro_async._lifecycle import History, fold
from wiro_async._models import OutputStore, Task, TaskResult, Transition
from wiro_async._operations import CANCEL, DETAIL, KILL, Operation, TaskKey, read_task
from wiro_async._reconcile import contradicts, unknown
from wiro_async._retry import is_transient
from wiro_async._shield import finish
from wiro_async._types import OnCancel, Secret, Status
from wiro_async._watch.poll import Poll

if TYPE_CHECKING:
    from wiro_async._config import Limits
    from wiro_async._schedule import Schedule
    from wiro_async._submit import Run, Submitter
    from wiro_async._transport import Transport

__all__ = ["TaskHandle", "Transitions"]


@final
class TaskHandle:
    """A remote task, as ``Client.submit`` and ``Client.attach`` return it.

    Awaiting the handle waits for the end and returns the ``TaskResult``, or raises ``TaskFailed`` or
    ``TaskCancelled``; ``wait()`` never raises for how the task ended. Iterating over it yields every status
    once, in order, from the beginning, and ends after the terminal one; any number of iterators and awaiters
    may run at a time, and they share one poll.

    Being cancelled or timing out while waiting leaves the remote task alone, unless ``on_cancel="stop"``.

    Do not instantiate directly.
    """

    __slots__ = (
        "__weakref__", "_history", "_key", "_limits", "_model", "_owner", "_poll", "_run", "_store",
        "_submitted", "_transport",
    )  # fmt: skip

    def __init__(
        self,
        key: TaskKey,
        transport: Transport,
        schedule: Schedule,
        limits: Limits,
        store: OutputStore,
        *,
        owner: Submitter,
        run: Run | None = None,
    ) -> None:
        self._key: TaskKey = key
        self._transport: Transport = transport
        self._limits: Limits = limits
        self._store: OutputStore = store
        self._owner: Submitter = owner
        self._model: str = run.model if run else ""
        self._submitted: bool = run is not None
        # Kept until the first look, which tells whether the Run's answer was about this Run.
        self._run: Run | None = run
        self._history: History = History()
        self._poll: Poll = Poll(self.refresh, schedule)
        if run is not None:
            self._poll.begin(fresh=True)

    # -- what is known, without asking -------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """The task's id (None: attached by token, and not looked at yet)."""
        return self._key.id

    @property
    def token(self) -> Secret | None:
        """The task's socket access token, a secret: whoever has it can watch and kill the task."""
        return self._key.token

    @property
    def model(self) -> str:
        """The model's slug ("" where it is not known)."""
        return self._model or (self.task.model if self.task else "")

    @property
    def task(self) -> Task | None:
        """The last snapshot (None: not looked at yet)."""
        return self._history.task

    @property
    def status(self) -> str | None:
        """The last status that is known (None: attached, and not looked at yet)."""
        if self.task is not None:
            return self.task.status
        return Status.QUEUE if self._submitted else None

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Every status that is known so far, once, in order."""
        return self._history.transitions

    @property
    def done(self) -> bool:
        """Whether the task's end has been seen."""
        return self._history.is_terminal

    def __repr__(self) -> str:
        model = f" {self.model}" if self.model else ""
        return f"<TaskHandle {self._key}{model} {self.status or 'not looked at yet'}>"

    # -- looking -----------------------------------------------------------------------------------------

    async def refresh(self) -> Task:
        """Look at the task now.

        Returns:
            The new snapshot.

        Raises:
            WiroError: The look failed.
        """
        return await self._ask(DETAIL, "tasktoken")

    async def _ask(self, operation: Operation, token_name: str) -> Task:
        """Make a call about this task, and learn from its reply."""
        asked = anyio.current_time()
        try:
            payload = await self._transport.call(operation, self._key.payload(token_name))
            task = read_task(operation, payload, self._key, self._store)
        except TaskNotFound as error:
            self._disown_unless(False, error.message)
            raise
        self._disown_unless(
            self._fits(task), f"the reply named task {task.id}, which is of another model or of other inputs"
        )
        self._run = None
        self._learn(task, asked)
        return task

    def _fits(self, task: Task) -> bool:
        """Tell, at the first look, whether the task can be what came of our Run."""
        if self._run is None:
            return True
        fits = not contradicts(self._run.model, self._run.payload, task)
        return fits and self._owner.held.confirm(task.id, self._run.doubt)

    def _disown_unless(self, ours: bool, cause: str) -> None:
        """Turn a Run whose answer was another's back into a doubt."""
        if self._run is None or ours:
            return
        self._owner.held.release(self._key.id or "", self._run.doubt)
        raise unknown(self._run.doubt, cause)

    def _learn(self, task: Task, asked: float) -> None:
        known = self._history
        self._history = fold(known, task, asked=asked, now=time.time())
        self._key = TaskKey(self._key.id or task.id or None, self._key.token or task.token)
        if self._history is not known:
            self._poll.notify()
        if self.done and not known.is_terminal:
            self._owner.task_ended()

    # -- waiting -----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, TaskResult]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None, *, on_cancel: OnCancel = "keep") -> TaskResult:
        """Wait for the end and return what it brought; ``await handle`` is the short form.

        Args:
            timeout: Seconds to wait (None: the client's ``Limits.wait_timeout``).
            on_cancel: What becomes of the task when this wait is cancelled or times out: ``"keep"`` leaves
                it alone, ``"stop"`` stops it, within ``Limits.stop_timeout``, before the exception goes on.

        Raises:
            TaskFailed: The task ran and failed.
            TaskCancelled: The task was cancelled or killed.
            TaskTimeout: The wait ran out; the task goes on.
            WiroError: Looking at the task failed for good.
        """
        task = await self.wait(timeout, on_cancel=on_cancel)
        if task.outcome == "succeeded":
            return TaskResult.of(task)
        raise _ending(task)

    async def wait(self, timeout: float | None = None, *, on_cancel: OnCancel = "keep") -> Task:
        """Wait for the end, whatever it is.

        Looks that fail in passing are repeated, less and less often, until the timeout.

        Args:
            timeout: Seconds to wait (None: the client's ``Limits.wait_timeout``).
            on_cancel: As for ``result()``.

        Returns:
            The final snapshot; its ``outcome`` tells how the task ended.

        Raises:
            TaskTimeout: The wait ran out; the task goes on.
            WiroError: Looking at the task failed for good: wrong credentials, or no such task.
        """
        seconds = self._limits.wait_timeout if timeout is None else timeout
        try:
            await self._reach(None, seconds)
        except (TaskTimeout, anyio.get_cancelled_exc_class()):
            if on_cancel == "stop":
                await self._stop_shielded()
            raise
        assert self.task is not None
        return self.task

    async def _reach(self, count: int | None, seconds: float) -> None:
        """Wait until *count* transitions are known, or the end is.

        Raises:
            TaskTimeout: That took longer than *seconds*.
        """
        # The scope is around our own waiting only, never around the user's code.
        with anyio.CancelScope(deadline=anyio.current_time() + seconds):
            while not self._reached(count):
                await self._poll.step()
        if not self._reached(count):
            raise self._timeout(seconds)

    def _reached(self, count: int | None) -> bool:
        return self.done or (count is not None and len(self.transitions) >= count)

    def _timeout(self, seconds: float) -> TaskTimeout:
        task = self.task
        waited, status = round(seconds, 2), self.status or "not looked at yet"
        message = f"task {self._key} has not ended after {waited:g} s; it is {status}"
        if task is not None and task.status == Status.ERROR:
            message += f", waiting to be queued again ({task.debug_error.strip() or 'no reason given'})"
        if self._poll.failures:
            message += f"; the last {self._poll.failures} looks failed"
        message += "; it goes on: wait again, stop() it, or attach to its id later"
        return TaskTimeout(message, handle=self, waited=seconds, task_id=self.id, task=task)

    def __aiter__(self) -> Transitions:
        return Transitions(self, self._limits.wait_timeout)

    # -- stopping ----------------------------------------------------------------------------------------

    async def cancel(self) -> Task:
        """Take the task out of the queue. Safe to repeat.

        Returns:
            The task as it is now; a task that had already ended stays as it ended.

        Raises:
            WrongState: It runs already: ``kill()`` or ``stop()`` it.
            WiroError: The call failed.
        """
        if self._key.id is None:
            # Cancel takes no token, so the id is looked up.
            await self.refresh()
        return await self._end(CANCEL)

    async def kill(self) -> Task:
        """End the running task. Safe to repeat.

        Returns:
            The task as it is now; a task that had already ended stays as it ended.

        Raises:
            WrongState: It does not run yet: ``cancel()`` or ``stop()`` it.
            WiroError: The call failed.
        """
        return await self._end(KILL)

    async def _end(self, operation: Operation) -> Task:
        if not self.done:
            try:
                await self._ask(operation, "socketaccesstoken")
            except WiroError as error:
                # Too late, or no answer: either way the task's own state is what counts.
                if not (isinstance(error, WrongState) or is_transient(error)):
                    raise
                await self.refresh()
                if not self.done:
                    raise
        assert self.task is not None
        return self.task

    async def stop(self, timeout: float | None = None) -> Task:
        """Cancel the task, or kill it when it is too late for that, and see its end. Safe to repeat.

        A task can end by itself meanwhile: then the returned snapshot is a success that is paid for.

        Args:
            timeout: Seconds for all of it (None: the client's ``Limits.stop_timeout``).

        Returns:
            The final snapshot; its ``outcome`` tells how the task really ended.

        Raises:
            TaskTimeout: The end was not seen in time.
            WiroError: The service refused for good: wrong credentials, or no such task.
        """
        seconds = self._limits.stop_timeout if timeout is None else timeout
        deadline = anyio.current_time() + seconds
        with anyio.CancelScope(deadline=deadline):
            while not self.done:
                await self._try_stop()
                if not self.done:
                    await self._poll.step()
        if not self.done:
            raise self._timeout(seconds)
        assert self.task is not None
        return self.task

    async def _try_stop(self) -> None:
        """Try both verbs; between them the task may have begun to run, or ended."""
        for verb in (self.cancel, self.kill):
            try:
                await verb()
            except WiroError as error:
                if not (isinstance(error, WrongState) or is_transient(error)):
                    raise
            else:
                return

    async def _stop_shielded(self) -> None:
        """Stop the task although the caller is being cancelled; failures are left for the next look."""

        async def stop() -> None:
            try:
                await self.stop()
            except WiroError:
                return

        await finish(stop, lambda _: None)


@final
class Transitions:
    """An iteration over a task's transitions: ``async for transition in handle``.

    Raises ``TaskTimeout`` when the client's ``Limits.wait_timeout`` passes in waiting for one transition, and
    any ``WiroError`` that ends the watch for good. Leaving the loop early needs no clean-up.
    """

    __slots__ = ("_handle", "_seconds", "_seen")

    def __init__(self, handle: TaskHandle, seconds: float) -> None:
        self._handle: TaskHandle = handle
        self._seconds: float = seconds
        self._seen: int = 0

    def __aiter__(self) -> Transitions:
        return self

    async def __anext__(self) -> Transition:
        await self._handle._reach(self._seen + 1, self._seconds)
        if self._seen >= len(self._handle.transitions):
            raise StopAsyncIteration
        self._seen += 1
        return self._handle.transitions[self._seen - 1]


def _ending(task: Task) -> TaskCancelled | TaskFailed:
    if task.outcome == "cancelled":
        return TaskCancelled(f"task {task.id} was cancelled", task_id=task.id, task=task)
    reason = task.reason
    shown = f": {reason[:300]}" if reason else " and gave no reason"
    code = f"exit code {task.pexit}" if task.pexit is not None else "no exit code and no outputs"
    return TaskFailed(
        f"task {task.id} failed ({code}){shown}; it was not billed", reason=reason, task_id=task.id, task=task
    )
