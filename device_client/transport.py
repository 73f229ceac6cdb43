"""What all transports share: a session kept up, and what it hears handed on. Runs on MicroPython."""

import os

from device_client.clock import now
from device_client.mqtt import BrokerUnreachable, Session

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext
    from typing import Any

_BACKOFF = 250  # milliseconds from a lost connection to the next one, at first
_LONGEST_BACKOFF = 8000


class Transport:
    """`on_message(topic, payload)`, the payload valid until it returns, and `on_session(up)` are called from
    `open`, `wait` and `close`. `tls`: for TLS. The session's keepalive also bounds what connecting and
    sending take. A lost session is made anew with back-off and jitter.
    """

    def __init__(
        self,
        session: Session,
        host: str,
        port: int,
        on_message: "Callable[[str, memoryview], object]",
        on_session: "Callable[[bool], object]",
        tls: "SSLContext | None" = None,
    ) -> None:
        self._session, self._host, self._port, self._tls = session, host, port, tls
        self._on_message, self._on_session = on_message, on_session
        self._link: Any = None  # the connection, while there is one
        self._up = False  # as `on_session` was told
        self._why = ""  # the last connection ended
        self._backoff, self._retry_at = _BACKOFF, 0

    def send(self, topic: str, payload: "bytes | bytearray") -> None:
        """Sends at QoS 0, in the next `wait` at the latest; drops it while there is no session."""
        self._session.publish(topic, payload)

    def _came(self, count: int) -> None:
        # So many bytes are in the session's room.
        session = self._session
        if not count:
            raise BrokerUnreachable("the broker closed the connection")
        session.filled(count, now())
        while True:
            message = session.message()
            if session.up and not self._up:
                self._up, self._backoff = True, _BACKOFF
                self._on_session(True)
            if message is None:
                return
            self._on_message(message[0], message[1])

    def _lost(self, why: object) -> None:
        self._why = str(why)
        self._down()
        self._retry_at = now() + self._backoff * (256 + os.urandom(1)[0]) // 512
        self._backoff = min(_LONGEST_BACKOFF, 2 * self._backoff)

    def _unreachable(self, why: object) -> BrokerUnreachable:
        self._lost(why)
        return BrokerUnreachable(f"cannot reach {self._host}:{self._port}: {why}")

    def _down(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._up:
            self._up = False
            self._on_session(False)
