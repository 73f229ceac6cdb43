"""The service put together: registry, storage, delivery, the broker and the API, from start to stop."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import structlog

from broker_bridge.api import iot, jobs_data, server
from broker_bridge.api.app import Api
from broker_bridge.api.context import Context
from broker_bridge.counting import Counts, total
from broker_bridge.downloads.app import Downloads, beside
from broker_bridge.downloads.links import Links
from broker_bridge.downloads.resolving import Resolver
from broker_bridge.embedded import EmbeddedBroker, EmbeddedBrokerError
from broker_bridge.job_topics.job_topics import JobTopics
from broker_bridge.metrics import Metrics
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.opening import open_objects, open_registry, tls_to
from broker_bridge.ota.maker import Maker
from broker_bridge.ota.signing import load_profiles
from broker_bridge.probe import ensure_alone
from broker_bridge.settings import ServiceSettings
from broker_bridge.workers.pool import Pool
from broker_bridge.workers.worker import Worker

log = structlog.get_logger("service")


async def serve(settings: ServiceSettings, *, ready: Callable[[str, str], None], stop: asyncio.Event) -> None:
    """Runs the service until `stop` is set; calls `ready` with the URLs of the API and the broker.

    AddressTaken, AnotherService, BrokerUnreachable, BrokerRefused, EmbeddedBrokerError (and its PortTaken),
    RegistryLocked, RegistryUnavailable, WorkersFailed, and ValueError for a setting that only shows to be
    wrong when used.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        profiles = load_profiles(settings.signing)
        listener = stack.enter_context(server.listen(*_host_and_port(settings.http.removeprefix("http://"))))
        settings.state.expanduser().mkdir(parents=True, exist_ok=True)
        registry = open_registry(settings)
        stack.callback(registry.close)
        store = open_objects(settings)
        stack.callback(store.close)
        downloads = settings.downloads
        files_at = listener
        if downloads.listen is not None:
            files_at = stack.enter_context(
                server.listen(*_host_and_port(downloads.listen), setting="downloads.listen")
            )
        links = Links(registry.secret("downloads"), downloads.url or server.url(files_at))
        files = Downloads(store, links, connections=downloads.connections)
        stack.callback(files.close)
        embedded, address = await _broker(settings)
        if embedded is not None:
            stack.push_async_callback(embedded.stop)
        answering: Worker | Pool
        if settings.workers == 1:
            answering = Worker(settings, address, registry, store)
        else:
            answering = Pool(settings, address)
        stack.push_async_callback(answering.close)

        def changed(stream_id: str) -> None:
            loop.call_soon_threadsafe(answering.forget, stream_id)

        registry.on_change(changed)
        answering.start()
        await answering.ready()

        maker = Maker(registry, store, profiles, region=settings.region, clock=lambda: datetime.now(UTC))
        maker.start()
        stack.push_async_callback(asyncio.to_thread, maker.close)

        context = Context(
            registry=registry,
            store=store,
            limits=settings.limits,
            region=settings.region,
            account=settings.account,
            advertise=settings.advertise or _endpoint(address),
            token_key=registry.secret("paging"),
            clock=lambda: datetime.now(UTC),
            signing=profiles,
            render=Resolver(store, links, endpoint=settings.storage.s3_endpoint).render,
            s3_endpoint=settings.storage.s3_endpoint,
        )

        # However many workers there are, jobs are this process's: it is the one that writes the registry.
        job_topics = JobTopics(settings, address, registry, render=context.render, clock=context.clock)
        stack.push_async_callback(job_topics.close)
        job_topics.start()
        await job_topics.ready()

        async def counted() -> Counts:
            return total([await answering.counts(), job_topics.counts(), files.counts()])

        def counts() -> Counts:
            return asyncio.run_coroutine_threadsafe(counted(), loop).result()

        def health() -> tuple[bool, dict[str, object]]:
            well, state = answering.health()
            jobs_well, jobs = job_topics.health()
            return well and jobs_well, {**state, "jobs": jobs}

        metrics = Metrics(counts, lambda: api.stats)
        api = Api([iot.SERVICE, jobs_data.SERVICE], context, health=health, metrics=metrics.render)
        if files_at is not listener:
            await stack.enter_async_context(server.serving(files, files_at, lifespan="off"))
        async with server.serving(beside(api, files), listener) as url:
            ready(url, address.url)
            await _until(stop, embedded)
            log.info("stopping")


async def _broker(settings: ServiceSettings) -> tuple[EmbeddedBroker | None, BrokerAddress]:
    """The broker that was named, where nobody else serves on it; without one, an embedded one is started."""
    broker = settings.broker
    if broker.url is None:
        embedded = await EmbeddedBroker.start(*_host_and_port(broker.mqtt))
        return embedded, embedded.address
    address = BrokerAddress.parse(broker.url)
    await ensure_alone(address, tls_to(address, broker), broker.client_id, broker.connect_timeout)
    return None, address


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


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _endpoint(address: BrokerAddress) -> str:
    """What DescribeEndpoint answers: the port only where it is not AWS's own."""
    return address.host if address.port == 8883 else str(address)
