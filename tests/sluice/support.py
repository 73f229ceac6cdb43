"""The command as a user has it: a process of its own, in a folder of its own, without anybody's settings."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
SECONDS = 90
COMMAND = [sys.executable, "-m", "sluice"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The test's environment without settings of Sluice, with this source tree."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    environ.pop("XDG_DATA_HOME", None)
    return {**environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **(extra or {})}


def sluice(
    arguments: Sequence[str | Path], folder: Path, extra: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs `sluice` with `arguments` in `folder` to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment({"HOME": str(folder), **(extra or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


class Service:
    """A `sluice serve` that is ready, for the time of a `with`. What it says is in `log_path`."""

    def __init__(self, folder: Path, *flags: str | Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.log_path = folder / "serve.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--http", "127.0.0.1:0", "--state", str(self.state), *map(str, flags)],
                cwd=folder,
                env=environment({"HOME": str(folder)}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        match = re.fullmatch(r"sluice ready http=http://(\S+) mqtt=(mqtts?://\S+)\n", self.first_line)
        if match is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"not ready: {self.first_line!r}\n{self.log_path.read_text()}")
        self.http, self.mqtt = match[1], match[2]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def __enter__(self) -> "Service":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
