"""A service in memory: scripted answers below the package's own transport."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import httpx

import wiro_async
from tests.conftest import KEY, SECRET

BASE = "http://127.0.0.1:9/v1"

Answer = dict[str, Any] | httpx.Response | Exception
Handler = Callable[[dict[str, Any]], Answer]


def ok(**payload: object) -> dict[str, Any]:
    """Return a reply that means yes."""
    return {"errors": [], "result": True, **payload}


def no(code: int | None, message: str) -> dict[str, Any]:
    """Return a refusal."""
    error = {"message": message} if code is None else {"code": code, "message": message}
    return {"errors": [error], "result": False}


def task(task_id: str = "2221", status: str = "task_queue", **fields: object) -> dict[str, Any]:
    """Return a task as it stands in a reply."""
    return {"id": task_id, "status": status, "socketaccesstoken": f"token-{task_id}", **fields}


class FakeService(httpx.AsyncBaseTransport):
    """Answers calls from a table, and records them.

    Attributes:
        handlers: Operation to what answers it: a reply, an exception, a function, or a list of these.
        calls: Every call, as operation and payload.
        latency: Seconds until a call is processed.
        delays: Seconds from there until it is answered, by operation.
        closed: Whether it was closed.
    """

    def __init__(self, **handlers: Answer | Handler | list[Answer]) -> None:
        self.handlers: dict[str, Any] = {name.replace("_", "/", 1): value for name, value in handlers.items()}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[httpx.Request] = []
        self.latency = 0.0
        self.delays: dict[str, float] = {}
        self.in_flight = 0
        self.peak = 0
        self.closed = False

    @property
    def counts(self) -> Counter[str]:
        """How often each operation was called."""
        return Counter(name for name, _ in self.calls)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = b"".join([chunk async for chunk in request.stream])  # type: ignore[union-attr]
        name = "/".join(request.url.path.removeprefix("/v1/").split("/")[:2])
        name = "Run" if name.startswith("Run/") else name
        is_json = request.headers.get("content-type") == "application/json"
        payload = json.loads(body) if is_json else {"body": body}
        self.requests.append(request)
        self.calls.append((name, payload))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await anyio.sleep(self.latency)
            response = self._respond(name, payload)
            await anyio.sleep(self.delays.get(name, 0.0))
        finally:
            self.in_flight -= 1
        return response

    def _respond(self, name: str, payload: dict[str, Any]) -> httpx.Response:
        answer = self.handlers[name]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(payload)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)

    async def aclose(self) -> None:
        self.closed = True


def client(service: httpx.AsyncBaseTransport, **options: Any) -> wiro_async.Client:
    """Return a client of *service*, which checks no inputs: tests/jobs/test_checks.py is about that."""
    return wiro_async.Client(KEY, SECRET, base_url=BASE, transport=service, **{"check": False, **options})


class TimedTask:
    """A task whose status follows the event loop's clock from its Run on.

    Args:
        steps: Seconds since the Run to status.
        final: What the last snapshot has beyond the status.
    """

    def __init__(self, *steps: tuple[float, str], task_id: str = "2221", **final: Any) -> None:
        self.task_id = task_id
        self.steps = steps
        self.final = final
        self.started: float | None = None

    def run(self, _payload: object = None) -> dict[str, Any]:
        """Answer a Run."""
        self.started = anyio.current_time()
        return ok(taskid=self.task_id, socketaccesstoken=f"token-{self.task_id}")

    def detail(self, _payload: object = None) -> dict[str, Any]:
        """Answer a Detail."""
        if self.started is None:
            self.started = anyio.current_time()
        age = anyio.current_time() - self.started
        status = [name for begin, name in self.steps if begin <= age][-1]
        fields = dict(self.final) if status == self.steps[-1][1] else {}
        for name in TIMES.keys() & self.final.keys():
            # What has not happened yet is "0" on the wire.
            fields[name] = self.final[name] if TIMES[name] <= age else "0"
        return ok(tasklist=[task(self.task_id, status, **fields)])


TIMES = {
    "createtime": 0.0,
    "accepttime": 1.0,
    "preprocessstarttime": 2.0,
    "preprocessendtime": 3.0,
    "assigntime": 4.0,
    "starttime": 6.0,
    "endtime": 58.0,
    "postprocessstarttime": 59.0,
    "postprocessendtime": 60.0,
}
"""When each of the wire's times comes, in seconds after the Run."""

STAMPS = {name: str(int(100 + offset)) for name, offset in TIMES.items()}

LIFE = (
    (0.0, "task_queue"),
    (6.0, "task_start"),
    (60.0, "task_postprocess_end"),
)
"""A minute's task."""


def timed_service(**final: Any) -> FakeService:
    """Return a service with one task that lasts a minute and succeeds, unless *final* says otherwise."""
    timed = TimedTask(*LIFE, task_id="2221", **{"pexit": "0", **final})
    return FakeService(Run=timed.run, Task_Detail=timed.detail)
