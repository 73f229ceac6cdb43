"""Many devices over one connection: each message on the wire is seen once, and counted."""

import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import cbor2
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

BLOCK_SIZE = 4096
BLOCKS_A_REQUEST = 16
PATIENCE = 1.0
"""Seconds without a block after which a device asks again."""


class Device:
    """One thing that downloads one file, a request at a time."""

    def __init__(self, thing: str, data: bytes) -> None:
        self.thing = thing
        self.data = data
        self.got: dict[int, bytes] = {}
        self.asked: Counter[int] = Counter()
        self.arrived: Counter[int] = Counter()
        self.outstanding: set[int] = set()
        self.heard_at = 0.0
        self.missing = set(range(-(-len(data) // BLOCK_SIZE)))

    def request(self) -> bytes:
        """Asks for the first blocks that are missing."""
        wanted = sorted(self.missing)[:BLOCKS_A_REQUEST]
        self.outstanding = set(wanted)
        self.asked.update(wanted)
        bitmap = bytearray((wanted[-1] - wanted[0]) // 8 + 1)
        for block in wanted:
            bitmap[(block - wanted[0]) // 8] |= 1 << (block - wanted[0]) % 8
        return cbor2.dumps({"f": 0, "l": BLOCK_SIZE, "o": wanted[0], "n": len(wanted), "b": bytes(bitmap)})

    def take(self, block: int, payload: bytes) -> None:
        self.arrived[block] += 1
        self.got[block] = payload
        self.missing.discard(block)
        self.outstanding.discard(block)

    @property
    def exact(self) -> bool:
        return not self.missing and b"".join(self.got[block] for block in sorted(self.got)) == self.data


class Fleet:
    """Devices that download `data` from `stream`."""

    def __init__(self, broker: str, stream: str, data: bytes, things: Iterable[str]) -> None:
        self.devices = {thing: Device(thing, data) for thing in things}
        self.rejected: list[object] = []
        self._stream = stream
        self._inbox: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._inbox.put(
            (message.topic, bytes(message.payload))
        )
        address = urlsplit(broker)
        self._client.connect(address.hostname or "", address.port or 1883)
        self._client.loop_start()
        assert self._subscribed.wait(30)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([(f"$aws/things/+/streams/{self._stream}/{verb}/cbor", 0) for verb in VERBS])

    def ask(self, device: Device) -> None:
        device.heard_at = time.monotonic()
        self._client.publish(
            f"$aws/things/{device.thing}/streams/{self._stream}/get/cbor", device.request(), 1
        )

    def describe(self, thing: str) -> None:
        self._client.publish(f"$aws/things/{thing}/streams/{self._stream}/describe/cbor", b"", 1)

    def answer(self, verb: str, timeout: float = 30.0) -> tuple[str, dict[str, object]] | None:
        """The next answer of that kind to whichever thing; None if none comes in time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                topic, payload = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if topic.split("/")[5] == verb:
                return topic.split("/")[2], cbor2.loads(payload)

    def download(self, at: Callable[[float], None] = lambda share: None, timeout: float = 90.0) -> None:
        """All of them, until all are done; `at` is called with the share of blocks that has come."""
        deadline = time.monotonic() + timeout
        blocks = sum(len(device.missing) for device in self.devices.values())
        for device in random.Random(0).sample(list(self.devices.values()), len(self.devices)):
            self.ask(device)
        missing = blocks
        looked = time.monotonic()
        while missing:
            now = time.monotonic()
            assert now < deadline, f"{missing} of {blocks} blocks are missing"
            try:
                topic, payload = self._inbox.get(timeout=0.1)
            except queue.Empty:
                pass
            else:
                self._take(topic, payload)
            if now - looked > 0.1:
                looked = now
                for device in self.devices.values():
                    if device.missing and now - device.heard_at > PATIENCE:
                        self.ask(device)
            left = sum(len(device.missing) for device in self.devices.values())
            if left != missing:
                missing = left
                at(1 - missing / blocks)

    def linger(self) -> None:
        """Takes what else comes within a moment: what must not come would be here by then."""
        while answer := self.answer("data", timeout=1.0):
            thing, block = answer
            self.devices[thing].arrived[int(str(block["i"]))] += 1

    def _take(self, topic: str, payload: bytes) -> None:
        _, _, thing, _, _, verb, _ = topic.split("/")
        message = cbor2.loads(payload)
        if verb == "rejected":
            self.rejected.append(message)
        elif verb == "data":
            device = self.devices[thing]
            device.take(message["i"], message["p"])
            device.heard_at = time.monotonic()
            if device.missing and not device.outstanding:
                self.ask(device)


VERBS = ("data", "description", "rejected")
