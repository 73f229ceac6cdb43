"""Numbers with a unit, as files of profiles have them: "64 KiB", "90 s", "2 MB/s"."""

import re

BYTES = {"B": 1.0, "kB": 1e3, "KiB": 1024.0, "MB": 1e6, "MiB": 1024.0**2}
BYTES_PER_SECOND = {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6}
SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}

_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(\S*)\s*", re.ASCII)


def with_unit(value: object, units: dict[str, float], example: str) -> float:
    """The number, in the unit that counts as 1. ValueError says what it must be."""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"a number with one of {', '.join(units)}, as in {example!r}")
    return float(match[1]) * units[match[2]]
