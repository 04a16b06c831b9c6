"""The proxy that makes faults, over real sockets and byte by byte."""

from __future__ import annotations

import gc
import json
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from tests.sandbox.test_server import exiting
from tests.servers import PATIENCE, wait_until
from wiro_async.sandbox import Sandbox, _proxy
from wiro_async.sandbox.faults import (
    STANDARD_FAULTS,
    Blackhole,
    Drip,
    Duplicate,
    Fault,
    FaultPlan,
    Foreign,
    Garbage,
    HalfClose,
    Html,
    Latency,
    ListLag,
    NoTask,
    Refused,
    Reset,
    RotateKey,
    Status,
    Unframed,
    WrongLength,
)

RUN = "/v1/Run/MiniMax/image-to-video-01-director"
INPUTS = {"inputImageFirstUrl": "http://127.0.0.1/x.png", "prompt": "she smiles"}
LARGE = 3_000_000


class Wire:
    """A client that sees every byte."""

    def __init__(self, sandbox: Sandbox, window: int = 0) -> None:
        self.sock = socket.socket()
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", int(sandbox.origin.rpartition(":")[2])))
        self.buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def post(self, path: str, body: Any = None, *headers: str) -> None:
        self.send(post(path, body, *headers))

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while len(self.buffer) < size:
            self._more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def head(self) -> bytes:
        """Up to and with the next empty line."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        return self.take(self.buffer.index(b"\r\n\r\n") + 4)

    def reply(self) -> bytes:
        """The next reply, as long as it says that it is."""
        head = self.head()
        return head + self.take(length_of(head))

    def is_silent(self) -> None:
        """Check that nothing more comes, for a moment."""
        assert self.buffer == b""
        assert select.select([self.sock], [], [], 0.1)[0] == []

    def json(self) -> dict[str, Any]:
        """The next reply's body."""
        return decoded(self.reply())

    def rest(self) -> tuple[bytes, str]:
        """All that comes until the other side ends, and how it ends."""
        while True:
            try:
                self._more()
            except EOFError:
                return self.buffer, "fin"
            except ConnectionResetError:
                return self.buffer, "rst"


def post(path: str, body: Any = None, *headers: str) -> bytes:
    """A request of the key-only project."""
    data = json.dumps(body or {}).encode() if not isinstance(body, bytes) else body
    lines = [
        "host: localhost",
        "x-api-key: k",
        "content-type: application/json",
        f"content-length: {len(data)}",
        *headers,
    ]
    return f"POST {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def length_of(head: bytes) -> int:
    """The Content-Length, 0 without."""
    match = re.search(rb"content-length: *(\d+)", head.lower())
    return int(match[1]) if match else 0


def decoded(reply: bytes) -> dict[str, Any]:
    """A reply's JSON."""
    value: dict[str, Any] = json.loads(reply.partition(b"\r\n\r\n")[2])
    return value


def undated(reply: bytes, sandbox: Sandbox) -> bytes:
    """A reply without what differs from one sandbox to the next."""
    port = sandbox.origin.rpartition(":")[2].encode()
    return re.sub(rb"date: [^\r]*\r\n", b"", reply).replace(b":" + port + b"/", b":PORT/")


def make(plan: FaultPlan | None, **options: Any) -> Sandbox:
    """A sandbox whose tasks need no work, on a clock that stands."""
    fixed = {
        "api_key": "k",
        "api_secret": None,
        "render": False,
        "clock": lambda: 1e9,
        "concurrency_limit": 1000,
    }
    return Sandbox(faults=plan, **(fixed | options))


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """A sandbox for the tests that care for their own requests only."""
    with make(FaultPlan()) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Iterator[Sandbox]:
    """The same, and no rules left behind."""
    yield shared
    plan(shared).clear()


@pytest.fixture
def wire(sandbox: Sandbox) -> Iterator[Wire]:
    """A connection to it."""
    with Wire(sandbox) as wire:
        yield wire


def plan(sandbox: Sandbox) -> FaultPlan:
    """Its plan."""
    assert sandbox.faults is not None
    return sandbox.faults


def runs(sandbox: Sandbox) -> int:
    """How many runs were accepted."""
    number: int = sandbox.ledger()["runs"]
    return number


# -- without a fault -------------------------------------------------------------------------------

MULTIPART = (
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n'
    b"content-type: application/octet-stream\r\n\r\n" + b"x" * 100_000 + b"\r\n--b--\r\n"
)

CHUNKED = (
    b"POST /v1/Tool/List HTTP/1.1\r\nhost: localhost\r\nx-api-key: k\r\ntransfer-encoding: chunked\r\n\r\n"
    b'5;a=b\r\n{"lim\r\n9\r\nit": "1"}\r\n0\r\ntrailer: t\r\n\r\n'
)

CONVERSATION = [
    post(RUN, INPUTS),
    post("/v1/Task/Detail", {"taskid": "2221"}),
    post("/v1/Task/List"),
    post("/v1/Task/Cancel", {"taskid": "9"}),
    post("/v1/Task/Detail", b"{", "x-odd: é"),
    post("/v1/Nowhere"),
    post("/v1/File/Upload", MULTIPART).replace(b"application/json", b"multipart/form-data; boundary=b", 1),
    CHUNKED,
    b"GET /v1/Task/List HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /cdn/none HTTP/1.1\r\nhost: localhost\r\n\r\n",
    post("/v1/Tool/List", {"limit": "2"}, "x-api-key: unknown"),
    post("/v1/Tool/List", {"limit": "2"}, "connection: close"),
]

ODDITIES = [
    b"hello\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n",
    b"GET /cdn/none HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\ncontent-length: many\r\n\r\n",
    CHUNKED.replace(b"5;a=b", b"five"),
    CHUNKED.replace(b"5;a=b", b"5" * 70_000),
    post("/v1/Tool/List", {"limit": "2"}, "connection: close", "expect: 100-continue"),
]


def converse(sandbox: Sandbox) -> list[bytes]:
    """One connection for the conversation, one for each oddity."""
    answers = []
    with Wire(sandbox) as wire:
        for request in CONVERSATION:
            wire.send(request)
            answers.append(wire.reply())
        assert wire.rest() == (b"", "fin")
    for oddity in ODDITIES:
        with Wire(sandbox) as wire:
            wire.send(oddity)
            answers.append(wire.rest()[0])
    return [undated(answer, sandbox) for answer in answers]


def test_the_proxy_changes_no_byte() -> None:
    """JSON, forms, chunks, refusals, HTTP/1.0, bytes that are no HTTP: the same answers as without it."""
    with make(None) as bare, make(FaultPlan()) as sandbox:
        assert bare.faults is None
        assert converse(sandbox) == converse(bare)
        assert plan(sandbox).injected == ()
        assert plan(sandbox).seen["Run"] == 1


def test_pipelined_requests_are_answered_in_order(sandbox: Sandbox, wire: Wire) -> None:
    """What comes after a request is the next one."""
    wire.send(post("/v1/Tool/List", {"limit": "1"}) + post("/v1/Tool/List", {"limit": "2"}))
    assert [len(wire.json()["tool"]) for _ in range(2)] == [1, 2]


def test_large_files_pass_both_ways(sandbox: Sandbox) -> None:
    """Neither upload nor download goes through memory as a whole."""
    data = bytes(range(256)) * 50_000
    with httpx.Client(base_url=sandbox.base_url, headers={"x-api-key": "k"}, timeout=PATIENCE) as client:
        reply = client.post("/File/Upload", files={"file": ("large.bin", data)}).json()
        url = reply["list"][0]["url"]
        assert url.startswith(sandbox.origin)
        assert client.get(url).content == data
        assert client.head(url).headers["content-length"] == str(len(data))
        assert client.get(url, headers={"range": "bytes=5-9"}).content == data[5:10]


def test_a_refusal_half_way_is_passed_on(sandbox: Sandbox, wire: Wire) -> None:
    """The server need not wait for the end of a body that it does not want, and the connection lives on."""
    wire.post("/v1/Task/Detail", b" " * LARGE)
    assert b" 413 " in wire.reply()
    wire.post("/v1/Tool/List", {"limit": "1"})
    assert len(wire.json()["tool"]) == 1


def test_the_go_ahead_is_passed_on(sandbox: Sandbox, wire: Wire) -> None:
    """A client that expects it gets it before it has sent its body."""
    request = post("/v1/Tool/List", {"limit": "1"}, "expect: 100-continue")
    head, end, body = request.partition(b"\r\n\r\n")
    wire.send(head + end)
    assert wire.head().startswith(b"HTTP/1.1 100 ")
    wire.send(body)
    assert len(wire.json()["tool"]) == 1


def test_a_slow_body_is_forwarded_as_it_comes(sandbox: Sandbox, wire: Wire) -> None:
    """The plan does not wait for it for ever, but for one second, and sees none of it then."""
    bodies: list[bytes] = []
    decided = threading.Event()

    def look(request: Any) -> bool:
        bodies.append(request.body)
        decided.set()
        return False

    plan(sandbox).script(look, Reset())
    request = post("/v1/Tool/List", {"limit": "1"})
    wire.send(request[:-3])
    assert decided.wait(PATIENCE)
    wire.send(request[-3:])
    assert len(wire.json()["tool"]) == 1
    wire.post("/v1/Tool/List", {"limit": "1"})
    assert wire.json()["result"]
    assert bodies[0] == b""


def test_a_client_that_leaves_in_its_body_has_asked_nothing(sandbox: Sandbox) -> None:
    """Small body or large, gone or reset."""
    before = runs(sandbox)
    for path, body in ((RUN, b"{}"), ("/v1/File/Upload", MULTIPART)):
        with Wire(sandbox) as wire:
            wire.send(post(path, body)[:-1])
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.rest()[0] == b""
    with Wire(sandbox) as wire:
        wire.send(b"POST /v1/Run")
    assert runs(sandbox) == before


def test_a_head_without_end_is_the_server_s_to_judge(sandbox: Sandbox, wire: Wire) -> None:
    """The proxy does not collect it."""
    wire.send(b"GET /" + b"x" * 200_000)
    wire.sock.shutdown(socket.SHUT_WR)
    data, _ = wire.rest()
    assert data[:12] in {b"", b"HTTP/1.1 400"}


def test_connections_to_the_server_are_renewed(
    sandbox: Sandbox, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was idle for long may be closed at any moment, and is not used."""
    monkeypatch.setattr(_proxy, "_IDLE", -1.0)
    for _ in range(3):
        wire.post("/v1/Tool/List", {"limit": "1"})
        assert wire.json()["result"]


def test_two_hundred_connections_at_once(sandbox: Sandbox) -> None:
    """All are open before the first one is served, and each gets its own answers."""
    before = runs(sandbox)
    wires = [Wire(sandbox) for _ in range(200)]
    for turn in range(2):
        for number, wire in enumerate(wires):
            wire.post(RUN, INPUTS | {"prompt": f"{turn}/{number}"})
        ids = [wire.json()["taskid"] for wire in wires]
        for wire, task_id in zip(wires, ids, strict=True):
            wire.post("/v1/Task/Detail", {"taskid": task_id})
        prompts = [wire.json()["tasklist"][0]["parameters"]["prompt"] for wire in wires]
        assert prompts == [f"{turn}/{number}" for number in range(200)]
        for wire, task_id in zip(wires, ids, strict=True):
            wire.post("/v1/Task/Cancel", {"taskid": task_id})
        assert all(wire.json()["result"] for wire in wires)
    for wire in wires:
        wire.sock.close()
    assert runs(sandbox) == before + 400


def test_closing_leaves_nothing_behind() -> None:
    """Connections idle, asking, held and half-way through a download are cut, without warning or delay."""
    rules = FaultPlan()
    rules.script(lambda request: request.path == "/held", Blackhole(3600))
    threads = threading.active_count()
    with make(rules) as sandbox:
        idle, asking, held, loading = (Wire(sandbox) for _ in range(4))
        url = httpx.post(
            f"{sandbox.base_url}/File/Upload",
            files={"file": ("large.bin", b"x" * 20_000_000)},
            headers={"x-api-key": "k"},
            timeout=PATIENCE,
        ).json()["list"][0]["url"]
        asking.send(b"POST /v1/Run")
        held.send(b"GET /held HTTP/1.1\r\n\r\n")
        loading.send(f"GET {url.removeprefix(sandbox.origin)} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        loading.head()
        wait_until(lambda: rules.injected)
        started = time.monotonic()
    assert time.monotonic() - started < PATIENCE
    for wire in (idle, asking, held, loading):
        wire.rest()
        wire.sock.close()
    gc.collect()
    assert threading.active_count() <= threads


@pytest.mark.parametrize("rules", [None, FaultPlan()], ids=["bare", "proxy"])
def test_connections_that_come_while_it_closes_are_closed(rules: FaultPlan | None) -> None:
    """None is forgotten between being taken and being served."""
    for _ in range(6):
        with make(rules) as sandbox:
            wires = [Wire(sandbox) for _ in range(3)]
            for wire in wires:
                wire.send(b"GET /cdn/none HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for wire in wires:
            wire.rest()
            wire.sock.close()
    gc.collect()


def test_ipv6_is_served_too() -> None:
    """On both sides of the proxy."""
    with make(FaultPlan(), host="::1") as sandbox:
        token = {"x-sandbox-token": sandbox.control_token}
        assert httpx.get(f"{sandbox.origin}/sandbox/ledger", headers=token).json()["runs"] == 0


def test_a_server_that_cannot_start_closes_the_public_port() -> None:
    """As without a proxy."""
    with pytest.raises(RuntimeError, match="did not start"):
        make(FaultPlan(), wrap=exiting).__enter__()
    gc.collect()


def test_a_function_that_fails_costs_its_connection(
    sandbox: Sandbox, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """And is in the log, not silent."""
    plan(sandbox).script(lambda request: bool(1 // 0), Reset())
    wire.post("/v1/Tool/List")
    wire.rest()
    assert "ZeroDivisionError" in caplog.text


# -- other servers' replies, and sockets -----------------------------------------------------------


def odd_replies(app: ASGIApp) -> ASGIApp:
    """Adds what the sandbox itself does not do: replies without a length."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one", b"two"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await app(scope, receive, send)

    return wrapped


def test_replies_without_a_length_are_relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks on HTTP/1.1, up to the end of the connection on HTTP/1.0."""
    config = uvicorn.Config

    def with_h11(*arguments: Any, **options: Any) -> uvicorn.Config:
        return config(*arguments, **{**options, "http": "h11"})  # httptools sends chunks on HTTP/1.0 too

    monkeypatch.setattr(uvicorn, "Config", with_h11)
    with make(FaultPlan(), wrap=odd_replies) as sandbox:
        with Wire(sandbox) as wire:
            wire.send(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2)
            for _ in range(2):
                assert b"transfer-encoding: chunked" in wire.head().lower()
                assert wire.take(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        with Wire(sandbox) as wire:
            wire.send(b"GET /stream HTTP/1.0\r\n\r\n")
            data, end = wire.rest()
        assert (data.partition(b"\r\n\r\n")[2], end) == (b"onetwo", "fin")


def ask_on(websocket: ClientConnection) -> None:
    """Have something answered as long as the connection holds."""
    while True:
        websocket.send('{"type":"task_info"}')
        websocket.recv(PATIENCE)


def test_sockets_pass_and_break() -> None:
    """A WebSocket goes through, and its stream can be cut at a byte."""
    unregistered = '{"type":"task_info","x":"' + "x" * 50_000 + '"}'
    with make(FaultPlan()) as sandbox:
        with connect(sandbox.socket_url) as websocket:
            assert "connected" in str(websocket.recv(PATIENCE))
            for _ in range(3):
                websocket.send(unregistered)
                assert "tasktoken-required" in str(websocket.recv(PATIENCE))
        plan(sandbox).script("socket", Reset(at_reply_byte=10_000))
        with connect(sandbox.socket_url) as websocket, pytest.raises(ConnectionClosedError):
            ask_on(websocket)
        assert [each.processed for each in plan(sandbox).injected] == [True]
        with Wire(sandbox) as wire:
            wire.send(b"GET /v1 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\r\n")
            wire.sock.close()


# -- faults ----------------------------------------------------------------------------------------


@attrs.frozen
class Effect:
    """What a fault did to a Run."""

    data: bytes
    end: str
    accepted: int
    record: bool


def suffer(sandbox: Sandbox, fault: Fault, path: str = RUN) -> Effect:
    """Let a Run suffer a fault on a connection of its own, which then is used to its end."""
    before, known = runs(sandbox), len(plan(sandbox).injected)
    plan(sandbox).script(lambda request: request.path == path, fault)
    with Wire(sandbox) as wire:
        wire.post(path, INPUTS, "connection: close")
        data, end = wire.rest()
    (record,) = plan(sandbox).injected[known:]
    assert (record.fault, record.at) == (fault, 1e9)
    assert record.number == plan(sandbox).seen[record.operation]
    return Effect(data, end, runs(sandbox) - before, record.processed)


@pytest.mark.parametrize("fault", [fault for fault in STANDARD_FAULTS if "Run" in fault.operations], ids=repr)
def test_a_fault_keeps_its_word_about_processing(sandbox: Sandbox, fault: Fault) -> None:
    """The service has accepted the run if and only if the fault says so, and so does its record."""
    if isinstance(fault, Blackhole):
        fault = attrs.evolve(fault, seconds=0.01)
    effect = suffer(sandbox, fault)
    assert (effect.accepted, effect.record) == (int(fault.processed), fault.processed)


def test_resets(sandbox: Sandbox) -> None:
    """Not a byte more, and a RST, not a FIN."""
    for early in (Reset(), Reset(at_request_byte=1), Reset(at_request_byte=9999)):
        assert suffer(sandbox, early) == Effect(b"", "rst", 0, record=False)
    assert suffer(sandbox, Reset(after="processing")) == Effect(b"", "rst", 1, record=True)
    assert suffer(sandbox, Reset(at_reply_byte=17)) == Effect(b"HTTP/1.1 200 OK\r\n", "rst", 1, record=True)
    whole = suffer(sandbox, Reset(at_reply_byte=9999))
    assert (decoded(whole.data)["result"], whole.end) == (True, "rst")


def uploaded(sandbox: Sandbox, data: bytes) -> str:
    """The path of a file on the CDN."""
    with httpx.Client(base_url=sandbox.base_url, headers={"x-api-key": "k"}, timeout=PATIENCE) as client:
        name = f"{time.monotonic_ns()}.bin"
        url: str = client.post("/File/Upload", files={"file": (name, data)}).json()["list"][0]["url"]
    return url.removeprefix(sandbox.origin)


def test_a_download_breaks_at_its_byte(sandbox: Sandbox) -> None:
    """The client gets every byte before it, however large the reply."""
    data = bytes(range(251)) * (LARGE // 251)
    path = uploaded(sandbox, data)
    plan(sandbox).script("cdn", Reset(at_reply_byte=LARGE // 2))
    with Wire(sandbox) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        received, end = wire.rest()
    assert (len(received), end) == (LARGE // 2, "rst")
    assert data.startswith(received.partition(b"\r\n\r\n")[2])


def connections_of(sandbox: Sandbox) -> set[Any]:
    """What the proxy still works at."""
    assert sandbox._server is not None
    assert sandbox._server._proxy is not None
    return set(sandbox._server._proxy._tasks)


def test_a_reset_waits_for_no_client_for_ever(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not read loses what was on its way: more than its kernel holds."""
    monkeypatch.setattr(_proxy, "_FLUSH", 0.01)
    path = uploaded(sandbox, b"x" * LARGE)
    plan(sandbox).script("cdn", Reset(at_reply_byte=LARGE // 2))
    with Wire(sandbox, window=4096) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        wait_until(lambda: plan(sandbox).injected)
        wait_until(lambda: not connections_of(sandbox))
        data, end = wire.rest()
    assert end == "rst"
    assert len(data) < LARGE // 2


def test_a_client_may_leave_before_the_reset(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Then there is none to be reset, which is no failure."""
    path = uploaded(sandbox, b"x" * LARGE)
    plan(sandbox).script("cdn", Reset(at_reply_byte=100_000))
    with Wire(sandbox, window=4096) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        wire.head()
    wait_until(lambda: not connections_of(sandbox))
    assert caplog.text == ""


def test_an_upload_breaks_at_its_byte(sandbox: Sandbox) -> None:
    """Also one in chunks, and one that waits for a go-ahead; the service sees nothing of it."""
    known = sandbox.ledger()["requests"].get("File/Upload", 0)
    lengthy = post("/v1/File/Upload", b"x" * LARGE)
    chunked = CHUNKED.replace(b"Tool/List", b"File/Upload").replace(
        b"5;a=b\r\n{", b"FFFFF\r\n{" + b"x" * 0xFFFFB
    )
    for request in (lengthy, chunked):
        plan(sandbox).script("File/Upload", Reset(at_request_byte=700_000))
        with Wire(sandbox) as wire:
            wire.send(request[:700_000])
            assert wire.rest() == (b"", "rst")
    assert sandbox.ledger()["requests"].get("File/Upload", 0) == known


def test_half_closing(sandbox: Sandbox) -> None:
    """A FIN after so many bytes; the other direction stays open until the client closes it."""
    assert suffer(sandbox, HalfClose(12)) == Effect(b"HTTP/1.1 200", "fin", 1, record=True)
    plan(sandbox).script("Tool/List", HalfClose(None))
    with Wire(sandbox) as wire:
        wire.post("/v1/Tool/List", {"limit": "1"})
        data, end = wire.rest()
        assert (decoded(data)["result"], end) == (True, "fin")
        for _ in range(3):
            wire.send(b"x" * 100_000)


def test_blackholes(sandbox: Sandbox) -> None:
    """Nothing, then a FIN, with or without a run. A client that leaves is not waited for."""
    assert suffer(sandbox, Blackhole(0.01)) == Effect(b"", "fin", 0, record=False)
    assert suffer(sandbox, Blackhole(0.01, processed=True)) == Effect(b"", "fin", 1, record=True)
    plan(sandbox).script("Run", Blackhole(3600))
    with Wire(sandbox) as wire:
        wire.post(RUN, INPUTS)
        wire.is_silent()
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == (b"", "fin")


def test_latency(sandbox: Sandbox) -> None:
    """The run is accepted before the client has lost its patience; a patient one gets the whole reply."""
    assert decoded(suffer(sandbox, Latency(0.01)).data)["result"]
    before = runs(sandbox)
    plan(sandbox).script("Run", Latency(3600))
    with Wire(sandbox) as wire:
        wire.post(RUN, INPUTS)
        wait_until(lambda: runs(sandbox) == before + 1)
        wire.is_silent()


def test_drips(sandbox: Sandbox) -> None:
    """A part comes byte by byte, the other one at once; nothing is changed."""
    for part in ("head", "body"):
        fault = Drip(50_000, part)
        assert decoded(suffer(sandbox, fault).data)["result"]
    plan(sandbox).script("Run", Drip(0.001, "head"))
    with Wire(sandbox) as wire:
        wire.post(RUN, INPUTS)
        assert wire.take(1) == b"H"
        wire.is_silent()
    plan(sandbox).script("Run", Drip(0.001))
    with Wire(sandbox) as wire:
        wire.post(RUN, INPUTS)
        wire.head()
        assert wire.take(1) == b"{"
        wire.is_silent()


def test_a_download_drips_too(sandbox: Sandbox) -> None:
    """Its head comes at once, its body in pieces, and it is whole."""
    path = uploaded(sandbox, b"0123456789" * 10_000)
    plan(sandbox).script("cdn", Drip(1e7))
    assert httpx.get(sandbox.origin + path, timeout=PATIENCE).content == b"0123456789" * 10_000


def test_wrong_lengths(sandbox: Sandbox, wire: Wire) -> None:
    """Too large: the body is cut short. Too small: what is left over begins the next reply."""
    cut = suffer(sandbox, WrongLength(7))
    head, _, body = cut.data.partition(b"\r\n\r\n")
    assert (length_of(head), cut.end) == (len(body) + 7, "fin")
    plan(sandbox).script("Tool/List", WrongLength(-7))
    wire.post("/v1/Tool/List", {"limit": "1"})
    assert len(wire.reply())
    wire.post("/v1/Tool/List", {"limit": "1"})
    assert wire.head().startswith(b'":true}HTTP/1.1 200 OK\r\n')


def test_replies_without_a_length(sandbox: Sandbox) -> None:
    """The connection's end is theirs, be they whole or not."""
    whole = suffer(sandbox, Unframed())
    head, _, body = whole.data.partition(b"\r\n\r\n")
    assert b"content-length" not in head
    assert body.endswith(b'"result":true}')
    assert whole.end == "fin"
    assert not suffer(sandbox, Unframed(1)).data.endswith(b"}")


def test_garbage(sandbox: Sandbox, wire: Wire) -> None:
    """In place of a body, or in place of everything."""
    assert suffer(sandbox, Garbage(b"\0\1", "head")) == Effect(b"\0\1", "fin", 1, record=True)
    before = runs(sandbox)
    plan(sandbox).script("Run", Garbage(processed=False))
    wire.post(RUN, INPUTS)
    reply = wire.reply()
    assert reply.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json")
    assert reply.endswith(b'\r\n\r\n\x00\xff{"result": tru')
    assert runs(sandbox) == before


def test_statuses_and_pages_leave_the_connection_usable(sandbox: Sandbox, wire: Wire) -> None:
    """As a proxy's do."""
    faults: list[Fault] = [
        Status(503, retry_after=2),
        Status(429, "soon", processed=True),
        Html(502),
        Html(200, processed=True),
    ]
    for fault in faults:
        plan(sandbox).script("Run", fault)
    before = runs(sandbox)
    replies = []
    for _ in range(5):
        wire.post(RUN, INPUTS)
        replies.append(wire.reply())
    assert [reply[9:12] for reply in replies] == [b"503", b"429", b"502", b"200", b"200"]
    assert b"\r\nretry-after: 2\r\n" in replies[0]
    assert b"\r\nretry-after: soon\r\n" in replies[1]
    assert not decoded(replies[0])["result"]
    assert b"text/html" in replies[3]
    assert decoded(replies[4])["result"]
    assert runs(sandbox) == before + 3


def test_refusals_that_are_none(sandbox: Sandbox, wire: Wire) -> None:
    """In the service's own envelope; what became of the Run is another matter, and one names its task."""
    faults: list[Fault] = [
        Refused(),
        Refused(code=1, message="x", status=409, processed=True),
        Refused(processed=True, names_task=True),
    ]
    for fault in faults:
        plan(sandbox).script("Run", fault)
    before = runs(sandbox)
    replies = []
    for _ in faults:
        wire.post(RUN, INPUTS)
        replies.append(wire.reply())
    assert [reply[9:12] for reply in replies] == [b"200", b"409", b"200"]
    lost = {"result": False, "errors": [{"code": 0, "message": "Database connection lost"}]}
    assert decoded(replies[0]) == lost
    assert decoded(replies[1]) == {"result": False, "errors": [{"code": 1, "message": "x"}]}
    named = decoded(replies[2])
    assert named.pop("taskid") == sandbox.ledger()["tasks"][-1]["id"]
    assert len(named.pop("socketaccesstoken")) == 30
    assert named == lost
    assert runs(sandbox) == before + 2


def test_a_machine_that_does_not_know_the_task_yet(sandbox: Sandbox, wire: Wire) -> None:
    """It says so, or shows an empty list; a task is stopped all the same."""
    wire.post(RUN, INPUTS)
    task_id = wire.json()["taskid"]
    plan(sandbox).script("Task/Detail", NoTask())
    plan(sandbox).script("Task/Cancel", NoTask(empty=True))
    wire.post("/v1/Task/Detail", {"taskid": task_id})
    missing = {"code": 1, "message": "There is no task yet."}
    assert decoded(wire.reply()) == {"result": False, "errors": [missing]}
    wire.post("/v1/Task/Cancel", {"taskid": task_id})
    assert decoded(wire.reply()) == {"total": "0", "errors": [], "tasklist": [], "result": True}
    wire.post("/v1/Task/Detail", {"taskid": task_id})
    assert wire.json()["tasklist"][0]["status"] == "task_cancel"


def test_a_refusal_needs_no_body(sandbox: Sandbox, wire: Wire) -> None:
    """A client that waits for a go-ahead is refused without one; a large body is read and thrown away."""
    plan(sandbox).script("File/Upload", Status(503), times=2)
    wire.post("/v1/File/Upload", b"x" * LARGE)
    assert b" 503 " in wire.reply()
    wire.send(post("/v1/File/Upload", b"x" * LARGE, "expect: 100-continue")[:-LARGE])
    data, end = wire.rest()
    assert data.startswith(b"HTTP/1.1 503 ")
    assert (b"\r\nconnection: close\r\n" in data, end) == (True, "fin")


def test_a_refused_body_without_end_ends_with_the_client(sandbox: Sandbox, wire: Wire) -> None:
    """What is left of a broken body is thrown away."""
    plan(sandbox).script("Tool/List", Status(503))
    wire.send(CHUNKED.replace(b"5;a=b", b"five"))
    wire.sock.shutdown(socket.SHUT_WR)
    assert b" 503 " in wire.rest()[0]


def test_a_reply_that_comes_twice_answers_the_next_call(sandbox: Sandbox, wire: Wire) -> None:
    """From then on the connection is one reply behind."""
    plan(sandbox).script("Tool/List", Duplicate())
    wire.post("/v1/Tool/List", {"limit": "1"})
    first = wire.reply()
    wire.post("/v1/Tool/List", {"limit": "2"})
    assert wire.reply() == first
    assert len(wire.json()["tool"]) == 2


def test_a_foreign_reply_is_about_another_task(sandbox: Sandbox, wire: Wire) -> None:
    """Both tasks are real; only the question was another."""
    ids = []
    for _ in range(2):
        wire.post(RUN, INPUTS)
        ids.append(wire.json()["taskid"])
    plan(sandbox).script("Task/Detail", Foreign())
    wire.post("/v1/Task/Detail", {"taskid": ids[1]})
    assert wire.json()["tasklist"][0]["id"] == ids[0]


def test_the_list_lags_by_the_sandbox_s_clock() -> None:
    """It leaves out the youngest tasks, and its pages are full all the same."""
    now = [1e9]
    with make(FaultPlan(), clock=lambda: now[0]) as sandbox, Wire(sandbox) as wire:
        for _ in range(3):
            wire.post(RUN, INPUTS)
            wire.reply()
            now[0] += 10

        def listed(*faults: Fault) -> list[str]:
            for fault in faults:
                plan(sandbox).script("Task/List", fault)
            wire.post("/v1/Task/List", {"limit": "2"})
            return [task["id"] for task in wire.json().get("tasklist", [])]

        assert listed() == ["2223", "2222"]
        assert listed(ListLag(15)) == ["2222", "2221"]
        assert listed(ListLag(25)) == ["2221"]
        assert listed(ListLag(float("inf"))) == []
        assert listed() == ["2223", "2222"]


def test_a_rotated_key_is_refused_and_the_new_one_has_the_old_tasks() -> None:
    """From the request on that suffers it."""
    with make(FaultPlan()) as sandbox, Wire(sandbox) as wire:
        wire.post(RUN, INPUTS)
        task_id = wire.json()["taskid"]
        plan(sandbox).script("Task/Detail", RotateKey("new", None))
        replies = []
        for _ in range(2):
            wire.post("/v1/Task/Detail", {"taskid": task_id})
            replies.append(wire.reply())
        assert [reply[9:12] for reply in replies] == [b"401", b"401"]
        wire.send(post("/v1/Task/Detail", {"taskid": task_id}).replace(b"x-api-key: k", b"x-api-key: new"))
        assert wire.json()["tasklist"][0]["id"] == task_id
        plan(sandbox).script("Task/Detail", RotateKey("newer", None))
        wire.post("/v1/Task/Detail", {"taskid": task_id})
        assert b" 401 " in wire.reply()
        wire.send(post("/v1/Task/Detail", {"taskid": task_id}).replace(b"x-api-key: k", b"x-api-key: new"))
        assert wire.json()["result"]


# -- chance ----------------------------------------------------------------------------------------


def storm(seed: int) -> tuple[list[tuple[str, int, Fault]], dict[str, Any]]:
    """Send requests from several threads through seeded faults."""
    rules = FaultPlan(seed)
    rules.random(
        0.4, ["Run", "Task/Detail"], faults=[Reset(), Reset(after="processing"), Status(503), Html(502)]
    )

    with make(rules) as stormy, ThreadPoolExecutor(4) as pool:

        def talk(path: str) -> None:
            for _ in range(20):
                with Wire(stormy) as wire:
                    wire.post(path, INPUTS, "connection: close")
                    wire.rest()

        list(pool.map(talk, [RUN, "/v1/Task/Detail"] * 2))
        ledger = stormy.ledger()
    assert rules.seen == {"Run": 40, "Task/Detail": 40}
    return sorted(((each.operation, each.number, each.fault) for each in rules.injected), key=repr), ledger


def test_a_storm_can_be_replayed() -> None:
    """The same requests fail in the same way for the same seed, though threads race; the books agree."""
    injected, ledger = storm(11)
    again, _ = storm(11)
    assert injected == again
    assert injected != storm(12)[0]
    lost = sum(operation == "Run" and not fault.processed for operation, _, fault in injected)
    assert ledger["runs"] == ledger["requests"]["Run"] == 40 - lost
    assert {task["inputs"]["prompt"] for task in ledger["tasks"]} == {"she smiles"}
