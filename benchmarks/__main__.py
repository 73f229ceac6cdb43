"""`python -m benchmarks [NAME …] [--json]`: runs the benchmarks and prints a table for each.

A figure is of this machine and this minute; what can be compared is the ratio to what ran beside it.
"""

import argparse
import importlib
import json
import sys

NAMES = {
    "get": "the whole `sluice get` of 100 MB, its start included, beside a bare device",
    "service": "the service's memory while it serves 1 GB, and its CPU while idle",
    "writer": "PUBLISH packets through Mosquitto, beside a bare sendmsg loop",
}


def main() -> int:
    """Runs what was named, or everything."""
    listing = "\n".join(f"  {name:<10}{text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", choices=[[], *NAMES], help="default: all")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    for name in arguments.names or NAMES:
        print(f"{name}: {NAMES[name]} …", file=sys.stderr)
        rows = importlib.import_module(f"benchmarks.{name}").run()
        results[name] = rows
        if not arguments.json:
            print_table(rows)
    if arguments.json:
        print(json.dumps(results))
    return 0


def print_table(rows: list[dict[str, object]]) -> None:
    """Rows with the same keys, one line each, columns as wide as they must be."""
    lines = [[str(value) for value in row.values()] for row in rows]
    head = list(rows[0])
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    for line in [head, ["-" * width for width in widths], *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
