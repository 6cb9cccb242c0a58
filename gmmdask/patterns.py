"""Rows with gaps, sorted by what they lack and cut into batches: those that lack the same are worked on together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.frame import Frame
from gmmdask.kernels import Scratch

BATCH_SIZE = 1 << 19  # numbers of a batch's rows about all means, K d b
LEAST_ROWS = 16  # of a batch, whatever they take
INVERSES = 1 << 18  # numbers of inverse matrices that a batch may need, m² for each pattern of m gaps and component


@dataclass(frozen=True, eq=False)
class Pattern:
    """Rows [start, stop) of a batch that lack the same features, `gaps` (m,); `key` names these."""

    key: bytes
    gaps: np.ndarray
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a block, sorted by pattern: those without gaps come first.

    Parameters
    ----------
    places : (b,) of the rows in the block.
    gaps : (b, d), where values are missing.
    x : (d, b), in frame coordinates, zero in gaps.
    patterns : one for all, if features are independent within a component.
    """

    places: np.ndarray
    gaps: np.ndarray
    x: Array
    patterns: tuple[Pattern, ...]

    @cached_property
    def whole(self) -> int:
        """Rows without gaps."""
        first = self.patterns[0]
        return 0 if len(first.gaps) else first.stop

    @cached_property
    def there(self) -> Array:
        """1 where there is a value of the rows with gaps, else 0, (d, b - whole)."""
        return np.ascontiguousarray(~self.gaps[self.whole :].T, dtype=np.float64)


class Cutter:
    """Cuts blocks of rows into batches, and holds the memory that all mixtures of a frame, family and K work in.

    `entries` is what Λ_mm⁻¹ of a pattern with m gaps takes, divided by m².
    """

    def __init__(self, frame: Frame, family: Family, n_components: int, rows: int) -> None:
        self.frame, self.family, d = frame, family, frame.d
        self.entries = 0 if family.aligned else 1 if family.shared else n_components
        self.log_scales = np.log(frame.matrix) if frame.matrix.ndim == 1 else np.zeros(d)
        self.rows = batch_rows(n_components, d, rows)
        self.entering, self.x = Scratch(d, self.rows), Scratch(d, self.rows)
        self.z = Scratch(n_components * d, self.rows)
        self.turned = Scratch(n_components * d if self.entries else 0, self.rows)
        self.joint = Scratch(n_components, self.rows)

    def batches(self, rows: np.ndarray) -> Iterator[Batch]:
        """All rows (b, d), given in data units; NaN is missing. What a batch holds is overwritten by the next.

        Raises
        ------
        ValueError
            If values are missing, and the frame would mix them with others.
        """
        gaps = np.isnan(rows)
        if self.frame.matrix.ndim == 2 and gaps.any():
            raise ValueError("rows with missing values need a frame that keeps features apart: Frame.by_feature.")
        order, patterns = sorted_by_pattern(gaps) if self.entries else as_they_are(gaps)
        for runs in self._cut(patterns):
            first = runs[0].start
            places = order[first : runs[-1].stop]
            b, of_batch = len(places), gaps[places]
            x = self.x.take(rows.shape[1], b)
            self.frame.enter(rows[places], self.entering.take(b, rows.shape[1]), x)
            np.copyto(x, 0.0, where=of_batch.T)
            moved = (Pattern(run.key, run.gaps, run.start - first, run.stop - first) for run in runs)
            yield Batch(places, of_batch, x, tuple(moved))

    def _cut(self, patterns: Iterable[Pattern]) -> Iterator[list[Pattern]]:
        """Patterns of one batch after another; one of many rows is in several."""
        found, rows, numbers = list[Pattern](), 0, 0
        for pattern in patterns:
            start, size = pattern.start, self.entries * len(pattern.gaps) ** 2
            while start < pattern.stop:
                if found and (rows == self.rows or numbers + size > INVERSES):
                    yield found
                    found, rows, numbers = [], 0, 0
                end = min(pattern.stop, start + self.rows - rows)
                found.append(Pattern(pattern.key, pattern.gaps, start, end))
                rows, numbers, start = rows + end - start, numbers + size, end
        yield found


def batch_rows(n_components: int, d: int, rows: int) -> int:
    """Rows of a batch, from blocks of `rows`."""
    return min(rows, max(LEAST_ROWS, BATCH_SIZE // (n_components * d)))


def sorted_by_pattern(gaps: np.ndarray) -> tuple[np.ndarray, Iterator[Pattern]]:
    """An order of rows (b,) by what they lack, (b, d), and the patterns in it."""
    packed = np.packbits(gaps, axis=1)
    codes = np.zeros((len(gaps), -(-packed.shape[1] // 8)), np.uint64)
    codes.view(np.uint8)[:, : packed.shape[1]] = packed
    order = np.lexsort(codes.T[::-1])
    codes = codes[order]
    changes = (codes[1:] != codes[:-1]).any(axis=1)
    bounds = np.concatenate([[0], 1 + np.flatnonzero(changes), [len(gaps)]])
    of_patterns = gaps[order[bounds[:-1]]]

    def patterns() -> Iterator[Pattern]:
        lacking, at = np.nonzero(of_patterns)[1], 0
        for (start, stop), m in zip(pairwise(bounds.tolist()), of_patterns.sum(axis=1).tolist(), strict=True):
            yield Pattern(codes[start].tobytes(), lacking[at : at + m], start, stop)
            at += m

    return order, patterns()


def as_they_are(gaps: np.ndarray) -> tuple[np.ndarray, Iterator[Pattern]]:
    """All rows in their order, as if they lacked the same: where it does not matter who lacks what."""
    return np.arange(len(gaps)), iter([Pattern(b"", np.flatnonzero(gaps.any(axis=0)), 0, len(gaps))])
