"""What may be sent again, and when. Pure: errors and random numbers in, verdicts and pauses out.

A Run costs money and has no idempotency key, so it is sent again only when it is known that the service did
not take it: no byte of it left, or HTTP 429. Everything else about a Run is either a refusal, which asking
again would not change, or unknown, which asking again could pay for twice.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import attrs

from wiro_async._errors import (
    APIError,
    BatchStopped,
    BudgetExceeded,
    ClientUseError,
    ConfigurationError,
    ConnectionFailed,
    InvalidInput,
    InvalidResponse,
    JournalError,
    RateLimited,
    ServiceError,
    TaskNotFound,
    WiroError,
)
from wiro_async._protocol.refusals import UNCERTAIN, is_known_refusal

__all__ = [
    "DOWNLOADS",
    "READS",
    "RUNS",
    "UPLOADS",
    "Credentials",
    "Knowledge",
    "RetryBudget",
    "RetryPolicy",
    "is_transient",
    "is_unwell",
    "run_knowledge",
    "run_may_repeat",
]

Knowledge: TypeAlias = Literal["not sent", "refused", "unknown"]
"""What is known of a Run that brought no acceptance."""


# -- whether ---------------------------------------------------------------------------------------------


def run_knowledge(error: WiroError) -> Knowledge:
    """Say what *error* tells about the Run that it answers.

    A refusal is believed only in the service's own envelope, and only in a code or in words that are known
    to be one; HTTP 429 means that the Run was not taken, whoever says so. Everything else is unknown: a proxy
    may have answered for a service that had taken the Run, and the service uses code 0 for its own faults,
    too. An error that is not listed here tells nothing.
    """
    match error:
        case ConnectionFailed(sent=sent):
            return "unknown" if sent else "not sent"
        case InvalidResponse():
            return "unknown"
        case ServiceError(http_status=status, detail=detail):
            return "refused" if is_known_refusal(status, detail) else "unknown"
        case APIError() | InvalidInput():
            return "refused"
        case ConfigurationError() | ClientUseError() | BudgetExceeded() | JournalError() | BatchStopped():
            return "not sent"
        case _:
            return "unknown"


def run_may_repeat(error: WiroError) -> bool:
    """Whether a Run that met *error* may be sent again without asking anybody."""
    return isinstance(error, RateLimited) or (isinstance(error, ConnectionFailed) and not error.sent)


def is_transient(error: WiroError) -> bool:
    """Whether a read that met *error* is worth repeating.

    The service uses code 0 for its own faults as well as for bad input, so a read repeats it. What is not
    the service's own reply, such as a web page with a 403, says nothing, and is repeated.
    """
    match error:
        case TaskNotFound(passing=passing):
            return passing
        case ConnectionFailed() | InvalidResponse() | RateLimited():
            return True
        case ServiceError(http_status=status, code=code):
            if status in UNCERTAIN or status is None or status >= 500 or code == 0:
                return True
            return code is None and status < 400
        case _:
            return False


def is_unwell(error: WiroError) -> bool:
    """Whether *error* says that the service, or what is before it, is unwell, and not only one record."""
    match error:
        case ConnectionFailed() | RateLimited():
            return True
        case InvalidResponse(http_status=status):
            # A web page with a 403 comes from what stands before the service, and meets every call.
            return status is not None and status >= 400
        case ServiceError(http_status=status):
            return status is not None and status >= 500
        case _:
            return False


# -- when ------------------------------------------------------------------------------------------------


def _positive(_policy: RetryPolicy, attribute: attrs.Attribute[Any], value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{attribute.name} is {value!r}; it must be a positive, finite number")


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often something that failed is tried again, and how long to wait before.

    Exponential back-off with jitter, after Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015). The pause after attempt *n* lasts at most

        ``ceiling = min(longest, base * 2**(n - 1))``

    seconds, of which the share *jitter* is multiplied by a random number between 0 and 1:

        ``pause = ceiling * (1 - jitter + jitter * chance)``

    A *jitter* of 1 is Brooker's "full jitter", 0.5 his "equal jitter". A pause is never shorter than what the
    service has asked for in a Retry-After.

    ========== ======== ===== ======= ====== ======================================================
    policy     attempts base  longest jitter pauses at most
    ========== ======== ===== ======= ====== ======================================================
    RUNS       11       0.1 s 20 s    0.5    65.5 s in all: the service may restart meanwhile
    READS      3        0.1 s 20 s    1      0.3 s in all: a poll that failed is made again anyway
    UPLOADS    5        0.5 s 20 s    1      7.5 s in all
    DOWNLOADS  6        0.4 s 20 s    0      12.4 s in all; attempts in a row that brought no byte
    ========== ======== ===== ======= ====== ======================================================

    Args:
        attempts: How many attempts are made in all, the first included (None: there is no last one).
        base: The first pause in seconds, at most.
        longest: The longest pause in seconds.
        jitter: The random share of each pause, from 0 to 1.

    Raises:
        ValueError: An argument is out of range.
    """

    attempts: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    base: float = attrs.field(validator=_positive)
    longest: float = attrs.field(default=20.0, validator=_positive)
    jitter: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)])

    def pause(self, attempt: int, chance: float, retry_after: float | None = None) -> float:
        """Return the seconds to wait after attempt *attempt*, be there another one or not.

        Args:
            attempt: How many attempts were made, from 1 on.
            chance: A random number between 0 and 1.
            retry_after: What the service has asked for, in seconds (None: nothing).
        """
        # 2**64 is beyond any `longest`, and a float still holds it.
        ceiling = min(self.longest, self.base * 2.0 ** min(attempt - 1, 64))
        return max(ceiling * (1.0 - self.jitter + self.jitter * chance), retry_after or 0.0)

    def delay(self, attempt: int, chance: float, retry_after: float | None = None) -> float | None:
        """Return the seconds to wait before the next attempt; None when *attempt* was the last one.

        Args:
            attempt: As for ``pause()``.
            chance: As for ``pause()``.
            retry_after: As for ``pause()``.
        """
        if self.attempts is not None and attempt >= self.attempts:
            return None
        return self.pause(attempt, chance, retry_after)


RUNS = RetryPolicy(attempts=11, base=0.1, jitter=0.5)
READS = RetryPolicy(attempts=3, base=0.1)
UPLOADS = RetryPolicy(attempts=5, base=0.5)
DOWNLOADS = RetryPolicy(attempts=6, base=0.4, jitter=0.0)


# -- how many --------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class RetryBudget:
    """A token bucket over all reads of a client, so that an outage is not answered with a storm.

    A retry costs 14 tokens of 500, a call that succeeds gives one back: the figures of the AWS SDKs' standard
    mode. In a total outage at most 35 retries are sent, however many calls are made.

    Attributes:
        tokens: How many tokens are left.
        is_full: Whether there is nothing to give back, and so no need to call ``credit()``.
    """

    tokens: float = attrs.field(default=500.0, init=False)
    is_full: bool = attrs.field(default=True, init=False)

    def take(self) -> bool:
        """Take a retry out of the budget, if there is one."""
        if self.tokens < 14.0:
            return False
        self.tokens -= 14.0
        self.is_full = False
        return True

    def credit(self) -> None:
        """Put a token back after a call that succeeded."""
        self.tokens = min(self.tokens + 1.0, 500.0)
        self.is_full = self.tokens == 500.0


# -- credentials -----------------------------------------------------------------------------------------

REFUSALS = (1.0, 3.0, 6.0)
"""Pauses in seconds between the refusals of credentials that have worked: the fourth one is believed."""


@attrs.define(eq=False)
class Credentials:
    """Whether a refusal of a client's credentials is believed.

    One of the service's machines may not know a valid key for a moment. So a refusal of credentials that have
    worked is believed only after three more over 10 s: of one read, which asks again; or of Runs, which are
    not sent again, but of which others follow.

    Attributes:
        worked: Whether they have worked, and no refusal was believed since. To be set after each success.
        runs_refused: How many Runs were refused in a row. To be set to 0 after each success.
    """

    worked: bool = attrs.field(default=False, init=False)
    runs_refused: int = attrs.field(default=0, init=False)
    _rest_until: float = attrs.field(default=float("-inf"), init=False)

    def refused_read(self, times: int) -> float | None:
        """Return the seconds after which a read asks again (None: it is believed).

        Args:
            times: How often this read was refused, from 1 on.
        """
        if self.worked and times <= len(REFUSALS):
            return REFUSALS[times - 1]
        self.worked = False
        return None

    def refused_run(self, time: float) -> bool:
        """Take note of a Run that was refused at that time; True: it is not believed yet."""
        # Runs that were on their way together are refused together, which counts once.
        if self.worked and time >= self._rest_until:
            self.worked = self.runs_refused < len(REFUSALS)
            if self.worked:
                self._rest_until = time + REFUSALS[self.runs_refused]
                self.runs_refused += 1
        return self.worked

    def rest(self, time: float) -> float:
        """Return the seconds for which no Run should be sent after one that was refused at that time."""
        return max(self._rest_until - time, 0.0) if self.worked else 0.0
