"""The whole `sluice get` of 100 MB, wall clock with its start, beside a bare device at the same service."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rig import MB, SLUICE, STREAM, Rig, running

SIZE = 100 * MB
PAIRS = 5
GOALS = {65536: 150, 4096: 40}
"""MB/s at a block size."""


def run() -> list[dict[str, object]]:
    """One row for each block size and kind of broker; medians of alternating pairs."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for nodelay in (True, False):
            with running(Path(name) / f"nodelay-{nodelay}", SIZE, nodelay=nodelay) as rig:
                for block_size, goal in GOALS.items():
                    pairs = [(_get(rig, block_size), _drain(rig, block_size)) for _ in range(PAIRS)]
                    whole, bare = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
                    rows.append(
                        {
                            "Mosquitto": "set_tcp_nodelay true" if nodelay else "defaults",
                            "block size": block_size,
                            "sluice get MB/s": round(SIZE / whole / MB),
                            "goal": goal,
                            "bare device MB/s": round(SIZE / bare / MB),
                            "ratio": round(bare / whole, 2),
                        }
                    )
    return rows


def _get(rig: Rig, block_size: int) -> float:
    out = rig.folder / "received"
    begin = time.perf_counter()
    subprocess.run(
        [*SLUICE, "get", "--thing", "bench", "--stream", STREAM, "--out", str(out)]
        + ["--broker", rig.broker.url, "--block-size", str(block_size)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - begin
    if out.read_bytes() != rig.source.read_bytes():
        raise AssertionError("the file that arrived is not the one that was published")
    out.unlink()
    return seconds


def _drain(rig: Rig, block_size: int) -> float:
    command = [sys.executable, "-m", "benchmarks.drain", rig.broker.host, str(rig.broker.port), "bare"]
    numbers = [str(number) for number in (SIZE, block_size, 8)]
    done = subprocess.run([*command, STREAM, *numbers], check=True, capture_output=True, text=True)
    return float(done.stdout)
