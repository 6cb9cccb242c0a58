"""L-BFGS (Nocedal 1980) with a strong Wolfe line search, one evaluation at a time: what climbs in coordinates and on
manifolds have in common.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gmmdask.algorithms._base import Answer, Beginning, Note, Request, State
from gmmdask.algorithms._search import Search
from gmmdask.algorithms._stopping import Ascent
from gmmdask.algorithms.batch import checked_m_step
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.gradients import has_room, is_sound, objective
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.repair import Repair
from gmmdask.stats import Stats

LONGEST = 1.0  # of a first step, in any coordinate: a standard deviation of the data, a factor e of a width
LIGHTEST = 1e-6  # a weight below this is no measure of how far a step may lead
PARALLEL = 1e-10  # cosine of step and change of gradient below which they teach nothing of the curvature

Pair = tuple[Array, Array]  # a step, and what the gradient lost by it


class Chart(Protocol):
    """Where a climb takes place: points and steps as vectors, whatever they mean."""

    def enter(self, mixture: Mixture, prior: Prior) -> Array:
        """The point of a mixture, or of one near it if it has none."""

    def mixture(self, point: Array, like: Mixture, prior: Prior) -> Mixture:
        """The mixture at a point, of the family and shape of another."""

    def moved(self, point: Array, step: Array, like: Mixture) -> Array:
        """The point at the end of a step."""

    def measured(self, point: Array, stats: Stats, mixture: Mixture, prior: Prior) -> tuple[float, Array]:
        """Value and gradient, per unit weight, from the statistics under the mixture at the point."""

    def settled(self, point: Array, like: Mixture) -> Array:
        """The point that stands for the mixture at this one, and is no worse."""

    def scales(self, mixture: Mixture) -> Array:
        """How far a unit of each slope should lead, before anything was learned of the curvature."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A point that was evaluated: penalised value and gradient per unit weight, and the log prior in the value."""

    point: Array
    value: float
    gradient: Array
    log_prior: float


@dataclass(frozen=True, eq=False)
class Reach:
    """A line search under way: in this direction, with this mixture at the end of the step that is evaluated next."""

    direction: Array
    search: Search
    trial: Mixture


KEPT = (Search, Measured, Reach)  # what a state holds beside arrays


@dataclass(frozen=True, eq=False)
class ClimbState(State):
    """Where a climb stands: `mixture` is the best so far.

    Parameters
    ----------
    place : that of the mixture; None before it was evaluated.
    point : of a mixture that was put on the chart before it was evaluated there.
    reach : None before the first place.
    pairs : steps and changes of the gradient, oldest first.
    decrement : what a Newton step should gain, nats per row; None before anything is known of the curvature.
    bounds : values after the last three steps, oldest first, in nats per row of the frame.
    stuck : whether no step gains more than rounding.
    """

    place: Measured | None = None
    point: Array | None = None
    reach: Reach | None = None
    pairs: tuple[Pair, ...] = ()
    decrement: float | None = None
    bounds: tuple[float, ...] = ()
    stuck: bool = False

    @property
    def asked(self) -> Mixture:
        """What is evaluated next."""
        return self.mixture if self.reach is None else self.reach.trial


@dataclass(frozen=True)
class Climb:
    """One pass evaluates a mixture, value and gradient; a step is taken once it satisfies the strong Wolfe conditions.

    Parameters
    ----------
    ascent : when it ends. The last two steps together are judged, and what a Newton step should gain.
    memory : pairs that are kept.
    """

    chart: Chart
    ascent: Ascent
    memory: int

    def start(self, mixture: Mixture, beginning: Beginning) -> ClimbState:
        return self.resume(ClimbState(mixture))

    def resume(self, state: State) -> ClimbState:
        assert isinstance(state, ClimbState)
        bounds, left = state.bounds, state.decrement
        gained = None if left is None or len(bounds) < 3 else max(bounds[-1] - bounds[-3], left)
        steep = None if state.place is None else float(np.linalg.norm(state.place.gradient))
        outcome = self.ascent.outcome(state.laps, steep, gained, left, state.stuck, state.told)
        return replace(state, outcome=outcome)

    def ask(self, state: State, plan: Plan) -> Request:
        assert isinstance(state, ClimbState)
        return Request((EStep.of(state.asked),))

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[ClimbState, Note]:
        assert isinstance(state, ClimbState)
        assert isinstance(answer, tuple)
        (stats,) = answer
        before, repairs = state.place, tuple[Repair, ...]()
        bound, log_prior = objective(stats, state.asked, prior)
        state = replace(state, laps=state.laps + 1)
        if before is not None and state.reach is not None:
            state, repairs = self._probed(state, before, state.reach, stats, prior)
        elif state.point is not None:
            state, repairs = self._arrived(state, state.point, stats, prior)
        else:
            point = self.chart.enter(state.mixture, prior)
            if has_room(state.mixture, prior):
                state, repairs = self._arrived(state, point, stats, prior)
            else:  # it has no point, and the one beside it is evaluated first
                state = replace(state, mixture=self.chart.mixture(point, state.mixture, prior), point=point)
        if state.place is not None:
            bound, log_prior = state.place.value, state.place.log_prior
        gain = None if before is None else bound - before.value
        return self.resume(state), Note(bound, gain, state.empty, repairs, log_prior)

    def _probed(
        self, state: ClimbState, place: Measured, reach: Reach, stats: Stats, prior: Prior
    ) -> tuple[ClimbState, tuple[Repair, ...]]:
        """After the evaluation at the end of a step: there, or on with the search."""
        search, trial = reach.search, reach.trial
        step = search.length * reach.direction
        point = self.chart.moved(place.point, step, state.mixture)
        value, gradient = self.chart.measured(point, stats, trial, prior)
        slope = float(gradient @ reach.direction)
        if not search.accepts(value, slope):
            return self._searching(state, place, reach.direction, search.narrowed(value, slope), prior), ()
        point = self.chart.settled(point, state.mixture)
        lost = place.gradient - self.chart.measured(point, stats, trial, prior)[1]
        bend, most = float(step @ lost), float(np.linalg.norm(step) * np.linalg.norm(lost))
        pairs = (*state.pairs, (step, lost))[-self.memory :] if bend > PARALLEL * most else state.pairs
        return self._arrived(replace(state, mixture=trial, pairs=pairs), point, stats, prior)

    def _arrived(
        self, state: ClimbState, point: Array, stats: Stats, prior: Prior
    ) -> tuple[ClimbState, tuple[Repair, ...]]:
        """At the point of `state.mixture`, with its statistics: repaired, or with a search from here on."""
        state, mended, repairs = state.mended(stats, prior)
        if repairs:
            anew = ClimbState(checked_m_step(mended, prior), state.laps, empty=state.empty)
            return replace(anew, reseeds=state.reseeds, dropped=state.dropped), repairs
        measured = self.chart.measured(point, stats, state.mixture, prior)
        place = Measured(point, *measured, objective(stats, state.mixture, prior)[1])
        state = replace(state, place=place, bounds=(*state.bounds, place.value)[-3:])
        return self._setting_out(state, place, prior), ()

    def _setting_out(self, state: ClimbState, place: Measured, prior: Prior) -> ClimbState:
        """With a direction, and a search along it."""
        scales = self.chart.scales(state.mixture)
        direction = two_loops(state.pairs, place.gradient, scales)
        slope = float(direction @ place.gradient)
        if not slope > 0:
            state, direction = replace(state, pairs=()), scales * place.gradient
            slope = float(direction @ place.gradient)
        if not slope > 0:
            return replace(state, stuck=True, reach=None)
        length = min(1.0, LONGEST / float(np.abs(direction).max()))
        state = replace(state, decrement=0.5 * slope if state.pairs else None)
        return self._searching(state, place, direction, Search.of(place.value, slope, length), prior)

    def _searching(
        self, state: ClimbState, place: Measured, direction: Array, search: Search, prior: Prior
    ) -> ClimbState:
        """With the mixture that the search wants evaluated; a search that has failed begins again up the gradient."""
        while not search.exhausted:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                point = self.chart.moved(place.point, search.length * direction, state.mixture)
                trial = self.chart.mixture(point, state.mixture, prior)
                if is_sound(trial):
                    return replace(state, reach=Reach(direction, search, trial))
            search = search.shortened()
        if state.pairs:
            return self._setting_out(replace(state, pairs=()), place, prior)
        return replace(state, stuck=True, reach=None)


def two_loops(pairs: tuple[Pair, ...], gradient: Array, scales: Array) -> Array:
    """The direction -H⁻¹ g of a maximum by what the pairs tell of the Hessian H (Nocedal 1980, two-loop recursion)."""
    rest, shares = gradient.copy(), []
    for step, lost in reversed(pairs):
        shares.append(float(step @ rest) / float(step @ lost))
        rest -= shares[-1] * lost
    direction = scales * rest
    if pairs:
        step, lost = pairs[-1]
        direction *= float(step @ lost) / float(lost @ (scales * lost))
    for step, lost in pairs:
        direction += (shares.pop() - float(lost @ direction) / float(step @ lost)) * step
    return direction
