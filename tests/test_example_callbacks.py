"""The example with callbacks runs as it is, on a real socket, against the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
import uvicorn

import wiro_async
from tests.servers import until
from tests.test_examples import example, polling
from wiro_async.sandbox import Sandbox

WANTED = {"image": "https://example.org/photo.jpg", "prompt": "waves"}
HANGING = {**WANTED, "prompt": "[sandbox:hang]"}
NOWHERE = "http://127.0.0.1:1"
"""A public address where nobody listens: then the tests do the calling back."""


@pytest.fixture
def anyio_backend() -> str:
    """The example is written for asyncio."""
    return "asyncio"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox that the environment names, as it would for a user."""
    with Sandbox(render=False, speed=200, run_sigma=0, allow_fetch=["127.0.0.1"]) as sandbox:
        monkeypatch.setenv("WIRO_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("WIRO_API_KEY", sandbox.config.api_key)
        monkeypatch.setenv("WIRO_API_SECRET", sandbox.config.api_secret or "")
        yield sandbox


class Served:
    """The example, served.

    Attributes:
        module: The example.
        url: Its address.
    """

    def __init__(self, module: Any, url: str) -> None:
        self.module: Any = module
        self.url: str = url

    async def post(self, path: str, wanted: object) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as http:
            return await http.post(path, json=wanted)


@contextlib.contextmanager
def served(
    monkeypatch: pytest.MonkeyPatch, public_url: str | None = None, patience: float = 20.0
) -> Iterator[Served]:
    """Serve the example in a thread, under a public address of its own or the one given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("PUBLIC_URL", public_url or url)
        monkeypatch.setenv("CALLBACK_KEYS", "a-key-for-callbacks and-the-one-before")
        module = example("callback_app", PATIENCE=patience)
        server = uvicorn.Server(uvicorn.Config(module.app, log_config=None, lifespan="on", ws="none"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield Served(module, url)
        finally:
            server.should_exit = True
            thread.join()


async def begun(sandbox: Sandbox) -> tuple[str, str]:
    """Wait for the sandbox's first task, and return its id and the path of its callback."""
    await until(lambda: bool(sandbox.ledger()["tasks"]))
    task = sandbox.ledger()["tasks"][0]
    return task["id"], urlsplit(task["callbackurl"]).path


@contextlib.asynccontextmanager
async def asking(app: Served, wanted: dict[str, str]) -> AsyncIterator[list[httpx.Response]]:
    """Ask for a video meanwhile, and wait for the answer at the end."""
    replies: list[httpx.Response] = []

    async def ask() -> None:
        replies.append(await app.post("/videos", wanted))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        yield replies


async def test_a_callback_brings_the_answer(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody looks, one request to the job's address causes the look that sees the end."""
    polling(monkeypatch, safety_interval=3600)
    with served(monkeypatch, NOWHERE) as app:
        async with asking(app, HANGING) as replies:
            task_id, path = await begun(sandbox)
            sandbox.engine.steer(task_id, "finish", sandbox._clock())
            await until(lambda: sandbox.ledger()["tasks"][0]["status"] == "task_postprocess_end")
            assert replies == []
            assert (await app.post(path, {})).status_code == 202
    assert replies[0].status_code == 200
    assert replies[0].json()["task_id"] == task_id
    assert replies[0].json()["urls"][0].endswith("/0.mp4")
    assert sandbox.ledger()["tasks"][0]["details"] == 1
    assert app.module.receiver.counts.woken == 1


async def test_a_callback_is_not_believed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may say what it likes: the look that it causes decides."""
    polling(monkeypatch, safety_interval=3600)
    with served(monkeypatch, NOWHERE) as app:
        async with asking(app, HANGING) as replies:
            task_id, path = await begun(sandbox)
            lie = {"tasklist": [{"id": task_id, "status": "task_postprocess_end", "outputs": []}]}
            assert (await app.post(path, lie)).status_code == 202
            await until(lambda: sandbox.ledger()["tasks"][0]["details"] >= 1)
            assert replies == []
            sandbox.engine.steer(task_id, "cancel", sandbox._clock())
            assert (await app.post(path, lie)).status_code == 202
    assert replies[0].status_code == 502
    assert "cancelled" in replies[0].json()["detail"]


async def test_a_stranger_wakes_nobody(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same path all but the genuine address is a 404."""
    with served(monkeypatch) as app:
        genuine = app.module.receiver.url_for("7").removeprefix(app.url)
        stranger = wiro_async.CallbackReceiver(app.url + "/wiro", keys=["another key of its own"])
        forged = stranger.url_for("7").removeprefix(app.url)
        codes = [(await app.post(path, {})).status_code for path in ("/wiro/7", "/wiro/7/x", forged, genuine)]
    assert codes == [404, 404, 404, 202]


async def test_a_key_can_be_changed_without_a_gap(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses under the key before are still answered."""
    with served(monkeypatch) as app:
        before = wiro_async.CallbackReceiver(app.url + "/wiro", keys=["and-the-one-before"])
        assert (await app.post(before.url_for("7").removeprefix(app.url), {})).status_code == 202


async def test_a_callback_that_never_comes_costs_time_only(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow poll finds the end."""
    polling(monkeypatch, safety_interval=0.2)
    with served(monkeypatch, NOWHERE) as app:
        reply = await app.post("/videos", WANTED)
    assert reply.status_code == 200
    assert app.module.receiver.counts == type(app.module.receiver.counts)()


async def test_failures_become_replies(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed task is 502 with its reason, a late one 504 with its id."""
    polling(monkeypatch, safety_interval=0.1)
    with served(monkeypatch) as app:
        failed = await app.post("/videos", {**WANTED, "prompt": "[sandbox:fail too dark]"})
        app.module.PATIENCE = 0.5
        late = await app.post("/videos", HANGING)
    assert failed.status_code == 502
    assert "too dark" in failed.json()["detail"]
    assert late.status_code == 504
    assert late.json()["detail"] == {"task_id": "2222"}


async def test_the_sandbox_calls_back(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks in between: its callback tells the end."""
    polling(monkeypatch, safety_interval=3600)
    with served(monkeypatch) as app:
        reply = await app.post("/videos", WANTED)
    assert reply.status_code == 200
    assert sandbox.ledger()["tasks"][0]["details"] == 1
    assert reply.json()["task_id"] == "2221"
