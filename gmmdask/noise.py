"""What belongs to no component: outliers, spread evenly over the box of the data."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gmmdask.covariance._base import Array

TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Noise:
    """A uniform component of density 1/V (Banfield and Raftery 1993), V the volume of the box that holds all rows.

    Features without spread do not count. Beyond the box the density is the same, as in mclust: a row that is further
    out than any that was fitted is an outlier too, and no member of the component that is the least far from it.

    Parameters
    ----------
    weight : its proportion, from 0 to 1.
    low, high : corners of the box, (d,), in data units whatever the frame.
    log_det : log |det A| of the frame that the mixture is in, nats; 0 in data units.
    """

    weight: float
    low: Array
    high: Array
    log_det: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether its arrays go together: asked of what comes out of a file."""
        return self.low.ndim == 1 and self.high.shape == self.low.shape

    @cached_property
    def log_density(self) -> float:
        """Of every row, in nats and the mixture's coordinates."""
        sides = self.high - self.low
        return -float(np.log(sides[sides > 0]).sum()) - self.log_det

    @property
    def log_joint(self) -> float:
        """log of its weight times its density, nats; finite for weight 0."""
        return float(np.log(max(self.weight, TINY))) + self.log_density

    def weighing(self, weight: float) -> "Noise":
        """With another weight."""
        return replace(self, weight=float(weight))

    def of(self, features: np.ndarray) -> "Noise":
        """That of some features alone."""
        return replace(self, low=self.low[features], high=self.high[features])

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Rows (n, d) in data units, all of them in the box."""
        return rng.uniform(self.low, self.high, size=(n, self.low.size))
