"""The asyncio-native client for the Wiro API: an image and a prompt go in, a video comes out.

>>> async with wiro_async.Client() as client:
...     result = await client.run(wiro_async.Director(image="photo.jpg", prompt="[Zoom in] waves roll in"))
...     await result.save("clips/")
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from wiro_async._version import __version__ as __version__

_PUBLIC: dict[str, str] = {
    "_batch.batch": "Batch BatchFailure BatchReport",
    "_batch.plan": "BatchPlan InvalidJob",
    "_batch.options": "BatchOptions MapOptions",
    "_batch.progress": "BatchProgress",
    "_client": "Client",
    "_config": "Limits Polling",
    "_journal.comparison": "JournalComparison",
    "_errors": (
        "APIError AuthenticationError BatchStopped BudgetExceeded ClientUseError ConcurrencyLimited "
        "ConfigurationError ConnectionFailed DownloadError InsufficientBalance InvalidInput InvalidResponse "
        "InvalidTaskState JournalError MissingExtra ModelNotFound RateLimited ServiceError SubmissionUnknown "
        "TaskNotFound TermsNotAccepted WiroError"
    ),
    "_files.inputs": "FileSource TypedInputs",
    "_jobs.bills": "Spending",
    "_jobs.checks": "Check",
    "_jobs.job": "Job JobOutcome",
    "_jobs.options": "RunOptions SubmitOptions",
    "_journal.reader": "JournalReader",
    "_journal.steps": "JournalCounts JournalEntry JournalFailure JournalFile",
    "_protocol.events": "LogLine TaskEvent TaskProgress",
    "_protocol.records": "Model ModelInput Output Task TaskResult Transition Upload",
    "_tasks.ends": "TaskCancelled TaskError TaskFailed",
    "_tasks.handle": "TaskHandle TaskStalled TaskTimeout TaskUnclear",
    "_tasks.iterators": "Events Listing Transitions",
    "_types": "CheckMode OnCancel OnUnknown Outcome Secret Status Watch",
    "_watch.callbacks": "CallbackCounts CallbackReceiver CallbackURL",
    "_watch.schedule": "Statistics",
    "inputs.hailuo": "Director HailuoSubject",
}
"""Each public name, once, by its module, which is imported when the name is first asked for.

Type checkers read ``__init__.pyi``, which ``python -m tests.public_names`` writes from this table.
"""

_MODULE_OF: dict[str, str] = {name: module for module, names in _PUBLIC.items() for name in names.split()}

__all__ = sorted([*_MODULE_OF, "__version__"])  # noqa: PLE0605 # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'wiro_async' has no attribute {name!r}")
    thing = globals()[name] = getattr(import_module(f"wiro_async.{_MODULE_OF[name]}"), name)
    return thing


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("_"))})


class _Package(ModuleType):
    """A package that is told of each of its modules, once it is imported, by whomever."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if isinstance(value, ModuleType):
            _adopt(value)


def _adopt(module: ModuleType) -> None:
    """Let tracebacks, reprs and pickles name what users import, not the module that happens to hold it."""
    home = module.__name__.removeprefix("wiro_async.")
    if any(public.startswith(f"{home}.") for public in _PUBLIC):
        module.__class__ = _Package
    for name in _PUBLIC.get(home, "").split():
        thing = getattr(module, name)
        if not isinstance(thing, type):
            continue
        if not issubclass(thing, Exception):
            from typing import get_type_hints  # noqa: PLC0415 - not before it is needed

            # Annotations are text, and mean something in the module that they were written in only.
            thing.__annotations__ = get_type_hints(thing, include_extras=True)
        thing.__module__ = "wiro_async"


sys.modules[__name__].__class__ = _Package
