"""What the service sends of its own accord: little of it at a time, and known to have arrived."""

import asyncio
from collections.abc import Callable
from typing import Protocol

WINDOW = 10
"""Messages on their way that the broker has not acknowledged: answers to devices wait behind so many."""


class Publish(Protocol):
    """`mqtt.connection.Connection.publish`."""

    def __call__(self, topic: str, payload: bytes, settled: Callable[[bool], None] | None = None) -> bool: ...


class Sender:
    """Sends messages at QoS 1, WINDOW at a time. Belongs to one event loop."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._free = asyncio.Semaphore(WINDOW)

    async def send(self, topic: str, payload: bytes) -> "asyncio.Future[bool]":
        """Sends it as soon as there is room. Done when the broker has it (True), or when it is lost."""
        await self._free.acquire()
        arrived: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settled(taken: bool) -> None:
            self._free.release()
            if not arrived.done():
                arrived.set_result(taken)

        if not self._publish(topic, payload, settled):
            settled(False)
        return arrived
