"""Batch expectation maximisation (Dempster, Laird and Rubin 1977): one pass, one M-step."""

from dataclasses import dataclass, replace

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._stopping import Stopping, predicted_gain
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.plan import Plan
from gmmdask.stats import Stats

KERNELS = ("auto", "products", "compiled", "centred", "missing")


@dataclass(frozen=True, eq=False)
class BatchState(State):
    """The last three lower bounds, oldest first, in nats per row of the frame; none from before a repair."""

    bounds: tuple[float, ...] = ()


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
    kernel : {"auto", "products", "compiled", "centred", "missing"}
        Which kernel evaluates the mixture, unless only "centred" is accurate enough. "auto" is "products" here; an
        estimator sets it by the configuration (`gmmdask.kernel`) and by what is installed. Where rows may have missing
        values, "missing" it is.

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
        self.stopping  # noqa: B018 - an unknown rule is told now
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel={self.kernel!r}: expected one of {', '.join(KERNELS)}.")

    @property
    def stopping(self) -> Stopping:
        return Stopping(self.tol, self.max_iter, self.stop)

    def start(self, mixture: Mixture, beginning: Beginning) -> BatchState:
        return self.resume(BatchState(mixture))

    def resume(self, state: State) -> BatchState:
        assert isinstance(state, BatchState)
        predicted = predicted_gain(state.bounds)
        return replace(state, outcome=self.stopping.outcome(state.laps, state.bounds, predicted, state.told))

    def e_step(self, mixture: Mixture) -> EStep:
        return EStep.of(mixture) if self.kernel == "auto" else EStep(mixture, self.kernel)

    def ask(self, state: State, plan: Plan) -> Request:
        return Request((self.e_step(state.mixture),))

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[BatchState, Note]:
        """One M-step. The lower bound belongs to the mixture that was evaluated, not to the one made of it."""
        assert isinstance(state, BatchState)
        assert isinstance(answer, tuple)
        (stats,) = answer
        log_prior = prior.log_density(state.mixture)
        bounds = (*state.bounds, (stats.log_likelihood + log_prior) / stats.weight)[-3:]
        gain = bounds[-1] - bounds[-2] if len(bounds) > 1 else None
        following, stats, repairs = state.mended(stats, prior)
        following = replace(
            following, mixture=checked_m_step(stats, prior), laps=state.laps + 1, bounds=() if repairs else bounds
        )
        return self.resume(following), Note(bounds[-1], gain, following.empty, repairs, log_prior / stats.weight)


def checked_m_step(stats: Stats, prior: Prior) -> Mixture:
    """The M-step's mixture; an ill-defined covariance is told now, with the pass that made it."""
    mixture = m_step(stats, prior)
    mixture.root  # noqa: B018
    return mixture
