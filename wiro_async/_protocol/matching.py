"""Finding the task of a Run whose answer was lost. Pure: tasks in, matches out.

A Run has no idempotency key. Where the caller gave a callback URL, a marker in its query tells our task from
every other; else the task is known by its model, its inputs and the time of its creation. A search takes only
a task that is nobody's yet, so that several identical Runs in doubt find as many tasks as there are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from wiro_async._errors import SubmissionUnknown
from wiro_async._protocol.operations import clean_slug
from wiro_async._protocol.records import Task
from wiro_async._types import JSON, Status

__all__ = [
    "CLOCK_SKEW", "Claim", "KnownTasks", "RunFingerprint", "Skew", "Strangers", "contradicts", "digest",
    "fingerprint_of", "is_marked", "lookalikes", "marker_in", "marker_of", "matches", "may_share",
    "read_back_to", "search_times", "tag_in", "unknown", "with_marker",
]  # fmt: skip

SEARCHES = (0.0, 1 / 15, 1 / 6, 1 / 2, 1.0)
"""When Task/List is read, as shares of ``Limits.settle_timeout``: the list may lag behind."""

CLOCK_SKEW = 90.0
"""Seconds by which clocks may differ: a task like a Run, made so much too early or too late, is the Run's."""

FAR_SKEW = 3600.0
"""Seconds by which clocks may differ at worst: such a task may be the Run's, which is then not absent."""

MARKER = "wiro_async"
"""The query item of a callback URL that carries the marker."""

LAZY_CLAIMS = 1000
"""How many claims keep their Runs' payloads; of older ones only the fingerprint is kept."""

INDEXES = 16
"""Of how many kinds of Runs ``Strangers`` keeps its digests: a kind takes 1 MB for 5 000 tasks."""

_OURS = frozenset({"callbackUrl", "projectid"})
"""What we add to a payload; the service keeps these elsewhere than in the task's parameters."""


class RunFingerprint(NamedTuple):
    """What is known of a Run that may have been accepted.

    Attributes:
        model: The slug it was sent to.
        names: The names of its inputs.
        digest: The digest of its inputs; see ``digest``.
        sent_at: When it was first sent, in unix seconds.
        marker: What its callback URL carries ("" without one).
        quiet_at: From when on its task is in the list or will never exist, in unix seconds (infinity: not
            known). Only a reading of the list that begins later proves anything absent.
    """

    model: str
    names: tuple[str, ...]
    digest: str
    sent_at: float
    marker: str = ""
    quiet_at: float = math.inf

    @classmethod
    def of(cls, model: str, payload: JSON, sent_at: float, quiet_at: float) -> RunFingerprint:
        """Describe the Run of *payload*."""
        names = tuple(sorted(payload.keys() - _OURS))
        marker = marker_in(str(payload.get("callbackUrl", "")))
        return cls(model, names, digest(payload, names), sent_at, marker, quiet_at)

    @property
    def kind(self) -> tuple[str, str]:
        """What equal Runs have in common: their model and their inputs."""
        return clean_slug(self.model), self.digest


class Skew(NamedTuple):
    """How far the service's clock is ahead of ours, in seconds: no less than *low*, no more than *high*."""

    low: float = 0.0
    high: float = 0.0

    @classmethod
    def told(cls, date: str, asked: float, received: float) -> Skew | None:
        """Read a reply's ``Date``, which has whole seconds (None: it has none, or one that is no date).

        Args:
            date: The header.
            asked: When the question was sent, by our clock.
            received: When the reply was there.
        """
        try:
            moment = parsedate_to_datetime(date)
        except (ValueError, OverflowError):
            return None
        there = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
        return cls(there - received, there + 1.0 - asked)


def digest(inputs: Mapping[str, object], names: Collection[str]) -> str:
    """Return the SHA-256 of those inputs in a form that survives the wire, where numbers become strings."""
    plain = {name: _plain(inputs.get(name)) for name in sorted(names)}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return _number(str(value).strip())


def _number(text: str) -> str:
    """Give a number one spelling: 6, 6.0 and "6" are the same input."""
    # Up to 28 digits in all, which is what Decimal normalises without rounding.
    if not re.fullmatch(r"-?\d{1,18}(\.\d{1,10})?", text, re.ASCII):
        return text
    return format(Decimal(text).normalize(), "f")


def unknown(
    fingerprint: RunFingerprint, cause: str, *, absent: bool = False, like: Task | None = None
) -> SubmissionUnknown:
    """Return the error that says that nobody knows.

    Args:
        fingerprint: The Run.
        cause: What was seen instead of an answer.
        absent: Whether the list was searched to its end, and does not have its task.
        like: A task that may be the Run's if the clocks are far apart (None: there is none).
    """
    absent = absent and like is None
    seen = "It may have been accepted, and may be billed"
    if absent:
        seen = "It was not in Task/List once no request of it could be on its way, so it does not exist"
    elif fingerprint.quiet_at < math.inf:
        seen += f"; whether it exists can be told from {_utc(fingerprint.quiet_at)} on"
    if like is not None:
        sent, created = fingerprint.sent_at, like.timestamps[Status.QUEUE]
        seen += (
            f": task {like.id} has the same model and inputs, and is {abs(sent - created):.0f} s "
            f"{'older' if created < sent else 'younger'} by its creation time ({_utc(created)}) than the Run "
            f"by this computer's clock ({_utc(sent)}); it is the Run's if the clocks are that far apart, so "
            f"compare them, and attach to the task if it is"
        )
    return SubmissionUnknown(
        f"Run of {fingerprint.model}: {cause}. {seen}. It was not sent again; search again with "
        f"client.reconcile(error), or pass on_unknown='resubmit' to send anew what was proved absent",
        model=fingerprint.model,
        input_names=fingerprint.names,
        inputs_digest=fingerprint.digest,
        marker=fingerprint.marker,
        submitted_at=fingerprint.sent_at,
        cause=cause,
        absent=absent,
        quiet_at=fingerprint.quiet_at,
    )


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def fingerprint_of(error: SubmissionUnknown) -> RunFingerprint:
    """Return what to search for."""
    return RunFingerprint(
        error.model,
        error.input_names,
        error.inputs_digest,
        error.submitted_at,
        error.marker,
        error.quiet_at,
    )


# -- the marker ------------------------------------------------------------------------------------------


def marker_of(tag: str, token: str) -> str:
    """Return a Run's marker: a token of its own, behind the tag of the journal that records it ("": none)."""
    return f"{tag}-{token}" if tag else token


def tag_in(marker: str) -> str:
    """Return the tag of the journal that a marker is recorded in ("": of none)."""
    tag, dash, _ = marker.partition("-")
    return tag if dash else ""


def with_marker(url: str, marker: str) -> str:
    """Return *url* with the marker among its query items; the rest of it stays as it is."""
    parts = urlsplit(url)
    item = urlencode({MARKER: marker})
    return urlunsplit(parts._replace(query=f"{parts.query}&{item}" if parts.query else item))


def marker_in(url: str) -> str:
    """Return the marker of a callback URL ("" if there is none)."""
    try:
        query = urlsplit(url).query
    except ValueError:
        return ""
    return next((value for name, value in parse_qsl(query) if name == MARKER), "")


# -- whose task is it ------------------------------------------------------------------------------------


class KnownTasks:
    """The tasks that this process knows to be somebody's; the newest 100 000.

    A task is somebody's for certain, or claimed by a Run whose answer named it. That answer may have been
    another Run's, so the first poll of the task, or the list, may show that the claim is false.
    """

    def __init__(self, kept: int = 100_000) -> None:
        self._kept: int = kept
        self._claims: dict[str, Claim | RunFingerprint | None] = {}
        # The claims that still hold a payload, oldest first; some are confirmed or released by now.
        self._lazy: deque[str] = deque()

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._claims

    def add(self, task_id: str, claim: Claim | RunFingerprint | None = None) -> None:
        """Remember a task: as somebody's for certain, or as *claim*'s."""
        self._claims[task_id] = claim
        if len(self._claims) > self._kept:
            del self._claims[next(iter(self._claims))]
        if isinstance(claim, Claim):
            self._lazy.append(task_id)
            if len(self._lazy) > LAZY_CLAIMS:
                # A task that is never polled would else keep its Run's payload for as long as it is known.
                older = self._lazy.popleft()
                if isinstance(held := self._claims.get(older), Claim):
                    self._claims[older] = held.fingerprint

    def confirm(self, task_id: str, claim: Claim) -> bool:
        """Make a claim certain; False if the task has turned out to be another's meanwhile."""
        # What was dropped because newer tasks came is still the claimant's.
        if task_id in self._claims and not _is_same(self._claims[task_id], claim):
            return False
        self.add(task_id)
        return True

    def release(self, task_id: str, claim: Claim) -> None:
        """Forget a claim that turned out to be false, unless the task is another's by now."""
        if _is_same(self._claims.get(task_id), claim):
            del self._claims[task_id]

    def is_free(self, task: Task) -> bool:
        """Tell whether a task of the list is nobody's, or claimed by a Run that it cannot be of."""
        held = self._claims.get(task.id)
        if held is None:
            return task.id not in self._claims
        fingerprint = held.fingerprint if isinstance(held, Claim) else held
        return not any((*matches(fingerprint, [task]), *lookalikes(fingerprint, [task])))


def _is_same(held: Claim | RunFingerprint | None, claim: Claim) -> bool:
    if held is None or held is claim:
        return held is claim
    # Digests are computed only here, where a task is not known by the very claim that it came with.
    return (held.fingerprint if isinstance(held, Claim) else held) == claim.fingerprint


@attrs.define(eq=False)
class Claim:
    """A Run's claim on the task that its answer named, until a poll confirms that it is the Run's.

    Attributes:
        known: The tasks that are somebody's.
        model: The slug that the Run was sent to.
        payload: What was sent.
        sent_at: When it was sent, in unix seconds.
        quiet_at: As for ``RunFingerprint``.
    """

    known: KnownTasks = attrs.field(repr=False)
    model: str
    payload: JSON = attrs.field(repr=False)
    sent_at: float
    quiet_at: float
    _fingerprint: RunFingerprint | None = attrs.field(default=None, repr=False, init=False)

    @property
    def fingerprint(self) -> RunFingerprint:
        """What to search for if the Run's answer is lost; computed once, when it is first needed."""
        if self._fingerprint is None:
            self._fingerprint = RunFingerprint.of(self.model, self.payload, self.sent_at, self.quiet_at)
        return self._fingerprint

    def verify(self, task: Task) -> None:
        """Make the claim certain, now that the task's record is there.

        Raises:
            SubmissionUnknown: The task cannot be what came of the Run, or is another Run's.
        """
        if contradicts(self.model, self.payload, task) or not self.known.confirm(task.id, self):
            raise self.disown(
                task.id, f"the reply named task {task.id}, which is of another model or of other inputs"
            )

    def disown(self, task_id: str, cause: str) -> SubmissionUnknown:
        """Give the task up, and return the error that says that nobody knows what became of the Run."""
        self.known.release(task_id, self)
        return unknown(self.fingerprint, cause)


# -- the search ------------------------------------------------------------------------------------------


def search_times(seconds: float) -> tuple[float, ...]:
    """Return when to search for a task, in seconds after its answer was lost: 0, 2, 5, 15 and 30 s of 30."""
    return tuple(share * seconds for share in SEARCHES)


def read_back_to(fingerprint: RunFingerprint, skew: Skew | None) -> float:
    """Return the creation time, in unix seconds, before which no task can be the one in doubt.

    Where nothing tells how far the clocks differ, it is that of the oldest task that may be the Run's.
    """
    return fingerprint.sent_at - FAR_SKEW if skew is None else fingerprint.sent_at + skew.low - CLOCK_SKEW


def is_marked(fingerprint: RunFingerprint, task: Task) -> bool:
    """Tell whether a task has the marker of the Run in doubt, and so is the Run's for certain."""
    return bool(fingerprint.marker) and marker_in(task.callback_url) == fingerprint.marker


def matches(fingerprint: RunFingerprint, tasks: Iterable[Task], skew: Skew | None = None) -> Iterator[Task]:
    """Yield the tasks that may be the one in doubt, oldest first; if some have its marker, only those.

    Args:
        fingerprint: The Run in doubt.
        tasks: Tasks of the list.
        skew: How far the service's clock is ahead of ours (None: not known, taken for not at all).
    """
    fitting = sorted(tasks, key=lambda task: (task.timestamps.get(Status.QUEUE, 0.0), task.id))
    marked = [task for task in fitting if is_marked(fingerprint, task)]
    yield from marked or (
        task for task in fitting if _misfit(fingerprint, task, skew) == 0.0 and _alike(fingerprint, task)
    )


def lookalikes(
    fingerprint: RunFingerprint, tasks: Iterable[Task], skew: Skew | None = None
) -> Iterator[Task]:
    """Yield the tasks that would match, were they not up to an hour too old or too young: a clock may be off.

    Args:
        fingerprint: The Run in doubt.
        tasks: Tasks of the list.
        skew: As for ``matches``.
    """
    for task in tasks:
        if 0.0 < _misfit(fingerprint, task, skew) <= FAR_SKEW and _alike(fingerprint, task):
            yield task


def _misfit(fingerprint: RunFingerprint, task: Task, skew: Skew | None) -> float:
    """Return by how many seconds a task was made before or after all times at which the Run's can be made."""
    if Status.QUEUE not in task.timestamps:
        return 0.0
    created, (low, high) = task.timestamps[Status.QUEUE], skew or Skew()
    oldest = fingerprint.sent_at + low - CLOCK_SKEW
    youngest = fingerprint.quiet_at + high + CLOCK_SKEW
    return max(oldest - created, created - youngest, 0.0)


def may_share(one: RunFingerprint, other: RunFingerprint) -> bool:
    """Tell whether the task of one of two Runs could be taken for the other's."""
    apart = max(one.sent_at - other.quiet_at, other.sent_at - one.quiet_at)
    return apart <= 2 * CLOCK_SKEW and one.kind == other.kind


class Strangers:
    """Tasks that nobody knows, to be recognised by the inputs of Runs to come.

    Args:
        tasks: The tasks, in any order.
    """

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        # By their places, so that one that was taken is found in no index any more.
        self._tasks: dict[int, Task] = dict(enumerate(tasks))
        # By model and names, and then by digest: the places, the first of them last.
        self._indexes: dict[tuple[str, tuple[str, ...]], dict[str, list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def take(self, fingerprint: RunFingerprint) -> Task | None:
        """Return a task of the same model and inputs as a Run, without a callback of its own; once only."""
        places = self._index(clean_slug(fingerprint.model), fingerprint.names).get(fingerprint.digest, [])
        while places:
            # A task whose model is not told is in several indexes: another may have given it away.
            task = self._tasks.pop(places.pop(), None)
            if task is not None:
                return task
        return None

    def _index(self, slug: str, names: tuple[str, ...]) -> dict[str, list[int]]:
        """Return the digests of all tasks for Runs of that model with those inputs; computed once for all."""
        if (slug, names) not in self._indexes:
            if len(self._indexes) >= INDEXES:
                del self._indexes[next(iter(self._indexes))]
            index = self._indexes[slug, names] = {}
            for place, task in reversed(self._tasks.items()):
                if _is_comparable(slug, task):
                    index.setdefault(digest(task.parameters, names), []).append(place)
        return self._indexes[slug, names]


def _alike(fingerprint: RunFingerprint, task: Task) -> bool:
    slug = clean_slug(fingerprint.model)
    return _is_comparable(slug, task) and digest(task.parameters, fingerprint.names) == fingerprint.digest


def _is_comparable(slug: str, task: Task) -> bool:
    """Tell whether a task, if its inputs are a Run's, may be the Run's."""
    # A callback that is on record and is not ours belongs to somebody else's Run.
    if task.callback_url or not task.parameters:
        return False
    return not task.model or clean_slug(task.model) == slug


def contradicts(model: str, sent: Mapping[str, object], task: Task) -> bool:
    """Tell whether *task* cannot be what came of a Run of *sent*: then the Run's answer was another's.

    The service may rewrite what it records: files become addresses of its own, defaults appear, some replies
    tell no parameters at all. So only a clear contradiction counts: another model; or texts and numbers under
    names that we sent, and not one of them as we sent it; or the marker of another Run.
    """
    marker = marker_in(task.callback_url)
    if marker and marker != marker_in(str(sent.get("callbackUrl", ""))):
        return True
    if task.model not in ("", model) and clean_slug(task.model) != clean_slug(model):
        return True
    common = [
        (_plain(sent[name]), _plain(task.parameters[name])) for name in sent.keys() & task.parameters.keys()
    ]
    told = [pair for pair in common if not any("://" in str(side) for side in pair)]
    return bool(told) and all(ours != theirs for ours, theirs in told)
