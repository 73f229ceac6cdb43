"""Sizes as people write them."""

import re

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _UNITS |= {_letter + "b": 1000**_power, _letter + "ib": 1024**_power}


def parse_size(text: str) -> int:
    """Bytes, from `24000000`, `24 MB` (powers of 1000) or `32 MiB` (of 1024). ValueError: what it must be."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", text) if len(text) < 64 else None
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(SIZE)
    if "." not in match[1]:
        return int(match[1]) * unit
    count = float(match[1]) * unit
    if not count.is_integer():
        raise ValueError(SIZE)
    return int(count)


SIZE = "a number of bytes, as in 24000000, '24 MB' or '32 MiB'"
"""What a size must be, for messages."""
