"""What a source of rows has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gmmdask.storage import Entrusted

Edges = np.ndarray
READ_BYTES = 8 << 20  # a read is whole chunks of about this size


class DataError(ValueError):
    """Data that cannot be fitted: says what was found where, what was expected, and what to do."""


class Source(ABC):
    """n rows of d real features, in storage chunks, readable row range by row range inside a task.

    Attributes
    ----------
    name : str
        How messages and provenance call it. Never holds a credential.
    n, d : int
    dtype : numpy.dtype
        Of the rows as stored; floating or integer.
    edges : (c + 1,) int64
        Row numbers at which storage chunks begin, and n.
    in_memory : bool
        Whether the rows live in this process and must travel to a worker.
    paths : sequence of str
        The files that hold the rows, where the address names several.
    divisible : bool
        Whether `read` takes any rows, not only whole chunks.
    feature_names : tuple of str or None
        Of the columns, if these have names and all are strings.
    weights : Source or None
        Of the rows' weights, (n, 1); None where every row weighs one. See `gmmdask.sources.weights`.
    entrusted : Entrusted or None
        What opens the store and no task may hold; it is delivered to where tasks run.
    """

    name: str
    n: int
    d: int
    dtype: np.dtype[Any]
    edges: Edges
    in_memory: bool = False
    paths: Sequence[str] = ()
    divisible: bool = False
    feature_names: tuple[str, ...] | None = None
    weights: "Source | None" = None
    entrusted: Entrusted | None = None

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What tells these data from others: address, shape, dtype, chunks; JSON values only."""

    def changes(self, chunks: bool) -> str:
        """What is different in the store now from what it was when the source was opened, in words; "" for nothing.

        With `chunks`, each of them is looked for, which may take long.
        """
        return ""

    @abstractmethod
    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Arrays (m, d) that together are rows [start, stop), each small enough to hold. Called inside tasks."""

    @abstractmethod
    def read_bytes(self, start: int, stop: int) -> int:
        """Most bytes of the source that a task holds at once while it goes through rows [start, stop)."""

    @property
    def graph(self) -> Mapping[Hashable, Any]:
        """Tasks that have to run before the source can be read; most sources need none."""
        return {}

    def argument(self, start: int, stop: int) -> Any:
        """What a task that reads [start, stop) is given: a source, or keys of `graph` whose values are its rows."""
        return self

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as stored, and of its weight."""
        return self.d * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows of the largest storage chunk."""
        return int(np.diff(self.edges).max())

    def chunk_of(self, row: int) -> int:
        """The number of the storage chunk that holds a row."""
        return int(np.searchsorted(self.edges, row, side="right")) - 1


def checked_shape(name: str, shape: tuple[int, ...], dtype: Any) -> tuple[int, int]:
    """(n, d) of an array that can be fitted.

    Raises
    ------
    DataError
        If it is not 2-d, is empty, or holds something other than real numbers.
    """
    if len(shape) != 2:
        hint = "reshape it to (n, 1) if it is one feature" if len(shape) == 1 else "reshape it to (rows, features)"
        raise DataError(
            f"{name}: expected a 2-d array of rows and features, found {len(shape)} dimensions, shape {shape}. "
            f"Reshape your data: {hint}."
        )
    n, d = (int(length) for length in shape)
    if n == 0 or d == 0:
        what = "Found array with 0 sample(s)" if n == 0 else "0 feature(s)"
        raise DataError(f"{name}: {what} (shape=({n}, {d})) while a minimum of 1 is required: there is nothing to fit.")
    if np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize > 8:
        raise DataError(f"{name}: expected at most float64, found dtype {np.dtype(dtype)}. Convert the array first.")
    if np.dtype(dtype).kind not in "fiub":
        kinds = {"c": "Complex data not supported", "O": "objects", "U": "strings", "S": "byte strings"}
        found = kinds.get(np.dtype(dtype).kind, "no real numbers")
        raise DataError(
            f"{name}: expected real numbers, found dtype {np.dtype(dtype)} ({found}). "
            "Convert the array to float32 or float64 first, encoding categories as numbers."
        )
    return n, d


def names_of(columns: Iterable[Any], name: str) -> tuple[str, ...] | None:
    """Names of features, if all of these are strings; None if none is.

    Raises
    ------
    TypeError
        If some are, as in scikit-learn.
    """
    found = list(columns)
    if all(isinstance(column, str) for column in found):
        return tuple(str(column) for column in found)
    if any(isinstance(column, str) for column in found):
        kinds = sorted({type(column).__name__ for column in found})
        raise TypeError(
            f"{name}: Feature names are only supported if all input features have string names, found names of types "
            f"{kinds}. Rename the columns: all strings, or none."
        )
    return None


def as_column(shape: tuple[int, ...], column: bool) -> tuple[int, ...]:
    """The shape of an array of which n numbers count as n rows of one feature, if `column` says so."""
    return (*shape, 1) if column and len(shape) == 1 else shape


def regular_edges(n: int, chunk: int) -> Edges:
    """Edges of chunks of equal size, the last one shorter."""
    return np.append(np.arange(0, n, chunk, dtype=np.int64), n)
