"""`sluice`: finds the command, reads its settings, runs it, and turns what went wrong into an exit status.

Plain argparse, and only the called command's module is imported: `sluice get` is measured from its start.
"""

import os
import sys
from collections.abc import Mapping, Sequence
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
    "rollout": "update the things of a group with a signed file, and follow it",
    "config": "the settings in force, and where each comes from",
    "sim": "simulated devices: fleets, bad links, power cuts, a microcontroller",
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
    if given[:1] in (["-V"], ["--version"]):
        given = ["version"]
    name, commands, examples = "", COMMANDS, ""
    while commands:
        word = given[0] if given else ""
        if word in ("-h", "--help"):
            print(_overview(name, commands, examples))
            return DONE
        if word not in commands:
            what = f"there is no command{name} {word}{_near(word, commands)}" if word else "which command?"
            raise SettingsError(f"{what}\n{_overview(name, commands, examples)}")
        import importlib

        name, summary, given = f"{name} {word}", commands[word], given[1:]
        module = importlib.import_module("sluice.commands." + name.strip().replace(" ", "_"))
        # A command of commands has nothing but these and examples, unless it is a command itself.
        commands, examples = getattr(module, "COMMANDS", {}), module.EXAMPLES
        if hasattr(module, "run") and not (given and given[0] in commands):
            break

    from sluice.flags import Parser
    from sluice.loading import load

    command = cast(Command, module)
    summary = summary[0].upper() + summary[1:] + "."
    parser = Parser(f"sluice{name}", command.USAGE, summary, command.EXAMPLES, command.FLAGS)
    command.arguments(parser)
    args, flags = parser.read(given)
    loaded = load(flags, environ=os.environ, config=getattr(args, "config", None), folder=Path.cwd())
    for warning in loaded.warnings:
        _say(f"sluice: warning: {warning}")
    return command.run(args, loaded)


def _overview(group: str, commands: Mapping[str, str], examples: str) -> str:
    lines = [f"  {name:<9}{text}" for name, text in commands.items()]
    usage = f"usage: sluice{group} COMMAND [...]\n\n" + "\n".join(lines)
    return f"{usage}\n\nsluice{group} COMMAND --help says more" + (f"\n\n{examples}" if examples else "")


def _near(name: str, commands: Mapping[str, str]) -> str:
    import difflib

    match = difflib.get_close_matches(name, commands, n=1)
    return f": did you mean {match[0]}?" if match else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
