"""The simple door where something goes wrong: it goes on, takes up what is there, or says why not."""

import errno
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from device_client import client as door
from device_client.client import (
    BlockSizeError,
    DownloadTimeout,
    HashMismatch,
    Rejected,
    SinkError,
    download,
)
from device_client.resume import decode_record
from device_client.sinks import FileSink, MemorySink, Record
from tests.device_client.doing import CONTENT, SHA256, get, go_on, leave_half, stop_after
from tests.device_client.model import Message
from tests.device_client.responder import Responder
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import wait_until


class TestTrouble:
    def test_the_broker_restarts_in_mid_download(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        reached = stop_after(responder, 100)

        def restart() -> None:
            assert reached.wait(30)
            broker.kill()
            go_on(responder)
            broker.restart()

        thread = threading.Thread(target=restart)
        thread.start()
        result = get(broker, tmp_path / "fw.bin")
        thread.join()
        assert result.sha256 == SHA256
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT

    def test_blocks_are_lost(self, broker: MosquittoServer, responder: Responder, tmp_path: Path) -> None:
        rng = random.Random(3)

        def lossy(_request: Message, answers: list[Message]) -> list[Message]:
            return [one for one in answers if "/data/" not in one[0] or rng.random() > 0.01]

        responder.filter = lossy
        result = get(broker, tmp_path / "fw.bin")
        assert result.sha256 == SHA256
        assert result.requests > -(-len(CONTENT) // 131072)

    def test_nobody_answers(self, broker: MosquittoServer, tmp_path: Path) -> None:
        with pytest.raises(DownloadTimeout, match=r"nothing new for \d+ s while describing"):
            get(broker, tmp_path / "fw.bin", patience=0.3)
        assert list(tmp_path.iterdir()) == []

    def test_the_service_falls_silent(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        responder.filter = lambda _request, answers: [one for one in answers if "/data/" not in one[0]]
        with pytest.raises(DownloadTimeout, match="nothing new for 2 s while fetching"):
            get(broker, tmp_path / "fw.bin", patience=2)

    @pytest.mark.parametrize("code", ["Unauthorized", "VersionMismatch", "ETagMismatch", "ResourceNotFound"])
    def test_the_service_refuses(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path, code: str
    ) -> None:
        responder.service.refuse = (code, "this is why")
        with pytest.raises(Rejected, match=f"{code}: this is why") as raised:
            get(broker, tmp_path / "fw.bin")
        assert raised.value.code == code

    def test_no_such_file(self, broker: MosquittoServer, responder: Responder, tmp_path: Path) -> None:
        with pytest.raises(Rejected, match="ResourceNotFound: the stream has no file 9"):
            get(broker, tmp_path / "fw.bin", file_id=9)

    def test_a_block_size_that_cannot_be(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        responder.service.files[0] = bytes(98305 * 256 + 1)
        with pytest.raises(BlockSizeError, match="would do: \\[4096,"):
            get(broker, tmp_path / "fw.bin", block_size=256)
        assert responder.service.requests == []

    def test_another_hash(self, broker: MosquittoServer, responder: Responder, tmp_path: Path) -> None:
        (tmp_path / "fw.bin").write_bytes(b"the old one")
        with pytest.raises(HashMismatch) as raised:
            get(broker, tmp_path / "fw.bin", sha256="0" * 64)
        assert (raised.value.expected, raised.value.actual) == ("0" * 64, SHA256)
        assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"fw.bin": b"the old one"}

    @pytest.mark.parametrize(
        "settings",
        [
            {"encoding": "xml"},
            {"sha256": "0" * 63},
            {"sha256": "g" * 64},
            {"block_size": 1},
            {"file_id": 256},
        ],
    )
    def test_parameters_out_of_bounds(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="not"):
            download("mqtt://127.0.0.1:1", thing="mast", stream="fw", out=tmp_path / "fw.bin", **settings)
        assert list(tmp_path.iterdir()) == []

    def test_the_disk_is_full(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(SinkError, match="No space left on device"):
            get(broker, tmp_path / "fw.bin")

    def test_the_record_cannot_be_saved(
        self, broker: MosquittoServer, responder: Responder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a thread of its own meets ends the download all the same."""

        class Full(MemorySink):
            def save(self, record: Record) -> None:
                raise SinkError("cannot write fw.bin: No space left on device")

        monkeypatch.setattr(door, "SAVE_BYTES", 1)
        with pytest.raises(SinkError, match="No space left on device"):
            get(broker, Full())

    def test_a_disk_slower_than_the_network_is_waited_for(
        self, broker: MosquittoServer, responder: Responder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No more than UNSAVED_BYTES, and what one turn reads, are ever without a record."""
        claimed: list[int] = []

        class Slow(MemorySink):
            def save(self, record: Record) -> None:
                claimed.append(4096 * sum(byte.bit_count() for byte in record[5]))
                time.sleep(0.1)

        sink = Slow()
        monkeypatch.setattr(door, "SAVE_BYTES", 100_000)
        monkeypatch.setattr(door, "UNSAVED_BYTES", 400_000)
        monkeypatch.setattr(door, "BUFFER_BYTES", 200_000)
        assert get(broker, sink).sha256 == SHA256
        steps = [after - before for before, after in itertools.pairwise([0, *claimed])]
        assert len(steps) > 3
        assert max(steps) <= 400_000 + 200_000

    def test_another_download_to_the_same_path(self, broker: MosquittoServer, tmp_path: Path) -> None:
        other = FileSink(tmp_path / "fw.bin")
        with pytest.raises(SinkError, match="another download"):
            get(broker, tmp_path / "fw.bin")
        other.close()


def held(record: Path) -> bytes:
    """The bitmap of a record that another process may be replacing."""
    found = decode_record(record.read_bytes())
    return found[5] if found else b""


class TestResume:
    def test_after_kill_9(self, broker: MosquittoServer, responder: Responder, tmp_path: Path) -> None:
        """A kill costs at most what came since the last record: here each block is one's worth."""
        reached = stop_after(responder, 300)
        program = f"""
from device_client import client
client.SAVE_BYTES = 1
client.download("{broker.url}", thing="mast", stream="fw", out="fw.bin")
"""
        device = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
        try:
            assert reached.wait(30)
            record = tmp_path / "fw.bin.part.state"
            wait_until(lambda: record.exists() and any(held(record)), what="a record of a block")
        finally:
            device.send_signal(signal.SIGKILL)
            device.wait()
        assert not (tmp_path / "fw.bin").exists()
        go_on(responder)
        result = get(broker, tmp_path / "fw.bin", sha256=SHA256)
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT
        assert result.resumed > 0
        assert result.resumed % 4096 == 0

    def test_after_an_interrupt_all_that_came_is_kept(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        leave_half(broker, responder, tmp_path / "fw.bin")
        result = get(broker, tmp_path / "fw.bin")
        assert result.resumed == 98 * 4096  # the first and the last come again
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT

    def test_another_version_starts_over(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        leave_half(broker, responder, tmp_path / "fw.bin")
        responder.service.version = 2
        responder.service.files[0] = CONTENT[::-1]
        result = get(broker, tmp_path / "fw.bin")
        assert (result.resumed, result.version) == (0, 2)
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT[::-1]

    @pytest.mark.parametrize("place", [0, 99 * 4096], ids=["first", "last"])
    def test_without_a_hash_a_held_block_that_differs_starts_over(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path, place: int
    ) -> None:
        """The stream was made anew: same version, same size, other bytes."""
        leave_half(broker, responder, tmp_path / "fw.bin")
        fresh = bytearray(random.Random(9).randbytes(len(CONTENT)))
        for held in {0, 99 * 4096} - {place}:
            fresh[held : held + 4096] = CONTENT[held : held + 4096]
        responder.service.files[0] = bytes(fresh)
        result = get(broker, tmp_path / "fw.bin")
        assert result.resumed == 0
        assert (tmp_path / "fw.bin").read_bytes() == fresh

    def test_with_a_hash_what_was_of_another_file_starts_over(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        leave_half(broker, responder, tmp_path / "fw.bin")
        fresh = bytearray(CONTENT)
        fresh[50_000] ^= 1
        responder.service.files[0] = bytes(fresh)
        result = get(broker, tmp_path / "fw.bin", sha256=hashlib.sha256(fresh).hexdigest())
        assert result.resumed == 0
        assert (tmp_path / "fw.bin").read_bytes() == fresh

    @pytest.mark.usefixtures("patient")
    def test_with_a_hash_nothing_held_comes_again(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        leave_half(broker, responder, tmp_path / "fw.bin")
        result = get(broker, tmp_path / "fw.bin", sha256=SHA256)
        assert result.resumed == 100 * 4096
        assert sum(one["n"] for one in responder.service.requests) == result.blocks - 100

    @pytest.mark.usefixtures("patient")
    def test_of_what_is_complete_only_two_blocks_come(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed between the last block and the new name."""
        with monkeypatch.context() as patch:
            patch.setattr(door._Run, "finished", self.interrupt)
            with pytest.raises(KeyboardInterrupt):
                get(broker, tmp_path / "fw.bin")
        responder.service.requests.clear()
        get(broker, tmp_path / "fw.bin")
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT
        assert sum(one["n"] for one in responder.service.requests) == 2

    @staticmethod
    def interrupt(run: Any) -> bool:
        if run.machine.state == "done":
            raise KeyboardInterrupt
        return False

    def test_another_block_size_starts_over_only_if_asked_for(
        self, broker: MosquittoServer, responder: Responder, tmp_path: Path
    ) -> None:
        leave_half(broker, responder, tmp_path / "fw.bin")
        result = get(broker, tmp_path / "fw.bin", block_size=8192)
        assert (result.resumed, result.block_size) == (0, 8192)
        assert (tmp_path / "fw.bin").read_bytes() == CONTENT
