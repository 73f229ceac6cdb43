"""Blocks a second to 64 devices, and what a block costs the service: beside the bare responder."""

import statistics
import time
from dataclasses import asdict, dataclass

from benchmarks.report import Goal, Row
from benchmarks.rig import STREAM, Program, Workshop, cpu_seconds, workshop
from benchmarks.wire import REQUEST_BYTES

DEVICES = 64
SIZE = 16 * 1024 * 1024
"""Fits the cache."""
GOALS = {4096: 0.9, 16384: 0.9, 65536: 0.9, 131072: 0.8}
"""Block size → share of the bare responder's rate."""
COST_GOAL = 6.0
"""µs of CPU for a 4 KiB block, 32 to a request."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one responder did for a few seconds: blocks a second, and µs of CPU a block of each process."""

    blocks: float
    responder: float
    broker: float
    devices: float


def run(quick: bool) -> list[Row]:
    """A row for each block size and one for the cost; medians of alternating pairs."""
    rows, cost = [], []
    with workshop(SIZE) as shop:
        for block_size, goal in GOALS.items():
            pairs = _pairs(shop, block_size, quick)
            ours, bare = (
                statistics.median(figure.blocks for figure in side) for side in zip(*pairs, strict=True)
            )
            ratio = statistics.median(service.blocks / other.blocks for service, other in pairs)
            rows.append(
                Row(
                    f"{DEVICES} devices, blocks of {block_size // 1024} KiB",
                    ours,
                    "blocks/s",
                    bare,
                    Goal(">=", goal, "of bare"),
                    ratio,
                    details={"pairs": [[asdict(service), asdict(other)] for service, other in pairs]},
                )
            )
            if block_size == 4096:
                cost = pairs
    ours, bare = (statistics.median(figure.responder for figure in side) for side in zip(*cost, strict=True))
    count = REQUEST_BYTES // 4096
    what = f"the responder's CPU for a 4 KiB block, {count} a request"
    return [*rows, Row(what, ours, "µs", bare, Goal("<=", COST_GOAL, "µs"))]


def _pairs(shop: Workshop, block_size: int, quick: bool) -> list[tuple[Figure, Figure]]:
    seconds = 0.7 if quick else 2.0
    return [
        (_figure(shop, block_size, seconds, bare=False), _figure(shop, block_size, seconds, bare=True))
        for _ in range(1 if quick else 3)
    ]


def _figure(shop: Workshop, block_size: int, seconds: float, *, bare: bool) -> Figure:
    """Through a fresh broker: the service's or the bare responder's."""
    with shop.broker() as broker:
        spec = {"host": broker.host, "port": broker.port, "size": SIZE}
        responder = Program("bare", **spec) if bare else shop.service(broker.url)
        fleet = Program("fleet", **spec, devices=DEVICES, stream=STREAM, block_size=block_size, plan="loop")
        with responder as answering, fleet:
            fleet.ask("go")
            time.sleep(seconds / 2)
            pids = (answering.pid, broker.process.pid, fleet.pid)
            began, cpu = fleet.ask("count"), [cpu_seconds(pid) for pid in pids]
            time.sleep(seconds)
            ended, cpu_then = fleet.ask("count"), [cpu_seconds(pid) for pid in pids]
    if ended["failed"]:
        raise AssertionError(f"devices failed: {ended['failed']}")
    blocks = ended["blocks"] - began["blocks"]
    costs = [(then - before) / blocks * 1e6 for before, then in zip(cpu, cpu_then, strict=True)]
    return Figure(blocks / (ended["at"] - began["at"]), *costs)
