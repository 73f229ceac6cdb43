"""Streams and objects that change while devices ask: no answer of two versions, no block twice."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.running import KIB, Bench, bench, content


async def begin(service: Bench, **fields: Any) -> None:
    """A request for 32 blocks of which two were written."""
    service.get("thing", "stream", n=1, o=0)
    await service.settle()
    service.messages.clear()
    service.writing = False
    service.turn_messages = 2
    service.get("thing", "stream", **fields)
    assert service.write_turn()
    assert [block["i"] for block in service.blocks("thing")] == [0, 1]


async def finish(service: Bench) -> list[int]:
    service.writing = True
    service.turn_messages = 64
    service.wake()
    await service.settle()
    return [block["i"] for block in service.blocks("thing")]


@pytest.mark.parametrize("fields", [{}, {"s": 1}])
def test_tags_change_nothing_for_devices(tmp_path: Path, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(32 * 4096)
            service.create("stream", {0: data})
            await begin(service, **fields)
            service.get("thing", "stream", o=20, **fields)  # waits already, all of it
            await asyncio.to_thread(service.registry.tag, "stream", {"a": "b"})
            await asyncio.sleep(0)
            await asyncio.to_thread(service.registry.untag, "stream", ["a"])
            await asyncio.sleep(0)
            assert await finish(service) == list(range(32))
            assert b"".join(block["p"] for block in service.blocks("thing")) == data
            assert not service.rejections()

    asyncio.run(main())


def test_a_new_version_with_the_same_files(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(32 * 4096)
            service.create("stream", {0: data})
            await begin(service)
            service.get("strict", "stream", s=1)
            await asyncio.to_thread(service.update, "stream", None)
            await asyncio.sleep(0)
            assert await finish(service) == list(range(32))
            assert b"".join(block["p"] for block in service.blocks("thing")) == data
            assert [rejection["o"] for rejection in service.rejections()] == ["VersionMismatch"]
            assert not service.blocks("strict")

    asyncio.run(main())


@pytest.mark.parametrize("fields", [{}, {"s": 1}])
def test_a_new_version_with_other_bytes(tmp_path: Path, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            old, new = content(32 * 4096, 1), content(20 * 4096 + 1, 2)
            service.create("stream", {0: old})
            await begin(service, **fields)
            service.get("waiting", "stream")
            service.get("strict", "stream", s=1)
            await asyncio.to_thread(service.update, "stream", {0: new})
            await asyncio.sleep(0)
            # What was begun is not gone on with; what had not begun is answered from the new version.
            assert await finish(service) == [0, 1]
            assert b"".join(block["p"] for block in service.blocks("waiting")) == new
            codes = {m.thing: m.fields["o"] for m in service.messages if m.verb == "rejected"}
            assert codes == {"strict": "VersionMismatch"} | ({"thing": "VersionMismatch"} if fields else {})
            service.messages.clear()
            service.get("thing", "stream", s=2)
            await service.settle()
            assert b"".join(block["p"] for block in service.blocks("thing")) == new

    asyncio.run(main())


def test_a_stream_that_is_deleted_and_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            service.create("stream", {0: content(32 * 4096, 1)})
            await begin(service, s=1)
            service.get("waiting", "stream")

            def again() -> None:
                service.registry.delete_stream("stream")
                service.create("stream", {0: content(32 * 4096, 2)})

            await asyncio.to_thread(again)
            await asyncio.sleep(0)
            # Version 1 again, but other bytes: what was begun must not go on, nor begin again.
            assert await finish(service) == [0, 1]
            waiting = service.blocks("waiting")
            assert not waiting or b"".join(block["p"] for block in waiting) == content(32 * 4096, 2)
            await asyncio.to_thread(service.registry.delete_stream, "stream")
            await asyncio.sleep(0)
            service.get("thing", "stream")
            await service.settle()
            assert service.rejections("thing")[-1]["o"] == "ResourceNotFound"

    asyncio.run(main())


def test_an_object_overwritten_between_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(32 * 4096)
            service.create("stream", {0: data, 1: b"other"})
            service.get("thing", "stream", n=4)
            await service.settle()
            path = service.folder / "stream" / "0"
            # As long and as old as before: only the bytes are others.
            stamps = path.stat()
            path.write_bytes(bytes(len(data)))
            os.utime(path, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
            service.get("thing", "stream", o=4, n=4)
            await service.settle()
            assert [rejection["o"] for rejection in service.rejections()] == ["ETagMismatch"]
            assert len(service.blocks("thing")) == 4
            service.get("thing", "stream", f=1)
            await service.settle()
            assert service.blocks("thing")[-1]["p"] == b"other"
            # The same bytes again are the same object.
            path.write_bytes(data)
            service.get("thing", "stream", o=4, n=4)
            await service.settle()
            assert service.blocks("thing")[-1]["p"] == data[7 * 4096 : 8 * 4096]
            path.unlink()
            service.get("thing", "stream", o=4, n=4)
            await service.settle()
            assert [rejection["o"] for rejection in service.rejections()] == [
                "ETagMismatch",
                "ResourceNotFound",
            ]

    asyncio.run(main())


def test_an_object_overwritten_in_the_middle_of_a_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(32 * 4096)
            service.create("stream", {0: data})
            await begin(service, c="t")
            await asyncio.to_thread((service.folder / "stream" / "0").write_bytes, bytes(32 * 4096))
            blocks = await finish(service)
            assert blocks == [0, 1]
            [rejection] = service.rejections("thing")
            assert (rejection["o"], rejection["c"]) == ("ETagMismatch", "t")
            for block in service.blocks("thing"):
                assert block["p"] == data[block["i"] * 4096 :][:4096]

    asyncio.run(main())


def test_an_object_that_becomes_shorter_while_many_ask(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path) as service:
            data = content(2000 * KIB)
            service.create("stream", {0: data})
            path = service.folder / "stream" / "0"
            for number in range(60):
                service.get(f"thing{number}", "stream", o=number * 8, n=8)
                if number == 30:
                    await service.until(lambda: service.messages)
                    await asyncio.to_thread(os.truncate, path, 100_000)
            await service.settle()
            for number in range(60):
                blocks, rejections = service.blocks(f"thing{number}"), service.rejections(f"thing{number}")
                # Whatever came is of the old bytes, and what did not come was refused.
                assert [block["i"] for block in blocks] == list(range(number * 8, number * 8 + len(blocks)))
                assert all(block["p"] == data[block["i"] * 4096 :][:4096] for block in blocks)
                codes = [rejection["o"] for rejection in rejections]
                assert codes == ([] if len(blocks) == min(8, 500 - number * 8) else ["ETagMismatch"])
            assert service.rejections()

    asyncio.run(main())


def test_updates_without_end_leave_every_answer_whole(tmp_path: Path) -> None:
    # Fifteen versions while twenty things ask: each answer is of one version, and each block comes once.
    async def main() -> None:
        async with bench(tmp_path) as service:
            versions = {number: content(64 * KIB, number) for number in range(1, 16)}
            service.create("stream", {0: versions[1]})
            asked = 0

            async def devices() -> None:
                nonlocal asked
                for number in range(200):
                    service.get(f"thing{number}", "stream")
                    asked += 1
                    if number % 4 == 0:
                        await asyncio.sleep(0.002)

            async def operator() -> None:
                for number in range(2, 16):
                    await asyncio.to_thread(service.update, "stream", {0: versions[number]})

            await asyncio.gather(devices(), operator())
            await service.settle()
            assert not service.rejections()
            whole = 0
            for number in range(200):
                blocks = service.blocks(f"thing{number}")
                got = b"".join(block["p"] for block in blocks)
                assert [block["i"] for block in blocks] == list(range(len(blocks)))
                assert any(data.startswith(got) for data in versions.values())
                whole += len(blocks) == 16
            assert whole > 100

    asyncio.run(main())
