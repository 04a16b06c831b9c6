"""What a batch would do, without doing it. Pure: jobs in, sums out."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal

import attrs

__all__ = ["BatchPlan", "InvalidJob", "Planner"]

MAX_INVALID = 1000
"""How many invalid jobs are listed; all are counted."""

_EXACT = Context(prec=60, rounding=ROUND_CEILING)


@attrs.frozen
class InvalidJob:
    """A job that cannot be sent.

    Attributes:
        where: Its place in the input, such as ``line 7``.
        reason: The value, the rule, and the way out.
    """

    where: str
    reason: str


@attrs.frozen(kw_only=True)
class BatchPlan:
    """What a batch would do.

    Attributes:
        jobs: How many jobs would be sent.
        invalid: Jobs that cannot be sent, in order; at most 1 000 of them.
        invalid_jobs: How many there are in all.
        duplicates: How many need nothing: equal to an earlier one, or done before.
        failed_before: How many of the given jobs failed or were cancelled in an earlier run, and are not run
            again.
        estimated_cost: USD of the jobs whose price is known (None: of none it is).
        unpriced: How many jobs have no known price.
        estimated_seconds: How long it would take (None: nothing is known about durations).
    """

    jobs: int
    invalid: tuple[InvalidJob, ...]
    invalid_jobs: int
    duplicates: int
    failed_before: int = 0
    estimated_cost: Decimal | None
    unpriced: int
    estimated_seconds: float | None


@attrs.define
class Planner:
    """Adds up jobs, one by one, in a fixed amount of memory."""

    _jobs: int = attrs.field(default=0, init=False)
    _invalid: list[InvalidJob] = attrs.field(factory=list, init=False)
    _invalid_jobs: int = attrs.field(default=0, init=False)
    _duplicates: int = attrs.field(default=0, init=False)
    _failed_before: int = attrs.field(default=0, init=False)
    _cost: Decimal = attrs.field(default=Decimal(0), init=False)
    _priced: int = attrs.field(default=0, init=False)
    _seconds: float = attrs.field(default=0.0, init=False)
    _timed: int = attrs.field(default=0, init=False)
    _longest: float = attrs.field(default=0.0, init=False)

    def job(self, cost: Decimal | None = None, seconds: float | None = None) -> None:
        """Count a job that would be sent.

        Args:
            cost: USD that it costs on average (None: not known).
            seconds: The median duration of its kind (None: not known).
        """
        self._jobs += 1
        if cost is not None:
            self._cost = _EXACT.add(self._cost, cost)
            self._priced += 1
        if seconds is not None:
            self._seconds += seconds
            self._timed += 1
            self._longest = max(self._longest, seconds)

    def invalid(self, where: str, reason: str) -> None:
        """Count a job that cannot be sent."""
        self._invalid_jobs += 1
        if len(self._invalid) < MAX_INVALID:
            self._invalid.append(InvalidJob(where, reason))

    def duplicate(self) -> None:
        """Count a job that needs nothing."""
        self._duplicates += 1

    def failed_before(self) -> None:
        """Count a job that failed in an earlier run, and is not run again."""
        self._failed_before += 1

    def plan(self, slots: float | None = None) -> BatchPlan:
        """Return the sums.

        Args:
            slots: How many jobs run at a time (None: all at once). Jobs whose duration is not known are taken
                to last as long as the others on average; the whole is as long as its longest job at least.
        """
        seconds = None
        if self._timed:
            total = self._seconds / self._timed * self._jobs
            seconds = max(total / max(slots or self._jobs, 1.0), self._longest)
        return BatchPlan(
            jobs=self._jobs,
            invalid=tuple(self._invalid),
            invalid_jobs=self._invalid_jobs,
            duplicates=self._duplicates,
            failed_before=self._failed_before,
            estimated_cost=self._cost if self._priced or not self._jobs else None,
            unpriced=self._jobs - self._priced,
            estimated_seconds=seconds if self._jobs else 0.0,
        )
