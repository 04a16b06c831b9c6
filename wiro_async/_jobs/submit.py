"""One exchange of a Run, what is then known of its task, and the Runs of which too little is known yet."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import attrs

from wiro_async._aio import SendWindow, now
from wiro_async._config import Limits
from wiro_async._errors import InvalidResponse, WiroError
from wiro_async._http.retry import run_knowledge
from wiro_async._http.transport import Transport
from wiro_async._protocol.matching import Claim, KnownTasks, RunFingerprint, may_share, unknown
from wiro_async._protocol.operations import Operation, clean_slug
from wiro_async._protocol.records import Accepted, Task, read_accepted
from wiro_async._protocol.refusals import first_error
from wiro_async._types import JSON, Watch

if TYPE_CHECKING:
    from wiro_async._watch.callbacks import CallbackURL

__all__ = ["Attempt", "OpenRuns", "Run", "send"]

LONG_QUIET = 3600.0
"""Seconds after which a doubt is forgotten here, from its quiet time on: no new Run's task can be its own."""

logger = logging.getLogger("wiro_async")


@attrs.frozen(eq=False)
class Run:
    """One Run that a caller wants.

    Attributes:
        operation: The call.
        model: The slug.
        payload: The inputs by name, and what we add to them.
        body: The payload as sent.
        watch: How to notice its task's end.
        expected: Seconds that the caller expects it to take (None: unknown).
        callback: The callback for its end (None: none).
        sent_at: When it was intended, in Unix seconds: none of its tasks can be older.
        quiet_at: From when on its task is in the list or will never exist, in Unix seconds.
    """

    operation: Operation
    model: str
    payload: JSON = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    watch: Watch = "auto"
    expected: float | None = None
    callback: CallbackURL | None = None
    sent_at: float = 0.0
    quiet_at: float = math.inf

    @property
    def fingerprint(self) -> RunFingerprint:
        """What finds its task if the response is lost."""
        return RunFingerprint.of(self.model, self.payload, self.sent_at, self.quiet_at)

    def claim(self, known: KnownTasks) -> Claim:
        """Return its claim on a task, for the first poll to verify."""
        return Claim(known, self.model, self.payload, self.sent_at, self.quiet_at)


@attrs.define(eq=False)
class Attempt:
    """One permission to send one Run. It is open while a task of it may exist, or come to exist, unnamed.

    Attributes:
        model: The slug.
        quiet: From when on its task is in the list or will never exist, on the event loop's clock: that
            clock is never set, and at most too slow.
        window: The time within which the Run leaves (None: another process has sent it).
        began: When it was opened, on the event loop's clock; none of its tasks is older.
        is_open: Whether it is open.
        seen: Tasks of the list, by their ids, that may be its own if the clocks are far apart.
    """

    model: str
    quiet: float
    _run: Run | None = attrs.field(default=None, repr=False)
    _fingerprint: RunFingerprint | None = attrs.field(default=None, repr=False)
    window: SendWindow | None = attrs.field(default=None, repr=False)
    began: float = -math.inf
    is_open: bool = True
    seen: dict[str, Task] = attrs.field(factory=dict, repr=False)
    _landed: anyio.Event = attrs.field(factory=anyio.Event, repr=False, init=False)

    @property
    def run(self) -> Run:
        """The Run, until its outcome is known."""
        assert self._run is not None
        return self._run

    @property
    def fingerprint(self) -> RunFingerprint:
        """What finds its task; computed once, when it is first needed."""
        if self._fingerprint is None:
            self._fingerprint = self.run.fingerprint
        return self._fingerprint

    @property
    def is_late(self) -> bool:
        """Whether it may have left after its window."""
        return self.window is not None and self.window.late

    def postpone(self, seconds: float) -> None:
        """Have it quiet not before so many seconds from now on."""
        quiet_at = max(self.fingerprint.quiet_at, time.time() + seconds)
        self.quiet = max(self.quiet, now() + seconds)
        self._fingerprint = self.fingerprint._replace(quiet_at=quiet_at)

    def land(self) -> None:
        """Note that its answer is here, or lost."""
        self._landed.set()

    def forget_run(self) -> None:
        """Keep no payload, only what finds the task."""
        self._fingerprint, self._run = self.fingerprint, None

    async def landed(self) -> None:
        """Wait until its answer is here, or lost."""
        await self._landed.wait()


class OpenRuns:
    """The attempts of one client that are open: on their way, or in doubt.

    A search asks which of them equal its own, because a task that it finds may be theirs.

    Args:
        limits: How long a Run takes to leave and to arrive, and its task to appear in the list.
    """

    def __init__(self, limits: Limits) -> None:
        self._window: float = limits.send_window
        self._arrives: float = limits.request_timeout + limits.margin + limits.settle_timeout
        self._last: float = 0.0
        # Those on their way; the digests of their inputs are computed only for a search.
        self._flying: set[Attempt] = set()
        self._doubts: dict[tuple[str, str], list[Attempt]] = {}
        self._versions: Counter[tuple[str, str]] = Counter()

    @property
    def flying(self) -> int:
        """How many Runs are on their way."""
        return len(self._flying)

    def begin(self, run: Run) -> Attempt:
        """Open an attempt. Its window begins now, so this comes before its intent is recorded."""
        window, until = SendWindow(self._window), self._window + self._arrives
        # No two at one time, by which a doubt is recognised.
        self._last = sent_at = max(time.time(), self._last + 1e-6)
        run = attrs.evolve(run, sent_at=sent_at, quiet_at=sent_at + until)
        attempt = Attempt(run.model, now() + until, run, window=window, began=now())
        self._flying.add(attempt)
        return attempt

    def not_after(self, attempt: Attempt) -> float:
        """Return when an attempt's first byte leaves at the latest, in unix seconds."""
        return attempt.run.sent_at + self._window

    def doubt(self, attempt: Attempt) -> None:
        """Note that an attempt's answer is lost: it stays open.

        If the Run may have left too late, its quiet time counts from now on.
        """
        self._flying.discard(attempt)
        attempt.land()
        attempt.forget_run()
        if attempt.is_late:
            attempt.postpone(self._arrives)
        self._keep(attempt)

    def find(self, fingerprint: RunFingerprint) -> Attempt:
        """Return the attempt in doubt that a fingerprint is of; one of another process is opened here."""
        for attempt in self._doubts.get(fingerprint.kind, ()):
            its = attempt.fingerprint
            if (its.sent_at, its.marker) == (fingerprint.sent_at, fingerprint.marker):
                return attempt
        if fingerprint.quiet_at == math.inf:
            # Nobody has told: it counts from now on.
            fingerprint = fingerprint._replace(quiet_at=time.time() + self._window + self._arrives)
        quiet = now() + (fingerprint.quiet_at - time.time())
        attempt = Attempt(fingerprint.model, quiet, None, fingerprint)
        attempt.land()
        self._keep(attempt)
        return attempt

    def _keep(self, attempt: Attempt) -> None:
        doubts = self._doubts.setdefault(attempt.fingerprint.kind, [])
        for old in [old for old in doubts if old.quiet < now() - LONG_QUIET]:
            doubts.remove(old)
        attempt.is_open = True
        doubts.append(attempt)

    def close(self, attempt: Attempt) -> None:
        """Note that an attempt's task is known, or known not to exist."""
        attempt.is_open = False
        attempt.land()
        if attempt in self._flying:
            self._flying.discard(attempt)
        elif attempt in (doubts := self._doubts.get(attempt.fingerprint.kind, [])):
            doubts.remove(attempt)

    def rivals(self, attempt: Attempt) -> list[Attempt]:
        """Return the other open attempts whose tasks could be taken for this one's."""
        mine = attempt.fingerprint
        slug = clean_slug(mine.model)
        others = [
            *(other for other in self._flying if clean_slug(other.model) == slug),
            *self._doubts.get(mine.kind, ()),
        ]
        return [other for other in others if other is not attempt and may_share(mine, other.fingerprint)]

    # -- adoptions by inputs -----------------------------------------------------------------------------

    def version(self, attempt: Attempt) -> int:
        """Return how many tasks have been adopted by Runs equal to this one."""
        return self._versions[attempt.fingerprint.kind]

    def adopted(self, attempt: Attempt) -> None:
        """Note that a task was adopted by its inputs: equal Runs' readings that began before prove nothing.

        The task may have been that Run's, and its own may have appeared since.
        """
        self._versions[attempt.fingerprint.kind] += 1


async def send(
    attempt: Attempt, transport: Transport, known: KnownTasks, runs: OpenRuns
) -> tuple[Accepted, Claim]:
    """Make the exchange, once, in a turn that the caller holds.

    The caller shields it: an interrupted Run may be paid for.

    Returns:
        The task that the response names, and the Run's claim on it.

    Raises:
        SubmissionUnknown: It is unknown whether a task exists.
        WiroError: No task exists: the Run was refused, or provably not sent.
    """
    run = attempt.run
    assert attempt.window is not None
    try:
        payload = await transport.exchange(run.operation, run.body, attempt.window)
        accepted = read_accepted(payload)
    except WiroError as error:
        if not isinstance(error, InvalidResponse) and run_knowledge(error) != "unknown":
            runs.close(attempt)
            problem = error
        else:
            runs.doubt(attempt)
            problem = unknown(attempt.fingerprint, error.message)
    except BaseException:
        runs.doubt(attempt)
        raise
    else:
        # An answer that names a task which is somebody's already was about that one.
        if accepted.id not in known:
            if payload.get("result") is not True:
                _, said = first_error(payload.get("errors"))
                logger.warning(
                    "a Run of %s was refused (%s) in a reply that names task %s: that is its task",
                    run.model,
                    said or "without a reason",
                    accepted.id,
                )
            runs.close(attempt)
            claim = run.claim(known)
            known.add(accepted.id, claim)
            return accepted, claim
        runs.doubt(attempt)
        problem = unknown(
            attempt.fingerprint, f"the reply names task {accepted.id}, which belongs to another Run"
        )
    raise problem
