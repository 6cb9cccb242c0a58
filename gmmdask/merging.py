"""A mixture of fewer components from one of more: pairs are merged where that costs least."""

import numpy as np

from gmmdask.competition import Ground
from gmmdask.frame import Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step


def merged(mixture: Mixture, n_components: int, prior: Prior, ground: Ground) -> Mixture:
    """So many components, from the statistics of the sample: one after another joins the one it costs least to join.

    Parameters
    ----------
    prior : of the mixture as it is; of fewer components it takes what it needs.
    """
    stats = ground.statistics(mixture)
    while mixture.n_components > n_components:
        stays, goes = cheapest_pair(mixture)
        stats = stats.joined(goes, stays).without_component(goes)
        mixture = m_step(stats, prior)
    return mixture


def cheapest_pair(mixture: Mixture) -> tuple[int, int]:
    """The two components whose merger loses least, by the bound of Runnalls (2007) on the divergence that it brings.

    ½ [(π_i + π_j) log|Σ_ij| - π_i log|Σ_i| - π_j log|Σ_j|], where Σ_ij = (π_i Σ_i + π_j Σ_j)/(π_i + π_j)
    + π_i π_j/(π_i + π_j)² (μ_i - μ_j)(μ_i - μ_j)ᵀ.
    """
    weights, means, dense = mixture.weights, mixture.means, mixture.dense_covariances()
    log_dets = np.linalg.slogdet(dense)[1]
    best, pair = np.inf, (0, 1)
    for i in range(mixture.n_components - 1):
        own, other = weights[i], weights[i + 1 :]
        both, apart = own + other, means[i + 1 :] - means[i]
        spread = (own * other / both**2)[:, None, None] * apart[:, :, None] * apart[:, None, :]
        joint = (own * dense[i] + other[:, None, None] * dense[i + 1 :]) / both[:, None, None] + spread
        costs = both * np.linalg.slogdet(joint)[1] - own * log_dets[i] - other * log_dets[i + 1 :]
        if costs.min() < best:
            best, pair = float(costs.min()), (i, i + 1 + int(costs.argmin()))
    return pair
