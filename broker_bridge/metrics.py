"""What `GET /metrics` shows (Prometheus text format). Everything is read only when somebody asks."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker_bridge.api.dispatch import ApiStats
from broker_bridge.delivery.delivery import Delivery
from broker_bridge.delivery.stats import LATENCY_BOUNDS
from broker_bridge.mqtt.connection import Connection
from broker_bridge.storage.cache import RangeCache


class Metrics(Collector):
    """The service's counters, collected from the rooms that keep them."""

    def __init__(
        self, delivery: Delivery, cache: RangeCache, connection: Connection, api: Callable[[], ApiStats]
    ) -> None:
        self._delivery = delivery
        self._cache = cache
        self._connection = connection
        self._api = api
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client. Not in the event loop's thread: what that changes is copied first."""
        yield from self._requests()
        yield from self._work()
        yield from self._storage()
        yield from self._broker()
        yield from self._api_calls()

    def _requests(self) -> Iterator[Metric]:
        stats = self._delivery.stats
        requests = CounterMetricFamily("sluice_requests", "Requests of devices.", labels=["verb", "encoding"])
        for (verb, encoding), count in dict(stats.requests).items():
            requests.add_metric([verb, encoding], count)
        yield requests
        rejections = CounterMetricFamily("sluice_rejections", "Rejected requests.", labels=["code"])
        for code, count in dict(stats.rejections).items():
            rejections.add_metric([str(code)], count)
        yield rejections
        dropped = CounterMetricFamily(
            "sluice_dropped", "What was not done because too much waited.", labels=["what"]
        )
        dropped.add_metric(["request"], stats.dropped_requests)
        dropped.add_metric(["answer"], stats.dropped_answers)
        yield dropped
        below, buckets = 0, []
        for bound, count in zip((*map(str, LATENCY_BOUNDS), "+Inf"), stats.latency, strict=True):
            below += count
            buckets.append((bound, below))
        yield HistogramMetricFamily(
            "sluice_request_seconds",
            "From a GetStream request's arrival to its last block being handed to the writer.",
            buckets=buckets,
            sum_value=stats.latency_sum,
        )

    def _work(self) -> Iterator[Metric]:
        stats, scheduler = self._delivery.stats, self._delivery.scheduler
        yield CounterMetricFamily("sluice_blocks", "Blocks handed to the writer.", value=stats.blocks)
        yield CounterMetricFamily("sluice_block_bytes", "File bytes of these blocks.", value=stats.bytes)
        yield GaugeMetricFamily("sluice_things_waiting", "Things with waiting blocks.", value=len(scheduler))
        yield GaugeMetricFamily(
            "sluice_requests_waiting", "Requests with waiting blocks.", value=scheduler.waiting_requests
        )
        yield GaugeMetricFamily("sluice_blocks_waiting", "Blocks that wait.", value=scheduler.waiting_blocks)

    def _storage(self) -> Iterator[Metric]:
        cache = self._cache
        for name, text, count in (
            ("sluice_cache_hits", "Ranges found in the cache.", cache.hits),
            ("sluice_cache_misses", "Ranges that had to be read.", cache.misses),
            ("sluice_cache_waits", "Askers that waited for a read already under way.", cache.waits),
            ("sluice_cache_evictions", "Ranges pushed out of the cache.", cache.evictions),
            ("sluice_store_reads", "Ranges read from the store.", cache.store_reads),
            ("sluice_store_read_bytes", "Bytes read from the store.", cache.store_bytes),
        ):
            yield CounterMetricFamily(name, text, value=count)
        yield GaugeMetricFamily("sluice_cache_bytes", "Bytes in the cache.", value=cache.bytes)

    def _broker(self) -> Iterator[Metric]:
        stats = self._connection.stats
        yield GaugeMetricFamily("sluice_broker_connected", "1 while connected.", value=int(stats.connected))
        for name, text, count in (
            ("sluice_broker_connects", "Sessions with the broker that stood.", stats.connects),
            ("sluice_broker_failures", "Connections that failed or broke.", stats.failures),
            ("sluice_broker_sent_bytes", "Bytes of MQTT sent.", stats.bytes_written),
            ("sluice_broker_received_bytes", "Bytes of MQTT received.", stats.bytes_received),
            ("sluice_broker_data_messages", "Data messages sent.", stats.data_written),
            ("sluice_broker_control_messages", "Descriptions and rejections sent.", stats.control_written),
            ("sluice_broker_control_dropped", "Descriptions and rejections given up.", stats.control_dropped),
            ("sluice_broker_too_large", "Messages over the broker's packet size.", stats.too_large),
            ("sluice_broker_not_taken", "QoS 1 messages the broker refused.", stats.not_taken),
        ):
            yield CounterMetricFamily(name, text, value=count)

    def _api_calls(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "sluice_api_answers", "Answers to API calls.", labels=["service", "operation", "status"]
        )
        for (service, operation, status), count in self._api().answers().items():
            calls.add_metric([service, operation, str(status)], count)
        yield calls
