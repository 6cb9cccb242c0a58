"""The kernel `missing`: rows that lack values, at random (Ghahramani and Jordan 1994).

Of a row, a component sees the marginal of what is there. With its precision Λ = UᵀU, and z the row less the mean, zero
where values are missing (m), these are expected ẑ_m = -Λ_mm⁻¹ (Λ z)_m away from the mean, with covariance C = Λ_mm⁻¹
(Bishop 2006, section 2.3.1). |U ẑ|² is the Mahalanobis distance of what is there, and |Σ| |Λ_mm| the determinant of
its covariance. Responsibilities follow from these marginals, and statistics from what is expected: N += r, S1 += r x̂,
S2 += r (x̂ x̂ᵀ + C). A row without any value has density 1 and the weights as responsibilities: it moves no estimate.

Rows that lack the same features share Λ_mm⁻¹. They are sorted by that, block by block, and worked on in batches.
"""

from collections.abc import Callable, Sequence
from math import log, pi

import numpy as np

from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.kernels import add_moments, log_normal, soft_assignment
from gmmdask.mixture import Mixture
from gmmdask.patterns import INVERSES, Batch, Cutter, batch_rows
from gmmdask.stats import Layout, Stats
from gmmdask.unknown import Apart, Linked, Unknown

BLOCK = 8192  # rows that are sorted together where nothing else is said


class Marginal:
    """Evaluates one mixture on batches, and accumulates its statistics about its means.

    Parameters
    ----------
    counted : components that responsibilities are of, if more than the mixture's one.
    """

    def __init__(self, mixture: Mixture, cutter: Cutter, counted: int = 0) -> None:
        if mixture.noise is not None:
            raise ValueError("a mixture with noise has densities of whole rows only: none may be missing.")
        self.mixture, self.cutter, family = mixture, cutter, mixture.family
        k = counted or mixture.n_components
        layout = Layout(mixture.covariance_type, mixture.n_components, mixture.d, cutter.frame.digest)
        self._stats = Stats.zero(layout, mixture.means)
        self.unknown: Unknown = Apart(mixture) if family.aligned else Linked(mixture, cutter.turned, k)

    def completed(self, batch: Batch) -> Array:
        """Rows less the means, with what is expected in their gaps, (K, d, b); overwritten by the next call."""
        (k, d), b = self.mixture.means.shape, len(batch.places)
        z = self.cutter.z.take(k * d, b).reshape(k, d, b)
        np.subtract(batch.x, self.mixture.means[:, :, None], out=z)
        z[:, :, batch.whole :] *= batch.there
        self.unknown.complete(batch, z)
        return z

    def log_joint(self, batch: Batch, z: Array) -> Array:
        """log π_k N(what is there|k), (K, b), of rows that were `completed`; overwritten by the next call.

        Such that the frame's `log_det` makes them densities in data units: a missing value has no part in that.
        """
        joint = self.cutter.joint.take(self.mixture.n_components, len(batch.places))
        for k, (about, line) in enumerate(zip(z, joint, strict=True)):
            log_normal(self.mixture, k, about, line)
        if batch.whole < len(batch.places):
            joint += self.lift(batch)
        return joint

    def lift(self, batch: Batch) -> Array:
        """log joint densities of what is there less those of whole rows, where all is as expected, (K or 1, b)."""
        return batch.gaps @ (0.5 * log(2 * pi) - self.cutter.log_scales) - self.unknown.half_log_det(batch)

    def add(self, batch: Batch, weights: Array) -> None:
        """One batch of an E-step, of rows with weights (b,)."""
        z = self.completed(batch)
        resp = self.log_joint(batch, z)
        log_density = soft_assignment(resp)
        resp *= weights
        self._stats.vector[0] += weights.sum()
        self._stats.vector[2] += weights @ log_density
        for k, about in enumerate(z):
            add_moments(self._stats, k, about, resp[k])
        self.unknown.add(batch, resp)

    def stats(self) -> Stats:
        """What was accumulated: asked once, in the end."""
        self._stats.second[:] += self.unknown.scatter(self.mixture.family)
        return self._stats

    def expected(self, batch: Batch, z: Array, resp: Array) -> Array:
        """Rows (d, b) in frame coordinates, with Σ_k r_k x̂_k in their gaps; what is there may have rounded."""
        return np.einsum("kb,kdb->db", resp, z) + self.mixture.means.T @ resp


class Gaps:
    """E-steps of mixtures of one frame, family and K: rows are sorted once for all of them."""

    def __init__(self, frame: Frame, family: Family, n_components: int, rows: int, noise: bool = False) -> None:
        self.cutter = Cutter(frame, family, n_components, rows)
        self.kernels: list[Marginal] = []

    def join(self, mixture: Mixture) -> Callable[[], Stats]:
        """Takes a mixture in; returns what tells its statistics in the end."""
        self.kernels.append(Marginal(mixture, self.cutter))
        return self.kernels[-1].stats

    def add(self, rows: np.ndarray, weights: Array | None) -> None:
        """Adds a block of rows (b, d), in data units, with weights (b,) or None."""
        for batch in self.cutter.batches(rows):
            of_batch = np.ones(len(batch.places)) if weights is None else weights[batch.places]
            for kernel in self.kernels:
                kernel.add(batch, of_batch)


class Evaluation:
    """Log joint densities of rows with gaps under one mixture, and rows without these, with the memory of one task."""

    def __init__(self, mixture: Mixture, frame: Frame, rows: int) -> None:
        self.cutter = Cutter(frame, mixture.family, mixture.n_components, rows)
        self.kernel = Marginal(mixture, self.cutter)

    def log_joint(self, rows: np.ndarray, completed: np.ndarray | None = None, peaks: Array | None = None) -> Array:
        """(K, b), of rows (b, d) in data units; where `completed` (b, d) holds the same rows, its gaps are filled.

        `peaks` (K, b) takes those of rows with the same gaps at the means: half a squared Mahalanobis distance above.
        """
        found, frame = np.empty((self.kernel.mixture.n_components, len(rows))), self.cutter.frame
        for batch in self.cutter.batches(rows):
            z = self.kernel.completed(batch)
            joint = self.kernel.log_joint(batch, z)
            found[:, batch.places] = joint
            if peaks is not None:
                peaks[:, batch.places] = self.kernel.mixture.log_scale[:, None] + self.kernel.lift(batch)
            if completed is not None and batch.whole < len(batch.places):
                soft_assignment(joint)
                expected = self.kernel.expected(batch, z, joint).T * frame.inverse + frame.origin
                completed[batch.places] = np.where(batch.gaps, expected, rows[batch.places])
        return found


def completed(mixture: Mixture, frame: Frame, rows: np.ndarray) -> np.ndarray:
    """Rows (m, d) with what a mixture in the frame expects in their gaps, in float32 or float64 as they are."""
    found = np.array(rows, dtype=floats_for(rows.dtype))
    evaluation = Evaluation(mixture, frame, BLOCK)
    for start in range(0, len(rows), BLOCK):
        evaluation.log_joint(rows[start : start + BLOCK], found[start : start + BLOCK])
    return found


def floats_for(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """That of completed rows: float32 and float64 stay."""
    return dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)


def assigned_stats(
    layout: Layout, frame: Frame, gaussian: Mixture, rows: np.ndarray, shares: Callable[[int, int], Array]
) -> Stats:
    """Statistics of rows (m, d) with gaps that are assigned already, by `shares` of rows from start to stop (K, b).

    What is missing is expected as a `gaussian` of one component does, and as uncertain: so a component that starts from
    rows which lack a feature is not narrow in it.
    """
    family, k = layout.family, layout.n_components
    cutter = Cutter(frame, gaussian.family, 1, BLOCK)
    kernel = Marginal(gaussian, cutter, counted=k)
    stats = Stats.zero(layout, np.repeat(gaussian.means, k, axis=0))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        resp = shares(start, start + len(block))
        for batch in cutter.batches(block):
            (z,), of_batch = kernel.completed(batch), np.ascontiguousarray(resp[:, batch.places])
            for j, line in enumerate(of_batch):
                add_moments(stats, j, z, line)
            kernel.unknown.add(batch, of_batch)
    stats.vector[0] = stats.mass.sum()
    stats.second[:] += kernel.unknown.scatter(family)
    return stats


def bytes_of(family: Family, n_components: int, d: int, rows: int, runs: int) -> tuple[int, int]:
    """Bytes that E-steps of `runs` mixtures keep in one task with blocks of this many rows, of any patterns; and what
    they take while they work on a batch.
    """
    b, covariances = batch_rows(n_components, d, rows), 0 if family.aligned else 1 if family.shared else n_components
    turned, patterns = n_components * d if covariances else 0, min(rows, 2.0**d)
    inverses = min(INVERSES + covariances * d * d, covariances * d * (d + 1) * 2.0 ** min(d - 2, 60))
    own = 2 * n_components * d + 4 * covariances * d * d + 3 * Layout(family.name, n_components, d, "").size
    kept = b * (n_components * d + turned + 2 * d + n_components) + (1 + runs) * inverses + runs * own
    block = rows * (d + 4 * 8 + -(-d // 64) * 24) + int(patterns) * 600
    batch = b * (2 * turned + 6 * d + 3 * n_components + 8) + 4 * inverses + np.getbufsize()
    return int(8 * kept), int(block + 8 * batch)


def peak_bytes(family: Family, n_components: int, d: int, rows: int, runs: int = 1) -> int:
    """Bytes that E-steps of `runs` mixtures take in one task with blocks of this many rows, of any patterns."""
    return sum(bytes_of(family, n_components, d, rows, runs))


def shared_bytes(company: Sequence[tuple[Family, int]], d: int, rows: int) -> int:
    """The same of runs with such families and K, which work one after another; a run may ask for two E-steps."""
    kept, passing = zip(*(bytes_of(family, k, d, rows, 2) for family, k in company), strict=True)
    joint = 16 * rows * max(k for _, k in company)  # of a whole block, as `Evaluation` has it
    return sum(kept) + max(passing) + joint
