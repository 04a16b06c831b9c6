"""A lean server of the protocol, for one client on the other core: it must never be what limits a contender.

Run: ``python -m benchmarks.server``; the first line is its port, and the second, with ``--certificate`` and
``--key``, its port for TLS. It speaks just enough HTTP/1.1 and WebSocket for the clients here,
and trusts them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from benchmarks.load import Job, Load, detail, frames, outputs, run_reply

__all__ = ["Service", "serve"]

_BLOCK = bytes(256 * 1024)
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SAMPLED = 0.05
"""Seconds between two looks at what the server itself costs."""

_CALLERS = 32
"""Callbacks on their way at a time."""


class Service:
    """The tasks, and what is said of them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.counts: dict[str, int] = {}
        self.over: bool = False
        self._made: bytes = outputs("https://cdn1.wiro.ai/6a6af820-c5050aee-40bd7b83-a2e186c6/0.mp4", 202472)
        self._load: Load = Load()
        self._times: list[tuple[float, float]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._callbacks: asyncio.Queue[Job] = asyncio.Queue()
        self._callers: list[asyncio.Task[None]] = []
        self._samples: deque[tuple[float, float]] = deque(maxlen=round(600 / SAMPLED))

    def reset(self, load: Load, count: int, output: tuple[str, int] | None = None) -> None:
        """Forget everything, and expect *count* Runs of *load*, whose output is at an address, of a size."""
        for timer in self._timers:
            timer.cancel()
        for caller in self._callers:
            caller.cancel()
        self._timers.clear()
        self._callers.clear()
        self.jobs.clear()
        self.counts.clear()
        self.over = False
        if output:
            self._made = outputs(*output)
        self._load = load
        self._times = load.times(count)
        self._callbacks = asyncio.Queue()

    def run(self, inputs: dict[str, Any]) -> bytes:
        """Take a Run."""
        number = len(self.jobs)
        queued, ran = self._times[number % len(self._times)] if self._times else (0.0, 1e9)
        now = time.time()
        callback = str(inputs.get("callbackUrl", ""))
        job = Job(str(10_000_000 + number), now, now + queued, now + queued + ran, self._load, callback)
        self.jobs[job.id] = job
        if callback:
            self._at(job.ends, lambda: self._callbacks.put_nowait(job))
            if not self._callers:
                self._callers = [asyncio.create_task(self._call_back()) for _ in range(_CALLERS)]
        return run_reply(job)

    def detail(self, taskid: str) -> bytes:
        """Describe a task; those that nobody submitted have run for a second, and end when all is over."""
        now = time.time()
        job = self.jobs.get(taskid) or Job(taskid, now - 3, now - 1, now if self.over else now + 1e6)
        return detail(job, now, self._made)

    def _at(self, when: float, call: Callable[[], object]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(max(when - time.time(), 0.0), call))

    def listen(self, token: str, send: Callable[[str], None]) -> None:
        """Send a task's messages to a socket from now on; there is no replay."""
        job = self.jobs.get(str(int(token.removeprefix("token"))))
        now = time.time()
        for when, text in frames(job) if job else []:
            if when > now:
                self._at(when, lambda text=text: send(text))  # type: ignore[misc]

    async def _call_back(self) -> None:
        """Post results, one after the other over one connection."""
        writer: asyncio.StreamWriter | None = None
        while True:
            job = await self._callbacks.get()
            url = urlsplit(job.callback)
            body = detail(job, time.time(), self._made)
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
            target = url.path + (f"?{url.query}" if url.query else "")
            writer.write(
                f"POST {target} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head.lower()))

    def sample(self) -> None:
        """Note what this server has cost so far, now and from now on."""
        self._samples.append((time.time(), time.process_time()))
        asyncio.get_running_loop().call_later(SAMPLED, self.sample)

    def usage(self, since: float, until: float) -> bytes:
        """Tell the share of its core that this server used between two times, its requests, and all ends."""
        samples = list(self._samples)
        noted = [sample for sample in samples if since - SAMPLED <= sample[0] <= until + SAMPLED]
        (begin, before), (end, after) = (noted or samples)[0], (noted or samples)[-1]
        share = (after - before) / (end - begin) if end > begin else 0.0
        ends = {job.id: job.ends for job in self.jobs.values()}
        return json.dumps({"share": share, "requests": self.counts, "ends": ends}).encode()


class Connection(asyncio.Protocol):
    """One client's connection: HTTP requests one after the other, or a WebSocket after an upgrade."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received: bytes = b""
        self._feed: Callable[[], None] = self._requests
        self._transport: asyncio.Transport
        self._blocks: int = 0
        self._paused: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._received += data
        self._feed()

    # -- HTTP --------------------------------------------------------------------------------------------

    def _requests(self) -> None:
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            lower = head.lower()
            whole = end + 4 + _length(lower)
            if len(self._received) < whole:
                return
            body = self._received[end + 4 : whole]
            self._received = self._received[whole:]
            path = head[head.find(b" ") + 1 : head.find(b" HTTP/")].decode()
            if b"upgrade: websocket" in lower:
                self._upgrade(head)
                return
            self._route(path, body)

    def _route(self, path: str, body: bytes) -> None:
        service = self._service
        kind = "Run" if path.startswith("/v1/Run/") else path
        service.counts[kind] = service.counts.get(kind, 0) + 1
        if kind == "/v1/Task/Detail":
            self._reply(service.detail(str(json.loads(body)["taskid"])))
        elif kind == "Run":
            self._reply(service.run(json.loads(body)))
        elif kind.startswith("/cdn/"):
            self._download(int(kind.split("/")[2]))
        elif kind == "/control/usage":
            self._reply(service.usage(**json.loads(body)))
        elif kind == "/control/reset":
            order = json.loads(body)
            service.reset(Load(**order["load"]), order["count"], order.get("output"))
            self._reply(b"{}")
        elif kind == "/control/end":
            service.over = True
            self._reply(b"{}")
        else:
            self._reply(b'{"result":true,"errors":[],"tasklist":[]}')

    def _reply(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)

    def _download(self, size: int) -> None:
        """Send *size* bytes, a multiple of the block, as fast as they are taken."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % size
        self._transport.write(head)
        self._blocks = size // len(_BLOCK)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Wait for the client."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with a download."""
        self._paused = False
        while self._blocks and not self._paused:
            self._blocks -= 1
            self._transport.write(_BLOCK)

    # -- WebSocket (RFC 6455) ----------------------------------------------------------------------------

    def _upgrade(self, head: bytes) -> None:
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"].strip()
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._feed = self._frames
        self._send('{"type":"connected","version":"1.0"}')
        self._frames()

    def _frames(self) -> None:
        while len(self._received) >= 6:
            first, second = self._received[0], self._received[1] & 0x7F
            skip = {126: 2, 127: 8}.get(second, 0)
            length = int.from_bytes(self._received[2 : 2 + skip], "big") if skip else second
            begin = 6 + skip
            if len(self._received) < begin + length:
                return
            mask = self._received[begin - 4 : begin]
            masked = self._received[begin : begin + length]
            self._received = self._received[begin + length :]
            self._frame(first & 0x0F, _unmasked(masked, mask))

    def _frame(self, opcode: int, data: bytes) -> None:
        if opcode == 8:
            self._transport.write(_framed(8, data))
            self._transport.close()
        elif opcode == 9:
            self._transport.write(_framed(10, data))
        elif opcode == 1:
            order = json.loads(data)
            if order.get("type") == "task_info":
                self._service.listen(order["tasktoken"], self._send)

    def _send(self, text: str) -> None:
        if not self._transport.is_closing():
            self._transport.write(_framed(1, text.encode()))


def _length(lower_head: bytes) -> int:
    begin = lower_head.find(b"content-length:")
    return int(lower_head[begin + 15 :].split(b"\r\n", 1)[0]) if begin >= 0 else 0


def _unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")


def _framed(opcode: int, data: bytes) -> bytes:
    size = len(data)
    length = struct.pack("!B", size) if size < 126 else struct.pack("!BH", 126, size)
    return bytes([0x80 | opcode]) + length + data


async def serve(certificate: str = "", key: str = "") -> None:
    """Serve on loopback until cancelled, and print the ports."""
    service = Service()
    service.sample()
    loop = asyncio.get_running_loop()
    tls: ssl.SSLContext | None = None
    servers = []
    for secure in (False, True) if certificate else (False,):
        if secure:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, key)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        servers.append(
            await loop.create_server(lambda: Connection(service), sock=listener, backlog=8192, ssl=tls)
        )
        print(listener.getsockname()[1], flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Serve until killed, on uvloop where it is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", default="", help="serve TLS too, with this PEM file")
    parser.add_argument("--key", default="", help="the certificate's key, a PEM file")
    options = parser.parse_args()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(serve(options.certificate, options.key))


if __name__ == "__main__":
    main()
