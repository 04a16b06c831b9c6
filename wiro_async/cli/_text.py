"""How things are written for people. Pure.

Much of what is shown comes from elsewhere: titles, prompts, logs, file names, the service's complaints. It
is shown as text and nothing else: a terminal must not take any of it for an instruction.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias

__all__ = ["JSON", "charge", "clean", "clipped", "clock", "megabytes", "plain_status", "usd"]

JSON: TypeAlias = dict[str, Any]
"""An object of JSON."""


def clean(text: object) -> str:
    """Return *text* on one line, with a mark in place of everything that does not print.

    That takes care of escape sequences, of characters that turn the writing direction, and of half
    surrogate pairs, which could not be written at all.
    """
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "�"
        for character in str(text)
    )


def clipped(text: object, length: int) -> str:
    """Return *text* cleaned, cut to *length* characters with an ellipsis for its last."""
    shown = clean(text)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def clock(seconds: float) -> str:
    """Write a duration: ``9.4 s``, ``1:02`` or ``1:00:09``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def megabytes(size: int | None) -> str:
    """Write a length in decimal units ("" where it is not known)."""
    if size is None:
        return ""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def usd(amount: Decimal | None) -> str:
    """Write an amount with at least two decimals, and no zeros beyond them (None: "unknown")."""
    if amount is None:
        return "unknown"
    whole, _, decimals = f"{amount:f}".partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


def charge(amount: Decimal | None) -> str:
    """Write what a task that has ended was charged: the service may record that later."""
    return "not recorded yet" if amount is None else usd(amount)


def plain_status(status: str) -> str:
    """Write a status without its prefix: ``preprocess start``."""
    return clean(status.removeprefix("task_").replace("_", " "))
