"""Every lap must find again what the pilot found (promise P10)."""

from dataclasses import dataclass

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.kernels import EPS
from gmmdask.stats import Stats

WEIGHT_ROUNDING = 1e-10  # relative: of a sum of weights, what the order of its terms may change
CHANGED = "the data changed under the fit. Fit a copy or a snapshot that nobody writes to."


class ChangedData(ValueError):
    """Statistics of all rows contradict the pilot: the data changed under the fit."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What every lap must find again (promise P10): total weight, mean (d,) and covariance (d, d) of the data.

    Where values are missing, statistics have what a mixture expects of these, and `mean` and `covariance` are None.
    `slack` is how far the weight may be off, relatively: a sum of weights rounds, a number of rows does not.
    """

    weight: float
    mean: Array | None
    covariance: Array | None
    slack: float = 0.0


def check(stats: Stats, frame: Frame, expected: Expected, name: str) -> None:
    """Σ N = W, Σ S1 and Σ S2 of a full pass against the pilot's, in the frame; what is outside belongs to the sums."""
    mass, first, squares = stats.totals()
    found, wanted, tolerance = np.array([mass / expected.weight]), np.ones(1), 1e-6
    if expected.mean is not None and expected.covariance is not None:
        mean = frame.points_in(expected.mean[None])[0]
        second = frame.covariance_in(expected.covariance) + np.outer(mean, mean)
        found = np.concatenate([[mass], first, squares]) / expected.weight
        wanted = np.concatenate([wanted, mean, stats.layout.family.pack(second)])
        tolerance = roundings(frame, expected.covariance) * max(1.0, float(np.max(np.diag(second))))
    off = abs(stats.weight - expected.weight) > expected.slack * expected.weight
    if off or not np.all(np.abs(found - wanted) <= tolerance):
        raise ChangedData(
            f"{name}: a pass over all rows does not add up to what the first pass found (weight {stats.weight:g} "
            f"against {expected.weight:g}, moments off by {np.max(np.abs(found - wanted)):.2g} per row): {CHANGED}"
        )


def roundings(frame: Frame, covariance: Array) -> float:
    """What moments may be off: that of the origin, far from zero, is no small part of the spread; nor is, in directions
    without much, what cancels there of a covariance (d, d) that a few far rows have made.
    """
    matrix = np.abs(np.diag(frame.matrix) if frame.matrix.ndim == 1 else frame.matrix)
    offset = np.max(matrix @ np.abs(frame.origin))
    cancelled = np.max(np.einsum("ij,jk,ik->i", matrix, np.abs(covariance), matrix))
    return 1e-6 + 16 * EPS * float(max(offset, cancelled))


class Tally:
    """What a run has read since its last lap ended: seconds, rows, and what their statistics add up to.

    Parameters
    ----------
    name : of the data.
    whole : whether it will have seen the lap from its beginning on: a run may be resumed in the middle of one.
    """

    def __init__(self, name: str, whole: bool = True) -> None:
        self.name, self.whole, self.seconds, self.rows = name, whole, 0.0, 0
        self.total: Stats | None = None

    def add(self, seconds: float, stats: Stats | None, rows: int) -> None:
        """One step over so many rows; ChangedData if its statistics are not finite, as those that the pilot saw are."""
        self.seconds += seconds
        if stats is not None:
            if not np.isfinite(stats.vector).all():
                raise ChangedData(f"{self.name}: rows hold NaN or infinity, moments off by nan: {CHANGED}")
            self.rows += rows
            stats = stats.about(np.zeros_like(stats.origin))
            self.total = stats if self.total is None else self.total + stats

    def check(self, frame: Frame, expected: Expected) -> None:
        if self.whole and self.total is not None:
            check(self.total, frame, expected, self.name)
