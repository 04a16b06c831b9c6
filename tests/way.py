"""The way of a job through the files of the core, in the order in which somebody who reads along meets them.

    python -m tests.way

Three operations are followed on the built-in sandbox, over real sockets and after a warm-up:
``client.submit``, a ``handle.wait()`` that polls until the end, and a batch of one job with a journal, a
budget and a download. A file is met when Python code of it runs in any thread: a function, a lambda or a
comprehension. Bodies of modules and classes do not count, nor does what attrs generates, nor the sandbox, nor
the caller's own code, which makes the ``Job`` and reads its outcome.

The figures do not depend on the time: a task ends only once a poll has found it running.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

import wiro_async
from wiro_async import Client, Job, Polling
from wiro_async.sandbox import Sandbox

LIMITS = {
    False: {"submit": 16, "wait": 16, "batch": 35},
    True: {"submit": 18, "wait": 16, "batch": 36},
}
"""The most files that each operation may meet, without and with the check of its inputs. The check takes one
file for the stage and one for the rules; a batch's budget meets the first, too, for the catalogue's price."""

ROOT = f"{Path(wiro_async.__file__).parent}/"
SANDBOX = f"{ROOT}sandbox/"
IMAGE = Path(SANDBOX, "images", "dusk-sea.jpg")
MODEL = "MiniMax/image-to-video-01-director"

Way = dict[str, list[str]]
"""The files that were met, in order, each with the functions of it that were entered, in order."""


class Recorder:
    """Notes the code of the core that runs. Threads that started before it are not watched."""

    def __init__(self) -> None:
        self._way: Way | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch this thread, and those that start meanwhile."""
        sys.setprofile(self._entered)
        threading.setprofile(self._entered)
        try:
            yield
        finally:
            threading.setprofile(None)
            sys.setprofile(None)

    @contextmanager
    def recording(self) -> Iterator[Way]:
        """Fill a way, undisturbed by the finalizers of what was before."""
        gc.collect()
        gc.disable()
        way = self._way = {}
        try:
            yield way
        finally:
            self._way = None
            gc.enable()

    def _entered(self, frame: FrameType, event: str, _: object) -> None:
        way, code, caller = self._way, frame.f_code, frame.f_back
        if way is None or event != "call" or not code.co_filename.startswith(ROOT):
            return
        if any(f.f_code.co_filename.startswith(SANDBOX) for f in (frame, caller) if f is not None):
            return
        if code.co_flags & inspect.CO_OPTIMIZED:  # a function: the bodies of modules and classes are not
            functions = way.setdefault(code.co_filename.removeprefix(ROOT), [])
            name = code.co_qualname.partition(".<locals>")[0]
            if name not in functions:
                functions.append(name)


class Steering:
    """Lets the sandbox's tasks hang until a poll has been answered, and ends them then."""

    def __init__(self) -> None:
        self.sandbox: Sandbox = Sandbox(clock=time.time, wrap=self._wrap, speed=1000.0, render=False)

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        async def steered(scope: Scope, receive: Receive, send: Send) -> None:
            body = bytearray()

            async def listen() -> Message:
                message = await receive()
                body.extend(message.get("body", b""))
                return message

            await app(scope, listen, send)
            if scope.get("path", "").endswith("/Task/Detail"):
                self._finish(json.loads(body)["taskid"])

        return steered

    def _finish(self, task_id: str) -> None:
        tasks = {task["id"]: task["status"] for task in self.sandbox.ledger()["tasks"]}
        if tasks[task_id] == "task_start":
            self.sandbox.engine.steer(task_id, "finish", time.time())


def follow(times: int = 1, *, check: bool = True) -> list[dict[str, Way]]:
    """Return the ways of the operations, followed as often as asked, with or without the check of inputs."""
    recorder, steering = Recorder(), Steering()
    with steering.sandbox, tempfile.TemporaryDirectory() as folder, recorder.installed():
        return asyncio.run(_follow(times, recorder, steering.sandbox, Path(folder), check=check))


async def _follow(
    times: int, recorder: Recorder, sandbox: Sandbox, folder: Path, *, check: bool
) -> list[dict[str, Way]]:
    found = []
    async with Client(
        sandbox.config.api_key,
        sandbox.config.api_secret,
        base_url=sandbox.base_url,
        watch="poll",
        check=check,
        polling=Polling(min_interval=0.05, max_interval=0.1),
    ) as client:
        image = (await client.upload(IMAGE)).url
        for number in range(times + 1):  # the first is the warm-up
            inputs = {"prompt": f"[sandbox:hang] waves {number}", "inputImageFirstUrl": image}
            with recorder.recording() as submit:
                task = await client.submit(MODEL, inputs)
            with recorder.recording() as wait:
                await task.wait()
            job = Job(inputs=inputs)
            with recorder.recording() as batch:
                await _one_job(client, job, folder / str(number))
            found.append({"submit": submit, "wait": wait, "batch": batch})
    return found[1:]


async def _one_job(client: Client, job: Job, folder: Path) -> None:
    journal, clips = folder.with_suffix(".db"), folder
    async with client.batch([job], model=MODEL, journal=journal, max_cost=5, download=clips) as batch:
        async for outcome in batch:
            assert outcome.error is None, outcome.error
            assert outcome.paths


def show(ways: dict[str, Way], *, check: bool = True) -> Iterator[str]:
    """Yield the lines of a report."""
    for name, way in ways.items():
        yield f"{name}: {len(way)} files"
        for number, (file, functions) in enumerate(way.items(), 1):
            yield f"{number:4}  {file}"
            yield textwrap.fill(", ".join(functions), 110, initial_indent=" " * 8, subsequent_indent=" " * 8)
        yield ""
    yield "Files met: " + ", ".join(
        f"{name} {len(way)} (at most {LIMITS[check][name]})" for name, way in ways.items()
    )


if __name__ == "__main__":
    print(*show(follow()[0]), sep="\n")  # noqa: T201
    print("Without the check:", *list(show(follow(check=False)[0], check=False))[-1:])  # noqa: T201
