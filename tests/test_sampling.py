"""Which rows are drawn where rows have weights, and what they then weigh."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.execution import Threads
from gmmdask.moments import Moments
from gmmdask.pilot import FirstLook, first_look
from gmmdask.plan import Part, Plan
from gmmdask.sampling import Sample, Weights, row_keys, split, waiting_times, weigh
from gmmdask.sources import ArraySource
from gmmdask.sources.weights import weighted
from gmmdask.task import Data
from gmmdask.testing.strategies import LAW, cuts, generators, row_weights

N, M, H = 60, 15, 8


def look(
    rows: np.ndarray,
    weights: np.ndarray,
    pieces: list[tuple[int, int]] | None = None,
    block_rows: int = 16,
    seed: int = 0,
    sample: int = M,
    held: int = H,
) -> FirstLook:
    parts = tuple(Part(i, start, stop) for i, (start, stop) in enumerate(pieces or [(0, len(rows))]))
    data = Data(weighted(ArraySource(rows), weights), Plan(parts, block_rows), Threads(1))
    return first_look(data, seed, sample, held)


def joined(found: FirstLook) -> np.ndarray:
    """All rows that were drawn and their weights, as bytes would have them, (m + h, d + 1)."""
    assert found.sample_weights is not None
    assert found.held_out_weights is not None
    rows = np.concatenate([found.sample, found.held_out])
    return np.column_stack([rows, np.concatenate([found.sample_weights, found.held_out_weights])])


@LAW
@given(rng=generators, data=st.data(), n=st.integers(1, 80), offset=st.sampled_from([0.0, 1e8]))
def test_moments_with_integer_weights_are_those_of_repeated_rows(
    rng: np.random.Generator, data: st.DataObject, n: int, offset: float
) -> None:
    rows, counts = offset + rng.normal(size=(n, 3)), rng.integers(1, 5, n)
    found, wanted = Moments.of(rows, counts.astype(float)), Moments.of(np.repeat(rows, counts, axis=0))
    assert found.weight == wanted.weight
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-15, atol=1e-14)
    np.testing.assert_allclose(found.scatter, wanted.scatter, rtol=1e-12, atol=1e-12)


@LAW
@given(data=st.data(), block_rows=st.integers(1, 70), seed=st.integers(0, 100))
def test_what_is_drawn_does_not_depend_on_how_rows_are_cut(data: st.DataObject, block_rows: int, seed: int) -> None:
    rows, weights = np.arange(float(N))[:, None], data.draw(row_weights(N))
    one, other = (look(rows, weights, seed=seed), look(rows, weights, data.draw(cuts(N)), block_rows, seed))
    np.testing.assert_allclose(joined(one), joined(other), rtol=1e-13)
    drawn = joined(one)[:, 0].astype(int)
    assert len(set(drawn)) == len(drawn) == min(M + H, np.count_nonzero(weights)) or one.whole
    assert np.all(weights[drawn] > 0)
    for part in (one.sample, one.held_out):
        assert np.all(np.diff(part[:, 0]) > 0)


@LAW
@given(data=st.data(), extra=st.integers(0, 5))
def test_rows_that_count_are_the_sample_where_they_fit(data: st.DataObject, extra: int) -> None:
    rows, weights = np.arange(float(N))[:, None], data.draw(row_weights(N))
    kept = weights > 0
    found = look(rows, weights, data.draw(cuts(N)), sample=int(kept.sum()) + extra)
    assert found.whole
    np.testing.assert_array_equal(found.sample, rows[kept])
    np.testing.assert_array_equal(found.sample_weights, weights[kept] * found.unit)
    assert found.held_out.shape == (0, 1)


def test_what_is_drawn_stands_for_all_rows() -> None:
    """Sums over drawn rows, times what they stand for, are sums over all rows on the average over 800 seeds."""
    rng = np.random.default_rng(1)
    weights, values = rng.gamma(0.4, size=N) + 0.01, np.column_stack([np.ones(N), rng.normal(size=N)])
    wanted, found = weights @ values, []
    for seed in range(800):
        times = waiting_times(row_keys(seed, 0, N), weights)
        sample = Sample(np.arange(N), times, values, weights)
        chosen = sample.smallest(M)
        found.append(sample.inverse_shares(M, np.inf) @ values[chosen])
    error = np.std(found, axis=0) / len(found) ** 0.5
    assert np.all(np.abs(np.mean(found, axis=0) - wanted) < 4 * error)
    assert np.all(error < 0.02 * weights.sum())


def test_heavy_rows_are_drawn_more_often_and_every_row_weighs_what_it_should() -> None:
    weights = np.where(np.arange(N) % 3 == 0, 6.0, 0.5)
    drawn, total = np.zeros(N), np.zeros(N)
    for seed in range(400):
        found = joined(look(np.arange(float(N))[:, None], weights, seed=seed))
        np.add.at(drawn, found[:, 0].astype(int), 1)
        np.add.at(total, found[:, 0].astype(int), found[:, 1])
        assert found[:, 1].sum() == pytest.approx((M + H) * weights.mean())
    heavy = weights > 1
    assert drawn[heavy].mean() > 3 * drawn[~heavy].mean()
    shares = np.array([total[heavy].sum(), total[~heavy].sum()]) / total.sum()
    wanted = np.array([weights[heavy].sum(), weights[~heavy].sum()]) / weights.sum()
    np.testing.assert_allclose(shares, wanted, atol=0.01)


def test_sample_and_held_out_rows_are_a_fair_split() -> None:
    hits = np.zeros(N)
    for seed in range(400):
        first, rest = split(M, N, seed)
        assert sorted([*first, *rest]) == list(range(N))
        hits[first] += 1
    share = M / N
    assert np.abs((hits - 400 * share) / np.sqrt(400 * share * (1 - share))).max() < 4


@pytest.mark.parametrize("scale", [1e-140, 1.0, 1e140])
@pytest.mark.parametrize("shape", [0.05, 1.0, 50.0])
def test_the_threshold_keeps_some_more_than_wanted(shape: float, scale: float) -> None:
    weights = scale * np.random.default_rng(0).gamma(shape, size=100_000)
    data = Data(weighted(ArraySource(np.zeros((100_000, 1))), weights), Plan((Part(0, 0, 100_000),), 4096), Threads(2))
    found = weigh(data)
    assert isinstance(found, Weights)
    assert found.rows == np.count_nonzero(weights)
    assert found.mean == pytest.approx(weights[weights > 0].mean(), rel=1e-12)
    assert np.frexp(found.unit)[0] == 0.5  # a power of two
    assert 0.7 < found.unit * found.mean < 1.5 or found.unit == 1 <= found.mean * 1.5
    for wanted in (100, 5000, 30_000):
        times = waiting_times(row_keys(3, 0, len(weights)), np.maximum(weights * found.unit, 1e-300))
        kept = np.count_nonzero(times <= found.threshold(wanted))
        assert wanted < kept < 1.06 * wanted + 13 * wanted**0.5 + 30
    assert found.threshold(99_000) == np.inf


@pytest.mark.parametrize("spread", [0.2, 1.0, 4.0], ids=["heavy tails", "exponential", "alike"])
def test_the_order_of_rows_is_judged_fairly_under_weights(spread: float) -> None:
    rng = np.random.default_rng(4)
    rows, weights = rng.normal(size=(6000, 2)), rng.gamma(spread, size=6000)
    shuffled = look(rows, weights, block_rows=100, sample=500)
    assert 0.4 < shuffled.order_ratio < 2.5
    assert not shuffled.is_sorted
    order = np.argsort(rows[:, 0])
    ordered = look(rows[order], weights, block_rows=100, sample=500)
    assert ordered.is_sorted
    assert ordered.order_ratio > 5 * shuffled.order_ratio


def test_the_order_ratio_does_not_depend_on_the_unit_of_weights() -> None:
    rows = np.sort(np.random.default_rng(4).normal(size=(6000, 1)), axis=0)
    plain = first_look(Data(ArraySource(rows), Plan((Part(0, 0, 6000),), 100), Threads(1)), 0, 500, 50)
    for factor in (1e-9, 1.0, 3.0):
        found = look(rows, np.full(6000, factor), block_rows=100, sample=500)
        assert found.order_ratio == pytest.approx(plain.order_ratio, rel=1e-9)
