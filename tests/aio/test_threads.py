"""Threads of our own: whoever holds all of AnyIO's, or all of asyncio's, cannot keep us from ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from fastapi import FastAPI

import wiro_async
from tests.conftest import KEY, SECRET
from tests.servers import PATIENCE
from wiro_async import Client, ConnectionFailed, DownloadError
from wiro_async._aio import THREADS, ask_in_thread, finish, run_in_thread
from wiro_async.sandbox import Sandbox


def threads_of_anyio() -> int:
    return int(anyio.to_thread.current_default_thread_limiter().total_tokens)


@asynccontextmanager
async def held(count: int, *, ours: bool) -> AsyncIterator[threading.Event]:
    """Hold so many threads until the block ends, or the event is set."""
    free, begun = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        begun.release()
        free.wait(PATIENCE)

    run = run_in_thread if ours else anyio.to_thread.run_sync
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(run, hold)
        for _ in range(count):
            await finish(lambda: _begun(begun), bool)
        try:
            yield free
        finally:
            free.set()


async def _begun(begun: threading.Semaphore) -> None:
    with anyio.fail_after(PATIENCE):
        while not begun.acquire(blocking=False):  # noqa: ASYNC110 - threads set no event
            await anyio.sleep(0.002)


async def test_threads_of_ours_are_free_while_all_of_anyios_are_held() -> None:
    """Both kinds of call get one."""
    async with held(threads_of_anyio(), ours=False):
        with anyio.fail_after(PATIENCE):
            assert await run_in_thread(threading.get_ident) != threading.get_ident()
            assert await ask_in_thread(threading.get_ident) != threading.get_ident()


async def test_the_wait_for_a_thread_of_ours_can_be_cancelled() -> None:
    """What closes a file does not wait at all, and afterwards all of them are free again."""
    ran: list[int] = []
    async with held(THREADS, ours=True):
        for call in (run_in_thread, ask_in_thread):
            with anyio.move_on_after(0.05) as scope:
                await call(ran.append, 1)
            assert scope.cancelled_caught
        await run_in_thread(ran.append, 2, at_once=True)
    assert ran == [2]
    async with held(THREADS, ours=True):
        pass


async def test_a_question_is_left_to_itself_by_a_cancelled_caller() -> None:
    """A name server that does not answer holds nobody up."""
    free = threading.Event()
    with anyio.move_on_after(0.05) as scope:
        await ask_in_thread(free.wait, PATIENCE)
    assert scope.cancelled_caught
    free.set()


# -- the client's calls ----------------------------------------------------------------------------------


async def test_a_save_ends_in_time_while_all_threads_are_held(tmp_path: Path) -> None:
    """With AnyIO's threads held it works; with ours held its timeout ends it; so does an upload's."""
    inputs = wiro_async.Director(b"\xff\xd8\xff" + bytes(99), "x")
    hasty = wiro_async.Limits(upload_timeout=0.2)
    async with (
        Sandbox(api_key=KEY, api_secret=SECRET, speed=1000, render=False) as sandbox,
        Client(KEY, SECRET, base_url=sandbox.base_url, watch="poll") as client,
        Client(KEY, SECRET, base_url=sandbox.base_url, limits=hasty) as other,
    ):
        async with held(threads_of_anyio(), ours=False):
            with anyio.fail_after(PATIENCE):
                result = await client.run(inputs)
                saved = await result.outputs[0].save(tmp_path / "first.mp4", timeout=PATIENCE)
        assert saved.stat().st_size == result.outputs[0].size
        async with held(THREADS, ours=True):
            with pytest.raises(DownloadError, match=r"not whole after 0\.2 s \(0 of"):
                await result.outputs[0].save(tmp_path / "second.mp4", timeout=0.2)
            with pytest.raises(ConnectionFailed, match=r"not open within 0\.2 s") as caught:
                await other.upload(b"\xff\xd8\xff")
            assert not caught.value.sent
            assert await result.outputs[0].read(timeout=PATIENCE)
    assert [path.name for path in tmp_path.iterdir()] == ["first.mp4"]  # noqa: ASYNC240


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_forty_sync_endpoints_that_call_the_client_all_end() -> None:
    """FastAPI runs them in AnyIO's threads, all of which then wait for uploads, which need threads, too."""
    limits = wiro_async.Limits(upload_timeout=10)
    app = FastAPI()
    async with Sandbox(api_key=KEY, api_secret=SECRET, speed=1000, render=False, balance=10**5) as sandbox:
        client = Client(KEY, SECRET, base_url=sandbox.base_url, limits=limits, watch="poll")
        together = threading.Barrier(threads_of_anyio())

        @app.get("/{number}")
        def make(number: int) -> str:
            together.wait(PATIENCE)
            inputs = wiro_async.Director(b"\xff\xd8\xff" + bytes(100 + number), "x")
            result = anyio.from_thread.run(client.run, inputs)
            return str(result.task.status)

        async with client, httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test"
        ) as web:  # fmt: skip
            with anyio.fail_after(PATIENCE):
                answers = await asyncio.gather(*(web.get(f"/{n}") for n in range(threads_of_anyio())))
    assert {answer.status_code for answer in answers} == {200}
