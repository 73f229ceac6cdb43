"""The range cache between storage and delivery: each range is read once, however many wait for it.

Objects are kept in ranges of a fixed size. Bytes are kept under the ETag they were read with, so two versions
never mix; what can be out of date is only whether the object is still that version. A fetch is answered at
once if its range is kept and the object was proven within `store.revalidate` seconds, or is by a quick look
(folders: always). Otherwise it waits for a read or a check by one of a few threads, which it shares with all
that want the same. Everything but the store's own calls happens in the event loop.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from broker_bridge.storage.objects import Bytes, ObjectRef, ObjectStore, StorageError, StoreUnavailable
from broker_bridge.storage.shelf import Kept, Shelf

_CHECK = -1
"""In an index's place: no range, but whether the object is still what it was."""

_HOLD_SECONDS = 1.0
"""How long an object that the store failed on is not asked for again."""

_MAX_HELD = 1024
"""How many such objects are remembered; beyond, the oldest is asked for again sooner."""


class _Waiter(NamedTuple):
    future: "asyncio.Future[Any]"
    wanted: int
    size: int
    arrived: float


class _Job:
    """A read of one range or a check, queued or under way."""

    __slots__ = ("index", "size", "started", "unasked", "waiters")

    def __init__(self, index: int, size: int, *, unasked: bool = False) -> None:
        self.index = index
        self.size = size
        self.unasked = unasked
        self.waiters: list[_Waiter] = []
        self.started = math.nan


class _Range(Kept):
    __slots__ = ("index", "object", "unseen")

    def __init__(self, data: Bytes, object_: "_Object", index: int, *, unseen: bool) -> None:
        super().__init__(data)
        self.object = object_
        self.index = index
        self.unseen = unseen


class _Object:
    """What the cache knows of one object. Forgotten when it holds neither ranges nor jobs."""

    __slots__ = (
        "fresh_until",
        "gone",
        "jobs",
        "last",
        "proven",
        "queue",
        "ranges",
        "ref",
        "refresh_at",
        "running",
    )

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref
        self.ranges: dict[int, _Range] = {}
        self.jobs: dict[int, _Job] = {}
        self.queue: deque[_Job] = deque()
        self.running = 0
        self.proven = False
        self.fresh_until = -math.inf
        self.refresh_at = math.inf
        self.last = -1
        self.gone = False


class RangeCache:
    """Ranges of objects, for one event loop.

    Counters, for metrics: `hits` (answered at once), `misses` (a read had to be queued), `waits` (waited for
    a read or a check queued before), `store_reads`, `store_checks`, `store_bytes`, `evictions`.
    `bytes` is what is kept now.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        capacity: int = 32 * 1024 * 1024,
        range_size: int = 512 * 1024,
        readers: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`capacity`: bytes kept; those being read by the `readers` threads come on top.

        `range_size`: a power of two of at least 128 KiB, so that a block lies in one range if its size is a
        power of two. ValueError for any other, and for a capacity that holds no range.
        """
        if range_size < 128 * 1024 or range_size & (range_size - 1):
            raise ValueError(f"range_size {range_size}: not a power of two of at least {128 * 1024} bytes")
        if capacity < range_size:
            raise ValueError(f"capacity {capacity}: less than one range of {range_size} bytes")
        if readers < 1:
            raise ValueError(f"readers {readers}: fewer than 1")
        self.range_size = range_size
        self.hits = self.misses = self.waits = 0
        self.store_reads = self.store_checks = self.store_bytes = self.evictions = 0
        self.bytes = 0
        self._store = store
        self._quick = store.check_quick
        self._clock = clock
        self._readers = readers
        self._threads = ThreadPoolExecutor(readers, "storage")
        self._running = 0
        self._shelf: Shelf[_Range] = Shelf(capacity)
        self._objects: dict[ObjectRef, _Object] = {}
        # Objects with jobs that may start, the one served longest ago first.
        self._ready: OrderedDict[_Object, None] = OrderedDict()
        self._held: OrderedDict[ObjectRef, tuple[float, StoreUnavailable]] = OrderedDict()
        # In a cache of few ranges, one that nobody asked for would push out what somebody did.
        self._reads_ahead = capacity >= 8 * range_size
        self._closed = False

    def fetch(self, ref: ObjectRef, size: int, index: int) -> "Bytes | asyncio.Future[Bytes]":
        """Range `index` of the object of `size` bytes: from `index * range_size`, up to `range_size` bytes.

        The bytes themselves where that needs no waiting, else a future of this caller's own, which it may
        cancel. StorageErrors come through the future only; IndexError where there is no such range.
        """
        known = self._objects.get(ref)
        if known is not None:
            kept = known.ranges.get(index)
            if kept is not None:
                now = self._clock()
                if known.refresh_at < now < known.fresh_until:
                    self._refresh(known)
                if now < known.fresh_until or self._quick(ref):
                    if known.last != index:
                        self._moved(known, kept, size)
                    self.hits += 1
                    return kept.data
        if not 0 <= index * self.range_size < size:
            raise IndexError(f"range {index} of {size} bytes: there is none")
        return self._wait(ref, size, index)

    async def check(self, ref: ObjectRef) -> None:
        """Returns if the object is still `ref`'s bytes, as fresh as `fetch` has it; for empty files.

        Raises the StorageErrors of `ObjectStore.check`.
        """
        known = self._objects.get(ref)
        if (known is not None and self._clock() < known.fresh_until) or self._quick(ref):
            return
        await self._wait(ref, 0, _CHECK)

    def close(self) -> None:
        """Fails all that wait, with StoreUnavailable. Close the store after it."""
        self._closed = True
        for known in list(self._objects.values()):
            self._drop(known, StoreUnavailable("the range cache is closed"))
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _wait(self, ref: ObjectRef, size: int, index: int) -> "asyncio.Future[Any]":
        waiter = _Waiter(asyncio.get_running_loop().create_future(), index, size, self._clock())
        if self._closed:
            _fail([waiter], StoreUnavailable("the range cache is closed"))
            return waiter.future
        if (held := self._held.get(ref)) is not None:
            until, error = held
            if waiter.arrived < until:
                _fail([waiter], error)
                return waiter.future
            del self._held[ref]
        known = self._objects.get(ref)
        if known is None:
            known = self._objects[ref] = _Object(ref)
        if self._join(known, waiter):
            self.waits += 1
        else:
            self.misses += 1
        self._dispatch()
        return waiter.future

    def _join(self, known: _Object, waiter: _Waiter) -> bool:
        """Lets it wait for the job it needs; True if that was queued before, or is but a check."""
        index = _CHECK if waiter.wanted in known.ranges else waiter.wanted
        job = known.jobs.get(index)
        joined = job is not None
        if job is None:
            job = self._queue(known, _Job(index, waiter.size))
        job.waiters.append(waiter)
        return joined or index == _CHECK

    def _queue(self, known: _Object, job: _Job) -> _Job:
        known.jobs[job.index] = job
        known.queue.append(job)
        self._ready[known] = None
        return job

    def _moved(self, known: _Object, kept: _Range, size: int) -> None:
        """The object is read in another range than before.

        Only now does a use count as one more: a download asks for the same range again and again, and would
        otherwise pass for many.
        """
        known.last = kept.index
        if kept.unseen:
            kept.unseen = False
        else:
            kept.again = True
        self._read_ahead(known, kept.index, size)

    def _read_ahead(self, known: _Object, index: int, size: int) -> None:
        """Reads the range after `index` if that one was reached in order and a reader has nothing to do."""
        following = index + 1
        if (
            self._reads_ahead
            and self._running < self._readers
            and not self._ready
            and following * self.range_size < size
            and (index == 0 or index - 1 in known.ranges)
            and following not in known.ranges
            and following not in known.jobs
        ):
            self._queue(known, _Job(following, size, unasked=True))
            self._dispatch()

    def _refresh(self, known: _Object) -> None:
        """Checks an object that is in use before its last proof is too old, so that nobody has to wait."""
        known.refresh_at = math.inf
        if _CHECK not in known.jobs:
            self._queue(known, _Job(_CHECK, 0, unasked=True))
            self._dispatch()

    def _dispatch(self) -> None:
        """Starts jobs while readers are free, object by object in turn."""
        while self._running < self._readers and self._ready:
            known, _ = self._ready.popitem(last=False)
            if not self._may_start(known):
                continue  # The end of the job that it waits for brings it back.
            job = known.queue.popleft()
            if known.queue:
                self._ready[known] = None
            if job.unasked or any(not waiter.future.done() for waiter in job.waiters):
                self._start(known, job)
            else:
                del known.jobs[job.index]
                self._forget_if_idle(known)

    def _may_start(self, known: _Object) -> bool:
        """Of an object that may be gone, or may have to be read whole to tell, one job goes ahead alone."""
        if known.running == 0:
            return True
        return known.proven and (self._store.revalidate > 0 or self._quick(known.ref))

    def _start(self, known: _Object, job: _Job) -> None:
        job.started = self._clock()
        known.running += 1
        self._running += 1
        call: Callable[[], Bytes | None]
        data: Bytes | None = None
        if job.index == _CHECK:
            self.store_checks += 1
            call = partial(self._store.check, known.ref)
        else:
            self.store_reads += 1
            start = job.index * self.range_size
            length = min(self.range_size, job.size - start)
            call = partial(self._store.read, known.ref, start, length)
            data = self._store.read_quick(known.ref, start, length)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Bytes | None]
        if data is None:
            result = loop.run_in_executor(self._threads, call)
        else:  # a thread would take longer to be woken than this took to be read
            result = loop.create_future()
            result.set_result(data)
        result.add_done_callback(partial(self._finished, known, job))

    def _finished(self, known: _Object, job: _Job, result: "asyncio.Future[Bytes | None]") -> None:
        self._running -= 1
        known.running -= 1
        error = StoreUnavailable("the range cache is closed") if result.cancelled() else result.exception()
        if not known.gone:
            del known.jobs[job.index]
            if known.queue:
                self._ready[known] = None
            if error is None:
                self._succeeded(known, job, result.result())
            elif isinstance(error, StorageError) and not isinstance(error, StoreUnavailable):
                self._drop(known, error, job)
            else:
                self._failed(known, job, error)
            self._forget_if_idle(known)
        self._dispatch()

    def _succeeded(self, known: _Object, job: _Job, data: Bytes | None) -> None:
        revalidate = self._store.revalidate
        # A job proves what was true when it began; a quick look, what is true now.
        proven = self._clock() if self._quick(known.ref) else job.started
        known.proven = True
        known.fresh_until = max(known.fresh_until, proven + revalidate)
        known.refresh_at = known.fresh_until - revalidate / 2
        self._held.pop(known.ref, None)
        if data is not None:
            self.store_bytes += len(data)
            kept = _Range(data, known, job.index, unseen=not job.waiters)
            known.ranges[job.index] = kept
            if job.waiters:
                known.last = job.index
            for evicted in self._shelf.add(kept):
                self.evictions += 1
                del evicted.object.ranges[evicted.index]
                self._forget_if_idle(evicted.object)
            self.bytes = self._shelf.bytes
        for waiter in job.waiters:
            if waiter.future.done():
                continue
            if waiter.arrived > proven + revalidate:
                # It came too long after the proof to be served by it; a job that begins now will do.
                self._join(known, waiter)
            elif waiter.wanted == job.index:
                waiter.future.set_result(data)
            elif (other := known.ranges.get(waiter.wanted)) is not None:
                waiter.future.set_result(other.data)
            else:
                self._join(known, waiter)
        if data is not None and job.waiters:
            self._read_ahead(known, job.index, job.size)

    def _failed(self, known: _Object, job: _Job, cause: BaseException) -> None:
        """The store failed: what waits for this object is told so, and what comes in the next moment too.

        Ranges that are kept stay: nothing is known against them.
        """
        error = cause
        if not isinstance(error, StoreUnavailable):
            error = StoreUnavailable(f"{known.ref}: {cause!r}")
            error.__cause__ = cause
        _fail(job.waiters, error)
        for queued in known.queue:
            del known.jobs[queued.index]
            _fail(queued.waiters, error)
        known.queue.clear()
        self._ready.pop(known, None)
        now = self._clock()
        # A new one: the error itself holds on to the frames, and so to the buffers, of where it came from.
        self._held[known.ref] = (now + _HOLD_SECONDS, StoreUnavailable(str(error)))
        self._held.move_to_end(known.ref)
        while len(self._held) > _MAX_HELD or next(iter(self._held.values()))[0] <= now:
            self._held.popitem(last=False)

    def _drop(self, known: _Object, error: StorageError, job: _Job | None = None) -> None:
        """The object is not what it was: its ranges go, and all that waits for it is told so.

        What is still being read of it ends unheard; the next fetch begins anew.
        """
        known.gone = True
        del self._objects[known.ref]
        self._ready.pop(known, None)
        for kept in known.ranges.values():
            self._shelf.discard(kept)
        self.bytes = self._shelf.bytes
        for pending in known.jobs.values():
            _fail(pending.waiters, error)
        if job is not None:
            _fail(job.waiters, error)
        known.ranges.clear()
        known.jobs.clear()
        known.queue.clear()

    def _forget_if_idle(self, known: _Object) -> None:
        if not known.ranges and not known.jobs and not known.gone:
            known.gone = True
            del self._objects[known.ref]


def _fail(waiters: list[_Waiter], error: StorageError) -> None:
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)
            # Marks it as seen: a caller that has lost interest is no fault to be logged.
            waiter.future.exception()
