"""Batch expectation maximisation (Dempster, Laird and Rubin 1977): one pass, one M-step."""

from dataclasses import dataclass, replace

import numpy as np

from gmmdask.algorithms._base import Algorithm, Note, Request, State
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.kernels import kernel_for
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Outcome, Reason
from gmmdask.stats import Stats

NOISE = 1e-12  # changes of a lower bound below this part of it are rounding
STOPS = ("gain", "predicted")
KERNELS = ("auto", "products", "compiled", "centred")


@dataclass(frozen=True, eq=False)
class BatchState(State):
    """The last three lower bounds, oldest first, in nats per row of the frame; components of less than one row."""

    bounds: tuple[float, ...] = ()
    empty: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch(Algorithm):
    """EM on all rows.

    Parameters
    ----------
    tol : float
        Nats per row. 0 always runs `max_iter` laps.
    max_iter : int
        Laps over the data.
    stop : {"gain", "predicted"}
        "gain" ends when the lower bound moved by less than `tol` (scikit-learn's rule); "predicted" when both the
        last gain and the gain that Aitken extrapolation expects of all further passes are below it.
    kernel : {"auto", "products", "compiled", "centred"}
        Which kernel evaluates the mixture, unless only "centred" is accurate enough. "auto" is "products" here; an
        estimator sets it by the configuration (`gmmdask.kernel`) and by what is installed.

    Raises
    ------
    ValueError
        If `stop` or `kernel` is not one of these.
    """

    tol: float = 1e-3
    max_iter: int = 100
    stop: str = "gain"
    kernel: str = "auto"

    def __post_init__(self) -> None:
        if self.stop not in STOPS:
            raise ValueError(f"stop={self.stop!r}: expected one of {', '.join(STOPS)}.")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel={self.kernel!r}: expected one of {', '.join(KERNELS)}.")

    def start(self, mixture: Mixture) -> BatchState:
        return self.resume(BatchState(mixture))

    def resume(self, state: State) -> BatchState:
        assert isinstance(state, BatchState)
        return replace(state, outcome=self._outcome(state))

    def ask(self, state: State) -> Request:
        return Request(EStep(state.mixture, kernel_for(state.mixture, self.kernel)))

    def tell(self, state: State, stats: Stats, prior: Prior) -> tuple[BatchState, Note]:
        """One M-step. The lower bound belongs to the mixture that was evaluated, not to the one made of it."""
        assert isinstance(state, BatchState)
        bound = stats.log_likelihood / stats.weight
        bounds = (*state.bounds, bound)[-3:]
        mixture = m_step(stats, prior)
        mixture.root  # noqa: B018 - an ill-defined covariance is told now, with the pass that made it
        gain = bound - bounds[-2] if len(bounds) > 1 else None
        empty = tuple(int(k) for k in np.flatnonzero(stats.mass < 1))
        following = replace(state, mixture=mixture, laps=state.laps + 1, bounds=bounds, empty=empty)
        return self.resume(following), Note(bound, gain, empty)

    def _outcome(self, state: BatchState) -> Outcome | None:
        if not state.laps:
            words = "max_iter=0: this is the start, no pass was made."
            return None if self.max_iter else Outcome(Reason.MAX_ITER, words, None)
        predicted, empty = predicted_gain(state.bounds), state.empty
        lost = f" Components {list(empty)} hold less than one row: ask for fewer components." if empty else ""
        left = "" if predicted is None else f"; by Aitken's estimate {predicted:.2g} nats per row are left to gain"
        if self._stops(state.bounds, predicted):
            words = (
                f"converged after {state.laps} passes: the last gained less than tol={self.tol:g} nats per row{left}."
            )
            return Outcome(Reason.CONVERGED, words + lost, predicted)
        if state.laps < self.max_iter:
            return None
        words = f"stopped after max_iter={self.max_iter} passes{left}. Raise max_iter or tol, or try other starts."
        return Outcome(Reason.MAX_ITER, words + lost, predicted)

    def _stops(self, bounds: tuple[float, ...], predicted: float | None) -> bool:
        if self.tol <= 0 or len(bounds) < 2:
            return False
        change = abs(bounds[-1] - bounds[-2])
        if change <= NOISE * abs(bounds[-1]):
            return True
        if self.stop == "gain":
            return change < self.tol
        return change < self.tol and predicted is not None and predicted < self.tol


def predicted_gain(bounds: tuple[float, ...]) -> float | None:
    """What all further passes together should gain, by Aitken's extrapolation of the last three lower bounds."""
    if len(bounds) < 3 or bounds[-2] == bounds[-3]:
        return None
    ratio = (bounds[-1] - bounds[-2]) / (bounds[-2] - bounds[-3])
    return abs(bounds[-1] - bounds[-2]) * ratio / (1 - ratio) if 0 <= ratio < 1 else None
