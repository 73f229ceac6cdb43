"""Fixtures for every test: a real Mosquitto, a real S3 wire, and no way to a real AWS account."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

from tests.support.mosquitto import MosquittoServer
from tests.support.moto import ACCESS_KEY, REGION, SECRET_KEY, MotoServer

# How long an example takes says more about the machine than about the code.
settings.register_profile("sluice", deadline=None)
settings.load_profile("sluice")


class MosquittoFactory(Protocol):
    """What the fixture `mosquitto` is."""

    def __call__(
        self, extra_config: str = "", *, nodelay: bool = True, listener_lines: Sequence[str] = ()
    ) -> MosquittoServer:
        """Starts one more Mosquitto, as MosquittoServer says."""


@pytest.fixture(scope="session", autouse=True)
def no_real_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Dummy credentials for this process and its children; a closed port where AWS's endpoints would be."""
    empty = tmp_path_factory.mktemp("aws") / "empty"
    empty.touch()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"):
            patch.delenv(name, raising=False)
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": str(empty),
            "AWS_SHARED_CREDENTIALS_FILE": str(empty),
            "AWS_EC2_METADATA_DISABLED": "true",
            # Port 9 (discard): a client that was given no endpoint fails here and reaches nobody.
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
        }.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoFactory]:
    """Starts real Mosquittos, each on a port of its own; all are ended with the test."""
    servers: list[MosquittoServer] = []

    def start(
        extra_config: str = "", *, nodelay: bool = True, listener_lines: Sequence[str] = ()
    ) -> MosquittoServer:
        folder: Path = tmp_path_factory.mktemp("mosquitto")
        server = MosquittoServer(folder, extra_config, nodelay=nodelay, listener_lines=listener_lines)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def moto_s3(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[MotoServer]:
    """A running moto server: `endpoint_url`, `client()`, `bucket()`."""
    server = MotoServer(tmp_path_factory.mktemp("moto") / "moto.log")
    yield server
    server.close()
