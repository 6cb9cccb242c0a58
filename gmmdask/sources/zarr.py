"""Rows of a Zarr array, formats 2 and 3, with or without shards."""

import os
from collections.abc import Callable, Iterator
from copy import copy
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore

from gmmdask.place import Place, is_url, missing_package
from gmmdask.sources._base import READ_BYTES, DataError, Source, as_column, checked_shape, regular_edges
from gmmdask.storage import Entrusted, NotEntrustedError, StorageError, is_refusal, patiently

UNPICKLING_CODECS = {"pickle"}


class ZarrSource(Source):
    """Rows of a Zarr array, read directly inside the task on its write grid (shards, or chunks).

    Parameters
    ----------
    data : str, path, Place, zarr store or zarr.Array; a store that may hold credentials travels apart from tasks.
    accept_missing : bool
        Whether chunks that are absent count as rows of the fill value. Zarr reads them so without any error, which
        turns a lost file into zeros: refused by default.
    column : bool
        Whether an array of n numbers counts as n rows of one feature.

    Raises
    ------
    DataError
        No array there, a group, not 2-d real numbers, a codec that unpickles, missing chunks.
    """

    def __init__(self, data: Any, accept_missing: bool = False, column: bool = False) -> None:
        self.address, self.name, self.entrusted, self.snapshot = data, str(data), None, ""
        if isinstance(data, str | Path | Place):
            # a worker may run in another folder
            self.address = self.name if is_url(data) else str(Path(self.name).absolute())
            self.entrusted = data.entrusted if isinstance(data, Place) else None
        else:
            self.address, self.snapshot = found_in(data)
            self.name = str(self.address)
            if not is_harmless(getattr(data, "store", data)):
                self.entrusted = Entrusted(getattr(data, "store_path", data))
                self.address = self.name
        self._array = data if isinstance(data, zarr.Array) else self._open()
        shape, dtype = as_column(self._array.shape, column), self._array.dtype
        self.n, self.d = checked_shape(self.name, shape, dtype)
        self.dtype, self.accept_missing = np.dtype(dtype), accept_missing
        self.chunks = as_column(tuple(int(c) for c in self._array.chunks), column)
        self.grid = as_column(tuple(int(c) for c in (self._array.shards or self._array.chunks)), column)
        self.edges = regular_edges(self.n, self.grid[0])
        self._check_codecs()
        if not accept_missing:
            self._check_chunks()

    def __getstate__(self) -> dict[str, Any]:
        """An address, not an open handle, and no edges: every task of a cluster would carry 8 bytes a chunk."""
        return {**self.__dict__, "_array": None, "edges": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, edges=regular_edges(state["n"], state["grid"][0]))

    @property
    def array(self) -> "zarr.Array[Any]":
        if self._array is None:
            self._array = self._open()
        return self._array

    def _open(self) -> "zarr.Array[Any]":
        if self.entrusted is None:
            return open_array(self.address, self.name)
        value = self.entrusted.value
        if isinstance(value, dict):
            return open_array(self.address, self.name, value)
        return open_array(value, self.name)

    def fingerprint(self) -> dict[str, Any]:
        codecs = [str(codec) for codec in (*self.array.filters, *self.array.compressors)]
        return {
            "kind": "zarr",
            "address": str(self.address),
            "shape": [self.n, self.d],
            "dtype": str(self.dtype),
            "chunks": list(self.chunks),
            "grid": list(self.grid),
            "codecs": codecs,
            **({"snapshot": self.snapshot} if self.snapshot else {}),
        }

    def changes(self, chunks: bool) -> str:
        """Of its metadata, which tell rows that were appended; and chunks that are missing."""
        now = copy(self)
        now._array = None
        try:
            then, found = self.fingerprint(), now.fingerprint()
            then["shape"], found["shape"] = self.array.shape, now.array.shape
            told = [f"{key}: {then[key]} then, {found[key]} now" for key in then if then[key] != found[key]]
            if chunks and not told and not self.accept_missing:
                now._check_chunks()
        except DataError as error:
            return str(error)
        return "; ".join(told)

    def _check_codecs(self) -> None:
        for codec in (*self.array.filters, *self.array.compressors):
            if getattr(codec, "codec_id", getattr(codec, "codec_name", "")) in UNPICKLING_CODECS:
                raise DataError(f"{self.name}: codec {codec} unpickles what it reads, which runs code: refused.")

    def _check_chunks(self) -> None:
        """Looks for every stored chunk that there should be."""
        array = self.array
        counts = [-(-length // chunk) for length, chunk in zip(array.shape, self.grid, strict=False)]
        is_stored = chunk_finder(array)
        chunks = product(*map(range, counts))
        missing = [chunk for chunk in chunks if not is_stored(array.metadata.encode_chunk_key(chunk))]
        if not missing:
            return
        first, start = missing[0], missing[0][0] * self.grid[0]
        raise DataError(
            f"{self.name}: {len(missing)} of {prod(counts)} stored chunks are missing, the first is "
            f"chunk {array.metadata.encode_chunk_key(first)} (rows {start} to "
            f"{min(self.n, start + self.grid[0]) - 1}). Zarr would read them as {array.fill_value} without an error. "
            "Copy the array again; if these rows really equal the fill value (Zarr may leave such chunks out), accept "
            "them with accept_missing=True (--accept-missing)."
        )

    def surely_written(self, rows: np.ndarray, start: int) -> int:
        """How many of `rows` (m, d), the first of which is row `start`, come before any that may not be written yet.

        A chunk is written as a whole, and what is not written reads as the fill value, whether the chunk is missing or
        was stored when it had fewer rows: so the rows in doubt are those fill values with which one ends, as far as it
        is in `rows`.
        """
        fill, (tall, wide) = np.asarray(self.array.fill_value, self.dtype), self.grid
        unset = (rows == fill) | ((rows != rows) & (fill != fill))
        blank = np.zeros(len(rows), bool)
        for j in range(0, self.d, wide):
            blank |= unset[:, j : j + wide].all(axis=1)
        ends = np.append(np.arange(tall - start % tall, len(rows), tall), len(rows))
        doubtful = ends[blank[ends - 1]]
        if not len(doubtful):
            return len(rows)
        written = np.flatnonzero(~blank[: doubtful[0]])
        return int(written[-1]) + 1 if len(written) else 0

    @property
    def _step(self) -> int:
        """Rows of a read: whole chunks of about READ_BYTES."""
        chunk = self.chunks[0]
        return chunk * max(1, READ_BYTES // (chunk * self.d * self.dtype.itemsize))

    def read_bytes(self, start: int, stop: int) -> int:
        """Rows, the chunks that they are copied from, their encoded form; and the rows that were read before."""
        chunk = self.chunks[0]
        rows = min(self._step, -(-(stop - start) // chunk) * chunk)
        return 4 * rows * self.d * self.dtype.itemsize

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        step = self._step
        for first in range(start, stop, step):
            yield self._rows(first, min(stop, first + step)).reshape(-1, self.d)

    def _rows(self, start: int, stop: int) -> np.ndarray:
        first = self.array.metadata.encode_chunk_key((start // self.grid[0], *[0] * (self.array.ndim - 1)))
        what = f"{self.name}: rows {start} to {stop - 1} (from chunk {first} on)"
        try:
            return patiently(lambda: np.asarray(self.array[start:stop]), what)
        except (StorageError, NotEntrustedError, ImportError):
            raise
        except Exception as error:
            chunk = self._broken_chunk(start, stop)
            if is_refusal(error):
                raise DataError(
                    f"{self.name}: chunk {chunk} cannot be read ({type(error).__name__}: {error}). Check the rights to "
                    "it and the credentials."
                ) from error
            raise DataError(
                f"{self.name}: chunk {chunk} cannot be decoded ({type(error).__name__}: {error}): it is truncated "
                "or corrupt. Copy or write that chunk again."
            ) from error

    def _broken_chunk(self, start: int, stop: int) -> str:
        """The key of the first chunk in [start, stop) that does not decode."""
        tall, wide = self.grid
        for i in range(start // tall, -(-stop // tall)):
            for j in range(-(-self.d // wide)):
                first, last = max(start, i * tall), min(stop, (i + 1) * tall)
                try:
                    self.array[(slice(first, last), slice(j * wide, (j + 1) * wide))[: self.array.ndim]]
                except Exception:
                    chunk = self.array.metadata.encode_chunk_key((i, j)[: self.array.ndim])
                    return f"{chunk} (rows {first} to {last - 1})"
        return f"of rows {start} to {stop - 1}"


def is_harmless(store: Any) -> bool:
    """Whether a store object can hold no credential, so that it may travel with tasks."""
    while isinstance(store, WrapperStore):
        store = store._store
    return isinstance(store, LocalStore | MemoryStore | ZipStore)


def found_in(data: Any) -> tuple[Any, str]:
    """How an open array or store is called, and the snapshot that it shows, if it has such (Icechunk)."""
    address = getattr(data, "store_path", data)
    session = getattr(getattr(address, "store", address), "session", None)
    if session is None:
        return address, ""
    return f"icechunk:{getattr(address, 'path', '')}", str(session.snapshot_id)


def open_array(address: Any, name: str, storage_options: dict[str, Any] | None = None) -> "zarr.Array[Any]":
    """The array at an address, read-only.

    Raises
    ------
    DataError
        If there is none, or a group in its place: the message lists the group's arrays.
    StorageError
        If the store does not answer.
    """
    try:
        found = patiently(lambda: zarr.open(address, mode="r", storage_options=storage_options), name)
    except StorageError:
        raise
    except ImportError as error:
        raise missing_package(name, error) from error
    except Exception as error:
        if isinstance(address, str) and Path(address).is_file():
            raise DataError(
                f"{name}: expected a .npy file or a Zarr array (a folder), found another kind of file. Convert it: "
                "read it in pieces and write these to a Zarr array."
            ) from error
        raise DataError(f"{name}: no Zarr array can be opened there ({type(error).__name__}: {error}).") from error
    if isinstance(found, zarr.Group):
        arrays = ", ".join(sorted(key for key, _ in found.arrays())) or "none"
        raise DataError(
            f"{name}: expected a Zarr array, found a group (arrays in it: {arrays}). Give the path of one, such as "
            f"{name.rstrip('/')}/{arrays.split(', ')[0] if arrays != 'none' else 'NAME'}."
        )
    return found


def chunk_finder(array: "zarr.Array[Any]") -> Callable[[str], bool]:
    """Tells whether the array's store holds a key below the array.

    Files are asked for one by one: a listing walks through a folder for every chunk, which took 17 times as long for
    100,000 of them. Other stores are listed once, because each question to them may be a journey.
    """
    store, path = array.store_path.store, array.store_path.path
    if isinstance(store, LocalStore):
        folder = store.root / path
        return lambda key: os.path.isfile(f"{folder}/{key}")
    root = f"{path}/" if path else ""

    if (system := getattr(store, "fs", None)) is not None:
        system.invalidate_cache()  # of fsspec, which remembers what it has listed

    async def keys() -> set[str]:
        return {key.removeprefix(root) async for key in store.list_prefix(root)}

    return sync(keys()).__contains__
