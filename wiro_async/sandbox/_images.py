"""The demo images that come with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["demo_images"]


def demo_images() -> tuple[Path, ...]:
    """List the demo images.

    Returns:
        The paths of the three JPEGs, in alphabetical order.
    """
    return tuple(sorted((Path(__file__).parent / "images").glob("*.jpg")))
