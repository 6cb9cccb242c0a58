"""`full`: every component has its own covariance matrix, (K, d, d)."""

from typing import ClassVar

import numpy as np

from gmmdask.covariance import _symmetric as symmetric
from gmmdask.covariance._base import Array, Family


class Full(Family):
    """Covariances (K, d, d); moments are the d(d+1)/2 products x_i x_j; roots are inverse Cholesky factors."""

    name: ClassVar[str] = "full"

    def packed_size(self, d: int) -> int:
        return d * (d + 1) // 2

    def quadratic(self, x: Array, out: Array) -> None:
        symmetric.products(x, out)

    def factors(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        return np.triu_indices(d)

    def scatter(self, z: Array, resp: Array) -> Array:
        return symmetric.pack(np.dot(z * resp, z.T))

    def outer(self, a: Array, b: Array) -> Array:
        product = a[:, :, None] * b[:, None, :]
        return symmetric.pack(0.5 * (product + product.transpose(0, 2, 1)))

    def pack(self, matrix: Array) -> Array:
        return symmetric.pack(matrix)

    def covariances(self, scatter: Array, mass: Array, d: int) -> Array:
        return symmetric.unpack(scatter / mass[:, None], d)

    def rows_needed(self, d: int) -> int:
        return d + 1

    def conjugate(self, degrees: float, d: int) -> tuple[float, Array]:
        return degrees + d + 1, symmetric.pack(np.eye(d))

    def root(self, covariances: Array, d: int) -> Array:
        return np.stack([symmetric.inverse_cholesky(matrix, k) for k, matrix in enumerate(covariances)])

    def half_log_det_precision(self, root: Array, d: int) -> Array:
        return np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)

    def coefficients(self, root: Array, means: Array) -> tuple[Array, Array, Array]:
        precisions = self.precisions(root)
        linear = np.einsum("kij,kj->ki", precisions, means)
        return symmetric.quadratic_coefficients(precisions), linear, -0.5 * np.einsum("ki,ki->k", linear, means)

    def whiten(self, root: Array, k: int, z: Array) -> Array:
        return np.dot(root[k], z)

    def cancellation(self, root: Array, covariances: Array, means: Array) -> Array:
        parts = zip(self.precisions(root), covariances, means, strict=True)
        return np.array([symmetric.cancellation(p, np.diag(c), m) for p, c, m in parts])

    def precisions(self, root: Array) -> Array:
        return np.matmul(root.transpose(0, 2, 1), root)

    def precisions_cholesky(self, root: Array) -> Array:
        return np.ascontiguousarray(root.transpose(0, 2, 1))

    def from_precisions(self, precisions: Array) -> Array:
        root = self.root(precisions, precisions.shape[-1])
        return np.matmul(root.transpose(0, 2, 1), root)

    def own_shape(self, n_components: int, d: int) -> tuple[int, ...]:
        return (n_components, d, d)

    def dense(self, covariances: Array, n_components: int, d: int) -> Array:
        return covariances

    def restricted(self, matrices: Array, features: np.ndarray) -> Array:
        return np.ascontiguousarray(matrices[:, features[:, None], features])

    def isotropic(self, value: float, n_components: int, d: int) -> Array:
        return np.tile(value * np.eye(d), (n_components, 1, 1))

    def whitening(self, covariance: Array) -> tuple[Array, Array]:
        return symmetric.whitening(covariance)

    def transform(self, covariances: Array, a: Array) -> Array:
        return symmetric.transform(covariances, a)

    def coordinates(self, covariances: Array) -> Array:
        return symmetric.log_cholesky(covariances)

    def from_coordinates(self, coordinates: Array, d: int) -> Array:
        return symmetric.from_log_cholesky(coordinates, d)

    def slope(self, root: Array, scatter: Array, mass: Array, d: int) -> Array:
        return symmetric.slope(self.precisions(root), symmetric.unpack(scatter, d), mass)

    def chain(self, coordinates: Array, slope: Array, d: int) -> Array:
        return symmetric.log_cholesky_chain(coordinates, slope, d)

    def information(self, root: Array, mass: Array, d: int) -> Array:
        return symmetric.information(root, mass)

    def floored(self, covariances: Array, least: float) -> Array:
        return symmetric.floored(covariances, least)

    def n_parameters(self, n_components: int, d: int) -> int:
        return n_components * d * (d + 1) // 2
