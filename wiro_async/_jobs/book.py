"""What a batch writes down: its steps in the journal's terms, or nothing where it has no journal.

Each method returns when its step is durable. A step that follows a paid one never raises: the money is
spent, so the job goes on in memory, and the journal's failure stops the batch by other means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio

from wiro_async._errors import JournalError, WiroError
from wiro_async._journal.sqlite import Journal
from wiro_async._journal.steps import Ending, ErrorNote, Intent, OutputNote
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._protocol.records import Accepted, Task, TaskResult
from wiro_async._types import JSON

__all__ = ["Book"]

UPLOADS_LAST = 86400.0
"""Seconds for which an uploaded file is taken to be there. The service documents no term for them; a day is
short against the weeks for which it keeps outputs."""


class Book:
    """Writes for one batch.

    Args:
        journal: Where to (None: nowhere).

    Attributes:
        broken: Called with the error when a step could not be written that has happened all the same.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self.broken: Callable[[JournalError], object] = lambda _: None

    @property
    def keeps(self) -> bool:
        """Whether what is written down will be found by the next process."""
        return self._journal is not None and self._journal.broken is None

    async def intend(self, key: str, inputs: Mapping[str, Any], fingerprint: RunFingerprint) -> None:
        """Write down that a Run is about to leave.

        Raises:
            JournalError: It could not be written, so the Run must not leave.
        """
        if self._journal is not None:
            await self._journal.intend(Intent(key, inputs, fingerprint))

    async def accepted(self, key: str, accepted: Accepted) -> None:
        """Write down which task came of it."""
        if self._journal is not None:
            await self._write(self._journal.accepted, key, accepted.id, accepted.token)

    async def released(self, key: str, error: WiroError) -> None:
        """Write down that no task came of it."""
        if self._journal is not None:
            await self._write(self._journal.released, key, ErrorNote.of(error))

    async def doubted(self, key: str, cause: str) -> None:
        """Write down that nobody knows whether a task came of it."""
        if self._journal is not None:
            await self._write(self._journal.doubted, key, cause)

    async def ended(self, key: str, task: Task) -> None:
        """Write down how the task ended."""
        if self._journal is not None:
            await self._write(self._journal.ended, key, _ending(task))

    async def saved(self, key: str, n: int, path: Path, size: int, sha256: str) -> None:
        """Write down where an output is."""
        if self._journal is not None:
            await self._write(self._journal.saved, key, n, str(path), size, sha256)

    async def done(self, key: str) -> None:
        """Write down that everything wanted is there."""
        if self._journal is not None:
            await self._write(self._journal.settled, key, "done")

    async def uploaded(self, sha256: str, url: str, size: int) -> None:
        """Write down where a local file's content can be read."""
        if self._journal is not None:
            await self._write(self._journal.uploaded, sha256, url, size)

    async def url_of(self, sha256: str) -> str | None:
        """Return where a local file's content was uploaded to, if it is still to be relied on."""
        return None if self._journal is None else await self._journal.url_of(sha256, UPLOADS_LAST)

    async def save_stats(self, name: str, data: JSON) -> None:
        """Write down what was learned."""
        if self._journal is not None:
            await self._write(self._journal.save_stats, name, data)

    async def load_stats(self, name: str) -> JSON:
        """Return what was learned before."""
        found = None if self._journal is None else await self._journal.load_stats(name)
        return found or {}

    async def _write(self, step: Callable[..., Any], *values: Any) -> None:
        """Make a step durable whatever cancellation comes, for what it tells has happened."""
        try:
            with anyio.CancelScope(shield=True):
                await step(*values)
        except JournalError as error:
            self.broken(error)


def _ending(task: Task) -> Ending:
    assert task.outcome is not None
    ended = task.ended_at
    return Ending(
        task.outcome,
        time.time() if ended is None else ended.timestamp(),
        cost=task.total_cost,
        elapsed=TaskResult.of(task).elapsed,
        reason="" if task.outcome == "succeeded" else task.reason,
        outputs=tuple(
            OutputNote(output.index, output.name, output.url, output.content_type, output.size)
            for output in task.outputs
        ),
    )
