"""A Gaussian mixture as a frozen value."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array
from gmmdask.stats import Stats


@dataclass(frozen=True, eq=False)
class Mixture:
    """p(x) = Σ_k weights_k N(x | means_k, covariances_k) with K components in d dimensions.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}
    weights : (K,), positive, summing to one.
    means : (K, d)
    covariances : (K, d, d), (d, d), (K, d) or (K,), as the covariance type says.

    Raises
    ------
    IllDefinedCovariance
        By whatever needs a density, if a covariance is not positive definite.
    """

    covariance_type: str
    weights: Array
    means: Array
    covariances: Array

    @cached_property
    def family(self) -> Family:
        return FAMILIES[self.covariance_type]

    @property
    def fits(self) -> bool:
        """Whether its arrays go together: asked of what comes out of a file."""
        if self.covariance_type not in FAMILIES or self.means.ndim != 2 or not self.means.size:
            return False
        wanted = (self.n_components,), self.family.own_shape(self.n_components, self.d)
        return (self.weights.shape, self.covariances.shape) == wanted

    @cached_property
    def digest(self) -> str:
        """Names the mixture: statistics at different mixtures must not add."""
        arrays = b"".join(array.tobytes() for array in (self.weights, self.means, self.covariances))
        return hashlib.sha256(f"{self.covariance_type} {self.means.shape}".encode() + arrays).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.covariance_type} mixture {self.digest} (K={self.n_components}, d={self.d})"

    @property
    def n_components(self) -> int:
        return self.means.shape[0]

    @property
    def d(self) -> int:
        return self.means.shape[1]

    @cached_property
    def root(self) -> Array:
        """Inverse square roots of the covariances, in the family's shape."""
        return self.family.root(self.covariances, self.d)

    @cached_property
    def log_scale(self) -> Array:
        """log π_k - d/2 log 2π - ½ log|Σ_k|, (K,): a component's log joint density at its own mean."""
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        return log_weights - 0.5 * self.d * np.log(2 * np.pi) + self.family.half_log_det_precision(self.root, self.d)

    @cached_property
    def coefficients(self) -> tuple[Array, Array, Array]:
        """Quadratic (R, p), linear (K, d) and constant (K,) coefficients of -½|U(x-μ)|² on the features of a row."""
        return self.family.coefficients(self.root, self.means)

    @cached_property
    def cancellation(self) -> float:
        """Relative error, in rounding units, of covariances taken from moments about the origin."""
        return float(np.max(self.family.cancellation(self.root, self.covariances, self.means)))

    @property
    def n_parameters(self) -> int:
        """Free parameters: K - 1 weights, K d means, and those of the covariances."""
        return self.n_components - 1 + self.means.size + self.family.n_parameters(self.n_components, self.d)

    def dense_covariances(self) -> Array:
        """(K, d, d), whatever the family."""
        return self.family.dense(self.covariances, self.n_components, self.d)

    def moments(self) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of the whole mixture."""
        mean = self.weights @ self.means
        spread = self.means - mean
        within = np.einsum("k,kij->ij", self.weights, self.dense_covariances())
        return mean, within + (self.weights[:, None] * spread).T @ spread

    def reordered(self, order: Any) -> "Mixture":
        """The same mixture with its components in another order (K,)."""
        covariances = self.covariances if self.family.shared else self.covariances[order]
        return Mixture(self.covariance_type, self.weights[order], self.means[order], covariances)

    def by_weight(self) -> "Mixture":
        """The same mixture, heaviest component first."""
        return self.reordered(np.argsort(-self.weights, kind="stable"))

    def coordinates(self) -> Array:
        """The mixture as one vector of unconstrained numbers: log weights, means, and the family's coordinates."""
        log_weights = np.log(np.maximum(self.weights, np.finfo(np.float64).tiny))
        return np.concatenate([log_weights, self.means.ravel(), self.family.coordinates(self.covariances).ravel()])

    def at(self, coordinates: Array) -> "Mixture":
        """The mixture of this one's family and shape at any vector of `coordinates`; weights by softmax."""
        k, d = self.means.shape
        weights = np.exp(coordinates[:k] - coordinates[:k].max())
        means, rest = coordinates[k : k + k * d].reshape(k, d), coordinates[k + k * d :]
        covariances = self.family.from_coordinates(rest.reshape(1 if self.family.shared else k, -1), d)
        return Mixture(self.covariance_type, weights / weights.sum(), means.copy(), covariances)

    def expected_log_joint(self, stats: Stats) -> float:
        """Σ w r log π_k N(x|k) in nats, of rows with these statistics, of whichever mixture these are."""
        about = stats.about(self.means)
        used = about.mass > 0  # a component of weight zero has log weight -inf and no rows
        return float(self.log_scale[used] @ about.mass[used] + np.vdot(self.coefficients[0], about.second))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, np.ndarray]:
        """n independent rows (n, d) and the components (n,) that they came from."""
        labels = np.searchsorted(np.cumsum(self.weights)[:-1], rng.random(n), side="right")
        rows = rng.standard_normal((n, self.d))
        factors = np.linalg.cholesky(self.dense_covariances())
        for k in range(self.n_components):
            of_k = labels == k
            rows[of_k] = rows[of_k] @ factors[k].T + self.means[k]
        return rows, labels
