"""Replies about a task that was not asked about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wiro_async.sandbox import SandboxConfig
from wiro_async.sandbox._catalogue import Catalogue
from wiro_async.sandbox._foreign import foreign_reply
from wiro_async.sandbox._service import Service
from wiro_async.sandbox._wire import body_of, envelope
from wiro_async.sandbox.faults import Request


@pytest.fixture(scope="module")
def service() -> Service:
    """Two tasks of one project."""
    service = Service(
        SandboxConfig(api_key="k", api_secret=None, render=False), Catalogue.load(), lambda: 1e9
    )
    project = service.gate.project("k")
    found = service.operation(["Run", "MiniMax", "image-to-video-01-director"])
    assert project is not None
    assert found is not None
    for number in range(2):
        found[1](project, {"inputImageFirstUrl": "http://127.0.0.1/x.png", "prompt": str(number)})
    return service


def foreign(service: Service, operation: str, true: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Ask for a foreign reply and decode it."""
    headers = {"x-api-key": options.pop("key", "k")}
    request = Request(operation=operation, number=1, method="POST", path="/", headers=headers, body=b"")
    reply = foreign_reply(service, request, envelope(true), invented=options.pop("invented", False))
    answer: dict[str, Any] = json.loads(body_of(reply))
    assert (answer["result"], answer["errors"]) == (True, [])
    return answer


def test_a_run_gets_another_task_s_id_and_token(service: Service) -> None:
    """The newest one's that is not its own."""
    answer = foreign(service, "Run", {"taskid": "2222", "socketaccesstoken": "t"})
    assert answer["taskid"] == "2221"
    assert len(answer["socketaccesstoken"]) == 30


def test_a_question_about_a_task_gets_another_one(service: Service) -> None:
    """In the long form, and of the same project."""
    answer = foreign(service, "Task/Detail", {"tasklist": [{"id": "2222"}]})
    assert answer["total"] == "1"
    assert [(task["id"], task["parameters"]["prompt"]) for task in answer["tasklist"]] == [("2221", "0")]
    assert foreign(service, "Task/Kill", {})["tasklist"][0]["id"] == "2222"


@pytest.mark.parametrize(
    "options", [{"invented": True}, {"key": "unknown"}], ids=["on request", "for want of another"]
)
def test_a_task_can_be_invented(service: Service, options: dict[str, Any]) -> None:
    """It is like the true one but for what names it, and the same each time."""
    true = {"tasklist": [{"id": "2221", "uuid": "u", "status": "task_start", "callbackurl": "c"}]}
    answer = foreign(service, "Task/Detail", true, **options)
    assert answer == foreign(service, "Task/Detail", true, **options)
    task = answer["tasklist"][0]
    assert task["status"] == "task_start"
    assert (task["callbackurl"], len(task["socketaccesstoken"])) == ("", 30)
    assert task["uuid"] != "u"
    assert foreign(service, "Run", {"taskid": "2221"}, **options)["taskid"] != "2221"


def test_without_another_task_one_is_invented(service: Service) -> None:
    """A list of all tasks leaves none to confuse it with."""
    answer = foreign(service, "Task/List", {"tasklist": [{"id": "2222"}, {"id": "2221"}]})
    assert answer["tasklist"][0]["id"] not in {"2221", "2222"}
