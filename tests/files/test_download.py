"""Downloads: whole or not at all, resumed, from known hosts only, and never outside the folder."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gzip
import logging
import os
import resource
import stat
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.lowlevel
import httpx
import pytest

from tests.conftest import KEY, SECRET
from tests.files.conftest import Denial
from tests.servers import Peer, Server, answer
from wiro_async import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    DownloadError,
    InvalidInput,
    Limits,
    Output,
    ServiceError,
    TaskNotFound,
    WiroError,
)
from wiro_async._config import configure
from wiro_async._files import download as _download
from wiro_async._files.download import Downloader, Stored
from wiro_async._http.connections import ConnectionStack

URL = "https://cdn1.wiro.ai/uploads/0.mp4"
DATA = b"\0\0\0\x18ftypmp42" + bytes(range(12, 256)) + bytes(range(256)) * 1023
ETAG = '"v1"'


one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For tables of cases that no event loop has a say in."""


class Pauses(list[float]):
    """The pauses that were made.

    Attributes:
        skipped: Whether they take no time.
    """

    skipped: bool = True


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """Let a broken download be taken up at once, and a missing file be asked for again at once."""
    made, sleep = Pauses(), anyio.sleep

    async def pause(seconds: float) -> None:
        made.append(seconds)
        await sleep(0 if made.skipped else seconds)

    monkeypatch.setattr(anyio, "sleep", pause)
    return made


@pytest.fixture
def real_pauses(pauses: Pauses) -> None:
    """Let pauses take their time."""
    pauses.skipped = False


def output(url: str = URL, size: int | None = len(DATA), **fields: Any) -> Output:
    """Return an output as a task has it."""
    facts: dict[str, Any] = {"name": "0.mp4", "content_type": "video/mp4", "task_id": "2221", **fields}
    return Output(url=url, size=size, **facts)


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, that may break off or wait."""

    def __init__(self, *pieces: bytes | Exception | Callable[[], Any]) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                await piece()

    async def aclose(self) -> None:
        self.closed = True


CUT = httpx.ReadError("connection reset")
Step = Callable[[httpx.Request], Any]


class Cdn(httpx.AsyncBaseTransport):
    """A CDN in memory: the first requests get what is scripted, the others the file."""

    def __init__(self, *script: Step, data: bytes = DATA, etag: str = ETAG) -> None:
        self.script = list(script)
        self.data = data
        self.etag = etag
        self.requests: list[httpx.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.script:
            result = self.script.pop(0)(request)
            if isinstance(result, Exception):
                raise result
            response: httpx.Response = await result if asyncio.iscoroutine(result) else result
            return response
        return self.serve(request)

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Answer as the service's CDN does, with Range and If-Range."""
        wanted = request.headers.get("range")
        headers = {"ETag": self.etag, "Content-Type": "video/mp4"}
        if wanted is None or request.headers.get("if-range", self.etag) != self.etag:
            return httpx.Response(200, headers=headers, content=self.data)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.data):
            return httpx.Response(416, headers={"Content-Range": f"bytes */{len(self.data)}"})
        headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        return httpx.Response(206, headers=headers, content=self.data[start:])

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request."""
        return [request.headers.get("range") for request in self.requests]

    async def aclose(self) -> None:
        self.closed = True


def reply(status: int = 200, *pieces: bytes | Exception | Callable[[], Any], **headers: str) -> Step:
    """Return a step that answers so."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, headers=names, stream=Pieces(*pieces))


def cut_after(count: int, etag: str = ETAG, data: bytes = DATA) -> Step:
    """Return a step that sends the first bytes, and breaks off."""
    return reply(200, data[:count], CUT, Content_Length=str(len(data)), ETag=etag)


def downloader(
    http: httpx.AsyncBaseTransport,
    base_url: str | None = None,
    refresh: Lookups | None = None,
    **limits: Any,
) -> Downloader:
    """Return a downloader with a client's settings."""
    config = configure(
        KEY,
        SECRET,
        base_url=base_url,
        socket_url=None,
        download_hosts=frozenset({"Trusted.Example", "xn--bcher-kva.example"}),
        polling=None,
        limits=Limits(**limits),
        environ={},
    )
    return Downloader(config, http, refresh)


async def fails(http: httpx.AsyncBaseTransport, target: Path, what: Output | None = None) -> DownloadError:
    """Return the error with which a save fails; the target must not exist then."""
    with pytest.raises(DownloadError) as caught:
        await downloader(http).save(what or output(), target, None)
    assert target.name not in entries(target.parent)
    assert caught.value.url == (what or output()).url
    return caught.value


def entries(folder: Path) -> list[str]:
    """Return what a folder holds, nothing if there is none."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def parts(folder: Path) -> list[Path]:
    """Return the part files in a folder."""
    return list(folder.glob("*.part"))


# -- where the file goes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["clip.mp4", "new/folders/clip.mp4", "clips", "new/v1.2"])
async def test_a_file_name_is_the_file(tmp_path: Path, target: str) -> None:
    """A path that is no folder is the file, whatever its ending; its folders are made."""
    path = await downloader(Cdn()).save(output(), tmp_path / target, None)
    assert path == tmp_path / target
    assert path.read_bytes() == DATA
    assert list(path.parent.iterdir()) == [path]


async def test_a_folder_gets_a_file_with_the_tasks_id(tmp_path: Path) -> None:
    """In a folder, present or to be made, the file is called by the task and the output's name."""
    for folder in (str(tmp_path), f"{tmp_path}/made/here/", tmp_path):
        path = await downloader(Cdn()).save(output(), folder, None)
        assert path == Path(folder) / "2221_0.mp4"
        assert path.read_bytes() == DATA


@one_loop
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../x", "..", ".", "a/b", "a\\b", "..\\x", "C:\\x", "\\\\host\\share", "x\0.mp4", "/",
        "\\", "a/../../b", "./x", "x/", "\0", "..%2f/x", "//x",
    ],
)  # fmt: skip
async def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """A separator, a NUL or a dot-name is not mended: the caller names the file then."""
    hostile = output(name=name)
    cdn = Cdn()
    with pytest.raises(DownloadError, match="would leave the folder"):
        await downloader(cdn).save(hostile, tmp_path, None)
    assert not cdn.requests
    assert not entries(tmp_path)
    with pytest.raises(DownloadError, match="would leave the folder"):
        await downloader(cdn).save_all([output(), hostile], tmp_path / "all", None)
    assert not cdn.requests
    path = await downloader(cdn).save(hostile, tmp_path / "own.mp4", None)
    assert path.read_bytes() == DATA


async def test_a_folder_for_all_outputs(tmp_path: Path) -> None:
    """Outputs with one name get two files, the same ones each time; the folder is made."""
    files = [output(index=0), output(index=1), output(index=2, name="0-1.mp4"), output(index=3, name="0.MP4")]
    for _ in range(2):
        paths = await downloader(Cdn()).save_all(files, tmp_path / "v1.2", None)
        assert [path.name for path in paths] == [
            "2221_0.mp4", "2221_0-1.mp4", "2221_0-1-2.mp4", "2221_0-3.MP4",
        ]  # fmt: skip
        assert sorted(entries(tmp_path / "v1.2")) == sorted(path.name for path in paths)
        assert {path.read_bytes() for path in paths} == {DATA}


async def test_outputs_in_one_folder_that_claim_to_be_what_they_are_not(tmp_path: Path) -> None:
    """Each is named by its content, and none takes the name of another."""
    names = ["0.webm", "0.mp4", "0.webp", "1.webm"]
    kinds = ["video/webm", "video/mp4", "image/webp", "video/webm"]
    files = [
        output(index=index, name=name, content_type=kind)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    for _ in range(2):
        paths = await downloader(Cdn()).save_all(files, tmp_path, None)
        assert [path.name for path in paths] == [
            "2221_0-0.mp4", "2221_0.mp4", "2221_0-2.mp4", "2221_1.mp4",
        ]  # fmt: skip
        assert sorted(entries(tmp_path)) == sorted(path.name for path in paths)


@pytest.mark.virtual_time
@pytest.mark.usefixtures("real_pauses")
async def test_the_timeout_is_for_all_outputs(tmp_path: Path) -> None:
    """What is left of it after the first file is the second one's."""

    async def pause() -> None:
        await anyio.sleep(1.5)

    cdn = Cdn(reply(200, DATA[:1000], pause, DATA[1000:]), hang)
    with pytest.raises(DownloadError, match=r"output '1\.mp4' .* not whole after 3\.5 s"):
        await downloader(cdn).save_all([output(), output(name="1.mp4", index=1)], tmp_path, 5)
    assert (tmp_path / "2221_0.mp4").read_bytes() == DATA


async def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    """While a download is under way, and after it failed, the old file is there; then the new one is."""
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"old")
    seen: list[bytes] = []

    async def look() -> None:
        # In a thread: the alarm for blocking calls looks at every caller, and the package is one here.
        seen.append(await anyio.to_thread.run_sync(target.read_bytes))
        assert len(await anyio.to_thread.run_sync(parts, tmp_path)) == 1

    failing = Cdn(reply(200, DATA[:5], look, CUT, Content_Length=str(len(DATA))), reply(410))
    with pytest.raises(DownloadError):
        await downloader(failing).save(output(), target, None)
    assert seen == [b"old"]
    assert target.read_bytes() == b"old"
    await downloader(Cdn()).save(output(), target, None)
    assert target.read_bytes() == DATA


async def test_a_file_larger_than_the_write_buffer(tmp_path: Path) -> None:
    """Pieces are collected before they are written; none is lost at the boundaries."""
    data = os.urandom(3 * 1024 * 1024 + 17)
    pieces = [data[start : start + 50_000] for start in range(0, len(data), 50_000)]
    cdn = Cdn(reply(200, *pieces, Content_Length=str(len(data))))
    path = await downloader(cdn).save(output(size=len(data)), tmp_path / "big.mp4", None)
    assert path.read_bytes() == data


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    """An output of zero bytes is saved as one."""
    path = await downloader(Cdn(data=b"")).save(output(size=0), tmp_path / "empty.mp4", None)
    assert path.read_bytes() == b""
    assert not parts(tmp_path)


# -- breaks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 1000, 65_536, 200_000, len(DATA) - 1])
async def test_a_break_is_resumed_where_it_happened(tmp_path: Path, count: int) -> None:
    """The second request asks for the rest, on condition that the file is still the same."""
    cdn = Cdn(cut_after(count))
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert cdn.ranges == [None, f"bytes={count}-" if count else None]
    if count:
        assert cdn.requests[1].headers["if-range"] == ETAG


@pytest.mark.parametrize("size", [len(DATA), None])
async def test_real_resets_are_resumed(tmp_path: Path, size: int | None) -> None:
    """Over real sockets: three resets at several places, and the file is whole and credential-free."""
    cuts = [1, 100_000, 30_000]

    def handler(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            start = 0
            for line in request.lower().split(b"\r\n"):
                if line.startswith(b"range: bytes="):
                    start = int(line[13:-1])
            where = [f"Content-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}"] if start else []
            status = "206 Partial Content" if start else "200 OK"
            whole = answer(DATA[start:], status, [f"ETag: {ETAG}", *where])
            if peer.number < len(cuts):
                head = whole.index(b"\r\n\r\n") + 4
                peer.send(whole[: head + cuts[peer.number]])
                # A reset destroys what the other side has not read yet.
                peer.half_close()
                peer.hold()
                return
            peer.send(whole)

    with Server(handler) as server:
        stack = ConnectionStack()
        loader = downloader(stack, base_url=f"{server.url}/v1")
        path = await loader.save(output(f"{server.url}/0.mp4", size), tmp_path / "clip.mp4", None)
        assert path.read_bytes() == DATA
        received = b"".join(bytes(peer.received) for peer in server.peers)
        assert len(server.peers) == len(cuts) + 1
        for secret in (KEY, SECRET, "x-api-key", "x-signature", "x-nonce", "authorization", "cookie"):
            assert secret.encode() not in received.lower()
        await loader.aclose()
        assert stack.connections == 0


async def test_a_server_that_cannot_resume_starts_again(tmp_path: Path) -> None:
    """A whole answer (200) to a request for the rest is taken from its beginning."""
    cdn = Cdn(cut_after(1000), lambda _: httpx.Response(200, content=DATA))
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("size", [len(DATA), None])
async def test_a_changed_file_starts_again(tmp_path: Path, size: int | None) -> None:
    """When the ETag has changed the server sends the new file whole; no mixture comes out."""
    new = DATA[::-1] if size else DATA[::-1] + b"longer"
    cdn = Cdn(cut_after(1000), data=new, etag='"v2"')
    path = await downloader(cdn).save(output(size=size), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == new


async def test_a_changed_file_of_a_server_that_ignores_the_condition(tmp_path: Path) -> None:
    """A partial answer with another ETag than before is not appended; the download starts again."""
    new = DATA[::-1]

    def careless(_: httpx.Request) -> httpx.Response:
        headers = {"ETag": '"v2"', "Content-Range": f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"}
        return httpx.Response(206, headers=headers, content=new[1000:])

    cdn = Cdn(cut_after(1000), careless, data=new, etag='"v2"')
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == new
    assert cdn.ranges == [None, "bytes=1000-", None]


@one_loop
@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        ({"ETag": '"strong"', "Last-Modified": "yesterday"}, '"strong"'),
        ({"ETag": 'W/"weak"', "Last-Modified": "yesterday"}, "yesterday"),
        ({"Last-Modified": "yesterday"}, "yesterday"),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
)
async def test_what_a_resumed_request_depends_on(
    tmp_path: Path, headers: dict[str, str], condition: str | None
) -> None:
    """If-Range holds a strong ETag, else the date, else nothing: it takes no weak one."""
    cdn = Cdn(lambda _: httpx.Response(200, headers=headers, stream=Pieces(DATA[:9], CUT)))
    await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert cdn.requests[1].headers.get("if-range") == condition


@one_loop
@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 999-262143/262144",
        "bytes 1001-262143/262144",
        "bytes */262144",
        "items 1000-2/3",
        "nonsense",
        "",
    ],
)
async def test_another_part_than_was_asked_for_is_not_appended(tmp_path: Path, content_range: str) -> None:
    """A partial answer that begins elsewhere is thrown away, and the download starts again."""
    headers = {"Content-Range": content_range} if content_range else {}
    cdn = Cdn(cut_after(1000), lambda _: httpx.Response(206, headers=headers, content=DATA[1000:]))
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert cdn.ranges == [None, "bytes=1000-", None]


async def test_a_part_that_nobody_asked_for_is_an_error(tmp_path: Path) -> None:
    """A partial answer to a request for the whole must begin at the beginning."""
    wrong = reply(206, DATA[5:], Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")
    assert "another part" in (await fails(Cdn(wrong), tmp_path / "a.mp4")).message
    right = reply(206, DATA[:5], Content_Range=f"bytes 0-4/{len(DATA)}")
    path = await downloader(Cdn(right)).save(output(), tmp_path / "b.mp4", None)
    assert path.read_bytes() == DATA


async def test_a_part_of_a_whole_of_unknown_length(tmp_path: Path) -> None:
    """A partial answer need not tell the file's length; its own length is not taken for it."""
    middle = reply(206, DATA[1000:5000], Content_Range="bytes 1000-4999/*", Content_Length="4000", ETag=ETAG)
    cdn = Cdn(cut_after(1000), middle)
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert cdn.ranges == [None, "bytes=1000-", "bytes=5000-"]


@pytest.mark.parametrize("size", [len(DATA), None])
async def test_a_part_of_a_file_of_another_length(tmp_path: Path, size: int | None) -> None:
    """A total that changed is another file: it is fetched from its beginning."""
    cdn = Cdn(cut_after(1000), reply(206, b"x", Content_Range="bytes 1000-1000/1001", ETag=ETAG))
    path = await downloader(cdn).save(output(size=size), tmp_path / "b.mp4", None)
    assert path.read_bytes() == DATA
    assert cdn.ranges == [None, "bytes=1000-", None]


async def test_a_server_that_has_less_than_was_received(tmp_path: Path) -> None:
    """416 throws away what was received, and starts again."""
    cdn = Cdn(cut_after(1000), lambda _: httpx.Response(416))
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert cdn.ranges == [None, "bytes=1000-", None]
    assert (await fails(Cdn(lambda _: httpx.Response(416)), tmp_path / "b.mp4")).http_status == 416


async def test_restarts_are_limited(tmp_path: Path) -> None:
    """A server that breaks off and then denies what it sent is given up, however it goes on."""
    script = [cut_after(1000), lambda _: httpx.Response(416)] * 20
    cdn = Cdn(*script)
    error = await fails(cdn, tmp_path / "clip.mp4")
    assert error.http_status in (416, None)
    assert len(cdn.requests) <= 2 * 6


async def test_breaks_in_a_row_are_limited(tmp_path: Path) -> None:
    """Without a byte between them, the sixth break is the last; the error tells what happened."""
    cdn = Cdn(*[lambda _: httpx.ConnectError("refused")] * 20)
    error = await fails(cdn, tmp_path / "clip.mp4")
    assert "refused" in error.message
    assert error.http_status is None
    assert len(cdn.requests) == 6
    assert not parts(tmp_path)


async def test_a_download_that_gets_on_may_break_often(tmp_path: Path) -> None:
    """As long as each attempt brings new bytes, none is the last."""

    def one_more(request: httpx.Request) -> httpx.Response:
        whole = cdn.serve(request)
        return httpx.Response(
            whole.status_code, headers=whole.headers, stream=Pieces(whole.content[:20_000], CUT)
        )

    cdn = Cdn(*[one_more] * 13)
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert len(cdn.requests) == 14


async def test_always_the_same_beginning_is_no_progress(tmp_path: Path) -> None:
    """A server that cannot resume is given up, although some attempts get further than the one before."""
    cdn = Cdn(*[cut_after(count) for count in (5000, 4000, 4900, 4000, 4800, 4000, 4700)])
    await fails(cdn, tmp_path / "clip.mp4")
    assert len(cdn.requests) == 6


# -- lengths ---------------------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize("offered", [0, len(DATA) - 1, len(DATA) + 1])
async def test_a_length_that_is_not_the_size_may_be_too_early(tmp_path: Path, offered: int) -> None:
    """The file is asked for once more: it may not have been there in full."""
    cdn = Cdn(reply(200, (DATA + b"x")[:offered], Content_Length=str(offered)))
    stored = await downloader(cdn).store(output(), tmp_path / "clip.mp4")
    assert stored == Stored(tmp_path / "clip.mp4", is_whole=True)
    assert stored.path.read_bytes() == DATA
    assert cdn.ranges == [None, None]


@one_loop
@pytest.mark.parametrize("offered", [1000, len(DATA) - 1, len(DATA) + 1])
async def test_the_server_knows_better_than_the_record(
    tmp_path: Path, offered: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Told twice, its length holds; but that all of it came is not certain then."""
    cdn = Cdn(*[reply(200, (DATA + b"x")[:offered], Content_Length=str(offered))] * 2)
    with caplog.at_level(logging.WARNING, "wiro_async"):
        stored = await downloader(cdn).store(output(), tmp_path / "clip.mp4")
    assert not stored.is_whole
    assert stored.path.read_bytes() == (DATA + b"x")[:offered]
    assert f"its record says {len(DATA)} bytes, the server sent {offered}" in caplog.text


async def test_an_empty_answer_is_no_file_that_has_a_size(tmp_path: Path) -> None:
    """However often it comes."""
    cdn = Cdn(*[reply(200, Content_Length="0")] * 20)
    assert "should have" in (await fails(cdn, tmp_path / "clip.mp4")).message
    assert entries(tmp_path) == []


async def test_a_body_without_a_length_is_checked_against_the_size(tmp_path: Path) -> None:
    """Less than the size is a break; more is what it is, and not certain."""
    cdn = Cdn(reply(200, DATA[:1000], ETag=ETAG))
    stored = await downloader(cdn).store(output(), tmp_path / "short.mp4")
    assert (stored.path.read_bytes(), stored.is_whole) == (DATA, True)
    assert cdn.ranges == [None, "bytes=1000-"]
    stored = await downloader(Cdn(reply(200, DATA))).store(output(), tmp_path / "right.mp4")
    assert (stored.path.read_bytes(), stored.is_whole) == (DATA, True)
    stored = await downloader(Cdn(reply(200, DATA, b"x"))).store(output(), tmp_path / "long.mp4")
    assert (stored.path.read_bytes(), stored.is_whole) == (DATA + b"x", False)


@pytest.mark.parametrize(
    ("headers", "is_whole"),
    [({}, False), ({"Transfer_Encoding": "chunked"}, True), ({"Content_Length": str(len(DATA))}, True)],
)
async def test_what_proves_that_a_file_is_whole(
    tmp_path: Path, headers: dict[str, str], is_whole: bool
) -> None:
    """A length, or a framing that tells its end. The end of the connection may be a break."""
    cdn = Cdn(reply(200, DATA, **headers))
    stored = await downloader(cdn).store(output(size=None), tmp_path / "clip.mp4")
    assert (stored.path.read_bytes(), stored.is_whole) == (DATA, is_whole)


async def test_http_2_frames_every_body(tmp_path: Path) -> None:
    """Over a transport that speaks it."""
    answer = lambda _: httpx.Response(200, stream=Pieces(DATA), extensions={"http_version": b"HTTP/2"})  # noqa: E731
    assert (await downloader(Cdn(answer)).store(output(size=None), tmp_path / "clip.mp4")).is_whole


async def test_a_framed_body_of_another_length_than_the_record(tmp_path: Path) -> None:
    """It ended as it should, so it is kept."""
    for size in (len(DATA) - 1, len(DATA) + 1):
        cdn = Cdn(reply(200, DATA, Transfer_Encoding="chunked"))
        stored = await downloader(cdn).store(output(size=size), tmp_path / "clip.mp4")
        assert (stored.path.read_bytes(), stored.is_whole) == (DATA, False)


async def test_a_file_that_nobody_measured_is_capped(tmp_path: Path) -> None:
    """And nothing of it stays on the disk."""
    loader = downloader(Cdn(*[reply(200, DATA, DATA)] * 2), max_download=len(DATA) + 1000)
    with pytest.raises(DownloadError, match=r"more than 263144 bytes; allow more with Limits\(max_download"):
        await loader.save(output(size=None), tmp_path / "clip.mp4", None)
    assert entries(tmp_path) == []
    # Of a length that was told, everything is taken.
    told = downloader(Cdn(), max_download=1000)
    assert (await told.save(output(size=None), tmp_path / "clip.mp4", None)).read_bytes() == DATA


# -- encodings -------------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(DATA)),
    "x-gzip": ("X-GZip", gzip.compress(DATA)),
    "two members": ("gzip", gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:])),
    "padded": ("gzip", gzip.compress(DATA) + bytes(100)),
    "deflate": ("deflate", zlib.compress(DATA)),
    "raw deflate": ("deflate", raw_deflate(DATA)),
    "after an upload": ("aws-chunked, gzip", gzip.compress(DATA)),
}


@pytest.mark.parametrize("name", ["identity", "Identity", "aws-chunked", "utf-8", "UTF-8, aws-chunked", ""])
async def test_what_object_stores_keep_of_an_upload_is_no_encoding(tmp_path: Path, name: str) -> None:
    """It changes no byte."""
    stored = await downloader(Cdn(reply(200, DATA, Content_Encoding=name))).store(
        output(), tmp_path / "a.mp4"
    )
    assert (stored.path.read_bytes(), stored.is_whole) == (DATA, True)


@one_loop
@pytest.mark.parametrize("size", [None, len(DATA), 0])
@pytest.mark.parametrize("shape", PACKED)
async def test_what_is_stored_compressed_is_decompressed(
    tmp_path: Path, shape: str, size: int | None
) -> None:
    """Whether the record has the one length, the other, or none; in pieces of any size."""
    name, data = PACKED[shape]
    size = len(data) if size == 0 else size
    for pieces in ([data], [data[:1], data[1:2], data[2:777], data[777:]]):
        cdn = Cdn(reply(200, *pieces, Content_Encoding=name, Content_Length=str(len(data))))
        stored = await downloader(cdn).store(output(size=size), tmp_path / "clip.mp4")
        assert (stored.path.read_bytes(), stored.is_whole) == (DATA, True)
        cdn = Cdn(reply(200, *pieces, Content_Encoding=name))
        assert await downloader(cdn).read(output(size=size), None, len(DATA)) == DATA
        assert cdn.requests[0].headers["accept-encoding"] == "identity"


@one_loop
async def test_what_zlib_holds_back_at_the_end_is_part_of_the_file() -> None:
    """Of raw deflate all bytes may be taken while more than a piece of a megabyte is still to come."""
    for length in range(0, 300, 25):
        data = DATA[:12] + bytes(2**20 + length)
        cdn = Cdn(reply(200, raw_deflate(data), Content_Encoding="deflate"))
        assert await downloader(cdn).read(output(size=None), None, len(data)) == data
        assert len(cdn.requests) == 1


async def test_a_bomb_does_not_go_off(tmp_path: Path) -> None:
    """What it would make is counted, not what is sent; and no piece of it is large."""
    bomb = gzip.compress(bytes(50_000_000))
    cdn = Cdn(*[reply(200, bomb, Content_Encoding="gzip")] * 3)
    with pytest.raises(DownloadError, match="more than 3000000 bytes"):
        await downloader(cdn, max_download=3_000_000).save(output(), tmp_path / "clip.mp4", None)
    assert entries(tmp_path) == []
    with pytest.raises(DownloadError, match="larger than max_bytes=1000"):
        await downloader(cdn).read(output(), None, 1000)
    assert (
        "max_download"
        not in (await fails(Cdn(reply(200, b"x", Content_Encoding="br")), tmp_path / "b")).message
    )


async def test_more_than_the_server_has_told_is_an_error(tmp_path: Path) -> None:
    """A transport that lets it through is no reason to keep it."""
    cdn = Cdn(*[reply(200, DATA, Content_Length="3")] * 8)
    error = await fails(cdn, tmp_path / "clip.mp4", output(size=3))
    assert "it should have 3 bytes, the server sends more" in error.message
    assert entries(tmp_path) == []


async def test_a_target_below_a_file_is_refused_before_anything_is_asked_for(tmp_path: Path) -> None:
    """There is no part to clean up then."""
    (tmp_path / "file").write_bytes(b"")
    cdn = Cdn()
    with pytest.raises(InvalidInput, match="cannot be a folder"):
        await downloader(cdn).save(output(), tmp_path / "file" / "clip.mp4", None)
    assert cdn.requests == []


async def test_a_compressed_file_that_breaks_off_begins_anew(tmp_path: Path) -> None:
    """Nothing can go on in its middle; nor is a part of it mixed with a plain one."""
    packed = gzip.compress(DATA)
    half = reply(200, packed[:500], CUT, Content_Encoding="gzip")
    short = reply(200, packed[:-4], Content_Encoding="gzip")
    damaged = reply(200, packed[:10] + b"\xff" * 100, Content_Encoding="gzip")
    whole = reply(200, packed, Content_Encoding="gzip")
    cdn = Cdn(half, short, damaged, whole)
    stored = await downloader(cdn).store(output(), tmp_path / "clip.mp4")
    assert (stored.path.read_bytes(), stored.is_whole) == (DATA, True)
    assert cdn.ranges == [None] * 4
    # A part that an earlier process has left is not gone on with, either.
    await leave_part(tmp_path, 1000)
    partly = reply(206, packed[1000:], Content_Encoding="gzip", Content_Range=f"bytes 1000-9/{len(packed)}")
    cdn = Cdn(partly, whole)
    assert (await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)).read_bytes() == DATA
    assert cdn.ranges == ["bytes=1000-", None]


async def test_the_end_of_the_framing_may_be_missing(tmp_path: Path) -> None:
    """When every byte is there, a break in what follows them does no harm."""
    cdn = Cdn(reply(200, DATA, CUT))
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert len(cdn.requests) == 1


async def test_a_length_serves_where_the_size_is_unknown(tmp_path: Path) -> None:
    """If the service names no size, the body must have the length that the server announced."""
    cdn = Cdn(cut_after(1000))
    path = await downloader(cdn).save(output(size=None), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA


async def test_without_any_size_the_file_is_saved_unverified(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody tells a size, what came is saved, and the log says that it was not checked."""
    with caplog.at_level(logging.WARNING, "wiro_async"):
        path = await downloader(Cdn(reply(200, DATA))).save(output(size=None), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert "no size was told" in caplog.text
    odd = Cdn(reply(200, DATA, Content_Length="many"))
    assert await downloader(odd).read(output(size=None), None, len(DATA)) == DATA


# -- answers that are no file ----------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize("status", [400, 401, 405, 410, 418, 451, 204, 304, 300])
async def test_some_answers_are_final(tmp_path: Path, status: int) -> None:
    """What asking again would not change is asked once; the error has the status, and no file is left."""
    cdn = Cdn(*[lambda _: httpx.Response(status)] * 3)
    error = await fails(cdn, tmp_path / "clip.mp4")
    assert error.http_status == status
    assert error.path == str(tmp_path / "clip.mp4")
    assert ("limited time" in error.message) == (status == 410)
    assert len(cdn.requests) == 1
    assert not entries(tmp_path)


@one_loop
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_some_answers_may_pass(tmp_path: Path, status: int) -> None:
    """What may pass is asked for again; when it does not pass, the error has the status."""
    cdn = Cdn(*[lambda _: httpx.Response(status)] * 3)
    path = await downloader(cdn).save(output(), tmp_path / "a.mp4", None)
    assert path.read_bytes() == DATA
    error = await fails(Cdn(*[lambda _: httpx.Response(status)] * 9), tmp_path / "b.mp4")
    assert error.http_status == status


@one_loop
@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({}, False),
        ({"content_type": ""}, False),
        ({"content_type": "", "name": "page.HTML"}, True),
        ({"content_type": "", "name": "unknown"}, True),
        ({"content_type": "text/html"}, True),
    ],
)
async def test_a_web_page_is_no_video(tmp_path: Path, fields: dict[str, str], accepted: bool) -> None:
    """A page in place of the file is an error, unless a page may be what the output is."""
    page = b"<html>Not found</html>"
    cdn = Cdn(reply(200, page, Content_Type="Text/HTML; charset=utf-8"))
    if accepted:
        assert await downloader(cdn).read(output(size=None, **fields), None, 1000) == page
    else:
        error = await fails(cdn, tmp_path / "clip.mp4", output(size=None, **fields))
        assert "web page" in error.message


@one_loop
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x", "compress"])
async def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    """None was asked for."""
    cdn = Cdn(reply(200, b"\x1f\x8b", Content_Encoding=encoding))
    assert "encoding that was not asked for" in (await fails(cdn, tmp_path / "clip.mp4")).message
    assert cdn.requests[0].headers["accept-encoding"] == "identity"


# -- files that are not there yet ----------------------------------------------------------------------


class Lookups:
    """Looks outputs up again.

    Args:
        *answers: What comes of it: an output, or an error. The last one is repeated.
    """

    def __init__(self, *answers: Output | WiroError) -> None:
        self.answers = list(answers)
        self.asked: list[Output] = []

    async def __call__(self, known: Output) -> Output:
        self.asked.append(known)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, WiroError):
            raise answer
        return answer


@pytest.mark.parametrize("status", [403, 404])
async def test_a_file_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, status: int, pauses: Pauses
) -> None:
    """It gets half a minute, in pauses that grow; between them the output is looked up again."""
    cdn = Cdn(*[reply(status)] * 5)
    lookups = Lookups(output())
    path = await downloader(cdn, refresh=lookups).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert pauses == [1, 2, 4, 8, 15]
    assert len(lookups.asked) == 5
    pauses.clear()
    assert await downloader(Cdn(reply(status))).read(output(), None, len(DATA)) == DATA
    assert pauses == [1]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_file_that_stays_away_is_given_up(tmp_path: Path, status: int) -> None:
    """The error has the status, and says what may be the reason."""
    cdn = Cdn(*[reply(status)] * 9)
    error = await fails(cdn, tmp_path / "clip.mp4")
    assert error.http_status == status
    assert "outputs are kept for a limited time" in error.message
    assert len(cdn.requests) == 6
    assert not entries(tmp_path)


@pytest.mark.virtual_time
@pytest.mark.usefixtures("real_pauses")
async def test_the_wait_for_a_file_counts(tmp_path: Path) -> None:
    """A timeout that ends it says what the server has answered."""
    with pytest.raises(
        DownloadError, match=r"not whole after 0\.9 s .* HTTP 404; outputs are kept"
    ) as caught:
        await downloader(Cdn(reply(404))).save(output(), tmp_path / "clip.mp4", 0.9)
    assert caught.value.http_status == 404


@pytest.mark.usefixtures("real_pauses")
async def test_a_file_that_is_waited_for_holds_no_slot(tmp_path: Path) -> None:
    """Others are fetched meanwhile."""
    cdn = Cdn(*[reply(404)] * 2)
    loader = downloader(cdn, max_downloads=1)
    async with anyio.create_task_group() as group:
        group.start_soon(loader.save, output(), tmp_path / "first.mp4", None)
        while not cdn.requests:
            await anyio.lowlevel.checkpoint()
        await loader.save(output(), tmp_path / "second.mp4", 5)
        group.cancel_scope.cancel()
    assert (tmp_path / "second.mp4").read_bytes() == DATA


async def test_an_output_that_moved_is_fetched_from_its_new_address(tmp_path: Path) -> None:
    """What was received from the old one is gone on with."""
    cdn = Cdn(cut_after(1000), reply(403))
    moved = Lookups(output("https://cdn.wiro.ai/new"))
    path = await downloader(cdn, refresh=moved).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert [str(request.url) for request in cdn.requests] == [URL, URL, "https://cdn.wiro.ai/new"]
    assert cdn.ranges == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize("size", [len(DATA) + 1, None])
async def test_an_output_that_has_another_size_now_starts_again(tmp_path: Path, size: int | None) -> None:
    """Bytes of the old file are not mixed with those of the new one."""
    new = DATA[::-1] + b"x"
    cdn = Cdn(cut_after(1000), reply(404), data=new)
    path = await downloader(cdn, refresh=Lookups(output(size=size))).save(output(), tmp_path / "a.mp4", None)
    assert path.read_bytes() == new
    assert cdn.ranges == [None, "bytes=1000-", None]


async def test_a_new_address_is_checked_like_the_first(tmp_path: Path) -> None:
    """What the service says stays hostile."""
    cdn = Cdn(reply(404))
    with pytest.raises(DownloadError, match="address"):
        await downloader(cdn, refresh=Lookups(output("https://evil.example/x"))).save(
            output(), tmp_path / "clip.mp4", None
        )
    assert len(cdn.requests) == 1


@pytest.mark.parametrize(
    "problem", [ConnectionFailed("cut", sent=True), ServiceError("busy", code=0), TaskNotFound("no task yet")]
)
async def test_a_lookup_that_fails_keeps_the_address(tmp_path: Path, problem: WiroError) -> None:
    """A service that lags may not even find the task; the file may be there all the same."""
    lookups = Lookups(problem)
    path = await downloader(Cdn(reply(404), reply(404)), refresh=lookups).save(
        output(), tmp_path / "clip.mp4", None
    )
    assert path.read_bytes() == DATA
    assert len(lookups.asked) == 2


async def test_a_lookup_that_is_refused_ends_the_download(tmp_path: Path) -> None:
    """Without access nothing will change."""
    lookups = Lookups(AuthenticationError("no"))
    with pytest.raises(AuthenticationError):
        await downloader(Cdn(reply(404)), refresh=lookups).save(output(), tmp_path / "clip.mp4", None)


async def test_an_output_of_no_known_task_is_not_looked_up() -> None:
    """There is nothing to look it up by; it is waited for all the same."""
    lookups = Lookups(output())
    loader = downloader(Cdn(reply(404)), refresh=lookups)
    assert await loader.read(output(task_id=""), None, len(DATA)) == DATA
    assert not lookups.asked


# -- redirects -------------------------------------------------------------------------------------------


def redirect(location: str, status: int = 302) -> Step:
    """Return a step that redirects."""
    return reply(status, b"ignored", Location=location)


@one_loop
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(status: int) -> None:
    """To a known host, absolute or relative."""
    cdn = Cdn(redirect("https://cdn.wiro.ai/x", status), redirect("../y?z=1", status))
    assert await downloader(cdn).read(output(), None, len(DATA)) == DATA
    assert [str(request.url) for request in cdn.requests] == [
        URL,
        "https://cdn.wiro.ai/x",
        "https://cdn.wiro.ai/y?z=1",
    ]
    assert [request.headers["host"] for request in cdn.requests] == [
        "cdn1.wiro.ai",
        "cdn.wiro.ai",
        "cdn.wiro.ai",
    ]


async def test_three_redirects_are_enough(tmp_path: Path) -> None:
    """The fourth redirect is an error."""
    assert await downloader(Cdn(*[redirect("/x")] * 3)).read(output(), None, len(DATA)) == DATA
    error = await fails(Cdn(*[redirect("/x")] * 4), tmp_path / "clip.mp4")
    assert "more than 3 redirects" in error.message


async def test_a_redirected_download_is_resumed() -> None:
    """After a break the redirect is followed again, with the same Range."""
    cdn = Cdn(redirect("/x"), cut_after(1000), redirect("/x"))
    assert await downloader(cdn).read(output(), None, len(DATA)) == DATA
    assert cdn.ranges == [None, None, "bytes=1000-", "bytes=1000-"]


@one_loop
@pytest.mark.parametrize(
    "location",
    [
        "http://cdn1.wiro.ai/x",
        "https://evil.example/x",
        "//evil.example/x",
        "https://user:password@cdn1.wiro.ai/x",
        "https://127.0.0.1/x",
        "file:///etc/passwd",
        "https://[bad/x",
        "https://xn--a/x",
        "http://",
        "",
    ],
)
async def test_no_redirect_leads_elsewhere(tmp_path: Path, location: str) -> None:
    """Every hop is checked as the address itself is."""
    cdn = Cdn(redirect(location))
    error = await fails(cdn, tmp_path / "clip.mp4")
    assert "address" in error.message
    assert len(cdn.requests) == 1


# -- addresses -------------------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize(
    "url",
    [
        "https://cdn1.wiro.ai/x",
        "https://CDN1.Wiro.AI:443/x",
        "https://cdn.wiro.ai/x?token=1#part",
        "https://api.wiro.ai/x",
        "https://trusted.example/x",
        "https://bücher.example/x",
        "https://xn--bcher-kva.example/x",
    ],
)
async def test_known_hosts_are_asked(url: str) -> None:
    """The service's hosts, and those that the user named, however they are written."""
    assert await downloader(Cdn()).read(output(url), None, len(DATA)) == DATA


@one_loop
@pytest.mark.parametrize(
    "url",
    [
        "http://cdn1.wiro.ai/x",
        "https://evil.example/x",
        "https://cdn1.wiro.ai.evil.example/x",
        "https://evilcdn1.wiro.ai/x",
        "https://wiro.ai/x",
        "https://cdn1.wiro.ai./x",
        "https://cdn1.wiro.ai:8443/x",
        "https://cdn1.wiro.ai:80/x",
        "https://cdn1.wiro.ai@evil.example/x",
        "https://user@cdn1.wiro.ai/x",
        "https://user:password@cdn1.wiro.ai/x",
        "https://cdn1.wіro.ai/x",
        "https://cdn1。wiro。ai.evil.example/x",
        "https://xn--cdn1-wiro.ai/x",
        "https://xn--a/x",
        "https://127.0.0.1/x",
        "http://127.0.0.1/x",
        "http://localhost/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://2130706433/x",
        "https://0/x",
        "file:///etc/passwd",
        "ftp://cdn1.wiro.ai/x",
        "javascript:alert(1)",
        "data:text/plain,x",
        "//cdn1.wiro.ai/x",
        "/etc/passwd",
        "cdn1.wiro.ai/x",
        "https:cdn1.wiro.ai/x",
        "https://",
        "https:///x",
        "https://[bad/x",
        "https://cdn1.wiro.ai:port/x",
        "https://cdn1.wiro.ai\\@evil.example/x",
        "https://cdn1.wiro.ai\r\nHost: evil.example/x",
        "https://" + "x" * 70_000,
    ],
)
async def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    """Nothing is asked, and no file made, for an address that is not a known host's over TLS."""
    cdn = Cdn()
    error = await fails(cdn, tmp_path / "new" / "clip.mp4", output(url))
    assert "address" in error.message
    assert "password" not in error.message
    assert not cdn.requests
    assert not entries(tmp_path)


async def test_an_output_without_an_address(tmp_path: Path) -> None:
    """A language model's answer has no file; the error says where it is."""
    assert "`content`" in (await fails(Cdn(), tmp_path / "clip.mp4", output(""))).message


async def test_loopback_is_for_the_sandbox_only() -> None:
    """A client of a local service may read from this machine, over plain http and at any port."""
    for url in ("http://127.0.0.1:8080/x", "http://localhost/x", "https://[::1]:1/x"):
        local = downloader(Cdn(), base_url="http://127.0.0.1:9/v1")
        assert await local.read(output(url), None, len(DATA)) == DATA
    with pytest.raises(DownloadError, match="address"):
        await local.read(output("http://10.0.0.1/x"), None, 1)


# -- the part file ---------------------------------------------------------------------------------------


async def leave_part(folder: Path, count: int, what: Output | None = None) -> Path:
    """Leave a part file of *count* bytes behind, as a process that was killed does."""
    with pytest.raises(DownloadError):
        await downloader(Cdn(cut_after(count), reply(410))).save(what or output(), folder / "clip.mp4", None)
    (part,) = parts(folder)
    assert part.stat().st_size == count
    return part


async def test_an_earlier_processs_part_is_gone_on_with(tmp_path: Path) -> None:
    """What was received before is asked for no more."""
    await leave_part(tmp_path, 1000)
    cdn = Cdn()
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert cdn.ranges == ["bytes=1000-"]
    assert path.read_bytes() == DATA
    assert not parts(tmp_path)


@one_loop
@pytest.mark.parametrize(
    "other",
    [
        {"task_id": "2222"}, {"index": 1}, {"name": "1.mp4"}, {"task_id": "", "url": URL + "?other"},
    ],
)  # fmt: skip
async def test_another_outputs_part_is_left_alone(tmp_path: Path, other: dict[str, Any]) -> None:
    """A part file belongs to one output of one task; where no task is known, to one address."""
    part = await leave_part(tmp_path, 1000)
    cdn = Cdn()
    await downloader(cdn).save(output(**other), tmp_path / "clip.mp4", None)
    assert cdn.ranges == [None]
    assert parts(tmp_path) == [part]


async def test_a_part_outlives_the_address(tmp_path: Path) -> None:
    """A signed address expires: the part is gone on with at the new one, and does not stay for ever."""
    await leave_part(tmp_path, 1000)
    cdn = Cdn()
    path = await downloader(cdn).save(output(URL + "?signature=new"), tmp_path / "clip.mp4", None)
    assert cdn.ranges == ["bytes=1000-"]
    assert path.read_bytes() == DATA
    assert not parts(tmp_path)


async def test_a_part_is_not_trusted_without_a_size(tmp_path: Path) -> None:
    """Where no size can prove the result, an old part is thrown away."""
    await leave_part(tmp_path, 1000)
    cdn = Cdn()
    path = await downloader(cdn).save(output(size=None), tmp_path / "clip.mp4", None)
    assert cdn.ranges == [None]
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("surplus", [0, 1])
async def test_a_part_that_leaves_nothing_to_ask_for_is_not_trusted(tmp_path: Path, surplus: int) -> None:
    """A part as long as the file, or longer, is thrown away."""
    part = await leave_part(tmp_path, 1000)
    part.write_bytes(b"?" * (len(DATA) + surplus))
    cdn = Cdn()
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert cdn.ranges == [None]
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling"])
async def test_nothing_is_written_through_a_planted_link(tmp_path: Path, kind: str) -> None:
    """It is removed from the part file's place; what it leads to is not touched."""
    part = await leave_part(tmp_path, 1000)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part.unlink()
    if kind == "hard":
        os.link(victim, part)
    else:
        part.symlink_to(victim if kind == "symbolic" else tmp_path / "nothing")
    path = await downloader(Cdn()).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert victim.read_bytes() == b"precious"
    assert sorted(entries(tmp_path)) == ["clip.mp4", "victim"]


async def test_what_is_no_file_at_the_parts_place(tmp_path: Path) -> None:
    """A pipe or a folder in the way is an error that says so, and nothing hangs."""
    part = await leave_part(tmp_path, 1000)
    part.unlink()
    os.mkfifo(part)
    assert "not a regular file" in (await fails(Cdn(), tmp_path / "clip.mp4")).message
    part.unlink()
    part.mkdir()
    assert "not a regular file" in (await fails(Cdn(), tmp_path / "clip.mp4")).message


async def test_a_target_that_is_no_place_for_a_file(tmp_path: Path) -> None:
    """A file where a folder should be: the path was given wrong."""
    (tmp_path / "file").write_bytes(b"x")
    loader = downloader(Cdn())
    with pytest.raises(InvalidInput, match="it is a file, or lies below one"):
        await loader.save(output(), tmp_path / "file" / "clip.mp4", None)
    with pytest.raises(InvalidInput, match="it is a file, or lies below one"):
        await loader.save_all([output()], tmp_path / "file", None)


async def test_a_folder_that_may_not_be_written(tmp_path: Path, no_file_opens: Denial) -> None:
    """The file system's refusal comes out as it is, before anything is asked."""
    cdn = Cdn()
    loader = downloader(cdn)
    with no_file_opens(), pytest.raises(PermissionError):
        await loader.save(output(), tmp_path / "clip.mp4", None)
    assert not cdn.requests


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size* bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk(tmp_path: Path) -> None:
    """A disk that takes no more is an OSError; no target appears, and what was stored is gone on with."""
    await leave_part(tmp_path, 1000)
    with room_for(1000), pytest.raises(OSError, match="File too large") as caught:
        await downloader(Cdn()).save(output(), tmp_path / "clip.mp4", None)
    assert caught.value.errno == errno.EFBIG
    assert not (tmp_path / "clip.mp4").exists()
    cdn = Cdn()
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert cdn.ranges == ["bytes=1000-"]
    assert path.read_bytes() == DATA


async def test_a_disk_that_cannot_keep_its_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the flush to the disk fails, the file is not renamed: a name means a whole, stored file."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        await downloader(Cdn()).save(output(), tmp_path / "clip.mp4", None)
    assert not (tmp_path / "clip.mp4").exists()
    assert parts(tmp_path)[0].read_bytes() == DATA


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a folder")
async def test_a_name_is_on_the_disk_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is flushed before it gets its name, and then the folder, which holds the name."""
    order: list[str] = []
    flush = os.fsync

    def watch(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        order.append(f"{'folder' if is_folder else 'file'}, {'named' if saved.exists() else 'unnamed'}")
        flush(descriptor)

    saved = tmp_path / "clip.mp4"
    monkeypatch.setattr(os, "fsync", watch)
    await downloader(Cdn()).save(output(), saved, None)
    assert order == ["file, unnamed", "folder, named"]


async def test_two_saves_of_one_output_at_once(tmp_path: Path) -> None:
    """The second one is refused while the first is under way; the first is not disturbed."""
    began, may_go_on = anyio.Event(), anyio.Event()

    async def pause() -> None:
        began.set()
        await may_go_on.wait()

    loader = downloader(Cdn(reply(200, DATA[:1000], pause, DATA[1000:])))
    async with anyio.create_task_group() as group:
        group.start_soon(loader.save, output(), tmp_path / "clip.mp4", None)
        await began.wait()
        error = await fails(Cdn(), tmp_path / "clip.mp4")
        assert "another download" in error.message
        may_go_on.set()
    assert (tmp_path / "clip.mp4").read_bytes() == DATA


@pytest.fixture
def before_locking(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Return what is done before a file is locked."""
    to_do: list[Callable[[], None]] = []
    lock = fcntl.flock

    def flock(file: Any, how: int) -> None:
        for action in to_do:
            action()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    return to_do


async def test_a_part_that_was_just_renamed_is_not_written(
    tmp_path: Path, before_locking: list[Callable[[], None]]
) -> None:
    """A save that opened the part of another one as that finished leaves the finished file alone."""
    part = await leave_part(tmp_path, 1000)
    target = tmp_path / "clip.mp4"

    def finish() -> None:
        part.write_bytes(DATA)
        part.replace(target)

    before_locking.append(finish)
    with pytest.raises(DownloadError, match="another download"):
        await downloader(Cdn()).save(output(), target, None)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["unsupported", "missing"])
async def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_locking: list[Callable[[], None]], kind: str
) -> None:
    """Where files cannot be locked they are saved without."""

    def unsupported() -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if kind == "missing":
        monkeypatch.setattr(_download, "fcntl", None)
    else:
        before_locking.append(unsupported)
    path = await downloader(Cdn()).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("name", ["x" * 250, "日" * 80])
async def test_a_target_with_a_long_name(tmp_path: Path, name: str) -> None:
    """The part file's name is cut, so that any name that fits will do."""
    path = await downloader(Cdn()).save(output(), tmp_path / name, None)
    assert path.read_bytes() == DATA


# -- time ------------------------------------------------------------------------------------------------


async def hang(_request: httpx.Request | None = None) -> httpx.Response:
    """Never answer."""
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_silent_server_is_left_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer, or no byte, for a while is a break like any other."""
    monkeypatch.setattr(_download, "STALL_SECONDS", 0.02)
    stalled = reply(200, DATA[:1000], hang, Content_Length=str(len(DATA)), ETag=ETAG)
    cdn = Cdn(hang, stalled)
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert path.read_bytes() == DATA
    assert cdn.ranges == [None, None, "bytes=1000-"]


@pytest.mark.virtual_time
async def test_half_a_minute_is_how_long_a_server_may_be_silent() -> None:
    """Before its answer, and between two bytes of it."""
    stalled = reply(200, DATA[:1000], hang, Content_Length=str(len(DATA)), ETag=ETAG)
    start = anyio.current_time()
    assert await downloader(Cdn(hang, stalled)).read(output(), None, len(DATA)) == DATA
    assert anyio.current_time() - start == pytest.approx(30.0 + 30.0)


@pytest.mark.virtual_time
@pytest.mark.parametrize("timeout", [0.05, None])
async def test_the_time_runs_out(tmp_path: Path, timeout: float | None) -> None:
    """The whole download has a deadline, the caller's or the client's; what was received is kept."""
    cdn = Cdn(reply(200, DATA[:1000], hang, Content_Length=str(len(DATA))))
    loader = downloader(cdn, download_timeout=0.05)
    with pytest.raises(DownloadError, match=r"not whole after 0\.05 s \(1000 of 262144 bytes\)"):
        await loader.save(output(), tmp_path / "clip.mp4", timeout)
    assert parts(tmp_path)[0].read_bytes() == DATA[:1000]
    with pytest.raises(DownloadError, match=r"\(0 of \? bytes\)"):
        await downloader(Cdn(hang)).read(output(size=None), 0.01, 1)


async def test_a_timeout_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Before a file is made."""
    nan, loader = float("nan"), downloader(Cdn(hang))
    for call in (loader.save(output(), tmp_path / "clip.mp4", nan), loader.read(output(), nan, 1)):
        with pytest.raises(ConfigurationError, match="timeout is nan"):
            await call
    assert not parts(tmp_path)


async def test_waiting_for_a_slot_counts(tmp_path: Path) -> None:
    """At most `max_downloads` run at a time, and the time in the queue is part of the timeout."""
    began, may_go_on = anyio.Event(), anyio.Event()

    async def pause() -> None:
        began.set()
        await may_go_on.wait()

    cdn = Cdn(reply(200, DATA[:1000], pause, DATA[1000:]))
    loader = downloader(cdn, max_downloads=1)
    async with anyio.create_task_group() as group:
        group.start_soon(loader.save, output(), tmp_path / "first.mp4", None)
        await began.wait()
        with pytest.raises(DownloadError, match="not whole"):
            await loader.save(output(), tmp_path / "second.mp4", 0.02)
        assert len(cdn.requests) == 1
        may_go_on.set()
    await loader.save(output(), tmp_path / "second.mp4", None)


# -- cancellation ----------------------------------------------------------------------------------------


async def test_a_cancelled_save_can_be_gone_on_with(tmp_path: Path) -> None:
    """After a cancellation no lock is held, and what was received is used by the next save."""
    began = anyio.Event()

    async def pause() -> None:
        began.set()
        await anyio.sleep_forever()

    stalled = Cdn(reply(200, DATA[:1000], pause, Content_Length=str(len(DATA))))
    async with anyio.create_task_group() as group:
        group.start_soon(downloader(stalled).save, output(), tmp_path / "clip.mp4", None)
        await began.wait()
        group.cancel_scope.cancel()
    cdn = Cdn()
    path = await downloader(cdn).save(output(), tmp_path / "clip.mp4", None)
    assert cdn.ranges == ["bytes=1000-"]
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("turns", range(4))
async def test_a_save_that_is_cancelled_twice_closes_its_file(turns: int, tmp_path: Path) -> None:
    """The second ``task.cancel()`` comes while the first one's clean-up is about to begin."""
    began = anyio.Event()

    async def pause() -> None:
        began.set()
        await anyio.sleep_forever()

    stalled = Cdn(reply(200, DATA[:1000], pause, Content_Length=str(len(DATA))))
    saving = asyncio.create_task(downloader(stalled).save(output(), tmp_path / "clip.mp4", None))
    await began.wait()
    saving.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    # A file that was left open would still be locked.
    assert (await downloader(Cdn()).save(output(), tmp_path / "clip.mp4", None)).read_bytes() == DATA


def is_locked(file: BinaryIO) -> bool:
    """Tell whether somebody else holds the lock of an open part file, which ends when it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@pytest.fixture
def slow_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[threading.Event, threading.Event, list[str]]]:
    """Make writing wait in its thread; the list tells what happened in which order."""
    writing, may_write = threading.Event(), threading.Event()
    happened: list[str] = []
    flush = _download._PartFile._flush

    def slow_flush(part: _download._PartFile) -> None:
        if not writing.is_set():
            writing.set()
            assert may_write.wait(10)
            happened.append("written")
        flush(part)

    monkeypatch.setattr(_download._PartFile, "_flush", slow_flush)
    yield writing, may_write, happened
    may_write.set()


@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})])
async def test_a_native_cancel_closes_no_file_under_a_writing_thread(
    tmp_path: Path, slow_disk: tuple[threading.Event, threading.Event, list[str]]
) -> None:
    """A cancellation waits for the write that is under way, and only then the file is closed."""
    writing, may_write, happened = slow_disk
    save = downloader(Cdn()).save(output(), tmp_path / "clip.mp4", None)
    task = asyncio.get_running_loop().create_task(save)
    await anyio.to_thread.run_sync(writing.wait)
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    (part,) = parts(tmp_path)
    with part.open("rb") as file:
        assert (happened, is_locked(file)) == ([], True)
        may_write.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (happened, is_locked(file)) == (["written"], False)


# -- into memory, and the rest ---------------------------------------------------------------------------


async def test_reading_into_memory_has_a_limit() -> None:
    """`read` gives the bytes, and refuses more than it may take."""
    assert await downloader(Cdn(cut_after(1000))).read(output(), None, len(DATA)) == DATA
    with pytest.raises(DownloadError, match=f"larger than max_bytes={len(DATA) - 1}") as caught:
        await downloader(Cdn()).read(output(), None, len(DATA) - 1)
    assert caught.value.path is None


async def test_reading_into_memory_starts_again() -> None:
    """What does not fit together is thrown away in memory too."""
    cdn = Cdn(cut_after(1000), lambda _: httpx.Response(200, content=DATA))
    assert await downloader(cdn).read(output(), None, len(DATA)) == DATA


async def test_every_answer_is_closed() -> None:
    """Whatever becomes of an answer, it is closed, so that its connection is free."""
    bodies = [Pieces(b"x"), Pieces(DATA[:10], CUT), Pieces(DATA)]
    headers = {"Location": "/x"}
    script: list[Step] = [
        lambda _: httpx.Response(302, headers=headers, stream=bodies[0]),
        lambda _: httpx.Response(200, stream=bodies[1]),
        lambda _: httpx.Response(200, stream=bodies[2]),
    ]
    await downloader(Cdn(*script)).read(output(), None, len(DATA))
    assert all(body.closed for body in bodies)


async def test_a_transport_that_does_not_close_is_not_waited_for() -> None:
    """Closing an answer has a deadline of its own: a second."""

    class Stuck(Pieces):
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    cdn = Cdn(lambda _: httpx.Response(200, stream=Stuck(DATA)))
    assert await downloader(cdn).read(output(), None, len(DATA)) == DATA


async def test_closing_closes_the_connections() -> None:
    """The downloader owns what sends its requests, even under cancellation."""
    cdn = Cdn()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await downloader(cdn).aclose()
    assert cdn.closed


async def test_errors_name_the_output(tmp_path: Path) -> None:
    """An error says which output of which task, with the address where there is no name."""
    error = await fails(Cdn(reply(410)), tmp_path / "a.mp4")
    assert error.message == ("output '0.mp4' of task 2221: HTTP 410; outputs are kept for a limited time")
    nameless = await fails(Cdn(reply(410)), tmp_path / "b.mp4", output(name="", task_id=""))
    assert nameless.message.startswith(f"output {URL!r} of task ?:")


@pytest.mark.parametrize("kind", [b"\xff\xd8\xff\xe0", b"?"])
async def test_a_mislabelled_file_in_a_folder_is_named_by_its_content(tmp_path: Path, kind: bytes) -> None:
    """A path of the caller's own is kept."""
    data = kind.ljust(20, b"x") + DATA[20:]
    named = await downloader(Cdn(data=data)).save(output(), tmp_path, None)
    assert named.suffix == (".jpg" if len(kind) > 1 else ".mp4")
    own = await downloader(Cdn(data=data)).save(output(), tmp_path / "own.mp4", None)
    assert own.name == "own.mp4"
    assert own.read_bytes() == named.read_bytes() == data
