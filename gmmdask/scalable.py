"""k-means|| (Bahmani et al. 2012): a start that finds rare far clusters, by passes over all rows that keep few of them.

A round is one pass. Row i joins the candidates if u_i < 2K w_i D²_i/φ, where u_i is its random number of this round,
D_i its distance to the nearest candidate so far, in the frame, and φ = Σ w D². The smaller its key u/(w D²), the surer
it joins, and φ only grows as parts are added: so every sum keeps the rows that would join if its own φ were all, and
those that are left in the end do.
"""

import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from gmmdask.agglomerate import merged
from gmmdask.competition import LEAST_STARTS, ranked
from gmmdask.covariance import Family, IllDefinedCovariance
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import Scratch
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Callback, CandidatesDrawn, CentresFound
from gmmdask.repair import repaired
from gmmdask.sampling import Sample, keys_of, slack, uniforms
from gmmdask.start import SCALABLE, Start
from gmmdask.stats import Layout, Stats
from gmmdask.task import Block, Data

CANDIDATES = 89  # what a generator is for: the middle of its key
ROUNDS = 5
FACTOR = 2  # rows that join in a round, on the average at most, for each component
SAME = 1e-24  # squared distance in the frame below which rows differ by rounding
TILE = 1 << 17  # distances formed at once


class Nearest:
    """Finds the nearest of some points (m, d) in a frame; owns its scratch memory for a task.

    Which is nearest is told by expanded squares, how far it is by the difference itself: so a row that is a candidate
    has distance zero, wherever it lies.
    """

    def __init__(self, frame: Frame, points: Array, rows: int) -> None:
        self.frame, self.points, (m, d) = frame, points, points.shape
        self.half = np.vstack([-points.T, 0.5 * np.einsum("md,md->m", points, points)])
        self.step = max(64, TILE // m)
        self.centred, self.entered = Scratch(d, rows), Scratch(d + 1, rows)
        self.halves = Scratch(m, self.step)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, Array, Array]:
        """Numbers (b,) of the points nearest to rows (b, d), rows less those (d, b), and squared distances (b,)."""
        b, d = rows.shape
        x, labels = self.entered.take(d + 1, b), np.empty(b, np.int64)
        self.frame.enter(rows, self.centred.take(b, d), x[:-1])
        x[-1] = 1.0
        for at in range(0, b, self.step):
            tile = x[:, at : at + self.step]
            halves = np.dot(tile.T, self.half, out=self.halves.take(tile.shape[1], len(self.points)))
            np.argmin(halves, axis=1, out=labels[at : at + self.step])
        z = np.subtract(x[:-1], self.points[labels].T, out=x[:-1])
        squares = np.einsum("db,db->b", z, z)
        squares[squares < SAME] = 0.0
        return labels, z, squares


@dataclass(frozen=True, eq=False)
class Joining:
    """Rows that join the candidates if φ is `cost`, their keys u/(w D²), and the `wanted` number of them; adds."""

    sample: Sample
    cost: float
    wanted: float

    def __add__(self, other: "Joining") -> "Joining":
        cost = self.cost + other.cost
        return Joining(joining(self.sample + other.sample, cost, self.wanted), cost, self.wanted)


def joining(sample: Sample, cost: float, wanted: float) -> Sample:
    """Those of some rows whose keys are below wanted/φ."""
    with np.errstate(over="ignore"):
        chosen = np.flatnonzero(sample.keys * cost < wanted)
    return Sample(sample.numbers[chosen], sample.keys[chosen], sample.rows[chosen])


@dataclass(frozen=True, eq=False)
class Round:
    """The work of a round: which rows join the candidates (m, d), which are in the frame. Draws by row numbers."""

    frame: Frame
    candidates: Array
    seed: int
    wanted: float
    block_rows: int

    def __call__(self, blocks: Iterable[Block]) -> Joining:
        nearest = Nearest(self.frame, self.candidates, self.block_rows)
        empty = Sample(np.empty(0, np.int64), np.empty(0), np.empty((0, self.frame.d)))
        found = Joining(empty, 0.0, self.wanted)
        for block in blocks:
            _, _, pull = nearest(block.rows)
            if block.weights is not None:
                pull *= block.weights
            cost, some = float(pull.sum()), np.flatnonzero(pull)
            with np.errstate(over="ignore"):
                keys = uniforms(keys_of(block, self.seed))[some] / pull[some]
                few = keys * (found.cost + cost) < self.wanted
            some, keys = some[few], keys[few]
            found = found + Joining(
                Sample(block.numbers[some], keys, block.rows[some].astype(np.float64)), cost, self.wanted
            )
        return found


@dataclass(frozen=True, eq=False)
class Assigned:
    """The work of the last pass: statistics of all rows, each given to the nearest of some points (m, d) in the frame.

    Moments are about the points, so that none is too far for its rows.
    """

    covariance_type: str
    frame: Frame
    points: Array
    block_rows: int

    def __call__(self, blocks: Iterable[Block]) -> Stats:
        nearest, d = Nearest(self.frame, self.points, self.block_rows), self.frame.d
        stats = Stats.zero(Layout(self.covariance_type, len(self.points), d, self.frame.digest), self.points)
        family = stats.layout.family
        p = family.packed_size(d)
        scratch = Scratch(p + d + 1, self.block_rows)
        for block in blocks:
            labels, z, _ = nearest(block.rows)
            order = np.argsort(labels, kind="stable")
            features = scratch.take(p + d + 1, len(order))
            np.take(z, order, axis=1, out=features[p:-1])
            family.quadratic(features[p:-1], features[:p])
            features[-1] = 1.0
            if block.weights is not None:
                features *= block.weights[order]
            present, starts = np.unique(labels[order], return_index=True)
            sums = np.add.reduceat(features, starts, axis=1)
            stats.vector[0] += sums[-1].sum()
            stats.mass[present] += sums[-1]
            stats.first[present] += sums[p:-1].T
            if family.shared:
                stats.second[0] += sums[:p].sum(axis=1)
            else:
                stats.second[present] += sums[:p].T
        return stats


def scalable_start(
    start: Start,
    data: Data,
    frame: Frame,
    prior: Prior,
    first: Array,
    seed: int,
    n_init: int,
    emit: Callback,
) -> Mixture:
    """A mixture in frame coordinates from all rows, by six passes: five rounds, and one of statistics.

    Clusters of candidates, which are clusters of the rows nearest to them, become components. Those of too few rows are
    repaired as in a fit, and parameters that were given are put in their place.

    Parameters
    ----------
    first : the first candidate (d,), in data units.
    seed : (seed, round, row number) decides who joins.
    n_init : times that the candidates are clustered, at least.
    """
    began, k, passes = time.perf_counter(), start.n_components, 1
    points = frame.points_in(first[None])
    for index in range(ROUNDS):
        since = time.perf_counter()
        key = int(words(seed, index)[0])
        found = data.sums(Round(frame, points, key, FACTOR * k, data.plan.block_rows))
        rows = found.sample.rows[found.sample.smallest(len(found.sample.keys))]
        points, passes = np.vstack([points, frame.points_in(rows)]), passes + 1
        cost = found.cost / prior.weight
        emit(CandidatesDrawn("start", index + 1, ROUNDS, len(points), cost, time.perf_counter() - since))
        if found.cost == 0:
            break  # all rows are candidates
    stats: Stats = data.sums(Assigned(start.covariance_type, frame, points, data.plan.block_rows))
    mixture = likeliest(stats, k, max(n_init, LEAST_STARTS), seed, frame, prior)
    emit(CentresFound("start", len(points), passes, time.perf_counter() - began))
    return frame.mixture_in(start.completed(frame.mixture_out(mixture))) if start.given else mixture


def check(refine: str | None, noise: bool, missing: bool) -> None:
    """Refuses with a ValueError what does not go with rare clusters, or with distances."""
    if missing:
        raise ValueError(f"missing='em': init_params={SCALABLE!r} needs distances of whole rows. Use another start.")
    if refine is not None:
        raise ValueError(
            f"refine={refine!r} moves components on the sample, which may have no row of the rare clusters that "
            f"init_params={SCALABLE!r} is for. Unset one of them."
        )
    if noise:
        raise ValueError(
            f"noise=True leaves the few rows that are far from all others to the noise, and init_params={SCALABLE!r} "
            "looks for clusters among them. Unset one of them."
        )


def one_of(sample: np.ndarray, weights: Array | None, seed: int) -> Array:
    """One of uniform rows (m, d), or of rows with weights (m,): what k-means|| begins with, (d,)."""
    shares = None if weights is None else weights / weights.sum()
    chosen = np.random.RandomState(words(seed, ROUNDS)).choice(len(sample), p=shares)
    return sample[chosen].astype(np.float64)


def words(seed: int, index: int) -> np.ndarray:
    """What keys the round of this number, (4,) uint32 words."""
    return np.random.SeedSequence([seed, CANDIDATES, index]).generate_state(4)


def likeliest(stats: Stats, k: int, n_init: int, seed: int, frame: Frame, prior: Prior) -> Mixture:
    """The best of several mixtures whose components are clusters of the candidates, by weighted k-means++ and Lloyd.

    It clusters the means of the rows that each candidate stands for, in turn in the frame and in data units: neither
    shows all that there is. Twice it finds 2K clusters, and merges them to K. The mixtures are judged by the likelihood
    of their clusters, Σ log π_k N(x|k) over the rows of all k, which follows from the statistics.
    """
    used = np.flatnonzero(stats.mass > 0)
    means = stats.origin[used] + stats.first[used] / stats.mass[used, None]
    mixtures, scores = list[Mixture](), list[float]()
    for index in range(n_init + 2):
        groups, points = np.zeros(len(stats.mass), np.int64), means if index % 2 == 0 else frame.steps_out(means)
        random = np.random.RandomState(words(seed, ROUNDS + 1 + index))
        if index < n_init:
            groups[used] = clusters(points, stats.mass[used], k, random)
        else:
            groups = agglomerated(stats, clusters(points, stats.mass[used], 2 * k, random), used, k)
        own = repaired(stats.grouped(groups, k), prior, 0, 0)[0]
        mixtures.append(m_step(own, prior))
        try:
            scores.append(mixtures[-1].expected_log_joint(own) / own.weight)
        except IllDefinedCovariance:
            scores.append(-np.inf)
    return mixtures[ranked(scores)[0]]


def agglomerated(stats: Stats, fine: np.ndarray, used: np.ndarray, k: int) -> np.ndarray:
    """Which of K clusters candidates (m,) belong to, from more clusters of those that are used."""
    groups, (_, fine) = np.zeros(len(stats.mass), np.int64), np.unique(fine, return_inverse=True)
    groups[used] = fine
    n = int(fine.max()) + 1
    with suppress(IllDefinedCovariance):  # rows of no spread: whatever is made of them
        groups[used] = merged(stats.grouped(groups, n), min(k, n))[fine]
    return np.minimum(groups, k - 1)


def clusters(points: Array, weights: Array, k: int, random: np.random.RandomState) -> np.ndarray:
    """Which of K clusters each of some points (m, d) with weights (m,) is of; if there are no more than K, its own."""
    if len(points) <= k:
        return np.arange(len(points))
    with warnings.catch_warnings():  # a fit says itself, and once, where rows are too few
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        found = KMeans(n_clusters=k, n_init=1, tol=0, random_state=random).fit(points, sample_weight=weights)
    return np.asarray(found.labels_)


def most_candidates(n_components: int) -> int:
    """So many there are at most, but for a miracle."""
    return 1 + ROUNDS * int(slack(FACTOR * n_components))


def stats_bytes(family: Family, n_components: int, d: int) -> int:
    """Bytes of the statistics of all candidates."""
    return 8 * Layout(family.name, most_candidates(n_components), d, "").size


def peak_bytes(family: Family, n_components: int, d: int, rows: int) -> int:
    """Bytes that a pass takes in one task with blocks of this many rows."""
    m, p = most_candidates(n_components), family.packed_size(d)
    distances = max(TILE, 64 * m) + m * (d + 1)
    features = rows * (p + 5 * d + 12) + m * (p + d + 1)
    return 8 * (distances + features + np.getbufsize()) + 2 * stats_bytes(family, n_components, d)
