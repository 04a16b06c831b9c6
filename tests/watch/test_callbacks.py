"""Callbacks: what is genuine wakes its task, now and then; nothing else does anything."""

from __future__ import annotations

import asyncio
import copy
import hmac
import json
import logging
import pickle
import socket
import threading
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import httpx
import pytest
import trio
import trio.testing
import uvicorn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.depth import examples
from tests.virtual import VirtualLoop
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import (
    CallbackCounts,
    CallbackReceiver,
    CallbackURL,
    ClientUseError,
    ConfigurationError,
    InvalidInput,
    Secret,
)
from wiro_async._aio import on_asyncio
from wiro_async._types import Payload

KEY = "canary-of-the-callbacks"
OTHER_KEY = b"a second canary, of 16 bytes or more"
PUBLIC = "https://example.org/hooks/wiro"

real_time = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For real sockets, whose servers run on asyncio, and for threads."""


def make(public_url: str = PUBLIC, *keys: str | bytes | Secret) -> CallbackReceiver:
    return CallbackReceiver(public_url, keys=keys or (KEY,))


class Waiter:
    """Notes when and where it was woken. It is made in the event loop that it waits in."""

    def __init__(self) -> None:
        try:
            self._time: Callable[[], float] = asyncio.get_running_loop().time
        except RuntimeError:
            self._time = trio.current_time
        self._start = self._time()
        self.at: list[float] = []
        self.threads: set[int] = set()
        self.woken: anyio.Event = anyio.Event()

    def __call__(self) -> None:
        self.at.append(round(self._time() - self._start, 3))
        self.threads.add(threading.get_ident())
        self.woken.set()


Piece = bytes | float | None
"""What a sender does next: send bytes, be silent for seconds, or leave."""


class Call:
    """One request, given to an ASGI app in memory.

    Attributes:
        sent: The messages that the app sent.
        taken: How many messages the app asked for.
    """

    def __init__(
        self, url: str, method: str = "POST", body: Iterable[Piece] = (b"{}",), **scope: Any
    ) -> None:
        path, _, query = url.removeprefix(urlsplit(url).scheme + "://").partition("?")
        raw = "/" + path.partition("/")[2]
        self._body = list(body)
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "http_version": "1.1",
            "headers": [(b"content-type", b"application/json")],
            **scope,
        }
        self.sent: list[Any] = []
        self.taken: int = 0

    async def receive(self) -> dict[str, Any]:
        self.taken += 1
        while self._body:
            piece = self._body.pop(0)
            if isinstance(piece, bytes):
                return {"type": "http.request", "body": piece, "more_body": bool(self._body)}
            if piece is None:
                break
            await anyio.sleep(piece)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def __call__(self, app: CallbackReceiver) -> int | None:
        """Return the status of the answer (None: there was none)."""
        await app(self.scope, self.receive, self.send)
        if not self.sent:
            return None
        start, end = self.sent
        assert (start["type"], end["type"]) == ("http.response.start", "http.response.body")
        assert (end["body"], end["more_body"]) == (b"", False)
        assert dict(start["headers"])[b"content-length"] == b"0"
        status: int = start["status"]
        return status


async def post(app: CallbackReceiver, url: str, **options: Any) -> int | None:
    return await Call(url, **options)(app)


# -- addresses -------------------------------------------------------------------------------------------


def test_an_address_names_its_job_and_proves_it() -> None:
    """{public_url}/{job}/{mac}, the MAC being 192 bits of HMAC-SHA256 over the version and the job."""
    receiver = make()
    url = receiver.url_for("clip-7")
    mac = urlsafe_b64encode(hmac.digest(KEY.encode(), b"v1|clip-7", "sha256"))[:32].decode()
    assert url == f"{PUBLIC}/clip-7/{mac}"
    assert (url.job, url.receiver) == ("clip-7", receiver)
    assert receiver.public_url == PUBLIC


def test_an_address_is_the_same_in_every_process_that_has_the_key() -> None:
    """Text, bytes and Secret are one key; another key makes another address."""
    urls = {make(PUBLIC, key).url_for("7") for key in (KEY, KEY.encode(), Secret(KEY))}
    assert len(urls) == 1
    assert make(PUBLIC, OTHER_KEY).url_for("7") not in urls
    assert CallbackReceiver(PUBLIC).url_for("7") != CallbackReceiver(PUBLIC).url_for("7")


def test_a_job_without_a_name_gets_one() -> None:
    """A random one, so that no two are alike."""
    receiver = make()
    jobs = {receiver.url_for().job for _ in range(100)}
    assert len(jobs) == 100
    assert all(job.isalnum() for job in jobs)


@pytest.mark.parametrize("job", ["", "x" * 201, "a\nb", "\ud800", "\0", ".", "..", 7])
def test_names_that_no_address_can_hold_are_refused(job: Any) -> None:
    """With the value and the rule."""
    with pytest.raises(InvalidInput, match=r"^job is .*; ") as caught:
        make().url_for(job)
    assert caught.value.name == "job"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/wiro", "https"),
        ("ftp://example.org", "https://host"),
        ("https://example.org/?x=1", "query"),
        ("https://me@example.org/", "user"),
        ("example.org", "https://host"),
        (7, "int"),
    ],
)
def test_addresses_that_cannot_be_called_safely_are_refused(url: Any, said: str) -> None:
    """An https URL without user and query, or a loopback one."""
    with pytest.raises(ConfigurationError, match=said):
        CallbackReceiver(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost/", "http://[::1]:80/wiro/"])
def test_loopback_addresses_may_be_plain(url: str) -> None:
    """For a service on this machine, such as the sandbox; a final slash does not count."""
    assert make(url).url_for("7").startswith(url.rstrip("/") + "/7/")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (KEY, "keys is one key"),
        (OTHER_KEY, "keys is one key"),
        (Secret(KEY), "keys is one key"),
        (["canary-too-shor"], "of 15 bytes"),
        ([KEY, KEY, KEY], "3 keys"),
        ([17], "holds a int"),
        ([pickle.loads(pickle.dumps(Secret(KEY)))], "came out of a pickle"),
    ],
)
def test_keys_that_cannot_work_are_refused_without_being_shown(keys: Any, said: str) -> None:
    """One or two, of 16 bytes at least; neither message nor frames show any."""
    with pytest.raises(ValueError, match=said) as caught:
        CallbackReceiver(PUBLIC, keys=keys)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack[1:]
    assert "canary" not in f"{caught.value}{[frame.locals for frame in frames]}"


def test_nothing_shows_a_key_or_a_mac() -> None:
    """Not the receiver's repr nor its attributes, not the URL's repr, not that of a payload with it."""
    receiver = make(PUBLIC, KEY, OTHER_KEY)
    url = receiver.url_for("7")
    shown = f"{receiver!r} {vars(receiver)} {url!r} {[url]} {Payload(callbackUrl=url)}"
    assert "canary" not in shown
    assert url.rpartition("/")[2] not in shown
    assert f"<CallbackURL {PUBLIC}/7/...>" in shown
    assert f"<CallbackReceiver {PUBLIC} 0 waiting>" in shown
    with pytest.raises(ClientUseError, match="holds keys"):
        pickle.dumps(receiver)


def test_an_address_is_a_str_to_everybody_else() -> None:
    """JSON takes it as it is; a copy keeps its receiver, a pickle is a plain str."""
    url = make().url_for("7")
    assert json.loads(json.dumps({"callbackUrl": url})) == {"callbackUrl": str(url)}
    assert copy.copy(url) is url
    assert copy.deepcopy({"url": url})["url"] is url
    lost = pickle.loads(pickle.dumps(url))
    assert type(lost) is str
    assert lost == url


# -- what is genuine -------------------------------------------------------------------------------------


async def test_a_callback_wakes_its_waiter() -> None:
    """Before the answer, in the waiter's own event loop."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    assert await post(receiver, receiver.url_for("7")) == 202
    assert waiter.at == [0.0]
    assert receiver.counts == CallbackCounts(received=1, woken=1, refused=0)


JOBS = ["7", "clip 7", "größe", "a/b", "100%", "100%25", "?#&=+;", "~-._", "%2F", "日本", "'\"<>"]


@pytest.mark.parametrize("prefix", ["", "/api/v2", "/weird%20mount"])
@pytest.mark.parametrize("job", JOBS)
async def test_any_name_finds_its_way_below_any_prefix(prefix: str, job: str) -> None:
    """The last two parts of the raw path count; where the app is mounted, and the query, do not."""
    receiver = make(f"https://example.org{prefix}")
    waiter = Waiter()
    receiver.bind(job, waiter)
    assert await post(receiver, f"{receiver.url_for(job)}?wiro_async=abc", root_path=prefix) == 202
    assert len(waiter.at) == 1


@pytest.mark.parametrize("raw_path", [None, b"", "absent"])
@pytest.mark.parametrize("job", [job for job in JOBS if "/" not in job])
async def test_a_server_may_lack_the_raw_path(job: str, raw_path: object) -> None:
    """Then the decoded one serves, with or without the slash that Litestar ends it with."""
    receiver = make()
    for end in ("", "/"):
        call = Call(receiver.url_for(job) + end, raw_path=raw_path)
        if raw_path == "absent":
            del call.scope["raw_path"]
        assert await call(receiver) == 202


def forgeries() -> Iterator[str]:
    """Yield addresses that are not genuine."""
    url = str(make().url_for("7"))
    base, _, mac = url.rpartition("/")
    flipped = ("A" if mac[0] != "A" else "B") + mac[1:]
    yield from (
        f"{base}/{flipped}",
        f"{base}/{mac[:-1]}",
        f"{base}/{mac}A",
        f"{base}/{mac.lower()}",
        f"{base}/",
    )
    yield from (
        f"{base}",
        f"{PUBLIC}/{mac}/7",
        f"{PUBLIC}/7//{mac}",
        f"{PUBLIC}/{mac}",
        PUBLIC,
        "https://example.org/",
    )
    yield from (
        f"{PUBLIC}/8/{mac}",
        f"{PUBLIC}/07/{mac}",
        f"{PUBLIC}/%/{mac}",
        f"{PUBLIC}/7/{mac}%00",
        f"{url}/x",
    )
    yield f"{PUBLIC}/7/{make().url_for('8').rpartition('/')[2]}"
    yield make(PUBLIC, OTHER_KEY).url_for("7")
    yield f"{PUBLIC}/7?mac={mac}"
    yield f"{PUBLIC}/7/{'ä' * 32}"
    yield f"{PUBLIC}/{'/' * 5000}"


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_is_forged_is_404_and_does_nothing(method: str) -> None:
    """Short, long, swapped, another job's, another key's: all answers are alike, and no body is read."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    answers = set()
    for forged in forgeries():
        call = Call(forged, method)
        assert await call(receiver) == 404, forged
        assert call.taken == 0
        answers.add(repr(call.sent))
    assert len(answers) == 1
    assert waiter.at == []
    assert receiver.counts == CallbackCounts(refused=len(list(forgeries())))


async def test_every_key_is_compared_in_constant_time_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """compare_digest runs once for each key, for malformed addresses too, and when the first one fits."""
    receiver = make(PUBLIC, KEY, OTHER_KEY)
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for url in (*forgeries(), receiver.url_for("7")):
        compared.clear()
        await post(receiver, url)
        assert len(compared) == 2


async def test_a_key_can_be_changed() -> None:
    """While both are given, old and new addresses are good; afterwards the new ones only."""
    old, new = make(PUBLIC, KEY).url_for("7"), make(PUBLIC, OTHER_KEY).url_for("7")
    changing = make(PUBLIC, OTHER_KEY, KEY)
    assert changing.url_for("7") == new
    assert [await post(changing, url) for url in (old, new)] == [202, 202]
    changed = make(PUBLIC, OTHER_KEY)
    assert [await post(changed, url) for url in (old, new)] == [404, 202]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"])
async def test_only_post_will_do(method: str) -> None:
    """Whoever has the address is told so; the waiter is not."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    call = Call(receiver.url_for("7"), method)
    assert await call(receiver) == 405
    assert (b"allow", b"POST") in call.sent[0]["headers"]
    assert call.taken == 0
    assert waiter.at == []


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An address in a log is an address that others have."""
    caplog.set_level(logging.DEBUG, "wiro_async")
    receiver = make()
    await post(receiver, receiver.url_for("7"))
    await post(receiver, receiver.url_for("7") + "x")
    assert not caplog.records


# -- what is said ----------------------------------------------------------------------------------------

DONE = {
    "tasklist": [
        {"id": "999", "status": "task_postprocess_end", "outputs": [{"url": "http://169.254.169.254/"}]}
    ]
}

BODIES: list[list[Piece]] = [
    [b""],
    [json.dumps(DONE).encode()],
    [json.dumps(DONE["tasklist"][0]).encode()],
    [b"[" * 100_000],
    [b"\xff\xfe\0"],
    [b"x" * 1024] * 1024,
    [b"", b"", b"{", b"", b"}"],
    [b"{", 9.9, b"}"],
]


@pytest.mark.parametrize("body", BODIES)
async def test_no_body_is_believed(body: list[Piece]) -> None:
    """Another's task, a claimed success, garbage, nothing, a full MiB: each is no more than a wake."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    assert await post(receiver, receiver.url_for("7"), body=body) == 202
    assert len(waiter.at) == 1


async def test_a_body_over_a_mebibyte_is_refused() -> None:
    """It is given up where it passes the limit, however long it would go on."""
    receiver = make()
    call = Call(receiver.url_for("7"), body=[b"x" * 65536] * 16000)
    assert await call(receiver) == 413
    assert call.taken == 17
    assert receiver.counts == CallbackCounts(refused=1)


@pytest.mark.parametrize("length", [b"1048577", b"9" * 5000])
async def test_a_body_that_is_announced_too_long_is_not_read(length: bytes) -> None:
    """A gigabyte, or a number that is itself too long."""
    call = Call(make().url_for("7"), headers=[(b"Content-Length", length)])
    assert await call(make()) == 413
    assert call.taken == 0


@pytest.mark.parametrize("length", [b"1048576", b"0", b"-1", b"\xb2", b"", b"many", b"0" * 50])
async def test_an_announcement_is_not_believed_either(length: bytes) -> None:
    """What counts is what comes."""
    assert (
        await post(make(), make().url_for("7"), headers=[(b"host", b"e.org"), (b"content-length", length)])
        == 202
    )


@pytest.mark.parametrize("body", [[b"{", 10.1, b"}"], [11.0, b"{}"], [b"x", 1.0] * 60, [1e9]])
async def test_a_body_has_ten_seconds(body: list[Piece]) -> None:
    """Silent or dripping, it is refused at their end, and nobody is woken."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    start = anyio.current_time()
    assert await post(receiver, receiver.url_for("7"), body=body) == 408
    assert anyio.current_time() - start == pytest.approx(10.0, abs=0.01)
    assert waiter.at == []


async def test_a_body_in_tiny_pieces_gives_others_their_turn() -> None:
    """Though the server has all of them at hand."""
    receiver = make()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        assert await post(receiver, receiver.url_for("7"), body=[b"x"] * 500) == 202
        group.cancel_scope.cancel()
    assert turns >= 400


@pytest.mark.parametrize("body", [[None], [b"{", None], [5.0, None]])
async def test_whoever_leaves_gets_no_answer(body: list[Piece]) -> None:
    """And has told nothing."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    call = Call(receiver.url_for("7"), body=[*body, b""])
    call._body.pop()
    assert await call(receiver) is None
    assert waiter.at == []


async def test_a_cancelled_request_wakes_nobody() -> None:
    """The server may take a request back at any moment."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    with anyio.move_on_after(1):
        await post(receiver, receiver.url_for("7"), body=[b"{", 5.0, b"}"])
    assert receiver.counts == CallbackCounts()
    assert waiter.at == []


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)])
async def test_refusals_close_the_connection(version: str, closes: bool) -> None:
    """The rest of the body need not come; HTTP/2 knows no such header, and a success needs none."""
    receiver = make()
    for url, status in ((receiver.url_for("7"), 202), (PUBLIC, 404)):
        call = Call(url, http_version=version)
        assert await call(receiver) == status
        closing = (b"connection", b"close") in call.sent[0]["headers"]
        assert closing == (closes and status == 404)


@pytest.mark.parametrize(("version", "left"), [("1.1", 3), ("2", 0)])
async def test_over_http2_a_body_is_read_before_it_is_refused(version: str, left: int) -> None:
    """Some servers break otherwise. No more of it is read than of a genuine one."""
    receiver = make()
    for url, method, status in ((PUBLIC, "POST", 404), (str(receiver.url_for("7")), "PUT", 405)):
        call = Call(url, method, [b"a", b"b", b"c"], http_version=version)
        assert await call(receiver) == status
        assert call.taken == 3 - left
    endless = Call(PUBLIC, body=[bytes(1024 * 1024)] * 5, http_version=version)
    assert await endless(receiver) == 404
    assert endless.taken == (0 if left else 2)


@real_time
async def test_refusals_leave_hypercorn_well_over_http2() -> None:
    """Of forged callbacks with bodies, each is refused, and the genuine one behind them is taken."""
    import hypercorn.asyncio
    import hypercorn.config
    import hypercorn.trio

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    receiver = make(f"http://127.0.0.1:{port}")
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = config.accesslog = None
    stopping = anyio.Event()
    serve: Any = hypercorn.asyncio.serve if on_asyncio() else hypercorn.trio.serve
    async with anyio.create_task_group() as group:
        group.start_soon(partial(serve, receiver, config, shutdown_trigger=stopping.wait))
        for _ in range(200):
            with suppress(OSError):
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                break
            await anyio.sleep(0.02)
        async with httpx.AsyncClient(http1=False, http2=True, trust_env=False) as web:
            forged = f"http://127.0.0.1:{port}/7/{'x' * 32}"
            statuses = [(await web.post(forged, content=bytes(60_000))).status_code for _ in range(10)]
            taken = await web.post(receiver.url_for("7"), content=b"{}")
        stopping.set()
    assert statuses == [404] * 10
    assert taken.status_code == 202
    assert taken.http_version == "HTTP/2"


# -- waking ----------------------------------------------------------------------------------------------


async def test_a_task_is_woken_every_two_seconds_at_most() -> None:
    """The last callback is never lost: it is handed on at the end of the two seconds."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    for _ in range(31):
        assert await post(receiver, receiver.url_for("7")) == 202
        await anyio.sleep(0.1)
    await anyio.sleep(10)
    assert waiter.at == [0.0, 2.0, 4.0]
    assert await post(receiver, receiver.url_for("7")) == 202
    assert len(waiter.at) == 4
    assert receiver.counts == CallbackCounts(received=32, woken=4)


async def test_a_flood_is_two_wakes() -> None:
    """Ten thousand at once: the first, and one for all the others."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    url = receiver.url_for("7")
    async with anyio.create_task_group() as group:
        for _ in range(10_000):
            group.start_soon(post, receiver, url)
    await anyio.sleep(60)
    assert waiter.at == [0.0, 2.0]
    assert receiver.counts == CallbackCounts(received=10_000, woken=2)


async def test_tasks_do_not_slow_each_other() -> None:
    """Each job has two seconds of its own."""
    receiver = make()
    waiters = {f"clip-{number}": Waiter() for number in range(100)}
    for job, waiter in waiters.items():
        receiver.bind(job, waiter)
    for job in waiters:
        await post(receiver, receiver.url_for(job))
    assert {tuple(waiter.at) for waiter in waiters.values()} == {(0.0,)}


async def test_the_clock_of_the_day_does_not_matter() -> None:
    """Seconds are counted on the event loop's clock; here the time of day stands still."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    for _ in range(3):
        await post(receiver, receiver.url_for("7"))
        await anyio.sleep(3)
    assert waiter.at == [0.0, 3.0, 6.0]


async def test_a_callback_may_come_before_its_waiter() -> None:
    """The service can be quicker than the answer to the Run: whoever then waits is woken at once, once."""
    receiver = make()
    for _ in range(1000):
        assert await post(receiver, receiver.url_for("7")) == 202
    waiter, later = Waiter(), Waiter()
    receiver.bind("7", waiter)
    receiver.bind("7", later)
    assert (len(waiter.at), len(later.at)) == (1, 0)
    assert receiver.counts == CallbackCounts(received=1000, woken=1)


async def test_early_callbacks_are_remembered_within_bounds() -> None:
    """The newest ten thousand jobs are kept, by their last callback; replays of old ones cost no memory."""
    receiver = make()
    jobs = [f"{number}" for number in range(10_001)]
    for job in (*jobs[:10_000], jobs[0], jobs[10_000]):
        await post(receiver, receiver.url_for(job))
    lost = []
    for job in (*jobs[:3], *jobs[-2:]):
        waiter = Waiter()
        receiver.bind(job, waiter)
        lost += [job] * (not waiter.at)
    assert lost == ["1"]


async def test_after_the_end_nothing_is_woken() -> None:
    """A late callback, a replay, a wake that was on its way: all are answered, none does anything."""
    receiver = make()
    waiter = Waiter()
    unbind = receiver.bind("7", waiter)
    for _ in range(2):
        await post(receiver, receiver.url_for("7"))
    unbind()
    await anyio.sleep(5)
    for _ in range(1000):
        assert await post(receiver, receiver.url_for("7")) == 202
    unbind()
    assert waiter.at == [0.0]
    assert repr(receiver).endswith("0 waiting>")
    assert receiver.counts == CallbackCounts(received=1002, woken=1)


async def test_several_may_wait_for_one_job() -> None:
    """All are woken; one that goes leaves the others."""
    receiver = make()
    waiters = [Waiter(), Waiter()]
    ends = [receiver.bind("7", waiter) for waiter in waiters]
    assert repr(receiver).endswith("1 waiting>")
    await post(receiver, receiver.url_for("7"))
    ends[0]()
    await anyio.sleep(3)
    await post(receiver, receiver.url_for("7"))
    assert [len(waiter.at) for waiter in waiters] == [1, 2]


async def test_a_waiter_may_go_while_it_is_woken() -> None:
    """As a task does whose end is seen at once; and the garbage collector may end one at any moment."""
    receiver = make()
    ends: list[Callable[[], None]] = []

    def leave() -> None:
        ends[0]()

    ends.append(receiver.bind("7", leave))
    assert await post(receiver, receiver.url_for("7")) == 202
    assert repr(receiver).endswith("0 waiting>")
    unbind = receiver.bind("8", Waiter())
    with receiver._lock:
        unbind()
    assert repr(receiver).endswith("0 waiting>")


async def test_a_callback_that_comes_while_its_waiter_is_woken_is_not_lost() -> None:
    """It may tell of what the poll that just begins does not see yet."""
    receiver = make()
    waiter = Waiter()

    def wake() -> None:
        waiter()
        if len(waiter.at) < 3:
            receiver._take(b"7")

    receiver.bind("7", wake)
    await post(receiver, receiver.url_for("7"))
    await anyio.sleep(10)
    assert waiter.at == [0.0, 2.0, 4.0]


async def test_a_callback_that_reaches_another_process_does_no_harm() -> None:
    """With the same key it is answered; the waiter in the first process finds the end by polling."""
    here, elsewhere = make(), make()
    waiter = Waiter()
    here.bind("7", waiter)
    assert await post(elsewhere, here.url_for("7")) == 202
    assert waiter.at == []


def test_waiting_needs_an_event_loop() -> None:
    """A wake must have somewhere to go."""
    with pytest.raises(RuntimeError, match="event loop"):
        make().bind("7", lambda: None)


# -- other threads ---------------------------------------------------------------------------------------


def elsewhere(receiver: CallbackReceiver, urls: Iterable[str], backend: str = "asyncio") -> list[int | None]:
    """Run the app in an event loop of its own, in this thread."""

    async def main() -> list[int | None]:
        return [await post(receiver, url) for url in urls]

    return anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_the_app_may_run_in_another_thread_and_event_loop(backend: str) -> None:
    """The wakes happen in the waiter's own thread, and two seconds apart on the waiter's clock."""
    receiver = make()
    waiter = Waiter()
    receiver.bind("7", waiter)
    urls = [receiver.url_for("7")] * 50
    assert await anyio.to_thread.run_sync(elsewhere, receiver, urls, backend) == [202] * 50
    await waiter.woken.wait()
    await anyio.sleep(5)
    # How many they are depends on how far the clock jumps while the other thread is at work.
    assert all(after - before == 2.0 for before, after in pairwise(waiter.at))
    assert waiter.threads == {threading.get_ident()}
    assert receiver.counts.woken == len(waiter.at)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("gone", ["asyncio", "trio"])
async def test_a_waiter_whose_event_loop_has_ended_is_forgotten(backend: str, gone: str) -> None:
    """Its callbacks are answered as others are."""
    receiver = make()

    async def wait() -> None:
        receiver.bind("7", Waiter())

    await anyio.to_thread.run_sync(partial(anyio.run, wait, backend=gone))
    assert repr(receiver).endswith("1 waiting>")
    urls = [receiver.url_for("7")] * 2
    assert await anyio.to_thread.run_sync(elsewhere, receiver, urls, backend) == [202, 202]
    assert repr(receiver).endswith("0 waiting>")
    assert receiver.counts == CallbackCounts(received=2)


@real_time
async def test_no_callback_falls_between_two_threads() -> None:
    """A callback that comes while its waiter is being bound wakes it, on one side or the other."""
    receiver = make()
    jobs = [f"clip-{number}" for number in range(300)]
    waiters = [Waiter() for _ in jobs]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            urls = [receiver.url_for(job) for job in jobs]
            group.start_soon(anyio.to_thread.run_sync, partial(elsewhere, receiver, urls))
            for job, waiter in zip(jobs, waiters, strict=True):
                receiver.bind(job, waiter)
                await anyio.lowlevel.checkpoint()
        for waiter in waiters:
            await waiter.woken.wait()
    assert {len(waiter.at) for waiter in waiters} == {1}


# -- other scopes ----------------------------------------------------------------------------------------


async def scripted(app: CallbackReceiver, scope: dict[str, Any], *events: str) -> list[str]:
    """Give the app these events, and return the types of what it sent."""
    incoming = [{"type": event} for event in events]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app(scope, receive, send)
    return sent


async def test_it_can_be_an_app_of_its_own() -> None:
    """A server that speaks the lifespan protocol to it is answered."""
    events = ("lifespan.startup", "lifespan.shutdown")
    assert await scripted(make(), {"type": "lifespan"}, *events) == [f"{event}.complete" for event in events]


async def test_websockets_are_turned_away() -> None:
    """Before the handshake ends, which servers tell as 403."""
    assert await scripted(make(), {"type": "websocket", "path": "/"}) == ["websocket.close"]


async def test_other_protocols_are_an_error() -> None:
    """A server logs it."""
    with pytest.raises(ClientUseError, match="'carrier-pigeon'"):
        await scripted(make(), {"type": "carrier-pigeon"})


# -- whatever comes --------------------------------------------------------------------------------------

steps = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 5)),
    st.tuples(st.just("bind"), st.sampled_from("ab")),
    st.tuples(st.just("unbind"), st.sampled_from("ab")),
    st.tuples(
        st.just("post"),
        st.sampled_from(["a", "b", "forged", "swapped"]),
        st.sampled_from(["POST", "POST", "GET", "x"]),
        st.lists(st.one_of(st.binary(max_size=9), st.floats(0, 12), st.none()), max_size=4),
    ),
)


@examples(150)
@given(st.sampled_from(["asyncio", "trio"]), st.lists(steps, max_size=25))
def test_no_sequence_of_callbacks_does_more_than_wake(backend: str, script: list[Any]) -> None:
    """Never more often than every two seconds, never for what was not genuine, and never too few times."""
    virtual: dict[str, Any] = {"loop_factory": VirtualLoop}
    if backend == "trio":
        virtual = {"clock": trio.testing.MockClock(autojump_threshold=0)}
    anyio.run(_play, script, backend=backend, backend_options=virtual)


async def _play(script: list[Any]) -> None:
    receiver = make()
    urls = {job: str(receiver.url_for(job)) for job in "ab"}
    urls["forged"] = urls["a"] + "x"
    urls["swapped"] = urls["a"].replace("/a/", "/b/")
    waiters: dict[str, Waiter] = {}
    ends: dict[str, Callable[[], None]] = {}
    told: dict[str, float] = {}
    genuine = 0
    for step in script:
        if step[0] == "wait":
            await anyio.sleep(step[1])
        elif step[0] == "bind" and step[1] not in ends:
            waiters[step[1]] = Waiter()
            ends[step[1]] = receiver.bind(step[1], waiters[step[1]])
            told.pop(step[1], None)
        elif step[0] == "unbind" and step[1] in ends:
            ends.pop(step[1])()
        elif step[0] == "post":
            status = await post(receiver, urls[step[1]], method=step[2], body=step[3])
            assert status == 202 or step[1] not in "ab" or step[2] != "POST" or status in (None, 408)
            if status == 202:
                genuine += 1
                told[step[1]] = anyio.current_time()
    await anyio.sleep(3)
    for job, waiter in waiters.items():
        assert all(after - before >= 1.999 for before, after in pairwise(waiter.at))
        if job in ends and job in told:
            assert waiter._start + waiter.at[-1] >= told[job] - 0.001
    assert receiver.counts.received == genuine
    assert receiver.counts.woken <= genuine


@given(st.binary(max_size=80), st.text(max_size=20), st.booleans())
def test_no_address_breaks_it(raw: bytes, path: str, has_raw: bool) -> None:
    """Whatever bytes a server passes on."""
    receiver = make()
    call = Call(PUBLIC, raw_path=raw if has_raw else None, path=path)
    assert anyio.run(call, receiver) == 404


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30))
def test_every_name_makes_a_plain_address(job: str) -> None:
    """In ASCII, one part of a path, which gives the name back."""
    if job in (".", ".."):
        return
    url = make().url_for(job)
    assert url.isascii()
    assert unquote(url.split("/")[-2]) == job
    assert quote(job, safe="") == url.split("/")[-2]


# -- in real frameworks, over real sockets ---------------------------------------------------------------


@contextmanager
def served(listener: socket.socket, app: Any, root_path: str = "") -> Iterator[None]:
    """Serve the app in a thread; *root_path* is what a proxy in front of it has cut off."""
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="on", ws="none", root_path=root_path)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def in_fastapi(receiver: CallbackReceiver) -> Any:
    app = FastAPI()
    app.mount("/hooks/wiro", receiver)
    return app


def in_starlette(receiver: CallbackReceiver) -> Any:
    return Starlette(routes=[Mount("/hooks", routes=[Mount("/wiro", receiver)])])


def in_litestar(receiver: CallbackReceiver) -> Any:
    litestar = pytest.importorskip("litestar", reason="not among the development tools")

    async def callbacks(scope: Any, receive: Any, send: Any) -> None:
        await receiver(scope, receive, send)

    callbacks.__annotations__ = {
        "scope": litestar.types.Scope,
        "receive": litestar.types.Receive,
        "send": litestar.types.Send,
        "return": None,
    }
    return litestar.Litestar([litestar.asgi("/hooks/wiro", is_mount=True, copy_scope=True)(callbacks)])


def alone(receiver: CallbackReceiver) -> Any:
    return receiver


@real_time
@pytest.mark.parametrize("mounted", [in_fastapi, in_starlette, in_litestar, alone])
@pytest.mark.parametrize("job", ["clip-7", "größe/7 %"])
@pytest.mark.parametrize("root_path", ["", "/proxied"])
async def test_it_can_be_mounted(
    mounted: Callable[[CallbackReceiver], Any], job: str, root_path: str
) -> None:
    """In each framework a callback wakes a waiter of another thread, and all else gets its status."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = make(f"http://127.0.0.1:{listener.getsockname()[1]}/hooks/wiro")
        waiter = Waiter()
        receiver.bind(job, waiter)
        url = f"{receiver.url_for(job)}?wiro_async=abc"
        with served(listener, mounted(receiver), root_path):
            async with httpx.AsyncClient(trust_env=False) as http:
                told = await http.post(url, json=DONE)
                with anyio.fail_after(10):
                    await waiter.woken.wait()
                others = [await http.get(url), await http.head(url), await http.post(url.replace("?", "x?"))]
    assert (told.status_code, told.content) == (202, b"")
    assert [other.status_code for other in others] == [405, 405, 404]
    assert others[0].headers["allow"] == "POST"
    assert waiter.threads == {threading.get_ident()}


async def raw_answer(port: int, request: str) -> bytes:
    """Send a request as it is, and read until the server closes the connection."""
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request.encode())
        with anyio.fail_after(10), suppress(anyio.EndOfStream):
            while True:
                answer += await stream.receive()
    return answer


@real_time
async def test_a_sender_of_too_much_is_cut_off() -> None:
    """The server itself would take a gigabyte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        receiver = make(f"http://127.0.0.1:{port}/hooks/wiro")
        path = urlsplit(receiver.url_for("7")).path
        with served(listener, in_starlette(receiver)):
            head = f"POST {path} HTTP/1.1\r\nhost: e.org\r\ncontent-length: {10**9}\r\n\r\n"
            answer = await raw_answer(port, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert receiver.counts == CallbackCounts(refused=1)


def test_the_records_are_what_they_say() -> None:
    """Counts are frozen; an address knows its receiver and its job."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        make().counts.woken = 1  # type: ignore[misc]
    receiver = make()
    url = CallbackURL("https://e.org/7/x", receiver, "7")
    assert (url.receiver, url.job, len(url)) == (receiver, "7", 17)
