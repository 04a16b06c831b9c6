"""Results travel: every record is plain data on request, without tokens, and hashable."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import httpx
import pydantic
import pytest
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder

import wiro_async
from tests.conftest import KEY, SECRET
from tests.strategies import TOKEN, sample
from wiro_async import (
    BatchFailure,
    BatchPlan,
    BatchProgress,
    BatchReport,
    BatchStopped,
    CallbackCounts,
    Check,
    Client,
    Director,
    InvalidJob,
    Job,
    JobOutcome,
    JournalComparison,
    JournalCounts,
    JournalEntry,
    JournalFailure,
    JournalFile,
    LogLine,
    Model,
    ModelInput,
    Output,
    Secret,
    Spending,
    Statistics,
    Status,
    Task,
    TaskFailed,
    TaskProgress,
    TaskResult,
    Transition,
    Upload,
)
from wiro_async._protocol.matching import RunFingerprint
from wiro_async._protocol.records import parse_task
from wiro_async._types import Record
from wiro_async.sandbox import Sandbox

MODEL = "MiniMax/image-to-video-01-director"


def task() -> Task:
    """Return a task with a token, outputs and money in it."""
    return parse_task({**sample("kill")["tasklist"][0], "socketaccesstoken": TOKEN})


def records() -> list[Record]:
    """Return one of every kind."""
    output = Output("0.mp4", "https://cdn1.wiro.ai/x/0.mp4", access_key=Secret(TOKEN), content={"a": [1]})
    counted: dict[str, Any] = dict.fromkeys((field.name for field in attrs.fields(BatchProgress)), 0)
    progress = BatchProgress(**{**counted, "spent": Decimal("0.10"), "eta": math.inf})
    job = Job(
        MODEL, {"image": Path("a.jpg"), "mask": b"123", "file": open, "list": [1, {"a": None}]}, key="7"
    )
    result = TaskResult(task(), (output,), Decimal("0.280000"), 6.5)
    file = JournalFile(0, "0.mp4", "https://cdn1.wiro.ai/x/0.mp4")
    return [
        *(task(), output, result, progress, job, file, Job(Director("a.jpg", "waves"))),
        JobOutcome("7", job, error=TaskFailed("no face", task=task()), paths=(Path("clips/0.mp4"),)),
        BatchFailure("TaskFailed", "no face", 3),
        BatchReport(progress=progress, stopped=BatchStopped("97", reason="balance"), failures=()),
        BatchPlan(jobs=1, estimated_cost=Decimal(1), unpriced=0, estimated_seconds=None),
        CallbackCounts(),
        Check(problems=("no prompt",), price=Decimal("0.28"), price_source="the catalogue"),
        InvalidJob("line 7", "no prompt"),
        JournalComparison(tasks=2, missing=("2221",), others=(task(),)),
        JournalCounts({"failed": 1}, Decimal(2), (JournalFailure("failed", "TaskFailed", "no face", 1),)),
        JournalFailure("failed", "TaskFailed", "no face", 1),
        JournalEntry(
            key="7",
            inputs={"prompt": "waves"},
            state="running",
            attempt=1,
            fingerprint=RunFingerprint(MODEL, ("prompt",), "00ff", 1.0),
            token=Secret(TOKEN),
        ),
        LogLine("one", "output"),
        ModelInput("size", default=["a"]),
        Spending(charged=Decimal(1), estimated=Decimal(0), reserved=Decimal(0), limit=None, budget="2026-12"),
        Model("a/b", inputs=(ModelInput("size", default=["a"]),), raw={"a": {}}),
        Statistics(
            polls=1,
            finished=0,
            polls_per_task=None,
            mean_lateness=None,
            p99_lateness=None,
            in_flight=0,
            waiting=0,
        ),
        TaskProgress(raw={"a": [1]}),
        Transition(Status.QUEUE, datetime(2026, 1, 2, tzinfo=UTC)),
        Upload("https://cdn1.wiro.ai/x", raw={"a": 1}),
    ]


@pytest.fixture(params=records(), ids=lambda record: type(record).__name__)
def record(request: pytest.FixtureRequest) -> Record:
    """Each kind."""
    made: Record = request.param
    return made


def test_every_public_record_is_one() -> None:
    """Whatever is an attrs class that users get, but for what they give."""
    given = {"Client", "Director", "HailuoSubject", "Limits", "Polling", "TaskHandle"}
    public = {name for name in wiro_async.__all__ if attrs.has(getattr(wiro_async, name))} - given
    assert {type(record).__name__ for record in records()} == public
    assert all(issubclass(getattr(wiro_async, name), Record) for name in public)


def test_a_record_is_json(record: Record) -> None:
    """With the names of its attributes, and nothing that JSON has not."""
    data = record.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert dict(record) == data
    assert json.loads(json.dumps(record, default=dict)) == data


def test_tokens_are_for_those_who_ask(record: Record) -> None:
    """By default not even their names are there; no other tool shows them."""
    anything: Any = record
    shown = [json.dumps(record.to_dict()), str(dict(record)), str(jsonable_encoder(record))]
    shown += [json.dumps(attrs.asdict(anything), default=str), repr(record)]
    assert not any(TOKEN in text for text in shown)
    has_one = isinstance(record, Task | Output | TaskResult | JournalEntry | JournalComparison)
    assert (TOKEN in json.dumps(record.to_dict(tokens=True))) == has_one


def test_fastapi_and_pydantic_take_a_record(record: Record) -> None:
    """As a value, as a field, and as the type of one."""
    assert jsonable_encoder(record) == record.to_dict()
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type(record))
    assert json.loads(adapter.dump_json(record)) == adapter.dump_python(record) == record.to_dict()
    assert adapter.validate_python(record) is record
    assert adapter.json_schema() == {"type": "object", "title": type(record).__name__}
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(5)


def test_attrs_tools_and_sets_take_a_record(record: Record) -> None:
    """Equal records have one hash; a changed copy is another record."""
    anything: Any = record
    assert attrs.asdict(anything)
    assert attrs.astuple(anything)
    assert len({record, copy.copy(record)}) == 1
    if not isinstance(record, Job):  # its signature is that of submit()
        assert attrs.evolve(anything) == record
    assert hash(record) == hash(copy.copy(record))


def test_a_record_is_no_sequence(record: Record) -> None:
    """A loop over it would be a mistake, and a name that it has not is a ``KeyError``."""
    with pytest.raises(TypeError):
        iter(record)  # type: ignore[call-overload]
    with pytest.raises(KeyError, match="nothing"):
        record["nothing"]
    assert all(record[name] == value for name, value in record.to_dict().items())


def test_what_a_task_is_in_plain_data() -> None:
    """Money to the last digit, times in ISO 8601, and how it ended."""
    data = TaskResult.of(task()).to_dict()
    assert data["cost"] == data["task"]["total_cost"] == f"{task().total_cost:f}"
    assert data["task"]["outcome"] == task().outcome
    assert data["task"]["created_at"] == task().created_at.isoformat()  # type: ignore[union-attr]
    assert type(data["task"]["status"]) is str


def test_what_cannot_be_plain_is_told_by_its_kind() -> None:
    """Of bytes the size, of files and functions the type, of errors type and message; no endless depth."""
    inner: list[Any] = []
    inner.append(inner)
    job = Job(MODEL, {"a": b"123", "b": open, "c": Path("x/y"), "d": math.nan, "e": inner})
    inputs = job.to_dict()["inputs"]
    assert inputs["a"] == "<3 bytes>"
    assert inputs["b"] == "<builtin_function_or_method>"
    assert inputs["c"] == "x/y"
    assert inputs["d"] is None
    json.dumps(inputs)
    assert Job(Director("a.jpg", "waves")).to_dict()["inputs"] == {"image": "a.jpg", "prompt": "waves"}
    failed = JobOutcome("7", error=TaskFailed("no face")).to_dict()
    assert (failed["error"], failed["succeeded"]) == ({"type": "TaskFailed", "message": "no face"}, False)


def test_a_token_that_went_through_a_pickle_is_gone() -> None:
    """Asking for it does not fail."""
    assert pickle.loads(pickle.dumps(task())).to_dict(tokens=True)["token"] is None


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Serve both tests."""
    with Sandbox(api_key=KEY, api_secret=SECRET, speed=1000, render=False) as sandbox:
        yield sandbox


async def test_a_web_endpoint_returns_what_run_gave(sandbox: Sandbox) -> None:
    """With the type of the record in its signature, and in its documentation."""
    app = FastAPI()

    @app.get("/clip")
    async def clip() -> TaskResult:
        async with Client(KEY, SECRET, base_url=sandbox.base_url, watch="poll") as client:
            return await client.run(MODEL, {"inputImageFirstUrl": "https://example.org/a.jpg", "prompt": "x"})

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as http:
        answer = (await http.get("/clip")).json()
        documented = (await http.get("/openapi.json")).json()
    assert answer["task"]["outcome"] == "succeeded"
    assert "token" not in answer["task"]
    content = documented["paths"]["/clip"]["get"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"]["type"] == "object"


async def test_a_batch_is_logged_as_json(sandbox: Sandbox) -> None:
    """A line for each outcome, and one for the report."""
    inputs = [{"inputImageFirstUrl": "https://example.org/a.jpg", "prompt": word} for word in ("a", "b")]
    async with (
        Client(KEY, SECRET, base_url=sandbox.base_url, watch="poll") as client,
        client.map(MODEL, inputs) as batch,
    ):
        lines = [json.loads(json.dumps(outcome.to_dict())) async for outcome in batch]
    assert [line["succeeded"] for line in lines] == [True, True]
    assert {line["job"]["inputs"]["prompt"] for line in lines} == {"a", "b"}
    report = batch.report.to_dict()
    assert (report["complete"], report["stopped"], report["progress"]["succeeded"]) == (True, None, 2)
