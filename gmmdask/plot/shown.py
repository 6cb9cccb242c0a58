"""What pictures show: which rows, which features, and the densities of a mixture there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture


def thinned(n: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of n rows, in random order: always the same for the same n."""
    return np.random.default_rng([n, most]).permutation(n)[:most]


def with_values(rows: np.ndarray, features: Sequence[int], most: int) -> np.ndarray:
    """Numbers of at most `most` rows of (n, d) that lack none of the features, in random order; NaN is missing."""
    there = np.flatnonzero(~np.isnan(rows[:, list(features)]).any(axis=1))
    return there[thinned(len(there), most)]


def table(rows: Any, d: int | None = None) -> np.ndarray:
    """Rows as an array (n, d); ValueError if they are none."""
    found = np.asarray(rows)
    if found.ndim != 2 or not len(found) or (d is not None and found.shape[1] != d):
        raise ValueError(f"rows of shape {found.shape}: expected (n, {'d' if d is None else d}), one at least.")
    return found


def check_features(mixture: Mixture, features: Sequence[int]) -> None:
    """Refuses features that the mixture does not have, and none."""
    if not len(features) or not all(-mixture.d <= i < mixture.d for i in features):
        raise ValueError(f"features={list(features)}: expected some of 0 to {mixture.d - 1}.")


def marginal(mixture: Mixture, features: Sequence[int]) -> Mixture:
    """The mixture of some of the features: their rows of the means, their rows and columns of the covariances."""
    check_features(mixture, features)
    at = np.asarray(features)
    single = (mixture.reordered([k]).dense_covariances()[0] for k in range(mixture.n_components))
    covariances = np.stack([covariance[np.ix_(at, at)] for covariance in single])
    noise = None if mixture.noise is None else mixture.noise.of(at)
    return Mixture("full", mixture.weights, np.ascontiguousarray(mixture.means[:, at]), covariances, noise)


def densities(mixture: Mixture, points: Array) -> Array:
    """Weighted densities π_k N(x|k) of the components, (K, m), at points (m, d)."""
    found = np.empty((mixture.n_components, len(points)))
    for k, mean in enumerate(mixture.means):
        white = mixture.family.whiten(mixture.root, k, (points - mean).T)
        found[k] = np.exp(mixture.log_scale[k] - 0.5 * np.einsum("dm,dm->m", white, white))
    return found


def telling_features(mixture: Mixture, most: int = 2) -> tuple[int, ...]:
    """The few features of which the means explain the largest share of the variance, in their order."""
    mean, covariance = mixture.moments()
    between = mixture.weights @ (mixture.means - mean) ** 2
    variance = np.diag(covariance)
    share = np.divide(between, variance, out=np.zeros_like(variance), where=variance > 0)
    return tuple(int(i) for i in np.sort(np.argsort(-share, kind="stable")[:most]))
