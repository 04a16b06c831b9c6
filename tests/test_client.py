"""The client: what a user holds."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import ssl
import sys
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import respx

import wiro_async
from tests.conftest import KEY, SECRET
from tests.fakes import BASE, FakeService, client, no, ok, task, timed_service
from wiro_async import Client, ClientUseError, Director, HailuoSubject

PROMPT = "[Zoom in] waves"
URL = "https://example.org/photo.jpg"
FAST = wiro_async.Polling(min_interval=0.001, max_interval=0.001)

pytestmark = pytest.mark.usefixtures("quick_search")


DONE = {"pexit": "0", "outputs": [{"name": "0.mp4", "url": "https://cdn1.wiro.ai/x/0.mp4"}]}


def done(**fields: Any) -> FakeService:
    """Return a service whose task is done at the first look."""
    ids = count(2221)

    def run(_payload: dict[str, Any]) -> dict[str, Any]:
        number = str(next(ids))
        return ok(taskid=number, socketaccesstoken=f"token-{number}")

    def detail(payload: dict[str, Any]) -> dict[str, Any]:
        return ok(tasklist=[task(payload["taskid"], "task_postprocess_end", **{**DONE, **fields})])

    return FakeService(
        Run=run,
        Task_Detail=detail,
        File_Upload=ok(
            list=[{"id": "f1", "name": "photo.jpg", "size": "3", "url": "https://api.wiro.ai/v1/File/f1"}]
        ),
    )


# -- construction ----------------------------------------------------------------------------------------


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four variables suffice for a client without arguments."""
    for name, value in {
        "WIRO_API_KEY": KEY,
        "WIRO_API_SECRET": SECRET,
        "WIRO_BASE_URL": "http://localhost:1/v1",
        "WIRO_SOCKET_URL": "ws://localhost:1/v1",
    }.items():
        monkeypatch.setenv(name, value)
    assert repr(Client()) == "<Client http://localhost:1/v1 signed>"


def test_a_client_without_a_secret_is_key_only() -> None:
    """The kind of project follows from what was given."""
    assert repr(Client(KEY)) == "<Client https://api.wiro.ai/v1 key-only>"


def test_a_client_without_a_key_is_refused() -> None:
    """The error names the variable to set."""
    with pytest.raises(wiro_async.ConfigurationError, match="WIRO_API_KEY"):
        Client()


def test_a_client_that_was_refused_can_be_shown() -> None:
    """A debugger that prints the half-made client sees no second error."""
    assert repr(Client.__new__(Client)) == "<Client, not set up>"


def test_a_client_is_not_pickled() -> None:
    """It holds credentials."""
    for take in (pickle.dumps, copy.deepcopy):
        with pytest.raises(ClientUseError, match="credentials"):
            take(Client(KEY))


def test_a_transport_brings_its_own_proxy_and_certificates() -> None:
    """Either is given, not both."""
    with pytest.raises(wiro_async.ConfigurationError, match="either"):
        Client(KEY, proxy="http://127.0.0.1:9", transport=FakeService())
    with pytest.raises(wiro_async.ConfigurationError, match="either transport= or ssl_context="):
        Client(KEY, ssl_context=ssl.create_default_context(), transport=FakeService())


# -- submit ----------------------------------------------------------------------------------------------


async def test_submit_sends_exactly_what_was_meant() -> None:
    """Path, signature headers and body on the wire, by the router of respx."""
    router = respx.MockRouter(using=None, base_url="http://127.0.0.1:9")
    route = router.post("/v1/Run/wiro/Product%20Photoshoot").respond(
        json=ok(taskid="1", socketaccesstoken="t")
    )
    service = httpx.MockTransport(router.async_handler)
    handle = await client(service).submit(
        "wiro/Product Photoshoot",
        {"inputImage": [URL], "seed": 3, "flag": "true"},
        callback_url="https://example.org/done",
        project_id="699",
    )
    assert handle.id == "1"
    request = route.calls.last.request
    assert request.url.raw_path == b"/v1/Run/wiro/Product%20Photoshoot"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["x-nonce"].isdigit()
    assert len(request.headers["x-signature"]) == 64
    _, _, marker = json.loads(request.content)["callbackUrl"].partition("?wiro_async=")
    assert marker
    assert request.content == (
        b'{"inputImage":["https://example.org/photo.jpg"],"seed":3,"flag":"true",'
        b'"callbackUrl":"https://example.org/done?wiro_async=%s","projectid":"699"}' % marker.encode()
    )


@pytest.mark.parametrize(
    ("inputs", "model"),
    [
        (Director(image=URL, prompt=PROMPT), "MiniMax/image-to-video-01-director"),
        (HailuoSubject(image=URL, prompt=PROMPT), "MiniMax/image-to-video-hailuo-01-subject"),
    ],
)
async def test_typed_inputs_know_their_model(inputs: Director | HailuoSubject, model: str) -> None:
    """The model may be left out, or another one given."""
    service = done()
    handle = await client(service).submit(inputs)
    assert handle.model == model
    assert service.calls == [("Run", {"inputImageFirstUrl": URL, "prompt": PROMPT})]
    assert service.requests[0].url.path == f"/v1/Run/{model}"
    other = await client(service).submit("MiniMax/another", inputs)
    assert other.model == "MiniMax/another"


async def test_local_files_are_uploaded_first(tmp_path: Path) -> None:
    """Paths, bytes and open files become the URL of their upload; strings in a mapping stay strings."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"abc")
    service = done()
    caller = client(service)
    for image in (str(photo), photo, b"abc", io.BytesIO(b"abc")):
        await caller.submit(Director(image=image, prompt=PROMPT))
    await caller.submit(
        "owner/model", {"image": "photo.jpg", "images": [photo], "nested": {"deep": (b"abc",)}}
    )
    assert service.counts == {"File/Upload": 6, "Run": 5}
    runs = [payload for name, payload in service.calls if name == "Run"]
    assert runs[0]["inputImageFirstUrl"] == "https://api.wiro.ai/v1/File/f1"
    assert runs[4] == {
        "image": "photo.jpg",
        "images": ["https://api.wiro.ai/v1/File/f1"],
        "nested": {"deep": ["https://api.wiro.ai/v1/File/f1"]},
    }


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("../Task/Kill", {}), {}, "owner/model"),
        (("owner/model",), {}, "no inputs"),
        (({"prompt": "x"},), {}, "model comes first"),
        ((Director(URL, PROMPT), {}), {}, "model comes first"),
        (("owner/model", [1]), {}, "mapping"),
        (("owner/model", {"x": float("nan")}), {}, r"inputs\.x"),
        (("owner/model", {"x": {1, 2}}), {}, r"inputs\.x is a set"),
        (("owner/model", {}), {"callback_url": "javascript:x"}, "callback_url"),
        (("owner/model", {"callbackUrl": "x"}), {"callback_url": "https://e.org"}, "given twice"),
        (("owner/model", {"projectid": "x"}), {"project_id": "1"}, "given twice"),
        ((Director("file:///etc/passwd", PROMPT),), {}, "scheme"),
        ((Director("no such file.jpg", PROMPT),), {}, "cannot be read"),
        ((Director(b"", PROMPT),), {}, "empty"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(
    arguments: Any, options: dict[str, Any], words: str
) -> None:
    """The error names the place; the service hears nothing."""
    service = done()
    with pytest.raises(wiro_async.InvalidInput, match=words):
        await client(service).submit(*arguments, **options)
    assert not service.calls


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (no(96, "up to 5 tasks at the same time"), wiro_async.ConcurrencyLimited),
        (no(97, "Insufficient balance"), wiro_async.InsufficientBalance),
        (no(98, "sign in to run this model"), wiro_async.TermsNotAccepted),
        (no(1, "tool-not-accessible"), wiro_async.ModelNotFound),
        (no(0, "Request parameter [prompt] required"), wiro_async.InvalidInput),
        (
            httpx.Response(401, json=no(0, "Project authorization is not valid.")),
            wiro_async.AuthenticationError,
        ),
        (httpx.Response(502, text="<html>"), wiro_async.SubmissionUnknown),
        (httpx.Response(200, text="<html>"), wiro_async.SubmissionUnknown),
        (httpx.ReadError("reset"), wiro_async.SubmissionUnknown),
        (ok(socketaccesstoken="but no id"), wiro_async.SubmissionUnknown),
    ],
    ids=repr,
)
async def test_a_run_that_brings_no_task_raises_what_is_known(fault: Any, error: type[Exception]) -> None:
    """Refused, or unknown; and it was sent once."""
    service = FakeService(Run=fault, Task_List=no(1, "There is no task yet."))
    with pytest.raises(error):
        await client(service).submit("owner/model", {"prompt": PROMPT}, slot_timeout=0)
    assert service.counts["Run"] == 1


async def test_an_unknown_submit_tells_what_to_look_for() -> None:
    """Model, digest and time are in the error, and survive a pickle."""
    with pytest.raises(wiro_async.SubmissionUnknown) as caught:
        await client(FakeService(Run=httpx.ReadError("reset"), Task_List=ok(tasklist=[]))).submit(
            "owner/model", {"b": 1, "a": 2}
        )
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.model, len(error.inputs_digest)) == ("owner/model", 64)
    assert error.submitted_at > 1.7e9
    assert "reset" in error.cause
    assert "client.reconcile" in str(error)
    assert not error.absent
    assert error.quiet_at > error.submitted_at


# -- run -------------------------------------------------------------------------------------------------


async def test_run_submits_and_waits() -> None:
    """One call from inputs to result."""
    result = await client(done(totalcost="0.28"), polling=FAST).run(Director(image=URL, prompt=PROMPT))
    assert str(result.cost) == "0.28"


async def test_run_times_out_with_the_handle() -> None:
    """The task goes on, and can be waited for."""
    service = FakeService(Run=ok(taskid="2221"), Task_Detail=ok(tasklist=[task()]))
    with pytest.raises(wiro_async.TaskTimeout) as caught:
        await client(service, polling=FAST).run("owner/model", {}, timeout=0.01)
    assert caught.value.handle is not None
    assert caught.value.handle.id == "2221"


async def test_a_timeout_that_is_no_number_is_refused_before_anything_is_paid() -> None:
    """A task whose wait can never begin is not wanted."""
    service = done()
    with pytest.raises(wiro_async.ConfigurationError, match=r"^timeout is nan; it must be"):
        await client(service).run("owner/model", {}, timeout=float("nan"))
    with pytest.raises(wiro_async.ConfigurationError, match=r"^slot_timeout is nan; it must be"):
        await client(service).submit("owner/model", {}, slot_timeout=float("nan"))
    assert not service.calls


@pytest.mark.virtual_time
@pytest.mark.parametrize("on_cancel", ["keep", "stop"])
async def test_a_run_cancelled_while_it_is_submitted_is_not_lost(
    on_cancel: wiro_async.OnCancel, caplog: pytest.LogCaptureFixture
) -> None:
    """The task that was accepted meanwhile is kept, or stopped, and always told of."""
    service = done()
    service.handlers["Task/Cancel"] = ok(tasklist=[task(status="task_cancel")])
    service.latency = 5.0
    caller = client(service)
    with caplog.at_level(logging.WARNING), anyio.move_on_after(1.0) as scope:
        await caller.run("owner/model", {}, on_cancel=on_cancel)
    assert scope.cancelled_caught
    (handle,) = caller.unclaimed
    assert handle.id == "2221"
    assert "task 2221 was left by its run()" in caplog.text
    assert service.counts == ({"Run": 1} if on_cancel == "keep" else {"Run": 1, "Task/Cancel": 1})


@pytest.mark.virtual_time
@pytest.mark.parametrize("on_cancel", ["keep", "stop"])
async def test_a_run_cancelled_while_it_waits_leaves_its_handle(
    on_cancel: wiro_async.OnCancel, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever called run() has no other way to the task, which may go on and be billed."""
    service = FakeService(
        Run=ok(taskid="2221"),
        Task_Detail=ok(tasklist=[task(status="task_start")]),
        Task_Cancel=ok(tasklist=[task(status="task_cancel")]),
    )
    caller = client(service, polling=FAST)
    with caplog.at_level(logging.WARNING), anyio.move_on_after(5.0) as scope:
        await caller.run("owner/model", {}, on_cancel=on_cancel)
    assert scope.cancelled_caught
    assert [handle.id for handle in caller.unclaimed] == ["2221"]
    assert "task 2221 was left" in caplog.text


@pytest.mark.virtual_time
async def test_a_run_that_may_not_look_leaves_its_handle() -> None:
    """A key that was rotated during the wait: the error is the look's, the task is not lost."""
    refused = httpx.Response(401, json=no(0, "Project authorization is not valid."))
    caller = client(FakeService(Run=ok(taskid="2221"), Task_Detail=refused), polling=FAST)
    with pytest.raises(wiro_async.AuthenticationError):
        await caller.run("owner/model", {})
    assert [handle.id for handle in caller.unclaimed] == ["2221"]


@pytest.mark.virtual_time
async def test_an_unknown_run_of_a_cancelled_caller_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is left to raise to, so the log has it."""
    service = FakeService(Run=httpx.ReadError("reset"), Task_List=ok(tasklist=[]))
    service.latency = 5.0
    caller = client(service)
    with caplog.at_level(logging.WARNING), anyio.move_on_after(1.0):
        await caller.submit("owner/model", {})
    assert caller.unclaimed == ()
    assert [error.model for error in caller.unresolved] == ["owner/model"]
    assert "may have been accepted" in caplog.text


# -- attach ----------------------------------------------------------------------------------------------


async def test_attach_takes_an_id_or_a_token() -> None:
    """A token may be a plain str from a database, or the Secret of another handle."""
    caller = client(timed_service())
    assert caller.attach("2221").id == "2221"
    assert caller.attach(task_id="2221", token="t").token == wiro_async.Secret("t")
    assert caller.attach(token=wiro_async.Secret("t")).token == wiro_async.Secret("t")
    for nothing in ({}, {"task_id": ""}, {"token": ""}):
        with pytest.raises(wiro_async.InvalidInput, match="id or its token"):
            caller.attach(**nothing)


async def test_reconcile_returns_the_handle_of_what_was_lost() -> None:
    """Or the doubt again, if it is not there."""
    service = FakeService(Run=httpx.ReadError("reset"), Task_List=no(1, "There is no task yet."))
    caller = client(service)
    with pytest.raises(wiro_async.SubmissionUnknown) as caught:
        await caller.submit("owner/model", {"prompt": PROMPT})
    caught.value.submitted_at -= 60
    with pytest.raises(wiro_async.SubmissionUnknown):
        await caller.reconcile(caught.value)
    service.handlers["Task/List"] = ok(tasklist=[task("77", parameters={"prompt": PROMPT})])
    assert (await caller.reconcile(caught.value)).id == "77"


# -- files and catalogue ---------------------------------------------------------------------------------


async def test_upload_returns_the_services_record() -> None:
    """By hand, with a name and a folder of one's own."""
    service = done()
    upload = await client(service).upload(b"\xff\xd8\xffjpeg", name="my photo.jpg", folder="77")
    assert (upload.url, upload.size) == ("https://api.wiro.ai/v1/File/f1", 3)
    body = service.calls[0][1]["body"]
    assert b'name="folderid"\r\n\r\n77\r\n' in body
    assert b'filename="my_photo-' in body


async def test_an_upload_without_an_address_is_no_upload() -> None:
    """A reply that names no file is an error."""
    service = FakeService(File_Upload=ok(list=[{"name": "x"}]))
    with pytest.raises(wiro_async.InvalidResponse, match="names no file"):
        await client(service).upload(b"abc")


async def test_tasks_are_listed_newest_first() -> None:
    """Paging and model go out as the official client sends them; what one page repeats comes once."""
    service = FakeService(
        Task_List=[
            ok(tasklist=[task("3"), task("2")]),
            ok(tasklist=[task("2"), task("1")]),
            ok(tasklist=[]),
        ]
    )
    listing = client(service).list_tasks(model="owner/model")
    assert [snapshot.id async for snapshot in listing] == ["3", "2", "1"]
    assert [(sent["start"], sent["limit"]) for _, sent in service.calls] == [
        ("0", "100"), ("2", "100"), ("4", "100"),
    ]  # fmt: skip
    assert service.calls[0][1] == {
        "type": "model", "sort": "id", "order": "DESC", "start": "0", "limit": "100",
        "modelName": "owner/model",
    }  # fmt: skip


async def test_a_list_without_tasks_is_empty() -> None:
    """The service answers as if the list itself were missing."""
    service = FakeService(Task_List=no(1, "There is no task yet."))
    assert [snapshot async for snapshot in client(service).list_tasks()] == []


async def test_the_catalogue_is_searched_and_shown() -> None:
    """A listing, and one model with its inputs."""
    tool = {"slugowner": "o", "slugproject": "m", "title": "M"}
    service = FakeService(
        Tool_List=ok(tool=[tool], total="1"),
        Tool_Detail=ok(
            tool=[{**tool, "parameters": [{"title": "", "items": [{"id": "prompt", "type": "text"}]}]}]
        ),
    )
    caller = client(service)
    listing = caller.list_models("m", category="image-to-video", limit=1)
    assert [model.slug async for model in listing] == ["o/m"]
    assert [item.name for item in (await caller.get_model("o/m")).inputs] == ["prompt"]
    assert service.calls[0][1]["categories"] == ["image-to-video"]
    service.handlers["Tool/Detail"] = ok(tool=[])
    with pytest.raises(wiro_async.ModelNotFound):
        await caller.get_model("o/m")


def test_a_client_tells_its_address() -> None:
    """A journal's user may want to know which service its tasks are at."""
    assert client(FakeService()).base_url == BASE


# -- closing ---------------------------------------------------------------------------------------------


async def test_a_client_works_with_and_without_a_block() -> None:
    """The block closes it; so does aclose(), any number of times."""
    service = done()
    async with client(service, polling=FAST) as caller:
        await caller.run("owner/model", {})
    assert service.closed
    await caller.aclose()
    with pytest.raises(wiro_async.ClientUseError, match="closed"):
        await caller.submit("owner/model", {})


async def test_the_block_lets_exceptions_through() -> None:
    """Nothing is wrapped in a group."""
    with pytest.raises(KeyError):
        async with client(done()):
            raise KeyError


def test_the_base_url_of_the_fake_is_loopback() -> None:
    """These tests talk to nobody."""
    assert BASE.startswith("http://127.0.0.1")


# -- listening -------------------------------------------------------------------------------------------

LOCAL = "http://127.0.0.1:9/v1"
SOCKET = "ws://127.0.0.1:9/v1"


async def test_a_client_listens_where_it_knows_how() -> None:
    """Over its own connections, at the service's own address or one that was given, and not elsewhere."""
    options: Any
    for options in ({}, {"base_url": LOCAL, "socket_url": SOCKET}, {"watch": "socket"}):
        listening = wiro_async.Client(KEY, SECRET, **options)
        assert listening._service.sockets is not None
        await listening.aclose()
    for options in ({"base_url": LOCAL}, {"transport": FakeService()}):
        polling = wiro_async.Client(KEY, SECRET, **options)
        assert polling._service.sockets is None
        await polling.aclose()


async def test_without_the_extra_auto_polls_and_socket_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, or where one task is to be listened to: before anything is paid."""
    monkeypatch.setitem(sys.modules, "websockets", None)
    async with wiro_async.Client(KEY, SECRET) as polling:
        assert polling._service.sockets is None
    with pytest.raises(ImportError, match=r"pip install '\.\[ws\]'"):
        wiro_async.Client(KEY, SECRET, watch="socket")
    service = done()
    async with client(service) as caller:
        with pytest.raises(ImportError, match=r"pip install '\.\[ws\]'"):
            await caller.submit("owner/model", {"prompt": PROMPT}, watch="socket")
    assert not service.calls


async def test_waiting_for_a_callback_takes_an_address() -> None:
    """For one task it is asked for; the habit of a client gives way to polling. Inputs can have it, too."""
    service, address = done(), "https://host/cb"
    async with client(service, watch="callback") as caller:
        with pytest.raises(wiro_async.InvalidInput, match="no callback_url"):
            await caller.submit("owner/model", {"prompt": PROMPT}, watch="callback")
        assert not service.calls
        for extra, url, watch in (
            ({}, None, "poll"),
            ({}, address, "callback"),
            ({"callbackUrl": address}, None, "callback"),
        ):
            handle = await caller.submit("owner/model", {"prompt": PROMPT, **extra}, callback_url=url)
            assert handle._state.watch == watch


async def test_one_task_can_be_listened_to_by_name() -> None:
    """With the extra there is nothing to complain of; over a transport of the caller's it is polled."""
    async with client(done()) as caller:
        handle = await caller.submit("owner/model", {"prompt": PROMPT}, watch="socket")
        await handle.wait()
        assert caller.statistics().finished == 1
    wrong: Any = "push"
    with pytest.raises(wiro_async.ConfigurationError, match="watch is 'push'"):
        await caller.submit("owner/model", {"prompt": PROMPT}, watch=wrong)


@pytest.mark.virtual_time
async def test_statistics_tell_who_waits_for_a_turn() -> None:
    """Requests beyond ``max_in_flight`` wait for a slot, and none of them is at the service."""
    service = done()
    service.latency = 5.0
    async with client(service, limits=wiro_async.Limits(max_in_flight=2)) as caller:
        assert (caller.statistics().in_flight, caller.statistics().waiting) == (0, 0)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(caller.attach(str(number)).refresh)
            await anyio.wait_all_tasks_blocked()
            assert (caller.statistics().in_flight, caller.statistics().waiting) == (2, 3)
        assert (caller.statistics().in_flight, caller.statistics().waiting) == (0, 0)
