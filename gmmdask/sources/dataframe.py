"""Rows of tables: pandas and polars DataFrames in memory, Dask DataFrames. Columns are features, by name."""

from typing import Any

import numpy as np

from gmmdask.sources._base import DataError, Source, names_of
from gmmdask.sources.array import ArraySource

SHOWN = 8  # columns that a message lists


def of_frame(frame: Any) -> Source:
    """Rows of a DataFrame; a missing value is NaN.

    float32 if all columns are, and the narrowest dtype that holds them all in general, as NumPy promotes.

    Raises
    ------
    DataError
        If it waits to be collected, is empty, or columns hold no numbers: the message names them.
    """
    if hasattr(frame, "collect"):
        raise DataError(f"cannot read rows from {type(frame).__name__}: collect it first, or give its files' path.")
    name = f"the {type(frame).__module__.split('.')[0]} DataFrame"
    columns, kinds = list(frame.columns), list(frame.dtypes)
    refuse_other_columns(columns, kinds, name)
    if hasattr(frame, "to_dask_array"):
        return of_dask_frame(frame, name)
    rows = of_pandas(frame) if hasattr(frame, "iloc") else of_polars(frame)
    return ArraySource(rows, name, feature_names=names_of(columns, name))


def refuse_other_columns(columns: list[Any], kinds: list[Any], name: str) -> None:
    """Refuses columns that hold no real numbers."""
    bad = [(column, kind) for column, kind in zip(columns, kinds, strict=True) if not is_numeric(kind)]
    if not bad:
        return
    told = ", ".join(f"{column!r} of type {kind}" for column, kind in bad[:SHOWN])
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    raise DataError(
        f"{name}: expected columns of numbers, found {told}{more}. Choose the columns that are features, such as "
        f'frame[["x", "y"]], or encode these as numbers.'
    )


def is_numeric(kind: Any) -> bool:
    """Whether a column's dtype is of real numbers: NumPy's, an extension's of pandas, or polars'."""
    if hasattr(kind, "is_numeric"):
        return bool(kind.is_numeric()) or str(kind) == "Boolean"
    return getattr(kind, "kind", "O") in "fiub"


def of_pandas(frame: Any) -> np.ndarray:
    """Rows (n, d) of a pandas DataFrame, without a copy where its columns lie side by side."""
    return np.asarray(uniform(frame).to_numpy())


def uniform(frame: Any) -> Any:
    """A pandas or Dask DataFrame whose columns have one NumPy dtype."""
    dtype = common_dtype(frame)
    return frame if all(kind == dtype for kind in frame.dtypes) else frame.astype(dtype)


def common_dtype(frame: Any) -> np.dtype[Any]:
    """What holds all columns of a pandas or Dask DataFrame; float64 if one may hold missing values."""
    kinds = list(frame.dtypes)
    if not kinds or not all(isinstance(kind, np.dtype) for kind in kinds):
        return np.dtype(np.float64)
    return np.result_type(*kinds)


def of_polars(frame: Any) -> np.ndarray:
    """Rows (n, d) of a polars DataFrame."""
    columns = [column.to_numpy() for column in frame.iter_columns()]
    kinds = [np.dtype(float) if column.dtype == object else column.dtype for column in columns]  # of None, decimals
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float64)
    rows = np.empty((frame.height, frame.width), dtype)
    for j, column in enumerate(columns):
        rows[:, j] = column
    return rows


def of_dask_frame(frame: Any, name: str) -> Source:
    """Rows of a Dask DataFrame: its partitions are blocks of a dask array. Their lengths are computed first."""
    from gmmdask.sources.dask import DaskSource

    return DaskSource(uniform(frame).to_dask_array(lengths=True), name, names_of(frame.columns, name))
