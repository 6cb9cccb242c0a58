"""When a run ends, and the words for it: what all algorithms that report a bound a lap have in common."""

from dataclasses import dataclass

from gmmdask.outcome import Outcome, Reason

NOISE = 1e-12  # changes of a lower bound below this part of it are rounding
STOPS = ("gain", "predicted")


@dataclass(frozen=True)
class Stopping:
    """A rule: `tol` in nats per row (0 always runs `max_iter` laps), `stop` as the algorithms have it."""

    tol: float
    max_iter: int
    stop: str

    def __post_init__(self) -> None:
        if self.stop not in STOPS:
            raise ValueError(f"stop={self.stop!r}: expected one of {', '.join(STOPS)}.")

    def outcome(self, laps: int, bounds: tuple[float, ...], predicted: float | None, told: str) -> Outcome | None:
        """Why a run with these lower bounds (the last ones, nats per row) ends now; None if it goes on.

        `told` is what else the outcome has to say: sentences with a space before them.
        """
        if not laps:
            words = "stopped at max_iter=0: this is the start, no pass was made."
            return None if self.max_iter else Outcome(Reason.MAX_ITER, words, None)
        left = "" if predicted is None else f"; an estimated {predicted:.2g} nats per row are left to gain"
        if self._stops(bounds, predicted):
            words = f"converged after {laps} passes: the last gained less than tol={self.tol:g} nats per row{left}"
            words += ", less than tol too." if self.stop == "predicted" and predicted is not None else "."
            return Outcome(Reason.CONVERGED, words + told, predicted)
        if laps < self.max_iter:
            return None
        words = f"stopped after max_iter={self.max_iter} passes{left}. Raise max_iter or tol, or try other starts."
        return Outcome(Reason.MAX_ITER, words + told, predicted)

    def _stops(self, bounds: tuple[float, ...], predicted: float | None) -> bool:
        if self.tol <= 0 or len(bounds) < 2:
            return False
        change = abs(bounds[-1] - bounds[-2])
        if change <= NOISE * abs(bounds[-1]):
            return True
        if self.stop == "gain":
            return change < self.tol
        return change < self.tol and predicted is not None and predicted < self.tol


def predicted_gain(bounds: tuple[float, ...], ratio: float | None = None) -> float | None:
    """What all further passes together should gain, from the last lower bounds.

    Aitken's extrapolation of the last three: gains shrink geometrically. `ratio` is a better guess of their ratio, if
    there is one. None where gains do not shrink.
    """
    if ratio is None:
        if len(bounds) < 3 or bounds[-2] == bounds[-3]:
            return None
        ratio = (bounds[-1] - bounds[-2]) / (bounds[-2] - bounds[-3])
    return abs(bounds[-1] - bounds[-2]) * ratio / (1 - ratio) if 0 <= ratio < 1 else None


@dataclass(frozen=True)
class Ascent:
    """When a climb by gradients ends: `tol` in nats per row, `gradient_tol` the length of the gradient per row."""

    tol: float
    max_iter: int
    gradient_tol: float

    def outcome(
        self, laps: int, steep: float | None, gained: float | None, left: float | None, stuck: bool, told: str
    ) -> Outcome | None:
        """Why it ends now; None if it goes on.

        Parameters
        ----------
        steep : the gradient's length, if it is known.
        gained : by the last steps together, if there were enough to be judged; nats per row.
        left : nats per row that are left to gain, None where nothing can be said.
        stuck : whether no step gains more than rounding.
        told : what else there is to say: sentences with a space before them.
        """
        if not laps:
            words = "stopped at max_iter=0: this is the start, no pass was made."
            return None if self.max_iter else Outcome(Reason.MAX_ITER, words, None)
        further = "" if steep is None else f"; the gradient's length is {steep:.2g}"
        further += "" if left is None else f"; an estimated {left:.2g} nats per row are left to gain"
        why = ""
        if stuck:
            why = "no step gains more than rounding"
        elif steep is not None and steep < self.gradient_tol:
            why = f"the gradient is shorter than gradient_tol={self.gradient_tol:g}"
        elif gained is not None and gained < self.tol:
            why = f"the last steps gained less than tol={self.tol:g} nats per row"
        if why:
            return Outcome(Reason.CONVERGED, f"converged after {laps} passes: {why}{further}.{told}", left)
        if laps < self.max_iter:
            return None
        words = f"stopped after max_iter={self.max_iter} passes{further}. Raise max_iter or tol, or try other starts."
        return Outcome(Reason.MAX_ITER, words + told, left)


def after_laps(tol: float, max_iter: int, laps: int, gain: float | None, noise: float, told: str) -> Outcome | None:
    """Why a run of mini-batches ends with this lap; None if it goes on.

    Parameters
    ----------
    gain, noise : what the last lap gained, None if that says nothing, and two standard errors of it; nats per row.
    told : as above.
    """
    if not laps:
        words = "stopped at max_iter=0: this is the start, no lap was made."
        return None if max_iter else Outcome(Reason.MAX_ITER, words, None)
    gained = "" if gain is None else f"; the last gained {gain:.2g} ± {noise:.2g} nats per row"
    if tol > 0 and gain is not None and gain < max(tol, noise):
        limit = f"tol={tol:g}" if tol >= noise else "two standard errors"
        return Outcome(Reason.CONVERGED, f"converged after {laps} laps{gained}, below {limit}.{told}", None)
    if laps < max_iter:
        return None
    return Outcome(Reason.MAX_ITER, f"stopped after max_iter={max_iter} laps{gained}.{told}", None)
