"""MQTT for CPython: paho-mqtt driven by our own loop, in the caller's thread.

Brokers that leave Nagle's algorithm on stall a reply of several messages by 44 ms each time the device
delays an ACK. TCP_QUICKACK, which the kernel forgets, is therefore set again before every read (Linux).
"""

import random
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from device_client.errors import DownloadError

CONNECT_SECONDS = 10.0
"""For TCP, for TLS, and for CONNACK and SUBACK together."""
KEEPALIVE_SECONDS = 60
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.25, 8.0
MESSAGES_A_TURN = 64
"""Read in one call of `wait` at most, so that the caller's clock and signals are looked at."""

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class BrokerUnreachable(DownloadError):
    """No MQTT session: name, address, TLS, or refused by the broker (password, client id)."""


class SubscriptionRefused(DownloadError):
    """The broker's access rules do not let this client hear the stream's answers."""


class PahoTransport:
    """One session with a broker, subscribed to `topics`, made anew with back-off when it is lost.

    `broker`: `mqtt[s]://[user:pass@]host[:port]`. `on_message(topic, payload)` and `on_session(up)` are
    called from `open` and `wait`; `on_session(True)` means that every subscription is granted. ValueError for
    a URL that is none. Subscribed at QoS 0: what is lost is asked for again, and a PUBACK for each block
    would cost more. MQTT 3.1.1, clean session.
    """

    def __init__(
        self,
        broker: str,
        topics: list[str],
        on_message: Callable[[str, bytes | bytearray], None],
        on_session: Callable[[bool], None],
        *,
        client_id: str,
        cafile: str | None = None,
        cert: str | None = None,
        key: str | None = None,
    ) -> None:
        url = urlsplit(broker)
        if url.scheme not in ("mqtt", "mqtts") or not url.hostname or url.path not in ("", "/"):
            raise ValueError(f"broker {broker!r} is not mqtt[s]://[user:pass@]host[:port]")
        self._host = url.hostname
        self._port = url.port or (8883 if url.scheme == "mqtts" else 1883)
        self._topics = topics
        self._on_message = on_message
        self._on_session = on_session
        self._up = False  # subscriptions granted
        self._heard = 0  # messages, to see whether a read brought one
        self._why = ""  # the last session ended
        self._refused: list[str] = []
        self._retry_at = 0.0
        self._give_up_at = 0.0  # on a session that is still being made
        self._backoff = FIRST_BACKOFF_SECONDS
        self._client = client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=True)
        client.connect_timeout = CONNECT_SECONDS
        client.on_socket_open = self._socket_opened
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        if url.username:
            client.username_pw_set(unquote(url.username), unquote(url.password or ""))
        if url.scheme == "mqtts":
            try:
                client.tls_set(cafile, cert, key)
            except (OSError, ValueError) as error:
                raise BrokerUnreachable(f"cannot use the TLS files: {error}") from error

    def open(self) -> None:
        """Makes the first session. BrokerUnreachable where the only attempt fails; SubscriptionRefused."""
        self._connect()
        while not self._up:
            if self._client.socket() is None:
                raise BrokerUnreachable(f"no session with {self._host}:{self._port}: {self._why}")
            self.wait(0.5)

    def send(self, topic: str, payload: bytes) -> None:
        """Publishes at QoS 0; only to be called between `on_session(True)` and `on_session(False)`."""
        self._client.publish(topic, payload, qos=0)

    def wait(self, seconds: float) -> None:
        """Waits for the broker, at most so long, and reads what came, at most MESSAGES_A_TURN messages.

        A lost session is made anew when its time has come. SubscriptionRefused when that changed.
        """
        client = self._client
        sock = client.socket()
        now = time.monotonic()
        if sock is None:
            if now < self._retry_at:
                time.sleep(min(seconds, self._retry_at - now))
                return
            with suppress(BrokerUnreachable):
                self._connect()
            return
        if self._poll(sock, seconds):
            self._drain()
        if client.want_write():
            client.loop_write()
        client.loop_misc()
        if self._refused:
            raise SubscriptionRefused(f"the broker does not grant {', '.join(self._refused)}")
        if not self._up and client.socket() is not None and time.monotonic() >= self._give_up_at:
            self._why = f"no answer within {CONNECT_SECONDS:g} s"
            client.disconnect()

    def close(self) -> None:
        """Ends the session in good order where there is one."""
        self._on_session = lambda _: None
        self._client.disconnect()

    def _poll(self, sock: Any, seconds: float) -> bool:
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        return any(flags & ~select.POLLOUT for _, flags in poll.poll(max(0.0, seconds) * 1000))

    def _drain(self) -> None:
        client = self._client
        for _ in range(MESSAGES_A_TURN):
            sock: Any = client.socket()
            if sock is None:
                return
            if _QUICKACK is not None:
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            heard = self._heard
            client.loop_read()
            if client.want_write():
                client.loop_write()  # what the message made us ask for
            if self._heard == heard:
                return

    def _connect(self) -> None:
        self._give_up_at = time.monotonic() + CONNECT_SECONDS
        try:
            self._client.connect(self._host, self._port, KEEPALIVE_SECONDS)
        except (OSError, ValueError) as error:  # ValueError: a name that is no host name
            self._lost()
            self._why = str(error)
            raise BrokerUnreachable(f"cannot reach {self._host}:{self._port}: {error}") from error
        self._give_up_at = time.monotonic() + CONNECT_SECONDS

    def _lost(self) -> None:
        self._retry_at = time.monotonic() + self._backoff * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self._backoff = min(LONGEST_BACKOFF_SECONDS, 2 * self._backoff)
        if self._up:
            self._up = False
            self._on_session(False)

    def _socket_opened(self, _client: Client, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(self, client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._why = f"the broker refused the connection: {reason}"
        else:
            client.subscribe([(topic, 0) for topic in self._topics])

    def _subscribed(
        self, _client: Client, _userdata: Any, _mid: int, reasons: list[Any], _properties: Any
    ) -> None:
        self._refused = [topic for topic, why in zip(self._topics, reasons, strict=True) if why.is_failure]
        if not self._refused:
            self._up = True
            self._backoff = FIRST_BACKOFF_SECONDS
            self._on_session(True)

    def _disconnected(self, *arguments: Any) -> None:
        self._why = self._why or str(arguments[3])
        self._lost()

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._heard += 1
        self._on_message(message.topic, message.payload)
