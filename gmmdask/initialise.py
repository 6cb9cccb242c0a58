"""Where a fit starts: k-means, k-means++, random rows, random responsibilities or given parameters, on the sample."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus

from gmmdask.algorithms import Algorithm, Batch, Beginning, Squarem
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep, ESteps, assigned_stats
from gmmdask.execution import Executor
from gmmdask.fit import advance
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import block_rows
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Callback, StartChosen
from gmmdask.plan import make_plan
from gmmdask.run import Run
from gmmdask.sources import ArraySource
from gmmdask.stats import Layout, Stats
from gmmdask.task import Data

START = 21  # what a generator is for: the middle of its key
SCREENING_STEPS = 10  # EM steps on the sample before starts are compared
FINALISTS = 3
SAMPLE_LAPS = 500
SAMPLE_TOL = 1e-5  # nats per row: passes over the sample are cheap, and what they do passes over all rows need not


@dataclass(frozen=True, eq=False)
class Start:
    """How to start: a method, and parameters in data units (or None) that replace what it finds.

    `precisions` have the family's own shape.
    """

    covariance_type: str
    n_components: int
    method: str = "kmeans"
    weights: Array | None = None
    means: Array | None = None
    precisions: Array | None = None

    @classmethod
    def checked(
        cls, covariance_type: str, k: int, d: int, method: str, weights: Any, means: Any, precisions: Any
    ) -> "Start":
        """A start from parameters that somebody gave, for K components in d dimensions.

        Raises
        ------
        ValueError
            If one has another shape, is not finite, or cannot be what it is called.
        """
        family = FAMILIES[covariance_type]
        weights = checked("weights", weights, (k,))
        if weights is not None and not (np.all((weights >= 0) & (weights <= 1)) and abs(weights.sum() - 1) < 1e-6):
            raise ValueError(
                f"The parameter 'weights' should be in the range [0, 1] and normalized, but got min "
                f"{weights.min():.5f}, max {weights.max():.5f}, sum {weights.sum():.5f}"
            )
        means = checked("means", means, (k, d))
        precisions = checked(f"{covariance_type} precision", precisions, family.own_shape(k, d))
        if precisions is not None:
            try:
                family.root(precisions, d)
            except ValueError:
                raise ValueError(
                    f"{covariance_type!r} precision should be positive (symmetric, positive-definite if it is a matrix)"
                ) from None
        return cls(covariance_type, k, method, weights, means, precisions)

    @property
    def given(self) -> bool:
        """Whether the user gave a part of the start: it is then used as it is."""
        return not all(part is None for part in (self.weights, self.means, self.precisions))

    @property
    def complete(self) -> bool:
        return not any(part is None for part in (self.weights, self.means, self.precisions))


def checked(name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
    """A given parameter as a float64 array of the right shape."""
    if value is None:
        return None
    array = np.ascontiguousarray(value, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"The parameter {name!r} should have the shape of {shape}, but got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"The parameter {name!r} should hold finite numbers, but holds NaN or infinity")
    return array


def assign(method: str, rows: np.ndarray, k: int, random: np.random.RandomState) -> np.ndarray:
    """Rows (m, d) assigned to K components as scikit-learn's GaussianMixture draws them from the same `random`.

    Returns
    -------
    responsibilities (K, m) for "random", else components (m,) with -1 for rows that belong to none.
    """
    m = len(rows)
    if method == "random":
        drawn = random.uniform(size=(m, k))
        return np.ascontiguousarray((drawn / drawn.sum(axis=1)[:, None]).T)
    if method == "kmeans":
        return KMeans(n_clusters=k, n_init=1, random_state=random).fit(rows).labels_
    if method == "random_from_data":
        chosen = random.choice(m, size=k, replace=False)
    else:
        _, chosen = kmeans_plusplus(rows, k, random_state=random)
    components = np.full(m, -1)
    components[chosen] = np.arange(k)
    return components


def one_start(start: Start, rows: np.ndarray, frame: Frame, prior: Prior, random: np.random.RandomState) -> Mixture:
    """A mixture in frame coordinates from one draw of the method, given parameters put in their place."""
    if start.complete:
        return frame.mixture_in(_given(start, None))
    whitened = start.method == "kmeans-whitened"
    seen = frame.points_in(rows.astype(np.float64)) if whitened else rows
    assigned = assign("kmeans" if whitened else start.method, seen, start.n_components, random)
    layout = Layout(start.covariance_type, start.n_components, frame.d, frame.digest)
    mixture = m_step(assigned_stats(layout, frame, rows, assigned), prior)
    return frame.mixture_in(_given(start, frame.mixture_out(mixture))) if start.given else mixture


def _given(start: Start, found: Mixture | None) -> Mixture:
    """The start's parameters, completed by those that were found, in data units."""
    weights, means, precisions = start.weights, start.means, start.precisions
    covariances = None if precisions is None else FAMILIES[start.covariance_type].from_precisions(precisions)
    if found is not None:
        weights = found.weights if weights is None else weights
        means = found.means if means is None else means
        covariances = found.covariances if covariances is None else covariances
    assert weights is not None
    assert means is not None
    assert covariances is not None
    return Mixture(start.covariance_type, weights, means, covariances)


def in_memory(rows: np.ndarray, covariance_type: str, n_components: int, executor: Executor) -> Data:
    """The sample or the held-out rows as data for the same driver."""
    source = ArraySource(rows, "the sample")
    block = block_rows(FAMILIES[covariance_type], source.d, n_components)
    return Data(source, make_plan(source.edges, source.d, block), executor)


@dataclass(frozen=True, eq=False)
class Ground:
    """What a start is found on, and with: the sample (as stored, and as data), held-out rows, frame, prior, kernel."""

    rows: np.ndarray
    sample: Data
    held_out: Data
    frame: Frame
    prior: Prior
    kernel: str = "products"

    def fit(self, mixtures: Sequence[Mixture], algorithm: Algorithm) -> list[Mixture]:
        """Each mixture after the algorithm has run on the sample; they share its passes."""
        states = [algorithm.start(mixture, Beginning()) for mixture in mixtures]
        runs = tuple(
            Run(f"{i}", algorithm, state, self.frame, self.prior, self.kernel) for i, state in enumerate(states)
        )
        return [run.state.mixture for run in advance(runs, self.sample, emit=lambda event: None)]

    def scores(self, mixtures: Sequence[Mixture]) -> list[float]:
        """Mean log density of the held-out rows under each mixture, nats per row in data units, by one pass."""
        steps = tuple((self.frame, EStep.of(mixture, self.kernel)) for mixture in mixtures)
        sums = self.held_out.sums(ESteps(steps, self.held_out.plan.block_rows))
        return [stats.log_likelihood / stats.weight + self.frame.log_det for stats in sums.items]

    def statistics(self, mixture: Mixture) -> Stats:
        """Of the sample under a mixture."""
        work = ESteps(((self.frame, EStep.of(mixture, self.kernel)),), self.sample.plan.block_rows)
        stats: Stats = self.sample.sums(work).items[0]
        return stats


def best_start(start: Start, n_init: int, seed: int, ground: Ground, emit: Callback) -> Mixture:
    """The best of `n_init` starts, fitted to the sample by EM: what passes over all data then begin with.

    Every start takes ten EM steps; the three best by held-out score run to convergence on the sample, and the best
    of those is returned, in frame coordinates. k-means alternates between the rows as they are and the frame.
    A start that the user gave is returned as it is.
    """
    began = time.perf_counter()
    mixtures = []
    for index in range(1 if start.given else n_init):
        random = np.random.RandomState(np.random.SeedSequence([seed, START, index]).generate_state(4))
        alternate = start.method == "kmeans" and index % 2 == 1
        this = replace(start, method="kmeans-whitened") if alternate else start
        mixtures.append(one_start(this, ground.rows, ground.frame, ground.prior, random))
    if start.given:
        return mixtures[0]
    first = max(ground.scores(mixtures))
    if n_init > 1:
        mixtures = ground.fit(mixtures, Batch(tol=0, max_iter=SCREENING_STEPS))
        ranked = np.argsort([-score for score in ground.scores(mixtures)], kind="stable")
        mixtures = [mixtures[i] for i in ranked[:FINALISTS]]
    polish = Squarem(Batch(tol=SAMPLE_TOL, max_iter=SAMPLE_LAPS, stop="predicted"))
    mixtures = ground.fit(mixtures, polish)
    final = ground.scores(mixtures)
    best = int(np.argmax(final))
    emit(StartChosen("start", n_init, final[best], final[best] - first, time.perf_counter() - began))
    return mixtures[best]
