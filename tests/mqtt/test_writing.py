"""What is written, in which order and how much of it, to scripted brokers on real sockets."""

import asyncio
import socket
from typing import Any

import pytest

from broker_bridge.mqtt import link, packets
from broker_bridge.mqtt.turn import Turn
from tests.mqtt.support import DATA, REJECTED, Peer, Recorder, connected, scripted_broker, until


def blocks(count: int, size: int = 4096, topic: str = DATA) -> Turn:
    return Turn(topic.encode(), b"prefix", [b"head%d" % i for i in range(count)], [bytes(size)] * count)


def topic_of(body: bytes) -> str:
    return body[2 : 2 + int.from_bytes(body[:2], "big")].decode()


def packet_id_of(body: bytes) -> bytes:
    start = 2 + int.from_bytes(body[:2], "big")
    return body[start : start + 2]


async def test_lost_connections_are_told_and_what_was_queued_is_dropped() -> None:
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        count += 1
        await peer.accept(b"\x20\x06\x00\x00\x03\x21\x00\x01")
        if count == 1:
            await peer.expect(0x32)  # one message, never acknowledged; the others wait behind it
            return
        assert await peer.reader.read() == b"\xe0\x00"

    handler = Recorder()
    async with scripted_broker(script) as url, connected(url, handler) as connection:
        assert [connection.publish(REJECTED, b"%d" % i) for i in range(3)] == [True] * 3
        await until(lambda: connection.stats.connects == 2, "the second connection")
        assert handler.events == ["connected", "disconnected", "connected"]
        assert connection.stats.control_dropped == 2
        assert connection.stats.failures == 1
        assert "closed the connection" in connection.stats.last_error
        # Nothing of before is sent to the new session: the script would see it.
    assert handler.events[-1] == "disconnected"


async def test_what_became_of_a_message_is_told() -> None:
    """Acknowledged, too long for this broker, or lost with its connection, sent or not."""
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        count += 1
        # A window of 2 messages, and no packet over 200 bytes.
        await peer.accept(b"\x20\x0b\x00\x00\x08\x21\x00\x02\x27\x00\x00\x00\xc8")
        if count == 1:
            first = packet_id_of(await peer.expect(0x32))
            await peer.expect(0x32)
            peer.send(b"\x40\x02" + first)
            await peer.expect(0x32)
            return
        await peer.reader.read()

    told: list[tuple[str, bool]] = []
    handler = Recorder()
    async with scripted_broker(script) as url, connected(url, handler) as connection:
        for name in ("acknowledged", "sent", "sent too", "waits", "long"):
            payload = bytes(300) if name == "long" else b"{}"
            assert connection.publish(REJECTED, payload, lambda taken, name=name: told.append((name, taken)))  # type: ignore[misc]
        await until(lambda: len(told) == 5, "what became of all of them")
        assert told == [
            ("acknowledged", True),
            *((name, False) for name in ("sent", "sent too", "waits", "long")),
        ]
        await until(lambda: connection.stats.connects == 2, "the second connection")
        assert connection.publish(REJECTED, bytes(300), lambda taken: told.append(("long", taken)))
        await until(
            lambda: told[5:] == [("long", True)], "the end of what this broker takes in no connection"
        )


async def test_the_control_queue_is_bounded() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(b"\x20\x06\x00\x00\x03\x21\x00\x01")
        await peer.reader.read()

    async with scripted_broker(script) as url, connected(url, Recorder(), control_limit=10) as connection:
        taken = [connection.publish(REJECTED, b"{}") for _ in range(15)]
        assert taken == [True] * 10 + [False] * 5
        assert connection.stats.control_dropped == 5


@pytest.mark.parametrize(("receive_maximum", "window", "for_data"), [(None, 20, 16), (6, 6, 3), (1, 1, 1)])
async def test_the_window_of_qos_1(receive_maximum: int | None, window: int, for_data: int) -> None:
    """Data stops short of the window, control fills it, and never is more than the window unacknowledged."""
    properties = b"" if receive_maximum is None else b"\x21" + receive_maximum.to_bytes(2, "big")
    handler = Recorder()
    arrived: list[tuple[str, bytes]] = []
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept(bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties)
        acknowledged = 0

        async def read() -> None:
            while True:
                first, body = await peer.packet()
                if first == 0xE0:
                    return
                assert first == 0x32
                arrived.append((topic_of(body), packet_id_of(body)))
                assert len(arrived) - acknowledged <= window

        reading = asyncio.create_task(read())
        await release.wait()
        while not reading.done():
            while acknowledged < len(arrived):
                acknowledged += 1
                peer.send(b"\x40\x02" + arrived[acknowledged - 1][1])
            await asyncio.sleep(0.001)
        await reading

    async with scripted_broker(script) as url, connected(url, handler, data_qos=1) as connection:
        handler.turns.append(blocks(100, 100))
        connection.wake()
        await until(lambda: len(arrived) >= for_data, "data")
        for _ in range(30):
            assert connection.publish(REJECTED, b"{}")
        await until(lambda: len(arrived) >= window, "control beside it")
        assert [topic for topic, _ in arrived] == [DATA] * for_data + [REJECTED] * (window - for_data)
        release.set()
        await until(lambda: len(arrived) == 130, "all")
        # Control did not wait for data to end.
        assert max(i for i, (topic, _) in enumerate(arrived) if topic == REJECTED) < 129
        assert all(0 < asked <= for_data for asked in handler.asked)


async def test_reads_go_on_while_the_broker_reads_nothing_and_control_overtakes_data() -> None:
    handler = Recorder()
    resume = asyncio.Event()
    seen: list[tuple[int, str]] = []
    get = "$aws/things/t/streams/s/get/cbor"
    incoming = packets.encode_publish_start(5, get.encode(), 0, 100) + bytes(100)
    acknowledged = packets.encode_publish_start(5, get.encode(), 9, 100) + bytes(100)

    async def script(peer: Peer) -> None:
        transport: Any = peer.writer.transport
        await peer.accept()
        transport.pause_reading()
        await until(lambda: connection._link is not None and connection._link._paused, "a full socket")
        for _ in range(2000):
            peer.send(incoming)
        peer.send(acknowledged)
        await resume.wait()
        transport.resume_reading()
        while True:
            first, body = await peer.packet()
            if first == 0xE0:
                return
            seen.append((first, topic_of(body) if first >> 4 == 3 else ""))

    async with scripted_broker(script) as url, connected(url, handler, ready=False) as connection:
        await connection.wait_ready(30)
        for _ in range(400):
            handler.turns.append(blocks(16, 4096))
        connection.wake()
        await until(lambda: len(handler.messages) == 2001, "what the broker sends, though it reads nothing")
        waiting = len(handler.turns)
        assert waiting > 0
        assert connection.publish(REJECTED, b"{}")
        await asyncio.sleep(0.05)
        assert len(handler.turns) == waiting  # nothing more is taken from delivery meanwhile
        handed_over = connection.stats.data_written
        resume.set()
        await until(lambda: len(seen) == 400 * 16 + 2, "everything")
        order = [first for first, _ in seen]
        assert seen[order.index(0x32)][1] == REJECTED
        # Behind no more data than had been handed over, and the acknowledgement first of all.
        assert order.index(0x40) == handed_over
        assert order.index(0x32) == handed_over + 1


async def test_what_is_handed_over_is_small() -> None:
    """Unread by the peer, no more is taken from delivery than the socket's buffers and one batch hold."""
    handler = Recorder()

    async def script(peer: Peer) -> None:
        transport: Any = peer.writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await peer.accept()
        transport.pause_reading()
        await asyncio.sleep(3600)

    async with scripted_broker(script) as url, connected(url, handler) as connection:
        for _ in range(1000):
            handler.turns.append(blocks(32, 4096))
        connection.wake()
        await until(lambda: connection._link is not None and connection._link._paused, "a full socket")
        assert connection._link is not None
        assert connection._link._transport is not None
        held = connection._link._transport.get_write_buffer_size()
        assert held <= link.BATCH_BYTES + 33 * 4200


async def test_a_broker_that_sends_but_never_reads_is_left() -> None:
    handler = Recorder()
    start = packets.encode_publish_start(5, b"$aws/things/t/streams/s/get/cbor", 9, 0)

    async def script(peer: Peer) -> None:
        transport: Any = peer.writer.transport
        await peer.accept()
        transport.pause_reading()
        await until(lambda: connection._link is not None and connection._link._paused, "a full socket")
        while True:
            peer.send(start * 1000)
            await peer.writer.drain()

    async with (
        scripted_broker(script) as url,
        connected(url, handler, ready=False, backoff=(60, 60)) as connection,
    ):
        await connection.wait_ready(30)
        for _ in range(400):
            handler.turns.append(blocks(16, 4096))
        connection.wake()
        await until(lambda: connection.stats.failures, "the end")
        assert "sends but does not read" in connection.stats.last_error


async def test_messages_over_the_brokers_packet_size_are_not_sent() -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept(b"\x20\x08\x00\x00\x05\x27\x00\x00\x04\x00")
        while True:
            first, body = await peer.packet()
            if first == 0xE0:
                return
            sizes.append(len(body))

    handler = Recorder()
    async with scripted_broker(script) as url, connected(url, handler) as connection:
        handler.turns += [blocks(3, 2000), blocks(2, 500)]
        connection.wake()
        connection.publish(REJECTED, bytes(2000))
        await until(lambda: len(sizes) == 2, "the small ones")
        assert max(sizes) < 1024
        assert connection.stats.too_large == 4
        assert connection.stats.data_written == 2


async def test_close_finishes_what_is_in_hand() -> None:
    got: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            first, body = await peer.packet()
            got.append(first)
            if first == 0x32:
                peer.send(b"\x40\x02" + packet_id_of(body))
            if first == 0xE0:
                return

    handler = Recorder()
    async with scripted_broker(script) as url:
        async with connected(url, handler, ready=False) as connection:
            await connection.wait_ready(30)
            for _ in range(50):
                handler.turns.append(blocks(16, 4096))
                connection.publish(REJECTED, b"{}")
            await connection.close(drain=30)
        await until(lambda: got and got[-1] == 0xE0, "DISCONNECT")
    assert got.count(0x30) == 800
    assert got.count(0x32) == 50


async def test_close_is_bounded_where_nobody_reads() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        transport: Any = peer.writer.transport
        transport.pause_reading()
        await asyncio.sleep(3600)

    handler = Recorder()
    async with scripted_broker(script) as url, connected(url, handler, ready=False) as connection:
        await connection.wait_ready(30)
        for _ in range(1000):
            handler.turns.append(blocks(32, 4096))
        connection.wake()
        await asyncio.wait_for(connection.close(drain=0.3), 20)
        assert handler.turns


async def test_a_handler_that_fails_does_not_end_the_connection() -> None:
    class Stumbling(Recorder):
        def received(self, topic: str, payload: bytes, size: int) -> None:
            super().received(topic, payload, size)
            if payload == b"bad":
                raise RuntimeError("a bug")

        def next_turn(self, max_messages: int) -> Turn | None:
            if len(self.messages) == 1:
                raise RuntimeError("another")
            return super().next_turn(max_messages)

    async def script(peer: Peer) -> None:
        await peer.accept()
        for payload in (b"bad", b"good"):
            peer.send(packets.encode_publish_start(5, b"a/b", 0, len(payload)) + payload)
            await asyncio.sleep(0.02)
        await peer.reader.read()

    handler = Stumbling()
    async with scripted_broker(script) as url, connected(url, handler) as connection:
        await until(lambda: len(handler.messages) == 2, "the second message")
        assert connection.stats.failures == 0
