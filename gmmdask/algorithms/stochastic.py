"""Stochastic EM (Cappé and Moulines 2009; Liang and Klein 2009): an M-step after every mini-batch."""

from dataclasses import dataclass, replace

import numpy as np

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._online import RATES, Online
from gmmdask.algorithms._stopping import after_laps
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.outcome import Outcome
from gmmdask.plan import Plan
from gmmdask.repair import Repair


@dataclass(frozen=True, eq=False, kw_only=True)
class StochasticState(State):
    """Where a lap stands; `mixture` is the result of the last whole lap.

    Parameters
    ----------
    online : what all steps so far have taught.
    beginning : the run's.
    seen : log likelihood (nats) and weight of the lap's rows, each under the mixture before it had learned them.
    score : nats per row, by `seen`, of the last whole lap, with the log prior of what it made.
    gain, noise : what the last whole lap gained, and two standard errors of it; nats per row, with the log prior's.
    repaired : whether the lap ended with a repair: what it gained says nothing then.
    """

    online: Online
    beginning: Beginning
    seen: tuple[float, float] = (0.0, 0.0)
    score: float | None = None
    gain: float | None = None
    noise: float = 0.0
    repaired: bool = False


@dataclass(frozen=True)
class Stochastic(Algorithm):
    """s ← (1 - γ) s + γ s(B, θ), θ ← M(s), for one mini-batch B after another; the parts of the data come mixed.

    Parameters
    ----------
    tol : float
        Ends when a lap gained less than this on the held-out rows, or less than two standard errors of the gain; nats
        per row. 0 always runs `max_iter` laps. Where no rows are held out, the lap's rows are judged, each before it
        is learned. Under a prior both have the log prior in them, per row of all the data, as the bounds that are told.
    max_iter : int
        Laps over the data.
    rate : {"auto", "equal", "power"} or float
        γ: "power" is (t + 2)^-power at step t, with averages over the last half of the steps: measured to learn most in
        a lap, if mini-batches are alike. "equal" weighs all rows alike, the sample's among them: after a fit to a
        sample it bears mini-batches that differ. A number in (0, 1) is γ itself and forgets at a constant rate: for a
        stream that drifts. "auto" is "power", but "equal" for sorted rows of which many are not in flight at once.
    power : float in (0.5, 1]
    mini_batches : int
        Steps of a lap, at least, where the rows allow.

    Raises
    ------
    ValueError
        If `rate` or `power` is none of these.
    """

    tol: float = 1e-3
    max_iter: int = 100
    rate: str | float = "auto"
    power: float = 0.6
    mini_batches: int = 100

    def __post_init__(self) -> None:
        known = self.rate in ("auto", *RATES) if isinstance(self.rate, str) else 0 < self.rate < 1
        if not known:
            raise ValueError(f"rate={self.rate!r}: expected auto, {', '.join(RATES)}, or a number between 0 and 1.")
        if not 0.5 < self.power <= 1:
            raise ValueError(f"power={self.power!r}: expected a number above 0.5 and at most 1.")

    def begin(self, mixture: Mixture, beginning: Beginning) -> Online:
        """Online EM before the first mini-batch."""
        sample = beginning.sample
        usual = "power" if sample is None or beginning.mixed else "equal"
        rate = usual if self.rate == "auto" else self.rate
        rows, steps = (0.0, 0) if sample is None else (sample.weight, 1)
        return Online(mixture, rate, self.power, sample, rows, steps)

    def start(self, mixture: Mixture, beginning: Beginning) -> StochasticState:
        online = self.begin(mixture, beginning)
        return self.resume(StochasticState(mixture, online=online, beginning=beginning))

    def resume(self, state: State) -> StochasticState:
        assert isinstance(state, StochasticState)
        return replace(state, outcome=self._outcome(state))

    def ask(self, state: State, plan: Plan) -> Request:
        assert isinstance(state, StochasticState)
        beginning, mixture = state.beginning, state.online.mixture
        if state.step == beginning.steps:
            compared = (state.mixture, mixture)
            return Request(tuple(EStep.of(m) for m in compared), held_out=True)
        slices = plan.mini_batch(state.step, beginning.seed, state.laps)
        return Request((EStep.of(mixture),), slices)

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[StochasticState, Note]:
        assert isinstance(state, StochasticState)
        if not isinstance(answer, tuple):
            share, before = map(prior.log_density_per_row, (state.online.mixture, state.mixture))
            score, gained, noise = paired(*answer)
            return self._after_lap(state, score + share, gained + (share - before), noise, share)
        (stats,) = answer
        online = state.online.after(stats, prior)
        seen = (state.seen[0] + stats.log_likelihood, state.seen[1] + stats.weight)
        following, repairs = replace(state, online=online, step=state.step + 1, seen=seen), tuple[Repair, ...]()
        last = following.step == state.beginning.steps
        if last:
            following, repairs = mended(replace(following, online=replace(online, mixture=online.result(prior))), prior)
        share = prior.log_density_per_row(following.online.mixture)
        bound = seen[0] / seen[1] + share if seen[1] else float("nan")
        if not last or state.beginning.held_out:
            return following, Note(bound, None, following.empty, repairs, share)
        gain = None if state.score is None else bound - state.score
        following, note = self._after_lap(following, bound, gain, 0.0, share)
        return following, replace(note, repairs=repairs)

    def _after_lap(
        self, state: StochasticState, bound: float, gain: float | None, noise: float, share: float
    ) -> tuple[StochasticState, Note]:
        """At the end of a lap that ends at a bound, of which a share is the log prior; nats per row."""
        mixture, judged = state.online.mixture, None if state.repaired else gain
        score = state.seen[0] / state.seen[1] + share
        following = replace(state, mixture=mixture, laps=state.laps + 1, step=0, seen=(0.0, 0.0))
        following = replace(following, score=score, gain=judged, noise=noise, repaired=False)
        return self.resume(following), Note(bound, gain, state.empty, (), share)

    def _outcome(self, state: StochasticState) -> Outcome | None:
        return after_laps(self.tol, self.max_iter, state.laps, state.gain, state.noise, state.told)


def mended(state: StochasticState, prior: Prior) -> tuple[StochasticState, tuple[Repair, ...]]:
    """At the end of a lap: components are judged by what they would hold of its rows."""
    online = state.online
    if online.sums is None or not state.seen[1]:
        return state, ()
    state, sums, repairs = state.mended(online.sums.scaled(state.seen[1] / online.sums.weight), prior)
    if not repairs:
        return state, ()
    return replace(state, online=online.mended(sums, prior), repaired=True), repairs


def paired(before: Array, after: Array, weights: Array | None = None) -> tuple[float, float, float]:
    """Mean of `after` (h,), its mean gain on `before` (h,), and two standard errors of that gain."""
    gains = after - before
    if weights is not None:
        shares, h = weights / weights.sum(), len(gains)
        mean = float(shares @ gains)
        error = float(np.linalg.norm(shares * (gains - mean))) * (h / (h - 1)) ** 0.5 if h > 1 else 0.0
        return float(shares @ after), mean, 2 * error
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return float(after.mean()), float(gains.mean()), 2 * error
