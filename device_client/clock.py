"""The time as machines and sessions want it. Runs on MicroPython."""

import time

if hasattr(time, "ticks_ms"):  # MicroPython's wrap around
    _last = time.ticks_ms()
    _now = 0

    def now() -> int:
        """Milliseconds that do not go back. Some are lost where it is not called for six days."""
        global _last, _now
        ticks = time.ticks_ms()  # type: ignore[attr-defined]
        _now += time.ticks_diff(ticks, _last)  # type: ignore[attr-defined]
        _last = ticks
        return int(_now)

else:

    def now() -> int:
        """Milliseconds that do not go back."""
        return time.monotonic_ns() // 1_000_000
