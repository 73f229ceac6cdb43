"""Which things may have which streams (PROTOCOL "Rejections", `Unauthorized`)."""

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache

from broker_bridge.settings import Permission


class Permissions:
    """The settings' `permissions`: the first entry that names the stream decides; without one, all may."""

    def __init__(self, entries: Sequence[Permission]) -> None:
        self._entries = [(_any_of(entry.streams), _any_of(entry.things)) for entry in entries]
        self.allow = lru_cache(maxsize=65536)(self._allow) if entries else _allow_all

    def _allow(self, thing: str, stream_id: str) -> bool:
        for streams, things in self._entries:
            if streams.match(stream_id):
                return things.match(thing) is not None
        return True


def _allow_all(_thing: str, _stream_id: str) -> bool:
    return True


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """What any of the shell patterns matches; nothing, where there are none."""
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")
