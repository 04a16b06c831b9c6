"""Event loops, threads, processes and endings: a clear error, or a clean end; never a hang."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.http.test_hostile import DATA, good
from tests.servers import Peer, Server
from wiro_async import Client, ClientUseError, SubmissionUnknown, Task, TaskHandle

MODEL = "MiniMax/image-to-video-01-director"
INPUTS = {"prompt": "waves"}
HANG = 20.0
"""Seconds after which a process that should have ended is one that hangs."""


class Service:
    """A good peer that answers Runs when it may.

    Attributes:
        may_answer: Set, unless a test holds the answers to Runs back.
        asked: Set when a Run has come.
    """

    def __init__(self) -> None:
        self.may_answer: threading.Event = threading.Event()
        self.may_answer.set()
        self.asked: threading.Event = threading.Event()
        self.server: Server = Server(self._serve)

    @property
    def url(self) -> str:
        """What takes the place of the service's address."""
        return f"{self.server.url}/v1"

    def client(self) -> Client:
        """Return a client of this service."""
        return Client(KEY, SECRET, base_url=self.url, check=False)

    def _serve(self, peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if b"/Run/" in request.partition(b"\r\n")[0]:
                self.asked.set()
                self.may_answer.wait(3 * HANG)
            peer.send(good(request, self.server.url))


@pytest.fixture
def service() -> Iterator[Service]:
    """A service on a loopback port."""
    service = Service()
    with service.server:
        yield service
        service.may_answer.set()


async def tasks_of(client: Client) -> list[Task]:
    """Return what the service lists."""
    return [task async for task in client.list_tasks()]


# -- event loops -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_a_second_event_loop_is_refused(service: Service, first: str, second: str) -> None:
    """``asyncio.run`` twice, or another library: the loop of the connections is gone."""
    client = service.client()

    async def use_and_close_idle() -> None:
        assert await tasks_of(client) == []
        await client._service.transport._http._inner.aclose()  # type: ignore[attr-defined]

    anyio.run(use_and_close_idle, backend=first)
    for call in (
        lambda: tasks_of(client),
        lambda: client.submit(MODEL, INPUTS),
        lambda: client.attach("2221").wait(1),
    ):
        with pytest.raises(ClientUseError, match="event loop"):
            anyio.run(call, backend=second)


def test_another_threads_event_loop_is_refused(service: Service) -> None:
    """Both loops live; the first one's goes on working."""
    caught: list[BaseException] = []

    async def main() -> None:
        async with service.client() as client:
            await tasks_of(client)

            def elsewhere() -> None:
                try:
                    asyncio.run(tasks_of(client))
                except ClientUseError as error:
                    caught.append(error)

            await asyncio.to_thread(elsewhere)
            assert await tasks_of(client) == []

    asyncio.run(main())
    assert len(caught) == 1
    assert "event loop" in str(caught[0])


# -- closing ---------------------------------------------------------------------------------------------

USES: dict[str, Callable[[Client, TaskHandle], Any]] = {
    "submit": lambda client, handle: client.submit(MODEL, INPUTS),
    "run": lambda client, handle: client.run(MODEL, INPUTS),
    "upload": lambda client, handle: client.upload(b"image"),
    "list_tasks": lambda client, handle: anext(client.list_tasks()),
    "list_models": lambda client, handle: anext(client.list_models("x")),
    "get_model": lambda client, handle: client.get_model(MODEL),
    "reconcile": lambda client, handle: client.reconcile(
        SubmissionUnknown("?", model=MODEL, inputs_digest="", submitted_at=time.time(), cause="?")
    ),
    "refresh": lambda client, handle: handle.refresh(),
    "wait": lambda client, handle: handle.wait(5),
    "stop": lambda client, handle: handle.stop(5),
    "iterate": lambda client, handle: aiter(handle).__anext__(),
}


@pytest.mark.parametrize("use", USES)
async def test_use_after_close_is_refused_at_once(service: Service, use: str) -> None:
    """Not after a deadline, and not as a failure of the network."""
    async with service.client() as client:
        handle = await client.submit(MODEL, INPUTS)
    await client.aclose()
    with anyio.fail_after(HANG), pytest.raises(ClientUseError, match="closed"):
        await USES[use](client, handle)


async def test_closing_tells_every_wait_at_once(service: Service) -> None:
    """However far off their next looks are, and however many wait for one task."""
    client = service.client()
    handle = await client.submit(MODEL, INPUTS, watch="callback", callback_url="https://host/cb")
    told: list[type[BaseException]] = []

    async def wait() -> None:
        try:
            await handle.wait(2 * HANG)
        except ClientUseError as error:
            told.append(type(error))

    with anyio.fail_after(HANG):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await client.aclose()
    assert told == [ClientUseError] * 3


async def test_closing_waits_for_a_submit_and_no_longer_than_that(service: Service) -> None:
    """The submit returns its handle; a wait that is under way is told that the client is closed."""
    service.may_answer.clear()
    client = service.client()
    told: list[object] = []

    async def submit() -> None:
        told.append((await client.submit(MODEL, INPUTS)).id)

    async def wait() -> None:
        try:
            await client.attach("1").wait(HANG)
        except wiro_async.WiroError as error:
            told.append(type(error))

    async def answer() -> None:
        await anyio.wait_all_tasks_blocked()
        service.may_answer.set()

    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        group.start_soon(wait)
        await anyio.to_thread.run_sync(service.asked.wait, HANG)
        group.start_soon(answer)
        with anyio.fail_after(HANG):
            await client.aclose()
        assert "2221" in told
    assert ClientUseError in told
    assert client._service.transport._http._inner.connections == 0  # type: ignore[attr-defined]


# -- processes that end ----------------------------------------------------------------------------------

SCRIPT = """
import asyncio, gc, logging, os, sys
import anyio
from wiro_async import Client, ClientUseError
logging.basicConfig(format="%(message)s", stream=sys.stdout)
logging.getLogger("asyncio").setLevel(logging.ERROR)  # a busy machine is slow
MODEL, INPUTS = "MiniMax/image-to-video-01-director", {"prompt": "waves"}

def make():
    return Client("key", "secret", base_url=sys.argv[1], check=False)

async def tasks_of(client):
    return [task async for task in client.list_tasks()]
"""

DIRTY = (
    "Task was destroyed",
    "never retrieved",
    "never awaited",
    "unclosed",
    "Event loop is closed",
    "Exception ignored",
)


def start(service: Service, script: str) -> subprocess.Popen[str]:
    """Run a script in a process of its own, with every check that Python has."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-c",
        SCRIPT + textwrap.dedent(script),
        service.url,
    ]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=Path(__file__).parents[1],
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what the process has said, once it has ended."""
    try:
        out, err = process.communicate(timeout=HANG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert not [words for words in DIRTY if words in out + err], out + err
    return out, err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_and_its_parent_goes_on(service: Service) -> None:
    """A client that was used before the fork is the parent's; one that was not is anybody's."""
    script = """
    async def parent():
        async with make() as used, make() as fresh:
            await tasks_of(used)
            pipe, child_end = os.pipe()
            if os.fork() == 0:
                said = b"nothing"
                try:
                    asyncio.run(tasks_of(used))
                except ClientUseError as error:
                    said = str(error).encode()
                said += b" / %d tasks" % len(asyncio.run(tasks_of(fresh)))
                os.write(child_end, said)
                os._exit(0)
            os.wait()
            print(os.read(pipe, 1000).decode())
            print(len(await tasks_of(used)), len(await tasks_of(fresh)))
    asyncio.run(parent())
    """
    out, err = end(start(service, script))
    assert "before a fork" in out
    assert "/ 0 tasks" in out
    assert out.endswith("0 0\n")
    assert err == ""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_proper_end_is_silent(service: Service, backend: str) -> None:
    """Calls, a download, an iteration that is left early, and a close: not one warning."""
    script = f"""
    async def main():
        async with make() as client:
            handle = await client.submit(MODEL, INPUTS)
            async for transition in handle:
                break
            result = await handle
            print(len(await result.outputs[0].read()))
            with anyio.move_on_after(0.01):
                await client.attach("1").wait()
        del client, handle, result
        gc.collect()
    anyio.run(main, backend="{backend}")
    """
    assert end(start(service, script)) == (f"{len(DATA)}\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_is_forgotten_holds_nothing_up(service: Service, backend: str) -> None:
    """The garbage collector may take it, in the middle of the program and at its end."""
    script = f"""
    import warnings
    warnings.simplefilter("ignore", ResourceWarning)  # which is what a forgotten socket is
    async def main():
        for _ in range(2):
            client = make()
            await tasks_of(client)
            del client
            gc.collect()
            await anyio.sleep(0)
        print("done")
    anyio.run(main, backend="{backend}")
    """
    assert end(start(service, script)) == ("done\n", "")


def test_a_program_that_ends_during_a_submit_leaves_a_doubt(service: Service) -> None:
    """``asyncio.run`` cancels every task that is left, the exchange's own too: nobody knows; that is told."""
    service.may_answer.clear()
    script = """
    async def main():
        client = make()
        task = asyncio.create_task(client.submit(MODEL, INPUTS), name="left alone")
        await asyncio.to_thread(sys.stdin.read)
        return client
    client = asyncio.run(main())
    print(len(client.unclaimed), [doubt.model for doubt in client.unresolved])
    """
    process = start(service, script)
    assert service.asked.wait(HANG)
    out, err = end(process)  # which ends its stdin
    assert "the program ended before the answer was in. It may have been accepted" in out
    assert out.endswith("0 ['MiniMax/image-to-video-01-director']\n")
    assert err == ""


def test_closing_before_the_end_lets_a_submit_in_the_background_succeed(service: Service) -> None:
    """``async with`` waits for Runs, whoever made them."""
    service.may_answer.clear()
    script = """
    async def main():
        async with make() as client:
            task = asyncio.create_task(client.submit(MODEL, INPUTS))
            await asyncio.to_thread(sys.stdin.readline)
            print("closing", flush=True)
        print((await task).id)
    asyncio.run(main())
    """
    process = start(service, script)
    assert service.asked.wait(HANG)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "closing\n"
    service.may_answer.set()
    assert end(process) == ("2221\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send here")
@pytest.mark.parametrize("verb", ["submit", "run"])
def test_an_interrupt_during_a_submit_loses_no_task(service: Service, verb: str) -> None:
    """Ctrl-C within ``async with``: the answer is read, the task is told of, and the program ends."""
    service.may_answer.clear()
    script = f"""
    async def main():
        async with make() as client:
            try:
                await client.{verb}(MODEL, INPUTS)
            finally:
                print([handle.id for handle in client.unclaimed])
    asyncio.run(main())
    """
    process = start(service, script)
    assert service.asked.wait(HANG)
    process.send_signal(signal.SIGINT)
    service.may_answer.set()
    out, err = end(process)
    assert "['2221']" in out
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send here")
def test_an_interrupt_on_trio_leaves_a_doubt(service: Service) -> None:
    """Trio raises Ctrl-C in the main task, whatever shields it: then nobody knows, and that is told."""
    service.may_answer.clear()
    script = """
    async def main():
        async with make() as client:
            try:
                await client.submit(MODEL, INPUTS)
            finally:
                print([doubt.model for doubt in client.unresolved])
    anyio.run(main, backend="trio")
    """
    process = start(service, script)
    assert service.asked.wait(HANG)
    process.send_signal(signal.SIGINT)
    out, err = end(process)
    assert "['MiniMax/image-to-video-01-director']" in out
    assert err.rstrip().endswith("KeyboardInterrupt")
