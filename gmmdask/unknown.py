"""What components tell of values that are missing: expectations, covariances, and the determinant of what is there."""

from typing import Protocol

import numpy as np

from gmmdask.covariance import Family, IllDefinedCovariance
from gmmdask.covariance._base import Array
from gmmdask.kernels import Scratch
from gmmdask.mixture import Mixture
from gmmdask.patterns import INVERSES, Batch

SMALL = 16  # rows of matrices that are inverted in Python's steps


class Unknown(Protocol):
    """What components tell of values that are missing."""

    def complete(self, batch: Batch, z: Array) -> None:
        """Rows less the means z (K, d, b), zero in gaps: puts into the gaps what is expected there."""

    def half_log_det(self, batch: Batch) -> Array:
        """½ log|Λ_mm| of rows, (K or 1, b)."""

    def add(self, batch: Batch, resp: Array) -> None:
        """Counts the covariances of what is missing, of rows with responsibilities (K, b)."""

    def scatter(self, family: Family) -> Array:
        """The sum of all that was counted, packed as a family does it (R, p)."""


class Apart:
    """Of families whose features are independent within a component: what is there tells nothing of what is not."""

    def __init__(self, mixture: Mixture) -> None:
        self.precisions = np.broadcast_to(-2 * mixture.coefficients[0], mixture.means.shape)
        self.halves = 0.5 * np.log(self.precisions)
        self.mass = np.zeros(mixture.means.shape)

    def complete(self, batch: Batch, z: Array) -> None:
        pass

    def half_log_det(self, batch: Batch) -> Array:
        return np.asarray(self.halves @ batch.gaps.T.astype(np.float64))

    def add(self, batch: Batch, resp: Array) -> None:
        self.mass += resp @ batch.gaps.astype(np.float64)

    def scatter(self, family: Family) -> Array:
        widths, one = np.sqrt(self.mass / self.precisions), np.ones(1)
        return np.array([family.scatter(of_component[:, None], one) for of_component in widths])


class Linked:
    """Of any family, by Λ_mm⁻¹.

    Parameters
    ----------
    turned : memory for Λ z.
    n_components : for which scatter is counted; where there are more than the mixture has, its one stands for all.
    """

    def __init__(self, mixture: Mixture, turned: Scratch, n_components: int) -> None:
        family, (k, d) = mixture.family, mixture.means.shape
        dense = family.dense(family.precisions(mixture.root), k, d)
        self.precisions = np.ascontiguousarray(dense[:1] if family.shared else dense)
        self.turned = turned
        self.hidden = np.zeros((1 if family.shared else n_components, d, d))
        self.known: dict[bytes, tuple[Array, Array]] = {}
        self.room = INVERSES
        self.inverses = list[tuple[Array, Array]]()

    def complete(self, batch: Batch, z: Array) -> None:
        self.inverses = self._inverses(batch)
        first, (k, d, b) = batch.whole, z.shape
        if first == b:
            return
        turned = self.turned.take(k * d, b - first).reshape(k, d, b - first)
        np.matmul(self.precisions, z[:, :, first:], out=turned)
        for pattern, (inverse, _) in zip(batch.patterns, self.inverses, strict=True):
            if len(pattern.gaps):
                those = turned[:, pattern.gaps, pattern.start - first : pattern.stop - first]
                expected = np.matmul(inverse, those)
                z[:, pattern.gaps, pattern.start : pattern.stop] = np.negative(expected, out=expected)

    def half_log_det(self, batch: Batch) -> Array:
        rows = [pattern.stop - pattern.start for pattern in batch.patterns]
        return np.repeat(np.stack([half for _, half in self.inverses], axis=1), rows, axis=1)

    def add(self, batch: Batch, resp: Array) -> None:
        mass = np.add.reduceat(resp, [pattern.start for pattern in batch.patterns], axis=1)
        if len(self.hidden) < len(mass):
            mass = mass.sum(axis=0, keepdims=True)
        for pattern, (inverse, _), of_all in zip(batch.patterns, self.inverses, mass.T, strict=True):
            if len(pattern.gaps):
                self.hidden[:, pattern.gaps[:, None], pattern.gaps] += of_all[:, None, None] * inverse

    def scatter(self, family: Family) -> Array:
        packed = np.array([family.pack(matrix) for matrix in self.hidden])
        return packed.sum(axis=0, keepdims=True) if family.shared else packed

    def _inverses(self, batch: Batch) -> list[tuple[Array, Array]]:
        """Λ_mm⁻¹ (R, m, m) and ½ log|Λ_mm| (R,) of each pattern; some are kept."""
        of_size: dict[int, dict[bytes, np.ndarray]] = {}
        for pattern in batch.patterns:
            if pattern.key not in self.known:
                of_size.setdefault(len(pattern.gaps), {})[pattern.key] = pattern.gaps
        found: dict[bytes, tuple[Array, Array]] = {}
        for wanted in of_size.values():
            inverses, halves = inverses_of(self.precisions, np.stack([*wanted.values()]))
            new = dict(zip(wanted, zip(inverses, halves, strict=True), strict=True))
            if inverses.size <= self.room:
                self.room -= inverses.size
                self.known |= new
            found |= new
        return [found[p.key] if p.key in found else self.known[p.key] for p in batch.patterns]


def inverses_of(precisions: Array, gaps: np.ndarray) -> tuple[Array, Array]:
    """Λ_mm⁻¹ (P, R, m, m) and ½ log|Λ_mm| (P, R) of precisions (R, d, d), for gaps (P, m)."""
    each = np.arange(len(precisions))[None, :, None, None]
    inner = precisions[each, gaps[:, None, :, None], gaps[:, None, None, :]]
    try:
        lower = np.linalg.cholesky(inner)
    except np.linalg.LinAlgError:
        raise IllDefinedCovariance(None) from None
    roots = inverses_of_lower(lower)
    halves = np.log(np.diagonal(lower, axis1=2, axis2=3)).sum(axis=2)
    return np.matmul(roots.transpose(0, 1, 3, 2), roots), halves


def inverses_of_lower(lower: Array) -> Array:
    """L⁻¹ of lower triangular matrices (..., m, m): row by row for all of them at once, while they are small."""
    m = lower.shape[-1]
    if m > SMALL:
        return np.asarray(np.linalg.inv(lower), np.float64)
    found = np.zeros_like(lower)
    for i in range(m):
        found[..., i, i] = 1 / lower[..., i, i]
        above = np.einsum("...j,...jc->...c", lower[..., i, :i], found[..., :i, :i])
        found[..., i, :i] = -found[..., i, i, None] * above
    return found
