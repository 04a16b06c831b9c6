"""One exchange of a Run, and what is known of its task afterwards."""

from __future__ import annotations

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
from wiro_async._types import JSON, Watch

if TYPE_CHECKING:
    from wiro_async._watch.callbacks import CallbackURL

__all__ = ["InFlightRuns", "Run", "send"]


@attrs.frozen(eq=False)
class Run:
    """One Run that a caller wants.

    Attributes:
        operation: The call.
        model: The slug.
        payload: The inputs by name, and what we add to them.
        body: The payload as it is sent.
        watch: How to learn of its task's end.
        expected: Seconds that the caller expects it to take (None: no idea).
        callback: Who will hear of its end (None: nobody).
        sent_at: When it left, in unix seconds: no task of it can be older.
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
        """What finds its task if the answer is lost."""
        return RunFingerprint.of(self.model, self.payload, self.sent_at)

    def claim(self, known: KnownTasks) -> Claim:
        """Return its claim on a task, for the first poll to verify."""
        return Claim(known, self.model, self.payload, self.sent_at)


class InFlightRuns:
    """The Runs of one client that are on their way: whoever searches for an equal one waits for them."""

    def __init__(self) -> None:
        self._landed: dict[Run, anyio.Event] = {}

    @contextmanager
    def on_its_way(self, run: Run) -> Iterator[None]:
        """Count *run* in until the block is left, when its outcome is known."""
        landed = self._landed[run] = anyio.Event()
        try:
            yield
        finally:
            del self._landed[run]
            landed.set()

    async def land(self, fingerprint: RunFingerprint) -> None:
        """Wait for those that are on their way now and equal to *fingerprint*'s."""
        for run, landed in tuple(self._landed.items()):
            if run.model == fingerprint.model and run.fingerprint.digest == fingerprint.digest:
                await landed.wait()


async def send(
    run: Run, transport: Transport, known: KnownTasks, in_flight: InFlightRuns
) -> tuple[Accepted, Claim]:
    """Make the exchange, once, in a turn that the caller holds.

    The caller shields it: a Run that is cut off in the middle may be paid for.

    Returns:
        The task that the answer names, and the Run's claim on it.

    Raises:
        SubmissionUnknown: Nobody knows whether there is a task.
        WiroError: There is none: the Run was refused, or provably not sent.
    """
    with in_flight.on_its_way(run):
        try:
            accepted = read_accepted(await transport.exchange(run.operation, run.body))
        except WiroError as error:
            certain = not isinstance(error, InvalidResponse) and run_knowledge(error) != "unknown"
            problem = error if certain else unknown(run.fingerprint, error.message)
        else:
            # An answer that names a task which is somebody's already was about that one.
            if accepted.id not in known:
                claim = run.claim(known)
                known.add(accepted.id, claim)
                return accepted, claim
            problem = unknown(run.fingerprint, f"the reply names task {accepted.id}, which is another Run's")
    raise problem
