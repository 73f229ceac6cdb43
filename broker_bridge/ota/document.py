"""The job document of an OTA update, as firmware with AWS's libraries parses it (DEVICES "Jobs and OTA")."""

import json
from collections.abc import Sequence

from broker_bridge.downloads.placeholders import placeholder
from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.ota.update import Signature, UpdateFile

MAX_BYTES = 32768
"""Of a job's document (AWS)."""
MQTT, HTTP = "MQTT", "HTTP"


def document(
    files: Sequence[tuple[UpdateFile, Signature | None]],
    *,
    protocols: Sequence[str],
    stream_id: str | None,
    region: str,
) -> str:
    """The document: compact JSON, with nothing escaped that devices would not unescape.

    For HTTP each file has a placeholder, which becomes a URL when a device is given the document: one of the
    very version, or else the very ETag, that the file has here.
    InvalidUpdate if it is longer than MAX_BYTES.
    """
    members: dict[str, object] = {"protocols": list(protocols)}
    if stream_id is not None and MQTT in protocols:
        members["streamname"] = stream_id
    members["files"] = [_entry(file, signature, HTTP in protocols, region) for file, signature in files]
    text = json.dumps({"afr_ota": members}, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode())
    if size > MAX_BYTES:
        raise InvalidUpdate(f"files: their job document has {size} bytes, over the maximum of {MAX_BYTES}")
    return text


def check_text(member: str, text: str) -> None:
    """InvalidUpdate for text that a document could only hold with escapes.

    AWS's parser (coreJSON) hands strings over as they stand: a device would look for a file with a backslash.
    """
    if not text:
        raise InvalidUpdate(f"{member}: it must not be empty")
    for char in text:
        if char in '"\\' or ord(char) < 0x20:
            raise InvalidUpdate(f"{member}: {char!r} cannot be told to devices, which unescape nothing")


def _entry(file: UpdateFile, signature: Signature | None, http: bool, region: str) -> dict[str, object]:
    # The order is AWS's; some parsers were only ever tried with it.
    entry: dict[str, object] = {"filepath": file.path, "filesize": file.size, "fileid": file.file_id}
    if signature is not None:
        entry["certfile"] = signature.certificate_path
    if file.file_type is not None:
        entry["fileType"] = file.file_type
    if http:
        entry["update_data_url"] = placeholder(file.object, region)
        entry["auth_scheme"] = "aws.s3.presigned"
    if signature is not None:
        entry[signature.key] = signature.text
    return entry
