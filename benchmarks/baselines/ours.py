"""wiro_async, as its README shows it, with its defaults."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import socket
import sys
import tempfile
import timeit
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import wiro_async
from benchmarks.contender import LOOK_SECONDS, Call, Known, Order, Probe, clock, main, resident
from benchmarks.load import Job, detail
from benchmarks.targets import WIRO

TASKS_PER_SOCKET = 100


def stretch(factor: float) -> None:
    """Leave the opening of sockets its true time: CPU and the network are not compressed."""
    if importlib.util.find_spec("wiro_async._watch.feed"):
        feed = importlib.import_module("wiro_async._watch.feed")
        feed.LEAST_PATIENCE *= factor  # type: ignore[attr-defined]


def client(order: Order) -> wiro_async.Client:
    """Return a client with the defaults, but without a budget of looks: the other contenders have none."""
    # What bounds CPU and the network is not compressed.
    limits: dict[str, Any] = {
        "max_in_flight": order.in_flight,
        "max_sockets": max(order.count, 256),
        "connect_timeout": 10.0 * order.factor,
        "request_timeout": 30.0 * order.factor,
    }
    extra: dict[str, Any] = {
        "watch": order.watch.removesuffix("s"),
        "tasks_per_socket": TASKS_PER_SOCKET if order.watch == "sockets" else 1,
        "socket_url": order.base.replace("http", "ws", 1),
    }
    return wiro_async.Client(
        "key",
        "secret",
        base_url=order.base,
        polling=wiro_async.Polling(requests_per_second=1e6, max_interval=LOOK_SECONDS),
        limits=wiro_async.Limits(**_known(wiro_async.Limits, limits)),
        **_known(wiro_async.Client, extra),
    )


def _known(made: Callable[..., object], given: dict[str, Any]) -> dict[str, Any]:
    """Leave out what this version does not take."""
    return {name: value for name, value in given.items() if name in inspect.signature(made).parameters}


@asynccontextmanager
async def calls(order: Order) -> AsyncIterator[Call]:
    """Yield one Detail call, to the built record; of a new handle, which has no last reply to compare."""
    async with client(order) as wiro:
        yield lambda: wiro.attach("2221").refresh()


async def jobs(order: Order, known: Known) -> None:
    """Submit all at once and wait for all."""
    stretch(order.factor)
    async with client(order) as wiro:
        for queued, ran in order.earlier:
            wiro._service.tasks.schedule.learn(order.model, queued=queued, ran=ran)
        extra = await _callbacks() if order.watch == "callback" else dict

        async def job() -> None:
            handle = await wiro.submit(order.model, order.inputs, **extra())
            await handle
            known[str(handle.id)] = clock()

        await asyncio.gather(*(job() for _ in range(order.count)))


async def _callbacks() -> Callable[[], dict[str, Any]]:
    """Serve a ``CallbackReceiver`` beside the client, as a web app would; return what each submit gets."""
    import uvicorn  # noqa: PLC0415 - only where it is used, so that others do not pay for it

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    receiver = wiro_async.CallbackReceiver(f"http://127.0.0.1:{listener.getsockname()[1]}/wiro")
    config = uvicorn.Config(
        receiver, log_level="error", access_log=False, lifespan="off", ws="none", timeout_keep_alive=10**6
    )
    server = uvicorn.Server(config)
    _KEPT.append(asyncio.ensure_future(server.serve(sockets=[listener])))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    return lambda: {"callback_url": receiver.url_for(), "watch": "callback"}


_KEPT: list[Awaitable[object]] = []


async def growth(order: Order) -> dict[str, Any]:
    """Wait for ``order.count`` tasks at a time, with two looks each; tell what a waiting one holds."""
    interval = max(1.0, order.count / 2500)
    polling: dict[str, Any] = {
        "min_interval": interval, "max_interval": interval, "requests_per_second": 1e6, "learn": False,
    }  # fmt: skip
    wiro = wiro_async.Client(
        "key",
        "secret",
        base_url=order.base,
        polling=wiro_async.Polling(**_known(wiro_async.Polling, polling)),
        limits=wiro_async.Limits(max_in_flight=order.in_flight),
        **_known(wiro_async.Client, {"watch": "poll"}),
    )
    await asyncio.gather(*(wiro.attach("1").refresh() for _ in range(order.in_flight)))
    empty, probe = resident(), Probe()
    handles = [wiro.attach(str(number)) for number in range(2, order.count + 2)]
    waits = [asyncio.ensure_future(handle.wait()) for handle in handles]
    for handle in handles:
        while handle.task is None:  # noqa: ASYNC110 - an event for each would be measured too
            await asyncio.sleep(0.02)
    waiting = resident()
    control = order.base.removesuffix("/v1") + "/control/end"
    await asyncio.to_thread(lambda: urllib.request.urlopen(control, b"{}").read())
    await asyncio.gather(*waits)
    return {**probe.stop(), "a_job": (waiting - empty) / order.count}


async def pieces(_order: Order) -> dict[str, float]:
    """Measure the parts of a call that need no network, in seconds each."""
    from wiro_async._config import configure  # noqa: PLC0415 - parts may move
    from wiro_async._http.signing import Signer  # noqa: PLC0415
    from wiro_async._protocol.envelope import Reply, judge  # noqa: PLC0415
    from wiro_async._protocol.operations import DETAIL  # noqa: PLC0415
    from wiro_async._protocol.records import TaskKey, read_task  # noqa: PLC0415

    config = configure(
        "key",
        "secret",
        base_url=None,
        socket_url=None,
        download_hosts=frozenset(),
        polling=None,
        limits=None,
        environ={},
    )
    signer = Signer(config.api_key, config.api_secret)
    body = detail(Job("2221", 1734513807, 1734513809, 1734513814), 1734513820)
    key = TaskKey("2221")
    store: Any = None

    def read() -> object:
        return read_task(DETAIL, judge(Reply("Task/Detail", 200, body, "", 0.0)), key, store)

    def seconds(call: Callable[[], object]) -> float:
        return min(timeit.repeat(call, number=500, repeat=5)) / 500

    return {"signing": seconds(signer.headers), "reading": seconds(read)}


async def download(order: Order) -> dict[str, float]:
    """Save one large output: whole, flushed and renamed."""
    async with client(order) as wiro:
        result = await wiro.attach("1")
        with tempfile.TemporaryDirectory() as folder:
            probe = Probe()
            await result.outputs[0].save(f"{folder}/0.mp4")
            return probe.stop()


async def journal(order: Order) -> dict[str, list[tuple[str, str, float]]]:
    """Write to a journal, one writer and a hundred; with ``order.count``, open one of so many jobs."""
    from benchmarks import journal as parts  # noqa: PLC0415 - not in every version

    def rate(waits: list[float], seconds: float) -> list[tuple[str, str, float]]:
        last = sorted(waits)[round(0.99 * (len(waits) - 1))]
        return [("writes a second", "", len(waits) / seconds), ("commit p99", "ms", last * 1e3)]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone, bare = await parts.single(folder, 300)
        seen = {"bare fsync": rate(bare, sum(bare)), f"{WIRO}, one writer": rate(alone, sum(alone))}
        seen[f"{WIRO}, 100 writers"] = rate(*await parts.together(folder, 100, 10))
        if order.count:
            parts.fill(folder / "full.db", order.count)
            opened = (await parts.reading(folder / "full.db", order.count))["open, s"]
            seen[WIRO] = [("open", "s", opened)]
    return seen


async def batch(order: Order) -> dict[str, Any]:
    """Do all jobs through ``Client.batch``, with its journal."""
    known: Known = {}
    given = (wiro_async.Job(order.model, order.inputs) for _ in range(order.count))
    async with client(order) as wiro:
        probe = Probe(order.factor)
        async with wiro.batch(given, journal=order.journal) as outcomes:
            async for outcome in outcomes:
                known[outcome.task_id] = clock()
        return {**probe.stop(), "known": known}


def load_modules() -> None:
    """Load what is else loaded on first use, for the others' imports are done before the clock runs."""
    modules = [
        "wiro_async._client",
        "wiro_async._watch.feed",
        "wiro_async._watch.pool",
        "websockets.client",
    ]
    watch = json.loads(sys.argv[1])["watch"]
    if watch == "callback":
        modules += [
            "wiro_async._watch.callbacks",
            "uvicorn",
            "uvicorn.protocols.http.auto",
            "uvicorn.loops.auto",
        ]
    for name in modules:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)


if __name__ == "__main__":
    load_modules()
    others = {"growth": growth, "journal": journal, "pieces": pieces, "download": download, "batch": batch}
    main(calls, jobs, others)
