"""Marginal and conditional distributions of a mixture: they are mixtures of the same family."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture


def marginal(mixture: Mixture, features: Sequence[int]) -> Mixture:
    """The distribution of some features, in this order (Bishop 2006, section 2.3.2): parameters without the others.

    The mixture is in data units, where the box of its noise is; here and below.
    """
    kept = np.asarray(features)
    covariances = mixture.family.restricted(mixture.covariances, kept)
    noise, means = mixture.noise, np.ascontiguousarray(mixture.means[:, kept])
    return replace(mixture, means=means, covariances=covariances, noise=None if noise is None else noise.of(kept))


def conditional(mixture: Mixture, features: Sequence[int], values: Array) -> Mixture:
    """The distribution of the other features, in their order, where `features` have these `values` (g,).

    With precisions Λ of a component, b the given features and a the others (Bishop 2006, section 2.3.1): weights are
    the posterior probabilities under the marginal of b, Σ = Λ_aa⁻¹, μ = μ_a + Σ_ab Σ_bb⁻¹ (x_b - μ_b). Weights of
    components that are far from the values may underflow to zero.

    Raises
    ------
    IllDefinedCovariance
        If a covariance is not positive definite.
    """
    if not len(features):
        return mixture
    family, given = mixture.family, np.asarray(features)
    rest = np.setdiff1d(np.arange(mixture.d), given)
    known, dense = marginal(mixture, features), mixture.dense_covariances()
    off = values - known.means
    distances = [np.sum(family.whiten(known.root, k, z[:, None]) ** 2) for k, z in enumerate(off)]
    log_joint = known.log_scale - 0.5 * np.array(distances)
    if known.noise is not None:
        log_joint = np.append(log_joint, known.noise.log_joint)
    shares = np.exp(log_joint - log_joint.max())
    solved = np.linalg.solve(dense[:, given[:, None], given], off[:, :, None])
    means = mixture.means[:, rest] + (dense[:, rest[:, None], given] @ solved)[:, :, 0]
    covariances = family.from_precisions(family.restricted(family.precisions(mixture.root), rest))
    found = mixture.proportioned(shares / shares.sum())
    noise = None if found.noise is None else found.noise.of(rest)
    return replace(found, means=means, covariances=covariances, noise=noise)
