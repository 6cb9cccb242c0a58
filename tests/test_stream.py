"""Streams: the rows decide what is learned of them, not the calls that they come in."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from gmmdask import GaussianMixture, container
from gmmdask.algorithms import Incremental, Stochastic
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.outcome import Reason, StartChosen
from gmmdask.progress import stored_classes
from gmmdask.sources import DataError
from gmmdask.start import Start
from gmmdask.stream import STATES, Stream, Streamed
from gmmdask.synthetic import random_mixture
from gmmdask.testing.strategies import LAW, covariance_types, cuts, row_weights

K, D, START_ROWS = 3, 2, 120
N = 2500  # the start and nine steps, and some that wait
TRUTH = random_mixture(K, D, "full", seed=7)
ROWS = TRUTH.sample(N, np.random.default_rng(7))[0]


def new(covariance_type: str = "full", rate: str | float = "power", **settings: Any) -> Stream:
    start = Start(covariance_type, K, "kmeans")
    return replace(Stream(start, Stochastic(rate=rate), seed=3, start_rows=START_ROWS), **settings)


def state(stream: Stream) -> str:
    """All that a stream holds, to the bit."""
    arrays: container.Arrays = {}
    packed = json.dumps(container.pack(stream, arrays))
    return packed + "".join(array.tobytes().hex() for array in arrays.values())


def parameters(stream: Stream) -> tuple[Array, ...]:
    mixture = stream.mixture
    return mixture.weights, mixture.means, mixture.covariances


def taking(stream: Stream, rows: Array, weights: Array | None, pieces: Sequence[tuple[int, int]]) -> Stream:
    for start, stop in pieces:
        stream = stream.taking(rows[start:stop], None if weights is None else weights[start:stop])
    return stream


def learned(stream: Stream) -> bytes:
    mixture = stream.mixture
    assert mixture is not None
    return b"".join(array.tobytes() for array in (mixture.weights, mixture.means, mixture.covariances))


# --- how rows are cut ------------------------------------------------------------------------------------------


@LAW
@given(st.data(), covariance_types, st.sampled_from(["power", "equal", 0.1]))
def test_the_calls_that_rows_come_in_change_no_bit(
    data: st.DataObject, covariance_type: str, rate: str | float
) -> None:
    weights = data.draw(st.none() | row_weights(N))
    stream = new(covariance_type, rate)
    cut = taking(stream, ROWS, weights, data.draw(cuts(N)))
    assert cut.online is not None
    assert state(cut) == state(stream.taking(ROWS, weights))


def test_rows_may_come_one_by_one() -> None:
    n = START_ROWS + 300
    one_by_one = taking(new(), ROWS, None, [(i, i + 1) for i in range(n)])
    assert state(one_by_one) == state(new().taking(ROWS[:n]))


@LAW
@given(st.data())
def test_rows_of_weight_zero_are_as_if_they_had_not_come(data: st.DataObject) -> None:
    weights = data.draw(row_weights(N))
    with_zeros, without = new().taking(ROWS, weights), new().taking(ROWS[weights > 0], weights[weights > 0])
    assert (with_zeros.taken, without.taken) == (N, (weights > 0).sum())
    assert state(replace(with_zeros, taken=0)) == state(replace(without, taken=0))


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("rate", ["equal", "power", 0.1])
def test_whole_weights_are_numbers_of_rows(covariance_type: str, rate: str | float) -> None:
    """The start and borders of steps included, however the rows are cut into calls."""
    rng = np.random.default_rng(3)
    weights = rng.integers(0, 5, N).astype(np.float64)
    weights[[7, N // 2]] = 300.0, 1000.0  # rows of more than a step
    weighted = taking(new(covariance_type, rate), ROWS, weights, [(0, 50), (50, N // 2), (N // 2, N)])
    repeated = new(covariance_type, rate).taking(np.repeat(ROWS, weights.astype(int), axis=0))
    assert weighted.online is not None
    assert repeated.online is not None
    assert weighted.online.steps == repeated.online.steps > 3
    for found, wanted in zip(parameters(weighted), parameters(repeated), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
    np.testing.assert_allclose(weighted.seen, repeated.seen, rtol=1e-10)


def test_weights_that_are_no_counts_weigh_in_their_step() -> None:
    start = new(rate="equal").taking(ROWS[:START_ROWS])
    rows = ROWS[: start.needed]
    once, more = start.taking(rows), start.taking(rows, np.full(len(rows), 2.5))
    sums = []
    for stream in (start, once, more):
        assert stream.online is not None
        assert stream.online.sums is not None
        sums.append(stream.online.sums.about(np.zeros((K, D))).vector)
    np.testing.assert_allclose(sums[2] - sums[0], 2.5 * (sums[1] - sums[0]), atol=1e-9)


def test_the_start_is_found_on_the_first_rows_alone() -> None:
    told: list[Any] = []
    stream = new().taking(ROWS[: START_ROWS - 1], emit=told.append)
    assert (stream.online, stream.waiting, told) == (None, START_ROWS - 1, [])
    stream = stream.taking(ROWS[START_ROWS - 1 : START_ROWS], emit=told.append)
    assert [type(event) for event in told] == [StartChosen]
    assert (stream.waiting, stream.score) == (0, -np.inf)
    assert learned(stream) != learned(stream.taking(ROWS[START_ROWS : START_ROWS + stream.needed]))


@pytest.mark.parametrize("k", [1, 4])
def test_flat_memory(k: int) -> None:
    """What a stream holds does not grow with the rows that it has taken."""
    stream = Stream(Start("full", k), Stochastic(), start_rows=200)
    sizes = []
    for _ in range(40):
        stream = stream.taking(ROWS[:1000])
        arrays: container.Arrays = {}
        container.pack(replace(stream, rows=ROWS[:1], weights=np.ones(1)), arrays)
        sizes.append(sum(array.nbytes for array in arrays.values()))
        assert stream.waiting < stream.needed
    assert len(set(sizes[8:])) == 1


# --- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [START_ROWS, 1000, 2499])
def test_a_saved_stream_goes_on_to_the_same_bits(tmp_path: Path, at: int) -> None:
    settings = {"covariance_type": "diag", "random_state": 3, "sample_rows": START_ROWS}
    whole = GaussianMixture(K, **settings).partial_fit(ROWS)
    GaussianMixture(K, **settings).partial_fit(ROWS[:at]).save(tmp_path / "m")
    going_on = GaussianMixture.load(tmp_path / "m").partial_fit(ROWS[at:])
    assert state(going_on.stream_) == state(whole.stream_)
    assert going_on.means_.tobytes() == whole.means_.tobytes()


def test_the_file_of_a_published_stream_is_a_model_too(tmp_path: Path) -> None:
    stream = new().taking(ROWS[:1000])
    assert stream.online is not None
    position = {"source": "-", "files": {"a": {"rows": 3}}}
    save_model(tmp_path / "m", Model(stream.mixture, stream.describe(), Streamed(stream, position)))
    found = load_model(tmp_path / "m", {**stored_classes(), **STATES}).state
    assert isinstance(found, Streamed)
    assert found.position == position
    loaded = GaussianMixture.load(tmp_path / "m")
    assert state(loaded.stream_) == state(stream)
    assert state(loaded.partial_fit(ROWS[1000:]).stream_) == state(new().taking(ROWS))


# --- what is refused, and what stays ---------------------------------------------------------------------------

BAD: dict[str, tuple[Any, Any, str]] = {
    "empty": (np.empty((0, D)), None, r"0 sample\(s\)"),
    "without columns": (np.empty((5, 0)), None, r"0 feature\(s\)"),
    "NaN": (np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0), None, "first in row 2 of this call .row 1002 of"),
    "infinity": (np.full((3, D), np.inf, "f4"), None, "NaN or infinity.*row 0 of this call"),
    "huge": (np.full((3, D), 1e200), None, "beyond 1e.150"),
    "other d": (np.ones((4, 3)), None, "X has 3 features, but GaussianMixture is expecting 2 features"),
    "1-d": (np.ones(4), None, "2-d"),
    "strings": (np.array([["a", "b"]]), None, "expected real numbers, found dtype <U1"),
    "complex": (np.ones((2, D)) * 1j, None, "Complex data not supported"),
    "objects": (np.array([[None, 1]]), None, "objects"),
    "a negative weight": (np.ones((2, D)), [1, -1], "sample_weight: expected 2 finite numbers that are not negative"),
    "a weight that is none": (np.ones((2, D)), [1, np.nan], "sample_weight"),
    "too few weights": (np.ones((2, D)), [1], r"sample_weight: expected 2.*shape \(1,\)"),
}


@pytest.mark.parametrize("taken", [60, 1000], ids=["before the start", "after it"])
@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_refused_and_the_state_is_unharmed(name: str, taken: int) -> None:
    rows, weights, words = BAD[name]
    model = GaussianMixture(K, random_state=3, sample_rows=START_ROWS).partial_fit(ROWS[:taken])
    before = state(model.stream_)
    with pytest.raises(DataError, match=words.replace("1002", str(taken + 2))):
        model.partial_fit(rows, sample_weight=weights)
    assert state(model.stream_) == before
    model.partial_fit(ROWS[taken:])
    whole = GaussianMixture(K, random_state=3, sample_rows=START_ROWS).partial_fit(ROWS)
    assert model.means_.tobytes() == whole.means_.tobytes()


def test_a_stream_that_ends_before_the_start_is_not_fitted(tmp_path: Path) -> None:
    model = GaussianMixture(K, sample_rows=START_ROWS).partial_fit(ROWS[: START_ROWS - 1])
    for use in (model.predict, model.score, lambda rows: model.save(tmp_path / "m")):
        with pytest.raises(NotFittedError):
            use(ROWS)
    assert not list(tmp_path.iterdir())
    assert model.partial_fit(ROWS[START_ROWS - 1 : START_ROWS]).predict(ROWS).shape == (N,)


def test_a_start_on_fewer_rows_than_components_is_refused() -> None:
    with pytest.raises(DataError, match=r"sample_rows=2 rows cannot start 3 components.*--sample-rows"):
        GaussianMixture(3, sample_rows=2).partial_fit(ROWS)


def test_only_online_em_learns_streams() -> None:
    with pytest.raises(ValueError, match="algorithm='stochastic'"):
        GaussianMixture(K, algorithm=Incremental()).partial_fit(ROWS)
    with pytest.raises(ValueError, match="algorithm='stochastic'"):
        GaussianMixture(K, algorithm="incremental").partial_fit(ROWS)


def test_a_fit_ends_the_stream() -> None:
    model = GaussianMixture(K, random_state=0, sample_rows=START_ROWS).partial_fit(ROWS)
    assert model.outcome_.reason is Reason.STREAM
    assert model.fit(ROWS).stream_ is None
    assert model.partial_fit(ROWS[:1000]).stream_.taken == 1000


# --- how well it learns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_the_score_is_that_of_batch_em_from_the_same_start(covariance_type: str) -> None:
    truth = random_mixture(8, 4, "full", seed=1)
    rows, held_out = (truth.sample(n, np.random.default_rng(n))[0] for n in (100_000, 50_000))
    start = GaussianMixture(8, covariance_type=covariance_type, random_state=0)
    m = 0
    while not hasattr(start, "means_"):
        start.partial_fit(rows[m : m + 100])
        m += 100
    given = {"weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_}
    batch = GaussianMixture(8, covariance_type=covariance_type, tol=1e-5, max_iter=500, **given).fit(rows)
    stream = start.partial_fit(rows[m:])
    assert stream.score(held_out) > batch.score(held_out) - 0.005
    assert stream.lower_bound_ == pytest.approx(batch.score(rows[-25_000:]), abs=0.05)


def test_a_drift_is_followed_by_constant_forgetting_and_not_by_equal_weights() -> None:
    """Two components whose means move by 3 standard deviations in 100,000 rows.

    Forgetting at 0.05 remembers 20 steps of 256 rows, in which they move by 0.15.
    """
    rng, n = np.random.default_rng(0), 100_000
    moved = 3 * np.arange(n)[:, None] / n
    signs = rng.choice([-3.0, 3.0], n)[:, None]
    rows = np.concatenate([signs, np.zeros((n, 1))], axis=1) + moved * [0, 1] + rng.normal(size=(n, 2))
    errors = {}
    for rate in (0.05, "equal"):
        stream = Stream(Start("full", 2), Stochastic(rate=rate), start_rows=500)
        off = []
        for at in range(0, n, 10_000):
            stream = stream.taking(rows[at : at + 10_000])
            assert stream.online is not None
            means = stream.mixture.means
            now = np.column_stack([[-3, 3], np.full(2, moved[at + 9999, 0])])
            off.append(np.abs(means[np.argsort(means[:, 0])] - now).max())
        errors[rate] = off
    assert max(errors[0.05][1:]) < 0.2
    assert errors["equal"][-1] > 1
