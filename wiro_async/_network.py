"""Byte streams for httpcore's connections: plain asyncio where asyncio runs, anyio elsewhere.

httpcore's own network backend goes through anyio's streams and sets up timeouts around every read; here one
deadline covers the whole exchange, so a stream needs none of that, and closes without awaiting anything.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol, cast

import anyio
import httpcore

from wiro_async._shield import on_asyncio

__all__ = ["Connect", "Stream", "connect"]

_HIGH_WATER = 256 * 1024
_RACE_SECONDS = 0.25
_PIECE = 16 * 1024
"""The most that is read at a time: of the smallest HTTP messages, its parsing takes about 20 ms."""

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class Stream(httpcore.AsyncNetworkStream):
    """A network stream that knows whether anything was sent, and whether the peer has anything to say.

    The timeouts of httpcore's interface go unused: one deadline is around the whole exchange.
    """

    sent: bool = False

    @property
    def is_readable(self) -> bool:
        """Whether bytes or the end of the stream are waiting: on an idle connection, a reason to drop it."""
        raise NotImplementedError


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


# -- asyncio ---------------------------------------------------------------------------------------------


async def _connect_asyncio(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    loop = asyncio.get_running_loop()
    name = host if tls else None
    if _is_address(host):
        _, protocol = await loop.create_connection(_Wire, host, port, ssl=tls, server_hostname=name)
        return _AsyncioStream(protocol)
    sock = await _race(host, port)
    try:
        _, protocol = await loop.create_connection(_Wire, sock=sock, ssl=tls, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    return _AsyncioStream(protocol)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _race(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address of a name that answers.

    As in RFC 8305 ("Happy Eyeballs"): the next address is tried once the last one has failed, or has been
    silent for 250 ms. When asyncio's own race is cancelled, it leaves sockets to the garbage collector;
    uvloop has none.
    """
    loop = asyncio.get_running_loop()
    addresses = _interleaved(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
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


class _Wire(asyncio.Protocol):
    """Collects what arrives, and holds the sender back when the peer is slow."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received: bytearray = bytearray()
        self.ended: bool = False
        self.error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports do not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= _HIGH_WATER:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
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

    async def wait_readable(self) -> None:
        """Return once there is something to take, or never will be."""
        while not self.received and not self.ended:
            self.transport.resume_reading()
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    async def wait_writable(self) -> None:
        """Return once the peer has taken enough of what was written, or will take no more."""
        while self._full and not self.ended:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def take(self, limit: int) -> bytes:
        """Return at most *limit* bytes of what has arrived."""
        data = bytes(self.received[:limit])
        del self.received[:limit]
        return data


class _AsyncioStream(Stream):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._unsent = bytearray()

    @property
    def is_readable(self) -> bool:
        return bool(self._wire.received) or self._wire.ended

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        try:
            await self._flush()
        except httpcore.WriteError:
            # A server may refuse a request before it has all of it; its answer is then worth reading.
            if not self.sent:
                raise
        if self._wire.received:
            # A peer that is faster than we are must not keep the event loop for itself.
            await asyncio.sleep(0)
        await self._wire.wait_readable()
        if not self._wire.received and self._wire.error is not None:
            raise httpcore.ReadError(str(self._wire.error))
        return self._wire.take(min(max_bytes, _PIECE))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        # httpcore writes head and body one by one; together they are one system call and one packet.
        self._unsent += buffer
        if len(self._unsent) >= _HIGH_WATER:
            await self._flush()

    async def _flush(self) -> None:
        if not self._unsent:
            return
        data = bytes(self._unsent)
        self._unsent.clear()
        if self._wire.ended or self._wire.transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        self.sent = True
        self._wire.transport.write(data)
        await self._wire.wait_writable()

    async def aclose(self) -> None:
        # Nothing is awaited, so no cancellation can come between.
        self._wire.transport.abort()
        self._wire.ended = True
        self._wire.received.clear()

    def get_extra_info(self, info: str) -> Any:
        return self.is_readable if info == "is_readable" else self._wire.transport.get_extra_info(info)


# -- anyio, for trio -------------------------------------------------------------------------------------


async def _connect_anyio(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
    try:
        # httpcore declares a second, empty class for where anyio is missing.
        stream = await httpcore.AnyIOBackend().connect_tcp(host, port)  # pyright: ignore[reportAttributeAccessIssue]
        if tls is not None:
            stream = await _start_tls(stream, host, tls)
    except httpcore.ConnectError as error:
        raise OSError(str(error)) from None
    return _AnyioStream(stream)


async def _start_tls(
    stream: httpcore.AsyncNetworkStream, host: str, tls: ssl.SSLContext
) -> httpcore.AsyncNetworkStream:
    try:
        return await stream.start_tls(tls, server_hostname=host)
    except BaseException:
        # httpcore closes it after an error, but not after a cancellation.
        await _AnyioStream(stream).aclose()
        raise


class _AnyioStream(Stream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    @property
    def is_readable(self) -> bool:
        return bool(self._inner.get_extra_info("is_readable")) or self._has_record()

    def _has_record(self) -> bool:
        """Whether TLS holds bytes that the socket no longer has; one of them is lost by asking."""
        tls: ssl.SSLObject | None = self._inner.get_extra_info("ssl_object")
        if tls is None:
            return False
        try:
            tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        try:
            return await self._inner.read(min(max_bytes, _PIECE))
        except ssl.SSLError as error:
            raise httpcore.ReadError(str(error)) from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self.sent = True
        try:
            await self._inner.write(buffer)
        except ssl.SSLError as error:
            raise httpcore.WriteError(str(error)) from None

    async def aclose(self) -> None:
        with anyio.move_on_after(1.0, shield=True):
            await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
