"""`tied`: all components share one covariance matrix, (d, d)."""

from typing import ClassVar

import numpy as np

from gmmdask.covariance import _symmetric as symmetric
from gmmdask.covariance._base import Array, Family


class Tied(Family):
    """One covariance (d, d): its total second moment does not depend on the responsibilities."""

    name: ClassVar[str] = "tied"
    shared: ClassVar[bool] = True

    def packed_size(self, d: int) -> int:
        return d * (d + 1) // 2

    def quadratic(self, x: Array, out: Array) -> None:
        symmetric.products(x, out)

    def factors(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        return np.triu_indices(d)

    def scatter(self, z: Array, resp: Array) -> Array:
        return symmetric.pack(np.dot(z * resp, z.T))

    def outer(self, a: Array, b: Array) -> Array:
        product = a.T @ b
        return symmetric.pack(0.5 * (product + product.T))[None]

    def pack(self, matrix: Array) -> Array:
        return symmetric.pack(matrix)

    def covariances(self, scatter: Array, mass: Array, d: int) -> Array:
        return symmetric.unpack(scatter[0] / mass.sum(), d)

    def conjugate(self, degrees: float, d: int) -> tuple[float, Array]:
        return degrees + d + 1, symmetric.pack(np.eye(d))

    def root(self, covariances: Array, d: int) -> Array:
        return symmetric.inverse_cholesky(covariances, None)

    def half_log_det_precision(self, root: Array, d: int) -> Array:
        return np.atleast_1d(np.log(np.diag(root)).sum())

    def coefficients(self, root: Array, means: Array) -> tuple[Array, Array, Array]:
        precision = self.precisions(root)
        linear = means @ precision
        return symmetric.quadratic_coefficients(precision)[None], linear, -0.5 * np.einsum("ki,ki->k", linear, means)

    def whiten(self, root: Array, k: int, z: Array) -> Array:
        return np.dot(root, z)

    def cancellation(self, root: Array, covariances: Array, means: Array) -> Array:
        precision, variances = self.precisions(root), np.diag(covariances)
        return np.array([symmetric.cancellation(precision, variances, mean) for mean in means])

    def precisions(self, root: Array) -> Array:
        return root.T @ root

    def precisions_cholesky(self, root: Array) -> Array:
        return np.ascontiguousarray(root.T)

    def from_precisions(self, precisions: Array) -> Array:
        root = self.root(precisions, len(precisions))
        return root.T @ root

    def own_shape(self, n_components: int, d: int) -> tuple[int, ...]:
        return (d, d)

    def dense(self, covariances: Array, n_components: int, d: int) -> Array:
        return np.broadcast_to(covariances, (n_components, d, d))

    def restricted(self, matrices: Array, features: np.ndarray) -> Array:
        return np.ascontiguousarray(matrices[features[:, None], features])

    def isotropic(self, value: float, n_components: int, d: int) -> Array:
        return value * np.eye(d)

    def whitening(self, covariance: Array) -> tuple[Array, Array]:
        return symmetric.whitening(covariance)

    def transform(self, covariances: Array, a: Array) -> Array:
        return symmetric.transform(covariances, a)

    def coordinates(self, covariances: Array) -> Array:
        return symmetric.log_cholesky(covariances[None])

    def from_coordinates(self, coordinates: Array, d: int) -> Array:
        return symmetric.from_log_cholesky(coordinates, d)[0]

    def slope(self, root: Array, scatter: Array, mass: Array, d: int) -> Array:
        return symmetric.slope(self.precisions(root)[None], symmetric.unpack(scatter, d), np.atleast_1d(mass.sum()))[0]

    def chain(self, coordinates: Array, slope: Array, d: int) -> Array:
        return symmetric.log_cholesky_chain(coordinates, slope[None], d)

    def information(self, root: Array, mass: Array, d: int) -> Array:
        return symmetric.information(root[None], np.atleast_1d(mass.sum()))

    def floored(self, covariances: Array, least: float) -> Array:
        return symmetric.floored(covariances[None], least)[0]

    def n_parameters(self, n_components: int, d: int) -> int:
        return d * (d + 1) // 2
