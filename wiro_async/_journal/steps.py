"""What the journal records of a job: its steps, which may follow which, and what is read back. Pure.

A job is one thing that the caller wants, named by a key. Each Run sent for it is an attempt. The journal
refuses a new attempt while an earlier one may be paid for: that is the last guard against paying twice.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal, TypeAlias, get_args

import attrs

from wiro_async._errors import ConcurrencyLimited, ConnectionFailed, InvalidInput, RateLimited, WiroError
from wiro_async._protocol.envelope import encode, is_utf8
from wiro_async._protocol.matching import RunFingerprint, digest
from wiro_async._protocol.operations import clean_slug
from wiro_async._protocol.records import Task, TaskResult
from wiro_async._types import JSON, MAX_DEPTH, JSONMapping, Outcome, Record, Secret

__all__ = [
    "FAILED", "MEMO", "STATES", "TURNED_AWAY", "UPLOADS_LAST", "Accepted", "Blob", "Charged",
    "Confirmed", "Done", "Doubted", "Ended", "Found", "Intended", "JobStep", "JournalCounts",
    "JournalEntry", "JournalFailure", "JournalFile", "Late", "Learned", "LocalFile", "Released",
    "Saved", "Stalled", "State", "Step", "UnchargedRun", "Uploaded", "described", "key_of",
]  # fmt: skip

State: TypeAlias = Literal[
    "intended", "running", "ended", "done", "failed", "cancelled", "unknown", "refused", "stalled"
]
"""Where a job stands.

``"intended"``: a Run may have left. ``"running"``: its task is known. ``"stalled"``: its task stands in
``task_error``, and nobody knows whether it goes on. ``"ended"``: the task has ended, and outputs may be
missing on the disk, or it is not clear how it ended. ``"done"``: everything wanted is there. ``"failed"``,
``"cancelled"``: how the task ended. ``"unknown"``: the Run's answer was lost, and its task not found.
``"refused"``: no task exists.
"""

STATES: tuple[State, ...] = get_args(State)

Found: TypeAlias = Literal["answer", "marker", "inputs"]
"""How a task became known to be an attempt's: the Run's answer named it, or the list has it, with the Run's
marker or without one and of equal inputs."""

FAILED: tuple[State, ...] = ("failed", "cancelled")
"""The states of jobs whose tasks came to nothing; such a job can have another Run."""

MEMO = "batch"
"""The name under which a journal keeps what its batch is asked to remember."""

TURNED_AWAY = (ConcurrencyLimited, RateLimited, ConnectionFailed)
"""The errors of attempts that were no Runs: not sent, or turned away before anything was looked at."""

UPLOADS_LAST = 86400.0
"""Seconds for which an upload is taken to be there. The service documents no term for them; a day is short
against the weeks for which it keeps outputs."""

MAX_KEY = 500
MAX_REASON = 2000
"""Characters that are kept of a key and of a reason."""

_LARGEST = 2**63 - 1
_PICOS = Decimal(10**12)
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[])


# -- what is told to the journal; each step of a job has the job's key --------------------------------------


@attrs.frozen
class Intended:
    """A Run is about to leave.

    Attributes:
        key: The job's key; see ``key_of``.
        inputs: The inputs as the caller gave them, so that the job can be run again from the journal alone.
            Local files are recorded by their paths, bytes by their SHA-256.
        fingerprint: What finds the Run's task if its answer is lost.
        not_after: When its first byte leaves at the latest, in unix seconds (None: at ``sent_at``).
        attempt: The number that it expects to get, one after the last (0: whichever comes next).
    """

    key: str
    inputs: JSONMapping = attrs.field(repr=False)
    fingerprint: RunFingerprint
    not_after: float | None = None
    attempt: int = 0


@attrs.frozen
class Accepted:
    """The task that came of the Run is known.

    Attributes:
        task_id: The task. To replace it by another one, first record ``Doubted``.
        token: The task's socket token. It is kept: whoever has it can watch the task (None: not told).
        attempt: The attempt whose task it is (0: the latest).
        how: How it became known; see ``Found``.
    """

    key: str
    task_id: str
    token: Secret | None = attrs.field(default=None, repr=False)
    attempt: int = 0
    how: Found = "answer"


@attrs.frozen
class Released:
    """No task came of the Run: it was refused, not sent, or proved absent.

    Attributes:
        error: The name of the error's class, such as ``InsufficientBalance``.
        message: What it said.
        attempt: The attempt that came to nothing (0: the latest).
    """

    key: str
    error: str
    message: str = ""
    attempt: int = 0

    @classmethod
    def of(cls, key: str, error: WiroError, attempt: int = 0) -> Released:
        """Make the step of an error of ours; no message of these holds a secret."""
        return cls(key, type(error).__name__, error.message, attempt)


@attrs.frozen
class Doubted:
    """Nobody knows what came of the Run: *cause* was seen instead. A task recorded for it is not its own.

    Attributes:
        cause: What was seen.
        attempt: The attempt in doubt (0: the latest).
    """

    key: str
    cause: str
    attempt: int = 0


@attrs.frozen
class Late:
    """A Run may have left later than its intent allows: its task can appear for so much longer.

    Attributes:
        quiet_at: From when on its task is in the list or will never exist, in unix seconds. The later of this
            and what is recorded holds.
        attempt: The attempt (0: the latest).
    """

    key: str
    quiet_at: float
    attempt: int = 0


@attrs.frozen
class Ended:
    """The task has ended. Again: its outputs have newer addresses, or it is clear now how it ended.

    Attributes:
        outcome: How it ended (None: the service does not say).
        at: When, in unix seconds (None: when this is recorded).
        cost: What was charged, in USD; what counts for it until the charge is recorded (None: nothing does).
        elapsed: The run time in seconds (None: not told).
        reason: On failure, what the model said.
        outputs: The files that it made.
        cost_final: Whether the cost is what the service said. What it has said before stays.
    """

    key: str
    outcome: Outcome | None
    at: float | None = None
    cost: Decimal | None = None
    elapsed: float | None = None
    reason: str = ""
    outputs: tuple[JournalFile, ...] = ()
    cost_final: bool = True

    @classmethod
    def of(cls, key: str, task: Task, estimate: Decimal | None) -> Ended:
        """Make the step of a task that has ended; the *estimate* counts until its charge is recorded."""
        return cls(
            key,
            task.outcome,
            None if task.ended_at is None else task.ended_at.timestamp(),
            estimate if task.cost is None else task.cost,
            TaskResult.of(task).elapsed,
            "" if task.outcome == "succeeded" else task.reason,
            tuple(
                JournalFile(output.index, output.name, output.url, output.content_type, output.size)
                for output in task.outputs
            ),
            cost_final=task.cost is not None,
        )


@attrs.frozen
class Stalled:
    """The task stands in ``task_error``, and did not change for a while: *reason* is what it met."""

    key: str
    reason: str = ""


@attrs.frozen
class Charged:
    """The charge of a task is recorded at last, some time after its end; once, whatever is told later.

    Attributes:
        task_id: The task, of whichever attempt.
        cost: The charge, in USD.
    """

    key: str
    task_id: str
    cost: Decimal


@attrs.frozen
class Saved:
    """An output is on the disk.

    Attributes:
        n: The output's place among the task's, from 0.
        path: The file.
        size: Its length in bytes.
        sha256: Its digest, in hexadecimal.
        whole: Whether it is certain that all of the output came.
    """

    key: str
    n: int
    path: str
    size: int
    sha256: str
    whole: bool = False


@attrs.frozen
class Done:
    """Everything wanted of the job is there."""

    key: str


@attrs.frozen
class Uploaded:
    """Content is at the service, so that it need not be uploaded again.

    Attributes:
        sha256: The content's digest, in hexadecimal.
        url: Where it is; trusted for ``UPLOADS_LAST``.
        size: Its length in bytes.
    """

    sha256: str
    url: str
    size: int


@attrs.frozen
class Learned:
    """What was learned, as a JSON object, in place of what was known under that name, such as ``prices``."""

    name: str
    data: JSON = attrs.field(repr=False)


@attrs.frozen
class Confirmed:
    """A person says that the journal is the one to go on with, though the account has these tasks besides."""

    tasks: tuple[str, ...]


JobStep: TypeAlias = (
    Intended | Accepted | Released | Doubted | Late | Stalled | Ended | Charged | Saved | Done
)
"""What happens to a job."""

Step: TypeAlias = JobStep | Uploaded | Learned | Confirmed
"""What can be recorded."""


# -- which step may follow which ---------------------------------------------------------------------------

_RULES: Mapping[type[JobStep], tuple[frozenset[State | None], State | None]] = {
    Intended: (frozenset({None, "refused", "failed", "cancelled"}), "intended"),
    # A task that turns up late is paid for, whatever was thought of it.
    Accepted: (frozenset({"intended", "unknown", "refused"}), "running"),
    Released: (frozenset({"intended", "unknown", "refused"}), "refused"),
    # A running job too: its first poll may show that the Run's answer was another's.
    Doubted: (frozenset({"intended", "unknown", "running"}), "unknown"),
    Late: (frozenset(get_args(State)), None),
    Stalled: (frozenset({"running", "stalled"}), "stalled"),
    Ended: (frozenset({"running", "stalled", "ended"}), "ended"),
    Charged: (frozenset(get_args(State)), None),
    Saved: (frozenset({"ended", "done", "failed", "cancelled"}), None),
    Done: (frozenset({"ended", "done"}), "done"),
}
"""From which states a step can be made (None: there is no such job yet), and where to (None: it stays)."""

_ENDS: Mapping[Outcome, State] = {"succeeded": "ended", "failed": "failed", "cancelled": "cancelled"}


def after(state: State | None, step: JobStep, *, unclear: bool = False) -> State | None:
    """Return the state that a step brings a job to, or None where it cannot be made.

    ``Accepted`` is also right in any other state, if it names the task that the job has already.

    Args:
        state: Where it stands (None: there is no such job yet).
        step: The step.
        unclear: Whether nobody knew so far how the job's task ended.
    """
    origins, target = _RULES[type(step)]
    if state not in origins:
        return None
    if isinstance(step, Ended):
        target = "ended" if step.outcome is None else _ENDS[step.outcome]
        # A success stays one.
        return target if unclear or state in ("running", "stalled", target) else None
    return target or state


def origins_of(step: JobStep) -> str:
    """Name the states from which a step can be made, for a message."""
    origins, _ = _RULES[type(step)]
    return ", ".join(state or "new" for state in (None, *STATES) if state in origins)


def text_of(step: Step) -> str:
    """Return the JSON text that a step brings, its inputs or its data ("" for other steps).

    Raises:
        InvalidInput: The key, an input or the data cannot be recorded.
    """
    match step:
        case Intended():
            check_key(step.key)
            return recorded(step.inputs)
        case Learned():
            return encode(step.data).decode()
    return ""


# -- what the journal tells ------------------------------------------------------------------------------


@attrs.frozen
class JournalFile(Record):
    """An output of a task, and where it was saved.

    Attributes:
        n: Its place among the task's outputs, from 0.
        name: The service's name for it. Do not trust it as a path.
        url: Where the service has it, for a limited time.
        content_type: Its media type.
        size: Its length in bytes: as the service says, and once it is saved, the file's (None: unknown).
        path: Where it was saved ("" if it was not).
        sha256: The digest of what was saved, in hexadecimal.
        saved_at: When it was saved, in unix seconds (None: it was not).
        whole: Whether it is certain that all of it was saved: nothing else is deleted at the service.
    """

    n: int
    name: str
    url: str
    content_type: str = ""
    size: int | None = None
    path: str = ""
    sha256: str = ""
    saved_at: float | None = None
    whole: bool = False


@attrs.frozen(kw_only=True)
class JournalEntry(Record):
    """A job in a journal, with the latest of its attempts.

    Attributes:
        key: The key that it has in its batch.
        inputs: Its inputs. A local file is there by its path and can be submitted again; of bytes there is
            only the digest.
        state: Where it stands: ``intended``, ``running``, ``stalled``, ``ended``, ``done``, ``failed``,
            ``cancelled``, ``unknown`` or ``refused``; docs/journal.md tells what they mean.
        attempt: The number of the latest attempt, from 1.
        runs: How many Runs were made for it; attempts that were turned away do not count.
        fingerprint: Model, digest, marker and times of the latest Run, which find its task.
        open: Whether a task of it may exist, or come to exist, that the journal does not know.
        task_id: The Run's task ("" while unknown).
        token: The task's socket token (None while unknown).
        accepted_at: When the task became known, in unix seconds.
        outcome: How the task ended (None: it has not, or nobody knows).
        cost: What the latest Run was charged, in USD, or what counts until that is known (None: not known).
        cost_final: Whether that is what the service says, and no estimate.
        elapsed: The run time in seconds (None: not known).
        ended_at: When the task ended, in unix seconds.
        error: The class of the error that the Run met, such as ``RateLimited`` ("" for none).
        reason: What that error, or the model, said.
        files: The outputs of the Run.
    """

    key: str
    inputs: JSONMapping = attrs.field(repr=False, hash=False)
    state: State
    attempt: int
    runs: int = 1
    fingerprint: RunFingerprint
    open: bool = False
    task_id: str = ""
    token: Secret | None = attrs.field(default=None, repr=False)
    accepted_at: float | None = None
    outcome: Outcome | None = None
    cost: Decimal | None = None
    cost_final: bool = False
    elapsed: float | None = None
    ended_at: float | None = None
    error: str = ""
    reason: str = ""
    files: tuple[JournalFile, ...] = ()

    @property
    def model(self) -> str:
        """The slug of its model."""
        return self.fingerprint.model


@attrs.frozen
class JournalFailure(Record):
    """A way in which jobs came to nothing.

    Attributes:
        state: ``failed``, ``cancelled``, ``stalled``, ``unknown`` or ``refused``.
        error: The class of the error ("" where a task failed by itself).
        reason: What was said, the same for all of these jobs.
        jobs: How many jobs.
    """

    state: State
    error: str
    reason: str
    jobs: int


@attrs.frozen
class JournalCounts(Record):
    """The jobs of a journal, counted.

    Attributes:
        jobs: How many are in each state; every state is there.
        cost: What all attempts were charged together, in USD, exact to 1e-12; estimates count for charges
            that are not recorded yet.
        uncharged: How many attempts' charges are not recorded yet.
        failures: The commonest failures, at most 50, most frequent first.
    """

    jobs: Mapping[State, int] = attrs.field(hash=False)
    cost: Decimal
    failures: tuple[JournalFailure, ...] = ()
    uncharged: int = 0

    @property
    def total(self) -> int:
        """How many jobs there are."""
        return sum(self.jobs.values())


@attrs.frozen
class UnchargedRun:
    """An attempt whose task has ended, and whose charge is not recorded yet.

    Attributes:
        key: The job's key.
        model: The model's slug.
        inputs: The job's inputs.
        task_id: The attempt's task.
        sent_at: When the Run was sent, in unix seconds.
        ended_at: When the task ended, in unix seconds.
        counted: What counts for the charge, in USD (None: nothing, there was no estimate).
    """

    key: str
    model: str
    inputs: JSONMapping = attrs.field(repr=False)
    task_id: str
    sent_at: float
    ended_at: float
    counted: Decimal | None


# -- keys and inputs -------------------------------------------------------------------------------------


@attrs.frozen
class LocalFile:
    """A local file among recorded inputs, by its path; it can be submitted as it is."""

    path: str

    def __fspath__(self) -> str:
        return self.path


@attrs.frozen
class Blob:
    """Bytes among recorded inputs: their digest, and not the bytes, which nobody but the caller has."""

    sha256: str
    size: int


def key_of(model: str, inputs: Mapping[str, object], occurrence: int = 0) -> str:
    """Return the key of a job that has none of its own.

    It is the same for inputs that the service cannot tell apart (6, 6.0 and "6"; the two spellings of a
    slug), so that a job list converted from one format to another is not paid for again. A local file counts
    by its path.

    Args:
        model: The slug.
        inputs: The inputs; bytes are hashed, so that large ones are better done in a worker thread.
        occurrence: How many equal jobs came before this one.

    Raises:
        InvalidInput: An input has no form that can be recorded.
    """
    told = {"model": clean_slug(model), "inputs": _portable(inputs, "inputs", 0)}
    return f"{digest(told, told.keys())[:32]}-{occurrence}"


def check_key(key: object) -> str:
    """Return a key that a journal can hold.

    Raises:
        InvalidInput: It is empty, too long, or not a string or a number.
    """
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise InvalidInput(
            f"the key {str(key)[:60]!r} is a {type(key).__name__}; it must be a str or an int", name="key"
        )
    text = str(key)
    if not text or len(text) > MAX_KEY or "\0" in text or not is_utf8(text):
        raise InvalidInput(
            f"the key {text[:60]!r} ({len(text)} characters) cannot be recorded; give 1 to {MAX_KEY} "
            f"characters, without NUL or halves of surrogate pairs",
            name="key",
        )
    return text


def described(inputs: Mapping[str, object]) -> JSON:
    """Return inputs as they come back from the journal: files as ``LocalFile``, bytes as ``Blob``.

    Bytes are hashed: do this in a worker thread where they are large, and give the result to ``key_of`` and
    ``Intended``, which then hash nothing.

    Raises:
        InvalidInput: An input has no form that can be recorded.
    """
    return recalled(recorded(inputs))


def recorded(inputs: Mapping[str, object]) -> str:
    """Return inputs as the JSON text that the journal keeps.

    Raises:
        InvalidInput: As for ``described``.
    """
    portable = _portable(inputs, "inputs", 0)
    assert isinstance(portable, dict)
    return encode(portable).decode()


def recalled(text: str) -> JSON:
    """Return the inputs of a recorded text."""
    inputs = _restored(json.loads(text))
    assert isinstance(inputs, dict)
    return inputs


def _portable(value: object, path: str, depth: int) -> object:
    """Replace what JSON does not have; names that begin with a dollar sign get a second one."""
    if depth > MAX_DEPTH:
        raise InvalidInput(
            f"{path[:80]}… is nested deeper than {MAX_DEPTH} levels; flatten it", name=path[:80]
        )
    if isinstance(value, Mapping):
        return {
            f"${name}" if str(name).startswith("$") else name: _portable(item, f"{path}.{name}", depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_portable(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, bytes | bytearray):
        return {"$sha256": hashlib.sha256(value).hexdigest(), "$size": len(value)}
    if isinstance(value, Blob):
        return {"$sha256": value.sha256, "$size": value.size}
    return _file(value, path)


def _file(value: object, path: str) -> object:
    location = getattr(value, "__fspath__", None)
    if location is not None:
        stored = path_value(location())
        return {"$path": stored} if isinstance(stored, str) else {"$path_hex": stored.hex()}
    if hasattr(value, "read") or hasattr(value, "filename"):
        raise InvalidInput(
            f"{path} is an open file, which can be read once only; a journal needs a pathlib.Path or bytes",
            name=path,
        )
    return value


def _restored(value: object) -> object:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$path": str(path), **rest} if not rest:
            return LocalFile(path)
        case {"$path_hex": str(path), **rest} if not rest:
            return LocalFile(path_of(bytes.fromhex(path)))
        case {"$sha256": str(sha256), "$size": int(size), **rest} if not rest:
            return Blob(sha256, size)
    return {name[1:] if name.startswith("$$") else name: _restored(item) for name, item in value.items()}


# -- values as columns -----------------------------------------------------------------------------------


def clean(text: str, limit: int | None = None) -> str:
    """Return text that can be stored: halves of surrogate pairs, as JSON can bring, become question marks."""
    return text[:limit].encode("utf-8", "replace").decode()


def path_value(path: str | bytes) -> str | bytes:
    """Return a path as a column takes it: text, or bytes where a name on the disk is no UTF-8."""
    text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
    raw = text.encode("utf-8", "surrogatepass")
    return text if is_utf8(text) else raw


def path_of(value: str | bytes) -> str:
    """Return the path of a column."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def whole(value: int | None) -> int | None:
    """Return a number of bytes as a column takes it; what cannot be one is not known."""
    return value if value is not None and 0 <= value <= _LARGEST else None


def seconds(value: float | None) -> float | None:
    """Return seconds as a column takes them; what cannot be any are not known."""
    return float(value) if value is not None and math.isfinite(value) else None


def picos(cost: Decimal | None) -> int | None:
    """Return an amount in units of 1e-12 USD, which sum exactly.

    64 bits hold USD 9.2 million; more than that becomes the largest, and a negative amount becomes 0, so that
    a budget errs on the safe side.
    """
    if cost is None or not cost.is_finite():
        return None
    if cost <= 0:
        return 0
    if _EXACT.create_decimal(cost) > Decimal(_LARGEST) / _PICOS:
        return _LARGEST
    return int(_EXACT.to_integral_value(_EXACT.multiply(cost, _PICOS)))


def usd(amount: int) -> Decimal:
    """Return an amount of the journal in USD."""
    return _EXACT.divide(Decimal(amount), _PICOS)
