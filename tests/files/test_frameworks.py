"""Files as frameworks give them: an upload goes to the service as it is, alone and as a job's input."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import anyio
import django.conf
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from django.core.files.uploadedfile import InMemoryUploadedFile, TemporaryUploadedFile
from django.test import RequestFactory
from fastapi import FastAPI, UploadFile

from tests.conftest import KEY, SECRET
from wiro_async import Client, Director, InvalidInput, Job, Polling
from wiro_async.sandbox import Sandbox

POLLING = Polling(min_interval=0.03, max_interval=0.1, requests_per_second=500.0)
JPEG = b"\xff\xd8\xff" + bytes(500)
LARGE = b"\xff\xd8\xff" + bytes(3 * 1024 * 1024)
"""More than the frameworks keep in memory."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """The service, over real sockets."""
    with Sandbox(api_key=KEY, api_secret=SECRET, speed=1000, render=False) as sandbox:
        yield sandbox


@pytest.fixture
async def own(sandbox: Sandbox) -> AsyncIterator[Client]:
    """A client of it."""
    async with Client(KEY, SECRET, base_url=sandbox.base_url, watch="poll", polling=POLLING) as client:
        yield client


async def content(url: str) -> bytes:
    """Return what the service has at an address."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(url)).content


async def sent(own: Client, file: Any, data: bytes, name: str) -> None:
    """Upload a file, have it as an input of a call and of a batch, and compare what arrived."""
    upload = await own.upload(file)
    assert name in upload.name
    assert await content(upload.url) == data
    result = await own.run(Director(file, "waves"))
    assert await content(result.task.parameters["inputImageFirstUrl"]) == data
    async with own.batch([Job(Director(file, "waves"))]) as batch:
        async for outcome in batch:
            assert outcome.result is not None, outcome.error
            assert await content(outcome.result.task.parameters["inputImageFirstUrl"]) == data


@pytest.mark.parametrize("data", [JPEG, LARGE])
@pytest.mark.parametrize("is_read", [False, True])
async def test_fastapi_and_starlette(own: Client, data: bytes, is_read: bool) -> None:
    """Also one that the endpoint has read before, to look at it."""
    app = FastAPI()

    @app.post("/clip")
    async def clip(image: UploadFile) -> str:
        if is_read:
            assert await image.read() == data
        await sent(own, image, data, "photo")
        return "sent"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as http:
        answer = await http.post("/clip", files={"image": ("photo.jpg", data, "image/jpeg")}, timeout=60)
    assert answer.json() == "sent"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiohttp(own: Client, anyio_backend: str) -> None:
    """Over a real socket; it is asyncio's."""

    async def clip(request: web.Request) -> web.Response:
        await sent(own, (await request.post())["image"], JPEG, "photo")
        return web.Response(text="sent")

    app = web.Application()
    app.router.add_post("/clip", clip)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        form = aiohttp.FormData()
        form.add_field("image", JPEG, filename="photo.jpg", content_type="image/jpeg")
        async with http.post(server.make_url("/clip"), data=form) as answer:
            assert await answer.text() == "sent"


@pytest.mark.parametrize(("data", "kind"), [(JPEG, InMemoryUploadedFile), (LARGE, TemporaryUploadedFile)])
async def test_django(own: Client, data: bytes, kind: Any) -> None:
    """From its own parser, in memory and on the disk."""
    if not django.conf.settings.configured:
        django.conf.settings.configure(DEFAULT_CHARSET="utf-8")

    def received() -> Any:
        form = {"image": io.BytesIO(data)}
        form["image"].name = "photo.jpg"
        return RequestFactory().post("/clip", form).FILES["image"]

    file = await anyio.to_thread.run_sync(received)
    assert isinstance(file, kind)
    await sent(own, file, data, "photo")
    await anyio.to_thread.run_sync(file.close)


@pytest.mark.parametrize("data", [JPEG, LARGE])
async def test_spooled_and_just_written_files(own: Client, data: bytes) -> None:
    """In memory and on the disk; none was rewound."""

    def written() -> list[Any]:
        files: list[Any] = [
            tempfile.SpooledTemporaryFile(max_size=1024 * 1024),  # noqa: SIM115
            tempfile.NamedTemporaryFile(suffix=".jpg"),  # noqa: SIM115
            tempfile.TemporaryFile(),  # noqa: SIM115
            io.BytesIO(),
        ]
        for file in files:
            file.write(data)
        return files

    for file in await anyio.to_thread.run_sync(written):
        await sent(own, file, data, "")
        await anyio.to_thread.run_sync(file.close)


async def test_anyio(own: Client, tmp_path: Any) -> None:
    """The plain file in it is taken."""
    path = anyio.Path(tmp_path, "photo.jpg")
    await path.write_bytes(JPEG)
    async with await path.open("rb") as file:
        await sent(own, file, JPEG, "photo")


async def test_what_can_only_be_read_with_await_is_refused(own: Client) -> None:
    """With what to give instead."""

    class Stream:
        async def read(self, _size: int = -1) -> bytes:
            return JPEG

    stream: Any = Stream()
    with pytest.raises(InvalidInput, match=r"the type Stream, which is read with await; give its content"):
        await own.upload(stream)
