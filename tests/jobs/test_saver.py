"""Outputs of a batch: whole, checked, and each under a path of its own."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

from tests.batches import CLIP, MODEL, Fate, Service
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import client, no
from tests.journals import Database
from wiro_async import Client, DownloadError, InvalidInput, ServiceError, TaskHandle, TaskNotFound, Upload
from wiro_async._jobs.saver import OutputSaver, _Paths
from wiro_async._journal.steps import JournalFile, Saved

def entry() -> Entry:
    return Entry("k", MODEL, {}, told={})


async def ended(own: Client, service: Service) -> TaskHandle:
    """Return the handle of a task that has ended."""
    handle = await own.submit(MODEL, {"prompt": "a"})
    await handle.wait()
    return handle


async def kept(own: Client, handle: TaskHandle, folder: Path, before: JournalFile | None = None) -> Path:
    assert handle.task is not None
    keeper = OutputSaver(f"{folder}/{{key}}_{{n}}{{ext}}", NULL.record)
    return await keeper.keep(handle, entry(), handle.task.outputs[0], before)


async def content_of(path: Path) -> bytes:
    return await anyio.to_thread.run_sync(path.read_bytes)


async def test_an_output_is_saved(tmp_path: Path) -> None:
    """Under its name."""
    async with client(service := Service()) as own:
        path = await kept(own, await ended(own, service), tmp_path)
    assert path == tmp_path / "k_0.mp4"
    assert await content_of(path) == CLIP


@pytest.mark.parametrize("status", [403, 404])
async def test_an_output_that_is_not_there_yet(status: int, tmp_path: Path) -> None:
    """The CDN gets half a minute, and Detail may tell of another address."""
    service = Service()
    service.missing = [status] * 4
    async with client(service) as own:
        handle = await ended(own, service)
        polls = service.counts["Task/Detail"]
        start = anyio.current_time()
        assert await content_of(await kept(own, handle, tmp_path)) == CLIP
        assert anyio.current_time() - start == pytest.approx(1 + 2 + 4 + 8)
        assert service.counts["Task/Detail"] == polls + 4


async def test_an_output_moves_to_another_address(tmp_path: Path) -> None:
    """Which is then used."""
    service = Service()
    async with client(service) as own:
        handle = await ended(own, service)
        other = service._accept({"prompt": "b"})
        service.missing = [404]
        usual = service.wire

        def moved(made: Any) -> dict[str, Any]:
            wire = usual(made)
            wire["outputs"][0]["url"] = wire["outputs"][0]["url"].replace("2221", other.id)
            return wire

        service.wire = moved  # type: ignore[method-assign, assignment]
        await kept(own, handle, tmp_path)
    assert service.fetched == {"/cdn/2221/0.mp4": 1, f"/cdn/{other.id}/0.mp4": 1}


async def test_an_output_that_stays_away_is_given_up(tmp_path: Path) -> None:
    """After half a minute; looks that fail in passing do not matter."""
    service = Service()
    service.missing = [404] * 100
    async with client(service) as own:
        handle = await ended(own, service)
        service.handlers["Task/Detail"] = no(0, "database is down")
        start = anyio.current_time()
        with pytest.raises(DownloadError):
            await kept(own, handle, tmp_path)
        assert 30 <= anyio.current_time() - start <= 35


async def test_an_output_of_a_task_that_is_gone(tmp_path: Path) -> None:
    """Its end is told at once."""
    service = Service()
    service.missing = [404] * 100
    async with client(service) as own:
        handle = await ended(own, service)
        service.made.clear()
        with pytest.raises(TaskNotFound):
            await kept(own, handle, tmp_path)
        assert sum(service.fetched.values()) == 1


async def test_other_refusals_are_not_waited_out(tmp_path: Path) -> None:
    """HTTP 410 says that it will not come back."""
    service = Service()
    service.missing = [410]
    async with client(service) as own:
        handle = await ended(own, service)
        with pytest.raises(DownloadError):
            await kept(own, handle, tmp_path)


async def test_an_error_page_is_no_clip(tmp_path: Path) -> None:
    """It is found out by its first bytes, and not kept."""
    service = Service()
    service.fates["a"] = Fate(content=b"<html>sorry</html>")
    async with client(service) as own:
        handle = await ended(own, service)
        with pytest.raises(DownloadError, match="says that it is video/mp4"):
            await kept(own, handle, tmp_path)
    assert await anyio.to_thread.run_sync(lambda: list(tmp_path.iterdir())) == []


class Shelf:
    """Saves outputs of jobs of any key, by one Keeper.

    Args:
        own: The client.
        handle: Any task that has ended.
        template: Where they go.
    """

    def __init__(self, own: Client, handle: TaskHandle, template: str) -> None:
        self._output = handle.task.outputs[0] if handle.task else None
        self._handle = handle
        self.keeper = OutputSaver(template, NULL.record)

    async def keep(
        self,
        key: str,
        n: int = 0,
        name: str = "out.mp4",
        task_id: str = "1",
        before: JournalFile | None = None,
    ) -> Path:
        assert self._output is not None
        output = attrs.evolve(self._output, name=name, index=n, task_id=task_id)
        return await self.keeper.keep(self._handle, Entry(key, MODEL, {}, told={}), output, before)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Callable[[str], Shelf]]:
    """Return what makes a shelf of a template below the test's folder."""
    async with client(service := Service()) as own:
        handle = await ended(own, service)
        yield lambda template: Shelf(own, handle, f"{tmp_path}/{template}")


COLLISIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("{key}-{name}{ext}", {"key": "k"}, {"key": "k", "n": 1}),
    ("{key}/{name}.bin", {"key": "k"}, {"key": "k", "n": 1, "name": "out.png"}),
    ("{key}{n}{ext}", {"key": "a1", "n": 1}, {"key": "a", "n": 11}),
    ("{key}_{name}{ext}", {"key": "a", "name": "b_0.mp4"}, {"key": "a_b", "name": "0.mp4"}),
    ("{key}_{n}{ext}", {"key": "Sku"}, {"key": "sKU"}),
    ("{key}_{n}{ext}", {"key": "1"}, {"key": "1", "task_id": "2"}),
]


@pytest.mark.parametrize(("template", "one", "other"), COLLISIONS)
async def test_two_outputs_never_get_one_path(
    template: str, one: dict[str, Any], other: dict[str, Any], shelf: Callable[[str], Shelf]
) -> None:
    """Which the template gives both: the later one has a digest in its name, the same each time."""
    saves = shelf(template)
    first, second = await saves.keep(**one), await saves.keep(**other)
    assert str(first).lower() != str(second).lower()
    assert re.fullmatch(rf"{re.escape(first.stem)}-[0-9a-f]{{16}}", second.stem, re.IGNORECASE)
    assert (second.parent, second.suffix) == (first.parent, first.suffix)
    assert await content_of(first) == await content_of(second) == CLIP
    assert (await saves.keep(**one), await saves.keep(**other)) == (first, second)


async def test_what_was_saved_before_keeps_its_path(shelf: Callable[[str], Shelf]) -> None:
    """Nothing that is there is renamed or written over; what is gone is saved where it was."""
    saves = shelf("{key}{n}{ext}")
    first, second = await saves.keep("a1", 1), await saves.keep("a", 11)
    digest = hashlib.sha256(CLIP).hexdigest()
    before = row(first, sha256=digest), row(second, sha256=digest)

    resumed = shelf("{key}{n}{ext}")
    assert await resumed.keep("a", 11, before=before[1]) == second
    assert await resumed.keep("a1", 1, before=before[0]) == first

    resumed = shelf("{key}{n}{ext}")
    assert await resumed.keep("a1", 1, before=before[0]) == first
    assert await resumed.keep("a", 11) == second

    await anyio.to_thread.run_sync(second.unlink)
    resumed = shelf("{key}{n}{ext}")
    assert await resumed.keep("a", 11, before=before[1]) == second
    assert await resumed.keep("a1", 1) == first

    resumed = shelf("{key}{n}{ext}")
    assert await resumed.keeper.all_there(before) == [first, second]
    assert await resumed.keep("a", 11, task_id="2") not in (first, second)


def test_the_paths_of_a_million_files_take_little_memory() -> None:
    """Sixteen bytes each, whatever their length."""
    paths, owner = _Paths(), bytes(8)
    for number in range(20_000):
        assert paths.claim(f"/clips/{'long' * 20}/{number}", owner)
    assert sum(map(len, paths._buckets)) == 20_000 * 16
    assert not paths.claim(f"/clips/{'LONG' * 20}/77", b"somebody")


def row(path: Path, size: int = len(CLIP), sha256: str = "") -> JournalFile:
    digest = sha256 or "7c" * 32
    return JournalFile(0, "0.mp4", "", "video/mp4", size, str(path), digest)


async def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    """If it is whole; where it is damaged, or gone, it is."""
    service, path = Service(), tmp_path / "before.mp4"
    await anyio.to_thread.run_sync(path.write_bytes, CLIP)
    digest = hashlib.sha256(CLIP).hexdigest()
    async with client(service) as own:
        handle = await ended(own, service)
        assert await kept(own, handle, tmp_path, row(path, sha256=digest)) == path
        assert not service.fetched
        for before in (row(path), row(path, 5, digest), row(tmp_path / "gone.mp4", sha256=digest)):
            assert await kept(own, handle, tmp_path, before) == tmp_path / "k_0.mp4"
        assert sum(service.fetched.values()) == 3
    keeper = OutputSaver("", NULL.record)
    good = row(path, sha256=digest)
    assert await keeper.all_there((good, good)) == [path, path]
    assert await keeper.all_there((good, row(path))) == []
