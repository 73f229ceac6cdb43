"""Programs that a machine may lack: their tests are skipped, or fail where SLUICE_REQUIRE names them."""

import os
import shutil
from functools import cache
from typing import NoReturn

import pytest


def lacking(name: str, reason: str) -> NoReturn:
    """Ends the test: failed where SLUICE_REQUIRE (names with commas between) has `name`, else skipped."""
    if name in os.environ.get("SLUICE_REQUIRE", "").split(","):
        pytest.fail(f"SLUICE_REQUIRE names {name}, but {reason}", pytrace=False)
    pytest.skip(f"{name}: {reason}")


def find_program(name: str) -> str | None:
    """The program's path, or None. Looks in sbin too, where Debian puts daemons and users' PATH does not."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    return shutil.which(name, path=path)


@cache
def docker_answers() -> bool:
    """Whether a Docker engine is there to run containers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=5)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False
