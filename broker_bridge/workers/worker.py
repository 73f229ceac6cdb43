"""All that one process needs to answer devices: catalog, cache, delivery and the connection to the broker."""

import asyncio
import gc
import secrets
from contextlib import AsyncExitStack

from broker_bridge.counting import Counts, count
from broker_bridge.delivery.catalog import Catalog
from broker_bridge.delivery.delivery import SUBSCRIPTIONS, Delivery
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.connection import Connection
from broker_bridge.mqtt.turn import Handler
from broker_bridge.opening import tls_to
from broker_bridge.registry.registry import Registry
from broker_bridge.settings import ServiceSettings
from broker_bridge.storage.cache import RangeCache
from broker_bridge.storage.objects import ObjectStore
from broker_bridge.workers.member import Member
from chunker.requests import MAX_PAYLOAD

GC_THRESHOLD = 10_000
"""Objects after which the collector looks at the youngest: blocks make several each, and no cycles."""
DRAIN_SECONDS = 5.0
"""How long a stop may take to write what devices were promised."""


class Worker:
    """Answers devices, from `start` to `close`. Belongs to one event loop."""

    def __init__(
        self,
        settings: ServiceSettings,
        address: BrokerAddress,
        registry: Registry,
        store: ObjectStore,
        member: Member | None = None,
    ) -> None:
        """`registry` and `store` stay the caller's. `member`: there are other workers; None: all is ours.

        ValueError for TLS files that are none.
        """
        self._connect_timeout = settings.broker.connect_timeout
        self._catalog = Catalog(registry)
        self._cache = RangeCache(
            store,
            capacity=settings.cache.size,
            range_size=settings.cache.range_size,
            readers=settings.cache.readers,
        )
        self._delivery = Delivery(
            settings, self._catalog, self._cache, mine=None if member is None else member.mine
        )
        handler: Handler = self._delivery if member is None else member
        self._connection = Connection(
            address,
            handler,
            subscriptions=SUBSCRIPTIONS,
            client_id=f"{settings.broker.client_id}-{secrets.token_hex(4)}",
            tls=tls_to(address, settings.broker),
            data_qos=settings.broker.data_qos,
            max_payload=MAX_PAYLOAD,
            keep_alive=settings.broker.keep_alive,
        )
        self._delivery.attach(self._connection)
        if member is not None:
            member.attach(self._delivery, self._connection)
        self._running: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Connects, and connects again for as long as it takes, in a task that ends with `close`."""
        self._running = asyncio.ensure_future(self._connection.run())
        return self._running

    async def ready(self) -> None:
        """Waits for the first connection. BrokerUnreachable, BrokerRefused."""
        await self._connection.wait_ready(self._connect_timeout)
        # What has been made by now stays: the garbage collector is not to look at all of it for every few
        # thousand blocks, nor to hold devices up while it does.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)

    def forget(self, stream_id: str) -> None:
        """The stream was changed or deleted."""
        self._delivery.forget(stream_id)

    async def counts(self) -> Counts:
        """What was counted since the start."""
        counts = count(self._delivery, self._cache, self._connection)
        counts["sluice_workers"] = counts["sluice_broker_connected"]
        return counts

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether devices can be answered now, and what keeps them from it."""
        stats = self._connection.stats
        return stats.connected, {"broker": "connected" if stats.connected else stats.last_error}

    async def close(self) -> None:
        """Writes what is in hand, for DRAIN_SECONDS at most, and ends."""
        async with AsyncExitStack() as stack:
            stack.callback(self._cache.close)
            stack.callback(self._catalog.close)
            stack.push_async_callback(self._delivery.close)
            await self._connection.close(DRAIN_SECONDS)
            if self._running is not None:
                await self._running
