"""Who may submit next: the account's window, the budget and the room for what comes after, in one line.

First come, first served; whoever was through before goes before all that were not. Only the first in line
asks whether there is room, so that a change costs the same however many wait.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from decimal import Decimal

import anyio

from wiro_async._errors import ConcurrencyLimited
from wiro_async._jobs.window import Window

__all__ = ["Bell", "ConcurrencyLimiter"]

_BALANCE = re.compile(r"\$(\d[\d,]{0,15}(?:\.\d{1,9})?)")


class Bell:
    """Wakes all who wait for a change; they look for themselves what has changed."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake all who wait."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self, until: float | None = None) -> None:
        """Wait for the next ring, at most *until* that time of the event loop's clock."""
        if self._event is None:
            self._event = anyio.Event()
        with anyio.CancelScope(deadline=float("inf") if until is None else until):
            await self._event.wait()


class _Ticket:
    """A place in the line."""

    __slots__ = ("called",)

    def __init__(self) -> None:
        self.called: anyio.Event = anyio.Event()

    async def wait(self) -> None:
        """Wait to be the first."""
        self.called = anyio.Event()
        await self.called.wait()


class ConcurrencyLimiter:
    """Lets jobs through to their Runs.

    Args:
        window: How many tasks may run at a time.
        bell: Rung at every change.

    Attributes:
        active: How many are through and not over: being submitted, or running.
    """

    def __init__(self, window: Window, bell: Bell) -> None:
        self._window = window
        self._bell = bell
        self._line: deque[_Ticket] = deque()
        self._rest_until: float = float("-inf")
        self.active: int = 0

    async def enter(
        self, may: Callable[[], bool], check: Callable[[], object], *, again: bool = False
    ) -> None:
        """Wait for a turn; whoever got one must report what became of it.

        Args:
            may: What else must be so, such as the money; it is asked when there is room, and may raise.
            check: Raises when waiting has no use any more; it is called at every change.
            again: Whether this one was through before.
        """
        ticket = _Ticket()
        (self._line.appendleft if again else self._line.append)(ticket)
        try:
            await self._wait_for_turn(ticket, may, check)
            self._window.submitted(anyio.current_time())
            self.active += 1
        finally:
            self._line.remove(ticket)
            if self._line:
                self._line[0].called.set()

    async def _wait_for_turn(
        self, ticket: _Ticket, may: Callable[[], bool], check: Callable[[], object]
    ) -> None:
        while True:
            if self._line[0] is not ticket:
                await ticket.wait()
                continue
            check()
            if self._is_open() and may():
                return
            await self._bell.wait(self._next_try())

    def _is_open(self) -> bool:
        now = anyio.current_time()
        return now >= self._rest_until and self._window.may_submit(self.active, now)

    def _next_try(self) -> float | None:
        now = anyio.current_time()
        if now < self._rest_until:
            return self._rest_until
        return self._window.next_try(now)

    # -- what became of it -------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Count a task that runs already."""
        self._window.adopted()
        self.active += 1

    def accepted(self) -> None:
        """The Run was accepted: its task runs."""
        self._window.accepted(anyio.current_time())
        self._bell.ring()

    def refused(self, error: ConcurrencyLimited) -> None:
        """The Run was refused with code 96."""
        self.active -= 1
        self._window.refused(anyio.current_time(), self.active, error.limit, _balance_in(error.detail))
        self._bell.ring()

    def dropped(self) -> None:
        """The Run came to nothing for another reason."""
        self.active -= 1
        self._window.dropped(anyio.current_time())
        self._bell.ring()

    def ended(self, cost: Decimal | None = None) -> None:
        """The task is over."""
        self.active -= 1
        self._window.ended(anyio.current_time(), cost)
        self._bell.ring()

    def rest(self, seconds: float) -> None:
        """Let nobody through for a while: the service is not to be reached."""
        self._rest_until = max(self._rest_until, anyio.current_time() + seconds)
        self._bell.ring()


def _balance_in(message: str) -> Decimal | None:
    """Return the balance in USD that a refusal names."""
    found = _BALANCE.search(message)
    return None if found is None else Decimal(found[1].replace(",", ""))
