"""Where a fit starts: k-means, k-means++, random rows, random responsibilities or given parameters, on the sample."""

import warnings

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning

from gmmdask.algorithms import Batch, Beginning
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.emptiness import FIRST_SHARE, in_empty_places, to_nearest, with_noise
from gmmdask.estep import assigned_stats, incomplete_stats, peak_bytes
from gmmdask.execution import Executor
from gmmdask.fit import advance
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import MISSING, block_rows
from gmmdask.missing import completed
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.plan import make_plan
from gmmdask.run import Run
from gmmdask.sources import ArraySource
from gmmdask.sources.weights import weighted
from gmmdask.start import Start
from gmmdask.stats import Layout, Stats
from gmmdask.task import Data

START_FACTOR = 20  # rows a parameter on which starts compete
GAUSSIAN_TOL, GAUSSIAN_LAPS = 1e-3, 10  # nats per row: a start need not be sharper
GAUSSIAN_RIDGE = 1e-6  # of the variance of features: they may be linearly dependent


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
    if gaussian is not None:
        rows, weights = with_values(start.n_components, rows, weights)
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


def with_values(k: int, rows: np.ndarray, weights: Array | None) -> tuple[np.ndarray, Array | None]:
    """Rows (m, d) and weights (m,) of rows that have any value: the others, filled alike, would look like a cluster."""
    some = ~np.isnan(rows).all(axis=1)
    if some.all() or some.sum() < k:
        return rows, weights
    return rows[some], None if weights is None else weights[some]


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
