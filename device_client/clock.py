"""The time as machines and sessions want it. Runs on MicroPython."""

import time

_ticks_ms, _ticks_diff = getattr(time, "ticks_ms", None), getattr(time, "ticks_diff", None)

if _ticks_ms and _ticks_diff:  # MicroPython: they wrap around
    _last: int = _ticks_ms()
    _now = 0

    def now() -> int:
        """Milliseconds that do not go back. Some are lost where it is not called for six days."""
        global _last, _now
        ticks = _ticks_ms()
        _now += _ticks_diff(ticks, _last)
        _last = ticks
        return _now

else:

    def now() -> int:
        """Milliseconds that do not go back."""
        return time.monotonic_ns() // 1_000_000
