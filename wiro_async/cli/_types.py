"""``wiro types``: the source of typed inputs, from the catalogue as it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
import attrs

from wiro_async import Client, InvalidInput, Model, ModelNotFound
from wiro_async.cli._report import Report
from wiro_async.cli._session import Code
from wiro_async.inputs.source import class_names, source_of

__all__ = ["Types"]


@attrs.frozen
class Types:
    """Writes a class for each model.

    Args:
        words: Models with any of these in their slug or title (none: all models).
        output: The file (None: stdout).
        overwrite: Whether a file that exists is replaced.
        report: Where the words go.
    """

    words: Sequence[str]
    output: Path | None
    overwrite: bool
    report: Report

    async def __call__(self, client: Client) -> int:
        """Write them.

        Raises:
            InvalidInput: The file exists, or no model has any of the words.
        """
        if self.output is not None and not self.overwrite and await anyio.Path(self.output).exists():
            raise InvalidInput(f"{self.output} exists; --overwrite replaces it", name="output")
        models = await self._models(client)
        source = source_of(models)
        named = {name: model.slug for name, model in class_names(models)}
        told = "" if self.output is None else str(self.output)
        self.report.record({"type": "types", "path": told, "classes": named, "source": source})
        if self.output is None:
            self.report.write(source)
        else:
            await anyio.to_thread.run_sync(self._save, self.output, source)
            self.report.say(f"{len(named)} classes in {self.output}")
        return Code.OK

    async def _models(self, client: Client) -> list[Model]:
        """Return the models that are wanted, with their inputs."""
        words = [word.casefold() for word in self.words]
        slugs = [
            model.slug
            async for model in client.list_models()
            if not words or any(word in f"{model.slug} {model.title}".casefold() for word in words)
        ]
        if not slugs:
            told = " or ".join(map(repr, self.words))
            raise InvalidInput(
                f"no model has {told} in its name; `wiro models` lists them"
                if told
                else "the service lists no models",
                name="words",
            )
        # The client sees to it that not too many are asked for at once.
        found = await asyncio.gather(*map(client.get_model, slugs), return_exceptions=True)
        models = []
        for slug, model in zip(slugs, found, strict=True):
            if isinstance(model, ModelNotFound):
                self.report.problem(f"{slug} is listed, and the service does not have it; it is left out")
            elif isinstance(model, BaseException):
                raise model
            else:
                models.append(model)
        return models

    def _save(self, path: Path, source: str) -> None:
        # It may have come into being meanwhile.
        with path.open("w" if self.overwrite else "x", encoding="utf-8") as file:
            file.write(source)
