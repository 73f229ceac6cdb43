"""`sluice publish` and `sluice get` as processes, against a running service."""

import contextlib
import hashlib
import json
import os
import pty
import random
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from device_client.resume import decode_record
from sluice.publishing import object_name
from tests.conftest import MosquittoFactory
from tests.sluice.support import COMMAND, Service, environment, sluice
from tests.support.mosquitto import MosquittoServer
from tests.support.moto import MotoServer
from tests.support.waiting import free_port, wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on a Mosquitto of its own, for the whole module."""
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    try:
        with Service(tmp_path_factory.mktemp("service"), "--broker", broker.url) as service:
            yield service
    finally:
        broker.close()


@pytest.fixture
def service(tmp_path: Path, running: Service) -> Service:
    """What publish and get need to know of it is in the test's folder."""
    (tmp_path / "sluice.toml").write_text(
        f'http = "{running.http}"\nbroker = "{running.mqtt}"\nstate = "{running.state}"\nthing = "pump-7"\n'
        "timeout = 20\n"
    )
    return running


@pytest.fixture
def stream() -> str:
    """The id of a stream that nobody else uses."""
    return f"s-{secrets.token_hex(8)}"


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_what_is_published_is_what_is_got(tmp_path: Path, service: Service, stream: str) -> None:
    sha256 = written(tmp_path / "pump.bin", content(300_001))
    published = sluice(["publish", "pump.bin", "--stream", stream], tmp_path)
    assert published.returncode == 0, published.stderr
    assert f"arn:aws:iot:us-east-1:000000000000:stream/{stream} version 1\n" in published.stdout
    assert f"file 0: 300001 bytes, SHA-256 {sha256}\n" in published.stdout
    assert (service.state / "objects" / "firmware" / stream / sha256 / "pump.bin").is_file()

    got = sluice(["get", "--stream", stream, "--out", "got.bin", "--sha256", sha256, "--json"], tmp_path)
    assert got.returncode == 0, got.stderr
    figures = json.loads(got.stdout)
    assert (figures["size"], figures["sha256"], figures["block_size"]) == (300_001, sha256, 4096)
    assert figures["blocks"] == 74
    assert (tmp_path / "got.bin").read_bytes() == content(300_001)


def claims(record: Path) -> bool:
    """Whether it claims a block; another process may be replacing it."""
    found = decode_record(record.read_bytes())
    return found is not None and any(found[5])


def test_a_killed_get_is_taken_up(tmp_path: Path, service: Service, stream: str) -> None:
    data = content(24_000_000)
    written(tmp_path / "pump.bin", data)
    assert sluice(["publish", "pump.bin", "--stream", stream], tmp_path).returncode == 0
    call = ["get", "--stream", stream, "--out", "got.bin", "--block-size", "256"]
    with subprocess.Popen([*COMMAND, *call], cwd=tmp_path, env=environment()) as first:
        record = tmp_path / "got.bin.part.state"
        wait_until(lambda: record.exists() and claims(record), 60, "a record of what is here")
        first.kill()
    second = sluice(call, tmp_path)
    assert second.returncode == 0, second.stderr
    assert re.search(r"sluice: went on after [1-9][0-9]* bytes of an earlier run", second.stderr)
    assert (tmp_path / "got.bin").read_bytes() == data


def test_on_a_terminal_there_is_a_bar(tmp_path: Path, service: Service, stream: str) -> None:
    written(tmp_path / "pump.bin", content(300_000))
    for call in (
        ["publish", "pump.bin", "--stream", stream],
        ["get", "--stream", stream, "--out", "got.bin"],
    ):
        terminal, slave = pty.openpty()
        environ = environment({"TERM": "xterm", "COLUMNS": "100"})
        with subprocess.Popen([*COMMAND, *call], cwd=tmp_path, env=environ, stderr=slave) as process:
            os.close(slave)
            shown = b""
            # Linux ends a terminal whose other side is closed with an error.
            with contextlib.suppress(OSError):
                while data := os.read(terminal, 4096):
                    shown += data
            os.close(terminal)
        assert process.returncode == 0
        assert "300.0/300.0 kB" in shown.decode(), shown


@pytest.mark.parametrize("encoding", ["cbor", "json"])
def test_block_size_and_encoding(tmp_path: Path, service: Service, stream: str, encoding: str) -> None:
    written(tmp_path / "pump.bin", content(100_000))
    assert sluice(["publish", "pump.bin", "--stream", stream], tmp_path).returncode == 0
    flags = ["--block-size", "16 KiB", "--encoding", encoding]
    got = sluice(["get", "--stream", stream, "--out", "got.bin", *flags], tmp_path)
    assert got.returncode == 0, got.stderr
    assert "7 blocks of 16384 bytes" in got.stdout
    assert (tmp_path / "got.bin").read_bytes() == content(100_000)


def test_other_files_stay_and_versions_count(tmp_path: Path, service: Service, stream: str) -> None:
    for name, file_id, seed in (("a", 0, 1), ("b", 7, 2), ("c", 0, 3)):
        written(tmp_path / name, content(5000, seed))
        arguments = ["publish", name, "--stream", stream, "--file", file_id, "--json"]
        result = sluice([str(word) for word in arguments], tmp_path)
        assert result.returncode == 0, result.stderr
        published = json.loads(result.stdout)
    assert (published["stream_version"], published["changed"]) == (3, True)
    for file_id, seed in ((0, 3), (7, 2)):
        got = sluice(["get", "--stream", stream, "--file", str(file_id), "--out", "got"], tmp_path)
        assert got.returncode == 0, got.stderr
        assert (tmp_path / "got").read_bytes() == content(5000, seed)


def test_publishing_the_same_again_changes_nothing(tmp_path: Path, service: Service, stream: str) -> None:
    sha256 = written(tmp_path / "a", content(5000))
    first = sluice(["publish", "a", "--stream", stream], tmp_path)
    stored = service.state / "objects" / "firmware" / stream / sha256 / "a"
    before = stored.stat()
    second = sluice(["publish", "a", "--stream", stream], tmp_path)
    assert first.returncode == second.returncode == 0
    assert "version 1 (unchanged)" in second.stdout
    assert stored.stat().st_ino == before.st_ino
    # A damaged object is no reason to leave it at that.
    stored.write_bytes(b"x" * 5000)
    third = sluice(["publish", "a", "--stream", stream], tmp_path)
    assert "version 2\n" in third.stdout
    assert stored.read_bytes() == content(5000)


def test_an_empty_file(tmp_path: Path, service: Service, stream: str) -> None:
    sha256 = written(tmp_path / "empty", b"")
    published = sluice(["publish", "empty", "--stream", stream], tmp_path)
    assert published.returncode == 0, published.stderr
    got = sluice(["get", "--stream", stream, "--out", "got", "--sha256", sha256], tmp_path)
    assert got.returncode == 0, got.stderr
    assert (tmp_path / "got").read_bytes() == b""


def test_s3(tmp_path: Path, mosquitto: MosquittoFactory, moto_s3: MotoServer) -> None:
    bucket = moto_s3.bucket()
    store = ["--s3-endpoint", moto_s3.endpoint_url]
    sha256 = written(tmp_path / "a.bin", content(200_000))
    with Service(tmp_path, "--broker", mosquitto().url, *store) as service:
        call = ["publish", "a.bin", "--stream", "s", "--http", service.http, *store]
        lacking = sluice([*call, "--bucket", "no-such-bucket"], tmp_path)
        assert lacking.returncode == 1
        assert "there is no bucket no-such-bucket" in lacking.stderr
        published = sluice([*call, "--bucket", bucket], tmp_path)
        assert published.returncode == 0, published.stderr
        again = sluice([*call, "--bucket", bucket], tmp_path)
        assert "(unchanged)" in again.stdout
        flags = ["--broker", service.mqtt, "--thing", "t", "--out", "got", "--sha256", sha256]
        got = sluice(["get", "--stream", "s", *flags], tmp_path)
        assert got.returncode == 0, got.stderr


def test_a_rejection_is_status_4(tmp_path: Path, service: Service, stream: str) -> None:
    got = sluice(["get", "--stream", "nowhere", "--out", "got"], tmp_path)
    assert got.returncode == 4
    assert "ResourceNotFound" in got.stderr
    written(tmp_path / "a", b"abc")
    elsewhere = ["--objects", tmp_path / "elsewhere"]
    published = sluice(["publish", "a", "--stream", stream, *map(str, elsewhere)], tmp_path)
    assert published.returncode == 4
    assert re.search(r"sluice: \w+Exception: ", published.stderr)
    assert "must be the service's store too" in published.stderr


def test_a_wrong_hash_is_status_5(tmp_path: Path, service: Service, stream: str) -> None:
    written(tmp_path / "a", content(5000))
    assert sluice(["publish", "a", "--stream", stream], tmp_path).returncode == 0
    got = sluice(["get", "--stream", stream, "--out", "got", "--sha256", "0" * 64], tmp_path)
    assert got.returncode == 5
    assert not (tmp_path / "got").exists()


def test_nobody_there_is_status_3(tmp_path: Path) -> None:
    port = str(free_port())
    got = sluice(
        ["get", "--broker", f"mqtt://127.0.0.1:{port}", "--thing", "t", "--stream", "s", "--out", "x"],
        tmp_path,
    )
    assert got.returncode == 3
    assert port in got.stderr
    written(tmp_path / "a", b"abc")
    published = sluice(["publish", "a", "--stream", "s", "--http", f"127.0.0.1:{port}"], tmp_path)
    assert published.returncode == 3
    assert f"no service answers at http://127.0.0.1:{port}" in published.stderr


def test_what_is_no_file_is_not_published(tmp_path: Path) -> None:
    for name, status in (("nowhere", 1), (".", 2), ("-", 2)):
        result = sluice(["publish", name, "--stream", "s"], tmp_path)
        assert result.returncode == status
        assert "Traceback" not in result.stderr


def test_a_long_stream_id_warns(tmp_path: Path, service: Service, stream: str) -> None:
    written(tmp_path / "a", b"abc")
    for length, warned in ((44, False), (45, True)):
        result = sluice(["publish", "a", "--stream", stream.ljust(length, "x")], tmp_path)
        assert result.returncode == 0, result.stderr
        assert ("44 or fewer" in result.stderr) is warned


def test_boto3_sees_what_was_published(tmp_path: Path, service: Service, stream: str) -> None:
    written(tmp_path / "a b.bin", b"abc")
    assert sluice(["publish", "a b.bin", "--stream", stream], tmp_path).returncode == 0
    client = boto3.client("iot", endpoint_url=f"http://{service.http}")
    (file,) = client.describe_stream(streamId=stream)["streamInfo"]["files"]
    assert file["s3Location"]["key"].endswith("/a_b.bin")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.bin", "a.bin"),
        (".hidden", "_hidden"),
        ("..", "_."),
        ("ü b/c", "__b_c"),
        ("x" * 300 + ".bin", "x" * 96 + ".bin"),
        ("a'$(rm)\n", "a___rm__"),
    ],
)
def test_object_name(name: str, plain: str) -> None:
    assert object_name(name) == plain
