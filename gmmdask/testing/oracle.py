"""scikit-learn as the oracle: the same start and the same iterations must give the same model."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Oracle

from gmmdask import GaussianMixture
from gmmdask.algorithms import Batch

ITERATIONS = 15


@dataclass(frozen=True)
class Differences:
    """Largest differences of two models: weights; means in standard deviations of the data; covariances in units of
    the largest variance; score in nats per row.
    """

    weights: float
    means: float
    covariances: float
    score: float

    @property
    def worst(self) -> float:
        return max(self.weights, self.means, self.covariances, self.score)


def compare(rows: np.ndarray, n_components: int, covariance_type: str, kernel: str) -> Differences:
    """Our model against scikit-learn's, both from scikit-learn's first iteration from k-means with seed 0.

    Parameters
    ----------
    rows : (n, d)
    kernel : {"products", "compiled", "centred"}
    """
    settings: dict[str, Any] = {"covariance_type": covariance_type, "reg_covar": 1e-4, "tol": 0, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0 never converges
        first = Oracle(n_components, max_iter=1, **settings).fit(rows)
        start = {"weights_init": first.weights_, "means_init": first.means_, "precisions_init": first.precisions_}
        theirs = Oracle(n_components, max_iter=ITERATIONS, **settings, **start).fit(rows)
    algorithm = Batch(tol=0, max_iter=ITERATIONS, kernel=kernel)
    ours = GaussianMixture(n_components, algorithm=algorithm, **settings, **start).fit(rows)
    return Differences(
        float(np.abs(ours.weights_ - theirs.weights_).max()),
        float((np.abs(ours.means_ - theirs.means_) / np.maximum(rows.std(axis=0), 1e-300)).max()),
        float(np.abs(ours.covariances_ - theirs.covariances_).max() / rows.var(axis=0).max()),
        float(abs(ours.score(rows) - theirs.score(rows))),
    )
