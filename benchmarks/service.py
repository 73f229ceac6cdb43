"""What the service costs: memory while it serves 1 GB with the default cache, CPU while nobody asks."""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.rig import MB, STREAM, running

SIZE = 1000 * MB
IDLE_SECONDS = 20.0


def run() -> list[dict[str, object]]:
    """Peak of the service's processes (summed proportional set sizes), and CPU seconds a minute."""
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "rig", SIZE) as rig:
        watch = _Watch(rig.service.pid)
        for block_size in (65536, 16384):
            command = [sys.executable, "-m", "benchmarks.drain", rig.broker.host, str(rig.broker.port)]
            arguments = ["bench", STREAM, str(SIZE), str(block_size), "8"]
            subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
        peak = watch.stop()
        time.sleep(2)
        process = psutil.Process(rig.service.pid)
        before = _cpu(process)
        time.sleep(IDLE_SECONDS)
        idle = (_cpu(process) - before) * 60 / IDLE_SECONDS
    return [
        {"what": "memory while serving 1 GB, MB", "figure": round(peak / MB), "goal": "under 150"},
        {"what": "CPU while idle, s a minute", "figure": round(idle, 3), "goal": "under 0.1"},
    ]


def _cpu(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


class _Watch:
    """Samples the memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The highest sum seen, bytes."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            family = [self._process, *self._process.children(recursive=True)]
            self._peak = max(self._peak, sum(member.memory_full_info().pss for member in family))
