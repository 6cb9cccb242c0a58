"""Rows of a Zarr array, which may grow, or of a .npy file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gmmdask.feeds._base import Batch, Feed, Position, Wait, checked_features, checked_rows, waiting
from gmmdask.sources import DataError, Source, is_path, open_source
from gmmdask.sources.zarr import ZarrSource, open_array


class ArrayFeed(Feed):
    """Rows in their order; the position is the number of rows taken.

    A followed Zarr array is looked at every `poll` seconds. Who appends to one writes its new length first and the rows
    then, and rewrites the last chunk if that was not full; rows that are not written yet read as the fill value,
    without any error. So only rows below the length at the look before are taken, and, unless missing chunks are
    accepted, none that equal the fill value at the end of a chunk: see `ZarrSource.surely_written`.
    """

    def __init__(self, name: str, follow: bool, poll: float, accept_missing: bool) -> None:
        self.name, self.follow, self.poll, self.accept_missing = name, follow, poll, accept_missing
        self.is_zarr, self.known = not is_path(name, ".npy"), ""
        self.address = name if "://" in name else str(Path(name).absolute())
        self._look()  # says what is wrong with it before anything else is done

    @property
    def beginning(self) -> Position:
        return {"source": self.address, "rows": 0}

    def batches(self, position: Position, d: int | None = None) -> Iterator[Batch | Wait]:
        taken = before = position["rows"]
        self.known = position.get("dtype", "")
        while True:
            source = self._look()
            n = 0 if source is None else source.n
            if n < taken:
                raise DataError(
                    f"{self.name}: {taken} rows were taken, but now it has {n}: it has shrunk, or is another. Give the "
                    "array that the stream was reading, or begin anew with --overwrite."
                )
            reason, stop = "", min(n, before) if self.follow else n
            if source is not None:
                d, self.known = checked_features(self.name, source.d, d), str(source.dtype)
            if source is not None and stop > taken:
                for rows in self._between(source, taken, stop):
                    taken += len(rows)
                    yield Batch(rows, {"source": self.address, "rows": taken, "dtype": self.known})
                reason = "" if taken == stop else self._doubt(taken)
            if not self.follow:
                return
            before = n
            yield from waiting(self.poll, reason)

    def _look(self) -> Source | None:
        """The source as it is now; None for a followed array that has no rows yet."""
        if not self.is_zarr:
            source = open_source(self.name)
        elif not self.follow:
            source = open_source(self.name, accept_missing=self.accept_missing)
        else:
            array = open_array(self.name, self.name)
            if len(array.shape) == 2 and array.shape[0] == 0:
                return None
            source = open_source(self.name, accept_missing=True)  # chunks are looked for as they are needed
        if self.known not in ("", str(source.dtype)):
            raise DataError(
                f"{self.name}: {self.known} then, {source.dtype} now: it is not the array that the stream was reading. "
                "Give that one, or begin anew with --overwrite."
            )
        return source

    def _between(self, source: Source, start: int, stop: int) -> Iterator[np.ndarray]:
        """Rows [start, stop), or up to those that may not be written yet."""
        doubted = source if self.follow and not self.accept_missing and isinstance(source, ZarrSource) else None
        edge = int(source.edges[source.chunk_of(start) + 1])  # where the first read ends, lest all others cross edges
        for low, high in ((start, min(edge, stop)), (edge, stop)):
            at = low
            for rows in source.read(low, high) if low < high else ():
                kept = len(rows) if doubted is None else doubted.surely_written(rows, at)
                if kept:
                    yield checked_rows(rows[:kept], self.name, at)
                if kept < len(rows):
                    return
                at += len(rows)

    def _doubt(self, row: int) -> str:
        return (
            f"{self.name}: row {row} may not be written yet, although the array has had that row for {self.poll:g} s "
            "or more: its chunk is missing, or ends in the fill value. It is waited for; if the rows really equal the "
            "fill value, accept them with --accept-missing."
        )
