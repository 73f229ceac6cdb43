"""Delivery as the service has it (registry, folder, cache), with a recorder in the connection's place."""

import asyncio
import io
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2

from broker_bridge.delivery.catalog import Catalog
from broker_bridge.delivery.delivery import Delivery
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.settings import CacheSettings, ServiceSettings
from broker_bridge.storage.cache import RangeCache
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectRef, ObjectStore
from tests.delivery.making import NOW

KIB = 1024
SMALL = CacheSettings(size=1024 * KIB, range_size=128 * KIB)
"""Eight ranges, of which four things at once may hold some of their own."""


@dataclass
class Message:
    """What went out to a device."""

    thing: str
    stream: str
    verb: str
    encoding: str
    fields: dict[str, Any]


@dataclass
class Bench:
    """Delivery, running, and what it said."""

    delivery: Delivery
    registry: Registry
    store: ObjectStore
    cache: RangeCache
    folder: Path
    messages: list[Message] = field(default_factory=list)
    turn_messages: int = 64
    writing: bool = True
    watch: Callable[[], None] = lambda: None
    _woken: bool = False

    # The connection's part

    def publish(self, topic: str, payload: bytes) -> bool:
        self._record(topic, payload)
        return True

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._woken = False
        while self.writing and self.write_turn():
            self.watch()
        self.watch()

    def write_turn(self) -> bool:
        """Writes one turn; False if there is none."""
        turn = self.delivery.next_turn(self.turn_messages)
        if turn is None:
            return False
        assert 1 <= len(turn.heads) <= self.turn_messages
        for head, body in zip(turn.heads, turn.bodies, strict=True):
            self._record(turn.topic.decode(), turn.prefix + head + bytes(body))
        return True

    def _record(self, topic: str, payload: bytes) -> None:
        _, _, thing, _, stream, verb, encoding = topic.split("/")
        fields = cbor2.loads(payload) if encoding == "cbor" else json.loads(payload)
        if verb == "data" and encoding == "json":
            fields["p"] = b64decode(fields["p"], validate=True)
        self.messages.append(Message(thing, stream, verb, encoding, fields))

    # The device's part

    def send(self, thing: str, stream: str, verb: str, encoding: str, payload: bytes, size: int = -1) -> None:
        """A request arrives, in the event loop's own time."""
        topic = f"$aws/things/{thing}/streams/{stream}/{verb}/{encoding}"
        self.delivery.received(topic, payload, len(payload) if size < 0 else size)
        self.wake()  # the connection writes after each message it has read

    def get(self, thing: str, stream: str, encoding: str = "cbor", **fields: Any) -> None:
        """A GetStream request; `f` 0 and `l` 4096 unless they are given."""
        fields = {"f": 0, "l": 4096} | fields
        if encoding == "cbor":
            self.send(thing, stream, "get", encoding, cbor2.dumps(fields))
        else:
            plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in fields.items()}
            self.send(thing, stream, "get", encoding, json.dumps(plain).encode())

    def blocks(self, thing: str, stream: str | None = None) -> list[dict[str, Any]]:
        return [
            message.fields
            for message in self.messages
            if message.thing == thing and message.verb == "data" and stream in (None, message.stream)
        ]

    def rejections(self, thing: str | None = None) -> list[dict[str, Any]]:
        return [
            message.fields
            for message in self.messages
            if message.verb == "rejected" and thing in (None, message.thing)
        ]

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        """Waits for it; AssertionError after 60 seconds."""
        deadline = asyncio.get_running_loop().time() + 60
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, what or "waited in vain"
            await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Waits until nothing is under way: every request was answered, refused or dropped."""
        await self.until(lambda: self.idle(), "requests that wait for ever")

    def idle(self) -> bool:
        return not self.delivery.scheduler.waiting_requests and not self.delivery._intake._lookups

    # The operator's part

    def put(self, key: str, data: bytes) -> ObjectRef:
        info = self.store.put("bucket", key, io.BytesIO(data), len(data))
        assert info.size == len(data)
        return ObjectRef("bucket", key, info.etag)

    def create(self, stream: str, files: dict[int, bytes], *, description: str | None = None) -> Stream:
        """A stream of those files, file id → content."""
        return self.registry.create_stream(
            stream,
            description=description,
            role_arn="arn",
            files=tuple(
                StreamFile(file_id, self.put(f"{stream}/{file_id}", data), len(data))
                for file_id, data in files.items()
            ),
            tags={},
            now=NOW,
        )

    def update(self, stream: str, files: dict[int, bytes] | None) -> Stream:
        """The stream's next version; with new files, or None for the same."""
        taken = None
        if files is not None:
            taken = tuple(
                StreamFile(
                    file_id, self.put(f"{stream}/{file_id}-{sha256(data).hexdigest()}", data), len(data)
                )
                for file_id, data in files.items()
            )
        return self.registry.update_stream(stream, description=None, role_arn=None, files=taken, now=NOW)


def content(size: int, seed: int = 1) -> bytes:
    """Bytes of which no two places look alike."""
    return b"".join((seed * 1_000_003 + at).to_bytes(8, "big") for at in range(0, size + 8, 8))[:size]


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    settings: ServiceSettings | None = None,
    store: Callable[[ObjectStore], ObjectStore] = lambda store: store,
) -> AsyncIterator[Bench]:
    """A bench whose state is in `folder`; `store` may wrap the folder store."""
    settings = settings or ServiceSettings(cache=SMALL)
    objects = folder / "objects"
    objects.mkdir(parents=True)
    registry = Registry.open(f"sqlite:///{folder / 'registry.db'}")
    wrapped = store(FolderStore(objects))
    cache = RangeCache(
        wrapped,
        capacity=settings.cache.size,
        range_size=settings.cache.range_size,
        readers=settings.cache.readers,
    )
    catalog = Catalog(registry)
    delivery = Delivery(settings, catalog, cache)
    running = Bench(delivery, registry, wrapped, cache, objects / "bucket")
    delivery.attach(running)
    loop = asyncio.get_running_loop()

    def changed(stream_id: str) -> None:
        loop.call_soon_threadsafe(delivery.forget, stream_id)

    registry.on_change(changed)
    try:
        yield running
        await running.settle()
        permits = delivery._turns._permits
        # A read whose request was withdrawn may be under way still.
        await running.until(lambda: not permits._holders, "permits that were not given back")
        await running.until(lambda: not permits._waiting, "things that wait for a permit for ever")
        assert delivery.scheduler.waiting_blocks == 0
    finally:
        await delivery.close()
        catalog.close()
        cache.close()
        wrapped.close()
        registry.close()
