"""Symmetric matrices kept as their d(d+1)/2 upper entries, row by row: what `full` and `tied` share."""

from functools import cache

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from gmmdask.covariance._base import Array, IllDefinedCovariance, spread_scales


def products(x: Array, out: Array) -> None:
    """The products x_i x_j, i <= j, of rows x (d, b), into out (d(d+1)/2, b)."""
    d = len(x)
    at = 0
    for i in range(d):
        np.multiply(x[i:], x[i], out=out[at : at + d - i])
        at += d - i


@cache
def upper(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the upper entries, (p,) each."""
    return np.triu_indices(d)


def pack(matrices: Array) -> Array:
    """(..., d, d) -> (..., p)."""
    rows, columns = upper(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack(packed: Array, d: int) -> Array:
    """(..., p) -> (..., d, d)."""
    rows, columns = upper(d)
    matrices = np.empty((*packed.shape[:-1], d, d))
    matrices[..., rows, columns] = packed
    matrices[..., columns, rows] = packed
    return matrices


def transform(matrices: Array, a: Array) -> Array:
    """A M Aᵀ of matrices M (..., d, d), for a matrix A (d, d) or the scales of a diagonal one (d,)."""
    if a.ndim == 1:
        return np.asarray(matrices * np.outer(a, a))
    mapped = a @ matrices @ a.T
    return np.asarray(0.5 * (mapped + mapped.swapaxes(-1, -2)))


def inverse_cholesky(matrix: Array, component: int | None) -> Array:
    """L⁻¹ (lower) of a (d, d) matrix L Lᵀ."""
    try:
        lower = cholesky(matrix, lower=True, check_finite=False)
    except LinAlgError:
        raise IllDefinedCovariance(component) from None
    inverse = solve_triangular(lower, np.eye(len(matrix)), lower=True, check_finite=False)
    if not np.all(np.isfinite(inverse)):
        raise IllDefinedCovariance(component)
    return inverse


def log_cholesky(matrices: Array) -> Array:
    """(R, d, d) -> (R, p): Cholesky factors, row by row, with the logarithm of their diagonals."""
    factors = np.empty_like(matrices)
    for k, matrix in enumerate(matrices):
        try:
            factors[k] = cholesky(matrix, lower=True, check_finite=False)
        except LinAlgError:
            raise IllDefinedCovariance(k) from None
    diagonal = np.arange(matrices.shape[-1])
    factors[:, diagonal, diagonal] = np.log(factors[:, diagonal, diagonal])
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(factors[:, rows, columns])


def factors_of(packed: Array, d: int) -> Array:
    """Cholesky factors (R, d, d) from those with the logarithm of their diagonals, (R, p)."""
    factors = np.zeros((len(packed), d, d))
    rows, columns = np.tril_indices(d)
    factors[:, rows, columns] = packed
    diagonal = np.arange(d)
    factors[:, diagonal, diagonal] = np.exp(factors[:, diagonal, diagonal])
    return factors


def from_log_cholesky(packed: Array, d: int) -> Array:
    """(R, p) -> (R, d, d)."""
    factors = factors_of(packed, d)
    return np.matmul(factors, factors.transpose(0, 2, 1))


def log_cholesky_chain(packed: Array, slopes: Array, d: int) -> Array:
    """From derivatives S (R, d, d) with respect to Σ = L Lᵀ: those with respect to L, the lower triangle of 2 S L, row
    by row (R, p); that of a logarithm on the diagonal times L_jj.
    """
    factors = factors_of(packed, d)
    steep = 2 * np.matmul(slopes, factors)
    diagonal = np.arange(d)
    steep[:, diagonal, diagonal] *= factors[:, diagonal, diagonal]
    rows, columns = np.tril_indices(d)
    return np.ascontiguousarray(steep[:, rows, columns])


def slope(precisions: Array, scatter: Array, mass: Array) -> Array:
    """½ (P M P - mass P), for P and M (R, d, d) and mass (R,)."""
    return 0.5 * (precisions @ scatter @ precisions - mass[:, None, None] * precisions)


def information(root: Array, mass: Array) -> Array:
    """Of L with log diagonal, (R, p), for inverse factors U = L⁻¹ (R, d, d) and mass (R,).

    ½ tr((K + Kᵀ)²) with K = L⁻¹ dL: P_ii of L_ij, and P_ii L_ii² + 1 of log L_ii.
    """
    rows, columns = np.tril_indices(root.shape[-1])
    precisions, widths = (root**2).sum(axis=1), 1 / np.diagonal(root, axis1=1, axis2=2)
    on_diagonal = (precisions * widths**2 + 1)[:, rows]
    return mass[:, None] * np.where(rows == columns, on_diagonal, precisions[:, rows])


def floored(matrices: Array, least: float) -> Array:
    """(R, d, d) with eigenvalues of `least` at least."""
    found = matrices.copy()
    for k, matrix in enumerate(matrices):
        values, vectors = np.linalg.eigh(matrix)
        if values[0] < least:
            lifted = (vectors * np.maximum(values, least)) @ vectors.T
            found[k] = 0.5 * (lifted + lifted.T)
    return found


def quadratic_coefficients(precisions: Array) -> Array:
    """-½ P as coefficients (..., p) of the products x_i x_j, i <= j: off-diagonal entries count twice."""
    rows, columns = upper(precisions.shape[-1])
    return pack(precisions) * np.where(rows == columns, -0.5, -1.0)


def whitening(covariance: Array) -> tuple[Array, Array]:
    """A with A C Aᵀ = I, and A⁻¹, by the eigenvectors of the correlation matrix.

    Correlations rather than covariances, so that features in units a millionfold apart lose no digits. Directions
    whose eigenvalue is rounding keep scale one.
    """
    scales = spread_scales(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(scales, scales))
    widths = np.where(values > len(values) * 1e-14 * max(values[-1], 0.0), np.sqrt(np.maximum(values, 0)), 1.0)
    return (vectors / widths).T / scales, (vectors * widths) * scales[:, None]


def cancellation(precision: Array, variances: Array, mean: Array) -> float:
    a = np.abs(mean) + 3 * np.sqrt(variances)
    return float(a @ np.abs(precision) @ a)
