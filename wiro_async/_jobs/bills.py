"""What the Runs of one client cost: each is one bill, from its reservation to its charge. No I/O.

A single call's task may be waited for, looked at once, or never: whoever reads it, by whatever call, settles
its bill. A client without a budget has none of this.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from decimal import Decimal

import attrs

from wiro_async._errors import SubmissionUnknown
from wiro_async._jobs.budget import Bill, Budget, Prices, charge_of
from wiro_async._protocol.records import Task
from wiro_async._types import Record

__all__ = ["Bills", "Hold", "Spending"]

MOST_AWAITED = 10_000
"""How many charges are awaited at a time; beyond that the estimates of the oldest count for good."""


@attrs.frozen(kw_only=True)
class Spending(Record):
    """What a client has spent, as far as it knows.

    Attributes:
        charged: USD that the service has recorded for tasks.
        estimated: USD that count for tasks whose charges are not recorded yet, or were not seen.
        reserved: USD reserved for Runs in flight, and for those of which nobody knows what became of them.
        limit: The client's ``max_cost`` (None: no limit).
        budget: The budget's name ("" without one).
    """

    charged: Decimal
    estimated: Decimal
    reserved: Decimal
    limit: Decimal | None
    budget: str = ""


class Hold:
    """Belongs to whoever may see a task's end. Once it is gone, the reservation becomes an estimate."""

    __slots__ = ("_bill", "_bills", "_dropped", "_task_id")

    def __init__(self, bills: Bills, bill: Bill, task_id: str, dropped: deque[tuple[Bill, str]]) -> None:
        self._bills = bills
        self._bill = bill
        self._task_id = task_id
        self._dropped = dropped

    def doubt(self, error: SubmissionUnknown) -> None:
        """Note that this task is not what came of the Run: its reservation stays."""
        self._bills.doubt(self._bill, error)

    def __del__(self) -> None:
        # This may be any thread, at any moment, even within a sum: it is counted later.
        self._dropped.append((self._bill, self._task_id))


class Bills:
    """The bills of a client's Runs.

    Args:
        max_cost: USD that they may cost in all (None: they are only counted).
        name: The budget's name.
        allow_unpriced: Whether a Run may be sent of which nobody knows the price.

    Attributes:
        budget: Adds them up; the budgets of batches are within it.
        prices: What Runs cost, learned from all that were charged.
    """

    def __init__(self, max_cost: Decimal | None, name: str = "", *, allow_unpriced: bool = False) -> None:
        self.budget: Budget = Budget(max_cost, allow_unpriced=allow_unpriced)
        self.prices: Prices = Prices()
        self._name = name
        # By task, or by what a doubt is known by: Runs that hold a reservation, and those that have ended and
        # are not charged yet.
        self._open: dict[str, Bill] = {}
        self._ended: dict[str, Bill] = {}
        self._dropped: deque[tuple[Bill, str]] = deque()

    def spending(self) -> Spending:
        """Return the sums."""
        self.sweep()
        budget = self.budget
        return Spending(
            charged=budget.charged,
            estimated=budget.estimated,
            reserved=budget.reserved,
            limit=budget.max_cost,
            budget=self._name,
        )

    # -- who a reservation is for ------------------------------------------------------------------------

    def describe(self, bill: Bill, model: str, inputs: Mapping[str, object]) -> None:
        """Note what is run, so that its charge tells the price of others."""
        bill.model, bill.inputs = model, self.prices.deciding(model, inputs)

    def hold(self, bill: Bill, task_id: str) -> Hold:
        """Note that a task is what came of a Run; the hold is for whoever may see its end."""
        self._rename(bill, task_id)
        return Hold(self, bill, task_id, self._dropped)

    def doubt(self, bill: Bill, error: SubmissionUnknown) -> None:
        """Note that nobody knows what became of a Run: its reservation stays."""
        self._rename(bill, _name_of(error))

    def withdraw(self, bill: Bill) -> None:
        """Note that no task came of a Run: its reservation may be released."""
        self._rename(bill, "")

    def reconciled(self, error: SubmissionUnknown, task_id: str | None) -> Hold | None:
        """Note what came of a Run in doubt: a task, or surely none.

        Returns:
            The hold for the task (None: there is none, or this client did not send the Run).
        """
        bill = self._open.get(_name_of(error))
        if bill is None:
            return None
        if task_id is not None:
            return self.hold(bill, task_id)
        self.withdraw(bill)
        self.budget.release(bill)
        return None

    def _rename(self, bill: Bill, name: str) -> None:
        # The task that a lost answer named may have become another's meanwhile.
        if self._open.get(bill.name) is bill:
            del self._open[bill.name]
        bill.name = name
        if name:
            self._open[name] = bill

    # -- what is learned ---------------------------------------------------------------------------------

    def told(self, task: Task) -> None:
        """Learn from a snapshot of any task: that it has ended, and its charge, once."""
        bill = self._open.get(task.id) or self._ended.get(task.id)
        if bill is None or not task.is_terminal:
            return
        seen = time.time()
        if bill.ended_at is None:
            bill.ended_at = seen
        cost = charge_of(task, bill.ended_at, seen)
        self._end(bill, task.id, cost)
        if cost is not None:
            self.budget.charge(task.id, cost)
            del self._ended[task.id]
            if task.outcome == "succeeded":
                self.prices.learn(bill.model, bill.inputs, cost)

    def sweep(self) -> None:
        """Count estimates for the tasks whose ends nobody may see any more."""
        while self._dropped:
            self._end(*self._dropped.popleft(), None)

    def _end(self, bill: Bill, task_id: str, cost: Decimal | None) -> None:
        """Give a reservation up for the charge, or for the estimate until that is told."""
        if self._open.get(task_id) is not bill:
            return
        del self._open[task_id]
        self.budget.settle(bill, cost, task_id)
        self._ended[task_id] = bill
        if len(self._ended) > MOST_AWAITED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self.budget.forget(oldest)


def _name_of(error: SubmissionUnknown) -> str:
    """Return what a Run in doubt is known by; it is no task's id, and the same after a pickle."""
    return f"{error.inputs_digest}:{error.marker}:{error.submitted_at!r}"
