"""Uploads are retried: from the same bytes on, under a name of their own, and within one deadline."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.batches import anyio_backend as anyio_backend
from tests.fakes import FakeService, client, no, ok
from wiro_async import ConnectionFailed, InvalidInput, InvalidResponse, Limits, ServiceError, WiroError

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 10
DONE = ok(list=[{"id": "f", "name": "f", "url": "https://api.wiro.ai/v1/File/f"}])


class Site(FakeService):
    """Takes uploads.

    Attributes:
        refused: How many connections are refused before.
    """

    def __init__(self, *answers: Any) -> None:
        super().__init__(File_Upload=[*answers, DONE])
        self.refused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.refused:
            self.refused -= 1
            raise httpx.ConnectError("refused")
        return await super().handle_async_request(request)

    @property
    def names(self) -> list[str]:
        """The names of the files that were sent."""
        found = [re.search(rb'filename="([^"]+)"', call["body"]) for _, call in self.calls]
        return [match.group(1).decode() for match in found if match]

    @property
    def contents(self) -> list[bytes]:
        """What was sent, without head and tail."""
        return [call["body"].split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0] for _, call in self.calls]


PASSING: dict[str, Any] = {
    "cut": httpx.ReadError("connection reset"),
    "silent": httpx.ReadTimeout("no answer"),
    "502": httpx.Response(502, text="<html>bad gateway</html>"),
    "503": httpx.Response(503, headers={"Retry-After": "1"}),
    "429": httpx.Response(429, headers={"Retry-After": "1"}),
    "page": httpx.Response(200, text="<html>one moment</html>"),
    "code 0": no(0, "database is down"),
}


@pytest.mark.parametrize("fault", PASSING)
async def test_an_upload_is_retried_on_what_may_pass(fault: str) -> None:
    """The same bytes are sent, under another name: the service may have taken the first one."""
    site = Site(*[PASSING[fault]] * 4)
    start = anyio.current_time()
    upload = await client(site).upload(JPEG)
    assert upload.url == "https://api.wiro.ai/v1/File/f"
    assert site.contents == [JPEG] * 5
    assert len(set(site.names)) == 5
    waited = anyio.current_time() - start
    assert (4 if fault in ("503", "429") else 0) <= waited <= 30


async def test_a_service_that_is_not_reached_is_tried_again() -> None:
    """Before the first byte as well as after it."""
    site = Site()
    site.refused = 2
    await client(site).upload(JPEG)
    assert site.contents == [JPEG]


async def test_an_upload_is_given_up_in_the_end(tmp_path: Path) -> None:
    """After five attempts; what was opened for it is closed."""
    path = tmp_path / "a.jpg"
    await anyio.to_thread.run_sync(path.write_bytes, JPEG)
    site = Site(*[PASSING["502"]] * 10)
    with pytest.raises(ServiceError) as caught:
        await client(site).upload(path)
    assert caught.value.http_status == 502
    assert len(site.calls) == 5


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(no(1, "filesystem-already-exist"), WiroError), (ok(list=[{"name": "x"}]), InvalidResponse)],
)
async def test_what_will_not_pass_is_not_retried(answer: Any, kind: type[WiroError]) -> None:
    """A refusal in the service's own words, and a yes that names no file."""
    site = Site(answer)
    with pytest.raises(kind):
        await client(site).upload(JPEG)
    assert len(site.calls) == 1


async def test_an_open_file_is_sent_from_where_it_was_each_time() -> None:
    """Its position when it was given counts, not that after the first attempt; it is not closed."""
    file = io.BytesIO(b"12345" + JPEG)
    file.seek(5)
    site = Site(PASSING["cut"], PASSING["502"])
    await client(site).upload(file)
    assert site.contents == [JPEG] * 3
    assert not file.closed


@pytest.mark.parametrize("size", [10, len(JPEG) + 1])
async def test_a_file_that_changes_its_size_meanwhile_is_refused(size: int, tmp_path: Path) -> None:
    """Nobody knows which of its states was meant."""
    path = tmp_path / "a.jpg"
    await anyio.to_thread.run_sync(path.write_bytes, JPEG)

    def change(_: dict[str, Any]) -> httpx.Response:
        os.truncate(path, size)
        return httpx.Response(502)

    site = Site(change)
    with pytest.raises(InvalidInput, match=r"'a\.jpg' changed its size"):
        await client(site).upload(path)
    assert len(site.calls) == 1


async def test_a_file_that_is_closed_meanwhile_is_refused() -> None:
    """It cannot be read again."""
    file = io.BytesIO(JPEG)

    def close(_: dict[str, Any]) -> httpx.Response:
        file.close()
        return httpx.Response(502)

    with pytest.raises(InvalidInput, match="cannot be read or sought"):
        await client(Site(close)).upload(file)


@pytest.mark.parametrize(("latency", "lasts", "attempts"), [(8.0, 10.0, 2), (20.0, 10.0, 1), (3.4, 10.0, 3)])
async def test_all_attempts_share_one_deadline(latency: float, lasts: float, attempts: int) -> None:
    """``Limits.upload_timeout`` is for the upload as a whole."""
    site = Site(*[PASSING["cut"]] * 10)
    site.latency = latency
    start = anyio.current_time()
    with pytest.raises(ConnectionFailed):
        await client(site, limits=Limits(upload_timeout=10)).upload(JPEG)
    assert anyio.current_time() - start <= lasts + 0.01
    assert len(site.calls) == attempts


async def test_a_pause_that_would_outlast_the_deadline_is_not_made() -> None:
    """The error is raised at once."""
    site = Site(httpx.Response(503, headers={"Retry-After": "60"}))
    start = anyio.current_time()
    with pytest.raises(ServiceError):
        await client(site, limits=Limits(upload_timeout=10)).upload(JPEG)
    assert anyio.current_time() == start


async def test_the_wait_for_a_slot_does_not_count() -> None:
    """It has a limit of its own, so a thousand uploads at once do not fail for being a thousand."""
    site = Site()
    site.latency = 8.0
    own = client(site, limits=Limits(upload_timeout=10, max_in_flight=1))
    uploads: list[Callable[[], Any]] = [lambda: own.upload(JPEG)] * 3
    async with anyio.create_task_group() as group:
        for upload in uploads:
            group.start_soon(upload)
    assert len(site.calls) == 3
