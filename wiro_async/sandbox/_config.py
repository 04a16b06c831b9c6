"""What a sandbox can be told at its start."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias, TypedDict, get_args

import attrs

__all__ = [
    "AfterError",
    "CallbackShape",
    "CdnEncoding",
    "RecordSize",
    "SandboxConfig",
    "SandboxOptions",
    "SocketFormat",
    "StoppedForm",
    "is_loopback",
]

StoppedForm: TypeAlias = Literal["bare", "documented"]
SocketFormat: TypeAlias = Literal["old", "new"]
CdnEncoding: TypeAlias = Literal["", "gzip", "deflate", "aws-chunked", "utf-8", "identity"]
CallbackShape: TypeAlias = Literal["tasklist", "bare"]
AfterError: TypeAlias = Literal["stay", "end", "requeue"]
RecordSize: TypeAlias = Literal["true", "zero", "none", "larger", "smaller"]


def _check_host(config: SandboxConfig, _: object, host: str) -> None:
    # In a container it must listen beyond its own loopback; then its names must be told, so that nobody gets
    # there by mistake.
    if not is_loopback(host) and not config.allow_host:
        raise ValueError(
            f"host={host!r} is not a loopback address: others could reach the sandbox. Use 127.0.0.1 or ::1, "
            "or say under which names it may be reached: --allow-host NAME (allow_host=[NAME])."
        )


def _check_names(_: object, attribute: attrs.Attribute[Collection[str]], value: Collection[str]) -> None:
    if isinstance(value, str) or "" in value:
        raise ValueError(f"{attribute.name}={value!r} must be a list of names, such as ['localhost'].")


def _as_tuple(names: Collection[str]) -> Collection[str]:
    return names if isinstance(names, str) else tuple(names)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@attrs.frozen(kw_only=True)
class SandboxConfig:
    """The options of a sandbox; all have a default.

    Attributes:
        api_key: The key of the first project. Never shown in the repr.
        api_secret: Its secret. None makes the project key-only: signatures are then ignored.
        projects: Further projects of the same account, as ``{api_key: api_secret or None}``.
        allow_host: Names under which requests may ask for the sandbox, beside localhost and loopback
            addresses; pages of these hosts may use it, too.
        allow_fetch: ``HOST`` or ``HOST:PORT`` from which it may read images, and to which it may send
            callbacks. Without any it reads its own files only, and sends no callback.
        host: The address to listen on: a loopback address, or another one where ``allow_host`` is given.
        port: The port; 0 takes a free one.
        speed: The factor by which a task's life is faster than in reality.
        seed: What all randomness comes from. The n-th accepted task has the same life in every run.
        balance: The account's balance in USD. It also sets the concurrency limit.
        concurrency_limit: Tasks at the same time; None derives it from the balance, as the service does.
        price: USD per run, for all models or by raw slug; None takes the sandbox's own price list.
        listed_price: USD that the catalogue says a run costs, likewise; None: what it does cost.
        queue_mean: Mean of the exponential time in the queue, in seconds before ``speed``.
        run_median: Median of the log-normal run, in seconds before ``speed``; None: 60 for models that make
            videos, what the catalogue says or 10 for others.
        run_sigma: Sigma of that log-normal. 0 makes all runs equally long.
        order: ``"docs"``: preprocessing comes before assignment; ``"seeds"``: after it. Both occur.
        render: Whether clips are really rendered. False gives tiny stand-in files, and images are not read.
        form_defaults: Whether a required input that is missing is the default of the service's page, instead
            of being refused.
        kill_by_tasktoken: Whether Task/Kill also takes the token as ``tasktoken``, as an early page of the
            documentation had it.
        strict_nonce: Whether a nonce that was used before is refused. The service accepts it today.
        receive_timeout: Seconds a client has for sending its request's body, and another server for sending
            an image that a job names.
        clock_skew: Seconds by which the service's clock is ahead of this machine's; negative: behind.
        send_date: Whether replies of the API have a ``Date``, by the service's clock.
        store_limit: Bytes that uploads and outputs may take together; the oldest expire first.
        cdn_encoding: The Content-Encoding that files are served with, whatever a client accepts, as object
            stores keep it: ``"gzip"`` and ``"deflate"`` are compressed, ``"aws-chunked"``, ``"utf-8"`` and
            ``"identity"`` change no byte.
        cdn_length: Whether files are served with their length; without, they are chunked.
        record_size: What a task's record says of its files' sizes: ``"true"``, ``"zero"`` or ``"none"``, or
            a size that is ``"larger"`` or ``"smaller"`` by one byte.
        moving_urls: Whether a file's address is another one whenever its task is looked at.
        mislabel: Whether a file claims to be of another type than it is, in the record and on the CDN.
        first_task_id: The id of the first task.
        documented: Whether there are the three tasks that the service's documents print: 2221 has ended,
            534574 runs, 634574 is in the queue. Then the first new task is 634575.
        socket_format: How the WebSocket's messages look: ``"old"``: with the task's token; ``"new"``: without
            it, but with ``success``, ``terminal`` and ``exitCode``. Both are documented.
        tasks_per_socket: How many tasks may be registered on one WebSocket; None: any number.
        callback_shape: What is POSTed to callback URLs: ``"tasklist"``: a list of one task, as from
            Task/Detail; ``"bare"``: the task itself. Both are seen.
        callback_pause: Seconds between two of the three attempts to send a callback, whatever the speed.
        callback_timeout: Seconds that a callback URL has for its answer.
        charge_delay: Seconds from a task's end until its charge is recorded, before ``speed``; ``inf``: it
            never is. Until then ``totalcost`` is "0", null or "", by the task's id. The ledger tells all.
        bare_seconds: Seconds for which an end has neither ``pexit`` nor outputs, before ``speed``.
        nofiles_seconds: Seconds for which an end has no outputs, before ``speed``.
        outputs_name: The name under which a task's outputs are told: one official client reads ``"output"``.
        charge_stopped: Whether a task that is stopped while it runs is charged all the same.
        stopped_form: Whether the record of a stopped task has neither exit code nor outputs (``"bare"``), or
            both, as the documents' samples for Kill and Cancel (``"documented"``).
        after_error: What becomes of a task that is stored as ``task_error``, which nobody outside the service
            knows: ``"stay"``: nothing; ``"end"``: it ends as failed; ``"requeue"``: it is queued again, and
            runs.
        error_seconds: Seconds until then, before ``speed``.
    """

    api_key: str = attrs.field(default="sandbox-key", repr=False)
    api_secret: str | None = attrs.field(default="sandbox-secret", repr=False)
    projects: Mapping[str, str | None] = attrs.field(factory=dict, repr=False)
    allow_host: Collection[str] = attrs.field(default=(), converter=_as_tuple, validator=_check_names)
    allow_fetch: Collection[str] = attrs.field(default=(), converter=_as_tuple, validator=_check_names)
    host: str = attrs.field(default="127.0.0.1", validator=_check_host)
    port: int = 0
    speed: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    seed: int = 0
    balance: float = 100.0
    concurrency_limit: int | None = None
    price: float | Mapping[str, float] | None = None
    listed_price: float | Mapping[str, float] | None = None
    queue_mean: float = attrs.field(default=6.0, validator=attrs.validators.ge(0))
    run_median: float | None = None
    run_sigma: float = attrs.field(default=0.25, validator=attrs.validators.ge(0))
    order: Literal["docs", "seeds"] = attrs.field(
        default="docs", validator=attrs.validators.in_(("docs", "seeds"))
    )
    render: bool = True
    form_defaults: bool = False
    kill_by_tasktoken: bool = False
    strict_nonce: bool = False
    receive_timeout: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    clock_skew: float = 0.0
    send_date: bool = True
    store_limit: int = 512 * 1024 * 1024
    cdn_encoding: CdnEncoding = attrs.field(default="", validator=attrs.validators.in_(get_args(CdnEncoding)))
    cdn_length: bool = True
    record_size: RecordSize = attrs.field(
        default="true", validator=attrs.validators.in_(get_args(RecordSize))
    )
    moving_urls: bool = False
    mislabel: bool = False
    first_task_id: int = 2221
    documented: bool = False
    socket_format: SocketFormat = attrs.field(default="old", validator=attrs.validators.in_(("old", "new")))
    tasks_per_socket: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    callback_shape: CallbackShape = attrs.field(
        default="tasklist", validator=attrs.validators.in_(("tasklist", "bare"))
    )
    callback_pause: float = attrs.field(default=2.0, validator=attrs.validators.ge(0))
    callback_timeout: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    charge_delay: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    bare_seconds: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    nofiles_seconds: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    outputs_name: Literal["outputs", "output"] = attrs.field(
        default="outputs", validator=attrs.validators.in_(("outputs", "output"))
    )
    charge_stopped: bool = False
    stopped_form: StoppedForm = attrs.field(
        default="bare", validator=attrs.validators.in_(("bare", "documented"))
    )
    after_error: AfterError = attrs.field(
        default="stay", validator=attrs.validators.in_(("stay", "end", "requeue"))
    )
    error_seconds: float = attrs.field(default=30.0, validator=attrs.validators.ge(0))


class SandboxOptions(TypedDict, total=False):
    """The fields of :class:`SandboxConfig` as keyword arguments."""

    api_key: str
    api_secret: str | None
    projects: Mapping[str, str | None]
    allow_host: Collection[str]
    allow_fetch: Collection[str]
    host: str
    port: int
    speed: float
    seed: int
    balance: float
    concurrency_limit: int | None
    price: float | Mapping[str, float] | None
    listed_price: float | Mapping[str, float] | None
    queue_mean: float
    run_median: float | None
    run_sigma: float
    order: Literal["docs", "seeds"]
    render: bool
    form_defaults: bool
    kill_by_tasktoken: bool
    strict_nonce: bool
    receive_timeout: float
    clock_skew: float
    send_date: bool
    store_limit: int
    cdn_encoding: CdnEncoding
    cdn_length: bool
    record_size: RecordSize
    moving_urls: bool
    mislabel: bool
    first_task_id: int
    documented: bool
    socket_format: SocketFormat
    tasks_per_socket: int | None
    callback_shape: CallbackShape
    callback_pause: float
    callback_timeout: float
    charge_delay: float
    bare_seconds: float
    nofiles_seconds: float
    outputs_name: Literal["outputs", "output"]
    charge_stopped: bool
    stopped_form: StoppedForm
    after_error: AfterError
    error_seconds: float
