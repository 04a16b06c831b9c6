"""Reading what a task's socket tells: nothing that it could say is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import loose
from wiro_async import LogLine, Secret, Status, TaskProgress
from wiro_async._protocol.events import Message, read_message, register

TOKEN = "eDcCm5yyUfIvMFspTwww49OUfgXkQt"


def wire(kind: str, message: object = None, **others: object) -> str:
    return json.dumps({"type": kind, "id": "2221", "tasktoken": TOKEN, "message": message, **others})


def read(kind: str, message: object = None, **others: object) -> Message:
    found = read_message(wire(kind, message, **others))
    assert found is not None
    return found


def test_the_registration() -> None:
    """It is the message that the service's documents show."""
    assert json.loads(register(Secret(TOKEN))) == {"type": "task_info", "tasktoken": TOKEN}


@pytest.mark.parametrize("status", [status for status in Status if "error" not in status])
def test_every_status_is_announced(status: Status) -> None:
    """By its wire name; the two ends alone are ends."""
    message = read(status.value)
    assert message == Message(status.value, status, "2221", Secret(TOKEN))
    assert message.is_terminal == (status in ("task_postprocess_end", "task_cancel"))


def test_newer_messages_name_no_token() -> None:
    """They are about the task of that id, which may be a number."""
    message = read_message('{"type":"task_start","id":2221,"message":null,"result":true,"terminal":false}')
    assert message == Message("task_start", Status.START, "2221", None)


def test_progress() -> None:
    """Strings become numbers, and durations seconds beside the service's words."""
    message = read(
        "task_output",
        {
            "type": "progressGenerate", "task": "Generate", "percentage": "60", "stepCurrent": "6",
            "stepTotal": "10", "speed": "1.2", "speedType": "it/s", "elapsedTime": "5s",
            "remainingTime": "1m 20s",
        },
    )  # fmt: skip
    assert message.status == Status.OUTPUT
    assert message.events == (
        TaskProgress(
            task="Generate",
            percentage=60.0,
            step=6,
            steps=10,
            speed=1.2,
            speed_unit="it/s",
            elapsed="5s",
            remaining="1m 20s",
            elapsed_seconds=5.0,
            remaining_seconds=80.0,
            raw={"type": "progressGenerate"},
        ),
    )


def test_progress_within_text() -> None:
    """JSON inside a string is read as if it were none."""
    assert read("task_output", '{"percentage": 40}').events == (TaskProgress(percentage=40.0),)


@pytest.mark.parametrize(
    ("told", "percentage"),
    [("60", 60), (60.5, 60.5), ("60%", 60), (" 7 % ", 7), (-3, 0), (250, 100), ("", None), ("x", None),
     (None, None), ([60], None), ("nan", None), (True, None)],
)  # fmt: skip
def test_percentages(told: object, percentage: float | None) -> None:
    """They are between 0 and 100, or none."""
    (event,) = read("task_output", {"percentage": told}).events
    assert isinstance(event, TaskProgress)
    assert event.percentage == percentage


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("3.5", 3.5), ("3s", 3), ("1m 20s", 80), ("2 min", 120), ("1h2m", 3720), ("500ms", 0.5), ("00:03", 3),
     ("1:02:03.5", 3723.5), ("1 hour 2 minutes 3 seconds", 3723), ("2D", 172800), (4, 4), (0, 0), ("0s", 0),
     ("", None), ("soon", None), ("3s left", None), ("-3", None), ("-00:03", None), ("1:2:3:4", None),
     ("inf", None), ("3 s", 3), (None, None), ("٣s", None)],
)  # fmt: skip
def test_durations(told: object, seconds: float | None) -> None:
    """Every form that has been seen is understood; what is not understood is none."""
    (event,) = read("task_output", {"remainingTime": told, "elapsedTime": "7"}).events
    assert isinstance(event, TaskProgress)
    assert event.remaining_seconds == seconds
    assert event.elapsed_seconds == 7.0


def test_long_words_are_cut() -> None:
    """Nothing that the service words takes more than a line."""
    (event,) = read("task_output", {"task": "x" * 1500, "remainingTime": "9" * 300 + "s"}).events
    assert isinstance(event, TaskProgress)
    assert len(event.task) == len(event.remaining) == 200


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("step 3 of 10", "step 3 of 10"),
        ("[INFO] loading", "[INFO] loading"),
        ('{"loss": 0.3}', '{"loss": 0.3}'),
        ('["a", "b"]', '["a", "b"]'),
        (["a", None, "b"], "a\nb"),
        (17, "17"),
        ({"raw": "all of it", "thinking": ["hm"], "answer": ["it"]}, "all of it"),
        ({"raw": "", "thinking": ["hm", "aha"], "answer": ["it"]}, "hm\naha\nit"),
        ({"answer": "it", "percentage": "5"}, "it"),
    ],
)
def test_lines(message: object, text: str) -> None:
    """Text is a line, and so is what a language model says."""
    found = read("task_output", message)
    assert found.status == Status.OUTPUT
    assert found.events == (LogLine(text, "output"),)


@pytest.mark.parametrize("message", [None, "", {}, {"url": "x"}, {"raw": None}, [], {"thinking": []}])
def test_output_without_content(message: object) -> None:
    """It is the status alone."""
    assert read("task_output", message) == Message("task_output", Status.OUTPUT, "2221", Secret(TOKEN))


def test_an_error_is_a_line() -> None:
    """On the socket it says nothing about the task's state; without text it is nothing at all."""
    message = read("task_error", "CUDA warning")
    assert message.status is None
    assert not message.is_terminal
    assert message.events == (LogLine("CUDA warning", "error"),)
    assert read_message(wire("task_error")) is None


def test_other_statuses_have_no_lines() -> None:
    """The outputs that an end lists are read with the task, not here."""
    assert read("task_postprocess_end", [{"name": "0.mp4"}]).events == ()
    assert read("task_start", "text").events == ()


def test_long_lines_are_cut() -> None:
    """At 65 536 characters."""
    (event,) = read("task_output", "x" * 70_000).events
    assert event == LogLine("x" * 65536, "output")
    (event,) = read("task_output", '["' + "x" * 70_000).events
    assert isinstance(event, LogLine)
    assert len(event.text) == 65536


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ({"type": "error", "message": "tasktoken-required", "result": False}, "tasktoken-required"),
        ({"type": "error", "result": False}, "no reason given"),
        ({"type": "error", "message": {"code": 1}}, "no reason given"),
        ({"type": "error", "message": "x" * 900}, "x" * 200),
    ],
)
def test_refusals(message: dict[str, Any], refused: str) -> None:
    """They are told as such, whose ever they are."""
    found = read_message(json.dumps(message))
    assert found is not None
    assert (found.refused, found.status, found.task_id, found.token) == (refused, None, "", None)


@pytest.mark.parametrize(
    "message",
    [
        "", "null", "[]", '"task_start"', "1", "{", '{"type":"task_start"', "{}", '{"type":null}', "NaN",
        '{"type":"connected","version":"1.0"}', '{"type":"task_invented","id":"1"}', "token|pcm",
        '{"type":["task_start"]}', '{"type":"error","result":true}',
        '{"type":"task_start","message":' + "[" * 100 + "]" * 100 + "}",
        '{"type":"task_start","message":' + "[" * 1000,
        '{"type":"task_start","message":' + "[" * 100_000,
        '{"type":"task_start","message":' + "9" * 401 + "}",
        '{"type":"task_start","message":[' + "1," * 2000 + "1]}",
    ],
)  # fmt: skip
def test_what_says_nothing(message: str) -> None:
    """No JSON object, too deep, too costly, of an unknown type, or without content."""
    assert read_message(message) is None
    assert read_message(message.encode()) is None


@pytest.mark.parametrize(
    ("bytes_in_all", "values", "is_read"),
    [
        (2048, 1100, True),
        (2049, 1023, True),
        (2049, 1025, False),
        (262144, 1000, True),
        (262145, 1000, False),
    ],
)
def test_what_a_message_may_cost(bytes_in_all: int, values: int, is_read: bool) -> None:
    """Up to 2 KiB anything; up to 256 KiB 1 024 lists, objects and values; beyond, only an end is seen."""
    # Commas within a text count as well: it may be JSON.
    message = '{"type":"task_start","message":"' + "," * (values - 2) + '"}'
    message += " " * (bytes_in_all - len(message))
    assert (len(message), sum(map(message.count, "[{,"))) == (bytes_in_all, values)
    assert (read_message(message) is not None) is is_read
    assert (read_message(message.encode()) is not None) is is_read


def test_depth_is_counted_only_where_it_could_be_too_much() -> None:
    """Many brackets side by side are not deep."""
    assert read("task_postprocess_end", [{}] * 100).is_terminal


def test_bytes_that_are_no_utf8() -> None:
    """A broken character breaks no message."""
    message = read_message(b'{"type":"task_output","message":"a\xffb"}')
    assert message is not None
    assert message.events == (LogLine("a\ufffdb", "output"),)


LONG = {
    "bytes": [{"name": "x" * 262144}],
    "values": [[{"name": "0.mp4", "id": "9", "tasktoken": "no"}] * 3000],
}


@pytest.mark.parametrize("outputs", LONG.values(), ids=LONG.keys())
@pytest.mark.parametrize("kind", ["task_postprocess_end", "task_cancel"])
def test_a_long_message_still_tells_an_end(kind: str, outputs: object) -> None:
    """Its head is enough for that; what is nested does not name the task."""
    status = Status(kind)
    assert read_message(wire(kind, outputs)) == Message(kind, status, "2221", Secret(TOKEN))
    bare = json.dumps({"type": kind, "message": outputs, "id": "2221"})
    assert read_message(bare.encode()) == Message(kind, status)


@pytest.mark.parametrize("outputs", LONG.values(), ids=LONG.keys())
def test_other_long_messages_are_left_out(outputs: object) -> None:
    """Only an end is worth it, and it must stand where messages have their type."""
    assert read_message(wire("task_output", outputs)) is None
    assert read_message(json.dumps({"id": "1", "message": outputs, "type": "task_cancel"})) is None
    assert read_message(json.dumps([{"type": "task_cancel"}, outputs])) is None


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_no_bytes_are_an_error(message: bytes | str) -> None:
    """Whatever comes is read, or it is nothing."""
    read_message(message)


@given(
    st.sampled_from([*(status.value for status in Status), "error", "connected"]),
    st.dictionaries(st.sampled_from(["percentage", "raw", "answer", "elapsedTime", "x"]), loose) | loose,
    st.dictionaries(st.sampled_from(["id", "tasktoken", "result"]), loose),
)
def test_no_values_are_an_error(kind: str, message: object, others: dict[str, object]) -> None:
    """Types are loose on this wire: every value in every place gives a record that holds its bounds."""
    found = read_message(json.dumps({"type": kind, "message": message, **others}))
    for event in () if found is None else found.events:
        if isinstance(event, TaskProgress):
            assert event.percentage is None or 0 <= event.percentage <= 100
            for seconds in (event.elapsed_seconds, event.remaining_seconds):
                assert seconds is None or seconds >= 0
        else:
            assert event.text


def test_no_repr_holds_a_token() -> None:
    """Nor what the service may quote, nor what it sent beyond what we know."""
    message = read("task_output", {"percentage": 1, "secret": "canary"})
    refusal = read("error", f"no such token: {TOKEN}")
    assert "canary" not in repr(message) + repr(message.events)
    assert TOKEN not in repr(message) + repr(refusal)
