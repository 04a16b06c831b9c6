"""Makes the files of running tasks: reads the image, renders the clip, keeps it for the CDN."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from wiro_async.sandbox._catalogue import Model
from wiro_async.sandbox._cdn import Store, file_path
from wiro_async.sandbox._engine import Engine, Product, Task
from wiro_async.sandbox._images import PRINTED
from wiro_async.sandbox._media import ImageRejected, canned_clip, plain_png
from wiro_async.sandbox._validation import image_source

__all__ = ["Renderer", "complaint"]

_log = logging.getLogger("wiro_async.sandbox")

_MAX_IMAGE = 100 * 1024 * 1024
_RENDERS = 2
_CACHED_CLIPS = 32

_EXTENSIONS = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "image/png": "png",
    "image/jpeg": "jpg",
    "text/plain": "txt",
}
_WRONG_TYPES = {"video/mp4": "video/webm", "image/png": "image/jpeg"}

_Key = tuple[bytes, str, int]


def render_clip(image: bytes, prompt: str, *, seed: int) -> bytes:
    """Render a clip; see ``_render``, whose libraries take longer to load than all the rest."""
    from wiro_async.sandbox import _render  # noqa: PLC0415

    return _render.render_clip(image, prompt, seed=seed)


def complaint(source: str | None) -> str | None:
    """Why an image cannot be read, as far as its name tells; None if it may be readable."""
    if source is None or source in PRINTED or urlsplit(source).scheme in {"http", "https"}:
        return None
    return f"Input image could not be downloaded: {source[:200]!r} is not a valid URL."


class Renderer:
    """Does the work of tasks.

    Args:
        engine: Says which task has started, and hears what became of it.
        store: Where the files go.
        clock: Gives the time.
        seed: For models that were given none.
        cdn_url: Gives what URLs of the store's own files begin with.
        may_reach: Tells whether images may be read from an address.
        fetch_timeout: Seconds that another server has for sending an image.
        mislabel: Whether what models make claims to be of another type than it is.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        clock: Callable[[], float],
        seed: int,
        cdn_url: Callable[[], str],
        *,
        may_reach: Callable[[str], bool],
        fetch_timeout: float,
        mislabel: bool = False,
    ) -> None:
        self._engine: Engine = engine
        self._store: Store = store
        self._clock: Callable[[], float] = clock
        self._seed: int = seed
        self._may_reach: Callable[[str], bool] = may_reach
        self._fetch_timeout: float = fetch_timeout
        self._mislabel: bool = mislabel
        self._cdn_url: Callable[[], str] = cdn_url
        self._folders: random.Random = random.Random(f"{seed}/folders")  # noqa: S311 - a simulation
        self._clips: dict[_Key, bytes] = {}
        self._locks: dict[_Key, anyio.Lock] = {}
        self._wake: anyio.Event | None = None

    def poke(self) -> None:
        """Let the renderer look when the next task starts."""
        if self._wake is not None:
            self._wake.set()

    def poke_if_due(self, now: float) -> None:
        """Let the renderer look if a task has started: under a virtual clock no timer fires."""
        start = self._engine.next_start()
        if start is not None and start <= now:
            self.poke()

    def keep(self, name: str, contenttype: str, data: bytes) -> Product:
        """Put a file on the CDN, in a folder of its own."""
        path = file_path(self._folder(), name)
        self._store.put(path, data, contenttype, self._clock())
        return Product(name, contenttype, len(data), path)

    def _keep_output(self, contenttype: str, data: bytes) -> Product:
        if self._mislabel:
            contenttype = _WRONG_TYPES.get(contenttype, contenttype)
        return self.keep(f"0.{_EXTENSIONS[contenttype]}", contenttype, data)

    def stand_in(self, model: Model, prompt: str) -> Product:
        """What takes no work: a file, or a language model's answer.

        No two files have the same bytes, unless they are pictures.
        """
        if model.is_language_model:
            thinking, answer = f"I was asked: {prompt}", f"The sandbox's answer to: {prompt}"
            content = {
                "prompt": prompt,
                "raw": f"{thinking}\n{answer}",
                "thinking": [thinking],
                "answer": [answer],
            }
            return Product("", "raw", 0, "", content)
        if model.makes_video:
            return self._keep_output("video/mp4", canned_clip(self._folder()))
        if model.category.endswith("-to-image"):
            return self._keep_output("image/png", plain_png(64, 64))
        return self._keep_output("text/plain", f"The sandbox's answer {self._folder()}.".encode())

    def _folder(self) -> str:
        return "-".join(f"{self._folders.getrandbits(32):08x}" for _ in range(8))

    async def work(self) -> None:
        """Make the files of all tasks as they start, until cancelled."""
        limiter = anyio.CapacityLimiter(_RENDERS)
        async with anyio.create_task_group() as group:
            while True:
                self._wake = anyio.Event()
                self._start_due(group, limiter)
                start = self._engine.next_start()
                with anyio.move_on_after(None if start is None else max(0.0, start - self._clock())):
                    await self._wake.wait()

    def _start_due(self, group: TaskGroup, limiter: anyio.CapacityLimiter) -> None:
        for task in self._engine.take_started(self._clock()):
            group.start_soon(self._make, task, limiter)

    async def _make(self, task: Task, limiter: anyio.CapacityLimiter) -> None:
        source = image_source(task.order.model, task.order.parameters)
        try:
            image = plain_png() if source is None else await self._read(source)
            data = await self._clip(image, task, limiter)
        except ImageRejected as error:
            self._engine.rejected(task.id, self._clock(), str(error))
        except Exception as error:
            # A bug in the renderer costs one task, not the sandbox.
            _log.exception("Rendering task %s failed.", task.id)
            self._engine.rejected(task.id, self._clock(), f"Rendering failed: {type(error).__name__}")
        else:
            self._engine.prepared(task.id, self._clock(), [self._keep_output("video/mp4", data)])

    async def _read(self, url: str) -> bytes:
        if url in PRINTED:
            return await anyio.Path(PRINTED[url]).read_bytes()
        own = self._cdn_url() + "/"
        if url.startswith(own):
            file = self._store.get(url.removeprefix(own))
            if file is None:
                raise _unreachable(url, "404 Not Found")
            return file.data
        if not self._may_reach(url):
            raise _unreachable(url, "the sandbox reads only addresses that --allow-fetch HOST:PORT names")
        import httpx  # noqa: PLC0415 - most sandboxes fetch nothing

        try:
            with anyio.fail_after(self._fetch_timeout):
                return await _download(url)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise _unreachable(url, str(error) or "timeout") from None

    async def _clip(self, image: bytes, task: Task, limiter: anyio.CapacityLimiter) -> bytes:
        """Render, or take what an identical job has rendered."""
        parameters = task.order.parameters
        prompt = task.order.directives.prompt
        seed = _integer(parameters.get("seed"), self._seed)
        digest = await anyio.to_thread.run_sync(lambda: hashlib.sha256(image).digest())
        key = (digest, prompt, seed)
        async with self._locks.setdefault(key, anyio.Lock()):
            clip = self._clips.get(key)
            if clip is None:
                clip = await anyio.to_thread.run_sync(
                    lambda: render_clip(image, prompt, seed=seed), limiter=limiter
                )
                self._clips[key] = clip
                if len(self._clips) > _CACHED_CLIPS:
                    self._forget(next(iter(self._clips)))
            return clip

    def _forget(self, key: _Key) -> None:
        del self._clips[key], self._locks[key]


async def _download(url: str) -> bytes:
    import httpx  # noqa: PLC0415

    # Neither proxies nor redirects: both could lead off this machine.
    async with (
        # The caller's deadline holds for the whole.
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113
        client.stream("GET", url) as response,
    ):
        if response.status_code != 200:
            raise _unreachable(url, f"HTTP status {response.status_code}")
        body = bytearray()
        # Read to its end, or to the deadline: leaving httpx's iterators half-way is an error under trio.
        async for chunk in response.aiter_bytes():
            body += chunk[: _MAX_IMAGE + 1 - len(body)]
        if len(body) > _MAX_IMAGE:
            raise _unreachable(url, "larger than 100 MB")
        return bytes(body)


def _unreachable(url: str, reason: str) -> ImageRejected:
    return ImageRejected(f"Input image could not be downloaded: {url[:200]} ({reason})")


def _integer(value: object, default: int) -> int:
    try:
        return int(str(value))
    except ValueError:
        return default
