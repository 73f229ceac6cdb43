"""A platform for programs whose images are files: two of them, a and b, in a folder. Runs on MicroPython.

    slots = FolderSlots("/var/lib/mast", "M1", identify, 8, reset=restart)
    path = slots.boot()        # once in each life of the process: what to run now

Before the first update `install` puts the image that runs. Images: `a.img` and `b.img`; what the loader
knows: `slots.json`, replaced by a rename. How much that is worth when the power goes, the file system
decides; on CPython files are synced first.
"""

import json
import os

from device_client.file_sink import PlainFileSink, replace
from device_client.platform import ImageRefused

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from device_client.sinks import Sink

CONFIRMED, REQUESTED, REFUSED = "confirmed", "requested", "refused"


class FolderSlots:
    """Both slots in `folder`, which is there; a `Platform` of the agent once `boot` was called.

    `identify(head)`: model and version of the image that begins with those `head_bytes`, or None. `reset()`:
    ends this life, so that the next one calls `boot`. `slot_bytes`: of an image at most. `tries`: boots of an
    image on test. `sink(path)`: what an image is written with; on CPython `device_client.sinks.FileSink`
    makes blocks durable before it claims them.
    """

    def __init__(
        self,
        folder: str,
        model: str,
        identify: "Callable[[bytes | bytearray], tuple[str, int] | None]",
        head_bytes: int,
        reset: "Callable[[], object]",
        slot_bytes: int = 2**48,
        tries: int = 3,
        sink: "Callable[[str], Sink]" = PlainFileSink,
    ) -> None:
        self.model, self.identify, self.head_bytes, self.slot_bytes = model, identify, head_bytes, slot_bytes
        self.reset = reset
        self.version = 0  # of what runs
        self._folder, self._tries, self._sink = folder, tries, sink
        self._states: dict[str, str | int] = {"a": "", "b": "", "running": "a", "tries": 0}
        # The second one is whole where the first is not there: FAT cannot rename over a file.
        for name in ("/slots.json", "/slots.json.tmp"):
            try:
                with open(folder + name) as file:
                    self._states.update(json.load(file))
                break
            except OSError:
                pass  # nothing was installed yet

    def install(self, image: bytes) -> None:
        """As in the factory: this image is what runs."""
        with open(self._path("a"), "wb") as file:
            file.write(image)
            _sync(file)
        self._note(a=CONFIRMED, b="", running="a", tries=0)

    def boot(self) -> str:
        """Decides what runs now: its path. OSError, ValueError where there is no image that can be told."""
        now, other = self._running(), self._spare()
        if self._states[other] == REQUESTED:
            now, other = other, now
        if self._states[now] == REQUESTED:
            if int(self._states["tries"]) < self._tries:
                self._note(running=now, tries=int(self._states["tries"]) + 1)
            else:
                self._note(running=other, **{now: REFUSED})
        path = self._path(self._running())
        with open(path, "rb") as file:
            found = self.identify(file.read(self.head_bytes))
        if found is None:
            raise ValueError(f"{path} is no image of {self.model}")
        self.version = found[1]
        return path

    def testing(self) -> bool:
        return self._states[self._running()] == REQUESTED

    def refused(self) -> str:
        return "the new version did not confirm itself" if self._states[self._spare()] == REFUSED else ""

    def sink(self) -> "Sink":
        if self._states[self._spare()]:
            self._note(**{self._spare(): ""})
        return self._sink(self._path(self._spare()))

    def request(self) -> None:
        with open(self._path(self._spare()), "rb") as file:
            if self.identify(file.read(self.head_bytes)) is None:
                raise ImageRefused("it is no image of this device")
        self._note(tries=0, **{self._spare(): REQUESTED})

    def confirm(self) -> None:
        # One rename: it is confirmed, and what it would have fallen back to is the spare one.
        self._note(**{self._running(): CONFIRMED, self._spare(): ""})

    def revert(self) -> None:
        now = self._running()
        self._note(running=self._spare(), **{now: REFUSED})

    def _running(self) -> str:
        return str(self._states["running"])

    def _spare(self) -> str:
        return "b" if self._states["running"] == "a" else "a"

    def _path(self, slot: str) -> str:
        return f"{self._folder}/{slot}.img"

    def _note(self, **states: "str | int") -> None:
        self._states.update(states)
        path = self._folder + "/slots.json"
        with open(path + ".tmp", "w") as file:
            file.write(json.dumps(self._states))
            _sync(file)
        replace(path + ".tmp", path)


def _sync(file: "Any") -> None:
    file.flush()
    if hasattr(os, "fsync"):
        os.fsync(file.fileno())
