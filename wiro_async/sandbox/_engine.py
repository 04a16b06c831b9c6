"""The life of tasks and the account that pays for them.

Pure: no clock, no socket, no file. The time comes in as ``now`` (unix seconds), the randomness from a seed.
A task's status is never stored: it is read off a timeline of stages that was drawn when the task was
accepted. So ten thousand waiting tasks cost nothing, and a test moves through a minute in one call.
"""

from __future__ import annotations

import functools
import heapq
import math
import random
import string
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

import attrs

from wiro_async._types import Status
from wiro_async.sandbox._catalogue import Model
from wiro_async.sandbox._config import StoppedForm
from wiro_async.sandbox._directives import Directives
from wiro_async.sandbox._refusal import Refusal, not_found

__all__ = ["Action", "Engine", "Order", "Output", "Product", "Stage", "Task"]

Action = Literal["fail", "error", "release", "finish", "hang", "cancel", "tell"]

_TERMINAL = frozenset({Status.POSTPROCESS_END, Status.CANCEL})
_MINIMUM_BALANCE = Decimal("0.50")
_UNLIMITED_ABOVE = Decimal(250)
_ALPHANUMERIC = string.ascii_letters + string.digits
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Stage(NamedTuple):
    """A status and the time it is reached."""

    at: float
    status: Status


class Product(NamedTuple):
    """A file that a task has made, before it becomes an output; or a language model's ``content``."""

    name: str
    contenttype: str
    size: int
    path: str
    content: Mapping[str, Any] | None = None


@attrs.frozen
class Output:
    """A file of a finished task; ``path`` is relative to the CDN. What has ``content`` is no file."""

    id: str
    name: str
    contenttype: str
    parentid: str
    size: int
    addedtime: float
    accesskey: str = attrs.field(repr=False)
    path: str
    content: Mapping[str, Any] | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Order:
    """A Run that passed validation.

    Attributes:
        project_id: The paying project.
        model: What is to run.
        parameters: The inputs as they were sent, files replaced by their URLs.
        price: The charge in USD if it succeeds.
        run_median: Seconds such a run takes, before the speed factor.
        directives: What the prompt asks of the sandbox.
        callback_url: Where the result is to be sent, or "".
        products: What it will have made, if that is known already; None waits for :meth:`Engine.prepared`.
        failure: Why it cannot succeed, if that is known already.
    """

    project_id: str
    model: Model
    parameters: Mapping[str, Any]
    price: Decimal
    run_median: float = 60.0
    directives: Directives = attrs.field(factory=Directives)
    callback_url: str = ""
    products: Sequence[Product] | None = None
    failure: str | None = None


@attrs.define(eq=False)
class Task:
    """One task. Changed by the engine only.

    ``stages`` is its timeline, the future included; ``plan`` what will follow once its work is done. The work
    is ``taken`` while somebody makes its files, and ``held`` while nobody may. Then ``products`` or
    ``failure`` is known, and the plan moves to the timeline. Its charge is told from ``charged_at`` on, its
    exit code from ``judged_at`` on, its outputs from ``files_at`` on. What is ``printed`` takes the place of
    what the task's record would say once it has ended, with the ``printed_outputs``.
    """

    id: str
    token: str = attrs.field(repr=False)
    uuid: str
    order: Order
    created: float
    stages: list[Stage] = attrs.field(repr=False)
    plan: list[Stage] = attrs.field(factory=list, repr=False)
    products: Sequence[Product] | None = attrs.field(default=None, repr=False)
    failure: str | None = None
    held: bool = False
    taken: bool = False
    pexit: str = ""
    debugoutput: str = attrs.field(default="", repr=False)
    debugerror: str = attrs.field(default="", repr=False)
    outputs: tuple[Output, ...] = attrs.field(default=(), repr=False)
    cost: Decimal = Decimal(0)
    charged_at: float = math.inf
    judged_at: float = -math.inf
    files_at: float = -math.inf
    open: bool = True
    details: int = 0
    printed: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    printed_outputs: tuple[Output, ...] = attrs.field(default=(), repr=False)

    def stage(self, now: float) -> Stage:
        """The latest stage that is reached at ``now``."""
        for stage in reversed(self.stages):
            if stage.at <= now:
                return stage
        return self.stages[0]

    def status(self, now: float) -> Status:
        """The status at ``now``."""
        return self.stage(now).status


def _locked(
    method: Callable[Concatenate[Engine, _P], _R],
) -> Callable[Concatenate[Engine, _P], _R]:
    """Make a method safe to call from any thread: the server has its own."""

    @functools.wraps(method)
    def call(self: Engine, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self.lock:
            return method(self, *args, **kwargs)

    return call


class Engine:
    """All tasks of one account.

    Args:
        balance: USD on the account.
        speed: The factor by which a task's life is faster than in reality.
        seed: What all randomness comes from.
        concurrency_limit: Tasks at the same time; None derives it from the balance.
        queue_mean: Mean seconds in the queue, before ``speed``.
        run_sigma: Sigma of the log-normal run.
        order: Whether preprocessing comes before the assignment (``"docs"``) or after it (``"seeds"``).
        error_seconds: Seconds until a task leaves task_error, if it does, before ``speed``.
        charge_stopped: Whether a task that is killed is charged.
        stopped_form: Whether the record of a stopped task has neither exit code nor outputs (``"bare"``), or
            both, as the documents' samples (``"documented"``).
        first_task_id: The id of the first task.

    Attributes:
        balance: USD left.
        lock: Held during every call; hold it to do several at once.
        listeners: Called with a task id whenever that task's timeline changes. A listener must be quick and
            must not call back into the engine: it is called under the engine's lock.
    """

    def __init__(
        self,
        *,
        balance: float = 100.0,
        speed: float = 1.0,
        seed: int = 0,
        concurrency_limit: int | None = None,
        queue_mean: float = 6.0,
        run_sigma: float = 0.25,
        order: Literal["docs", "seeds"] = "docs",
        error_seconds: float = 30.0,
        charge_stopped: bool = False,
        stopped_form: StoppedForm = "bare",
        first_task_id: int = 2221,
    ) -> None:
        self.balance: Decimal = Decimal(str(balance))
        self.listeners: list[Callable[[str], None]] = []
        self.lock: threading.RLock = threading.RLock()
        self._speed: float = speed
        self._seed: int = seed
        self._concurrency_limit: int | None = concurrency_limit
        self._queue_mean: float = queue_mean
        self._run_sigma: float = run_sigma
        self._error_seconds: float = error_seconds
        self._charge_stopped: bool = charge_stopped
        self._stopped_form: StoppedForm = stopped_form
        self._life: tuple[Status, ...] = _life(order)
        self._next_id: int = first_task_id
        self._tasks: dict[str, Task] = {}
        self._tokens: dict[str, Task] = {}
        self._active: int = 0
        self._ends: list[tuple[float, str]] = []
        self._starts: list[tuple[float, str]] = []
        self._charged: Decimal = Decimal(0)
        self._paid: int = 0
        self._refused: Counter[int] = Counter()
        self._requests: Counter[str] = Counter()
        self._leaks: int = 0

    # -- submitting ------------------------------------------------------------------------------

    @_locked
    def run(self, order: Order, now: float) -> Task:
        """Accept a Run.

        Args:
            order: The validated request.
            now: The time.

        Returns:
            The new task, in the queue.

        Raises:
            Refusal: 97 below the minimum balance, 96 at the concurrency limit.
        """
        self.check_funds(now)
        rng = random.Random(f"{self._seed}/{self._next_id}")  # noqa: S311 - a simulation, not a secret
        task = Task(
            id=str(self._next_id),
            token="".join(rng.choices(_ALPHANUMERIC, k=30)),
            uuid=_uuid(rng),
            order=order,
            created=now,
            stages=[Stage(now, Status.QUEUE)],
        )
        self._next_id += 1
        self._tasks[task.id] = self._tokens[task.token] = task
        self._active += 1
        task.products = order.products
        task.failure = order.failure if order.directives.fail is None else order.directives.fail
        if not order.directives.queue:
            self._schedule(task, rng, now, wait=rng.expovariate(1.0) * self._queue_mean)
        return task

    @_locked
    def plant(self, task: Task) -> None:
        """Take in a task with an id, a token and a life of its own. The first one with a token has it."""
        self._tasks[task.id] = task
        self._tokens.setdefault(task.token, task)
        self._active += task.open

    def limit(self) -> int | None:
        """The number of tasks that may be alive at the same time; None: any number."""
        if self._concurrency_limit is not None:
            return self._concurrency_limit
        if self.balance > _UNLIMITED_ABOVE:
            return None
        return max(1, math.floor(self.balance / 10))

    @_locked
    def check_funds(self, now: float) -> None:
        """See whether the account may run one more task.

        Raises:
            Refusal: 97 below the minimum balance, 96 at the concurrency limit.
        """
        self._settle(now)
        if self.balance < _MINIMUM_BALANCE:
            raise Refusal(97, "Insufficient balance")
        limit = self.limit()
        if limit is not None and self._active >= limit:
            raise Refusal(
                96,
                "You have reached your concurrent task limit. "
                f"With your current balance of ${self.balance:.2f}, "
                f"you can run up to {limit} tasks at the same time. Add funds to increase your limit.",
            )

    # -- the timeline ----------------------------------------------------------------------------

    def _schedule(self, task: Task, rng: random.Random, now: float, *, wait: float) -> None:
        """Draw a task's future: the timeline up to task_start, and the plan for what follows the work."""
        scale = 1 / self._speed
        accept = now + wait * scale
        directives = task.order.directives
        if directives.error is not None:
            task.stages += [Stage(accept, Status.ACCEPT), Stage(accept + 0.1 * scale, Status.ERROR)]
            task.debugerror = directives.error
            self._leave_error(task, rng, task.stages[-1].at + self._error_seconds * scale)
            return
        head = self._life[1 : self._life.index(Status.START) + 1]
        task.stages += [
            Stage(accept + pause * scale, status) for pause, status in zip(_PAUSES, head, strict=True)
        ]
        start = task.stages[-1].at
        run = rng.lognormvariate(0.0, self._run_sigma) * task.order.run_median
        run = (run if directives.run is None else directives.run) * scale
        task.plan = [Stage(start + run * share + pause * scale, status) for share, pause, status in _TAIL]
        task.held = directives.hang
        self._begin(task)

    def _leave_error(self, task: Task, rng: random.Random, at: float) -> None:
        """Plan what becomes of a task in task_error, *at* a time."""
        match task.order.directives.after:
            case "end":
                task.failure = task.debugerror
                task.pexit, task.debugoutput = "1", task.debugerror
                task.stages.append(Stage(at, Status.POSTPROCESS_END))
                heapq.heappush(self._ends, (at, task.id))
            case "requeue":
                task.stages.append(Stage(at, Status.QUEUE))
                directives = attrs.evolve(task.order.directives, error=None)
                task.order = attrs.evolve(task.order, directives=directives)
                self._schedule(task, rng, at, wait=rng.expovariate(1.0) * self._queue_mean)

    def _begin(self, task: Task) -> None:
        """Let a task's work be done when it starts; if the result is known already, settle its future."""
        if task.held:
            return
        if task.failure is not None or task.products is not None:
            self._conclude(task)
        elif not task.taken:
            heapq.heappush(self._starts, (task.stages[-1].at, task.id))

    def _conclude(self, task: Task) -> None:
        """Move the plan to the timeline: from here on the task ends by itself."""
        plan, task.plan = task.plan, []
        if task.failure is not None:
            plan = _without_outputs(plan)
        task.stages += plan
        task.pexit = "0" if task.failure is None else "1"
        log = _log(task.order.directives.log)
        task.debugoutput = f"Model is running.\n{log}{task.failure or 'Done.'}"
        task.outputs = () if task.failure is not None else self._outputs(task, plan[0].at)
        if task.outputs and task.outputs[0].content is not None:
            task.debugoutput = str(task.outputs[0].content["raw"])
        ends, directives = task.stages[-1].at, task.order.directives
        task.judged_at = ends + (directives.bare or 0.0) / self._speed
        task.files_at = max(task.judged_at, ends + (directives.nofiles or 0.0) / self._speed)
        heapq.heappush(self._ends, (ends, task.id))

    def _outputs(self, task: Task, now: float) -> tuple[Output, ...]:
        rng = random.Random(f"{self._seed}/{task.id}/outputs")  # noqa: S311 - a simulation, not a secret
        parent = _hex(rng, 32)
        return tuple(_output(product, rng, parent, now) for product in task.products or ())

    def _announce(self, task: Task) -> None:
        for listener in self.listeners:
            listener(task.id)

    def _settle(self, now: float) -> None:
        """Close every task whose end has come, and charge those that succeeded."""
        while self._ends and self._ends[0][0] <= now:
            at, task_id = heapq.heappop(self._ends)
            task = self._tasks[task_id]
            if not task.open or task.stages[-1] != (at, Status.POSTPROCESS_END):
                continue  # it was stopped, or its end was moved, after this entry was made
            self._close(task)
            if task.pexit == "0":
                self._charge(task, at)

    def _charge(self, task: Task, at: float) -> None:
        """Take what a task that ended at a time has cost; that may be told later."""
        task.cost = task.order.price
        task.charged_at = at + (task.order.directives.late or 0.0) / self._speed
        self.balance -= task.cost
        self._charged += task.cost
        self._paid += 1

    def _close(self, task: Task) -> None:
        task.open = False
        self._active -= 1

    # -- the work --------------------------------------------------------------------------------

    @_locked
    def next_start(self) -> float | None:
        """When the next task needs its work done; None: nothing is known to come."""
        return self._starts[0][0] if self._starts else None

    @_locked
    def take_started(self, now: float) -> list[Task]:
        """The tasks that began to run, and whose files are to be made. Each is handed out once."""
        started = []
        while self._starts and self._starts[0][0] <= now:
            at, task_id = heapq.heappop(self._starts)
            task = self._tasks[task_id]
            waiting = task.open and task.plan and not (task.held or task.taken)
            if waiting and task.stages[-1].at == at:
                task.taken = True
                started.append(task)
        return started

    @_locked
    def prepared(self, task_id: str, now: float, products: Sequence[Product]) -> bool:
        """Say that a task's files exist. Work that took longer than planned stretches the run.

        Returns:
            False if nobody wants them any more: the task was stopped.
        """
        task = self._tasks[task_id]
        task.products = tuple(products)
        return self._deliver(task, now, hurry=False)

    @_locked
    def rejected(self, task_id: str, now: float, reason: str) -> bool:
        """Say that a task's files cannot be made: it fails without delay.

        Returns:
            False if the task was stopped before.
        """
        task = self._tasks[task_id]
        task.failure = reason
        return self._deliver(task, now, hurry=True)

    def _deliver(self, task: Task, now: float, *, hurry: bool) -> bool:
        task.taken = False
        if not task.open:
            return False
        if task.plan and not task.held:
            if hurry:
                task.plan = _without_outputs(task.plan)
            late = max(now, task.stages[-1].at) - task.plan[0].at
            if late > 0 or hurry:
                task.plan = [Stage(at + late, status) for at, status in task.plan]
            self._conclude(task)
            self._announce(task)
        return True

    # -- looking ---------------------------------------------------------------------------------

    @_locked
    def find(
        self, now: float, *, task_id: str | None = None, token: str | None = None, project_id: str
    ) -> Task | None:
        """Find a task of a project by its id or by its socket token; None if there is none."""
        self._settle(now)
        task = self._tasks.get(task_id) if task_id is not None else self._tokens.get(token or "")
        return task if task is not None and task.order.project_id == project_id else None

    @_locked
    def by_token(self, token: str) -> Task:
        """Find a task by its socket token, its only credential.

        Raises:
            Refusal: 1, when no task has it.
        """
        task = self._tokens.get(token)
        if task is None:
            raise not_found("There is no task yet.")
        return task

    @_locked
    def tasks(self, now: float, *, project_id: str) -> list[Task]:
        """All tasks of a project, newest first."""
        self._settle(now)
        return [task for task in reversed(self._tasks.values()) if task.order.project_id == project_id]

    @_locked
    def events(self, token: str, since: int, now: float) -> tuple[list[Stage], int, float | None]:
        """What happened to a task: the seam for a socket.

        Args:
            token: The task's socket token, its only credential.
            since: The cursor that the last call returned; 0 at first.
            now: The time.

        Returns:
            The stages reached since then, the new cursor, and when the next stage is due (None: not known;
            ``listeners`` hear of it).

        Raises:
            Refusal: 1, when no task has this token.
        """
        self._settle(now)
        task = self._tokens.get(token)
        if task is None:
            raise not_found("There is no task yet.")
        reached = [stage for stage in task.stages[since:] if stage.at <= now]
        cursor = since + len(reached)
        upcoming = task.stages[cursor].at if cursor < len(task.stages) else None
        return reached, cursor, upcoming

    # -- stopping and steering -------------------------------------------------------------------

    @_locked
    def cancel(self, task: Task, now: float) -> Task:
        """Cancel a task that waits in the queue, at first or, after task_error, again.

        Raises:
            Refusal: 1, when it waits no longer.
        """
        self._settle(now)
        if task.status(now) not in {Status.QUEUE, Status.ERROR}:
            raise not_found("Task is not in a cancellable state.")
        return self._stop(task, now)

    @_locked
    def kill(self, task: Task, now: float) -> Task:
        """Kill a running task: one that has left the queue and has not ended.

        Raises:
            Refusal: 1, when it waits in the queue or has ended.
        """
        self._settle(now)
        status = task.status(now)
        if status is Status.QUEUE or status in _TERMINAL:
            reason = "it is still in the queue" if status is Status.QUEUE else "it has ended"
            raise not_found(f"Task could not be killed: {reason}")
        return self._stop(task, now)

    @_locked
    def forget_outputs(self, task: Task, now: float) -> tuple[Output, ...]:
        """Remove the outputs of a task that has ended, and return them. Doing so twice is no fault.

        Raises:
            Refusal: 1, while the task lives.
        """
        self._settle(now)
        if task.open:
            raise not_found("Task must be completed or cancelled before deleting files")
        outputs = task.outputs or task.printed_outputs
        task.outputs = task.printed_outputs = ()
        return outputs

    @_locked
    def steer(self, task_id: str, action: Action, now: float, reason: str | None = None) -> Task:
        """Change a task's fate from outside.

        Args:
            task_id: The task.
            action: ``fail``: it ends now with pexit "1". ``error``: it is stored as task_error.
                ``release``: it leaves the queue, task_error, or what holds it, and goes on. ``finish``: it
                ends as soon as its files exist. ``hang``: it starts and stays.
                ``cancel``: the service cancels it. ``tell``: its record holds nothing back any more, neither
                exit code nor outputs nor the charge; a task that has ended can be told that, too.
            now: The time.
            reason: The text for ``fail`` and ``error``.

        Raises:
            Refusal: 1, when there is no such task or it has ended.
        """
        self._settle(now)
        task = self._tasks.get(task_id)
        if task is None or not (task.open or action == "tell"):
            raise not_found("task-not-exist")
        _STEERING[action](self, task, now, reason)
        self._announce(task)
        return task

    def _stop(self, task: Task, now: float) -> Task:
        if self._charge_stopped and any(
            stage.status is Status.START for stage in task.stages if stage.at <= now
        ):
            self._charge(task, now)
        _cut(task, now)
        if self._stopped_form == "documented":
            task.pexit, task.outputs = "0", self._outputs(task, now)
        task.stages.append(Stage(now, Status.CANCEL))
        self._close(task)
        self._announce(task)
        return task

    def _forward(self, task: Task, now: float) -> None:
        """Make a task start now, unless it has; all that follows is planned for now."""
        status = task.status(now)
        reached = 0 if status is Status.ERROR else self._life.index(status)
        start = self._life.index(Status.START)
        _cut(task, now)
        _free(task)
        task.stages += [Stage(now, status) for status in self._life[reached + 1 : start + 1]]
        task.plan = [Stage(now, status) for status in self._life[max(reached, start) + 1 :]]
        task.held = False

    def _fail(self, task: Task, now: float, reason: str | None) -> None:
        self._forward(task, now)
        task.failure = reason or "The model failed."
        self._begin(task)

    def _error(self, task: Task, now: float, reason: str | None) -> None:
        _cut(task, now)
        task.debugerror = reason or "worker lost"
        task.stages.append(Stage(now, Status.ERROR))

    def _release(self, task: Task, now: float, _: str | None) -> None:
        status = task.status(now)
        if task.held:
            self._forward(task, now)
            self._begin(task)
        elif status in {Status.QUEUE, Status.ERROR}:
            _cut(task, now)
            _free(task)
            if status is Status.ERROR:
                task.stages.append(Stage(now, Status.QUEUE))
            rng = random.Random(f"{self._seed}/{task.id}/{len(task.stages)}")  # noqa: S311 - a simulation
            self._schedule(task, rng, now, wait=0.0)

    def _finish(self, task: Task, now: float, _: str | None) -> None:
        if task.order.directives.fail is not None:
            task.failure = task.order.failure
        self._forward(task, now)
        self._begin(task)

    def _hang(self, task: Task, now: float, _: str | None) -> None:
        self._forward(task, now)
        task.held = True

    def _cancel(self, task: Task, now: float, _: str | None) -> None:
        self._stop(task, now)

    def _tell(self, task: Task, now: float, _: str | None) -> None:
        directives = attrs.evolve(task.order.directives, late=0.0, bare=0.0, nofiles=0.0)
        task.order = attrs.evolve(task.order, directives=directives)
        task.charged_at = min(task.charged_at, now)
        task.judged_at = min(task.judged_at, now)
        task.files_at = min(task.files_at, now)

    # -- the books -------------------------------------------------------------------------------

    @_locked
    def set_balance(self, amount: float, now: float) -> None:
        """Set the account's balance in USD, as adding funds would."""
        self._settle(now)
        self.balance = Decimal(str(amount))

    @_locked
    def count(self, operation: str, *, leaked: bool = False) -> None:
        """Note a request, and whether it carried credentials to where none belong."""
        self._requests[operation] += 1
        self._leaks += leaked

    @_locked
    def refuse(self, code: int) -> None:
        """Note a refusal."""
        self._refused[code] += 1

    @_locked
    def ledger(self, now: float) -> dict[str, Any]:
        """The account's books, ready for JSON.

        Returns:
            ``runs`` accepted, ``active`` and ``paid`` ones, USD ``charged`` and the ``balance`` left,
            refusals by code, requests by operation, ``credentials_leaked`` (requests to the CDN that carried
            a key), and an entry per task.
        """
        self._settle(now)
        return {
            "runs": len(self._tasks),
            "active": self._active,
            "paid": self._paid,
            "charged": f"{self._charged:.12f}",
            "balance": f"{self.balance:.12f}",
            "refused": {str(code): number for code, number in sorted(self._refused.items())},
            "requests": dict(sorted(self._requests.items())),
            "credentials_leaked": self._leaks,
            "tasks": [_summary(task, now) for task in self._tasks.values()],
        }


# Seconds after acceptance, before the speed factor: accept, the three stages in between, start.
_PAUSES = (0.0, 0.2, 0.8, 1.0, 1.3)

# Share of the run and further seconds after task_start. The last two stages follow the run.
_TAIL = (
    (0.85, 0.0, Status.OUTPUT),
    (0.90, 0.0, Status.OUTPUT),
    (0.95, 0.0, Status.OUTPUT),
    (0.98, 0.0, Status.OUTPUT_FULL),
    (1.00, 0.0, Status.END),
    (1.00, 0.3, Status.POSTPROCESS_START),
    (1.00, 1.0, Status.POSTPROCESS_END),
)

_PREPARING = (Status.PREPROCESS_START, Status.PREPROCESS_END)


def _life(order: Literal["docs", "seeds"]) -> tuple[Status, ...]:
    middle = (*_PREPARING, Status.ASSIGN) if order == "docs" else (Status.ASSIGN, *_PREPARING)
    tail = (Status.START, Status.OUTPUT, Status.OUTPUT_FULL, Status.END, Status.POSTPROCESS_START)
    return (Status.QUEUE, Status.ACCEPT, *middle, *tail, Status.POSTPROCESS_END)


_STEERING: dict[Action, Callable[[Engine, Task, float, str | None], None]] = {
    "fail": Engine._fail,
    "error": Engine._error,
    "release": Engine._release,
    "finish": Engine._finish,
    "hang": Engine._hang,
    "cancel": Engine._cancel,
    "tell": Engine._tell,
}


def _cut(task: Task, now: float) -> None:
    """Take a task's future away."""
    task.stages = [stage for stage in task.stages if stage.at <= now]
    task.plan = []
    task.pexit, task.outputs, task.debugoutput = "", (), ""


def _log(size: int) -> str:
    """So many bytes of what models print: brackets, commas and quotes above all."""
    line = '[INFO] step 120/1000, loss={"total": 0.1234, "l1": [0.5, 0.25]}, "eta": 00:12:34, lr=1e-4\n'
    return (line * (size // len(line) + 1))[: max(size - 1, 0)] + "\n" if size else ""


def _without_outputs(plan: list[Stage]) -> list[Stage]:
    return [stage for stage in plan if stage.status not in {Status.OUTPUT, Status.OUTPUT_FULL}]


def _free(task: Task) -> None:
    """Lift the directives that hold a task."""
    directives = attrs.evolve(task.order.directives, queue=False, error=None, hang=False)
    task.order = attrs.evolve(task.order, directives=directives)


def _output(product: Product, rng: random.Random, parent: str, now: float) -> Output:
    return Output(
        id=_hex(rng, 32),
        name=product.name,
        contenttype=product.contenttype,
        parentid=parent,
        size=product.size,
        addedtime=now,
        accesskey="".join(rng.choices(_ALPHANUMERIC, k=30)),
        path=product.path,
        content=product.content,
    )


def _summary(task: Task, now: float) -> dict[str, Any]:
    status = task.status(now)
    return {
        "id": task.id,
        "model": task.order.model.slug,
        "status": status.value,
        "pexit": task.pexit if status is Status.POSTPROCESS_END else "",
        "totalcost": f"{task.cost:.12f}",
        "created": task.created,
        "details": task.details,
        "prompt": str(task.order.parameters.get("prompt", "")),
        "inputs": dict(task.order.parameters),
        "callbackurl": task.order.callback_url,
    }


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
