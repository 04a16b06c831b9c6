"""What a task's socket says of it, as long as somebody waits: from the registration to the end.

The socket tells nothing of what came before the registration. So Detail is read once afterwards, and what the
socket says meanwhile is kept until that poll is in; and Detail is read again whenever the socket is lost.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from typing import TYPE_CHECKING, Protocol

import anyio

from wiro_async._aio import on_asyncio
from wiro_async._watch.pool import SocketUnavailable

if TYPE_CHECKING:
    from wiro_async._protocol.events import Message
    from wiro_async._protocol.records import TaskKey
    from wiro_async._types import Secret
    from wiro_async._watch.poll import Poll
    from wiro_async._watch.pool import Channel, Sockets

__all__ = ["Feed"]

EARLY_KEPT = 64
"""Messages kept until the poll after the registration: more than a task has statuses."""

LEAST_PATIENCE = 2.0
"""Seconds that the opening of a socket may take although a poll is due."""


class MessageHandler(Protocol):
    """Who learns from the messages."""

    def hear(self, message: Message, at: float) -> None:
        """Take a message that came *at* that time, on the event loop's clock."""
        ...


class Feed:
    """Keeps one task's socket open while somebody waits for the task.

    Args:
        sockets: The client's sockets.
        key: What the task is known by; its token may become known later.
        handler: Gets each message about the task, and when it came. Held weakly: an abandoned one closes its
            socket.
        poll: The task's poll, which slows down while the socket is open.
        safety_interval: Seconds between two polls meanwhile.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_confirmed",
        "_early",
        "_handler",
        "_key",
        "_opening",
        "_poll",
        "_safety_interval",
        "_sockets",
    )  # fmt: skip

    def __init__(
        self,
        sockets: Sockets,
        key: TaskKey,
        handler: MessageHandler,
        poll: Poll,
        safety_interval: float,
    ) -> None:
        self._sockets: Sockets = sockets
        self._key: TaskKey = key
        self._handler: weakref.ref[MessageHandler] = weakref.ref(handler, self.close)
        self._poll: weakref.ref[Poll] = weakref.ref(poll)
        self._safety_interval: float = safety_interval
        # From opening to open (there is a channel) to confirmed: a poll that was begun after the registration
        # is in, so that from then on nothing can be missed. A loss leads back to the start.
        self._opening: bool = False
        self._channel: Channel | None = None
        self._confirmed: bool = False
        self._early: list[tuple[Message, float]] = []

    @property
    def id(self) -> str | None:
        """The task's id, for messages that name no token."""
        return self._key.id

    @property
    def token(self) -> Secret | None:
        """The task's token, which the socket is registered with."""
        return self._key.token

    async def ensure(self, until: float = math.inf) -> None:
        """Open the socket if that can be done now; whatever comes in the way, the poll goes on.

        Args:
            until: When to give up, on the event loop's clock.
        """
        if self._channel is not None or self._opening:
            return
        if self._key.token is None or not self._sockets.room() or not on_asyncio():
            return
        now, poll = anyio.current_time(), self._poll()
        # A poll that is due soon is not put off for long.
        due = now if poll is None else poll.due(now)
        self._opening = True
        try:
            with anyio.CancelScope(deadline=min(max(due, now + LEAST_PATIENCE), until)):
                self._channel = await self._sockets.attach(self)
        except SocketUnavailable:
            return
        finally:
            self._opening = False
        if self._channel is not None:
            # What happened before the registration is not told again.
            self._poll_soon()

    def polled(self, key: TaskKey, asked: float) -> None:
        """Take the news that a poll is in, begun at *asked*: what the socket said meanwhile comes next."""
        self._key = key
        if self._confirmed or self._channel is None or asked < self._channel.registered_at:
            return
        self._confirmed = True
        self._set_safety_interval(self._safety_interval)
        early, self._early = self._early, []
        for message, at in early:
            self._tell(message, at)

    def heard(self, message: Message) -> None:
        """Take a message about the task."""
        at = loop_time()
        if self._confirmed:
            self._tell(message, at)
            return
        # An end is worth a poll at once, although it is not believed yet; said again, it is not.
        is_news = message.is_terminal and not any(early.is_terminal for early, _ in self._early)
        if is_news and (poll := self._poll()) is not None:
            poll.hurry()
        self._early = [*self._early[-EARLY_KEPT:], (message, at)]

    def _tell(self, message: Message, at: float) -> None:
        if (handler := self._handler()) is not None:
            handler.hear(message, at)

    def lost(self) -> None:
        """Take the news that the socket is gone: whatever it would have said, a poll tells."""
        self._forget()
        self._poll_soon()

    def close(self, _: object = None) -> None:
        """Give the socket up; safe to repeat."""
        channel = self._channel
        self._forget()
        if channel is not None:
            channel.close()

    def _forget(self) -> None:
        self._channel = None
        self._confirmed = False
        self._early = []
        self._set_safety_interval(None)

    def _set_safety_interval(self, safety_interval: float | None) -> None:
        if (poll := self._poll()) is not None:
            poll.safety_interval = safety_interval

    def _poll_soon(self) -> None:
        """Make a poll due now, within the budget."""
        if (poll := self._poll()) is not None:
            poll.polled_at = None
            poll.ring()


def loop_time() -> float:
    """Return the event loop's time, in its callbacks too, where anyio knows of no loop."""
    return asyncio.get_running_loop().time()
