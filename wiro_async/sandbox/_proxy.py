"""The proxy that makes faults: it listens where clients connect, and forwards to the server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias, assert_never

import attrs

from wiro_async.sandbox import _wire
from wiro_async.sandbox._foreign import foreign_reply
from wiro_async.sandbox._service import LIST_LAG, Service
from wiro_async.sandbox._sockets import cut_header
from wiro_async.sandbox._wire import NO_BODY, UNTIL_EOF, Framing
from wiro_async.sandbox.faults import (
    Blackhole,
    CutSocket,
    Drip,
    Duplicate,
    FaultPlan,
    Foreign,
    Garbage,
    HalfClose,
    Held,
    Html,
    Latency,
    ListLag,
    NoTask,
    Refused,
    Request,
    Reset,
    RotateKey,
    Status,
    Unframed,
    WireFault,
    WrongLength,
)

if sys.platform == "linux":  # pragma: no branch - only Linux tells what _sent() asks
    import fcntl

__all__ = ["Proxy"]

_log = logging.getLogger("wiro_async.sandbox")

_Sink: TypeAlias = Callable[[bytes], Awaitable[None]]
_Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_LIMIT = 64 * 1024  # bytes of a head, of a body that a plan gets to see, and of one read
_BODY_WAIT = 1.0  # seconds that a small body may take before the request is forwarded without it
_IDLE = 30.0  # seconds after which a connection to the server is not used again: the server may close it
_BACKLOG = 2048
_TICK = 0.05  # seconds between two pieces of a drip
_FLUSH = 5.0  # seconds that a client has to take what comes before a reset
_POLL = 0.002
_SIOCOUTQNSD = 0x894B  # Linux: how many bytes of a socket have not been sent


class _Cut(Exception):
    """As many bytes have passed as were meant to."""


@attrs.define
class _Message:
    """A request as far as it was read; ``rest`` of its body was not. ``last``: no other follows it."""

    request: Request
    head: bytes
    body: bytes
    rest: Framing
    last: bool

    @property
    def waits(self) -> bool:
        """Whether the client wants a go-ahead before it sends the body."""
        return self.rest != NO_BODY and "expect" in self.request.headers


class Proxy:
    """Listens where clients connect, and forwards to the server behind it, but for the plan's faults.

    Args:
        plan: The faults.
        service: What the server serves: some faults need a look inside.
        listener: The bound socket that clients connect to. It is the caller's to close.
        server: The address of the server.
    """

    def __init__(
        self, plan: FaultPlan, service: Service, listener: socket.socket, server: tuple[str, int]
    ) -> None:
        self.plan: FaultPlan = plan
        self.service: Service = service
        self.listener: socket.socket = listener
        self._server: tuple[str, int] = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor = await asyncio.start_server(
            self._accept, sock=self.listener, limit=_LIMIT, backlog=_BACKLOG
        )

    async def stop(self) -> None:
        """Stop accepting, and cut off whatever is under way."""
        assert self._acceptor is not None  # for the type checker: it was started
        self._acceptor.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def connect(self) -> _Stream:
        """Open a connection to the server."""
        return await asyncio.open_connection(*self._server, limit=_LIMIT)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        task = asyncio.get_running_loop().create_task(connection.serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not in a finally clause: a task that is cancelled before its first step does not get there.
        task.add_done_callback(connection.drop)


class _Connection:
    """A client's connection and, while it is needed, the one to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy: Proxy = proxy
        self._reader: asyncio.StreamReader = reader
        self._writer: asyncio.StreamWriter = writer
        self._inner: _Stream | None = None
        self._used: float = 0.0
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits for the last byte

    async def serve(self) -> None:
        """Answer requests until one of the two sides ends."""
        try:
            while await self._turn():
                pass
            self._writer.close()
            await self._writer.wait_closed()
        except (OSError, EOFError):
            pass  # the client has gone, or the server
        except Exception:
            _log.exception("The proxy has failed.")

    def drop(self, _: object) -> None:
        """Give up both connections."""
        self._writer.transport.abort()
        self._drop_inner()

    # -- a request -------------------------------------------------------------------------------

    async def _turn(self) -> bool:
        """Serve one request. False: it was the last one."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                await self._tunnel(error.partial)
            return False
        except asyncio.LimitOverrunError:
            head = b""
        message = await self._read(head)
        if message is None:
            await self._tunnel(head)
            return False
        fault = self._proxy.plan.choose(message.request)
        assert fault is None or isinstance(
            fault, WireFault
        )  # for the type checker: no callback comes this way
        keep = await (self._forward(message, self._send) if fault is None else self._suffer(fault, message))
        return keep and not message.last

    async def _read(self, head: bytes) -> _Message | None:
        """Make out a request; None if it is not HTTP, which the server is to judge."""
        try:
            (method, path, version), headers = _wire.split_head(head)
            rest = _wire.request_framing(headers)
        except ValueError:
            return None
        body = await self._small_body(rest.length or 0) if "expect" not in headers else b""
        operation = _wire.operation_of(path, headers)
        request = Request(
            operation=operation,
            number=self._proxy.plan.number(operation),
            method=method,
            path=path,
            headers=headers,
            body=body,
        )
        last = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
        return _Message(request, head, body, NO_BODY if body else rest, last)

    async def _small_body(self, length: int) -> bytes:
        """The body, for the plan to see. A large or a slow one is forwarded as it comes."""
        if 0 < length <= _LIMIT:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BODY_WAIT):
                    return await self._reader.readexactly(length)
        return b""

    # -- forwarding ------------------------------------------------------------------------------

    async def _forward(self, message: _Message, sink: _Sink) -> bool:
        """Let the server answer into the sink. False: the connection ends with this reply."""
        reader, writer = await self._to_server()
        writer.write(message.head + message.body)
        if message.rest == NO_BODY:
            return await self._relay_reply(message.request, reader, writer, sink)
        # The body is sent while the reply is awaited: the server may refuse it half-way.
        pump = asyncio.get_running_loop().create_task(self._pump(message.rest, writer))
        try:
            keep = await self._relay_reply(message.request, reader, writer, sink)
            if keep:
                await pump
        finally:
            await _end(pump)
        return keep

    async def _to_server(self) -> _Stream:
        now = asyncio.get_running_loop().time()
        if self._inner is None or self._inner[0].at_eof() or now - self._used > _IDLE:
            self._drop_inner()
            self._inner = await self._proxy.connect()
        self._used = now
        return self._inner

    def _drop_inner(self) -> None:
        if self._inner is not None:
            self._inner[1].transport.abort()
            self._inner = None

    async def _pump(self, rest: Framing, writer: asyncio.StreamWriter) -> None:
        """Send the server what the client sends."""

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            await _relay(self._reader, rest, send)
            if rest == UNTIL_EOF:
                writer.write_eof()
        except (OSError, EOFError):
            writer.transport.abort()

    async def _relay_reply(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sink: _Sink
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        while _wire.status_of(head) == 100:
            await self._send(head)
            head = await reader.readuntil(b"\r\n\r\n")
        if _wire.status_of(head) == 101:
            await sink(head)
            await self._splice(reader, writer, sink)
            return False
        _, headers = _wire.split_head(head)
        framing = _wire.reply_framing(request.method, _wire.status_of(head), headers)
        if framing.length is not None and framing.length <= _LIMIT:
            await sink(head + await reader.readexactly(framing.length))
        else:
            await sink(head)
            await _relay(reader, framing, sink)
        return framing != UNTIL_EOF and headers.get("connection", "").lower() != "close"

    async def _tunnel(self, head: bytes) -> None:
        """Pass on what is not understood, as it is."""
        reader, writer = await self._to_server()
        writer.write(head)
        await self._splice(reader, writer, self._send)

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sink: _Sink) -> None:
        """Pass bytes both ways until the server ends."""
        pump = asyncio.get_running_loop().create_task(self._pump(UNTIL_EOF, writer))
        try:
            await _relay(reader, UNTIL_EOF, sink)
        finally:
            await _end(pump)

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    # -- faults ----------------------------------------------------------------------------------

    async def _suffer(self, fault: WireFault, message: _Message) -> bool:
        """Make a fault. False: the connection ends with it."""
        match fault:
            case Reset():
                await self._reset(fault, message)
            case HalfClose(at_reply_byte):
                await self._cut_reply(fault, message, at_reply_byte)
                self._writer.write_eof()
                await _relay(self._reader, UNTIL_EOF, _ignore)
            case Blackhole(seconds):
                await self._black_out(fault, message, seconds)
            case Held(seconds):
                await asyncio.sleep(seconds)
                return await self._forward(message, self._to_whoever_is_left(fault, message))
            case Latency() | Drip() | ListLag() | RotateKey() | CutSocket():
                return await self._forward(self._prepared(fault, message), self._sink(fault, message))
            case Refused(processed=True, names_task=True):
                await self._send(_wire.refused(fault, await self._take(fault, message)))
                return not message.last
            case Garbage() | Html() | Status() | Refused() | NoTask():
                await self._take(fault, message)
                last = message.last or message.waits or (isinstance(fault, Garbage) and fault.part == "head")
                await self._send(_wire.answer(fault, message.request.method, last=last))
                return not last
            case WrongLength() | Unframed() | Duplicate() | Foreign():
                await self._send(self._falsified(fault, message, await self._take(fault, message)))
                return not (
                    isinstance(fault, Unframed) or (isinstance(fault, WrongLength) and fault.delta > 0)
                )
            case _:
                assert_never(fault)
        return False

    def _note(self, fault: WireFault, message: _Message) -> None:
        now = self._proxy.service.clock()
        self._proxy.plan.note(message.request, fault, now, processed=fault.processed)

    async def _take(self, fault: WireFault, message: _Message) -> bytes:
        """Take the whole request and, if the service is to have it, the whole reply."""
        reply = bytearray()

        async def collect(data: bytes) -> None:
            reply.extend(data)

        if fault.processed:
            keep = await self._forward(message, collect)
            message.last = message.last or not keep
        elif not message.waits:
            await _relay(self._reader, message.rest, _ignore)
        self._note(fault, message)
        return bytes(reply)

    async def _black_out(self, fault: Blackhole, message: _Message, seconds: float) -> None:
        await self._take(fault, message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _relay(self._reader, UNTIL_EOF, _ignore)

    async def _reset(self, fault: Reset, message: _Message) -> None:
        if fault.processed:
            await self._cut_reply(fault, message, fault.at_reply_byte or 0)
        else:
            await self._cut_request(message, fault.at_request_byte or 0)
            self._note(fault, message)
        sock = self._writer.get_extra_info("socket")
        await _sent(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _cut_request(self, message: _Message, size: int) -> None:
        """Read a request up to a byte, or to its end."""
        left = size - len(message.head) - len(message.body)
        if left > 0:
            with contextlib.suppress(_Cut):
                await _relay(self._reader, message.rest, _first(left, _ignore))

    async def _cut_reply(self, fault: WireFault, message: _Message, size: int | None) -> None:
        """Send a reply up to a byte, or to its end."""
        sink = self._sink(fault, message)
        with contextlib.suppress(_Cut):
            await self._forward(message, sink if size is None else _first(size, sink))

    def _prepared(self, fault: WireFault, message: _Message) -> _Message:
        """Do what is to be done before the service gets a request."""
        if isinstance(fault, ListLag):
            message.head = _wire.with_header(message.head, f"{LIST_LAG}: {fault.seconds}")
        if isinstance(fault, CutSocket):
            message.head = _wire.with_header(message.head, cut_header(fault))
        if isinstance(fault, RotateKey):
            old = message.request.headers.get("x-api-key", "")
            self._proxy.service.gate.rotate(old, fault.api_key, fault.api_secret)
        return message

    def _sink(self, fault: WireFault, message: _Message) -> _Sink:
        """Where a reply goes. Once it has begun, the service has processed the request."""
        begun = False

        async def send(data: bytes) -> None:
            nonlocal begun
            first, begun = not begun, True
            if first:
                self._note(fault, message)
            if first and isinstance(fault, Latency):
                await asyncio.sleep(fault.seconds)
            if isinstance(fault, Drip):
                await self._drip(data, fault, first=first)
            else:
                await self._send(data)

        return send

    def _to_whoever_is_left(self, fault: WireFault, message: _Message) -> _Sink:
        """Where a reply goes whose client may have gone: the service has handled the request in any case."""
        sink = self._sink(fault, message)

        async def send(data: bytes) -> None:
            with contextlib.suppress(OSError):
                await sink(data)

        return send

    async def _drip(self, data: bytes, fault: Drip, *, first: bool) -> None:
        end = data.index(b"\r\n\r\n") + 4 if first else 0
        for slow, part in ((fault.part == "head", data[:end]), (fault.part == "body", data[end:])):
            size = max(1, int(fault.bytes_per_second * _TICK)) if slow else _LIMIT
            for start in range(0, len(part), size):
                piece = part[start : start + size]
                await self._send(piece)
                await asyncio.sleep(len(piece) / fault.bytes_per_second if slow else 0)

    def _falsified(
        self, fault: WrongLength | Unframed | Duplicate | Foreign, message: _Message, reply: bytes
    ) -> bytes:
        if isinstance(fault, WrongLength):
            return _wire.with_length(reply, fault.delta)
        if isinstance(fault, Unframed):
            return _wire.without_length(reply, fault.lost)
        if isinstance(fault, Duplicate):
            return reply * 2
        return foreign_reply(self._proxy.service, message.request, reply, invented=fault.invented)


async def _relay(reader: asyncio.StreamReader, framing: Framing, sink: _Sink) -> None:
    """Pass a body on.

    Raises:
        EOFError: If it ends too early.
    """
    if framing.chunked:
        await _relay_chunks(reader, sink)
        return
    left = sys.maxsize if framing.length is None else framing.length
    while left:
        data = await reader.read(min(left, _LIMIT))
        if not data:
            if framing.length is None:
                return
            raise EOFError
        left -= len(data)
        await sink(data)


async def _relay_chunks(reader: asyncio.StreamReader, sink: _Sink) -> None:
    size, line = -1, b""
    while size:
        try:
            line = await reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError:
            line = b""
        await sink(line)
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:  # where it ends, nobody knows
            await _relay(reader, UNTIL_EOF, sink)
            return
        if size:
            await _relay(reader, Framing(size + 2), sink)
    while line != b"\r\n":  # the trailers, and the empty line after them
        line = await reader.readuntil(b"\r\n")
        await sink(line)


def _first(size: int, sink: _Sink) -> _Sink:
    """Let so many bytes pass, then raise."""
    left = size

    async def cut(data: bytes) -> None:
        nonlocal left
        await sink(data[:left])
        left -= min(left, len(data))
        if not left:
            raise _Cut

    return cut


async def _ignore(_: bytes) -> None:
    pass


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _sent(sock: socket.socket) -> None:
    """Wait until the kernel has sent what was written: a reset throws away what it has not."""
    if sys.platform == "linux":  # pragma: no branch - see the import
        for _ in range(int(_FLUSH / _POLL)):
            if sock.fileno() < 0 or not any(fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, bytes(4))):
                return  # the client has gone, or has it all
            await asyncio.sleep(_POLL)
