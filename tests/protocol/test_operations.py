"""The service's calls: what goes out, and that only a reply about the same task is believed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

from tests.fakes import FakeService, client, no, ok
from tests.fakes import task as wire
from tests.strategies import TOKEN, sample
from wiro_async import (
    APIError,
    Client,
    InvalidInput,
    InvalidResponse,
    Limits,
    Secret,
    SubmissionUnknown,
    Task,
    TaskHandle,
    TaskNotFound,
)

MODEL = "lightricks/ ltx-2.3"

CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "Task/Detail": lambda caller: caller.attach("2221").refresh(),
    "Task/List": lambda caller: anext(caller.list_tasks()),
    "Task/Cancel": lambda caller: caller.attach("2221").cancel(),
    "Task/Kill": lambda caller: caller.attach("2221").kill(),
    "Task/InputOutputDelete": lambda caller: caller.attach("2221", token="t").delete_files(),
    "Tool/List": lambda caller: anext(caller.list_models()),
    "Tool/Detail": lambda caller: caller.get_model("a/b"),
    "File/Upload": lambda caller: caller.upload(b"x"),
    "Run": lambda caller: caller.submit(MODEL, {}),
}


@pytest.mark.parametrize("name", CALLS)
async def test_the_calls_are_the_services(name: str) -> None:
    """Each call below the base URL, by the name that errors use.

    A Run, which must never be repeated blindly, gets no connection that has been idle for long.
    """
    # A Run is repeated as little as any call here, but looked for if the refusal were not a known one.
    code = 1 if name == "Run" else 12345
    service = FakeService(**{name.replace("/", "_"): no(code, "no")})
    async with client(service) as caller:
        with pytest.raises(APIError) as caught:
            await CALLS[name](caller)
    (request,) = service.requests
    assert caught.value.operation == name
    path = "Run/lightricks/%20ltx-2.3" if name == "Run" else name
    assert request.url.raw_path == b"/v1/" + path.encode()
    assert request.extensions["wiro_async.max_idle"] == (2.0 if name == "Run" else 5.0)


@pytest.mark.virtual_time
async def test_stopping_goes_first() -> None:
    """Stopping saves money, submitting earns it, reading can wait."""
    service = FakeService(
        Run=ok(taskid="1"),
        Task_Cancel=ok(tasklist=[wire()]),
        Task_Kill=ok(tasklist=[wire()]),
        Task_Detail=ok(tasklist=[wire()]),
        Task_List=ok(tasklist=[wire()]),
        Tool_List=ok(tool=[{}]),
        Tool_Detail=ok(tool=[{}]),
    )
    service.latency = 1.0
    reads = ["Task/Detail", "Task/List", "Tool/List", "Tool/Detail"]
    async with client(service, limits=Limits(max_in_flight=1)) as caller, anyio.create_task_group() as group:

        async def call(name: str) -> None:
            await CALLS[name](caller)

        for name in ("Task/Detail", *reads, "Run", "Task/Cancel", "Task/Kill"):
            group.start_soon(call, name)
            await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
    assert [name for name, _ in service.calls] == ["Task/Detail", "Task/Cancel", "Task/Kill", "Run", *reads]


@pytest.mark.parametrize("slug", ["a", "a/../b", "a/b?x", ""])
async def test_a_run_of_no_model_is_refused(slug: str) -> None:
    """Before anything is sent."""
    service = FakeService()
    async with client(service) as caller:
        with pytest.raises(InvalidInput):
            await caller.submit(slug, {})
    assert not service.calls


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "call", "payload"),
    [
        ({"task_id": "2221"}, TaskHandle.refresh, {"taskid": "2221"}),
        ({"task_id": "2221", "token": "t"}, TaskHandle.refresh, {"taskid": "2221"}),
        ({"task_id": "2221", "token": "t"}, TaskHandle.kill, {"taskid": "2221"}),
        ({"token": "t"}, TaskHandle.refresh, {"tasktoken": "t"}),
        ({"token": "t"}, TaskHandle.kill, {"socketaccesstoken": "t"}),
    ],
)
async def test_a_key_becomes_a_payload(
    key: dict[str, str], call: Callable[[TaskHandle], Awaitable[Task]], payload: dict[str, str]
) -> None:
    """By the id where there is one; by the token under the name that the call has for it."""
    reply = ok(tasklist=[wire(socketaccesstoken="t")])
    service = FakeService(Task_Detail=reply, Task_Kill=reply, Task_Cancel=reply)
    async with client(service) as caller:
        await call(caller.attach(**key))
    assert service.calls[0][1] == payload


# -- answers to a Run ------------------------------------------------------------------------------------


def answer(payload: dict[str, Any]) -> httpx.Response:
    """Return a reply in ASCII, so that it can hold half a surrogate pair."""
    return httpx.Response(200, content=json.dumps(payload).encode())


async def submitted(payload: dict[str, Any]) -> TaskHandle:
    """Return the handle of a task that was accepted so."""
    service = FakeService(Run=answer(ok(**payload)), Task_List=ok(tasklist=[]))
    async with client(service, limits=Limits(settle_timeout=0.01)) as caller:
        return await caller.submit("a/b", {})


async def test_the_documents_acceptance_is_read() -> None:
    """The id and the token of the new task, which the handle does not show."""
    handle = await submitted(sample("run"))
    assert (handle.id, handle.token) == ("2221", Secret("eDcCm5yyUfIvMFspTwww49OUfgXkQt"))
    assert "eDcC" not in repr(handle)


@pytest.mark.parametrize(
    ("payload", "task_id", "token"),
    [
        ({"taskid": 2221, "socketaccesstoken": "t"}, "2221", Secret("t")),
        ({"taskid": 22210000.0}, "22210000", None),
        ({"taskid": "2221", "socketaccesstoken": None}, "2221", None),
        ({"taskid": "2221", "socketaccesstoken": ""}, "2221", None),
        ({"taskid": "2221", "socketaccesstoken": "t\ud800"}, "2221", None),
    ],
)
async def test_a_loose_acceptance_is_read(
    payload: dict[str, Any], task_id: str, token: Secret | None
) -> None:
    """The id may be a number, and the token may be missing: the task is not lost for that."""
    handle = await submitted(payload)
    assert (handle.id, handle.token) == (task_id, token)


@pytest.mark.parametrize(
    "payload",
    [
        *({}, {"taskid": None}, {"taskid": ""}, {"taskid": []}, {"taskid": {}}),
        {"taskid": "1\udfff"},
        {"socketaccesstoken": "t"},
    ],
)
async def test_an_acceptance_without_a_task_is_none(payload: dict[str, Any]) -> None:
    """It is not the protocol, and leaves open whether a task was made."""
    with pytest.raises(SubmissionUnknown, match="names no task id"):
        await submitted(payload)


# -- answers about a task --------------------------------------------------------------------------------


def about(*ids: object, **fields: Any) -> dict[str, Any]:
    """Return a payload about tasks with these ids."""
    return {
        "tasklist": [
            {"id": each, "status": "task_start", "socketaccesstoken": f"t{each}", **fields} for each in ids
        ]
    }


async def refreshed(payload: dict[str, Any], task_id: str | None, token: Secret | None = None) -> Task:
    """Return the task that is read out of a Detail's answer."""
    async with client(FakeService(Task_Detail=ok(**payload))) as caller:
        return await caller.attach(task_id, token=token).refresh()


@pytest.mark.parametrize(
    ("payload", "task_id", "token"),
    [
        (about("2221"), "2221", None),
        (about(2221), "2221", None),
        (about(2221.0), "2221", None),
        (about("2221"), "2221", Secret("another")),
        (about("2221"), None, Secret("t2221")),
        (about("7", "2221"), "2221", None),
        (about("7", "2221"), None, Secret("t2221")),
        ({"tasklist": json.dumps(about("2221")["tasklist"])}, "2221", None),
    ],
)
async def test_the_task_that_was_asked_for_is_read(
    payload: dict[str, Any], task_id: str | None, token: Secret | None
) -> None:
    """By its id, or by its token where that is all we have; the first place is not required."""
    assert (await refreshed(payload, task_id, token)).id == "2221"


async def test_a_token_that_is_known_is_not_kept_twice() -> None:
    """Each look tells it again; another one is kept as it is told."""
    known, another = Secret("t2221"), Secret("another")
    assert (await refreshed(about("2221"), "2221", known)).token is known
    assert (await refreshed(about("2221"), "2221", another)).token == known


@pytest.mark.parametrize(
    ("payload", "task_id", "token"),
    [
        (about("2222"), "2221", None),
        (about("22210"), "2221", None),
        (about("2222", "2223"), "2221", None),
        (about("2221"), None, Secret("t7")),
        (about(None), "2221", None),
        (about(""), "2221", None),
        ({"tasklist": [{}]}, "2221", None),
        ({"tasklist": [{}]}, None, Secret("t2221")),
        (about("2222", socketaccesstoken="t2221"), "2221", Secret("t2221")),
        ({}, "2221", None),
        (sample("run"), "2221", None),
        ({"total": "0", "tool": []}, "2221", None),
    ],
)
async def test_a_reply_about_anything_else_is_refused(
    payload: dict[str, Any], task_id: str | None, token: Secret | None
) -> None:
    """What was left over on a connection is not taken for the answer, nor for the task's absence."""
    with pytest.raises(
        InvalidResponse, match=r"^Task/Detail: asked for task .*, the reply (is about|has no)"
    ) as caught:
        await refreshed(payload, task_id, token)
    assert (caught.value.operation, caught.value.http_status) == ("Task/Detail", 200)
    assert "t2221" not in str(caught.value)


@pytest.mark.parametrize("tasklist", [[], None, "", "[]", {}, [None], ["x"]])
async def test_an_empty_list_means_that_there_is_no_such_task(tasklist: object) -> None:
    """With the operation, and the key as far as it may be shown."""
    async with client(FakeService(Task_Detail=ok(tasklist=tasklist))) as caller:
        with pytest.raises(
            TaskNotFound, match="Task/Detail: there is no task 2221 under this project"
        ) as caught:
            await caller.attach("2221").refresh()
        assert (caught.value.operation, caught.value.http_status) == ("Task/Detail", 200)
        with pytest.raises(TaskNotFound, match="no task known by its token only") as caught:
            await caller.attach(token=TOKEN).refresh()
    assert TOKEN not in repr(caught.value)


async def test_the_documents_replies_are_read() -> None:
    """Detail, Kill and Cancel all answer with the task."""
    service = FakeService(
        Task_Detail=sample("detail"), Task_Kill=sample("kill"), Task_Cancel=sample("cancel")
    )
    async with client(service) as caller:
        assert (await caller.attach("2221").refresh()).id == "2221"
        assert (await caller.attach("534574").kill()).id == "534574"
        assert (await caller.attach("634574").cancel()).id == "634574"


async def listed(*pages: dict[str, Any]) -> list[str]:
    """Return the ids of a project's tasks."""
    async with client(FakeService(Task_List=[*pages, ok(tasklist=[])])) as caller:
        return [task.id async for task in caller.list_tasks()]


async def test_every_task_of_a_list_is_read() -> None:
    """In the order of the reply; what is no object is left out."""
    payload = {"tasklist": [*about("3", "2")["tasklist"], None, *about("1")["tasklist"]]}
    assert await listed(ok(**payload)) == ["3", "2", "1"]
    assert await listed(ok(tasklist=None)) == []


async def test_a_reply_without_a_list_is_no_empty_list() -> None:
    """Another call's answer must not prove that a task does not exist."""
    with pytest.raises(InvalidResponse, match="no tasklist") as caught:
        await listed(ok(taskid="1"))
    assert (caught.value.operation, caught.value.http_status) == ("Task/List", 200)


async def test_a_list_is_asked_for_in_strings() -> None:
    """Newest first, as the official client asks; a model only when one is named."""
    service = FakeService(Task_List=[ok(**about("1")), ok(tasklist=[])])
    async with client(service) as caller:
        assert [task.id async for task in caller.list_tasks(limit=20)] == ["1"]
        assert [task.id async for task in caller.list_tasks(model="a/b", limit=5)] == []
    asked = {"type": "model", "sort": "id", "order": "DESC", "start": "0", "limit": "20"}
    assert service.calls[0] == ("Task/List", asked)
    assert service.calls[-1] == ("Task/List", {**asked, "limit": "5", "modelName": "a/b"})
