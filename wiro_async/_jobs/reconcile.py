"""Finds the task of a Run whose response was lost, in the service's list, which may lag; or proves it absent.

Nothing can stop a Run that is late, so its absence is proved in two steps: wait until its task is in the list
or will never exist (the attempt is quiet), and only then begin to read. docs/design/jobs.md has the reasons
for each condition.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import anyio
import attrs

from wiro_async._aio import now
from wiro_async._config import Limits
from wiro_async._errors import ClientUseError, InvalidResponse, SubmissionUnknown, WiroError
from wiro_async._http.transport import Transport
from wiro_async._jobs.submit import Attempt, OpenRuns
from wiro_async._journal.steps import Found
from wiro_async._protocol.envelope import decoded, is_utf8
from wiro_async._protocol.matching import (
    KnownTasks,
    is_marked,
    lookalikes,
    matches,
    read_back_to,
    search_times,
    unknown,
)
from wiro_async._protocol.operations import LIST
from wiro_async._protocol.records import Accepted, Task, read_tasks
from wiro_async._tasks.iterators import MAX_REPEATS
from wiro_async._types import Status

__all__ = ["TaskSearch"]

logger = logging.getLogger("wiro_async")

PAGE = 100
MAX_PAGES = 50
"""Bounds of one reading of Task/List: 5 000 tasks since the submit, if the service allows such pages."""

MAX_VOID = 5
"""How often a reading that proves nothing, because an equal Run adopted a task meanwhile, is made again."""

TICK = 0.01
"""Seconds after the quiet time, so that a timer that is early by its resolution is not too early."""

Take: TypeAlias = Callable[[Accepted, Found], Awaitable[bool]]
"""Records that a task is the Run's; False if the journal has it as another attempt's."""


@attrs.define(eq=False)
class _Reading:
    """One reading of the list.

    Attributes:
        began: When it began, on the event loop's clock.
        quiet: From when on the Run's task is in the list or will never exist.
        version: How many tasks equal Runs had adopted when it began.
        tasks: What it has.
        is_whole: Whether it went back as far as it had to.
        ended: When it ended.
    """

    began: float
    quiet: float
    version: int
    tasks: list[Task] = attrs.field(factory=list)
    is_whole: bool = False
    ended: float = math.inf

    @property
    def is_quiet(self) -> bool:
        """Whether it began when the Run's task was in the list or would never exist: only then it proves."""
        return self.began >= self.quiet


class TaskSearch:
    """Searches for the tasks of one client's lost Runs.

    Args:
        transport: Reads the list.
        known: The tasks that have an owner.
        runs: The Runs on their way, and those in doubt.
        limits: How long the list may lag (``settle_timeout``), and how long a page may take.
    """

    def __init__(self, transport: Transport, known: KnownTasks, runs: OpenRuns, limits: Limits) -> None:
        self._transport = transport
        self._known = known
        self._runs = runs
        self._lag: float = limits.settle_timeout
        self._page: float = limits.request_timeout

    async def find(
        self, attempt: Attempt, cause: str, *, proves: bool, take: Take | None = None
    ) -> Accepted | SubmissionUnknown:
        """Search for the task of a Run in doubt, several times.

        Without *proves* it ends after ``settle_timeout``, or once the attempt is quiet, if that is earlier; a
        reading that has begun by then is given ``request_timeout`` more. With it, it ends with a reading that
        begins when the attempt is quiet.

        Args:
            attempt: The Run.
            cause: What was seen instead of a response.
            proves: Whether to wait until its absence can be proved.
            take: Records an adoption (None: nothing records it).

        Returns:
            The task, now known to be the Run's; or the remaining doubt.
        """
        start, quiet = now(), attempt.quiet + TICK
        end = max(quiet, start) if proves else min(max(quiet, start), start + self._lag)
        moments = [*(start + at for at in search_times(self._lag) if start + at < end), end]
        give_up = math.inf if proves else end + self._page
        voided = 0
        while True:
            reading = _Reading(now(), attempt.quiet, self._runs.version(attempt))
            # The one that can prove something is not held up by those before.
            await self._read(attempt, reading, end if proves and reading.began < end else give_up)
            if (found := await self._adopt(attempt, reading, take)) is not None:
                return found
            like = self._like(attempt, reading.tasks)
            if reading.is_quiet and reading.is_whole:
                if reading.version == self._runs.version(attempt):
                    if like is None:
                        self._runs.close(attempt)
                    return unknown(attempt.fingerprint, cause, absent=like is None, like=like)
                if voided < MAX_VOID:
                    voided += 1
                    continue
            upcoming = next((moment for moment in moments if moment > reading.began), None)
            if upcoming is None:
                return unknown(attempt.fingerprint, cause, like=like)
            await anyio.sleep(max(upcoming - now(), 0.0))

    async def _adopt(self, attempt: Attempt, reading: _Reading, take: Take | None) -> Accepted | None:
        """Take a task for the Run's, if one fits that is nobody's, and cannot be an equal Run's.

        Without a marker it may be: one that is on its way, or in doubt too. But if there is a task for each
        of these, or if this Run's own must be in the list by now, it is the same which of them has which.
        """
        fingerprint, runs = attempt.fingerprint, self._runs
        free = self._free(matches(fingerprint, reading.tasks, self._transport.skew))
        rivals = [other for other in runs.rivals(attempt) if other.began <= reading.ended]
        for task in free:
            by_marker = is_marked(fingerprint, task)
            if not (by_marker or reading.is_quiet or len(free) > len(rivals)):
                logger.debug("task %s may be an equal Run's: %s are open", task.id, len(rivals))
                return None
            # All that others must see comes before anything is awaited.
            self._known.add(task.id, fingerprint)
            if not by_marker:
                runs.adopted(attempt)
            found = Accepted(task.id, task.token)
            if take is None or await take(found, "marker" if by_marker else "inputs"):
                runs.close(attempt)
                logger.info("a Run of %s whose answer was lost is task %s", fingerprint.model, task.id)
                return found
        return None

    def _like(self, attempt: Attempt, tasks: Iterable[Task]) -> Task | None:
        """Return a task that is the Run's if the clocks are far apart; what was seen once is remembered."""
        found = lookalikes(attempt.fingerprint, tasks, self._transport.skew)
        attempt.seen |= {task.id: task for task in found}
        return next(iter(self._free(attempt.seen.values())), None)

    def _free(self, tasks: Iterable[Task]) -> list[Task]:
        return [task for task in tasks if task.id and self._known.is_free(task)]

    # -- the list ----------------------------------------------------------------------------------------

    async def _read(self, attempt: Attempt, reading: _Reading, give_up: float) -> None:
        """Read the list as far back as the Run's task can be, and wait for the equal Runs on their way.

        Their tasks may be in it, and their answers tell. What may be the Run's if the clocks are far apart,
        and was seen once, is read up to again.
        """
        seen = [task.timestamps[Status.QUEUE] for task in self._free(attempt.seen.values())]

        def oldest() -> float:
            return min((read_back_to(attempt.fingerprint, self._transport.skew), *seen))

        with anyio.CancelScope(deadline=give_up):
            try:
                await self._read_back(oldest, reading.tasks, give_up)
                reading.is_whole = True
            except ClientUseError:
                raise
            except WiroError as error:
                logger.debug("searching for a Run of %s: %s", attempt.model, error)
        reading.ended = now()
        with anyio.CancelScope(deadline=give_up):
            for rival in self._runs.rivals(attempt):
                await rival.landed()

    async def since(self, oldest: float) -> tuple[list[Task], bool]:
        """Return the account's tasks that were created since then, newest first, and whether these are all.

        Args:
            oldest: In unix seconds.

        Raises:
            WiroError: The list could not be read at all.
        """
        tasks: list[Task] = []
        complete = True
        try:
            await self._read_back(lambda: oldest, tasks)
        except InvalidResponse:
            if not tasks:
                raise
            complete = False
        return [task for task in tasks if task.timestamps.get(Status.QUEUE, oldest) >= oldest], complete

    async def _read_back(
        self, oldest: Callable[[], float], tasks: list[Task], give_up: float = math.inf
    ) -> None:
        """Read Task/List, newest first, into *tasks*: back to a creation time, or to an empty page.

        A short page does not end the reading: the service may return less than requested. Nor does a page of
        known tasks only: tasks submitted meanwhile may have shifted them there.

        Args:
            oldest: Returns that time; asked after each page, as that may tell how far the clocks differ.
            tasks: Where they go.
            give_up: When to give up, on the event loop's clock.

        Raises:
            WiroError: It could not be read that far, so tasks missing from *tasks* may exist.
        """
        start, repeats, known = 0, 0, set[str]()
        for _ in range(MAX_PAGES):
            until = min(now() + self._page, give_up)
            answer = await self._transport.tasks(None, start, PAGE, until=until)
            entries = decoded(answer.get("tasklist"))
            size = len(entries) if isinstance(entries, list) else 0
            page = [task for task in read_tasks(answer) if is_utf8(task.id)]
            tasks += page
            created = [task.timestamps[Status.QUEUE] for task in page if Status.QUEUE in task.timestamps]
            if not size or (created and min(created) < oldest()):
                return
            ids = {task.id for task in page}
            repeats = repeats + 1 if ids and ids <= known else 0
            if repeats > MAX_REPEATS:
                raise InvalidResponse("Task/List: it returned the same tasks repeatedly", operation=LIST.name)
            known |= ids
            start += size
        raise InvalidResponse(f"Task/List: more than {start} tasks since the submit", operation=LIST.name)
