"""The check of a job, before anything is uploaded or paid for, and the catalogue that it asks."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import anyio
import attrs

from wiro_async._aio import ask_in_thread, now, run_in_thread
from wiro_async._config import Limits
from wiro_async._errors import AuthenticationError, ClientUseError, InvalidInput, ModelNotFound, WiroError
from wiro_async._files.inputs import FileSource, local_files
from wiro_async._files.upload import look_at
from wiro_async._http.transport import Transport
from wiro_async._jobs.job import JobState
from wiro_async._journal.steps import key_of
from wiro_async._protocol.catalogue import detail_payload, read_model
from wiro_async._protocol.checks import examine, image_problem
from wiro_async._protocol.operations import TOOL_DETAIL, clean_slug
from wiro_async._protocol.records import Model
from wiro_async._types import CheckMode, Record

__all__ = ["Catalogue", "Check", "Checked", "check_job"]

logger = logging.getLogger("wiro_async.checks")
"""Logs what callers of ``Client.check`` and of a batch's plan get as notes."""

KEPT = 3600.0
"""Seconds for which a model is as the catalogue has it."""

AGAIN = 30.0
"""Seconds after which a catalogue that was not reached is asked again."""

MOST_MODELS = 1000
"""How many models are kept: those that were asked for last."""

MOST_TOLD = 100
"""How many notes on one model are logged."""


# -- the catalogue ---------------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Entry:
    """What is known of one model.

    Attributes:
        model: The model (None: there is none, or it was not reached).
        why: Why there is none ("": there is one, or nobody has asked).
        told_at: When that was found out, on the event loop's clock.
        until: When to ask again.
        asking: Held by whoever asks; the others wait for the answer.
        is_warned: Whether the log says that there is none.
        told: The notes that the log has.
    """

    model: Model | None = None
    why: str = ""
    told_at: float = float("-inf")
    until: float = float("-inf")
    asking: anyio.Lock = attrs.field(factory=anyio.Lock)
    is_warned: bool = False
    told: set[str] = attrs.field(factory=set)

    def is_due(self, begun: float, *, insist: bool) -> bool:
        """Whether whoever began to look then has to ask."""
        had_no_answer = self.until <= self.told_at + AGAIN
        return now() >= self.until or (insist and had_no_answer and self.told_at <= begun)


class Catalogue:
    """The models as the service describes them. Each is asked for once an hour, for all callers of a client.

    There is no task of its own: whoever needs a model first asks for it, and the others wait. If that one is
    cancelled, the next one asks.

    Args:
        transport: Makes the calls.
        limits: The client's bounds.

    Attributes:
        timeout: Seconds that a caller waits for an answer, at most.
    """

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self._transport = transport
        self.timeout: float = min(limits.check_timeout, limits.request_timeout)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def ask(self, slug: str) -> Model:
        """Ask the service for a model; see ``Client.get_model``."""
        model = read_model(await self._transport.call(TOOL_DETAIL, detail_payload(slug)), slug)
        self._keep(self._entry(slug), model)
        return model

    async def find(self, slug: str, *, insist: bool = False) -> Model | None:
        """Return a model, within ``timeout`` (None: there is none, or it was not reached).

        Args:
            slug: The model.
            insist: Whether to ask even if nobody got an answer a moment ago.

        Raises:
            AuthenticationError: The service rejects our credentials.
            ClientUseError: The client cannot be used here.
        """
        entry, begun = self._entry(slug), now()
        if not entry.is_due(begun, insist=insist):
            return entry.model
        with anyio.move_on_after(self.timeout) as scope:
            async with entry.asking:
                if entry.is_due(begun, insist=insist):
                    await self._ask_again(slug, entry)
        if scope.cancelled_caught:
            self._lack(slug, entry, f"the catalogue did not answer within {self.timeout:g} s", AGAIN)
        return entry.model

    def why_not(self, slug: str) -> str:
        """Say why ``find`` returned no model."""
        return self._entry(slug).why

    def tell(self, slug: str, note: str) -> None:
        """Log a note on a model's inputs, once."""
        told = self._entry(slug).told
        if note not in told and len(told) < MOST_TOLD:
            told.add(note)
            logger.info("%s: %s", slug, note)

    def _entry(self, slug: str) -> _Entry:
        name = clean_slug(slug)
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry()
            if len(self._entries) > MOST_MODELS:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(name)
        return entry

    async def _ask_again(self, slug: str, entry: _Entry) -> None:
        try:
            answer = await self._transport.call(TOOL_DETAIL, detail_payload(slug))
            self._keep(entry, read_model(answer, slug))
        except (AuthenticationError, ClientUseError):
            raise
        except ModelNotFound:
            entry.model = None
            self._lack(slug, entry, "the catalogue has no such model", KEPT)
        except WiroError as error:
            self._lack(slug, entry, f"the catalogue could not be read: {error}", AGAIN)

    def _keep(self, entry: _Entry, model: Model) -> None:
        entry.model, entry.why, entry.is_warned = model, "", False
        entry.told_at, entry.until = now(), now() + KEPT

    def _lack(self, slug: str, entry: _Entry, why: str, seconds: float) -> None:
        """Go on without a model; or with what was known an hour ago, which is better than nothing."""
        entry.why, entry.told_at, entry.until = why, now(), now() + seconds
        if entry.model is None and not entry.is_warned:
            entry.is_warned = True
            logger.warning(
                "the inputs of %s are not checked, and its price is learned from its runs: %s", slug, why
            )


# -- the check -------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Check(Record):
    """What is known of a job before it is made.

    Attributes:
        problems: Why it would be refused, a sentence each; nothing would be uploaded or paid for.
        notes: What may be a mistake, and what would be filled in, a sentence each.
        price: About what it costs, in USD, at most as far as is known (None: it cannot be told).
        price_source: Where the price comes from, or why there is none.
        model: The model as the catalogue has it (None: it is not there, or was not reached).
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    price: Decimal | None = None
    price_source: str = ""
    model: Model | None = None


@attrs.frozen
class Checked:
    """What was found out about one job's inputs.

    Attributes:
        inputs: The inputs, with what was filled in.
        problems: As for ``Check``.
        notes: As for ``Check``.
        model: As for ``Check``.
    """

    inputs: Mapping[str, Any]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model: Model | None = None


async def check_job(
    catalogue: Catalogue, job: JobState, inputs: Mapping[str, Any], mode: CheckMode, *, insist: bool = False
) -> Checked:
    """Check a job's inputs; nothing is uploaded, and nothing but the catalogue is asked.

    What the journal has with equal inputs was taken before, whatever the catalogue says now: it has no
    problems, and gets the defaults only.

    Args:
        catalogue: Knows the models.
        job: The job.
        inputs: Its inputs by name.
        mode: How strict to be; False: not at all.
        insist: As for ``Catalogue.find``.
    """
    if mode is False:
        return Checked(inputs)
    entry = job.entry
    is_known = entry is not None and (
        job.job is None or key_of(job.model, job.told) == key_of(entry.model, entry.inputs)
    )
    model = await catalogue.find(job.model, insist=insist)
    found = examine(model or Model(job.model), inputs, strict=mode == "strict")
    notes = found.notes
    if model is None:
        notes = (*notes, f"the inputs of {job.model} are not checked: {catalogue.why_not(job.model)}")
    problems: tuple[str, ...] = ()
    if not is_known:
        problems = (*found.problems, *await _file_problems(job.model, inputs, catalogue.timeout))
    return Checked({**inputs, **found.defaults} if found.defaults else inputs, problems, notes, model)


async def _file_problems(slug: str, inputs: Mapping[str, Any], timeout: float) -> list[str]:
    """Say what is wrong with local files. Those on a disk that does not answer are left to their uploads."""
    files = [(name, file) for name, value in inputs.items() for file in local_files(value, 1)]
    if not files:
        return []
    # A thread that is left to itself must not go on to read what somebody else has open.
    are_ours = all(isinstance(file, bytes | bytearray) or hasattr(file, "__fspath__") for _, file in files)
    if not are_ours:
        return await run_in_thread(_look_at, slug, files)
    with anyio.move_on_after(timeout):
        return await ask_in_thread(_look_at, slug, files)
    return []


def _look_at(slug: str, files: list[tuple[str, FileSource]]) -> list[str]:
    problems: list[str] = []
    for name, file in files:
        try:
            size = look_at(bytes(file) if isinstance(file, bytearray) else file)
        except InvalidInput as error:
            problems.append(f"{name!r} cannot be uploaded: {error.message}")
        else:
            if size is not None and (problem := image_problem(slug, name, *size)):
                problems.append(problem)
    return problems
