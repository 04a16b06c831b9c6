"""Submitting: one Run, one task, whatever becomes of the answer.

What is known not to have been taken is sent again; what was refused is raised; what is unknown is searched
for. Code 96 waits its turn. All state is changed between awaits, in the one place that owns it: here.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import attrs

from wiro_async._aio.waiting import Gate
from wiro_async._errors import (
    ClientUseError,
    ConcurrencyLimited,
    InvalidResponse,
    SubmissionUnknown,
    WiroError,
)
from wiro_async._http.retry import run_knowledge
from wiro_async._http.transport import Transport
from wiro_async._protocol.envelope import decoded, is_utf8
from wiro_async._protocol.matching import (
    Claim,
    KnownTasks,
    RunFingerprint,
    fingerprint_of,
    lookalikes,
    matches,
    oldest_wanted,
    unknown,
)
from wiro_async._protocol.operations import LIST, Operation
from wiro_async._protocol.records import Accepted, Task, read_accepted, read_tasks
from wiro_async._types import JSON, OnUnknown, Priority, Status, Watch

if TYPE_CHECKING:
    from wiro_async._watch.callbacks import CallbackURL

__all__ = ["Run", "Submitter"]

logger = logging.getLogger("wiro_async")

PAGE = 100
MAX_PAGES = 50
"""Bounds of one look through Task/List: 5 000 tasks since the submit, if the service grants such pages."""

MAX_REPEATS = 4
"""Pages in a row that may tell nothing new, until the list is taken for one that knows no pages."""

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 20.0
"""Seconds between two tries of a Run that meets code 96, when no end of a task of ours is noticed."""

RESUBMITS = 2
"""How often a Run that was proved absent is sent anew, if the caller wants that at all."""


@attrs.frozen(eq=False)
class Run:
    """One Run that a caller wants.

    Attributes:
        operation: The call.
        known: The tasks that are somebody's.
        model: The slug.
        payload: The JSON body.
        sent_at: When it was wanted, in unix seconds: no task of it can be older.
        watch: How to learn of its task's end.
        expected: Seconds that it is expected to take (None: no idea).
        callback: Who will hear of its end (None: nobody).
    """

    operation: Operation
    known: KnownTasks
    model: str
    payload: JSON = attrs.field(repr=False)
    sent_at: float = 0.0
    watch: Watch = "auto"
    expected: float | None = None
    callback: CallbackURL | None = None
    claim: Claim = attrs.field(init=False)

    @claim.default
    def _its_claim(self) -> Claim:
        return Claim(self.known, self.model, self.payload, self.sent_at)


class _InFlightRun:
    """A Run on its way, until its outcome is known."""

    __slots__ = ("claim", "landed")

    def __init__(self, claim: Claim) -> None:
        self.claim: Claim = claim
        self.landed: anyio.Event = anyio.Event()


Late = Callable[[Accepted | SubmissionUnknown], object]
"""Gets what became of a Run whose caller was cancelled meanwhile."""


class Submitter:
    """Makes Runs for one client.

    Args:
        transport: Makes the calls.
        looks: When the task of a lost answer is looked for, in seconds from the loss.
        chance: A source of random numbers between 0 and 1, for pauses.
    """

    def __init__(
        self, transport: Transport, looks: tuple[float, ...], chance: Callable[[], float] = random.random
    ) -> None:
        self._transport = transport
        self._looks = looks
        self._chance = chance
        self._in_flight_runs: dict[str, set[_InFlightRun]] = {}
        self._line: Gate = Gate(1)
        self._slot_freed: anyio.Event | None = None
        self.held: KnownTasks = KnownTasks()
        self.unresolved: deque[SubmissionUnknown] = deque(maxlen=1000)

    async def submit(
        self,
        run: Run,
        slot_timeout: float,
        on_unknown: OnUnknown,
        late: Late,
        *,
        until: float = float("inf"),
    ) -> Accepted:
        """Make one Run, and return the task that came of it.

        Args:
            run: What to run.
            slot_timeout: Seconds to wait for a free slot at code 96.
            on_unknown: What to do when the Run's task was proved absent.
            late: Gets the outcome when the caller was cancelled while the Run was under way.
            until: When a search for a lost answer's task is broken off, on the event loop's clock.

        Raises:
            SubmissionUnknown: The task may exist, and was not found.
            WiroError: The Run was refused, or never reached the service; no task exists.
        """
        deadline = anyio.current_time() + slot_timeout
        resubmits = RESUBMITS if on_unknown == "resubmit" else 0
        while True:
            try:
                return await self._when_there_is_room(run, deadline, slot_timeout, late)
            except SubmissionUnknown as error:
                unknown = error
            outcome = await self._look_until_settled(unknown, until)
            if isinstance(outcome, Accepted):
                return outcome
            if not outcome.absent or resubmits == 0:
                raise outcome
            resubmits -= 1
            logger.warning("a Run of %s was proved absent; sending it anew, as asked", run.model)

    # -- room --------------------------------------------------------------------------------------------

    def task_ended(self) -> None:
        """Tell that a task of ours has ended: there may be room for another."""
        if self._slot_freed is not None:
            self._slot_freed.set()
            self._slot_freed = None

    async def _when_there_is_room(self, run: Run, deadline: float, patience: float, late: Late) -> Accepted:
        """Send; at code 96 stand in line, and send again when a task of ours ends, or after a while."""
        try:
            return await self.send(run, late)
        except ConcurrencyLimited as error:
            if patience <= 0:
                raise
            refusal = error
        with anyio.CancelScope(deadline=deadline) as scope:
            await self._line.enter(Priority.RUN)
        if scope.cancelled_caught:
            raise _no_room(refusal, patience)
        try:
            return await self._first_in_line(run, deadline, patience, late)
        finally:
            self._line.leave()

    async def _first_in_line(self, run: Run, deadline: float, patience: float, late: Late) -> Accepted:
        pause = FIRST_PAUSE
        while True:
            await self._wait_for_slot(
                min(deadline, anyio.current_time() + pause * (0.75 + self._chance() / 2))
            )
            try:
                return await self.send(run, late)
            except ConcurrencyLimited as error:
                if anyio.current_time() >= deadline:
                    raise _no_room(error, patience) from None
            pause = min(pause * 1.5, LONGEST_PAUSE)

    async def _wait_for_slot(self, until: float) -> None:
        if self._slot_freed is None:
            self._slot_freed = anyio.Event()
        with anyio.CancelScope(deadline=until):
            await self._slot_freed.wait()

    # -- sending -----------------------------------------------------------------------------------------

    async def send(self, run: Run, late: Late = lambda _: None) -> Accepted:
        """Make the exchange, and say what is known of the task afterwards.

        Raises:
            SubmissionUnknown: Nobody knows.
            WiroError: There is none.
        """
        claim = run.claim

        def judge(answer: JSON | WiroError) -> Accepted | WiroError:
            return self._judge(claim, answer)

        def report(answer: JSON | WiroError) -> None:
            outcome = judge(answer)
            if isinstance(outcome, Accepted | SubmissionUnknown):
                late(outcome)

        with self._in_flight(claim):
            try:
                answer: JSON | WiroError = await self._transport.call(run.operation, run.payload, report)
            except WiroError as error:
                answer = error
            outcome = judge(answer)
        if isinstance(outcome, WiroError):
            raise outcome
        return outcome

    @contextmanager
    def _in_flight(self, claim: Claim) -> Iterator[None]:
        """Let those who search for an equal Run know that one is on its way."""
        flight = _InFlightRun(claim)
        flights = self._in_flight_runs.setdefault(claim.model, set())
        flights.add(flight)
        try:
            yield
        finally:
            flights.discard(flight)
            if not flights:
                self._in_flight_runs.pop(claim.model, None)
            flight.landed.set()

    def _judge(self, claim: Claim, answer: JSON | WiroError) -> Accepted | WiroError:
        """Turn a Run's answer into a task that is now held, a refusal, or a doubt."""
        if isinstance(answer, WiroError):
            if run_knowledge(answer) != "unknown":
                return answer
            return unknown(claim.fingerprint, answer.message)
        try:
            accepted = read_accepted(answer)
        except InvalidResponse as error:
            return unknown(claim.fingerprint, error.message)
        if accepted.id in self.held:
            return unknown(claim.fingerprint, f"the reply names task {accepted.id}, which is another Run's")
        self.held.add(accepted.id, claim)
        return accepted

    # -- looking -----------------------------------------------------------------------------------------

    async def _look_until_settled(
        self, error: SubmissionUnknown, until: float
    ) -> Accepted | SubmissionUnknown:
        try:
            with anyio.CancelScope(deadline=until):
                return await self.reconcile(fingerprint_of(error), error.cause, self._looks)
            return error
        except BaseException:
            # A cancelled caller is told nothing any more, so the doubt is kept where it can be found.
            self.unresolved.append(error)
            logger.warning("the submit of a caller who was cancelled: %s", error)
            raise

    async def reconcile(
        self, fingerprint: RunFingerprint, cause: str, looks: tuple[float, ...]
    ) -> Accepted | SubmissionUnknown:
        """Look for the task of a Run in doubt.

        Args:
            fingerprint: What to look for.
            cause: What was seen instead of an answer.
            looks: When to look, in seconds from now.

        Returns:
            The task, now held; or the doubt that is left.
        """
        start = anyio.current_time()
        absent, like = False, None
        for moment in looks:
            await anyio.sleep(max(start + moment - anyio.current_time(), 0.0))
            tasks: list[Task] = []
            try:
                await self._read_back(oldest_wanted(fingerprint), tasks)
                absent = True
            except ClientUseError:
                raise
            except WiroError as error:
                logger.debug("looking for a Run of %s: %s", fingerprint.model, error)
                absent = False
            await self._land_rivals(fingerprint)
            if (found := self._first_free(matches(fingerprint, tasks))) is not None:
                self.held.add(found.id, fingerprint)
                logger.info("a Run of %s whose answer was lost is task %s", fingerprint.model, found.id)
                return Accepted(found.id, found.token)
            like = self._first_free(lookalikes(fingerprint, tasks))
        return unknown(fingerprint, cause, absent=absent, like=like)

    def _first_free(self, tasks: Iterator[Task]) -> Task | None:
        return next((task for task in tasks if task.id and self.held.is_free(task)), None)

    async def _read_back(self, oldest: float, tasks: list[Task]) -> None:
        """Read Task/List, newest first, into *tasks*: back to *oldest*, or to a page that has nothing.

        A page that is not full ends nothing: the service may grant less than what was asked for. Nor does one
        of known tasks only: what others have submitted meanwhile has moved them there.

        Raises:
            WiroError: It could not be read that far, so what *tasks* lacks may exist.
        """
        start, repeats, known = 0, 0, set[str]()
        for _ in range(MAX_PAGES):
            page, size = await self._page(start)
            tasks += page
            created = [task.timestamps[Status.QUEUE] for task in page if Status.QUEUE in task.timestamps]
            if not size or (created and min(created) < oldest):
                return
            ids = {task.id for task in page}
            repeats = repeats + 1 if ids and ids <= known else 0
            if repeats > MAX_REPEATS:
                raise InvalidResponse(
                    "Task/List: it tells the same tasks again and again", operation=LIST.name
                )
            known |= ids
            start += size
        raise InvalidResponse(f"Task/List: more than {start} tasks since the submit", operation=LIST.name)

    async def _page(self, start: int) -> tuple[list[Task], int]:
        """Return the tasks from *start* on, and how many entries the service told for them."""
        answer = await self._transport.tasks(None, start, PAGE)
        entries = decoded(answer.get("tasklist"))
        tasks = [task for task in read_tasks(answer) if is_utf8(task.id)]
        return tasks, len(entries) if isinstance(entries, list) else 0

    async def _land_rivals(self, fingerprint: RunFingerprint) -> None:
        """Wait for equal Runs that were on their way when the list was read: their tasks may be in it."""
        for flight in tuple(self._in_flight_runs.get(fingerprint.model, ())):
            if flight.claim.fingerprint.digest == fingerprint.digest:
                await flight.landed.wait()


def _no_room(refusal: ConcurrencyLimited, patience: float) -> ConcurrencyLimited:
    """Return the refusal with the name of the wait that ran out."""
    return ConcurrencyLimited(
        f"{refusal.message}; waited {patience:g} s for a slot to run in (slot_timeout), none came free",
        limit=refusal.limit,
        code=refusal.code,
        http_status=refusal.http_status,
        operation=refusal.operation,
        detail=refusal.detail,
    )
