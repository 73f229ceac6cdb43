"""`sluice serve` as a child process, for the time of a `with`."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sluice.failure import FAILED, Failure

_READY = re.compile(r"sluice ready http=(\S+) mqtt=(\S+)")
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_TAIL_LINES = 20


@contextmanager
def running_service(folder: Path, flags: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """The URLs of the API and the broker of a service that knows no settings but `flags`.

    All it writes is in `folder`. Failure where it does not start; if anything fails while it runs, the end of
    its log goes to stderr. It is ended in all cases: asked to, and killed if it does not.
    """
    log_path = folder / "service.log"
    (folder / "sluice.toml").touch()
    # This very code, installed or not; none of the caller's settings.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    paths = [str(Path(__file__).parent.parent), *filter(None, [environ.get("PYTHONPATH")])]
    environ["PYTHONPATH"] = os.pathsep.join(paths)
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "sluice", "serve", *flags],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # So that Ctrl-C reaches us alone, and we end it in order.
            start_new_session=True,
        )
    try:
        yield _ready(process)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            _show_tail(log_path)
        raise
    finally:
        _end(process)


def _ready(process: "subprocess.Popen[str]") -> tuple[str, str]:
    lines: queue.Queue[str] = queue.Queue()
    stdout = process.stdout
    assert stdout is not None
    # A thread, since a pipe cannot be read for so long and no longer everywhere.
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=_START_SECONDS)
    except queue.Empty:
        raise Failure(f"the service did not start within {_START_SECONDS:.0f} s") from None
    match = _READY.fullmatch(line.strip())
    if match is None:
        raise Failure("the service did not start", process.wait() or FAILED)
    return match[1], match[2]


def _end(process: "subprocess.Popen[str]") -> None:
    # What ends us must not keep us from ending it.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _show_tail(log_path: Path) -> None:
    lines = log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    print("sluice: the end of the service's log:", *lines, sep="\n  ", file=sys.stderr)
