"""Paging tokens (`nextToken`): opaque to clients, and good only where we gave them out.

A token is Base64 (URL alphabet) of a MAC and of the position at which the next page begins. The MAC covers
the position and a scope (operation, order, …), so that nobody can make a token, or use one elsewhere.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from typing import TypeVar

from broker_bridge.api.errors import InvalidParameter
from broker_bridge.registry.pages import Page

T = TypeVar("T")

_MAC_BYTES = 16
_MAX_LENGTH = 2048
"""Characters in a token. The longest position is a path of seven thing groups and a thing's name: 1031."""
PAGE = 100
"""Entries on a page where `maxResults` is not given; AWS does not say how many it gives."""


def issue(key: bytes, scope: tuple[str, ...], position: str) -> str:
    """A token for the page after `position`."""
    plain = position.encode()
    return base64.urlsafe_b64encode(_mac(key, scope, plain) + plain).decode().rstrip("=")


def position(key: bytes, scope: tuple[str, ...], token: str) -> str:
    """The position in a token of ours of that scope. Raises InvalidParameter for any other."""
    if len(token) <= _MAX_LENGTH:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        mac, plain = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if hmac.compare_digest(mac, _mac(key, scope, plain)):
            return plain.decode()
    raise InvalidParameter(f"nextToken: not one that {scope[0]} gave out for these parameters")


def turn(
    key: bytes, scope: tuple[str, ...], token: str | None, read: Callable[[str | None], Page[T]]
) -> tuple[Sequence[T], dict[str, object]]:
    """What is on the page after `token`, and `nextToken` where there is another. InvalidParameter.

    `read` gives the page after a position, or the first.
    """
    page = read(None if token is None else position(key, scope, token))
    more: dict[str, object] = {} if page.after is None else {"nextToken": issue(key, scope, page.after)}
    return page.items, more


def _mac(key: bytes, scope: tuple[str, ...], plain: bytes) -> bytes:
    # A zero byte is in no scope, so that no two scopes and positions make the same text.
    message = b"\0".join([*(part.encode() for part in scope), plain])
    return hmac.digest(key, message, "sha256")[:_MAC_BYTES]
