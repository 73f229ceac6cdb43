"""The service put together: registry, storage, delivery, the broker and the API, from start to stop."""

import asyncio
import secrets
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import URL

from broker_bridge.api import iot, server
from broker_bridge.api.app import Api
from broker_bridge.api.context import Context
from broker_bridge.delivery.catalog import Catalog
from broker_bridge.delivery.delivery import SUBSCRIPTIONS, Delivery
from broker_bridge.embedded import EmbeddedBroker, EmbeddedBrokerError
from broker_bridge.metrics import Metrics
from broker_bridge.mqtt.address import BrokerAddress, tls_context
from broker_bridge.mqtt.connection import Connection
from broker_bridge.probe import ensure_alone
from broker_bridge.registry.registry import Registry
from broker_bridge.settings import ServiceSettings
from broker_bridge.storage.cache import RangeCache
from broker_bridge.storage.open import open_store
from chunker.requests import MAX_PAYLOAD

log = structlog.get_logger("service")

DRAIN_SECONDS = 5.0
"""How long a stop may take to write what devices were promised."""


async def serve(settings: ServiceSettings, *, ready: Callable[[str, str], None], stop: asyncio.Event) -> None:
    """Runs the service until `stop` is set; calls `ready` with the URLs of the API and the broker.

    AddressTaken, AnotherService, BrokerUnreachable, BrokerRefused, EmbeddedBrokerError (and its PortTaken),
    RegistryLocked, RegistryUnavailable, and ValueError for a setting that only shows to be wrong when used.
    """
    loop = asyncio.get_running_loop()
    state = settings.state.expanduser()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(server.listen(*_host_and_port(settings.http.removeprefix("http://"))))
        state.mkdir(parents=True, exist_ok=True)
        registry = Registry.open(settings.database or _sqlite(state / "registry.db"))
        stack.callback(registry.close)
        store = open_store(
            folder=_objects(settings, state),
            s3_endpoint=settings.storage.s3_endpoint,
            region=settings.region,
            revalidate=settings.storage.revalidate,
            readers=settings.cache.readers,
            attempts=settings.storage.retries,
            timeout=settings.storage.timeout,
        )
        stack.callback(store.close)
        cache = RangeCache(
            store,
            capacity=settings.cache.size,
            range_size=settings.cache.range_size,
            readers=settings.cache.readers,
        )
        stack.callback(cache.close)
        catalog = Catalog(registry)
        stack.callback(catalog.close)
        delivery = Delivery(settings, catalog, cache)
        stack.push_async_callback(delivery.close)

        def changed(stream_id: str) -> None:
            loop.call_soon_threadsafe(delivery.forget, stream_id)

        registry.on_change(changed)

        embedded, address, tls = await _broker(settings)
        if embedded is not None:
            stack.push_async_callback(embedded.stop)
        connection = Connection(
            address,
            delivery,
            subscriptions=SUBSCRIPTIONS,
            client_id=f"{settings.broker.client_id}-{secrets.token_hex(4)}",
            tls=tls,
            data_qos=settings.broker.data_qos,
            max_payload=MAX_PAYLOAD,
            keep_alive=settings.broker.keep_alive,
        )
        delivery.attach(connection)
        running = asyncio.ensure_future(connection.run())
        stack.push_async_callback(_join, running)
        stack.push_async_callback(connection.close, DRAIN_SECONDS)
        await connection.wait_ready(settings.broker.connect_timeout)

        metrics = Metrics(delivery, cache, connection, lambda: api.stats)
        context = Context(
            registry=registry,
            store=store,
            limits=settings.limits,
            region=settings.region,
            account=settings.account,
            advertise=settings.advertise or _endpoint(address),
            token_key=registry.secret("paging"),
            clock=lambda: datetime.now(UTC),
        )

        def health() -> tuple[bool, dict[str, object]]:
            connected = connection.stats.connected
            return connected, {"broker": "connected" if connected else connection.stats.last_error}

        api = Api([iot.SERVICE], context, health=health, metrics=metrics.render)
        async with server.serving(api, listener) as url:
            ready(url, address.url)
            await _until(stop, embedded)
            log.info("stopping")


def _sqlite(path: Path) -> str:
    """The URL of a database file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def _objects(settings: ServiceSettings, state: Path) -> Path | None:
    """The folder of buckets; None where objects are in S3."""
    storage = settings.storage
    if storage.s3 or storage.s3_endpoint:
        return None
    folder = storage.objects.expanduser() if storage.objects else state / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def _broker(
    settings: ServiceSettings,
) -> tuple[EmbeddedBroker | None, BrokerAddress, ssl.SSLContext | None]:
    """The broker that was named, where nobody else serves on it; without one, an embedded one is started."""
    broker = settings.broker
    if broker.url is None:
        embedded = await EmbeddedBroker.start(*_host_and_port(broker.mqtt))
        return embedded, embedded.address, None
    address = BrokerAddress.parse(broker.url)
    tls = tls_context(broker.cafile, broker.cert, broker.key) if address.tls else None
    await ensure_alone(address, tls, broker.client_id, broker.connect_timeout)
    return None, address, tls


async def _until(stop: asyncio.Event, embedded: EmbeddedBroker | None) -> None:
    """Returns when `stop` is set; EmbeddedBrokerError if the embedded broker ends before."""
    stopped = asyncio.ensure_future(stop.wait())
    if embedded is None:
        await stopped
        return
    died = asyncio.ensure_future(embedded.died())
    await asyncio.wait([stopped, died], return_when="FIRST_COMPLETED")
    if not stopped.done():
        stopped.cancel()
        raise EmbeddedBrokerError(f"the embedded broker ended by itself, with status {died.result()}")
    died.cancel()


async def _join(task: "asyncio.Future[None]") -> None:
    await task


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _endpoint(address: BrokerAddress) -> str:
    """What DescribeEndpoint answers: the port only where it is not AWS's own."""
    return address.host if address.port == 8883 else str(address)
