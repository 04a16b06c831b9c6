"""The sandbox as an ASGI application: where each path leads, and the envelope around every reply."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import unquote

import anyio
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from wiro_async.sandbox._access import CONTROL_TOKEN
from wiro_async.sandbox._body import Disconnected, read_body
from wiro_async.sandbox._cdn import Cdn
from wiro_async.sandbox._control import control
from wiro_async.sandbox._refusal import Refusal
from wiro_async.sandbox._service import LIST_LAG, Reply, Service

__all__ = ["build_app"]

_Handler: TypeAlias = Callable[[Service, Scope, Receive], Awaitable[Reply]]

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def build_app(service: Service) -> ASGIApp:
    """Put the service's operations behind their paths.

    Args:
        service: The operations.

    Returns:
        The application. Its lifespan renders clips and sends callbacks. WebSockets do not come here: the
        server hands them to ``service.sockets``.
    """
    cdn = Cdn(
        lambda path: service.store.get(path),  # noqa: PLW0108 - the store is another one after a reset
        lambda leaked: service.engine.count("cdn", leaked=leaked),
        encoding=service.config.cdn_encoding,
        length=service.config.cdn_length,
    )
    routes = [
        Mount("/cdn", app=cdn),
        Mount("/sandbox", app=_Endpoint(service, _switches)),
        Mount("/", app=_Endpoint(service, _elsewhere)),
    ]
    others = Starlette(routes=routes, lifespan=lambda _: _Lifespan(service))
    api = _Endpoint(service, _api)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host, origin = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
            try:
                service.access.check(host, origin)
            except Refusal as refusal:
                await _send_refusal(service, refusal, send)
                return
        # Most requests are for the API: they are spared the way through the routes.
        is_api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (api if is_api else others)(scope, receive, send)

    return app


class _Lifespan:
    """Makes clips and sends callbacks while the application lives."""

    def __init__(self, service: Service) -> None:
        self._service: Service = service
        self._group: TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> None:
        await self._group.__aenter__()
        self._group.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            async with anyio.create_task_group() as group:
                self._service.restart_work = group.cancel_scope.cancel
                group.start_soon(self._service.renderer.work)
                group.start_soon(self._service.callbacks.work)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)


class _Endpoint:
    """Sends what a handler returns, or the refusal it raises, in the service's envelope."""

    def __init__(self, service: Service, handle: _Handler) -> None:
        self._service: Service = service
        self._handle: _Handler = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = {"errors": [], **await self._handle(self._service, scope, receive), "result": True}
        except Disconnected:
            return
        except Refusal as refusal:
            await _send_refusal(self._service, refusal, send)
        else:
            await _send_json(self._service, 200, reply, send)


async def _api(service: Service, scope: Scope, receive: Receive) -> Reply:
    found = service.operation(_segments(scope)) if scope["method"] == "POST" else None
    headers = dict(scope["headers"])
    # The body is received even if the request is refused: the client is still sending it.
    fields = await read_body(headers, receive, timeout=service.config.receive_timeout)
    if found is None:
        service.engine.count("unknown")
        raise _nowhere()
    name, operation = found
    service.engine.count(name)
    service.scheduler.ring_if_due()
    project = service.gate.check(headers)
    service.list_lag = float(headers.get(LIST_LAG.encode(), 0))
    with service.engine.lock:  # the sandbox's owner may steer tasks from another thread
        return operation(project, fields)


async def _switches(service: Service, scope: Scope, receive: Receive) -> Reply:
    headers = dict(scope["headers"])
    fields = await read_body(headers, receive, timeout=service.config.receive_timeout)
    service.access.check_control(
        headers.get(CONTROL_TOKEN.encode(), b""),
        None if scope["method"] == "GET" else headers.get(b"content-type", b""),
    )
    return control(service, scope["method"], _segments(scope), fields)


async def _elsewhere(service: Service, scope: Scope, receive: Receive) -> Reply:
    del service, scope, receive
    raise _nowhere()


def _nowhere() -> Refusal:
    return Refusal(0, "Error parsing url.", http_status=404)


def _segments(scope: Scope) -> list[str]:
    """The path's segments below the first, decoded one by one: a ``%2F`` is part of its segment."""
    return [unquote(part) for part in scope["raw_path"].decode("latin-1").split("/")[2:]]


async def _send_refusal(service: Service, refusal: Refusal, send: Send) -> None:
    service.engine.refuse(refusal.code)
    errors = [{"code": refusal.code, "message": refusal.message}]
    await _send_json(service, refusal.http_status, {"result": False, "errors": errors}, send)


async def _send_json(service: Service, status: int, reply: dict[str, Any], send: Send) -> None:
    body = _ENCODER.encode(reply).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if service.config.send_date:
        headers.append((b"date", formatdate(service.clock(), usegmt=True).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
