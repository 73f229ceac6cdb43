"""The nano client on QEMU's micro:bit, over a real broker, from the real service; and the raw prompt."""

import hashlib
import random
import shutil
import subprocess
import sys
from binascii import crc_hqx
from collections.abc import Callable, Iterator
from pathlib import Path

import cbor2
import psutil
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from chunker.topics import topic
from device_client.errors import Rejected
from firmware_sim.gateway import DeviceSilent
from firmware_sim.microbit import NoBoard, board, download
from firmware_sim.raw_prompt import PromptError, RawPrompt
from firmware_sim.serial_line import LineError, SerialLine
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service, sluice
from tests.support.device_set import ROOT
from tests.support.mosquitto import MosquittoServer
from tests.support.required import lacking
from tests.support.waiting import wait_until

THING, STREAM = "mast-17", "fw"
SPARE_HEAP = 4000
"""Bytes that the client leaves of the board's 9 KB."""


@pytest.fixture(autouse=True, scope="module")
def _board() -> None:
    try:
        with board():
            pass
    except NoBoard as error:
        lacking("microbit", str(error))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    server = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def publish(
    tmp_path_factory: pytest.TempPathFactory, broker: MosquittoServer
) -> Iterator[Callable[[int], bytes]]:
    """Publishes a file of so many bytes, which are returned, as file 0 of the stream."""
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, "--broker", broker.url) as service:

        def publish(size: int) -> bytes:
            data = random.Random(size).randbytes(size)
            (folder / "fw.bin").write_bytes(data)
            flags = ["--http", service.http, "--state", service.state]
            done = sluice(["publish", "fw.bin", "--stream", STREAM, *flags], folder)
            assert done.returncode == 0, done.stderr
            return data

        yield publish


class BadLine:
    """Loses, changes and cuts every so-manieth frame, in both directions."""

    def __init__(self, line: SerialLine, every: int) -> None:
        self.line = line
        self.every = every
        self.count = 0

    def harmed(self, data: bytes) -> bytes:
        self.count += 1
        if self.count % self.every:
            return data
        at = len(data) // 2
        harms = b"", data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :], data[:at], bytes(40) + data
        return harms[self.count // self.every % len(harms)]

    def write(self, data: bytes) -> None:
        if harmed := self.harmed(data):
            self.line.write(harmed)

    def read(self, seconds: float) -> bytes:
        data = self.line.read(seconds)
        return self.harmed(data) if len(data) > 1 else data


def test_files_arrive_exactly(broker: MosquittoServer, publish: Callable[[int], bytes]) -> None:
    for size in (3333, 512, 1, 0):
        data = publish(size)
        seen: list[int] = []
        result = download(broker.url, thing=THING, stream=STREAM, progress=seen.append)
        assert result.size == size
        assert result.sha256 == hashlib.sha256(data).hexdigest()
        assert result.device_crc16 == result.host_crc16 == crc_hqx(data, 0xFFFF)
        assert seen == [*range(256, size, 256), *([size] if size else [])]
        assert SPARE_HEAP < result.heap_after <= result.heap_loaded < result.heap_before
        # What a download takes is given back.
        assert result.heap_loaded - result.heap_after < 200


def test_a_bad_line_costs_time_alone(broker: MosquittoServer, publish: Callable[[int], bytes]) -> None:
    data = publish(700)
    lines: list[BadLine] = []

    def disturb(line: SerialLine) -> BadLine:
        lines.append(BadLine(line, 13))
        return lines[0]

    result = download(broker.url, thing=THING, stream=STREAM, disturb=disturb)
    assert lines[0].count > 3 * 13
    assert result.repeated > 0
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    assert result.device_crc16 == crc_hqx(data, 0xFFFF)


def test_only_right_answers_are_taken(broker: MosquittoServer, publish: Callable[[int], bytes]) -> None:
    """What somebody else publishes beside the service is refused by the device, and by it alone."""
    data = publish(1500)
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    where = topic(THING, STREAM, "data", "cbor")

    def foreign(held: int) -> None:
        index = held // 256
        right = {"c": "another", "f": 0, "l": 256, "i": index, "p": bytes(256)}
        for payload in (right, {**right, "i": index + 1}, {**right, "f": 1}, {"c": "another"}, [index]):
            client.publish(where, cbor2.dumps(payload))
        client.publish(where, b"\xff" * 100)
        client.publish(where, bytes(2000))
        client.publish(
            topic(THING, STREAM, "rejected", "cbor"), cbor2.dumps({"o": "InternalError", "m": "x"})
        )

    try:
        foreign(0)
        result = download(broker.url, thing=THING, stream=STREAM, progress=foreign)
    finally:
        client.loop_stop()
        client.disconnect()
    assert result.sha256 == hashlib.sha256(data).hexdigest()


def test_refusals_are_told(broker: MosquittoServer, publish: Callable[[int], bytes]) -> None:
    with pytest.raises(Rejected) as rejected:
        download(broker.url, thing=THING, stream="nothing")
    assert rejected.value.code == "ResourceNotFound"
    assert rejected.value.message == "there is no such stream"


def test_silence_ends_it(mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()  # without a service
    with pytest.raises(DeviceSilent, match="no block taken for 1 s"):
        download(broker.url, thing=THING, stream=STREAM, patience=1)


def test_without_firmware_there_is_no_board(tmp_path: Path) -> None:
    with pytest.raises(NoBoard, match="packages"), board(tmp_path / "firmware.hex"):
        pass


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only Linux ends children with their parent")
def test_a_killed_simulator_leaves_no_board_behind() -> None:
    script = (
        "import psutil, sys\nfrom firmware_sim.microbit import board\n"
        "with board():\n    print(psutil.Process().children()[0].pid, flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        qemu = psutil.Process(int(process.stdout.readline()))
        assert "qemu" in qemu.name()
        process.kill()
    wait_until(lambda: not qemu.is_running() or qemu.status() == psutil.STATUS_ZOMBIE, what="the end of QEMU")


class TestPrompt:
    """The raw prompt of the real thing."""

    def test_a_source_with_a_byte_lost_is_sent_again(self) -> None:
        class Losing(SerialLine):
            left = 3

            def write(self, data: bytes) -> None:
                if b"_+=" in data and self.left:
                    self.left -= 1
                    if self.left in (0, 2):
                        data = data[:8] + data[9:]
                super().write(data)

        source = "".join(f"v{number}={number}\n" for number in range(40))
        with board() as line:
            losing = Losing(line._reads, line._writes)
            prompt = RawPrompt(losing)
            prompt.enter()
            prompt.load(source)
            assert losing.left == 0
            assert prompt.run("print(sum([eval('v%d'%i) for i in range(40)]))") == str(sum(range(40)))

    def test_a_program_that_is_running_is_interrupted(self) -> None:
        with board() as line:
            prompt = RawPrompt(line)
            prompt.enter()
            prompt.start("while 1:pass")
            prompt.enter()
            assert prompt.run("print(6*7)") == "42"

    def test_errors(self) -> None:
        with board() as line:
            prompt = RawPrompt(line)
            prompt.enter()
            with pytest.raises(PromptError, match="ZeroDivisionError"):
                prompt.run("1/0")
            with pytest.raises(PromptError, match="NameError"):
                prompt.load("undefined\n" * 10)
            with pytest.raises(ValueError, match="over 60"):
                prompt.start("x" * 60)
            with pytest.raises(LineError, match="no b'never'"):
                line.read_until(b"never", 0.1)
            assert prompt.run("print(1)") == "1"
