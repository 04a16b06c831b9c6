"""What every job is protected from, whichever way it is made: alone by submit() or run(), or in a batch.

A new protection gets a test here, and with it both event loops and every way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.batches import CLIP, MODEL, RARELY, Fate, Made, Service, batch_of
from tests.batches import anyio_backend as anyio_backend
from tests.fakes import client, no
from wiro_async import DownloadError, InvalidInput, Job

Make = Callable[[Service, dict[str, Any], Path], Awaitable[list[Path]]]
"""Makes one job of these inputs, saves its output in a folder, and returns the paths, or raises."""


async def by_submit(service: Service, inputs: dict[str, Any], folder: Path) -> list[Path]:
    """Submit, wait, and save the one output to a path."""
    async with client(service, polling=RARELY) as own:
        task = await own.submit(MODEL, inputs)
        result = await task.result()
        return [await output.save(folder / f"{output.index}.mp4") for output in result.outputs]


async def by_run(service: Service, inputs: dict[str, Any], folder: Path) -> list[Path]:
    """Run, and save the whole result."""
    async with client(service, polling=RARELY) as own:
        result = await own.run(MODEL, inputs)
        return await result.save(folder)


async def by_batch(service: Service, inputs: dict[str, Any], folder: Path) -> list[Path]:
    """Let a batch do all of it."""
    async with batch_of(service, [Job(inputs=inputs, key="k")], download=folder) as batch:
        (outcome,) = [outcome async for outcome in batch]
    if outcome.error is not None:
        raise outcome.error
    return list(outcome.paths)


@pytest.fixture(params=[by_submit, by_run, by_batch], ids=["submit", "run", "batch"])
def make(request: pytest.FixtureRequest) -> Make:
    """Return each of the ways to make a job."""
    way: Make = request.param
    return way


class Lagging(Service):
    """A service whose CDN lags behind.

    Attributes:
        asked: When an output was asked for.
        looked: How often the task had been looked up before.
    """

    def __init__(self, *missing: int) -> None:
        super().__init__()
        self.missing = list(missing)
        self.asked: list[float] = []
        self.looked: list[int] = []

    def _download(self, path: str) -> httpx.Response:
        self.asked.append(anyio.current_time())
        self.looked.append(self.counts["Task/Detail"])
        return super()._download(path)

    @property
    def pauses(self) -> list[float]:
        """Seconds between two requests for an output."""
        return [later - earlier for earlier, later in zip(self.asked, self.asked[1:], strict=False)]


async def content_of(path: Path) -> bytes:
    return await anyio.to_thread.run_sync(path.read_bytes)


# -- a CDN that lags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [(404,), (403, 403), (404, 403, 404, 403, 404)])
async def test_a_cdn_that_lags_is_waited_for(make: Make, statuses: tuple[int, ...], tmp_path: Path) -> None:
    """The file is asked for again in pauses that grow, and the task is looked up before each time."""
    service = Lagging(*statuses)
    (path,) = await make(service, {"prompt": "a"}, tmp_path)
    assert await content_of(path) == CLIP
    assert service.pauses == pytest.approx([1, 2, 4, 8, 15][: len(statuses)])
    assert [count - service.looked[0] for count in service.looked] == list(range(len(statuses) + 1))
    assert service.runs == {"a": 1}


async def test_an_output_that_moves_is_fetched_from_its_new_address(make: Make, tmp_path: Path) -> None:
    """As the task tells it by then."""
    service = Lagging(404)
    service.made["77"] = Made("77", {"prompt": "b"}, Fate(), 0.0, 0.0)
    usual = service.wire

    def moved(made: Made) -> dict[str, Any]:
        wire = usual(made)
        for output in wire.get("outputs", ()) if service.asked else ():
            output["url"] = output["url"].replace(made.id, "77")
        return wire

    service.wire = moved  # type: ignore[method-assign, assignment]
    (path,) = await make(service, {"prompt": "a"}, tmp_path)
    assert await content_of(path) == CLIP
    assert service.fetched == {"/cdn/2221/0.mp4": 1, "/cdn/77/0.mp4": 1}


@pytest.mark.parametrize("problem", [no(0, "database is down"), no(1, "There is no task yet.")])
async def test_a_file_that_stays_away_is_given_up(make: Make, problem: Any, tmp_path: Path) -> None:
    """After half a minute, whatever becomes of the looks meanwhile; the error says what may be the reason."""
    service = Lagging(*[404] * 100)
    usual = service.handlers["Task/Detail"]
    service.handlers["Task/Detail"] = lambda payload: problem if service.asked else usual(payload)
    with pytest.raises(DownloadError, match="outputs are kept for a limited time") as caught:
        await make(service, {"prompt": "a"}, tmp_path)
    assert caught.value.http_status == 404
    assert len(service.asked) == 6
    assert service.asked[-1] - service.asked[0] == pytest.approx(30, abs=5)
    assert await anyio.to_thread.run_sync(lambda: list(tmp_path.iterdir())) == []


async def test_a_file_that_is_gone_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    """HTTP 410 says that it will not come back."""
    service = Lagging(410)
    with pytest.raises(DownloadError, match="limited time"):
        await make(service, {"prompt": "a"}, tmp_path)
    assert len(service.asked) == 1


# -- an upload that breaks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [httpx.ReadError("connection reset"), httpx.ConnectError("refused"), httpx.Response(502), no(0, "busy")],
    ids=["reset", "refused", "502", "code 0"],
)
async def test_an_upload_that_breaks_is_made_again(make: Make, fault: Any, tmp_path: Path) -> None:
    """Twice, and the job is made once, with the address of the upload that came through."""
    service = Service()
    service.handlers["File/Upload"] = [fault, fault, service.handlers["File/Upload"]]
    (path,) = await make(service, {"prompt": "a", "image": b"\xff\xd8\xffjpeg"}, tmp_path)
    assert await content_of(path) == CLIP
    assert service.counts["File/Upload"] == 3
    (made,) = service.made.values()
    assert made.inputs["image"] == "https://api.wiro.ai/v1/File/1"


async def test_a_file_that_cannot_be_uploaded_costs_nothing(make: Make, tmp_path: Path) -> None:
    """No upload and no Run is made for what cannot be read."""
    service = Service()
    with pytest.raises(InvalidInput, match="No such file"):
        await make(service, {"prompt": "a", "image": tmp_path / "missing.jpg"}, tmp_path)
    assert not service.counts["File/Upload"]
    assert not service.made
