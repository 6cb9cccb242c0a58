"""Gradients of a fit's objective: functions of statistics and prior alone, as an M-step is."""

from dataclasses import dataclass, replace

import numpy as np

from gmmdask.covariance._base import Array, IllDefinedCovariance
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.stats import Stats

WORST_CONDITION = 1e12


def objective(stats: Stats, mixture: Mixture, prior: Prior) -> tuple[float, float]:
    """Log likelihood plus log prior, and the log prior in it, per unit weight, in nats."""
    log_prior = share(stats, prior) * prior.log_density(mixture) / stats.weight
    return stats.log_likelihood / stats.weight + log_prior, log_prior


def share(stats: Stats, prior: Prior) -> float:
    """What the prior counts for beside these statistics: they may be of some of the rows."""
    return stats.weight / prior.weight if prior.weight else 1.0


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of log likelihood plus log prior, in nats.

    Parameters
    ----------
    weight : what weights π are weighed against: logits, log weights before they are made to sum to one, have the
        derivatives mass - weight · π.
    mass : (K,), N_k, and α - 1 of a Dirichlet prior.
    shares : (m,), the same, and last the mass outside, if there is noise: as `Mixture.proportions`.
    means : (K, d), Σ_k⁻¹ (S1_k - N_k μ_k).
    covariances : in own shape, ½ (Σ_k⁻¹ M_k Σ_k⁻¹ - N_k Σ_k⁻¹); every entry of a matrix counts for itself.
    """

    weight: float
    mass: Array
    shares: Array
    means: Array
    covariances: Array


def slopes(stats: Stats, mixture: Mixture, prior: Prior) -> Slopes:
    """From the statistics of rows under the mixture. The normal prior acts as κ rows at zero, its scale as scatter, and
    a Dirichlet prior as α - 1 rows in each component, of which only weights know.
    """
    family, (k, d), about = mixture.family, mixture.means.shape, stats.about(mixture.means)
    mass, first, second = about.mass, about.first, about.second
    if prior.conjugate is not None:
        part, conjugate = share(stats, prior), prior.conjugate
        pull = part * conjugate.shrinkage * mixture.means
        second = second + family.outer(pull, mixture.means) + part * conjugate.scatter(family, d)
        first, mass = first - pull, mass + part * conjugate.rows(family, k, d)
    steep = family.coefficients(mixture.root, first)[1]
    counts = share(stats, prior) * (prior.concentration - 1)
    held = about.mass + counts
    shares = held if mixture.noise is None else np.append(held, stats.outside)
    covariances = family.slope(mixture.root, second, mass, d)
    return Slopes(stats.weight + k * counts, held, shares, steep, covariances)


# --- in unconstrained coordinates ------------------------------------------------------------------------------


def bared(mixture: Mixture, prior: Prior) -> Mixture:
    """Without the regularisation that its covariances have in them; they keep as much of it as they need."""
    added = prior.added(mixture.family, mixture.n_components)
    if not np.any(added):
        return mixture
    dense = mixture.family.dense(added, mixture.n_components, mixture.d)[0]
    least = float(np.linalg.eigvalsh(dense)[0])
    return replace(mixture, covariances=mixture.family.floored(mixture.covariances - added, least))


def has_room(mixture: Mixture, prior: Prior) -> bool:
    """Whether a mixture has covariances that the regularisation can be taken out of, all of it."""
    added = prior.added(mixture.family, mixture.n_components)
    return not np.any(added) or np.array_equal(bared(mixture, prior).covariances, mixture.covariances - added)


def regularised(mixture: Mixture, prior: Prior) -> Mixture:
    """With the prior's regularisation added to covariances."""
    added = prior.added(mixture.family, mixture.n_components)
    if not np.any(added):
        return mixture
    return replace(mixture, covariances=mixture.covariances + added)


def mixture_at(coordinates: Array, like: Mixture, prior: Prior) -> Mixture:
    """The mixture of this kind at unconstrained coordinates: logits, means, and the family's, of Σ - regularisation."""
    return regularised(like.at(coordinates), prior)


def is_sound(mixture: Mixture) -> bool:
    """Whether parameters are finite, and covariances so far from singular that they are positive definite in data units
    too: tr Σ tr Σ⁻¹ is no less than the condition number. A step may not end elsewhere.
    """
    if not np.isfinite(mixture.means).all():
        return False
    try:
        precisions = mixture.family.precisions(mixture.root)
    except IllDefinedCovariance:
        return False
    shape = mixture.means.shape
    ends = (mixture.family.dense(own, *shape) for own in (mixture.covariances, precisions))
    traces, inverse = (np.trace(dense, axis1=1, axis2=2) for dense in ends)
    return bool(np.all(traces * inverse < WORST_CONDITION))


def gradient(coordinates: Array, stats: Stats, mixture: Mixture, prior: Prior) -> Array:
    """Of the objective per unit weight with respect to `coordinates`, where the mixture is."""
    (k, d), found = mixture.means.shape, slopes(stats, mixture, prior)
    rest = coordinates[found.shares.size + k * d :].reshape(1 if mixture.family.shared else k, -1)
    logits = found.shares - found.weight * mixture.proportions
    chained = mixture.family.chain(rest, found.covariances, d)
    return np.concatenate([logits, found.means.ravel(), chained.ravel()]) / stats.weight
