"""docs/settings.md, made from the settings themselves: names, defaults, and the text under each field."""

import ast
import inspect
import textwrap
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from sluice.flags import FLAGS
from sluice.settings import SHORT_NAMES, Setting, Settings, leaves

_HEAD = """# Settings

Printed by `sluice config --markdown`. `sluice config` shows the values in force and where each comes from.

A value comes from the last of these that has it: the default; `sluice.toml` in the working directory, or the
file that `--config FILE` or `SLUICE_CONFIG` names; the environment; a flag.

- In the file, `broker.hold` is `hold` in the table `[broker]`. Relative paths start at the file's folder. An
  unknown name is an error.
- In the environment it is `SLUICE_BROKER_HOLD`. An unknown `SLUICE_…` is a warning.
- Settings with a flag have its name as a short one in file and environment too: `s3_endpoint` and
  `SLUICE_S3_ENDPOINT` for `--s3-endpoint`; `broker = "mqtt://…"` for `--broker`.
- Sizes are bytes, or text with a unit: `"24 MB"` is 24,000,000, `"32 MiB"` is 33,554,432.
- Lists are JSON in the environment. An empty text takes back what a layer below has set.
"""


def markdown() -> str:
    """The whole page."""
    lines = [_HEAD]
    flags = {SHORT_NAMES.get(name, name): "--" + name.replace("_", "-") for name in FLAGS}
    groups: dict[str, list[Setting]] = {}
    for name, setting in leaves().items():
        groups.setdefault(name.rpartition(".")[0], []).append(setting)
    helps = {SHORT_NAMES.get(name, name): flag.help for name, flag in FLAGS.items()}
    meanings = {name: text or helps.get(name, "") for name, text in _meanings().items()}
    for group, settings in groups.items():
        lines.append(f"## {'`[' + group + ']`' if group else 'Without a table'}\n")
        lines.append("| setting | flag | default | meaning |\n| --- | --- | --- | --- |")
        for setting in settings:
            flag = f"`{flags[setting.name]}`" if setting.name in flags else ""
            cells = [f"`{setting.name}`", flag, _default(setting), meanings[setting.name].replace("|", r"\|")]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _default(setting: Setting) -> str:
    value = setting.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[]`"
    if setting.is_size and isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f"`{value >> 20} MiB`"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


def _meanings(kind: type = Settings, prefix: str = "") -> dict[str, str]:
    """The text under each field, in one line, by dotted name."""
    texts: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = after.value if isinstance(after, ast.Expr) else None
                texts[statement.target.id] = _one_line(text.value) if isinstance(text, ast.Constant) else ""
    found: dict[str, str] = {}
    hints = get_type_hints(kind)
    for entry in fields(kind):
        hint = hints[entry.name]
        if isinstance(hint, type) and is_dataclass(hint):
            found |= _meanings(hint, f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = texts[entry.name]
    return found


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
