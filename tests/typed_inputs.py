"""Writes ``wiro_async/inputs/video.py``, the typed inputs of all video models, and what type checkers read.

::

    python -m tests.typed_inputs

The facts are those that come with the sandbox. Defaults that may be wrong are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wiro_async
from wiro_async import Model
from wiro_async._protocol.records import parse_model
from wiro_async.inputs.source import PARTS, class_names, source_of

HOME = Path(wiro_async.__file__).parent
FACTS = HOME / "sandbox" / "models.json"
VIDEO = HOME / "inputs" / "video.py"
STUB = HOME / "inputs" / "__init__.pyi"

KINDS = {"image-to-video", "text-to-video", "video-to-video"}


def all_models() -> list[Model]:
    """Return every model of the sandbox's catalogue."""
    return [_model(facts) for facts in json.loads(FACTS.read_text("utf-8"))]


def video_models() -> list[Model]:
    """Return those that make videos."""
    return [model for model in all_models() if KINDS & set(model.categories)]


def _model(facts: dict[str, Any]) -> Model:
    owner, _, project = facts["slug"].partition("/")
    inputs = facts["inputs"]
    if not facts.get("reliable"):
        inputs = [_without_default(item) for item in inputs]
    return parse_model(
        {
            "slugowner": owner,
            "slugproject": project,
            "title": facts["title"],
            "categories": [facts["category"]],
            "parameters": [{"title": "Inputs", "items": inputs}],
        }
    )


def _without_default(item: dict[str, Any]) -> dict[str, Any]:
    """Leave out a default that may be wrong; that there is one is true, so the input is not needed."""
    required = item.get("required", False) and "default" not in item
    return {**{name: value for name, value in item.items() if name != "default"}, "required": required}


def stub() -> str:
    """Return the text of the stub."""
    names = [name for name, _ in class_names(video_models())]
    return "\n".join(
        [
            "# Written by `python -m tests.typed_inputs`.",
            "",
            "from wiro_async.inputs.fields import (",
            *(f"    {name} as {name}," for name in PARTS),
            ")",
            "from wiro_async.inputs.video import (",
            *(f"    {name} as {name}," for name in names),
            ")",
            "",
            "__all__ = [",
            *(f'    "{name}",' for name in sorted((*PARTS, *names))),
            "]",
            "",
        ]
    )


if __name__ == "__main__":
    VIDEO.write_text(source_of(video_models()), "utf-8")
    STUB.write_text(stub(), "utf-8")
