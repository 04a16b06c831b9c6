"""Files as the service and its CDN may have them, over real sockets: alone, in a batch, and in its resume."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import anyio.to_thread
import attrs
import pytest

from tests.sandboxes import IN_A_BATCH, LIMITS, WAYS, Bench, Told, Way
from wiro_async import DownloadError, InvalidInput
from wiro_async._http.retry import DOWNLOADS
from wiro_async.sandbox.faults import Drip, Reset, Unframed

FEW = attrs.evolve(LIMITS, max_download=200)
"""No file is as small as that."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Any:
    """Each way to play a job."""
    return request.param


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on with a download that broke off at once; tests/files has the real pauses, on virtual time."""
    monkeypatch.setattr("wiro_async._files.download.DOWNLOADS", attrs.evolve(DOWNLOADS, base=0.01))


def target(bench: Bench) -> Path:
    """Where the output of the first job goes: a single call names it by its task, a batch by its key."""
    return bench.clips / ("2221_0.mp4" if bench.way == "single" else "a_0.mp4")


def part_of(path: Path) -> Path:
    """The part file of the first task's output."""
    digest = hashlib.sha256(b"2221\x000\x000.mp4").hexdigest()[:8]
    return path.with_name(f"{path.name}.{digest}.part")


async def there(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder."""

    def read() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}

    return await anyio.to_thread.run_sync(read)


async def saved(bench: Bench, told: Told) -> None:
    """Check that the first job's output is where it belongs, whole, and alone."""
    assert told.error is None
    assert told.paths == (target(bench),)
    (content,) = (await there(bench.clips)).values()
    assert is_whole(content)


def is_whole(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content.endswith(b"mdat")


# -- records that are wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("says", ["zero", "none", "larger", "smaller"])
async def test_a_record_that_is_wrong_about_the_size(way: Way, says: str, tmp_path: Path) -> None:
    """The file is kept as the server has it; its copy there is deleted if nobody contradicts."""
    async with Bench(way, tmp_path, download=True, record_size=says) as bench:
        told = (await bench.play("a", delete_remote=True))["a"]
        await saved(bench, told)
        if told.row is not None:
            assert told.row.files[0].whole == (says in ("zero", "none"))
            assert bench.plan.seen.get("Task/InputOutputDelete", 0) == (says in ("zero", "none"))


async def test_a_file_that_claims_to_be_what_it_is_not(
    way: Way, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept, named by its content, and said; its copy stays, as nobody knows what it should be."""
    async with Bench(way, tmp_path, download=True, mislabel=True) as bench:
        told = (await bench.play("a", delete_remote=True))["a"]
        assert "'0.webm' of task 2221 claims to be video/webm" in caplog.text
        assert told.error is None
        assert list(await there(bench.clips)) == [target(bench).name]
        if told.row is not None:
            assert (told.row.state, told.row.files[0].path) == ("done", str(target(bench)))
        assert "Task/InputOutputDelete" not in bench.plan.seen


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("says", ["true", "none"])
async def test_a_file_whose_end_is_the_connections(way: Way, lost: int, says: str, tmp_path: Path) -> None:
    """Only a size that somebody told proves it whole: the service's copy is deleted then, and not else."""
    async with Bench(way, tmp_path, download=True, record_size=says) as bench:
        bench.plan.script("cdn", Unframed(lost))
        told = (await bench.play("a", delete_remote=True))["a"]
        assert told.error is None
        (content,) = (await there(bench.clips)).values()
        # A byte that is missing is fetched where the record tells of it.
        assert is_whole(content) == (not lost or says == "true")
        assert bench.plan.seen["cdn"] == (2 if lost and says == "true" else 1)
        if told.row is not None:
            assert told.row.state == "done"
            assert told.row.files[0].whole == (says == "true")
            assert bench.plan.seen.get("Task/InputOutputDelete", 0) == (says == "true")


# -- the server's encodings --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "aws-chunked", "utf-8", "identity"])
async def test_encodings_that_nobody_asked_for(way: Way, encoding: str, tmp_path: Path) -> None:
    """Those that change no byte are accepted, the others undone."""
    async with Bench(way, tmp_path, download=True, cdn_encoding=encoding) as bench:
        told = (await bench.play("a", delete_remote=True))["a"]
        await saved(bench, told)
        if told.row is not None:
            assert told.row.files[0].whole
            assert bench.plan.seen["Task/InputOutputDelete"] == 1


@pytest.mark.parametrize(
    "options",
    [{"record_size": "none", "cdn_length": False}, {"cdn_encoding": "gzip"}],
    ids=["chunked", "gzip"],
)
async def test_a_file_that_grows_beyond_the_cap(way: Way, options: dict[str, Any], tmp_path: Path) -> None:
    """Nothing of it stays on the disk; with a larger cap the paid file is fetched."""
    async with Bench(way, tmp_path, download=True, limits=FEW, **options) as bench:
        bench.plan.script("cdn", Drip(600.0))
        told = (await bench.play("a"))["a"]
        assert isinstance(told.error, DownloadError)
        assert "more than 200 bytes; allow more with Limits(max_download=...)" in str(told.error)
        assert await there(bench.clips) == {}
        if told.row is not None:
            assert (told.row.state, told.row.files[0].saved_at) == ("ended", None)
            bench.limits = LIMITS
            await saved(bench, (await bench.again())["a"])
        assert bench.runs == 1


# -- what is on the disk already ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hard", "symbolic"])
async def test_a_link_at_the_part_files_place(way: Way, kind: str, tmp_path: Path) -> None:
    """It is removed, and what it leads to is not written."""
    async with Bench(way, tmp_path, download=True) as bench:
        victim = await planted(kind, part_of(target(bench)))
        await saved(bench, (await bench.play("a"))["a"])
        assert await anyio.Path(victim).read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["hard", "symbolic", "file"])
async def test_what_is_somebody_elses_at_the_targets_place(
    way: Way, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A single call replaces the name, as it says; a batch saves its own beside it, and says so."""
    async with Bench(way, tmp_path, download=True) as bench:
        path = target(bench)
        victim = await planted(kind, path)
        told = (await bench.play("a"))["a"]
        assert told.error is None
        (ours,) = told.paths
        assert is_whole(await anyio.Path(ours).read_bytes())
        assert await anyio.Path(victim).read_bytes() == b"mine" or (kind, way) == ("file", "single")
        if way == "single":
            assert (ours, await anyio.Path(ours).is_symlink()) == (path, False)
        else:
            assert ours.name.startswith("a_0-")
            assert await anyio.Path(path).read_bytes() == b"mine"
            assert "is not replaced, as it is not known to be a file of this batch" in caplog.text
            assert len(await there(bench.clips)) == 2
            # What is saved is known: the next one fetches nothing.
            fetched = bench.plan.seen["cdn"]
            await bench.again()
            assert bench.plan.seen["cdn"] == fetched


@pytest.mark.parametrize("way", IN_A_BATCH)
@pytest.mark.parametrize("kind", ["file", "loop"])
async def test_one_bad_path_is_one_jobs(way: Way, kind: str, tmp_path: Path) -> None:
    """The others are saved; once it is mended, a resume fetches what was paid for."""
    async with Bench(way, tmp_path, download=True) as bench:
        await anyio.Path(bench.clips).mkdir()
        bad = anyio.Path(bench.clips / "a")
        await (bad.write_bytes(b"mine") if kind == "file" else bad.symlink_to(bad))
        where = f"{bench.clips}/{{key}}/x/{{n}}{{ext}}"
        told = await bench.play("a", "b", download=where)
        assert isinstance(told["a"].error, InvalidInput if kind == "file" else OSError)
        assert told["a"].row is not None
        assert told["a"].row.state == "ended"
        assert told["b"].error is None
        assert bench.stopped is None
        await bad.unlink()
        told = await bench.again(download=where)
        assert told["a"].error is None
        assert is_whole(await anyio.Path(told["a"].paths[0]).read_bytes())
        assert bench.runs == 2


async def planted(kind: str, path: Path) -> Path:
    """Put a file, or a link to one beside the folder, at a path; return the file."""

    def plant() -> Path:
        path.parent.mkdir()
        victim = path if kind == "file" else path.parent.with_name("victim")
        victim.write_bytes(b"mine")
        if kind == "hard":
            os.link(victim, path)
        elif kind == "symbolic":
            path.symlink_to(victim)
        return victim

    return await anyio.to_thread.run_sync(plant)


# -- downloads that break off ------------------------------------------------------------------------------


async def test_an_address_that_changes_after_a_break(way: Way, tmp_path: Path) -> None:
    """The part that came is gone on with at the new address, and is not left over."""
    async with Bench(way, tmp_path, download=True, moving_urls=True) as bench:
        bench.plan.script("cdn", Reset(at_reply_byte=350), times=1)
        bench.plan.script("cdn", Reset(), times=DOWNLOADS.attempts)
        told = (await bench.play("a"))["a"]
        assert isinstance(told.error, DownloadError)
        assert list(await there(bench.clips)) == [part_of(target(bench)).name]
        assert told.row is None or told.row.state == "ended"
        await saved(bench, (await bench.again())["a"])
        assert bench.runs == 1
