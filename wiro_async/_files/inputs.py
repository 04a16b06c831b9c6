"""What a model gets: inputs by name or typed, and local files turned into URLs by an upload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, TypeAlias, runtime_checkable

from wiro_async._errors import InvalidInput
from wiro_async._types import JSON, MAX_DEPTH

__all__ = [
    "FileSource",
    "TypedInputs",
    "by_name",
    "file_or_url",
    "holds",
    "is_local_file",
    "local_files",
    "resolve",
    "unwrapped",
]


class UploadedFile(Protocol):
    """A file as web frameworks give it: Starlette's and FastAPI's ``UploadFile``, aiohttp's ``FileField``."""

    @property
    def file(self) -> Any:
        """The plain binary file."""
        ...

    @property
    def filename(self) -> str | None:
        """What its sender called it."""
        ...


FileSource: TypeAlias = str | PathLike[str] | bytes | BinaryIO | UploadedFile
"""A local file: its path, its content, an open binary file, or an upload as web frameworks give it.

In typed inputs, a str may also be a URL.
"""

Uploader: TypeAlias = Callable[[FileSource], Awaitable[str]]


@runtime_checkable
class TypedInputs(Protocol):
    """Inputs that know their model; write your own for the models that you use."""

    model: ClassVar[str]
    """The slug of the model that takes these inputs."""

    def to_inputs(self) -> Mapping[str, object]:
        """Return the inputs by their names on the wire; local files as ``Path``, bytes or open files."""
        ...


def by_name(inputs: Mapping[str, Any] | TypedInputs) -> Mapping[str, Any]:
    """Return inputs by their names on the wire.

    Raises:
        InvalidInput: They are neither a mapping nor typed inputs, or a typed input cannot be sent.
    """
    # A plain mapping first: asking for a protocol takes its time on Python 3.11. A class has what its records
    # have.
    if not isinstance(inputs, dict | type) and isinstance(inputs, TypedInputs):
        inputs = inputs.to_inputs()
    if not isinstance(inputs, dict | Mapping):
        raise InvalidInput(
            f"inputs is a {type(inputs).__name__}; give a mapping of names to values, or typed inputs",
            name="inputs",
        )
    return inputs


def file_or_url(file: FileSource, name: str) -> object:
    """Tell a URL from a path: a str is a URL when it says so, else a path.

    Args:
        file: What was given for a typed input.
        name: The input's name, for errors.

    Raises:
        InvalidInput: It is neither.
    """
    if not isinstance(file, str):
        if not is_local_file(file):
            raise InvalidInput(
                f"the {name} is a {type(file).__name__}; give a URL, a path, bytes or an open binary file",
                name=name,
            )
        return file
    said = file.lower()
    if said.startswith(("http://", "https://")):
        return file
    if "://" in said or said.startswith("data:"):
        raise InvalidInput(
            f"the {name} {file[:60]!r} has a scheme that is not http or https; "
            f"give a local file of that name as a pathlib.Path",
            name=name,
        )
    if not file:
        raise InvalidInput(
            f"the {name} is empty; give a URL, a path, bytes or an open binary file", name=name
        )
    return Path(file)


def is_local_file(value: object) -> bool:
    """Whether an input is a local file: in a mapping, a str never is."""
    return isinstance(value, bytes | bytearray | PathLike) or hasattr(unwrapped(value)[0], "read")


def unwrapped(value: object) -> tuple[object, str]:
    """Return the plain file in what frameworks give, and what its sender called it ("": nobody told).

    Starlette's and FastAPI's ``UploadFile`` and aiohttp's ``FileField`` have it as ``file``, AnyIO's
    ``AsyncFile`` as ``wrapped``. Django's uploads are plain files themselves.
    """
    name: object = getattr(value, "filename", ...)
    if name is not ... and hasattr(value, "file"):
        file: object = getattr(value, "file")  # noqa: B009 - of no type that could be named
        return file, name if isinstance(name, str) else ""
    return getattr(value, "wrapped", value), ""


def holds(value: object, wanted: Callable[[object], bool], depth: int = 0) -> bool:
    """Whether there is something wanted in *value*, which may be nested.

    Raises:
        InvalidInput: It is nested too deep for inputs.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(f"inputs is nested deeper than {MAX_DEPTH} levels; flatten it", name="inputs")
    if isinstance(value, Mapping):
        return any(holds(item, wanted, depth + 1) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds(item, wanted, depth + 1) for item in value)
    return wanted(value)


def local_files(value: object, depth: int = 0) -> Iterator[Any]:
    """Yield the local files in *value*, which may be nested.

    Raises:
        InvalidInput: It is nested too deep for inputs.
    """
    if depth > MAX_DEPTH:
        raise InvalidInput(f"inputs is nested deeper than {MAX_DEPTH} levels; flatten it", name="inputs")
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from local_files(item, depth + 1)
    elif is_local_file(value):
        yield value


async def resolve(inputs: Mapping[str, object], upload: Uploader) -> JSON:
    """Return a deep copy of *inputs* in which every local file has become the URL of its upload.

    The copy is made before the first upload begins, so what the caller changes meanwhile has no effect.

    Raises:
        InvalidInput: A file cannot be read, or *inputs* is nested deeper than 64 levels.
        WiroError: An upload failed.
    """
    copy = {name: _copied(value, 1) for name, value in inputs.items()}
    return {name: await _uploaded(value, upload) for name, value in copy.items()}


def _copied(value: object, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"inputs is nested deeper than {MAX_DEPTH} levels; flatten it", name="inputs")
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [_copied(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {key: _copied(item, depth + 1) for key, item in value.items()}
    return value


async def _uploaded(value: object, upload: Uploader) -> object:
    if is_local_file(value):
        return await upload(value)  # type: ignore[arg-type]  # is_local_file() has told
    if isinstance(value, list):
        return [await _uploaded(item, upload) for item in value]
    if isinstance(value, dict):
        return {key: await _uploaded(item, upload) for key, item in value.items()}
    return value
