"""Where the rows of a stream come from, in batches that know how far the source was read. A new feed is a file here."""

from pathlib import Path
from typing import Any

from gmmdask.feeds._base import Batch, Feed, Position, Wait
from gmmdask.feeds.array import ArrayFeed
from gmmdask.feeds.pipe import PipeFeed
from gmmdask.sources import DataError, check_exists, is_parquet, is_path, is_pattern, is_zarr

STANDARD_INPUT = "-"


def open_feed(
    name: str,
    *,
    pipe: Any = None,
    follow: bool = False,
    poll: float = 1.0,
    columns: list[str] | None = None,
    accept_missing: bool = False,
) -> Feed:
    """The feed that a name stands for; no row is read yet.

    Parameters
    ----------
    name : "-", or the path or URL of a Zarr array, a .npy file, a Parquet file, a folder or pattern of them.
    pipe : binary file that "-" stands for.
    follow : whether rows that are added later are waited for: to a Zarr array, or as files of a Parquet folder.
    poll : seconds from one look at a growing source to the next.
    columns, accept_missing : as the sources take them.

    Raises
    ------
    DataError
        If nothing is there, or it cannot grow, or has no named columns.
    """
    if name != STANDARD_INPUT:
        check_exists(name)
        fills = follow and Path(name).is_dir() and not is_zarr(name)  # it may have no file yet
        if fills or is_parquet(name):
            from gmmdask.feeds.parquet import ParquetFeed

            if follow and not (fills or is_pattern(name)):
                raise DataError(f"{name}: a Parquet file does not grow. Follow the folder in which files appear.")
            return ParquetFeed(name, follow, poll, columns)
    if columns is not None:
        raise DataError(f"--columns: {name} has no named columns; only those of Parquet files can be chosen.")
    if follow and (name == STANDARD_INPUT or is_path(name, ".npy")):
        what = "standard input is read until it ends" if name == STANDARD_INPUT else "a .npy file does not grow"
        raise DataError(f"--follow: {what}. A Zarr array or a folder of Parquet files can be followed.")
    return PipeFeed(pipe) if name == STANDARD_INPUT else ArrayFeed(name, follow, poll, accept_missing)


__all__ = ["STANDARD_INPUT", "Batch", "Feed", "Position", "Wait", "open_feed"]
