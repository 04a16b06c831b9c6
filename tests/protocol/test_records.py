"""The records: whatever the wire brings becomes a regular, frozen, picklable record."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.strategies import DATA, TOKEN, json_values, loose, outputs, sample, some_of, texts, wire_tasks
from wiro_async import (
    ClientUseError,
    Model,
    ModelInput,
    Output,
    Secret,
    Status,
    Task,
    TaskResult,
    Transition,
    Upload,
)
from wiro_async._protocol.records import (
    missing_of,
    parse_model,
    parse_task,
    parse_upload,
)

QUEUED = 1734513807
STARTED = 1734513809
ENDED = 1734513813
OVER = 1734513814


def task(**wire: Any) -> Task:
    """Parse a task that has just these fields."""
    return parse_task(wire)


# -- the documented samples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("run", "## Run Command - Response"),
        ("detail", "## Get Task Detail - Response"),
        ("kill", "## Kill Task - Response"),
        ("cancel", "## Cancel Task - Response"),
    ],
)
def test_the_samples_are_the_documents_own(name: str, heading: str) -> None:
    """The replies in tests/data are those of the service's document, but for its unescaped quotes."""
    document = (DATA / "image-to-video-hailuo-01-subject.txt").read_text("utf-8")
    printed = document.partition(heading)[2].partition("```json")[2].partition("```")[0]
    repaired = re.sub(
        r'"categories": "(\[.*?\])"', lambda found: '"categories": ' + json.dumps(found.group(1)), printed
    )
    assert json.loads(repaired) == sample(name)


def test_the_short_form_of_a_detail_is_read() -> None:
    """The documents' Detail: no exit code, no costs, and a success, because there are outputs."""
    found = parse_task(sample("detail")["tasklist"][0])
    assert (found.id, found.status, found.uuid) == (
        "2221", Status.POSTPROCESS_END, "15bce51f-442f-4f44-a71d-13c6374a62bd",
    )  # fmt: skip
    assert found.token == Secret("eDcCm5yyUfIvMFspTwww49OUfgXkQt")
    assert (found.pexit, found.total_cost, found.cps) == (None, None, None)
    assert (found.outcome, found.reason) == ("succeeded", "")
    assert (found.elapsed_seconds, found.size, found.parameters) == (6.0, 202472, {})
    assert found.timestamps == {
        "task_queue": QUEUED,
        "task_accept": QUEUED,
        "task_preprocess_start": QUEUED,
        "task_preprocess_end": QUEUED,
        "task_assign": QUEUED,
        "task_start": STARTED,
        "task_end": ENDED,
        "task_postprocess_start": ENDED,
        "task_postprocess_end": OVER,
    }
    assert found.created_at == datetime(2024, 12, 18, 9, 23, 27, tzinfo=UTC)
    assert found.started_at == datetime.fromtimestamp(STARTED, UTC)
    assert found.ended_at == datetime.fromtimestamp(OVER, UTC)
    assert found.raw == {}
    (output,) = found.outputs
    assert (output.name, output.content_type, output.size) == ("0.png", "image/png", 202472)
    assert (output.task_id, output.index, output.id) == ("2221", 0, "6bc392c93856dfce3a7d1b4261e15af3")
    assert output.url.startswith("https://cdn1.wiro.ai/6a6af820-")
    assert output.access_key == Secret("dFKlMApaSgMeHKsJyaDeKrefcHahUK")
    assert set(output.raw) == {"parentid", "uuid", "addedtime", "modifiedtime"}


@pytest.mark.parametrize(("name", "task_id"), [("kill", "534574"), ("cancel", "634574")])
def test_the_long_form_is_read(name: str, task_id: str) -> None:
    """The documents' Kill and Cancel: cancelled, with money, categories as JSON text, and nulls."""
    found = parse_task(sample(name)["tasklist"][0])
    assert (found.id, found.status, found.outcome) == (task_id, "task_cancel", "cancelled")
    assert (found.total_cost, found.cps) == (Decimal("0.003510000000"), Decimal("0.000585000000"))
    assert str(found.total_cost) == "0.003510000000"
    assert (found.pexit, found.project_id, found.model_id, found.callback_url) == ("0", "699", "598", "")
    assert found.categories == ("tool", "image-to-image", "quick-showcase", "compare-landscape")
    assert found.parameters["inputImage"].endswith("/inputImage-6060136.png")
    assert found.ended_at is None, "canceltime is 0 in the documents"
    assert set(found.raw) == {
        "name", "guestid", "description", "basemodelid", "runtype", "modelfolderid", "modelfileid",
        "marketplaceid",
    }  # fmt: skip
    assert found.raw["guestid"] is None
    assert found.outputs[0].raw["ispublic"] == 0


# -- loose scalars ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2221", "2221"), (2221, "2221"), (0, "0"), (-1, "-1"), (2221.0, "2221"), (534574.0, "534574"),
        (1234567.0, "1234567"), (1734513807.0, "1734513807"), (1e20, "100000000000000000000"), (-0.0, "0"),
        (0.5, "0.5"), (0.00351, "0.00351"), (True, "true"), (False, "false"), (None, ""), ("", ""),
        (" a ", " a "),
        ([], ""), (["a"], ""), ({}, ""), ({"a": 1}, ""), (math.inf, ""), (-math.inf, ""), (math.nan, ""),
        ("\ud800", "\ud800"), (b"a", ""),
    ],
)  # fmt: skip
def test_text(value: object, expected: str) -> None:
    """Numbers become all of their digits, and what is no scalar becomes nothing."""
    assert task(id=value).id == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("6.0000", 6.0), ("1734513807", 1734513807.0), (6, 6.0), (6.5, 6.5), ("0", 0.0), (0, 0.0),
        (" 7 ", 7.0),
        ("-3", -3.0), ("1e3", 1000.0), ("", None), (" ", None), ("abc", None), ("6s", None), ("6,5", None),
        ("nan", None), ("inf", None), ("1e999", None), (math.inf, None), (math.nan, None), (None, None),
        (True, None),
        (False, None), ([], None), ([1], None), ({}, None), (10**400, None), ("0x10", None), (b"6", None),
    ],
)  # fmt: skip
def test_number(value: object, expected: float | None) -> None:
    """Finite numbers, however they came; booleans are none."""
    assert task(elapsedseconds=value).elapsed_seconds == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("202472", 202472), (202472, 202472), (202472.0, 202472), ("202472.0", 202472), ("0", 0), (0, 0),
        ("-1", None),
        (-1, None), ("1.5", None), (1.5, None), ("", None), (None, None), (True, None), ("big", None),
        ("inf", None),
    ],
)  # fmt: skip
def test_integer(value: object, expected: int | None) -> None:
    """Counts are whole and not negative."""
    assert task(size=value).size == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.003510000000", "0.003510000000"), ("0", "0"), (0, "0"), (0.1, "0.1"), (1, "1"),
        ("12.50", "12.50"),
        ("-1.5", "-1.5"), (1e-7, "1E-7"), ("1e3", "1E+3"), ("1e999999999", None), ("1e-999999999", None),
        ("1" * 401, None), ("1e99999999999999999999", None), (10**400, None), ("", None), ("free", None),
        ("$1", None), ("nan", None), ("sNaN", None), ("inf", None), ("-Infinity", None), (math.inf, None),
        (math.nan, None), (None, None), (True, None), ([], None), ({}, None),
    ],
)  # fmt: skip
def test_money(value: object, expected: str | None) -> None:
    """Amounts keep every digit; what could not be written out in reasonable space is none."""
    found = task(totalcost=value).total_cost
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), ("true", True), ("True", True), ("1", True), (1, True), (1.0, True), ("yes", True),
        (False, False), ("false", False), ("0", False), (0, False), ("", False), (None, False), ([], False),
        ("no", False), (2, False), ({"a": 1}, False),
    ],
)  # fmt: skip
def test_flag(value: object, expected: bool) -> None:
    """Truth came as a boolean, a number or a string."""
    (found,) = parse_model({"parameters": [{"items": [{"id": "d", "required": value}]}]}).inputs
    assert found.required is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1}, {"a": 1}), ('{"a": 1}', {"a": 1}), ("{}", {}), ({}, {}), ([], {}), ("[]", {}),
        (None, {}), ("", {}),
        ("null", {}), ("{broken", {}), ('"{}"', {}), (0, {}), (False, {}), ("{" * 100_000, {}),
        ('{"a":' * 100 + "0" + "}" * 100, {}), ('{"n": ' + "9" * 5000 + "}", {}),
    ],
)  # fmt: skip
def test_mapping(value: object, expected: dict[str, Any]) -> None:
    """Objects come as such or as JSON text, no deeper than a reply may be."""
    assert task(parameters=value).parameters == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"a": 1}], [{"a": 1}]), ('[{"a": 1}]', [{"a": 1}]), ([], []), ("[]", []), (None, []), ("", []),
        ({}, []),
        ([None, {"a": 1}, "x", 3, [{}]], [{"a": 1}]), ("[broken", []), ("{}", []), (7, []),
        ("[" * 100_000, []),
        ("[" * 65 + "]" * 65, []),
    ],
)  # fmt: skip
def test_records(value: object, expected: list[dict[str, Any]]) -> None:
    """Lists of objects: what is no object is left out."""
    assert [output.raw for output in task(outputs=value).outputs] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b"], ("a", "b")), ('["a", "b"]', ("a", "b")), ("a", ("a",)), ("", ()), (None, ()), ([], ()),
        (["a", None, "", {}, 3], ("a", "3")), ("[broken", ("[broken",)), ({}, ()), ({"a": 1}, ()), (3, ()),
        (True, ()),
    ],
)  # fmt: skip
def test_strings(value: object, expected: tuple[str, ...]) -> None:
    """Lists of strings come as such, as JSON text, or as one string."""
    assert task(categories=value).categories == expected


# -- loose tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "attribute", "expected"),
    [
        ({"id": 2221}, "id", "2221"),
        ({"id": 2221.0}, "id", "2221"),
        ({"id": 12345678.0}, "id", "12345678"),
        ({"id": None}, "id", ""),
        ({"id": ["2221"]}, "id", ""),
        ({}, "id", ""),
        ({}, "status", ""),
        ({"status": None}, "status", ""),
        ({"status": {}}, "status", ""),
        ({"status": 3}, "status", "3"),
        ({"status": "task_queue"}, "status", Status.QUEUE),
        ({"status": "task_dreaming"}, "status", "task_dreaming"),
        ({"status": "TASK_CANCEL"}, "status", "TASK_CANCEL"),
        ({"socketaccesstoken": ""}, "token", None),
        ({"socketaccesstoken": None}, "token", None),
        ({"socketaccesstoken": {"a": 1}}, "token", None),
        ({"socketaccesstoken": "t"}, "token", Secret("t")),
        ({"socketaccesstoken": 7}, "token", Secret("7")),
        ({"pexit": "0"}, "pexit", "0"),
        ({"pexit": 0}, "pexit", "0"),
        ({"pexit": 0.0}, "pexit", "0"),
        ({"pexit": " 0\n"}, "pexit", "0"),
        ({"pexit": "1"}, "pexit", "1"),
        ({"pexit": ""}, "pexit", None),
        ({"pexit": None}, "pexit", None),
        ({"pexit": []}, "pexit", None),
        ({"parameters": None}, "parameters", {}),
        ({"parameters": '{"prompt": "x"}'}, "parameters", {"prompt": "x"}),
        ({"parameters": {"prompt": "x"}}, "parameters", {"prompt": "x"}),
        ({"parameters": []}, "parameters", {}),
        ({"parameters": "prompt"}, "parameters", {}),
        ({"outputs": None}, "outputs", ()),
        ({"outputs": ""}, "outputs", ()),
        ({"outputs": "[]"}, "outputs", ()),
        ({"outputs": {}}, "outputs", ()),
        ({"outputs": [None, "0.png", 3]}, "outputs", ()),
        ({"outputs": [{}]}, "outputs", (Output("", ""),)),
        ({"outputs": '[{"name": "0.mp4"}]'}, "outputs", (Output("0.mp4", ""),)),
        ({"outputs": [None, {"name": "b"}]}, "outputs", (Output("b", ""),)),
        ({"debugoutput": None}, "debug_output", ""),
        ({"debugoutput": 7}, "debug_output", "7"),
        ({"debugerror": ["x"]}, "debug_error", ""),
        ({"elapsedseconds": "6.0000"}, "elapsed_seconds", 6.0),
        ({"elapsedseconds": 6}, "elapsed_seconds", 6.0),
        ({"elapsedseconds": ""}, "elapsed_seconds", None),
        ({"elapsedseconds": "6s"}, "elapsed_seconds", None),
        ({"elapsedseconds": True}, "elapsed_seconds", None),
        ({"totalcost": "0"}, "total_cost", Decimal(0)),
        ({"totalcost": 0.00351}, "total_cost", Decimal("0.00351")),
        ({"totalcost": None}, "total_cost", None),
        ({"totalcost": ""}, "total_cost", None),
        ({"cps": "0.000585000000"}, "cps", Decimal("0.000585000000")),
        ({"cps": {}}, "cps", None),
        ({"projectid": 699}, "project_id", "699"),
        ({"projectid": None}, "project_id", ""),
        ({"modelid": 598.0}, "model_id", "598"),
        ({"uuid": None}, "uuid", ""),
        ({"callbackurl": None}, "callback_url", ""),
        ({"modelslugowner": "MiniMax", "modelslugproject": "hailuo-2.3"}, "model", "MiniMax/hailuo-2.3"),
        ({"modelslugowner": "MiniMax"}, "model", ""),
        ({"modelslugowner": None, "modelslugproject": "x"}, "model", ""),
        ({"categories": ["a", "b"]}, "categories", ("a", "b")),
        ({"categories": '["a"]'}, "categories", ("a",)),
        ({"categories": None}, "categories", ()),
        ({"categories": "a"}, "categories", ("a",)),
        ({"size": "202472"}, "size", 202472),
        ({"size": 202472.0}, "size", 202472),
        ({"size": "-1"}, "size", None),
        ({"size": ""}, "size", None),
        ({"createtime": "0"}, "timestamps", {}),
        ({"createtime": 0}, "timestamps", {}),
        ({"createtime": ""}, "timestamps", {}),
        ({"createtime": None}, "timestamps", {}),
        ({"createtime": True}, "timestamps", {}),
        ({"createtime": "-5"}, "timestamps", {}),
        ({"createtime": "soon"}, "timestamps", {}),
        ({"createtime": "1e15"}, "timestamps", {}),
        ({"createtime": 253402300800}, "timestamps", {}),
        ({"createtime": 253402300799}, "timestamps", {"task_queue": 253402300799.0}),
        ({"createtime": "1734513807"}, "timestamps", {"task_queue": 1734513807.0}),
        ({"createtime": 1734513807}, "timestamps", {"task_queue": 1734513807.0}),
        ({"createtime": 1734513807.5}, "timestamps", {"task_queue": 1734513807.5}),
        ({"canceltime": "1734513807"}, "timestamps", {"task_cancel": 1734513807.0}),
        ({"guestid": None, "name": ""}, "raw", {"guestid": None, "name": ""}),
    ],
)
def test_a_field_of_any_type(wire: dict[str, Any], attribute: str, expected: object) -> None:
    """Each field is read as what it means, or as absent."""
    assert getattr(parse_task(wire), attribute) == expected


def test_known_statuses_become_members() -> None:
    """So that a user may compare by identity as well."""
    assert all(task(status=status.value).status is status for status in Status)
    assert type(task(status="task_dreaming").status) is str


@pytest.mark.parametrize(
    ("wire", "attribute", "expected"),
    [
        ({"size": "12"}, "size", 12),
        ({"size": None}, "size", None),
        ({"name": None}, "name", ""),
        ({"name": 0}, "name", "0"),
        ({"url": None}, "url", ""),
        ({"url": ["x"]}, "url", ""),
        ({"contenttype": None}, "content_type", ""),
        ({"content": {"answer": "x"}}, "content", {"answer": "x"}),
        ({"content": "x"}, "content", None),
        ({"content": None}, "content", None),
        ({"accesskey": ""}, "access_key", None),
        ({"accesskey": "k"}, "access_key", Secret("k")),
        ({"id": 7}, "id", "7"),
        ({"expiretime": None, "size": 1}, "raw", {"expiretime": None}),
    ],
)
def test_an_outputs_field_of_any_type(wire: dict[str, Any], attribute: str, expected: object) -> None:
    """Outputs are as tolerant as tasks."""
    output = task(id="2221", outputs=[{}, {}, {}, {}, wire]).outputs[4]
    assert getattr(output, attribute) == expected
    assert (output.task_id, output.index) == ("2221", 4)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({}, Upload("")),
        ({"url": None, "size": None}, Upload("")),
        (
            {"id": 7, "name": "a.png", "contenttype": "image/png", "size": "12", "url": "https://x/a.png"},
            Upload("https://x/a.png", "a.png", "7", 12, "image/png"),
        ),
        ({"url": "u", "accesskey": "k", "parentid": "p"}, Upload("u", raw={"parentid": "p"})),
    ],
)
def test_an_upload_is_read(wire: dict[str, Any], expected: Upload) -> None:
    """Uploads are as tolerant as tasks, and drop the access key."""
    assert parse_upload(wire) == expected


TIMES = {
    "createtime": "task_queue",
    "accepttime": "task_accept",
    "preprocessstarttime": "task_preprocess_start",
    "preprocessendtime": "task_preprocess_end",
    "assigntime": "task_assign",
    "starttime": "task_start",
    "endtime": "task_end",
    "postprocessstarttime": "task_postprocess_start",
    "postprocessendtime": "task_postprocess_end",
    "canceltime": "task_cancel",
}
"""Which status each of the wire's times is the beginning of."""

KNOWN = {
    "id", "uuid", "socketaccesstoken", "status", "pexit", "parameters", "outputs", "debugoutput",
    "debugerror",
    "elapsedseconds", "totalcost", "cps", "projectid", "modelid", "modelslugowner", "modelslugproject",
    "callbackurl",
    "categories", "size", *TIMES,
}  # fmt: skip


def without_secrets(found: Task) -> Task:
    """Return a task as it comes out of a pickle."""
    lost = pickle.loads(pickle.dumps(Secret("")))
    made = tuple(attrs.evolve(output, access_key=output.access_key and lost) for output in found.outputs)
    return attrs.evolve(found, token=found.token and lost, outputs=made)


@given(wire_tasks)
@examples(1500)
def test_anything_becomes_a_task(wire: dict[str, Any]) -> None:
    """Whatever the fields hold: no exception, sane types, no token shown or pickled, nothing unknown lost."""
    before = copy.deepcopy(wire)
    found = parse_task(wire)
    assert wire == before, "the wire's object is not changed"
    assert TOKEN not in repr(found)
    assert found.token == Secret(TOKEN)
    pickled = pickle.dumps(found)
    assert TOKEN.encode() not in pickled
    assert pickle.loads(pickled) == without_secrets(found)
    assert found.raw == {key: value for key, value in wire.items() if key not in KNOWN}
    assert isinstance(found.id, str)
    assert isinstance(found.status, str)
    assert found.is_terminal == (found.status in ("task_postprocess_end", "task_cancel"))
    assert found.is_terminal or found.outcome is None
    assert found.outcome is not None or not found.is_terminal or missing_of(found)
    assert found.cost is None or found.cost == found.total_cost
    assert isinstance(found.reason, str)
    assert set(found.timestamps) <= set(TIMES.values())
    assert all(isinstance(found.time_of(status), datetime) for status in found.timestamps)
    assert found.ended_at is None or found.is_terminal
    assert [output.index for output in found.outputs] == list(range(len(found.outputs)))
    assert all(output.task_id == found.id for output in found.outputs)
    assert found.total_cost is None or len(f"{found.total_cost:f}") < 1000
    assert TaskResult.of(found).task is found


@given(st.dictionaries(texts, json_values, max_size=6))
@examples(200)
def test_unknown_keys_are_kept(wire: dict[str, Any]) -> None:
    """An object of nothing but unknown keys is a task of nothing but ``raw``."""
    unknown = {key: value for key, value in wire.items() if key not in KNOWN}
    assert parse_task(unknown) == Task(id="", status="", raw=unknown)


def test_what_many_tasks_have_in_common_is_kept_once() -> None:
    """Names and models of short texts; long ones are nobody's business but the record's own."""

    def found() -> Task:
        wire = {
            "modelslugowner": "MiniMax", "modelslugproject": "director", "modelid": "5981",
            "createtime": "17345", "parameters": {"inputImageFirstUrl": "a"}, "projectid": 300 * "6",
            "surprise": 1,
        }  # fmt: skip
        return parse_task(json.loads(json.dumps(wire)))

    one, other = found(), found()
    assert one == other
    assert one.model is other.model
    assert one.model_id is other.model_id
    assert one.created_at is other.created_at
    for first, second in ((one.parameters, other.parameters), (one.raw, other.raw)):
        assert next(iter(first)) is next(iter(second))
    assert one.project_id is not other.project_id


@given(outputs, st.one_of(st.just("2221"), texts))
@examples(400)
def test_anything_becomes_an_output(wire: dict[str, Any], task_id: str) -> None:
    """Whatever the fields hold: no exception, and no access key shown or pickled."""
    (found,) = task(id=task_id, outputs=[wire]).outputs
    assert TOKEN not in repr(found)
    assert TOKEN.encode() not in pickle.dumps(found)
    assert isinstance(found.name, str)
    assert isinstance(found.url, str)
    assert found.size is None or found.size >= 0


model_inputs = some_of(
    "id", "type", "label", "required", "default", "value", "options", "min", "max", "step", "note", "tip",
    "defaultvalue", "minvalue", "maxvalue", "incrementby",
)  # fmt: skip
groups = st.lists(model_inputs, max_size=2).map(lambda items: [{"title": "", "items": items}])


@given(
    some_of("slugowner", "slugproject", "cleanslugowner", "cleanslugproject", "title", "categories", "image"),
    st.one_of(groups, loose),
)
@examples(500)
def test_anything_becomes_a_model(wire: dict[str, Any], parameters: Any) -> None:
    """Whatever a catalogue holds: no exception, and a record that pickles."""
    found = parse_model({**wire, "parameters": parameters})
    assert pickle.loads(pickle.dumps(found)) == found
    assert found.slug == "" or "/" in found.slug
    assert all(each.type for each in found.inputs)
    assert found.raw == ({"image": wire["image"]} if "image" in wire else {})


@given(
    st.dictionaries(st.sampled_from(["id", "name", "contenttype", "size", "url", "accesskey", "new"]), loose)
)
@examples(400)
def test_anything_becomes_an_upload(wire: dict[str, Any]) -> None:
    """Whatever an upload's answer holds: no exception."""
    found = parse_upload(wire)
    assert pickle.loads(pickle.dumps(found)) == found
    assert set(found.raw) <= {"new"}


# -- outcomes --------------------------------------------------------------------------------------------

OUTPUTS = [{"name": "0.mp4", "url": "https://cdn1.wiro.ai/x/0.mp4"}]
ABSENT = object()


@pytest.mark.parametrize(
    ("pexit", "alone", "with_outputs"),
    [
        ("0", "succeeded", "succeeded"),
        (0, "succeeded", "succeeded"),
        (0.0, "succeeded", "succeeded"),
        ("1", "failed", "failed"),
        (1, "failed", "failed"),
        (-9, "failed", "failed"),
        ("137", "failed", "failed"),
        ("error", "failed", "failed"),
        ("00", "failed", "failed"),
        (False, "failed", "failed"),
        ("", None, "succeeded"),
        (" ", None, "succeeded"),
        (None, None, "succeeded"),
        ([], None, "succeeded"),
        (ABSENT, None, "succeeded"),
    ],
)
def test_only_exit_code_0_is_success(pexit: object, alone: str | None, with_outputs: str) -> None:
    """Where the service tells an exit code it decides; else outputs are a success; else nobody knows."""
    wire: dict[str, Any] = {"status": "task_postprocess_end"}
    if pexit is not ABSENT:
        wire["pexit"] = pexit
    assert parse_task(wire).outcome == alone
    assert parse_task({**wire, "outputs": []}).outcome == alone
    assert parse_task({**wire, "outputs": None}).outcome == alone
    assert parse_task({**wire, "outputs": OUTPUTS}).outcome == with_outputs


@pytest.mark.parametrize("status", [*Status, "", "task_dreaming"])
@pytest.mark.parametrize("pexit", ["0", "1", None])
def test_nothing_but_the_two_ends_is_an_end(status: str, pexit: str | None) -> None:
    """``task_end``, ``task_error`` and unknown statuses have no outcome, whatever the exit code."""
    found = task(status=status, pexit=pexit, outputs=OUTPUTS)
    if status == "task_cancel":
        assert found.outcome == "cancelled"
    assert found.is_terminal == (status in ("task_postprocess_end", "task_cancel"))
    assert (found.outcome is None) == (not found.is_terminal)


@pytest.mark.parametrize(
    ("output", "error", "reason"),
    [
        ("loading\nno face found\n\n  \n", "", "no face found"),
        ("  spaced  ", "Traceback", "spaced"),
        ("", "Traceback\r\nValueError: x\r\n", "ValueError: x"),
        ("\n \n", "\t", ""),
        ("", "", ""),
    ],
)
def test_the_reason_is_the_last_line(output: str, error: str, reason: str) -> None:
    """Of the model's output, or of its errors when it said nothing."""
    assert task(debugoutput=output, debugerror=error).reason == reason


def test_the_end_of_a_task_is_the_time_of_its_terminal_status() -> None:
    """And there is none before the end."""
    assert task(status="task_cancel", canceltime=QUEUED).ended_at == datetime.fromtimestamp(QUEUED, UTC)
    assert task(status="task_end", postprocessendtime=OVER).ended_at is None
    assert task().created_at is None
    assert task().started_at is None


@pytest.mark.parametrize(
    ("wire", "elapsed"),
    [
        ({"elapsedseconds": "6.5", "starttime": 10, "endtime": 20}, 6.5),
        ({"starttime": 10, "endtime": 20}, 10.0),
        ({"starttime": 20, "endtime": 10}, 0.0),
        ({"starttime": 10}, None),
        ({"endtime": 10}, None),
        ({}, None),
    ],
)
def test_a_result_tells_the_run_time(wire: dict[str, Any], elapsed: float | None) -> None:
    """The service's own figure, or the difference of its timestamps."""
    found = TaskResult.of(parse_task({**wire, "totalcost": "0.25", "outputs": OUTPUTS}))
    assert (found.elapsed, found.cost) == (elapsed, Decimal("0.25"))
    assert found.outputs == found.task.outputs
    assert len(found.outputs) == 1


# -- the catalogue's records -----------------------------------------------------------------------------


def test_a_models_clean_slug_serves_when_the_other_is_missing() -> None:
    """The service accepts both."""
    clean = {"cleanslugowner": "minimax", "cleanslugproject": "hailuo-2-3"}
    assert parse_model(clean).slug == "minimax/hailuo-2-3"
    assert (
        parse_model({**clean, "slugowner": "MiniMax", "slugproject": "hailuo-2.3"}).slug
        == "MiniMax/hailuo-2.3"
    )
    assert parse_model({**clean, "slugowner": "MiniMax"}).slug == "minimax/hailuo-2-3"
    assert parse_model({}) == Model("")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([{"label": "Six", "value": "6"}, {"label": "Ten", "value": 10}], ("6", "10")),
        ([{"label": "None", "value": ""}, {"label": "x"}], ("", "")),
        (["a", 2, None], ("a", "2", "")),
        ('[{"value": "6"}]', ("6",)),
        ("6", ()),
        ({"value": "6"}, ()),
        (None, ()),
    ],
)
def test_options_are_their_values(options: object, expected: tuple[str, ...]) -> None:
    """The empty value is a choice like any other."""
    found = parse_model({"parameters": [{"items": [{"id": "d", "options": options}]}]})
    assert found.inputs[0].options == expected


@pytest.mark.parametrize(
    ("wire", "default"),
    [
        ({"default": "a", "value": "b", "defaultvalue": "c"}, "a"),
        ({"value": "b"}, "b"),
        ({"value": "b", "defaultvalue": "c"}, "c"),
        ({}, None),
        ({"default": 0, "defaultvalue": 1}, 0),
    ],
)
def test_a_default_has_three_names(wire: dict[str, Any], default: object) -> None:
    """``default``, ``defaultvalue``, or the older ``value``."""
    assert parse_model({"parameters": [{"items": [wire]}]}).inputs[0].default == default


def test_an_input_is_read_by_both_families_of_names() -> None:
    """Some clients read ``min`` and ``label``, one reads ``minvalue`` and ``text``; nothing is left over."""
    options = [{"value": "6", "label": "Six"}, {"value": "10", "text": "Ten"}, "12"]
    usual = {"min": 1, "max": "9", "step": 0.5, "note": "Seconds.", "options": options}
    other = {
        "minvalue": 1,
        "maxvalue": "9",
        "incrementby": 0.5,
        "description": "Seconds.",
        "options": options,
    }
    model = parse_model({"parameters": [{"items": [usual, other]}]})
    one, two = model.inputs
    assert one == two
    assert (one.min, one.max, one.step, one.note, one.raw) == (1.0, 9.0, 0.5, "Seconds.", {})
    assert (one.options, one.labels) == (("6", "10", "12"), ("Six", "Ten", "12"))


# -- frozen, pickled, documented -------------------------------------------------------------------------


class Store:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def save(self, output: Output, target: str | PathLike[str], timeout: float | None) -> Path:
        self.calls.append((output, target, timeout))
        return Path(target)

    async def save_all(
        self, outputs: Sequence[Output], folder: str | PathLike[str], timeout: float | None
    ) -> list[Path]:
        self.calls.append((*outputs, folder, timeout))
        return [Path(folder, output.name) for output in outputs]

    async def read(self, output: Output, timeout: float | None, max_bytes: int) -> bytes:
        self.calls.append((output, timeout, max_bytes))
        return b"clip"


async def test_an_output_is_downloaded_by_its_clients_store() -> None:
    """The record passes itself and the limits on."""
    store = Store()
    output = parse_task({"id": "1", "outputs": OUTPUTS}, store).outputs[0]
    assert await output.save("clips/a.mp4") == Path("clips/a.mp4")
    assert await output.save("b.mp4", timeout=3) == Path("b.mp4")
    assert await output.read() == b"clip"
    assert await output.read(timeout=2, max_bytes=5) == b"clip"
    assert store.calls == [
        (output, "clips/a.mp4", None),
        (output, "b.mp4", 3),
        (output, None, 256 * 1024 * 1024),
        (output, 2, 5),
    ]


async def test_a_result_saves_all_outputs_that_have_a_file() -> None:
    """Into one folder, by its client's store; a language model's result has none to save."""
    store = Store()
    files = [
        {"name": "0.mp4", "url": "https://x/0"},
        {"content": {}},
        {"name": "2.mp4", "url": "https://x/2"},
    ]
    result = TaskResult.of(parse_task({"id": "1", "outputs": files}, store))
    assert await result.save("clips", timeout=3) == [Path("clips/0.mp4"), Path("clips/2.mp4")]
    assert store.calls == [(result.outputs[0], result.outputs[2], "clips", 3)]
    text = TaskResult.of(parse_task({"id": "1", "outputs": [{"content": {}}]}, store))
    assert await text.save("clips") == []
    with pytest.raises(ClientUseError, match="belongs to no client"):
        await pickle.loads(pickle.dumps(result)).save("clips")


def test_an_output_made_by_hand_knows_what_it_is_told() -> None:
    """Everything else is empty, and it is the first of its task."""
    output = Output("0.mp4", "https://e.org/0.mp4")
    assert (output.content_type, output.size, output.id, output.task_id, output.index) == (
        "",
        None,
        "",
        "",
        0,
    )
    assert (output.content, output.access_key, output.raw) == (None, None, {})


async def test_an_output_without_a_client_says_how_to_get_one() -> None:
    """After unpickling, or when made by hand."""
    output = parse_task({"id": "1", "outputs": OUTPUTS}, Store()).outputs[0]
    for orphan in (
        pickle.loads(pickle.dumps(output)),
        copy.deepcopy(output),
        Output("0.mp4", "https://x/0.mp4"),
    ):
        with pytest.raises(ClientUseError, match="unpickled, or made by hand"):
            await orphan.save("x")
        with pytest.raises(ClientUseError, match="belongs to no client"):
            await orphan.read()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["detail", "kill", "cancel"])
def test_a_pickle_keeps_all_but_secrets_and_the_store(name: str, protocol: int) -> None:
    """A snapshot crosses processes whole, with its outputs, and without a key to anything."""
    found = parse_task(sample(name)["tasklist"][0], Store())
    assert found.token is not None
    pickled = pickle.dumps(found, protocol)
    back = pickle.loads(pickled)
    assert back == without_secrets(found)
    assert back.outputs[0]._store is None
    assert found.token.reveal().encode() not in pickled
    assert b"dFKlMApaSgMeHKsJyaDeKrefcHahUK" not in pickled
    with pytest.raises(ValueError, match="pickle"):
        back.token.reveal()


RECORDS: list[Any] = [
    Transition("task_queue", datetime.fromtimestamp(0, UTC)),
    Output("0.mp4", "u"),
    Task(id="1", status="task_queue"),
    TaskResult(Task(id="1", status="task_queue"), (), None, None),
    Upload("u"),
    ModelInput("prompt"),
    Model("a/b"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen_documented_and_pickled(record: Any) -> None:
    """Nobody changes what the service said, every public attribute is explained, and all cross processes."""
    assert pickle.loads(pickle.dumps(record)) == record
    assert copy.copy(record) == record
    explained = str(type(record).__doc__)
    for field in attrs.fields(type(record)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, None)
        if not field.name.startswith("_"):
            assert re.search(rf"^ +(\w+, )*{field.name}(, \w+)*: \S", explained, re.MULTILINE), field.name


def test_reprs_are_short_and_show_no_secret() -> None:
    """A task's repr tells what a log needs, and leaves out logs, inputs and tokens."""
    shown = repr(
        parse_task({**sample("kill")["tasklist"][0], "debugoutput": "x" * 9999, "socketaccesstoken": TOKEN})
    )
    assert "534574" in shown
    assert "task_cancel" in shown
    assert TOKEN not in shown
    assert "dFKlMApaSgMeHKsJyaDeKrefcHahUK" not in shown
    assert "inputImage" not in shown
    assert "xxx" not in shown


# -- language models -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"answer": ["a", "b"], "raw": "thought a b"}, "a\nb"),
        ({"answer": "[1]", "thinking": ["t"]}, "[1]"),
        ({"answer": [], "raw": "all of it"}, "all of it"),
        ({"answer": {"odd": 1}}, ""),
        (None, ""),
        ("a text", ""),
    ],
)
def test_an_answer_is_read_as_text(content: object, said: str) -> None:
    """What the model said without what it thought, or all that there is; files have none."""
    wire = {"id": "1", "status": "task_postprocess_end", "pexit": "0", "outputs": [{"content": content}]}
    result = TaskResult.of(parse_task(wire))
    assert result.outputs[0].text == result.text == said


def test_an_answer_without_outputs_is_in_the_log() -> None:
    """A log beside files is no answer."""
    wire = {"id": "1", "status": "task_postprocess_end", "pexit": "0", "debugoutput": " 42\n"}
    assert TaskResult.of(parse_task(wire)).text == "42"
    files = {**wire, "outputs": [{"name": "0.mp4", "url": "https://cdn1.wiro.ai/x/0.mp4"}]}
    assert TaskResult.of(parse_task(files)).text == ""
