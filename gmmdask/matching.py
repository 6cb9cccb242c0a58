"""Which component of one mixture is which of another: mixtures are equal up to the order of their components."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture


def match(a: Any, b: Any, distance: str = "symmetric_kl") -> np.ndarray:
    """The order (K,) of b's components in which they are most like a's: compare `b.means_[order]` with `a.means_`.

    The assignment with the smallest sum of distances, whatever the weights and the covariance types.

    Parameters
    ----------
    a, b : fitted estimators, or mixtures.
    distance : {"symmetric_kl", "bhattacharyya"}

    Raises
    ------
    ValueError
        If the mixtures differ in K or in d, or the distance is unknown.
    IllDefinedCovariance
        If a covariance is not positive definite.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance={distance!r}: expected one of {', '.join(DISTANCES)}.")
    (k, d), (other, features) = mixture_of(a).means.shape, mixture_of(b).means.shape
    if (k, d) != (other, features):
        raise ValueError(
            f"expected two mixtures of the same shape, found {k} components in {d} dimensions and {other} in "
            f"{features}: only mixtures with as many components and features can be matched one to one."
        )
    _, order = linear_sum_assignment(DISTANCES[distance](a, b))
    return np.asarray(order)


def mixture_of(model: Any) -> Mixture:
    """The mixture of a fitted estimator, or a mixture itself."""
    found = getattr(model, "mixture_", model)
    if not isinstance(found, Mixture):
        raise ValueError(f"expected a fitted GaussianMixture, found {type(model).__name__}. Fit it first.")
    return found


def symmetric_kl(a: Any, b: Any) -> Array:
    """KL(p_i | q_j) + KL(q_j | p_i) in nats, (K_a, K_b), of a's components p_i and b's q_j, both Gaussian.

    ½ tr(Σ_p Σ_q⁻¹) + ½ tr(Σ_q Σ_p⁻¹) - d + ½ δᵀ(Σ_p⁻¹ + Σ_q⁻¹)δ with δ = μ_p - μ_q (Kullback and Leibler, 1951):
    the log determinants cancel. It is the same in any coordinates, so it needs no units.
    """
    a, b = mixture_of(a), mixture_of(b)
    full, d = FAMILIES["full"], a.d
    covariances, roots, precisions = [], [], []
    for mixture in (a, b):
        dense = mixture.dense_covariances()
        roots.append(full.root(dense, d))
        precisions.append(full.precisions(roots[-1]).reshape(-1, d * d))
        covariances.append(dense.reshape(-1, d * d))
    shapes = covariances[0] @ precisions[1].T + precisions[0] @ covariances[1].T
    places = squared_distances(b.means, a.means, roots[0]) + squared_distances(a.means, b.means, roots[1]).T
    return 0.5 * (shapes + places) - d


def bhattacharyya(a: Any, b: Any) -> Array:
    """-log ∫ √(p_i q_j) in nats, (K_a, K_b), of a's components p_i and b's q_j, both Gaussian.

    ⅛ δᵀ Σ⁻¹ δ + ½ log |Σ| - ¼ log |Σ_p| |Σ_q| with δ = μ_p - μ_q and Σ = ½ (Σ_p + Σ_q) (Bhattacharyya, 1943). The same
    in any coordinates too, and gentler on components that hardly overlap.
    """
    a, b = mixture_of(a), mixture_of(b)
    full, d = FAMILIES["full"], a.d
    dense, others = a.dense_covariances(), b.dense_covariances()
    halves = full.half_log_det_precision(full.root(dense, d), d), full.half_log_det_precision(full.root(others, d), d)
    found = []
    for mean, covariance, half in zip(a.means, dense, halves[0], strict=True):
        root = full.root(0.5 * (covariance + others), d)
        places = np.sum(np.einsum("kij,kj->ki", root, b.means - mean) ** 2, axis=1)
        found.append(places / 8 - full.half_log_det_precision(root, d) + 0.5 * (half + halves[1]))
    return np.array(found)


def squared_distances(points: Array, means: Array, roots: Array) -> Array:
    """|U_k (x_m - μ_k)|², (K, M), of points (M, d) from means (K, d) under roots (K, d, d)."""
    return np.stack([np.sum(((points - mean) @ root.T) ** 2, axis=1) for mean, root in zip(means, roots, strict=True)])


DISTANCES: dict[str, Callable[[Any, Any], Array]] = {"symmetric_kl": symmetric_kl, "bhattacharyya": bhattacharyya}
