"""MQTT and the protocol's messages as bare devices need them: over plain sockets, made before they are sent.

What a service must answer is made here with cbor2 and json, not with the service's own encoder.
"""

import json
import socket
from base64 import b64encode

import cbor2

from broker_bridge.mqtt.packets import V311, encode_connect, encode_publish_start, encode_subscribe
from chunker import topics
from chunker.topics import CBOR

REQUEST_BYTES = 131072
"""Most file bytes that answer one request."""
TOKEN = "rdy"
"""Client token: what AWS's C libraries send."""


def connected(host: str, port: int, client_id: str, *filters: str) -> socket.socket:
    """A session of MQTT 3.1.1 that hears those topic filters at QoS 0."""
    link = socket.create_connection((host, port), timeout=30)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    subscriptions = [(topic_filter, 0) for topic_filter in filters]
    link.sendall(encode_connect(V311, client_id, 0) + encode_subscribe(V311, 1, subscriptions))
    granted = b"\x20\x02\x00\x00\x90" + bytes([2 + len(filters), 0, 1]) + bytes(len(filters))
    answer = b""
    while len(answer) < len(granted) and granted.startswith(answer):
        answer += link.recv(len(granted) - len(answer)) or b"the end"
    if answer != granted:
        raise ConnectionError("the broker did not grant the connection or a subscription")
    link.settimeout(None)
    return link


def published(topic: str, payload: bytes) -> bytes:
    """A PUBLISH at QoS 0."""
    return encode_publish_start(V311, topic.encode(), 0, len(payload)) + payload


def get_payload(encoding: str, file_id: int, block_size: int, first: int, count: int) -> bytes:
    """A GetStream request for `count` blocks from block `first` on."""
    fields = {"c": TOKEN, "f": file_id, "l": block_size, "o": first, "n": count}
    return cbor2.dumps(fields) if encoding == CBOR else json.dumps(fields).encode()


def asked(thing: str, stream: str, encoding: str, payload: bytes) -> bytes:
    """A GetStream request as a PUBLISH."""
    return published(topics.topic(thing, stream, "get", encoding), payload)


def block(encoding: str, file_id: int, index: int, data: bytes) -> bytes:
    """The payload of one block's message."""
    fields: dict[str, object] = {"c": TOKEN, "f": file_id, "l": len(data), "i": index}
    if encoding == CBOR:
        return cbor2.dumps({**fields, "p": data})
    return json.dumps({**fields, "p": b64encode(data).decode()}, separators=(",", ":")).encode()


def message_start(thing: str, stream: str, encoding: str, payload_size: int) -> bytes:
    """What stands before a block's payload, as a device of MQTT 3.1.1 receives it."""
    topic = topics.topic(thing, stream, "data", encoding).encode()
    return encode_publish_start(V311, topic, 0, payload_size)
