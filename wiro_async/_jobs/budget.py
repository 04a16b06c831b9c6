"""Money: budgets that are not overdrawn, and the known costs of runs. Pure.

Amounts are ``Decimal`` USD, counted to 1e-12, which is the service's own precision, and rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from decimal import ROUND_CEILING, Context, Decimal

import attrs

from wiro_async._journal.steps import Charged, UnchargedRun
from wiro_async._protocol.catalogue import Estimate, estimate
from wiro_async._protocol.envelope import integer, money, objects
from wiro_async._protocol.matching import digest
from wiro_async._protocol.operations import MAX_SLUG, clean_slug
from wiro_async._protocol.records import Model, Task
from wiro_async._types import JSON, JSONMapping

__all__ = ["ZERO", "Bill", "Budget", "Charges", "Estimate", "Prices", "charge_of", "plain"]

ZERO = Decimal(0)
_MOST = Decimal(10) ** 12
_QUANTUM = Decimal("1e-12")

# The caller's own decimal context may round to six digits; money must not depend on it.
_EXACT = Context(prec=60, rounding=ROUND_CEILING)


def _usd(amount: Decimal) -> Decimal:
    if not amount.is_finite() or amount <= 0:
        return ZERO
    return _EXACT.quantize(min(amount, _MOST), _QUANTUM)


def plain(amount: Decimal) -> str:
    """Format an amount for a message, without trailing zeros."""
    return f"{amount.normalize(_EXACT):f}"


# -- the budget ------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Bill:
    """One Run's place in the budgets that cover it, from its reservation to its charge: their key for it.

    Attributes:
        model: The slug.
        inputs: The inputs that can change the price.
        name: Its task's id, or what its doubt is known by ("" before it is accepted).
        ended_at: When its task's end was first seen, in unix seconds (None: not yet).
    """

    model: str = ""
    inputs: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    name: str = ""
    ended_at: float | None = None


@attrs.frozen
class _Counted:
    """What counts for a run: USD (None: unknown), and whether it holds back all others until it is known."""

    usd: Decimal | None
    holds_back: bool


class Budget:
    """Lets a run start only if the budget covers its estimate, and so do the budgets around it.

    Each run reserves an estimate before it is sent, and swaps it for its true cost when it ends. So the limit
    is exceeded by at most what the runs in flight cost beyond their estimates. A run without an estimate
    reserves all that is left: such runs go one at a time, until a cost is known.

    Until a run's charge is recorded, its estimate counts; without one, the highest charge seen so far.

    Args:
        max_cost: Total USD that may be spent (None: no limit, only count).
        spent: USD already spent by an earlier process.
        within: The budget that covers these runs, too, such as the client's (None: none). A reservation is
            made in both or in neither.
        allow_unpriced: Whether a run without an estimate reserves nothing and holds back no other.

    Attributes:
        spent: USD that count for runs that have ended.
        estimated: What of it are estimates, as the charges are not recorded yet.
        reserved: USD reserved for runs in flight.
    """

    def __init__(
        self,
        max_cost: Decimal | None,
        spent: Decimal = ZERO,
        *,
        within: Budget | None = None,
        allow_unpriced: bool = False,
    ) -> None:
        self.max_cost: Decimal | None = None if max_cost is None else _usd(max_cost)
        self.spent: Decimal = _usd(spent)
        self.estimated: Decimal = ZERO
        self.reserved: Decimal = ZERO
        self.within: Budget | None = within
        self.allow_unpriced: bool = allow_unpriced
        self._held: dict[Hashable, _Counted] = {}
        self._blind: int = 0
        self._highest: Decimal = ZERO
        # By task, what counts for its charge; without an estimate of its own, that is the highest charge.
        self._uncharged: dict[str, tuple[Decimal, _Counted]] = {}

    @property
    def chain(self) -> Iterator[Budget]:
        """This budget, and those around it."""
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget.within

    @property
    def is_limited(self) -> bool:
        """Whether this budget or one around it has a limit."""
        return any(budget.max_cost is not None for budget in self.chain)

    @property
    def gone(self) -> Decimal:
        """USD spent or reserved."""
        return _EXACT.add(self.spent, self.reserved)

    @property
    def charged(self) -> Decimal:
        """USD of those spent that the service has recorded."""
        return _EXACT.subtract(self.spent, self.estimated)

    @property
    def in_flight(self) -> int:
        """How many runs hold a reservation."""
        return len(self._held)

    @property
    def left(self) -> Decimal | None:
        """USD that can still be reserved (None: no limit); 0 while a run without an estimate is in flight."""
        if self.max_cost is None:
            return None
        return ZERO if self._blind else max(self.rest, ZERO)

    @property
    def rest(self) -> Decimal:
        """USD of the limit neither spent nor reserved; negative without a limit."""
        limit = ZERO if self.max_cost is None else self.max_cost
        return _EXACT.subtract(_EXACT.subtract(limit, self.spent), self.reserved)

    def reserve(self, key: Hashable, estimate: Decimal | None, *, allow_unpriced: bool = False) -> bool:
        """Reserve *estimate* for a run, if that much is left here and in the budgets around.

        Nothing else can happen between the check and the reservation.

        Args:
            key: The run.
            estimate: USD that it may cost (None: unknown).
            allow_unpriced: Whether it holds back no other run if that is unknown.

        Returns:
            Whether it may start.

        Raises:
            ValueError: It already holds a reservation.
        """
        if key in self._held:
            raise ValueError(f"{key!r} holds a reservation already; settle or release it first")
        if self.refusing(estimate) is not None:
            return False
        self.adopt(key, estimate, allow_unpriced=allow_unpriced)
        return True

    def refusing(self, estimate: Decimal | None) -> Budget | None:
        """Return the budget that has too little left for a run: this one or one around it (None: none)."""
        return next((budget for budget in self.chain if not budget._fits(estimate)), None)

    def may_fit(self, estimate: Decimal | None) -> bool:
        """Whether a run that found too little left should wait: those in flight may cost less."""
        return all(budget._may_fit(estimate) for budget in self.chain)

    def adopt(self, key: Hashable, estimate: Decimal | None, *, allow_unpriced: bool = False) -> None:
        """Count a run already in flight, such as an earlier process's, whatever is left."""
        self.release(key)
        for budget in self.chain:
            allowed = allow_unpriced or budget.allow_unpriced
            held = _Counted(None if estimate is None else _usd(estimate), estimate is None and not allowed)
            budget._held[key] = held
            budget._blind += held.holds_back
            budget.reserved = _EXACT.add(budget.reserved, held.usd or ZERO)

    @property
    def is_blind(self) -> bool:
        """Whether a limit covers a run that has ended and for which nothing counts.

        There is neither an estimate nor a charge of any run yet.
        """
        return any(
            budget.max_cost is not None
            and not budget._highest
            and any(counted.holds_back for _, counted in budget._uncharged.values())
            for budget in self.chain
        )

    def settle(self, key: Hashable, cost: Decimal | None, task_id: str = "") -> Decimal:
        """Count what a run has cost, and release its reservation. Each budget does so once.

        Args:
            key: The run.
            cost: USD; 0 for a failed run (None: it ended, and its charge is not recorded yet).
            task_id: Its task, to which the charge may come later.

        Returns:
            USD counted: the cost, else the estimate, else the highest charge of any run so far; 0 if it holds
            no reservation.
        """
        if self.within is not None:
            self.within.settle(key, cost, task_id)
        held = self._let_go(key)
        if held is None:
            return ZERO
        if cost is None or not cost.is_finite():
            return self._expect(task_id, held)
        return self._charge(cost)

    def expect(self, task_id: str, estimate: Decimal | None, *, before: Decimal | None = None) -> Decimal:
        """Count, in this budget alone, a run that has ended, and whose charge is not recorded yet.

        Args:
            task_id: Its task.
            estimate: USD that it may have cost (None: unknown).
            before: USD that an earlier process counted for it, which are among those spent (None: nothing).

        Returns:
            USD counted: the estimate, else the highest charge of any run so far.
        """
        self.spent = _EXACT.subtract(self.spent, before or ZERO)
        return self._expect(task_id, _Counted(None if estimate is None else _usd(estimate), estimate is None))

    def _expect(self, task_id: str, held: _Counted) -> Decimal:
        usd = self._highest if held.usd is None else held.usd
        self._uncharged[task_id] = usd, held
        self._add_estimate(usd)
        return usd

    def charge(self, task_id: str, cost: Decimal) -> None:
        """Count the charge of a task, recorded at last, in place of what counted for it, once."""
        for budget in self.chain:
            if task_id in budget._uncharged:
                usd, _ = budget._uncharged.pop(task_id)
                budget._add_estimate(_EXACT.minus(usd))
                budget._charge(cost)

    def forget(self, task_id: str) -> None:
        """Let the estimate of a task count for good: its charge is not waited for any more."""
        self._uncharged.pop(task_id, None)

    def _add_estimate(self, usd: Decimal) -> None:
        self.spent = _EXACT.add(self.spent, usd)
        self.estimated = _EXACT.add(self.estimated, usd)

    def _charge(self, cost: Decimal) -> Decimal:
        charge = _usd(cost)
        self.spent = _EXACT.add(self.spent, charge)
        if charge > self._highest:
            self._highest = charge
            for task_id, (usd, counted) in self._uncharged.items():
                if counted.usd is None:
                    self._uncharged[task_id] = charge, counted
                    self._add_estimate(_EXACT.subtract(charge, usd))
        return charge

    def release(self, key: Hashable) -> None:
        """Release the reservation of a run that was not sent, or was refused."""
        for budget in self.chain:
            budget._let_go(key)

    def _let_go(self, key: Hashable) -> _Counted | None:
        held = self._held.pop(key, None)
        if held is not None:
            self._blind -= held.holds_back
            self.reserved = _EXACT.subtract(self.reserved, held.usd or ZERO)
        return held

    def _fits(self, estimate: Decimal | None) -> bool:
        left = self.left
        return left is None or (left > 0 if estimate is None else _usd(estimate) <= left)

    def _may_fit(self, estimate: Decimal | None) -> bool:
        if self.max_cost is None or not self._held:
            return self._fits(estimate)
        rest = _EXACT.subtract(self.max_cost, self.spent)
        return rest > 0 and (estimate is None or _usd(estimate) <= rest)


class NullBudget(Budget):
    """Limits nothing and adds up nothing: what single calls have, if their client has no budget."""

    def __init__(self) -> None:
        super().__init__(None)

    def settle(self, key: Hashable, cost: Decimal | None, task_id: str = "") -> Decimal:  # noqa: ARG002
        """Return the cost."""
        return cost or ZERO


# -- charges that are recorded late ------------------------------------------------------------------------

FIRST_LOOKS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds after its end at which a run's charge is looked for while nothing at all counts for it. If the last
of these shows none, a budget cannot be kept."""

LOOK_EVERY = 60.0
MOST_LOOKS = 10
"""Seconds between two looks for all other charges, and how many looks each of them gets before the last one,
at the batch's end."""

STOPPED_FOR_FREE = 3600.0
"""Seconds after which a task that was stopped while it ran, and that shows a charge of 0, is free."""


def charge_of(task: Task, ended_at: float, time: float) -> Decimal | None:
    """Return the charge of a task that has ended (None: not recorded yet).

    Args:
        task: Its snapshot.
        ended_at: When its end was seen, in unix seconds.
        time: The time of day, in unix seconds.
    """
    stopped = task.cost is None and task.outcome == "cancelled"
    return task.total_cost if stopped and time > ended_at + STOPPED_FOR_FREE else task.cost


@attrs.define
class _Awaited:
    """A charge that is not recorded yet: whose, since when on the event loop's clock, how many looks."""

    run: UnchargedRun
    since: float
    looks: int = 0


class Charges:
    """The charges of a batch that were not recorded when their tasks ended, and when to look for them.

    Args:
        budget: The money, which counts them.
        prices: What learns from them.
    """

    def __init__(self, budget: Budget, prices: Prices) -> None:
        self._budget = budget
        self._prices = prices
        self._awaited: dict[str, _Awaited] = {}
        self._looked_at: float = -math.inf

    def add(self, run: UnchargedRun, since: float) -> None:
        """Await the charge of a run whose task ended at *since*, on the event loop's clock.

        They are added in the order of their ends.
        """
        self._awaited[run.task_id] = _Awaited(run, since)

    def next_look(self) -> float:
        """Return when to look next, on the event loop's clock (inf: not before the end)."""
        if self._is_blind():
            first = self._oldest.since
            return next((first + at for at in FIRST_LOOKS if first + at > self._looked_at), math.inf)
        # This is asked at each news of the batch; those that had all their looks are the oldest.
        wanted = (awaited.since for awaited in self._awaited.values() if awaited.looks < MOST_LOOKS)
        since = next(wanted, None)
        return math.inf if since is None else max(since, self._looked_at) + LOOK_EVERY

    def wanted(self, now: float, *, last: bool) -> list[UnchargedRun]:
        """Note a look at *now*, and return the runs to look for.

        The *last* time these are all of them, else those that had fewer than ``MOST_LOOKS`` looks.
        """
        self._looked_at = now
        wanted = [awaited for awaited in self._awaited.values() if last or awaited.looks < MOST_LOOKS]
        for awaited in wanted:
            awaited.looks += 1
        return [awaited.run for awaited in wanted]

    def take(self, task: Task, time: float) -> Charged | None:
        """Learn from a snapshot of any task.

        Args:
            task: The snapshot.
            time: The time of day, in unix seconds.

        Returns:
            The step that tells the charge (None: it is not awaited, or not recorded yet).
        """
        awaited = self._awaited.get(task.id)
        if awaited is None:
            return None
        run = awaited.run
        cost = charge_of(task, run.ended_at, time)
        if cost is None:
            return None
        del self._awaited[task.id]
        self._budget.charge(task.id, cost)
        if task.outcome == "succeeded":
            self._prices.learn(run.model, run.inputs, cost)
        return Charged(run.key, task.id, cost)

    def overdue(self) -> UnchargedRun | None:
        """Return the first run that shows no charge a minute after its end, if nothing counts for it."""
        if not self._is_blind():
            return None
        first = self._oldest
        return first.run if self._looked_at >= first.since + FIRST_LOOKS[-1] else None

    @property
    def _oldest(self) -> _Awaited:
        return next(iter(self._awaited.values()))

    def _is_blind(self) -> bool:
        return bool(self._awaited) and self._budget.is_blind


# -- what runs cost --------------------------------------------------------------------------------------

MAX_MODELS = 128
MAX_KINDS = 32
"""How many models, and kinds of runs of each, are remembered: the least recently used is dropped."""

BLOCK = 32
"""Runs of a kind in a block; two blocks are kept, so an outdated price is forgotten after 64 runs."""

ENOUGH = 3
"""From this many runs of a kind on, their actual cost overrides the catalogue."""

_DECIDING = frozenset({"select", "selectwithcover", "multiselect", "number", "range", "float", "checkbox"})
"""The types of inputs that can change the price; texts and files do not define a kind of run."""

_UNLIKELY = ("seed", "prompt", "url", "image")
"""Name parts of inputs that do not define a kind of run, if the model's own list is unknown."""


@attrs.define
class _Costs:
    """The costs of runs of one kind: count, total USD, and highest; in this block and the previous."""

    count: int = 0
    total: Decimal = ZERO
    highest: Decimal = ZERO
    before: tuple[int, Decimal, Decimal] = (0, ZERO, ZERO)

    def add(self, count: int, total: Decimal, highest: Decimal) -> None:
        if self.count >= BLOCK:
            self.before = (self.count, self.total, self.highest)
            self.count, self.total, self.highest = 0, ZERO, ZERO
        self.count += count
        self.total = _EXACT.add(self.total, total)
        self.highest = max(self.highest, highest)

    @property
    def known(self) -> tuple[int, Decimal, Decimal]:
        count, total, highest = self.before
        return self.count + count, _EXACT.add(self.total, total), max(self.highest, highest)


@attrs.define
class _Model:
    kinds: dict[str, _Costs] = attrs.field(factory=dict)
    known: Model | None = None
    listing: JSONMapping = attrs.field(factory=dict)
    deciding: frozenset[str] | None = None


class Prices:
    """What runs cost: learned from ended runs, else from the catalogue.

    Runs of one model with equal selects, numbers and check boxes are of one kind, and cost about the same.
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def know(self, model: Model) -> None:
        """Store a catalogue model's price list, and which of its inputs can change the price."""
        entry = self._of(model.slug)
        if entry.known is model:
            return
        entry.known = model
        entry.listing = {
            "dynamicprice": list(objects(model.raw.get("dynamicprice"))),
            "cps": model.raw.get("cps"),
            "approximatelycost": model.raw.get("approximatelycost"),
        }
        entry.deciding = frozenset(
            item.name for item in model.inputs if item.type in _DECIDING and "seed" not in item.name.lower()
        )

    def learn(self, model: str, inputs: Mapping[str, object], cost: Decimal | None) -> None:
        """Learn from a run that succeeded; a failed one costs nothing, and would skew the price.

        Args:
            model: Its slug.
            inputs: Its inputs.
            cost: USD (None: unknown, nothing to learn).
        """
        if cost is None or not cost.is_finite() or cost < 0:
            return
        entry, amount = self._of(model), _usd(cost)
        self._costs(entry, _kind(entry, inputs)).add(1, amount, amount)

    def highest(
        self, model: str, inputs: Mapping[str, object], *, seconds: float | None = None
    ) -> Decimal | None:
        """Return a high estimate of what a run may cost, for a budget.

        The highest cost of such runs; with fewer than three of them, at least the catalogue's price; with
        none, the catalogue's price, or the highest cost of any run of the model.

        Args:
            model: Its slug.
            inputs: Its inputs.
            seconds: How long such a run takes, if known.

        Returns:
            USD (None: unknown).
        """
        return self.estimate(model, inputs, seconds=seconds).amount

    def expected(
        self, model: str, inputs: Mapping[str, object], *, seconds: float | None = None
    ) -> Decimal | None:
        """Return what a run costs on average, for a plan; otherwise like ``highest``."""
        return self.estimate(model, inputs, seconds=seconds, mean=True).amount

    def estimate(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        seconds: float | None = None,
        mean: bool = False,
    ) -> Estimate:
        """Return a high or a *mean* estimate, and where it comes from; see ``highest`` and ``expected``."""
        entry = self._models.get(clean_slug(model))
        if entry is None:
            return Estimate(None, "nothing is known of its price")
        costs = entry.kinds.get(_kind(entry, inputs))
        known = [] if costs is None else [_seen(costs, mean=mean)]
        if costs is not None and (mean or costs.known[0] >= ENOUGH):
            return known[0]
        listed = estimate(entry.listing, inputs, seconds=seconds)
        if listed.amount is not None:
            known.append(listed)
        if not known:
            others = (_seen(other, mean=mean).amount for other in entry.kinds.values())
            known = [Estimate(amount, "the highest charge of other runs of this model") for amount in others]
        return max(known, key=lambda each: each.amount or ZERO, default=listed)

    def deciding(self, model: str, inputs: Mapping[str, object]) -> Mapping[str, object]:
        """Return those of a run's *inputs* that can change its price: all that ``learn`` needs later."""
        entry = self._of(model)
        return {name: inputs[name] for name in _names(entry, inputs)}

    # -- across processes --------------------------------------------------------------------------------

    def export(self) -> JSON:
        """Return what was learned as plain JSON: ``{slug: {kind: [runs, total USD, highest USD]}}``."""
        return {
            slug: {kind: _row(*costs.known) for kind, costs in entry.kinds.items()}
            for slug, entry in self._models.items()
            if entry.kinds
        }

    def merge(self, data: Mapping[str, object]) -> None:
        """Add what another process learned; unreadable data is skipped."""
        for slug, kinds in data.items():
            for kind, row in kinds.items() if isinstance(kinds, Mapping) else ():
                read = _read_row(row)
                if read is not None and len(str(slug)) <= MAX_SLUG and len(str(kind)) <= MAX_SLUG:
                    self._costs(self._of(str(slug)), str(kind)).add(*read)

    def _of(self, model: str) -> _Model:
        slug = clean_slug(model)
        entry = self._models.pop(slug, None) or _Model()
        self._models[slug] = entry
        if len(self._models) > MAX_MODELS:
            del self._models[next(iter(self._models))]
        return entry

    def _costs(self, entry: _Model, kind: str) -> _Costs:
        costs = entry.kinds.pop(kind, None) or _Costs()
        entry.kinds[kind] = costs
        if len(entry.kinds) > MAX_KINDS:
            del entry.kinds[next(iter(entry.kinds))]
        return costs


def _kind(entry: _Model, inputs: Mapping[str, object]) -> str:
    """Return a run's kind: a digest of the inputs that can change its price."""
    return digest(inputs, _names(entry, inputs))[:16]


def _names(entry: _Model, inputs: Mapping[str, object]) -> list[str]:
    """Return the names of the inputs that can change the price."""
    if entry.deciding is not None:
        return [name for name in inputs if name in entry.deciding]
    return [name for name, value in inputs.items() if _may_decide(name, value)]


def _may_decide(name: str, value: object) -> bool:
    if any(part in name.lower() for part in _UNLIKELY):
        return False
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 16)


def _seen(costs: _Costs, *, mean: bool) -> Estimate:
    count, total, highest = costs.known
    if mean:
        average = _usd(_EXACT.divide(total, Decimal(count)))
        return Estimate(average, f"the average charge of {count} such run(s)")
    return Estimate(highest, f"the highest charge of {count} such run(s)")


def _row(count: int, total: Decimal, highest: Decimal) -> list[object]:
    return [count, format(total, "f"), format(highest, "f")]


def _read_row(row: object) -> tuple[int, Decimal, Decimal] | None:
    if not isinstance(row, list | tuple) or len(row) != 3:
        return None
    count, total, highest = integer(row[0]), money(row[1]), money(row[2])
    if not count or total is None or highest is None or not 0 <= highest <= total <= _MOST:
        return None
    # What an old journal learned must not outweigh what is seen now.
    share = _EXACT.divide(Decimal(min(count, BLOCK)), Decimal(count))
    return min(count, BLOCK), _usd(_EXACT.multiply(total, share)), _usd(highest)
