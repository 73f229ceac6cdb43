"""MicroPython's ROMFS (1.25): modules that run in place from flash, so that a heap need not hold them.

On a board `mpremote romfs deploy` writes the image. The Unix interpreter maps a file of it into memory;
SCRIPT does that, and leaves /rom as all that modules come from.
"""

from pathlib import Path

SCRIPT = """
import ffi, sys, uctypes, vfs
libc = ffi.open("libc.so.6")
fd = libc.func("i", "open", "si")({image!r}, 0)
at = libc.func("P", "mmap", "PLiiiL")(0, {size}, 1, 2, fd, 0)
vfs.mount(vfs.VfsRom(uctypes.bytearray_at(at, {size})), "/rom")
sys.path[:] = ["/rom"]
del ffi, uctypes, vfs, libc, fd, at
import {module}
"""

_DATA, _FOLDER, _FILE = 2, 4, 5
_MAGIC = b"\xd2\xcd\x31"


def image(folder: Path) -> bytes:
    """The image of all that is in `folder`."""
    return _record(_MAGIC, b"".join(map(_entry, sorted(folder.iterdir()))))


def _entry(path: Path) -> bytes:
    name = path.name.encode()
    head = _number(len(name)) + name
    if path.is_dir():
        return _record(bytes([_FOLDER]), head + b"".join(map(_entry, sorted(path.iterdir()))))
    return _record(bytes([_FILE]), head + _record(bytes([_DATA]), path.read_bytes()))


def _record(kind: bytes, payload: bytes) -> bytes:
    return kind + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    # Seven bits a byte, the highest first.
    out = [value & 127]
    while value := value >> 7:
        out.insert(0, 128 | value & 127)
    return bytes(out)
