"""Faults between a client and the sandbox, on the wire, its WebSockets and its callbacks.

They are scripted, or drawn from a seed::

    plan = FaultPlan(seed=7)
    plan.script("Run", Reset(after="processing"))  # the next Run is accepted, and its reply is lost
    plan.script("Task/List", Status(503, retry_after=2), times=3)
    plan.random(0.1, ["Run", "Task/Detail"])  # one request in ten, the same ones for the same seed
    plan.random(0.3, ["socket"], faults=[CutSocket(after=2), CutSocket(how="silence")])
    plan.script("callback", LostCallback())  # the next task with a callback URL ends unheard
    async with Sandbox(faults=plan) as sandbox:
        ...
    assert sandbox.ledger()["paid"] == 1, plan.injected

A request gets one fault at most. Faults are made by a proxy on the sandbox's port, so that they reach down to
single bytes; requests without a fault pass through it unchanged. All seconds are real ones, except ListLag's.
What a WebSocket says after its opening, and callbacks, are spoiled in the sandbox itself.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

__all__ = [
    "OPERATIONS",
    "STANDARD_FAULTS",
    "Blackhole",
    "CallbackFault",
    "CutHow",
    "CutSocket",
    "Drip",
    "Duplicate",
    "Fault",
    "FaultPlan",
    "Foreign",
    "ForgedCallback",
    "Garbage",
    "HalfClose",
    "Held",
    "Html",
    "Injection",
    "LateCallback",
    "Latency",
    "ListLag",
    "LostCallback",
    "NoTask",
    "Refused",
    "RepeatedCallback",
    "Request",
    "Reset",
    "RotateKey",
    "Status",
    "Unframed",
    "WireFault",
    "WrongLength",
]

_TASK_OPERATIONS: Final = frozenset({"Run", "Task/Detail", "Task/List", "Task/Cancel", "Task/Kill"})

_API_OPERATIONS: Final = _TASK_OPERATIONS | {
    "Task/InputOutputDelete",
    "File/Upload",
    "File/FolderCreate",
    "Tool/List",
    "Tool/Detail",
}

OPERATIONS: Final[frozenset[str]] = _API_OPERATIONS | {"cdn", "socket", "callback"}
"""What requests are told apart by: the API's operations, ``cdn`` (downloads), ``socket`` (a WebSocket's
opening), and ``callback`` (what the sandbox sends; numbered in the order of the Runs that asked for it). All
else, such as the sandbox's own switches, is ``other`` and can be matched by a function only."""


_EVERYWHERE: Final = OPERATIONS - {"callback"} | {"other"}

CutHow: TypeAlias = Literal["drop", "close", "silence"]
"""How a WebSocket breaks: see :class:`CutSocket`."""

_CUT_HOW: Final = ("drop", "close", "silence")

_not_negative = attrs.validators.ge(0.0)
_count: Callable[[object, Any, Any], None] = attrs.validators.optional(attrs.validators.ge(0))


def _not_zero(_fault: object, _attribute: attrs.Attribute[int], delta: int) -> None:
    if not delta:
        raise ValueError("WrongLength(0) is right: give a delta above or below 0.")


@attrs.frozen
class _Fault:
    # Some faults have a field of this name instead, which only attrs knows to be the same to readers.
    @property
    def processed(self) -> bool:
        """Whether the service gets and handles the request."""
        return True

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return _EVERYWHERE


@attrs.frozen
class _Rewrite(_Fault):
    """A fault that needs the whole of a reply. A WebSocket's has no end."""

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return _EVERYWHERE - {"socket"} if self.processed else _EVERYWHERE


@attrs.frozen
class Latency(_Fault):
    """The reply is late. The service has processed the request, also if the client does not wait.

    Attributes:
        seconds: How late.
    """

    seconds: float = attrs.field(validator=_not_negative)


@attrs.frozen
class Held(_Fault):
    """The network holds the request, and the service gets it late, though the client may have gone.

    Attributes:
        seconds: How late.
    """

    seconds: float = attrs.field(validator=_not_negative)

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return _API_OPERATIONS


@attrs.frozen
class Drip(_Fault):
    """A part of the reply comes slowly, the rest at once. The service has processed the request.

    Attributes:
        bytes_per_second: How slowly; never more than 20 pieces per second.
        part: ``"head"``: the status line and the headers; ``"body"``: what follows them.
    """

    bytes_per_second: float = attrs.field(validator=attrs.validators.gt(0))
    part: Literal["head", "body"] = attrs.field(
        default="body", validator=attrs.validators.in_(("head", "body"))
    )


@attrs.frozen(kw_only=True)
class Reset(_Fault):
    """The connection is reset (RST). Without an argument: as soon as the request arrives.

    The service has processed the request with ``after`` and ``at_reply_byte``, and never got it otherwise.

    Attributes:
        at_request_byte: Reset once this many bytes of the request, head included, have arrived, or all of it.
        after: ``"processing"``: no byte of the reply is sent.
        at_reply_byte: Reset after this many bytes of the reply, head included, or after all of it.
    """

    at_request_byte: int | None = attrs.field(default=None, validator=_count)
    after: Literal["processing"] | None = attrs.field(
        default=None, validator=attrs.validators.in_((None, "processing"))
    )
    at_reply_byte: int | None = attrs.field(default=None, validator=_count)

    def __attrs_post_init__(self) -> None:
        if [self.at_request_byte, self.after, self.at_reply_byte].count(None) < 2:
            raise ValueError(f"{self!r} happens at two times: give at_request_byte, after or at_reply_byte.")

    @property
    def processed(self) -> bool:
        """Whether the service gets and handles the request."""
        return self.after is not None or self.at_reply_byte is not None


@attrs.frozen
class HalfClose(_Fault):
    """The server says that no more will come (FIN), and keeps reading. The service has processed the request.

    Attributes:
        at_reply_byte: After how many bytes of the reply. None: after all of it, though the client was told
            that the connection stays.
    """

    at_reply_byte: int | None = attrs.field(default=0, validator=_count)


@attrs.frozen
class Blackhole(_Rewrite):
    """Nothing comes back. Then the connection is closed; earlier, if the client leaves.

    Attributes:
        seconds: How long the client is left waiting.
        processed: Whether the service gets and handles the request.
    """

    seconds: float = attrs.field(default=60.0, validator=_not_negative)
    processed: bool = attrs.field(default=False, kw_only=True)  # pyright: ignore[reportIncompatibleMethodOverride]


@attrs.frozen
class WrongLength(_Rewrite):
    """The reply's Content-Length is wrong. The service has processed the request.

    Attributes:
        delta: What is added to the true length. Above 0 the connection is closed after the body, so the reply
            is cut short. Below 0 it stays, and the surplus begins the next reply.
    """

    delta: int = attrs.field(validator=_not_zero)


@attrs.frozen
class Unframed(_Rewrite):
    """The reply tells no length: its end is the connection's. The service has processed the request.

    Attributes:
        lost: How many bytes at the body's end never come.
    """

    lost: int = attrs.field(default=0, validator=attrs.validators.ge(0))


@attrs.frozen
class Garbage(_Rewrite):
    """Bytes that are not what they should be.

    Attributes:
        data: The bytes.
        part: ``"head"``: they come in place of the whole reply and are no HTTP; the connection is closed.
            ``"body"``: they are the body of a ``200 OK`` that claims to be JSON.
        processed: Whether the service gets and handles the request.
    """

    data: bytes = b'\x00\xff{"result": tru'
    part: Literal["head", "body"] = attrs.field(
        default="body", validator=attrs.validators.in_(("head", "body"))
    )
    processed: bool = attrs.field(default=True, kw_only=True)  # pyright: ignore[reportIncompatibleMethodOverride]


@attrs.frozen
class Html(_Rewrite):
    """A web page in place of the reply, as proxies send it.

    Attributes:
        status: The status line's code.
        processed: Whether the service gets and handles the request.
    """

    status: int = attrs.field(default=502, validator=[attrs.validators.ge(200), attrs.validators.lt(600)])
    processed: bool = attrs.field(default=False, kw_only=True)  # pyright: ignore[reportIncompatibleMethodOverride]


@attrs.frozen
class Status(_Rewrite):
    """An error status with the service's envelope.

    Attributes:
        code: The status line's code, 400 to 599.
        retry_after: The Retry-After header: seconds, or any text; None leaves it out.
        processed: Whether the service gets and handles the request: a proxy may give up before or after that.
    """

    code: int = attrs.field(validator=[attrs.validators.ge(400), attrs.validators.lt(600)])
    retry_after: float | str | None = None
    processed: bool = attrs.field(default=False, kw_only=True)  # pyright: ignore[reportIncompatibleMethodOverride]


@attrs.frozen(kw_only=True)
class Refused(_Rewrite):
    """A refusal in the service's own envelope, ``"result": false``, whatever became of the request.

    The service words its own faults like its refusals, and may have accepted a Run that it refuses.

    Attributes:
        message: The service's words.
        code: Its error code.
        status: The status line's code.
        processed: Whether the service gets and handles the request.
        names_task: For a Run that was processed: whether the refusal names its task all the same.
    """

    message: str = "Database connection lost"
    code: int = 0
    status: int = attrs.field(default=200, validator=[attrs.validators.ge(200), attrs.validators.lt(600)])
    processed: bool = attrs.field(default=False)  # pyright: ignore[reportIncompatibleMethodOverride]
    names_task: bool = False

    def __attrs_post_init__(self) -> None:
        if self.names_task and not self.processed:
            raise ValueError("names_task=True needs processed=True: only then is there a task to name.")

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return frozenset({"Run"}) if self.names_task else _API_OPERATIONS


@attrs.frozen
class NoTask(_Fault):
    """The reply comes from a machine that does not know the task yet. The service has processed the request.

    Attributes:
        empty: False: the reply is a refusal, "There is no task yet." True: it is a good one without any task.
    """

    empty: bool = False

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return frozenset({"Task/Detail", "Task/Cancel", "Task/Kill"})


@attrs.frozen
class Duplicate(_Rewrite):
    """The reply comes twice: the second one answers the next call. The service has processed the request."""


@attrs.frozen
class Foreign(_Fault):
    """A good reply to somebody else's question about a task. The service has processed the request.

    Attributes:
        invented: False: the reply is about the newest other task of the project, if there is one. True: about
            one that does not exist.
    """

    invented: bool = False

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return _TASK_OPERATIONS


@attrs.frozen
class ListLag(_Fault):
    """Task/List does not know the youngest tasks yet. The service has processed the request.

    Attributes:
        seconds: How old a task must be, by the sandbox's clock. ``math.inf`` empties the list.
    """

    seconds: float = attrs.field(validator=_not_negative)

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return frozenset({"Task/List"})


@attrs.frozen
class RotateKey(_Fault):
    """The project gets a new key: from this request on, itself included, the old one is refused with a 401.

    The service gets the request. Tasks stay with the project.

    Attributes:
        api_key: The project's new key.
        api_secret: Its new secret; None makes the project key-only.
    """

    api_key: str = attrs.field(default="rotated-key", repr=False)
    api_secret: str | None = attrs.field(default="rotated-secret", repr=False)

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return _API_OPERATIONS


def is_close_code(code: int) -> bool:
    """Tell whether a WebSocket may be closed with this code: RFC 6455 keeps some for other uses."""
    return 1000 <= code < 5000 and not (code in {1004, 1005, 1006} or 1014 < code < 3000)


def _check_code(_fault: object, _attribute: attrs.Attribute[int], code: int) -> None:
    if type(code) is not int or not is_close_code(code):
        raise ValueError(f"code={code!r} cannot be sent: use 1000 to 1014 but 1004 to 1006, or 3000 to 4999.")


def _check_after(_fault: object, _attribute: attrs.Attribute[Any], after: Any) -> None:
    if after not in {"connect", "register"} and not (type(after) is int and after > 0):
        raise ValueError(f'after={after!r} must be "connect", "register" or a number of messages from 1 up.')


@attrs.frozen(kw_only=True)
class CutSocket(_Fault):
    """A WebSocket breaks, once it is open. To be noticed at its opening, though it happens later.

    Attributes:
        after: ``"connect"``: before its first message; ``"register"``: once a task was registered; a number:
            after so many messages about tasks.
        how: ``"drop"``: the connection ends without a close frame, which clients call 1006; ``"close"``: it
            ends with one; ``"silence"``: it stays, but nothing more is said, and pings are not answered.
        code: What ``"close"`` gives as its reason: 1000 to 1014 but 1004 to 1006, or 3000 to 4999.
    """

    after: Literal["connect", "register"] | int = attrs.field(default="connect", validator=_check_after)
    how: CutHow = attrs.field(default="drop", validator=attrs.validators.in_(_CUT_HOW))
    code: int = attrs.field(default=1011, validator=_check_code)

    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return frozenset({"socket"})


@attrs.frozen
class _Callback(_Fault):
    # ``processed`` says here whether the true callback is sent.
    @property
    def operations(self) -> frozenset[str]:
        """Where this fault can occur."""
        return frozenset({"callback"})


@attrs.frozen
class LostCallback(_Callback):
    """A task's callback is never sent."""

    @property
    def processed(self) -> bool:
        """Whether the callback is sent."""
        return False


@attrs.frozen
class LateCallback(_Callback):
    """A task's callback is sent late.

    Attributes:
        seconds: How late.
    """

    seconds: float = attrs.field(default=5.0, validator=_not_negative)


@attrs.frozen
class RepeatedCallback(_Callback):
    """A task's callback is sent twice.

    Attributes:
        seconds: How much later the second time.
    """

    seconds: float = attrs.field(default=0.0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class ForgedCallback(_Callback):
    """Somebody else sends a callback too, which says that the task has succeeded. The true one comes as well.

    Attributes:
        seconds: How long after the Run.
        stray: Whether it goes to an address that is not quite the task's: it ends in an ``x`` too much.
    """

    seconds: float = attrs.field(default=0.0, validator=_not_negative)
    stray: bool = False


WireFault: TypeAlias = (
    Latency
    | Held
    | Drip
    | Reset
    | HalfClose
    | Blackhole
    | WrongLength
    | Unframed
    | Garbage
    | Html
    | Status
    | Refused
    | NoTask
    | Duplicate
    | Foreign
    | ListLag
    | RotateKey
    | CutSocket
)
"""What can happen to a request from a client."""

CallbackFault: TypeAlias = LostCallback | LateCallback | RepeatedCallback | ForgedCallback
"""What can happen to a callback."""

Fault: TypeAlias = WireFault | CallbackFault

STANDARD_FAULTS: Final[tuple[Fault, ...]] = (
    Latency(0.1),
    Held(0.1),
    Drip(2000),
    Reset(),
    Reset(at_request_byte=40),
    Reset(after="processing"),
    Reset(at_reply_byte=20),
    Reset(at_reply_byte=150),
    HalfClose(),
    HalfClose(100),
    HalfClose(None),
    Blackhole(2.0),
    Blackhole(2.0, processed=True),
    WrongLength(7),
    WrongLength(-7),
    Unframed(),
    Garbage(),
    Garbage(part="head"),
    Html(200),
    Html(502),
    Html(502, processed=True),
    Html(403),
    Html(403, processed=True),
    Refused(),
    Refused(processed=True),
    Refused(processed=True, names_task=True),
    Refused(code=0, message="Project authorization is not valid.", status=401),
    NoTask(),
    NoTask(empty=True),
    Status(429, retry_after=1),
    Status(500),
    Status(503, retry_after=1),
    Status(504, processed=True),
    Duplicate(),
    Foreign(),
    Foreign(invented=True),
    ListLag(2.0),
    CutSocket(),
    CutSocket(after="register"),
    CutSocket(after=3, how="close"),
    CutSocket(after=5, how="silence"),
    LostCallback(),
    LateCallback(),
    RepeatedCallback(),
    ForgedCallback(),
    ForgedCallback(stray=True),
)
"""What :meth:`FaultPlan.random` draws from unless told otherwise: all kinds but RotateKey, which stays."""


@attrs.frozen(kw_only=True)
class Request:
    """A request as a plan sees it.

    Attributes:
        operation: One of ``OPERATIONS``, or ``"other"``.
        number: Its running number within its operation, from 1.
        method: Such as ``POST``.
        path: The request's target as it was sent; a callback's whole address.
        headers: By name in lower case.
        body: The body, if it has up to 64 KiB, is not chunked and came within a second; else what there was.
    """

    operation: str
    number: int
    method: str
    path: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Injection:
    """A fault that has been made.

    Attributes:
        number: The request's running number within its operation, from 1.
        operation: Its operation.
        fault: The fault.
        at: When, in unix seconds by the sandbox's clock: before the client could notice.
        processed: Whether the service had processed the request, or sends the true callback.
    """

    number: int
    operation: str
    fault: Fault
    at: float
    processed: bool


Where: TypeAlias = str | Callable[[Request], bool]


@attrs.define
class _Script:
    where: Where
    fault: Fault
    skip: int
    times: int | None

    def take(self, request: Request) -> bool:
        """Whether this request's turn has come."""
        matches = self.where(request) if callable(self.where) else self.where == request.operation
        if not matches or self.times == 0 or request.operation not in self.fault.operations:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@attrs.frozen
class _Chance:
    probability: float
    operations: frozenset[str]
    weights: tuple[tuple[Fault, float], ...]

    def draw(self, rng: random.Random, operation: str) -> Fault | None:
        """Pick a fault, or none."""
        if operation not in self.operations or rng.random() >= self.probability:
            return None
        fitting = [(fault, weight) for fault, weight in self.weights if operation in fault.operations]
        faults, weights = [fault for fault, _ in fitting], [weight for _, weight in fitting]
        return rng.choices(faults, weights)[0] if sum(weights) else None


class FaultPlan:
    """Which requests are to suffer which fault. For one sandbox; can be changed at any time, from any thread.

    Scripts come first, in the order in which they were written; then the probabilities.

    Args:
        seed: What the random faults come from. Whether and how a request fails depends on the seed and on its
            running number within its operation only, so a schedule can be replayed though requests of
            different operations interleave differently.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed: int = seed
        self._lock: threading.RLock = threading.RLock()
        self._scripts: list[_Script] = []
        self._chances: list[_Chance] = []
        self._seen: Counter[str] = Counter()
        self._injected: list[Injection] = []

    def __repr__(self) -> str:
        rules = f"{len(self._scripts)} scripts, {len(self._chances)} probabilities"
        return f"<FaultPlan seed={self._seed}, {rules}, {len(self._injected)} injected>"

    def script(self, where: Where, fault: Fault, *, times: int | None = 1, skip: int = 0) -> None:
        """Let certain requests suffer a fault.

        Args:
            where: An operation (see ``OPERATIONS``), or a function of the request. It is called in the
                sandbox's thread and must be quick. Requests that the fault does not fit are left alone.
            fault: What happens.
            times: To how many of them; None to all that come.
            skip: How many matching requests pass before.

        Raises:
            ValueError: For an operation that does not exist or does not fit the fault, or a count below 0.
        """
        if isinstance(where, str):
            _check_operations([where])
            if where not in fault.operations:
                raise ValueError(f"{fault!r} fits {_listed(fault.operations)}, not {where!r}.")
        if skip < 0 or (times is not None and times < 0):
            raise ValueError(f"times={times}, skip={skip}: neither may be below 0; times=None means always.")
        with self._lock:
            self._scripts.append(_Script(where, fault, skip, times))

    def random(
        self,
        probability: float,
        operations: Iterable[str] | None = None,
        *,
        faults: Iterable[Fault] | Mapping[Fault, float] = STANDARD_FAULTS,
    ) -> None:
        """Let requests fail by chance.

        Args:
            probability: Of a fault, per request, from 0 to 1.
            operations: Which may fail; None: all of ``OPERATIONS``.
            faults: What may happen, equally likely, or with weights as ``{fault: weight}``. Only faults that
                fit a request's operation are drawn.

        Raises:
            ValueError: For an operation that does not exist, or a probability or weight that is none.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability!r} must be from 0 to 1.")
        names = OPERATIONS if operations is None else frozenset(operations)
        _check_operations(names)
        weights = faults if isinstance(faults, Mapping) else dict.fromkeys(faults, 1.0)
        if not all(0 <= weight < float("inf") for weight in weights.values()):
            raise ValueError("Weights are numbers from 0 up, such as {Reset(): 2, Html(): 1}.")
        with self._lock:
            self._chances.append(_Chance(probability, names, tuple(weights.items())))

    def clear(self) -> None:
        """Forget all rules. The records and the running numbers stay."""
        with self._lock:
            self._scripts.clear()
            self._chances.clear()

    @property
    def injected(self) -> tuple[Injection, ...]:
        """The faults that have been made, in order. Each is in here before a client can notice it."""
        with self._lock:
            return tuple(self._injected)

    @property
    def seen(self) -> dict[str, int]:
        """How many requests have arrived, by operation: those too that the service never got."""
        with self._lock:
            return dict(self._seen)

    def number(self, operation: str) -> int:
        """Count a request, and return its running number. Called by the sandbox."""
        with self._lock:
            self._seen[operation] += 1
            return self._seen[operation]

    def choose(self, request: Request) -> Fault | None:
        """Decide about a request, once. Called by the sandbox."""
        with self._lock:
            for script in tuple(self._scripts):
                if script.take(request):
                    return script.fault
            for index, chance in enumerate(tuple(self._chances)):
                name = f"{self._seed}/{index}/{request.operation}/{request.number}"
                rng = random.Random(name)  # noqa: S311 - a simulation, not a secret
                fault = chance.draw(rng, request.operation)
                if fault is not None:
                    return fault
        return None

    def note(self, request: Request, fault: Fault, at: float, *, processed: bool) -> None:
        """Record a fault. Called by the sandbox."""
        with self._lock:
            self._injected.append(Injection(request.number, request.operation, fault, at, processed))


def _check_operations(names: Iterable[str]) -> None:
    for name in names:
        if name not in OPERATIONS:
            raise ValueError(f"{name!r} is no operation. Known: {_listed(OPERATIONS)}.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
