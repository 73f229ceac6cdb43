"""PUBLISH packets through a real Mosquitto: our connection with ready turns, beside a bare loop of `sendmsg`.

As a program (`benchmarks.rig.Program`): the `role` `ours`, `bare` or `drain`, one process of a figure.
"""

import asyncio
import json
import logging
import statistics
import sys
import time

import structlog
import uvloop

from benchmarks.report import Row
from benchmarks.rig import Program, Workshop, workshop
from benchmarks.wire import connected
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.packets import V311, encode_publish_start
from broker_bridge.mqtt.turn import Turn

TOPIC = "$aws/things/bench/streams/bench/data/cbor"
PREFIX, HEAD = b"\xa5\x61\x63\x63rdy", b"\x61f\x00\x61l\x19\x10\x00\x61i\x19\x00\x00\x61p\x59\x10\x00"
REQUEST_BYTES = 131072
# Payload bytes, messages: about a second each.
FIGURES = ((256, 100_000), (4096, 80_000), (16384, 40_000), (131072, 10_000))
ROUNDS = 3


def run(quick: bool) -> list[Row]:
    """A row for each size; medians of alternating pairs."""
    rows = []
    with workshop(0) as shop:
        for size, count in FIGURES:
            count //= 5 if quick else 1
            rounds = 1 if quick else ROUNDS
            pairs = [
                (_figure(shop, "bare", size, count), _figure(shop, "ours", size, count))
                for _ in range(rounds)
            ]
            bare, ours = (
                [statistics.median(numbers) for numbers in zip(*side, strict=True)]
                for side in zip(*pairs, strict=True)
            )
            rows.append(
                Row(
                    f"our connection's PUBLISH packets of {size} bytes",
                    ours[0],
                    "messages/s",
                    bare[0],
                    note=f"{ours[0] / bare[0]:.2f} of bare; CPU s/GB {ours[1]:.2f}, bare {bare[1]:.2f}",
                )
            )
    return rows


def _figure(shop: Workshop, writer: str, size: int, count: int) -> tuple[float, float]:
    """Messages per second at the subscriber, and the writer's CPU seconds per GB, through a fresh broker."""
    # Unbounded, so that what is measured is all that was written.
    with shop.broker("max_queued_messages 0") as broker:
        spec = {"host": broker.host, "port": broker.port, "size": size, "count": count}
        with (
            Program("writer", role="drain", **spec) as drain,
            Program("writer", role=writer, **spec) as source,
        ):
            cpu = source.ask("go", 300)["cpu"]
            seconds = drain.ask("how long", 300)["seconds"]
    return count / seconds, cpu / (size * count / 1e9)


class Ready:
    """A handler that always has the next turn, as many blocks as answer one request."""

    def __init__(self, size: int, count: int) -> None:
        payload = memoryview(bytes(size))
        self.left = count
        count = REQUEST_BYTES // size
        self.heads, self.bodies = [HEAD] * count, [payload] * count

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def received(self, topic: str, payload: bytes, size: int) -> None: ...

    def next_turn(self, max_messages: int) -> Turn | None:
        count = min(self.left, max_messages, len(self.heads))
        self.left -= count
        return Turn(TOPIC.encode(), PREFIX, self.heads[:count], self.bodies[:count]) if count else None


async def _ours(host: str, port: int, size: int, count: int) -> None:
    handler = Ready(size, 0)
    connection = Connection(
        BrokerAddress(host, port), handler, subscriptions=[("unused", 1)], client_id="writer"
    )
    running = asyncio.create_task(connection.run())
    await connection.wait_ready(10)
    print("{}", flush=True)
    sys.stdin.readline()
    begin = time.process_time()
    handler.left = count
    await connection.close(drain=300)
    await running
    assert connection.stats.data_written == count
    print(json.dumps({"cpu": time.process_time() - begin}), flush=True)


def _bare(host: str, port: int, size: int, count: int) -> None:
    link = connected(host, port, "bare", "unused")
    payload = memoryview(bytes(size))
    start = encode_publish_start(V311, TOPIC.encode(), 0, len(PREFIX) + len(HEAD) + size) + PREFIX + HEAD
    print("{}", flush=True)
    sys.stdin.readline()
    begin = time.process_time()
    for _ in range(count):
        if link.sendmsg([start, payload]) != len(start) + size:
            raise RuntimeError("a blocking sendmsg sent less than it was given")
    print(json.dumps({"cpu": time.process_time() - begin}), flush=True)
    link.sendall(b"\xe0\x00")
    # Closed by the broker, once it has read all.
    link.recv(1)


def _drain(host: str, port: int, size: int, count: int) -> None:
    link = connected(host, port, "drain", TOPIC)
    print("{}", flush=True)
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
    seconds = time.perf_counter() - begin
    sys.stdin.readline()
    print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    role, numbers = spec.pop("role"), spec
    if role == "ours":
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        uvloop.run(_ours(**numbers))
    else:
        {"bare": _bare, "drain": _drain}[role](**numbers)
