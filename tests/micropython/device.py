# mypy: ignore-errors
# It runs on MicroPython, which has no `typing` to say what a sink is.
"""Runs on MicroPython: a device that downloads a file from a real service over a real broker into a file.

Arguments: host, port, stream, block size in bytes, the file's SHA-256 in hexadecimal, a path, and after how
many bytes to stop, if at all. Prints, in bytes, what the heap held after imports, what was in use at most,
and how much of the file was there before; and how many messages were too long.
"""

import gc
import sys
from binascii import unhexlify

host, port, stream, block_size, digest, path = sys.argv[1:7]
stop = int(sys.argv[7]) if len(sys.argv) > 7 else 0
block_size = int(block_size)
buffer = bytearray(block_size + 200)

from device_client.clock import now  # noqa: E402 - after the buffer, so that it lies at one end of the heap
from device_client.download import Download  # noqa: E402
from device_client.fetch import Fetch, run  # noqa: E402
from device_client.file_sink import PlainFileSink  # noqa: E402
from device_client.mqtt import Session  # noqa: E402
from device_client.socket_transport import SocketTransport  # noqa: E402

gc.collect()
used = gc.mem_alloc()
most = 0


def progress(held, size):
    global most
    gc.collect()
    most = max(most, gc.mem_alloc())
    if stop and held >= stop:
        raise SystemExit


def machine(record):
    return Download("mast", stream, 0, "token", now(), "cbor", block_size, 4 * block_size, 60000, record)


fetch = Fetch(machine, PlainFileSink(path), unhexlify(digest), progress=progress)
session = Session("mast", fetch.machine.topics, buffer)
run(fetch, SocketTransport(session, host, int(port), fetch.message, fetch.session))
print(used, most, fetch.resumed, session.oversize)
