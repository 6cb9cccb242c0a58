"""Weight, mean and scatter of rows, or of what values they have: they add."""

from dataclasses import dataclass

import numpy as np

from gmmdask.covariance._base import Array


@dataclass(frozen=True, eq=False)
class Moments:
    """Weight, mean (d,) and central scatter (d, d) of some rows; adds as Chan, Golub and LeVeque (1979) merge."""

    weight: float
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, rows: np.ndarray, weights: Array | None = None) -> "Moments":
        """Of rows (b, d): sums are taken about the first row, then about the mean, so that no offset costs digits."""
        rows = np.ascontiguousarray(rows)  # in another layout the sums would have other bits
        given = np.ones(len(rows)) if weights is None else weights
        total = float(len(rows)) if weights is None else float(weights.sum())
        near = rows - rows[0].astype(np.float64)
        mean = given @ near / total
        near -= mean
        rest = given @ near
        if weights is not None:
            near *= np.sqrt(weights)[:, None]
        return cls(total, rows[0] + mean, near.T @ near - np.outer(rest, rest) / total)

    def __add__(self, other: "Moments") -> "Moments":
        if not (self.weight and other.weight):
            return other if other.weight else self
        weight = self.weight + other.weight
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.weight * other.weight / weight)
        return Moments(weight, self.mean + delta * (other.weight / weight), scatter)

    def without(self, other: "Moments") -> "Moments":
        """Those of the rows that are left when some of them go."""
        weight = self.weight - other.weight
        mean = self.mean + (self.mean - other.mean) * (other.weight / weight)
        delta = other.mean - mean
        scatter = self.scatter - other.scatter - np.outer(delta, delta) * (weight * other.weight / self.weight)
        return Moments(weight, mean, scatter)

    @property
    def covariance(self) -> Array:
        return self.scatter / self.weight

    @property
    def variation(self) -> Array:
        """Scatter of each feature, (d,)."""
        return np.diag(self.scatter)

    @property
    def known(self) -> float:
        """The share of the weight that features have values of."""
        return 1.0


@dataclass(frozen=True, eq=False)
class Observed:
    """Of rows with missing values: their weight, and of each feature, the weight (d,) of the rows that have a value,
    and mean (d,) and scatter (d,) of these values; adds, feature by feature, as `Moments` do.
    """

    weight: float
    weights: Array
    mean: Array
    variation: Array

    @classmethod
    def of(cls, rows: np.ndarray, weights: Array | None = None) -> "Observed":
        """Of rows (b, d), where NaN is missing: sums are taken about the first value of a feature, then the mean."""
        there = ~np.isnan(rows)
        given = np.ones(len(rows)) if weights is None else weights
        some = there.any(axis=0)
        first = np.where(some, rows[there.argmax(axis=0), np.arange(rows.shape[1])], 0.0).astype(np.float64)
        totals = np.where(some, given @ there, 1.0)
        near = np.where(there, rows - first, 0.0)
        mean = given @ near / totals
        near = np.where(there, near - mean, 0.0)
        variation = given @ near**2 - (given @ near) ** 2 / totals
        return cls(float(given.sum()), np.where(some, totals, 0.0), first + mean, variation)

    def __add__(self, other: "Observed") -> "Observed":
        weights = self.weights + other.weights
        share = np.divide(other.weights, weights, out=np.zeros_like(weights), where=weights > 0)
        delta = other.mean - self.mean
        variation = self.variation + other.variation + delta**2 * (self.weights * share)
        return Observed(self.weight + other.weight, weights, self.mean + delta * share, variation)

    @property
    def known(self) -> Array:
        """The share of the weight that features have values of, (d,)."""
        return self.weights / self.weight

    @property
    def moments(self) -> Moments:
        """As if features were independent, and what is missing like what is there; zero where nothing is."""
        variation = np.divide(self.variation, self.known, out=np.zeros_like(self.variation), where=self.weights > 0)
        return Moments(self.weight, self.mean, np.diag(variation))
