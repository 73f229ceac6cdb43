# mypy: ignore-errors
# It runs on MicroPython.
"""Runs on MicroPython: device.py with another transport, `async` or `umqtt`, beside something else to do.

Arguments: which transport, host, port, stream, the file's SHA-256 in hexadecimal, and a path. Prints the size
of the file, and how often the something else got its turn.
"""

import sys
from binascii import unhexlify

from device_client.clock import now
from device_client.download import Download
from device_client.fetch import Fetch, run
from device_client.file_sink import PlainFileSink
from device_client.mqtt import Session

which, host, port, stream, digest, path = sys.argv[1:]
turns = 0


def machine(record):
    return Download("mast", stream, 0, "token", now(), "cbor", 4096, 65536, 60000, record)


fetch = Fetch(machine, PlainFileSink(path), unhexlify(digest))
topics = fetch.machine.topics
if which == "umqtt":
    from umqtt import MQTTClient

    from device_client.umqtt_transport import UmqttTransport

    client = MQTTClient("mast", host, int(port), keepalive=30)
    run(fetch, UmqttTransport(client, topics, fetch.message, fetch.session))
else:
    import asyncio

    from device_client.async_transport import AsyncTransport, run_async

    async def blink():
        global turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(blink())
        session = Session("mast", topics, bytearray(8192))
        await run_async(fetch, AsyncTransport(session, host, int(port), fetch.message, fetch.session))
        task.cancel()

    asyncio.run(main())
print(fetch.machine.size, turns)
