"""The machine: what it asks for and when, what it ignores, and what ends it."""

import json
import random
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from chunker.bitmap import flip
from device_client.download import BLOCK, DESCRIBED, DONE, Download, choose_block_size
from device_client.errors import BlockSizeError, DownloadTimeout, Rejected
from tests.device_client.model import Service

TOPIC = "$aws/things/mast/streams/fw/"


def machine(token: str = "t1", now: int = 0, **settings: Any) -> Download:
    return Download("mast", "fw", 0, token, now, **settings)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def describe(download: Download, size: int, version: int = 1, now: int = 0) -> None:
    """Connects and tells it version and size."""
    download.connected()
    download.poll(now)
    fields = {"c": "t1", "s": version, "r": [{"f": 0, "z": size}]}
    assert download.receive(TOPIC + "description/cbor", cbor2.dumps(fields), now) == (DESCRIBED, 0, None)


def block(index: int, data: bytes, **fields: Any) -> bytes:
    return cbor2.dumps({"c": "t1", "f": 0, "l": len(data), "i": index, "p": data} | fields)


class Link:
    """Brings what is asked for ten milliseconds later, however much it is."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self.requests: list[dict[str, Any]] = []
        self.most: list[int] = []  # blocks in flight, at each millisecond
        self._coming: list[tuple[int, int]] = []
        self._now = 0

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            while self._coming and self._coming[0][0] <= self._now:
                index = self._coming.pop(0)[1]
                data = block(index, bytes(4096))
                assert self.download.receive(TOPIC + "data/cbor", data, self._now)
                self._ask()
            self._ask()
            self.most.append(len(self._coming))
            self._now += 1

    def _ask(self) -> None:
        for _, payload in self.download.poll(self._now):
            request = cbor2.loads(payload)
            self.requests.append(request)
            bits = range(len(request["b"]) * 8)
            for bit in bits:
                if request["b"][bit // 8] >> bit % 8 & 1:
                    self._coming.append((self._now + 10, request["o"] + bit))


class TestAsking:
    """What it sends, and when."""

    def test_it_begins_with_little_and_grows_to_the_budget(self) -> None:
        download = machine(block_size=4096, budget=1 << 20)
        describe(download, 100_000_000)
        link = Link(download)
        link.run(3)
        assert link.most[0] == 4
        link.run(300)
        assert max(link.most) == 256
        assert all(one["s"] == 1 and one["f"] == 0 and one["l"] == 4096 for one in link.requests)
        assert all(one["n"] <= 32 for one in link.requests)

    def test_the_blocks_in_flight_are_the_devices_to_say(self) -> None:
        download = machine(block_size=4096, budget=1 << 20, in_flight=7)
        describe(download, 100_000_000)
        link = Link(download)
        link.run(300)
        assert max(link.most) == 7

    def test_a_gap_is_kept_between_requests(self) -> None:
        download = machine(block_size=4096, gap=50)
        describe(download, 40960)
        asked: list[int] = []
        now = 0
        while len(asked) < 4:
            asked += [now] * len(download.poll(now))
            now = download.deadline
        assert asked == [50, 100, 150, 200]  # the first after the description's own

    def test_a_busy_device_asks_for_nothing_and_then_goes_on(self) -> None:
        download = machine(block_size=4096)
        describe(download, 40960)
        download.busy = True
        assert download.poll(0) == []
        assert download.poll(5000) == []
        download.busy = False
        assert len(download.poll(5001)) == 4

    @pytest.mark.parametrize("block_size", [256, 1000, 4096, 65536, 131072])
    @pytest.mark.parametrize("budget", [131072, 1 << 20, 1 << 24])
    def test_a_request_is_for_128_kib_at_most(self, block_size: int, budget: int) -> None:
        download = machine(block_size=block_size, budget=budget)
        describe(download, block_size * 98305)
        requests = [cbor2.loads(payload) for _, payload in download.poll(0)]
        assert all(one["n"] * block_size <= 131072 and len(one["b"]) < 12288 for one in requests)
        in_flight = sum(one["n"] for one in requests)
        assert in_flight * block_size <= budget
        assert in_flight <= 900
        assert len(requests) >= min(2, budget // block_size)

    def test_only_what_is_missing_is_asked_for_and_windows_span_far(self) -> None:
        held = bytearray(b"\xff" * 12288)
        for index in (0, 5, 90000, 98300):
            flip(held, index)
        record = ("fw", 0, 1, 98304 * 256, 256, bytes(held))
        download = machine(budget=1 << 20, resume=record)
        describe(download, 98304 * 256)
        assert download.resumed == 98300
        named = []
        for _, payload in download.poll(0):
            request = cbor2.loads(payload)
            assert len(request["b"]) < 12288
            bits = range(len(request["b"]) * 8)
            named += [request["o"] + bit for bit in bits if request["b"][bit // 8] >> bit % 8 & 1]
        assert named == [0, 5, 90000, 98300]

    def test_what_a_silent_network_lost_is_asked_for_again_ever_more_slowly(self) -> None:
        download = machine(block_size=4096)
        describe(download, 40960)
        times = []
        now = 0
        first = download.poll(now)
        while download.deadline < 60000:
            now = download.deadline
            if again := download.poll(now):
                times.append(now)
                assert again == first
        assert times == [2000, 6000, 14000, 30000, 46000]
        with pytest.raises(DownloadTimeout, match="nothing new for 60 s while fetching"):
            download.poll(60000)

    def test_a_window_that_waits_behind_others_is_not_asked_for_again(self) -> None:
        download = machine(block_size=4096)
        describe(download, 4 * 4096)
        assert len(download.poll(0)) == 4
        for index in range(4):
            now = 1900 * (index + 1)
            assert download.receive(TOPIC + "data/cbor", block(index, bytes(4096)), now)
            assert download.poll(now) == []

    def test_what_later_blocks_have_overtaken_is_asked_for_again_soon(self) -> None:
        download = machine(block_size=4096)
        describe(download, 64 * 4096)
        first = [cbor2.loads(payload)["o"] for _, payload in download.poll(0)]
        assert first == [0, 1, 2, 3]
        again: list[int] = []
        for index in range(1, 4):
            download.receive(TOPIC + "data/cbor", block(index, bytes(4096)), 100)
            download.poll(100)
        while not again:
            now = download.deadline
            again = [cbor2.loads(payload)["o"] for _, payload in download.poll(now)]
        assert again[0] == 0
        assert 100 < now < 200

    def test_what_is_missing_in_the_window_under_way_waits_for_the_next_one(self) -> None:
        download = machine(block_size=256, budget=1 << 20)
        describe(download, 10000 * 256)
        requests = [cbor2.loads(payload) for _, payload in download.poll(0)]
        assert requests[0]["n"] == 8
        download.receive(TOPIC + "data/cbor", block(7, bytes(256)), 100)
        asked = [cbor2.loads(payload)["o"] for _, payload in download.poll(download.deadline - 1)]
        assert all(one >= 64 for one in asked)

    def test_a_description_is_asked_for_until_it_comes(self) -> None:
        download = machine(patience=20000)
        assert download.poll(0) == []
        download.connected()
        request = [(TOPIC + "describe/cbor", cbor2.dumps({"c": "t1"}))]
        assert download.poll(0) == request
        assert download.poll(1999) == []
        assert download.poll(2000) == request
        assert download.poll(6000) == request
        with pytest.raises(DownloadTimeout, match="describing"):
            download.poll(20000)

    def test_without_a_connection_nothing_is_sent_but_patience_ends(self) -> None:
        download = machine()
        describe(download, 100_000)
        download.poll(0)
        download.disconnected()
        assert download.poll(5000) == []
        assert download.deadline == 60000
        with pytest.raises(DownloadTimeout, match="not connected"):
            download.poll(60000)

    def test_an_empty_file_is_done_without_a_request(self) -> None:
        download = machine()
        describe(download, 0)
        assert download.state == DONE
        assert download.poll(0) == []
        assert download.requests == 0


class TestBlockSize:
    """PROTOCOL "Quotas"."""

    @pytest.mark.parametrize(
        ("size", "expected"),
        [(0, 4096), (98305 * 4096, 4096), (98305 * 4096 + 1, 8192), (10**9, 16384), (98305 * 131072, 131072)],
    )
    def test_is_the_smallest_that_reaches_the_whole_file(self, size: int, expected: int) -> None:
        assert choose_block_size(size, 1 << 20) == expected

    @pytest.mark.parametrize(
        ("size", "budget", "block_size", "would_do"),
        [
            (10**9, 1 << 20, 4096, "[16384, 32768, 65536, 131072]"),
            (98305 * 131072 + 1, 1 << 20, 0, "none"),
            (10**9, 8192, 0, "none"),
            (10**6, 8192, 16384, "[4096, 8192]"),
        ],
    )
    def test_one_that_does_not_fails_before_the_first_request(
        self, size: int, budget: int, block_size: int, would_do: str
    ) -> None:
        download = machine(budget=budget, block_size=block_size)
        with pytest.raises(BlockSizeError) as raised:
            describe(download, size)
        assert str(raised.value).endswith("would do: " + would_do)
        assert download.requests == 0

    def test_a_resume_keeps_its_own_unless_told_another(self) -> None:
        record = ("fw", 0, 1, 3000, 1000, b"\x03")
        kept = machine(resume=record)
        describe(kept, 3000)
        assert (kept.block_size, kept.resumed, kept.missing) == (1000, 2, 1)
        told = machine(resume=record, block_size=500)
        describe(told, 3000)
        assert (told.block_size, told.resumed, told.missing) == (500, 0, 6)

    @pytest.mark.parametrize(
        "record",
        [
            ("no", 0, 1, 3000, 1000, b"\x03"),
            ("fw", 1, 1, 3000, 1000, b"\x03"),
            ("fw", 0, 2, 3000, 1000, b"\x03"),
        ]
        + [("fw", 0, 1, 2999, 1000, b"\x03")],
    )
    def test_a_record_of_another_file_is_forgotten(self, record: Any) -> None:
        download = machine(resume=record)
        describe(download, 3000)
        assert (download.block_size, download.resumed) == (4096, 0)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"block_size": 255}, "block size 255 is not within 256 to 131072"),
            ({"block_size": 131073}, "block size 131073"),
            ({"token": ""}, "client token 0 is not within 1 to 64"),
            ({"token": "é" * 33}, "client token 66"),
        ],
    )
    def test_parameters_have_bounds(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            machine(**settings)


class TestWhatIsIgnored:
    """Nothing but this run's blocks is ever handed out."""

    @pytest.mark.parametrize(
        ("payload", "count"),
        [
            (block(0, bytes(1000), c="t0"), "foreign"),
            (cbor2.dumps({"f": 0, "l": 1000, "i": 0, "p": bytes(1000)}), "foreign"),
            (block(0, bytes(1000), f=1), "foreign"),
            (block(0, bytes(999)), "malformed"),
            (block(0, bytes(1000), l=999), "malformed"),
            (block(2, bytes(1000)), "malformed"),
            (block(3, bytes(1000)), "malformed"),
            (block(-1, bytes(1000)), "malformed"),
            (block(2**64 - 1, bytes(1000)), "malformed"),
            (block(0, bytes(1000), i="0"), "malformed"),
            (block(0, bytes(1000), i=0.0), "malformed"),
            (block(0, bytes(1000), p="x" * 1000), "malformed"),
            (block(0, bytes(1000)) + b"\x00", "malformed"),
            (block(0, bytes(1000))[:-1], "malformed"),
            (b"", "malformed"),
            (b"\xf6", "malformed"),
        ],
    )
    def test_a_block_that_is_not_ours(self, payload: bytes, count: str) -> None:
        download = machine(block_size=1000)
        describe(download, 2500)
        download.poll(0)
        assert download.receive(TOPIC + "data/cbor", payload, 1) is None
        assert {name: getattr(download, name) for name in ("foreign", "malformed", "duplicates")} == {
            "foreign": 0,
            "malformed": 0,
            "duplicates": 0,
            count: 1,
        }
        assert download.missing == 3

    @pytest.mark.parametrize("verb", ["get/cbor", "describe/cbor", "data/json", "description/json", "other"])
    def test_other_topics(self, verb: str) -> None:
        download = machine(block_size=1000)
        describe(download, 2500)
        assert download.receive(TOPIC + verb, block(0, bytes(1000)), 1) is None
        assert (download.missing, download.foreign, download.malformed) == (3, 0, 0)

    @pytest.mark.parametrize(
        "fields",
        [{}, {"s": 1}, {"s": "1", "r": []}, {"s": 1, "r": {}}, {"s": 1, "r": [{"f": 0}]}]
        + [{"s": 1, "r": [{"f": 0, "z": -1}]}, {"s": 1, "r": [{"f": 0, "z": "9"}]}],
    )
    def test_a_description_that_is_none(self, fields: dict[str, Any]) -> None:
        download = machine()
        download.connected()
        download.poll(0)
        assert download.receive(TOPIC + "description/cbor", cbor2.dumps({"c": "t1"} | fields), 0) is None
        assert download.malformed == 1
        assert download.state == "describing"

    def test_a_late_description_and_an_early_block(self) -> None:
        download = machine()
        download.connected()
        assert download.receive(TOPIC + "data/cbor", block(0, bytes(9)), 0) is None
        describe(download, 9)
        late = cbor2.dumps({"c": "t1", "s": 2, "r": [{"f": 0, "z": 5}]})
        assert download.receive(TOPIC + "description/cbor", late, 0) is None
        assert (download.version, download.size, download.foreign) == (1, 9, 2)

    def test_a_duplicate(self) -> None:
        download = machine(block_size=1000)
        describe(download, 2500)
        download.poll(0)
        event = download.receive(TOPIC + "data/cbor", block(1, bytes(1000)), 1)
        assert event == (BLOCK, 1000, memoryview(bytes(1000)))
        assert download.receive(TOPIC + "data/cbor", block(1, bytes(1000)), 1) is None
        assert (download.missing, download.duplicates) == (2, 1)


class TestRejections:
    """Each ends the download with its code, but for those that are not ours or may pass."""

    @staticmethod
    def reject(
        download: Download, code: str, now: int = 0, topic: str = "rejected/cbor", **fields: Any
    ) -> None:
        payload = {"o": code, "m": "why"} | fields
        encode: Callable[[Any], bytes] = cbor2.dumps
        if topic.endswith("json"):

            def encode(value: Any) -> bytes:
                return json.dumps(value).encode()

        download.receive(TOPIC + topic, encode(payload), now)

    @pytest.mark.parametrize(
        "code",
        [
            "InvalidRequest",
            "Unauthorized",
            "BlockSizeOutOfBounds",
            "OffsetOutOfBounds",
            "BlockCountLimitExceeded",
        ]
        + ["BlockBitmapLimitExceeded", "ResourceNotFound", "VersionMismatch", "ETagMismatch", "SomethingNew"],
    )
    @pytest.mark.parametrize("described", [False, True])
    def test_ends_it(self, code: str, described: bool) -> None:
        download = machine()
        if described:
            describe(download, 9)
        with pytest.raises(Rejected) as raised:
            self.reject(download, code, c="t1")
        assert (raised.value.code, raised.value.message) == (code, "why")

    def test_a_topic_that_the_service_does_not_know_is_refused_in_json_and_without_token(self) -> None:
        with pytest.raises(Rejected, match="InvalidTopic"):
            self.reject(machine(), "InvalidTopic", topic="rejected/json")

    def test_of_another_run_is_ignored_and_without_token_is_told_at_the_end(self) -> None:
        download = machine()
        describe(download, 9)
        self.reject(download, "VersionMismatch", c="t0")
        self.reject(download, "ResourceNotFound")
        self.reject(download, "InvalidCbor")
        assert download.foreign == 3
        with pytest.raises(DownloadTimeout, match="InvalidCbor: why"):
            download.poll(60000)

    def test_internal_errors_pass_until_they_do_not(self) -> None:
        download = machine()
        describe(download, 9)
        asked = download.poll(0)
        for now in (0, 2500, 7000):
            self.reject(download, "InternalError", now, c="t1")
            self.reject(download, "InternalError", now + 10, c="t1")
            assert download.poll(download.deadline) == asked
        with pytest.raises(Rejected, match="InternalError"):
            self.reject(download, "InternalError", 15000, c="t1")

    def test_a_file_that_the_stream_lacks(self) -> None:
        with pytest.raises(Rejected, match="ResourceNotFound: the stream has no file 7"):
            describe(Download("mast", "fw", 7, "t1", 0), 9)

    def test_a_new_version_in_mid_download(self) -> None:
        service = Service({0: content(100_000)})
        download = machine(block_size=1000, budget=2000)
        download.connected()

        def go_on() -> None:
            for now in range(100):
                for message in download.poll(now):
                    for answer in service.answers(*message):
                        download.receive(*answer, now)
                        service.version = 2

        with pytest.raises(Rejected, match="VersionMismatch"):
            go_on()
