"""What is served, over real sockets: whole files and ranges, to good clients and bad ones."""

import asyncio
import hashlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import psutil
import pytest

from broker_bridge.api import connection as guarded
from broker_bridge.api import server
from broker_bridge.downloads.app import Downloads
from broker_bridge.downloads.links import Links
from broker_bridge.downloads.resolving import Resolver
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectForbidden, ObjectInfo, StoreUnavailable
from tests.downloads.running import BUCKET, NOW, Running, exchange, request_of, until
from tests.support.waiting import wait_until

DATA = os.urandom(300_000)
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("objects"))
    yield made
    made.close()


@pytest.fixture
def served(running: Running) -> Running:
    """One server for all, at the same time of day."""
    running.now = NOW
    return running


class TestWholeFiles:
    def test_get(self, served: Running) -> None:
        answer = served.ask(served.put("sensor/fw ü+&?%.bin", DATA))
        assert (answer.status, answer.body) == (200, DATA)
        assert {name: answer.headers[name] for name in answer.headers if name != "date"} == {
            "etag": f'"{MD5}"',
            "accept-ranges": "bytes",
            "content-type": "application/octet-stream",
            "x-content-type-options": "nosniff",
            "content-length": "300000",
        }

    def test_head_says_the_same_without_the_file(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        got, head = served.ask(url), served.ask(url, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers.keys() == got.headers.keys()
        assert all(head.headers[name] == got.headers[name] for name in head.headers if name != "date")
        # RFC 9110, 14.2: ranges are defined for GET alone
        assert served.ask(url, "HEAD", range="bytes=0-0").headers["content-length"] == "300000"

    def test_an_empty_file(self, served: Running) -> None:
        url = served.put("empty", b"")
        for method in ("GET", "HEAD"):
            answer = served.ask(url, method)
            assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")
        assert served.ask(url, range="bytes=-1").status == 200
        assert served.ask(url, range="bytes=0-").status == 416

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_curl_resumes(self, served: Running, tmp_path: Path) -> None:
        url = served.put("fw.bin", DATA)
        out = tmp_path / "out"
        out.write_bytes(DATA[:100_000])
        subprocess.run(["curl", "-sSf", "-C", "-", "-o", out, url], check=True, timeout=60)
        assert out.read_bytes() == DATA


class TestRanges:
    @pytest.mark.parametrize(
        ("field", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=4096-8191", 4096, 8192),
            ("bytes=65535-65536", 65535, 65537),
            ("bytes=0-299999", 0, 300_000),
            ("bytes=299999-", 299_999, 300_000),
            ("bytes=-4096", 295_904, 300_000),
            ("bytes=100000-999999", 100_000, 300_000),
        ],
    )
    def test_one_range(self, served: Running, field: str, start: int, end: int) -> None:
        answer = served.ask(served.put("fw.bin", DATA), range=field)
        assert (answer.status, answer.body) == (206, DATA[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/300000"
        assert answer.headers["content-length"] == str(end - start)
        assert answer.headers["etag"] == f'"{MD5}"'

    def test_none_of_its_bytes(self, served: Running) -> None:
        answer = served.ask(served.put("fw.bin", DATA), range="bytes=300000-")
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */300000")
        assert answer.headers["accept-ranges"] == "bytes"

    @pytest.mark.parametrize("field", ["bytes=0-1,4-5", "blocks=0-1", "bytes=5-4"])
    def test_what_is_not_offered_gives_the_whole(self, served: Running, field: str) -> None:
        answer = served.ask(served.put("fw.bin", DATA), range=field)
        assert (answer.status, len(answer.body)) == (200, len(DATA))

    def test_two_range_fields_are_no_single_range(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        with served.raw(request_of(url, "Range: bytes=0-1", "Range: bytes=2-3", "Connection: close")) as raw:
            assert until(lambda: raw.recv(65536)).startswith(b"HTTP/1.1 200 ")

    def test_as_aws_ota_library_asks(self, served: Running) -> None:
        # Block by block on one connection (ota_http.c): `bytes=a-b`, of which it takes nothing but 206.
        url = served.put("fw.bin", DATA)
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        received = b""
        sockets = set()
        for start in range(0, len(DATA), 32_768):
            last = min(start + 32_768, len(DATA)) - 1
            answer = exchange(connection, url, range=f"bytes={start}-{last}")
            assert answer.status == 206
            received += answer.body
            sockets.add(connection.sock)
        connection.close()
        assert received == DATA
        assert len(sockets) == 1, "the connection was kept"


class TestConditions:
    def test_a_client_resumes_what_broke_off(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        with urllib.request.urlopen(url, timeout=60) as answer:
            etag = answer.headers["ETag"]
            received = answer.read(123_456)
        rest = urllib.request.Request(url, headers={"Range": f"bytes={len(received)}-", "If-Range": etag})
        with urllib.request.urlopen(rest, timeout=60) as answer:
            assert answer.status == 206
            assert received + answer.read() == DATA

    def test_if_range_of_other_bytes_gives_the_whole(self, served: Running) -> None:
        answer = served.ask(served.put("fw.bin", DATA), range="bytes=5-", if_range='"other"')
        assert (answer.status, answer.body) == (200, DATA)

    def test_if_none_match(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        answer = served.ask(url, if_none_match=f'"{MD5}"')
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", f'"{MD5}"')
        assert served.ask(url, if_none_match='"other"').status == 200

    def test_if_match(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        assert served.ask(url, if_match=f'"{MD5}"', range="bytes=0-1").status == 206
        assert served.ask(url, if_match='"other"', range="bytes=0-1").status == 412

    def test_a_body_in_the_request_is_no_harm(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        parts = urlsplit(url)
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        for _ in range(2):
            connection.request("GET", f"{parts.path}?{parts.query}", body=b"x" * 200_000)
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, DATA)
        connection.close()


class TestWhoMay:
    def test_until_it_expires(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        served.now = NOW + 59
        assert served.ask(url).status == 200
        served.now = NOW + 60
        answer = served.ask(url)
        assert (answer.status, answer.body) == (403, b"the URL has expired\n")
        assert served.ask(served.url("fw.bin")).status == 200

    def test_a_clock_that_was_set_back_lets_nobody_in_who_was_out(self, served: Running) -> None:
        served.put("fw.bin", DATA)
        served.now = NOW - 3600
        assert served.ask(served.url("fw.bin", seconds=60)).status == 200
        served.now = NOW
        assert served.ask(served.link("fw.bin", MD5, NOW - 3540)).status == 403

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("/fw.bin?", "/secret.bin?"),
            ("/firmware/", "/private/"),
            ("/firmware/fw.bin", "/firmware/../firmware/fw.bin"),
            ("/firmware/", "/firmware//"),
            (r"etag=[^&]*", f"etag={hashlib.md5(b'secret').hexdigest()}"),
            (r"expires=[0-9]*", f"expires={NOW + 9999}"),
            (r"signature=..", "signature=AA"),
            (r"&signature=.*", ""),
            (r"$", "&expires=9999999999"),
            (r"\?.*", ""),
        ],
    )
    def test_an_altered_url_is_refused(self, served: Running, old: str, new: str) -> None:
        served.put("secret.bin", b"secret")
        altered = re.sub(old, new, served.put("fw.bin", DATA))
        for method in ("GET", "HEAD"):
            answer = served.ask(altered, method)
            assert answer.status == 403
            assert "etag" not in answer.headers

    def test_other_methods(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = served.ask(url, method)
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


class TestWhoseBytes:
    def test_a_replaced_object_is_refused(self, served: Running) -> None:
        old = served.put("fw.bin", DATA)
        new = served.put("fw.bin", DATA[::-1])
        for headers in ({}, {"range": "bytes=0-9"}, {"if_range": '"x"', "range": "bytes=0-9"}):
            answer = served.ask(old, **headers)
            assert (answer.status, answer.body) == (
                412,
                b"the object was overwritten since the URL was made\n",
            )
        assert served.ask(old, "HEAD").status == 412
        assert served.ask(new).body == DATA[::-1]
        served.put("fw.bin", b"")
        assert served.ask(old).status == served.ask(new).status == 412
        # Bytes count, not files: when the old ones are back, so is what was signed.
        served.put("fw.bin", DATA)
        assert served.ask(old).body == DATA

    def test_a_deleted_one_is_missing(self, served: Running) -> None:
        url = served.put("fw.bin", DATA)
        (served.folder / BUCKET / "fw.bin").unlink()
        answer = served.ask(url)
        assert answer.status == 404
        assert b"fw.bin" not in answer.body
        assert str(served.folder).encode() not in answer.body

    def test_one_that_never_was_is_missing(self, served: Running) -> None:
        served.put("fw.bin", DATA)
        assert served.ask(served.url("gone.bin")).status == 404

    def test_replaced_during_a_download_it_is_cut_short(self, served: Running) -> None:
        old = os.urandom(8_000_000)
        url = served.put("fw.bin", old)
        with served.raw(request_of(url), receive_buffer=65_536) as raw:
            head = raw.recv(4096)
            served.put("fw.bin", os.urandom(8_000_000))
            received = head + until(lambda: raw.recv(65_536))
        body = received.partition(b"\r\n\r\n")[2]
        assert b"content-length: 8000000" in received[:1000].lower()
        assert len(body) < len(old), "nobody takes it for the whole"
        assert body == old[: len(body)], "and none of it is of the new one"

    def test_a_store_that_fails(self, tmp_path: Path) -> None:
        class Failing(FolderStore):
            error: Exception | None = None

            def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
                if self.error is not None:
                    raise self.error
                return super().head(bucket, key, version_id)

        store = Failing(tmp_path)
        served = Running(tmp_path, store=store)
        try:
            url = served.put("fw.bin", DATA)
            store.error = StoreUnavailable("disk /dev/secret: Input/output error")
            answer = served.ask(url)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert b"secret" not in answer.body
            store.error = ObjectForbidden("object 'secret'")
            assert served.ask(url).status == 403
            store.error = None
            assert served.ask(url).status == 200
        finally:
            served.close()


class TestManyAndSlow:
    def test_slow_clients_get_their_file_beside_quick_ones(self, served: Running) -> None:
        data = os.urandom(1_500_000)
        url = served.put("fw.bin", data)
        bodies: dict[int, bytes] = {}

        def slowly(number: int) -> None:
            with served.raw(request_of(url, "Connection: close"), receive_buffer=16_384) as raw:

                def read() -> bytes:
                    time.sleep(0.001)
                    return raw.recv(20_000)

                bodies[number] = until(read).partition(b"\r\n\r\n")[2]

        threads = [threading.Thread(target=slowly, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        assert served.ask(url).body == data
        for thread in threads:
            thread.join(60)
        assert [bodies[number] == data for number in range(12)] == [True] * 12

    def test_one_more_than_allowed_is_told_to_try_again(self, tmp_path: Path) -> None:
        served = Running(tmp_path, connections=2)
        try:
            url = served.put("fw.bin", bytes(8_000_000))
            small = served.put("small.bin", b"small")
            with (
                served.raw(request_of(url), receive_buffer=4096) as one,
                served.raw(request_of(url), receive_buffer=4096) as two,
            ):
                assert one.recv(8)
                assert two.recv(8)
                answer = served.ask(small)
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            # Both have left, without having read: their places are free.
            wait_until(lambda: served.ask(small).status == 200, what="a free place")
        finally:
            served.close()

    def test_a_big_file_costs_no_memory(self, served: Running) -> None:
        size = 200_000_000
        path = served.folder / BUCKET / "big.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
            file.seek(size - 5)
            file.write(b"world")
        url = served.url("big.bin")
        process = psutil.Process()
        received, last, most = 0, b"", 0
        with urllib.request.urlopen(url, timeout=60) as answer:
            before = process.memory_info().rss
            while data := answer.read(1 << 18):
                received, last = received + len(data), data
                if received % (1 << 24) < 1 << 18:
                    most = max(most, process.memory_info().rss)
        assert (received, last[-5:]) == (size, b"world")
        assert most - before < 40_000_000

    def test_nothing_is_read_for_a_client_that_has_left(self, served: Running) -> None:
        size = 400_000_000
        path = served.folder / BUCKET / "big.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        url = served.url("big.bin")
        before = served.app.counts()["sluice_download_bytes"]
        with served.raw(request_of(url)) as raw:
            assert raw.recv(8)
        wait_until(lambda: not served.app.under_way, what="the end of the download")
        assert served.app.counts()["sluice_download_bytes"] - before < size / 2

    def test_clients_that_do_not_read_cost_little(self, served: Running) -> None:
        url = served.put("fw.bin", bytes(20_000_000))
        process = psutil.Process()
        assert served.ask(url, range="bytes=0-9").status == 206
        before = process.memory_info().rss
        held: list[socket.socket] = []
        try:
            for _ in range(60):
                made = socket.socket()
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                made.settimeout(60)
                made.connect(("127.0.0.1", served.port))
                made.sendall(request_of(url))
                held.append(made)
            for made in held:
                assert made.recv(8)
            assert served.ask(url, range="bytes=0-9").body == bytes(10)
            # 256 KiB for each, and what the allocator takes beside it.
            assert process.memory_info().rss - before < 30_000_000
        finally:
            for made in held:
                made.close()


class TestWaits:
    """Every wait for a client ends (`api/connection.py`)."""

    @pytest.mark.parametrize("sent", [b"", b"GET /objects/x HTTP/1.1\r\nHost: h\r\nX-Slow: "])
    def test_for_a_request(self, monkeypatch: pytest.MonkeyPatch, served: Running, sent: bytes) -> None:
        monkeypatch.setattr(guarded, "HEAD_SECONDS", 0.2)
        with served.raw(sent) as raw:
            assert until(lambda: raw.recv(4096)) == b""

    def test_for_the_next_request(self, monkeypatch: pytest.MonkeyPatch, served: Running) -> None:
        # Long enough for the first one, on whatever machine.
        monkeypatch.setattr(guarded, "HEAD_SECONDS", 2)
        url = served.put("fw.bin", DATA)
        with served.raw(request_of(url, "Range: bytes=0-0") + b"GET ") as raw:
            answer = until(lambda: raw.recv(4096))
            assert answer.startswith(b"HTTP/1.1 206 ")
            assert answer.endswith(DATA[:1])

    def test_for_a_client_to_read(self, monkeypatch: pytest.MonkeyPatch, served: Running) -> None:
        monkeypatch.setattr(guarded, "STALL_SECONDS", 0.2)
        url = served.put("fw.bin", os.urandom(8_000_000))
        with served.raw(request_of(url), receive_buffer=4096) as raw:
            assert raw.recv(8)
            wait_until(lambda: not served.app.under_way, what="the end of the download")
            received = until(lambda: raw.recv(65_536))
        assert len(received) < 8_000_000

    def test_a_client_that_reads_is_not_cut(self, monkeypatch: pytest.MonkeyPatch, served: Running) -> None:
        monkeypatch.setattr(guarded, "STALL_SECONDS", 2)
        monkeypatch.setattr(guarded, "HEAD_SECONDS", 2)
        data = os.urandom(3_000_000)
        url = served.put("fw.bin", data)
        started = time.monotonic()
        with served.raw(request_of(url, "Connection: close"), receive_buffer=65_536) as raw:

            def read() -> bytes:
                time.sleep(0.05)
                return raw.recv(65_536)

            assert until(read).partition(b"\r\n\r\n")[2] == data
        assert time.monotonic() - started > guarded.STALL_SECONDS, "longer than one wait may last"

    def test_there_are_only_so_many_connections(
        self, monkeypatch: pytest.MonkeyPatch, served: Running
    ) -> None:
        monkeypatch.setattr(guarded, "MAX_CONNECTIONS", 2)
        url = served.put("fw.bin", DATA)
        request = request_of(url, "Range: bytes=0-0")
        with served.raw(request) as one, served.raw(request) as two:
            assert one.recv(5) == two.recv(5) == b"HTTP/"
            with served.raw() as three:
                assert until(lambda: three.recv(4096)) == b""

        def served_again() -> bool:
            try:
                return served.ask(url).status == 200
            except (OSError, http.client.HTTPException):
                return False

        wait_until(served_again, what="a free place")


def test_errors_are_for_urllib_what_they_are(served: Running) -> None:
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(served.link("gone", MD5), timeout=60)
    assert caught.value.code == 404


def test_the_end_of_the_service_cuts_short_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "SHUTDOWN_SECONDS", 1)
    (tmp_path / BUCKET).mkdir()
    (tmp_path / BUCKET / "fw.bin").write_bytes(bytes(8_000_000))
    store = FolderStore(tmp_path)

    async def run() -> int:
        with server.listen("127.0.0.1", 0) as listener:
            links = Links(b"k" * 32, server.url(listener))
            app = Downloads(store, links, connections=1)
            url = Resolver(store, links).resolve(f"${{aws:iot:s3-presigned-url:s3://{BUCKET}/fw.bin}}", 60)
            async with server.serving(app, listener, lifespan="off"):
                reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=4096)
                writer.write(request_of(url))
                await reader.readuntil(b"\r\n\r\n")
            received = len(await reader.read())
            writer.close()
            app.close()
            return received

    assert asyncio.run(run()) < 8_000_000
    assert "Exception in ASGI application" not in caplog.text
