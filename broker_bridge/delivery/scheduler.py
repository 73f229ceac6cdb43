"""Which thing's blocks are written next. No I/O: told requests and clock readings, says whose turn it is.

Round robin by thing, weighted by bytes (deficit round robin), so that nobody waits for another's backlog. A
thing that starts asking is served ahead of the round once, as fq_codel serves new flows (RFC 8290 section
4.2): who asks little and seldom does not wait for those who download.

Nobody acknowledges a block at QoS 0, and a broker holds only so much for a slow device (DEVICES "Brokers"):
after `hold` messages or `hold_bytes` written since a thing's last request, it gets nothing more until it asks
again or HOLD_SECONDS have passed.

A thing with a pace leaves the round after each turn until the pace lets more through, and then comes before
the round: as long as it takes no more than a share like the others', it waits for its pace alone.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from heapq import heapify, heappop, heappush

from broker_bridge.delivery.pacing import Meter
from broker_bridge.pace import Pace
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.storage.objects import Bytes
from chunker.answers import BlockHeads
from chunker.requests import GetRequest

QUANTUM = 128 * 1024
"""File bytes a thing may be sent in one round: the whole answer to a request, so that few turns do much."""
LEAST_QUANTUM = 32 * 1024
ROUND = 8 * 1024 * 1024
"""File bytes of a whole round: with many things each gets less in one, down to LEAST_QUANTUM, so that who
asks block by block comes soon again."""
MAX_WAITING = 16
"""Requests of one thing that wait; a further one is dropped: devices ask again by design."""
MAX_BLOCKS = 500_000
"""Blocks of all things that wait (some 70 bytes of memory each); a request beyond is dropped."""
HOLD_SECONDS = 1.0
SLOW_QUANTUM = 4096
"""The least that it becomes where the whole service is slow: rounds stay short in time too."""

BlockKey = tuple[str, int, int, int, str, str | None]


class Wanted:
    """A request whose blocks wait to be written."""

    __slots__ = (
        "arrived",
        "at",
        "blocks",
        "encoding",
        "file",
        "get",
        "heads",
        "key",
        "pace",
        "prefix",
        "stream",
        "topic",
    )

    def __init__(
        self,
        get: GetRequest,
        encoding: str,
        stream: Stream,
        file: StreamFile,
        blocks: Sequence[int],
        *,
        heads: BlockHeads,
        prefix: bytes,
        topic: bytes,
        arrived: float,
        pace: Pace | None = None,
    ) -> None:
        self.get = get
        self.encoding = encoding
        self.stream = stream
        self.file = file
        self.blocks = blocks
        self.at = 0
        """Blocks of `blocks` already written."""
        self.heads = heads
        self.prefix = prefix
        self.topic = topic
        self.arrived = arrived
        self.pace = pace
        self.key: BlockKey = (
            stream.stream_id,
            stream.version,
            file.file_id,
            get.block_size,
            encoding,
            get.token,
        )


class _State(Enum):
    IDLE = auto()
    READY = auto()
    PARKED = auto()
    HELD = auto()
    PACED = auto()


class Flow:
    """One thing's outstanding work."""

    __slots__ = (
        "bytes",
        "deficit",
        "due",
        "loaded",
        "messages",
        "meter",
        "requests",
        "state",
        "thing",
    )

    def __init__(self, thing: str, quantum: int) -> None:
        self.thing = thing
        self.requests: deque[Wanted] = deque()
        self.loaded: dict[int, Bytes] = {}
        """Ranges read for the request in front while the flow was parked, by range index."""
        self.deficit = quantum
        self.due = 0.0
        """When its pace lets it be written to again."""
        self.meter: Meter | None = None
        self.messages = 0
        self.bytes = 0
        self.state = _State.IDLE

    @property
    def parked(self) -> bool:
        """Out of the round until its bytes were read."""
        return self.state is _State.PARKED

    def discard_before(self, index: int) -> None:
        """Lets go of the loaded ranges before `index`: one request may name blocks in very many."""
        for passed in [loaded for loaded in self.loaded if loaded < index]:
            del self.loaded[passed]


class Scheduler:
    """All flows with work, and the round they are served in."""

    def __init__(self, *, hold: int, hold_bytes: int, bytes_per_second: int | None = None) -> None:
        """`bytes_per_second`: file bytes to all things together; None: as many as are taken."""
        self._hold = hold
        self._hold_bytes = hold_bytes
        self._pace = Pace(bytes_per_second)
        self._meter: Meter | None = None
        self._most = QUANTUM
        if bytes_per_second is not None:
            self._meter = Meter(0.0)
            self._most = min(QUANTUM, max(SLOW_QUANTUM, self._pace.turn_bytes))
        self._now = 0.0
        self._resting = True
        self._flows: dict[str, Flow] = {}
        self._new: deque[Flow] = deque()
        self._old: deque[Flow] = deque()
        self._held: dict[Flow, float] = {}
        self._paced: list[tuple[float, int, Flow]] = []
        """A heap by due time; the number keeps those due at once in the order of their coming."""
        self._turns = 0
        self.waiting_requests = 0
        self.waiting_blocks = 0

    def __len__(self) -> int:
        """Things with work."""
        return len(self._flows)

    def heard(self, thing: str) -> None:
        """A request of `thing` arrived: whatever was sent before, it is there to take more."""
        flow = self._flows.get(thing)
        if flow is not None:
            flow.messages = flow.bytes = 0
            if flow.state is _State.HELD:
                del self._held[flow]
                self._ready(flow, self._old)

    def add(self, thing: str, request: Wanted) -> bool:
        """Queues the blocks of `request` that do not wait already; False if too many requests wait."""
        flow = self._flows.get(thing)
        if flow is None:
            flow = Flow(thing, self._quantum())
        for other in flow.requests:
            if other.key == request.key:
                request.blocks = _without(request.blocks, other)
                if not request.blocks:
                    return True
        blocks = len(request.blocks)
        if len(flow.requests) >= MAX_WAITING or self.waiting_blocks + blocks > MAX_BLOCKS:
            return False
        self._flows[thing] = flow
        flow.requests.append(request)
        self.waiting_requests += 1
        self.waiting_blocks += blocks
        if flow.state is _State.IDLE:
            self._ready(flow, self._new)
        return True

    def next(self, now: float) -> Flow | None:
        """The flow whose turn it is: it has work, credit, a deficit above 0 and is due. None: nobody's."""
        self._now = now
        if self._held or self._paced:
            self.release(now)  # here, since others' work may never end
        while True:
            ring = self._new or self._old
            if not ring:
                self._resting = True
                return None
            flow = ring[0]
            if flow.due > now and flow.deficit > 0:
                # Without work too: who asks for one block at a time is to keep to the pace as well. Who has
                # used up its share stays, and waits for the round and its pace at once.
                ring.popleft()
                flow.state = _State.PACED
                self._turns += 1
                heappush(self._paced, (flow.due, self._turns, flow))
                continue
            if flow.requests and flow.deficit > 0:
                if self.credit(flow) > 0:
                    return flow if self._meter is None or self._may_write(self._meter) else None
                ring.popleft()
                flow.state = _State.HELD
                self._held[flow] = now + HOLD_SECONDS
                continue
            ring.popleft()
            if flow.deficit <= 0:
                # With or without work: who asks for one large block at a time would else begin anew each time
                # and get more than who has work waiting.
                flow.deficit += self._quantum()
                self._old.append(flow)
            elif ring is self._new:
                # Stays for the rest of the round, or asking one block at a time would always come first.
                self._old.append(flow)
            else:
                flow.state = _State.IDLE
                del self._flows[flow.thing]

    def credit(self, flow: Flow) -> int:
        """Messages that may be written to the flow's thing before it asks again."""
        return self._hold - flow.messages if flow.bytes < self._hold_bytes else 0

    def _quantum(self) -> int:
        """What a thing gets in this round, file bytes."""
        # Halved and halved again: the answer to a large request is then a whole number of turns. With any
        # other share each turn would end a little earlier in its request, until each request took two.
        share, quantum = ROUND // max(1, len(self._flows)), QUANTUM
        while quantum > max(share, LEAST_QUANTUM):
            quantum //= 2
        return min(self._most, quantum)

    def _may_write(self, meter: Meter) -> bool:
        """Whether the service's own pace lets a turn through."""
        if self._resting:
            meter.rest(self._now)
            self._resting = False
        return meter.due <= self._now

    def allowance(self, flow: Flow) -> int:
        """File bytes that end the flow's turn: the block that reaches them is the last."""
        request = flow.requests[0]
        most = flow.deficit
        if request.pace is not None:
            most = min(most, request.pace.turn_bytes - request.get.block_size + 1)
        if self._meter is not None:
            most = min(most, self._pace.turn_bytes - request.get.block_size + 1)
        return most

    def written(self, flow: Flow, blocks: int, size: int) -> None:
        """The first `blocks` blocks, `size` bytes, of the flow's first request were handed to the writer."""
        request = flow.requests[0]
        end = request.at + blocks
        request.at = end
        self.waiting_blocks -= blocks
        flow.deficit -= size
        flow.messages += blocks
        flow.bytes += size
        if request.pace is not None:
            if flow.meter is None:
                flow.meter = Meter(self._now)
            flow.meter.spend(request.pace.seconds(blocks, size), self._now)
            flow.due = flow.meter.due
        if self._meter is not None:
            self._meter.spend(self._pace.seconds(blocks, size), self._now)
        if end == len(request.blocks):
            self.drop(flow)

    def drop(self, flow: Flow) -> Wanted:
        """Takes the flow's first request out, with whatever of it still waits."""
        request = flow.requests.popleft()
        self.waiting_requests -= 1
        self.waiting_blocks -= len(request.blocks) - request.at
        flow.loaded.clear()
        return request

    def park(self, flow: Flow) -> None:
        """The flow whose turn it is waits for its file's bytes."""
        ring = self._new if self._new and self._new[0] is flow else self._old
        ring.popleft()
        flow.state = _State.PARKED

    def unpark(self, flow: Flow) -> bool:
        """The bytes are there: the flow is next in the round. False if it is no longer parked."""
        if flow.state is not _State.PARKED:
            return False
        flow.state = _State.READY
        self._old.appendleft(flow)
        return True

    def release(self, now: float) -> float | None:
        """Lets flows go on whose hold is over or that are due; returns when there will be more to write."""
        while self._paced and self._paced[0][0] <= now:
            self._ready(heappop(self._paced)[2], self._new)
        coming = [self._paced[0][0]] if self._paced else []
        while self._held:
            flow, until = next(iter(self._held.items()))
            if until > now:
                coming.append(until)
                break
            del self._held[flow]
            flow.messages = flow.bytes = 0
            self._ready(flow, self._old)
        if self._meter is not None and self._meter.due > now and (self._new or self._old):
            coming.append(self._meter.due)
        return min(coming, default=None)

    def withdraw(self, stream_id: str) -> Iterator[tuple[Flow, Wanted]]:
        """Takes out every request for that stream. Its things begin anew: their pace may be another now."""
        for flow in list(self._flows.values()):
            kept = deque(request for request in flow.requests if request.stream.stream_id != stream_id)
            if len(kept) == len(flow.requests):
                continue
            taken = [request for request in flow.requests if request.stream.stream_id == stream_id]
            flow.requests = kept
            flow.loaded.clear()
            self.waiting_requests -= len(taken)
            for request in taken:
                self.waiting_blocks -= len(request.blocks) - request.at
                yield flow, request
            flow.due, flow.meter = 0.0, None
            if flow.state is _State.PACED:
                self._paced = [entry for entry in self._paced if entry[2] is not flow]
                heapify(self._paced)
                self._ready(flow, self._new)

    def withdraw_things(self, leaving: Callable[[str], bool]) -> Iterator[Flow]:
        """Takes out every request of the things of which `leaving` is true."""
        for flow in list(self._flows.values()):
            if flow.requests and leaving(flow.thing):
                while flow.requests:
                    self.drop(flow)
                yield flow

    def clear(self) -> None:
        """Forgets everything: what was not written when the connection broke is asked for again."""
        for flow in self._flows.values():
            flow.state = _State.IDLE
            flow.requests.clear()
            flow.loaded.clear()
        self._flows.clear()
        self._new.clear()
        self._old.clear()
        self._held.clear()
        self._paced.clear()
        self.waiting_requests = self.waiting_blocks = 0

    def _ready(self, flow: Flow, ring: deque[Flow]) -> None:
        flow.state = _State.READY
        ring.append(flow)


def _without(blocks: Sequence[int], other: Wanted) -> Sequence[int]:
    """Those of `blocks` that do not wait in `other`; both are ascending."""
    if blocks[-1] < other.blocks[other.at] or other.blocks[-1] < blocks[0]:
        return blocks
    rest = other.blocks[other.at :]
    waiting = rest if isinstance(rest, range) else set(rest)
    return [block for block in blocks if block not in waiting]
