"""Turns as PUBLISH packets: a list of buffers to be written one after another, nothing copied but headers."""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

from broker_bridge.mqtt.packets import V5, encode_binary, encode_publish_start, encode_varint
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
    constant = encode_binary(turn.topic) + (b"\x00" if version == V5 else b"") + turn.prefix
    # Most turns have blocks of one length and heads of one length: their packets begin with the same bytes.
    if len(set(map(len, bodies))) == 1 == len(set(map(len, heads))):
        runs = [(heads, bodies)]
    else:
        runs = [([head], [body]) for head, body in zip(heads, bodies, strict=True)]
    size = messages = 0
    for heads, bodies in runs:
        length = len(heads[0]) + len(bodies[0])
        start = b"\x30" + encode_varint(len(constant) + length) + constant
        if len(start) + length <= max_packet_size:
            starts = [start + head for head in heads]
            parts += chain.from_iterable(zip(starts, bodies, strict=True))
            size += len(heads) * (len(start) + length)
            messages += len(heads)
    return Written(size, messages, len(turn.heads) - messages)


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
