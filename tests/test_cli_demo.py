"""``wiro demo``: the library's main job, as a newcomer sees it first."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import pytest
from PIL import Image
from rich.text import Text

from tests.cli_tools import Wiro, be_a_terminal, interrupt_when
from wiro_async import Client, ConnectionFailed
from wiro_async._models import parse_task
from wiro_async.cli import _demo, _demo_sandbox
from wiro_async.cli._demo_plan import STAGES, Books, Job, job_record, plan
from wiro_async.cli._demo_sandbox import SandboxDied, SandboxProcess
from wiro_async.cli._demo_view import DemoView
from wiro_async.cli._report import Report
from wiro_async.sandbox._images import demo_images

QUICK = ("--speed=300", "--seed=7", "--balance=1000", "--no-render")


@pytest.fixture
def anyio_backend() -> str:
    """The command line runs on asyncio."""
    return "asyncio"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SandboxProcess]]:
    """Every sandbox that was started; in the end, none of them may live."""
    started: list[SandboxProcess] = []

    class Watched(SandboxProcess):
        def __init__(self, options: tuple[str, ...]) -> None:
            super().__init__(options)
            started.append(self)

    monkeypatch.setattr(_demo, "SandboxProcess", Watched)
    yield started
    for sandbox in started:
        assert sandbox._process is not None
        assert sandbox._process.poll() is not None


@pytest.fixture
def wiro(capsys: pytest.CaptureFixture[str], processes: list[SandboxProcess]) -> Wiro:
    """The command line; the sandboxes' keys are secrets."""
    return Wiro(capsys, lambda: [key for one in processes for key in (one.api_key, one.api_secret)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox be quick, and leave the rendering out."""
    monkeypatch.setattr(_demo, "OPTIONS", QUICK)
    monkeypatch.setattr(_demo, "CANCEL_AFTER", 0.0)


# -- the real thing ------------------------------------------------------------------------------------------


def test_the_demo_makes_clips_that_play(wiro: Wiro, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three pictures become six clips of six seconds, each of its picture's shape, and all is told."""
    monkeypatch.setattr(_demo, "OPTIONS", ("--speed=30", "--seed=7", "--balance=1000"))
    said = wiro("demo", "--output", str(tmp_path / "clips"))
    stems = [image.stem for image in demo_images()]
    names = {f"{stem}-{model}.mp4" for stem in stems for model in ("director", "subject")}
    assert {path.name for path in (tmp_path / "clips").iterdir()} == names
    for image in demo_images():
        for model in ("director", "subject"):
            _check_clip(tmp_path / "clips" / f"{image.stem}-{model}.mp4", image)
    assert all(re.search(rf"✓ {name} +[\d.]+ [kM]B .* \$0\.28\n", said.out) for name in names)
    assert "failed, on purpose" in said.out
    assert "was cancelled, on purpose" in said.out
    assert f"6 clips of 6 s are in {tmp_path / 'clips'}/" in said.out
    assert "Bill: $1.68 of play money; the sandbox's books say so, too." in said.out
    assert re.search(r"\d+ requests in \d+\.\d s", said.out)
    assert "wiro run MiniMax/image-to-video-01-director" in said.out
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
        "my_photo-director.mp4",
        "my_photo-subject.mp4",
        "my_photo-2-director.mp4",
        "my_photo-2-subject.mp4",
    ]
    assert [job["outcome"] for job in record["jobs"]] == ["succeeded"] * 4 + ["failed", "cancelled"]
    assert record["bill"] == "1.120000000000"
    assert Decimal(record["charged"]) == Decimal(record["bill"])
    assert record["requests"] > 10


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40), (60, 8)])
def test_a_terminal_shows_the_jobs_side_by_side(
    wiro: Wiro, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: int, lines: int
) -> None:
    """The table is as wide as the screen at most; when it is gone, the summary remains."""
    terminal = be_a_terminal(monkeypatch, columns, lines)
    wiro("demo", "--output", str(tmp_path))
    frames, _, summary = terminal.getvalue().rpartition("\x1b[?25h")
    assert "jobs done" in frames
    assert "✓ " in frames
    assert "clips of 6 s" in summary
    table = [line for line in Text.from_ansi(frames).plain.split("\n") if "━" in line]
    assert table
    assert max(len(line.rpartition("\r")[2]) for line in table) <= columns


# -- what can go wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"), [("none.jpg", "does not exist"), ("", "is no file"), ("empty.jpg", "is empty")]
)
def test_a_bad_path_is_one_line_before_anything_starts(
    wiro: Wiro, processes: list[SandboxProcess], tmp_path: Path, name: str, problem: str
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


def test_a_picture_that_is_none_is_told(wiro: Wiro, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The service's own reason is shown for the two jobs, and the demo did not go as planned."""
    monkeypatch.setattr(_demo, "OPTIONS", ("--speed=300", "--balance=1000"))
    monkeypatch.setattr(_demo, "CANCEL_AFTER", 0.0)
    (tmp_path / "notes.jpg").write_text("not a picture")
    said = wiro("demo", str(tmp_path / "notes.jpg"), "--output", str(tmp_path / "out"), code=1)
    assert re.search(r"✗ notes\.jpg, director: .*unreadable", said.out)
    assert "failed, on purpose" in said.out
    assert "did not go as planned" in said.problem


def test_a_folder_that_cannot_be_made_is_one_line(
    wiro: Wiro, processes: list[SandboxProcess], tmp_path: Path
) -> None:
    """It is found out before the sandbox starts."""
    (tmp_path / "file").touch()
    assert "file" in wiro("demo", "--output", str(tmp_path / "file"), code=1).problem
    assert processes == []


@pytest.mark.usefixtures("quick")
def test_an_interruption_ends_the_sandbox(
    wiro: Wiro, processes: list[SandboxProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C while the jobs run leaves no process behind, and says so."""
    monkeypatch.setattr(_demo, "CANCEL_AFTER", 60.0)

    def jobs_run() -> bool:
        return bool(processes and processes[0].base_url) and processes[0].ledger()["paid"] > 0

    with interrupt_when(jobs_run):
        said = wiro("demo", "--output", str(tmp_path), "--json", code=130)
    assert said.problem == "interrupted; the sandbox is stopped, nothing goes on"
    assert [record["error"] for record in said.records] == ["Interrupted"]


def test_a_sandbox_that_cannot_start_is_one_line(
    wiro: Wiro, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the last line that it wrote."""
    monkeypatch.setattr(_demo, "OPTIONS", ("--speed=0",))
    said = wiro("demo", "--output", str(tmp_path), code=1)
    assert said.problem.startswith("the sandbox ended at once (exit code 2): ")
    assert "speed" in said.problem


def test_a_sandbox_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is ended."""
    monkeypatch.setattr(_demo_sandbox, "START_TIMEOUT", 0.0)
    sandbox = SandboxProcess(())
    with pytest.raises(SandboxDied, match="not ready after 0 s"):
        sandbox.__enter__()
    assert sandbox._process is not None
    assert sandbox._process.returncode is not None


def test_a_sandbox_that_says_nothing_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an interpreter that just exits gives a line."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SandboxDied, match="it said nothing"):
        SandboxProcess(()).__enter__()


def test_a_sandbox_that_cannot_even_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the operating system's, and the temporary folder is gone."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    sandbox = SandboxProcess(())
    with pytest.raises(FileNotFoundError):
        sandbox.__enter__()
    assert not sandbox._path.exists()


def test_a_sandbox_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time to end, and no more."""
    monkeypatch.setattr(_demo_sandbox, "STOP_TIMEOUT", 0.05)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        sandbox = SandboxProcess(())
        sandbox._process = process
        sandbox._end()
        assert process.returncode == -signal.SIGKILL


def test_a_sandbox_that_was_never_entered_ends_too() -> None:
    """There is nothing to end then."""
    SandboxProcess(())._end()


@pytest.mark.parametrize(
    ("error", "problem"),
    [(OSError("disk full"), "disk full"), (ConnectionFailed("not reached", sent=False), "not reached")],
)
async def test_a_jobs_error_is_its_own(
    monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    """It is noted with the job, and the other jobs go on."""

    async def submit(*_: object) -> None:
        raise error

    monkeypatch.setattr(Client, "submit", submit)
    (job, *_) = jobs = plan([Path("a.jpg")])
    await _demo._Demo(jobs, Path(), DemoView(Report(), jobs))._do(Client("key", "secret"), job, "https://x")
    assert job.trouble == problem
    assert job.ended is not None


def test_books_that_disagree_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo counts the money on both sides."""
    jobs = plan([Path("a.jpg")])
    for job in jobs:
        job.task, job.size = ended(job), 1
    books = Books(bill=Decimal("0.28"), charged=Decimal("0.56"), requests=1, seconds=1.0)
    assert _demo._concluded(jobs, Path("out"), books, Report()) == 1
    assert "the sandbox's books say $0.56" in capsys.readouterr().out


# -- the plan and the view -----------------------------------------------------------------------------------


def ended(job: Job, **fields: Any) -> Any:
    """Return the final snapshot that the job is meant to have."""
    status = "task_cancel" if job.purpose == "cancellation" else "task_postprocess_end"
    pexit = "0" if job.purpose == "clip" else "1"
    return parse_task({"id": "1", "status": status, "pexit": pexit, **fields})


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
    files = [job.file_name for job in plan([Path(name) for name in names]) if job.file_name]
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.mp4", name) for name in files)
    assert len({name.lower() for name in files}) == 12


def test_a_job_is_as_planned_only_if_all_of_it_is() -> None:
    """A clip must be on the disk; the others must have ended as they were meant to."""
    clip, _, failure, cancellation = plan([Path("a.jpg")])
    assert clip.trouble == "it ended as nothing"
    clip.see("task_postprocess_end")
    clip.task = ended(clip)
    assert clip.trouble == "it ended as task_postprocess_end"
    clip.size = 9
    assert clip.as_planned
    assert clip.trouble == ""
    failure.task = ended(clip)
    assert not failure.as_planned
    cancellation.task = ended(failure, debugoutput="too dark")
    assert cancellation.trouble == "too dark"
    assert job_record(cancellation)["problem"] == "too dark"


def test_a_job_remembers_how_far_it_came() -> None:
    """A cancellation is no stage, nor is a status that nobody knows."""
    job = plan([Path("a.jpg")])[0]
    for status in ("task_queue", "task_start", "task_cancel", "task_daydream"):
        job.see(status)
    assert job.reached == STAGES.index("task_start") + 1
    assert job.status == "task_daydream"


def test_a_small_screen_shows_the_jobs_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then those that ended last, then those that wait; the others are counted."""
    terminal = be_a_terminal(monkeypatch, 80, 8)
    jobs = plan([Path(f"{number:02}.jpg") for number in range(9)])
    for number, job in enumerate(jobs[:12]):
        job.began = 1.0
        job.ended = None if number >= 10 else 2.0 + number
    report = Report()
    report.show(DemoView(report, jobs).__rich__())
    shown = Text.from_ansi(terminal.getvalue()).plain
    assert re.findall(r"^(\d\d)\.jpg +(\w+)", shown, re.MULTILINE) == [
        ("04", "director"),
        ("04", "subject"),
        ("05", "director"),
        ("05", "subject"),
    ]
    assert shown.count("went wrong") == 2
    assert "10 of 20 jobs done, 16 more not shown" in shown


def test_names_of_files_are_only_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture's name can neither colour the screen nor be cut into a lie."""
    terminal = be_a_terminal(monkeypatch)
    jobs = plan([Path("[red]\x1b[2J.jpg")])
    report = Report()
    report.show(DemoView(report, jobs).__rich__())
    DemoView(report, jobs).changed(jobs[0])
    assert "\x1b[2J" not in terminal.getvalue()
    assert "[red]�[2J.jpg" in terminal.getvalue()
