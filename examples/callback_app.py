r"""A web service that is told when its videos are done: the service calls back, and nobody keeps asking.

::

    export WIRO_API_KEY=... WIRO_API_SECRET=...  # and WIRO_BASE_URL, if it is a sandbox's
    export PUBLIC_URL=https://example.org        # where the service reaches this app, if it is no sandbox
    export CALLBACK_KEYS=$(openssl rand -hex 32) # the same for all processes; to change it: "new old"
    pip install fastapi uvicorn && uvicorn --app-dir examples --no-access-log callback_app:app

    curl localhost:8000/videos -H 'Content-Type: application/json' \
         -d '{"image": "https://example.org/photo.jpg", "prompt": "[Zoom in] waves roll in"}'

A callback that reaches another worker process than the one that waits does no harm, and neither does one that
never comes: the end is then found by looking now and then (``Polling.safety_interval``).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, status
from pydantic import BaseModel, HttpUrl

import wiro_async

# Shorter than the time-outs of the proxies in front of the app.
PATIENCE = 300.0

receiver = wiro_async.CallbackReceiver(
    os.environ.get("PUBLIC_URL", "http://127.0.0.1:8000") + "/wiro",
    keys=os.environ.get("CALLBACK_KEYS", "").split(),
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, wiro_async.Client]]:
    """Own one client from the app's start to its end; it is closed after the last request."""
    async with wiro_async.Client() as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)
# Access logs would show the addresses of the callbacks: hence --no-access-log.
app.mount("/wiro", receiver)


def get_client(request: Request) -> wiro_async.Client:
    """Return the app's client."""
    client: wiro_async.Client = request.state.client
    return client


class VideoRequest(BaseModel):
    """What the caller wants. The image must be a URL: a plain str could name a file of this server."""

    image: HttpUrl
    prompt: str


class Video(BaseModel):
    """What the caller gets."""

    task_id: str
    urls: list[str]


@app.post("/videos")
async def make_video(
    wanted: VideoRequest, client: Annotated[wiro_async.Client, Depends(get_client)]
) -> Video:
    """Start a job, and wait until its callback brings the look that sees its end."""
    job = wiro_async.Director(image=str(wanted.image), prompt=wanted.prompt)
    try:
        task = await client.submit(job, callback_url=receiver.url_for(), watch="callback")
        result = await task.result(timeout=PATIENCE)
    except wiro_async.TaskTimeout as late:
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, {"task_id": late.task_id}) from late
    except wiro_async.WiroError as error:
        # Its message never holds a key or a token.
        raise HTTPException(status.HTTP_502_BAD_GATEWAY, error.message) from error
    return Video(task_id=result.task.id, urls=[output.url for output in result.outputs])
