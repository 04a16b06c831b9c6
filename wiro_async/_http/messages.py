"""Requests and replies as the senders of this room exchange them: httpx's cost several times as much."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Protocol

import attrs
import httpx

from wiro_async._aio import SendWindow

__all__ = [
    "DEFAULT_MAX_IDLE",
    "MAX_IDLE",
    "PORTS",
    "PROGRESS",
    "Address",
    "Content",
    "Headers",
    "Key",
    "Request",
    "Response",
    "SendProgress",
    "Sender",
]

MAX_IDLE = "wiro_async.max_idle"
"""Extension of httpx's requests: ``Request.max_idle``."""

PROGRESS = "wiro_async.progress"
"""Extension of httpx's requests: ``Request.progress``."""

DEFAULT_MAX_IDLE = 5.0
"""Seconds after which an idle connection is not used, unless a request says otherwise."""

PORTS = {"http": 80, "https": 443}

Key = tuple[str, str, int]
"""Scheme, host and port: what a connection leads to."""

Headers = list[tuple[bytes, bytes]]


@attrs.define(eq=False)
class SendProgress:
    """How far a request has come.

    Attributes:
        sent: Whether any byte of it may have left. None: the transport does not tell.
        through: The proxy that it goes through ("": none, or the transport does not tell).
    """

    sent: bool | None = None
    through: str = ""


@attrs.define(eq=False, repr=False, slots=False)
class Content(httpx.AsyncByteStream):
    """A request's body in memory.

    httpx's own is an async generator, which a cancelled request would leave to the garbage collector.
    Its repr does not show what may be a token.

    Args:
        data: The whole body.
    """

    data: bytes = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once([self.data])


@attrs.define(eq=False, repr=False)
class _Once:
    """Yields one piece."""

    _pieces: list[bytes]

    def __aiter__(self) -> _Once:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


@attrs.frozen(eq=False, repr=False)
class Address:
    """Where requests go, and the headers that all of them have; made once by ``address_of``, used often.

    Attributes:
        method: The method.
        url: The URL.
        headers: The headers, ``Host`` among them.
        key: What a connection for it leads to.
        head: Request line and headers, as they are sent.
    """

    method: str
    url: httpx.URL
    headers: Headers
    key: Key
    head: bytes


@attrs.define(eq=False, repr=False)
class Request:
    """One request. Its repr shows nothing, for a signed one holds credentials.

    Attributes:
        address: Where it goes.
        headers: The headers beyond those of the address.
        body: Its body; a ``Content`` where it is in memory.
        max_idle: Seconds after which an idle connection is not used for it.
        progress: How far it has come.
        window: When it leaves, or not at all (None: at any time).
    """

    address: Address
    headers: Headers
    body: httpx.AsyncByteStream
    max_idle: float = DEFAULT_MAX_IDLE
    progress: SendProgress = attrs.field(factory=SendProgress)
    window: SendWindow | None = None


class Response(ABC):
    """A reply whose body has yet to be read."""

    status: int

    @abstractmethod
    def header(self, name: str) -> str:
        """Return a header's value ("" where it is missing), its name given in lower case."""

    @abstractmethod
    async def read(self, limit: int) -> bytearray:
        """Return the body; of one that is longer than *limit*, a part that is too."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give up what was not read."""


class Sender(Protocol):
    """What sends requests."""

    async def send(self, request: Request) -> Response:
        """Send one request, and return the reply once its head is there.

        Raises:
            httpx.TransportError: There is none.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
