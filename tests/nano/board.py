"""The nano client as it is sent, run by CPython, with a serial line and a clock that the test holds."""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import device_client.nano
from firmware_sim.shrinking import shrink

KEPT = ("buffer", "crc16", "decode", "encode", "message", "right", "run", "send", "state")


def sources() -> list[str]:
    folder = Path(device_client.nano.__file__).parent
    return [(folder / f"{name}.py").read_text() for name in device_client.nano.UNITS]


@cache
def _code() -> CodeType:
    return compile("".join(shrink(sources(), "device_client.nano", KEPT)), "nano", "exec")


class Board:
    """`names`: what the client's units define. `clock`: milliseconds, which go on as the client sleeps.

    `incoming`: bytes that wait in the port. `written`: called with what the client writes; `slept`, as often
    as it waits a millisecond.
    """

    def __init__(self) -> None:
        self.clock = 0
        self.incoming = bytearray()
        self.written: Callable[[bytes], None] = lambda _: None
        self.slept: Callable[[], None] = lambda: None
        module: Any = ModuleType("microbit")
        module.running_time = lambda: self.clock
        module.sleep = self._sleep
        module.uart = self
        self.names: dict[str, Any] = {}
        sys.modules["microbit"] = module
        try:
            exec(_code(), self.names)
        finally:
            del sys.modules["microbit"]

    def message(self, data: bytes) -> int:
        """Puts a message where one that came over the line is; its length."""
        self.names["buffer"][:] = bytes(320)
        self.names["buffer"][: len(data)] = data
        return len(data)

    def _sleep(self, milliseconds: int) -> None:
        self.clock += milliseconds
        self.slept()

    # --- the port

    def any(self) -> bool:
        return bool(self.incoming)

    def read(self, count: int) -> bytes:
        data = bytes(self.incoming[:count])
        del self.incoming[:count]
        return data

    def write(self, data: bytes) -> None:
        self.written(bytes(data))
