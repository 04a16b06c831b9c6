"""The service's WebSockets: which task is on which, and what is told to whom.

Neither tasks nor threads stand behind it. Messages are handed on in the event loop's turn that brings them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import random
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, final

import anyio

from wiro_async._aio import Gate, on_asyncio, run_in_thread
from wiro_async._errors import ConfigurationError, MissingExtra
from wiro_async._http.proxies import DIRECT, Routes
from wiro_async._http.retry import RetryPolicy
from wiro_async._protocol.events import Message, read_message, register
from wiro_async._types import Priority
from wiro_async._watch.websocket import Connection, ParseQueue, Setup, make_setup

if TYPE_CHECKING:
    from wiro_async._types import Secret

__all__ = ["Channel", "Listener", "SocketUnavailable", "Sockets", "available", "require"]

OPENINGS = 32
"""Sockets that are being opened at a time."""

PAUSES = RetryPolicy(base=1.0, longest=60.0, jitter=0.5)
"""How long no socket is opened after so many failures in a row."""

SLOW = 1.0
"""Seconds of an opening after which its cancellation is counted as a failure of the peer, too."""

LASTED = 10.0
"""Seconds that a socket must have been open to count as a success."""

REFUSED_KEPT = 256
"""Refused tokens remembered: none of them is tried again."""


class SocketUnavailable(Exception):
    """There is no socket for a task now, so it is polled."""


class Listener(Protocol):
    """Who wants to hear of a task."""

    @property
    def token(self) -> Secret | None:
        """The task's token (None: not known yet)."""
        ...

    @property
    def id(self) -> str | None:
        """The task's id (None: not known yet)."""
        ...

    def heard(self, message: Message) -> None:
        """Take a message about the task."""
        ...

    def lost(self) -> None:
        """Take the news, once, that nothing more will come."""
        ...


def available() -> bool:
    """Tell whether the extra ``ws`` is installed."""
    return importlib.util.find_spec("websockets") is not None


def require() -> None:
    """Refuse to go on without the extra ``ws``.

    Raises:
        MissingExtra: It is not installed.
    """
    if not available():
        raise MissingExtra(
            "watch='socket' needs the websockets package: "
            "install it with its extra, from the clone: pip install '.[ws]'"
        )


# -- all sockets -----------------------------------------------------------------------------------------


class Sockets:
    """The WebSockets of one client.

    Args:
        url: The service's address.
        limit: Sockets open at a time.
        tasks_per_socket: Tasks on one socket.
        connect_timeout: Seconds to open one.
        user_agent: How the client introduces itself.
        tls: Makes the TLS settings, once, in a worker thread.
        routes: Which proxy leads to the service.
        chance: A source of random numbers between 0 and 1.
    """

    def __init__(
        self,
        url: str,
        *,
        limit: int,
        tasks_per_socket: int,
        connect_timeout: float,
        user_agent: str,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        routes: Routes = DIRECT,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._limit = limit
        self._tasks_per_socket = tasks_per_socket
        self._connect_timeout = connect_timeout
        self._user_agent = user_agent
        self._tls = tls
        self._routes = routes
        self._pause = _Pause(chance)
        self._opening = Gate(OPENINGS)
        self._preparing = Gate(1)
        self._setup: Setup | None = None
        self._queue = ParseQueue()
        self._closed: bool = False
        # Sets that keep their order.
        self._sockets: dict[_Socket, None] = {}
        self._with_room: dict[_Socket, None] = {}
        self._refused: dict[Secret, None] = {}

    @property
    def open_sockets(self) -> int:
        """How many sockets are open, or being opened."""
        return len(self._sockets)

    def room(self) -> bool:
        """Tell whether another task could be watched now."""
        if self._with_room:
            return True
        return not self._closed and len(self._sockets) < self._limit and not self._pause.lasts()

    async def attach(self, listener: Listener) -> Channel:
        """Listen for a task: on a socket that has room, or on one of its own.

        Returns:
            The channel, with the registration sent. It is to be closed, unless it is lost first.

        Raises:
            SocketUnavailable: There is no room, the socket could not be opened, or the service refused the
                task.
        """
        while True:
            channel = self._reserve(listener)
            try:
                await channel.open()
            except _GivenUp:
                continue
            except BaseException:
                channel.close()
                raise
            return channel

    def _reserve(self, listener: Listener) -> Channel:
        token = listener.token
        if token is None or token in self._refused:
            raise SocketUnavailable("the task has no token that the service would take")
        if not self.room() or not on_asyncio():
            raise SocketUnavailable("no socket can be opened now")
        socket = next(iter(self._with_room), None)
        if socket is None:
            socket = _Socket(self)
            self._sockets[socket] = None
        channel = Channel(listener, token, socket)
        socket.add(channel)
        self.count(socket)
        return channel

    async def connect(self, socket: _Socket) -> None:
        """Open a connection for *socket*, up to the end of the handshake.

        Raises:
            SocketUnavailable: It could not be opened.
        """
        await self._opening.enter(Priority.READ)
        began = socket.loop.time()
        try:
            with anyio.fail_after(self._connect_timeout):
                setup = await self._prepare()
                if self._closed:
                    raise ConnectionError("the client was closed")
                socket.connection = Connection(setup, socket, self._queue)
                await socket.connection.open()
                return
        except TimeoutError:
            problem = f"no socket within {self._connect_timeout:g} s"
        except (OSError, ImportError, UnicodeError, ConfigurationError) as error:
            # A host that no name server could be asked for is a UnicodeError. What is wrong with the
            # environment is told by the polls.
            problem = str(error) or type(error).__name__
        except BaseException:
            # Whoever waits for a silent peer may lose patience before the timeout does.
            if socket.loop.time() - began >= SLOW:
                self._pause.failed()
            raise
        finally:
            self._opening.leave()
        self._pause.failed()
        raise SocketUnavailable(problem)

    async def _prepare(self) -> Setup:
        if self._setup is not None:
            return self._setup
        await self._preparing.enter(Priority.READ)
        try:
            if self._setup is None:
                # Imports and certificates take tens of milliseconds, which the event loop does not have.
                self._setup = await run_in_thread(
                    make_setup, self._url, self._tls, self._user_agent, self._routes
                )
        finally:
            self._preparing.leave()
        return self._setup

    def count(self, socket: _Socket) -> None:
        """Note whether a socket has room for another task."""
        if socket.takes_more and socket.tasks < self._tasks_per_socket:
            self._with_room[socket] = None
        else:
            self._with_room.pop(socket, None)

    def forget(self, socket: _Socket) -> None:
        """Note that a socket is gone."""
        self._sockets.pop(socket, None)
        self._with_room.pop(socket, None)

    def refuse(self, token: Secret) -> None:
        """Note that the service does not want to hear of a token."""
        self._refused[token] = None
        if len(self._refused) > REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]

    def failed(self, *, lasted: bool) -> None:
        """Note that the peer has given a socket up; whether it *lasted* decides how long the pause is."""
        if lasted:
            self._pause.succeeded()
        self._pause.failed()

    def succeeded(self) -> None:
        """Note that a socket has been of use."""
        self._pause.succeeded()

    def abort_all(self) -> None:
        """Close every socket, for good."""
        self._closed = True
        for socket in tuple(self._sockets):
            socket.abandon()


class _Pause:
    """The time in which no socket is opened, because the last ones failed.

    It reads asyncio's own clock, because anyio's is not to be had in an event loop's callbacks.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._failures: int = 0
        self._until: float | None = None

    def lasts(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() < self._until

    def failed(self) -> None:
        if self.lasts():
            # Sockets that fail together fail for one reason.
            return
        self._failures += 1
        self._until = asyncio.get_running_loop().time() + PAUSES.pause(self._failures, self._chance())

    def succeeded(self) -> None:
        self._failures = 0


# -- one task --------------------------------------------------------------------------------------------


class _GivenUp(Exception):
    """Who was opening the socket that this task was to share does not want it any more."""


@final
class Channel:
    """A task's place on a socket.

    Attributes:
        token: The task's token.
        listener: Who wants to hear of it.
        quiet: Whether nothing was heard of it yet.
        ended: Whether its end was heard.
        registered_at: When it was registered, on the event loop's clock (infinity: not yet).
    """

    __slots__ = ("_closed", "_given_out", "_socket", "ended", "listener", "quiet", "registered_at", "token")

    def __init__(self, listener: Listener, token: Secret, socket: _Socket) -> None:
        self.listener: Listener = listener
        self.token: Secret = token
        self.quiet: bool = True
        self.ended: bool = False
        self.registered_at: float = float("inf")
        self._socket: _Socket | None = socket
        self._given_out: bool = False
        self._closed: bool = False

    @property
    def live(self) -> bool:
        """Whether the socket is open and the task is registered."""
        return self._socket is not None and not self._closed and self.registered_at < float("inf")

    async def open(self) -> None:
        """Return once the task is registered.

        Raises:
            SocketUnavailable: The socket could not be opened.
            _GivenUp: Another task was opening it, and was given up.
        """
        socket = self._socket
        assert socket is not None
        await socket.open()
        if socket.given_up:
            raise _GivenUp
        if not self.live:
            raise SocketUnavailable("the socket was lost at once")
        self._given_out = True

    def close(self) -> None:
        """Leave the socket, which the last one closes. Safe to repeat, and from any thread."""
        self._closed = True
        socket = self._socket
        if socket is None:
            return
        if socket.is_at_rest():
            self._socket = None
            socket.remove(self)
            return
        # A handle that nobody holds is closed by the garbage collector: at any time, in any thread.
        with contextlib.suppress(RuntimeError):
            socket.loop.call_soon_threadsafe(self.close)

    def hear(self, message: Message) -> None:
        """Hand a message on."""
        self.quiet = False
        self.ended = self.ended or message.is_terminal
        if not self._closed:
            self.listener.heard(message)

    def lose(self) -> None:
        """Hand the news on that the socket is gone."""
        self._socket = None
        if self._given_out and not self._closed:
            self.listener.lost()


# -- one socket ------------------------------------------------------------------------------------------

# New: nobody has begun to open it. Opening: one of its tasks does, and the others wait for ``_settled``.
# Open: its tasks are registered, and so is each that joins. Gone: it was lost, closed or never opened; its
# tasks are told, and it is never used again.
_NEW, _OPENING, _OPEN, _GONE = range(4)


class _Socket:
    """One WebSocket, and the tasks that it tells of.

    Args:
        owner: The client's sockets.

    Attributes:
        loop: The event loop that it lives on.
        connection: What it speaks over (None: not even begun).
        given_up: Whether the task that was opening it did not want it any more.
        takes_more: Whether further tasks may join.
    """

    __slots__ = (
        "_ids", "_opened_at", "_owner", "_settled", "_state", "_tasks", "connection", "given_up", "loop",
        "takes_more",
    )  # fmt: skip

    def __init__(self, owner: Sockets) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.connection: Connection | None = None
        self.given_up: bool = False
        self.takes_more: bool = True
        self._owner = owner
        self._state: int = _NEW
        self._settled: asyncio.Event | None = asyncio.Event()
        self._opened_at: float = 0.0
        self._tasks: dict[Secret, list[Channel]] = {}
        # Filled only where several tasks share a socket.
        self._ids: dict[str | None, Secret] = {}

    # -- opening -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open it, or wait while another task does.

        Raises:
            SocketUnavailable: It could not be opened.
        """
        if self._state == _OPENING and self._settled is not None:
            await self._settled.wait()
        if self._state != _NEW:
            return
        self._state = _OPENING
        try:
            await self._owner.connect(self)
        except SocketUnavailable:
            self._end()
            raise
        except BaseException:
            self.given_up = True
            self._end()
            raise

    def opened(self) -> None:
        """Register the tasks that have waited for this."""
        self._state = _OPEN
        self._opened_at = self.loop.time()
        for channels in self._tasks.values():
            for channel in channels:
                self._register(channel, channels)
        self._settle()

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    # -- who shares it -----------------------------------------------------------------------------------

    @property
    def tasks(self) -> int:
        """How many tasks are on it."""
        return len(self._tasks)

    def add(self, channel: Channel) -> None:
        """Take a task in; it is registered now, or when the socket is open."""
        channels = self._tasks.setdefault(channel.token, [])
        channels.append(channel)
        if self._state == _OPEN:
            self._register(channel, channels)

    def _register(self, channel: Channel, channels: Iterable[Channel]) -> None:
        is_known = any(other.live for other in channels)
        channel.registered_at = self.loop.time()
        if not is_known and self.connection is not None:
            self.connection.send(register(channel.token))

    def remove(self, channel: Channel) -> None:
        """Let a task go, and close the socket after the last one."""
        self._take_out(channel)
        if self._tasks:
            self._owner.count(self)
        else:
            self.abandon()

    def _take_out(self, channel: Channel) -> None:
        channels = self._tasks.get(channel.token, [])
        if channel in channels:
            channels.remove(channel)
        if not channels:
            self._tasks.pop(channel.token, None)

    def is_at_rest(self) -> bool:
        """Tell whether this is the event loop's thread, and not in the midst of what came."""
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False
        return is_here and (self.connection is None or not self.connection.busy)

    # -- hearing -----------------------------------------------------------------------------------------

    def received(self, message: bytes | bytearray) -> None:
        """Read a message, and hand it on to whom it concerns."""
        read = read_message(message)
        if read is None:
            return
        channels = self._about(read)
        if read.refused:
            self._take_refusal(read, channels)
            return
        for channel in channels:
            channel.hear(read)
        if channels and read.is_terminal:
            self._owner.succeeded()

    def _about(self, message: Message) -> tuple[Channel, ...]:
        """Return the channels of the task that a message is about; none of them if that is not certain."""
        token = message.token
        if token is None and len(self._tasks) == 1:
            (channels,) = self._tasks.values()
            known = channels[0].listener.id
            is_ours = not message.task_id or known is None or known == message.task_id
            return tuple(channels) if is_ours else ()
        if token is None:
            task_id = message.task_id
            if task_id and task_id not in self._ids:
                # Tasks come and go, and an id may become known later than the token.
                self._ids = {group[0].listener.id: known for known, group in self._tasks.items()}
            token = self._ids.get(task_id)
        return () if token is None else tuple(self._tasks.get(token, ()))

    def _take_refusal(self, message: Message, channels: tuple[Channel, ...]) -> None:
        """Take a refusal: of the task that it names, or else of the newest that nothing was heard of."""
        if not channels and (message.token is not None or message.task_id):
            return
        if len(self._tasks) == 1:
            self._owner.refuse(next(iter(self._tasks)))
        else:
            # The service may allow fewer tasks on a socket than we have put there.
            self.takes_more = False
            self._owner.count(self)
        quiet = (tuple(group) for group in reversed(self._tasks.values()) if group[0].quiet)
        for channel in channels or next(quiet, ()):
            self._take_out(channel)
            channel.lose()
        if not self._tasks:
            self.abandon()

    # -- its end -----------------------------------------------------------------------------------------

    def lost(self, problem: str) -> None:  # noqa: ARG002
        """Take the end of the connection; it is no failure if all that was asked for has been heard."""
        if not all(channel.ended for channels in self._tasks.values() for channel in channels):
            self._owner.failed(lasted=self.loop.time() - self._opened_at >= LASTED)
        self._end()
        self.connection = None

    def abandon(self) -> None:
        """Close it: nobody needs it any more."""
        self._end()
        # They hold each other, which only the garbage collector would find out.
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _end(self) -> None:
        self._state = _GONE
        self.takes_more = False
        self._owner.forget(self)
        self._settle()
        groups, self._tasks = self._tasks, {}
        for channels in groups.values():
            for channel in channels:
                channel.lose()
