"""A download as `get` and `demo` make it: the device library, with its errors as exit statuses."""

from collections.abc import Callable
from pathlib import Path

from device_client.client import (
    BrokerUnreachable,
    DownloadError,
    DownloadTimeout,
    HashMismatch,
    Rejected,
    Result,
    download,
)
from sluice.failure import DIFFERS, REJECTED, UNREACHABLE, Failure, SettingsError
from sluice.settings import Settings, masked

Report = Callable[[int, int], None]
"""Is told how many bytes of how many are here."""


def fetch(settings: Settings, out: Path, report: Report | None = None) -> Result:
    """Downloads what `settings` name, as `settings.thing`. Failure with the status that says why not."""
    assert settings.thing is not None
    assert settings.stream is not None
    try:
        return download(
            settings.device_broker,
            thing=settings.thing,
            stream=settings.stream,
            file_id=settings.file,
            out=out,
            block_size=settings.block_size,
            encoding=settings.encoding,
            sha256=settings.sha256,
            patience=settings.timeout,
            progress=report,
            cafile=_text(settings.broker.cafile),
            cert=_text(settings.broker.cert),
            key=_text(settings.broker.key),
        )
    except Rejected as error:
        raise Failure(f"the service refuses: {error}", REJECTED) from None
    except HashMismatch as error:
        raise Failure(str(error), DIFFERS) from None
    except BrokerUnreachable as error:
        raise Failure(str(error), UNREACHABLE) from None
    except DownloadTimeout as error:
        raise Failure(
            f"{error}\n(is there a service on {masked(settings.device_broker)}, and does the broker let "
            f"{settings.thing} read its `description`, `data` and `rejected`?)"
        ) from None
    except DownloadError as error:
        raise Failure(str(error)) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
