"""Comparing a journal with the account's list of tasks: an older copy does not know what was run since."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs

from wiro_async._errors import JournalError
from wiro_async._journal.journal import Journal
from wiro_async._protocol.matching import CLOCK_SKEW, marker_in, tag_in
from wiro_async._protocol.records import Task
from wiro_async._types import Record

__all__ = ["JournalComparison", "check_not_behind", "compare"]

TasksSince: TypeAlias = Callable[[float], Awaitable[tuple[list[Task], bool]]]
"""Reads the account's tasks created since a time, in unix seconds, and whether these are all."""

SHOWN = 5
"""How many tasks a message names."""


@attrs.frozen(kw_only=True)
class JournalComparison(Record):
    """What the account's list of tasks has that a journal does not know, since the journal's newest Run.

    Attributes:
        tasks: How many tasks were compared.
        complete: Whether the list could be read back to the journal's newest Run.
        missing: The ids of tasks that were run from this journal, or from a copy of it, and that it does not
            know. Their callback URLs tell; of a Run without a callback nothing does.
        others: Tasks that it does not know either, without such a mark: another program's, another journal's,
            or this journal's Runs without a callback, if it is an older copy. Their logs and outputs are left
            out.
    """

    tasks: int = 0
    complete: bool = True
    missing: tuple[str, ...] = ()
    others: tuple[Task, ...] = attrs.field(default=(), repr=False)


async def compare(journal: Journal, tasks_since: TasksSince) -> JournalComparison:
    """Compare a journal with the account's tasks that are newer than its newest Run.

    Raises:
        JournalError: The journal cannot be read.
        WiroError: The account's tasks cannot be read.
    """
    newest = await journal.newest()
    if newest is None:
        return JournalComparison()
    tasks, complete = await tasks_since(newest - CLOCK_SKEW)
    marked = [(task, marker_in(task.callback_url)) for task in tasks]
    known = await journal.known([(task.id, marker) for task, marker in marked])
    missing: list[str] = []
    others: list[Task] = []
    for task, marker in marked:
        if task.id in known:
            continue
        if tag_in(marker) == journal.tag:
            missing.append(task.id)
        else:
            # Without its logs, which may be long, and are of no use here.
            others.append(attrs.evolve(task, debug_output="", debug_error="", outputs=(), raw={}))
    return JournalComparison(
        tasks=len(tasks), complete=complete, missing=tuple(missing), others=tuple(others)
    )


def check_not_behind(comparison: JournalComparison, path: str) -> None:
    """Refuse to go on with a journal that lacks tasks of its own.

    Raises:
        JournalError: ``behind``: it does.
    """
    if not comparison.missing:
        return
    count = len(comparison.missing)
    tasks = f"{count} task{'s' * (count > 1)}"
    named = ", ".join(comparison.missing[:SHOWN]) + (", ..." if count > SHOWN else "")
    raise JournalError(
        f"the journal {path[:300]!r} is behind: it does not know {tasks} of the account that were run "
        f"from it, or from a copy of it ({named}). It was restored from a backup, or a copy was resumed "
        f"elsewhere: go on with the newer one. Where that is lost, leave out the jobs of those tasks, or "
        f"they are paid for again, and confirm this journal with `wiro journal accept`",
        path=path,
        reason="behind",
    )
