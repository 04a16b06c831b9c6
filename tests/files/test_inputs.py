"""What a model gets: typed inputs, and local files turned into the URLs of their uploads."""

from __future__ import annotations

import io
from collections import OrderedDict, UserDict
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, BinaryIO

import anyio
import attrs
import pytest

from wiro_async import ConnectionFailed, Director, FileSource, HailuoSubject, InvalidInput, TypedInputs
from wiro_async._files.inputs import by_name, resolve
from wiro_async._protocol.envelope import encode

TYPED: list[type[Director | HailuoSubject]] = [Director, HailuoSubject]


class Uploads:
    """Takes uploads, and gives each a URL by its place in the order."""

    def __init__(self) -> None:
        self.taken: list[FileSource] = []

    async def __call__(self, file: FileSource) -> str:
        self.taken.append(file)
        await anyio.lowlevel.checkpoint()
        return f"https://files/{len(self.taken)}"


# -- typed inputs ----------------------------------------------------------------------------------------


def test_the_documents_models_have_typed_inputs() -> None:
    """The slugs are the documents' own."""
    assert Director.model == "MiniMax/image-to-video-01-director"
    assert HailuoSubject.model == "MiniMax/image-to-video-hailuo-01-subject"


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize(
    "url",
    ["https://x.example/a.jpg", "http://x.example/a.jpg", "HTTPS://X.EXAMPLE/A.JPG", "Http://x/y?z=1#f"],
)
def test_a_url_is_sent_as_it_is(kind: type[Director | HailuoSubject], url: str) -> None:
    """In any case of letters."""
    assert kind(image=url, prompt="p").to_inputs() == {"inputImageFirstUrl": url, "prompt": "p"}


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "./a b.png",
        "/abs/a.png",
        "~/a.png",
        "httpx.png",
        "http:/a.png",
        "c:\\a.png",
        "data/a.png",
    ],
)
def test_any_other_string_is_a_path(kind: type[Director | HailuoSubject], name: str) -> None:
    """A file's name needs no wrapping in the typed inputs."""
    assert kind(image=name, prompt="p").to_inputs()["inputImageFirstUrl"] == Path(name)


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize(
    "image", [Path("a.png"), PurePosixPath("a.png"), b"\x89PNG", bytearray(b"x"), io.BytesIO(b"x")]
)
def test_a_path_bytes_and_an_open_file_are_local_files(
    kind: type[Director | HailuoSubject], image: Any
) -> None:
    """They go on as they are, for the upload."""
    given = kind(image=image, prompt="p").to_inputs()["inputImageFirstUrl"]
    assert given is image


@pytest.mark.parametrize(
    "image",
    [
        "ftp://x/a.jpg", "s3://bucket/a.jpg", "file:///etc/passwd", "gs://b/a", "data:image/png;base64,AAAA",
        "DATA:image/png;base64,AAAA", "ws://x/y", "chrome-extension://x/y", " https://x/a.jpg", "FTP://x/a",
        "javascript://x", "://x",
    ],
)  # fmt: skip
def test_another_scheme_is_refused(image: str) -> None:
    """It would neither be a URL for the service nor, by any likelihood, a file."""
    with pytest.raises(InvalidInput, match="a scheme that is not http or https; give a local file") as caught:
        Director(image=image, prompt="p").to_inputs()
    assert caught.value.name == "image"
    assert image[:60] in str(caught.value)


def test_an_empty_image_is_refused() -> None:
    """It would mean the present folder."""
    with pytest.raises(InvalidInput, match="the image is empty; give a URL, a path, bytes"):
        Director(image="", prompt="p").to_inputs()


def test_long_data_is_not_quoted_whole() -> None:
    """Neither in a refusal nor in a repr."""
    with pytest.raises(InvalidInput) as caught:
        Director(image="data:image/png;base64," + "A" * 1_000_000, prompt="p").to_inputs()
    assert len(str(caught.value)) < 250
    for content in (b"x" * 1_000_000, bytearray(b"x" * 1_000_000)):
        image: Any = content
        assert "<1000000 bytes>" in repr(Director(image=image, prompt="p"))
    assert repr(Director(image="a.png", prompt="p")) == "Director(image='a.png', prompt='p')"


@pytest.mark.parametrize("kind", TYPED)
def test_typed_inputs_are_frozen_and_typed(kind: type[Director | HailuoSubject]) -> None:
    """They fit the protocol, compare by value and cannot be changed after they were handed over."""
    inputs = kind(image="a.png", prompt="p")
    assert isinstance(inputs, TypedInputs)
    assert inputs == kind(image="a.png", prompt="p")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        inputs.prompt = "q"  # type: ignore[misc]


class Mine:
    model = "me/my-model"

    def to_inputs(self) -> Mapping[str, object]:
        return {"seed": 7, "image": Path("a.png")}


class Computed:
    def __init__(self, version: int) -> None:
        self.version = version

    @property
    def model(self) -> str:
        return f"me/my-model-{self.version}"

    def to_inputs(self) -> Mapping[str, object]:
        return {}


@attrs.frozen
class Frozen:
    model: str = "me/frozen"

    def to_inputs(self) -> Mapping[str, object]:
        return attrs.asdict(self)


@pytest.mark.parametrize("inputs", [Mine(), Computed(3), Frozen()])
async def test_a_users_own_class_will_do(inputs: TypedInputs) -> None:
    """Anything with a model and ``to_inputs`` is typed inputs, without a base class of ours."""
    assert isinstance(inputs, TypedInputs)
    assert "/" in inputs.model
    assert isinstance(await resolve(inputs.to_inputs(), Uploads()), dict)


@pytest.mark.parametrize("value", [{}, {"model": "a/b"}, "a/b", None, object(), Path("x")])
def test_other_things_are_no_typed_inputs(value: object) -> None:
    """A mapping with a key called model is still a mapping."""
    assert not isinstance(value, TypedInputs)


# -- local files -----------------------------------------------------------------------------------------


class OwnPath:
    def __fspath__(self) -> str:
        return "a.png"


class OwnFile:
    def read(self, size: int = -1) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("value", "local"),
    [
        (Path("a"), True), (PurePosixPath("a"), True), (OwnPath(), True), (b"", True), (bytearray(), True),
        (io.BytesIO(), True), (OwnFile(), True), (io.StringIO(), True), ("a.png", False),
        ("https://x/a", False),
        (1, False), (None, False), (memoryview(b""), False), ({"read": 1}, False),
        ({1}, False),
    ],
)  # fmt: skip
async def test_what_is_a_local_file(value: object, local: bool) -> None:
    """Paths, bytes and what can be read; in a mapping, a string never is."""
    uploads = Uploads()
    await resolve({"x": value}, uploads)
    assert len(uploads.taken) == local


async def test_every_local_file_becomes_the_url_of_its_upload() -> None:
    """At any depth, in the order of the inputs, and strings are left alone."""
    opened: BinaryIO = io.BytesIO(b"c")
    uploads = Uploads()
    resolved = await resolve(
        {
            "first": Path("a.png"),
            "path": "a.png",
            "many": [b"b", "https://x/y", (opened, 7)],
            "deep": {"er": {"file": OwnPath(), "none": None}},
            "array": bytearray(b"d"),
        },
        uploads,
    )
    assert resolved == {
        "first": "https://files/1",
        "path": "a.png",
        "many": ["https://files/2", "https://x/y", ["https://files/3", 7]],
        "deep": {"er": {"file": "https://files/4", "none": None}},
        "array": "https://files/5",
    }
    assert uploads.taken[0] == Path("a.png")
    assert uploads.taken[2] is opened
    assert isinstance(uploads.taken[3], PathLike)
    assert (uploads.taken[4], type(uploads.taken[4])) == (b"d", bytes)
    assert b'"many":["https://files/2"' in encode(resolved)


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType, UserDict])
async def test_any_mapping_becomes_a_plain_dict(
    kind: Callable[[dict[str, object]], Mapping[str, object]],
) -> None:
    """Outside and inside."""
    resolved = await resolve(kind({"a": kind({"b": 1})}), Uploads())
    assert resolved == {"a": {"b": 1}}
    assert type(resolved) is type(resolved["a"]) is dict


@pytest.mark.parametrize("inputs", [None, [], "prompt", 7, [("a", 1)], {"a"}, iter([]), Director])
def test_inputs_that_are_no_mapping_are_refused(inputs: Any) -> None:
    """With the type that was given, and what to give."""
    with pytest.raises(InvalidInput, match=f"inputs is a {type(inputs).__name__}; give a mapping"):
        by_name(inputs)


async def test_the_copy_is_deep() -> None:
    """Changing the result does not change what the caller has, nor the other way round."""
    inner: list[Any] = [1, {"x": [2]}]
    inputs = {"a": inner}
    resolved = await resolve(inputs, Uploads())
    inner[1]["x"].append(3)
    inner.append(4)
    inputs["b"] = []
    assert resolved == {"a": [1, {"x": [2]}]}
    resolved["a"].clear()
    assert inner == [1, {"x": [2, 3]}, 4]


async def test_the_copy_is_made_before_the_first_upload() -> None:
    """What the caller changes while a file is under way has no effect, at any depth, and breaks nothing."""
    inputs: dict[str, Any] = {"file": b"1", "deep": {"file": b"2", "list": [b"3", 4]}, "last": 5}
    taken: list[FileSource] = []

    async def upload(file: FileSource) -> str:
        await anyio.lowlevel.checkpoint()
        taken.append(file)
        inputs["last"] = 6
        inputs[f"new {len(taken)}"] = b"new"
        inputs["deep"]["file"] = b"changed"
        inputs["deep"][f"new {len(taken)}"] = b"new"
        inputs["deep"]["list"].insert(0, b"new")
        return "u"

    assert await resolve(inputs, upload) == {"file": "u", "deep": {"file": "u", "list": ["u", 4]}, "last": 5}
    assert taken == [b"1", b"2", b"3"]


async def test_a_failed_upload_is_the_callers_to_know() -> None:
    """Its error comes out as it is, and nothing after it is uploaded."""

    async def upload(file: FileSource) -> str:
        raise ConnectionFailed("cut off", sent=True)

    with pytest.raises(ConnectionFailed, match="cut off"):
        await resolve({"a": [b"1", b"2"]}, upload)


async def test_inputs_that_never_end_are_refused() -> None:
    """64 levels pass, more do not, and a list that holds itself is no exception to that."""
    endless: list[Any] = []
    endless.append(endless)
    uploads = Uploads()
    for bad in (endless, nested(64)):
        with pytest.raises(InvalidInput, match="deeper than 64 levels; flatten it"):
            await resolve({"file": b"1", "a": bad}, uploads)
    assert uploads.taken == [], "nothing is uploaded for a request that cannot be sent"
    resolved = await resolve({"a": nested(63)}, uploads)
    assert resolved == {"a": nested(63)}
    encode(resolved)


def nested(depth: int) -> Any:
    """Return 0 in *depth* containers."""
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


async def test_what_has_no_json_form_is_left_for_the_encoder() -> None:
    """Which tells the place."""
    resolved = await resolve({"a": {1, 2}}, Uploads())
    with pytest.raises(InvalidInput, match=r"inputs\.a is a set"):
        encode(resolved)
