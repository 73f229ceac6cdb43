"""`python -m benchmarks [NAME …] [--quick] [--json] [--plot FILE]`: runs the benchmarks, prints one table.

A figure is of this machine and this minute; what can be compared is the ratio to what ran beside it.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks import plot, report

NAMES = {
    "delivery": "blocks a second to 64 devices, and the CPU of one block, beside the bare responder",
    "latency": "a one-block request of an idle device while 500 others download, beside a bare echo",
    "crowd": "1,000 devices and one file: exact, fair, read once",
    "update": "1,000 devices updated end to end, power cuts and bad images included",
    "library": "200 files, 500 devices at random, a cache that holds a fortieth of them",
    "workers": "two workers beside one, against a sink in the broker's place",
    "device": "one device of ours and 100 MB",
    "heap": "the least heap in which MicroPython downloads 1 MiB",
    "transfer": "what one download fills of a simulated link, in virtual time",
    "get": "the whole `sluice get` of 100 MB, its start included, beside a bare device",
    "jobs": "2,000 job requests a second, and a job for 100,000 things",
    "service": "the service's memory while it serves 1 GB, and its CPU while idle",
    "writer": "PUBLISH packets through Mosquitto, beside a bare sendmsg loop",
}


def main() -> int:
    """Runs what was named, or everything."""
    listing = "\n".join(f"  {name:<10}{text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"What Sluice must reach, measured.\n\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", choices=[[], *NAMES], help="default: all")
    parser.add_argument("--quick", action="store_true", help="whether it runs, not how fast: small and short")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draws the figures too, as SVG")
    arguments = parser.parse_args()
    machine, rows = report.machine(), []
    for name in arguments.names or NAMES:
        began = time.monotonic()
        print(f"{name}: {NAMES[name]} … ", end="", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").run(arguments.quick)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": report.as_json(rows)}, indent=1))
    else:
        print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()) + "\n")
        print(report.table(rows))
        if arguments.quick:
            print("\nSmall and short: that it runs is all that this shows.")
    if arguments.plot:
        arguments.plot.write_text(plot.drawing(rows, machine))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
