"""A running moto server: S3 (and the rest of AWS) over real HTTP on this machine."""

import subprocess
import sys
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.required import docker_answers, lacking
from tests.support.waiting import accepts, free_port, wait_until

IMAGE = "motoserver/moto"
ACCESS_KEY, SECRET_KEY, REGION = "testing", "testing", "us-east-1"


class MotoServer:
    """moto's server at `endpoint_url`, from the package or, where that is missing, its container."""

    def __init__(self, log_path: Path) -> None:
        port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._container: Any = None
        try:
            import moto.server  # noqa: F401
        except ImportError:
            if not docker_answers():
                lacking("moto", "neither the package moto[server] nor a Docker engine is on this machine")
            from testcontainers.core.container import DockerContainer

            self._container = DockerContainer(IMAGE).with_bind_ports(5000, port)
            self._container.start()
        else:
            with log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        try:
            wait_until(
                lambda: self._ended() or accepts("127.0.0.1", port), timeout=60, what="moto's listening"
            )
            if self._ended():
                raise RuntimeError(f"moto did not start: {log_path.read_text(errors='replace')}")
        except BaseException:
            self.close()
            raise

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def new_client(self, service: str, **options: Any) -> Any:
        """A boto3 client of that service, with dummy credentials."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            **options,
        )

    @cached_property
    def _s3(self) -> Any:
        return self.new_client("s3")

    def client(self) -> Any:
        """A boto3 S3 client, the same one at every call (boto3's clients are thread safe)."""
        return self._s3

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name

    def close(self) -> None:
        """Ends the server; nothing is left behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._container is not None:
            self._container.stop()
