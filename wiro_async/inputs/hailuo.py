"""Typed inputs of the two models that the service's documents describe, written by hand."""

from __future__ import annotations

from typing import ClassVar

from wiro_async.inputs.fields import CheckedInputs, File, checked, sent_as

__all__ = ["Director", "HailuoSubject"]


@checked
class Director(CheckedInputs):
    """Inputs of ``MiniMax/image-to-video-01-director``: a six-second clip with camera moves.

    Args:
        image: The first frame: a URL, a path, bytes or an open binary file. The clip has its aspect ratio.
        prompt: What happens, with up to three camera moves in brackets: ``[Zoom in]``, ``[Pan left]``, ….
    """

    model: ClassVar[str] = "MiniMax/image-to-video-01-director"

    image: File = sent_as("inputImageFirstUrl", kw_only=False)
    prompt: str = sent_as("prompt", kw_only=False)


@checked
class HailuoSubject(CheckedInputs):
    """Inputs of ``MiniMax/image-to-video-hailuo-01-subject``: a six-second clip about the person in an image.

    Args:
        image: The subject: a URL, a path, bytes or an open binary file. The model accepts only a
            human face.
        prompt: What the person does.
    """

    model: ClassVar[str] = "MiniMax/image-to-video-hailuo-01-subject"

    image: File = sent_as("inputImageFirstUrl", kw_only=False)
    prompt: str = sent_as("prompt", kw_only=False)
