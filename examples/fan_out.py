"""Many images become many videos at the same time, and one that fails does not disturb the others.

::

    export WIRO_API_KEY=... WIRO_API_SECRET=...  # and WIRO_BASE_URL, if it is a sandbox's
    python examples/fan_out.py clips photo-1.jpg photo-2.jpg photo-3.jpg
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import wiro_async

PROMPT = "[Push in] the scene comes to life"

# How many tasks may run at a time depends on the account's balance: one for every 10 USD, up to 250 USD.
AT_A_TIME = 5


async def make_clip(client: wiro_async.Client, image: Path, folder: Path) -> str:
    """Make one clip and tell how it went."""
    try:
        result = await client.run(wiro_async.Director(image=image, prompt=PROMPT), timeout=900)
        path = await result.outputs[0].save(folder / f"{image.stem}.mp4")
    except wiro_async.TaskTimeout as late:
        # It may still succeed, and be billed: note its id, and take it up again with client.attach().
        return f"{image}: task {late.task_id} goes on"
    except wiro_async.SubmissionUnknown as unknown:
        # Paid or not, nobody knows. Look for it with client.list_tasks() before you submit it again.
        return f"{image}: {unknown}"
    except wiro_async.WiroError as error:
        # Everything else: refused, failed, cancelled, not reached, not saved.
        return f"{image}: {error}"
    return f"{image}: {path}, for {result.cost} USD"


async def main(folder: Path, images: list[Path]) -> list[str]:
    """Make clips of all *images* and return a line for each, in their order."""
    free = asyncio.Semaphore(AT_A_TIME)

    async def one(image: Path) -> str:
        async with free:
            line = await make_clip(client, image, folder)
            print(line)
            return line

    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    # One client for all jobs: it shares its connections, and paces all the polls together.
    async with wiro_async.Client() as client, asyncio.TaskGroup() as group:
        jobs = [group.create_task(one(image)) for image in images]
    return [job.result() for job in jobs]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python examples/fan_out.py FOLDER IMAGE...")
    asyncio.run(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
