"""Many threads at once: each change happens once, wholly, and readers never see half of one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

from broker_bridge.registry.errors import StreamExists, TooManyTags, VersionConflict
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream
from broker_bridge.registry.tagging import MAX_TAGS
from tests.registry.making import NOON, a_file, create

T = TypeVar("T")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """What `work` returns in each of `count` threads, which start together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_one_of_many_creates_the_stream(registry: Registry) -> None:
    def work(number: int) -> Stream | None:
        try:
            return create(registry, "s", a_file(number), number=str(number))
        except StreamExists:
            return None

    made = [stream for stream in at_once(12, work) if stream is not None]
    assert made == [registry.stream("s")]
    assert registry.tags("s") == {"number": str(registry.stream("s").files[0].file_id)}


def test_updates_are_all_counted(registry: Registry) -> None:
    create(registry, "s")

    def work(number: int) -> list[int]:
        return [
            registry.update_stream("s", description=None, role_arn=None, files=None, now=NOON).version
            for _ in range(5)
        ]

    versions = at_once(8, work)
    assert sorted(chain.from_iterable(versions)) == list(range(2, 42))
    assert registry.stream("s").version == 41


def test_one_of_many_updates_of_the_same_version_wins(registry: Registry) -> None:
    create(registry, "s")

    def work(number: int) -> Stream | None:
        try:
            return registry.update_stream(
                "s", description=str(number), role_arn=None, files=None, now=NOON, expected_version=1
            )
        except VersionConflict:
            return None

    won = [stream for stream in at_once(12, work) if stream is not None]
    assert won == [registry.stream("s")]


def test_tags_never_exceed_their_number(registry: Registry) -> None:
    create(registry, "s")

    def work(number: int) -> int:
        done = 0
        for i in range(10):
            try:
                registry.tag("s", {f"{number}-{i}": "v"})
                done += 1
            except TooManyTags:
                break
        return done

    assert sum(at_once(8, work)) == MAX_TAGS
    assert len(registry.tags("s")) == MAX_TAGS


def test_a_secret_is_made_once(registry: Registry) -> None:
    assert len(set(at_once(12, lambda number: registry.secret("paging")))) == 1


def test_a_reader_sees_the_files_of_one_version(registry: Registry) -> None:
    create(registry, "s", *(a_file(i, "1") for i in range(4)))
    done = threading.Event()

    def write() -> None:
        try:
            for version in range(2, 60):
                files = tuple(a_file(i, str(version)) for i in range(version % 5))
                registry.update_stream("s", description=None, role_arn=None, files=files, now=NOON)
        finally:
            done.set()

    def read(number: int) -> None:
        while not done.is_set():
            (stream,) = registry.streams(after=None, limit=2, ascending=True)
            assert {file.object.etag for file in stream.files} <= {str(stream.version)}
            assert len(stream.files) == (stream.version % 5 if stream.version > 1 else 4)

    # No more than there are connections: readers that never pause would keep a fifth from ever having one.
    at_once(4, lambda number: read(number) if number else write())
