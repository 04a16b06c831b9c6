"""Money: a budget that is not overdrawn, and what runs cost."""

from __future__ import annotations

import decimal
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.depth import examples
from tests.strategies import loose
from wiro_async import Model, ModelInput
from wiro_async._jobs.budget import Budget, Estimate, Prices

ZERO = Decimal(0)
amounts = st.decimals(0, 5, places=4)

# -- the budget ------------------------------------------------------------------------------------------


def test_a_run_starts_only_when_its_estimate_is_left() -> None:
    """What is reserved is not left for others; what a run did not cost is."""
    budget = Budget(Decimal(1))
    assert budget.reserve("a", Decimal("0.6"))
    assert not budget.reserve("b", Decimal("0.5"))
    assert budget.left == Decimal("0.4")
    assert (budget.reserved, budget.in_flight) == (Decimal("0.6"), 1)
    assert budget.settle("a", Decimal("0.5")) == Decimal("0.5")
    assert budget.reserve("b", Decimal("0.5"))
    assert (budget.left, budget.spent) == (ZERO, Decimal("0.5"))


def test_a_failed_run_gives_everything_back() -> None:
    """The service does not bill it."""
    budget = Budget(Decimal(1))
    assert budget.reserve("a", Decimal(1))
    budget.settle("a", ZERO)
    assert budget.left == 1


def test_a_run_that_was_not_sent_gives_everything_back() -> None:
    """Releasing is safe to repeat, and for runs that hold nothing."""
    budget = Budget(Decimal(1))
    assert budget.reserve("a", Decimal(1))
    budget.release("a")
    budget.release("a")
    assert budget.left == 1
    assert (budget.reserved, budget.in_flight) == (ZERO, 0)


def test_without_a_limit_everything_is_only_counted() -> None:
    """Runs without an estimate go side by side."""
    budget = Budget(None)
    assert budget.reserve("a", Decimal(10**6))
    assert budget.reserve("b", None)
    assert budget.reserve("c", None)
    assert budget.may_fit(None)
    budget.settle("a", Decimal(3))
    assert budget.left is None
    assert (budget.spent, budget.reserved) == (Decimal(3), ZERO)


def test_without_an_estimate_runs_go_one_at_a_time() -> None:
    """Such a run reserves all that is left, until its cost is known."""
    budget = Budget(Decimal(1))
    assert budget.reserve("a", None)
    assert budget.left == 0
    assert not budget.reserve("b", None)
    assert not budget.reserve("c", Decimal("0.01"))
    assert budget.may_fit(None)
    budget.settle("a", Decimal("0.3"))
    assert budget.reserve("b", Decimal("0.3"))
    assert budget.left == Decimal("0.4")


def test_a_run_that_costs_nothing_always_fits() -> None:
    """Even when nothing is left."""
    budget = Budget(Decimal(1), spent=Decimal(2))
    assert budget.left == 0
    assert budget.reserve("a", ZERO)
    assert not budget.reserve("b", None)


def test_waiting_is_told_from_being_at_the_end() -> None:
    """While runs are in flight they may cost less than they reserved; afterwards nothing can change."""
    budget = Budget(Decimal(1))
    assert budget.reserve("a", Decimal("0.8"))
    assert budget.may_fit(Decimal("0.9"))
    assert budget.may_fit(Decimal(1)), "all of it may come back"
    assert budget.may_fit(None)
    assert not budget.may_fit(Decimal("1.000000000001"))
    budget.settle("a", Decimal("0.8"))
    assert not budget.may_fit(Decimal("0.9"))
    assert budget.may_fit(Decimal("0.2"))
    assert budget.reserve("b", Decimal("0.2"))
    budget.settle("b", Decimal("0.2"))
    assert not budget.may_fit(None)


def test_a_run_of_an_earlier_process_is_counted_whatever_is_left() -> None:
    """It is in flight already, so nobody asks; its estimate may change."""
    budget = Budget(Decimal(1), spent=Decimal("0.9"))
    budget.adopt("a", Decimal(5))
    assert (budget.left, budget.reserved) == (ZERO, Decimal(5))
    budget.adopt("a", None)
    assert budget.reserved == 0
    budget.adopt("a", Decimal("0.05"))
    assert budget.left == Decimal("0.05")


def test_a_cost_that_nobody_tells_is_guessed() -> None:
    """By the run's own estimate, or else by the highest cost of any run so far, until it is told."""
    budget = Budget(Decimal(20))
    assert budget.reserve("a", None)
    assert budget.settle("a", None, "1") == 0
    blind = [budget.is_blind]
    assert budget.reserve("b", Decimal(2))
    assert budget.settle("b", None, "2") == 2
    assert budget.reserve("c", Decimal(1))
    assert budget.settle("c", Decimal(3)) == 3
    assert [*blind, budget.is_blind] == [True, False]
    assert budget.spent == 8, "the first counts as the highest now"
    assert (budget.charged, budget.estimated) == (Decimal(3), Decimal(5))
    assert budget.reserve("d", None)
    assert budget.settle("d", Decimal("NaN"), "4") == 3
    assert budget.spent == 11
    budget.charge("2", Decimal("2.5"))
    assert budget.spent == Decimal("11.5")
    budget.charge("1", Decimal(4))
    assert budget.spent == Decimal("13.5"), "the last one counts as four, too"
    assert (budget.charged, budget.estimated) == (Decimal("9.5"), Decimal(4))
    budget.charge("unknown", Decimal(1))
    budget.charge("1", Decimal(1))
    budget.settle("c", Decimal(1))
    assert budget.spent == Decimal("13.5"), "what is not awaited, or was told before, changes nothing"
    budget.forget("4")
    budget.charge("4", Decimal(9))
    assert budget.spent == Decimal("13.5"), "an estimate that was given up stays"


def test_a_run_is_reserved_in_every_budget_or_in_none() -> None:
    """A batch's limit within the client's: whichever is lower decides, and both are settled, once."""
    client = Budget(Decimal(2))
    wide, narrow = Budget(Decimal(9), within=client), Budget(Decimal(1), within=client)
    assert wide.is_limited
    assert Budget(None, within=client).is_limited
    assert not Budget(None, within=Budget(None)).is_limited
    assert not narrow.reserve("a", Decimal("1.5"))
    assert narrow.refusing(Decimal("1.5")) is narrow
    assert (narrow.in_flight, client.in_flight) == (0, 0)
    assert wide.reserve("a", Decimal("1.5"))
    assert not narrow.reserve("b", Decimal(1))
    assert narrow.refusing(Decimal(1)) is client
    assert (narrow.in_flight, client.reserved, client.gone) == (0, Decimal("1.5"), Decimal("1.5"))
    assert narrow.may_fit(Decimal(1)), "a run of the other's is in flight"
    client.settle("a", None, "1")  # whoever read the task was quicker
    assert not narrow.may_fit(Decimal(1))
    assert wide.settle("a", None, "1") == Decimal("1.5")
    assert (wide.spent, client.spent, client.estimated) == (Decimal("1.5"),) * 3
    wide.charge("1", Decimal("0.5"))
    assert (wide.charged, client.charged, client.estimated) == (Decimal("0.5"), Decimal("0.5"), ZERO)
    narrow.adopt("c", None)
    assert (client.left, wide.refusing(Decimal(1))) == (ZERO, client)
    narrow.release("c")
    assert client.left == Decimal("1.5")


def test_a_run_of_unknown_price_that_is_allowed_holds_back_nobody() -> None:
    """It counts as the highest charge once it has ended; the budget around it may be stricter, or less."""
    client = Budget(Decimal(2), allow_unpriced=True)
    batch = Budget(Decimal(2), within=client)
    assert batch.reserve("a", None)
    assert (batch.left, client.left) == (ZERO, Decimal(2))
    assert client.reserve("b", None)
    batch.settle("a", None, "1")
    assert batch.is_blind
    assert not client.is_blind
    strict = Budget(Decimal(1))
    assert strict.reserve("c", None, allow_unpriced=True)
    assert strict.reserve("d", Decimal(1))
    strict.settle("d", Decimal("0.75"))
    assert strict.settle("c", None, "3") == Decimal("0.75")


def test_what_an_earlier_process_counted_is_not_counted_twice() -> None:
    """Its estimate is among what was spent; without one the price that is known by now counts."""
    budget = Budget(Decimal(10), spent=Decimal(5))
    assert budget.expect("1", Decimal(2), before=Decimal(2)) == 2
    assert budget.expect("2", Decimal(1)) == 1
    assert budget.spent == 6
    budget.charge("1", Decimal("0.5"))
    assert budget.spent == Decimal("4.5")


def test_a_run_reserves_once() -> None:
    """Twice is a mistake of the caller's, and the message says which run."""
    budget = Budget(Decimal(1))
    assert budget.reserve("clip-7", ZERO)
    with pytest.raises(ValueError, match="'clip-7' holds a reservation already; settle or release it first"):
        budget.reserve("clip-7", ZERO)


@pytest.mark.parametrize("amount", ["-1", "NaN", "-Infinity", "Infinity"])
def test_amounts_that_are_none_count_as_nothing(amount: str) -> None:
    """Garbage neither pays in nor empties the budget."""
    budget = Budget(Decimal(1), spent=Decimal(amount))
    budget.adopt("a", Decimal(amount))
    assert budget.left == 1


def test_amounts_are_exact_and_do_not_depend_on_the_callers_decimal_context() -> None:
    """A context of three digits would round a budget of thousands away."""
    with decimal.localcontext() as context:
        context.prec = 3
        budget = Budget(Decimal(100_000))
        for number in range(1000):
            assert budget.reserve(number, Decimal("0.003510000000"))
        assert budget.left == Decimal("99996.49")
        for number in range(1000):
            budget.settle(number, Decimal("0.003510000001"))
    assert (budget.spent, budget.reserved) == (Decimal("3.510000001"), ZERO)


def test_an_amount_beyond_all_measure_is_bounded() -> None:
    """The sums stay exact whatever the service sends."""
    budget = Budget(Decimal(1))
    budget.adopt("a", Decimal("1e300"))
    budget.adopt("b", Decimal("1e-300"))
    assert budget.reserved == Decimal(10**12) + Decimal("1e-12")
    budget.release("a")
    assert budget.reserved == Decimal("1e-12")


class Spending(RuleBasedStateMachine):
    """Runs that start when the budget says so, and cost what they like."""

    @initialize(limit=st.none() | st.decimals(0, 20, places=4))
    def begin(self, limit: Decimal | None) -> None:
        """Set a limit."""
        self.budget = Budget(limit)
        self.held: dict[int, Decimal | None] = {}
        self.spent = self.excess = self.highest = ZERO
        self.uncharged: dict[str, Decimal | None] = {}
        self.number = 0

    @rule(estimate=st.none() | amounts)
    def reserve(self, estimate: Decimal | None) -> None:
        """Ask for a run."""
        self.number += 1
        left = self.budget.left
        started = self.budget.reserve(self.number, estimate)
        fits = left is None or (left > 0 if estimate is None else estimate <= left)
        assert started == fits
        if started:
            self.held[self.number] = estimate
        else:
            assert self.held or not self.budget.may_fit(estimate)

    @rule(estimate=st.none() | amounts)
    def adopt(self, estimate: Decimal | None) -> None:
        """Take over a run."""
        self.number += 1
        self.budget.adopt(self.number, estimate)
        self.held[self.number] = estimate
        self.excess += estimate or ZERO

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cost=st.none() | amounts)
    def settle(self, data: st.DataObject, cost: Decimal | None) -> None:
        """End a run."""
        key = data.draw(st.sampled_from(sorted(self.held)))
        estimate = self.held.pop(key)
        counted = self.budget.settle(key, cost, str(key))
        if cost is None:
            assert counted == (self.highest if estimate is None else estimate)
            self.uncharged[str(key)] = estimate
        else:
            assert counted == cost
            self.charge(cost)
        self.excess += max(counted - (estimate or ZERO), ZERO)

    def charge(self, cost: Decimal) -> None:
        """Count a charge."""
        self.spent += cost
        more = max(cost - self.highest, ZERO)
        self.highest += more
        self.excess += more * list(self.uncharged.values()).count(None)

    @precondition(lambda self: self.uncharged)
    @rule(data=st.data(), cost=amounts)
    def charge_late(self, data: st.DataObject, cost: Decimal) -> None:
        """Tell a charge at last."""
        task_id = data.draw(st.sampled_from(sorted(self.uncharged)))
        estimate = self.uncharged.pop(task_id)
        before = self.highest if estimate is None else estimate
        self.excess += max(cost - before, ZERO)
        self.charge(cost)
        self.budget.charge(task_id, cost)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Take back a run."""
        key = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[key]
        self.budget.release(key)

    @invariant()
    def the_sums_are_right(self) -> None:
        """And the limit is passed by no more than was taken over, or cost beyond its estimate."""
        budget = self.budget
        counted = sum((self.highest if each is None else each for each in self.uncharged.values()), ZERO)
        assert budget.spent == self.spent + counted
        assert budget.reserved == sum((held or ZERO for held in self.held.values()), ZERO)
        assert budget.in_flight == len(self.held)
        if budget.max_cost is not None:
            assert budget.spent + budget.reserved <= budget.max_cost + self.excess


TestSpending = Spending.TestCase
TestSpending.settings = examples(60, stateful_step_count=30)


@given(st.lists(amounts, min_size=1, max_size=50), st.decimals(1, 20, places=2))
@examples(100)
def test_true_estimates_never_overdraw(costs: list[Decimal], limit: Decimal) -> None:
    """However many run at a time."""
    budget = Budget(limit)
    started = [number for number, cost in enumerate(costs) if budget.reserve(number, cost)]
    for number in started:
        budget.settle(number, costs[number])
    assert budget.spent <= limit


# -- what runs cost --------------------------------------------------------------------------------------

SLUG = "MiniMax/hailuo-2.3"
LIST = [
    {"inputs": {"duration": "6"}, "price": 0.28, "priceMethod": "cpr"},
    {"inputs": {"duration": "10"}, "price": 0.56, "priceMethod": "cpr"},
]
HAILUO = Model(
    SLUG,
    inputs=(
        ModelInput("inputImage", "combinefileinput"),
        ModelInput("prompt", "textarea"),
        ModelInput("duration", "select", options=("6", "10")),
        ModelInput("seed", "number"),
    ),
    raw={"dynamicprice": json.dumps(LIST), "description": "unused"},
)


def inputs(duration: object = "6", **others: object) -> dict[str, object]:
    """Return a run's inputs."""
    return {"prompt": "waves", "duration": duration, **others}


def test_nothing_is_known_of_a_model_that_was_never_seen() -> None:
    """Neither learned nor in the catalogue."""
    prices = Prices()
    assert prices.highest(SLUG, inputs()) is None
    assert prices.expected(SLUG, inputs()) is None


def test_the_catalogue_is_believed_at_first() -> None:
    """By the inputs that decide; unknown inputs may be any."""
    prices = Prices()
    prices.know(HAILUO)
    assert prices.highest(SLUG, inputs("6")) == Decimal("0.28")
    assert prices.highest(SLUG, inputs(10)) == Decimal("0.56")
    assert prices.expected(SLUG, {}) == Decimal("0.56")


def test_an_estimate_says_where_it_comes_from() -> None:
    """The charges of such runs, the catalogue, or the dearest run of the model."""
    prices = Prices()
    assert prices.estimate(SLUG, inputs("10")) == Estimate(None, "nothing is known of its price")
    prices.learn(SLUG, inputs("6"), Decimal("0.50"))
    assert prices.estimate(SLUG, inputs("10")) == Estimate(
        Decimal("0.50"), "the highest charge of other runs of this model"
    )
    assert prices.estimate(SLUG, inputs("6")) == Estimate(
        Decimal("0.50"), "the highest charge of 1 such run(s)"
    )
    prices.know(HAILUO)
    assert prices.estimate(SLUG, inputs("10")) == Estimate(
        Decimal("0.56"), "the catalogue's price list (cpr)"
    )
    prices.learn(SLUG, prices.deciding(SLUG, inputs("10")), Decimal("0.60"))
    assert prices.highest(SLUG, inputs("10")) == Decimal("0.60")
    assert prices.deciding(SLUG, inputs("6")) == {"duration": "6"}


def test_a_slug_has_two_spellings() -> None:
    """What was learned under one is known under the other."""
    prices = Prices()
    prices.learn("minimax/hailuo-2-3", inputs(), Decimal(1))
    assert prices.highest(SLUG, inputs()) == 1


def test_runs_teach_what_their_kind_costs() -> None:
    """The highest for a budget, the mean for a plan; prompts, files and seeds make no kind."""
    prices = Prices()
    prices.know(HAILUO)
    for cost in ("0.30", "0.20", "0.25"):
        prices.learn(SLUG, inputs(prompt=cost, seed=cost, inputImage=[cost]), Decimal(cost))
    assert prices.highest(SLUG, inputs()) == Decimal("0.30")
    assert prices.expected(SLUG, inputs()) == Decimal("0.25")
    assert prices.highest(SLUG, inputs("10")) == Decimal("0.56"), "another kind: the catalogue's"


def test_with_few_runs_the_catalogue_has_its_say() -> None:
    """Two cheap runs do not prove that all are; a mean needs no such care."""
    prices = Prices()
    prices.know(HAILUO)
    prices.learn(SLUG, inputs(), Decimal("0.10"))
    prices.learn(SLUG, inputs(), Decimal("0.10"))
    assert prices.highest(SLUG, inputs()) == Decimal("0.28")
    assert prices.expected(SLUG, inputs()) == Decimal("0.10")
    prices.learn(SLUG, inputs(), Decimal("0.10"))
    assert prices.highest(SLUG, inputs()) == Decimal("0.10")


def test_without_a_list_another_kind_costs_as_much_as_the_dearest() -> None:
    """For a budget; for a plan, as much as the dearest kind on average."""
    prices = Prices()
    for cost in (1, 3):
        prices.learn(SLUG, inputs("6"), Decimal(cost))
    prices.learn(SLUG, inputs("10"), Decimal("1.5"))
    assert prices.highest(SLUG, inputs("20")) == 3
    assert prices.expected(SLUG, inputs("20")) == 2


def test_without_a_list_of_inputs_kinds_are_told_by_names_and_values() -> None:
    """Short texts and numbers count, unless their names say otherwise."""
    prices = Prices()
    base: dict[str, object] = {"resolution": "768P", "steps": 30, "fast": True}
    varying: dict[str, object] = {
        "prompt": "x", "seed": 1, "inputImageUrl": "a", "mask": b"1", "note": "x" * 17, "list": [1],
    }  # fmt: skip
    prices.learn(SLUG, {**base, **varying}, Decimal(1))
    prices.learn(SLUG, {**base, "steps": 50}, Decimal(9))
    other = {name: f"{value!r}, and much more" for name, value in varying.items()}
    assert prices.highest(SLUG, {**base, **other}) == 1
    assert prices.highest(SLUG, {**base, "resolution": "1080P"}) == 9


def is_another_kind(prices: Prices, name: str, one: object, other: object) -> bool:
    """Whether two runs that differ in one input only are taken to cost differently."""
    for _ in range(3):
        prices.learn(SLUG, {name: one}, Decimal(1))
        prices.learn(SLUG, {name: other}, Decimal(2))
    return prices.highest(SLUG, {name: one}) == 1


@pytest.mark.parametrize(
    ("kind", "decides"),
    [
        ("select", True), ("selectwithcover", True), ("multiselect", True), ("number", True), ("range", True),
        ("float", True), ("checkbox", True), ("text", False), ("textarea", False), ("fileinput", False),
        ("multifileinput", False), ("combinefileinput", False),
    ],
)  # fmt: skip
def test_the_models_list_tells_which_inputs_decide_a_price(kind: str, decides: bool) -> None:
    """Selects, numbers and check boxes do; a seed is a number that does not."""
    prices = Prices()
    prices.know(Model(SLUG, inputs=(ModelInput("x", kind), ModelInput("videoSeed", kind))))
    assert is_another_kind(prices, "x", "1", "2") is decides
    assert not is_another_kind(prices, "videoSeed", "1", "2")


@pytest.mark.parametrize(
    ("name", "one", "other", "decides"),
    [
        ("x", 1, 2, True), ("x", 0.5, 0.6, True), ("x", True, False, True), ("x", "a" * 16, "b" * 16, True),
        ("x", "a" * 17, "b" * 17, False), ("x", ["a"], ["b"], False), ("x", {"a": 1}, {"a": 2}, False),
        ("randomSeed", 1, 2, False), ("negativePrompt", "a", "b", False), ("styleUrl", "a", "b", False),
        ("inputImage", "a", "b", False),
    ],
)  # fmt: skip
def test_without_a_list_names_and_values_tell_which_inputs_decide_a_price(
    name: str, one: object, other: object, decides: bool
) -> None:
    """Numbers and texts of up to 16 characters, unless they are seeds, prompts, addresses or images."""
    assert is_another_kind(Prices(), name, one, other) is decides


@pytest.mark.parametrize("cost", [None, Decimal("NaN"), Decimal("Infinity"), Decimal(-1)])
def test_what_is_no_cost_teaches_nothing(cost: Decimal | None) -> None:
    """A run whose cost is not known is not one that cost nothing."""
    prices = Prices()
    prices.learn(SLUG, inputs(), cost)
    assert prices.highest(SLUG, inputs()) is None


def test_a_price_that_fell_is_forgotten() -> None:
    """After 64 runs, and not before."""
    prices = Prices()
    prices.learn(SLUG, inputs(), Decimal(9))
    for _ in range(63):
        prices.learn(SLUG, inputs(), Decimal(1))
    assert prices.highest(SLUG, inputs()) == 9
    prices.learn(SLUG, inputs(), Decimal(1))
    assert prices.highest(SLUG, inputs()) == 1


def test_memory_is_bounded() -> None:
    """The models and kinds that were not seen for the longest time are forgotten."""
    prices = Prices()
    for number in range(128 + 5):
        prices.learn(f"owner/model-{number}", inputs(), Decimal(1))
    for number in range(32 + 5):
        prices.learn("owner/last", inputs(number), Decimal(number))
    learned = prices.export()
    assert len(learned) == 128
    assert "owner/model-0" not in learned
    assert len(learned["owner/last"]) == 32
    assert len(json.dumps(learned["owner/last"])) < 2048


def test_time_decides_where_the_second_is_paid() -> None:
    """The catalogue's price for a second of processing needs to know how long a run takes."""
    prices = Prices()
    prices.know(Model(SLUG, raw={"cps": "0.005"}))
    assert prices.highest(SLUG, inputs()) is None
    assert prices.highest(SLUG, inputs(), seconds=60.0) == Decimal("0.3")


# -- across processes ------------------------------------------------------------------------------------


def test_what_was_learned_goes_through_json() -> None:
    """And is worth as much on the other side; two learn more than one."""
    first, second = Prices(), Prices()
    for cost in ("0.1", "0.2", "0.3"):
        first.learn(SLUG, inputs(), Decimal(cost))
    second.know(Model("owner/other"))
    second.learn(SLUG, inputs(), Decimal("0.6"))
    second.merge(json.loads(json.dumps(first.export())))
    assert second.highest(SLUG, inputs()) == Decimal("0.6")
    assert second.expected(SLUG, inputs()) == Decimal("0.3")
    assert list(second.export()) == ["minimax/hailuo-2-3"], "nothing was learned of the other"


def test_a_long_past_does_not_outweigh_the_present() -> None:
    """A million runs of an old journal count as a block."""
    prices = Prices()
    prices.learn(SLUG, inputs(), Decimal(1))
    (kind,) = prices.export()["minimax/hailuo-2-3"]
    prices = Prices()
    prices.merge({SLUG: {kind: [10**6, "500000", "0.5"]}})
    assert prices.expected(SLUG, inputs()) == Decimal("0.5")
    assert prices.export()["minimax/hailuo-2-3"][kind][0] == 32
    for _ in range(2 * 32):
        prices.learn(SLUG, inputs(), Decimal(1))
    assert prices.expected(SLUG, inputs()) == 1


@pytest.mark.parametrize(
    "row",
    [
        None, 1, "x", [], [1, 1], [1, 1, 1, 1], [0, 0, 0], [-1, 1, 1], [1.5, 1, 1], ["x", 1, 1], [1, "x", 1],
        [1, 1, "x"], [1, 1, 2], [1, -1, -1], [1, 1e300, 1], [1, 2, -1], [True, None, None],
    ],
)  # fmt: skip
def test_rows_that_make_no_sense_are_left_out(row: object) -> None:
    """A count of runs, their sum, and the highest, which is no more than the sum."""
    prices = Prices()
    prices.merge({SLUG: {"kind": row}})
    assert prices.export() == {}


@given(st.dictionaries(st.text(max_size=5), loose | st.dictionaries(st.text(max_size=5), loose, max_size=3)))
@examples(100)
def test_no_garbage_breaks_a_merge(data: dict[str, Any]) -> None:
    """Nor what is exported afterwards."""
    prices = Prices()
    prices.merge(data)
    again = Prices()
    again.merge(json.loads(json.dumps(prices.export())))
    assert again.export().keys() == prices.export().keys()


def test_names_of_any_length_are_not_kept() -> None:
    """A journal cannot fill the memory."""
    prices = Prices()
    prices.merge({"x" * 201: {"kind": [1, 1, 1]}, SLUG: {"x" * 201: [1, 1, 1]}})
    assert prices.export() == {}
