# mypy: ignore-errors
# It runs on MicroPython, which has no `typing` to say what a decoded message holds.
"""Runs on MicroPython: downloads a file from a responder in the same process, with blocks lost on the way.

Prints the SHA-256 of what was served and of what came, in hexadecimal; the caller compares them. Arguments:
encoding, size and block size in bytes, and 1 where the run is to be cut in the middle and taken up again.
"""

import binascii
import hashlib
import json
import sys

from chunker import cbor
from chunker.bitmap import find, test
from chunker.blocks import block_count, block_length
from chunker.topics import split, topic
from device_client.download import BLOCK, DONE, Download
from device_client.resume import decode_record, encode_record

encoding, size, block_size, cut = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
served = bytearray(size)
for position in range(size):
    served[position] = (position * 31 + (position >> 8)) & 255


def answer(name, payload):
    """(topic, payload) of each answer to a request of this encoding."""
    thing, stream, verb, _ = split(name)
    if encoding == "cbor":
        fields = cbor.decode(memoryview(payload))
    else:
        fields = json.loads(payload)
    if verb == "describe":
        text = {"c": fields["c"], "s": 7, "r": [{"f": 3, "z": size}]}
        if encoding == "json":
            return [(topic(thing, stream, "description", encoding), json.dumps(text).encode())]
        out = (
            b"\xa3"
            + cbor.encode({"c": fields["c"], "s": 7})[1:]
            + b"\x61r\x81"
            + cbor.encode({"f": 3, "z": size})
        )
        return [(topic(thing, stream, "description", encoding), out)]
    bits = fields["b"] if encoding == "cbor" else binascii.unhexlify(fields["b"])
    length = fields["l"]
    answers = []
    index = find(bits, True, 0, len(bits) * 8)
    while index < len(bits) * 8 and len(answers) < fields["n"]:
        block = fields["o"] + index
        if block < block_count(size, length):
            count = block_length(block, size, length)
            data = served[block * length : block * length + count]
            one = {"c": fields["c"], "f": 3, "l": count, "i": block, "p": data}
            if encoding == "json":
                one["p"] = binascii.b2a_base64(data)[:-1].decode()
                payload = json.dumps(one).encode()
            else:
                payload = cbor.encode(one)
            answers.append((topic(thing, stream, "data", encoding), payload))
        index = find(bits, True, index + 1, len(bits) * 8)
    return answers


came = bytearray(size)
record = None
now = 0
lost = 0
for run in ("first", "second") if cut else ("only",):
    download = Download("mast", "fw", 3, run, now, encoding, block_size, 65536, 60000, record)
    download.connected()
    queue = []
    blocks = 0
    while download.state != DONE:
        queue.extend(download.poll(now))
        if not queue:
            now = download.deadline
            continue
        name, payload = queue.pop(0)
        now += 1
        if split(name)[2] in ("describe", "get"):
            queue.extend(answer(name, payload))
        elif (now * 7919) % 13 == 0:
            lost += 1
        else:
            event = download.receive(name, payload, now)
            if event and event[0] == BLOCK:
                came[event[1] : event[1] + len(event[2])] = event[2]
                blocks += 1
                if run == "first" and blocks == block_count(size, block_size) // 2:
                    break
    parts = ("fw", 3, download.version, download.size, download.block_size)
    record = decode_record(encode_record(*parts, download.held))
    assert record is not None
    assert test(record[5], 0) or lost
assert decode_record(encode_record(*parts, download.held)[:-1]) is None
assert not cut or download.resumed == block_count(size, block_size) // 2
print(binascii.hexlify(hashlib.sha256(served).digest()).decode())
print(binascii.hexlify(hashlib.sha256(came).digest()).decode())
