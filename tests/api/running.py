"""The API as it runs: uvicorn on a real socket, a registry in SQLite, a store of objects."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError

from broker_bridge.api import jobs_data, server
from broker_bridge.api.app import Api
from broker_bridge.api.context import Context
from broker_bridge.api.iot import SERVICE
from broker_bridge.api.service import Service
from broker_bridge.jobs import showing
from broker_bridge.ota.signing import Profile
from broker_bridge.registry.registry import Registry
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectStore
from chunker.limits import Limits
from tests.support.waiting import wait_until

REGION, ACCOUNT = "eu-central-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"


@dataclass
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.headers.get("x-amzn-errortype", "")


@dataclass
class Running:
    """A running API. `close` ends it."""

    folder: Path
    store: ObjectStore | None = None
    services: Sequence[Service] = (SERVICE, jobs_data.SERVICE)
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    render: showing.Render = showing.as_it_is
    signing: Mapping[str, Profile] = field(default_factory=dict)
    health: Callable[[], tuple[bool, dict[str, Any]]] = field(default=lambda: (True, {"broker": "connected"}))

    def __post_init__(self) -> None:
        self.objects = self.folder / "objects"
        self.registry = Registry.open(f"sqlite:///{self.folder / 'registry.db'}")
        self.context = Context(
            registry=self.registry,
            store=self.store or FolderStore(self.objects),
            limits=self.limits,
            region=REGION,
            account=ACCOUNT,
            advertise="broker.example:1883",
            token_key=self.registry.secret("api-token"),
            clock=self.clock,
            render=self.render,
            signing=self.signing,
        )
        self.api = Api(self.services, self.context, health=lambda: self.health(), metrics=lambda: b"up 1\n")
        self._server = uvicorn.Server(server.config(self.api, "127.0.0.1", 0))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), what="uvicorn's start")
        assert self._server.started

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._socket.close()
        self.context.store.close()
        self.registry.close()

    def client(self, validate: bool = True, service: str = "iot", region: str = REGION) -> Any:
        """A boto3 client that tries once."""
        return boto3.client(
            service,  # type: ignore[call-overload,unused-ignore]
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(parameter_validation=validate, retries={"total_max_attempts": 1}),
        )

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """An object in the folder store."""
        path = self.objects / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, its target as it stands, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        finally:
            connection.close()


def file_entry(file_id: int = 0, bucket: str = "firmware", key: str = "app.bin") -> dict[str, Any]:
    """A StreamFile."""
    return {"fileId": file_id, "s3Location": {"bucket": bucket, "key": key}}


def arn(name: str, kind: str = "stream") -> str:
    """A resource's ARN in the running API."""
    return f"arn:aws:iot:{REGION}:{ACCOUNT}:{kind}/{name}"


def refused(call: Callable[[], Any]) -> tuple[str, str, int]:
    """Code, message and HTTP status of the error that a boto3 call raises."""
    with pytest.raises(ClientError) as caught:
        call()
    response: Any = caught.value.response
    assert response["ResponseMetadata"]["RequestId"]
    said = response["Error"]
    return said["Code"], said["Message"], response["ResponseMetadata"]["HTTPStatusCode"]
