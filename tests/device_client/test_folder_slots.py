"""Two slots in a folder: what boots, and that no cut leaves a folder that boots nothing."""

import os
from pathlib import Path
from typing import Any

import pytest

from device_client.folder_slots import FolderSlots
from device_client.platform import ImageRefused


def image(version: int) -> bytes:
    return b"M1" + bytes([version]) + b"content"


def identify(head: bytes | bytearray) -> tuple[str, int] | None:
    return ("M1", head[2]) if head[:2] == b"M1" else None


def slots(folder: Path, **more: Any) -> FolderSlots:
    """As another life of the process finds them."""
    return FolderSlots(str(folder), "M1", identify, 3, lambda: None, **more)


def installed(folder: Path, **more: Any) -> FolderSlots:
    slots(folder).install(image(1))
    one = slots(folder, **more)
    one.boot()
    return one


def load(one: FolderSlots, content: bytes) -> None:
    sink = one.sink()
    sink.start(len(content))
    sink.write(0, memoryview(content))
    sink.finish()


def boots(folder: Path, **more: Any) -> tuple[int, bool]:
    one = slots(folder, **more)
    assert Path(one.boot()).read_bytes() == image(one.version)
    return one.version, one.testing()


def test_an_update_that_is_confirmed(tmp_path: Path) -> None:
    one = installed(tmp_path)
    assert (one.version, one.testing(), one.refused()) == (1, False, "")
    load(one, image(2))
    assert boots(tmp_path) == (1, False), "nobody has asked"
    one.request()
    one = slots(tmp_path)
    one.boot()
    assert (one.version, one.testing()) == (2, True)
    one.confirm()
    assert not one.testing()
    assert boots(tmp_path) == (2, False)
    # And the next one goes into the other slot.
    load(one, image(3))
    one.request()
    assert boots(tmp_path) == (3, True)


def test_an_update_that_is_reverted(tmp_path: Path) -> None:
    one = installed(tmp_path)
    load(one, image(2))
    one.request()
    one = slots(tmp_path)
    one.boot()
    one.revert()
    one = slots(tmp_path)
    one.boot()
    assert (one.version, one.testing()) == (1, False)
    assert one.refused()
    load(one, image(3))
    assert not one.refused(), "that was another one"


def test_an_update_that_never_says_a_word(tmp_path: Path) -> None:
    one = installed(tmp_path)
    load(one, image(2))
    one.request()
    assert [boots(tmp_path, tries=2) for _ in range(4)] == [(2, True), (2, True), (1, False), (1, False)]
    assert slots(tmp_path).refused()


def test_what_is_no_image_is_not_booted(tmp_path: Path) -> None:
    one = installed(tmp_path)
    load(one, b"something else")
    with pytest.raises(ImageRefused):
        one.request()


def test_whenever_the_power_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every rename, as well as instead of it where a file system first removes what is there."""

    class PowerCut(Exception):
        pass

    rename = os.rename

    def update(folder: Path, cut_at: int, how: str) -> int:
        renames = 0

        def cut(old: str, new: str) -> None:
            nonlocal renames
            renames += 1
            if renames == cut_at:
                if how == "removed":
                    Path(new).unlink(missing_ok=True)
                raise PowerCut
            rename(old, new)

        monkeypatch.setattr(os, "rename", cut)
        try:
            one = slots(folder)
            one.boot()
            load(one, image(2))
            one.request()
            one = slots(folder)
            one.boot()
            one.confirm()
        except PowerCut:
            pass
        finally:
            monkeypatch.setattr(os, "rename", rename)
        return renames

    count = 0
    for how in ("kept", "removed"):
        for place in range(1, 20):
            folder = tmp_path / f"{how}{place}"
            folder.mkdir()
            installed(folder)
            count = update(folder, place, how)
            version, testing = boots(folder)
            assert version in (1, 2)
            if count < place:  # it came to its end
                assert (version, testing) == (2, False)
                break
    assert count >= 4
