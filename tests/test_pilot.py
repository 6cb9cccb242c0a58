"""The pilot: moments, ranges, checks and the sample."""

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.execution import Threads
from gmmdask.moments import Moments
from gmmdask.pilot import FirstLook, first_look
from gmmdask.plan import Part, Plan
from gmmdask.sampling import row_keys
from gmmdask.sources import ArraySource, DataError, open_source
from gmmdask.task import Data
from gmmdask.testing.passes import data_of
from gmmdask.testing.strategies import LAW, cuts, generators


def look(
    rows: np.ndarray,
    pieces: list[tuple[int, int]],
    block_rows: int = 64,
    seed: int = 0,
    sample: int = 20,
    held: int = 10,
) -> FirstLook:
    parts = tuple(Part(i, start, stop) for i, (start, stop) in enumerate(pieces))
    return first_look(Data(ArraySource(rows), Plan(parts, block_rows), Threads(1)), seed, sample, held)


def long_moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the stored values, by two passes in extended precision."""
    rows = rows.astype(np.longdouble)
    mean = rows.sum(axis=0) / len(rows)
    near = rows - mean
    return mean, near.T @ near / len(rows)


@LAW
@given(
    data=st.data(),
    rng=generators,
    n=st.integers(1, 300),
    d=st.integers(1, 4),
    block_rows=st.integers(1, 100),
    offset=st.sampled_from([0.0, -1e3, 1e8]),
    dtype=st.sampled_from([np.float64, np.float32, np.int32]),
)
def test_moments_are_those_of_the_stored_values(
    data: st.DataObject, rng: np.random.Generator, n: int, d: int, block_rows: int, offset: float, dtype: type
) -> None:
    rows = (offset + 10 * rng.normal(size=(n, d))).astype(dtype)
    found = look(rows, data.draw(cuts(n)), block_rows).moments
    mean, covariance = long_moments(rows)
    widths = np.sqrt(np.diag(covariance)).astype(float)
    assert found.weight == n
    assert np.all(np.abs(found.mean - mean) <= 4e-16 * np.abs(mean) + 1e-13 * widths)
    assert np.all(np.abs(found.covariance - covariance) <= 1e-9 * np.outer(widths, widths))


def test_moments_without_an_offset_are_exact_to_rounding() -> None:
    rows = np.random.default_rng(3).normal(size=(5000, 3))
    found = look(rows, [(0, 1234), (1234, 5000)], 100).moments
    mean, covariance = long_moments(rows)
    np.testing.assert_allclose(found.mean, mean.astype(float), rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.covariance, covariance.astype(float), rtol=0, atol=1e-14)


def test_moments_do_not_depend_on_how_an_array_lies_in_memory() -> None:
    rows = np.random.default_rng(3).normal(size=(1000, 3))
    found = [look(array, [(0, 400), (400, 1000)]).moments for array in (rows, np.asfortranarray(rows))]
    assert found[0].mean.tobytes() == found[1].mean.tobytes()
    assert found[0].scatter.tobytes() == found[1].scatter.tobytes()


def test_moments_of_no_rows_change_nothing() -> None:
    none, some = Moments(0.0, np.zeros(2), np.zeros((2, 2))), Moments.of(np.array([[1.0, 2.0], [3.0, 5.0]]))
    for total in (none + some, some + none):
        assert (total.weight, total.mean.tolist()) == (2.0, [2.0, 3.5])
    assert (none + none).weight == 0


# --- the sample ------------------------------------------------------------------------------------------------


@LAW
@given(seed=st.integers(0, 2**63), first=st.integers(0, 2**40), n=st.integers(1, 50), shift=st.integers(0, 49))
def test_the_key_of_a_row_is_a_function_of_seed_and_number(seed: int, first: int, n: int, shift: int) -> None:
    keys = row_keys(seed, first, n)
    assert keys.dtype == np.uint64
    shift = min(shift, n - 1)
    np.testing.assert_array_equal(keys[shift:], row_keys(seed, first + shift, n - shift))
    assert len(np.unique(keys)) == n
    assert not np.any(keys == row_keys(seed + 1, first, n))


@LAW
@given(data=st.data(), n=st.integers(40, 300), block_rows=st.integers(1, 100), seed=st.integers(0, 100))
def test_the_sample_is_the_rows_of_the_smallest_keys(data: st.DataObject, n: int, block_rows: int, seed: int) -> None:
    rows = np.arange(float(n))[:, None]
    order = np.argsort(row_keys(seed, 0, n))
    found = look(rows, data.draw(cuts(n)), block_rows, seed)
    assert not found.whole
    np.testing.assert_array_equal(found.sample[:, 0], np.sort(order[:20]))
    np.testing.assert_array_equal(found.held_out[:, 0], np.sort(order[20:30]))


def test_data_that_fit_are_the_sample() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 2))
    found = look(rows, [(0, 5), (5, 20)], 3)
    assert found.whole
    np.testing.assert_array_equal(found.sample, rows)
    assert found.held_out.shape == (0, 2)


def test_the_sample_is_uniform() -> None:
    """Every row, and every pair of neighbours, is drawn as often as chance would have it, over 600 seeds."""
    n, m, seeds = 50, 10, 600
    rows = np.arange(float(n))[:, None]
    drawn = np.zeros((seeds, n))
    for seed in range(seeds):
        drawn[seed, look(rows, [(0, n)], 16, seed, m, 5).sample[:, 0].astype(int)] = 1
    assert np.all(drawn.sum(axis=1) == m)
    share = m / n
    z = (drawn.sum(axis=0) - seeds * share) / np.sqrt(seeds * share * (1 - share))
    assert np.abs(z).max() < 4
    assert np.sum(z**2) * (1 - 1 / n) < n + 4 * np.sqrt(2 * n)
    both = share * (m - 1) / (n - 1)
    pairs = (drawn[:, 1:] * drawn[:, :-1]).sum(axis=0)
    assert np.abs((pairs - seeds * both) / np.sqrt(seeds * both * (1 - both))).max() < 4


@pytest.mark.parametrize(("dtype", "kept"), [("float32", "float32"), ("float64", "float64"), ("int16", "float64")])
def test_the_sample_keeps_the_precision_of_the_data(dtype: str, kept: str) -> None:
    rows = (100 * np.random.default_rng(0).normal(size=(50, 2))).astype(dtype)
    found = look(rows, [(0, 50)])
    assert found.sample.dtype == found.held_out.dtype == kept


# --- checks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.nan, "f4"), (np.inf, "f4"), (np.nan, "f8"), (np.inf, "f8"), (-np.inf, "f8"), (1e200, "f8")],
)
@pytest.mark.parametrize("block_rows", [7, 64, 400])
def test_the_first_bad_row_and_its_chunk_are_named(value: float, dtype: str, block_rows: int) -> None:
    rows = np.ones((400, 3), dtype)
    rows[[333, 251, 399], [2, 0, 1]] = value
    expected = r"NaN or infinity .*in 3 of 400 rows, the first in row 251 \(storage chunk 2\)"
    array = zarr.create_array({}, data=rows, chunks=(100, 3))
    for source in (open_source(array), open_source(da.from_array(rows, chunks=(100, 3)))):
        with pytest.raises(DataError, match=expected):
            first_look(data_of(source, block_rows=block_rows), 0, 20, 10)


def test_a_pilot_over_a_single_row() -> None:
    found = look(np.array([[1.0, 2.0]]), [(0, 1)])
    np.testing.assert_array_equal(found.moments.mean, [1.0, 2.0])
    np.testing.assert_array_equal(found.moments.covariance, np.zeros((2, 2)))
