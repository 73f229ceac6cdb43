"""MQTT over a socket, in the caller's thread: one `Session` and its connection. Runs on MicroPython.

Brokers that leave Nagle's algorithm on stall a reply of several messages by 44 ms each time the device
delays an ACK. TCP_QUICKACK, which the kernel forgets, is therefore set again before every read (Linux).
"""

import errno
import os
import select
import socket

from device_client.clock import now
from device_client.mqtt import BrokerUnreachable, Session, SubscriptionRefused

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext
    from typing import Any

FIRST_BACKOFF, LONGEST_BACKOFF = 250, 8000  # milliseconds from a lost connection to the next one

_TCP, _NODELAY = getattr(socket, "IPPROTO_TCP", 6), getattr(socket, "TCP_NODELAY", 1)
_QUICKACK = getattr(socket, "TCP_QUICKACK", 0)
# How a socket says that it would have to wait, and how CPython's TLS does: for a read, for a write.
_WOULD_WAIT = (errno.EAGAIN, 2, 3)


class SocketTransport:
    """Keeps the session up: makes it anew, with back-off and jitter, when it is lost.

    `on_message(topic, payload)`, the payload valid until it returns, and `on_session(up)` are called from
    `open` and `wait`. `tls`: for TLS. The session's keepalive also bounds what connecting and sending take.
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
        self._sock: Any = None
        self._up = False  # as `on_session` was told
        self._why = ""  # the last connection ended
        self._backoff, self._retry_at = FIRST_BACKOFF, 0

    def open(self) -> None:
        """Returns when the session stands. BrokerUnreachable, SubscriptionRefused."""
        self._connect()
        while not self._up:
            self.wait(1000)
            if self._sock is None:
                raise BrokerUnreachable(self._why)

    def send(self, topic: str, payload: "bytes | bytearray") -> None:
        """Sends at QoS 0, in the next `wait` at the latest; drops it while there is no session."""
        self._session.publish(topic, payload)

    def wait(self, milliseconds: int) -> None:
        """Until something came, at most so long. SubscriptionRefused; anything else is tried again."""
        if self._sock is None:
            pause = self._retry_at - now()
            if pause > 0:
                select.poll().poll(min(milliseconds, pause))
            else:
                try:
                    self._connect()
                except BrokerUnreachable:
                    pass
            return
        try:
            self._flush()
            if not self._read():
                self._poll.poll(max(0, min(milliseconds, self._session.deadline - now())))
                self._read()
            self._session.poll(now())
            self._flush()
        except BrokerUnreachable as error:
            self._lost(error)
        except SubscriptionRefused:
            self.close()
            raise

    def close(self) -> None:
        """Ends the session in good order where there is one."""
        if self._sock is not None:
            try:
                _at_once(self._write, b"\xe0\x00")
            except BrokerUnreachable:
                pass
            self._sock.close()
            self._sock = None
        if self._up:
            self._up = False
            self._on_session(False)

    def _read(self) -> bool:
        # One read, and every message that is whole with it; False where nothing was there.
        session = self._session
        if _QUICKACK:
            self._sock.setsockopt(_TCP, _QUICKACK, 1)
        count = _at_once(self._receive, session.room())
        if count is None:
            return False
        if not count:
            raise BrokerUnreachable("the broker closed the connection")
        session.filled(count, now())
        while True:
            message = session.message()
            if session.up and not self._up:
                self._up, self._backoff = True, FIRST_BACKOFF
                self._on_session(True)
            if message is None:
                return True
            self._on_message(message[0], message[1])

    def _flush(self) -> None:
        # All that a read made us say in one go: each write wakes the broker.
        data = self._session.take(now())
        while data:
            count = _at_once(self._write, data)
            if count is None:
                self._poll.modify(self._sock, select.POLLOUT)
                ready = self._poll.poll(self._session.keepalive * 1000)
                self._poll.modify(self._sock, select.POLLIN)
                if not ready:
                    raise BrokerUnreachable("the broker takes nothing")
            else:
                data = data[count:]

    def _connect(self) -> None:
        error: Exception = OSError("no address")
        try:
            found = socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM)
        except (OSError, ValueError) as why:  # ValueError: a name that is no host name
            found, error = [], why
        for family, kind, protocol, _, address in found:
            sock: Any = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._session.keepalive)
                sock.connect(address)
                sock.setsockopt(_TCP, _NODELAY, 1)
                if self._tls:
                    sock = self._tls.wrap_socket(sock, server_hostname=self._host)
                sock.setblocking(False)
            except (OSError, ValueError) as why:
                sock.close()
                error = why
                continue
            self._sock = sock
            self._receive = getattr(sock, "recv_into", None) or sock.readinto
            self._write = getattr(sock, "send", None) or sock.write
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)
            self._session.begin(now())
            return
        self._lost(error)
        raise BrokerUnreachable(f"cannot reach {self._host}:{self._port}: {error}")

    def _lost(self, why: Exception) -> None:
        self._why = str(why)
        self.close()
        self._retry_at = now() + self._backoff * (256 + os.urandom(1)[0]) // 512
        self._backoff = min(LONGEST_BACKOFF, 2 * self._backoff)


def _at_once(call: "Callable[[Any], int | None]", argument: "bytes | memoryview") -> "int | None":
    # What it returns; None where it would have to wait.
    try:
        return call(argument)
    except OSError as error:
        if error.errno in _WOULD_WAIT:
            return None
        raise BrokerUnreachable(str(error)) from None
