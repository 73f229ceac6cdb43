"""HTTP at the rim: bodies too large, too slow or torn off, health, metrics, and faults of our own."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.api import app
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectInfo
from tests.api.running import ROLE, Running, file_entry
from tests.support.waiting import wait_until

GOOD = json.dumps({"files": [file_entry()], "roleArn": ROLE}).encode()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever announces a body and sends none is hung up on at once."""
    monkeypatch.setattr(app, "_LINGER_SECONDS", 0.2)


def raw(api: Running, sent: bytes) -> bytes:
    """Everything that comes back until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def test_a_body_that_is_announced_too_large_is_not_read(api: Running) -> None:
    # Nothing of the body is ever sent: the answer cannot have waited for it.
    head = f"POST /streams/x HTTP/1.1\r\nHost: x\r\nContent-Length: {10**10}\r\n\r\n"
    received = raw(api, head.encode())
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received.lower()
    assert b"x-amzn-errortype: RequestEntityTooLargeException" in received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["message"] == "the body is over 524288 bytes"


def test_who_waits_to_be_told_to_send_too_much_is_told_not_to(api: Running) -> None:
    head = b"POST /streams/x HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\nExpect: 100-continue\r\n\r\n"
    assert raw(api, head).startswith(b"HTTP/1.1 413 ")


def test_a_body_over_the_bound_is_answered_also_when_it_is_sent(api: Running) -> None:
    answer = api.send("POST", "/streams/x", b"x" * (app.MAX_BODY + 1))
    assert (answer.status, answer.code) == (413, "RequestEntityTooLargeException")
    assert len(answer.headers["x-amzn-requestid"]) == 36
    assert api.send("POST", "/streams/x", b"x" * 3_000_000).status == 413
    assert api.send("POST", "/streams/x", b" " * (app.MAX_BODY - len(GOOD)) + GOOD).status == 200
    assert api.send("DELETE", "/streams/x").status == 200


def test_a_body_of_unknown_length_is_bounded_too(api: Running) -> None:
    head = b"POST /streams/y HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert raw(api, head + block * 9 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    small = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    last = b"DELETE /streams/y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = raw(api, head + small + last)
    assert received.count(b"HTTP/1.1 200 OK") == 2


def test_a_body_that_does_not_arrive_is_not_waited_for(api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.05)
    received = raw(api, b"POST /streams/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"x-amzn-errortype: RequestTimeoutException" in received


def test_a_client_that_leaves_is_forgotten(api: Running) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
            connection.sendall(b"POST /streams/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    wait_until(lambda: api.api._under_way == 0, what="the end of requests whose clients left")
    assert api.send("GET", "/streams/x").status == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\x00\x01\x02\r\n\r\n",
        b"GET /streams\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /streams/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /streams/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /streams/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /streams/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_hung_up_on(api: Running, sent: bytes) -> None:
    try:
        received = raw(api, sent)
    except (ConnectionResetError, BrokenPipeError):
        received = b""  # closed while we were still sending
    assert not received or received.startswith(b"HTTP/1.1 4")
    assert api.send("GET", "/streams").status == 200


def test_an_upgrade_is_not_taken(api: Running) -> None:
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert api.send("GET", "/streams", headers={**headers, "sec-websocket-key": "AAAA"}).status == 200


def test_many_requests_on_one_connection(api: Running) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        stream = connection.makefile("rb")
        ids = set()
        for _ in range(20):
            connection.sendall(b"GET /streams/none HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stream.readline().startswith(b"HTTP/1.1 404 ")
            fields = dict(
                line.decode().strip().lower().split(": ", 1) for line in iter(stream.readline, b"\r\n")
            )
            stream.read(int(fields["content-length"]))
            ids.add(fields["x-amzn-requestid"])
        assert len(ids) == 20


def test_health_and_metrics(api: Running) -> None:
    answer = api.send("GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok", "broker": "connected"})
    assert answer.headers["content-type"] == "application/json"
    api.health = lambda: (False, {"broker": "refused"})
    answer = api.send("GET", "/healthz")
    assert (answer.status, answer.json) == (503, {"status": "failing", "broker": "refused"})
    api.health = lambda: 1 / 0  # type: ignore[assignment,return-value]
    answer = api.send("GET", "/healthz")
    assert (answer.status, answer.code) == (500, "InternalFailureException")
    assert b"division" not in answer.body
    api.health = lambda: (True, {})
    answer = api.send("GET", "/metrics")
    assert (answer.status, answer.body) == (200, b"up 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert api.send("HEAD", "/metrics").body == b""


def test_answers_are_counted(api: Running) -> None:
    before = api.api.stats.answers()
    api.send("GET", "/streams/none")
    api.send("GET", "/nothing")
    after = api.api.stats.answers()
    assert after["iot", "DescribeStream", 404] == before.get(("iot", "DescribeStream", 404), 0) + 1
    assert after["iot", "", 404] == before.get(("iot", "", 404), 0) + 1
    assert api.api.stats.seconds()["iot", "DescribeStream"] > 0


class Slow(FolderStore):
    """A folder that answers when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.let = threading.Event()

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        assert self.let.wait(60)
        return super().head(bucket, key, version_id)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Running]:
    store = Slow(tmp_path / "objects")
    running = Running(tmp_path, store=store)
    running.put("firmware", "app.bin", b"")
    yield running
    store.let.set()
    running.close()


def test_a_store_that_hangs_holds_up_neither_health_nor_more_than_a_bound(slow: Running) -> None:
    def create(i: int) -> int:
        return slow.send("POST", f"/streams/s{i}", GOOD).status

    with ThreadPoolExecutor(app.MAX_REQUESTS) as pool:
        waiting = [pool.submit(create, i) for i in range(app.MAX_REQUESTS)]
        wait_until(lambda: slow.api._under_way == app.MAX_REQUESTS, what="requests under way")
        assert slow.send("GET", "/healthz").status == 200
        assert slow.send("GET", "/metrics").status == 200
        answer = slow.send("GET", "/streams")
        assert (answer.status, answer.code) == (503, "ServiceUnavailableException")
        store: Any = slow.context.store
        store.let.set()
        assert {future.result() for future in waiting} == {200}
    assert slow.registry.count() == app.MAX_REQUESTS


def test_a_fault_of_ours_is_a_500_without_its_cause(
    api: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(api.registry, "streams", broken)
    answer = api.send("GET", "/streams")
    assert (answer.status, answer.code) == (500, "InternalFailureException")
    assert "secret" not in answer.body.decode()
    logged = capsys.readouterr()
    assert "RuntimeError: a secret" in logged.out + logged.err
    assert answer.headers["x-amzn-requestid"] in logged.out + logged.err
