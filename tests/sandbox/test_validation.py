"""Whether inputs are what a model takes."""

from __future__ import annotations

from typing import Any

import pytest

from wiro_async.sandbox._body import Upload
from wiro_async.sandbox._catalogue import Input, Model
from wiro_async.sandbox._refusal import Refusal
from wiro_async.sandbox._validation import check_inputs, image_source

PHOTO = Upload("a.png", "image/png", b"")


def model(*inputs: Input, slug: str = "owner/name", reliable: bool = True) -> Model:
    """A model with these inputs."""
    return Model(slug=slug, title="", category="image-to-video", reliable=reliable, inputs=inputs)


HAILUO = model(Input(id="inputImageFirstUrl", type="text"), slug="MiniMax/image-to-video-01-director")
FILE = Input(id="inputImage", type="fileinput", required=True)
MANY = Input(id="inputImage", type="combinefileinput", required=True)
TEXT = Input(id="script", type="textarea", required=True)
STEPS = Input(id="steps", type="range", min=1, max=50)
SEED = Input(id="seed", type="number")
SIZE = Input(id="size", type="select", options=("480p", "720p", "true"))
OPEN = Input(id="voice", type="select")


def refused(taker: Model, fields: dict[str, Any]) -> str | None:
    """What a Run is refused with; None if it is accepted."""
    try:
        check_inputs(taker, fields)
    except Refusal as refusal:
        return f"{refusal.code}: {refusal.message}"
    return None


@pytest.mark.parametrize(
    ("item", "fields", "message"),
    [
        (TEXT, {}, "0: Request parameter [script] required"),
        (TEXT, {"script": ""}, "0: Request parameter [script] required"),
        (TEXT, {"script": None}, "0: Request parameter [script] required"),
        (TEXT, {"script": "x"}, None),
        (FILE, {}, "0: Request files [inputImage] required"),
        (FILE, {"inputImage": "", "inputImageUrl": ""}, "0: Request files [inputImage] required"),
        (FILE, {"inputImage": PHOTO, "inputImageUrl": ""}, None),
        (FILE, {"inputImage": "", "inputImageUrl": "http://h/a.png"}, None),
        (FILE, {"inputImage": "http://h/a.png"}, None),
        (MANY, {"inputImage": ["http://h/a.png", PHOTO]}, None),
        (MANY, {"inputImage": []}, "0: Request files [inputImage] required"),
        (STEPS, {}, None),
        (STEPS, {"steps": "50"}, None),
        (STEPS, {"steps": 1.0}, None),
        (STEPS, {"steps": 51}, "0: Request parameter [steps] must be between 1 and 50"),
        (STEPS, {"steps": "many"}, "0: Request parameter [steps] must be integer or float"),
        (STEPS, {"steps": True}, "0: Request parameter [steps] must be integer or float"),
        (STEPS, {"steps": {}}, "0: Request parameter [steps] must be integer or float"),
        (STEPS, {"steps": "nan"}, "0: Request parameter [steps] must be integer or float"),
        (STEPS, {"steps": 10**400}, "0: Request parameter [steps] must be integer or float"),
        (SEED, {"seed": -5}, None),
        (SIZE, {"size": "720p"}, None),
        (SIZE, {"size": True}, None),
        (SIZE, {"size": "8k"}, "0: Request parameters are invalid."),
        (OPEN, {"voice": "any"}, None),
        (TEXT, {"script": "x", "unheard-of": 1, "callbackUrl": "", "projectid": "1"}, None),
    ],
)
def test_an_input_is_checked_by_its_kind(item: Input, fields: dict[str, Any], message: str | None) -> None:
    """Requiredness, numbers, ranges and options are enforced, in the service's words."""
    assert refused(model(item), fields) == message


def test_a_default_stands_in_for_a_required_input_only_where_that_is_asked_for() -> None:
    """The official clients send it, as if the service refused its absence."""
    taker = model(Input(id="mode", type="text", required=True, default="std"))
    assert refused(taker, {}) == "0: Request parameter [mode] required"
    check_inputs(taker, {}, form_defaults=True)
    for nothing in ("", None):
        empty = model(Input(id="mode", type="text", required=True, default=nothing))
        with pytest.raises(Refusal, match="required"):
            check_inputs(empty, {}, form_defaults=True)


def test_unsure_facts_are_not_enforced_but_types_are() -> None:
    """Where requiredness is a guess only, nothing is missed; a wrong number stays wrong."""
    unsure = model(TEXT, FILE, STEPS, reliable=False)
    assert refused(unsure, {}) is None
    assert refused(unsure, {"steps": 0}) == "0: Request parameter [steps] must be between 1 and 50"


@pytest.mark.parametrize("name", ["inputImageFirstUrl", "inputImageUrl", "inputImage"])
@pytest.mark.parametrize("value", ["http://h/a.png", ["http://h/a.png", "http://h/b.png"]])
def test_the_hailuo_01_family_takes_its_image_under_three_names(name: str, value: Any) -> None:
    """As a text or as an array; the first image counts."""
    assert refused(HAILUO, {name: value}) is None
    assert image_source(HAILUO, {name: value}) == "http://h/a.png"


def test_the_hailuo_01_family_needs_an_image() -> None:
    """Although no fact says so: a clip is made from it."""
    assert refused(HAILUO, {"prompt": "x"}) == "0: Request parameter [inputImageFirstUrl] required"


def test_the_image_of_other_models_is_found_under_their_names() -> None:
    """With and without the Url suffix; no image is no fault here."""
    taker = model(TEXT, Input(id="inputImageUrl", type="fileinput"))
    assert image_source(taker, {"script": "x", "inputImage": "http://h/a.png"}) == "http://h/a.png"
    assert image_source(taker, {"inputImageUrl": "http://h/b.png"}) == "http://h/b.png"
    assert image_source(taker, {"script": "x"}) is None
