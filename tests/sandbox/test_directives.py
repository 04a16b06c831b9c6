"""The directives that a prompt may hold."""

from __future__ import annotations

import pytest

from wiro_async.sandbox._directives import Directives, read_directives


def test_a_plain_prompt_asks_for_nothing() -> None:
    """Camera moves in brackets are none of the sandbox's directives."""
    assert read_directives("[Zoom in] she walks") == Directives(prompt="[Zoom in] she walks")


def test_all_directives_are_read_and_taken_out() -> None:
    """A model sees the prompt without them."""
    prompt = "a [sandbox:queue][sandbox:hang] b [sandbox:short] c [sandbox:run=12.5][sandbox:log=427000]"
    assert read_directives(prompt) == Directives(
        queue=True, hang=True, short=True, run=12.5, log=427_000, prompt="a  b  c"
    )
    prompt = "[sandbox:late=never][sandbox:bare=2]d[sandbox:nofiles=3.5][sandbox:after=requeue]"
    assert read_directives(prompt) == Directives(
        late=float("inf"), bare=2.0, nofiles=3.5, after="requeue", prompt="d"
    )


@pytest.mark.parametrize(
    ("prompt", "fail", "error"),
    [
        ("[sandbox:fail no face found]", "no face found", None),
        ("[sandbox:fail]", "The model failed.", None),
        ("[sandbox:error=disk full]", None, "disk full"),
        ("[sandbox:error]", None, "worker lost"),
    ],
)
def test_reasons_have_defaults(prompt: str, fail: str | None, error: str | None) -> None:
    """A reason follows after a space or an equals sign, or is left to the sandbox."""
    found = read_directives(prompt)
    assert (found.fail, found.error) == (fail, error)


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("[sandbox:explode]", "Known: fail, queue, error, after=stay"),
        ("[sandbox:after=sleep]", "must be one of stay, end, requeue"),
        ("[sandbox:late=soon]", r"as in \[sandbox:late=12.5\]"),
        ("[sandbox:run=soon]", r"as in \[sandbox:run=12.5\]"),
        ("[sandbox:run]", "needs a number of seconds"),
        ("[sandbox:run=-1]", "needs a number of seconds"),
        ("[sandbox:run=inf]", "needs a number of seconds"),
        ("[sandbox:log]", r"as in \[sandbox:log=427000\]"),
        ("[sandbox:log=-1]", "needs a number of bytes"),
        ("[sandbox:log=16777217]", "needs a number of bytes"),
    ],
)
def test_mistakes_are_told(prompt: str, hint: str) -> None:
    """A misspelt directive is refused, not taken for a part of the prompt."""
    with pytest.raises(ValueError, match=hint):
        read_directives(prompt)
