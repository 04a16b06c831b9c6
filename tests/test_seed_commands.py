"""The documents' own shell commands, run as they stand against the sandbox."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEY, SECRET
from wiro_async.sandbox import Sandbox

DATA = Path(__file__).parent / "data"
SAMPLE_IDS = re.compile(r"\b(?:2221|534574|634574)\b")
SAMPLE_TOKENS = re.compile(r"eDcCm5yyUfIvMFspTwww49OUfgXkQt|ZpYote30on42O4jjHXNiKmrWAZqbRE")
LATER = 3600.0

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "openssl"))),
    reason="the documents' commands need bash, curl and openssl",
)


class Document:
    """One of the two documents, and the sandbox that its commands are sent to."""

    def __init__(self, name: str, sandbox: Sandbox) -> None:
        self.text = (DATA / f"image-to-video-{name}.txt").read_text(encoding="utf-8")
        self.sandbox = sandbox
        self.commands = re.findall(r"```bash (.*?) ```", self.text, re.DOTALL)

    def execute(self, title: str, task: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the command below a heading; only host, keys and the sample's ids and tokens are replaced."""
        prepare, command = self.block("Integration Header Prepare"), self.block(title)
        prepare = prepare.replace("{{useSelectedProjectAPIKey}}", KEY).replace("XXXXXXXXX", SECRET)
        # The export has its comment's lines and statements on one line: a comment would swallow the rest.
        prepare = re.sub(r"# .*?(?=export)", "", prepare)
        command = command.replace("https://api.wiro.ai/v1", self.sandbox.base_url)
        if task is not None:
            command = SAMPLE_IDS.sub(task["taskid"], command)
            command = SAMPLE_TOKENS.sub(task["socketaccesstoken"], command)
        done = subprocess.run(
            ["bash", "-c", f"{prepare}\n{command}"],
            env={**os.environ, "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply

    def block(self, title: str, language: str = "bash") -> str:
        """The code below a heading."""
        match = re.search(rf"## {re.escape(title)} ```{language} (.*?) ```", self.text, re.DOTALL)
        assert match, f"the document has no {language} block under {title!r}"
        return match.group(1)

    def keys(self, title: str) -> set[str]:
        """The names in a sample reply, which is not always valid JSON."""
        return set(re.findall(r'"(\w+)":', self.block(title, "json"))) - {"inputImage"}


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_734_513_807.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The sandbox's time."""
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    """A sandbox with the tests' key pair."""
    with Sandbox(api_key=KEY, api_secret=SECRET, clock=clock, render=False) as sandbox:
        yield sandbox


@pytest.fixture
def director(sandbox: Sandbox) -> Document:
    """The first document."""
    return Document("01-director", sandbox)


@pytest.fixture
def subject(sandbox: Sandbox) -> Document:
    """The second document."""
    return Document("hailuo-01-subject", sandbox)


def names_in(value: Any) -> set[str]:
    """All names of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


RUN = "Run Command - Make HTTP Post Request"
DETAIL = "Get Task Detail - Make HTTP Post Request"
KILL = "Kill Task - Make HTTP Post Request"
CANCEL = "Cancel Task - Make HTTP Post Request (For tasks on queue)"


def test_every_command_of_the_documents_is_covered(director: Document, subject: Document) -> None:
    """The documents hold three and seven commands, and this file runs each of them."""
    assert (len(director.commands), len(subject.commands)) == (3, 7)


@pytest.mark.parametrize("name", ["01-director", "hailuo-01-subject"])
def test_run_is_accepted_and_answered_as_documented(name: str, sandbox: Sandbox) -> None:
    """Run's reply has exactly the sample's members, of the sample's types."""
    document = Document(name, sandbox)
    reply = document.execute(RUN)
    sample = json.loads(document.block("Run Command - Response", "json"))
    assert set(reply) == set(sample)
    assert (reply["taskid"], reply["result"], reply["errors"]) == ("2221", True, [])
    assert re.fullmatch(r"[A-Za-z0-9]{30}", reply["socketaccesstoken"])


def test_the_sample_inputs_are_kept_and_their_image_fails_later(director: Document, clock: Clock) -> None:
    """``underwater.jpeg`` is no URL: the Run is accepted, the job fails, and costs nothing."""
    task = director.execute(RUN)
    clock.now += LATER
    detail = director.execute(DETAIL, task)["tasklist"][0]
    assert detail["parameters"]["inputImageFirstUrl"] == "underwater.jpeg"
    assert detail["callbackurl"].startswith("You can provide a callback URL")
    assert (detail["status"], detail["pexit"], detail["outputs"]) == ("task_postprocess_end", "1", [])
    assert "underwater.jpeg" in detail["debugoutput"]
    assert director.sandbox.ledger()["charged"] == "0.000000000000"


def test_the_director_detail_sample_with_its_broken_json_is_understood(director: Document) -> None:
    """The shell eats the quotes around the token and leaves a trailing comma; the task is found."""
    task = director.execute(RUN)
    reply = director.execute(DETAIL, task)
    assert reply["tasklist"][0]["id"] == task["taskid"]


@pytest.mark.parametrize("by", ["Task ID", "Socket Access Token"])
def test_detail_has_every_documented_member(by: str, subject: Document, clock: Clock) -> None:
    """Detail finds the task either way; all members of the sample are there."""
    task = subject.execute(RUN)
    title = f"Get Task Detail - Make HTTP Post Request with {by}"
    reply = subject.execute(title, task)
    assert reply["total"] == "1"
    assert reply["tasklist"][0]["status"] == "task_queue"
    subject.sandbox.engine.steer(task["taskid"], "fail", clock.now)
    missing = subject.keys("Get Task Detail - Response") - names_in(reply)
    assert missing <= {
        "name",
        "contenttype",
        "parentid",
        "size",
        "addedtime",
        "modifiedtime",
        "accesskey",
        "url",
    }


@pytest.mark.parametrize("by", ["Task ID", "Socket Access Token"])
def test_kill_stops_a_running_task(by: str, subject: Document, clock: Clock) -> None:
    """Kill answers with the task, cancelled, in the documented long form; a second Kill is refused."""
    task = subject.execute(RUN)
    subject.sandbox.engine.steer(task["taskid"], "hang", clock.now)
    title = f"{KILL} with {by}"
    reply = subject.execute(title, task)
    assert (reply["result"], reply["errors"]) == (True, [])
    assert reply["tasklist"][0]["status"] == "task_cancel"
    outputs = {"accesskey", "addedtime", "contenttype", "expiretime", "filecount", "foldercount", "ispublic"}
    missing = subject.keys("Kill Task - Response") - names_in(reply)
    assert missing <= outputs | {"modifiedtime", "parentid", "url"}
    again = subject.execute(title, task)
    assert again["result"] is False
    assert again["errors"] == [{"code": 1, "message": "Task could not be killed: it has ended"}]


def test_cancel_stops_a_queued_task(subject: Document) -> None:
    """Cancel answers with the task, cancelled, and the task stays so."""
    task = subject.execute(RUN)
    reply = subject.execute(CANCEL, task)
    assert (reply["result"], reply["tasklist"][0]["status"]) == (True, "task_cancel")
    detail = subject.execute("Get Task Detail - Make HTTP Post Request with Task ID", task)
    assert detail["tasklist"][0]["status"] == "task_cancel"


def test_a_wrong_secret_is_refused(director: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature of the shell recipe is really verified."""
    monkeypatch.setattr(f"{__name__}.SECRET", "another")
    reply = director.execute(RUN)
    assert reply["errors"] == [{"code": 0, "message": "Project authorization is not valid."}]
