"""Credentials on the wire: added to a copy of the request, for the API's origin only.

``x-signature`` is the lower-case hex HMAC-SHA256 of secret + nonce, keyed with the API key, as the service's
model pages print it. Path, body and time are not signed, so the three headers together are as good as a
bearer token: nothing above or beside this module ever holds them.
"""

from __future__ import annotations

import hmac
import sys
import threading
import time
from collections.abc import Callable

import httpx

from wiro_async._config import Origin
from wiro_async._types import Secret

__all__ = ["NonceSource", "Signer", "SigningTransport", "strip_traceback"]


class NonceSource:
    """Integers that never repeat in this process, whatever its threads and clock do.

    Microseconds since 1970, or one more than the last: below 2**53 until the year 2255, so that a service
    that reads numbers as floats still tells them apart.

    Args:
        clock: The time of day in nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Return the next nonce."""
        with self._lock:
            self._last = max(self._last + 1, self._clock() // 1000)
            return self._last


next_nonce = NonceSource()
"""The process's one source: two clients of one project must not share a nonce either."""


class Signer:
    """Makes the authentication headers of one project.

    Args:
        api_key: The project's key.
        api_secret: The project's secret (None: a key-only project).
        nonces: Where nonces come from.
    """

    def __init__(
        self, api_key: Secret, api_secret: Secret | None, nonces: Callable[[], int] = next_nonce
    ) -> None:
        self._key = api_key
        self._secret = api_secret
        self._nonces = nonces

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers for one attempt; every call uses a fresh nonce."""
        key = self._key.reveal().encode("ascii")
        if self._secret is None:
            return [(b"x-api-key", key)]
        nonce = str(self._nonces()).encode("ascii")
        signature = hmac.digest(key, self._secret.reveal().encode("ascii") + nonce, "sha256").hex()
        return [(b"x-api-key", key), (b"x-nonce", nonce), (b"x-signature", signature.encode("ascii"))]


class SigningTransport(httpx.AsyncBaseTransport):
    """Signs what goes to one origin, and lets no trace of that come back.

    Args:
        inner: The transport that sends.
        signer: The project's signer.
        origin: The only scheme, host and port that credentials may go to.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, signer: Signer, origin: Origin) -> None:
        self._inner = inner
        self._signer = signer
        self._origin = origin

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a signed copy of *request*; *request* itself stays as it is."""
        handled = sys.exception()
        try:
            response = await self._inner.handle_async_request(self._signed(request))
        except BaseException as error:
            # The frames below hold the signed headers, and some tracebacks print their locals.
            raise strip_traceback(error, request, handled) from None
        response.request = request
        return response

    def _signed(self, request: httpx.Request) -> httpx.Request:
        headers = request.headers.raw
        if _origin(request.url) == self._origin:
            headers = [*headers, *self._signer.headers()]
        return httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._inner.aclose()


def _origin(url: httpx.URL) -> Origin:
    # The host as it is sent: `url.host` would decode an international name.
    host = url.raw_host.decode("ascii")
    return url.scheme, host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def strip_traceback(
    error: BaseException, request: httpx.Request, handled: BaseException | None = None
) -> BaseException:
    """Take the frames out of *error* and all that it came from; httpx's errors get the unsigned request.

    Args:
        error: What was raised while *request* was signed and sent.
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
            link.request = request
        chain += [link.__cause__, link.__context__]
        chain += link.exceptions if isinstance(link, BaseExceptionGroup) else ()
    return error
