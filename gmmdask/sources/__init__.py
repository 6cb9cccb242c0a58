"""Where rows come from. A new source is a file here and a line in `KINDS`."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from gmmdask.sources._base import DataError, Source, StorageError
from gmmdask.sources.array import ArraySource, NpySource


def is_path(data: Any, *endings: str) -> bool:
    """Whether data is a path or URL, with one of the endings if any are given."""
    return isinstance(data, str | Path) and (not endings or str(data).rstrip("/").endswith(endings))


def comes_from(data: Any, package: str) -> bool:
    """Whether data is an object of a package, without importing it."""
    return type(data).__module__.split(".")[0] == package


# Tested in order; the class is imported when its kind is met.
KINDS: list[tuple[Callable[[Any], bool], str]] = [
    (lambda data: is_path(data, ".npy"), "gmmdask.sources.array:NpySource"),
    (lambda data: is_path(data) or comes_from(data, "zarr"), "gmmdask.sources.zarr:ZarrSource"),
    (lambda data: comes_from(data, "dask"), "gmmdask.sources.dask:DaskSource"),
    (lambda data: isinstance(data, list | tuple) or hasattr(data, "__array__"), "gmmdask.sources.array:ArraySource"),
]


def open_source(data: Any, **options: Any) -> Source:
    """A source of rows for whatever a data argument may be.

    Parameters
    ----------
    data : NumPy array or array-like; dask array; Zarr array or store; path or URL of a .npy file or Zarr array; Source
    options : of the source's class, such as `accept_missing=True` for Zarr.

    Raises
    ------
    DataError
        If it is none of these, or cannot be fitted: 2-d, not empty, real numbers.
    """
    if isinstance(data, Source):
        return data
    if is_path(data) and "://" not in str(data) and not Path(data).exists():
        raise DataError(f"{data}: no such file or folder. Check the path; relative ones start from {Path.cwd()}.")
    for applies, name in KINDS:
        if applies(data):
            module, _, kind = name.partition(":")
            source: Source = getattr(import_module(module), kind)(data, **options)
            return source
    raise DataError(
        f"cannot read rows from {type(data).__name__}: expected a NumPy, dask or Zarr array, or the path of a .npy "
        "file or a Zarr array."
    )


def addresses(source: Source) -> list[str]:
    """Where the rows of a stored source are: one address, or none."""
    return [str(address) for address in [source.fingerprint().get("address")] if address is not None]


__all__ = ["ArraySource", "DataError", "NpySource", "Source", "StorageError", "addresses", "open_source"]
