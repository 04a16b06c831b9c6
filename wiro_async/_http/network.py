"""Byte streams: plain asyncio where asyncio runs, anyio elsewhere.

One deadline covers a whole exchange, so a stream sets up no timeouts of its own; on asyncio it closes without
awaiting anything.
"""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from wiro_async._aio import ask_in_thread, on_asyncio
from wiro_async._config import is_address

if TYPE_CHECKING:
    from anyio.abc import ByteStream

__all__ = [
    "Connect",
    "ReadError",
    "Stream",
    "WriteError",
    "connect",
    "hand_over",
    "race",
    "secured",
]

_HIGH_WATER = 256 * 1024
_RACE_SECONDS = 0.25
_PIECE = 64 * 1024
"""The most that is read at a time: in the smallest of chunks, its parsing takes a few milliseconds."""

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class ReadError(Exception):
    """The connection broke; nothing more will come."""


class WriteError(Exception):
    """The connection is closed, or broke; nothing more can be sent."""


class Stream(ABC):
    """A network stream that knows whether anything was sent, and whether the peer has anything to say.

    Attributes:
        sent: Whether any byte may have left since this was last set to False.
    """

    sent: bool = False

    @property
    @abstractmethod
    def is_readable(self) -> bool:
        """Whether bytes or the end of the stream are waiting: on an idle connection, a reason to drop it."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return what has arrived, at most 64 KiB of it; b"" at the end.

        Raises:
            ReadError: The connection broke.
        """

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send all of *data*, and wait while the peer is slow to take it.

        Raises:
            WriteError: The connection is closed, or broke.
        """

    @abstractmethod
    def give_up_after(self, seconds: float) -> None:
        """Have the system give up what the peer does not acknowledge, where it can (Linux).

        Else it goes on for a quarter of an hour, also for a process that was killed.

        Args:
            seconds: How long it tries.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection at once."""


def _give_up_after(sock: Any, seconds: float) -> None:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is not None:  # pragma: no branch - elsewhere there is none
        # Where the peer has left already, the exchange will tell.
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, max(int(seconds * 1000), 1))


class Connect(Protocol):
    """How a stream is opened; the tests put a faulty network here."""

    async def __call__(self, host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        """Open a stream.

        Raises:
            OSError: Nobody answered, or the TLS handshake failed.
        """
        ...


async def connect(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    """Open a TCP stream on whichever event loop is running.

    Args:
        host: A name or an address.
        port: The port.
        tls: The TLS settings (None: plain).

    Raises:
        OSError: Nobody answered, or the TLS handshake failed.
    """
    if on_asyncio():
        return await _connect_asyncio(host, port, tls)
    return await _connect_anyio(host, port, tls)


async def secured(stream: Stream, host: str, tls: ssl.SSLContext) -> Stream:
    """Begin TLS on an open stream, which may be a tunnel, and carry TLS itself.

    Args:
        stream: The stream; whoever fails here closes it.
        host: Whom the certificate must name.
        tls: The TLS settings.

    Raises:
        OSError: The handshake failed.
    """
    if isinstance(stream, _AsyncioStream):
        await stream.start_tls(host, tls)
        return stream
    assert isinstance(stream, _AnyioStream)
    try:
        return await _secured(stream, host, tls)
    except (anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise OSError(str(error) or "the peer left in the TLS handshake") from None


def hand_over(stream: Stream, protocol: asyncio.Protocol) -> None:
    """Give an open stream of asyncio's to a protocol, as if that had been connected."""
    assert isinstance(stream, _AsyncioStream)
    stream.hand_over(protocol)


# -- asyncio ---------------------------------------------------------------------------------------------


async def _connect_asyncio(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    loop = asyncio.get_running_loop()
    name = host if tls else None
    if is_address(host):
        _, stream = await loop.create_connection(_AsyncioStream, host, port, ssl=tls, server_hostname=name)
        return stream
    sock = await race(host, port)
    try:
        _, stream = await loop.create_connection(_AsyncioStream, sock=sock, ssl=tls, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    return stream


def _resolved(host: str, port: int) -> Sequence[_Address]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def race(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address of a name that answers.

    As in RFC 8305 ("Happy Eyeballs"): the next address is tried once the last one has failed, or has been
    silent for 250 ms. When asyncio's own race is cancelled, it leaves sockets to the garbage collector;
    uvloop has none.
    """
    loop = asyncio.get_running_loop()
    addresses = _interleaved(await ask_in_thread(_resolved, host, port))
    pending: set[asyncio.Task[socket.socket]] = set()
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while addresses or pending:
            if addresses:
                attempt = loop.create_task(_open_socket(*addresses.pop(0)))
                attempts.add(attempt)
                pending.add(attempt)
            done, pending = await asyncio.wait(
                pending, timeout=_RACE_SECONDS if addresses else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    attempts.discard(attempt)
                    return attempt.result()
                errors.append(error)
        raise errors[0]
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_discard)


async def _open_socket(
    family: socket.AddressFamily, kind: socket.SocketKind, proto: int, _name: str, address: Any
) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _interleaved(addresses: Sequence[_Address]) -> list[_Address]:
    """Put the address families in turn, so that a broken IPv6 costs one attempt only."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    turns = itertools.zip_longest(first, others)
    return [address for turn in turns for address in turn if address is not None]


class _AsyncioStream(Stream, asyncio.Protocol):
    """Collects what arrives, and holds the sender back when the peer is slow."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._waiting: int = 0
        self._ended: bool = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full: bool = False
        self._paused: bool = False

    # -- what asyncio tells ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= _HIGH_WATER:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._full = False
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _wake(self) -> None:
        for future in (self._reader, self._writer):
            if future is not None and not future.done():
                future.set_result(None)

    # -- what our side asks for --------------------------------------------------------------------------

    async def start_tls(self, host: str, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, tls, server_hostname=host)
        if transport is None:
            raise ConnectionError("the peer left in the TLS handshake")
        self._transport = transport

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)

    def give_up_after(self, seconds: float) -> None:
        _give_up_after(self._transport.get_extra_info("socket"), seconds)

    @property
    def is_readable(self) -> bool:
        return bool(self._pieces) or self._ended

    async def read(self) -> bytes:
        if self._pieces:
            # A peer that is faster than we are must not keep the event loop for itself.
            await asyncio.sleep(0)
        while not self._pieces:
            if self._error is not None:
                raise ReadError(str(self._error) or type(self._error).__name__)
            if self._ended:
                return b""
            await self._wait_readable()
        return self._take()

    async def _wait_readable(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    def _take(self) -> bytes:
        piece = self._pieces.popleft()
        if len(piece) > _PIECE:
            self._pieces.appendleft(piece[_PIECE:])
            piece = piece[:_PIECE]
        self._waiting -= len(piece)
        return piece

    async def write(self, data: bytes) -> None:
        if self._ended or self._transport.is_closing():
            raise WriteError("the connection is closed")
        self.sent = True
        self._transport.write(data)
        while self._full and not self._ended:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def aclose(self) -> None:
        # Nothing is awaited, so no cancellation can come between.
        self._transport.abort()
        self._ended = True
        self._pieces.clear()
        self._waiting = 0


# -- anyio, for trio -------------------------------------------------------------------------------------


async def _connect_anyio(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    from anyio.abc import SocketAttribute  # noqa: PLC0415  (takes its time, and only trio needs it)

    inner = await anyio.connect_tcp(host, port)
    plain = _AnyioStream(inner, inner.extra(SocketAttribute.raw_socket))  # noqa: S610  (anyio's, not Django's)
    if tls is None:
        return plain
    try:
        return await secured(plain, host, tls)
    except BaseException:
        await plain.aclose()
        raise


async def _secured(plain: _AnyioStream, host: str, tls: ssl.SSLContext) -> Stream:
    from anyio.streams.tls import TLSAttribute, TLSStream  # noqa: PLC0415  (as above)

    inner = await TLSStream.wrap(plain.inner, hostname=host, ssl_context=tls, standard_compatible=False)
    return _AnyioStream(inner, plain.sock, inner.extra(TLSAttribute.ssl_object))  # noqa: S610  (as above)


class _AnyioStream(Stream):
    def __init__(self, inner: ByteStream, sock: Any, tls: ssl.SSLObject | None = None) -> None:
        self.inner: ByteStream = inner
        self.sock: Any = sock
        self._tls = tls

    def give_up_after(self, seconds: float) -> None:
        _give_up_after(self.sock, seconds)

    @property
    def is_readable(self) -> bool:
        return _has_bytes(self.sock) or (self._tls is not None and _has_record(self._tls))

    async def read(self) -> bytes:
        try:
            return await self.inner.receive(_PIECE)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError) as error:
            raise ReadError(str(error) or type(error).__name__) from None

    async def write(self, data: bytes) -> None:
        self.sent = True
        try:
            await self.inner.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError) as error:
            raise WriteError(str(error) or type(error).__name__) from None

    async def aclose(self) -> None:
        with anyio.move_on_after(1.0, shield=True):
            await self.inner.aclose()


def _has_record(tls: ssl.SSLObject) -> bool:
    """Tell whether TLS holds bytes that the socket no longer has; one of them is lost by asking."""
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        return True
    return True


def _has_bytes(sock: Any) -> bool:
    if sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # pragma: no cover - Windows has no poll, and this machine is not one
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
