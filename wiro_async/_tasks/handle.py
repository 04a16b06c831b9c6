"""The handle of one remote task: look at it, wait for it, follow it, stop it."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, final

import anyio

from wiro_async._aio.shield import finish
from wiro_async._aio.waiting import Turnstile, now
from wiro_async._config import seconds_of
from wiro_async._errors import (
    InvalidTaskState,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskTimeout,
    WiroError,
)
from wiro_async._http.retry import is_transient
from wiro_async._protocol.envelope import UNCHANGED
from wiro_async._protocol.matching import contradicts, unknown
from wiro_async._protocol.operations import CANCEL, DELETE_FILES, DETAIL, KILL, Operation
from wiro_async._protocol.records import OutputStore, Task, TaskKey, TaskResult, Transition, read_task
from wiro_async._tasks.history import History, fold, hear
from wiro_async._tasks.iterators import NOTHING, Events, Sidelines, Transitions
from wiro_async._types import OnCancel, Payload, Secret, Status, Watch
from wiro_async._watch.poll import Poll
from wiro_async._watch.schedule import clock_offset, lateness, stages, started_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from wiro_async._config import Limits
    from wiro_async._http.transport import Transport
    from wiro_async._jobs.submit import Run, Submitter
    from wiro_async._protocol.events import Message
    from wiro_async._watch.callbacks import CallbackURL
    from wiro_async._watch.feed import Feed
    from wiro_async._watch.pool import Sockets
    from wiro_async._watch.schedule import Schedule

__all__ = ["Shared", "TaskHandle", "ending"]


class Shared:
    """What all handles of one client share.

    Attributes:
        transport: Makes the calls.
        schedule: Says when to look.
        limits: The client's bounds.
        store: Reads the outputs.
        owner: Who submits, and hears of free slots.
        sockets: The WebSockets (None: polling only).
        calm: Seconds between two looks at a task whose end is told by others.
        soon: Seconds between two looks at a task whose end was told, until Detail knows it too.
        turnstile: Spreads waits that begin together over the event loop's turns.
        waiting: The polls of all tasks that are being waited for.
    """

    __slots__ = (
        "limits",
        "owner",
        "safety_interval",
        "schedule",
        "sockets",
        "store",
        "transport",
        "turnstile",
        "urgent_interval",
        "waiting",
    )

    def __init__(
        self,
        transport: Transport,
        schedule: Schedule,
        limits: Limits,
        *,
        store: OutputStore,
        owner: Submitter,
        sockets: Sockets | None = None,
        safety_interval: float = 60.0,
        urgent_interval: float = 1.5,
    ) -> None:
        self.transport: Transport = transport
        self.schedule: Schedule = schedule
        self.limits: Limits = limits
        self.store: OutputStore = store
        self.owner: Submitter = owner
        self.sockets: Sockets | None = sockets
        self.safety_interval: float = safety_interval
        self.urgent_interval: float = urgent_interval
        self.turnstile: Turnstile = Turnstile()
        self.waiting: set[Poll] = set()

    def wake(self) -> None:
        """Let every wait look now: the client is closed, and the look says so."""
        for poll in tuple(self.waiting):
            poll.hurry()


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
        "__weakref__", "_awaiters", "_feed", "_fingerprint", "_history", "_key", "_listeners", "_model",
        "_poll", "_run", "_shared", "_sidelines", "_submitted_at", "_unbind",
    )  # fmt: skip

    def __init__(
        self,
        key: TaskKey,
        shared: Shared,
        *,
        run: Run | None = None,
        watch: Watch = "auto",
        expected: float | None = None,
    ) -> None:
        self._key: TaskKey = key
        self._shared: Shared = shared
        self._model: str = run.model if run else ""
        self._submitted_at: float | None = time.time() if run else None
        # Kept until the first look, which tells whether the Run's answer was about this Run.
        self._run: Run | None = run
        self._history: History = History()
        # Of the last look's reply (0: there was none).
        self._fingerprint: int = 0
        self._sidelines: Sidelines = NOTHING
        self._awaiters: int = 0
        self._listeners: int = 0
        self._poll: Poll = Poll(shared.schedule)
        self._poll.model = self._model
        self._poll.expected = expected
        self._unbind: Callable[[], object] | None = None
        self._feed: Feed | None = None
        if shared.sockets is not None and watch in ("auto", "socket"):
            from wiro_async._watch.feed import Feed  # noqa: PLC0415 - for those who listen

            self._feed = Feed(shared.sockets, key, self, self._poll, shared.safety_interval)
        if watch == "callback":
            self._poll.safety_interval = shared.safety_interval
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
        return self._history.status or (Status.QUEUE if self._submitted_at is not None else None)

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
        return await self._look()

    async def _look(self, until: float = math.inf) -> Task:
        return await self._ask(DETAIL, "tasktoken", until, 0 if self.task is None else self._fingerprint)

    async def _ask(
        self, operation: Operation, token_name: str, until: float = math.inf, known: int | None = None
    ) -> Task:
        """Make a call about this task, and learn from its reply."""
        asked, last = now(), self.task
        try:
            payload = await self._shared.transport.call(
                operation, self._key.payload(token_name), until=until, known=known
            )
            if payload is UNCHANGED:
                assert last is not None
                task = last
            else:
                task = read_task(operation, payload, self._key, self._shared.store)
                self._fingerprint = payload.fingerprint
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
        return fits and self._shared.owner.held.confirm(task.id, self._run.fingerprint)

    def _disown_unless(self, ours: bool, cause: str) -> None:
        """Turn a Run whose answer was another's back into a doubt."""
        if self._run is None or ours:
            return
        self._shared.owner.held.release(self._key.id or "", self._run.fingerprint)
        raise unknown(self._run.fingerprint, cause)

    def _learn(self, task: Task, asked: float) -> None:
        known = self._history
        self._history = fold(known, task, asked=asked, now=time.time())
        if self._key.id is None or self._key.token is None:
            self._key = TaskKey(self._key.id or task.id or None, self._key.token or task.token)
        self._place_in_time(task)
        if self._feed is not None:
            self._feed.looked(self._key, asked)
        if self.done and not known.is_terminal:
            self._take_end(task, known)
        if self._history is not known:
            self._poll.notify()

    def _place_in_time(self, task: Task) -> None:
        """Tell the poll when the task was created and began, on the event loop's clock."""
        poll = self._poll
        poll.model = self.model
        created = task.timestamps.get(Status.QUEUE)
        if self._submitted_at is None and poll.polled_at is None and created is not None:
            poll.since = now() - max(time.time() - created, 0.0)
        began = started_after(task)
        if began is not None and poll.since is not None:
            poll.started = min(poll.since + began, now())

    def _take_end(self, task: Task, known: History) -> None:
        """Let the client learn from the end that a look has just shown."""
        late = None
        alive = max(known.asked, known.heard_at, self._poll.since or float("-inf"))
        if self._submitted_at is not None or known.task is not None:
            offset = 0.0 if self._submitted_at is None else clock_offset(task, self._submitted_at)
            late = lateness(task, offset=offset, now=time.time(), unknown_for=now() - alive)
        self._shared.schedule.finished(late)
        queued, ran = stages(task)
        self._shared.schedule.learn(
            self.model,
            queued=queued,
            ran=ran if task.outcome == "succeeded" else None,
            sight=self._poll.sight(now()),
        )
        self._poll.urgent_interval = None
        if self._feed is not None:
            self._feed.close()
        if self._unbind is not None:
            self._unbind()
        self._shared.owner.task_ended()

    def _hear(self, message: Message, at: float) -> None:
        """Learn from a message of the task's socket."""
        if message.status is not None:
            known = self._history
            self._history = hear(known, message.status, at=at, now=time.time())
        if message.events and self._sidelines is NOTHING:
            self._sidelines = Sidelines()
        for event in message.events:
            self._sidelines.add(len(self._history.steps), event)
        if message.is_terminal and self._poll.urgent_interval is None:
            # Once: a peer that goes on saying so must not have the service flooded with looks.
            self._poll.urgent_interval = self._shared.urgent_interval
            self._poll.hurry()
        elif self._listeners:
            # Who waits for the end only is not woken by what comes before it.
            self._poll.notify()

    def _await_callback(self, url: CallbackURL) -> None:
        """Let a callback to *url* bring the next look forward."""
        wake = weakref.WeakMethod(self._wake)

        def call() -> None:
            method = wake()
            if method is not None:
                method()

        self._unbind = weakref.finalize(self, url.receiver.bind(url.job, call))

    def _wake(self) -> None:
        """Look now: a callback said that it pays. It is believed no further."""
        if not self.done:
            self._poll.safety_interval = None
            self._poll.hurry()

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
        raise ending(task)

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
        seconds = seconds_of("timeout", timeout, self._shared.limits.wait_timeout)
        try:
            await self._reach(None, seconds)
        except (TaskTimeout, anyio.get_cancelled_exc_class()):
            if on_cancel == "stop":
                await self._stop_shielded()
            raise
        assert self.task is not None
        return self.task

    async def _reach(self, is_there: Callable[[], bool] | None, seconds: float) -> None:
        """Wait until what an iteration wants *is there*, or the end is.

        Raises:
            TaskTimeout: That took longer than *seconds*.
        """
        if self._reached(is_there):
            return
        self._arrive(is_there is not None)
        try:
            until = now() + seconds
            await self._shared.turnstile.enter()
            while not self._reached(is_there):
                self._shared.transport.check_use()
                if self._feed is not None:
                    await self._feed.ensure(until)
                await self._poll.step(self._look, until)
                if now() >= until:
                    break
        except BaseException:
            self._leave(is_there is not None, for_good=True)
            raise
        self._leave(is_there is not None, for_good=is_there is None)
        if not self._reached(is_there):
            raise self._timeout(seconds)

    def _reached(self, is_there: Callable[[], bool] | None) -> bool:
        return self.done or (is_there is not None and is_there())

    def _arrive(self, listening: bool) -> None:
        self._shared.waiting.add(self._poll)
        self._awaiters += 1
        self._listeners += listening

    def _leave(self, listening: bool, *, for_good: bool) -> None:
        """Count an awaiter out; when nobody is left who comes back, the socket is given up."""
        self._awaiters -= 1
        self._listeners -= listening
        if self._awaiters:
            return
        self._shared.waiting.discard(self._poll)
        if for_good and self._feed is not None:
            self._feed.close()

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
        return Transitions(self, self._shared.limits.wait_timeout)

    def events(self) -> Events:
        """Follow the task more closely than by its statuses: ``async for event in handle.events()``.

        Returns:
            An iteration over ``Transition``, ``Progress`` and ``Line``; the last two come by the WebSocket.
        """
        return Events(self, self._shared.limits.wait_timeout)

    # -- stopping ----------------------------------------------------------------------------------------

    async def cancel(self) -> Task:
        """Take the task out of the queue. Safe to repeat.

        Returns:
            The task as it is now; a task that had already ended stays as it ended.

        Raises:
            InvalidTaskState: It runs already: ``kill()`` or ``stop()`` it.
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
            InvalidTaskState: It does not run yet: ``cancel()`` or ``stop()`` it.
            WiroError: The call failed.
        """
        return await self._end(KILL)

    async def _end(self, operation: Operation) -> Task:
        if not self.done:
            try:
                await self._ask(operation, "socketaccesstoken")
            except WiroError as error:
                # Too late, or no answer: either way the task's own state is what counts.
                if not (isinstance(error, InvalidTaskState) or is_transient(error)):
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
        seconds = seconds_of("timeout", timeout, self._shared.limits.stop_timeout)
        deadline = now() + seconds
        self._poll.urgent_interval = self._shared.urgent_interval
        with anyio.CancelScope(deadline=deadline):
            while not self.done:
                await self._try_stop()
                if not self.done:
                    await self._poll.step(self._look)
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
                if not (isinstance(error, InvalidTaskState) or is_transient(error)):
                    raise
            else:
                return

    async def delete_files(self) -> None:
        """Delete the service's copies of the task's inputs and outputs. Safe to repeat.

        Raises:
            InvalidTaskState: The task has not ended yet.
            WiroError: The call failed.
        """
        if self._key.token is None:
            # This call takes no id, so the token is looked up.
            await self.refresh()
        assert self._key.token is not None
        payload = Payload(tasktoken=self._key.token.reveal())
        await self._shared.transport.call(DELETE_FILES, payload)

    async def _stop_shielded(self) -> None:
        """Stop the task although the caller is being cancelled; failures are left for the next look."""

        async def stop() -> None:
            try:
                await self.stop()
            except WiroError:
                return

        await finish(stop, lambda _: None)


def ending(task: Task) -> TaskCancelled | TaskFailed:
    """Return the error that tells of a task's end that is no success."""
    if task.outcome == "cancelled":
        return TaskCancelled(f"task {task.id} was cancelled", task_id=task.id, task=task)
    reason = task.reason
    shown = f": {reason[:300]}" if reason else " and gave no reason"
    code = f"exit code {task.pexit}" if task.pexit is not None else "no exit code and no outputs"
    return TaskFailed(
        f"task {task.id} failed ({code}){shown}; it was not billed", reason=reason, task_id=task.id, task=task
    )
