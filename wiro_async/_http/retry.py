"""What may be sent again, and when. Pure: errors and random numbers in, verdicts and delays out.

A Run costs money and has no idempotency key, so it is sent again only when it is known that the service did
not take it: no byte of it left, or HTTP 429. Everything else about a Run is either a refusal, which asking
again would not change, or unknown, which asking again could pay for twice.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from wiro_async._errors import (
    APIError,
    BatchStopped,
    ClientUseError,
    ConfigurationError,
    ConnectionFailed,
    InvalidInput,
    InvalidResponse,
    JournalError,
    RateLimited,
    ServiceError,
    WiroError,
)

__all__ = [
    "DOWNLOADS",
    "UPLOADS",
    "Knowledge",
    "RetryBudget",
    "RetryPolicy",
    "backoff",
    "is_transient",
    "is_unwell",
    "run_knowledge",
    "run_may_repeat",
]

Knowledge: TypeAlias = Literal["not sent", "refused", "unknown"]
"""What is known of a Run that brought no acceptance."""

MAX_ATTEMPTS = 3
BASE_DELAY = 0.05
MAX_DELAY = 20.0


def run_knowledge(error: WiroError) -> Knowledge:
    """Say what *error* tells about the Run that it answers.

    A 5xx is unknown: a proxy may have answered for a service that had taken the Run. So is a 2xx that is not
    the service's own. A 4xx means that the Run was not taken, whoever says so; and an error with the
    service's own code or words in a reply below 500 is its word. An error that nobody thought of here tells
    nothing.
    """
    match error:
        case ConnectionFailed(sent=sent):
            return "unknown" if sent else "not sent"
        case InvalidResponse():
            return "unknown"
        case ServiceError(http_status=status, code=code, detail=detail):
            spoken = code is not None or detail != "" or (status is not None and status >= 400)
            return "refused" if spoken and (status or 0) < 500 else "unknown"
        case APIError() | InvalidInput():
            return "refused"
        case ConfigurationError() | ClientUseError() | JournalError() | BatchStopped():
            return "not sent"
        case _:
            return "unknown"


def run_may_repeat(error: WiroError) -> bool:
    """Whether a Run that met *error* may be sent again by itself."""
    return isinstance(error, RateLimited) or (isinstance(error, ConnectionFailed) and not error.sent)


def is_unwell(error: WiroError) -> bool:
    """Whether *error* says that the service as a whole is unwell, and not that one task's record is."""
    match error:
        case ConnectionFailed() | RateLimited():
            return True
        case ServiceError(http_status=status) | InvalidResponse(http_status=status):
            return status is not None and status >= 500
        case _:
            return False


def is_transient(error: WiroError) -> bool:
    """Whether a read that met *error* is worth repeating.

    The service uses code 0 for its own faults as well as for bad input, so a read repeats it. A 4xx without
    the service's code comes from another server, or from another path, and stays what it is.
    """
    match error:
        case ConnectionFailed() | InvalidResponse() | RateLimited():
            return True
        case ServiceError(http_status=status, code=code):
            if status in (408, 425) or status is None or status >= 500 or code == 0:
                return True
            return code is None and status < 400
        case _:
            return False


def backoff(attempt: int, chance: float, retry_after: float | None = None) -> float:
    """Return the seconds to wait before attempt *attempt* + 1: exponential with full jitter.

    ``chance * min(MAX_DELAY, BASE_DELAY * 2**attempt)``, as in Marc Brooker's "Exponential Backoff And
    Jitter" (2015), and never less than what the service asked for.

    Args:
        attempt: How many attempts were made (from 1).
        chance: A random number between 0 and 1.
        retry_after: What the service asked for, in seconds.
    """
    ceiling = min(MAX_DELAY, BASE_DELAY * 2.0 ** min(attempt, 30))
    return max(chance * ceiling, retry_after or 0.0)


@attrs.frozen
class RetryPolicy:
    """How often a call is made, and how long the pauses between are; a stand-in for the real one.

    Args:
        attempts: How often it is made at most.
        base: Seconds of the first pause; each further one is twice as long.
        longest: Seconds that no pause exceeds, unless the service asks for more.
    """

    attempts: int
    base: float
    longest: float = MAX_DELAY

    def delay(self, attempt: int, chance: float, retry_after: float | None = None) -> float | None:
        """Return the seconds to wait after so many attempts (None: give up)."""
        if attempt >= self.attempts:
            return None
        return max(chance * min(self.longest, self.base * 2.0 ** (attempt - 1)), retry_after or 0.0)


UPLOADS = RetryPolicy(5, 0.5)
DOWNLOADS = RetryPolicy(6, 0.4)


class RetryBudget:
    """A token bucket over all calls of a client, so that an outage is not answered with a storm.

    A retry costs 14 tokens of 500, a call that succeeds at once gives one back: the figures of the AWS SDKs'
    standard mode. In a total outage at most 35 retries are sent, however many calls are made.
    """

    __slots__ = ("capacity", "cost", "tokens")

    def __init__(self, capacity: float = 500.0, cost: float = 14.0, tokens: float = 500.0) -> None:
        self.capacity: float = capacity
        self.cost: float = cost
        self.tokens: float = tokens

    def take(self) -> bool:
        """Take a retry out of the budget, if there is one."""
        if self.tokens < self.cost:
            return False
        self.tokens -= self.cost
        return True

    def credit(self) -> None:
        """Put back a little after a call that succeeded."""
        self.tokens = min(self.capacity, self.tokens + 1.0)
