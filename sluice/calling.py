"""The service's API, as commands call it: a client of AWS's own, and what goes wrong as an exit status."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sluice.failure import REJECTED, UNREACHABLE, Failure
from sluice.settings import Settings, is_loopback

_CREDENTIALS = ("aws_access_key_id", "aws_secret_access_key")


def api(settings: Settings) -> Any:
    """A boto3 client for the service. Credentials of the usual chain; without any, made-up ones."""
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()
    made_up = {} if session.get_credentials() else dict.fromkeys(_CREDENTIALS, "sluice")
    return session.client(
        "iot",
        endpoint_url=settings.api_url,
        region_name=settings.region,
        config=Config(
            connect_timeout=settings.timeout,
            read_timeout=settings.timeout,
            retries={"total_max_attempts": 2},
            proxies={} if is_loopback(settings.http) else None,
        ),
        **made_up,
    )


@contextmanager
def failures(settings: Settings, more: str = "") -> Iterator[None]:
    """What calls of the API raise, as the Failure that says it; `more` goes with what the service refuses."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        text = f"{said.get('Code')}: {said.get('Message')}\n(said by {settings.api_url}{more})"
        # What the service says of itself (its database is away) is no refusal of what was asked.
        ill = error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
        raise Failure(text, UNREACHABLE if ill else REJECTED) from None
    except (ConnectionError, HTTPClientError) as error:
        raise Failure(f"no service answers at {settings.api_url}: {error}", UNREACHABLE) from None
    except BotoCoreError as error:
        raise Failure(f"{settings.api_url} does not answer as AWS's API does: {error}") from None


def role(settings: Settings) -> str:
    """What stands where AWS wants a role; nothing here ever assumes it."""
    return f"arn:aws:iam::{settings.account}:role/sluice"
