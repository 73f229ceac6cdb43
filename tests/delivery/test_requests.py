"""Each rejection that needs the stream or the store, and their order; what is never answered."""

import asyncio
from pathlib import Path
from typing import Any

import cbor2
import pytest

from broker_bridge.delivery import intake
from broker_bridge.settings import Permission, ServiceSettings
from broker_bridge.storage.objects import (
    BucketMissing,
    Bytes,
    ObjectForbidden,
    ObjectMissing,
    ObjectRef,
    ObjectStore,
    StoreUnavailable,
)
from tests.delivery.running import KIB, SMALL, Bench, bench, content


class Failing:
    """A folder store that fails on the objects named in `errors`. In front of the store, not in its place."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.revalidate = store.revalidate
        self.head, self.put, self.close = store.head, store.put, store.close
        self.presigned_url = store.presigned_url
        self.errors: dict[str, Exception] = {}

    def check_quick(self, ref: ObjectRef) -> bool:
        return ref.key not in self.errors and self._store.check_quick(ref)

    def check(self, ref: ObjectRef) -> None:
        if ref.key in self.errors:
            raise self.errors[ref.key]
        self._store.check(ref)

    def read_quick(self, ref: ObjectRef, start: int, length: int) -> Bytes | None:
        return None if ref.key in self.errors else self._store.read_quick(ref, start, length)

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        if ref.key in self.errors:
            raise self.errors[ref.key]
        return self._store.read(ref, start, length)


async def answer_to(
    service: Bench, thing: str = "thing", stream: str = "stream", **fields: Any
) -> dict[str, Any]:
    """The one rejection of a request."""
    before = len(service.messages)
    service.get(thing, stream, c="t", **fields)
    await service.until(lambda: len(service.messages) > before, f"no answer to {fields}")
    await service.settle()
    [message] = service.messages[before:]
    assert (message.verb, message.thing, message.stream, message.encoding) == (
        "rejected",
        thing,
        stream,
        "cbor",
    )
    assert message.fields["c"] == "t"
    return message.fields


def test_every_rejection_and_their_order(tmp_path: Path) -> None:
    settings = ServiceSettings(
        cache=SMALL, permissions=(Permission(streams=("stream", "gone"), things=("thing", "mast-*")),)
    )

    async def main() -> None:
        async with bench(tmp_path, settings=settings, store=Failing) as service:
            store = service.store
            assert isinstance(store, Failing)
            service.create("stream", {0: content(10_000), 9: b""})

            async def code(**fields: Any) -> str:
                return str((await answer_to(service, **fields))["o"])

            # Each has every defect that comes after the one that answers.
            store.errors["stream/0"] = StoreUnavailable("bucket/stream/0: /secret/path is broken")
            assert await code(thing="stranger", stream="none", s=9, f=7, o=3, l=255) == "BlockSizeOutOfBounds"
            assert await code(thing="stranger", stream="gone", s=9, f=7, o=3) == "ResourceNotFound"
            assert await code(thing="stranger", s=9, f=7, o=3) == "Unauthorized"
            assert await code(thing="mast-4", s=9, f=7, o=3) == "VersionMismatch"
            assert await code(s=0, f=7, o=3) == "VersionMismatch"
            assert await code(s=1 << 63, f=7) == "VersionMismatch"
            for file_id in (7, 255, 256, -1, 1 << 63):
                assert await code(s=1, f=file_id, o=3) == "ResourceNotFound"
            assert await code(s=1, o=3) == "ResourceNotFound"
            assert await code(s=1, b=b"\x08") == "ResourceNotFound"
            assert await code(f=9) == "ResourceNotFound"  # a file of 0 bytes has no blocks
            for error, expected in (
                (StoreUnavailable("bucket/stream/0: /secret/path"), "InternalError"),
                (ObjectForbidden("bucket/stream/0: /secret/path"), "Unauthorized"),
                (ObjectMissing("bucket/stream/0: /secret/path"), "ResourceNotFound"),
                (BucketMissing("bucket/stream/0: /secret/path"), "ResourceNotFound"),
                (RuntimeError("bucket/stream/0: /secret/path"), "InternalError"),
            ):
                store.errors["stream/0"] = error
                service.cache._held.clear()  # else the last failure answers for a second
                assert await code(s=1, o=2) == expected
            del store.errors["stream/0"]
            service.cache._held.clear()
            service.get("thing", "stream", s=1, o=2)
            await service.until(lambda: service.blocks("thing"))
            assert len(service.blocks("thing")[0]["p"]) == 10_000 - 8192
            for rejection in service.rejections():
                for secret in ("bucket", "stream/0", "secret", "Error:", "Traceback"):
                    assert secret not in rejection["m"]

    asyncio.run(main())


def test_messages_name_field_value_and_bound(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {0: content(10_000), 9: b"x"})
            for fields, named in (
                ({"s": 4}, ["s (stream version)", "4", "1"]),
                ({"s": 1 << 63}, [str(1 << 63)]),
                ({"f": 7}, ["f (file id)", "7", "0, 9"]),
                ({"o": 300}, ["300", "4096", "10000", "3 blocks"]),
            ):
                message = (await answer_to(service, "thing", "stream", **fields))["m"]
                for part in named:
                    assert part in message
            for field in ("s", "f"):
                payload = b'{"f":0,"l":4096,"%s":1%s,"c":"t"}' % (field.encode(), b"0" * 60_000)
                before = len(service.rejections())
                service.send(
                    "thing",
                    "stream",
                    "get",
                    "json",
                    payload.replace(b'"f":0,', b"" if field == "f" else b'"f":0,'),
                )
                await service.until(lambda: len(service.rejections()) > before)  # noqa: B023
                assert len(service.rejections()[-1]["m"]) < 200

    asyncio.run(main())


def test_topics(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {0: content(100)})
            good = cbor2.dumps({"f": 0, "l": 256})
            # No encoding, however wrong the payload: the topic is the first check.
            for thing, stream, verb, encoding in (
                ("thing", "stream", "get", "xml"),
                ("thing", "stream", "describe", "CBOR"),
                ("th ing", "stream", "get", "cbor"),
                ("", "stream", "get", "json"),
                ("thing", "", "describe", "json"),
                ("thing", "a:b", "get", "cbor"),
                ("x" * 129, "stream", "get", "cbor"),
                ("thing", "ä", "get", "cbor"),
            ):
                for payload, size in ((good, -1), (b"\xff", -1), (b"", 1 << 20)):
                    before = len(service.messages)
                    service.send(thing, stream, verb, encoding, payload, size)
                    [message] = service.messages[before:]
                    assert (message.verb, message.encoding, message.fields["o"]) == (
                        "rejected",
                        "json",
                        "InvalidTopic",
                    )
                    assert (message.thing, message.stream) == (thing, stream)
            # Other verbs are not ours, nor are other topics.
            before = len(service.messages)
            for verb in ("data", "rejected", "description", "Get", ""):
                service.send("thing", "stream", verb, "cbor", good)
            service.delivery.received("$aws/things/t/jobs/x/get", good, len(good))
            service.delivery.received("", good, len(good))
            await asyncio.sleep(0.05)
            assert len(service.messages) == before

    asyncio.run(main())


@pytest.mark.parametrize(
    ("thing", "stream"),
    [("x" * 65_000, "s" * 508), ("x" * 65_507, "s"), ("t", "ä" * 32_753), ("x" * 65_400, "s" * 101)],
)
def test_a_topic_too_long_to_be_answered(tmp_path: Path, thing: str, stream: str) -> None:
    # The longest that MQTT can carry is `…/get/x`; `…/rejected/json` of the same names would not fit.
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {0: content(100)})
            topic = f"$aws/things/{thing}/streams/{stream}/get/x"
            assert len(topic.encode()) <= 65535
            service.delivery.received(topic, b"", 0)
            assert not service.messages
            assert service.delivery.stats.dropped_answers == 1
            service.get("thing", "stream", l=256)
            await service.until(lambda: service.blocks("thing"))

    asyncio.run(main())


def test_oversize_payloads(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {0: content(100)})
            for verb in ("get", "describe"):
                for encoding in ("cbor", "json"):
                    for payload, size in ((b"", 65537), (b"", 1 << 24), (b" " * 65537, -1)):
                        before = len(service.messages)
                        service.send("thing", "stream", verb, encoding, payload, size)
                        [message] = service.messages[before:]
                        assert (message.verb, message.encoding) == ("rejected", encoding)
                        assert message.fields["o"] == "InvalidRequest"
                        assert "c" not in message.fields

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["cbor", "json"])
def test_describe(tmp_path: Path, encoding: str) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {3: b"abc", 0: content(10_000), 255: b""}, description="für den Mast")
            service.create("plain", {0: b"x"})
            for payload in (b"", b"\xa1\x61c\x63rdy" if encoding == "cbor" else b'{"c":"rdy"}'):
                for stream, text in (("stream", {"d": "für den Mast"}), ("plain", {})):
                    before = len(service.messages)
                    service.send("thing", stream, "describe", encoding, payload)
                    await service.until(lambda: len(service.messages) > before)  # noqa: B023
                    [message] = service.messages[before:]
                    assert message.verb == "description"
                    files = [{"f": 0, "z": 10_000}, {"f": 3, "z": 3}, {"f": 255, "z": 0}]
                    token = {"c": "rdy"} if payload else {}
                    expected = (
                        token | {"s": 1} | text | {"r": files if stream == "stream" else [{"f": 0, "z": 1}]}
                    )
                    assert message.fields == expected
                    assert list(message.fields) == list(expected)
            service.send("thing", "none", "describe", encoding, b"")
            await service.until(lambda: service.rejections())
            assert service.rejections()[0]["o"] == "ResourceNotFound"

    asyncio.run(main())


def test_permissions(tmp_path: Path) -> None:
    permissions = (
        Permission(streams=("closed",), things=()),
        Permission(streams=("fleet-*", "extra"), things=("mast-?", "site:*")),
        Permission(streams=("fleet-a",), things=("*",)),
    )

    async def main() -> None:
        async with bench(tmp_path, settings=ServiceSettings(cache=SMALL, permissions=permissions)) as service:
            allowed = {
                "closed": set(),
                "fleet-a": {"mast-4", "site:x:y"},  # the first entry that names the stream decides
                "extra": {"mast-4", "site:x:y"},
                "fleet": {"mast-4", "site:x:y", "mast-44", "other"},
            }
            for stream, things in allowed.items():
                service.create(stream, {0: b"x"})
                for thing in ("mast-4", "site:x:y", "mast-44", "other"):
                    for verb in ("describe", "get"):
                        before = len(service.messages)
                        service.send(thing, stream, verb, "cbor", cbor2.dumps({"f": 0, "l": 256}))
                        await service.until(lambda: len(service.messages) > before)  # noqa: B023
                        [message] = service.messages[before:]
                        good = "description" if verb == "describe" else "data"
                        assert message.verb == (good if thing in things else "rejected")
                        assert message.verb != "rejected" or message.fields["o"] == "Unauthorized"

    asyncio.run(main())


def test_unknown_streams_by_the_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each look-up is a query: ten thousand of them would take twenty seconds.
    monkeypatch.setattr(intake, "MAX_LOOKUPS", 1000)

    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(8192)
            service.create("stream", {0: data})
            service.get("thing", "stream")
            await service.settle()
            flood = intake.MAX_LOOKUPS + 2000
            for number in range(flood):
                service.get("flooder", f"unknown{number}")
                if number % 1000 == 0:
                    service.get("thing", "stream", n=1)
            lookups = len(service.delivery._intake._lookups)
            assert lookups <= intake.MAX_LOOKUPS
            dropped = service.delivery.stats.dropped_requests
            assert dropped == flood - lookups
            # What is known is served at once meanwhile.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(service.blocks("thing")) >= 3
            await service.delivery._intake.close()
            service.get("flooder", "unknown")
            await service.until(lambda: service.rejections("flooder"))
            assert {rejection["o"] for rejection in service.rejections("flooder")} == {"ResourceNotFound"}

    asyncio.run(main())


def test_many_requests_for_one_unknown_stream_are_one_query(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            asked = 0
            look_up = service.registry.stream

            def counted(stream_id: str) -> Any:
                nonlocal asked
                asked += 1
                return look_up(stream_id)

            service.registry.stream = counted  # type: ignore[method-assign]
            for number in range(500):
                service.get(f"thing{number}", "none")
            await service.settle()
            assert len(service.rejections()) == 500
            assert asked == 1

    asyncio.run(main())


def test_a_registry_that_fails_is_an_internal_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {0: b"x"})
            service.registry.close()
            (tmp_path / "registry.db").rename(tmp_path / "gone.db")
            (tmp_path / "registry.db").write_bytes(
                b"no database at all, and long enough to be looked at" * 50
            )
            for suffix in ("-wal", "-shm"):
                (tmp_path / f"registry.db{suffix}").unlink(missing_ok=True)
            rejection = await answer_to(service)
            assert rejection["o"] == "InternalError"
            assert "database" not in rejection["m"]

    asyncio.run(main())


def test_requests_beyond_sixteen_are_dropped_and_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(40 * 4096)
            service.create("stream", {0: data})
            service.get("thing", "stream", n=1)
            await service.settle()
            service.writing = False
            for index in range(20):
                service.get("thing", "stream", o=index, n=1)
                service.get("thing", "stream", o=0, n=index + 1)  # what waits already takes no place
            assert service.delivery.stats.dropped_requests > 0
            assert service.delivery.scheduler.waiting_requests == 16
            service.writing = True
            service.wake()
            await service.settle()
            assert [block["i"] for block in service.blocks("thing")[1:]] == list(range(16))

    asyncio.run(main())


def test_overlapping_requests_send_no_block_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(40 * 4096)
            service.create("stream", {0: data})
            service.get("thing", "stream", n=1)
            await service.settle()
            service.messages.clear()
            service.writing = False
            service.get("thing", "stream", o=0, n=4)
            service.get("thing", "stream", o=2, n=4)
            service.get("thing", "stream", o=0, b=b"\xff")
            service.get("thing", "stream", c="rdy", o=1, n=1)
            service.get("other", "stream", o=1, n=1)
            service.turn_messages = 2
            assert service.write_turn()
            service.writing = True
            service.get("thing", "stream", o=0, n=2)
            await service.settle()
            sent = [(block.get("c"), block["i"]) for block in service.blocks("thing")]
            first = [index for token, index in sent if token is None]
            assert first[:8] == list(range(8))
            assert first[8:] == [0, 1]  # asked again after they were sent
            assert ("rdy", 1) in sent
            assert len(sent) == 11
            assert [block["i"] for block in service.blocks("other")] == [1]

    asyncio.run(main())


def test_one_poisoned_request_stops_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("bad", {0: content(20 * KIB)})
            service.create("good", {0: content(20 * KIB)})
            for stream in ("bad", "good"):
                service.get("warm", stream)
            await service.settle()
            fetch = service.cache.fetch

            def faulty(ref: ObjectRef, size: int, index: int) -> Any:
                if ref.key.startswith("bad"):
                    raise IndexError("a fault of ours")
                return fetch(ref, size, index)

            service.cache.fetch = faulty  # type: ignore[method-assign]
            service.get("one", "bad")
            service.get("one", "good")
            service.get("two", "good")
            await service.settle()
            assert [rejection["o"] for rejection in service.rejections()] == ["InternalError"]
            assert len(service.blocks("one")) == len(service.blocks("two")) == 5

    asyncio.run(main())
