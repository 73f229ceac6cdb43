"""`sluice sim microbit`."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from sluice.failure import DIFFERS, DONE, FAILED, UNREACHABLE, Failure, SettingsError
from sluice.loading import Loaded
from sluice.progress import LINE_SECONDS

USAGE = "sluice sim microbit --thing NAME --stream ID [--file N] [--sha256 HEX] [--broker URL] [--json]"
EXAMPLES = """examples:
  sluice sim microbit --thing bit-1 --stream fw
  sluice sim microbit --thing bit-1 --stream fw --file 1 --sha256 HEX --json

QEMU runs MicroPython on a BBC micro:bit with 9 KB of free heap; the nano client is sent to it over its serial
line, and a gateway carries that line to the broker. Some 2 KB arrive in a second: take a small file. Exit
status: 0 the file is whole, 3 no QEMU or no broker, 4 refused by the service, 5 the SHA-256 differs, 1
anything else.
"""
FLAGS = ("thing", "stream", "file", "sha256", "broker", "mqtt", "cafile", "timeout", "json")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Downloads on the board, and prints what it took."""
    settings = loaded.settings
    if settings.thing is None or settings.stream is None:
        lacking = [f"--{name}" for name in ("thing", "stream") if getattr(settings, name) is None]
        raise SettingsError(f"sim microbit needs {', '.join(lacking)}\nusage: {USAGE}")
    from firmware_sim.microbit import NoBoard, download
    from sluice.simulating import failures

    with failures():
        try:
            with _taken() as progress:
                result = download(
                    settings.device_broker,
                    thing=settings.thing,
                    stream=settings.stream,
                    file_id=settings.file,
                    cafile=None if settings.broker.cafile is None else str(settings.broker.cafile),
                    patience=settings.timeout,
                    progress=progress,
                )
        except NoBoard as error:
            raise Failure(str(error), UNREACHABLE) from None
        except ValueError as error:
            raise SettingsError(str(error)) from None
    if result.device_crc16 != result.host_crc16:
        raise Failure(
            f"CRC-16 on the device is {result.device_crc16}, at the gateway {result.host_crc16}", FAILED
        )
    if settings.sha256 and result.sha256 != settings.sha256.lower():
        raise Failure(f"SHA-256 of the file is {result.sha256}, expected {settings.sha256.lower()}", DIFFERS)
    if settings.json:
        print(json.dumps(asdict(result)))
        return DONE
    print(
        f"{result.size} bytes, SHA-256 {result.sha256}, in {result.seconds:.1f} s; CRC-16 equal on the board"
    )
    print(
        f"{result.source_bytes} bytes of client; free heap {result.heap_before} bytes before it, "
        f"{result.heap_loaded} with it, {result.heap_after} in the end; {result.repeated} frames repeated"
    )
    return DONE


@contextmanager
def _taken() -> Iterator[Callable[[int], None]]:
    """Shows how many bytes the board has taken: how many there will be it does not tell."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("micro:bit: starting") as status:

            def show(size: int) -> None:
                status.update(f"micro:bit: {size} bytes taken")

            yield show
        return
    said = time.monotonic()

    def line(size: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            print(f"micro:bit: {size} bytes taken", file=sys.stderr)

    yield line
