"""The service's records as frozen objects. The wire's loose types are made regular here, and nowhere else.

Numbers arrive as strings, numbers or null; lists as lists, null or JSON text; keys come and go. Whatever
comes, these constructors return a record: what is missing is None or empty, what is not known is in ``raw``.

A reply is believed only when it is about the task that was asked for: what is left over on a connection can
answer the wrong call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import attrs

from wiro_async._errors import ClientUseError, InvalidResponse, TaskNotFound
from wiro_async._protocol.envelope import (
    decoded,
    flag,
    integer,
    is_utf8,
    mapping,
    money,
    number,
    objects,
    secret,
    strings,
    text,
)
from wiro_async._protocol.operations import Operation
from wiro_async._types import JSON, JSONMapping, Outcome, Payload, Record, Secret, Status

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

__all__ = [
    "STALLED", "TERMINAL", "Accepted", "Model", "ModelInput", "Output", "Task", "TaskKey", "TaskResult",
    "Transition", "Upload", "missing_of", "read_accepted", "read_task", "read_tasks",
]  # fmt: skip

TIMESTAMPS: dict[str, str] = {
    "createtime": Status.QUEUE.value,
    "accepttime": Status.ACCEPT.value,
    "preprocessstarttime": Status.PREPROCESS_START.value,
    "preprocessendtime": Status.PREPROCESS_END.value,
    "assigntime": Status.ASSIGN.value,
    "starttime": Status.START.value,
    "endtime": Status.END.value,
    "postprocessstarttime": Status.POSTPROCESS_START.value,
    "postprocessendtime": Status.POSTPROCESS_END.value,
    "canceltime": Status.CANCEL.value,
}
"""Which status each of the wire's time fields records the beginning of.

By its plain name: a record of plain values is not visited by the garbage collector.
"""

TERMINAL: frozenset[str] = frozenset({Status.POSTPROCESS_END, Status.CANCEL})

STALLED: frozenset[str] = frozenset({Status.ERROR, Status.ERROR_FULL})
"""Stored statuses of a task that met an error: some public clients take them for the end, others wait."""

_MAKES_FILES = re.compile(r"-to-(image|video|audio|speech|music|song|3d)\b", re.IGNORECASE)
"""Part of a category, or of a slug, of models whose outputs are files. Language models are in none of these,
nor are those that make text, train, or stream."""

_STATUSES: dict[str, str] = {status.value: status for status in Status}

_LATEST = 253402300799.0
"""The last second of the year 9999: beyond it a datetime cannot be made."""


_SHORT = 256
"""Characters of a text whose reading is remembered."""


class OutputStore(Protocol):
    """Where an output's bytes come from: a client's downloader."""

    async def save(self, output: Output, target: str | PathLike[str], timeout: float | None) -> Path:
        """Store the output as *target*, or in it if that is a folder."""
        ...

    async def save_all(
        self, outputs: Sequence[Output], folder: str | PathLike[str], timeout: float | None
    ) -> list[Path]:
        """Store the outputs in *folder*, each under a name of its own."""
        ...

    async def read(self, output: Output, timeout: float | None, max_bytes: int) -> bytes:
        """Return the output's bytes."""
        ...


@attrs.frozen
class Transition(Record):
    """One step in a task's life.

    Attributes:
        status: The status that began, by its wire name.
        at: When it began (UTC). The service's time where it tells one, to the second; else when we saw it.
            Never before the step that came before it.
        observed: True when the task was seen in this status; False when it was filled in from the
            timestamps of a later poll.
    """

    status: str
    at: datetime
    observed: bool = True


@attrs.frozen
class Output(Record):
    """One file that a task made.

    Attributes:
        name: The service's name for it, such as ``0.mp4``. Not to be trusted as a path.
        url: Where it can be read without credentials, for a limited time ("" for language models).
        content_type: Its media type.
        size: Its length in bytes (None where the service does not say).
        id: The service's id of the file.
        task_id: The task that made it.
        index: Its place among the task's outputs, from 0.
        content: A language model's answer, for outputs that have no file.
        access_key: The service's own key to the file, a secret; downloads need none.
        raw: What the service sent beyond the above.
    """

    name: str
    url: str
    content_type: str = ""
    size: int | None = None
    id: str = ""
    task_id: str = ""
    index: int = 0
    content: JSONMapping | None = attrs.field(default=None, repr=False, hash=False)
    access_key: Secret | None = attrs.field(default=None, repr=False)
    raw: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)
    _store: OutputStore | None = attrs.field(default=None, repr=False, eq=False, kw_only=True, alias="store")

    @property
    def text(self) -> str:
        """A language model's answer without its thinking, or all that it said ("" for files)."""
        content = self.content or {}
        answer = content.get("answer")
        parts = answer if isinstance(answer, list) else [answer]
        return "\n".join(filter(None, map(text, parts))) or text(content.get("raw"))

    async def save(self, path_or_folder: str | PathLike[str], *, timeout: float | None = None) -> Path:
        """Download the file, whole or not at all.

        The bytes go to a ``.part`` file beside the target. It is checked against the length that the server
        and the service tell, flushed to the disk, and only then renamed. A file that is stored compressed
        (gzip or deflate) is decompressed. Without a length it may have ``Limits.max_download`` bytes. A
        download that breaks off is resumed. A file that is not on the CDN yet (HTTP 404 or 403) is asked for
        again after 1, 2, 4, 8 and 15 seconds, at the address that the task has by then. No credential is sent
        to the CDN. An existing file of the same name is replaced.

        Args:
            path_or_folder: The file to write; folders above it are made when missing. Or a folder: one that
                exists, or a path that ends in a separator, which is made when missing. In a folder the file
                is called ``{task_id}_{name}``, with the extension of what it is if that is not what it claims
                to be.
            timeout: Seconds for all of it (None: the client's ``Limits.download_timeout``).

        Returns:
            The path of the saved file.

        Raises:
            DownloadError: The file did not arrive whole in time, or its address or name is not acceptable.
            WiroError: The task's present address was needed, and the service refused to tell it.
            OSError: The file system refused.
        """
        return await self._bound().save(self, path_or_folder, timeout)

    async def read(self, *, timeout: float | None = None, max_bytes: int = 256 * 1024 * 1024) -> bytes:
        """Download the file into memory; a file that is not on the CDN yet is waited for as in ``save()``.

        Args:
            timeout: Seconds for all of it (None: the client's ``Limits.download_timeout``).
            max_bytes: Refuse more than this.

        Raises:
            DownloadError: The file did not arrive whole in time, is larger than *max_bytes*, or its address
                is not acceptable.
            WiroError: The task's present address was needed, and the service refused to tell it.
        """
        return await self._bound().read(self, timeout, max_bytes)

    def _bound(self) -> OutputStore:
        if self._store is None:
            raise ClientUseError(
                "this Output belongs to no client (it was unpickled, or made by hand); take it from "
                "client.attach(task_id=...) to download it"
            )
        return self._store

    def __getstate__(self) -> dict[str, Any]:
        return {
            field.name: getattr(self, field.name) for field in attrs.fields(Output) if field.name != "_store"
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {**state, "_store": None}.items():
            object.__setattr__(self, name, value)


@attrs.frozen(kw_only=True)
class Task(Record):
    """A snapshot of one task, as the service described it at one moment.

    Attributes:
        id: The task's id.
        status: Its status by the wire name; compare with ``Status``. A status we do not know is kept as is.
        token: The socket access token: whoever has it can watch and kill the task.
        pexit: The exit code: "0" is success (None where the service does not tell).
        parameters: The inputs, as the service recorded them.
        outputs: The files that were made.
        debug_output: The model's log; on failure its last line usually says why.
        debug_error: The model's error log.
        elapsed_seconds: The run time (None where the service does not tell).
        total_cost: What the reply has for the charge, in USD (None: nothing). A success has 0 or nothing
            until its charge is recorded: use ``cost``.
        cps: The price of a second in USD (None where the service does not tell).
        timestamps: Status to unix seconds, for every status whose beginning the service recorded.
        model: The model's slug, ``owner/model`` ("" where the service does not tell).
        uuid, project_id, model_id, callback_url, categories, size: As the service sent them.
        raw: What the service sent beyond the above.
    """

    _derived: ClassVar[tuple[str, ...]] = (
        "outcome",
        "cost",
        "reason",
        "created_at",
        "started_at",
        "ended_at",
    )

    id: str
    status: str
    token: Secret | None = attrs.field(default=None, repr=False)
    pexit: str | None = None
    parameters: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)
    outputs: tuple[Output, ...] = ()
    debug_output: str = attrs.field(default="", repr=False)
    debug_error: str = attrs.field(default="", repr=False)
    elapsed_seconds: float | None = None
    total_cost: Decimal | None = None
    cps: Decimal | None = attrs.field(default=None, repr=False)
    timestamps: Mapping[str, float] = attrs.field(factory=dict, repr=False, hash=False)
    uuid: str = attrs.field(default="", repr=False)
    project_id: str = attrs.field(default="", repr=False)
    model_id: str = attrs.field(default="", repr=False)
    model: str = ""
    callback_url: str = attrs.field(default="", repr=False)
    categories: tuple[str, ...] = attrs.field(default=(), repr=False)
    size: int | None = attrs.field(default=None, repr=False)
    raw: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended: ``task_postprocess_end`` and ``task_cancel`` alone are ends."""
        return self.status in TERMINAL

    @property
    def outcome(self) -> Outcome | None:
        """How the task ended (None: it has not, or the reply does not say).

        ``task_postprocess_end`` is success only with exit code "0". Where the service tells no exit code
        at all (the short form of Detail), it is success if there are outputs; without them, nobody knows.
        """
        if self.status == Status.CANCEL:
            return "cancelled"
        if self.status != Status.POSTPROCESS_END:
            return None
        if self.pexit is None:
            return "succeeded" if self.outputs else None
        return "succeeded" if self.pexit == "0" else "failed"

    @property
    def cost(self) -> Decimal | None:
        """The charge in USD (None: not recorded yet, or not told).

        The service records a charge some time after the end. Until then it tells 0 or nothing, which is
        believed of a task that failed, or that was cancelled in the queue, but not of a success, nor of a
        task that was stopped while it ran.
        """
        if self.total_cost is None or self.total_cost > 0:
            return self.total_cost
        ran = self.outcome == "cancelled" and Status.START in self.timestamps
        return None if ran or self.outcome in (None, "succeeded") else self.total_cost

    @property
    def reason(self) -> str:
        """Why the task failed, as far as the service tells: the last line of its output, or of its errors.

        For a task in ``task_error`` the errors come first: they say what it met.
        """
        said_first = (self.debug_output, self.debug_error)
        for said in reversed(said_first) if self.status in STALLED else said_first:
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            if lines:
                return lines[-1]
        return ""

    @property
    def created_at(self) -> datetime | None:
        """When the task was queued (UTC)."""
        return self.time_of(Status.QUEUE)

    @property
    def started_at(self) -> datetime | None:
        """When the task began to run (UTC)."""
        return self.time_of(Status.START)

    @property
    def ended_at(self) -> datetime | None:
        """When the task reached its terminal status (UTC; None: not yet, or not told)."""
        return self.time_of(self.status) if self.is_terminal else None

    def time_of(self, status: str) -> datetime | None:
        """Return when *status* began, by the service's record (UTC)."""
        seconds = self.timestamps.get(status)
        return None if seconds is None else _moment(seconds)


def missing_of(task: Task, model: str = "") -> str:
    """Return what an end lacks to be judged ("" for nothing, and for a task that has not ended).

    The status may come a moment before the exit code and the outputs.

    Args:
        task: The snapshot.
        model: The model's slug, where the snapshot does not tell it.
    """
    if task.status != Status.POSTPROCESS_END or task.outputs:
        return ""
    if task.pexit is None:
        return "neither an exit code nor outputs"
    kinds = (*task.categories, task.model or model)
    makes_files = any(_MAKES_FILES.search(kind) for kind in kinds)
    return "no outputs, though it succeeded" if task.pexit == "0" and makes_files else ""


@attrs.frozen
class TaskResult(Record):
    """What a successful task brought.

    Attributes:
        task: The final snapshot.
        outputs: The files that were made.
        cost: The charge in USD (None: not recorded yet; ``handle.refresh()`` reads it later).
        elapsed: The run time in seconds (None where the service does not tell).
    """

    task: Task
    outputs: tuple[Output, ...]
    cost: Decimal | None
    elapsed: float | None

    @classmethod
    def of(cls, task: Task) -> TaskResult:
        """Make the result of a task that has succeeded."""
        elapsed = task.elapsed_seconds
        start, end = task.timestamps.get(Status.START), task.timestamps.get(Status.END)
        if elapsed is None and start is not None and end is not None:
            elapsed = max(end - start, 0.0)
        return cls(task, task.outputs, task.cost, elapsed)

    @property
    def text(self) -> str:
        """What a language model answered ("" where the outputs are files)."""
        said = [output.text for output in self.outputs if output.content is not None]
        # Without any output, its log is the answer.
        return "\n".join(said) if self.outputs else self.task.debug_output.strip()

    async def save(self, folder: str | PathLike[str], *, timeout: float | None = None) -> list[Path]:
        """Download all outputs that have a file into a folder, each of them whole or not at all.

        The files are called ``{task_id}_{name}``; where two outputs have one name, the later one gets its
        index added. Everything else is as for ``Output.save``.

        Args:
            folder: The folder; it is made when missing.
            timeout: Seconds for all files together (None: ``Limits.download_timeout`` for each).

        Returns:
            The paths of the saved files, in the order of ``outputs``; empty if no output has a file, as with
            language models.

        Raises:
            DownloadError: A file did not arrive whole in time, or its address or name is not acceptable. The
                files before it were saved.
            WiroError: The task's present address was needed, and the service refused to tell it.
            OSError: The file system refused.
        """
        files = [output for output in self.outputs if output.url]
        return await files[0]._bound().save_all(files, folder, timeout) if files else []


@attrs.frozen
class Upload(Record):
    """A file that was uploaded to the service.

    Attributes:
        url: Where models can read it: give this as an input.
        name: The name it got.
        id: The service's id of the file.
        size: Its length in bytes (None where the service does not say).
        content_type: Its media type.
        raw: What the service sent beyond the above.
    """

    url: str
    name: str = ""
    id: str = ""
    size: int | None = None
    content_type: str = ""
    raw: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)


@attrs.frozen
class ModelInput(Record):
    """One input of a model.

    Attributes:
        name: What to call it in ``inputs``.
        type: The service's kind: text, textarea, select, range, number, float, checkbox, fileinput, …
        label: The service's title of it.
        required: Whether a run without it is refused.
        default: The value that the service's page starts with.
        options: The values to choose from ("" included), for selects.
        labels: What the service's page shows for each of them, in the same order.
        min, max, step: Bounds, for numbers and ranges.
        note: The service's explanation.
        raw: What the service sent beyond the above.
    """

    name: str
    type: str = "text"
    label: str = ""
    required: bool = False
    default: Any = attrs.field(default=None, hash=False)
    options: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    step: float | None = None
    note: str = ""
    labels: tuple[str, ...] = attrs.field(default=(), repr=False)
    raw: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)


@attrs.frozen
class Model(Record):
    """A model of the catalogue.

    Attributes:
        slug: ``owner/model``, as ``submit`` takes it.
        title: Its name for people.
        description: What it does.
        categories: Such as ``image-to-video``.
        inputs: Its inputs; empty in a listing, filled by ``client.get_model(slug)``.
        price: About what a run costs, in USD, by the catalogue (None: it cannot be told).
        raw: What the service sent beyond the above.
    """

    slug: str
    title: str = ""
    description: str = attrs.field(default="", repr=False)
    categories: tuple[str, ...] = ()
    inputs: tuple[ModelInput, ...] = attrs.field(default=(), repr=False)
    price: Decimal | None = None
    raw: JSONMapping = attrs.field(factory=dict, repr=False, hash=False)


@lru_cache(maxsize=1024)
def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# -- from the wire ---------------------------------------------------------------------------------------

_TASK_KEYS = frozenset(TIMESTAMPS) | {
    "id", "uuid", "socketaccesstoken", "status", "pexit", "parameters", "outputs", "output", "debugoutput",
    "debugerror", "elapsedseconds", "totalcost", "cps", "projectid", "modelid", "modelslugowner",
    "modelslugproject", "callbackurl", "categories", "size",
}  # fmt: skip
_OUTPUT_KEYS = frozenset({"id", "name", "contenttype", "size", "url", "content", "accesskey"})
_UPLOAD_KEYS = frozenset({"id", "name", "contenttype", "size", "url", "accesskey"})
_MODEL_KEYS = frozenset(
    {"slugowner", "slugproject", "cleanslugowner", "cleanslugproject", "title", "description", "categories",
     "parameters"}
)  # fmt: skip
_INPUT_KEYS = frozenset(
    {
        "id", "type", "label", "required", "default", "value", "options", "min", "max", "step", "note",
        "defaultvalue", "minvalue", "maxvalue", "incrementby", "description",
    }
)  # fmt: skip


def parse_task(wire: JSON, store: OutputStore | None = None, token: Secret | None = None) -> Task:
    """Make a snapshot of one element of a reply's ``tasklist``.

    Args:
        wire: The element.
        store: Reads the task's outputs.
        token: The task's token where it is known already: an equal one takes no memory of its own.
    """
    task_id, told = text(wire.get("id")), secret(wire.get("socketaccesstoken"))
    outputs = enumerate(objects(wire.get("outputs")) or objects(wire.get("output")))
    return Task(
        id=task_id,
        status=status_of(wire.get("status")),
        token=token if told == token else told,
        pexit=text(wire.get("pexit")).strip() or None,
        parameters={_same(name): value for name, value in mapping(wire.get("parameters")).items()},
        outputs=tuple(parse_output(item, task_id, index, store) for index, item in outputs),
        debug_output=text(wire.get("debugoutput")),
        debug_error=text(wire.get("debugerror")),
        elapsed_seconds=number(wire.get("elapsedseconds")),
        total_cost=money(wire.get("totalcost")),
        cps=money(wire.get("cps")),
        timestamps=_timestamps(wire),
        uuid=text(wire.get("uuid")),
        project_id=_same(text(wire.get("projectid"))),
        model_id=_same(text(wire.get("modelid"))),
        model=_slug(wire.get("modelslugowner"), wire.get("modelslugproject")),
        callback_url=text(wire.get("callbackurl")),
        categories=strings(wire.get("categories")),
        size=integer(wire.get("size")),
        raw=_unknown(wire, _TASK_KEYS),
    )


def parse_output(wire: JSON, task_id: str, index: int, store: OutputStore | None) -> Output:
    """Make a record of one element of a task's ``outputs``."""
    content = wire.get("content")
    return Output(
        name=text(wire.get("name")),
        url=text(wire.get("url")),
        content_type=text(wire.get("contenttype")),
        # "0" stands in a record until somebody has measured the file.
        size=integer(wire.get("size")) or None,
        id=text(wire.get("id")),
        task_id=task_id,
        index=index,
        content=content if isinstance(content, dict) else None,
        access_key=secret(wire.get("accesskey")),
        raw=_unknown(wire, _OUTPUT_KEYS),
        store=store,
    )


def parse_upload(wire: JSON) -> Upload:
    """Make a record of one element of an upload's ``list``."""
    return Upload(
        url=text(wire.get("url")),
        name=text(wire.get("name")),
        id=text(wire.get("id")),
        size=integer(wire.get("size")),
        content_type=text(wire.get("contenttype")),
        raw=_unknown(wire, _UPLOAD_KEYS),
    )


def parse_model(wire: JSON) -> Model:
    """Make a record of one element of a catalogue reply's ``tool``."""
    slug = _slug(wire.get("slugowner"), wire.get("slugproject"))
    return Model(
        slug=slug or _slug(wire.get("cleanslugowner"), wire.get("cleanslugproject")),
        title=text(wire.get("title")),
        description=text(wire.get("description")),
        categories=strings(wire.get("categories")),
        inputs=tuple(
            _parse_input(item)
            for group in objects(wire.get("parameters"))
            for item in objects(group.get("items"))
        ),
        raw=_unknown(wire, _MODEL_KEYS),
    )


def _parse_input(wire: JSON) -> ModelInput:
    # Most clients read the first name of each pair. One in use decodes the second, so both may come.
    default, low, high, step = (
        wire.get(name, wire.get(other))
        for name, other in (
            ("default", "defaultvalue"), ("min", "minvalue"), ("max", "maxvalue"), ("step", "incrementby"),
        )
    )  # fmt: skip
    options = decoded(wire.get("options"))
    choices = options if isinstance(options, list) else []
    return ModelInput(
        name=text(wire.get("id")),
        type=text(wire.get("type")) or "text",
        label=text(wire.get("label")),
        required=flag(wire.get("required")),
        default=wire.get("value") if default is None else default,
        options=tuple(
            text(choice.get("value")) if isinstance(choice, dict) else text(choice) for choice in choices
        ),
        labels=tuple(
            text(choice.get("label", choice.get("text"))) if isinstance(choice, dict) else text(choice)
            for choice in choices
        ),
        min=number(low),
        max=number(high),
        step=number(step),
        note=text(wire.get("note")) or text(wire.get("description")),
        raw=_unknown(wire, _INPUT_KEYS),
    )


def _timestamps(wire: JSON) -> dict[str, float]:
    times: dict[str, float] = {}
    for key, status in TIMESTAMPS.items():
        value = wire.get(key)
        # Most are still to come; only then is the value looked into.
        if value is None or value == "0":
            continue
        seconds = _short_stamp(value) if isinstance(value, str) and len(value) <= _SHORT else _stamp(value)
        if seconds is not None:
            times[status] = seconds
    return times


def _stamp(value: object) -> float | None:
    seconds = number(value)
    return seconds if seconds is not None and 0 < seconds <= _LATEST else None


_short_stamp = lru_cache(maxsize=1024)(_stamp)
"""The same few seconds come with many tasks, and with every poll."""


def _unknown(wire: JSON, known: frozenset[str]) -> JSON:
    if wire.keys() <= known:
        return {}
    return {_same(key): value for key, value in wire.items() if key not in known}


def _slug(owner: object, project: object) -> str:
    left, right = text(owner), text(project)
    return _same(f"{left}/{right}") if left and right else ""


def _same(text: str) -> str:
    """Return an equal text that many records share, so that each does not keep a copy of its own."""
    return _kept(text) if len(text) <= _SHORT else text


@lru_cache(maxsize=1024)
def _kept(text: str) -> str:
    return text


def status_of(value: object) -> str:
    """Read a status; those that we know become members of ``Status``."""
    name = text(value)
    return _STATUSES.get(name, name)


# -- replies about tasks ---------------------------------------------------------------------------------


class TaskKey(NamedTuple):
    """What a task is known by: its id, its token, or both."""

    id: str | None = None
    token: Secret | None = None

    def __str__(self) -> str:
        return self.id if self.id is not None else "known by its token only"

    def payload(self, token_name: str) -> JSON:
        """Return the key as a call's payload; the id wins, tokens being secrets."""
        if self.id is not None:
            return Payload(taskid=self.id)
        assert self.token is not None
        return Payload({token_name: self.token.reveal()})

    def fits(self, task: Task) -> bool:
        """Tell whether *task* is the one that this key names."""
        if self.id is not None:
            return task.id == self.id
        return self.token is not None and task.token == self.token


class Accepted(NamedTuple):
    """A Run that the service took."""

    id: str
    token: Secret | None


def read_accepted(payload: JSON) -> Accepted:
    """Read a Run's answer.

    Raises:
        InvalidResponse: It names no task, or one that cannot be asked for.
    """
    task_id = text(payload.get("taskid"))
    if not task_id or not is_utf8(task_id):
        raise InvalidResponse(
            "Run: accepted, but the reply names no task id", http_status=200, operation="Run"
        )
    token = text(payload.get("socketaccesstoken"))
    return Accepted(task_id, Secret(token) if token and is_utf8(token) else None)


def read_task(operation: Operation, payload: JSON, key: TaskKey, store: OutputStore | None = None) -> Task:
    """Read the one task that was asked for.

    Raises:
        TaskNotFound: The service has none.
        InvalidResponse: The reply is about another task, or not about tasks at all.
    """
    name = operation.name
    if "tasklist" not in payload:
        raise InvalidResponse(
            f"{name}: asked for task {key}, the reply has no tasklist", http_status=200, operation=name
        )
    tasks = read_tasks(payload, store, key.token)
    if not tasks:
        raise TaskNotFound(
            f"{name}: there is no task {key} under this project", http_status=200, operation=name
        )
    for task in tasks:
        if key.fits(task):
            return task
    raise InvalidResponse(
        f"{name}: asked for task {key}, the reply is about {tasks[0].id or 'none that has an id'}",
        http_status=200,
        operation=name,
    )


def read_tasks(payload: JSON, store: OutputStore | None = None, token: Secret | None = None) -> list[Task]:
    """Read every task of a reply.

    Args:
        payload: The reply.
        store: Reads the tasks' outputs.
        token: The token of one of the tasks, where it is known already.

    Raises:
        InvalidResponse: It is not about tasks: taken for an empty list, it would prove a Run's task absent.
    """
    if "tasklist" not in payload:
        raise InvalidResponse("Task/List: the reply has no tasklist", http_status=200, operation="Task/List")
    return [parse_task(item, store, token) for item in objects(payload.get("tasklist"))]
