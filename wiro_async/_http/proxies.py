"""Proxies: which one leads to a host, and the way through it.

An HTTP proxy gets a request to plain http as it is, with the whole URL, and digs a tunnel with CONNECT for
all else. A SOCKS5 proxy makes a tunnel in any case, and resolves the name. Until the tunnel is there, nothing
of a request has left, whatever the proxy does.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

import attrs
import httpx

from wiro_async._config import is_address, is_loopback
from wiro_async._errors import ConfigurationError
from wiro_async._http.http11 import (
    MAX_EXTRA_BYTES,
    Head,
    RemoteProtocolError,
    header_lines,
    parse_head,
    read_head,
)
from wiro_async._http.messages import Headers, Key
from wiro_async._http.network import Connect, ReadError, Stream, WriteError, secured
from wiro_async._types import Secret

__all__ = ["DIRECT", "Proxy", "ProxyError", "Routes", "connect_through", "parse_proxy"]

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

_LOOKUP = {"ws": "http", "wss": "https"}

_SOCKS_REFUSALS = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the host refused the connection",
    6: "the host took too long",
}
"""RFC 1928, section 6."""


class ProxyError(OSError):
    """A proxy did not lead to where it should; nothing of a request has left."""


@attrs.frozen(repr=False, eq=False)
class Proxy:
    """A proxy. Neither its repr nor its str shows the password.

    Attributes:
        scheme: ``http``, ``https``, ``socks5`` or ``socks5h``.
        host: Its host.
        port: Its port.
        source: Where it was named: an argument, or an environment variable.
        user: The user's name (None: nobody signs in).
        password: The user's password.
    """

    scheme: str
    host: str
    port: int
    source: str
    user: str | None
    password: Secret

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5, and not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def headers(self) -> Headers:
        """What signs in at an HTTP proxy."""
        if self.user is None:
            return []
        return [
            (
                b"Proxy-Authorization",
                b"Basic " + base64.b64encode(f"{self.user}:{self.password.reveal()}".encode()),
            )
        ]

    def __repr__(self) -> str:
        return f"the proxy {self.scheme}://{_netloc(self.host, self.port)} ({self.source})"


def parse_proxy(url: object, source: str) -> Proxy:
    """Return the proxy that a URL names.

    Args:
        url: The URL. A password in it is never shown.
        source: Where it comes from.

    Raises:
        ConfigurationError: It names none.
    """
    shape = "it must look like http://host:port, https://host:port or socks5://host:port"
    if not isinstance(url, str):
        raise ConfigurationError(f"{source} is a {type(url).__name__}; {shape}, as a str")
    parts: SplitResult | None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts = port = None
    if parts is None:
        # Outside of the handler: the frames of that error hold the password, and some tracebacks print those.
        raise ConfigurationError(f"{source} is no URL; {shape}")
    if parts.scheme not in _PORTS:
        # Without a scheme, all of it may have been taken for one, and there may be a password in it.
        shown = f" of the scheme {parts.scheme!r}" if "://" in url else ""
        raise ConfigurationError(f"{source} is no URL of a proxy that can be used{shown}; {shape}")
    if not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{source} names no host and port; {shape}")
    user = None if parts.username is None else unquote(parts.username)
    password = Secret(unquote(parts.password or ""))
    proxy = Proxy(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], source, user, password)
    if proxy.is_socks and max(len(text.encode()) for text in (user or "", password.reveal())) > 255:
        raise ConfigurationError(
            f"{source} has a user or a password of more than 255 bytes, which SOCKS5 cannot carry; give "
            f"shorter ones, or an HTTP proxy"
        )
    return proxy


# -- which one -------------------------------------------------------------------------------------------


class Routes:
    """Which proxy leads to a host, if any.

    The environment is read as httpx reads it: ``HTTPS_PROXY`` or ``HTTP_PROXY``, by the URL's scheme, and
    otherwise ``ALL_PROXY``. ``NO_PROXY`` lists what is reached directly: addresses, domains with everything
    below them (and without themselves if they begin with a dot), URLs, or ``*`` for everything. This machine
    itself is reached directly in any case, unlike with httpx; only a fixed proxy is used for it.

    Args:
        fixed: The one proxy for all hosts (None: the environment's).
        environment: What ``urllib.request.getproxies`` returns (empty: the environment is not asked).
    """

    def __init__(self, fixed: Proxy | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._fixed = fixed
        self._urls = {scheme: url for scheme, url in (environment or {}).items() if url}
        self._exempt: list[httpx.URL] = []
        self._found: dict[Key, Proxy | None] = {}
        for entry in map(str.strip, self._urls.get("no", "").split(",")):
            self._exclude(entry)

    def _exclude(self, entry: str) -> None:
        if entry == "*":
            self._urls.clear()
        elif entry:
            # A domain stands for what is below it, too; an address only for itself, and so does a whole URL.
            if "://" in entry:
                text = entry
            elif is_address(entry.partition("/")[0]):
                text = f"all://[{entry}]" if ":" in entry else f"all://{entry}"
            elif entry.lower() == "localhost":
                text = f"all://{entry}"
            else:
                text = f"all://*{entry}"
            try:
                self._exempt.append(httpx.URL(text))
            except httpx.InvalidURL:
                return  # It names no host that anybody could ask for.

    @property
    def has_proxies(self) -> bool:
        """Whether anything may be reached through a proxy."""
        return self._fixed is not None or bool(self._urls)

    def find(self, key: Key) -> Proxy | None:
        """Return the proxy that leads to an address (None: it is reached directly).

        Raises:
            ConfigurationError: The environment names a proxy that cannot be used.
        """
        if self._fixed is not None or not self._urls:
            return self._fixed
        if key not in self._found:
            # There is no end of hosts where outputs may be fetched from.
            if len(self._found) > 1000:
                self._found.clear()
            problem: ConfigurationError | None = None
            try:
                self._found[key] = self._search(key)
            except ConfigurationError as error:
                problem = error.with_traceback(None)
            if problem is not None:
                # Outside of the handler, and without the frames below: they hold the password.
                raise problem
        return self._found[key]

    def _search(self, key: Key) -> Proxy | None:
        scheme, host, port = key
        scheme = _LOOKUP.get(scheme, scheme)
        if is_loopback(host) or any(_matches(each, scheme, host, port) for each in self._exempt):
            return None
        named = scheme if scheme in self._urls else "all"
        url = self._urls.get(named)
        if url is None:
            return None
        # The one in small letters counts where both are set.
        names = (f"{named}_proxy", f"{named}_proxy".upper())
        source = next((name for name in names if name in os.environ), "the system's settings")
        return parse_proxy(url if "://" in url else f"http://{url}", source)


DIRECT = Routes()
"""Everything is reached directly."""


def _matches(pattern: httpx.URL, scheme: str, host: str, port: int) -> bool:
    """Tell whether httpx would let a URL pass by its proxies for this pattern."""
    wanted = pattern.raw_host.decode("ascii")
    if pattern.scheme not in ("all", scheme) or pattern.port not in (None, port):
        return False
    if wanted.startswith("*."):
        return host.endswith(wanted[1:])
    if wanted.startswith("*"):
        return host == wanted[1:] or host.endswith(f".{wanted[1:]}")
    return wanted in ("", host)


# -- the way through -------------------------------------------------------------------------------------


async def connect_through(proxy: Proxy, key: Key, connect: Connect, tls: ssl.SSLContext | None) -> Stream:
    """Open a stream to an address by way of a proxy.

    To plain http an HTTP proxy itself is the other end; ``ws`` and ``wss`` get a bare tunnel.

    Args:
        proxy: The proxy.
        key: The address.
        connect: How to open a stream to the proxy.
        tls: The TLS settings, for the proxy and for what is behind it.

    Raises:
        OSError: There is no way through; nothing of a request has left.
    """
    scheme, host, port = key
    stream = await connect(proxy.host, proxy.port, tls if proxy.scheme == "https" else None)
    try:
        if proxy.is_socks:
            await _enter_socks(stream, proxy, host, port)
        elif scheme != "http":
            await _dig_tunnel(stream, proxy, host, port)
        if scheme == "https":
            assert tls is not None
            stream = await secured(stream, host, tls)
    except (ReadError, WriteError) as error:
        await stream.aclose()
        raise ProxyError(f"the connection broke: {error}") from None
    except BaseException:
        await stream.aclose()
        raise
    return stream


async def _dig_tunnel(stream: Stream, proxy: Proxy, host: str, port: int) -> None:
    target = _netloc(host, port).encode("ascii")
    await stream.write(
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target) + header_lines(proxy.headers) + b"\r\n"
    )
    data = b""
    head: Head | None = None
    while head is None or head.status < 200:
        try:
            cut = read_head(data)
            if cut is not None:
                head, data = parse_head(cut[0]), cut[1]
                continue
        except RemoteProtocolError as error:
            raise ProxyError(f"its answer to CONNECT is no HTTP: {error}") from None
        data += await _more(stream)
        if not data.startswith(b"HTTP/1."[: len(data)]) or len(data) > MAX_EXTRA_BYTES:
            raise ProxyError(
                "it does not answer in HTTP; if it wants TLS, its URL begins with https://, and if it speaks "
                "SOCKS5, with socks5://"
            )
    if head.status >= 300:
        advice = "; give its user and password, as in http://user:password@host:port"
        raise ProxyError(
            f"it answered {head.status} {head.reason[:60].decode('latin-1')} to CONNECT"
            f"{advice if head.status == 407 else ''}"
        )
    if data or stream.is_readable:
        raise ProxyError("it sent more than its answer to CONNECT, before the tunnel was used")


async def _enter_socks(stream: Stream, proxy: Proxy, host: str, port: int) -> None:
    """Speak SOCKS5 (RFC 1928), with a password (RFC 1929) where there is one."""
    reader = _ExactReader(stream)
    await stream.write(b"\5\1\0" if proxy.user is None else b"\5\2\0\2")
    version, method = await reader.read(2)
    if version != 5:
        raise ProxyError("it does not speak SOCKS5; if it speaks HTTP, its URL begins with http://")
    if method == 2 and proxy.user is not None:
        await stream.write(b"\1" + _counted(proxy.user) + _counted(proxy.password.reveal()))
        if (await reader.read(2))[1] != 0:
            raise ProxyError("it refused the user or the password")
    elif method != 0:
        raise ProxyError("it wants another way to sign in; give socks5://user:password@host:port")
    await stream.write(b"\5\1\0" + _socks_address(host) + port.to_bytes(2))
    _, reply, _, kind = await reader.read(4)
    if reply != 0:
        raise ProxyError(f"it refused the connection: {_SOCKS_REFUSALS.get(reply, f'code {reply}')}")
    size = {1: 4, 4: 16}.get(kind) or (await reader.read(1))[0]
    await reader.read(size + 2)
    if reader.rest or stream.is_readable:
        raise ProxyError("it sent more than its answer, before the tunnel was used")


def _counted(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _socks_address(host: str) -> bytes:
    if not is_address(host):
        return b"\3" + _counted(host)
    address = ipaddress.ip_address(host)
    return (b"\1" if address.version == 4 else b"\4") + address.packed


class _ExactReader:
    """Reads so many bytes, and no less."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.rest: bytes = b""

    async def read(self, size: int) -> bytes:
        while len(self.rest) < size:
            self.rest += await _more(self._stream)
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


async def _more(stream: Stream) -> bytes:
    data = await stream.read()
    if not data:
        raise ProxyError("it closed the connection without an answer")
    return data


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
