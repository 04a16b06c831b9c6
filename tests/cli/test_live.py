"""The status line: statuses and output as lines of their own, progress in words, records for machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from wiro_async import LogLine, TaskProgress, Transition
from wiro_async.cli._live import StatusLine
from wiro_async.cli._report import Report

AT = datetime(2026, 1, 1, tzinfo=UTC)
HALF = TaskProgress(
    "Generate", percentage=50.0, step=5, steps=10, speed=1.5, speed_unit="it/s", remaining="3s"
)


def test_progress_is_said_in_words() -> None:
    """What the service does not tell is left out."""
    line = StatusLine(Report(), "submitting")
    line.add("2221", HALF)
    assert line._doing == "Generate 50 %, step 5 of 10, 1.5 it/s, 3s left"
    line.add("2221", TaskProgress("Load"))
    assert line._doing == "Load"


def test_what_a_task_writes_is_shown_without_its_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A few lines of it."""
    StatusLine(Report(), "").add("2221", LogLine("one\x1b[2J\ntwo\n" + "more\n" * 10, "output"))
    said = capsys.readouterr().out
    assert "one" in said
    assert "\x1b[2J" not in said
    assert said.count("more") == 3


def test_machines_get_a_record_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Of type transition, progress and line."""
    line = StatusLine(Report(as_json=True), "")
    for event in (Transition("task_start", AT), HALF, LogLine("hm", "error")):
        line.add("2221", event)
    records = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [record["type"] for record in records] == ["transition", "progress", "line"]
    assert (records[1]["percentage"], records[2]["stream"]) == (50.0, "error")
