"""One interface to the journal, whatever keeps it: steps are recorded, jobs are read."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Protocol, Self, TypeAlias

from wiro_async._errors import InvalidInput, JournalError
from wiro_async._journal.steps import (
    STATES,
    JournalCounts,
    JournalEntry,
    State,
    Step,
    UnchargedRun,
)
from wiro_async._types import JSON

__all__ = ["Conflict", "Entries", "Journal", "NullJournal"]

Page: TypeAlias = list[tuple[int, JournalEntry]]
"""Jobs by their numbers, in the order of arrival."""


class Conflict(JournalError):
    """A step contradicts what is recorded. It was not made, nor were those beside it; the journal is well.

    Attributes:
        held_by: The key and the attempt whose task it is, where the step names another attempt's task (None:
            it is wrong in another way).
    """

    def __init__(self, message: str, *, path: str, held_by: tuple[str, int] | None = None) -> None:
        super().__init__(message, path=path, reason="conflict")
        self.held_by: tuple[str, int] | None = held_by


class Journal(Protocol):
    """Where steps are recorded, for one event loop and one process."""

    @property
    def path(self) -> str:
        """Where it is ("" for one that keeps nothing)."""
        ...

    @property
    def durable(self) -> bool:
        """Whether the next process will find what is recorded now."""
        ...

    @property
    def tag(self) -> str:
        """What its Runs' markers begin with, the same in copies of it ("" for one that keeps nothing)."""
        ...

    async def record(self, *steps: Step) -> None:
        """Record steps: all of them or, where one cannot be made, none. They are durable when this returns.

        If the caller is cancelled while it waits, it does not learn of the write, but the write is made.

        Raises:
            InvalidInput: A key, an input or what was learned has no form that can be recorded.
            Conflict: A step contradicts what is recorded, such as a new Run for a job whose last one may be
                paid for; or it names another attempt than the latest, or a task that is another attempt's.
            JournalError: Nothing can be written any more.
        """
        ...

    async def find(self, key: str, /) -> JournalEntry | None:
        """Return one job (None: there is no such key)."""
        ...

    def entries(self, *states: State) -> AsyncIterator[JournalEntry]:
        """Iterate over the jobs in these states, one state after the other, or over all jobs.

        Raises:
            InvalidInput: There is no such state.
        """
        ...

    async def counts(self) -> JournalCounts:
        """Count all jobs, and add up what they cost."""
        ...

    async def url_of(self, sha256: str, /) -> str | None:
        """Return where that content was uploaded to (None: nowhere, or too long ago to be trusted)."""
        ...

    async def uncharged(self) -> Sequence[UnchargedRun]:
        """Return attempts whose tasks have ended, and whose charges are not recorded yet."""
        ...

    async def task_ids(self) -> Sequence[str]:
        """Return the tasks that a lost answer might be mistaken for, oldest first."""
        ...

    async def newest(self) -> float | None:
        """Return when its newest Run was sent, or it was confirmed, in unix seconds (None: it has no Run)."""
        ...

    async def known(self, tasks: Sequence[tuple[str, str]], /) -> frozenset[str]:
        """Return the ids of those tasks, given with their markers, that it knows or was confirmed without."""
        ...

    async def load_stats(self, name: str, /) -> JSON:
        """Return what was learned under that name ({}: nothing)."""
        ...

    async def aclose(self) -> None:
        """Close it; again does no harm."""
        ...


class NullJournal:
    """Records nothing and knows nothing: what a batch has that was given no journal."""

    path: str = ""
    durable: bool = False
    tag: str = ""

    async def record(self, *steps: Step) -> None:
        """Record nothing."""

    async def find(self, _: str) -> JournalEntry | None:
        """Return None."""
        return None

    def entries(self, *states: State) -> Entries:
        """Iterate over nothing."""

        async def nothing(_: State | None, __: int) -> Page:
            return []

        return Entries(nothing, states)

    async def counts(self) -> JournalCounts:
        """Count nothing."""
        return JournalCounts(dict.fromkeys(STATES, 0), Decimal(0))

    async def url_of(self, _: str) -> str | None:
        """Return None."""
        return None

    async def uncharged(self) -> Sequence[UnchargedRun]:
        """Return nothing."""
        return ()

    async def task_ids(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    async def newest(self) -> None:
        """Return None."""

    async def known(self, _: Sequence[tuple[str, str]]) -> frozenset[str]:
        """Return nothing."""
        return frozenset()

    async def load_stats(self, _: str) -> JSON:
        """Return nothing."""
        return {}

    async def aclose(self) -> None:
        """Do nothing."""


class Entries:
    """Jobs of a journal, read as they are needed. It holds nothing, so that it can be left at any time.

    Args:
        read: Reads the next jobs in a state (None: in any) after the one of that number.
        states: The states (none: all).

    Raises:
        InvalidInput: There is no such state.
    """

    def __init__(self, read: Callable[[State | None, int], Awaitable[Page]], states: Sequence[State]) -> None:
        unknown = [state for state in states if state not in STATES]
        if unknown:
            raise InvalidInput(f"the state {unknown[0]!r} is none of {', '.join(STATES)}", name="state")
        self._read = read
        self._states: deque[State | None] = deque(dict.fromkeys(states) or [None])
        self._last: int = 0
        self._page: deque[tuple[int, JournalEntry]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JournalEntry:
        while not self._page:
            if not self._states:
                raise StopAsyncIteration
            page = await self._read(self._states[0], self._last)
            if page:
                self._page.extend(page)
            else:
                self._states.popleft()
                self._last = 0
        self._last, entry = self._page.popleft()
        return entry
