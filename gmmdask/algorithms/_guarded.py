"""An algorithm of one run among many: what would end a fit with an error ends this run, and no other."""

from dataclasses import dataclass, replace
from typing import Any

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.covariance import IllDefinedCovariance
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.outcome import Outcome, Reason
from gmmdask.plan import Plan
from gmmdask.repair import EmptyComponent

FINAL = (Reason.DROPPED, Reason.FAILED)


@dataclass(frozen=True)
class Guarded(Algorithm):
    """Another algorithm; a covariance or component that it cannot go on with is an outcome, as is being dropped."""

    algorithm: Algorithm

    @property
    def max_iter(self) -> int:
        return getattr(self.algorithm, "max_iter", 0)

    def describe(self) -> dict[str, Any]:
        return self.algorithm.describe()

    def start(self, mixture: Mixture, beginning: Beginning) -> State:
        return self.algorithm.start(mixture, beginning)

    def resume(self, state: State) -> State:
        ended = state.outcome is not None and state.outcome.reason in FINAL
        return state if ended else self.algorithm.resume(state)

    def ask(self, state: State, plan: Plan) -> Request:
        return self.algorithm.ask(state, plan)

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[State, Note]:
        """The state as it was, with an outcome, where the algorithm cannot make another of it."""
        try:
            return self.algorithm.tell(state, answer, prior)
        except (IllDefinedCovariance, EmptyComponent) as error:
            assert isinstance(answer, tuple)
            stats, log_prior = answer[0], prior.log_density(state.mixture)
            bound, log_prior = (stats.log_likelihood + log_prior) / stats.weight, log_prior / stats.weight
            ended = replace(state, laps=state.laps + 1, outcome=Outcome(Reason.FAILED, str(error), None))
            return ended, Note(bound, log_prior=log_prior)

    def kept_bytes(self, stats_bytes: int, steps: int) -> int:
        return self.algorithm.kept_bytes(stats_bytes, steps)
