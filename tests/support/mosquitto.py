"""A real Mosquitto: the local program, or where there is only a Docker engine, its container."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.required import docker_answers, find_program, lacking
from tests.support.waiting import accepts, free_port, wait_until

IMAGE = "eclipse-mosquitto:2"


class _Local:
    process: "subprocess.Popen[bytes] | None" = None

    def __init__(self, program: str, config_path: Path, log_path: Path, port: int) -> None:
        self._command = [program, "-c", str(config_path)]
        self._log_path = log_path
        self.listen = f"listener {port} 127.0.0.1\nlog_dest stderr"

    def start(self) -> None:
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class _Container:
    def __init__(self, config_path: Path, log_path: Path, port: int) -> None:
        from testcontainers.core.container import DockerContainer

        folder = config_path.parent
        # The same path inside, so that a config may name files (certificates, passwords) in the folder.
        self._container: Any = (
            DockerContainer(IMAGE)
            .with_bind_ports(1883, port)
            .with_volume_mapping(str(folder), str(folder), "rw")
            .with_command(["mosquitto", "-c", str(config_path)])
        )
        self._created = False
        self.listen = f"listener 1883\nlog_dest file {log_path}"

    def start(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True

    def running(self) -> bool:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status in {"created", "running"})

    def stop(self) -> None:
        if self.running():
            self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        if self.running():
            self._container.get_wrapped_container().kill()

    def remove(self) -> None:
        if self._created:
            self._container.stop()


class MosquittoServer:
    """A Mosquitto that accepts connections on `host`:`port`; what it logs goes to `log_path`."""

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        extra_config: str = "",
        *,
        nodelay: bool = True,
        listener_lines: Sequence[str] = (),
    ) -> None:
        """Starts it. `extra_config` is global, `listener_lines` belong to the listener (certificates).

        Anonymous clients are let in unless either of the two says something on `allow_anonymous`.
        """
        self.port = free_port()
        self.config_path = folder / "mosquitto.conf"
        self.log_path = folder / "mosquitto.log"
        self.log_path.touch()
        self._runner: _Local | _Container
        program = find_program("mosquitto")
        if program is not None:
            self._runner = _Local(program, self.config_path, self.log_path, self.port)
        elif docker_answers():
            self._runner = _Container(self.config_path, self.log_path, self.port)
        else:
            lacking("mosquitto", "neither the program mosquitto nor a Docker engine is on this machine")
        lines = [f"set_tcp_nodelay {str(nodelay).lower()}", extra_config]
        if os.geteuid() == 0:
            # Else it becomes the user mosquitto, who may not read the files beside this config.
            lines.insert(0, "user root")
        if "allow_anonymous" not in extra_config + "".join(listener_lines):
            lines.append("allow_anonymous true")
        lines += [self._runner.listen, *listener_lines]
        self.config_path.write_text("\n".join(lines) + "\n")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The broker's process. Only where the local program runs, not a container."""
        assert isinstance(self._runner, _Local), "this Mosquitto runs in a container"
        assert self._runner.process is not None
        return self._runner.process

    @property
    def url(self) -> str:
        """`mqtt://host:port`, as `--broker` takes it."""
        return f"mqtt://{self.host}:{self.port}"

    def _start(self) -> None:
        self._runner.start()
        wait_until(
            lambda: not self._runner.running() or accepts(self.host, self.port), what="Mosquitto's listening"
        )
        if not self._runner.running():
            raise RuntimeError(f"Mosquitto did not start: {self.log_path.read_text(errors='replace')}")

    def stop(self) -> None:
        """SIGTERM, and waits for its end. No harm in a second call."""
        self._runner.stop()

    def kill(self) -> None:
        """SIGKILL: connections end without a word."""
        self._runner.kill()

    def restart(self) -> None:
        """Stops it where it still runs, and starts it on the same port with the same config."""
        self._runner.stop()
        self._start()

    def close(self) -> None:
        """Stops it and leaves nothing behind."""
        self._runner.stop()
        if isinstance(self._runner, _Container):
            self._runner.remove()
