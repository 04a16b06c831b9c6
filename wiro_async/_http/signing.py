"""Credentials on the wire: added to a copy of the request, for the API's origin only.

``x-signature`` is the lower-case hex HMAC-SHA256 of secret + nonce, keyed with the API key, as the service's
model pages print it. Path, body and time are not signed, so the three headers together are as good as a
bearer token: nothing above or beside this module ever holds them.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import httpx

from wiro_async._config import Origin
from wiro_async._http.foreign import adapted
from wiro_async._http.messages import Request, Response
from wiro_async._types import Secret

__all__ = ["NonceSource", "Signer", "SigningTransport", "strip_traceback"]

NONCES = 2**53
"""How many there are."""


class NonceSource:
    """Integers that never repeat in this process, and are as good as never those of another one.

    It counts from a random start, so that processes and hosts that share a key need not know of each other:
    of 8 processes with a million calls each, two meet with a probability of 10**-8. The service takes "unix
    time or any random integer"; below 2**53, one that reads numbers as floats still tells them apart.

    Args:
        start: Returns a number from 0 to below 2**53, another one in each process.
    """

    def __init__(self, start: Callable[[], int] = lambda: secrets.randbelow(NONCES)) -> None:
        self._start = start
        self.begin()

    def begin(self) -> None:
        """Start anew. A forked child has to: it would go on where its parent does."""
        # A new lock, too: a thread that the child does not have may hold the old one for ever.
        self._lock: threading.Lock = threading.Lock()
        self._next: int = self._start()

    def __call__(self) -> int:
        """Return the next nonce."""
        with self._lock:
            nonce = self._next
            self._next = (nonce + 1) % NONCES
        return nonce


next_nonce = NonceSource()
"""The process's one source: two clients of one project must not share a nonce either."""

if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork, and this machine is not one
    os.register_at_fork(after_in_child=next_nonce.begin)


class _Sealed:
    """Holds a header that nothing shows: neither a repr nor ``vars()`` of its holder, nor a traceback."""

    __slots__ = ("header",)

    def __init__(self, header: tuple[bytes, bytes]) -> None:
        self.header: tuple[bytes, bytes] = header

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be copied or pickled: it holds credentials")


class Signer:
    """Makes the authentication headers of one project.

    The secrets are taken out of their ``Secret`` once, at construction. No frame of this class holds one in a
    local, because some tracebacks print those.

    Args:
        api_key: The project's key.
        api_secret: The project's secret (None: a key-only project).
        nonces: Where nonces come from.

    Raises:
        ValueError: A ``Secret`` came out of a pickle.
    """

    def __init__(
        self, api_key: Secret, api_secret: Secret | None, nonces: Callable[[], int] = next_nonce
    ) -> None:
        self._key: _Sealed = _Sealed((b"x-api-key", api_key.reveal().encode("ascii")))
        self._nonces = nonces
        # The signature's state after key and secret, which never change. Its repr shows neither.
        self._begun: hmac.HMAC | None = None
        if api_secret is not None:
            self._begun = hmac.new(self._key.header[1], api_secret.reveal().encode("ascii"), "sha256")

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers for one attempt, with a nonce of its own."""
        if self._begun is None:
            return [self._key.header]
        nonce = b"%d" % self._nonces()
        signature = self._begun.copy()
        signature.update(nonce)
        return [
            self._key.header,
            (b"x-nonce", nonce),
            (b"x-signature", signature.hexdigest().encode("ascii")),
        ]


class SigningTransport:
    """Signs requests to one origin, and keeps the credentials out of every exception that comes back.

    Args:
        inner: What sends.
        signer: The project's signer.
        origin: The only scheme, host and port that credentials may go to.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, signer: Signer, origin: Origin) -> None:
        self._inner = inner
        self._sender = adapted(inner)
        self._signer = signer
        self._origin = origin

    async def send(self, request: Request) -> Response:
        """Send a signed copy of *request*; *request* itself stays as it is.

        Raises:
            httpx.TransportError: As ``Sender.send``.
        """
        handled = sys.exception()
        try:
            if request.address.key != self._origin:
                return await self._sender.send(request)
            # Not in a local, which would outlive the stripping: it is of this frame.
            return await self._sender.send(
                Request(
                    request.address,
                    request.headers + self._signer.headers(),
                    request.body,
                    request.max_idle,
                    request.progress,
                    request.window,
                )
            )
        except BaseException as error:
            # The frames below hold the signed headers, and some tracebacks print their locals.
            raise strip_traceback(error, request, handled) from None

    async def aclose(self) -> None:
        """Close what sends."""
        await self._sender.aclose()


def strip_traceback(
    error: BaseException, request: Request, handled: BaseException | None = None
) -> BaseException:
    """Take the frames out of *error* and all that it came from, and the headers out of httpx's requests.

    Args:
        error: What was raised while *request* was signed and sent, or its answer read.
        request: The request as it was before it was signed.
        handled: What the caller was handling at that time. It is in the context of *error*, but older than
            the headers, so it keeps its frames.
    """
    seen: set[int] = {id(handled)}
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        link.__traceback__ = None
        if isinstance(link, httpx.RequestError):
            link.request = httpx.Request(request.address.method, request.address.url)
        chain += [link.__cause__, link.__context__]
        chain += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
    return error
