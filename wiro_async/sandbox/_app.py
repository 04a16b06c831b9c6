"""The sandbox as an ASGI application: where each path leads, and the envelope around every reply."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import anyio
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from ._body import Disconnected, read_body
from ._cdn import Cdn
from ._control import control
from ._refusal import Refusal
from ._service import Reply, Service

__all__ = ["build_app"]

_Handler = Callable[[Scope, Receive], Awaitable[Reply]]
_RETURNED_WITH_LIST = frozenset({"tasklist", "list"})


def build_app(service: Service) -> Starlette:
    """Put the service's operations behind their paths.

    Args:
        service: The operations.

    Returns:
        The application. Its lifespan runs the studio: without it, clips are not rendered.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(service.studio.work)
            yield
            group.cancel_scope.cancel()

    cdn = Cdn(service.store.get, lambda leaked: service.engine.count("cdn", leaked=leaked))
    routes = [
        Mount("/v1", app=_Api(service)),
        Mount("/cdn", app=cdn),
        Mount("/sandbox", app=_Switches(service)),
        Mount("/", app=_Nowhere(service)),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Endpoint:
    """Sends what ``handle`` returns, or the refusal it raises, in the service's envelope."""

    def __init__(self, service: Service) -> None:
        self._service: Service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 200
        try:
            reply = {"errors": [], **await self.handle(scope, receive), "result": True}
        except Disconnected:
            return
        except Refusal as refusal:
            self._service.engine.refuse(refusal.code)
            status = refusal.http_status
            reply = {"result": False, "errors": [{"code": refusal.code, "message": refusal.message}]}
        await _send_json(send, status, reply)

    async def handle(self, scope: Scope, receive: Receive) -> Reply:
        """Answer a request."""
        raise NotImplementedError


class _Api(_Endpoint):
    """Everything below ``/v1``."""

    async def handle(self, scope: Scope, receive: Receive) -> Reply:
        service = self._service
        found = service.operation(_segments(scope)) if scope["method"] == "POST" else None
        headers = dict(scope["headers"])
        # The body is received even if the request is refused: the client is still sending it.
        fields = await read_body(headers, receive, timeout=service.config.receive_timeout)
        if found is None:
            service.engine.count("unknown")
            raise _nowhere()
        name, operation = found
        service.engine.count(name)
        return operation(service.gate.check(headers), fields)


class _Switches(_Endpoint):
    """Everything below ``/sandbox``."""

    async def handle(self, scope: Scope, receive: Receive) -> Reply:
        service = self._service
        fields = await read_body(dict(scope["headers"]), receive, timeout=service.config.receive_timeout)
        return control(service, scope["method"], _segments(scope), fields)


class _Nowhere(_Endpoint):
    """All other paths."""

    async def handle(self, scope: Scope, receive: Receive) -> Reply:
        raise _nowhere()


def _nowhere() -> Refusal:
    return Refusal(1, "Error parsing url.", http_status=404)


def _segments(scope: Scope) -> list[str]:
    """The path's segments below the first, decoded one by one: a ``%2F`` is part of its segment."""
    return [unquote(part) for part in scope["raw_path"].decode("latin-1").split("/")[2:]]


async def _send_json(send: Send, status: int, reply: dict[str, Any]) -> None:
    body = json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
