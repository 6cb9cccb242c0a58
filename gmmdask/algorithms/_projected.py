"""Projected gradient on the plain parameters: weights onto the simplex, covariances by clipping their eigenvalues."""

from dataclasses import dataclass, replace

import numpy as np

from gmmdask.algorithms._base import Answer, Beginning, Note, Request, State
from gmmdask.algorithms._stopping import Ascent
from gmmdask.algorithms.batch import checked_m_step
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.gradients import objective, slopes
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.stats import Stats

LIGHTEST = 1e-6  # times one over their number: the least weight, since a component of none would have no slope either
NARROWEST = 1e-6  # the least eigenvalue of a covariance beside the regularisation; the data's variance is one
RISE = 1e-4  # of what the slope promises, a step must bring so much (Bertsekas 1976)
GROW, SHRINK = 2.0, 0.25  # of the rate after a step that was taken, and one that was not
LEAST_RATE = 1e-15
STEPS = 10  # that are judged together


@dataclass(frozen=True, eq=False)
class ProjectedState(State):
    """Where a projected climb stands: `mixture` is the best so far.

    Parameters
    ----------
    value, gradient : of the mixture, penalised, in nats per row of the frame; the gradient by plain parameters.
    log_prior : how much of the value is the log prior.
    rate : the length of the next step, in gradients.
    trial : the mixture at its end.
    bounds : values after the last steps, oldest first.
    """

    value: float | None = None
    gradient: Array | None = None
    log_prior: float = 0.0
    rate: float = 0.0
    trial: Mixture | None = None
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Projection:
    """θ ← the projection of θ + rate · gradient; a step that does not rise is taken back, and the rate is less then.

    Parameters
    ----------
    rate : of the first step.
    """

    ascent: Ascent
    rate: float

    def start(self, mixture: Mixture, beginning: Beginning) -> ProjectedState:
        return self.resume(ProjectedState(mixture, rate=self.rate))

    def resume(self, state: State) -> ProjectedState:
        assert isinstance(state, ProjectedState)
        bounds, stuck = state.bounds, 0 < state.rate < LEAST_RATE
        gained = bounds[-1] - bounds[0] if len(bounds) > STEPS else None
        steep = None if state.gradient is None else stationarity(state.mixture, state.gradient)
        return replace(state, outcome=self.ascent.outcome(state.laps, steep, gained, None, stuck, state.told))

    def ask(self, state: State, plan: Plan) -> Request:
        assert isinstance(state, ProjectedState)
        return Request((EStep.of(state.trial or state.mixture),))

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[ProjectedState, Note]:
        assert isinstance(state, ProjectedState)
        assert isinstance(answer, tuple)
        (stats,) = answer
        before, mixture = state.value, state.trial or state.mixture
        value, log_prior = objective(stats, mixture, prior)
        state, rate = replace(state, laps=state.laps + 1), state.rate
        if before is not None and state.gradient is not None:
            promised = float(state.gradient @ (plain(mixture) - plain(state.mixture)))
            if not value >= before + RISE * promised:
                state = self._setting_out(replace(state, rate=SHRINK * rate), prior)
                return self.resume(state), Note(before, 0.0, state.empty, (), state.log_prior)
            rate *= GROW
        gain = None if before is None else value - before
        state, mended, repairs = state.mended(stats, prior)
        if repairs:
            anew = ProjectedState(checked_m_step(mended, prior), state.laps, rate=self.rate, empty=state.empty)
            state = replace(anew, reseeds=state.reseeds, dropped=state.dropped)
        else:
            bounds = (*state.bounds, value)[-STEPS - 1 :]
            state = replace(state, mixture=mixture, value=value, log_prior=log_prior, rate=rate, bounds=bounds)
            state = self._setting_out(replace(state, gradient=plain_gradient(stats, mixture, prior)), prior)
        return self.resume(state), Note(value, gain, state.empty, repairs, log_prior)

    def _setting_out(self, state: ProjectedState, prior: Prior) -> ProjectedState:
        assert state.gradient is not None
        return replace(state, trial=projected(plain(state.mixture) + state.rate * state.gradient, state.mixture, prior))


def plain(mixture: Mixture) -> Array:
    """Proportions, means and covariances as one vector."""
    return np.concatenate([mixture.proportions, mixture.means.ravel(), mixture.covariances.ravel()])


def plain_gradient(stats: Stats, mixture: Mixture, prior: Prior) -> Array:
    """Of the objective per unit weight, by the numbers of `plain`."""
    found = slopes(stats, mixture, prior)
    weights = found.shares / np.maximum(mixture.proportions, np.finfo(np.float64).tiny)
    return np.concatenate([weights, found.means.ravel(), found.covariances.ravel()]) / stats.weight


def projected(vector: Array, like: Mixture, prior: Prior) -> Mixture:
    """The nearest mixture to such a vector."""
    family, (k, d), m = like.family, like.means.shape, like.proportions.size
    added, least = prior.added(family, k), LIGHTEST / m
    shares = least + (1 - LIGHTEST) * onto_simplex((vector[:m] - least) / (1 - LIGHTEST))
    means, covariances = vector[m : m + k * d].reshape(k, d), vector[m + k * d :].reshape(like.covariances.shape)
    floored = family.floored(covariances - added, NARROWEST) + added
    return replace(like.proportioned(shares), means=means, covariances=floored)


def onto_simplex(vector: Array) -> Array:
    """The nearest weights (K,), not negative and with the sum of one (Held, Wolfe and Crowder 1974)."""
    falling = np.sort(vector)[::-1]
    excess = (np.cumsum(falling) - 1) / np.arange(1, len(vector) + 1)
    level = excess[np.flatnonzero(falling > excess)[-1]]
    found = np.maximum(vector - level, 0.0)
    return np.asarray(found / found.sum())


def stationarity(mixture: Mixture, gradient: Array) -> float:
    """The gradient's length, without what leads off the simplex: of weights that are not at its border."""
    m, weights = mixture.proportions.size, gradient[: mixture.proportions.size]
    inside = mixture.proportions > 2 * LIGHTEST / m
    along = weights[inside] - weights[inside].mean() if inside.any() else weights[inside]
    return float(np.sqrt(along @ along + gradient[m:] @ gradient[m:]))
