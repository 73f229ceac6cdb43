"""MQTT over a socket, in the caller's thread. Runs on MicroPython.

Brokers that leave Nagle's algorithm on stall a reply of several messages by 44 ms each time the device
delays an ACK. TCP_QUICKACK, which the kernel forgets, is therefore set again before every read (Linux).
"""

import errno
import select
import socket

from device_client.clock import now
from device_client.mqtt import BrokerUnreachable, SubscriptionRefused
from device_client.transport import Transport

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TCP = 6  # IPPROTO_TCP, which MicroPython does not name everywhere
_NODELAY = 1
_QUICKACK = getattr(socket, "TCP_QUICKACK", 0)
# How a socket says that it would have to wait, and how CPython's TLS does: for a read, for a write.
_WOULD_WAIT = (errno.EAGAIN, 2, 3)


class SocketTransport(Transport):
    """A Transport for a device that does one thing at a time."""

    def open(self) -> None:
        """Returns when the session stands. BrokerUnreachable, SubscriptionRefused."""
        self._connect()
        while not self._up:
            self.wait(1000)
            if self._link is None:
                raise BrokerUnreachable(self._why)

    def wait(self, milliseconds: int) -> None:
        """Until something came, at most so long. SubscriptionRefused; anything else is tried again."""
        if self._link is None:
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
        if self._link is not None:
            try:
                _at_once(self._write, b"\xe0\x00")
            except BrokerUnreachable:
                pass
        self._down()

    def _read(self) -> bool:
        # One read, and every message that is whole with it; False where nothing was there.
        if _QUICKACK:
            self._link.setsockopt(_TCP, _QUICKACK, 1)
        count = _at_once(self._receive, self._session.room())
        if count is None:
            return False
        self._came(count)
        return True

    def _flush(self) -> None:
        # All that a read made us say in one go: each write wakes the broker.
        data = self._session.take(now())
        while data:
            count = _at_once(self._write, data)
            if count is None:
                self._poll.modify(self._link, select.POLLOUT)
                ready = self._poll.poll(self._session.keepalive * 1000)
                self._poll.modify(self._link, select.POLLIN)
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
            self._link = sock
            self._receive = getattr(sock, "recv_into", None) or sock.readinto
            self._write = getattr(sock, "send", None) or sock.write
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)
            self._session.begin(now())
            return
        raise self._unreachable(error)


def _at_once(send: "Callable[[Any], int | None]", data: "bytes | memoryview") -> "int | None":
    # What `send`, or its counterpart, returns; None where it would have to wait.
    try:
        return send(data)
    except OSError as error:
        if error.errno in _WOULD_WAIT:
            return None
        raise BrokerUnreachable(str(error)) from None
