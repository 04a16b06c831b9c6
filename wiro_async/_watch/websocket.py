"""One WebSocket connection on asyncio, without a task of its own: messages are handed on as they come.

websockets' protocol layer, which does no I/O, sits on an ``asyncio.Protocol``. TLS is done in memory, because
asyncio's own keeps 256 KiB for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from wiro_async._config import is_address
from wiro_async._http import network
from wiro_async._http.proxies import DIRECT, Proxy, Routes, connect_through
from wiro_async._protocol.events import MAX_READ

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.frames import Frame
    from websockets.protocol import State
    from websockets.uri import WebSocketURI

__all__ = ["Connection", "Owner", "ParseQueue", "Setup", "make_setup"]

MAX_HEAD = 16 * 1024
"""Bytes of the answer to the handshake."""

MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of a message; the service's own clients use the same bound. Longer ones end the connection (1009)."""

PING_AFTER = 45.0
"""Seconds without a byte until the peer is pinged; the service itself pings about every 30 s."""

PONG_TIMEOUT = 20.0
"""Seconds that the peer has to answer a ping."""

SLICE = 1024
"""Bytes that are parsed at a time: of the smallest frames, that takes some 5 ms."""

TURN = 64
"""Slices, frames and pieces of messages that are parsed in one turn of the event loop, of all connections."""

MESSAGE_PIECE = 4096
"""So many bytes of a message that is decoded count as much as a slice."""

MAX_UNREAD = 64 * 1024
"""Bytes that may wait to be parsed until no more are taken."""

MAX_UNSENT = 64 * 1024
"""Bytes that may wait for a peer that does not read, pongs mostly."""

CLOSE_TIMEOUT = 1.0
"""Seconds that the closing frame has to leave."""

_CONTINUATION, _TEXT = 0, 1
_INTERIM = (b"HTTP/1.1 100 ", b"HTTP/1.1 102 ", b"HTTP/1.1 103 ")
"""How answers begin that another one follows."""
_NORMAL_CLOSURE = 1000

# websockets writes every frame to its log, and so every token. This logger cannot be found, nor enabled.
_SILENT = logging.Logger("wiro_async.websocket")  # noqa: LOG001
_SILENT.disabled = True


class Setup(NamedTuple):
    """What every connection to one address is made of.

    Attributes:
        protocol, state: Classes of websockets, which is an extra and so is imported late.
        uri: The address.
        tls: The TLS settings (None: none are needed).
        user_agent: How the client introduces itself.
        proxy: The proxy that leads there (None: it is reached directly).
    """

    protocol: type[ClientProtocol]
    state: type[State]
    uri: WebSocketURI
    tls: ssl.SSLContext | None
    user_agent: str
    proxy: Proxy | None


def make_setup(
    url: str, tls: Callable[[], ssl.SSLContext], user_agent: str, routes: Routes = DIRECT
) -> Setup:
    """Import websockets and make the TLS settings. It takes tens of milliseconds, so do it in a thread.

    Raises:
        ImportError: websockets is not installed.
        ConfigurationError: The certificates could not be read, or the environment names no usable proxy.
    """
    from websockets.client import ClientProtocol  # noqa: PLC0415
    from websockets.protocol import State  # noqa: PLC0415
    from websockets.uri import parse_uri  # noqa: PLC0415

    uri = parse_uri(url)
    proxy = routes.find(("wss" if uri.secure else "ws", uri.host, uri.port))
    needs_tls = uri.secure or (proxy is not None and proxy.scheme == "https")
    return Setup(ClientProtocol, State, uri, tls() if needs_tls else None, user_agent, proxy)


class Owner(Protocol):
    """Who a connection belongs to."""

    def opened(self) -> None:
        """Take the news that messages can be sent."""
        ...

    def received(self, message: bytes | bytearray) -> None:
        """Take a text message, as UTF-8 or what the peer takes for it."""
        ...

    def lost(self, problem: str) -> None:
        """Take the news, once, that the peer has ended an open connection."""
        ...


class ParseQueue:
    """Shares the event loop's turns among all connections of one client that have something to parse.

    Thousands of them may have something at once, and one of them may have more than its share.

    Attributes:
        context: An empty one, for timers: they would keep the context of whoever opened the connection.
    """

    def __init__(self) -> None:
        self.context: contextvars.Context = contextvars.Context()
        self._waiting: deque[Connection] = deque()
        self._scheduled: bool = False

    def want(self, connection: Connection) -> None:
        """Stand in line for one slice."""
        self._waiting.append(connection)
        self._schedule(connection.loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._take, loop)

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        left = TURN
        try:
            while self._waiting and left > 0:
                left -= self._waiting.popleft().parse()
        finally:
            self._scheduled = False
            if self._waiting:
                self._schedule(loop)


# -- TLS -------------------------------------------------------------------------------------------------


class _Tls:
    """TLS between two buffers in memory.

    Args:
        context: The settings.
        host: Whom the certificate must name.

    Attributes:
        is_ready: Whether the handshake is done.
        is_over: Whether the peer has said goodbye.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "is_over", "is_ready")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.is_ready: bool = False
        self.is_over: bool = False

    def receive(self, data: bytes) -> bytes:
        """Take what came, and return what it holds.

        Raises:
            ssl.SSLError: The peer is not who it should be, or does not speak TLS.
        """
        self._incoming.write(data)
        plain = bytearray()
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.is_ready:
                self._object.do_handshake()
                self.is_ready = True
            while piece := self._object.read(MAX_UNREAD):
                plain += piece
            self.is_over = True
        return bytes(plain)

    def send(self, data: bytes) -> None:
        """Encrypt *data*."""
        self._object.write(data)

    def pending(self) -> bytes:
        """Return what is to be sent."""
        return self._outgoing.read()


# -- the connection --------------------------------------------------------------------------------------

# Opening: TCP, TLS and the handshake; bytes are read as they come. Open: frames are parsed, in this
# connection's turns. Gone: nothing is parsed or sent any more, whoever ended it. What came before the peer's
# end is parsed first: ``_over`` says that it has come, while the state is still open.
_OPENING, _OPEN, _GONE = range(3)


class Connection(asyncio.Protocol):
    """One connection, from the first packet to the last.

    Args:
        setup: What it is made of.
        owner: Who gets what it brings.
        queue: Where it waits for its turn to parse.

    Attributes:
        loop: The event loop that it lives on.
        busy: Whether it is in the midst of what came: then it must not be closed.
    """

    __slots__ = (
        "_handshake",
        "_heard_at",
        "_message",
        "_over",
        "_owner",
        "_paused",
        "_pinged",
        "_queue",
        "_setup",
        "_state",
        "_timer",
        "_tls",
        "_transport",
        "_unread",
        "_ws",
        "busy",
        "loop",
    )  # fmt: skip

    def __init__(self, setup: Setup, owner: Owner, queue: ParseQueue) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.busy: bool = False
        self._setup = setup
        self._owner = owner
        self._queue = queue
        self._ws: ClientProtocol = setup.protocol(setup.uri, logger=_SILENT)
        self._state: int = _OPENING
        self._handshake: asyncio.Future[str] | None = self.loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._tls: _Tls | None = None
        self._unread = bytearray()
        self._paused: bool = False
        self._over: bool = False
        self._message: bytearray | None = None
        self._heard_at: float = 0.0
        self._pinged: bool = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Connect, and return after the handshake. A cancellation leaves nothing open.

        Raises:
            OSError: Nobody answered, or not as it should be.
            UnicodeError: No name server could be asked for the host.
        """
        handshake = self._handshake
        assert handshake is not None
        try:
            uri = self._setup.uri
            if self._setup.proxy is not None:
                await self._open_through(self._setup.proxy)
            elif is_address(uri.host):
                await self.loop.create_connection(lambda: self, uri.host, uri.port)
            else:
                sock = await network.race(uri.host, uri.port)
                try:
                    await self.loop.create_connection(lambda: self, sock=sock)
                except BaseException:
                    sock.close()
                    raise
            problem = await handshake
        except BaseException:
            self._end("given up", abort=True)
            raise
        if problem:
            raise ConnectionError(problem)

    async def _open_through(self, proxy: Proxy) -> None:
        uri = self._setup.uri
        key = ("wss" if uri.secure else "ws", uri.host, uri.port)
        try:
            stream = await connect_through(proxy, key, network.connect, self._setup.tls)
        except (OSError, UnicodeError) as error:
            raise ConnectionError(f"{proxy!r}: {error}") from None
        network.hand_over(stream, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with TLS, or else with the handshake."""
        # No isinstance: uvloop's transports do not inherit from asyncio's.
        stream = cast("asyncio.Transport", transport)
        if self._state == _GONE:
            stream.abort()
            return
        self._transport = stream
        if self._setup.tls is None or not self._setup.uri.secure:
            self._ask()
            return
        self._tls = _Tls(self._setup.tls, self._setup.uri.host)
        self._decrypt(self._tls, b"")

    def _ask(self) -> None:
        request = self._ws.connect()
        request.headers["User-Agent"] = self._setup.user_agent
        self._ws.send_request(request)
        self._flush()

    # -- receiving ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what came, and stand in line to parse it."""
        self._heard_at, self._pinged = self.loop.time(), False
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
        stands_in_line = self._state == _OPEN and bool(self._unread)
        if self._state != _GONE:
            self._unread += data
        if self._state == _OPENING:
            self._shake_hands()
        if self._state == _OPEN and self._unread and not stands_in_line:
            self._queue.want(self)
        if len(self._unread) > MAX_UNREAD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        if self._tls is not None and self._tls.is_over:
            # Some peers go on only when we have said goodbye, too.
            self.connection_lost(None)

    def _shake_hands(self) -> None:
        head = b"HTTP/1.1 100 "
        while head.startswith(_INTERIM):
            end = self._unread.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._unread) > MAX_HEAD:
                    self._fail("the answer to the handshake has no end")
                return
            head = bytes(self._unread[:end])
            del self._unread[:end]
        self._ws.receive_data(head)
        if self._ws.state is not self._setup.state.OPEN:
            line = head.partition(b"\r\n")[0].decode("latin-1")
            reason = self._ws.handshake_exc
            why = f" ({reason})" if " 101" in line and reason is not None else ""
            self._fail(f"the handshake was answered with {line[:100]!r}{why}")
            return
        # What has parsed the answer would keep it for as long as the connection lives.
        state = self._setup.state.OPEN
        self._ws = self._setup.protocol(self._setup.uri, state=state, max_size=MAX_MESSAGE, logger=_SILENT)
        self._state = _OPEN
        self._timer = self.loop.call_later(PING_AFTER, self._check, context=self._queue.context)
        self._settle("")
        self.busy = True
        try:
            self._owner.opened()
        finally:
            self.busy = False

    def _decrypt(self, tls: _Tls, data: bytes) -> bytes:
        was_ready = tls.is_ready
        try:
            plain = tls.receive(data)
        except ssl.SSLError as error:
            # The peer is told why.
            self._write(tls.pending())
            self._fail(str(error))
            return b""
        self._write(tls.pending())
        if tls.is_ready and not was_ready:
            self._ask()
        return plain

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Take the news that nothing more will come; what came before is parsed first."""
        self._over = True
        if self._state != _OPEN or not self._unread:
            self._fail("the connection was lost")

    def parse(self) -> int:
        """Parse one slice of what came.

        Returns:
            What that has cost, in slices, frames and pieces of messages.
        """
        if self._state == _GONE:
            return 0
        piece = bytes(self._unread[:SLICE])
        del self._unread[:SLICE]
        self.busy = True
        try:
            cost = self._feed(piece)
        except BaseException:
            self._fail("a message could not be handed on", abort=True)
            raise
        finally:
            self.busy = False
        if self._state != _GONE:
            if self._unread:
                self._queue.want(self)
            elif self._over:
                self._fail("the connection was lost")
            elif self._paused and self._transport is not None:
                self._paused = False
                self._transport.resume_reading()
        return 1 + cost

    def _feed(self, piece: bytes) -> int:
        ws = self._ws
        ws.receive_data(piece)
        self._flush()
        frames = cast("list[Frame]", ws.events_received())
        cost = sum(1 + self._take(frame) // MESSAGE_PIECE for frame in frames)
        if self._state == _OPEN and ws.state is not self._setup.state.OPEN:
            self._fail("the peer has closed it, or broken the protocol")
        return cost

    def _take(self, frame: Frame) -> int:
        """Put a message together, and return how many bytes of it were handed on.

        Binary ones, which belong to realtime models, are left out.
        """
        if self._state != _OPEN:
            return 0
        if frame.opcode == _TEXT and frame.fin:
            return self._hand_on(bytes(frame.data))
        if frame.opcode == _TEXT:
            self._message = bytearray(frame.data)
        elif frame.opcode == _CONTINUATION and self._message is not None:
            # What comes after that is not read; the protocol layer sees to the size of the whole.
            if len(self._message) <= MAX_READ:
                self._message += frame.data
            if frame.fin:
                message, self._message = self._message, None
                return self._hand_on(message)
        return 0

    def _hand_on(self, message: bytes | bytearray) -> int:
        self._owner.received(message)
        return len(message)

    # -- sending -----------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Send a text message."""
        self._ws.send_text(text.encode())
        self._flush()

    def _flush(self) -> None:
        data = b"".join(self._ws.data_to_send())
        if data and self._tls is not None:
            self._tls.send(data)
            data = self._tls.pending()
        self._write(data)

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)
            if transport.get_write_buffer_size() > MAX_UNSENT:
                self._fail("the peer does not read", abort=True)

    def _check(self) -> None:
        """See now and then whether the peer is still there."""
        if self._pinged:
            self._fail("the peer has not answered a ping", abort=True)
            return
        now = self.loop.time()
        seconds = self._heard_at + PING_AFTER - now
        if seconds <= 0:
            self._pinged, seconds = True, PONG_TIMEOUT
            self._ws.send_ping(b"")
            self._flush()
        if self._state == _OPEN:
            self._timer = self.loop.call_later(seconds, self._check, context=self._queue.context)

    # -- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Say goodbye and close; the owner hears no more of it."""
        if self._state == _OPEN:
            # First, because sending may fail, and a failure is told to the owner while it is open.
            self._state = _GONE
            if self._ws.state is self._setup.state.OPEN:
                self._ws.send_close(_NORMAL_CLOSURE)
                self._flush()
        self._end("closed", abort=False)

    def _fail(self, problem: str, *, abort: bool = False) -> None:
        was_open = self._state == _OPEN
        self._end(problem, abort=abort)
        if was_open:
            self._owner.lost(problem)

    def _end(self, problem: str, *, abort: bool) -> None:
        self._state = _GONE
        self._settle(problem)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._unread.clear()
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if abort:
            transport.abort()
            return
        transport.close()
        if transport.get_write_buffer_size():
            # The closing frame is still in the buffer, and a peer that does not read would keep it there.
            self.loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def _settle(self, problem: str) -> None:
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_result(problem)
        self._handshake = None
