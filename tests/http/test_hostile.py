"""No peer, however slow, wrong or hostile, hangs a caller, fills the process, or spoils the next call.

Run as a module, this file is the child process whose memory and event loop are watched during one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import attrs
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.servers import Peer, Server, answer, until
from wiro_async import Client, Limits, Polling, SubmissionUnknown, WiroError
from wiro_async._http.retry import RetryPolicy

MODEL = "MiniMax/image-to-video-01-director"
DATA = b"the whole clip " * 100
DEADLINE = 0.3
LIMITS = Limits(
    connect_timeout=DEADLINE,
    request_timeout=DEADLINE,
    download_timeout=DEADLINE,
    stop_timeout=DEADLINE,
    settle_timeout=0.01,
)
POLLING = Polling(min_interval=0.02, max_interval=0.1)
SLACK = 30.0
"""Seconds beyond its deadline after which a call counts as hung: a busy machine needs some."""
MIB = 1024 * 1024

Shape = Callable[[Peer], None]

# -- a peer that is good, and many that are not ----------------------------------------------------------


def good(request: bytes, origin: str) -> bytes:
    """Answer as the service would: one task, which has succeeded."""
    path = request.split(b" ", 2)[1].decode()
    if path.startswith("/cdn"):
        return answer(DATA)
    output = {"name": "0.mp4", "url": f"{origin}/cdn/0.mp4", "size": str(len(DATA))}
    task = {"id": "2221", "status": "task_postprocess_end", "pexit": "0", "outputs": [output]}
    payload: dict[str, Any] = {"tasklist": [task]}
    if "/Run/" in path:
        payload = {"taskid": "2221", "socketaccesstoken": "t"}
    elif "/List" in path:
        payload = {"tasklist": []}
    return answer(json.dumps({"errors": [], "result": True, **payload}).encode())


class Service:
    """Serves as a good peer, or plays a shape instead of each answer.

    Args:
        shape: What to play.
        early: Whether it begins before a request has been read.
    """

    def __init__(self, shape: Shape, *, early: bool = False) -> None:
        self._shape = shape
        self._early = early
        self.hostile: bool = False
        self.server: Server = Server(self._serve)

    def _serve(self, peer: Peer) -> None:
        if self._early and self.hostile:
            self._shape(peer)
            return
        while (request := peer.request()) is not None:
            if self.hostile:
                self._shape(peer)
                return
            peer.send(good(request, self.server.url))


def flood(block: bytes, head: bytes = b"") -> Shape:
    """Send *head*, and then *block* for ever."""

    def shape(peer: Peer) -> None:
        peer.send(head)
        while True:
            peer.send(block)

    return shape


def drip(head: bytes, dripped: bytes) -> Shape:
    """Send *head*, and then a byte every 20 ms."""

    def shape(peer: Peer) -> None:
        peer.send(head)
        for place in range(len(dripped)):
            peer.send(dripped[place : place + 1])
            if peer.gone.wait(0.02):
                return

    return shape


def say(data: bytes, then: Callable[[Peer], object] = Peer.hold) -> Shape:
    """Send *data*, and then be silent, or do something else."""

    def shape(peer: Peer) -> None:
        peer.send(data)
        then(peer)

    return shape


def half_request(peer: Peer) -> None:
    """Read a part of the request, and nothing more."""
    peer.sock.recv(20)
    peer.gone.wait(2 * DEADLINE)


def half_closed(peer: Peer) -> None:
    """Say that no more will come, and stay."""
    peer.half_close()
    peer.hold()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = HEAD + b"Content-Length: 100000\r\n\r\n"
EARLY: dict[str, Shape] = {
    "silent after the accept": Peer.hold,
    "silent after half a request": half_request,
    "speaks first": say(answer(b'{"result": true}')),
    "leaves at once": lambda peer: None,
}
SHAPES: dict[str, Shape] = {
    **EARLY,
    "silent after the request": Peer.hold,
    "head dripped": drip(b"", HEAD * 100),
    "body dripped": drip(LONG, b" " * 1000),
    "chunked body dripped": drip(CHUNKED, b"1\r\n \r\n" * 1000),
    "100 Continue for ever": flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "103 Early Hints for ever": flood(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000),
    "headers for ever": flood(b"X-More: of the same\r\n" * 1000, HEAD),
    "one header for ever": flood(b"x" * 10_000, HEAD + b"X: "),
    "a status line for ever": flood(b"x" * 10_000, b"HTTP/1.1 200 "),
    "chunks for ever": flood(b"1\r\n \r\n" * 5000, CHUNKED),
    "large chunks for ever": flood(b"10000\r\n" + b" " * 65536 + b"\r\n", CHUNKED),
    "a chunk's size for ever": flood(b"0" * 10_000, CHUNKED),
    "trailers for ever": flood(b"X-More: of the same\r\n" * 1000, CHUNKED + b"0\r\n"),
    "a body without length for ever": flood(b" " * 65536, HEAD + b"\r\n"),
    "half-closed": say(b"", half_closed),
    "half-closed in the head": say(HEAD, half_closed),
    "half-closed in the body": say(LONG + b"{", half_closed),
    "reset": say(b"", Peer.reset),
    "reset in the head": say(HEAD, Peer.reset),
    "reset in the body": say(LONG + b"{", Peer.reset),
    "length too long": say(LONG + b'{"result": true}'),
    "length too short": say(answer(b'{"result": true}')[:-16] + b'{"result": true}' * 3),
    "length below zero": say(HEAD + b"Content-Length: -1\r\n\r\n{}"),
    "two lengths": say(HEAD + b"Content-Length: 2\r\nContent-Length: 16\r\n\r\n" + b'{"result": true}'),
    "redirect to itself": say(answer(status="302 Found", headers=["Location: "])),
    "no HTTP": say(b"220 smtp.example.org ESMTP\r\n"),
    "HTTP/2": say(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 10),
    "switching protocols": say(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    ),
    "no content": say(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "HTTP/1.0": say(b"HTTP/1.0 200 OK\r\n\r\n{", lambda peer: None),
}


async def ended(what: str, deadline: float, work: Awaitable[object]) -> BaseException | None:
    """Await *work*, which must end within its deadline and a little, and return what it raised."""
    error: BaseException | None = None
    start = anyio.current_time()
    try:
        await work
    except (WiroError, OSError) as caught:
        error = caught
    took = anyio.current_time() - start
    assert took <= deadline + SLACK, f"{what} took {took:.1f} s"
    return error


@pytest.mark.parametrize("name", SHAPES)
async def test_a_hostile_peer_neither_hangs_a_call_nor_spoils_the_next(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run, Detail, List and downloads meet it at the same time; then each works, on the same client."""
    monkeypatch.setattr("wiro_async._files.download.STALL_SECONDS", DEADLINE)
    service = Service(SHAPES[name], early=name in EARLY)
    with service.server as server:
        async with Client(KEY, SECRET, base_url=f"{server.url}/v1", limits=LIMITS, polling=POLLING) as client:
            handle = client.attach("2221")
            (output,) = (await handle.refresh()).outputs
            service.hostile = True
            errors: dict[str, BaseException | None] = {}
            call = 3 * DEADLINE + 0.5

            async def meet(what: str, deadline: float, work: Awaitable[object]) -> None:
                errors[what] = await ended(what, deadline, work)

            async with anyio.create_task_group() as group:
                group.start_soon(meet, "Run", 2 * call, client.submit(MODEL, {"prompt": "during"}))
                group.start_soon(meet, "Detail", call, handle.refresh())
                group.start_soon(meet, "List", call, anext(client.list_tasks()))
                group.start_soon(meet, "read", DEADLINE, output.read())
                group.start_soon(meet, "save", DEADLINE, output.save(tmp_path / "clip.mp4"))
            assert isinstance(errors["Run"], SubmissionUnknown | wiro_async.ConnectionFailed)
            assert all(isinstance(error, WiroError) for error in errors.values()), errors
            assert not (tmp_path / "clip.mp4").exists()

            service.hostile = False
            await until(lambda: client._service.transport.gate.in_flight == 0)
            await handle.refresh()
            assert [task async for task in client.list_tasks()] == []
            assert await output.read(timeout=SLACK) == DATA
            assert (await output.save(tmp_path / "clip.mp4", timeout=SLACK)).read_bytes() == DATA


# -- memory and the event loop ---------------------------------------------------------------------------


def padded(item: bytes, before: bytes = b'{"result":true,"a":[', after: bytes = b"0]}") -> bytes:
    """Return a JSON body of almost 16 MiB that repeats *item*."""
    count = (16 * MIB - len(before) - len(after)) // len(item)
    return before + item * count + after


def _many_keys() -> bytes:
    return b'{"result":true' + b"".join(b',"k%d":0' % number for number in range(1_300_000)) + b"}"


BODIES: dict[str, Callable[[], bytes]] = {
    "lists": lambda: padded(b"[],"),
    "objects": lambda: padded(b"{},"),
    "objects with a key": lambda: padded(b'{"":0},'),
    "lists in lists": lambda: padded(b"[", after=b""),
    "closed lists in lists": lambda: b'{"a":' + b"[" * 8_000_000 + b"]" * 8_000_000 + b"}",
    "objects in objects": lambda: padded(b'{"a":', after=b""),
    "small integers": lambda: padded(b"1,"),
    "larger integers": lambda: padded(b"123456789012,"),
    "integers of 4000 digits": lambda: padded(b"9" * 4000 + b","),
    "one integer of 16 million digits": lambda: padded(b"9"),
    "floats": lambda: padded(b"1e1,"),
    "long floats": lambda: padded(b"0." + b"1" * 4000 + b","),
    "empty strings": lambda: padded(b'"",'),
    "short strings": lambda: padded(b'"ab",'),
    "escapes": lambda: padded(b"\\n", b'{"a":"', b'"}'),
    "unicode escapes": lambda: padded(b"\\u00e9", b'{"a":"', b'"}'),
    "surrogate pairs": lambda: padded(b"\\ud83d\\ude00", b'{"a":"', b'"}'),
    "one emoji in ASCII": lambda: padded(b"a", b'{"a":"', "🌊".encode() + b'"}'),
    "emojis": lambda: padded("🌊".encode(), b'{"a":"', b'"}'),
    "Cyrillic": lambda: padded("я".encode(), b'{"a":"', b'"}'),
    "one key": lambda: padded(b'"a":0,', b"{", b'"result":true}'),
    "many keys": _many_keys,
    "nulls": lambda: padded(b"null,"),
    "blanks": lambda: padded(b" ", b"", b"{}"),
    "zeros": lambda: padded(b"\0", b"", b""),
    "no UTF-8": lambda: padded(b"\xff", b"", b""),
    "lists in a text": lambda: padded(b"[],", b'{"result":true,"tasklist":[{"parameters":"[', b'0]"}]}'),
    "lists in an escaped text": lambda: padded(
        b"[],", b'{"result":true,"tasklist":[{"parameters":"\\u005b', b'0]"}]}'
    ),
    "many texts with lists": lambda: padded(b'{"parameters":"[[],[],[],[],[],[]]"},'),
    "a log": lambda: padded(
        b"[{,}] ", b'{"result":true,"tasklist":[{"id":"2221","status":"","debugoutput":"[', b'"}]}'
    ),
    "quotes": lambda: padded(b'"', b"", b""),
    "quotes in a text": lambda: padded(b'\\"', b'{"a":"', b'"}'),
    "a plain text": lambda: padded(b"a", b'{"result":true,"tasklist":[{"id":"2221","status":"', b'"}]}'),
}
STREAMS: dict[str, Shape] = {
    "a body without end": SHAPES["a body without length for ever"],
    "chunks without end": SHAPES["chunks for ever"],
    "large chunks without end": SHAPES["large chunks for ever"],
    "a chunk's size without end": SHAPES["a chunk's size for ever"],
    "trailers without end": SHAPES["trailers for ever"],
    "headers without end": SHAPES["headers for ever"],
    "a header without end": SHAPES["one header for ever"],
    "100 Continue without end": SHAPES["100 Continue for ever"],
    "103 Early Hints without end": SHAPES["103 Early Hints for ever"],
    "a length of 1 GB": flood(b" " * 65536, HEAD + b"Content-Length: 1000000000\r\n\r\n"),
    "a bomb in gzip": flood(
        zlib.compress(bytes(64 * MIB), 9),
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000000\r\n\r\n",
    ),
}


@attrs.frozen
class Watched:
    """What the child process saw.

    Attributes:
        error: The name of the class of what the call raised ("" for nothing).
        growth: By how much the peak of the process's memory grew, in MiB.
        stall: The longest that the event loop stood still, in milliseconds of the process's CPU time.
        seconds: How long the call took.
    """

    error: str
    growth: float
    stall: float
    seconds: float


ENDLESS = 1.0
"""Seconds that a call has for what never ends: that long each of those tests takes."""

MAX_GROWTH = 64.0
MAX_STALL = 250.0
"""The goal is 50 ms; the rest is for a slow machine."""

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells, and forgets, the peak of one process's memory"
)


class Child:
    """A process that makes one good call and one hostile one, as often as it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = process.stdout

    def watch(self, shape: Shape, operation: str, deadline: float) -> Watched:
        """Let the process meet the shape, with a *deadline* in seconds for each call."""
        service = Service(shape)
        with service.server as server:
            self._say(f"{server.url} {operation} {deadline}")
            assert self._stdout.readline() == "ready\n"
            service.hostile = True
            self._say("go")
            watched = Watched(**json.loads(self._stdout.readline()))
        # For the record: `pytest -s` shows it.
        sys.stdout.write(f"\n{watched}")
        return watched

    def _say(self, line: str) -> None:
        self._stdin.write(f"{line}\n")
        self._stdin.flush()


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """A process of its own, whose memory is not the tests'."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "tests.http.test_hostile"]
    pipe, folder = subprocess.PIPE, Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environ, cwd=folder) as process:
        yield Child(process)
        process.communicate()


@needs_proc
@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_neither_fills_the_memory_nor_blocks_the_loop(name: str, child: Child) -> None:
    """16 MiB of what costs most to decode."""
    watched = child.watch(say(answer(BODIES[name]())), "Detail", SLACK)
    assert watched.error == ("" if name in ("a plain text", "a log") else "InvalidResponse")
    # The digits are there four times at once, before they are found to be too many.
    assert watched.growth <= MAX_GROWTH + (2 if name == "one integer of 16 million digits" else 0)
    assert watched.stall <= MAX_STALL


@needs_proc
@pytest.mark.parametrize("operation", ["Detail", "read"])
@pytest.mark.parametrize("name", STREAMS)
def test_what_never_ends_neither_fills_the_memory_nor_blocks_the_loop(
    name: str, operation: str, child: Child
) -> None:
    """It is read until the deadline or a limit, and no further."""
    watched = child.watch(STREAMS[name], operation, ENDLESS)
    kinds = ("InvalidResponse", "ConnectionFailed") if operation == "Detail" else ("DownloadError",)
    assert watched.error in kinds
    assert watched.growth <= MAX_GROWTH
    assert watched.stall <= MAX_STALL
    assert watched.seconds <= ENDLESS + SLACK


# -- the child process -----------------------------------------------------------------------------------


def peak() -> float:
    """Return the most memory that this process has had since ``forget_peak``, in MiB."""
    # Not getrusage(): a forked process starts with its parent's peak.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Give free memory back to the system, and let the peak be what is used now."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # not in every C library
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


class Pulse:
    """Measures the longest that the event loop stands still, whatever else the machine does.

    By the CPU time of the whole process: a worker thread that holds the GIL stops the event loop too.
    """

    def __init__(self) -> None:
        self.longest: float = 0.0
        self._last = time.process_time()
        self._handle: asyncio.TimerHandle | None = None

    def beat(self) -> None:
        """Measure, and come again in a millisecond."""
        now = time.process_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._handle = asyncio.get_running_loop().call_later(0.001, self.beat)

    def stop(self) -> None:
        """Measure for the last time."""
        self.beat()
        assert self._handle is not None
        self._handle.cancel()


async def meet(url: str, operation: str, deadline: float) -> Watched:
    """Make calls to a good peer, and one to a hostile one."""
    limits = Limits(request_timeout=deadline, download_timeout=deadline)
    async with Client(KEY, SECRET, base_url=f"{url}/v1", limits=limits) as client:
        handle = await client.submit(MODEL, {"prompt": "before"})
        (output,) = (await handle.refresh()).outputs
        await output.read()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "Detail": handle.refresh,
            # Where no size is told, only the caller's own limit holds.
            "read": lambda: attrs.evolve(output, size=None, store=output._store).read(max_bytes=MIB),
        }
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        forget_peak()
        before, start = peak(), time.perf_counter()
        pulse, error = Pulse(), ""
        pulse.beat()
        try:
            await calls[operation]()
        except WiroError as caught:
            error = type(caught).__name__
        pulse.stop()
        return Watched(error, peak() - before, pulse.longest * 1000, time.perf_counter() - start)


async def serve() -> None:
    """Meet whatever the other process names."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        url, operation, deadline = line.split()
        watched = await meet(url, operation, float(deadline))
        sys.stdout.write(json.dumps(attrs.asdict(watched)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with mock.patch("wiro_async._http.transport.READS", RetryPolicy(attempts=1, base=1.0)):
        asyncio.run(serve())
