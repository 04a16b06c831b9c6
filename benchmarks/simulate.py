"""What polling costs and what it brings: the client's schedule against fixed ones, on a virtual clock.

Tasks queue exponentially around 6 s and run log-normally around a median of 60 s. The service's stamps are
whole seconds, cut off; lateness is measured against the true end. The service's own schedule, which its
documents show, polls every 2 s for 15 s, every 5 s until 60 s, then every 10 s. A fixed interval's
polls × lateness is the best of eight. The client has a budget only where the table says so.

Run: ``python -m benchmarks.simulate [--jobs N] [--seed S] [--json FILE]``; exits with 1 if a target is not
reached. Times of single calls, at the end, are this machine's.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from benchmarks.lines import Line, show
from wiro_async import Polling
from wiro_async._watch.schedule import Schedule, TaskTiming

QUEUE = 6.0
RUN = 60.0
WARM_UP = 500
COLD = 20
SIGMAS = (0.1, 0.25, 0.5)
PRODUCT = {0.1: 9.0, 0.25: 4.0, 0.5: 2.3}
SHARE = {0.1: 0.27, 0.25: 0.55, 0.5: 0.85}
INTERVALS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0)
UNLIMITED = Polling(requests_per_second=1e9)
MODEL = "owner/model"


@attrs.frozen
class Job:
    """One task: when it is submitted, and how long it queues and runs, in seconds."""

    number: int
    created: float
    queued: float
    ran: float

    @property
    def end(self) -> float:
        """When it ends."""
        return self.created + self.queued + self.ran


@attrs.define
class Figures:
    """Polls and lateness, counted in bins of 1 %, so that a million jobs need no more memory than one."""

    jobs: int = 0
    polls: int = 0
    late: float = 0.0
    bins: Counter[int] = attrs.field(factory=Counter)

    def add(self, polls: int, late: float) -> None:
        """Count one finished job."""
        self.jobs += 1
        self.polls += polls
        self.late += late
        self.bins[math.ceil(math.log(max(late, 1e-3)) / 0.01)] += 1

    @property
    def mean_polls(self) -> float:
        """Polls a job."""
        return self.polls / self.jobs

    @property
    def mean_late(self) -> float:
        """Mean lateness, in seconds."""
        return self.late / self.jobs

    @property
    def p99(self) -> float:
        """What 99 of 100 stay below, in seconds."""
        left = 0.99 * self.jobs
        for index in sorted(self.bins):
            left -= self.bins[index]
            if left <= 0:
                return math.exp(0.01 * index)
        raise AssertionError("no jobs")

    @property
    def product(self) -> float:
        """Polls × lateness."""
        return self.mean_polls * self.mean_late


def draw(count: int, seed: str, sigma: float, gap: float = 1.0, run: float = RUN) -> Iterator[Job]:
    """Yield jobs in the order of their submits, *gap* seconds apart in the mean (0: all at once)."""
    chance = random.Random(seed)
    now = 1000.3
    for number in range(count):
        now += chance.expovariate(1.0 / gap) if gap else 0.0
        queued = chance.expovariate(1.0 / QUEUE)
        yield Job(number, now, queued, chance.lognormvariate(math.log(run), sigma))


# -- schedules that learn nothing ------------------------------------------------------------------------


def official(job: Job) -> tuple[int, float]:
    """Return the polls and the lateness of the service's own schedule."""
    end = job.queued + job.ran
    age, polls = 0.0, 0
    while age < end:
        age += 2.0 if age < 15 else 5.0 if age < 60 else 10.0
        polls += 1
    return polls, age - end


def fixed(job: Job, interval: float) -> tuple[int, float]:
    """Return those of a fixed interval."""
    polls = math.ceil((job.queued + job.ran) / interval)
    return polls, polls * interval - job.queued - job.ran


# -- the client's ----------------------------------------------------------------------------------------


@attrs.define
class Waiting:
    """A job that is polled, and what is known of it."""

    job: Job
    place: float
    polls: int = 0
    reserved: bool = False
    started: float | None = None
    polled_at: float = 0.0

    def timing(self) -> TaskTiming:
        """Return what the schedule is told."""
        return TaskTiming(MODEL, self.job.created, self.started, self.polled_at, 0, self.place)

    def poll(self, now: float) -> None:
        """Read the reply: stamps count from the creation's, whose time on our clock we know."""
        self.polls += 1
        self.polled_at = now
        start = self.job.created + self.job.queued
        if now >= start:
            self.started = self.job.created + math.floor(start) - math.floor(self.job.created)


@attrs.frozen
class Ended:
    """A job whose end was seen."""

    job: Job
    polls: int
    late: float


def play(
    jobs: Iterable[Job], schedule: Schedule, polled: Callable[[float], None] = lambda _: None
) -> Iterator[Ended]:
    """Poll all jobs in the way of ``_watch.poll``, and yield each when its end is seen."""
    chance = random.Random("places")
    arrivals = iter(jobs)
    upcoming = next(arrivals, None)
    turns: list[tuple[float, int, Waiting]] = []
    while upcoming is not None or turns:
        if upcoming is not None and (not turns or upcoming.created <= turns[0][0]):
            now, waiting = upcoming.created, Waiting(upcoming, chance.random(), polled_at=upcoming.created)
            upcoming = next(arrivals, None)
        else:
            now, _, waiting = heapq.heappop(turns)
            waiting.reserved = not waiting.reserved
            if waiting.reserved:
                heapq.heappush(turns, (schedule.reserve(now), waiting.job.number, waiting))
                continue
            waiting.poll(now)
            polled(now)
            if now >= waiting.job.end:
                learn(schedule, waiting.job, waiting.timing())
                yield Ended(waiting.job, waiting.polls, now - waiting.job.end)
                continue
        heapq.heappush(turns, (schedule.next_poll(waiting.timing(), now), waiting.job.number, waiting))


def learn(schedule: Schedule, job: Job, timing: TaskTiming | None = None) -> None:
    """Tell what the reply to the last poll tells."""
    start, end = math.floor(job.created + job.queued), math.floor(job.end)
    queued, ran = float(start - math.floor(job.created)), float(end - start)
    schedule.learn(MODEL, queued=queued, ran=ran, timing=timing)


# -- the parts -------------------------------------------------------------------------------------------


def steady(count: int, seed: int, sigma: float) -> Iterator[Line]:
    """Yield polls × lateness of a warm schedule against the others', over the same jobs."""
    ours, theirs = Figures(), Figures()
    others = {interval: Figures() for interval in INTERVALS}
    for ended in play(draw(count + WARM_UP, f"steady {seed}", sigma), Schedule(UNLIMITED)):
        if ended.job.number >= WARM_UP:
            ours.add(ended.polls, ended.late)
            theirs.add(*official(ended.job))
            for interval, figures in others.items():
                figures.add(*fixed(ended.job, interval))
    best = min(figures.product for figures in others.values())
    note = f"{_told(ours)}; official {_told(theirs)}; fixed {best:.1f}"
    yield Line(
        f"σ {sigma}: polls × lateness / official's", ours.product / theirs.product, 1 / PRODUCT[sigma], note
    )
    yield Line(f"σ {sigma}: polls × lateness / best fixed's", ours.product / best, SHARE[sigma])
    yield Line(f"σ {sigma}: p99 lateness / official's", ours.p99 / theirs.p99, 1.0)


def _told(figures: Figures) -> str:
    return (
        f"{figures.mean_polls:.2f} polls × {figures.mean_late:.2f} s = {figures.product:.1f}, "
        f"p99 {figures.p99:.1f} s"
    )


def cold(repeats: int, seed: int, sigma: float, gap: float) -> Iterator[Line]:
    """Yield the figures of a schedule's first jobs, submitted together or one after the other."""
    ours, theirs = Figures(), Figures()
    for repeat in range(repeats):
        for ended in play(draw(COLD, f"cold {seed} {repeat}", sigma, gap), Schedule(UNLIMITED)):
            ours.add(ended.polls, ended.late)
            theirs.add(*official(ended.job))
    how = "one by one" if gap else "together"
    note = f"{_told(ours)}; official {_told(theirs)}"
    yield Line(
        f"σ {sigma}: first {COLD} jobs {how}, polls / official's",
        ours.mean_polls / theirs.mean_polls,
        1.2,
        note,
    )
    yield Line(
        f"σ {sigma}: first {COLD} jobs {how}, lateness / official's", ours.mean_late / theirs.mean_late, 1.2
    )


def shift(repeats: int, seed: int, sigma: float, factor: float) -> Iterator[Line]:
    """Yield polls × lateness from 50 jobs after a change on, against a schedule that knew nothing else."""
    after, alike = Figures(), Figures()
    for repeat in range(repeats):
        for figures, before in ((after, RUN), (alike, RUN * factor)):
            schedule = Schedule(UNLIMITED)
            for job in draw(WARM_UP, f"before {seed} {repeat}", sigma, run=before):
                learn(schedule, job)
            for ended in play(draw(150, f"shift {seed} {repeat}", sigma, 25.0, RUN * factor), schedule):
                if ended.job.number >= 50:
                    figures.add(ended.polls, ended.late)
    note = f"{_told(after)}; unchanged {_told(alike)}"
    name = f"σ {sigma}: 50 jobs after runs × {factor}, polls × lateness / steady"
    yield Line(name, after.product / alike.product, 1.2, note)


def crowd(seed: int, sigma: float, polling: Polling, name: str, most: float) -> Line:
    """Return the most polls in a second at a thousand jobs that are submitted together."""
    schedule = Schedule(polling)
    for job in draw(WARM_UP, f"before {seed}", sigma):
        learn(schedule, job)
    moments: list[float] = []
    figures = Figures()
    for ended in play(draw(1000, f"crowd {seed}", sigma, 0.0), schedule, moments.append):
        figures.add(ended.polls, ended.late)
    first, busiest = 0, 0
    for index, moment in enumerate(moments):
        while moments[first] < moment - 1.0:
            first += 1
        busiest = max(busiest, index - first + 1)
    return Line(
        f"σ {sigma}: 1000 jobs together, {name}, most polls in a second", busiest, most, _told(figures)
    )


def cost(seed: int) -> Iterator[Line]:
    """Yield the µs of CPU that one ``next_poll`` and ``reserve`` take, and all that a poll costs here."""
    jobs = list(draw(WARM_UP + 1000, f"cost {seed}", 0.25))
    ages = [(float(age), start) for age in range(60) for start in (None, 5.0)]
    alone, together = [], []
    for _ in range(9):
        schedule = Schedule(UNLIMITED)
        begin = time.process_time()
        polls = sum(ended.polls for ended in play(jobs, schedule))
        together.append((time.process_time() - begin) / polls * 1e6)
        timings = [TaskTiming(MODEL, 0.0, start, age, 0, 0.5) for age, start in ages] * 20
        begin = time.process_time()
        for timing in timings:
            schedule.reserve(schedule.next_poll(timing, 100.0))
        alone.append((time.process_time() - begin) / len(timings) * 1e6)
    yield Line("µs of next_poll and reserve (median of 9)", statistics.median(alone), 20.0)
    yield Line("µs a poll of the whole simulation, learning included", statistics.median(together), 100.0)


def lines(count: int, seed: int) -> Iterator[Line]:
    """Yield every line of the table."""
    for sigma in SIGMAS:
        yield from steady(count, seed, sigma)
    for sigma in SIGMAS:
        yield from cold(100, seed, sigma, 0.0)
        yield from cold(100, seed, sigma, 1000.0)
    for sigma in SIGMAS:
        yield from shift(8, seed, sigma, 2.0)
        yield from shift(8, seed, sigma, 0.5)
    for sigma in SIGMAS:
        yield crowd(seed, sigma, UNLIMITED, "no budget", 500.0)
        yield crowd(seed, sigma, Polling(), "50 polls a second", 76.0)
    yield from cost(seed)
    yield Line("MiB of memory at most", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 128.0)


def main() -> int:
    """Simulate, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs a deviation, after 500 to warm up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = lines(options.jobs, options.seed)
    return 0 if show(found, options.json, jobs=options.jobs, seed=options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
