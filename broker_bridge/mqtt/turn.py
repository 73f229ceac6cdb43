"""The door between delivery and the connection: what delivery hears, and what it hands out to be written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Turn:
    """Blocks of one request, ascending and of one block size, written together: a PUBLISH each, on one topic.

    A payload is `prefix + head + body`: `prefix` belongs to the request (map head and client token), `heads`
    are shared by all devices that read this file at this block size, as many `bodies` hold its bytes.
    """

    topic: bytes
    prefix: bytes
    heads: Sequence[bytes]
    bodies: Sequence[bytes | memoryview]


class Handler(Protocol):
    """What a connection talks to. Every call comes from the event loop and must not block."""

    def connected(self) -> None:
        """The session stands and every subscription was granted."""

    def disconnected(self) -> None:
        """The session is gone; whatever was not yet written is dropped: devices ask again."""

    def received(self, topic: str, payload: bytes, size: int) -> None:
        """A message. `size` is its true length; of one over the connection's bound, `payload` is empty."""

    def next_turn(self, max_messages: int) -> Turn | None:
        """The next blocks to write, from 1 to `max_messages` of them; None when there is nothing to write.

        Called only while the socket takes more. `Connection.wake()` says that after None there is work again.
        """
