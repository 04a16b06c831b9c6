"""When a batch should stop by itself. Pure: endings in, verdicts out."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import attrs

from wiro_async._errors import WiroError
from wiro_async._tasks.ends import TaskFailed

__all__ = ["Breaker", "Canary", "Trial", "reason_key", "reason_of"]

LONGEST_KEY = 200

_VARYING = re.compile(
    r"""https?://\S+                            # addresses
      | (?<!\w)[/~.]?[\w.-]*/[\w./-]+           # paths and slugs
      | "[^"]*" | '[^']*'                       # what is quoted
      | \b(?=\w*\d)[0-9A-Za-z_-]{6,}\b          # ids: letters and digits
      | [-+]?\d+(?:[.,:]\d+)*                   # numbers and times
    """,
    re.VERBOSE,
)


def reason_of(error: WiroError) -> str:
    """Return why a job failed, for people: the model's own last line where there is one."""
    if isinstance(error, TaskFailed) and error.reason:
        return error.reason
    return error.message


def reason_key(reason: str) -> str:
    """Return *reason* without what differs from job to job: numbers, ids, addresses, paths, quoted texts."""
    masked = _VARYING.sub("#", reason[: 2 * LONGEST_KEY])
    return " ".join(masked.lower().split())[:LONGEST_KEY]


@attrs.define
class Breaker:
    """Opens after so many identical failures in a row: the next ones would fail alike, and take their time.

    Attributes:
        limit: How many it takes (None: it never opens).
        count: How many there are in a row.
        reason: What the last of them said ("" while there are none).
        is_open: Whether nothing more should be sent; once open, it stays so.
    """

    limit: int | None = 20
    count: int = attrs.field(default=0, init=False)
    reason: str = attrs.field(default="", init=False)
    is_open: bool = attrs.field(default=False, init=False)
    _key: str = attrs.field(default="", init=False)

    def failed(self, reason: str) -> bool:
        """Take note of a failure; say whether the breaker is open now."""
        key = reason_key(reason)
        if self.is_open:
            return True
        self.count = self.count + 1 if key == self._key else 1
        self._key, self.reason = key, reason
        self.is_open = self.limit is not None and self.count >= self.limit
        return self.is_open

    def succeeded(self) -> None:
        """Take note of a success: whatever failed before, it does not always fail."""
        if not self.is_open:
            self.count, self.reason, self._key = 0, "", ""


Trial: TypeAlias = Literal["trying", "passed", "failed"]
"""How the canaries stand."""


@attrs.define
class Canary:
    """Holds a batch back until its first jobs have succeeded; a failure among them ends it.

    Attributes:
        size: How many jobs go first (0: none, all may go at once).
        reason: What the first failure among them said ("" while there is none).
    """

    size: int
    reason: str = attrs.field(default="", init=False)
    _started: int = attrs.field(default=0, init=False)
    _succeeded: int = attrs.field(default=0, init=False)
    _failed: bool = attrs.field(default=False, init=False)

    @property
    def state(self) -> Trial:
        """Whether they are still being tried, have passed, or have failed."""
        if self._failed:
            return "failed"
        return "passed" if self._succeeded >= self.size else "trying"

    def may_start(self) -> bool:
        """Whether another job may start."""
        return self.state == "passed" or (self.state == "trying" and self._started < self.size)

    def started(self) -> None:
        """A job starts."""
        self._started += 1

    def withdrawn(self) -> None:
        """A job that had started was cancelled by the user, or put back: that tells nothing."""
        self._started = max(self._started - 1, 0)

    def succeeded(self) -> None:
        """A job succeeded."""
        self._succeeded += 1

    def failed(self, reason: str) -> None:
        """A job failed; after the trial that is no matter of the canaries."""
        if self.state == "trying":
            self._failed = True
            self.reason = reason
