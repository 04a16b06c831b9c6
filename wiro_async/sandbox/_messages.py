"""What a WebSocket tells of a task: messages as text, and when they are due. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from wiro_async._types import Status
from wiro_async.sandbox._config import SocketFormat
from wiro_async.sandbox._engine import Engine, Stage, Task
from wiro_async.sandbox._replies import outputs_json

__all__ = ["MessageStream", "encode"]

PROGRESS_STEPS = 10
"""Progress messages over a run."""

_STEP = 0.084  # of the run: the last step comes before the first line about the file, at 0.85

_LINES = ("Decoding frames.", "Encoding the clip.", "Writing the file.")

_TERMINAL = frozenset({Status.POSTPROCESS_END, Status.CANCEL})


class MessageStream:
    """One task as a WebSocket tells it, from a moment on: what was before is not told again.

    Args:
        engine: Knows the task.
        token: The task's socket token, its only credential.
        now: The moment.
        form: Which of the two formats the messages have.
        cdn_url: What output URLs begin with.

    Attributes:
        task_id: The task's id.
        ended: Whether there is no more to tell.

    Raises:
        Refusal: 1, when no task has this token.
    """

    def __init__(self, engine: Engine, token: str, now: float, *, form: SocketFormat, cdn_url: str) -> None:
        self._engine: Engine = engine
        self._token: str = token
        self._form: SocketFormat = form
        self._cdn_url: str = cdn_url
        self._task: Task = engine.by_token(token)
        self.task_id: str = self._task.id
        # Both are of letters and digits.
        name = f'"id":"{self._task.id}"'
        self._name: str = name if form == "new" else f'{name},"tasktoken":"{token}"'
        reached, self._cursor, _ = engine.events(token, 0, now)
        statuses = [stage.status for stage in reached]
        self._running: bool = Status.START in statuses
        self._line: int = statuses.count(Status.OUTPUT)
        self._step: int = 0
        self.ended: bool = statuses[-1] in _TERMINAL
        with engine.lock:
            self._progress(now)

    def tell(self, now: float) -> tuple[list[str], float | None]:
        """Return what has not been told until now, in order, and when more is due.

        The time is None when that is not known: the engine's listeners hear of it. Progress that was missed
        is left out.
        """
        with self._engine.lock:
            reached, self._cursor, due = self._engine.events(self._token, self._cursor, now)
            for stage in reached:
                self._running |= stage.status is Status.START
                self.ended = stage.status in _TERMINAL
            told, next_step = self._progress(now)
            for stage in reached:
                told += [(stage.at, text) for text in self._texts(stage)]
        told.sort(key=_time)  # stable: stages of the same moment stay in their order
        times = [at for at in (due, next_step) if at is not None]
        return [text for _, text in told], min(times, default=None)

    # -- progress --------------------------------------------------------------------------------

    def _progress(self, now: float) -> tuple[list[tuple[float, str]], float | None]:
        """The newest progress that is due, and when the next is."""
        # A language model streams its answer instead.
        tells = self._running and self._step < PROGRESS_STEPS and not self._task.order.model.is_language_model
        span = _run(self._task) if tells else None
        if span is None:
            return [], None
        start, end = span
        pace = _STEP * (end - start)
        before = self._step
        while self._step < PROGRESS_STEPS and start + pace * (self._step + 1) <= now:
            self._step += 1
        upcoming = start + pace * (self._step + 1) if self._step < PROGRESS_STEPS else None
        if self._step == before:
            return [], upcoming
        elapsed = pace * self._step
        content = _progress(self._step, elapsed, end - start)
        return [(start + elapsed, self._text(Status.OUTPUT, content))], upcoming

    # -- messages --------------------------------------------------------------------------------

    def _texts(self, stage: Stage) -> list[str]:
        """The messages about a stage: mostly one."""
        task, status = self._task, stage.status
        if status is Status.OUTPUT:
            self._line += 1
            content = next((product.content for product in task.products or ()), None)
            if content is not None:
                return [self._text(status, _words(content, self._line, stage.at - task.created))]
            return [self._text(status, _LINES[(self._line - 1) % len(_LINES)])]
        if status is Status.START:
            return [self._text(status), self._text(Status.OUTPUT, "Model is running.")]
        if status is Status.END and task.failure is not None:
            return [self._text(Status.ERROR, task.failure), self._text(status)]
        if status is Status.ERROR:
            return [self._text(status, task.debugerror)]
        if status is Status.POSTPROCESS_END:
            if stage.at < task.files_at:
                return [self._text(status)]
            return [self._text(status, outputs_json(task, cdn_url=self._cdn_url), task.pexit)]
        return [self._text(status)]

    def _text(self, status: Status, content: Any = None, pexit: str = "") -> str:
        message = "null" if content is None else _ENCODER.encode(content)
        text = f'{{"type":"{status.value}",{self._name},"message":{message},"result":true'
        if self._form == "new":
            terminal = "true" if status in _TERMINAL else "false"
            success = "true" if pexit == "0" else "false"
            text += f',"success":{success},"terminal":{terminal},"exitCode":{pexit or "null"}'
        return text + "}"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(**message: Any) -> str:
    """A message as the text of a frame."""
    return _ENCODER.encode(message)


def _time(told: tuple[float, str]) -> float:
    return told[0]


def _run(task: Task) -> tuple[float, float] | None:
    """When a task's run begins and ends, as far as it is planned; None if it has no end."""
    times = {stage.status: stage.at for stage in (*task.stages, *task.plan)}
    if task.held or Status.START not in times or Status.END not in times:
        return None
    return times[Status.START], times[Status.END]


def _words(content: Mapping[str, Any], line: int, elapsed: float) -> dict[str, Any]:
    """A language model's answer so far: first what it thinks, then growing parts of what it says."""
    share = (line - 1) / (len(_LINES) - 1)
    answer = [text[: math.ceil(share * len(text))] for text in content["answer"]] if share > 0 else []
    raw = "\n".join([*content["thinking"], *answer])
    return {
        "type": "answer" if answer else "thinking",
        "thinking": content["thinking"],
        "answer": answer,
        "raw": raw,
        "isThinking": not answer,
        "speed": f"{len(raw.split()) / max(elapsed, 0.1):.1f}",
        "speedType": "t/s",
        "elapsedTime": f"{elapsed:.0f}s",
    }


def _progress(step: int, elapsed: float, run: float) -> dict[str, str]:
    """A progress object. All its values are strings."""
    speed = step / elapsed if elapsed > 0 else 0.0
    return {
        "type": "progressGenerate",
        "task": "Generate",
        "percentage": str(100 * step // PROGRESS_STEPS),
        "stepCurrent": str(step),
        "stepTotal": str(PROGRESS_STEPS),
        "speed": f"{speed:.1f}",
        "speedType": "it/s",
        "elapsedTime": f"{elapsed:.0f}s",
        "remainingTime": f"{max(0.0, run - elapsed):.0f}s",
    }
