"""Shell patterns of things and streams, as settings have them."""

import re
from collections.abc import Sequence
from fnmatch import translate


def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """What any of the patterns (`*`, `?`, `[…]`) matches; nothing, where there are none."""
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")
