"""`sluice sim board`."""

import argparse
import json
import random
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_bridge.settings import BrokerSettings, StorageSettings
from sluice.failure import DONE, FAILED, Failure, SettingsError
from sluice.loading import Loaded
from sluice.progress import Meter
from sluice.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from firmware_sim.boards.board import Board
    from firmware_sim.boards.lives import Progress, Result
    from sluice.publishing import Stored

USAGE = "sluice sim board [--ota] [--micropython PATH] [--update KIND] [--cuts N] [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice sim board --cuts 5 --image-size 200000
  sluice sim board --micropython .tools/micropython --cuts 5 --seed 7
  sluice sim board --update forged
  sluice sim board --ota --cuts 5

Starts a service with its embedded broker and publishes a signed image. The board's firmware, a process of its
own, downloads it into the flash, a file, and asks for a test boot; the loader decides, and the new version
confirms itself. With --ota the image is an OTA update: the board's agent takes the job, and reports how it
goes. Cutting the power is killing the process. Nothing is left behind. Exit status: 0 the board ended in the
right version, and with --ota its job in the right state, 1 it did not.
"""
FLAGS = (
    *(
        "ota",
        "micropython",
        "library",
        "heap",
        "update",
        "image_size",
        "block_size",
        "sector_size",
        "page_size",
    ),
    *("write_size", "cuts", "seed", "timeout", "json"),
)
KINDS = ("good", "forged", "older", "silent")
_THING, _STREAM, _UPDATE = "sim-board", "sim-board", "sim-board"
_CREATION = 60
"""Seconds in which the service has made the update's job, or something is wrong."""


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Updates the board, and prints what became of it."""
    settings, sim = loaded.settings, loaded.settings.sim
    if sim.update not in KINDS:
        raise SettingsError(f"update is {sim.update!r}; for a board it must be of {', '.join(KINDS)}")
    from firmware_sim.update import Outcome
    from sluice.simulating import failures

    with failures(), tempfile.TemporaryDirectory(prefix="sluice-board-") as name:
        result, job = _update(Path(name), settings)
    right = (result.outcome is Outcome.CONFIRMED) == (sim.update == "good")
    if sim.ota:
        right = right and job["status"] == ("SUCCEEDED" if sim.update == "good" else "FAILED")
    if settings.json:
        shown = {**asdict(result), "outcome": result.outcome.value, "right": right}
        print(json.dumps({**shown, "job": job} if sim.ota else shown))
        return DONE if right else FAILED
    print(f"version {result.before} ran, version {result.version} runs; the update is {result.outcome.value}")
    if sim.ota:
        print(f"its job {job['status']}: {job['statusDetails'].get('reason')}")
    elif result.reason:
        print(result.reason)
    print(
        f"{result.size} bytes in {result.seconds:.1f} s, {result.boots} boots, {result.cuts} power cuts; "
        f"{result.fetched_again} bytes fetched again"
    )
    if result.heap:
        print(f"at most {result.heap} bytes of heap in use")
    return DONE if right else FAILED


def _update(folder: Path, settings: Settings) -> "tuple[Result, dict[str, Any]]":
    # What became of the board, and with --ota of its job.
    from firmware_sim.boards.lives import BoardCrashed
    from firmware_sim.boards.process import BoardHangs
    from firmware_sim.boot.loader import NothingToBoot
    from sluice.child import running_service
    from sluice.publishing import publish, store
    from sluice.rollout.signing import CERTIFICATE

    sim = settings.sim
    board, image, key = _board(folder, settings)
    (folder / "firmware.bin").write_bytes(image)
    flags = ["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--state", str(folder / "state")]
    with running_service(folder, flags) as (http, mqtt):
        of_service = replace(
            settings,
            http=http.removeprefix("http://"),
            broker=BrokerSettings(url=mqtt),
            storage=StorageSettings(),
            state=folder / "state",
            file=0,
        )
        how: dict[str, Any] = {
            "block_size": settings.block_size or 4096,
            "patience": settings.timeout,
            "works": sim.update != "silent",
            "cuts": sim.cuts,
            "seed": sim.seed,
        }
        if sim.ota:
            job_id = _create(of_service, store(folder / "firmware.bin", _STREAM, of_service), image, key)
        else:
            sha256 = publish(folder / "firmware.bin", _STREAM, of_service).sha256
        with Meter("board") as meter:

            def show(so_far: "Progress") -> None:
                if so_far.size:
                    meter(so_far.held, so_far.size)

            try:
                if not sim.ota:
                    return board.update(mqtt, _THING, _STREAM, sha256=sha256, progress=show, **how), {}
                result = board.take_jobs(mqtt, _THING, CERTIFICATE, progress=show, **how)
                return result, _execution(of_service, job_id)
            except (BoardCrashed, BoardHangs, NothingToBoot) as error:
                raise Failure(str(error)) from None
            except ValueError as error:
                raise SettingsError(str(error)) from None


def _create(settings: Settings, stored: "Stored", image: bytes, key: "EllipticCurvePrivateKey") -> str:
    # A thing, and an OTA update for it: the id of its job, once that is there.
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    from sluice.calling import api, failures, role
    from sluice.rollout.signing import CERTIFICATE

    with failures(settings):
        iot = api(settings)
        arn = iot.create_thing(thingName=_THING)["thingArn"]
        signing = {
            "signature": {"inlineDocument": key.sign(image, ECDSA(SHA256()))},
            "certificateChain": {"certificateName": CERTIFICATE},
            "hashAlgorithm": "SHA256",
            "signatureAlgorithm": "ECDSA",
        }
        file = {
            "fileName": "firmware.bin",
            "fileLocation": {"s3Location": {"bucket": stored.bucket, "key": stored.key}},
            "codeSigning": {"customCodeSigning": signing},
        }
        iot.create_ota_update(otaUpdateId=_UPDATE, targets=[arn], roleArn=role(settings), files=[file])
        until = time.monotonic() + _CREATION
        while time.monotonic() < until:
            info = iot.get_ota_update(otaUpdateId=_UPDATE)["otaUpdateInfo"]
            if info["otaUpdateStatus"] == "CREATE_COMPLETE" and iot.list_job_executions_for_job(
                jobId=info["awsIotJobId"]
            ).get("executionSummaries"):
                return str(info["awsIotJobId"])
            if info["otaUpdateStatus"] == "CREATE_FAILED":
                raise Failure(f"the update is not made: {info['errorInfo']['message']}")
            time.sleep(0.1)
    raise Failure(f"the update's job has not reached the board within {_CREATION} s")


def _execution(settings: Settings, job_id: str) -> dict[str, Any]:
    from sluice.calling import api, failures

    with failures(settings):
        found = api(settings).describe_job_execution(jobId=job_id, thingName=_THING)["execution"]
    details = found.get("statusDetails", {}).get("detailsMap", {})
    return {"jobId": job_id, "status": found["status"], "statusDetails": details}


def _board(folder: Path, settings: Settings) -> "tuple[Board, bytes, EllipticCurvePrivateKey]":
    # With version 2 in it, the image that it is to be updated to, and the key that it trusts.
    from cryptography.hazmat.primitives.asymmetric import ec

    from firmware_sim.boards.board import Board
    from firmware_sim.boards.hardware import Chip
    from firmware_sim.boards.interpreters import NoInterpreter, cpython, micropython
    from firmware_sim.boot.image import build

    sim = settings.sim
    if sim.image_size < 1:
        raise SettingsError(f"image_size is {sim.image_size}; it must be 1 or more")
    chance = random.Random(sim.seed)  # noqa: S311 - the same again from the same seed
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    old = build(chance.randbytes(sim.image_size), version=2, security=1, key=key)
    new = build(
        chance.randbytes(sim.image_size),
        version=1 if sim.update == "older" else 3,
        security=1,
        key=other if sim.update == "forged" else key,
    )
    try:
        sectors = -(-max(len(old), len(new)) // sim.sector_size)
        # Three marks for a block or less, in each of two halves, beside the record.
        marks = 3 * (len(new) // (settings.block_size or 4096) + 2 * sectors) * sim.write_size
        half = -(-(2048 + marks) // sim.sector_size)
        chip = Chip(
            slot_bytes=sectors * sim.sector_size,
            journal_bytes=2 * half * sim.sector_size,
            sector_size=sim.sector_size,
            page_size=sim.page_size,
            write_size=sim.write_size,
        )
        given = sim.micropython
        interpreter = cpython() if given is None else micropython(given, sim.library, sim.heap)
        board = Board(folder / "flash", key.public_key(), chip=chip, interpreter=interpreter)
        board.install(old)
    except NoInterpreter as error:
        raise Failure(str(error)) from None
    except (ValueError, ZeroDivisionError) as error:
        raise SettingsError(f"the flash's sizes do not fit one another: {error}") from None
    return board, new, key
