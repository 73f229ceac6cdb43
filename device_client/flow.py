"""How many blocks may be asked for and not here. Part of the device set: runs on MicroPython.

Twice what the link carries in a round trip, as BBR has it: so much keeps it busy, and no more than a round
trip's worth waits in front of it. Both are measured from requests: the round trip is the least time from one
to its first block, the rate the most that came in such a time. Where a queue hides the round trip for long,
the pipe is let run nearly dry for one request, to see it bare. Random loss changes nothing; heavy loss means
that more is sent than passes, and less than twice is asked for.
"""

_FLOOR = 20  # milliseconds that a round trip counts as at least: a clock tick is a long time on a fast link
_RATE = 1048576  # a rate is in blocks in so many milliseconds
_GAIN = 16  # round trips' worth asked for, in eighths
_HIDDEN, _ROUNDS = 10000, 32  # milliseconds and round trips without a bare one, after which one is made
FIRST_WAIT, LEAST_WAIT = 2000, 500  # milliseconds for an answer: before one was measured, and ever


class Flow:
    """In blocks, `limit`: on their way, now at most; `most`: ever; `step`: of one request at most; `room`:
    what must be free before requests go out.

    In milliseconds, `wait`: until an answer is late; `grace`: until what was overtaken is taken for lost.
    """

    def __init__(self, start: int, most: int, step: int) -> None:
        self._start, self.most, self.most_of_one = start, most, step
        self._gain = _GAIN
        self._bare = self._smooth = 0  # round trips in milliseconds: the least, and the usual; 0: not known
        self._bare_at = 0  # when the least was last met
        self._dry_from = -1  # requests sent from then on meet a pipe that was let run dry; -1: it was not
        self._rate = self._rate_at = 0
        self._came = self._lost = self._round = 0  # blocks since the request that began the round was sent
        self.wait, self.grace = FIRST_WAIT, FIRST_WAIT // 4
        self._set(start)

    def _set(self, limit: int) -> None:
        self.limit = min(self.most, max(self._start, limit))
        if self._dry_from >= 0:
            self.limit = max(1, self.limit // 4)
        # Small steps, so that the pipe stays full while one is waited for.
        self.step = max(1, min(self.most_of_one, self.limit // 8))
        # Where the round trip is nothing, wake-ups are what costs: several requests go out together.
        self.room = max(self.step, self.limit // 4) if 0 < self._bare < _FLOOR else self.step

    def answered(self, sent: int, since: int, count: int, now: int) -> None:
        """A request of `sent` has brought its first block, the `count`th that came since `since`."""
        trip = max(1, now - sent)
        rate = count * _RATE // max(1, now - since)
        if rate >= self._rate or now - self._rate_at > 1000 + 10 * self._smooth:
            self._rate, self._rate_at = rate, now
        self._smooth = (7 * self._smooth + trip) // 8 if self._smooth else trip
        self.wait, self.grace = max(LEAST_WAIT, 3 * self._smooth), 10 + self._smooth // 4
        if not self._bare or trip <= self._bare + (self._bare >> 3) or -1 < self._dry_from <= sent:
            self._bare = trip if self._dry_from >= 0 or not self._bare else min(self._bare, trip)
            self._bare_at, self._dry_from = now, -1
        elif self._dry_from < 0 and now - self._bare_at > max(_HIDDEN, _ROUNDS * self._smooth):
            self._dry_from = now
        if sent >= self._round:  # a round trip's worth since the last look
            heavy = self._lost * 4 > self._came
            self._gain = max(13, self._gain - 1) if heavy else min(_GAIN, self._gain + 1)
            self._came, self._lost, self._round = 0, 0, now
        self._set(self._gain * self._rate // 8 * max(_FLOOR, self._bare) // _RATE)

    def came(self) -> None:
        """A block that was asked for is here."""
        self._came += 1

    def missed(self, count: int) -> None:
        """So many blocks were overtaken by later ones."""
        self._lost += count

    def stalled(self) -> None:
        """Nothing comes: what was measured holds no more."""
        self._rate, self._bare, self._dry_from = 0, 0, -1
        self._set(0)
