"""The work of EM: blocks of rows and mixtures in, statistics out."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from gmmdask import missing
from gmmdask.compiled import Compiled, Tiles, importable
from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.kernels import KERNELS, MISSING, Features, Kernel, kernel_for, soft_assignment
from gmmdask.missing import Evaluation, Gaps
from gmmdask.mixture import Mixture
from gmmdask.stats import Layout, Stats

WHOLE: dict[str, type[Compiled] | type[Gaps]] = {"compiled": Compiled, MISSING: Gaps}  # they take blocks as they are


def available() -> tuple[str, ...]:
    """The names of the kernels that run in this process."""
    return (*KERNELS, MISSING, *(("compiled",) if importable() else ()))


class Block(Protocol):
    """Rows (b, d) of any real dtype, their weights (b,) or None, and the number of the first."""

    @property
    def rows(self) -> np.ndarray: ...
    @property
    def weights(self) -> Array | None: ...
    @property
    def first_row(self) -> int: ...


def accumulate(kernel: Kernel, features: Array, joint: Array, weights: Array | None) -> None:
    """One block of an E-step, from its log joint densities (K, b), and a last line for noise, if there is any.

    Responsibilities live here and nowhere else.
    """
    resp, log_density = joint, soft_assignment(joint)
    if weights is None:
        weights = features[-1]
    else:
        resp *= weights
    vector = kernel.stats.vector
    vector[0] += weights.sum()
    vector[2] += weights @ log_density
    kernel.moments(features, resp, weights)


def with_entropy(stats: Stats, mixture: Mixture) -> Stats:
    """Statistics under a mixture, with the entropy that follows from all the others."""
    stats.vector[3] = stats.log_likelihood - mixture.expected_log_joint(stats)
    return stats


class Together:
    """NumPy kernels of one frame and family: features are formed once for all of them."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.kernels: list[Kernel] = []

    def join(self, step: "EStep", rows: int) -> Callable[[], Stats]:
        """Takes an E-step in; returns what tells its statistics in the end."""
        kernel = KERNELS[step.kernel](step.mixture, self.features.frame, rows)
        self.kernels.append(kernel)
        return lambda: kernel.stats

    def add(self, rows: np.ndarray, weights: Array | None) -> None:
        """Adds a block of rows (b, d), in data units, with weights (b,) or None."""
        features = self.features.enter(rows)
        if any(kernel.needs_quadratic for kernel in self.kernels):
            self.features.quadratic(features)
        for kernel in self.kernels:
            accumulate(kernel, features, kernel.log_joint(features), weights)


@dataclass(frozen=True, eq=False)
class EStep:
    """What one run asks of a pass: its mixture, in frame coordinates, evaluated by a kernel of this name.

    "fast" is no kernel: the driver puts the one in its place that is fast where the run goes.
    """

    mixture: Mixture
    kernel: str

    @classmethod
    def of(cls, mixture: Mixture, fast: str = "fast") -> "EStep":
        """By the fast kernel, if it is accurate enough for the mixture."""
        return cls(mixture, kernel_for(mixture, fast))

    def by(self, fast: str) -> "EStep":
        """With the name of a kernel in the place of "fast"; of any, where rows have missing values."""
        return replace(self, kernel=fast) if self.kernel == "fast" or fast == MISSING else self


@dataclass(frozen=True, eq=False)
class ESteps:
    """The work of a pass: E-steps of one or more runs, each in its frame.

    Returns
    -------
    Sums of Stats, one for each E-step, in frame coordinates: its log likelihood is a frame's too.

    Raises
    ------
    MissingKernel
        If one asks for the compiled kernel, and this process has no Numba.
    """

    steps: tuple[tuple[Frame, EStep], ...]
    block_rows: int

    def __call__(self, blocks: Iterable[Block]) -> "Sums":
        fast: dict[Hashable, Compiled | Gaps] = {}
        others: dict[Hashable, Together] = {}
        found = []
        for frame, step in self.steps:
            family, k = step.mixture.family, step.mixture.n_components
            if step.kernel in WHOLE:
                noise = step.mixture.noise is not None
                kind = (frame.digest, family.name, k, noise, step.kernel)
                if kind not in fast:
                    fast[kind] = WHOLE[step.kernel](frame, family, k, self.block_rows, noise)
                found.append(fast[kind].join(step.mixture))
                continue
            if (frame.digest, family.name) not in others:
                others[frame.digest, family.name] = Together(Features(family, frame, self.block_rows))
            found.append(others[frame.digest, family.name].join(step, self.block_rows))
        for block in blocks:
            for shared in fast.values():
                shared.add(block.rows, block.weights)
            for together in others.values():
                together.add(block.rows, block.weights)
        pairs = zip(found, self.steps, strict=True)
        return Sums(tuple(with_entropy(stats(), step.mixture) for stats, (_, step) in pairs))


@dataclass(frozen=True, eq=False)
class Sums:
    """Several things that add, side by side."""

    items: tuple[Stats, ...]

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(tuple(a + b for a, b in zip(self.items, other.items, strict=True)))


def log_joint(frame: Frame, step: EStep, rows: int) -> Callable[[np.ndarray], Array]:
    """What gives log joint densities (K, b) in the frame of rows (b, d), `rows` at most, with memory of its own."""
    if step.kernel == MISSING:
        return Evaluation(step.mixture, frame, rows).log_joint
    entered, kernel = Features(step.mixture.family, frame, rows), KERNELS[step.kernel](step.mixture, frame, rows)

    def evaluate(block: np.ndarray) -> Array:
        features = entered.enter(block)
        if kernel.needs_quadratic:
            entered.quadratic(features)
        return kernel.log_joint(features)

    return evaluate


@dataclass(frozen=True, eq=False)
class LogDensities:
    """The work of a pass over held-out rows: their log densities under the mixtures of E-steps, in the frames.

    Where rows have weights, these are a last line. `of` makes the numbers of rows (b,) of log joint densities (K, b):
    `most_likely` has the components of highest probability instead.
    """

    steps: tuple[tuple[Frame, EStep], ...]
    block_rows: int
    of: Callable[[Array], Array] = soft_assignment

    def __call__(self, blocks: Iterable[Block]) -> "Columns":
        each = [log_joint(frame, step, self.block_rows) for frame, step in self.steps]
        found = list[Array]()
        for block in blocks:
            lines = [self.of(evaluate(block.rows)) for evaluate in each]
            found.append(np.stack(lines if block.weights is None else [*lines, block.weights]))
        return Columns(np.hstack(found))


def most_likely(log_joint: Array) -> Array:
    """The component of highest probability, (b,), from log joint densities (K, b)."""
    return log_joint.argmax(axis=0).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Columns:
    """Numbers of some rows, a column each, (m, b); adding puts them side by side."""

    values: Array

    def __add__(self, other: "Columns") -> "Columns":
        return Columns(np.hstack([self.values, other.values]))


def shares(assigned: np.ndarray, n_components: int, weights: Array | None, start: int, stop: int) -> Array:
    """Weighted responsibilities (K, b) of assigned rows from `start` to `stop`, see `assigned_stats`."""
    part = assigned[..., start:stop]
    resp: Array = part if part.ndim == 2 else (part == np.arange(n_components)[:, None]).astype(np.float64)
    return resp if weights is None else resp * weights[start:stop]


def assigned_stats(
    layout: Layout,
    frame: Frame,
    rows: np.ndarray,
    assigned: np.ndarray,
    step: int = 8192,
    weights: Array | None = None,
) -> Stats:
    """Statistics in the frame of rows (m, d) that are assigned already: how k-means starts.

    `assigned` holds responsibilities (K, m), or components (m,) with -1 for rows that belong to none. Two sweeps, the
    second about the means of the first, so that a component of equal rows has scatter zero exactly. `weights` (m,).
    """
    family, features = layout.family, Features(layout.family, frame, step)

    def blocks() -> Iterable[tuple[Array, Array]]:
        for start in range(0, len(rows), step):
            resp = shares(assigned, layout.n_components, weights, start, start + step)
            yield features.enter(rows[start : start + step])[features.p : -1], resp

    stats = Stats.zero(layout)
    for x, resp in blocks():
        stats.mass[:] += resp.sum(axis=1)
        stats.first[:] += resp @ x.T
    means = stats.first / np.maximum(stats.mass, np.finfo(float).tiny)[:, None]
    central = Stats.zero(layout, means)
    central.vector[0] = stats.mass.sum()
    central.mass[:] = stats.mass
    for x, resp in blocks():
        for k in range(layout.n_components):
            z = x - means[k][:, None]
            central.first[k] += z @ resp[k]
            central.second[0 if family.shared else k] += family.scatter(z, resp[k])
    return central


def shared_bytes(company: Sequence[tuple[Family, int]], d: int, rows: int, kernel: str = "products") -> int:
    """Bytes that E-steps of runs with such families and K take in one task, by any kernel but that of rows with missing
    values, or by that, if it is meant; a run may ask for two.
    """
    if kernel == MISSING:
        return missing.shared_bytes(company, d, rows)
    families, numpy_kernels, compiled = set[str](), 0, 0
    for family, k in company:
        p, stats = family.packed_size(d), Layout(family.name, k, d, "").size
        if family.name not in families:  # features are formed once for all that share a frame
            numpy_kernels += 8 * (rows * (p + 5 * d + 9) + np.getbufsize())
            families.add(family.name)
        numpy_kernels += 16 * (rows * (k + d + 1) + 4 * stats + 2 * k * (p + d + 1))
        compiled += 8 * rows * (d + 1) + 2 * (32 * stats + Tiles(family, k, d, rows).bytes)
    return max(numpy_kernels, compiled)


def incomplete_stats(
    layout: Layout,
    frame: Frame,
    gaussian: Mixture,
    rows: np.ndarray,
    assigned: np.ndarray,
    weights: Array | None = None,
) -> Stats:
    """As `assigned_stats`, of rows with gaps, of which one `gaussian` component in the frame tells what is expected.

    It tells how uncertain that is, too: so a component that starts from rows which lack a feature is not narrow in it.
    """
    of_rows = partial(shares, assigned, layout.n_components, weights)
    return missing.assigned_stats(layout, frame, gaussian, rows, of_rows)


def peak_bytes(
    family: Family, n_components: int, d: int, rows: int, runs: int = 1, noise: bool = False, kernel: str = "products"
) -> int:
    """Bytes that E-steps of `runs` mixtures take in one task with blocks of this many rows, by any kernel but that of
    rows with missing values, which takes more: by that, if it is meant.
    """
    if kernel == MISSING:
        return missing.peak_bytes(family, n_components, d, rows, runs)
    p, stats, lines = family.packed_size(d), Layout(family.name, n_components, d, "", noise).size, n_components + noise
    per_row = p + 2 * d + 1 + runs * (lines + d + 1) + 3 * d + 8
    numpy_kernels = 8 * (rows * per_row + np.getbufsize() + runs * (4 * stats + 2 * lines * (p + d + 1)))
    compiled = 8 * rows * (d + 1) + runs * (32 * stats + Tiles(family, n_components, d, rows, noise).bytes)
    return max(numpy_kernels, compiled)
