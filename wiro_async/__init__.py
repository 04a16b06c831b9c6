"""The asyncio-native client for the Wiro API: an image and a prompt go in, a video comes out.

>>> async with wiro_async.Client() as client:
...     result = await client.run(wiro_async.Director(image="photo.jpg", prompt="[Zoom in] waves roll in"))
...     await result.outputs[0].save("clips/")
"""

from typing import get_type_hints as _get_type_hints

from wiro_async._batch import Batch, BatchReport
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
    JournalError,
    ModelNotFound,
    RateLimited,
    ReplyError,
    ServiceError,
    SignInRequired,
    SubmissionUnknown,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskNotFound,
    TaskTimeout,
    WiroError,
    WrongState,
)
from wiro_async._follow import Events, Transitions
from wiro_async._inputs import Director, FileSource, HailuoSubject, TypedInputs
from wiro_async._jobs import Job, JobOutcome
from wiro_async._models import Model, ModelInput, Output, Task, TaskResult, Transition, Upload
from wiro_async._plan import Invalid, Plan
from wiro_async._progress import Event, Line, Progress
from wiro_async._schedule import Statistics
from wiro_async._tally import BatchProgress
from wiro_async._task import TaskHandle
from wiro_async._types import OnCancel, OnUnknown, Outcome, Secret, Status, Watch
from wiro_async._version import __version__
from wiro_async._watch.webhook import CallbackCounts, CallbackReceiver, CallbackURL

__all__ = [
    "APIError",
    "AuthenticationError",
    "Batch",
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
    "Event",
    "Events",
    "FileSource",
    "HailuoSubject",
    "InsufficientBalance",
    "Invalid",
    "InvalidInput",
    "Job",
    "JobOutcome",
    "JournalError",
    "Limits",
    "Line",
    "Model",
    "ModelInput",
    "ModelNotFound",
    "OnCancel",
    "OnUnknown",
    "Outcome",
    "Output",
    "Plan",
    "Polling",
    "Progress",
    "RateLimited",
    "ReplyError",
    "Secret",
    "ServiceError",
    "SignInRequired",
    "Statistics",
    "Status",
    "SubmissionUnknown",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "TaskResult",
    "TaskTimeout",
    "Transition",
    "Transitions",
    "TypedInputs",
    "Upload",
    "Watch",
    "WiroError",
    "WrongState",
    "__version__",
]


def _adopt() -> None:
    """Let tracebacks and reprs name what users import, not the module that happens to hold it."""
    for name in __all__:
        thing = globals()[name]
        if getattr(thing, "__module__", "").startswith("wiro_async."):
            if isinstance(thing, type) and not issubclass(thing, Exception):
                # Annotations are text, and mean something in the module that they were written in only.
                thing.__annotations__ = _get_type_hints(thing, include_extras=True)
            thing.__module__ = "wiro_async"


_adopt()
