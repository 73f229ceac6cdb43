"""One device of ours (`device_client`), first request to last byte, with the service and with the bare one.

As a program (`benchmarks.rig.Program`), with `broker`, `block_size`: downloads once for each line it is told.
"""

import json
import statistics
import sys
import time
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.report import MB, Goal, Row
from benchmarks.rig import STREAM, Program, workshop
from device_client.client import download
from device_client.sinks import MemorySink

BLOCK_SIZE = 65536
GOAL = 400


def run(quick: bool) -> list[Row]:
    """MB/s; medians of alternating pairs."""
    size, pairs = (20 * MB, 1) if quick else (100 * MB, 3)
    rates: dict[bool, list[float]] = {False: [], True: []}
    with workshop(size) as shop:
        for bare in [False, True] * pairs:
            with shop.broker() as broker:
                responder: AbstractContextManager[Any] = (
                    Program("bare", host=broker.host, port=broker.port, size=size)
                    if bare
                    else shop.service(broker.url)
                )
                with responder, Program("device", broker=broker.url, block_size=BLOCK_SIZE) as device:
                    # The first time everything is cold: the cache, the code, the buffers of the kernel.
                    device.ask("download", 120)
                    rates[bare].append(size / device.ask("download", 120)["seconds"] / MB)
    ours, bare_rate = (statistics.median(rates[bare]) for bare in (False, True))
    what = f"one CPython device, {size // MB} MB at {BLOCK_SIZE // 1024} KiB"
    return [Row(what, ours, "MB/s", bare_rate, Goal(">=", GOAL, "MB/s"))]


class TimedSink(MemorySink):
    """Knows when the first request went out, and when the last byte was in, hashed and all."""

    def start(self, size: int) -> None:
        """Called when the file is described; the first GetStream follows at once."""
        super().start(size)
        self.began = time.perf_counter()

    def finish(self) -> None:
        self.ended = time.perf_counter()


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    print("{}", flush=True)
    for _ in sys.stdin:
        sink = TimedSink()
        download(spec["broker"], thing="mast", stream=STREAM, out=sink, block_size=spec["block_size"])
        print(json.dumps({"seconds": sink.ended - sink.began}), flush=True)
