"""What parameters must be beyond their type, by the model: required, lengths, ranges, patterns, enums.

botocore checks little of this on the client's side, and nothing where its validation is turned off.
"""

from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]
from botocore.model import Shape

from broker_bridge.api.errors import InvalidParameter

PATTERN_SECONDS = 1.0
"""Time for one match. The patterns are the model's, but the text is anybody's, and some of them backtrack."""


def validate(shape: Shape, value: Any, path: str = "") -> None:
    """Returns if `value` (as `parse` makes it) keeps to `shape`.

    Raises InvalidParameter for the first member that does not; it names the member and the bound.
    """
    kind = shape.type_name
    if kind == "structure":
        for name in getattr(shape, "required_members", ()):
            if name not in value:
                raise InvalidParameter(f"{_join(path, name)}: required, and missing")
        if not getattr(shape, "is_document_type", False):
            for name, inner in value.items():
                validate(shape.members[name], inner, _join(path, name))
    elif kind == "list":
        _bounds(shape, len(value), f"{path}: number of items")
        for i, item in enumerate(value):
            validate(shape.member, item, f"{path}[{i}]")
    elif kind == "map":
        _bounds(shape, len(value), f"{path}: number of entries")
        for key, inner in value.items():
            validate(shape.key, key, f"{path}'s key {key[:64]!r}")
            validate(shape.value, inner, f"{path}[{key[:64]!r}]")
    elif kind == "string":
        _bounds(shape, len(value), f"{path}: length")
        _pattern(shape, value, path)
        if shape.enum and value not in shape.enum:
            raise InvalidParameter(f"{path}: {value[:64]!r} is none of {', '.join(shape.enum)}")
    elif kind == "blob":
        _bounds(shape, len(value), f"{path}: length")
    elif kind in ("integer", "long", "float", "double"):
        _bounds(shape, value, f"{path}:")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bounds(shape: Shape, value: float, what: str) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and value < low:
        raise InvalidParameter(f"{what} {value} is under the minimum of {low}")
    if high is not None and value > high:
        raise InvalidParameter(f"{what} {value} is over the maximum of {high}")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)


def _pattern(shape: Shape, value: str, path: str) -> None:
    pattern = shape.metadata.get("pattern")
    if pattern is None:
        return
    try:
        # The whole value: AWS's patterns are anchored whether they say so or not. `concurrent` lets the other
        # threads run meanwhile, the event loop's among them.
        matches = _compiled(pattern).fullmatch(value, timeout=PATTERN_SECONDS, concurrent=True)
    except TimeoutError:
        raise InvalidParameter(f"{path}: too long to be held against the pattern {pattern}") from None
    if not matches:
        raise InvalidParameter(f"{path}: it does not match the pattern {pattern}")
