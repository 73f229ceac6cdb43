"""`sluice sim board`."""

import argparse
import json
import random
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from broker_bridge.settings import BrokerSettings, StorageSettings
from sluice.failure import DONE, FAILED, Failure, SettingsError
from sluice.loading import Loaded
from sluice.progress import Meter
from sluice.settings import Settings

if TYPE_CHECKING:
    from firmware_sim.boards.board import Board
    from firmware_sim.boards.lives import Progress, Result

USAGE = "sluice sim board [--micropython PATH] [--update KIND] [--image-size N] [--cuts N] [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice sim board --cuts 5 --image-size 200000
  sluice sim board --micropython .tools/micropython --cuts 5 --seed 7
  sluice sim board --update forged

Starts a service with its embedded broker and publishes a signed image. The board's firmware, a process of its
own, downloads it into the flash, a file, and asks for a test boot; the loader decides, and the new version
confirms itself. Cutting the power is killing the process. Nothing is left behind. Exit status: 0 the board
ended in the right version, 1 it did not.
"""
FLAGS = (
    *("micropython", "library", "heap", "update", "image_size", "block_size", "sector_size", "page_size"),
    *("write_size", "cuts", "seed", "timeout", "json"),
)
KINDS = ("good", "forged", "older", "silent")
_THING, _STREAM = "sim-board", "sim-board"


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
        result = _update(Path(name), settings)
    right = (result.outcome is Outcome.CONFIRMED) == (sim.update == "good")
    if settings.json:
        print(json.dumps({**asdict(result), "outcome": result.outcome.value, "right": right}))
        return DONE if right else FAILED
    print(f"version {result.before} ran, version {result.version} runs; the update is {result.outcome.value}")
    if result.reason:
        print(result.reason)
    print(
        f"{result.size} bytes in {result.seconds:.1f} s, {result.boots} boots, {result.cuts} power cuts; "
        f"{result.fetched_again} bytes fetched again"
    )
    if result.heap:
        print(f"at most {result.heap} bytes of heap in use")
    return DONE if right else FAILED


def _update(folder: Path, settings: Settings) -> "Result":
    from firmware_sim.boards.lives import BoardCrashed
    from firmware_sim.boards.process import BoardHangs
    from firmware_sim.boot.loader import NothingToBoot
    from sluice.child import running_service
    from sluice.publishing import publish

    sim = settings.sim
    board, image = _board(folder, settings)
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
        published = publish(folder / "firmware.bin", _STREAM, of_service)
        with Meter("board") as meter:

            def show(so_far: "Progress") -> None:
                if so_far.size:
                    meter(so_far.held, so_far.size)

            try:
                return board.update(
                    mqtt,
                    _THING,
                    _STREAM,
                    sha256=published.sha256,
                    block_size=settings.block_size or 4096,
                    patience=settings.timeout,
                    works=sim.update != "silent",
                    cuts=sim.cuts,
                    seed=sim.seed,
                    progress=show,
                )
            except (BoardCrashed, BoardHangs, NothingToBoot) as error:
                raise Failure(str(error)) from None
            except ValueError as error:
                raise SettingsError(str(error)) from None


def _board(folder: Path, settings: Settings) -> "tuple[Board, bytes]":
    # With version 2 in it, and the image that it is to be updated to.
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
    return board, new
