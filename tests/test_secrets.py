"""Canaries: no key, secret, signature or token is ever shown."""

from __future__ import annotations

import base64
import copy
import gc
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from tests.fakes import FakeService, client, no, ok, task
from tests.servers import Peer, Server, answer
from wiro_async import Client, Director
from wiro_async.sandbox import Sandbox

TOKEN = "canary-token-77d0"
ACCESS = "canary-access-31ee"
PASSWORD = "canary-password-90cc"
SIGN_IN = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
CANARIES = (KEY, SECRET, TOKEN, ACCESS, PASSWORD, SIGN_IN)

FAST = wiro_async.Polling(min_interval=0.01, max_interval=0.05)
INPUTS = {"inputImageFirstUrl": "http://127.0.0.1:9/x.jpg", "prompt": "waves"}
MODEL = "MiniMax/image-to-video-01-director"

pytestmark = pytest.mark.usefixtures("quick_search")


class Watch:
    """Collects everything that is shown, and what was signed."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.signatures: set[str] = set()

    def look_at(self, *things: object) -> None:
        """Take every face of *things*."""
        for thing in things:
            self.shown += [repr(thing), str(thing), f"{thing}", f"{thing!r:>3}", ascii(thing)]
            if attrs.has(type(thing)):
                self.shown.append(repr(attrs.asdict(thing, recurse=True)))  # type: ignore[arg-type]
            if isinstance(thing, BaseException):
                self.look_at_error(thing)
            for protocol in (2, pickle.HIGHEST_PROTOCOL):
                self._pickle(thing, protocol)

    def look_at_error(self, error: BaseException) -> None:
        """Take an exception as a debugger would: with the locals of every frame of every cause."""
        links: list[BaseException | None] = [error]
        seen: set[int] = set()
        while links:
            link = links.pop()
            if link is None or id(link) in seen:
                continue
            seen.add(id(link))
            told = traceback.TracebackException.from_exception(link, capture_locals=True, compact=False)
            # The tests' own frames know the canaries; all others must not.
            told.stack[:] = [frame for frame in told.stack if frame.filename != __file__]
            self.shown += [*told.format(), repr(vars(link)), repr(link.args)]
            links += [link.__cause__, link.__context__]
            links += link.exceptions if isinstance(link, BaseExceptionGroup) else ()

    def _pickle(self, thing: object, protocol: int) -> None:
        try:
            data = pickle.dumps(thing, protocol)
        except (wiro_async.ClientUseError, TypeError, AttributeError, pickle.PicklingError):
            return  # what cannot be pickled shows nothing
        self.shown += [data.decode("latin-1"), repr(pickle.loads(data)), repr(copy.copy(thing))]

    def verdict(self) -> set[str]:
        """Return the canaries that were seen."""
        text = "\n".join(self.shown)
        return {canary for canary in (*CANARIES, *self.signatures) if canary in text}


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Watch a test, all logs included, and fail it if a canary sang."""
    watcher = Watch()
    loggers = [logging.getLogger(name) for name in ("", "httpx", "httpcore", "wiro_async", "asyncio", "h11")]
    for logger in loggers:
        caplog.set_level(logging.DEBUG, logger.name)
    yield watcher
    watcher.shown.append(caplog.text)
    watcher.shown += [repr(vars(record)) for record in caplog.records]
    assert watcher.verdict() == set()


def test_the_watch_sees() -> None:
    """The check can fail: an exception whose frame holds a canary is noticed."""
    code = compile("def leak(local): raise ValueError(len(local))", "elsewhere.py", "exec")
    elsewhere: dict[str, Any] = {}
    exec(code, elsewhere)
    watcher = Watch()
    with pytest.raises(ValueError, match=str(len(KEY))) as caught:
        elsewhere["leak"](KEY)
    watcher.look_at(caught.value)
    assert watcher.verdict() == {KEY}


async def test_a_whole_job_shows_no_secret(watch: Watch) -> None:
    """Submit, wait, list, stop, fail: every public object, and all logs at DEBUG, over real sockets."""
    async with (
        Sandbox(api_key=KEY, api_secret=SECRET, speed=200, render=False) as sandbox,
        Client(KEY, SECRET, base_url=sandbox.base_url, polling=FAST) as caller,
    ):
        handle = await caller.submit(MODEL, INPUTS)
        assert handle.token is not None
        token = handle.token.reveal()
        watch.signatures.add(token)
        transitions = [transition async for transition in handle]
        result = await handle
        upload = await caller.upload(b"abc")
        watch.look_at(
            caller, handle, result, result.task, *result.outputs, *transitions, upload, handle.token
        )
        tasks, models = caller.list_tasks(), caller.list_models("hailuo")
        watch.look_at(aiter(handle), tasks, await anext(tasks), models, await anext(models))
        watch.look_at(await caller.get_model(MODEL))
        watch.look_at(Director(image=b"abc", prompt="x"), caller._config, caller.attach(token=token))
        for wrong in (
            lambda: caller.submit("no/such", {}),
            lambda: caller.submit(MODEL, {}),
            lambda: caller.attach("99").wait(),
            lambda: caller.attach(token="x" * 30).kill(),
            lambda: caller.run(MODEL, {**INPUTS, "prompt": "[sandbox:fail boom]"}),
            lambda: caller.run(MODEL, {**INPUTS, "prompt": "[sandbox:queue]"}, timeout=0.1),
            lambda: result.outputs[0].read(max_bytes=1),
        ):
            await _look_at_failure(watch, wrong)
        async with Client(KEY, SECRET + "x", base_url=sandbox.base_url) as stranger:
            await _look_at_failure(watch, lambda: anext(stranger.list_tasks()))


async def _look_at_failure(watch: Watch, action: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(wiro_async.WiroError) as caught:
        await action()
    watch.look_at(caught.value)


FAULTS: tuple[Any, ...] = (
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.Response(500, text=f'{{"socketaccesstoken": "{TOKEN}", "result"'),
    httpx.Response(200, text=f'<html>"socketaccesstoken": "{TOKEN}"'),
    httpx.Response(302, headers={"location": "https://example.org/"}),
    httpx.Response(401, json=no(0, "Project authorization is not valid.")),
    httpx.Response(429),
    ok(tasklist=[task("2222", socketaccesstoken=TOKEN, outputs=[{"name": "0", "accesskey": ACCESS}])]),
    ok(tasklist=[], socketaccesstoken=TOKEN),
    ok(taskid=None, socketaccesstoken=TOKEN),
    no(96, "up to 5 tasks"),
    no(0, "Request parameter [x] required"),
)


@pytest.mark.virtual_time
@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
async def test_no_error_shows_a_secret(watch: Watch, fault: Any) -> None:
    """Whatever the service answers, by id and by token, for every kind of call."""
    service = FakeService(
        Run=fault, Task_Detail=fault, Task_Cancel=fault, Task_Kill=fault, Task_List=fault, File_Upload=fault
    )
    caller = client(service)
    by_token = caller.attach(token=TOKEN)
    actions: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: caller.submit("owner/model", INPUTS, slot_timeout=0),
        lambda: caller.upload(b"abc"),
        by_token.refresh,
        by_token.kill,
        caller.attach("2221").cancel,
    )
    for action in actions:
        try:
            watch.look_at(await action())
        except wiro_async.WiroError as error:
            watch.look_at(error)


@pytest.mark.parametrize("moment", [0.0, 0.002, 0.01])
async def test_no_cancellation_shows_a_secret(watch: Watch, moment: float) -> None:
    """A TimeoutError drags the cancelled frames along; none of them holds what was signed."""
    async with (
        Sandbox(api_key=KEY, api_secret=SECRET, speed=1, render=False) as sandbox,
        Client(KEY, SECRET, base_url=sandbox.base_url, polling=FAST) as caller,
    ):
        actions: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: anext(caller.list_tasks(), None),
            lambda: caller.attach(token=TOKEN).refresh(),
        )
        for action in actions:
            try:
                with anyio.fail_after(moment):
                    await action()
            except (TimeoutError, wiro_async.WiroError) as error:
                watch.look_at(error)


@pytest.mark.parametrize("key", ["\nx", "x ", "xü", "x\x00"])
def test_a_refused_key_is_not_shown(watch: Watch, key: str) -> None:
    """The check at construction names the rule, not the value."""
    watch.signatures |= {(KEY + key), (SECRET + key)}
    for name, arguments in {"api_key": (KEY + key, SECRET), "api_secret": (KEY, SECRET + key)}.items():
        with pytest.raises(wiro_async.ConfigurationError, match=name) as caught:
            Client(*arguments)
        watch.look_at(caught.value)


def test_an_address_that_is_refused_shows_no_key(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the environment that the key came from."""
    monkeypatch.setenv("WIRO_API_KEY", KEY)
    monkeypatch.setenv("WIRO_API_SECRET", SECRET)
    with pytest.raises(wiro_async.ConfigurationError) as caught:
        Client(base_url="http://example.org")
    watch.look_at(caught.value)


PROXY = f"http://me:{PASSWORD}@127.0.0.1:9"

WRONG: dict[str, dict[str, Any]] = {
    "port": {"proxy": f"http://me:{PASSWORD}@proxy:99999"},
    "address": {"proxy": f"http://me:{PASSWORD}@[::1"},
    "scheme": {"proxy": f"ftp://me:{PASSWORD}@proxy"},
    "host": {"proxy": f"http://me:{PASSWORD}@"},
    "length": {"proxy": f"socks5://me:{PASSWORD * 20}@proxy"},
    "base_url": {"base_url": f"https://me:{PASSWORD}@api.wiro.ai/v1"},
    "base_url's port": {"base_url": f"https://me:{PASSWORD}@api.wiro.ai:99999/v1"},
    "socket_url": {"socket_url": f"wss://me:{PASSWORD}@[::1"},
    "another option of the network's": {"proxy": PROXY, "trust_env": "yes"},
    "another option": {"proxy": PROXY, "tasks_per_socket": 0},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_url_that_is_refused_shows_no_password(watch: Watch, wrong: str) -> None:
    """Nor does a proxy's beside what is refused."""
    with pytest.raises(wiro_async.ConfigurationError) as caught:
        Client(KEY, SECRET, **WRONG[wrong])
    watch.look_at(caught.value)


async def test_a_proxy_of_the_environment_shows_no_password(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at construction, nor where it is first asked for by a download."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@proxy:99999")
    with pytest.raises(wiro_async.ConfigurationError, match="HTTPS_PROXY") as caught:
        Client(KEY, SECRET)
    watch.look_at(caught.value)
    async with Client(KEY, SECRET, base_url="http://127.0.0.1:9/v1") as caller:
        output = wiro_async.Output(
            name="x", url="https://cdn1.wiro.ai/x", size=1, store=caller._service.downloader
        )
        for _ in range(2):
            with pytest.raises(wiro_async.ConfigurationError, match="HTTPS_PROXY") as caught:
                await output.read(timeout=5)
            watch.look_at(caught.value)


def breaking(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.reset()


def refusing(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.send(answer(b"", "407 Who?"))


def refusing_by_socks(peer: Peer) -> None:
    for reply in (b"\5\2", b"\1\1"):
        peer.sock.recv(65536)
        peer.send(reply)


@pytest.mark.parametrize(
    ("scheme", "handler"),
    [("http", breaking), ("http", refusing), ("socks5", breaking), ("socks5", refusing_by_socks)],
)
async def test_a_proxy_that_fails_shows_no_password(
    watch: Watch, scheme: str, handler: Callable[[Peer], None]
) -> None:
    """To a call and to a download, whatever was written to it, and whatever it answers."""
    with Server(handler) as server:
        proxy = f"{scheme}://me:{PASSWORD}@127.0.0.1:{server.port}"
        async with Client(KEY, SECRET, base_url="https://localhost:9/v1", proxy=proxy) as caller:
            watch.look_at(caller)
            await _look_at_failure(watch, lambda: caller.get_model("owner/model"))
            output = wiro_async.Output(
                name="x", url="https://cdn1.wiro.ai/x", size=1, store=caller._service.downloader
            )
            await _look_at_failure(watch, lambda: output.read(timeout=0.2))


def test_every_public_error_is_safe_to_show(watch: Watch) -> None:
    """Every class of the tree, with a live handle and task on it where it takes one."""
    snapshot = wiro_async.Task(id="1", status="task_start", token=wiro_async.Secret(TOKEN))
    for name in wiro_async.__all__:
        kind = getattr(wiro_async, name)
        if not (isinstance(kind, type) and issubclass(kind, wiro_async.WiroError)):
            continue
        options: dict[str, Any] = {}
        if issubclass(kind, wiro_async.TaskError):
            options = {"task": snapshot, "task_id": "1"}
        if kind is wiro_async.TaskTimeout:
            options["handle"] = client(FakeService()).attach(token=TOKEN)
        if kind is wiro_async.ConnectionFailed:
            options = {"sent": True}
        if kind is wiro_async.SubmissionUnknown:
            options = {"model": "m", "inputs_digest": "d", "submitted_at": 1.0, "cause": "c"}
        if kind is wiro_async.BatchStopped:
            options = {"reason": "balance"}
        if kind is wiro_async.JournalError:
            options = {"path": "run.db", "reason": "full"}
        if kind is wiro_async.BudgetExceeded:
            options = {"price": None, "spent": Decimal(0), "limit": Decimal(1), "scope": "call"}
        watch.look_at(kind("message", **options))
    gc.collect()


async def test_the_journal_has_no_credential(watch: Watch, tmp_path: Path) -> None:
    """The tasks' tokens are in it, for its owner only; key, secret and signatures are not."""
    service = FakeService(
        Run=ok(taskid="2221", socketaccesstoken=TOKEN),
        Task_Detail=ok(tasklist=[task("2221", "task_postprocess_end", pexit="0", socketaccesstoken=TOKEN)]),
    )
    path = tmp_path / "run.db"
    caller = Client(KEY, SECRET, base_url="http://127.0.0.1:9/v1", transport=service)
    async with caller.batch([wiro_async.Job("owner/model", {"prompt": "waves"})], journal=path) as batch:
        watch.look_at(batch)
        watch.look_at(await batch.wait())
    kept = await anyio.Path(path).read_bytes()
    assert TOKEN.encode() in kept
    assert not [secret for secret in (KEY, SECRET) if secret.encode() in kept]
    assert (await anyio.Path(path).stat()).st_mode & 0o077 == 0


def test_a_callback_receiver_shows_no_key_and_no_mac(watch: Watch) -> None:
    """Neither itself nor the addresses that it makes, when they are shown as objects."""
    receiver = wiro_async.CallbackReceiver("https://example.org/wiro", keys=[SECRET * 2])
    url = receiver.url_for("job-1")
    mac = url.rpartition("/")[2]
    watch.signatures |= {mac, SECRET * 2}
    for thing in (receiver, url.receiver, receiver.counts):
        watch.look_at(thing)
    assert mac not in repr(url)
