"""A bare device: asks for a whole file and throws it away, over a plain socket with one reused buffer.

As a program: `python -m benchmarks.drain HOST PORT THING STREAM SIZE BLOCK_SIZE REQUESTS_IN_FLIGHT`; prints
the seconds from the first request to the last byte.
"""

import socket
import sys
import time

import cbor2

from chunker import topics
from chunker.answers import BlockHeads, block_prefix

REQUEST_BYTES = 131072


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes((number & 127 | 128,))
        number >>= 7
    return encoded + bytes((number,))


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _varint(len(body)) + body


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _answer_sizes(topic: str, size: int, block_size: int, count: int) -> list[int]:
    """Bytes on the wire that answer each request: then counting tells what arrived, without parsing."""
    heads = BlockHeads(topics.CBOR, 0, block_size, size)
    around = _text(topic) + block_prefix(topics.CBOR, "rdy")
    sizes = []
    for index in range(-(-size // block_size)):
        length = min(block_size, size - index * block_size)
        body = len(around) + len(heads[index]) + length
        if index % count == 0:
            sizes.append(0)
        sizes[-1] += 1 + len(_varint(body)) + body
    return sizes


def connect(host: str, port: int, client_id: str, topic: str) -> socket.socket:
    """A session of MQTT 3.1.1 that hears one topic at QoS 0."""
    link = socket.create_connection((host, port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(_packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text(client_id)))
    link.recv(4, socket.MSG_WAITALL)
    link.sendall(_packet(0x82, b"\x00\x01" + _text(topic) + b"\x00"))
    link.recv(5, socket.MSG_WAITALL)
    return link


def drain(host: str, port: int, thing: str, stream: str, size: int, block_size: int, in_flight: int) -> float:
    """Seconds from the first request to the last byte of the last block."""
    count = REQUEST_BYTES // block_size
    ask = _text(topics.topic(thing, stream, "get", topics.CBOR))
    data = topics.topic(thing, stream, "data", topics.CBOR)
    answers = _answer_sizes(data, size, block_size, count)
    link = connect(host, port, f"drain-{thing}", data)
    blocks = -(-size // block_size)
    requests = [
        _packet(0x30, ask + cbor2.dumps({"c": "rdy", "f": 0, "l": block_size, "o": first, "n": count}))
        for first in range(0, blocks, count)
    ]
    buffer = bytearray(1 << 20)
    begin = time.perf_counter()
    link.sendall(b"".join(requests[:in_flight]))
    sent, answered, left = min(in_flight, len(requests)), 0, answers[0]
    while answered < len(requests):
        if hasattr(socket, "TCP_QUICKACK"):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        got = link.recv_into(buffer)
        if not got:
            raise ConnectionError("the broker closed the connection")
        left -= got
        while left <= 0 and answered < len(requests):
            answered += 1
            left += answers[answered] if answered < len(requests) else 0
            if sent < len(requests):
                link.sendall(requests[sent])
                sent += 1
    seconds = time.perf_counter() - begin
    link.close()
    return seconds


if __name__ == "__main__":
    host, port, thing, stream, *numbers = sys.argv[1:]
    print(drain(host, int(port), thing, stream, *map(int, numbers)))
