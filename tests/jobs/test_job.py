"""Jobs, their keys and their outcomes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from wiro_async._errors import DownloadError, InvalidInput
from wiro_async._files.inputs import Director
from wiro_async._jobs.job import Job, JobOutcome, check_key, named


def test_a_job_names_its_model_or_its_batch_does() -> None:
    """The job comes first, then typed inputs, then the batch."""
    typed = Director(image="https://host/a.jpg", prompt="waves")
    assert named(Job(typed), None) == (typed.model, typed)
    assert named(Job(inputs=typed), "c/d") == (typed.model, typed)
    assert named(Job("a/b", typed), "c/d") == ("a/b", typed)
    assert named(Job("a/b", {"x": 1}), "c/d") == ("a/b", {"x": 1})
    assert named(Job(inputs={"x": 1}), "c/d") == ("c/d", {"x": 1})


def test_a_job_without_a_model_is_refused() -> None:
    """The message tells where to name it."""
    with pytest.raises(InvalidInput, match=r"batch\(model=...\)"):
        named(Job(inputs={"x": 1}), None)


def test_what_are_no_inputs_is_refused() -> None:
    """A list or a string is no mapping."""
    wrong: Any = ["x", 1]
    with pytest.raises(InvalidInput, match="are a list"):
        named(Job("a/b", wrong), None)


def test_a_model_that_is_no_text_is_refused() -> None:
    """A table's empty cell is a float, for some."""
    wrong: Any = float("nan")
    with pytest.raises(InvalidInput, match="the model of a job is a float"):
        named(Job(wrong, {"x": 1}), "a/b")


def test_a_job_takes_its_arguments_in_the_order_of_submit() -> None:
    """Typed inputs may stand in the model's place; others may not, and the message has the right call."""
    typed = Director(image="https://host/a.jpg", prompt="waves")
    assert Job(typed, key="k") == Job(typed.model, typed, key="k")
    assert Job("a/b", {"x": 1}) == Job(model="a/b", inputs={"x": 1}, key=None)
    assert pickle.loads(pickle.dumps(Job(typed, key="k"))) == Job(typed, key="k")
    wrong: Any = {"prompt": "waves"}
    with pytest.raises(InvalidInput, match=r"Job\(inputs=\{...\}\)"):
        Job(wrong)


def test_an_outcome_with_an_error_did_not_succeed() -> None:
    """Everything that was wanted is there, or there is a reason."""
    assert JobOutcome("a").succeeded
    assert not JobOutcome("a", error=DownloadError("gone", url="https://host/x")).succeeded


@pytest.mark.parametrize(("key", "text"), [("sku-1", "sku-1"), (7, "7"), ("ü" * 500, "ü" * 500)])
def test_keys_are_texts_or_numbers(key: object, text: str) -> None:
    """Numbers become texts."""
    assert check_key(key) == text


@pytest.mark.parametrize("key", ["", "x" * 501, "a\0b", "\ud800", None, 1.5, True, b"x", ["x"]])
def test_other_keys_are_refused(key: object) -> None:
    """They could not be found again."""
    with pytest.raises(InvalidInput, match="the key"):
        check_key(key)
