"""Every argument of every public call: what cannot work is refused where it is given, and nothing is paid.

One table has a working call of each public callable, and for each of its parameters values that cannot work.
Each such call must end in a ``WiroError`` that shows the value, before a Run leaves: the sandbox's ledger
stays empty.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import pytest

import wiro_async
from tests.conftest import KEY, SECRET
from wiro_async import (
    Batch,
    BatchOptions,
    CallbackReceiver,
    Client,
    ClientUseError,
    ConfigurationError,
    Director,
    HailuoSubject,
    Job,
    JournalReader,
    Limits,
    MapOptions,
    Output,
    Polling,
    RunOptions,
    Secret,
    SubmitOptions,
    Task,
    TaskHandle,
    TaskResult,
    WiroError,
)
from wiro_async.sandbox import Sandbox

MODEL = "MiniMax/image-to-video-01-director"
INPUTS = {"inputImageFirstUrl": "https://example.org/a.jpg", "prompt": "waves"}

# -- values that cannot work -----------------------------------------------------------------------------

NOT_TEXT: list[object] = [5, b"bytes", ["list"]]
NOT_NAMES = ["", *NOT_TEXT]
NOT_SECONDS: list[object] = [math.nan, "30", True, [1]]
NOT_WAITS = [-1, -math.inf, *NOT_SECONDS]
NOT_POSITIVE = [0, math.inf, None, *NOT_WAITS]
NOT_COUNTS: list[object] = [0, -1, 1.5, "1", True]
NOT_BOOLS: list[object] = [1, "yes", None, []]
NOT_AMOUNTS: list[object] = ["five", -1, math.nan, math.inf, True, [5]]
NOT_PATHS: list[object] = [5, b"x", ["a"], ""]
NOT_SLUGS = ["", "director", "/", 5, b"a/b", ["a/b"], "a/b\n", "a/../b"]
NOT_INPUTS: list[object] = ["waves", 5, [("prompt", "waves")], {"prompt"}, Director]
NOT_FILES: list[object] = [5, None, "", [b"x"], b"", {"a": 1}, "/no/such/file.jpg", "/"]
NOT_URLS: list[object] = [
    "", 5, b"https://a/v1", "api.wiro.ai/v1", "ftp://api.wiro.ai/v1", "http://api.wiro.ai/v1",
    "https://user:word@api.wiro.ai/v1", "https://api.wiro.ai/v1?a=b", "https://api.wiro.ai/v1#a",
]  # fmt: skip

POLLING: dict[str, list[object]] = {
    "min_interval": NOT_POSITIVE, "max_interval": NOT_POSITIVE, "growth": NOT_POSITIVE,
    "jitter": [-0.1, 1, math.nan, "0", None], "requests_per_second": NOT_POSITIVE, "learn": NOT_BOOLS,
    "safety_interval": NOT_POSITIVE,
}  # fmt: skip

LIMITS: dict[str, list[object]] = {
    "max_in_flight": NOT_COUNTS, "max_downloads": NOT_COUNTS, "max_sockets": NOT_COUNTS,
    "error_grace": NOT_POSITIVE, "send_window": NOT_POSITIVE, "margin": NOT_POSITIVE,
    "max_download": NOT_COUNTS,
} | {
    f"{name}_timeout": NOT_POSITIVE
    for name in ("check", "connect", "request", "upload", "download", "slot", "settle", "wait", "stop")
}  # fmt: skip

SUBMIT: dict[str, list[object]] = {
    "slot_timeout": NOT_WAITS,
    "on_unknown": ["retry", None, ["raise"], {}],
    "callback_url": ["", 5, "host/done", "ftp://host/done"],
    "project_id": NOT_NAMES,
    "watch": ["push", "", ["poll"], True],
    "expected_duration": NOT_WAITS,
    "max_cost": NOT_AMOUNTS,
    "allow_unpriced": [1, "yes", []],
    "check": ["no", 2, ["strict"]],
}

RUN: dict[str, list[object]] = SUBMIT | {"timeout": NOT_WAITS, "on_cancel": ["leave", None, True, {}]}

MAP: dict[str, list[object]] = {
    "journal": NOT_PATHS,
    "key": ["sku", 5],
    "concurrency": ["all", *NOT_COUNTS],
    "max_cost": NOT_AMOUNTS,
    "download": NOT_PATHS,
    "delete_remote": NOT_BOOLS,
    "overwrite": NOT_BOOLS,
    "ordered": NOT_BOOLS,
    "fail_fast": NOT_BOOLS,
    "retry_failed": [-1, 1.5, "1", True, None],
    "breaker": NOT_COUNTS,
    "canary": [-1, 1.5, "1", True, None],
    "timeout": NOT_WAITS,
    "on_unknown": SUBMIT["on_unknown"],
    "check": SUBMIT["check"],
    "stop_on_exit": ["kill", None, True, []],
    "on_progress": ["print", 5],
    "total": [-1, 1.5, "1", True],
    "memo": ["text", 5, [1]],
}


# -- the calls -------------------------------------------------------------------------------------------


@attrs.frozen
class Call:
    """One public call.

    Attributes:
        target: The callable, whose parameters are looked up.
        invoke: Makes the call on a client.
        bad: Values that cannot work, by parameter.
        good: The arguments of a call that works.
        options: The typed dictionary of the options that it takes.
        free: Parameters that take anything.
    """

    target: Callable[..., Any]
    invoke: Callable[..., Any]
    bad: dict[str, list[object]]
    good: dict[str, Any] = attrs.field(factory=dict)
    options: Any = None
    free: frozenset[str] = frozenset()


def made(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes one of *kind*; no client is needed for that."""
    return lambda _client, **arguments: kind(**arguments)


async def batched(own: Client, jobs: Any = None, **options: Any) -> None:
    """Run a batch to its end, and raise what its first failed job has for an error."""
    jobs = [Job(MODEL, INPUTS)] if jobs is None else jobs
    async with own.batch(jobs, **{"breaker": None, **options}) as batch:
        async for outcome in batch:
            if outcome.error is not None:
                raise outcome.error


async def mapped(own: Client, model: Any = MODEL, inputs: Any = None, **options: Any) -> None:
    """The same with one model for all inputs."""
    async with own.map(model, [INPUTS] if inputs is None else inputs, **options) as batch:
        async for outcome in batch:
            if outcome.error is not None:
                raise outcome.error


async def one_job(own: Client, **arguments: Any) -> None:
    """Have one job done by a batch."""
    await batched(own, [Job(**arguments)])


def typed(kind: type[Director | HailuoSubject]) -> Callable[..., Any]:
    """Return what runs typed inputs of *kind*."""

    async def run(own: Client, **arguments: Any) -> None:
        await own.run(kind(**arguments))

    return run


async def listed(listing: Any) -> None:
    """Read a list to its end."""
    async for _ in listing:
        pass


def on_handle(verb: str) -> Callable[..., Any]:
    """Return what calls a method of a task's handle."""
    return lambda own, **arguments: getattr(own.attach("2221"), verb)(**arguments)


def output_of(own: Client) -> Output:
    """Return an output that the client could download."""
    url = own.base_url.replace("/v1", "/cdn/x/0.mp4")
    return Output("0.mp4", url, store=own._service.downloader)


def on_result(own: Client, **arguments: Any) -> Awaitable[Any]:
    """Save a result."""
    output = output_of(own)
    return TaskResult(Task(id="1", status="task_end"), (output,), None, None).save(**arguments)


async def on_journal(own: Client, **arguments: Any) -> None:
    """Look into a journal of one job."""
    path = arguments.pop("path")
    async with own.batch(journal=path, total=0) as batch:
        await batch.wait()
    async with JournalReader(path) as journal:
        await journal.find("key")
        if "key" in arguments:
            await journal.find(arguments["key"])
        if "states" in arguments:
            async for _ in journal.entries(*arguments["states"]):
                pass


async def opened(_own: Client, path: Any) -> None:
    """Open a journal."""
    async with JournalReader(path):
        pass


def receiver(**arguments: Any) -> CallbackReceiver:
    """Return a receiver."""
    return CallbackReceiver(**{"public_url": "https://example.org/wiro", **arguments})


FREE_JOB = frozenset({"where"})

CALLS: dict[str, Call] = {
    "Client": Call(
        Client,
        made(Client),
        {
            "api_key": NOT_NAMES,
            "api_secret": NOT_NAMES,
            "base_url": [*NOT_URLS, "https://api.wiro.ai", "https://api.wiro.ai/"],
            "socket_url": ["", 5, "https://socket.wiro.ai/v1", "socket.wiro.ai", "ws://socket.wiro.ai/v1"],
            "watch": ["push", "", None, ["poll"], True],
            "tasks_per_socket": NOT_COUNTS,
            "check": ["no", None, 2, ["strict"]],
            "polling": ["fast", 5, {"min_interval": 1}, Polling, Limits()],
            "limits": ["low", 5, {"max_in_flight": 1}, Limits, Polling()],
            "trust_env": ["yes", 1, None],
            "max_cost": NOT_AMOUNTS,
            "budget": ["", 12, ["2026-12"]],
            "allow_unpriced": NOT_BOOLS,
            "allow_http": ["sandbox", 5, [5], [""], ["http://sandbox"], ["sandbox:8000"], ["*"]],
            "download_hosts": [
                "cdn.example.org",
                b"cdn.example.org",
                5,
                [5],
                [""],
                ["https://cdn.example.org"],
                ["cdn.example.org:8443"],
                ["*.example.org"],
                ["cdn.example.org/x"],
                ["user@cdn.example.org"],
                [" cdn.example.org"],
                [b"cdn"],
                ["."],
            ],
        },
        {"api_key": KEY, "api_secret": SECRET},
        free=frozenset({"transport", "proxy", "ssl_context"}),  # tests/http tries these
    ),
    "Polling": Call(Polling, made(Polling), POLLING),
    "Limits": Call(Limits, made(Limits), LIMITS),
    "Client.submit": Call(
        Client.submit,
        lambda own, **arguments: own.submit(**arguments),
        {"model": [*NOT_SLUGS, None, INPUTS], "inputs": [*NOT_INPUTS, None], **SUBMIT},
        {"model": MODEL, "inputs": INPUTS},
        SubmitOptions,
    ),
    "Client.run": Call(
        Client.run,
        lambda own, **arguments: own.run(**arguments),
        {"model": [*NOT_SLUGS, None, INPUTS], "inputs": [*NOT_INPUTS, None], **RUN},
        {"model": MODEL, "inputs": INPUTS},
        RunOptions,
    ),
    "Client.check": Call(
        Client.check,
        lambda own, **arguments: own.check(**arguments),
        {"model": [*NOT_SLUGS, None, INPUTS], "inputs": [*NOT_INPUTS, None], "strict": NOT_BOOLS},
        {"model": MODEL, "inputs": INPUTS},
    ),
    "Client.attach": Call(
        Client.attach,
        lambda own, **arguments: own.attach(**arguments).refresh(),
        {"task_id": [None, "", 1.5, b"bytes", ["list"]], "token": ["", 5, b"token"]},
    ),
    "Client.reconcile": Call(
        Client.reconcile,
        lambda own, **arguments: own.reconcile(**arguments),
        {"error": [None, "lost", ValueError("lost"), WiroError("lost")]},
    ),
    "Client.batch": Call(
        Client.batch,
        batched,
        {
            "jobs": [5, "jobs.csv", Job(MODEL, INPUTS), INPUTS, [INPUTS], [None], b"jobs"],
            "model": NOT_NAMES,
            **MAP,
        },
        options=BatchOptions,
    ),
    "Client.map": Call(
        Client.map,
        mapped,
        {"model": NOT_SLUGS, "inputs": [5, "text", INPUTS, ["text"], [5], [[]], b"x"], **MAP},
        options=MapOptions,
    ),
    "Client.upload": Call(
        Client.upload,
        lambda own, **arguments: own.upload(**arguments),
        {"file": NOT_FILES, "name": NOT_NAMES, "folder": [*NOT_TEXT, None, "a\r\nb", '"']},
        {"file": b"\xff\xd8\xff"},
    ),
    "Client.list_tasks": Call(
        Client.list_tasks,
        lambda own, **arguments: listed(own.list_tasks(**arguments)),
        {"model": NOT_SLUGS, "limit": [-1, 1.5, "5", True]},
    ),
    "Client.list_models": Call(
        Client.list_models,
        lambda own, **arguments: listed(own.list_models(**arguments)),
        {"search": [None, *NOT_TEXT], "category": NOT_NAMES, "limit": [-1, 1.5, "5", True]},
    ),
    "Client.get_model": Call(
        Client.get_model, lambda own, **arguments: own.get_model(**arguments), {"slug": [None, *NOT_SLUGS]}
    ),
    "TaskHandle.result": Call(
        TaskHandle.result, on_handle("result"), {"timeout": NOT_WAITS, "on_cancel": ["leave", None, 1]}
    ),
    "TaskHandle.wait": Call(
        TaskHandle.wait, on_handle("wait"), {"timeout": NOT_WAITS, "on_cancel": ["leave", None, 1]}
    ),
    "TaskHandle.stop": Call(TaskHandle.stop, on_handle("stop"), {"timeout": NOT_WAITS}),
    "Output.save": Call(
        Output.save,
        lambda own, **arguments: output_of(own).save(**arguments),
        {"path_or_folder": [*NOT_PATHS, None, "a\0b"], "timeout": NOT_WAITS},
        {"path_or_folder": "clip.mp4"},
    ),
    "Output.read": Call(
        Output.read,
        lambda own, **arguments: output_of(own).read(**arguments),
        {"timeout": NOT_WAITS, "max_bytes": [-1, 1.5, "5", True, None]},
    ),
    "TaskResult.save": Call(
        TaskResult.save,
        on_result,
        {"folder": [*NOT_PATHS, None, "a\0b"], "timeout": NOT_WAITS},
        {"folder": "clips"},
    ),
    "Batch.plan": Call(
        Batch.plan,
        lambda own, **arguments: own.batch([Job(MODEL, INPUTS)]).plan(**arguments),
        {"on_invalid": ["print", 5], "unique": NOT_BOOLS},
    ),
    "Job": Call(
        Job,
        one_job,
        {"model": NOT_SLUGS, "inputs": [*NOT_INPUTS, None], "key": ["", 1.5, b"k", "\ud800"]},
        {"model": MODEL, "inputs": INPUTS},
        free=FREE_JOB,
    ),
    "Director": Call(
        Director,
        typed(Director),
        {"image": [*NOT_FILES, "ftp://a/b.jpg"], "prompt": [b"x", {1}, object()]},
        {"image": "https://example.org/a.jpg", "prompt": "waves"},
    ),
    "HailuoSubject": Call(
        HailuoSubject,
        typed(HailuoSubject),
        {"image": [*NOT_FILES, "ftp://a/b.jpg"], "prompt": [b"x", {1}, object()]},
        {"image": "https://example.org/a.jpg", "prompt": "waves"},
    ),
    "Client.accept_journal": Call(
        Client.accept_journal,
        lambda own, path: own.accept_journal(path),
        {"path": [None, "no/such.db", "a\0b", *NOT_PATHS]},
    ),
    "JournalReader": Call(JournalReader, opened, {"path": [None, "no/such.db", "a\0b", *NOT_PATHS]}),
    "JournalReader.find": Call(
        JournalReader.find, on_journal, {"key": [None, "", 1.5, b"bytes", "\ud800"]}, {"path": "run.db"}
    ),
    "JournalReader.entries": Call(
        JournalReader.entries,
        on_journal,
        {"states": [["lost"], [5], [["failed"]], [None]]},
        {"path": "run.db"},
    ),
    "CallbackReceiver": Call(
        CallbackReceiver,
        made(CallbackReceiver),
        {
            "public_url": NOT_URLS,
            "keys": ["0123456789abcdef", 5, ["short"], [5], [b"0123456789abcdef"] * 3, b"x", [Secret("x")]],
        },
        {"public_url": "https://example.org/wiro"},
    ),
    "CallbackReceiver.url_for": Call(
        CallbackReceiver.url_for,
        lambda _own, **arguments: receiver().url_for(**arguments),
        {"job": ["", 5, b"job", "a" * 201, "a\n", ".", ".."]},
    ),
    "CallbackReceiver.bind": Call(
        CallbackReceiver.bind,
        lambda _own, **arguments: receiver().bind(**arguments),
        {"job": ["", 5, b"job"], "wake": [None, 5, "call"]},
        {"job": "job", "wake": lambda: None},
    ),
    "Secret": Call(Secret, lambda _own, value: Secret(value).reveal(), {"value": [5, b"x", ["a"]]}),
}

RECORDS = {
    "BatchFailure", "BatchPlan", "BatchProgress", "BatchReport", "CallbackCounts", "CallbackURL", "Check",
    "InvalidJob", "JobOutcome", "JournalComparison", "JournalCounts", "JournalEntry", "JournalFailure",
    "JournalFile", "LogLine", "Model", "ModelInput", "Output", "Spending", "Statistics", "Status", "Task",
    "TaskProgress",
    "TaskResult", "Transition", "Upload",
}  # fmt: skip
"""What the library makes, and users read."""

LOOK_UPS = {"Task.time_of", "TaskResult.of"}
"""Methods of records that only look something up."""


# -- the table is whole ----------------------------------------------------------------------------------


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield what users call with arguments: the classes that they make, and every public method."""
    for name in wiro_async.__all__:
        kind = getattr(wiro_async, name)
        doc = inspect.getdoc(kind) or ""
        if not isinstance(kind, type) or issubclass(kind, BaseException) or "__total__" in vars(kind):
            continue
        if name not in RECORDS and "Do not instantiate directly." not in doc and name != "TypedInputs":
            yield name, kind
        for method, function in vars(kind).items():
            plain = getattr(function, "__func__", function)
            if method.startswith("_") or not inspect.isfunction(plain):
                continue
            if len(inspect.signature(plain).parameters) > 1:
                yield f"{name}.{method}", plain


def test_every_public_callable_is_in_the_table() -> None:
    """With all its parameters, and all the options that it takes."""
    assert {name for name, _ in public_callables()} == CALLS.keys() | LOOK_UPS
    for name, call in CALLS.items():
        given = {
            parameter.name
            for parameter in inspect.signature(call.target).parameters.values()
            if parameter.name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        given |= set() if call.options is None else set(get_type_hints(call.options))
        assert call.bad.keys() | call.free == given, name


# -- and holds -------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """Show a value as the processes that share the tests agree on it: without the place of an object."""
    return re.sub(r" at 0x\w+", "", repr(value))[:40].replace("\0", "NUL")


CASES = [
    pytest.param(name, parameter, value, id=f"{name}({parameter}={shown(value)})")
    for name, call in CALLS.items()
    for parameter, values in call.bad.items()
    for value in values
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Serve for all cases; none of them may reach it with a Run."""
    with Sandbox(api_key=KEY, api_secret=SECRET, speed=1000, render=False) as sandbox:
        yield sandbox


@pytest.fixture
async def own(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """Return a client of the sandbox, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    async with Client(KEY, SECRET, base_url=sandbox.base_url, watch="poll") as client:
        yield client


@pytest.mark.parametrize(("name", "parameter", "value"), CASES)
async def test_what_cannot_work_is_refused(
    name: str, parameter: str, value: object, own: Client, sandbox: Sandbox
) -> None:
    """By a ``WiroError`` with a message of one line, before anything is paid."""
    call, paid = CALLS[name], len(sandbox.ledger()["tasks"])

    async def attempt() -> None:
        made = call.invoke(own, **{**call.good, parameter: value})
        if inspect.isawaitable(made):
            await made

    with pytest.raises(WiroError) as caught:
        await attempt()
    assert "\n" not in caught.value.message
    assert KEY not in caught.value.message
    assert len(sandbox.ledger()["tasks"]) == paid


async def test_a_folder_that_cannot_be_is_refused_before_anything_is_paid(
    own: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Although its path is one: there is a file in its place, or the folder cannot be written."""
    paid = len(sandbox.ledger()["tasks"])
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "locked").mkdir(mode=0o500)
    for download in ("file", "file/{key}/{n}", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=r"^download=.*file' is a file; name a folder"):
            await batched(own, download=download)
    if not os.access(tmp_path / "locked", os.W_OK):  # root may write everywhere
        with pytest.raises(ConfigurationError, match=r"^download=.* nothing can be written in 'locked'"):
            await batched(own, download="locked/clips")
    assert len(sandbox.ledger()["tasks"]) == paid


async def test_a_closed_client_cannot_be_entered(sandbox: Sandbox) -> None:
    """Nor can its batches: the first use would fail, perhaps hours later."""
    async with Client(KEY, SECRET, base_url=sandbox.base_url) as own:
        batch = own.batch([])
    with pytest.raises(ClientUseError, match="this client is closed"):
        await own.__aenter__()
    with pytest.raises(ClientUseError, match="this client is closed"):
        await batch.__aenter__()


def test_a_callback_needs_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """To call in; whether or not trio is there."""
    for trio in (sys.modules["trio"], None):
        monkeypatch.setitem(sys.modules, "trio", trio)
        with pytest.raises(ClientUseError, match="no event loop runs"):
            receiver().bind("job", lambda: None)


def test_a_secret_that_is_no_text_is_not_shown() -> None:
    """Only its type is."""
    anything: Any = KEY.encode()
    with pytest.raises(ConfigurationError, match="made of a bytes; it must be a str") as caught:
        Secret(anything).reveal()
    assert KEY not in str(caught.value)
