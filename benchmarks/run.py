"""Measure everything, and write ``results/latest.json`` and ``results/latest.md`` beside this file.

Run: ``python -m benchmarks.run`` (under 10 minutes), ``--quick`` (under 90 s), ``--thorough`` (two hours,
with times nearer to real ones), ``--only jobs``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.contender import LOOK_SECONDS
from benchmarks.harness import Server, certificate, environment, raise_file_limit
from benchmarks.results import document, markdown
from benchmarks.sections import EARLIER, SECTIONS, BatchPlan, Bench, Fan
from benchmarks.targets import AIOHTTP, POLL, SOCKETS

BUSY = 0.5
"""The load average above which the machine is not ours alone."""

RESULTS = Path(__file__).parent / "results"

FULL = BatchPlan(
    mode="full",
    rounds=5,
    waiting=(1, 10, 100, 1000, 5000),
    tls_waiting=(1, 100),
    call_seconds=0.15,
    run_seconds=20.0,
    jobs={100: Fan(40.0), 1000: Fan(10.0), 5000: Fan(3.0, 1, (POLL, SOCKETS, AIOHTTP))},
    job_seconds=4.0,
    growth={100: 5, 1000: 5, 10_000: 1, 50_000: 1},
    rows=100_000,
    download=64,
)
QUICK = BatchPlan(
    mode="quick",
    rounds=3,
    waiting=(100,),
    tls_waiting=(),
    call_seconds=0.2,
    run_seconds=20.0,
    jobs={100: Fan(40.0)},
    job_seconds=1.0,
    growth={100: 1, 1000: 1},
    rows=10_000,
    download=32,
)
THOROUGH = BatchPlan(
    mode="thorough",
    rounds=5,
    waiting=(1, 10, 100, 1000, 5000),
    tls_waiting=(1, 10, 100),
    call_seconds=5.0,
    run_seconds=60.0,
    jobs={100: Fan(20.0), 1000: Fan(8.0), 5000: Fan(2.0)},
    job_seconds=120.0,
    growth={100: 5, 1000: 5, 10_000: 5, 50_000: 5},
    rows=100_000,
    download=256,
)


def main() -> None:
    """Measure, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", dest="plan", action="store_const", const=QUICK, help="under 90 s")
    modes.add_argument("--thorough", dest="plan", action="store_const", const=THOROUGH, help="for hours")
    parser.add_argument("--only", metavar="NAME", action="append", choices=sorted(SECTIONS), help="a section")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder to write to")
    parser.set_defaults(plan=FULL)
    options = parser.parse_args()
    data = measure(options.plan, options.only or list(SECTIONS))
    options.output.mkdir(parents=True, exist_ok=True)
    text = markdown(data)
    (options.output / "latest.json").write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    (options.output / "latest.md").write_text(text, "utf-8")
    print(text)


def measure(plan: BatchPlan, names: list[str]) -> dict[str, Any]:
    """Measure the sections of these names, and return the document."""
    begin = time.monotonic()
    facts = environment()
    files = raise_file_limit()
    with certificate() as pem, Server(pem) as server:
        bench = Bench(plan, server, say=lambda text: print(text, file=sys.stderr, flush=True))
        if facts["load before"] > BUSY:
            bench.notice(
                f"the machine was busy before (load {facts['load before']}): figures of time say little"
            )
        if files < 2 * max(plan.jobs):
            bench.notice(
                f"only {files} open files are allowed: a socket for each of many tasks will not work"
            )
        for name in names:
            SECTIONS[name](bench)
            bench.say(f"{name}: done after {time.monotonic() - begin:.0f} s")
        settings = {**_settings(plan), "took": f"{time.monotonic() - begin:.0f} s"}
        return document(plan.mode, facts, settings, bench.notices, bench.figures.rows())


def _settings(plan: BatchPlan) -> dict[str, Any]:
    factors = ", ".join(f"{fan.factor:g} at {count} jobs" for count, fan in plan.jobs.items())
    return {
        "jobs": f"in the queue for {plan.run_seconds / 10:g} s in the mean (exponential), then running for "
        f"{plan.run_seconds:g} s in the median (log-normal, sigma 0.25)",
        "time compressed by": f"{factors}: every sleep and stamp, but no CPU, so that makespans hold more "
        "of it than in real time; the full mode measures 5 000 jobs once, and not all contenders",
        "in flight at most": "100, where a contender has a limit of its own choosing",
        "wiro_async": "its defaults, without the budget of looks that the others have none of, and with at "
        f"most {LOOK_SECONDS:g} s between two looks, as the scripts; it has seen {EARLIER} such jobs before",
    }


if __name__ == "__main__":
    main()
