"""The demo images are there, and the service would take them."""

from __future__ import annotations

import pytest
from PIL import Image

from wiro_async.sandbox import demo_images


def test_three_images_are_listed_in_order() -> None:
    """The helper names the three JPEGs of the package."""
    assert [path.name for path in demo_images()] == [
        "dusk-sea.jpg",
        "palm-street.jpg",
        "underwater-portrait.jpg",
    ]


@pytest.mark.parametrize("index", range(3))
def test_images_are_small_files_of_a_photographs_size(index: int) -> None:
    """Each is a complete JPEG of 1920 pixels, light enough for the wheel."""
    path = demo_images()[index]
    with Image.open(path, formats=["JPEG"]) as picture:
        picture.load()
        assert sorted(picture.size) == [1280, 1920]
    assert path.stat().st_size <= 350_000
