"""The first pass: counts, moments, checks, a uniform sample. All of it adds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.sources import DataError
from gmmdask.task import Block, Data

RAW_MAX = 2**64
LARGEST = 1e150  # numbers beyond it have squares beyond float64
NONE = 2**63 - 1  # the first bad row, where there is none


@dataclass(frozen=True, eq=False)
class Moments:
    """Weight, mean (d,) and central scatter (d, d) of some rows; adds as Chan, Golub and LeVeque (1979) merge."""

    weight: float
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, rows: np.ndarray) -> "Moments":
        """Of rows (b, d): sums are taken about the first row, then about the mean, so that no offset costs digits."""
        rows = np.ascontiguousarray(rows)  # in another layout the sums would have other bits
        n, ones = len(rows), np.ones(len(rows))
        near = rows - rows[0].astype(np.float64)
        mean = ones @ near / n
        near -= mean
        rest = ones @ near
        return cls(float(n), rows[0] + mean, near.T @ near - np.outer(rest, rest) / n)

    def __add__(self, other: "Moments") -> "Moments":
        if not (self.weight and other.weight):
            return other if other.weight else self
        weight = self.weight + other.weight
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.weight * other.weight / weight)
        return Moments(weight, self.mean + delta * (other.weight / weight), scatter)

    @property
    def covariance(self) -> Array:
        return self.scatter / self.weight


@dataclass(frozen=True, eq=False)
class Sample:
    """Candidates of a uniform sample: row numbers (m,), keys (m,) and rows (m, d). Adding is concatenation."""

    numbers: np.ndarray
    keys: np.ndarray
    rows: np.ndarray

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.rows, other.rows]),
        )

    def smallest(self, m: int, skip: int = 0) -> np.ndarray:
        """Rows of the m smallest keys after the `skip` smallest, in the order of the data."""
        chosen = np.lexsort((self.numbers, self.keys))[skip : skip + m]
        return self.rows[chosen[np.argsort(self.numbers[chosen])]]


def row_keys(seed: int, first_row: int, n: int) -> np.ndarray:
    """A random uint64 for each of n rows from `first_row`: a function of seed and row number alone (Philox)."""
    start, skip = divmod(first_row, 4)  # one step of the counter makes four numbers
    generator = np.random.Philox(key=np.array([seed, 0x9E3779B97F4A7C15], dtype=np.uint64), counter=start)
    return generator.random_raw(n + skip)[skip:]


@dataclass(frozen=True, eq=False)
class Findings:
    """What the pilot found; adds.

    `within` (d,) is the scatter of rows about the mean of their block, of which there are `blocks`.
    """

    moments: Moments
    within: Array
    blocks: int
    n_bad: int
    first_bad: int
    sample: Sample

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.moments + other.moments,
            self.within + other.within,
            self.blocks + other.blocks,
            self.n_bad + other.n_bad,
            min(self.first_bad, other.first_bad),
            self.sample + other.sample,
        )

    @property
    def order_ratio(self) -> float:
        """How much more the means of blocks differ than those of shuffled rows would: b Var(means)/mean variance.

        Mean over features; 1 for shuffled rows, up to the rows of a block for sorted ones.
        """
        n, blocks, total = self.moments.weight, self.blocks, np.diag(self.moments.scatter)
        spread = (self.within > 1e-12 * total) & (total > 0)
        if not spread.any() or blocks < 2 or n <= blocks:
            return 1.0
        between = np.maximum(total - self.within, 0.0)[spread] / (blocks - 1)
        return float(np.mean(between / (self.within[spread] / (n - blocks))))

    @property
    def is_sorted(self) -> bool:
        """Whether the order of rows is certainly not random: beyond what few blocks show by chance."""
        return self.blocks > 1 and self.order_ratio > max(3.0, 1 + 5 * (2 / (self.blocks - 1)) ** 0.5)


@dataclass(frozen=True, eq=False)
class Pilot:
    """The work of the first pass.

    Parameters
    ----------
    d : int
    dtype : numpy.dtype
        Of the sample: that of the data if it is floating, else float64.
    seed : int
        Keys the sample: (seed, row number) decides, never the chunks.
    threshold : int
        Rows with keys up to it are kept: chosen so that a few more than wanted are.
    """

    d: int
    dtype: np.dtype[Any]
    seed: int
    threshold: int

    def __call__(self, blocks: Iterable[Block]) -> Findings:
        d = self.d
        moments, n_bad, first_bad = Moments(0.0, np.zeros(d), np.zeros((d, d))), 0, NONE
        within, blocks_seen = np.zeros(d), 0
        kept = [Sample(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty((0, d), self.dtype))]
        for block in blocks:
            with np.errstate(invalid="ignore", over="ignore"):
                found = Moments.of(block.rows)
            if not np.isfinite(found.scatter).all():
                bad = np.flatnonzero(~(np.abs(block.rows.astype(np.float64)) < LARGEST).all(axis=1))
                n_bad, first_bad = n_bad + len(bad), min(first_bad, block.first_row + int(bad[0]))
                continue
            moments = moments + found
            within, blocks_seen = within + np.diag(found.scatter), blocks_seen + 1
            kept.append(self._draw(block))
        columns = ([getattr(sample, name) for sample in kept] for name in ("numbers", "keys", "rows"))
        return Findings(moments, within, blocks_seen, n_bad, first_bad, Sample(*map(np.concatenate, columns)))

    def _draw(self, block: Block) -> Sample:
        keys = row_keys(self.seed, block.first_row, len(block.rows))
        chosen = np.flatnonzero(keys <= np.uint64(self.threshold))
        return Sample(chosen + block.first_row, keys[chosen], block.rows[chosen].astype(self.dtype))


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What a fit knows after its pilot: moments, the sample (m, d) and the held-out rows (h, d).

    `whole` says that the sample is all rows, in their order; there are no held-out rows then. `order_ratio` tells how
    far the order of rows is from random (1), `is_sorted` whether it certainly is not.
    """

    moments: Moments
    sample: np.ndarray
    held_out: np.ndarray
    whole: bool
    order_ratio: float = 1.0
    is_sorted: bool = False


def first_look(data: Data, seed: int, sample_rows: int, held_out_rows: int) -> FirstLook:
    """One pass over all rows.

    Raises
    ------
    DataError
        If a row holds NaN or infinity: names the first, its chunk and how many there are.
    """
    n = data.source.n
    whole = n <= sample_rows
    wanted = sample_rows + held_out_rows
    expected = (wanted + 8 * wanted**0.5 + 16) / n
    threshold = RAW_MAX - 1 if whole or expected >= 1 else int(expected * RAW_MAX)
    stored = data.source.dtype
    dtype = stored if stored in (np.float32, np.float64) else np.dtype(np.float64)
    found: Findings = data.sums(Pilot(data.source.d, dtype, seed, threshold))
    if found.n_bad:
        chunk = data.source.chunk_of(found.first_bad)
        raise DataError(
            f"{data.source.name}: Input contains NaN or infinity (or numbers beyond {LARGEST:g}) in {found.n_bad} "
            f"of {n} rows, the first in row {found.first_bad} (storage chunk {chunk}). Drop or impute these rows first."
        )
    sample = found.sample.smallest(sample_rows)
    held_out = np.empty((0, data.source.d), dtype) if whole else found.sample.smallest(held_out_rows, skip=sample_rows)
    return FirstLook(found.moments, sample, held_out, whole, found.order_ratio, found.is_sorted)
