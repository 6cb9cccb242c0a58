"""`spherical`: every component has a single variance, (K,)."""

from typing import ClassVar

import numpy as np

from gmmdask.covariance._base import Array, Family, IllDefinedCovariance, spread_scales


class Spherical(Family):
    """Variances (K,); the only moment is |x|²; roots are 1/σ."""

    name: ClassVar[str] = "spherical"
    aligned: ClassVar[bool] = True

    def packed_size(self, d: int) -> int:
        return 1

    def quadratic(self, x: Array, out: Array) -> None:
        np.einsum("db,db->b", x, x, out=out[0])

    def factors(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        return np.array([d + 1]), np.array([d])

    def scatter(self, z: Array, resp: Array) -> Array:
        return np.atleast_1d(np.dot(np.einsum("db,db->b", z, z), resp))

    def outer(self, a: Array, b: Array) -> Array:
        return np.einsum("kd,kd->k", a, b)[:, None]

    def pack(self, matrix: Array) -> Array:
        return np.atleast_1d(np.trace(matrix))

    def covariances(self, scatter: Array, mass: Array, d: int) -> Array:
        return scatter[:, 0] / (mass * d)

    def conjugate(self, degrees: float, d: int) -> tuple[float, Array]:
        return (degrees + 2) / d, np.ones(1)

    def root(self, covariances: Array, d: int) -> Array:
        bad = ~((covariances > 0) & np.isfinite(covariances))
        if bad.any():
            raise IllDefinedCovariance(int(np.argmax(bad)))
        return 1 / np.sqrt(covariances)

    def half_log_det_precision(self, root: Array, d: int) -> Array:
        return d * np.log(root)

    def coefficients(self, root: Array, means: Array) -> tuple[Array, Array, Array]:
        precisions = root**2
        linear = precisions[:, None] * means
        return -0.5 * precisions[:, None], linear, -0.5 * np.einsum("ki,ki->k", linear, means)

    def whiten(self, root: Array, k: int, z: Array) -> Array:
        return root[k] * z

    def cancellation(self, root: Array, covariances: Array, means: Array) -> Array:
        a = np.abs(means) + 3 * np.sqrt(covariances)[:, None]
        return np.sum((a * root[:, None]) ** 2, axis=1)

    def precisions(self, root: Array) -> Array:
        return root**2

    def precisions_cholesky(self, root: Array) -> Array:
        return root

    def from_precisions(self, precisions: Array) -> Array:
        return 1 / precisions

    def own_shape(self, n_components: int, d: int) -> tuple[int, ...]:
        return (n_components,)

    def dense(self, covariances: Array, n_components: int, d: int) -> Array:
        return covariances[:, None, None] * np.eye(d)

    def restricted(self, matrices: Array, features: np.ndarray) -> Array:
        return matrices

    def isotropic(self, value: float, n_components: int, d: int) -> Array:
        return np.full(n_components, float(value))

    def whitening(self, covariance: Array) -> tuple[Array, Array]:
        d = len(covariance)
        scale = spread_scales(np.atleast_1d(np.trace(covariance) / d))
        return np.repeat(1 / scale, d), np.repeat(scale, d)

    def transform(self, covariances: Array, a: Array) -> Array:
        return covariances * a[0] ** 2

    def coordinates(self, covariances: Array) -> Array:
        return np.asarray(-2 * np.log(self.root(covariances, 0)))[:, None]

    def from_coordinates(self, coordinates: Array, d: int) -> Array:
        return np.exp(coordinates[:, 0])

    def slope(self, root: Array, scatter: Array, mass: Array, d: int) -> Array:
        precisions = root**2
        return 0.5 * precisions * (scatter[:, 0] * precisions - d * mass)

    def chain(self, coordinates: Array, slope: Array, d: int) -> Array:
        return slope[:, None] * np.exp(coordinates)

    def information(self, root: Array, mass: Array, d: int) -> Array:
        return 0.5 * d * mass[:, None]

    def floored(self, covariances: Array, least: float) -> Array:
        return np.maximum(covariances, least)

    def n_parameters(self, n_components: int, d: int) -> int:
        return n_components
