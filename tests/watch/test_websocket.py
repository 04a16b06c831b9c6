"""One WebSocket connection: what it hands on, what it answers, and that it ends once, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import anyio
import pytest
import websockets.asyncio.server

from tests.servers import refused_port, tls_settings, until
from tests.virtual import VirtualLoop
from tests.ws_servers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Handler,
    Peer,
    Service,
    accepted,
    frame,
    serving,
)
from wiro_async._http.proxies import Routes, parse_proxy
from wiro_async._watch.websocket import Connection, ParseQueue, make_setup

LOOPS = [
    pytest.param("asyncio", id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
VIRTUAL = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})])


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run every async test on asyncio's own loop and on uvloop; on trio there are no sockets."""
    return request.param


class Owner:
    """Records what it is told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.problems: list[str] = []
        self.is_open: bool = False
        self.then: Callable[[bytes], object] = lambda message: None

    def opened(self) -> None:
        self.is_open = True

    def received(self, message: bytes | bytearray) -> None:
        self.messages.append(bytes(message))
        self.then(bytes(message))

    def lost(self, problem: str) -> None:
        self.problems.append(problem)


def make(
    url: str, owner: Owner, client_tls: ssl.SSLContext | None = None, queue: ParseQueue | None = None
) -> Connection:
    """Make a connection, not opened yet; those of one *queue* share the event loop's turns."""

    def settings() -> ssl.SSLContext:
        assert client_tls is not None
        return client_tls

    return Connection(make_setup(url, settings, "wiro-async/test"), owner, queue or ParseQueue())


@asynccontextmanager
async def connected(
    handler: Handler, *, tls: bool = False, queue: ParseQueue | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Connection, Owner, Service]]:
    """Open a connection to a server that runs *handler*."""
    server, client = tls_settings() if tls else (None, None)
    async with serving(handler, tls=server, host=host) as service:
        owner = Owner()
        connection = make(service.url, owner, client, queue)
        await connection.open()
        try:
            yield connection, owner, service
        finally:
            connection.close()


async def hold(peer: Peer) -> None:
    await peer.hold()


# -- messages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_messages_go_both_ways(tls: bool) -> None:
    """Over TCP and TLS, in order, up to long ones."""
    long = b"x" * 200_000

    async def handler(peer: Peer) -> None:
        assert await peer.next() == (TEXT, b"hello")
        peer.raw(frame(TEXT, b"one") + frame(TEXT, long) + frame(TEXT, b"two"))
        await peer.hold()

    async with connected(handler, tls=tls) as (connection, owner, _):
        assert owner.is_open
        connection.send("hello")
        await until(lambda: len(owner.messages) == 3)
        assert owner.messages == [b"one", long, b"two"]
        assert owner.problems == []


async def test_with_a_server_of_another_make() -> None:
    """The websockets package's own server understands us, and we it."""

    async def echo(peer: websockets.asyncio.server.ServerConnection) -> None:
        async for message in peer:
            await peer.send(message)

    async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        owner = Owner()
        connection = make(f"ws://127.0.0.1:{port}/v1", owner)
        await connection.open()
        connection.send("héllo")
        await until(lambda: owner.messages)
        connection.close()
    assert owner.messages == ["héllo".encode()]
    assert owner.problems == []


async def test_the_handshake() -> None:
    """It names the path, the host and us, and offers neither extensions nor subprotocols."""
    async with connected(hold) as (_, _, service):
        lines = service.peers[0].head.split(b"\r\n")
    names = {line.partition(b":")[0].lower() for line in lines[1:]}
    assert lines[0] == b"GET /v1 HTTP/1.1"
    assert b"User-Agent: wiro-async/test" in lines
    assert names.isdisjoint({b"sec-websocket-extensions", b"sec-websocket-protocol", b"origin", b"cookie"})


async def test_a_name_is_resolved() -> None:
    """The address may be a name."""
    async with connected(hold, host="localhost") as (_, owner, _):
        assert owner.is_open


async def test_messages_in_the_handshakes_packet_are_not_lost() -> None:
    """A peer that speaks at once is heard."""

    async def handler(peer: Peer) -> None:
        await peer.shake(after=frame(TEXT, b"early"))
        await peer.hold()

    async with serving(handler, shake=False) as service:
        owner = Owner()
        connection = make(service.url, owner)
        await connection.open()
        await until(lambda: owner.messages == [b"early"])
        connection.close()


async def test_an_answer_in_single_bytes() -> None:
    """Whatever the packets are, head and frames are put together."""

    async def handler(peer: Peer) -> None:
        head = await peer._reader.readuntil(b"\r\n\r\n")
        for byte in accepted(head) + frame(TEXT, b"drip"):
            peer.raw(bytes([byte]))
            await peer._writer.drain()
            await asyncio.sleep(0)
        await peer.hold()

    async with serving(handler, shake=False) as service:
        owner = Owner()
        connection = make(service.url, owner)
        await connection.open()
        await until(lambda: owner.messages == [b"drip"])
        connection.close()


async def test_fragments_and_what_is_left_out() -> None:
    """Fragments become one message; binary messages, whole or not, and empty fragments are nothing."""

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False))
        peer.raw(frame(PING, b"between") + frame(CONTINUATION, fin=False) + frame(CONTINUATION, b"c"))
        peer.raw(frame(BINARY, b"token|pcm") + frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"y"))
        peer.raw(frame(PONG, b"unasked") + frame(TEXT, b"last"))
        await peer.hold()

    async with connected(handler) as (_, owner, service):
        await until(lambda: len(owner.messages) == 2)
        assert owner.messages == [b"abc", b"last"]
        await until(lambda: (PONG, b"between") in service.peers[0].frames)


async def test_fragments_beyond_what_is_read_are_not_kept() -> None:
    """Of a message of 2 MiB in fragments only the first few hundred kilobytes are handed on."""

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"x" * 100_000, fin=False))
        for last in [False] * 20 + [True]:
            peer.raw(frame(CONTINUATION, b"y" * 100_000, fin=last))
        await peer.hold()

    async with connected(handler) as (_, owner, _):
        await until(lambda: owner.messages)
        assert 256 * 1024 < len(owner.messages[0]) < 400_000


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Frames hold tokens, so not even DEBUG shows them."""
    caplog.set_level(logging.DEBUG)

    async def handler(peer: Peer) -> None:
        await peer.next()
        peer.raw(frame(TEXT, b"canary-answer"))
        await peer.hold()

    async with connected(handler) as (connection, owner, _):
        connection.send("canary-token")
        await until(lambda: owner.messages)
    assert "canary" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("websockets")]


# -- ends ------------------------------------------------------------------------------------------------


async def test_our_own_close() -> None:
    """The peer gets a closing frame and the end of the stream; the owner hears nothing; twice is once."""
    async with connected(hold) as (connection, owner, service):
        connection.close()
        connection.close()
        await until(service.peers[0].gone.is_set)
        assert service.peers[0].frames == [(CLOSE, b"\x03\xe8")]
        assert owner.problems == []


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 1012, 3000, 4000, 4999])
async def test_the_peers_close(code: int) -> None:
    """What came before it is handed on, the frame is echoed, and the loss is told once."""

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"before"))
        peer.close(code)
        peer.raw(frame(TEXT, b"after"))
        await peer.hold()

    async with connected(handler) as (_, owner, service):
        await until(lambda: owner.problems)
        await until(service.peers[0].gone.is_set)
        assert owner.messages == [b"before"]
        assert len(owner.problems) == 1
        assert service.peers[0].frames == [(CLOSE, code.to_bytes(2, "big"))]


@pytest.mark.parametrize("way", ["reset", "end"])
async def test_the_connection_is_lost(way: str) -> None:
    """Without a closing frame the loss is told all the same, and before it what had come."""
    heard = asyncio.Event()

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"before") + frame(TEXT, b"cut")[:3])
        await heard.wait()
        if way == "reset":
            peer.drop()

    async with connected(handler) as (_, owner, _):
        await until(lambda: owner.messages)
        heard.set()
        await until(lambda: owner.problems)
        assert owner.messages == [b"before"]
        assert len(owner.problems) == 1


BROKEN = {
    "a compressed frame, which was not agreed on": frame(TEXT, b"\x00" * 50, rsv=4),
    "an unknown opcode": frame(3, b"x"),
    "an unknown control opcode": frame(11, b"x"),
    "a masked frame": b"\x81\x81\x00\x00\x00\x00x",
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a message within another": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a long ping": frame(PING, b"x" * 126),
    "a ping in fragments": frame(PING, b"x", fin=False),
    "a message of 20 MB": frame(TEXT, b"")[:1] + b"\x7f" + (20_000_000).to_bytes(8, "big"),
    "a message of 2**62 bytes": frame(TEXT, b"")[:1] + b"\x7f" + (2**62).to_bytes(8, "big"),
    "20 MB of fragments": b"".join(
        frame(TEXT if n == 0 else CONTINUATION, b"x" * 1_000_000, fin=False) for n in range(9)
    ),
    "a forbidden close code": frame(CLOSE, b"\x03\xed"),
    "a close code of one byte": frame(CLOSE, b"\x03"),
    "a close in the midst of fragments": frame(TEXT, b"x", fin=False) + frame(CLOSE, b"\x03\xe8"),
    "a close reason that is no UTF-8": frame(CLOSE, b"\x03\xe8\xff\xfe"),
    "HTTP": b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + b"x" * 100,
}


@pytest.mark.parametrize("garbage", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_protocol_ends_it(garbage: bytes) -> None:
    """What came before is handed on, the peer is told, and the loss is told once."""

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"before") + garbage + frame(TEXT, b"after"))
        await peer.hold()

    async with connected(handler) as (_, owner, service):
        await until(lambda: owner.problems)
        await until(service.peers[0].gone.is_set)
        assert owner.messages == [b"before"]
        assert len(owner.problems) == 1
        assert service.peers[0].frames[-1][0] == CLOSE


async def test_a_long_message_is_refused_by_its_head() -> None:
    """Of more than 8 MiB, the service's own clients' bound: the peer is told 1009 before a byte has come."""

    async def handler(peer: Peer) -> None:
        peer.raw(bytes([0x80 | TEXT, 127]) + (8 * 1024 * 1024 + 1).to_bytes(8, "big"))
        await peer.hold()

    async with connected(handler) as (_, owner, service):
        await until(lambda: owner.problems)
        await until(service.peers[0].gone.is_set)
        opcode, data = service.peers[0].frames[-1]
        assert (opcode, data[:2]) == (CLOSE, (1009).to_bytes(2, "big"))


async def test_what_came_before_the_end_is_parsed_first() -> None:
    """Although the peer has left long before its messages have had their turns."""
    count = 300

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"x" * 500) * count)

    async with connected(handler) as (_, owner, _):
        await until(lambda: owner.problems)
        assert len(owner.messages) == count


async def test_a_close_in_the_midst_of_what_came() -> None:
    """After it nothing is handed on, even of the same packet."""

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"one") + frame(TEXT, b"two"))
        await peer.hold()

    async with connected(handler) as (connection, owner, service):
        owner.then = lambda message: connection.close()
        await until(service.peers[0].gone.is_set)
        assert owner.messages == [b"one"]
        assert owner.problems == []


async def test_an_owner_that_fails() -> None:
    """Its connection ends and the error is reported; other connections go on."""
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    async def handler(peer: Peer) -> None:
        await peer.next()
        peer.raw(frame(TEXT, b"one") + frame(TEXT, b"two"))
        await peer.hold()

    def fail(message: bytes) -> None:
        raise ZeroDivisionError

    queue = ParseQueue()
    async with (
        connected(handler, queue=queue) as (first, bad, _),
        connected(handler, queue=queue) as (second, good, _),
    ):
        bad.then = fail
        first.send("go")
        second.send("go")
        await until(lambda: len(good.messages) == 2)
        assert bad.messages == [b"one"]
        assert bad.problems == ["a message could not be handed on"]
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


# -- handshakes that fail --------------------------------------------------------------------------------


def good(head: bytes) -> bytes:
    return accepted(head)


ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "401": lambda head: b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
    "403 without length": lambda head: b"HTTP/1.1 403 Forbidden\r\n\r\nno",
    "429": lambda head: b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\n\r\n",
    "a redirect": lambda head: b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n\r\n",
    "503": lambda head: b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "200": lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "another key": lambda head: accepted(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
    "no upgrade": lambda head: good(head).replace(b"Upgrade: websocket\r\n", b""),
    "no connection": lambda head: good(head).replace(b"Connection: Upgrade\r\n", b""),
    "a compression": lambda head: accepted(head, b"Sec-WebSocket-Extensions: permessage-deflate"),
    "a subprotocol": lambda head: accepted(head, b"Sec-WebSocket-Protocol: chat"),
    "another protocol": lambda head: b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "no end": lambda head: b"HTTP/1.1 101 Switching Protocols\r\n" + b"x: y\r\n" * 10_000,
    "a long line": lambda head: b"HTTP/1.1 101 " + b"x" * 10_000 + b"\r\n\r\n",
    "half an answer": lambda head: good(head)[:30],
    "nothing": lambda head: b"",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_failed_handshake(answer: Callable[[bytes], bytes]) -> None:
    """It is an OSError, the owner hears nothing, and nothing stays open."""

    async def handler(peer: Peer) -> None:
        peer.raw(answer(await peer._reader.readuntil(b"\r\n\r\n")))
        await peer._writer.drain()

    async with serving(handler, shake=False) as service:
        owner = Owner()
        with pytest.raises(ConnectionError):
            await make(service.url, owner).open()
    assert not owner.is_open
    assert owner.problems == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listens(host: str) -> None:
    """It is an OSError."""
    with pytest.raises(OSError):  # noqa: PT011  (the system's own words)
        await make(f"ws://{host}:{refused_port()}/v1", Owner()).open()


async def test_a_proxy_that_no_name_server_can_be_asked_for() -> None:
    """It is an OSError, too, and names the proxy."""
    url = f"http://{'a' * 64}.example:3128"
    setup = make_setup(
        "ws://127.0.0.1:9/v1", ssl.create_default_context, "x", Routes(parse_proxy(url, "proxy="))
    )
    with pytest.raises(ConnectionError, match=rf"the proxy {url} \(proxy=\): "):
        await Connection(setup, Owner(), ParseQueue()).open()


async def test_a_certificate_of_another_host() -> None:
    """Names are checked, and the peer is told."""
    server, _ = tls_settings()

    async with serving(hold, tls=server) as service:
        strangers = ssl.create_default_context()
        with pytest.raises(ConnectionError, match=r"(?i)certificate"):
            await make(service.url, Owner(), strangers).open()
        assert service.peers == []


async def test_a_peer_that_speaks_no_tls() -> None:
    """Plain bytes where TLS belongs end the attempt."""
    _, client = tls_settings()

    async def handler(peer: Peer) -> None:
        peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer._reader.read()

    async with serving(handler, shake=False) as service:
        with pytest.raises(ConnectionError):
            await make(service.url.replace("ws:", "wss:"), Owner(), client).open()


async def test_the_peers_goodbye_in_tls() -> None:
    """TLS's own end, in one packet with the last message, does not cost the message."""

    async def handler(peer: Peer) -> None:
        peer.raw(frame(TEXT, b"last"))

    async with connected(handler, tls=True) as (_, owner, _):
        await until(lambda: owner.problems)
        assert owner.messages == [b"last"]


# -- cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_cancellation_at_any_moment_leaves_nothing_open(host: str, tls: bool) -> None:
    """Natively cancelled after so many steps of the event loop; the server sees every connection end."""
    server, client = tls_settings() if tls else (None, None)
    chance = random.Random(7)
    outcomes = set()
    async with serving(hold, tls=server, host=host) as service:
        for _ in range(50):
            connection = make(service.url, Owner(), client)
            task = asyncio.ensure_future(connection.open())
            for _ in range(chance.randrange(25)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                await asyncio.sleep(0.003 * chance.random())
            task.cancel()
            outcomes.add(type((await asyncio.gather(task, return_exceptions=True))[0]))
            connection.close()
        await until(lambda: service.open == 0)
    assert asyncio.CancelledError in outcomes
    assert outcomes <= {asyncio.CancelledError, type(None)}


# -- silence ---------------------------------------------------------------------------------------------


@VIRTUAL
async def test_a_silent_peer_is_asked_and_then_left() -> None:
    """A ping after 45 s without a byte; an answer buys another 45 s, and 20 s without one end it."""
    answers = 2
    at: list[float] = []

    async def handler(peer: Peer) -> None:
        for number in range(answers + 1):
            opcode, data = await peer.next()
            at.append(anyio.current_time())
            assert opcode == PING
            if number < answers:
                peer.raw(frame(PONG, data))
        await peer.hold()

    async with connected(handler) as (_, owner, _):
        start = anyio.current_time()
        with anyio.fail_after(1000):
            while not owner.problems:  # noqa: ASYNC110
                await anyio.sleep(0.25)
        assert owner.problems == ["the peer has not answered a ping"]
        assert [each - start for each in at] == pytest.approx([45, 90, 135], abs=0.5)
        assert anyio.current_time() - start == pytest.approx(135 + 20, abs=0.5)


@VIRTUAL
async def test_a_peer_that_speaks_is_not_asked() -> None:
    """Whatever comes counts as a sign of life, a ping of its own first of all."""

    async def handler(peer: Peer) -> None:
        for _ in range(10):
            await asyncio.sleep(30)
            peer.raw(frame(PING))
        await peer.hold()

    async with connected(handler) as (_, owner, service):
        await anyio.sleep(310)
        assert owner.problems == []
        assert {opcode for opcode, _ in service.peers[0].frames} == {PONG}


# -- floods ----------------------------------------------------------------------------------------------


async def test_a_flood_leaves_the_event_loop_its_turns() -> None:
    """20 000 empty messages take many turns, in which others get theirs."""
    turns = 0

    async def handler(peer: Peer) -> None:
        await peer.next()
        peer.raw(frame(TEXT) * 20_000)
        await peer.hold()

    async with connected(handler) as (connection, owner, _):
        connection.send("go")
        with anyio.fail_after(20):
            while len(owner.messages) < 20_000:
                await asyncio.sleep(0)
                turns += bool(owner.messages)
    # One slice of the smallest frames is the most that one turn may take.
    assert turns > 20_000 / (1024 / 2 + 64)


async def test_long_messages_that_end_together_are_not_all_handed_on_in_one_turn() -> None:
    """Decoding them is what takes time: each counts by its length, not by its last slice."""
    most = now = 0
    queue = ParseQueue()

    async def handler(peer: Peer) -> None:
        await peer.next()
        peer.raw(frame(TEXT, b"x" * 100_000))
        await peer.hold()

    async with AsyncExitStack() as stack:
        open_now = [await stack.enter_async_context(connected(handler, queue=queue)) for _ in range(20)]
        for connection, _, _ in open_now:
            connection.send("go")
        with anyio.fail_after(20):
            while now < 20:
                await asyncio.sleep(0)
                before, now = now, sum(len(owner.messages) for _, owner, _ in open_now)
                most = max(most, now - before)
    # Of those that end in one turn, the first few use it up.
    assert most <= 1 + 64 * 4096 // 100_000


async def test_a_flood_on_one_connection_does_not_keep_others_waiting() -> None:
    """They stand in one line, and each gets a slice at a time."""
    queue = ParseQueue()
    order: list[str] = []

    async def flood(peer: Peer) -> None:
        await peer.next()
        peer.raw(frame(BINARY, b"x" * 500_000) + frame(TEXT, b"flooded"))
        await peer.hold()

    async def calm(peer: Peer) -> None:
        await peer.next()
        peer.raw(frame(TEXT, b"calm"))
        await peer.hold()

    async with (
        connected(flood, queue=queue) as (first, loud, _),
        connected(calm, queue=queue) as (second, quiet, _),
    ):
        loud.then = lambda message: order.append("loud")
        quiet.then = lambda message: order.append("quiet")
        first.send("go")
        second.send("go")
        await until(lambda: len(order) == 2)
    assert order == ["quiet", "loud"]


async def test_no_more_is_read_than_can_be_parsed() -> None:
    """A peer that is faster than we are is made to wait."""
    most = 0
    total = 4_000_000

    async def handler(peer: Peer) -> None:
        peer.raw(frame(BINARY, b"x" * 1000) * (total // 1000) + frame(TEXT, b"end"))
        await peer.hold()

    async with connected(handler) as (connection, owner, _):
        with anyio.fail_after(20):
            while not owner.messages:
                most = max(most, len(connection._unread))
                await asyncio.sleep(0)
    assert 64 * 1024 < most < 64 * 1024 + 300_000


# -- what no peer can be made to do at will --------------------------------------------------------------


class Transport:
    """A transport whose buffer does not drain."""

    def __init__(self, unsent: int = 0) -> None:
        self.unsent = unsent
        self.calls: list[str] = []
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def opened_on(transport: Transport) -> tuple[Connection, Owner]:
    owner = Owner()
    connection = make("ws://127.0.0.1:1/v1", owner)
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.data_received(accepted(transport.written))
    assert owner.is_open
    return connection, owner


@VIRTUAL
async def test_a_peer_that_does_not_read_is_left() -> None:
    """Its pings would fill our memory with pongs."""
    transport = Transport()
    connection, owner = opened_on(transport)
    transport.unsent = 70_000
    connection.data_received(frame(PING, b"x" * 100) + frame(TEXT, b"after"))
    await anyio.sleep(0.1)
    assert owner.problems == ["the peer does not read"]
    assert owner.messages == []
    assert transport.calls == ["abort"]


@VIRTUAL
async def test_a_closing_frame_has_a_second_to_leave() -> None:
    """After that the connection is aborted."""
    transport = Transport()
    connection, owner = opened_on(transport)
    transport.unsent = 10
    connection.close()
    await anyio.sleep(0.9)
    assert transport.calls == ["close"]
    await anyio.sleep(0.2)
    assert transport.calls == ["close", "abort"]
    assert owner.problems == []


@VIRTUAL
async def test_a_close_before_the_connection_is_there() -> None:
    """The connection is aborted as soon as it is made, and what it brings is nothing."""
    owner = Owner()
    connection = make("ws://127.0.0.1:1/v1", owner)
    connection.close()
    transport = Transport()
    connection.connection_made(cast("asyncio.Transport", transport))
    connection.data_received(accepted(b"Sec-WebSocket-Key: AAAA\r\n"))
    connection.connection_lost(None)
    await anyio.sleep(1)
    assert transport.calls == ["abort"]
    assert transport.written == b""
    assert not owner.is_open


@VIRTUAL
async def test_a_close_while_it_is_opened() -> None:
    """Who opens it is told, with an OSError."""

    async def ignore(peer: Peer) -> None:
        await peer._reader.read()

    async with serving(ignore, shake=False) as service:
        connection = make(service.url, Owner())
        asyncio.get_running_loop().call_later(1.0, connection.close)
        with pytest.raises(ConnectionError, match="closed"):
            await connection.open()


@VIRTUAL
async def test_what_waits_in_line_at_the_end_is_dropped() -> None:
    """A connection that was closed meanwhile costs its turn nothing."""
    transport = Transport()
    connection, owner = opened_on(transport)
    connection.data_received(frame(TEXT, b"one"))
    connection.close()
    await anyio.sleep(0.1)
    assert owner.messages == []
    assert connection.parse() == 0


@VIRTUAL
async def test_a_ping_that_cannot_leave_ends_it() -> None:
    """A peer that takes nothing is as good as gone."""
    transport = Transport()
    _, owner = opened_on(transport)
    transport.unsent = 70_000
    await anyio.sleep(200)
    assert owner.problems == ["the peer does not read"]
    assert transport.calls == ["abort"]


@VIRTUAL
async def test_a_close_after_the_peers() -> None:
    """While a message is handed on, the peer's closing frame may be parsed already: it gets one answer."""
    transport = Transport()
    connection, owner = opened_on(transport)
    owner.then = lambda message: connection.close()
    before = len(transport.written)
    connection.data_received(frame(TEXT, b"last") + frame(CLOSE, b"\x03\xe8"))
    await anyio.sleep(0.1)
    assert owner.messages == [b"last"]
    assert owner.problems == []
    assert len(transport.written) - before == 8


# -- odd answers to the handshake ------------------------------------------------------------------------


async def test_interim_answers_are_skipped() -> None:
    """In one packet with the answer."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

    async def handler(peer: Peer) -> None:
        peer.raw(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + hints)
        await peer.shake()
        await peer.hold()

    async with serving(handler, shake=False) as service:
        owner = Owner()
        connection = make(service.url, owner)
        await connection.open()
        assert owner.is_open
        connection.close()


async def test_a_refused_101_says_why() -> None:
    """The line alone looks like a success."""

    async def handler(peer: Peer) -> None:
        await peer._reader.readuntil(b"\r\n\r\n")
        peer.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await peer.hold()

    async with serving(handler, shake=False) as service:
        with pytest.raises(ConnectionError, match=r"101 Switching Protocols' \(.*Accept"):
            await make(service.url, Owner()).open()
