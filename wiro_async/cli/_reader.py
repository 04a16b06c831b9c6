"""A stand-in for ``wiro_async.JournalReader``: the only module of the command line that knows internals.

TODO: remove it, and import these names from ``wiro_async``, once they are there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, Self

from wiro_async._journal.sqlite import Journal
from wiro_async._journal.steps import Counts as JournalCounts
from wiro_async._journal.steps import Failure as JournalFailure
from wiro_async._journal.steps import FileRow as JournalFile
from wiro_async._journal.steps import Row as JournalEntry
from wiro_async._journal.steps import State

__all__ = ["JournalCounts", "JournalEntry", "JournalFailure", "JournalFile", "JournalReader"]


class JournalReader:
    """Reads a batch's journal.

    Args:
        path: The journal's file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: str = os.fspath(path)
        self._journal: Journal

    async def __aenter__(self) -> Self:
        self._journal = await Journal.open(self._path, create=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._journal.aclose()

    async def counts(self) -> JournalCounts:
        """Count the jobs by state and by failure, and add up what they cost."""
        return await self._journal.counts()

    def entries(self, *states: State) -> AsyncIterator[JournalEntry]:
        """Iterate over the jobs in these states (none: all)."""
        return self._journal.rows(*states)

    async def memo(self) -> dict[str, Any]:
        """Return what ``Client.batch(memo=...)`` keeps in the journal ({}: nothing)."""
        return await self._journal.load_stats("batch") or {}
