"""What real firmware puts on the wire is understood, and our answers are what real firmware decodes."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import cbor2
import pytest

from chunker.answers import BlockHeads, block_prefix
from chunker.blocks import block_count, block_length
from chunker.limits import Limits
from chunker.requests import decode_get

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "get_stream.json").read_text())


def payload_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode()


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["from"])
def test_requests_of_real_firmware(vector: dict[str, Any]) -> None:
    payload, encoding = payload_of(vector), vector["encoding"]
    get = decode_get(payload, encoding, Limits())
    fields = cbor2.loads(payload) if encoding == "cbor" else json.loads(payload)
    assert get.file_id == fields["f"] == vector.get("file_id", 0)
    assert (get.token, get.version) == (fields.get("c"), fields.get("s"))
    assert (get.block_size, get.offset) == (fields["l"], fields["o"])
    blocks = list(get.wanted(vector["file_size"]))
    assert blocks == vector["blocks"]
    if "last_length" in vector:
        assert blocks[-1] == block_count(vector["file_size"], get.block_size) - 1
        assert block_length(blocks[-1], vector["file_size"], get.block_size) == vector["last_length"]


@pytest.mark.parametrize("encoding", ["cbor", "json"])
def test_answer_that_every_client_decodes(encoding: str) -> None:
    vector = VECTORS["answers_every_client_decodes"][encoding]
    means = vector["means"]
    expected = payload_of(vector)
    heads = BlockHeads(encoding, means["f"], 256, means["l"])
    data = means["p"].encode()
    got = block_prefix(encoding, means.get("c")) + heads[means["i"]] + bytes(heads.body(data))
    decoded = cbor2.loads(got) if encoding == "cbor" else json.loads(got)
    decoded["p"] = (decoded["p"] if encoding == "cbor" else b64decode(decoded["p"])).decode()
    assert decoded == means
    if encoding == "json":
        assert got == expected
    else:
        # The clients look fields up by name; ours come in PROTOCOL's order, the vector's in another.
        assert sorted(got) == sorted(expected)
        assert list(cbor2.loads(got)) == ["c", "f", "l", "i", "p"]
