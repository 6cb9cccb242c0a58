"""Clusters merged two by two until K are left, each time where the likelihood falls least (Banfield and Raftery 1993).

k-means would rather cut a heavy cluster in two than keep two light ones apart that are near each other; a likelihood
would not. All that it needs are statistics.
"""

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.mstep import central
from gmmdask.stats import Stats


def merged(stats: Stats, n: int) -> np.ndarray:
    """Which of n clusters each component (K,) of some statistics becomes a part of; each must hold rows.

    Raises
    ------
    IllDefinedCovariance
        If rows have no spread within components, in some direction.
    """
    left, groups = Clusters(stats), np.arange(len(stats.mass))
    costs = np.full((len(groups), len(groups)), np.inf)
    for i in range(len(groups) - 1):
        costs[i, i + 1 :] = left.costs(i, np.arange(i + 1, len(groups)))
    for _ in range(len(groups) - n):
        i, j = (int(k) for k in np.unravel_index(np.argmin(costs), costs.shape))
        left.merge(i, j)
        groups[groups == j] = i
        costs[j], costs[:, j] = np.inf, np.inf
        others = np.setdiff1d(groups, [i])
        if len(others):
            costs[np.minimum(i, others), np.maximum(i, others)] = left.costs(i, others)
    return np.unique(groups, return_inverse=True)[1]


class Clusters:
    """Mass (K,), means (K, d) and scatter of clusters, which change as they are merged.

    A cluster's covariance is drawn to the mean one within all clusters by d + 1 rows, so that few rows show no more of
    it than they can.
    """

    def __init__(self, stats: Stats) -> None:
        self.family, self.d, self.total = stats.layout.family, stats.layout.d, float(stats.mass.sum())
        self.mass, shift, self.scatter = central(stats)
        self.means, self.rows = stats.origin + shift, self.d + 1.0
        self.within = self.scatter.sum(axis=0, keepdims=True) / self.total
        self.root = self.family.root(self.family.covariances(self.within, np.ones(1), self.d), self.d)
        self.own = self.heights(self.mass, None if self.family.shared else self.scatter)

    def heights(self, mass: Array, scatter: Array | None) -> Array:
        """Σ log π N(x) over the rows of clusters of these masses (m,) and scatters (m, p), less what all have alike."""
        found: Array = mass * np.log(mass / self.total)
        if scatter is None:
            return found
        covariances = self.family.covariances(scatter + self.rows * self.within, mass + self.rows, self.d)
        return found + mass * self.family.half_log_det_precision(self.family.root(covariances, self.d), self.d)

    def costs(self, i: int, others: np.ndarray) -> Array:
        """What a merger of cluster i with each of some others (m,) costs, in nats."""
        mass, steps, between = self._joined(i, others)
        if not self.family.shared:
            joint = self.scatter[i] + self.scatter[others] + self.family.outer(between * steps, steps)
            return self.own[i] + self.own[others] - self.heights(mass, joint)
        white = self.family.whiten(self.root, 0, np.ascontiguousarray(steps.T))
        spread = between[:, 0] / self.total * np.einsum("dm,dm->m", white, white)
        return self.own[i] + self.own[others] - self.heights(mass, None) + 0.5 * self.total * np.log1p(spread)

    def merge(self, i: int, j: int) -> None:
        """Cluster j becomes a part of cluster i."""
        mass, steps, between = self._joined(i, np.array([j]))
        scatter = self.family.outer(between * steps, steps)
        if not self.family.shared:
            self.scatter[i] += self.scatter[j] + scatter[0]
        self.means[i] += self.mass[j] / mass[0] * steps[0]
        self.mass[i] = mass[0]
        self.own[i] = self.heights(mass, None if self.family.shared else self.scatter[i : i + 1])[0]

    def _joined(self, i: int, others: np.ndarray) -> tuple[Array, Array, Array]:
        """Masses (m,) of both, steps (m, d) from one mean to the others, and N_i N_j/(N_i + N_j), (m, 1)."""
        mass = self.mass[i] + self.mass[others]
        return mass, self.means[others] - self.means[i], (self.mass[i] * self.mass[others] / mass)[:, None]
