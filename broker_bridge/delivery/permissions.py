"""Which things may have which streams (PROTOCOL "Rejections", `Unauthorized`)."""

from collections.abc import Sequence
from functools import lru_cache

from broker_bridge.delivery.patterns import any_of
from broker_bridge.settings import Permission


class Permissions:
    """The settings' `permissions`: the first entry that names the stream decides; without one, all may."""

    def __init__(self, entries: Sequence[Permission]) -> None:
        self._entries = [(any_of(entry.streams), any_of(entry.things)) for entry in entries]
        self.allow = lru_cache(maxsize=65536)(self._allow) if entries else _allow_all

    def _allow(self, thing: str, stream_id: str) -> bool:
        for streams, things in self._entries:
            if streams.match(stream_id):
                return things.match(thing) is not None
        return True


def _allow_all(_thing: str, _stream_id: str) -> bool:
    return True
