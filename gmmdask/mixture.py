"""A Gaussian mixture as a frozen value."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array
from gmmdask.noise import Noise
from gmmdask.stats import Stats


@dataclass(frozen=True, eq=False)
class Mixture:
    """p(x) = Σ_k weights_k N(x | means_k, covariances_k) with K components in d dimensions, and noise if there is any.

    Parameters
    ----------
    covariance_type : {"full", "tied", "diag", "spherical"}
    weights : (K,), positive, summing to one less the weight of the noise.
    means : (K, d)
    covariances : (K, d, d), (d, d), (K, d) or (K,), as the covariance type says.
    noise : a uniform component beside the K others, or None. Its box stays in data units.

    Raises
    ------
    IllDefinedCovariance
        By whatever needs a density, if a covariance is not positive definite.
    """

    covariance_type: str
    weights: Array
    means: Array
    covariances: Array
    noise: Noise | None = None

    def __post_init__(self) -> None:
        if isinstance(self.covariances, np.generic):  # arithmetic makes numbers of arrays of shape ()
            object.__setattr__(self, "covariances", np.asarray(self.covariances))

    @cached_property
    def family(self) -> Family:
        return FAMILIES[self.covariance_type]

    @property
    def fits(self) -> bool:
        """Whether its arrays go together: asked of what comes out of a file."""
        if self.covariance_type not in FAMILIES or self.means.ndim != 2 or not self.means.size:
            return False
        wanted = (self.n_components,), self.family.own_shape(self.n_components, self.d)
        boxed = self.noise is None or self.noise.low.shape == (self.d,)
        return boxed and (self.weights.shape, self.covariances.shape) == wanted

    @cached_property
    def digest(self) -> str:
        """Names the mixture: statistics at different mixtures must not add."""
        arrays = b"".join(array.tobytes() for array in (self.weights, self.means, self.covariances))
        noise = self.noise
        told = b"" if noise is None else float(noise.weight).hex().encode() + noise.low.tobytes() + noise.high.tobytes()
        return hashlib.sha256(f"{self.covariance_type} {self.means.shape}".encode() + arrays + told).hexdigest()[:16]

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

    @cached_property
    def proportions(self) -> Array:
        """All weights, (m,): those of the components, and last that of the noise, if there is any."""
        return self.weights if self.noise is None else np.append(self.weights, self.noise.weight)

    def proportioned(self, shares: Array) -> "Mixture":
        """The same mixture with other `proportions` (m,)."""
        if self.noise is None:
            return replace(self, weights=shares)
        return replace(self, weights=shares[:-1].copy(), noise=self.noise.weighing(shares[-1]))

    @property
    def n_parameters(self) -> int:
        """Free parameters: weights less one (noise has one too, its box none), K d means, those of the covariances."""
        return self.proportions.size - 1 + self.means.size + self.family.n_parameters(self.n_components, self.d)

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """The smallest integers that labels fit in: from 0 to K - 1, or from -1 where that is the noise."""
        return np.min_scalar_type(self.n_components - 1 if self.noise is None else -self.n_components)

    def dense_covariances(self) -> Array:
        """(K, d, d), whatever the family."""
        return self.family.dense(self.covariances, self.n_components, self.d)

    def moments(self) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of all components together, without the noise."""
        weights = self.weights if self.noise is None else self.weights / self.weights.sum()
        mean = weights @ self.means
        spread = self.means - mean
        within = np.einsum("k,kij->ij", weights, self.dense_covariances())
        return mean, within + (weights[:, None] * spread).T @ spread

    def reordered(self, order: Any) -> "Mixture":
        """The same mixture with its components in another order (K,)."""
        covariances = self.covariances if self.family.shared else self.covariances[order]
        return replace(self, weights=self.weights[order], means=self.means[order], covariances=covariances)

    def by_weight(self) -> "Mixture":
        """The same mixture, heaviest component first."""
        return self.reordered(np.argsort(-self.weights, kind="stable"))

    def coordinates(self) -> Array:
        """The mixture as one vector of unconstrained numbers: log proportions, means, and the family's coordinates."""
        log_weights = np.log(np.maximum(self.proportions, np.finfo(np.float64).tiny))
        return np.concatenate([log_weights, self.means.ravel(), self.family.coordinates(self.covariances).ravel()])

    def at(self, coordinates: Array) -> "Mixture":
        """The mixture of this one's family and shape at any vector of `coordinates`; weights by softmax."""
        (k, d), m = self.means.shape, self.proportions.size
        shares = np.exp(coordinates[:m] - coordinates[:m].max())
        means, rest = coordinates[m : m + k * d].reshape(k, d), coordinates[m + k * d :]
        covariances = self.family.from_coordinates(rest.reshape(1 if self.family.shared else k, -1), d)
        return replace(self.proportioned(shares / shares.sum()), means=means.copy(), covariances=covariances)

    def expected_log_joint(self, stats: Stats) -> float:
        """Σ w r log π_k N(x|k) in nats, of rows with these statistics, of whichever mixture these are."""
        about = stats.about(self.means)
        used = about.mass > 0  # a component of weight zero has log weight -inf and no rows
        nats = float(self.log_scale[used] @ about.mass[used] + np.vdot(self.coefficients[0], about.second))
        return nats if self.noise is None else nats + stats.outside * self.noise.log_joint

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, np.ndarray]:
        """n independent rows (n, d) and the components (n,) that they came from: -1 for noise, in data units."""
        labels = np.searchsorted(np.cumsum(self.proportions)[:-1], rng.random(n), side="right")
        rows = rng.standard_normal((n, self.d))
        factors = np.linalg.cholesky(self.dense_covariances())
        for k in range(self.n_components):
            of_k = labels == k
            rows[of_k] = rows[of_k] @ factors[k].T + self.means[k]
        if self.noise is not None:
            outside = labels == self.n_components
            rows[outside], labels[outside] = self.noise.sample(int(outside.sum()), rng), -1
        return rows, labels
