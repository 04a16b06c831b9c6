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

import httpx
import pytest

from tests.conftest import KEY, SECRET
from tests.servers import wait_until
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

    def headings(self, beginning: str) -> list[str]:
        """The headings of commands that begin so."""
        return re.findall(rf"## ({re.escape(beginning)}[^`]*?) ```bash", self.text)

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


@pytest.mark.parametrize("name", ["01-director", "hailuo-01-subject"])
def test_the_documented_run_leads_to_the_documented_success(name: str) -> None:
    """The printed image stands for one of the sandbox's own, and a clip is rendered of it."""
    with Sandbox(api_key=KEY, api_secret=SECRET, speed=2000) as sandbox:
        document = Document(name, sandbox)
        task = document.execute(RUN)
        wait_until(lambda: sandbox.ledger()["paid"] == 1)
        detail = document.execute(document.headings("Get Task Detail")[0], task)["tasklist"][0]
        assert detail["callbackurl"].startswith("You can provide a callback URL")
        assert (detail["status"], detail["pexit"]) == ("task_postprocess_end", "0")
        (output,) = detail["outputs"]
        clip = httpx.get(output["url"], trust_env=False)
        assert (clip.content[4:8], str(len(clip.content))) == (b"ftyp", output["size"])


def test_another_image_that_is_no_url_fails(director: Document, clock: Clock) -> None:
    """The Run is accepted, the job fails, and costs nothing."""
    director.text = director.text.replace("underwater.jpeg", "holiday.jpeg")
    task = director.execute(RUN)
    clock.now += LATER
    detail = director.execute(DETAIL, task)["tasklist"][0]
    assert (detail["status"], detail["pexit"], detail["outputs"]) == ("task_postprocess_end", "1", [])
    assert "holiday.jpeg" in detail["debugoutput"]
    assert director.sandbox.ledger()["charged"] == "0.000000000000"


# -- the printed tasks -------------------------------------------------------------------------------------


def printed(document: Document, title: str) -> dict[str, Any]:
    """A sample reply. The documents' own quotes inside a JSON text make it invalid; they are mended."""
    block = document.block(title, "json")
    block = re.sub(r'"(\["tool".*?\])"', lambda match: json.dumps(match.group(1)), block)
    reply: dict[str, Any] = json.loads(block)
    return reply


def kinds(value: Any) -> Any:
    """The shape of a JSON value: names, and types."""
    if isinstance(value, dict):
        return {name: kinds(each) for name, each in value.items()}
    return [kinds(each) for each in value] if isinstance(value, list) else type(value).__name__


LINES = [
    ("01-director", DETAIL, "Get Task Detail - Response"),
    ("hailuo-01-subject", f"{DETAIL} with Task ID", "Get Task Detail - Response"),
    ("hailuo-01-subject", f"{DETAIL} with Socket Access Token", "Get Task Detail - Response"),
    ("hailuo-01-subject", f"{KILL} with Task ID", "Kill Task - Response"),
    ("hailuo-01-subject", f"{KILL} with Socket Access Token", "Kill Task - Response"),
    ("hailuo-01-subject", CANCEL, "Cancel Task - Response"),
]


@pytest.mark.parametrize(("name", "command", "sample"), LINES)
def test_each_printed_line_brings_the_printed_reply(name: str, command: str, sample: str) -> None:
    """On a fresh sandbox, field by field: names, types and values; only the CDN's host is our own."""
    with Sandbox(api_key=KEY, api_secret=SECRET, render=False, documented=True) as sandbox:
        document = Document(name, sandbox)
        reply = document.execute(command)
        expected = printed(document, sample)
        url = expected["tasklist"][0]["outputs"][0]["url"]
        own = url.replace("https://cdn1.wiro.ai", sandbox.cdn_url)
        expected["tasklist"][0]["outputs"][0]["url"] = own
        (task,), (wanted,) = reply.pop("tasklist"), expected.pop("tasklist")
        # A long form has what the documentation added to it since.
        assert {field: task[field] for field in wanted} == wanted
        assert reply == expected
        picture = httpx.get(own, trust_env=False)
        assert (len(picture.content), picture.headers["content-type"]) == (202472, "image/png")


@pytest.mark.parametrize("name", ["01-director", "hailuo-01-subject"])
def test_the_printed_run_brings_the_printed_fields(name: str) -> None:
    """Beside the printed tasks it is a new one: its id and token are its own."""
    with Sandbox(api_key=KEY, api_secret=SECRET, render=False, documented=True) as sandbox:
        document = Document(name, sandbox)
        reply = document.execute(RUN)
        assert kinds(reply) == kinds(printed(document, "Run Command - Response"))
        assert reply["taskid"] == "634575"


def test_the_printed_tasks_are_tasks_like_others() -> None:
    """They are listed, count as running, can be stopped once, and lose their files."""
    with (
        Sandbox(api_key=KEY, api_secret=None, render=False, documented=True) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers={"x-api-key": KEY}, trust_env=False) as http,
    ):

        def post(path: str, **body: str) -> dict[str, Any]:
            reply: dict[str, Any] = http.post(f"/{path}", json=body).json()
            return reply

        listed = post("Task/List")["tasklist"]
        assert [task["id"] for task in listed] == ["634574", "534574", "2221"]
        assert [task["status"] for task in listed] == ["task_queue", "task_start", "task_postprocess_end"]
        assert sandbox.ledger()["active"] == 2
        assert post("Task/Kill", taskid="534574")["result"] is True
        assert post("Task/Kill", taskid="534574")["result"] is False
        token = listed[2]["socketaccesstoken"]
        assert post("Task/InputOutputDelete", tasktoken=token)["result"] is True
        assert post("Task/Detail", taskid="2221")["tasklist"][0]["outputs"] == []
        assert http.get(listed[2]["outputs"][0]["url"]).status_code == 404


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
