"""Any httpx transport serves our requests, and replaces our own connections."""

from __future__ import annotations

import httpx
import pytest

from wiro_async import ConfigurationError
from wiro_async._http.connections import ConnectionStack, address_of
from wiro_async._http.foreign import adapted, sender
from wiro_async._http.messages import MAX_IDLE, PROGRESS, Content, Request


async def test_any_httpx_transport_serves_our_requests() -> None:
    """It gets the same request, and its answer is read in the same way."""
    seen: list[httpx.Request] = []

    async def handler(asked: httpx.Request) -> httpx.Response:
        seen.append(asked)
        assert await asked.aread() == b"body"
        return httpx.Response(404, headers={"X-One": "a"}, stream=Content(b"hello"))

    address = address_of(httpx.URL("http://x.example:81/p"), [(b"Host", b"x.example:81")])
    sent = Request(address, [(b"Content-Length", b"4")], Content(b"body"))
    sender_of_ours = adapted(httpx.MockTransport(handler))
    response = await sender_of_ours.send(sent)
    assert await response.read(100) == b"hello"
    response = await sender_of_ours.send(sent)
    assert (response.status, response.header("x-one"), response.header("x-two")) == (404, "a", "")
    assert await response.read(2) == b"hello"
    await response.aclose()
    await sender_of_ours.aclose()
    assert (seen[0].method, str(seen[0].url)) == ("POST", "http://x.example:81/p")
    assert seen[0].headers.raw == [(b"Host", b"x.example:81"), (b"Content-Length", b"4")]
    assert seen[0].extensions == {MAX_IDLE: sent.max_idle, PROGRESS: sent.progress}
    assert sent.progress.sent is None


def test_our_own_connections_need_no_adapting() -> None:
    """They are a sender as they are."""
    stack = ConnectionStack()
    assert adapted(stack) is stack


async def test_the_sender_is_ours_unless_told_otherwise() -> None:
    """A transport is used as it is, a proxy goes through httpx, and otherwise connections are our own."""
    own = httpx.MockTransport(lambda _: httpx.Response(200))
    assert sender(own, None, 1.0) is own
    assert isinstance(sender(None, None, 1.0), ConnectionStack)
    through = sender(None, "http://127.0.0.1:9", 1.0)
    assert isinstance(through, httpx.AsyncHTTPTransport)
    await through.aclose()
    with pytest.raises(ConfigurationError, match="either"):
        sender(own, "http://127.0.0.1:9", 1.0)
