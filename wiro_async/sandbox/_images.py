"""The demo images that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["PRINTED", "demo_images"]

_FOLDER = Path(__file__).parent / "images"

PRINTED: Mapping[str, Path] = {
    "underwater.jpeg": _FOLDER / "underwater-portrait.jpg",
    "input-woman-1.jpg": _FOLDER / "palm-street.jpg",
}
"""The images that the documents' commands name, as if they lay beside the service."""


def demo_images() -> tuple[Path, ...]:
    """List the demo images.

    Returns:
        The paths of the three JPEGs, in alphabetical order.
    """
    return tuple(sorted(_FOLDER.glob("*.jpg")))
