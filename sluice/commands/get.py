"""`sluice get`."""

import argparse
import json
import sys

from sluice.failure import DONE, SettingsError
from sluice.loading import Loaded
from sluice.progress import Meter, rate

USAGE = "sluice get --thing NAME --stream ID --out PATH [--file N] [--sha256 HEX] [FLAGS]"
EXAMPLES = """examples:
  sluice get --thing pump-7 --stream pump-1-4 --out firmware.bin
  sluice get --thing pump-7 --stream pump-1-4 --file 1 --sha256 HEX --out modem.bin
  sluice get --broker mqtts://broker.example --cafile ca.pem --cert pump-7.pem --key pump-7.key \\
      --thing pump-7 --stream pump-1-4 --out firmware.bin

What is left half done beside PATH is taken up by the next call. Exit status: 0 the file is whole, 3 no
broker, 4 refused by the service, 5 the SHA-256 differs, 1 anything else.
"""
FLAGS = (
    *("thing", "stream", "file", "out", "sha256", "block_size", "encoding", "broker", "mqtt", "cafile"),
    *("cert", "key", "timeout", "json"),
)


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Downloads, and prints what came."""
    settings = loaded.settings
    lacking = [f"--{name}" for name in ("thing", "stream", "out") if getattr(settings, name) is None]
    if lacking:
        raise SettingsError(f"get needs {', '.join(lacking)}\nusage: {USAGE}\nsluice get --help says more")
    from sluice.fetching import fetch

    assert settings.out is not None
    with Meter("get") as meter:
        result = fetch(settings, settings.out, meter)
    if result.resumed:
        print(f"sluice: went on after {result.resumed} bytes of an earlier run", file=sys.stderr)
    if settings.json:
        figures = {name: getattr(result, name) for name in _FIGURES}
        print(json.dumps({"out": str(settings.out), **figures}))
    else:
        speed = rate(result.size - result.resumed, result.seconds)
        print(f"{settings.out}: {result.size} bytes, SHA-256 {result.sha256}")
        print(f"{result.blocks} blocks of {result.block_size} bytes in {result.seconds:.2f} s, {speed}")
    return DONE


_FIGURES = ("size", "sha256", "version", "block_size", "blocks", "resumed", "seconds")
