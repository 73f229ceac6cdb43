"""A service as PROTOCOL has it, in a page and without ours: what the device library is tested against."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import cbor2

Message = tuple[str, bytes]


class Service:
    """Answers the requests for one stream; `files` maps file ids to contents."""

    def __init__(self, files: dict[int, bytes], version: int = 1) -> None:
        self.files = files
        self.version = version
        self.requests: list[dict[str, Any]] = []
        self.refuse: tuple[str, str] | None = None  # code and message for every GetStream

    def answers(self, topic: str, payload: bytes) -> list[Message]:
        """What a message on `topic` is answered with, in order; nothing unless it is a request."""
        *path, verb, encoding = topic.split("/")
        if verb not in ("describe", "get"):
            return []
        request = json.loads(payload) if encoding == "json" else cbor2.loads(payload)
        token = {"c": request["c"]} if "c" in request else {}
        if verb == "describe":
            files = [{"f": number, "z": len(data)} for number, data in sorted(self.files.items())]
            found: Iterator[tuple[str, dict[str, Any]]] = iter(
                [("description", {"s": self.version, "r": files})]
            )
        else:
            self.requests.append(request)
            found = self._get(request)
        return [
            ("/".join([*path, verb, encoding]), self._encode(encoding, token | fields))
            for verb, fields in found
        ]

    def _get(self, request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        size, offset, limit = request["l"], request.get("o", 0), request.get("n", 0)
        data = self.files.get(request["f"], b"")
        assert 256 <= size <= 131072
        assert 0 <= offset <= 98304
        assert 0 <= limit <= 98304
        bits = request.get("b")
        if isinstance(bits, str):
            bits = bytes.fromhex(bits)
        assert bits is None or (0 < len(bits) < 12288 and any(bits))
        if self.refuse:
            yield "rejected", {"o": self.refuse[0], "m": self.refuse[1]}
            return
        if request.get("s", self.version) != self.version:
            yield "rejected", {"o": "VersionMismatch", "m": "s is not the stream's version"}
            return
        count = -(-len(data) // size)
        reach = range(len(bits) * 8) if bits is not None else range(98304)
        wanted = [
            offset + bit
            for bit in reach
            if offset + bit < count and (bits is None or bits[bit // 8] >> bit % 8 & 1)
        ]
        if not wanted:
            yield "rejected", {"o": "ResourceNotFound", "m": "no wanted block exists"}
        for index in wanted[: min(limit or 131072, 131072 // size)]:
            block = data[index * size : (index + 1) * size]
            yield "data", {"f": request["f"], "l": len(block), "i": index, "p": block}

    @staticmethod
    def _encode(encoding: str, fields: dict[str, Any]) -> bytes:
        if encoding == "cbor":
            return cbor2.dumps(fields)
        if "p" in fields:
            fields = fields | {"p": base64.b64encode(fields["p"]).decode()}
        return json.dumps(fields, separators=(",", ":")).encode()
