"""The child process: `python -m broker_bridge.embedded --host H --port P`; port 0 takes a free one.

Says on stdout, in one line of JSON, `{"port": 1883}` or `{"error": "…", "taken": true}`, and lives until its
stdin is closed: in whatever way the parent ends, the kernel closes that pipe.
"""

import argparse
import asyncio
import errno
import json
import logging
import signal
import sys
from typing import Any

import uvloop
from amqtt.errors import BrokerError

from broker_bridge.embedded.broker import AwsTopicsBroker


def main() -> int:
    """Runs the broker; 0 when the parent is done with it, 1 where it cannot be started."""
    parser = argparse.ArgumentParser(prog="python -m broker_bridge.embedded")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    arguments = parser.parse_args()
    # Signals to the whole process group (Ctrl-C, systemd) are the parent's affair: it still writes to us
    # while it finishes what it has in hand. Our end is the pipe's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # amqtt reports refused connections with a traceback; what matters to the parent goes through the pipe.
    logging.basicConfig(level=logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    return uvloop.run(_serve(arguments.host, arguments.port))


async def _serve(host: str, port: int) -> int:
    try:
        broker = AwsTopicsBroker(_config(host, port))
        await broker.start()
    except (BrokerError, RuntimeError, OSError) as error:
        cause = error.__cause__ or error
        taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        _say({"error": str(cause), "taken": taken})
        return 1
    _say({"port": _port(broker)})
    await _end_of_stdin()
    return 0


def _config(host: str, port: int) -> dict[str, Any]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
        # Nothing that wakes up by itself or writes a log line per packet.
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


def _port(broker: AwsTopicsBroker) -> int:
    server: Any = broker._servers["default"].instance
    return int(server.sockets[0].getsockname()[1])


def _say(report: dict[str, object]) -> None:
    print(json.dumps(report), flush=True)


async def _end_of_stdin() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    sys.exit(main())
