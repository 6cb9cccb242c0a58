"""Gradient ascent: the likelihood's gradient is a function of the same statistics as the M-step."""

from dataclasses import dataclass

import numpy as np

from gmmdask.algorithms._base import Algorithm, Answer, Beginning, Note, Request, State
from gmmdask.algorithms._climb import LIGHTEST, Climb
from gmmdask.algorithms._projected import Projection
from gmmdask.algorithms._steps import SCHEDULES, Steps
from gmmdask.algorithms._stopping import Ascent
from gmmdask.covariance._base import Array
from gmmdask.frame import Prior
from gmmdask.gradients import bared, gradient, mixture_at, objective
from gmmdask.mixture import Mixture
from gmmdask.plan import Plan
from gmmdask.stats import Stats

RATES = {"sgd": 0.01, "adam": 0.01, "lbfgs": 1.0, "projected": 0.1}


@dataclass(frozen=True)
class Coordinates:
    """Unconstrained ones, `Mixture.coordinates`: points and steps are vectors, and add."""

    def enter(self, mixture: Mixture, prior: Prior) -> Array:
        return bared(mixture, prior).coordinates()

    def mixture(self, point: Array, like: Mixture, prior: Prior) -> Mixture:
        return mixture_at(point, like, prior)

    def moved(self, point: Array, step: Array, like: Mixture) -> Array:
        return point + step

    def measured(self, point: Array, stats: Stats, mixture: Mixture, prior: Prior) -> tuple[float, Array]:
        return objective(stats, mixture, prior)[0], gradient(point, stats, mixture, prior)

    def settled(self, point: Array, like: Mixture) -> Array:
        return point

    def scales(self, mixture: Mixture) -> Array:
        """Inverses of the information of each coordinate alone, from rows whose components are known."""
        (k, d), shares = mixture.means.shape, np.maximum(mixture.proportions, LIGHTEST)
        weights = shares[:k]
        precisions = mixture.family.dense(mixture.family.precisions(mixture.root), k, d)
        means = weights[:, None] * np.diagonal(precisions, axis1=1, axis2=2)
        own = mixture.family.information(mixture.root, weights, d)
        return 1 / np.concatenate([shares, means.ravel(), own.ravel()])


@dataclass(frozen=True)
class Gradient(Algorithm):
    """Gradient ascent of the (penalised) log likelihood per row, in the frame.

    Weights are a softmax of logits; covariances Σ = L Lᵀ + regularisation by L with log diagonal (`full`, `tied`), or
    by log σ² (`diag`, `spherical`): so every covariance is positive definite at every step.

    Parameters
    ----------
    optimizer : {"lbfgs", "adam", "sgd", "projected"}
        "lbfgs" is L-BFGS with a strong Wolfe search: one pass an evaluation, and few more than steps. "adam" and "sgd",
        steepest ascent with momentum, take a step after every pass or mini-batch. "projected" takes plain parameters,
        and projects weights onto the simplex and clips eigenvalues after each step; steps that do not rise are taken
        back.
    tol : float
        Nats per row; 0 leaves it to the gradient. "lbfgs" ends when its last two steps gained less, and a Newton step
        should; the others when ten laps together did; mini-batches as `Stochastic` does.
    max_iter : int
        Laps over the data.
    learning_rate : float or None
        None for 0.01 ("adam" and "sgd"), 0.1 ("projected": of the first step). "lbfgs" has none: it searches.
    momentum : float in [0, 1)
        Of "sgd"; of "adam" it is β1.
    schedule : {"constant", "sqrt", "inverse"}
        The learning rate at step t: as it is, divided by (1 + t/decay)^½, or by 1 + t/decay.
    decay : int
        Steps.
    mini_batches : int
        Of a lap, at least, where the rows allow; 0 for full batches. Of "adam" and "sgd" only.
    gradient_tol : float
        Full batches end when the gradient per row is shorter; 0 does not.
    memory : int
        Pairs of steps and changes of the gradient that "lbfgs" keeps.

    Raises
    ------
    ValueError
        If a setting is none of these.
    """

    optimizer: str = "lbfgs"
    tol: float = 1e-3
    max_iter: int = 100
    learning_rate: float | None = None
    momentum: float = 0.9
    schedule: str = "constant"
    decay: int = 100
    mini_batches: int = 0
    gradient_tol: float = 1e-6
    memory: int = 10

    def __post_init__(self) -> None:
        if self.optimizer not in RATES:
            raise ValueError(f"optimizer={self.optimizer!r}: expected one of {', '.join(RATES)}.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: expected one of {', '.join(SCHEDULES)}.")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate!r}: expected a positive number, or None.")
        if self.learning_rate is not None and self.optimizer == "lbfgs":
            raise ValueError(
                f"learning_rate={self.learning_rate!r}: optimizer='lbfgs' has none, it searches for the length of "
                "every step. Leave it out, or set optimizer to 'adam', 'sgd' or 'projected'."
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum!r}: expected a number from 0 up to, but not, 1.")
        for name, least in (("decay", 1), ("mini_batches", 0), ("memory", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {least} or more.")
        if self.mini_batches and self.optimizer in ("lbfgs", "projected"):
            raise ValueError(
                f"mini_batches={self.mini_batches}: optimizer={self.optimizer!r} compares values of all rows. Set "
                "mini_batches=0, or optimizer='adam' or 'sgd'."
            )

    @property
    def method(self) -> Climb | Projection | Steps:
        """What the optimizer's name stands for."""
        ascent = Ascent(self.tol, self.max_iter, self.gradient_tol)
        rate = self.learning_rate or RATES[self.optimizer]
        if self.optimizer == "lbfgs":
            return Climb(Coordinates(), ascent, self.memory)
        if self.optimizer == "projected":
            return Projection(ascent, rate)
        adam = self.optimizer == "adam"
        return Steps(ascent, self.mini_batches > 0, adam, rate, self.momentum, self.schedule, self.decay)

    def start(self, mixture: Mixture, beginning: Beginning) -> State:
        return self.method.start(mixture, beginning)

    def resume(self, state: State) -> State:
        return self.method.resume(state)

    def ask(self, state: State, plan: Plan) -> Request:
        return self.method.ask(state, plan)

    def tell(self, state: State, answer: Answer, prior: Prior) -> tuple[State, Note]:
        return self.method.tell(state, answer, prior)

    def kept_bytes(self, stats_bytes: int, steps: int) -> int:
        return (2 * self.memory + 12 if self.optimizer == "lbfgs" else 12) * 2 * stats_bytes
