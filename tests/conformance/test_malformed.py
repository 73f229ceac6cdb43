"""Malformed input by the thousand: to each request the answer that PROTOCOL has, the service unharmed."""

import json
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import cbor2
import pytest

from tests.conformance.conftest import FILES, VERSION, Running
from tests.conformance.device import Device, Heard
from tests.support import oracle

SIZES = {file_id: len(data) for file_id, data in FILES.items()}
BATCH = 250
"""Requests under way at once, each as a thing of its own."""


def valid(source: random.Random, encoding: str) -> bytes:
    """A message like those of devices, most of them with all in bounds."""
    fields: dict[str, Any] = {
        "f": source.choice([0, 0, 0, 1, 1, 40, 255, 7, 3]),
        "l": source.choice([256, 4096, 4096, 65536, 131072]),
    }
    optional = {
        "c": source.choice(["rdy", "rdy", "", "é" * 32, "x" * 65, "tok" + str(source.random())]),
        "s": source.choice([VERSION, VERSION, VERSION, 1]),
        "o": source.choice([0, 0, 0, 1, 2, 70, 98304, 98305]),
        "n": source.choice([0, 1, 2, 4, 4, 98305]),
        "b": source.choice(
            [b"\x01", b"MQ==", b"\xff\x03", b"\x00", bytes(source.randrange(256) for _ in range(9))]
        ),
        "x": source.choice([None, [1, {"a": b"b"}], 1.5, {"c": "no"}]),
    }
    for name, value in optional.items():
        if source.random() < 0.4:
            fields[name] = value
    names = list(fields)
    source.shuffle(names)
    fields = {name: fields[name] for name in names}
    if encoding == "cbor":
        return cbor2.dumps(fields)

    def plain(value: object) -> str:
        return value.hex() if isinstance(value, bytes) else str(value)

    return json.dumps(fields, default=plain, ensure_ascii=source.random() < 0.5).encode()


PIECES = {
    "cbor": [
        bytes.fromhex(item) for item in ["ff", "00", "f6", "f5", "5f", "7f", "9f", "bf", "c1", "1b", "a1"]
    ]
    + [b"\xf9\x6c\x00", b"\x61l", b"\x61c\x61t"],
    "json": [b'"', b",", b"{", b"}", b"[", b"]", b":", b"1e3", b".0", b"NaN", b"null", b"true", b"-", b"0x"]
    + [b"\\ud800", b"\xff", b"\x00", b'"c":"t",'],
}


def mutated(source: random.Random, encoding: str) -> bytes:
    payload = bytearray(valid(source, encoding))
    for _ in range(source.choice([0, 0, 0, 1, 1, 2, 5])):
        at = source.randrange(len(payload) + 1)
        match source.randrange(6):
            case 0:
                payload[at:at] = source.choice(PIECES[encoding])
            case 1:
                payload[at : at + 1] = source.choice(PIECES[encoding])
            case 2:
                del payload[at : at + source.randrange(1, 4)]
            case 3:
                payload[at:at] = payload[at : at + source.randrange(1, 9)]
            case 4 if at < len(payload):
                payload[at] ^= 1 << source.randrange(8)
            case _:
                payload = payload[:at]
    return bytes(payload)


def noise(source: random.Random, encoding: str) -> bytes:
    start = source.choice(
        [b"\xa1", b"\xbf", b"\xa3\x61f\x00", b""] if encoding == "cbor" else [b"{", b'{"f":0,', b""]
    )
    return start + bytes(source.randrange(256) for _ in range(source.randrange(40)))


def requests(source: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """(verb, encoding, payload) without end."""
    while True:
        encoding = source.choice(["cbor", "json"])
        make = source.choice([mutated, mutated, mutated, noise])
        yield source.choice(["get", "get", "get", "describe"]), encoding, make(source, encoding)


def holds(expected: Any, answers: list[Heard]) -> None:
    """The answers are what the oracle says."""
    if isinstance(expected, oracle.Blocks):
        assert [answer.block[0] for answer in answers] == list(expected.indexes)
        for answer in answers:
            index, data = answer.block
            start = index * expected.block_size
            assert data == FILES[expected.file_id][start : start + expected.block_size]
            assert (answer.fields["f"], answer.fields.get("c")) == (expected.file_id, expected.token)
        return
    [answer] = answers
    fields = answer.fields
    assert fields.get("c") == expected.token
    if isinstance(expected, oracle.Rejected):
        assert (answer.verb, fields["o"]) == ("rejected", expected.code)
        assert 0 < len(fields["m"]) < 300
    else:
        assert (answer.verb, fields["s"]) == ("description", VERSION)


@pytest.mark.parametrize("seed", range(4))
def test_malformed_by_the_thousand(running: Running, device: Device, seed: int) -> None:
    source = random.Random(f"sluice {seed}")
    seen: dict[str, int] = {}
    stream = requests(source)
    for _ in range(4):
        asked: dict[str, tuple[Any, bytes]] = {}
        counts: dict[str, int] = {}
        for verb, encoding, payload in islice(stream, BATCH):
            if verb == "get":
                expected: Any = oracle.get(payload, encoding, version=VERSION, files=SIZES)
            else:
                expected = oracle.describe(payload, encoding)
            thing = running.thing()
            asked[thing] = (expected, payload)
            counts[thing] = len(expected.indexes) if isinstance(expected, oracle.Blocks) else 1
            name = expected.code if isinstance(expected, oracle.Rejected) else type(expected).__name__
            seen[name] = seen.get(name, 0) + 1
            device.ask(thing, "fw", verb, encoding, payload)
        total = sum(counts.values())
        device.wait(lambda: len(device.answers()) >= total, f"all answers of seed {seed}")  # noqa: B023
        # What comes after everything was answered would be an answer too many.
        last = running.thing()
        device.ask(last, "fw", "describe", "cbor", b"")
        device.expect(last, 1)
        by_thing: dict[str, list[Heard]] = {}
        for answer in device.answers():
            by_thing.setdefault(answer.thing, []).append(answer)
        for thing, (expected, payload) in asked.items():
            try:
                holds(expected, by_thing[thing])
            except AssertionError as error:
                raise AssertionError(
                    f"{payload!r} ({payload.hex()}): {expected}, not {by_thing[thing]}"
                ) from error
        device.heard.clear()
    # The requests were of every kind, or this test would say little.
    for kind in ("InvalidCbor", "InvalidJson", "InvalidRequest", "Blocks", "Described"):
        assert seen[kind] > 30
    for code in ("OffsetOutOfBounds", "BlockCountLimitExceeded", "ResourceNotFound", "VersionMismatch"):
        assert seen[code] > 3
