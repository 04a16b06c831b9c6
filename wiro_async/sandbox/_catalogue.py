"""The models and what each takes in. Pure, but for reading its own data file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from wiro_async.sandbox._refusal import not_found

__all__ = ["Catalogue", "Input", "Model"]

_DATA = Path(__file__).with_name("models.json")

# The sandbox's own price list in USD per run: orders of magnitude, not the service's figures.
_PRICES = {
    "image-to-video": "0.40",
    "text-to-video": "0.40",
    "video-to-video": "0.40",
    "llm": "0.005",
    "training": "2.00",
}
_HAILUO_01_PRICE = "0.28"
_OTHER_PRICE = "0.04"
_VIDEO_SECONDS = 60.0
_OTHER_SECONDS = 10.0


@attrs.frozen(kw_only=True)
class Input:
    """A parameter of a model. ``min`` and ``max`` are inclusive; no ``options`` means: not known.

    ``note`` is the help text that people read below it.
    """

    id: str
    type: str
    label: str = ""
    required: bool = False
    default: Any = None
    options: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    step: float | None = None
    note: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it takes files, or URLs of files."""
        return self.type in {"fileinput", "multifileinput", "combinefileinput"}

    @property
    def is_image(self) -> bool:
        """Whether it takes images: by its name, as no other fact tells."""
        return self.id.startswith("inputImage") and (self.is_file or self.id.endswith("Url"))


@attrs.frozen(kw_only=True)
class Model:
    """A model of the catalogue.

    Attributes:
        id: A number, stable as long as the data file is.
        slug: ``owner/name`` as the catalogue spells it, with its case, dots and spaces.
        title: What people read.
        category: Such as ``image-to-video``.
        description: What it does; "" where that is not known.
        image: The URL of its cover, or "".
        partner: Whether it comes from a partner of the service.
        tags: Words that people search by.
        reliable: Whether ``required`` and ``default`` of the inputs are facts. Else they are guesses.
        seconds: What the catalogue says of a run's length; None: nothing.
        inputs: The parameters, in the catalogue's order.
    """

    id: str = ""
    slug: str
    title: str
    category: str
    description: str = ""
    image: str = ""
    partner: bool = False
    tags: tuple[str, ...] = ()
    reliable: bool = False
    seconds: float | None = None
    inputs: tuple[Input, ...]

    @cached_property
    def clean_slug(self) -> str:
        """The slug in lower case, with dashes for all that is neither letter nor digit."""
        return "/".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in self.slug.split("/"))

    @cached_property
    def owners(self) -> frozenset[str]:
        """The owner's raw and clean slug, in lower case."""
        return frozenset(slug.partition("/")[0].strip().lower() for slug in (self.slug, self.clean_slug))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """All that it is filed under: the kind of its entry, its category, its origin and its owner."""
        owner = self.slug.partition("/")[0].strip()
        return ("tool", self.category, *(("partner",) if self.partner else ()), owner)

    @property
    def makes_video(self) -> bool:
        """Whether its outputs are videos."""
        return self.category.endswith("-to-video")

    @property
    def is_language_model(self) -> bool:
        """Whether it answers with text instead of files."""
        return self.category == "llm"

    @cached_property
    def is_hailuo_01(self) -> bool:
        """Whether it is of the Hailuo 01 family: its image goes by three names, and is always needed."""
        return re.fullmatch(r"minimax/image-to-video-(hailuo-)?01(-[a-z]+)?", self.clean_slug) is not None

    @property
    def typical_seconds(self) -> float:
        """The median length of a run."""
        if self.category == "image-to-video":
            return _VIDEO_SECONDS
        return self.seconds or (_VIDEO_SECONDS if self.makes_video else _OTHER_SECONDS)

    def price(self, override: float | Mapping[str, float] | None) -> Decimal:
        """USD per run.

        Args:
            override: One price for all models, prices by raw slug, or None for the sandbox's own list.
        """
        if isinstance(override, Mapping):
            override = override.get(self.slug)
        if override is not None:
            return Decimal(str(override))
        return Decimal(_HAILUO_01_PRICE if self.is_hailuo_01 else _PRICES.get(self.category, _OTHER_PRICE))


class Catalogue:
    """All models, by raw and by clean slug."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.models: tuple[Model, ...] = tuple(models)
        self._by_slug: dict[str, Model] = {}
        for model in self.models:
            tidy = "/".join(part.strip() for part in model.slug.split("/"))
            for slug in (model.slug, tidy, model.clean_slug):
                self._by_slug.setdefault(slug, model)

    @classmethod
    def load(cls) -> Catalogue:
        """Read the data file that comes with the package."""
        facts = json.loads(_DATA.read_text(encoding="utf-8"))
        return cls(_model(str(number), each) for number, each in enumerate(facts, 500))

    def find(self, owner: str, name: str) -> Model:
        """Find a model by its raw or its clean slug.

        Raises:
            Refusal: 1, when there is none.
        """
        model = self._by_slug.get(f"{owner}/{name}")
        if model is None:
            raise not_found("slug-owner-project-not-exist")
        return model

    def search(
        self, *, text: str = "", owner: str = "", categories: Iterable[str] = (), tags: Iterable[str] = ()
    ) -> list[Model]:
        """The models whose slug or title contains a text, of an owner, in any of the categories and tags.

        The case of owners, categories and tags does not matter, and either form of an owner will do.
        """
        needle, owner = text.lower(), owner.strip().lower()
        kinds, words = _folded(categories), _folded(tags)
        return [
            model
            for model in self.models
            if needle in f"{model.slug} {model.clean_slug} {model.title}".lower()
            and (not owner or owner in model.owners)
            and (not kinds or kinds & _folded(model.categories))
            and (not words or words & _folded(model.tags))
        ]


def _folded(words: Iterable[str]) -> set[str]:
    return {word.strip().lower() for word in words}


def _model(number: str, facts: dict[str, Any]) -> Model:
    inputs = tuple(
        Input(**{**item, "options": tuple(item.get("options", ()))}) for item in facts.pop("inputs")
    )
    return Model(id=number, inputs=inputs, **{**facts, "tags": tuple(facts.get("tags", ()))})
