"""What a board is made of: flash in a file, the loader's key, and what firmware runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_sim.boards.interpreters import Interpreter
from firmware_sim.boot.loader import TRIES, Loader, slots
from firmware_sim.flash import Flash


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The flash: sizes in bytes as `firmware_sim.flash.Flash` has them, and the seconds that the firmware
    takes to erase a sector and to program a page; by default, those of common serial NOR.

    ValueError where sizes do not fit one another.
    """

    slot_bytes: int = 256 * 1024
    journal_bytes: int = 16 * 1024
    sector_size: int = 4096
    page_size: int = 256
    write_size: int = 1
    erase_seconds: float = 0.045
    program_seconds: float = 0.0004

    def __post_init__(self) -> None:
        slots(self.erased(), self.slot_bytes, self.journal_bytes)

    def erased(self) -> Flash:
        """As it comes from its factory."""
        size = 2 * (self.slot_bytes + self.sector_size + self.journal_bytes)
        return Flash(size, self.sector_size, self.page_size, self.write_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A board without what runs on it. `path`: of the file that is its flash between two processes."""

    path: Path
    chip: Chip
    key: ec.EllipticCurvePublicKey
    interpreter: Interpreter

    def loader(self, flash: Flash, tries: int = TRIES) -> Loader:
        """Its loader."""
        return Loader(slots(flash, self.chip.slot_bytes, self.chip.journal_bytes), self.key, tries)

    @contextmanager
    def flash(self) -> Iterator[Flash]:
        """The flash for a `with`, at the end of which the file has what it holds, power cut or not: a bit
        that would read now so and now so is then firm. ValueError where the file is of another size."""
        flash, content = self.chip.erased(), self.path.read_bytes()
        if len(content) != flash.size:
            raise ValueError(f"{self.path} has {len(content)} bytes, the flash {flash.size}")
        flash.program(0, content)
        flash.operations = 0
        try:
            yield flash
        finally:
            flash.power_on()
            with self.path.open("r+b") as file:
                file.write(flash.read(0, flash.size))
