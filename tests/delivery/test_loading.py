"""Files bigger than the cache, more things than may load at once: all exact, all bounded, none forgotten."""

import asyncio
from pathlib import Path

import pytest

from broker_bridge.settings import ServiceSettings
from broker_bridge.storage.objects import ObjectRef, ObjectStore
from chunker.blocks import block_count
from tests.delivery.running import KIB, SMALL, Bench, bench, content

MOST_LOADING = SMALL.size // SMALL.range_size // 2


def loaded_bytes(service: Bench) -> int:
    """Bytes that things hold of their own, beside the cache."""
    flows = service.delivery.scheduler._flows.values()
    return sum(len(data) for flow in flows for data in flow.loaded.values())


class Memory:
    """The most that was held at once."""

    def __init__(self, service: Bench) -> None:
        self.service = service
        self.most = 0
        service.watch = self.look

    def look(self) -> None:
        self.most = max(self.most, loaded_bytes(self.service))


def test_two_hundred_things_miss_the_same_range_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(100 * KIB)
            service.create("stream", {0: data})
            for number in range(200):
                service.get(f"thing{number}", "stream", n=1, o=number % 25)
            await service.settle()
            for number in range(200):
                [block] = service.blocks(f"thing{number}")
                assert block["p"] == data[number % 25 * 4096 :][:4096]
            assert service.cache.store_reads == 1

    asyncio.run(main())


def test_two_hundred_things_miss_ranges_of_their_own_at_once(tmp_path: Path) -> None:
    # 50 files of five ranges each; eight ranges fit in the cache, and four things may hold some.
    async def main() -> None:
        async with bench(tmp_path) as service:
            memory = Memory(service)
            files = {number: content(640 * KIB, number) for number in range(50)}
            service.create("stream", files)
            for number in range(200):
                # Twice, in the opposite order of the files, and over a border between two ranges.
                offset = number % 4 * 32 + 16
                service.get(f"thing{number}", "stream", f=number % 50, o=offset, n=32)
                service.get(f"thing{number}", "stream", f=49 - number % 50, o=offset, n=32)
            await service.settle()
            for number in range(200):
                offset = number % 4 * 32 + 16
                blocks = service.blocks(f"thing{number}")
                expected = [
                    (file_id, index)
                    for file_id in (number % 50, 49 - number % 50)
                    for index in range(offset, offset + 32)
                ]
                assert [(block["f"], block["i"]) for block in blocks] == expected
                for block in blocks:
                    assert block["p"] == files[block["f"]][block["i"] * 4096 :][:4096]
            assert not service.rejections()
            assert memory.most <= MOST_LOADING * 2 * SMALL.range_size

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["cbor", "json"])
@pytest.mark.parametrize("block_size", [256, 1000, 3000, 4096, 131071, 131072])
def test_blocks_that_straddle_ranges(tmp_path: Path, encoding: str, block_size: int) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            memory = Memory(service)
            data = content(400 * KIB + 77)
            service.create("stream", {7: data})
            total = block_count(len(data), block_size)
            fitting = 131072 // block_size
            for offset in range(0, total, fitting):
                service.get("thing", "stream", encoding, f=7, l=block_size, o=offset, c="rdy")
                if offset % (8 * fitting) == 0:
                    await service.settle()
            await service.settle()
            blocks = service.blocks("thing")
            assert [block["i"] for block in blocks] == list(range(total))
            assert b"".join(block["p"] for block in blocks) == data
            assert all(block["l"] == len(block["p"]) for block in blocks)
            assert memory.most <= 2 * SMALL.range_size

    asyncio.run(main())


def test_a_bitmap_over_many_ranges_holds_no_more_than_its_block_needs(tmp_path: Path) -> None:
    # One request may name blocks in thirty ranges: what it has used of them must not stay.
    async def main() -> None:
        async with bench(tmp_path) as service:
            memory = Memory(service)
            data = content(30 * 128 * KIB)
            service.create("stream", {0: data})
            bitmap = bytearray(30 * 4)
            for number in range(30):
                bitmap[number * 4] = 1
            for number in range(6):
                service.get(f"thing{number}", "stream", b=bytes(bitmap))
            await service.settle()
            for number in range(6):
                blocks = service.blocks(f"thing{number}")
                assert [block["i"] for block in blocks] == list(range(0, 960, 32))
                assert all(block["p"] == data[block["i"] * 4096 :][:4096] for block in blocks)
            assert memory.most <= MOST_LOADING * 2 * SMALL.range_size

    asyncio.run(main())


class Gate:
    """A folder store whose reads wait until they are let through. In front of the store, not in its place."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.revalidate = store.revalidate
        self.head, self.check, self.check_quick = store.head, store.check, store.check_quick
        self.put, self.close, self.presigned_url = store.put, store.close, store.presigned_url
        self.open = asyncio.Event()
        self.waiting = 0
        self._loop = asyncio.get_running_loop()

    def read_quick(self, ref: ObjectRef, start: int, length: int) -> None:
        """Whatever is read waits."""

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        self.waiting += 1
        asyncio.run_coroutine_threadsafe(self.open.wait(), self._loop).result(60)
        return self._store.read(ref, start, length)


def test_who_waits_for_a_permit_when_its_stream_changes_is_not_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path, store=Gate) as service:
            gate = service.store
            assert isinstance(gate, Gate)
            data = {number: content(200 * KIB, number) for number in range(20)}
            for number in range(20):
                service.create(f"stream{number}", {0: data[number]})
            await asyncio.sleep(0)
            for number in range(20):
                service.get(f"thing{number}", f"stream{number}", n=1)
            await service.until(lambda: gate.waiting >= 4 and not service.delivery._intake._lookups)
            # Streams of those that load and of those that may not yet: deleted, changed, tagged.
            for number in range(0, 20, 3):
                await asyncio.to_thread(service.registry.delete_stream, f"stream{number}")
            for number in range(1, 20, 3):
                await asyncio.to_thread(service.registry.tag, f"stream{number}", {"a": "b"})
            await asyncio.sleep(0)
            gate.open.set()
            await service.settle()
            for number in range(20):
                if number % 3 == 0:
                    [rejection] = service.rejections(f"thing{number}")
                    assert rejection["o"] == "ResourceNotFound"
                    assert not service.blocks(f"thing{number}")
                else:
                    [block] = service.blocks(f"thing{number}")
                    assert block["p"] == data[number][:4096]
            # And whoever comes next is served.
            service.get("next", "stream19", o=40, n=1)
            await service.settle()
            assert service.blocks("next")[0]["p"] == data[19][40 * 4096 :][:4096]

    asyncio.run(main())


def test_a_connection_that_breaks_while_things_load(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path, store=Gate) as service:
            gate = service.store
            assert isinstance(gate, Gate)
            data = content(2000 * KIB)
            service.create("stream", {0: data})
            for number in range(30):
                service.get(f"thing{number}", "stream", o=number * 16, n=1)
            await service.until(lambda: gate.waiting >= 1 and not service.delivery._intake._lookups)
            service.delivery.disconnected()
            assert service.idle()
            service.delivery.connected()
            for number in range(30):
                service.get(f"thing{number}", "stream", o=number * 16 + 1, n=1)
            gate.open.set()
            await service.settle()
            for number in range(30):
                assert [block["i"] for block in service.blocks(f"thing{number}")] == [number * 16 + 1]

    asyncio.run(main())


def test_with_the_default_settings_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path, settings=ServiceSettings()) as service:
            data = content(3 * 1024 * KIB + 5)
            service.create("stream", {0: data})
            total = block_count(len(data), 3000)
            for offset in range(0, total, 43):
                service.get("thing", "stream", l=3000, o=offset)
                await service.settle()
            assert b"".join(block["p"] for block in service.blocks("thing")) == data

    asyncio.run(main())
