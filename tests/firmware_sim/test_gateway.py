"""The serial gateway beside devices that lie, fall silent or vanish, on lines of every kind."""

import hashlib
import os
import pty
import random
import select
import socket
import threading
import time
import tty
from binascii import crc_hqx
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from device_client.mqtt import BrokerUnreachable
from firmware_sim.gateway import DeviceSilent, DeviceWrong, Gateway, Report
from firmware_sim.serial_line import LineClosed, LineError, SerialLine
from firmware_sim.serial_link import NotAcknowledged, SerialLink
from tests.conftest import MosquittoFactory
from tests.device_client.model import Message, Service
from tests.device_client.responder import Responder
from tests.nano.board import Board
from tests.support.waiting import free_port

THING, STREAM, TOKEN = "mast-17", "fw", b"4a48e33c"


class LiveBoard(Board):
    """The nano client at the other end of a line, in a thread of its own, by the real clock."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.clock = _milliseconds()
        self.written = self._write
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _write(self, data: bytes) -> None:
        os.write(self.port, data)

    def _work(self) -> None:
        self.names["run"](TOKEN, 0)

    def _sleep(self, milliseconds: int) -> None:
        self.clock = _milliseconds()
        if select.select([self.port], [], [], milliseconds / 1000)[0]:
            try:
                data = os.read(self.port, 63)
            except OSError:
                data = b""
            if not data:
                raise SystemExit  # the line is gone, and with it the board
            self.incoming += data


def _milliseconds() -> int:
    return time.monotonic_ns() // 1_000_000


@contextmanager
def line_of(kind: str) -> Iterator[tuple[SerialLine, int]]:
    """A line of that kind, and the descriptor that is the device's end of it."""
    if kind == "terminal":
        here, there = pty.openpty()
        tty.setraw(there)
        yield SerialLine(here, here), there
        os.close(there)
        os.close(here)
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        device = socket.create_connection(server.getsockname())
        gateway, _ = server.accept()
        for end in (device, gateway):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with device, gateway:
            yield SerialLine(gateway.fileno(), gateway.fileno()), device.fileno()
            for end in (device, gateway):
                end.shutdown(socket.SHUT_RDWR)


def downloaded(line: SerialLine, port: int, broker: str, **options: object) -> Report:
    """A whole download by a live board."""
    board = LiveBoard(port)
    with Gateway(line, broker, THING, STREAM) as gateway:
        board.thread.start()
        report = gateway.serve(**options)  # type: ignore[arg-type]
        board.thread.join(30)
    assert not board.thread.is_alive()
    return report


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def assert_whole(report: Report, data: bytes) -> None:
    assert (report.reason, report.size, report.blocks) == ("", len(data), -(-len(data) // 256))
    assert report.sha256 == hashlib.sha256(data).hexdigest()
    assert report.device_crc16 == report.crc16 == crc_hqx(data, 0xFFFF)


@pytest.mark.parametrize("kind", ["terminal", "socket"])
@pytest.mark.parametrize("size", [0, 256, 5000])
def test_any_line_brings_a_file(mosquitto: MosquittoFactory, kind: str, size: int) -> None:
    data = content(size)
    server = mosquitto()
    with Responder(Service({0: data, 7: b"another"}), server.port), line_of(kind) as (line, port):
        assert_whole(downloaded(line, port, server.url), data)


def test_lost_and_repeated_answers(mosquitto: MosquittoFactory) -> None:
    """One answer is lost, the next ones come twice; an InternalError is waited out."""
    data = content(1500)
    server = mosquitto()
    seen: list[Message] = []

    def harm(request: Message, answers: list[Message]) -> list[Message]:
        seen.append(request)
        if len(seen) == 3:
            return []
        if len(seen) == 6:
            where = answers[0][0].replace("/data/", "/rejected/")
            # {"o": "InternalError", "m": "", "c": TOKEN}
            refusal = b"\xa3\x61o\x6dInternalError\x61m\x60\x61c\x68" + TOKEN
            return [(where, refusal)]
        return answers * 2

    with Responder(Service({0: data}), server.port) as service, line_of("socket") as (line, port):
        service.filter = harm
        assert_whole(downloaded(line, port, server.url), data)
    assert len(seen) >= 1 + 6 + 2


def test_a_refusal_in_mid_download_ends_it(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    service = Service({0: content(5000)})

    def progress(held: int) -> None:
        if held >= 1024:
            service.version = 2

    with Responder(service, server.port), line_of("socket") as (line, port):
        report = downloaded(line, port, server.url, progress=progress)
    assert (report.reason, report.message) == ("VersionMismatch", "s is not the stream's version")
    assert 1024 <= report.size < 5000
    assert report.sha256 == hashlib.sha256(content(5000)[: report.size]).hexdigest()


def test_a_file_that_is_not_there(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    with Responder(Service({5: b"another"}), server.port), line_of("socket") as (line, port):
        report = downloaded(line, port, server.url)
    assert report.reason.startswith("IndexError")
    assert report.size == 0


def test_the_broker_is_started_again(mosquitto: MosquittoFactory) -> None:
    data = content(3000)
    server = mosquitto()
    restarted: list[int] = []

    with Responder(Service({0: data}), server.port) as service, line_of("socket") as (line, port):

        def progress(held: int) -> None:
            if not restarted:
                restarted.append(held)
                server.kill()
                server.restart()
                service.wait_until_ready()

        assert_whole(downloaded(line, port, server.url, progress=progress), data)
    assert restarted == [256]


@pytest.mark.parametrize("state", [[1, 0x1234], [2, 0xFFFF], [0, 0x1234]])
def test_a_device_that_took_what_was_not_brought(mosquitto: MosquittoFactory, state: list[int]) -> None:
    server = mosquitto()
    with Responder(Service({0: content(600)}), server.port), line_of("socket") as (line, port):
        board = LiveBoard(port)
        board.names["state"][:] = state
        with Gateway(line, server.url, THING, STREAM) as gateway:
            board.names["send"](1, board.names["encode"](b"c", TOKEN))
            with pytest.raises(DeviceWrong, match=f"took {state[0]} blocks with CRC-16 {state[1]:04x}"):
                gateway.serve(30)


def test_a_device_that_says_nothing(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    with line_of("socket") as (line, port), Gateway(line, server.url, THING, STREAM) as gateway:
        os.write(port, b"\x04Traceback (most recent call last):\r\n  the reason why\r\n")
        with pytest.raises(DeviceSilent, match="the reason why"):
            gateway.serve(0.6)


def test_a_device_that_goes_away(mosquitto: MosquittoFactory) -> None:
    server = mosquitto()
    with line_of("socket") as (line, port), Gateway(line, server.url, THING, STREAM) as gateway:
        socket.socket(fileno=os.dup(port)).shutdown(socket.SHUT_RDWR)
        with pytest.raises(LineClosed, match="closed by the other side"):
            gateway.serve(30)


def test_no_broker() -> None:
    with line_of("socket") as (line, _):
        with (
            pytest.raises(BrokerUnreachable),
            Gateway(line, f"mqtt://127.0.0.1:{free_port()}", THING, STREAM),
        ):
            pass
        for url in ("http://127.0.0.1", "mqtt://", "127.0.0.1:1883", "mqtt://host/path"):
            with pytest.raises(ValueError, match=r"is not mqtt\[s\]"):
                Gateway(line, url, THING, STREAM)


class TestLine:
    """The bounds of the line itself."""

    def test_a_frame_that_nobody_acknowledges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("firmware_sim.serial_link.FIRST_WAIT", 0.01)
        with line_of("socket") as (line, port):
            link = SerialLink(line)
            with pytest.raises(NotAcknowledged, match="let a frame pass 10 times"):
                link.send(b"hello")
            assert link.repeated == 9
            # Ten times the same frame: head, "hello", CRC-16.
            heard = os.read(port, 4096)
            assert len(heard) == 10 * 9
            assert heard == heard[:9] * 10

    def test_a_line_that_takes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SerialLine, "WRITE_SECONDS", 0.1)
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        try:
            with pytest.raises(LineClosed, match=r"took nothing for 0\.1 s"):
                SerialLine(reads, writes).write(bytes(1 << 20))
        finally:
            os.close(reads)
            os.close(writes)

    def test_what_follows_a_mark_stays(self) -> None:
        with line_of("socket") as (line, port):
            os.write(port, b"one>two")
            assert line.read_until(b">", 30) == b"one>"
            assert line.read(30) == b"two"
            assert line.read(0) == b""
            os.write(port, b"three")
            with pytest.raises(LineError, match=r"no b'>' within 0\.1 s, but b'three'"):
                line.read_until(b">", 0.1)
