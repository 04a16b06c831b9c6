"""The sandbox as a server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.client import connect

from tests.conftest import KEY, SECRET
from wiro_async.sandbox import Sandbox, SandboxConfig, _server, serve

DIRECTOR = "/Run/MiniMax/image-to-video-01-director"


def signed() -> dict[str, str]:
    """Headers of a signed request."""
    nonce = str(time.time_ns())
    digest = hmac.new(KEY.encode(), (SECRET + nonce).encode(), hashlib.sha256).hexdigest()
    return {"x-api-key": KEY, "x-nonce": nonce, "x-signature": digest}


def photo(width: int = 480, height: int = 360) -> bytes:
    """A JPEG that can be rendered."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 120, 40)).save(file, "JPEG")
    return file.getvalue()


async def finished(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """Poll a task until it has ended."""
    with anyio.fail_after(60):
        while True:
            reply = (await client.post("/Task/Detail", json={"taskid": task_id}, headers=signed())).json()
            task: dict[str, Any] = reply["tasklist"][0]
            if task["status"] in {"task_postprocess_end", "task_cancel"}:
                return task
            await anyio.sleep(0.02)


async def test_an_image_becomes_a_video() -> None:
    """Upload, Run, Detail and download: the whole job, over sockets, with a real clip."""
    async with Sandbox(api_key=KEY, api_secret=SECRET, speed=200) as sandbox:
        async with httpx.AsyncClient(base_url=sandbox.base_url, timeout=30) as client:
            file = {"file": ("face.jpg", photo(), "image/jpeg")}
            upload = (await client.post("/File/Upload", files=file, headers=signed())).json()
            body = {"inputImageFirstUrl": upload["list"][0]["url"], "prompt": "[Zoom in] she smiles"}
            task_id = (await client.post(DIRECTOR, json=body, headers=signed())).json()["taskid"]
            task = await finished(client, task_id)
            assert (task["pexit"], task["totalcost"]) == ("0", "0.280000000000")
            clip = (await client.get(task["outputs"][0]["url"])).content
        assert (clip[4:8], str(len(clip))) == (b"ftyp", task["outputs"][0]["size"])
        ledger = sandbox.ledger()
    assert (ledger["paid"], ledger["credentials_leaked"]) == (1, 0)
    assert sandbox.ledger()["runs"] == 1


async def test_an_image_that_is_too_small_fails() -> None:
    """The renderer's rule is the service's: a short side over 300 px."""
    async with (
        Sandbox(api_key=KEY, api_secret=SECRET, speed=1000) as sandbox,
        httpx.AsyncClient(base_url=sandbox.base_url, timeout=30) as client,
    ):
        files = {"inputImage": ("face.jpg", photo(300, 400), "image/jpeg")}
        reply = await client.post(DIRECTOR, files=files, headers=signed())
        task = await finished(client, reply.json()["taskid"])
    assert (task["pexit"], task["outputs"]) == ("1", [])
    assert task["debugoutput"].splitlines()[-1]


def test_a_plain_with_statement_serves_too() -> None:
    """And the server is gone after it."""
    with Sandbox(render=False) as sandbox:
        token = {"x-sandbox-token": sandbox.control_token}
        assert httpx.get(f"{sandbox.origin}/sandbox/ledger", headers=token).json()["runs"] == 0
        assert sandbox.engine.limit() == 10
        url = sandbox.base_url
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{url}/Task/Detail")


def test_addresses_and_repr() -> None:
    """All addresses are on the same port, and the repr holds no secret."""
    sandbox = Sandbox(api_key=KEY, api_secret=SECRET, render=False)
    assert repr(sandbox) == "<Sandbox not started>"
    with sandbox:
        port = sandbox.origin.rpartition(":")[2]
        assert sandbox.base_url == f"http://127.0.0.1:{port}/v1"
        assert sandbox.socket_url == f"ws://127.0.0.1:{port}/v1"
        assert sandbox.cdn_url == f"http://127.0.0.1:{port}/cdn"
        assert repr(sandbox) == f"<Sandbox http://127.0.0.1:{port}>"


def test_ipv6_has_brackets() -> None:
    """``[::1]`` in URLs."""
    with Sandbox(host="::1", render=False) as sandbox:
        assert sandbox.origin.startswith("http://[::1]:")
        assert httpx.get(f"{sandbox.origin}/cdn/nothing").status_code == 404


def test_a_sandbox_serves_once_and_only_inside_its_block() -> None:
    """Both mistakes are told."""
    sandbox = Sandbox(render=False)
    with pytest.raises(RuntimeError, match="async with Sandbox"):
        _ = sandbox.base_url
    with sandbox, pytest.raises(RuntimeError, match="make a new one"):
        sandbox.__enter__()


def test_a_taken_port_is_an_error() -> None:
    """And leaves nothing open."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        sandbox = Sandbox(port=other.getsockname()[1], render=False)
        with pytest.raises(OSError, match="in use"):
            sandbox.__enter__()


def exiting(_: ASGIApp) -> ASGIApp:
    """An application that ends its thread's event loop as soon as it is told to start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await anyio.sleep_forever()

    return app


def test_a_server_that_cannot_start_says_why() -> None:
    """The failure in its thread is the cause of the error."""
    with pytest.raises(RuntimeError, match="did not start") as caught:
        Sandbox(render=False, wrap=exiting).__enter__()
    assert isinstance(caught.value.__cause__, SystemExit)


def unready(_: ASGIApp) -> ASGIApp:
    """An application whose own start fails."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if not app.routes:
            raise OSError("the database is not there")
        yield

    return Starlette(lifespan=lifespan)


def test_an_application_that_cannot_start_says_why() -> None:
    """Its own error is the cause, and in the message."""
    told = r"did not start: OSError\('the database is not there'\)"
    with pytest.raises(RuntimeError, match=told) as caught:
        Sandbox(render=False, wrap=unready).__enter__()
    assert isinstance(caught.value.__cause__, OSError)


def test_an_idle_server_lives_on() -> None:
    """It wakes now and then for its Date header, and serves all the while."""
    with Sandbox(render=False) as sandbox, httpx.Client(base_url=sandbox.origin) as http:
        dates: set[str] = set()
        deadline = time.monotonic() + 20
        while len(dates) < 2:
            assert time.monotonic() < deadline
            dates.add(http.get("/sandbox/ledger").headers["date"])
            time.sleep(0.1)


@pytest.mark.parametrize(
    "request_", [b"POST /v1/Tool/List HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", b"GET /"]
)
def test_a_stalled_client_does_not_hold_the_end_up(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is cut off, without a word in the log."""
    with Sandbox(render=False, receive_timeout=1e6) as sandbox:
        address = ("127.0.0.1", int(sandbox.origin.rpartition(":")[2]))
        stalled = socket.create_connection(address)
        stalled.sendall(request_)
        httpx.get(f"{sandbox.origin}/sandbox/ledger")
    with stalled:
        assert caplog.text == ""


def test_something_can_be_wrapped_around_the_application() -> None:
    """The seam for faults: plain ASGI on the outside."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def teapot(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return teapot

    with Sandbox(render=False, wrap=wrap) as sandbox:
        assert httpx.get(f"{sandbox.origin}/sandbox/ledger").status_code == 418


def test_an_application_that_fails_later_does_not_keep_the_server_from_being_ready() -> None:
    """Only what goes wrong at the start is told by whoever started it."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                raise RuntimeError("broken")
            await app(scope, receive, send)

        return broken

    with Sandbox(render=False, wrap=wrap) as sandbox:
        assert httpx.get(f"{sandbox.origin}/cdn/x", trust_env=False).status_code == 500


def test_websockets_are_served_and_can_be_cut() -> None:
    """On the same port as everything else."""
    with Sandbox(render=False) as sandbox, connect(sandbox.socket_url) as client:
        assert "connected" in str(client.recv(10))
        sandbox.cut_sockets("close", code=4000)
        with pytest.raises(ConnectionClosedError, match="4000"):
            client.recv(10)
        with pytest.raises(ValueError, match="share=2 must be from 0 to 1"):
            sandbox.cut_sockets(share=2)
    assert sandbox.ledger()["sockets"]["cut"] == 1


def test_the_clock_never_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the machine's clock does not move the sandbox's."""
    clock = _server.steady_clock()
    before = clock()
    assert abs(before - time.time()) < 5
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock() >= before


# -- a fresh state ---------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["method", "switch"])
def test_a_reset_sandbox_is_as_at_its_start(by: str) -> None:
    """No task, no file, no entry in the books; the same ids again; addresses and keys stay."""
    run = {"inputImageFirstUrl": "underwater.jpeg", "prompt": "p"}
    with (
        Sandbox(api_key="k", api_secret=None, speed=100, strict_nonce=True) as sandbox,
        httpx.Client(headers={"x-api-key": "k"}, trust_env=False) as http,
        connect(sandbox.socket_url, proxy=None) as client,
    ):
        client.recv(timeout=20)
        first = http.post(f"{sandbox.base_url}/Run/MiniMax/image-to-video-01-director", json=run).json()
        upload = http.post(f"{sandbox.base_url}/File/Upload", files={"file": b"x"}).json()["list"][0]["url"]
        before = sandbox.engine
        for _ in range(2):
            if by == "method":
                sandbox.reset()
            else:
                token = {"x-sandbox-token": sandbox.control_token}
                assert http.post(f"{sandbox.origin}/sandbox/reset", json={}, headers=token).json()["result"]
        books = sandbox.ledger()
        assert (books["runs"], books["requests"], books["tasks"]) == (0, {}, [])
        assert http.get(upload).status_code == 404
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        again = http.post(f"{sandbox.base_url}/Run/MiniMax/image-to-video-01-director", json=run).json()
        assert again == first
        assert sandbox.engine is not before
        # The work of the new state is done: clips are made, sockets tell.
        with connect(sandbox.socket_url, proxy=None) as other:
            other.send(json.dumps({"type": "task_info", "tasktoken": again["socketaccesstoken"]}))
            while "task_postprocess_end" not in other.recv(timeout=60):
                pass
        assert sandbox.ledger()["paid"] == 1


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``python -m wiro_async.sandbox`` with a ready file, started."""
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "wiro_async.sandbox", "--no-render", "--ready-file", str(ready)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("WIRO_")},
    )
    try:
        for _ in range(3000):
            if ready.exists():
                break
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(
    number: int, command: subprocess.Popen[str], tmp_path: Path
) -> None:
    """The ready file holds the base URL of a server that answers, and its token; the exit code is 0."""
    ready = tmp_path / "ready"
    url, token = ready.read_text().splitlines()
    assert ready.stat().st_mode & 0o777 == 0o600
    books = httpx.get(f"{url.removesuffix('/v1')}/sandbox/ledger", headers={"x-sandbox-token": token})
    assert books.json()["runs"] == 0
    key = {"x-api-key": "sandbox-key"}
    assert httpx.post(f"{url}/Tool/List", json={}, headers=key).status_code == 401
    command.send_signal(number)
    out, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (0, "")
    assert f"export WIRO_BASE_URL={url}\n" in out
    assert f"export WIRO_SOCKET_URL=ws{url.removeprefix('http')}\n" in out
    assert "export WIRO_API_KEY=sandbox-key\n" in out


@pytest.mark.parametrize("kind", ["a link", "open to all"])
def test_the_token_goes_into_a_file_of_its_own(tmp_path: Path, kind: str) -> None:
    """Not into one that was there before under the name of its first bytes: others may read that."""
    ready, elsewhere, part = tmp_path / "ready", tmp_path / "elsewhere", tmp_path / "ready.part"
    elsewhere.write_text("old")
    if kind == "a link":
        part.symlink_to(elsewhere)
    else:
        part.touch()
        part.chmod(0o644)

    def announce(_: str) -> None:
        signal.raise_signal(signal.SIGTERM)

    assert serve(SandboxConfig(render=False), ready_file=ready, announce=announce) == 0
    assert not ready.is_symlink()
    assert ready.stat().st_mode & 0o777 == 0o600
    assert len(ready.read_text().splitlines()) == 2
    assert elsewhere.read_text() == "old"


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({}, {"api_key": "sandbox-key", "api_secret": "sandbox-secret"}),
        ({"api_secret": None}, {"api_key": "sandbox-key"}),
        ({"api_secret": SECRET}, {"api_key": "sandbox-key"}),
        ({"api_key": KEY}, {}),
        ({"api_key": KEY, "api_secret": SECRET}, {}),
    ],
)
def test_programs_are_told_in_json(options: dict[str, Any], published: dict[str, str]) -> None:
    """A line with all addresses at the beginning, a line with the books at the end."""
    lines: list[str] = []

    def announce(line: str) -> None:
        lines.append(line)
        signal.raise_signal(signal.SIGTERM)

    assert serve(SandboxConfig(render=False, **options), announce=announce, as_json=True) == 0
    where, books = (json.loads(line) for line in lines)
    assert len(where.pop("control_token")) >= 32
    port = where["base_url"].removesuffix("/v1").rpartition(":")[2]
    assert where == {
        "base_url": f"http://127.0.0.1:{port}/v1",
        "socket_url": f"ws://127.0.0.1:{port}/v1",
        "cdn_url": f"http://127.0.0.1:{port}/cdn",
        **published,
    }
    assert (books["runs"], books["callbacks"]["expected"], books["sockets"]["opened"]) == (0, 0, 0)
    assert "tasks" not in books


def test_serve_announces_no_key_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the demo keys are printed; signal handlers are put back."""
    lines: list[str] = []

    def announce(line: str) -> None:
        lines.append(line)
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    config = SandboxConfig(api_key=KEY, api_secret=SECRET, render=False)
    assert serve(config, announce=announce) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert lines
    assert KEY not in "".join(lines)
    assert SECRET not in "".join(lines)
