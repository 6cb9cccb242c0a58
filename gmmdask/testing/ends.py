"""Where algorithms end beside EM, from the same starts."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmdask import GaussianMixture
from gmmdask.algorithms import Algorithm, Batch
from gmmdask.algorithms._climb import ClimbState
from gmmdask.covariance._base import Array
from gmmdask.execution import one_thread
from gmmdask.fit import advance
from gmmdask.frame import Conjugate
from gmmdask.mixture import Mixture
from gmmdask.outcome import Event, PassDone
from gmmdask.run import Run
from gmmdask.testing.passes import data_of, frame_of_rows, run_of

BLOCK_ROWS = 4096
BELOW = 1e-5  # nats per row under EM's end that count as none
FLAT = 1e-6  # length of a gradient, per row, that is none: another optimum
EM = Batch(tol=1e-8, max_iter=3000, stop="predicted")


@dataclass(frozen=True, eq=False)
class Ended:
    """A run at its end, its bounds (nats per row), and the smallest eigenvalue of any covariance on its way, where the
    data's variance is one.
    """

    run: Run
    bounds: tuple[float, ...]
    smallest: float

    @property
    def steep(self) -> float:
        """The gradient's length, per row, where the algorithm has one."""
        state = self.run.state
        assert isinstance(state, ClimbState)
        return np.inf if state.place is None else float(np.linalg.norm(state.place.gradient))

    def as_good_as(self, em: float) -> bool:
        """Not below EM's last bound, or at another optimum."""
        return self.bounds[-1] >= em - BELOW or self.steep < FLAT


def ended(rows: Array, start: Mixture, algorithm: Algorithm, penalised: bool) -> Ended:
    """Runs an algorithm to its end from a mixture in data units, with the prior of Fraley and Raftery or with none."""
    data, run = data_of(rows, block_rows=BLOCK_ROWS), run_of("run", algorithm, start, frame_of_rows(start, rows))
    conjugate = Conjugate.named("mclust", *start.means.shape) if penalised else None
    run = replace(run, prior=replace(run.prior, conjugate=conjugate, weight=float(len(rows))))
    bounds, smallest = list[float](), [np.inf]

    def emit(event: Event) -> None:
        if isinstance(event, PassDone):
            bounds.append(event.lower_bound)

    def save(runs: tuple[Run, ...]) -> None:
        asked = algorithm.ask(runs[0].state, data.plan).steps
        smallest.extend(float(np.linalg.eigvalsh(step.mixture.dense_covariances()).min()) for step in asked)

    with one_thread(), data.executor:
        (last,) = advance((run,), data, emit, save=save)
    return Ended(last, tuple(bounds), min(smallest))


def em_starts(rows: Array, k: int, covariance_type: str, penalised: bool, n: int) -> list[Mixture]:
    """EM's own results after 10 iterations, from starts with other seeds; single rows are none without a prior."""
    settings: dict[str, Any] = {"covariance_type": covariance_type, "algorithm": Batch(tol=0, max_iter=10)}
    settings |= {"reg_covar": 0, "sample_rows": len(rows)}
    settings |= {"prior": "mclust", "init_params": "k-means++"} if penalised else {"init_params": "kmeans"}
    return [GaussianMixture(k, random_state=seed, **settings).fit(rows).mixture_ for seed in range(n)]
