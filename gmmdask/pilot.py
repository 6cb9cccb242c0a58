"""The first pass: counts, moments, checks, a uniform sample. All of it adds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.moments import Moments, Observed
from gmmdask.sampling import RAW_MAX, Sample, keys_of, slack, split, waiting_times, weigh
from gmmdask.sources import DataError
from gmmdask.task import Block, Data

LARGEST = 1e150  # numbers beyond it have squares beyond float64
NONE = 2**63 - 1  # the first bad row, where there is none
REMEDY = "If NaN stands for values missing at random, missing='em' (--missing em) fits what is there."


@dataclass(frozen=True, eq=False)
class Findings:
    """What the pilot found; adds.

    `within` (d,) is the scatter of rows about the mean of their block. `squares` is Σ w², `blocks` the sum over blocks
    of Σ w²/Σ w: rows and blocks, if all weigh one. `low` and `high` (d,) are the least and largest of each feature,
    infinite where nobody asked.
    """

    moments: Any  # Moments, or Observed
    within: Array
    squares: float
    blocks: float
    n_bad: int
    first_bad: int
    sample: Sample
    low: Array
    high: Array

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.moments + other.moments,
            self.within + other.within,
            self.squares + other.squares,
            self.blocks + other.blocks,
            self.n_bad + other.n_bad,
            min(self.first_bad, other.first_bad),
            self.sample + other.sample,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def order_ratio(self) -> float:
        """How much more the means of blocks differ than those of shuffled rows would: b Var(means)/mean variance.

        Mean over features; 1 for shuffled rows, up to the rows of a block for sorted ones. Rows and blocks are as many
        as the weights leave effective (Kish 1965): W²/Σ w².
        """
        n, blocks, total = *self._effective, self.moments.variation
        values = np.broadcast_to(n * self.moments.known, total.shape)
        spread = (self.within > 1e-12 * total) & (total > 0) & (values > blocks)
        if not spread.any() or blocks < 2:
            return 1.0
        between = np.maximum(total - self.within, 0.0)[spread] / (blocks - 1)
        return float(np.mean(between / (self.within[spread] / (values[spread] - blocks))))

    @property
    def _effective(self) -> tuple[float, float]:
        """Rows and blocks."""
        weight = self.moments.weight
        return (weight * (weight / self.squares), self.blocks * (weight / self.squares)) if weight else (0.0, 0.0)

    @property
    def is_sorted(self) -> bool:
        """Whether the order of rows is certainly not random: beyond what few blocks show by chance."""
        blocks = self._effective[1]
        return blocks > 1 and self.order_ratio > max(3.0, 1 + 5 * (2 / (blocks - 1)) ** 0.5)


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
    threshold : int or float
        Rows with keys up to it are kept: chosen so that a few more than wanted are. A float where rows have weights:
        keys are waiting times then.
    box : bool
        Whether the least and largest of each feature are wanted.
    missing : bool
        Whether NaN is a missing value, and not a bad one.
    """

    d: int
    dtype: np.dtype[Any]
    seed: int
    threshold: int | float
    box: bool = False
    missing: bool = False

    def __call__(self, blocks: Iterable[Block]) -> Findings:
        d, kind = self.d, Observed if self.missing else Moments
        moments: Any = Moments(0.0, np.zeros(d), np.zeros((d, d)))
        if self.missing:
            moments = Observed(0.0, *np.zeros((3, d)))
        n_bad, first_bad = 0, NONE
        within, squares, blocks_seen = np.zeros(d), 0.0, 0.0
        low, high = np.full(d, np.inf), np.full(d, -np.inf)
        kept = [self._none()]
        for block in blocks:
            with np.errstate(invalid="ignore", over="ignore"):
                found: Any = kind.of(block.rows, block.weights)
            if not np.isfinite(found.variation).all():
                bad = np.flatnonzero(are_bad_rows(block.rows, self.missing))
                n_bad, first_bad = n_bad + len(bad), min(first_bad, int(block.numbers[bad[0]]))
                continue
            moments = moments + found
            square = found.weight if block.weights is None else float(block.weights @ block.weights)
            within, squares = within + found.variation, squares + square
            blocks_seen += square / found.weight
            kept.append(self._draw(block))
            if self.box:
                low, high = np.minimum(low, block.rows.min(axis=0)), np.maximum(high, block.rows.max(axis=0))
        return Findings(moments, within, squares, blocks_seen, n_bad, first_bad, Sample.of(kept), low, high)

    def _none(self) -> Sample:
        weighted = isinstance(self.threshold, float)
        keys, weights = np.empty(0, np.float64 if weighted else np.uint64), np.empty(0) if weighted else None
        return Sample(np.empty(0, np.int64), keys, np.empty((0, self.d), self.dtype), weights)

    def _draw(self, block: Block) -> Sample:
        numbers, weights, keys = block.numbers, block.weights, keys_of(block, self.seed)
        if weights is None:
            chosen = np.flatnonzero(keys <= np.uint64(self.threshold))
            return Sample(numbers[chosen], keys[chosen], block.rows[chosen].astype(self.dtype))
        times = waiting_times(keys, weights)
        chosen = np.flatnonzero(times <= self.threshold)
        return Sample(numbers[chosen], times[chosen], block.rows[chosen].astype(self.dtype), weights[chosen])


def are_bad_rows(rows: np.ndarray, missing: bool) -> np.ndarray:
    """Whether rows (m, d) hold infinity, numbers beyond `LARGEST`, or NaN if that is no missing value."""
    fine: np.ndarray = np.abs(rows.astype(np.float64)) < LARGEST
    if missing:
        fine |= np.isnan(rows)
    return np.asarray(~fine.all(axis=1))


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What a fit knows after its pilot: moments, the sample (m, d) and the held-out rows (h, d).

    `whole` says that the sample is all rows that count, in their order; there are no held-out rows then. `order_ratio`
    tells how far the order of rows is from random (1), `is_sorted` whether it certainly is not.

    Where rows have weights, those of the sample and of the held-out rows are here, and all weights of the fit are in
    `unit`: the moments', and those of a sample that is not whole are such that its rows weigh what rows weigh on the
    average.

    `low` and `high` (d,) are the least and largest of each feature, `numbers` (m,) those of the sample's rows and
    `own_weights` (m,) their weights as they are, if these were asked for.
    """

    moments: Moments
    sample: np.ndarray
    held_out: np.ndarray
    whole: bool
    order_ratio: float = 1.0
    is_sorted: bool = False
    sample_weights: Array | None = None
    held_out_weights: Array | None = None
    unit: float = 1.0
    low: Array | None = None
    high: Array | None = None
    numbers: np.ndarray | None = None
    own_weights: Array | None = None

    @property
    def fits(self) -> bool:
        """Whether its arrays go together: asked of what comes out of a file."""
        d, rows = self.moments.mean.size, (self.sample, self.held_out)
        same = all(array.shape[1:] == (d,) and array.dtype == self.sample.dtype for array in rows)
        same &= all(corner is None or corner.shape == (d,) for corner in (self.low, self.high))
        return same and len(self.sample) > 0 and self.moments.scatter.shape == (d, d)


def moments_of(observed: Observed, name: str, blank: bool) -> Moments:
    """Moments as far as they are known; DataError if a feature has no value, unless it may be `blank`."""
    if not (blank or observed.weights.all()):
        unknown = np.flatnonzero(observed.weights == 0).tolist()
        raise DataError(f"{name}: features {unknown} have no value in any row: nothing can be learned. Leave them out.")
    return observed.moments


def first_look(
    data: Data,
    seed: int,
    sample_rows: int,
    held_out_rows: int,
    box: bool = False,
    numbered: bool = False,
    missing: bool = False,
    blank: bool = False,
) -> FirstLook:
    """One pass over all rows, after one over their weights if they have some. With `box`, least and largest are told;
    with `numbered`, which rows the sample has.

    With `missing`, NaN is a missing value: moments are those of each feature alone, and the sample has gaps. With
    `blank`, a feature may be without any value: nothing is learned of these rows.

    Raises
    ------
    DataError
        If a row holds NaN or infinity: names the first, its chunk and how many there are. If weights are none. If a
        feature has no value, and is not to be `blank`.
    """
    n, wanted = data.source.n, sample_rows + held_out_rows
    weights = None if data.source.weights is None else weigh(data)
    whole = (n if weights is None else weights.rows) <= sample_rows
    threshold: int | float
    if weights is None:
        share = slack(wanted) / n
        threshold = RAW_MAX - 1 if whole or share >= 1 else int(share * RAW_MAX)
    else:
        threshold, data = np.inf if whole else weights.threshold(wanted), data.in_unit(weights.unit)
    stored = data.source.dtype
    dtype = stored if stored in (np.float32, np.float64) else np.dtype(np.float64)
    found: Findings = data.sums(Pilot(data.source.d, dtype, seed, threshold, box, missing))
    if found.n_bad:
        chunk = data.source.chunk_of(found.first_bad)
        what, remedy = ("infinity", "") if missing else ("NaN or infinity", f" {REMEDY}")
        raise DataError(
            f"{data.source.name}: Input contains {what} (or numbers beyond {LARGEST:g}) in {found.n_bad} of {n} rows, "
            f"the first in row {found.first_bad} (storage chunk {chunk}). Drop or impute these rows first.{remedy}"
        )
    drawn, order = found.sample, (found.order_ratio, found.is_sorted)
    if missing:
        found = replace(found, moments=moments_of(found.moments, data.source.name, blank))
    low, high = (found.low, found.high) if box else (None, None)
    if weights is None:
        first = drawn.smallest(sample_rows)
        held_out = drawn.rows[drawn.smallest(0 if whole else held_out_rows, skip=sample_rows)]
        look = FirstLook(found.moments, drawn.rows[first], held_out, whole, *order, low=low, high=high)
        return replace(look, numbers=drawn.numbers[first]) if numbered else look
    chosen = drawn.smallest(sample_rows if whole else wanted)
    rows, stand_for = drawn.rows[chosen], drawn.inverse_shares(len(chosen), float(threshold))
    if not whole:
        stand_for *= len(rows) * (found.moments.weight / weights.rows) / stand_for.sum()
    first, rest = split(min(sample_rows, len(rows)), len(rows), seed)
    of_sample, places = (stand_for[first], stand_for[rest]), chosen[first]
    look = FirstLook(found.moments, rows[first], rows[rest], whole, *order, *of_sample, weights.unit, low, high)
    if not numbered or drawn.weights is None:
        return look
    return replace(look, numbers=drawn.numbers[places], own_weights=drawn.weights[places])
