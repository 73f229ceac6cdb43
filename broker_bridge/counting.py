"""What a process that answers devices counts, as plain numbers: read only when somebody asks.

They go through a pipe as they are, and are added up (`broker_bridge.metrics` shows them).
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from broker_bridge.delivery.delivery import Delivery
from broker_bridge.delivery.stats import LATENCY_BOUNDS
from broker_bridge.mqtt.connection import Connection
from broker_bridge.storage.cache import RangeCache

Counts = dict[str, float]
"""Numbers by name, or by name and label values with blanks between: `{"sluice_requests get cbor": 5}`."""

LATENCY = "sluice_request_seconds"
LATENCY_SUM = "sluice_request_seconds_sum"
LATENCY_BUCKETS = (*map(str, LATENCY_BOUNDS), "+Inf")

GAUGES = {
    "sluice_things_waiting": "Things with waiting blocks.",
    "sluice_requests_waiting": "Requests with waiting blocks.",
    "sluice_blocks_waiting": "Blocks that wait.",
    "sluice_cache_bytes": "Bytes in the caches.",
    "sluice_broker_connected": "Connections to the broker that stand: one for each worker.",
    "sluice_workers": "Workers that answer devices.",
    "sluice_job_requests_waiting": "Requests of jobs that wait.",
    "sluice_downloads_under_way": "Downloads over HTTP under way.",
    "sluice_jobs_connected": "The connection to the broker for jobs stands (1), or does not.",
}
"""What a process holds or is, rather than has done, and what that means."""


def count(delivery: Delivery, cache: RangeCache, connection: Connection) -> Counts:
    """What one process has counted. In the event loop's thread, which counts."""
    stats, scheduler, broker = delivery.stats, delivery.scheduler, connection.stats
    counts: Counts = {
        "sluice_dropped request": stats.dropped_requests,
        "sluice_dropped answer": stats.dropped_answers,
        "sluice_blocks": stats.blocks,
        "sluice_block_bytes": stats.bytes,
        "sluice_things_waiting": len(scheduler),
        "sluice_requests_waiting": scheduler.waiting_requests,
        "sluice_blocks_waiting": scheduler.waiting_blocks,
        "sluice_cache_hits": cache.hits,
        "sluice_cache_misses": cache.misses,
        "sluice_cache_waits": cache.waits,
        "sluice_cache_evictions": cache.evictions,
        "sluice_cache_bytes": cache.bytes,
        "sluice_store_reads": cache.store_reads,
        "sluice_store_read_bytes": cache.store_bytes,
        "sluice_broker_connected": int(broker.connected),
        "sluice_broker_connects": broker.connects,
        "sluice_broker_failures": broker.failures,
        "sluice_broker_sent_bytes": broker.bytes_written,
        "sluice_broker_received_bytes": broker.bytes_received,
        "sluice_broker_data_messages": broker.data_written,
        "sluice_broker_control_messages": broker.control_written,
        "sluice_broker_control_dropped": broker.control_dropped,
        "sluice_broker_too_large": broker.too_large,
        "sluice_broker_not_taken": broker.not_taken,
        "sluice_worker_cpu_seconds": time.process_time(),
        LATENCY_SUM: stats.latency_sum,
    }
    counts |= {
        f"sluice_requests {verb} {encoding}": number for (verb, encoding), number in stats.requests.items()
    }
    counts |= {f"sluice_rejections {code}": number for code, number in stats.rejections.items()}
    for bound, number in zip(LATENCY_BUCKETS, stats.latency, strict=True):
        counts[f"{LATENCY} {bound}"] = number
    return counts


def total(several: Iterable[Mapping[str, float]]) -> Counts:
    """The sum of what several processes have counted."""
    summed: Counter[str] = Counter()
    for counts in several:
        summed.update(counts)
    return dict(summed)


def lasting(counts: Mapping[str, float]) -> Counts:
    """What of a process' counts stays true when it has ended: what it did, not what it held."""
    return {name: number for name, number in counts.items() if name not in GAUGES}
