"""Where a fit starts: k-means, k-means++, random rows, random responsibilities or given parameters, on the sample."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from gmmdask.algorithms import Algorithm, Batch, Beginning, Squarem
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.emptiness import FIRST_SHARE, in_empty_places, to_nearest, with_noise
from gmmdask.estep import EStep, ESteps, LogDensities, assigned_stats, incomplete_stats, most_likely, peak_bytes
from gmmdask.execution import Executor
from gmmdask.fit import advance
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import MISSING, block_rows, numpy_of
from gmmdask.missing import completed
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Callback, StartChosen
from gmmdask.plan import make_plan
from gmmdask.run import Run
from gmmdask.sources import ArraySource
from gmmdask.sources.weights import weighted
from gmmdask.start import Start
from gmmdask.stats import Layout, Stats
from gmmdask.task import Data

START = 21  # what a generator is for: the middle of its key
LEAST_STARTS = 8
START_FACTOR = 20  # rows a parameter on which starts compete
ROUNDS = (10, 20)  # laps of EM before starts are compared: after ten the best may still look poor, after thirty not
FINALISTS = 3
SAMPLE_LAPS = 500
TIE = 1e-6  # nats per row between scores that are as good as equal
GAUSSIAN_TOL, GAUSSIAN_LAPS = 1e-3, 10  # nats per row: a start need not be sharper
GAUSSIAN_RIDGE = 1e-6  # of the variance of features: they may be linearly dependent
SAMPLE_TOL = 1e-5  # nats per row: passes over the sample are cheap, and what they do passes over all rows need not


def assign(
    method: str, rows: np.ndarray, k: int, random: np.random.RandomState, weights: Array | None = None
) -> np.ndarray:
    """Rows (m, d) assigned to K components as scikit-learn's GaussianMixture draws them from the same `random`.

    Rows with weights (m,) are drawn, and attract the centres of k-means, in proportion.

    Returns
    -------
    responsibilities (K, m) for "random", else components (m,) with -1 for rows that belong to none.
    """
    m = len(rows)
    if method == "random":
        drawn = random.uniform(size=(m, k))
        return np.ascontiguousarray((drawn / drawn.sum(axis=1)[:, None]).T)
    if method == "kmeans":
        with warnings.catch_warnings():  # a fit says itself, and once, where rows are too few
            warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
            return KMeans(n_clusters=k, n_init=1, random_state=random).fit(rows, sample_weight=weights).labels_
    if method == "random_from_data":
        shares = None if weights is None else weights / weights.sum()
        chosen = random.choice(m, size=k, replace=False, p=shares)
    else:
        _, chosen = kmeans_plusplus(rows, k, sample_weight=weights, random_state=random)
    components = np.full(m, -1)
    components[chosen] = np.arange(k)
    return components


def one_start(
    start: Start,
    rows: np.ndarray,
    frame: Frame,
    prior: Prior,
    random: np.random.RandomState,
    weights: Array | None = None,
    gaussian: Mixture | None = None,
) -> Mixture:
    """A mixture in frame coordinates from one draw of the method, given parameters put in their place.

    With noise in the prior, rows in empty places are left to that. With a `gaussian`, rows may have gaps:
    methods see in them what it expects, see `lone_gaussian`.
    """
    if start.complete:
        return with_noise(frame.mixture_in(start.completed(None)), prior.noise)
    rows, weights, share = without_noise(start.n_components, rows, weights, prior)
    whitened = start.method == "kmeans-whitened"
    seen = without_gaps(rows, frame, gaussian)
    seen = frame.points_in(seen.astype(np.float64)) if whitened else seen
    assigned = assign("kmeans" if whitened else start.method, seen, start.n_components, random, weights)
    if prior.noise is not None and assigned.min() < 0:
        assigned = to_nearest(frame.points_in(rows.astype(np.float64)), assigned)
    if weights is not None and assigned.min() < 0:
        weights = None  # components of one row each, in whose choice the weights have had their say
    layout = Layout(start.covariance_type, start.n_components, frame.d, frame.digest)
    mixture = m_step(stats_of(layout, frame, rows, assigned, weights, gaussian), prior)
    if start.given:
        mixture = frame.mixture_in(start.completed(frame.mixture_out(mixture)))
    return with_noise(mixture, prior.noise, share)


def without_noise(
    k: int, rows: np.ndarray, weights: Array | None, prior: Prior
) -> tuple[np.ndarray, Array | None, float]:
    """Rows (m, d) and weights (m,) without those in empty places, if the prior has noise, and the share of these."""
    if prior.noise is None:
        return rows, weights, FIRST_SHARE
    empty = in_empty_places(rows, prior.noise)
    if len(rows) - empty.sum() < k:
        return rows, weights, FIRST_SHARE
    if weights is None:
        return rows[~empty], None, float(empty.mean())
    return rows[~empty], weights[~empty], float(weights[empty].sum() / weights.sum())


def without_gaps(rows: np.ndarray, frame: Frame, gaussian: Mixture | None) -> np.ndarray:
    """Rows (m, d) with what the Gaussian in the frame expects in their gaps; None says that there are none."""
    return rows if gaussian is None else completed(gaussian, frame, rows)


def stats_of(
    layout: Layout,
    frame: Frame,
    rows: np.ndarray,
    assigned: np.ndarray,
    weights: Array | None,
    gaussian: Mixture | None,
) -> Stats:
    """Statistics of assigned rows, see `assigned_stats`; with a Gaussian, they may have gaps."""
    if gaussian is None:
        return assigned_stats(layout, frame, rows, assigned, weights=weights)
    return incomplete_stats(layout, frame, gaussian, rows, assigned, weights)


def in_memory(
    rows: np.ndarray, covariance_type: str, n_components: int, executor: Executor, weights: Array | None = None
) -> Data:
    """The sample or the held-out rows as data for the same driver."""
    source = weighted(ArraySource(rows, "the sample"), weights)
    block = block_rows(FAMILIES[covariance_type], source.d, n_components)
    return Data(source, make_plan(source.edges, source.d, block), executor)


def thinning(rows: int, factor: int, parameters: int) -> int:
    """A number n such that every n-th of so many rows are about `factor` a parameter, but 10,000 at least."""
    return max(1, rows // max(10_000, factor * parameters))


def lone_gaussian(rows: np.ndarray, frame: Frame, executor: Executor, weights: Array | None = None) -> Mixture:
    """One `full` Gaussian in the frame, fitted to rows with gaps by a few steps of EM from independent features.

    It is what starts know of missing values: methods that need whole rows, such as k-means, see the values that it
    expects in the gaps, and first covariances have its uncertainty in them.
    """
    family, d = FAMILIES["full"], frame.d
    step = thinning(len(rows), START_FACTOR, d + family.n_parameters(1, d))
    data = in_memory(rows[::step], family.name, 1, executor, None if weights is None else weights[::step])
    start = Mixture(family.name, np.ones(1), np.zeros((1, d)), family.isotropic(1.0, 1, d))
    algorithm, prior = Batch(tol=GAUSSIAN_TOL, max_iter=GAUSSIAN_LAPS), Prior(family.isotropic(GAUSSIAN_RIDGE, 1, d))
    run = Run("start", algorithm, algorithm.start(start, Beginning()), frame, prior, MISSING)
    return advance((run,), data, emit=lambda event: None)[0].state.mixture


def filling_bytes(rows: int, d: int) -> int:
    """Bytes of a sample whose gaps are filled, and of `lone_gaussian`."""
    family = FAMILIES["full"]
    return 24 * rows * d + 2 * peak_bytes(family, 1, d, block_rows(family, d, 1), kernel=MISSING)


@dataclass(frozen=True, eq=False)
class Ground:
    """What a start is found on, and with: the sample (as stored, and as data), held-out rows, frame, prior, kernel.

    `weights` (m,) are those of the sample's rows, None where all weigh one. `gaussian` is what is known of gaps, where
    the sample may have some.
    """

    rows: np.ndarray
    sample: Data
    held_out: Data
    frame: Frame
    prior: Prior
    kernel: str = "products"
    weights: Array | None = None
    gaussian: Mixture | None = None

    def one_start(self, start: Start, random: np.random.RandomState) -> Mixture:
        """One draw on the sample."""
        return one_start(start, self.rows, self.frame, self.prior, random, self.weights, self.gaussian)

    @property
    def points(self) -> Array:
        """The sample (m, d) in the frame; where it has gaps, with what is known of these."""
        return self.frame.points_in(without_gaps(self.rows, self.frame, self.gaussian).astype(np.float64))

    def assigned(self, layout: Layout, assigned: np.ndarray) -> Stats:
        """Statistics of the sample's rows where these are assigned to components."""
        return stats_of(layout, self.frame, self.rows, assigned, self.weights, self.gaussian)

    def fit(self, mixtures: Sequence[Mixture], algorithm: Algorithm) -> list[Mixture]:
        """Each mixture after the algorithm has run on the sample, one after another: only one takes memory."""
        found = []
        for mixture in mixtures:
            state = algorithm.start(mixture, Beginning())
            run = Run("start", algorithm, state, self.frame, self.prior, self.kernel)
            found += [run.state.mixture for run in advance((run,), self.sample, emit=lambda event: None)]
        return found

    def thinned(self, start: Start, factor: int) -> "Ground":
        """With every so manieth row of the sample: about `factor` rows a parameter, 10,000 at least."""
        step = thinning(len(self.rows), factor, start.n_parameters(self.frame.d))
        if step < 2:
            return self
        rows, weights = self.rows[::step], None if self.weights is None else self.weights[::step]
        data = in_memory(rows, start.covariance_type, start.n_components, self.sample.executor, weights)
        return replace(self, rows=rows, weights=weights, sample=data)

    def best(self, mixtures: Sequence[Mixture], most: int) -> list[Mixture]:
        """So many at most of the best by held-out score; they stay in their order."""
        scores = self.scores(mixtures)
        return [mixtures[i] for i in sorted(ranked(scores)[:most])]

    def scores(self, mixtures: Sequence[Mixture]) -> list[float]:
        """Mean log density of the held-out rows under each mixture, nats per row in data units."""
        found = [self._sums(mixture, self.held_out) for mixture in mixtures]
        return [stats.log_likelihood / stats.weight + self.frame.log_det for stats in found]

    def statistics(self, mixture: Mixture) -> Stats:
        """Of the sample under a mixture."""
        return self._sums(mixture, self.sample)

    def _sums(self, mixture: Mixture, data: Data) -> Stats:
        work = ESteps(((self.frame, EStep.of(mixture, self.kernel)),), data.plan.block_rows)
        stats: Stats = data.sums(work).items[0]
        return stats


def best_start(
    start: Start,
    n_init: int,
    seed: int,
    ground: Ground,
    emit: Callback,
    least: int = LEAST_STARTS,
    more: Sequence[Mixture] = (),
) -> Mixture:
    """The best of several starts, fitted to the sample by EM: what passes over all data then begin with.

    Starts are cheap beside a pass over all rows, so there are `least` at least. They compete on a part of the
    sample, in rounds of EM after which the best by held-out score go on; the last few run to convergence on all of
    it, and the best of those is returned, in frame coordinates. k-means alternates between the rows as they are and the
    frame. A start that the user gave is returned as it is. Mixtures that are found elsewhere compete too: `more`.
    """
    began = time.perf_counter()
    if start.given:
        return ground.one_start(start, generator(seed, 0))
    arena, mixtures = ground.thinned(start, START_FACTOR), list(more)
    for index in range(max(n_init, least)):
        alternate = start.method == "kmeans" and index % 2 == 1
        this = replace(start, method="kmeans-whitened") if alternate else start
        mixtures.append(arena.one_start(this, generator(seed, index)))
    n_starts, first = len(mixtures), max(ground.scores(mixtures))
    for laps in ROUNDS:
        mixtures = arena.fit(mixtures, Squarem(Batch(tol=0, max_iter=laps)))
        mixtures = ground.best(mixtures, max(FINALISTS, len(mixtures) // 2))
    mixtures = ground.fit(mixtures[:FINALISTS], Squarem(Batch(tol=SAMPLE_TOL, max_iter=SAMPLE_LAPS, stop="predicted")))
    final = ground.scores(mixtures)
    best = ranked(final)[0]
    seconds = time.perf_counter() - began
    found = [labels(mixture, ground.frame, arena.sample, ground.kernel) for mixture in mixtures]
    ends = compared(final, found, best)
    emit(StartChosen("start", n_starts, final[best], final[best] - first, seconds, ends))
    return mixtures[best]


def labels(mixture: Mixture, frame: Frame, data: Data, fast: str) -> Array:
    """The component of highest probability of each row, (m,), of data in the driver's process.

    `fast` is the kernel of passes over all rows.
    """
    step = (frame, EStep.of(mixture, numpy_of(fast)))
    found: Array = data.sums(LogDensities((step,), data.plan.block_rows, most_likely)).values[0]
    return found


def compared(scores: Sequence[float], found: Sequence[Array], best: int) -> tuple[dict[str, float], ...]:
    """Where starts ended, best first: their scores, and how far the labels (m,) that they give agree with the best's.

    Agreement is the adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition of the rows, about 0 for
    partitions that have nothing in common.
    """
    order = sorted(range(len(scores)), key=lambda at: (at != best, -scores[at]))
    return tuple(
        {"score": float(scores[at]), "agreement": float(adjusted_rand_score(found[best], found[at]))} for at in order
    )


def ranked(scores: Sequence[float]) -> list[int]:
    """Indices, best first. Of scores that are as good as equal, which leads depends on no rounding: the first does.

    Starts that end in the same optimum order its components differently.
    """
    left, order = list(range(len(scores))), []
    while left:
        top = max(scores[i] for i in left)
        order.append(next(i for i in left if scores[i] >= top - TIE))
        left.remove(order[-1])
    return order


def generator(seed: int, index: int) -> np.random.RandomState:
    """What draws the start of this number."""
    return np.random.RandomState(np.random.SeedSequence([seed, START, index]).generate_state(4))
