"""`sluice`: finds the command, reads its settings, runs it, and turns what went wrong into an exit status.

Plain argparse, and only the called command's module is imported: `sluice get` is measured from its start.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from sluice.failure import DONE, FAILED, INTERRUPTED, Failure, SettingsError

if TYPE_CHECKING:
    import argparse

    from sluice.loading import Loaded

COMMANDS = {
    "serve": "run the service: streams over HTTP, blocks over MQTT",
    "publish": "put a file into a stream",
    "get": "download a stream's file as a device would",
    "demo": "the whole path on this machine: serve, publish, get, compare",
    "config": "the settings in force, and where each comes from",
    "version": "versions of sluice and of what it runs on",
}


class Command(Protocol):
    """What each module in `sluice.commands` offers."""

    USAGE: str
    EXAMPLES: str
    FLAGS: tuple[str, ...]

    def arguments(self, parser: "argparse.ArgumentParser", /) -> None:
        """Adds the command's positional arguments."""

    def run(self, args: "argparse.Namespace", loaded: "Loaded", /) -> int:
        """Does it. Returns the exit status; Failure where it could not."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of `sluice` with these arguments; without any, those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except Failure as failure:
        _say(f"sluice: {failure}")
        return failure.status
    except KeyboardInterrupt:
        _say("sluice: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _dispatch(given: list[str]) -> int:
    name = given[0] if given else ""
    if name in ("-h", "--help"):
        print(_overview())
        return DONE
    if name in ("-V", "--version"):
        name, given = "version", ["version"]
    if not name:
        raise SettingsError("which command?\n" + _overview())
    if name not in COMMANDS:
        raise SettingsError(f"there is no command {name}{_near(name)}\n{_overview()}")
    import importlib

    from sluice.flags import Parser
    from sluice.loading import load

    command = cast(Command, importlib.import_module(f"sluice.commands.{name}"))
    summary = COMMANDS[name][0].upper() + COMMANDS[name][1:] + "."
    parser = Parser(f"sluice {name}", command.USAGE, summary, command.EXAMPLES, command.FLAGS)
    command.arguments(parser)
    args, flags = parser.read(given[1:])
    loaded = load(flags, environ=os.environ, config=getattr(args, "config", None), folder=Path.cwd())
    for warning in loaded.warnings:
        _say(f"sluice: warning: {warning}")
    return command.run(args, loaded)


def _overview() -> str:
    lines = [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    return "usage: sluice COMMAND [...]\n\n" + "\n".join(lines) + "\n\nsluice COMMAND --help says more"


def _near(name: str) -> str:
    import difflib

    match = difflib.get_close_matches(name, COMMANDS, n=1)
    return f": did you mean {match[0]}?" if match else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
