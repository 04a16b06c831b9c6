"""A scripted WebSocket server in the event loop of the test: it sends exactly the bytes that it is told to.

It is written against RFC 6455, without the library that the client uses.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio

from tests.servers import PATIENCE

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return one frame as a server sends it."""
    size = len(data)
    first = fin << 7 | rsv << 4 | opcode
    if size < 126:
        head = struct.pack("!BB", first, size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 126, size)
    else:
        head = struct.pack("!BBQ", first, 127, size)
    return head + data


def told(**message: Any) -> bytes:
    """Return a message as a text frame."""
    return frame(TEXT, json.dumps(message).encode())


def accepted(head: bytes, *extra: bytes) -> bytes:
    """Return the answer that a handshake wants, with *extra* header lines."""
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
    digest = hashlib.sha1(key.partition(b": ")[2] + _GUID).digest()
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines += [b"Sec-WebSocket-Accept: " + base64.b64encode(digest), *extra]
    return b"\r\n".join([*lines, b"", b""])


class Peer:
    """The server's side of one connection.

    Attributes:
        head: The request of the handshake.
        tokens: The tokens that were registered.
        frames: Every frame that came, as opcode and data.
        gone: Set when the other side has left.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.head: bytes = b""
        self.tokens: list[str] = []
        self.frames: list[tuple[int, bytes]] = []
        self.gone: asyncio.Event = asyncio.Event()

    async def shake(self, *extra: bytes, after: bytes = b"") -> None:
        """Take part in the handshake; *after* leaves in the same packet."""
        self.head = await self._reader.readuntil(b"\r\n\r\n")
        self.raw(accepted(self.head, *extra) + after)

    async def next(self) -> tuple[int, bytes]:
        """Return the next frame, which must be masked."""
        first, second = await self._reader.readexactly(2)
        assert second & 0x80, "a client's frames are masked"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        mask = await self._reader.readexactly(4)
        masked = await self._reader.readexactly(size)
        data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))
        self.frames.append((first & 0x0F, data))
        return self.frames[-1]

    async def registration(self) -> str:
        """Return the token of the next registration."""
        opcode, data = await self.next()
        if opcode == CLOSE:
            raise ConnectionError("the other side has left")
        order = json.loads(data)
        assert (opcode, order["type"]) == (TEXT, "task_info")
        assert order.keys() == {"type", "tasktoken"}
        self.tokens.append(order["tasktoken"])
        return self.tokens[-1]

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    def tell(self, **message: Any) -> None:
        """Send a message."""
        self.raw(told(**message))

    def close(self, code: int = 1000) -> None:
        """Send a closing frame."""
        self.raw(frame(CLOSE, struct.pack("!H", code)))

    def drop(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()

    async def hold(self) -> None:
        """Read frames until the other side leaves."""
        while True:
            await self.next()

    async def register_all(self) -> None:
        """Take registrations until the other side leaves."""
        while True:
            opcode, data = await self.next()
            if opcode == TEXT:
                self.tokens.append(json.loads(data)["tasktoken"])


Handler: TypeAlias = Callable[[Peer], Awaitable[None]]


class Service:
    """What a test knows of the server.

    Attributes:
        url: Its address.
        peers: Every connection, in order.
    """

    def __init__(self, port: int, *, secure: bool, host: str) -> None:
        self.url: str = f"ws{'s' if secure else ''}://{host}:{port}/v1"
        self.peers: list[Peer] = []

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(not peer.gone.is_set() for peer in self.peers)

    @property
    def tokens(self) -> list[str]:
        """Every token that was registered, in order of the connections."""
        return [token for peer in self.peers for token in peer.tokens]


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, shake: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[Service]:
    """Serve on loopback; *handler* gets each connection after its handshake.

    At the end every connection must have been left by the client, and the handlers' own errors are raised.
    """
    errors: list[BaseException] = []
    service: Service

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        service.peers.append(peer)
        try:
            if shake:
                await peer.shake()
            await handler(peer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception as error:
            errors.append(error)
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
            peer.gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=512)
    service = Service(server.sockets[0].getsockname()[1], secure=tls is not None, host=host)
    try:
        yield service
        with anyio.fail_after(PATIENCE):
            for peer in service.peers:
                await peer.gone.wait()
    finally:
        server.close()
    if errors:
        raise errors[0]
