"""What the tests of delivery are made of."""

from datetime import UTC, datetime

from broker_bridge.delivery.scheduler import Wanted
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.storage.objects import ObjectRef
from chunker.answers import BlockHeads, block_prefix
from chunker.requests import GetRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_stream(stream_id: str, version: int = 1, size: int = 1 << 40) -> Stream:
    """A stream with one file, 0, of `size` bytes."""
    file = StreamFile(0, ObjectRef("bucket", stream_id, f"etag-{version}"), size)
    return Stream(stream_id, version, None, "arn", (file,), NOW, NOW)


def make_wanted(
    blocks: list[int],
    *,
    stream: Stream | None = None,
    block_size: int = 4096,
    token: str | None = None,
    encoding: str = "cbor",
) -> Wanted:
    """A request for those blocks, ascending."""
    stream = stream or make_stream("stream")
    file = stream.files[0]
    return Wanted(
        GetRequest(token, None, 0, block_size, blocks[0], len(blocks), None),
        encoding,
        stream,
        file,
        blocks,
        heads=BlockHeads(encoding, 0, block_size, file.size),
        prefix=block_prefix(encoding, token),
        topic=b"topic",
        arrived=0.0,
    )
