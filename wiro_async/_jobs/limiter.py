"""The account's limit on concurrent tasks: learned from refusals, and respected by every submit.

The limit is ``max(1, floor(balance / 10 USD))``, none above 250 USD; all programs on the account share it.
The service reveals it only in a refusal (code 96), so it has to be learned: ``LearnedLimit`` rises while Runs
are accepted, drops on a refusal, and probes for more room only as often as its refusal budget allows. One
``ConcurrencyLimiter`` per client applies it to single calls and batches.
"""

from __future__ import annotations

import math
import random
import re
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import attrs

from wiro_async._aio import Alarm, now
from wiro_async._errors import ConcurrencyLimited
from wiro_async._http.retry import RUNS

__all__ = ["ConcurrencyLimiter", "LearnedLimit", "Line", "Slot", "limit_of"]

FIRST_ASKING = 2.0
LONGEST_ASKING = 20.0
"""Seconds after a refusal until a single call retries although no task of ours has ended: other programs'
tasks end unseen. With 25 % jitter; 1.5 times as long each time."""

_BALANCE = re.compile(r"\$(\d[\d,]{0,15}(?:\.\d{1,9})?)")


class ConcurrencyLimiter:
    """Lets Runs leave as the account's limit allows.

    All state is changed between awaits. Waiters queue in a ``Line``; every change wakes the head of each
    line, which decides for itself, so that a change costs the same however many wait.

    Args:
        width: How many Runs of single calls may be in flight before the limit is first hit.
        chance: A source of random numbers between 0 and 1.

    Attributes:
        learned: What is known of the limit.
        active: How many Runs and tasks of this client hold a slot, as far as known.
    """

    def __init__(self, width: int, chance: Callable[[], float] = random.random) -> None:
        self._width = width
        self._chance = chance
        self._changed: Alarm = Alarm()
        self._met: bool = False
        self._asking: float = FIRST_ASKING
        self._ask_at: float = -math.inf
        self._rest_until: float = -math.inf
        self._unreachable: bool = False
        self._doubts: int = 0
        self._sending: int = 0
        self.learned: LearnedLimit = LearnedLimit()
        self.active: int = 0

    def change(self) -> None:
        """Wake the head of each line: something has changed that it may be waiting for."""
        self._changed.ring()

    def is_open(self, time: float, *, eager: bool) -> bool:
        """Whether one more Run may leave at *time*, now; *eager* is for single calls, see ``Line``."""
        if time < self._rest_until or (self._unreachable and self._sending):
            return False
        if self.learned.may_submit(self.active, time):
            return True
        if not eager:
            return False
        # Until a refusal the callers of single Runs decide how many there are. After it, the first in line
        # asks now and then, whatever is known: a web request must not wait for a long task of ours to end
        # when another program's slot has come free.
        return self._sending < self._width if not self._met else time >= self._ask_at and not self._sending

    def next_try(self, time: float, *, eager: bool) -> float:
        """Return when to ask ``is_open`` again if nothing changes, on the event loop's clock.

        Args:
            time: The very reading of the clock at which it was not open. A later one may be past the end of a
                rest that has kept it shut, and nothing else would wake whoever waits.
            eager: As there.
        """
        if time < self._rest_until:
            return self._rest_until
        if self._unreachable and self._sending:
            return math.inf  # An answer is a change.
        learned = self.learned.next_try(time)
        due = math.inf if learned is None else learned
        return min(due, max(self._ask_at, time)) if eager and self._met and not self._sending else due

    async def wait(self, until: float) -> None:
        """Wait for a change, or *until* a time on the event loop's clock."""
        await self._changed.sleep_until(until)

    # -- what becomes of a Run ---------------------------------------------------------------------------

    def sent(self) -> None:
        """A Run leaves."""
        self.learned.submitted()
        self.active += 1
        self._sending += 1

    def answered(self, *, reached: bool) -> None:
        """A Run is no longer in flight; *reached*: the service itself answered."""
        self._sending -= 1
        self._unreachable = self._unreachable and not reached

    def doubted(self) -> None:
        """Nobody knows what became of a Run; the more of these in a row, the longer the next one waits.

        Each of them may have to be paid, and is searched for: an outage is not answered with thousands.
        """
        self.answered(reached=False)
        self._doubts += 1
        self._rest_until = max(self._rest_until, now() + RUNS.pause(self._doubts, self._chance()))
        self.learned.dropped()
        self.change()

    def accepted(self) -> None:
        """A Run was accepted: its task is running."""
        self._doubts = 0
        self.answered(reached=True)
        self._asking = FIRST_ASKING
        self.learned.accepted()
        self.change()

    def refused(self, error: ConcurrencyLimited) -> None:
        """A Run was refused with code 96, and its slot released."""
        self.answered(reached=True)
        self._met = True
        self._ask_at = now() + self._asking * (0.75 + self._chance() / 2)
        self._asking = min(self._asking * 1.5, LONGEST_ASKING)
        balance = _BALANCE.search(error.detail)
        self.learned.refused(
            now(), self.active, error.limit, Decimal(balance[1].replace(",", "")) if balance else None
        )
        self.change()

    def ended(self, cost: Decimal | None) -> None:
        """A task has ended, and its slot was released."""
        self._ask_at = -math.inf
        self.learned.ended(cost)
        self.change()

    def rest(self, seconds: float) -> None:
        """Send no Runs for a while, then one at a time until the service answers.

        The service was unreachable, or asked for it.
        """
        self._rest_until = max(self._rest_until, now() + seconds)
        self._unreachable = True


class Slot:
    """One of the account's slots for concurrent tasks, from before the Run to the task's end.

    Its Run is in flight, in doubt, or has become a running task; then the slot is released.
    """

    __slots__ = ("_line", "_stage")

    def __init__(self, line: Line) -> None:
        self._line: Line | None = line
        self._stage: Literal["sending", "in doubt", "runs"] = "sending"

    @property
    def _limiter(self) -> ConcurrencyLimiter:
        assert self._line is not None
        return self._line.limiter

    def accepted(self) -> None:
        """The Run was accepted: its task is running."""
        self._stage = "runs"
        self._limiter.accepted()

    def doubted(self) -> None:
        """The Run's outcome is unknown: its task may hold the slot."""
        if self._line is not None and self._stage == "sending":
            self._limiter.doubted()
        self._stage = "in doubt"

    def found(self) -> None:
        """The task is known, and running."""
        self._stage = "runs"
        self._limiter.learned.adopted(self._limiter.active)

    def refused(self, error: ConcurrencyLimited) -> None:
        """The Run was refused with code 96."""
        limiter = self._limiter
        self._give_back()
        limiter.refused(error)

    def release(self, cost: Decimal | None = None, *, reached: bool = False) -> None:
        """Release the slot: the Run has no task, or its task has ended. Safe to repeat.

        Args:
            cost: What the task cost in USD (None: unknown).
            reached: Whether the service itself refused the Run.
        """
        if self._line is None:
            return
        limiter = self._limiter
        self._give_back()
        if self._stage == "runs":
            limiter.ended(cost)
            return
        if self._stage == "sending":
            limiter.answered(reached=reached)
            limiter.learned.dropped()
        limiter.change()

    def _give_back(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.held -= 1
            line.limiter.active -= 1

    def __del__(self) -> None:
        # Somebody let go of a task's handle, and nobody will see its end: it counts as another program's from
        # here on. Nobody is woken, for this may be any thread, at any moment.
        if self._stage == "runs":
            self._give_back()


class Line:
    """The queue for slots of one batch, or of all single calls of a client: first come, first served.

    Args:
        limiter: The client's limiter.
        eager: Whether these are single calls. Their callers decide how many there are, and wait for each; a
            batch's jobs only need to finish eventually, and keep refusals rare.

    Attributes:
        limiter: The client's limiter.
        held: How many slots this line holds.
    """

    def __init__(self, limiter: ConcurrencyLimiter, *, eager: bool = False) -> None:
        self.limiter: ConcurrencyLimiter = limiter
        self.held: int = 0
        self._eager = eager
        # Those that had a slot before go before all that had none.
        self._returned: deque[Alarm] = deque()
        self._new: deque[Alarm] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._returned) + len(self._new)

    def take(self) -> Slot:
        """Take a slot for a Run that leaves now; its outcome must be reported to the slot."""
        self.limiter.sent()
        self.held += 1
        return Slot(self)

    def adopt(self) -> Slot:
        """Take a slot for a running task."""
        self.limiter.active += 1
        self.held += 1
        slot = Slot(self)
        slot.found()
        return slot

    async def enter(
        self,
        may: Callable[[], bool] | None = None,
        check: Callable[[], object] | None = None,
        *,
        again: bool = False,
        until: float = math.inf,
    ) -> Slot | None:
        """Wait for a slot.

        Args:
            may: Any other condition, such as money; called when there is a slot, and may raise.
            check: Raises when waiting is no longer useful; called at every change.
            again: Whether this job had a slot before.
            until: When to give up, on the event loop's clock.

        Returns:
            The slot (None: none became free in time).
        """
        if until <= now():
            return None
        if not self.waiting and isinstance(tried := self._try(may, check), Slot):
            return tried
        ticket, queue = Alarm(), self._returned if again else self._new
        queue.append(ticket)
        try:
            while True:
                if (self._returned or self._new)[0] is ticket:
                    tried = self._try(may, check)
                    if isinstance(tried, Slot):
                        return tried
                    await self.limiter.wait(min(tried, until))
                else:
                    await ticket.sleep_until(until)
                if now() >= until:
                    return None
        finally:
            queue.remove(ticket)
            if self.waiting:
                (self._returned or self._new)[0].ring()
                # It may have been the first before, and still wait for a change.
                self.limiter.change()

    def _try(self, may: Callable[[], bool] | None, check: Callable[[], object] | None) -> Slot | float:
        """Return a slot, or when to try again if nothing changes until then."""
        if check is not None:
            check()
        # Perhaps nobody polls the tasks of single calls: a batch without its own would wait for good.
        eager = self._eager or (not self.held and self.limiter.active > 0)
        time = now()
        if not self.limiter.is_open(time, eager=eager):
            return self.limiter.next_try(time, eager=eager)
        return self.take() if may is None or may() else math.inf


# -- learning the limit ----------------------------------------------------------------------------------

REFUSALS_PER_RUN = 1 / 56
"""The refusal budget of probes: one in 56 accepted Runs. With unpredictable refusals the total stays below
one in 50."""

MOST_CREDIT = 2.0
"""How many refusals may be saved up, or owed: a burst is forgotten after 168 accepted Runs."""

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
"""Seconds to wait after a refusal while none of our tasks runs: only time can help then."""

FIRST_RAISE = 60.0
LONGEST_RAISE = 600.0
"""Seconds to wait before probing above the reported limit: a top-up raises it."""

MOST_SPENDING = Decimal(20)
"""The highest assumed USD spent by all programs for each USD of ours."""

PER_USD = Decimal("0.10")
UNLIMITED_ABOVE = Decimal(250)

SLOW_START = 50
"""Up to this size probing is careful; an account running twice the highest limit is unlimited."""


def limit_of(balance: Decimal) -> int | None:
    """Return how many tasks a balance in USD allows (None: no limit), by the service's documented rule."""
    return None if balance > UNLIMITED_ABOVE else max(1, int(max(balance, Decimal(0)) * PER_USD))


@attrs.define
class LearnedLimit:
    """Learns how many of our tasks may run at a time. Pure: times, refusals and ends in, decisions out.

    Its driver calls ``may_submit`` before every Run, reports each Run as ``submitted`` and then ``accepted``,
    ``refused`` or ``dropped``, and each task that has ``ended``. Times are seconds on any monotonic clock.

    Three states of knowledge, and how each probes for room:

    - No limit reported: by one per round trip, then by an eighth, and by a half beyond 50.
    - A limit reported, partly ours: other programs hold the rest. One Run above the size is tried for every
      56 accepted; if it is accepted, the next follows at once.
    - The whole limit is ours: only a top-up can help, so probes are also 1 to 10 minutes apart.

    A refusal below the size means that another program took one of our slots: the size drops to the number
    running, and on consecutive refusals below that, by 1, 2, 4, …; a cut that was too deep is undone after
    the next acceptance. Our spending lowers the limit as the balance falls, without a refusal; others are
    assumed to spend in the same ratio as between the last two refusals.

    Attributes:
        size: How many of our tasks may run at a time, as far as known.
        limit: The limit for all programs on the account (None: unknown, or none).
    """

    size: float = attrs.field(default=1.0, init=False)
    limit: int | None = attrs.field(default=None, init=False)
    _balance: Decimal | None = attrs.field(default=None, init=False)
    _told_balance: Decimal | None = attrs.field(default=None, init=False)
    _spent: Decimal = attrs.field(default=Decimal(0), init=False)  # by us, since then
    _ratio: Decimal = attrs.field(default=Decimal(1), init=False)  # what all spend for each USD of ours
    _active: int = attrs.field(default=0, init=False)
    _pending: int = attrs.field(default=0, init=False)
    # Of those that are pending, how many left before the last refusal was known: they tell of the same event.
    _older: int = attrs.field(default=0, init=False)
    _lost: int = attrs.field(default=0, init=False)  # refusals in a row below the size
    _room: float = attrs.field(default=0.0, init=False)  # up to where a cut size may grow back
    _searching: bool = attrs.field(default=True, init=False)
    _credit: float = attrs.field(default=1.0, init=False)
    _again_at: float | None = attrs.field(default=None, init=False)
    _retry_at: float = attrs.field(default=float("-inf"), init=False)
    _pause: float = attrs.field(default=FIRST_PAUSE, init=False)
    _raise_at: float = attrs.field(default=float("-inf"), init=False)
    _patience: float = attrs.field(default=FIRST_RAISE, init=False)

    def may_submit(self, active: int, now: float) -> bool:
        """Whether one more Run may be sent.

        Args:
            active: How many of ours are running or being submitted.
            now: The time, in seconds.
        """
        self._active = active
        self._again_at = None
        return active < int(self.size) or self._may_search(now)

    def next_try(self, now: float) -> float | None:
        """Return when to ask again if nothing happens until then.

        Args:
            now: The time, in seconds.

        Returns:
            A time, *now* or later; None if only a response or an end can help.
        """
        return None if self._again_at is None else max(self._again_at, now)

    # -- what happens ------------------------------------------------------------------------------------

    def adopted(self, active: int) -> None:
        """Note a task that is already running, one of *active*: that many may run."""
        self._active = active
        self._learn_that(active - self._pending)

    def submitted(self) -> None:
        """Note a Run that leaves."""
        self._active += 1
        self._pending += 1

    def accepted(self) -> None:
        """Note that a Run was accepted: all known tasks run, so that many may."""
        older = self._answered()
        running = self._active - self._pending
        self._learn_that(running)
        self._searching = self._searching or (running > self._room and not older)
        self._lost = 0
        self._pause = FIRST_PAUSE
        self._credit = min(self._credit + REFUSALS_PER_RUN, MOST_CREDIT)

    def refused(self, now: float, active: int, limit: int | None, balance: Decimal | None) -> None:
        """Note that a Run was refused with code 96.

        Args:
            now: The time, in seconds.
            active: How many of ours are running or being submitted, without this one.
            limit: The limit that the refusal reports (None: none).
            balance: The balance in USD that the refusal reports (None: none).
        """
        older = self._answered()
        self._active = active
        running = max(active - self._pending, 0)
        foreign = 0.0 if self.limit is None else self.limit - self.size
        self._told(limit, balance)
        # What the others hold is not told where ours alone reach the limit.
        over = self.limit is not None and running >= self.limit
        room = max((self.limit or 0) - foreign, 0.0) if over else float(running)
        cut = 0.0 if older else self._lose(running)
        self.size = max(min(self.size, room) - cut, 0.0)
        self._room = room
        self._searching = False
        self._credit = max(self._credit - 1.0, -MOST_CREDIT)
        self._wait(now)

    def dropped(self) -> None:
        """Note that a Run was neither: another error, or unknown."""
        self._answered()
        self._active = max(self._active - 1, 0)

    def ended(self, cost: Decimal | None = None) -> None:
        """Note that one of our tasks has ended.

        Args:
            cost: What it cost in USD (None: unknown), which lowers the balance, and so the limit.
        """
        self._active = max(self._active - 1, 0)
        if self._balance is None or self.limit is None or cost is None:
            return
        self._spent += cost
        self._balance -= cost * self._ratio
        limit = min(limit_of(self._balance) or self.limit, self.limit)
        self.size = max(self.size - (self.limit - limit), 0.0)
        self.limit = limit

    # -- the search for room -----------------------------------------------------------------------------

    def _may_search(self, now: float) -> bool:
        """Whether a Run above the size may be sent, to probe for room."""
        if self._pending >= self._width():
            return False
        if self._active == 0:
            return self._is_time(self._retry_at, now)
        if self.limit is not None and self.size >= self.limit:
            return self._credit >= 1.0 and self._is_time(self._raise_at, now)
        grows_back = self._lost == 0 and self.size < self._room and self._active < self._room
        return self._searching or grows_back or self._credit >= 1.0

    def _width(self) -> int:
        """Return how many Runs may be in flight when one of them is above the size."""
        if self.limit is not None or not self._searching:
            return 1
        return max(1, int(self.size / (2 if self.size > SLOW_START else 8)))

    def _is_time(self, due: float, now: float) -> bool:
        self._again_at = due if now < due else None
        return now >= due

    # -- what is learned ---------------------------------------------------------------------------------

    def _learn_that(self, running: int) -> None:
        """Learn that *running* of ours can run."""
        if self.limit is not None and running > self.limit:
            self.limit = self._balance = None
            self._patience = FIRST_RAISE
        self.size = max(self.size, float(running))

    def _answered(self) -> bool:
        """Count a Run's response; return whether it left before the last refusal was known."""
        self._pending = max(self._pending - 1, 0)
        older = self._older > 0
        self._older -= older
        return older

    def _told(self, limit: int | None, balance: Decimal | None) -> None:
        """Learn the limit from a refusal: the reported number, else the one from the rule."""
        if balance is not None and self._told_balance is not None and self._spent > 0:
            # Below 1 somebody has paid in, and the share of the others' spending cannot be told.
            ratio = (self._told_balance - balance) / self._spent
            self._ratio = min(ratio, MOST_SPENDING) if ratio >= 1 else self._ratio
        self._told_balance, self._spent = balance, Decimal(0)
        ruled = None if balance is None else limit_of(balance)
        self.limit = ruled if limit is None else max(limit, 1)
        # An account with a limit of its own does not follow the rule, so its balance tells nothing.
        self._balance = balance if ruled is not None and ruled == self.limit else None

    def _lose(self, running: int) -> float:
        """Count consecutive refusals below the size; return how many extra slots to give up."""
        self._older = self._pending
        self._lost = self._lost + 1 if running < int(self.size) else 0
        return 2.0 ** min(self._lost - 2, 16) if self._lost > 1 else 0.0

    def _wait(self, now: float) -> None:
        """Set when time alone is a reason to retry."""
        self._retry_at = now + self._pause
        if self._active == 0:
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        self._raise_at = now + self._patience
        if self.limit is not None and self.size >= self.limit:
            self._patience = min(self._patience * 2.0, LONGEST_RAISE)
