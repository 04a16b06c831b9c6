"""The first stage: one look into the catalogue for all callers, and nothing wrong goes further."""

from __future__ import annotations

import io
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.batches import MODEL, Fate, Service, job, jobs, outcomes
from tests.batches import anyio_backend as anyio_backend
from tests.batches import databases as databases
from tests.fakes import FakeService, client, no, ok, timed_service
from tests.files.test_images import png
from tests.journals import Database
from wiro_async import (
    AuthenticationError,
    BatchStopped,
    ClientUseError,
    Director,
    InsufficientBalance,
    InvalidInput,
    Job,
    Limits,
    ModelNotFound,
    SubmissionUnknown,
)
from wiro_async._jobs import checks

PROMPT = {"id": "prompt", "type": "textarea", "required": True}
NUMBER = {"id": "n", "type": "range", "min": "1", "max": "4", "value": "1", "required": True}
TOOL = {
    "slugowner": "MiniMax",
    "slugproject": "image-to-video-01-director",
    "dynamicprice": '[{"inputs": {"n": "1"}, "price": "0.28", "priceMethod": "cpr"},'
    ' {"inputs": {"n": "2"}, "price": "0.50", "priceMethod": "cpo"}]',
    "parameters": [{"items": [PROMPT, NUMBER]}],
}
LISTED = ok(tool=[TOOL])
GONE = no(1, "tool-not-accessible")


def service(answer: Any = LISTED) -> FakeService:
    """Return a service with one model, and a task of it."""
    made = timed_service(totalcost="0.28")
    made.handlers["Tool/Detail"] = answer
    return made


def batches(answer: Any = LISTED) -> Service:
    """Return a service for many jobs."""
    made = Service()
    made.handlers["Tool/Detail"] = answer
    return made


def sent(fake: FakeService) -> dict[str, Any]:
    """Return the inputs of the only Run."""
    (inputs,) = (payload for name, payload in fake.calls if name == "Run")
    return inputs


def unchecked(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# -- the stage -------------------------------------------------------------------------------------------


async def test_a_mistake_is_refused_before_anything_is_uploaded(tmp_path: Path) -> None:
    """All complaints at once."""
    fake = service()
    async with client(fake, check=True) as own:
        with pytest.raises(InvalidInput) as caught:
            await own.submit(MODEL, {"promt": "x", "n": 9, "image": b"jpeg"})
    assert caught.value.message == (
        f"'promt' is no input of {MODEL}; did you mean 'prompt'?; 'prompt' is missing; {MODEL} needs a value "
        f"for it; 'n' is 9; it must be between 1 and 4"
    )
    assert fake.counts == {"Tool/Detail": 1}


@pytest.mark.parametrize("by", ["client", "call"])
async def test_the_check_can_be_left_out(by: str) -> None:
    """For a client, or for one call."""
    fake = service()
    async with client(fake, check=by == "call") as own:
        options: Any = {"check": False} if by == "call" else {}
        await own.submit(MODEL, {"promt": "x"}, **options)
    assert sent(fake) == {"promt": "x"}
    assert fake.counts["Tool/Detail"] == 0


@pytest.mark.parametrize("by", ["client", "call"])
async def test_names_that_are_not_listed_pass_unless_it_is_strict(by: str) -> None:
    """The catalogue is not complete."""
    fake = service()
    async with client(fake, check="strict" if by == "client" else True) as own:
        options: Any = {"check": "strict"} if by == "call" else {}
        with pytest.raises(
            InvalidInput, match=f"'style' is not listed among the inputs of {MODEL}; leave it"
        ):
            await own.submit(MODEL, {"prompt": "x", "style": 1}, **options)
        await own.submit(MODEL, {"prompt": "x", "style": 1, "n": 2}, check=True)
    assert sent(fake) == {"prompt": "x", "style": 1, "n": 2}


async def test_a_default_is_filled_in_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where the model needs a value, and the catalogue has one that the service takes."""
    fake = batches()
    caplog.set_level(logging.INFO, "wiro_async")
    async with client(fake, check=True) as own:
        await own.submit(MODEL, {"prompt": "x"})
        await own.submit(MODEL, {"prompt": "y"})
    assert [made.inputs["n"] for made in fake.made.values()] == ["1", "1"]
    told = [record.getMessage() for record in caplog.records if "default" in record.getMessage()]
    assert told == [f"{MODEL}: 'n' is missing; the catalogue's default is sent: '1'"]


async def test_so_many_notes_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes up names fills no memory."""
    monkeypatch.setattr(checks, "MOST_TOLD", 2)
    caplog.set_level(logging.INFO, "wiro_async")
    async with client(service(), check=True) as own:
        await own.submit(MODEL, {"prompt": "x", "n": 1, "a": 1, "b": 2, "c": 3})
    assert len([record for record in caplog.records if "is not listed" in record.getMessage()]) == 2


async def test_typed_inputs_are_checked_by_their_names_on_the_wire() -> None:
    """As they would be sent."""
    fake = service()
    async with client(fake, check=True) as own:
        with pytest.raises(InvalidInput, match="'prompt' is empty"):
            await own.submit(Director("https://example.org/a.jpg", "   "))
    assert fake.counts["Run"] == 0


async def test_a_bad_job_of_a_batch_is_one_outcome() -> None:
    """The others are made; a plan says the same."""
    fake = batches()
    given = [job("a", "a", n=9), job("b", "b")]
    found = await outcomes(fake, given, check=True)
    assert isinstance(found["a"].error, InvalidInput)
    assert found["b"].succeeded
    assert fake.runs == {"b": 1}
    async with client(fake) as own:
        plan = await own.batch(given, model=MODEL, check=True).plan()
    assert [invalid.reason for invalid in plan.invalid] == [found["a"].error.message]


async def test_what_a_journal_has_is_not_refused_any_more(tmp_path: Path, databases: list[Database]) -> None:
    """It was taken before; and it gets the defaults, as then. Other inputs under its key are checked."""
    fake, path = batches(), tmp_path / "a.db"
    fake.answers["a"] = [no(97, "Insufficient balance")] * 2
    options: dict[str, Any] = {"journal": path, "check": True}
    assert not (await outcomes(fake, [job("a", "a", image=b"x")], **options))["a"].succeeded
    narrower = [{"id": "prompt", "type": "select", "options": ["b"]}, NUMBER]
    fake.handlers["Tool/Detail"] = ok(tool=[{**TOOL, "parameters": [{"items": narrower}]}])
    changed = await outcomes(fake, [job("a", "a", image=b"y")], **options)
    assert isinstance(changed["a"].error, InvalidInput)
    again = await outcomes(fake, [job("a", "a", image=b"x")], **options)
    assert isinstance(again["a"].error, InsufficientBalance)
    assert (await outcomes(fake, **options))["a"].succeeded
    (made,) = fake.made.values()
    assert (made.inputs["prompt"], made.inputs["n"]) == ("a", "1")


# -- local files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "bytes", "bytearray", "open", "nested"])
async def test_a_local_image_of_a_wrong_size_is_not_uploaded(kind: str, tmp_path: Path) -> None:
    """Whatever it is given as; the model need not be in the catalogue for that."""
    fake, image = service(GONE), png(200, 400)
    path = tmp_path / "a.png"
    await anyio.to_thread.run_sync(path.write_bytes, image)
    given = {
        "path": path,
        "bytes": image,
        "bytearray": bytearray(image),
        "open": io.BytesIO(image),
        "nested": [path, {"x": image}],
    }
    async with client(fake, check=True) as own:
        with pytest.raises(InvalidInput, match=r"'inputImage' is an image of 200 x 400 pixels; .* above 300"):
            await own.submit(MODEL, {"prompt": "x", "inputImage": given[kind]})
    assert fake.counts == {"Tool/Detail": 1}


async def test_files_on_a_disk_that_does_not_answer_are_left_to_their_uploads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Within ``Limits.check_timeout``."""

    async def hang(*_: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(checks, "ask_in_thread", hang)
    fake = service()
    async with client(fake, check=True) as own:
        start = anyio.current_time()
        with pytest.raises(InvalidInput, match="cannot be read"):
            await own.submit(MODEL, {"prompt": "x", "inputImage": tmp_path / "none.png"})
        assert anyio.current_time() - start == pytest.approx(5.0)
        # A thread that is left to itself would go on to read a file that somebody has open.
        with pytest.raises(InvalidInput, match="above 300"):
            await own.submit(MODEL, {"prompt": "x", "inputImage": io.BytesIO(png(9, 9))})
        assert anyio.current_time() - start == pytest.approx(5.0)
    assert fake.counts["Run"] == 0


async def test_inputs_that_are_nested_too_deep_are_refused() -> None:
    """Before anything is uploaded; a plan tells of such a job, and goes on."""
    deep: Any = b"jpeg"
    for _ in range(70):
        deep = [deep]
    fake = service()
    async with client(fake, check=True) as own:
        with pytest.raises(InvalidInput, match="nested deeper than 64 levels"):
            await own.submit(MODEL, {"prompt": "x", "image": deep})
        plan = await own.batch([Job(MODEL, {"prompt": "x", "image": deep}), *jobs("b")], model=MODEL).plan()
    assert (plan.jobs, plan.invalid_jobs) == (1, 1)
    assert fake.counts == {"Tool/Detail": 1}


# -- the catalogue ---------------------------------------------------------------------------------------


async def test_a_model_is_asked_for_once_an_hour() -> None:
    """By all callers of a client: submits, batches under a limit, plans, checks; in either spelling."""
    fake = batches()
    async with client(fake, check=True) as own:
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(own.check, MODEL, {"prompt": str(number)})
        await own.submit(MODEL.lower(), {"prompt": "x"})
        batch = own.batch(jobs("a", "b"), model=MODEL, max_cost=5)
        assert (await batch.plan()).estimated_cost is not None
        async with batch:
            assert (await batch.wait()).complete
        assert fake.counts["Tool/Detail"] == 1
        await anyio.sleep(checks.KEPT)
        await own.check(MODEL, {"prompt": "x"})
        await own.check(MODEL, {"prompt": "x"})
        assert fake.counts["Tool/Detail"] == 2


async def test_who_asks_and_is_cancelled_leaves_it_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """Whose answer is everybody's; nothing is lost by it."""
    fake = service()
    fake.delays["Tool/Detail"] = 2.0
    async with client(fake, check=True) as own:
        found: list[Any] = []

        async def check() -> None:
            found.append(await own.check(MODEL, {"prompt": "x"}))

        async with anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def cut_off() -> None:
                with first:
                    await check()

            group.start_soon(cut_off)
            await anyio.sleep(1)
            group.start_soon(check)
            group.start_soon(check)
            await anyio.sleep(0.1)
            first.cancel()
    assert [each.model is not None for each in found] == [True, True]
    assert fake.counts["Tool/Detail"] == 2
    assert unchecked(caplog) == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (GONE, "the catalogue has no such model"),
        (ok(tool=[]), "the catalogue has no such model"),
        (httpx.ConnectError("refused"), "the catalogue could not be read: Tool/Detail: "),
        (no(0, "Database connection lost"), "the catalogue could not be read: Tool/Detail: "),
    ],
    ids=["gone", "empty", "down", "fault"],
)
async def test_a_job_goes_on_without_its_model_and_one_warning(
    answer: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However many there are of it."""
    fake = batches(answer)
    async with client(fake, check=True) as own:
        for number in range(3):
            await own.submit(MODEL, {"promt": "x", "prompt": str(number)})
        async with own.batch(jobs("a", "b"), model=MODEL, max_cost=5) as batch:
            assert (await batch.wait()).complete
        check = await own.check(MODEL, {"promt": "x"})
    assert fake.counts["Run"] == 5
    (warning,) = unchecked(caplog)
    assert warning.startswith(
        f"the inputs of {MODEL} are not checked, and its price is learned from its runs: {why}"
    )
    assert (check.model, check.price, check.problems) == (None, None, ())
    assert check.price_source.startswith(why)
    assert check.notes[0].startswith(f"the inputs of {MODEL} are not checked: {why}")


async def test_a_catalogue_that_does_not_answer_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """For ``Limits.check_timeout``, once in half a minute; once it is back, jobs are checked again."""
    fake = batches()
    fake.delays["Tool/Detail"] = 100.0
    async with client(fake, check=True) as own:
        start = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(own.submit, MODEL, {"prompt": "x", "n": 9})
        assert anyio.current_time() - start == pytest.approx(5.0, abs=0.1)
        await own.submit(MODEL, {"prompt": "x", "n": 9})
        assert anyio.current_time() - start == pytest.approx(5.0, abs=0.1)
        (warning,) = unchecked(caplog)
        assert warning.endswith("learned from its runs: the catalogue did not answer within 5 s")
        fake.delays.clear()
        await anyio.sleep(checks.AGAIN)
        with pytest.raises(InvalidInput):
            await own.submit(MODEL, {"prompt": "x", "n": 9})


async def test_what_was_known_an_hour_ago_is_better_than_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Unless the service says that there is no such model any more."""
    fake = service()
    async with client(fake, check=True) as own:
        await own.check(MODEL, {"prompt": "x"})
        await anyio.sleep(checks.KEPT)
        fake.handlers["Tool/Detail"] = httpx.ConnectError("refused")
        with pytest.raises(InvalidInput):
            await own.submit(MODEL, {"promt": "x"})
        assert unchecked(caplog) == []
        fake.handlers["Tool/Detail"] = GONE
        await anyio.sleep(checks.AGAIN)
        await own.submit(MODEL, {"promt": "x"})
        assert len(unchecked(caplog)) == 1


async def test_the_wait_is_no_longer_than_one_exchange() -> None:
    """So that the documented total of a submit is kept where the limits are small."""
    fake = service()
    fake.delays["Tool/Detail"] = 100.0
    async with client(fake, check=True, limits=Limits(request_timeout=1.0)) as own:
        start = anyio.current_time()
        await own.submit(MODEL, {"prompt": "x"})
        assert anyio.current_time() - start == pytest.approx(1.0, abs=0.1)


async def test_a_silent_service_ends_a_submit_within_the_documented_time() -> None:
    """The look into the catalogue is part of it."""
    fake = batches()
    fake.delays |= dict.fromkeys(("Tool/Detail", "Run", "Task/List"), 1000.0)
    limits = Limits(request_timeout=4.0, settle_timeout=6.0)
    async with client(fake, check=True, limits=limits) as own:
        start = anyio.current_time()
        with pytest.raises(SubmissionUnknown):
            await own.submit(MODEL, {"prompt": "x"})
        total = limits.check_timeout + 2 * limits.request_timeout + limits.settle_timeout
        assert anyio.current_time() - start <= total


async def test_refused_credentials_are_told_at_once() -> None:
    """Of a submit; a batch makes no Run and stops."""
    fake = batches(httpx.Response(401, json=no(None, "unknown key")))
    async with client(fake, check=True) as own:
        with pytest.raises(AuthenticationError):
            await own.submit(MODEL, {"prompt": "x"})
        async with own.batch(jobs("a", "b"), model=MODEL) as batch:
            found = [outcome.error async for outcome in batch]
        assert batch.report.stopped is not None
        assert batch.report.stopped.reason == "credentials"
    assert any(isinstance(error, AuthenticationError) for error in found)
    assert all(isinstance(error, AuthenticationError | BatchStopped) for error in found)
    assert fake.counts["Run"] == 0


async def test_a_refusal_that_passes_is_not_believed_earlier_for_the_check() -> None:
    """The job goes on, and the Run finds out."""
    fake = service()
    async with client(fake, check=True) as own:
        await own.get_model("other/model")
        fake.handlers["Tool/Detail"] = httpx.Response(401, json=no(None, "unknown key"))
        fake.handlers["Run"] = [httpx.Response(401, json=no(None, "unknown key"))]
        with pytest.raises(AuthenticationError) as caught:
            await own.submit(MODEL, {"prompt": "x"})
        assert caught.value.operation == "Run"
        assert caught.value.passing


async def test_a_closed_client_is_told_so() -> None:
    """And not that the catalogue could not be read."""
    own = client(service(), check=True)
    await own.aclose()
    with pytest.raises(ClientUseError, match="closed"):
        await own.check(MODEL, {"prompt": "x"})


async def test_models_that_were_looked_up_are_known_to_the_check() -> None:
    """``get_model`` asks anew each time, and the check need not."""
    fake = service()
    async with client(fake, check=True) as own:
        await own.get_model(MODEL)
        await own.get_model(MODEL)
        await own.submit(MODEL, {"prompt": "x"})
        assert fake.counts["Tool/Detail"] == 2
        fake.handlers["Tool/Detail"] = GONE
        with pytest.raises(ModelNotFound):
            await own.get_model(MODEL)


async def test_so_many_models_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for last."""
    monkeypatch.setattr(checks, "MOST_MODELS", 2)
    fake = service()
    async with client(fake, check=True) as own:
        for slug in ("o/a", "o/b", "o/a", "o/c", "o/a", "o/b"):
            await own.check(slug, {"prompt": "x"})
    assert [payload["slugproject"] for _, payload in fake.calls] == ["a", "b", "c", "b"]


# -- what a job costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "inputs", "price", "source"),
    [
        (TOOL, {"n": 1}, "0.28", "the catalogue's price list (cpr)"),
        (TOOL, {}, "0.28", "the catalogue's price list (cpr)"),
        (TOOL, {"n": 2}, "0.50", "the catalogue's price list (cpo)"),
        (TOOL, {"n": 3}, "0.50", "the catalogue's price list (cpr, cpo)"),
        (
            {"dynamicprice": None, "approximatelycost": "0.3"},
            {},
            "0.3",
            "the catalogue's average of a run (app",
        ),
        ({"dynamicprice": None, "cps": "0.01"}, {}, None, "the catalogue has a price of a second (cps) only"),
        ({"dynamicprice": None}, {}, None, "the catalogue has no price for it"),
        ({"dynamicprice": [{"price": 0}]}, {}, None, "the catalogue's price list has no price in it"),
        (
            {"dynamicprice": [{"price": 1, "priceMethod": "cp-token"}]},
            {},
            None,
            "the catalogue's price list (cp-token) counts what the inputs do not tell",
        ),
    ],
)
async def test_a_price_says_where_it_comes_from(
    tool: dict[str, Any], inputs: dict[str, Any], price: str | None, source: str
) -> None:
    """And that there is none, why. Nothing is sent."""
    fake = service(ok(tool=[{**TOOL, **tool}]))
    async with client(fake) as own:
        check = await own.check(MODEL, {"prompt": "x", **inputs})
    assert check.price == (None if price is None else Decimal(price))
    assert check.price_source.startswith(source)
    assert check.model is not None
    assert check.problems == ()
    assert fake.counts == {"Tool/Detail": 1}


async def test_a_check_tells_problems_and_notes() -> None:
    """In the words in which the job would be refused."""
    async with client(service()) as own:
        check = await own.check(MODEL, {"n": 9, "style": 1})
        strict = await own.check(MODEL, {"n": 9, "style": 1}, strict=True)
    assert check.problems == (
        f"'prompt' is missing; {MODEL} needs a value for it",
        "'n' is 9; it must be between 1 and 4",
    )
    assert check.notes == (f"'style' is not listed among the inputs of {MODEL}, but is sent anyway",)
    assert len(strict.problems) == 3
    assert strict.notes == ()


async def test_a_plan_says_where_its_prices_come_from(tmp_path: Path, databases: list[Database]) -> None:
    """From the catalogue, and then from what the runs of the journal have cost."""
    fake, path = batches(), tmp_path / "a.db"
    fake.fates["a"] = Fate(cost="0.44")

    async def sources(*given: Job) -> tuple[str, ...]:
        async with client(fake, check=True) as own:
            return (await own.batch(given, model=MODEL, journal=path).plan()).price_sources

    assert await sources(job("b", "b", n=1)) == ("the catalogue's price list (cpr)",)
    await outcomes(fake, [job("a", "a", n=1)], journal=path)
    told = await sources(job("b", "b", n=1), job("c", "c", n=2))
    assert told == ("the average charge of 1 such run(s)", "the catalogue's price list (cpo)")
    fake.handlers["Tool/Detail"] = GONE
    assert await sources(job("b", "b", n=3)) == ("the highest charge of other runs of this model",)
