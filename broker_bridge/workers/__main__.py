"""A worker process: `python -m broker_bridge.workers`, for `workers.process` alone.

All it is told comes over stdin and all it says goes over stdout (`wire`), passwords among it: arguments and
environment can be read by others. It ends with its stdin: in whatever way the supervisor ends, the kernel
closes that pipe.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any, cast

import structlog
import uvloop

from broker_bridge import logs
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.errors import BrokerError
from broker_bridge.opening import open_objects, open_registry
from broker_bridge.registry.errors import RegistryError
from broker_bridge.settings import ServiceSettings
from broker_bridge.workers.member import Member
from broker_bridge.workers.wire import MAX_LINE, line, typed
from broker_bridge.workers.worker import Worker

log = structlog.get_logger("worker")


def main() -> int:
    """Answers devices until stdin ends; 0 then, 1 where it cannot."""
    # Signals to the whole process group (Ctrl-C, systemd) are the supervisor's affair, and so is our end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Nobody else writes between our lines.
    lines = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return uvloop.run(_work(lines))


class _Pipe:
    """To the supervisor."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    @classmethod
    async def open(cls, descriptor: int) -> "_Pipe":
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(descriptor, "wb", buffering=0)
        )
        return cls(transport)

    def say(self, message: dict[str, Any]) -> None:
        """Never waits: little is said that the supervisor did not ask for."""
        if not self._transport.is_closing():
            self._transport.write(line(message))


async def _work(lines: int) -> int:
    pipe = await _Pipe.open(lines)
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    first = await reader.readline()
    if not first:
        return 0
    start = json.loads(first)
    settings = typed(ServiceSettings, start["settings"])
    logs.configure(settings.log_level, settings.log_format)
    structlog.contextvars.bind_contextvars(worker=start["worker"])
    member = Member(start["worker"], pipe.say, asyncio.get_running_loop().call_later)
    async with AsyncExitStack() as stack:
        try:
            registry = open_registry(settings, read_only=True)
            stack.callback(registry.close)
            store = open_objects(settings)
            stack.callback(store.close)
            worker = Worker(settings, typed(BrokerAddress, start["broker"]), registry, store, member)
        except (RegistryError, OSError, ValueError) as error:
            pipe.say({"say": "unable", "error": str(error), "broker": False})
            return 1
        stack.push_async_callback(worker.close)
        stack.callback(member.leave)
        connecting = worker.start()
        first_time = asyncio.ensure_future(_report(worker, pipe))
        stack.callback(first_time.cancel)
        obeying = asyncio.ensure_future(_obey(reader, pipe, member, worker))
        await asyncio.wait([obeying, connecting], return_when="FIRST_COMPLETED")
        if obeying.done() and obeying.exception() is None:
            return 0
        log.error("worker failed", exc_info=(obeying if obeying.done() else connecting).exception())
        return 1


async def _obey(reader: asyncio.StreamReader, pipe: _Pipe, member: Member, worker: Worker) -> None:
    """Does what the supervisor says until it says no more."""
    pipe.say({"say": "here"})
    while received := await reader.readline():
        message = cast(dict[str, Any], json.loads(received))
        if message["do"] == "answer":
            member.answer(message["epoch"], message["session"], message["workers"])
        elif message["do"] == "forget":
            worker.forget(message["stream"])
        else:
            counts, (_, state) = await worker.counts(), worker.health()
            pipe.say({"say": "counts", "number": message["number"], "counts": counts, **state})


async def _report(worker: Worker, pipe: _Pipe) -> None:
    try:
        await worker.ready()
    except BrokerError as error:
        pipe.say({"say": "unable", "error": str(error), "broker": True})


if __name__ == "__main__":
    sys.exit(main())
