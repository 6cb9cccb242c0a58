"""Weights of rows: a second source of n numbers beside the rows', stored and cut in its own way."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from gmmdask.sources import DataError, Source, addresses, comes_from, is_parquet, is_path, open_source
from gmmdask.sources.array import ArraySource

NAME = "sample_weight"
LARGEST_WEIGHT = 1e150  # sums of larger ones leave float64


class WeightedSource(Source):
    """Rows of one source, and their weights from another, whose chunks may be cut anywhere else.

    It is read as its rows are; who wants the weights reads `weights`, whole chunks of it (`covering`).
    """

    weights: Source

    def __init__(self, rows: Source, weights: Source) -> None:
        for name in Source.__annotations__:
            setattr(self, name, getattr(rows, name))  # what a source tells of itself is said of the rows
        self.rows, self.weights, self.paths = rows, weights, [*rows.paths, *addresses(weights)]

    def fingerprint(self) -> dict[str, Any]:
        """That of the rows, with the weights' in it; those in memory by all their values: most are alike."""
        known = self.weights.fingerprint()
        if isinstance(self.weights, ArraySource):
            known["digest"] = hashlib.sha256(np.ascontiguousarray(self.weights.array).tobytes()).hexdigest()[:16]
        return {**self.rows.fingerprint(), "weights": known}

    def changes(self, chunks: bool) -> str:
        return "; ".join(filter(None, (part.changes(chunks) for part in (self.rows, self.weights))))

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        return self.rows.read(start, stop)

    def read_bytes(self, start: int, stop: int) -> int:
        return self.rows.read_bytes(start, stop) + self.weights.read_bytes(*covering(self.weights, start, stop))

    @property
    def graph(self) -> Any:
        return self.rows.graph

    def argument(self, start: int, stop: int) -> Any:
        return self.rows.argument(start, stop)

    @property
    def row_bytes(self) -> int:
        return self.rows.row_bytes + self.weights.row_bytes


def covering(source: Source, start: int, stop: int) -> tuple[int, int]:
    """The whole storage chunks that hold rows [start, stop), as rows."""
    first, last = np.searchsorted(source.edges, start, side="right") - 1, np.searchsorted(source.edges, stop)
    return int(source.edges[first]), int(source.edges[last])


def weighted(rows: Source, weights: Any, **options: Any) -> Source:
    """The rows with weights; as they are, if there are none.

    Parameters
    ----------
    weights : (n,) or (n, 1) numbers that are not negative, in anything that rows may come from: an array, dask or Zarr
        array, path of a .npy file or Zarr array, Parquet with one column, Source. None: every row weighs one.
    options : of the class of the weights' source.

    Raises
    ------
    DataError
        If they are no real numbers, or not one a row. What they are is found out when they are read.
    """
    if weights is None:
        return rows
    found = open_weights(weights, **options)
    if found.d != 1:
        raise DataError(
            f"{found.name}: expected one weight a row, found {found.d} columns. Give an array of shape ({rows.n},), or "
            "one column by name: open_source(path, columns=['weight']), --weights-column."
        )
    if found.n != rows.n:
        raise DataError(
            f"{found.name}: {found.n} weights for {rows.n} rows of {rows.name}. Every row needs one: give both of the "
            "same rows, in the same order."
        )
    return WeightedSource(rows, found)


def open_weights(weights: Any, **options: Any) -> Source:
    """A source of one column for whatever a weights argument may be."""
    if isinstance(weights, Source) or is_parquet(weights):
        return open_source(weights, **options)
    if is_path(weights) or comes_from(weights, "zarr"):
        return open_source(weights, column=True, **options)
    weights = weights.data if comes_from(weights, "xarray") else weights
    if comes_from(weights, "dask"):
        array = weights.to_dask_array() if hasattr(weights, "to_dask_array") else weights
        found = open_source(array[:, None] if array.ndim == 1 else array, **options)
        found.name = NAME
        return found
    array = np.asarray(weights)
    return ArraySource(array[:, None] if array.ndim == 1 else array, NAME)


def checked_weights(values: np.ndarray, first_row: int, name: str) -> np.ndarray:
    """Weights (m,) of rows from `first_row` on, as float64.

    Raises
    ------
    DataError
        If one is negative, NaN, infinite or too large to be summed: names the first, and its row.
    """
    weights = np.ascontiguousarray(values, dtype=np.float64)
    bad = are_bad(weights)
    if bad.any():
        at = int(np.argmax(bad))
        raise bad_weight(name, first_row + at, weights[at])
    return weights


def are_bad(weights: np.ndarray) -> np.ndarray:
    """Which of the weights (m,) are none."""
    return ~((weights >= 0) & (weights <= LARGEST_WEIGHT))


def bad_weight(name: str, row: int, value: float, more: int = 0) -> DataError:
    """What to say of a weight that is none, and of how many more."""
    others = f" (and {more} more are as bad)" if more else ""
    return DataError(
        f"{name}: the weight of row {row} is {value:g}; expected numbers from 0 to {LARGEST_WEIGHT:g}{others}. Give "
        "weight 0 to rows that should not count."
    )


def no_weight(source: Source) -> DataError:
    """What to say where no row counts."""
    assert source.weights is not None
    return DataError(
        f"{source.weights.name}: all {source.n} weights are zero, so no row of {source.name} counts. Give some rows a "
        "weight above zero."
    )
