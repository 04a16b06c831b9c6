"""A batch's progress: counts, money, pace. Pure, at a fixed cost per event."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import get_args

import attrs

from wiro_async._types import Record, Stage

__all__ = ["BatchProgress", "ProgressCounter"]

_FINISHED: frozenset[Stage] = frozenset({"succeeded", "failed", "cancelled", "unknown"})
_AT_THEIR_END: tuple[Stage, ...] = ("skipped", "failed_before", "not_started", *_FINISHED)

SHORTEST_MEMORY = 60.0
"""Minimum seconds that the rate looks back."""

MEMORY = 0.5
"""How far the rate looks back, as a share of the batch's elapsed time: slow batches need more."""


@attrs.frozen(kw_only=True)
class BatchProgress(Record):
    """A batch's progress at one moment.

    ``skipped`` to ``not_started`` add up to ``read``: every job is in one of them.

    Attributes:
        total: How many jobs there are (None: unknown until the last one is read).
        read: How many have been read.
        skipped: How many needed nothing: done in an earlier run, or duplicates.
        failed_before: How many failed or were cancelled in an earlier run, and are not run again; for a batch
            without jobs, all of the journal's.
        waiting: Read, not sent.
        submitting: Being sent.
        running: Tasks at the service.
        downloading: Task succeeded, outputs downloading.
        succeeded: Finished, with every wanted output.
        failed: Finished without.
        cancelled: Their tasks were cancelled or killed, by anyone.
        unknown: Sent, but it is unknown whether they were accepted.
        not_started: Read, and not begun because the batch had stopped; they cost nothing.
        spent: USD.
        reserved: USD reserved for runs in flight.
        rate: Recent jobs finished per second (0.0: none yet).
        eta: Seconds to the end at that rate (None: unknown).
        elapsed: Seconds since the batch began.
    """

    total: int | None
    read: int
    skipped: int
    failed_before: int = 0
    waiting: int
    submitting: int
    running: int
    downloading: int
    succeeded: int
    failed: int
    cancelled: int
    unknown: int
    not_started: int = 0
    spent: Decimal
    reserved: Decimal
    rate: float
    eta: float | None
    elapsed: float

    @property
    def begun(self) -> int:
        """How many have been begun, in this run or an earlier one, or need nothing."""
        return self.read - self.waiting - self.not_started

    @property
    def finished(self) -> int:
        """How many have ended, including those skipped; those that were not begun have not."""
        left_out = self.skipped + self.failed_before
        return left_out + self.succeeded + self.failed + self.cancelled + self.unknown


class ProgressCounter:
    """Counts a batch's jobs as they move.

    Args:
        now: When the batch began, in seconds on any monotonic clock.
        total: How many jobs there are (None: unknown).
    """

    def __init__(self, now: float, total: int | None = None) -> None:
        self.total: int | None = total
        self._counts: dict[Stage, int] = dict.fromkeys(get_args(Stage), 0)
        self._read: int = 0
        self._began: float = now
        self._at: float = now
        self._recent: float = 0.0  # jobs finished, the older ones for less
        self._span: float = 0.0  # seconds, likewise

    def moved(self, old: Stage | None, new: Stage, now: float) -> None:
        """Count a job's step.

        Args:
            old: Where it was (None: it was just read).
            new: Where it is.
            now: The time, in seconds.

        Raises:
            ValueError: No job is at *old*.
        """
        if old is None:
            self._read += 1
        elif self._counts[old] > 0:
            self._counts[old] -= 1
        else:
            raise ValueError(f"no job is {old}, so none can become {new}; count every step once")
        self._counts[new] += 1
        self._pass(now)
        self._recent += new in _FINISHED and old not in _FINISHED

    def count(self, stage: Stage) -> int:
        """Return how many jobs are at *stage*."""
        return self._counts[stage]

    def progress(self, now: float, spent: Decimal, reserved: Decimal) -> BatchProgress:
        """Return the batch's progress; the budget supplies the money."""
        self._pass(now)
        rate = self._recent / self._span if self._span > 0 else 0.0
        total = None if self.total is None else max(self.total, self._read)
        return BatchProgress(
            total=total,
            read=self._read,
            **self._counts,
            spent=spent,
            reserved=reserved,
            rate=rate,
            eta=self._eta(total, rate),
            elapsed=max(self._at - self._began, 0.0),
        )

    def _eta(self, total: int | None, rate: float) -> float | None:
        if total is None:
            return None
        left = total - sum(self._counts[stage] for stage in _AT_THEIR_END)
        if left == 0:
            return 0.0
        return left / rate if rate > 0 else None

    def _pass(self, now: float) -> None:
        """Decay older events: to 1/e in half of the batch's time, at least a minute."""
        seconds = now - self._at
        if seconds <= 0:
            return
        self._at = now
        memory = max(MEMORY * (now - self._began), SHORTEST_MEMORY)
        kept = math.exp(-seconds / memory)
        self._recent *= kept
        self._span = self._span * kept + memory * (1.0 - kept)
