"""The WebSocket: connections that register for tasks and are told of them.

Each is an asyncio protocol around the Sans-I/O side of ``websockets``, without a task of its own: one timer
for all of them writes what is due.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast, get_args

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from wiro_async.sandbox._access import Access
from wiro_async.sandbox._config import SandboxConfig
from wiro_async.sandbox._engine import Engine
from wiro_async.sandbox._messages import MessageStream, encode
from wiro_async.sandbox._refusal import Refusal
from wiro_async.sandbox._scheduler import Follower, Scheduler
from wiro_async.sandbox.faults import CutHow, CutSocket

__all__ = ["CUT", "Connection", "Sockets", "check_cut", "cut_header"]

CUT = "x-sandbox-cut"
"""The header by which the fault layer lets a WebSocket break."""

PING_EVERY = 30.0
"""Seconds between two pings, as the service's."""

PONG_WAIT = 20.0
"""Seconds after a ping in which something must come from the client."""

CLOSE_WAIT = 10.0
"""Seconds that a client has to answer a close frame."""

BUFFER_LIMIT = 1024 * 1024
"""Bytes that a slow client may leave unread in this process before its connection ends."""

_MAX_MESSAGE = 64 * 1024

# The library logs frames, which hold tokens.
_log = logging.getLogger("wiro_async.sandbox.frames")
_log.setLevel(logging.CRITICAL)


class _Broadcast:
    """A task, and the connections that are told of it."""

    def __init__(self, messages: MessageStream) -> None:
        self.messages: MessageStream = messages
        self.connections: dict[Connection, None] = {}
        self.follower: Follower | None = None


class Sockets:
    """All WebSockets of a sandbox. For the loop's own thread, but for :meth:`ledger`.

    Args:
        config: The format of messages and the number of tasks per WebSocket.
        engine: Knows the tasks.
        scheduler: Says when to look at them.
        clock: Gives the time.
        cdn_url: Gives what output URLs begin with.
        access: Who may come in.
    """

    def __init__(
        self,
        config: SandboxConfig,
        engine: Engine,
        scheduler: Scheduler,
        clock: Callable[[], float],
        *,
        cdn_url: Callable[[], str],
        access: Access,
    ) -> None:
        self.access: Access = access
        self._config: SandboxConfig = config
        self._engine: Engine = engine
        self._scheduler: Scheduler = scheduler
        self._clock: Callable[[], float] = clock
        self._cdn_url: Callable[[], str] = cdn_url
        self._random: random.Random = random.Random(f"{config.seed}/sockets")  # noqa: S311 - a simulation
        self._broadcasts: dict[str, _Broadcast] = {}
        self._connections: dict[Connection, None] = {}
        self._counts: Counter[str] = Counter()

    def protocol(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> asyncio.Protocol:
        """Make what takes over a connection that is to be a WebSocket. Called by uvicorn."""
        del config, app_state
        return Connection(self, server_state)

    def ledger(self) -> dict[str, int]:
        """What has happened: ``opened``, ``open`` now, ``registered``, ``messages`` about tasks, ``cut``."""
        names = ("opened", "registered", "messages", "cut")
        return {**{name: self._counts[name] for name in names}, "open": len(self._connections)}

    def cut(self, how: CutHow = "drop", code: int = 1011, share: float = 1.0) -> int:
        """Break each open WebSocket with this probability, and return how many."""
        chosen = [each for each in tuple(self._connections) if self._random.random() < share]
        for connection in chosen:
            connection.cut(how, code)
        return len(chosen)

    # -- for connections -------------------------------------------------------------------------

    def count(self, entry: str) -> None:
        """Note something."""
        self._counts[entry] += 1

    def enter(self, connection: Connection) -> None:
        """Take a new connection."""
        self.count("opened")
        self._connections[connection] = None

    def leave(self, connection: Connection) -> None:
        """Forget a connection. Doing so twice is no fault."""
        self._connections.pop(connection, None)
        for token in connection.tokens:
            broadcast = self._broadcasts.get(token)
            if broadcast is not None:
                broadcast.connections.pop(connection, None)
                if not broadcast.connections:
                    self._forget(token)

    def register(self, connection: Connection, token: object) -> str:
        """Tell a connection of a task from now on.

        Returns:
            What is wrong with that; "" if nothing is.
        """
        if not isinstance(token, str) or not token:
            return "tasktoken-required"
        if token in connection.tokens:
            return ""
        limit = self._config.tasks_per_socket
        if limit is not None and len(connection.tokens) >= limit:
            return "too-many-tasks"
        try:
            broadcast = self._broadcasts.get(token) or self._begin(token)
        except Refusal:
            return "task-not-founded"  # the service's spelling
        connection.tokens.add(token)
        broadcast.connections[connection] = None
        self.count("registered")
        return ""

    def _begin(self, token: str) -> _Broadcast:
        form, cdn_url = self._config.socket_format, self._cdn_url()
        messages = MessageStream(self._engine, token, self._clock(), form=form, cdn_url=cdn_url)
        broadcast = _Broadcast(messages)
        if not messages.ended:
            self._broadcasts[token] = broadcast
            broadcast.follower = self._scheduler.follow(
                messages.task_id, lambda now: self._tell(token, broadcast, now)
            )
        return broadcast

    def _tell(self, token: str, broadcast: _Broadcast, now: float) -> float | None:
        texts, due = broadcast.messages.tell(now)
        for text in texts:
            frame = _frame(text)
            for connection in tuple(broadcast.connections):
                connection.tell(frame)
        if broadcast.messages.ended or not broadcast.connections:
            self._forget(token)
            return None
        return due

    def _forget(self, token: str) -> None:
        broadcast = self._broadcasts.pop(token, None)
        if broadcast is not None and broadcast.follower is not None:
            self._scheduler.unfollow(broadcast.follower)


class Connection(asyncio.Protocol):
    """A client's WebSocket.

    Args:
        sockets: All of them.
        server_state: The server's list of connections, which it ends when it stops.

    Attributes:
        tokens: The tasks that are registered.
        transport: The connection below.
    """

    __slots__ = (
        "_connections", "_cut", "_heard", "_live", "_parts", "_silent", "_sockets", "_timer", "_told", "_ws",
        "tokens", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, sockets: Sockets, server_state: ServerState) -> None:
        self._sockets: Sockets = sockets
        self._connections: set[Any] = server_state.connections
        self._ws: ServerProtocol = ServerProtocol(max_size=_MAX_MESSAGE, logger=_log)
        self._cut: CutSocket | None = None
        self._live: bool = False
        self._silent: bool = False
        self._heard: bool = True
        self._told: int = 0
        self._parts: list[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.tokens: set[str] = set()

    # -- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with the connection that asked for it."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BUFFER_LIMIT)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take what the client says."""
        if self._silent:
            return
        self._heard = True
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._open(event)
            else:
                assert isinstance(event, Frame)  # for the type checker: clients send no responses
                self._collect(event)
        self._flush()

    def eof_received(self) -> bool | None:
        """Take the news that no more will come: the connection ends."""
        return None

    def pause_writing(self) -> None:
        """Give up a client that does not read."""
        self._end()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the news that the connection is gone."""
        del exc
        self._end()
        self._connections.discard(self)

    def shutdown(self) -> None:
        """Leave, for the server stops. Called by uvicorn."""
        if self._live:
            self._ws.send_close(1001)
            self._flush()
        self.transport.close()

    # -- the client's side -----------------------------------------------------------------------

    def _open(self, request: Request) -> None:
        try:
            for host in request.headers.get_all("host") or [""]:
                for origin in request.headers.get_all("origin") or [""]:
                    self._sockets.access.check(host, origin)
        except Refusal as refusal:
            response = self._ws.reject(HTTPStatus.FORBIDDEN, refusal.message)
        else:
            response = self._ws.accept(request)
        self._ws.send_response(response)
        self._flush()
        if response.status_code != 101:
            return
        self._live = True
        self._wait(PING_EVERY, self._ping)
        self._sockets.enter(self)
        self._cut = _read_cut(request.headers.get(CUT, ""))
        if not self._cut_if("connect"):
            self.transport.write(_CONNECTED)

    def _collect(self, frame: Frame) -> None:
        """Put the fragments of a message together. Only texts are read."""
        if frame.opcode is Opcode.TEXT:
            self._parts = []
        elif frame.opcode is Opcode.BINARY:
            self._parts = None
        elif frame.opcode is not Opcode.CONT:
            return
        if self._parts is not None:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._take(b"".join(self._parts))

    def _take(self, data: bytes) -> None:
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not self._live or not isinstance(message, dict) or message.get("type") != "task_info":
            return
        problem = self._sockets.register(self, message.get("tasktoken"))
        if problem:
            self.transport.write(_frame(encode(type="error", message=problem, result=False)))
        else:
            self._cut_if("register")

    def tell(self, frame: bytes) -> None:
        """Send a message about a task."""
        self._sockets.count("messages")
        self.transport.write(frame)
        self._told += 1
        self._cut_if(self._told)

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()
        if self._live and self._ws.state is not State.OPEN:
            self._end()

    # -- the end ---------------------------------------------------------------------------------

    def cut(self, how: CutHow, code: int) -> None:
        """Break, one way or another; how is for :class:`CutSocket` to explain."""
        self._sockets.count("cut")
        self._end()
        if how == "close":
            self._ws.send_close(code)
            self._flush()
            self._wait(CLOSE_WAIT, self.transport.abort)
        elif how == "drop":
            self.transport.close()
        else:
            self._silent = True

    def _cut_if(self, after: object) -> bool:
        cut = self._cut
        if cut is None or cut.after != after:
            return False
        self.cut(cut.how, cut.code)
        return True

    def _end(self) -> None:
        """Be told of nothing more, and of no ping."""
        self._live = False
        self._sockets.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- pings -----------------------------------------------------------------------------------

    def _wait(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def _ping(self) -> None:
        self._heard = False
        self._ws.send_ping(b"")
        self._flush()
        self._wait(PONG_WAIT, self._check)

    def _check(self) -> None:
        if self._heard:
            self._wait(PING_EVERY - PONG_WAIT, self._ping)
        else:
            self.transport.abort()


def _frame(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return Frame(Opcode.TEXT, data).serialize(mask=False)


_CONNECTED = _frame(encode(type="connected", version="1.0"))


def check_cut(how: CutHow, code: int, share: float) -> None:
    """Refuse what :meth:`Sockets.cut` cannot do.

    Raises:
        ValueError: For another way to break, a code that cannot be sent, or a share that is none.
    """
    CutSocket(how=how, code=code)
    if not 0 <= share <= 1:
        raise ValueError(f"share={share!r} must be from 0 to 1.")


def cut_header(cut: CutSocket) -> str:
    """The header that tells a WebSocket when and how to break."""
    return f"{CUT}: {cut.after} {cut.how} {cut.code}"


def _read_cut(header: str) -> CutSocket | None:
    """Read such a header; None if it is another one."""
    after, how, code = (*header.split(), "", "", "")[:3]
    if how not in get_args(CutHow) or not code.isdecimal():
        return None
    when: Any = int(after) if after.isdecimal() else after
    try:
        return CutSocket(after=when, how=how, code=int(code))  # type: ignore[arg-type]
    except ValueError:
        return None
