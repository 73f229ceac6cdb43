"""A fleet for tests of `sluice rollout`: things of a real service, played over a real broker."""

import json
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import boto3
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.sluice.support import Service
from tests.support.waiting import wait_until

Answer = Mapping[str, object] | None
"""What a thing reports of an execution; None: it never does."""


def succeed(_thing: str) -> Answer:
    """What a good device says."""
    return {"status": "SUCCEEDED"}


class Fleet:
    """Things in a group of their own that answer each execution as `answer` says, for a `with`."""

    def __init__(
        self, service: Service, group: str, count: int, answer: Callable[[str], Answer] = succeed
    ) -> None:
        self.iot: Any = boto3.client("iot", endpoint_url=f"http://{service.http}")
        self.group = group
        self.names = [f"{group}-{i:02}" for i in range(count)]
        self.answer = answer
        self.reached: list[str] = []
        """Things that were told of an execution, in that order."""
        self.iot.create_thing_group(thingGroupName=group)
        for name in self.names:
            self.iot.create_thing(thingName=name)
            self.iot.add_thing_to_thing_group(thingGroupName=group, thingName=name)
        address = urlsplit(service.mqtt)
        assert address.hostname is not None
        assert address.port is not None
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._heard
        self._client.connect(address.hostname, address.port)
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.subscribe("$aws/things/+/jobs/notify-next", 1)
        self._client.loop_start()
        assert ready.wait(30)

    def _heard(self, client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        thing = message.topic.split("/")[2]
        execution = json.loads(message.payload).get("execution", {})
        if thing not in self.names or not execution:
            return
        self.reached.append(thing)
        answer = self.answer(thing)
        if answer is not None:
            topic = f"$aws/things/{thing}/jobs/{execution['jobId']}/update"
            client.publish(topic, json.dumps(answer), 1)

    def job(self, rollout: str) -> Any:
        """The rollout's job."""
        return self.iot.describe_job(jobId=f"AFR_OTA-{rollout}")["job"]

    def wait_for(self, rollout: str, status: str) -> Any:
        """The job once it has that status."""

        def there() -> Any:
            try:
                job = self.job(rollout)
            except self.iot.exceptions.ResourceNotFoundException:
                return None
            return job if job["status"] == status else None

        return wait_until(there, 60, f"{rollout} is {status}")

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
