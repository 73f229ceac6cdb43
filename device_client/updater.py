"""The OTA agent's simple door: one call keeps a program up to date. CPython.

slots = FolderSlots("/var/lib/mast", "M1", identify, 8, reset=lambda: sys.exit(75), sink=FileSink)
slots.boot()
keep_updated("mqtt://broker", thing="mast-17", platform=slots, keys={"/certs/signer.pem": PEM})
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from device_client.address import BrokerAddress
from device_client.agent import MESSAGE_HEAD, Agent, run_agent
from device_client.client import KEEPALIVE, verifier
from device_client.mqtt import Session
from device_client.socket_transport import SocketTransport

if TYPE_CHECKING:
    from device_client.jobs import Execution
    from device_client.platform import Platform


def keep_updated(
    broker: str,
    *,
    thing: str,
    platform: "Platform",
    keys: Mapping[str, bytes],
    self_test: Callable[[], str | None] = lambda: "",
    other: "Callable[[Execution], tuple[str, dict[str, str]] | None] | None" = None,
    block_size: int = 16384,
    patience: float = 60.0,
    test_wait: float = 600.0,
    cafile: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> None:
    """Takes the thing's jobs until the platform was asked to reset, and returned.

    `broker`, `cafile`, `cert`, `key`: as `device_client.client.download` has them. `keys`: public keys on
    P-256, PEM or DER, by the name of the signer's certificate. `self_test`, `other`: as `Agent` has them.
    `block_size`: bytes; `patience`, `test_wait`: seconds. Raises ValueError for parameters out of their
    bounds, SubscriptionRefused; a broker that cannot be reached is tried again and again.
    """
    for pem in keys.values():
        verifier(pem, b"")  # a key that is none is told now, not when an update fails
    address = BrokerAddress.parse(broker, cafile, cert, key)
    agent = Agent(
        thing,
        platform,
        dict(keys),
        self_test,
        os.urandom(6).hex(),
        block_size=block_size,
        budget=max(1024 * 1024, block_size),
        patience=round(patience * 1000),
        test_wait=round(test_wait * 1000),
        verify=lambda key, digest, signature: verifier(key, signature)(digest),
        other=other,
    )
    buffer = bytearray(block_size + MESSAGE_HEAD)
    session = Session(thing, agent.topics, buffer, address.user, address.password, KEEPALIVE)
    run_agent(
        agent,
        SocketTransport(session, address.host, address.port, agent.message, agent.session, address.tls),
    )
