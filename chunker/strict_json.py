"""Strict decoding of JSON objects (PROTOCOL "Rejections", `InvalidJson`; RFC 8259)."""

import json
from typing import Any, NoReturn

from chunker.errors import Malformed

MAX_NESTING = 16
# Whatever is longer is far beyond every bound, and converting it would cost time quadratic in its length.
_MAX_DIGITS = 20


class _Float:
    """A number with a fraction or an exponent: no field takes one, so its value is never worked out."""


_FLOAT = _Float()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise Malformed("an object has the same key twice")
    return entries


def _integer(digits: str) -> int:
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -(1 << 64) if digits[0] == "-" else 1 << 64


def _float(_digits: str) -> _Float:
    return _FLOAT


def _constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON")


class Decoder:
    """Decodes JSON objects nested at most `nesting` deep, the object itself included.

    Without `fractions`, numbers with a fraction or an exponent come out opaque. Integers beyond 20 digits
    come out as 2^64 with their sign.
    """

    def __init__(self, *, nesting: int, fractions: bool) -> None:
        self._nesting = nesting
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=None if fractions else _float,
            parse_constant=_constant,
        )

    def decode(self, payload: bytes) -> dict[str, Any]:
        """The entries of the one object that `payload` is. Raises Malformed."""
        try:
            entries = self._decoder.decode(payload.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Malformed(f"not UTF-8 at byte {error.start}") from None
        except json.JSONDecodeError as error:
            raise Malformed(f"{error.msg} at character {error.pos}") from None
        except RecursionError:
            raise Malformed(f"nested over {self._nesting} deep") from None
        if type(entries) is not dict:
            raise Malformed("not an object")
        if payload.count(b"{") + payload.count(b"[") > self._nesting:
            self._check_nesting(entries)
        return entries

    def _check_nesting(self, entries: dict[str, Any]) -> None:
        level: list[Any] = [entries]
        for _ in range(self._nesting):
            level = [
                inner
                for outer in level
                for inner in (outer.values() if type(outer) is dict else outer)
                if type(inner) in (dict, list)
            ]
            if not level:
                return
        raise Malformed(f"nested over {self._nesting} deep")


decode_object = Decoder(nesting=MAX_NESTING, fractions=False).decode
"""For requests of devices."""
