"""Settings from defaults, `sluice.toml`, the environment and flags: each layer over the one before it.

Every value keeps where it came from, so that errors and `sluice config` can say so.
"""

import json
import math
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path

from broker_bridge.units import SIZE, parse_size
from sluice.failure import SettingsError
from sluice.settings import SHORT_NAMES, Setting, Settings, build, leaves, masked

FILE_NAME = "sluice.toml"
DEFAULT = "default"
_PREFIX = "SLUICE_"
_YES = {"true", "yes", "on", "1"}
_NO = {"false", "no", "off", "0"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, the source of each by its dotted name, and what is worth a warning."""

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as someone wrote it: not yet converted."""

    name: str
    value: object
    source: str
    folder: Path


def load(
    flags: Mapping[str, object], *, environ: Mapping[str, str], config: str | None = None, folder: Path
) -> Loaded:
    """Reads all layers. `flags` by setting name, those given only; `folder` is the working directory.

    SettingsError names every setting that is unknown or that cannot be used.
    """
    known = leaves()
    errors: list[str] = []
    warnings: list[str] = []
    layers = [
        _from_home(environ, folder),
        _from_file(known, config, environ, folder, errors),
        _from_environment(known, environ, folder, warnings),
        [_Given(_full_name(name), value, _flag(name), folder) for name, value in flags.items()],
    ]
    values: dict[str, object] = {}
    sources = dict.fromkeys(known, DEFAULT)
    for layer in layers:
        seen: dict[str, _Given] = {}
        for given in layer:
            if given.name in seen and seen[given.name].source != given.source:
                errors.append(f"{given.name} is given twice: {seen[given.name].source} and {given.source}")
            seen[given.name] = given
            try:
                values[given.name] = _convert(known[given.name], given)
            except ValueError as error:
                errors.append(f"{given.name} is {_shown(given.value)}; it must be {error} ({given.source})")
            sources[given.name] = given.source
    if errors:
        raise SettingsError("\n".join(errors))
    values.setdefault("state", Path(str(known["state"].default)).expanduser())
    try:
        settings: Settings = build(values)
    except ValueError as error:
        raise SettingsError(_with_sources(str(error), sources)) from None
    return Loaded(settings, sources, tuple(warnings))


def _from_home(environ: Mapping[str, str], folder: Path) -> list[_Given]:
    # The XDG base directories: the user's data folder is ~/.local/share unless this says otherwise.
    home = environ.get("XDG_DATA_HOME", "")
    if not Path(home).is_absolute():
        return []
    return [_Given("state", str(Path(home) / "sluice"), "default, XDG_DATA_HOME", folder)]


def _from_file(
    known: Mapping[str, Setting],
    config: str | None,
    environ: Mapping[str, str],
    folder: Path,
    errors: list[str],
) -> list[_Given]:
    asked = config if config is not None else environ.get(_PREFIX + "CONFIG")
    path = folder / Path(asked or FILE_NAME).expanduser()
    shown = asked or FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        if asked:
            raise SettingsError(f"there is no settings file {shown}") from None
        return []
    except OSError as error:
        raise SettingsError(f"cannot read {shown}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{shown} is not TOML: {error}") from None
    lines = dict(_assignments(text))
    found = []
    for written, value in _flattened(tables, known):
        source = f"{shown}:{lines[written]}" if written in lines else shown
        name = _full_name(written)
        if name in known:
            found.append(_Given(name, value, source, path.parent))
        else:
            errors.append(f"unknown setting {written} ({source}){_near(written, [*known, *SHORT_NAMES])}")
    return found


def _flattened(
    table: Mapping[str, object], known: Mapping[str, Setting], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    groups = {name.rpartition(".")[0] for name in known}
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict) and name in groups:
            yield from _flattened(value, known, name + ".")
        else:
            yield name, value


def _assignments(text: str) -> Iterator[tuple[str, int]]:
    """The line of each setting, by its dotted name as written: enough TOML for plain files, not all of it."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            table = header[1] + "."
            yield header[1], number
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            yield table + key[1], number


def _from_environment(
    known: Mapping[str, Setting], environ: Mapping[str, str], folder: Path, warnings: list[str]
) -> list[_Given]:
    names = {setting.variable: name for name, setting in known.items()}
    names |= {_PREFIX + short.upper(): full for short, full in SHORT_NAMES.items()}
    found = []
    for variable, value in environ.items():
        if variable in names:
            found.append(_Given(names[variable], value, variable, folder))
        elif variable.startswith(_PREFIX) and variable != _PREFIX + "CONFIG":
            # No error: what starts a service may put variables of its own there, as Kubernetes does.
            warnings.append(f"unknown variable {variable} in the environment{_near(variable, names)}")
    return found


def _full_name(name: str) -> str:
    return SHORT_NAMES.get(name, name)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _near(name: str, names: typing.Iterable[str]) -> str:
    import difflib

    match = difflib.get_close_matches(name, list(names), n=1)
    return f": did you mean {match[0]}?" if match else ""


def _shown(value: object) -> str:
    return masked(repr(value))


def _with_sources(message: str, sources: Mapping[str, str]) -> str:
    """`message` with the source of each setting that it names."""
    named = [
        f"{name}: {source}"
        for name, source in sources.items()
        if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", message) and source != DEFAULT
    ]
    return f"{message} ({', '.join(named)})" if named else message


def _convert(setting: Setting, given: _Given) -> object:
    """The value in the setting's type. ValueError says what it must be."""
    value, kind = given.value, setting.type
    if setting.optional and value == "":
        return None
    if kind is bool:
        return _boolean(value)
    if kind is int:
        return _integer(value, setting.is_size)
    if kind is float:
        return _number(value)
    if kind is Path:
        return _structure(kind, value, given.folder)
    if kind is str:
        text = _text(value)
        return text.removeprefix("http://").rstrip("/") if setting.name == "http" else text
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("JSON") from None
    return _structure(kind, value, given.folder)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise ValueError("true or false")


def _integer(value: object, size: bool) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if size:
        if not isinstance(value, str):
            raise ValueError(SIZE)
        return parse_size(value)
    if isinstance(value, str) and len(value) < 64 and re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):
        return int(value)
    raise ValueError("a whole number")


def _number(value: object) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError("a number")


def _text(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise ValueError("text, not empty" if isinstance(value, str) else "text: put it in quotes")


def _structure(kind: object, value: object, folder: Path) -> object:
    """Lists of text and of tables, as `permissions` is; nothing unknown, all there that has no default."""
    if kind is str:
        return _text(value)
    if kind is Path:
        return folder / Path(_text(value)).expanduser()
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError("a list")
        return tuple(_structure(typing.get_args(kind)[0], item, folder) for item in value)
    assert isinstance(kind, type)
    assert is_dataclass(kind)
    columns = leaves(kind)
    needed = [entry.name for entry in fields(kind) if entry.default is MISSING]
    if not isinstance(value, dict) or not set(needed) <= set(value) <= set(columns):
        raise ValueError(f"a list of tables with {' and '.join(needed) or 'any of ' + ', '.join(columns)}")
    return kind(**{name: _column(columns[name], given, folder) for name, given in value.items()})


def _column(setting: Setting, value: object, folder: Path) -> object:
    try:
        if setting.type is int:
            return _integer(value, setting.is_size)
        if setting.type is float:
            return _number(value)
        return _structure(setting.type, value, folder)
    except ValueError as error:
        raise ValueError(f"a list of tables whose {setting.name} is {error}") from None
