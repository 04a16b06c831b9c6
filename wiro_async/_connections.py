"""An httpx transport over single httpcore connections of our own.

httpcore's pool scans all of its connections and all waiting requests at every request, and loses slots for
ever when a native cancellation meets a request. Here a request takes the connection that was used last, or
opens one; whoever limits what is in flight limits the connections. A connection goes back only after a whole
exchange that left nothing behind; after anything else it is closed.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpcore
import httpx

from wiro_async._errors import ConfigurationError
from wiro_async._network import Connect, Stream, connect

__all__ = ["MAX_IDLE", "PROGRESS", "ConnectionStack", "Content", "Progress", "sender"]

MAX_IDLE = "wiro_async.max_idle"
"""Request extension: seconds after which an idle connection is not used for this request."""

PROGRESS = "wiro_async.progress"
"""Request extension: a ``Progress`` that is kept up to date."""

DEFAULT_MAX_IDLE = 5.0

_BREATH = 64
"""Pieces of a body after which others get their turn: chunks can be of one byte."""

_Key = tuple[bytes, bytes, int]

_CORE_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
    (httpcore.UnsupportedProtocol, httpx.UnsupportedProtocol),
)


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


class Progress:
    """How far a request has come.

    Attributes:
        sent: Whether any byte of it may have left. None: the transport does not tell.
    """

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent: bool | None = None


class Content(httpx.AsyncByteStream):
    """A request's body in memory.

    httpx's own is an async generator, which a cancelled request would leave to the garbage collector.

    Args:
        data: The whole body.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._data)


class _Once:
    """Yields one piece."""

    __slots__ = ("_pieces",)

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece]

    def __aiter__(self) -> _Once:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


class _Connection:
    """One httpcore connection, the stream below it, and since when it is idle."""

    __slots__ = ("http", "idle_since", "key", "stream")

    def __init__(self, key: _Key, stream: Stream) -> None:
        self.key: _Key = key
        self.stream: Stream = stream
        self.http: httpcore.AsyncHTTP11Connection = httpcore.AsyncHTTP11Connection(
            origin=httpcore.Origin(*key), stream=stream
        )
        self.idle_since: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether the last exchange ended whole, and nothing of the peer's is left in any buffer."""
        return self.http.is_idle() and not self._leftover() and not self.stream.is_readable

    def _leftover(self) -> bool:
        # httpcore hands out no sight of h11's buffer; where it moves, no connection is used twice.
        state: Any = getattr(self.http, "_h11_state", None)
        return state is None or bool(state.trailing_data[0])


class ConnectionStack(httpx.AsyncBaseTransport):
    """Sends requests over HTTP/1.1 connections that nothing else touches.

    Args:
        connect_timeout: Seconds to open a connection, TLS included.
        connect: How to open a stream.
        clock: A clock that never goes back, in seconds.
        tls: TLS settings (None: httpx's defaults, loaded when first needed).
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10.0,
        connect: Connect = connect,
        clock: Callable[[], float] = monotonic,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._open = connect
        self._clock = clock
        self._tls = tls
        self._idle: dict[_Key, deque[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._closed: bool = False

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._busy) + sum(map(len, self._idle.values()))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request over a connection of its own.

        Raises:
            httpx.TransportError: As httpx's own transport does; a failure of the network before the first
                byte of the request is always a ``ConnectError`` or ``ConnectTimeout``.
        """
        progress: Progress = request.extensions.get(PROGRESS) or Progress()
        progress.sent = False
        connection = await self._take(request)
        try:
            core = await connection.http.handle_async_request(_core_request(request))
        except BaseException as error:
            progress.sent = connection.stream.sent
            await self.close(connection)
            raise _translated(error, sent=connection.stream.sent) from None
        progress.sent = True
        return httpx.Response(
            core.status,
            headers=core.headers,
            stream=_Body(self, connection, core),
            extensions=core.extensions,
        )

    async def _take(self, request: httpx.Request) -> _Connection:
        """Return the connection that was used last, if it is fresh enough, or a new one."""
        url = request.url
        key = (url.raw_scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0))
        oldest = self._clock() - request.extensions.get(MAX_IDLE, DEFAULT_MAX_IDLE)
        idle = self._idle.get(key, deque())
        connection: _Connection | None = None
        while idle:
            candidate = idle.pop()
            if candidate.idle_since >= oldest and candidate.is_clean:
                connection = candidate
                break
            await self.close(candidate)
        if connection is None:
            connection = await self._connect(key)
        connection.stream.sent = False
        self._busy.add(connection)
        return connection

    async def _connect(self, key: _Key) -> _Connection:
        scheme, host, port = key
        if scheme not in (b"http", b"https"):
            raise httpx.UnsupportedProtocol(f"{scheme.decode()!r} is not http or https")
        tls = await self._tls_settings() if scheme == b"https" else None
        try:
            with anyio.fail_after(self._connect_timeout):
                stream = await self._open(host.decode("ascii"), port, tls)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no connection within {self._connect_timeout:g} s") from None
        except OSError as error:
            raise httpx.ConnectError(str(error) or type(error).__name__) from error
        return _Connection(key, stream)

    async def _tls_settings(self) -> ssl.SSLContext:
        if self._tls is None:
            # Reading the certificates takes tens of milliseconds, which the event loop does not have.
            self._tls = await anyio.to_thread.run_sync(httpx.create_ssl_context)
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def release(self, connection: _Connection) -> None:
        """Take a connection back after an exchange: for the next one if nothing was left behind."""
        if connection not in self._busy:
            return
        if self._closed or not connection.is_clean:
            await self.close(connection)
            return
        self._busy.discard(connection)
        connection.idle_since = self._clock()
        idle = self._idle.setdefault(connection.key, deque())
        idle.append(connection)
        # The bottom of the stack is what nobody has needed for long.
        while idle and idle[0].idle_since < connection.idle_since - DEFAULT_MAX_IDLE:
            await self.close(idle.popleft())

    async def close(self, connection: _Connection) -> None:
        """Close a connection for good."""
        self._busy.discard(connection)
        await connection.stream.aclose()

    async def aclose(self) -> None:
        """Close every connection, in use or not. What is still opened later is used once."""
        self._closed = True
        every = [*self._busy, *(connection for idle in self._idle.values() for connection in idle)]
        self._idle.clear()
        for connection in every:
            await self.close(connection)


class _Body(httpx.AsyncByteStream):
    """A reply's body; the connection goes back when it was read to its end, and is closed otherwise."""

    def __init__(self, stack: ConnectionStack, connection: _Connection, core: httpcore.Response) -> None:
        self._stack = stack
        self._connection = connection
        self._core = core
        self._chunks: Any = core.stream.__aiter__()  # type: ignore[union-attr]
        self._whole = False
        self._closed = False
        self._pieces = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._pieces += 1
        if self._pieces % _BREATH == 0:
            # Outside of the try: after a cancellation here httpcore's generators are still to be unwound.
            await anyio.lowlevel.checkpoint()
        try:
            chunk: bytes = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._whole = True
            raise
        except BaseException as error:
            self._closed = True
            await self._stack.close(self._connection)
            raise _translated(error, sent=True) from None
        return chunk

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._whole:
            await self._give_back()
        else:
            await self._stack.close(self._connection)
            await self._unwind()

    async def _give_back(self) -> None:
        try:
            await self._core.aclose()
        except BaseException:
            await self._stack.close(self._connection)
            raise
        await self._stack.release(self._connection)

    async def _unwind(self) -> None:
        # httpcore nests generators, and closing the outer one leaves the inner one to the garbage collector.
        # The stream being closed, running on ends both, after what little is still in the buffers.
        with suppress(Exception):
            async for _ in self._chunks:
                self._pieces += 1
                if self._pieces % _BREATH == 0:
                    await anyio.lowlevel.cancel_shielded_checkpoint()


def _core_request(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
    )


def _translated(error: BaseException, *, sent: bool) -> BaseException:
    """Map httpcore's errors to httpx's, as httpx's own transport does; others stay what they are."""
    for core, ours in _CORE_ERRORS:
        if isinstance(error, core):
            unsent = not sent and ours in (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
            return (httpx.ConnectError if unsent else ours)(str(error))
    return error
