"""What delivery counts: plain numbers, so that counting is free (`broker_bridge.counting` reads them)."""

from bisect import bisect_left
from collections import Counter

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, seconds."""


class DeliveryStats:
    """Counters since the service started."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        """By (verb, encoding)."""
        self.rejections: Counter[str] = Counter()
        """By code."""
        self.blocks = 0
        self.bytes = 0
        """File bytes of blocks handed to the writer."""
        self.dropped_requests = 0
        """Requests not queued because too many waited."""
        self.dropped_answers = 0
        """`description` and `rejected` messages not sent because too many waited."""
        self.latency = [0] * (len(LATENCY_BOUNDS) + 1)
        """Requests by the time from their arrival to their last block being handed to the writer."""
        self.latency_sum = 0.0

    def answered(self, seconds: float) -> None:
        """A request's last block was handed to the writer, `seconds` after it arrived."""
        self.latency[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.latency_sum += seconds
