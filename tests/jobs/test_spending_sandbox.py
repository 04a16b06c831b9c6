"""A client's limit over real sockets: a batch of five models together with single calls."""

from __future__ import annotations

import gc
import random
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.sandboxes import LIMITS, POLLING
from tests.servers import until
from wiro_async import BudgetExceeded, Client, Job, TaskFailed
from wiro_async.sandbox import Sandbox

PRICES = {
    "MiniMax/text-to-video-hailuo-01": 0.05,
    "MiniMax/text-to-video-hailuo-01-director": 0.10,
    "MiniMax/text-to-video-hailuo-02": 0.35,
    "MiniMax/image-to-video-01-director": 0.28,
    "MiniMax/hailuo-2.3": 0.60,
}
"""What runs of five models are charged."""

LISTED = PRICES | {"MiniMax/hailuo-2.3": 0.50, "MiniMax/text-to-video-hailuo-02": 0.25}
"""What the catalogue says: of two models up to 0.10 too little."""

ENDED = "task_postprocess_end"

AT_A_TIME = 5
"""How many tasks the account allows at a time."""


def inputs(slug: str, prompt: str) -> dict[str, Any]:
    image = {"inputImageFirstUrl": "https://host/a.jpg"} if "image" in slug else {}
    return {"prompt": prompt, **image}


@pytest.mark.parametrize(
    ("listed", "late", "excess"),
    [(LISTED, 0.0, AT_A_TIME * Decimal("0.10")), (PRICES, 400.0, Decimal(0))],
    ids=["at once", "late"],
)
async def test_a_limit_holds_for_a_batch_and_single_calls(
    listed: dict[str, float], late: float, excess: Decimal, tmp_path: Path
) -> None:
    """It is passed by no more than what the runs in flight cost beyond their estimates; the books agree."""
    chance, limit = random.Random(17), Decimal(4)
    given = [
        Job(slug, inputs(slug, f"job {number} {'[sandbox:fail no face]' if number % 7 == 3 else ''}"))
        for number, slug in enumerate(chance.choices(list(PRICES), k=25))
    ]
    calls = [(chance.choice(list(PRICES)), chance.uniform(0, 1.5), chance.random() < 0.3) for _ in range(10)]

    async def call(own: Client, slug: str, after: float, leaves: bool) -> None:
        await anyio.sleep(after)
        with suppress(BudgetExceeded, TaskFailed):
            task = await own.submit(slug, inputs(slug, "alone"))
            if not leaves:
                await task

    async with (
        Sandbox(
            render=False, speed=200.0, balance=10 * AT_A_TIME, seed=7, price=PRICES, listed_price=listed,
            concurrency_limit=AT_A_TIME, charge_delay=late,
        ) as sandbox,
        Client(
            sandbox.config.api_key, sandbox.config.api_secret, base_url=sandbox.base_url, watch="poll",
            polling=POLLING, limits=LIMITS, max_cost=limit, budget="2026-12",
        ) as own,
    ):  # fmt: skip
        async with anyio.create_task_group() as group:
            for each in calls:
                group.start_soon(call, own, *each)
            async with own.batch(given, journal=tmp_path / "a.db") as batch:
                report = await batch.wait()
        await until(lambda: all(task["status"] == ENDED for task in sandbox.ledger()["tasks"]))
        gc.collect()
        books = sandbox.ledger()
        at_the_end = own.spending()
        [task async for task in own.list_tasks()]
        settled = own.spending()
    charged = Decimal(books["charged"])
    assert limit / 2 < charged <= limit + excess
    assert report.stopped is not None
    assert report.stopped.reason == "budget"
    assert report.progress.not_started > 0
    assert at_the_end.reserved == 0
    if late:
        assert at_the_end.estimated > 0
    else:
        assert settled.charged == charged
        assert settled.estimated == 0
