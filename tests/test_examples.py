"""The examples run as they are, against the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import runpy
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest
import uvicorn

import wiro_async
from wiro_async.sandbox import Sandbox, demo_images

EXAMPLES = Path(__file__).parent.parent / "examples"
IMAGES = demo_images()
IMAGE_URL = "https://example.org/photo.jpg"


@pytest.fixture
def anyio_backend() -> str:
    """The examples are written for asyncio."""
    return "asyncio"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox that the environment names, as it would for a user; and looks at its pace."""
    with Sandbox(render=False, speed=200, run_sigma=0) as sandbox:
        monkeypatch.setenv("WIRO_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("WIRO_API_KEY", sandbox.config.api_key)
        monkeypatch.setenv("WIRO_API_SECRET", sandbox.config.api_secret or "")
        polling(monkeypatch)
        yield sandbox


def polling(monkeypatch: pytest.MonkeyPatch, safety_interval: float = 60.0) -> None:
    """Set how often an example's client polls, where it does not say so itself; the last call counts."""
    policy = wiro_async.Polling(min_interval=0.02, max_interval=0.05, safety_interval=safety_interval)
    monkeypatch.setattr("wiro_async._config.Polling", lambda: policy)


def example(name: str, **settings: object) -> ModuleType:
    """Import an example from its file, anew, and change its settings."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks there for the types that annotations name
    spec.loader.exec_module(module)
    assert settings.keys() <= vars(module).keys()
    vars(module).update(settings)
    return module


# -- scripts -------------------------------------------------------------------------------------------------


async def test_one_job_saves_a_clip(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shortest example prints every status and leaves a clip in the folder."""
    await example("one_job").main(str(IMAGES[0]), "[Zoom in] waves", str(tmp_path))
    printed = capsys.readouterr().out
    assert printed.index("task_queue") < printed.index("task_start") < printed.index("task_postprocess_end")
    assert (tmp_path / "2221_0.mp4").stat().st_size > 0
    assert sandbox.ledger()["paid"] == 1


async def test_one_job_says_why_there_is_no_clip(sandbox: Sandbox, tmp_path: Path) -> None:
    """A failed task ends the script with the model's own words."""
    with pytest.raises(SystemExit, match="no clip: too dark"):
        await example("one_job").main(str(IMAGES[0]), "[sandbox:fail too dark]", str(tmp_path))


@pytest.mark.parametrize("name", ["one_job", "fan_out"])
def test_without_arguments_a_script_says_what_it_wants(name: str) -> None:
    """On one line, and not by a traceback."""
    with pytest.raises(SystemExit, match=f"usage: python examples/{name}.py ") as ended:
        _as_program(name)
    assert isinstance(ended.value.code, str)


def _as_program(name: str) -> None:
    argv, sys.argv = sys.argv, [name]
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = argv


async def test_fan_out_makes_a_clip_of_each_image(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three images become three clips, and one that cannot be read disturbs none of them."""
    missing = tmp_path / "missing.jpg"
    lines = await example("fan_out").main(tmp_path / "clips", [*IMAGES, missing])
    assert [line.split(": ")[0] for line in lines] == [str(path) for path in (*IMAGES, missing)]
    assert sorted(path.stem for path in (tmp_path / "clips").iterdir()) == [path.stem for path in IMAGES]
    assert "cannot be read" in lines[-1]
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(lines)
    assert sandbox.ledger()["runs"] == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (wiro_async.TaskTimeout("late", task_id="7"), "task 7 goes on"),
        (
            wiro_async.SubmissionUnknown("who knows", model="m", inputs_digest="", submitted_at=0, cause=""),
            "who knows",
        ),
    ],
)
async def test_fan_out_tells_what_may_still_be_paid(error: Exception, said: str) -> None:
    """A job that may go on is named with what is needed to take it up again."""

    class Failing:
        async def run(self, *_: object, **__: object) -> None:
            raise error

    assert said in await example("fan_out").make_clip(Failing(), Path("a.jpg"), Path())


# -- the web app ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_process(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Call the app without a socket, its lifespan included."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(with_state), base_url="http://app.test"
        ) as http:
            yield http


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve the app on a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


async def test_a_handler_awaits_a_clip(sandbox: Sandbox) -> None:
    """POST /clips answers with the clip's URL and its price."""
    async with in_process(example("fastapi_app").app) as http:
        reply = await http.post("/clips", json={"image": IMAGE_URL, "prompt": "waves"})
    assert reply.status_code == 200
    assert reply.json()["task_id"] == "2221"
    assert reply.json()["urls"][0].endswith("/0.mp4")
    assert float(reply.json()["cost_usd"]) > 0


async def test_a_handler_refuses_files_of_the_server(sandbox: Sandbox) -> None:
    """An image that is a path never reaches the library, which would upload it."""
    async with in_process(example("fastapi_app").app) as http:
        reply = await http.post("/clips", json={"image": "/etc/passwd", "prompt": "waves"})
    assert reply.status_code == 422
    assert "Run" not in sandbox.ledger()["requests"]


@pytest.mark.parametrize(
    ("prompt", "code", "detail"),
    [
        ("[sandbox:fail too dark]", 502, "too dark"),
        ("[sandbox:hang]", 504, {"task_id": "2221"}),
        ("[sandbox:nonsense]", 502, "nonsense"),
    ],
)
async def test_a_handler_turns_errors_into_replies(
    sandbox: Sandbox, prompt: str, code: int, detail: object
) -> None:
    """A failure is 502 with its reason, a late task 504 with its id, a refusal 502."""
    async with in_process(example("fastapi_app", PATIENCE=0.5).app) as http:
        reply = await http.post("/clips", json={"image": IMAGE_URL, "prompt": prompt})
    assert reply.status_code == code
    said = reply.json()["detail"]
    assert detail in said if isinstance(detail, str) else said == detail


def test_a_wrong_input_is_the_callers_own(sandbox: Sandbox) -> None:
    """What the library refuses before sending is 400, with its explanation."""
    refused = example("fastapi_app").refusal(wiro_async.InvalidInput("the image is a fish"))
    assert (refused.status_code, refused.detail) == (400, "the image is a fish")


async def test_a_full_account_is_503_for_starters_too(sandbox: Sandbox) -> None:
    """The service's limit is passed on as such."""
    async with in_process(example("fastapi_app").app) as http:
        wanted = {"image": IMAGE_URL, "prompt": "[sandbox:queue]"}
        replies = [await http.post("/clips/start", json=wanted) for _ in range(11)]
        unknown = await http.get("/clips/999/events")
    assert [reply.status_code for reply in replies] == [202] * 10 + [503]
    assert unknown.status_code == 404


async def test_events_tell_every_status(sandbox: Sandbox) -> None:
    """The stream gives all statuses in order, those before it began too, then the outcome."""
    with served(example("fastapi_app").app) as address:
        async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
            started = (await http.post("/clips/start", json={"image": IMAGE_URL, "prompt": "waves"})).json()
            stream = await http.get(started["events"])
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in stream.text.strip().split("\n\n")]
    statuses = [json.loads(data.removeprefix("data: ")).get("status") for _, data in events[:-1]]
    assert statuses[0] == "task_queue"
    assert statuses[-1] == "task_postprocess_end"
    assert events[-1][0] == "event: end"
    assert json.loads(events[-1][1].removeprefix("data: "))["outcome"] == "succeeded"


async def test_a_listener_that_leaves_leaves_the_task_alone(sandbox: Sandbox) -> None:
    """Hanging up ends the stream; the task goes on and can be followed again."""
    with served(example("fastapi_app").app) as address:
        async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
            wanted = {"image": IMAGE_URL, "prompt": "[sandbox:hang]"}
            started = (await http.post("/clips/start", json=wanted)).json()
            async with http.stream("GET", started["events"]) as stream:
                async for line in stream.aiter_lines():
                    if "task_start" in line:
                        break
            before = sandbox.ledger()["tasks"][0]["details"]
            await _looks_end(sandbox)
            assert before > 0
            sandbox.engine.steer(started["task_id"], "finish", sandbox._clock())
            again = await http.get(started["events"])
    assert '"outcome": "succeeded"' in again.text
    assert sandbox.ledger()["requests"].get("Task/Kill") is None


async def _looks_end(sandbox: Sandbox) -> None:
    """Wait until nobody looks at the task any more."""
    with anyio.fail_after(10):
        while True:
            before = sandbox.ledger()["tasks"][0]["details"]
            await anyio.sleep(0.25)
            if sandbox.ledger()["tasks"][0]["details"] == before:
                return


async def test_a_stream_that_breaks_says_so(sandbox: Sandbox) -> None:
    """When looking at the task fails for good, the last event names the error."""
    module = example("fastapi_app")
    async with wiro_async.Client("no-such-key", "secret", base_url=sandbox.base_url) as client:
        said = [event async for event in module.events(client.attach("2221"))]
    assert len(said) == 1
    assert said[0].startswith("event: error\n")
