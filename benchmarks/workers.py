"""Two workers beside one: a sink takes the broker's place, so that the service alone is measured; in JSON."""

import os
import statistics
import subprocess
import time
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.report import Goal, Row
from benchmarks.rig import SLUICE, STREAM, Program, Workshop, cpu_seconds, workshop
from chunker.topics import JSON

SIZE = 16 * 1024 * 1024
BLOCK_SIZE = 4096
THINGS = 256
GOAL, CORES = 1.7, 4
"""Times the rate of one worker; with so many cores. On fewer it is only reported."""


def run(quick: bool) -> list[Row]:
    """One row; medians of alternating pairs."""
    pairs, seconds = (1, 0.7) if quick else (3, 2.0)
    what = "two workers beside one, into a sink, in JSON at 4 KiB"
    usage = subprocess.run([*SLUICE, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    if "--workers" not in usage:
        return [Row(what, None, "", note="this sluice serve has no --workers")]
    with workshop(SIZE) as shop:
        with shop.broker() as broker, shop.service(broker.url):
            pass  # the file is published
        found = [[_figure(shop, workers, seconds) for workers in (1, 2, 0)] for _ in range(pairs)]
    one, two, bare = (statistics.median(rate for rate, _ in side) for side in zip(*found, strict=True))
    cost = statistics.median(cost for _, (_, cost), _ in found)
    ratio = statistics.median(second / first for (first, _), (second, _), _ in found)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    goal = Goal(">=", GOAL, "× one worker")
    return [
        Row(
            what,
            two,
            "blocks/s",
            bare,
            goal if cores >= CORES else None,
            ratio,
            f"{ratio:.3g} × one worker's {one:,.0f} blocks/s, {cost:.3g} µs of CPU a block"
            + ("" if cores >= CORES else f"; the goal is {GOAL} on {CORES} cores, here are {cores}"),
        )
    ]


def _figure(shop: Workshop, workers: int, seconds: float) -> tuple[float, float]:
    """Blocks a second and µs of CPU a block with so many workers; 0: with the bare responder."""
    spec = {"size": SIZE, "stream": STREAM, "block_size": BLOCK_SIZE, "encoding": JSON, "things": THINGS}
    with Program("sink", **spec) as sink:
        responder: AbstractContextManager[Any] = (
            shop.service(f"mqtt://127.0.0.1:{sink.ready['port']}", "--workers", str(workers))
            if workers
            else Program("bare", host="127.0.0.1", port=sink.ready["port"], size=SIZE)
        )
        with responder as answering:
            sink.ask("go")
            deadline = time.monotonic() + 30
            while sink.ask("count")["unclaimed"]:
                if time.monotonic() > deadline:
                    raise AssertionError("the service does not answer every thing")
                time.sleep(0.05)
            time.sleep(seconds / 2)
            began, cpu = sink.ask("count"), cpu_seconds(answering.pid)
            time.sleep(seconds)
            ended, cpu_then = sink.ask("count"), cpu_seconds(answering.pid)
            # Or the service would not be done with what it has in hand before its time for that is over.
            sink.ask("stop")
    blocks = sum(ended["blocks"]) - sum(began["blocks"])
    if len(ended["blocks"]) != max(workers, 1) or not all(
        then > before for then, before in zip(ended["blocks"], began["blocks"], strict=True)
    ):
        raise AssertionError(f"of {workers} workers not all did something: {ended['blocks']}")
    return blocks / (ended["at"] - began["at"]), (cpu_then - cpu) / blocks * 1e6
