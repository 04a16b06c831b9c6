"""What a prompt may ask of the sandbox: ``[sandbox:fail reason]`` and its siblings. Pure."""

from __future__ import annotations

import re
from typing import cast, get_args

import attrs

from wiro_async.sandbox._config import AfterError

__all__ = ["Directives", "read_directives"]

_DIRECTIVE = re.compile(r"\[sandbox:(\w+)(?:[ =]\s*([^\]]*))?\]")
_LONGEST_LOG = 16 * 1024 * 1024
_SECONDS = ("run", "late", "bare", "nofiles")
_KNOWN = (
    "fail, queue, error, after=stay|end|requeue, hang, short, run=SECONDS, late=SECONDS, bare=SECONDS, "
    "nofiles=SECONDS, log=BYTES"
)


@attrs.frozen(kw_only=True)
class Directives:
    """The scripted fate of one task.

    Attributes:
        fail: The task runs, then ends with pexit "1" and this reason.
        queue: The task stays in the queue until it is cancelled or released.
        error: The task is stored as ``task_error`` with this text in ``debugerror``.
        after: What becomes of it then; see ``SandboxConfig.after_error`` (None: what the sandbox was told).
        hang: The task starts and never ends by itself.
        short: Task/Detail shows the short form: no pexit, no costs.
        run: Seconds that the run takes before it is divided by the sandbox's speed; None draws them.
        late: Seconds after its end until its charge is recorded, likewise divided; ``inf`` or ``never``: it
            never is (None: what the sandbox was told, here and below).
        bare: Seconds for which its end has neither an exit code nor outputs, likewise.
        nofiles: Seconds for which its end has no outputs, likewise.
        log: Bytes of ordinary lines, such as training prints, that the run leaves in its log.
        prompt: The prompt without its directives: what a model gets to see.
    """

    fail: str | None = None
    queue: bool = False
    error: str | None = None
    hang: bool = False
    short: bool = False
    run: float | None = None
    after: AfterError | None = None
    late: float | None = None
    bare: float | None = None
    nofiles: float | None = None
    log: int = 0
    prompt: str = ""


def read_directives(prompt: str) -> Directives:
    """Read the directives out of a prompt.

    Args:
        prompt: The prompt as it was sent.

    Returns:
        The directives; a prompt without any gives the defaults.

    Raises:
        ValueError: For a directive that does not exist, or has no value that it can have.
    """
    found: dict[str, str] = {}
    for name, argument in _DIRECTIVE.findall(prompt):
        if name not in {"fail", "queue", "error", "after", "hang", "short", "log", *_SECONDS}:
            raise ValueError(f"[sandbox:{name}] is not a directive of the sandbox. Known: {_KNOWN}.")
        found[name] = argument.strip()
    return Directives(
        fail=_text(found, "fail", "The model failed."),
        queue="queue" in found,
        error=_text(found, "error", "worker lost"),
        hang="hang" in found,
        short="short" in found,
        after=_after(found.get("after")),
        **{name: _seconds(name, found.get(name)) for name in _SECONDS},
        log=_bytes(found.get("log", "0")),
        prompt=_DIRECTIVE.sub("", prompt).strip(),
    )


def _text(found: dict[str, str], name: str, default: str) -> str | None:
    return (found[name] or default) if name in found else None


def _after(text: str | None) -> AfterError | None:
    if text is not None and text not in get_args(AfterError):
        raise ValueError(f"[sandbox:after={text}] must be one of {', '.join(get_args(AfterError))}.")
    return cast("AfterError | None", text)


def _seconds(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float("inf" if text == "never" else text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= float("inf") or (name == "run" and seconds == float("inf")):
        raise ValueError(f"[sandbox:{name}={text}] needs a number of seconds, as in [sandbox:{name}=12.5].")
    return seconds


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LONGEST_LOG):
        raise ValueError(f"[sandbox:log={text}] needs a number of bytes, as in [sandbox:log=427000].")
    return int(text)
