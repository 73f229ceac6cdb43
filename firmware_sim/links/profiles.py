"""Link profiles from a small TOML file, and those that come with the package.

    [mast]
    up = "375 kbit/s"                       # both ways without a limit where nothing is said
    down = "1 Mbit/s"
    delay = { up = "60 ms", down = "40 ms" } # or one value for both ways, as all below
    jitter = "20 ms"
    loss = "2 %"                            # or 0.02
    duplicate = "1 %"
    reorder = "1 %"
    reorder_by = "50 ms"
    stall_every = "60 s"                    # of the link: for both ways together
    stall_for = "3 s"
    disconnect_every = "10 min"
    queue = "64 KiB"

Every number but a probability has its unit. What a key means and its bounds: model.Way, model.LinkProfile.
"""

import math
import re
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from firmware_sim.links.model import LinkProfile, ProfileError, Way

LARGEST_FILE = 1 << 20  # bytes

_RATES = {
    "bit/s": 1 / 8,
    "kbit/s": 1000 / 8,
    "Mbit/s": 1e6 / 8,
    "Gbit/s": 1e9 / 8,
    "B/s": 1.0,
    "kB/s": 1e3,
    "MB/s": 1e6,
}
_MILLISECONDS = {"ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6}
_BYTES = {"B": 1.0, "kB": 1e3, "KiB": 1024.0, "MB": 1e6, "MiB": 1024.0**2}
_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(\S*)\s*", re.ASCII)


def presets() -> dict[str, LinkProfile]:
    """The profiles that come with the package, by name."""
    return parse(files("firmware_sim.links").joinpath("presets.toml").read_text("utf-8"), "presets.toml")


def load(path: Path) -> dict[str, LinkProfile]:
    """The profiles of a file, by name. Raises OSError, and ProfileError as `parse` does."""
    with path.open("rb") as file:
        raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise ProfileError(f"{path} is over {LARGEST_FILE} bytes long")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is not UTF-8: {error}") from None
    return parse(text, str(path))


def find(name: str, path: Path | None = None) -> LinkProfile:
    """The profile of that name: the file's at `path`, else the one that comes with the package.

    Raises ProfileError, which names those there are; OSError where the file cannot be read.
    """
    known = presets() | (load(path) if path else {})
    if name not in known:
        raise ProfileError(f"there is no link profile {name!r}; there are {', '.join(sorted(known))}")
    return known[name]


def parse(text: str, source: str = "the profiles") -> dict[str, LinkProfile]:
    """The profiles of a TOML text, by name.

    Raises ProfileError: it names `source`, the profile, the key, the value and what it must be.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source} is no TOML: {error}") from None
    profiles = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ProfileError(f"{source}: {name} is {table!r}; it must be a table, one for each profile")
        try:
            profiles[name] = _profile(name, table)
        except ProfileError as error:
            raise ProfileError(f"{source}: [{name}] {error}") from None
    return profiles


def _profile(name: str, table: dict[str, Any]) -> LinkProfile:
    ways: dict[str, dict[str, float]] = {"up": {}, "down": {}}
    link: dict[str, Any] = {}
    for key, value in table.items():
        if key in ways:
            ways[key]["rate"] = _rate(key, value)
        elif key in _OF_A_WAY:
            both = value if isinstance(value, dict) else {"up": value, "down": value}
            for way, own in both.items():
                if way not in ways:
                    raise ProfileError(f"{key}.{way} is not known; there are {key}.up and {key}.down")
                ways[way][key] = _OF_A_WAY[key](f"{key}.{way}" if both is value else key, own)
        elif key in _OF_THE_LINK:
            link[key] = _OF_THE_LINK[key](key, value)
        else:
            known = ", ".join([*ways, *_OF_A_WAY, *_OF_THE_LINK])
            raise ProfileError(f"{key} is not known; there are {known}")
    return LinkProfile(name=name, up=_way("up", ways["up"]), down=_way("down", ways["down"]), **link)


def _way(name: str, values: dict[str, float]) -> Way:
    try:
        return Way(**values)
    except ProfileError as error:
        raise ProfileError(f"{name}: {error}") from None


def _with_unit(key: str, value: object, units: dict[str, float], example: str) -> float:
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ProfileError(
            f"{key} is {value!r}; it must be a number with one of {', '.join(units)}, as in {example!r}"
        )
    return float(match[1]) * units[match[2]]


def _rate(key: str, value: object) -> float:
    return math.inf if value == "unlimited" else _with_unit(key, value, _RATES, "60 kbit/s")


def _seconds(key: str, value: object) -> float:
    return _with_unit(key, value, _MILLISECONDS, "90 s") / 1000


def _milliseconds(key: str, value: object) -> float:
    return _with_unit(key, value, _MILLISECONDS, "20 ms")


def _size(key: str, value: object) -> int:
    return round(_with_unit(key, value, _BYTES, "64 KiB"))


def _probability(key: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)) and match[2] == "%":
        return float(match[1]) / 100
    raise ProfileError(f"{key} is {value!r}; it must be a number from 0 to 1 or a percentage, as in '2 %'")


_OF_A_WAY: dict[str, Callable[[str, object], float]] = {
    "delay": _milliseconds,
    "jitter": _milliseconds,
    "loss": _probability,
    "duplicate": _probability,
    "reorder": _probability,
    "reorder_by": _milliseconds,
}
_OF_THE_LINK: dict[str, Callable[[str, object], float]] = {
    "stall_every": _seconds,
    "stall_for": _seconds,
    "disconnect_every": _seconds,
    "queue": _size,
}
