"""The compiled kernel: the arithmetic of `products` by `gmmdask.sweep`, a whole block of a part in one call.

It needs the extra `fast`. This module can be imported without; what needs Numba says so when it is asked for.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.kernels import with_noise
from gmmdask.mixture import Mixture
from gmmdask.stats import Layout, Stats

CHOICES = ("auto", "numpy", "compiled")
JOINT_SIZE = 4096  # log joint densities of an inner block: a first-level cache
PRODUCT_SIZE = 1_000_000  # up to m n k of this OpenBLAS multiplies small matrices where they are
KEPT_BYTES = 4 << 20  # features of an inner block are kept up to this size, else formed twice


class MissingKernel(ImportError):
    """The compiled kernel was asked for where it cannot run."""


def importable() -> bool:
    return importlib.util.find_spec("numba") is not None


def loaded() -> Any:
    """The module `gmmdask.sweep`; compiling takes some seconds once a machine and version, loading a second.

    Raises
    ------
    MissingKernel
        If Numba is not installed here.
    """
    try:
        return importlib.import_module("gmmdask.sweep")
    except ModuleNotFoundError as error:
        raise MissingKernel(
            f"this fit runs on the compiled kernel, and there is no module {error.name} here: other kernels would give "
            'other bits. Install it on every worker with pip install "gmmdask[fast]", or choose gmmdask.kernel: numpy '
            "in the Dask configuration before the fit."
        ) from error


def warm_up() -> float:
    """Seconds that compiling, or loading what was compiled before, takes this process."""
    began = time.perf_counter()
    loaded()
    return time.perf_counter() - began


def fast_kernel(choice: str) -> str:
    """The name of the fast kernel by the setting `gmmdask.kernel`.

    Raises
    ------
    ValueError
        If it is none of `CHOICES`.
    MissingKernel
        If it is "compiled" and Numba is not installed.
    """
    if choice not in CHOICES:
        raise ValueError(f"gmmdask.kernel is {choice!r}: expected one of {', '.join(CHOICES)}.")
    if choice == "compiled":
        loaded()
    return "products" if choice == "numpy" or not importable() else "compiled"


@dataclass(frozen=True)
class Tiles:
    """Inner rows b, features q of which `panel` are multiplied at once, and columns c of what they are summed with.

    Noise is one line more; it is not shifted by the quadratic features that components of a shared covariance have in
    common, so they are features of everyone then.
    """

    family: Family
    n_components: int
    d: int
    block_rows: int
    noise: bool = False

    @property
    def lines(self) -> int:
        """Log joint densities of a row."""
        return self.n_components + self.noise

    @property
    def shared(self) -> bool:
        return self.family.shared and not self.noise

    @property
    def rows(self) -> int:
        return min(self.block_rows, int(np.clip(JOINT_SIZE // self.lines, 64, 256)))

    @property
    def features(self) -> int:
        return self.d + 1 + (0 if self.shared else self.family.packed_size(self.d))

    @property
    def columns(self) -> int:
        return self.lines + (self.d if self.shared else 0)

    @property
    def panel(self) -> int:
        fits = PRODUCT_SIZE // (self.columns * self.rows)
        return fits if fits >= 16 else 256

    @property
    def kept(self) -> int:
        """Features that are in memory at once."""
        q = self.features
        return q if 8 * q * self.rows <= KEPT_BYTES else min(q, self.panel)

    @property
    def bytes(self) -> int:
        """Memory of a kernel beside its statistics."""
        k, d = self.lines, self.d
        tables = self.rows * (self.kept + k + self.columns + 2 * d + 5) + self.features * (k + self.columns + 2)
        return 8 * (tables + d * d + 2 * d) + 4096


class Compiled:
    """Accumulates the statistics of mixtures of one frame, family and K from rows in data units.

    They share the rows in the frame and their features, and no matrix product: no bit depends on company.
    """

    def __init__(self, frame: Frame, family: Family, n_components: int, block_rows: int, noise: bool = False) -> None:
        self.sweep, self.frame, self.family = loaded(), frame, family
        self.tiles = Tiles(family, n_components, frame.d, block_rows, noise)
        self.layout = Layout(family.name, n_components, frame.d, frame.digest, noise)
        self.mixtures: list[Mixture] = []
        self.weight = 0.0

    def join(self, mixture: Mixture) -> Callable[[], Stats]:
        """Takes a mixture in; returns what tells its statistics in the end."""
        self.mixtures.append(mixture)
        return partial(self.stats, len(self.mixtures) - 1)

    @cached_property
    def tables(self) -> Any:
        """The memory of a task, taken when its first rows come."""
        tiles, family, frame, d, m = self.tiles, self.family, self.frame, self.frame.d, len(self.mixtures)
        b, k, scales = tiles.rows, tiles.lines, frame.matrix.ndim == 1
        left, right = np.empty((2, 0), np.int64) if tiles.shared else family.factors(d)
        lines = np.ones((max(d, left.max(initial=0)) + 1, b))
        return self.sweep.Tables(
            origin=frame.origin.copy(),
            scale=frame.matrix.copy() if scales else np.ones(d),
            matrix=np.empty((0, 0)) if scales else frame.matrix.copy(),
            left=np.concatenate([left, np.arange(d + 1)]),
            right=np.concatenate([right, np.full(d + 1, d)]),
            coefficients=np.ascontiguousarray(np.vstack([self._own(mixture) for mixture in self.mixtures])),
            sums=np.zeros((m * tiles.features, tiles.columns)),
            density=np.zeros((m, b)),
            lines=lines,
            centred=np.empty((0 if scales else d, b)),
            features=np.empty((tiles.kept, b)),
            joint=np.empty((k, b)),
            turned=np.empty((b, tiles.columns)),
            top=np.empty(b),
            total=np.empty(b),
            call=np.full(7, ord("N"), np.int32),
            units=np.array([1.0, 0.0]),
        )

    def _own(self, mixture: Mixture) -> Array:
        """Coefficients (K, q) of the features that tell components apart, and a line for the noise."""
        quadratic, linear, constant = mixture.coefficients
        affine = np.column_stack([linear, constant + mixture.log_scale])
        if self.tiles.shared:
            return affine
        quadratic = np.broadcast_to(quadratic, (len(affine), quadratic.shape[1]))
        return with_noise(np.hstack([quadratic, affine]), mixture)

    def add(self, rows: np.ndarray, weights: Array | None) -> None:
        """Adds a block of rows (b, d) of any real dtype with weights (b,) or None."""
        kind = np.float32 if rows.dtype == np.float32 else np.float64
        rows = np.require(rows, kind, ["C_CONTIGUOUS", "ALIGNED"])
        given = np.empty(0) if weights is None else np.require(weights, np.float64, ["C_CONTIGUOUS", "ALIGNED"])
        self.weight += len(rows) if weights is None else weights.sum()
        self.sweep.sweep(rows, given, self.tables, self.tiles.panel)

    def stats(self, index: int) -> Stats:
        """What the sweeps have summed for a mixture."""
        stats, tables, tiles = Stats.zero(self.layout), self.tables, self.tiles
        k, q, d = tiles.n_components, tiles.features, tiles.d
        sums, p = tables.sums[index * q : (index + 1) * q], q - d - 1
        stats.mass[:] = sums[-1, :k]
        stats.first[:] = sums[p:-1, :k].T
        if tiles.shared:
            stats.second[:] = self.family.pack(sums[:-1, k:])
        else:
            own = sums[:p, :k]
            stats.second[:] = own.sum(axis=1) if self.family.shared else own.T
        if tiles.noise:
            stats.vector[1], stats.beyond[:d], stats.beyond[d:] = sums[-1, k], sums[p:-1, k], sums[:p, k]
        common = np.vdot(self.mixtures[index].coefficients[0], stats.second) if tiles.shared else 0.0
        stats.vector[0] = self.weight
        stats.vector[2] = tables.density[index].sum() + common  # `tied` and `spherical`: x² is of all components alike
        return stats
