"""Child processes that end with us: by the closing of a pipe, however we end."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import broker_bridge


async def start(module: str, *arguments: str, limit: int = 65536) -> Process:
    """Runs `python -m module`, with pipes to its stdin and from its stdout; lines have at most `limit` bytes.

    It must end when its stdin does: in whatever way we end, the kernel closes that pipe. (A process forked
    from this one without an exec would hold it open.)
    """
    # The child finds the same package as we did, and looks for no modules in the working directory, which is
    # the user's.
    path = [str(Path(broker_bridge.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        limit=limit,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
    )


async def end(process: Process, timeout: float) -> int:  # noqa: ASYNC109
    """Closes the pipe, kills the process if it still runs `timeout` seconds later; its exit status."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        return await asyncio.wait_for(process.wait(), timeout)
    except TimeoutError:
        process.kill()
        return await process.wait()
