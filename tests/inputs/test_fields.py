"""What classes of typed inputs are made of: annotations are rules, and what is not given is not sent."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import attrs
import pytest

from wiro_async import InvalidInput, Job, TypedInputs
from wiro_async.inputs import Between, CheckedInputs, File, Files, checked, option, sent_as


@checked
class Waves(CheckedInputs):
    """One of every kind of field."""

    model: ClassVar[str] = "owner/waves"

    image: File | None = sent_as("inputImageUrl", default=None, kw_only=False)
    prompt: str | None = sent_as("prompt", default=None, kw_only=False, required=True)
    length: Literal[5, 10] = sent_as("videoSeconds")
    masks: Files | None = option("inputMask")
    ratio: Literal["16:9", "9:16"] | None = option("ratio")
    sound: bool | None = option("generateAudio")
    seed: int | None = option("seed")
    steps: Annotated[int, Between(1, 50)] | None = option("steps")
    scale: Annotated[float, Between(0.5, None)] | None = option("scale")
    shift: Annotated[float, Between(None, 1)] | None = option("shift")
    noise: float | None = option("noise")
    free: Annotated[float, Between(None, None)] | None = option("free")
    strength: float | str | None = option("distilStrength")
    effects: Sequence[Literal["rain", "snow"]] | None = option("effects")
    tags: Sequence[str] | None = option("tags")
    extra: dict[str, int] | None = option("extra")


def waves(**given: Any) -> Waves:
    """Return inputs with what is needed, and what is given."""
    return Waves(**{"prompt": "p", "length": 5, **given})


NEEDED = {"prompt": "p", "videoSeconds": "5"}


# -- what is sent ----------------------------------------------------------------------------------------


def test_what_is_not_given_is_not_sent() -> None:
    """Neither None nor a default of the catalogue's."""
    assert waves().to_inputs() == NEEDED
    assert waves(ratio=None, seed=None).to_inputs() == NEEDED


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"length": 10}, {"videoSeconds": "10"}),
        ({"ratio": "9:16"}, {"ratio": "9:16"}),
        ({"sound": True}, {"generateAudio": "true"}),
        ({"sound": False}, {"generateAudio": "false"}),
        ({"seed": 0}, {"seed": 0}),
        ({"steps": 50}, {"steps": 50}),
        ({"scale": 0.5}, {"scale": 0.5}),
        ({"scale": 7}, {"scale": 7}),
        ({"shift": -1e9}, {"shift": -1e9}),
        ({"noise": 0.1}, {"noise": 0.1}),
        ({"free": 1e300}, {"free": 1e300}),
        ({"free": 10**400}, {"free": 10**400}),
        ({"strength": 1}, {"distilStrength": 1}),
        ({"strength": 0.5}, {"distilStrength": 0.5}),
        ({"strength": "high"}, {"distilStrength": "high"}),
        ({"effects": ["rain", "snow"]}, {"effects": ["rain", "snow"]}),
        ({"effects": "rain"}, {"effects": ["rain"]}),
        ({"tags": ("a", "b")}, {"tags": ("a", "b")}),
        ({"extra": {"a": 1}}, {"extra": {"a": 1}}),
        ({"prompt": ""}, {"prompt": ""}),
        ({"image": "https://x.example/a.jpg"}, {"inputImageUrl": "https://x.example/a.jpg"}),
        ({"image": "a.jpg"}, {"inputImageUrl": Path("a.jpg")}),
        ({"masks": "a.jpg"}, {"inputMask": [Path("a.jpg")]}),
        ({"masks": ["a.jpg", b"x"]}, {"inputMask": [Path("a.jpg"), b"x"]}),
        ({"masks": (Path("a"), "http://x/b")}, {"inputMask": [Path("a"), "http://x/b"]}),
    ],
)
def test_values_travel_by_their_names_on_the_wire(given: dict[str, Any], sent: dict[str, object]) -> None:
    """Choices and yes or no as texts, numbers as numbers, files as they are for the upload."""
    inputs = waves(**given).to_inputs()
    assert inputs == {**NEEDED, **sent}
    assert all(type(inputs[name]) is type(value) for name, value in sent.items())


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"length": 7}, "length of Waves is 7; it must be one of 5, 10"),
        ({"length": "5"}, "length of Waves is '5'; it must be one of 5, 10; did you mean 5?"),
        ({"length": 5.0}, "length of Waves is 5.0; it must be one of 5, 10"),
        (
            {"ratio": "9:61"},
            "ratio of Waves is '9:61'; it must be one of '16:9', '9:16'; did you mean '9:16'?",
        ),
        ({"ratio": b"9:16"}, "ratio of Waves is <4 bytes>; it must be one of '16:9', '9:16'"),
        ({"sound": "true"}, "sound of Waves is 'true'; it must be one of False, True; did you mean True?"),
        ({"sound": 1}, "sound of Waves is 1; it must be one of False, True"),
        ({"seed": 1.5}, "seed of Waves is 1.5; it must be a whole number"),
        ({"seed": True}, "seed of Waves is True; it must be a whole number"),
        ({"steps": 0}, "steps of Waves is 0; it must be a whole number from 1 to 50"),
        ({"steps": 51}, "steps of Waves is 51; it must be a whole number from 1 to 50"),
        ({"steps": "7"}, "steps of Waves is '7'; it must be a whole number from 1 to 50"),
        ({"scale": 0.4}, "scale of Waves is 0.4; it must be a number of at least 0.5"),
        ({"scale": math.nan}, "scale of Waves is nan; it must be a number of at least 0.5"),
        ({"shift": 2}, "shift of Waves is 2; it must be a number of at most 1"),
        ({"noise": math.inf}, "noise of Waves is inf; it must be a number"),
        ({"steps": 10**99}, f"steps of Waves is {'1' + '0' * 59}…; it must be a whole number from 1 to 50"),
        ({"steps": 10**9999}, "steps of Waves is <33216 bits>; it must be a whole number from 1 to 50"),
        ({"free": "x"}, "free of Waves is 'x'; it must be a number"),
        ({"effects": ["rain", "hail"]}, "effects of Waves is ['rain', 'hail']; it must be one of 'rain', 's"),
        ({"prompt": None}, "prompt of Waves is missing; owner/waves needs it"),
    ],
)
def test_what_breaks_a_rule_is_refused_when_it_is_made(given: dict[str, Any], message: str) -> None:
    """The error names the value, the rule and the way out."""
    with pytest.raises(InvalidInput) as caught:
        waves(**given)
    assert str(caught.value).startswith(message)
    assert caught.value.name == next(iter(given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"length": None}, "length of Waves is missing; owner/waves needs it"),
        ({"prompt": b"x"}, "the prompt is a bytes; it must be a str"),
        ({"strength": True}, "the strength is a bool; it must be a str"),
        ({"image": 5}, "the image is a int; give a URL, a path, bytes or an open binary file"),
        ({"image": ""}, "the image is empty"),
        ({"image": ["a.jpg", "b.jpg"]}, "the image is a list; give a URL"),
        ({"masks": ["a.jpg", 5]}, "the masks is a int; give a URL"),
        ({"masks": "ftp://x/a.jpg"}, "the masks 'ftp://x/a.jpg' has a scheme that is not http or https"),
    ],
)
def test_files_and_texts_are_refused_when_they_are_sent(given: dict[str, Any], message: str) -> None:
    """A bad row of somebody's table must not end the iterable that a batch reads."""
    inputs = waves(**given)
    with pytest.raises(InvalidInput) as caught:
        inputs.to_inputs()
    assert str(caught.value).startswith(message)
    assert caught.value.name == next(iter(given))


def test_a_wrong_choice_of_many_is_not_told_at_length() -> None:
    """Twelve choices are shown, sixty characters of a value, and the nearest choice."""
    many = Literal["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "b0", "b1", "b2", "b3"]

    @checked
    class Many(CheckedInputs):
        model: ClassVar[str] = "owner/many"
        which: Any = option("which")

    Many.__annotations__["which"] = many
    with pytest.raises(InvalidInput) as caught:
        Many(which="b3" + " " * 10_000)
    assert len(str(caught.value)) < 250
    assert "'b1', …" in str(caught.value)
    with pytest.raises(InvalidInput, match="did you mean 'b3'"):
        Many(which="b 3")


@pytest.mark.parametrize(
    "call",
    [
        lambda: Waves("a.jpg", "p"),  # type: ignore[call-arg]
        lambda: Waves("a.jpg", "p", 5),  # type: ignore[call-arg]
        lambda: Waves(lenght=5),  # type: ignore[call-arg]
    ],
)
def test_what_python_refuses_is_a_type_error(call: Callable[[], Waves]) -> None:
    """A field that is missing, too many by their places, and a name that there is not."""
    with pytest.raises(TypeError):
        call()


# -- what they are ---------------------------------------------------------------------------------------


def test_they_are_attrs_classes_that_know_their_model() -> None:
    """Frozen, with the names on the wire in the metadata; a job needs no model beside them."""
    inputs: Any = waves(seed=7)
    assert isinstance(waves(), TypedInputs)
    assert attrs.fields(Waves).length.metadata["wire"] == "videoSeconds"
    assert attrs.evolve(inputs, seed=8).to_inputs()["seed"] == 8
    assert Job(inputs).model == "owner/waves"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        inputs.seed = 8
    with pytest.raises(InvalidInput, match="steps"):
        attrs.evolve(inputs, steps=99)


def test_they_compare_by_what_was_given() -> None:
    """And have one hash then; copies and pickles are equal."""
    inputs = waves(seed=7)
    assert inputs == waves(seed=7)
    assert hash(inputs) == hash(waves(seed=7))
    assert inputs != waves(seed=8)
    assert inputs != inputs.to_inputs()
    assert inputs != Other(seed=7)
    assert inputs == copy.deepcopy(inputs) == pickle.loads(pickle.dumps(inputs))


@checked
class Other(CheckedInputs):
    """Of another model."""

    model: ClassVar[str] = "owner/other"

    seed: int | None = option("seed")


def test_they_show_what_was_given() -> None:
    """Of bytes the size."""
    assert repr(waves(seed=7)) == "Waves(prompt='p', length=5, seed=7)"
    assert repr(waves(image=b"abc")) == "Waves(image=<3 bytes>, prompt='p', length=5)"
    assert repr(waves(image=bytearray(b"abc"))) == "Waves(image=<3 bytes>, prompt='p', length=5)"
    assert "BytesIO" in repr(waves(image=io.BytesIO()))
