"""Both transports of ours, over real Mosquittos and real sockets."""

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunker.topics import topic
from device_client.async_transport import AsyncTransport, run_async
from device_client.clock import now
from device_client.download import Download
from device_client.fetch import Fetch, run
from device_client.mqtt import TOO_LONG, BrokerUnreachable, Session, SubscriptionRefused
from device_client.sinks import MemorySink
from device_client.socket_transport import SocketTransport
from device_client.transport import Transport
from tests.conftest import MosquittoFactory
from tests.device_client.doing import CONTENT, SHA256, certificate_for_loopback
from tests.device_client.responder import Responder
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import free_port

DATA = topic("mast", "fw", "data", "cbor")


class Device:
    """One transport with all that it hears; calls are made in the loop of its own that it may need."""

    def __init__(self, kind: str, port: int, topics: list[str], buffer: int = 100_000, **settings: Any):
        self.heard: list[tuple[str, bytes]] = []
        self.sessions: list[bool] = []
        self.session = Session("mast", topics, bytearray(buffer), keepalive=settings.pop("keepalive", 30))
        make: type[Transport] = SocketTransport if kind == "socket" else AsyncTransport
        self.transport: Any = make(
            self.session,
            "127.0.0.1",
            port,
            lambda topic, payload: self.heard.append((topic, bytes(payload))),
            self.sessions.append,
            **settings,
        )
        self.loop = asyncio.new_event_loop() if kind == "async" else None

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self.call("close")
        if self.loop:
            self.loop.close()

    def call(self, name: str, *arguments: Any) -> None:
        done = getattr(self.transport, name)(*arguments)
        if self.loop:
            self.loop.run_until_complete(done)

    def until(self, what: Callable[[], Any], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, (self.heard, self.sessions)
            self.call("wait", 100)


@pytest.fixture(params=["socket", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    which: str = request.param
    return which


@pytest.fixture
def publisher(broker: MosquittoServer) -> Iterator[Device]:
    """Somebody else on the broker."""
    with Device("socket", broker.port, ["unused"]) as one:
        one.session._login = ("somebody", "", "")
        one.call("open")
        yield one


def test_a_file_comes_whole(kind: str, broker: MosquittoServer, responder: Responder) -> None:
    sink = MemorySink()
    fetch = Fetch(
        lambda record: Download("mast", "fw", 0, "token", now(), resume=record), sink, bytes.fromhex(SHA256)
    )
    session = Session("mast", fetch.machine.topics, bytearray(8192))
    link: tuple[Any, ...] = (session, broker.host, broker.port, fetch.message, fetch.session)
    if kind == "socket":
        run(fetch, SocketTransport(*link))
    else:
        asyncio.run(run_async(fetch, AsyncTransport(*link)))
    assert sink.data == CONTENT
    assert fetch.digest == hashlib.sha256(CONTENT).digest()
    assert session.oversize == 0


def test_tls(kind: str, mosquitto: MosquittoFactory, tmp_path: Path) -> None:
    certificate, key = certificate_for_loopback(tmp_path)
    broker = mosquitto(listener_lines=[f"cafile {certificate}", f"certfile {certificate}", f"keyfile {key}"])
    with Device(kind, broker.port, ["t"], tls=ssl.create_default_context(cafile=certificate)) as device:
        device.call("open")
        payload = os.urandom(90_000)
        device.transport.send("t", payload)
        device.until(lambda: device.heard)
        assert device.heard == [("t", payload)]
    with (
        Device(kind, broker.port, ["t"], tls=ssl.create_default_context()) as device,
        pytest.raises(BrokerUnreachable, match="certificate verify failed"),
    ):
        device.call("open")


def test_of_what_is_too_long_the_topic_is_told(kind: str, broker: MosquittoServer, publisher: Device) -> None:
    with Device(kind, broker.port, ["t"], buffer=1000) as device:
        device.call("open")
        for payload in (b"short", bytes(500_000), b"next"):
            publisher.transport.send("t", payload)
        publisher.call("wait", 0)
        device.until(lambda: len(device.heard) == 3)
        assert device.heard == [("t", b"short"), (TOO_LONG + "t", b"1000"), ("t", b"next")]
        assert device.session.oversize == 1


def test_a_long_message_to_a_broker_that_is_slow_to_take_it(kind: str) -> None:
    """It goes out whole, in as many writes as it takes."""
    payload = os.urandom(8_000_000)
    came = bytearray()

    def broker(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"\x20\x02\x00\x00\x90\x03\x00\x01\x00")
            while data := connection.recv(50_000):
                came.extend(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=broker, args=(server,))
        thread.start()
        with Device(kind, server.getsockname()[1], ["t"]) as device:
            device.call("open")
            device.transport.send("t", payload)
            device.call("wait", 0)
        thread.join(60)
    assert came.endswith(payload + b"\xe0\x00")


def test_a_broker_that_falls_silent_is_left_and_found_again(kind: str, broker: MosquittoServer) -> None:
    """Its process is stopped: connections stand, and nothing comes."""
    with Device(kind, broker.port, ["t"], keepalive=2) as device:
        device.call("open")
        broker.process.send_signal(signal.SIGSTOP)
        try:
            device.until(lambda: device.sessions == [True, False])
        finally:
            broker.process.send_signal(signal.SIGCONT)
        device.until(lambda: device.sessions == [True, False, True])
        device.transport.send("t", b"here again")
        device.until(lambda: device.heard)


def test_a_broker_that_is_idle_keeps_its_device(kind: str, broker: MosquittoServer) -> None:
    """Pings go out and are answered: three keepalives, one session."""
    with Device(kind, broker.port, ["t"], keepalive=2) as device:
        device.call("open")
        end = time.monotonic() + 6
        while time.monotonic() < end:
            device.call("wait", 1000)
        assert device.sessions == [True]


def test_nothing_listens(kind: str) -> None:
    port = free_port()
    with Device(kind, port, ["t"]) as device:
        with pytest.raises(BrokerUnreachable, match=f"cannot reach 127.0.0.1:{port}: "):
            device.call("open")
        assert device.sessions == []


def test_refused(kind: str) -> None:
    def broker(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"\x20\x02\x00\x00\x90\x03\x00\x01\x80")
            connection.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=broker, args=(server,))
        thread.start()
        with (
            Device(kind, server.getsockname()[1], ["t"]) as device,
            pytest.raises(SubscriptionRefused, match="grant t"),
        ):
            device.call("open")
        thread.join(60)


def test_a_broker_that_comes_and_goes(kind: str, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Device(kind, broker.port, ["t"]) as device:
        device.call("open")
        for _ in range(2):
            broker.kill()
            device.until(lambda: not device.sessions[-1])
            device.transport.send("t", b"lost: there is no session")
            broker.restart()
            device.until(lambda: device.sessions[-1])
        device.transport.send("t", b"kept")
        device.until(lambda: device.heard)
        assert device.heard == [("t", b"kept")]
        assert device.sessions == [True, False] * 2 + [True]
