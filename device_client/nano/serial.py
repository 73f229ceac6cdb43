"""The serial line. A unit of the nano client (see the package)."""

# mypy: ignore-errors
# Only the board has its module.

from microbit import running_time, sleep, uart

buffer = bytearray(320)  # the message that comes: topic number, payload
state = [0, 65535]  # blocks taken, CRC-16 over them


def crc16(crc: int, data: "bytes | bytearray", places: range) -> int:
    """CRC-16 (polynomial 0x1021, most significant bit first) of what is there, gone on with from `crc`."""
    for i in places:
        x = crc >> 8 ^ data[i]
        x ^= x >> 4
        crc = (crc << 8 ^ x << 12 ^ x << 5 ^ x) & 65535
    return crc


def byte(wait: int) -> int:
    """The next byte; OSError where none comes within `wait` ms."""
    end = running_time() + wait
    while not uart.any():
        if running_time() > end:
            raise OSError
        sleep(1)
    return uart.read(1)[0]
