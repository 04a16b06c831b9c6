"""The command line's pure parts: words, values, records."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeService, client, ok
from wiro_async import InvalidInput, Model, Task
from wiro_async.cli._records import model_record, result_record, task_record, why
from wiro_async.cli._text import clean, clipped, clock, megabytes, plain_status, usd
from wiro_async.cli._values import parse_values

# -- words ---------------------------------------------------------------------------------------------------


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    """Whatever comes in, no control character, no line break and no half surrogate pair comes out."""
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    shown.encode()


def test_clean_text_cannot_steer_a_terminal() -> None:
    """Escape sequences, bells and characters that turn the writing direction become a mark."""
    assert clean("\x1b[31mred\x07 \u202egpj.exe\n\x9b2J") == "�[31mred� �gpj.exe �2J"


def test_clipped_text_says_that_it_is() -> None:
    """What does not fit ends in an ellipsis."""
    assert clipped("waves", 5) == "waves"
    assert clipped("waves roll", 5) == "wave…"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (9.44, "9.4 s"), (62, "1:02"), (3600, "1:00:00"), (3669.9, "1:01:09")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    """Seconds below a minute, minutes below an hour, hours above."""
    assert clock(seconds) == shown


@pytest.mark.parametrize(("size", "shown"), [(None, ""), (1234, "1 kB"), (1_260_000, "1.3 MB")])
def test_sizes_are_decimal(size: int | None, shown: str) -> None:
    """A kB is 1000 bytes; an unknown size is left out."""
    assert megabytes(size) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "unknown"),
        (Decimal("0.280000000000"), "$0.28"),
        (Decimal("0.003510000000"), "$0.00351"),
        (Decimal(3), "$3.00"),
        (Decimal("1E+2"), "$100.00"),
    ],
)
def test_amounts_keep_their_digits(amount: Decimal | None, shown: str) -> None:
    """At least two decimals, and as many as there are."""
    assert usd(amount) == shown


def test_statuses_lose_their_prefix() -> None:
    """The prefix says nothing where every word is a status."""
    assert plain_status("task_preprocess_start") == "preprocess start"


# -- values --------------------------------------------------------------------------------------------------


def test_values_are_text_files_or_json() -> None:
    """``=`` is text, whatever it holds; ``=@`` is a file; ``:=`` is JSON."""
    given = ["prompt=[Zoom in] a=b:=c", "empty=", "image=@photo.jpg", "seed:=7", 'tags:=["a", null]', "a:b=c"]
    assert parse_values(given) == {
        "prompt": "[Zoom in] a=b:=c",
        "empty": "",
        "image": Path("photo.jpg"),
        "seed": 7,
        "tags": ["a", None],
        "a:b": "c",
    }


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell would not expand it after the ``@``; an unknown user's stays as it is."""
    monkeypatch.setenv("HOME", "/home/ann")
    values = parse_values(["a=@~/x.jpg", "b=@~no-such-user/x.jpg"])
    assert values == {"a": Path("/home/ann/x.jpg"), "b": Path("~no-such-user/x.jpg")}


def test_files_under_one_name_are_a_list() -> None:
    """Models that take several images get them by repetition."""
    values = parse_values(["i=@a.jpg", "i=@b.jpg", "i=@c.jpg"])
    assert values == {"i": [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["prompt"], "'prompt' is not an assignment"),
        (["=x"], "not an assignment"),
        ([":=1"], "not an assignment"),
        (["image=@"], "names no file"),
        (["seed:=seven"], "seed:= is not JSON"),
        (["seed:=" + "[" * 100_000], "seed:= is not JSON"),
        (["p=a", "p=b"], "'p' is given twice"),
        (["p=@a", "p=b"], "'p' is given twice"),
    ],
)
def test_values_that_cannot_be_read_are_named(given: list[str], problem: str) -> None:
    """The message says which input, and how to write it."""
    with pytest.raises(InvalidInput, match=problem):
        parse_values(given)


# -- records -------------------------------------------------------------------------------------------------

WIRE = {
    "id": "2221",
    "socketaccesstoken": "canary-token-77aa",
    "status": "task_postprocess_end",
    "pexit": "0",
    "totalcost": "0.280000000000",
    "elapsedseconds": "6.5",
    "createtime": "1734513807",
    "starttime": "1734513809",
    "postprocessendtime": "1734513814",
    "modelslugowner": "a",
    "modelslugproject": "b",
    "parameters": {"prompt": "waves"},
    "debugoutput": "Done.",
    "outputs": [
        {"name": "0.mp4", "url": "https://cdn1.wiro.ai/x/0.mp4", "size": "3", "accesskey": "canary-key"}
    ],
}


def task_of(**wire: Any) -> Task:
    """Return a task as a client gets it."""

    async def listed() -> Task:
        async with client(FakeService(Task_List=ok(tasklist=[wire]))) as caller:
            return await anext(caller.list_tasks())

    return anyio.run(listed)


def test_a_record_of_a_task_is_plain_json() -> None:
    """Money is text, durations are numbers, times are ISO 8601 in UTC, and no secret is in it."""
    record = task_record(task_of(**WIRE))
    text = json.dumps(record)
    assert "canary" not in text
    assert (record["cost"], record["elapsed"]) == ("0.280000000000", 6.5)
    assert record["created_at"] == "2024-12-18T09:23:27+00:00"
    assert (record["model"], record["outcome"], record["reason"]) == ("a/b", "succeeded", None)
    assert result_record(task_of(**WIRE), [Path("a.mp4")])["saved"] == ["a.mp4"]


def test_a_record_of_a_task_has_null_for_what_is_not_known() -> None:
    """A task that was just queued has no cost and no times."""
    record = task_record(task_of(id="1", status="task_queue"))
    unknown = ("cost", "elapsed", "created_at", "started_at", "ended_at", "model", "outcome", "reason")
    assert {name: record[name] for name in unknown} == dict.fromkeys(unknown)


def test_the_reason_is_told_for_failures_only() -> None:
    """The last line of a success's log is no reason."""
    assert why(task_of(**WIRE)) == ""
    assert why(task_of(**{**WIRE, "pexit": "1", "debugoutput": "a\ntoo dark"})) == "too dark"
    assert why(task_of(id="1", status="task_error", debugerror="worker lost")) == "worker lost"


def test_a_record_of_a_model_has_its_inputs() -> None:
    """Bounds and options are told as the service tells them."""
    item = {
        "id": "seed",
        "type": "number",
        "min": 0,
        "max": "9",
        "options": [{"value": "1"}],
        "required": True,
    }
    tool = {"slugowner": "a", "slugproject": "b", "title": "T", "parameters": [{"items": [item]}]}

    async def described() -> Model:
        async with client(FakeService(Tool_Detail=ok(tool=[tool]))) as caller:
            return await caller.get_model("a/b")

    record = model_record(anyio.run(described))
    assert record["slug"] == "a/b"
    assert record["inputs"][0]["max"] == 9.0
    assert record["inputs"][0]["options"] == ["1"]
    assert record["inputs"][0]["required"] is True
