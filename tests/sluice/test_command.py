"""`sluice` as a process: help, usage errors, `config`, `version`, and what a start costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.__main__ import COMMANDS
from sluice.flags import FLAGS
from tests.sluice.support import environment, sluice


def test_help_names_every_command(tmp_path: Path) -> None:
    result = sluice(["--help"], tmp_path)
    assert result.returncode == 0
    assert all(f"  {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples(tmp_path: Path, name: str) -> None:
    result = sluice([name, "--help"], tmp_path)
    assert result.returncode == 0
    assert f"\nexamples:\n  sluice {name}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which command?"),
        (["sevre"], "there is no command sevre: did you mean serve?"),
        (["get", "--blocksize", "1"], "unknown argument --blocksize: did you mean --block-size?"),
        (["get", "--thing", "t"], "get needs --stream, --out"),
        (["publish", "x"], "publish needs --stream"),
        (["publish"], "the following arguments are required: FILE"),
        (["get", "--file", "x"], "file is 'x'; it must be a whole number (--file)"),
        (["config", "--broker", "http://h"], "broker.url is 'http://h'; it must be mqtt[s]://"),
        (["config", "--config", "nowhere.toml"], "there is no settings file nowhere.toml"),
        (["serve", "--http", "0.0.0.0:0"], "--insecure-http"),
        (["serve", "--http", "https://h"], "serve speaks plain HTTP"),
    ],
)
def test_usage_errors(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = sluice(arguments, tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_config_shows_values_sources_and_no_passwords(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text('broker = "mqtt://user:secret@h"\n[cache]\nsize = "64 MiB"\n')
    extra = {"SLUICE_DATABASE": "postgresql://me:hidden@db/x", "SLUICE_ODD": "1"}
    arguments = ["config", "--region", "eu-north-1"]
    text = sluice(arguments, tmp_path, extra)
    assert text.returncode == 0
    found = sluice([*arguments, "--json"], tmp_path, extra)
    values = json.loads(found.stdout)
    assert values["broker.url"] == {"value": "mqtt://user:***@h", "source": "sluice.toml:1"}
    assert values["cache.size"] == {"value": 64 << 20, "source": "sluice.toml:3"}
    assert values["database"] == {"value": "postgresql://me:***@db/x", "source": "SLUICE_DATABASE"}
    assert values["region"] == {"value": "eu-north-1", "source": "--region"}
    assert values["account"] == {"value": "000000000000", "source": "default"}
    assert values["state"]["value"] == str(tmp_path / ".local/share/sluice")
    for said in (text.stdout, text.stderr, found.stdout, found.stderr):
        assert "secret" not in said
        assert "hidden" not in said
    assert "sluice: warning: unknown variable SLUICE_ODD" in text.stderr
    assert all(name in text.stdout for name in values)


def test_config_takes_every_flag(tmp_path: Path) -> None:
    shown = sluice(["config", "--help"], tmp_path).stdout
    assert all("--" + name.replace("_", "-") in shown for name in FLAGS)


def test_version(tmp_path: Path) -> None:
    text, found = sluice(["version"], tmp_path), sluice(["version", "--json"], tmp_path)
    assert text.stdout.startswith("sluice ")
    assert {"sluice", "python", "amqtt"} <= set(json.loads(found.stdout))
    assert sluice(["--version"], tmp_path).stdout == text.stdout


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m sluice config --markdown | true"
    result = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert result.stderr == ""


def test_get_loads_nothing_of_the_services(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom sluice.__main__ import main\n"
        "status = main(['get', '--thing', 't', '--stream', 's', '--out', 'x', '--broker', 'mqtt://127.0.0.1:9',"
        " '--timeout', '5'])\n"
        "print(status, *sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    status, *modules = result.stdout.split()
    assert status == "3", result.stderr
    assert "device_client.socket_transport" in modules
    heavy = {"boto3", "botocore", "sqlalchemy", "structlog", "uvicorn", "rich", "typer", "amqtt", "pydantic"}
    assert not heavy & set(modules)
    rooms = {name for name in modules if name.startswith("broker_bridge.")}
    assert rooms == {"broker_bridge.settings", "broker_bridge.pace", "broker_bridge.units"}
