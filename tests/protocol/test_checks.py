"""The check of inputs: what is clearly wrong is said, and nothing that the service would take is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wiro_async.sandbox
from tests.depth import examples
from tests.strategies import loose
from wiro_async import Model, ModelInput
from wiro_async._protocol.checks import check_inputs, undocumented


def model(*inputs: ModelInput, slug: str = "owner/model") -> Model:
    """Return a model with these inputs."""
    return Model(slug, inputs=inputs)


def complaints(item: ModelInput, value: object) -> list[str]:
    """Check one input."""
    return check_inputs(model(item), {item.name: value})


DURATION = ModelInput("duration", "select", options=("6", "10"), default="6")
STEPS = ModelInput("steps", "range", min=1.0, max=50.0, step=1.0, default=25)
GUIDANCE = ModelInput("guidance", "range", min=0.0, max=10.0, step=0.5, default=3.5)
IMAGE = ModelInput("inputImageUrl", "fileinput", label="Image", required=True)
PROMPT = ModelInput("prompt", "textarea", required=True)

# -- what is missing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (PROMPT, "'prompt' is missing; owner/model needs a value for it"),
        (IMAGE, "'inputImageUrl' (Image) is missing; owner/model needs a file for it"),
        (
            ModelInput("mode", "select", label="mode", required=True, options=("", "fast", "slow")),
            "'mode' is missing; owner/model needs a value for it: one of 'fast', 'slow'",
        ),
    ],
)
@pytest.mark.parametrize("value", [None, "", [], [None, ""]])
def test_what_is_required_must_be_given(item: ModelInput, message: str, value: object) -> None:
    """The message names the input, its title, and what it can be."""
    assert complaints(item, value) == [message]
    assert check_inputs(model(item), {}) == complaints(item, value)


@pytest.mark.parametrize("default", ["x", 0, False, ["x"]])
def test_a_default_takes_the_place_of_what_is_not_given(default: object) -> None:
    """The service fills it in."""
    assert check_inputs(model(ModelInput("prompt", required=True, default=default)), {}) == []


@pytest.mark.parametrize("default", [None, "", []])
def test_an_empty_default_is_none(default: object) -> None:
    """It would be sent as if nothing were."""
    assert check_inputs(model(ModelInput("prompt", required=True, default=default)), {}) != []


def test_what_is_not_required_may_be_missing() -> None:
    """Whatever its kind."""
    assert check_inputs(model(DURATION, STEPS, ModelInput("mask", "fileinput")), {}) == []


# -- choices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["6", 6, 6.0, "6.0", " 10 ", "", None])
def test_a_choice_has_many_spellings(value: object) -> None:
    """Numbers and their texts are the same, and nothing at all is the default."""
    assert complaints(DURATION, value) == []


@pytest.mark.parametrize(
    ("options", "value", "message"),
    [
        (("6", "10"), 7, "'x' is 7; it must be one of '6', '10'"),
        (("4K", "1080P"), "1080i", "'x' is '1080i'; it must be one of '4K', '1080P'; did you mean '1080P'?"),
        (("true", "false"), "maybe", "'x' is 'maybe'; it must be one of 'true', 'false'"),
        (("a", "b"), "zz", "'x' is 'zz'; it must be one of 'a', 'b'"),
        (("a",), {"a": 1}, "'x' is a dict; it must be one of 'a'"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_option(options: tuple[str, ...], value: object, message: str) -> None:
    """The message lists the options, and the nearest."""
    assert complaints(ModelInput("x", "select", options=options), value) == [message]


def test_a_long_list_of_options_is_cut() -> None:
    """Twelve are enough to see what is meant."""
    (sentence,) = complaints(ModelInput("x", "select", options=tuple("abcdefghijklmn")), "zz")
    assert sentence.endswith("'k', 'l', …")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (("auto", "english"), "Auto"),
        (("1K", "2K"), "2k"),
        (("true", "false"), True),
        (("",), "my/own-lora"),
        ((), "anything"),
    ],
)
def test_what_may_be_an_option_is_let_pass(options: tuple[str, ...], value: object) -> None:
    """Capitals do not matter; a list that is empty is made at run time."""
    assert complaints(ModelInput("x", "selectwithcover", options=options), value) == []


def test_several_choices() -> None:
    """As a list, or as one text with commas; each must be an option."""
    item = ModelInput("genre", "multiselect", options=("pop", "rock", "jazz"))
    assert complaints(item, ["pop", "Rock"]) == []
    assert complaints(item, "pop, jazz") == []
    assert complaints(item, ["pop", "rok"]) == [
        "'genre' is 'rok'; it must be one of 'pop', 'rock', 'jazz'; did you mean 'rock'?"
    ]


# -- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 50, 25.0, "30", " 30 ", 1e1])
def test_a_number_may_be_a_text(value: object) -> None:
    """As forms send it."""
    assert complaints(STEPS, value) == []


@pytest.mark.parametrize(
    ("item", "value", "message"),
    [
        (STEPS, 51, "'steps' is 51; it must be between 1 and 50"),
        (STEPS, "0", "'steps' is '0'; it must be between 1 and 50"),
        (STEPS, "many", "'steps' is 'many'; it must be a number between 1 and 50"),
        (STEPS, True, "'steps' is True; it must be a number between 1 and 50"),
        (STEPS, float("nan"), "'steps' is nan; it must be a number between 1 and 50"),
        (STEPS, b"7", "'steps' is <1 byte(s)>; it must be a number between 1 and 50"),
        (STEPS, 20.5, "'steps' is 20.5; it must be a whole number between 1 and 50, such as 20"),
        (ModelInput("x", "number", min=1.0), 0, "'x' is 0; it must be at least 1"),
        (ModelInput("x", "float", max=2.5), "3", "'x' is '3'; it must be at most 2.5"),
        (ModelInput("x", "number", min=1.0, max=8.0, default=1), 0, "'x' is 0; it must be between 1 and 8"),
        (ModelInput("x", "number", min=1.0, max=8.0, default=8), 9, "'x' is 9; it must be between 1 and 8"),
        (ModelInput("x", "number"), "x", "'x' is 'x'; it must be a number"),
        (ModelInput("x", "number"), [1, "y" * 99], f"'x' is '{'y' * 59}…; it must be a number"),
    ],
)
def test_a_number_that_is_none_or_out_of_bounds(item: ModelInput, value: object, message: str) -> None:
    """The message names the value and the bounds."""
    assert complaints(item, value) == [message]


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (GUIDANCE, 3.3),
        (ModelInput("x", "range", min=0.0, max=10.0, step=0.5), 2.5),
        (ModelInput("x", "range", min=0.5, max=10.0, step=1.0), 2.5),
        (ModelInput("x", "range", min=0.0, max=1.0, step=1.0, default=0.5), 0.7),
        (ModelInput("x", "range", min=0.0, max=10.0, step=1.0, default="auto"), 0.7),
        (ModelInput("x", "range", max=10.0, step=1.0), 2.5),
        (ModelInput("width", "range", min=0.0, max=2048.0, step=32.0, default=1024), 1000),
        (ModelInput("x", "number", min=0.0, max=10.0, step=1.0), 2.5),
    ],
)
def test_steps_are_not_checked_but_for_whole_ones(item: ModelInput, value: object) -> None:
    """The service checks bounds; a slider's step is its page's."""
    assert complaints(item, value) == []


@pytest.mark.parametrize(
    "item",
    [
        ModelInput("x", "number", min=0.0, max=0.0),
        ModelInput("x", "range", min=9.0, max=1.0),
        ModelInput("x", "number", min=1.0, max=8.0, default=20),
    ],
)
def test_bounds_that_make_no_sense_are_none(item: ModelInput) -> None:
    """A catalogue that contradicts itself rules nothing out."""
    assert complaints(item, 100) == []


def test_a_whole_number_has_whole_steps_without_a_default() -> None:
    """The step and the lower bound tell."""
    item = ModelInput("x", "range", min=0.0, step=1.0)
    assert complaints(item, 2.5) == ["'x' is 2.5; it must be a whole number of at least 0, such as 2"]


# -- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "https://example.org/a.jpg", Path("a.jpg"), b"GIF89a", bytearray(b"x"), io.BytesIO(b"x"),
        "57da1d2f9b27", ["https://example.org/a.jpg", Path("b.jpg")], "data:image/png;base64,AA==", 17,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["inputImage", "inputImageUrl"])
def test_a_file_goes_under_either_name(name: str, value: object) -> None:
    """As a URL, a local file, its content, or the id of a stored file."""
    assert check_inputs(model(IMAGE), {name: value}) == []


@pytest.mark.parametrize("kind", ["fileinput", "multifileinput", "combinefileinput"])
def test_one_of_two_names_may_be_empty(kind: str) -> None:
    """As forms send it."""
    item = ModelInput("inputImage", kind, required=True)
    assert check_inputs(model(item), {"inputImage": "", "inputImageUrl": "https://example.org/a.jpg"}) == []
    assert check_inputs(model(item), {"inputImage": [], "inputImageUrl": ""}) != []


@pytest.mark.parametrize("value", ["photo.jpg", "./in/photo.PNG", "C:\\clips\\a.mp4", "a b.webp"])
def test_a_path_as_text_is_not_a_file(value: str) -> None:
    """It would be sent as it is; the message says what to give instead."""
    expected = (
        "a text is sent as it is; give a URL, or pathlib.Path(...) for a local file "
        "(in a job file: @ before its path)"
    )
    assert check_inputs(model(IMAGE), {"inputImage": value}) == [f"'inputImage' is {value!r}; {expected}"]


@pytest.mark.parametrize("listed", ["inputImageFirstUrl", "inputImageUrl", "inputImage"])
@pytest.mark.parametrize("sent", ["inputImageFirstUrl", "inputImageUrl", "inputImage"])
@pytest.mark.parametrize("slug", ["MiniMax/image-to-video-hailuo-01-subject", "minimax/hailuo-2-3"])
def test_the_hailuo_familys_image_has_three_names(slug: str, listed: str, sent: str) -> None:
    """Whichever the catalogue lists."""
    entry = model(ModelInput(listed, "text", required=True), slug=slug)
    assert check_inputs(entry, {sent: "https://example.org/a.jpg"}) == []


# -- names -----------------------------------------------------------------------------------------------


def test_a_slip_of_the_pen_is_told() -> None:
    """A name that is nearly one of the model's, which is not given itself."""
    entry = model(PROMPT, DURATION, IMAGE, ModelInput("negativePrompt"), slug="MiniMax/hailuo-2.3")
    given = {
        "promt": "x",
        "Duration": "6",
        "prompt": "y",
        "negative_prompt": "z",
        "inputImageUrl": "https://a/b",
    }
    assert check_inputs(entry, given) == [
        "'Duration' is no input of MiniMax/hailuo-2.3; did you mean 'duration'?",
        "'negative_prompt' is no input of MiniMax/hailuo-2.3; did you mean 'negativePrompt'?",
    ]
    assert check_inputs(entry, {"prompt": "y", "inputimage_url": "https://a/b"})[0] == (
        "'inputimage_url' is no input of MiniMax/hailuo-2.3; did you mean 'inputImageUrl'?"
    )


@pytest.mark.parametrize("name", ["callbackUrl", "projectid", "undocumented", "inputImageLastUrl", "x", ""])
def test_other_names_are_let_pass(name: str) -> None:
    """The service takes more than the catalogue lists."""
    entry = model(DURATION, ModelInput("inputImageFirst", "fileinput"))
    assert check_inputs(entry, {name: "1"}) == []


def test_a_model_without_a_list_of_inputs_takes_anything() -> None:
    """As one from a listing."""
    assert check_inputs(Model("owner/model"), {"x": 1}) == []


# -- whatever comes --------------------------------------------------------------------------------------

CATALOGUE: list[dict[str, Any]] = json.loads(
    Path(wiro_async.sandbox.__file__).with_name("models.json").read_text("utf-8")
)


def figure(value: object) -> float | None:
    """Read a bound of the catalogue."""
    return float(str(value)) if value not in (None, "") else None


def entry_of(facts: dict[str, Any]) -> Model:
    """Make a model of what is known of a real one."""
    return Model(
        facts["slug"],
        inputs=tuple(
            ModelInput(
                item["id"],
                item["type"],
                required=item.get("required", False),
                default=item.get("default"),
                options=tuple(map(str, item.get("options") or ())),
                min=figure(item.get("min")),
                max=figure(item.get("max")),
                step=figure(item.get("step")),
            )
            for item in facts["inputs"]
        ),
    )


@pytest.mark.parametrize("named", [False, True])
def test_every_real_model_takes_its_own_defaults(named: bool) -> None:
    """All of the catalogue's, given or not: the check complains of nothing but what is required."""
    for facts in CATALOGUE:
        entry = entry_of(facts)
        given: dict[str, object] = {
            item.name: "https://example.org/a.jpg"
            for item in entry.inputs
            if item.required and item.default in (None, "", [])
        }
        # What is required and has options has one of them.
        given |= {
            item.name: next(filter(None, item.options), "x")
            for item in entry.inputs
            if item.name in given and item.options
        }
        if named:
            given |= {item.name: item.default for item in entry.inputs if item.name not in given}
        assert check_inputs(entry, given) == [], facts["slug"]


def test_the_seeds_runs_are_taken() -> None:
    """The image under the first of its names, and a prompt."""
    for facts in CATALOGUE:
        if facts["slug"] in (
            "MiniMax/image-to-video-01-director",
            "MiniMax/image-to-video-hailuo-01-subject",
        ):
            given = {"inputImageFirstUrl": "https://cdn1.wiro.ai/a.png", "prompt": "[Zoom in] waves"}
            assert check_inputs(entry_of(facts), given) == []


kinds = st.sampled_from(
    ["text", "select", "multiselect", "range", "number", "float", "fileinput", "checkbox", "?"]
)
figures = st.none() | st.floats(-10, 10)
items = st.builds(
    ModelInput, st.sampled_from(["a", "bUrl", "inputImage"]), kinds, required=st.booleans(), default=loose,
    options=st.lists(st.text(max_size=3), max_size=3).map(tuple), min=figures, max=figures, step=figures,
)  # fmt: skip


@given(
    st.lists(items, max_size=3),
    st.dictionaries(st.sampled_from(["a", "A", "b", "bUrl", "inputImage"]), loose),
)
@examples(150)
def test_nothing_breaks_it(inputs: list[ModelInput], given: dict[str, object]) -> None:
    """Whatever the catalogue says and the caller gives: sentences come out, each in one line."""
    for sentence in check_inputs(model(*inputs), given):
        assert sentence
        assert "\n" not in sentence


# -- for callers with words of their own -------------------------------------------------------------------


def test_names_that_are_not_listed_are_found() -> None:
    """Those that are nearly an input's are complained of instead; without inputs nothing is known."""
    inputs = {"promt": "x", "caption": "y", "callbackUrl": "z", "inputImage": "w"}
    assert undocumented(model(PROMPT, IMAGE), inputs) == ["caption"]
    assert undocumented(model(), inputs) == []


def test_names_of_files_are_known_by_their_ends() -> None:
    """An address is none; the complaint has the rule that others may put in words of their own."""
    assert [bool(complaints(IMAGE, value)) for value in ("a/b.jpg", "https://x/b.jpg", "waves", 7)] == [
        True, False, False, False,
    ]  # fmt: skip
    (complaint,) = complaints(IMAGE, "a/b.jpg")
    assert complaint.endswith("(in a job file: @ before its path)")
