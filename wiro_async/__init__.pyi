# Written by `python -m tests.public_names` from the table in __init__.py.

from wiro_async._batch.batch import (
    Batch as Batch,
    BatchFailure as BatchFailure,
    BatchReport as BatchReport,
)
from wiro_async._batch.options import (
    BatchOptions as BatchOptions,
    MapOptions as MapOptions,
)
from wiro_async._batch.plan import (
    BatchPlan as BatchPlan,
    InvalidJob as InvalidJob,
)
from wiro_async._batch.progress import (
    BatchProgress as BatchProgress,
)
from wiro_async._client import (
    Client as Client,
)
from wiro_async._config import (
    Limits as Limits,
    Polling as Polling,
)
from wiro_async._errors import (
    APIError as APIError,
    AuthenticationError as AuthenticationError,
    BatchStopped as BatchStopped,
    BudgetExceeded as BudgetExceeded,
    ClientUseError as ClientUseError,
    ConcurrencyLimited as ConcurrencyLimited,
    ConfigurationError as ConfigurationError,
    ConnectionFailed as ConnectionFailed,
    DownloadError as DownloadError,
    InsufficientBalance as InsufficientBalance,
    InvalidInput as InvalidInput,
    InvalidResponse as InvalidResponse,
    InvalidTaskState as InvalidTaskState,
    JournalError as JournalError,
    MissingExtra as MissingExtra,
    ModelNotFound as ModelNotFound,
    RateLimited as RateLimited,
    ServiceError as ServiceError,
    SubmissionUnknown as SubmissionUnknown,
    TaskNotFound as TaskNotFound,
    TermsNotAccepted as TermsNotAccepted,
    WiroError as WiroError,
)
from wiro_async._files.inputs import (
    FileSource as FileSource,
    TypedInputs as TypedInputs,
)
from wiro_async._jobs.bills import (
    Spending as Spending,
)
from wiro_async._jobs.checks import (
    Check as Check,
)
from wiro_async._jobs.job import (
    Job as Job,
    JobOutcome as JobOutcome,
)
from wiro_async._jobs.options import (
    RunOptions as RunOptions,
    SubmitOptions as SubmitOptions,
)
from wiro_async._journal.comparison import (
    JournalComparison as JournalComparison,
)
from wiro_async._journal.reader import (
    JournalReader as JournalReader,
)
from wiro_async._journal.steps import (
    JournalCounts as JournalCounts,
    JournalEntry as JournalEntry,
    JournalFailure as JournalFailure,
    JournalFile as JournalFile,
)
from wiro_async._protocol.events import (
    LogLine as LogLine,
    TaskEvent as TaskEvent,
    TaskProgress as TaskProgress,
)
from wiro_async._protocol.records import (
    Model as Model,
    ModelInput as ModelInput,
    Output as Output,
    Task as Task,
    TaskResult as TaskResult,
    Transition as Transition,
    Upload as Upload,
)
from wiro_async._tasks.ends import (
    TaskCancelled as TaskCancelled,
    TaskError as TaskError,
    TaskFailed as TaskFailed,
)
from wiro_async._tasks.handle import (
    TaskHandle as TaskHandle,
    TaskStalled as TaskStalled,
    TaskTimeout as TaskTimeout,
    TaskUnclear as TaskUnclear,
)
from wiro_async._tasks.iterators import (
    Events as Events,
    Listing as Listing,
    Transitions as Transitions,
)
from wiro_async._types import (
    CheckMode as CheckMode,
    OnCancel as OnCancel,
    OnUnknown as OnUnknown,
    Outcome as Outcome,
    Secret as Secret,
    Status as Status,
    Watch as Watch,
)
from wiro_async._watch.callbacks import (
    CallbackCounts as CallbackCounts,
    CallbackReceiver as CallbackReceiver,
    CallbackURL as CallbackURL,
)
from wiro_async._watch.schedule import (
    Statistics as Statistics,
)
from wiro_async.inputs.hailuo import (
    Director as Director,
    HailuoSubject as HailuoSubject,
)

_PUBLIC: dict[str, str]
__version__: str
__all__ = [
    "APIError",
    "AuthenticationError",
    "Batch",
    "BatchFailure",
    "BatchOptions",
    "BatchPlan",
    "BatchProgress",
    "BatchReport",
    "BatchStopped",
    "BudgetExceeded",
    "CallbackCounts",
    "CallbackReceiver",
    "CallbackURL",
    "Check",
    "CheckMode",
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
    "JournalComparison",
    "JournalCounts",
    "JournalEntry",
    "JournalError",
    "JournalFailure",
    "JournalFile",
    "JournalReader",
    "Limits",
    "Listing",
    "LogLine",
    "MapOptions",
    "MissingExtra",
    "Model",
    "ModelInput",
    "ModelNotFound",
    "OnCancel",
    "OnUnknown",
    "Outcome",
    "Output",
    "Polling",
    "RateLimited",
    "RunOptions",
    "Secret",
    "ServiceError",
    "Spending",
    "Statistics",
    "Status",
    "SubmissionUnknown",
    "SubmitOptions",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskEvent",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "TaskProgress",
    "TaskResult",
    "TaskStalled",
    "TaskTimeout",
    "TaskUnclear",
    "TermsNotAccepted",
    "Transition",
    "Transitions",
    "TypedInputs",
    "Upload",
    "Watch",
    "WiroError",
    "__version__",
]
