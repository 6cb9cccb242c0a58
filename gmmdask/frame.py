"""The coordinates in which a run lives, and what a prior looks like in them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array, spread_scales
from gmmdask.mixture import Mixture
from gmmdask.noise import Noise


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

    @property
    def fits(self) -> bool:
        """Whether its arrays go together: asked of what comes out of a file."""
        shapes = (self.d,), (self.d, self.d)
        return self.origin.ndim == 1 and self.matrix.shape in shapes and self.inverse.shape == self.matrix.shape

    @classmethod
    def of(cls, family: Family, mean: Array, covariance: Array) -> "Frame":
        """The frame that suits a family for data with this mean (d,) and covariance (d, d)."""
        return cls(np.ascontiguousarray(mean), *map(np.ascontiguousarray, family.whitening(covariance)))

    @classmethod
    def by_feature(cls, family: Family, mean: Array, variances: Array) -> "Frame":
        """That of a family for data with these means and variances (d,) which mixes no feature with another."""
        matrix, inverse = family.whitening(np.diag(variances))
        if matrix.ndim == 2:
            inverse = spread_scales(variances)
            matrix = 1 / inverse
        return cls(*map(np.ascontiguousarray, (mean, matrix, inverse)))

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
        noise = self.noise_in(mixture.noise)
        return replace(mixture, means=self.points_in(mixture.means), covariances=covariances, noise=noise)

    def steps_out(self, steps: Array) -> Array:
        """Differences of points (m, d) in frame coordinates, in data units (m, d)."""
        return steps * self.inverse if self.inverse.ndim == 1 else steps @ self.inverse.T

    def mixture_out(self, mixture: Mixture) -> Mixture:
        """A mixture in frame coordinates, in data units."""
        covariances = mixture.family.transform(mixture.covariances, self.inverse)
        means = self.steps_out(mixture.means) + self.origin
        noise = None if mixture.noise is None else replace(mixture.noise, log_det=0.0)
        return replace(mixture, means=means, covariances=covariances, noise=noise)

    def noise_in(self, noise: Noise | None) -> Noise | None:
        """Noise in data units as that of a mixture in frame coordinates."""
        return None if noise is None else replace(noise, log_det=self.log_det)

    def covariance_in(self, covariance: Array) -> Array:
        """A data covariance (d, d) in frame coordinates."""
        if self.matrix.ndim == 1:
            return covariance * np.outer(self.matrix, self.matrix)
        return self.matrix @ covariance @ self.matrix.T


EMPTY = ("reseed", "drop", "error")  # what can be done about components that hold too few rows
PRIORS = ("mclust",)


@dataclass(frozen=True)
class Conjugate:
    """A normal prior of means and an inverse Wishart or gamma prior of covariances, in frame coordinates.

    μ_k ~ N(0, Σ_k/κ), where 0 is the mean of the data, and Σ ~ IW(ν, λ I), or what is left of that in a family.

    Parameters
    ----------
    shrinkage : κ, what the prior's mean counts for, in rows.
    degrees : ν.
    scale : λ.
    """

    shrinkage: float
    degrees: float
    scale: float

    @classmethod
    def named(cls, name: str | None, n_components: int, d: int) -> "Conjugate | None":
        """That of Fraley and Raftery (2007) for "mclust": κ = 0.01, ν = d + 2, λ = K^(-2/d) of the data's variance."""
        return None if name is None else cls(0.01, d + 2.0, n_components ** (-2 / d))

    def rows(self, family: Family, n_components: int, d: int) -> float:
        """What the prior adds to the mass of a component where that divides its scatter."""
        return 1 + family.conjugate(self.degrees, d)[0] / (n_components if family.shared else 1)

    def scatter(self, family: Family, d: int) -> Array:
        """What it adds to the scatter of a covariance, packed (p,)."""
        return self.scale * family.conjugate(self.degrees, d)[1]

    def log_density(self, mixture: Mixture) -> float:
        """In nats, up to a constant: a density of means and covariances, whatever coordinates an algorithm takes.

        Σ_k -½ rows log|Σ_k| - ½ tr(λ I Σ_k⁻¹) - ½ κ μ_kᵀ Σ_k⁻¹ μ_k; a shared covariance's trace counts once.
        """
        family, k, d = mixture.family, mixture.n_components, mixture.d
        quadratic, _, constant = mixture.coefficients
        half_log_det = np.broadcast_to(family.half_log_det_precision(mixture.root, d), k)
        spread = float(np.sum(quadratic @ self.scatter(family, d)))
        return self.rows(family, k, d) * float(half_log_det.sum()) + spread + self.shrinkage * float(constant.sum())


@dataclass(frozen=True, eq=False)
class Prior:
    """What an M-step knows beyond the data, in frame coordinates.

    Parameters
    ----------
    regularisation : in the family's own shape, added to every covariance: `reg_covar` of data units, mapped.
    conjugate : makes the M-step one of maximum a posteriori, which needs no regularisation; None for none.
    empty : {"reseed", "drop", "error"}
        What is done about components that hold too few rows.
    row : the weight of one row: a component should hold as much at least.
    weight : of all rows, for algorithms that see a part of them; 0 if it is not known.
    concentration : α of a Dirichlet prior of the weights of components, 1 or more; 1 is none.
    noise : in frame coordinates, if mixtures have some: an M-step gives it its weight, and nothing else.
    """

    regularisation: Array
    conjugate: Conjugate | None = None
    empty: str = "reseed"
    row: float = 1.0
    weight: float = 0.0
    concentration: float = 1.0
    noise: Noise | None = None

    @classmethod
    def of(cls, covariance_type: str, n_components: int, frame: Frame, reg_covar: float) -> "Prior":
        family = FAMILIES[covariance_type]
        return cls(family.transform(family.isotropic(reg_covar, n_components, frame.d), frame.matrix))

    def added(self, family: Family, n_components: int) -> Array:
        """The regularisation of a mixture that may have fewer components than at first: some were dropped."""
        return self.regularisation if family.shared else self.regularisation[:n_components]

    @property
    def carries(self) -> bool:
        """Whether covariances are positive definite however few rows there are."""
        return self.conjugate is not None or bool(np.any(self.regularisation))

    @property
    def penalises(self) -> bool:
        """Whether the objective of a fit has anything beside the log likelihood."""
        return self.conjugate is not None or self.concentration != 1

    def log_density(self, mixture: Mixture) -> float:
        """What the objective of a fit has beside the log likelihood, in nats, up to a constant: 0 if nothing.

        That of means and covariances, and (α - 1) Σ_k log π_k of weights.
        """
        nats = 0.0 if self.conjugate is None else self.conjugate.log_density(mixture)
        if self.concentration != 1:
            weights = np.maximum(mixture.weights, np.finfo(np.float64).tiny)
            nats += (self.concentration - 1) * float(np.sum(np.log(weights)))
        return nats

    def log_density_per_row(self, mixture: Mixture) -> float:
        """The same for each of all rows, by `weight`; 0 where that is not known."""
        return self.log_density(mixture) / self.weight if self.weight else 0.0
