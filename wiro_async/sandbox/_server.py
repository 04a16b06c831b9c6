"""The sandbox as a server: a thread with a loop of its own, so that callers on any loop can use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, Unpack, cast

import anyio
import anyio.to_thread
import attrs
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from wiro_async.sandbox._app import build_app
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._config import SandboxConfig, SandboxOptions, is_loopback
from wiro_async.sandbox._engine import Engine
from wiro_async.sandbox._proxy import Proxy
from wiro_async.sandbox._service import Service
from wiro_async.sandbox._sockets import check_cut
from wiro_async.sandbox.faults import CutHow, FaultPlan

__all__ = ["Sandbox", "serve"]

_START_TIMEOUT = 10.0
_GRACE = 0.2  # seconds that open requests have to end when the server stops
_KEEP_ALIVE = 75  # seconds an idle connection is kept: longer than clients pause between two polls
_MAX_CONNECTIONS = 10_000
_TICK = 1.0


class Sandbox:
    """A local service that imitates the Wiro API.

    Use it as a context manager, ``async with`` (on asyncio or trio) or ``with``. It is reachable as soon as
    the block is entered, and gone when it is left. A sandbox serves once.

    Args:
        config: The options; None takes the defaults.
        clock: Gives the time in unix seconds, from any thread. None takes the machine's.
        wrap: Puts something around the ASGI application; WebSockets do not pass it. None leaves it as it is.
        faults: What goes wrong on the wire, on WebSockets and with callbacks, see
            :mod:`wiro_async.sandbox.faults`. It may be changed while the sandbox runs. None leaves out the
            proxy that makes faults.
        **options: Fields of :class:`SandboxConfig` that override ``config``.

    Attributes:
        faults: The fault plan that was given.

    Raises:
        ValueError: For an option that makes no sense.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        clock: Callable[[], float] | None = None,
        wrap: Callable[[ASGIApp], ASGIApp] | None = None,
        faults: FaultPlan | None = None,
        **options: Unpack[SandboxOptions],
    ) -> None:
        self.config: SandboxConfig = attrs.evolve(config or SandboxConfig(), **options)
        self.faults: FaultPlan | None = faults
        self._clock: Callable[[], float] = clock or steady_clock()
        self._wrap: Callable[[ASGIApp], ASGIApp] = wrap or (lambda app: app)
        self._service: Service | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        state = self._service.origin if self._service is not None else "not started"
        return f"<Sandbox {state}>"

    @property
    def origin(self) -> str:
        """Where it is reached, as ``http://127.0.0.1:PORT``."""
        return self._running.origin

    @property
    def base_url(self) -> str:
        """What takes the place of ``https://api.wiro.ai/v1``."""
        return f"{self.origin}/v1"

    @property
    def socket_url(self) -> str:
        """What takes the place of ``wss://socket.wiro.ai/v1``."""
        return f"ws{self.origin.removeprefix('http')}/v1"

    @property
    def control_token(self) -> str:
        """What the header ``x-sandbox-token`` of requests below ``/sandbox`` must say. A secret."""
        return self._running.control_token

    @property
    def cdn_url(self) -> str:
        """What the URLs of outputs begin with."""
        return self._running.cdn_url

    @property
    def engine(self) -> Engine:
        """The tasks and the account. Its methods may be called from any thread."""
        return self._running.engine

    def ledger(self) -> dict[str, Any]:
        """The books: see :meth:`Engine.ledger`. Also after the sandbox has stopped.

        Beside those: ``callbacks`` (``expected``; ``sent``, that is, answered with 2xx; ``failed``; ``lost``
        to a fault; ``not_sent``, for their address is not among ``allow_fetch``; ``attempts``; ``repeated``
        and ``forged`` by faults), and ``sockets`` (``opened``, and ``open`` now; ``registered`` tasks, and
        ``messages`` about them; ``cut``).
        """
        return self._running.ledger()

    def reset(self) -> None:
        """Begin anew, as if just started: no task, no file, no entry in the books. From any thread.

        For suites that share a server and want a fresh state for each test. WebSockets are dropped. The
        addresses, the keys and the fault plan stay; ``engine`` is another one.

        Raises:
            RuntimeError: The sandbox does not run.
        """
        finish = self._running.reset()
        assert self._server is not None  # for the type checker: a service runs in a server
        self._server.call_soon(finish)

    def cut_sockets(self, how: CutHow = "drop", *, code: int = 1011, share: float = 1.0) -> None:
        """Break WebSockets that are open, a moment after this call. From any thread, and any number of times.

        Args:
            how: ``"drop"``: without a close frame; ``"close"``: with one; ``"silence"``: they stay open, but
                nothing more is said, and pings are not answered.
            code: What ``"close"`` gives as its reason: 1000 to 1014 but 1004 to 1006, or 3000 to 4999.
            share: The probability for each of them, from 0 to 1; drawn from the sandbox's seed.

        Raises:
            ValueError: For anything else.
            RuntimeError: The sandbox does not run.
        """
        check_cut(how, code, share)
        service = self._running
        assert self._server is not None  # for the type checker: a service runs in a server
        self._server.call_soon(lambda: service.sockets.cut(how, code, share))

    @property
    def _running(self) -> Service:
        if self._service is None:
            raise RuntimeError("The sandbox has not started: use it as `async with Sandbox() as sandbox:`.")
        return self._service

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._stop)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("A sandbox serves once: make a new one.")
        service = Service(
            self.config, Catalogue.load(), lambda: self._clock() + self.config.clock_skew, self.faults
        )
        listener = _bind(self.config.host, self.config.port)
        # Beyond this machine, such as in a container, it listens on an address that nobody can ask for.
        name = self.config.host if is_loopback(self.config.host) else next(iter(self.config.allow_host))
        host = f"[{name}]" if ":" in name else name
        service.origin = f"http://{host}:{listener.getsockname()[1]}"
        proxy = None
        if self.faults is not None:
            public, listener = listener, _bind(self.config.host, 0)
            proxy = Proxy(self.faults, service, public, listener.getsockname()[:2])
        self._server = _Server(self._wrap(build_app(service)), service, proxy)
        self._thread = threading.Thread(
            target=self._server.serve_in_thread, args=(listener,), name="wiro-sandbox", daemon=True
        )
        self._thread.start()
        self._server.wait_ready()
        self._service = service

    def _stop(self) -> None:
        assert self._server is not None  # for the type checker: _start has succeeded
        assert self._thread is not None
        self._server.stop()
        self._thread.join()


class _Server(uvicorn.Server):
    """uvicorn, on a loop in a thread; behind a proxy if there are to be faults."""

    def __init__(self, app: ASGIApp, service: Service, proxy: Proxy | None) -> None:
        super().__init__(
            uvicorn.Config(
                self._watched(app),
                http="auto",  # httptools where it is installed: it serves half as many requests again
                # uvicorn only calls it. After a reset the sockets are others.
                ws=cast("type[asyncio.Protocol]", lambda **given: service.sockets.protocol(**given)),  # noqa: PLW0108
                lifespan="on",
                log_config=None,
                log_level="error",
                access_log=False,
                date_header=False,  # the app sends one by the service's clock
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=None,  # none is needed: see shutdown
                proxy_headers=False,
            )
        )
        self._service: Service = service
        self._proxy: Proxy | None = proxy
        self._ready: threading.Event = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event = asyncio.Event()
        self._failure: BaseException | None = None

    def _watched(self, app: ASGIApp) -> ASGIApp:
        """Keep why the application does not start: uvicorn only logs it."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                if scope["type"] == "lifespan":
                    self._failure = error
                raise

        return watched

    def serve_in_thread(self, listener: socket.socket) -> None:
        """Serve until stopped. The thread's only call."""
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self.serve(sockets=[listener]))
        except BaseException as error:  # handed to the thread that waits
            self._failure = self._failure or error  # uvicorn exits for the application's own
        finally:
            listener.close()
            if self._proxy is not None:
                self._proxy.listener.close()
            self._ready.set()

    def wait_ready(self) -> None:
        """Wait until connections are accepted."""
        if not self._ready.wait(_START_TIMEOUT) or not self.started:
            why = "it took too long" if self._failure is None else repr(self._failure)
            raise RuntimeError(f"The sandbox did not start: {why}.") from self._failure

    def stop(self) -> None:
        """End the server, from any thread."""
        self.should_exit = True
        self.call_soon(self._stopping.set)

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have something called in the server's thread."""
        assert self._loop is not None  # for the type checker: the server was ready
        self._loop.call_soon_threadsafe(call)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        self._service.scheduler.start()
        if self._proxy is not None:
            await self._proxy.start()
        self._ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let requests end, and cut off those that a stalled client keeps open."""
        self._service.scheduler.stop()
        await _stop_accepting([*(sockets or []), *([] if self._proxy is None else [self._proxy.listener])])
        if self._proxy is not None:
            await self._proxy.stop()
        asyncio.get_running_loop().call_later(_GRACE, self._abort_connections)
        await super().shutdown(sockets)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def main_loop(self) -> None:
        """Wait for the end. uvicorn looks ten times a second; here the end wakes it."""
        tick = 0
        while not await self.on_tick(tick):
            tick += 10  # the Date header is renewed at every tenth tick
            try:
                await asyncio.wait_for(self._stopping.wait(), _TICK)
            except TimeoutError:
                continue


async def _stop_accepting(listeners: list[socket.socket]) -> None:
    """Take no more connections, and finish those just taken.

    Python 3.13 forgets one that is accepted while its server closes: nobody would close its socket.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows' loop has no readers
        for listener in listeners:
            loop.remove_reader(listener)
    for _ in range(5):  # a callback, a task, two callbacks and their future
        await asyncio.sleep(0)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off: it would hold every second write back.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def steady_clock() -> Callable[[], float]:
    """The time in unix seconds that never steps back, whatever is done to the machine's clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def serve(
    config: SandboxConfig,
    *,
    ready_file: Path | None = None,
    announce: Callable[[str], None] = print,
    as_json: bool = False,
) -> int:
    """Run a sandbox in the foreground until SIGINT or SIGTERM. To be called in the main thread.

    Args:
        config: The options.
        ready_file: Gets the base URL and, in its second line, the token for the sandbox's own switches, whole
            or not at all, once connections are accepted. Only this user may read it.
        announce: Is given the lines that tell a user where the sandbox is.
        as_json: Whether they are for programs: a line of JSON with ``base_url``, ``socket_url``, ``cdn_url``,
            ``control_token`` and, if they are the published ones, ``api_key`` and ``api_secret``; and one at
            the end with the ledger, but for its tasks.

    Returns:
        The process's exit code: 0.
    """
    stop = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Sandbox(config) as sandbox:
            if ready_file is not None:
                _write_whole(ready_file, f"{sandbox.base_url}\n{sandbox.control_token}\n")
            for line in [_record(sandbox)] if as_json else _greeting(sandbox):
                announce(line)
            stop.wait()
        if as_json:
            announce(json.dumps({name: book for name, book in sandbox.ledger().items() if name != "tasks"}))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    # One that is there already may be a link, or open to others: the token would go where it leads.
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def _greeting(sandbox: Sandbox) -> list[str]:
    """Where it is, and what to put into the environment."""
    exports = {"WIRO_BASE_URL": sandbox.base_url, "WIRO_SOCKET_URL": sandbox.socket_url}
    exports |= {f"WIRO_{name.upper()}": value for name, value in _published_keys(sandbox).items()}
    return [
        f"The sandbox is at {sandbox.base_url} (Ctrl-C ends it).",
        *(f"export {name}={value}" for name, value in exports.items()),
    ]


def _record(sandbox: Sandbox) -> str:
    urls = {"base_url": sandbox.base_url, "socket_url": sandbox.socket_url, "cdn_url": sandbox.cdn_url}
    urls["control_token"] = sandbox.control_token
    return json.dumps(urls | _published_keys(sandbox))


def _published_keys(sandbox: Sandbox) -> dict[str, str]:
    """The keys that everybody knows. Others came from the user's environment, and are not repeated."""
    config, defaults = sandbox.config, SandboxConfig()
    if config.api_key != defaults.api_key:
        return {}
    secret = config.api_secret if config.api_secret == defaults.api_secret else None
    return {"api_key": config.api_key} | ({} if secret is None else {"api_secret": secret})
