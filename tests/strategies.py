"""What the pure modules' tests draw from: arbitrary JSON, loose scalars, tasks no service should send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from wiro_async import Status

TOKEN = "canaryToken4f9aZpYote30on42O4j"
"""Stands for a socket access token: must not turn up in any repr or pickle."""

DATA = Path(__file__).parent / "data"

STATUSES = [status.value for status in Status]

TIMESTAMPS: dict[str, str] = {
    "createtime": Status.QUEUE, "accepttime": Status.ACCEPT, "preprocessstarttime": Status.PREPROCESS_START,
    "preprocessendtime": Status.PREPROCESS_END, "assigntime": Status.ASSIGN, "starttime": Status.START,
    "endtime": Status.END, "postprocessstarttime": Status.POSTPROCESS_START,
    "postprocessendtime": Status.POSTPROCESS_END, "canceltime": Status.CANCEL,
}  # fmt: skip
"""The documented time fields of a task, and the statuses whose beginnings they record."""


def sample(name: str) -> Any:
    """Return one of the service's documented replies."""
    return json.loads((DATA / f"reply-{name}.json").read_text("utf-8"))


texts = st.text(max_size=8)

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts)

_flat = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(texts, scalars, max_size=3))

json_values: st.SearchStrategy[Any] = st.one_of(
    scalars, st.lists(_flat, max_size=3), st.dictionaries(texts, _flat, max_size=3)
)
"""Arbitrary JSON of up to three levels: ``st.recursive`` takes three times as long, and finds no more."""


NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1734513807, 10**30, 0.5, -0.0, 1734513807.0, 1e300, float("inf"), "", " ", "0",
    "1", "6.0000", "1734513807", "-5", "1e999", "nan", "true", "null", "[]", "{}", "[1", '{"a":', "[[[]]]",
    '["x"]', '[{"name": "0.mp4"}]', "[" * 70 + "]" * 70, "\ud800", "\0", "a\r\nb", [], {}, [None], [[]],
    [{}], ["x", 1], {"a": None}, {"value": 6}, [{"name": 0, "size": "x"}], {"a": {"b": [1, {"c": "d"}]}},
)  # fmt: skip
"""What services are known to send in place of what they promise."""

nasty = st.sampled_from(NASTY)

loose: st.SearchStrategy[Any] = st.one_of(nasty, json_values)
"""What a field may hold: what hurts, or anything."""


def some_of(*fields: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with a few of *fields*: all of them in every example would take minutes."""
    return st.lists(st.tuples(st.sampled_from(fields), loose), max_size=5).map(dict)


def _merged(*parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


outputs = some_of("id", "name", "contenttype", "size", "url", "content", "parentid", "ispublic").map(
    lambda fields: {**fields, "accesskey": TOKEN}
)

_TASK_FIELDS = (
    "id", "uuid", "pexit", "parameters", "debugoutput", "debugerror", "elapsedseconds", "totalcost", "cps",
    "projectid", "modelid", "modelslugowner", "modelslugproject", "callbackurl", "categories", "size", "name",
    "guestid", "newfield", "status", "outputs", *TIMESTAMPS,
)  # fmt: skip

_lists_of_outputs = st.lists(outputs, max_size=2)

wire_tasks: st.SearchStrategy[dict[str, Any]] = st.builds(
    _merged,
    some_of(*_TASK_FIELDS),
    st.one_of(
        st.just({}),
        st.sampled_from(STATUSES).map(lambda status: {"status": status}),
        _lists_of_outputs.map(lambda made: {"outputs": made}),
        _lists_of_outputs.map(lambda made: {"outputs": json.dumps(made)}),
    ),
    st.just({"socketaccesstoken": TOKEN}),
)
"""A task with a few of the known fields holding anything at all."""
