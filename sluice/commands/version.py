"""`sluice version`."""

import argparse
import json
import platform
from importlib.metadata import PackageNotFoundError, version

from sluice.failure import DONE
from sluice.loading import Loaded

USAGE = "sluice version [--json]"
EXAMPLES = """examples:
  sluice version
  sluice version --json
"""
FLAGS = ("json",)
_PACKAGES = ("amqtt", "boto3", "sqlalchemy", "uvicorn")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Prints versions of sluice, Python and the packages that speak to the outside."""
    versions = {"sluice": _version("sluice"), "python": platform.python_version()}
    versions |= {package: _version(package) for package in _PACKAGES}
    if loaded.settings.json:
        print(json.dumps(versions))
    else:
        print(*(f"{name} {number}" for name, number in versions.items()), sep="\n")
    return DONE


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
