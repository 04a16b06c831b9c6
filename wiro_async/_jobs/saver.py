"""Outputs of a batch's jobs: named by its template, saved, checked and recorded."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import string
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from wiro_async._aio import run_in_thread
from wiro_async._errors import ConfigurationError
from wiro_async._files.download import Places, Stored
from wiro_async._files.naming import extension_of
from wiro_async._journal.steps import JournalFile, Saved
from wiro_async._protocol.envelope import is_utf8
from wiro_async._protocol.records import Output

__all__ = ["OutputSaver", "check_template", "file_name"]

logger = logging.getLogger("wiro_async")

StoreOutput: TypeAlias = Callable[[Output, Path, float | None, Places], Awaitable[Stored]]
"""Downloads an output, to the first of some places that it may have; see ``Downloader.store``."""

_FIELDS = frozenset({"key", "task_id", "n", "name", "ext", "model"})

_DISTINCT = frozenset({"key", "task_id", "name"})
"""Fields that tell files apart, so a path must contain them in full."""

_NOBODY = bytes(8)
"""The owner of files of a job that saves nothing more."""


class OutputSaver:
    """Saves outputs, each under its own path.

    Args:
        template: Where they go; see ``check_template``.
        store: Downloads them.
        overwrite: Whether files that are there and not known to be ours are replaced.

    Raises:
        ConfigurationError: The template is invalid.
    """

    def __init__(
        self, template: str | os.PathLike[str], store: StoreOutput, *, overwrite: bool = False
    ) -> None:
        self._template: str = check_template(os.fspath(template))
        self._store = store
        self._overwrite = overwrite
        self._paths: _Paths = _Paths()

    async def check_folder(self) -> None:
        """See to it that a folder can be there, before anything is paid for. It is not made yet.

        Raises:
            ConfigurationError: There is a file in its place, or nothing can be written there.
        """
        await run_in_thread(_check_folder, self._template)

    async def all_there(self, files: Collection[JournalFile]) -> list[Path]:
        """Return the paths of files saved before (empty: one is missing or incomplete)."""
        if not await run_in_thread(lambda: all(map(_is_there, files))):
            return []
        for file in files:
            self._paths.claim(file.path, _NOBODY)
        return [Path(file.path) for file in files]

    async def save(
        self, key: str, model: str, output: Output, before: JournalFile | None
    ) -> tuple[Path, Saved | None]:
        """Save one output of a job, unless it is already there.

        Args:
            key: The job's key.
            model: The job's model.
            output: What to save.
            before: Where it was saved before (None: nowhere).

        Returns:
            Where it is, and the step to record (None: it was already there).

        Raises:
            DownloadError: It is incomplete, or a web page in place of a file.
            WiroError: Its current URL was needed, and the service refused it.
            OSError: The file system refused.
        """
        # Without a journal two jobs may have one key, so the task is part of what tells outputs apart.
        told = f"{key}\0{output.task_id}\0{output.index}"
        owner = hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if before is not None and await run_in_thread(_is_there, before):
            self._paths.claim(before.path, owner)
            return Path(before.path), None
        path = file_name(self._template, key, model, output)

        offered: list[Path] = []

        def places(extension: str) -> list[Path]:
            named = path.with_suffix(extension) if extension else path
            offered.extend(self._places(named, owner, before))
            return offered

        stored = await self._store(output, path, None, places)
        if stored.path != offered[0]:
            logger.warning(
                "%s is not replaced, as it is not known to be a file of this batch: output %d of the job %r "
                "is saved as %s (overwrite=True replaces such files)",
                offered[0],
                output.index,
                key,
                stored.path.name,
            )
        sha256, size = await run_in_thread(_digest_of, stored.path)
        return stored.path, Saved(
            key, output.index, str(stored.path.absolute()), size, sha256, whole=stored.is_whole
        )

    def _places(self, path: Path, owner: bytes, before: JournalFile | None) -> list[Path]:
        """Return where an output may go: to *path*, or beside it, under a name with its digest.

        Beside it goes what is another output's, now or when it was saved before, and what is somebody else's.
        """
        apart = path.with_stem(f"{path.stem}-{owner.hex()}")
        saved = None if before is None else Path(before.path)
        if saved == apart.absolute() or not self._paths.claim(path, owner):
            self._paths.claim(apart, owner)
            return [apart]
        if self._overwrite or saved == path.absolute():
            return [path]
        return [path, apart]


class _Paths:
    """The owner of each path, stored as 16 bytes of two digests: a million of them take 20 MB.

    Among a million the odds of a collision are one in 10**12, and then a file only gets a longer name.
    """

    def __init__(self) -> None:
        self._buckets: list[bytes] = [b""] * 65536

    def claim(self, path: str | os.PathLike[str], owner: bytes) -> bool:
        """Claim a path for *owner*; False if it has another owner."""
        # Some file systems cannot tell Clip.mp4 from clip.mp4.
        name = str(Path(path).absolute()).casefold()
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=10).digest()
        place, mark = int.from_bytes(digest[:2], "big"), digest[2:]
        bucket = self._buckets[place]
        entries = (bucket[at : at + 16] for at in range(0, len(bucket), 16))
        former = next((entry[8:] for entry in entries if entry.startswith(mark)), None)
        if former is None:
            self._buckets[place] = bucket + mark + owner
        return former in (None, owner)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # Nothing can be looked up there, and so nothing written.
        return False


def _check_folder(template: str) -> None:
    # What comes before the first field is the same for all outputs.
    folder = Path(f"{template.partition('{')[0]}x").parent
    while not _exists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigurationError(
            f"download={template!r} cannot be filled: {str(folder)!r} is a file; name a folder, or remove it"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"download={template!r} cannot be filled: nothing can be written in {str(folder)!r}"
        )


def _is_there(file: JournalFile) -> bool:
    """Whether a file saved before is still intact."""
    try:
        return _digest_of(Path(file.path)) == (file.sha256, file.size)
    except OSError:
        return False


def _digest_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()


# -- templates -------------------------------------------------------------------------------------------

# Beside the saver and not in _files: every job of a batch passes here, and only these do.


def check_template(template: str) -> str:
    """Return a template of paths that tells the outputs of jobs apart.

    Args:
        template: A path with ``{key}``, ``{task_id}``, ``{n}``, ``{name}``, ``{ext}`` and ``{model}`` in it.
            A string without any of them is a folder, with or without a trailing separator.

    Raises:
        ConfigurationError: A field is unknown, or two outputs would get one path.
    """
    if "\0" in template or not is_utf8(template):
        raise ConfigurationError(f"download={template!r} contains a character that no path may have")
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
            f"the fields are {', '.join(sorted(_FIELDS))}"
        )
    if not {"n", "name"} & fields or not {"key", "task_id"} & fields:
        raise ConfigurationError(
            f"download={template!r} would put several outputs into one file; "
            f"it needs {{key}} or {{task_id}}, and {{n}} or {{name}}"
        )
    for _, field, form, conversion in parts:
        # A form could cut off what tells two outputs apart. Only {n} keeps it: {n:03d}.
        if field in _DISTINCT and (form or conversion):
            changed = f"!{conversion}:{form}" if conversion else form
            raise ConfigurationError(
                f"download={template!r} changes {{{field}}} by {changed!r}, so two outputs could get one "
                f"path; write {{{field}}}, only {{n}} can be formatted: {{n:03d}}"
            )
        if form and "{" in form:
            raise ConfigurationError(
                f"download={template!r} has a field in the format of {{{field}}}; use a literal format"
            )
    try:
        template.format_map(dict.fromkeys(_FIELDS, "x") | {"n": 0})
    except ValueError as error:
        raise ConfigurationError(f"download={template!r} cannot be filled in: {error}") from None
    return template


def file_name(template: str, key: str, model: str, output: Output) -> Path:
    """Return the path of one output. Field values cannot leave the folder that the template names.

    Two outputs may get one path: with ``{key}{n}``, a1 and 1 equal a and 11. ``OutputSaver`` resolves that.
    """
    suffix = PurePosixPath(output.name).suffix
    if not re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix):
        suffix = extension_of(output.content_type)
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
    """Return *text* as part of a file name; a digest keeps sanitized texts distinct."""
    clean = re.sub(r"[^A-Za-z0-9._=+@-]", "_", text).strip(".")
    if clean == text and len(clean) <= 100:
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{clean[:60]}-{digest}"
