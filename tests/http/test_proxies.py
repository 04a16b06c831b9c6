"""Proxies: which one is used, the way through it, and what one that is no good is: not sent."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.request import getproxies

import anyio
import attrs
import httpx
import httpx._utils
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wiro_async
from tests.conftest import KEY, SECRET
from tests.depth import examples
from tests.fakes import ok
from tests.fakes import task as wire
from tests.proxies import Proxy
from tests.servers import LOOPS, Peer, Server, answer, refused_port, tls_settings
from tests.servers import anyio_backend as anyio_backend
from wiro_async import Client, ConfigurationError, ConnectionFailed, DownloadError, Job, Limits
from wiro_async._http.proxies import Routes, parse_proxy
from wiro_async._http.retry import RUNS
from wiro_async.sandbox import Sandbox

PASSWORD = "canary-password-77"


def service(peer: Peer) -> None:
    """Answer every request with a task, and every download with its path."""
    while (request := peer.request()) is not None:
        if request.startswith(b"GET"):
            peer.send(answer(b"0123456789"))
        else:
            peer.send(answer(json.dumps(ok(tasklist=[wire()])).encode()))


# -- what is a proxy -------------------------------------------------------------------------------------


def test_a_proxy_is_a_url_and_its_password_is_not_shown() -> None:
    """The defaults of ports are curl's; what is encoded in the user's name is decoded."""
    proxy = parse_proxy(f"socks5h://a%40b:{PASSWORD}@[::1]", "proxy=")
    assert (proxy.scheme, proxy.host, proxy.port, proxy.user) == ("socks5h", "::1", 1080, "a@b")
    assert proxy.password.reveal() == PASSWORD
    assert repr(proxy) == "the proxy socks5h://[::1]:1080 (proxy=)"
    assert parse_proxy("http://proxy", "x").port == 80
    assert parse_proxy("https://proxy/", "x").port == 443
    assert parse_proxy("http://proxy:3128", "x").headers == []


@pytest.mark.parametrize(
    "url",
    [
        3128, b"http://proxy", None, "", "proxy:3128", f"user:{PASSWORD}@proxy:3128", "ftp://proxy:21",
        "socks4://proxy", "http://", f"http://user:{PASSWORD}@", f"http://user:{PASSWORD}@proxy:99999",
        "http://proxy:0", f"http://user:{PASSWORD}@pro xy", "http://pro\nxy", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_at_construction(url: Any) -> None:
    """The error names the option and the rule, and shows no password."""
    with pytest.raises(ConfigurationError, match=r"proxy= .*it must look like http://host:port") as caught:
        parse_proxy(url, "proxy=")
    assert PASSWORD not in str(caught.value)
    if url is not None:
        with pytest.raises(ConfigurationError):
            Client(KEY, proxy=url)


@pytest.mark.parametrize(("user", "password"), [("m" * 256, "x"), ("me", "%C3%BC" * 128)])
def test_what_socks_cannot_carry_is_refused_at_construction(user: str, password: str) -> None:
    """User and password have 255 bytes each at most, as UTF-8; over HTTP they may be longer."""
    with pytest.raises(ConfigurationError, match=r"proxy= has .* more than 255 bytes, which SOCKS5"):
        Client(KEY, proxy=f"socks5://{user}:{password}@proxy")
    assert parse_proxy(f"socks5://{user[:255]}:{password[:-6]}a@proxy", "x").user == user[:255]
    assert parse_proxy(f"http://{user}:{password}@proxy", "x").user == user


# -- which one leads where -------------------------------------------------------------------------------

hosts = st.sampled_from(
    [
        "api.wiro.ai",
        "wiro.ai",
        "xwiro.ai",
        "10.0.0.7",
        "::2",
        "a.b.example",
        "example",
        "localhost",
        "127.0.0.1",
    ]
)
exemptions = st.lists(
    st.sampled_from(
        ["wiro.ai", ".wiro.ai", "api.wiro.ai", "10.0.0.7", "10.0.0.0/8", "::2", "localhost", "*", "",
         " example ", "https://wiro.ai", "http://", "all://wiro.ai:8443", "b.example:443", "[", "LOCALHOST"]
    ),
    max_size=4,
).map(",".join)  # fmt: skip
addresses = st.sampled_from(["", "http://one:1", "https://two", "three:3", "socks5://four"])


@examples(300)
@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "http_proxy": addresses,
            "HTTPS_PROXY": addresses,
            "all_proxy": addresses,
            "NO_PROXY": exemptions,
        },
    ),
    scheme=st.sampled_from(["http", "https"]),
    host=hosts,
    port=st.sampled_from([80, 443, 8443]),
)
def test_the_environment_is_read_as_httpx_reads_it(
    values: dict[str, str], scheme: str, host: str, port: int
) -> None:
    """For every host but this machine, httpx would take the same proxy."""
    with patch.dict(os.environ, values):
        environment = getproxies()
        try:
            mounts = httpx._utils.get_environment_proxies()
            patterns = sorted((httpx._utils.URLPattern(key), proxy) for key, proxy in mounts.items())
        except httpx.InvalidURL:
            return  # httpx's client cannot be made then
        found = Routes(environment=environment).find((scheme, host, port))
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    url = httpx.URL(f"{scheme}://{netloc}")
    expected = next((proxy for pattern, proxy in patterns if pattern.matches(url)), None)
    if host in ("localhost", "127.0.0.1"):
        expected = None
    assert (found is None) == (expected is None)
    if found is not None:
        assert expected is not None
        assert found.host == httpx.URL(expected).host
        # What is said of it names the variable.
        assert found.source.lower() in values or found.source.upper() in values


def test_the_environment_is_asked_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad proxy in it is named at construction; this machine is never looked for behind one."""
    monkeypatch.setenv("HTTPS_PROXY", f"ftp://user:{PASSWORD}@proxy")
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY is no URL of a proxy") as caught:
        Client(KEY)
    assert PASSWORD not in str(caught.value)
    Client(KEY, trust_env=False)
    Client(KEY, proxy="http://proxy:3128")
    Client(KEY, base_url="https://127.0.0.1:9/v1")
    Client(KEY, transport=httpx.AsyncHTTPTransport())
    for wrong in ("yes", 1, None):
        with pytest.raises(ConfigurationError, match="trust_env"):
            Client(KEY, trust_env=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exempt", "direct"),
    [
        ("*", True),
        ("a.example, *", True),
        ("[", False),
        ("a\0b", False),
        ("b.example", False),
        ("example", True),
    ],
)
def test_what_no_proxy_exempts(exempt: str, direct: bool) -> None:
    """A star exempts everything; what names no host exempts nothing, and does no harm."""
    routes = Routes(environment={"all": "http://proxy:1", "no": exempt})
    assert (routes.find(("https", "x.example", 443)) is None) == direct


def test_the_variable_that_counts_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are set, the one in small letters."""
    monkeypatch.setenv("HTTPS_PROXY", "http://capitals")
    monkeypatch.setenv("https_proxy", "http://small")
    found = Routes(environment=getproxies()).find(("https", "x.example", 443))
    assert repr(found) == "the proxy http://small:80 (https_proxy)"


def test_routes_of_many_hosts_are_forgotten() -> None:
    """There is no end of hosts, and not of memory for them."""
    routes = Routes(environment={"all": "http://proxy:1"})
    for number in range(2500):
        assert routes.find(("https", f"{number}.example", 443)) is not None
    assert len(routes._found) <= 1001


async def test_the_environments_proxy_is_asked_for_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """And named by what goes wrong with it."""
    proxy = Proxy(target=("127.0.0.1", refused_port()))
    with Server(proxy) as server:
        monkeypatch.setenv("https_proxy", server.url)
        base = "https://api.example.invalid/v1"
        async with Client(KEY, base_url=base, limits=Limits(connect_timeout=5)) as client:
            with pytest.raises(ConnectionFailed) as caught:
                await client.get_model("owner/model")
        assert f"the proxy {server.url} (https_proxy)" in str(caught.value)
        assert not caught.value.sent
        assert set(proxy.asked) == {"CONNECT api.example.invalid:443 HTTP/1.1"}
        monkeypatch.setenv("NO_PROXY", "example.invalid")
        asked = len(proxy.asked)
        async with Client(KEY, base_url=base) as client:
            with pytest.raises(ConnectionFailed):
                await client.get_model("owner/model")
        assert len(proxy.asked) == asked


# -- the way through -------------------------------------------------------------------------------------

WAYS = ["http", "http with a user", "https", "socks5", "socks5 with a user"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("way", WAYS)
async def test_calls_and_downloads_go_through_a_tunnel(way: str, host: str) -> None:
    """To a service behind TLS, whose certificate is checked; a connection is used again."""
    server_tls, client_tls = tls_settings()
    user = f"me:{PASSWORD}" if "user" in way else ""
    scheme = way.partition(" ")[0]
    proxy = Proxy(user)
    handler: Callable[[Peer], None] = proxy.socks if scheme == "socks5" else proxy
    with (
        Server(service, server_tls) as origin,
        Server(handler, server_tls if scheme == "https" else None) as between,
    ):
        url = f"{scheme}://{user + '@' if user else ''}127.0.0.1:{between.port}"
        base = f"https://{host}:{origin.port}/v1"
        async with Client(KEY, base_url=base, proxy=url, ssl_context=client_tls) as client:
            for _ in range(3):
                assert (await client.attach("2221").refresh()).id == "2221"
            output = wiro_async.Output(
                name="clip", url=f"https://{host}:{origin.port}/x", size=10, store=client._service.downloader
            )
            assert await output.read(timeout=10) == b"0123456789"
    # One connection for calls, one for downloads.
    assert len(origin.peers) == len(between.peers) == 2
    asked = f"{host}:{origin.port}"
    assert proxy.asked == [asked if scheme == "socks5" else f"CONNECT {asked} HTTP/1.1"] * 2
    assert b"Proxy-Authorization" not in origin.peers[0].received
    assert b"x-api-key" not in between.peers[0].received


@pytest.mark.parametrize("way", ["http with a user", "https", "socks5"])
async def test_plain_http_is_given_to_an_http_proxy_as_it_is(way: str) -> None:
    """With the whole URL, and with the user's name and password; SOCKS makes a tunnel in any case."""
    server_tls, client_tls = tls_settings()
    user = f"me:{PASSWORD}" if "user" in way else ""
    scheme = way.partition(" ")[0]
    proxy = Proxy(user)
    handler: Callable[[Peer], None] = proxy.socks if scheme == "socks5" else proxy
    with Server(service) as origin, Server(handler, server_tls if scheme == "https" else None) as between:
        url = f"{scheme}://{user + '@' if user else ''}127.0.0.1:{between.port}"
        base = f"{origin.url}/v1"
        async with Client(KEY, base_url=base, proxy=url, ssl_context=client_tls) as client:
            assert (await client.attach("2221").refresh()).id == "2221"
    host = f"127.0.0.1:{origin.port}"
    plain = f"POST http://{host}/v1/Task/Detail HTTP/1.1"
    assert proxy.asked == [host if scheme == "socks5" else plain]


# -- proxies that are no good ----------------------------------------------------------------------------

EARLY_TLS = bytes.fromhex("16030100020100")


def replying(data: bytes) -> Callable[[Peer], None]:
    def handler(peer: Peer) -> None:
        peer.sock.recv(65536)
        peer.send(data)
        peer.hold()

    return handler


def scripted(*script: bytes) -> Callable[[Peer], None]:
    """Answer packet by packet."""

    def handler(peer: Peer) -> None:
        for data in script:
            peer.sock.recv(65536)
            peer.send(data)
        peer.hold()

    return handler


def closing(peer: Peer) -> None:
    peer.sock.recv(65536)


def silent(peer: Peer) -> None:
    peer.hold()


def talking(peer: Peer) -> None:
    """Speak TLS before anybody has asked for anything."""
    peer.send(EARLY_TLS)
    peer.hold()


def resetting(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


def endless(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000)
    peer.hold()


def test_a_peer_that_leaves_in_the_handshake_has_got_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the peer leaves as the handshake ends, asyncio gives no connection."""

    async def gone(*_: object, **__: object) -> None:
        return None

    async def call(port: int) -> None:
        async with Client(KEY, base_url="https://127.0.0.1:9/v1", proxy=f"http://127.0.0.1:{port}") as client:
            with pytest.raises(ConnectionFailed, match="the peer left in the TLS handshake") as caught:
                await client.submit("owner/model", {}, slot_timeout=0)
            assert not caught.value.sent

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.start_tls", gone)
    with Server(replying(b"HTTP/1.1 200 Connection established\r\n\r\n")) as between:
        anyio.run(call, between.port)


BAD: dict[str, tuple[str, Callable[[Peer], None], str]] = {
    "closes": ("http", closing, "closed the connection"),
    "resets": ("http", resetting, "the connection broke|closed the connection"),
    "is silent": ("http", silent, "no connection within 1 s"),
    "talks TLS": ("http", talking, "does not answer in HTTP; if it wants TLS"),
    "answers in TLS": ("http", replying(EARLY_TLS), "does not answer in HTTP"),
    "speaks no TLS": ("https", replying(answer(b"")), "SSL|TLS|EOF|wrong version"),
    "is a mail server": ("http", replying(b"220 mail\r\n"), "does not answer in HTTP"),
    "wants a password": ("http", replying(answer(b"", "407 Who?")), "407 Who. .*give its user and password"),
    "forbids it": ("http", replying(answer(b"no", "403 Forbidden")), "403 Forbidden"),
    "cannot reach it": ("http", replying(answer(b"", "502 Bad Gateway")), "502 Bad Gateway"),
    "goes elsewhere": ("http", replying(answer(b"", "302 Found")), "302 Found"),
    "says more": ("http", replying(b"HTTP/1.1 200 OK\r\n\r\nextra"), "sent more"),
    "says it in parts": (
        "http", replying(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx"), "sent more"
    ),
    "is odd": ("http", replying(b"HTTP/1.1 200 OK\nX: y\n\n"), "no HTTP"),
    "has no end": ("http", endless, "does not answer in HTTP"),
    "leads to no TLS": ("http", scripted(b"HTTP/1.1 200 OK\r\n\r\n", answer(b"no")), "SSL|version"),
    "is no SOCKS": ("socks5", replying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "does not speak SOCKS5"),
    "closes SOCKS": ("socks5", closing, "closed the connection"),
    "wants another way": ("socks5", replying(b"\5\xff"), "another way to sign in"),
    "wants a way not offered": ("socks5", replying(b"\5\2"), "another way to sign in"),
    "refuses by SOCKS": ("socks5", scripted(b"\5\0", b"\5\5\0\1" + bytes(6)), "the host refused"),
    "refuses oddly": ("socks5", scripted(b"\5\0", b"\5\x63\0\1" + bytes(6)), "code 99"),
    "says more by SOCKS": ("socks5", scripted(b"\5\0", b"\5\0\0\3\1x" + bytes(3)), "sent more"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_a_proxy_that_is_no_good_means_not_sent(name: str) -> None:
    """Whatever it does before its tunnel is there, within ``connect_timeout``, and the error names it."""
    scheme, handler, words = BAD[name]
    with Server(handler) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        limits = Limits(connect_timeout=1, slot_timeout=0.1)
        base = "https://127.0.0.1:9/v1"
        began = time.monotonic()
        async with Client(KEY, SECRET, base_url=base, proxy=url, limits=limits) as client:
            with pytest.raises(ConnectionFailed, match=words) as caught:
                await client.submit("owner/model", {"prompt": "x"})
        assert not caught.value.sent
        assert f"the proxy {url} (proxy=)" in str(caught.value)
        assert time.monotonic() - began < 10  # and not request_timeout


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_no_name_server_can_be_asked_for_is_named(scheme: str) -> None:
    """As one that does not answer; a download ends as it would then."""
    url = f"{scheme}://{'a' * 64}.example:3128"
    async with Client(KEY, base_url="https://127.0.0.1:9/v1", proxy=url) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.submit("owner/model", {}, slot_timeout=0)
        assert f"ConnectError: the proxy {url} (proxy=): " in str(caught.value)
        assert not caught.value.sent
        output = wiro_async.Output(
            name="x", url="https://cdn1.wiro.ai/x", size=1, store=client._service.downloader
        )
        with pytest.raises(DownloadError):
            await output.read(timeout=0.1)


async def test_a_wrong_password_is_refused_and_not_shown() -> None:
    """By HTTP and by SOCKS5."""
    proxy = Proxy(f"me:{PASSWORD}")
    limits = Limits(slot_timeout=0.1)
    for scheme, handler in (("http", proxy), ("socks5", proxy.socks)):
        with Server(handler) as server:
            url = f"{scheme}://me:{PASSWORD}x@127.0.0.1:{server.port}"
            async with Client(KEY, base_url="https://127.0.0.1:9/v1", proxy=url, limits=limits) as client:
                with pytest.raises(ConnectionFailed, match=r"407|refused the user or the password") as caught:
                    await client.submit("owner/model", {})
        assert not caught.value.sent
        assert PASSWORD not in str(caught.value) + repr(client) + repr(caught.value.__context__)


async def test_a_refused_proxy_fails_a_batch_without_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job of it may be billed, however often it was tried."""
    quick = attrs.evolve(RUNS, attempts=3, base=0.01)
    monkeypatch.setattr("wiro_async._jobs.pipeline.RUNS", quick)
    url = f"http://127.0.0.1:{refused_port()}"
    async with Client(KEY, base_url="https://127.0.0.1:9/v1", proxy=url) as client:
        jobs = [Job("owner/model", {"prompt": "x"}, key=str(n)) for n in range(3)]
        async with client.batch(jobs) as batch:
            outcomes = [outcome async for outcome in batch]
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert isinstance(outcome.error, ConnectionFailed)
        assert not outcome.error.sent
        assert f"the proxy {url}" in str(outcome.error)


async def test_a_timeout_behind_a_proxy_names_it() -> None:
    """The request has left by then."""
    server_tls, client_tls = tls_settings()

    def mute(peer: Peer) -> None:
        peer.request()
        peer.hold()

    with Server(mute, server_tls) as origin, Server(Proxy()) as between:
        limits = Limits(request_timeout=1.5)
        base = f"https://localhost:{origin.port}/v1"
        async with Client(
            KEY, base_url=base, proxy=between.url, ssl_context=client_tls, limits=limits
        ) as client:
            with pytest.raises(ConnectionFailed, match=f"went through the proxy {between.url}"):
                await client.attach("2221").refresh()


# -- WebSockets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", LOOPS[:2])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_sockets_go_through_the_proxy_too(scheme: str) -> None:
    """A task's end is heard, and not polled for."""
    server_tls, client_tls = tls_settings()
    proxy = Proxy()
    handler: Callable[[Peer], None] = proxy.socks if scheme == "socks5" else proxy
    with Server(handler, server_tls if scheme == "https" else None) as between:
        async with (
            Sandbox(api_key=KEY, api_secret=SECRET, speed=50, render=False) as sandbox,
            Client(
                KEY, SECRET, base_url=sandbox.base_url, socket_url=sandbox.socket_url, watch="socket",
                proxy=f"{scheme}://127.0.0.1:{between.port}", ssl_context=client_tls,
            ) as client,
        ):  # fmt: skip
            result = await client.run(
                "MiniMax/image-to-video-01-director",
                {"inputImageFirstUrl": "http://127.0.0.1:9/x.jpg", "prompt": "x"},
            )
            assert result.task.id
            assert client._service.sockets is not None
    netloc = sandbox.socket_url.split("/")[2]
    assert (netloc if scheme == "socks5" else f"CONNECT {netloc} HTTP/1.1") in proxy.asked


@pytest.mark.parametrize("anyio_backend", LOOPS[:1])
async def test_a_socket_that_cannot_go_through_is_replaced_by_polls() -> None:
    """The proxy lets requests through, and no tunnel."""

    class NoTunnels(Proxy):
        def __call__(self, peer: Peer) -> None:
            if peer.sock.recv(7, 2) == b"CONNECT":  # MSG_PEEK
                peer.request()
                self.asked.append("CONNECT")
                peer.send(answer(b"", "403 Forbidden"))
                return
            super().__call__(peer)

    proxy = NoTunnels()
    with Server(proxy) as between:
        async with (
            Sandbox(api_key=KEY, api_secret=SECRET, speed=50, render=False) as sandbox,
            Client(
                KEY, SECRET, base_url=sandbox.base_url, socket_url=sandbox.socket_url, proxy=between.url,
                polling=wiro_async.Polling(min_interval=0.05, max_interval=0.2),
            ) as client,
        ):  # fmt: skip
            await client.run(
                "MiniMax/image-to-video-01-director",
                {"inputImageFirstUrl": "http://127.0.0.1:9/x.jpg", "prompt": "x"},
            )
    assert "CONNECT" in proxy.asked


# -- certificates ----------------------------------------------------------------------------------------


async def test_certificates_that_are_not_there_are_named_by_every_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """File and variable, with what to do; and nothing was sent."""
    missing = str(tmp_path / "company.pem")
    monkeypatch.setenv("SSL_CERT_FILE", missing)
    async with Client(KEY, SECRET, base_url="https://127.0.0.1:9/v1", watch="poll") as client:
        handle = client.attach("2221")
        output = wiro_async.Output(
            name="x", url="https://cdn1.wiro.ai/x", size=1, store=client._service.downloader
        )
        calls: list[Callable[[], Any]] = [
            lambda: client.submit("owner/model", {"prompt": "x"}),
            lambda: client.run("owner/model", {"prompt": "x"}),
            lambda: client.upload(b"\xff\xd8\xff"),
            lambda: client.get_model("owner/model"),
            lambda: anext(aiter(client.list_tasks())),
            lambda: anext(aiter(client.list_models())),
            handle.refresh,
            handle.wait,
            handle.cancel,
            handle.stop,
            lambda: output.read(timeout=5),
            lambda: output.save(tmp_path / "x", timeout=5),
        ]
        for call in calls:
            with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE is .*No such file") as caught:
                await call()
            assert missing in str(caught.value)
        async with client.batch([Job("owner/model", {"prompt": "x"}, key="a")]) as batch:
            outcomes = [outcome async for outcome in batch]
        assert "SSL_CERT_FILE" in str(outcomes[0].error)
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", missing)
    async with Client(KEY, SECRET, base_url="https://127.0.0.1:9/v1") as client:
        with pytest.raises(ConfigurationError, match=r"SSL_CERT_DIR is .*no such folder"):
            await client.get_model("owner/model")
    # Without the environment the certificates are certifi's, and it goes on to where nobody listens.
    async with Client(KEY, SECRET, base_url="https://127.0.0.1:9/v1", trust_env=False) as client:
        with pytest.raises(ConnectionFailed):
            await client.get_model("owner/model")


@pytest.mark.parametrize("place", ["file", "folder"])
async def test_file_and_folder_are_used_together(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service's certificate is in one of them, and another one in the other."""
    server_tls, client_tls = tls_settings()
    ours = ssl.DER_cert_to_PEM_cert(client_tls.get_ca_certs(binary_form=True)[0])
    file, folder = tmp_path / "some.pem", tmp_path / "certs"
    folder.mkdir()
    other = ssl.DER_cert_to_PEM_cert(_another())
    file.write_text(ours if place == "file" else other)
    (folder / f"{_subject_hash(ours, tmp_path)}.0").write_text(ours if place == "folder" else other)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    with Server(service, server_tls) as origin:
        async with Client(KEY, base_url=f"https://localhost:{origin.port}/v1") as client:
            assert (await client.attach("2221").refresh()).id == "2221"
    for wrong in ("ca.pem", True):
        with pytest.raises(ConfigurationError, match=r"ssl_context is a .*must be an ssl\.SSLContext"):
            Client(KEY, ssl_context=wrong)  # type: ignore[arg-type]


def _another() -> bytes:
    """Return a certificate that has nothing to do with the tests' own."""
    trusted = httpx.create_ssl_context(trust_env=False).get_ca_certs(binary_form=True)
    return trusted[0]


def _subject_hash(certificate: str, folder: Path) -> str:
    import shutil
    import subprocess

    file = folder / "hashed.pem"
    file.write_text(certificate)
    openssl = shutil.which("openssl")
    assert openssl is not None
    command = [openssl, "x509", "-noout", "-hash", "-in", str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
