"""A real file to deliver, made on the spot: a tar of Python's standard library."""

import os
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

NAME = "python-stdlib.tar"


def make_sample(folder: Path) -> Path:
    """Writes the tar into `folder`; the same bytes for the same Python, whenever and by whom it is made."""
    root = Path(sysconfig.get_path("stdlib"))
    path = folder / NAME
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for source in _modules(root):
            # Made from nothing: no owner, no times, no modes of this machine.
            entry = tarfile.TarInfo(source.relative_to(root).as_posix())
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                archive.addfile(entry, content)
    return path


def _modules(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "site-packages" and name != "dist-packages")
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))
