"""Data sets drawn from a mixture, at any size: a truth to fit."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.execution.local import available_cores
from gmmdask.execution.threads import one_thread
from gmmdask.mixture import Mixture
from gmmdask.outputs import check_outputs, replacing

MIXTURE, ROWS = 31, 32  # what a generator is for: the middle of its key
CHUNK_BYTES = 8 << 20  # of float64 rows; the dtype they are stored in does not move the chunks
DTYPES = ("float64", "float32")
CANDIDATES = 16  # places tried for each mean

Writer = Callable[[int, np.ndarray], None]


def random_mixture(
    n_components: int = 3, d: int = 2, covariance_type: str = "diag", seed: int = 0, separation: float = 3.0
) -> Mixture:
    """A mixture with random weights, means and covariances.

    Weights are Dirichlet(5). Components differ in size, features in width, by factors of up to about two; features
    are correlated as in a sample of 2d Gaussian rows, and the family keeps of that what it can hold.

    Parameters
    ----------
    n_components, d : int
        K and d, at least 1.
    covariance_type : {"full", "tied", "diag", "spherical"}
    seed : int
    separation : float
        Distance of the two closest means, in typical standard deviations of a component: at 1 they merge, at 3 they
        overlap visibly, at 8 they are apart.

    Raises
    ------
    ValueError
        If a number is out of range or the covariance type is unknown.
    """
    if n_components < 1 or d < 1:
        raise ValueError(f"expected at least one component and one feature, got n_components={n_components}, d={d}")
    if covariance_type not in FAMILIES:
        raise ValueError(f"covariance_type must be one of {', '.join(FAMILIES)}, got {covariance_type!r}")
    if not (0 <= separation < np.inf):
        raise ValueError(f"separation must be a finite number of standard deviations from 0, got {separation}")
    rng, family = np.random.default_rng([seed, MIXTURE]), FAMILIES[covariance_type]
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = separation * spread_points(n_components, d, rng)
    n_covariances = 1 if family.shared else n_components
    packed = np.stack([family.pack(random_covariance(d, rng)) for _ in range(n_covariances)])
    covariances = family.covariances(packed, np.ones(n_covariances), d)
    return Mixture(covariance_type, weights, means, covariances)


def spread_points(n: int, d: int, rng: np.random.Generator) -> Array:
    """Random points (n, d), the closest two at distance one: each is the loneliest of a few candidates."""
    points = rng.standard_normal((1, d))
    closest = np.inf
    for _ in range(1, n):
        candidates = rng.standard_normal((CANDIDATES, d))
        distances = np.min([np.linalg.norm(candidates - point, axis=1) for point in points], axis=0)
        points = np.vstack([points, candidates[np.argmax(distances)]])
        closest = min(closest, float(distances.max()))
    return points / closest if n > 1 else points


def random_covariance(d: int, rng: np.random.Generator) -> Array:
    """A positive definite (d, d) matrix with standard deviations around one."""
    widths = np.exp(rng.uniform(-0.35, 0.35) + rng.uniform(-0.35, 0.35, d))
    rows = rng.standard_normal((2 * d, d))
    rows *= widths / np.linalg.norm(rows, axis=0)
    covariance: Array = np.einsum("ni,nj->ij", rows, rows)  # unlike `@`, the same bits on any number of threads
    return covariance


def make_dataset(
    mixture: Mixture,
    n: int,
    path: str | Path,
    seed: int = 0,
    *,
    chunk_rows: int | None = None,
    dtype: str = "float64",
    labels: str | Path | None = None,
    compressors: Any = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> None:
    """Writes n rows of a mixture to a .npy file or a Zarr array, chunk by chunk.

    A chunk of rows is a function of the mixture, the seed, the chunk's number and its length: threads, dtype and kind
    of file do not change what is drawn. Memory is a few chunks a thread. Everything is written under temporary names in
    the same folder and renamed when complete; a failure removes them and leaves earlier outputs as they were.

    Parameters
    ----------
    path : a name that ends in .npy, or the folder of a Zarr array (format 3).
    chunk_rows : rows drawn and stored together; about 8 MiB of float64 by default.
    dtype : {"float64", "float32"}
        Of the stored rows.
    labels : where the components (n,) that the rows came from go, as the smallest unsigned integers; None drops them.
    compressors : for Zarr; none by default, because random mantissas do not compress: it would cost time and save
        nothing.
    overwrite : whether earlier outputs may be replaced.
    threads : how many draw and write at once; by default as many as there are cores.

    Raises
    ------
    OutputError
        If an output exists and may not be replaced, its folder does not, or its name cannot be written.
    ValueError
        If a setting is out of range.
    """
    chunk_rows = default_chunk_rows(mixture.d) if chunk_rows is None else chunk_rows
    threads = available_cores() if threads is None else threads
    for name, value in (("n", n), ("chunk_rows", chunk_rows), ("threads", threads)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if np.dtype(dtype).name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype}")
    outputs = [path] if labels is None else [path, labels]
    check_outputs(outputs, overwrite)
    chunk_rows = min(chunk_rows, n)
    with replacing(outputs) as places, one_thread():
        kinds = [((n, mixture.d), np.dtype(dtype)), ((n,), mixture.label_dtype)]
        pairs = zip(places, kinds, strict=False)  # labels are the second, if they are wanted
        writers = [create(place, *kind, chunk_rows, compressors) for place, kind in pairs]

        def write_chunk(index: int) -> None:
            start = index * chunk_rows
            drawn = draw_chunk(mixture, seed, index, min(chunk_rows, n - start))
            for write, values in zip(writers, drawn, strict=False):
                write(start, values)

        for_each(write_chunk, -(-n // chunk_rows), threads)


def default_chunk_rows(d: int) -> int:
    """Rows of about 8 MiB of float64."""
    return max(1, CHUNK_BYTES // (8 * d))


def draw_chunk(mixture: Mixture, seed: int, index: int, n: int) -> tuple[Array, np.ndarray]:
    """Rows (n, d) and components (n,) of a chunk: a function of the mixture, the seed, its number and its length."""
    return mixture.sample(n, np.random.default_rng([seed, ROWS, index]))


def for_each(work: Callable[[int], None], n: int, threads: int) -> None:
    """work(0) to work(n - 1) in a pool of threads, few of them waiting at a time; the first error stops the rest."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="gmmdask") as pool:
        for index in range(n):
            waiting.append(pool.submit(work, index))
            if len(waiting) > 2 * threads:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()


# --- files -----------------------------------------------------------------------------------------------------


def create(place: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int, compressors: Any) -> Writer:
    """An empty array of the kind that the name asks for, and what writes values from a row on: threads may share it."""
    if place.suffix == ".npy":
        return create_npy(place, shape, dtype)
    array = zarr.create_array(
        place,
        shape=shape,
        chunks=(chunk_rows, *shape[1:]),
        dtype=dtype,
        compressors=compressors,
        config={"write_empty_chunks": True},
    )

    def write(start: int, values: np.ndarray) -> None:
        array[start : start + len(values)] = values.astype(dtype, copy=False)

    return write


def create_npy(place: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Writer:
    """An empty .npy file of this shape, and what writes values from a row on."""
    mapped = np.lib.format.open_memmap(place, mode="w+", dtype=dtype, shape=shape)
    offset, row_bytes = mapped.offset, mapped[:1].nbytes
    del mapped  # rows go by file writes: through a map, a full disk would kill the process instead of raising OSError

    def write(start: int, values: np.ndarray) -> None:
        with place.open("r+b") as file:
            file.seek(offset + start * row_bytes)
            file.write(np.ascontiguousarray(values, dtype).data)

    return write
