"""Two ways to compute the same thing: log joint densities of a block of rows, and its share of the statistics.

`products` writes log joint densities as one matrix product of coefficients and row features, and the statistics as
another; it is fast, and loses about eps · cancellation of a covariance. `centred` subtracts each component's mean
first; it is slower, and exact for narrow components.
"""

from typing import ClassVar, Protocol

import numpy as np

from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.mixture import Mixture
from gmmdask.stats import Layout, Stats

EPS = float(np.finfo(np.float64).eps)
CANCELLATION_LIMIT = 1e-9  # relative error of a covariance beyond which the centred kernel takes over
FLOOR = -100.0  # exponents below give exact zeros instead of subnormal numbers, which slow a matrix product tenfold
FLOOR_VALUE = float(np.exp(FLOOR))
MISSING = "missing"  # the kernel of rows with missing values, which `gmmdask.missing` is
BLOCK_BYTES = 12 << 20  # measured: larger blocks leave the caches, with smaller ones threads wait for each other


def kernel_for(mixture: Mixture, fast: str = "products") -> str:
    """The name of the kernel for a mixture in frame coordinates: the fast one, if it is accurate enough.

    `fast` is what that one is called; that of rows with missing values is as accurate as can be.
    """
    return fast if fast == MISSING or EPS * mixture.cancellation < CANCELLATION_LIMIT else "centred"


def numpy_of(fast: str) -> str:
    """The fast kernel where few rows are evaluated, and nothing need be compiled."""
    return MISSING if fast == MISSING else "products"


def block_rows(family: Family, d: int, n_components: int) -> int:
    """Rows of a block: a power of two from 512 to 16,384 by what features and responsibilities take."""
    width = family.packed_size(d) + 2 * d + 1 + 3 * n_components
    return int(np.clip(2 ** round(np.log2(BLOCK_BYTES / (8 * width))), 512, 16384))


class Scratch:
    """Memory that is taken once a task and used for every block."""

    def __init__(self, width: int, rows: int) -> None:
        self.flat = np.empty(width * rows)

    def take(self, *shape: int) -> Array:
        return self.flat[: shape[0] * shape[1]].reshape(shape)


class Features:
    """Row features (p + d + 1, b): quadratic, x and 1. Formed once for all mixtures of a frame and family."""

    def __init__(self, family: Family, frame: Frame, rows: int) -> None:
        self.family, self.frame = family, frame
        self.p = family.packed_size(frame.d)
        self.rows = Scratch(frame.d, rows)
        self.features = Scratch(self.p + frame.d + 1, rows)

    def enter(self, rows: np.ndarray) -> Array:
        """Rows (b, d) in frame coordinates as the middle lines of the returned features."""
        b, d = rows.shape
        features = self.features.take(self.p + d + 1, b)
        self.frame.enter(rows, self.rows.take(b, d), features[self.p : -1])
        features[-1] = 1.0
        return features

    def quadratic(self, features: Array) -> None:
        self.family.quadratic(features[self.p : -1], features[: self.p])


def soft_assignment(log_joint: Array) -> Array:
    """Turns log joint densities (K, b) into responsibilities in place; returns log densities (b,).

    Entries below exp(-100) of a row's largest are exact zeros.
    """
    top = log_joint.max(axis=0)
    np.copyto(top, 0.0, where=~np.isfinite(top))
    log_joint -= top
    np.maximum(log_joint, FLOOR, out=log_joint)
    np.exp(log_joint, out=log_joint)
    log_joint -= FLOOR_VALUE
    total = log_joint.sum(axis=0)
    log_joint /= total
    log_density: Array = np.log(total) + top
    return log_density


class Kernel(Protocol):
    """Evaluates one mixture on blocks and accumulates its statistics."""

    needs_quadratic: ClassVar[bool]
    stats: Stats

    def __init__(self, mixture: Mixture, frame: Frame, rows: int) -> None: ...
    def log_joint(self, features: Array) -> Array:
        """log π_k N(x|k), (K, b), in the frame's units, and a last line for the noise; overwritten by the next call."""
        ...

    def moments(self, features: Array, resp: Array, weights: Array) -> None:
        """Adds mass, first and second moments of weighted responsibilities, as many lines."""
        ...


def layout_of(mixture: Mixture, frame: Frame) -> Layout:
    """That of statistics under a mixture in a frame."""
    noise = mixture.noise is not None
    return Layout(mixture.covariance_type, mixture.n_components, frame.d, frame.digest, noise)


def with_noise(coefficients: Array, mixture: Mixture) -> Array:
    """Coefficients (K, q) on features of which the last is one, and a line for the noise if there is any."""
    if mixture.noise is None:
        return coefficients
    line = np.zeros(coefficients.shape[1])
    line[-1] = mixture.noise.log_joint
    return np.vstack([coefficients, line])


class Products:
    """log π N = C F and moments = resp Fᵀ: two matrix products a block."""

    needs_quadratic: ClassVar[bool] = True

    def __init__(self, mixture: Mixture, frame: Frame, rows: int) -> None:
        family, d = mixture.family, frame.d
        self.p, self.shared = family.packed_size(d), family.shared
        self.stats, self.k = Stats.zero(layout_of(mixture, frame)), mixture.n_components
        self.quadratic, linear, constant = mixture.coefficients
        affine = np.column_stack([linear, constant + mixture.log_scale])
        own = affine if self.shared else np.hstack([self.quadratic, affine])
        self.all = np.ascontiguousarray(with_noise(own, mixture))
        self.joint = Scratch(len(self.all), rows)
        self.sums = np.empty(self.all.shape)

    def log_joint(self, features: Array) -> Array:
        joint = self.joint.take(len(self.all), features.shape[1])
        np.dot(self.all, features[self.p :] if self.shared else features, out=joint)
        if self.shared:
            joint[: self.k] += np.dot(self.quadratic, features[: self.p])
        return joint

    def moments(self, features: Array, resp: Array, weights: Array) -> None:
        stats, k, p = self.stats, self.k, 0 if self.shared else self.p
        np.dot(resp, features[self.p - p :].T, out=self.sums)
        stats.mass[:] += self.sums[:k, -1]
        stats.first[:] += self.sums[:k, p:-1]
        stats.second[:] += np.dot(features[: self.p], weights) if self.shared else self.sums[:k, :p]
        if stats.layout.noise:
            outside = np.dot(features[: self.p], resp[k]) if self.shared else self.sums[k, :p]
            if self.shared:
                stats.second[:] -= outside
            stats.vector[1] += self.sums[k, -1]
            stats.beyond[:] += np.concatenate([self.sums[k, p:-1], outside])


def log_normal(mixture: Mixture, k: int, z: Array, out: Array) -> None:
    """log π_k N(x|k) to `out` (b,), of rows less the component's mean, z (d, b)."""
    white = mixture.family.whiten(mixture.root, k, z)
    np.einsum("db,db->b", white, white, out=out)
    out *= -0.5
    out += mixture.log_scale[k]


def add_moments(stats: Stats, k: int, z: Array, resp: Array) -> None:
    """Adds those of a component, of rows less its origin, z (d, b), with responsibilities (b,)."""
    family = stats.layout.family
    stats.mass[k] += resp.sum()
    stats.first[k] += z @ resp
    stats.second[0 if family.shared else k] += family.scatter(z, resp)


class Centred:
    """Every component sees rows about its own mean; moments are accumulated about the means."""

    needs_quadratic: ClassVar[bool] = False

    def __init__(self, mixture: Mixture, frame: Frame, rows: int) -> None:
        self.mixture, self.p = mixture, mixture.family.packed_size(frame.d)
        self.stats = Stats.zero(layout_of(mixture, frame), mixture.means)
        self.joint = Scratch(mixture.proportions.size, rows)
        self.z = Scratch(frame.d, rows)

    def _about_mean(self, features: Array, k: int) -> Array:
        z = self.z.take(self.mixture.d, features.shape[1])
        return np.subtract(features[self.p : -1], self.mixture.means[k][:, None], out=z)

    def log_joint(self, features: Array) -> Array:
        mixture = self.mixture
        joint = self.joint.take(mixture.proportions.size, features.shape[1])
        if mixture.noise is not None:
            joint[-1] = mixture.noise.log_joint
        for k in range(mixture.n_components):
            log_normal(mixture, k, self._about_mean(features, k), joint[k])
        return joint

    def moments(self, features: Array, resp: Array, weights: Array) -> None:
        stats = self.stats
        for k in range(self.mixture.n_components):
            add_moments(stats, k, self._about_mean(features, k), resp[k])
        if stats.layout.noise:
            x = features[self.p : -1]
            stats.vector[1] += resp[-1].sum()
            stats.beyond[:] += np.concatenate([x @ resp[-1], self.mixture.family.scatter(x, resp[-1])])


KERNELS: dict[str, type[Kernel]] = {"products": Products, "centred": Centred}
