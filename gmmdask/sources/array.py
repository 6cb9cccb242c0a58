"""Rows in memory, and rows in a .npy file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gmmdask.sources._base import READ_BYTES, DataError, Source, as_column, checked_shape, regular_edges

ARRAY_CHUNK = 8192  # an array can be cut anywhere; this is where


class ArraySource(Source):
    """Rows of a NumPy array, read without copying."""

    in_memory = True

    def __init__(
        self,
        array: Any,
        name: str = "the array",
        first: int = 0,
        feature_names: tuple[str, ...] | None = None,
    ) -> None:
        self.name, self.feature_names, array = name, feature_names, numbers_of(np.asarray(array), name)
        self.n, self.d = checked_shape(name, array.shape, array.dtype)
        self.dtype, self.array, self.first = array.dtype, array, first
        self.edges = regular_edges(self.n, ARRAY_CHUNK)

    def fingerprint(self) -> dict[str, Any]:
        named = {} if self.feature_names is None else {"columns": list(self.feature_names)}
        known = {"shape": [self.n, self.d], "dtype": str(self.dtype), "rows": some_rows(self.array)}
        return {"kind": "array", **known, **named}

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        yield self.array[start - self.first : stop - self.first]

    def argument(self, start: int, stop: int) -> Any:
        return ArraySource(self.array[start:stop], self.name, first=start)

    def read_bytes(self, start: int, stop: int) -> int:
        return 0


class NoNumbersError(DataError, TypeError):
    """Objects that are no numbers."""


def numbers_of(array: np.ndarray, name: str) -> np.ndarray:
    """The array; as float64 if its numbers came as Python objects, which a table of mixed columns makes of them."""
    if array.dtype != object:
        return array
    try:
        return np.fromiter(map(float, array.flat), np.float64, array.size).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise NoNumbersError(
            f"{name}: expected real numbers, found objects: {error}. Convert the array to float64 first, encoding "
            "categories as numbers."
        ) from error


class NpySource(Source):
    """Rows of a .npy file, read by offset: the file is never mapped whole into a task.

    With `column`, an array of n numbers counts as n rows of one feature.
    """

    def __init__(self, path: str | Path, column: bool = False) -> None:
        self.path = str(Path(path).absolute())
        self.name = str(path)
        try:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(
                f"{self.name}: not a readable .npy file ({error}). A truncated copy is the usual reason: compare its "
                "size with the original's. Arrays of objects are refused because reading them runs code."
            ) from error
        self.n, self.d = checked_shape(self.name, as_column(mapped.shape, column), mapped.dtype)
        self.dtype, self.fortran = mapped.dtype, not mapped.flags.c_contiguous
        self.offset = int(mapped.offset)
        self.edges = regular_edges(self.n, ARRAY_CHUNK)

    def fingerprint(self) -> dict[str, Any]:
        rows = some_rows(np.load(self.path, mmap_mode="r", allow_pickle=False))
        shape = [self.n, self.d]
        return {"kind": "npy", "address": self.path, "shape": shape, "dtype": str(self.dtype), "rows": rows}

    @property
    def _step(self) -> int:
        return max(1, READ_BYTES // (self.d * self.dtype.itemsize))

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        step = self._step
        for first in range(start, stop, step):
            last = min(stop, first + step)
            if self.fortran:
                yield np.ascontiguousarray(self._mapped()[first:last])
                continue
            offset = self.offset + first * self.d * self.dtype.itemsize
            rows = np.fromfile(self.path, self.dtype, (last - first) * self.d, offset=offset)
            if rows.size != (last - first) * self.d:
                raise self._cut()
            yield rows.reshape(last - first, self.d)

    def _mapped(self) -> np.ndarray:
        try:
            return np.memmap(self.path, self.dtype, "r", self.offset, (self.n, self.d), order="F")
        except ValueError:
            raise self._cut() from None

    def _cut(self) -> DataError:
        return DataError(f"{self.name}: the file ends before row {self.n - 1}: it was cut since the fit began.")

    def read_bytes(self, start: int, stop: int) -> int:
        return 2 * min(self._step, stop - start) * self.d * self.dtype.itemsize  # one is read while one is worked on


def some_rows(array: np.ndarray) -> str:
    """A digest of the first, the middle and the last row: cheap, and tells most other data of the same shape."""
    return hashlib.sha256(np.ascontiguousarray(array[[0, len(array) // 2, -1]]).tobytes()).hexdigest()[:16]
