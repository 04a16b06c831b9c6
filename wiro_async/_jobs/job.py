"""What goes into a batch and what comes out of it: jobs, outcomes, keys and file names. Pure."""

from __future__ import annotations

import hashlib
import mimetypes
import re
import string
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, overload

import attrs

from wiro_async._errors import ConfigurationError, InvalidInput, WiroError
from wiro_async._files.inputs import TypedInputs
from wiro_async._protocol.envelope import is_utf8
from wiro_async._protocol.records import Output, TaskResult

__all__ = ["Inputs", "Job", "JobOutcome", "check_key", "check_template", "file_name", "has_magic", "named"]

Inputs = Mapping[str, Any] | TypedInputs
"""A model's inputs: by name, or typed inputs, which know their model."""

MAX_KEY = 500
"""Characters of a key at most: it is a primary key in the journal."""

_FIELDS = frozenset({"key", "task_id", "n", "name", "ext", "model"})

_TELLING = frozenset({"key", "task_id", "name"})
"""Fields by which files are told apart, so that they must stand in a path whole."""

_MAGIC: tuple[tuple[frozenset[str], int, tuple[bytes, ...]], ...] = (
    (frozenset({"video/mp4", "video/quicktime"}), 4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (frozenset({"video/webm", "video/x-matroska"}), 0, (b"\x1a\x45\xdf\xa3",)),
    (frozenset({"image/png"}), 0, (b"\x89PNG\r\n\x1a\n",)),
    (frozenset({"image/jpeg"}), 0, (b"\xff\xd8\xff",)),
    (frozenset({"image/gif"}), 0, (b"GIF87a", b"GIF89a")),
    (frozenset({"image/webp"}), 8, (b"WEBP",)),
    (frozenset({"audio/wav", "audio/x-wav"}), 8, (b"WAVE",)),
)


@attrs.frozen(init=False)
class Job:
    """One thing to be made by a batch.

    Its arguments are those of ``submit()``::

        Job("owner/model", {"prompt": "waves"}, key="sku-1")
        Job(Director("photo.jpg", "waves"), key="sku-2")
        Job(inputs={"prompt": "waves"})  # in a batch that has a model=

    Args:
        model: The slug, or typed inputs, which know their model (None: typed inputs name it, or the batch).
        inputs: The model's inputs by name, or typed inputs.
        key: What the caller knows the job by: under one journal no key is paid for twice (None: the batch's
            ``key`` function, or else a digest of model and inputs).
        where: Where the job comes from, such as ``line 7``, for ``InvalidJob.where``.

    Raises:
        InvalidInput: The inputs stand in the model's place. All else is checked when the batch reads the job,
            so that one bad job is one failed outcome.
    """

    model: str | None
    inputs: Inputs
    key: str | None
    where: str = attrs.field(eq=False)

    @overload
    def __init__(self, model: TypedInputs, *, key: str | None = None, where: str = "") -> None: ...

    @overload
    def __init__(
        self, model: str | None, inputs: Inputs, *, key: str | None = None, where: str = ""
    ) -> None: ...

    @overload
    def __init__(self, *, inputs: Inputs, key: str | None = None, where: str = "") -> None: ...

    def __init__(
        self,
        model: str | TypedInputs | None = None,
        inputs: Inputs | None = None,
        *,
        key: str | None = None,
        where: str = "",
    ) -> None:
        if isinstance(model, TypedInputs) and inputs is None:
            self.__attrs_init__(model.model, model, key, where)
            return
        if isinstance(model, Mapping):
            raise InvalidInput(
                "a job's model comes first: Job('owner/model', {...}), or Job(inputs={...}) for the model of "
                "the batch",
                name="model",
            )
        # What the overloads rule out besides is left to named(): a table with an empty cell must not end the
        # iterable that the jobs come from.
        self.__attrs_init__(model, inputs, key, where)  # type: ignore[arg-type]


@attrs.frozen
class JobOutcome:
    """How one job of a batch ended.

    Attributes:
        key: What the job is known by.
        job: The job (None: it was taken up from the journal).
        result: What it brought (None: it did not succeed, or nothing more than files was left to fetch).
        error: Why it brought nothing, or why its files were not saved.
        attempts: How many Runs were made for it.
        cost: What these were charged, in USD; estimated where the service does not tell (None: not known).
        paths: Where its outputs were saved.
        task_id: The id of the last task ("" if there was none).
    """

    key: str
    job: Job | None = None
    result: TaskResult | None = None
    error: WiroError | OSError | None = None
    attempts: int = 0
    cost: Decimal | None = None
    paths: tuple[Path, ...] = ()
    task_id: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether everything that was wanted is there."""
        return self.error is None


def named(job: Job, model: str | None) -> tuple[str, Inputs]:
    """Return the model and the inputs of a job.

    Args:
        job: The job.
        model: The batch's model, for jobs that name none.

    Raises:
        InvalidInput: No model is named, or the inputs are neither a mapping nor typed inputs.
    """
    inputs = job.inputs
    if not isinstance(inputs, Mapping | TypedInputs):
        raise InvalidInput(
            f"the inputs of a job are a {type(inputs).__name__}; give a mapping or typed inputs",
            name="inputs",
        )
    slug = job.model or (inputs.model if isinstance(inputs, TypedInputs) else model)
    if not slug:
        raise InvalidInput(
            "a job names no model; give Job('owner/model', {...}) or batch(model=...)", name="model"
        )
    if not isinstance(slug, str):
        raise InvalidInput(f"the model of a job is a {type(slug).__name__}; give its slug", name="model")
    return slug, inputs


def check_key(key: object) -> str:
    """Return a key that a journal can hold.

    Raises:
        InvalidInput: It is empty, too long, or not a string or a number.
    """
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise InvalidInput(
            f"the key {str(key)[:60]!r} is a {type(key).__name__}; it must be a str or an int", name="key"
        )
    text = str(key)
    if not text or len(text) > MAX_KEY or "\0" in text or not is_utf8(text):
        raise InvalidInput(
            f"the key {text[:60]!r} cannot be used; it must be a text of 1 to {MAX_KEY} characters",
            name="key",
        )
    return text


# -- where files go --------------------------------------------------------------------------------------


def check_template(template: str) -> str:
    """Return a template of paths that tells the outputs of jobs apart.

    Args:
        template: A folder; or a path with ``{key}``, ``{task_id}``, ``{n}``, ``{name}``, ``{ext}`` and
            ``{model}`` in it.

    Raises:
        ConfigurationError: A field is unknown, or two outputs would get one path.
    """
    if "\0" in template or not is_utf8(template):
        raise ConfigurationError(f"download={template!r} has a character in it that no path can have")
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigurationError(f"download={template!r} cannot be read: {error}") from None
    fields = {str(field) for _, field, _, _ in parts}
    if not fields:
        return template.rstrip("/") + "/{key}_{task_id}_{n}{ext}"
    if fields - _FIELDS:
        raise ConfigurationError(
            f"download={template!r} has the field {min(fields - _FIELDS)!r}; "
            f"there are {', '.join(sorted(_FIELDS))}"
        )
    if not {"n", "name"} & fields or not {"key", "task_id"} & fields:
        raise ConfigurationError(
            f"download={template!r} would put several outputs into one file; "
            f"it needs {{key}} or {{task_id}}, and {{n}} or {{name}}"
        )
    for _, field, form, conversion in parts:
        _check_form(template, str(field), f"!{conversion}:{form}" if conversion else f":{form}")
    try:
        template.format_map(dict.fromkeys(_FIELDS, "x") | {"n": 0})
    except ValueError as error:
        raise ConfigurationError(f"download={template!r} cannot be filled in: {error}") from None
    return template


def _check_form(template: str, field: str, form: str) -> None:
    """Refuse a form that could give two outputs one path, or one output none.

    Raises:
        ConfigurationError: It could.
    """
    if field in _TELLING and form != ":":
        raise ConfigurationError(
            f"download={template!r} changes {{{field}}} by {form.strip(':')!r}, so that two outputs could "
            f"get one path; write {{{field}}}, only {{n}} can be formatted: {{n:03d}}"
        )
    if "{" in form:
        raise ConfigurationError(
            f"download={template!r} has a field in the format of {{{field}}}; write it out"
        )


def file_name(template: str, key: str, model: str, output: Output) -> Path:
    """Return the path of one output. What is filled in cannot leave the folder that the template names.

    Two outputs may get one path: ``{key}{n}`` does not tell a1 and 1 from a and 11. The Keeper sees to that.
    """
    suffix = PurePosixPath(output.name).suffix
    if not re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix):
        suffix = mimetypes.guess_extension(output.content_type) or ".bin"
    fields = {
        "key": _harmless(key),
        "task_id": _harmless(output.task_id),
        "n": output.index,
        "name": _harmless(PurePosixPath(output.name).stem),
        "ext": suffix,
        "model": _harmless(model),
    }
    return Path(template.format_map(fields))


def _harmless(text: str) -> str:
    """Return *text* as a part of a file name; a digest keeps distinct what would else become equal."""
    clean = re.sub(r"[^A-Za-z0-9._=+@-]", "_", text).strip(".")
    if clean == text and len(clean) <= 100:
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{clean[:60]}-{digest}"


def has_magic(content_type: str, head: bytes) -> bool:
    """Tell whether a file that begins with *head* can be of that type; types without a mark always can."""
    kind = content_type.partition(";")[0].strip().lower()
    for kinds, offset, marks in _MAGIC:
        if kind in kinds:
            return any(head[offset:].startswith(mark) for mark in marks)
    return True
