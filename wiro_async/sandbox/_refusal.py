"""The one way in which the sandbox says no."""

from __future__ import annotations

__all__ = ["Refusal", "bad_request", "not_found"]


class Refusal(Exception):
    """A request that the service answers with ``result: false``.

    Attributes:
        code: The service's error code: 0 validation, 1 not found or wrong state, 96 concurrency, 97 balance.
        message: The service's words.
        http_status: The status line; the service sends 200 for most refusals.
    """

    def __init__(self, code: int, message: str, *, http_status: int = 200) -> None:
        super().__init__(message)
        self.code: int = code
        self.message: str = message
        self.http_status: int = http_status


def bad_request(message: str = "Request parameters are invalid.") -> Refusal:
    """A failed validation."""
    return Refusal(0, message)


def not_found(message: str) -> Refusal:
    """Something that does not exist, is not accessible, or is in the wrong state."""
    return Refusal(1, message)
