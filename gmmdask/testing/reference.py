"""EM by the textbook, one component at a time, on dense matrices: what every fast kernel is compared with.

Nothing is shared with the kernels, not even LAPACK: the factorisation is written out, so that everything also runs in
`numpy.longdouble`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Real = np.ndarray[Any, np.dtype[Any]]


class Parameters(NamedTuple):
    """Weights (K,), means (K, d) and dense covariances (K, d, d); weight and log density of noise, if there is any."""

    weights: Real
    means: Real
    covariances: Real
    noise: tuple[float, float] | None = None


class Sums(NamedTuple):
    """W, mass (K,), first (K, d) and second (K, d, d) moments about an origin; log likelihood and entropy in nats.

    `outside` is mass, first (d,) and second (d, d) moments about zero of the noise.
    """

    weight: Any
    mass: Real
    first: Real
    second: Real
    log_likelihood: Any
    entropy: Any
    outside: tuple[Any, Real, Real] | None = None


def cholesky(matrix: Real) -> Real:
    """L (lower) with L Lᵀ = matrix (d, d), in its dtype; row by row (Golub and Van Loan, section 4.2)."""
    lower = np.zeros_like(matrix)
    for i in range(len(matrix)):
        for j in range(i + 1):
            rest = matrix[i, j] - lower[i, :j] @ lower[j, :j]
            lower[i, j] = np.sqrt(rest) if i == j else rest / lower[j, j]
    return lower


def solve_lower(lower: Real, b: Real) -> Real:
    """L⁻¹ b by forward substitution, for b (d, n)."""
    x = np.zeros_like(b)
    for i in range(len(lower)):
        x[i] = (b[i] - lower[i, :i] @ x[:i]) / lower[i, i]
    return x


def log_joint(rows: Real, parameters: Parameters, dtype: Any = np.float64) -> Real:
    """log π_k N(x | μ_k, Σ_k), (K, n), of rows (n, d), and a last line for the noise, if there is any."""
    weights, means, covariances = (np.asarray(value, dtype) for value in parameters[:3])
    rows = np.asarray(rows, dtype)
    log_two_pi = np.log(2 * np.arccos(np.asarray(-1, dtype)))
    joint = np.empty((len(means), len(rows)), dtype)
    for k in range(len(means)):
        lower = cholesky(covariances[k])
        white = solve_lower(lower, (rows - means[k]).T)
        log_normal = -rows.shape[1] * log_two_pi / 2 - np.log(np.diag(lower)).sum() - (white**2).sum(axis=0) / 2
        joint[k] = np.log(weights[k]) + log_normal
    if parameters.noise is None:
        return joint
    weight, log_uniform = (np.asarray(value, dtype) for value in parameters.noise)
    return np.vstack([joint, np.full((1, len(rows)), np.log(weight) + log_uniform, dtype)])


def log_density(joint: Real) -> Real:
    """log p(x), (n,), from log joint densities (K, n)."""
    top: Real = joint.max(axis=0)
    total: Real = top + np.log(np.exp(joint - top).sum(axis=0))
    return total


def statistics(
    rows: Real, parameters: Parameters, origin: Real, row_weights: Real | None = None, dtype: Any = np.float64
) -> Sums:
    """Everything that an E-step adds up over rows (n, d) with weights (n,), about an origin (K, d)."""
    rows, origin = np.asarray(rows, dtype), np.asarray(origin, dtype)
    w = np.ones(len(rows), dtype) if row_weights is None else np.asarray(row_weights, dtype)
    joint = log_joint(rows, parameters, dtype)
    log_p = log_density(joint)
    resp, k_all = np.exp(joint - log_p), len(parameters.means)
    first, second, outside = [], [], None
    for k in range(k_all):
        z = rows - origin[k]
        first.append((w * resp[k]) @ z)
        second.append((z * (w * resp[k])[:, None]).T @ z)
    entropy = -(w * resp * (joint - log_p)).sum()
    if parameters.noise is not None:
        of_noise = w * resp[k_all]
        outside = of_noise.sum(), of_noise @ rows, (rows * of_noise[:, None]).T @ rows
    mass = (w * resp[:k_all]).sum(axis=1)
    return Sums(w.sum(), mass, np.array(first), np.array(second), w @ log_p, entropy, outside)


def incomplete_statistics(
    rows: Real, parameters: Parameters, origin: Real, row_weights: Real | None = None, dtype: Any = np.float64
) -> Sums:
    """The same where values are missing (NaN), one row after another: sums of what is expected of rows (n, d).

    The last sum is the log likelihood less the expected log density of whole rows: the entropy of all that is hidden.
    """
    origin, (k, d) = np.asarray(origin, dtype), parameters.means.shape
    w = np.ones(len(rows), dtype) if row_weights is None else np.asarray(row_weights, dtype)
    mass, first, second = np.zeros(k, dtype), np.zeros((k, d), dtype), np.zeros((k, d, d), dtype)
    log_likelihood = entropy = np.zeros((), dtype)
    for row, weight in zip(np.asarray(rows, dtype), w, strict=True):
        there = ~np.isnan(row)
        seen = Parameters(parameters.weights, parameters.means[:, there], parameters.covariances[:, there][:, :, there])
        joint = log_joint(row[None, there], seen, dtype)
        log_p = log_density(joint)[0]
        for j, r in enumerate(np.exp(joint[:, 0] - log_p)):
            expected, spread = filled(row, there, parameters.means[j], parameters.covariances[j], dtype)
            z = expected - origin[j]
            mass[j] += weight * r
            first[j] += weight * r * z
            second[j] += weight * r * (np.outer(z, z) + spread)
            if r > 0:
                entropy = entropy + weight * r * (log_p - whole_log_joint(expected, spread, parameters, j, dtype))
        log_likelihood = log_likelihood + weight * log_p
    return Sums(w.sum(), mass, first, second, log_likelihood, entropy)


def filled(row: Real, there: Real, mean: Real, covariance: Real, dtype: Any) -> tuple[Real, Real]:
    """Conditional mean (d,) and covariance (d, d) of a row under one component, zero where values are `there`."""
    mean, covariance = np.asarray(mean, dtype), np.asarray(covariance, dtype)
    expected, spread, gap = row.copy(), np.zeros_like(covariance), ~there
    lower = cholesky(covariance[there][:, there])
    solved = solve_lower(lower, covariance[there][:, gap])
    expected[gap] = mean[gap] + solved.T @ solve_lower(lower, (row[there] - mean[there])[:, None])[:, 0]
    spread[np.ix_(gap, gap)] = covariance[gap][:, gap] - solved.T @ solved
    return expected, spread


def whole_log_joint(expected: Real, spread: Real, parameters: Parameters, k: int, dtype: Any) -> Any:
    """log π_k N(x | k) of a whole row, expected over what it lacks: less by ½ tr(C Σ⁻¹) than of its expectation."""
    one = Parameters(parameters.weights[k : k + 1], parameters.means[k : k + 1], parameters.covariances[k : k + 1])
    lower = cholesky(np.asarray(parameters.covariances[k], dtype))
    white = solve_lower(lower, solve_lower(lower, spread).T)
    return log_joint(expected[None], one, dtype)[0, 0] - np.trace(white) / 2


def m_step(covariance_type: str, sums: Sums, origin: Real, reg_covar: float = 0.0) -> tuple[Real, Real, Real]:
    """Weights, means and covariances in the family's own shape, with `reg_covar` added to every variance."""
    shift = sums.first / sums.mass[:, None]
    covariances = np.array(
        [second / mass - np.outer(s, s) for second, mass, s in zip(sums.second, sums.mass, shift, strict=True)]
    )
    weights = sums.mass / sums.weight
    regularised = covariances + reg_covar * np.eye(shift.shape[1])
    return weights, origin + shift, OWN_SHAPE[covariance_type](weights / weights.sum(), regularised)


OWN_SHAPE: dict[str, Callable[[Real, Real], Real]] = {
    "full": lambda weights, dense: dense,
    "tied": lambda weights, dense: np.einsum("k,kij->ij", weights, dense),
    "diag": lambda weights, dense: np.array([np.diag(matrix) for matrix in dense]),
    "spherical": lambda weights, dense: np.array([np.trace(matrix) / len(matrix) for matrix in dense]),
}
DENSE: dict[str, Callable[[Real, int, int], Real]] = {
    "full": lambda own, n_components, d: own,
    "tied": lambda own, n_components, d: np.array([own] * n_components),
    "diag": lambda own, n_components, d: np.array([np.diag(variances) for variances in own]),
    "spherical": lambda own, n_components, d: np.array([variance * np.eye(d) for variance in own]),
}


def em(
    covariance_type: str,
    rows: Real,
    parameters: Parameters,
    laps: int,
    reg_covar: float = 0.0,
    row_weights: Real | None = None,
) -> tuple[Real, Real, Real, list[float]]:
    """Weights, means and own-shape covariances after some laps of batch EM, and the lower bound of each lap.

    What the weights leave is that of the noise.
    """
    bounds, e_step = [], incomplete_statistics if np.isnan(rows).any() else statistics
    n_components, d = parameters.means.shape
    for _ in range(laps):
        sums = e_step(rows, parameters, parameters.means, row_weights)
        weights, means, own = m_step(covariance_type, sums, parameters.means, reg_covar)
        noise = None if parameters.noise is None else (float(1 - weights.sum()), parameters.noise[1])
        parameters = Parameters(weights, means, DENSE[covariance_type](own, n_components, d), noise)
        bounds.append(float(sums.log_likelihood / sums.weight))
    return weights, means, own, bounds
