"""Bitmaps of blocks (PROTOCOL "GetStream"): bit k is bit k mod 8, least significant first, of byte k div 8.

Part of the device set: runs on MicroPython. An index past the end is an IndexError.
"""


def test(bits: "bytes | bytearray", index: int) -> bool:
    """Whether bit `index` is set."""
    return bits[index >> 3] >> (index & 7) & 1 == 1


def flip(bits: bytearray, index: int) -> None:
    """Turns bit `index` over."""
    bits[index >> 3] ^= 1 << (index & 7)


def ones(bits: "bytes | bytearray") -> int:
    """How many bits are set."""
    return sum(bin(byte).count("1") for byte in bits)


def find(bits: "bytes | bytearray", value: bool, start: int, end: int) -> int:
    """The first bit in [start, end) that is `value`, or `end`. Bytes without one are passed over whole."""
    none = 0 if value else 255
    while start < end:
        if bits[start >> 3] == none:
            start = (start | 7) + 1
        elif test(bits, start) == value:
            return start
        else:
            start += 1
    return end
