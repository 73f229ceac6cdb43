"""What kinds of devices a fleet has, from a small TOML file, and those that come with the package.

    [sensor]                      # a kind of device
    block_size = "1 KiB"
    budget = "8 KiB"              # asked for and not here, at most
    in_flight = 4                 # the same in blocks
    flash = "60 kB/s"             # how fast blocks are written: no further ones are asked for meanwhile
    power_cut_every = "5 min"     # mean
    link = "nb-iot"               # instead of the fleet's

    [field]                       # a mix: shares, of which each counts against the others
    mix = { sensor = 3, linux = 1 }

Bytes, times and rates have their unit. What a key means and its bounds: DeviceProfile.
"""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from device_client.download import MAX_BLOCKS, MAX_IN_FLIGHT
from firmware_sim.links.model import ProfileError
from firmware_sim.units import BYTES, BYTES_PER_SECOND, SECONDS, with_unit

LARGEST_FILE = 1 << 20  # bytes
LONGEST_MIX = 100
DAY = 86_400.0


def _within(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    if not low <= value <= high:  # so written that not-a-number is refused
        raise ProfileError(f"{field} is {value:.10g}{unit}; it must be from {low:.10g} to {high:.10g}{unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A kind of device. Raises ProfileError where a field is out of its range."""

    name: str
    block_size: int = 4096
    """Bytes, 256 to 131072. The whole file must be within 98305 blocks."""
    encoding: str = "cbor"
    """`cbor` or `json`."""
    budget: int = 1 << 20
    """Bytes asked for and not here, at most: one block to 1 GiB."""
    in_flight: int = MAX_IN_FLIGHT
    """Blocks asked for and not here, at most, 1 to 98305."""
    gap: float = 0.0
    """Seconds from one request to the next at least, 0 to `patience`."""
    patience: float = 300.0
    """Seconds without anything new after which the device gives up, 1 s to a day."""
    flash: float = math.inf
    """Bytes a second at which a block is written, 100 or more: while one is, none is asked for."""
    save_every: int = 65536
    """New bytes after which the record of what is held is saved, 256 to 1 GiB."""
    power_cut_every: float = 0.0
    """Mean seconds of the device's life from one power cut to the next, 0.1 s or more; 0: none."""
    power_cuts: int = 20
    """Power cuts at most, 1 to 1000: then the power stays, so that every device comes to an end."""
    boot: float = 2.0
    """Seconds from a power cut until the device runs again, 0 to 3600."""
    link: str | None = None
    """Name of a link profile, where it is not the fleet's."""

    def __post_init__(self) -> None:
        _within("block_size", self.block_size, 256, 131072, " bytes")
        _within("budget", self.budget, self.block_size, 1 << 30, " bytes")
        _within("in_flight", self.in_flight, 1, MAX_BLOCKS, " blocks")
        _within("patience", self.patience, 1, DAY, " s")
        _within("gap", self.gap, 0, self.patience, " s")
        _within("flash", self.flash, 100, math.inf, " byte/s")
        _within("save_every", self.save_every, 256, 1 << 30, " bytes")
        if self.power_cut_every:
            _within("power_cut_every", self.power_cut_every, 0.1, 1e9, " s")
        _within("power_cuts", self.power_cuts, 1, 1000)
        _within("boot", self.boot, 0, 3600, " s")
        if self.encoding not in ("cbor", "json"):
            raise ProfileError(f"encoding is {self.encoding!r}; it must be cbor or json")


Mix = dict[DeviceProfile, int]
"""Kinds of devices with their shares."""


def presets() -> dict[str, Mix]:
    """What comes with the package, by name; a kind of device is a mix of itself alone."""
    return parse(files("firmware_sim.fleet").joinpath("presets.toml").read_text("utf-8"), "presets.toml")


def load(path: Path) -> dict[str, Mix]:
    """The profiles of a file, whose mixes may name presets too. OSError, and ProfileError as `parse` does."""
    with path.open("rb") as file:
        raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise ProfileError(f"{path} is over {LARGEST_FILE} bytes long")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is not UTF-8: {error}") from None
    return parse(text, str(path), presets())


def find(name: str, path: Path | None = None) -> Mix:
    """The profile of that name: the file's at `path`, else the one that comes with the package.

    Raises ProfileError, which names those there are; OSError where the file cannot be read.
    """
    known = presets() | (load(path) if path else {})
    if name not in known:
        raise ProfileError(f"there is no device profile {name!r}; there are {', '.join(sorted(known))}")
    return known[name]


def parse(text: str, source: str = "the profiles", known: Mapping[str, Mix] | None = None) -> dict[str, Mix]:
    """The profiles of a TOML text, by name; their mixes may name those of `known` too.

    Raises ProfileError: it names `source`, the profile, the key, the value and what it must be.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source} is no TOML: {error}") from None
    found: dict[str, Mix] = {}
    mixes = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ProfileError(f"{source}: {name} is {table!r}; it must be a table, one for each profile")
        if "mix" in table:
            mixes[name] = table
            continue
        try:
            found[name] = {_profile(name, table): 1}
        except ProfileError as error:
            raise ProfileError(f"{source}: [{name}] {error}") from None
    kinds = {name: mix for name, mix in {**(known or {}), **found}.items() if len(mix) == 1}
    for name, table in mixes.items():
        try:
            found[name] = _mix(table, kinds)
        except ProfileError as error:
            raise ProfileError(f"{source}: [{name}] {error}") from None
    return found


def _profile(name: str, table: dict[str, Any]) -> DeviceProfile:
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise ProfileError(f"{key} is not known; there are {', '.join(_KEYS)}, and mix")
        try:
            fields[key] = _KEYS[key](value)
        except ValueError as error:
            raise ProfileError(f"{key} is {value!r}; it must be {error}") from None
    return DeviceProfile(name=name, **fields)


def _mix(table: dict[str, Any], kinds: Mapping[str, Mix]) -> Mix:
    shares = table["mix"]
    if len(table) > 1:
        raise ProfileError(
            f"{next(key for key in table if key != 'mix')} is not for a mix; it has nothing else"
        )
    if not isinstance(shares, dict) or not 1 <= len(shares) <= LONGEST_MIX:
        raise ProfileError(
            f"mix is {shares!r}; it must name 1 to {LONGEST_MIX} kinds of devices and their shares"
        )
    found: Mix = {}
    for kind, share in shares.items():
        if kind not in kinds:
            raise ProfileError(f"mix.{kind} is not known; there are {', '.join(sorted(kinds))}")
        if not isinstance(share, int) or isinstance(share, bool) or not 1 <= share <= 1_000_000:
            raise ProfileError(f"mix.{kind} is {share!r}; it must be a whole number from 1 to 1000000")
        found |= dict.fromkeys(kinds[kind], share)
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _size(value: object) -> int:
    return round(with_unit(value, BYTES, "64 KiB"))


def _seconds(value: object) -> float:
    return with_unit(value, SECONDS, "90 s")


def _rate(value: object) -> float:
    return math.inf if value == "unlimited" else with_unit(value, BYTES_PER_SECOND, "60 kB/s")


_KEYS: dict[str, Callable[[object], Any]] = {
    "block_size": _size,
    "encoding": _text,
    "budget": _size,
    "in_flight": _count,
    "gap": _seconds,
    "patience": _seconds,
    "flash": _rate,
    "save_every": _size,
    "power_cut_every": _seconds,
    "power_cuts": _count,
    "boot": _seconds,
    "link": _text,
}
