"""The lower bound: raw asyncio connections, canned bytes, nothing signed, decoded or checked."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

from benchmarks.contender import LOOK_SECONDS, Call, Known, Order, Probe, clock, main


class Wire(asyncio.Protocol):
    """One connection: bytes out, the body of one reply in."""

    def __init__(self) -> None:
        self._received: bytes = b""
        self._answer: asyncio.Future[bytes]
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand over a whole reply."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        begin = self._received.find(b"Content-Length: ")
        if end >= 0 and len(self._received) >= end + 4 + int(self._received[begin + 16 : end]):
            received, self._received = self._received, b""
            self._answer.set_result(received[end + 4 :])

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Send a request, and return what its reply will be."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer


class Wires:
    """As many connections as may be in flight; who finds none waits in line."""

    def __init__(self, order: Order) -> None:
        url = urlsplit(order.base)
        assert url.hostname
        self._host: str = url.hostname
        self._port: int = url.port or 0
        self._tls: ssl.SSLContext | None = ssl.create_default_context() if url.scheme == "https" else None
        self._left: int = order.in_flight
        self._idle: list[Wire] = []
        self._line: deque[asyncio.Future[Wire]] = deque()

    async def ask(self, request: bytes) -> bytes:
        """Return the body of the reply."""
        wire = self._idle.pop() if self._idle else await self._other()
        body = await wire.ask(request)
        if self._line:
            self._line.popleft().set_result(wire)
        else:
            self._idle.append(wire)
        return body

    async def _other(self) -> Wire:
        loop = asyncio.get_running_loop()
        if self._left:
            self._left -= 1
            _, wire = await loop.create_connection(Wire, self._host, self._port, ssl=self._tls)
            return wire
        self._line.append(loop.create_future())
        return await self._line[-1]


def request(path: str, payload: dict[str, str]) -> bytes:
    """Return a request of a real one's size."""
    body = json.dumps(payload).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: raw\r\nAccept: application/json\r\n"
        f"Content-Type: application/json\r\nx-api-key: key\r\nx-nonce: 1734513807000000\r\n"
        f"x-signature: {'0' * 64}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def calls(order: Order) -> AsyncIterator[Call]:
    """Yield one Detail call."""
    wires = Wires(order)
    canned = request("/v1/Task/Detail", {"taskid": "2221"})
    yield lambda: wires.ask(canned)


async def jobs(order: Order, known: Known) -> None:
    """Submit all at once; look at each every 3 s."""
    wires = Wires(order)
    run = request(f"/v1/Run/{order.model}", order.inputs)
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    running: set[asyncio.Task[None]] = set()

    def begin(work: Coroutine[None, None, None]) -> None:
        running.add(task := loop.create_task(work))
        task.add_done_callback(running.discard)

    async def submit() -> None:
        taskid = (await wires.ask(run)).split(b'"taskid": "')[1].split(b'"')[0].decode()
        look_later(taskid, request("/v1/Task/Detail", {"taskid": taskid}))

    def look_later(taskid: str, canned: bytes) -> None:
        loop.call_later(LOOK_SECONDS, lambda: begin(look(taskid, canned)))

    async def look(taskid: str, canned: bytes) -> None:
        if b'"task_postprocess_end"' not in await wires.ask(canned):
            look_later(taskid, canned)
            return
        known[taskid] = clock()
        if len(known) == order.count:
            finished.set()

    for _ in range(order.count):
        begin(submit())
    await finished.wait()


async def download(order: Order) -> dict[str, float]:
    """Receive one large output, and keep nothing of it."""
    url = urlsplit(order.base)
    loop = asyncio.get_running_loop()
    with socket.create_connection((url.hostname or "", url.port or 0)) as sock:
        sock.setblocking(False)
        buffer = bytearray(1024 * 1024)
        probe = Probe()
        await loop.sock_sendall(sock, f"GET {url.path} HTTP/1.1\r\n\r\n".encode())
        left = order.count
        while left > 0:
            left -= await loop.sock_recv_into(sock, buffer)
        return probe.stop()


if __name__ == "__main__":
    main(calls, jobs, {"download": download})
