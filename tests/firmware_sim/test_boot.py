"""The loader runs what is genuine and newest, tries what is asked for, and goes back."""

import random
import struct
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.boot.image import (
    BadSignature,
    DigestMismatch,
    Image,
    ImageError,
    NoImage,
    build,
    verify,
)
from firmware_sim.boot.loader import (
    TRIES,
    Boot,
    DowngradeRefused,
    Loader,
    NotConfirmed,
    NothingToBoot,
    slots,
)
from firmware_sim.boot.log import RECORD_BYTES, Event, LogFull, SlotLog, State
from firmware_sim.flash import TORN, Flash, FlashError, PowerCut

KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(8, ec.SECP256R1())
SECTOR, SLOT = 1024, 4096


def image(version: int, security: int = 0, key: ec.EllipticCurvePrivateKey = KEY, size: int = 1000) -> bytes:
    return build(random.Random(version).randbytes(size), version=version, security=security, key=key)


def check(data: bytes, size: int | None = None) -> Image:
    return verify(
        lambda at, length: data[at : at + length], len(data) if size is None else size, KEY.public_key()
    )


class Device:
    """A loader over a flash, with version 5 from the factory."""

    def __init__(self, security: int = 0, tries: int = TRIES) -> None:
        self.flash = Flash(2 * SLOT + 6 * SECTOR, SECTOR)
        self.slots = slots(self.flash, SLOT, 2 * SECTOR)
        self.loader = Loader(self.slots, KEY.public_key(), tries)
        self.loader.install(image(5, security))

    def boot(self) -> tuple[int, bool]:
        self.flash.power_on()
        self.running = self.loader.boot()
        return self.running.image.version, self.running.test

    def put(self, data: bytes) -> None:
        """Writes an image to the spare slot, as a download would."""
        slot = self.loader.spare(self.running)
        for sector in range(0, SLOT, SECTOR):
            slot.image.erase(sector)
        slot.image.program(0, data)

    def update(self, data: bytes) -> None:
        self.put(data)
        self.loader.request(self.running)


@pytest.fixture
def device() -> Device:
    device = Device()
    assert device.boot() == (5, False)
    return device


class TestImage:
    def test_says_what_it_is(self) -> None:
        data = image(3, 4)
        assert check(data) == Image(3, 4, len(data), sha256(data[:1016]).digest())
        assert check(data + b"\xff" * 500).size == len(data)

    def test_the_signature_is_one_that_openssl_would_make(self) -> None:
        data = image(3)
        (length,) = struct.unpack(">H", data[1048:1050])
        assert length == len(data) - 1050
        KEY.public_key().verify(data[1050:], data[:1016], ec.ECDSA(hashes.SHA256()))

    @settings(max_examples=200)
    @given(st.data())
    def test_no_bit_of_it_may_be_another(self, data: st.DataObject) -> None:
        whole = bytearray(image(3))
        place = data.draw(st.integers(0, len(whole) * 8 - 1))
        whole[place // 8] ^= 1 << place % 8
        with pytest.raises(ImageError):
            check(bytes(whole))

    @given(st.integers(0, 1119))
    def test_no_byte_may_be_missing(self, length: int) -> None:
        data = image(3)
        with pytest.raises(ImageError):
            check(data[: min(length, len(data) - 1)])

    def test_each_fault_has_its_name(self) -> None:
        data = image(3)
        with pytest.raises(NoImage, match="begins with ffffffff"):
            check(b"\xff" * 2000)
        with pytest.raises(NoImage, match="a payload of 1000 bytes does not fit 1049"):
            check(data, 1049)
        with pytest.raises(NoImage, match="3 bytes hold no header"):
            check(data[:3])
        with pytest.raises(NoImage, match="cut off"):
            check(data[:-1])
        with pytest.raises(DigestMismatch, match="the image says"):
            check(data[:500] + b"\0" + data[501:])
        with pytest.raises(BadSignature, match="version 3 is not signed"):
            check(image(3, key=OTHER_KEY))

    def test_what_cannot_be_built(self) -> None:
        with pytest.raises(ValueError, match=r"version 4294967296 is not within 0 to 4294967295"):
            image(2**32)
        with pytest.raises(ValueError, match="security counter -1"):
            image(1, -1)
        with pytest.raises(ValueError, match="secp384r1"):
            image(1, key=ec.generate_private_key(ec.SECP384R1()))


class TestLog:
    DIGEST, OTHER = b"d" * 32, b"o" * 32

    def log(self) -> SlotLog:
        self.flash = Flash(SECTOR, SECTOR)
        return SlotLog(self.flash.partition(0, SECTOR))

    def test_tells_of_one_image_at_a_time(self) -> None:
        log = self.log()
        assert log.status(self.DIGEST).state is State.UNKNOWN
        log.request(self.DIGEST, 3)
        log.append(Event.TRIED, self.DIGEST, 3)
        log.append(Event.TRIED, self.DIGEST, 3)
        status = log.status(self.DIGEST)
        assert (status.state, status.tries, log.security()) == (State.REQUESTED, 2, 0)
        log.append(Event.CONFIRMED, self.DIGEST, 3)
        assert (log.status(self.DIGEST).state, log.security()) == (State.CONFIRMED, 3)
        assert log.status(self.OTHER).state is State.UNKNOWN
        log.append(Event.REFUSED, self.DIGEST, 3)
        assert log.status(self.DIGEST).state is State.REFUSED
        log.request(self.OTHER, 4)
        assert log.status(self.DIGEST).state is State.UNKNOWN

    def test_is_full_in_the_end(self) -> None:
        log = self.log()
        for _ in range(SECTOR // RECORD_BYTES - 1):
            log.append(Event.TRIED, self.DIGEST, 0)
        with pytest.raises(LogFull, match="all 31 records"):
            log.append(Event.CONFIRMED, self.DIGEST, 0)
        assert log.status(self.DIGEST).tries == SECTOR // RECORD_BYTES - 1
        log.request(self.DIGEST, 0)
        assert log.status(self.DIGEST).tries == 0

    @pytest.mark.parametrize("torn", TORN)
    def test_a_torn_record_says_nothing_else(self, torn: str) -> None:
        for seed in range(40):
            log = self.log()
            log.append(Event.CONFIRMED, self.DIGEST, 1)
            self.flash.cut_at(1, torn, seed)
            with pytest.raises(PowerCut):
                log.append(Event.REFUSED, self.DIGEST, 9)
            self.flash.power_on()
            assert log.status(self.DIGEST).state in (State.CONFIRMED, State.REFUSED)
            log.append(Event.CONFIRMED, self.DIGEST, 2)
            assert log.status(self.DIGEST).state is State.CONFIRMED
            assert log.security() == 2

    @pytest.mark.parametrize("torn", TORN)
    @pytest.mark.parametrize("operation", [1, 2, 3])
    def test_a_request_cut_short_is_made_again(self, torn: str, operation: int) -> None:
        for seed in range(40):
            log = self.log()
            for event in Event:
                log.append(event, self.OTHER, 1)
            self.flash.cut_at(operation, torn, seed)
            with pytest.raises(PowerCut):
                log.request(self.DIGEST, 1)
            self.flash.power_on()
            assert log.status(self.DIGEST).state in (State.UNKNOWN, State.REQUESTED)
            log.request(self.DIGEST, 1)
            log.append(Event.CONFIRMED, self.DIGEST, 1)
            assert {log.status(self.DIGEST).state for _ in range(8)} == {State.CONFIRMED}

    def test_what_an_erase_left_is_not_built_upon(self) -> None:
        """Bits that are neither 0 nor 1, after a record that is whole."""
        for seed in range(400):
            log = self.log()
            log.append(Event.REQUESTED, self.DIGEST, 1)
            self.flash.cut_at(2, "weak", seed)
            with pytest.raises(PowerCut):
                log.request(self.DIGEST, 1)
            self.flash.power_on()
            if log.status(self.DIGEST).state is State.REQUESTED:
                log.append(Event.CONFIRMED, self.DIGEST, 1)
                assert {log.status(self.DIGEST).state for _ in range(8)} == {State.CONFIRMED}


def test_test_confirm_and_the_new_one_stays(device: Device) -> None:
    device.update(image(6))
    assert device.boot() == (6, True)
    device.loader.confirm(device.running)
    assert device.boot() == (6, False)
    assert device.running.slot.name == "B"
    device.update(image(7))  # and back into the first slot
    assert device.boot() == (7, True)
    assert device.running.slot.name == "A"


def test_what_never_confirms_is_reverted_and_refused(device: Device) -> None:
    device.update(image(6))
    assert [device.boot() for _ in range(TRIES + 3)] == [(6, True)] * TRIES + [(5, False)] * 3
    spare = device.loader.spare(device.running)
    assert spare.log.status(device.loader.verify(spare).digest).state is State.REFUSED
    device.loader.request(device.running)  # who asks again is served again
    assert device.boot() == (6, True)


def test_what_was_not_asked_for_is_not_run(device: Device) -> None:
    device.put(image(6))
    assert device.boot() == (5, False)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (image(6, key=OTHER_KEY), BadSignature),
        (image(6)[:-1] + b"\0", BadSignature),
        (image(6)[:600], ImageError),
        (image(5), DowngradeRefused),
        (image(4), DowngradeRefused),
    ],
    ids=["foreign", "forged", "truncated", "same", "older"],
)
def test_a_bad_image_is_refused_when_it_is_asked_for(
    device: Device, data: bytes, error: type[Exception]
) -> None:
    device.put(data)
    with pytest.raises(error):
        device.loader.request(device.running)
    assert device.boot() == (5, False)


def test_the_loader_does_not_take_the_apps_word(device: Device) -> None:
    """The image changes after it was asked for; or an app asks for what it should not."""
    device.update(image(6))
    device.put(image(6, key=OTHER_KEY))
    assert device.boot() == (5, False)
    device.put(image(4))
    spare = device.loader.spare(device.running)
    spare.log.request(device.loader.verify(spare).digest, 0)
    assert device.boot() == (5, False)
    assert spare.log.status(device.loader.verify(spare).digest).state is State.REFUSED


def test_the_security_counter_only_grows() -> None:
    device = Device(security=2)
    device.boot()
    device.put(image(9, security=1))
    with pytest.raises(DowngradeRefused, match=r"version 9 with security counter 1: .* must be 2 or more"):
        device.loader.request(device.running)
    spare = device.loader.spare(device.running)
    digest = device.loader.verify(spare).digest
    for event in (Event.REQUESTED, Event.TRIED):
        spare.log.append(event, digest, 1)
        assert device.boot() == (5, False)
    spare.log.append(Event.CONFIRMED, digest, 1)
    assert device.boot() == (5, False)


def test_a_rotten_image_falls_back_to_the_one_before(device: Device) -> None:
    device.update(image(6))
    device.boot()
    device.loader.confirm(device.running)
    device.boot()
    device.flash.power_on()
    device.slots[1].image.program(100, bytes(1))
    assert device.boot() == (5, False)
    device.flash.power_on()
    device.slots[0].image.erase(0)
    with pytest.raises(NothingToBoot, match=r"A: it begins with ffffffff.*; B: SHA-256 is"):
        device.loader.boot()


def test_but_not_to_one_with_a_lower_counter(device: Device) -> None:
    device.update(image(6, security=1))
    device.boot()
    device.loader.confirm(device.running)
    device.flash.power_on()
    device.slots[1].image.program(100, bytes(1))
    with pytest.raises(NothingToBoot, match="A: security counter 0 is under 1"):
        device.loader.boot()


def test_a_test_boot_may_not_give_up_what_it_falls_back_to(device: Device) -> None:
    device.update(image(6))
    device.boot()
    with pytest.raises(NotConfirmed, match="version 6 in slot B is not confirmed"):
        device.loader.spare(device.running)


def test_what_runs_cannot_be_written(device: Device) -> None:
    with pytest.raises(FlashError, match="protected"):
        device.running.slot.image.erase(0)


def test_a_confirmation_is_written_twice_and_no_more(device: Device) -> None:
    def confirmations(boot: Boot) -> int:
        return boot.slot.log.status(boot.image.digest).confirmations

    assert confirmations(device.running) == 1
    device.loader.spare(device.running)  # before what it would fall back to is given up
    for _ in range(3):
        assert confirmations(device.running) == 2
        device.loader.confirm(device.running)


def test_a_full_log_reverts_and_does_not_brick(device: Device) -> None:
    device.update(image(6))
    device.boot()
    log, digest = device.running.slot.log, device.running.image.digest
    for _ in range(SECTOR // RECORD_BYTES - 3):
        log.append(Event.REQUESTED, digest, 0)
    with pytest.raises(LogFull):
        device.loader.confirm(device.running)
    assert device.boot() == (5, False)
    device.loader.request(device.running)
    assert device.boot() == (6, True)
