"""The commands, each against a real sandbox."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

import wiro_async
from tests.cli_tools import (
    DIRECTOR,
    TOKEN,
    Stub,
    Terminal,
    Wiro,
    about,
    be_a_terminal,
    name_in_environment,
    ok,
)
from tests.cli_tools import (
    wiro as wiro,
)
from tests.sandbox.test_main import served as served
from wiro_async.cli import main
from wiro_async.cli._app import app, execute
from wiro_async.cli._report import Report
from wiro_async.sandbox import Sandbox, demo_images

IMAGE = demo_images()[0]
RUN = ("run", DIRECTOR, "-i", f"inputImageFirstUrl=@{IMAGE}", "--interval", "0.02", "-i")
COMMANDS = (
    "run", "watch", "status", "tasks", "cancel", "kill", "stop", "download", "upload", "models", "model",
    "types", "demo",
)  # fmt: skip


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A quick sandbox that the environment names."""
    with Sandbox(render=False, speed=1000, run_sigma=0) as sandbox:
        name_in_environment(sandbox, monkeypatch)
        yield sandbox


def submit(wiro: Wiro, prompt: str) -> str:
    """Start a task, leave it at once, and return its id."""
    said = wiro(*RUN, f"prompt={prompt}", "--timeout", "0.01", "--json", code=5)
    task_id: str = said.records[0]["task_id"]
    return task_id


# -- run -----------------------------------------------------------------------------------------------------


def test_run_tells_everything_and_saves_the_clip(wiro: Wiro, tmp_path: Path) -> None:
    """The task's id comes first, then its statuses in order, its price, its output, where it is saved."""
    said = wiro(*RUN, "prompt=[Zoom in] waves", "--download", str(tmp_path / "clips"))
    assert said.out.startswith(f"task 2221 of {DIRECTOR}\n")
    told = re.findall(r"task_\w+", said.out)
    assert told.index("task_queue") < told.index("task_start") < told.index("task_postprocess_end")
    assert re.search(r"succeeded after a run of \d\.\d s; cost \$0\.28\n", said.out)
    assert re.search(r"output  0\.mp4  .*http://127\.0\.0\.1:\d+/cdn/\S+/0\.mp4\n", said.out)
    assert said.out.endswith(f"saved   {tmp_path / 'clips' / '2221_0.mp4'}\n")
    assert (tmp_path / "clips" / "2221_0.mp4").stat().st_size > 0
    assert said.err == ""


def test_run_json_is_a_line_for_each_event(wiro: Wiro, sandbox: Sandbox) -> None:
    """One record of type submitted, one for each transition, and one of type result at last."""
    records = wiro(*RUN, "prompt=waves", "-i", "seed:=7", "--json").records
    assert [record["type"] for record in records] == [
        "submitted",
        *["transition"] * (len(records) - 2),
        "result",
    ]
    assert {record["task_id"] for record in records} == {"2221"}
    assert records[-1]["outcome"] == "succeeded"
    assert records[-1]["cost"] == "0.280000000000"
    assert records[-1]["saved"] == []
    assert records[-1]["parameters"]["seed"] == 7
    assert records[-1]["parameters"]["inputImageFirstUrl"].startswith(sandbox.cdn_url)


def test_run_takes_the_address_from_the_command_line(
    wiro: Wiro, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--base-url`` wins over the environment."""
    monkeypatch.setenv("WIRO_BASE_URL", "http://127.0.0.1:9/v1")
    assert "succeeded" in wiro(*RUN, "prompt=waves", "--base-url", sandbox.base_url).out


def test_a_run_that_may_cost_too_much_is_7(wiro: Wiro, sandbox: Sandbox) -> None:
    """Nothing is uploaded or sent; a price that nobody knows has to be allowed."""
    said = wiro(*RUN, "prompt=waves", "--max-cost", "0.27", code=7)
    assert said.problem == (
        f"a run of {DIRECTOR} may cost 0.28 USD (the catalogue's price list (cpr)), and --max-cost is 0.27 "
        f"USD; nothing was sent; raise the limit, or choose inputs that cost less"
    )
    record = wiro(*RUN, "prompt=waves", "--max-cost", "0.27", "--json", code=7).records[-1]
    assert (record["type"], record["error"], record["task_ids"]) == ("error", "BudgetExceeded", [])
    assert wiro(*RUN, "prompt=waves", "--max-cost", "much", code=2).problem.startswith(
        "--max-cost is 'much';"
    )
    assert not sandbox.ledger()["runs"]
    assert "succeeded" in wiro(*RUN, "prompt=waves", "--max-cost", "0.28").out


def test_a_run_of_unknown_price_is_7_unless_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The catalogue does not tell every price."""
    with Sandbox(render=False, speed=1000, run_sigma=0, listed_price=0) as sandbox:
        name_in_environment(sandbox, monkeypatch)
        wiro = Wiro(capsys, list)
        said = wiro(*RUN, "prompt=waves", "--max-cost", "5", code=7)
        assert said.problem.startswith(f"nobody knows what a run of {DIRECTOR} costs (")
        assert said.problem.endswith("nothing was sent; --allow-unpriced runs it all the same")
        assert "succeeded" in wiro(*RUN, "prompt=waves", "--max-cost", "5", "--allow-unpriced").out


def test_run_of_a_failing_task_is_3(wiro: Wiro, tmp_path: Path) -> None:
    """The reason is one line on stderr; in JSON it is in the result. Nothing is saved."""
    said = wiro(*RUN, "prompt=[sandbox:fail too dark]", "--download", str(tmp_path), code=3)
    assert "task 2221 failed (exit code 1): too dark; it was not billed" in said.problem
    assert "succeeded" not in said.out
    told = wiro(*RUN, "prompt=[sandbox:fail too dark]", "--json", code=3).records[-1]
    assert (told["type"], told["outcome"], told["reason"]) == ("result", "failed", "too dark")
    assert list(tmp_path.iterdir()) == []


def test_a_timeout_in_task_error_says_what_the_task_met(wiro: Wiro) -> None:
    """Nobody knows whether it goes on: the reason and the way on are told."""
    said = wiro(*RUN, "prompt=[sandbox:error worker lost]", "--timeout", "1", code=5)
    assert "it stands in task_error (worker lost); task 2221 goes on" in said.problem


def test_an_end_in_pieces_is_no_end_yet(wiro: Wiro) -> None:
    """The task is not said to go on; its charge may come later."""
    said = wiro(*RUN, "prompt=[sandbox:bare=never]", "--timeout", "1", code=5)
    assert said.problem.endswith("task 2221 has ended (task_postprocess_end)")
    assert "goes on" not in said.problem
    assert "cost" not in wiro("status", "2221").out


def test_a_hint_keeps_the_folder(wiro: Wiro, tmp_path: Path) -> None:
    """What was to be saved is saved by the command that takes the task up."""
    said = wiro(
        *RUN, "prompt=[sandbox:queue]", "--timeout", "0.01", "--download", str(tmp_path / "c"), code=5
    )
    assert (
        f"`wiro watch 2221 --download {tmp_path / 'c'}` follows it, `wiro stop 2221` ends it" in said.problem
    )


# -- tasks that exist ----------------------------------------------------------------------------------------


def test_watch_takes_a_task_up_again(wiro: Wiro, sandbox: Sandbox, tmp_path: Path) -> None:
    """A task left by one command is followed to its end by another, from its first status on."""
    task = submit(wiro, "[sandbox:queue]")
    sandbox.engine.steer(task, "release", sandbox._clock())
    said = wiro("watch", task, "--interval", "0.02", "--download", str(tmp_path))
    assert "task_queue" in said.out
    assert (tmp_path / f"{task}_0.mp4").exists()


def test_watch_of_a_cancelled_task_is_4(wiro: Wiro) -> None:
    """Somebody else has ended it."""
    task = submit(wiro, "[sandbox:queue]")
    wiro("cancel", task)
    said = wiro("watch", task, "--json", code=4)
    assert said.records[-1]["outcome"] == "cancelled"
    assert said.problem == f"task {task} was cancelled; it was not billed"


def test_a_token_names_a_task_too(wiro: Wiro, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from an option or, better, from the environment, where it yields to an id."""
    first, second = submit(wiro, "[sandbox:queue]"), submit(wiro, "[sandbox:hang]")
    token = next(token for token, task in sandbox.engine._tokens.items() if task.id == first)
    assert wiro("status", "--token", token, "--json").records[0]["task_id"] == first
    monkeypatch.setenv("WIRO_TASK_TOKEN", token)
    assert wiro("status", "--json").records[0]["task_id"] == first
    assert wiro("status", second, "--json").records[0]["task_id"] == second
    assert "was cancelled" in wiro("cancel").out


def test_a_command_without_a_task_says_what_it_wants(wiro: Wiro) -> None:
    """Neither id nor token is a usage error."""
    said = wiro("watch", "--json", code=2)
    assert "which task?" in said.problem
    assert said.records[0]["error"] == "InvalidInput"


def test_status_shows_a_task_as_it_is(wiro: Wiro) -> None:
    """A look that succeeds is 0, however the task fares."""
    wiro(*RUN, "prompt=waves")
    wiro(*RUN, "prompt=[sandbox:fail too dark]", code=3)
    waiting = submit(wiro, "[sandbox:queue]")
    done = wiro("status", "2221").out
    assert re.search(r"^status    task_postprocess_end \(succeeded\)$", done, re.MULTILINE)
    assert re.search(r"^cost      \$0\.28$", done, re.MULTILINE)
    assert re.search(r"^output    0\.mp4", done, re.MULTILINE)
    assert "reason" not in done
    assert re.search(r"^reason    too dark$", wiro("status", "2222").out, re.MULTILINE)
    queued = wiro("status", waiting).out
    assert re.search(r"^status    task_queue$", queued, re.MULTILINE)
    assert not re.search(r"^(cost|ended|output)", queued, re.MULTILINE)
    (record,) = wiro("status", waiting, "--json").records
    assert (record["type"], record["status"], record["cost"]) == ("task", "task_queue", None)


def test_tasks_lists_the_newest_first(wiro: Wiro) -> None:
    """A run whose answer was lost is found here."""
    assert "no tasks found" in wiro("tasks").out
    wiro(*RUN, "prompt=waves")
    submit(wiro, "[sandbox:queue]")
    head, queued, done = wiro("tasks").out.splitlines()
    assert head.split() == ["task", "created", "status", "outcome", "cost", "model"]
    assert queued.startswith("2222")
    assert "task_queue" in queued
    assert re.search(r"^2221 .* succeeded +\$0\.28 ", done)
    (record,) = wiro("tasks", "--limit", "1", "--json").records
    assert [task["task_id"] for task in record["tasks"]] == ["2222"]


def test_a_task_without_a_time_is_listed_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service may not tell when it was created."""
    monkeypatch.setenv("WIRO_API_KEY", "key")
    with Stub(Task_List=[about("task_queue", createtime="0"), ok(tasklist=[])]) as stub:
        said = Wiro(capsys, lambda: [TOKEN])("tasks", "--base-url", stub.base_url)
    assert said.out.splitlines()[1].split() == ["2221", "task_queue"]


def test_cancel_kill_and_stop_end_tasks(wiro: Wiro, sandbox: Sandbox) -> None:
    """Each has its own state; stop takes whichever applies."""
    queued, running = submit(wiro, "[sandbox:queue]"), submit(wiro, "[sandbox:hang]")
    wiro("watch", running, "--timeout", "0.3", "--interval", "0.02", code=5)
    early, late = wiro("kill", queued, code=1), wiro("cancel", running, "--json", code=1)
    assert early.problem == f"task {queued} is task_queue: it is too early to kill it; cancel or stop it"
    assert late.records[0]["error"] == "InvalidTaskState"
    assert late.records[0]["task_ids"] == [running]
    assert wiro("cancel", queued).out == f"task {queued} was cancelled; cost $0.00\n"
    assert wiro("kill", running, "--json").records[0]["outcome"] == "cancelled"
    assert wiro("stop", submit(wiro, "[sandbox:hang]")).out.endswith("was cancelled; cost not recorded yet\n")
    assert sandbox.ledger()["paid"] == 0


def test_ending_what_has_ended_tells_how(wiro: Wiro) -> None:
    """A task that succeeded stays so, and its price is named."""
    wiro(*RUN, "prompt=waves")
    assert wiro("stop", "2221").out == "task 2221 had already ended: succeeded; cost $0.28\n"


def test_a_kill_that_takes_its_time_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service may accept the kill and still show the task as running."""
    monkeypatch.setenv("WIRO_API_KEY", "key")
    with Stub(Task_Kill=about("task_start")) as stub:
        said = Wiro(capsys, lambda: [TOKEN])("kill", "2221", "--base-url", stub.base_url)
    assert "is task_start; its end was requested: `wiro watch 2221`" in said.out


def test_download_saves_the_outputs(wiro: Wiro, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a folder, or into the present one."""
    monkeypatch.chdir(tmp_path)
    wiro(*RUN, "prompt=waves")
    assert wiro("download", "2221").out == "saved   2221_0.mp4\n"
    saved = wiro("download", "2221", "-o", "clips", "--json").records[0]["saved"]
    assert saved == [str(Path("clips") / "2221_0.mp4")]
    assert (tmp_path / "clips" / "2221_0.mp4").read_bytes() == (tmp_path / "2221_0.mp4").read_bytes()


def test_download_of_nothing_is_an_error(wiro: Wiro) -> None:
    """A task that has not ended, and one that made nothing, are told apart."""
    waiting = submit(wiro, "[sandbox:queue]")
    assert "no output to download yet; `wiro watch 2221`" in wiro("download", waiting, code=1).problem
    wiro("cancel", waiting)
    said = wiro("download", waiting, "--json", code=1)
    assert said.problem == "task 2221 is task_cancel and has no output to download"
    assert said.records[0]["error"] == "NoOutput"


def test_outputs_without_a_file_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A language model answers in the reply itself; there is nothing to save."""
    monkeypatch.setenv("WIRO_API_KEY", "key")
    outputs = [{"name": "answer", "contenttype": "raw", "content": {"answer": "42\x1b[2J"}}]
    with Stub(Task_Detail=about("task_postprocess_end", pexit="0", outputs=outputs)) as stub:
        said = Wiro(capsys, lambda: [TOKEN])("watch", "2221", "--base-url", stub.base_url)
    assert "output  answer  42" in said.out
    assert "\x1b" not in said.out
    assert "succeeded; cost not recorded yet" in said.out


# -- files and models ----------------------------------------------------------------------------------------


def test_upload_prints_the_url_alone(wiro: Wiro, sandbox: Sandbox) -> None:
    """So that a shell can put it into a variable."""
    url = wiro("upload", str(IMAGE)).out.strip()
    assert url.startswith(sandbox.cdn_url)
    (record,) = wiro("upload", str(IMAGE), "--name", "sea.jpg", "--json").records
    assert record["type"] == "upload"
    assert record["name"].startswith("sea")
    assert record["size"] == IMAGE.stat().st_size


def test_upload_of_no_file_is_a_usage_error(wiro: Wiro, tmp_path: Path) -> None:
    """It is named, and nothing is sent."""
    assert "cannot be read" in wiro("upload", str(tmp_path / "none.jpg"), code=2).problem


def test_models_lists_the_catalogue(wiro: Wiro) -> None:
    """By a word and by a category, and as many as were asked for. A pipe gets lines that are not cut."""
    found = wiro("models", "hailuo").out.splitlines()
    assert found[0].split() == ["model", "title", "categories"]
    assert all("ailuo" in line for line in found[1:])
    (record,) = wiro("models", "--category", "image-to-video", "--limit", "3", "--json").records
    assert len(record["models"]) == 3
    assert all("image-to-video" in model["categories"] for model in record["models"])


def test_models_without_a_match_say_so(wiro: Wiro) -> None:
    """An empty list is an answer, not an error."""
    assert "no model matches" in wiro("models", "no-such-thing").out
    assert wiro("models", "no-such-thing", "--json").records == [{"type": "models", "models": []}]


def test_model_shows_its_inputs_and_a_command(wiro: Wiro) -> None:
    """The command can be copied: it names the inputs, and the image as a file."""
    said = wiro("model", DIRECTOR).out
    assert re.search(r"^inputImageFirstUrl\s+text", said, re.MULTILINE)
    assert "same aspect" in said
    assert said.endswith(f"try  wiro run {DIRECTOR} -i inputImageFirstUrl=@photo.jpg -i prompt=...\n")
    (record,) = wiro("model", DIRECTOR, "--json").records
    assert [item["name"] for item in record["inputs"]] == ["inputImageFirstUrl", "prompt"]


def test_a_model_that_does_not_exist_is_an_error(wiro: Wiro) -> None:
    """Whether its name can be one (1), or cannot (2)."""
    assert "`wiro models WORD`" in wiro("model", "no/such", code=1).problem
    assert "is not owner/model" in wiro("run", "director", code=2).problem


def test_models_are_shown_with_bounds_and_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing in them is taken for markup or for a terminal's escape sequence."""
    monkeypatch.setenv("WIRO_API_KEY", "key")
    items = [
        {"id": "steps", "type": "range", "label": "[red]Steps[/red]", "required": True, "min": 1, "max": 50},
        {
            "id": "mode",
            "type": "select",
            "default": "fast\x1b[2J",
            "options": [{"value": ""}, {"value": ":smile:"}],
        },
        {"id": "mask", "type": "fileinput", "required": True, "default": []},
    ]
    tool = {
        "slugowner": "a",
        "slugproject": "b c",
        "title": "[bold]T\x1b]0;owned\x07",
        "parameters": [{"items": items}],
    }
    bare = {**tool, "parameters": []}
    stub = Stub(Tool_Detail=[ok(tool=[tool]), ok(tool=[bare])], Tool_List=[ok(tool=[tool]), ok(tool=[])])
    with stub:
        wiro = Wiro(capsys, list)
        said = wiro("model", "a/b c", "--base-url", stub.base_url).out
        assert wiro("model", "a/b c", "--base-url", stub.base_url).out.endswith("try  wiro run 'a/b c'\n")
        listed = wiro("models", "--base-url", stub.base_url).out
    for out in (said, listed):
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "[bold]T�]0;owned�" in out
    assert "[red]Steps[/red]" in said
    assert "from 1 to 50" in said
    assert '"", :smile:' in said
    assert said.endswith("try  wiro run 'a/b c' -i steps=... -i mask=@photo.jpg\n")


# -- before anything is sent ---------------------------------------------------------------------------------


def test_a_dry_run_checks_and_estimates(wiro: Wiro, sandbox: Sandbox, tmp_path: Path) -> None:
    """Nothing is uploaded or made; with --json in one record."""
    photo = demo_images()[0]
    given = ("-i", f"inputImageFirstUrl=@{photo}", "-i", "prompt=waves", "-i", "style=sepia")
    said = wiro("run", DIRECTOR, *given, "--dry-run")
    assert said.out == (
        f"price  about $0.28: the catalogue's price list (cpr)\n{DIRECTOR} can be run; nothing was sent\n"
    )
    listed = f"'style' is not listed among the inputs of {DIRECTOR}"
    assert said.problem == f"note: {listed}, but is sent anyway"
    assert wiro("run", DIRECTOR, *given, "--dry-run", "--json").records == [
        {
            "type": "check",
            "model": DIRECTOR,
            "problems": [],
            "notes": [f"{listed}, but is sent anyway"],
            "price": "0.280",
            "price_source": "the catalogue's price list (cpr)",
        }
    ]
    assert set(sandbox.ledger()["requests"]) == {"Tool/Detail"}


def test_a_dry_run_tells_problems(wiro: Wiro, sandbox: Sandbox) -> None:
    """As the run would; its code is 2 then."""
    said = wiro("run", DIRECTOR, "-i", "promt=waves", "--dry-run", code=2)
    assert said.problem == f"'promt' is no input of {DIRECTOR}; did you mean 'prompt'?"
    assert "can be run" not in said.out
    said = wiro("run", DIRECTOR, "-i", "style=sepia", "--dry-run", "--strict", "--json", code=2)
    assert said.records[0]["problems"] == [
        f"'style' is not listed among the inputs of {DIRECTOR}; leave it out, or do without the strict check"
    ]
    said = wiro("run", "no/such", "-i", "prompt=waves", "--dry-run")
    assert "price  unknown: the catalogue has no such model" in said.out
    assert said.problem == "note: the inputs of no/such are not checked: the catalogue has no such model"
    assert set(sandbox.ledger()["requests"]) == {"Tool/Detail"}


def test_a_run_can_be_made_unchecked_or_checked_strictly(wiro: Wiro, sandbox: Sandbox) -> None:
    """Otherwise names that are not listed are notes."""
    given = ("run", DIRECTOR, "-i", "inputImageFirstUrl=https://example.org/a.jpg", "-i", "prompt=waves")
    assert "'style' is not listed" in wiro(*given, "-i", "style=sepia", "--strict", code=2).problem
    assert sandbox.ledger()["runs"] == 0
    assert "note: 'style' is not listed" in wiro(*given, "-i", "style=sepia").err
    before = sandbox.ledger()["requests"]["Tool/Detail"]
    assert wiro(*given, "-i", "style=sepia", "--no-check").err == ""
    assert sandbox.ledger()["requests"]["Tool/Detail"] == before
    assert sandbox.ledger()["runs"] == 2


# -- on a terminal -------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_status_line(wiro: Wiro, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is redrawn below the transitions, and gone at the end."""
    terminal = be_a_terminal(monkeypatch)
    wiro(*RUN, "prompt=waves")
    shown = terminal.getvalue()
    assert "\x1b[2K" in shown
    assert "submitting" in shown
    assert "\x1b[?25h" in shown[-30:]  # the cursor is back
    assert shown.endswith("\x1b[2K")
    assert all("0.mp4" not in line or len(line) > 80 for line in Text.from_ansi(shown).plain.split("\n"))


def test_a_dumb_terminal_gets_plain_lines(wiro: Wiro, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot redraw is not asked to."""
    terminal = be_a_terminal(monkeypatch, kind="dumb")
    wiro(*RUN, "prompt=waves")
    assert "\x1b[2K" not in terminal.getvalue()
    assert "submitting" not in terminal.getvalue()


def test_json_on_a_terminal_is_json_alone(wiro: Wiro, monkeypatch: pytest.MonkeyPatch) -> None:
    """No status line disturbs it."""
    terminal = be_a_terminal(monkeypatch)
    wiro(*RUN, "prompt=waves", "--json")
    assert all(line.startswith("{") for line in terminal.getvalue().splitlines())


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_tables_fit_the_terminal(wiro: Wiro, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """No line of a listing is wider than the screen, but for a slug that must be copied whole."""
    slugs = [model["slug"] for model in wiro("models", "--limit", "50", "--json").records[0]["models"]]
    terminal = be_a_terminal(monkeypatch, columns=columns)
    wiro("models", "--limit", "50")
    plain = Text.from_ansi(terminal.getvalue()).plain
    assert all(len(line) <= columns or line in slugs for line in plain.split("\n"))
    assert all(slug in plain for slug in slugs)


# -- the program itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """With an example that can be typed as it stands, on lines that fit 80 columns."""
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"For example:\n    wiro {command}" in shown or "wiro upload" in shown
    assert max(len(line) for line in app[command].help.splitlines()) <= 84


def test_the_program_lists_its_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """With no words at all it shows its help."""
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in (*COMMANDS, "sandbox", "WIRO_API_KEY", "130"))


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else is printed."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{wiro_async.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["dance"], "dance"),
        (["run"], "MODEL"),
        (["status", "1", "--nope"], "--nope"),
        (["watch", "1", "--timeout", "soon"], "soon"),
        (["watch", "1", "--timeout", "-1"], "timeout"),
        (["run", "a/b", "--on-cancel", "maybe"], "maybe"),
        (["models", "--limit", "0"], "limit"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    """It names what is wrong and where help is; nothing was started."""
    said = Wiro(capsys, list)(*arguments, code=2)
    assert problem in said.problem
    assert "--help" in said.problem
    assert said.out == ""


def test_the_module_is_the_program(
    call_program: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m wiro_async`` takes the process's own words, and exits with the code."""
    call_program("wiro", "--version")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("wiro_async", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{wiro_async.__version__}\n"
    runpy.run_module("wiro_async.__main__", run_name="imported")
    assert capsys.readouterr().out == ""


def test_a_list_that_was_cut_says_so(wiro: Wiro, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit may not be all; programs count for themselves."""
    assert wiro("models", "--limit", "3").out.endswith("\nmore: --limit 6\n")
    assert len(wiro("models", "--limit", "3", "--json").records) == 1
    assert "more:" not in wiro("models", "hailuo").out
    submit(wiro, "[sandbox:queue]")
    assert wiro("tasks", "--limit", "1").out.endswith("\nmore: --limit 2\n")
    assert "more:" not in wiro("tasks").out


def test_a_model_has_a_price_where_the_catalogue_tells(wiro: Wiro) -> None:
    """About that, in USD; else there is none."""
    assert "\nprice  about $0.28 a run\n" in wiro("model", DIRECTOR).out
    assert wiro("model", DIRECTOR, "--json").records[0]["price"].startswith("0.28")
    with Stub(Tool_Detail=ok(tool=[{"slugowner": "a", "slugproject": "b"}])) as stub:
        assert "price" not in wiro("model", "a/b", "--base-url", stub.base_url).out
        assert wiro("model", "a/b", "--base-url", stub.base_url, "--json").records[0]["price"] is None


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        (
            ("batch", "x", "--concurrency", "lots"),
            "--concurrency is 'lots'; it must be a whole number or 'auto'",
        ),
        (("run", "a/b", "--timeout", "x"), "--timeout is 'x'; it must be a number"),
        (("batch", "x", "--on-unknown", "x"), "--on-unknown is 'x'; it must be 'raise' or 'resubmit'"),
        (("batch", "x", "--breaker", "-1"), "Must be >= 0"),
    ],
)
def test_a_value_that_is_none_is_told_in_words(
    capsys: pytest.CaptureFixture[str], option: tuple[str, ...], wanted: str
) -> None:
    """And not in types of Python."""
    assert wanted + "; `wiro --help`" in Wiro(capsys, list)(*option, code=2).problem


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_its_extra_the_program_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """The core works without it; this line is all there is to see."""
    for name in [name for name in sys.modules if name.startswith(("wiro_async.cli.", "rich", "cyclopts"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["--version"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"wiro: the command line needs {missing!r}, which is not installed: "
        "install it with its extra, from the clone: pip install '.[cli]'\n"
    )


def test_another_import_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the extra's own packages are explained away."""
    for name in [name for name in sys.modules if name.startswith("wiro_async.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wiro_async.cli._report", None)
    with pytest.raises(ImportError, match="_report"):
        main(["--version"])


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_without_the_sandboxs_extra_its_commands_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The other commands do not need it."""
    for name in [
        name for name in sys.modules if name.startswith(("wiro_async.sandbox", "wiro_async.cli._demo"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    said = Wiro(capsys, list)(command, code=1)
    assert "from the clone: pip install '.[sandbox]'" in said.problem


def test_sandbox_has_the_sandboxs_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Its help and its refusals are those of ``python -m wiro_async.sandbox``."""
    assert main(["sandbox", "--help"]) == 0
    assert "--ready-file" in capsys.readouterr().out
    assert main(["sandbox", "--speed", "0"]) == 2
    assert "speed" in capsys.readouterr().err
    # As a command among the others it is the same.
    assert execute(["sandbox", "--help"]) == 0
    assert "--ready-file" in capsys.readouterr().out


def test_sandbox_serves(served: list[Any]) -> None:
    """The options reach it."""
    assert main(["sandbox", "--speed", "7"]) == 0
    assert served[0][0].speed == 7


def test_a_pipe_with_a_small_alphabet_is_no_error(sandbox: Sandbox) -> None:
    """What it cannot hold is replaced."""
    run = _program(sandbox, "model", DIRECTOR, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert run.returncode == 0, run.stderr
    assert "inputImageFirstUrl" in run.stdout


def _program(sandbox: Sandbox, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    keys = {"WIRO_API_KEY": "sandbox-key", "WIRO_API_SECRET": "sandbox-secret"}
    return subprocess.run(
        [sys.executable, "-m", "wiro_async", *arguments],
        env={**os.environ, **keys, "WIRO_BASE_URL": sandbox.base_url, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_reader_that_leaves_is_no_traceback(sandbox: Sandbox) -> None:
    """``wiro models | head -1`` ends quietly."""
    keys = {"WIRO_API_KEY": "sandbox-key", "WIRO_API_SECRET": "sandbox-secret"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "wiro_async", "models", "--json"],
            env={**os.environ, **keys, "WIRO_BASE_URL": sandbox.base_url},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert run.returncode == 1
    assert run.stderr == "wiro: the output pipe was closed\n"


def test_a_report_can_lose_a_stdout_that_is_no_file() -> None:
    """Only a real one has a flush at exit to be kept from failing; this one takes what comes later."""
    real = os.fstat(1)
    with contextlib.redirect_stdout(Terminal()) as terminal:
        report = Report()
        report.close_stdout()
        report.say("still here")
    assert terminal.getvalue() == "still here\n"
    assert os.path.samestat(os.fstat(1), real)
