"""What is killed, restarted or overwritten in mid-download never costs the file its exactness."""

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from device_client.client import Rejected, Result, download
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service, sluice
from tests.support.waiting import free_port, wait_until

SIZE = 24_000_001


class At:
    """A progress callback that does something once, when a third of the file is there."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.done = False

    def __call__(self, held: int, size: int) -> None:
        if not self.done and held >= size // 3:
            assert held < size, "the file was complete before anything could happen to it"
            self.done = True
            self.action()


def publish(folder: Path, service: Service, stream: str, seed: int = 0) -> bytes:
    data = random.Random(seed).randbytes(SIZE)
    (folder / "fw.bin").write_bytes(data)
    flags = ["--http", service.http, "--state", service.state]
    done = sluice(["publish", "fw.bin", "--stream", stream, *flags], folder)
    assert done.returncode == 0, done.stderr
    return data


def get(broker: str, folder: Path, at: At | None = None, sha256: str | None = None) -> Result:
    return download(
        broker, thing="mast-17", stream="fw", out=folder / "got.bin", sha256=sha256, progress=at, patience=60
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_service_is_ended_and_started_again(
    tmp_path: Path, mosquitto: MosquittoFactory, number: int
) -> None:
    broker = mosquitto().url
    running = [Service(tmp_path, "--broker", broker)]
    data = publish(tmp_path, running[0], "fw")

    def restart() -> None:
        running[0].stop(number)
        running.append(Service(tmp_path, "--broker", broker))

    at = At(restart)
    result = get(broker, tmp_path, at)
    assert at.done
    assert (tmp_path / "got.bin").read_bytes() == data
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    for service in running:
        service.__exit__(None, None, None)


def test_the_broker_is_killed_and_started_again(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url) as service:
        data = publish(tmp_path, service, "fw")

        def restart() -> None:
            broker.kill()
            broker.restart()

        at = At(restart)
        get(broker.url, tmp_path, at)
        assert at.done
        assert (tmp_path / "got.bin").read_bytes() == data


def test_service_and_embedded_broker_are_killed_together(tmp_path: Path) -> None:
    port = f"127.0.0.1:{free_port()}"
    running = [Service(tmp_path, "--mqtt", port)]
    data = publish(tmp_path, running[0], "fw")

    def restart() -> None:
        running[0].stop(signal.SIGKILL)
        host, number = port.split(":")
        running.append(_started(tmp_path, host, number))

    at = At(restart)
    get(f"mqtt://{port}", tmp_path, at)
    assert at.done
    assert (tmp_path / "got.bin").read_bytes() == data
    for service in running:
        service.__exit__(None, None, None)


def _started(folder: Path, host: str, port: str) -> Service:
    """The service again, as soon as the old broker's port is free: it ends a moment after its parent."""

    def start() -> Service | None:
        try:
            return Service(folder, "--mqtt", f"{host}:{port}")
        except AssertionError:
            return None

    service = wait_until(start, timeout=60, what="the service on the same port")
    assert service is not None
    return service


DEVICE = """
import os, signal, sys
from device_client.client import download
def progress(held, size):
    if size // 3 <= held < size and sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
print(download(sys.argv[1], thing="mast-17", stream="fw", out=sys.argv[2], progress=progress).resumed)
"""


def test_the_device_is_killed_and_started_again(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker) as service:
        data = publish(tmp_path, service, "fw")
        command = [sys.executable, "-c", DEVICE, broker, str(tmp_path / "got.bin")]
        died = subprocess.run([*command, "die"], check=False, capture_output=True, text=True, timeout=90)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not (tmp_path / "got.bin").exists()
        lived = subprocess.run([*command, "live"], check=True, capture_output=True, text=True, timeout=90)
        assert (tmp_path / "got.bin").read_bytes() == data
        assert int(lived.stdout) >= 0


def test_an_overwritten_object_is_never_mixed(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker) as service:
        data = publish(tmp_path, service, "fw")
        (path,) = (path for path in (service.state / "objects").rglob("fw.bin"))

        def overwrite() -> None:
            (tmp_path / "other").write_bytes(random.Random(1).randbytes(SIZE))
            (tmp_path / "other").replace(path)

        at = At(overwrite)
        with pytest.raises(Rejected) as rejected:
            get(broker, tmp_path, at, sha256=hashlib.sha256(data).hexdigest())
        assert rejected.value.code == "ETagMismatch"
        # The same content again is the same object: the download goes on where it was.
        path.write_bytes(data)
        assert get(broker, tmp_path, sha256=hashlib.sha256(data).hexdigest()).resumed > 0
        assert (tmp_path / "got.bin").read_bytes() == data


def test_an_update_in_mid_download_is_told(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker) as service:
        publish(tmp_path, service, "fw")
        new: list[bytes] = []
        at = At(lambda: new.append(publish(tmp_path, service, "fw", seed=2)))
        with pytest.raises(Rejected) as rejected:
            get(broker, tmp_path, at)
        assert rejected.value.code == "VersionMismatch"
        result = get(broker, tmp_path)
        assert (result.version, result.resumed) == (2, 0)
        assert (tmp_path / "got.bin").read_bytes() == new[0]


def test_a_deleted_stream_is_told(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker) as service:
        publish(tmp_path, service, "fw")
        iot = boto3.client("iot", endpoint_url=f"http://{service.http}", region_name="us-east-1")
        at = At(lambda: iot.delete_stream(streamId="fw") and None)
        with pytest.raises(Rejected) as rejected:
            get(broker, tmp_path, at)
        assert rejected.value.code == "ResourceNotFound"
