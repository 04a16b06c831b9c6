"""Iterations over a task's life and over the service's lists. None of them needs to be closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar, final

from wiro_async._errors import InvalidInput, InvalidResponse
from wiro_async._protocol.records import Transition

if TYPE_CHECKING:
    from wiro_async._protocol.events import TaskEvent
    from wiro_async._tasks.handle import TaskHandle

__all__ = ["NOTHING", "Events", "Listing", "Sidelines", "Transitions"]

T = TypeVar("T")

PAGE = 100
"""Entries to ask for at a time."""

MAX_REPEATS = 4
"""Pages in a row that may bring nothing new before the service is taken to ignore the paging."""

KEPT = 256
"""Events beside the statuses that are kept for iterations that are slow."""


@final
class Transitions:
    """An iteration over a task's transitions: ``async for transition in handle``.

    Raises ``TaskTimeout`` when the client's ``Limits.wait_timeout`` passes in waiting for one transition, and
    any ``WiroError`` that ends the watch for good. Leaving the loop early needs no clean-up.
    """

    __slots__ = ("_handle", "_seconds", "_seen")

    def __init__(self, handle: TaskHandle, seconds: float) -> None:
        self._handle: TaskHandle = handle
        self._seconds: float = seconds
        self._seen: int = 0

    def __aiter__(self) -> Transitions:
        return self

    async def __anext__(self) -> Transition:
        await self._handle._reach(self._is_there, self._seconds)
        if not self._is_there():
            raise StopAsyncIteration
        self._seen += 1
        return self._handle.transitions[self._seen - 1]

    def _is_there(self) -> bool:
        return self._seen < len(self._handle._history.steps)


@final
class Events:
    """An iteration over all that is told of a task: ``async for event in handle.events()``.

    Every status comes once, in order, as with ``Transitions``. Progress and lines of output come between them
    as the WebSocket tells them; without one there are none. Whoever is slow misses the older ones of these,
    never a status.
    """

    __slots__ = ("_handle", "_place", "_seconds", "_seen")

    def __init__(self, handle: TaskHandle, seconds: float) -> None:
        self._handle: TaskHandle = handle
        self._seconds: float = seconds
        self._seen: int = 0
        self._place: int = 0

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> TaskEvent:
        await self._handle._reach(self._is_there, self._seconds)
        if not self._is_there():
            raise StopAsyncIteration
        return self._take()

    def _is_there(self) -> bool:
        return self._seen < len(self._handle._history.steps) or self._place < self._handle._sidelines.end

    def _take(self) -> TaskEvent:
        """Return the next event: one that came after the statuses given out, or else the next status."""
        sidelines = self._handle._sidelines
        self._place = max(self._place, sidelines.begin)
        if self._place < sidelines.end:
            after, event = sidelines.at(self._place)
            if after <= self._seen:
                self._place += 1
                return event
        self._seen += 1
        return self._handle.transitions[self._seen - 1]


class Sidelines:
    """The newest of what a task's socket told beside the statuses: a window over a numbered sequence.

    Attributes:
        begin: The number of the oldest that is kept.
        end: One more than the number of the newest.
    """

    __slots__ = ("_kept", "begin", "end")

    def __init__(self) -> None:
        self._kept: list[tuple[int, TaskEvent]] = []
        self.begin: int = 0
        self.end: int = 0

    def add(self, after: int, event: TaskEvent) -> None:
        """Keep an event that came when *after* statuses were known, and drop the oldest of too many."""
        self._kept.append((after, event))
        self.end += 1
        if len(self._kept) > KEPT:
            del self._kept[: KEPT // 2]
            self.begin = self.end - len(self._kept)

    def at(self, number: int) -> tuple[int, TaskEvent]:
        """Return the event of that number, and how many statuses came before it."""
        return self._kept[number - self.begin]


NOTHING = Sidelines()
"""What a task has until its socket tells something beside the statuses."""


@final
class Listing(Generic[T]):
    """An iteration over one of the service's lists: ``async for task in client.list_tasks()``.

    Pages are fetched as the iteration needs them. Each entry comes once, although new ones push those already
    seen on to later pages. Leaving the loop early needs no clean-up; a call that fails raises its
    ``WiroError``, and the next step tries it again.

    Args:
        fetch: Returns the entries from *start* on, at most *limit* of them.
        identity: Tells entries apart.
        limit: How many entries to return at most (None: all).

    Raises:
        InvalidInput: The limit is not a whole number, or negative.
    """

    __slots__ = ("_fetch", "_identity", "_left", "_page", "_repeats", "_seen", "_start")

    def __init__(
        self,
        fetch: Callable[[int, int], Awaitable[list[T]]],
        identity: Callable[[T], Hashable],
        limit: int | None = None,
    ) -> None:
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput(
                f"limit is {limit!r}; give a whole number that is not negative, or None for all", name="limit"
            )
        self._fetch = fetch
        self._identity = identity
        self._left: int | None = limit
        self._start: int = 0
        self._seen: set[Hashable] = set()
        self._page: deque[T] = deque()
        self._repeats: int = 0

    def __aiter__(self) -> Listing[T]:
        return self

    async def __anext__(self) -> T:
        while not self._page and self._left != 0:
            # A page that is not full ends nothing: the service may grant less than it was asked for.
            page = await self._fetch(self._start, PAGE if self._left is None else min(self._left, PAGE))
            if not page:
                self._left = 0
                break
            self._start += len(page)
            new = {self._identity(item): item for item in page}
            self._page.extend(item for key, item in new.items() if key not in self._seen)
            self._seen |= new.keys()
            self._repeats = 0 if self._page else self._repeats + 1
            if self._repeats > MAX_REPEATS:
                raise InvalidResponse("the service's list tells the same entries again and again")
        if not self._page or self._left == 0:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= 1
        return self._page.popleft()
