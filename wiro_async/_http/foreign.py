"""What sends a client's requests: our own connections, or the transport of another HTTP client."""

from __future__ import annotations

import inspect
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Protocol

import anyio
import attrs
import httpx

from wiro_async._aio import cancel_softly
from wiro_async._config import check, truth
from wiro_async._errors import ConfigurationError
from wiro_async._http.connections import ConnectionStack, check_window
from wiro_async._http.messages import MAX_IDLE, PROGRESS, Request, Response, Sender
from wiro_async._http.proxies import DIRECT, Routes, parse_proxy
from wiro_async._http.tls import Tls

__all__ = ["AsyncTransport", "ForeignTransport", "Network", "adapted"]

CLOSE_SECONDS = 1.0
"""Seconds that closing an unwanted reply may take."""


class AsyncTransport(Protocol):
    """An asynchronous transport of httpx, or of a client made after it, as httpx2."""

    def handle_async_request(self, request: Any, /) -> Awaitable[Any]:
        """Send one request, and return its reply."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Close all connections."""
        ...


@attrs.frozen(kw_only=True, repr=False)
class Network:
    """How a client reaches the network.

    Attributes:
        transport: The user's own transport (None: our connections).
        routes: Which proxy leads to which host.
        tls: The TLS settings.
        connect_timeout: Seconds to open a connection.
    """

    transport: httpx.AsyncBaseTransport | None
    routes: Routes
    tls: Tls
    connect_timeout: float

    @classmethod
    def of(
        cls,
        *,
        transport: object,
        proxy: object,
        ssl_context: object,
        trust_env: bool,
        environment: Mapping[str, str],
        connect_timeout: float,
    ) -> Network:
        """Check a client's options.

        Args:
            transport: As ``Client`` takes it.
            proxy: As ``Client`` takes it.
            ssl_context: As ``Client`` takes it.
            trust_env: As ``Client`` takes it.
            environment: The environment's proxies, as ``urllib.request.getproxies`` returns them.
            connect_timeout: As in ``Limits``.

        Raises:
            ConfigurationError: They cannot work, or not together.
        """
        if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
            raise ConfigurationError(
                f"ssl_context is a {type(ssl_context).__name__}; it must be an ssl.SSLContext, such as "
                f"ssl.create_default_context(cafile=...), or None"
            )
        check("trust_env", trust_env, truth)
        if transport is not None:
            if proxy is not None or ssl_context is not None:
                option = "proxy" if proxy is not None else "ssl_context"
                raise ConfigurationError(
                    f"give either transport= or {option}=; a transport brings its own: "
                    f"httpx.AsyncHTTPTransport({'proxy' if proxy is not None else 'verify'}=...)"
                )
            foreign = ForeignTransport(transport, connect_timeout)
            return cls(transport=foreign, routes=DIRECT, tls=Tls(), connect_timeout=connect_timeout)
        fixed = None if proxy is None else parse_proxy(proxy, "proxy=")
        routes = Routes(fixed, environment if trust_env else None)
        tls = Tls(ssl_context, trust_env=trust_env)
        return cls(transport=None, routes=routes, tls=tls, connect_timeout=connect_timeout)

    def sender(self, give_up: float | None = None) -> httpx.AsyncBaseTransport:
        """Return what sends requests: the user's transport, or connections that nobody else has.

        Args:
            give_up: As for ``ConnectionStack``.
        """
        return self.transport or ConnectionStack(
            connect_timeout=self.connect_timeout,
            tls=self.tls,
            routes=self.routes if self.routes.has_proxies else None,
            give_up=give_up,
        )


def adapted(transport: httpx.AsyncBaseTransport) -> Sender:
    """Return *transport* as a sender: our own connections are one, any other is wrapped."""
    return transport if isinstance(transport, ConnectionStack) else _ByTransport(transport)


class _ByTransport:
    """Sends by an httpx transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, request: Request) -> Response:
        extensions: dict[str, Any] = {MAX_IDLE: request.max_idle, PROGRESS: request.progress}
        if (window := request.window) is not None:
            check_window(window)

            async def trace(event: str, _: object) -> None:
                # httpx's own transports tell when they are connected, and are about to send.
                if event.endswith("send_request_headers.started"):
                    check_window(window)

            extensions["trace"] = trace
        theirs = httpx.Request(
            request.address.method,
            request.address.url,
            headers=request.address.headers + request.headers,
            stream=request.body,
            extensions=extensions,
        )
        return _HttpxResponse(await self._transport.handle_async_request(theirs))

    async def aclose(self) -> None:
        await self._transport.aclose()


class _HttpxResponse(Response):
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


# -- other clients' transports ---------------------------------------------------------------------------


class ForeignTransport(httpx.AsyncBaseTransport):
    """Another HTTP client's transport, as one of httpx's that survives cancellations.

    Each step of an exchange, to the reply's head and from one piece of its body to the next, runs in a task
    of its own, which no native cancellation reaches: httpcore loses a connection's slot for ever when one
    meets it (encode/httpcore#1093). The caller always waits for the step's end.

    Args:
        inner: The transport.
        connect_timeout: Seconds to open a connection, for those that heed httpx's ``timeout`` extension.

    Raises:
        ConfigurationError: It is no asynchronous transport.
    """

    def __init__(self, inner: object, connect_timeout: float) -> None:
        _check_shape(inner)
        self._inner: Any = inner
        self._library = _library_of(inner)
        self._connect_timeout = connect_timeout
        self._is_httpcore = any(kind.__name__ == "AsyncHTTPTransport" for kind in type(inner).__mro__)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one of httpx's requests."""
        steps = _Steps(self._library, self._is_httpcore)
        steps.also = request.extensions.get("trace")
        request.extensions = {
            "timeout": {"connect": self._connect_timeout},
            **request.extensions,
            "trace": steps.trace,
        }

        async def send() -> Any:
            return await self._inner.handle_async_request(self._theirs(request))

        try:
            theirs = await steps.take(send, _closed)
        finally:
            # A transport of the user's own may have httpcore below it, too.
            self._is_httpcore |= steps.is_traced
        return httpx.Response(
            theirs.status_code,
            headers=theirs.headers.raw,
            stream=_SteppedBody(theirs.stream, steps),
            extensions=theirs.extensions,
        )

    async def aclose(self) -> None:
        """Close the transport."""
        await self._inner.aclose()

    def _theirs(self, request: httpx.Request) -> Any:
        """Return the request as one of their library's."""
        if self._library is httpx:
            return request
        library: Any = self._library
        stream = request.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        # They ask for a stream of their own class.
        kind = type("Stream", (library.AsyncByteStream,), {"__aiter__": lambda _: aiter(stream)})
        return library.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            stream=kind(),
            extensions=request.extensions,
        )


class _Steps:
    """The steps of one exchange.

    Args:
        library: The module whose requests and errors they are about.
        is_httpcore: Whether httpcore is below. Even AnyIO's cancellation makes its pool lose a connection,
            but while it waits for the reply: only then, or if that does not come soon, it is cancelled.

    Attributes:
        is_traced: Whether httpcore has told what it does.
        also: Who else is told (None: nobody).
    """

    def __init__(self, library: object, is_httpcore: bool) -> None:
        self._library = library
        self._is_safe = not is_httpcore
        self.is_traced = False
        self.also: Any = None

    async def trace(self, event: str, facts: object) -> None:
        """Take the news of what httpcore does next."""
        self.is_traced = True
        self._is_safe = event.endswith("receive_response_headers.started") or "body" in event
        if self.also is not None:
            await self.also(event, facts)

    def _is_ready(self) -> bool:
        return self._is_safe

    async def take(self, work: Any, undo: Any) -> Any:
        """Run one step to its end, or until the caller is cancelled."""
        problem: httpx.TransportError | None
        try:
            return await cancel_softly(work, undo, self._is_ready)
        except Exception as error:
            problem = self._translated(error)
            if problem is None:
                raise
        # Outside of the handler: theirs holds the signed request.
        raise problem

    def _translated(self, error: Exception) -> httpx.TransportError | None:
        """Return httpx's error of the same name as theirs (None: it has none)."""
        if self._library is httpx:
            return None
        for kind in type(error).__mro__:
            ours = getattr(httpx, kind.__name__, None)
            if isinstance(ours, type) and issubclass(ours, httpx.TransportError):
                return ours(str(error))
        return None


async def _closed(response: Any) -> None:
    """Close an unwanted reply, or give up closing it."""
    with anyio.move_on_after(CLOSE_SECONDS):
        await response.aclose()


class _SteppedBody(httpx.AsyncByteStream):
    """The body of a transport's reply, whose pieces are steps of the exchange."""

    def __init__(self, stream: Any, steps: _Steps) -> None:
        self._stream = stream
        self._steps = steps
        self._pieces: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces is None:
            self._pieces = aiter(self._stream)
        pieces = self._pieces

        async def read() -> bytes | None:
            return await anext(pieces, None)

        piece: bytes | None = await self._steps.take(read, _nothing)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        async def close() -> None:
            await self._stream.aclose()

        await self._steps.take(close, _nothing)


async def _nothing(_result: object) -> None:
    """Nothing has to be undone."""


def _check_shape(transport: object) -> None:
    """Refuse what is no asynchronous transport, and say what to give instead."""
    name = type(transport).__name__
    if isinstance(transport, type):
        name = transport.__name__
        raise ConfigurationError(f"transport is the class {name} itself; give an object of it: {name}()")
    if callable(getattr(transport, "handle_async_request", None)) and inspect.iscoroutinefunction(
        getattr(transport, "aclose", None)
    ):
        return
    if hasattr(transport, "handle_request"):
        problem = "is synchronous; give an asynchronous one, such as httpx.AsyncHTTPTransport()"
    elif hasattr(transport, "get") and hasattr(transport, "request"):
        problem = "is a whole HTTP client; give what it sends by, such as httpx.AsyncHTTPTransport(proxy=...)"
    else:
        problem = (
            "has no handle_async_request() and aclose(); give an asynchronous transport of httpx or httpx2, "
            "such as httpx.AsyncHTTPTransport()"
        )
    raise ConfigurationError(f"transport is of the type {name}, which {problem}")


def _library_of(transport: object) -> object:
    """Return the module whose requests a transport takes: httpx2 has its own, of the same names."""
    if isinstance(transport, httpx.AsyncBaseTransport):
        return httpx
    for kind in type(transport).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if kind.__name__ == "AsyncBaseTransport" and hasattr(library, "AsyncByteStream"):
            return library
    return httpx
