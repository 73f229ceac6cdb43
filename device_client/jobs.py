"""A device's side of AWS IoT jobs as a state machine without I/O. Runs on MicroPython.

The caller owns socket and clock (integer milliseconds that do not go back), as with `device_client.download`:
it says what happened, sends what `poll` returns (QoS 0 will do), calls `poll` after every message and at
`deadline`, and acts on the event that `receive` returns:

    NEXT      the thing's next execution, or None where nothing is pending
    ACCEPTED  the last update was taken
    REFUSED   it was not, with the code and what the service says

What is next is asked after `connected`, after `ask`, when the service tells that it has changed, and every
`gap` milliseconds; the same execution may come any number of times. One update is under way at a time, a
newer one takes its place. What is not answered is sent again after 4 s and then twice as long each time, up
to five minutes: a question for ever, an update MAX_TRIES times while there is a session, after which it is
given up.

A job must not block the thing for ever because its messages are longer than what the device can hear. When
the answer is too long (`device_client.mqtt.TOO_LONG`), the same is asked without the job's document, and to
be sure that this is the job that was too long, with it once more: then it is NEXT with its `bound`.

Source: AWS IoT developer guide, "Jobs device MQTT API"; DEVICES "Jobs and OTA".
"""

import json

from device_client.mqtt import TOO_LONG

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from typing import Any

NEXT, ACCEPTED, REFUSED = "next", "accepted", "refused"

QUEUED, IN_PROGRESS = "QUEUED", "IN_PROGRESS"
SUCCEEDED, FAILED, REJECTED = "SUCCEEDED", "FAILED", "REJECTED"

FIRST_WAIT, LONGEST_WAIT = 4000, 300000  # milliseconds for an answer
MAX_TRIES = 8  # of one update: nine minutes
GAP = 3600000  # milliseconds between two looks at what is next, though nothing was told
_PASSING = ("RequestThrottled", "InternalError")  # that say: try again


class NoAnswer(Exception):
    """An update was sent MAX_TRIES times and not answered. Whether it was taken, the next execution tells."""


class Execution:
    """A job on this thing, as the service tells it. ValueError for fields that are not of AWS's types.

    `number`: its try of the job, from 1; `version`: what `expected_version` means; `details`: what was last
    reported, text to text; `document`: the job document, or None where it was left out; `bound`: bytes of the
    buffer that a message with that document does not fit, as text, else empty.
    """

    bound = ""

    def __init__(self, fields: "dict[str, Any]") -> None:
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        self.job_id: str = fields.get("jobId") or ""
        self.status: str = fields.get("status") or ""
        self.number: int = fields.get("executionNumber", 1)
        self.version: int = fields.get("versionNumber", 0)
        self.details: dict[str, str] = fields.get("statusDetails") or {}
        self.document: dict[str, Any] | None = fields.get("jobDocument")
        for value, kind in (
            (self.job_id, str),
            (self.status, str),
            (self.number, int),
            (self.version, int),
            (self.details, dict),
            (self.document or {}, dict),
        ):
            if not isinstance(value, kind) or value == "":
                raise ValueError("not an execution")

    @property
    def key(self) -> "tuple[str, int]":
        """What tells it from all others of this thing."""
        return self.job_id, self.number


class Jobs:
    """The machine; see the module. `token`: text of 1 to 50 bytes, new for each run."""

    def __init__(self, thing: str, token: str, now: int, gap: int = GAP) -> None:
        self.foreign = self.malformed = 0  # answers to others, and what is no answer
        self._base = "$aws/things/" + thing + "/jobs/"
        # To be granted before `connected`, at QoS 0 or 1.
        self.topics = [
            self._base + name for name in ("notify-next", "$next/get/+", "start-next/+", "+/update/+")
        ]
        self._token, self._count, self._gap = token, 0, gap
        self._up = self._start = self._changed = False
        self._asked = ""  # token of the question that is under way
        self._bound = ""  # it is asked without the document, which did not fit this
        self._suspect: tuple[str, int] | None = None  # execution that was next after an answer was too long
        self._ask_at, self._ask_wait = now, FIRST_WAIT
        self._update: tuple[str, bytes, str] | None = None  # topic, payload, token
        self._update_at = self._update_wait = self._tries = 0

    @property
    def deadline(self) -> int:
        """When `poll` has something to do though nothing happens; while there is no session, nothing has."""
        return min(self._ask_at, self._update_at) if self._update else self._ask_at

    def connected(self, now: int) -> None:
        """A session stands and `topics` are granted: asks what is next, and what is not answered again."""
        self._up = True
        self._ask_at, self._ask_wait = now, FIRST_WAIT
        self._update_at, self._update_wait, self._tries = now, FIRST_WAIT, 0

    def disconnected(self) -> None:
        """The session is gone; nothing is sent until `connected`."""
        self._up = False

    def ask(self, now: int, start: bool = False) -> None:
        """Have the next `poll` after `now` ask what is next; `start`: and take it (StartNextPendingJob…).

        A job that was only looked at can still be refused as never begun.
        """
        self._ask_at, self._ask_wait, self._start, self._asked = now, FIRST_WAIT, start, ""
        self._changed, self._bound = False, ""

    def update(
        self,
        execution: Execution,
        status: str,
        details: "dict[str, str]",
        now: int,
        expected_version: "int | None" = None,
    ) -> None:
        """Report `status` (IN_PROGRESS, SUCCEEDED, FAILED, REJECTED) of that very try of the job.

        `details`: at most ten, keys of 1 to 128 of [a-zA-Z0-9:_-], values of 1 to 1024 characters. With
        `expected_version`, it is refused (VersionMismatch) unless the execution has that version; an update
        that is sent again, because the answer to it was lost, is then refused too.
        """
        fields: dict[str, Any] = {"status": status, "statusDetails": details}
        fields["executionNumber"] = execution.number
        if expected_version is not None:
            fields["expectedVersion"] = expected_version
        token = fields["clientToken"] = self._next_token()
        topic = self._base + execution.job_id + "/update"
        self._update = topic, json.dumps(fields).encode(), token
        self._update_at, self._update_wait, self._tries = now, FIRST_WAIT, 0

    def forget(self) -> None:
        """The update that is under way, if any, matters no more."""
        self._update = None

    def poll(self, now: int) -> "list[tuple[str, bytes]]":
        """(topic, payload) of each message to send. Raises NoAnswer, once for an update."""
        out: list[tuple[str, bytes]] = []
        if not self._up:
            return out
        if now >= self._ask_at:
            # The same token while it is the same question: the answer to any of them will do.
            self._asked = self._asked or self._next_token()
            verb = "start-next" if self._start else "$next/get"
            fields: dict[str, Any] = {"clientToken": self._asked}
            if self._bound:
                fields["includeJobDocument"] = False
            out.append((self._base + verb, json.dumps(fields).encode()))
            self._ask_at = now + self._ask_wait
            self._ask_wait = min(LONGEST_WAIT, 2 * self._ask_wait)
        if self._update and now >= self._update_at:
            if self._tries == MAX_TRIES:
                self._update = None
                raise NoAnswer(f"an update was not answered {MAX_TRIES} times")
            out.append(self._update[:2])
            self._tries += 1
            self._update_at = now + self._update_wait
            self._update_wait = min(LONGEST_WAIT, 2 * self._update_wait)
        return out

    def receive(
        self, name: str, payload: "bytes | bytearray | memoryview", now: int
    ) -> "tuple[str, Execution | None] | tuple[str, str, str] | None":
        """A message came: (NEXT, execution or None), (ACCEPTED, None), (REFUSED, code, message) or None.

        What does not answer this run is counted and ignored.
        """
        too_long = name.startswith(TOO_LONG)
        if too_long:
            name = name[len(TOO_LONG) :]
        if not name.startswith(self._base):
            return None
        *what, answer = name[len(self._base) :].split("/")
        if answer == "notify-next":
            # What it says may be late, and lacks what was reported: it is asked, as AWS's OTA SDK does.
            if self._asked:
                self._changed = True  # the answer to come may be of before
            else:
                self.ask(now)
            return None
        if too_long and answer == "accepted" and what[-1] != "update" and self._asked and not self._bound:
            self.ask(now)  # one that was to be taken at once is taken by now
            self._bound = str(payload, "utf-8")
        if too_long or answer not in ("accepted", "rejected"):
            return None
        try:
            fields = json.loads(str(payload, "utf-8"))
            if not isinstance(fields, dict):
                raise ValueError("not a JSON object")
            if what[-1] == "update":
                return self._updated(fields, answer)
            return self._answered(fields, answer, now)
        except (ValueError, RuntimeError):  # RuntimeError: nested past the interpreter's stack
            self.malformed += 1
            return None

    def _answered(
        self, fields: "dict[str, Any]", answer: str, now: int
    ) -> "tuple[str, Execution | None] | None":
        if not self._asked or fields.get("clientToken") != self._asked:
            self.foreign += 1
        elif answer == "accepted":
            found = fields.get("execution")
            execution = Execution(found) if found else None
            before, bound = self._suspect, self._bound
            self._suspect = execution.key if execution and bound else None
            if execution and bound:
                if self._suspect != before:
                    self.ask(now)
                    return None
                execution.bound = bound
            self.ask(now if self._changed else now + self._gap)
            return NEXT, execution
        return None  # a refusal passes, or an operator has to see to it: the question comes again

    def _updated(
        self, fields: "dict[str, Any]", answer: str
    ) -> "tuple[str, Execution | None] | tuple[str, str, str] | None":
        if self._update is None or fields.get("clientToken") != self._update[2]:
            self.foreign += 1
            return None
        code = str(fields.get("code"))
        if answer == "rejected" and code in _PASSING:
            return None
        self._update = None
        return (ACCEPTED, None) if answer == "accepted" else (REFUSED, code, str(fields.get("message")))

    def _next_token(self) -> str:
        self._count += 1
        return f"{self._token}-{self._count}"
