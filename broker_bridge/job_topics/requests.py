"""What a device's message asks for: decoded strictly where AWS is strict, and bounded everywhere."""

from dataclasses import dataclass
from typing import Any

from broker_bridge.job_topics.errors import Code, Refusal
from broker_bridge.job_topics.topics import Address, Verb
from broker_bridge.jobs.execution import Status
from chunker.errors import Malformed
from chunker.strict_json import decode_object

MAX_PAYLOAD = 65536
"""Bytes of a request. Details at their own bounds fit, but where each character of them is escaped."""
MAX_TOKEN = 256
"""Bytes of a client token in UTF-8 (our choice; AWS's OTA library sends a number and the thing's name)."""

_INTEGERS = range(-(1 << 63), 1 << 63)
_DIGITS = 19
"""Of an `expectedVersion` given as text."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is well formed. Which of the fields mean something its verb says; None: not given."""

    address: Address
    token: str | None
    number: int | None
    with_document: bool | None
    with_state: bool
    status: Status | None
    details: dict[str, str] | None
    expected_version: int | None
    step_minutes: int | None


def decode(address: Address, payload: bytes, size: int) -> Request:
    """The request that came as `payload`, of truly `size` bytes. An empty one counts as `{}`. Refusal.

    Checks run in this order: topic, size, JSON, the client token, the other fields.
    """
    if address.flaw is not None:
        raise Refusal(Code.INVALID_TOPIC, address.flaw, _token_of(payload))
    if size > MAX_PAYLOAD:
        raise Refusal(Code.INVALID_REQUEST, f"payload: {size} bytes are over the maximum of {MAX_PAYLOAD}")
    try:
        entries = decode_object(payload) if payload else {}
    except Malformed as error:
        raise Refusal(Code.INVALID_JSON, f"payload: {error}") from None
    fields = _Fields(entries)
    status = fields.text("status") if address.verb is Verb.UPDATE else None
    if address.verb is Verb.UPDATE and status is None:
        raise fields.wrong("status: it is required")
    return Request(
        address=address,
        token=fields.token,
        number=fields.integer("executionNumber"),
        with_document=fields.boolean("includeJobDocument"),
        with_state=fields.boolean("includeJobExecutionState") or False,
        status=None if status is None else fields.status(status),
        details=fields.details("statusDetails"),
        expected_version=fields.version("expectedVersion"),
        step_minutes=fields.integer("stepTimeoutInMinutes"),
    )


class _Fields:
    """The fields of a request by name. One that is null counts as absent, an unknown one is not looked at."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries = entries
        self.token: str | None = None
        token = self.text("clientToken")
        if token is not None:
            size = _size(token)
            if size is None:
                raise self.wrong("clientToken: it has half of a surrogate pair")
            if size > MAX_TOKEN:
                raise self.wrong(f"clientToken: {size} bytes are over the maximum of {MAX_TOKEN}")
            self.token = token

    def wrong(self, message: str) -> Refusal:
        """A Refusal that says so."""
        return Refusal(Code.INVALID_REQUEST, message, self.token)

    def text(self, name: str) -> str | None:
        value = self._entries.get(name)
        if value is not None and type(value) is not str:
            raise self.wrong(f"{name}: it is not text")
        return value

    def boolean(self, name: str) -> bool | None:
        value = self._entries.get(name)
        if value is not None and type(value) is not bool:
            raise self.wrong(f"{name}: it is neither true nor false")
        return value

    def integer(self, name: str) -> int | None:
        value = self._entries.get(name)
        if value is not None and (type(value) is not int or value not in _INTEGERS):
            raise self.wrong(f"{name}: it is not an integer of 64 bits")
        return value

    def version(self, name: str) -> int | None:
        """An integer, or text of one, which AWS's Jobs library sends."""
        value = self._entries.get(name)
        if type(value) is str and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
            value = int(value)
        if value is not None and (type(value) is not int or value not in _INTEGERS):
            raise self.wrong(f"{name}: it is neither an integer of 64 bits nor text of one")
        return value

    def status(self, text: str) -> Status:
        try:
            return Status(text)
        except ValueError:
            raise self.wrong(f"status: {text[:64]!r} is no state of an execution") from None

    def details(self, name: str) -> dict[str, str] | None:
        value = self._entries.get(name)
        if value is None:
            return None
        if type(value) is not dict:
            raise self.wrong(f"{name}: it is not an object")
        for key, text in value.items():
            if type(text) is not str:
                raise self.wrong(f"{name}: the value of {key[:64]!r} is not text")
        return value


def _token_of(payload: bytes) -> str | None:
    """The client token of a payload that is not looked at otherwise, where it can be read."""
    try:
        return _Fields(decode_object(payload)).token
    except (Malformed, Refusal):
        return None


def _size(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
