"""What a prompt may ask of the sandbox: ``[sandbox:fail reason]`` and its siblings. Pure."""

from __future__ import annotations

import re

import attrs

__all__ = ["Directives", "read_directives"]

_DIRECTIVE = re.compile(r"\[sandbox:(\w+)(?:[ =]\s*([^\]]*))?\]")
_KNOWN = "fail, queue, error, hang, short, run=SECONDS"


@attrs.frozen(kw_only=True)
class Directives:
    """The scripted fate of one task.

    Attributes:
        fail: The task runs, then ends with pexit "1" and this reason.
        queue: The task stays in the queue until it is cancelled or released.
        error: The task is stored as ``task_error`` with this text in ``debugerror``.
        hang: The task starts and never ends by itself.
        short: Task/Detail shows the short form: no pexit, no costs.
        run: Seconds that the run takes before it is divided by the sandbox's speed; None draws them.
        prompt: The prompt without its directives: what a model gets to see.
    """

    fail: str | None = None
    queue: bool = False
    error: str | None = None
    hang: bool = False
    short: bool = False
    run: float | None = None
    prompt: str = ""


def read_directives(prompt: str) -> Directives:
    """Read the directives out of a prompt.

    Args:
        prompt: The prompt as it was sent.

    Returns:
        The directives; a prompt without any gives the defaults.

    Raises:
        ValueError: For a directive that does not exist, or a run that is not a number of seconds.
    """
    found: dict[str, str] = {}
    for name, argument in _DIRECTIVE.findall(prompt):
        if name not in {"fail", "queue", "error", "hang", "short", "run"}:
            raise ValueError(f"[sandbox:{name}] is not a directive of the sandbox. Known: {_KNOWN}.")
        found[name] = argument.strip()
    return Directives(
        fail=_text(found, "fail", "The model failed."),
        queue="queue" in found,
        error=_text(found, "error", "worker lost"),
        hang="hang" in found,
        short="short" in found,
        run=_seconds(found.get("run")),
        prompt=_DIRECTIVE.sub("", prompt).strip(),
    )


def _text(found: dict[str, str], name: str, default: str) -> str | None:
    return (found[name] or default) if name in found else None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"[sandbox:run={text}] needs a number of seconds, as in [sandbox:run=12.5].")
    return seconds
