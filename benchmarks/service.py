"""What the service costs: memory while it serves 1 GB with the default cache, CPU while nobody asks."""

import time

from benchmarks.report import MB, Goal, Row
from benchmarks.rig import STREAM, MemoryWatch, Program, cpu_seconds, workshop

MEMORY_GOAL, IDLE_GOAL = 150, 0.1


def run(quick: bool) -> list[Row]:
    """Two rows: all the service's processes together."""
    size, idle_seconds = (50 * MB, 3.0) if quick else (1000 * MB, 15.0)
    with workshop(size) as shop, shop.broker() as broker, shop.service(broker.url) as service:
        spec = {"host": broker.host, "port": broker.port, "stream": STREAM, "size": size, "plan": "once"}
        with MemoryWatch(service.pid) as memory:
            for block_size in (65536, 16384):
                with Program("fleet", **spec, devices=1, block_size=block_size, in_flight=8) as device:
                    device.ask("go")
                    failed = device.ask("wait", 120)["failed"]
                    if failed:
                        raise AssertionError(f"the device failed: {failed}")
        time.sleep(2)
        before = cpu_seconds(service.pid)
        time.sleep(idle_seconds)
        idle = (cpu_seconds(service.pid) - before) * 60 / idle_seconds
    what = f"memory while serving {size // MB} MB"
    return [
        Row(what, memory.peak / MB, "MB", goal=Goal("<=", MEMORY_GOAL, "MB")),
        Row("CPU while idle", idle, "s a minute", goal=Goal("<=", IDLE_GOAL, "s a minute")),
    ]
