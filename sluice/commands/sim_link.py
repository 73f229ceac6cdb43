"""`sluice sim link`."""

import argparse
import json
import sys
from dataclasses import asdict
from urllib.parse import urlsplit

from sluice.failure import DONE, UNREACHABLE, Failure, SettingsError
from sluice.loading import Loaded
from sluice.settings import masked

USAGE = (
    "sluice sim link --link NAME [--link-file TOML] [--listen HOST:PORT] [--broker URL] [--seed N] [--json]"
)
EXAMPLES = """examples:
  sluice sim link --link bad-wifi --broker mqtt://127.0.0.1:1883
  sluice sim link --link mast --link-file mast.toml --listen 0.0.0.0:1884 --seed 7

Devices that connect to --listen reach the broker over that link, until Ctrl-C; then what it did is printed.
The first line on stdout is `sluice link ready mqtt=mqtt://HOST:PORT`. Plain MQTT only, no TLS.
"""
FLAGS = ("link", "link_file", "listen", "broker", "mqtt", "seed", "json")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Relays until SIGINT or SIGTERM."""
    from firmware_sim.links.relay import serve
    from sluice.simulating import failures, find_link, print_table

    settings, sim = loaded.settings, loaded.settings.sim
    broker = urlsplit(settings.device_broker)
    if broker.scheme != "mqtt" or not broker.hostname:
        raise SettingsError(
            f"broker.url is {masked(settings.device_broker)!r}; sim link needs mqtt://, without TLS"
        )
    host, port = _address(sim.listen)

    def ready(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        print(f"sluice link ready mqtt=mqtt://{shown}:{port}", flush=True)
        print(f"{sim.link}, to {broker.hostname}:{broker.port or 1883}; Ctrl-C ends it", file=sys.stderr)

    with failures():
        link = find_link(sim.link, sim.link_file)
    try:
        counts = serve(
            broker.hostname, broker.port or 1883, link, seed=sim.seed, host=host, port=port, ready=ready
        )
    except OSError as error:
        raise Failure(f"cannot listen on {sim.listen}: {error.strerror or error}", UNREACHABLE) from None
    if settings.json:
        print(json.dumps(asdict(counts)))
        return DONE
    rows = [
        [name, *(str(count) for count in (way.messages, way.bytes, way.lost, way.duplicated, way.reordered))]
        for name, way in (("to the broker", counts.up), ("to devices", counts.down))
    ]
    title = f"{counts.connections} connections, {counts.cuts} cut, {counts.refused} refused, "
    title += f"{counts.malformed} not MQTT"
    print_table(title, ("way", "packets", "bytes", "lost", "doubled", "late"), rows)
    return DONE


def _address(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        if parts.hostname and parts.port is not None and not parts.path and parts.username is None:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise SettingsError(f"listen is {text!r}; it must be host:port")
