"""The streams as delivery sees them: the registry's, remembered until they change."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream

MAX_STREAMS = 4096
"""Streams remembered; the least recently used goes first."""


class Catalog:
    """Looks streams up without asking the database twice. Belongs to one event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._streams: OrderedDict[str, Stream] = OrderedDict()
        self._loading: dict[str, asyncio.Future[Stream]] = {}
        self._changes = 0
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog")

    def peek(self, stream_id: str) -> Stream | None:
        """The stream as it is now, where that is known; None says nothing about whether it exists."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._streams.move_to_end(stream_id)
        return stream

    async def load(self, stream_id: str) -> Stream:
        """The stream as it is now. StreamNotFound, RegistryUnavailable.

        One query however many wait for it.
        """
        loading = self._loading.get(stream_id)
        if loading is None:
            loading = asyncio.ensure_future(self._load(stream_id))
            self._loading[stream_id] = loading
            loading.add_done_callback(lambda done: self._loaded(stream_id, done))
        return await asyncio.shield(loading)

    def forget(self, stream_id: str) -> None:
        """The stream was changed or deleted: what is known of it is no longer true."""
        self._changes += 1
        self._streams.pop(stream_id, None)

    def close(self) -> None:
        """Ends the thread that asks the database."""
        self._reader.shutdown(wait=True, cancel_futures=True)

    async def _load(self, stream_id: str) -> Stream:
        loop = asyncio.get_running_loop()
        while True:
            changes = self._changes
            stream: Stream = await loop.run_in_executor(self._reader, self._registry.stream, stream_id)
            if changes == self._changes:  # or the answer may be from before the change
                break
        self._streams[stream_id] = stream
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        return stream

    def _loaded(self, stream_id: str, done: asyncio.Future[Stream]) -> None:
        del self._loading[stream_id]
        if not done.cancelled():
            done.exception()  # taken: every waiter has it too, and there may be none left
