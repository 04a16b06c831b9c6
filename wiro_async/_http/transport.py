"""One verb, ``call``: queue, sign, send, read with a cap, judge, and retry what is safe.

The one place where foreign exceptions become ours.
"""

from __future__ import annotations

import logging
import math
import os
import random
import sys
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx

from wiro_async._aio.shield import finish
from wiro_async._aio.waiting import Gate, now, running_loop
from wiro_async._config import Config
from wiro_async._errors import ClientUseError, ConnectionFailed, InvalidResponse, TaskNotFound, WiroError
from wiro_async._http.connections import Address, Content, Request, Sender, SendProgress
from wiro_async._http.retry import MAX_ATTEMPTS, RetryBudget, backoff, is_transient, run_may_repeat
from wiro_async._http.signing import strip_traceback
from wiro_async._protocol.envelope import MAX_REPLY_BYTES, Reply, encode, judge, judge_anew
from wiro_async._protocol.operations import LIST, Operation, list_payload
from wiro_async._types import JSON, Payload
from wiro_async._version import __version__

__all__ = ["USER_AGENT", "Late", "Transport"]

logger = logging.getLogger("wiro_async")

USER_AGENT = f"wiro-async/{__version__}"

_HEADERS = [
    (b"User-Agent", USER_AGENT.encode()),
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"identity"),
]

SMALL_REPLY = 64 * 1024
"""Up to this many bytes a reply is decoded on the event loop, in about a millisecond at most."""

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""What httpx raises before the first byte of a request has left."""

Late = Callable[[JSON | WiroError], object]
"""Gets what became of a call whose caller was cancelled while it was under way."""


class Transport:
    """Makes the service's calls.

    Args:
        config: The client's settings.
        http: What sends signed requests.
        chance: A source of random numbers between 0 and 1, for back-off.
    """

    def __init__(self, config: Config, http: Sender, chance: Callable[[], float] = random.random) -> None:
        self._http = http
        self._chance = chance
        self._limits = config.limits
        self._base = config.base_url
        self._addresses: dict[str, Address] = {}
        self._budget = RetryBudget()
        self._home: tuple[int, object] | None = None
        self._closed = False
        self._paid_calls = 0
        self._paid_done: anyio.Event | None = None
        self.gate: Gate = Gate(config.limits.max_in_flight)

    async def call(
        self,
        operation: Operation,
        payload: JSON,
        late: Late = lambda _: None,
        *,
        until: float = math.inf,
        known: int | None = None,
    ) -> Payload:
        """Make one call and return the payload of its answer.

        Reads are retried on whatever may pass; a Run only when it is known not to have been taken.

        Args:
            operation: Which call.
            payload: Its JSON body.
            late: For a paid call: gets the answer, or the error, when the caller was cancelled meanwhile.
            until: When to give up at the latest, on the event loop's clock.
            known: The fingerprint of the answer that is known already (0: none is): an equal one is not
                decoded again, and ``UNCHANGED`` returned. None: all are decoded, and get no fingerprint.

        Raises:
            WiroError: The call brought no good answer; the class tells what can be done.
        """
        headers, body = _json_body(payload)
        may_repeat = run_may_repeat if operation.paid else is_transient
        attempt = 1
        while True:
            try:
                answer = await self._attempt(operation, headers, body, late, until=until, known=known)
            except WiroError as error:
                if attempt >= MAX_ATTEMPTS or not may_repeat(error) or not self._budget.take():
                    raise
                delay = backoff(attempt, self._chance(), getattr(error, "retry_after", None))
                if now() + delay >= until:
                    raise
                logger.debug("%s: %s; again in %.2f s", operation.name, type(error).__name__, delay)
            else:
                self._budget.credit()
                return answer
            await anyio.sleep(delay)
            attempt += 1

    async def tasks(self, model: str | None, start: int, limit: int) -> Payload:
        """Read a page of Task/List, which may be empty: the service then says that there is no task yet.

        Raises:
            WiroError: As for ``call()``.
        """
        try:
            return await self.call(LIST, list_payload(model, start, limit))
        except TaskNotFound:
            return Payload(tasklist=[])

    async def upload(
        self,
        operation: Operation,
        headers: list[tuple[bytes, bytes]],
        body: httpx.AsyncByteStream,
        until: float = math.inf,
    ) -> Payload:
        """Make one call whose body is streamed. It is made once: a stream cannot be read twice."""
        return await self._attempt(
            operation, headers, body, lambda _: None, timeout=self._limits.upload_timeout, until=until
        )

    async def _attempt(
        self,
        operation: Operation,
        headers: list[tuple[bytes, bytes]],
        body: httpx.AsyncByteStream,
        late: Late,
        *,
        timeout: float | None = None,
        until: float = math.inf,
        known: int | None = None,
    ) -> Payload:
        """Wait for a slot, then make one exchange; a paid one is not cut in half by a cancellation."""
        self.check_use()
        if not self.gate.enter_nowait():
            await self._queue(operation, until)
        deadline = min(now() + (timeout or self._limits.request_timeout), until)
        try:
            request = Request(self._address(operation), headers, body, operation.max_idle)
            if operation.paid:
                return await self._paid(operation, request, deadline, late)
            return await self._exchange(operation, request, deadline, known)
        finally:
            self.gate.leave()

    async def _queue(self, operation: Operation, until: float) -> None:
        if await self.gate.enter(operation.priority, min(now() + self._limits.slot_timeout, until)):
            return
        raise ConnectionFailed(
            f"{operation.name}: no free slot in time: {self._limits.max_in_flight} requests are in flight; "
            f"raise Limits.max_in_flight or Limits.slot_timeout",
            sent=False,
            operation=operation.name,
        )

    async def _paid(self, operation: Operation, request: Request, deadline: float, late: Late) -> Payload:
        async def exchange() -> Payload | WiroError:
            try:
                return await self._exchange(operation, request, deadline)
            except WiroError as error:
                return error
            except BaseException:
                # The end of asyncio.run(), or Ctrl-C on trio: nothing holds those off.
                late(_cut_off(operation, request))
                raise

        self._paid_calls += 1
        try:
            outcome = await finish(exchange, late)
        finally:
            self._paid_calls -= 1
            if self._paid_calls == 0 and self._paid_done is not None:
                self._paid_done.set()
        if isinstance(outcome, WiroError):
            raise outcome
        return outcome

    def check_use(self) -> None:
        """Refuse what would hang or corrupt: a closed client, another event loop, a forked child."""
        if self._closed:
            raise ClientUseError(
                "this client is closed; make a new one, or call within its `async with` block"
            )
        home = (os.getpid(), running_loop() or anyio.lowlevel.current_token())
        if self._home is None:
            self._home = home
        elif self._home[0] != home[0]:
            raise ClientUseError("this client was used before a fork; make a new one in the child process")
        elif self._home[1] != home[1]:
            raise ClientUseError("this client belongs to another event loop; make one client per event loop")

    def _address(self, operation: Operation) -> Address:
        address = self._addresses.get(operation.path)
        if address is None:
            url = httpx.URL(f"{self._base}/{operation.path}")
            headers = [(b"Host", url.netloc), *_HEADERS]
            address = Address(url, headers)
            if len(self._addresses) < 1000:
                self._addresses[operation.path] = address
        return address

    async def _exchange(
        self, operation: Operation, request: Request, deadline: float, known: int | None = None
    ) -> Payload:
        """Send one request and read its answer to the end, within the deadline."""
        problem: WiroError | None = None
        try:
            with anyio.CancelScope(deadline=deadline):
                return await _judged(await self._send(operation, request), known)
        except WiroError as error:
            problem = error
        except Exception as error:
            problem = _translate(operation, request, error)
        # Outside of the handler, and without the frames below: those hold the reply's bytes, which some
        # tracebacks would print.
        problem = problem or _too_late(operation, request)
        raise problem.with_traceback(None)

    async def _send(self, operation: Operation, request: Request) -> Reply:
        handled = sys.exception()
        response = await self._http.send(request)
        try:
            encoding = response.header("content-encoding")
            if encoding.lower() not in ("", "identity"):
                raise InvalidResponse(
                    f"{operation.name}: the reply is encoded as {encoding[:40]!r}; not as asked for",
                    http_status=response.status,
                    operation=operation.name,
                )
            body = await response.read(MAX_REPLY_BYTES)
            if len(body) > MAX_REPLY_BYTES:
                raise InvalidResponse(
                    f"{operation.name}: the reply is larger than {MAX_REPLY_BYTES} bytes",
                    http_status=response.status,
                    operation=operation.name,
                )
        except BaseException as error:
            raise strip_traceback(error, request, handled) from None
        finally:
            await response.aclose()
        return Reply(operation.name, response.status, body, response.header("retry-after"), time.time())

    async def aclose(self) -> None:
        """Wait for the paid calls under way, each within its deadline, then close the connections."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            if self._paid_calls:
                self._paid_done = anyio.Event()
                await self._paid_done.wait()
            await self._http.aclose()


async def _judged(reply: Reply, known: int | None) -> Payload:
    if len(reply.body) <= SMALL_REPLY:
        return judge(reply) if known is None else judge_anew(reply, known)
    # Piece by piece in a worker thread, so that the event loop gets its turn in between.
    return await anyio.to_thread.run_sync(judge, reply)


def _json_body(payload: JSON) -> tuple[list[tuple[bytes, bytes]], httpx.AsyncByteStream]:
    content = encode(payload)
    headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(content))]
    return headers, Content(content)


def _sent_nothing(error: Exception, progress: SendProgress) -> bool:
    """Whether it is certain that no byte of the request reached the service."""
    if progress.sent is not None:
        return not progress.sent
    return isinstance(error, _NOT_SENT)


def _translate(operation: Operation, request: Request, error: Exception) -> WiroError:
    sent = not _sent_nothing(error, request.progress)
    what = str(error) or "no details"
    if not sent:
        return ConnectionFailed(
            f"{operation.name}: the service was not reached ({type(error).__name__}: {what})",
            sent=False,
            operation=operation.name,
        )
    return ConnectionFailed(
        f"{operation.name}: the connection broke before the answer was in ({type(error).__name__}: {what})",
        sent=True,
        operation=operation.name,
    )


def _too_late(operation: Operation, request: Request) -> WiroError:
    return _unanswered(operation, request, "no whole answer in time; see Limits.request_timeout")


def _cut_off(operation: Operation, request: Request) -> WiroError:
    return _unanswered(operation, request, "the program ended before the answer was in")


def _unanswered(operation: Operation, request: Request, why: str) -> WiroError:
    sent = request.progress.sent is not False
    return ConnectionFailed(f"{operation.name}: {why}", sent=sent, operation=operation.name)
