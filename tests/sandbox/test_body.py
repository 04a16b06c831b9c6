"""Bodies: received within limits, decoded in every form the service takes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from wiro_async.sandbox import _body
from wiro_async.sandbox._body import Disconnected, Fields, Upload, read_body
from wiro_async.sandbox._refusal import Refusal

MULTIPART = b"multipart/form-data; boundary=x"
Message = dict[str, Any]


def sending(*chunks: bytes) -> Callable[[], Awaitable[Message]]:
    """An ASGI channel that delivers a body in these pieces."""
    waiting = list(chunks)

    async def receive() -> Message:
        chunk = waiting.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(waiting)}

    return receive


async def read(content_type: bytes, *chunks: bytes) -> Fields:
    """What a body of this type is decoded to."""
    return await read_body({b"content-type": content_type}, sending(*chunks), timeout=5)


async def refusal(content_type: bytes, *chunks: bytes) -> Refusal:
    """What a body is refused with."""
    with pytest.raises(Refusal) as caught:
        await read(content_type, *chunks)
    return caught.value


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """A part of a multipart body."""
    file = f'; filename="{filename}"\r\nContent-Type: image/png' if filename is not None else ""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"


async def test_json_arrives_whole_or_in_pieces() -> None:
    """The type need not be stated, and an empty body has no inputs."""
    assert await read(b"application/json; charset=utf-8", b'{"taskid"', b': "2221"}') == {"taskid": "2221"}
    assert await read(b"", b'{"a": [1, null]}') == {"a": [1, None]}
    assert await read(b"application/json", b" ") == {}


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b'{"a": b,}', b"[" * 100_000, b'{"a": NaN}'])
async def test_other_than_a_json_object_is_refused(body: bytes) -> None:
    """As invalid parameters, with code 0."""
    refused = await refusal(b"application/json", body)
    assert (refused.code, refused.message) == (0, "Request parameters are invalid.")


async def test_json_below_a_multipart_header_is_taken() -> None:
    """The documents' samples send it, one of them with what the shell leaves of its quotes."""
    header = b"multipart/form-data"
    assert await read(header, b'{ "taskid": "2221" }') == {"taskid": "2221"}
    assert await read(header, b'{ "tasktoken": eDcCm5yyUfIvMFspTwww49OUfgXkQt, }') == {
        "tasktoken": "eDcCm5yyUfIvMFspTwww49OUfgXkQt"
    }
    assert await read(header, b'{"a": 1, "b": [true, x,], "c": "y, }",}') == {
        "a": 1,
        "b": [True, "x"],
        "c": "y, }",
    }
    assert (await refusal(header, b"--x\r\n")).code == 0


@examples(50)
@given(value=st.dictionaries(st.text(), st.lists(st.none() | st.booleans() | st.integers() | st.text())))
def test_valid_json_is_never_changed_by_the_lenient_reading(value: Any) -> None:
    """A repair touches only what is broken."""
    text = json.dumps(value)
    assert json.loads(_body._LOOSE_JSON.sub(_body._repair, text)) == value


async def test_a_form_is_decoded() -> None:
    """Blank values stay; repeated names become lists."""
    fields = await read(b"application/x-www-form-urlencoded", b"a=1&b=&c=x&c=y&c=z%20")
    assert fields == {"a": "1", "b": "", "c": ["x", "y", "z "]}


async def test_a_multipart_form_is_decoded() -> None:
    """Files and texts may share a name, as for inputs that take several files."""
    body = part("prompt", b"walks") + part("image", b"PNG", "a b.png") + part("image", b"http://h/b.png")
    assert await read(MULTIPART, body, b"--x--\r\n") == {
        "prompt": "walks",
        "image": [Upload("a b.png", "image/png", b"PNG"), "http://h/b.png"],
    }


async def test_a_file_without_name_or_type_is_a_file() -> None:
    """Both have a default."""
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\nD\r\n--x--\r\n'
    assert await read(MULTIPART, body) == {"f": Upload("", "application/octet-stream", b"D")}


@pytest.mark.parametrize(
    "body", [b"nonsense", b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--\r\n"]
)
async def test_a_broken_multipart_form_is_refused(body: bytes) -> None:
    """With code 0."""
    assert (await refusal(MULTIPART, body)).code == 0


@pytest.mark.parametrize(("content_type", "megabytes"), [(b"application/json", 1), (MULTIPART, 110)])
async def test_a_body_that_is_too_large_is_refused_before_it_is_whole(
    content_type: bytes, megabytes: int
) -> None:
    """With 413, whichever form it has."""
    large = bytes(megabytes * 1024 * 1024)
    assert (await refusal(content_type, b"--x\r\n", large, b"never read")).http_status == 413


@pytest.mark.parametrize("content_type", [b"application/json", MULTIPART])
async def test_a_body_that_does_not_arrive_in_time_is_refused(content_type: bytes) -> None:
    """With 408: a stalled client does not hold a connection for ever."""

    async def stalled() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(Refusal, match=r"not received within 0\.01 seconds") as caught:
        await read_body({b"content-type": content_type}, stalled, timeout=0.01)
    assert caught.value.http_status == 408


async def test_a_client_that_leaves_is_noticed() -> None:
    """Nobody waits for the rest of its body."""

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(Disconnected):
        await read_body({}, gone, timeout=5)
