"""Stats and prior -> mixture."""

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.frame import Conjugate, Prior
from gmmdask.mixture import Mixture
from gmmdask.noise import Noise
from gmmdask.stats import Stats

TINY_MASS = 10 * np.finfo(np.float64).eps  # as scikit-learn: keeps an empty component's division defined


def central(stats: Stats) -> tuple[Array, Array, Array]:
    """Mass (K,), means less the origin (K, d), and scatter about the means, packed (R, p)."""
    mass = stats.mass + TINY_MASS * min(1.0, stats.weight)
    shift: Array = stats.first / mass[:, None]
    return mass, shift, stats.second - stats.layout.family.outer(stats.first, shift)


def proportions(stats: Stats, mass: Array, prior: Prior) -> tuple[Array, Noise | None]:
    """Weights (K,) by mass (K,), and the noise, if there is any, with a weight by the mass outside.

    Σ_k (N_k + α - 1) log π_k has its maximum at π_k = (N_k + α - 1)/(W + K (α - 1)); noise counts no α - 1.
    """
    counts = mass + (prior.concentration - 1)
    if prior.noise is None:
        return np.asarray(counts / counts.sum()), None
    total = counts.sum() + stats.outside
    return counts / total, prior.noise.weighing(stats.outside / total)


def m_step(stats: Stats, prior: Prior) -> Mixture:
    """The mixture that maximises the expected log likelihood (Dempster, Laird and Rubin 1977), regularised.

    π = N/W, μ = o + S1/N, Σ = (S2 - S1 S1ᵀ/N)/N (summed over components and divided by W if shared), then the
    prior's regularisation is added. With a conjugate prior of means and covariances, or a Dirichlet prior of weights,
    it maximises the expected log posterior instead. Noise has the weight that components leave.
    """
    if prior.conjugate is not None:
        return map_step(stats, prior, prior.conjugate)
    family, (mass, shift, scatter) = stats.layout.family, central(stats)
    covariances = family.covariances(scatter, mass, stats.layout.d) + prior.added(family, len(mass))
    weights, noise = proportions(stats, mass, prior)
    return Mixture(family.name, weights, stats.origin + shift, covariances, noise)


def map_step(stats: Stats, prior: Prior, conjugate: Conjugate) -> Mixture:
    """Maximum a posteriori (Fraley and Raftery 2007): μ = S1/(N + κ), moments about 0, and to the scatter come
    κN/(κ + N) x̄ x̄ᵀ of every component, and the prior's scale; to what divides it, the prior's rows.
    """
    family, (mass, shift, scatter) = stats.layout.family, central(stats)
    k, d, kappa = len(mass), stats.layout.d, conjugate.shrinkage
    centres, share = stats.origin + shift, mass / (mass + kappa)
    between = family.outer((kappa * share)[:, None] * centres, centres)
    total = scatter + between + conjugate.scatter(family, d)
    covariances = family.covariances(total, mass + conjugate.rows(family, k, d), d)
    weights, noise = proportions(stats, mass, prior)
    return Mixture(family.name, weights, share[:, None] * centres, covariances, noise)
