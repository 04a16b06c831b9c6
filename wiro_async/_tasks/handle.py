"""The handle of one remote task: poll, wait, follow, stop."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, ClassVar, final

import anyio
import attrs

from wiro_async._config import check, seconds_of
from wiro_async._config import on_cancel as on_cancel_choice
from wiro_async._errors import InvalidResponse
from wiro_async._protocol.records import Task, TaskResult, Transition, missing_of
from wiro_async._tasks.ends import TaskError, ending
from wiro_async._tasks.iterators import Events, Transitions
from wiro_async._tasks.state import Obstacle, TaskState
from wiro_async._types import OnCancel, Secret

__all__ = ["TaskHandle", "TaskStalled", "TaskTimeout", "TaskUnclear", "unfinished"]


@final
@attrs.frozen(eq=False, repr=False)
class TaskHandle:
    """A remote task, as ``Client.submit`` and ``Client.attach`` return it.

    Awaiting the handle waits for the end and returns the ``TaskResult``, or raises ``TaskFailed`` or
    ``TaskCancelled``; ``wait()`` raises neither. Iterating over it yields every status once, in order, from
    the beginning, and stops after the terminal one; any number of iterators and awaiters may run
    concurrently, and they share one poll.

    Cancelling or timing out a wait does not affect the remote task, unless ``on_cancel="stop"``.

    Do not instantiate directly.
    """

    _state: TaskState

    # -- what is known, without asking -------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """The task's id (None: attached by token, not polled yet)."""
        return self._state.key.id

    @property
    def token(self) -> Secret | None:
        """The task's socket access token, a secret: anyone with it can watch and kill the task."""
        return self._state.key.token

    @property
    def model(self) -> str:
        """The model's slug ("" if unknown)."""
        return self._state.model

    @property
    def task(self) -> Task | None:
        """The last snapshot (None: not polled yet)."""
        return self._state.task

    @property
    def status(self) -> str | None:
        """The last known status (None: attached, not polled yet)."""
        return self._state.status

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Every status known so far, once, in order."""
        return self._state.history.transitions

    @property
    def done(self) -> bool:
        """Whether the task's end has been seen, and can be judged."""
        return self._state.done

    def __repr__(self) -> str:
        model = f" {self.model}" if self.model else ""
        return f"<TaskHandle {self._state.key}{model} {self.status or 'not polled yet'}>"

    # -- polling -----------------------------------------------------------------------------------------

    async def refresh(self) -> Task:
        """Poll the task now, after its end too: a charge is recorded some time later.

        Returns:
            The new snapshot.

        Raises:
            WiroError: The poll failed.
        """
        return await self._state.poll_once()

    # -- waiting -----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, TaskResult]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None, *, on_cancel: OnCancel = "keep") -> TaskResult:
        """Wait for the end and return the result; ``await handle`` is the short form.

        Args:
            timeout: Seconds to wait (defaults to the client's ``Limits.wait_timeout``).
            on_cancel: What to do if this wait is cancelled or times out: ``"keep"`` leaves the task alone,
                ``"stop"`` stops it, within ``Limits.stop_timeout``, before the exception is raised.

        Raises:
            TaskFailed: The task ran and failed.
            TaskCancelled: The task was cancelled or killed.
            TaskTimeout: The wait timed out; the task continues.
            TaskStalled: The task stands in ``task_error``; it may continue.
            TaskUnclear: The task has ended, and the service does not say how.
            WiroError: Polling the task failed permanently.
        """
        task = await self.wait(timeout, on_cancel=on_cancel)
        if task.outcome == "succeeded":
            return TaskResult.of(task)
        raise ending(task)

    async def wait(self, timeout: float | None = None, *, on_cancel: OnCancel = "keep") -> Task:
        """Wait for the end, whatever the outcome.

        Transient poll failures are retried with back-off until the timeout. Then one last poll is made, for
        5 s at most, so that an end is seen even if this process was frozen meanwhile.

        Args:
            timeout: Seconds to wait (defaults to the client's ``Limits.wait_timeout``).
            on_cancel: As for ``result()``.

        Returns:
            The final snapshot; its ``outcome`` says how the task ended.

        Raises:
            TaskTimeout: The wait timed out; the task continues.
            TaskStalled: The record has stood in ``task_error`` for ``Limits.error_grace``. The task may
                continue: wait again, or stop it.
            TaskUnclear: The task has ended, and for ``Limits.settle_timeout`` the service did not say how.
            WiroError: Polling failed permanently: wrong credentials, or no such task.
        """
        if on_cancel != "keep":
            check("on_cancel", on_cancel, on_cancel_choice)
        state = self._state
        usual = state.context.limits.wait_timeout
        # A usual wait goes through one file less; `python -m tests.way` counts them.
        seconds = usual if timeout is None else seconds_of("timeout", timeout, usual)
        try:
            obstacle = await state.reach(None, seconds)
            if obstacle is not None:
                raise unfinished(self, obstacle, seconds)
        except (TaskTimeout, anyio.get_cancelled_exc_class()):
            if on_cancel == "stop":
                await state.stop_shielded()
            raise
        assert state.task is not None
        return state.task

    def __aiter__(self) -> Transitions:
        return Transitions(self._state, self._state.context.limits.wait_timeout, partial(unfinished, self))

    def events(self) -> Events:
        """Follow the task in more detail than its statuses: ``async for event in handle.events()``.

        Returns:
            An iterator over ``Transition``, ``TaskProgress`` and ``LogLine``; the last two need the
            WebSocket.
        """
        return Events(self._state, self._state.context.limits.wait_timeout, partial(unfinished, self))

    # -- stopping ----------------------------------------------------------------------------------------

    async def cancel(self) -> Task:
        """Remove the task from the queue. Safe to repeat.

        Returns:
            The task as it is now; a task that has already ended is unchanged.

        Raises:
            InvalidTaskState: It is already running: ``kill()`` or ``stop()`` it.
            WiroError: The call failed.
        """
        return await self._state.cancel()

    async def kill(self) -> Task:
        """End the running task. Safe to repeat.

        Returns:
            The task as it is now; a task that has already ended is unchanged.

        Raises:
            InvalidTaskState: It is not running yet: ``cancel()`` or ``stop()`` it.
            WiroError: The call failed.
        """
        return await self._state.kill()

    async def stop(self, timeout: float | None = None) -> Task:
        """Cancel the task, or kill it if it is already running, and wait for its end. Safe to repeat.

        The task may succeed meanwhile: then the returned snapshot is a success that is paid for. One that was
        running may be charged although it was stopped.

        Args:
            timeout: Total seconds (defaults to the client's ``Limits.stop_timeout``).

        Returns:
            The final snapshot; its ``outcome`` says how the task really ended.

        Raises:
            TaskTimeout: The end was not seen in time.
            WiroError: The service refused permanently: wrong credentials, or no such task.
        """
        state = self._state
        seconds = seconds_of("timeout", timeout, state.context.limits.stop_timeout)
        if not await state.stop(seconds):
            raise unfinished(self, "time", seconds)
        assert state.task is not None
        return state.task

    async def delete_files(self) -> None:
        """Delete the service's copies of the task's inputs and outputs. Safe to repeat.

        Raises:
            InvalidTaskState: The task has not ended yet.
            WiroError: The call failed.
        """
        await self._state.delete_files()


class TaskTimeout(TaskError, TimeoutError):
    """The wait timed out before the task ended. The task itself continues, and may still be billed.

    Attributes:
        handle: The live handle, to wait on or stop (None after unpickling: attach by ``task_id``).
        waited: The length of the wait, in seconds.
    """

    _live: ClassVar[frozenset[str]] = frozenset({"handle"})
    handle: TaskHandle | None = None

    def __init__(
        self,
        message: str,
        *,
        handle: TaskHandle | None = None,
        waited: float = 0.0,
        task_id: str | None = None,
        task: Task | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, task=task)
        self.handle = handle
        self.waited: float = waited


class TaskStalled(TaskTimeout):
    """The task's record has stood in ``task_error`` for ``Limits.error_grace``, and did not change.

    No source tells what becomes of such a task: it may be queued again, and billed. It is not run again by
    itself. ``handle`` waits again, or stops it.

    Attributes:
        debug_error: What the task met, in the service's words ("" where it gave none).
    """

    debug_error: str = ""


class TaskUnclear(InvalidResponse, TaskError):
    """The task has ended, and the service does not say how.

    There is neither an exit code nor an output; or the task succeeded, its model makes files, and there are
    none. The record may be completed later: ``handle.refresh()`` reads it. The task may be billed.

    Attributes:
        task_id: The task's id (None where only its token was ever known).
        task: The last snapshot of the task that was seen.
        handle: The handle (None after unpickling: attach by ``task_id``).
    """

    _live: ClassVar[frozenset[str]] = frozenset({"handle"})
    handle: TaskHandle | None = None

    def __init__(
        self,
        message: str,
        *,
        handle: TaskHandle | None = None,
        task_id: str | None = None,
        task: Task | None = None,
    ) -> None:
        super().__init__(message, http_status=200, operation="Task/Detail")
        self.task_id = task_id
        self.task = task
        self.handle = handle


def unfinished(handle: TaskHandle, obstacle: Obstacle, waited: float) -> TaskTimeout | TaskUnclear:
    """Return the error of a wait that ended, after *waited* seconds at most, without an end."""
    state, task = handle._state, handle.task
    if obstacle == "unclear":
        assert task is not None
        return TaskUnclear(
            f"task {state.key} has ended, and its record has {missing_of(task, state.model)} even "
            f"{state.context.limits.settle_timeout:g} s later; call refresh() on its handle later, or look "
            f"at it on the service's site; it may be billed",
            handle=handle,
            task_id=handle.id,
            task=task,
        )
    if obstacle == "stalled":
        assert task is not None
        stalled = TaskStalled(
            f"task {state.key} stands in {state.standing}, unchanged; nobody knows whether it goes on, and "
            f"it may be billed: wait again, stop() it, or attach to its id later",
            handle=handle,
            waited=waited,
            task_id=handle.id,
            task=task,
        )
        stalled.debug_error = task.debug_error
        return stalled
    if state.ended:
        assert task is not None
        message = f"task {state.key} has ended, and its record has {missing_of(task, state.model)} yet"
        advice = "wait again, or attach to its id later; it may be billed"
    else:
        message = f"task {state.key} has not ended after {round(waited, 2):g} s; it is {state.standing}"
        advice = "the task continues: wait again, stop() it, or attach to its id later"
    if state.failures:
        message += f"; the last {state.failures} polls failed"
    return TaskTimeout(f"{message}; {advice}", handle=handle, waited=waited, task_id=handle.id, task=task)
