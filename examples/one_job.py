"""One image becomes one video: submit, watch, save.

::

    export WIRO_API_KEY=... WIRO_API_SECRET=...  # and WIRO_BASE_URL, if it is a sandbox's
    python examples/one_job.py photo.jpg "[Zoom in] waves roll in" clips

A run costs money on the real service. ``wiro sandbox`` serves a free one on this machine.
"""

from __future__ import annotations

import asyncio
import sys

import wiro_async


async def main(image: str, prompt: str, folder: str) -> None:
    """Make one clip of *image* and save it in *folder*."""
    # The keys are read from the environment. The client closes its connections at the end of the block.
    async with wiro_async.Client() as client:
        # Typed inputs know their model. A path is uploaded; a URL would be passed on as it is.
        task = await client.submit(wiro_async.Director(image=image, prompt=prompt))
        print(f"task {task.id}")  # keep this: client.attach(task_id) takes the task up again, anywhere

        # Every status once, in order. Without the loop, `await task` alone would do.
        async for transition in task:
            print(f"{transition.at:%H:%M:%S}  {transition.status}")

        try:
            result = await task
        except wiro_async.TaskFailed as failure:
            # The model's own words. Whether it was billed, failure.task.cost says.
            sys.exit(f"no clip: {failure.reason}")

        # A folder's name ends in "/"; the file in it will be {task_id}_{name}. Outputs expire: save them.
        path = await result.outputs[0].save(f"{folder}/")
        print(f"{path}, for {result.cost} USD")  # None: the charge is recorded later; task.refresh() reads it


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/one_job.py IMAGE PROMPT FOLDER")
    asyncio.run(main(*sys.argv[1:4]))
