"""Messages over a line that loses, changes, repeats and cuts: each arrives as it was sent, or not at all."""

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.serial_link import ACKNOWLEDGED, FRAME_BYTES, MESSAGE_BYTES, FrameReader, frames
from tests.nano.board import Board

REPEAT = 500
"""Milliseconds after which the sender of these tests repeats a frame."""


class Sender:
    """A gateway in the board's own time: sends a frame, repeats it until it is acknowledged, goes on.

    `harm` says what happens to a transmission, to the board and back: (kind, where).
    """

    def __init__(self, board: Board, messages: list[bytes], harm: list[tuple[str, int]]) -> None:
        self.board = board
        self.todo = deque(frame for message in messages for frame in frames(message))
        self.harm = deque(harm)
        self.reader = FrameReader()
        self.sent_at = -REPEAT
        self.longest = 0
        board.written = self.written
        board.slept = self.slept

    def through(self, data: bytes) -> bytes:
        kind, where = self.harm.popleft() if self.harm else ("whole", 0)
        bit = where % 8
        where = where // 8 % len(data)
        if kind == "lost":
            return b""
        if kind == "changed":
            return data[:where] + bytes([data[where] ^ (1 << bit)]) + data[where + 1 :]
        if kind == "cut":
            return data[:where]
        if kind == "twice":
            return data + data
        if kind == "noise":
            return bytes([where]) * (where % 40) + data
        return data

    def slept(self) -> None:
        if self.board.clock - self.sent_at >= REPEAT:
            self.reader.give_up()
            self.send()

    def send(self) -> None:
        if self.todo:
            self.sent_at = self.board.clock
            self.board.incoming += self.through(self.todo[0][1])
            self.longest = max(self.longest, len(self.board.incoming))

    def written(self, data: bytes) -> None:
        for message in self.reader.feed(self.through(data)):
            if message.topic == ACKNOWLEDGED and self.todo and message.payload == self.todo[0][0]:
                self.todo.popleft()
                self.send()


def heard(board: Board, sender: Sender) -> list[bytes]:
    """Every message that arrives until all frames were acknowledged, and nothing more comes."""
    out: list[bytes] = []
    while True:
        try:
            # Less than a repetition takes: the board gives up messages of which something is missing.
            end = board.names["message"](REPEAT - 100)
        except OSError:
            if not sender.todo:
                return out
            continue
        out.append(bytes(board.names["buffer"][:end]))


# Random bytes of random lengths: hypothesis's own would mostly fit one frame.
messages = st.builds(
    lambda size, seed: random.Random(seed).randbytes(size),
    st.integers(1, MESSAGE_BYTES),
    st.integers(0, 2**32),
)
harms = st.tuples(
    st.sampled_from(["whole", "whole", "lost", "changed", "cut", "twice", "noise"]),
    st.integers(0, 31) | st.integers(0, 40 * 8),
)


@given(st.lists(messages, min_size=1, max_size=3))
@settings(max_examples=40)
def test_a_quiet_line_brings_all(sent: list[bytes]) -> None:
    board = Board()
    sender = Sender(board, sent, [])
    assert heard(board, sender) == sent
    assert sender.longest <= 63  # the board's port holds no more


@given(st.lists(messages, min_size=1, max_size=3), st.lists(harms, max_size=30))
@settings(max_examples=200)
def test_a_bad_line_brings_nothing_else(sent: list[bytes], harm: list[tuple[str, int]]) -> None:
    board = Board()
    sender = Sender(board, sent, harm)
    came = heard(board, sender)
    assert not sender.todo, "a frame that is repeated often enough arrives"
    # A message of one frame may come twice, since nothing tells its repetition from a second message.
    assert [one for one in came if one not in sent] == []
    if not harm or all(kind in ("whole", "twice") for kind, _ in harm):
        assert [one for at, one in enumerate(came) if at == 0 or came[at - 1] != one] == [
            one for at, one in enumerate(sent) if at == 0 or sent[at - 1] != one
        ]


def fed(*pieces: bytes) -> list[bytes]:
    """What the board makes of pieces with silence between them."""
    board = Board()
    waiting = list(pieces)

    def next_piece() -> None:
        if board.clock % 200 == 0 and waiting:
            board.incoming += waiting.pop(0)

    board.slept = next_piece
    out: list[bytes] = []
    for _ in range(2):
        try:
            end = board.names["message"](300)
        except OSError:
            continue
        out.append(bytes(board.names["buffer"][:end]))
    assert not waiting
    return out


def test_what_a_damaged_frame_has_overwritten_is_not_used() -> None:
    message = bytes(range(60))
    (_, first), (_, second) = frames(message)
    # Its offset says 0 now, where the first frame lies.
    assert second[0] == 8
    damaged = b"\x00" + second[1:]
    assert fed(first, second) == [message]
    assert fed(first, damaged, second) == []
    assert fed(first, damaged, first, second) == [message]


def test_a_message_without_its_beginning_is_let_go() -> None:
    (_, first), (_, second), (_, third) = frames(bytes(range(90)))
    assert fed(second, third) == []
    assert fed(first, third) == []
    assert fed(first, second, first, second, third) == [bytes(range(90))]


def test_a_babbling_line_is_given_up() -> None:
    board = Board()
    board.slept = lambda: board.incoming.extend(b"\x55\xaa")
    with pytest.raises(OSError):
        board.names["message"](1000)


def test_a_message_over_the_buffer_is_not_taken() -> None:
    with pytest.raises(ValueError, match="321 bytes"):
        frames(bytes(MESSAGE_BYTES + 1))
    with pytest.raises(ValueError, match="0 bytes"):
        frames(b"")
    assert len(frames(bytes(MESSAGE_BYTES))) == MESSAGE_BYTES // FRAME_BYTES


class TestReader:
    """The gateway's ear."""

    def said(self, *calls: tuple[int, bytes]) -> bytes:
        board = Board()
        out = bytearray()
        board.written = out.extend
        board.names["state"][:] = [70000, 0xABCD]
        for call in calls:
            board.names["send"](*call)
        return bytes(out)

    @given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=200)), max_size=4), st.integers(1, 40))
    @settings(max_examples=30)
    def test_hears_what_is_said_in_any_pieces(self, calls: list[tuple[int, bytes]], size: int) -> None:
        data, reader, came = self.said(*calls), FrameReader(), list[Any]()
        for at in range(0, len(data), size):
            came += reader.feed(data[at : at + size])
        assert [tuple(one) for one in came] == [(topic, 70000, 0xABCD, text) for topic, text in calls]
        assert not reader.begun
        assert reader.damaged == 0

    @given(at=st.integers(0, 200), bit=st.integers(0, 7))
    def test_a_changed_bit_is_found(self, at: int, bit: int) -> None:
        data = bytearray(self.said((3, b"a request of the device")))
        data[at % len(data)] ^= 1 << bit
        reader = FrameReader()
        assert reader.feed(bytes(data)) == []
        reader.give_up()
        assert reader.damaged == 1
        # What comes after a silence is heard again.
        assert len(reader.feed(self.said((3, b"a request of the device")))) == 1

    def test_what_an_interpreter_prints_is_kept_for_the_error(self) -> None:
        reader = FrameReader()
        assert reader.feed(b"\x04Traceback (most recent call last):\r\n") == []
        reader.give_up()
        assert b"Traceback" in reader.noise
