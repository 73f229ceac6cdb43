"""What a device says and hears (PROTOCOL). Part of the device set: runs on MicroPython."""

import json
from binascii import a2b_base64, hexlify

from chunker import cbor


def encode_request(encoding: str, fields: "dict[str, int | str | bytes | bytearray]") -> bytes:
    """A DescribeStream or GetStream request; a bitmap is bytes, which JSON sends as hexadecimal text."""
    if encoding == "cbor":
        return cbor.encode(fields)
    return json.dumps(
        {key: v if isinstance(v, (int, str)) else hexlify(v).decode() for key, v in fields.items()}
    ).encode()


def decode_answer(encoding: str, payload: "bytes | bytearray | memoryview") -> "dict[str, object]":
    """The fields of a description, block or rejection, their types unchecked; ValueError where it is none.

    `p` is a memoryview; in CBOR one of `payload` itself, valid only as long as that is not changed.
    """
    if encoding == "cbor":
        return cbor.decode(memoryview(payload))
    try:
        fields = json.loads(str(payload, "utf-8"))
    except RuntimeError:  # nested past the interpreter's stack
        raise ValueError("JSON nested too deep") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    if isinstance(fields.get("p"), str):
        fields["p"] = memoryview(a2b_base64(fields["p"]))
    return fields
