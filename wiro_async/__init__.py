"""The asyncio-native client for the Wiro API: an image and a prompt go in, a video comes out.

>>> async with wiro_async.Client() as client:
...     result = await client.run(wiro_async.Director(image="photo.jpg", prompt="[Zoom in] waves roll in"))
...     await result.outputs[0].save("clips/")
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, get_type_hints

from wiro_async._version import __version__

if TYPE_CHECKING:
    from wiro_async._batch.batch import Batch, BatchReport
    from wiro_async._batch.plan import BatchPlan, InvalidJob
    from wiro_async._batch.progress import BatchProgress
    from wiro_async._client import Client
    from wiro_async._config import Limits, Polling
    from wiro_async._errors import (
        APIError,
        AuthenticationError,
        BatchStopped,
        ClientUseError,
        ConcurrencyLimited,
        ConfigurationError,
        ConnectionFailed,
        DownloadError,
        InsufficientBalance,
        InvalidInput,
        InvalidResponse,
        InvalidTaskState,
        JournalError,
        ModelNotFound,
        RateLimited,
        ServiceError,
        SubmissionUnknown,
        TaskCancelled,
        TaskError,
        TaskFailed,
        TaskNotFound,
        TaskTimeout,
        TermsNotAccepted,
        WiroError,
    )
    from wiro_async._files.inputs import Director, FileSource, HailuoSubject, TypedInputs
    from wiro_async._jobs.job import Job, JobOutcome
    from wiro_async._protocol.events import LogLine, TaskEvent, TaskProgress
    from wiro_async._protocol.records import Model, ModelInput, Output, Task, TaskResult, Transition, Upload
    from wiro_async._tasks.handle import TaskHandle
    from wiro_async._tasks.iterators import Events, Transitions
    from wiro_async._types import OnCancel, OnUnknown, Outcome, Secret, Status, Watch
    from wiro_async._watch.callbacks import CallbackCounts, CallbackReceiver, CallbackURL
    from wiro_async._watch.schedule import Statistics

__all__ = [
    "APIError",
    "AuthenticationError",
    "Batch",
    "BatchPlan",
    "BatchProgress",
    "BatchReport",
    "BatchStopped",
    "CallbackCounts",
    "CallbackReceiver",
    "CallbackURL",
    "Client",
    "ClientUseError",
    "ConcurrencyLimited",
    "ConfigurationError",
    "ConnectionFailed",
    "Director",
    "DownloadError",
    "Events",
    "FileSource",
    "HailuoSubject",
    "InsufficientBalance",
    "InvalidInput",
    "InvalidJob",
    "InvalidResponse",
    "InvalidTaskState",
    "Job",
    "JobOutcome",
    "JournalError",
    "Limits",
    "LogLine",
    "Model",
    "ModelInput",
    "ModelNotFound",
    "OnCancel",
    "OnUnknown",
    "Outcome",
    "Output",
    "Polling",
    "RateLimited",
    "Secret",
    "ServiceError",
    "Statistics",
    "Status",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskEvent",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "TaskProgress",
    "TaskResult",
    "TaskTimeout",
    "TermsNotAccepted",
    "Transition",
    "Transitions",
    "TypedInputs",
    "Upload",
    "Watch",
    "WiroError",
    "__version__",
]

_HOMES: dict[str, tuple[str, ...]] = {
    "wiro_async._batch.batch": ("Batch", "BatchReport"),
    "wiro_async._client": ("Client",),
    "wiro_async._config": ("Limits", "Polling"),
    "wiro_async._errors": (
        "APIError",
        "AuthenticationError",
        "BatchStopped",
        "ClientUseError",
        "ConcurrencyLimited",
        "ConfigurationError",
        "ConnectionFailed",
        "DownloadError",
        "InsufficientBalance",
        "InvalidInput",
        "JournalError",
        "ModelNotFound",
        "RateLimited",
        "InvalidResponse",
        "ServiceError",
        "TermsNotAccepted",
        "SubmissionUnknown",
        "TaskCancelled",
        "TaskError",
        "TaskFailed",
        "TaskNotFound",
        "TaskTimeout",
        "WiroError",
        "InvalidTaskState",
    ),
    "wiro_async._tasks.iterators": ("Events", "Transitions"),
    "wiro_async._files.inputs": ("Director", "FileSource", "HailuoSubject", "TypedInputs"),
    "wiro_async._jobs.job": ("Job", "JobOutcome"),
    "wiro_async._protocol.records": (
        "Model",
        "ModelInput",
        "Output",
        "Task",
        "TaskResult",
        "Transition",
        "Upload",
    ),
    "wiro_async._batch.plan": ("InvalidJob", "BatchPlan"),
    "wiro_async._protocol.events": ("TaskEvent", "LogLine", "TaskProgress"),
    "wiro_async._watch.schedule": ("Statistics",),
    "wiro_async._batch.progress": ("BatchProgress",),
    "wiro_async._tasks.handle": ("TaskHandle",),
    "wiro_async._types": ("OnCancel", "OnUnknown", "Outcome", "Secret", "Status", "Watch"),
    "wiro_async._watch.callbacks": ("CallbackCounts", "CallbackReceiver", "CallbackURL"),
}
"""Which module each public name comes from: it is imported when the name is first asked for."""

_MODULE_OF: dict[str, str] = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # pragma: no branch - type checkers would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'wiro_async' has no attribute {name!r}")
        thing = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
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
    if module.__name__ == "wiro_async._watch":
        module.__class__ = _Package
    for name in _HOMES.get(module.__name__, ()):
        thing = getattr(module, name)
        if not isinstance(thing, type):
            continue
        if not issubclass(thing, Exception):
            # Annotations are text, and mean something in the module that they were written in only.
            thing.__annotations__ = get_type_hints(thing, include_extras=True)
        thing.__module__ = "wiro_async"


sys.modules[__name__].__class__ = _Package
