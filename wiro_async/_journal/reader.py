"""Reading a journal from outside of a batch."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, final

from wiro_async._config import check_path
from wiro_async._errors import ClientUseError
from wiro_async._journal.sqlite import SQLiteJournal
from wiro_async._journal.steps import MEMO, JournalCounts, JournalEntry, State, check_key
from wiro_async._types import JSON

__all__ = ["JournalReader"]


@final
class JournalReader:
    """Reads a batch's journal.

    ::

        async with wiro_async.JournalReader("jobs.db") as journal:
            print(await journal.counts())
            async for entry in journal.entries("failed"):
                print(entry.key, entry.reason)

    A journal is one process's at a time: it cannot be read while a batch uses it, and no batch can use it
    while it is read. Entering checks the file, about a second for 100 000 jobs, and never makes one. A
    journal that an earlier version has written is brought up to date; the earlier version cannot open it any
    more.

    Args:
        path: The journal's file.

    Raises:
        ConfigurationError: It is no path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: str = check_path("path", path)
        self._journal: SQLiteJournal | None = None

    def __repr__(self) -> str:
        return f"<JournalReader {self.path!r}>"

    async def __aenter__(self) -> Self:
        """Open the journal.

        Raises:
            JournalError: It cannot be opened, or cannot be trusted; ``reason`` tells why: ``missing``,
                ``locked`` (in use), ``newer`` (of a later version), ``corrupt``, ``foreign``, ...
        """
        self._journal = await SQLiteJournal.open(self._path, create=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the journal."""
        await self._opened().aclose()

    @property
    def path(self) -> str:
        """The file; once it is open, by its absolute path."""
        return self._path if self._journal is None else self._journal.path

    async def counts(self) -> JournalCounts:
        """Count the jobs by state and by failure, and add up what they cost.

        Raises:
            JournalError: The file cannot be read.
        """
        return await self._opened().counts()

    def entries(self, *states: State) -> AsyncIterator[JournalEntry]:
        """Iterate over the jobs in these states, one state after the other, or over all, in order of arrival.

        They are read as they are needed, and nothing is held between two of them: the iterator can be left
        at any time. Each step raises ``JournalError`` where the file cannot be read.

        Args:
            states: Which jobs, such as ``failed``; see ``JournalEntry.state`` (none: all).

        Raises:
            InvalidInput: There is no such state.
        """
        return self._opened().entries(*states)

    async def find(self, key: str) -> JournalEntry | None:
        """Return one job (None: the journal has no such key).

        Raises:
            InvalidInput: No journal can have such a key.
            JournalError: The file cannot be read.
        """
        return await self._opened().find(check_key(key))

    async def memo(self) -> JSON:
        """Return what ``Client.batch(memo=...)`` has asked the journal to keep ({}: nothing).

        Raises:
            JournalError: The file cannot be read.
        """
        return await self._opened().load_stats(MEMO)

    def _opened(self) -> SQLiteJournal:
        if self._journal is None:
            raise ClientUseError(
                f"the journal {self._path!r} is not open; use `async with JournalReader(...) as journal`"
            )
        return self._journal
