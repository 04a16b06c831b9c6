"""The benchmarks' own honesty: every contender does its job right, and the results say what was seen."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import compare, run
from benchmarks.contender import Order
from benchmarks.harness import Contender, ContenderFailed, Server, certificate, environment
from benchmarks.load import INPUTS, MODEL, Job, Load, detail, frames, outputs, run_reply
from benchmarks.results import Figures, Row, document, markdown, rows_of, summary
from benchmarks.sections import OURS, RAW_BYTES, SCRIPT_HTTPX, SECTIONS, BatchPlan, Bench, Fan
from benchmarks.stalls import COLLECTORS
from benchmarks.targets import TARGETS, Target

pytestmark = pytest.mark.usefixtures("unmeasured")

CONTENDERS = [
    Contender("poll", "ours"),
    Contender("socket", "ours", "websockets", watch="socket"),
    Contender("sockets", "ours", "websockets", watch="sockets"),
    Contender("callback", "ours", "uvicorn", watch="callback"),
    Contender("raw", "raw"),
    Contender("httpx", "script_httpx", "httpx"),
    Contender("aiohttp", "script_aiohttp", "aiohttp"),
    Contender("sdk", "sdk", "httpx"),
    Contender("node", "official.mjs"),
]

SMALL = BatchPlan(
    mode="test",
    rounds=1,
    waiting=(2,),
    tls_waiting=(1,),
    call_seconds=0.01,
    run_seconds=20.0,
    jobs={2: Fan(200.0)},
    job_seconds=10.0,
    growth={5: 1},
    rows=10,
    download=1,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the lean server in its own process, with TLS where openssl is installed."""
    with certificate() as pem, Server(pem) as running:
        yield running


# -- what is measured --------------------------------------------------------------------------------------


def test_the_same_seed_gives_every_contender_the_same_jobs() -> None:
    """Times are drawn from the seed, divided by the factor; the ideal makespan is the longest job's."""
    slow, fast = Load().times(100), Load(60.0).times(100)
    assert sum(fast, ()) == pytest.approx([seconds / 60 for seconds in sum(slow, ())])
    assert Load(60.0).ideal(100) == max(queued + ran for queued, ran in fast)
    assert statistics.median(ran for _, ran in slow) == pytest.approx(60, abs=6)


def test_the_service_tells_whole_seconds_of_its_fast_clock() -> None:
    """A second after the epoch is a minute later on a clock that runs sixty times as fast."""
    load = Load(60.0, epoch=1000.0)
    job = Job("7", 1000.0, 1000.25, 1001.0, load)
    task = json.loads(detail(job, 1001.0))["tasklist"][0]
    assert (task["createtime"], task["starttime"], task["postprocessendtime"]) == ("1000", "1015", "1060")
    assert (task["status"], task["pexit"], task["elapsedseconds"]) == ("task_postprocess_end", "0", "45.0000")


def test_detail_is_of_a_real_reply_s_size_and_follows_the_task() -> None:
    """Queued, running and ended replies differ in status, stamps and outputs; the token is the Run's."""
    job = Job("7", 1000.0, 1001.0, 1002.0)
    tasks = [
        json.loads(detail(job, now, outputs("http://x/0.mp4", 5)))["tasklist"][0]
        for now in (1000, 1001, 1002)
    ]
    assert [task["status"] for task in tasks] == ["task_queue", "task_start", "task_postprocess_end"]
    assert [len(task["outputs"]) for task in tasks] == [0, 0, 1]
    assert tasks[2]["outputs"][0]["url"] == "http://x/0.mp4"
    assert json.loads(run_reply(job))["socketaccesstoken"] == tasks[0]["socketaccesstoken"]
    assert 1100 < len(detail(job, 1001)) < 1400


def test_the_socket_s_messages_end_when_the_task_does() -> None:
    """Progress comes in between, and the end at the end, not before."""
    told = frames(Job("7", 1000.0, 1001.0, 1002.0))
    assert told == sorted(told, key=lambda frame: frame[0])
    assert json.loads(told[-1][1])["type"] == "task_postprocess_end"
    assert told[-1][0] == 1002.0


# -- the contenders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_every_contender_sees_the_true_end_of_every_job(server: Server, contender: Contender) -> None:
    """It submits three jobs, knows each end after it happened, and tells what that cost."""
    if contender.missing:
        pytest.skip(contender.missing)
    load = Load(300.0, time.time())
    server.reset(load, 3)
    order = Order(
        "jobs", server.base, 3, factor=load.factor, epoch=load.epoch, seconds=20.0, watch=contender.watch,
        model=MODEL, inputs=INPUTS,
    )  # fmt: skip
    seen = contender.run(order)
    usage = server.usage()
    assert seen["known"].keys() == usage["ends"].keys()
    assert all(0 <= seen["known"][task] - end < 20 for task, end in usage["ends"].items())
    assert usage["requests"]["Run"] == 3
    assert min(seen["cpu"], seen["wall"], seen["rss"]) > 0


@pytest.mark.parametrize("contender", [OURS, RAW_BYTES], ids=lambda contender: contender.name)
def test_calls_are_made_over_tls_too(server: Server, contender: Contender) -> None:
    """The certificate is trusted because its authority is, not by turning checks off."""
    base = server.tls_base
    if base is None:
        pytest.skip("openssl is not installed")
    order = Order("calls", base, count=4, waiting=[2], seconds=60.0)
    assert contender.run(order, server.authority)["2"]["done"] == 4
    with pytest.raises(ContenderFailed):
        contender.run(order)


def test_a_download_arrives_whole(server: Server) -> None:
    """Ours, the script's and the bound's read every byte that the server sends."""
    url = f"http://127.0.0.1:{server.port}/cdn/{2**20}/0.mp4"
    for contender in (OURS, RAW_BYTES, SCRIPT_HTTPX):
        server.reset(Load(), 0, (url, 2**20))
        server.end()
        base = server.base if contender is OURS else url
        assert contender.run(Order("download", base, 2**20))["wall"] > 0


def test_a_contender_that_cannot_run_is_left_out_with_a_notice(server: Server) -> None:
    """What is not installed, and what fails, is said; the rest is measured."""
    bench = Bench(SMALL, server, say=lambda _: None)
    absent, broken = Contender("absent", "raw", "no_such_package"), Contender("broken", "no_such_module")
    for contender in bench.turns("calls", (absent, broken), 1):
        assert bench.run("calls", 1, contender, Order("calls", server.base)) is None
    assert bench.notices[0] == "absent: no_such_package is not installed; left out"
    assert "No module named" in bench.notices[1]
    assert bench.is_spent("calls", broken, 1)


def test_who_is_hopeless_is_tried_once_and_who_is_late_twice(server: Server) -> None:
    """The benchmark's own time is limited; the notice says whose figures are of an unfinished job."""
    bench = Bench(SMALL, server, say=lambda _: None)
    bench.unfinished("jobs", OURS, 100, 0.9)
    assert not bench.is_spent("jobs", OURS, 100)
    bench.unfinished("jobs", OURS, 100, 0.9)
    bench.unfinished("jobs", RAW_BYTES, 100, 0.1)
    assert bench.is_spent("jobs", OURS, 100)
    assert bench.is_spent("jobs", RAW_BYTES, 100)
    assert len(bench.notices) == 2
    assert "not done in time" in bench.notices[0]


def test_a_blocked_event_loop_cannot_keep_its_figures_back(server: Server) -> None:
    """A watchdog in a thread tells what is known when time is over."""
    code = (
        "import sys, time; from benchmarks.contender import main, Known, Order\n"
        "async def jobs(order: Order, known: Known) -> None:\n"
        "    known['7'] = 1.0\n"
        "    time.sleep(30)\n"
        "main(None, jobs)"
    )
    order = json.dumps(asdict(Order("jobs", server.base, seconds=0.1)))
    process = subprocess.run(
        [sys.executable, "-c", code, order], capture_output=True, text=True, check=True, timeout=20
    )
    seen = json.loads(process.stdout)
    assert seen["known"] == {"7": 1.0}
    assert seen["stall"] > 0.9


def test_a_section_fills_its_table(server: Server) -> None:
    """A small one runs from beginning to end: figures, and no notice."""
    bench = Bench(SMALL, server, say=lambda _: None)
    SECTIONS["growth"](bench)
    assert bench.notices == []
    assert {row.section for row in bench.figures.rows()} == {"growth"}
    assert all(row.n == 5 for row in bench.figures.rows())


# -- the results -------------------------------------------------------------------------------------------


def figures() -> Figures:
    """Three rounds of ours and theirs."""
    seen = Figures()
    for ours, theirs in ((1.0, 10.0), (2.0, 10.0), (9.0, 30.0)):
        seen.add("calls", "ours", 1, [("CPU", "µs", ours)])
        seen.add("calls", "theirs", 1, [("CPU", "µs", theirs)])
    return seen


def test_medians_and_ratios_are_held_against_their_targets() -> None:
    """A ratio is taken round by round, so that a noisy machine slows both sides of it."""
    rows = figures().rows(
        [Target("calls", "CPU", "ours", 1.5), Target("calls", "CPU", "ours", 0.25, against="theirs", n=(1,))]
    )
    found = {row.contender: row for row in rows}
    assert (found["ours"].median, found["ours"].min, found["ours"].max, found["ours"].rounds) == (
        2.0,
        1.0,
        9.0,
        3,
    )
    assert found["ours"].reached is False
    assert found["theirs"].target is None
    assert (found["ours / theirs"].median, found["ours / theirs"].reached) == (0.2, True)


def test_a_target_without_a_rival_s_figure_is_not_claimed() -> None:
    """Where the other contender is missing there is no ratio, and no verdict."""
    rows = figures().rows([Target("calls", "CPU", "ours", 1.0, against="nobody")])
    assert all(row.reached is None for row in rows)


def test_the_document_survives_json_and_becomes_markdown() -> None:
    """The schema is written and read again; the table names targets, settings and notices."""
    rows = figures().rows([Target("calls", "CPU", "ours", 1.5)])
    data = json.loads(
        json.dumps(document("quick", {"cores": 2}, {"jobs": "short"}, ["node is missing"], rows))
    )
    assert rows_of(data) == rows
    assert set(data["results"][0]) == set(asdict(rows[0]))
    text = markdown(data)
    assert "| calls | CPU | 1 | ours | 2 µs (1–9) | 1.5 µs | **not reached** |" in text
    assert "| 1 | theirs | 10 |" in text
    assert "- node is missing" in text
    with pytest.raises(ValueError, match="schema is 0; it must be 1"):
        rows_of({"schema": 0})


def test_the_short_table_has_a_line_for_each_contender_that_has_figures() -> None:
    """A README shows a call among a hundred and a job among a thousand; what was not measured stays empty."""
    seen = Figures()
    seen.add("calls", "ours", 100, [("CPU", "µs", 400.0)])
    seen.add("jobs", "theirs", 1000, [("CPU a job", "ms", 5.0), ("longest stall", "ms", 1.0)])
    seen.add("start", "import x", 1, [("CPU of the import", "ms", 1.0)])
    seen.add("calls", "theirs", 100, [("CPU", "µs", 800.0)])
    rows = seen.rows([Target("calls", "CPU", "ours", 1.0, against="theirs")])
    assert summary(rows)[2:] == ["| ours | 400 |  |  |  |  |  |", "| theirs | 800 | 5 |  |  |  |  |"]


def test_the_environment_names_versions_and_no_place() -> None:
    """What a figure depends on is told; who measured it, and where, is not."""
    facts = environment()
    assert facts["Python"].startswith(sys.version.split()[0])
    assert {"date", "cores", "processor", "httpx", "wiro_async"} <= facts.keys()
    told = json.dumps(facts)
    assert "/home" not in told
    assert str(Path.cwd()) not in told


def test_every_target_is_of_a_section_that_is_measured() -> None:
    """No target is forgotten because its section was renamed."""
    assert {target.section for target in TARGETS} <= SECTIONS.keys()


def test_the_three_plans_measure_medians() -> None:
    """The full and the thorough one take at least five rounds."""
    assert run.FULL.rounds >= 5
    assert run.THOROUGH.rounds >= 5
    assert set(run.QUICK.waiting) <= set(run.FULL.waiting)


def test_a_run_writes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_program: Callable[..., None]
) -> None:
    """``--only`` measures one section; JSON and Markdown go to the folder."""
    monkeypatch.setattr(run, "QUICK", SMALL)
    call_program("run", "--quick", "--only", "pieces", "--output", str(tmp_path))
    run.main()
    data = json.loads((tmp_path / "latest.json").read_text("utf-8"))
    assert data["mode"] == "test"
    assert (tmp_path / "latest.md").read_text("utf-8") == markdown(data)


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_fan_out_is_watched(tmp_path: Path, collector: str) -> None:
    """With each setting of the garbage collector; the figures go to a file, too."""
    path = tmp_path / "watch.json"
    options = ["--jobs", "10", "--speed", "60", "--collector", collector, "--json", str(path)]
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.watch", *options],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "11 runs, 11 paid" in told
    lines = json.loads(path.read_text("utf-8"))["lines"]
    assert [line["name"].partition(",")[0] for line in lines] == [
        "jobs that did not succeed", "longest stall of the event loop", "most RSS", "CPU a job",
        "polls a job", "mean lateness",
    ]  # fmt: skip
    assert (lines[0]["value"], lines[0]["reached"]) == (0, True)
    assert all(line["value"] > 0 and line["name"] in told for line in lines[1:])


# -- comparing ---------------------------------------------------------------------------------------------


def row(low: float, high: float, *, metric: str = "CPU", reached: bool | None = None) -> Row:
    """One figure with a range."""
    target = None if reached is None else 1.0
    return Row("calls", "ours", 1, metric, "µs", (low + high) / 2, low, high, 3, target, reached)


def test_only_what_cannot_be_noise_has_changed() -> None:
    """Ranges that touch are the same; those that do not, new figures and lost ones are shown."""
    assert len(list(compare.compared([row(1, 3)], [row(2, 4)]))) == 2
    assert len(list(compare.compared([row(1, 3)], [row(2, 4)], everything=True))) == 3
    changed = list(
        compare.compared([row(1, 3), row(1, 1, metric="old")], [row(4, 6), row(1, 1, metric="new")])
    )
    assert changed[2:] == [
        "| calls | 1 | ours | CPU | 2 µs | 5 µs | 2.50 | changed |",
        "| calls | 1 | ours | new |  | 1 µs |  | new |",
        "| calls | 1 | ours | old | 1 µs |  |  | gone |",
    ]


def test_a_lost_target_is_shown_however_small_the_change() -> None:
    """A verdict that flips is news in both directions."""
    assert (
        "**target no more reached**"
        in list(compare.compared([row(1, 3, reached=True)], [row(1, 3, reached=False)]))[2]
    )
    assert (
        "target now reached"
        in list(compare.compared([row(1, 3, reached=False)], [row(1, 3, reached=True)]))[2]
    )


def test_comparing_two_files_prints_a_table(
    tmp_path: Path, call_program: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reads what the run wrote."""
    for name, figure in (("old", row(1, 1)), ("new", row(3, 3))):
        data = document("quick", {"date": name, "Python": name}, {}, [], [figure])
        (tmp_path / f"{name}.json").write_text(json.dumps(data), "utf-8")
    call_program("compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"))
    compare.main()
    told = capsys.readouterr().out
    assert "| 1 µs | 3 µs | 3.00 | changed |" in told
    assert "- Python: old, then new" in told
    assert "date" not in told
