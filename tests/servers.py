"""A scripted TCP server on loopback, in threads of its own, so that it serves every event loop alike.

It sends exactly the bytes it is told to, in the pieces it is told to, and can stay silent, reset, half-close
and say what it received and how its peer left.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import anyio
import pytest

PATIENCE = 60.0
"""Seconds after which a test that waits for something is a test that failed."""

LOOPS = [
    pytest.param("asyncio", id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param("trio", id="trio"),
]
"""What our own connections run on: asyncio's own loop, uvloop and trio."""


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Import this into a test module, to run every async test of it on all of these."""
    return request.param


class Peer:
    """The server's side of one connection.

    Attributes:
        number: Its place among the server's connections, from 0.
        received: Every byte that came.
        packets: The same, as the system calls returned it.
        left: How the other side ended: "" (not yet), "eof" or "reset".
    """

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock: socket.socket = sock
        self.number: int = number
        self.received: bytearray = bytearray()
        self.packets: list[bytes] = []
        self.left: str = ""
        self.gone: threading.Event = threading.Event()
        self._buffer = bytearray()

    def _receive(self) -> bool:
        """Take what comes next; False when nothing more will come."""
        try:
            data = self.sock.recv(1024 * 1024)
        except OSError:
            self.left = "reset"
            data = b""
        if not data:
            self.left = self.left or "eof"
            self.gone.set()
            return False
        self.received += data
        self.packets.append(data)
        self._buffer += data
        return True

    def request(self) -> bytes | None:
        """Return the next request, head and body; None when the other side has left."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
        head, _, _ = bytes(self._buffer).partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        end = len(head) + 4 + length
        while len(self._buffer) < end:
            if not self._receive():
                return None
        request = bytes(self._buffer[:end])
        del self._buffer[:end]
        return request

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        self.sock.sendall(data)

    def drip(self, data: bytes, size: int = 1) -> None:
        """Send *data* in packets of *size* bytes."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            self.sock.sendall(data[start : start + size])

    def send_corked(self, *parts: bytes) -> None:
        """Send several writes, so several TLS records, in one packet."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for part in parts:
            self.sock.sendall(part)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        """Say that nothing more will come, and stay open for reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def hold(self) -> None:
        """Say nothing, and read until the other side leaves."""
        while self._receive():
            pass


Handler: TypeAlias = Callable[[Peer], None]


class Server:
    """Accepts connections on a loopback port, and runs *handler* for each one in a thread.

    A handler that returns leaves a closed connection behind. Errors of the socket mean that the other side
    is gone; anything else is a bug of the test, and raised when the server stops.

    Args:
        handler: What to do with a connection.
        tls: TLS settings (None: plain).
        receive_buffer: The size of the socket's receive buffer in bytes (None: the system's).
    """

    def __init__(
        self, handler: Handler, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self.peers: list[Peer] = []
        self.stopping: threading.Event = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """The server's address, without a final slash."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.stopping.is_set():
                sock.close()
                return
            peer = Peer(sock, len(self.peers))
            self.peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._tls is not None:
                peer.sock = self._tls.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
                peer.sock.do_handshake()
            self._handler(peer)
        except OSError:
            peer.left = peer.left or "reset"
        except BaseException as error:
            self._errors.append(error)
        finally:
            peer.sock.close()
            peer.gone.set()

    def __enter__(self) -> Server:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.stopping.set()
        # A connection of our own wakes the accept; closing the listener alone would not. It asks no resolver,
        # as a test may have replaced it.
        with contextlib.suppress(OSError), socket.socket() as waking:
            waking.settimeout(PATIENCE)
            waking.connect(("127.0.0.1", self.port))
        self._accepting.join(PATIENCE)
        self._listener.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._errors and error is None:
            raise self._errors[0]


async def until(condition: Callable[[], object]) -> None:
    """Return once *condition* holds; it is a thread's or the kernel's to fulfil, so it is asked again."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  (the kernel sets no event)
            await anyio.sleep(0.002)


def wait_until(condition: Callable[[], object]) -> None:
    """Do the same in a test that runs no event loop."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def answer(
    body: bytes = b"", status: str = "200 OK", headers: Iterable[str] = (), *, length: bool = True
) -> bytes:
    """Return an HTTP/1.1 response as bytes."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*chunks: bytes) -> bytes:
    """Return *chunks* in HTTP's chunked transfer coding, with the final one."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def replies(*scripts: bytes) -> Handler:
    """Return a handler that answers a connection's requests with *scripts*, then reads on."""

    def handler(peer: Peer) -> None:
        for script in scripts:
            if peer.request() is None:
                return
            peer.send(script)
        peer.hold()

    return handler


def echo(peer: Peer) -> None:
    """Answer each request with its own path, for as long as requests come."""
    while (request := peer.request()) is not None:
        peer.send(answer(request.split(b" ", 2)[1]))


def refused_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@functools.cache
def _tls_settings() -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, key)
        client = ssl.create_default_context(cafile=str(certificate))
    return server, client


def trusted_file(folder: Path) -> Path:
    """Write the certificate that ``tls_settings()`` has its client trust, and return the file."""
    _, client = tls_settings()
    file = folder / "company.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(client.get_ca_certs(binary_form=True)[0]))
    return file


def tls_settings() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS settings for a server with a certificate of its own, and for a client that trusts it."""
    settings = _tls_settings()
    if settings is None:
        pytest.skip("the openssl command, which makes the certificate, is not installed")
    return settings
