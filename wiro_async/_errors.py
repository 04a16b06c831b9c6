"""Every exception that the library raises on purpose, but for ``TaskError`` and what is below it.

Those are in ``_tasks``, for they hold tasks; this module imports nothing of the package. The whole tree::

    WiroError
    ├── ConfigurationError (ValueError, TypeError)  a key, URL, option or other argument cannot work
    │   └── MissingExtra (ImportError)      it needs a package that is not installed
    ├── ClientUseError (RuntimeError)       closed client, second event loop, forked process
    ├── InvalidInput (ValueError)           refused before sending, or by the service: change the input
    ├── BudgetExceeded                      a max_cost does not cover a Run: it was not sent
    ├── APIError                            the service said no
    │   ├── AuthenticationError             wrong key, signature or address: fix the credentials
    │   ├── ModelNotFound                   no such model, or not yours to run
    │   ├── TaskNotFound                    no such task under this project
    │   ├── InvalidTaskState                too late, or too early, for cancel or kill
    │   ├── ConcurrencyLimited              code 96: as many tasks run as the balance allows
    │   ├── InsufficientBalance             code 97: add funds
    │   ├── TermsNotAccepted                code 98: accept the model's terms on the site
    │   ├── RateLimited                     HTTP 429: slow down
    │   └── ServiceError                    the service failed, or refused without a known reason
    ├── ConnectionFailed                    no usable answer: not reached, cut off, or too slow
    ├── InvalidResponse                     an answer that is not the service's protocol
    │   └── TaskUnclear (TaskError)         a task has ended, and the service does not say how
    ├── SubmissionUnknown                   a Run left, its answer did not arrive: paid or not, nobody knows
    ├── TaskError                           how a task ended, or did not
    │   ├── TaskFailed                      it ran and failed
    │   ├── TaskCancelled                   somebody cancelled or killed it
    │   └── TaskTimeout (TimeoutError)      the wait ran out; the task goes on
    │       └── TaskStalled                 it stands in task_error: perhaps it goes on
    ├── DownloadError                       an output could not be saved
    ├── JournalError                        the journal is not usable, or cannot be written any more
    └── BatchStopped                        a batch makes no more Runs: money, credentials, too many failures

No message, attribute or pickle of these holds a key, a signature or a socket token. All can be pickled;
what belongs to a live client (``TaskTimeout.handle``) is left behind when they are.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, ClassVar, Literal

__all__ = [
    "APIError",
    "AuthenticationError",
    "BatchStopped",
    "BudgetExceeded",
    "ClientUseError",
    "ConcurrencyLimited",
    "ConfigurationError",
    "ConnectionFailed",
    "DownloadError",
    "InsufficientBalance",
    "InvalidInput",
    "InvalidResponse",
    "InvalidTaskState",
    "JournalError",
    "MissingExtra",
    "ModelNotFound",
    "RateLimited",
    "ServiceError",
    "SubmissionUnknown",
    "TaskNotFound",
    "TermsNotAccepted",
    "WiroError",
]


class WiroError(Exception):
    """The root of all errors raised by wiro_async.

    Attributes:
        message: One line that names the value, the rule and the way out.
    """

    _live: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message: str = message

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name not in self._live}
        return (_rebuild, (type(self), self.message), state)


def _rebuild(kind: type[WiroError], message: str) -> WiroError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    return error


class ConfigurationError(WiroError, ValueError, TypeError):
    """A key, URL, option or other argument that cannot work: refused where it is given, before a Run is sent.

    It is a ``ValueError`` and a ``TypeError``, for Python's own refusal would be either. The message never
    contains the value of a key or secret.
    """


class MissingExtra(ConfigurationError, ImportError):
    """What was asked for needs a package that is not installed; the message names the extra to install."""


class ClientUseError(WiroError, RuntimeError):
    """The client was used after ``aclose()``, from a second event loop, or in a forked child process."""


class InvalidInput(WiroError, ValueError):
    """The model's name, an input or a file cannot be sent, or the service refused it. Nothing was billed.

    Attributes:
        name: The input in question, as a path such as ``inputs.image`` (None: the request as a whole).
    """

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name: str | None = name


class BudgetExceeded(WiroError):
    """A ``max_cost`` does not cover a Run, or its price is not known. Nothing was uploaded, sent or billed.

    Attributes:
        price: USD that the Run may cost (None: nobody knows).
        spent: USD of the limit that are gone: charged, estimated, or reserved for Runs in flight.
        limit: The limit, in USD.
        scope: Whose limit it is: the ``"call"``'s own, or the ``"client"``'s.
    """

    def __init__(
        self,
        message: str,
        *,
        price: Decimal | None,
        spent: Decimal,
        limit: Decimal,
        scope: Literal["call", "client"],
    ) -> None:
        super().__init__(message)
        self.price: Decimal | None = price
        self.spent: Decimal = spent
        self.limit: Decimal = limit
        self.scope: Literal["call", "client"] = scope


class APIError(WiroError):
    """The service answered, and its answer is no.

    Attributes:
        code: The service's own error code (None where it gave none).
        http_status: The reply's HTTP status; most refusals come with 200.
        operation: The call that was refused, such as ``Task/Detail``.
        detail: The service's own words.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        http_status: int | None = None,
        operation: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.code: int | None = code
        self.http_status: int | None = http_status
        self.operation: str = operation
        self.detail: str = detail


class AuthenticationError(APIError):
    """The service does not accept the key, the signature, or the address that the call came from.

    Credentials that never worked are believed to be wrong at once. If they have worked before, a read asks
    again three times over 10 s before it raises this; a Run is not sent again, and raises it at once.

    Attributes:
        passing: True for a Run that was refused although the credentials have worked: they may do so again.
    """

    def __init__(self, message: str, *, passing: bool = False, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.passing: bool = passing


class ModelNotFound(APIError):
    """The service knows no such model, or it is not accessible to this project."""


class TaskNotFound(APIError):
    """The service knows no task with this id or token under this project.

    Attributes:
        passing: True if the service itself has named or shown this task, and denies it for less than half a
            minute: not all of its machines may know the task yet, so ask again.
        doubt: For ``client.reconcile()``: the Run whose answer named this task, in case that the answer was
            another Run's (None: it was not our Run, or the task may still turn up).
    """

    def __init__(
        self, message: str, *, passing: bool = False, doubt: SubmissionUnknown | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.passing: bool = passing
        self.doubt: SubmissionUnknown | None = doubt


class InvalidTaskState(APIError):
    """The task is past (or not yet in) the state that this call needs.

    ``cancel()`` is for queued tasks, ``kill()`` for running ones; ``stop()`` picks by itself.
    """


class ConcurrencyLimited(APIError):
    """Code 96: as many tasks run as the account's balance allows. The Run was refused and costs nothing.

    Attributes:
        limit: How many tasks may run at a time (None where the message did not say).
    """

    def __init__(self, message: str, *, limit: int | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit: int | None = limit


class InsufficientBalance(APIError):
    """Code 97: the balance is too low to start a task (the service's minimum is USD 0.50)."""


class TermsNotAccepted(APIError):
    """Code 98: this model wants its terms accepted on the service's site first."""


class RateLimited(APIError):
    """HTTP 429: too many requests. The call was refused and costs nothing.

    Attributes:
        retry_after: Seconds that the service asked us to wait (None where it did not say).
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after: float | None = retry_after


class ServiceError(APIError):
    """The service failed, or refused for a reason that has no class of its own.

    Attributes:
        retry_after: Seconds that the service asked us to wait (None where it did not say).
    """

    def __init__(self, message: str, *, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after: float | None = retry_after


class ConnectionFailed(WiroError):
    """No usable answer: the service was not reached, cut the connection, or was too slow.

    Attributes:
        sent: Whether any byte of the request may have reached the service. False is certain.
        operation: The call that failed, such as ``Task/Detail``.
    """

    def __init__(self, message: str, *, sent: bool, operation: str = "") -> None:
        super().__init__(message)
        self.sent: bool = sent
        self.operation: str = operation


class InvalidResponse(WiroError):
    """An answer that is not the service's protocol: HTML, broken JSON, too large, or another call's.

    Attributes:
        http_status: The reply's HTTP status (None where there was none).
        operation: The call that was answered so.
        excerpt: The start of the body, at most 500 characters.
        too_large: Whether it has more bytes, values or lists than are read.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        operation: str = "",
        excerpt: str = "",
        too_large: bool = False,
    ) -> None:
        super().__init__(message)
        self.http_status: int | None = http_status
        self.operation: str = operation
        self.excerpt: str = excerpt
        self.too_large: bool = too_large


class SubmissionUnknown(WiroError):
    """A Run left this machine and no answer came back that can be believed: it may have been accepted.

    The service's list was searched for it, by its marker or its inputs, and does not have it; it was not sent
    again, because that could pay twice. ``client.reconcile(error)`` searches again, also after a pickle.

    Attributes:
        model: The model's slug.
        input_names: The names of the inputs.
        inputs_digest: SHA-256 of the inputs, to find the task without storing them.
        marker: What the callback URL carried to tell this Run from all others ("" without a callback).
        submitted_at: When the Run was sent, in unix seconds.
        quiet_at: From when on its task is in the list or will never exist, in unix seconds (infinity: not
            known). A search that begins later can prove it absent.
        cause: What was seen instead of an answer.
        absent: True when it is proved that no task exists: a reading of the list that began after
            ``quiet_at`` does not have it, nor a task like it that is up to an hour off.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str,
        inputs_digest: str,
        submitted_at: float,
        cause: str,
        input_names: tuple[str, ...] = (),
        marker: str = "",
        absent: bool = False,
        quiet_at: float = math.inf,
    ) -> None:
        super().__init__(message)
        self.model: str = model
        self.input_names: tuple[str, ...] = input_names
        self.inputs_digest: str = inputs_digest
        self.marker: str = marker
        self.submitted_at: float = submitted_at
        self.cause: str = cause
        self.absent: bool = absent
        self.quiet_at: float = quiet_at


class DownloadError(WiroError):
    """An output could not be read or saved whole. What was received stays in the ``.part`` file.

    Attributes:
        url: Where the output was to come from.
        path: The file that was to be written (None for ``read()``).
        http_status: The last HTTP status (None where there was none).
    """

    def __init__(
        self, message: str, *, url: str = "", path: str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.url: str = url
        self.path: str | None = path
        self.http_status: int | None = http_status


class JournalError(WiroError):
    """The journal cannot be opened, cannot be written any more, or was told what contradicts what is in it.

    Nothing that was durable is lost by it: mend what the message names, open the journal again, and go on.

    Attributes:
        path: The journal's file.
        reason: One word. On opening: ``missing``, ``locked`` (in use), ``foreign`` (not a journal), ``newer``
            (of a later version), ``corrupt``, ``apart`` (its ``-wal`` file is missing, or another's),
            ``network`` (on a network file system), ``readonly``. Before the first Run: ``behind`` (the
            account has newer tasks of it: it is an older copy). Later:
            ``full`` (no room on the disk), ``io`` (the disk failed), ``slow`` (it does not answer),
            ``failed`` (anything else). For one call only, the journal being well: ``conflict``.
    """

    def __init__(self, message: str, *, path: str, reason: str) -> None:
        super().__init__(message)
        self.path: str = path
        self.reason: str = reason


class BatchStopped(WiroError):
    """A batch makes no more Runs. Tasks that run are awaited; jobs without a Run cost nothing.

    Attributes:
        reason: One word to branch on: ``balance`` (code 97), ``credentials`` (refused), ``max_cost`` (the
            batch's is spent), ``budget`` (the client's ``max_cost`` is), ``unpriced`` (one of these cannot be
            kept: a price is not known), ``breaker`` (too many equal failures in a row), ``canary`` (one of
            the first jobs failed), ``fail_fast``, ``journal`` (it cannot be written), ``disk`` (outputs
            cannot), ``stopped`` (by the caller).
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason: str = reason
