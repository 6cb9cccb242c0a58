"""Rows of a dask array: its blocks become inputs of our tasks."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import dask.array
import numpy as np

from gmmdask.sources._base import DataError, Source, checked_shape


class DaskSource(Source):
    """Rows of a dask array with one chunk of columns.

    Every pass computes the array's graph again, and a task holds its part's blocks in memory: persist the array
    first if it is dear to make and fits. Unknown chunk sizes are counted first, by computing the array once.
    """

    def __init__(self, array: Any, name: str = "the dask array", feature_names: tuple[str, ...] | None = None) -> None:
        self.name, self.feature_names = name, feature_names
        if array.ndim == 2 and array.numblocks[1] > 1:
            array = array.rechunk({1: -1})
        if np.isnan(array.shape).any():
            array = array.copy()
            array.compute_chunk_sizes()
        self.n, self.d = checked_shape(self.name, array.shape, array.dtype)
        self.dtype = array.dtype
        (self.array,) = dask.optimize(array)
        self.edges = np.concatenate([[0], np.cumsum(array.chunks[0], dtype=np.int64)])
        self.blocks = np.flatnonzero(np.diff(self.edges))
        self.edges = np.unique(self.edges)
        if not isinstance(array._meta, np.ndarray):
            raise DataError(f"{self.name}: expected blocks of NumPy arrays, found {type(array._meta).__name__}.")

    def fingerprint(self) -> dict[str, Any]:
        return {"kind": "dask", "shape": [self.n, self.d], "dtype": str(self.dtype), "token": self.array.name}

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for index in range(*np.searchsorted(self.edges, [start, stop])):
            yield np.asarray(self.array.blocks[int(self.blocks[index])].compute(scheduler="synchronous"))

    @property
    def graph(self) -> Mapping[Hashable, Any]:
        return dict(self.array.__dask_graph__())

    def argument(self, start: int, stop: int) -> Any:
        first, last = np.searchsorted(self.edges, [start, stop])
        return [(self.array.name, int(block), 0) for block in self.blocks[first:last]]

    def read_bytes(self, start: int, stop: int) -> int:
        return (stop - start) * self.d * self.dtype.itemsize
