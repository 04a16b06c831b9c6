"""Jobs, keys, and where files go: what comes from elsewhere leaves no folder and overwrites no other file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wiro_async._errors import ConfigurationError, DownloadError, InvalidInput
from wiro_async._files.inputs import Director
from wiro_async._jobs.job import Job, JobOutcome, check_key, check_template, file_name, has_magic, named
from wiro_async._protocol.records import Output


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


@pytest.mark.parametrize(
    ("template", "checked"),
    [
        ("clips", "clips/{key}_{task_id}_{n}{ext}"),
        ("clips/", "clips/{key}_{task_id}_{n}{ext}"),
        ("clips/{key}_{n}{ext}", "clips/{key}_{n}{ext}"),
        ("{model}/{task_id}-{name}.mp4", "{model}/{task_id}-{name}.mp4"),
        ("clips/{key}-{n:03d}{ext}", "clips/{key}-{n:03d}{ext}"),
    ],
)
def test_a_folder_becomes_a_template(template: str, checked: str) -> None:
    """One that gives each output a name of its own."""
    assert check_template(template) == checked


@pytest.mark.parametrize(
    "template",
    [
        "clips/{sku}_{n}",
        "{key.__class__}{n}",
        "{key}",
        "{n}{ext}",
        "clips/{",
        "{}{n}",
        "{0}",
        "{key[0]}{n}",
        "{key:d}{n}",
        "{n:x{n}}{key}",
        "{key}{n:{name}}",
        "{key}{n:.1}",
        "{key}_{n}\0",
        "\udcff{key}{n}",
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str) -> None:
    """Before anything is paid."""
    with pytest.raises(ConfigurationError, match="download="):
        check_template(template)


@pytest.mark.parametrize(
    "template",
    ["{key:.4}_{n}{ext}", "{key!r}_{n}", "{task_id:>9}{n}", "{key}_{name!a:.2}{ext}", "{key:{foo}}_{n}"],
)
def test_what_tells_outputs_apart_stands_in_a_path_whole(template: str) -> None:
    """A key that is cut off is another job's key; the message says what can be formatted."""
    with pytest.raises(ConfigurationError, match=r"only \{n\} can be formatted: \{n:03d\}"):
        check_template(template)


def output(
    name: str = "0.mp4", index: int = 0, content_type: str = "video/mp4", task_id: str = "2221"
) -> Output:
    return Output(name, "https://cdn1.wiro.ai/x", content_type=content_type, index=index, task_id=task_id)


def test_a_path_is_filled_in() -> None:
    """With the parts of the job and of the output."""
    template = check_template("clips/{model}/{key}_{task_id}_{n}_{name}{ext}")
    path = file_name(template, "sku-1", "MiniMax", output(index=2))
    assert path == Path("clips/MiniMax/sku-1_2221_2_0.mp4")


def test_an_extension_comes_from_the_type_where_the_name_has_none() -> None:
    """And from nowhere else."""
    template = check_template("clips")
    assert file_name(template, "k", "m", output("clip")).suffix == ".mp4"
    assert file_name(template, "k", "m", output("a.b/c", content_type="image/png")).suffix == ".png"
    assert file_name(template, "k", "m", output("a.tar gz", content_type="odd")).suffix == ".bin"


@given(key=st.text(min_size=1), name=st.text(), task_id=st.text(), model=st.text())
def test_nothing_leaves_the_folder(key: str, name: str, task_id: str, model: str) -> None:
    """Whatever the service or a spreadsheet has for names."""
    path = file_name(
        "clips/{model}_{key}_{task_id}_{n}_{name}{ext}", key, model, output(name, task_id=task_id)
    )
    assert path.parent == Path("clips")
    assert ".." not in path.parts
    assert path.name.isascii()
    assert "\0" not in path.name
    assert "/" not in path.name


@given(first=st.text(min_size=1), second=st.text(min_size=1))
def test_two_keys_have_two_names(first: str, second: str) -> None:
    """Also where their letters cannot stand in a file name."""
    if first != second:
        one, two = (file_name("{key}_{n}{ext}", key, "m", output()) for key in (first, second))
        assert one != two


@pytest.mark.parametrize(
    ("content_type", "head", "fits"),
    [
        ("video/mp4", b"\0\0\0\x20ftypisom", True),
        ("Video/MP4; codecs=avc1", b"\0\0\0\x20ftypisom", True),
        ("video/mp4", b"<html><body>", False),
        ("video/mp4", b"", False),
        ("image/png", b"\x89PNG\r\n\x1a\n...", True),
        ("image/png", b"\xff\xd8\xff", False),
        ("image/jpeg", b"\xff\xd8\xff\xe0", True),
        ("image/gif", b"GIF89a", True),
        ("image/webp", b"RIFF....WEBPVP8 ", True),
        ("audio/wav", b"RIFF....WAVEfmt ", True),
        ("video/webm", b"\x1a\x45\xdf\xa3", True),
        ("text/plain", b"anything", True),
        ("", b"anything", True),
    ],
)
def test_what_a_file_begins_with(content_type: str, head: bytes, fits: bool) -> None:
    """An error page that calls itself a video is found out."""
    assert has_magic(content_type, head) is fits
