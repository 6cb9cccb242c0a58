"""Rows of a mixture as Zarr, made once for each size and codec, and a store that answers late."""

from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import LocalStore
from zarr.testing.store import LatencyStore

from gmmdask.mixture import Mixture
from gmmdask.synthetic import make_dataset

CODECS: dict[str, Any] = {"uncompressed": None, "zstd": ZstdCodec(), "blosc-lz4": BloscCodec(cname="lz4")}


def stored(truth: Mixture, n: int, folder: Path, codec: str = "uncompressed", chunk_rows: int | None = None) -> Path:
    """The path of an array (n, d); two calls that ask for the same get the same."""
    name = f"rows-{n}x{truth.d}-k{truth.n_components}-{truth.covariance_type}-{codec}-{chunk_rows or 'default'}.zarr"
    if not (folder / name).exists():
        make_dataset(truth, n, folder / name, chunk_rows=chunk_rows, compressors=CODECS[codec])
    return folder / name


def size_of(path: Path) -> int:
    """Bytes of the files below it."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def late(path: Path, seconds: float) -> "zarr.Array[Any]":
    """The array in a store that waits before every answer."""
    return zarr.open_array(LatencyStore(LocalStore(path, read_only=True), get_latency=seconds), mode="r")
