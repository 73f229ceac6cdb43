"""How long an idle device waits for one block while 500 others download, beside a bare echo at that broker.

As a program (`benchmarks.rig.Program`): `probe` and `echo`, the two ends.
"""

import itertools
import json
import random
import socket
import statistics
import sys
import time

from benchmarks.report import Goal, Row
from benchmarks.rig import STREAM, Program, workshop
from benchmarks.wire import asked, block, connected, get_payload, message_start, published
from chunker.topics import CBOR

BLOCK_SIZE = 4096
SIZE = 1 << 20
IDLE = 100
"""Idle devices, of which each asks for a block every few seconds."""
PAUSE_SECONDS = (0.002, 0.010)
"""Between two requests: at random, so as not to fall into step with anything."""
ECHO = "bench/echo", "bench/echoed"
GOAL_MS = 20.0


def run(quick: bool) -> list[Row]:
    """The 99th percentile, how far it is above the echo's, and that of a device that is not quite idle."""
    devices, seconds = (50, 3) if quick else (500, 20)
    with workshop(SIZE) as shop, shop.broker() as broker, shop.service(broker.url):
        at = {"host": broker.host, "port": broker.port}
        loop = {"stream": STREAM, "size": SIZE, "block_size": BLOCK_SIZE, "plan": "loop"}
        with (
            Program("fleet", **at, **loop, devices=devices) as fleet,
            Program("latency", **at, role="echo"),
            Program("latency", **at, role="probe") as probe,
        ):
            fleet.ask("go")
            time.sleep(1)
            began = fleet.ask("count")
            found = probe.ask(str(seconds), seconds + 60)
            ended = fleet.ask("count")
    if ended["failed"]:
        raise AssertionError(f"devices failed: {ended['failed']}")
    rate = (ended["blocks"] - began["blocks"]) / (ended["at"] - began["at"])
    waits = {side: [1000 * wait for wait in found[side]] for side in ("idle", "steady", "echo")}
    tail = {side: _percentile(waits[side]) for side in waits}
    median = {side: statistics.median(waits[side]) for side in waits}
    what = f"one block while {devices} others download, 99th percentile: "
    return [
        Row(
            what + "an idle device",
            tail["idle"],
            "ms",
            tail["echo"],
            Goal("<=", GOAL_MS, "ms above the echo"),
            tail["idle"] - tail["echo"],
            f"{len(waits['idle'])} requests, median {median['idle']:.1f} ms, echo's {median['echo']:.1f} ms; "
            f"the others got {rate:,.0f} blocks/s",
        ),
        Row(
            what + "one that asks every few ms",
            tail["steady"],
            "ms",
            tail["echo"],
            note=f"median {median['steady']:.1f} ms",
        ),
    ]


def _percentile(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[98]


def echo(host: str, port: int) -> None:
    """Answers each message with one of the same size, until the broker closes."""
    link = connected(host, port, "echo", ECHO[0])
    heard = published(ECHO[0], _message())
    answer = published(ECHO[1], _message())
    print("{}", flush=True)
    while len(link.recv(len(heard), socket.MSG_WAITALL)) == len(heard):
        link.sendall(answer)


def probe(host: str, port: int) -> None:
    """Asks service and echo in turn for as many seconds as it is told, and reports all waits in seconds."""
    # In turn, so that each has been idle when it asks.
    idle = itertools.cycle([_device(host, port, f"idle-{number:03d}") for number in range(IDLE)])
    steady = _device(host, port, "steady")
    asker = connected(host, port, "asker", ECHO[1])
    call, call_size = published(ECHO[0], _message()), len(published(ECHO[1], _message()))
    print("{}", flush=True)
    end = time.perf_counter() + float(sys.stdin.readline())
    waits: dict[str, list[float]] = {"idle": [], "steady": [], "echo": []}
    while time.perf_counter() < end:
        waits["idle"].append(_wait(*next(idle)))
        waits["steady"].append(_wait(*steady))
        waits["echo"].append(_wait(asker, call, call_size))
    print(json.dumps(waits), flush=True)


def _device(host: str, port: int, thing: str) -> tuple[socket.socket, bytes, int]:
    """Its connection, its request for one block, and the bytes that answer it."""
    index = SIZE // BLOCK_SIZE // 2
    request = asked(thing, STREAM, CBOR, get_payload(CBOR, 0, BLOCK_SIZE, index, 1))
    length = len(block(CBOR, 0, index, bytes(BLOCK_SIZE)))
    link = connected(host, port, thing, f"$aws/things/{thing}/streams/+/data/+")
    return link, request, len(message_start(thing, STREAM, CBOR, length)) + length


def _message() -> bytes:
    return bytes(BLOCK_SIZE)


def _wait(link: socket.socket, request: bytes, answer_size: int) -> float:
    time.sleep(random.uniform(*PAUSE_SECONDS))
    began = time.perf_counter()
    link.sendall(request)
    if len(link.recv(answer_size, socket.MSG_WAITALL)) != answer_size:
        raise ConnectionError("the broker closed the connection")
    return time.perf_counter() - began


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    {"echo": echo, "probe": probe}[spec["role"]](spec["host"], spec["port"])
