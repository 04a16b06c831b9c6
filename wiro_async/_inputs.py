"""What a model gets: typed inputs for two models, and local files turned into URLs by an upload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol, TypeAlias, runtime_checkable

import attrs

from wiro_async._errors import InvalidInput
from wiro_async._types import JSON

__all__ = ["Director", "FileSource", "HailuoSubject", "TypedInputs", "is_local_file", "resolve"]

FileSource: TypeAlias = str | PathLike[str] | bytes | BinaryIO
"""A local file: its path, its content, or an open binary file. For ``image``, a str may also be a URL."""

Uploader: TypeAlias = Callable[[FileSource], Awaitable[str]]


@runtime_checkable
class TypedInputs(Protocol):
    """Inputs that know their model; write your own for the models that you use."""

    @property
    def model(self) -> str:
        """The slug of the model that takes these inputs."""
        ...

    def to_inputs(self) -> Mapping[str, object]:
        """Return the inputs by their names on the wire; local files as ``Path``, bytes or open files."""
        ...


def _shown(image: FileSource) -> str:
    return f"<{len(image)} bytes>" if isinstance(image, bytes) else repr(image)


@attrs.frozen
class Director:
    """Inputs of ``MiniMax/image-to-video-01-director``: a six-second clip with camera moves.

    Args:
        image: The first frame: a URL, a path, bytes or an open binary file. The clip keeps its aspect.
        prompt: What happens, with up to three camera moves in brackets: ``[Zoom in]``, ``[Pan left]``, ….
    """

    model: ClassVar[str] = "MiniMax/image-to-video-01-director"

    image: FileSource = attrs.field(repr=_shown)
    prompt: str

    def to_inputs(self) -> Mapping[str, object]:
        """Return the inputs by their names on the wire."""
        return {"inputImageFirstUrl": file_or_url(self.image), "prompt": self.prompt}


@attrs.frozen
class HailuoSubject:
    """Inputs of ``MiniMax/image-to-video-hailuo-01-subject``: a six-second clip about the person in an image.

    Args:
        image: The subject: a URL, a path, bytes or an open binary file. The model takes a human face only.
        prompt: What the person does.
    """

    model: ClassVar[str] = "MiniMax/image-to-video-hailuo-01-subject"

    image: FileSource = attrs.field(repr=_shown)
    prompt: str

    def to_inputs(self) -> Mapping[str, object]:
        """Return the inputs by their names on the wire."""
        return {"inputImageFirstUrl": file_or_url(self.image), "prompt": self.prompt}


def file_or_url(image: FileSource) -> object:
    """Tell a URL from a path: a str is a URL when it says so, else a path."""
    if isinstance(image, str) and not image.startswith(("http://", "https://")):
        if "://" in image[:12] or image.startswith("data:"):
            raise InvalidInput(
                f"the image {image[:60]!r} has a scheme that is not http or https", name="image"
            )
        return Path(image)
    return image


def is_local_file(value: object) -> bool:
    """Whether an input is a local file: in a mapping, a str never is."""
    return isinstance(value, bytes | bytearray | PathLike) or hasattr(value, "read")


async def resolve(inputs: Mapping[str, object], upload: Uploader) -> JSON:
    """Return a deep copy of *inputs* in which every local file has become the URL of its upload.

    Raises:
        InvalidInput: A file cannot be read, or *inputs* is no mapping.
        WiroError: An upload failed.
    """
    if not isinstance(inputs, Mapping):
        raise InvalidInput(
            f"inputs is a {type(inputs).__name__}; give a mapping of names to values, or typed inputs"
        )
    return {name: await _resolve_value(value, upload) for name, value in dict(inputs).items()}


async def _resolve_value(value: object, upload: Uploader) -> object:
    if is_local_file(value):
        return await upload(bytes(value) if isinstance(value, bytearray) else value)  # type: ignore[arg-type]
    if isinstance(value, list | tuple):
        return [await _resolve_value(item, upload) for item in value]
    if isinstance(value, Mapping):
        return {key: await _resolve_value(item, upload) for key, item in value.items()}
    return value
