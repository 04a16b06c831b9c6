"""Transports of other clients: httpx2's, what is none, and ten thousand cancellations of each kind."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import anyio
import attrs
import httpx
import httpx2
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.fakes import BASE, ok
from tests.fakes import task as wire
from tests.proxies import Proxy
from tests.servers import Peer, Server, answer, refused_port, tls_settings
from wiro_async import Client, ConfigurationError, ConnectionFailed, DownloadError, Limits, Output

CANCELS = int(os.environ.get("FOREIGN_CANCELS", "400"))


def service(peer: Peer) -> None:
    """Answer every request with a task, in two pieces, and every download with ten bytes."""
    while (request := peer.request()) is not None:
        whole = answer(b"0123456789")
        if not request.startswith(b"GET"):
            whole = answer(json.dumps(ok(tasklist=[wire()])).encode())
        peer.send(whole[:30])
        peer.gone.wait(0.002)
        peer.send(whole[30:])


def output_of(client: Client, base: str) -> Output:
    return Output(name="clip", url=f"{base}/clip", size=10, store=client._service.downloader)


# -- httpx2 ----------------------------------------------------------------------------------------------


class Wrapped(httpx2.AsyncBaseTransport):
    """A transport of a user's own, made of one of httpx2's."""

    def __init__(self) -> None:
        self.inner = httpx2.AsyncHTTPTransport()
        self.closed = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        self.closed += 1
        await self.inner.aclose()


async def test_a_transport_of_httpx2_serves_calls_uploads_and_downloads() -> None:
    """It gets requests of its own library, with the same bytes on the wire."""
    with Server(service) as server:
        transport = Wrapped()
        async with Client(KEY, SECRET, base_url=f"{server.url}/v1", transport=transport) as client:
            assert (await client.attach("2221").refresh()).id == "2221"
            assert await output_of(client, server.url).read(timeout=10) == b"0123456789"
            with pytest.raises(wiro_async.InvalidResponse):
                await client.upload(b"\xff\xd8\xff" + bytes(500_000))
        assert transport.closed
    received = b"".join(bytes(peer.received) for peer in server.peers)
    assert b"x-signature" in received
    assert b"multipart/form-data" in received
    assert bytes(500_000) in received


async def test_errors_of_httpx2_are_told_apart_as_httpxs_are() -> None:
    """Nobody listens: not sent. The answer breaks off: it may have been sent. No header is left in either."""
    async with Client(
        KEY, SECRET, base_url=f"http://127.0.0.1:{refused_port()}/v1", transport=httpx2.AsyncHTTPTransport()
    ) as client:
        with pytest.raises(ConnectionFailed, match="ConnectError") as caught:
            await client.get_model("owner/model")
        assert not caught.value.sent

    def cut(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with Server(cut) as server:
        async with Client(
            KEY, SECRET, base_url=f"{server.url}/v1", transport=httpx2.AsyncHTTPTransport()
        ) as client:
            with pytest.raises(ConnectionFailed, match="RemoteProtocolError") as caught:
                await client.get_model("owner/model")
            assert caught.value.sent
            with pytest.raises(DownloadError, match=r"not whole after 1 s"):
                await attrs.evolve(output_of(client, server.url), size=100).read(timeout=1)
    link: BaseException | None = caught.value
    while link is not None:
        assert not hasattr(link, "request") or "x-api-key" not in link.request.headers
        link = link.__context__


async def test_an_error_that_is_no_transports_passes() -> None:
    """A transport that breaks in its own way is not made to look like a network."""

    class Broken(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            raise LookupError("a bug of the transport's")

    async with Client(KEY, base_url=BASE, transport=Broken()) as client:
        with pytest.raises(ConnectionFailed, match=r"LookupError.*a bug of the transport's"):
            await client.get_model("owner/model")


async def test_a_transport_is_taken_by_its_shape() -> None:
    """Without any class of httpx's above it, it gets httpx's requests."""

    class Duck:
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request, httpx.Request)
            assert request.extensions["timeout"] == {"connect": 10.0}
            return httpx.Response(200, json=ok(tasklist=[wire()]))

        async def aclose(self) -> None:
            pass

    async with Client(KEY, base_url=BASE, transport=Duck()) as client:
        assert (await client.attach("2221").refresh()).id == "2221"


# -- what is none ----------------------------------------------------------------------------------------

NONE: dict[str, tuple[Callable[[], Any], str]] = {
    "a client": (httpx.AsyncClient, "AsyncClient, which is a whole HTTP client; give .*AsyncHTTPTransport"),
    "httpx2's client": (httpx2.AsyncClient, "is a whole HTTP client"),
    "a synchronous client": (httpx.Client, "is a whole HTTP client"),
    "a synchronous transport": (httpx.HTTPTransport, r"is synchronous; give .*AsyncHTTPTransport\(\)"),
    "httpx2's synchronous one": (httpx2.HTTPTransport, "is synchronous"),
    "a class": (lambda: httpx.AsyncHTTPTransport, r"the class AsyncHTTPTransport itself; give an object"),
    "a str": (lambda: "http://proxy:3128", "has no handle_async_request"),
    "another library's": (lambda: aiohttp, "has no handle_async_request|whole HTTP client"),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_asynchronous_transport_is_refused_at_construction(name: str) -> None:
    """With what to give instead, and before anything is sent."""
    make, words = NONE[name]
    with pytest.raises(ConfigurationError, match=words):
        Client(KEY, base_url=BASE, transport=make())


# -- cancellations ---------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["httpx", "httpx through a tunnel", "httpx2", "proxy="])
async def test_cancellations_leave_nothing_stuck_on_any_transport(kind: str) -> None:
    """Calls and downloads are cut short at random moments; afterwards eight at once are answered."""
    server_tls, client_tls = tls_settings()
    with Server(service, server_tls) as origin, Server(Proxy()) as between:
        base = f"https://localhost:{origin.port}"
        few = httpx.Limits(max_connections=8)
        made: dict[str, dict[str, Any]] = {
            "httpx": {"transport": httpx.AsyncHTTPTransport(verify=client_tls, limits=few)},
            "httpx through a tunnel": {
                "transport": httpx.AsyncHTTPTransport(verify=client_tls, proxy=between.url, limits=few)
            },
            "httpx2": {
                "transport": httpx2.AsyncHTTPTransport(
                    verify=client_tls, limits=httpx2.Limits(max_connections=8)
                )
            },
            "proxy=": {"proxy": between.url, "ssl_context": client_tls},
        }
        limits = Limits(request_timeout=20, max_in_flight=16)
        async with Client(KEY, SECRET, base_url=f"{base}/v1", limits=limits, **made[kind]) as client:
            handle, output = client.attach("2221"), output_of(client, base)
            chance = random.Random(kind)
            numbers = itertools.count()
            cut = 0

            async def worker() -> None:
                nonlocal cut
                while next(numbers) < CANCELS:
                    act = handle.refresh() if chance.random() < 0.6 else output.read(timeout=20)
                    task = asyncio.ensure_future(act)
                    await asyncio.wait({task}, timeout=chance.random() ** 2 * 0.05)
                    cut += task.cancel()
                    if chance.random() < 0.3:
                        await asyncio.sleep(0)
                        task.cancel()
                    await asyncio.wait({task})

            await asyncio.gather(*(worker() for _ in range(16)))
            assert cut > CANCELS / 4
            with anyio.fail_after(15):
                tasks = await asyncio.gather(*(handle.refresh() for _ in range(8)))
                clips = await asyncio.gather(*(output.read(timeout=10) for _ in range(8)))
    assert {task.id for task in tasks} == {"2221"}
    assert set(clips) == {b"0123456789"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_reply_that_comes_with_the_cancellation_is_closed() -> None:
    """Nobody would read it, and its connection would be held for ever."""
    closed: list[str] = []
    began, may_end = asyncio.Event(), asyncio.Event()

    class Body(httpx.AsyncByteStream):
        async def aclose(self) -> None:
            closed.append("body")

    class Late:
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            began.set()
            with anyio.CancelScope(shield=True):
                await may_end.wait()
            return httpx.Response(200, stream=Body())

        async def aclose(self) -> None:
            closed.append("transport")

    async with Client(KEY, base_url=BASE, transport=Late()) as client:
        task = asyncio.ensure_future(client.attach("2221").refresh())
        await began.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed == ["body"]
