"""Rows of Parquet files: columns are features, row groups are storage chunks."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gmmdask.place import Place, open_system
from gmmdask.sources._base import READ_BYTES, DataError, Source, checked_shape
from gmmdask.storage import Entrusted, NotEntrustedError, is_transient, patiently

try:
    import pyarrow
    import pyarrow.parquet
except ImportError as missing:
    raise ImportError('Parquet files need pyarrow. Install it with: pip install "gmmdask[parquet]"') from missing

PAGE_BYTES = 1 << 20  # what usual writers put in a page, and in a dictionary; metadata do not tell
NUMBERS = tuple(getattr(pyarrow.types, f"is_{kind}") for kind in ("integer", "floating", "boolean", "decimal"))
BUFFER_BYTES = 64 << 10  # read ahead, for each column


class ParquetSource(Source):
    """Rows of a Parquet file, of the files of a folder in order of their names, or of those that match a pattern.

    float32 if all columns are, else float64; a null is NaN. Files named `.*` or `_*` are no data. Rows stream out of a
    row group in batches, so memory does not grow with it, unless its pages do.

    Parameters
    ----------
    data : path or URL of a file or folder, or a pattern with `*`, `?` or `[]`
    columns : names of the features, in this order; by default all but those that pandas wrote as an index.

    Raises
    ------
    DataError
        No such file, one that cannot be read, files that differ, a column that is missing or holds no numbers.
    """

    divisible = True

    def __init__(self, data: str | Path | Place, columns: Sequence[str] | None = None) -> None:
        self.name, self.entrusted = str(data), Place(data).entrusted
        self.address, sizes = find_files(self.name, self.entrusted)
        self.paths = list(sizes)
        footers = [patiently(partial(read_footer, file, self.entrusted), f"{file}: the footer") for file in self.paths]
        chosen = [columns] if isinstance(columns, str) else columns
        types = [numeric_columns(file, footer, chosen) for file, footer in zip(self.paths, footers, strict=True)]
        for file, found in zip(self.paths, types, strict=True):
            refuse_difference(self.paths[0], types[0], file, found)
        self.columns = self.feature_names = tuple(types[0])
        single = all(kind == pyarrow.float32() for kind in types[0].values())
        self.dtype = np.dtype(np.float32 if single else np.float64)
        groups = [footer.row_group(i) for footer in footers for i in range(footer.num_row_groups)]
        self.first_group = np.cumsum([0, *(footer.num_row_groups for footer in footers)])
        self.bounds = np.cumsum([0, *(group.num_rows for group in groups)], dtype=np.int64)
        self.n, self.d = checked_shape(self.name, (int(self.bounds[-1]), len(self.columns)), self.dtype)
        self.edges = np.unique(self.bounds)  # a row group may be empty
        self.step = max(1, READ_BYTES // (8 * self.d))
        largest = max(stored_bytes(group, self.columns) for group in groups)
        self.held = self.d * BUFFER_BYTES + min(4 * self.d * PAGE_BYTES, 4 * largest)
        known = [
            (Path(file).name, sizes[file], footer.num_rows, footer.num_row_groups)
            for file, footer in zip(self.paths, footers, strict=True)
        ]
        self.digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]

    def fingerprint(self) -> dict[str, Any]:
        """`digest` is of each file's name, bytes, rows and row groups."""
        return {
            "kind": "parquet",
            "address": self.address,
            "columns": list(self.columns),
            "shape": [self.n, self.d],
            "dtype": str(self.dtype),
            "files": len(self.paths),
            "digest": self.digest,
        }

    def read_bytes(self, start: int, stop: int) -> int:
        """Two arrays of rows (one in use, one in the making), the batch, and the pages and dictionaries behind it."""
        return 3 * min(self.step, stop - start) * self.d * 8 + self.held

    def argument(self, start: int, stop: int) -> "ParquetSource":
        """Without the files that hold none of the rows: names of thousands would travel with every task."""
        groups = overlap(self.bounds, start, stop)
        files, part = overlap(self.first_group, groups.start, groups.stop), copy(self)
        part.paths = self.paths[files.start : files.stop]
        part.first_group = self.first_group[files.start : files.stop + 1]
        part.edges = part.bounds = self.bounds[part.first_group[0] : part.first_group[-1] + 1]
        part.first_group = part.first_group - part.first_group[0]
        return part

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        batches: Iterator[np.ndarray] | None = None

        def following() -> np.ndarray:
            nonlocal batches
            try:
                batches = self._batches(start, stop) if batches is None else batches
                return next(batches)
            except Exception:
                batches = None  # it cannot go on: the next try begins a new one at this row
                raise

        while start < stop:
            rows = patiently(following, f"{self.name}: rows {start} to {stop - 1}")
            start += len(rows)
            yield rows

    def _batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        groups = overlap(self.bounds, start, stop)
        for number in overlap(self.first_group, groups.start, groups.stop):
            name, first, last = self.paths[number], *(int(group) for group in self.first_group[number : number + 2])
            with readable(name), open_file(name, self.entrusted) as file:
                for group in range(max(groups.start, first), min(groups.stop, last)):
                    at, end = (int(row) for row in self.bounds[group : group + 2])
                    with readable(f"{name}: row group {group - first} (rows {at} to {end - 1})"):
                        if file.metadata.row_group(group - first).num_rows != end - at:
                            raise DataError(f"{name}: row group {group - first} changed since the fit began.")
                        for batch in file.iter_batches(self.step, [group - first], self.columns, use_threads=False):
                            low, high = max(start - at, 0), min(stop - at, len(batch))
                            if low < high:
                                yield self._rows(batch.slice(low, high - low))
                            at += len(batch)
                            if at >= stop:
                                return

    def _rows(self, batch: Any) -> np.ndarray:
        rows = np.empty((len(batch), self.d), self.dtype)
        kind = pyarrow.from_numpy_dtype(self.dtype)
        for j, name in enumerate(self.columns):
            rows[:, j] = batch.column(name).cast(kind, safe=False).to_numpy(zero_copy_only=False)
        return rows


def overlap(edges: np.ndarray, start: int, stop: int) -> range:
    """Numbers of the intervals between edges that meet [start, stop)."""
    return range(int(np.searchsorted(edges, start, side="right")) - 1, int(np.searchsorted(edges, stop)))


def find_files(name: str, entrusted: Entrusted | None = None) -> tuple[str, dict[str, int]]:
    """The full address of a file, folder or pattern; its data files in order of their names, with their bytes.

    Raises
    ------
    DataError
        If there are none.
    """
    address, sizes = list_files(name, entrusted)
    if not sizes:
        raise DataError(
            f"{name}: no Parquet file is there. Give a file, a folder that holds *.parquet files itself, or a pattern "
            "that matches some (FOLDER/**/*.parquet looks into subfolders)."
        )
    return address, sizes


def list_files(name: str, entrusted: Entrusted | None = None) -> tuple[str, dict[str, int]]:
    """As `find_files`, of a place that may hold none yet."""
    system, path = open_system(name, entrusted)
    system.invalidate_cache()  # what was there a moment ago is not the question
    full = system.unstrip_protocol if "://" in name else str
    is_folder = system.isdir(path)
    if is_folder:
        found = system.ls(path, detail=True)
    else:
        found = [system.info(path)] if system.exists(path) else system.glob(path, detail=True).values()
    sizes = {
        full(file["name"]): int(file["size"] or 0)
        for file in sorted(found, key=lambda file: file["name"])
        if file["type"] != "directory"
        and not Path(file["name"]).name.startswith((".", "_"))
        and file["name"].endswith((".parquet", ".pq") if is_folder else "")
    }
    return full(path), sizes


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Errors of pyarrow become a DataError that says what could not be read."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DataError | ImportError | NotEntrustedError) or is_transient(error):
            raise
        raise DataError(
            f"{what} cannot be read as Parquet ({type(error).__name__}: {error}): it is truncated, corrupt or another "
            "kind of file. Compare its size with the original's, and copy or write it again."
        ) from error


def open_file(file: str, entrusted: Entrusted | None = None) -> Any:
    system, path = open_system(file, entrusted)
    return pyarrow.parquet.ParquetFile(path, filesystem=system, pre_buffer=False, buffer_size=BUFFER_BYTES)


def read_footer(file: str, entrusted: Entrusted | None = None) -> Any:
    with readable(file), open_file(file, entrusted) as opened:
        return opened.metadata


def numeric_columns(file: str, footer: Any, chosen: Sequence[str] | None) -> dict[str, Any]:
    """Names and Arrow types of the columns that are features.

    Raises
    ------
    DataError
        If one is not in the file, comes twice, or holds no numbers.
    """
    schema = footer.schema.to_arrow_schema()
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    names = [name for name in schema.names if name not in index] if chosen is None else list(chosen)
    for name in names:
        if name not in schema.names:
            raise DataError(f"{file}: no column {name!r}. There are: {', '.join(schema.names)}.")
        if names.count(name) + schema.names.count(name) > 2:
            raise DataError(f"{file}: column {name!r} comes twice. Choose others: columns=, --columns.")
        kind = schema.field(name).type
        if not any(is_such(kind) for is_such in NUMBERS):
            raise DataError(
                f"{file}: expected columns of numbers, found {name!r} of type {kind}. Choose the columns that are "
                "features with columns=[...] (--columns a,b,c), or write this one as numbers."
            )
    return {name: schema.field(name).type for name in names}


def refuse_difference(first: str, wanted: dict[str, Any], file: str, found: dict[str, Any]) -> None:
    """Refuses a file whose columns are not those of the first."""
    for name in [*wanted, *found]:
        here, there = found.get(name, "missing"), wanted.get(name, "missing")
        if here != there:
            raise DataError(
                f"{file}: column {name!r} is {here}, but {there} in {first}. Files read together need the same "
                "columns and types. Write them alike, or choose others with columns=[...] (--columns a,b,c)."
            )


def stored_bytes(group: Any, columns: Sequence[str]) -> int:
    """Bytes of these columns of a row group, without compression."""
    pieces = (group.column(i) for i in range(group.num_columns))
    return sum(piece.total_uncompressed_size for piece in pieces if piece.path_in_schema in columns)
