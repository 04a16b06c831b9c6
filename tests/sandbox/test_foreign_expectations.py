"""What other people's clients expect of a reply, each with its source: the data is beside the tests."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from wiro_async.sandbox import Sandbox

TABLE = tomllib.loads(
    (Path(__file__).parent.parent / "data" / "foreign_expectations.toml").read_text(encoding="utf-8")
)
TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "list": list}
MISSING = object()
MODELS = {"answered": "openai/gpt-5-mini"}


class Scene:
    """A sandbox in which something has happened; ``id`` and ``token`` are its task's."""

    def __init__(self, name: str, sandbox: Sandbox, http: httpx.Client) -> None:
        self.id = self.token = ""
        self._sandbox = sandbox
        self._http = http
        if name in {"fresh", "documented"}:
            return
        model = MODELS.get(name, "MiniMax/image-to-video-01-director")
        prompt = {"queued": "[sandbox:queue]", "cancelled": "[sandbox:queue]"}.get(name, "why?")
        reply = self.ask(f"Run/{model}", {"prompt": prompt, "inputImageFirstUrl": "underwater.jpeg"}).json()
        self.id, self.token = reply["taskid"], reply["socketaccesstoken"]
        steer = {"running": "hang", "ended": "finish", "answered": "finish"}
        if name in steer:
            sandbox.engine.steer(self.id, steer[name], sandbox._clock())  # type: ignore[arg-type]
        if name == "cancelled":
            self.ask("Task/Cancel", {"taskid": self.id})

    def ask(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Call an operation, with the task's id and token in place of their marks."""
        marked = json.dumps(body).replace("{id}", self.id).replace("{token}", self.token)
        return self._http.post(f"{self._sandbox.base_url}/{path}", json=json.loads(marked))


def found(reply: Any, place: str) -> Any:
    """The value at a place such as ``tasklist.0.id``."""
    for step in place.split("."):
        if isinstance(reply, list):
            reply = reply[int(step)]
        elif step in reply:
            reply = reply[step]
        else:
            return MISSING
    return reply


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value is what is expected of it."""
    if not isinstance(wanted, str):
        return type(value) is type(wanted) and value == wanted
    kind, _, rest = wanted.partition(" ")
    if kind == "a" and rest in TYPES:
        return type(value) is TYPES[rest]
    if kind == "like":
        return isinstance(value, str) and re.match(rest, value) is not None
    return bool({"absent": value is MISSING, "none": value is None}.get(wanted, value == wanted))


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=f"{each['source']}: {each['what']}") for each in TABLE["expectation"]]
)
def test_a_reply_is_what_others_expect(case: dict[str, Any]) -> None:
    """Place by place."""
    assert case["source"] in TABLE["sources"]
    options: dict[str, Any] = {"documented": case["scene"] == "documented"}
    with (
        Sandbox(api_key="k", api_secret=None, render=False, price=0.28, **options) as sandbox,
        httpx.Client(headers={"x-api-key": "k"}, trust_env=False) as http,
    ):
        scene = Scene(case["scene"], sandbox, http)
        response = scene.ask(case["path"], case["body"])
        assert response.status_code == case.get("status", 200)
        reply = response.json()
        for place, wanted in case["expect"].items():
            expected = scene.id if wanted == "{id}" else wanted
            assert fits(found(reply, place), expected), (place, found(reply, place), expected)


def test_a_socket_answers_an_unknown_token_in_the_services_spelling() -> None:
    """Source: the documentation of the WebSocket (Wiro-Docs, April 2026)."""
    with Sandbox(render=False) as sandbox, connect(sandbox.socket_url, proxy=None) as client:
        client.recv(timeout=20)
        client.send(json.dumps({"type": "task_info", "tasktoken": "nobody's"}))
        assert json.loads(client.recv(timeout=20))["message"] == "task-not-founded"
