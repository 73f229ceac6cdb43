"""The agent on CPython, against the real service over a real broker."""

import asyncio
import json
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_client.agent import MESSAGE_HEAD, Agent
from device_client.async_transport import AsyncTransport
from device_client.folder_slots import FolderSlots
from device_client.mqtt import Session
from device_client.sinks import FileSink
from device_client.updater import keep_updated
from tests.support.ota_site import CERTIFICATE, OtaSite

KEY = ec.derive_private_key(0xA6E27, ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
HEAD = struct.Struct(">4sI")


def image(version: int, size: int = 200_000, works: bool = True) -> bytes:
    return HEAD.pack(b"M1\0\0", version) + bytes([works]) + random.Random(version).randbytes(size)


def identify(head: bytes | bytearray) -> tuple[str, int] | None:
    name, version = HEAD.unpack(head)
    return (name.rstrip(b"\0").decode(), version) if name == b"M1\0\0" else None


class Stop(Exception):
    """Ends a program from within."""


class Program:
    """What a supervisor keeps running: boots, and is kept updated until it is to boot again."""

    def __init__(self, folder: Path, broker: str, thing: str) -> None:
        self.folder, self.broker, self.thing = folder, broker, thing
        self.ran: list[int] = []
        self.jobs: list[str] = []
        folder.mkdir()
        self.slots().install(image(1))
        self.thread = threading.Thread(target=self.live)
        self.failed: BaseException | None = None

    def slots(self) -> FolderSlots:
        return FolderSlots(str(self.folder), "M1", identify, HEAD.size, lambda: None, sink=FileSink)

    def live(self) -> None:
        try:
            while True:
                slots = self.slots()
                content = Path(slots.boot()).read_bytes()
                self.ran.append(slots.version)
                self.works = "" if content[HEAD.size] else "no radio"
                keep_updated(
                    self.broker,
                    thing=self.thing,
                    platform=slots,
                    keys={CERTIFICATE: PUBLIC},
                    self_test=lambda: self.works,
                    other=self.other,
                )
        except Stop:
            return
        except BaseException as error:
            self.failed = error
            raise

    def other(self, job: Any) -> tuple[str, dict[str, str]] | None:
        self.jobs.append(job.job_id)
        if job.document == {"kind": "stop"}:
            raise Stop
        if job.document == {"kind": "hello"}:
            return "SUCCEEDED", {"said": "hello"}
        return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtaSite]:
    with OtaSite(tmp_path_factory.mktemp("site")) as one:
        yield one


def test_a_program_is_kept_updated(site: OtaSite, tmp_path: Path) -> None:
    arn = site.thing("mast")
    program = Program(tmp_path / "slots", site.broker.url, "mast")
    program.thread.start()
    job = site.update("two", image(2), KEY, arn)
    assert site.ended(job, "mast") == (
        "SUCCEEDED",
        {"reason": "accepted  v0.0.2", "updatedBy": "  v0.0.1"},
    )
    job = site.update("three", image(3, works=False), KEY, arn)
    assert site.ended(job, "mast") == ("FAILED", {"reason": "rejected: no radio"})
    job = site.update("old", image(1), KEY, arn)
    assert site.ended(job, "mast") == ("FAILED", {"reason": "rejected: v0.0.1 is not newer than v0.0.2"})
    job = site.update("forged", image(4), ec.generate_private_key(ec.SECP256R1()), arn)
    assert site.ended(job, "mast") == ("FAILED", {"reason": "rejected: its signature does not verify"})
    site.iot.create_job(jobId="hello", targets=[arn], document='{"kind":"hello"}')
    assert site.ended("hello", "mast") == ("SUCCEEDED", {"said": "hello"})
    site.iot.create_job(jobId="odd", targets=[arn], document='{"kind":"odd"}')
    assert site.ended("odd", "mast")[0] == "REJECTED"
    site.iot.create_job(jobId="long", targets=[arn], document=json.dumps({"kind": "x" * 20_000}))
    reason = "rejected: the job's messages do not fit this device's buffer of 18432 bytes"
    assert site.ended("long", "mast") == ("REJECTED", {"reason": reason})
    # The broker goes and comes back, and everybody finds it again.
    site.broker.kill()
    site.broker.restart()
    job = site.update("five", image(5, 1_000_000), KEY, arn)
    assert site.ended(job, "mast")[0] == "SUCCEEDED"
    site.iot.create_job(jobId="stop", targets=[arn], document='{"kind":"stop"}')
    program.thread.join(30)
    assert program.failed is None
    assert program.ran == [1, 2, 3, 2, 5]
    assert sorted(one.name for one in program.folder.iterdir()) == ["a.img", "b.img", "slots.json"]


def test_what_makes_no_sense(tmp_path: Path) -> None:
    slots = FolderSlots(str(tmp_path), "M1", identify, HEAD.size, lambda: None)
    with pytest.raises(ValueError, match="public_key"):
        keep_updated("mqtt://127.0.0.1:1", thing="mast", platform=slots, keys={"x": b"no key"})
    with pytest.raises(FileNotFoundError):
        slots.boot()
    slots.install(b"\0" * 100)
    with pytest.raises(ValueError, match=r"a\.img is no image of M1"):
        slots.boot()


def test_beside_other_things(site: OtaSite, tmp_path: Path) -> None:
    """On asyncio: the agent in a task of its own."""
    arn = site.thing("async")
    slots = FolderSlots(str(tmp_path), "M1", identify, HEAD.size, lambda: None, sink=FileSink)
    slots.install(image(1))
    slots.boot()
    site.iot.create_job(jobId="async-long", targets=[arn], document=json.dumps({"kind": "x" * 6144}))
    site.update("async", image(2), KEY, arn)

    async def life() -> int:
        agent = Agent("async", slots, {CERTIFICATE: PUBLIC}, lambda: "", "token")
        session = Session("async", agent.topics, bytearray(4096 + MESSAGE_HEAD))
        transport = AsyncTransport(session, site.broker.host, site.broker.port, agent.message, agent.session)
        agent.send = transport.send
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        while not agent.over:
            await transport.wait(agent.turn())
        task.cancel()
        await transport.close()
        return turns

    assert asyncio.run(asyncio.wait_for(life(), 60)) > 10
    again = FolderSlots(str(tmp_path), "M1", identify, HEAD.size, lambda: None)
    again.boot()
    assert (again.version, again.testing()) == (2, True)
    reason = "rejected: the job's messages do not fit this device's buffer of 6144 bytes"
    assert site.ended("async-long", "async") == ("REJECTED", {"reason": reason})
