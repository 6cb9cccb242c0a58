"""What scikit-learn's `verbose` asks for: starts and passes in words on standard output."""

import sys
from collections.abc import Sequence

from gmmdask.outcome import Callback, CentresFound, Event, MovesDone, PassDone, PilotDone, RunEnded, StartChosen


class Verbose:
    """A callback that tells of every start: that it began, every so many passes, and how it ended.

    Starts advance side by side, so every line names its own.

    Parameters
    ----------
    level : 1 for words; above 1 with seconds, gains and lower bounds (nats per row) too.
    interval : passes from line to line.
    """

    def __init__(self, level: int, interval: int) -> None:
        self.level, self.interval = level, interval
        self.starts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, PilotDone):
            self._say("First look", f"time lapse {event.seconds:.5f}s")
        elif isinstance(event, StartChosen):
            self._say(
                f"Starts on the sample: {event.starts}", f"time lapse {event.seconds:.5f}s\t best {event.score:.5f}"
            )
        elif isinstance(event, CentresFound):
            self._say(f"Start by k-means||: {event.passes} passes", f"time lapse {event.seconds:.5f}s")
        elif isinstance(event, MovesDone):
            self._say(
                f"Moves of components: {event.moves}", f"time lapse {event.seconds:.5f}s\t gained {event.gained:.5f}"
            )
        elif isinstance(event, PassDone):
            self._pass(event, self._start(event.run))
        elif isinstance(event, RunEnded):
            ended = "converged" if event.outcome.converged else "did not converge"
            seconds = self.seconds.get(event.run, 0.0)
            self._say(f"Initialization {self._start(event.run)} {ended}", f"time lapse {seconds:.5f}s")

    def _start(self, run: str) -> int:
        """The number of a run; the first time is when it begins."""
        if run not in self.starts:
            self.starts[run] = len(self.starts)
            self._say(f"Initialization {self.starts[run]}")
        return self.starts[run]

    def _pass(self, event: PassDone, start: int) -> None:
        self.seconds[event.run] = self.seconds.get(event.run, 0.0) + event.seconds
        if event.lap % self.interval == 0:
            gain = "" if event.gain is None else f"\t ll change {event.gain:.5f}"
            numbers = f"time lapse {event.seconds:.5f}s{gain}\t lower bound {event.lower_bound:.5f}"
            self._say(f"  Initialization {start}: iteration {event.lap}", numbers)

    def _say(self, words: str, numbers: str = "") -> None:
        sys.stdout.write(f"{words}\t {numbers}\n" if numbers and self.level > 1 else f"{words}\n")


def teller(callbacks: Sequence[Callback], level: int, interval: int) -> Callback:
    """What tells an event to all who listen, and in words to standard output from level 1 on."""
    listeners = (*callbacks, *((Verbose(level, interval),) if level else ()))

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
