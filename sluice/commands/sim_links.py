"""`sluice sim links`."""

import argparse
import json
import math
from dataclasses import asdict

from sluice.failure import DONE
from sluice.loading import Loaded

USAGE = "sluice sim links [--link-file TOML] [--json]"
EXAMPLES = """examples:
  sluice sim links
  sluice sim links --link-file mast.toml --json

With --link-file, the links of that file and those that come with Sluice.
"""
FLAGS = ("link_file", "json")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Prints them."""
    from firmware_sim.links.profiles import load, presets
    from sluice.simulating import failures, print_table

    path = loaded.settings.sim.link_file
    with failures():
        links = presets() | (load(path) if path else {})
    if loaded.settings.json:
        print(json.dumps({name: _finite(asdict(link)) for name, link in links.items()}))
        return DONE
    rows = []
    for name, link in links.items():
        row = [name, _rate(link.up.rate), _rate(link.down.rate), f"{link.round_trip:g} ms"]
        row += [_both(link.up.loss, link.down.loss), _both(link.up.duplicate, link.down.duplicate)]
        row += [_both(link.up.reorder, link.down.reorder)]
        row.append(f"{link.stall_for:g} s every {link.stall_every:g} s" if link.stall_every else "-")
        row.append(f"every {link.disconnect_every:g} s" if link.disconnect_every else "-")
        rows.append(row)
    columns = ("link", "up", "down", "round trip", "lost", "doubled", "late", "stalls", "disconnects")
    print_table("Links", columns, rows)
    return DONE


def _finite(value: object) -> object:
    """JSON has no infinity: what has no limit is null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if value == math.inf else value


def _rate(bytes_per_second: float) -> str:
    return "-" if bytes_per_second == math.inf else f"{bytes_per_second * 8 / 1000:g} kbit/s"


def _both(up: float, down: float) -> str:
    if not up and not down:
        return "-"
    return f"{up * 100:g} %" if up == down else f"{up * 100:g} / {down * 100:g} %"
