"""A journal against the account's list of tasks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from wiro_async import Task
from wiro_async._journal.comparison import compare
from wiro_async._journal.journal import NullJournal
from wiro_async._protocol.matching import marker_of, with_marker

NEWEST = 1_700_000_000.0


class Known(NullJournal):
    """A journal with a Run in it, and nothing else but what *ids* and *markers* say."""

    tag = "a1b2c3d4"

    def __init__(self, ids: set[str], markers: set[str]) -> None:
        self.ids = ids
        self.markers = markers

    async def newest(self) -> float:  # type: ignore[override]  # a null journal has none
        return NEWEST

    async def known(self, tasks: Sequence[tuple[str, str]]) -> frozenset[str]:
        return frozenset(task for task, marker in tasks if task in self.ids or marker in self.markers)


class Id(str):
    """A task's id that counts with how many others it is compared."""

    __slots__ = ()
    compared: list[str] = []  # noqa: RUF012 - of all of them

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        self.compared.append(self)
        return super().__eq__(other)


def task(task_id: str, tag: str = "", token: str = "x") -> Task:
    url = with_marker("https://e.org/done", marker_of(tag, token)) if tag else ""
    return Task(id=task_id, status="task_queue", callback_url=url, debug_output="long", raw={"x": 1})


@pytest.mark.parametrize("complete", [True, False])
async def test_what_a_journal_does_not_know_is_missing_or_anothers(complete: bool) -> None:
    """The marker's tag tells; what is known by its id or by its marker is neither."""
    listed = [
        task("known"), task("marked", Known.tag, "sent"), task("missing", Known.tag),
        task("another journal's", "ffffffff"), task("no marker"),
    ]  # fmt: skip

    async def since(oldest: float) -> tuple[list[Task], bool]:
        assert oldest == NEWEST - 90
        return listed, complete

    found = await compare(Known({"known"}, {f"{Known.tag}-sent"}), since)
    assert (found.tasks, found.complete, found.missing) == (5, complete, ("missing",))
    assert [each.id for each in found.others] == ["another journal's", "no marker"]
    assert {(each.debug_output, len(each.raw)) for each in found.others} == {("", 0)}


async def test_a_long_list_is_gone_through_once() -> None:
    """No task is compared with each that is missing."""
    listed = [task(Id(number), Known.tag if number % 2 else "") for number in range(200)]

    async def since(_: float) -> tuple[list[Task], bool]:
        return listed, True

    Id.compared.clear()
    found = await compare(Known(set(), set()), since)
    assert (len(found.missing), len(found.others)) == (100, 100)
    assert len(Id.compared) < 1000
