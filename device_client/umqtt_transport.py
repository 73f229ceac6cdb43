"""MQTT through an `umqtt.simple.MQTTClient` that a device has anyway. Runs on MicroPython.

That client allocates every payload and knows no bound: a message longer than the heap is a MemoryError. Where
memory is short, `device_client.socket_transport` is the better one.
"""

import os
import select

from device_client.clock import now
from device_client.mqtt import BrokerUnreachable, SubscriptionRefused

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BACKOFF = 250  # milliseconds from a lost connection to the next one, at first
_LONGEST = 8000
_MOST = 64  # messages read before the caller's clock is looked at


class UmqttTransport:
    """Stands in for a SocketTransport. `client`: not connected; its callback is taken. ValueError where it
    has no keepalive, without which it would not notice that the broker is gone.

    `on_message(topic, payload)` and `on_session(up)` are called from `open`, `wait` and `close`.
    """

    def __init__(
        self,
        client: "Any",
        topics: "list[str]",
        on_message: "Callable[[str, bytes], object]",
        on_session: "Callable[[bool], object]",
    ) -> None:
        if not client.keepalive:
            raise ValueError("the MQTTClient's keepalive is 0")
        self._client, self._topics = client, topics
        self._on_message, self._on_session = on_message, on_session
        self._up = self._heard = False
        self._backoff, self._retry_at, self._ping_at = _BACKOFF, 0, 0
        client.set_callback(self._message)

    def open(self) -> None:
        """Returns when the session stands. BrokerUnreachable, SubscriptionRefused."""
        try:
            self._client.connect()
        except Exception as error:  # noqa: BLE001 - MQTTException, too, which only umqtt has
            self._lost()
            raise BrokerUnreachable(f"cannot reach the broker: {error!r}") from None
        try:
            for topic in self._topics:
                self._client.subscribe(topic)
        except OSError as error:
            self._lost()
            raise BrokerUnreachable(f"lost the broker: {error!r}") from None
        except Exception as error:  # noqa: BLE001
            raise SubscriptionRefused(f"the broker does not grant {topic}: {error!r}") from None
        self._up, self._backoff = True, _BACKOFF
        self._ping_at = now() + self._client.keepalive * 500
        self._on_session(True)

    def send(self, topic: str, payload: bytes) -> None:
        """Sends at QoS 0; drops it while there is no session."""
        if self._up:
            try:
                self._client.publish(topic, payload)
            except OSError:
                self._lost()

    def wait(self, milliseconds: int) -> None:
        """Until something came, at most so long. SubscriptionRefused; anything else is tried again."""
        if not self._up:
            pause = self._retry_at - now()
            if pause > 0:
                select.poll().poll(min(milliseconds, pause))
            else:
                try:
                    self.open()
                except BrokerUnreachable:
                    pass
            return
        try:
            if not self._check():
                poll = select.poll()
                poll.register(self._client.sock, select.POLLIN)
                poll.poll(max(0, min(milliseconds, self._ping_at - now())))
                self._check()
            if now() >= self._ping_at:
                self._ping_at = now() + self._client.keepalive * 500
                self._client.ping()
        except OSError:
            self._lost()

    def close(self) -> None:
        """Ends the session in good order where there is one."""
        if self._up:
            self._up = False
            try:
                self._client.disconnect()
            except OSError:
                pass
            self._on_session(False)

    def _check(self) -> bool:
        # Whether a message came: `check_msg` reads one, and does not say so in all releases.
        for count in range(_MOST):
            self._heard = False
            self._client.check_msg()
            if not self._heard:
                return count > 0
        return True

    def _message(self, topic: bytes, payload: bytes) -> None:
        self._heard = True
        self._on_message(topic.decode(), payload)

    def _lost(self) -> None:
        self._retry_at = now() + self._backoff * (256 + os.urandom(1)[0]) // 512
        self._backoff = min(_LONGEST, 2 * self._backoff)
        if self._up:
            self._up = False
            self._on_session(False)
