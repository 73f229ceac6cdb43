"""1,000 devices download the same file at once: every byte right, nobody late, the store read once."""

import statistics
from typing import Any

from benchmarks.report import MB, Goal, Row
from benchmarks.rig import STREAM, MemoryWatch, Program, Workshop, workshop

DEVICES = 1000
SIZE = 1 << 20
BLOCK_SIZE = 4096
LATE, READ, MEMORY = 1.5, 1.01, 200


def run(quick: bool) -> list[Row]:
    """Four rows of one run, and the bare responder's run for how it would be without a service."""
    devices = 100 if quick else DEVICES
    with workshop(SIZE) as shop:
        with shop.broker() as broker, shop.service(broker.url) as service, MemoryWatch(service.pid) as memory:
            before = service.metric("sluice_store_read_bytes_total")
            report = _download(shop, broker.host, broker.port, devices, check=True)
            read = service.metric("sluice_store_read_bytes_total") - before
        with shop.broker() as broker, Program("bare", host=broker.host, port=broker.port, size=SIZE):
            bare = _download(shop, broker.host, broker.port, devices, check=False)
    done, bare_done = sorted(report["done"]), sorted(bare["done"])
    what = f"{devices} devices, one file of 1 MiB at 4 KiB: "
    blocks = devices * SIZE // BLOCK_SIZE
    failed = report["failed"]
    return [
        Row(
            what + "exact",
            len(done),
            "devices",
            goal=Goal(">=", devices, "devices"),
            note="; ".join(failed[:3]),
        ),
        Row(
            what + "the last done",
            max(done, default=0),
            "s",
            bare_done[-1],
            Goal("<=", LATE, "× the median"),
            max(done, default=0) / statistics.median(done or [1]),
            f"bare: {bare_done[-1] / statistics.median(bare_done):.3g} × its median; "
            f"{blocks / max(done, default=1):,.0f} blocks/s, bare {blocks / bare_done[-1]:,.0f}",
        ),
        Row(what + "read from the store", read / SIZE, "× the file", goal=Goal("<=", READ, "× the file")),
        Row(what + "a worker's memory", memory.largest / MB, "MB", goal=Goal("<=", MEMORY, "MB")),
    ]


def _download(shop: Workshop, host: str, port: int, devices: int, *, check: bool) -> dict[str, Any]:
    spec = {"stream": STREAM, "size": SIZE, "block_size": BLOCK_SIZE, "plan": "once", "devices": devices}
    source = str(shop.source) if check else None
    with Program("fleet", host=host, port=port, source=source, **spec) as fleet:
        fleet.ask("go")
        return fleet.ask("wait", 120)
