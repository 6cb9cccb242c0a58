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
            words = "max_iter=0: this is the start, no pass was made."
            return None if self.max_iter else Outcome(Reason.MAX_ITER, words, None)
        left = "" if predicted is None else f"; an estimated {predicted:.2g} nats per row are left to gain"
        if self._stops(bounds, predicted):
            words = f"converged after {laps} passes: the last gained less than tol={self.tol:g} nats per row{left}."
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
