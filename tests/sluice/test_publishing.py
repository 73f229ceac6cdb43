"""What can go wrong between the file and the stream while `publish` is at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from broker_bridge.settings import StorageSettings
from sluice.failure import Failure
from sluice.publishing import publish
from sluice.settings import Settings
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service
from tests.support.moto import MotoServer
from tests.support.waiting import free_port

MIB = 1 << 20


def settings_of(service: Service) -> Settings:
    return Settings(http=service.http, state=service.state)


def changing(path: Path, how: Any) -> Any:
    """A report that changes the file when its first bytes are stored."""

    def report(done: int, total: int) -> None:
        if done < total:
            how(path)

    return report


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2 * MIB)


@pytest.mark.parametrize("how", [overwrite, truncate])
def test_a_file_that_changes_meanwhile_is_not_published(tmp_path: Path, how: Any) -> None:
    path = tmp_path / "fw.bin"
    path.write_bytes(bytes(3 * MIB))
    # Nobody is there: the API is not reached, or the failure would be another.
    settings = Settings(http=f"127.0.0.1:{free_port()}", state=tmp_path / "state")
    with pytest.raises(Failure, match="changed while it was being published; nothing was published"):
        publish(path, "s", settings, changing(path, how))
    assert [found for found in (tmp_path / "state").rglob("*") if found.is_file()] == []


def test_nor_is_it_in_s3(tmp_path: Path, moto_s3: MotoServer) -> None:
    bucket = moto_s3.bucket()
    path = tmp_path / "fw.bin"
    path.write_bytes(bytes(3 * MIB))
    settings = Settings(
        http=f"127.0.0.1:{free_port()}",
        storage=StorageSettings(s3_endpoint=moto_s3.endpoint_url),
        bucket=bucket,
    )
    with pytest.raises(Failure, match="changed while it was being published; nothing was published"):
        publish(path, "s", settings, changing(path, overwrite))
    assert "Contents" not in moto_s3.client().list_objects_v2(Bucket=bucket)


@contextmanager
def relay(service: Service, before_update: Any) -> Iterator[str]:
    """host:port that hands requests on to the service; calls `before_update` once, before the first PUT."""
    waiting = [before_update]

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            if self.command == "PUT" and waiting:
                waiting.pop()()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = HTTPConnection(service.http, timeout=30)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            upstream.close()

        do_GET = do_POST = do_PUT = handle_one

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_change_at_the_same_time_is_told(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    with Service(tmp_path, "--broker", mosquitto().url) as service:
        settings = settings_of(service)
        publish(tmp_path / "a", "s", settings)

        def another() -> None:
            published = publish(tmp_path / "b", "s", replace(settings, file=1))
            assert published.warnings == ()

        with relay(service, another) as http:
            published = publish(tmp_path / "c", "s", replace(settings, http=http, file=2))
        assert published.stream_version == 3
        assert len(published.warnings) == 1
        assert "changed by somebody else at the same time" in published.warnings[0]


def test_a_stream_made_in_between_is_updated(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    """Two publish the first files of one stream at once: one creates it, the other adds to it."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with Service(tmp_path, "--broker", mosquitto().url) as service:
        settings = settings_of(service)
        together = threading.Barrier(2)

        def one(name: str, file_id: int) -> None:
            together.wait(30)
            publish(tmp_path / name, "s", replace(settings, file=file_id))

        threads = [threading.Thread(target=one, args=pair) for pair in (("a", 0), ("b", 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        client = boto3.client("iot", endpoint_url=f"http://{service.http}")
        assert client.describe_stream(streamId="s")["streamInfo"]["streamVersion"] == 2
