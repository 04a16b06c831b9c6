"""Settings: filled in from the environment, checked once, and never quoted when they are secret."""

from __future__ import annotations

import ipaddress
import math
from typing import Any

import attrs
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.depth import examples
from tests.fakes import FakeService, client, ok, task
from wiro_async import ConfigurationError, Limits, Polling, Secret, TaskTimeout
from wiro_async._config import configure


def config(environ: dict[str, str] | None = None, **options: Any) -> Any:
    """Configure with what is given, and nothing else."""
    given_options: dict[str, Any] = {
        "api_key": None, "api_secret": None, "base_url": None, "socket_url": None,
        "download_hosts": frozenset(), "polling": None, "limits": None, **options,
    }  # fmt: skip
    return configure(
        given_options.pop("api_key"), given_options.pop("api_secret"), environ=environ or {}, **given_options
    )


# -- credentials -----------------------------------------------------------------------------------------

CANARY = "canary"

BAD_KEYS: dict[str, object] = {
    "newline at the end": "canary\n",
    "newline at the start": "\ncanary",
    "carriage return and newline": "canary\r\n",
    "a header behind it": "canary\r\nx-evil: 1",
    "newline within": "cana\nry-canary",
    "carriage return within": "cana\rry-canary",
    "NUL": "canary\0",
    "tab at the end": "canary\t",
    "tab within": "canary\tcanary",
    "vertical tab": "canary\v",
    "form feed": "canary\f",
    "escape": "canary\x1b[31m",
    "backspace": "canary\b",
    "delete": "canary\x7f",
    "leading space": " canary",
    "trailing space": "canary ",
    "non-breaking space": "canary\xa0",
    "umlaut": "cänary-canary",
    "Cyrillic letter": "canаry-canary",
    "full-width letters": "ｃanary-canary",
    "emoji": "canary🐤",
    "typographic quotes": "“canary”",
    "byte order mark": "\ufeffcanary",
    "zero-width space": "canary\u200b",
    "half a surrogate pair": "canary\ud800",
    "next line": "canary\x85",
    "line separator": "canary\u2028",
    "bytes": b"canary",
    "a list": ["canary"],
    "a Secret": Secret("canary"),
    "a number": 17,
}


@pytest.mark.parametrize("name", ["api_key", "api_secret"])
@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_key_that_cannot_be_sent_is_refused_unseen(case: str, name: str) -> None:
    """The message names the argument and the fault, and holds nothing of the value."""
    options: dict[str, Any] = {"api_key": "k", name: BAD_KEYS[case]}
    with pytest.raises(ConfigurationError) as caught:
        config(**options)
    message = str(caught.value)
    assert message.startswith(name)
    assert CANARY not in message
    assert "17" not in message
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("", "copy it from the project's page"),
        ("a\n", "strip it"),
        ("ä", "copy it again, without formatting"),
        (b"a", "it must be a str"),
    ],
)
def test_a_refused_key_comes_with_the_way_out(value: object, fix: str) -> None:
    """Each refusal says what to do."""
    with pytest.raises(ConfigurationError, match=fix):
        config(api_key=value)


@pytest.mark.parametrize("key", ["k", "a b", "A-Za-z0-9+/=_.~", "!" * 1000])
def test_a_sendable_key_is_kept(key: str) -> None:
    """What a header can carry is taken as it is, behind a Secret."""
    assert config(api_key=key).api_key == Secret(key)


@given(st.text(min_size=1))
@examples(500)
def test_a_key_that_passes_is_a_header(key: str) -> None:
    """Whatever passes goes through a header and back without a change."""
    try:
        secret = config(api_key=key).api_key
    except ConfigurationError:
        return
    assert httpx.Headers({"x-api-key": secret.reveal()})["x-api-key"] == key
    assert secret.reveal().strip() == key


def test_the_environment_fills_in() -> None:
    """Key, secret and addresses come from the environment where they are not given."""
    environ = {
        "WIRO_API_KEY": "k",
        "WIRO_API_SECRET": "s",
        "WIRO_BASE_URL": "https://api.example/v1/",
        "WIRO_SOCKET_URL": "wss://socket.example/v1",
    }
    made = config(environ)
    assert (made.api_key, made.api_secret) == (Secret("k"), Secret("s"))
    assert (made.base_url, made.socket_url) == ("https://api.example/v1", "wss://socket.example/v1")
    assert made.origin == ("https", "api.example", 443)


def test_arguments_win_over_the_environment() -> None:
    """What is given counts."""
    environ = {"WIRO_API_KEY": "k", "WIRO_API_SECRET": "s", "WIRO_BASE_URL": "https://no.example"}
    made = config(environ, api_key="K", api_secret="S", base_url="https://yes.example/v1")
    assert (made.api_key, made.api_secret, made.base_url) == (
        Secret("K"),
        Secret("S"),
        "https://yes.example/v1",
    )


def test_a_given_key_is_not_joined_to_the_environments_secret() -> None:
    """A secret belongs to its key; a key passed alone is a key-only project's."""
    environ = {"WIRO_API_KEY": "k", "WIRO_API_SECRET": "s"}
    assert config(environ, api_key="K").api_secret is None
    assert config(environ, api_secret="S").api_secret == Secret("S")


@pytest.mark.parametrize("environ", [{}, {"WIRO_API_SECRET": ""}])
def test_without_a_secret_the_project_is_key_only(environ: dict[str, str]) -> None:
    """An unset and an empty variable are the same."""
    assert config({"WIRO_API_KEY": "k", **environ}).api_secret is None


@pytest.mark.parametrize("name", ["base_url", "socket_url"])
def test_an_empty_address_in_the_environment_is_refused(name: str) -> None:
    """Set to nothing is a mistake, and must not mean the real service."""
    with pytest.raises(ConfigurationError, match=name):
        config({"WIRO_API_KEY": "k", f"WIRO_{name.upper()}": ""})


def test_no_key_at_all_is_refused() -> None:
    """The message names both ways to give one."""
    with pytest.raises(ConfigurationError, match="pass api_key=, or set WIRO_API_KEY"):
        config()


@pytest.mark.parametrize("options", [{"api_key": ""}, {"api_key": "k", "api_secret": ""}])
def test_an_empty_credential_is_refused(options: dict[str, str]) -> None:
    """An empty argument is a mistake, not an absent one."""
    with pytest.raises(ConfigurationError, match="is empty"):
        config({"WIRO_API_KEY": "k", "WIRO_API_SECRET": "s"}, **options)


def test_an_empty_key_in_the_environment_is_refused() -> None:
    """A variable that is set to nothing is named as such."""
    with pytest.raises(ConfigurationError, match="api_key is empty"):
        config({"WIRO_API_KEY": ""})


def test_a_config_shows_no_credential() -> None:
    """The repr has stars."""
    shown = repr(config(api_key="canary-key", api_secret="canary-secret"))
    assert CANARY not in shown
    assert shown.count("**********") == 2


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://api.wiro.ai/v1",
        "https://API.WIRO.AI/v1",
        "HTTPS://api.wiro.ai/v1",
        "https://api.wiro.ai:8443/v1",
        "https://10.0.0.1/v1",
        "https://[2001:db8::1]/v1",
        "https://xn--bcher-kva.example/a%20b/v1",
        "https://a_b.example/v1.2/x",
        "http://localhost:8000/v1",
        "http://LOCALHOST/v1",
        "http://127.0.0.1:8000/v1",
        "http://127.8.9.10/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_a_safe_address_is_taken(url: str) -> None:
    """Any https host, and plain http to this machine."""
    made = config(api_key="k", base_url=url)
    assert made.base_url == url
    assert config(api_key="k", base_url=url + "//").base_url == url, "slashes at the end are dropped"
    assert httpx.URL(url).raw_host.decode() == made.origin[1]


@pytest.mark.parametrize("url", ["https://api.wiro.ai", "https://api.wiro.ai/", "http://127.0.0.1:8000"])
def test_an_address_without_the_version_is_told_so(url: str) -> None:
    """The whole address is in the message; the socket's needs none."""
    with pytest.raises(
        ConfigurationError, match=f"without a path; the API is below /v1: {url.rstrip('/')}/v1$"
    ):
        config(api_key="k", base_url=url)


PLAIN = [
    "http://api.wiro.ai/v1",
    "http://localhost.evil.com/v1",
    "http://127.0.0.1.evil.com/v1",
    "http://evil.com:127/v1",
    "http://localhost.:80/v1",
    "http://0.0.0.0/v1",
    "http://128.0.0.1/v1",
    "http://10.0.0.1/v1",
    "http://192.168.0.1/v1",
    "http://169.254.169.254/v1",
    "http://[::]/v1",
    "http://[fe80::1]/v1",
    "http://127.1/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://0177.0.0.1/v1",
    "http://localhost-evil.com/v1",
    "http://evil-localhost/v1",
]


@pytest.mark.parametrize("url", PLAIN)
def test_plain_http_is_for_this_machine_only(url: str) -> None:
    """A key never leaves the machine in the clear, whatever the host's name pretends."""
    with pytest.raises(ConfigurationError, match="which exposes credentials; use https"):
        config(api_key="k", base_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user@api.wiro.ai/v1",
        "https://user:canary@api.wiro.ai/v1",
        "http://localhost@evil.com/v1",
        "http://127.0.0.1:80@evil.com/v1",
        "https://@api.wiro.ai/v1",
        "https://api.wiro.ai\\@evil.com/v1",
        "https://api.wiro.ai/v1?key=canary",
        "https://api.wiro.ai/v1?",
        "https://api.wiro.ai/v1#canary",
        "https://api.wiro.ai/v1#",
        "https://api.wiro.ai?",
    ],
)
def test_a_user_a_query_or_a_fragment_is_refused(url: str) -> None:
    """An address is a place only; even an empty query would swallow the paths that follow it."""
    with pytest.raises(ConfigurationError, match="must not hold a user, a query or a fragment") as caught:
        config(api_key="k", base_url=url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://api.wiro.ai/v1",
        "file:///etc/passwd",
        "ws://localhost/v1",
        "wss://socket.wiro.ai/v1",
        "javascript:alert(1)",
        "//api.wiro.ai/v1",
        "api.wiro.ai/v1",
        "localhost:8000",
        "/v1",
        "https://",
        "https:///v1",
        "https://:443/v1",
        "https:api.wiro.ai",
        "https://api.wiro.ai:0/v1",
        "https://api.wiro.ai:65536/v1",
        "https://api.wiro.ai:-1/v1",
        "https://api.wiro.ai:port/v1",
        "https://user:can/ary@api.wiro.ai/v1",
        "https://[::1/v1",
        "https://[nonsense]/v1",
        "https://api wiro.ai/v1",
        " https://api.wiro.ai/v1",
        "https://api.wiro.ai/v1 ",
        "https://api.wiro.ai/v1\n",
        "https://api.wiro.ai/\r\nx-evil: 1",
        "https://api.wiro.ai/\0",
        "https://api.\twiro.ai/v1",
        "https://äpi.wiro.ai/v1",
        "https://api.wiro.ai/ä",
        "https://api.wiro。ai/v1",
        "https://api.wiro.ai/\ud800",
        "https://evil.com\\.wiro.ai/v1",
        "https://api.wiro.ai\\v1",
        "https://%65vil.com/v1",
        "https://exa<mple/v1",
        "https://api.wiro.ai/v1/..",
        "https://api.wiro.ai/../v1",
        "https://api.wiro.ai/./v1",
    ],
)
def test_no_address_at_all_is_refused(url: str) -> None:
    """The message shows the form, and not the value, because a password may be in it."""
    with pytest.raises(ConfigurationError) as caught:
        config(api_key="k", base_url=url)
    assert str(caught.value) == "base_url must look like https://host/v1"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("url", [b"https://api.wiro.ai/v1", 8000, httpx.URL("https://api.wiro.ai/v1")])
def test_an_address_of_another_type_is_refused(url: object) -> None:
    """A URL object is not guessed at."""
    with pytest.raises(ConfigurationError, match=r"base_url is a (bytes|int|URL); it must be a str"):
        config(api_key="k", base_url=url)


@pytest.mark.parametrize("url", ["wss://socket.wiro.ai/v1", "ws://127.0.0.1:8000/v1", "ws://[::1]/"])
def test_the_sockets_address_has_its_own_schemes(url: str) -> None:
    """The same rules hold for wss and ws."""
    assert config(api_key="k", socket_url=url).socket_url == url.rstrip("/")


@pytest.mark.parametrize("url", ["https://socket.wiro.ai/v1", "ws://socket.wiro.ai/v1", "wss://a@b/v1"])
def test_a_bad_address_of_the_socket_is_refused(url: str) -> None:
    """Its token is a credential too."""
    with pytest.raises(ConfigurationError, match="socket_url"):
        config(api_key="k", socket_url=url)


@given(
    st.text(st.characters(max_codepoint=0x2100), max_size=40), st.sampled_from(["", "https://", "http://"])
)
@examples(1000)
def test_what_passes_is_where_the_http_library_goes(rest: str, scheme: str) -> None:
    """Both readers of an accepted address agree on scheme, host and port, so none can be led astray."""
    try:
        made = config(api_key="k", base_url=scheme + rest)
    except ConfigurationError:
        return
    seen = httpx.URL(made.base_url + "/Run/a/b")
    assert (
        seen.scheme,
        seen.raw_host.decode(),
        seen.port or {"http": 80, "https": 443}[seen.scheme],
    ) == made.origin
    assert seen.raw_path.endswith(b"/Run/a/b")
    assert not seen.userinfo
    assert seen.scheme == "https" or seen.host == "localhost" or ipaddress.ip_address(seen.host).is_loopback


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.wiro.ai/v1", ("https", "api.wiro.ai", 443)),
        ("https://api.wiro.ai:443/v1", ("https", "api.wiro.ai", 443)),
        ("https://api.wiro.ai:8443/v1", ("https", "api.wiro.ai", 8443)),
        ("http://localhost/v1", ("http", "localhost", 80)),
        ("http://[::1]:8000/v1", ("http", "::1", 8000)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: tuple[str, str, int]) -> None:
    """The host in lower case, the port spelt out."""
    assert config(api_key="k", base_url=url).origin == origin


def test_download_hosts_add_to_the_services_own() -> None:
    """More hosts are allowed, in any case, none is taken away."""
    made = config(api_key="k", download_hosts=frozenset({"Files.Example"}))
    assert made.download_hosts == {"cdn1.wiro.ai", "cdn.wiro.ai", "api.wiro.ai", "files.example"}


HOSTS = [
    "cdn.example.org", b"cdn.example.org", 5, [5], [""], ["https://cdn.example.org"], [b"cdn"], ["."],
    ["cdn.example.org:8443"], ["*.example.org"], ["cdn.example.org/x"], ["user@cdn.example.org"],
    [" cdn.example.org"], ["b\u00fccher.example"], ["abc:80"], iter(["cdn.example.org"]),
]  # fmt: skip


@pytest.mark.parametrize("hosts", HOSTS)
def test_download_hosts_are_bare_names(hosts: Any) -> None:
    """One str would be taken for its letters; what is no bare name would never match a host."""
    with pytest.raises(
        ConfigurationError, match=r"^download_hosts (is|holds) .*, such as .*cdn.example.org'"
    ):
        config(api_key="k", download_hosts=hosts)


@pytest.mark.parametrize("hosts", [(), {"a"}, ["10.0.0.1", "::1", "a_b.example"]])
def test_download_hosts_may_be_any_collection(hosts: Any) -> None:
    """Of names and addresses."""
    assert config(api_key="k", download_hosts=hosts).download_hosts >= {"cdn1.wiro.ai"}


# -- numbers ---------------------------------------------------------------------------------------------

NOT_POSITIVE: list[Any] = [0, -1, -0.0, math.inf, -math.inf, math.nan, "1", None, True, b"1", [1]]
POLICIES = [
    (kind, field.name) for kind in (Polling, Limits) for field in attrs.fields(kind) if field.name != "learn"
]


@pytest.mark.parametrize(("kind", "name"), POLICIES)
def test_a_number_that_cannot_work_is_refused(kind: type[Polling | Limits], name: str) -> None:
    """Zero, negative, endless, and what is no number: named with its value and its rule."""
    fails: list[Any] = (
        NOT_POSITIVE if name != "jitter" else [-0.1, 1, 1.5, math.inf, math.nan, "0", None, False]
    )
    for value in fails:
        with pytest.raises(ConfigurationError, match=f"^{name} is .*; it must be (a|at) "):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), POLICIES)
def test_a_number_that_works_is_kept(kind: type[Polling | Limits], name: str) -> None:
    """Small and large ones."""
    works: list[Any] = [1, 20, 10**9] if name != "jitter" else [0, 0.5, 0.999]
    for value in works:
        assert getattr(kind(**{name: value}), name) == value


def test_whether_to_learn_is_yes_or_no() -> None:
    """A number or a word is neither."""
    assert Polling(learn=False).learn is False
    for wrong in (1, "yes", None):
        anything: Any = wrong
        with pytest.raises(ConfigurationError, match=r"learn is .*; it must be True or False"):
            Polling(learn=anything)


@pytest.mark.parametrize("watch", ["auto", "socket", "poll", "callback"])
def test_a_way_of_watching_is_kept(watch: Any) -> None:
    """There are four of them."""
    assert config(api_key="k", watch=watch).watch == watch


@pytest.mark.parametrize("watch", ["push", "", None, 1])
def test_a_way_of_watching_that_there_is_none_of_is_refused(watch: Any) -> None:
    """The message names those that there are."""
    with pytest.raises(ConfigurationError, match="'auto', 'socket', 'poll' or 'callback'"):
        config(api_key="k", watch=watch)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None])
def test_tasks_per_socket_is_a_count(count: Any) -> None:
    """At least one task has a socket."""
    with pytest.raises(ConfigurationError, match=r"tasks_per_socket is .*; it must be a whole number"):
        config(api_key="k", tasks_per_socket=count)


def test_another_service_s_tokens_do_not_go_to_the_service_s_own_socket() -> None:
    """Where only the API's address was given, the WebSocket's is not known."""
    assert config(api_key="k").socket_known
    assert config(
        api_key="k", base_url="http://127.0.0.1:1/v1", socket_url="ws://127.0.0.1:1/v1"
    ).socket_known
    assert not config(api_key="k", base_url="http://127.0.0.1:1/v1").socket_known
    with pytest.raises(ConfigurationError, match="needs socket_url="):
        config(api_key="k", base_url="http://127.0.0.1:1/v1", watch="socket")


@pytest.mark.parametrize("name", ["max_in_flight", "max_downloads", "max_download", "max_sockets"])
def test_a_count_is_whole(name: str) -> None:
    """There is no half request."""
    half: Any = 2.5
    with pytest.raises(ConfigurationError, match="must be a whole number of at least 1"):
        Limits(**{name: half})


def test_policies_are_frozen_and_named() -> None:
    """They can be shared, and are given by name only."""
    assert config(api_key="k").polling == Polling()
    assert config(api_key="k").limits == Limits()
    assert config(api_key="k", limits=Limits(max_in_flight=3)).limits.max_in_flight == 3
    assert config(api_key="k", polling=Polling(growth=1)).polling.growth == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Polling().growth = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Polling(5)  # type: ignore[call-arg]


def test_the_defaults_are_the_documented_ones() -> None:
    """A change of one of these is a change of the library's behaviour, to be told in the change log."""
    assert attrs.asdict(Polling()) == {
        "min_interval": 2.0,
        "max_interval": 9.0,
        "growth": 0.14,
        "jitter": 0.1,
        "requests_per_second": 50.0,
        "learn": True,
        "safety_interval": 60.0,
    }
    assert attrs.asdict(Limits()) == {
        "max_in_flight": 32,
        "max_downloads": 8,
        "max_download": 8 * 1024**3,
        "max_sockets": 256,
        "connect_timeout": 10.0,
        "request_timeout": 30.0,
        "check_timeout": 5.0,
        "upload_timeout": 300.0,
        "download_timeout": 600.0,
        "slot_timeout": 600.0,
        "settle_timeout": 30.0,
        "send_window": 10.0,
        "margin": 15.0,
        "wait_timeout": 3600.0,
        "stop_timeout": 30.0,
        "error_grace": 120.0,
    }


@pytest.mark.parametrize(("given", "waited"), [(0, 0.0), (0.05, 0.05), (None, 0.1)])
async def test_a_number_of_seconds_is_taken(given: float | None, waited: float) -> None:
    """None is the client's own."""
    service = FakeService(Task_Detail=ok(tasklist=[task()]))
    async with client(service, limits=Limits(wait_timeout=0.1)) as caller:
        with pytest.raises(TaskTimeout) as caught:
            await caller.attach("2221").wait(given)
    assert caught.value.waited == waited


async def test_what_is_left_of_a_deadline_is_not_negative() -> None:
    """The message says how to cut it."""
    async with client(FakeService()) as caller:
        with pytest.raises(ConfigurationError, match=r"^timeout is -0.5; .* give max\(left, 0\)$"):
            await caller.attach("2221").wait(-0.5)


async def test_a_wait_may_have_no_end() -> None:
    """Infinity is a number of seconds."""
    service = FakeService(Task_Detail=ok(tasklist=[task(status="task_cancel")]))
    async with client(service) as caller:
        assert (await caller.attach("2221").wait(math.inf)).status == "task_cancel"


@pytest.mark.parametrize("given", [math.nan, "5", True, 1j])
async def test_other_seconds_are_refused(given: Any) -> None:
    """Nothing is ever later than "nan"."""
    async with client(FakeService()) as caller:
        with pytest.raises(ConfigurationError, match=r"^timeout is .*; it must be a number of seconds"):
            await caller.attach("2221").wait(given)


# -- plain http --------------------------------------------------------------------------------------------


def test_plain_http_is_for_hosts_that_were_named() -> None:
    """By argument or by the environment, in any case; nobody else gets a key without TLS."""
    urls = {"base_url": "http://Sandbox:8000/v1", "socket_url": "ws://sandbox:8000/v1"}
    allowed: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"allow_http": ["sandbox"]}, {}),
        ({"allow_http": None}, {"WIRO_ALLOW_HTTP": " SANDBOX , other"}),
    ]
    for named, environ in allowed:
        made = config(api_key="k", environ=environ, **urls, **named)
        assert made.is_local
        assert made.may_be_plain("sandbox")
        assert not made.may_be_plain("cdn1.wiro.ai")
    refused: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"allow_http": ["other"]}, {}),
        ({"allow_http": []}, {"WIRO_ALLOW_HTTP": "sandbox"}),
        ({}, {"WIRO_ALLOW_HTTP": ""}),
    ]
    for named, environ in refused:
        with pytest.raises(ConfigurationError, match=r"allow_http=\['sandbox'\] or WIRO_ALLOW_HTTP"):
            config(api_key="k", environ=environ, **urls, **named)
    assert not config(api_key="k", allow_http=["sandbox"]).is_local
