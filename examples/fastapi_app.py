r"""A web service that makes clips: one client for the whole app, one await per request.

::

    export WIRO_API_KEY=... WIRO_API_SECRET=...  # and WIRO_BASE_URL, if it is a sandbox's
    pip install fastapi uvicorn && uvicorn --app-dir examples fastapi_app:app

    curl localhost:8000/clips -H 'Content-Type: application/json' \
         -d '{"image": "https://example.org/photo.jpg", "prompt": "[Zoom in] waves roll in"}'
    curl localhost:8000/clips/2221/events
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, HttpUrl

import wiro_async

# Shorter than the time-outs of the proxies in front of the app.
PATIENCE = 300.0


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, wiro_async.Client]]:
    """Own one client from the app's start to its end; it is closed after the last request."""
    async with wiro_async.Client() as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


def get_client(request: Request) -> wiro_async.Client:
    """Return the app's client."""
    client: wiro_async.Client = request.state.client
    return client


Client = Annotated[wiro_async.Client, Depends(get_client)]


class ClipRequest(BaseModel):
    """What the caller wants.

    The image must be a URL: a plain str could name a file of this server, which would then be uploaded.
    """

    image: HttpUrl
    prompt: str


class Clip(BaseModel):
    """What the caller gets."""

    task_id: str
    urls: list[str]
    cost_usd: str | None


class Started(BaseModel):
    """A clip that is being made."""

    task_id: str | None
    events: str


@app.post("/clips")
async def make_clip(wanted: ClipRequest, client: Client) -> Clip:
    """Make a clip and wait for it. A caller who hangs up leaves the task alone."""
    job = wiro_async.Director(image=str(wanted.image), prompt=wanted.prompt)
    try:
        result = await client.run(job, timeout=PATIENCE)
    except wiro_async.TaskTimeout as late:
        # The task goes on: the caller can follow it under /clips/{task_id}/events.
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, {"task_id": late.task_id}) from late
    except wiro_async.TaskFailed as failure:
        raise HTTPException(status.HTTP_502_BAD_GATEWAY, failure.reason) from failure
    except wiro_async.WiroError as error:
        raise refusal(error) from error
    return Clip(
        task_id=result.task.id,
        urls=[output.url for output in result.outputs],
        cost_usd=None if result.cost is None else str(result.cost),
    )


@app.post("/clips/start", status_code=status.HTTP_202_ACCEPTED)
async def start_clip(wanted: ClipRequest, client: Client) -> Started:
    """Begin to make a clip, and say where it can be followed."""
    job = wiro_async.Director(image=str(wanted.image), prompt=wanted.prompt)
    try:
        # No waiting here for another task to end: the caller of a full account shall come back later.
        task = await client.submit(job, slot_timeout=0)
    except wiro_async.WiroError as error:
        raise refusal(error) from error
    return Started(task_id=task.id, events=f"/clips/{task.id}/events")


@app.get("/clips/{task_id}/events")
async def follow_clip(task_id: str, client: Client) -> StreamingResponse:
    """Stream a task's statuses as server-sent events. Check first whether this caller may see this task!"""
    task = client.attach(task_id)
    try:
        await task.refresh()  # an unknown task is a 404; once the stream has begun it is too late for that
    except wiro_async.WiroError as error:
        raise refusal(error) from error
    return StreamingResponse(
        events(task), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def events(task: wiro_async.TaskHandle) -> AsyncIterator[str]:
    """Give every status once, those of the past too, then how the task ended."""
    try:
        async for transition in task:
            yield event("status", {"status": transition.status, "at": transition.at.isoformat()})
        final = await task.wait()
    except wiro_async.WiroError as error:
        yield event("error", {"detail": error.message})
    else:
        yield event("end", {"outcome": final.outcome, "urls": [output.url for output in final.outputs]})


def event(name: str, data: dict[str, object]) -> str:
    """Write one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def refusal(error: wiro_async.WiroError) -> HTTPException:
    """Turn the library's error into a reply. Its message never holds a key or a token."""
    codes: dict[type[wiro_async.WiroError], int] = {
        wiro_async.InvalidInput: status.HTTP_400_BAD_REQUEST,
        wiro_async.TaskNotFound: status.HTTP_404_NOT_FOUND,
        wiro_async.ConcurrencyLimited: status.HTTP_503_SERVICE_UNAVAILABLE,
    }
    code = next(
        (code for kind, code in codes.items() if isinstance(error, kind)), status.HTTP_502_BAD_GATEWAY
    )
    return HTTPException(code, error.message)
