"""Split and merge moves (Ueda, Nakano, Ghahramani and Hinton 2000): out of optima of EM where one component covers two
clusters while two share one.

A move merges two components and gives the place that is free to one half of a third. What merging costs and splitting
gains is evaluated; the few moves that promise most are fitted by EM, and the best is accepted if the score rises.
"""

import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from gmmdask.algorithms import Algorithm, Batch, Squarem
from gmmdask.competition import SAMPLE_LAPS, SAMPLE_TOL, Ground, ranked
from gmmdask.covariance import Family, IllDefinedCovariance
from gmmdask.covariance._base import Array
from gmmdask.emptiness import with_noise
from gmmdask.estep import Columns, EStep, log_joint
from gmmdask.frame import Frame, Prior
from gmmdask.initialise import START_FACTOR
from gmmdask.kernels import numpy_of
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Callback, ComponentsMoved, MovesDone
from gmmdask.repair import repaired
from gmmdask.start import Start
from gmmdask.stats import Layout, Stats
from gmmdask.task import Block

MOVES = 72  # what a generator is for: the middle of its key
LEAST_GAIN = 1e-4  # nats per row that a move must bring: less is one optimum, found twice
HALVES_LAPS = 10  # of EM on halves of all components, before splits are compared
TRIALS = 5  # moves that are fitted
TRIAL_LAPS = 20
TO_THE_END = Squarem(Batch(tol=SAMPLE_TOL, max_iter=SAMPLE_LAPS, stop="predicted"))


@dataclass(frozen=True, eq=False)
class Labels:
    """The work of a pass over rows in memory: the component (b,) that each most likely is of."""

    frame: Frame
    step: EStep
    block_rows: int

    def __call__(self, blocks: Iterable[Block]) -> Columns:
        joint = log_joint(self.frame, self.step, self.block_rows)
        found = [joint(block.rows).argmax(axis=0)[None].astype(np.float64) for block in blocks]
        return Columns(np.hstack(found))


@dataclass(frozen=True, eq=False)
class Move:
    """Components that become one, the one that is split, and the statistics of halves of all that it is made of.

    `halves` are those of 2K components, the second half of component k being number K + k. `promise` is what the move
    should bring, in nats per row.
    """

    merged: tuple[int, int]
    split: int
    promise: float
    halves: Stats

    def mixture(self, prior: Prior) -> Mixture:
        """What EM begins with: of K components."""
        k, (kept, free) = self.halves.layout.n_components // 2, self.merged
        groups = np.tile(np.arange(k), 2)
        groups[[free, k + free]] = kept
        groups[k + self.split] = free
        return m_step(self.halves.grouped(groups, k), prior)


def refined(mixture: Mixture, start: Start, ground: Ground, seed: int, emit: Callback) -> Mixture:
    """The mixture after all moves that raise its score, fitted to the sample; as it is, if there are none.

    The score is the mean log density of the held-out rows; where these are the sample, because that is all rows, it is
    the objective of a fit, with the log prior. Otherwise that objective, of the sample, must not fall either: a single
    held-out row far from all others would be worth the loss of a cluster.
    """
    began, moves, arena = time.perf_counter(), 0, ground.thinned(start, START_FACTOR)
    if ground.held_out is ground.sample:
        arena = replace(arena, held_out=arena.sample)
    first, current = objective(mixture, ground), fitted(mixture, ground, TO_THE_END) or mixture
    score = max(first, objective(current, ground))
    while moves < 2 * mixture.n_components:
        random = np.random.RandomState(np.random.SeedSequence([seed, MOVES, moves]).generate_state(4))
        found = best_move(current, arena, random)
        following = None if found is None else fitted(found[1], ground, TO_THE_END)
        risen = -np.inf if following is None else objective(following, ground)
        if found is None or following is None or risen < score + LEAST_GAIN or falls(current, following, ground):
            break
        emit(ComponentsMoved("start", found[0].merged, found[0].split, risen, risen - score))
        mixture, current, score, moves = following, following, risen, moves + 1
    emit(MovesDone("start", moves, score - first if moves else 0.0, time.perf_counter() - began))
    return mixture


def objective(mixture: Mixture, ground: Ground) -> float:
    """What moves should raise, in nats per row; minus infinity for a mixture without a density."""
    try:
        score = ground.scores([mixture])[0]
    except IllDefinedCovariance:
        return -np.inf
    whole = ground.held_out is ground.sample
    return score + ground.prior.log_density(mixture) / ground.prior.weight if whole else score


def falls(before: Mixture, after: Mixture, ground: Ground) -> bool:
    """Whether the sample itself speaks against a move."""
    of_sample = replace(ground, held_out=ground.sample)
    return objective(after, of_sample) < objective(before, of_sample)


def fitted(mixture: Mixture, ground: Ground, algorithm: Algorithm) -> Mixture | None:
    """The mixture after an algorithm has run on the sample; None if a component collapsed."""
    try:
        return ground.fit([mixture], algorithm)[0]
    except IllDefinedCovariance:
        return None


def best_move(mixture: Mixture, arena: Ground, random: np.random.RandomState) -> tuple[Move, Mixture] | None:
    """The best of the few moves that promise most, after some laps of EM; None if there are none."""
    algorithm = Squarem(Batch(tol=LEAST_GAIN, max_iter=TRIAL_LAPS, stop="predicted"))
    tried = [(move, fitted(move.mixture(arena.prior), arena, algorithm)) for move in proposals(mixture, arena, random)]
    found = [(move, trial) for move, trial in tried if trial is not None and not falls(mixture, trial, arena)]
    return found[ranked([objective(trial, arena) for _, trial in found])[0]] if found else None


def proposals(mixture: Mixture, arena: Ground, random: np.random.RandomState) -> list[Move]:
    """The moves that promise most: what the split gains, less what the merger costs; no split and no pair too often."""
    if mixture.n_components < 3:
        return []
    k, score, doubled = mixture.n_components, objective(mixture, arena), with_room(arena, mixture.family)
    costs, gains = [], []
    stats = arena.statistics(mixture)
    for i, j in cheap_pairs(mixture, max(2 * k, 8)):
        groups = np.arange(k) - (np.arange(k) > j)
        groups[j] = i
        costs.append((score - objective(m_step(stats.grouped(groups, k - 1), arena.prior), arena), (i, j)))
    for own in (False, True):
        halves = in_halves(mixture, doubled, own, random)
        for split in range(k if halves is not None else 0):
            assert halves is not None
            groups = np.tile(np.arange(k), 2)
            groups[k + split] = k
            gain = objective(m_step(halves.grouped(groups, k + 1), doubled.prior), arena) - score
            gains.append((gain, split, halves))
    moves = [
        Move(pair, split, gain - cost, halves)
        for gain, split, halves in gains
        for cost, pair in costs
        if split not in pair and np.isfinite(gain - cost)
    ]
    return varied(sorted(moves, key=lambda move: -move.promise))[:TRIALS]


def varied(moves: Iterable[Move]) -> list[Move]:
    """Each pair with each split once, and neither more than twice; the first of them stay, in their order."""
    seen, kept = Counter[Any](), list[Move]()
    for move in moves:
        if not seen[move.merged, move.split] and max(seen[move.merged], seen[move.split]) < 2:
            seen.update([(move.merged, move.split), move.merged, move.split])
            kept.append(move)
    return kept


def with_room(arena: Ground, family: Family) -> Ground:
    """With a prior of twice as many components."""
    prior = arena.prior
    twice = prior.regularisation if family.shared else np.concatenate([prior.regularisation, prior.regularisation])
    return replace(arena, prior=replace(prior, regularisation=twice))


def cheap_pairs(mixture: Mixture, most: int) -> list[tuple[int, int]]:
    """Pairs of components that may cost little to merge, the cheapest first.

    By (π_i + π_j) log(1 + π_i π_j/(π_i + π_j)² D²), D² the squared Mahalanobis distance of the lighter one's mean from
    the heavier one. It is twice the bound of Runnalls (2007) on the cost, if the lighter one had the covariance of the
    other; components of very few rows are cheap wherever they lie.
    """
    k, weights = mixture.n_components, mixture.weights
    far = np.empty((k, k))
    for i in range(k):
        z = np.ascontiguousarray((mixture.means - mixture.means[i]).T)
        white = mixture.family.whiten(mixture.root, i, z)
        far[i] = np.einsum("dk,dk->k", white, white)
    rows, columns = np.triu_indices(k, 1)
    distance = np.where(weights[rows] >= weights[columns], far[rows, columns], far[columns, rows])
    both = weights[rows] + weights[columns]
    costs = both * np.log1p(weights[rows] * weights[columns] / both**2 * distance)
    order = np.argsort(costs, kind="stable")[:most]
    return [(int(i), int(j)) for i, j in zip(rows[order], columns[order], strict=True)]


def in_halves(mixture: Mixture, arena: Ground, own: bool, random: np.random.RandomState) -> Stats | None:
    """Statistics under a mixture of two halves of every component, after some laps of EM; None if one collapsed.

    Halves are found by k-means among the rows that are the component's, in the frame or (`own`) whitened by the
    component: it cuts across its longest axis in the one, where it has two humps in the other.
    """
    k = mixture.n_components
    step = EStep.of(mixture, numpy_of(arena.kernel))
    labels = arena.sample.sums(Labels(arena.frame, step, arena.sample.plan.block_rows)).values[0].astype(int)
    labels[labels == k] = -1  # noise stays noise
    points, assigned = arena.points, labels.copy()
    for j in range(k):
        members = np.flatnonzero(labels == j)
        z = points[members]
        if own:
            z = mixture.family.whiten(mixture.root, j, np.ascontiguousarray((z - mixture.means[j]).T)).T
        if len(z) > 1:
            assigned[members[second_half(z, None if arena.weights is None else arena.weights[members], random)]] += k
    layout = Layout(mixture.covariance_type, 2 * k, mixture.d, arena.frame.digest)
    halves = m_step(repaired(arena.assigned(layout, assigned), arena.prior, 0, 0)[0], arena.prior)
    if mixture.noise is not None:
        halves = with_noise(halves, mixture.noise, mixture.noise.weight)
    found = fitted(halves, arena, Batch(tol=0, max_iter=HALVES_LAPS))
    return None if found is None else arena.statistics(found)


def second_half(z: Array, weights: Array | None, random: np.random.RandomState) -> np.ndarray:
    """Which of rows (m, d), with weights (m,), are in the second of two clusters."""
    with warnings.catch_warnings():  # rows may all be equal
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        found = KMeans(n_clusters=2, n_init=1, random_state=random).fit(np.ascontiguousarray(z), sample_weight=weights)
    return np.asarray(found.labels_ == 1)
