"""The model service (`model.Service`) on a real broker."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.device_client.model import Message, Service


class Responder:
    """Answers in a thread of its own; `filter` sees the answers to each request and says which to send."""

    def __init__(self, service: Service, port: int, tls: tuple[str, str] | None = None) -> None:
        self.service = service
        self.filter: Callable[[Message, list[Message]], list[Message]] = lambda _request, answers: answers
        self._requests: queue.Queue[Message | None] = queue.Queue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.client = client = Client(CallbackAPIVersion.VERSION2)
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_disconnect = lambda *_: self._ready.clear()
        client.on_message = self._message
        client.reconnect_delay_set(1, 1)
        if tls:
            client.tls_set(tls[0], *tls)
        client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._thread.start()
        self.client.loop_start()
        self.wait_until_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._requests.put(None)
        self._thread.join(30)
        self.client.disconnect()
        self.client.loop_stop()

    def wait_until_ready(self) -> None:
        """Until it hears requests: at first, and after its broker was gone."""
        assert self._ready.wait(30)

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe([(f"$aws/things/+/streams/+/{verb}/+", 1) for verb in ("describe", "get")])

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._requests.put((message.topic, bytes(message.payload)))

    def _work(self) -> None:
        while request := self._requests.get():
            for topic, payload in self.filter(request, self.service.answers(*request)):
                with suppress(RuntimeError):  # the broker is gone: a device asks again
                    self.client.publish(topic, payload).wait_for_publish(10)
