"""Jobs of one thing as AWS's guide and DEVICES "Jobs and OTA" have them, in a page and without ours."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Message = tuple[str, bytes]

ENDED = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED")


@dataclass
class Try:
    """An execution."""

    job_id: str
    document: dict[str, Any]
    number: int = 1
    status: str = "QUEUED"
    version: int = 1
    details: dict[str, str] = field(default_factory=dict)
    history: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def shown(self, *, document: bool = True) -> dict[str, Any]:
        return {
            "jobId": self.job_id,
            "status": self.status,
            "queuedAt": 1,
            "lastUpdatedAt": 1,
            "versionNumber": self.version,
            "executionNumber": self.number,
            **({"statusDetails": self.details} if self.details else {}),
            **({"jobDocument": self.document} if document else {}),
        }


class JobsService:
    """Answers what a device says on its jobs topics; `told` collects what is pushed unasked."""

    def __init__(self, thing: str) -> None:
        self.base = f"$aws/things/{thing}/jobs/"
        self.tries: list[Try] = []
        self.told: list[Message] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.refuse: Callable[[dict[str, str]], str] = lambda _details: ""  # code for an update

    def create(self, job_id: str, document: dict[str, Any]) -> Try:
        return self._add(Try(job_id, document))

    def end(self, one: Try, status: str, *, again: bool = False) -> None:
        """By the operator or a timer; `again`: it is tried again (jobExecutionsRetryConfig)."""
        before = self.next()
        one.status, one.version = status, one.version + 1
        if again:
            self.tries.append(Try(one.job_id, one.document, one.number + 1))
        self._tell(before)

    def next(self) -> Try | None:
        begun = [one for one in self.tries if one.status == "IN_PROGRESS"]
        queued = [one for one in self.tries if one.status == "QUEUED"]
        return next(iter(begun + queued), None)

    def answers(self, topic: str, payload: bytes) -> list[Message]:
        """What a message is answered with; nothing unless it is a request on jobs topics."""
        if not topic.startswith(self.base):
            return []
        what = topic[len(self.base) :]
        if what not in ("$next/get", "start-next") and not what.endswith("/update"):
            return []
        request = json.loads(payload)
        self.requests.append((what, request))
        token = {"clientToken": request["clientToken"], "timestamp": 1}
        if what.endswith("/update"):
            return [self._update(what, request, token)]
        found = self.next()
        if found and what == "start-next" and found.status == "QUEUED":
            found.status, found.version = "IN_PROGRESS", found.version + 1
        shown = found and found.shown(document=request.get("includeJobDocument", True))
        body = token | ({"execution": shown} if shown else {})
        return [self._say(f"{what}/accepted", body)]

    def _update(self, what: str, request: dict[str, Any], token: dict[str, Any]) -> Message:
        job_id = what.removesuffix("/update")
        tries = [one for one in self.tries if one.job_id == job_id]
        number = request.get("executionNumber", len(tries))
        found = next((one for one in tries if one.number == number), None)
        code = self.refuse(request["statusDetails"])
        if not code and found is None:
            code = "ResourceNotFound"
        elif not code and found and found.status in ENDED:
            code = "InvalidStateTransition"
        elif not code and found and int(request.get("expectedVersion", found.version)) != found.version:
            code = "VersionMismatch"
        if code:
            return self._say(f"{what}/rejected", token | {"code": code, "message": "why"})
        assert found is not None
        details = request["statusDetails"]
        assert len(details) <= 10
        assert all(isinstance(value, str) and 1 <= len(value) <= 1024 for value in details.values())
        before = self.next()
        found.status, found.details, found.version = request["status"], details, found.version + 1
        found.history.append((found.status, details))
        self._tell(before)
        return self._say(f"{what}/accepted", token)

    def _add(self, one: Try) -> Try:
        before = self.next()
        self.tries.append(one)
        self._tell(before)
        return one

    def _tell(self, before: Try | None) -> None:
        after = self.next()
        if after is not before:
            self.told.append(
                self._say("notify-next", {"timestamp": 1, "execution": after.shown() if after else {}})
            )

    def _say(self, what: str, body: dict[str, Any]) -> Message:
        return self.base + what, json.dumps(body, separators=(",", ":")).encode()


def ota_document(stream: str, size: int, signature: bytes, **changes: Any) -> dict[str, Any]:
    """As AWS makes it; `changes` to its one file, None leaves a member out."""
    file = {
        "filepath": "/device/updates/fw.bin",
        "filesize": size,
        "fileid": 0,
        "certfile": "/certs/signer.pem",
        "fileType": 0,
        "sig-sha256-ecdsa": base64.b64encode(signature).decode(),
    } | changes
    file = {name: value for name, value in file.items() if value is not None}
    return {"afr_ota": {"protocols": ["MQTT"], "streamname": stream, "files": [file]}}
