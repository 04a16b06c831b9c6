"""The models and the facts about them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import wiro_async.sandbox
from wiro_async.sandbox._catalogue import Catalogue, Input, Model
from wiro_async.sandbox._refusal import Refusal

CATALOGUE = Catalogue.load()
DIRECTOR = "MiniMax/image-to-video-01-director"
SUBJECT = "MiniMax/image-to-video-hailuo-01-subject"


def find(slug: str) -> Model:
    """A model by its slug."""
    owner, _, name = slug.partition("/")
    return CATALOGUE.find(owner, name)


def test_the_data_file_is_small_and_complete() -> None:
    """All models are there, with unique ids, in less than 400 kB."""
    file = Path(wiro_async.sandbox.__file__).with_name("models.json")
    assert file.stat().st_size < 400_000
    assert len({model.id for model in CATALOGUE.models}) == len(CATALOGUE.models) == 321


@pytest.mark.parametrize("slug", [DIRECTOR, SUBJECT])
def test_the_documented_models_take_what_the_documents_say(slug: str) -> None:
    """An image URL as text, and a prompt with a default; neither is marked as required."""
    model = find(slug)
    assert [(each.id, each.type, each.required) for each in model.inputs] == [
        ("inputImageFirstUrl", "text", False),
        ("prompt", "textarea", False),
    ]
    assert model.inputs[1].default
    assert model.is_hailuo_01


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("MiniMax/hailuo-2.3", "minimax/hailuo-2-3"),
        ("wiro/Product Photoshoot", "wiro/product-photoshoot"),
        ("lightricks/ ltx-2.3", "lightricks/ltx-2-3"),
        ("lightricks/ltx-2.3", "lightricks/ltx-2-3"),
        (" resemble-ai/chatterbox-turbo", "resemble-ai/chatterbox-turbo"),
    ],
)
def test_models_are_found_by_raw_and_by_clean_slug(raw: str, clean: str) -> None:
    """With case, dots and spaces as the catalogue has them, or without."""
    assert find(raw) is find(clean)
    assert find(raw).clean_slug == clean


@pytest.mark.parametrize("slug", ["MiniMax/nothing", "minimax/hailuo-2.3", "", "MiniMax/"])
def test_an_unknown_slug_is_refused(slug: str) -> None:
    """Code 1, in the service's words; a mixture of both spellings is no slug."""
    with pytest.raises(Refusal) as caught:
        find(slug)
    assert (caught.value.code, caught.value.message) == (1, "slug-owner-project-not-exist")


def test_a_slug_without_its_spaces_does_not_hide_another_model() -> None:
    """The first model that has a slug keeps it."""
    models = [Model(slug=slug, title="", category="llm", inputs=()) for slug in ("a/b", "a/ b")]
    assert Catalogue(models).find("a", "b") is models[0]


def test_prices_come_from_the_list_unless_they_are_given() -> None:
    """One price for all, or a price for some."""
    hailuo, veo, chat = find(DIRECTOR), find("google/veo3"), find("wiro/chat")
    assert [model.price(None) for model in (hailuo, veo, chat)] == [
        Decimal("0.28"),
        Decimal("0.40"),
        Decimal("0.005"),
    ]
    assert hailuo.price(1.5) == Decimal("1.5")
    assert hailuo.price({DIRECTOR: 0.1}) == Decimal("0.1")
    assert veo.price({DIRECTOR: 0.1}) == Decimal("0.40")
    assert find("black-forest-labs/flux-2-flex").price(None) == Decimal("0.04")


@pytest.mark.parametrize(
    ("slug", "seconds"),
    [
        (DIRECTOR, 60),
        ("alibaba/wan 2.6", 60),
        ("black-forest-labs/flux-2-flex", 10),
        ("MiniMax/text-to-video-hailuo-02", 60),
        ("ACE-Step/image-to-song-ACE-Step-v1-3.5B", 10),
    ],
)
def test_runs_have_a_typical_length(slug: str, seconds: float) -> None:
    """A minute for videos from images, else what the catalogue says, else a guess by kind."""
    assert find(slug).typical_seconds == seconds


def test_search_narrows_by_text_owner_categories_and_tags() -> None:
    """All conditions hold together, any word of one is enough; without any, all models are found."""
    assert CATALOGUE.search() == list(CATALOGUE.models)
    found = CATALOGUE.search(text="HAILUO", owner="minimax", categories=["image-to-video"])
    assert {model.category for model in found} == {"image-to-video"}
    assert find(SUBJECT) in found
    assert CATALOGUE.search(owner="nobody") == []
    both = CATALOGUE.search(categories=["Text-to-Video", "image-to-video"])
    assert {model.category for model in both} == {"text-to-video", "image-to-video"}
    assert CATALOGUE.search(categories=["partner"], tags=["Video Generator"]) == [
        find(DIRECTOR),
        find(SUBJECT),
    ]
    assert CATALOGUE.search(categories=["nonsense"]) == CATALOGUE.search(tags=["nonsense"]) == []
    of_minimax = {model.slug for model in CATALOGUE.search(categories=["MiniMax"])}
    assert of_minimax == {model.slug for model in CATALOGUE.search(owner=" MINIMAX ")}


@pytest.mark.parametrize("owner", ["ACE-Step", "ace-step", "Resemble-AI"])
def test_owners_are_known_by_either_form(owner: str) -> None:
    """In any case, as the catalogue or as addresses spell them."""
    assert CATALOGUE.search(owner=owner)


@pytest.mark.parametrize(
    ("item", "image"),
    [
        (Input(id="inputImage", type="combinefileinput"), True),
        (Input(id="inputImageFirstUrl", type="text"), True),
        (Input(id="inputImageCount", type="text"), False),
        (Input(id="inputAudio", type="fileinput"), False),
    ],
)
def test_images_are_known_by_their_names(item: Input, image: bool) -> None:
    """No other fact tells an image from another file."""
    assert item.is_image is image
