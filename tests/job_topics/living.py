"""A service with devices and an operator, for tests of jobs over MQTT."""

import json
import queue
import threading
from typing import Any, Self

import boto3
import paho.mqtt.client as paho
from botocore.config import Config
from paho.mqtt.enums import CallbackAPIVersion

SECONDS = 60.0
"""How long an answer is waited for."""
DOCUMENT = {"operation": "update", "files": [{"path": "/fw/app.bin", "size": 300123}]}


def operator(http: str) -> Any:
    """A boto3 client of `iot`."""
    return boto3.client(
        "iot",
        endpoint_url=f"http://{http}",
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )


def arn(name: str, kind: str = "thing") -> str:
    """That of a thing or a thing group."""
    return f"arn:aws:iot:us-east-1:000000000000:{kind}/{name}"


def create_job(iot: Any, job_id: str, *things: str, document: object = DOCUMENT, **more: Any) -> None:
    """A job for those things; `targets` in `more` for others."""
    targets = more.pop("targets", [arn(thing) for thing in things])
    text = document if isinstance(document, str) else json.dumps(document)
    iot.create_job(jobId=job_id, targets=targets, document=text, **more)


class Listener:
    """A client that hears topics, and keeps what it hears in order."""

    def __init__(self, port: int, *filters: str, name: str = "") -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._subscribed = threading.Event()
        self._filters = [(topic_filter, 1) for topic_filter in filters]
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311)
        self.client.on_connect = lambda client, *_: client.subscribe(self._filters)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda client, data, message: self.messages.put(
            (message.topic, bytes(message.payload))
        )
        # A broker that is away for a test comes back soon.
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._subscribed.wait(SECONDS)

    def raw(self, timeout: float = SECONDS) -> tuple[str, bytes]:
        """The next message."""
        return self.messages.get(timeout=timeout)

    def next(self, timeout: float = SECONDS) -> tuple[str, Any]:
        """The next message, decoded."""
        topic, payload = self.raw(timeout)
        return topic, json.loads(payload)

    def close(self) -> None:
        """Leaves."""
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Device(Listener):
    """A thing that hears all that is said to it of jobs."""

    def __init__(self, port: int, thing: str, *, wanted: tuple[str, ...] | None = None) -> None:
        """`wanted`: what it hears below its `jobs/`; without it every answer and notice."""
        everything = ("notify", "notify-next", "get/+", "start-next/+", "+/get/+", "+/update/+")
        self.thing = thing
        self.start = f"$aws/things/{thing}/jobs/"
        self._kept: list[tuple[str, Any]] = []
        super().__init__(port, *(self.start + what for what in wanted or everything))

    def send(self, what: str, payload: object = None) -> None:
        """Publishes a request: an object as JSON, or bytes as they are."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload or {}).encode()
        self.client.publish(self.start + what, data, 1)

    def ask(self, what: str, payload: object = None) -> tuple[str, Any]:
        """The answer to a request: `…/accepted` or `…/rejected`, and what it says."""
        self.send(what, payload)
        return self.hear(what + "/accepted", what + "/rejected")

    def accepted(self, what: str, payload: object = None) -> Any:
        """The answer to a request that is granted."""
        kind, answer = self.ask(what, payload)
        assert kind.endswith("/accepted"), answer
        return answer

    def rejected(self, what: str, payload: object = None) -> Any:
        """The answer to a request that is refused."""
        kind, answer = self.ask(what, payload)
        assert kind.endswith("/rejected"), answer
        return answer

    def hear(self, *wanted: str) -> tuple[str, Any]:
        """The next message on one of those topics below its `jobs/`; the others are kept for later."""
        for place, (what, message) in enumerate(self._kept):
            if what in wanted:
                del self._kept[place]
                return what, message
        while True:
            topic, message = self.next()
            what = topic.removeprefix(self.start)
            if what in wanted:
                return what, message
            self._kept.append((what, message))

    def told(self) -> Any:
        """What `notify-next` says next."""
        return self.hear("notify-next")[1]
