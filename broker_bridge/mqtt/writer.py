"""Turns as PUBLISH packets: a list of buffers to be written one after another, nothing copied but headers."""

from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from broker_bridge.mqtt.packets import encode_publish_start
from broker_bridge.mqtt.turn import Turn

Parts = list[bytes | memoryview]


class Written(NamedTuple):
    """What was appended: bytes, messages; and messages left out because they exceed the server's bound."""

    size: int
    messages: int
    too_large: int


def append_turn(
    parts: Parts, turn: Turn, version: int, max_packet_size: int, take_packet_id: Callable[[], int] | None
) -> Written:
    """Appends a PUBLISH per block: at QoS 1 with ids from `take_packet_id`, at QoS 0 where that is None."""
    if take_packet_id is not None:
        return _append_qos_1(parts, turn, version, max_packet_size, take_packet_id)
    heads, bodies = turn.heads, turn.bodies
    # Blocks are ascending and of one size: where first and last are of one length, all are, but for a file's
    # last block and where a block's number grows by a byte. Their packets begin with the same bytes.
    if len(bodies[0]) == len(bodies[-1]) and len(heads[0]) == len(heads[-1]):
        runs = [(heads, bodies)]
    else:
        runs = [([head], [body]) for head, body in zip(heads, bodies, strict=True)]
    size = messages = 0
    for heads, bodies in runs:
        length = len(heads[0]) + len(bodies[0])
        start = _start(version, turn.topic, turn.prefix, length)
        if len(start) + length <= max_packet_size:
            starts = [start + head for head in heads]
            parts += chain.from_iterable(zip(starts, bodies, strict=True))
            size += len(heads) * (len(start) + length)
            messages += len(heads)
    return Written(size, messages, len(turn.heads) - messages)


@lru_cache(8192)
def _start(version: int, topic: bytes, prefix: bytes, length: int) -> bytes:
    """What a QoS 0 PUBLISH begins with, up to the head of a block; `length`: bytes from there on."""
    return encode_publish_start(version, topic, 0, len(prefix) + length) + prefix


def _append_qos_1(
    parts: Parts, turn: Turn, version: int, max_packet_size: int, take_packet_id: Callable[[], int]
) -> Written:
    prefix = turn.prefix
    size = too_large = 0
    for head, body in zip(turn.heads, turn.bodies, strict=True):
        payload_size = len(prefix) + len(head) + len(body)
        # The longest start there is, to decide before a packet id is taken.
        if 5 + 2 + len(turn.topic) + 3 + payload_size > max_packet_size:
            too_large += 1
            continue
        start = encode_publish_start(version, turn.topic, take_packet_id(), payload_size) + prefix + head
        parts.append(start)
        parts.append(body)
        size += len(start) + len(body)
    return Written(size, len(turn.heads) - too_large, too_large)
