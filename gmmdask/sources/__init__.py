"""Where rows come from. A new source is a file here and a line in `open_source`."""

from pathlib import Path
from typing import Any

import numpy as np

from gmmdask.sources._base import DataError, Source, StorageError
from gmmdask.sources.array import ArraySource, NpySource


def open_source(data: Any, accept_missing: bool = False) -> Source:
    """A source of rows for whatever a data argument may be.

    Parameters
    ----------
    data : NumPy array or array-like; dask array; Zarr array or store; path or URL of a .npy file or Zarr array; Source
    accept_missing : bool
        For Zarr: whether absent chunks count as rows of the fill value.

    Raises
    ------
    DataError
        If it is none of these, or cannot be fitted: 2-d, not empty, real numbers.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | Path):
        return _open_path(data, accept_missing)
    if isinstance(data, np.ndarray | list | tuple):
        return ArraySource(np.asarray(data))
    kind = type(data).__module__.split(".")[0]
    if kind == "dask":
        from gmmdask.sources.dask import DaskSource

        return DaskSource(data)
    if kind == "zarr":
        import zarr

        from gmmdask.sources.zarr import ZarrSource

        if isinstance(data, zarr.Array):
            return ZarrSource(data.store_path, data, accept_missing)
        return ZarrSource(data, accept_missing=accept_missing)
    if hasattr(data, "__array__"):
        return ArraySource(np.asarray(data))
    raise DataError(
        f"cannot read rows from {type(data).__name__}: expected a NumPy, dask or Zarr array, or the path of a .npy "
        "file or a Zarr array."
    )


def _open_path(path: str | Path, accept_missing: bool) -> Source:
    local = "://" not in str(path)
    if local and not Path(path).exists():
        raise DataError(f"{path}: no such file or folder. Check the path; relative ones start from {Path.cwd()}.")
    if str(path).endswith(".npy"):
        return NpySource(path)
    if local and Path(path).is_file() and not str(path).endswith(".zip"):
        raise DataError(f"{path}: expected a .npy file or a Zarr array (a folder), found another kind of file.")
    from gmmdask.sources.zarr import ZarrSource

    return ZarrSource(str(path), accept_missing=accept_missing)


__all__ = ["ArraySource", "DataError", "NpySource", "Source", "StorageError", "open_source"]
