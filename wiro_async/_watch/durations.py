"""How long tasks take, learned as they end, and how often to poll the next. Pure: seconds in and out.

Durations are counted in a histogram over the logarithm of time, in which a sample weighs the less the more
came after it. Polls are placed after Joseph B. Keller, "Optimum checking schedules for systems subject to
random failure", Management Science 21 (1974): where an end has the hazard h, a poll costs c and a second of
not knowing costs 1, the best density of polls is ``sqrt(h / 2c)``.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["Durations", "PollPlan", "Polls", "expected_polls", "is_duration"]

SMALLEST = 0.25
RATIO = 1.08
BINS = 166
EDGES = (0.0, *(SMALLEST * RATIO**index for index in range(1, BINS)))
"""Where the bins begin, in seconds. The last begins after 22 hours and has no end."""

MEMORY = 200.0
"""How many samples are remembered: each new one takes ``1 / MEMORY`` of the weight of all before."""

RECENT = 12
"""How many samples are kept one by one, to start again from when the durations have changed."""

DRIFT_SHARE = 0.1
DRIFT_LIMIT = 0.3
"""A change is seen by a moving average of where samples lie in the distribution (0 to 1, less a half), which
takes over a tenth of each. While the distribution stays, the average's deviation is 0.066. It needs nine
samples in a row beyond all others, or some twenty typically above five sixths of them, to reach 0.3."""

STAMPS = (-0.55, -0.23, 0.0, 0.23, 0.55)
"""The service's stamps are whole seconds, cut off, so a difference of two is off by less than a second, with
a triangular distribution: these are the middles of its fifths."""

STAMPS_MATTER = 20.0
"""Up to this many seconds a bin is not much wider than the stamps' error."""

POLL_COST = 0.3
"""c: a poll is worth this many seconds of knowing late. More polls would lower polls × lateness by little;
fewer would let the last hundredth of the tasks wait longer than the service's own schedule does."""

SHORTEST = 0.2
"""The shortest time between two polls, in seconds."""

UNLIKELY = 0.01
"""Until this share of the tasks has ended, intervals may be longer than the policy's longest."""

PRIOR = 1.0
"""How many samples the prior weighs, for durations that nobody has seen: half of them spread evenly from 0 to
the median, the other half beyond it with hazard 1 / t."""

STARTS = 4
"""By how many equally likely starts a queue is represented."""

PLACES = 5
"""For how many places among equals the first poll is computed; between them it is interpolated."""

_LONGEST = 1e9
_RESCALE = 1e6


def is_duration(value: object) -> bool:
    """Whether *value* is a number of seconds that could be one: finite, not negative, below 30 years."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LONGEST


class Durations:
    """A decaying histogram of durations, of a fixed size: what lies far off moves it by its weight only."""

    __slots__ = ("_drift", "_recent", "_total", "_turn", "_unit", "_weights")

    def __init__(self) -> None:
        self._recent: array[float] = array("f")
        self._turn: int = 0
        self._drift: float = 0.0
        self._clear()

    def _clear(self) -> None:
        self._weights: array[float] = array("f", bytes(4 * BINS))
        self._total: float = 0.0
        # Instead of making all that is known lighter, the next sample is made heavier.
        self._unit: float = 1.0

    @property
    def count(self) -> float:
        """How many samples the histogram is worth, at most ``MEMORY``."""
        return self._total / self._unit

    def add(self, seconds: float) -> None:
        """Learn from one more sample; what cannot be a duration is ignored."""
        if not is_duration(seconds):
            return
        self._recent[self._turn : self._turn + 1] = array("f", (seconds,))  # appends, until it is full
        self._turn = (self._turn + 1) % RECENT
        if self.count >= RECENT and self._has_changed(seconds):
            self._start_again()
        else:
            self._put(seconds)

    def _has_changed(self, seconds: float) -> bool:
        """Whether the latest samples lie to one side of those before."""
        index = _bin(seconds)
        below = sum(self._weights[:index]) + 0.5 * self._weights[index]
        self._drift += DRIFT_SHARE * (below / self._total - 0.5 - self._drift)
        return abs(self._drift) > DRIFT_LIMIT

    def _start_again(self) -> None:
        """Forget all but the latest samples, and of these those from before the change."""
        edge = self.quantile(0.9 if self._drift > 0 else 0.1)
        beyond = [sample for sample in self._recent if (sample - edge) * self._drift > 0]
        self._drift = 0.0
        self._clear()
        for sample in beyond if len(beyond) >= RECENT / 2 else self._recent:
            self._put(sample)

    def _put(self, seconds: float) -> None:
        if self._unit > _RESCALE:
            self._weights = array("f", (weight / self._unit for weight in self._weights))
            self._total = sum(self._weights)
            self._unit = 1.0
        if seconds < STAMPS_MATTER and seconds == int(seconds):
            share = self._unit / len(STAMPS)
            for error in STAMPS:
                self._weights[_bin(seconds + error)] += share
        else:
            self._weights[_bin(seconds)] += self._unit
        self._total += self._unit
        self._unit *= MEMORY / (MEMORY - 1.0)

    def export(self) -> list[float]:
        """Return the number of the first bin in use, and the weights from there on, in samples.

        The histogram is worth as much to others as it is here, less what weighs below a hundredth.
        """
        samples = [round(weight / self._unit, 2) for weight in self._weights]
        used = [index for index, weight in enumerate(samples) if weight]
        return [used[0], *samples[used[0] : used[-1] + 1]] if used else []

    def merge(self, data: object) -> None:
        """Add what ``export`` returned elsewhere; what is not of that form is ignored."""
        if not isinstance(data, list) or len(data) < 2 or not all(map(is_duration, data)):
            return
        first, weights, total = int(data[0]), data[1:], float(sum(data[1:]))
        if first != data[0] or first + len(weights) > BINS or not total:
            return
        scale = self._unit * min(1.0, MEMORY / total)
        for index, weight in enumerate(weights, first):
            self._weights[index] += weight * scale
        self._total = sum(self._weights)
        self._unit = max(self._unit, self._total / MEMORY)

    def quantile(self, share: float, beyond: float = 0.0) -> float:
        """Return the duration below which *share* of the samples longer than *beyond* lie, in seconds.

        Where there are none, it is *beyond*.
        """
        first = _bin(beyond)
        left = share * sum(self._weights[first:])
        for index in range(first, BINS - 1):
            weight = self._weights[index]
            if left < weight:
                return max(beyond, EDGES[index] + left / weight * (EDGES[index + 1] - EDGES[index]))
            left -= weight
        return max(beyond, EDGES[-1]) if self._weights[-1] else beyond

    def survival(self) -> array[float]:
        """Return the share of tasks that last longer than each of ``EDGES``: smooth, falling, never 0."""
        prior = PRIOR / (self.count + PRIOR)
        median = max(self.quantile(0.5), SMALLEST)
        longer = list(accumulate(reversed(_smooth(self._weights, self._bandwidth()))))[::-1]
        scale = (1.0 - prior) / longer[0] if self.count else 0.0
        tails = (1.0 - 0.5 * edge / median if edge < median else 0.5 * median / edge for edge in EDGES)
        return array("f", (scale * known + prior * tail for known, tail in zip(longer, tails, strict=True)))

    def _bandwidth(self) -> float:
        """Return the kernel's deviation in bins: Silverman's rule, in the logarithm of time.

        From the quartiles, which a few odd samples do not move.
        """
        low, high = (math.log(max(self.quantile(share), SMALLEST)) for share in (0.25, 0.75))
        deviation = (high - low) / 1.349 / math.log(RATIO)
        return max(0.9 * deviation / math.pow(max(self.count, 1.0), 0.2), 0.4)


def _bin(seconds: float) -> int:
    """Return the number of the bin that holds *seconds*; what is below 0 is in the first."""
    return max(bisect_right(EDGES, seconds) - 1, 0)


def _smooth(weights: Sequence[float], deviation: float) -> list[float]:
    """Blur a histogram with a Gaussian kernel; what would leave it stays in its ends."""
    reach = math.ceil(3 * deviation)
    kernel = [math.exp(-0.5 * (offset / deviation) ** 2) for offset in range(-reach, reach + 1)]
    blurred = [0.0] * (BINS + 2 * reach)
    for index, weight in enumerate(weights):
        if weight:
            for offset, share in enumerate(kernel, index):
                blurred[offset] += weight * share
    blurred[reach] += sum(blurred[:reach])
    blurred[BINS + reach - 1] += sum(blurred[BINS + reach :])
    return blurred[reach : BINS + reach]


def _density(before: float, after: float, seconds: float, longest: float) -> float:
    """Return the polls a second, where of the share *before* of all tasks *after* is left *seconds* later."""
    hazard = math.log(max(before / after, 1.0)) / seconds
    density = min(math.sqrt(hazard / (2.0 * POLL_COST)), 1.0 / SHORTEST)
    return max(density, 1.0 / longest) if after < 1.0 - UNLIKELY else density


class Polls:
    """How many polls are due by each age of a task of which it is known when it began.

    Args:
        survival: Of the durations; see ``Durations.survival``.
        longest: The longest interval where an end is likely, in seconds.
    """

    __slots__ = ("_due",)

    def __init__(self, survival: Sequence[float], longest: float) -> None:
        self._due: array[float] = array("f", [0.0])
        done = 0.0
        for index in range(BINS - 1):
            seconds = EDGES[index + 1] - EDGES[index]
            done += seconds * _density(survival[index], survival[index + 1], seconds, longest)
            self._due.append(done)

    def interval(self, age: float, place: float, stretch: float = 1.0) -> float:
        """Return the seconds from a poll to the next: infinite where no further one pays.

        Args:
            age: The task's age at the poll, in seconds.
            place: From 0 to 1: the task's own, which spreads the first polls of equal tasks over an interval.
            stretch: By how much the durations are longer than those known here. Polls grow with its root.
        """
        root = math.sqrt(stretch)
        done = _read(self._due, age / stretch) * root
        # A poll was due half-way into the first interval at the earliest, and one and a half at the latest.
        wanted = (done + 1.0 + (place - 0.5) * max(1.0 - done, 0.0)) / root
        index = bisect_right(self._due, wanted) - 1
        if index >= BINS - 1:
            return math.inf
        share = (wanted - self._due[index]) / (self._due[index + 1] - self._due[index])
        due = stretch * (EDGES[index] + share * (EDGES[index + 1] - EDGES[index]))
        return max(due - age, SHORTEST)


def _read(table: Sequence[float], seconds: float) -> float:
    """Read a table over ``EDGES``, between its entries too."""
    index = bisect_right(EDGES, seconds) - 1
    if index >= BINS - 1:
        return table[BINS - 1]
    share = (seconds - EDGES[index]) / (EDGES[index + 1] - EDGES[index])
    return table[index] + share * (table[index + 1] - table[index])


class PollPlan:
    """When to poll tasks of one model, by what was known of it when this was made.

    Args:
        queued: Durations from the creation to the start.
        ran: Durations from the start to the end; at least one is known.
        longest: The longest interval where an end is likely, in seconds.

    Attributes:
        polls: For tasks that were seen running.
    """

    __slots__ = ("_first", "_queued", "polls")

    def __init__(self, queued: Durations, ran: Durations, longest: float) -> None:
        survival = ran.survival()
        self._queued: Durations = queued
        # Equally likely times from the creation to the start.
        starts = [queued.quantile((index + 0.5) / STARTS) for index in range(STARTS)]
        self._first: tuple[float, ...] = _first_polls(survival, starts, longest)
        self.polls: Polls = Polls(survival, longest)

    def first(self, place: float) -> float:
        """Return the seconds from the creation to the first poll; see ``Polls.interval``."""
        slot = place * (PLACES - 1)
        index = min(int(slot), PLACES - 2)
        first = self._first[index] + (slot - index) * (self._first[index + 1] - self._first[index])
        return max(first, SHORTEST)

    def unseen(self, age: float, queued: float, place: float) -> float:
        """Return the seconds from a poll to the next, for a task that was not seen running.

        It is taken to start at a moment that two thirds of the queues outlast: a poll in the queue would only
        buy the time of the start.

        Args:
            age: The task's age at the poll, in seconds.
            queued: How long it is known to have been queued.
            place: See ``Polls.interval``.
        """
        start = self._queued.quantile(0.33, queued)
        ran = max(age - start, 0.0)
        return start + ran - age + self.polls.interval(ran, place)


def _first_polls(survival: Sequence[float], starts: Sequence[float], longest: float) -> tuple[float, ...]:
    """Return the seconds until 0.5, 0.75, 1, 1.25 and 1.5 polls are due of a task that was just created.

    Its end's hazard is that of the sum of queue and run.
    """
    found: list[float] = []
    now, done, before = 0.0, 0.0, 1.0
    while len(found) < PLACES:
        seconds = max(now / 16.0, SMALLEST)
        ages = [max(now + seconds - start, 0.0) for start in starts]
        after = sum(_read(survival, age) for age in ages) / len(ages)
        density = _density(before, after, seconds, longest)
        while len(found) < PLACES:
            missing = 0.5 + len(found) / (PLACES - 1) - done
            if missing > density * seconds:
                break
            found.append(now + missing / density)
        now, done, before = now + seconds, done + density * seconds, after
    return tuple(found)


EXPECTED = 60.0
_NORMAL = (-1.645, -1.036, -0.674, -0.385, -0.126, 0.126, 0.385, 0.674, 1.036, 1.645)


def expected_polls() -> Polls:
    """Return the polls of a task that is expected to take ``EXPECTED`` seconds; others are a stretch of it.

    As if ten tasks had ended, log-normal around it with a deviation of 0.3.
    """
    durations = Durations()
    for deviations in _NORMAL:
        durations.add(EXPECTED * math.exp(0.3 * deviations))
    return Polls(durations.survival(), math.inf)
