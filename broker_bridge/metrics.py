"""`GET /metrics` (Prometheus text format): the sum of what those have counted that answer devices."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker_bridge.api.dispatch import ApiStats
from broker_bridge.counting import GAUGES, LATENCY, LATENCY_BUCKETS, LATENCY_SUM, Counts

_COUNTERS = {
    "sluice_requests": ("Requests of devices.", ("verb", "encoding")),
    "sluice_rejections": ("Rejected requests.", ("code",)),
    "sluice_dropped": ("What was not done because too much waited.", ("what",)),
    "sluice_blocks": ("Blocks handed to the writer.", ()),
    "sluice_block_bytes": ("File bytes of these blocks.", ()),
    "sluice_cache_hits": ("Ranges found in the cache.", ()),
    "sluice_cache_misses": ("Ranges that had to be read.", ()),
    "sluice_cache_waits": ("Askers that waited for a read already under way.", ()),
    "sluice_cache_evictions": ("Ranges pushed out of the cache.", ()),
    "sluice_store_reads": ("Ranges read from the store.", ()),
    "sluice_store_read_bytes": ("Bytes read from the store.", ()),
    "sluice_downloads": ("Answers to downloads over HTTP.", ("status",)),
    "sluice_download_bytes": ("File bytes of these answers.", ()),
    "sluice_broker_connects": ("Sessions with the broker that stood.", ()),
    "sluice_broker_failures": ("Connections that failed or broke.", ()),
    "sluice_broker_sent_bytes": ("Bytes of MQTT sent.", ()),
    "sluice_broker_received_bytes": ("Bytes of MQTT received.", ()),
    "sluice_broker_data_messages": ("Data messages sent.", ()),
    "sluice_broker_control_messages": ("Descriptions and rejections sent.", ()),
    "sluice_broker_control_dropped": ("Descriptions and rejections given up.", ()),
    "sluice_broker_too_large": ("Messages over the broker's packet size.", ()),
    "sluice_broker_not_taken": ("QoS 1 messages the broker refused.", ()),
    "sluice_job_requests": ("Requests of devices to jobs.", ("operation",)),
    "sluice_job_rejections": ("Rejected requests to jobs.", ("code",)),
    "sluice_job_notices": ("Things told of their jobs.", ()),
    "sluice_job_events": ("Events of jobs published.", ()),
    "sluice_worker_cpu_seconds": ("CPU time of what answers devices, all its workers.", ()),
    "sluice_workers_replaced": ("Worker processes started in place of one that had ended.", ()),
}


class Metrics(Collector):
    """The service's metrics: the counts of those that answer devices, the API's, the process's own."""

    def __init__(self, counts: Callable[[], Counts], api: Callable[[], ApiStats]) -> None:
        """`counts` may block."""
        self._counts = counts
        self._api = api
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format. Not in the event loop's thread, since it may block."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        counts = self._counts()
        families = {
            name: CounterMetricFamily(name, text, labels=labels) for name, (text, labels) in _COUNTERS.items()
        }
        for key, number in counts.items():
            name, *labels = key.split(" ")
            if name in families:
                families[name].add_metric(labels, number)
        yield from families.values()
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=counts.get(name, 0))
        yield _latency(counts)
        calls = CounterMetricFamily(
            "sluice_api_answers", "Answers to API calls.", labels=["service", "operation", "status"]
        )
        for (service, operation, status), number in self._api().answers().items():
            calls.add_metric([service, operation, str(status)], number)
        yield calls


def _latency(counts: Counts) -> Metric:
    below, buckets = 0.0, []
    for bound in LATENCY_BUCKETS:
        below += counts.get(f"{LATENCY} {bound}", 0)
        buckets.append((bound, below))
    return HistogramMetricFamily(
        LATENCY,
        "From a GetStream request's arrival to its last block being handed to the writer.",
        buckets=buckets,
        sum_value=counts.get(LATENCY_SUM, 0),
    )
