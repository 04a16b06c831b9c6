"""The sandbox's WebSocket, over real sockets; time passes when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection, connect

from tests.servers import PATIENCE, wait_until
from tests.virtual import VirtualLoop
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._service import Service
from wiro_async.sandbox._sockets import CUT, cut_header
from wiro_async.sandbox.faults import CutHow, CutSocket, FaultPlan, Injection

IMAGE = {"inputImageFirstUrl": "https://example.com/a.jpg", "prompt": "she walks"}
HANDSHAKE = (
    b"GET /v1 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
Message = dict[str, Any]

CATALOGUE = Catalogue.load()

# The client's own logger: what it would write down is not of interest.
_log = logging.getLogger("tests.quiet")
_log.setLevel(logging.CRITICAL)


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now: float = 1_734_513_807.5

    def __call__(self) -> float:
        return self.now


class Rig:
    """A sandbox on a clock of its own, and what a client does with it."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.sandbox = Sandbox(api_key="k", api_secret=None, render=False, clock=self.clock, **options)

    def post(self, path: str, body: Message) -> Message:
        """Call an operation."""
        reply: Message = httpx.post(
            f"{self.sandbox.origin}{path}",
            json=body,
            headers={"x-api-key": "k", "x-sandbox-token": self.sandbox.control_token},
        ).json()
        return reply

    def make_service(self) -> Service:
        """The inside of a sandbox, without a server."""
        return Service(self.sandbox.config, CATALOGUE, self.clock)

    def run(self, prompt: str = "she walks") -> Message:
        """Submit a job."""
        return self.post("/v1/Run/MiniMax/image-to-video-01-director", {**IMAGE, "prompt": prompt})

    @contextlib.contextmanager
    def connect(self, header: str = "", *, greeted: bool = True) -> Iterator[ClientConnection]:
        """Open a WebSocket."""
        name, _, value = header.partition(": ")
        headers = {name: value} if header else None
        with connect(
            self.sandbox.socket_url, additional_headers=headers, close_timeout=1, logger=_log
        ) as client:
            if greeted:
                assert take(client) == {"type": "connected", "version": "1.0"}
            yield client

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        self.in_server(self.service.scheduler.ring)

    @property
    def service(self) -> Any:
        """The sandbox's inside."""
        return self.sandbox._service

    def in_server(self, call: Callable[[], object]) -> None:
        """Do something in the server's thread, and wait for it."""
        done = threading.Event()
        assert self.sandbox._server is not None
        self.sandbox._server.call_soon(call)
        self.sandbox._server.call_soon(done.set)
        assert done.wait(PATIENCE)

    def sockets(self) -> dict[str, int]:
        """The books on WebSockets."""
        books: dict[str, int] = self.sandbox.ledger()["sockets"]
        return books


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Rig]:
    rig = Rig(**options)
    with rig.sandbox:
        yield rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A sandbox with the usual options."""
    with running() as rig:
        yield rig


def take(client: ClientConnection) -> Message:
    """The next message."""
    message: Message = json.loads(client.recv(PATIENCE))
    return message


def register(client: ClientConnection, token: object) -> None:
    client.send(json.dumps({"type": "task_info", "tasktoken": token}))


def settle(client: ClientConnection) -> None:
    """Return once the server has read all that was sent before."""
    client.send(json.dumps({"type": "task_info"}))
    assert take(client) == {"type": "error", "message": "tasktoken-required", "result": False}


def end_of(client: ClientConnection) -> int:
    """Read to the end, and return the code that the client sees."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(PATIENCE)
    code = client.protocol.close_code
    assert code is not None
    return code


class Raw:
    """A client below the library's: it decides what it sends, and whether it reads."""

    def __init__(self, rig: Rig, window: int = 0) -> None:
        self.rig = rig
        self.sock = socket.socket()
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", int(rig.sandbox.origin.rpartition(":")[2])))

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def open(self) -> None:
        """Shake hands, and return once the server has done so."""
        before = self.rig.sockets()["opened"]
        self.sock.sendall(HANDSHAKE)
        assert self.sock.recv(1 << 16).startswith(b"HTTP/1.1 101")
        wait_until(lambda: self.rig.sockets()["opened"] > before)

    def rest(self) -> bytes:
        """All that comes until the other side ends."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.sock.recv(1 << 16):
                data += more
        return data


def frame(payload: bytes, opcode: int = Opcode.TEXT) -> bytes:
    """A client's frame, with a mask that changes nothing."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


# -- what is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["old", "new"])
def test_a_registered_task_is_told_to_its_end(form: str) -> None:
    """From the registration on, as time passes, in either format."""
    with running(socket_format=form) as rig, rig.connect() as client:
        task = rig.run()
        register(client, task["socketaccesstoken"])
        settle(client)
        rig.pass_(1000.0)
        messages: list[Message] = []
        while not messages or messages[-1]["type"] != "task_postprocess_end":
            messages.append(take(client))
        assert messages[0]["type"] == "task_accept"
        assert {message["id"] for message in messages} == {task["taskid"]}
        assert ("tasktoken" in messages[0], "exitCode" in messages[0]) == (form == "old", form == "new")
        assert messages[-1]["message"][0]["url"].startswith(rig.sandbox.cdn_url)
        settle(client)  # it stays open
        assert rig.sockets() == {
            "opened": 1, "registered": 1, "messages": len(messages), "cut": 0, "open": 1,
        }  # fmt: skip


def test_messages_come_by_themselves() -> None:
    """With the machine's clock nobody has to ask."""
    with Sandbox(api_key="k", api_secret=None, render=False, speed=2000) as sandbox:
        headers = {"x-api-key": "k"}
        url = f"{sandbox.base_url}/Run/MiniMax/image-to-video-01-director"
        with connect(sandbox.socket_url) as client:
            token = httpx.post(url, json={**IMAGE, "prompt": "[sandbox:queue]"}, headers=headers).json()
            register(client, token["socketaccesstoken"])
            assert take(client)["type"] == "connected"
            settle(client)
            sandbox.engine.steer(token["taskid"], "release", sandbox._clock())
            while take(client)["type"] != "task_postprocess_end":
                pass


def test_any_path_is_right(rig: Rig) -> None:
    """Only the upgrade counts."""
    with connect(rig.sandbox.socket_url.removesuffix("/v1") + "/elsewhere?a=b") as client:
        assert take(client)["type"] == "connected"


def test_a_task_that_is_steered_is_told_at_once(rig: Rig) -> None:
    """Though no time has passed."""
    with rig.connect() as client:
        task = rig.run("[sandbox:queue]")
        register(client, task["socketaccesstoken"])
        settle(client)
        rig.post(f"/sandbox/tasks/{task['taskid']}", {"action": "cancel"})
        assert take(client)["type"] == "task_cancel"


def test_two_sockets_hear_of_one_task_and_one_socket_of_two(rig: Rig) -> None:
    """Until one of them leaves; the other is told on."""
    with rig.connect() as stays:
        first, second = rig.run("[sandbox:hang]"), rig.run("[sandbox:hang]")
        with rig.connect() as leaves:
            for client in (stays, leaves):
                for task in (first, second):
                    register(client, task["socketaccesstoken"])
                settle(client)
            rig.pass_(1000.0)
            for client in (stays, leaves):
                heard = [take(client) for _ in range(12)]
                assert {each["id"] for each in heard} == {first["taskid"], second["taskid"]}
        wait_until(lambda: rig.sockets()["open"] == 1)
        rig.post(f"/sandbox/tasks/{first['taskid']}", {"action": "cancel"})
        assert take(stays)["type"] == "task_cancel"
    wait_until(lambda: rig.sockets()["open"] == 0)
    assert rig.service.sockets._broadcasts == {}
    assert rig.service.scheduler._followers == {}


def test_what_ended_before_the_registration_is_not_told(rig: Rig) -> None:
    """There is no replay, and nobody follows such a task."""
    task = rig.run()
    rig.pass_(1000.0)
    with rig.connect() as client:
        register(client, task["socketaccesstoken"])
        settle(client)
        rig.pass_(1000.0)
        settle(client)
        assert rig.service.sockets._broadcasts == {}


# -- what is refused, and what is ignored ----------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", 7, ["a"]])
def test_a_missing_token_is_an_error(rig: Rig, token: object) -> None:
    """The connection stays."""
    with rig.connect() as client:
        register(client, token)
        assert take(client) == {"type": "error", "message": "tasktoken-required", "result": False}
        settle(client)


def test_an_unknown_token_is_an_error(rig: Rig) -> None:
    """It does not take a place either."""
    with rig.connect() as client:
        register(client, "nobody's")
        assert take(client) == {"type": "error", "message": "task-not-founded", "result": False}
        assert rig.sockets()["registered"] == 0


def test_a_socket_may_be_for_one_task_only() -> None:
    """The same task twice is one; another one is too many."""
    with running(tasks_per_socket=1) as rig, rig.connect() as client:
        first, second = rig.run(), rig.run()
        for task in (first, first, second):
            register(client, task["socketaccesstoken"])
        assert take(client) == {"type": "error", "message": "too-many-tasks", "result": False}
        assert rig.sockets()["registered"] == 1


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[" * 60_000,
        "[]",
        '"task_info"',
        '{"type":"unknown"}',
        b'{"type":"task_info"}',
        '{"type":"täsk"}',
    ],
)
def test_unknown_messages_are_dropped_silently(rig: Rig, message: str | bytes) -> None:
    """And binary ones, whatever they say."""
    with rig.connect() as client:
        client.send(message)
        settle(client)


def test_a_message_may_come_in_fragments(rig: Rig) -> None:
    """Texts are put together, binary ones thrown away, pings answered in between."""
    with rig.connect() as client:
        client.send([b"bin", b"ary"])
        client.send(['{"type":', '"task_info"', "}"])
        assert take(client)["message"] == "tasktoken-required"
        assert client.ping().wait(PATIENCE)


def test_a_message_may_not_be_large(rig: Rig) -> None:
    """64 KiB are more than a registration needs."""
    with rig.connect() as client:
        client.send("x" * 70_000)
        assert end_of(client) == 1009
    wait_until(lambda: rig.sockets()["open"] == 0)


def test_a_wrong_handshake_is_refused(rig: Rig) -> None:
    """In HTTP, and nothing is left of it."""
    with Raw(rig) as raw:
        raw.sock.sendall(
            b"GET /v1 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        )
        assert raw.rest().startswith(b"HTTP/1.1 400")
    assert rig.sockets()["opened"] == 0


# -- the end ---------------------------------------------------------------------------------------


def test_a_client_that_closes_gets_its_close_back(rig: Rig) -> None:
    """And is forgotten."""
    with rig.connect() as client:
        client.close(4000)
        assert client.protocol.close_code == 4000
    wait_until(lambda: rig.sockets()["open"] == 0)


def test_a_client_that_just_leaves_is_forgotten(rig: Rig) -> None:
    """By a reset or by an end without a word."""
    for last in (b"", frame(b'{"type":"task_info"}')):
        with Raw(rig) as raw:
            raw.open()
            raw.sock.sendall(last)
        wait_until(lambda: rig.sockets()["open"] == 0)


def test_the_sandbox_says_goodbye_when_it_stops() -> None:
    """With the code for going away."""
    with contextlib.ExitStack() as stack:
        with running() as rig:
            client = stack.enter_context(rig.connect())
            header = cut_header(CutSocket(how="silence"))
            silent = stack.enter_context(rig.connect(header, greeted=False))
        assert end_of(client) == 1001
        assert end_of(silent) == 1006


def test_a_client_that_does_not_read_is_given_up(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """What is kept for it has a limit of 1 MiB."""
    with Raw(rig, window=2048) as raw:
        raw.open()
        connection = next(iter(rig.service.sockets._connections))
        server_side = connection.transport.get_extra_info("socket")
        server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        with contextlib.suppress(OSError):
            while rig.sockets()["open"]:
                raw.sock.sendall(frame(b'{"type":"task_info"}') * 1000)
        wait_until(lambda: rig.sockets()["open"] == 0)
    assert caplog.text == ""


# -- pings, on virtual time ------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """Where a connection writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted: bool = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def pings(self) -> int:
        return self.written.count(PING)


PING = bytes([0x80 | Opcode.PING, 0])


async def _watched(service: Service, seconds: float, *, answers: bool) -> Wire:
    """How a connection fares for so long, with a client that answers pings or does not."""
    connection = service.sockets.protocol(Config(lambda: None), ServerState(), {})
    wire = Wire()
    connection.connection_made(wire)
    connection.data_received(HANDSHAKE)
    answered = 0
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end and not wire.aborted:
        await asyncio.sleep(1)
        if answers and wire.pings() > answered:
            answered += 1
            connection.data_received(frame(b"", Opcode.PONG))
    connection.connection_lost(None)
    assert service.sockets.ledger()["open"] == 0
    return wire


def test_a_client_that_answers_pings_stays() -> None:
    """It gets one every 30 s."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        wire = runner.run(_watched(Rig().make_service(), 305, answers=True))
    assert (wire.pings(), wire.aborted) == (10, False)


def test_a_client_that_answers_no_ping_is_dropped() -> None:
    """20 s after the first one."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        wire = runner.run(_watched(Rig().make_service(), 51, answers=False))
    assert (wire.pings(), wire.aborted) == (1, True)


# -- faults ----------------------------------------------------------------------------------------

CUTS: list[tuple[CutHow, int]] = [("drop", 1006), ("close", 4001)]


def cut_plan(*cuts: CutSocket) -> FaultPlan:
    plan = FaultPlan()
    for cut in cuts:
        plan.script("socket", cut)
    return plan


@pytest.mark.parametrize(("how", "code"), CUTS)
def test_a_socket_may_break_when_it_opens(how: CutHow, code: int) -> None:
    """The handshake is the last thing that is heard. The next socket is well."""
    fault = CutSocket(how=how, code=4001)
    with running(faults=cut_plan(fault)) as rig:
        with rig.connect(greeted=False) as client:
            assert end_of(client) == code
        (injection,) = rig.sandbox.faults.injected if rig.sandbox.faults else ()
        assert injection == Injection(1, "socket", fault, rig.clock.now, processed=True)
        with rig.connect() as well:
            settle(well)
        assert rig.sockets()["cut"] == 1


@pytest.mark.parametrize(("how", "code"), CUTS)
def test_a_socket_may_break_once_a_task_is_registered(how: CutHow, code: int) -> None:
    """Before anything was told of it; a registration that is refused does not count."""
    plan = cut_plan(CutSocket(after="register", how=how, code=4001))
    with running(faults=plan) as rig, rig.connect() as client:
        settle(client)
        register(client, rig.run()["socketaccesstoken"])
        assert end_of(client) == code
        rig.pass_(1000.0)
        assert rig.sockets()["messages"] == 0


@pytest.mark.parametrize(("how", "code"), CUTS)
def test_a_socket_may_break_after_so_many_messages(how: CutHow, code: int) -> None:
    """Those arrive, and another socket hears the rest too."""
    plan = cut_plan(CutSocket(after=3, how=how, code=4001))
    with running(faults=plan) as rig, rig.connect() as client, rig.connect() as other:
        task = rig.run()
        for each in (client, other):
            register(each, task["socketaccesstoken"])
            settle(each)
        rig.pass_(1000.0)
        for kind in ("task_accept", "task_preprocess_start", "task_preprocess_end"):
            assert take(client)["type"] == kind
        assert end_of(client) == code
        while take(other)["type"] != "task_postprocess_end":
            pass


def test_the_only_listener_may_break_away_in_the_middle() -> None:
    """Then nobody follows the task any more."""
    with running(faults=cut_plan(CutSocket(after=1))) as rig, rig.connect() as client:
        register(client, rig.run("[sandbox:hang]")["socketaccesstoken"])
        settle(client)
        rig.pass_(0.0)
        rig.pass_(1000.0)
        assert end_of(client) == 1006
        assert rig.service.scheduler._followers == {}


def test_a_silent_socket_stays_open_and_says_nothing() -> None:
    """It does not even answer pings, and is gone when the client leaves."""
    with running(faults=cut_plan(CutSocket(after=1, how="silence"))) as rig, rig.connect() as client:
        task = rig.run()
        register(client, task["socketaccesstoken"])
        settle(client)
        rig.pass_(1000.0)
        assert take(client)["type"] == "task_accept"
        pong = client.ping()
        with pytest.raises(TimeoutError):
            client.recv(0.05)
        assert not pong.is_set()
        assert rig.sockets()["messages"] == 1
        client.socket.shutdown(socket.SHUT_RDWR)


def test_a_client_that_does_not_answer_a_close_is_cut_off() -> None:
    """After 10 s, whatever else it says meanwhile."""

    async def closed() -> tuple[float, Wire]:
        loop, service, wire = asyncio.get_running_loop(), Rig().make_service(), Wire()
        connection: Any = service.sockets.protocol(Config(lambda: None), ServerState(), {})
        connection.connection_made(wire)
        connection.data_received(HANDSHAKE)
        began = loop.time()
        connection.cut("close", 4002)
        while not wire.aborted:
            connection.data_received(frame(b'{"type":"task_info"}'))
            await asyncio.sleep(0.5)
        connection.connection_lost(None)
        return loop.time() - began, wire

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        seconds, wire = runner.run(closed())
    assert seconds == pytest.approx(10, abs=0.6)
    assert (4002).to_bytes(2, "big") in wire.written[-1]


def test_open_sockets_can_be_broken_from_outside(rig: Rig) -> None:
    """By the owner, and by a switch; those that break are counted once."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(rig.connect()) for _ in range(3)]
        rig.sandbox.cut_sockets("close", code=4003)
        assert {end_of(client) for client in clients} == {4003}
    with rig.connect() as client:
        assert rig.post("/sandbox/sockets", {"how": "drop"})["cut"] == 1
        assert end_of(client) == 1006
    wait_until(lambda: rig.sockets()["cut"] == 4)
    assert rig.post("/sandbox/sockets", {})["cut"] == 0


def test_a_share_of_the_sockets_can_be_broken() -> None:
    """The same ones for the same seed; none for 0."""
    cut = []
    for _ in range(2):
        with running(seed=5) as each, contextlib.ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(each.connect())
            assert each.post("/sandbox/sockets", {"share": 0})["cut"] == 0
            cut.append(each.post("/sandbox/sockets", {"share": 0.5})["cut"])
    assert cut[0] == cut[1]
    assert 0 < cut[0] < 12


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"how": "explode"}, "'how' must be in"),
        ({"code": 1006}, "code=1006 cannot be sent"),
        ({"code": "1011"}, "code='1011' cannot be sent"),
        ({"share": 1.5}, "share=1.5 must be from 0 to 1"),
        ({"share": "all"}, "not supported between"),
    ],
)
def test_what_cannot_be_cut_is_refused(rig: Rig, options: dict[str, Any], hint: str) -> None:
    """By the method and by the switch alike."""
    assert hint in rig.post("/sandbox/sockets", options)["errors"][0]["message"]
    with pytest.raises((TypeError, ValueError), match=r"must|cannot|supported"):
        rig.sandbox.cut_sockets(**options)


def test_a_sandbox_that_does_not_run_has_no_sockets() -> None:
    """Neither before nor after."""
    rig = Rig()
    with pytest.raises(RuntimeError, match="has not started"):
        rig.sandbox.cut_sockets()
    with rig.sandbox:
        pass
    with pytest.raises(RuntimeError):
        rig.sandbox.cut_sockets()


@pytest.mark.parametrize(
    "header", ["connect", "connect explode 1", "connect drop x", "0 drop 1011", "a b c d"]
)
def test_a_header_that_is_not_the_sandbox_s_own_is_ignored(rig: Rig, header: str) -> None:
    """Whoever sends it."""
    with rig.connect(f"{CUT}: {header}") as client:
        settle(client)


def test_no_token_gets_into_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The frames hold it, and the library below would write them down."""
    caplog.set_level(logging.DEBUG)
    with rig.connect() as client:
        token = rig.run()["socketaccesstoken"]
        register(client, token)
        settle(client)
    assert token not in caplog.text
