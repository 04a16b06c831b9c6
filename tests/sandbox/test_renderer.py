"""Where clips come from: images read from this machine only, rendered in threads, once per identical job."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from wiro_async.sandbox import Sandbox, SandboxConfig, _renderer
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._directives import read_directives
from wiro_async.sandbox._engine import Order, Task
from wiro_async.sandbox._render import ImageRejected
from wiro_async.sandbox._renderer import complaint
from wiro_async.sandbox._service import Service

CATALOGUE = Catalogue.load()
SUBJECT = CATALOGUE.find("MiniMax", "image-to-video-hailuo-01-subject")
TEXT_TO_VIDEO = CATALOGUE.find("MiniMax", "text-to-video-hailuo-01")


class Renderer:
    """Stands in for the renderer: remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, str, int]] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None

    def __call__(self, image: bytes, prompt: str, *, seconds: float = 6.0, seed: int = 0) -> bytes:
        self.calls.append((image, prompt, seed))
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        return b"clip of " + image


class Rig:
    """A service whose renderer works, on a clock that stands still until it is moved."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_734_513_807.0
        config = SandboxConfig(balance=1e6, seed=3, allow_fetch=("127.0.0.1", "localhost"), **options)
        self.service = Service(config, CATALOGUE, lambda: self.now)
        self.service.origin = "http://sandbox"

    def submit(self, source: str | None, prompt: str = "p", **parameters: Any) -> Task:
        """A job, accepted and already in its running stage."""
        model = TEXT_TO_VIDEO if source is None else SUBJECT
        image = {} if source is None else {"inputImageFirstUrl": source}
        order = Order(
            project_id="699",
            model=model,
            parameters={**image, "prompt": prompt, **parameters},
            price=model.price(None),
            directives=read_directives(prompt),
        )
        task = self.service.engine.run(order, self.now)
        self.now += 1000
        return task

    def upload(self, data: bytes) -> str:
        """The URL of a file on the sandbox's own CDN."""
        return f"{self.service.cdn_url}/{self.service.renderer.keep('a.png', 'image/png', data).path}"

    async def finish(self, *tasks: Task) -> list[str]:
        """Let the renderer work until these tasks have ended; how each ended."""
        done = anyio.Event()

        def look(_: str) -> None:
            if not any(task.plan for task in tasks):
                done.set()

        self.service.engine.listeners.append(look)
        self.service.renderer.poke()
        async with anyio.create_task_group() as group:
            group.start_soon(self.service.renderer.work)
            with anyio.fail_after(30):
                await done.wait()
            group.cancel_scope.cancel()
        self.now += 1000
        return [task.pexit + " " + task.debugoutput.splitlines()[-1] for task in tasks]

    def clip(self, task: Task) -> bytes:
        """What the CDN has for a task."""
        file = self.service.store.get(task.outputs[0].path)
        assert file is not None
        return file.data


@pytest.fixture
def rig() -> Rig:
    """A new service."""
    return Rig()


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> Renderer:
    """Takes the renderer's place."""
    renderer = Renderer()
    monkeypatch.setattr(_renderer, "render_clip", renderer)
    return renderer


@pytest.fixture
def host() -> Iterator[Sandbox]:
    """Another server on this machine, with images."""
    with Sandbox(render=False) as sandbox:
        yield sandbox


async def test_a_clip_is_made_from_an_uploaded_image(rig: Rig, renderer: Renderer) -> None:
    """In another thread, from the prompt without its directives, with the seed that was given."""
    task = rig.submit(rig.upload(b"photo"), "[Zoom in] hello [sandbox:run=9]", seed="77")
    assert await rig.finish(task) == ["0 Done."]
    assert rig.clip(task) == b"clip of photo"
    assert renderer.calls == [(b"photo", "[Zoom in] hello", 77)]
    assert threading.get_ident() not in renderer.threads


async def test_identical_jobs_render_once(rig: Rig, renderer: Renderer) -> None:
    """Also at the same time; another prompt or seed is another clip."""
    url = rig.upload(b"photo")
    same = [rig.submit(url) for _ in range(5)]
    other = [rig.submit(url, "q"), rig.submit(url, seed=4), rig.submit(url, seed="x")]
    assert set(await rig.finish(*same, *other)) == {"0 Done."}
    assert len(renderer.calls) == 3
    assert sorted(renderer.calls) == [(b"photo", "p", 3), (b"photo", "p", 4), (b"photo", "q", 3)]


async def test_only_the_latest_clips_are_remembered(rig: Rig, renderer: Renderer) -> None:
    """The cache has a bound: 32 of them."""
    url = rig.upload(b"photo")
    for number in range(33):
        await rig.finish(rig.submit(url, str(number)))
    await rig.finish(rig.submit(url, "1"))
    assert len(renderer.calls) == 33
    await rig.finish(rig.submit(url, "0"))
    assert len(renderer.calls) == 34


async def test_a_model_without_image_starts_from_a_plain_picture(rig: Rig, renderer: Renderer) -> None:
    """There is something to see all the same."""
    assert await rig.finish(rig.submit(None)) == ["0 Done."]
    assert renderer.calls[0][0].startswith(b"\x89PNG")


async def test_images_are_read_from_this_machine(rig: Rig, renderer: Renderer, host: Sandbox) -> None:
    """By HTTP, if it is another server's."""
    service = host._running
    path = service.renderer.keep("b.png", "image/png", b"other photo").path
    assert await rig.finish(rig.submit(f"{host.cdn_url}/{path}")) == ["0 Done."]
    assert renderer.calls[0][0] == b"other photo"


async def test_unreadable_images_fail_their_task(renderer: Renderer, host: Sandbox) -> None:
    """Each with a reason; other machines are never asked."""
    rig = Rig(receive_timeout=600.0)
    large = host._running.renderer.keep("c.png", "image/png", bytes(100 * 1024 * 1024 + 1)).path
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    sources = {
        rig.service.cdn_url + "/gone/a.png": "404 Not Found",
        host.cdn_url + "/gone/a.png": "HTTP status 404",
        f"{host.cdn_url}/{large}": "larger than 100 MB",
        "https://example.com/a.png": "only addresses that --allow-fetch",
        "http:///a.png": "only addresses that --allow-fetch",
        f"http://127.0.0.1:{port}/a.png": "failed",
        "ftp://127.0.0.1/a.png": "",
    }
    ends = await rig.finish(*[rig.submit(source) for source in sources])
    for end, (source, reason) in zip(ends, sources.items(), strict=True):
        assert end.startswith(f"1 Input image could not be downloaded: {source} (")
        assert reason in end
    assert renderer.calls == []


async def test_a_host_that_does_not_answer_is_given_up(renderer: Renderer) -> None:
    """After a time limit for the whole download."""
    rig = Rig(receive_timeout=0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ends = await rig.finish(rig.submit(f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"))
    assert ends[0].startswith("1 Input image could not be downloaded")
    assert renderer.calls == []


async def test_what_the_renderer_rejects_fails_in_its_words(rig: Rig, renderer: Renderer) -> None:
    """The reason is the last line of debugoutput."""
    renderer.error = ImageRejected("The short side must be over 300 px.")
    assert await rig.finish(rig.submit(rig.upload(b"tiny"))) == ["1 The short side must be over 300 px."]


async def test_a_bug_in_the_renderer_costs_one_task(
    rig: Rig, renderer: Renderer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the renderer goes on."""
    renderer.error = ZeroDivisionError()
    assert await rig.finish(rig.submit(rig.upload(b"a"))) == ["1 Rendering failed: ZeroDivisionError"]
    assert "Rendering task 2221 failed." in caplog.text
    renderer.error = None
    assert await rig.finish(rig.submit(rig.upload(b"b"))) == ["0 Done."]


@asynccontextmanager
async def working(rig: Rig) -> AsyncIterator[None]:
    """The renderer at work, with nothing to do at first."""
    async with anyio.create_task_group() as group:
        group.start_soon(rig.service.renderer.work)
        await anyio.wait_all_tasks_blocked()
        yield
        group.cancel_scope.cancel()


async def test_the_renderer_wakes_for_a_task_that_has_started(rig: Rig, renderer: Renderer) -> None:
    """Under a virtual clock whoever looks at a task wakes it, but only if something is due."""
    done = anyio.Event()
    rig.service.engine.listeners.append(lambda _: done.set())
    rig.service.renderer.poke()  # nobody works yet: nothing happens
    async with working(rig):
        rig.service.renderer.poke_if_due(rig.now)
        task = rig.submit(rig.upload(b"photo"))
        rig.service.renderer.poke_if_due(0.0)
        await anyio.wait_all_tasks_blocked()
        assert renderer.calls == []
        rig.service.renderer.poke_if_due(rig.now)
        with anyio.fail_after(30):
            await done.wait()
    assert rig.clip(task) == b"clip of photo"


async def test_the_renderer_wakes_by_itself_when_a_start_is_due(rig: Rig, renderer: Renderer) -> None:
    """On a clock that runs, nobody has to look."""
    done = anyio.Event()
    rig.service.engine.listeners.append(lambda _: done.set())
    rig.submit(rig.upload(b"photo"))
    start = rig.service.engine.next_start()
    assert start is not None
    times = iter([start - 0.01, start - 0.01])

    def clock() -> float:
        return next(times, math.ceil(start))

    rig.service.renderer._clock = clock
    async with working(rig):
        with anyio.fail_after(30):
            await done.wait()
    assert len(renderer.calls) == 1


@pytest.mark.parametrize(
    ("source", "fine"),
    [
        (None, True),
        ("http://127.0.0.1/a.png", True),
        ("https://example.com/a.png", True),
        ("underwater.jpeg", True),
        ("input-woman-1.jpg", True),
        ("holiday.jpeg", False),
        ("ftp://host/a.png", False),
    ],
)
def test_a_name_that_is_no_url_is_complained_about(source: str | None, fine: bool) -> None:
    """Before anything is read."""
    assert (complaint(source) is None) is fine
