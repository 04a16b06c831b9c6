"""``wiro demo``: the library's main job, as a newcomer sees it first."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import pytest
from PIL import Image
from rich.text import Text

from tests.cli_tools import Wiro, be_a_terminal, interrupt_when
from tests.journals import intended
from tests.servers import wait_until
from wiro_async import JournalEntry, JournalFile
from wiro_async.cli import _demo
from wiro_async.cli._batch_view import BatchView
from wiro_async.cli._demo_plan import Books, Job, job_record, job_row, plan
from wiro_async.cli._demo_sandbox import SandboxDied, SandboxProcess
from wiro_async.cli._demo_view import say_summary
from wiro_async.cli._report import Report
from wiro_async.sandbox import demo_images

QUICK = ("--speed=300", "--seed=7", "--balance=1000", "--no-render")


@pytest.fixture
def anyio_backend() -> str:
    """The command line runs on asyncio."""
    return "asyncio"


class Processes(list[SandboxProcess]):
    """Every sandbox that was started.

    Attributes:
        options: What the next one is told; None: what the demo wants.
        locks_out: Whether its keys turn wrong as soon as its books were read twice.
    """

    options: tuple[str, ...] | None = None
    locks_out: bool = False


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """Every sandbox that was started; in the end, none of them may live."""
    started = Processes()

    class Watched(SandboxProcess):
        reads: int = 0

        def __init__(self, options: tuple[str, ...]) -> None:
            super().__init__(started.options or options)
            started.append(self)

        def ledger(self) -> dict[str, Any]:
            self.reads += 1
            if started.locks_out and self.reads == 2:
                self.api_secret = "wrong"
            return super().ledger()

    monkeypatch.setattr(_demo, "SandboxProcess", Watched)
    yield started
    for sandbox in started:
        assert sandbox._process is not None
        assert sandbox._process.poll() is not None


@pytest.fixture
def wiro(capsys: pytest.CaptureFixture[str], processes: Processes) -> Wiro:
    """The command line; the sandboxes' keys are secrets."""
    return Wiro(capsys, lambda: [key for one in processes for key in (one.api_key, one.api_secret)])


@pytest.fixture
def quick(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox be quick, and leave the rendering out."""
    processes.options = QUICK
    monkeypatch.setattr(_demo, "CANCEL_AFTER", 0.0)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put another program in the place of the interpreter that runs child processes."""
    return lambda path: monkeypatch.setattr(sys, "executable", path)


# -- the real thing ------------------------------------------------------------------------------------------


def test_the_demo_makes_clips_that_play(wiro: Wiro, processes: Processes, tmp_path: Path) -> None:
    """Three pictures become six clips of six seconds, though the batch is killed; nothing is paid twice."""
    processes.options = ("--speed=30", "--seed=7", "--balance=1000")
    said = wiro("demo", "--output", str(tmp_path / "clips"))
    stems = [image.stem for image in demo_images()]
    names = {f"{stem}-{model}_0.mp4" for stem in stems for model in ("director", "subject")}
    assert {path.name for path in (tmp_path / "clips").iterdir()} == names
    for image in demo_images():
        for model in ("director", "subject"):
            _check_clip(tmp_path / "clips" / f"{image.stem}-{model}_0.mp4", image)
    assert all(re.search(rf"✓ {name} +[\d.]+ [kM]B .* \$0\.28\n", said.out) for name in names)
    assert re.search(r"The power fails: the batch's process is killed\. \d tasks run on\.", said.out)
    assert "failed, on purpose" in said.out
    assert "was cancelled, on purpose" in said.out
    assert f"6 clips of 6 s are in {tmp_path / 'clips'}/" in said.out
    assert "killed once, and nothing was paid for twice: 8 runs for 8 jobs,\n6 of them paid." in said.out
    assert "Bill: $1.68 of play money; the sandbox's books agree." in said.out
    assert re.search(r"\d+ requests in \d+\.\d s", said.out)
    assert "wiro batch jobs.csv --model MiniMax/image-to-video-01-director" in said.out
    assert said.err == ""


def _check_clip(clip: Path, image: Path) -> None:
    """Decode every frame: six seconds, and the picture's aspect up to the rounding to even pixels."""
    with Image.open(image) as picture:
        aspect = picture.width / picture.height
    with av.open(clip) as container:
        stream = container.streams.video[0]
        frames = [(frame.width, frame.height) for frame in container.decode(stream)]
        rate = cast("Fraction", stream.average_rate)
    assert len(frames) / rate == 6
    ((width, height),) = set(frames)
    assert abs(width / height - aspect) / aspect < 0.02


@pytest.mark.usefixtures("quick")
def test_the_demo_takes_pictures_of_ones_own(wiro: Wiro, tmp_path: Path) -> None:
    """Any number of them; two of the same name do not overwrite each other."""
    pictures = [tmp_path / "a" / "my photo.jpg", tmp_path / "b" / "my photo.jpg"]
    for picture in pictures:
        picture.parent.mkdir()
        picture.write_bytes(demo_images()[0].read_bytes())
    (record,) = wiro("demo", *map(str, pictures), "--output", str(tmp_path / "out"), "--json").records
    assert (record["type"], record["as_planned"]) == ("demo", True)
    assert [Path(job["saved"]).name for job in record["jobs"] if job["saved"]] == [
        "my_photo-director_0.mp4",
        "my_photo-2-director_0.mp4",
        "my_photo-subject_0.mp4",
        "my_photo-2-subject_0.mp4",
    ]
    assert [job["outcome"] for job in record["jobs"]] == ["succeeded"] * 4 + ["failed", "cancelled"]
    assert Decimal(record["bill"]) == Decimal("1.12")
    assert (record["runs"], record["paid"]) == (6, 4)
    assert Decimal(record["charged"]) == Decimal(record["bill"])
    assert record["requests"] > 10


@pytest.mark.usefixtures("quick")
def test_a_terminal_shows_the_batch(wiro: Wiro, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One picture for both processes, the power cut between them; in the end the summary remains."""
    terminal = be_a_terminal(monkeypatch)
    wiro("demo", "--output", str(tmp_path))
    frames, _, summary = terminal.getvalue().rpartition("\x1b[?25h")
    plain = Text.from_ansi(frames).plain
    assert "The power fails" in plain
    assert "of 8: " in plain
    assert "clips of 6 s" in summary


# -- what can go wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"), [("none.jpg", "does not exist"), ("", "is not a file"), ("empty.jpg", "is empty")]
)
def test_a_bad_path_is_one_line_before_anything_starts(
    wiro: Wiro, processes: Processes, tmp_path: Path, name: str, problem: str
) -> None:
    """It is named, and no sandbox was started."""
    (tmp_path / "empty.jpg").touch()
    said = wiro("demo", str(demo_images()[0]), str(tmp_path / name), code=2)
    assert problem in said.problem
    assert "nothing was started" in said.problem
    assert said.out == ""
    assert processes == []


def test_an_installation_without_pictures_asks_for_some(wiro: Wiro, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that was stripped of its data still has a demo."""
    monkeypatch.setattr(_demo, "demo_images", lambda: ())
    assert "wiro demo photo.jpg" in wiro("demo", code=2).problem


@pytest.mark.usefixtures("quick")
def test_a_picture_that_is_none_is_told(wiro: Wiro, processes: Processes, tmp_path: Path) -> None:
    """The service's own reason is shown for the two jobs, and the demo did not go as planned."""
    processes.options = ("--speed=300", "--balance=1000")
    (tmp_path / "notes.jpg").write_text("not a picture")
    said = wiro("demo", str(tmp_path / "notes.jpg"), "--output", str(tmp_path / "out"), code=1)
    assert re.search(r"✗ notes\.jpg, director: .*unreadable", said.out)
    assert "failed, on purpose" in said.out
    assert "did not go as planned" in said.problem


def test_a_folder_that_cannot_be_made_is_one_line(wiro: Wiro, processes: Processes, tmp_path: Path) -> None:
    """It is found out before the sandbox starts."""
    (tmp_path / "file").touch()
    assert "file" in wiro("demo", "--output", str(tmp_path / "file"), code=1).problem
    assert processes == []


def test_an_interruption_ends_the_sandbox(wiro: Wiro, processes: Processes, tmp_path: Path) -> None:
    """Ctrl-C while the jobs run leaves no process behind, and says so."""
    processes.options = ("--speed=30", "--seed=7", "--balance=1000", "--no-render")

    def jobs_run() -> bool:
        return bool(processes and processes[0].base_url) and processes[0].ledger()["paid"] > 0

    with interrupt_when(jobs_run):
        said = wiro("demo", "--output", str(tmp_path), "--json", code=130)
    assert said.problem == "interrupted; the sandbox is stopped"
    assert [record["error"] for record in said.records] == ["Interrupted"]


def test_a_sandbox_that_cannot_start_is_one_line(wiro: Wiro, processes: Processes, tmp_path: Path) -> None:
    """With the last line that it wrote."""
    processes.options = ("--speed=0",)
    said = wiro("demo", "--output", str(tmp_path), code=1)
    assert said.problem.startswith("the sandbox ended at once (exit code 2): ")
    assert "speed" in said.problem


def test_a_sandbox_that_is_never_ready_is_given_up() -> None:
    """And it is ended."""
    sandbox = SandboxProcess((), start_timeout=0)
    with pytest.raises(SandboxDied, match="not ready after 0 s"):
        sandbox.__enter__()
    assert sandbox._process is not None
    assert sandbox._process.returncode is not None


def test_a_sandbox_that_says_nothing_is_told_so(interpreter: Callable[[str], None]) -> None:
    """Even an interpreter that just exits gives a line."""
    interpreter("/bin/false")
    with pytest.raises(SandboxDied, match="it said nothing"):
        SandboxProcess(()).__enter__()


def test_a_sandbox_that_cannot_even_be_started_leaves_nothing(interpreter: Callable[[str], None]) -> None:
    """The error is the operating system's, and the temporary folder is gone."""
    interpreter("/no/such/python")
    sandbox = SandboxProcess(())
    with pytest.raises(FileNotFoundError):
        sandbox.__enter__()
    assert not sandbox._path.exists()


def test_a_sandbox_that_does_not_listen_is_killed() -> None:
    """It has its time to end, and no more."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sandbox = SandboxProcess((), stop_timeout=0.05)
        sandbox._process = process
        sandbox._end()
        assert process.returncode == -signal.SIGKILL


def test_a_sandbox_that_was_never_entered_ends_too() -> None:
    """There is nothing to end then."""
    SandboxProcess(()).__exit__(None, None, None)


def test_a_batch_that_ends_before_its_time_is_told(
    wiro: Wiro, processes: Processes, interpreter: Callable[[str], None], tmp_path: Path
) -> None:
    """With the last line that it wrote, if there was one."""
    processes.options = (*QUICK, "--api-secret=another")
    said = wiro("demo", "--output", str(tmp_path), code=1)
    assert re.match(r"the batch ended before its time \(exit code \d\): wiro: ", said.problem)
    interpreter("/bin/false")
    demo = _demo._Demo([], tmp_path, tmp_path, SandboxProcess(()), Report())
    with pytest.raises(OSError, match="it said nothing"), demo._child() as child:
        demo._follow(child, BatchView(Report()))


@pytest.mark.usefixtures("quick")
def test_a_task_that_cannot_be_cancelled_ends_the_demo(
    wiro: Wiro, processes: Processes, tmp_path: Path
) -> None:
    """Nothing else would end it."""
    processes.locks_out = True
    said = wiro("demo", "--output", str(tmp_path), code=1)
    assert "the batch ended before its time (exit code -9)" in said.problem


def test_a_cancellation_that_is_not_needed_is_not_made(tmp_path: Path) -> None:
    """The batch may end before its moment comes."""
    with SandboxProcess(QUICK) as sandbox, subprocess.Popen(["/bin/true"], text=True) as child:
        demo = _demo._Demo([], tmp_path, tmp_path, sandbox, Report())
        with demo._cancelling(child):
            time.sleep(3 * _demo.LOOK_EVERY)
        assert sandbox.ledger()["runs"] == 0


def test_a_sandbox_ends_with_its_parent(tmp_path: Path) -> None:
    """Whatever kills that: it notices that nobody holds its stdin any more."""
    code = (
        "import os, sys; from wiro_async.cli._demo_sandbox import SandboxProcess; "
        "sandbox = SandboxProcess(('--no-render',)).__enter__(); "
        "print(sandbox._process.pid, sandbox._folder.name, flush=True); os._exit(9)"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert parent.returncode == 9
    pid, folder = parent.stdout.split()
    try:
        wait_until(lambda: not _lives(int(pid)))
    finally:
        shutil.rmtree(folder)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_books_that_disagree_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo counts money and runs on both sides."""
    jobs = plan([Path("a.jpg")])
    for job in jobs:
        job.entry = row(job)
    books = Books(Decimal("0.56"), Decimal("0.84"), runs=5, paid=3, requests=1, seconds=1.0)
    assert _demo._concluded(jobs, Path("out"), books, Report()) == 1
    out = capsys.readouterr().out
    assert "the books do not agree: 5 runs for 4 jobs" in out
    assert "the sandbox's books say $0.84" in out


# -- the plan and the view -----------------------------------------------------------------------------------


def row(job: Job, **fields: Any) -> JournalEntry:
    """Return what the journal says of the job when all went as it was meant to."""
    state = {"clip": "done", "failure": "failed", "cancellation": "cancelled"}[job.purpose]
    clip = JournalFile(0, "0.mp4", "https://x", "video/mp4", 9, path=f"/clips/{job.key}_0.mp4")
    told = {
        "state": state,
        "cost": Decimal("0.28") if job.purpose == "clip" else None,
        "files": (clip,) if job.purpose == "clip" else (),
        **fields,
    }
    fingerprint = intended(job.key).fingerprint
    return JournalEntry(key=job.key, inputs={}, attempt=1, fingerprint=fingerprint, task_id="1", **told)


def test_the_plan_uses_both_models_for_each_picture() -> None:
    """And two jobs more, which say from the beginning what will become of them."""
    jobs = plan([Path(f"{name}.jpg") for name in "abcd"])
    assert len(jobs) == 10
    assert {job.model for job in jobs if job.image == Path("b.jpg")} == {"director", "subject"}
    assert len({job.prompt for job in jobs[:6]}) == 6
    assert [job.label for job in jobs[-2:]] == ["fails on purpose", "cancelled by us"]


def test_clips_have_harmless_names_of_their_own() -> None:
    """Whatever the picture is called."""
    names = ["../..", "Ünder wäter.png", "x.jpg", "X.png", "x.gif", "-rf.jpg"]
    keys = [job.key for job in plan([Path(name) for name in names]) if job.purpose == "clip"]
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", key) for key in keys)
    assert len({key.lower() for key in keys}) == 12


def test_a_job_is_a_row_of_a_job_file() -> None:
    """With its picture by its absolute path."""
    line = job_row(plan([Path("a.jpg")])[0])
    assert line["key"] == "a-director"
    assert line["inputs"]["inputImageFirstUrl"] == f"@{Path('a.jpg').absolute()}"


def test_a_job_is_as_planned_only_if_all_of_it_is() -> None:
    """A clip must be on the disk; the others must have ended as they were meant to."""
    clip, _, failure, cancellation = plan([Path("a.jpg")])
    assert clip.trouble == "it had no run"
    assert job_record(clip)["outcome"] is None
    clip.entry = row(clip, files=())
    assert clip.trouble == "it ended as done"
    clip.entry = row(clip)
    assert clip.as_planned
    assert (clip.trouble, clip.cost) == ("", Decimal("0.28"))
    assert job_record(clip)["saved"] == "/clips/a-director_0.mp4"
    failure.entry = row(failure, state="done")
    assert not failure.as_planned
    cancellation.entry = row(cancellation, state="failed", reason="too dark")
    assert cancellation.trouble == "too dark"
    assert job_record(cancellation)["problem"] == "too dark"
    assert cancellation.cost == 0


def test_names_of_files_are_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A picture's name can neither colour the screen nor be cut into a lie."""
    jobs = plan([Path("[red]\x1b[2J.jpg")])
    books = Books(Decimal(0), Decimal(0), runs=0, paid=0, requests=0, seconds=0.0)
    say_summary(Report(), jobs, Path("out"), books)
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "[red]�[2J.jpg" in out
