"""Rows of an xarray.DataArray: through its data, a NumPy or a dask array."""

from typing import Any

import numpy as np

from gmmdask.sources._base import DataError, Source, names_of
from gmmdask.sources.array import ArraySource

NAME = "the xarray.DataArray"


def of_xarray(data: Any) -> Source:
    """Rows of a DataArray (rows, features); features are named by the coordinate of its second dimension.

    Raises
    ------
    DataError
        If it is no DataArray, or not 2-d real numbers.
    """
    if not hasattr(data, "dims") or not hasattr(data, "data"):
        raise DataError(
            f"cannot read rows from an xarray {type(data).__name__}: expected a DataArray with the dimensions (rows, "
            "features). Take one variable, or stack several: dataset.to_dataarray().transpose(ROWS, 'variable')."
        )
    names = coordinate_names(data) if data.ndim == 2 else None
    if hasattr(data.data, "dask"):
        from gmmdask.sources.dask import DaskSource

        return DaskSource(data.data, NAME, names)
    return ArraySource(data.data, NAME, feature_names=names)


def coordinate_names(data: Any) -> tuple[str, ...] | None:
    """The coordinate of the second dimension, if it holds strings."""
    dimension = data.dims[1]
    if dimension not in data.coords:
        return None
    return names_of(np.asarray(data.coords[dimension]).tolist(), NAME)
