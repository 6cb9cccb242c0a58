"""Rows of a .npy file behind a URL."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.lib import format as npy

from gmmdask.place import Place, open_system
from gmmdask.sources._base import READ_BYTES, DataError, Source, as_column, checked_shape, regular_edges
from gmmdask.sources.array import ARRAY_CHUNK, some_rows
from gmmdask.storage import is_transient, patiently

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpyUrlSource(Source):
    """Rows of a .npy file, read by ranges of bytes through fsspec; `column` as of `NpySource`.

    Raises
    ------
    DataError
        If no such file can be read there, or it ends too early.
    """

    def __init__(self, url: str | Place, column: bool = False) -> None:
        self.name, self.entrusted = str(url), Place(url).entrusted
        shape, self.fortran, self.dtype, self.offset, size = patiently(self._header, self.name)
        self.n, self.d = checked_shape(self.name, as_column(shape, column), self.dtype)
        wanted = self.offset + self.n * self.d * self.dtype.itemsize
        if size is not None and size < wanted:
            raise DataError(f"{self.name}: expected {wanted} bytes, found {size}: a truncated copy. Copy it again.")
        self.edges = regular_edges(self.n, ARRAY_CHUNK)

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any], int, int | None]:
        """Shape, whether columns are stored one after another, dtype; the header's bytes and the file's."""
        try:
            with self._open() as file:
                shape, fortran, dtype = HEADERS[npy.read_magic(file)](file)
                return shape, fortran and len(shape) > 1, dtype, file.tell(), getattr(file, "size", None)
        except Exception as error:
            if isinstance(error, ImportError) or is_transient(error):
                raise
            raise DataError(
                f"{self.name}: no .npy file can be read there ({type(error).__name__}: {error}). Check the URL, and "
                "compare its size with the original's."
            ) from error

    def _open(self) -> Any:
        system, path = open_system(self.name, self.entrusted)
        return system.open(path, "rb")

    def fingerprint(self) -> dict[str, Any]:
        rows = some_rows(np.concatenate([self._rows(i, i + 1) for i in (0, self.n // 2, self.n - 1)]))
        shape = [self.n, self.d]
        return {"kind": "npy", "address": self.name, "shape": shape, "dtype": str(self.dtype), "rows": rows}

    @property
    def _step(self) -> int:
        return max(1, READ_BYTES // (self.d * self.dtype.itemsize))

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, self._step):
            last = min(stop, first + self._step)
            yield patiently(partial(self._rows, first, last), f"{self.name}: rows {first} to {last - 1}")

    def _rows(self, first: int, last: int) -> np.ndarray:
        with self._open() as file:
            if not self.fortran:
                return self._numbers(file, first * self.d, (last - first) * self.d).reshape(-1, self.d)
            rows = np.empty((last - first, self.d), self.dtype)
            for j in range(self.d):
                rows[:, j] = self._numbers(file, j * self.n + first, last - first)
            return rows

    def _numbers(self, file: Any, first: int, count: int) -> np.ndarray:
        """`count` numbers of the file, from number `first`."""
        file.seek(self.offset + first * self.dtype.itemsize)
        found = file.read(count * self.dtype.itemsize)
        if len(found) < count * self.dtype.itemsize:
            raise DataError(f"{self.name}: the file ends before row {self.n - 1}: it was cut since the fit began.")
        return np.frombuffer(found, self.dtype)

    def read_bytes(self, start: int, stop: int) -> int:
        """The bytes as they come and the rows; and the rows that were read before."""
        return 4 * min(self._step, stop - start) * self.d * self.dtype.itemsize
