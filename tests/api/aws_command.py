"""AWS's command line in this process: what `aws` runs, without an interpreter of its own for each call."""

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.api.running import REGION, Running


class AwsCommand:
    """The command, against a running API. Tries once."""

    def __init__(self, driver: Any, api: Running) -> None:
        self._driver = driver
        self._api = api
        self.called: set[tuple[str, str]] = set()
        """Services and operations, as they are written on the command line."""

    def run(self, service: str, operation: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output, and what it says on stderr."""
        self.called.add((service, operation))
        where = ("--endpoint-url", self._api.url, "--region", REGION, "--output", "json")
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            status = self._driver.main([service, operation, *arguments, *where])
        return status, out.getvalue(), err.getvalue()

    def __call__(self, service: str, operation: str, *arguments: str) -> Any:
        """What it prints, where it ends well."""
        status, out, err = self.run(service, operation, *arguments)
        assert status == 0, err
        return json.loads(out) if out.strip() else None


@contextlib.contextmanager
def aws_command(api: Running) -> Iterator[AwsCommand]:
    """The command, with its environment for the time of the context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_PAGER", "")
        # The command adds to it when it is imported.
        patch.setenv("AWS_DATA_PATH", "")
        from awscli.clidriver import create_clidriver

        # The service runs in this process too: what it logs must not be among what the command prints.
        with capture_logs():
            yield AwsCommand(create_clidriver(), api)
