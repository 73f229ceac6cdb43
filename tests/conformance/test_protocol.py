"""PROTOCOL, line by line, as a device meets it."""

import json
from typing import Any

import cbor2
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.conformance.conftest import FILES, VERSION, Running
from tests.conformance.device import Device, Heard
from tests.support import oracle

ENCODINGS = ["cbor", "json"]
SIZES = {file_id: len(data) for file_id, data in FILES.items()}


def encode(fields: dict[str, Any], encoding: str) -> bytes:
    if encoding == "cbor":
        return cbor2.dumps(fields)
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in fields.items()}
    return json.dumps(plain).encode()


def code_of(answers: list[Heard]) -> str:
    """The code of the one answer, which is a rejection."""
    [answer] = answers
    assert answer.verb == "rejected"
    return str(answer.fields["o"])


def holds(answers: list[Heard], expected: oracle.Blocks, encoding: str) -> None:
    """The answers are exactly those blocks, byte by byte."""
    assert [answer.block[0] for answer in answers] == list(expected.indexes)
    for answer in answers:
        index, data = answer.block
        start = index * expected.block_size
        assert data == FILES[expected.file_id][start : start + expected.block_size]
        assert answer.fields["f"] == expected.file_id
        assert answer.fields.get("c") == expected.token
        assert (answer.encoding, answer.retain) == (encoding, False)


REQUESTS: list[dict[str, Any]] = [
    {"f": 0, "l": 4096},
    {"f": 0, "l": 4096, "n": 0, "s": VERSION},
    {"c": "rdy", "f": 0, "l": 4096, "o": 0, "b": b"MQ==", "n": 4},
    {"c": "rdy", "f": 0, "l": 4096, "o": 73, "b": b"MQ==", "n": 1},
    {"c": "", "f": 0, "l": 4096, "o": 72, "n": 98304},
    {"c": 'ü😀"\\/', "f": 0, "l": 131072, "o": 1},
    {"f": 0, "l": 131072, "o": 2},
    {"f": 0, "l": 131071, "o": 2, "n": 5},
    {"f": 0, "l": 100_000, "o": 3, "n": 1},
    {"f": 0, "l": 256},
    {"f": 0, "l": 256, "o": 1000, "n": 512},
    {"f": 0, "l": 257, "o": 1167, "n": 3},
    {"f": 0, "l": 256, "o": 0, "b": bytes(146) + b"\x08"},
    {"f": 0, "l": 256, "o": 0, "b": b"\xff" * 12287},
    {"f": 0, "l": 1000, "o": 299, "b": b"\xff\xff", "n": 3},
    {"f": 1, "l": 256, "o": 20, "n": 32, "b": bytes.fromhex("130080"), "c": "1"},
    {"f": 255, "l": 256},
    {"f": 255, "l": 131072, "b": b"\xff"},
    {"f": 40, "l": 256, "n": 9},
    {"f": 40, "l": 257},
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("qos", [0, 1])
def test_exactly_the_blocks_that_a_request_selects(
    running: Running, device: Device, encoding: str, qos: int
) -> None:
    asked = []
    for fields in REQUESTS:
        thing, payload = running.thing(), encode(fields, encoding)
        expected = oracle.get(payload, encoding, version=VERSION, files=SIZES)
        assert isinstance(expected, oracle.Blocks), fields
        device.ask(thing, "fw", "get", encoding, payload, qos)
        asked.append((thing, expected))
    for thing, expected in asked:
        answers = device.expect(thing, len(expected.indexes))
        holds(answers, expected, encoding)
        assert {answer.qos for answer in answers} == {0}


def test_a_block_in_json_is_compact_and_without_escapes(running: Running, device: Device) -> None:
    thing = running.thing()
    device.ask(thing, "fw", "get", "json", b'{"s": 2,"f": 0,"l": 4096,"o": 0,"n": 4}')
    for answer in device.expect(thing, 4):
        assert json.dumps(answer.fields, separators=(",", ":")).encode() == answer.payload
        assert b"\\" not in answer.payload


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("token", [None, "", "rdy", "x" * 64, "é" * 32])
def test_describe(running: Running, device: Device, encoding: str, token: str | None) -> None:
    thing = running.thing()
    device.ask(thing, "fw", "describe", encoding, encode({} if token is None else {"c": token}, encoding))
    [answer] = device.expect(thing, 1)
    files = [{"f": file_id, "z": SIZES[file_id]} for file_id in sorted(SIZES)]
    expected = {"c": token, "s": VERSION, "d": "für den Mast", "r": files}
    if token is None:
        del expected["c"]
    assert answer.fields == expected
    assert list(answer.fields) == list(expected)
    assert (answer.verb, answer.encoding, answer.qos, answer.retain) == ("description", encoding, 1, False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_describe_with_an_empty_payload_and_without_a_description(
    running: Running, device: Device, encoding: str
) -> None:
    running.create(f"plain-{encoding}", {0: "fw/255"})
    thing = running.thing()
    device.ask(thing, f"plain-{encoding}", "describe", encoding, b"")
    [answer] = device.expect(thing, 1)
    assert answer.fields == {"s": 1, "r": [{"f": 0, "z": 1}]}


def test_a_device_that_hears_its_own_requests(running: Running) -> None:
    thing = running.thing()
    device = Device(running.broker.port, f"$aws/things/{thing}/streams/#")
    try:
        for encoding in ENCODINGS:
            device.ask(thing, "fw", "get", encoding, encode({"f": 255, "l": 256}, encoding))
            device.ask(thing, "fw", "describe", encoding, b"")
            device.ask(thing, "fw", "get", encoding, b"")
        device.expect(thing, 6)
        verbs = sorted(heard.verb for heard in device.heard)
        assert verbs == sorted(["get", "get", "describe", "data", "description", "rejected"] * 2)
    finally:
        device.close()


def test_a_device_of_mqtt_5(running: Running) -> None:
    thing = running.thing()
    device = Device(running.broker.port, f"$aws/things/{thing}/streams/#", version=MQTTProtocolVersion.MQTTv5)
    try:
        device.ask(thing, "fw", "get", "cbor", encode({"f": 0, "l": 131072}, "cbor"))
        holds(device.expect(thing, 1), oracle.Blocks(0, 131072, (0,)), "cbor")
    finally:
        device.close()


def test_nothing_is_retained(running: Running, device: Device) -> None:
    thing = running.thing()
    for verb in ("get", "describe"):
        device.ask(thing, "fw", verb, "cbor", encode({"f": 255, "l": 256}, "cbor"))
        device.ask(thing, "none", verb, "json", b"{}")
    device.expect(thing, 4)
    late = Device(running.broker.port, "$aws/things/+/streams/#")
    try:
        late.ask("late", "fw", "describe", "cbor", b"")
        late.expect("late", 1)
        assert {heard.thing for heard in late.heard} == {"late"}
    finally:
        late.close()


# Rejections. Each request has every defect that comes after the one that answers.
AFTER_TOPIC = b"\xff" * 70_000
ALL_WRONG = {"f": 99, "s": 99, "o": 98304, "l": 256, "n": 1}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rejections_in_their_order(running: Running, device: Device, encoding: str) -> None:
    malformed = "InvalidCbor" if encoding == "cbor" else "InvalidJson"

    def defects(**more: Any) -> bytes:
        return encode(ALL_WRONG | more, encoding)

    cases: list[tuple[str, str, bytes, str]] = [
        ("outsider", "closed", AFTER_TOPIC, "InvalidRequest"),
        ("outsider", "closed", AFTER_TOPIC[:65536], malformed),
        ("outsider", "closed", b"", malformed),
        ("outsider", "closed", b"[]" if encoding == "json" else b"\x80", malformed),
        ("outsider", "closed", defects(c=1, l=1, o=-1, n=-1), "InvalidRequest"),
        ("outsider", "closed", defects(c="t", s=True, l=1), "InvalidRequest"),
        ("outsider", "closed", defects(c="t", b=b"\0", l=1), "InvalidRequest"),
        ("outsider", "closed", defects(c="t", l=255, o=-1, n=-1), "BlockSizeOutOfBounds"),
        ("outsider", "closed", defects(c="t", o=98305, n=98305), "OffsetOutOfBounds"),
        ("outsider", "closed", defects(c="t", n=98305, b=b"\1" * 12288), "BlockCountLimitExceeded"),
        ("outsider", "closed", defects(c="t", b=b"\1" * 12288), "BlockBitmapLimitExceeded"),
        ("outsider", "none", defects(c="t"), "ResourceNotFound"),
        ("outsider", "closed", defects(c="t"), "Unauthorized"),
        ("mast-1", "closed", defects(c="t"), "VersionMismatch"),
        ("mast-2", "closed", defects(c="t", s=1), "ResourceNotFound"),
        ("mast-3", "closed", defects(c="t", s=1, f=0), "ResourceNotFound"),
        ("mast-4", "closed", defects(c="t", s=1, f=256, o=0), "ResourceNotFound"),
        ("mast-5", "closed", defects(c="t", s=1, f=-1, o=0), "ResourceNotFound"),
    ]
    for number, (name, stream, payload, expected) in enumerate(cases):
        thing = f"{name}-{encoding}-{number}"
        device.ask(thing, stream, "get", encoding, payload)
        [answer] = device.expect(thing, 1)
        assert code_of([answer]) == expected
        assert (answer.encoding, answer.stream, answer.qos, answer.retain) == (encoding, stream, 1, False)
        fields = answer.fields
        token_is_good = b"t" in payload and expected not in (malformed,) and number > 4
        assert list(fields) == (["o", "m", "c"] if token_is_good else ["o", "m"])
        assert fields.get("c", "t") == "t"
        for secret in ("firmware", "fw/0", str(running.objects), "Traceback"):
            assert secret not in fields["m"]


def test_a_stream_of_which_only_some_things_may_have(running: Running, device: Device) -> None:
    for thing, allowed in (("insider", True), ("mast-9", True), ("insider2", False), ("mast", False)):
        for verb, answer_to_it in (("describe", "description"), ("get", "data")):
            before = len(device.answers(thing))
            device.ask(thing, "closed", verb, "cbor", encode({"f": 0, "l": 131072, "n": 1}, "cbor"))
            answer = device.expect(thing, before + 1)[-1]
            assert answer.verb == (answer_to_it if allowed else "rejected")
            assert allowed or answer.fields["o"] == "Unauthorized"


@pytest.mark.parametrize("verb", ["get", "describe"])
def test_invalid_topics(running: Running, device: Device, verb: str) -> None:
    good = encode({"f": 0, "l": 4096}, "cbor")
    for number, (thing, stream, encoding) in enumerate(
        [
            ("thing", "fw", "xml"),
            ("thing", "fw", "CBOR"),
            ("thing", "fw", ""),
            ("a thing", "fw", "cbor"),
            ("mästchen", "fw", "json"),
            ("", "fw", "cbor"),
            ("x" * 129, "fw", "cbor"),
            ("thing", "a:b", "cbor"),
            ("thing", "", "json"),
            ("thing", "s" * 129, "cbor"),
        ]
    ):
        before = len(device.answers(thing))
        device.ask(thing, stream, verb, encoding, AFTER_TOPIC if number % 2 else good)
        answer = device.expect(thing, before + 1)[-1]
        assert (answer.verb, answer.encoding, answer.stream) == ("rejected", "json", stream)
        assert answer.fields["o"] == "InvalidTopic"
        assert list(answer.fields) == ["o", "m"]


def test_a_topic_as_long_as_mqtt_has_them_harms_nobody(running: Running, device: Device) -> None:
    # Its `rejected` would be longer than MQTT can carry.
    other = Device(running.broker.port, "none")
    try:
        name = "x" * (65535 - len("$aws/things//streams/fw/get/cbor"))
        other.ask(name, "fw", "get", "cbor", b"")
        thing = running.thing()
        other.ask(thing, "fw", "get", "cbor", encode({"f": 255, "l": 256}, "cbor"))
        device.expect(thing, 1)
    finally:
        other.close()


def test_other_verbs_are_not_heard(running: Running, device: Device) -> None:
    thing = running.thing()
    good = encode({"f": 255, "l": 256}, "cbor")
    for verb in ("data", "rejected", "description", "GET", "create"):
        device.ask(thing, "fw", verb, "cbor", good)
    device.publish(f"$aws/things/{thing}/streams/fw/get/cbor/x", good)
    device.ask(thing, "fw", "get", "cbor", good)
    device.wait(lambda: any(heard.payload[:1] == b"\xa4" for heard in device.answers(thing)), "a block")
    spoken = [answer for answer in device.answers(thing) if answer.payload != good]
    assert [answer.verb for answer in spoken] == ["data"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("verb", ["get", "describe"])
def test_oversize_payloads(running: Running, device: Device, encoding: str, verb: str) -> None:
    sizes = [65536, 65537, 131072, 1 << 20, (1 << 20) + 1, 3_000_000]
    things = [running.thing() for _ in sizes]
    for thing, size in zip(things, sizes, strict=True):
        device.ask(thing, "fw", verb, encoding, b" " * size)
    for thing, size in zip(things, sizes, strict=True):
        malformed = "InvalidCbor" if encoding == "cbor" else "InvalidJson"
        assert code_of(device.expect(thing, 1)) == (malformed if size == 65536 else "InvalidRequest")


def test_an_object_that_was_overwritten_or_is_gone(running: Running, device: Device) -> None:
    data = b"old" * 10_000
    running.put("changing", data)
    running.create("changing", {0: "changing", 1: "fw/1"})
    thing = running.thing()
    request = encode({"f": 0, "l": 4096, "n": 1}, "cbor")

    def ask(count: int) -> Heard:
        device.ask(thing, "changing", "get", "cbor", request)
        return device.expect(thing, count)[-1]

    assert ask(1).block == (0, data[:4096])
    running.put("changing", b"new" * 10_000)
    assert code_of([ask(2)]) == "ETagMismatch"
    (running.objects / "firmware" / "changing").unlink()
    assert code_of([ask(3)]) == "ResourceNotFound"
    running.put("changing", data)
    assert ask(4).block == (0, data[:4096])
    # An update takes the object in as it is.
    running.put("changing", b"new" * 10_000)
    running.iot.update_stream(
        streamId="changing", files=[{"fileId": 0, "s3Location": {"bucket": "firmware", "key": "changing"}}]
    )
    device.wait(lambda: ask_until_new(device, thing, request), "the new version")
    assert device.answers(thing)[-1].block == (0, (b"new" * 10_000)[:4096])


def ask_until_new(device: Device, thing: str, request: bytes) -> bool:
    """An API change reaches devices within a moment: asks again until it has."""
    before = len(device.answers(thing))
    device.ask(thing, "changing", "get", "cbor", request)
    return device.expect(thing, before + 1)[-1].verb == "data"


def test_a_stream_that_is_deleted(running: Running, device: Device) -> None:
    running.create("short-lived", {0: "fw/255"})
    first, second = running.thing(), running.thing()
    device.ask(first, "short-lived", "get", "json", b'{"f":0,"l":256}')
    assert device.expect(first, 1)[0].block == (0, b"!")
    running.iot.delete_stream(streamId="short-lived")
    for number in range(1, 100):
        device.ask(second, "short-lived", "get", "json", b'{"f":0,"l":256}')
        if device.expect(second, number)[-1].verb == "rejected":
            break
    assert device.answers(second)[-1].fields["o"] == "ResourceNotFound"


def test_a_whole_file_block_by_block(running: Running, device: Device) -> None:
    thing = running.thing()
    got: dict[int, bytes] = {}
    bitmap = bytearray(b"\xff" * 37)
    total = -(-len(FILES[0]) // 1024)
    count = 0
    while len(got) < total:
        device.ask(
            thing,
            "fw",
            "get",
            "cbor",
            encode({"f": 0, "l": 1024, "o": 0, "b": bytes(bitmap), "n": 100}, "cbor"),
        )
        missing = [index for index in range(total) if index not in got][:100]
        answers = device.expect(thing, count + len(missing))[count:]
        count += len(missing)
        assert [answer.block[0] for answer in answers] == missing
        for answer in answers:
            index, data = answer.block
            got[index] = data
            bitmap[index // 8] &= ~(1 << index % 8)
    assert b"".join(got[index] for index in range(total)) == FILES[0]
