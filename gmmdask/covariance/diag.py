"""`diag`: every component has a variance per feature, (K, d)."""

from typing import ClassVar

import numpy as np

from gmmdask.covariance._base import Array, Family, IllDefinedCovariance, spread_scales


class Diag(Family):
    """Variances (K, d); moments are the squares x_i²; roots are 1/σ."""

    name: ClassVar[str] = "diag"
    aligned: ClassVar[bool] = True

    def packed_size(self, d: int) -> int:
        return d

    def quadratic(self, x: Array, out: Array) -> None:
        np.multiply(x, x, out=out)

    def factors(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(d), np.arange(d)

    def scatter(self, z: Array, resp: Array) -> Array:
        return np.dot(z * z, resp)

    def outer(self, a: Array, b: Array) -> Array:
        return a * b

    def pack(self, matrix: Array) -> Array:
        return np.diag(matrix).copy()

    def covariances(self, scatter: Array, mass: Array, d: int) -> Array:
        return scatter / mass[:, None]

    def conjugate(self, degrees: float, d: int) -> tuple[float, Array]:
        return degrees + 2, np.ones(d)

    def root(self, covariances: Array, d: int) -> Array:
        bad = ~np.all((covariances > 0) & np.isfinite(covariances), axis=1)
        if bad.any():
            raise IllDefinedCovariance(int(np.argmax(bad)))
        return 1 / np.sqrt(covariances)

    def half_log_det_precision(self, root: Array, d: int) -> Array:
        return np.log(root).sum(axis=1)

    def coefficients(self, root: Array, means: Array) -> tuple[Array, Array, Array]:
        precisions = root**2
        linear = precisions * means
        return -0.5 * precisions, linear, -0.5 * np.einsum("ki,ki->k", linear, means)

    def whiten(self, root: Array, k: int, z: Array) -> Array:
        return root[k][:, None] * z

    def cancellation(self, root: Array, covariances: Array, means: Array) -> Array:
        return np.sum(((np.abs(means) + 3 * np.sqrt(covariances)) * root) ** 2, axis=1)

    def precisions(self, root: Array) -> Array:
        return root**2

    def precisions_cholesky(self, root: Array) -> Array:
        return root

    def from_precisions(self, precisions: Array) -> Array:
        return 1 / precisions

    def own_shape(self, n_components: int, d: int) -> tuple[int, ...]:
        return (n_components, d)

    def dense(self, covariances: Array, n_components: int, d: int) -> Array:
        return covariances[:, :, None] * np.eye(d)

    def restricted(self, matrices: Array, features: np.ndarray) -> Array:
        return np.ascontiguousarray(matrices[:, features])

    def isotropic(self, value: float, n_components: int, d: int) -> Array:
        return np.full((n_components, d), float(value))

    def whitening(self, covariance: Array) -> tuple[Array, Array]:
        scales = spread_scales(np.diag(covariance))
        return 1 / scales, scales

    def transform(self, covariances: Array, a: Array) -> Array:
        return covariances * a**2

    def coordinates(self, covariances: Array) -> Array:
        return np.asarray(-2 * np.log(self.root(covariances, covariances.shape[-1])))

    def from_coordinates(self, coordinates: Array, d: int) -> Array:
        return np.exp(coordinates)

    def slope(self, root: Array, scatter: Array, mass: Array, d: int) -> Array:
        precisions = root**2
        return 0.5 * precisions * (scatter * precisions - mass[:, None])

    def chain(self, coordinates: Array, slope: Array, d: int) -> Array:
        return slope * np.exp(coordinates)

    def information(self, root: Array, mass: Array, d: int) -> Array:
        return np.repeat(0.5 * mass[:, None], d, axis=1)

    def floored(self, covariances: Array, least: float) -> Array:
        return np.maximum(covariances, least)

    def n_parameters(self, n_components: int, d: int) -> int:
        return n_components * d
