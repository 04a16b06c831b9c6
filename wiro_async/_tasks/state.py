"""What one task is known to be, and how that is learned: by polls, messages of its socket, and callbacks.

There are no hidden tasks: whoever waits does the work. All state changes are synchronous.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import anyio
import attrs

from wiro_async._aio import Turnstile, finish, now
from wiro_async._errors import InvalidTaskState, SubmissionUnknown, TaskNotFound, WiroError
from wiro_async._http.retry import is_transient
from wiro_async._protocol.envelope import UNCHANGED, objects
from wiro_async._protocol.operations import CANCEL, DELETE_FILES, DETAIL, KILL, Operation
from wiro_async._protocol.records import STALLED, OutputStore, Task, TaskKey, missing_of, read_task
from wiro_async._tasks.history import History, fold, hear
from wiro_async._types import Payload, Status, Watch
from wiro_async._watch.poll import Poll
from wiro_async._watch.schedule import Schedule, clock_offset, lateness, stages, started_after

if TYPE_CHECKING:
    from wiro_async._config import Limits
    from wiro_async._http.transport import Transport
    from wiro_async._protocol.events import Message, TaskEvent
    from wiro_async._protocol.matching import Claim
    from wiro_async._watch.callbacks import CallbackURL
    from wiro_async._watch.feed import Feed
    from wiro_async._watch.pool import Sockets

__all__ = ["EventBuffer", "Obstacle", "TaskContext", "TaskState"]

Obstacle: TypeAlias = Literal["time", "stalled", "unclear"]
"""Why a wait ends without what it waited for: its time is up; the task stands in ``task_error``; or its end
cannot be judged."""

LAST_POLL = 5.0
"""Seconds that a wait's last poll may take, beyond the wait's own."""

END_POLLS = (1 / 30, 0.1, 7 / 30, 0.5, 1.0)
"""When an end that cannot be judged is polled again at the latest, as shares of ``Limits.settle_timeout``."""

LONGEST_UNHEARD = 64.0
"""For how many seconds a task's error lines bring no poll forward, at most: some write hundreds."""

UNSEEN = 30.0
"""Seconds for which a task that the service itself has named may be denied: not all of its machines may know
it yet."""

EVENTS_KEPT = 256
"""Events beside the statuses that are kept for iterations that are slow."""


class EventBuffer:
    """The newest events that a task's socket told beside the statuses, which are numbered.

    Attributes:
        begin: The number of the oldest that is kept.
        end: One more than the number of the newest.
    """

    __slots__ = ("_kept", "begin", "end")

    def __init__(self) -> None:
        self._kept: list[tuple[int, TaskEvent]] = []
        self.begin: int = 0
        self.end: int = 0

    def add(self, after: int, event: TaskEvent) -> None:
        """Keep an event that came when *after* statuses were known, and drop the oldest of too many."""
        self._kept.append((after, event))
        self.end += 1
        if len(self._kept) > EVENTS_KEPT:
            del self._kept[: EVENTS_KEPT // 2]
            self.begin = self.end - len(self._kept)

    def at(self, number: int) -> tuple[int, TaskEvent]:
        """Return the event of that number, and how many statuses came before it."""
        return self._kept[number - self.begin]


# What a task has until something is learned of it: thousands of waiting tasks share these.
_NO_HISTORY: Final = History()
_NO_EVENTS: Final = EventBuffer()


class HeldSlot(Protocol):
    """A place among the account's concurrent tasks."""

    def release(self, cost: Decimal | None = None) -> None:
        """Give it back: the task is over, and cost so many USD (None: not known)."""
        ...


class HeldMoney(Protocol):
    """The money of a Run, held for as long as somebody may see its task's end."""

    def doubt(self, error: SubmissionUnknown) -> None:
        """Note that this task is not what came of the Run."""
        ...


@attrs.frozen(eq=False, repr=False, kw_only=True)
class TaskContext:
    """What all tasks of one client share.

    Attributes:
        transport: Makes the calls.
        schedule: Says when to poll.
        limits: The client's bounds.
        store: Reads the outputs.
        sockets: The WebSockets (None: polling only).
        safety_interval: Seconds between two polls of a task whose end a socket or a callback will tell.
        urgent_interval: Seconds between two polls of a task whose end was told, until Detail has it, too.
        turnstile: Spreads waits that begin together over the event loop's turns.
        waiting: The polls of all tasks that somebody waits for.
        readers: Who wants to know of each task that a reply has shown, whoever asked for it.
    """

    transport: Transport
    schedule: Schedule
    limits: Limits
    store: OutputStore
    sockets: Sockets | None = None
    safety_interval: float = 60.0
    urgent_interval: float = 1.5
    turnstile: Turnstile = attrs.field(factory=Turnstile)
    waiting: set[Poll] = attrs.field(factory=set)
    readers: set[Callable[[Task], object]] = attrs.field(factory=set)

    def saw(self, task: Task) -> None:
        """Tell the readers of a task that a reply has shown."""
        for tell in self.readers:
            tell(task)

    def wake(self) -> None:
        """Make every wait poll now: the client is closed, and the poll says so."""
        for poll in tuple(self.waiting):
            poll.hurry()


@attrs.define(eq=False, repr=False)
class TaskState:
    """What one task is known to be, and how it is learned.

    Making one costs nothing: the poll, and a place in the client's schedule, are made when somebody first
    waits.

    Attributes:
        key: The task's id, its token, or both.
        context: What all tasks of the client share.
        watch: How to learn of the task's end.
        expected: Seconds that the user expects it to take (None: no idea).
        submitted_at: When its Run was accepted, in unix seconds (None: attached).
        since: The same on the event loop's clock.
        claim: The Run's claim on the task, until a poll confirms it (None: there is nothing to confirm).
        exists: Whether the service itself has named or shown the task.
        slot: What its place among the account's concurrent tasks is given back by (None: it holds none).
        hold: What its money is held by (None: the client has no budget).
        history: What was learned.
        events: What the socket told beside the statuses.
    """

    key: TaskKey
    context: TaskContext
    _model: str = attrs.field(default="", alias="model")
    watch: Watch = "auto"
    expected: float | None = None
    submitted_at: float | None = None
    since: float | None = None
    claim: Claim | None = None
    exists: bool = False
    slot: HeldSlot | None = None
    hold: HeldMoney | None = None
    history: History = attrs.field(default=_NO_HISTORY, init=False)
    events: EventBuffer = attrs.field(default=_NO_EVENTS, init=False)
    # When it was first denied, on the event loop's clock (None: it was not, or was seen since).
    _denied_at: float | None = attrs.field(default=None, init=False)
    # Of the last poll's reply (0: there was none).
    _fingerprint: int = attrs.field(default=0, init=False)
    # Whether the end could be judged, once: what is deleted later changes nothing.
    _judged: bool = attrs.field(default=False, init=False)
    # Since when, on the event loop's clock, the record stands in task_error, or has ended and is not whole.
    _stands_since: float | None = attrs.field(default=None, init=False)
    # From when on another error line of the socket brings a poll forward, and for how long the next will not.
    _heeds_errors_at: float = attrs.field(default=-math.inf, init=False)
    _unheard: float = attrs.field(default=0.0, init=False)
    _awaiters: int = attrs.field(default=0, init=False)
    _listeners: int = attrs.field(default=0, init=False)
    _poll: Poll | None = attrs.field(default=None, init=False)
    _feed: Feed | None = attrs.field(default=None, init=False)
    _unbind: Callable[[], object] | None = attrs.field(default=None, init=False)

    # -- what is known, without asking -------------------------------------------------------------------

    @property
    def model(self) -> str:
        """The model's slug ("" where it is not known)."""
        return self._model or (self.task.model if self.task else "")

    @property
    def task(self) -> Task | None:
        """The last snapshot (None: there was no poll yet)."""
        return self.history.task

    @property
    def status(self) -> str | None:
        """The last status that is known (None: attached, and not polled yet)."""
        return self.history.status or (Status.QUEUE if self.submitted_at is not None else None)

    @property
    def ended(self) -> bool:
        """Whether the task's end has been seen, be it clear or not."""
        return self.history.is_terminal

    @property
    def done(self) -> bool:
        """Whether the task's end has been seen, and can be judged."""
        return self._judged

    @property
    def standing(self) -> str:
        """What is known of it, for a message: its status, and the reason if it met an error."""
        task = self.task
        if task is None or task.status not in STALLED:
            return self.status or "not polled yet"
        return f"{task.status} ({task.reason[:300] or 'no reason given'})"

    @property
    def failures(self) -> int:
        """How many polls in a row have failed."""
        return 0 if self._poll is None else self._poll.failures

    # -- asking ------------------------------------------------------------------------------------------

    async def poll_once(self, until: float = math.inf) -> Task:
        """Read Task/Detail, and learn from it.

        Args:
            until: When to give up, on the event loop's clock.

        Raises:
            SubmissionUnknown: The task is not what came of our Run.
            TaskNotFound: The service does not know it, or not yet.
            WiroError: The poll failed.
        """
        asked, last = now(), self.task
        known = 0 if last is None else self._fingerprint
        try:
            payload = await self._call(DETAIL, "tasktoken", until, known)
            if payload is UNCHANGED:
                assert last is not None
                task = last
            else:
                task, known = read_task(DETAIL, payload, self.key, self.context.store), payload.fingerprint
        except TaskNotFound as error:
            self._denied(error)
            raise
        self._take(task, asked, known)
        return task

    async def _call(
        self, operation: Operation, token_name: str, until: float = math.inf, known: int | None = None
    ) -> Payload:
        """Make a call about this task."""
        return await self.context.transport.call(
            operation, self.key.payload(token_name), until=until, known=known
        )

    def _take(self, task: Task, asked: float, fingerprint: int = 0) -> None:
        """Take what a reply says of the task.

        Args:
            task: What it says.
            asked: When it was asked for, on the event loop's clock.
            fingerprint: Stands for the reply, if it is a poll's (0: it is another call's).

        Raises:
            SubmissionUnknown: It is not what came of our Run.
        """
        if self.claim is not None:
            try:
                self.claim.verify(task)
            except SubmissionUnknown as error:
                if self.hold is not None:
                    self.hold.doubt(error)
                raise
            self.claim = None
        self.exists, self._denied_at, self._fingerprint = True, None, fingerprint
        self._learn(task, asked)
        self.context.saw(task)

    def _denied(self, error: TaskNotFound) -> None:
        """Say in *error* whether the task may still turn up.

        The service has named it, so that its answer may come from a machine that does not know it yet. After
        half a minute, the answer that named it may have been another Run's.
        """
        if not self.exists and self.claim is None:
            return
        time = now()
        if self._denied_at is None:
            self._denied_at = time
        if time - self._denied_at < UNSEEN:
            error.passing = True
        elif self.claim is not None:
            error.doubt = self.claim.disown(self.key.id or "", error.message)

    # -- learning ----------------------------------------------------------------------------------------

    def _learn(self, task: Task, asked: float) -> None:
        """Learn from a snapshot that was asked for at that time of the event loop's clock."""
        known = self.history
        self.history = fold(known, task, asked=asked, now=time.time())
        if self.history.asked == asked and not self._judged:
            self._judge(known.task, task, asked)
        if self.key.id is None or self.key.token is None:
            self.key = TaskKey(self.key.id or task.id or None, self.key.token or task.token)
        if self._poll is not None:
            self._place_in_time(self._poll, task)
        if self._feed is not None:
            # What the socket said before this poll was in comes to ``hear`` now.
            self._feed.polled(self.key, asked)
        if self.ended and not known.is_terminal:
            self._take_end(task, known)
        if self._poll is not None and self.history is not known:
            self._poll.ring()

    def _judge(self, before: Task | None, task: Task, asked: float) -> None:
        """See whether the newest snapshot shows an end that can be judged, or a task that does not go on."""
        limits = self.context.limits
        latest = math.inf
        if self.ended:
            self._judged = not missing_of(task, self.model)
        if self.ended and not self._judged:
            if self._stands_since is None or before is None or not before.is_terminal:
                self._stands_since = asked
            polls = (self._stands_since + share * limits.settle_timeout for share in END_POLLS)
            latest = min((at for at in polls if at > now()), default=math.inf)
        elif task.status in STALLED:
            if self._stands_since is None or before is None or _differs(before, task):
                self._stands_since = asked
            latest = self._stands_since + limits.error_grace
        else:
            self._stands_since = None
        if self._poll is not None:
            self._poll.latest = latest

    def _place_in_time(self, poll: Poll, task: Task) -> None:
        """Tell the poll when the task was created and started, on the event loop's clock."""
        poll.model = self.model
        created = task.timestamps.get(Status.QUEUE)
        if self.submitted_at is None and poll.polled_at is None and created is not None:
            poll.since = now() - max(time.time() - created, 0.0)
        started = started_after(task)
        if started is not None and poll.since is not None:
            poll.started = min(poll.since + started, now())

    def _take_end(self, task: Task, known: History) -> None:
        """Let the client learn from the end that a reply has just shown; *known* is what was before."""
        context, time_now = self.context, now()
        late = None
        if self.submitted_at is not None or known.task is not None:
            alive = max(known.asked, known.heard_at, -math.inf if self.since is None else self.since)
            offset = 0.0 if self.submitted_at is None else clock_offset(task, self.submitted_at)
            late = lateness(task, offset=offset, now=time.time(), unknown_for=time_now - alive)
        context.schedule.finished(late)
        queued, ran = stages(task)
        context.schedule.learn(
            self.model,
            queued=queued,
            ran=ran if task.outcome == "succeeded" else None,
            timing=None if self._poll is None else self._poll.timing(time_now),
        )
        if self._poll is not None:
            self._poll.urgent_interval = None
        if self._feed is not None:
            self._feed.close()
        if self._unbind is not None:
            self._unbind()
        if self.slot is not None:
            self.slot.release(task.total_cost)

    def hear(self, message: Message, at: float) -> None:
        """Learn from a message of the task's socket that came at that time of the event loop's clock."""
        if message.status is not None:
            self.history = hear(self.history, message.status, at=at, now=time.time())
        if message.events and self.events is _NO_EVENTS:
            self.events = EventBuffer()
        for event in message.events:
            self.events.add(len(self.history.steps), event)
        poll = self._began()
        if message.type in STALLED and at >= self._heeds_errors_at:
            # Perhaps a line of a task that goes on, perhaps where it stays: the record tells.
            self._unheard = min(2.0 * self._unheard or self.context.urgent_interval, LONGEST_UNHEARD)
            self._heeds_errors_at = at + self._unheard
            poll.hurry()
        if message.is_terminal and poll.urgent_interval is None:
            # Once: a peer that goes on saying so must not have the service flooded with polls.
            poll.urgent_interval = self.context.urgent_interval
            poll.hurry()
        elif self._listeners:
            # Who waits for the end only is not woken by what comes before it.
            poll.ring()

    def await_callback(self, url: CallbackURL) -> None:
        """Let a callback to *url* bring the next poll forward."""
        method = weakref.WeakMethod(self.wake)

        def call() -> None:
            wake = method()
            if wake is not None:
                wake()

        self._unbind = weakref.finalize(self, url.receiver.bind(url.job, call))

    def wake(self) -> None:
        """Poll at once: a callback said that it pays. It is believed no further."""
        if not self.done:
            poll = self._began()
            poll.safety_interval = None
            poll.hurry()

    # -- waiting -----------------------------------------------------------------------------------------

    async def reach(
        self, is_there: Callable[[], bool] | None, seconds: float, *, grace: float | None = None
    ) -> Obstacle | None:
        """Wait for an end that can be judged, or until what an iteration wants *is there*.

        Args:
            is_there: Whether it is (None: only the end will do).
            seconds: How long to wait. Then one last poll is made, which may take ``LAST_POLL``: whatever this
                process slept through is seen.
            grace: How long the record may stand in ``task_error`` (None: ``Limits.error_grace``).

        Returns:
            None if it was reached, else why not.

        Raises:
            WiroError: The task cannot be polled any more.
        """
        if self._reached(is_there):
            return None
        poll, context, is_listening = self._began(), self.context, is_there is not None
        began = now()
        grace = context.limits.error_grace if grace is None else grace
        context.waiting.add(poll)
        self._awaiters += 1
        self._listeners += is_listening
        for_good = True
        try:
            until = began + seconds
            await context.turnstile.enter()
            obstacle: Obstacle | None = None
            while obstacle is None and not self._reached(is_there):
                context.transport.check_use()
                if self._feed is not None and not self.ended:
                    await self._feed.ensure(until)
                await poll.step(self, until)
                if now() >= until and not self._reached(is_there):
                    await self._poll_last(until)
                    obstacle = "time"
                obstacle = self._standstill(began, grace) or obstacle
            # Whoever iterates is expected back.
            for_good = not is_listening
            return None if self._reached(is_there) else obstacle
        finally:
            self._awaiters -= 1
            self._listeners -= is_listening
            if not self._awaiters:
                context.waiting.discard(poll)
                if for_good and self._feed is not None:
                    # Nobody is left who comes back, so the socket is given up.
                    self._feed.close()

    def _reached(self, is_there: Callable[[], bool] | None) -> bool:
        return self.done if is_there is None else self.ended or is_there()

    def _standstill(self, began: float, grace: float) -> Obstacle | None:
        """Return whether the record has stood for too long in a way that another poll would not mend.

        In ``task_error`` it may stand for the grace, from the beginning of this wait on: whoever waits again
        wants to. The place among the account's tasks is then no longer counted.
        """
        if self._stands_since is None or self.done:
            return None
        if self.ended:
            over = self._stands_since + self.context.limits.settle_timeout
            return "unclear" if self.history.asked >= over else None
        if self.history.asked < max(self._stands_since, began) + grace:
            return None
        if self.slot is not None:
            self.slot.release()
        return "stalled"

    async def _poll_last(self, until: float) -> None:
        """Poll once more if no poll was begun since *until*; that it fails changes nothing."""
        if self.task is not None and self.history.asked >= until:
            return
        context = self.context
        context.schedule.polled()
        try:
            await self.poll_once(now() + min(LAST_POLL, context.limits.request_timeout))
        except WiroError as error:
            if not is_transient(error):
                raise

    def _began(self) -> Poll:
        """Return the task's poll, which is made, with the feed beside it, when it is first needed."""
        if self._poll is not None:
            return self._poll
        context = self.context
        poll = self._poll = Poll(context.schedule, self.model, since=self.since, expected=self.expected)
        if self.task is not None:
            self._place_in_time(poll, self.task)
        if context.sockets is not None and self.watch in ("auto", "socket"):
            from wiro_async._watch.feed import Feed  # noqa: PLC0415 - for those who listen

            self._feed = Feed(context.sockets, self.key, self, poll, context.safety_interval)
        if self.watch == "callback":
            poll.safety_interval = context.safety_interval
        return poll

    # -- stopping ----------------------------------------------------------------------------------------

    async def cancel(self) -> Task:
        """Take the task out of the queue; see ``TaskHandle.cancel``."""
        if self.key.id is None:
            # Cancel takes no token, so the id is looked up.
            await self.poll_once()
        return await self._end(CANCEL)

    async def kill(self) -> Task:
        """End the running task; see ``TaskHandle.kill``."""
        return await self._end(KILL)

    async def _end(self, operation: Operation) -> Task:
        if not self.ended:
            asked = now()
            try:
                payload = await self._call(operation, "socketaccesstoken")
                if shown := bool(objects(payload.get("tasklist"))):
                    self._take(read_task(operation, payload, self.key, self.context.store), asked)
            except WiroError as error:
                # Too late, no answer, or not known yet: either way the task's own state is what counts.
                if not isinstance(error, InvalidTaskState | TaskNotFound) and not is_transient(error):
                    raise
                await self.poll_once()
                if not self.ended:
                    if isinstance(error, TaskNotFound):
                        error.passing = True
                    raise
            else:
                if not shown:
                    await self.poll_once()
        assert self.task is not None
        return self.task

    async def stop(self, seconds: float) -> bool:
        """Cancel the task, or kill it when it is too late for that, until its end is seen.

        Returns:
            Whether it was seen; False if that took longer than *seconds*.

        Raises:
            WiroError: The service refused for good.
        """
        if self.ended:
            return True
        poll, until = self._began(), now() + seconds
        poll.urgent_interval = self.context.urgent_interval
        with anyio.move_on_after(seconds):
            while not self.ended:
                # Between the two the task may start, or end.
                for verb in (self.cancel, self.kill):
                    try:
                        await verb()
                    except WiroError as error:
                        if not (isinstance(error, InvalidTaskState) or is_transient(error)):
                            raise
                    else:
                        break
                if not self.ended:
                    await poll.step(self)
        if not self.ended:
            await self._poll_last(until)
        return self.ended

    async def try_stop(self) -> None:
        """Stop the task within ``Limits.stop_timeout``; failures are left for the next poll."""
        with suppress(WiroError):
            await self.stop(self.context.limits.stop_timeout)

    async def stop_shielded(self) -> None:
        """Do the same although the caller is being cancelled."""
        await finish(self.try_stop, lambda _: None)

    async def delete_files(self) -> None:
        """Delete the service's copies of the task's files; see ``TaskHandle.delete_files``."""
        if self.key.token is None:
            # This call takes no id, so the token is looked up.
            await self.poll_once()
        assert self.key.token is not None
        await self.context.transport.call(DELETE_FILES, Payload(tasktoken=self.key.token.reveal()))


def _differs(before: Task, after: Task) -> bool:
    """Whether anything has happened to a task between two snapshots; that its time goes on is nothing."""
    return attrs.evolve(before, elapsed_seconds=None, raw={}) != attrs.evolve(
        after, elapsed_seconds=None, raw={}
    )
