"""The service's calls: what goes out, and that only a reply about the same task is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.strategies import TOKEN, sample
from wiro_async import InvalidInput, InvalidResponse, Secret, TaskNotFound
from wiro_async._protocol import operations as _operations
from wiro_async._protocol.operations import (
    CANCEL,
    DETAIL,
    KILL,
    LIST,
    TOOL_DETAIL,
    TOOL_LIST,
    UPLOAD,
    Operation,
    list_payload,
    run,
)
from wiro_async._protocol.records import Accepted, TaskKey, read_accepted, read_task, read_tasks
from wiro_async._types import Priority

ALL = [value for value in vars(_operations).values() if isinstance(value, Operation)]


def test_the_paths_are_the_services() -> None:
    """Each call below the base URL, by the name that errors use."""
    assert {operation.name: operation.path for operation in ALL} == {
        name: name
        for name in (
            "Task/Detail", "Task/List", "Task/Cancel", "Task/Kill", "Task/InputOutputDelete", "Tool/List",
            "Tool/Detail", "File/Upload",
        )
    }  # fmt: skip
    made = run("lightricks/ ltx-2.3")
    assert (made.name, made.path) == ("Run", "Run/lightricks/%20ltx-2.3")


def test_only_a_run_is_paid() -> None:
    """So only a Run is never repeated blindly, and gets no connection that has been idle for long."""
    assert run("a/b").paid
    assert run("a/b").max_idle == 2.0
    assert not any(operation.paid for operation in ALL)
    assert all(operation.max_idle == 5.0 for operation in ALL)


def test_stopping_goes_first() -> None:
    """Stopping saves money, submitting earns it, reading can wait."""
    assert sorted([DETAIL, run("a/b"), KILL], key=lambda operation: operation.priority) == [
        KILL,
        run("a/b"),
        DETAIL,
    ]
    assert Priority.STOP < Priority.RUN < Priority.READ
    assert CANCEL.priority == KILL.priority == Priority.STOP
    assert run("a/b").priority == Priority.RUN
    assert {operation.priority for operation in (DETAIL, LIST, TOOL_LIST, TOOL_DETAIL, UPLOAD)} == {
        Priority.READ
    }


@pytest.mark.parametrize("slug", ["a", "a/../b", "a/b?x", ""])
def test_a_run_of_no_model_is_refused(slug: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput):
        run(slug)


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "token_name", "payload"),
    [
        (TaskKey("2221"), "tasktoken", {"taskid": "2221"}),
        (TaskKey("2221", Secret("t")), "tasktoken", {"taskid": "2221"}),
        (TaskKey("2221", Secret("t")), "socketaccesstoken", {"taskid": "2221"}),
        (TaskKey(token=Secret("t")), "tasktoken", {"tasktoken": "t"}),
        (TaskKey(token=Secret("t")), "socketaccesstoken", {"socketaccesstoken": "t"}),
    ],
)
def test_a_key_becomes_a_payload(key: TaskKey, token_name: str, payload: dict[str, str]) -> None:
    """By the id where there is one; by the token under the name that the call has for it."""
    assert key.payload(token_name) == payload


def test_a_key_shows_its_id_only() -> None:
    """A token is not shown, by ``str`` or ``repr``."""
    assert str(TaskKey("2221", Secret(TOKEN))) == "2221"
    assert str(TaskKey(token=Secret(TOKEN))) == "known by its token only"
    assert TOKEN not in repr(TaskKey("2221", Secret(TOKEN)))


# -- answers to a Run ------------------------------------------------------------------------------------


def test_the_documents_acceptance_is_read() -> None:
    """The id and the token of the new task, which the record does not show."""
    accepted = read_accepted(sample("run"))
    assert accepted == Accepted("2221", Secret("eDcCm5yyUfIvMFspTwww49OUfgXkQt"))
    assert "eDcC" not in repr(accepted)


@pytest.mark.parametrize(
    ("payload", "accepted"),
    [
        ({"taskid": 2221, "socketaccesstoken": "t"}, Accepted("2221", Secret("t"))),
        ({"taskid": 22210000.0}, Accepted("22210000", None)),
        ({"taskid": "2221", "socketaccesstoken": None}, Accepted("2221", None)),
        ({"taskid": "2221", "socketaccesstoken": ""}, Accepted("2221", None)),
        ({"taskid": "2221", "socketaccesstoken": "t\ud800"}, Accepted("2221", None)),
    ],
)
def test_a_loose_acceptance_is_read(payload: dict[str, Any], accepted: Accepted) -> None:
    """The id may be a number, and the token may be missing: the task is not lost for that."""
    assert read_accepted(payload) == accepted


@pytest.mark.parametrize(
    "payload",
    [
        *({}, {"taskid": None}, {"taskid": ""}, {"taskid": []}, {"taskid": {}}),
        {"taskid": "1\udfff"},
        {"socketaccesstoken": "t"},
    ],
)
def test_an_acceptance_without_a_task_is_none(payload: dict[str, Any]) -> None:
    """It is not the protocol, and leaves open whether a task was made."""
    with pytest.raises(InvalidResponse, match="names no task id") as caught:
        read_accepted(payload)
    assert (caught.value.operation, caught.value.http_status) == ("Run", 200)


# -- answers about a task --------------------------------------------------------------------------------


def about(*ids: object, **fields: Any) -> dict[str, Any]:
    """Return a payload about tasks with these ids."""
    return {
        "tasklist": [
            {"id": each, "status": "task_start", "socketaccesstoken": f"t{each}", **fields} for each in ids
        ]
    }


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (about("2221"), TaskKey("2221")),
        (about(2221), TaskKey("2221")),
        (about(2221.0), TaskKey("2221")),
        (about("2221"), TaskKey("2221", Secret("another"))),
        (about("2221"), TaskKey(token=Secret("t2221"))),
        (about("7", "2221"), TaskKey("2221")),
        (about("7", "2221"), TaskKey(token=Secret("t2221"))),
        ({"tasklist": json.dumps(about("2221")["tasklist"])}, TaskKey("2221")),
    ],
)
def test_the_task_that_was_asked_for_is_read(payload: dict[str, Any], key: TaskKey) -> None:
    """By its id, or by its token where that is all we have; the first place is not required."""
    assert read_task(DETAIL, payload, key).id == "2221"


def test_a_token_that_is_known_is_not_kept_twice() -> None:
    """Each look tells it again; another one is kept as it is told."""
    known, another = Secret("t2221"), Secret("another")
    assert read_task(DETAIL, about("2221"), TaskKey("2221", known)).token is known
    assert read_task(DETAIL, about("2221"), TaskKey("2221", another)).token == known


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (about("2222"), TaskKey("2221")),
        (about("22210"), TaskKey("2221")),
        (about("2222", "2223"), TaskKey("2221")),
        (about("2221"), TaskKey(token=Secret("t7"))),
        (about(None), TaskKey("2221")),
        (about(""), TaskKey("2221")),
        ({"tasklist": [{}]}, TaskKey("2221")),
        ({"tasklist": [{}]}, TaskKey(token=Secret("t2221"))),
        ({"tasklist": [{}]}, TaskKey()),
        (about("2222", socketaccesstoken="t2221"), TaskKey("2221", Secret("t2221"))),
        ({}, TaskKey("2221")),
        (sample("run"), TaskKey("2221")),
        ({"total": "0", "tool": []}, TaskKey("2221")),
    ],
)
def test_a_reply_about_anything_else_is_refused(payload: dict[str, Any], key: TaskKey) -> None:
    """What was left over on a connection is not taken for the answer, nor for the task's absence."""
    with pytest.raises(
        InvalidResponse, match=r"^Task/Detail: asked for task .*, the reply (is about|has no)"
    ) as caught:
        read_task(DETAIL, payload, key)
    assert caught.value.operation == "Task/Detail"
    assert "t2221" not in str(caught.value)


@pytest.mark.parametrize("tasklist", [[], None, "", "[]", {}, [None], ["x"]])
def test_an_empty_list_means_that_there_is_no_such_task(tasklist: object) -> None:
    """With the operation, and the key as far as it may be shown."""
    with pytest.raises(TaskNotFound, match="Task/Kill: there is no task 2221 under this project"):
        read_task(KILL, {"tasklist": tasklist}, TaskKey("2221"))
    with pytest.raises(TaskNotFound, match="no task known by its token only"):
        read_task(KILL, {"tasklist": tasklist}, TaskKey(token=Secret(TOKEN)))


@pytest.mark.parametrize(
    ("name", "operation", "task_id"),
    [("detail", DETAIL, "2221"), ("kill", KILL, "534574"), ("cancel", CANCEL, "634574")],
)
def test_the_documents_replies_are_read(name: str, operation: Operation, task_id: str) -> None:
    """Detail, Kill and Cancel all answer with the task."""
    assert read_task(operation, sample(name), TaskKey(task_id)).id == task_id


def test_every_task_of_a_list_is_read() -> None:
    """In the order of the reply; what is no object is left out."""
    payload = {"tasklist": [*about("3", "2")["tasklist"], None, *about("1")["tasklist"]]}
    assert [task.id for task in read_tasks(payload)] == ["3", "2", "1"]
    assert read_tasks({"tasklist": None}) == []


def test_a_reply_without_a_list_is_no_empty_list() -> None:
    """Another call's answer must not prove that a task does not exist."""
    with pytest.raises(InvalidResponse, match="no tasklist"):
        read_tasks({"taskid": "1"})


def test_a_list_is_asked_for_in_strings() -> None:
    """Newest first, as the official client asks; a model only when one is named."""
    asked = {"type": "model", "sort": "id", "order": "DESC", "start": "0", "limit": "20"}
    assert list_payload(None, 0, 20) == asked
    assert list_payload("a/b", 40, 5) == {**asked, "start": "40", "limit": "5", "modelName": "a/b"}
