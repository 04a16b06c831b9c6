"""The jobs of a benchmark: how long each takes, and what the service says of it. Pure.

The times are those of real image-to-video jobs, divided by a factor: an exponential queue of 6 s in the mean,
then a log-normal run of 60 s in the median.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from typing import Any

__all__ = ["INPUTS", "MODEL", "PROGRESS_FRAMES", "Job", "Load", "detail", "frames", "outputs", "run_reply"]

MODEL = "MiniMax/image-to-video-01-director"

INPUTS = {
    "inputImageFirstUrl": "https://example.org/photo.jpg",
    "prompt": "[Zoom in] " + "waves roll in at dusk, the last light on the wet sand; " * 4,
}

PROGRESS_FRAMES = 4
"""Progress events of one task on the WebSocket, evenly over its run."""


@dataclass(frozen=True)
class Load:
    """How long the jobs take.

    Attributes:
        factor: By how much time is compressed: 60 turns a minute into a second.
        epoch: When the service's clock began to run that much faster, as a unix time.
        seed: Which draw of the times.
        queue: The mean time in the queue, in seconds before compression.
        median: The median run time, in seconds before compression.
        sigma: The spread of the run times: the standard deviation of their logarithm.
    """

    factor: float = 1.0
    epoch: float = 0.0
    seed: int = 1
    queue: float = 6.0
    median: float = 60.0
    sigma: float = 0.25

    def times(self, count: int) -> list[tuple[float, float]]:
        """Return for each of *count* jobs its seconds in the queue and running, compressed."""
        chance = random.Random(self.seed)
        return [
            (
                chance.expovariate(1.0 / self.queue) / self.factor,
                chance.lognormvariate(math.log(self.median), self.sigma) / self.factor,
            )
            for _ in range(count)
        ]

    def ideal(self, count: int) -> float:
        """Return the least makespan of *count* jobs, in seconds: the longest one's time."""
        return max(queued + ran for queued, ran in self.times(count))

    def stamp(self, at: float) -> bytes:
        """Return a time as the service tells it: whole seconds, cut off, of its fast clock."""
        return b"%d" % (self.epoch + (at - self.epoch) * self.factor)


@dataclass(frozen=True)
class Job:
    """One task on the server; times are unix times, exact.

    Attributes:
        id: The task's id.
        created: When the Run was taken.
        starts: When it leaves the queue.
        ends: When it is over: from then on Detail says so.
        load: What it is one of.
        callback: Where to POST the result ("" for nowhere).
    """

    id: str
    created: float
    starts: float
    ends: float
    load: Load = Load()
    callback: str = ""

    @property
    def token(self) -> str:
        """The socket token, of 30 characters as the service's."""
        return f"token{self.id:0>25}"


_OUTPUT = {
    "id": "6bc392c93856dfce3a7d1b4261e15af3", "name": "0.mp4", "contenttype": "video/mp4",
    "parentid": "6c1833f39da71e6175bf292b18779baf", "uuid": "15bce51f-442f-4f44-a71d-13c6374a62bd",
    "size": "202472", "addedtime": "1734513812", "modifiedtime": "1734513812",
    "accesskey": "dFKlMApaSgMeHKsJyaDeKrefcHahUK", "foldercount": "0", "filecount": "0", "ispublic": 0,
    "expiretime": None, "url": "https://cdn1.wiro.ai/6a6af820-c5050aee-40bd7b83-a2e186c6/0.mp4",
}  # fmt: skip

_TASK = {
    "id": "@id", "uuid": "15bce51f-442f-4f44-a71d-13c6374a62bd", "name": "", "socketaccesstoken": "@token",
    "parameters": INPUTS, "debugoutput": "", "debugerror": "", "starttime": "@start", "endtime": "@end",
    "elapsedseconds": "@elapsed", "status": "@status", "cps": "0.000585000000", "totalcost": "@cost",
    "guestid": None, "projectid": "699", "modelid": "598", "description": "", "basemodelid": "0",
    "runtype": "model", "modelfolderid": "", "modelfileid": "", "callbackurl": "@callback",
    "marketplaceid": None, "createtime": "@created", "canceltime": "0", "assigntime": "@created",
    "accepttime": "@created", "preprocessstarttime": "@created", "preprocessendtime": "@created",
    "postprocessstarttime": "@end", "postprocessendtime": "@end", "pexit": "@pexit",
    "categories": "[\"tool\",\"image-to-video\"]", "outputs": "@outputs", "size": "0",
    "modelslugowner": "MiniMax", "modelslugproject": "image-to-video-01-director",
}  # fmt: skip


def _template() -> bytes:
    """Turn the task's record into a format of bytes: filling it in takes two microseconds."""
    text = json.dumps({"total": "1", "errors": [], "tasklist": [_TASK], "result": True})
    text = text.replace("%", "%%").replace('"@outputs"', "%(outputs)b")
    for name in ("id", "token", "status", "created", "start", "end", "elapsed", "cost", "pexit", "callback"):
        text = text.replace(f'"@{name}"', f'"%({name})b"')
    return text.encode()


_TEMPLATE = _template()
_OUTPUTS = json.dumps([_OUTPUT]).encode()


def outputs(url: str, size: int) -> bytes:
    """Return the record of a task's one output."""
    return json.dumps([{**_OUTPUT, "url": url, "size": str(size)}]).encode()


def detail(job: Job, now: float, made: bytes = _OUTPUTS) -> bytes:
    """Return the body of Detail's reply about *job*; *made* is what it brings."""
    started, ended, stamp = now >= job.starts, now >= job.ends, job.load.stamp
    status = b"task_postprocess_end" if ended else b"task_start" if started else b"task_queue"
    return _TEMPLATE % {
        b"id": job.id.encode(),
        b"token": job.token.encode(),
        b"status": status,
        b"created": stamp(job.created),
        b"start": stamp(job.starts) if started else b"0",
        b"end": stamp(job.ends) if ended else b"0",
        b"elapsed": b"%d.0000" % ((job.ends - job.starts) * job.load.factor) if ended else b"0",
        b"cost": b"0.003510000000" if ended else b"0.000000000000",
        b"pexit": b"0" if ended else b"",
        b"callback": job.callback.encode(),
        b"outputs": made if ended else b"[]",
    }


def run_reply(job: Job) -> bytes:
    """Return the body of a Run's reply."""
    reply = {"errors": [], "taskid": job.id, "socketaccesstoken": job.token, "result": True}
    return json.dumps(reply).encode()


def frames(job: Job) -> list[tuple[float, str]]:
    """Return the task's messages on the WebSocket and when each is sent, in the documented older format."""

    def message(kind: str, content: Any = None) -> str:
        frame = {"type": kind, "id": job.id, "tasktoken": job.token, "message": content, "result": True}
        return json.dumps(frame)

    span = job.ends - job.starts
    found = [(job.starts, message("task_start"))]
    for step in range(1, PROGRESS_FRAMES + 1):
        share = step / (PROGRESS_FRAMES + 1)
        progress = {
            "type": "progressGenerate", "task": "Generate", "percentage": f"{100 * share:.0f}",
            "stepCurrent": str(step), "stepTotal": str(PROGRESS_FRAMES + 1), "speed": "1.2",
            "speedType": "it/s", "elapsedTime": "5s", "remainingTime": "3s",
        }  # fmt: skip
        found.append((job.starts + share * span, message("task_output", progress)))
    found.append((job.ends, message("task_end")))
    found.append((job.ends, message("task_postprocess_end", [_OUTPUT])))
    return found
