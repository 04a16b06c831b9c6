"""A small proxy of the tests' own, for ``Server``: HTTP with CONNECT, and SOCKS5."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

from tests.servers import PATIENCE, Peer, answer


class Proxy:
    """Leads to wherever it is asked for.

    Args:
        user: Who may use it, with the password behind a colon ("": everybody).
        target: Where it leads to in any case, host and port (None: to what is asked for).

    Attributes:
        asked: What it was asked for: the first lines of requests, or host:port.
    """

    def __init__(self, user: str = "", target: tuple[str, int] | None = None) -> None:
        self.asked: list[str] = []
        self._user = user
        self._target = target

    def __call__(self, peer: Peer) -> None:
        """Speak HTTP."""
        while (request := peer.request()) is not None:
            line, _, rest = request.partition(b"\r\n")
            self.asked.append(line.decode())
            basic = b"Proxy-Authorization: Basic " + base64.b64encode(self._user.encode()) + b"\r\n"
            if self._user and basic not in rest:
                peer.send(answer(b"who?", "407 Proxy Authentication Required"))
                continue
            method, url, version = line.split(b" ")
            if method == b"CONNECT":
                host, _, port = url.decode().rpartition(":")
                with self._connect(host, int(port)) as upstream:
                    peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    splice(peer, upstream)
                return
            netloc, _, path = url.removeprefix(b"http://").partition(b"/")
            host, _, port = netloc.decode().rpartition(":")
            with self._connect(host, int(port)) as upstream:
                upstream.sendall(b"%b /%b %b\r\nConnection: close\r\n%b" % (method, path, version, rest))
                # Until either side leaves: not every server heeds that header.
                splice(peer, upstream)
            return

    def socks(self, peer: Peer) -> None:
        """Speak SOCKS5."""
        count = exactly(peer, 2)[1]
        methods = exactly(peer, count)
        wanted = 2 if self._user else 0
        if wanted not in methods:
            peer.send(b"\5\xff")
            return
        peer.send(bytes([5, wanted]))
        if wanted:
            exactly(peer, 1)
            name, password = (exactly(peer, exactly(peer, 1)[0]).decode() for _ in range(2))
            right = f"{name}:{password}" == self._user
            peer.send(b"\1\0" if right else b"\1\1")
            if not right:
                return
        kind = exactly(peer, 4)[3]
        if kind == 3:
            host = exactly(peer, exactly(peer, 1)[0]).decode()
        else:
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            host = socket.inet_ntop(family, exactly(peer, 4 if kind == 1 else 16))
        port = int.from_bytes(exactly(peer, 2))
        self.asked.append(f"{host}:{port}")
        with self._connect(host, port) as upstream:
            peer.send(b"\5\0\0\1" + bytes(6))
            splice(peer, upstream)

    def _connect(self, host: str, port: int) -> socket.socket:
        return socket.create_connection(self._target or (host.strip("[]"), port), timeout=PATIENCE)


def exactly(peer: Peer, size: int) -> bytes:
    """Return so many bytes."""
    data = b""
    while len(data) < size:
        piece = peer.sock.recv(size - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def splice(peer: Peer, upstream: socket.socket) -> None:
    """Pass on what either side sends, until one of them ends."""
    upstream.settimeout(None)

    def back() -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                peer.send(data)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=back, daemon=True)
    thread.start()
    with contextlib.suppress(OSError):
        while data := peer.sock.recv(65536):
            upstream.sendall(data)
    with contextlib.suppress(OSError):
        upstream.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)
