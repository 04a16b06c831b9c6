"""Byte streams over real sockets: what is sent, what is received, and that nothing stays open."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio
from anyio.abc import ByteStream

from tests.servers import LOOPS, Handler, Peer, Server, refused_port, tls_settings, until
from tests.servers import anyio_backend as anyio_backend
from wiro_async._http import network as _network
from wiro_async._http.network import ReadError, Stream, WriteError, connect

only_asyncio = pytest.mark.parametrize("anyio_backend", LOOPS[:2])


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The server's and the client's TLS settings, or none."""
    return tls_settings() if request.param == "tls" else (None, None)


Tls = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


@asynccontextmanager
async def connected(
    handler: Handler, tls: Tls = (None, None), **options: Any
) -> AsyncIterator[tuple[Stream, Peer]]:
    """Connect to a server that runs *handler*; at the end the server must have seen the close."""
    with Server(handler, tls[0], **options) as server:
        stream = await connect("127.0.0.1", server.port, tls[1])
        try:
            await until(lambda: server.peers)
            yield stream, server.peers[0]
        finally:
            await stream.aclose()
            await until(server.peers[0].gone.is_set)


async def read_exactly(stream: Stream, size: int) -> bytes:
    """Read *size* bytes."""
    data = bytearray()
    while len(data) < size:
        data += await stream.read()
    return bytes(data)


async def test_bytes_go_both_ways(tls: Tls) -> None:
    """What is written arrives, and what the peer sends is read."""

    def handler(peer: Peer) -> None:
        assert peer.request() == b"GET / HTTP/1.1\r\n\r\n"
        peer.send(b"0123456789")
        peer.hold()

    async with connected(handler, tls) as (stream, _):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await read_exactly(stream, 10) == b"0123456789"


async def test_the_end_of_the_stream(tls: Tls) -> None:
    """Bytes before the peer's close are read first, then b"" for ever; writing then fails."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(b"last")

    async with connected(handler, tls) as (stream, peer):
        await stream.write(b"\r\n\r\n")
        assert await stream.read() == b"last"
        assert await stream.read() == b""
        assert await stream.read() == b""
        assert stream.is_readable
        await until(peer.gone.is_set)


async def test_a_closed_stream_is_not_used_again(tls: Tls) -> None:
    """It counts as readable, which is a reason to drop it."""
    async with connected(lambda peer: peer.hold(), tls) as (stream, _):
        await stream.aclose()
        assert stream.is_readable


async def test_a_reset_is_an_error() -> None:
    """A reset connection raises our ReadError."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.reset()

    async with connected(handler) as (stream, _):
        await stream.write(b"\r\n\r\n")
        with pytest.raises(ReadError):
            await stream.read()


@only_asyncio
async def test_head_and_body_leave_in_one_packet(tls: Tls) -> None:
    """What is written at once is one system call, which the peer reads as one packet."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(b"ok")
        peer.hold()

    async with connected(handler, tls) as (stream, peer):
        await stream.write(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
        assert await stream.read() == b"ok"
        assert peer.packets == [b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"]


async def test_nothing_counts_as_sent_before_bytes_leave() -> None:
    """A fresh stream has sent nothing; after an exchange it has."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(b"ok")
        peer.hold()

    async with connected(handler) as (stream, _):
        assert stream.sent is False
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        await stream.read()
        assert stream.sent is True


@only_asyncio
async def test_a_write_to_a_closed_connection_counts_as_not_sent() -> None:
    """When the peer was gone before the first byte, writing fails, and `sent` stays false."""
    async with connected(lambda peer: None) as (stream, peer):
        await until(lambda: stream.is_readable)
        with pytest.raises(WriteError):
            await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        assert stream.sent is False
        assert peer.received == b""


async def test_more_is_sent_than_the_buffers_hold(tls: Tls) -> None:
    """While the peer does not read, a big write waits; nothing is lost, and memory stays bounded."""
    reading = anyio.Event()
    loop_side: list[bool] = []
    may_read = threading.Event()
    body = random.Random(1).randbytes(4 * 1024 * 1024)

    def handler(peer: Peer) -> None:
        may_read.wait(10)
        assert peer.request() is not None
        peer.send(b"ok")
        peer.hold()

    async def write(stream: Stream) -> None:
        await stream.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 65536):
            await stream.write(body[start : start + 65536])
        loop_side.append(True)
        assert await stream.read() == b"ok"
        reading.set()

    async with connected(handler, tls, receive_buffer=8192) as (stream, peer):
        async with anyio.create_task_group() as group:
            group.start_soon(write, stream)
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert not loop_side
            may_read.set()
            await reading.wait()
        assert bytes(peer.received).endswith(body)


async def test_more_is_received_than_is_read(tls: Tls) -> None:
    """While nobody reads, receiving pauses; afterwards every byte is there, in order."""
    body = random.Random(2).randbytes(8 * 1024 * 1024)

    def handler(peer: Peer) -> None:
        peer.send(body)
        peer.hold()

    async with connected(handler, tls) as (stream, _):
        await until(lambda: stream.is_readable)
        for _ in range(200):
            await anyio.lowlevel.checkpoint()
        assert getattr(stream, "_waiting", 0) < 1024 * 1024
        assert await read_exactly(stream, len(body)) == body


async def test_an_early_answer_is_read_although_the_rest_was_not_sent(tls: Tls) -> None:
    """A server that refuses a big request half-way and closes is heard: writing fails, reading does not."""
    refusal = b"HTTP/1.1 413 Too Large\r\n\r\n"

    def handler(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(refusal)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.hold()

    async with connected(handler, tls) as (stream, _):
        piece = b"x" * 300_000
        await stream.write(b"POST / HTTP/1.1\r\n\r\n" + piece)
        await until(lambda: stream.is_readable)
        try:
            for _ in range(3):
                await stream.write(piece)
        except WriteError:
            pass
        assert stream.sent
        received = await stream.read()
        assert received == refusal


@only_asyncio
async def test_a_peer_that_ended_while_it_did_not_read_ends_the_write() -> None:
    """A writer does not wait for a peer to read that has said its last."""
    may_end = threading.Event()

    def handler(peer: Peer) -> None:
        may_end.wait(10)
        peer.half_close()
        assert may_leave.wait(5), "the write did not end before the peer left"

    may_leave = threading.Event()
    async with connected(handler, receive_buffer=8192) as (stream, _):
        async with anyio.create_task_group() as group:
            group.start_soon(stream.write, b"x" * 8_000_000)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            may_end.set()
        assert stream.sent
        may_leave.set()


async def test_what_waits_on_an_idle_stream_is_seen(tls: Tls) -> None:
    """`is_readable` is false while the peer is silent, and true once bytes or the end are there."""
    may_send = threading.Event()

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(b"ok")
        may_send.wait(10)
        peer.send(b"unasked")
        peer.hold()

    async with connected(handler, tls) as (stream, _):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await stream.read() == b"ok"
        assert not stream.is_readable
        may_send.set()
        await until(lambda: stream.is_readable)


async def test_a_second_tls_record_in_the_same_packet_is_seen() -> None:
    """Bytes that TLS has taken off the socket, but nobody has read, make the stream readable."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send_corked(b"ok", b"unasked")
        peer.hold()

    async with connected(handler, tls_settings()) as (stream, _):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        received = await stream.read()
        if received == b"ok":
            await until(lambda: stream.is_readable)
        else:
            assert received == b"okunasked"


async def test_the_end_of_tls_in_the_same_packet_is_seen() -> None:
    """A close_notify behind the last record makes the stream readable."""

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(b"ok")
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.send(b"!")
        peer.sock.settimeout(0.05)
        with suppress(OSError, ValueError):
            peer.sock.unwrap()
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        done.wait(10)

    done = threading.Event()
    async with connected(handler, tls_settings()) as (stream, _):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await read_exactly(stream, 3) == b"ok!"
        await until(lambda: stream.is_readable)
        done.set()


async def test_garbage_in_tls_is_a_read_error() -> None:
    """A record that does not decrypt raises our ReadError, not ssl's own."""

    def handler(peer: Peer) -> None:
        peer.request()
        assert isinstance(peer.sock, ssl.SSLSocket)
        raw = socket.socket(fileno=peer.sock.detach())
        raw.sendall(b"this is no TLS record, and never was one")
        raw.close()

    async with connected(handler, tls_settings()) as (stream, _):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ReadError):
            await stream.read()


class Inner(ByteStream):
    """A stream of anyio's that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def send(self, item: bytes) -> None:
        raise self.error

    async def receive(self, max_bytes: int = 65536) -> bytes:
        raise self.error

    async def send_eof(self) -> None:
        raise self.error

    async def aclose(self) -> None:
        return


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize(
    "error", [ssl.SSLError("no cipher left"), anyio.BrokenResourceError(), anyio.ClosedResourceError()]
)
async def test_anyios_failures_become_ours(error: Exception) -> None:
    """A failure of TLS, or of the network, raises the same as on asyncio, and has a text."""
    stream = _network._AnyioStream(Inner(error), None)
    with pytest.raises(WriteError, match=r"no cipher left|ResourceError"):
        await stream.write(b"x")
    assert stream.sent
    with pytest.raises(ReadError, match=r"no cipher left|ResourceError"):
        await stream.read()
    await stream.aclose()


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize(
    ("error", "readable"), [(ssl.SSLError("bad record"), True), (ssl.SSLWantReadError(), False)]
)
async def test_broken_tls_on_an_idle_stream_is_a_reason_to_drop_it(
    error: ssl.SSLError, readable: bool
) -> None:
    """Where asking TLS fails, the stream counts as readable; where it waits for more, it does not."""

    class Tls:
        def read(self, count: int) -> bytes:
            raise error

    tls: Any = Tls()
    ours, peers = socket.socketpair()
    with ours, peers:
        assert _network._AnyioStream(Inner(OSError()), ours, tls).is_readable is readable
        assert not _network._AnyioStream(Inner(OSError()), ours).is_readable


# -- opening ---------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_an_os_error() -> None:
    """Nobody listens: OSError."""
    with pytest.raises(OSError, match=r"."):
        await connect("127.0.0.1", refused_port(), None)


async def test_a_name_is_resolved() -> None:
    """A host name works as an address does, although only one of its addresses answers."""
    with Server(lambda peer: peer.hold()) as server:
        stream = await connect("localhost", server.port, None)
        assert not stream.is_readable
        await stream.aclose()


async def test_a_name_is_checked_against_the_certificate() -> None:
    """The certificate's own name is accepted."""
    server_tls, client_tls = tls_settings()
    with Server(lambda peer: peer.hold(), server_tls) as server:
        stream = await connect("localhost", server.port, client_tls)
        await until(lambda: server.peers and isinstance(server.peers[0].sock, ssl.SSLSocket))
        await stream.aclose()


async def test_an_untrusted_certificate_is_an_os_error() -> None:
    """A certificate that nobody vouches for is refused, and the socket closed."""
    server_tls, _ = tls_settings()
    with Server(lambda peer: peer.hold(), server_tls) as server:
        with pytest.raises(OSError, match="certificate"):
            await connect("127.0.0.1", server.port, ssl.create_default_context())
        await until(server.peers[0].gone.is_set)
        gc.collect()


async def test_a_peer_that_speaks_no_tls_is_an_os_error() -> None:
    """A handshake with something else fails, and the socket is closed."""
    _, client_tls = tls_settings()
    with Server(lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        with pytest.raises(OSError, match=r"."):
            await connect("127.0.0.1", server.port, client_tls)
        await until(server.peers[0].gone.is_set)


async def test_a_peer_that_leaves_in_the_handshake_is_an_os_error() -> None:
    """A handshake that is cut off or reset fails."""
    _, client_tls = tls_settings()

    def handler(peer: Peer) -> None:
        peer.sock.recv(10)
        if peer.number % 2:
            peer.reset()

    with Server(handler) as server:
        for _ in range(2):
            with pytest.raises(OSError):  # noqa: PT011  (the text differs from loop to loop)
                await connect("127.0.0.1", server.port, client_tls)


# -- the race of a name's addresses ----------------------------------------------------------------------


def addresses(*found: tuple[str, int]) -> Any:
    """Return a resolver that finds these addresses."""

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host, port in found
        ]

    return getaddrinfo


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that answers no connection: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


async def resolved(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int]) -> Stream:
    """Connect to a name that has these addresses."""
    monkeypatch.setattr(socket, "getaddrinfo", addresses(*found))
    return await connect("several.example", 1, None)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_next_address_is_tried_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused address does not keep the next one from being used at once."""
    with Server(lambda peer: peer.hold()) as server:
        refused = [("127.0.0.1", refused_port()) for _ in range(40)]
        monkeypatch.setattr(_network, "_RACE_SECONDS", 60.0)
        with anyio.fail_after(30):
            stream = await resolved(monkeypatch, *refused, ("127.0.0.1", server.port))
        await stream.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_next_address_is_tried_after_silence(
    monkeypatch: pytest.MonkeyPatch, silent_port: int
) -> None:
    """An address that does not answer is left behind after a moment, and its socket closed."""
    with Server(lambda peer: peer.hold()) as server:
        stream = await resolved(monkeypatch, ("127.0.0.1", silent_port), ("127.0.0.1", server.port))
        await until(lambda: server.peers)
        await stream.aclose()
        await anyio.lowlevel.checkpoint()
    gc.collect()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_when_no_address_answers_the_first_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of which every address refuses is an OSError."""
    with pytest.raises(ConnectionRefusedError):
        await resolved(monkeypatch, *[("127.0.0.1", refused_port()) for _ in range(3)])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_silent_address_is_waited_for_when_no_other_is_left(
    monkeypatch: pytest.MonkeyPatch, silent_port: int
) -> None:
    """A refusal does not end the race while another address may still answer."""
    with anyio.move_on_after(0.5) as scope:
        await resolved(monkeypatch, ("127.0.0.1", silent_port), ("127.0.0.1", refused_port()))
    assert scope.cancelled_caught
    await anyio.lowlevel.checkpoint()
    gc.collect()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_winners_at_once_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """When two addresses answer in the same moment, the second connection is closed."""
    monkeypatch.setattr(_network, "_RACE_SECONDS", 0.0)
    with Server(lambda peer: peer.hold()) as server:
        for _ in range(20):
            stream = await resolved(monkeypatch, *[("127.0.0.1", server.port)] * 3)
            await stream.aclose()
            await anyio.lowlevel.checkpoint()
        gc.collect()
        await until(lambda: all(peer.gone.is_set() for peer in server.peers))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_winner_that_becomes_no_stream_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the loop cannot make a transport of the connected socket, the socket is closed."""

    async def fail(*_: object, **__: object) -> None:
        raise OSError("no transport")

    with Server(lambda peer: peer.hold()) as server:
        monkeypatch.setattr(type(asyncio.get_running_loop()), "create_connection", fail)
        with pytest.raises(OSError, match="no transport"):
            await resolved(monkeypatch, ("127.0.0.1", server.port))
        gc.collect()
        await until(lambda: server.peers and server.peers[0].gone.is_set())


@pytest.fixture
def port_6() -> Iterator[int]:
    """A port at which somebody listens by IPv6; on a machine without IPv6, one that refuses."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        yield refused_port()
        return
    with listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_address_families_take_turns(monkeypatch: pytest.MonkeyPatch, port_6: int) -> None:
    """IPv6 and IPv4 addresses alternate, so that a broken IPv6 costs one attempt only."""
    refused = ("::1", refused_port())
    with Server(lambda peer: peer.hold()) as server:
        stream = await resolved(
            monkeypatch, refused, ("::1", port_6), ("::1", port_6), ("127.0.0.1", server.port)
        )
        await until(lambda: server.peers)
        await stream.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_preferred_family_is_first(monkeypatch: pytest.MonkeyPatch, port_6: int) -> None:
    """Whichever the resolver prefers; nobody else is asked where that answers."""
    with Server(lambda peer: peer.hold()) as server, Server(lambda peer: peer.hold()) as other:
        four = [("127.0.0.1", server.port), ("127.0.0.1", other.port)]
        stream = await resolved(monkeypatch, four[0], ("::1", port_6), four[1])
        await until(lambda: server.peers)
        await stream.aclose()
        assert not other.peers


# -- leaving ---------------------------------------------------------------------------------------------


async def test_closing_waits_for_nobody(tls: Tls) -> None:
    """A stream closes at once although its peer neither reads nor answers, and the peer sees it."""
    async with connected(lambda peer: peer.hold(), tls) as (stream, peer):
        with anyio.fail_after(30):
            await stream.aclose()
            await stream.aclose()
        await until(peer.gone.is_set)


@only_asyncio
async def test_closing_does_not_suspend() -> None:
    """No cancellation can come between the steps of a close, because it never yields to the loop."""
    async with connected(lambda peer: peer.hold()) as (stream, _):
        coroutine = stream.aclose()
        with pytest.raises(StopIteration):
            coroutine.send(None)


@only_asyncio
async def test_reading_and_writing_after_a_close() -> None:
    """A closed stream gives no bytes and takes none."""
    async with connected(lambda peer: peer.hold()) as (stream, _):
        await stream.aclose()
        assert stream.is_readable
        with pytest.raises(WriteError):
            await stream.write(b"x")
        assert await stream.read() == b""


# -- cancellation ----------------------------------------------------------------------------------------


async def cancelled_natively(work: Awaitable[Any], ready: Callable[[], object]) -> None:
    """Start *work*, cancel its task when *ready* says so, and wait for the end."""

    async def run() -> None:
        await work

    task = asyncio.get_running_loop().create_task(run())
    await until(ready)
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_by_scope(work: Awaitable[Any], ready: Callable[[], object]) -> None:
    """The same with an anyio scope."""
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await work

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(ready)
        await anyio.sleep(0.005)
        scope.cancel()
    assert scope.cancelled_caught


@pytest.fixture(params=["scope", "native"])
def cancelled(request: pytest.FixtureRequest, anyio_backend: Any) -> Any:
    """Both ways to cancel, where there are two."""
    if request.param == "native" and anyio_backend == "trio":
        pytest.skip("trio knows no native task.cancel()")
    return cancelled_natively if request.param == "native" else cancelled_by_scope


async def test_cancelled_in_the_handshake(cancelled: Any) -> None:
    """A connection that was being opened is closed: the server sees it, nothing is left to the collector."""
    _, client_tls = tls_settings()
    with Server(lambda peer: peer.hold()) as server:
        work = connect("127.0.0.1", server.port, client_tls)
        await cancelled(work, lambda: server.peers and server.peers[0].received)
        await until(server.peers[0].gone.is_set)
        gc.collect()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_cancelled_while_connecting(cancelled: Any, silent_port: int, host: str) -> None:
    """A connect that is cancelled before the peer answers leaves no socket open."""
    await cancelled(connect(host, silent_port, None), lambda: True)
    await anyio.lowlevel.checkpoint()
    gc.collect()


async def test_cancelled_in_the_handshake_with_a_name(cancelled: Any) -> None:
    """The socket that won the race is closed when the handshake after it is cancelled."""
    _, client_tls = tls_settings()
    with Server(lambda peer: peer.hold()) as server:
        work = connect("localhost", server.port, client_tls)
        await cancelled(work, lambda: server.peers and server.peers[0].received)
        await until(server.peers[0].gone.is_set)
        gc.collect()


async def test_cancelled_while_reading(cancelled: Any, tls: Tls) -> None:
    """After a cancelled read the stream is closed by its owner, and the server sees it."""
    async with connected(lambda peer: peer.hold(), tls) as (stream, peer):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        await cancelled(stream.read(), lambda: peer.received)
        await stream.aclose()
        await until(peer.gone.is_set)
    gc.collect()


async def test_cancelled_while_writing(cancelled: Any) -> None:
    """The same for a write that waits for a peer that does not read."""
    may_read = threading.Event()

    def handler(peer: Peer) -> None:
        may_read.wait(10)
        peer.hold()

    async with connected(handler, receive_buffer=8192) as (stream, _):
        await cancelled(stream.write(b"x" * 16_000_000), lambda: stream.sent)
        await stream.aclose()
        may_read.set()
    gc.collect()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_cancelled_at_any_moment_of_opening(cancelled: Any, host: str) -> None:
    """However many steps a connect got, cancelling it leaves no socket to the garbage collector."""
    with Server(lambda peer: peer.hold()) as server:
        for steps in range(25):
            opened: list[Stream] = []

            async def work(opened: list[Stream] = opened) -> None:
                opened.append(await connect(host, server.port, None))

            if cancelled is cancelled_natively:
                task = asyncio.get_running_loop().create_task(work())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
            else:
                async with anyio.create_task_group() as group:
                    group.start_soon(work)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
            for stream in opened:
                await stream.aclose()
        await until(lambda: all(peer.gone.is_set() for peer in server.peers))
        gc.collect()


async def test_the_running_loop_decides() -> None:
    """On asyncio runs the protocol of our own, everything else goes through anyio."""
    with Server(lambda peer: peer.hold()) as server:
        stream = await connect("127.0.0.1", server.port, None)
        expected = "_AsyncioStream" if sniffio.current_async_library() == "asyncio" else "_AnyioStream"
        assert type(stream).__name__ == expected
        await stream.aclose()
