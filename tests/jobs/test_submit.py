"""One Run, one task, whatever becomes of the answer."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
import weakref
from typing import Any

import anyio
import httpx
import pytest

import wiro_async
from tests.fakes import FakeService, client, no, ok, task
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Limits, SubmissionUnknown, TaskHandle, TaskNotFound
from wiro_async._aio import on_asyncio
from wiro_async._jobs.submit import OpenRuns, Run
from wiro_async._protocol.operations import run as run_of

PROMPT = {"prompt": "waves"}
LOST = httpx.ReadError("reset")


class Ledger(FakeService):
    """A service that keeps every task, and loses answers on demand.

    Attributes:
        tasks: What was accepted, oldest first.
        lose: What to answer instead, Run by Run; None answers.
        lag: Seconds after which a task is listed.
        limit: How many tasks may run at a time.
        most: How many tasks a page has at most.
    """

    def __init__(self) -> None:
        super().__init__(Run=self.run, Task_List=self.list, Task_Detail=self.detail, Task_Cancel=self.cancel)
        self.tasks: list[dict[str, Any]] = []
        self.born: list[float] = []
        self.lose: list[Any] = []
        self.processed: list[bool] = []
        self.lag = 0.0
        self.limit = 1000
        self.most = 1000

    def add(self, **fields: Any) -> dict[str, Any]:
        """Accept a task."""
        new = task(str(2221 + len(self.tasks)), createtime=str(int(time.time())), **fields)
        self.tasks.append(new)
        self.born.append(anyio.current_time())
        return new

    def run(self, payload: dict[str, Any]) -> Any:
        """Answer a Run, or lose the answer."""
        if sum(item["status"] == "task_queue" for item in self.tasks) >= self.limit:
            return no(96, "You have reached your concurrent task limit, up to 5 tasks")
        fault = self.lose.pop(0) if self.lose else None
        if fault is not None and self.processed and not self.processed.pop(0):
            return fault
        parameters = {
            name: value for name, value in payload.items() if name not in ("callbackUrl", "projectid")
        }
        new = self.add(parameters=parameters, callbackurl=payload.get("callbackUrl", ""))
        return fault or ok(taskid=new["id"], socketaccesstoken=new["socketaccesstoken"])

    def list(self, payload: dict[str, Any]) -> Any:
        """Answer Task/List, newest first."""
        now = anyio.current_time()
        listed = [item for item, born in zip(self.tasks, self.born, strict=True) if born + self.lag <= now]
        start, limit = int(payload["start"]), min(int(payload["limit"]), self.most)
        page = listed[::-1][start : start + limit]
        return ok(tasklist=page) if listed else no(1, "There is no task yet.")

    def detail(self, payload: dict[str, Any]) -> Any:
        """Answer Task/Detail."""
        return ok(tasklist=[item for item in self.tasks if item["id"] == payload["taskid"]])

    def cancel(self, payload: dict[str, Any]) -> Any:
        """Answer Task/Cancel."""
        self.end(payload["taskid"], "task_cancel")
        return self.detail(payload)

    def end(self, task_id: str, status: str = "task_postprocess_end") -> None:
        """Let a task end."""
        next(item for item in self.tasks if item["id"] == task_id)["status"] = status


async def submit(service: FakeService, inputs: dict[str, Any] | None = None, **options: Any) -> TaskHandle:
    return await client(service).submit("owner/model", inputs or PROMPT, **options)


# -- unknown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        LOST,
        httpx.WriteError("reset"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.Response(500),
        httpx.Response(502, text="<html>"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(302),
        ok(),
    ],
    ids=repr,
)
async def test_a_lost_answer_is_found_again(fault: Any) -> None:
    """One Run, one task, and the caller gets it."""
    service = Ledger()
    service.lose = [fault]
    handle = await submit(service)
    assert handle.id == "2221"
    assert handle.token == wiro_async.Secret("token-2221")
    assert service.counts["Run"] == len(service.tasks) == 1


@pytest.mark.parametrize("settle", [30.0, 60.0])
async def test_the_list_is_read_at_documented_times(settle: float) -> None:
    """At 0, 2, 5, 15 and 30 s, or at the same shares of another ``settle_timeout``."""
    service = Ledger()
    service.lose, service.processed = [LOST], [False]
    times: list[float] = []

    def listed(payload: dict[str, Any]) -> Any:
        times.append(anyio.current_time() - start)
        return service.list(payload)

    service.handlers["Task/List"] = listed
    start = anyio.current_time()
    with pytest.raises(SubmissionUnknown):
        await client(service, limits=wiro_async.Limits(settle_timeout=settle)).submit("owner/model", PROMPT)
    assert times == pytest.approx([share * settle / 30 for share in (0, 2, 5, 15, 30)], abs=1e-6)
    pages = [payload for name, payload in service.calls if name == "Task/List"]
    assert {payload["limit"] for payload in pages} == {"100"}


@pytest.mark.parametrize("lag", [1.0, 4.0, 14.0, 29.0])
async def test_a_list_that_lags_is_read_again(lag: float) -> None:
    """At about 0, 2, 5, 15 and 30 s."""
    service = Ledger()
    service.lose, service.lag = [LOST], lag
    start = anyio.current_time()
    assert (await submit(service)).id == "2221"
    assert anyio.current_time() - start <= 30.1


async def doubt_of(caller: wiro_async.Client) -> SubmissionUnknown:
    """Return the doubt in which a submit ends."""
    with pytest.raises(SubmissionUnknown) as caught:
        await caller.submit("owner/model", PROMPT)
    return caught.value


async def verdict_on(caller: wiro_async.Client, doubt: SubmissionUnknown) -> SubmissionUnknown:
    """Return the doubt that is left when the Run was quiet and the list was read."""
    with pytest.raises(SubmissionUnknown) as caught:
        await caller.reconcile(doubt)
    return caught.value


async def test_a_run_that_is_not_found_is_proved_absent_only_when_it_is_quiet() -> None:
    """Half a minute later it is not in the list, which proves nothing; 85 s after its intent it does."""
    service = Ledger()
    service.lose, service.processed = [LOST], [False]
    caller, start = client(service), anyio.current_time()
    doubt = await doubt_of(caller)
    assert "may be billed; whether it exists can be told from" in str(doubt)
    assert (doubt.absent, doubt.quiet_at - doubt.submitted_at) == (False, 85.0)
    assert service.counts == {"Run": 1, "Task/List": 5}
    assert anyio.current_time() - start == pytest.approx(30.0, abs=0.1)
    verdict = await verdict_on(caller, doubt)
    assert "so it does not exist" in str(verdict)
    assert verdict.absent
    assert anyio.current_time() - start == pytest.approx(85.0, abs=0.1)


async def test_a_run_that_is_proved_absent_is_resent_only_if_asked() -> None:
    """Twice at most, each time looked for first."""
    service = Ledger()
    service.lose, service.processed = [LOST, LOST], [False, False]
    assert (await submit(service, on_unknown="resubmit")).id == "2221"
    assert service.counts["Run"] == 3
    service.lose, service.processed = [LOST] * 3, [False] * 3
    with pytest.raises(SubmissionUnknown):
        await submit(service, {"prompt": "b"}, on_unknown="resubmit")
    assert service.counts["Run"] == 6


@pytest.mark.parametrize(
    "answer", [httpx.Response(500), no(None, "Project authorization is not valid."), LOST]
)
async def test_without_a_list_nothing_is_resent(answer: Any) -> None:
    """Who cannot look does not know, and never pays twice."""
    service = Ledger()
    service.lose = [LOST]
    service.handlers["Task/List"] = answer
    with pytest.raises(SubmissionUnknown, match="may be billed") as caught:
        await submit(service, on_unknown="resubmit")
    assert not caught.value.absent
    assert service.counts["Run"] == 1


def others(start: int) -> dict[str, Any]:
    """Return a page of tasks of now and later."""
    return ok(tasklist=[task(str(start + number), createtime="99999999999") for number in range(2)])


@pytest.mark.parametrize(
    ("answer", "pages"),
    [
        (lambda payload: others(int(payload["start"])), 50),
        (others(0), 1 + 5),
        (ok(tasklist=[None]), 50),
    ],
    ids=["endless", "start is ignored", "unreadable"],
)
async def test_a_list_without_an_end_proves_nothing(answer: Any, pages: int) -> None:
    """After the fiftieth page, or five in a row that repeat what is known, the search is given up."""
    service = Ledger()
    service.lose = [LOST]
    service.handlers["Task/List"] = answer
    with pytest.raises(SubmissionUnknown) as caught:
        await submit(service, on_unknown="resubmit")
    assert not caught.value.absent
    assert service.counts == {"Run": 1, "Task/List": pages * 6}


async def test_a_list_that_grows_while_it_is_read_has_an_end() -> None:
    """What others submit meanwhile moves known tasks to the next page; absence is proved all the same."""
    service = Ledger()
    service.add(parameters={"prompt": "others"})
    usual = service.list

    def listed(payload: dict[str, Any]) -> Any:
        answer = usual(payload)
        if int(payload["start"]) < 3:
            service.add(parameters={"prompt": "others"})
        return answer

    service.handlers["Task/List"] = listed
    service.lose, service.processed = [LOST], [False]
    caller = client(service)
    verdict = await verdict_on(caller, await doubt_of(caller))
    assert "was not in Task/List" in str(verdict)
    assert verdict.absent
    assert [payload["start"] for name, payload in service.calls if name == "Task/List"][:5] == list("01234")


async def test_a_page_that_is_not_full_is_not_the_end_of_the_list() -> None:
    """The service may grant fewer than were asked for: the task is behind 60 others, and is found there."""
    service = Ledger()
    service.lose, service.most, service.lag = [LOST], 50, 1.0
    usual = service.list

    def listed(payload: dict[str, Any]) -> Any:
        while len(service.tasks) < 61:
            service.add(parameters={"prompt": "others"})
        return usual(payload)

    service.handlers["Task/List"] = listed
    assert (await submit(service, on_unknown="resubmit")).id == "2221"
    assert [payload["start"] for name, payload in service.calls if name == "Task/List"] == [
        "0", "0", "50", "61",
    ]  # fmt: skip
    assert service.counts["Run"] == 1


async def test_entries_that_cannot_be_read_count_as_entries() -> None:
    """A full page with one of them in it is followed by another, which begins where that one ends."""
    service = Ledger()
    for number in range(100 + 1):
        service.add(parameters=PROMPT if number == 0 else {"prompt": "others"})
    usual = service.list

    def listed(payload: dict[str, Any]) -> Any:
        answer = usual(payload)
        return {**answer, "tasklist": [None, *answer["tasklist"][1:]]} if payload["start"] == "0" else answer

    service.handlers["Task/List"] = listed
    service.lose, service.processed = [LOST], [False]
    assert (await submit(service)).id == "2221"
    assert [payload["start"] for name, payload in service.calls if name == "Task/List"][:2] == ["0", "100"]


async def test_what_was_read_before_a_page_failed_can_be_the_task() -> None:
    """It proves nothing absent, but what is there is there."""
    service = Ledger()
    service.lose = [LOST]
    service.handlers["Task/List"] = lambda payload: (
        service.list(payload) if payload["start"] == "0" else httpx.Response(500)
    )
    assert (await submit(service)).id == "2221"


@pytest.mark.parametrize("held", [False, True])
async def test_a_task_like_it_that_is_too_old_leaves_a_doubt(held: bool) -> None:
    """It is the Run's if our clock is fast, so the Run is not sent again; nor is the task taken for it.

    A task that is somebody's already says nothing.
    """
    service = Ledger()
    caller = client(service)
    service.add(parameters=PROMPT)["createtime"] = str(int(time.time()) - 3600)
    if held:
        caller.attach("2221")
    service.lose, service.processed = [LOST], [False]
    verdict = await verdict_on(caller, await doubt_of(caller))
    assert ("so it does not exist" if held else "task 2221 has the same") in str(verdict)
    assert verdict.absent is held
    if not held:
        service.lose, service.processed = [LOST], [False]
        with pytest.raises(SubmissionUnknown):
            await caller.submit("owner/model", PROMPT, on_unknown="resubmit")
        assert service.counts["Run"] == 2


async def test_older_pages_are_read_until_the_submit() -> None:
    """The task may be behind newer ones; what is older than the submit ends the search."""
    service = Ledger()
    service.lose = [LOST]
    for _ in range(100 * 3):
        service.add(parameters={"prompt": "others"})
    for item in service.tasks[: 100 * 2]:
        item["createtime"] = "1000"
    handle = await submit(service)
    assert handle.id == str(2221 + 100 * 3)
    assert service.counts["Task/List"] == 2


async def test_identical_runs_in_doubt_find_as_many_tasks_as_there_are() -> None:
    """Ten equal Runs lose their answers, six were processed: six handles, four are absent, no task twice.

    As long as any of them can still be on its way, nobody knows whose the six are, and none is taken.
    """
    service = Ledger()
    service.lose, service.processed = (
        [LOST] * 10,
        [True, True, False, True, False, True, False, True, False, True],
    )
    caller = client(service)
    ids: list[str | None] = []
    doubts: list[SubmissionUnknown] = []

    async def one() -> None:
        try:
            ids.append((await caller.submit("owner/model", PROMPT)).id)
        except SubmissionUnknown as error:
            doubts.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)
    assert (ids, len(doubts)) == ([], 10)
    absent: list[SubmissionUnknown] = []

    async def again(doubt: SubmissionUnknown) -> None:
        try:
            ids.append((await caller.reconcile(doubt)).id)
        except SubmissionUnknown as error:
            absent.append(error)

    async with anyio.create_task_group() as group:
        for doubt in doubts:
            group.start_soon(again, doubt)
    assert sorted(map(str, ids)) == [str(2221 + number) for number in range(6)]
    assert [error.absent for error in absent] == [True] * 4
    assert service.counts["Run"] == 10


async def test_equal_runs_in_doubt_find_their_tasks_at_once_if_there_is_one_for_each() -> None:
    """Then it is the same who has which."""
    service = Ledger()
    service.lose, service.lag = [LOST] * 3, 3.0
    caller, start = client(service), anyio.current_time()
    ids: set[str | None] = set()

    async def one() -> None:
        ids.add((await caller.submit("owner/model", PROMPT)).id)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert ids == {"2221", "2222", "2223"}
    assert anyio.current_time() - start == pytest.approx(5.0, abs=0.1)


async def test_a_doubt_does_not_take_the_task_of_an_equal_run_on_its_way() -> None:
    """The list shows a task whose own answer is still under way: the doubt waits, and leaves it alone."""
    service = Ledger()
    service.lose, service.processed = [LOST], [False]
    caller = client(service)
    outcomes: dict[str, Any] = {}

    async def first() -> None:
        try:
            outcomes["first"] = await caller.submit("owner/model", PROMPT)
        except SubmissionUnknown as error:
            outcomes["first"] = error

    async def second() -> None:
        service.delays["Run"] = 10.0
        outcomes["second"] = await caller.submit("owner/model", PROMPT)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second)
    assert outcomes["second"].id == "2221"
    assert isinstance(outcomes["first"], SubmissionUnknown)
    assert len(service.tasks) == 1
    # At each look but the first the list has a task, and then an empty page.
    assert service.counts["Task/List"] == 1 + 4 * 2


async def test_a_run_that_has_landed_is_forgotten() -> None:
    """Whatever became of it: a client that makes Runs for years keeps none of their payloads."""
    runs, made = OpenRuns(Limits()), []
    for number in range(2):
        attempt = runs.begin(Run(run_of("owner/model"), "owner/model", {"prompt": str(number)}, b"{}"))
        made.append(weakref.ref(attempt.run))
        (runs.doubt if number else runs.close)(attempt)
    assert runs.flying == 0
    del attempt
    gc.collect()
    assert [each() for each in made] == [None] * 2


async def test_a_task_that_is_held_is_not_adopted() -> None:
    """An equal task that this client knows already is somebody's."""
    service = Ledger()
    caller = client(service)
    held = await caller.submit("owner/model", PROMPT)
    attached = service.add(parameters=PROMPT)
    caller.attach(attached["id"])
    service.lose, service.processed = [LOST], [False]
    with pytest.raises(SubmissionUnknown):
        await caller.submit("owner/model", PROMPT)
    assert held.id == "2221"


async def test_a_reply_that_names_a_task_of_ours_is_not_believed() -> None:
    """Two Runs cannot have one task: the second looks for its own."""
    service = Ledger()
    caller = client(service)
    first = await caller.submit("owner/model", {"prompt": "a"})
    service.lose = [ok(taskid=first.id, socketaccesstoken="t")]
    second = await caller.submit("owner/model", {"prompt": "b"})
    assert (first.id, second.id) == ("2221", "2222")


@pytest.mark.parametrize("known", [True, False])
async def test_a_reply_that_names_a_strangers_task_is_found_out_at_the_first_look(known: bool) -> None:
    """Other inputs, or no such task for half a minute: the Run is in doubt again, and can be reconciled."""
    service = Ledger()
    caller = client(service)
    foreign = service.add(parameters={"prompt": "a stranger's"})["id"] if known else "9999"
    service.lose = [ok(taskid=foreign, socketaccesstoken="t")]
    handle = await caller.submit("owner/model", PROMPT)
    with pytest.raises(SubmissionUnknown if known else TaskNotFound) as caught:
        await handle
    doubt = caught.value.doubt if isinstance(caught.value, TaskNotFound) else caught.value
    assert isinstance(doubt, SubmissionUnknown)
    found = await caller.reconcile(doubt)
    assert found.id == service.tasks[-1]["id"] != foreign


async def test_a_false_claim_neither_hides_a_task_from_its_run_nor_pays_for_it_again() -> None:
    """Run b is answered with task a, whose own answer is lost: a is found, not resent; b learns at a look."""
    service = Ledger()
    caller = client(service)
    service.lose = [ok(taskid="2222", socketaccesstoken="t")]
    wrong = await caller.submit("owner/model", {"prompt": "b"})
    service.lose = [LOST]
    right = await caller.submit("owner/model", {"prompt": "a"}, on_unknown="resubmit")
    assert right.id == wrong.id == "2222"
    assert service.counts["Run"] == len(service.tasks) == 2
    with pytest.raises(SubmissionUnknown) as caught:
        await wrong.refresh()
    assert (await caller.reconcile(caught.value)).id == "2221"
    await right.refresh()


async def test_reconcile_looks_again_later() -> None:
    """Until the Run is quiet, and once where it is; also by an error of which nobody told when that is."""
    service = Ledger()
    service.lose, service.lag = [LOST], 300.0
    caller = client(service)
    doubt = await doubt_of(caller)
    doubt = await verdict_on(caller, doubt)
    looks, start = service.counts["Task/List"], anyio.current_time()
    assert (await verdict_on(caller, doubt)).absent
    # The first verdict has closed the attempt: by the wall clock, which virtual time does not move, 85 s.
    doubt.quiet_at = time.time()
    assert (await verdict_on(caller, doubt)).absent
    assert service.counts["Task/List"] - looks == 6 + 1
    doubt.quiet_at = float("inf")
    assert (await verdict_on(caller, doubt)).absent
    assert anyio.current_time() - start == pytest.approx(2 * 85.0, abs=0.5)
    await anyio.sleep(300)
    assert (await caller.reconcile(doubt)).id == "2221"


async def test_the_marker_finds_the_task_whatever_its_inputs_became() -> None:
    """A callback URL carries it; the URL is otherwise as the caller gave it."""
    service = Ledger()
    service.lose = [LOST]
    caller = client(service)

    def rewriting(payload: dict[str, Any]) -> Any:
        answer = Ledger.run(service, payload)
        service.tasks[-1]["parameters"] = {"prompt": "rewritten"}
        return answer

    service.handlers["Run"] = rewriting
    handle = await caller.submit("owner/model", PROMPT, callback_url="https://e.org/done?x=1")
    assert handle.id == "2221"
    assert service.tasks[0]["callbackurl"].startswith("https://e.org/done?x=1&wiro_async=")


async def test_a_caller_cancelled_while_it_is_looked_for_leaves_a_doubt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody is left to tell, so it is kept and logged."""
    service = Ledger()
    service.lose, service.lag = [LOST], 100.0
    caller = client(service)
    with caplog.at_level(logging.WARNING), anyio.move_on_after(10) as scope:
        await caller.submit("owner/model", PROMPT)
    assert scope.cancelled_caught
    (fingerprint,) = caller.unresolved
    assert "cancelled" in caplog.text
    await anyio.sleep(100)
    assert (await caller.reconcile(fingerprint)).id == "2221"


@pytest.mark.parametrize("lost", [True, False])
async def test_a_caller_cancelled_while_it_submits_is_told_of_all_the_same(lost: bool) -> None:
    """The answer is waited for: a task is then unclaimed, and a doubt unresolved."""
    service = Ledger()
    service.lose = [LOST] if lost else []
    service.latency = 5.0
    caller = client(service)
    with anyio.move_on_after(1):
        await caller.submit("owner/model", PROMPT)
    assert [handle.id for handle in caller.unclaimed] == ([] if lost else ["2221"])
    assert [error.model for error in caller.unresolved] == (["owner/model"] if lost else [])


async def test_a_caller_cancelled_while_it_is_refused_leaves_nothing() -> None:
    """There is nothing to tell of."""
    service = FakeService(Run=no(97, "Insufficient balance"))
    service.latency = 5.0
    caller = client(service)
    with anyio.move_on_after(1):
        await caller.submit("owner/model", PROMPT)
    assert not caller.unclaimed
    assert not caller.unresolved


# -- sent again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), httpx.Response(429)], ids=repr)
async def test_a_run_that_was_not_taken_is_sent_again_for_a_minute(fault: Any) -> None:
    """A service that restarts meanwhile takes it; one that stays away is given up after eleven attempts."""
    service = FakeService(Run=[*[fault] * 10, ok(taskid="2221")])
    caller = client(service)
    assert (await caller.submit("owner/model", PROMPT)).id == "2221"
    assert service.counts == {"Run": 11}
    service.handlers["Run"] = fault
    start = anyio.current_time()
    with pytest.raises((wiro_async.ConnectionFailed, wiro_async.RateLimited)):
        await caller.submit("owner/model", PROMPT)
    assert service.counts == {"Run": 22}
    assert anyio.current_time() - start <= 65.5
    assert not caller.unresolved


async def test_a_run_that_is_not_taken_is_sent_again_when_the_service_says() -> None:
    """A Retry-After is kept."""
    service = FakeService(Run=[httpx.Response(429, headers={"retry-after": "30"}), ok(taskid="2221")])
    start = anyio.current_time()
    assert (await submit(service)).id == "2221"
    assert anyio.current_time() - start == pytest.approx(30.0)


async def test_a_runs_timeout_covers_sending_it_again() -> None:
    """A pause that would last longer is not begun."""
    service = FakeService(Run=httpx.Response(429, headers={"retry-after": "7"}))
    start = anyio.current_time()
    with pytest.raises(wiro_async.RateLimited):
        await client(service).run("owner/model", PROMPT, timeout=10)
    assert anyio.current_time() - start == pytest.approx(7.0)
    assert service.counts == {"Run": 2}


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        httpx.Response(500),
        httpx.Response(502, text="<html>"),
        httpx.Response(200, text=""),
        no(0, "?"),
        no(97, "Insufficient balance"),
    ],
    ids=repr,
)
async def test_a_run_that_may_have_been_taken_is_not_sent_again(fault: Any) -> None:
    """Nor is one that was refused: what could pay twice, and what would change nothing."""
    service = FakeService(Run=fault, Task_List=no(1, "There is no task yet."))
    with pytest.raises(wiro_async.WiroError):
        await submit(service)
    assert service.counts["Run"] == 1


# -- code 96 ---------------------------------------------------------------------------------------------


async def test_without_patience_code_96_is_raised_at_once() -> None:
    """A slot_timeout of 0 asks once."""
    service = Ledger()
    service.limit = 0
    with pytest.raises(wiro_async.ConcurrencyLimited):
        await submit(service, slot_timeout=0)
    assert service.counts == {"Run": 1}


async def test_an_exchange_that_is_cut_off_leaves_a_doubt() -> None:
    """The end of ``asyncio.run()`` cancels every task, the one that the exchange has of its own too."""
    if not on_asyncio():
        pytest.skip("on trio only Ctrl-C cuts an exchange off")
    service = Ledger()
    service.latency = 10.0
    caller = client(service)
    before = asyncio.all_tasks()
    submitting = asyncio.create_task(caller.submit("owner/model", PROMPT))
    await anyio.wait_all_tasks_blocked()
    for each in asyncio.all_tasks() - before:
        each.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    (fingerprint,) = caller.unresolved
    assert "the program ended" in fingerprint.cause


async def test_a_closed_client_does_not_look() -> None:
    """Reconciling with it is an error of the program, not half a minute of failed looks."""
    service = Ledger()
    service.lose, service.processed = [LOST], [False]
    caller = client(service)
    with pytest.raises(SubmissionUnknown) as caught:
        await caller.submit("owner/model", PROMPT)
    await caller.aclose()
    with pytest.raises(wiro_async.ClientUseError):
        await caller.reconcile(caught.value)


# -- room ------------------------------------------------------------------------------------------------


async def test_code_96_waits_for_a_task_of_ours_to_end() -> None:
    """The end that a waiter notices lets the next Run go at once, and costs no attempt."""
    service = Ledger()
    service.limit = 1
    caller = client(service)
    first = await caller.submit("owner/model", {"prompt": "a"})
    start = anyio.current_time()

    async def end_first() -> None:
        await anyio.sleep(30)
        service.end("2221")
        await first.refresh()

    async with anyio.create_task_group() as group:
        group.start_soon(end_first)
        second = await caller.submit("owner/model", {"prompt": "b"})
    assert second.id == "2222"
    assert anyio.current_time() - start == pytest.approx(30, abs=0.1)
    assert service.counts["Run"] <= 8


async def test_code_96_asks_again_gently_when_no_task_is_ours() -> None:
    """Another program's tasks fill the account: a few more Runs are refused, at growing intervals."""
    service = Ledger()
    service.limit = 1
    service.add()

    async def end_it() -> None:
        await anyio.sleep(100)
        service.end("2221")

    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(end_it)
        await submit(service)
    assert 100 <= anyio.current_time() - start <= 126
    assert service.counts["Run"] <= 14


async def test_a_crowd_stands_in_line() -> None:
    """A hundred submits share one slot: one refusal each at the door, then only the first in line asks."""
    service = Ledger()
    service.limit = 1
    caller = client(service)
    done: list[str | None] = []

    async def one(number: int) -> None:
        handle = await caller.submit("owner/model", {"prompt": str(number)})
        service.end(str(handle.id))
        await handle.refresh()
        done.append(handle.id)

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(one, number)
    assert len(set(done)) == 100
    assert service.counts["Run"] <= 300


async def test_who_gets_no_slot_in_time_learns_which_wait_ran_out() -> None:
    """First in line, further back, and by the client's own default."""
    service = Ledger()
    service.limit = 1
    service.add()
    caller = client(service, limits=wiro_async.Limits(slot_timeout=50))
    refused: list[wiro_async.ConcurrencyLimited] = []

    async def one() -> None:
        try:
            await caller.submit("owner/model", PROMPT)
        except wiro_async.ConcurrencyLimited as error:
            refused.append(error)

    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert anyio.current_time() - start == pytest.approx(50, abs=0.1)
    assert len(refused) == 3
    assert all("no slot became free within 50 s" in str(error) and error.limit == 5 for error in refused)


async def test_a_runs_timeout_covers_the_wait_for_a_slot() -> None:
    """One deadline from the submit to the end; the error says that it was the slot."""
    service = Ledger()
    service.limit = 1
    service.add()
    start = anyio.current_time()
    with pytest.raises(wiro_async.ConcurrencyLimited, match="slot"):
        await client(service).run("owner/model", PROMPT, timeout=20)
    assert anyio.current_time() - start == pytest.approx(20, abs=0.1)


async def test_a_second_of_patience_is_a_second() -> None:
    """Only a slot_timeout of 0 asks once."""
    service = Ledger()
    service.limit = 1
    service.add()
    start = anyio.current_time()
    with pytest.raises(wiro_async.ConcurrencyLimited, match="within 1 s"):
        await submit(service, slot_timeout=1)
    assert anyio.current_time() - start == pytest.approx(1)


async def test_a_timeout_that_the_run_has_used_up_leaves_none_for_the_wait() -> None:
    """The answer is awaited whatever it takes, because it may be paid for; the task is not."""
    service = Ledger()
    service.delays["Run"] = 10.0
    start = anyio.current_time()
    with pytest.raises(wiro_async.TaskTimeout):
        await client(service).run("owner/model", PROMPT, timeout=5)
    assert anyio.current_time() - start == pytest.approx(10)


async def test_a_runs_timeout_covers_the_search_for_a_lost_answer() -> None:
    """The doubt is raised when the time is up, and can be reconciled later."""
    service = Ledger()
    service.lose, service.lag = [LOST], 12.0
    start = anyio.current_time()
    caller = client(service)
    with pytest.raises(wiro_async.SubmissionUnknown) as caught:
        await caller.run("owner/model", PROMPT, timeout=10)
    assert anyio.current_time() - start == pytest.approx(10, abs=0.1)
    assert not caught.value.absent
    await anyio.sleep(5.0)
    assert (await caller.reconcile(caught.value)).id == "2221"


async def test_a_run_cancelled_while_its_timeout_stops_the_task_leaves_its_handle() -> None:
    """The cancellation takes the place of the TaskTimeout, which would have had the handle."""
    service = FakeService(
        Run=ok(taskid="2221"),
        Task_Detail=ok(tasklist=[task(status="task_start")]),
        Task_Cancel=no(None, "Task is not in a cancellable state."),
        Task_Kill=no(None, "no"),
    )
    service.latency = 0.5
    caller = client(service)
    with anyio.move_on_after(20.2) as scope:
        await caller.run("owner/model", PROMPT, timeout=20, on_cancel="stop")
    assert scope.cancelled_caught
    assert [handle.id for handle in caller.unclaimed] == ["2221"]


async def test_a_cancelled_wait_in_line_lets_the_others_pass() -> None:
    """Neither the first in line nor one behind it holds the place when it is cancelled."""
    service = Ledger()
    service.limit = 1
    service.add()
    caller = client(service)
    async with anyio.create_task_group() as group:

        async def impatient(seconds: float) -> None:
            with anyio.move_on_after(seconds):
                await caller.submit("owner/model", {"prompt": str(seconds)})

        group.start_soon(impatient, 10.0)
        group.start_soon(impatient, 5.0)
        await anyio.sleep(20)
        service.end("2221")
        assert (await caller.submit("owner/model", PROMPT)).id == "2222"


# -- bookkeeping -----------------------------------------------------------------------------------------


async def test_a_task_whose_id_is_no_text_is_not_adopted() -> None:
    """An id with half a surrogate pair can neither be sent nor written down."""
    odd = task("1\ud800", modelslugowner="owner", modelslugproject="model", createtime=str(int(time.time())))
    odd["parameters"] = {"prompt": "waves"}
    listed = json.dumps(ok(tasklist=[odd])).encode()
    service = FakeService(
        Run=httpx.ReadTimeout("no answer"), Task_List=lambda _: httpx.Response(200, content=listed)
    )
    with pytest.raises(SubmissionUnknown):
        await client(service).submit("owner/model", {"prompt": "waves"})
