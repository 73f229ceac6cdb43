"""MicroPython's raw prompt over a serial line that loses what comes too fast.

The board's serial port holds 63 bytes and says nothing while it reads. So whatever is longer is sent as many
short programs, each of which is answered before the next one goes out, and its hash is compared.
"""

from firmware_sim.serial_line import LineError, SerialLine

BURST_BYTES = 60
TRIES = 3
ENTER_TRIES, ENTER_SECONDS = 8, 1.0
SECONDS = 10.0
"""For the board to answer one program."""

# Names with an underscore, so that a program with names of its own meets none of them.
_HASH = "_h=0\nfor _c in _:_h=(_h*31+ord(_c))%65521\nprint(_h)"
COLLECT = "import gc as _g\n_g.collect()\n"


class PromptError(LineError):
    """A program ended with an exception, whose traceback this is, or did not arrive as it was sent."""


class RawPrompt:
    """The prompt, once `enter` has found it."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line

    def enter(self) -> None:
        """Interrupts what runs and brings the raw prompt about, whatever was there before. LineError."""
        for attempt in range(ENTER_TRIES):
            self._line.write(b"\r\x03\x03")
            self._line.write(b"\x01")
            try:
                self._line.read_until(b"raw REPL; CTRL-B to exit\r\n>", ENTER_SECONDS)
            except LineError:
                if attempt == ENTER_TRIES - 1:
                    raise
            else:
                return

    def run(self, program: str) -> str:
        """What a program of up to BURST_BYTES - 1 bytes prints. PromptError for a traceback, LineError."""
        self.start(program)
        printed = self._line.read_until(b"\x04", SECONDS)[:-1]
        problem = self._line.read_until(b"\x04", SECONDS)[:-1]
        self._line.read_until(b">", SECONDS)
        if problem:
            raise PromptError(problem.decode(errors="replace").strip())
        return printed.decode(errors="replace").strip()

    def start(self, program: str) -> None:
        """Starts such a program and leaves the line to it. ValueError where it is too long."""
        raw = program.encode() + b"\x04"
        if len(raw) > BURST_BYTES:
            raise ValueError(f"program of {len(raw)} bytes is over {BURST_BYTES}")
        self._line.write(raw)
        self._line.read_until(b"OK", SECONDS)

    def load(self, source: str) -> None:
        """Runs an ASCII source of any length, which the board's memory must hold twice. PromptError."""
        for attempt in range(TRIES):
            try:
                self._bring(source)
                break
            except LineError:
                if attempt == TRIES - 1:
                    raise
                self.enter()
        # Collected first: the compiler takes its memory in pieces too big for a heap in shreds.
        self.run(COLLECT + "exec(_)")
        self.run(COLLECT + "del _,_h,_c")

    def _bring(self, source: str) -> None:
        self.run("_=''")
        for burst in bursts(source):
            self.run(burst)
        expected = 0
        for character in source:
            expected = (expected * 31 + ord(character)) % 65521
        if (found := self.run(_HASH)) != str(expected):
            raise PromptError(f"{len(source)} bytes of source arrived with hash {found}, not {expected}")


def bursts(source: str) -> list[str]:
    """Programs of up to BURST_BYTES - 1 bytes that add the source to `_`."""
    out = []
    while source:
        length = min(len(source), BURST_BYTES)
        while len(burst := f"_+={source[:length]!r}") >= BURST_BYTES:
            length -= 1
        out.append(burst)
        source = source[length:]
    return out
