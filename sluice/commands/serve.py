"""`sluice serve`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from sluice.failure import DONE, UNREACHABLE, Failure, SettingsError
from sluice.flags import SERVICE
from sluice.loading import Loaded
from sluice.settings import Settings, is_everywhere, is_loopback

USAGE = "sluice serve [--http HOST:PORT] [--broker URL] [--objects DIR | --s3-endpoint URL] [FLAGS]"
EXAMPLES = """examples:
  sluice serve                                     embedded broker, objects in a folder
  sluice serve --broker mqtt://127.0.0.1:1883      your Mosquitto
  sluice serve --broker mqtt://10.0.0.7 --workers 4
  SLUICE_BROKER=mqtts://sluice:PASSWORD@broker.example sluice serve --cafile ca.pem --s3

The first line on stdout is `sluice ready http=... mqtt=...`; logs go to stderr. SIGTERM and SIGINT end the
service when it has finished what it has in hand, a second one ends it at once. GET /healthz and /metrics are
on --http.
"""
FLAGS = SERVICE


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Serves until a signal comes."""
    settings = loaded.settings
    _check_exposure(settings)
    # Until the service stands there is nothing in hand.
    signal.signal(signal.SIGTERM, _leave)
    from broker_bridge.logs import configure

    configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings))
    return DONE


def _check_exposure(settings: Settings) -> None:
    if settings.http.startswith("https://"):
        raise SettingsError(f"http is {settings.http}; serve speaks plain HTTP: give host:port")
    if not is_loopback(settings.http):
        if not settings.insecure_http:
            raise SettingsError(
                f"http is {settings.http}, which others can reach, and the API asks nobody for credentials: "
                "whoever reaches it decides what devices install. Listen on 127.0.0.1 behind a proxy that "
                "authenticates, or accept that with --insecure-http"
            )
        _warn(f"whoever reaches http://{settings.http} decides what devices install (--insecure-http)")
        downloads = settings.downloads
        if is_everywhere(settings.http) and downloads.url is None and downloads.listen is None:
            _warn(
                "jobs over HTTP will send devices to that address, which is none of theirs: set downloads.url"
            )
    if settings.broker.url is None and not is_loopback(settings.broker.mqtt):
        _warn(f"the embedded broker on {settings.broker.mqtt} lets everybody in, as any thing")


async def _serve(settings: Settings) -> None:
    from broker_bridge.api.server import AddressTaken
    from broker_bridge.embedded.parent import EmbeddedBrokerError, PortTaken
    from broker_bridge.mqtt.errors import BrokerError
    from broker_bridge.probe import AnotherService
    from broker_bridge.registry.errors import RegistryError
    from broker_bridge.service import serve
    from broker_bridge.workers.pool import WorkersFailed

    stop, stands = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def ready(http_url: str, mqtt_url: str) -> None:
        stands.set()
        print(f"sluice ready http={http_url} mqtt={mqtt_url}", flush=True)

    def stopping() -> None:
        if stands.is_set():
            stop.set()
        else:
            serving.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    serving = asyncio.ensure_future(serve(settings, ready=ready, stop=stop))
    try:
        await serving
    except asyncio.CancelledError:
        if not serving.cancelled():
            raise
    except (AddressTaken, PortTaken, AnotherService, BrokerError, RegistryError) as error:
        raise Failure(str(error), UNREACHABLE) from None
    except (EmbeddedBrokerError, WorkersFailed) as error:
        raise Failure(str(error)) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise Failure(f"{error.filename or 'sluice serve'}: {error.strerror or error}") from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(DONE)


def _warn(text: str) -> None:
    print(f"sluice: warning: {text}", file=sys.stderr)
