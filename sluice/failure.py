"""Why a command did not do what it was asked, and the exit status that says so (DESIGN "The command")."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
REJECTED: Final = 4
DIFFERS: Final = 5
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


class Failure(Exception):
    """Ends the command with `status`. The message is for the person who called it: what, and what to do."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class SettingsError(Failure):
    """Settings or arguments that cannot be used. The message names each setting, its source and its bound."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)
