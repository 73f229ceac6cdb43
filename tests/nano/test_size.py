"""What is sent to the board stays what its heap can compile, and stays what it is in the repository."""

import pytest

import device_client.nano
from firmware_sim.microbit import units
from firmware_sim.raw_prompt import BURST_BYTES, bursts
from firmware_sim.shrinking import shrink
from tests.nano.board import sources

LARGEST_UNIT = 499
LARGEST_CLIENT = 2300


def test_units_are_small() -> None:
    sizes = dict(zip(device_client.nano.UNITS, map(len, units()), strict=True))
    assert max(sizes.values()) <= LARGEST_UNIT, sizes
    assert sum(sizes.values()) <= LARGEST_CLIENT, sizes


def test_it_shares_nothing_with_the_rest() -> None:
    text = "".join(sources())
    assert "chunker" not in text
    assert {line for line in text.splitlines() if line.startswith(("import ", "from "))} == {
        line
        for line in text.splitlines()
        if line.startswith(("from device_client.nano.", "from microbit import "))
    }


@pytest.mark.parametrize("source", units(), ids=device_client.nano.UNITS)
def test_bursts_carry_a_unit(source: str) -> None:
    """Each fits the port's buffer with the byte that ends it, and holds no byte that the prompt acts upon."""
    names: dict[str, str] = {"_": ""}
    for burst in bursts(source):
        assert len(burst) < BURST_BYTES < 63
        assert min(burst.encode()) >= 32
        exec(burst, names)
    assert names["_"] == source


def test_shrinking_keeps_the_meaning() -> None:
    sources = [
        '"""Of a."""\nfrom package.other import limit  # a comment\n\n\n'
        'def double(value: "int") -> "int":\n    """Twice it."""\n'
        "    return value * 2 if value < limit else -1\n",
        "from package.first import double\nlimit: int = 7\nresult = [double(one) for one in range(9)]\n"
        "text = 'double  value'\ntry:\n    result[99]\nexcept IndexError as error:\n    why = str(error)\n",
    ]
    small = shrink(sources, "package", ["result", "why", "text"])
    assert "package" not in "".join(small)
    assert sum(map(len, small)) < sum(map(len, sources)) / 2
    names: dict[str, object] = {}
    for source in small:
        exec(source, names)
    assert names["result"] == [0, 2, 4, 6, 8, 10, 12, -1, -1]
    assert names["text"] == "double  value"
    assert names["why"] == "list index out of range"


def test_no_source_is_an_error() -> None:
    with pytest.raises(SyntaxError):
        shrink(["def ("], "package")
