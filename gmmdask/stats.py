"""Sufficient statistics: one float64 vector that adds, and the layout that says what is where."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array

ROUNDING = 1e-11  # of a sum: what the order of its terms may change


@dataclass(frozen=True)
class Layout:
    """What a statistics vector holds: W, outside, log likelihood, entropy, mass (K,), first (K, d), second (R, p).

    With `noise`, also what lies beyond the components: first (d,) and second (p,).
    """

    covariance_type: str
    n_components: int
    d: int
    frame: str
    noise: bool = False

    @cached_property
    def family(self) -> Family:
        return FAMILIES[self.covariance_type]

    @cached_property
    def second_shape(self) -> tuple[int, int]:
        return (1 if self.family.shared else self.n_components, self.family.packed_size(self.d))

    @cached_property
    def size(self) -> int:
        beyond = self.d + self.second_shape[1] if self.noise else 0
        return 4 + self.n_components * (1 + self.d) + prod(self.second_shape) + beyond


@dataclass(frozen=True, eq=False)
class Stats:
    """Statistics of some rows under one mixture, in one frame; moments are taken about `origin` (K, d).

    `first` is Σ w r (x - o_k) and `second` the packed Σ w r (x - o_k)(x - o_k)ᵀ. `outside` is the mass that belongs
    to no component, that of the noise. The log likelihood is Σ w log p(x), the entropy -Σ w r log r, both in nats;
    where values are missing, the entropy is that of all that is hidden, of them too.
    """

    layout: Layout
    origin: Array
    vector: Array

    @classmethod
    def zero(cls, layout: Layout, origin: Array | None = None) -> "Stats":
        if origin is None:
            origin = np.zeros((layout.n_components, layout.d))
        return cls(layout, origin, np.zeros(layout.size))

    @property
    def fits(self) -> bool:
        """Whether its arrays are of its layout: asked of what comes out of a file."""
        of = self.layout
        known = of.covariance_type in FAMILIES and min(of.n_components, of.d) > 0
        return known and (self.origin.shape, self.vector.shape) == ((of.n_components, of.d), (of.size,))

    def _view(self, start: int, shape: tuple[int, ...]) -> Array:
        return self.vector[start : start + prod(shape)].reshape(shape)

    @property
    def weight(self) -> float:
        """W = Σ w."""
        return float(self.vector[0])

    @property
    def outside(self) -> float:
        return float(self.vector[1])

    @property
    def log_likelihood(self) -> float:
        return float(self.vector[2])

    @property
    def entropy(self) -> float:
        return float(self.vector[3])

    @property
    def mass(self) -> Array:
        return self._view(4, (self.layout.n_components,))

    @property
    def first(self) -> Array:
        k, d = self.layout.n_components, self.layout.d
        return self._view(4 + k, (k, d))

    @property
    def second(self) -> Array:
        k, d = self.layout.n_components, self.layout.d
        return self._view(4 + k * (1 + d), self.layout.second_shape)

    @property
    def beyond(self) -> Array:
        """Moments about zero of the mass outside: first (d,), then packed second (p,). Empty without noise."""
        k, d = self.layout.n_components, self.layout.d
        return self.vector[4 + k * (1 + d) + prod(self.layout.second_shape) :]

    def totals(self) -> tuple[float, Array, Array]:
        """Mass, first (d,) and packed second (p,) moments about zero of all rows, those outside among them."""
        about, d = self.about(np.zeros_like(self.origin)), self.layout.d
        first, second = about.first.sum(axis=0), about.second.sum(axis=0)
        if self.layout.noise:
            first, second = first + self.beyond[:d], second + self.beyond[d:]
        return float(about.mass.sum()) + self.outside, first, second

    def __add__(self, other: "Stats") -> "Stats":
        """Statistics of the rows of both.

        Raises
        ------
        ValueError
            If the two were taken in different families, shapes, frames or about different origins.
        """
        if self.layout != other.layout:
            raise ValueError(f"statistics of different layouts do not add: {self.layout} and {other.layout}")
        if not np.array_equal(self.origin, other.origin):
            raise ValueError("statistics about different origins do not add: call `about` with a common origin first")
        return Stats(self.layout, self.origin, self.vector + other.vector)

    def __sub__(self, other: "Stats") -> "Stats":
        """Statistics without the rows of the other; the same errors as of a sum."""
        return self + other.scaled(-1.0)

    def without(self, other: "Stats") -> "Stats":
        """Statistics without rows that are among these; what is only rounding is left out.

        Raises
        ------
        ValueError
            If the other has more weight or mass than there is, beyond rounding; and as of a sum.
        """
        left = self - other
        if left.weight < -ROUNDING * self.weight:
            raise ValueError(f"a weight of {left.weight:.6g} would be left. Subtract only what was added, once.")
        short, gone = left.mass < -ROUNDING * self.mass, left.mass <= ROUNDING * self.mass
        if short.any():
            k = int(np.argmax(short))
            raise ValueError(
                f"component {k} would keep a mass of {left.mass[k]:.6g}. Subtract only what was added, once."
            )
        if left.weight <= ROUNDING * self.weight:
            return Stats.zero(self.layout, self.origin)
        for moment in left._moments():
            moment[gone] = 0.0
        left.vector[1] = max(left.outside, 0.0)
        return left

    def scaled(self, factor: float) -> "Stats":
        """As if every row had `factor` times its weight."""
        return Stats(self.layout, self.origin, self.vector * factor)

    def _moments(self) -> tuple[Array, ...]:
        """Sums that a component has for itself, by component."""
        return (self.mass, self.first, *(() if self.layout.family.shared else (self.second,)))

    def joined(self, component: int, other: int) -> "Stats":
        """As if the rows of one component belonged to another: it has none left, and the other's origin."""
        origin = self.origin.copy()
        origin[component] = origin[other]
        joined = Stats(self.layout, origin, self.about(origin).vector.copy())
        for moment in joined._moments():
            moment[other] += moment[component]
            moment[component] = 0.0
        return joined

    def grouped(self, groups: np.ndarray, n: int) -> "Stats":
        """As if the rows of all components of a group (K,) belonged to one of n components; moments about its mean."""
        layout, mass, centres = replace(self.layout, n_components=n), np.zeros(n), np.zeros((n, self.layout.d))
        np.add.at(mass, groups, self.mass)
        np.add.at(centres, groups, self.first + self.mass[:, None] * self.origin)
        centres /= np.where(mass > 0, mass, 1.0)[:, None]
        moved = self.about(centres[groups])
        found = Stats.zero(layout, centres)
        found.vector[:4], found.beyond[:] = self.vector[:4], self.beyond
        if layout.family.shared:
            found.second[:] = moved.second
        for sums, moment in zip(found._moments(), moved._moments(), strict=True):
            np.add.at(sums, groups, moment)
        return found

    def split(self, component: int, other: int, shift: Array) -> "Stats":
        """As if a component were cut in two halves with means `shift` (d,) to either side of its own.

        The other, which has no rows and the same origin, gets one. N/2, S1/2 ± N/2 u and S2/2 ± (S1 uᵀ + u S1ᵀ)/2 have
        together the sums of the whole, and covariances less by u uᵀ each.
        """
        family, halves = self.layout.family, Stats(self.layout, self.origin, self.vector.copy())
        push = 0.5 * self.mass[component] * shift
        bend = family.outer(self.first[component, None], shift[None])[0]
        for moment, change in zip(halves._moments(), (0.0, push, bend), strict=False):
            half = 0.5 * moment[component]
            moment[other], moment[component] = half + change, half - change
        return halves

    def without_component(self, component: int) -> "Stats":
        """With one component less, which has no rows; those after it are counted anew."""
        own = [np.delete(moment, component, axis=0).ravel() for moment in self._moments()]
        shared = [self.second.ravel()] if self.layout.family.shared else []
        layout = replace(self.layout, n_components=self.layout.n_components - 1)
        vector = np.concatenate([self.vector[:4], *own, *shared, self.beyond])
        return Stats(layout, np.delete(self.origin, component, axis=0), vector)

    def about(self, origin: Array) -> "Stats":
        """The same statistics with moments about another origin (K, d)."""
        if np.array_equal(origin, self.origin):
            return self
        family, shift = self.layout.family, origin - self.origin
        moved = Stats(self.layout, origin, self.vector.copy())
        shifted_mass = self.mass[:, None] * shift
        moved.first[:] = self.first - shifted_mass
        moved.second[:] = self.second - 2 * family.outer(self.first, shift) + family.outer(shifted_mass, shift)
        return moved
