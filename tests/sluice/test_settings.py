"""Layers, conversions and errors of the settings, without a process."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.settings import Permission, ServiceSettings
from sluice.failure import USAGE, SettingsError
from sluice.flags import FLAGS
from sluice.loading import Loaded, load
from sluice.reference import markdown
from sluice.settings import SHORT_NAMES, Settings, leaves, masked, value_of

ROOT = Path(__file__).parents[2]


def loaded(
    folder: Path,
    toml: str | None = None,
    environ: Mapping[str, str] | None = None,
    **flags: object,
) -> Loaded:
    if toml is not None:
        (folder / "sluice.toml").write_text(toml)
    return load(flags, environ=environ or {}, folder=folder)


def refused(folder: Path, toml: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, toml, environ)
    assert caught.value.status == USAGE
    return str(caught.value)


def test_each_layer_lies_over_the_one_before_it(tmp_path: Path) -> None:
    toml = 'http = "127.0.0.1:1"\nregion = "eu-north-1"\n[broker]\nclient_id = "file"\nhold = 7\n'
    environ = {"SLUICE_REGION": "eu-west-1", "SLUICE_BROKER_CLIENT_ID": "environment"}
    found = loaded(tmp_path, toml, environ, region="eu-south-1")
    settings = found.settings
    assert (settings.region, found.sources["region"]) == ("eu-south-1", "--region")
    assert (settings.broker.client_id, found.sources["broker.client_id"]) == (
        "environment",
        "SLUICE_BROKER_CLIENT_ID",
    )
    assert (settings.broker.hold, found.sources["broker.hold"]) == (7, "sluice.toml:5")
    assert (settings.http, found.sources["http"]) == ("127.0.0.1:1", "sluice.toml:1")
    assert (settings.file, found.sources["file"]) == (0, "default")


def test_without_any_layer_the_service_has_its_own_defaults(tmp_path: Path) -> None:
    settings = loaded(tmp_path).settings
    plain = ServiceSettings(state=Path("~/.local/share/sluice").expanduser())
    for entry in dataclasses.fields(ServiceSettings):
        assert getattr(settings, entry.name) == getattr(plain, entry.name), entry.name


def test_every_flag_is_a_setting_in_file_and_environment(tmp_path: Path) -> None:
    known = leaves()
    for name in FLAGS:
        full = SHORT_NAMES.get(name, name)
        assert full in known
        example = {bool: True, int: 300 if full == "block_size" else 3, float: 2.5}.get(
            known[full].type,  # type: ignore[call-overload]
            {
                "http": "127.0.0.1:9",
                "mqtt": "127.0.0.1:9",
                "broker": "mqtt://h",
                "account": "123456789012",
                "sha256": "0" * 64,
                "encoding": "json",
                "log_level": "error",
                "log_format": "text",
                "s3_endpoint": "http://127.0.0.1:9",
            }.get(name, "/x"[0:] if known[full].type is Path else "x"),
        )
        pair = {"cert": {"key": "k"}, "key": {"cert": "c"}}.get(name, {})
        toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {name: example, **pair}.items())
        by_file = loaded(tmp_path, toml)
        shown = str(example).lower() if example is True else str(example)
        environ = {f"SLUICE_{key.upper()}": str(value) for key, value in {name: shown, **pair}.items()}
        by_environment = loaded(tmp_path, "", environ)
        values = [value_of(found.settings, full) for found in (by_file, by_environment)]
        assert values[0] == values[1], name
        assert values[0] != known[full].default, name
        assert by_file.sources[full] == "sluice.toml:1"
        assert by_environment.sources[full] == f"SLUICE_{name.upper()}"


def test_names_in_the_environment_are_unique() -> None:
    variables = [setting.variable for setting in leaves().values()]
    short = ["SLUICE_" + name.upper() for name in SHORT_NAMES]
    assert len({*variables, *short}) == len(variables) + len(short)


def test_broker_may_be_text_or_a_table(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'broker = "mqtt://a"').settings.broker.url == "mqtt://a"
    assert loaded(tmp_path, '[broker]\nurl = "mqtt://b"').settings.broker.url == "mqtt://b"
    assert loaded(tmp_path, 'broker.url = "mqtt://c"').settings.broker.url == "mqtt://c"
    assert loaded(tmp_path, "", {"SLUICE_BROKER": "mqtt://d"}).settings.broker.url == "mqtt://d"
    assert loaded(tmp_path, "", {"SLUICE_BROKER_URL": "mqtt://e"}).settings.broker.url == "mqtt://e"


def test_one_setting_by_two_names_of_one_layer_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, None, {"SLUICE_BROKER": "mqtt://d", "SLUICE_BROKER_URL": "mqtt://e"})
    assert message == "broker.url is given twice: SLUICE_BROKER and SLUICE_BROKER_URL"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24 MB", 24_000_000),
        ("24MB", 24_000_000),
        ("32 MiB", 32 << 20),
        ("32 mib", 32 << 20),
        ("1.5 GiB", 3 << 29),
        ("2000000 B", 2_000_000),
        ("2000000", 2_000_000),
        ("4 kB", 4000),
        ("4 KiB", 4096),
        ("1 TB", 10**12),
    ],
)
def test_sizes(tmp_path: Path, text: str, size: int) -> None:
    assert loaded(tmp_path, f'limits.file_bytes = "{text}"').settings.limits.file_bytes == size
    by_environment = loaded(tmp_path, "", {"SLUICE_LIMITS_FILE_BYTES": text})
    assert by_environment.settings.limits.file_bytes == size


@pytest.mark.parametrize(
    "text", ["24 XB", "MB", "-1 MB", "0.3 B", "1e6", "24 M B", "nan", "0x10", "1_000", "9" * 70]
)
def test_what_is_no_size_is_refused(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, None, {"SLUICE_LIMITS_FILE_BYTES": text})
    assert message.startswith(f"limits.file_bytes is '{text}'; it must be a number of bytes")
    assert message.endswith("(SLUICE_LIMITS_FILE_BYTES)")


@given(st.integers(min_value=1, max_value=(1 << 63) - 1))
def test_every_whole_size_is_taken_as_it_is(size: int) -> None:
    environ = {"SLUICE_LIMITS_FILE_BYTES": str(size)}
    assert load({}, environ=environ, folder=ROOT / "docs").settings.limits.file_bytes == size


@pytest.mark.parametrize(
    ("toml", "wanted"),
    [
        ("file = true", "file is True; it must be a whole number"),
        ('file = "1.5"', "file is '1.5'; it must be a whole number"),
        ("file = 256", "file is 256; it must be from 0 to 255"),
        ("thing = 7", "thing is 7; it must be text: put it in quotes"),
        ('thing = "a/b"', "thing is 'a/b'; it must be 1 to 128"),
        ('stream = "a:b"', "stream is 'a:b'; it must be 1 to 128"),
        ('stream = "a\\n"', "stream is 'a\\n'; it must be 1 to 128"),
        ("block_size = 255", "block_size is 255; it must be from 256 to 131072"),
        ('encoding = "xml"', "encoding is 'xml'; it must be cbor or json"),
        ('sha256 = "00"', "sha256 is '00'; it must be 64 hexadecimal digits"),
        ('s3 = "maybe"', "storage.s3 is 'maybe'; it must be true or false"),
        ("timeout = inf", "timeout is inf; it must be a number"),
        ("storage.revalidate = -1", "storage.revalidate is -1.0; it must be from 0 to 3600"),
        ('http = "4580"', "http is '4580'; it must be host:port"),
        ('http = "h:99999"', "http is 'h:99999': Port out of range"),
        ('http = "https://u:p@h"', "http is 'https://u:***@h'; it must be"),
        ('broker = "tcp://h"', "broker.url is 'tcp://h'; it must be mqtt[s]://"),
        ('broker = "mqtt://u:secret@h/x"', "broker.url is 'mqtt://u:***@h/x'; it must be mqtt[s]://"),
        ("permissions = [{streams = [\"*\"]}]", "permissions is [{'streams': ['*']}]; it must be a list of"),
        ("permissions = 3", "permissions is 3; it must be a list"),
        ('cert = "a"', "broker.cert and broker.key must be given together (broker.cert: sluice.toml:1)"),
        ('objects = "a"\ns3 = true', "(storage.objects: sluice.toml:1, storage.s3: sluice.toml:2)"),
        ("account = 123456789012", "account is 123456789012; it must be text: put it in quotes"),
        ("brokr = 1", "unknown setting brokr (sluice.toml:1): did you mean broker?"),
        ("[limits]\nfile_byte = 1", "unknown setting limits.file_byte (sluice.toml:2): did you mean"),
        ("broker = {hold = 0}", "broker.hold is 0; it must be from 1 to 1000000 (broker.hold: sluice.toml)"),
        ("a = ", "sluice.toml is not TOML"),
    ],
)  # fmt: skip
def test_errors_name_setting_value_bound_and_source(tmp_path: Path, toml: str, wanted: str) -> None:
    assert wanted in refused(tmp_path, toml)


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, "file = true\nnonsense = 1\n", {"SLUICE_TIMEOUT": "soon"})
    assert len(message.splitlines()) == 3


def test_a_typo_in_the_environment_is_a_warning(tmp_path: Path) -> None:
    warnings = loaded(tmp_path, None, {"SLUICE_BROKR": "x", "SLUICE_CONFIG": ""}).warnings
    assert warnings == ("unknown variable SLUICE_BROKR in the environment: did you mean SLUICE_BROKER?",)


def test_config_names_the_file_and_paths_start_there(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "own.toml").write_text('state = "data"\nobjects = "~/objects"\n')
    for environ, config in (({"SLUICE_CONFIG": "etc/own.toml"}, None), ({}, str(folder / "own.toml"))):
        settings = load({}, environ=environ, config=config, folder=tmp_path).settings
        assert settings.state == folder / "data"
        assert settings.objects == Path("~/objects").expanduser()
    with pytest.raises(SettingsError, match=r"there is no settings file other\.toml"):
        load({}, environ={}, config="other.toml", folder=tmp_path)


def test_state_is_the_users_data_folder(tmp_path: Path) -> None:
    found = loaded(tmp_path, None, {"XDG_DATA_HOME": "/data"})
    assert found.settings.state == Path("/data/sluice")
    assert found.sources["state"] == "default, XDG_DATA_HOME"


def test_empty_text_takes_back_what_a_layer_below_has_set(tmp_path: Path) -> None:
    found = loaded(tmp_path, 'broker = "mqtt://h"', {"SLUICE_BROKER": ""})
    assert found.settings.broker.url is None
    assert found.settings.device_broker == "mqtt://127.0.0.1:1883"


def test_permissions(tmp_path: Path) -> None:
    entry = Permission(streams=("a*",), things=("b", "c"))
    toml = '[[permissions]]\nstreams = ["a*"]\nthings = ["b", "c"]\n'
    assert loaded(tmp_path, toml).settings.permissions == (entry,)
    environ = {"SLUICE_PERMISSIONS": '[{"streams": ["a*"], "things": ["b", "c"]}]'}
    assert loaded(tmp_path, "", environ).settings.permissions == (entry,)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mqtt://u:secret@h:1", "mqtt://u:***@h:1"),
        ("mqtt://u:s/e?c#r@e:t@h", "mqtt://u:***@h"),
        ("mqtt://u@h", "mqtt://u@h"),
        ("mqtt://h:1", "mqtt://h:1"),
        ("u:secret@h", "u:***@h"),
        ("postgresql://h/d?user=u&password=secret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("sqlite:////home/a:b@c/x.db", "sqlite:////home/a:b@c/x.db"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(repr(text)) == repr(shown)


def test_the_reference_is_that_of_these_settings() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == markdown() + "\n"


def test_every_setting_is_explained() -> None:
    for line in markdown().splitlines():
        if line.startswith("| `"):
            assert not line.endswith("|  |"), line


def test_the_sample_in_the_readme_is_taken(tmp_path: Path) -> None:
    samples = [block.partition("```")[0] for block in (ROOT / "README.md").read_text().split("```toml\n")[1:]]
    assert samples
    for sample in samples:
        assert tomllib.loads(sample)
        loaded(tmp_path, sample)


def test_settings_are_the_services_too() -> None:
    assert issubclass(Settings, ServiceSettings)
