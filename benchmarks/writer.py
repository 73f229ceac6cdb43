"""PUBLISH packets through a real Mosquitto: our connection with ready turns, beside a bare loop of `sendmsg`.

As a program: `python -m benchmarks.writer ours|bare|drain HOST PORT SIZE COUNT`, one process of a figure.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog
import uvloop

from benchmarks.rig import STEADY_MALLOC
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.packets import V311, encode_connect, encode_publish_start, encode_subscribe
from broker_bridge.mqtt.turn import Turn
from tests.support.mosquitto import MosquittoServer

TOPIC = "$aws/things/bench/streams/bench/data/cbor"
PREFIX, HEAD = b"\xa5\x61\x63\x63rdy", b"\x61f\x00\x61l\x19\x10\x00\x61i\x19\x00\x00\x61p\x59\x10\x00"
REQUEST_BYTES = 131072
# Payload bytes, messages: about a second each.
FIGURES = ((256, 100_000), (4096, 80_000), (16384, 40_000), (131072, 10_000))
ROUNDS = 3


def run() -> list[dict[str, object]]:
    """A row for each size: of pairs that ran one after the other, the one with the median ratio."""
    os.environ.update(STEADY_MALLOC)
    rows: list[dict[str, object]] = []
    for size, count in FIGURES:
        pairs = [(_figure("bare", size, count), _figure("ours", size, count)) for _ in range(ROUNDS)]
        bare, ours = sorted(pairs, key=lambda pair: pair[1][0] / pair[0][0])[ROUNDS // 2]
        rows.append(
            {
                "block": size,
                "bare messages/s": round(bare[0]),
                "ours messages/s": round(ours[0]),
                "ratio": round(ours[0] / bare[0], 2),
                "bare CPU s/GB": round(bare[1], 2),
                "ours CPU s/GB": round(ours[1], 2),
            }
        )
    return rows


def _figure(writer: str, size: int, count: int) -> tuple[float, float]:
    """Messages per second at the subscriber, and the writer's CPU seconds per GB, through a fresh broker."""
    with tempfile.TemporaryDirectory() as folder:
        # Unbounded, so that what is measured is all that was written.
        broker = MosquittoServer(Path(folder), "max_queued_messages 0")
        try:
            rest = [broker.host, str(broker.port), str(size), str(count)]
            command = [sys.executable, "-m", "benchmarks.writer"]
            with (
                subprocess.Popen([*command, "drain", *rest], stdout=subprocess.PIPE, text=True) as drain,
                subprocess.Popen(
                    [*command, writer, *rest], stdout=subprocess.PIPE, stdin=subprocess.PIPE
                ) as source,
            ):
                assert drain.stdout is not None
                drain.stdout.readline()
                report = json.loads(source.communicate(b"go\n", timeout=300)[0])
                seconds = float(drain.stdout.readline())
        finally:
            broker.close()
    return count / seconds, report["cpu"] / (size * count / 1e9)


class Ready:
    """A handler that always has the next turn, as many blocks as answer one request."""

    def __init__(self, size: int, count: int) -> None:
        payload = memoryview(bytes(size))
        self.left = count
        self.blocks: list[tuple[bytes, bytes | memoryview]] = [(HEAD, payload)] * (REQUEST_BYTES // size)

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def received(self, topic: str, payload: bytes, size: int) -> None: ...

    def next_turn(self, max_messages: int) -> Turn | None:
        count = min(self.left, max_messages, len(self.blocks))
        self.left -= count
        return Turn(TOPIC.encode(), PREFIX, self.blocks[:count]) if count else None


async def _ours(host: str, port: int, size: int, count: int) -> None:
    handler = Ready(size, 0)
    connection = Connection(
        BrokerAddress(host, port), handler, subscriptions=[("unused", 1)], client_id="writer"
    )
    running = asyncio.create_task(connection.run())
    await connection.wait_ready(10)
    sys.stdin.readline()
    begin = time.process_time()
    handler.left = count
    await connection.close(drain=300)
    await running
    assert connection.stats.data_written == count
    print(json.dumps({"cpu": time.process_time() - begin}))


def _session(host: str, port: int, name: str) -> socket.socket:
    link = socket.create_connection((host, port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(encode_connect(V311, name, 600))
    link.recv(4, socket.MSG_WAITALL)
    return link


def _bare(host: str, port: int, size: int, count: int) -> None:
    link = _session(host, port, "bare")
    payload = memoryview(bytes(size))
    start = encode_publish_start(V311, TOPIC.encode(), 0, len(PREFIX) + len(HEAD) + size) + PREFIX + HEAD
    sys.stdin.readline()
    begin = time.process_time()
    for _ in range(count):
        if link.sendmsg([start, payload]) != len(start) + size:
            raise RuntimeError("a blocking sendmsg sent less than it was given")
    print(json.dumps({"cpu": time.process_time() - begin}))
    link.sendall(b"\xe0\x00")
    # Closed by the broker, once it has read all.
    link.recv(1)


def _drain(host: str, port: int, size: int, count: int) -> None:
    link = _session(host, port, "drain")
    link.sendall(encode_subscribe(V311, 1, [(TOPIC, 0)]))
    link.recv(5, socket.MSG_WAITALL)
    print("subscribed", flush=True)
    payload_size = len(PREFIX) + len(HEAD) + size
    left = count * (len(encode_publish_start(V311, TOPIC.encode(), 0, payload_size)) + payload_size)
    buffer = bytearray(1 << 20)
    left -= link.recv_into(buffer)
    begin = time.perf_counter()
    while left:
        received = link.recv_into(buffer)
        if not received:
            raise RuntimeError(f"the broker closed the connection with {left} bytes to come")
        left -= received
    print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    role, address, *numbers = sys.argv[1:]
    arguments = (address, *map(int, numbers))
    if role == "ours":
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        uvloop.run(_ours(*arguments))  # type: ignore[arg-type]
    else:
        {"bare": _bare, "drain": _drain}[role](*arguments)  # type: ignore[arg-type]
