"""`sluice config`."""

import argparse
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path

from sluice.failure import DONE
from sluice.flags import FLAGS as ALL_FLAGS
from sluice.loading import DEFAULT, Loaded
from sluice.settings import leaves, masked, value_of

USAGE = "sluice config [any flag of any command] [--json | --markdown]"
EXAMPLES = """examples:
  sluice config                     every setting, its value, and where it comes from
  sluice config --broker mqtts://broker.example --json
  sluice config --markdown          what every setting means

Layers, each over the one before it: defaults, sluice.toml (in the working directory, or --config FILE),
SLUICE_* in the environment, flags. docs/settings.md explains each setting.
"""
FLAGS = tuple(ALL_FLAGS)


def arguments(parser: argparse.ArgumentParser) -> None:
    """One switch that is no setting: what to print instead."""
    parser.add_argument("--markdown", action="store_true", help="print the reference of all settings instead")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Prints the settings in force, passwords masked."""
    if "markdown" in args:
        from sluice.reference import markdown

        print(markdown())
        return DONE
    rows = [(name, _plain(value_of(loaded.settings, name)), loaded.sources[name]) for name in leaves()]
    if loaded.settings.json:
        print(
            json.dumps({name: {"value": value, "source": source} for name, value, source in rows}, indent=2)
        )
        return DONE
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        text = "not set" if value is None else json.dumps(value) if not isinstance(value, str) else value
        print(f"{name:<{width}}  {text}" + ("" if source == DEFAULT else f"  ({source})"))
    return DONE


def _plain(value: object) -> object:
    """`value` as JSON has it, without passwords."""
    if isinstance(value, str | Path):
        return masked(str(value))
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(entry) for name, entry in asdict(value).items()}
    return value
