"""Connections of our own: which one a request gets, when one is given up, and what a failure tells."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.depth import plays
from tests.servers import (
    Handler,
    Peer,
    Server,
    answer,
    chunked,
    echo,
    refused_port,
    replies,
    tls_settings,
    trusted_file,
    until,
)
from tests.servers import anyio_backend as anyio_backend
from wiro_async._aio import SendWindow
from wiro_async._http.connections import ConnectionStack, address_of
from wiro_async._http.http11 import LocalProtocolError, RemoteProtocolError
from wiro_async._http.messages import Content, Request, SendProgress
from wiro_async._http.network import ReadError, Stream, WriteError, connect
from wiro_async._http.tls import Tls


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now: float = 100.0

    def __call__(self) -> float:
        return self.now


def request(
    url: str, body: bytes | httpx.AsyncByteStream = b"", extensions: dict[str, Any] | None = None
) -> httpx.Request:
    """Return a POST as the transport makes them."""
    length = len(body) if isinstance(body, bytes) else 0
    stream = Content(body) if isinstance(body, bytes) else body
    headers = {"Host": httpx.URL(url).netloc.decode(), "Content-Length": str(length)}
    return httpx.Request("POST", url, headers=headers, stream=stream, extensions=extensions)


async def read(response: httpx.Response) -> bytes:
    """Read a response's body and close it."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        return b"".join([chunk async for chunk in response.stream])
    finally:
        with anyio.CancelScope(shield=True):
            await response.stream.aclose()


async def exchange(
    stack: ConnectionStack, url: str, body: bytes = b"", extensions: dict[str, Any] | None = None
) -> bytes:
    """Make one request, and return the body of the answer."""
    return await read(await stack.handle_async_request(request(url, body, extensions)))


@asynccontextmanager
async def serving(
    handler: Handler, server_tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[ConnectionStack, Server]]:
    """Run a server and a stack; at the end every connection must be closed."""
    with Server(handler, server_tls) as server:
        stack = ConnectionStack(**options)
        try:
            yield stack, server
        finally:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
                await until(lambda: all(peer.gone.is_set() for peer in server.peers))
            assert stack.connections == 0


def numbered(peer: Peer) -> None:
    """Answer each request with the number of the connection."""
    while peer.request() is not None:
        peer.send(answer(b"%d" % peer.number))


# -- which connection a request gets ---------------------------------------------------------------------


async def test_a_connection_is_used_again() -> None:
    """Requests one after the other share one connection, and each gets its own answer."""
    async with serving(echo) as (stack, server):
        for number in range(5):
            assert await exchange(stack, f"{server.url}/{number}", b"body") == b"/%d" % number
        assert len(server.peers) == stack.connections == 1


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_a_reply_that_was_read_takes_nothing_of_the_next_one(in_chunks: bool) -> None:
    """Whoever reads to its end asks once more: by then the connection may be another request's."""
    asked, goes_on = threading.Event(), threading.Event()

    def framed(body: bytes) -> bytes:
        if in_chunks:
            return answer(chunked(body), headers=["Transfer-Encoding: chunked"], length=False)
        return answer(body)

    def handler(peer: Peer) -> None:
        peer.request()
        peer.send(framed(b"first"))
        peer.request()
        reply = framed(b"second")
        peer.send(reply[:-3])
        asked.set()
        goes_on.wait(5)
        peer.send(reply[-3:])

    async with serving(handler) as (stack, server):
        one = await stack.handle_async_request(request(server.url))
        pieces = aiter(one.stream)  # type: ignore[arg-type]
        assert await anext(pieces) == b"first"
        other = await stack.handle_async_request(request(server.url))
        await until(asked.is_set)
        assert len(server.peers) == 1, "the connection was free again"
        with anyio.fail_after(60):
            assert [piece async for piece in pieces] == []
        goes_on.set()
        assert await read(other) == b"second"


async def test_the_connection_that_was_used_last_is_taken_first() -> None:
    """Of several idle connections the freshest is taken."""
    async with serving(numbered) as (stack, server):
        open_ones = [await stack.handle_async_request(request(server.url)) for _ in range(3)]
        assert stack.connections == 3
        for response in (open_ones[2], open_ones[0], open_ones[1]):
            await read(response)
        assert await exchange(stack, server.url) == b"1"
        taken = [await stack.handle_async_request(request(server.url)) for _ in range(3)]
        assert [await read(response) for response in taken] == [b"1", b"0", b"2"]
        assert stack.connections == 3


async def test_connections_of_other_origins_are_not_taken() -> None:
    """A connection belongs to one scheme, host and port."""
    async with serving(numbered) as (stack, server):
        with Server(numbered) as other:
            assert await exchange(stack, server.url) == await exchange(stack, other.url) == b"0"
            assert await exchange(stack, f"http://localhost:{server.port}/") == b"1"
            assert stack.connections == 3
            await stack.aclose()


@pytest.mark.parametrize(
    ("idle", "max_idle", "reused"), [(2.0, 2.0, True), (2.1, 2.0, False), (4.9, None, True)]
)
async def test_no_connection_is_taken_that_idled_too_long(
    idle: float, max_idle: float | None, reused: bool
) -> None:
    """A request says how long a connection may have been idle for it; 5 s if it does not say."""
    clock = Clock()
    async with serving(numbered, clock=clock) as (stack, server):
        await exchange(stack, server.url)
        clock.now += idle
        extensions = {} if max_idle is None else {"wiro_async.max_idle": max_idle}
        assert await exchange(stack, server.url, extensions=extensions) == (b"0" if reused else b"1")
        assert stack.connections == 1


async def test_old_connections_at_the_bottom_are_pruned() -> None:
    """What nobody has needed for 5 s is closed when a connection comes back."""
    clock = Clock()
    async with serving(numbered, clock=clock) as (stack, server):
        responses = [await stack.handle_async_request(request(server.url)) for _ in range(4)]
        for response in responses[:3]:
            await read(response)
        clock.now += 5.1
        await read(responses[3])
        assert stack.connections == 1
        await until(lambda: sum(peer.gone.is_set() for peer in server.peers) == 3)
        assert await exchange(stack, server.url) == b"3"


class Hooked(Stream):
    """A stream of a real connection, with something to do when it is closed."""

    def __init__(self, inner: Stream, on_close: Callable[[], Any]) -> None:
        self.inner = inner
        self.on_close = on_close
        self.broken: bool = False

    @property
    def is_readable(self) -> bool:
        return self.inner.is_readable

    def give_up_after(self, seconds: float) -> None:
        self.inner.give_up_after(seconds)

    async def read(self) -> bytes:
        return await self.inner.read()

    async def write(self, data: bytes) -> None:
        if self.broken:
            raise WriteError("it was closed before")
        self.sent = True
        await self.inner.write(data)

    async def aclose(self) -> None:
        await self.inner.aclose()
        await self.on_close()


async def test_a_connection_taken_while_the_bottom_is_pruned() -> None:
    """Closing an old connection may take a moment, in which the idle ones are taken by others."""
    clock = Clock()
    taken: list[httpx.Response] = []

    async def take_the_last() -> None:
        if clock.now > 105 and not taken:
            taken.append(await stack.handle_async_request(request(server.url)))

    async def open_hooked(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        return Hooked(await connect(host, port, tls), take_the_last)

    async with serving(numbered, clock=clock, connect=open_hooked) as (stack, server):
        responses = [await stack.handle_async_request(request(server.url)) for _ in range(2)]
        await read(responses[0])
        clock.now += 5.1
        await read(responses[1])
        assert [await read(response) for response in taken] == [b"1"]
        assert stack.connections == 1


# -- when a connection is given up -----------------------------------------------------------------------

EVIL = answer(b'{"evil":true}')


@pytest.mark.parametrize("extra", [EVIL, b"\r\n", b"x"], ids=["answer", "newline", "byte"])
async def test_bytes_left_over_answer_nobody(extra: bytes) -> None:
    """What comes behind an answer, in the same packet, is never taken for the next one's."""

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send(answer(b"%d" % peer.number) + extra)
        peer.hold()

    async with serving(handler) as (stack, server):
        for number in range(3):
            assert await exchange(stack, server.url) == b"%d" % number
            assert stack.connections == 0


async def test_bytes_left_over_in_tls_answer_nobody() -> None:
    """The same where the extra answer is a TLS record of its own."""
    server_tls, client_tls = tls_settings()

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send_corked(answer(b"%d" % peer.number), EVIL)
        peer.hold()

    async with serving(handler, server_tls, tls=Tls(client_tls)) as (stack, server):
        for number in range(3):
            assert await exchange(stack, server.url) == b"%d" % number
            assert stack.connections == 0


async def test_bytes_that_come_while_idle_answer_nobody() -> None:
    """An answer that nobody asked for makes the idle connection unfit, not the next request wrong."""
    may_send = threading.Event()

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send(answer(b"%d" % peer.number))
        may_send.wait(10)
        peer.send(EVIL)
        peer.hold()

    async with serving(handler) as (stack, server):
        assert await exchange(stack, server.url) == b"0"
        assert stack.connections == 1
        may_send.set()
        (idle,) = stack._idle.values()
        await until(lambda: idle[0].stream.is_readable)
        assert await exchange(stack, server.url) == b"1"


async def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    """The next request opens a new connection instead of failing on the old one."""

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send(answer(b"%d" % peer.number))

    async with serving(handler) as (stack, server):
        for number in range(3):
            assert await exchange(stack, server.url) == b"%d" % number
            await until(server.peers[number].gone.is_set)
            if idle := stack._idle.get(("http", "127.0.0.1", server.port)):
                await until(lambda: idle[0].stream.is_readable)


@pytest.mark.parametrize(
    "script",
    [
        answer(b"ok", headers=["Connection: close"]),
        answer(b"ok", headers=["Connection: close"], length=False),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
    ],
    ids=["close", "close-delimited", "old", "old-close-delimited"],
)
async def test_a_server_that_closes_after_its_answer(script: bytes) -> None:
    """`Connection: close` and HTTP/1.0 answers are read whole, and their connections not kept."""

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send(script)

    async with serving(handler) as (stack, server):
        for _ in range(2):
            assert await exchange(stack, server.url) == b"ok"
            assert stack.connections == 0
        assert len(server.peers) == 2


CHUNKED = answer(headers=["Transfer-Encoding: chunked"], length=False)


@pytest.mark.parametrize(
    "script",
    [
        CHUNKED + chunked(b"hello", b" ", b"world"),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer(b"hello world"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(b"hello world"),
    ],
    ids=["chunked", "continue", "hints"],
)
@pytest.mark.parametrize("drip", [False, True])
async def test_whole_answers_leave_the_connection_usable(script: bytes, drip: bool) -> None:
    """Chunks, interim answers, and bytes that come one by one: read whole, and the connection stays."""

    def handler(peer: Peer) -> None:
        while peer.request() is not None:
            if drip:
                peer.drip(script)
            else:
                peer.send(script)

    async with serving(handler) as (stack, server):
        for _ in range(2):
            assert await exchange(stack, server.url) == b"hello world"
        assert len(server.peers) == stack.connections == 1


BROKEN = {
    "nothing": b"",
    "cut status line": b"HTTP/1.1 20",
    "cut head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "unasked upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
    "cut chunk": CHUNKED + b"a\r\nok",
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "bad chunk": CHUNKED + b"zz\r\nok\r\n",
    "chunk too long": CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
    "huge head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


async def test_a_cancellation_between_pieces_leaves_nothing_to_the_garbage_collector() -> None:
    """The pause that others get is a place to be cancelled at, as any."""
    async with serving(replies(CHUNKED + chunked(*[b"x" * 100_000] * 10))) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        await anyio.sleep(0.05)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await read(response)
        assert scope.cancelled_caught
        assert stack.connections == 0
        del response
        gc.collect()


@pytest.mark.parametrize("leave", [False, True])
async def test_a_body_in_tiny_pieces_leaves_others_their_turn(leave: bool) -> None:
    """It is read, or dropped, whole; between its pieces other tasks run."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    script = CHUNKED + chunked(*[b"x"] * 300_000)
    async with serving(replies(script, answer(b"next"))) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        await anyio.sleep(0.05)  # so that all of it has arrived
        async with anyio.create_task_group() as group:
            group.start_soon(count)
            if leave:
                assert isinstance(response.stream, httpx.AsyncByteStream)
                assert await anext(aiter(response.stream))
                await response.stream.aclose()
            else:
                assert await read(response) == b"x" * 300_000
            group.cancel_scope.cancel()
        assert turns > (0 if leave else 20)
        assert stack.connections == (0 if leave else 1)


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_answers_are_errors_after_the_request_was_sent(name: str) -> None:
    """What is no whole HTTP answer raises an httpx error; the connection is closed, `sent` is true."""
    progress = SendProgress()

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send(BROKEN[name])

    async with serving(handler) as (stack, server):
        with pytest.raises(httpx.TransportError) as caught:
            await exchange(stack, server.url, extensions={"wiro_async.progress": progress})
        assert not isinstance(caught.value, httpx.ConnectError)
        assert stack.connections == 0
        assert progress.sent is True
        await until(server.peers[0].gone.is_set)


async def test_a_reset_at_any_byte_is_an_error() -> None:
    """Wherever in the answer the connection is reset: an error, nothing kept, and the next request works."""
    whole = answer(b"hello world", headers=["X-Name: value"])
    cuts = list(range(0, len(whole), 5))

    def handler(peer: Peer) -> None:
        assert peer.request()
        if peer.number < len(cuts):
            peer.send(whole[: cuts[peer.number]])
            peer.reset()
        else:
            peer.send(whole)
            peer.hold()

    async with serving(handler) as (stack, server):
        for _ in cuts:
            progress = SendProgress()
            with pytest.raises(httpx.TransportError):
                await exchange(stack, server.url, extensions={"wiro_async.progress": progress})
            assert stack.connections == 0
            assert progress.sent is True
        assert await exchange(stack, server.url) == b"hello world"


@pytest.mark.parametrize("chunks", [0, 1])
async def test_a_body_that_is_not_read_to_its_end(chunks: int) -> None:
    """Closing an answer early closes its connection; the server sees it."""

    def handler(peer: Peer) -> None:
        assert peer.request()
        peer.send(answer(b"x" * 10_000_000))

    async with serving(handler) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = response.stream.__aiter__()
        for _ in range(chunks):
            assert await anext(body)
        await response.stream.aclose()
        assert stack.connections == 0
        await until(server.peers[0].gone.is_set)
        await response.stream.aclose()


async def test_closing_the_stack_closes_connections_in_use() -> None:
    """`aclose()` takes idle and busy connections; a body under way fails, and closes to no effect."""
    async with serving(replies(CHUNKED + b"2\r\nok\r\n")) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        assert stack.connections == 1
        await stack.aclose()
        assert stack.connections == 0
        with pytest.raises(httpx.TransportError):
            await read(response)


async def test_a_whole_answer_after_the_stack_was_closed() -> None:
    """A response that is closed only after its stack does not bring its connection back."""
    async with serving(replies(answer(b"ok"))) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        await stack.aclose()
        await response.stream.aclose()  # type: ignore[union-attr]
        assert stack.connections == 0


async def test_an_answer_that_had_come_whole_before_the_stack_was_closed() -> None:
    """It can be read, and its connection does not come back."""
    async with serving(replies(answer(b"ok"))) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        await stack.aclose()
        assert await read(response) == b"ok"
        assert stack.connections == 0


async def test_a_closed_stack_keeps_nothing() -> None:
    """A connection that was opened after the close is used once, and closed."""
    async with serving(echo) as (stack, server):
        await stack.aclose()
        assert await exchange(stack, f"{server.url}/x") == b"/x"
        assert stack.connections == 0


async def test_an_answer_read_whole_before_the_stack_was_closed() -> None:
    """The same for one whose body was read to its end."""
    async with serving(replies(answer(b"ok"))) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert [chunk async for chunk in response.stream] == [b"ok"]
        await stack.aclose()
        await response.stream.aclose()
        assert stack.connections == 0


async def test_a_cancellation_while_a_connection_is_given_back() -> None:
    """A cancelled close of a body that was read whole does nothing: the connection went back before."""
    async with serving(replies(answer(b"ok"))) as (stack, server):
        response = await stack.handle_async_request(request(server.url))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert [chunk async for chunk in response.stream] == [b"ok"]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await response.stream.aclose()
        assert not stack._busy
        assert stack.connections == 1


# -- what a failure tells --------------------------------------------------------------------------------


async def test_a_refused_connection_was_not_sent() -> None:
    """Nobody listens: ConnectError, and `sent` is false."""
    progress = SendProgress()
    stack = ConnectionStack()
    with pytest.raises(httpx.ConnectError):
        await exchange(
            stack, f"http://127.0.0.1:{refused_port()}/", extensions={"wiro_async.progress": progress}
        )
    assert progress.sent is False
    assert stack.connections == 0


async def test_a_connection_that_takes_too_long_was_not_sent() -> None:
    """The connect timeout raises ConnectTimeout, and `sent` is false."""
    progress = SendProgress()

    async def never(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        await anyio.sleep_forever()
        raise AssertionError

    stack = ConnectionStack(connect_timeout=0.01, connect=never)
    with pytest.raises(httpx.ConnectTimeout, match=r"0\.01 s"):
        await exchange(stack, "http://127.0.0.1:9/", extensions={"wiro_async.progress": progress})
    assert progress.sent is False


async def test_an_error_without_words_has_a_name() -> None:
    """An OSError that says nothing is shown by its class."""

    async def fail(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        raise ConnectionAbortedError

    with pytest.raises(httpx.ConnectError, match="ConnectionAbortedError"):
        await exchange(ConnectionStack(connect=fail), "http://127.0.0.1:9/")


async def test_only_http_is_spoken() -> None:
    """Another scheme is refused before anything is opened."""
    with pytest.raises(httpx.UnsupportedProtocol, match="ftp"):
        await exchange(ConnectionStack(), "ftp://127.0.0.1/")


class Failing(Stream):
    """A stream that fails in a given way, before or after a byte was sent."""

    is_readable = False

    def __init__(self, error: Exception, *, sent: bool) -> None:
        self.error = error
        self.will_send = sent
        self.closed: bool = False

    def give_up_after(self, seconds: float) -> None:
        raise AssertionError(f"nobody asked for {seconds} s")

    async def write(self, data: bytes) -> None:
        self.sent = self.will_send

    async def read(self) -> bytes:
        raise self.error

    async def aclose(self) -> None:
        self.closed = True


ERRORS: dict[type[Exception], type[Exception]] = {
    LocalProtocolError: httpx.LocalProtocolError,
    ReadError: httpx.ReadError,
    RemoteProtocolError: httpx.RemoteProtocolError,
    WriteError: httpx.WriteError,
    # Nobody below a stack raises this on purpose; it passes as it is.
    LookupError: LookupError,
}


def test_every_exception_from_below_is_accounted_for() -> None:
    """The table above names each exception of the modules that a connection is made of."""
    defined = {
        kind
        for kind in Exception.__subclasses__()
        if kind.__module__ in ("wiro_async._http.http11", "wiro_async._http.network")
    }
    assert defined == set(ERRORS) - {LookupError}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
async def test_errors_become_httpxs(kind: type[Exception], sent: bool) -> None:
    """Each error is mapped by the table, and before the first byte every break is a ConnectError."""
    expected = ERRORS[kind]
    if not sent and kind in (ReadError, WriteError, RemoteProtocolError):
        expected = httpx.ConnectError
    stream = Failing(kind("what happened"), sent=sent)

    async def open_failing(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        return stream

    stack = ConnectionStack(connect=open_failing)
    progress = SendProgress()
    with pytest.raises(expected, match="what happened") as caught:
        await exchange(stack, "http://127.0.0.1:9/", extensions={"wiro_async.progress": progress})
    assert type(caught.value) is expected
    assert progress.sent is sent
    assert stream.closed
    assert stack.connections == 0


async def test_a_used_connection_that_breaks_before_the_next_request_was_not_sent() -> None:
    """What an earlier request sent does not count: the next one's failure before its first byte is known."""
    streams: list[Hooked] = []

    async def open_hooked(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        streams.append(Hooked(await connect(host, port, tls), anyio.lowlevel.checkpoint))
        return streams[-1]

    async with serving(numbered, connect=open_hooked) as (stack, server):
        assert await exchange(stack, server.url) == b"0"
        streams[0].broken = True
        progress = SendProgress()
        with pytest.raises(httpx.ConnectError, match="closed before"):
            await exchange(stack, server.url, extensions={"wiro_async.progress": progress})
        assert progress.sent is False
        assert stack.connections == 0
        assert await exchange(stack, server.url) == b"1"


async def test_an_illegal_request_is_not_sent() -> None:
    """A header that HTTP cannot carry is a LocalProtocolError, and nothing was sent."""
    async with serving(echo) as (stack, server):
        bad = request(server.url, extensions={"wiro_async.progress": (progress := SendProgress())})
        bad.headers["X-Bad"] = "one\r\ntwo"
        with pytest.raises(httpx.LocalProtocolError):
            await stack.handle_async_request(bad)
        assert progress.sent is False
        assert stack.connections == 0


def test_before_a_request_nothing_is_known() -> None:
    """The progress of a request that no transport has touched tells nothing."""
    assert lean("http://127.0.0.1:9/").progress.sent is None


def lean(url: str, body: httpx.AsyncByteStream | None = None, *headers: tuple[bytes, bytes]) -> Request:
    """Return a request as our own transport makes them."""
    address = address_of(httpx.URL(url), [(b"Host", httpx.URL(url).netloc)])
    return Request(address, list(headers), body or Content())


async def test_our_own_requests_need_nothing_of_httpxs() -> None:
    """Status, headers and body of a reply, and the same connection for the next request."""
    script = answer(b"hello", "404 Not Found", ["X-One:  a ", "x-one: b", "X-Other: \xff"])
    async with serving(replies(script, script)) as (stack, server):
        for _ in range(2):
            sent = lean(f"{server.url}/path?q", Content(b"body"), (b"Content-Length", b"4"), (b"A", b"b"))
            response = await stack.send(sent)
            assert sent.progress.sent is True
            assert response.status == 404
            assert [response.header(name) for name in ("x-one", "x-none")] == ["a, b", ""]
            assert await response.read(5) == b"hello"
            await response.aclose()
        assert stack.connections == 1
        host = httpx.URL(server.url).netloc
        whole = b"POST /path?q HTTP/1.1\r\nHost: %b\r\nContent-Length: 4\r\nA: b\r\n\r\nbody" % host
        assert bytes(server.peers[0].received) == 2 * whole
        assert b"body" not in repr(sent.body).encode()


@pytest.mark.parametrize("limit", [4, 200_000])
async def test_a_body_beyond_its_limit_is_not_read_on(limit: int) -> None:
    """More than the limit comes back, so that it can be told from less, and the connection is closed."""
    async with serving(replies(answer(b"x" * 10_000_000))) as (stack, server):
        response = await stack.send(lean(server.url))
        assert limit < len(await response.read(limit)) <= limit + 100_000
        assert stack.connections == 1
        await response.aclose()
        assert stack.connections == 0


class InPieces(httpx.AsyncByteStream):
    """A body in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.left: list[bytes] = []

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.left = list(self.pieces)
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


@pytest.mark.parametrize("pieces", [(b"",), (b"hel", b"", b"lo"), ()])
async def test_a_body_in_pieces_is_sent_whole(pieces: tuple[bytes, ...]) -> None:
    """As many bytes as its header tells, none included; then the connection is used again."""
    length = b"%d" % sum(map(len, pieces))
    async with serving(echo) as (stack, server):
        for _ in range(2):
            response = await stack.send(
                lean(f"{server.url}/x", InPieces(*pieces), (b"content-length", length))
            )
            assert await response.read(100) == b"/x"
        assert stack.connections == 1
        assert bytes(server.peers[0].received).endswith(b"\r\n\r\n" + b"".join(pieces))


@pytest.mark.parametrize(
    ("pieces", "headers", "sent"),
    [
        ((b"four",), [(b"Content-Length", b"5")], True),
        ((b"four", b"more"), [(b"Content-Length", b"5")], True),
        ((b"four",), [(b"Content-Length", b"3")], False),
        ((b"four",), [], False),
        ((), [(b"Content-Length", b"3")], False),
    ],
)
async def test_a_body_of_another_length_is_an_error(
    pieces: tuple[bytes, ...], headers: list[tuple[bytes, bytes]], sent: bool
) -> None:
    """What is too much is not sent; what is too little leaves no connection that waits for the rest."""
    async with serving(lambda peer: peer.hold()) as (stack, server):
        wrong = lean(server.url, InPieces(*pieces), *headers)
        with pytest.raises(httpx.LocalProtocolError, match="bytes that its header tells"):
            await stack.send(wrong)
        assert wrong.progress.sent is sent
        assert stack.connections == 0
        if sent:
            await until(lambda: server.peers and server.peers[0].gone.is_set())
            assert len(bytes(server.peers[0].received).partition(b"\r\n\r\n")[2]) <= 5


async def test_a_refusal_in_the_middle_of_a_request_is_heard() -> None:
    """A server that answers and leaves before it has all of a large body: its answer counts."""

    def handler(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(answer(b"too large", "413 Content Too Large"))
        peer.half_close()
        peer.hold()

    class Large(InPieces):
        async def __anext__(self) -> bytes:
            await anyio.sleep(0.002)
            return await super().__anext__()

    large = Large(*[b"x" * 100_000] * 100)
    async with serving(handler) as (stack, server):
        response = await stack.send(lean(server.url, large, (b"Content-Length", b"10000000")))
        assert response.status == 413
        assert await response.read(100) == b"too large"
        assert stack.connections == 0


async def test_a_connection_that_asked_by_halves_is_not_used_again() -> None:
    """The answer came whole; the server still waits for the rest of the question."""
    stream = Failing(WriteError("closed"), sent=True)

    async def open_failing(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        return stream

    async def write(data: bytes) -> None:
        stream.sent = True
        raise WriteError("closed")

    async def read_answer() -> bytes:
        return answer(b"ok")

    stack = ConnectionStack(connect=open_failing)
    stream.write, stream.read = write, read_answer  # type: ignore[method-assign]
    response = await stack.send(lean("http://127.0.0.1:9/"))
    assert await response.read(100) == b"ok"
    assert stream.closed
    assert stack.connections == 0


async def test_an_illegal_header_of_ours_is_not_sent() -> None:
    """The same check for our own requests, before anything is written, also on a connection that was used."""
    async with serving(echo) as (stack, server):
        assert await (await stack.send(lean(f"{server.url}/x"))).read(10) == b"/x"
        bad = lean(server.url, None, (b"x-api-key", b"canary\r\n"))
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await stack.send(bad)
        assert "canary" not in str(caught.value)
        assert bad.progress.sent is False
        assert stack.connections == 0


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("ends", ["broken", "cancelled"])
async def test_a_write_that_does_not_end_well_may_be_late(ends: str, sent: bool) -> None:
    """The machine stood still before the first byte: whoever looks for the Run must know of it."""
    stream = Failing(ReadError("gone"), sent=sent)
    asked = lean("http://127.0.0.1:9/", Content(b"{}"), (b"Content-Length", b"2"))
    window = asked.window = SendWindow(60.0)

    async def open_failing(host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        return stream

    async def write(data: bytes) -> None:
        window.seconds = -1.0  # it is over
        stream.sent = sent
        if ends == "broken":
            raise WriteError("gone")
        scope.cancel()
        await anyio.sleep_forever()

    stream.write = write  # type: ignore[method-assign]
    stack = ConnectionStack(connect=open_failing)
    with anyio.CancelScope() as scope, suppress(httpx.TransportError):
        await stack.send(asked)
    assert scope.cancelled_caught == (ends == "cancelled")
    assert window.late is sent


class Body(httpx.AsyncByteStream):
    """A body that fails in its middle."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("no more")


async def test_an_error_of_the_body_passes_as_it_is() -> None:
    """What a request's own body raises is not dressed up as a failure of the network."""
    async with serving(lambda peer: peer.hold()) as (stack, server):
        failing = request(server.url, Body())
        failing.headers["Content-Length"] = "10"
        with pytest.raises(LookupError, match="no more"):
            await stack.handle_async_request(failing)
        assert stack.connections == 0


async def test_a_body_in_memory_is_sent_each_time() -> None:
    """`Content` can be iterated again and again."""
    content = Content(b"body")
    for _ in range(2):
        assert [piece async for piece in content] == [b"body"]
    pieces = content.__aiter__()
    assert pieces.__aiter__() is pieces


async def test_tls_settings_are_made_when_first_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without settings of its own a stack uses the environment's, asks for HTTP/1.1, and shares them."""
    server_tls, _ = tls_settings()
    server_tls.set_alpn_protocols(["h2", "http/1.1"])
    made: list[ssl.SSLContext] = []
    create = ssl.create_default_context

    def created(**options: Any) -> ssl.SSLContext:
        made.append(create(**options))
        return made[-1]

    # They are kept for the files that they were read from.
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted_file(tmp_path)))
    monkeypatch.setattr(ssl, "create_default_context", created)
    async with serving(numbered, server_tls) as (stack, server):
        responses = [await stack.handle_async_request(request(server.url)) for _ in range(2)]
        assert [await read(response) for response in responses] == [b"0", b"1"]
        other = ConnectionStack()
        assert await exchange(other, server.url) == b"2"
        await other.aclose()
        assert len(made) == 1
        sock = server.peers[0].sock
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.selected_alpn_protocol() == "http/1.1"


async def test_by_default_certificates_are_checked() -> None:
    """A certificate that nobody vouches for is a ConnectError: nothing was sent."""
    server_tls, _ = tls_settings()
    progress = SendProgress()
    async with serving(numbered, server_tls) as (stack, server):
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await exchange(stack, server.url, extensions={"wiro_async.progress": progress})
        assert progress.sent is False


# -- cancellation ----------------------------------------------------------------------------------------


def slow(peer: Peer) -> None:
    """Answer each request in three pieces, with pauses in which it may be cancelled."""
    pauses = random.Random(peer.number)
    while (request := peer.request()) is not None:
        path = request.split(b" ", 2)[1]
        whole = answer(path)
        for piece in (whole[:20], whole[20:-2], whole[-2:]):
            if pauses.random() < 0.4:
                peer.gone.wait(0.0005)
            peer.send(piece)


async def check_health(stack: ConnectionStack, server: Server, workers: int) -> None:
    """Nothing may be busy, few connections open, and requests answered by their own answers."""
    assert not stack._busy
    assert stack.connections <= workers
    for number in range(10):
        assert await exchange(stack, f"{server.url}/after/{number}") == b"/after/%d" % number
    gc.collect()


WORKERS = 40


def moment(chance: random.Random) -> float:
    """Return after how many seconds to cancel: at once, while it connects, or while it is answered."""
    return chance.choice([0.0, chance.uniform(0, 0.01), chance.uniform(0, 0.1)])


@pytest.mark.deep
@pytest.mark.parametrize(
    ("anyio_backend", "cancels"),
    [("asyncio", plays(400, 2000)), (("asyncio", {"use_uvloop": True}), plays(200, 400))],
)
async def test_random_native_cancels_cost_no_connection(cancels: int) -> None:
    """After up to 2 000 native cancels at random moments nothing is stuck, and no answer was mixed up."""
    chance = random.Random(1)
    finished: list[int] = []

    async def one(number: int) -> None:
        assert await exchange(stack, f"{server.url}/{number}", b"x" * 100) == b"/%d" % number
        finished.append(number)

    async def worker(numbers: list[int]) -> None:
        for number in numbers:
            task = asyncio.get_running_loop().create_task(one(number))
            if number % 20:
                await asyncio.sleep(moment(chance))
                task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() or task.exception() is None

    async with serving(slow) as (stack, server):
        async with asyncio.TaskGroup() as group:
            for start in range(WORKERS):
                group.create_task(worker(list(range(start, cancels, WORKERS))))
        assert 0 < len(finished) < cancels
        await check_health(stack, server, WORKERS)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("anyio_backend", "cancels"),
    [
        ("asyncio", plays(400, 1000)),
        (("asyncio", {"use_uvloop": True}), 200),
        ("trio", plays(400, 1000)),
    ],
)
async def test_random_scope_cancels_cost_no_connection(cancels: int) -> None:
    """The same with up to 1 000 of anyio's cancellations, on every loop."""
    chance = random.Random(2)
    finished: list[int] = []

    async def worker(numbers: list[int]) -> None:
        for number in numbers:
            with anyio.move_on_after(moment(chance) if number % 20 else None):
                assert await exchange(stack, f"{server.url}/{number}", b"x" * 100) == b"/%d" % number
                finished.append(number)

    async with serving(slow) as (stack, server):
        async with anyio.create_task_group() as group:
            for start in range(WORKERS):
                group.start_soon(worker, list(range(start, cancels, WORKERS)))
        assert 0 < len(finished) < cancels
        await check_health(stack, server, WORKERS)


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_after_any_number_of_steps(steps: int) -> None:
    """A request that is cancelled after its n-th step leaves no connection, busy or half-read."""
    async with serving(slow) as (stack, server):
        await exchange(stack, f"{server.url}/warm")
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await exchange(stack, f"{server.url}/cut")

        async with anyio.create_task_group() as group:
            group.start_soon(cancelled)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
        assert not stack._busy
        assert await exchange(stack, f"{server.url}/next") == b"/next"
