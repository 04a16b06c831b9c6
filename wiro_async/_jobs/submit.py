"""One exchange of a Run, and what is then known of its task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import attrs

from wiro_async._errors import InvalidResponse, WiroError
from wiro_async._http.retry import run_knowledge
from wiro_async._http.transport import Transport
from wiro_async._protocol.matching import Claim, KnownTasks, RunFingerprint, unknown
from wiro_async._protocol.operations import Operation
from wiro_async._protocol.records import Accepted, read_accepted
from wiro_async._protocol.refusals import first_error
from wiro_async._types import JSON, Watch

if TYPE_CHECKING:
    from wiro_async._watch.callbacks import CallbackURL

__all__ = ["InFlightRuns", "Run", "send"]

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
        sent_at: When it left, in Unix seconds: none of its tasks can be older.
    """

    operation: Operation
    model: str
    payload: JSON = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    watch: Watch = "auto"
    expected: float | None = None
    callback: CallbackURL | None = None
    sent_at: float = 0.0

    @property
    def fingerprint(self) -> RunFingerprint:
        """What finds its task if the response is lost."""
        return RunFingerprint.of(self.model, self.payload, self.sent_at)

    def claim(self, known: KnownTasks) -> Claim:
        """Return its claim on a task, for the first poll to verify."""
        return Claim(known, self.model, self.payload, self.sent_at)


class InFlightRuns:
    """The Runs of one client in flight: a search for an equal one waits for them."""

    def __init__(self) -> None:
        self._landed: dict[Run, anyio.Event] = {}

    @contextmanager
    def on_its_way(self, run: Run) -> Iterator[None]:
        """Count *run* as in flight within the block; after it the outcome is known."""
        landed = self._landed[run] = anyio.Event()
        try:
            yield
        finally:
            del self._landed[run]
            landed.set()

    async def land(self, fingerprint: RunFingerprint) -> None:
        """Wait for the Runs now in flight that equal *fingerprint*'s."""
        for run, landed in tuple(self._landed.items()):
            if run.model == fingerprint.model and run.fingerprint.digest == fingerprint.digest:
                await landed.wait()


async def send(
    run: Run, transport: Transport, known: KnownTasks, in_flight: InFlightRuns
) -> tuple[Accepted, Claim]:
    """Make the exchange, once, in a turn that the caller holds.

    The caller shields it: an interrupted Run may be paid for.

    Returns:
        The task that the response names, and the Run's claim on it.

    Raises:
        SubmissionUnknown: It is unknown whether a task exists.
        WiroError: No task exists: the Run was refused, or provably not sent.
    """
    with in_flight.on_its_way(run):
        try:
            payload = await transport.exchange(run.operation, run.body)
            accepted = read_accepted(payload)
        except WiroError as error:
            certain = not isinstance(error, InvalidResponse) and run_knowledge(error) != "unknown"
            problem = error if certain else unknown(run.fingerprint, error.message)
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
                claim = run.claim(known)
                known.add(accepted.id, claim)
                return accepted, claim
            problem = unknown(
                run.fingerprint, f"the reply names task {accepted.id}, which belongs to another Run"
            )
    raise problem
