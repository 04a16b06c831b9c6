"""``wiro batch``, ``resume``, ``journal``: jobs from a file, each paid for once, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from tests.cli_tools import (
    DIRECTOR,
    Stub,
    Wiro,
    be_a_terminal,
    interrupt_when,
    name_in_environment,
    ok,
    pipe_in,
    secrets_of,
)
from tests.cli_tools import (
    read_only as read_only,
)
from tests.cli_tools import (
    wiro as wiro,
)
from tests.journals import apply, cancelled, failed, intended, opened, succeeded
from tests.journals import intend as intend_at
from tests.servers import PATIENCE, wait_until
from wiro_async import BatchStopped, Client, JobOutcome, TaskCancelled
from wiro_async._journal.steps import Accepted, Blob, Done, Doubted, Ended, Learned, Released, Saved
from wiro_async.cli import _batch, _batch_view
from wiro_async.cli._batch_options import Memory, Options
from wiro_async.cli._batch_view import BatchView, outcome_record, stacked
from wiro_async.cli._report import Report
from wiro_async.cli._session import without_warnings
from wiro_async.sandbox import Sandbox
from wiro_async.sandbox.faults import Blackhole, FaultPlan

URL = "https://example.org/photo.jpg"
MODEL = ("--model", DIRECTOR)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    """A quick sandbox that the environment names; the command runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with Sandbox(render=False, speed=1000, run_sigma=0, balance=1000) as sandbox:
        name_in_environment(sandbox, monkeypatch)
        monkeypatch.setenv("WIRO_SOCKET_URL", sandbox.socket_url)
        yield sandbox


def table(*prompts: str, name: str = "jobs.jsonl", **fields: Any) -> str:
    """Write a job file, with the prompts for keys."""
    rows = [{"key": prompt, "inputs": {"prompt": prompt, "inputImageFirstUrl": URL}} for prompt in prompts]
    Path(name).write_text("".join(json.dumps({**row, **fields}) + "\n" for row in rows))
    return name


def kinds(records: list[Any]) -> list[str]:
    """Return the kinds of records, in order, without those of progress."""
    return [record["type"] for record in records if record["type"] != "progress"]


# -- from the first to the last job ------------------------------------------------------------------------


def test_a_file_of_jobs_becomes_clips(wiro: Wiro, sandbox: Sandbox) -> None:
    """The journal stands beside it, and what happened is told line by line."""
    said = wiro("batch", table("a", "b"), *MODEL, "--download", "clips/")
    assert said.out.splitlines()[:3] == [
        "2 jobs to run",
        "about $0.56, an unknown time",
        "journal jobs.journal.db",
    ]
    for key in "ab":
        (clip,) = Path("clips").glob(f"{key}_*_0.mp4")
        assert f"✓ {key}  {clip.absolute()}" in said.out
    assert "2 succeeded; $0.56 in all; " in said.out
    assert said.err == ""
    assert sandbox.ledger()["paid"] == 2


def test_a_second_time_nothing_is_paid(wiro: Wiro, sandbox: Sandbox) -> None:
    """The keys are done, by either command."""
    wiro("batch", table("a", "b"), *MODEL)
    assert "0 jobs to run, 2 ended before" in wiro("batch", "jobs.jsonl", *MODEL).out
    assert "2 skipped" in wiro("resume", "jobs.journal.db").out
    assert sandbox.ledger()["runs"] == 2


def test_records_tell_the_same(wiro: Wiro) -> None:
    """A plan, an outcome for each job, and the sums."""
    records = wiro("batch", table("a"), *MODEL, "--json", "--max-cost", "5").records
    assert kinds(records) == ["plan", "outcome", "batch"]
    plan, outcome, ended = (record for record in records if record["type"] != "progress")
    assert (plan["jobs"], plan["estimated_cost"], plan["journal"]) == (1, "0.280", "jobs.journal.db")
    assert {name: outcome[name] for name in ("key", "succeeded", "attempts", "cost", "saved", "error")} == {
        "key": "a",
        "succeeded": True,
        "attempts": 1,
        "cost": "0.280000000000",
        "saved": [],
        "error": None,
    }
    assert (ended["complete"], ended["succeeded"], ended["stopped"]) == (True, 1, None)
    assert ended["journal"] == str(Path("jobs.journal.db").absolute())
    assert {record["type"] for record in records} >= {"progress"}


def test_a_table_is_a_file_of_jobs(wiro: Wiro, sandbox: Sandbox) -> None:
    """Its header names the inputs, and a cell can name a local file."""
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff picture")
    Path("jobs.csv").write_text("id,prompt,inputImageFirstUrl\n1,waves,@photo.jpg\n2,wind,@photo.jpg\n")
    wiro("batch", "jobs.csv", "--key", "id", *MODEL, "--concurrency", "1")
    ledger = sandbox.ledger()
    assert sorted(task["prompt"] for task in ledger["tasks"]) == ["waves", "wind"]
    assert ledger["requests"]["File/Upload"] == 1


def test_jobs_can_come_through_a_pipe(wiro: Wiro, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are checked as a whole, need a name for their journal, and are not there for a resumption."""
    rows = "".join(json.dumps({"prompt": word, "inputImageFirstUrl": URL}) + "\n" for word in "ab")
    pipe_in(monkeypatch, rows)
    assert "give --journal run.db" in wiro("batch", "-", *MODEL, code=2).problem
    assert wiro("batch", "-", *MODEL, "--journal", "run.db").err == ""
    assert sandbox.ledger()["paid"] == 2
    assert "only the journal's own jobs are resumed" in wiro("resume", "run.db").problem


# -- before anything is paid -------------------------------------------------------------------------------


BAD = """\
{"key": "1", "prompt": "x", "inputImageFirstUrl": "@none.jpg"}
[1]
{"key": "2", "promt": "x", "inputImageFirstUrl": "https://example.org/x.jpg"}
{"key": "3", "prompt": "x", "inputImageFirstUrl": "https://example.org/x.jpg"}
{"key": "3", "prompt": "y", "inputImageFirstUrl": "https://example.org/x.jpg"}
{"key": "4", "prompt": "x", "inputImageFirstUrl": "https://example.org/x.jpg", "model": "nosuch"}
"""


def test_bad_rows_are_told_with_their_lines_and_nothing_is_sent(wiro: Wiro, sandbox: Sandbox) -> None:
    """Not even a journal is made."""
    Path("jobs.jsonl").write_text(BAD)
    said = wiro("batch", "jobs.jsonl", *MODEL, code=2)
    problems = said.err.splitlines()
    assert [problem.split(":")[1].strip() for problem in problems[:-1]] == [
        "line 1",
        "line 2",
        "line 3",
        "line 5",
        "line 6",
    ]
    assert problems[-1] == "wiro: 5 jobs cannot be sent, so nothing was; fix them, or give --skip-invalid"
    assert not Path("jobs.journal.db").exists()
    assert sandbox.ledger()["runs"] == 0


def test_only_so_many_bad_rows_are_told(wiro: Wiro) -> None:
    """Twenty; the others are counted, and with --json they are in the plan."""
    Path("jobs.jsonl").write_text("[1]\n" * 23)
    said = wiro("batch", "jobs.jsonl", *MODEL, "--json", code=2)
    assert [line.split(":")[1].strip() for line in said.err.splitlines()[:20]] == [
        f"line {number}" for number in range(1, 21)
    ]
    assert said.err.splitlines()[20] == "wiro: … and 3 more"
    assert len(said.records[0]["invalid"]) == 23


def test_bad_rows_can_be_left_out(wiro: Wiro, sandbox: Sandbox) -> None:
    """Also when the batch is resumed."""
    Path("jobs.jsonl").write_text(BAD)
    assert "1 succeeded" in wiro("batch", "jobs.jsonl", *MODEL, "--skip-invalid").out
    assert [task["prompt"] for task in sandbox.ledger()["tasks"]] == ["x"]
    assert "skipped" in wiro("resume", "jobs.journal.db").out


def test_a_dry_run_does_nothing(wiro: Wiro, sandbox: Sandbox) -> None:
    """It says what would be done, and what that may cost."""
    said = wiro("batch", table("a", "b"), *MODEL, "--dry-run", "--download", "clips")
    assert said.out == (
        "2 jobs to run\nabout $0.56, an unknown time\nprices: the catalogue's price list (cpr)\n"
    )
    wiro("batch", "jobs.jsonl", *MODEL)
    (plan,) = wiro("batch", table("a", "b", "c"), *MODEL, "--dry-run", "--json").records
    assert (plan["jobs"], plan["ended_before"], plan["estimated_cost"]) == (1, 2, "0.280000000000")
    assert plan["estimated_seconds"] is not None
    assert "or more" in wiro("batch", "jobs.jsonl", *MODEL, "--dry-run").out
    assert sandbox.ledger()["runs"] == 2
    assert not Path("clips").exists()


def test_jobs_can_be_made_unchecked_or_checked_strictly(wiro: Wiro, sandbox: Sandbox) -> None:
    """Both are remembered for a resumption."""
    Path("jobs.jsonl").write_text(json.dumps({"prompt": "x", "inputImageFirstUrl": URL, "style": "sepia"}))
    said = wiro("batch", "jobs.jsonl", *MODEL, "--strict", code=2)
    assert "line 1: 'style' is not listed among the inputs of" in said.err
    assert sandbox.ledger()["runs"] == 0
    said = wiro("batch", "jobs.jsonl", *MODEL, "--strict", "--no-check")
    assert said.err == ""
    assert sandbox.ledger()["runs"] == 1


def test_a_limit_below_the_estimate_is_told(wiro: Wiro) -> None:
    """As the number of jobs that it is enough for, after what was spent."""
    said = wiro("batch", table("a", "b", "c", "d"), *MODEL, "--dry-run", "--max-cost", "0.50")
    assert "\nmax-cost $0.50 covers about 1 of 4\n" in said.out
    assert "covers" not in wiro("batch", "jobs.jsonl", *MODEL, "--dry-run", "--max-cost", "2").out
    wiro("batch", table("a"), *MODEL)
    said = wiro("batch", table("a", "b", "c"), *MODEL, "--dry-run", "--max-cost", "0.60")
    assert "\nmax-cost $0.60 covers about 1 of 2, $0.28 of it are spent\n" in said.out


@pytest.mark.parametrize(("name", "text"), [("jobs.csv", "prompt\n"), ("jobs.jsonl", "\n")])
def test_a_file_without_jobs_is_a_problem(wiro: Wiro, name: str, text: str) -> None:
    """It is not what anybody meant."""
    Path(name).write_text(text)
    assert f"{name} holds no job; write one a line" in wiro("batch", name, *MODEL, code=2).problem


def test_what_no_model_lists_is_noted_before_it_is_paid(wiro: Wiro) -> None:
    """Once for each name, with the line where it came first; it is sent all the same."""
    rows = [{"prompt": word, "inputImageFirstUrl": URL, "caption": "c"} for word in "ab"]
    Path("jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = wiro("batch", "jobs.jsonl", *MODEL, "--dry-run")
    assert said.problem == (
        f"note: line 1: 'caption' is not listed among the inputs of {DIRECTOR}, but is sent anyway"
    )


def test_known_keys_with_other_inputs_are_noted(wiro: Wiro) -> None:
    """Who has mended a prompt expects a new clip; it is said why there is none, once."""
    wiro("batch", table("a", "b"), *MODEL)
    file = Path("jobs.jsonl")
    file.write_text(file.read_text("utf-8").replace('"prompt": "b"', '"prompt": "better"'), "utf-8")
    note = (
        "jobs with other inputs than the journal has under the same keys: 1; they are not run again, give "
        "such jobs other keys"
    )
    said = wiro("batch", "jobs.jsonl", *MODEL)
    assert said.problem == f"note: {note}"
    assert "2 skipped" in said.out
    (plan,) = wiro("batch", "jobs.jsonl", *MODEL, "--dry-run", "--json").records
    assert plan["notes"] == [note]


def test_jobs_without_a_model_are_told_of_the_option(wiro: Wiro) -> None:
    """And not of arguments."""
    said = wiro("batch", table("a"), "--dry-run", code=2)
    assert "line 1: it names no model; give --model" in said.err
    assert "1 job cannot be sent, so nothing was; fix it, or give" in said.err


def test_an_unknown_price_is_told(wiro: Wiro) -> None:
    """An estimate without it would be too low."""
    owner, project = DIRECTOR.split("/")
    with Stub(Tool_Detail=ok(tool=[{"slugowner": owner, "slugproject": project}])) as stub:
        said = wiro("batch", table("a"), *MODEL, "--dry-run", "--base-url", stub.base_url)
    assert "about an unknown cost (1 job without a known price), an unknown time" in said.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("none.jsonl",), "the jobs cannot be read"),
        (("jobs.jsonl", "--max-cost", "much"), "wiro: --max-cost is 'much'; it must be"),
        (("jobs.jsonl", "--delete-remote"), "wiro: --delete-remote is for outputs that were saved"),
        (("jobs.jsonl", "--breaker", "2", "--delete-remote"), "name a folder for them: --download ..."),
        (("jobs.jsonl", "--download", "{nothing}"), "has the field 'nothing'"),
        (("jobs.jsonl", "--download", "jobs.jsonl/x/{key}_{n}"), "the outputs cannot be saved"),
        (("jobs.jsonl", "--journal", "jobs.jsonl"), "journal"),
    ],
)
def test_what_cannot_work_is_one_line(
    wiro: Wiro, sandbox: Sandbox, arguments: tuple[str, ...], problem: str
) -> None:
    """Nothing is sent."""
    table("a")
    said = wiro("batch", *arguments, *MODEL, code=1 if "--journal" in arguments else 2)
    assert problem in said.err.splitlines()[-1]
    assert sandbox.ledger()["runs"] == 0


@pytest.mark.usefixtures("read_only")
def test_a_folder_that_may_not_be_written_is_told(wiro: Wiro) -> None:
    """Before anything is paid for."""
    assert "Permission denied" in wiro("batch", table("a"), *MODEL, "--download", "x", code=2).problem


# -- how it ends -------------------------------------------------------------------------------------------


def test_a_job_that_fails_is_3_now_and_later(wiro: Wiro) -> None:
    """The batch goes on; the failure's reason is told, and how to try again."""
    said = wiro("batch", table("a", "[sandbox:fail no face]"), *MODEL, code=3)
    assert "✗ [sandbox:fail no face]  no face (task 222" in said.out
    assert "1 succeeded, 1 failed" in said.out
    assert "  1 × no face" in said.out
    again = wiro("resume", "jobs.journal.db", code=3)
    assert "1 job failed before; --retry-failed N" in again.out
    assert "1 skipped, 1 failed before; $" in again.out
    assert "1 failed" in wiro("resume", "jobs.journal.db", "--retry-failed", "1", code=3).out


def test_a_batch_that_stops_is_7(wiro: Wiro, sandbox: Sandbox) -> None:
    """The reason and the way on are told, and the library's own warning is not."""
    said = wiro("batch", table("a", "b", "c"), *MODEL, "--max-cost", "0.40", code=7)
    assert "--max-cost $0.40 is spent, or too little is left for another run" in said.problem
    assert said.problem.endswith("`wiro resume jobs.journal.db --max-cost MORE` goes on")
    assert "another run; 1 of 3 jobs were begun; " in said.problem
    assert "1 succeeded, 1 not started" in said.out
    assert "cancelled" not in said.out
    assert sandbox.ledger()["runs"] == 1
    assert "2 succeeded, 1 skipped" in wiro("resume", "jobs.journal.db", "--max-cost", "5").out
    assert sandbox.ledger()["runs"] == 3


@pytest.mark.usefixtures("quick_search")
def test_runs_that_nobody_knows_of_are_told(wiro: Wiro, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be billed."""
    wiro("batch", table("a"), *MODEL)
    with _journal() as store:
        intend_at(store, "lost")
        apply(store, Doubted("lost", "the power failed"))
    said = wiro("resume", "jobs.journal.db", code=3)
    assert "the outcome of 1 run is unknown, and it may be billed" in said.err
    with _journal() as store:
        intend_at(store, "lost, too")
        apply(store, Doubted("lost, too", "the power failed"))
    said = wiro("resume", "jobs.journal.db", code=3)
    assert "the outcome of 2 runs is unknown, and they may be billed" in said.err


def test_a_stop_by_another_limit_has_its_own_words(wiro: Wiro) -> None:
    """Only for max-cost is there something to raise."""
    said = wiro("batch", table("[sandbox:fail no]", "b"), *MODEL, "--canary", "1", code=7)
    assert said.problem.endswith("; `wiro resume jobs.journal.db` goes on")


def test_a_task_that_runs_longer_than_one_waits_is_no_failure(wiro: Wiro, sandbox: Sandbox) -> None:
    """It is told as still running, and so counted; the command that waits on is named."""
    jobs = table("[sandbox:hang]", "[sandbox:fail no face]")
    said = wiro("batch", jobs, *MODEL, "--timeout", "0.5", code=3)
    assert "… [sandbox:hang]  still running after 0.5 s (task 222" in said.out
    assert "1 failed, 1 still running; " in said.out
    assert said.out.count("  1 × ") == 1
    assert said.problem == "1 task goes on; `wiro resume jobs.journal.db` waits again"


def _journal() -> Any:
    return contextlib.closing(opened(Path("jobs.journal.db")))


# -- going on ----------------------------------------------------------------------------------------------


def test_what_was_said_is_remembered(wiro: Wiro, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model, folder and all; it holds in another folder too, and what is said now counts for more."""
    wiro("batch", table("a", "b"), *MODEL, "--download", "clips", "--max-cost", "0.20", code=7)
    here = Path.cwd()
    (here / "else").mkdir()
    monkeypatch.chdir(here / "else")
    said = wiro("resume", str(here / "jobs.journal.db"), "--max-cost", "9", "--json")
    assert said.records[-1]["complete"]
    assert len(list((here / "clips").iterdir())) == 2


def test_a_file_that_changed_is_not_read_unless_it_is_named(wiro: Wiro, sandbox: Sandbox) -> None:
    """Else a batch would grow behind its user's back."""
    wiro("batch", table("a"), *MODEL)
    table("a", "b")
    said = wiro("resume", "jobs.journal.db")
    assert "jobs.jsonl has changed since; only the journal's own jobs are resumed" in said.problem
    Path("jobs.jsonl").rename("more.jsonl")
    assert "cannot be read" in wiro("resume", "jobs.journal.db").problem
    assert sandbox.ledger()["runs"] == 1
    assert wiro("resume", "jobs.journal.db", "--jobs", "more.jsonl").err == ""
    assert sandbox.ledger()["runs"] == 2


def test_a_journal_of_another_service_is_refused(
    wiro: Wiro, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks would all seem lost; an address that is given is meant."""
    wiro("batch", table("a"), *MODEL)
    monkeypatch.setenv("WIRO_BASE_URL", "http://127.0.0.1:9/v1")
    assert (
        f"the journal's tasks are at {sandbox.base_url}" in wiro("resume", "jobs.journal.db", code=2).problem
    )
    said = wiro("resume", "jobs.journal.db", "--base-url", sandbox.base_url)
    assert said.err == ""


def test_a_journal_that_no_command_made_can_be_resumed(wiro: Wiro) -> None:
    """A program's, for example: it has no options to remember."""
    with _journal() as store:
        intend_at(store, "a")
        apply(store, Released("a", "RateLimited", "later"))
    said = wiro("resume", "jobs.journal.db", "--json", code=3)
    assert said.records[0]["jobs"] == 1


def test_there_must_be_a_journal(wiro: Wiro) -> None:
    """None is made for a resumption, or to be shown."""
    for command in ("resume", "journal"):
        problem = wiro(command, "none.db", code=1).problem
        assert "none.db' does not exist; check the path: `wiro batch` makes one" in problem
    assert not Path("none.db").exists()


def test_memories_are_read_whatever_they_are() -> None:
    """Of a later version, or none at all."""
    assert Memory.read(None) == Memory()
    assert Memory.read({"options": 7}) == Memory()
    memory = Memory.read({"options": {"canary": 2, "later": 1}, "jobs": "/j", "sha256": "0"})
    assert memory == Memory(options=Options(canary=2), jobs="/j", sha256="0")
    assert Memory.read(memory.record()) == memory


def test_options_become_the_arguments_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's own braces are no fields, and 0 turns the breaker off."""
    folder = tmp_path / "{odd}"
    folder.mkdir()
    monkeypatch.chdir(folder)
    options = Options(download="clips", breaker=0, stop_on_exit=True, key="id", skip_invalid=True)
    arguments = options.settled().arguments()
    assert arguments == {
        "download": f"{tmp_path}/{{{{odd}}}}/clips",
        "breaker": None,
        "stop_on_exit": "stop",
    }
    assert Options(stop_on_exit=False, breaker=3).arguments() == {"stop_on_exit": "leave", "breaker": 3}
    assert Options(strict=True).arguments() == {"check": "strict"}
    assert Options(strict=True, check=False).arguments() == {"check": False}
    assert Options(strict=False, check=True).arguments() == {"check": True}
    assert _batch._folder_of(arguments["download"]) == folder / "clips"
    assert _batch._folder_of("/a/{{b}}/c_{n}") == Path("/a/{b}")


# -- interruptions -----------------------------------------------------------------------------------------


def running(sandbox: Sandbox, count: int = 1) -> Callable[[], bool]:
    """Return whether so many tasks are seen running."""

    def happened() -> bool:
        return [task["status"] for task in sandbox.ledger()["tasks"]].count("task_start") >= count

    return happened


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_tasks_to_the_journal(wiro: Wiro, sandbox: Sandbox, number: int) -> None:
    """They go on; how to take them up is told, and works."""
    with interrupt_when(running(sandbox, 2), number):
        said = wiro("batch", table("[sandbox:hang]a", "[sandbox:hang]b"), *MODEL, "--json", code=130)
    assert said.problem == "interrupted; 2 tasks go on; `wiro resume jobs.journal.db` resumes them"
    assert said.records[-1]["type"] == "interrupted"
    assert said.records[-1]["running"] == 2
    ledger = sandbox.ledger()
    assert ledger["active"] == 2
    for task in ledger["tasks"]:
        wiro("stop", task["id"])
    assert "2 cancelled" in wiro("resume", "jobs.journal.db", code=3).out


def test_an_interruption_can_stop_the_tasks(wiro: Wiro, sandbox: Sandbox) -> None:
    """With --stop-on-exit none goes on."""
    with interrupt_when(running(sandbox)):
        said = wiro("batch", table("[sandbox:hang]"), *MODEL, "--stop-on-exit", code=130)
    assert said.problem == (
        "interrupted; no task goes on; `wiro resume jobs.journal.db` runs the remaining jobs"
    )
    assert sandbox.ledger()["active"] == 0


def test_an_interruption_while_rows_are_checked_is_just_one(wiro: Wiro) -> None:
    """Nothing was sent yet, and there is nothing to take up."""
    # The model is asked for while the rows are checked. It never answers.
    with Stub(Tool_Detail=lambda: os.kill(os.getpid(), signal.SIGINT)) as stub:
        said = wiro("batch", table("a"), *MODEL, "--base-url", stub.base_url, code=130)
    assert said.problem == "interrupted"
    assert set(stub.calls) == {"Tool/Detail"}


async def test_a_signal_before_the_batch_has_begun_counts() -> None:
    """It is not forgotten until there is something to interrupt."""
    signals, called = _batch._Signals(), []
    signals.tell()
    signals.came = True
    signals.begin(lambda: called.append(1))
    signals.tell()
    assert called == [1, 1]


@pytest.fixture
def anyio_backend() -> str:
    """The command line runs on asyncio."""
    return "asyncio"


def test_signals_that_are_ignored_stay_so(wiro: Wiro, sandbox: Sandbox) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt_when(running(sandbox), signal.SIGHUP):
            wiro("batch", table("[sandbox:run=300]"), *MODEL)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_leaves_at_once_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The service does not answer any more; the journal knows what was sent, as after a power cut."""
    monkeypatch.chdir(tmp_path)
    deaf = FaultPlan()
    deaf.script(lambda request: request.operation in ("Task/Cancel", "Task/Kill"), Blackhole(), times=None)
    with Sandbox(render=False, speed=1000, run_sigma=0, balance=1000, faults=deaf) as sandbox:
        name_in_environment(sandbox, monkeypatch)
        wiro = Wiro(capsys, lambda: secrets_of(sandbox))
        name = table("[sandbox:hang]a", "[sandbox:hang]b")
        # The first signal waits for the tasks to be stopped, which takes its time.
        child = subprocess.Popen(
            [sys.executable, "-m", "wiro_async", "batch", name, *MODEL, "--stop-on-exit"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(running(sandbox, 2))
            child.send_signal(signal.SIGTERM)
            wait_until(lambda: bool(deaf.injected))
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
            child.communicate()
        assert child.returncode == 130
        assert "exited at once; nothing is lost: `wiro resume jobs.journal.db` goes on" in errors
        deaf.clear()
        for task in sandbox.ledger()["tasks"]:
            wiro("stop", task["id"])
        assert "2 cancelled" in wiro("resume", "jobs.journal.db", code=3).out
        assert sandbox.ledger()["runs"] == 2


def test_a_killed_batch_is_taken_up(wiro: Wiro, alone: Wiro, sandbox: Sandbox) -> None:
    """While it runs nobody else can look into its journal; afterwards nothing is paid for twice."""
    name = table(*(f"[sandbox:run=3000]{key}" for key in "abc"))
    child = subprocess.Popen(
        [sys.executable, "-m", "wiro_async", "batch", name, *MODEL], stdout=subprocess.DEVNULL
    )
    try:
        # All answers are in, so that none has to be looked for, which takes half a minute.
        wait_until(running(sandbox, 3))
        assert "in use by another process" in alone("journal", "jobs.journal.db", code=1).problem
    finally:
        child.kill()
        child.wait()
    wiro("resume", "jobs.journal.db")
    ledger = sandbox.ledger()
    assert (ledger["runs"], ledger["paid"]) == (3, 3)


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which this process would have ended at once."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_the_second_signal_is_the_last(exits: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    """The first is told to the event loop; before and after the block others handle them."""
    told: list[int] = []

    async def enter() -> Any:
        return block.enter_context(_batch._signals("bye", Report()))

    before = signal.getsignal(signal.SIGTERM)
    with contextlib.closing(asyncio.new_event_loop()) as loop, contextlib.ExitStack() as block:
        signals = loop.run_until_complete(enter())
        signals.begin(lambda: told.append(1))
        signal.raise_signal(signal.SIGTERM)
        loop.run_until_complete(asyncio.sleep(0))
        assert (told, exits) == ([1], [])
        # Between two turns of the loop: what ends the process may block it.
        signal.raise_signal(signal.SIGINT)
        assert (exits, capfd.readouterr().err) == ([130], "bye")
    assert signal.getsignal(signal.SIGTERM) is before


def test_leaving_says_how_to_go_on(exits: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    """Where there is no live view, that is all; where nobody reads, not even that."""
    _batch._leave("bye", Report())
    assert capfd.readouterr() == ("", "bye")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, contextlib.redirect_stderr(pipe):
        _batch._leave("bye", Report())
    assert exits == [130, 130]


def test_leaving_shows_the_cursor_again(exits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The live view has hidden it."""
    be_a_terminal(monkeypatch)
    master, slave = os.openpty()
    with (
        os.fdopen(master, "rb", buffering=0) as screen,
        os.fdopen(slave, "w") as terminal,
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(terminal),
    ):
        _batch._leave("bye", Report())
        shown = b""
        while len(shown) < len(b"\x1b[?25hbye"):
            shown += screen.read(100)
    assert shown == b"\x1b[?25hbye"
    assert exits == [130]


def test_other_warnings_are_let_through(caplog: pytest.LogCaptureFixture) -> None:
    """Only what the plan and the report have is told by the command itself."""
    with without_warnings("wiro_async.batch"):
        logging.getLogger("wiro_async.batch").warning("a stop")
        logging.getLogger("wiro_async").warning("a task")
    logging.getLogger("wiro_async.batch").warning("a later stop")
    assert caplog.messages == ["a task", "a later stop"]


# -- the view ----------------------------------------------------------------------------------------------


def standing(**counts: Any) -> dict[str, Any]:
    """Return how a batch stands."""
    stages = dict.fromkeys((name for name, _, _ in _batch_view.STAGES), 0)
    return {
        "type": "progress",
        "total": 10,
        "read": 4,
        **stages,
        "spent": "1.4",
        "reserved": "0",
        "rate": 0.0,
        "eta": None,
        "elapsed": 5.0,
        **counts,
    }


def test_the_bar_gives_each_stage_its_share() -> None:
    """It is as wide as it may be, whatever the counts."""
    bar = stacked(standing(succeeded=5, failed=2, running=1), 10)
    assert bar.plain == "━" * 8 + "─" * 2
    assert [str(span.style) for span in bar.spans] == ["green", "red", "blue", "dim"]
    assert len(stacked(standing(total=None, read=3, waiting=3), 7).plain) == 7
    assert len(stacked(standing(total=0, read=0), 7).plain) == 7


@pytest.mark.parametrize(("columns", "widest"), [(80, 80), (40, 40), (200, 100)])
def test_a_terminal_shows_one_picture(
    wiro: Wiro, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, columns: int, widest: int
) -> None:
    """States, money and the last failures; when it is gone, the sums remain."""
    terminal = be_a_terminal(monkeypatch, columns)
    wiro("batch", table("a", "[sandbox:fail no face]", "[sandbox:run=300]b"), *MODEL, code=3)
    frames, _, summary = terminal.getvalue().rpartition("\x1b[?25h")
    plain = Text.from_ansi(frames).plain
    assert "✗ [sandbox:fail no face]  no face" in plain
    assert "✓" not in plain
    assert "3 of 3: 2 succeeded, 1 failed" in plain
    bars = [line.rpartition("\r")[2] for line in plain.split("\n") if "━━" in line]
    assert max(map(len, bars)) == widest
    assert "2 succeeded, 1 failed" in summary


def test_the_pace_is_told_as_far_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first there is none."""
    terminal = be_a_terminal(monkeypatch, 100)
    view = BatchView(Report(), "25")
    report = Report()
    report.show(view.__rich__())
    view.progress(standing(succeeded=4, rate=0.1, eta=60.0))
    report.show(view.__rich__())
    told = Text.from_ansi(terminal.getvalue()).plain
    assert told.startswith("starting\n")
    assert "4 of 10: 4 succeeded\n" in told
    assert "$1.40 of $25; 6.0 a minute; 5.0 s; " in told
    assert " to go" in told


def test_where_nothing_is_redrawn_a_line_now_and_then_tells_how_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside those of the outcomes."""
    view = BatchView(Report())
    view.progress(standing())
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(_batch_view, "PLAIN_SECONDS", 0.0)
    view.progress(standing(total=None))
    assert capsys.readouterr().out == "0 of 4; $1.40; 5.0 s\n"


def test_a_job_that_was_not_begun_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    """When a batch stops, it is said once, and not for each job that waits."""
    view = BatchView(Report())
    view.outcome(outcome_record(JobOutcome("a", error=BatchStopped("no", reason="balance"))))
    assert capsys.readouterr().out == ""
    view.outcome(outcome_record(JobOutcome("b", error=OSError("disk full"), cost=Decimal(1))))
    assert capsys.readouterr().out == "✗ b  disk full\n"
    view.outcome(outcome_record(JobOutcome("c", error=TaskCancelled("task 7 was cancelled"), task_id="7")))
    assert capsys.readouterr().out == "✗ c  task 7 was cancelled\n"


# -- the journal -------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """A journal with something of everything."""
    path = tmp_path / "all.db"
    store = opened(path)
    for key in ("done", "failed", "cancelled", "r1", "r2", "r3", "r4", "r5", "r6", "unknown", "refused"):
        intend_at(store, key)
        if key not in ("unknown", "refused"):
            apply(store, Accepted(key, f"task-{key}", None))
    apply(
        store,
        succeeded("done"),
        Saved("done", 0, "/clips/0.mp4", 10, "00"),
        Done("done"),
        failed("failed"),
        cancelled("cancelled"),
        Doubted("unknown", "the power failed"),
        Released("refused", "RateLimited", "too \x1b[2J many"),
    )
    store.close()
    return str(path)


@pytest.fixture
def alone(capsys: pytest.CaptureFixture[str]) -> Wiro:
    """The command line, without keys: a journal needs none to be read."""
    return Wiro(capsys, list)


def test_a_journal_is_shown(alone: Wiro, journal: str) -> None:
    """By state, with the cost, the reasons, and the oldest tasks that run."""
    out = alone("journal", journal).out
    assert "1  done       complete" in out
    assert "6  running    the task is under way" in out
    assert "ended      " not in out
    assert "11 jobs; cost $0.35\n" in out
    assert "  1 × failed: no face found\n" in out
    assert "  1 × waiting for its turn: too �[2J many\n" in out
    assert "1  refused    waiting for its turn; no task exists yet" in out
    assert "no task exists\n" not in out
    assert "  1 × cancelled\n" in out
    assert [line.split(",")[0] for line in out.splitlines() if line.startswith("running: ")] == [
        f"running: r{number}" for number in range(1, 6)
    ]


def test_a_journal_tells_of_charges_that_are_not_recorded_yet(alone: Wiro, tmp_path: Path) -> None:
    """Their estimates are in the sum."""
    store = opened(tmp_path / "late.db")
    intend_at(store, "a")
    apply(
        store, Accepted("a", "7"), Ended("a", "succeeded", cost=Decimal("0.5"), outputs=(), cost_final=False)
    )
    store.close()
    out = alone("journal", str(tmp_path / "late.db")).out
    assert "1 jobs; cost $0.50, with estimates for 1 not recorded yet\n" in out
    (record,) = alone("journal", str(tmp_path / "late.db"), "--json").records
    assert (record["cost"], record["uncharged"]) == ("0.5", 1)


def test_a_journal_is_a_record(alone: Wiro, journal: str) -> None:
    """With the same facts."""
    (record,) = alone("journal", journal, "--json").records
    assert (record["total"], record["cost"], record["jobs"]["running"]) == (11, "0.35", 6)
    assert record["failures"][0].keys() == {"state", "error", "reason", "jobs"}
    first = record["oldest_running"][0]
    assert (first["key"], first["task_id"], first["state"]) == ("r1", "task-r1", "running")
    assert first["accepted_at"].startswith("2023-11-14T")


def test_the_rows_of_a_state_are_listed(alone: Wiro, journal: str) -> None:
    """Each on a line, or as a record."""
    assert alone("journal", journal, "--rows", "done").out == f"done  task-done  {DIRECTOR}  /clips/0.mp4\n"
    assert "no face found" in alone("journal", journal, "--rows", "failed").out
    (record,) = alone("journal", journal, "--rows", "cancelled", "--json").records
    assert (record["state"], record["saved"], record["cost"]) == ("cancelled", [], None)
    assert "lost" in alone("journal", journal, "--rows", "lost", code=2).problem


def test_failed_jobs_are_a_job_file(alone: Wiro, journal: str) -> None:
    """It holds what a resumption leaves alone; what that takes up is counted, and not to be paid twice."""
    said = alone("journal", journal, "--failed")
    assert [record["key"] for record in said.records] == ["failed", "cancelled"]
    assert said.records[0] == {"key": "failed", "model": DIRECTOR, "inputs": {"prompt": "waves"}}
    assert said.problem == f"not among these: 1 unknown, 1 refused; `wiro resume {journal}` resumes them"


def test_failed_jobs_that_are_tried_again_are_left_to_that(wiro: Wiro, sandbox: Sandbox) -> None:
    """The journal remembers how often."""
    wiro("batch", table("[sandbox:fail no face]"), *MODEL, code=3)
    assert len(wiro("journal", "jobs.journal.db", "--failed").records) == 1
    asyncio.run(_remember_retries(sandbox))
    said = wiro("journal", "jobs.journal.db", "--failed")
    assert said.out == ""
    assert said.problem.startswith("not among these: 1 failed; ")


async def _remember_retries(sandbox: Sandbox) -> None:
    memo = Memory(options=Options(retry_failed=1)).record()
    async with (
        Client("sandbox-key", "sandbox-secret", base_url=sandbox.base_url) as client,
        client.batch(journal="jobs.journal.db", memo=memo),
    ):
        pass


def test_a_failed_job_is_paid_once_by_both_ways(wiro: Wiro, sandbox: Sandbox) -> None:
    """The example of the help, followed by a resumption."""
    wiro("batch", table("[sandbox:fail no face]"), *MODEL, code=3)
    with _journal() as store:
        waiting = intended("turn", prompt="t", inputImageFirstUrl=URL)
        apply(store, waiting, Released("turn", "ConcurrencyLimited", "full"))
    Path("retry.jsonl").write_text(wiro("journal", "jobs.journal.db", "--failed").out)
    wiro("batch", "retry.jsonl", code=3)
    wiro("resume", "jobs.journal.db", code=3)
    assert [task["prompt"] for task in sandbox.ledger()["tasks"]].count("t") == 1
    assert sandbox.ledger()["runs"] == 3


def test_a_journal_in_which_nothing_waits_says_nothing_of_turns(alone: Wiro, tmp_path: Path) -> None:
    """A refusal for good keeps its name."""
    store = opened(tmp_path / "run.db")
    intend_at(store, "a")
    apply(store, Released("a", "InvalidInput", "no such model"))
    store.close()
    out = alone("journal", str(tmp_path / "run.db")).out
    assert "1  refused  no task exists\n" in out
    assert "  1 × refused: no such model\n" in out


def test_a_journal_takes_no_address(alone: Wiro, journal: str) -> None:
    """It is read from the disk alone."""
    assert "--base-url" in alone("journal", journal, "--base-url", "http://127.0.0.1:9", code=2).problem


def test_failed_jobs_with_bytes_are_left_out(alone: Wiro, tmp_path: Path) -> None:
    """No journal keeps bytes."""
    store = opened(tmp_path / "run.db")
    wanted = intended("a", image=Blob("00", 1))
    apply(store, wanted, Accepted("a", "1", None), failed("a"))
    store.close()
    said = alone("journal", str(tmp_path / "run.db"), "--failed")
    assert said.out == ""
    assert "the job 'a' has bytes" in said.problem


# -- journals that were moved ------------------------------------------------------------------------------


def test_a_journal_without_its_wal_file_is_accepted(sandbox: Sandbox, wiro: Wiro, tmp_path: Path) -> None:
    """After the comparison; what the account has besides is told."""
    rows = [{"prompt": key, "inputImageFirstUrl": URL, "key": key} for key in ("a", "b")]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wiro("batch", "jobs.jsonl", "--journal", "run.db", *MODEL)
    store = opened(tmp_path / "run.db")
    with store.transaction():
        apply(store, Learned("x", {}))
    half = (tmp_path / "run.db").read_bytes()
    store.close()
    (tmp_path / "half.db").write_bytes(half)
    refused = wiro("journal", "half.db", code=1)
    assert "put its own -wal file beside it" in refused.err
    assert (
        "accepted; of 2 newer tasks 0 are of runs that the journal lacks"
        in wiro("journal", "accept", "half.db").out
    )
    (record,) = wiro("journal", "accept", "half.db", "--json").records
    assert record == {
        "type": "accepted",
        "journal": "half.db",
        "tasks": 2,
        "complete": True,
        "missing": [],
        "others": [],
    }
    assert wiro("journal", "half.db").out


def test_what_an_accepted_journal_lacks_is_listed(
    sandbox: Sandbox, wiro: Wiro, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that fetches it."""

    def more(*keys: str) -> None:
        rows = [
            {"prompt": key, "inputImageFirstUrl": URL, "callbackUrl": "http://127.0.0.1:9/", "key": key}
            for key in keys
        ]
        (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    more("a")
    wiro("batch", "jobs.jsonl", "--journal", "run.db", *MODEL)
    (tmp_path / "old.db").write_bytes((tmp_path / "run.db").read_bytes())
    more("a", "b")
    wiro("batch", "jobs.jsonl", "--journal", "run.db", *MODEL)
    wiro("run", DIRECTOR, "-i", f"inputImageFirstUrl={URL}", "-i", "prompt=other")
    stopped = wiro("batch", "jobs.jsonl", "--journal", "old.db", *MODEL, code=7)
    assert "is behind" in stopped.err
    monkeypatch.setattr("wiro_async._jobs.reconcile.MAX_PAGES", 1)
    said = wiro("journal", "accept", "old.db")
    tasks = {task["prompt"]: task["id"] for task in sandbox.ledger()["tasks"]}
    assert f"`wiro download {tasks['b']}" in said.err
    assert "more newer tasks than could be compared" in said.err
    assert f"task {tasks['other']}, {DIRECTOR}" in said.out
    assert len(sandbox.ledger()["tasks"]) == 3
