"""What goes through the pipes between supervisor and workers: JSON, one message to a line.

| to a worker | means |
| --- | --- |
| `{"settings": …, "broker": …, "worker": 0}` | the first line: what it is to be |
| `{"do": "answer", "epoch": 3, "session": 1, "workers": [0, 1]}` | `membership.Tell` |
| `{"do": "forget", "stream": "fw"}` | the stream was changed |
| `{"do": "count", "number": 7}` | are you there, and what have you counted? |
| the end of the pipe | finish what is in hand, and end |

| from a worker | means |
| --- | --- |
| `{"say": "here"}` | it runs, and answers `count` from now on |
| `{"say": "connected", "session": 1}` | it hears requests |
| `{"say": "unable", "error": "…", "broker": true}` | no first connection; or (false) it ends |
| `{"say": "disconnected", "session": 1}` | it answers nothing any more |
| `{"say": "let go", "epoch": 3}` | it goes by that epoch, and has dropped what is not its own by it |
| `{"say": "answering", "session": 1}` | it has taken what is its own |
| `{"say": "counts", "number": 7, "counts": …, "broker": "…"}` | its counters; `connected`, or why it is not |
"""

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

MAX_LINE = 16 * 1024 * 1024
"""Bytes of a line; settings with very many permissions are the longest."""


def line(message: Mapping[str, Any]) -> bytes:
    """One message, with the end of its line."""
    return json.dumps(message).encode() + b"\n"


def plain(value: object, kind: type | None = None) -> Any:
    """Settings as JSON has them; of a dataclass the fields that `kind`, a base of its, has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(kind or value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def typed(kind: type[T], value: Any) -> T:
    """What `plain` was given, again. `kind` is its type: dataclasses, tuples, paths, numbers, text, None."""
    return typing.cast(T, _typed(kind, value))


def _typed(kind: Any, value: Any) -> Any:
    if isinstance(kind, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not types.NoneType]
        return None if value is None else _typed(options[0], value)
    if typing.get_origin(kind) is tuple:
        return tuple(_typed(typing.get_args(kind)[0], item) for item in value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _typed(hints[name], item) for name, item in value.items()})
    return Path(value) if kind is Path else value
