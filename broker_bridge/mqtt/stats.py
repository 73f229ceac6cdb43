"""What a connection counts, for metrics and for whoever looks after it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counts since the start. Bytes are MQTT's, headers included, TLS not."""

    connected: bool = False
    version: int = 5
    """Version of MQTT in use or to be tried next: 5, or 4 for 3.1.1."""
    connects: int = 0
    """Sessions that stood with every subscription granted; all but the first are reconnects."""
    failures: int = 0
    """Connections that ended or never came about, for another reason than `close`."""
    last_error: str = ""
    bytes_received: int = 0
    messages_received: int = 0
    bytes_written: int = 0
    data_written: int = 0
    """Data messages handed to the socket."""
    control_written: int = 0
    """Control messages handed to the socket."""
    control_dropped: int = 0
    """Control messages given up: the queue was full, there was no connection, or it was lost first."""
    too_large: int = 0
    """Messages not sent because the broker's Maximum Packet Size is below them."""
    not_taken: int = 0
    """QoS 1 messages that the broker acknowledged with an error."""
    retained_ignored: int = 0
    """Retained requests that were not answered."""
