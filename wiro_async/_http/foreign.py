"""Any httpx transport as a sender: a proxy's, the user's own, or a test's."""

from __future__ import annotations

import anyio
import httpx

from wiro_async._errors import ConfigurationError
from wiro_async._http.connections import ConnectionStack
from wiro_async._http.messages import MAX_IDLE, PROGRESS, Request, Response, Sender

__all__ = ["adapted", "sender"]


def sender(
    transport: httpx.AsyncBaseTransport | None, proxy: str | None, connect_timeout: float
) -> httpx.AsyncBaseTransport:
    """Return what sends a client's requests: the user's transport, a proxy, or connections of our own.

    Raises:
        ConfigurationError: Both a transport and a proxy were given.
    """
    if transport is not None and proxy is not None:
        raise ConfigurationError("give either transport= or proxy=; a transport brings its own proxy")
    if transport is not None:
        return transport
    if proxy is not None:
        return httpx.AsyncHTTPTransport(proxy=proxy, trust_env=False)
    return ConnectionStack(connect_timeout=connect_timeout)


def adapted(transport: httpx.AsyncBaseTransport) -> Sender:
    """Return *transport* as a sender: our own connections are one, any other is wrapped."""
    return transport if isinstance(transport, ConnectionStack) else _Foreign(transport)


class _Foreign:
    """Sends by an httpx transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, request: Request) -> Response:
        theirs = httpx.Request(
            request.address.method,
            request.address.url,
            headers=request.address.headers + request.headers,
            stream=request.body,
            extensions={MAX_IDLE: request.max_idle, PROGRESS: request.progress},
        )
        return _ForeignResponse(await self._transport.handle_async_request(theirs))

    async def aclose(self) -> None:
        await self._transport.aclose()


class _ForeignResponse(Response):
    def __init__(self, inner: httpx.Response) -> None:
        self._inner = inner
        self.status = inner.status_code

    def header(self, name: str) -> str:
        value: str = self._inner.headers.get(name, "")
        return value

    async def read(self, limit: int) -> bytearray:
        body = bytearray()
        assert isinstance(self._inner.stream, httpx.AsyncByteStream)
        async for chunk in self._inner.stream:
            body += chunk
            if len(body) > limit:
                break
        return body

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._inner.aclose()
