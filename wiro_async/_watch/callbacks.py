"""Being told by the service: a small ASGI app that takes its callbacks.

The service does not sign them, so nothing that they say is believed. What is checked is the address: it holds
a MAC that only its maker could write. A genuine callback makes its task's next poll due, and does nothing
else: whoever learns an address can cause a poll now and then, and one that never comes costs time only.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, final
from urllib.parse import quote, unquote_to_bytes

import anyio
import anyio.lowlevel
import attrs

from wiro_async._aio import on_asyncio
from wiro_async._config import check_url
from wiro_async._errors import ClientUseError, ConfigurationError, InvalidInput
from wiro_async._types import Record, Secret

if TYPE_CHECKING:
    import trio

__all__ = ["CallbackCounts", "CallbackReceiver", "CallbackURL"]

MAX_BODY = 1024 * 1024
"""Bytes of a callback's body that are taken, only to be thrown away."""

BODY_SECONDS = 10.0
"""Seconds that a body may take to arrive: servers such as uvicorn set no limit."""

SPACING = 2.0
"""Seconds between two wakes of one task."""

EARLY_KEPT = 10_000
"""Jobs remembered whose callback came before anybody waited, or while another process does."""

LEAST_KEY = 16
"""Bytes of a key, at least: 128 bits."""

LONGEST_JOB = 200

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@final
class CallbackURL(str):
    """An address for one job's callback, as ``CallbackReceiver.url_for`` returns it.

    It is the address itself, to be sent as it is. Its repr leaves the MAC out. Out of a pickle comes a plain
    ``str``, for there is no receiver on the other side.

    Args:
        url: The whole address.
        receiver: What answers there.
        job: The job's name.

    Attributes:
        receiver: What answers there.
        job: The job's name.
    """

    __slots__ = ("job", "receiver")

    receiver: CallbackReceiver
    job: str

    def __new__(cls, url: str, receiver: CallbackReceiver, job: str) -> CallbackURL:
        self = super().__new__(cls, url)
        self.receiver = receiver
        self.job = job
        return self

    def __repr__(self) -> str:
        return f"<CallbackURL {self.rpartition('/')[0]}/...>"

    def __copy__(self) -> CallbackURL:
        return self

    def __deepcopy__(self, _memo: object) -> CallbackURL:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


@attrs.frozen
class CallbackCounts(Record):
    """What a receiver has seen since it was made.

    Attributes:
        received: Requests to a genuine address that were answered with 202.
        woken: How often a waiting task was woken for them.
        refused: Requests that were answered otherwise.
    """

    received: int = 0
    woken: int = 0
    refused: int = 0


@final
class CallbackReceiver:
    """Takes the service's callbacks: an ASGI app to mount in your own, under the path of *public_url*.

    ::

        receiver = wiro_async.CallbackReceiver("https://example.org/wiro", keys=[key])
        app.mount("/wiro", receiver)  # FastAPI and Starlette
        task = await client.submit(model, inputs, callback_url=receiver.url_for(), watch="callback")

    Each address holds an HMAC of its job under a key of this receiver's own, compared in constant time: any
    other address is a 404, whatever is wrong with it. A POST of at most 1 MiB that arrives within 10 s is
    answered with 202, and makes the task's next poll due: at once, or 2 s after the one before. Its body is
    thrown away.

    Several web processes need the same keys. A callback that reaches another process than the waiting one is
    answered with 202 and has no effect there; the slow poll finds the end, as it does when none ever comes.

    Its repr shows no key.

    Args:
        public_url: Where the service reaches this app, such as ``https://example.org/wiro``. Plain http is
            for loopback addresses only.
        keys: One or two keys of at least 16 bytes; not the API key. The first one signs, both are accepted,
            so that a key can be changed. Without any, a random one serves as long as this object lives.

    Raises:
        ConfigurationError: The address or a key cannot work.
    """

    def __init__(self, public_url: str, *, keys: Sequence[str | bytes | Secret] = ()) -> None:
        # The app may run in another thread than those who wait. Reentrant, because the garbage collector,
        # which runs at any moment, may end a binding.
        self._lock = threading.RLock()
        self._bound: dict[bytes, list[_Binding]] = {}
        self._early: dict[bytes, bool] = {}
        self._counts: CallbackCounts = CallbackCounts()
        self._public_url: str = ""
        self._signers: tuple[hmac.HMAC, ...] = ()
        problem: ValueError | None = None
        try:
            self._public_url = check_url("public_url", public_url, "https")
            self._signers = tuple(_signers(keys))
        except ValueError as error:
            problem = error.with_traceback(None)
        # Some tracebacks print the locals of their frames.
        del keys
        if problem is not None:
            raise problem

    @property
    def public_url(self) -> str:
        """Where the service reaches this app, without a final slash."""
        return self._public_url

    @property
    def counts(self) -> CallbackCounts:
        """What this receiver has seen since it was made."""
        return self._counts

    def url_for(self, job: str | None = None) -> CallbackURL:
        """Return the address for one job's callback.

        Args:
            job: Your name for it, 1 to 200 printable characters (None: a random one). The service keeps it
                with the task. Tasks of one name are woken together. A "/" in it is encoded, which not every
                proxy passes on.

        Raises:
            InvalidInput: The name cannot be part of an address.
        """
        name = secrets.token_hex(8) if job is None else _check_job(job)
        mac = _mac(self._signers[0], name.encode()).decode("ascii")
        return CallbackURL(f"{self._public_url}/{quote(name, safe='')}/{mac}", self, name)

    def bind(self, job: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Have *wake* called for the job's callbacks, at once and then at most every 2 s.

        A callback that comes within these 2 s is handed on at their end. One that came before this call wakes
        before this call returns.

        Args:
            job: The job's name, as ``CallbackURL.job`` has it.
            wake: Must neither block nor raise. It is called in the event loop that runs now, wherever the app
                runs; on asyncio perhaps outside of any task, where anyio's functions do not work.

        Returns:
            What ends this, at any time and from any thread. Safe to repeat.

        Raises:
            InvalidInput: The name cannot be that of a job.
            ConfigurationError: *wake* is no function.
            ClientUseError: No event loop is running.
        """
        name = _check_job(job).encode()
        if not callable(wake):
            raise ConfigurationError(f"wake is {wake!r}; it must be a function")
        try:
            binding = _Binding(wake, self._count_wake)
        except (RuntimeError, ImportError):  # trio is asked where there is no asyncio, and may not be there
            raise ClientUseError(
                "bind() was called where no event loop runs; call it in the waiting one"
            ) from None
        with self._lock:
            bindings = self._bound.get(name, [])
            bindings.append(binding)
            self._bound[name] = bindings
            early = self._early.pop(name, False)
        if early:
            binding.call()
        return partial(self._unbind, name, binding)

    def _unbind(self, job: bytes, binding: _Binding) -> None:
        binding.close()
        with self._lock:
            bindings = self._bound.get(job, [])
            if binding in bindings:
                bindings.remove(binding)
            if not bindings:
                self._bound.pop(job, None)

    def _count_wake(self) -> None:
        with self._lock:
            self._counts = attrs.evolve(self._counts, woken=self._counts.woken + 1)

    # -- the app -----------------------------------------------------------------------------------------

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one ASGI connection."""
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        elif kind == "lifespan":
            event = ""
            while event != "lifespan.shutdown":
                event = (await receive())["type"]
                await send({"type": f"{event}.complete"})
        else:
            raise ClientUseError(f"ASGI scope {kind!r}: a CallbackReceiver takes http requests only")

    async def _serve(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        job = self._genuine_job(scope)
        if job is None:
            status: int | None = 404
        elif scope["method"] != "POST":
            status = 405
        else:
            status = await _discard_body(scope, receive)
        if status in (404, 405) and not _is_http1(scope):
            # Whoever sent it forged it, but servers break when a body is answered before it was read.
            status = status if await _discard_body(scope, receive) else None
        if status is None:
            return
        if job is not None and status == 202:
            self._take(job)
        else:
            with self._lock:
                self._counts = attrs.evolve(self._counts, refused=self._counts.refused + 1)
        headers = [(b"content-length", b"0")]
        if status == 405:
            headers.append((b"allow", b"POST"))
        if status != 202 and _is_http1(scope):
            # The rest of the body, if there is one, need not come.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _genuine_job(self, scope: _Scope) -> bytes | None:
        """Return the job that the address names, if it is one of ours."""
        job, mac = _address(scope)
        genuine = False
        for signer in self._signers:
            # Every key is tried, whatever the address is: how long it takes tells nothing.
            genuine |= hmac.compare_digest(_mac(signer, job), mac)
        return job if genuine else None

    def _take(self, job: bytes) -> None:
        """Wake those who wait for the job, or remember it for those who will."""
        with self._lock:
            self._counts = attrs.evolve(self._counts, received=self._counts.received + 1)
            bindings = tuple(self._bound.get(job, ()))
            if not bindings:
                self._early.pop(job, None)
                self._early[job] = True  # the newest is the last
                if len(self._early) > EARLY_KEPT:
                    del self._early[next(iter(self._early))]
        for binding in bindings:
            if not binding.call():
                self._unbind(job, binding)

    def __repr__(self) -> str:
        return f"<CallbackReceiver {self._public_url} {len(self._bound)} waiting>"

    def __reduce__(self) -> NoReturn:
        raise ClientUseError("a CallbackReceiver cannot be pickled: it holds keys; make one in each process")


# -- addresses -------------------------------------------------------------------------------------------


def _signers(keys: Sequence[str | bytes | Secret]) -> Iterator[hmac.HMAC]:
    """Yield a MAC that awaits a job's name, for each key: the keys themselves are not kept."""
    if isinstance(keys, str | bytes | Secret):
        raise ConfigurationError("keys is one key; it must be a list of one or two: keys=[key]")
    if not isinstance(keys, Sequence):
        raise ConfigurationError(f"keys is a {type(keys).__name__}; it must be a list of one or two keys")
    if len(keys) > 2:
        raise ConfigurationError(
            f"keys holds {len(keys)} keys; give the new one, and the old one while it is in use"
        )
    for key in keys or (secrets.token_bytes(32),):
        plain = key.reveal() if isinstance(key, Secret) else key
        if not isinstance(plain, str | bytes):
            raise ConfigurationError(
                f"keys holds a {type(key).__name__}; a key must be a str, bytes or Secret"
            )
        raw = plain.encode("utf-8", "surrogatepass") if isinstance(plain, str) else plain
        if len(raw) < LEAST_KEY:
            raise ConfigurationError(
                f"keys holds a key of {len(raw)} bytes; it must have at least {LEAST_KEY}: make one with "
                f"secrets.token_urlsafe(32)"
            )
        yield hmac.new(raw, b"v1|", "sha256")


def _mac(signer: hmac.HMAC, job: bytes) -> bytes:
    keyed = signer.copy()
    keyed.update(job)
    return base64.urlsafe_b64encode(keyed.digest())[:32]


def _check_job(job: object) -> str:
    if not isinstance(job, str):
        raise InvalidInput(f"job is a {type(job).__name__}; it must be a str", name="job")
    if not 1 <= len(job) <= LONGEST_JOB or not job.isprintable():
        raise InvalidInput(
            f"job is {job[:60]!r}; it must be 1 to {LONGEST_JOB} printable characters", name="job"
        )
    if job in (".", ".."):
        raise InvalidInput(f"job is {job!r}, which is a step in a path; call it otherwise", name="job")
    return job


def _address(scope: _Scope) -> tuple[bytes, bytes]:
    """Return the last two parts of the path, wherever the app is mounted."""
    raw: bytes | None = scope.get("raw_path")
    whole = raw.partition(b"?")[0] if raw else scope["path"].encode("utf-8", "replace")
    # Litestar ends the path of a mounted app with a slash.
    above, _, mac = whole.removesuffix(b"/").rpartition(b"/")
    job = above.rpartition(b"/")[2]
    return (unquote_to_bytes(job), unquote_to_bytes(mac)) if raw else (job, mac)


# -- requests --------------------------------------------------------------------------------------------


def _is_http1(scope: _Scope) -> bool:
    """Tell whether an early answer ends the connection; over HTTP/2 hypercorn breaks on one."""
    version: str = scope.get("http_version", "1.1")
    return version.startswith("1")


async def _discard_body(scope: _Scope, receive: _Receive) -> int | None:
    """Let the body pass, and return the status of the answer (None: the sender has left)."""
    sizes = (size for name, size in scope["headers"] if name.lower() == b"content-length" and size.isdigit())
    if int(next(sizes, b"0")[:18]) > MAX_BODY and _is_http1(scope):
        return 413
    size = 0
    with anyio.move_on_after(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                return 413
            if not message.get("more_body", False):
                return 202
            # A server that has the next piece at hand gives nobody else a turn.
            await anyio.lowlevel.checkpoint()
    return 408


# -- those who wait --------------------------------------------------------------------------------------


class _AsyncioHome:
    """The asyncio event loop that runs now."""

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def is_here(self) -> bool:
        return on_asyncio() and asyncio.get_running_loop() is self._loop

    def time(self) -> float:
        return self._loop.time()

    def post(self, work: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(work)

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        self._loop.call_later(delay, work)


class _TrioHome:
    """The trio run that runs now."""

    __slots__ = ("_token", "_trio")

    def __init__(self) -> None:
        import trio  # noqa: PLC0415 - it is no dependency, and here it runs

        self._trio = trio
        self._token: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token()

    def is_here(self) -> bool:
        return not on_asyncio() and self._trio.lowlevel.current_trio_token() is self._token

    def time(self) -> float:
        return self._trio.current_time()

    def post(self, work: Callable[[], None]) -> None:
        self._token.run_sync_soon(work)

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        # trio has no timers; a system task ends with the run, and holds nothing up.
        self._trio.lowlevel.spawn_system_task(self._sleep, delay, work)

    async def _sleep(self, delay: float, work: Callable[[], None]) -> None:
        await self._trio.sleep(delay)
        work()


class _Binding:
    """Wakes one waiter, in the event loop that it waits in.

    Args:
        wake: What wakes it.
        count: Called before each wake.
    """

    __slots__ = ("_coming", "_count", "_free_at", "_home", "_lock", "_wake")

    def __init__(self, wake: Callable[[], None], count: Callable[[], None]) -> None:
        self._wake: Callable[[], None] | None = wake
        self._count = count
        self._home: _AsyncioHome | _TrioHome = _AsyncioHome() if on_asyncio() else _TrioHome()
        self._lock = threading.Lock()
        self._coming: bool = False
        self._free_at: float = float("-inf")

    def call(self) -> bool:
        """See to a wake after this moment, from any event loop; False if the waiter's own is gone."""
        with self._lock:
            if self._coming:
                return True
            self._coming = True
        if self._home.is_here():
            self._arrange()
            return True
        try:
            self._home.post(self._arrange)
        except RuntimeError:
            return False
        return True

    def close(self) -> None:
        """Let go of the waiter."""
        self._wake = None

    def _arrange(self) -> None:
        delay = self._free_at - self._home.time()
        if delay > 0:
            self._home.call_later(delay, self._hand_on)
        else:
            self._hand_on()

    def _hand_on(self) -> None:
        # First: a callback that comes from here on may tell of what that poll will not see yet.
        self._coming = False
        self._free_at = self._home.time() + SPACING
        if (wake := self._wake) is not None:
            self._count()
            wake()
