"""How a fit starts: by which method, and from which parameters that somebody gave."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture

SCALABLE = "k-means||"  # by passes over all rows
REFINEMENTS = ("split-merge",)  # what may be done to a start once EM has found no more to gain
METHODS = ("kmeans", "k-means++", "random", "random_from_data", "kmeans-whitened", SCALABLE)


@dataclass(frozen=True, eq=False)
class Start:
    """How to start: a method, and parameters in data units (or None) that replace what it finds.

    `precisions` have the family's own shape.
    """

    covariance_type: str
    n_components: int
    method: str = "kmeans"
    weights: Array | None = None
    means: Array | None = None
    precisions: Array | None = None

    @classmethod
    def checked(
        cls, covariance_type: str, k: int, d: int, method: str, weights: Any, means: Any, precisions: Any
    ) -> "Start":
        """A start from parameters that somebody gave, for K components in d dimensions.

        Raises
        ------
        ValueError
            If one has another shape, is not finite, or cannot be what it is called.
        """
        weights = checked("weights", weights, (k,))
        if weights is not None:
            check_weights(weights)
        means = checked("means", means, (k, d))
        family = FAMILIES[covariance_type]
        precisions = checked(f"{covariance_type} precision", precisions, family.own_shape(k, d))
        if precisions is not None:
            check_precisions(family, precisions, d)
        return cls(covariance_type, k, method, weights, means, precisions)

    def n_parameters(self, d: int) -> int:
        """Free parameters of a mixture of d features."""
        k = self.n_components
        return k - 1 + k * d + FAMILIES[self.covariance_type].n_parameters(k, d)

    @property
    def given(self) -> bool:
        """Whether the user gave a part of the start: it is then used as it is."""
        return not all(part is None for part in (self.weights, self.means, self.precisions))

    @property
    def complete(self) -> bool:
        return not any(part is None for part in (self.weights, self.means, self.precisions))

    @property
    def by_passes(self) -> bool:
        """Whether all rows are read to find it, not the sample alone."""
        return self.method == SCALABLE and not self.complete

    def completed(self, found: Mixture | None) -> Mixture:
        """The given parameters, completed by those that were found, in data units."""
        weights, means, precisions = self.weights, self.means, self.precisions
        covariances = None if precisions is None else FAMILIES[self.covariance_type].from_precisions(precisions)
        if found is not None:
            weights = found.weights if weights is None else weights
            means = found.means if means is None else means
            covariances = found.covariances if covariances is None else covariances
        assert weights is not None
        assert means is not None
        assert covariances is not None
        return Mixture(self.covariance_type, weights, means, covariances)


def checked(name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
    """A given parameter as a float64 array of the right shape."""
    if value is None:
        return None
    array = np.ascontiguousarray(value, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"The parameter {name!r} should have the shape of {shape}, but got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"The parameter {name!r} should hold finite numbers, but holds NaN or infinity")
    return array


def check_weights(weights: Array) -> None:
    """Refuses weights (K,) that are no proportions, in scikit-learn's words, which take the least for the largest."""
    least, largest = weights.min(), weights.max()
    if least < 0 or largest > 1:
        raise ValueError(
            f"The parameter 'weights' should be in the range [0, 1], but got max value {least:.5f}, min value "
            f"{largest:.5f} (from least to largest). Give the proportions of components."
        )
    if abs(weights.sum() - 1) >= 1e-6:
        raise ValueError(
            f"The parameter 'weights' should be normalized, but got sum(weights) = {weights.sum():.5f}. Divide them by "
            "their sum."
        )


def check_precisions(family: Family, precisions: Array, d: int) -> None:
    """Refuses precisions, in the family's own shape, that are no inverse covariances."""
    matrices = precisions.ndim - (not family.shared) == 2
    try:
        family.root(precisions, d)
        if matrices and not np.allclose(precisions, precisions.swapaxes(-1, -2)):
            raise ValueError
    except ValueError:
        wanted = "symmetric, positive-definite" if matrices else "positive"
        raise ValueError(
            f"The parameter '{family.name} precision' should be {wanted}: it is the inverse of covariances"
        ) from None
