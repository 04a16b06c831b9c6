"""Jobs, their models, keys and outcomes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from tests.batches import MODEL, RARELY, Service
from tests.batches import anyio_backend as anyio_backend
from tests.fakes import client
from wiro_async import Director, DownloadError, InvalidInput, Job, JobOutcome

TYPED = Director(image="https://host/a.jpg", prompt="waves")


async def made_of(job: Job, model: str | None = None) -> tuple[Service, JobOutcome]:
    """Make one job in a batch."""
    service = Service()
    async with client(service, polling=RARELY) as own, own.batch([job], model=model) as batch:
        (outcome,) = [outcome async for outcome in batch]
    return service, outcome


@pytest.mark.parametrize(
    ("job", "model", "slug", "prompt"),
    [
        (Job(TYPED), None, TYPED.model, "waves"),
        (Job(inputs=TYPED), "c/d", TYPED.model, "waves"),
        (Job("a/b", TYPED), "c/d", "a/b", "waves"),
        (Job("a/b", {"prompt": "x"}), "c/d", "a/b", "x"),
        (Job(inputs={"prompt": "x"}), MODEL, MODEL, "x"),
    ],
)
async def test_a_job_names_its_model_or_its_batch_does(
    job: Job, model: str | None, slug: str, prompt: str
) -> None:
    """The job comes first, then typed inputs, then the batch."""
    service, _ = await made_of(job, model)
    run = service.requests[0]
    assert (run.url.path, service.calls[0][1]["prompt"]) == (f"/v1/Run/{slug}", prompt)


WRONG: Any = ["x", 1]
EMPTY_CELL: Any = float("nan")


@pytest.mark.parametrize(
    ("job", "model", "message"),
    [
        (Job(inputs={"x": 1}), None, r"batch\(model=...\)"),
        (Job("a/b", WRONG), None, "are a list"),
        # A table's empty cell is a float, for some.
        (Job(EMPTY_CELL, {"x": 1}), "a/b", "the model of a job is a float"),
    ],
    ids=["no model", "no inputs", "no text"],
)
async def test_a_job_that_cannot_be_sent_is_a_failed_outcome(
    job: Job, model: str | None, message: str
) -> None:
    """The message says what to give, and nothing is sent."""
    service, outcome = await made_of(job, model)
    assert outcome.job is job
    assert not outcome.succeeded
    with pytest.raises(InvalidInput, match=message):
        raise outcome.error or AssertionError
    assert not service.calls


def test_a_job_takes_its_arguments_in_the_order_of_submit() -> None:
    """Typed inputs may stand in the model's place; others may not, and the message has the right call."""
    assert Job(TYPED, key="k") == Job(TYPED.model, TYPED, key="k")
    assert Job("a/b", {"x": 1}) == Job(model="a/b", inputs={"x": 1}, key=None)
    assert pickle.loads(pickle.dumps(Job(TYPED, key="k"))) == Job(TYPED, key="k")
    wrong: Any = {"prompt": "waves"}
    with pytest.raises(InvalidInput, match=r"Job\(inputs=\{...\}\)"):
        Job(wrong)


def test_an_outcome_with_an_error_did_not_succeed() -> None:
    """Everything that was wanted is there, or there is a reason."""
    assert JobOutcome("a").succeeded
    assert not JobOutcome("a", error=DownloadError("gone", url="https://host/x")).succeeded


@pytest.mark.parametrize(("key", "text"), [("sku-1", "sku-1"), (7, "7"), ("ü" * 500, "ü" * 500)])
async def test_keys_are_texts_or_numbers(key: Any, text: str) -> None:
    """Numbers become texts."""
    _, outcome = await made_of(Job(TYPED, key=key))
    assert (outcome.key, outcome.succeeded) == (text, True)


@pytest.mark.parametrize("key", ["", "x" * 501, "a\0b", "\ud800", 1.5, True, b"x", ["x"]])
async def test_other_keys_are_refused(key: Any) -> None:
    """They could not be found again."""
    service, outcome = await made_of(Job(TYPED, key=key))
    with pytest.raises(InvalidInput, match="the key"):
        raise outcome.error or AssertionError
    assert not service.calls
