"""From blocks that wait to blocks in the writer's hand.

A turn never waits. A flow whose bytes are not at hand leaves the round (is parked) and comes back to its
front when they were read.
"""

import asyncio
import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic

import structlog

from broker_bridge.delivery import refusals
from broker_bridge.delivery.answers import Answers
from broker_bridge.delivery.scheduler import Flow, Scheduler, Wanted
from broker_bridge.delivery.stats import DeliveryStats
from broker_bridge.mqtt.turn import Turn
from broker_bridge.storage.cache import RangeCache
from broker_bridge.storage.objects import Bytes
from chunker.errors import Code

log = structlog.get_logger("delivery")

TIMER_SECONDS = 0.001
"""The loop's clock counts in milliseconds: a timer for less fires at once, and again, until it is time."""


class Turns:
    """Makes turns of what the scheduler says is next and the cache holds."""

    def __init__(
        self,
        *,
        cache: RangeCache,
        scheduler: Scheduler,
        answers: Answers,
        stats: DeliveryStats,
        most_loading: int,
    ) -> None:
        """`most_loading`: things that may wait for, or hold, a range at once; it bounds memory."""
        self._cache = cache
        self._scheduler = scheduler
        self._answers = answers
        self._stats = stats
        self._permits = _Permits(most_loading)
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf

    def next_turn(self, max_messages: int) -> Turn | None:
        """The next blocks to be written, at most `max_messages`; None: nothing to write now."""
        now = monotonic()
        while (flow := self._scheduler.next(now)) is not None:
            turn = self._assemble(flow, min(max_messages, self._scheduler.credit(flow)), now)
            if turn is not None:
                return turn
        self._wake_later(now)
        return None

    def withdraw(self, stream_id: str) -> list[tuple[str, Wanted]]:
        """Takes out every request for that stream: (thing, request)."""
        taken = list(self._scheduler.withdraw(stream_id))
        for flow, _ in taken:
            self._withdrawn(flow)
        self._answers.wake()
        return [(flow.thing, request) for flow, request in taken]

    def withdraw_things(self, leaving: Callable[[str], bool]) -> None:
        """Takes out every request of the things of which `leaving` is true."""
        for flow in self._scheduler.withdraw_things(leaving):
            self._withdrawn(flow)
        self._answers.wake()

    def clear(self) -> None:
        """Forgets all that waits."""
        self._scheduler.clear()
        self._permits.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _assemble(self, flow: Flow, most: int, now: float) -> Turn | None:
        """Blocks of the flow's first request for one turn; None if it was parked or refused instead."""
        request = flow.requests[0]
        size, block_size = request.file.size, request.get.block_size
        # The block that reaches the allowance is the last.
        most = min(most, max(1, -(-self._scheduler.allowance(flow) // block_size)))
        blocks = request.blocks[request.at : request.at + most]
        bodies: list[bytes | memoryview] = []
        try:
            while len(bodies) < len(blocks):
                done = len(bodies)
                first = blocks[done] * block_size
                start, data = self._bytes_around(flow, request, first, min(first + block_size, size))
                end = start + len(data)
                # All that lie in these bytes, at once. A slice of the file's last block ends with the file.
                until = len(blocks) if end == size else bisect_left(blocks, end // block_size, done)
                offsets = _offsets(blocks[done:until], block_size, start)
                bodies += [data[offset : offset + block_size] for offset in offsets]
        except _Loading as missing:
            self._wait_for(flow, request, missing)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one request must not stop the rest
            if not bodies:  # or the next turn meets the error again
                self._refuse(flow, error)
        if not bodies:
            return None
        blocks = blocks[: len(bodies)]
        taken = min((blocks[-1] + 1) * block_size, size) - blocks[-1] * block_size
        taken += (len(blocks) - 1) * block_size
        heads = request.heads
        if heads.encoded:
            bodies = [heads.body(body) for body in bodies]
        turn = Turn(request.topic, request.prefix, heads.of(blocks), bodies)
        self._scheduler.written(flow, len(blocks), taken)
        self._stats.blocks += len(blocks)
        self._stats.bytes += taken
        if request.at == len(request.blocks):
            self._stats.answered(now - request.arrived)
        if not flow.parked:
            self._let_go(flow)
        return turn

    def _bytes_around(self, flow: Flow, request: Wanted, first: int, last: int) -> tuple[int, memoryview]:
        """Bytes of the file that include [first, last), and where they start. _Loading.

        A block whose size does not divide the range's may lie in two ranges: only then are bytes joined.
        """
        range_size = self._cache.range_size
        index = first // range_size
        data = self._range(flow, request, index, index)
        if last > (index + 1) * range_size:
            data = b"".join([data, self._range(flow, request, index + 1, index)])
        return index * range_size, memoryview(data)

    def _range(self, flow: Flow, request: Wanted, index: int, needed: int) -> Bytes:
        """Range `index` of the file; the flow may let go of those before `needed`. _Loading."""
        data = flow.loaded.get(index)
        if data is not None:
            return data
        answer = self._cache.fetch(request.file.object, request.file.size, index)
        if isinstance(answer, asyncio.Future):
            flow.discard_before(needed)
            raise _Loading(index, answer)
        return answer

    def _wait_for(self, flow: Flow, request: Wanted, missing: "_Loading") -> None:
        """Parks the flow until its range is there, or until it may wait for one."""
        self._scheduler.park(flow)
        if self._permits.take(flow):
            missing.future.add_done_callback(lambda done: self._loaded(flow, request, missing.index, done))
        else:
            missing.future.cancel()  # it asks again when it has a permit

    def _loaded(self, flow: Flow, request: Wanted, index: int, done: "asyncio.Future[Bytes]") -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if not self._scheduler.unpark(flow) or not flow.requests or flow.requests[0] is not request:
            self._let_go(flow)  # the request was withdrawn meanwhile
        elif error is not None:
            self._refuse(flow, error)
        else:
            flow.loaded[index] = done.result()
        self._answers.wake()

    def _withdrawn(self, flow: Flow) -> None:
        """Requests of the flow were taken out, perhaps all of them."""
        if self._permits.forget(flow):
            self._scheduler.unpark(flow)  # whatever it has left takes its turn, or nothing does
        elif not flow.parked:  # or `_loaded` lets go
            self._let_go(flow)

    def _let_go(self, flow: Flow) -> None:
        """The flow used what it had loaded, or never will: another may load."""
        flow.loaded.clear()
        following = self._permits.release(flow)
        if following is not None:
            self._scheduler.unpark(following)

    def _refuse(self, flow: Flow, error: BaseException) -> None:
        """The store cannot give what the flow's first request wants: the rest of it is refused."""
        request = self._scheduler.drop(flow)
        self._let_go(flow)
        stream_id, file = request.stream.stream_id, request.file
        rejection = refusals.not_stored(error, file, request.get.token)
        if rejection.code is Code.INTERNAL_ERROR:
            log.error("read failed", stream=stream_id, file=file.file_id, object=file.object, exc_info=error)
        self._answers.reject(flow.thing, stream_id, request.encoding, rejection)

    def _wake_later(self, now: float) -> None:
        """Sees to it that things that may not be written to now are written to in time."""
        due = self._scheduler.release(now) if self._scheduler else None
        if due is None:
            return
        due = max(due, now + TIMER_SECONDS)
        if self._timer is not None:
            if self._wakes_at <= due:
                return
            self._timer.cancel()
        self._wakes_at = due
        self._timer = asyncio.get_running_loop().call_later(due - now, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._answers.wake()


def _offsets(blocks: Sequence[int], block_size: int, start: int) -> Sequence[int]:
    """Where blocks begin in bytes of the file that begin at `start`."""
    if isinstance(blocks, range):
        return range(blocks.start * block_size - start, blocks.stop * block_size - start, block_size)
    return [index * block_size - start for index in blocks]


class _Loading(Exception):
    """A range is not at hand; `future` has it later."""

    def __init__(self, index: int, future: "asyncio.Future[Bytes]") -> None:
        super().__init__(index)
        self.index = index
        self.future = future


class _Permits:
    """Who may load a range. What is loaded stays in memory until it is written, so only some may at once.

    While one waits, all permits are held, and whoever gives one back hands it on. So nobody may be forgotten
    who has one, and each that has one comes to `release`: after its turn, or when its request is gone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._holders: set[Flow] = set()
        self._waiting: OrderedDict[Flow, None] = OrderedDict()

    def take(self, flow: Flow) -> bool:
        """False: the flow is queued, and `release` names it when its time has come."""
        if flow in self._holders or len(self._holders) < self._most:
            self._holders.add(flow)
            return True
        self._waiting[flow] = None
        return False

    def release(self, flow: Flow) -> Flow | None:
        """Takes the flow's permit back, if it has one; the flow that has it now, if one waited."""
        if flow not in self._holders:
            return None
        self._holders.discard(flow)
        if not self._waiting:
            return None
        following, _ = self._waiting.popitem(last=False)
        self._holders.add(following)
        return following

    def forget(self, flow: Flow) -> bool:
        """Whether the flow waited for a permit; now it does not."""
        if flow not in self._waiting:
            return False
        del self._waiting[flow]
        return True

    def clear(self) -> None:
        self._holders.clear()
        self._waiting.clear()
