"""The coordinates in which a run lives, and what a prior looks like in them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array
from gmmdask.mixture import Mixture


@dataclass(frozen=True, eq=False)
class Frame:
    """The map x ↦ A (x - c): rows enter it, mixtures enter and leave it.

    `matrix` and `inverse` are A and A⁻¹ as (d, d) matrices, or as (d,) scales of a diagonal A. In its frame the data
    has mean zero and, as far as the family allows, unit covariance, so that no number in the mathematics knows
    about units or offsets.
    """

    origin: Array
    matrix: Array
    inverse: Array

    @classmethod
    def of(cls, family: Family, mean: Array, covariance: Array) -> "Frame":
        """The frame that suits a family for data with this mean (d,) and covariance (d, d)."""
        return cls(np.ascontiguousarray(mean), *map(np.ascontiguousarray, family.whitening(covariance)))

    @cached_property
    def digest(self) -> str:
        """Names the frame: statistics of different frames must not add."""
        return hashlib.sha256(self.origin.tobytes() + self.matrix.tobytes()).hexdigest()[:16]

    @property
    def d(self) -> int:
        return self.origin.size

    @cached_property
    def log_det(self) -> float:
        """log |det A|, in nats: what a log density per row gains in the frame's units less than in the data's."""
        if self.matrix.ndim == 1:
            return float(np.sum(np.log(self.matrix)))
        return float(np.linalg.slogdet(self.matrix)[1])

    def enter(self, rows: np.ndarray, centred: Array, out: Array) -> None:
        """Rows (b, d) of any real dtype into frame coordinates `out` (d, b); `centred` (b, d) is scratch."""
        np.subtract(rows, self.origin, out=centred)
        if self.matrix.ndim == 1:
            np.multiply(centred.T, self.matrix[:, None], out=out)
        else:
            np.dot(self.matrix, centred.T, out=out)

    def points_in(self, points: Array) -> Array:
        """Points (m, d) in frame coordinates (m, d)."""
        centred = points - self.origin
        return centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix.T

    def mixture_in(self, mixture: Mixture) -> Mixture:
        """A mixture in data units, in frame coordinates."""
        covariances = mixture.family.transform(mixture.covariances, self.matrix)
        return Mixture(mixture.covariance_type, mixture.weights, self.points_in(mixture.means), covariances)

    def mixture_out(self, mixture: Mixture) -> Mixture:
        """A mixture in frame coordinates, in data units."""
        means = mixture.means * self.inverse if self.inverse.ndim == 1 else mixture.means @ self.inverse.T
        covariances = mixture.family.transform(mixture.covariances, self.inverse)
        return Mixture(mixture.covariance_type, mixture.weights, means + self.origin, covariances)

    def covariance_in(self, covariance: Array) -> Array:
        """A data covariance (d, d) in frame coordinates."""
        if self.matrix.ndim == 1:
            return covariance * np.outer(self.matrix, self.matrix)
        return self.matrix @ covariance @ self.matrix.T


EMPTY = ("reseed", "drop", "error")  # what can be done about components that hold too few rows


@dataclass(frozen=True, eq=False)
class Prior:
    """What an M-step knows beyond the data, in frame coordinates.

    Parameters
    ----------
    regularisation : in the family's own shape, added to every covariance: `reg_covar` of data units, mapped.
    empty : {"reseed", "drop", "error"}
        What is done about components that hold too few rows.
    row : the weight of one row: a component should hold as much at least.
    """

    regularisation: Array
    empty: str = "reseed"
    row: float = 1.0

    @classmethod
    def of(
        cls,
        covariance_type: str,
        n_components: int,
        frame: Frame,
        reg_covar: float,
        empty: str = "reseed",
        row: float = 1.0,
    ) -> "Prior":
        """Of settings in data units, for `n_components` components in a frame."""
        family = FAMILIES[covariance_type]
        regularisation = family.transform(family.isotropic(reg_covar, n_components, frame.d), frame.matrix)
        return cls(regularisation, empty, row)

    @property
    def carries(self) -> bool:
        """Whether covariances are positive definite however few rows there are."""
        return bool(np.any(self.regularisation))
