"""The range cache: who waits for what, what is kept, and that nothing out of date is served."""

import asyncio
import gc
import io
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker_bridge.storage.cache import RangeCache
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import (
    Bytes,
    ObjectChanged,
    ObjectForbidden,
    ObjectInfo,
    ObjectMissing,
    ObjectRef,
    StorageError,
    StoreUnavailable,
)
from broker_bridge.storage.s3 import S3Store
from broker_bridge.storage.shelf import Kept, Shelf
from tests.support import faults
from tests.support.faults import FaultProxy
from tests.support.moto import REGION, MotoServer

RANGE = 128 * 1024


class MemoryStore:
    """A store whose calls can be made to wait, each, until they are let go.

    What they see is what there is when they are let go, or with `early` when they begin.
    """

    def __init__(self, *, revalidate: float = 1.0, held: bool = False, early: bool = False) -> None:
        self._early = early
        self.revalidate = revalidate
        self.objects: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.failure: Exception | None = None
        self.calls: list[tuple[str, str, int]] = []
        self.most_at_once = 0
        self.at_once = 0
        self.over = 0
        self._lock = threading.Lock()
        self._gate = threading.Semaphore(0)
        self._held = held

    def set(self, key: str, data: bytes) -> ObjectRef:
        etag = f"{hash(data):x}"
        self.objects[key], self.etags[key] = data, etag
        return ObjectRef("b", key, etag)

    def let_go(self, count: int = 1) -> None:
        self._gate.release(count)

    def _answer(self, name: str, ref: ObjectRef, start: int) -> bytes:
        seen = self._look(ref)
        with self._lock:
            self.calls.append((name, ref.key, start))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if self._held:
            assert self._gate.acquire(timeout=60)
        if not self._early:
            seen = self._look(ref)
        with self._lock:
            self.at_once -= 1
            self.over += 1
        if isinstance(seen, Exception):
            raise seen
        return seen

    def _look(self, ref: ObjectRef) -> bytes | Exception:
        if self.failure is not None:
            return self.failure
        if ref.key not in self.objects:
            return ObjectMissing(ref.key)
        if self.etags[ref.key] != ref.etag:
            return ObjectChanged(ref.key)
        return self.objects[ref.key]

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        return ObjectInfo(len(self.objects[key]), self.etags[key])

    def check_quick(self, ref: ObjectRef) -> bool:
        return False

    def read_quick(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        return None

    def check(self, ref: ObjectRef) -> None:
        self._answer("check", ref, 0)

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        return self._answer("read", ref, start)[start : start + length]

    def presigned_url(self, bucket: str, key: str, version_id: str | None, seconds: int) -> str | None:
        raise NotImplementedError

    def put(self, bucket: str, key: str, source: BinaryIO, size: int) -> ObjectInfo:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def reads(self) -> list[tuple[str, int]]:
        return [(key, start // RANGE) for name, key, start in self.calls if name == "read"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


def data_of(ranges: int, letter: bytes = b"x", extra: int = 0) -> bytes:
    return b"".join(letter + bytes([index]) * (RANGE - 1) for index in range(ranges)) + b"e" * extra


def cache_of(store: Any, **options: Any) -> RangeCache:
    return RangeCache(store, **{"range_size": RANGE, "capacity": 64 * RANGE, **options})


async def settled(answer: "Bytes | Awaitable[Bytes]") -> Bytes:
    return answer if isinstance(answer, bytes | bytearray) else await asyncio.wait_for(answer, 60)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def run(body: Coroutine[Any, Any, None]) -> None:
    """Runs it; whatever asyncio finds to complain of is a failure."""
    complaints: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await body
        gc.collect()

    asyncio.run(watched())
    assert not complaints


# --- hits and single flight


def test_ranges_come_out_as_they_are_and_at_once_the_second_time() -> None:
    async def body() -> None:
        store = MemoryStore()
        data = data_of(3, extra=17)
        ref = store.set("k", data)
        cache = cache_of(store)
        got = [await settled(cache.fetch(ref, len(data), index)) for index in range(4)]
        assert b"".join(got) == data
        again = [cache.fetch(ref, len(data), index) for index in range(4)]
        assert again == got
        assert all(one is two for one, two in zip(got, again, strict=True))
        assert (cache.hits, cache.store_reads, cache.store_bytes) == (4, 4, len(data))
        assert cache.bytes == len(data)
        for index in (-1, 4, 100):
            with pytest.raises(IndexError):
                cache.fetch(ref, len(data), index)
        with pytest.raises(IndexError):
            cache.fetch(ObjectRef("b", "empty", "0"), 0, 0)
        cache.close()

    run(body())


@pytest.mark.parametrize(
    "options", [{"range_size": 65536}, {"range_size": 196608}, {"capacity": RANGE - 1}, {"readers": 0}]
)
def test_settings_out_of_bounds(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        cache_of(MemoryStore(), **options)


def test_many_waiters_one_read_each_range_and_readers_bounded() -> None:
    async def body() -> None:
        store = MemoryStore(held=True)
        data = data_of(10)
        ref = store.set("k", data)
        cache = cache_of(store, readers=3)
        futures = [cache.fetch(ref, len(data), index) for _ in range(200) for index in range(10)]
        await until(lambda: len(store.calls) == 1)
        assert cache.misses == 10
        assert cache.waits == 1990
        store.let_go()
        await until(lambda: len(store.calls) == 4)
        store.let_go(9)
        got = [await settled(future) for future in futures]
        assert got == [data[index * RANGE : (index + 1) * RANGE] for index in range(10)] * 200
        assert sorted(store.reads()) == [("k", index) for index in range(10)]
        assert store.most_at_once == 3
        cache.close()

    run(body())


def test_an_object_not_yet_known_gets_one_reader_until_it_proves_to_be_there() -> None:
    async def body() -> None:
        store = MemoryStore(held=True)
        ref = store.set("k", data_of(4))
        gone = ObjectRef("b", "gone", "0")
        cache = cache_of(store)
        futures = [cache.fetch(gone, 4 * RANGE, index) for index in range(4)]
        good = [cache.fetch(ref, 4 * RANGE, index) for index in range(4)]
        await until(lambda: len(store.calls) == 2)
        store.let_go(5)
        for future in futures:
            with pytest.raises(ObjectMissing):
                await settled(future)
        for waiting in good:
            await settled(waiting)
        assert store.reads().count(("gone", 0)) == 1
        assert len(store.reads()) == 5
        cache.close()

    run(body())


def test_queued_reads_take_turns_by_object() -> None:
    async def body() -> None:
        store = MemoryStore(held=True)
        greedy, modest = store.set("greedy", data_of(8)), store.set("modest", data_of(1, b"m"))
        cache = cache_of(store, readers=1)
        futures = [cache.fetch(greedy, 8 * RANGE, index) for index in range(8)]
        futures.append(cache.fetch(modest, RANGE, 0))
        store.let_go(9)
        for future in futures:
            await settled(future)
        assert store.reads().index(("modest", 0)) <= 2
        cache.close()

    run(body())


def test_a_cancelled_waiter_harms_nobody_and_what_nobody_waits_for_is_not_read() -> None:
    async def body() -> None:
        store = MemoryStore(held=True)
        ref = store.set("k", data_of(3))
        cache = cache_of(store, readers=1, capacity=4 * RANGE)
        first, second = (asyncio.create_task(settled(cache.fetch(ref, 3 * RANGE, 0))) for _ in range(2))
        await until(lambda: store.calls)
        lonely = cache.fetch(ref, 3 * RANGE, 2)
        assert isinstance(lonely, asyncio.Future)
        lonely.cancel()
        first.cancel()
        store.let_go(3)
        assert await second == store.objects["k"][:RANGE]
        with pytest.raises(asyncio.CancelledError):
            await first
        await settled(cache.fetch(ref, 3 * RANGE, 1))
        assert store.reads() == [("k", 0), ("k", 1)]
        cache.close()

    run(body())


# --- freshness


def test_a_kept_range_is_checked_once_it_is_stale_and_once_for_all() -> None:
    async def body() -> None:
        store, clock = MemoryStore(held=True), Clock()
        ref = store.set("k", data_of(2))
        cache = cache_of(store, clock=clock, capacity=4 * RANGE)
        store.let_go(2)
        for index in (0, 1):
            await settled(cache.fetch(ref, 2 * RANGE, index))
        clock.now += 1.5
        futures = [cache.fetch(ref, 2 * RANGE, index) for index in (0, 1, 0, 1)]
        assert all(isinstance(future, asyncio.Future) for future in futures)
        store.let_go()
        assert await settled(futures[1]) == store.objects["k"][RANGE:]
        for future in futures:
            await settled(future)
        assert [call[0] for call in store.calls] == ["read", "read", "check"]
        assert isinstance(cache.fetch(ref, 2 * RANGE, 1), bytes)
        cache.close()

    run(body())


def test_an_object_in_use_is_checked_before_its_proof_is_too_old() -> None:
    async def body() -> None:
        store, clock = MemoryStore(), Clock()
        ref = store.set("k", data_of(1))
        cache = cache_of(store, clock=clock)
        await settled(cache.fetch(ref, RANGE, 0))
        for _ in range(10):
            clock.now += 0.7
            checks = cache.store_checks
            assert isinstance(cache.fetch(ref, RANGE, 0), bytes)
            assert isinstance(cache.fetch(ref, RANGE, 0), bytes)
            await until(lambda: cache._running == 0)
            assert cache.store_checks == checks + 1
        cache.close()

    run(body())


@pytest.mark.parametrize("kind", ["changed", "missing", "forbidden"])
def test_a_changed_object_is_dropped_whole_and_heals(kind: str) -> None:
    async def body() -> None:
        store, clock = MemoryStore(), Clock()
        old = data_of(4)
        ref = store.set("k", old)
        other = store.set("other", data_of(1, b"o"))
        cache = cache_of(store, clock=clock)
        for index in range(4):
            await settled(cache.fetch(ref, len(old), index))
        await settled(cache.fetch(other, RANGE, 0))
        error: type[StorageError] = ObjectMissing
        if kind == "changed":
            error = ObjectChanged
            store.set("k", data_of(4, b"y"))
        elif kind == "missing":
            del store.objects["k"]
        else:
            error = ObjectForbidden
            store.failure = ObjectForbidden("k")
        clock.now += 1.5
        futures = [cache.fetch(ref, len(old), index) for index in range(4)]
        for future in futures:
            with pytest.raises(error):
                await settled(future)
        assert cache.bytes == RANGE
        with pytest.raises(error):
            await settled(cache.fetch(ref, len(old), 2))
        store.failure = None
        assert store.set("k", old) == ref
        assert await settled(cache.fetch(ref, len(old), 2)) == old[2 * RANGE : 3 * RANGE]
        cache.close()

    run(body())


def test_a_read_under_way_when_the_object_changes_is_not_kept() -> None:
    async def body() -> None:
        store = MemoryStore(held=True)
        old = data_of(4)
        ref = store.set("k", old)
        cache = cache_of(store, capacity=4 * RANGE)
        store.let_go()
        await settled(cache.fetch(ref, len(old), 0))
        futures = [cache.fetch(ref, len(old), index) for index in (1, 2)]
        await until(lambda: len(store.calls) == 3)
        # One of the two meets the change, the other the object as it was.
        store.set("k", data_of(4, b"y"))
        store.let_go()
        with pytest.raises(ObjectChanged):
            await settled(futures[0])
        with pytest.raises(ObjectChanged):
            await settled(futures[1])
        assert cache.bytes == 0
        store.set("k", old)
        store.let_go()
        await until(lambda: cache._running == 0)
        assert cache.bytes == 0
        store.let_go()
        await settled(cache.fetch(ref, len(old), 1))
        assert cache.bytes == RANGE
        cache.close()

    run(body())


def test_one_who_comes_late_is_not_served_by_a_proof_from_before_his_time() -> None:
    async def body() -> None:
        store, clock = MemoryStore(held=True), Clock()
        ref = store.set("k", data_of(1))
        cache = cache_of(store, clock=clock)
        early = cache.fetch(ref, RANGE, 0)
        await until(lambda: len(store.calls) == 1)
        clock.now += 5
        late = cache.fetch(ref, RANGE, 0)
        store.let_go()
        await settled(early)
        await until(lambda: len(store.calls) == 2)
        assert store.calls[1][0] == "check"
        store.set("k", data_of(1, b"y"))
        store.let_go()
        with pytest.raises(ObjectChanged):
            await settled(late)
        cache.close()

    run(body())


# --- failures


@pytest.mark.parametrize(
    "failure", [StoreUnavailable("down"), RuntimeError("a bug"), OSError(5, "I/O error")]
)
def test_a_failing_store_is_left_alone_for_a_moment(failure: Exception) -> None:
    async def body() -> None:
        store, clock = MemoryStore(), Clock()
        ref, other = store.set("k", data_of(4)), store.set("other", data_of(1))
        cache = cache_of(store, clock=clock)
        store.failure = failure
        futures = [cache.fetch(ref, 4 * RANGE, index) for index in range(4)]
        for future in futures:
            with pytest.raises(StoreUnavailable):
                await settled(future)
        assert len(store.calls) == 1
        store.failure = None
        for _ in range(3):
            held = cache.fetch(ref, 4 * RANGE, 3)
            assert isinstance(held, asyncio.Future)
            assert held.done()
            with pytest.raises(StoreUnavailable):
                await held
            with pytest.raises(StoreUnavailable):
                await cache.check(ref)
        assert len(store.calls) == 1
        await settled(cache.fetch(other, RANGE, 0))
        clock.now += 1.01
        await settled(cache.fetch(ref, 4 * RANGE, 3))
        cache.close()

    run(body())


def test_ranges_outlive_a_failing_store_and_are_served_while_fresh() -> None:
    async def body() -> None:
        store, clock = MemoryStore(), Clock()
        ref = store.set("k", data_of(2))
        cache = cache_of(store, clock=clock, capacity=4 * RANGE)
        await settled(cache.fetch(ref, 2 * RANGE, 0))
        store.failure = StoreUnavailable("down")
        with pytest.raises(StoreUnavailable):
            await settled(cache.fetch(ref, 2 * RANGE, 1))
        assert isinstance(cache.fetch(ref, 2 * RANGE, 0), bytes)
        clock.now += 1.5
        with pytest.raises(StoreUnavailable):
            await settled(cache.fetch(ref, 2 * RANGE, 0))
        store.failure = None
        clock.now += 1.5
        await settled(cache.fetch(ref, 2 * RANGE, 0))
        assert store.reads() == [("k", 0), ("k", 1)]
        cache.close()

    run(body())


def test_memory_of_failures_is_bounded() -> None:
    async def body() -> None:
        store, clock = MemoryStore(), Clock()
        store.failure = StoreUnavailable("down")
        cache = cache_of(store, clock=clock)
        for number in range(1500):
            with pytest.raises(StoreUnavailable):
                await settled(cache.fetch(ObjectRef("b", str(number), str(number)), RANGE, 0))
        assert len(cache._held) == 1024
        assert not cache._objects
        clock.now += 2
        with pytest.raises(StoreUnavailable):
            await settled(cache.fetch(ObjectRef("b", "last", "last"), RANGE, 0))
        assert len(cache._held) == 1
        cache.close()

    run(body())


def test_failures_that_nobody_looks_at_are_no_noise() -> None:
    async def body() -> None:
        store = MemoryStore()
        store.failure = StoreUnavailable("down")
        cache = cache_of(store)
        cache.fetch(ObjectRef("b", "k", "0"), RANGE, 0)
        await until(lambda: cache._running == 0)
        cache.fetch(ObjectRef("b", "k", "0"), RANGE, 0)
        cache.close()

    run(body())


def test_closing_fails_those_who_wait() -> None:
    async def body() -> None:
        store = MemoryStore(held=True)
        ref = store.set("k", data_of(3))
        cache = cache_of(store, readers=1)
        futures = [cache.fetch(ref, 3 * RANGE, index) for index in range(3)]
        await until(lambda: store.calls)
        cache.close()
        futures.append(cache.fetch(ref, 3 * RANGE, 0))
        for future in futures:
            with pytest.raises(StoreUnavailable, match="closed"):
                await settled(future)
        store.let_go(3)
        await until(lambda: cache._running == 0)
        assert cache.bytes == 0
        assert len(store.calls) == 1

    run(body())


# --- what is kept


def test_bytes_stay_within_capacity_and_idle_objects_are_forgotten() -> None:
    async def body() -> None:
        store = MemoryStore()
        cache = cache_of(store, capacity=3 * RANGE)
        for number in range(40):
            data = data_of(2, bytes([number]))
            ref = store.set(str(number), data)
            for index in (0, 1):
                assert await settled(cache.fetch(ref, len(data), index)) == data[index * RANGE :][:RANGE]
                assert cache.bytes <= 3 * RANGE
        assert cache.evictions == 77
        assert len(cache._objects) == 2
        cache.close()

    run(body())


def test_one_pass_over_a_big_file_leaves_what_is_wanted_again() -> None:
    async def body() -> None:
        store = MemoryStore(revalidate=1e9)
        popular, scan = data_of(4, b"p"), data_of(100, b"s")
        wanted, once = store.set("popular", popular), store.set("scan", scan)
        cache = cache_of(store, capacity=16 * RANGE)
        for _ in range(3):
            for index in range(4):
                await settled(cache.fetch(wanted, len(popular), index))
        reads = store.reads().count(("popular", 0))
        for index in range(100):
            # As a download does: many requests for one range, then for the next.
            for _ in range(8):
                await settled(cache.fetch(once, len(scan), index))
        assert all(isinstance(cache.fetch(wanted, len(popular), index), bytes) for index in range(4))
        assert store.reads().count(("popular", 0)) == reads == 1
        cache.close()

    run(body())


def test_the_next_range_is_read_ahead_of_who_reads_in_order() -> None:
    async def body() -> None:
        store = MemoryStore(revalidate=1e9)
        data = data_of(6)
        ref = store.set("k", data)
        cache = cache_of(store)
        await settled(cache.fetch(ref, len(data), 0))
        for index in range(1, 6):
            await until(lambda: cache._running == 0)
            assert isinstance(cache.fetch(ref, len(data), index), bytes)
        await until(lambda: cache._running == 0)
        assert store.reads() == [("k", index) for index in range(6)]
        cache.close()

    run(body())


def test_nothing_is_read_ahead_of_who_jumps_about() -> None:
    async def body() -> None:
        store = MemoryStore(revalidate=1e9)
        data = data_of(20)
        ref = store.set("k", data)
        cache = cache_of(store)
        for index in (5, 12, 9, 17, 3):
            await settled(cache.fetch(ref, len(data), index))
            await until(lambda: cache._running == 0)
        assert len(store.reads()) == 5
        cache.close()

    run(body())


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), st.booleans()), max_size=300))
def test_the_shelf_keeps_its_bound_and_its_books(steps: list[tuple[int, int, bool]]) -> None:
    shelf: Shelf[Kept] = Shelf(100)
    there: dict[int, Kept] = {}
    for name, size, discard in steps:
        if (kept := there.get(name)) is not None:
            if discard:
                shelf.discard(kept)
                del there[name]
            else:
                kept.again = True
        else:
            there[name] = kept = Kept(bytes(size))
            gone = shelf.add(kept)
            assert kept not in gone
            there = {other: value for other, value in there.items() if value not in gone}
        assert shelf.bytes == sum(len(value.data) for value in there.values()) <= 100
        assert len(shelf) == len(there)


# --- against a model: any order of events


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.sampled_from("aab"), st.integers(0, 2)),
        st.tuples(st.just("check"), st.sampled_from("aab"), st.just(0)),
        st.tuples(st.just("change"), st.sampled_from("aab"), st.integers(0, 1)),
        st.tuples(st.just("remove"), st.sampled_from("aab"), st.just(0)),
        st.tuples(st.just("fail"), st.just(""), st.integers(0, 1)),
        st.tuples(st.just("pass"), st.just(""), st.sampled_from([0, 1, 2, 20])),
        st.tuples(st.just("finish"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("cancel"), st.just(""), st.integers(0, 5)),
    ),
    max_size=60,
)


@settings(max_examples=25, deadline=None)
@example(
    # Who comes after the change must not be served by the read that began before it.
    operations=[("fetch", "a", 0), ("change", "a", 1), ("fetch", "a", 0), ("finish", "", 1)],
    revalidate=0.0,
    early=True,
)
@given(operations=OPERATIONS, revalidate=st.sampled_from([0.0, 1.0]), early=st.booleans())
def test_whatever_happens_bytes_are_the_refs_and_recently_proven(
    operations: list[tuple[str, str, int]], revalidate: float, early: bool
) -> None:
    """`revalidate` 0 with no quick look is a folder whose files are touched all the time."""

    async def body() -> None:
        store, clock = MemoryStore(revalidate=revalidate, held=True, early=early), Clock()
        versions = {key: [data_of(4, letter) for letter in (b"1", b"2")] for key in "ab"}
        refs = {key: store.set(key, versions[key][0]) for key in "ab"}
        # When each key was last the version that the refs name; None: it is now.
        ended: dict[str, float | None] = {"a": None, "b": None}
        cache = cache_of(store, capacity=3 * RANGE, readers=2, clock=clock)
        waiting: list[tuple[asyncio.Future[Bytes], float, str, int]] = []

        def judge(data: Bytes, asked: float, key: str, index: int) -> None:
            assert data == versions[key][0][index * RANGE :][:RANGE]
            over = ended[key]
            assert over is None or over > asked - revalidate, "served on too old a proof"

        def sweep() -> None:
            for entry in list(waiting):
                future, asked, key, index = entry
                if future.done():
                    waiting.remove(entry)
                    if not future.cancelled() and future.exception() is None:
                        judge(future.result(), asked, key, index)

        checks: list[asyncio.Task[None]] = []
        for operation, key, number in operations:
            if operation == "fetch":
                asked = clock()
                answer = cache.fetch(refs[key], 4 * RANGE, number)
                if isinstance(answer, bytes | bytearray):
                    judge(answer, asked, key, number)
                else:
                    waiting.append((answer, asked, key, number))
            elif operation == "check":
                checks.append(asyncio.create_task(cache.check(refs[key])))
            elif operation == "change":
                store.set(key, versions[key][number])
                ended[key] = None if number == 0 else ended[key] or clock()
            elif operation == "remove":
                store.objects.pop(key, None)
                ended[key] = ended[key] or clock()
            elif operation == "fail":
                store.failure = StoreUnavailable("down") if number else None
            elif operation == "pass":
                clock.now += number / 10
            elif operation == "finish":
                expected = store.over + min(number, store.at_once)
                for _ in range(expected - store.over):
                    store.let_go()
                await until(lambda expected=expected: store.over >= expected)  # type: ignore[misc]
            elif operation == "cancel" and waiting:
                waiting[number % len(waiting)][0].cancel()
            # Every call that was begun has had its look, and every one let go is over.
            await until(lambda: store.at_once == cache._running)
            sweep()
            assert cache.bytes <= 3 * RANGE
            assert store.most_at_once <= 2
        store.let_go(10_000)
        for future, *_ in list(waiting):
            await asyncio.wait([future], timeout=60)
            assert future.done()
        sweep()
        await asyncio.gather(*checks, return_exceptions=True)
        await until(lambda: cache._running == 0)
        store.failure = None
        clock.now += 10
        for key in "ab":
            store.set(key, versions[key][0])
            assert await settled(cache.fetch(refs[key], 4 * RANGE, 1)) == versions[key][0][RANGE : 2 * RANGE]
        cache.close()
        assert cache.bytes == 0
        assert not cache._objects

    run(body())


# --- with the real stores


def test_a_folders_changes_are_noticed_at_the_next_request(tmp_path: Path) -> None:
    async def body() -> None:
        store = FolderStore(tmp_path)
        old = os.urandom(3 * RANGE + 5)
        info = store.put("b", "k", io.BytesIO(old), len(old))
        ref = ObjectRef("b", "k", info.etag)
        cache = cache_of(store)
        for _ in range(2):
            got = [await settled(cache.fetch(ref, len(old), index)) for index in range(4)]
            assert b"".join(got) == old
        assert isinstance(cache.fetch(ref, len(old), 1), bytes | bytearray)
        path = tmp_path / "b" / "k"
        path.touch()
        assert await settled(cache.fetch(ref, len(old), 1)) == old[RANGE : 2 * RANGE]
        assert isinstance(cache.fetch(ref, len(old), 2), bytes | bytearray)
        assert cache.store_reads == 4
        path.write_bytes(old[::-1])
        for _ in range(3):
            with pytest.raises(ObjectChanged):
                await settled(cache.fetch(ref, len(old), 1))
            with pytest.raises(ObjectChanged):
                await cache.check(ref)
        path.unlink()
        with pytest.raises(ObjectMissing):
            await settled(cache.fetch(ref, len(old), 0))
        path.write_bytes(old)
        assert await settled(cache.fetch(ref, len(old), 0)) == old[:RANGE]
        cache.close()

    run(body())


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("fetch"), st.integers(0, 2)),
            st.tuples(st.sampled_from(["old", "new", "touch", "unlink"]), st.just(0)),
        ),
        max_size=12,
    )
)
def test_any_order_of_changes_to_a_folder(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    async def body() -> None:
        root = tmp_path_factory.mktemp("objects")
        store = FolderStore(root)
        old, new = data_of(3), data_of(3, b"y")
        ref = ObjectRef("b", "k", store.put("b", "k", io.BytesIO(old), len(old)).etag)
        path = root / "b" / "k"
        cache = cache_of(store, capacity=2 * RANGE)
        now: bytes | None = old
        for step, index in steps:
            if step == "fetch":
                try:
                    got = await settled(cache.fetch(ref, len(old), index))
                except ObjectChanged:
                    assert now == new
                except ObjectMissing:
                    assert now is None
                else:
                    assert now == old
                    assert got == old[index * RANGE : (index + 1) * RANGE]
            elif step == "touch" and now is not None:
                path.touch()
            elif step == "unlink":
                path.unlink(missing_ok=True)
                now = None
            elif step in ("old", "new"):
                now = old if step == "old" else new
                path.write_bytes(now)
        cache.close()

    run(body())


def test_empty_objects_are_checked(tmp_path: Path) -> None:
    async def body() -> None:
        store = FolderStore(tmp_path)
        ref = ObjectRef("b", "k", store.put("b", "k", io.BytesIO(), 0).etag)
        cache = cache_of(store)
        await asyncio.gather(*(cache.check(ref) for _ in range(50)))
        assert cache.store_checks == 1
        await cache.check(ref)
        assert cache.store_checks == 1
        (tmp_path / "b" / "k").write_bytes(b"no longer")
        with pytest.raises(ObjectChanged):
            await cache.check(ref)
        assert not cache._objects
        cache.close()

    run(body())


def test_over_s3_with_faults(moto_s3: MotoServer) -> None:
    proxy = FaultProxy(moto_s3.endpoint_url)

    async def body() -> None:
        clock = Clock()
        store = S3Store(endpoint_url=proxy.endpoint_url, region=REGION, attempts=2)
        bucket = moto_s3.bucket()
        old = os.urandom(3 * RANGE + 5)
        etag = moto_s3.client().put_object(Bucket=bucket, Key="k", Body=old)["ETag"].strip('"')
        ref = ObjectRef(bucket, "k", etag)
        cache = cache_of(store, clock=clock)
        proxy.inject(faults.status(503, "SlowDown"))
        waiting = [cache.fetch(ref, len(old), index) for _ in range(20) for index in range(4)]
        got = [await settled(future) for future in waiting]
        assert b"".join(got) == old * 20
        assert len(proxy.requests) == 5
        moto_s3.client().put_object(Bucket=bucket, Key="k", Body=old[::-1])
        assert isinstance(cache.fetch(ref, len(old), 0), bytes)
        clock.now += 1.1
        with pytest.raises(ObjectChanged):
            await settled(cache.fetch(ref, len(old), 0))
        with pytest.raises(ObjectChanged):
            await settled(cache.fetch(ref, len(old), 1))
        moto_s3.client().put_object(Bucket=bucket, Key="k", Body=old)
        assert await settled(cache.fetch(ref, len(old), 3)) == old[3 * RANGE :]
        cache.close()
        store.close()

    try:
        run(body())
    finally:
        proxy.close()
