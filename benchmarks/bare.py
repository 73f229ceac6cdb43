"""The bare responder: hears the same requests as the service and answers each with ready-made packets.

One plain socket, no checks, no fairness, no file: the least that a responder can cost. As a program
(`benchmarks.rig.Program`), with `host`, `port` and the file's `size` as JSON.
"""

import json
import os
import socket
import sys
from itertools import islice

from benchmarks.wire import connected
from broker_bridge.delivery.delivery import SUBSCRIPTIONS
from broker_bridge.mqtt.packets import V311, encode_publish_start
from chunker import topics
from chunker.answers import BlockHeads, block_prefix, description
from chunker.limits import Limits
from chunker.requests import decode_describe, decode_get

PAYLOAD = memoryview(bytes(131072))
MOST_BUFFERS = os.sysconf("SC_IOV_MAX")
MOST_KEPT = 100_000


def respond(link: socket.socket, size: int) -> None:
    """Answers as if every stream had one file of `size` zeros, until the broker closes."""
    ready: dict[bytes, list[bytes | memoryview]] = {}
    buffer = b""
    while received := link.recv(1 << 18):
        buffer += received
        at, end = 0, len(buffer)
        # A request has from 128 bytes (two of length) to 16383.
        while at + 3 <= end:
            body = at + 2 if buffer[at + 1] < 128 else at + 3
            length = buffer[at + 1] if body == at + 2 else buffer[at + 1] & 127 | buffer[at + 2] << 7
            if body + length > end:
                break
            request = buffer[body : body + length]
            at = body + length
            parts = ready.get(request)
            if parts is None:
                if len(ready) >= MOST_KEPT:
                    ready.clear()
                parts = ready[request] = made(request, size)
            send(link, parts)
        buffer = buffer[at:]


def send(link: socket.socket, parts: list[bytes | memoryview]) -> None:
    """All of it in one call where that is possible; a blocking socket sends all it is given."""
    if len(parts) <= MOST_BUFFERS:
        link.sendmsg(parts)
    else:
        rest = iter(parts)
        while some := list(islice(rest, MOST_BUFFERS)):
            link.sendmsg(some)


def made(request: bytes, size: int) -> list[bytes | memoryview]:
    """The packets that answer a request, as buffers to be written one after another."""
    length = int.from_bytes(request[:2], "big")
    payload = request[2 + length :]
    parts = topics.split(request[2 : 2 + length].decode())
    assert parts is not None
    thing, stream, verb, encoding = parts
    if verb == "describe":
        answer = description(encoding, decode_describe(payload, encoding, Limits()), 1, None, [(0, size)])
        topic = topics.topic(thing, stream, "description", encoding).encode()
        return [encode_publish_start(V311, topic, 0, len(answer)) + answer]
    get = decode_get(payload, encoding, Limits())
    heads = BlockHeads(encoding, get.file_id, get.block_size, size)
    prefix = block_prefix(encoding, get.token)
    topic = topics.topic(thing, stream, "data", encoding).encode()
    packets: list[bytes | memoryview] = []
    for index in get.wanted(size):
        data = heads.body(PAYLOAD[: min(get.block_size, size - index * get.block_size)])
        head = prefix + heads[index]
        packets += [encode_publish_start(V311, topic, 0, len(head) + len(data)) + head, data]
    return packets


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    filters = [topic_filter for topic_filter, _ in SUBSCRIPTIONS]
    link = connected(spec["host"], spec["port"], "bare", *filters)
    print("{}", flush=True)
    respond(link, spec["size"])
