"""The sockets of a client: which task is on which, what is told to whom, and how failures are borne."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import ssl
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.servers import refused_port, tls_settings, until
from tests.virtual import VirtualLoop
from tests.ws_servers import PING, Handler, Peer, Service, accepted, frame, serving, told
from wiro_async import Client, Secret, Status
from wiro_async._protocol.events import Message
from wiro_async._watch.pool import Channel, Sockets, SocketUnavailable
from wiro_async._watch.websocket import Connection, make_setup

LOOPS = [
    pytest.param("asyncio", id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
VIRTUAL = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})])
TRIO = pytest.mark.parametrize("anyio_backend", ["trio"])


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run every async test on asyncio's own loop and on uvloop; trio has tests of its own."""
    return request.param


class Task:
    """Listens, and records what it is told."""

    def __init__(self, name: str = "1", *, known: bool = True, token: bool = True) -> None:
        self.id: str | None = name if known else None
        self.token: Secret | None = Secret(f"token-{name}") if token else None
        self.messages: list[Message] = []
        self.losses: int = 0
        self.then: Callable[[], object] = lambda: None

    def heard(self, message: Message) -> None:
        self.messages.append(message)
        self.then()

    def lost(self) -> None:
        self.losses += 1
        self.then()

    @property
    def statuses(self) -> list[Status | None]:
        return [message.status for message in self.messages]


async def passes(condition: Callable[[], object]) -> float:
    """Return how many seconds of a virtual clock pass until *condition* holds."""
    start = anyio.current_time()
    with anyio.fail_after(1000):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return anyio.current_time() - start


def client(url: str, *, tls: ssl.SSLContext | None = None, ready: bool = True, **options: Any) -> Sockets:
    """Make the sockets of a client; *ready* ones need no thread, which a virtual clock would not wait for."""
    settings = {"limit": 8, "tasks_per_socket": 1, "connect_timeout": 5.0, "user_agent": "test", **options}
    if tls is not None:
        settings["tls"] = lambda: tls
    sockets = Sockets(url, **settings)
    if ready:
        sockets._setup = make_setup(url, lambda: tls or ssl.create_default_context(), "test")
    return sockets


async def close(sockets: Sockets) -> None:
    """Close them all, and let the event loop take notice."""
    sockets.abort_all()
    await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def watching(handler: Handler, **options: Any) -> AsyncIterator[tuple[Sockets, Service]]:
    """Serve with *handler*, and close all sockets at the end."""
    async with serving(handler) as service:
        sockets = client(service.url, **options)
        try:
            yield sockets, service
        finally:
            await close(sockets)
        assert sockets.open_sockets == 0


async def register_all(peer: Peer) -> None:
    await peer.register_all()


def after_registration(*messages: bytes, then: Callable[[Peer], object] = lambda peer: None) -> Handler:
    """Return a handler that takes one registration, sends *messages*, and reads on."""

    async def handler(peer: Peer) -> None:
        peer.tell(type="connected", version="1.0")
        await peer.registration()
        for message in messages:
            peer.raw(message)
        then(peer)
        await peer.register_all()

    return handler


LIFE = [
    told(type=status.value, id="1", tasktoken="token-1", message=None, result=True)
    for status in (Status.ACCEPT, Status.START, Status.OUTPUT, Status.END, Status.POSTPROCESS_END)
]


# -- one task on one socket ------------------------------------------------------------------------------


async def test_a_task_is_registered_and_heard() -> None:
    """With its token alone, and from the registration on every message about it is handed on in order."""
    async with watching(after_registration(*LIFE)) as (sockets, service):
        task = Task()
        before = anyio.current_time()
        channel = await sockets.attach(task)
        assert channel.live
        assert before <= channel.registered_at <= anyio.current_time()
        assert sockets.open_sockets == 1
        await until(lambda: len(task.messages) == 5)
        channel.close()
        channel.close()
        assert sockets.open_sockets == 0
        await until(lambda: service.open == 0)
    assert service.tokens == ["token-1"]
    assert task.statuses[-1] == Status.POSTPROCESS_END
    assert task.losses == 0


async def test_over_tls_with_settings_made_in_a_thread() -> None:
    """The library and the certificates are read once, and not on the event loop."""
    server, settings = tls_settings()
    made: list[str] = []

    def tls() -> ssl.SSLContext:
        made.append(threading.current_thread().name)
        return settings

    async with serving(after_registration(*LIFE), tls=server, host="localhost") as service:
        sockets = client(service.url, ready=False)
        sockets._tls = tls
        tasks = [Task() for _ in range(3)]
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(sockets.attach, task)
        await until(lambda: all(len(task.messages) == 5 for task in tasks))
        await close(sockets)
    assert len(made) == 1
    assert made[0] != threading.current_thread().name


@pytest.mark.parametrize("count", range(len(LIFE)))
@pytest.mark.parametrize("way", ["drop", "close"])
async def test_a_loss_after_any_event(count: int, way: str) -> None:
    """What came before is heard, and the loss is told once."""

    def end(peer: Peer) -> None:
        peer.close(1001) if way == "close" else asyncio.get_running_loop().call_later(0.02, peer.drop)

    async with watching(after_registration(*LIFE[:count], then=end)) as (sockets, _):
        task = Task()
        channel = await sockets.attach(task)
        await until(lambda: task.losses)
        assert not channel.live
        assert len(task.messages) == count
        assert sockets.open_sockets == 0
        assert not sockets.room()
        channel.close()
    assert task.losses == 1


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 4000])
async def test_every_close_code_is_a_loss(code: int) -> None:
    """Whatever the reason, the poll takes over."""
    async with watching(after_registration(then=lambda peer: peer.close(code))) as (sockets, _):
        task = Task()
        await sockets.attach(task)
        await until(lambda: task.losses)
    assert task.losses == 1


async def test_the_service_may_close_after_the_end() -> None:
    """Then nothing is wrong with it, and further sockets are opened at once."""
    async with watching(after_registration(*LIFE, then=lambda peer: peer.close())) as (sockets, _):
        for _ in range(3):
            task = Task()
            await sockets.attach(task)
            await until(lambda task=task: task.losses)  # type: ignore[misc]
            assert len(task.messages) == 5
            assert sockets.room()


@pytest.mark.parametrize(
    "message",
    [
        b"\xff\xfe", b"", b"[]", b"null", b'{"type":"task_invented","id":"1"}', b'{"type":"connected"}',
        b'{"type":"task_cancel","id":"2"}', b'{"type":"task_cancel","id":"1","tasktoken":"token-2"}',
        b'{"type":"error","id":"2","result":false}', b'{"type":"error","tasktoken":"token-2","result":false}',
        b'{"type":"task_output","id":"1","message":' + b"[" * 90_000,
    ],
)  # fmt: skip
async def test_what_is_not_about_the_task(message: bytes) -> None:
    """Garbage and other tasks' messages change nothing, and the socket stays."""
    async with watching(after_registration(frame(1, message), frame(2, b"t|pcm"), *LIFE)) as (sockets, _):
        task = Task()
        channel = await sockets.attach(task)
        await until(lambda: len(task.messages) == 5)
        assert task.statuses[0] == Status.ACCEPT
        assert channel.live


@pytest.mark.parametrize(
    ("names", "known", "is_heard"),
    [
        ({}, True, True),
        ({}, False, True),
        ({"id": "1"}, True, True),
        ({"id": 1}, True, True),
        ({"id": "1"}, False, True),
        ({"id": "2"}, True, False),
        ({"tasktoken": "token-1"}, False, True),
        ({"tasktoken": "token-1", "id": "77"}, True, True),
        ({"tasktoken": "token-2", "id": "1"}, True, False),
    ],
)
async def test_whose_message_it_is(names: dict[str, Any], known: bool, is_heard: bool) -> None:
    """The token decides; else the id; a message without names is about the only task there is."""
    messages = told(type="task_start", **names), told(type="task_end", tasktoken="token-1")
    async with watching(after_registration(*messages)) as (sockets, _):
        task = Task(known=known)
        await sockets.attach(task)
        await until(lambda: Status.END in task.statuses)
        assert (Status.START in task.statuses) == is_heard


async def test_duplicates_are_handed_on() -> None:
    """It is the fold of the task's history that leaves them out."""
    async with watching(after_registration(LIFE[0], LIFE[0], LIFE[1], LIFE[0])) as (sockets, _):
        task = Task()
        await sockets.attach(task)
        await until(lambda: len(task.messages) == 4)


async def test_a_task_without_a_token() -> None:
    """It cannot be registered."""
    sockets = client("ws://127.0.0.1:1/v1")
    with pytest.raises(SocketUnavailable, match="token"):
        await sockets.attach(Task(token=False))
    assert sockets.open_sockets == 0


# -- how many --------------------------------------------------------------------------------------------


async def test_no_more_sockets_than_the_limit() -> None:
    """What is beyond it is polled, until a place is free."""
    async with watching(register_all, limit=2) as (sockets, service):
        channels = [await sockets.attach(Task(str(number))) for number in range(2)]
        assert not sockets.room()
        with pytest.raises(SocketUnavailable):
            await sockets.attach(Task("3"))
        channels[0].close()
        assert sockets.room()
        await sockets.attach(Task("4"))
        await until(lambda: len(service.tokens) == 3)
        assert len(service.peers) == 3


async def test_fifty_at_once_are_opened_in_turns() -> None:
    """A crowd of tasks does not make a crowd of handshakes."""
    most = now = 0

    async def handler(peer: Peer) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        # Until as many as can be are there.
        if len(service.peers) <= 32:
            await until(lambda: most >= 32)
        await peer.shake()
        now -= 1
        await peer.register_all()

    async with serving(handler, shake=False) as service:
        sockets = client(service.url, limit=50)
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(sockets.attach, Task(str(number)))
        await until(lambda: len(service.tokens) == 50)
        assert sockets.open_sockets == 50
        await close(sockets)
    assert most == 32


# -- several tasks on one socket -------------------------------------------------------------------------


async def test_tasks_share_sockets_where_the_user_says_so() -> None:
    """Each message reaches the task that it names, by token or by id; without a name it reaches nobody."""

    async def handler(peer: Peer) -> None:
        names = [(await peer.registration()).removeprefix("token-") for _ in range(2)]
        peer.tell(type="task_start")
        for name in names:
            peer.tell(type="task_accept", tasktoken=f"token-{name}")
            peer.tell(type="task_start", id=name)
            peer.tell(type="task_output", id="77")
            peer.tell(type="task_end", tasktoken="token-77", id=name)
        peer.tell(type="task_cancel", tasktoken=f"token-{names[0]}")
        await peer.register_all()

    async with watching(handler, tasks_per_socket=2) as (sockets, service):
        tasks = [Task(str(number)) for number in range(4)]
        for task in tasks:
            await sockets.attach(task)
        assert sockets.open_sockets == 2
        await until(lambda: all(len(task.messages) >= 2 for task in tasks))
        await until(lambda: sum(len(task.messages) for task in tasks) == 10)
        assert [peer.tokens for peer in service.peers] == [["token-0", "token-1"], ["token-2", "token-3"]]
        assert tasks[0].statuses == [Status.ACCEPT, Status.START, Status.CANCEL]
        assert tasks[3].statuses == [Status.ACCEPT, Status.START]


async def test_an_id_may_become_known_later() -> None:
    """A task that was attached by its token alone is found by its id as soon as that is known."""
    speak = asyncio.Event()

    async def handler(peer: Peer) -> None:
        for _ in range(3):
            await peer.registration()
        for status in ("task_accept", "task_start"):
            peer.tell(type=status, id="2")
            peer.tell(type=status, id="1")
            await speak.wait()
        await peer.register_all()

    async with watching(handler, tasks_per_socket=3) as (sockets, _):
        tasks = [Task("1"), Task("2", known=False), Task("3", known=False)]
        for task in tasks:
            await sockets.attach(task)
        await until(lambda: tasks[0].messages)
        assert not tasks[1].messages
        tasks[1].id = "2"
        speak.set()
        await until(lambda: len(tasks[0].messages) == 2)
        assert tasks[1].statuses == [Status.START]


async def test_two_who_wait_for_one_task() -> None:
    """It is registered once, both hear of it, and the other one goes on when one leaves."""
    speak = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.registration()
        peer.tell(type="task_start")
        await speak.wait()
        peer.tell(type="task_end")
        await peer.register_all()

    async with watching(handler, tasks_per_socket=5) as (sockets, service):
        one, two = Task("1"), Task("1")
        channel = await sockets.attach(one)
        await sockets.attach(two)
        await until(lambda: one.messages)
        await until(lambda: two.messages)
        channel.close()
        speak.set()
        await until(lambda: len(two.messages) == 2)
        assert sockets.open_sockets == 1
        assert len(one.messages) == 1
    assert service.tokens == ["token-1"]


async def test_a_place_that_is_left_is_taken_again() -> None:
    """The last one to leave closes the socket."""
    async with watching(register_all, tasks_per_socket=2, limit=1) as (sockets, service):
        first = await sockets.attach(Task("1"))
        second = await sockets.attach(Task("2"))
        assert not sockets.room()
        first.close()
        assert sockets.room()
        third = await sockets.attach(Task("3"))
        assert len(service.peers) == 1
        second.close()
        assert sockets.open_sockets == 1
        third.close()
        assert sockets.open_sockets == 0
        await until(lambda: service.open == 0)


async def test_a_socket_that_is_being_opened_is_shared() -> None:
    """Whoever comes meanwhile waits for the same handshake."""
    async with watching(register_all, tasks_per_socket=10) as (sockets, service):
        tasks = [Task(str(number)) for number in range(10)]
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(sockets.attach, task)
        await until(lambda: len(service.tokens) == 10)
        assert len(service.peers) == 1


@VIRTUAL
async def test_who_opens_a_shared_socket_may_leave() -> None:
    """Another one opens it then; one that only waits leaves without a trace."""

    async def handler(peer: Peer) -> None:
        await asyncio.sleep(1)
        await peer.shake()
        await peer.register_all()

    async with serving(handler, shake=False) as service:
        sockets = client(service.url, tasks_per_socket=3)
        opener, waiter, other = (asyncio.ensure_future(sockets.attach(Task(name))) for name in "123")
        await asyncio.sleep(0.5)
        assert sockets.open_sockets == 1
        opener.cancel()
        other.cancel()
        channel = await waiter
        assert channel.live
        assert sockets.open_sockets == 1
        await asyncio.sleep(0.1)
        assert service.tokens == ["token-2"]
        await close(sockets)


@VIRTUAL
async def test_a_shared_socket_that_cannot_be_opened() -> None:
    """All who wait for it are told."""

    async def handler(peer: Peer) -> None:
        await asyncio.sleep(1)

    async with serving(handler, shake=False) as service:
        sockets = client(service.url, tasks_per_socket=3)
        results = await asyncio.gather(
            *(sockets.attach(Task(name)) for name in "123"), return_exceptions=True
        )
        assert [type(result) for result in results] == [SocketUnavailable] * 3
        assert sockets.open_sockets == 0


# -- refusals --------------------------------------------------------------------------------------------


async def test_a_refused_task_is_not_tried_again() -> None:
    """The loss is told once, and the service is not asked a second time; other tasks are not affected."""

    async def handler(peer: Peer) -> None:
        if await peer.registration() == "token-1":
            peer.tell(type="error", message="tasktoken-invalid", result=False)
            peer.tell(type="task_start", tasktoken="token-1")
        await peer.register_all()

    async with watching(handler) as (sockets, service):
        task = Task("1")
        await sockets.attach(task)
        await until(lambda: task.losses)
        assert sockets.room()
        assert sockets.open_sockets == 0
        with pytest.raises(SocketUnavailable, match="token"):
            await sockets.attach(Task("1"))
        await sockets.attach(Task("2"))
        assert len(service.peers) == 2
    assert task.losses == 1
    assert task.messages == []


async def test_a_service_that_allows_fewer_tasks_on_a_socket() -> None:
    """The newest task is the one that was refused; it gets a socket of its own, and the others go on."""

    async def handler(peer: Peer) -> None:
        await peer.registration()
        peer.tell(type="task_accept", tasktoken=peer.tokens[0])
        await peer.registration()
        peer.tell(type="error", message="too-many-tasks", result=False)
        peer.tell(type="task_start", tasktoken=peer.tokens[0])
        await peer.register_all()

    async with watching(handler, tasks_per_socket=3) as (sockets, service):
        first, second = Task("1"), Task("2")
        await sockets.attach(first)
        await until(lambda: first.messages)
        await sockets.attach(second)
        await until(lambda: second.losses)
        await until(lambda: len(first.messages) == 2)
        assert first.losses == 0
        channel = await sockets.attach(second)
        assert channel.live
        assert sockets.open_sockets == 2
        await until(lambda: [peer.tokens for peer in service.peers] == [["token-1", "token-2"], ["token-2"]])


@pytest.mark.parametrize("names", [{"id": "1"}, {"tasktoken": "token-1"}])
async def test_a_refusal_that_names_its_task(names: dict[str, str]) -> None:
    """That task is lost, and no other."""

    async def handler(peer: Peer) -> None:
        await peer.registration()
        await peer.registration()
        peer.tell(type="error", result=False, **names)
        await peer.register_all()

    async with watching(handler, tasks_per_socket=2) as (sockets, _):
        tasks = [Task("1"), Task("2")]
        channels = [await sockets.attach(task) for task in tasks]
        await until(lambda: tasks[0].losses)
        assert [channel.live for channel in channels] == [False, True]
        assert tasks[1].losses == 0


async def test_a_refusal_that_fits_nobody() -> None:
    """Where every task has been heard of, none of them was refused; only no more tasks join."""

    async def handler(peer: Peer) -> None:
        for _ in range(2):
            peer.tell(type="task_start", tasktoken=await peer.registration())
        peer.tell(type="error", result=False)
        peer.tell(type="task_end", tasktoken=peer.tokens[0])
        await peer.register_all()

    async with watching(handler, tasks_per_socket=3) as (sockets, _):
        tasks = [Task("1"), Task("2")]
        for task in tasks:
            await sockets.attach(task)
        await until(lambda: len(tasks[0].messages) == 2)
        assert [task.losses for task in tasks] == [0, 0]
        await sockets.attach(Task("3"))
        assert sockets.open_sockets == 2


async def test_refused_tokens_are_forgotten_in_the_end() -> None:
    """A process that lives for months does not gather them."""
    sockets = client("ws://127.0.0.1:1/v1")
    for number in range(1000):
        sockets.refuse(Secret(str(number)))
    assert len(sockets._refused) == 256
    assert Secret("999") in sockets._refused


# -- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nobody_listens(host: str) -> None:
    """There is no socket, and for a while none is tried."""
    sockets = client(f"ws://{host}:{refused_port()}/v1")
    with pytest.raises(SocketUnavailable):
        await sockets.attach(Task())
    assert sockets.open_sockets == 0
    assert not sockets.room()


async def test_a_host_that_cannot_be_asked_for() -> None:
    """A label of 64 letters is no error of the wait."""
    sockets = client(f"ws://{'x' * 64}.example:80/v1")
    with pytest.raises(SocketUnavailable):
        await sockets.attach(Task())


@pytest.mark.parametrize("error", [ImportError("no websockets"), OSError("no certificates"), OSError()])
async def test_what_cannot_be_prepared(error: Exception) -> None:
    """A broken library or missing certificates leave the poll."""

    def tls() -> ssl.SSLContext:
        raise error

    sockets = client("wss://127.0.0.1:1/v1", ready=False)
    sockets._tls = tls
    with pytest.raises(SocketUnavailable, match=str(error) or "OSError"):
        await sockets.attach(Task())
    assert sockets.open_sockets == 0


@VIRTUAL
async def test_a_silent_service_is_left_after_the_timeout() -> None:
    """The handshake has as long as any connection."""

    async def handler(peer: Peer) -> None:
        await peer._reader.read()

    async with serving(handler, shake=False) as service:
        sockets = client(service.url, connect_timeout=5.0)
        start = anyio.current_time()
        with pytest.raises(SocketUnavailable, match="within 5 s"):
            await sockets.attach(Task())
        assert anyio.current_time() - start == pytest.approx(5.0, abs=0.1)
        assert sockets.open_sockets == 0


@VIRTUAL
@pytest.mark.parametrize(("patience", "is_failure"), [(0.5, False), (2.0, True)])
async def test_patience_that_ends_before_the_timeout(patience: float, is_failure: bool) -> None:
    """A cancellation is nobody's fault, but a peer that was silent for a second is left alone for a while."""

    async def handler(peer: Peer) -> None:
        await peer._reader.read()

    async with serving(handler, shake=False) as service:
        sockets = client(service.url, connect_timeout=5.0)
        with anyio.move_on_after(patience):
            await sockets.attach(Task())
        assert sockets.open_sockets == 0
        assert sockets.room() != is_failure


@VIRTUAL
async def test_pauses_grow_with_failures() -> None:
    """1 s, doubled up to 60 s, drawn between the half and the whole; and there is no room meanwhile."""
    refused = 0

    async def handler(peer: Peer) -> None:
        nonlocal refused
        refused += 1
        await peer._reader.readuntil(b"\r\n\r\n")
        peer.raw(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")

    async with serving(handler, shake=False) as service:
        chances = [0.0, 1.0, 0.5]
        sockets = client(service.url, chance=lambda: chances[refused % 3])
        pauses = []
        for _ in range(10):
            with pytest.raises(SocketUnavailable, match="503"):
                await sockets.attach(Task())
            with pytest.raises(SocketUnavailable, match="now"):
                await sockets.attach(Task())
            pauses.append(round(await passes(sockets.room), 1))
    assert pauses == [1.0, 1.5, 2.0, 8.0, 12.0, 16.0, 60.0, 45.0, 30.0, 60.0]
    assert refused == 10


@VIRTUAL
async def test_sockets_that_fail_together_fail_once() -> None:
    """A service that restarts is not punished for the number of its sockets."""
    async with watching(after_registration(then=lambda peer: peer.close(1012)), chance=lambda: 1.0) as (
        sockets,
        _,
    ):
        tasks = [Task(str(number)) for number in range(5)]
        await asyncio.gather(*map(sockets.attach, tasks))
        await passes(lambda: all(task.losses for task in tasks))
        assert not sockets.room()
        await anyio.sleep(1.0)
        assert sockets.room()


@VIRTUAL
async def test_a_success_that_lasted_shortens_the_pause() -> None:
    """After early closes the pauses grow; after a socket that lived on they begin anew."""
    lasts = [0.0, 0.0, 0.0, 30.0, 0.0]

    async def handler(peer: Peer) -> None:
        await peer.registration()
        await asyncio.sleep(lasts.pop(0))
        peer.close(1011)
        await peer.register_all()

    pauses = []
    async with watching(handler, chance=lambda: 1.0) as (sockets, _):
        while lasts:
            task = Task()
            await sockets.attach(task)
            await passes(lambda task=task: task.losses)  # type: ignore[misc]
            pauses.append(round(await passes(sockets.room)))
    assert pauses == [1, 2, 4, 1, 2]


@VIRTUAL
async def test_a_task_seen_to_its_end_is_a_success() -> None:
    """However short it was."""
    results = [False, False, True, False]

    async def handler(peer: Peer) -> None:
        await peer.registration()
        if results.pop(0):
            peer.tell(type="task_cancel")
        peer.close()
        await peer.register_all()

    pauses = []
    async with watching(handler, chance=lambda: 1.0) as (sockets, _):
        while results:
            task = Task()
            await sockets.attach(task)
            await passes(lambda task=task: task.losses)  # type: ignore[misc]
            pauses.append(round(await passes(sockets.room)))
    assert pauses == [1, 2, 0, 1]


@VIRTUAL
async def test_a_half_open_socket_is_noticed() -> None:
    """A peer that is gone without a word is a loss after 65 s."""

    async def handler(peer: Peer) -> None:
        await peer.registration()
        await peer._reader.read()

    async with watching(handler) as (sockets, _):
        task = Task()
        await sockets.attach(task)
        assert await passes(lambda: task.losses) == pytest.approx(65, abs=1)


async def test_a_socket_that_is_lost_at_once() -> None:
    """A close in the packet of the handshake is no channel, or one that is lost; a refusal likewise."""
    for last in (frame(8, b"\x03\xe8"), told(type="error", result=False)):

        async def handler(peer: Peer, last: bytes = last) -> None:
            head = await peer._reader.readuntil(b"\r\n\r\n")
            peer.raw(accepted(head) + last)
            await peer.register_all()

        async with serving(handler, shake=False) as service:
            sockets = client(service.url)
            task = Task()
            losses = 0
            try:
                await sockets.attach(task)
                losses = 1
            except SocketUnavailable:
                pass
            await until(lambda sockets=sockets: sockets.open_sockets == 0)  # type: ignore[misc]
            assert task.losses == losses


@VIRTUAL
async def test_a_socket_that_is_lost_while_its_opener_wakes() -> None:
    """It is unavailable, and nobody is told of a loss."""
    async with watching(register_all) as (sockets, _):
        task = Task()
        connect = sockets.connect

        async def connect_and_lose(socket: Any) -> None:
            await connect(socket)
            socket.abandon()

        sockets.connect = connect_and_lose  # type: ignore[method-assign]
        with pytest.raises(SocketUnavailable, match="at once"):
            await sockets.attach(task)
        assert task.losses == 0


# -- the end ---------------------------------------------------------------------------------------------


async def test_closing_the_client() -> None:
    """Every listener is told, every socket is closed, and no other is opened."""
    async with watching(register_all, tasks_per_socket=2) as (sockets, service):
        tasks = [Task(str(number)) for number in range(5)]
        channels = [await sockets.attach(task) for task in tasks]
        await close(sockets)
        await close(sockets)
        assert [task.losses for task in tasks] == [1] * 5
        assert not any(channel.live for channel in channels)
        assert not sockets.room()
        with pytest.raises(SocketUnavailable):
            await sockets.attach(Task())
        await until(lambda: service.open == 0)


@VIRTUAL
async def test_closing_the_client_while_sockets_are_opened() -> None:
    """Those that wait for their turn, and those that wait for the peer, are unavailable."""

    async def handler(peer: Peer) -> None:
        await peer._reader.read()

    async with serving(handler, shake=False) as service:
        sockets = client(service.url, limit=40)
        opening = [asyncio.ensure_future(sockets.attach(Task(str(number)))) for number in range(40)]
        await asyncio.sleep(1)
        sockets.abort_all()
        results = await asyncio.gather(*opening, return_exceptions=True)
        assert [type(result) for result in results] == [SocketUnavailable] * 40
        assert len(service.peers) == 32


async def test_a_listener_that_closes_what_it_hears_of() -> None:
    """It hears no more, although its messages are in the same packet; and the socket is closed."""
    async with watching(after_registration(*LIFE)) as (sockets, service):
        task = Task()
        channels: list[Channel] = []

        def close() -> None:
            channels[0].close()

        task.then = close
        channels.append(await sockets.attach(task))
        await until(lambda: service.open == 0)
        assert task.statuses == [Status.ACCEPT]
        assert task.losses == 0
        assert sockets.open_sockets == 0


@VIRTUAL
async def test_a_listener_that_closes_another_when_it_is_lost() -> None:
    """The other one is not told any more."""
    async with watching(register_all, tasks_per_socket=2) as (sockets, _):
        one, two = Task("1"), Task("2")
        await sockets.attach(one)
        other = await sockets.attach(two)
        one.then = other.close
        sockets.abort_all()
        await anyio.sleep(0.1)
        assert (one.losses, two.losses) == (1, 0)


@pytest.mark.parametrize("by", ["us", "the peer"])
async def test_a_closed_socket_is_not_left_to_the_garbage_collector(by: str) -> None:
    """Thousands of them would make it stop everything for long."""
    gc.collect()
    gc.disable()
    try:
        before = _connections()
        handler = register_all if by == "us" else after_registration(then=Peer.close)
        async with watching(handler) as (sockets, _):
            one = Task()
            channel = await sockets.attach(one)
            assert _connections() == before + 1
            if by == "us":
                channel.close()
            await until(lambda: sockets.open_sockets == 0)
            assert one.losses == (by != "us")
            await until(lambda: _connections() == before)
    finally:
        gc.enable()


def _connections() -> int:
    return sum(isinstance(each, Connection) for each in gc.get_objects())


async def test_a_channel_may_be_closed_from_any_thread() -> None:
    """As the garbage collector does."""
    async with watching(register_all) as (sockets, service):
        channel = await sockets.attach(Task())
        await anyio.to_thread.run_sync(channel.close)
        assert not channel.live
        await until(lambda: sockets.open_sockets == 0)
        await until(lambda: service.open == 0)


def test_a_channel_may_be_closed_after_its_event_loop() -> None:
    """Whatever is left of it then is nothing to complain of."""
    channels: list[Channel] = []
    port = refused_port()

    async def leave() -> None:
        sockets = client(f"ws://127.0.0.1:{port}/v1")
        channels.append(sockets._reserve(Task()))

    asyncio.run(leave())
    channels[0].close()
    gc.collect()
    assert not channels[0].live


async def test_natively_cancelled_at_any_moment() -> None:
    """200 times: no socket stays open, none is counted, and nobody is told of a loss that was none."""
    chance = random.Random(11)
    async with watching(register_all, tasks_per_socket=3, limit=5, chance=lambda: 0.0) as (sockets, service):
        attached: list[Channel] = []

        async def attach(task: Task) -> None:
            with suppress(SocketUnavailable):
                attached.append(await sockets.attach(task))

        tasks = [Task(str(number)) for number in range(200)]
        running: list[asyncio.Task[None]] = []
        for task in tasks:
            running.append(asyncio.ensure_future(attach(task)))
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            if chance.random() < 0.2:
                await asyncio.sleep(0.002)
            running[chance.randrange(len(running))].cancel()
            if attached and chance.random() < 0.4:
                attached.pop(chance.randrange(len(attached))).close()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for channel in attached:
            channel.close()
        assert sockets.open_sockets == 0
        assert not sockets._with_room
        assert sum(task.losses for task in tasks) == 0
        await until(lambda: service.open == 0)
        assert sockets._opening.in_flight == 0


# -- where there are none --------------------------------------------------------------------------------


@TRIO
async def test_on_trio_there_are_no_sockets() -> None:
    """Asking costs nothing, and the poll goes on."""
    sockets = client("ws://127.0.0.1:1/v1")
    assert sockets.room()
    with pytest.raises(SocketUnavailable):
        await sockets.attach(Task())
    await close(sockets)


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how to get it."""
    async with Client("key", watch="socket"):
        pass
    monkeypatch.setitem(sys.modules, "websockets", None)
    async with Client("key"):
        pass
    with pytest.raises(ImportError, match=r"pip install '\.\[ws\]'"):
        Client("key", watch="socket")


def test_on_an_event_loop_of_asyncios_own() -> None:
    """Outside of tasks anyio does not know it, so nothing here asks anyio there."""
    reported: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        task = Task()
        async with watching(after_registration(*LIFE[:2], then=lambda peer: peer.close())) as (sockets, _):
            await sockets.attach(task)
            await until(lambda: task.losses)
            assert len(task.messages) == 2
            assert not sockets.room()

    asyncio.run(main())
    assert reported == []


# -- secrets ---------------------------------------------------------------------------------------------


async def test_tokens_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in logs nor in exceptions with their locals, nor in the repr of anything."""
    caplog.set_level(logging.DEBUG)

    async def handler(peer: Peer) -> None:
        token = await peer.registration()
        peer.tell(type="error", message=f"no such token: {token}", result=False)
        await peer.register_all()

    async with watching(handler) as (sockets, service):
        task = Task("canary")
        channel = await sockets.attach(task)
        shown = [repr(channel), repr(sockets)]
        await until(lambda: task.losses)
        with pytest.raises(SocketUnavailable) as caught:
            await sockets.attach(task)
        shown += traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        assert service.tokens == ["token-canary"]
    assert "token-canary" not in "".join(shown) + caplog.text
    assert json.dumps(sorted(record.name for record in caplog.records)).count("websocket") == 0


async def test_a_ping_is_answered_while_tasks_are_heard() -> None:
    """The service's own check finds us there."""
    async with watching(after_registration(frame(PING, b"there?"), *LIFE)) as (sockets, service):
        task = Task()
        await sockets.attach(task)
        await until(lambda: len(task.messages) == 5)
        await until(lambda: (10, b"there?") in service.peers[0].frames)
