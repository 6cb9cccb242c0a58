"""The way an algorithm takes: the library's own driver, with every pass written down."""

import time
from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np

from gmmdask.algorithms import Algorithm, Beginning
from gmmdask.covariance import FAMILIES
from gmmdask.execution import Threads, one_thread
from gmmdask.fit import advance
from gmmdask.frame import Conjugate, Frame, Prior
from gmmdask.initialise import Start, one_start
from gmmdask.mixture import Mixture
from gmmdask.outcome import Event, PassDone
from gmmdask.planning import fit_plan
from gmmdask.run import Run
from gmmdask.settings import Settings
from gmmdask.sources import ArraySource
from gmmdask.task import Data
from gmmdask.testing.passes import frame_of_rows, run_of

EVERY = range(1_000_000)


@dataclass(frozen=True, eq=False)
class Trail:
    """One run. Pass t + 1 evaluates what t passes have made: `bounds[t]` and `scores[t]`, in nats per row.

    `bounds` have the log prior in them, `scores` have not; `seconds[t]` are those of the processor for t + 1 passes.
    `mixtures` are those after 0, 1, ... passes that were to be kept, and the last, in data units.
    """

    bounds: np.ndarray
    scores: np.ndarray
    seconds: np.ndarray
    mixtures: dict[int, Mixture]
    told: str

    @property
    def passes(self) -> int:
        return len(self.bounds)

    @property
    def last(self) -> Mixture:
        return self.mixtures[max(self.mixtures)]


def trail(
    algorithm: Algorithm,
    start: Mixture,
    rows: np.ndarray,
    *,
    prior: str | None = None,
    reg_covar: float = 0.0,
    empty: str = "reseed",
    seed: int = 0,
    keep: Container[int] = EVERY,
) -> Trail:
    """Runs an algorithm to its end from a start in data units.

    Parameters
    ----------
    keep : numbers of passes after which the mixture is kept.
    """
    source = ArraySource(rows)
    known = Start(start.covariance_type, start.n_components)
    data = Data(source, fit_plan(source, Settings(known, algorithm)), Threads(1))
    run = run_of("run", algorithm, start, frame_of_rows(start, rows), reg_covar, Beginning(seed, data.plan.steps))
    conjugate = Conjugate.named(prior, *start.means.shape)
    run = replace(run, prior=replace(run.prior, conjugate=conjugate, empty=empty, weight=float(len(rows))))
    bounds, scores, seconds, mixtures, began = [], [], [], {0: start}, time.process_time()

    def emit(event: Event) -> None:
        if isinstance(event, PassDone):
            bounds.append(event.lower_bound)
            scores.append(event.log_likelihood)

    def save(runs: tuple[Run, ...]) -> None:
        laps = runs[0].state.laps
        if laps == len(seconds) + 1:
            seconds.append(time.process_time() - began)
            if laps in keep or not runs[0].going:
                mixtures[laps] = run.frame.mixture_out(runs[0].state.mixture)

    with one_thread(), data.executor:
        (ended,) = advance((run,), data, emit, save=save)
    assert ended.state.outcome is not None
    return Trail(np.array(bounds), np.array(scores), np.array(seconds), mixtures, ended.state.outcome.sentence)


def kmeans_start(
    rows: np.ndarray, covariance_type: str, k: int, seed: int, *, reg_covar: float = 0.0, prior: str | None = None
) -> Mixture:
    """The estimator's default start, in data units: moments of the clusters that k-means finds."""
    mean, family = rows.mean(axis=0), FAMILIES[covariance_type]
    frame = Frame.of(family, mean, (rows - mean).T @ (rows - mean) / len(rows))
    known = replace(Prior.of(covariance_type, k, frame, reg_covar), conjugate=Conjugate.named(prior, k, frame.d))
    with one_thread():
        found = one_start(Start(covariance_type, k), rows, frame, known, np.random.RandomState(seed))
        return frame.mixture_out(found)
