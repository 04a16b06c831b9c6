"""Signatures that openssl agrees with, to one origin only, and no trace of them afterwards."""

from __future__ import annotations

import asyncio
import copy
import hmac
import itertools
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import KEY, SECRET
from tests.depth import examples, plays
from tests.processes import calls_of_a_process, nonces_of_a_process
from wiro_async import Secret
from wiro_async._http.connections import address_of
from wiro_async._http.messages import Content, Request
from wiro_async._http.signing import NonceSource, Signer, SigningTransport, next_nonce
from wiro_async.sandbox import Sandbox

ORIGIN = ("https", "api.wiro.ai", 443)
CALLS = int(os.environ.get("SIGNED_CALLS", "800"))
URL = "https://api.wiro.ai/v1/Task/Detail"

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80)


def openssl_hmac(key: str, message: str) -> str:
    """Return what the openssl command makes of it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command, which judges the signatures, is not installed")
    command = [openssl, "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.encode().hex()}"]
    done = subprocess.run(command, input=message.encode(), capture_output=True, check=True)
    return done.stdout.decode().split("= ")[1].strip()


def signed(signer: Signer) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in signer.headers()}


def test_known_vector() -> None:
    """The signature is HMAC-SHA256 of secret + nonce under the key, in lower-case hex (fixed by openssl)."""
    headers = signed(Signer(Secret("my-key"), Secret("my-secret"), lambda: 1734513807))
    assert headers == {
        "x-api-key": "my-key",
        "x-nonce": "1734513807",
        "x-signature": "5624166e9a51d622e2286b849bca78f503555f93dc17e832ad669484ea019a2e",
    }


def test_the_command_of_the_model_pages_gives_the_same() -> None:
    """The shell line that the service prints, with ``-hmac``, makes the header that is sent."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command, which judges the signatures, is not installed")
    headers = signed(Signer(Secret(KEY), Secret(SECRET)))
    line = [openssl, "dgst", "-sha256", "-hmac", KEY]
    message = (SECRET + headers["x-nonce"]).encode()
    printed = subprocess.run(line, input=message, capture_output=True, check=True).stdout.decode()
    assert printed.strip().endswith(f"= {headers['x-signature']}")


@examples(15)
@given(key=printable, secret=printable, nonce=st.integers(0, 2**53))
def test_openssl_agrees_for_any_key(key: str, secret: str, nonce: int) -> None:
    """For every printable key, secret and nonce the signature is the one that openssl computes."""
    headers = signed(Signer(Secret(key), Secret(secret), lambda: nonce))
    assert headers["x-signature"] == openssl_hmac(key, f"{secret}{nonce}")


def test_a_key_only_project_sends_its_key_only() -> None:
    """Without a secret there is no nonce and no signature."""
    assert Signer(Secret(KEY), None).headers() == [(b"x-api-key", KEY.encode())]


def test_every_attempt_has_a_fresh_nonce() -> None:
    """Two calls of `headers()` never share a nonce, and so never a signature."""
    signer = Signer(Secret(KEY), Secret(SECRET))
    first, second = signed(signer), signed(signer)
    assert int(second["x-nonce"]) == (int(first["x-nonce"]) + 1) % 2**53
    assert first["x-signature"] != second["x-signature"]


def test_two_signers_share_the_source() -> None:
    """Two clients of one process never use one nonce twice either."""
    nonces = [signed(Signer(Secret(KEY), Secret(SECRET)))["x-nonce"] for _ in range(100)]
    assert len(set(nonces)) == 100


def test_nonces_count_from_a_random_start_and_fit_into_a_float() -> None:
    """They never reach 2**53, but go on at 0; two processes do not begin at one number."""
    nonces = NonceSource(lambda: 2**53 - 2)
    assert [nonces() for _ in range(4)] == [2**53 - 2, 2**53 - 1, 0, 1]
    assert int(signed(Signer(Secret(KEY), Secret(SECRET)))["x-nonce"]) < 2**53
    # The chance that two of these share their first 20 bits is small, and all share them never.
    assert len({NonceSource()() >> 33 for _ in range(8)}) > 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nonces_of_eight_processes_are_all_different(method: str) -> None:
    """200 000 of them, of processes that were forked from one that had used its source, or begun anew."""
    mine = [next_nonce() for _ in range(1000)]
    with warnings.catch_warnings():
        # Of threads that other tests may have left; these children do nothing but count.
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context(method).Pool(8) as pool:
            theirs = pool.map(nonces_of_a_process, range(8), chunksize=1)
    assert len(set().union(mine, *theirs)) == 1000 + 200_000


def test_calls_of_eight_processes_are_accepted_where_no_nonce_may_repeat() -> None:
    """All sign with one key, as the workers of a web server do."""
    with (
        Sandbox(api_key=KEY, api_secret=SECRET, strict_nonce=True, render=False) as sandbox,
        multiprocessing.get_context("spawn").Pool(8) as pool,
    ):
        pool.starmap(calls_of_a_process, [(sandbox.base_url, KEY, SECRET, CALLS // 8)] * 8, chunksize=1)


def test_a_forked_child_begins_anew() -> None:
    """A thread of the parent may hold the lock at the fork: the child has another lock, and another start."""
    starts = iter([5, 1000])
    source = NonceSource(lambda: next(starts))
    assert source() == 5
    with source._lock:
        source.begin()
        assert source() == 1000


@pytest.mark.deep
def test_nonces_of_eight_threads_are_all_different() -> None:
    """Threads that ask at once get up to a million different nonces, each thread's in growing order."""
    each = plays(15_000, 125_000)
    source = NonceSource()
    results: list[list[int]] = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def ask(mine: list[int]) -> None:
        barrier.wait()
        mine.extend(source() for _ in range(each))

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set().union(*results)) == 8 * each
    # In growing order, but where the count has come to its end.
    assert all(sum(after < before for before, after in itertools.pairwise(mine)) <= 1 for mine in results)


class Inner(httpx.AsyncBaseTransport):
    """Records what it is given, and answers or fails."""

    def __init__(self, fail: Callable[[httpx.Request], BaseException] | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.fail = fail
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.fail is not None:
            headers = dict(request.headers)
            await self._deeper(headers)
            raise self.fail(request)
        return httpx.Response(200, request=request)

    async def _deeper(self, headers: dict[str, str]) -> None:
        assert headers

    async def aclose(self) -> None:
        self.closed = True


def unsigned(url: str = URL, *headers: tuple[bytes, bytes]) -> Request:
    """Return a request as the transport makes it."""
    return Request(address_of(httpx.URL(url), [(b"A", b"b")]), list(headers), Content(b"body"))


def transport(inner: httpx.AsyncBaseTransport, secret: str | None = SECRET) -> SigningTransport:
    signer = Signer(Secret(KEY), None if secret is None else Secret(secret))
    return SigningTransport(inner, signer, ORIGIN)


async def test_the_headers_are_added_to_a_copy() -> None:
    """What is sent is signed; the request that the caller holds is not."""
    inner = Inner()
    request = unsigned(URL, (b"C", b"d"))
    response = await transport(inner).send(request)
    assert response.status == 200
    (sent,) = inner.requests
    assert (sent.method, str(sent.url), sent.stream) == ("POST", URL, request.body)
    assert sent.extensions == {
        "wiro_async.max_idle": request.max_idle,
        "wiro_async.progress": request.progress,
    }
    assert sent.headers.raw[:2] == [(b"A", b"b"), (b"C", b"d")]
    assert [name for name, _ in sent.headers.raw[2:]] == [b"x-api-key", b"x-nonce", b"x-signature"]
    assert request.headers == [(b"C", b"d")]
    assert request.address.headers == [(b"A", b"b")]
    assert b"x-api-key" not in request.address.head


async def test_every_send_is_signed_anew() -> None:
    """The same request sent twice goes out with two nonces and two signatures."""
    inner = Inner()
    both = transport(inner)
    request = unsigned()
    await both.send(request)
    await both.send(request)
    for header in ("x-nonce", "x-signature"):
        first, second = (sent.headers[header] for sent in inner.requests)
        assert first != second


@pytest.mark.parametrize(
    "url",
    [
        "http://api.wiro.ai/v1/x",
        "https://api.wiro.ai:8443/v1/x",
        "https://cdn1.wiro.ai/v1/x",
        "https://wiro.ai/v1/x",
        "https://api.wiro.ai.evil.example/v1/x",
        "https://api.wiro.ai@evil.example/v1/x",
        "https://api.wiro.ai./v1/x",
        "https://api.wіro.ai/v1/x",
        "https://127.0.0.1/v1/x",
        "ftp://api.wiro.ai/v1/x",
    ],
)
async def test_other_origins_get_nothing(url: str) -> None:
    """Another scheme, host or port, however alike, is sent no credential."""
    inner = Inner()
    await transport(inner).send(unsigned(url))
    assert not [name for name in inner.requests[0].headers if name.startswith("x-")]
    assert KEY not in str(inner.requests[0].headers.raw)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.WIRO.AI:443/v1/x", ORIGIN),
        ("http://127.0.0.1/x", ("http", "127.0.0.1", 80)),
        ("http://[::1]:8080/x", ("http", "::1", 8080)),
        ("https://xn--bcher-kva.example/x", ("https", "xn--bcher-kva.example", 443)),
    ],
)
async def test_the_origin_in_other_words(url: str, origin: tuple[str, str, int]) -> None:
    """The same origin is signed for however it is written: case, default port, IPv6, punycode."""
    inner = Inner()
    sender = SigningTransport(inner, Signer(Secret(KEY), None), origin)
    await sender.send(unsigned(url))
    assert inner.requests[0].headers["x-api-key"] == KEY


async def test_closing_closes_the_inner_transport() -> None:
    """The signing transport owns the one that sends."""
    inner = Inner()
    await transport(inner).aclose()
    assert inner.closed


# -- what comes back -------------------------------------------------------------------------------------


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and everything that it came from or holds."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo += [link.__cause__, link.__context__]
        todo += link.exceptions if isinstance(link, BaseExceptionGroup) else ()


def shown(error: BaseException) -> str:
    """Return all that a debugger, a log or a test runner could print of *error*."""
    pieces: list[str] = []
    for link in chain(error):
        pieces += traceback.TracebackException.from_exception(link, capture_locals=True).format()
        pieces += [repr(link), str(link.__dict__), *map(str, getattr(link, "__notes__", []))]
        if isinstance(link, httpx.RequestError):
            pieces += [str(link.request.headers.raw), repr(link.request)]
    return "".join(pieces)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Return *error* as it is after having been raised from *cause*, deep in frames that hold the key."""
    try:
        signed_headers = {"x-api-key": KEY}
        try:
            assert signed_headers
            raise cause
        except BaseException as caught:
            raise error from caught
    except BaseException as final:
        return final


def in_context(error: BaseException, context: BaseException) -> BaseException:
    """Return *error* as it is after having been raised while *context* was handled."""
    signed_headers = {"x-api-key": KEY}
    try:
        try:
            raise context
        finally:
            assert signed_headers
            raise error
    except BaseException as final:
        return final


def circular(_request: httpx.Request) -> BaseException:
    error = httpx.ReadError("circular")
    other = ValueError("other")
    other.__context__ = error
    error.__cause__ = other
    return error


FAILURES: dict[str, Callable[[httpx.Request], BaseException]] = {
    "plain": lambda request: httpx.ConnectError("refused", request=request),
    "caused": lambda request: caused(httpx.ReadError("cut", request=request), OSError("reset")),
    "context": lambda request: in_context(httpx.WriteError("cut", request=request), OSError("reset")),
    "deep": lambda request: caused(
        httpx.ReadTimeout("slow", request=request), in_context(TimeoutError(), OSError())
    ),
    "another's": lambda request: caused(EOFError("cut"), OSError("reset")),
    "group": lambda request: BaseExceptionGroup(
        "several",
        [
            caused(httpx.ReadError("one", request=request), OSError()),
            BaseExceptionGroup("inner", [in_context(ValueError("two"), OSError())]),
        ],
    ),
    "circular": circular,
    "interrupt": lambda request: caused(KeyboardInterrupt(), OSError()),
}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", FAILURES)
async def test_no_error_brings_the_key_back(name: str) -> None:
    """Whatever is raised below, its frames, causes, contexts and requests hold no credential."""
    inner = Inner(FAILURES[name])
    with pytest.raises(BaseException) as caught:  # noqa: PT011  (it is about any exception)
        await transport(inner).send(unsigned())
    assert inner.requests[0].headers["x-api-key"] == KEY
    text = shown(caught.value)
    for secret in (KEY, SECRET, inner.requests[0].headers["x-signature"]):
        assert secret not in text
    for link in chain(caught.value):
        if isinstance(link, httpx.RequestError):
            assert str(link.request.url) == URL
            assert "x-api-key" not in link.request.headers


def test_the_check_itself_finds_a_key() -> None:
    """The text that the test above searches would show a key that a frame held."""
    assert KEY in shown(caused(ValueError(), OSError()))


async def test_a_cancellation_brings_no_key_back() -> None:
    """A cancelled request's exception has no frames that hold credentials."""
    text = ""

    class Waiting(Inner):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            headers = dict(request.headers)
            assert headers["x-api-key"] == KEY
            await anyio.sleep_forever()
            raise AssertionError

    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await transport(Waiting()).send(unsigned())
        except BaseException as error:
            text = shown(error)
            raise
    assert scope.cancelled_caught
    assert "Cancel" in text
    assert KEY not in text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancellation_stays_one() -> None:
    """``task.cancel()`` comes out as the CancelledError that asyncio expects."""

    class Waiting(Inner):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError

    work = transport(Waiting()).send(unsigned())
    task = asyncio.get_running_loop().create_task(work)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_what_the_caller_was_handling_keeps_its_frames() -> None:
    """A request made in an `except` block leaves the caller's own exception whole."""
    failing = transport(Inner(FAILURES["caused"]))
    own = LookupError("the caller's own")

    async def handle() -> None:
        try:
            raise own
        except LookupError:
            await failing.send(unsigned())

    with pytest.raises(httpx.ReadError) as caught:
        await handle()
    assert own in list(chain(caught.value))
    assert own.__traceback__ is not None
    assert KEY not in shown(caught.value)


def shows_a_credential(error: BaseException) -> bool:
    """Tell whether an error does; pytest would keep the texts that are compared in the test's own frame."""
    return re.search(f"{KEY}|{SECRET}", shown(error)) is not None


def test_a_signer_that_cannot_be_made_shows_nothing_either() -> None:
    """A secret that went through a pickle cannot be revealed; that error holds no key."""
    lost: Secret = pickle.loads(pickle.dumps(Secret(SECRET)))
    with pytest.raises(ValueError, match="pickle") as caught:
        Signer(Secret(KEY), lost)
    assert not shows_a_credential(caught.value)


async def test_a_signer_that_fails_shows_nothing_either() -> None:
    """Whatever goes wrong while a request is signed, the frames of the error hold no key."""

    def fail() -> int:
        raise OverflowError("no nonce is left")

    signer = Signer(Secret(KEY), Secret(SECRET), fail)
    with pytest.raises(OverflowError) as caught:
        signer.headers()
    assert not shows_a_credential(caught.value)
    with pytest.raises(OverflowError) as caught:
        await SigningTransport(Inner(), signer, ORIGIN).send(unsigned())
    assert not shows_a_credential(caught.value)


@pytest.mark.parametrize("secret", [None, Secret(SECRET)], ids=["key-only", "signed"])
def test_a_signer_is_not_copied(secret: Secret | None) -> None:
    """A pickle or a copy of it would carry the credentials out of here."""
    signer = Signer(Secret(KEY), secret)
    for away in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="credentials"):
            away(signer)


async def test_the_error_itself_comes_out() -> None:
    """It is the same exception, without the frames that it had; what it came from has none."""
    cause = OSError()
    error = caused(ValueError("no"), cause)
    assert cause.__traceback__ is not None
    with pytest.raises(ValueError, match="no") as caught:
        await transport(Inner(lambda _: error)).send(unsigned())
    assert caught.value is error
    assert "caused" not in [entry.name for entry in traceback.extract_tb(error.__traceback__)]
    assert cause.__traceback__ is None


def test_representations_hold_no_key() -> None:
    """Printing a signer or a transport shows no credential."""
    signer = Signer(Secret(KEY), Secret(SECRET))
    held = list(vars(signer).values())
    text = repr([signer, vars(signer), SigningTransport(Inner(), signer, ORIGIN), held, [*map(str, held)]])
    assert not re.search(f"{KEY}|{SECRET}", text)


def test_the_standard_library_agrees() -> None:
    """The fixed vector is what the `hmac` module computes another way."""
    digest = hmac.new(b"my-key", digestmod="sha256")
    digest.update(b"my-secret")
    digest.update(b"1734513807")
    headers = signed(Signer(Secret("my-key"), Secret("my-secret"), lambda: 1734513807))
    assert headers["x-signature"] == digest.hexdigest()
    assert "hashlib" in sys.modules
