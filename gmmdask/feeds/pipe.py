"""Rows from a pipe: .npy arrays one after another, or lines of text."""

import io
import itertools
import os
import select
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO

import numpy as np

from gmmdask.feeds._base import LONGEST_WAIT, Batch, Feed, Position, Wait, checked_features, checked_rows
from gmmdask.sources import DataError
from gmmdask.sources._base import READ_BYTES, checked_shape

MAGIC = b"\x93NUMPY"
NAME = "standard input"
CHUNK = 1 << 20  # bytes that a read asks for
LONGEST_HEADER = 1 << 16
FORTRAN_BYTES = 8 * READ_BYTES  # such a block has to be held whole
Waits = Generator[None, None, Any]  # None: nothing came for a while


class PipeFeed(Feed):
    """Rows from the beginning of the pipe on; the position is how many of them were taken.

    A pipe cannot be wound back: it goes on from a position by dropping that many rows of the same input, sent again.
    """

    name, address = NAME, "-"

    def __init__(self, file: BinaryIO, patience: float = LONGEST_WAIT) -> None:
        self.pipe = Pipe(file, patience)

    @property
    def beginning(self) -> Position:
        return {"source": self.address, "rows": 0}

    def batches(self, position: Position, d: int | None = None) -> Iterator[Batch | Wait]:
        taken, seen = position["rows"], 0
        for rows in self._rows(d):
            if rows is None:
                yield Wait()
                continue
            new, seen = rows[max(0, taken - seen) :], seen + len(rows)
            yield Batch(new, {"source": self.address, "rows": max(seen, taken)})
        if seen < taken:
            raise DataError(
                f"{self.name}: ended after {seen} rows, but {taken} were taken before: it is not the same input, sent "
                "again from its beginning. If it goes on where the stream stopped, say so with --continues."
            )

    def _rows(self, d: int | None) -> Iterator[np.ndarray | None]:
        yield from self.pipe.reading(1)
        yield from (npy_rows if self.pipe.data[:1] == MAGIC[:1] else text_rows)(self.pipe, d)


class Pipe:
    """Bytes as they come.

    Attributes
    ----------
    data : bytes that were read and not taken yet.
    ended : whether no more will come.
    """

    def __init__(self, file: BinaryIO, patience: float) -> None:
        self.file, self.patience = file, patience
        self.data, self.ended = bytearray(), False
        try:
            self.handle: int | None = file.fileno()
        except OSError:  # no file of the system
            self.handle = None

    def reading(self, count: int) -> Waits:
        """Reads until `count` bytes are there or the input ends."""
        while len(self.data) < count and not self.ended:
            if self.handle is None:
                found = self.file.read(CHUNK)
            elif select.select([self.handle], [], [], self.patience)[0]:
                found = os.read(self.handle, CHUNK)
            else:
                yield None
                continue
            self.data += found
            self.ended = not found

    def take(self, count: int) -> bytes:
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken


# --- .npy arrays -----------------------------------------------------------------------------------------------


def npy_rows(pipe: Pipe, d: int | None) -> Iterator[np.ndarray | None]:
    """Rows of arrays (m, d), none of which is held whole."""
    for block in itertools.count():
        name = f"{NAME}, block {block}"
        yield from pipe.reading(1)
        if not pipe.data:
            return
        shape, fortran, dtype = yield from npy_header(pipe, name)
        n, found = checked_shape(name, (max(1, shape[0]), *shape[1:]) if len(shape) == 2 else shape, dtype)
        d, n = checked_features(name, found, d), shape[0]
        row_bytes = d * dtype.itemsize
        if fortran and n * row_bytes > FORTRAN_BYTES:
            raise DataError(
                f"{name}: {n * row_bytes:,} bytes, stored column by column, would have to be held at once. Send "
                "np.ascontiguousarray(rows), or smaller blocks."
            )
        step = n if fortran else max(1, READ_BYTES // row_bytes)
        for at in range(0, n, max(1, step)):
            m = min(step, n - at)
            yield from pipe.reading(m * row_bytes)
            if len(pipe.data) < m * row_bytes:
                raise cut(name, f"row {at + len(pipe.data) // row_bytes} of its {n} rows")
            order = (d, m) if fortran else (m, d)
            rows = np.frombuffer(pipe.take(m * row_bytes), dtype).reshape(order)
            yield checked_rows(np.ascontiguousarray(rows.T if fortran else rows), name, at)


def npy_header(pipe: Pipe, name: str) -> Waits:
    """Shape, whether columns come one after another, and dtype."""
    yield from pipe.reading(12)
    if not pipe.data.startswith(MAGIC[: len(pipe.data)]):
        raise DataError(f"{name}: begins with {bytes(pipe.data[:8])!r}, expected a .npy array.")
    version, sized = bytes(pipe.data[6:8]), 2 if pipe.data[6:7] == b"\x01" else 4
    length = 8 + sized + int.from_bytes(pipe.data[8 : 8 + sized], "little")
    if len(pipe.data) >= 12 and length > LONGEST_HEADER:
        raise DataError(f"{name}: a header of {length:,} bytes is none of an array of numbers.")
    yield from pipe.reading(length)
    if len(pipe.data) < max(12, length):
        raise cut(name, "its header")
    header = io.BytesIO(pipe.take(length))
    header.seek(8)
    read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(header)
        if min(shape, default=0) < 0:
            raise ValueError(f"shape {shape}")
        return shape, fortran, dtype
    except (ValueError, TypeError, SyntaxError) as error:
        raise DataError(f"{name}: its .npy header cannot be read ({error}). Write it with numpy.save.") from error


def cut(name: str, where: str) -> DataError:
    return DataError(f"{name}: the input ended within {where}. Who writes it has stopped early: see what it says.")


# --- text ------------------------------------------------------------------------------------------------------


def text_rows(pipe: Pipe, d: int | None) -> Iterator[np.ndarray | None]:
    """Rows of lines of numbers, separated by commas if the first line has any, else by white space."""
    line, separator = 1, ""
    while pipe.data or not pipe.ended:
        end = len(pipe.data) if pipe.ended else pipe.data.rfind(b"\n") + 1
        if not end and len(pipe.data) > READ_BYTES:
            raise DataError(f"{NAME}, line {line}: longer than {READ_BYTES:,} bytes: expected lines of numbers.")
        if end:
            text = pipe.take(end).decode("utf-8", "replace")
            separator = separator or ("," if "," in text.lstrip().partition("\n")[0] else " ")
            rows = parsed(text, line, separator, d)
            line += text.count("\n")
            if len(rows):
                d = rows.shape[1]
                yield rows
        yield from pipe.reading(len(pipe.data) + 1)


def parsed(text: str, first: int, separator: str, d: int | None) -> np.ndarray:
    """Rows (m, d) of lines, of which the first has that number; where a line is wrong, all are looked at singly."""
    if not text.strip():
        return np.empty((0, d or 0))
    try:
        rows = np.loadtxt(io.StringIO(text), comments=None, delimiter=separator.strip() or None, ndmin=2)
        if d in (None, rows.shape[1]):
            return checked_rows(rows, NAME, first)
    except ValueError:  # DataError is one: which line it is, is found below
        pass
    found: list[np.ndarray] = []
    for number, words in enumerate(text.split("\n"), first):
        if words.strip():
            found.append(one_row(words, f"{NAME}, line {number}", separator, d, header=number == 1))
            d = found[0].shape[1]
    return np.concatenate(found)


def one_row(line: str, what: str, separator: str, d: int | None, header: bool) -> np.ndarray:
    """The numbers of one line, (1, d)."""
    try:
        row = np.array([[float(word) for word in line.split(separator.strip() or None)]])
    except ValueError as error:
        hint = " If it names the columns, leave it out: tail -n +2 FILE | gmmdask stream ..." if header else ""
        told = line.strip() if len(line) < 60 else f"{line.strip()[:60]}..."
        parts = "commas" if separator == "," else "white space (or commas from the first line on)"
        raise DataError(f"{what}: expected numbers separated by {parts}, found {told!r}.{hint}") from error
    checked_features(what, row.shape[1], d)
    return checked_rows(row, what, 0)
