"""What the benchmarks stand on: a real Mosquitto, the service and other programs, each its own process."""

import json
import os
import re
import secrets
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from benchmarks.report import MB
from tests.support.mosquitto import MosquittoServer

ROOT = Path(__file__).parent.parent
SLUICE = [sys.executable, "-m", "sluice"]
STREAM = "bench"

# glibc's malloc gives large buffers back to the kernel and fetches them again, which swings figures by a
# factor of three; all processes that are compared run with these.
STEADY_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


class Program:
    """`python -m benchmarks.NAME SPEC`: a line of JSON when it is ready, and one for each line it is told.

    `ready` is what the first line said. RuntimeError when it ends instead.
    """

    def __init__(self, name: str, **spec: object) -> None:
        self._name = name
        self._spec = json.dumps(spec)

    def __enter__(self) -> "Program":
        command = [sys.executable, "-m", f"benchmarks.{self._name}", self._spec]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            self.ready = self._answer(120)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, line: str, timeout: float = 30) -> dict[str, Any]:
        """Tells it a line and returns its answer, waited for up to `timeout` seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer(timeout)

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise RuntimeError(f"benchmarks.{self._name} said nothing for {timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"benchmarks.{self._name} ended, with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Service:
    """A running `sluice serve`."""

    def __init__(self, process: "subprocess.Popen[str]", http: str, log: Path) -> None:
        self.pid = process.pid
        self.http = http
        self.log = log

    def metric(self, name: str) -> float:
        """The sum of one of its metrics over all labels."""
        with urlopen(f"{self.http}/metrics", timeout=30) as answer:
            lines = answer.read().decode()
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", lines, re.MULTILINE)))


class Workshop:
    """A folder with the service's state, one published file, and everything that runs for a benchmark."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.size = size
        self.source = folder / "firmware.bin"
        with self.source.open("wb") as file:
            for start in range(0, size, MB):
                file.write(secrets.token_bytes(min(MB, size - start)))
        self._published = size == 0

    @contextmanager
    def broker(self, extra_config: str = "", *, nodelay: bool = True) -> Iterator[MosquittoServer]:
        """A fresh Mosquitto: its defaults but for `set_tcp_nodelay` and what is said here."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            broker = MosquittoServer(Path(name), extra_config, nodelay=nodelay)
            try:
                yield broker
            finally:
                # Not asked to stop: with a thousand clients it would take its time.
                broker.kill()
                broker.close()

    @contextmanager
    def service(self, url: str, *flags: str, **settings: object) -> Iterator[Service]:
        """`sluice serve` on that broker, with the file published; `settings` go by SLUICE_… variables."""
        command = [*SLUICE, "serve", "--http", "127.0.0.1:0", "--broker", url, "--state", str(self.state)]
        variables = {f"SLUICE_{name.upper()}": str(value) for name, value in settings.items()}
        log = self.folder / "service.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, *flags],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **variables},
            )
        try:
            assert process.stdout is not None
            http = process.stdout.readline().partition("http=")[2].partition(" ")[0]
            if not http:
                raise RuntimeError("the service did not start")
            service = Service(process, http, log)
            self._publish(service)
            yield service
        except BaseException:
            print("".join(log.read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait()

    def _publish(self, service: Service) -> None:
        if self._published:
            return
        command = [*SLUICE, "publish", str(self.source), "--stream", STREAM, "--http", service.http]
        subprocess.run([*command, "--state", str(self.state)], check=True, capture_output=True)
        self._published = True


@contextmanager
def workshop(size: int) -> Iterator[Workshop]:
    """A Workshop with a file of `size` random bytes; leaves nothing behind."""
    os.environ.update(STEADY_MALLOC)
    with tempfile.TemporaryDirectory() as name:
        yield Workshop(Path(name), size)


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    return sum(sum(member.cpu_times()[:2]) for member in family(pid))


class MemoryWatch:
    """Samples the memory of a process and its descendants (proportional set sizes, bytes) until its end."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        """Of all together."""
        self.largest = 0
        """Of any one of them."""
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            sizes = [member.memory_full_info().pss for member in family(self._pid)]
            self.peak = max(self.peak, sum(sizes))
            self.largest = max(self.largest, *sizes)
