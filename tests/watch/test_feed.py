"""A task's socket beside its poll: opened when it can be, believed after a poll, lost without a loss."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from tests.virtual import VirtualLoop
from tests.virtual import anyio_backend as both_backends
from wiro_async import Polling, Secret, Status
from wiro_async._protocol.events import Message
from wiro_async._protocol.records import TaskKey
from wiro_async._watch.feed import Feed
from wiro_async._watch.poll import Poll
from wiro_async._watch.pool import SocketUnavailable
from wiro_async._watch.schedule import Schedule

assert both_backends is not None

KEY = TaskKey("2221", Secret("token-2221"))
SAFETY = 60.0


@pytest.fixture
def anyio_backend() -> Any:
    """Sockets are for asyncio."""
    return "asyncio", {"loop_factory": VirtualLoop}


class FakeChannel:
    """What is left of a channel below the feed."""

    def __init__(self) -> None:
        self.registered_at = anyio.current_time()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class FakeSockets:
    """Opens channels after a while, or does not."""

    def __init__(self) -> None:
        self.is_roomy = True
        self.lasts = 0.1
        self.problem: Exception | None = None
        self.channels: list[FakeChannel] = []
        self.begun = 0

    def room(self) -> bool:
        return self.is_roomy

    async def attach(self, _listener: object) -> FakeChannel:
        self.begun += 1
        await anyio.sleep(self.lasts)
        if self.problem is not None:
            raise self.problem
        self.channels.append(FakeChannel())
        return self.channels[-1]


class Handle:
    """Who hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float]] = []
        self.polls: list[float] = []
        self.poll = Poll(Schedule(Polling()), since=anyio.current_time())
        self.sockets = FakeSockets()
        anything: Any = self.sockets
        self.feed = Feed(anything, KEY, self, self.poll, SAFETY)

    async def poll_once(self, _until: float) -> None:
        self.polls.append(anyio.current_time())

    def hear(self, message: Message, at: float) -> None:
        self.heard.append((message.type, at))


def say(status: Status) -> Message:
    """Return a message that announces a status."""
    return Message(status.value, status, "2221")


async def opened() -> Handle:
    """Return a handle whose feed is open and confirmed."""
    handle = Handle()
    await handle.feed.ensure()
    handle.feed.polled(KEY, anyio.current_time())
    return handle


async def test_a_socket_is_opened_once() -> None:
    """The first awaiter opens it; others, meanwhile and later, leave it alone."""
    handle = Handle()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(handle.feed.ensure)
    await handle.feed.ensure()
    assert handle.sockets.begun == 1
    assert (handle.feed.id, handle.feed.token) == ("2221", Secret("token-2221"))


async def test_after_the_registration_a_poll_is_due() -> None:
    """What happened before is not told again."""
    handle = Handle()
    await handle.feed.ensure()
    start = anyio.current_time()
    await handle.poll.step(handle)
    assert handle.polls == [start]
    assert handle.poll.safety_interval is None, "until a poll has shown what came before, nothing is certain"


async def test_after_that_poll_the_polls_are_rare() -> None:
    """The socket tells; the polls are a safety net."""
    handle = await opened()
    await handle.poll.step(handle)
    start = anyio.current_time()
    await handle.poll.step(handle)
    assert handle.polls[-1] == pytest.approx(start + SAFETY)


async def test_a_poll_that_was_begun_before_the_registration_confirms_nothing() -> None:
    """It may not have seen what the socket did not tell any more."""
    handle = Handle()
    before = anyio.current_time()
    await handle.feed.ensure()
    handle.feed.polled(KEY, before)
    assert handle.poll.safety_interval is None


async def test_what_comes_before_that_poll_is_kept_for_after_it() -> None:
    """In order, with the times at which it came."""
    handle = Handle()
    await handle.feed.ensure()
    first = anyio.current_time()
    handle.feed.heard(say(Status.ACCEPT))
    await anyio.sleep(1.0)
    handle.feed.heard(say(Status.START))
    assert handle.heard == []
    handle.feed.polled(KEY, first)
    assert handle.heard == [("task_accept", first), ("task_start", first + 1.0)]
    handle.feed.heard(say(Status.END))
    assert handle.heard[-1] == ("task_end", first + 1.0)


async def test_of_what_comes_early_the_newest_is_kept() -> None:
    """A flood fills no memory."""
    handle = Handle()
    await handle.feed.ensure()
    for _ in range(1000):
        handle.feed.heard(say(Status.OUTPUT))
    handle.feed.polled(KEY, anyio.current_time())
    assert len(handle.heard) == 64 + 1


async def test_an_early_end_makes_the_poll_due_at_once() -> None:
    """Although it is not believed before."""
    handle = Handle()
    await handle.feed.ensure()
    handle.poll.polled_at = anyio.current_time()
    handle.feed.heard(say(Status.POSTPROCESS_END))
    start = anyio.current_time()
    await handle.poll.step(handle)
    assert handle.polls == [start]


async def test_an_early_end_that_is_told_again_makes_no_further_poll_due() -> None:
    """Once is enough, until that poll is in."""
    handle = Handle()
    await handle.feed.ensure()
    for _ in range(3):
        handle.poll.polled_at = anyio.current_time()
        handle.feed.heard(say(Status.POSTPROCESS_END))
        await handle.poll.step(handle, anyio.current_time() + 1.0)
    assert len(handle.polls) == 1


async def test_a_lost_socket_makes_a_poll_due_and_is_opened_again() -> None:
    """And the poll is as it was without one."""
    handle = await opened()
    handle.poll.polled_at = anyio.current_time()
    handle.feed.lost()
    assert handle.poll.safety_interval is None
    start = anyio.current_time()
    await handle.poll.step(handle)
    assert handle.polls == [start]
    await handle.feed.ensure()
    assert handle.sockets.begun == 2


async def test_a_closed_feed_closes_its_channel_once() -> None:
    """And may be closed again, or before it was ever open."""
    handle = await opened()
    handle.feed.close()
    handle.feed.close()
    Handle().feed.close()
    assert handle.sockets.channels[0].closed == 1
    assert handle.poll.safety_interval is None


async def test_an_abandoned_handle_closes_its_socket() -> None:
    """The socket holds the feed, and the feed does not hold the handle."""
    handle = await opened()
    sockets, feed = handle.sockets, handle.feed
    del handle
    gc.collect()
    assert sockets.channels[0].closed == 1
    feed.polled(KEY, anyio.current_time())
    feed.heard(say(Status.END))
    feed.lost()


async def test_a_message_to_an_abandoned_handle_is_dropped() -> None:
    """Whoever hears the first of several messages may let go of the handle then."""
    held: list[Handle] = []
    heard: list[str] = []

    class Listener(Handle):
        def hear(self, message: Message, _at: float) -> None:
            heard.append(message.type)
            held.clear()

    held.append(Listener())
    feed, sockets, poll = held[0].feed, held[0].sockets, held[0].poll
    await feed.ensure()
    feed.heard(say(Status.START))
    feed.heard(say(Status.END))
    gc.collect()
    feed.polled(KEY, sockets.channels[0].registered_at)
    assert heard == ["task_start"]
    assert sockets.channels[0].closed == 1
    assert poll.safety_interval is None, "without a socket the poll is not slowed down"
    feed.heard(say(Status.END))
    assert heard == ["task_start"]


async def without_room(handle: Handle) -> None:
    handle.sockets.is_roomy = False


async def without_token(handle: Handle) -> None:
    handle.feed._key = TaskKey("2221")


@pytest.mark.parametrize("make", [without_room, without_token])
async def test_where_no_socket_can_be_opened_none_is_tried(make: Callable[[Handle], Awaitable[None]]) -> None:
    """The poll goes on as without."""
    handle = Handle()
    await make(handle)
    await handle.feed.ensure()
    assert handle.sockets.begun == 0
    assert handle.poll.polled_at is not None


async def test_a_token_that_a_poll_brings_opens_the_socket() -> None:
    """A task that was attached by its id has none before."""
    handle = Handle()
    handle.feed._key = TaskKey("2221")
    handle.feed.polled(KEY, anyio.current_time())
    await handle.feed.ensure()
    assert handle.sockets.begun == 1


async def test_a_socket_that_cannot_be_opened_leaves_the_poll_alone() -> None:
    """And is tried again when there is room for it."""
    handle = Handle()
    handle.sockets.problem = SocketUnavailable("refused")
    await handle.feed.ensure()
    assert handle.poll.polled_at is not None
    handle.sockets.problem = None
    await handle.feed.ensure()
    assert len(handle.sockets.channels) == 1


async def test_a_socket_that_opens_slowly_does_not_hold_up_a_poll() -> None:
    """Two seconds, or until the next poll."""
    handle = Handle()
    handle.sockets.lasts = 1000.0
    handle.poll.polled_at = None
    start = anyio.current_time()
    await handle.feed.ensure()
    assert anyio.current_time() == pytest.approx(start + 2.0)
    assert handle.poll.polled_at is None


async def test_a_wait_that_ends_gives_up_the_opening() -> None:
    """However much time there would be until the next poll."""
    handle = Handle()
    handle.sockets.lasts = 60.0
    start = anyio.current_time()
    await handle.feed.ensure(start + 0.5)
    assert anyio.current_time() == start + 0.5
    assert not handle.sockets.channels
