"""Kinds of devices from files: presets, mixes, and what is wrong with a file."""

import math
from pathlib import Path

import pytest

from device_client.download import Download
from firmware_sim.fleet.profiles import LARGEST_FILE, DeviceProfile, find, load, parse, presets
from firmware_sim.links.model import ProfileError
from firmware_sim.links.profiles import find as find_link

WHOLE = """
[one]
block_size = "1 KiB"
encoding = "json"
budget = "8 KiB"
in_flight = 4
gap = "20 ms"
patience = "2 min"
flash = "60 kB/s"
save_every = "4 kB"
power_cut_every = "1.5 s"
power_cuts = 7
boot = "250 ms"
link = "nb-iot"
"""


def test_every_key_is_read() -> None:
    (profile,) = parse(WHOLE)["one"]
    assert profile == DeviceProfile(
        name="one",
        block_size=1024,
        encoding="json",
        budget=8192,
        in_flight=4,
        gap=0.02,
        patience=120.0,
        flash=60_000.0,
        save_every=4000,
        power_cut_every=1.5,
        power_cuts=7,
        boot=0.25,
        link="nb-iot",
    )


def test_what_is_left_out_has_its_default() -> None:
    (profile,) = parse("[plain]")["plain"]
    assert profile == DeviceProfile(name="plain")
    assert profile.flash == math.inf


def test_presets_are_devices_that_can_be() -> None:
    for name, mix in presets().items():
        assert all(share >= 1 for share in mix.values())
        for profile in mix:
            assert profile.link is None or find_link(profile.link)
            machine = Download(
                *("t", "s", 0, "token", 0, profile.encoding, profile.block_size, profile.budget),
                in_flight=profile.in_flight,
            )
            assert machine.block_size == profile.block_size, name
    assert len(presets()["mixed"]) >= 4
    assert {profile.encoding for profile in presets()["mixed"]} == {"cbor", "json"}


def test_a_file_stands_before_the_presets_and_its_mixes_may_name_them(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('[esp32]\nblock_size = "512 B"\n[field]\nmix = { esp32 = 3, nrf = 1 }\n')
    mix = {profile.name: (profile.block_size, share) for profile, share in find("field", path).items()}
    assert mix == {"esp32": (512, 3), "nrf": (1024, 1)}
    assert find("linux", path) == presets()["linux"]
    assert find("esp32") == presets()["esp32"]


def test_what_there_is_is_named() -> None:
    with pytest.raises(ProfileError, match="is no device profile 'esp'; there are esp32, legacy, linux"):
        find("esp")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "the profiles is no TOML"),
        ("a = 1", "a is 1; it must be a table"),
        ("[a]\nblocksize = 1", "[a] blocksize is not known; there are block_size, "),
        ("[a]\nblock_size = 4096", "[a] block_size is 4096; it must be a number with one of B, kB, KiB"),
        ('[a]\nblock_size = "4 KB"', "[a] block_size is '4 KB'; it must be a number with one of B, kB, KiB"),
        ('[a]\nblock_size = "255 B"', "[a] block_size is 255 bytes; it must be from 256 to 131072 bytes"),
        ('[a]\nbudget = "4095 B"', "[a] budget is 4095 bytes; it must be from 4096 to"),
        ("[a]\nin_flight = 0", "[a] in_flight is 0 blocks; it must be from 1 to 98305 blocks"),
        ("[a]\nin_flight = true", "[a] in_flight is True; it must be a whole number"),
        ('[a]\ngap = "6 min"', "[a] gap is 360 s; it must be from 0 to 300 s"),
        ('[a]\npatience = "999 ms"', "[a] patience is 0.999 s; it must be from 1 to 86400 s"),
        ('[a]\nflash = "99 B/s"', "[a] flash is 99 byte/s; it must be from 100 to inf byte/s"),
        ('[a]\nsave_every = "1 B"', "[a] save_every is 1 bytes; it must be from 256"),
        ('[a]\npower_cut_every = "1 ms"', "[a] power_cut_every is 0.001 s; it must be from 0.1 to"),
        ("[a]\npower_cuts = 1001", "[a] power_cuts is 1001; it must be from 1 to 1000"),
        ('[a]\nboot = "2 h"', "[a] boot is 7200 s; it must be from 0 to 3600 s"),
        ('[a]\nencoding = "xml"', "[a] encoding is 'xml'; it must be cbor or json"),
        ("[a]\nlink = 1", "[a] link is 1; it must be text"),
        ("[a]\nmix = 1", "[a] mix is 1; it must name 1 to 100 kinds"),
        ("[a]\nmix = {}", "[a] mix is {}; it must name 1 to 100 kinds"),
        ("[a]\nmix = { b = 1 }", "[a] mix.b is not known; there are "),
        ("[b]\n[a]\nmix = { b = 0 }", "[a] mix.b is 0; it must be a whole number from 1"),
        ("[b]\n[a]\nmix = { b = 1 }\nboot = 1", "[a] boot is not for a mix"),
        ("[b]\n[a]\nmix = { b = 1 }\n[c]\nmix = { a = 1 }", "[c] mix.a is not known; there are b"),
    ],
)
def test_errors_name_profile_key_value_and_bound(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse(text)
    assert said in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    with pytest.raises(FileNotFoundError):
        load(path)
    path.write_bytes(b"# \xff")
    with pytest.raises(ProfileError, match="is not UTF-8"):
        load(path)
    path.write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(ProfileError, match=f"is over {LARGEST_FILE} bytes long"):
        load(path)
