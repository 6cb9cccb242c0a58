"""Steepest ascent with momentum, and Adam (Kingma and Ba 2015): a step after every pass, or every mini-batch."""

from dataclasses import dataclass, replace

import numpy as np

from gmmdask.algorithms._base import Answer, Beginning, Note, Request, State
from gmmdask.algorithms._stopping import Ascent, after_laps
from gmmdask.algorithms.batch import checked_m_step
from gmmdask.algorithms.stochastic import paired
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.gradients import bared, gradient, is_sound, mixture_at, objective
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.repair import Repair
from gmmdask.stats import Stats

SCHEDULES = ("constant", "sqrt", "inverse")
FORGETTING = 0.999  # β2 of Adam: what a step leaves of the mean square of the gradient
SMALLEST = 1e-8  # ε of Adam
LONGEST = 1.0  # of a step, in any coordinate: a standard deviation of the data, a factor e of a width
LAPS = 10  # that are judged together: steps are small


@dataclass(frozen=True, eq=False, kw_only=True)
class StepsState(State):
    """Where the steps stand; `mixture` is the result of the last whole lap, `current` the one that is evaluated next.

    Parameters
    ----------
    beginning : the run's.
    point : coordinates of `current`; None before the first step, and after a repair.
    velocity, square : running means of the gradient and, for Adam, of its squares.
    moves : steps that were made with these.
    taken : steps that were made in all: what the schedule goes by.
    seen : statistics of the lap's rows, each under the mixture before its step, about zero.
    steep : the gradient's length, per row, of the last step.
    bounds : of the last laps, oldest first, in nats per row of the frame.
    score, gain, noise : of laps of mini-batches, as in `StochasticState`.
    repaired : whether the lap ended with a repair: what it gained says nothing then.
    """

    current: Mixture
    beginning: Beginning
    point: Array | None = None
    velocity: Array | None = None
    square: Array | None = None
    moves: int = 0
    taken: int = 0
    seen: Stats | None = None
    steep: float | None = None
    bounds: tuple[float, ...] = ()
    score: float | None = None
    gain: float | None = None
    noise: float = 0.0
    repaired: bool = False


@dataclass(frozen=True)
class Steps:
    """θ ← θ + rate · direction, in unconstrained coordinates; the direction is that of momentum, or Adam's.

    Parameters
    ----------
    mini_batches : whether a lap is made of them.
    adam : whether slopes are divided by the roots of their mean squares.
    rate, momentum, schedule, decay : as `Gradient` has them.
    """

    ascent: Ascent
    mini_batches: bool
    adam: bool
    rate: float
    momentum: float
    schedule: str
    decay: int

    def start(self, mixture: Mixture, beginning: Beginning) -> StepsState:
        return self.resume(StepsState(mixture, current=mixture, beginning=beginning))

    def resume(self, state: State) -> StepsState:
        assert isinstance(state, StepsState)
        tol, laps, bounds = self.ascent.tol, state.laps, state.bounds
        if self.mini_batches:
            ended = after_laps(tol, self.ascent.max_iter, laps, state.gain, state.noise, state.told)
        else:
            gained = abs(bounds[-1] - bounds[0]) if len(bounds) > LAPS else None
            ended = self.ascent.outcome(laps, state.steep, gained, None, False, state.told)
        return replace(state, outcome=ended)

    def ask(self, state: State, plan: Plan) -> Request:
        assert isinstance(state, StepsState)
        if not self.mini_batches:
            return Request((EStep.of(state.current),))
        if state.step == state.beginning.steps:
            return Request((EStep.of(state.mixture), EStep.of(state.current)), held_out=True)
        return Request((EStep.of(state.current),), plan.mini_batch(state.step, state.beginning.seed, state.laps))

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[StepsState, Note]:
        assert isinstance(state, StepsState)
        if not isinstance(answer, tuple):
            share, before = map(prior.log_density_per_row, (state.current, state.mixture))
            score, gained, noise = paired(*answer)
            return self._lap(state, score + share, gained + (share - before), noise, share)
        (stats,) = answer
        bound, log_prior = objective(stats, state.current, prior) if stats.weight else (float("nan"), 0.0)
        state = self._moved(state, stats, prior) if stats.weight else replace(state, step=state.step + 1)
        if self.mini_batches and state.seen is not None and state.seen.weight:
            bound = state.seen.log_likelihood / state.seen.weight + log_prior
        if self.mini_batches and state.step < state.beginning.steps:
            return state, Note(bound, None, state.empty, (), log_prior)
        state, repairs = self._mended(state, prior)
        if self.mini_batches and state.beginning.held_out:
            return state, Note(bound, None, state.empty, repairs, log_prior)
        gain = None if state.score is None else bound - state.score
        state, note = self._lap(state, bound, gain, 0.0, log_prior)
        return state, replace(note, repairs=repairs)

    def _moved(self, state: StepsState, stats: Stats, prior: Prior) -> StepsState:
        """One step up the gradient, as long as there is a mixture at its end."""
        like, point = state.current, state.point
        if point is None:
            point = bared(like, prior).coordinates()
        slope, moves = gradient(point, stats, like, prior), state.moves + 1
        velocity, square, direction = self._direction(state, slope, moves)
        step = self.rate_at(state.taken) * direction
        step = step * min(1.0, LONGEST / max(float(np.abs(step).max()), SMALLEST))
        following = like
        for _ in range(60):
            with np.errstate(over="ignore", invalid="ignore"):
                following = mixture_at(point + step, like, prior)
                if is_sound(following):
                    break
            step = 0.5 * step
        seen = stats.about(np.zeros_like(stats.origin))
        seen = seen if state.seen is None else state.seen + seen
        state = replace(state, current=following, point=point + step, velocity=velocity, square=square, moves=moves)
        steep = float(np.linalg.norm(slope))
        return replace(state, taken=state.taken + 1, step=state.step + 1, seen=seen, steep=steep)

    def _direction(self, state: StepsState, slope: Array, moves: int) -> tuple[Array, Array | None, Array]:
        """The running means with one slope more, and where they lead."""
        if not self.adam:
            velocity = slope if state.velocity is None else slope + self.momentum * state.velocity
            return velocity, None, velocity
        velocity, square = (1 - self.momentum) * slope, (1 - FORGETTING) * slope**2
        if state.velocity is not None and state.square is not None:
            velocity, square = velocity + self.momentum * state.velocity, square + FORGETTING * state.square
        root = np.sqrt(square / (1 - FORGETTING**moves)) + SMALLEST
        return velocity, square, velocity / (1 - self.momentum**moves) / root

    def rate_at(self, taken: int) -> float:
        """The learning rate after so many steps."""
        power = {"constant": 0.0, "sqrt": 0.5, "inverse": 1.0}[self.schedule]
        return float(self.rate * (1 + taken / self.decay) ** -power)

    def _mended(self, state: StepsState, prior: Prior) -> tuple[StepsState, tuple[Repair, ...]]:
        """At the end of a lap: components are judged by what they held of its rows."""
        if state.seen is None or not state.seen.weight:
            return state, ()
        state, sums, repairs = state.mended(state.seen, prior)
        if not repairs:
            return state, ()
        current = checked_m_step(sums, prior)
        return replace(state, current=current, point=None, velocity=None, square=None, moves=0, repaired=True), repairs

    def _lap(
        self, state: StepsState, bound: float, gain: float | None, noise: float, log_prior: float
    ) -> tuple[StepsState, Note]:
        bounds = () if state.repaired else (*state.bounds, bound)[-LAPS - 1 :]
        judged = None if state.repaired else gain
        state = replace(state, mixture=state.current, laps=state.laps + 1, step=0, seen=None, bounds=bounds)
        state = replace(state, score=bound, gain=judged, noise=noise, repaired=False)
        return self.resume(state), Note(bound, gain, state.empty, (), log_prior)
