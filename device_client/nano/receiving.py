"""Messages from the gateway. A unit of the nano client (see the package).

A message is a topic number (2 description, 4 data, 5 rejected, 7 the echo of a report) and a payload. It
comes in frames of up to 32 bytes, each repeated until it is acknowledged: two bytes of head (64 times the
offset in the message, plus 32 for its last frame, plus length - 1), the bytes, and CRC-16 over them, begun at
the head. Whoever receives a damaged frame lets everything pass until the line is silent.
"""

from device_client.nano.sending import send
from device_client.nano.serial import buffer, byte, crc16


def message(wait: int) -> int:
    """Length of the next message, which is in the buffer; OSError where nothing comes for `wait` ms."""
    got = 0  # bytes of it that are here
    for _ in buffer:  # of its length: a bound on what noise may cost
        at = got
        head = byte(wait)
        try:
            head = head << 8 | byte(99)
            at = head >> 6
            end = at + head % 32 + 1
            for i in range(at, end):
                buffer[i] = byte(99)
            if byte(99) << 8 | byte(99) == crc16(head, buffer, range(at, end)):
                send(0, head.to_bytes(2, "big"))
                if at <= got:  # else its beginning is not here: it is let go
                    got = end
                    if head & 32:
                        return end
                continue
            for _ in buffer:
                byte(99)
        except (OSError, IndexError):
            pass
        got = min(got, at)  # what was there from `at` on may be overwritten
    raise OSError
