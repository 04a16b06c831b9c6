"""What a WebSocket tells of a task, on a virtual clock."""

from __future__ import annotations

import itertools
import json
from typing import Any, Literal

import attrs
import pytest

from tests.sandbox.test_engine import CLIP, START, order, unprepared
from wiro_async.sandbox._catalogue import Model
from wiro_async.sandbox._engine import Engine, Order, Product, Task
from wiro_async.sandbox._messages import MessageStream
from wiro_async.sandbox._refusal import Refusal

Message = dict[str, Any]


class Told:
    """An engine, a task of it, and its messages from the beginning or from later on."""

    def __init__(
        self, first: Order | None = None, form: Literal["old", "new"] = "old", at: float = START
    ) -> None:
        self.engine = Engine(queue_mean=0.1, run_sigma=0.0)
        self.task: Task = self.engine.run(first or order("[sandbox:run=60]"), START)
        self.messages = MessageStream(self.engine, self.task.token, at, form=form, cdn_url="http://x/cdn")

    def tell(self, now: float) -> list[Message]:
        """What is new."""
        return [json.loads(text) for text in self.messages.tell(now)[0]]

    def step_by_step(self, now: float = START) -> list[tuple[float, Message]]:
        """All that comes, each at its time, until nothing is due."""
        told = []
        due: float | None = now
        while due is not None:
            texts, following = self.messages.tell(due)
            told += [(due, json.loads(text)) for text in texts]
            assert following is None or following > due
            due = following
        return told


def types(messages: list[Message]) -> list[str]:
    return [message["type"] for message in messages]


def test_every_status_is_told_when_it_is_reached() -> None:
    """With the lines and the progress of the run in between, and the outputs at the end."""
    told = Told()
    messages = told.step_by_step()
    statuses = {stage.status.value: stage.at for stage in told.task.stages[1:]}
    times = {message["type"]: at for at, message in messages}
    assert {kind: times[kind] for kind in statuses} == statuses
    assert types([message for _, message in messages]) == [
        "task_accept", "task_preprocess_start", "task_preprocess_end", "task_assign", "task_start",
        *["task_output"] * 14, "task_output_full", "task_end", "task_postprocess_start",
        "task_postprocess_end",
    ]  # fmt: skip
    assert told.messages.ended
    last = messages[-1][1]
    assert [output["url"] for output in last["message"]] == [f"http://x/cdn/{CLIP.path}"]
    assert messages[0][1] == {
        "type": "task_accept", "id": told.task.id, "tasktoken": told.task.token, "message": None,
        "result": True,
    }  # fmt: skip


def test_progress_comes_ten_times_over_the_run_and_in_strings() -> None:
    """At even intervals, between the two plain lines."""
    told = Told()
    outputs = [(at, each["message"]) for at, each in told.step_by_step() if each["type"] == "task_output"]
    assert [text for _, text in outputs if isinstance(text, str)] == [
        "Model is running.", "Decoding frames.", "Encoding the clip.", "Writing the file.",
    ]  # fmt: skip
    steps = [(at, each) for at, each in outputs if isinstance(each, dict)]
    assert [each["percentage"] for _, each in steps] == [str(each) for each in range(10, 101, 10)]
    gaps = {round(after[0] - before[0], 3) for before, after in itertools.pairwise(steps)}
    assert gaps == {5.04}
    assert steps[5][1] == {
        "type": "progressGenerate", "task": "Generate", "percentage": "60", "stepCurrent": "6",
        "stepTotal": "10", "speed": "0.2", "speedType": "it/s", "elapsedTime": "30s", "remainingTime": "30s",
    }  # fmt: skip


def test_the_newer_format_has_no_token_and_says_what_the_end_means() -> None:
    """Messages are told apart by the task's id."""
    told = Told(form="new")
    messages = [message for _, message in told.step_by_step()]
    assert told.task.token not in json.dumps(messages)
    assert messages[0] == {
        "type": "task_accept", "id": told.task.id, "message": None, "result": True, "success": False,
        "terminal": False, "exitCode": None,
    }  # fmt: skip
    end = {key: messages[-1][key] for key in ("success", "terminal", "exitCode")}
    assert end == {"success": True, "terminal": True, "exitCode": 0}


def test_a_failure_is_told_on_stderr_and_has_no_outputs() -> None:
    """The line is a message of its own, and not the end."""
    told = Told(order("[sandbox:run=60] [sandbox:fail no face]"), form="new")
    messages = [message for _, message in told.step_by_step()]
    assert types(messages)[-4:] == [
        "task_error",
        "task_end",
        "task_postprocess_start",
        "task_postprocess_end",
    ]
    assert messages[-4]["message"] == "no face"
    assert [messages[-1][key] for key in ("message", "success", "exitCode")] == [[], False, 1]


def test_nothing_is_told_again() -> None:
    """Who registers in the middle hears of what comes after."""
    whole = Told()
    everything = whole.step_by_step()
    start = whole.task.stages[5].at
    for moment in (start, start + 20.0, start + 56.0):
        late = Told(at=moment)
        assert late.step_by_step(moment) == [(at, each) for at, each in everything if at > moment]
    end = whole.task.stages[-1].at
    assert Told(at=end).messages.ended
    assert not Told(at=end - 0.1).messages.ended


def test_missed_progress_is_left_out_and_missed_statuses_are_not() -> None:
    """When the clock was moved by more than a step."""
    told = Told()
    start = told.task.stages[5].at
    messages = told.tell(start + 30.0)
    assert types(messages)[-3:] == ["task_start", "task_output", "task_output"]
    assert messages[-1]["message"]["stepCurrent"] == "5"
    rest = told.tell(start + 1000.0)
    assert [each["message"]["stepCurrent"] for each in rest if isinstance(each["message"], dict)] == ["10"]
    assert types(rest)[-1] == "task_postprocess_end"
    assert told.messages.tell(start + 2000.0) == ([], None)


def test_work_that_takes_longer_holds_the_end_back_but_repeats_no_progress() -> None:
    """The next time is unknown until the work is done."""
    told = Told(unprepared("[sandbox:run=60]"))
    start = told.task.stages[5].at
    texts, due = told.messages.tell(start + 55.0)
    assert (json.loads(texts[-1])["message"]["stepCurrent"], due) == ("10", None)
    told.engine.take_started(start + 55.0)
    told.engine.prepared(told.task.id, start + 90.0, [CLIP])
    messages = [message for _, message in told.step_by_step(start + 90.0)]
    assert types(messages) == ["task_output"] * 3 + [
        "task_output_full", "task_end", "task_postprocess_start", "task_postprocess_end",
    ]  # fmt: skip


def test_a_task_that_is_stopped_ends_at_once() -> None:
    """With nothing but its status."""
    told = Told(form="new")
    told.engine.steer(told.task.id, "cancel", START, None)
    messages = told.tell(START)
    assert [(each["type"], each["terminal"], each["success"], each["exitCode"]) for each in messages] == [
        ("task_cancel", True, False, None)
    ]
    assert told.messages.ended


def test_killing_a_running_task_ends_its_progress() -> None:
    """It has no end of a run any more."""
    told = Told()
    start = told.task.stages[5].at
    told.tell(start + 10.0)
    told.engine.kill(told.task, start + 11.0)
    assert types(told.tell(start + 11.0)) == ["task_cancel"]


def test_a_task_that_hangs_says_nothing_after_its_start() -> None:
    """Nor is anything due."""
    told = Told(order("[sandbox:hang]"))
    messages = told.tell(START + 1000.0)
    assert types(messages)[-2:] == ["task_start", "task_output"]
    assert told.messages.tell(START + 2000.0) == ([], None)


def test_a_stored_error_comes_with_its_text_and_is_not_the_end() -> None:
    """It waits to be queued again."""
    told = Told(order("[sandbox:error worker lost]"))
    messages = told.tell(START + 10.0)
    assert (messages[-1]["type"], messages[-1]["message"]) == ("task_error", "worker lost")
    assert not told.messages.ended
    told.engine.steer(told.task.id, "release", START + 11.0)
    assert types(told.tell(START + 1000.0))[0] == "task_queue"


def test_a_run_that_takes_no_time_is_told_too() -> None:
    """Without a division by nothing."""
    told = Told(order("[sandbox:run=0]"))
    messages = told.tell(START + 100.0)
    assert types(messages)[-1] == "task_postprocess_end"
    assert "0.0" in [each["message"]["speed"] for each in messages if isinstance(each["message"], dict)]


def test_a_token_that_nobody_has_is_refused() -> None:
    """It is the only credential."""
    told = Told()
    with pytest.raises(Refusal, match="There is no task yet"):
        MessageStream(told.engine, "nobody's", START, form="old", cdn_url="")


def test_a_language_model_streams_its_answer() -> None:
    """First what it thinks, then all that it has said so far; no steps are counted."""
    content = {"prompt": "p", "raw": "hm\nforty two", "thinking": ["hm"], "answer": ["forty two"]}
    model = Model(slug="a/b", title="", category="llm", inputs=())
    told = Told(attrs.evolve(order("p"), model=model, products=[Product("", "raw", 0, "", content)]))
    messages = [message for _, message in told.step_by_step()]
    said = [message["message"] for message in messages if isinstance(message["message"], dict)]
    assert [each["isThinking"] for each in said] == [True, False, False]
    assert [each["answer"] for each in said] == [[], ["forty"], ["forty two"]]
    assert all(each["thinking"] == ["hm"] for each in said)
    assert said[-1]["raw"] == content["raw"]
    assert messages[-1]["message"] == [{"contenttype": "raw", "content": content}]
