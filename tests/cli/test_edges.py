"""The command line at its edges: closed and narrow streams, early interruptions, inputs in the wrong form."""

from __future__ import annotations

import importlib.abc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.cli_tools import DIRECTOR, Wiro, be_a_terminal, name_in_environment
from tests.cli_tools import wiro as wiro
from tests.servers import wait_until
from wiro_async.cli import main
from wiro_async.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "wiro_async")
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The service that the commands talk to."""
    with Sandbox(speed=1000, render=False) as sandbox:
        name_in_environment(sandbox, monkeypatch)
        yield sandbox


def started(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a process of its own; *shell* is what a shell puts behind it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WIRO_API_KEY": "k", **environment}
    command = [*PROGRAM, *words] if not shell else ["sh", "-c", f'"$@" {shell}', "sh", *PROGRAM, *words]
    return subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [("--help",), ("tasks", "--base-url", NOWHERE), ("tasks", "--json")])
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(words: tuple[str, ...], closed: str) -> None:
    """As a daemon has them: the command does its work, and ends with its own code."""
    ended = started(*words, shell=closed, WIRO_BASE_URL=NOWHERE)
    assert ended.returncode == (0 if words == ("--help",) else 1)
    assert b"Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp437"])
@pytest.mark.parametrize("words", [("--help",), ("batch", "--help"), ("journal", "no.db")])
def test_every_encoding_will_do(words: tuple[str, ...], encoding: str) -> None:
    """What it has not becomes a question mark."""
    ended = started(*words, PYTHONIOENCODING=encoding)
    assert ended.returncode == (1 if words[0] == "journal" else 0)
    assert b"Traceback" not in ended.stderr
    assert b"wiro" in ended.stdout + ended.stderr


@pytest.mark.parametrize("words", [("--help",)])
def test_help_may_be_cut(words: tuple[str, ...]) -> None:
    """By ``| head``, or by a reader who takes nothing at all."""
    for reader in ("| head -n 1", "| true"):
        assert b"Traceback" not in started(*words, shell=reader).stderr
        assert b"Exception ignored" not in started(*words, shell=reader).stderr


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_sandbox_serves_without_streams(tmp_path: Path, closed: str) -> None:
    """Until a signal ends it, as any other."""
    ready = tmp_path / "ready"
    words = ("sandbox", "--no-render", "--ready-file", str(ready))
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(ready.exists)
        process.terminate()
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (0, b"", b"")


class Interrupting(importlib.abc.MetaPathFinder):
    """Interrupts the program while it imports a module, as Ctrl-C in the first half second does."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == self.module:
            raise KeyboardInterrupt
        return None


@pytest.mark.parametrize(
    ("command", "module"),
    [("tasks", "wiro_async.cli._app"), ("sandbox", "wiro_async.sandbox.__main__")],
)
def test_an_interruption_while_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, module: str
) -> None:
    """Is told as any other, without a traceback: no task was begun."""
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(module), *sys.meta_path])
    assert main([command]) == 130
    assert capsys.readouterr().err == "wiro: interrupted\n"


def test_an_outage_is_a_record(wiro: Wiro, sandbox: Sandbox) -> None:
    """On stdout, with the class of the error; on stderr in words."""
    said = wiro("tasks", "--json", "--base-url", NOWHERE, code=1)
    (record,) = said.records
    assert (record["type"], record["error"], record["task_ids"]) == ("error", "ConnectionFailed", [])
    assert record["message"] == said.problem


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_slugs_and_ids_can_be_copied(
    columns: int, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a terminal of any width: no name is broken in two."""
    run = ["run", DIRECTOR, "-i", "inputImageFirstUrl=https://e.org/a.jpg", "-i"]
    assert main([*run, "prompt=x"]) == 0
    assert main([*run, "prompt=[sandbox:queue]", "--timeout", "0.01"]) == 5
    for words, names in ((["models", "director"], [DIRECTOR]), (["tasks"], [DIRECTOR, "2221"])):
        terminal = be_a_terminal(monkeypatch, columns)
        assert main(words) == 0
        assert all(name in terminal.getvalue() for name in names), terminal.getvalue()
        assert "image-to-video" in terminal.getvalue()
    assert len(sandbox.ledger()["tasks"]) == 2


# -- inputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ['["@a.jpg"]', '{"a": ["@a.jpg"]}', '[["@a.jpg"]]'])
def test_json_has_no_files(value: str, wiro: Wiro, sandbox: Sandbox) -> None:
    """A list of them is written otherwise, and a text of that kind with two."""
    said = wiro("run", DIRECTOR, "-i", f"x:={value}", code=2)
    assert "the value of x:= has '@a.jpg' in it" in said.problem
    assert "repeat x=@path" in said.problem
    assert not sandbox.ledger()["tasks"]


def test_a_text_that_begins_with_an_at_sign_in_json(wiro: Wiro, sandbox: Sandbox) -> None:
    """Alone as it is, in a list with two."""
    image = "inputImageFirstUrl=https://e.org/a.jpg"
    wiro("run", DIRECTOR, "-i", image, "-i", 'prompt:="@home"', "-i", 'list:=["@@home", 1]')
    (task,) = sandbox.engine._tasks.values()
    assert task.order.parameters["prompt"] == "@home"
    assert json.loads(json.dumps(task.order.parameters["list"])) == ["@home", 1]


def test_a_file_of_text_for_a_text_is_refused(wiro: Wiro, sandbox: Sandbox, tmp_path: Path) -> None:
    """It would be uploaded, and its URL be the prompt; ``<`` reads it."""
    words = tmp_path / "prompt.txt"
    words.write_text("waves roll in\n")
    image = "inputImageFirstUrl=https://e.org/a.jpg"
    said = wiro("run", DIRECTOR, "-i", image, "-i", f"prompt=@{words}", code=2)
    assert "'prompt' is a local file; it takes a text, and would get the address of an upload" in said.problem
    assert "prompt=<FILE reads it" in said.problem
    assert not sandbox.ledger()["tasks"]
    wiro("run", DIRECTOR, "-i", image, "-i", f"prompt=<{words}")
    (task,) = sandbox.engine._tasks.values()
    assert task.order.parameters["prompt"] == "waves roll in"


def test_a_file_of_text_for_another_input_is_sent(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the model is not listed, or the input is none of its texts, nobody knows better."""
    words = tmp_path / "words.txt"
    words.write_text("waves")
    main(["run", "no/model", "-i", f"prompt=@{words}"])
    main(["run", DIRECTOR, "-i", f"inputImageFirstUrl=@{words}", "-i", "prompt=x"])
    assert "it takes a text" not in capsys.readouterr().err


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff", "it is not UTF-8")])
def test_a_text_that_cannot_be_read(
    content: bytes | None, reason: str, wiro: Wiro, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Is refused with how to write a text that begins so."""
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    said = wiro("run", DIRECTOR, "-i", f"prompt=<{path}", code=2)
    assert reason in said.problem
    assert "written prompt:='\"<...\"'" in said.problem
