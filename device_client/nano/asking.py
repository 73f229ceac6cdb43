"""A request and its answer. A unit of the nano client (see the package)."""

# mypy: ignore-errors
# The board has no `typing` to say what a decoded message holds.

from device_client.nano.decoding import decode
from device_client.nano.receiving import message
from device_client.nano.sending import send
from device_client.nano.serial import buffer


def right(end: int, topic: int, want: "dict[bytes, object]") -> "dict[bytes, object] | None":
    """The fields of the message of `end` bytes if it is the answer wanted, or a refusal; else None.

    An answer has the fields `want`, the client token among them, and `l` bytes. InternalError is waited out.
    """
    try:
        fields, at = decode(1)
        if buffer[0] == 5:
            want = {b"c": want[b"c"]}
            topic = 5 if fields[b"o"] != b"InternalError" else 0
        if (at, buffer[0], len(fields.get(b"p", b""))) == (end, topic, want.get(b"l", 0)):
            return fields if all([fields[key] == want[key] for key in want]) else None  # noqa: C419 - no room on the stack
    except Exception:  # noqa: BLE001, S110 - what cannot be read is no answer
        pass
    return None


def ask(topic: int, request: bytes, want: "dict[bytes, object]") -> "dict[bytes, object]":
    """The answer to a request, which goes out up to eight times, 3 s apart; OSError without one."""
    for _ in range(8):
        send(topic, request)
        try:
            for _ in range(8):
                fields = right(message(3000), topic + 1, want)
                if fields:
                    return fields
        except OSError:
            pass
    raise OSError
