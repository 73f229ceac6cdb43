"""CBOR (RFC 8949) of answers. A unit of the nano client (see the package)."""

# mypy: ignore-errors
# The board has no `typing` to say what a decoded message holds.

from device_client.nano.serial import buffer


def decode(at: int) -> "tuple[object, int]":
    """What is in the buffer from `at` on, and where it ends.

    Text is bytes, a byte string is the range of its places in the buffer, floats and simple values are None.
    What is not well-formed raises an exception of some kind or ends elsewhere than its message; so does a
    tag. Without recursion, for which the board's stack is too small.
    """
    above = []  # what is around the array or map being read
    items = []
    left = 1  # of its items
    major = 4
    while left or above:
        if left == 0:
            value = dict(zip(items[::2], items[1::2])) if major > 4 else items  # noqa: B905 - not in 1.9.2
            items, left, major = above.pop()
            items.append(value)
            continue
        left -= 1
        kind = buffer[at] >> 5
        value = buffer[at] & 31
        at += 1
        if value > 23:
            end = at + (1 << value - 24)
            value = int.from_bytes(buffer[at:end], "big")
            at = end
        if kind < 2:
            value ^= -kind
        elif kind > 5:
            value = None
        elif kind > 3:
            above.append((items, left, major))
            items = []
            left = value * (kind - 3)
            major = kind
            continue
        else:
            end = at + value
            value = bytes(buffer[at:end]) if kind > 2 else range(at, end)
            at = end
        items.append(value)
    return items[0], at
