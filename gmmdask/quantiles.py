"""Quantiles of log densities: how unlikely a row has to be to be called an outlier."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gmmdask.covariance._base import Array

LEVELS = np.linspace(0, 1, 201) ** 2  # close together near 0, where outliers are


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Log densities in nats, ascending, at `levels`, the fractions of `rows` rows, or of their weight, below them."""

    rows: int
    levels: Array
    values: Array

    @classmethod
    def of(cls, log_densities: Array, weights: Array | None = None) -> Self:
        """Of rows (m,) with weights (m,), which are worth W²/Σ w² rows (Kish 1965)."""
        if weights is None:
            return cls(len(log_densities), LEVELS, np.quantile(log_densities, LEVELS))
        values = np.quantile(log_densities, LEVELS, weights=weights, method="inverted_cdf")
        return cls(int(weights.sum() ** 2 / (weights @ weights)), LEVELS, values)

    @classmethod
    def told_by(cls, provenance: Mapping[str, Any]) -> Self:
        """Those that a fit left in its provenance.

        Raises
        ------
        ValueError
            If there are none: the mixture was not fitted, or was before fits left any.
        """
        found = provenance.get("log_densities")
        if found is None:
            raise ValueError(
                "the model holds no log densities of its training rows: it was not made by fit, or by an older version."
                " Fit it again, or take the quantile from rows that you trust: reference=X (--reference DATA)."
            )
        return cls(int(found["rows"]), np.asarray(found["levels"], float), np.asarray(found["values"], float))

    def describe(self) -> dict[str, Any]:
        """JSON values."""
        return {"rows": self.rows, "levels": self.levels.tolist(), "values": self.values.tolist()}

    def threshold(self, fraction: float) -> float:
        """The log density below which this fraction of rows lies, interpolated.

        Raises
        ------
        ValueError
            If the fraction is not between 0 and 1, or one of the rows is more than it.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"expected a fraction of outliers between 0 and 1, found {fraction}.")
        if fraction * self.rows < 1:
            raise ValueError(
                f"a fraction of {fraction:g} is less than one of the {self.rows:,} rows whose log densities are known. "
                f"Ask for {1 / self.rows:.1g} or more, or take the quantile from more rows: reference=X (--reference "
                "DATA)."
            )
        return float(np.interp(fraction, self.levels, self.values))

    def below(self, value: float) -> float:
        """The fraction of rows with a log density below a value, interpolated."""
        return float(np.interp(value, self.values, self.levels))
