"""Which rows are drawn for the sample: those of the smallest random keys, which do not depend on how rows are cut.

A row's key is that of a counter-based generator, or, where rows have weights, an exponential waiting time of rate w
(Efraimidis and Spirakis 2006).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.plan import make_plan
from gmmdask.sources.weights import are_bad, bad_weight, no_weight
from gmmdask.task import Block, Data, Work

RAW_MAX = 2**64
SPLIT = 55  # what a generator is for: the middle of its key
OCTAVES, ZEROTH = 1600, 1080  # powers of two that weights lie between, and where that of one is
MANY = 20  # powers of two: weights above are no numbers of rows
WEIGHTS_READ = 1 << 16  # in a block of weights alone


def row_keys(seed: int, first_row: int, n: int) -> np.ndarray:
    """A random uint64 for each of n rows from `first_row`: a function of seed and row number alone (Philox)."""
    start, skip = divmod(first_row, 4)  # one step of the counter makes four numbers
    generator = np.random.Philox(key=np.array([seed, 0x9E3779B97F4A7C15], dtype=np.uint64), counter=start)
    return generator.random_raw(n + skip)[skip:]


def keys_of(block: Block, seed: int) -> np.ndarray:
    """The random uint64 of each row (b,) of a block."""
    numbers = block.numbers
    return row_keys(seed, block.first_row, int(numbers[-1]) + 1 - block.first_row)[numbers - block.first_row]


def uniforms(keys: np.ndarray) -> Array:
    """Numbers between 0 and 1, neither of them included, from random uint64 keys, (m,) both."""
    return ((keys >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def waiting_times(keys: np.ndarray, weights: Array) -> Array:
    """Exponential variables of rates `weights` from random uint64 keys, (m,) all."""
    with np.errstate(over="ignore"):
        return -np.log(uniforms(keys)) / weights


def slack(wanted: float) -> float:
    """So many rows are kept on the average that fewer than `wanted` would be a miracle."""
    return wanted + 8 * wanted**0.5 + 16


@dataclass(frozen=True, eq=False)
class Sample:
    """Candidates of a sample: row numbers (m,), keys (m,), rows (m, d), weights (m,) or None. Adding concatenates."""

    numbers: np.ndarray
    keys: np.ndarray
    rows: np.ndarray
    weights: Array | None = None

    @classmethod
    def of(cls, samples: Sequence["Sample"]) -> "Sample":
        """The candidates of all."""
        parts = zip(*((s.numbers, s.keys, s.rows) for s in samples), strict=True)
        numbers, keys, rows = map(np.concatenate, parts)
        weights = [sample.weights for sample in samples if sample.weights is not None]
        return cls(numbers, keys, rows, np.concatenate(weights) if weights else None)

    def __add__(self, other: "Sample") -> "Sample":
        return Sample.of((self, other))

    def smallest(self, m: int, skip: int = 0) -> np.ndarray:
        """Places (m,) of the m smallest keys after the `skip` smallest, in the order of the data."""
        chosen = np.lexsort((self.numbers, self.keys))[skip : skip + m]
        return chosen[np.argsort(self.numbers[chosen])]

    def inverse_shares(self, m: int, threshold: float) -> Array:
        """What the rows of the m smallest keys stand for together: w / (1 - exp(-w τ)), τ the next key.

        `threshold` is the key that all candidates are below; infinite if these are all rows.
        """
        assert self.weights is not None
        following = float(np.partition(self.keys, m)[m]) if m < len(self.keys) else threshold
        weights = self.weights[self.smallest(m)]
        return weights / -np.expm1(-weights * following)


@dataclass(frozen=True, eq=False)
class Weights:
    """What the weights above zero are: how many lie between two powers of two (o,), and what these add up to (o,).

    `n_bad` are none, and the first of those is `bad`: its row, and itself.
    """

    counts: Array
    sums: Array
    n_bad: int = 0
    bad: tuple[int, float] | None = None

    def __add__(self, other: "Weights") -> "Weights":
        bad = min((one.bad for one in (self, other) if one.bad is not None), default=None)
        return Weights(self.counts + other.counts, self.sums + other.sums, self.n_bad + other.n_bad, bad)

    @cached_property
    def rows(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return float(self.sums.sum()) / self.rows

    @cached_property
    def unit(self) -> float:
        """A power of two (products are exact) that makes one row's weight about one, where weights are no numbers of
        rows: less than one on the average, or huge. So that "less than one row" means something for all.
        """
        power = round(np.log2(self.mean))
        return 1.0 if 0 <= power <= MANY else 2.0 ** -max(power, -1000)

    def threshold(self, wanted: int) -> float:
        """The waiting time that somewhat more than `wanted` rows do not exceed, in the unit; infinite if few do."""
        target = slack(1.05 * wanted)  # weights within a factor of two count as alike: at most 4 % fewer are kept
        if target >= self.rows:
            return np.inf
        some = self.counts > 0
        counts, rates, time = self.counts[some], self.unit * self.sums[some] / self.counts[some], 0.0
        for _ in range(100):  # Newton's steps: the expected number is concave, so they never go beyond
            waiting = counts * np.exp(-rates * time)
            time += (target - self.rows + float(waiting.sum())) / float(waiting @ rates)
        return time


@dataclass(frozen=True)
class Weigh:
    """The work of a pass over weights alone, as rows (b, 1)."""

    def __call__(self, blocks: Iterable[Block]) -> Weights:
        counts, sums, n_bad, first = np.zeros(OCTAVES), np.zeros(OCTAVES), 0, None
        for block in blocks:
            weights = block.rows[:, 0].astype(np.float64)
            bad = np.flatnonzero(are_bad(weights))
            if len(bad):
                first = first or (block.first_row + int(bad[0]), float(weights[bad[0]]))
                n_bad, weights[bad] = n_bad + len(bad), 0.0
            weights = weights[weights > 0]
            octave = np.frexp(weights)[1] + ZEROTH
            counts += np.bincount(octave, minlength=OCTAVES)
            sums += np.bincount(octave, weights, minlength=OCTAVES)
        return Weights(counts, sums, n_bad, first)


def weigh(data: Data) -> Weights:
    """One pass over the weights of the data alone, before any row is read.

    Raises
    ------
    DataError
        If one is negative or not finite (the first is named), or all are zero.
    """
    source = data.source.weights
    assert source is not None
    plan = make_plan(source.edges, data.source.d, WEIGHTS_READ)
    executor = data.executor.beside if source.in_memory else data.executor
    found: Weights = Data(source, plan, executor).sums(Weigh())
    if found.bad is not None:
        raise bad_weight(source.name, *found.bad, found.n_bad - 1)
    if not found.rows:
        raise no_weight(data.source)
    return found


@dataclass(frozen=True, eq=False)
class Except:
    """The work of a pass over all rows but some: those of these numbers (h,), which ascend.

    For passes over whole parts: blocks of a slice do not know the numbers of their rows.
    """

    numbers: np.ndarray
    work: Work

    def __call__(self, blocks: Iterable[Block]) -> Any:
        return self.work(self._rest(blocks))

    def _rest(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            numbers = block.numbers
            low, high = np.searchsorted(self.numbers, [numbers[0], numbers[-1] + 1])
            stay = np.flatnonzero(~np.isin(numbers, self.numbers[low:high], assume_unique=True))
            if len(stay):
                weights = None if block.weights is None else block.weights[stay]
                yield Block(block.rows[stay], weights, block.first_row, numbers[stay] - block.first_row)


def split(m: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of m rows of so many that are drawn at random, and of the others; both in order."""
    order = np.random.default_rng([seed, SPLIT]).permutation(rows)
    return np.sort(order[:m]), np.sort(order[m:])
