"""The registry, the store and the way to the broker, opened as the settings say: for each process its own."""

import ssl
from pathlib import Path

from sqlalchemy import URL

from broker_bridge.mqtt.address import BrokerAddress, tls_context
from broker_bridge.registry.registry import Registry
from broker_bridge.settings import BrokerSettings, ServiceSettings
from broker_bridge.storage.objects import ObjectStore
from broker_bridge.storage.open import open_store


def open_registry(settings: ServiceSettings, *, read_only: bool = False) -> Registry:
    """The registry, in the state folder unless it is elsewhere. As from `Registry.open`."""
    return Registry.open(settings.database or _sqlite(_state(settings) / "registry.db"), read_only=read_only)


def open_objects(settings: ServiceSettings) -> ObjectStore:
    """The store of the objects."""
    storage = settings.storage
    folder = None
    if not (storage.s3 or storage.s3_endpoint):
        folder = storage.objects.expanduser() if storage.objects else _state(settings) / "objects"
        folder.mkdir(parents=True, exist_ok=True)
    return open_store(
        folder=folder,
        s3_endpoint=storage.s3_endpoint,
        region=settings.region,
        revalidate=storage.revalidate,
        readers=settings.cache.readers,
        attempts=storage.retries,
        timeout=storage.timeout,
    )


def tls_to(address: BrokerAddress, broker: BrokerSettings) -> ssl.SSLContext | None:
    """How the broker at `address` is trusted; None without TLS. ValueError as from `tls_context`."""
    return tls_context(broker.cafile, broker.cert, broker.key) if address.tls else None


def _state(settings: ServiceSettings) -> Path:
    return settings.state.expanduser()


def _sqlite(path: Path) -> str:
    """The URL of a database file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path)).render_as_string()
