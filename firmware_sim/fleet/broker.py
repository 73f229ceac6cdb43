"""Where the fleet's broker is, and how devices get a socket to it."""

import asyncio
import socket
from typing import Any

from device_client.address import BrokerAddress
from device_client.mqtt import BrokerUnreachable, Session
from device_client.socket_transport import SocketTransport

RECEIVE_BUFFER = 16 * 1024
SEGMENT = 1460
"""Bytes, as `firmware_sim.links.relay` has them: else the kernel hides megabytes of a slow link."""
CONNECT_SECONDS = 30.0
PROBE_BUFFER = 4096

Address = tuple[int, Any]
"""Family, and what a socket of it connects to."""


class Broker(BrokerAddress):
    """The broker of all devices."""

    __slots__ = ()

    def probe(self, client_id: str, topics: list[str]) -> None:
        """Whether a device would be let in, once for all. BrokerUnreachable, SubscriptionRefused."""
        session = Session(client_id, topics, bytearray(PROBE_BUFFER), self.user, self.password)
        transport = SocketTransport(session, self.host, self.port, _ignore, _ignore, self.tls)
        try:
            transport.open()
        finally:
            transport.close()

    def addresses(self) -> list[Address]:
        """To be looked up once for all devices. BrokerUnreachable."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise BrokerUnreachable(f"cannot reach {self.host}:{self.port}: {error}") from None
        return [(family, address) for family, _, _, _, address in found]


async def connect(addresses: list[Address], slow: bool) -> socket.socket:
    """A socket that is connected, without TLS yet. OSError of the last address that was tried.

    `slow`: for a link; the kernel buffers little, so that a full queue is felt by the broker.
    """
    loop = asyncio.get_running_loop()
    failure = OSError("no address")
    for family, address in addresses:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setblocking(False)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if slow:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(found, address)
        except BaseException as error:
            found.close()
            if not isinstance(error, OSError):  # TimeoutError is one
                raise
            failure = error
        else:
            return found
    raise failure


def _ignore(*_: object) -> None:
    pass
