"""From a request's bytes to blocks that wait for their turn: decode and plan.

Nothing here waits. A stream that is not at hand is looked up beside the path, and its requests come back when
it was found.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic

import structlog

from broker_bridge.delivery import refusals
from broker_bridge.delivery.answers import Answers
from broker_bridge.delivery.catalog import Catalog
from broker_bridge.delivery.pacing import Paces
from broker_bridge.delivery.permissions import Permissions
from broker_bridge.delivery.scheduler import Scheduler, Wanted
from broker_bridge.delivery.stats import DeliveryStats
from broker_bridge.registry.errors import StreamNotFound
from broker_bridge.registry.streams import Stream
from chunker import topics
from chunker.answers import BlockHeads, block_prefix, description
from chunker.blocks import block_count
from chunker.errors import Rejection
from chunker.limits import Limits
from chunker.requests import GetRequest, check_topic, decode_describe, decode_get, oversized

log = structlog.get_logger("delivery")

MAX_LOOKUPS = 10_000
"""Requests that wait for their stream to be looked up; a further one is dropped."""
SHORT = 128
"""Longest payload that is remembered with what it means, bytes: AWS's firmware, whose token is always the
same, sends the same few from every device."""
MAX_SHORT = 4096
"""How many are remembered."""
MAX_TOPICS = 8192
"""How many topics are remembered with what they mean."""
MAX_HEADS = 64
"""(File, block size) pairs whose block heads are kept; the least recently used goes first."""

Then = Callable[[Stream], None]


class Intake:
    """Decides every request: answers it, refuses it, or queues its blocks.

    With `mine`, those of other things are left to other workers, which hear them too.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        scheduler: Scheduler,
        permissions: Permissions,
        paces: Paces,
        limits: Limits,
        answers: Answers,
        stats: DeliveryStats,
        mine: Callable[[str], bool] | None = None,
    ) -> None:
        self._mine = mine
        self._catalog = catalog
        self._scheduler = scheduler
        self._permissions = permissions
        self._paces = paces
        self._limits = limits
        self._answers = answers
        self._stats = stats
        self._short = lru_cache(MAX_SHORT)(self._decode)
        self._heads: OrderedDict[tuple[str, int, int, int], BlockHeads] = OrderedDict()
        self._lookups: set[asyncio.Task[None]] = set()

    def received(self, topic: str, payload: bytes, size: int) -> None:
        """A message of the subscriptions `…/get/+` and `…/describe/+`; anything else is not ours."""
        address = _address(topic)
        if address is None:
            return
        thing, stream_id, verb, encoding, valid = address
        if self._mine is not None and not self._mine(thing):
            return  # all workers hear everything
        try:
            if not valid:
                check_topic(thing, stream_id, encoding)
            self._stats.requests[verb, encoding] += 1
            if size > len(payload):
                raise oversized(size)
            self._scheduler.heard(thing)
            if verb == "describe":
                token = decode_describe(payload, encoding, self._limits)
                self._describe(thing, stream_id, encoding, token)
            else:
                short = len(payload) <= SHORT
                get = self._short(payload, encoding) if short else self._decode(payload, encoding)
                self.admit(thing, stream_id, encoding, get)
        except Rejection as rejection:
            self._answers.reject(thing, stream_id, encoding, rejection)
        except Exception:  # a fault of ours in one request must not end the connection
            log.exception("request failed", thing=thing, stream=stream_id, verb=verb)
            self._answers.reject(thing, stream_id, encoding, refusals.internal(None))

    def _decode(self, payload: bytes, encoding: str) -> GetRequest:
        return decode_get(payload, encoding, self._limits)

    def admit(self, thing: str, stream_id: str, encoding: str, get: GetRequest) -> None:
        """Plans a decoded GetStream request."""
        arrived = monotonic()

        def plan(stream: Stream) -> None:
            self._plan(thing, stream, encoding, get, arrived)

        self._with_stream(thing, stream_id, encoding, get.token, plan)

    def admit_again(self, thing: str, begun: Wanted) -> None:
        """Plans anew what waits of a request whose stream was changed, perhaps in nothing but its tags."""

        def plan(stream: Stream) -> None:
            self._plan(thing, stream, begun.encoding, begun.get, begun.arrived, begun)

        self._with_stream(thing, begun.stream.stream_id, begun.encoding, begun.get.token, plan)

    def drop_lookups(self) -> None:
        """Ends the look-ups under way; their requests are not answered."""
        for task in self._lookups:
            task.cancel()

    async def close(self) -> None:
        """Ends the look-ups under way, and waits for that."""
        self.drop_lookups()
        await asyncio.gather(*self._lookups, return_exceptions=True)

    def _describe(self, thing: str, stream_id: str, encoding: str, token: str | None) -> None:
        def answer(stream: Stream) -> None:
            files = ((file.file_id, file.size) for file in stream.files)
            payload = description(encoding, token, stream.version, stream.description, files)
            self._answers.publish(thing, stream_id, "description", encoding, payload)

        self._with_stream(thing, stream_id, encoding, token, answer)

    def _with_stream(self, thing: str, stream_id: str, encoding: str, token: str | None, then: Then) -> None:
        """Calls `then` with the stream: at once where it is known, else when it was looked up."""
        stream = self._catalog.peek(stream_id)
        if stream is not None:
            self._decide(thing, stream, encoding, token, then)
        elif len(self._lookups) >= MAX_LOOKUPS:
            self._stats.dropped_requests += 1
        else:
            task = asyncio.ensure_future(self._look_up(thing, stream_id, encoding, token, then))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _look_up(
        self, thing: str, stream_id: str, encoding: str, token: str | None, then: Then
    ) -> None:
        refusal: Rejection | None = None
        try:
            stream = await self._catalog.load(stream_id)
            if self._answered_here(thing):
                self._decide(thing, stream, encoding, token, then)
        except StreamNotFound:
            refusal = refusals.no_stream(token)
        except Exception:  # the database's or a fault of ours: the device is told, the log says why
            log.exception("request failed", thing=thing, stream=stream_id)
            refusal = refusals.internal(token)
        if refusal is not None and self._answered_here(thing):
            self._answers.reject(thing, stream_id, encoding, refusal)

    def _answered_here(self, thing: str) -> bool:
        """False where the thing has become another worker's since its request was heard."""
        return self._mine is None or self._mine(thing)

    def _decide(self, thing: str, stream: Stream, encoding: str, token: str | None, then: Then) -> None:
        try:
            if not self._permissions.allow(thing, stream.stream_id):
                raise refusals.not_permitted(token)
            then(stream)
        except Rejection as rejection:
            self._answers.reject(thing, stream.stream_id, encoding, rejection)

    def _plan(
        self,
        thing: str,
        stream: Stream,
        encoding: str,
        get: GetRequest,
        arrived: float,
        begun: Wanted | None = None,
    ) -> None:
        """The checks that need the stream, in PROTOCOL's order, and the blocks that answer; Rejection.

        `begun`: the same request as it was planned before the stream was changed.
        """
        if get.version is not None and get.version != stream.version:
            raise refusals.other_version(get, stream)
        file = stream.file(get.file_id)
        if file is None:
            raise refusals.no_file(get, stream)
        blocks: Sequence[int] = get.wanted(file.size)
        if not blocks:
            raise refusals.no_block(get, file.size, block_count(file.size, get.block_size))
        if begun is not None:
            if file == begun.file:
                blocks = begun.blocks[begun.at :]  # no block twice
            elif begun.at:
                return  # half an answer from one file must not be followed by the other half from another
        wanted = Wanted(
            get,
            encoding,
            stream,
            file,
            blocks,
            heads=self._heads_of(encoding, file.file_id, get.block_size, file.size),
            prefix=_prefix(encoding, get.token),
            topic=_data_topic(thing, stream.stream_id, encoding),
            arrived=arrived,
            pace=self._paces.of(thing, stream),
        )
        if self._scheduler.add(thing, wanted):
            self._answers.wake()
        else:
            self._stats.dropped_requests += 1

    def _heads_of(self, encoding: str, file_id: int, block_size: int, size: int) -> BlockHeads:
        key = (encoding, file_id, block_size, size)
        heads = self._heads.get(key)
        if heads is None:
            heads = self._heads[key] = BlockHeads(*key)
            if len(self._heads) > MAX_HEADS:
                self._heads.popitem(last=False)
        else:
            self._heads.move_to_end(key)
        return heads


@lru_cache(MAX_TOPICS)
def _address(topic: str) -> tuple[str, str, str, str, bool] | None:
    """Thing, stream, verb, encoding of a request's topic, and whether they are valid; None: another topic."""
    parts = topics.split(topic)
    if parts is None or parts[2] not in ("get", "describe"):
        return None
    try:
        check_topic(parts[0], parts[1], parts[3])
    except Rejection:
        return *parts, False
    return *parts, True


@lru_cache(MAX_TOPICS)
def _data_topic(thing: str, stream_id: str, encoding: str) -> bytes:
    return topics.topic(thing, stream_id, "data", encoding).encode()


_prefix = lru_cache(MAX_SHORT)(block_prefix)
