"""The check of inputs: what is clearly wrong is said, and nothing that the service would take is refused."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wiro_async.sandbox
from tests.depth import examples
from tests.strategies import loose
from wiro_async import Model, ModelInput
from wiro_async._protocol.checks import Findings, check_inputs, examine, image_problem, undocumented


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


# -- empty prompts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "prompt", "is_refused"),
    [
        ([], "", True),
        ([], " \n", True),
        ([], "x", False),
        ([DURATION], "", True),
        ([IMAGE], "", False),
        ([IMAGE], " ", True),
        ([ModelInput("inputImageFirstUrl", "text")], "", False),
    ],
)
def test_an_empty_prompt_is_a_mistake(others: list[ModelInput], prompt: str, is_refused: bool) -> None:
    """Beside a file, a form may send one that is not meant; but nobody means spaces."""
    given = {"prompt": prompt, "inputImageUrl": "https://example.org/a.jpg"}
    complaint = "'prompt' is empty; say what is to be made"
    found = check_inputs(model(ModelInput("prompt", "textarea"), *others), given)
    assert found == ([complaint] if is_refused else [])


@pytest.mark.parametrize("default", [None, "An example"])
def test_an_empty_prompt_that_is_required_is_a_mistake(default: str | None) -> None:
    """The example of the model's page is not what was meant."""
    item = ModelInput("prompt", "textarea", required=True, default=default)
    assert len(check_inputs(model(item), {"prompt": ""})) == 1
    assert len(check_inputs(model(item, IMAGE), {"prompt": " ", "inputImage": b"x"})) == 1


# -- defaults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        DURATION,
        ModelInput("mode", "selectwithcover", options=("a", "b"), default="B"),
        ModelInput("n", "range", min=1.0, max=4.0, default="1"),
        ModelInput("n", "number", default=7),
        ModelInput("n", "float", min=0.0, default=0),
        ModelInput("is", "checkbox", default=False),
    ],
)
def test_a_reliable_default_is_filled_in(item: ModelInput) -> None:
    """With a note; if it is given, or not required, nothing is."""
    needed = attrs.evolve(item, required=True)
    found = examine(model(needed), {})
    assert found.problems == ()
    assert found.defaults == {item.name: item.default}
    assert found.notes == (f"{item.name!r} is missing; the catalogue's default is sent: {item.default!r}",)
    assert examine(model(item), {}) == Findings()
    assert examine(model(needed), {item.name: item.default}) == Findings()


@pytest.mark.parametrize(
    "item",
    [
        ModelInput("prompt", "textarea", default="Iron man in his suit"),
        ModelInput("seed", "text", default="0"),
        ModelInput("mode", "select", options=("a", "b"), default="c"),
        ModelInput("mode", "select", default="c"),
        ModelInput("n", "number", default=0),
        ModelInput("n", "number", min=1.0, max=4.0, default=9),
        ModelInput("n", "number", min=9.0, max=4.0, default=9),
        ModelInput("n", "number", default="auto"),
        ModelInput("is", "checkbox", default="perhaps"),
        ModelInput("file", "fileinput", default="https://example.org/a.jpg"),
    ],
)
def test_another_default_is_a_note(item: ModelInput) -> None:
    """An example, or what the catalogue's own rules forbid, is not sent; nor is its lack refused."""
    found = examine(model(attrs.evolve(item, required=True)), {})
    assert (found.problems, found.defaults) == ((), {})
    (note,) = found.notes
    assert note.startswith(f"{item.name!r} is missing; owner/model needs it, and the catalogue's default is ")


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


@pytest.mark.parametrize("value", ["waves at the sea", True, 0.5, {"url": "https://example.org/a.jpg"}])
def test_what_is_no_file_is_refused(value: object) -> None:
    """It is neither an address nor an id."""
    (complaint,) = check_inputs(model(IMAGE), {"inputImage": value})
    assert complaint.endswith("it takes a file: give a URL, or pathlib.Path(...) for a local file")


@pytest.mark.parametrize("value", [Path("a.txt"), b"waves", bytearray(b"x"), io.BytesIO(b"x")])
@pytest.mark.parametrize(("name", "is_refused"), [("prompt", True), ("seed", True), ("inputImageUrl", False)])
def test_a_file_for_a_text_is_refused(name: str, is_refused: bool, value: object) -> None:
    """The address of its upload would be sent; some texts are addresses."""
    assert bool(complaints(ModelInput(name, "text"), value)) is is_refused


@pytest.mark.parametrize(
    ("value", "is_refused"),
    [
        ("@photo.jpg", True), ("@in/photo.jpeg", True), ("@words.md", True), ("@home", False),
        ("@her photo.jpg", False), ("mail@home.org", False), ("@@photo.jpg", False), ("waves", False),
        (["https://example.org/a.jpg", "@photo.jpg"], True), (Path("@photo.jpg"), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("entry", [model(IMAGE), model(ModelInput("inputImageUrl", "text")), model()])
def test_a_text_that_means_a_file_elsewhere(entry: Model, value: object, is_refused: bool) -> None:
    """To job files, and to the command line; whether the model is known or not."""
    found = [each for each in check_inputs(entry, {"inputImageUrl": value}) if "give pathlib.Path('" in each]
    assert len(found) == is_refused


@pytest.mark.parametrize(
    ("slug", "name", "size", "rule"),
    [
        ("MiniMax/image-to-video-01-director", "inputImageFirstUrl", (300, 500), "short side is above 300"),
        ("minimax/image-to-video-hailuo-01-subject", "inputImage", (400, 16), "short side is above 300"),
        ("MiniMax/image-to-video-hailuo-01", "inputImageUrl", (999, 399), "between 2:5 and 5:2"),
        ("MiniMax/image-to-video-hailuo-01-live", "inputImageUrl", (399, 999), "between 2:5 and 5:2"),
        ("MiniMax/image-to-video-01-director", "inputImageFirstUrl", (1000, 400), ""),
        ("MiniMax/image-to-video-01-director", "inputImageFirstUrl", (301, 301), ""),
        ("MiniMax/image-to-video-01-director", "mask", (1, 1), ""),
        ("MiniMax/hailuo-2.3", "inputImageUrl", (1, 1), ""),
        ("klingai/image-to-video-01", "inputImageUrl", (1, 1), ""),
    ],
)
def test_the_size_of_an_image_where_the_limits_are_known(
    slug: str, name: str, size: tuple[int, int], rule: str
) -> None:
    """Of the Hailuo 01 family only."""
    found = image_problem(slug, name, *size)
    assert rule in found
    assert bool(rule) == bool(found)


def test_an_alias_that_is_another_input_is_judged_as_that() -> None:
    """Some models have both, of different kinds."""
    entry = model(ModelInput("loraUrl", "fileinput", required=True), ModelInput("lora", "select"))
    assert check_inputs(entry, {"lora": "my own"}) == []
    assert check_inputs(entry, {"loraUrl": "my own"}) != []


# -- check boxes, and lists ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, False, "true", "FALSE", 0, 1, "1", "on", "No", "", None, "half"])
def test_a_check_box_is_set_or_not(value: object) -> None:
    """In whatever spelling; and it may have options of its own."""
    assert complaints(ModelInput("x", "checkbox", options=("half",)), value) == []


@pytest.mark.parametrize("value", ["maybe", 2, b"1", {"a": 1}])
def test_other_values_of_a_check_box_are_refused(value: object) -> None:
    """The message has the value."""
    (complaint,) = complaints(ModelInput("x", "checkbox"), value)
    assert complaint.endswith("; it must be true or false")


def test_a_number_is_one() -> None:
    """A list of one passes; what is wrong with the items of others comes first."""
    assert complaints(STEPS, [7]) == []
    assert complaints(STEPS, [7, 8]) == ["'steps' is a list of 2; it takes one value"]
    assert complaints(STEPS, [7, 99]) == ["'steps' is 99; it must be between 1 and 50"]


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


URLS = st.sampled_from(["https://example.org/a b.jpg", "https://cdn1.wiro.ai/x/0.png"])
LETTERS = st.text("abc ÄÖ,.!-7", min_size=1).filter(str.strip)


def values_of(item: ModelInput) -> st.SearchStrategy[Any]:
    """Return what the catalogue says that an input takes."""
    choices = [option for option in item.options if option]
    if item.type in ("select", "selectwithcover", "multiselect") and choices:
        one = st.sampled_from(choices)
        return one | st.lists(one, min_size=1) if item.type == "multiselect" else one
    if item.type in ("range", "number", "float"):
        low, high = (-100.0 if item.min is None else item.min), (100.0 if item.max is None else item.max)
        figures = st.integers(math.ceil(low), math.floor(max(high, low)))
        return figures | figures.map(str)
    if item.type == "checkbox":
        return st.booleans() | st.sampled_from(["true", "false"])
    if "fileinput" in item.type:
        files = URLS | st.sampled_from([Path("a.jpg"), b"GIF89a", "57da1d2f9b27"])
        return files | st.lists(files, min_size=1)
    return URLS if item.name.endswith("Url") else LETTERS


@st.composite
def valid_inputs(draw: st.DrawFn, entry: Model) -> dict[str, Any]:
    """Draw inputs by what the catalogue says of a model."""
    inputs: dict[str, Any] = {}
    for item in entry.inputs:
        if item.required or draw(st.booleans()):
            base, others = item.name.removesuffix("Url"), {other.name for other in entry.inputs}
            aliases = {base, f"{base}Url"} - others if "fileinput" in item.type else set()
            inputs[draw(st.sampled_from([item.name, *sorted(aliases)]))] = draw(values_of(item))
    return inputs


@pytest.mark.parametrize("facts", CATALOGUE, ids=lambda facts: facts["slug"])
@given(data=st.data())
@examples(20)
def test_inputs_by_the_catalogue_pass(facts: dict[str, Any], data: st.DataObject) -> None:
    """Of every model, also where names that are not listed are mistakes."""
    entry = entry_of(facts)
    inputs = data.draw(valid_inputs(entry))
    assert examine(entry, inputs, strict=True).problems == ()


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


def test_a_strict_check_refuses_names_that_are_not_listed() -> None:
    """Otherwise they are notes."""
    given = {"prompt": "x", "caption": "y" * 99, "c" * 99: 1}
    listed = "is not listed among the inputs of owner/model"
    assert examine(model(PROMPT), given).notes == (
        f"'caption' {listed}, but is sent anyway",
        f"'{'c' * 60}' {listed}, but is sent anyway",
    )
    strict = examine(model(PROMPT), given, strict=True)
    assert strict.notes == ()
    assert strict.problems[0] == f"'caption' {listed}; leave it out, or do without the strict check"


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
