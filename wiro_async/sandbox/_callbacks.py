"""Callbacks: the result of a task, POSTed to the address that its Run gave."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import attrs
import h11
from anyio.abc import SocketStream

from wiro_async._types import Status
from wiro_async._version import __version__
from wiro_async.sandbox._config import CallbackShape
from wiro_async.sandbox._engine import Engine, Task
from wiro_async.sandbox._scheduler import Follower, Scheduler
from wiro_async.sandbox.faults import (
    CallbackFault,
    FaultPlan,
    ForgedCallback,
    LateCallback,
    LostCallback,
    RepeatedCallback,
    Request,
)

__all__ = ["ATTEMPTS", "Callbacks"]

ATTEMPTS = 3
"""How often a callback is sent until it is answered with 2xx: as often as the service's documented ones."""

_CONNECTIONS = 32  # attempts at the same time

_TERMINAL = frozenset({Status.POSTPROCESS_END, Status.CANCEL})


_FORGED_URL = "https://forged.invalid/0.mp4"


@attrs.frozen
class _Expected:
    """A callback that is to come, and what shall go wrong with it."""

    task: Task
    request: Request
    fault: CallbackFault | None


@attrs.frozen
class _Errand:
    """Something to send after so many seconds; ``entry`` is what it is counted as once it has arrived."""

    url: str = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    delay: float = 0.0
    entry: str = "sent"


class Callbacks:
    """Sends the results of tasks that have a callback URL, as soon as they end.

    Args:
        engine: Knows the tasks.
        scheduler: Says when they end.
        clock: Gives the time.
        show: Gives a task as it is now.
        may_reach: Tells whether something may be sent to an address.
        shape: Whether the body is a list of one task, or the task itself.
        pause: Seconds between two attempts.
        timeout: Seconds for one attempt.
        plan: The faults; None: there are none.
    """

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        clock: Callable[[], float],
        show: Callable[[Task, float], dict[str, Any]],
        *,
        may_reach: Callable[[str], bool],
        shape: CallbackShape,
        pause: float,
        timeout: float,
        plan: FaultPlan | None = None,
    ) -> None:
        self._engine: Engine = engine
        self._scheduler: Scheduler = scheduler
        self._clock: Callable[[], float] = clock
        self._show: Callable[[Task, float], dict[str, Any]] = show
        self._may_reach: Callable[[str], bool] = may_reach
        self._shape: CallbackShape = shape
        self._pause: float = pause
        self._timeout: float = timeout
        self._plan: FaultPlan | None = plan
        self._counts: Counter[str] = Counter()
        self._errands: deque[_Errand] = deque()
        self._wake: anyio.Event | None = None
        self._followers: dict[str, Follower] = {}

    def ledger(self) -> dict[str, int]:
        """What became of them.

        ``expected``: tasks with a callback URL; ``sent``: answered with 2xx; ``failed``: never answered so;
        ``lost``: to a fault; ``not_sent``: the address was not allowed, or
        is not plain HTTP; ``attempts``: requests made;
        ``repeated`` and ``forged``: those that faults added, if they were answered with 2xx.
        """
        names = ("expected", "sent", "failed", "lost", "not_sent", "attempts", "repeated", "forged")
        return {name: self._counts[name] for name in names}

    def expect(self, task: Task) -> None:
        """Send a task's result once it has ended. What goes wrong with it is decided now."""
        self._counts["expected"] += 1
        expected = self._decide(task)
        follower = self._scheduler.follow(task.id, lambda now: self._look(expected, now))
        self._followers[task.id] = follower
        fault = expected.fault
        if isinstance(fault, ForgedCallback) and self._is_allowed(task.order.callback_url):
            self._note(expected)
            url = task.order.callback_url + "x" * fault.stray
            self._send(_Errand(url, self._encode(task, forged=True), fault.seconds, "forged"))

    def _decide(self, task: Task) -> _Expected:
        plan, url = self._plan, task.order.callback_url
        number = 0 if plan is None else plan.number("callback")
        request = Request(operation="callback", number=number, method="POST", path=url, headers={}, body=b"")
        fault = None if plan is None else plan.choose(request)
        # Only these fit a callback, and the plan chooses no others.
        return _Expected(task, request, fault if isinstance(fault, CallbackFault) else None)

    def _look(self, expected: _Expected, now: float) -> float | None:
        with self._engine.lock:
            last = expected.task.stages[-1]
        if last.status not in _TERMINAL:
            return None
        if last.at > now:
            return last.at
        self._scheduler.unfollow(self._followers.pop(expected.task.id))
        self._ended(expected)
        return None

    def _ended(self, expected: _Expected) -> None:
        fault, url = expected.fault, expected.task.order.callback_url
        if not self._is_allowed(url):
            self._counts["not_sent"] += 1
            return
        if fault is not None and not isinstance(fault, ForgedCallback):
            self._note(expected)
        if isinstance(fault, LostCallback):
            self._counts["lost"] += 1
            return
        body = self._encode(expected.task)
        self._send(_Errand(url, body, fault.seconds if isinstance(fault, LateCallback) else 0.0))
        if isinstance(fault, RepeatedCallback):
            self._send(_Errand(url, body, fault.seconds, "repeated"))

    def _is_allowed(self, url: str) -> bool:
        return url.startswith("http://") and self._may_reach(url)

    def _note(self, expected: _Expected) -> None:
        fault = expected.fault
        assert self._plan is not None  # for the type checker: it chose the fault
        assert fault is not None
        self._plan.note(expected.request, fault, self._clock(), processed=fault.processed)

    def _encode(self, task: Task, *, forged: bool = False) -> bytes:
        with self._engine.lock:
            shown = self._show(task, self._clock())
        if forged:
            output = {"name": "0.mp4", "contenttype": "video/mp4", "size": "6", "url": _FORGED_URL}
            shown |= {"status": Status.POSTPROCESS_END.value, "pexit": "0", "outputs": [output]}
        body = {"tasklist": [shown]} if self._shape == "tasklist" else shown
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    # -- sending ---------------------------------------------------------------------------------

    def _send(self, errand: _Errand) -> None:
        self._errands.append(errand)
        if self._wake is not None:
            self._wake.set()

    async def work(self) -> None:
        """Send what there is to send, until cancelled."""
        limiter = anyio.CapacityLimiter(_CONNECTIONS)
        async with anyio.create_task_group() as group:
            while True:
                self._wake = anyio.Event()
                while self._errands:
                    group.start_soon(self._run, self._errands.popleft(), limiter)
                await self._wake.wait()

    async def _run(self, errand: _Errand, limiter: anyio.CapacityLimiter) -> None:
        await anyio.sleep(errand.delay)
        for attempt in range(ATTEMPTS):
            if attempt:
                await anyio.sleep(self._pause)
            async with limiter:
                self._counts["attempts"] += 1
                if await _post(errand.url, errand.body, self._timeout):
                    self._counts[errand.entry] += 1
                    return
        self._counts["failed"] += errand.entry == "sent"


async def _post(url: str, body: bytes, timeout: float) -> bool:
    """Send a request, without following redirects, and tell whether the answer was 2xx."""
    try:
        with anyio.fail_after(timeout):
            return 200 <= await _exchange(url, body) < 300
    except (OSError, ValueError, h11.ProtocolError, anyio.BrokenResourceError):
        return False


async def _exchange(url: str, body: bytes) -> int:
    """Send a request, and return the status of the whole answer; its body is thrown away."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = [
        ("host", parts.netloc.rpartition("@")[2]),
        ("user-agent", f"wiro-sandbox/{__version__}"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    peer = h11.Connection(h11.CLIENT)
    request = h11.Request(method="POST", target=target, headers=headers)
    status = 0
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as stream:
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            await stream.send(peer.send(event) or b"")
        while not isinstance(answer := peer.next_event(), h11.EndOfMessage):
            if answer is h11.NEED_DATA:
                peer.receive_data(await _receive(stream))
            elif isinstance(answer, h11.Response):
                status = answer.status_code
    return status


async def _receive(stream: SocketStream) -> bytes:
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""
