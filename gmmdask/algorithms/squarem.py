"""SQUAREM (Varadhan and Roland 2008) around batch EM: fewer passes where EM is slow, and never worse than EM."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._stopping import predicted_gain
from gmmdask.algorithms.batch import Batch, checked_m_step
from gmmdask.covariance import IllDefinedCovariance
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.repair import poor
from gmmdask.stats import Stats

BEGIN = 1e-2  # nats a row: while EM still gains more in a pass, a long step can jump into another basin
FACTOR = 4.0  # by which the longest step grows when it is reached, and shrinks when a step is rejected


@dataclass(frozen=True, eq=False)
class SquaremState(State):
    """What a cycle knows.

    Parameters
    ----------
    before : the mixture that the present one is EM's step from; None at the start.
    trial : the extrapolated mixture that competes with the present one in the next pass.
    length, longest : the length of its step, and the longest that is tried.
    ratio : a guess of the ratio of EM's successive gains.
    bounds : lower bounds of the last three passes, oldest first, in nats per row of the frame.
    predicted : nats per row that are left to gain, None where nothing can be said.
    """

    before: Mixture | None = None
    trial: Mixture | None = None
    length: float = 1.0
    longest: float = FACTOR
    ratio: float | None = None
    bounds: tuple[float, ...] = ()
    predicted: float | None = None


@dataclass(frozen=True)
class Squarem(Algorithm):
    """Batch EM whose steps are extrapolated.

    Of three successive mixtures θ0, θ1, θ2 of EM, in unconstrained coordinates, with r = θ1 - θ0 and
    v = (θ2 - θ1) - r, a step of length a = |r|/|v| leads to θ0 + 2 a r + a² v; a = 1 is EM's own θ2. One pass evaluates
    that mixture and θ2, and the better one goes on: a rejection costs no read, and the bound never falls below EM's.

    Parameters
    ----------
    em : what is accelerated; its settings decide when the run ends.
    """

    em: Batch

    @property
    def max_iter(self) -> int:
        return self.em.max_iter

    @property
    def tol(self) -> float:
        return self.em.tol

    def describe(self) -> dict[str, Any]:
        return {**self.em.describe(), "name": "Squarem"}

    def start(self, mixture: Mixture, beginning: Beginning) -> SquaremState:
        return self.resume(SquaremState(mixture))

    def resume(self, state: State) -> SquaremState:
        assert isinstance(state, SquaremState)
        outcome = self.em.stopping.outcome(state.laps, state.bounds, state.predicted, state.told)
        return replace(state, outcome=outcome)

    def ask(self, state: State, plan: Plan) -> Request:
        assert isinstance(state, SquaremState)
        mixtures = (state.mixture,) if state.trial is None else (state.mixture, state.trial)
        return Request(tuple(map(self.em.e_step, mixtures)))

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[SquaremState, Note]:
        assert isinstance(state, SquaremState)
        assert isinstance(answer, tuple)
        state, mended, repairs = state.mended(answer[0], prior)
        if repairs:
            following, taken = anew(state, checked_m_step(mended, prior)), 0
        else:
            take = self._single if state.trial is None else judged
            following, taken = take(state, answer, prior)
        bound, log_prior = objectives(state, answer, prior)[taken]
        bounds = (*state.bounds, bound)[-3:]
        gain = bounds[-1] - bounds[-2] if len(bounds) > 1 else None
        following = replace(following, laps=state.laps + 1, bounds=() if repairs else bounds)
        return self.resume(following), Note(bounds[-1], gain, following.empty, repairs, log_prior)

    def _single(self, state: SquaremState, answer: tuple[Stats, ...], prior: Prior) -> tuple[SquaremState, int]:
        """After a pass of EM alone: its step, and where the last two steps point to once EM has become slow."""
        (stats,), ((bound, _),) = answer, objectives(state, answer, prior)
        mixture = checked_m_step(stats, prior)
        following = replace(state, mixture=mixture, before=state.mixture)
        if state.before is None or not state.bounds:
            return following, 0
        gain = bound - state.bounds[-1]
        predicted = predicted_gain((*state.bounds, bound), state.ratio)
        following = replace(following, predicted=predicted)
        return (extrapolated(following, state.before) if 0 <= gain < BEGIN else following), 0


def objectives(state: SquaremState, answer: tuple[Stats, ...], prior: Prior) -> list[tuple[float, float]]:
    """Lower bound and log prior of the mixtures that were asked for, nats per row."""
    asked = zip((state.mixture, state.trial), answer, strict=False)
    found = [(stats, prior.log_density(mixture)) for mixture, stats in asked if mixture is not None]
    return [((stats.log_likelihood + nats) / stats.weight, nats / stats.weight) for stats, nats in found]


def anew(state: SquaremState, mixture: Mixture) -> SquaremState:
    """From another mixture, perhaps of fewer components: what was learned of steps is forgotten."""
    fresh = SquaremState(mixture)
    return replace(fresh, laps=state.laps, empty=state.empty, reseeds=state.reseeds, dropped=state.dropped)


def extrapolated(state: SquaremState, first: Mixture) -> SquaremState:
    """With the mixture that the last two steps of EM, from `first` on, point to; without, where they point nowhere."""
    assert state.before is not None
    start, middle, end = (mixture.coordinates() for mixture in (first, state.before, state.mixture))
    step, bend = middle - start, end - 2 * middle + start
    if not np.any(bend):
        return state
    wanted = max(1.0, float(np.linalg.norm(step) / np.linalg.norm(bend)))
    length = min(wanted, state.longest)
    state = replace(state, ratio=(1 - 1 / wanted) ** 2, length=length)
    if length == 1:
        return replace(state, longest=FACTOR if wanted > 1 else state.longest)
    trial = state.mixture.at(start + 2 * length * step + length**2 * bend)
    return replace(state, trial=trial) if is_usable(trial) else replace(state, longest=max(1.0, length / FACTOR))


def is_usable(mixture: Mixture) -> bool:
    """Whether a mixture has finite parameters and covariances that are positive definite."""
    try:
        return bool(np.isfinite(mixture.means).all() and np.isfinite(mixture.root).all())
    except IllDefinedCovariance:
        return False


def judged(state: SquaremState, answer: tuple[Stats, ...], prior: Prior) -> tuple[SquaremState, int]:
    """After a pass of two mixtures: one step of EM from the better, what was learned of steps, and which it was."""
    own, tried = answer
    base, last = state.bounds[-2:] if len(state.bounds) > 1 else (state.bounds[-1],) * 2
    (bound, _), (other, _) = objectives(state, answer, prior)
    ratio = max(state.ratio or 0.0, (bound - last) / (last - base) if last > base else 0.0)
    longest = state.longest * FACTOR if state.length == state.longest else state.longest
    following = replace(state, trial=None, ratio=ratio, predicted=predicted_gain((last, bound), ratio))
    no_poorer = set(poor(tried, prior)) <= set(poor(own, prior))
    if other >= bound and no_poorer:
        assert state.trial is not None
        try:
            mixture = checked_m_step(tried, prior)
            return replace(following, mixture=mixture, before=state.trial, longest=longest), 1
        except IllDefinedCovariance:
            pass  # the trial's next step would collapse: as good as rejected
    mixture, longest = checked_m_step(own, prior), max(1.0, state.longest / FACTOR)
    return replace(following, mixture=mixture, before=state.mixture, longest=longest), 0
