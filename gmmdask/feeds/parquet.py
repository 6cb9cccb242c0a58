"""Rows of Parquet files; more of them may appear in their folder."""

from collections.abc import Iterator
from typing import Any

from gmmdask.feeds._base import Batch, Feed, Position, Wait, checked_features, checked_rows, waiting
from gmmdask.sources import DataError
from gmmdask.sources.parquet import ParquetSource, find_files, list_files, read_footer


class ParquetFeed(Feed):
    """File after file; the position is the rows taken of each, so that new ones may sort before those taken.

    New files are taken in the order of their names. They must be complete when they appear: written under a name that
    begins with "." or "_" (such names are no data) or elsewhere, then renamed. A file that was taken may be removed.
    """

    def __init__(self, name: str, follow: bool, poll: float, columns: list[str] | None) -> None:
        self.name, self.follow, self.poll, self.columns = name, follow, poll, columns
        self.address = (list_files if follow else find_files)(name)[0]

    @property
    def beginning(self) -> Position:
        return {"source": self.address, "columns": self.columns, "files": {}}

    def batches(self, position: Position, d: int | None = None) -> Iterator[Batch | Wait]:
        files, columns = dict(position["files"]), position["columns"]
        if None not in (columns, self.columns) and columns != self.columns:
            raise DataError(f"{self.name}: columns {columns} then, {self.columns} now. Name the same ones.")
        while True:
            sizes = (list_files if self.follow else find_files)(self.name)[1]
            self._check(files, sizes)
            for file in sorted(sizes, key=lambda file: (file not in files, file)):  # what was begun comes first
                known = files.get(file, {"bytes": sizes[file]})
                if known.get("rows", -1) == known.get("taken"):
                    continue
                known = self._counted(file, known)
                files = {**files, file: known}
                if not known["rows"]:
                    continue
                source = self._opened(file, columns)
                d, columns = checked_features(file, source.d, d), list(source.columns)
                at = known["taken"]
                for rows in source.read(at, source.n):
                    checked_rows(rows, file, at)
                    at += len(rows)
                    files = {**files, file: {**known, "taken": at}}  # anew: what was yielded stays what it was
                    yield Batch(rows, {"source": self.address, "columns": columns, "files": files})
            if not self.follow:
                return
            yield from waiting(self.poll)

    def _check(self, files: dict[str, dict[str, int]], sizes: dict[str, int]) -> None:
        """Refuses a file that changed after it was begun, or went before it was taken."""
        for file, known in files.items():
            left = known["rows"] - known["taken"]
            if sizes.get(file, known["bytes"]) != known["bytes"]:
                raise changed(file, known["bytes"], sizes[file], "bytes")
            if file not in sizes and left:
                raise DataError(f"{file}: gone, with {left} rows that were not taken. Put it back, or begin anew.")

    def _counted(self, file: str, known: dict[str, int]) -> dict[str, int]:
        """What is known of a file with its rows, which are no others than when it was begun."""
        n = int(read_footer(file).num_rows)
        if known.get("rows", n) != n:
            raise changed(file, known["rows"], n, "rows")
        return {"taken": 0, **known, "rows": n}

    def _opened(self, file: str, columns: list[str] | None) -> ParquetSource:
        source = ParquetSource(file, self.columns)
        if columns is not None and list(source.columns) != columns:
            raise DataError(
                f"{file}: columns {list(source.columns)}, but {columns} in the files before. Write them alike, or "
                "choose columns that all have with --columns."
            )
        return source


def changed(file: str, then: Any, now: Any, what: str) -> DataError:
    return DataError(
        f"{file}: {then} {what} when it was taken, {now} now: it was written again. Put new rows into new files, or "
        "begin anew with --overwrite."
    )
