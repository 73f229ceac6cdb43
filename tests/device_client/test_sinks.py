"""Files appear whole or not at all, and a record never claims what is not on the disk."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.errors import SinkError
from device_client.file_sink import PlainFileSink
from device_client.sinks import FileSink, MemorySink, Record, Sink

BLOCK = 256


def record(size: int, held: set[int]) -> Record:
    bits = bytearray((-(-size // BLOCK) + 7) // 8)
    for index in held:
        bits[index // 8] |= 1 << index % 8
    return "fw", 0, 1, size, BLOCK, bytes(bits)


@pytest.fixture(params=[FileSink, PlainFileSink])
def file_sink(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Sink]:
    """Makes a sink of one kind or the other for fw.bin."""
    return lambda: request.param(str(tmp_path / "fw.bin"))


@pytest.fixture(params=["file", "memory"])
def sink(request: pytest.FixtureRequest, file_sink: Callable[[], Sink]) -> Sink:
    return file_sink() if request.param == "file" else MemorySink()


def test_what_is_written_is_read(sink: Sink) -> None:
    assert sink.load() is None
    sink.start(1000)
    sink.write(500, memoryview(b"b" * 500))
    sink.write(0, memoryview(b"a" * 500))
    assert bytes(sink.read(490, 20)) == b"a" * 10 + b"b" * 10
    sink.save(record(1000, {0}))
    sink.finish()
    sink.close()


def test_a_file_gets_its_name_at_the_end_and_nothing_else_stays(
    file_sink: Callable[[], Sink], tmp_path: Path
) -> None:
    path = tmp_path / "fw.bin"
    path.write_bytes(b"old")
    sink = file_sink()
    sink.start(3)
    sink.write(0, memoryview(b"new"))
    sink.save(record(3, {0}))
    assert path.read_bytes() == b"old"
    sink.finish()
    sink.close()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"fw.bin": b"new"}


def test_an_empty_file(file_sink: Callable[[], Sink], tmp_path: Path) -> None:
    sink = file_sink()
    sink.start(0)
    sink.finish()
    sink.close()
    assert (tmp_path / "fw.bin").read_bytes() == b""


def test_what_is_left_is_found_again(file_sink: Callable[[], Sink], tmp_path: Path) -> None:
    sink = file_sink()
    sink.start(1000)
    sink.write(256, memoryview(b"x" * 256))
    sink.save(record(1000, {1}))
    sink.close()
    again = file_sink()
    assert again.load() == record(1000, {1})
    assert bytes(again.read(256, 256)) == b"x" * 256
    again.start(1000)
    assert again.load() is None
    again.close()


def test_a_record_without_its_file_is_not_believed(file_sink: Callable[[], Sink], tmp_path: Path) -> None:
    sink = file_sink()
    sink.start(1000)
    sink.save(record(1000, {1}))
    sink.close()
    (tmp_path / "fw.bin.part").unlink()
    again = file_sink()
    assert again.load() is None
    again.close()
    (tmp_path / "fw.bin.part").write_bytes(bytes(300))
    shorter = file_sink()
    assert shorter.load() is None
    shorter.close()


def test_nothing_stays_of_a_download_that_never_began_or_was_worthless(
    file_sink: Callable[[], Sink], tmp_path: Path
) -> None:
    file_sink().close()
    assert list(tmp_path.iterdir()) == []
    sink = file_sink()
    sink.start(1000)
    sink.save(record(1000, {1}))
    sink.discard()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_plain_file_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(SinkError):
        PlainFileSink(str(tmp_path / "no" / "fw.bin")).start(1)
    sink = PlainFileSink(str(tmp_path / "fw.bin"))
    sink.start(1000)
    sink.write(0, memoryview(bytes(256)))
    with pytest.raises(SinkError, match="no 257 bytes at 0"):
        sink.read(0, 257)
    sink.close()


def test_a_plain_file_where_renames_do_not_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT's."""
    rename = os.rename

    def on_fat(old: str, new: str) -> None:
        if Path(new).exists():
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        rename(old, new)

    monkeypatch.setattr(os, "rename", on_fat)
    (tmp_path / "fw.bin").write_bytes(b"old")
    sink = PlainFileSink(str(tmp_path / "fw.bin"))
    sink.start(3)
    sink.write(0, memoryview(b"new"))
    for _ in range(2):
        sink.save(record(3, {0}))
    sink.finish()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"fw.bin": b"new"}


def test_two_downloads_to_one_path_do_not_mix(tmp_path: Path) -> None:
    first = FileSink(tmp_path / "fw.bin")
    with pytest.raises(SinkError, match=r"another download is writing .*fw\.bin\.part"):
        FileSink(tmp_path / "fw.bin")
    first.start(1)
    first.write(0, memoryview(b"1"))
    first.finish()
    second = FileSink(tmp_path / "fw.bin")
    second.start(1)
    second.write(0, memoryview(b"2"))
    assert (tmp_path / "fw.bin").read_bytes() == b"1"
    second.finish()
    second.close()
    first.close()
    assert (tmp_path / "fw.bin").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is a directory"),
        ("no/such/fw.bin", "No such file or directory"),
        ("n" * 252, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SinkError, match=message):
        FileSink(tmp_path / name)


def test_a_file_too_big_for_the_disk_fails_before_its_first_block(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "fw.bin")
    size = 2**62
    with pytest.raises(SinkError, match=f"cannot write {size} bytes for .*(No space left|File too large)"):
        sink.start(size)
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    sink = FileSink(tmp_path / "fw.bin")
    sink.start(1000)
    assert (tmp_path / "fw.bin.part").stat().st_size == 1000
    sink.close()


class Disk:
    """Follows what a sink asks of the disk, and notes after every call what a power cut then may leave of it.

    Calls are really made; besides, it remembers what was synced. Names are as they were at some moment since
    their folder was last synced (a journal keeps their order); a file's content is as last synced, as it last
    was, or a mixture.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.rng = rng
        self.synced: dict[int, bytes] = {}  # contents by inode
        self.last: dict[int, bytes] = {}
        self.names: list[dict[str, int]] = [{}]  # since the folder was last synced
        self.left: list[dict[str, bytes]] = []
        for name in ("pwrite", "write", "fsync", "replace", "unlink", "ftruncate", "posix_fallocate"):
            patch.setattr(os, name, self.followed(getattr(os, name)))

    def followed(self, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            result = real(*arguments)
            now = {one.name: one.stat().st_ino for one in self.folder.iterdir()}
            self.last |= {inode: (self.folder / name).read_bytes() for name, inode in now.items()}
            self.names.append(now)
            if real.__name__ == "fsync":
                inode = os.fstat(arguments[0]).st_ino
                if inode in self.last:
                    self.synced[inode] = self.last[inode]
                else:
                    self.names = [now]
            self.cut()
            return result

        return call

    def cut(self) -> None:
        mixed = {inode: self.torn(self.synced.get(inode, b""), data) for inode, data in self.last.items()}
        for names in (self.names[0], self.names[-1], self.rng.choice(self.names)):
            for contents in (self.synced, self.last, mixed):
                self.left.append({name: contents.get(inode, b"") for name, inode in names.items()})

    def torn(self, old: bytes, new: bytes) -> bytes:
        sides = (old.ljust(len(new), b"\0"), new)
        places = range(0, len(new), 64)
        return b"".join(self.rng.choice(sides)[place : place + 64] for place in places)[: len(new)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_power_cut_leaves_no_record_that_claims_too_much(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("disk")
    size = rng.randrange(1, 20 * BLOCK)
    contents = [rng.randbytes(size), rng.randbytes(size)]
    count = -(-size // BLOCK)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, folder, rng)
        sink = FileSink(folder / "fw.bin")
        for content in contents:  # the second time it starts over, with another file of the same size
            sink.start(size)
            held: set[int] = set()
            for index in rng.sample(range(count), count):
                sink.write(index * BLOCK, memoryview(content)[index * BLOCK : (index + 1) * BLOCK])
                held.add(index)
                if rng.random() < 0.3:
                    sink.save(record(size, held))
        sink.finish()
        sink.close()
    assert (folder / "fw.bin").read_bytes() == contents[1]
    left = folder.parent / (folder.name + "-left")
    left.mkdir()
    for files in disk.left:
        for old in left.iterdir():
            old.unlink()
        for name, data in files.items():
            (left / name).write_bytes(data)
        if "fw.bin" in files:
            assert files["fw.bin"] == contents[1]
        sink = FileSink(left / "fw.bin")
        found = sink.load()
        if found:
            claimed = [i for i in range(count) if found[5][i // 8] >> i % 8 & 1]
            stored = {i: bytes(sink.read(i * BLOCK, min(BLOCK, size - i * BLOCK))) for i in claimed}
            assert any(
                all(stored[i] == content[i * BLOCK : (i + 1) * BLOCK] for i in claimed)
                for content in contents
            )
        sink.close()
