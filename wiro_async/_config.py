"""A client's fixed settings: credentials, URLs, limits. Checked here, then frozen.

Pure: the environment is passed in as a mapping.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast, get_args
from urllib.parse import SplitResult, urlsplit

import attrs

from wiro_async._errors import ConfigurationError
from wiro_async._types import CheckMode, OnCancel, Secret, Watch

__all__ = ["Config", "Limits", "Origin", "Polling", "configure"]

DEFAULT_BASE_URL = "https://api.wiro.ai/v1"
DEFAULT_SOCKET_URL = "wss://socket.wiro.ai/v1"
DEFAULT_DOWNLOAD_HOSTS = frozenset({"cdn1.wiro.ai", "cdn.wiro.ai", "api.wiro.ai"})
MAX_UPLOAD_BYTES = 100 * 1000 * 1000
"""The service accepts files up to 100 MB; read as decimal, so that refusals come before the bytes leave."""

Origin = tuple[str, str, int]
"""The scheme, host and port that credentials are bound to."""

_URL = re.compile(r"[!-\[\]-~]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


# -- validators ------------------------------------------------------------------------------------------

# One family for all options, of clients, calls and batches: attrs calls each with the record, the field and
# the value, and ``check`` with the name of an argument. None passes where a default stands in for it.


Option: TypeAlias = "attrs.Attribute[Any]"
"""What a validator is told of an option; it asks for the name only."""


class _Argument(NamedTuple):
    name: str


Validator: TypeAlias = Callable[[Any, Option, Any], None]


def check(name: str, value: object, validator: Validator) -> None:
    """Check one argument of a call by a validator of this family.

    Raises:
        ConfigurationError: It cannot work.
    """
    validator(None, cast("Option", _Argument(name)), value)


def positive(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a positive, finite number."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(f"{option.name} is {value!r}; it must be a positive, finite number")


def share(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a number from 0 to below 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigurationError(f"{option.name} is {value!r}; it must be at least 0 and below 1")


def truth(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a bool."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option.name} is {value!r}; it must be True or False")


def text(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a non-empty string, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError(f"{option.name} is {value!r}; it must be a non-empty string, or None")


def seconds(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a non-negative number of seconds, or None. Infinity waits forever."""
    if value is not None:
        check_seconds(option.name, value)


def path(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a path, or None."""
    if value is not None:
        check_path(option.name, value, ", or None")


def function(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a function, or None."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"{option.name} is {value!r}; it must be a function, or None")


def hosts(_record: object, option: Option, value: Any) -> None:
    """Reject anything but a collection of bare host names."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise ConfigurationError(
            f"{option.name} is {value!r}; it must be a collection of host names, such as ['cdn.example.org']"
        )
    for host in value:
        if not _is_host(host):
            raise ConfigurationError(
                f"{option.name} holds {host!r}; give the bare name of each host, such as 'cdn.example.org': "
                f"without scheme, port, path and wildcard"
            )


def whole(least: int, *, or_else: object = ...) -> Validator:
    """Return a validator that accepts integers of at least *least*, and the one value *or_else*."""

    def check(_record: object, option: Option, value: Any) -> None:
        if value is or_else or (isinstance(value, str) and value == or_else):
            return
        if not _is_number(value) or not isinstance(value, int) or value < least:
            raise ConfigurationError(
                f"{option.name} is {value!r}; it must be a whole number of at least {least}"
            )

    return check


def one_of(*choices: object) -> Validator:
    """Return a validator for these values."""
    *others, last = map(repr, choices)
    rule = f"{', '.join(others)} or {last}"

    def check(_record: object, option: Option, value: Any) -> None:
        if value not in choices:
            raise ConfigurationError(f"{option.name} is {value!r}; it must be {rule}")

    return check


def of_type(what: str, *types: type) -> Validator:
    """Return a validator for these types, and None; the message names them as *what*."""

    def check(_record: object, option: Option, value: Any) -> None:
        if value is not None and not isinstance(value, types):
            raise ConfigurationError(f"{option.name} is {value!r}; it must be {what}, or None")

    return check


def check_names(method: str, given: Iterable[str], options: type) -> None:
    """Refuse options that a method does not have; only type checkers know what ``Unpack`` lets through.

    Args:
        method: Its name.
        given: The names of what it was given.
        options: The typed dictionary of its options.

    Raises:
        ConfigurationError: One of them is unknown; also a ``TypeError``, as Python's own would be.
    """
    for name in given:
        if name not in options.__annotations__:
            raise ConfigurationError(
                f"{method}() got an unexpected keyword argument {name!r}; its options are "
                f"{', '.join(options.__annotations__)}"
            )


count = whole(1)
"""Accepts only integers of at least 1."""

on_cancel = one_of(*get_args(OnCancel))
"""Accepts what may become of a task when its waiter is cancelled."""


check_mode = one_of(*get_args(CheckMode), None)
"""Accepts how a job's inputs are checked, or None: as the client's are."""


def usd(value: object) -> Decimal | None:
    """Convert a ``max_cost`` in USD, whatever its type (None: no limit).

    Raises:
        ConfigurationError: It is not an amount, or is negative.
    """
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"max_cost is {value!r}; it must be a non-negative amount in USD")
    return amount


def check_seconds(name: str, value: object) -> float:
    """Return a non-negative number of seconds.

    Raises:
        ConfigurationError: It is not.
    """
    if not _is_number(value) or math.isnan(value):
        raise ConfigurationError(f"{name} is {value!r}; it must be a number of seconds, or None")
    if value < 0:
        raise ConfigurationError(
            f"{name} is {value!r}; it must be a non-negative number of seconds, or None: of what is left of "
            f"a deadline, give max(left, 0)"
        )
    return value


def check_path(name: str, value: object, or_else: str = "") -> str:
    """Return a path as text; the message ends with *or_else*.

    Raises:
        ConfigurationError: It is no path.
    """
    as_path: Any = getattr(value, "__fspath__", None)
    text = value if as_path is None else as_path()
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{name} is {value!r}; it must be a path{or_else}")
    return text


def seconds_of(name: str, given: float | None, default: float) -> float:
    """Return the seconds that a caller passed, or the *default*.

    Raises:
        ConfigurationError: They are not a non-negative number.
    """
    return default if given is None else check_seconds(name, given)


def _is_host(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not _HOST.fullmatch(value) or not value.strip(".-_"):
        return False
    return ":" not in value or is_address(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- a client's settings ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Polling:
    """How often a waiting task is polled.

    While little is known about a model, the interval is a share of the task's age, between two bounds, so
    that the number of polls grows with the logarithm of the wait, and lateness stays a fixed share of it.
    Once enough tasks of a model have ended, their durations predict when the next one is due, and it is
    polled then.

    Args:
        min_interval: Shortest time between two polls of one task, in seconds, before jitter. When learned
            durations make an end likely, polls may be closer, down to 0.2 s.
        max_interval: Longest time between two polls of one task, in seconds, before jitter. Before the first
            1 % of a model's tasks have ended, polls may be farther apart, up to 90 s.
        growth: The interval as a share of the task's age (0.14: a task of 60 s is polled every 8.4 s).
        jitter: Each interval varies by up to this share, so that tasks submitted together spread out.
        requests_per_second: The poll budget for all tasks of one client.
        learn: Whether to learn from finished tasks when the next ones are due.
        safety_interval: Seconds between two polls of a task on a socket or with a callback.
    """

    min_interval: float = attrs.field(default=2.0, validator=positive)
    max_interval: float = attrs.field(default=9.0, validator=positive)
    growth: float = attrs.field(default=0.14, validator=positive)
    jitter: float = attrs.field(default=0.1, validator=share)
    requests_per_second: float = attrs.field(default=50.0, validator=positive)
    learn: bool = attrs.field(default=True, validator=truth)
    safety_interval: float = attrs.field(default=60.0, validator=positive)


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds on time and traffic.

    Args:
        max_in_flight: Concurrent requests to the service; connections never exceed it.
        max_downloads: Concurrent downloads of outputs.
        max_download: Bytes of a file whose length neither the service nor the server tells, or that has to be
            decompressed: 8 GiB, more than any model makes.
        max_sockets: Open WebSockets; tasks beyond this are polled.
        connect_timeout: Seconds to open a connection.
        request_timeout: Seconds for one whole exchange, sending and reading to the end.
        send_window: Seconds after its intent in which the first byte of a Run leaves; later it is not sent. A
            bound, so that one can wait until none is on its way any more.
        margin: Seconds beyond ``request_timeout`` that a Run may take until the service has taken it: what
            happens to it between this machine's network and the service's books.
        check_timeout: Seconds that a job waits for its model's entry in the catalogue, once an hour for each
            model, and never longer than ``request_timeout``; without it the job goes on unchecked.
        upload_timeout: Seconds for one whole upload, retries included.
        download_timeout: Seconds for one whole download, retries included.
        slot_timeout: Seconds that a call waits for its turn among ``max_in_flight``, and that a submit waits
            for a slot when as many tasks run as the balance allows.
        settle_timeout: Seconds to search for the task of a Run whose response was lost, and to look again at
            an end without an exit code or outputs: how long the service's replicas may lag. No Run is proved
            absent before ``send_window + request_timeout + margin + settle_timeout`` seconds after its
            intent, 85 by default.
        wait_timeout: Seconds to wait for a task's end if the caller passes no timeout. Each wait makes one
            last poll when its time is up, for 5 s at most.
        stop_timeout: Seconds that a stop may take to see the task's end.
        error_grace: Seconds for which a task's record may stand in ``task_error`` unchanged, until a wait
            ends with ``TaskStalled``. No source tells whether such a task goes on.
    """

    max_in_flight: int = attrs.field(default=32, validator=count)
    max_downloads: int = attrs.field(default=8, validator=count)
    max_download: int = attrs.field(default=8 * 1024**3, validator=count)
    max_sockets: int = attrs.field(default=256, validator=count)
    connect_timeout: float = attrs.field(default=10.0, validator=positive)
    request_timeout: float = attrs.field(default=30.0, validator=positive)
    send_window: float = attrs.field(default=10.0, validator=positive)
    margin: float = attrs.field(default=15.0, validator=positive)
    check_timeout: float = attrs.field(default=5.0, validator=positive)
    upload_timeout: float = attrs.field(default=300.0, validator=positive)
    download_timeout: float = attrs.field(default=600.0, validator=positive)
    slot_timeout: float = attrs.field(default=600.0, validator=positive)
    settle_timeout: float = attrs.field(default=30.0, validator=positive)
    wait_timeout: float = attrs.field(default=3600.0, validator=positive)
    stop_timeout: float = attrs.field(default=30.0, validator=positive)
    error_grace: float = attrs.field(default=120.0, validator=positive)


@attrs.frozen(kw_only=True)
class Config:
    """A client's settings after every check has passed.

    Attributes:
        socket_known: Whether the WebSocket's URL belongs to the API's: the service's own URL does not if
            another API was given, because another service's tokens must not reach it.
    """

    api_key: Secret
    api_secret: Secret | None
    base_url: str
    socket_url: str
    origin: Origin
    download_hosts: frozenset[str]
    polling: Polling = attrs.field(validator=of_type("a wiro_async.Polling", Polling))
    limits: Limits = attrs.field(validator=of_type("a wiro_async.Limits", Limits))
    watch: Watch = attrs.field(default="auto", validator=one_of(*get_args(Watch)))
    tasks_per_socket: int = attrs.field(default=1, validator=count)
    check: CheckMode = attrs.field(default=True, validator=one_of(*get_args(CheckMode)))
    socket_known: bool = True
    plain_hosts: frozenset[str] = frozenset()

    @property
    def is_local(self) -> bool:
        """Whether the service is the sandbox: on this machine, or where plain http was allowed."""
        return self.may_be_plain(self.origin[1])

    def may_be_plain(self, host: str) -> bool:
        """Whether *host* may be spoken to without TLS."""
        return is_loopback(host) or host.lower() in self.plain_hosts


def configure(
    api_key: str | None,
    api_secret: str | None,
    *,
    base_url: str | None,
    socket_url: str | None,
    download_hosts: Collection[str],
    polling: Polling | None,
    limits: Limits | None,
    environ: Mapping[str, str],
    watch: Watch = "auto",
    tasks_per_socket: int = 1,
    checks: CheckMode = True,
    allow_http: Collection[str] | None = None,
) -> Config:
    """Fill in missing settings from *environ* and the defaults, and check all of them.

    Raises:
        ConfigurationError: A value is missing or invalid. The message never quotes keys.
    """
    if allow_http is None:
        allow_http = [name.strip() for name in environ.get("WIRO_ALLOW_HTTP", "").split(",") if name.strip()]
    check("allow_http", allow_http, hosts)
    plain_hosts = frozenset(host.lower() for host in allow_http)
    base = check_url(
        "base_url", _first(base_url, environ.get("WIRO_BASE_URL"), DEFAULT_BASE_URL), "https", plain_hosts
    )
    if not urlsplit(base).path:
        raise ConfigurationError(f"base_url is {base!r}, without a path; the API is below /v1: {base}/v1")
    check("download_hosts", download_hosts, hosts)
    socket = check_url(
        "socket_url",
        _first(socket_url, environ.get("WIRO_SOCKET_URL"), DEFAULT_SOCKET_URL),
        "wss",
        plain_hosts,
    )
    socket_known = socket != DEFAULT_SOCKET_URL or base == DEFAULT_BASE_URL
    if watch == "socket" and not socket_known:
        raise ConfigurationError(
            "watch='socket' needs socket_url= (or WIRO_SOCKET_URL) together with a custom base_url"
        )
    key = api_key if api_key is not None else environ.get("WIRO_API_KEY")
    if key is None:
        raise ConfigurationError("no API key: pass api_key=, or set WIRO_API_KEY (your project's key)")
    # The secret of the environment belongs to the key of the environment, not to one passed in.
    secret = api_secret
    if secret is None and api_key is None:
        secret = environ.get("WIRO_API_SECRET") or None
    return Config(
        api_key=check_key("api_key", key),
        api_secret=None if secret is None else check_key("api_secret", secret),
        base_url=base,
        socket_url=socket,
        origin=origin_of(base),
        download_hosts=DEFAULT_DOWNLOAD_HOSTS | {host.lower() for host in download_hosts},
        polling=Polling() if polling is None else polling,
        limits=Limits() if limits is None else limits,
        watch=watch,
        tasks_per_socket=tasks_per_socket,
        check=checks,
        socket_known=socket_known,
        plain_hosts=plain_hosts,
    )


def _first(*choices: str | None) -> str:
    # Set to nothing is not unset: a typo in a shell must not turn a test on the sandbox into a bill.
    return next(choice for choice in choices if choice is not None)


def check_key(name: str, value: object) -> Secret:
    """Reject a key that cannot be sent as a header, without showing it."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a {type(value).__name__}; it must be a str")
    if not value:
        raise ConfigurationError(f"{name} is empty; copy it from the project's page")
    if not value.isascii():
        raise ConfigurationError(f"{name} holds a non-ASCII character; copy it again, without formatting")
    if not value.isprintable() or value != value.strip():
        raise ConfigurationError(
            f"{name} holds a control character, or begins or ends with a space; a trailing newline from a "
            f"file is the usual cause: strip it"
        )
    return Secret(value)


def check_url(name: str, url: object, scheme: str, plain_hosts: frozenset[str] = frozenset()) -> str:
    """Reject a URL that is malformed, or would send credentials in plain text to others than *plain_hosts*.

    The URL itself is not shown, because it may contain a password.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{name} is a {type(url).__name__}; it must be a str")
    malformed = ConfigurationError(f"{name} must look like {scheme}://host/v1")
    parts: SplitResult | None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts = port = None
    if parts is None:
        # Outside of the handler: the frames of that error hold the URL, and some tracebacks print those.
        raise malformed
    host = parts.hostname
    plain = {"https": "http", "wss": "ws"}[scheme]
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(f"{name} must not hold a user, a query or a fragment")
    if parts.scheme not in (scheme, plain) or not host or port == 0 or not _is_plain(url, host):
        raise malformed
    if parts.scheme == plain and not is_loopback(host) and host.lower() not in plain_hosts:
        raise ConfigurationError(
            f"{name} is plain {plain} to {host}, which exposes credentials; use {scheme} ({plain} is for "
            f"loopback addresses only; for a sandbox in a container, name it in allow_http=[{host!r}] or "
            f"WIRO_ALLOW_HTTP)"
        )
    return url.rstrip("/")


def _is_plain(url: str, host: str) -> bool:
    """Whether every parser reads *url* the same way: no odd host, and no path with dot segments."""
    climbs = not {".", ".."}.isdisjoint(url.split("/"))
    return _URL.fullmatch(url) is not None and _HOST.fullmatch(host) is not None and not climbs


@lru_cache(maxsize=1000)  # it is asked for each new connection, and mostly to the same few hosts
def is_address(host: str) -> bool:
    """Return whether *host* is an IP address, and no name that has to be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether *host* itself names this machine."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def origin_of(url: str) -> Origin:
    """Return the scheme, host and port of a checked URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
