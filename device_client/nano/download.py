"""The download. A unit of the nano client (see the package)."""

# mypy: ignore-errors
# The board has no `typing` to say what a decoded message holds.

from device_client.nano.asking import ask
from device_client.nano.sending import encode
from device_client.nano.serial import buffer, crc16, state


def run(token: bytes, file: int) -> None:
    """Takes the blocks of file 0-255 in order, then reports in `o` why it ended: empty when it has them all.

    Else that is the code of the service's refusal, or the exception. `token`: 1 to 23 bytes, new for a run.
    """
    why = b""
    fields = {}
    try:
        fields = ask(1, encode(b"c", token), {b"c": token})
        version = fields[b"s"]
        size = [one[b"z"] for one in fields[b"r"] if one[b"f"] == file][0]  # noqa: RUF015
        while state[0] * 256 < size:
            i = state[0]
            want = {b"c": token, b"f": file, b"i": i, b"l": min(256, size - i * 256)}
            request = encode(b"c", token, b"s", version, b"f", file, b"l", 256, b"o", i, b"n", 1)
            fields = ask(3, request, want)
            state[1] = crc16(state[1], buffer, fields[b"p"])  # KeyError where it is a refusal
            state[0] += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        why = fields.get(b"o") or bytes(repr(error), "utf-8")
    ask(6, encode(b"c", token, b"o", why[:23]), {b"c": token})
