"""Where rows come from. A new source is a file here and a line in `KINDS`."""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from gmmdask.place import Place
from gmmdask.sources._base import DataError, Source, names_of, regular_edges
from gmmdask.sources.array import ArraySource, NpySource
from gmmdask.storage import StorageError


def is_path(data: Any, *endings: str) -> bool:
    """Whether data is a path or URL, with one of the endings if any are given."""
    return isinstance(data, str | Path) and (not endings or str(data).rstrip("/").endswith(endings))


def is_pattern(data: Any) -> bool:
    """Whether data is a glob pattern, and not a path with such characters in it; in a URL, `?` has another meaning."""
    text = str(data)
    return is_path(data) and any(c in text for c in ("*" if "://" in text else "*?[")) and not Path(text).exists()


def is_parquet(data: Any) -> bool:
    """Whether data is the path of a Parquet file, of a folder that holds some, or a pattern."""
    if not is_path(data) or is_path(data, ".parquet", ".pq") or is_pattern(data):
        return is_path(data)
    if is_zarr(data):
        return False  # whose chunks may be too many to look through
    return any(any(Path(data).glob(kind)) for kind in ("*.parquet", "*.pq"))


def is_zarr(folder: str | Path) -> bool:
    """Whether a folder here is a Zarr array or group."""
    return any((Path(folder) / header).exists() for header in ("zarr.json", ".zarray", ".zgroup"))


def comes_from(data: Any, package: str) -> bool:
    """Whether data is an object of a package, without importing it."""
    return any(kind.__module__.split(".")[0] == package for kind in type(data).__mro__)


def is_frame(data: Any) -> bool:
    """Whether data is a table with named columns: of pandas, of polars, or of dask."""
    packages, names = ("pandas", "polars", "dask"), ("DataFrame", "LazyFrame")
    return any(kind.__module__.split(".")[0] in packages and kind.__name__ in names for kind in type(data).__mro__)


# Tested in order; the class, or the function that makes a source, is imported when its kind is met.
KINDS: list[tuple[Callable[[Any], bool], str]] = [
    (is_parquet, "gmmdask.sources.parquet:ParquetSource"),
    (lambda data: is_path(data, ".npy") and "://" in str(data), "gmmdask.sources.npy_url:NpyUrlSource"),
    (lambda data: is_path(data, ".npy"), "gmmdask.sources.array:NpySource"),
    (lambda data: is_path(data) or comes_from(data, "zarr"), "gmmdask.sources.zarr:ZarrSource"),
    (is_frame, "gmmdask.sources.dataframe:of_frame"),
    (lambda data: comes_from(data, "xarray"), "gmmdask.sources.xarray:of_xarray"),
    (lambda data: comes_from(data, "dask") and hasattr(data, "chunks"), "gmmdask.sources.dask:DaskSource"),
    (lambda data: isinstance(data, list | tuple) or hasattr(data, "__array__"), "gmmdask.sources.array:ArraySource"),
]


def open_source(data: Any, *, storage_options: Mapping[str, Any] | None = None, **options: Any) -> Source:
    """A source of rows for whatever a data argument may be.

    Parameters
    ----------
    data : NumPy array or array-like; dask array; 2-d xarray.DataArray; pandas, polars or Dask DataFrame; Zarr array or
        store; path or URL of a .npy file, a Zarr array, a Parquet file or a folder or pattern of them; Source
    storage_options : of a URL's file system in fsspec, credentials among them: they are shown and stored nowhere. A
        `gmmdask.Place` brings its own.
    options : of the source's class, such as `accept_missing=True` for Zarr or `columns=["x", "y"]` for Parquet.

    Raises
    ------
    DataError
        If it is none of these, or cannot be fitted: 2-d, not empty, real numbers.
    """
    if isinstance(data, Source):
        return data
    if storage_options and not isinstance(data, str | Path | Place):
        raise DataError(f"storage_options belong to URLs, found {type(data).__name__}. Leave them out.")
    place = Place(data, storage_options) if isinstance(data, str | Path | Place) else None
    if place is not None:
        data = place.url
    check_exists(data)
    for applies, name in KINDS:
        if applies(data):
            module, _, kind = name.partition(":")
            given = data if place is None or place.entrusted is None else place
            make = getattr(import_module(module), kind)
            _, *known = signature(make).parameters
            if unknown := set(options) - set(known):
                expected = f"expected {' or '.join(known)}" if known else "there are none"
                raise DataError(f"open_source: no option {', '.join(sorted(unknown))} for {given}: {expected}.")
            source: Source = make(given, **options)
            return source
    sparse = "Sparse data is not supported, make it dense by .toarray(); " if comes_from(data, "scipy") else ""
    raise DataError(
        f"cannot read rows from {type(data).__name__}: {sparse}expected a NumPy, dask, xarray or Zarr array, a pandas, "
        "polars or Dask DataFrame, or the path of a .npy file, a Zarr array or Parquet files."
    )


def check_exists(data: Any) -> None:
    """Refuses the path of nothing."""
    if is_path(data) and not (is_pattern(data) or "://" in str(data) or Path(data).exists()):
        raise DataError(f"{data}: no such file or folder. Check the path; relative ones start from {Path.cwd()}.")


def addresses(source: Source) -> list[str]:
    """Where the rows of a stored source are: its address and its files, if it has such."""
    address = source.fingerprint().get("address")
    return [str(found) for found in (address, *source.paths) if found is not None]


__all__ = [
    "ArraySource",
    "DataError",
    "NpySource",
    "Source",
    "StorageError",
    "addresses",
    "check_exists",
    "is_parquet",
    "is_path",
    "is_pattern",
    "is_zarr",
    "names_of",
    "open_source",
    "regular_edges",
]
