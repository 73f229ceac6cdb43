# mypy: ignore-errors
# It runs on MicroPython.
"""Runs on MicroPython: one life of a device with two slots in a folder, from a boot to the next.

Arguments: host, port, thing, folder, block size in bytes, the signer's public key as 65 bytes in hexadecimal.
Prints, in bytes, what the heap held after imports, what was in use at most, and the version that ran. An
image begins with "M1", a zero, whether it works, and its version, four bytes.
"""

import gc
import os
import sys
from binascii import hexlify, unhexlify

host, port, thing, folder, block_size, key = sys.argv[1:7]
block_size = int(block_size)
buffer = bytearray(block_size + 2048)

from device_client.agent import Agent, run_agent  # noqa: E402 - after the buffer, at one end of the heap
from device_client.folder_slots import FolderSlots  # noqa: E402
from device_client.mqtt import Session  # noqa: E402
from device_client.socket_transport import SocketTransport  # noqa: E402

gc.collect()
used = gc.mem_alloc()
most = 0
works = None


def identify(head):
    return ("M1", int.from_bytes(head[4:8], "big")) if bytes(head[:3]) == b"M1\0" else None


class Measured(Agent):
    """Looks at the heap in each turn."""

    def turn(self):
        global most
        wait = super().turn()
        gc.collect()
        most = max(most, gc.mem_alloc())
        return wait


slots = FolderSlots(folder, "M1", identify, 8, lambda: None)
with open(slots.boot(), "rb") as image:  # noqa: PTH123
    works = image.read(4)[3]
print("up", slots.version)
agent = Measured(
    thing,
    slots,
    {"/certs/signer.pem": unhexlify(key)},
    lambda: "" if works else "no radio",
    hexlify(os.urandom(6)).decode(),
    block_size,
    4 * block_size,
)
session = Session(thing, agent.topics, buffer)
run_agent(agent, SocketTransport(session, host, int(port), agent.message, agent.session))
print("heap", used, most, slots.version)
