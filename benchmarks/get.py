"""The whole `sluice get` of 100 MB, wall clock with its start, beside a bare device at the same service."""

import statistics
import subprocess
import time

from benchmarks.report import MB, Goal, Row
from benchmarks.rig import SLUICE, STREAM, Program, Workshop, workshop
from tests.support.mosquitto import MosquittoServer

GOALS = {65536: 150, 4096: 40}
"""MB/s at a block size."""


def run(quick: bool) -> list[Row]:
    """One row for each block size and kind of broker; medians of alternating pairs."""
    rows = []
    size, count = (10 * MB, 1) if quick else (100 * MB, 3)
    with workshop(size) as shop:
        for nodelay in (True, False):
            for block_size, goal in GOALS.items():
                with shop.broker(nodelay=nodelay) as broker, shop.service(broker.url):
                    pairs = [
                        (_get(shop, broker, block_size), _bare(shop, broker, block_size))
                        for _ in range(count)
                    ]
                whole, bare = (size / statistics.median(side) / MB for side in zip(*pairs, strict=True))
                kind = "set_tcp_nodelay true" if nodelay else "defaults"
                what = f"sluice get of {size // MB} MB at {block_size // 1024} KiB, Mosquitto: {kind}"
                rows.append(
                    Row(what, whole, "MB/s", bare, Goal(">=", goal, "MB/s"), note="bare: a bare device")
                )
    return rows


def _get(shop: Workshop, broker: MosquittoServer, block_size: int) -> float:
    out = shop.folder / "received"
    begin = time.perf_counter()
    subprocess.run(
        [*SLUICE, "get", "--thing", "bench", "--stream", STREAM, "--out", str(out)]
        + ["--broker", broker.url, "--block-size", str(block_size)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - begin
    if out.read_bytes() != shop.source.read_bytes():
        raise AssertionError("the file that arrived is not the one that was published")
    out.unlink()
    return seconds


def _bare(shop: Workshop, broker: MosquittoServer, block_size: int) -> float:
    spec = {"stream": STREAM, "size": shop.size, "block_size": block_size, "plan": "once", "in_flight": 8}
    with Program("fleet", host=broker.host, port=broker.port, devices=1, lone=True, **spec) as device:
        device.ask("go")
        report = device.ask("wait", 120)
    if report["failed"]:
        raise AssertionError(f"the bare device failed: {report['failed']}")
    return float(report["done"][0])
