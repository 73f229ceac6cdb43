"""Turns as PUBLISH packets: a list of buffers to be written one after another, nothing copied but headers."""

from collections.abc import Callable
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
    prefix, blocks = turn.prefix, turn.blocks
    if take_packet_id is not None:
        return _append_qos_1(parts, turn, version, max_packet_size, take_packet_id)
    # All blocks of a turn but a file's last have one length: their packets begin with the same bytes.
    constant = encode_binary(turn.topic) + (b"\x00" if version == V5 else b"") + prefix
    known_length, start, overhead = -1, b"", 0
    append = parts.append
    size = too_large = 0
    for head, body in blocks:
        length = len(head) + len(body)
        if length != known_length:
            start = b"\x30" + encode_varint(len(constant) + length) + constant
            overhead = len(start)
            known_length = length
        if overhead + length > max_packet_size:
            too_large += 1
            continue
        append(start + head)
        append(body)
        size += overhead + length
    return Written(size, len(blocks) - too_large, too_large)


def _append_qos_1(
    parts: Parts, turn: Turn, version: int, max_packet_size: int, take_packet_id: Callable[[], int]
) -> Written:
    prefix = turn.prefix
    size = too_large = 0
    for head, body in turn.blocks:
        payload_size = len(prefix) + len(head) + len(body)
        # The longest start there is, to decide before a packet id is taken.
        if 5 + 2 + len(turn.topic) + 3 + payload_size > max_packet_size:
            too_large += 1
            continue
        start = encode_publish_start(version, turn.topic, take_packet_id(), payload_size) + prefix + head
        parts.append(start)
        parts.append(body)
        size += len(start) + len(body)
    return Written(size, len(turn.blocks) - too_large, too_large)
