"""Outputs of a batch's jobs: whole, checked, and where they should be."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.batches import CLIP, MODEL, Fate, Service
from tests.batches import anyio_backend as anyio_backend
from tests.fakes import FakeService, client
from wiro_async import Client, ConfigurationError, DownloadError, Job, JournalFile, Output, TaskHandle
from wiro_async._files.download import has_magic
from wiro_async._jobs.saver import OutputSaver, _Paths, check_template, file_name
from wiro_async._journal.steps import Saved

# -- saving ----------------------------------------------------------------------------------------------


async def ended(own: Client, service: Service) -> TaskHandle:
    """Return the handle of a task that has ended."""
    handle = await own.submit(MODEL, {"prompt": "a"})
    await handle.wait()
    return handle


def saver_of(own: Client, template: str, *, overwrite: bool = False) -> OutputSaver:
    return OutputSaver(template, own._service.downloader.store, overwrite=overwrite)


async def saved(own: Client, handle: TaskHandle, folder: Path, before: JournalFile | None = None) -> Path:
    assert handle.task is not None
    saver = saver_of(own, f"{folder}/{{key}}_{{n}}{{ext}}")
    path, step = await saver.save("k", MODEL, handle.task.outputs[0], before)
    if step is None:
        assert before is not None
        assert str(path) == before.path
    else:
        content = await content_of(path)
        digest = hashlib.sha256(content).hexdigest()
        assert step == Saved("k", 0, str(path), len(content), digest, whole=True)
    return path


async def content_of(path: Path) -> bytes:
    return await anyio.to_thread.run_sync(path.read_bytes)


async def test_an_output_is_saved(tmp_path: Path) -> None:
    """Under its name."""
    async with client(service := Service()) as own:
        path = await saved(own, await ended(own, service), tmp_path)
    assert path == tmp_path / "k_0.mp4"
    assert await content_of(path) == CLIP


async def test_an_error_page_is_no_clip(tmp_path: Path) -> None:
    """It is found out by its first bytes, and not kept."""
    service = Service()
    service.fates["a"] = Fate(content=b"<html>sorry</html>")
    async with client(service) as own:
        handle = await ended(own, service)
        with pytest.raises(DownloadError, match="claims to be video/mp4"):
            await saved(own, handle, tmp_path)
    assert await anyio.to_thread.run_sync(lambda: list(tmp_path.iterdir())) == []


class Shelf:
    """Saves outputs of jobs of any key, by one saver.

    Args:
        own: The client.
        handle: Any task that has ended.
        template: Where they go.
    """

    def __init__(self, own: Client, handle: TaskHandle, template: str) -> None:
        self._output = handle.task.outputs[0] if handle.task else None
        self.saver = saver_of(own, template)

    async def save(
        self,
        key: str,
        n: int = 0,
        name: str = "out.mp4",
        task_id: str = "1",
        before: JournalFile | None = None,
    ) -> Path:
        assert self._output is not None
        output = attrs.evolve(self._output, name=name, index=n, task_id=task_id)
        path, _ = await self.saver.save(key, MODEL, output, before)
        return path


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
    first, second = await saves.save(**one), await saves.save(**other)
    assert str(first).lower() != str(second).lower()
    assert re.fullmatch(rf"{re.escape(first.stem)}-[0-9a-f]{{16}}", second.stem, re.IGNORECASE)
    assert (second.parent, second.suffix) == (first.parent, first.suffix)
    assert await content_of(first) == await content_of(second) == CLIP
    assert (await saves.save(**one), await saves.save(**other)) == (first, second)


async def test_what_was_saved_before_keeps_its_path(shelf: Callable[[str], Shelf]) -> None:
    """Nothing that is there is renamed or written over; what is gone is saved where it was."""
    saves = shelf("{key}{n}{ext}")
    first, second = await saves.save("a1", 1), await saves.save("a", 11)
    digest = hashlib.sha256(CLIP).hexdigest()
    before = row(first, sha256=digest), row(second, sha256=digest)

    resumed = shelf("{key}{n}{ext}")
    assert await resumed.save("a", 11, before=before[1]) == second
    assert await resumed.save("a1", 1, before=before[0]) == first

    resumed = shelf("{key}{n}{ext}")
    assert await resumed.save("a1", 1, before=before[0]) == first
    assert await resumed.save("a", 11) == second

    await anyio.to_thread.run_sync(second.unlink)
    resumed = shelf("{key}{n}{ext}")
    assert await resumed.save("a", 11, before=before[1]) == second
    assert await resumed.save("a1", 1) == first

    resumed = shelf("{key}{n}{ext}")
    assert await resumed.saver.all_there(before) == [first, second]
    assert await resumed.save("a", 11, task_id="2") not in (first, second)


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
        assert await saved(own, handle, tmp_path, row(path, sha256=digest)) == path
        assert not service.fetched
        for before in (row(path), row(path, 5, digest), row(tmp_path / "gone.mp4", sha256=digest)):
            assert await saved(own, handle, tmp_path, before) == tmp_path / "k_0.mp4"
        assert sum(service.fetched.values()) == 3
        saver = saver_of(own, "")
    good = row(path, sha256=digest)
    assert await saver.all_there((good, good)) == [path, path]
    assert await saver.all_there((good, row(path))) == []


# -- files of others, and files that are not what they claim ----------------------------------------------


JPEG = b"\xff\xd8\xff\xe0" + bytes(100)


@pytest.mark.parametrize("content", [JPEG, b"something else"])
async def test_a_file_of_another_kind_is_kept_as_what_it_is(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is paid for. Its name tells its kind, if that is known; that it is whole is not certain."""
    service = Service()
    service.fates["a"] = Fate(content=content)
    async with client(service) as own:
        handle = await ended(own, service)
        assert handle.task is not None
        saver = saver_of(own, f"{tmp_path}/{{key}}_{{n}}{{ext}}")
        with caplog.at_level(logging.WARNING, "wiro_async"):
            path, step = await saver.save("k", MODEL, handle.task.outputs[0], None)
    assert path == tmp_path / ("k_0.jpg" if content is JPEG else "k_0.mp4")
    assert step is not None
    assert (step.path, step.whole) == (str(path), False)
    assert "claims to be video/mp4, but begins with" in caplog.text


async def test_a_file_of_somebody_elses_is_not_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The output is saved beside it, which is said; and stays there."""
    path = tmp_path / "k_0.mp4"
    path.write_bytes(b"somebody else's")
    async with client(service := Service()) as own:
        handle = await ended(own, service)
        assert handle.task is not None
        output = handle.task.outputs[0]
        template = f"{tmp_path}/{{key}}_{{n}}{{ext}}"
        with caplog.at_level(logging.WARNING, "wiro_async"):
            beside, step = await saver_of(own, template).save("k", MODEL, output, None)
        assert step is not None
        assert re.fullmatch(r"k_0-[0-9a-f]{16}\.mp4", beside.name)
        assert f"{path} is not replaced" in caplog.text
        assert await content_of(beside) == CLIP
        assert await content_of(path) == b"somebody else's"
        # Another time: it is at the place where it was recorded.
        before = row(beside, step.size, step.sha256)
        assert await saver_of(own, template).save("k", MODEL, output, before) == (beside, None)
        await anyio.to_thread.run_sync(beside.unlink)
        assert (await saver_of(own, template).save("k", MODEL, output, before))[0] == beside
        # Unless it may be replaced.
        assert (await saver_of(own, template, overwrite=True).save("k", MODEL, output, None))[0] == path
        assert await content_of(path) == CLIP


@pytest.mark.parametrize("links", [True, False])
async def test_a_file_that_is_the_output_already_is_ours(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that saved it was killed before that was recorded. Some file systems have no hard links."""

    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    async with client(service := Service()) as own:
        handle = await ended(own, service)
        for _ in range(2):
            assert await saved(own, handle, tmp_path) == tmp_path / "k_0.mp4"
        (tmp_path / "k_0.mp4").write_bytes(bytes(len(CLIP)))
        assert (await saved(own, handle, tmp_path)).name.startswith("k_0-")
    assert len(await anyio.to_thread.run_sync(lambda: list(tmp_path.iterdir()))) == 2


async def test_other_errors_of_linking_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a disk without room for a name."""

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_room)
    async with client(service := Service()) as own:
        handle = await ended(own, service)
        with pytest.raises(OSError, match="No space left"):
            await saved(own, handle, tmp_path)


async def test_a_folder_or_a_link_at_an_outputs_path_is_somebody_elses(tmp_path: Path) -> None:
    """Neither is replaced, and nothing is written through the link."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    async with client(service := Service()) as own:
        handle = await ended(own, service)
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            if number:
                (folder / "k_0.mp4").mkdir()
            else:
                (folder / "k_0.mp4").symlink_to(victim)
            path = await saved(own, handle, folder)
            assert path.name.startswith("k_0-")
            assert await content_of(path) == CLIP
    assert victim.read_bytes() == b"precious"


# -- where they go ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "checked"),
    [
        ("clips", "clips/{key}_{task_id}_{n}{ext}"),
        ("clips/", "clips/{key}_{task_id}_{n}{ext}"),
        ("clips/{key}_{n}{ext}", "clips/{key}_{n}{ext}"),
        ("{model}/{task_id}-{name}.mp4", "{model}/{task_id}-{name}.mp4"),
        ("clips/{key}-{n:03d}{ext}", "clips/{key}-{n:03d}{ext}"),
    ],
)
def test_a_folder_becomes_a_template(template: str, checked: str) -> None:
    """One that gives each output a name of its own."""
    assert check_template(template) == checked


@pytest.mark.parametrize(
    "template",
    [
        "clips/{sku}_{n}",
        "{key.__class__}{n}",
        "{key}",
        "{n}{ext}",
        "clips/{",
        "{}{n}",
        "{0}",
        "{key[0]}{n}",
        "{key:d}{n}",
        "{n:x{n}}{key}",
        "{key}{n:{name}}",
        "{key}{n:.1}",
        "{key}_{n}\0",
        "\udcff{key}{n}",
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str) -> None:
    """Before anything is paid."""
    with pytest.raises(ConfigurationError, match="download="):
        check_template(template)


@pytest.mark.parametrize(
    "template",
    ["{key:.4}_{n}{ext}", "{key!r}_{n}", "{task_id:>9}{n}", "{key}_{name!a:.2}{ext}", "{key:{foo}}_{n}"],
)
def test_what_tells_outputs_apart_stands_in_a_path_whole(template: str) -> None:
    """A key that is cut off is another job's key; the message says what can be formatted."""
    with pytest.raises(ConfigurationError, match=r"only \{n\} can be formatted: \{n:03d\}"):
        check_template(template)


def made(
    name: str = "0.mp4", index: int = 0, content_type: str = "video/mp4", task_id: str = "2221"
) -> Output:
    return Output(name, "https://cdn1.wiro.ai/x", content_type=content_type, index=index, task_id=task_id)


def test_a_path_is_filled_in() -> None:
    """With the parts of the job and of the output."""
    template = check_template("clips/{model}/{key}_{task_id}_{n}_{name}{ext}")
    path = file_name(template, "sku-1", "MiniMax", made(index=2))
    assert path == Path("clips/MiniMax/sku-1_2221_2_0.mp4")


def test_an_extension_comes_from_the_type_where_the_name_has_none() -> None:
    """And from nowhere else."""
    template = check_template("clips")
    assert file_name(template, "k", "m", made("clip")).suffix == ".mp4"
    assert file_name(template, "k", "m", made("a.b/c", content_type="image/png")).suffix == ".png"
    assert file_name(template, "k", "m", made("a.tar gz", content_type="odd")).suffix == ".bin"


@given(key=st.text(min_size=1), name=st.text(), task_id=st.text(), model=st.text())
def test_nothing_leaves_the_folder(key: str, name: str, task_id: str, model: str) -> None:
    """Whatever the service or a spreadsheet has for names."""
    path = file_name("clips/{model}_{key}_{task_id}_{n}_{name}{ext}", key, model, made(name, task_id=task_id))
    assert path.parent == Path("clips")
    assert ".." not in path.parts
    assert path.name.isascii()
    assert "\0" not in path.name
    assert "/" not in path.name


@given(first=st.text(min_size=1), second=st.text(min_size=1))
def test_two_keys_have_two_names(first: str, second: str) -> None:
    """Also where their letters cannot stand in a file name."""
    if first != second:
        one, two = (file_name("{key}_{n}{ext}", key, "m", made()) for key in (first, second))
        assert one != two


@pytest.mark.parametrize(
    ("content_type", "head", "fits"),
    [
        ("video/mp4", b"\0\0\0\x20ftypisom", True),
        ("Video/MP4; codecs=avc1", b"\0\0\0\x20ftypisom", True),
        ("video/mp4", b"<html><body>", False),
        ("video/mp4", b"", False),
        ("image/png", b"\x89PNG\r\n\x1a\n...", True),
        ("image/png", b"\xff\xd8\xff", False),
        ("image/jpeg", b"\xff\xd8\xff\xe0", True),
        ("image/gif", b"GIF89a", True),
        ("image/webp", b"RIFF....WEBPVP8 ", True),
        ("audio/wav", b"RIFF....WAVEfmt ", True),
        ("video/webm", b"\x1a\x45\xdf\xa3", True),
        ("text/plain", b"anything", True),
        ("", b"anything", True),
    ],
)
def test_what_a_file_begins_with(content_type: str, head: bytes, fits: bool) -> None:
    """An error page that calls itself a video is found out."""
    assert has_magic(content_type, head) is fits


@pytest.mark.parametrize("folder", ["new", f"{'x' * 300}/new"])
async def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_paid(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a folder that would have to be made in one, or one that cannot even be looked up."""
    service = FakeService()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="nothing can be written in"):
        async with client(service).batch([Job("owner/model", {})], download=tmp_path / folder) as batch:
            await batch.wait()
    assert service.calls == []
