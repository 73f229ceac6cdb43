"""`${aws:iot:s3-presigned-url…}`: what they name, and what becomes of the document around them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.downloads import placeholders
from broker_bridge.downloads.links import LinkExpired, Links
from broker_bridge.downloads.placeholders import BadPlaceholder
from broker_bridge.downloads.resolving import Resolver
from broker_bridge.storage import locations
from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.locations import Location
from broker_bridge.storage.objects import ObjectRef

ENDPOINT = "http://minio.example:9000"
V1, V2 = "${aws:iot:s3-presigned-url:", "${aws:iot:s3-presigned-url-v2:"


def the_one(document: str) -> Location:
    (found,) = placeholders.named(document, endpoint=ENDPOINT)
    return found


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://s3.amazonaws.com/my-bucket/a/b.bin", Location("my-bucket", "a/b.bin")),
        ("https://s3.eu-west-1.amazonaws.com/my-bucket/a/b.bin", Location("my-bucket", "a/b.bin")),
        ("https://s3-eu-west-1.amazonaws.com/my-bucket/a", Location("my-bucket", "a")),
        ("https://S3.amazonaws.com/my-bucket/a", Location("my-bucket", "a")),
        ("https://s3.dualstack.eu-west-1.amazonaws.com/my-bucket/a", Location("my-bucket", "a")),
        ("https://s3.cn-north-1.amazonaws.com.cn/my-bucket/a", Location("my-bucket", "a")),
        ("https://my-bucket.s3.amazonaws.com/a/b.bin", Location("my-bucket", "a/b.bin")),
        ("https://my.bucket.s3.eu-west-1.amazonaws.com/a", Location("my.bucket", "a")),
        ("http://minio.example:9000/my-bucket/a", Location("my-bucket", "a")),
        ("s3://my-bucket/a", Location("my-bucket", "a")),
        ("https://s3.amazonaws.com/my-bucket//a//", Location("my-bucket", "/a//")),
    ],
)
def test_the_shapes_of_urls(url: str, location: Location) -> None:
    assert the_one(f'{{"u":"{V1}{url}}}"}}') == location
    assert the_one(f'{{"u":"{V2}{url}}}"}}') == location


@pytest.mark.parametrize(
    ("placeholder", "location"),
    [
        # AWS's guide: the older one is not encoded and knows no versions, the newer one both
        (V1 + "https://s3.amazonaws.com/bucket/fw 1%2B+?#.bin}", Location("bucket", "fw 1%2B+?#.bin")),
        (V2 + "https://s3.amazonaws.com/bucket/fw%201%2B+%3F%7D.bin}", Location("bucket", "fw 1++?}.bin")),
        (V2 + "https://s3.amazonaws.com/bucket/k?versionId=a.b_c-D}", Location("bucket", "k", "a.b_c-D")),
        (V2 + "https://bucket.s3.amazonaws.com/k%3FversionId%3Dv%2F1}", Location("bucket", "k", "v/1")),
        (V2 + "https://s3.amazonaws.com/bucket/k?etag=0f}", Location("bucket", "k", None, "0f")),
        (V2 + "https://s3.amazonaws.com/bucket/k%3Fetag%3D0f}", Location("bucket", "k?etag=0f")),
        ("${aws:iot:s3-presigned-url-v1:https://s3.amazonaws.com/bucket/k}", Location("bucket", "k")),
        # the guide's oldest form
        (V1 + "bucket/a/k}", Location("bucket", "a/k")),
        # written with JSON's escapes
        (V1 + r"https:\/\/s3.amazonaws.com\/bucket\/\u00fc\"}", Location("bucket", 'ü"')),
        (V2 + r"https:\/\/s3.amazonaws.com\/bucket\/%C3%BC}", Location("bucket", "ü")),
    ],
)
def test_the_kinds(placeholder: str, location: Location) -> None:
    assert the_one(f'{{"u":"{placeholder}"}}') == location


@pytest.mark.parametrize(
    "placeholder",
    [
        V1 + "https://example.com/bucket/k}",
        V1 + "https://evil.example/s3.amazonaws.com/bucket/k}",
        V1 + "https://s3.amazonaws.com.evil.example/bucket/k}",
        V1 + "https://user@s3.amazonaws.com/bucket/k}",
        V1 + "https://s3.amazonaws.com:444/bucket/k}",
        V1 + "http://minio.example:9001/bucket/k}",
        V1 + "https://s3.amazonaws.com/bucket/}",
        V1 + "https://s3.amazonaws.com/bucket}",
        V1 + "https://s3.amazonaws.com//k}",
        V1 + "ftp://bucket/k}",
        V1 + "file:///etc/passwd}",
        V1 + "bucket}",
        V1 + "}",
        V1 + "https://s3.amazonaws.com/bucket/k",
        V1 + r"https://s3.amazonaws.com/bucket/\ud800}",
        V1 + r"https://s3.amazonaws.com/bucket/\x}",
        V2 + "https://s3.amazonaws.com/bucket/k?versionId=}",
        V2 + "https://s3.amazonaws.com/bucket/k?versionId=a&x=1}",
        V2 + "https://s3.amazonaws.com/bucket/k?x=1}",
        V2 + "https://s3.amazonaws.com/bucket/k?x=1&versionId=a}",
        V2 + "https://s3.amazonaws.com/bucket/k#a}",
        V2 + "https://s3.amazonaws.com/bucket/%FF}",
        V2 + "https://s3.amazonaws.com/a%2Fb/k}",
        V2 + "https://s3.amazonaws.com/bucket/k?etag=%0A}",
        "${aws:iot:s3-presigned-url-v3:https://s3.amazonaws.com/bucket/k}",
        "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/bucket/k}",
        "${aws:iot:s3-presigned-url}",
    ],
)
def test_what_names_no_object(placeholder: str) -> None:
    document = f'{{"u":"{placeholder}"}}'
    with pytest.raises(BadPlaceholder, match="s3-presigned-url"):
        list(placeholders.named(document, endpoint=ENDPOINT))
    assert placeholders.replace(document, lambda one: pytest.fail(str(one)), endpoint=ENDPOINT) == document


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(names.filter(lambda name: "/" not in name), names, st.sampled_from(["version", "etag"]), names)
def test_what_pins_an_object_is_read_back(bucket: str, key: str, by: str, pin: str) -> None:
    if by == "etag":
        pin = pin.encode().hex()
    location = Location(bucket, key, pin if by == "version" else None, pin if by == "etag" else None)
    url = locations.path_style(location, "eu-west-1")
    # Whether it is dumped as it is or with all of JSON's escapes.
    for ascii_only in (True, False):
        assert the_one(json.dumps({"u": f"{V2}{url}}}"}, ensure_ascii=ascii_only)) == location


@given(values, values, st.booleans())
def test_nothing_else_in_a_document_is_touched(before: Any, after: Any, spaced: bool) -> None:
    url = "https://fw.example/objects/b/k?etag=0f&expires=1"
    separators = (", ", ": ") if spaced else (",", ":")

    def text(value: str) -> str:
        return json.dumps({"a": before, "u": [value, f"x{value}y"], "z": after}, separators=separators)

    document = text(V1 + "https://s3.amazonaws.com/bucket/k}")
    if "s3-presigned-url" in json.dumps([before, after]):
        return
    assert placeholders.replace(document, lambda _: url) == text(url)


class TestResolver:
    """From a document to what a device gets."""

    @pytest.fixture
    def resolver(self, tmp_path: Path) -> Resolver:
        (tmp_path / "bucket").mkdir()
        (tmp_path / "bucket" / "fw.bin").write_bytes(b"firmware")
        return Resolver(FolderStore(tmp_path), Links(b"k" * 32, "http://h"), clock=lambda: 1000.7)

    def opened(self, url: str, now: float) -> ObjectRef:
        path, _, query = url.removeprefix("http://h").partition("?")
        return Links(b"k" * 32, "").open(path, query, now)

    def test_the_url_is_of_the_bytes_that_are_there_and_expires(self, resolver: Resolver) -> None:
        url = resolver.resolve(V1 + "s3://bucket/fw.bin}", 60)
        md5 = hashlib.md5(b"firmware").hexdigest()
        assert self.opened(url, 1059) == ObjectRef("bucket", "fw.bin", md5)
        with pytest.raises(LinkExpired):
            self.opened(url, 1060)

    def test_what_is_pinned_is_not_looked_for(self, resolver: Resolver) -> None:
        url = resolver.resolve(V2 + "s3://bucket/gone?etag=0f}", 60)
        assert self.opened(url, 1001) == ObjectRef("bucket", "gone", "0f")

    @pytest.mark.parametrize("missing", ["s3://bucket/gone", "s3://gone/fw.bin", "s3://bucket/../x"])
    def test_what_is_missing_gets_an_url_of_nothing(self, resolver: Resolver, missing: str) -> None:
        assert self.opened(resolver.resolve(f"{V1}{missing}}}", 60), 1001).etag == "none"

    def test_a_version_of_what_has_none_gets_an_url_of_nothing(self, resolver: Resolver) -> None:
        url = resolver.resolve(V2 + "s3://bucket/fw.bin?versionId=1}", 60)
        assert self.opened(url, 1001).etag == "none"

    @given(st.lists(st.sampled_from([V1, V2, "s3://bucket/", "fw.bin", "%FF", "?etag=", "\\", "}", "\n"])))
    def test_no_document_is_too_strange(self, pieces: list[str]) -> None:
        resolver = Resolver(FolderStore(Path("/nowhere")), Links(b"k" * 32, "http://h"))
        document = "".join(pieces)
        assert resolver.resolve(document, 60).count("${") <= document.count("${")

    def test_a_document_without_placeholders_is_the_same(self, resolver: Resolver) -> None:
        document = '{"operation":"reboot","p":"${aws:iot:parameter:x}"}'
        assert resolver.resolve(document, 60) is document
