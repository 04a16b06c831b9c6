"""Finds the task of a Run whose response was lost, in the service's list, which may lag."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import anyio

from wiro_async._errors import ClientUseError, InvalidResponse, SubmissionUnknown, WiroError
from wiro_async._http.transport import Transport
from wiro_async._jobs.submit import InFlightRuns
from wiro_async._protocol.envelope import decoded, is_utf8
from wiro_async._protocol.matching import (
    KnownTasks,
    RunFingerprint,
    lookalikes,
    matches,
    oldest_wanted,
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


class TaskSearch:
    """Searches for the tasks of one client's lost Runs.

    Args:
        transport: Reads the list.
        known: The tasks that have an owner.
        in_flight: The Runs in flight.
        seconds: How long the list may lag: ``Limits.settle_timeout``.
        request_timeout: How long a Run may have taken to arrive, in seconds.
    """

    def __init__(
        self,
        transport: Transport,
        known: KnownTasks,
        in_flight: InFlightRuns,
        *,
        seconds: float,
        request_timeout: float,
    ) -> None:
        self._transport = transport
        self._known = known
        self._in_flight = in_flight
        self._times = search_times(seconds)
        self._lag: float = request_timeout + seconds

    async def find(
        self, fingerprint: RunFingerprint, cause: str, *, sent_within: float | None = None
    ) -> Accepted | SubmissionUnknown:
        """Search for the task of a Run in doubt: several times, unless the list has had time to catch up.

        Args:
            fingerprint: What to search for.
            cause: What was seen instead of a response.
            sent_within: Seconds after ``fingerprint.sent_at`` by which the Run certainly left (None: it may
                just have left, so search several times).

        Returns:
            The task, now known to be the Run's; or the remaining doubt.
        """
        times = self._times
        # The service may have taken it as late as we gave up waiting for its answer.
        if sent_within is not None and time.time() - fingerprint.sent_at >= sent_within + self._lag:
            times = times[:1]
        start = anyio.current_time()
        absent, like = False, None
        for moment in times:
            await anyio.sleep(max(start + moment - anyio.current_time(), 0.0))
            tasks: list[Task] = []
            try:
                await self._read_back(oldest_wanted(fingerprint), tasks)
                absent = True
            except ClientUseError:
                raise
            except WiroError as error:
                logger.debug("searching for a Run of %s: %s", fingerprint.model, error)
                absent = False
            # The tasks of equal Runs that were on their way when the list was read may be in it.
            await self._in_flight.land(fingerprint)
            if (found := self._first_free(matches(fingerprint, tasks))) is not None:
                self._known.add(found.id, fingerprint)
                logger.info("a Run of %s whose answer was lost is task %s", fingerprint.model, found.id)
                return Accepted(found.id, found.token)
            like = self._first_free(lookalikes(fingerprint, tasks))
        return unknown(fingerprint, cause, absent=absent, like=like)

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
            await self._read_back(oldest, tasks)
        except InvalidResponse:
            if not tasks:
                raise
            complete = False
        return [task for task in tasks if task.timestamps.get(Status.QUEUE, oldest) >= oldest], complete

    def _first_free(self, tasks: Iterator[Task]) -> Task | None:
        return next((task for task in tasks if task.id and self._known.is_free(task)), None)

    async def _read_back(self, oldest: float, tasks: list[Task]) -> None:
        """Read Task/List, newest first, into *tasks*: back to *oldest*, or to an empty page.

        A short page does not end the reading: the service may return less than requested. Nor does a page of
        known tasks only: tasks submitted meanwhile may have shifted them there.

        Raises:
            WiroError: It could not be read that far, so tasks missing from *tasks* may exist.
        """
        start, repeats, known = 0, 0, set[str]()
        for _ in range(MAX_PAGES):
            answer = await self._transport.tasks(None, start, PAGE)
            entries = decoded(answer.get("tasklist"))
            size = len(entries) if isinstance(entries, list) else 0
            page = [task for task in read_tasks(answer) if is_utf8(task.id)]
            tasks += page
            created = [task.timestamps[Status.QUEUE] for task in page if Status.QUEUE in task.timestamps]
            if not size or (created and min(created) < oldest):
                return
            ids = {task.id for task in page}
            repeats = repeats + 1 if ids and ids <= known else 0
            if repeats > MAX_REPEATS:
                raise InvalidResponse("Task/List: it returned the same tasks repeatedly", operation=LIST.name)
            known |= ids
            start += size
        raise InvalidResponse(f"Task/List: more than {start} tasks since the submit", operation=LIST.name)
