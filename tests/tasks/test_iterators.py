"""Lists that are read page by page: every entry once, as many as asked for, and an end in any case."""

from __future__ import annotations

from typing import Any

import pytest

from wiro_async import ConnectionFailed, InvalidInput, InvalidResponse
from wiro_async._tasks.iterators import MAX_REPEATS, PAGE, Listing


class Pages:
    """A list of numbers that grants so many at a time.

    Attributes:
        asked: Every call, as start and limit.
    """

    def __init__(self, count: int, grant: int = PAGE) -> None:
        self.count = count
        self.grant = grant
        self.shift = 0
        self.asked: list[tuple[int, int]] = []

    async def fetch(self, start: int, limit: int) -> list[int]:
        """Return a page, as a service does."""
        self.asked.append((start, limit))
        begin = max(start - self.shift, 0)
        return list(range(self.count))[begin : begin + min(limit, self.grant)]

    def listing(self, limit: int | None = None) -> Listing[int]:
        """Return an iteration over all of them."""
        return Listing(self.fetch, lambda number: number, limit)


@pytest.mark.parametrize(
    ("count", "limit", "asked"),
    [
        (0, None, [(0, 100)]),
        (3, None, [(0, 100), (3, 100)]),
        (250, None, [(0, 100), (100, 100), (200, 100), (250, 100)]),
        (250, 120, [(0, 100), (100, 20)]),
        (250, 2, [(0, 2)]),
        (1, 2, [(0, 2), (1, 1)]),
        (250, 0, []),
    ],
)
async def test_pages_are_fetched_as_they_are_needed(
    count: int, limit: int | None, asked: list[tuple[int, int]]
) -> None:
    """Until one is empty, or the limit is reached."""
    pages = Pages(count)
    given = [number async for number in pages.listing(limit)]
    assert given == list(range(count))[:limit]
    assert pages.asked == asked


async def test_a_service_may_grant_less_than_it_was_asked_for() -> None:
    """A page that is not full is not the last."""
    assert [number async for number in Pages(25, grant=10).listing()] == list(range(25))


async def test_an_entry_that_moved_to_a_later_page_comes_once() -> None:
    """Tasks submitted meanwhile push the others down."""
    pages = Pages(250)
    listing = pages.listing(220)
    given = [await anext(listing)]
    pages.shift = 30
    given += [number async for number in listing]
    assert given == list(range(220))


async def test_a_service_that_ignores_the_paging_is_not_asked_for_ever() -> None:
    """It repeats the first page."""
    pages = Pages(50)

    async def first(_start: int, limit: int) -> list[int]:
        return await pages.fetch(0, limit)

    listing = Listing(first, lambda number: number)
    assert [await anext(listing) for _ in range(50)] == list(range(50))
    with pytest.raises(InvalidResponse, match="again and again"):
        await anext(listing)
    assert len(pages.asked) == 2 + MAX_REPEATS


async def test_a_failed_call_can_be_tried_again() -> None:
    """The iteration goes on where it was."""
    pages = Pages(250)
    broken = False

    async def fetch(start: int, limit: int) -> list[int]:
        if broken:
            raise ConnectionFailed("gone", sent=False)
        return await pages.fetch(start, limit)

    listing = Listing(fetch, lambda number: number)
    given = [await anext(listing) for _ in range(PAGE)]
    broken = True
    with pytest.raises(ConnectionFailed):
        await anext(listing)
    broken = False
    given += [number async for number in listing]
    assert given == list(range(250))
    with pytest.raises(StopAsyncIteration):
        await anext(listing)


@pytest.mark.parametrize("limit", [-1, True, 2.0, "3"])
def test_a_limit_is_a_whole_number(limit: Any) -> None:
    """It is refused where it is given, not in the loop."""
    with pytest.raises(InvalidInput, match="limit is"):
        Pages(1).listing(limit)
