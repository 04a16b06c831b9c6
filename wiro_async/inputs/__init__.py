"""Typed inputs of the service's video models, a class for each: it knows its model, names and rules.

>>> from wiro_async.inputs import KlingV26
>>> result = await client.run(KlingV26("photo.jpg", "waves roll in", duration=5))

What such classes are made of is here, too; ``wiro types`` writes them for any other model.
"""

from __future__ import annotations

from importlib import import_module

_OWN = "wiro_async.inputs.fields"
_MODELS = "wiro_async.inputs.video"


def __getattr__(name: str) -> object:
    # Some ninety classes take a moment to make; nobody waits for it before the first of them is asked for.
    if name == "__all__":
        return _names()
    for home in (_OWN, _MODELS) if not name.startswith("_") else ():
        module = import_module(home)
        if name in module.__all__:
            thing = globals()[name] = getattr(module, name)
            return thing
    raise AttributeError(f"module 'wiro_async.inputs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_names()})


def _names() -> list[str]:
    return sorted((*import_module(_OWN).__all__, *import_module(_MODELS).__all__))
