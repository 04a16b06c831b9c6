"""The service's calls: queue, sign, send, read with a cap, judge, and retry what is safe.

Reads go through ``call()``, which retries them. A paid Run is made in three steps, ``enter()``,
``exchange()`` and ``leave()``: only its caller knows what must be durable in between, and whether it may be
sent again.

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
import httpx

from wiro_async._aio import Gate, SendWindow, now, run_in_thread, running_loop
from wiro_async._config import Config
from wiro_async._errors import (
    AuthenticationError,
    ClientUseError,
    ConnectionFailed,
    InvalidResponse,
    TaskNotFound,
    WiroError,
)
from wiro_async._http.connections import address_of
from wiro_async._http.messages import Address, Content, Headers, Request, Sender
from wiro_async._http.retry import READS, Credentials, RetryBudget, is_transient
from wiro_async._http.signing import strip_traceback
from wiro_async._protocol.envelope import MAX_REPLY_BYTES, Reply, encode, judge, judge_anew
from wiro_async._protocol.matching import Skew
from wiro_async._protocol.operations import LIST, Operation, list_payload
from wiro_async._types import JSON, Payload
from wiro_async._version import __version__

__all__ = ["USER_AGENT", "Transport"]

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


class Transport:
    """Makes the service's calls.

    Args:
        config: The client's settings.
        http: What sends signed requests.
        chance: A source of random numbers between 0 and 1, for back-off.

    Attributes:
        gate: Lets ``Limits.max_in_flight`` requests through at a time.
        skew: How far the service's clock is ahead of ours, by its last page of Task/List (None: not known).
        paid_calls: How many Runs are under way, from ``enter()`` to ``leave()``.
        credentials: Whether a refusal of the client's credentials is believed.
    """

    def __init__(self, config: Config, http: Sender, chance: Callable[[], float] = random.random) -> None:
        self._http = http
        self._chance = chance
        self._limits = config.limits
        self._base = config.base_url
        self._addresses: dict[str, Address] = {}
        self._budget = RetryBudget()
        # What is left of a page of Task/List that was too large; every list shares it.
        self._page_size: int = sys.maxsize
        self.credentials: Credentials = Credentials()
        # The process and the event loop of the first use.
        self._home: tuple[int, object] | None = None
        self._closed = False
        self.skew: Skew | None = None
        self.paid_calls: int = 0
        self._paid_done: anyio.Event | None = None
        self.gate: Gate = Gate(config.limits.max_in_flight)

    # -- calls that cost nothing -------------------------------------------------------------------------

    async def call(
        self, operation: Operation, payload: JSON, *, until: float = math.inf, known: int | None = None
    ) -> Payload:
        """Make one call and return the payload of its answer.

        What failed in a way that may pass is tried again, as ``READS`` and the client's retry budget allow;
        so is a refusal of credentials that have worked, as ``Credentials`` says.

        Args:
            operation: Which call.
            payload: Its JSON body.
            until: When to give up at the latest, on the event loop's clock.
            known: The fingerprint of the answer that is known already (0: none is): an equal one is not
                decoded again, and ``UNCHANGED`` returned. None: all are decoded, and get no fingerprint.

        Raises:
            InvalidInput: The payload has no JSON form; nothing was sent.
            WiroError: The call brought no good answer; the class tells what can be done.
        """
        assert not operation.paid, "a Run that is tried again here could be paid for twice"
        # Not bytes: some tracebacks print locals, and there may be a token in it.
        body = Content(encode(payload))
        attempt, refused = 1, 0
        while True:
            await self._wait_for_slot(operation, until)
            try:
                deadline = min(now() + self._limits.request_timeout, until)
                answer = await self._exchange(operation, self._request(operation, body), deadline, known)
            except AuthenticationError:
                refused += 1
                pause = self.credentials.refused_read(refused)
                if pause is None:
                    raise
                logger.debug("%s: the credentials were refused; again in %.0f s", operation.name, pause)
                pause = min(pause, max(until - now(), 0.0))
            except WiroError as error:
                if not is_transient(error) or (isinstance(error, InvalidResponse) and error.too_large):
                    raise
                pause = READS.delay(attempt, self._chance(), getattr(error, "retry_after", None))
                if pause is None or now() + pause >= until or not self._budget.take():
                    raise
                logger.debug("%s: %s; again in %.2f s", operation.name, type(error).__name__, pause)
            else:
                if not self._budget.is_full:
                    self._budget.credit()
                return answer
            finally:
                self.gate.leave()
            await anyio.sleep(pause)
            attempt += 1

    async def tasks(self, model: str | None, start: int, limit: int, *, until: float = math.inf) -> Payload:
        """Read a page of Task/List, which may be empty: the service then says that there is no task yet.

        The logs of a hundred tasks can be more than is read of a reply. Then half as many are asked for, and
        so on, down to one; pages that follow are as small, until the first page of a list shows that a larger
        one can be read again.

        Args:
            model: Only tasks of this model (None: of all).
            start: How many of the newest are left out.
            limit: How many are wanted.
            until: As for ``call()``.

        Raises:
            WiroError: As for ``call()``.
        """
        size = limit if start == 0 else min(limit, self._page_size)
        while True:
            try:
                page = await self.call(LIST, list_payload(model, start, size), until=until)
            except TaskNotFound:
                return Payload(tasklist=[])
            except InvalidResponse as error:
                if not error.too_large or size <= 1:
                    raise
                size = self._page_size = size // 2
                continue
            if size > self._page_size:
                self._page_size = sys.maxsize
            return page

    async def upload(
        self, operation: Operation, headers: Headers, body: httpx.AsyncByteStream, until: float = math.inf
    ) -> Payload:
        """Make one call whose body is streamed. It is made once: a stream cannot be read twice.

        Args:
            operation: Which call.
            headers: The headers that describe the body.
            body: The body.
            until: When to give up at the latest, on the event loop's clock.

        Raises:
            WiroError: As for ``call()``.
        """
        await self._wait_for_slot(operation, until)
        try:
            request = Request(self._address(operation), headers, body, operation.max_idle)
            return await self._exchange(operation, request, min(now() + self._limits.upload_timeout, until))
        finally:
            self.gate.leave()

    # -- Runs --------------------------------------------------------------------------------------------

    async def enter(self, operation: Operation, until: float = math.inf) -> None:
        """Wait for one of the ``Limits.max_in_flight`` slots, to make a Run in.

        Whoever gets one must call ``leave()``; closing the client waits for that.

        Args:
            operation: Which Run.
            until: When to give up at the latest, on the event loop's clock.

        Raises:
            ClientUseError: The client is closed, or belongs to another event loop or process.
            ConnectionFailed: No slot came free within ``Limits.slot_timeout``; nothing was sent.
        """
        await self._wait_for_slot(operation, until)
        self.paid_calls += 1

    async def exchange(self, operation: Operation, body: bytes, window: SendWindow) -> Payload:
        """Send a Run once and return the payload of its answer; it is never sent again from here.

        The caller has a slot, and shields this from cancellation: a Run whose answer is not read may have
        been paid for. It ends within ``Limits.request_timeout``.

        Args:
            operation: Which Run.
            body: Its JSON body, encoded.
            window: When it leaves, or not at all.

        Raises:
            WiroError: There was no good answer; ``run_knowledge`` tells what that says of the Run.
        """
        request = self._request(operation, Content(body))
        request.window = window
        del body  # Some tracebacks print locals.
        try:
            return await self._exchange(operation, request, now() + self._limits.request_timeout)
        except AuthenticationError as error:
            error.passing = self.credentials.refused_run(now())
            raise

    def leave(self) -> None:
        """Give the slot of a Run back."""
        self.gate.leave()
        self.paid_calls -= 1
        if self.paid_calls == 0 and self._paid_done is not None:
            self._paid_done.set()

    # -- one exchange ------------------------------------------------------------------------------------

    async def _wait_for_slot(self, operation: Operation, until: float) -> None:
        self.check_use()
        if self.gate.enter_nowait():
            return
        if not await self.gate.enter(operation.priority, min(now() + self._limits.slot_timeout, until)):
            raise ConnectionFailed(
                f"{operation.name}: no free slot in time: {self._limits.max_in_flight} requests are in "
                f"flight; raise Limits.max_in_flight or Limits.slot_timeout",
                sent=False,
                operation=operation.name,
            )
        if self._closed:
            # Whoever closes the client has not waited for this one.
            self.gate.leave()
            self.check_use()

    def check_open(self) -> None:
        """Refuse a closed client.

        Raises:
            ClientUseError: It is one.
        """
        if self._closed:
            raise ClientUseError(
                "this client is closed; make a new one, or call within its `async with` block"
            )

    def check_use(self) -> None:
        """Refuse what would hang or corrupt: a closed client, another event loop, a forked child.

        Raises:
            ClientUseError: It is one of these.
        """
        self.check_open()
        home = (os.getpid(), running_loop() or anyio.lowlevel.current_token())
        if self._home is None:
            self._home = home
        elif self._home[0] != home[0]:
            raise ClientUseError("this client was used before a fork; make a new one in the child process")
        elif self._home[1] != home[1]:
            raise ClientUseError("this client belongs to another event loop; make one client per event loop")

    def _request(self, operation: Operation, body: Content) -> Request:
        headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body.data))]
        return Request(self._address(operation), headers, body, operation.max_idle)

    def _address(self, operation: Operation) -> Address:
        address = self._addresses.get(operation.path)
        if address is None:
            url = httpx.URL(f"{self._base}/{operation.path}")
            address = address_of(url, [(b"Host", url.netloc), *_HEADERS])
            # Each model's Run has an address of its own, and there is no end of models.
            if len(self._addresses) < 1000:
                self._addresses[operation.path] = address
        return address

    async def _exchange(
        self, operation: Operation, request: Request, deadline: float, known: int | None = None
    ) -> Payload:
        """Send one request, read its answer to the end and judge it, all before the deadline."""
        problem: WiroError | None = None
        try:
            with anyio.CancelScope(deadline=deadline):
                reply = await self._send(operation, request)
                if len(reply.body) > SMALL_REPLY:
                    # Piece by piece in a worker thread, so that the event loop gets its turn in between.
                    payload = await run_in_thread(judge, reply)
                else:
                    payload = judge(reply) if known is None else judge_anew(reply, known)
                self.credentials.worked, self.credentials.runs_refused = True, 0
                return payload
        except WiroError as error:
            problem = error
        except Exception as error:
            problem = _broken(operation, request, error)
        # Outside of the handler, and without the frames below: those hold the reply's bytes, which some
        # tracebacks would print.
        problem = problem or _broken(operation, request, None)
        raise problem.with_traceback(None)

    async def _send(self, operation: Operation, request: Request) -> Reply:
        """Send one request and read its answer to the end, or to ``MAX_REPLY_BYTES``."""
        handled = sys.exception()
        asked = time.time()
        response = await self._http.send(request)
        try:
            if operation is LIST:
                # Not of every reply: reading a date takes longer than the whole decoding of a small one.
                self.skew = Skew.told(response.header("date"), asked, time.time())
            encoding = response.header("content-encoding")
            if encoding.lower() not in ("", "identity"):
                raise InvalidResponse(
                    f"{operation.name}: the reply is encoded as {encoding[:40]!r}, which was not asked for",
                    http_status=response.status,
                    operation=operation.name,
                )
            body = await response.read(MAX_REPLY_BYTES)
            if len(body) > MAX_REPLY_BYTES:
                raise InvalidResponse(
                    f"{operation.name}: the reply is larger than {MAX_REPLY_BYTES} bytes",
                    http_status=response.status,
                    operation=operation.name,
                    too_large=True,
                )
        except BaseException as error:
            raise strip_traceback(error, request, handled) from None
        finally:
            await response.aclose()
        return Reply(operation.name, response.status, body, response.header("retry-after"), time.time())

    async def aclose(self) -> None:
        """Wait for the Runs under way, from ``enter()`` to ``leave()``, then close the connections."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            if self.paid_calls:
                if self._paid_done is None:
                    self._paid_done = anyio.Event()
                await self._paid_done.wait()
            await self._http.aclose()


def _broken(operation: Operation, request: Request, error: Exception | None) -> ConnectionFailed:
    """Say what became of a request whose exchange failed with *error* (None: its time ran out)."""
    sent = request.progress.sent
    if sent is None:
        # The transport does not tell, so what it raised must; a silent one may have sent all of it.
        sent = not isinstance(error, _NOT_SENT)
    if error is None:
        what = "no complete answer in time; see Limits.request_timeout and upload_timeout"
        if request.progress.through:
            what += f"; it went through {request.progress.through}"
    else:
        what = "the connection broke before the answer was in" if sent else "the service was not reached"
        what += f" ({type(error).__name__}: {str(error) or 'no details'})"
    return ConnectionFailed(f"{operation.name}: {what}", sent=sent, operation=operation.name)
