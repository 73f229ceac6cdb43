"""Values of any shape of botocore's models: valid ones to be sent, and any of its type to be answered."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]
from hypothesis import strategies as st

Values = st.SearchStrategy[Any]

LONGEST = 40
"""Characters of a text, where its shape asks for no more."""
_SHOWN = st.characters(codec="utf-8", exclude_categories=["C"])
# Classes that `regex` and AWS have and hypothesis has not; what they are exactly is held by the filter below.
_CLASSES = {
    r"\p{Graph}": "!-~¡-ÿ",
    r"\p{Upper}": "A-Z",
    r"\p{Digit}": "0-9",
    r"\p{L}": "a-zA-Zß-öĀ-ſ一-丿",
    r"\p{Z}": " \u00a0",
    r"\p{N}": "0-9²",
    r"\p{C}": r"\x00-\x1f\x7f",
}
# Any time with milliseconds that a double in seconds holds to the microsecond.
_MOMENTS = st.integers(0, 4_000_000_000_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
_RANGES = {"integer": 31, "long": 63}


def sendable(shape: Any, known: Mapping[str, Values] | None = None) -> Values:
    """Values that the shape allows; for shapes of the names in `known`, those."""
    return _values(shape, True, known or {})


def answerable(shape: Any) -> Values:
    """Values of the shape's types, whatever their lengths and patterns: the model binds requests only."""
    return _values(shape, False, {})


def _values(shape: Any, bounded: bool, known: Mapping[str, Values]) -> Values:
    if shape.name in known:
        return known[shape.name]
    low = shape.metadata.get("min") if bounded else None
    high = shape.metadata.get("max") if bounded else None
    kind = shape.type_name
    if kind == "structure":
        members = {name: _values(member, bounded, known) for name, member in shape.members.items()}
        required = {name: members.pop(name) for name in shape.required_members}
        return st.fixed_dictionaries(required, optional=members)
    if kind == "list":
        least = low or 0
        most = least + 2 if high is None else min(high, least + 2)
        return st.lists(_values(shape.member, bounded, known), min_size=least, max_size=most)
    if kind == "map":
        return st.dictionaries(
            _values(shape.key, bounded, known), _values(shape.value, bounded, known), max_size=2
        )
    if kind == "string":
        if shape.enum:
            return st.sampled_from(shape.enum)
        if bounded and "pattern" in shape.metadata:
            return _matching(shape.metadata["pattern"], low or 0, high or LONGEST)
        least = low or 0
        return st.text(st.characters(codec="utf-8"), min_size=least, max_size=max(least, LONGEST))
    if kind in _RANGES:
        bits = _RANGES[kind]
        return st.integers(-(1 << bits) if low is None else low, (1 << bits) - 1 if high is None else high)
    if kind in ("float", "double"):
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    if kind == "boolean":
        return st.booleans()
    if kind == "timestamp":
        return _MOMENTS
    assert kind == "blob", kind
    return st.binary(max_size=LONGEST)


@lru_cache
def _matching(pattern: str, least: int, most: int) -> Values:
    known = pattern
    for name, characters in _CLASSES.items():
        known = known.replace(name, characters)
    wanted = regex.compile(pattern)
    return st.from_regex(known, fullmatch=True, alphabet=_SHOWN).filter(
        lambda text: least <= len(text) <= most and wanted.fullmatch(text) is not None
    )
