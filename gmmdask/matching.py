"""Which component of one mixture is which of another: mixtures are equal up to the order of their components."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture


def match(a: Mixture, b: Mixture) -> np.ndarray:
    """The order (K,) of b's components in which they are most like a's: compare `b.reordered(order)` with a.

    The assignment with the smallest sum of divergences, whatever the weights and the covariance types.

    Raises
    ------
    ValueError
        If the mixtures differ in K or in d.
    IllDefinedCovariance
        If a covariance is not positive definite.
    """
    if a.means.shape != b.means.shape:
        raise ValueError(
            f"expected two mixtures of the same shape, found {a.n_components} components in {a.d} dimensions and "
            f"{b.n_components} in {b.d}: only mixtures with as many components and features can be matched one to one."
        )
    _, order = linear_sum_assignment(divergence(a, b))
    return np.asarray(order)


def divergence(a: Mixture, b: Mixture) -> Array:
    """KL(p_i | q_j) + KL(q_j | p_i) in nats, (K_a, K_b), of a's components p_i and b's q_j, both Gaussian.

    ½ tr(Σ_p Σ_q⁻¹) + ½ tr(Σ_q Σ_p⁻¹) - d + ½ δᵀ(Σ_p⁻¹ + Σ_q⁻¹)δ with δ = μ_p - μ_q (Kullback and Leibler, 1951):
    the log determinants cancel. Divergence is the same in any coordinates, so it needs no units.
    """
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


def squared_distances(points: Array, means: Array, roots: Array) -> Array:
    """|U_k (x_m - μ_k)|², (K, M), of points (M, d) from means (K, d) under roots (K, d, d)."""
    return np.stack([np.sum(((points - mean) @ root.T) ** 2, axis=1) for mean, root in zip(means, roots, strict=True)])
