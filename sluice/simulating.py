"""What the commands of `sluice sim` have in common: failures of the simulators as exit statuses, tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.failure import DIFFERS, FAILED, REJECTED, UNREACHABLE, Failure, SettingsError

if TYPE_CHECKING:
    from firmware_sim.fleet.broker import Broker
    from firmware_sim.links.model import LinkProfile
    from sluice.settings import Settings

WIDE = 150
"""Columns of a table that goes into a file or a pipe."""


@contextmanager
def failures() -> Iterator[None]:
    """Errors of the device library and of profiles, as the Failure that says the same."""
    from device_client.errors import DownloadError, Rejected
    from device_client.fetch import NotGenuine
    from device_client.mqtt import BrokerUnreachable
    from firmware_sim.links.model import ProfileError

    try:
        yield
    except ProfileError as error:
        raise SettingsError(str(error)) from None
    except BrokerUnreachable as error:
        raise Failure(str(error), UNREACHABLE) from None
    except Rejected as error:
        raise Failure(f"the service refuses: {error}", REJECTED) from None
    except NotGenuine as error:
        raise Failure(str(error), DIFFERS) from None
    except DownloadError as error:
        raise Failure(str(error), FAILED) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}", FAILED) from None


def find_link(name: str, path: Path | None) -> "LinkProfile":
    """The link of that name, from the file or of those that come with Sluice."""
    from firmware_sim.links.profiles import find

    return find(name, path)


def device_broker(settings: "Settings") -> "Broker":
    """Where a fleet's devices connect. SettingsError; BrokerUnreachable for TLS files that cannot be used."""
    from firmware_sim.fleet.broker import Broker

    files = (settings.broker.cafile, settings.broker.cert, settings.broker.key)
    texts = [None if path is None else str(path) for path in files]
    try:
        return Broker.parse(settings.device_broker, *texts)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def check_plot(path: Path) -> None:
    """SettingsError where a fleet cannot be drawn to that file."""
    from firmware_sim.fleet.plot import CannotDraw, check

    try:
        check(path)
    except CannotDraw as error:
        raise SettingsError(str(error)) from None


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On stdout: the first column to the left, the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print(table)
