"""The job document of an OTA update, read strictly: what is not as it must be is never half done.

Source: DEVICES "Jobs and OTA" 7; AWS's OTA SDK v3, `ota.c`. Runs on MicroPython.
"""

from binascii import a2b_base64

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from typing import Any

KIND = "afr_ota"
SIGNATURE = "sig-sha256-ecdsa"
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


class BadDocument(Exception):
    """The document is not one that this device can carry out; says what is wrong with it."""


class OtaFile:
    """The one file of an update. `size`: bytes; `signature`: DER; `certificate`: the name of the signer's.

    BadDocument for a document that has more or other files, or leaves out what has to be there.
    """

    def __init__(self, document: "dict[str, Any]") -> None:
        update = _field(document, KIND, dict)
        if "MQTT" not in _field(update, "protocols", list):
            raise BadDocument("protocols: MQTT is not among them")
        self.stream: str = _field(update, "streamname", str)
        if not 1 <= len(self.stream) <= 128 or [one for one in self.stream if one not in _NAME]:
            raise BadDocument("streamname: not 1 to 128 of [a-zA-Z0-9_-]")
        files = _field(update, "files", list)
        if len(files) != 1 or not isinstance(files[0], dict):
            raise BadDocument(f"files: {len(files)} entries; this device takes one, an object")
        file = files[0]
        self.path: str = _field(file, "filepath", str)
        self.size = _number(file, "filesize", 1, 2**48)
        self.file_id = _number(file, "fileid", 0, 255)
        self.certificate: str = _field(file, "certfile", str)
        # 0 is firmware, as AWS's OTA SDK has it by default; files for other processors need a slot of theirs.
        self.type = _number(file, "fileType", 0, 2**32 - 1) if "fileType" in file else 0
        if self.type:
            raise BadDocument(f"fileType: {self.type}; this device takes 0, its firmware")
        try:
            self.signature: bytes = a2b_base64(_field(file, SIGNATURE, str).encode())
        except ValueError:
            self.signature = b""
        if not self.signature:
            raise BadDocument(f"{SIGNATURE}: not Base64 of a signature")


def _field(fields: "dict[str, Any]", name: str, kind: type) -> "Any":
    if name not in fields:
        raise BadDocument(f"{name}: not there")
    if not isinstance(fields[name], kind) or not fields[name]:
        raise BadDocument(f"{name}: empty, or not of the type {kind.__name__}")
    return fields[name]


def _number(fields: "dict[str, Any]", name: str, low: int, high: int) -> int:
    value = fields.get(name)
    # A boolean is an integer to CPython, and none to JSON.
    if not isinstance(value, int) or value is True or value is False or not low <= value <= high:
        raise BadDocument(f"{name}: {str(value)[:40]} is not an integer within {low} to {high}")
    return value
