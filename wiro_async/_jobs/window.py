"""How many tasks of ours may run at a time. Pure: times, refusals and ends in, decisions out.

The account's limit is ``max(1, floor(balance / 10 USD))``, and none above 250 USD; every program on the
account takes slots from it. It is told only with a refusal (code 96), so it has to be learned: the window
opens while Runs are accepted, closes at a refusal, and looks for more room no more often than its budget of
refusals allows.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

__all__ = ["Window", "limit_of"]

REFUSALS_PER_RUN = 1 / 56
"""How many refusals the search for room may cost: one in 56 accepted Runs. With those that nobody can foresee
it stays below one in 50."""

MOST_CREDIT = 2.0
"""How many refusals may be saved up, or owed: a storm is forgotten after 168 accepted Runs."""

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
"""How long to wait after a refusal while nothing of ours runs, in seconds: only time can help then."""

FIRST_RAISE = 60.0
LONGEST_RAISE = 600.0
"""How long to wait before asking for more than the limit that was told, in seconds: a top-up raises it."""

MOST_SPENDING = Decimal(20)
"""At most so many USD are taken to be spent by all for each USD of ours."""

PER_USD = Decimal("0.10")
UNLIMITED_ABOVE = Decimal(250)

SLOW_START = 50
"""Up to this size the search is careful; an account of which twice the highest limit runs has none."""


def limit_of(balance: Decimal) -> int | None:
    """Return how many tasks a balance in USD allows (None: any number), by the service's documented rule."""
    return None if balance > UNLIMITED_ABOVE else max(1, int(max(balance, Decimal(0)) * PER_USD))


@attrs.define
class Window:
    """Learns how many tasks may run at a time: "auto" concurrency, or a ceiling on it.

    Its driver asks ``may_submit`` before every Run, and tells of the ``submitted`` one, and then that it was
    ``accepted``, ``refused`` or ``dropped``; and of every task that has ``ended``. Each event comes with its
    time, in seconds on any clock that never goes back.

    Three states of knowledge, and how each looks for room:

    - No limit was told: by one a round trip, then by an eighth, and by a half beyond 50.
    - A limit was told and part of it is ours: other programs hold the rest. One Run above the size is tried
      for every 56 accepted; where it is accepted, the next at once.
    - All of the limit is ours: only a top-up can help, so the tries are 1 to 10 minutes apart as well.

    A refusal below the size means that somebody took a slot that was ours: the size falls to what runs, and
    at refusals in a row below that, by 1, 2, 4, …; what was cut too deep is open again after the next
    acceptance. What we spend lowers the limit as the balance falls, without a refusal; what others spend is
    taken to go with it, as between the last two refusals.

    Attributes:
        ceiling: The most that may run (None: as many as the account allows).
        size: How many of ours may run at a time, as far as is known.
        limit: How many of all programs on the account may (None: not known, or none).
    """

    ceiling: int | None = None
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
            active: How many of ours run or are being submitted.
            now: The time, in seconds.
        """
        self._active = active
        self._again_at = None
        if self.ceiling is not None and active >= self.ceiling:
            return False
        return active < int(self.size) or self._may_search(now)

    def next_try(self, now: float) -> float | None:
        """Return when to ask again, after a no, if nothing happens until then.

        Args:
            now: The time, in seconds.

        Returns:
            A time, *now* or later; None where only an answer or an end can help.
        """
        return None if self._again_at is None else max(self._again_at, now)

    # -- what happens ------------------------------------------------------------------------------------

    def adopted(self) -> None:
        """Take note of a task that runs already: so many may."""
        self._active += 1
        self._learn_that(self._active - self._pending)

    def submitted(self, _now: float) -> None:
        """Take note of a Run that leaves."""
        self._active += 1
        self._pending += 1

    def accepted(self, _now: float) -> None:
        """Take note that a Run was accepted: all that we know of run, and so many may."""
        older = self._answered()
        running = self._active - self._pending
        self._learn_that(running)
        self._searching = self._searching or (running > self._room and not older)
        self._lost = 0
        self._pause = FIRST_PAUSE
        self._credit = min(self._credit + REFUSALS_PER_RUN, MOST_CREDIT)

    def refused(self, now: float, active: int, limit: int | None, balance: Decimal | None) -> None:
        """Take note that a Run was refused with code 96.

        Args:
            now: The time, in seconds.
            active: How many of ours run or are being submitted, without this one.
            limit: How many may run, as the refusal says (None: it does not).
            balance: The balance in USD, as the refusal says (None: it does not).
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

    def dropped(self, _now: float) -> None:
        """Take note that a Run was neither: another error, or nobody knows."""
        self._answered()
        self._active = max(self._active - 1, 0)

    def ended(self, _now: float, cost: Decimal | None = None) -> None:
        """Take note that a task of ours is over.

        Args:
            cost: What it cost in USD (None: not known), which lowers the balance, and so the limit.
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
        """Whether a Run above the size may be sent, to see whether there is room."""
        if self._pending >= self._width():
            return False
        if self._active == 0:
            return self._is_time(self._retry_at, now)
        if self.limit is not None and self.size >= self.limit:
            return self._credit >= 1.0 and self._is_time(self._raise_at, now)
        grows_back = self._lost == 0 and self.size < self._room and self._active < self._room
        return self._searching or grows_back or self._credit >= 1.0

    def _width(self) -> int:
        """Return how many Runs may be on their way when one of them is above the size."""
        if self.limit is not None or not self._searching:
            return 1
        return max(1, int(self.size / (2 if self.size > SLOW_START else 8)))

    def _is_time(self, due: float, now: float) -> bool:
        self._again_at = due if now < due else None
        return now >= due

    # -- what is learned ---------------------------------------------------------------------------------

    def _learn_that(self, running: int) -> None:
        """So many of ours run at a time."""
        if self.limit is not None and running > self.limit:
            self.limit = self._balance = None
            self._patience = FIRST_RAISE
        self.size = max(self.size, float(running))

    def _answered(self) -> bool:
        """Count a Run's answer; say whether it left before the last refusal was known."""
        self._pending = max(self._pending - 1, 0)
        older = self._older > 0
        self._older -= older
        return older

    def _told(self, limit: int | None, balance: Decimal | None) -> None:
        """Learn the limit from a refusal: the number that it says, or else the one that the rule gives."""
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
        """Count refusals in a row below the size; return how many slots to give up beyond the lost one."""
        self._older = self._pending
        self._lost = self._lost + 1 if running < int(self.size) else 0
        return 2.0 ** min(self._lost - 2, 16) if self._lost > 1 else 0.0

    def _wait(self, now: float) -> None:
        """Say when time alone is a reason to try again."""
        self._retry_at = now + self._pause
        if self._active == 0:
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        self._raise_at = now + self._patience
        if self.limit is not None and self.size >= self.limit:
            self._patience = min(self._patience * 2.0, LONGEST_RAISE)
