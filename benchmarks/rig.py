"""What the benchmarks stand on: a real Mosquitto, the service as a process of its own, a published file."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.mosquitto import MosquittoServer

SLUICE = [sys.executable, "-m", "sluice"]
STREAM = "bench"
MB = 1_000_000

# glibc's malloc gives large buffers back to the kernel and fetches them again, which swings figures by a
# factor of three; all processes that are compared run with these.
STEADY_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


@dataclass(frozen=True)
class Rig:
    """A running service and its broker, with the file `source` as file 0 of STREAM."""

    broker: MosquittoServer
    service: "subprocess.Popen[str]"
    folder: Path
    source: Path


@contextmanager
def running(folder: Path, size: int, *, nodelay: bool = True, flags: tuple[str, ...] = ()) -> Iterator[Rig]:
    """Broker and service, with a file of `size` random bytes published. All it writes is in `folder`."""
    os.environ.update(STEADY_MALLOC)
    folder.mkdir()
    source = folder / "firmware.bin"
    with source.open("wb") as file:
        for start in range(0, size, MB):
            file.write(secrets.token_bytes(min(MB, size - start)))
    broker = MosquittoServer(folder, nodelay=nodelay)
    state = ["--state", str(folder / "state")]
    try:
        with (folder / "service.log").open("wb") as log:
            service = subprocess.Popen(
                [*SLUICE, "serve", "--http", "127.0.0.1:0", "--broker", broker.url, *state, *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            assert service.stdout is not None
            ready = service.stdout.readline()
            http = ready.partition("http=")[2].partition(" ")[0]
            command = [*SLUICE, "publish", str(source), "--stream", STREAM, "--http", http, *state]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            yield Rig(broker, service, folder, source)
        finally:
            service.terminate()
            service.wait()
    finally:
        broker.close()
