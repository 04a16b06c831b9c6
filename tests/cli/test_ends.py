"""How commands end early: interruptions, timeouts, errors. Nothing that was paid for is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wiro_async
from tests.cli_tools import (
    DIRECTOR,
    TOKEN,
    Said,
    Stub,
    Wiro,
    about,
    accepted,
    interrupt_when,
    name_in_environment,
    no,
)
from tests.cli_tools import (
    read_only as read_only,
)
from tests.cli_tools import (
    wiro as wiro,
)
from tests.servers import wait_until
from wiro_async.cli._report import Report
from wiro_async.cli._session import Session, interruptible
from wiro_async.sandbox import Sandbox

URL = "https://example.org/photo.jpg"
RUN = ("run", DIRECTOR, "-i", f"inputImageFirstUrl={URL}", "--interval", "0.02", "-i")
WAY_ON = "task 2221 goes on: `wiro watch 2221` follows it, `wiro stop 2221` ends it"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A quick sandbox that the environment names."""
    with Sandbox(render=False, speed=1000, run_sigma=0) as sandbox:
        name_in_environment(sandbox, monkeypatch)
        yield sandbox


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line, with a stub for a service."""
    monkeypatch.setenv("WIRO_API_KEY", "canary-key-5f3a")
    wiro = Wiro(capsys, lambda: ["canary-key-5f3a", TOKEN])

    def call(stub: Stub, *arguments: str, code: int) -> Said:
        monkeypatch.setenv("WIRO_BASE_URL", stub.base_url)
        return wiro(*arguments, code=code)

    return call


@pytest.fixture
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe within a moment that credentials which have worked are refused now."""
    monkeypatch.setattr("wiro_async._http.retry.REFUSALS", (0.02, 0.04, 0.08))


def runs(sandbox: Sandbox) -> Callable[[], bool]:
    """Return whether the first task has been seen running."""

    def happened() -> bool:
        tasks = sandbox.ledger()["tasks"]
        return bool(tasks) and tasks[0]["status"] == "task_start" and tasks[0]["details"] > 0

    return happened


# -- Ctrl-C --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_names_the_task_and_leaves_it_alone(
    wiro: Wiro, sandbox: Sandbox, number: int
) -> None:
    """Ctrl-C, a termination and a closed terminal all end with how to go on, and with 130."""
    with interrupt_when(runs(sandbox), number):
        said = wiro(*RUN, "prompt=[sandbox:hang]", code=130)
    assert said.problem == f"interrupted; {WAY_ON}"
    assert sandbox.ledger()["active"] == 1


def test_an_interruption_is_a_record_too(wiro: Wiro, sandbox: Sandbox) -> None:
    """With the ids of the tasks that go on; the way on names the address that was given."""
    with interrupt_when(runs(sandbox)):
        said = wiro(*RUN, "prompt=[sandbox:hang]", "--json", "--base-url", sandbox.base_url, code=130)
    assert said.records[-1] == {"type": "interrupted", "task_ids": ["2221"]}
    assert f"`wiro watch 2221 --base-url {sandbox.base_url}`" in said.problem


def test_an_interruption_can_stop_the_task(wiro: Wiro, sandbox: Sandbox) -> None:
    """With ``--on-cancel stop`` the command sees its end before its own."""
    with interrupt_when(runs(sandbox)):
        said = wiro(*RUN, "prompt=[sandbox:hang]", "--on-cancel", "stop", code=130)
    assert said.problem == "interrupted; task 2221 has ended (task_cancel)"
    assert sandbox.ledger()["active"] == 0


def slow_run() -> dict[str, Any]:
    """Accept a Run after this process was interrupted.

    The main thread handles a signal before it looks at its sockets again: first the client is interrupted,
    and then it waits for this answer.
    """
    os.kill(os.getpid(), signal.SIGINT)
    return accepted()


def test_an_interruption_while_submitting_waits_for_the_id(call: Callable[..., Said]) -> None:
    """A task that was accepted meanwhile is named: it costs money, and nobody else knows it."""
    with Stub(Run=slow_run) as stub:
        said = call(stub, *RUN, "prompt=waves", code=130)
    assert said.err.splitlines()[-1] == f"wiro: interrupted; {WAY_ON}"
    assert stub.calls == ["Run"]


def test_an_interruption_while_submitting_can_stop_the_task(call: Callable[..., Said]) -> None:
    """``--on-cancel stop`` holds for a task whose id came late, too."""
    with Stub(
        Run=slow_run,
        Task_Cancel=about("task_cancel"),
        Task_Detail=about("task_cancel"),
    ) as stub:
        said = call(stub, *RUN, "prompt=waves", "--on-cancel", "stop", code=130)
    assert said.err.splitlines()[-1] == "wiro: interrupted; task 2221 has ended (task_cancel)"
    assert stub.calls[:2] == ["Run", "Task/Cancel"]


def test_an_interruption_of_a_watch_by_token_names_no_token(
    call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id is not known yet, and the token is a secret: the environment still has it."""
    monkeypatch.setenv("WIRO_TASK_TOKEN", TOKEN)

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with Stub(Task_Detail=interrupt) as stub:
        said = call(stub, "watch", code=130)
    assert said.problem == "interrupted; the task goes on: `wiro watch` follows it, `wiro stop` ends it"


def test_an_interruption_without_a_task_says_no_more(call: Callable[..., Said]) -> None:
    """A listing leaves nothing behind."""

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with Stub(Tool_List=interrupt) as stub:
        assert call(stub, "models", code=130).problem == "interrupted"


def test_ctrl_c_in_a_process_of_its_own(sandbox: Sandbox) -> None:
    """A terminal's SIGINT gives one line and 130, and no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wiro_async", *RUN, "prompt=[sandbox:hang]"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "WIRO_BASE_URL": sandbox.base_url,
            "WIRO_API_KEY": "sandbox-key",
            "WIRO_API_SECRET": "sandbox-secret",
        },
    )
    try:
        wait_until(runs(sandbox))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == f"wiro: interrupted; {WAY_ON}\n"
    assert out.startswith("task 2221 of ")


def test_ignored_signals_stay_ignored() -> None:
    """What nohup ignores is not caught; the others are as before when the command has ended."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


# -- timeouts ------------------------------------------------------------------------------------------------


def test_a_timeout_is_5_and_names_the_task(wiro: Wiro, sandbox: Sandbox) -> None:
    """The task goes on, unless it was to be stopped."""
    said = wiro(*RUN, "prompt=[sandbox:hang]", "--timeout", "0.3", "--json", code=5)
    assert said.problem == f"no end after 0.3 s; {WAY_ON}"
    assert said.records[-1]["error"] == "TaskTimeout"
    assert said.records[-1]["task_ids"] == ["2221"]
    said = wiro(*RUN, "prompt=[sandbox:hang]", "--timeout", "0.3", "--on-cancel", "stop", code=5)
    assert said.problem == "no end after 0.3 s; task 2222 has ended (task_cancel)"
    assert sandbox.ledger()["active"] == 1


def test_a_task_that_succeeds_while_it_is_stopped_is_a_success(call: Callable[..., Said]) -> None:
    """It is paid for, so its result is told."""
    done = about(
        "task_postprocess_end",
        pexit="0",
        totalcost="0.28",
        outputs=[{"name": "0.mp4", "url": "https://x/0.mp4"}],
    )
    with Stub(
        Run=accepted(),
        Task_Detail=[about("task_start"), about("task_start"), done],
        Task_Cancel=no(1, "Task is not in a cancellable state."),
        Task_Kill=no(1, "Task could not be killed: it has ended"),
    ) as stub:
        watch = (*RUN, "prompt=waves", "--timeout", "0.03", "--on-cancel", "stop")
        said = call(stub, *watch, code=0)
    assert "cost $0.28" in said.out


@pytest.mark.usefixtures("quick_refusals")
def test_a_stop_that_fails_leaves_the_way_on(call: Callable[..., Said]) -> None:
    """When the service refuses to stop the task, the last line says that it goes on."""
    with Stub(
        Run=accepted(),
        Task_Detail=about("task_start"),
        Task_Cancel=no(1, "You don't have any permission for this action."),
        Task_Kill=no(99, "token expired"),
    ) as stub:
        watch = (*RUN, "prompt=waves", "--timeout", "0.05", "--on-cancel", "stop")
        said = call(stub, *watch, code=5)
    assert said.problem == f"no end after 0.05 s; {WAY_ON}"


# -- errors --------------------------------------------------------------------------------------------------


def test_no_key_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which variable to set."""
    problem = Wiro(capsys, list)("models", code=2).problem
    assert "WIRO_API_KEY" in problem
    assert "api_key=" not in problem


def test_a_service_that_is_not_there_is_1(wiro: Wiro) -> None:
    """One line, and a record where records are wanted."""
    said = wiro("models", "--base-url", "http://127.0.0.1:9/v1", "--json", code=1)
    assert "127.0.0.1" in said.problem or "Tool/List" in said.problem
    assert said.records == [
        {"type": "error", "error": "ConnectionFailed", "message": said.problem, "task_ids": []}
    ]


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize(
    "listed", [no(1, "There is no task yet."), no(99, "Project authorization is not founded.")]
)
def test_a_run_without_an_answer_is_6(call: Callable[..., Said], listed: dict[str, Any]) -> None:
    """The task may exist and be billed; it is looked for, and never sent again."""
    with Stub(Run=lambda: None, Task_List=listed) as stub:
        said = call(stub, *RUN, "prompt=waves", "--json", code=6)
    assert stub.calls.count("Run") == 1
    assert "The task may exist and be billed; it was searched for and not found" in said.problem
    assert said.problem.endswith("check `wiro tasks` before you run it again")
    assert said.records[-1]["error"] == "SubmissionUnknown"


def test_a_run_that_certainly_left_no_task_may_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The only case in which that is said."""
    error = wiro_async.SubmissionUnknown(
        "m", model="a/b", inputs_digest="", submitted_at=0.0, cause="reset", absent=True
    )

    def fail() -> int:
        raise error

    assert Session(Report()).attempt(fail) == 6
    assert "No task came of it, so you can run it again" in capsys.readouterr().err


@pytest.mark.usefixtures("quick_refusals")
def test_a_watch_that_fails_for_good_leaves_the_way_on(call: Callable[..., Said]) -> None:
    """A key that is revoked meanwhile ends the command, not the task."""
    refused = no(99, "Project authorization is not founded.")
    with Stub(Run=accepted(), Task_Detail=[about("task_start"), refused]) as stub:
        said = call(stub, *RUN, "prompt=waves", code=1)
    assert said.problem.endswith(WAY_ON)


def test_an_output_that_cannot_be_had_names_the_task(call: Callable[..., Said], tmp_path: Path) -> None:
    """The clip is paid for: the line says how to try again."""
    outputs = [{"name": "0.mp4", "url": "https://evil.example/0.mp4"}]
    done = about("task_postprocess_end", pexit="0", outputs=outputs)
    with Stub(Run=accepted(), Task_Detail=done) as stub:
        said = call(stub, *RUN, "prompt=waves", "--download", str(tmp_path), code=1)
    assert said.problem.endswith("`wiro download 2221` tries again")


@pytest.mark.parametrize("folder", ["file", "file/clips"])
def test_a_folder_that_cannot_be_is_told_before_anything_is_paid(
    wiro: Wiro, sandbox: Sandbox, tmp_path: Path, folder: str
) -> None:
    """The operating system's own words in one line, and no Run."""
    (tmp_path / "file").write_text("in the way")
    runs = sandbox.ledger()["runs"]
    said = wiro(*RUN, "prompt=waves", "--download", str(tmp_path / folder), code=2)
    assert "cannot be saved in" in said.problem
    assert sandbox.ledger()["runs"] == runs


@pytest.mark.usefixtures("read_only")
def test_a_folder_that_may_not_be_written_is_told_too(wiro: Wiro, tmp_path: Path) -> None:
    """Its existence is not enough."""
    said = wiro(*RUN, "prompt=waves", "--download", str(tmp_path), code=2)
    assert "Permission denied" in said.problem


def test_a_task_that_is_not_there_does_not_go_on(wiro: Wiro) -> None:
    """Neither people nor scripts are told to follow it."""
    said = wiro("watch", "99999", "--json", code=1)
    assert said.records[-1]["task_ids"] == []
    assert "goes on" not in said.problem


def test_a_services_words_are_only_shown(call: Callable[..., Said]) -> None:
    """Neither a log nor a refusal can colour the screen, move the cursor, or add a line."""
    failed = about("task_postprocess_end", pexit="1", debugoutput="bad\x1b[2J \x9b31m[bold]image[/bold]\r")
    words = "Insufficient balance\x1b]0;owned\x07\nwiro: all is well"
    with Stub(Run=[accepted(), no(97, words)], Task_Detail=failed) as stub:
        said = call(stub, *RUN, "prompt=waves", code=3)
        refused = call(stub, *RUN, "prompt=waves", code=1)
    assert "bad�[2J �31m[bold]image[/bold]" in said.problem
    for text in (said.out, said.err, refused.err):
        assert "\x1b" not in text
        assert "\x9b" not in text
    assert "owned" in refused.problem
