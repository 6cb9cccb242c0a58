"""The first pass: counts, moments, checks, a uniform sample. All of it adds."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.sources import DataError
from gmmdask.task import Block, Data

RAW_MAX = 2**64


@dataclass(frozen=True, eq=False)
class Moments:
    """Weight, mean (d,) and central scatter (d, d) of some rows; adds as Chan, Golub and LeVeque (1979) merge."""

    weight: float
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, rows: np.ndarray) -> "Moments":
        """Of rows (b, d): sums are taken about the first row, then about the mean, so that no offset costs digits."""
        n = len(rows)
        near = rows - rows[0].astype(np.float64)
        mean = near.mean(axis=0)
        near -= mean
        rest = near.sum(axis=0)
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
    rows: Array

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.rows, other.rows]),
        )

    def smallest(self, m: int, skip: int = 0) -> Array:
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
    """What the pilot found; adds."""

    moments: Moments
    low: Array
    high: Array
    n_bad: int
    first_bad: int
    sample: Sample

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.moments + other.moments,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.n_bad + other.n_bad,
            min(self.first_bad, other.first_bad),
            self.sample + other.sample,
        )


@dataclass(frozen=True, eq=False)
class Pilot:
    """The work of the first pass.

    Parameters
    ----------
    d : int
    seed : int
        Keys the sample: (seed, row number) decides, never the chunks.
    threshold : int
        Rows with keys up to it are kept: chosen so that a few more than wanted are.
    """

    d: int
    seed: int
    threshold: int

    def __call__(self, blocks: Iterable[Block]) -> Findings:
        d = self.d
        empty = Sample(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty((0, d)))
        total = Findings(
            Moments(0.0, np.zeros(d), np.zeros((d, d))),
            np.full(d, np.inf),
            np.full(d, -np.inf),
            0,
            np.iinfo(np.int64).max,
            empty,
        )
        kept = [empty]
        for block in blocks:
            total, sample = total + self._look(block, empty), self._draw(block)
            kept.append(sample)
        numbers, keys, rows = ([getattr(s, name) for s in kept] for name in ("numbers", "keys", "rows"))
        sample = Sample(np.concatenate(numbers), np.concatenate(keys), np.concatenate(rows))
        return Findings(total.moments, total.low, total.high, total.n_bad, total.first_bad, sample)

    def _look(self, block: Block, empty: Sample) -> Findings:
        rows = block.rows
        low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
        n_bad, first_bad = 0, np.iinfo(np.int64).max
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            n_bad, first_bad = len(bad), block.first_row + int(bad[0])
            rows = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
        return Findings(Moments.of(rows), low, high, n_bad, first_bad, empty)

    def _draw(self, block: Block) -> Sample:
        keys = row_keys(self.seed, block.first_row, len(block.rows))
        chosen = np.flatnonzero(keys <= np.uint64(self.threshold))
        return Sample(chosen + block.first_row, keys[chosen], block.rows[chosen].astype(np.float64))


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What a fit knows after its pilot: moments, range, the sample (m, d) and the held-out rows (h, d).

    `whole` says that the sample is all rows, in their order; there are no held-out rows then.
    """

    moments: Moments
    low: Array
    high: Array
    sample: Array
    held_out: Array
    whole: bool


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
    found: Findings = data.sums(Pilot(data.source.d, seed, threshold))
    if found.n_bad:
        chunk = data.source.chunk_of(found.first_bad)
        raise DataError(
            f"{data.source.name}: Input contains NaN or infinity in {found.n_bad} of {n} rows, the first in row "
            f"{found.first_bad} (storage chunk {chunk}). Drop or impute these rows before the fit."
        )
    sample = found.sample.smallest(sample_rows)
    held_out = np.empty((0, data.source.d)) if whole else found.sample.smallest(held_out_rows, skip=sample_rows)
    return FirstLook(found.moments, found.low, found.high, sample, held_out, whole)
