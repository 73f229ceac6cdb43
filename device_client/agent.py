"""The OTA agent: from a job to a new firmware that works, or back. Runs on MicroPython.

    agent = Agent("mast-17", platform, {"/certs/signer.pem": PUBLIC_KEY}, self_test, token)
    session = Session("mast-17", agent.topics, bytearray(4096 + MESSAGE_HEAD))
    run_agent(agent, SocketTransport(session, host, port, agent.message, agent.session))

It takes the thing's next job. One with an `afr_ota` document it carries out in these steps, each of which
ends before the next begins, so that after a power cut at any instant the job and the platform together tell
where to go on:

    LOADING   in progress, `receive`; the file goes into the spare slot (`device_client.fetch`), is verified
    READY     `self_test` is `ready`, `updatedBy` the version that runs: taken, the platform test-boots it
    TESTING   the new version runs: `self_test` is `active`: taken, it tests itself
    ENDING    it is confirmed and the job SUCCEEDED; or the job FAILED, says why, and the old version returns

What it reports are the messages of AWS's OTA SDK v3 (`ota_mqtt.c`), but for two things: the reason of a
failure is a sentence where the SDK has a number, and `updatedBy` stays the version that made the update
through `active`, where the SDK puts the one that runs: a reset in a test boot would end the update there.

A new version on its test boot stays only if its job is the thing's next one and it says that it works,
within `test_wait`. Without a session, with a job that was canceled or has timed out, it is reverted. A job
whose report nobody takes, or that is refused because it is not what it was, is dropped: what to do is decided
anew from the next execution, at first a second later and then twice as long each time, up to ten minutes.
"""

from chunker.blocks import block_count
from device_client.clock import now as system_clock
from device_client.download import DESCRIBING, Download
from device_client.ecdsa import verify as verify_ecdsa
from device_client.errors import DownloadError, DownloadTimeout, Rejected, SinkError
from device_client.fetch import Fetch, NotGenuine
from device_client.jobs import (
    ACCEPTED,
    FAILED,
    IN_PROGRESS,
    NEXT,
    QUEUED,
    REJECTED,
    SUCCEEDED,
    Jobs,
    NoAnswer,
)
from device_client.ota_document import KIND, BadDocument, OtaFile
from device_client.platform import ImageRefused

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable

    from device_client.jobs import Execution
    from device_client.platform import Platform
    from device_client.sinks import Record, Sink
    from device_client.socket_transport import SocketTransport

IDLE, LOADING, READY, TESTING, ENDING = "idle", "loading", "ready", "testing", "ending"

MESSAGE_HEAD = 2048
"""Bytes of a message that are not a block: what the session's buffer has to hold beside one, and with job
documents of the length that AWS makes them."""
LONGEST_REASON = 1024  # characters of a value in statusDetails (AWS)
MAX_STALLS = 5  # downloads of a job, in a row, that bring nothing while there is a session
REPORT_GAP = 1000  # milliseconds between two reports of progress, at least
_PAUSE, _LONGEST_PAUSE = 1000, 600000  # milliseconds
_LAST_WORD = 30000  # milliseconds beyond `test_wait` for the answer to the report that it was over
_TOLD = 2000  # milliseconds in which the service tells by itself that another job is next
_LONGEST_TURN = 1000


class Agent:
    """The machine. `keys`: public keys by the name of the signer's certificate, `certfile` in documents.

    `self_test()`: asked in a test boot, again and again: empty if this version works, why if it does not,
    None while it cannot tell yet. `token`: text of 1 to 30 bytes, new for each run. `block_size`: 256 to
    131072 bytes; `budget`, `patience`: as `Download` has them. `report_blocks`: of progress (the SDK has 64).
    `test_wait`: milliseconds from the start that a test boot may take. `verify(key, digest, signature)`: of
    the file. `other(execution)`: for jobs that are no OTA updates: the status that they ended with and the
    details, or None for what it does not know either. It is called again for a job whose end was not taken.
    """

    send: "Callable[[str, bytes], object]"  # to be set before `turn`

    def __init__(
        self,
        thing: str,
        platform: "Platform",
        keys: "dict[str, bytes]",
        self_test: "Callable[[], str | None]",
        token: str,
        block_size: int = 4096,
        budget: int = 65536,
        patience: int = 60000,
        report_blocks: int = 64,
        test_wait: int = 600000,
        verify: "Callable[[bytes, bytes, bytes], bool]" = verify_ecdsa,
        other: "Callable[[Execution], tuple[str, dict[str, str]] | None] | None" = None,
        clock: "Callable[[], int]" = system_clock,
    ) -> None:
        self.state = IDLE
        self.over = False  # the platform was asked to reset
        self.nothing = False  # the service says that nothing is pending
        self.ended: tuple[str, dict[str, str]] | None = None  # status and details of the last job that ended
        self.fetch: Fetch | None = None  # the download, while there is one
        self._thing, self._platform, self._keys, self._self_test = thing, platform, keys, self_test
        self._token, self._runs = token, 0
        self._block_size, self._budget, self._patience = block_size, budget, patience
        self._report_blocks, self._verify, self._other, self._clock = report_blocks, verify, other, clock
        self._jobs = Jobs(thing, token, clock())
        streams = "$aws/things/" + thing + "/streams/+/"
        # Of all streams: which one it will be, the job says.
        self.topics = self._jobs.topics + [
            streams + name for name in ("data/cbor", "description/cbor", "rejected/+")
        ]
        self._up = False
        self._job: Execution | None = None
        self._sink: Sink | None = None
        self._known: Download | None = None  # whose first bytes were looked at
        self._stalls = self._held = 0
        self._reported = self._report_at = 0  # blocks, and when more may be
        self._before = 0  # the version that made the update
        self._active = False  # `active` was taken
        self._end_is: tuple[str, dict[str, str]] = "", {}  # as it was reported
        self._test_ends = clock() + test_wait
        self._pause = _PAUSE

    # --- what the transport says

    def session(self, up: bool) -> None:
        """The transport has a session, or has lost it."""
        self._up = up
        if up:
            self._jobs.connected(self._clock())
        else:
            self._jobs.disconnected()
        if self.fetch:
            self.fetch.session(up)

    def message(self, topic: str, payload: "bytes | bytearray | memoryview") -> None:
        """The transport heard this."""
        event = self._jobs.receive(topic, payload, self._clock())
        if event is None:
            if self.fetch:
                try:
                    self.fetch.message(topic, payload)
                except DownloadError as error:
                    self._failed(error)
        elif event[0] == NEXT:
            self._next(event[1])  # type: ignore[arg-type]
        elif event[0] == ACCEPTED:
            self._taken()
        else:
            self._not_taken()

    def turn(self) -> int:
        """Does what is due, and says for how many milliseconds nothing else will be."""
        wait = _LONGEST_TURN
        if self.state == LOADING:
            wait = self._load()
        elif self.state == TESTING and self._active:
            self._test()
        if self._clock() >= self._test_ends and self._platform.testing():
            self._too_late()
        if self.over:
            return 0
        try:
            for topic, payload in self._jobs.poll(self._clock()):
                self.send(topic, payload)
        except NoAnswer:
            if self.state != LOADING:  # progress that nobody hears ends nothing
                self._not_taken()
        return max(0, min(wait, self._jobs.deadline - self._clock()) if self._up else wait)

    def close(self) -> None:
        """Records what is held of a download, and closes it."""
        fetch, self.fetch = self.fetch, None
        if fetch:
            fetch.close()

    # --- which job

    def _next(self, job: "Execution | None") -> None:
        if self.over:
            return
        self.nothing = job is None
        if self._job:
            if job and job.key == self._job.key:
                return
            # Canceled, timed out, deleted: nobody waits for it any more. Another try of it may go on.
            self._jobs.forget()
            self._drop(job is None or job.job_id != self._job.job_id)
        if job and job.status == IN_PROGRESS and "self_test" in job.details:
            self._job = job
            self._after_reboot(job)
        elif self._platform.testing():
            self._revert()  # nobody wants what is on test to be kept
        elif job:
            self._job = job
            self._begin(job)

    def _begin(self, job: "Execution") -> None:
        document = job.document or {}
        try:
            if job.bound:
                raise BadDocument(f"the job's messages do not fit this device's buffer of {job.bound} bytes")
            if KIND in document:
                self._start(OtaFile(document))
                return
            answer = self._other(job) if self._other else None
            if answer is None:
                raise BadDocument(f"this device knows no job with {', '.join(sorted(document))[:200]}")
            self._end(*answer)
        except BadDocument as error:
            # A job that was begun can only fail (AWS).
            self._end(REJECTED if job.status == QUEUED else FAILED, _reason("rejected", error))

    def _after_reboot(self, job: "Execution") -> None:
        platform = self._platform
        try:
            self._before = int(str(job.details.get("updatedBy")), 16)
        except ValueError:
            self._before = platform.version  # then it cannot have been updated
        newer = platform.version > self._before
        if platform.testing() and newer:
            self.state, self._active = TESTING, False
            self._self_test_is("active")
        elif newer:  # it was confirmed, and the power went before that was told
            self._succeeded()
        elif platform.testing():
            why = f"{_text(platform.version)} is not newer than {_text(self._before)}"
            self._end(FAILED, _reason("rejected", why))
        elif platform.refused() or job.details["self_test"] == "active":
            why = platform.refused() or "the new version ran and did not confirm itself"
            self._end(FAILED, _reason("rejected", why))
        else:  # the power went before the platform was asked for a test boot
            self._begin(job)

    def _drop(self, discard: bool) -> None:
        # The job is none of this device's any more. `discard`: nor is what it loaded.
        if discard:
            self._discard()
        self.close()
        self._job, self.state = None, IDLE
        if self._platform.testing():
            self._revert()

    def _discard(self) -> None:
        if self.fetch and self._sink:
            try:
                self._sink.discard()
            except SinkError:
                pass  # the next download says so, where it matters
            self.fetch.unsaved = 0

    # --- download

    def _start(self, file: OtaFile) -> None:
        most = self._platform.slot_bytes
        if file.size > most:
            raise BadDocument(f"filesize: {file.size} bytes do not fit the slot of {most} bytes")
        if file.certificate not in self._keys:
            raise BadDocument(f"certfile: this device has no key of {file.certificate[:200]}")
        self._file = file
        self.state, self._stalls, self._held = LOADING, 0, 0
        self._progress(0)

    def _open(self) -> Fetch:
        file = self._file
        self._runs += 1
        token = f"{self._token}.{self._runs}"

        def make(record: "Record | None") -> Download:
            what = self._thing, file.stream, file.file_id, token, self._clock()
            return Download(*what, "cbor", self._block_size, self._budget, self._patience, record)

        def genuine(digest: bytes) -> bool:
            return self._verify(self._keys[file.certificate], digest, file.signature)

        self._sink = self._platform.sink()
        self._known = None
        fetch = Fetch(make, self._sink, None, genuine, clock=self._clock)
        fetch.send = self.send
        fetch.session(self._up)
        return fetch

    def _load(self) -> int:
        try:
            if self.fetch is None:
                if not self._up:
                    return _LONGEST_TURN
                self.fetch = self._open()
            fetch = self.fetch
            wait = fetch.turn()
            if fetch.machine.state == DESCRIBING:
                return wait
            self._look(fetch)
            if not fetch.finished():
                blocks = block_count(self._file.size, self._block_size) - fetch.machine.missing
                step = self._report_blocks
                # The first block, and then once in a while, as AWS's SDK has it.
                due = blocks // step > self._reported // step or (blocks and not self._reported)
                if due and self._clock() >= self._report_at:
                    self._progress(blocks)
                return wait
            self.close()
            self._before = self._platform.version
            self.state = READY
            self._self_test_is("ready")
        except DownloadError as error:
            self._failed(error)
        except BadDocument as error:
            self._discard()
            self.close()
            self._end(FAILED, _reason("rejected", error))
        return 0

    def _look(self, fetch: Fetch) -> None:
        # As soon as its first bytes are there: what is not for this device is not loaded to its end.
        machine, platform, size = fetch.machine, self._platform, self._file.size
        if machine.size != size:
            raise BadDocument(f"filesize: {size}, and the stream's file has {machine.size} bytes")
        length = min(platform.head_bytes, size)
        if self._known is machine or fetch.hashed < length:
            return
        assert self._sink is not None
        found = platform.identify(self._sink.read(0, length))
        if found is None:
            raise BadDocument("the file is no image for this device")
        if found[0] != platform.model:
            raise BadDocument(f"the image is for {found[0][:200]}; this is {platform.model}")
        if found[1] <= platform.version:
            raise BadDocument(f"{_text(found[1])} is not newer than {_text(platform.version)}")
        self._known = machine

    def _failed(self, error: DownloadError) -> None:
        fetch = self.fetch
        again = isinstance(error, DownloadTimeout) or (
            isinstance(error, Rejected) and error.code == "VersionMismatch"  # the stream was updated
        )
        if fetch and again:
            # Without a session it is waited for; with one, nobody answers, and that has an end.
            self._stalls = self._stalls + 1 if self._up and fetch.held <= self._held else 0
            self._held = fetch.held
            again = self._stalls < MAX_STALLS
        self.close()
        if not again:
            self._end(FAILED, _reason("rejected" if isinstance(error, NotGenuine) else "aborted", error))

    # --- test boot

    def _test(self) -> None:
        why = self._self_test()
        if why is None:
            return
        if not why:
            try:
                self._platform.confirm()
                self._succeeded()
                return
            except ImageRefused as error:
                why = str(error)
        self._end(FAILED, _reason("rejected", why))

    def _too_late(self) -> None:
        if self.state != ENDING and self._job and self._up:
            self._end(FAILED, _reason("aborted", "the self-test did not come to its end in time"))
        elif not self._up or self._clock() >= self._test_ends + _LAST_WORD:
            self._revert()

    def _revert(self) -> None:
        self._platform.revert()
        self._reset()

    def _reset(self) -> None:
        self.over = True
        self.close()
        self._platform.reset()

    # --- reports: AWS's OTA SDK v3, ota_mqtt.c

    def _progress(self, blocks: int) -> None:
        self._reported, self._report_at = blocks, self._clock() + REPORT_GAP
        total = block_count(self._file.size, self._block_size)
        self._report(IN_PROGRESS, {"receive": f"{blocks}/{total}"})

    def _self_test_is(self, state: str) -> None:
        self._report(IN_PROGRESS, {"self_test": state, "updatedBy": f"0x{self._before:08x}"})

    def _succeeded(self) -> None:
        # The SDK's words, with its two spaces.
        version = self._platform.version
        self._end(
            SUCCEEDED, {"reason": f"accepted  {_text(version)}", "updatedBy": f"  {_text(self._before)}"}
        )

    def _end(self, status: str, details: "dict[str, str]") -> None:
        self.state, self._end_is = ENDING, (status, details)
        self._report(status, details)

    def _report(self, status: str, details: "dict[str, str]") -> None:
        assert self._job is not None
        self._jobs.update(self._job, status, details, self._clock())

    def _taken(self) -> None:
        if self.state == READY:
            try:
                self._platform.request()
            except ImageRefused as error:
                self._end(FAILED, _reason("rejected", error))
                return
            self._reset()
        elif self.state == TESTING:
            self._active = True
        elif self.state == ENDING:
            self.ended, self._pause = self._end_is, _PAUSE
            self._drop(False)
            self._jobs.ask(self._clock() + _TOLD)

    def _not_taken(self) -> None:
        self._drop(False)
        self._jobs.ask(self._clock() + self._pause)
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)


def run_agent(agent: Agent, transport: "SocketTransport") -> None:
    """Until the platform was asked to reset. SubscriptionRefused; a broker that is away is waited for."""
    agent.send = transport.send
    try:
        while not agent.over:
            transport.wait(agent.turn())
    finally:
        transport.close()
        agent.close()


def _text(version: int) -> str:
    return f"v{version >> 24}.{version >> 16 & 255}.{version & 65535}"


def _reason(word: str, why: object) -> "dict[str, str]":
    text = "".join([one if " " <= one <= "~" else "?" for one in f"{word}: {why}"])
    return {"reason": text[:LONGEST_REASON]}
