"""Messages to the gateway. A unit of the nano client (see the package).

A message is one frame: its length, a topic number (0 acknowledges the head that follows, 1 describe, 3 get,
6 report), how many blocks were taken (3 bytes), CRC-16 over their bytes, begun at 65535, the payload, and
CRC-16 over all from the topic number on, begun at the length. Numbers have their most significant byte first.
"""

# mypy: ignore-errors
# Only the board has its module.

from device_client.nano.serial import crc16, state, uart


def send(topic: int, payload: bytes) -> None:
    """Sends a message of up to 249 bytes of payload. Nothing repeats it but the patience of who asks."""
    out = bytes([topic]) + state[0].to_bytes(3, "big") + state[1].to_bytes(2, "big") + payload
    n = len(out)
    uart.write(bytes([n]) + out + crc16(n, out, range(n)).to_bytes(2, "big"))


def encode(*items: "int | bytes") -> bytes:
    """A CBOR map of keys and values in turn: text of up to 23 bytes, and integers from 0 to 2**32 - 1."""
    out = bytes([160 + len(items) // 2])
    for one in items:
        if isinstance(one, bytes):
            out += bytes([96 + len(one)]) + one
        else:
            out += bytes([one]) if one < 24 else b"\x1a" + one.to_bytes(4, "big")
    return out
