"""Any httpx transport serves our requests, and replaces our own connections."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import KEY
from tests.fakes import BASE, client, ok
from tests.fakes import task as wire
from tests.servers import Peer, Server, answer
from wiro_async import Client, InvalidResponse
from wiro_async._http.connections import ConnectionStack
from wiro_async._http.foreign import adapted


class Endless(httpx.AsyncByteStream):
    """A body without end."""

    def __init__(self) -> None:
        self.pieces = 0
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.pieces += 1
        return b"x" * (1 << 20)

    async def aclose(self) -> None:
        self.closed = True


async def test_any_httpx_transport_serves_our_requests() -> None:
    """It gets the same request, and its answer is read in the same way."""
    seen: list[httpx.Request] = []
    endless = Endless()

    async def handler(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        assert json.loads(await asked.aread()) == {"taskid": "2221"}
        if len(seen) > 1:
            return httpx.Response(200, stream=endless)
        return httpx.Response(200, json=ok(tasklist=[wire()]))

    async with client(httpx.MockTransport(handler)) as caller:
        handle = caller.attach("2221")
        assert (await handle.refresh()).id == "2221"
        with pytest.raises(InvalidResponse, match="larger than 16777216 bytes"):
            await handle.refresh()
    # It is a read, but another reply would be as large.
    assert len(seen) == 2
    assert (endless.pieces, endless.closed) == (17, True)
    assert (seen[0].method, str(seen[0].url)) == ("POST", f"{BASE}/Task/Detail")
    assert seen[0].headers["host"] == "127.0.0.1:9"
    assert int(seen[0].headers["content-length"]) == len(b'{"taskid":"2221"}')
    assert seen[0].extensions["wiro_async.max_idle"] == 5.0
    assert seen[0].extensions["wiro_async.progress"].sent is None


def test_our_own_connections_need_no_adapting() -> None:
    """They are a sender as they are."""
    stack = ConnectionStack()
    assert adapted(stack) is stack


def detail(peer: Peer) -> None:
    """Answer every request with a task."""
    while peer.request() is not None:
        peer.send(answer(json.dumps(ok(tasklist=[wire()])).encode()))


async def test_the_sender_is_ours_unless_told_otherwise() -> None:
    """With a proxy or without, connections are our own; a proxy gets requests to plain http as they are."""
    with Server(detail) as server:
        async with Client(KEY, base_url=f"{server.url}/v1") as ours:
            assert (await ours.attach("2221").refresh()).id == "2221"
        assert server.peers[0].received.startswith(b"POST /v1/Task/Detail HTTP/1.1")
        async with Client(KEY, base_url=BASE, proxy=server.url) as through:
            assert (await through.attach("2221").refresh()).id == "2221"
        assert server.peers[1].received.startswith(b"POST http://127.0.0.1:9/v1/Task/Detail HTTP/1.1")
