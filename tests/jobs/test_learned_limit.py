"""How an account's limit is learned, how more room is looked for, and what that costs in refusals."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks.concurrency import BUSY_TARGET, CASES, REFUSED_TARGET, Case, simulate
from tests.depth import examples
from wiro_async._jobs.limiter import (
    LearnedLimit,
    limit_of,
)


class Account:
    """A service with a limit, and a client whose Runs are answered at once, or when a test says so."""

    def __init__(self, limit: int | None, *, balance: Decimal | None = None) -> None:
        self.learned = LearnedLimit()
        self.limit = limit
        self.balance = balance
        self.theirs = 0
        self.running = 0
        self.pending = 0
        self.runs = 0
        self.refusals = 0
        self.now = 0.0

    @property
    def active(self) -> int:
        """What the client counts as its own."""
        return self.running + self.pending

    def send(self) -> bool:
        """Send a Run, if that is allowed."""
        if not self.learned.may_submit(self.active, self.now):
            return False
        self.learned.submitted()
        self.pending += 1
        return True

    def answer(self) -> bool:
        """Answer the oldest Run; say whether it was accepted."""
        self.pending -= 1
        self.runs += 1
        if self.limit is None or self.running + self.theirs < self.limit:
            self.running += 1
            self.learned.accepted()
            return True
        self.refusals += 1
        self.learned.refused(self.now, self.active, self.limit, self.balance)
        return False

    def adopt(self) -> None:
        """Take over a task that runs already."""
        self.running += 1
        self.learned.adopted(self.active)

    def fill(self) -> int:
        """Send and answer until no more is allowed, or 500 run, in 0.1 s each; return the refusals."""
        before = self.refusals
        while self.running < 500 and self.send():
            self.now += 0.1
            self.answer()
        return self.refusals - before

    def end(self, number: int = 1, cost: Decimal | None = None) -> None:
        """End some of our tasks."""
        for _ in range(number):
            self.running -= 1
            self.learned.ended(cost)

    def work(self, rounds: int, every: float = 1.0) -> int:
        """Replace one task at a time, in *every* seconds; return the refusals."""
        before = self.refusals
        for _ in range(rounds):
            self.now += every
            self.end()
            self.fill()
        return self.refusals - before


def grown(running: int) -> Account:
    """Return an account without a limit, on which so many of our tasks run."""
    account = Account(None)
    while account.running < running:
        account.send()
        account.answer()
    return account


def crowded() -> Account:
    """Return an account on which 400 of our tasks run, and other programs have just taken all the rest."""
    account = grown(400)
    account.limit, account.theirs = 1000, 600
    return account


# -- the rule of the balance -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balance", "limit"),
    [
        ("-5", 1), ("0", 1), ("0.5", 1), ("19.99", 1), ("20", 2), ("50.00", 5), ("59.99", 5), ("100", 10),
        ("249.99", 24), ("250", 25), ("250.01", None), ("1e9", None),
    ],
)  # fmt: skip
def test_the_services_rule(balance: str, limit: int | None) -> None:
    """A tenth of the balance, at least one, and no limit above 250 USD."""
    assert limit_of(Decimal(balance)) == limit


# -- learning a limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5, 25])
def test_a_limit_is_learned_by_one_refusal(limit: int) -> None:
    """Then all of it is used, and nothing more is tried."""
    account = Account(limit)
    assert account.fill() == 1
    assert account.running == limit == account.learned.size == account.learned.limit
    assert account.learned.next_try(account.now) is None, "only an end can help"


def test_no_limit_opens_without_end() -> None:
    """By a half a round trip in the end: 5 000 tasks need 40 of them."""
    account = Account(None)
    trips = 0
    while account.running < 5000:
        trips += 1
        while account.send():
            pass
        while account.pending:
            account.answer()
    assert trips <= 40
    assert account.learned.limit is None


def test_the_search_goes_one_by_one_at_first() -> None:
    """Up to 16 tasks one Run is on its way beyond what is known to be allowed, so one is refused at most."""
    account = Account(None)
    for _ in range(16):
        assert account.send()
        assert not account.send()
        account.answer()
    assert account.send()
    assert account.send()
    assert not account.send()


def test_the_limit_of_a_balance_is_used_where_no_number_is_told() -> None:
    """By the service's rule; above 250 USD the refusal itself is all there is."""
    learned = LearnedLimit()
    for balance, limit in [(Decimal("57.31"), 5), (Decimal(300), None), (None, None)]:
        learned.submitted()
        learned.refused(0.0, 3, None, balance)
        assert learned.limit == limit


# -- keeping it ------------------------------------------------------------------------------------------


def test_a_task_of_ours_that_ended_is_replaced_at_once() -> None:
    """What runs after a refusal is what may run; each end makes room for one."""
    account = Account(5)
    account.fill()
    assert account.work(40) == 0
    assert account.running == 5


def test_the_search_for_a_higher_limit_is_paid_from_the_budget() -> None:
    """One refusal in 56 accepted Runs."""
    account = Account(5)
    account.fill()
    assert account.work(200 * 56, every=12.0) == pytest.approx(200, abs=1)


def test_two_refusals_may_be_saved_up() -> None:
    """However many Runs were accepted before: one that finds out, and one that makes sure."""
    account = crowded()
    assert account.fill() == 2
    assert account.fill() == 0


def test_two_refusals_may_be_owed() -> None:
    """A burst of any size is forgotten after 168 accepted Runs, which pay for three."""
    account = crowded()
    while account.send():
        pass
    assert account.pending > 10
    while account.pending:
        account.answer()
    accepted = 0
    while not account.send():
        account.end()
        assert account.send()
        assert account.answer()
        accepted += 1
    assert accepted == pytest.approx(168, abs=1)


def test_the_tries_for_a_higher_limit_are_minutes_apart() -> None:
    """However many tasks end in between: after 1, 2, 4, 8 and then always 10 minutes."""
    account = Account(25)
    account.fill()
    tries = []
    for _ in range(20_000):
        account.now += 0.3
        account.end()
        if account.fill():
            tries.append(account.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps[:3] == pytest.approx([2 * 60.0, 4 * 60.0, 8 * 60.0], abs=0.9)
    assert gaps[3:] == pytest.approx([600.0] * len(gaps[3:]), abs=0.9)


def test_a_higher_limit_is_found_and_used_at_once() -> None:
    """After a top-up the next try is accepted, and all the others follow it."""
    account = Account(5)
    account.fill()
    account.limit = 20
    account.work(300)
    assert account.running == 20 == account.learned.limit
    account.limit = None
    account.work(1000)
    assert account.running == 500
    assert account.learned.limit is None


def test_the_time_of_the_next_try_is_told() -> None:
    """Where only time is missing, whoever asks again then is let through."""
    account = Account(5)
    account.fill()
    account.learned._credit = 2.0
    assert not account.send()
    due = account.learned.next_try(account.now)
    assert due == pytest.approx(account.now + 60.0, abs=0.2)
    account.now = due or 0.0
    assert account.send()
    assert account.learned.next_try(account.now) is None, "the answer is no longer no"


def test_above_a_known_limits_part_one_run_is_in_flight() -> None:
    """When others hold the rest, even after a first try was accepted: they may have taken it back."""
    account = Account(100)
    account.theirs = 60
    account.fill()
    account.theirs = 0
    for _ in range(56):
        account.end()
        assert account.send()
        assert account.answer()
    assert account.running == 40
    for _ in range(3):
        assert account.send()
        assert not account.send()
        assert account.answer()


def test_after_a_refusal_without_a_number_one_run_is_in_flight_above_the_size() -> None:
    """However many run: what is searched for is one more, not twice as many."""
    account = grown(60)
    assert account.send()
    account.pending -= 1
    account.learned.refused(account.now, account.active, None, None)
    assert account.send()
    assert not account.send()


# -- other programs --------------------------------------------------------------------------------------


def test_others_hold_a_part() -> None:
    """The size is what is left of the limit, and the last try was one too many."""
    account = Account(25)
    account.theirs = 10
    assert account.fill() == 1
    assert (account.learned.size, account.learned.limit) == (15, 25)


def test_what_others_give_back_is_found() -> None:
    """By one try for every 56 accepted Runs; where it is accepted, the next at once, up to the limit."""
    account = Account(25)
    account.theirs = 15
    account.fill()
    account.theirs = 0
    assert account.work(50) == 0
    assert account.running == 25


def test_what_others_take_away_costs_few_refusals() -> None:
    """A program that takes 15 slots the moment that they are free is noticed by refusals in a row."""
    account = Account(25)
    account.fill()
    refusals = account.refusals
    while account.theirs < 15:
        account.now += 1.0
        account.end()
        account.theirs += 1
        account.fill()
    assert account.refusals - refusals <= 5
    account.work(200)
    assert account.running == 10


def test_what_was_cut_too_deep_is_open_again_after_one_acceptance() -> None:
    """Two slots in a row were lost, so one more was given up; it was still ours."""
    account = Account(10)
    account.fill()
    for _ in range(2):
        account.end()
        account.theirs += 1
        account.fill()
    assert (account.running, account.learned.size) == (8, 7)
    account.end(2)
    refusals = account.refusals
    account.fill()
    assert (account.running, account.refusals) == (8, refusals)


def test_runs_that_were_on_their_way_tell_of_the_same_event() -> None:
    """Three refusals together lower the size once, not three times as hard."""
    account = grown(40)
    for _ in range(4):
        assert account.send()
    account.limit = 40
    for _ in range(4):
        assert not account.answer()
    assert account.learned.size == 40


def test_an_older_run_that_is_accepted_after_a_refusal_counts() -> None:
    """What runs may run, but one such Run is no reason to search on."""
    account = grown(40)
    assert account.send()
    assert account.send()
    account.limit = 40
    assert not account.answer()
    account.limit = 41
    assert account.answer()
    assert account.learned.size == 41
    account.learned._credit = 0.0
    assert not account.send()


def test_where_others_hold_everything_only_time_helps() -> None:
    """Tries are 2 s apart at first, and a minute in the end; one acceptance resets that."""
    account = Account(5)
    account.theirs = 5
    gaps = []
    for _ in range(14):
        assert account.send()
        assert not account.answer()
        assert not account.send()
        due = account.learned.next_try(account.now)
        assert due is not None
        gaps.append(due - account.now)
        account.now = due
    assert gaps[0] == 2.0
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60.0
    account.theirs = 0
    account.fill()
    assert account.running == 5
    assert account.learned._pause == 2.0


def test_a_run_that_was_dropped_leaves_no_trace() -> None:
    """Another error than code 96 says nothing about room."""
    account = Account(5)
    account.fill()
    account.end()
    assert account.send()
    account.pending -= 1
    account.learned.dropped()
    assert account.learned.size == 5
    assert account.send()


# -- money -----------------------------------------------------------------------------------------------


def test_our_own_spending_lowers_the_limit_without_a_refusal() -> None:
    """The balance is told with a refusal, and every cost is known: the limit follows by the rule."""
    account = Account(10, balance=Decimal("100.50"))
    account.fill()
    account.end(1, Decimal("0.50"))
    assert account.learned.limit == 10
    account.end(1, Decimal("0.01"))
    assert (account.learned.limit, account.learned.size) == (9, 9)
    account.end(1, None)
    assert account.learned.limit == 9


def test_what_others_spend_is_learned_from_two_refusals() -> None:
    """Between them the balance fell by twice what we paid, so each USD of ours stands for two."""
    learned = LearnedLimit()
    for balance in ("105", "101"):
        learned.submitted()
        learned.refused(0.0, 10, 10, Decimal(balance))
        learned.ended(Decimal(2))
    assert learned.limit == 9
    learned.submitted()
    learned.refused(0.0, 10, 20, Decimal(200))
    learned.ended(Decimal("0.1"))
    assert learned.limit == 19, "a top-up between them tells nothing about the others"


def test_our_spending_opens_no_room_where_others_hold_everything() -> None:
    """A lower limit leaves none of it to us either: only time helps."""
    learned = LearnedLimit()
    learned.submitted()
    learned.refused(0.0, 0, 10, Decimal(100))
    assert not learned.may_submit(0, 1.0)
    learned.ended(Decimal("0.01"))
    assert learned.limit == 9
    assert not learned.may_submit(0, 1.0)


def test_others_are_taken_to_spend_twenty_times_as_much_as_we_at_most() -> None:
    """One bill of theirs between two refusals does not take the whole limit away."""
    learned = LearnedLimit()
    for balance in ("245", "205"):
        learned.submitted()
        learned.refused(0.0, 10, None, Decimal(balance))
        learned.ended(Decimal(1))
    assert learned.limit == 18, "a tenth of 205 - 20"


def test_an_account_with_a_limit_of_its_own_does_not_follow_the_balance() -> None:
    """A limit that is not the rule's stays, whatever is spent."""
    account = Account(40, balance=Decimal(100))
    account.fill()
    account.end(1, Decimal(90))
    assert account.learned.limit == 40


def test_below_what_runs_a_limit_lets_nothing_go_until_enough_have_ended() -> None:
    """The others' part is what it was: it is not told where ours alone are too many."""
    account = Account(20)
    account.theirs = 4
    account.fill()
    account.limit = 10
    account.end()
    account.fill()
    assert account.learned.size == 6
    refusals = account.refusals
    account.end(9)
    account.fill()
    assert account.refusals == refusals
    account.end()
    account.fill()
    assert account.running == 6


# -- whatever happens ------------------------------------------------------------------------------------


def test_what_runs_already_is_no_room_to_search_for() -> None:
    """A batch that is taken up with all slots but one held asks rarely for the last, which is another's."""
    account = Account(6)
    account.theirs = 1
    for _ in range(5):
        account.adopt()
    assert account.learned.size == 5
    for _ in range(100):
        account.fill()
        account.now += 1.0
    assert account.refusals <= 3
    account.end(2)
    assert account.fill() == 0
    assert account.running == 5


def test_what_was_cut_too_deep_grows_back_to_what_was_there() -> None:
    """And not beyond it: more running than the size is no reason to ask for more."""
    learned = LearnedLimit()
    learned.size, learned._room, learned._searching, learned._credit = 1.0, 3.0, False, 0.0
    assert learned.may_submit(2, 0.0)
    assert not learned.may_submit(3, 0.0)


class Life(RuleBasedStateMachine):
    """Any account, any answers, in any order."""

    @initialize(
        limit=st.none() | st.integers(1, 30),
        balance=st.none() | st.decimals(0, 300, places=2),
    )
    def begin(self, limit: int | None, balance: Decimal | None) -> None:
        """Open an account."""
        self.account = Account(limit, balance=balance)

    @rule(number=st.integers(1, 10))
    def send(self, number: int) -> None:
        """Send a few Runs."""
        for _ in range(number):
            self.account.send()

    @rule(number=st.integers(1, 10))
    def answer(self, number: int) -> None:
        """Answer a few of them."""
        for _ in range(min(number, self.account.pending)):
            self.account.answer()

    @precondition(lambda self: self.account.pending)
    @rule()
    def drop(self) -> None:
        """Drop one of them."""
        self.account.pending -= 1
        self.account.learned.dropped()

    @rule()
    def adopt(self) -> None:
        """Take over a task of an earlier process."""
        self.account.adopt()

    @precondition(lambda self: self.account.running)
    @rule(cost=st.none() | st.decimals(0, 20, places=2))
    def end(self, cost: Decimal | None) -> None:
        """End a task."""
        self.account.end(1, cost)

    @rule(limit=st.none() | st.integers(1, 30), theirs=st.integers(0, 30))
    def change(self, limit: int | None, theirs: int) -> None:
        """Somebody pays in, spends, or takes slots."""
        self.account.limit = limit
        self.account.theirs = theirs

    @rule(seconds=st.floats(0, 1000))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.account.now += seconds

    @invariant()
    def the_size_is_sensible(self) -> None:
        """Never negative, never above the limit that was told."""
        learned = self.account.learned
        assert learned.size >= 0
        assert learned.limit is None or learned.size <= learned.limit
        assert abs(learned._credit) <= 2.0 + (1 / 56)

    @invariant()
    def a_client_without_tasks_can_always_go_on(self) -> None:
        """Now, or at the time that it is told."""
        learned, now = self.account.learned, self.account.now
        if self.account.active == 0 and not learned.may_submit(0, now):
            due = learned.next_try(now)
            assert due is not None
            assert now < due <= now + 60.0
            assert learned.may_submit(0, due)

    @invariant()
    def a_time_is_told_only_after_a_no(self) -> None:
        """And it is one at which the answer is yes."""
        learned, active, now = self.account.learned, self.account.active, self.account.now
        open_now = learned.may_submit(active, now)
        due = learned.next_try(now)
        assert due is None or (not open_now and learned.may_submit(active, due))


TestLife = Life.TestCase
TestLife.settings = examples(80, stateful_step_count=40)


@given(limit=st.integers(1, 25), theirs=st.integers(0, 15), seed=st.integers(0, 2**32))
@examples(30)
def test_at_steady_state_all_room_is_used(limit: int, theirs: int, seed: int) -> None:
    """Whatever others hold for good, the rest is found, and refusals keep to their budget."""
    account = Account(limit)
    account.theirs = min(theirs, limit - 1)
    account.fill()
    before, runs = account.refusals, account.runs
    account.work(500 + seed % 100)
    assert account.running == limit - account.theirs
    assert account.refusals - before <= (account.runs - runs) * (1 / 56) + 1 + 2.0


# -- the targets, in a short simulation ------------------------------------------------------------------

STEADY = {
    "limit 1", "limit 5", "limit 25", "limit 25, not told", "concurrency 10, limit 25",
    "unlimited, the client's own 200", "balance falls from $250 to $30", "the same at $0.28 a run",
}  # fmt: skip


@pytest.mark.parametrize("case", [case for case in CASES if case.name in STEADY], ids=lambda case: case.name)
def test_the_targets_are_reached(case: Case) -> None:
    """At most 2 % of the Runs refused, and at least 95 % of the slots in use."""
    result = simulate(case, seed=1)
    assert result.refused <= REFUSED_TARGET
    assert result.busy >= BUSY_TARGET


@pytest.mark.parametrize("limit", [5, 25])
def test_the_targets_are_reached_beside_other_programs(limit: int) -> None:
    """Which come and go, and hold 0 to 60 % of the limit, taking every slot the moment that it is free."""
    case = Case(name="", limit=limit, others="batches", runs=12000)
    result = simulate(case, seed=2)
    assert result.refused <= REFUSED_TARGET
    assert result.busy >= BUSY_TARGET


def test_the_naive_loop_is_refused_most_of_the_time() -> None:
    """Which is what the learning is for."""
    assert simulate(Case(name="", limit=5, runs=2000), seed=0, naive=True).refused > 0.9
