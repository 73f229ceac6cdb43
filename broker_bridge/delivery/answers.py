"""Where everything but blocks goes out to devices: descriptions and rejections."""

from typing import Protocol

from broker_bridge.delivery.stats import DeliveryStats
from chunker import topics
from chunker.answers import rejected
from chunker.errors import Code, Rejection

MAX_TOPIC = 65535
"""Bytes of a topic in MQTT."""


class Publisher(Protocol):
    """The connection, as delivery uses it."""

    def publish(self, topic: str, payload: bytes) -> bool:
        """Queues a message at QoS 1; False when its bounded queue is full."""

    def wake(self) -> None:
        """There are turns to be written."""


class Answers:
    """Publishes and counts. A message for which there is no room is dropped: devices ask again."""

    def __init__(self, stats: DeliveryStats) -> None:
        self._stats = stats
        self.publisher: Publisher | None = None

    def reject(self, thing: str, stream_id: str, encoding: str, rejection: Rejection) -> None:
        """Says why, in the encoding of the request where that is one (PROTOCOL "Rejections")."""
        self._stats.rejections[rejection.code] += 1
        if rejection.code is Code.INVALID_TOPIC:
            encoding = topics.JSON
        self.publish(thing, stream_id, "rejected", encoding, rejected(encoding, rejection))

    def publish(self, thing: str, stream_id: str, verb: str, encoding: str, payload: bytes) -> None:
        """Publishes one message."""
        topic = topics.topic(thing, stream_id, verb, encoding)
        # `rejected` is longer than `get`: what came on the longest of topics cannot be answered on any.
        fits = len(topic.encode()) <= MAX_TOPIC
        if not fits or self.publisher is None or not self.publisher.publish(topic, payload):
            self._stats.dropped_answers += 1

    def wake(self) -> None:
        """There are blocks to be written."""
        if self.publisher is not None:
            self.publisher.wake()
