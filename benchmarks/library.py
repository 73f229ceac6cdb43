"""200 files and 500 devices that read here and there, with a cache that holds a fortieth of it all."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.fleet import stamped
from benchmarks.report import MB, Goal, Row
from benchmarks.rig import STREAM, MemoryWatch, Program, Service, Workshop, workshop

FILES, DEVICES, SIZE, SECONDS = 200, 500, 50 * MB, 10
BLOCK_SIZE = 65536
FILES_A_STREAM = 50
CACHE_MB = 256
AROUND_MB = 168
"""What a worker may need besides its cache: 200 MB in all with the default cache."""


def run(quick: bool) -> list[Row]:
    """Three rows of one run; each device reads a MiB at random from a random file, checks it, and goes on."""
    files, devices, size, seconds = (10, 50, 10 * MB, 3) if quick else (FILES, DEVICES, SIZE, SECONDS)
    cache = CACHE_MB * MB // (50 if quick else 1)
    with workshop(0) as shop, shop.broker() as broker:
        for number in range(files):
            _write(_object(shop, number), number, size)
        with shop.service(broker.url, cache_size=cache) as service:
            _create(service, files)
            spec = {
                "stream": STREAM,
                "size": size,
                "block_size": BLOCK_SIZE,
                "plan": "random",
                "files": files,
            }
            with (
                MemoryWatch(service.pid) as memory,
                Program("fleet", host=broker.host, port=broker.port, devices=devices, **spec) as fleet,
            ):
                began = fleet.ask("go")
                time.sleep(seconds)
                ended = fleet.ask("count", 60)
            read = service.metric("sluice_store_read_bytes_total")
            rejected = service.metric("sluice_rejections_total")
    what = f"{files} files, {devices} devices at random: "
    delivered = ended["blocks"] * BLOCK_SIZE
    rate = delivered / (ended["at"] - began["at"])
    bound = round(cache / MB) + AROUND_MB
    return [
        Row(
            what + "failures",
            len(ended["failed"]) + rejected,
            "",
            goal=Goal("<=", 0, ""),
            note="; ".join(ended["failed"][:3]) or f"{delivered / MB:,.0f} MB delivered and compared",
        ),
        Row(
            what + "memory",
            memory.peak / MB,
            "MB",
            goal=Goal("<=", bound, "MB"),
            note=f"cache {cache // MB} MB",
        ),
        Row(
            what + "read from the store",
            read / delivered,
            "× delivered",
            note=f"{read / MB:,.0f} MB for {delivered / MB:,.0f} MB, {rate / MB:,.0f} MB/s",
        ),
    ]


def _object(shop: Workshop, number: int) -> Path:
    return shop.state / "objects" / "firmware" / f"file-{number}"


def _write(path: Path, number: int, size: int) -> None:
    """A file of zeros but for a stamp at the start of each block: sparse, and no two blocks alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        for index in range(-(-size // BLOCK_SIZE)):
            os.pwrite(file.fileno(), stamped(number, index), index * BLOCK_SIZE)


def _create(service: Service, files: int) -> None:
    """Streams of 50 files; at once, since each file is hashed first."""
    client: Any = boto3.client(
        "iot",
        endpoint_url=service.http,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=Config(read_timeout=300, retries={"total_max_attempts": 1}),
    )

    def create(first: int) -> None:
        numbers = range(first, min(first + FILES_A_STREAM, files))
        entries = [
            {"fileId": number - first, "s3Location": {"bucket": "firmware", "key": f"file-{number}"}}
            for number in numbers
        ]
        role = "arn:aws:iam::000000000000:role/bench"
        client.create_stream(streamId=f"{STREAM}{first // FILES_A_STREAM}", files=entries, roleArn=role)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(0, files, FILES_A_STREAM)))
