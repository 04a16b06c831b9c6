"""Lists that page by themselves: every item once, in order, as many as asked for, and an end in any case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio.lowlevel
import pytest

from tests.virtual import anyio_backend as anyio_backend
from wiro_async import InvalidInput, Listing, ServiceError


class Service:
    """Has a list, of which it tells a few items at a time.

    Attributes:
        items: The list.
        most: How many items a page has at most.
        asked: Each start and limit that was asked for.
        errors: What to fail with, call by call.
        grows: How many items appear at the front after each page.
    """

    def __init__(self, *items: str, most: int = 1000) -> None:
        self.items = list(items)
        self.most = most
        self.asked: list[tuple[int, int]] = []
        self.errors: list[Exception] = []
        self.grows = 0

    async def fetch(self, start: int, limit: int) -> list[str]:
        """Return a page."""
        self.asked.append((start, limit))
        await anyio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop()
        page = self.items[start : start + min(limit, self.most)]
        self.items[:0] = [f"new {len(self.items) + more}" for more in range(self.grows)]
        return page


def listing(fetch: Callable[[int, int], Awaitable[list[str]]], limit: int | None = None) -> Listing[str]:
    return Listing(fetch, str, limit, page_size=3)


@pytest.mark.parametrize(
    ("items", "limit", "asked"),
    [
        ("", None, [(0, 3)]),
        ("ab", None, [(0, 3), (2, 3)]),
        ("abcdefg", None, [(0, 3), (3, 3), (6, 3), (7, 3)]),
        ("abcdefg", 4, [(0, 3), (3, 1)]),
        ("abcdefg", 2, [(0, 2)]),
        ("a", 2, [(0, 2), (1, 1)]),
        ("abcdefg", 0, []),
    ],
)
async def test_pages_are_read_as_they_are_needed(
    items: str, limit: int | None, asked: list[tuple[int, int]]
) -> None:
    """Until one is empty, or the limit is reached; and then it stays at its end."""
    service = Service(*items)
    pages = listing(service.fetch, limit)
    assert aiter(pages) is pages
    assert [item async for item in pages] == list(items)[:limit]
    assert [item async for item in pages] == []
    assert service.asked == asked


async def test_a_page_that_is_not_full_is_not_the_last() -> None:
    """The service may grant less than was asked for."""
    service = Service(*"abcdefg", most=2)
    assert [item async for item in listing(service.fetch)] == list("abcdefg")


async def test_what_moves_to_a_later_page_comes_once() -> None:
    """Because new items have come before it; nothing that was there at the beginning is missed."""
    service = Service(*"abcdefg")
    service.grows = 1
    assert [item async for item in listing(service.fetch)] == list("abcdefg")


async def test_a_page_of_known_items_only_is_no_end() -> None:
    """As many new items have come as a page holds; what is behind them is still found."""
    service = Service(*"abcdefg")
    service.grows = 3
    pages = listing(service.fetch)
    assert await anext(pages) == "a"
    service.grows = 0
    assert [item async for item in pages] == list("bcdefg")
    assert len(service.asked) == 5


async def test_a_service_that_ignores_the_start_is_given_up() -> None:
    """After some pages in a row that bring nothing new."""
    service = Service(*"abc")
    pages = listing(lambda _start, limit: service.fetch(0, limit))
    assert [item async for item in pages] == list("abc")
    assert len(service.asked) == 1 + 4 + 1


async def test_a_page_that_fails_is_asked_for_again() -> None:
    """By the next step, from the same place."""
    service = Service(*"abcd")
    pages = listing(service.fetch)
    for _ in range(3):
        await anext(pages)
    service.errors = [ServiceError("busy")]
    with pytest.raises(ServiceError):
        await anext(pages)
    assert await anext(pages) == "d"
    assert service.asked == [(0, 3), (3, 3), (3, 3)]


@pytest.mark.parametrize("limit", [-1, True, 2.0, "3"])
def test_a_limit_is_a_whole_number(limit: Any) -> None:
    """It is refused where it is given, not in the loop."""
    with pytest.raises(InvalidInput, match="limit is"):
        listing(Service().fetch, limit)
