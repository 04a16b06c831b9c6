"""Iterations over a task's life, and over the service's lists. None needs to be closed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar, final

from wiro_async._errors import InvalidInput
from wiro_async._protocol.records import Transition

if TYPE_CHECKING:
    from wiro_async._protocol.events import TaskEvent
    from wiro_async._tasks.state import Obstacle, TaskState

__all__ = ["MAX_REPEATS", "Events", "Listing", "Transitions"]

T = TypeVar("T")

PAGE_SIZE = 100
"""How many items a page has at most."""

MAX_REPEATS = 4
"""Pages in a row that may bring nothing new, until the list is taken for one that ignores where to start."""


@final
class Transitions:
    """An iteration over a task's transitions: ``async for transition in handle``.

    Raises ``TaskTimeout`` when the client's ``Limits.wait_timeout`` passes in waiting for one transition,
    ``TaskStalled`` when the task stands in ``task_error`` for ``Limits.error_grace``, and any ``WiroError``
    that ends the watch for good. Leaving the loop early needs no clean-up.

    Do not instantiate directly.
    """

    __slots__ = ("_seconds", "_seen", "_state", "_unfinished")

    def __init__(
        self, state: TaskState, seconds: float, unfinished: Callable[[Obstacle, float], Exception]
    ) -> None:
        self._state: TaskState = state
        self._seconds: float = seconds
        self._unfinished: Callable[[Obstacle, float], Exception] = unfinished
        self._seen: int = 0

    def __aiter__(self) -> Transitions:
        return self

    async def __anext__(self) -> Transition:
        obstacle = await self._state.reach(self._is_there, self._seconds)
        if obstacle is not None:
            raise self._unfinished(obstacle, self._seconds)
        if not self._is_there():
            raise StopAsyncIteration
        self._seen += 1
        return self._state.history.transitions[self._seen - 1]

    def _is_there(self) -> bool:
        return self._seen < len(self._state.history.steps)


@final
class Events:
    """An iteration over all that is told of a task: ``async for event in handle.events()``.

    Every status comes once, in order, as with ``Transitions``. Progress and lines of output come between them
    as the WebSocket tells them; without one there are none. Whoever is slow misses the older ones of these,
    never a status.

    Do not instantiate directly.
    """

    __slots__ = ("_place", "_seconds", "_seen", "_state", "_unfinished")

    def __init__(
        self, state: TaskState, seconds: float, unfinished: Callable[[Obstacle, float], Exception]
    ) -> None:
        self._state: TaskState = state
        self._seconds: float = seconds
        self._unfinished: Callable[[Obstacle, float], Exception] = unfinished
        self._seen: int = 0
        self._place: int = 0

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> TaskEvent:
        obstacle = await self._state.reach(self._is_there, self._seconds)
        if obstacle is not None:
            raise self._unfinished(obstacle, self._seconds)
        if not self._is_there():
            raise StopAsyncIteration
        events = self._state.events
        self._place = max(self._place, events.begin)
        if self._place < events.end:
            after, event = events.at(self._place)
            # It came after the statuses that were given out, or else the next status comes first.
            if after <= self._seen:
                self._place += 1
                return event
        self._seen += 1
        return self._state.history.transitions[self._seen - 1]

    def _is_there(self) -> bool:
        return self._seen < len(self._state.history.steps) or self._place < self._state.events.end


@final
class Listing(Generic[T]):
    """An iteration over one of the service's lists, which reads pages as needed.

    ::

        async for task in client.list_tasks():
            ...

    An item that moves to a later page while the list is read is yielded once. If a page cannot be read, the
    step that needs it raises the ``WiroError``, and the next step reads that page again. Leaving the loop
    early needs no clean-up.

    Do not instantiate directly.

    Args:
        fetch: Returns at most a number of items, from an index on; fewer do not mean the end.
        id_of: Tells items apart.
        limit: The maximum number of items (None: all).
        page_size: How many items to ask for at a time.

    Raises:
        InvalidInput: The limit is not a whole number, or negative.
    """

    __slots__ = ("_fetch", "_id_of", "_known", "_left", "_page", "_page_size", "_repeats", "_start")

    def __init__(
        self,
        fetch: Callable[[int, int], Awaitable[list[T]]],
        id_of: Callable[[T], str],
        limit: int | None = None,
        page_size: int = PAGE_SIZE,
    ) -> None:
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput(
                f"limit is {limit!r}; give a whole number that is not negative, or None for all", name="limit"
            )
        self._fetch: Callable[[int, int], Awaitable[list[T]]] = fetch
        self._id_of: Callable[[T], str] = id_of
        self._left: float = math.inf if limit is None else limit
        self._page_size: int = page_size
        self._page: deque[T] = deque()
        self._start: int = 0
        self._known: set[str] = set()
        self._repeats: int = 0

    def __aiter__(self) -> Listing[T]:
        return self

    async def __anext__(self) -> T:
        while self._left and not self._page:
            items = await self._fetch(self._start, int(min(self._page_size, self._left)))
            self._start += len(items)
            for item in items:
                key = self._id_of(item)
                if key not in self._known:
                    self._known.add(key)
                    self._page.append(item)
            # A page of known items only can be one that new items have pushed back; several in a row cannot:
            # the service ignores where to start.
            self._repeats = 0 if self._page else self._repeats + 1
            if not items or self._repeats > MAX_REPEATS:
                self._left = 0
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return self._page.popleft()
