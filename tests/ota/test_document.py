"""The job document, byte by byte as firmware with AWS's libraries expects it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.downloads import placeholders
from broker_bridge.ota.document import check_text, document
from broker_bridge.ota.errors import InvalidUpdate
from broker_bridge.ota.update import Signature, UpdateFile, new_stream_id
from broker_bridge.storage.locations import Location
from broker_bridge.storage.objects import ObjectRef

SIGNATURE = Signature(key="sig-sha256-ecdsa", text="MEUC+/=", certificate_path="/certs/signer.pem")
START = '{"afr_ota":{"protocols":'
FILE = '{"filepath":"/fw.bin","filesize":300123,"fileid":0'


def a_file(path: str = "/fw.bin", file_type: int | None = 0, version: str | None = None) -> UpdateFile:
    ref = ObjectRef("firmware", "a b/fw.bin", "e7a9", version)
    return UpdateFile(file_id=0, path=path, file_type=file_type, object=ref, size=300123)


def test_over_mqtt() -> None:
    text = document([(a_file(), SIGNATURE)], protocols=["MQTT"], stream_id="AFR_OTA-s", region="r")
    assert text == (
        START + '["MQTT"],"streamname":"AFR_OTA-s","files":[' + FILE + ',"certfile":"/certs/signer.pem",'
        '"fileType":0,"sig-sha256-ecdsa":"MEUC+/="}]}}'
    )


@pytest.mark.parametrize(
    ("version", "end"), [(None, "?etag=e7a9"), ("v1", "?versionId=v1")], ids=["etag", "version"]
)
def test_over_http(version: str | None, end: str) -> None:
    text = document(
        [(a_file(version=version), SIGNATURE)], protocols=["HTTP"], stream_id=None, region="eu-north-1"
    )
    url = "https://s3.eu-north-1.amazonaws.com/firmware/a%20b/fw.bin" + end
    assert text == (
        START + '["HTTP"],"files":[' + FILE + ',"certfile":"/certs/signer.pem","fileType":0,'
        '"update_data_url":"${aws:iot:s3-presigned-url-v2:' + url + '}",'
        '"auth_scheme":"aws.s3.presigned","sig-sha256-ecdsa":"MEUC+/="}]}}'
    )


@given(st.text(min_size=1, max_size=30), st.booleans())
def test_urls_stand_for_the_very_object(key: str, versioned: bool) -> None:
    ref = ObjectRef("firmware", key, "e7a9", "v.1_x" if versioned else None)
    file = UpdateFile(file_id=0, path="/fw.bin", object=ref, size=1)
    text = document([(file, None)], protocols=["HTTP"], stream_id=None, region="r")
    (found,) = placeholders.named(text)
    assert found == Location("firmware", key, ref.version_id, None if versioned else "e7a9")


def test_over_both_the_device_chooses() -> None:
    members = json.loads(document([(a_file(), None)], protocols=["HTTP", "MQTT"], stream_id="s", region="r"))[
        "afr_ota"
    ]
    assert list(members) == ["protocols", "streamname", "files"]
    assert members["protocols"] == ["HTTP", "MQTT"]
    assert members["files"][0].keys() >= {"update_data_url", "auth_scheme", "filepath"}
    assert "certfile" not in members["files"][0]


def test_the_protocols_fit_the_room_that_devices_have_for_them() -> None:
    text = document([(a_file(), None)], protocols=["MQTT", "HTTP"], stream_id="s", region="r")
    raw = text[text.index("[") : text.index("]") + 1]
    assert len(raw) <= 19


@given(st.text(max_size=40))
def test_no_text_reaches_a_device_with_an_escape(path: str) -> None:
    try:
        check_text("fileName", path)
    except InvalidUpdate:
        assert not path or any(char in '"\\' or ord(char) < 0x20 for char in path)
        return
    text = document([(a_file(path), None)], protocols=["MQTT"], stream_id="s", region="r")
    assert f'"filepath":"{path}"' in text
    assert json.loads(text)["afr_ota"]["files"][0]["filepath"] == path


def test_a_document_that_no_job_may_have() -> None:
    files = [(a_file("/" + "x" * 2000), None)] * 20
    with pytest.raises(InvalidUpdate, match="over the maximum of 32768"):
        document(files, protocols=["MQTT"], stream_id="s", region="r")


def test_streams_fit_the_buffer_of_aws_s_c_library() -> None:
    assert len(new_stream_id()) == 44
    assert new_stream_id() != new_stream_id()
