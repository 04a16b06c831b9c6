"""What a client is told once: credentials, addresses, limits. Checked here, frozen afterwards.

Pure: the environment comes in as a mapping.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias, TypeGuard, get_args
from urllib.parse import urlsplit

import attrs

from wiro_async._errors import ConfigurationError
from wiro_async._types import Secret, Watch

__all__ = ["Config", "Limits", "Origin", "Polling", "configure"]

DEFAULT_BASE_URL = "https://api.wiro.ai/v1"
DEFAULT_SOCKET_URL = "wss://socket.wiro.ai/v1"
DEFAULT_DOWNLOAD_HOSTS = frozenset({"cdn1.wiro.ai", "cdn.wiro.ai", "api.wiro.ai"})
MAX_UPLOAD_BYTES = 100 * 1000 * 1000
"""The service takes files up to 100 MB; read as decimal, so that a refusal comes before the bytes leave."""

Origin = tuple[str, str, int]
"""Scheme, host and port: what credentials are bound to."""

_URL = re.compile(r"[!-\[\]-~]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


# -- validators ------------------------------------------------------------------------------------------

# One family for all options, of clients, calls and batches: attrs calls each with the record, the field and
# the value. None passes where a default stands in for it.

Validator: TypeAlias = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def positive(_record: object, option: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is not a positive, finite number."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(f"{option.name} is {value!r}; it must be a positive, finite number")


def share(_record: object, option: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is not a number from 0 to below 1."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ConfigurationError(f"{option.name} is {value!r}; it must be at least 0 and below 1")


def truth(_record: object, option: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is not a bool."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option.name} is {value!r}; it must be True or False")


def text(_record: object, option: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is not a string with something in it, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError(
            f"{option.name} is {value!r}; it must be a string that is not empty, or None"
        )


def seconds(_record: object, option: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is not a number of seconds, or None. Infinity waits forever; below zero is over at once."""
    if value is not None:
        check_seconds(option.name, value)


def duration(_record: object, option: attrs.Attribute[Any], value: object) -> None:
    """Refuse what is not a number of seconds that is not negative, or None."""
    if value is not None and check_seconds(option.name, value) < 0:
        raise ConfigurationError(f"{option.name} is {value!r}; it must be seconds that are not negative")


def whole(least: int, *, or_else: object = ...) -> Validator:
    """Return what refuses all but whole numbers of at least *least*, and the one value *or_else*."""

    def check(_record: object, option: attrs.Attribute[Any], value: object) -> None:
        if value is or_else or (isinstance(value, str) and value == or_else):
            return
        if not _is_number(value) or not isinstance(value, int) or value < least:
            raise ConfigurationError(
                f"{option.name} is {value!r}; it must be a whole number of at least {least}"
            )

    return check


def one_of(*choices: object) -> Validator:
    """Return what refuses all but these values."""
    *others, last = map(repr, choices)
    rule = f"{', '.join(others)} or {last}"

    def check(_record: object, option: attrs.Attribute[Any], value: object) -> None:
        if value not in choices:
            raise ConfigurationError(f"{option.name} is {value!r}; it must be {rule}")

    return check


def of_type(what: str, *types: type) -> Validator:
    """Return what refuses all but values of these types, and None; *what* they are is said in the message."""

    def check(_record: object, option: attrs.Attribute[Any], value: object) -> None:
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
        TypeError: One of them is unknown.
    """
    for name in given:
        if name not in options.__annotations__:
            raise TypeError(
                f"{method}() got an unexpected keyword argument {name!r}; its options are "
                f"{', '.join(options.__annotations__)}"
            )


count = whole(1)
"""Refuses all but whole numbers of at least 1."""


def usd(value: object) -> Decimal | None:
    """Convert a ``max_cost`` in USD, whatever it came as (None: there is no limit).

    Raises:
        ConfigurationError: It is no amount, or negative.
    """
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"max_cost is {value!r}; it must be an amount in USD that is not negative")
    return amount


def check_seconds(name: str, value: object) -> float:
    """Return a number of seconds.

    Raises:
        ConfigurationError: It is none.
    """
    if not _is_number(value) or math.isnan(value):
        raise ConfigurationError(f"{name} is {value!r}; it must be a number of seconds, or None")
    return value


def seconds_of(name: str, given: float | None, default: float) -> float:
    """Return the seconds that a caller has given, or the *default*.

    Raises:
        ConfigurationError: They are no number.
    """
    return default if given is None else check_seconds(name, given)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- a client's settings ---------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Polling:
    """How often a waiting task is polled.

    While little is known of a model, the interval is a share of the task's age, between two bounds, so that
    the number of polls grows with the logarithm of the wait, and lateness stays a fixed share of it. Once
    enough tasks of a model have ended, their durations tell when the next one is due, and it is polled
    then.

    Args:
        min_interval: Shortest time between two polls of one task, in seconds, before jitter. Where an end is
            likely by what was learned, polls may be closer, down to 0.2 s.
        max_interval: Longest time between two polls of one task, in seconds, before jitter. Before the first
            1 % of a model's tasks have ended, polls may be farther apart, up to 90 s.
        growth: The interval as a share of the task's age (0.14: a task of 60 s is polled every 8.4 s).
        jitter: Each interval is varied by up to this share, so that tasks submitted together spread out.
        requests_per_second: The budget of polls for all tasks of one client.
        learn: Whether to learn from finished tasks when the next ones are due.
        safety_interval: Seconds between two polls of a task whose end a socket or a callback will tell.
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
        max_in_flight: Requests at the service at a time; connections never exceed it.
        max_downloads: Outputs read at a time.
        max_sockets: WebSockets open at a time; tasks beyond them are polled.
        connect_timeout: Seconds to open a connection.
        request_timeout: Seconds for one whole exchange, sending and reading to the end.
        upload_timeout: Seconds for one whole upload, retries included.
        download_timeout: Seconds for one whole download, retries included.
        slot_timeout: Seconds that a call waits for its turn among ``max_in_flight``, and that a submit waits
            for room when as many tasks run as the balance allows.
        settle_timeout: Seconds for which the task of a Run whose answer was lost is searched for.
        wait_timeout: Seconds to wait for a task's end where the caller names no timeout.
        stop_timeout: Seconds that a stop may take to see the task's end.
    """

    max_in_flight: int = attrs.field(default=32, validator=count)
    max_downloads: int = attrs.field(default=8, validator=count)
    max_sockets: int = attrs.field(default=256, validator=count)
    connect_timeout: float = attrs.field(default=10.0, validator=positive)
    request_timeout: float = attrs.field(default=30.0, validator=positive)
    upload_timeout: float = attrs.field(default=300.0, validator=positive)
    download_timeout: float = attrs.field(default=600.0, validator=positive)
    slot_timeout: float = attrs.field(default=600.0, validator=positive)
    settle_timeout: float = attrs.field(default=30.0, validator=positive)
    wait_timeout: float = attrs.field(default=3600.0, validator=positive)
    stop_timeout: float = attrs.field(default=30.0, validator=positive)


@attrs.frozen(kw_only=True)
class Config:
    """A client's settings after every check has passed.

    Attributes:
        socket_known: Whether the WebSocket's address belongs with the API's: the service's own address does
            not when the API's was given, for another service's tokens are no business of it.
    """

    api_key: Secret
    api_secret: Secret | None
    base_url: str
    socket_url: str
    origin: Origin
    download_hosts: frozenset[str]
    polling: Polling
    limits: Limits
    watch: Watch = attrs.field(default="auto", validator=one_of(*get_args(Watch)))
    tasks_per_socket: int = attrs.field(default=1, validator=count)
    socket_known: bool = True


def configure(
    api_key: str | None,
    api_secret: str | None,
    *,
    base_url: str | None,
    socket_url: str | None,
    download_hosts: frozenset[str],
    polling: Polling | None,
    limits: Limits | None,
    environ: Mapping[str, str],
    watch: Watch = "auto",
    tasks_per_socket: int = 1,
) -> Config:
    """Fill in what was not given from *environ* and the defaults, and check all of it.

    Raises:
        ConfigurationError: A value is missing or cannot work. Keys are never quoted in the message.
    """
    base = check_url("base_url", _first(base_url, environ.get("WIRO_BASE_URL"), DEFAULT_BASE_URL), "https")
    socket = check_url(
        "socket_url", _first(socket_url, environ.get("WIRO_SOCKET_URL"), DEFAULT_SOCKET_URL), "wss"
    )
    socket_known = socket != DEFAULT_SOCKET_URL or base == DEFAULT_BASE_URL
    if watch == "socket" and not socket_known:
        raise ConfigurationError(
            "watch='socket' needs socket_url= (or WIRO_SOCKET_URL) beside a base_url of its own"
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
        polling=polling or Polling(),
        limits=limits or Limits(),
        watch=watch,
        tasks_per_socket=tasks_per_socket,
        socket_known=socket_known,
    )


def _first(*choices: str | None) -> str:
    # Set to nothing is not unset: a typo in a shell must not turn a test on the sandbox into a bill.
    return next(choice for choice in choices if choice is not None)


def check_key(name: str, value: object) -> Secret:
    """Refuse what could never be sent as a header, without showing it."""
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


def check_url(name: str, url: object, scheme: str) -> str:
    """Refuse an address that would send credentials in the clear, or that is no address.

    The address itself is not shown, because a password may be in it.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{name} is a {type(url).__name__}; it must be a str")
    malformed = ConfigurationError(f"{name} must look like {scheme}://host/v1")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise malformed from None
    plain = {"https": "http", "wss": "ws"}[scheme]
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(f"{name} must not hold a user, a query or a fragment")
    if parts.scheme not in (scheme, plain) or not host or port == 0 or not _is_plain(url, host):
        raise malformed
    if parts.scheme == plain and not is_loopback(host):
        raise ConfigurationError(
            f"{name} is plain {plain} to {host}, where anyone on the way could read it; use {scheme} "
            f"({plain} is for loopback addresses only)"
        )
    return url.rstrip("/")


def _is_plain(url: str, host: str) -> bool:
    """Whether every reader takes *url* for the same address: no odd host, and no path that climbs."""
    climbs = not {".", ".."}.isdisjoint(url.split("/"))
    return _URL.fullmatch(url) is not None and _HOST.fullmatch(host) is not None and not climbs


def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine by its very name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of a checked URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
