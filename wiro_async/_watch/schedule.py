"""When to poll which task. Pure: ages and times in, times out.

One schedule per client paces the polls of all of its tasks: by what the durations of a model's finished tasks
tell (``durations``), else by the task's age; within one budget; and not while the service is unwell.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import attrs

from wiro_async._config import Polling
from wiro_async._protocol.records import Task
from wiro_async._types import Record, Status
from wiro_async._watch.durations import EXPECTED, Durations, PollPlan, Polls, expected_polls, is_duration

__all__ = ["Schedule", "Statistics", "TaskTiming", "clock_offset", "lateness", "stages", "started_after"]

BURST_SECONDS = 0.25
"""How far polls may run ahead of an even pace, so that a lone task is not slowed by rounding."""

ADVANCE_SECONDS = 0.25
"""By how much a poll that is overdue may come before those that are due now."""

ENOUGH = 5.0
"""How many of a model's tasks must have ended before their durations are trusted."""

REFRESH_SHARE = 1 / 12
"""A model's plan is made anew when this share of what it was made from has come after it."""

LONGEST_GAP = 60.0
"""Half as long again is the longest time between two polls, in seconds, unless the policy's is longer: what
fails early is not learned from, and shows in a poll only."""

LONGEST_PLANNED = 3600.0
"""The longest interval where an end is likely, in seconds, whatever the policy says."""

MOST_MODELS = 256
LONGEST_NAME = 200
"""How many models are remembered (the least recently used is dropped), and the length of their names."""

DAY = 86400.0
REORDERED = 4096
PATIENCE = 2.0
"""How many tasks of a model are held to be learned from in order, and how many times as long as any that
ended of late one of them may hold up the others."""

PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""How long no task is polled after a poll that met an unwell service, in seconds; doubled each time that the
first polls after a pause meet the same."""

LONGEST_RETRY_AFTER = 120.0
PAUSE_JITTER = 0.25
"""The polls after a pause are spread over this share of it."""

FINE = 2.0
"""Below this many seconds the service's stamps tell too little: a policy that polls more often is kept to."""

_MOST_DOUBLINGS = 10
_LATENESS_EDGES = tuple(0.01 * 1.05**index for index in range(300))


class TaskTiming(NamedTuple):
    """What is known of one waiting task; all times are seconds on one clock that never goes back.

    Attributes:
        model: Its model ("" while unknown).
        since: When it was created, or first known.
        started: When it began to run (None: it was not seen running).
        polled_at: The last poll, or the submit's answer (None: neither, so it is due at once).
        failures: How many polls in a row have failed.
        place: From 0 to 1, the task's own, fixed: spreads the polls of equal tasks.
        expected: How many seconds the user expects from the submit to the end (None: no idea).
    """

    model: str
    since: float
    started: float | None = None
    polled_at: float | None = None
    failures: int = 0
    place: float = 0.0
    expected: float | None = None


@attrs.frozen(kw_only=True)
class Statistics(Record):
    """How a client's waiting goes.

    Attributes:
        polls: How many polls were made, of all tasks.
        finished: How many tasks were seen to have ended.
        polls_per_task: ``polls / finished`` (None before the first end), polls of waiting tasks included.
        mean_lateness: Mean time from a task's end, by the service's stamp, to when it was seen, in seconds
            (None: no end with a stamp). Stamps are whole seconds, cut off: it is half a second too much.
        p99_lateness: What 99 of 100 tasks stayed below, in seconds, to 5 % (None as above).
        in_flight: Requests at the service now.
        waiting: Requests that wait for their turn now.
    """

    polls: int
    finished: int
    polls_per_task: float | None
    mean_lateness: float | None
    p99_lateness: float | None
    in_flight: int
    waiting: int


class Schedule:
    """Decides when a task is due for a poll, and holds the client's budget of polls.

    Args:
        polling: The policy.
    """

    __slots__ = (
        "_doublings",
        "_expected",
        "_finished",
        "_free_at",
        "_late",
        "_late_sum",
        "_longest",
        "_models",
        "_pause",
        "_paused_until",
        "_polling",
        "_polls",
    )  # fmt: skip

    def __init__(self, polling: Polling) -> None:
        self._polling: Polling = polling
        self._longest: float = max(polling.max_interval, polling.min_interval)
        self._free_at: float = -math.inf
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._expected: Polls = expected_polls()
        self._paused_until: float = -math.inf
        self._pause: float = 0.0
        self._doublings: int = 0
        self._polls: int = 0
        self._finished: int = 0
        self._late: array[int] = array("Q", bytes(8 * (len(_LATENESS_EDGES) + 1)))
        self._late_sum: float = 0.0

    # -- when ------------------------------------------------------------------------------------------

    def next_poll(self, timing: TaskTiming, now: float) -> float:
        """Return when the task is due for its next poll, before the budget; in the past if it is overdue.

        By what the user expects, by what the model's finished tasks tell, or by the task's age, in this
        order. A failed poll doubles the interval, up to the policy's longest.
        """
        if timing.polled_at is None:
            return max(now, self.paused_until(timing.place))
        plain = self._interval(timing, max(timing.polled_at - timing.since, 0.0))
        # 2**64 is beyond any `_longest`, and a float still holds it.
        doubled = min(plain * 2.0 ** min(timing.failures, 64), self._longest)
        return max(timing.polled_at + max(plain, doubled), self.paused_until(timing.place))

    def _interval(self, timing: TaskTiming, age: float) -> float:
        model = self.enter(timing)
        planned = self._by_expectation(timing, age)
        if model is not None and planned == math.inf:
            planned = self._by_learning(model, timing, age)
        if planned == math.inf or planned < FINE:
            return min(planned, self._by_age(timing, age))
        return min(planned, max(LONGEST_GAP * (1.0 + 0.5 * timing.place), self._longest))

    def enter(self, timing: TaskTiming) -> _Model | None:
        """Take a task in that is to be learned from in the order of its creation; safe to repeat."""
        if not self._polling.learn or not 0 < len(timing.model) <= LONGEST_NAME:
            return None
        model = self._model(timing.model)
        model.order.enter(timing)
        return model

    def _by_expectation(self, timing: TaskTiming, age: float) -> float:
        """Infinite without an expectation, and with one that is over."""
        if not timing.expected or not is_duration(timing.expected):
            return math.inf
        interval = self._expected.interval(age, timing.place, timing.expected / EXPECTED)
        return interval if age < 0.5 * timing.expected else min(interval, self._longest)

    def _by_learning(self, model: _Model, timing: TaskTiming, age: float) -> float:
        """Infinite while too little is known."""
        plan = model.plan(min(self._longest, LONGEST_PLANNED))
        if plan is None:
            return math.inf
        if timing.started is not None:
            return plan.polls.interval(max(age + timing.since - timing.started, 0.0), timing.place)
        if age == 0:
            return plan.first(timing.place)
        # A poll that failed has not told that the task is queued.
        return plan.unseen(age, 0.0 if timing.failures else age, timing.place)

    def _by_age(self, timing: TaskTiming, age: float) -> float:
        policy = self._polling
        interval = min(max(policy.growth * age, policy.min_interval), self._longest)
        return interval * (1.0 + policy.jitter * (2.0 * timing.place - 1.0))

    def paused_until(self, place: float) -> float:
        """Return until when a task of this place is not polled because the service is unwell.

        Whoever has slept until its poll should ask once more: another's poll may have failed since.
        """
        return self._paused_until + PAUSE_JITTER * place * self._pause

    # -- how often -------------------------------------------------------------------------------------

    def reserve(self, now: float, waited: float = 0.0) -> float:
        """Take the next place in the budget and return when it is, at *now* or later.

        The generic cell rate algorithm (ITU-T I.371): places are ``1 / requests_per_second`` apart, with a
        burst of a quarter of a second's worth. Tasks ask when they are due, so those that are due earlier go
        first, and each has had its turn before one has two. In any window of w seconds there are at most
        ``requests_per_second * (w + 0.5) + 1`` places.

        Args:
            now: The time.
            waited: For how many seconds the poll has been due: by so much, up to a quarter of a second, it
                may come before those that are due just now.
        """
        even = max(self._free_at, now - BURST_SECONDS, self._paused_until)
        self._free_at = even + 1.0 / self._polling.requests_per_second
        return max(even - min(max(waited, 0.0), ADVANCE_SECONDS), now, self._paused_until)

    def back_off(self, now: float, retry_after: float | None) -> None:
        """Pause all polls, because one met HTTP 429, a 5xx or no connection.

        Failures during a pause are of polls that had begun before it: they make it no longer.

        Args:
            now: The time.
            retry_after: What the service asked for, in seconds; up to two minutes of it are honoured.
        """
        pause = 0.0
        if now >= self._paused_until:
            pause = min(PAUSE * 2.0**self._doublings, LONGEST_PAUSE)
            self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)
        if retry_after is not None and is_duration(retry_after):
            pause = max(pause, min(retry_after, LONGEST_RETRY_AFTER))
        if now + pause > self._paused_until:
            self._paused_until, self._pause = now + pause, pause

    def recover(self) -> None:
        """Tell that a poll succeeded: the next pause is half as long."""
        self._doublings = max(self._doublings - 1, 0)

    # -- what is learned -------------------------------------------------------------------------------

    def learn(
        self, model: str, *, queued: float | None, ran: float | None, timing: TaskTiming | None = None
    ) -> None:
        """Learn from a finished task.

        Only a task that succeeded should have a *ran*: one that failed or was stopped ended early for reasons
        of its own, and a batch of failures would hide what the model needs. Its *queued* is as good as any
        other's.

        Args:
            model: Its model.
            queued: Seconds from its creation to its start (None: unknown).
            ran: Seconds from its start to its end (None: unknown, or it did not succeed).
            timing: What ``next_poll`` was told of it at last: then tasks that were created together are
                learned from in the order of their creation, whatever the order of their ends.
        """
        if self._polling.learn and 0 < len(model) <= LONGEST_NAME:
            known = self._model(model)
            for sample in known.order.leave(timing, (queued, ran)):
                known.learn(sample)

    def _model(self, name: str) -> _Model:
        model = self._models.pop(name, None) or _Model()
        self._models[name] = model
        if len(self._models) > MOST_MODELS:
            self._models.popitem(last=False)
        return model

    def export(self) -> dict[str, Any]:
        """Return what was learned as small data that JSON can hold: at most 3 kB a model."""
        models = {
            name: {"queued": model.queued.export(), "ran": model.ran.export()}
            for name, model in self._models.items()
            if model.ran.count or model.queued.count
        }
        return {"version": 1, "models": models}

    def merge(self, data: object) -> None:
        """Add what another process learned; what cannot be read is ignored.

        It weighs as much as what was learned here from as many tasks, and what changes later is followed.
        """
        models = data.get("models") if isinstance(data, Mapping) and data.get("version") == 1 else None
        if not self._polling.learn or not isinstance(models, Mapping):
            return
        for name, stages in models.items():
            if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and isinstance(stages, Mapping):
                self._model(name).merge(stages)

    # -- how it went -----------------------------------------------------------------------------------

    def polled(self) -> None:
        """Count a poll."""
        self._polls += 1

    def finished(self, lateness: float | None) -> None:
        """Count a task whose end was seen, *lateness* seconds after it (None: unknown)."""
        self._finished += 1
        if lateness is not None and is_duration(lateness):
            self._late[bisect_left(_LATENESS_EDGES, lateness)] += 1
            self._late_sum += lateness

    def statistics(self, *, in_flight: int, waiting: int) -> Statistics:
        """Return what was counted, and what the caller tells of its requests."""
        known = sum(self._late)
        late = bisect_left(list(accumulate(self._late)), 0.99 * known)
        return Statistics(
            polls=self._polls,
            finished=self._finished,
            polls_per_task=self._polls / self._finished if self._finished else None,
            mean_lateness=self._late_sum / known if known else None,
            p99_lateness=_LATENESS_EDGES[min(late, len(_LATENESS_EDGES) - 1)] if known else None,
            in_flight=in_flight,
            waiting=waiting,
        )


# -- what is learned of one model -------------------------------------------------------------------------

Sample: TypeAlias = tuple[float | None, float | None]
"""How long a task was queued, and how long it ran, in seconds (None: not to be learned from)."""


class _Model:
    """What was learned of one model: at most 4 kB, beside its tasks in flight."""

    __slots__ = ("_plan", "_unused", "order", "queued", "ran")

    def __init__(self) -> None:
        self.queued: Durations = Durations()
        self.ran: Durations = Durations()
        self.order: _ReorderBuffer = _ReorderBuffer()
        self._plan: PollPlan | None = None
        self._unused: float = 0.0

    def learn(self, sample: Sample) -> None:
        """Take in one sample."""
        queued, ran = sample
        if queued is not None:
            self.queued.add(queued)
        if ran is not None:
            self.ran.add(ran)
            self._unused += 1.0

    def merge(self, stages: Mapping[Any, Any]) -> None:
        """Add what another process learned."""
        self.queued.merge(stages.get("queued"))
        self.ran.merge(stages.get("ran"))
        self._unused = math.inf

    def plan(self, longest: float) -> PollPlan | None:
        """Return when to poll its tasks (None: too little is known), not older than need be."""
        if self.ran.count < ENOUGH:
            return None
        if self._plan is None or self._unused > REFRESH_SHARE * self.ran.count:
            self._plan = PollPlan(self.queued, self.ran, longest)
            self._unused = 0.0
        return self._plan


class _ReorderBuffer:
    """Hands on what ended tasks tell in the order in which the tasks were created.

    Of tasks that were created together the short ones end first. Learned from in the order of their ends,
    they would look like a change, first to shorter ones and then to longer ones.
    """

    __slots__ = ("_longest", "_order", "_samples")

    def __init__(self) -> None:
        # Each task by its creation and place: what it has told (None: it has not ended), and a heap of these.
        self._samples: dict[tuple[float, float], Sample | None] = {}
        self._order: list[tuple[float, float]] = []
        self._longest: float = 0.0

    def enter(self, timing: TaskTiming) -> None:
        """Take in a task, or do nothing if it is there."""
        key = (timing.since, timing.place)
        if key not in self._samples:
            self._samples[key] = None
            heappush(self._order, key)
            if len(self._order) > REORDERED:
                self._pop()

    def leave(self, timing: TaskTiming | None, sample: Sample) -> Iterator[Sample]:
        """Take in a task's end, and yield what no older task holds up any more."""
        key = None if timing is None else (timing.since, timing.place)
        if key is None or key not in self._samples:
            yield sample
            return
        self._samples[key] = sample
        total = min(sum(part for part in sample if part is not None and is_duration(part)), DAY)
        self._longest = max(total, 0.98 * self._longest)
        oldest_awaited = key[0] + total - PATIENCE * self._longest
        while self._order:
            since, _ = oldest = self._order[0]
            if self._samples[oldest] is None and since >= oldest_awaited:
                return
            if (first := self._pop()) is not None:
                yield first

    def _pop(self) -> Sample | None:
        return self._samples.pop(heappop(self._order))


# -- what a task's record tells ---------------------------------------------------------------------------

# The service's stamps are whole seconds, cut off; what was seen of the task in between narrows that down.

HALF_A_SECOND = 0.5
"""What is added to a stamp that is cut to a whole second: the middle of where it may lie."""

NOTICEABLE_OFFSET = 1.5
"""Seconds below which the difference of two clocks cannot be told from the cutting of stamps."""


def stages(task: Task) -> tuple[float | None, float | None]:
    """Return the seconds that a finished task has queued and has run, files included (None: not told)."""
    start, ended = task.timestamps.get(Status.START), _end(task)
    ran = None if start is None or ended is None else max(ended - start, 0.0)
    elapsed = task.elapsed_seconds
    if ran is not None and elapsed is not None and not elapsed.is_integer():
        # Told to the fraction, but only to the end of the work itself.
        after = max(ended - task.timestamps.get(Status.END, ended), 0.0) if ended is not None else 0.0
        ran = elapsed + after
    return started_after(task), ran


def started_after(task: Task) -> float | None:
    """Return the seconds from a task's creation to the beginning of its run (None: not told)."""
    created, start = task.timestamps.get(Status.QUEUE), task.timestamps.get(Status.START)
    return None if created is None or start is None else max(start - created, 0.0)


def clock_offset(task: Task, submitted_at: float) -> float:
    """Return by how many seconds the service's clock is ahead of ours.

    Args:
        task: A snapshot of a task that we submitted.
        submitted_at: When that was, in unix seconds of our clock.
    """
    created = task.timestamps.get(Status.QUEUE)
    if created is None:
        return 0.0
    offset = _middle(created) - submitted_at
    return offset if abs(offset) > NOTICEABLE_OFFSET else 0.0


def lateness(task: Task, *, offset: float, now: float, unknown_for: float) -> float:
    """Return the seconds from a task's end to the moment that we knew.

    Args:
        task: The final snapshot.
        offset: By how much the service's clock is ahead of ours.
        now: Our time of day, in unix seconds.
        unknown_for: Seconds since the task was last known to be alive: it cannot have ended before.
    """
    ended = _end(task)
    estimate = unknown_for if ended is None else now + offset - _middle(ended)
    return min(max(estimate, 0.0), max(unknown_for, 0.0))


def _end(task: Task) -> float | None:
    times = task.timestamps
    last = Status.CANCEL if task.status == Status.CANCEL else Status.POSTPROCESS_END
    return times.get(last, times.get(Status.END))


def _middle(stamp: float) -> float:
    return stamp + HALF_A_SECOND if stamp.is_integer() else stamp
