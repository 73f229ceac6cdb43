"""One file's download as a state machine without I/O. Part of the device set: runs on MicroPython.

The caller owns socket, clock (integer milliseconds that do not go back) and storage. It says what happened,
sends what `poll` returns, calls `poll` after every message and at `deadline`, and acts on the event that
`receive` returns, until `state` is DONE. A machine that has raised is spent.

    DESCRIBED  version and size are known: make room for the file, unless `resumed` blocks of it are there
    BLOCK      write `data` at `offset` now: from here on the block counts as held

Blocks are asked for in windows: disjoint ranges of which one request's bitmap names what is missing. How much
may be in flight is the budget, `in_flight` blocks, or what the link carries (`device_client.flow`), whichever
is less; once a request's worth is free, the next one goes out. A service answers in order: what is missing
when later windows' blocks come is asked for again soon, and so is what brings nothing for a few round trips;
such waits double up to 16 seconds while nothing new comes. While the caller has set `busy`, and within `gap`
milliseconds of a request, none goes out.

All requests of a run carry its token and only answers with it count: a block does not say its version, so one
that an earlier run asked for must not be taken. It is not a token for each request, since a service may leave
out blocks that still wait for the same token.
"""

from chunker.bitmap import find, flip, ones, test
from chunker.blocks import block_count, block_length
from chunker.messages import decode_answer, encode_request
from chunker.topics import JSON, topic
from device_client.errors import BlockSizeError, DownloadTimeout, Rejected
from device_client.flow import FIRST_WAIT, Flow

DESCRIBING, FETCHING, DONE = "describing", "fetching", "done"
DESCRIBED, BLOCK = "described", "block"

MAX_BLOCKS = 98305  # that GetStream's `o` (at most 98304) reaches: PROTOCOL "Quotas"
REQUEST_BYTES = 131072  # that one request is answered with: PROTOCOL "GetStream"
MAX_BITS = 12287 * 8  # of one request's bitmap: PROTOCOL has it under 12288 bytes
MAX_IN_FLIGHT = 900  # blocks, unless told: brokers keep 1000 messages for a device that is slow to read
MAX_REQUESTS = 16  # full ones: our service lets so many of a thing wait, and drops the rest
LEAST_BYTES = 16384  # in flight, or two blocks, where the budget has them: what a download begins with
LONGEST_WAIT = 16000
MAX_FAILURES = 3  # InternalErrors, two seconds or more apart and nothing new between, that are waited out
_BLIND = ("InvalidTopic", "InvalidCbor", "InvalidJson")  # refused before a token could be read


def choose_block_size(size: int, budget: int, block_size: int = 0) -> int:
    """`block_size`, or where that is 0 the smallest power of two from 4096 to 131072, for `size` bytes.

    BlockSizeError where requests cannot reach all such blocks, or the budget in bytes does not hold one.
    """
    sizes = (block_size, 4096, 8192, 16384, 32768, 65536, 131072)
    fit = [n for n in sizes if 0 < n <= budget and block_count(size, n) <= MAX_BLOCKS]
    if fit and block_size in (0, fit[0]):
        return fit[0]
    wanted = f"{size} bytes in at most {MAX_BLOCKS} blocks of {block_size or 'any size'} up to {budget} bytes"
    raise BlockSizeError(f"{wanted} cannot be; block sizes that would do: {fit or 'none'}")


class _Window:
    def __init__(self, first: int, end: int, missing: int, now: int, before: int, since: int) -> None:
        self.first = first
        self.end = end
        self.missing = missing  # blocks of [first, end) that are asked for and not here
        self.touched = self.sent = now  # touched: when it was sent, brought a block or was first overtaken
        self.overtaken = False
        self.before, self.since = (
            before,
            since,
        )  # blocks that had come when it was sent, and the last one when


class Download:
    """The machine; see the module. ValueError for a parameter out of its bounds.

    `token`: text of 1 to 64 bytes, new for each run. `block_size`: 256 to 131072 bytes; 0 takes the resumed
    one, or `choose_block_size`. `budget`: bytes asked for and not here. `patience`: milliseconds without
    anything new that end it. `resume`: a record (`device_client.resume`), taken up if of this very file.
    `in_flight`: blocks asked for and not here, at most. `gap`: milliseconds between requests, at least.
    """

    def __init__(
        self,
        thing: str,
        stream: str,
        file_id: int,
        token: str,
        now: int,
        encoding: str = "cbor",
        block_size: int = 0,
        budget: int = 1048576,
        patience: int = 60000,
        resume: "tuple[str, int, int, int, int, bytes] | None" = None,
        in_flight: int = MAX_IN_FLIGHT,
        gap: int = 0,
    ) -> None:
        bounds = (
            ("file id", file_id, 0, 255),
            ("block size", block_size or 256, 256, REQUEST_BYTES),
            ("bytes of client token", len(token.encode()), 1, 64),
            ("blocks in flight", in_flight, 1, MAX_BLOCKS),
            ("gap", gap, 0, patience),
        )
        for what, value, low, high in bounds:
            if not low <= value <= high:
                raise ValueError(f"{what} {value} is not within {low} to {high}")
        self.state = DESCRIBING
        self.version = self.size = 0
        self.block_size = block_size
        self.resumed = 0  # blocks taken over from an earlier run
        self.requests = self.duplicates = self.foreign = self.malformed = 0
        # To be granted before `connected`; QoS 0 will do. InvalidTopic is always said in JSON.
        self.topics = [topic(thing, stream, verb, encoding) for verb in ("data", "description", "rejected")]
        if encoding != JSON:
            self.topics.append(topic(thing, stream, "rejected", JSON))
        self.file, self._token, self._encoding = (stream, file_id), token, encoding
        self._get, self._describe = [topic(thing, stream, verb, encoding) for verb in ("get", "describe")]
        self._budget, self._patience = budget, patience
        self._resume = resume if resume and block_size in (0, resume[4]) else None
        self._connected, self._blind = False, ""
        self._windows: list[_Window] = []  # in the order sent
        self.busy = False
        self._gap, self._gap_ends, self._held_back = gap, now, False
        self._most = in_flight
        self._wait = FIRST_WAIT
        self._progress = now  # when something new last came
        self._failures, self._failed_at = 0, now - FIRST_WAIT
        self._flow = Flow(1, 1, 1)
        self._plan(1, bytearray(1))  # the description is waited for like a block

    def _plan(self, count: int, held: bytearray) -> None:
        self.held = held  # bitmap of the `count` blocks of the file
        self.missing = count - ones(held)
        self._count = count
        self._asked = 0  # the blocks from this one on were never asked for
        self._windows.clear()
        self._in_flight = 0  # blocks asked for and not here
        self._ranges = [(0, count)]  # yet to be asked for, the next one last; they overlap no window

    @property
    def deadline(self) -> int:
        """When `poll` has something to do though nothing happens."""
        deadline = self._progress + self._patience
        if self._windows:
            deadline = min(deadline, self._due(self._windows[0]))
        return min(deadline, self._gap_ends) if self._held_back else deadline

    def connected(self) -> None:
        """A session stands and `topics` are granted. What was asked for before is asked for again."""
        self.disconnected()
        self._connected = True
        self._wait = FIRST_WAIT
        self._flow.stalled()

    def disconnected(self) -> None:
        """The session is gone; nothing is sent until `connected`, but patience runs on."""
        self._connected = False
        self._lose(len(self._windows))

    def poll(self, now: int) -> "list[tuple[str, bytes]]":
        """(topic, payload) of each message to send, at QoS 0. DownloadTimeout when patience has run out."""
        out: list[tuple[str, bytes]] = []
        if self.state != DONE and now >= self.deadline:
            self._late(now)
        self._held_back = False
        while self._connected and self._ranges and not self.busy:
            room = self._flow.limit - self._in_flight
            if room < min(self._flow.step if out else self._flow.room, self.missing - self._in_flight):
                break
            if now < self._gap_ends:
                self._held_back = True
                break
            self._ask(now, room, out)
        return out

    def receive(
        self, name: str, payload: "bytes | bytearray | memoryview", now: int
    ) -> "tuple[str, int, memoryview | None] | None":
        """A message came: (event, offset, data) or None; `data` is a view of `payload` in CBOR.

        What does not answer this run is counted and ignored. Raises Rejected and, at first, BlockSizeError.
        """
        if name not in self.topics or self.state == DONE:
            return None  # our own requests too, which a wider subscription brings
        kind = self.topics.index(name)
        try:
            fields = decode_answer(JSON if kind == 3 else self._encoding, payload)
            if kind >= 2:
                self._refused(fields, now)
            elif fields.get("c") == self._token and kind == (self.state == DESCRIBING):
                return self._described(fields, now) if kind else self._block(fields, now)
            else:
                self.foreign += 1
        except ValueError:
            self.malformed += 1
        return None

    def _described(self, fields: "dict[str, object]", now: int) -> "tuple[str, int, None]":
        version, files = fields.get("s"), fields.get("r")
        if not isinstance(version, int) or not isinstance(files, list):
            raise ValueError("no description")
        sizes = [file.get("z") for file in files if isinstance(file, dict) and file.get("f") == self.file[1]]
        if not sizes:
            raise Rejected("ResourceNotFound", f"the stream has no file {self.file[1]}")
        size = sizes[0]
        if not isinstance(size, int) or size < 0:
            raise ValueError("no size")
        self.version, self.size, self._progress = version, size, now
        old = self._resume
        if old and (old[:2] != self.file or old[2:4] != (version, size)):
            old = None
        self.block_size = choose_block_size(size, self._budget, old[4] if old else self.block_size)
        of_one = REQUEST_BYTES // self.block_size
        most = min(self._budget // self.block_size, self._most, MAX_REQUESTS * of_one)
        start = min(most, max(2, LEAST_BYTES // self.block_size))
        self._flow = Flow(start, most, of_one)
        count = block_count(size, self.block_size)
        self._plan(count, bytearray(old[5] if old else (count + 7) // 8))
        self.resumed = count - self.missing
        self.state = FETCHING if self.missing else DONE
        return DESCRIBED, 0, None

    def _block(self, fields: "dict[str, object]", now: int) -> "tuple[str, int, memoryview] | None":
        index, data = fields.get("i"), fields.get("p")
        if fields.get("f") != self.file[1]:
            self.foreign += 1
            return None
        if not isinstance(index, int) or not isinstance(data, memoryview) or not 0 <= index < self._count:
            raise ValueError("no block of this file")
        if not len(data) == fields.get("l") == block_length(index, self.size, self.block_size):
            raise ValueError("not of the block size")
        if test(self.held, index):
            self.duplicates += 1
            return None
        flip(self.held, index)
        self.missing -= 1
        for place, window in enumerate(self._windows):
            if window.first <= index < window.end:
                self._in_flight -= 1
                self._arrived(place, window, now)
                break
        # What came late may do so again: twice the time it took is allowed it.
        self._wait = max(self._flow.wait, min(self._wait, 2 * (now - self._progress)))
        self._progress, self._failures = now, 0
        if not self.missing:
            self.state = DONE
        return BLOCK, index * self.block_size, data

    def _arrived(self, place: int, window: _Window, now: int) -> None:
        self._flow.came()
        if window.before >= 0:
            self._flow.answered(window.sent, window.since, window.before - self.missing, now)
            window.before = -1
        window.missing -= 1
        window.touched = now
        if place + 1 < len(self._windows):
            self._windows[place + 1].touched = now  # it waits behind this one
        if not window.missing:
            self._windows.pop(place)
        while place and not self._windows[place - 1].overtaken:
            place -= 1
            self._windows[place].overtaken, self._windows[place].touched = True, now

    def _due(self, window: _Window) -> int:
        return window.touched + (self._flow.grace if window.overtaken else self._wait)

    def _refused(self, fields: "dict[str, object]", now: int) -> None:
        code, message, token = str(fields.get("o")), str(fields.get("m")), fields.get("c")
        if token is None:
            self._blind = f"; a rejection without client token said {code}: {message}"
        new = now - self._failed_at >= FIRST_WAIT  # else the same trouble, met by another request
        if token != self._token and (token is not None or code not in _BLIND or self.state != DESCRIBING):
            self.foreign += 1
        elif code != "InternalError" or (new and self._failures == MAX_FAILURES):
            raise Rejected(code, message)
        elif new:
            self._failures, self._failed_at = self._failures + 1, now

    def _late(self, now: int) -> None:
        silence = now - self._progress
        if silence >= self._patience:
            where = self.state if self._connected else self.state + ", not connected"
            raise DownloadTimeout(f"nothing new for {silence // 1000} s while {where}{self._blind}")
        lost = 0
        while lost < len(self._windows) and now >= self._due(self._windows[lost]):
            if self._windows[lost].overtaken:
                self._flow.missed(self._windows[lost].missing)
            lost += 1
        self._lose(lost)
        if silence >= self._wait:
            self._wait = min(LONGEST_WAIT, 2 * self._wait)
            self._flow.stalled()

    def _lose(self, count: int) -> None:
        while count:
            count -= 1
            window = self._windows.pop(count)  # the last first, so that the first is asked for first
            self._in_flight -= window.missing
            self._ranges.append((window.first, window.end))

    def _ask(self, now: int, room: int, out: "list[tuple[str, bytes]]") -> None:
        # Sends for the next blocks of the range on top, if any of it is missing, and leaves its rest there.
        start, end = self._ranges.pop()
        first = index = find(self.held, False, start, end)
        if first == end:
            return
        reach = min(end, first + MAX_BITS)
        room = min(self._flow.step, room)
        bits, count = bytearray(), 0
        while index < reach and count < room:
            last = index
            count += 1
            bits.extend(bytes((index - first) // 8 + 1 - len(bits)))
            flip(bits, index - first)
            index = find(self.held, False, index + 1, reach)
        if last + 1 < end:
            self._ranges.append((last + 1, end))
        since = self._progress if self._in_flight else now
        # An answer to what was asked for before may be to the earlier request: nothing is measured by it.
        before = self.missing if first >= self._asked else -1
        self._asked = max(self._asked, last + 1)
        self._windows.append(_Window(first, last + 1, count, now, before, since))
        self._in_flight += count
        self._gap_ends = now + self._gap
        fields: dict[str, int | str | bytes | bytearray] = {"c": self._token}
        if self.state != DESCRIBING:
            self.requests += 1
            fields.update({"s": self.version, "f": self.file[1], "l": self.block_size})
            fields.update({"o": first, "b": bits, "n": count})
        verb = self._describe if self.state == DESCRIBING else self._get
        out.append((verb, encode_request(self._encoding, fields)))
