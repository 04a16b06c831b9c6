"""How well what is learned of an account's limit fits it: a simulation on a virtual clock.

An account with a limit, a falling balance, top-ups and other programs; a client that always has work, and
learns of its tasks' ends late. Two figures a case, once it is steady: which share of the Runs was refused
with code 96, and which share of the slots that others left was ours. Beside it the naive loop: as many
workers as the user guessed, each asking again five seconds after a refusal.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import attrs

from wiro_async._jobs.limiter import LearnedLimit, limit_of

REFUSED_TARGET = 0.02
BUSY_TARGET = 0.95

QUEUE_SECONDS = 6.0
RUN_SECONDS = 60.0
SIGMA = 0.25
EXCHANGE_SECONDS = 0.3
NAIVE_WORKERS = 32
NAIVE_PAUSE = 5.0
MOST_FOREIGN = 0.6

Others: TypeAlias = Literal["none", "batches", "single"]


class Controller(Protocol):
    """What decides when a Run is sent."""

    def may_submit(self, active: int, now: float, /) -> bool:
        """Whether one more Run may be sent."""
        ...

    def next_try(self, now: float, /) -> float | None:
        """Return when to ask again if nothing happens."""
        ...

    def submitted(self) -> None:
        """Take note of a Run that leaves."""
        ...

    def accepted(self) -> None:
        """Take note that a Run was accepted."""
        ...

    def refused(self, now: float, active: int, limit: int | None, balance: Decimal | None, /) -> None:
        """Take note that a Run was refused with code 96."""
        ...

    def ended(self, cost: Decimal | None, /) -> None:
        """Take note that a task is over."""
        ...


@attrs.define
class Naive:
    """So many workers, each of which submits, waits, and asks again five seconds after a refusal."""

    workers: int
    _resting: list[float] = attrs.field(factory=list, init=False)

    def may_submit(self, active: int, now: float) -> bool:
        """Whether a worker is free."""
        while self._resting and self._resting[0] <= now:
            heapq.heappop(self._resting)
        return active + len(self._resting) < self.workers

    def next_try(self, _now: float) -> float | None:
        """Return when the first worker has rested."""
        return self._resting[0] if self._resting else None

    def submitted(self) -> None:
        """Nothing to note."""

    def accepted(self) -> None:
        """Nothing to note."""

    def refused(self, now: float, _active: int, _limit: int | None, _balance: Decimal | None) -> None:
        """Let a worker rest."""
        heapq.heappush(self._resting, now + NAIVE_PAUSE)

    def ended(self, _cost: Decimal | None) -> None:
        """Nothing to note."""


@attrs.frozen(kw_only=True)
class Case:
    """An account and what happens on it.

    Attributes:
        name: What the table calls it.
        limit: A limit of its own (None: the balance's).
        balance: USD at the start.
        cost: USD a run of anybody.
        top_up: USD of each payment.
        top_ups: Seconds between two payments (None: there are none).
        others: The other programs. "batches" come and go: a level drawn evenly from 0 to 60 % of the limit,
            each slot taken the moment that it is free. "single" tasks come at random, and would hold 30 %.
        dwell: How many tasks the whole account runs between two changes of the level, on average.
        concurrency: The batch's own limit (None: "auto").
        lateness: Mean seconds from a task's end until the client knows of it, beside the exchange.
        silent: Whether refusals name neither limit nor balance.
        runs: How many Runs to simulate; the first tenth is not counted.
    """

    name: str
    limit: int | None = None
    balance: float = 1e9
    cost: str = "0.05"
    top_up: float = 0.0
    top_ups: float | None = None
    others: Others = "none"
    dwell: float = 1000.0
    concurrency: int | None = None
    lateness: float = 0.5
    silent: bool = False
    runs: int = 4000


@attrs.frozen(kw_only=True)
class Result:
    """What a controller made of a case: the share of Runs refused, and of the slots left by others in use."""

    refused: float
    busy: float


@attrs.define
class _Counts:
    runs: int = 0
    refusals: int = 0
    busy: float = 0.0
    allowed: float = 0.0

    def since(self, start: _Counts) -> Result:
        return Result(
            refused=(self.refusals - start.refusals) / (self.runs - start.runs),
            busy=(self.busy - start.busy) / (self.allowed - start.allowed),
        )


class Simulation:
    """One controller on one account."""

    def __init__(self, case: Case, controller: Controller, seed: int) -> None:
        self._case = case
        self._controller = controller
        self._chance = random.Random(seed)
        self._now = 0.0
        self._balance = Decimal(str(case.balance))
        self._ours = self._theirs = self._level = self._active = 0
        self._counts = _Counts()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers: Iterator[int] = itertools.count()
        self._wake = math.inf

    def run(self) -> Result:
        """Simulate until enough Runs have their answers."""
        self._begin()
        start: _Counts | None = None
        while self._counts.runs < self._case.runs:
            if start is None and self._counts.runs >= self._case.runs // 10:
                start = attrs.evolve(self._counts)
            self._step()
        return self._counts.since(start or _Counts())

    def _begin(self) -> None:
        if self._case.top_ups is not None:
            self._after(self._case.top_ups, self._top_up)
        if self._case.others == "batches":
            self._after(0.0, self._change_level)
        elif self._case.others == "single":
            self._after(0.0, self._visitor)
        self._submit()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), action))

    def _step(self) -> None:
        at, _, action = heapq.heappop(self._events)
        room = self._allowed()
        self._counts.busy += min(self._ours, room) * (at - self._now)
        self._counts.allowed += room * (at - self._now)
        self._now = at
        action()
        while self._theirs < self._level and not self._is_full():
            self._start_theirs()
        self._submit()

    # -- the service -------------------------------------------------------------------------------------

    def _limit(self) -> int | None:
        return limit_of(self._balance) if self._case.limit is None else self._case.limit

    def _allowed(self) -> int:
        limit, own = self._limit(), self._case.concurrency or 10**9
        return own if limit is None else max(min(limit - self._theirs, own), 0)

    def _is_full(self) -> bool:
        limit = self._limit()
        return limit is not None and self._ours + self._theirs >= limit

    def _duration(self) -> float:
        run = self._chance.lognormvariate(math.log(RUN_SECONDS), SIGMA)
        return self._chance.expovariate(1 / QUEUE_SECONDS) + run

    def _top_up(self) -> None:
        self._balance += Decimal(str(self._case.top_up))
        self._after(self._case.top_ups or 0.0, self._top_up)

    # -- the others --------------------------------------------------------------------------------------

    def _slots_per_second(self) -> float:
        """Return how many tasks the account ends in a second when it is full."""
        return (self._limit() or 0) / (QUEUE_SECONDS + RUN_SECONDS * math.exp(SIGMA**2 / 2))

    def _change_level(self) -> None:
        self._level = self._chance.randint(0, int(MOST_FOREIGN * (self._limit() or 0)))
        self._after(self._chance.expovariate(self._slots_per_second() / self._case.dwell), self._change_level)

    def _visitor(self) -> None:
        if not self._is_full():
            self._start_theirs()
        self._after(self._chance.expovariate(0.3 * self._slots_per_second()), self._visitor)

    def _start_theirs(self) -> None:
        self._theirs += 1
        self._after(self._duration(), self._end_theirs)

    def _end_theirs(self) -> None:
        self._theirs -= 1
        self._balance -= Decimal(self._case.cost)

    # -- the client --------------------------------------------------------------------------------------

    def _submit(self) -> None:
        most = self._case.concurrency or math.inf
        while self._active < most and self._controller.may_submit(self._active, self._now):
            self._controller.submitted()
            self._active += 1
            self._after(EXCHANGE_SECONDS * self._chance.uniform(0.3, 0.7), self._arrive)
        wake = self._controller.next_try(self._now)
        if wake is not None and (self._wake <= self._now or wake < self._wake):
            self._wake = wake
            self._after(wake - self._now, lambda: None)

    def _arrive(self) -> None:
        back = EXCHANGE_SECONDS * self._chance.uniform(0.3, 0.7)
        if self._is_full():
            self._after(back, self._refusal())
        else:
            self._ours += 1
            self._after(back, self._accept)
            self._after(max(self._duration(), back), self._end)

    def _refusal(self) -> Callable[[], None]:
        limit = None if self._case.silent else self._limit()
        balance = None if self._case.silent or self._case.limit is not None else self._balance

        def refuse() -> None:
            self._active -= 1
            self._counts.runs += 1
            self._counts.refusals += 1
            self._controller.refused(self._now, self._active, limit, balance)

        return refuse

    def _accept(self) -> None:
        self._counts.runs += 1
        self._controller.accepted()

    def _end(self) -> None:
        self._ours -= 1
        self._balance -= Decimal(self._case.cost)
        late = EXCHANGE_SECONDS + self._chance.uniform(0, 2 * self._case.lateness)
        self._after(late, self._learn)

    def _learn(self) -> None:
        self._active -= 1
        self._controller.ended(Decimal(self._case.cost))


CASES = (
    Case(name="limit 1", limit=1),
    Case(name="limit 5", limit=5),
    Case(name="limit 25", limit=25),
    Case(name="limit 25, ends known 2 s late", limit=25, lateness=2.0),
    Case(name="limit 25, not told", limit=25, silent=True),
    Case(name="concurrency 10, limit 25", limit=25, concurrency=10),
    Case(name="unlimited, the client's own 200", concurrency=200),
    Case(name="balance falls from $250 to $30", balance=250.0, runs=4400),
    Case(name="the same at $0.28 a run", balance=250.0, cost="0.28", runs=780),
    Case(name="balance $50, and $40 every 2 hours", balance=50.0, top_up=40.0, top_ups=7200.0),
    Case(name="batches of others, limit 25", limit=25, others="batches", runs=16000),
    Case(name="batches of others, limit 5", limit=5, others="batches", runs=16000),
    Case(name="batches of others, $250 falls to $70", balance=250.0, others="batches", runs=2500),
    Case(name="batches of others, twice as often", limit=25, others="batches", dwell=500.0, runs=16000),
    Case(name="batches of others, four times as often", limit=25, others="batches", dwell=250.0, runs=16000),
    Case(name="single tasks of others, limit 25", limit=25, others="single", runs=8000),
    Case(name="single tasks of others, limit 5", limit=5, others="single", runs=8000),
)


def simulate(case: Case, seed: int, *, naive: bool = False) -> Result:
    """Run one case with what the client learns, or with the naive loop."""
    controller: Controller = Naive(case.concurrency or NAIVE_WORKERS) if naive else LearnedLimit()
    return Simulation(case, controller, seed).run()


@attrs.frozen
class Row:
    """A row of the table: medians over the seeds."""

    case: str
    learned: Result
    naive: Result

    @property
    def reached(self) -> bool:
        """Whether both targets are kept."""
        return self.learned.refused <= REFUSED_TARGET and self.learned.busy >= BUSY_TARGET

    def __str__(self) -> str:
        shares = (self.learned.refused, self.learned.busy, self.naive.refused, self.naive.busy)
        verdict = "reached" if self.reached else "not reached"
        return f"| {self.case} | {' | '.join(f'{share:.1%}' for share in shares)} | {verdict} |"


def measure(case: Case, seeds: int) -> Row:
    """Simulate a case with several seeds."""
    results = [[simulate(case, seed, naive=naive) for seed in range(seeds)] for naive in (False, True)]
    learned, naive = (
        Result(
            refused=statistics.median(result.refused for result in each),
            busy=statistics.median(result.busy for result in each),
        )
        for each in results
    )
    return Row(case.name, learned, naive)


def main() -> None:
    """Simulate every case, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("| account | refused | busy | naive: refused | busy | at most 2 %, at least 95 % |")
    print("|---|---|---|---|---|---|")
    rows = []
    for case in CASES:
        rows.append(measure(case, options.seeds))
        print(rows[-1], flush=True)
    if options.json is not None:
        data = [{**attrs.asdict(row), "reached": row.reached} for row in rows]
        options.json.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
