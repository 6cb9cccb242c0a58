"""Incremental EM (Neal and Hinton 1998): statistics of every mini-batch are kept, and replaced at its next visit."""

from dataclasses import dataclass, replace

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._stopping import Stopping, predicted_gain
from gmmdask.algorithms.batch import checked_m_step
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.repair import Repair
from gmmdask.stats import Stats


@dataclass(frozen=True, eq=False, kw_only=True)
class IncrementalState(State):
    """Where a lap stands.

    Parameters
    ----------
    memory : statistics of the mini-batches, each at its last visit; as many as were visited.
    total : their sum; in the first lap with the sample's.
    beginning : the run's.
    bounds : free energies of the last three laps, nats per row of the frame.
    """

    memory: tuple[Stats, ...] = ()
    total: Stats | None = None
    beginning: Beginning
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Incremental(Algorithm):
    """T ← T - memory[B] + s(B, θ), memory[B] ← s(B, θ), θ ← M(T), for one mini-batch B after another.

    There is no step size. Once every mini-batch was visited, each step raises the free energy, the sum of expected
    log joint density and entropy of all rows under the responsibilities that they were last given: a lower bound of
    the log likelihood. In the first lap the sample stands in for the rows that have not come yet; without a sample,
    the mixture stays as it is until all have.

    Parameters
    ----------
    tol, max_iter, stop : as those of `Batch`, on the free energy at the ends of laps.
    mini_batches : int
        Of a lap, at least, where the rows allow. Memory grows with it.

    Raises
    ------
    ValueError
        If `stop` is not known.
    """

    tol: float = 1e-3
    max_iter: int = 100
    stop: str = "gain"
    mini_batches: int = 32

    def __post_init__(self) -> None:
        self.stopping  # noqa: B018 - an unknown rule is told now

    @property
    def stopping(self) -> Stopping:
        return Stopping(self.tol, self.max_iter, self.stop)

    def start(self, mixture: Mixture, beginning: Beginning) -> IncrementalState:
        total = beginning.sample
        return self.resume(IncrementalState(mixture, total=total, beginning=beginning))

    def resume(self, state: State) -> IncrementalState:
        assert isinstance(state, IncrementalState)
        predicted = predicted_gain(state.bounds)
        return replace(state, outcome=self.stopping.outcome(state.laps, state.bounds, predicted, state.told))

    def ask(self, state: State, plan: Plan) -> Request:
        assert isinstance(state, IncrementalState)
        slices = plan.mini_batch(state.step, state.beginning.seed)  # of the same rows in every lap
        return Request((EStep.of(state.mixture),), slices)

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[IncrementalState, Note]:
        assert isinstance(state, IncrementalState)
        assert isinstance(answer, tuple)
        (stats,) = answer
        step, beginning = state.step, state.beginning
        memory = (*state.memory[:step], stats, *state.memory[step + 1 :])
        if step + 1 == beginning.steps:  # anew, without the sample and without what rounding has added up
            total = added(memory, stats.origin)
        else:
            replaced = state.memory[step : step + 1]
            total = added((*(() if state.total is None else (state.total,)), stats), stats.origin)
            total = total - added(replaced, stats.origin) if replaced else total
        following = replace(state, memory=memory, total=total, step=(step + 1) % beginning.steps)
        repairs: tuple[Repair, ...] = ()
        if not following.step:  # only a whole lap tells whether a component has rows
            following, total, repairs = following.mended(total, prior)
            for repair in repairs:
                following = replace(following, memory=tuple(map(repair.on, following.memory)), total=total)
        if state.laps or beginning.fitted or not following.step:  # rows that have not come yet are stood in for
            following = replace(following, mixture=checked_m_step(total, prior))
        log_prior = prior.log_density(following.mixture)
        nats = following.mixture.expected_log_joint(total) + total.entropy + log_prior
        bound, log_prior = nats / (total.weight or 1.0), log_prior / (total.weight or 1.0)
        if following.step:
            return following, Note(bound, None, state.empty, (), log_prior)
        bounds = () if repairs else (*state.bounds, bound)[-3:]
        gain = bound - state.bounds[-1] if state.bounds else None
        following = replace(following, laps=state.laps + 1, bounds=bounds)
        return self.resume(following), Note(bound, gain, following.empty, repairs, log_prior)

    def kept_bytes(self, stats_bytes: int, steps: int) -> int:
        return (steps + 4) * stats_bytes


def added(parts: tuple[Stats, ...], origin: Array) -> Stats:
    """The sum of statistics about a common origin (K, d)."""
    total = parts[0].about(origin)
    for other in parts[1:]:
        total = total + other.about(origin)
    return total
