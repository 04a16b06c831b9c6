"""Public files and their ranges."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from wiro_async.sandbox._cdn import Cdn, File, Store, file_path

DATA = bytes(range(256)) * 4096  # 1 MiB
PATH = file_path("folder", "a b.mp4")
NOW = 1_734_513_807.0


class Rig:
    """A CDN with one file, and what it has counted."""

    def __init__(self) -> None:
        self.store = Store(10 * len(DATA))
        self.store.put(PATH, DATA, "video/mp4", NOW)
        self.leaks: list[bool] = []
        transport = httpx.ASGITransport(Cdn(self.store.get, self.leaks.append))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://cdn/cdn/")

    async def get(self, path: str = PATH, method: str = "GET", **headers: str) -> httpx.Response:
        """Ask for a file; underscores in header names stand for dashes."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client as client:
            return await client.request(method, path, headers=names)


@pytest.fixture
def rig() -> Rig:
    """A new CDN."""
    return Rig()


async def test_a_file_is_served_whole(rig: Rig) -> None:
    """With its type, its size and its validators."""
    reply = await rig.get()
    assert (reply.status_code, reply.content) == (200, DATA)
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["last-modified"] == "Wed, 18 Dec 2024 09:23:27 GMT"
    assert reply.headers["etag"].startswith('"')


async def test_head_tells_the_size_and_sends_nothing(rig: Rig) -> None:
    """As GET would."""
    reply = await rig.get(method="HEAD")
    assert (reply.headers["content-length"], reply.content) == (str(len(DATA)), b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=300000-", 300_000, len(DATA) - 1),
        ("bytes=-10", len(DATA) - 10, len(DATA) - 1),
        ("bytes=-99999999", 0, len(DATA) - 1),
        ("bytes=5-99999999", 5, len(DATA) - 1),
    ],
)
async def test_a_range_is_served(rig: Rig, asked: str, first: int, last: int) -> None:
    """With 206 and its place in the whole."""
    reply = await rig.get(range=asked)
    assert (reply.status_code, reply.content) == (206, DATA[first : last + 1])
    assert reply.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"


@pytest.mark.parametrize("asked", ["bytes=1048576-", "bytes=9999999-99999999", "bytes=-0"])
async def test_a_range_beyond_the_end_is_refused(rig: Rig, asked: str) -> None:
    """With 416 and the size."""
    reply = await rig.get(range=asked)
    assert (reply.status_code, reply.headers["content-range"]) == (416, f"bytes */{len(DATA)}")


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=9-5", "bytes=0-1,5-6", "lines=0-5", "bytes=a-b"])
async def test_other_ranges_are_ignored(rig: Rig, asked: str) -> None:
    """The whole file is a right answer to a range that is not understood."""
    assert (await rig.get(range=asked)).status_code == 200


async def test_a_range_of_a_changed_file_is_the_whole_file() -> None:
    """If-Range holds for the same entity tag or date, and for nothing else."""
    first = await Rig().get()
    for condition in (first.headers["etag"], first.headers["last-modified"]):
        assert (await Rig().get(range="bytes=0-1", if_range=condition)).status_code == 206
    assert (await Rig().get(range="bytes=0-1", if_range='"other"')).status_code == 200


async def test_an_unchanged_file_is_not_sent_again(rig: Rig) -> None:
    """If-None-Match with the right tag gives 304."""
    tag = (await Rig().get()).headers["etag"]
    reply = await rig.get(if_none_match=tag)
    assert (reply.status_code, reply.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "status"), [("folder/a%20b.mp4", 200), ("folder/%61%20b.mp4", 200), ("none", 404)]
)
async def test_files_are_found_however_their_path_is_encoded(rig: Rig, path: str, status: int) -> None:
    """And others are not."""
    assert (await rig.get(path)).status_code == status


async def test_files_are_only_read(rig: Rig) -> None:
    """Other methods get 405."""
    reply = await rig.get(method="POST")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("headers", [{}, {"x_api_key": "k"}, {"x_signature": "s"}])
async def test_credentials_that_were_sent_are_noticed(rig: Rig, headers: dict[str, Any]) -> None:
    """A client that sends its key to the CDN is found out."""
    await rig.get(**headers)
    assert rig.leaks == [bool(headers)]


def test_the_oldest_files_expire_when_room_is_short() -> None:
    """The newest stays, even if it alone is too large."""
    store = Store(10)
    for name in ("a", "b", "a", "c"):
        store.put(name, b"12345", "text/plain", NOW)
    assert [store.get(name) is not None for name in "abc"] == [True, False, True]
    store.put("d", b"12345678901", "text/plain", NOW)
    assert [store.get(name) is not None for name in "acd"] == [False, False, True]
    store.remove("d")
    store.remove("d")
    assert store.get("d") is None


async def test_an_empty_file_has_no_ranges(rig: Rig) -> None:
    """It is served whole, and every range of it is refused."""
    rig.store.put("empty", b"", "text/plain", NOW)
    assert (await rig.get("empty", range="bytes=0-")).status_code == 416


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "aws-chunked", "identity"])
@pytest.mark.parametrize("length", [True, False])
async def test_files_as_object_stores_serve_them(encoding: str, length: bool) -> None:
    """With the encoding that their uploader named, whatever was asked for; and perhaps without a length."""
    file = File(b"abc" * 100, "video/mp4", '"1"', "")
    app = Cdn(lambda _: file, lambda _: None, encoding=encoding, length=length)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cdn") as own:
        for method in ("GET", "HEAD"):
            reply = await own.request(method, "/cdn/x", headers={"accept-encoding": "identity"})
            assert reply.headers.get("content-encoding", "") == encoding
            assert ("content-length" in reply.headers) == length
            assert reply.content == (b"abc" * 100 if method == "GET" else b"")
