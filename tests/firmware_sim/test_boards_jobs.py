"""Boards that take OTA updates as jobs: the agent in a process that is killed, the real service, boto3."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_sim.boards.board import Board
from firmware_sim.boards.hardware import Chip
from firmware_sim.boards.interpreters import Interpreter, cpython, micropython
from firmware_sim.boot.image import build
from firmware_sim.update import Outcome
from tests.micropython.running import INTERPRETER, there
from tests.support.device_set import compile_to, modules
from tests.support.ota_site import CERTIFICATE, OtaSite

KEY = ec.derive_private_key(0xB0A2D, ec.SECP256R1())
STRANGER = ec.derive_private_key(0x57A2, ec.SECP256R1())
OLD = build(random.Random(1).randbytes(60_000), version=1, security=1, key=KEY)
NEW = build(random.Random(2).randbytes(60_000), version=2, security=1, key=KEY)
CHIP = Chip(slot_bytes=64 * 1024, journal_bytes=8192, erase_seconds=0.008, program_seconds=0.0003)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtaSite]:
    with OtaSite(tmp_path_factory.mktemp("site")) as one:
        yield one


@pytest.fixture(params=["cpython", pytest.param("micropython", marks=pytest.mark.micropython)])
def interpreter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    if request.param == "cpython":
        return cpython()
    there(INTERPRETER)
    library = tmp_path_factory.mktemp("mpy")
    compile_to(library, [*modules(), *modules("device_rim")])
    return micropython(INTERPRETER, library, "160k")


@pytest.fixture
def board(tmp_path: Path, interpreter: Interpreter) -> Board:
    one = Board(tmp_path / "flash", KEY.public_key(), chip=CHIP, interpreter=interpreter)
    one.install(OLD)
    return one


@pytest.fixture
def thing(site: OtaSite, request: pytest.FixtureRequest) -> str:
    name = "".join(one if one.isalnum() else "-" for one in request.node.name)
    site.thing(name)
    return name


def publish(site: OtaSite, thing: str, image: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> str:
    arn = site.iot.describe_thing(thingName=thing)["thingArn"]
    return site.update(f"u{abs(hash(thing)) % 10**9}-{random.getrandbits(32)}", image, key, arn)


def runs(board: Board) -> bytes:
    boot = board.boot()
    assert not boot.test
    return boot.slot.image.read(0, boot.image.size)


def test_without_a_cut(site: OtaSite, board: Board, thing: str) -> None:
    job = publish(site, thing, NEW)
    result = board.take_jobs(site.broker.url, thing, CERTIFICATE)
    assert (result.outcome, result.before, result.version) == (Outcome.CONFIRMED, 1, 2)
    assert (result.boots, result.cuts, result.size) == (3, 0, len(NEW))
    assert site.execution(job, thing) == (
        "SUCCEEDED",
        {"reason": "accepted  v0.0.2", "updatedBy": "  v0.0.1"},
    )
    assert runs(board) == NEW


def test_however_often_the_power_is_cut(site: OtaSite, board: Board, thing: str) -> None:
    cuts = 0
    for seed in (1, 2, 3):
        board.install(OLD)
        job = publish(site, thing, NEW)
        result = board.take_jobs(site.broker.url, thing, CERTIFICATE, block_size=1024, cuts=6, seed=seed)
        assert (result.outcome, site.execution(job, thing)) == (
            Outcome.CONFIRMED,
            ("SUCCEEDED", {"reason": "accepted  v0.0.2", "updatedBy": "  v0.0.1"}),
        )
        assert runs(board) == NEW
        cuts += result.cuts
    assert cuts >= 3


@pytest.mark.parametrize("cuts", [0, 3])
def test_a_version_that_finds_that_it_does_not_work(
    site: OtaSite, board: Board, thing: str, cuts: int
) -> None:
    job = publish(site, thing, NEW)
    result = board.take_jobs(site.broker.url, thing, CERTIFICATE, self_test="no radio", cuts=cuts, seed=5)
    assert (result.outcome, result.version) == (Outcome.REFUSED, 1)
    status, details = site.execution(job, thing) or ("", {})
    assert status == "FAILED"
    assert details["reason"] in (
        "rejected: no radio",
        "rejected: the new version ran and did not confirm itself",
    )
    assert runs(board) == OLD


def test_a_version_that_does_not_run(site: OtaSite, board: Board, thing: str) -> None:
    job = publish(site, thing, NEW)
    result = board.take_jobs(site.broker.url, thing, CERTIFICATE, works=False)
    assert (result.outcome, result.version) == (Outcome.REFUSED, 1)
    why = "rejected: version 2 had its test boots and did not confirm itself"
    assert site.execution(job, thing) == ("FAILED", {"reason": why})
    assert why in result.reason
    # The same once more, from an operator who has found out that it was not the image.
    job = publish(site, thing, NEW)
    assert board.take_jobs(site.broker.url, thing, CERTIFICATE).outcome is Outcome.CONFIRMED
    assert runs(board) == NEW


def test_what_the_loader_does_not_trust(site: OtaSite, board: Board, thing: str) -> None:
    forged = build(b"forged" * 1000, version=2, security=1, key=STRANGER)
    job = publish(site, thing, forged)
    result = board.take_jobs(site.broker.url, thing, CERTIFICATE)
    assert (result.outcome, result.version) == (Outcome.REFUSED, 1)
    status, details = site.execution(job, thing) or ("", {})
    assert (status, "not signed with the device's key" in details["reason"]) == ("FAILED", True)


def test_several_jobs_one_after_the_other(site: OtaSite, board: Board, thing: str) -> None:
    forged = publish(site, thing, NEW, STRANGER)
    older = publish(site, thing, OLD)
    good = publish(site, thing, NEW)
    result = board.take_jobs(site.broker.url, thing, CERTIFICATE, cuts=3, seed=11)
    states = [(site.execution(job, thing) or ("",))[0] for job in (forged, older, good)]
    assert states == ["FAILED", "FAILED", "SUCCEEDED"]
    assert result.version == 2


def test_nothing_to_do(site: OtaSite, board: Board, thing: str) -> None:
    result = board.take_jobs(site.broker.url, thing, CERTIFICATE)
    assert (result.outcome, result.version, result.boots) == (Outcome.REFUSED, 1, 2)
