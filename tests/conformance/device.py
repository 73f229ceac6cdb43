"""A device of the tests' own: paho, and nothing of ours. It may hear what is said to every thing."""

import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cbor2
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

SECONDS = 60


@dataclass(frozen=True)
class Heard:
    """A message as the broker delivered it."""

    thing: str
    stream: str
    verb: str
    encoding: str
    payload: bytes
    qos: int
    retain: bool

    @property
    def fields(self) -> dict[str, Any]:
        """The message's fields, in their order."""
        decoded = cbor2.loads(self.payload) if self.encoding == "cbor" else json.loads(self.payload)
        assert type(decoded) is dict
        return decoded

    @property
    def block(self) -> tuple[int, bytes]:
        """Index and bytes of a block whose fields are those that PROTOCOL has, in its order."""
        fields = self.fields
        assert self.verb == "data"
        assert list(fields)[-4:] == ["f", "l", "i", "p"]
        assert list(fields)[:-4] in ([], ["c"])
        data = fields["p"] if self.encoding == "cbor" else b64decode(fields["p"], validate=True)
        assert type(fields["l"]) is type(fields["i"]) is type(fields["f"]) is int
        assert fields["l"] == len(data)
        return fields["i"], data


class Device:
    """A connection that subscribes to `filters` at `qos` and keeps all it hears."""

    def __init__(
        self, port: int, *filters: str, qos: int = 1, version: int = MQTTProtocolVersion.MQTTv311
    ) -> None:
        self.heard: list[Heard] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        # An id of its own, as a broker of MQTT 3.1.1 asks; paho's random one will do.
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(version))
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe([(topic, qos) for topic in filters])
        assert self._subscribed.wait(SECONDS)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        parts = message.topic.split("/")
        heard = Heard(
            parts[2], parts[4], parts[5], parts[6], bytes(message.payload), message.qos, message.retain
        )
        with self._changed:
            self.heard.append(heard)
            self._changed.notify_all()

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        assert self._client.publish(topic, payload, qos).rc == paho.MQTT_ERR_SUCCESS

    def ask(self, thing: str, stream: str, verb: str, encoding: str, payload: bytes, qos: int = 1) -> None:
        """Publishes a request."""
        self.publish(f"$aws/things/{thing}/streams/{stream}/{verb}/{encoding}", payload, qos)

    def answers(self, thing: str | None = None) -> list[Heard]:
        """What the service said, so far: to one thing or to all."""
        with self._changed:
            return [
                heard
                for heard in self.heard
                if heard.verb in ("data", "description", "rejected") and thing in (None, heard.thing)
            ]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Returns when it is true; AssertionError after a minute."""
        deadline = time.monotonic() + SECONDS
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, what
                self._changed.wait(left)

    def expect(self, thing: str, count: int) -> list[Heard]:
        """The thing's answers when there are `count`; more than that are an error of their own."""
        self.wait(lambda: len(self.answers(thing)) >= count, f"{count} answers to {thing}")
        answers = self.answers(thing)
        assert len(answers) == count, answers
        return answers
