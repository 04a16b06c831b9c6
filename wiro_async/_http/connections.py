"""Our own HTTP/1.1 connections: which one a request gets, and whether it can be used again.

httpx's pool scans all of its connections and all waiting requests at every request, and loses slots for ever
when a native cancellation meets one. Here a request takes the connection that was used last, or opens one;
whoever limits the requests in flight limits the connections. A connection goes back only after a complete
exchange that left nothing behind; after anything else it is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from time import monotonic

import anyio
import httpx

from wiro_async._aio import SendWindow
from wiro_async._http.http11 import (
    EndedEarlyError,
    Head,
    LocalProtocolError,
    RemoteProtocolError,
    ReplyParser,
    header_lines,
    request_line,
)
from wiro_async._http.messages import (
    DEFAULT_MAX_IDLE,
    MAX_IDLE,
    PORTS,
    PROGRESS,
    Address,
    Content,
    Headers,
    Key,
    Request,
    Response,
    SendProgress,
)
from wiro_async._http.network import Connect, ReadError, Stream, WriteError, connect
from wiro_async._http.proxies import Proxy, Routes, connect_through
from wiro_async._http.tls import Tls

__all__ = ["ConnectionStack", "OwnResponse", "address_of", "check_window"]

_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    ReadError: httpx.ReadError,
    WriteError: httpx.WriteError,
    LocalProtocolError: httpx.LocalProtocolError,
    RemoteProtocolError: httpx.RemoteProtocolError,
    EndedEarlyError: httpx.RemoteProtocolError,
}


def address_of(url: httpx.URL, headers: Headers, method: str = "POST") -> Address:
    """Return what is sent to *url* in every request.

    Raises:
        LocalProtocolError: HTTP cannot carry one of them.
    """
    # The host as it is sent: `url.host` would decode an international name.
    key = (url.scheme, url.raw_host.decode("ascii"), url.port or PORTS.get(url.scheme, 0))
    return Address(method, url, headers, key, request_line(method, url.raw_path) + header_lines(headers))


class _Connection:
    """A stream, and the reply that is read from it."""

    __slots__ = ("_asked", "_parser", "idle_since", "key", "proxy", "stream")

    def __init__(self, key: Key, stream: Stream, proxy: Proxy | None) -> None:
        self.key: Key = key
        self.stream: Stream = stream
        self.proxy: Proxy | None = proxy
        self.idle_since: float = 0.0
        self._parser: ReplyParser = ReplyParser()
        # Whether all of the request was sent.
        self._asked: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the reply has come to its end."""
        return self._parser.whole

    @property
    def is_clean(self) -> bool:
        """Whether the last exchange was whole, and nothing of the peer's is left or has come since."""
        return self._asked and self._parser.reusable and not self.stream.is_readable

    async def exchange(self, request: Request) -> tuple[Head, bytes]:
        """Send a request, and return its reply's head, and what has come of the body."""
        # What an earlier request sent does not count.
        self.stream.sent = False
        head = request.address.head
        if self.proxy is not None and self.key[0] == "http" and not self.proxy.is_socks:
            # The proxy itself reads it.
            method, _, rest = head.partition(b" ")
            head = b"%b http://%b%b" % (method, request.address.url.netloc, rest)
            head += header_lines(self.proxy.headers)
        self._parser = ReplyParser()
        self._asked = await self._ask(head + header_lines(request.headers) + b"\r\n", request)
        start = b""
        while self._parser.head is None:
            start = await self.receive()
        return self._parser.head, start

    async def _ask(self, head: bytes, request: Request) -> bool:
        try:
            if isinstance(request.body, Content):
                data = head + request.body.data
                # Directly before the first byte: what came before may have taken its time.
                check_window(request.window)
                # One system call, and one packet.
                try:
                    await self.stream.write(data)
                finally:
                    # What breaks off, or is cancelled, may have left as well.
                    if request.window is not None and self.stream.sent:
                        request.window.written()
            else:
                await self._ask_in_pieces(head, request.body, _declared(request))
        except WriteError:
            # A server may refuse a request before it has all of it; its answer is then worth reading.
            if not self.stream.sent:
                raise
            return False
        return True

    async def _ask_in_pieces(self, head: bytes, body: AsyncIterable[bytes], size: int) -> None:
        left = size
        async for piece in body:
            left -= len(piece)
            if left < 0:
                break
            await self.stream.write(head + piece)
            head = b""
        if left:
            raise LocalProtocolError(f"the body has not the {size} bytes that its header tells")
        await self.stream.write(head)

    async def receive(self) -> bytes:
        """Return what comes next of the body."""
        data = await self.stream.read()
        if data:
            return self._parser.feed(data)
        self._parser.feed_end()
        return b""


class OwnResponse(Response):
    """A reply on a connection of our own; that goes back with the last byte, and is closed otherwise.

    Attributes:
        head: Status and headers.
    """

    __slots__ = ("_connection", "_done", "_is_read", "_stack", "_start", "head", "status")

    def __init__(self, stack: ConnectionStack, connection: _Connection, head: Head, start: bytes) -> None:
        self.head: Head = head
        self.status: int = head.status
        self._stack = stack
        self._connection = connection
        self._start = start
        self._done = False
        self._is_read = False

    def header(self, name: str) -> str:
        sought = name.encode("ascii")
        values = [value.strip() for known, value in self.head.headers if known.lower() == sought]
        return b", ".join(values).decode("latin-1")

    async def read(self, limit: int) -> bytearray:
        body = bytearray()
        while len(body) <= limit and (piece := await self.receive()):
            body += piece
        return body

    async def receive(self) -> bytes:
        """Return the next piece of the body, b"" at its end."""
        # With its last piece the connection went back: what comes over it now is another request's reply.
        if self._is_read:
            return b""
        piece, self._start = self._start, b""
        connection = self._connection
        try:
            while not piece and not connection.is_done:
                piece = await connection.receive()
        except BaseException as error:
            await self.aclose()
            raise _translated(error, connection, sent=True) from None
        self._is_read = connection.is_done
        if self._is_read and not self._done:
            self._done = True
            await self._stack.release(connection)
        return piece

    async def aclose(self) -> None:
        if not self._done:
            self._done = True
            await self._stack.close(self._connection)


class ConnectionStack(httpx.AsyncBaseTransport):
    """Sends requests over HTTP/1.1 connections that nothing else touches.

    Args:
        connect_timeout: Seconds to open a connection, TLS included.
        connect: How to open a stream.
        clock: A clock that never goes back, in seconds.
        tls: TLS settings.
        routes: Which proxy leads to which host (None: there are no proxies).
        give_up: Seconds after which the system gives up what the peer does not acknowledge, even if this
            process has died (None: when it likes, which may be a quarter of an hour).
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10.0,
        connect: Connect = connect,
        clock: Callable[[], float] = monotonic,
        tls: Tls | None = None,
        routes: Routes | None = None,
        give_up: float | None = None,
    ) -> None:
        self._give_up = give_up
        self._connect_timeout = connect_timeout
        self._open = connect
        self._clock = clock
        self._tls = tls or Tls()
        self._routes = routes
        self._idle: dict[Key, deque[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._closed: bool = False

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._busy) + sum(map(len, self._idle.values()))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one of httpx's requests; see ``send()``."""
        progress: SendProgress = request.extensions.get(PROGRESS) or SendProgress()
        progress.sent = False
        try:
            address = address_of(request.url, request.headers.raw, request.method)
        except LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from None
        assert isinstance(request.stream, httpx.AsyncByteStream)
        idle = request.extensions.get(MAX_IDLE, DEFAULT_MAX_IDLE)
        response = await self.send(Request(address, [], request.stream, idle, progress))
        head = response.head
        extensions = {"http_version": head.version, "reason_phrase": head.reason}
        return httpx.Response(
            head.status, headers=head.headers, stream=_HttpxBody(response), extensions=extensions
        )

    async def send(self, request: Request) -> OwnResponse:
        """Send one request over a connection of its own, and return the reply once its head is there.

        Raises:
            httpx.TransportError: As httpx's own transport does; a failure of the network before the first
                byte of the request is always a ``ConnectError`` or ``ConnectTimeout``.
        """
        progress = request.progress
        progress.sent = False
        proxy = None if self._routes is None else self._routes.find(request.address.key)
        progress.through = "" if proxy is None else repr(proxy)
        connection = await self._take(request.address.key, request.max_idle, proxy)
        try:
            head, start = await connection.exchange(request)
        except BaseException as error:
            progress.sent = connection.stream.sent
            await self.close(connection)
            raise _translated(error, connection, sent=progress.sent) from None
        progress.sent = True
        return OwnResponse(self, connection, head, start)

    async def _take(self, key: Key, max_idle: float, proxy: Proxy | None) -> _Connection:
        """Return the connection that was used last, if it is fresh enough, or a new one."""
        oldest = self._clock() - max_idle
        idle = self._idle.get(key)
        while idle:
            candidate = idle.pop()
            if candidate.idle_since >= oldest and candidate.is_clean:
                self._busy.add(candidate)
                return candidate
            await self.close(candidate)
        connection = await self._connect(key, proxy)
        self._busy.add(connection)
        return connection

    async def _connect(self, key: Key, proxy: Proxy | None) -> _Connection:
        scheme, host, port = key
        if scheme not in PORTS:
            raise httpx.UnsupportedProtocol(f"{scheme!r} is not http or https")
        problem: httpx.TransportError
        where = "" if proxy is None else f"{proxy!r}: "
        try:
            with anyio.fail_after(self._connect_timeout):
                tls = None
                if scheme == "https" or (proxy is not None and proxy.scheme == "https"):
                    tls = await self._tls.settings()
                if proxy is None:
                    stream = await self._open(host, port, tls)
                else:
                    stream = await connect_through(proxy, key, self._open, tls)
                if self._give_up is not None:
                    stream.give_up_after(self._give_up)
                return _Connection(key, stream, proxy)
        except TimeoutError:
            problem = httpx.ConnectTimeout(f"{where}no connection within {self._connect_timeout:g} s")
        except (OSError, UnicodeError) as error:
            # No name server can be asked for a host with an empty part, or one of more than 63 letters.
            problem = httpx.ConnectError(f"{where}{str(error) or type(error).__name__}")
            if proxy is None:
                raise problem from error
        # Outside of the handler: the frames below hold the proxy's password, and some tracebacks print those.
        raise problem

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


class _HttpxBody(httpx.AsyncByteStream):
    """The body of a reply, as httpx reads it."""

    def __init__(self, response: OwnResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._response.receive()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        await self._response.aclose()


def check_window(window: SendWindow | None) -> None:
    """Refuse to send a Run whose time has passed.

    Raises:
        httpx.ConnectTimeout: It has; no byte has left.
    """
    if window is not None and (elapsed := window.elapsed) > window.seconds:
        raise httpx.ConnectTimeout(
            f"it was not sent, because it would have left {elapsed:.1f} s after its intent; a Run leaves "
            f"within {window.seconds:g} s (Limits.send_window) or not at all"
        )


def _declared(request: Request) -> int:
    """Return the length that a request says that its body has."""
    headers = (*request.address.headers, *request.headers)
    return next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)


def _translated(error: BaseException, connection: _Connection, *, sent: bool) -> BaseException:
    """Map what our connections raise to httpx's errors; others stay what they are."""
    kind = _ERRORS.get(type(error))  # type: ignore[arg-type]
    if kind is None:
        return error
    where = "" if connection.proxy is None else f"{connection.proxy!r}: "
    # Others may read what we refuse.
    advice = "; another HTTP client may read it: Client(transport=httpx.AsyncHTTPTransport())"
    unsent = not sent and kind is not httpx.LocalProtocolError
    return (httpx.ConnectError if unsent else kind)(
        f"{where}{error}{advice if type(error) is RemoteProtocolError else ''}"
    )
