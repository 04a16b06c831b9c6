"""What the batch's tests share: a service with many tasks, quick journals, a clock that waits for threads."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs
import httpx
import pytest

from tests.fakes import BASE, FakeService, client, no, ok
from tests.journals import Database, quick, rows_of
from tests.virtual import anyio_backend as anyio_backend
from wiro_async import Batch, Job, JobOutcome, Polling
from wiro_async._journal.sqlite import SQLiteJournal

T = TypeVar("T")

MODEL = "MiniMax/image-to-video-01-director"
RARELY = Polling(min_interval=15.0, max_interval=15.0, requests_per_second=1000.0)
CLIP = b"\0\0\0\x18ftypmp42" + bytes(100)


# -- journals --------------------------------------------------------------------------------------------


class Databases(list[Database]):
    """The databases of the journals that a test opens.

    Attributes:
        fail: What the next ones do with each statement; see ``Database``.
    """

    fail: Callable[[str], Exception | None] = staticmethod(lambda _: None)


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> Databases:
    """Make all journals quick, and return the databases that they will have."""
    made = Databases()
    connect, _ = quick()
    original = SQLiteJournal.open

    def connect_quick(path: str) -> sqlite3.Connection:
        database = connect(path)
        assert isinstance(database, Database)
        database.fail = made.fail
        made.append(database)
        return database

    async def open_quick(path: Any, *, create: bool = True) -> SQLiteJournal:
        return await original(path, create=create, connect=connect_quick)

    monkeypatch.setattr(SQLiteJournal, "open", open_quick)
    return made


async def states_of(path: Path) -> dict[str, str]:
    """Return the states of a closed journal's jobs."""
    return {key: row.state for key, row in (await rows_of(path)).items()}


# -- a service -------------------------------------------------------------------------------------------


@attrs.define
class Fate:
    """What becomes of a prompt's tasks."""

    lasts: float = 60.0
    pexit: str = "0"
    cost: str | None = "0.35"
    reason: str = ""
    outputs: int = 1
    content: bytes = CLIP


@attrs.define
class Made:
    """A task of the service."""

    id: str
    inputs: dict[str, Any]
    fate: Fate
    born: float
    created: float
    killed: float | None = None

    @property
    def ends(self) -> float:
        return self.born + self.fate.lasts


class Service(FakeService):
    """A service of many tasks, on the event loop's clock.

    Attributes:
        fates: What becomes of a prompt's tasks; those of others take a minute and succeed.
        answers: What the next Runs of a prompt ("" for any) are answered: a reply, an exception, "lost"
            (accepted, and the answer lost), "gone" (it did not arrive, and nobody can tell), "other"
            (accepted, and another task is named), or None (as usual).
        limit: How many tasks may run at a time.
        made: The tasks by their ids.
        fetched: How often each output was asked for.
        missing: HTTP statuses that the next downloads are answered.
        fetching: Seconds until a download is answered.
    """

    def __init__(self, limit: int = 8) -> None:
        super().__init__(
            Run=self._run,
            Task_Detail=self._detail,
            Task_List=self._list,
            Task_Cancel=self._kill,
            Task_Kill=self._kill,
            Task_InputOutputDelete=self._delete,
            File_Upload=self._upload,
            Tool_Detail=no(1, "tool-not-accessible"),
        )
        self._ids = count(2221)
        self.limit: int = limit
        self.fates: dict[str, Fate] = {}
        self.answers: dict[str, list[Any]] = {}
        self.made: dict[str, Made] = {}
        self.deleted: list[str] = []
        self.uploads: int = 0
        self.fetched: Counter[str] = Counter()
        self.missing: list[int] = []
        self.fetching: float = 0.0
        self.most: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/cdn/"):
            await anyio.sleep(self.fetching)
            return self._download(request.url.path)
        return await super().handle_async_request(request)

    # -- what a test asks --------------------------------------------------------------------------------

    @property
    def runs(self) -> Counter[str]:
        """How many tasks were made of each prompt."""
        return Counter(task.inputs["prompt"] for task in self.made.values())

    @property
    def active(self) -> int:
        """How many tasks run."""
        now = anyio.current_time()
        return sum(now < task.ends and task.killed is None for task in self.made.values())

    # -- the calls ---------------------------------------------------------------------------------------

    def _accept(self, inputs: dict[str, Any]) -> Made:
        fate = self.fates.get(inputs["prompt"], Fate())
        made = Made(str(next(self._ids)), inputs, fate, anyio.current_time(), time.time())
        self.made[made.id] = made
        self.most = max(self.most, self.active)
        return made

    def _run(self, inputs: dict[str, Any]) -> Any:
        for name in (inputs["prompt"], ""):
            if self.answers.get(name):
                answer = self.answers[name].pop(0)
                break
        else:
            answer = None
        if answer == "gone":
            return httpx.ReadTimeout("no answer")
        if answer is None and self.active >= self.limit:
            return full(self.limit)
        if answer not in (None, "lost", "other"):
            return answer
        task_id = self._accept(inputs).id
        if answer == "lost":
            return httpx.ReadTimeout("no answer")
        if answer == "other":
            task_id = self._accept({"prompt": "somebody else's", "n": 1}).id
        return ok(taskid=task_id, socketaccesstoken=f"token-{task_id}")

    def _detail(self, payload: dict[str, Any]) -> dict[str, Any]:
        task = self.made.get(payload.get("taskid", ""))
        return ok(tasklist=[] if task is None else [self.wire(task)])

    def _list(self, payload: dict[str, Any]) -> dict[str, Any]:
        start, limit = int(payload["start"]), int(payload["limit"])
        newest = list(reversed(self.made.values()))
        return ok(tasklist=[self.wire(task) for task in newest[start : start + limit]])

    def _kill(self, payload: dict[str, Any]) -> dict[str, Any]:
        task = self.made[payload["taskid"]]
        if anyio.current_time() < task.ends:
            task.killed = anyio.current_time()
        return self._detail(payload)

    def _delete(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.deleted.append(payload["tasktoken"])
        return ok()

    def _upload(self, _: dict[str, Any]) -> dict[str, Any]:
        self.uploads += 1
        return ok(list=[{"id": "f", "name": "f", "url": f"https://api.wiro.ai/v1/File/{self.uploads}"}])

    def _download(self, path: str) -> httpx.Response:
        self.fetched[path] += 1
        if self.missing:
            return httpx.Response(self.missing.pop(0))
        return httpx.Response(200, content=self.made[path.split("/")[2]].fate.content)

    def wire(self, task: Made) -> dict[str, Any]:
        """Return a task as replies have it."""
        now, fate = anyio.current_time(), task.fate
        over = now >= task.ends
        status = "task_postprocess_end" if over else "task_start" if now >= task.born + 6 else "task_queue"
        if task.killed is not None:
            status, over = "task_cancel", False
        owner, name = MODEL.split("/")
        wire: dict[str, Any] = {
            "id": task.id,
            "socketaccesstoken": f"token-{task.id}",
            "status": status,
            "parameters": task.inputs,
            "createtime": str(int(task.created)),
            "modelslugowner": owner,
            "modelslugproject": name,
        }
        if over:
            wire |= {"pexit": fate.pexit, "debugoutput": fate.reason}
            wire |= {} if fate.cost is None else {"totalcost": fate.cost}
        if over and fate.pexit == "0":
            wire["outputs"] = [output(task.id, n) for n in range(fate.outputs)]
        return wire


def priced(service: Service, price: str) -> Service:
    """Have the catalogue tell a price."""
    owner, name = MODEL.split("/")
    tool = {"slugowner": owner, "slugproject": name, "approximatelycost": price}
    service.handlers["Tool/Detail"] = ok(tool=[tool])
    return service


def output(task_id: str, n: int = 0) -> dict[str, Any]:
    """Return an output as replies have it."""
    url = f"{BASE.removesuffix('/v1')}/cdn/{task_id}/{n}.mp4"
    return {"name": f"{n}.mp4", "url": url, "contenttype": "video/mp4"}


def full(limit: int) -> dict[str, Any]:
    """Return code 96."""
    words = f"You have reached your concurrent task limit. You can run up to {limit} tasks at the same time."
    return no(96, words)


# -- batches ---------------------------------------------------------------------------------------------


def job(prompt: str, key: str | None = None, **inputs: Any) -> Job:
    """Return a job."""
    return Job(inputs={"prompt": prompt, **inputs}, key=key)


def jobs(*prompts: str) -> list[Job]:
    """Return jobs whose keys are their prompts."""
    return [job(prompt, prompt) for prompt in prompts]


@asynccontextmanager
async def batch_of(service: Service, given: Any = (), **options: Any) -> AsyncIterator[Batch]:
    """Enter a batch on a client of its own."""
    async with client(service, polling=RARELY) as own, own.batch(given, model=MODEL, **options) as batch:
        yield batch


async def outcomes(service: Service, given: Any = (), **options: Any) -> dict[str, JobOutcome]:
    """Run a batch to its end."""
    async with batch_of(service, given, **options) as batch:
        return {outcome.key: outcome async for outcome in batch}


async def alone(service: Service, **options: Any) -> JobOutcome:
    """Run a batch of one job, and return its outcome."""
    return (await outcomes(service, jobs("a"), **options))["a"]
