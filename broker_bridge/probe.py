"""Is another service on this broker already? Two that do not know of each other would double every block."""

import asyncio
import secrets
import ssl

from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.turn import Turn
from chunker import topics

PROBE_THING = "sluice-probe"
ANSWER_SECONDS = 1.0


class AnotherService(Exception):
    """Another service answers devices on this broker."""


async def ensure_alone(
    address: BrokerAddress, tls: ssl.SSLContext | None, client_id: str, connect_timeout: float
) -> None:
    """Returns if nobody answers for a stream that cannot exist; AnotherService if somebody does.

    BrokerUnreachable and BrokerRefused as from `Connection.wait_ready`.
    """
    stream_id = f"probe-{secrets.token_hex(8)}"
    answered = asyncio.Event()
    topic = topics.topic(PROBE_THING, stream_id, "rejected", topics.JSON)
    connection = Connection(
        address,
        _Listener(answered),
        subscriptions=[(topic, 0)],
        client_id=f"{client_id}-probe-{secrets.token_hex(4)}",
        tls=tls,
    )
    running = asyncio.ensure_future(connection.run())
    try:
        await connection.wait_ready(connect_timeout)
        connection.publish(topics.topic(PROBE_THING, stream_id, "describe", topics.JSON), b"{}")
        try:
            await asyncio.wait_for(answered.wait(), ANSWER_SECONDS)
        except TimeoutError:
            return
    finally:
        await connection.close(drain=0.5)
        await running
    raise AnotherService(f"{address}: another Sluice service answers on this broker")


class _Listener:
    def __init__(self, answered: asyncio.Event) -> None:
        self._answered = answered

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def received(self, topic: str, payload: bytes, size: int) -> None:
        self._answered.set()

    def next_turn(self, max_messages: int) -> Turn | None:
        return None
