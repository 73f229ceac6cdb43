"""The relay between real clients and a real Mosquitto, and a whole download through bad Wi-Fi."""

import hashlib
import queue
import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from device_client.client import MemorySink, download
from firmware_sim.links.model import Link, LinkProfile, Way
from firmware_sim.links.profiles import find
from firmware_sim.links.relay import Relay, RelayThread
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service, sluice
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import free_port, wait_until

TOPIC = "$aws/things/t/streams/s/data/cbor"
V311, V5 = MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5
END = b"end"
CONNECT, PINGREQ = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04mast", b"\xc0\x00"
SECONDS = 60


class Connected:
    """A paho client in a thread of its own, connected for the time of a `with`."""

    def __init__(
        self, port: int, protocol: MQTTProtocolVersion = V311, subscribe: int | None = None, will: str = ""
    ) -> None:
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=protocol, reconnect_on_failure=False)
        self.heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._qos = subscribe
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self.ready.put(True)
        self.client.on_message = self._message
        self.client.on_disconnect = lambda *_: self.lost.put(True)
        if will:
            self.client.will_set(will, b"gone", qos=1)
        self.client.connect("127.0.0.1", port)

    def _connected(self, *_: Any) -> None:
        if self._qos is None:
            self.ready.put(True)
        else:
            self.client.subscribe([(TOPIC, self._qos), ("will", 1)])

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self.heard.put((message.topic, bytes(message.payload)))

    def __enter__(self) -> "Connected":
        self.client.loop_start()
        self.ready.get(timeout=SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, payload: bytes, qos: int = 0) -> None:
        self.client.publish(TOPIC, payload, qos)

    def next(self) -> tuple[str, bytes]:
        return self.heard.get(timeout=SECONDS)

    def until_end(self) -> list[bytes]:
        """The payloads heard before END."""
        seen = []
        while (payload := self.next()[1]) != END:
            seen.append(payload)
        return seen


@pytest.fixture
def broker(mosquitto: MosquittoFactory) -> MosquittoServer:
    return mosquitto("max_queued_messages 0")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def relaying(stack: ExitStack, broker: MosquittoServer, profile: LinkProfile, **settings: Any) -> RelayThread:
    return stack.enter_context(RelayThread(Relay(broker.host, broker.port, profile, **settings)))


def fates(profile: LinkProfile, seed: int, connection: int, count: int) -> list[bytes]:
    """What arrives of messages 0 to count - 1 by the model, without reordering."""
    up = Link(profile, seed, connection).up
    return [b"%d" % index for index in range(count) for _ in up.send(0, 1, droppable=True)]


class TestChances:
    @pytest.mark.parametrize("protocol", [V311, V5])
    def test_qos_0_is_lost_and_doubled_as_the_model_says(
        self, broker: MosquittoServer, stack: ExitStack, protocol: MQTTProtocolVersion
    ) -> None:
        profile = LinkProfile(name="lossy", up=Way(loss=0.1, duplicate=0.05))
        relay = relaying(stack, broker, profile, seed=3)
        listener = stack.enter_context(Connected(broker.port, subscribe=1))
        count, lost, doubled = 1000, 0, 0
        for connection in range(2):
            with Connected(relay.port, protocol) as sender:
                for index in range(count):
                    sender.publish(b"%d" % index)
                sender.publish(END, qos=1)
                expected = fates(profile, 3, connection, count)
                assert listener.until_end() == expected
                lost += count - len(set(expected))
                doubled += len(expected) - len(set(expected))
        counts = relay.counts()
        assert (counts.up.lost, counts.up.duplicated, counts.down.lost) == (lost, doubled, 0)
        assert 140 < lost < 260
        assert fates(profile, 3, 0, count) != fates(profile, 3, 1, count)

    def test_qos_1_is_never_lost_doubled_or_out_of_order(
        self, broker: MosquittoServer, stack: ExitStack
    ) -> None:
        worst = Way(loss=1, duplicate=1, reorder=1, jitter=5)
        relay = relaying(stack, broker, LinkProfile(name="worst", up=worst, down=worst))
        listener = stack.enter_context(Connected(relay.port, subscribe=1))
        sender = stack.enter_context(Connected(relay.port))
        for index in range(200):
            sender.publish(b"lost", qos=0)
            sender.publish(b"%d" % index, qos=1)
        sender.publish(END, qos=1)
        assert listener.until_end() == [b"%d" % index for index in range(200)]
        assert relay.counts().up.lost == 200

    def test_held_back_messages_are_overtaken(self, broker: MosquittoServer, stack: ExitStack) -> None:
        profile = LinkProfile(name="shuffled", up=Way(reorder=0.2, reorder_by=1500))
        relay = relaying(stack, broker, profile)
        listener = stack.enter_context(Connected(broker.port, subscribe=0))
        sender = stack.enter_context(Connected(relay.port))
        sent = [b"%03d" % index for index in range(200)]
        for payload in sent:
            sender.publish(payload)
        heard = [listener.next()[1] for _ in sent]
        assert heard != sent
        assert sorted(heard) == sent
        assert 15 < relay.counts().up.reordered < 70

    def test_who_overtakes_does_not_wait_for_the_overtaken(
        self, broker: MosquittoServer, stack: ExitStack
    ) -> None:
        profile = LinkProfile(name="held", up=Way(reorder=1, reorder_by=60_000))
        relay = relaying(stack, broker, profile)
        listener = stack.enter_context(Connected(broker.port, subscribe=1))
        sender = stack.enter_context(Connected(relay.port))
        begun = time.monotonic()
        sender.publish(b"held back")
        wait_until(lambda: relay.counts().up.reordered == 1, what="the message in the relay")
        sender.publish(END, qos=1)
        assert listener.until_end() == []
        assert time.monotonic() - begun < 50


class TestTime:
    def test_nothing_comes_earlier_than_the_delay_of_both_ways(
        self, broker: MosquittoServer, stack: ExitStack
    ) -> None:
        profile = LinkProfile(name="far", up=Way(delay=150), down=Way(delay=100))
        relay = relaying(stack, broker, profile)
        device = stack.enter_context(Connected(relay.port, subscribe=0))
        for _ in range(3):
            begun = time.monotonic()
            device.publish(b"there and back")
            assert device.next() == (TOPIC, b"there and back")
            assert time.monotonic() - begun >= 0.250

    def test_what_a_broker_says_before_it_closes_arrives(
        self, mosquitto: MosquittoFactory, stack: ExitStack
    ) -> None:
        relay = relaying(
            stack, mosquitto("allow_anonymous false"), LinkProfile(name="far", down=Way(delay=1000))
        )
        device = stack.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=SECONDS))
        device.sendall(CONNECT)
        for _ in range(10):  # to a broker that has closed, so that this way is over before the other
            time.sleep(0.02)
            device.sendall(PINGREQ)
        assert device.recv(4, socket.MSG_WAITALL) == b"\x20\x02\x00\x05"  # not authorized
        with suppress(ConnectionResetError):  # as from any server that closes with something unread
            assert device.recv(1) == b""

    def test_bytes_take_their_time(self, broker: MosquittoServer, stack: ExitStack) -> None:
        # A queue of four messages: what is read on is read in the time of the link.
        profile = LinkProfile(name="thin", down=Way(rate=100_000), queue=4096)
        relay = relaying(stack, broker, profile)
        device = stack.enter_context(Connected(relay.port, subscribe=0))
        sender = stack.enter_context(Connected(broker.port))
        begun = time.monotonic()
        for _ in range(60):
            sender.publish(bytes(1000))
        sender.publish(END, qos=1)
        assert device.until_end() == [bytes(1000)] * 60
        assert time.monotonic() - begun >= 0.6

    def test_what_was_sent_before_a_close_arrives(self, broker: MosquittoServer, stack: ExitStack) -> None:
        relay = relaying(stack, broker, LinkProfile(name="far", up=Way(delay=300)))
        listener = stack.enter_context(Connected(broker.port, subscribe=1))
        with Connected(relay.port, will="will") as device:
            device.publish(b"last words")
        # DISCONNECT comes through, too: nothing is to be heard of a will.
        wait_until(lambda: relay.counts().open == 0, what="the end of the connection")
        assert listener.next() == (TOPIC, b"last words")
        stack.enter_context(Connected(broker.port)).publish(END, qos=1)
        assert listener.until_end() == []


class TestCuts:
    def test_by_command_and_the_device_connects_again(
        self, broker: MosquittoServer, stack: ExitStack
    ) -> None:
        relay = relaying(stack, broker, LinkProfile(name="far", up=Way(delay=200)))
        listener = stack.enter_context(Connected(broker.port, subscribe=1))
        device = stack.enter_context(Connected(relay.port, will="will"))
        device.publish(b"under way")
        wait_until(lambda: relay.counts().up.messages == 2, what="the message in the relay")
        assert relay.cut() == 1
        device.lost.get(timeout=SECONDS)
        heard = listener.next()
        if heard == (TOPIC, b"under way"):  # the relay was late in being cut, and not the message in coming
            heard = listener.next()
        assert heard == ("will", b"gone")
        device.client.loop_stop()
        device.client.reconnect()
        with device:
            device.publish(END)
            assert listener.until_end() == []
            counts = relay.counts()
            assert (counts.connections, counts.open, counts.cuts) == (2, 1, 1)
        wait_until(lambda: relay.counts().open == 0, what="the end of the connection")
        assert (relay.cut(), relay.counts().cuts) == (0, 1)

    def test_they_are_resets(self, broker: MosquittoServer, stack: ExitStack) -> None:
        relay = relaying(stack, broker, find("perfect"))
        device = stack.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=SECONDS))
        device.sendall(CONNECT)
        assert device.recv(4, socket.MSG_WAITALL) == b"\x20\x02\x00\x00"
        relay.cut()
        with pytest.raises(ConnectionResetError):
            device.recv(1)

    def test_by_the_profile(self, broker: MosquittoServer, stack: ExitStack) -> None:
        profile = LinkProfile(name="brief", disconnect_every=0.5)
        relay = relaying(stack, broker, profile, seed=1)
        begun = time.monotonic()
        device = Connected(relay.port)
        device.client.loop_start()
        device.lost.get(timeout=SECONDS)
        assert time.monotonic() - begun >= Link(profile, 1, 0).ends
        wait_until(lambda: relay.counts().open == 0, what="the end of the connection")
        assert relay.counts().cuts == 1
        device.client.loop_stop()

    def test_the_end_of_the_relay_ends_its_connections(self, broker: MosquittoServer) -> None:
        with RelayThread(Relay(broker.host, broker.port, find("perfect"))) as relay:
            device = Connected(relay.port).__enter__()
        device.lost.get(timeout=SECONDS)
        device.client.loop_stop()
        assert (relay.counts().connections, relay.counts().open, relay.counts().cuts) == (1, 0, 0)


class TestBounds:
    @pytest.mark.parametrize("qos", [0, 1])
    def test_no_more_is_read_than_the_queue_holds(
        self, broker: MosquittoServer, stack: ExitStack, qos: int
    ) -> None:
        # What is lost stands in line for the wire like all else.
        profile = LinkProfile(name="full", up=Way(rate=1, loss=1), queue=4096)
        relay = relaying(stack, broker, profile)
        device = stack.enter_context(socket.create_connection(("127.0.0.1", relay.port)))
        publish = bytes([0x30 | qos << 1]) + b"\xe5\x07\x00\x01t" + b"\x00\x07" * qos
        publish += bytes(1000 - len(publish))
        device.sendall(CONNECT + publish * 200)
        wait_until(lambda: relay.counts().up.messages == 5, what="CONNECT and four messages")
        for _ in range(200):  # turns of the relay's loop, in which it would read on
            assert relay.counts().up.bytes == len(CONNECT) + 4000

    def test_a_message_longer_than_the_queue_passes(self, broker: MosquittoServer, stack: ExitStack) -> None:
        relay = relaying(stack, broker, LinkProfile(name="small", queue=1024))
        device = stack.enter_context(Connected(relay.port, subscribe=0))
        for size in (100_000, 10, 100_000):
            device.publish(bytes(size))
            assert device.next() == (TOPIC, bytes(size))

    def test_a_packet_over_the_bound_ends_its_connection_alone(
        self, broker: MosquittoServer, stack: ExitStack
    ) -> None:
        relay = relaying(stack, broker, find("perfect"), largest_packet=2000)
        other = stack.enter_context(Connected(relay.port, subscribe=0))
        device = stack.enter_context(Connected(relay.port))
        device.publish(bytes(100))
        device.publish(bytes(2000))
        device.lost.get(timeout=SECONDS)
        assert other.next() == (TOPIC, bytes(100))
        assert (relay.counts().malformed, relay.counts().open) == (1, 1)

    def test_tls_is_not_relayed(self, broker: MosquittoServer, stack: ExitStack) -> None:
        relay = relaying(stack, broker, find("perfect"))
        device = socket.create_connection(("127.0.0.1", relay.port))
        context = ssl.create_default_context()
        with device, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(device, server_hostname="localhost")
        wait_until(lambda: relay.counts().malformed == 1, what="the refusal")

    def test_a_broker_that_is_not_there(self, broker: MosquittoServer, stack: ExitStack) -> None:
        relay = stack.enter_context(RelayThread(Relay("127.0.0.1", free_port(), find("perfect"))))
        device = stack.enter_context(socket.create_connection(("127.0.0.1", relay.port)))
        assert device.recv(1) == b""
        assert (relay.counts().refused, relay.counts().connections) == (1, 0)

    def test_a_port_that_is_taken(self, broker: MosquittoServer) -> None:
        with pytest.raises(OSError), RelayThread(Relay("127.0.0.1", 1, find("perfect"), port=broker.port)):
            pass


def test_the_door_of_the_command_line(broker: MosquittoServer) -> None:
    program = f"""
from firmware_sim.links.profiles import find
from firmware_sim.links.relay import serve
print(serve("127.0.0.1", {broker.port}, find("perfect"), ready=lambda port: print(port, flush=True)))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with Connected(int(process.stdout.readline()), subscribe=0) as device:
            device.publish(b"there and back")
            assert device.next() == (TOPIC, b"there and back")
        process.terminate()
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0
    assert said.startswith("RelayCounts(connections=1, open=0,")


def test_a_download_through_bad_wifi_is_exact(
    tmp_path: Path, broker: MosquittoServer, stack: ExitStack
) -> None:
    data = random.Random(4).randbytes(400_001)
    (tmp_path / "fw.bin").write_bytes(data)
    service = stack.enter_context(Service(tmp_path, "--broker", broker.url))
    flags = ["--stream", "fw", "--http", service.http, "--state", service.state]
    published = sluice(["publish", "fw.bin", *flags], tmp_path)
    assert published.returncode == 0, published.stderr
    relay = relaying(stack, broker, find("bad-wifi"), seed=2)
    cuts: list[int] = []

    def progress(held: int, size: int) -> None:
        if not cuts and held > size // 3:
            cuts.append(relay.cut())

    sink = MemorySink()
    result = download(
        f"mqtt://127.0.0.1:{relay.port}",
        thing="mast-17",
        stream="fw",
        out=sink,
        sha256=hashlib.sha256(data).hexdigest(),
        progress=progress,
        patience=SECONDS,
    )
    assert bytes(sink.data) == data
    assert result.size == len(data)
    counts = relay.counts()
    assert cuts == [1]
    assert counts.connections >= 2
    assert counts.down.lost > 0
