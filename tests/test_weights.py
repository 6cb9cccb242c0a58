"""Weights of rows: integer weights equal repeated rows, zero weights equal dropped rows, a common factor is nothing."""

import json
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from gmmdask import GaussianMixture, Statistics, open_source
from gmmdask.algorithms import Incremental, Stochastic
from gmmdask.cli import main
from gmmdask.covariance import FAMILIES
from gmmdask.execution import Threads
from gmmdask.execution.distributed import local_cluster
from gmmdask.mixture import Mixture
from gmmdask.outcome import CheckpointWritten, Event, PassDone, PilotDone
from gmmdask.plan import Part, Plan, Slice
from gmmdask.predict import Prediction
from gmmdask.sources import ArraySource, DataError
from gmmdask.sources.weights import covering, weighted
from gmmdask.synthetic import random_mixture
from gmmdask.task import Data
from gmmdask.testing.strategies import LAW, cuts

N, D, K = 1500, 3, 3
TRUTH = {name: random_mixture(K, D, name, seed=2) for name in FAMILIES}
RNG = np.random.default_rng(5)
COUNTS = np.where(RNG.random(N) < 0.3, 0, RNG.integers(1, 5, N))
REAL = RNG.gamma(0.5, 2.0, N)
FACTORS = (1e-30, 1 / 3, 1e12)
ROWS = {name: truth.sample(N, np.random.default_rng(3))[0] for name, truth in TRUTH.items()}


def start_of(covariance_type: str) -> dict[str, Any]:
    """A start that is not the truth, as parameters of the estimator."""
    near = random_mixture(K, D, covariance_type, seed=2)
    means = near.means + np.random.default_rng(0).normal(size=(K, D))
    return {"weights_init": near.weights, "means_init": means, "precisions_init": near.family.precisions(near.root)}


def fit(data: Any, weights: Any = None, covariance_type: str = "full", scheduler: Any = None, **settings: Any) -> Any:
    settings = {"max_iter": 5, "tol": 0, "random_state": 0, **start_of(covariance_type), **settings}
    model = GaussianMixture(K, covariance_type=covariance_type, **settings)
    return model.fit(data, sample_weight=weights, scheduler=scheduler)


def assert_same_parameters(one: Any, other: Any, tolerance: float = 1e-10) -> None:
    for name in ("weights_", "means_", "covariances_"):
        found, wanted = getattr(one, name), getattr(other, name)
        assert np.abs(found - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max()), name


def assert_same_fit(one: Any, other: Any, tolerance: float = 1e-10) -> None:
    assert_same_parameters(one, other, tolerance)
    np.testing.assert_allclose(one.lower_bounds_, other.lower_bounds_, rtol=0, atol=tolerance)
    assert one.outcome_.reason == other.outcome_.reason


def bits(model: Any) -> bytes:
    arrays = (model.weights_, model.means_, model.covariances_, np.array(model.lower_bounds_))
    return b"".join(array.tobytes() for array in arrays)


def log_densities(mixture: Mixture, rows: np.ndarray) -> np.ndarray:
    return Prediction(mixture, "score").of(rows)


def stored(folder: Path, rows: np.ndarray, weights: np.ndarray, chunk: int, weights_chunk: int) -> tuple[str, str]:
    """Paths of Zarr arrays of rows and of their weights, whose chunks do not line up."""
    paths = []
    for name, array, chunks in (("rows", rows, (chunk, D)), ("weights", weights, (weights_chunk,))):
        path = folder / f"{name}-{chunk}-{weights_chunk}.zarr"
        zarr.create_array(path, data=array, chunks=chunks, fill_value=-1)
        paths.append(str(path))
    return paths[0], paths[1]


# --- the laws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_rows", [None, 150], ids=["in the sample", "larger than the sample"])
@pytest.mark.parametrize("covariance_type", FAMILIES)
class TestInMemory:
    def test_integer_weights_equal_repeated_rows(self, covariance_type: str, sample_rows: int | None) -> None:
        rows, settings = ROWS[covariance_type], {"covariance_type": covariance_type, "sample_rows": sample_rows}
        repeated = fit(np.repeat(rows, COUNTS, axis=0), **settings)
        assert_same_fit(fit(rows, COUNTS, **settings), repeated)

    def test_zero_weights_equal_dropped_rows(self, covariance_type: str, sample_rows: int | None) -> None:
        """Whatever is in those rows."""
        rows, settings = ROWS[covariance_type].copy(), {"covariance_type": covariance_type, "sample_rows": sample_rows}
        rows[COUNTS == 0] = [np.nan, 1e9, -np.inf]
        kept = COUNTS > 0
        assert_same_fit(fit(rows, np.where(kept, REAL, 0), **settings), fit(rows[kept], REAL[kept], **settings))
        assert_same_fit(fit(rows, kept, **settings), fit(rows[kept], **settings))

    def test_a_common_factor_changes_nothing(self, covariance_type: str, sample_rows: int | None) -> None:
        rows, settings = ROWS[covariance_type], {"covariance_type": covariance_type, "sample_rows": sample_rows}
        once = fit(rows, REAL, **settings)
        for factor in FACTORS:
            assert_same_fit(fit(rows, factor * REAL, **settings), once)
        assert bits(fit(rows, REAL / 2**70, **settings)) == bits(fit(rows, REAL / 2**60, **settings))


LAYOUTS = [("full", 250, 250), ("tied", 217, 640), ("diag", 500, N), ("spherical", N, 37)]


@pytest.mark.parametrize(("covariance_type", "chunk", "weights_chunk"), LAYOUTS)
def test_the_laws_hold_out_of_core(tmp_path: Path, covariance_type: str, chunk: int, weights_chunk: int) -> None:
    rows = ROWS[covariance_type]
    data, weights = stored(tmp_path, rows, COUNTS, chunk, weights_chunk)
    settings: dict[str, Any] = {"covariance_type": covariance_type, "sample_rows": 150, "cache": "never"}
    serial = fit(data, weights, scheduler="synchronous", **settings)
    assert_same_fit(serial, fit(np.repeat(rows, COUNTS, axis=0), **settings))
    for changed in ({"scheduler": Threads(3)}, {"scheduler": Threads(2), "cache": "always"}):
        assert bits(fit(data, weights, **{**settings, **changed})) == bits(serial)
    found = Statistics.of(serial, data, sample_weight=weights)
    wanted = Statistics.of(serial, np.repeat(rows, COUNTS, axis=0))
    scale = np.abs(wanted.stats.vector).max()
    assert np.abs(found.stats.vector - wanted.stats.vector).max() <= 1e-12 * scale
    assert found.weight == COUNTS.sum()
    stepped = GaussianMixture.from_statistics(Statistics.of(serial, rows, sample_weight=1e-25 * COUNTS))
    np.testing.assert_allclose(stepped.covariances_, GaussianMixture.from_statistics(wanted).covariances_, rtol=1e-9)


@pytest.mark.parametrize("algorithm", ["em", "stochastic", "incremental"])
def test_weights_of_one_are_none(algorithm: str) -> None:
    for sample_rows in (None, 150):
        settings = {"algorithm": algorithm, "sample_rows": sample_rows, "max_iter": 2}
        found, wanted = fit(ROWS["full"], np.ones(N), **settings), fit(ROWS["full"], **settings)
        assert_same_parameters(found, wanted)
        if algorithm != "stochastic" or sample_rows is None:  # whose bounds are those of held-out rows, drawn otherwise
            assert_same_fit(found, wanted)


@pytest.mark.parametrize(
    "method", ["kmeans", "k-means++", "random", "random_from_data", "kmeans-whitened", "k-means||"]
)
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_zero_weights_equal_dropped_rows_from_any_start(covariance_type: str, method: str) -> None:
    rows, kept = ROWS[covariance_type], COUNTS > 0
    model = GaussianMixture(K, covariance_type=covariance_type, init_params=method, n_init=2, random_state=0, tol=1e-2)
    found = [
        model.fit(rows, sample_weight=np.where(kept, REAL, 0)).means_,
        model.fit(rows[kept], sample_weight=REAL[kept]).means_,
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-10)


def test_a_start_from_all_weights_alike_is_that_without(tmp_path: Path) -> None:
    plain = GaussianMixture(K, random_state=1).fit(ROWS["full"])
    for factor in (1.0, *FACTORS):
        assert_same_fit(
            GaussianMixture(K, random_state=1).fit(ROWS["full"], sample_weight=np.full(N, factor)), plain, 1e-8
        )


def test_k_means_weighs_rows() -> None:
    """On a line its best partition is found: rows that are repeated move it as their weights do."""
    rows = np.linspace(0, 1, 200)[:, None] ** 2
    counts = np.where(rows[:, 0] > 0.6, 7, 1)
    for method in ("kmeans", "kmeans-whitened"):
        model = GaussianMixture(2, init_params=method, max_iter=0, random_state=0)
        found = np.sort(model.fit(rows, sample_weight=counts).means_, axis=0)
        wanted = np.sort(model.fit(np.repeat(rows, counts, axis=0)).means_, axis=0)
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
        assert np.abs(found - np.sort(model.fit(rows).means_, axis=0)).max() > 0.05


@pytest.mark.parametrize("algorithm", ["em", "stochastic", "incremental"])
def test_importance_weights_fit_another_density_than_the_rows_came_from(algorithm: str) -> None:
    truth, rng = TRUTH["full"], np.random.default_rng(6)
    mean, covariance = truth.moments()
    rows = rng.multivariate_normal(mean, 2 * covariance, size=20_000)
    weights = np.exp(log_densities(truth, rows) - multivariate_normal(mean, 2 * covariance).logpdf(rows))
    model = GaussianMixture(K, algorithm=algorithm, sample_rows=4000, random_state=0)
    fresh, missed = truth.sample(20_000, rng)[0], []
    for given_weights in (weights, None):
        found = model.fit(rows, sample_weight=given_weights).score_samples(fresh)
        missed.append(np.mean(log_densities(truth, fresh) - found))
    assert missed[0] < 0.01
    assert missed[1] > 0.1


def test_laps_are_judged_by_the_weights_of_held_out_rows() -> None:
    rows = ROWS["full"]
    weights = np.where(rows[:, 0] > np.quantile(rows[:, 0], 0.9), 50.0, 0.5)
    model = fit(rows, weights, algorithm="stochastic", sample_rows=150, max_iter=2)
    assert model.lower_bound_ == pytest.approx(model.score(rows, sample_weight=weights), abs=0.3)
    assert model.lower_bound_ > model.score(rows) + 0.5


@pytest.mark.parametrize("settings", [{"empty": "reseed"}, {"empty": "drop"}, {"prior": "mclust"}], ids=str)
def test_repairs_and_priors_keep_the_laws(settings: dict[str, Any]) -> None:
    """A component that begins far from all rows is one to repair, whatever the unit of the weights."""
    rows, kept, start = ROWS["full"], COUNTS > 0, start_of("full")
    start["means_init"][0] = 50
    settings = {**settings, **start}
    assert_same_fit(fit(rows, COUNTS, **settings), fit(np.repeat(rows, COUNTS, axis=0), **settings), 1e-8)
    assert_same_fit(fit(rows, kept, **settings), fit(rows[kept], **settings), 1e-8)
    if "empty" in settings:
        assert_same_fit(fit(rows, 1e-9 * REAL, **settings), fit(rows, REAL, **settings), 1e-8)


def test_outliers_are_rare_by_weight() -> None:
    rows = ROWS["full"]
    far = rows[:, 0] > np.quantile(rows[:, 0], 0.9)
    weights = np.where(far, 0.1, 1.0)
    for sample_rows in (None, 150):
        flagged = fit(rows, weights, sample_rows=sample_rows, max_iter=1).outliers(rows, 0.1)
        assert weights[flagged].sum() / weights.sum() == pytest.approx(0.1, abs=0.06 if sample_rows else 0.01)


def test_scores_and_criteria_keep_the_laws() -> None:
    model, rows, repeated = fit(ROWS["full"]), ROWS["full"], np.repeat(ROWS["full"], COUNTS, axis=0)
    for name in ("score", "bic", "aic"):
        found = getattr(model, name)(rows, sample_weight=COUNTS)
        assert found == pytest.approx(getattr(model, name)(repeated), rel=1e-12)
    mean = np.average(model.score_samples(rows), weights=REAL)
    assert model.score(rows, sample_weight=REAL) == pytest.approx(mean, rel=1e-12)
    assert model.score(rows, sample_weight=1e-9 * REAL) == pytest.approx(mean, rel=1e-12)
    assert fit(rows, COUNTS, max_iter=1).lower_bound_ == pytest.approx(
        fit(repeated, max_iter=1).lower_bound_, rel=1e-12
    )


def test_fit_predict_and_partial_fit_take_weights() -> None:
    model = GaussianMixture(K, random_state=0, **start_of("full"))
    labels = model.fit_predict(ROWS["full"], sample_weight=COUNTS)
    np.testing.assert_array_equal(labels, fit(ROWS["full"], COUNTS, tol=1e-3, max_iter=100).predict(ROWS["full"]))


@pytest.mark.parametrize("weights", [REAL, 1e-6 * REAL / REAL.sum()], ids=["large", "summing to 1e-6"])
def test_no_component_seems_empty_because_weights_are_small(weights: np.ndarray) -> None:
    for algorithm in ("em", "stochastic", "incremental"):
        model = fit(ROWS["full"], weights, algorithm=algorithm, max_iter=2, sample_rows=150)
        assert "less than one row" not in model.outcome_.sentence


# --- the same bits ---------------------------------------------------------------------------------------------

ALGORITHMS = {
    "em": "em",
    "stochastic": Stochastic(tol=0, max_iter=2, mini_batches=20),
    "incremental": Incremental(tol=0, max_iter=2, mini_batches=8),
}


def sampled(data: Any, weights: Any, scheduler: Any = "synchronous", **settings: Any) -> Any:
    """A fit from a start that is found on the sample."""
    settings = {"n_init": 2, "max_iter": 3, "tol": 0, "sample_rows": 400, "random_state": 3, **settings}
    return GaussianMixture(K, **settings).fit(data, sample_weight=weights, scheduler=scheduler)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return stored(tmp_path_factory.mktemp("data"), ROWS["full"], REAL, 130, 350)


def test_a_cluster_gives_the_bits_of_serial(paths: tuple[str, str]) -> None:
    data, weights = paths
    rows = zarr.open_array(data, mode="r")[:]
    with local_cluster(2) as executor, dask.config.set({"gmmdask.kernel": "numpy"}):  # which workers load sooner
        cluster = executor.client
        for algorithm in ("em", Incremental(tol=0, max_iter=2, mini_batches=4)):
            settings: dict[str, Any] = {"algorithm": algorithm, "sample_rows": 150, "max_iter": 2}
            serial = bits(fit(data, weights, scheduler="synchronous", **settings))
            assert bits(fit(data, weights, scheduler=cluster, **settings)) == serial
            assert bits(fit(data, REAL, scheduler=cluster, **settings)) == serial
        later = dask.array.from_array(REAL, chunks=777)
        assert bits(sampled(rows, later, cluster)) == bits(sampled(rows, REAL))
        assert fit(rows).score(data, sample_weight=later, scheduler=cluster) == fit(rows).score(
            data, sample_weight=REAL
        )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_threads_and_caches_give_the_bits_of_serial(paths: tuple[str, str], name: str) -> None:
    serial = bits(sampled(*paths, algorithm=ALGORITHMS[name]))
    for settings in ({"cache": "always"}, {"cache": "never"}):
        found = sampled(*paths, Threads(3), algorithm=ALGORITHMS[name], **settings)
        assert bits(found) == serial


class Stop(Exception):
    """Ends a fit, as SIGKILL would."""


@pytest.mark.parametrize("after", [PilotDone, PassDone])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_stopped_and_resumed_fit_ends_in_the_same_bits(
    paths: tuple[str, str], tmp_path: Path, name: str, after: type[Event]
) -> None:
    seen: list[Event] = []

    def stop(event: Event) -> None:
        seen.append(event)
        if isinstance(event, CheckpointWritten) and any(isinstance(one, after) for one in seen):
            raise Stop

    settings: dict[str, Any] = {"algorithm": ALGORITHMS[name], "checkpoint": tmp_path / "fit.ckpt"}
    with dask.config.set({"gmmdask.checkpoint-interval": 0}), pytest.raises(Stop):
        sampled(*paths, callbacks=(stop,), **settings)
    model = GaussianMixture(K, n_init=2, max_iter=3, tol=0, sample_rows=400, random_state=3, **settings)
    with pytest.raises(ValueError, match=r"belongs to a fit of other data \(weights: "):
        model.fit(paths[0], sample_weight=REAL, resume=True)
    with pytest.raises(ValueError, match=r"belongs to a fit of other data \(weights: .* None now"):
        model.fit(paths[0], resume=True)
    model.fit(paths[0], sample_weight=paths[1], resume=True)
    assert bits(model) == bits(sampled(*paths, algorithm=ALGORITHMS[name]))
    assert model.provenance_["data"]["weights"]["address"] == paths[1]


# --- where weights come from -----------------------------------------------------------------------------------


def forms(folder: Path, weights: np.ndarray) -> dict[str, Any]:
    """The same weights in everything that they may come in."""
    np.save(folder / "flat.npy", weights)
    np.save(folder / "column.npy", weights[:, None])
    found: dict[str, Any] = {
        "a list": weights.tolist(),
        "a column": weights[:, None],
        "strided": np.repeat(weights, 2)[::2],
        ".npy": str(folder / "flat.npy"),
        ".npy column": folder / "column.npy",
        "dask": dask.array.from_array(weights, chunks=211),
        "dask column": dask.array.from_array(weights[:, None], chunks=(999, 1)),
        "opened": open_source(weights[:, None]),
        "npy URL": f"file://{folder}/flat.npy",
    }
    grids: dict[str, dict[str, Any]] = {
        "zarr": {"chunks": (101,)},
        "shards": {"chunks": (50,), "shards": (400,)},
        "format 2": {"chunks": (N,), "zarr_format": 2},
        "zarr column": {"chunks": (77, 1), "data": weights[:, None]},
    }
    for name, grid in grids.items():
        found[name] = str(folder / f"{name}.zarr")
        zarr.create_array(found[name], fill_value=-1, **{"data": weights, **grid})
    return found


def test_every_form_of_weights_gives_the_same_bits(tmp_path: Path) -> None:
    data = stored(tmp_path, ROWS["full"], REAL, 130, 350)[0]
    settings: dict[str, Any] = {"sample_rows": 150, "max_iter": 2}
    wanted = bits(fit(data, REAL, **settings))
    for name, weights in forms(tmp_path, REAL).items():
        assert bits(fit(data, weights, **settings)) == wanted, name
    rows = dask.array.from_array(ROWS["full"], chunks=((130,) * 11 + (70,), D))
    assert bits(fit(rows, dask.array.from_array(REAL, chunks=400), **settings)) == wanted


def test_a_column_of_parquet_files_holds_weights(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ("x", "y", "z", "w")
    columns = dict(zip(names, [*ROWS["full"].T, REAL], strict=True))
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet", row_group_size=400)
    path = str(tmp_path / "rows.parquet")
    found = sampled(open_source(path, columns=["x", "y", "z"]), open_source(path, columns=["w"]))
    assert bits(found) == bits(sampled(open_source(path, columns=["x", "y", "z"]), REAL))
    with pytest.raises(DataError, match=r"expected one weight a row, found 4 columns.*by name"):
        fit(ROWS["full"], path)


@LAW
@given(
    data=st.data(),
    n=st.integers(1, 200),
    chunk=st.integers(1, 90),
    block_rows=st.integers(1, 80),
    of=st.integers(1, 4),
    kind=st.sampled_from(["zarr", "dask", "numpy"]),
    cache=st.booleans(),
)
def test_every_row_meets_its_own_weight(
    data: st.DataObject, n: int, chunk: int, block_rows: int, of: int, kind: str, cache: bool
) -> None:
    """However both are cut; and rows without weight are left out, and know their numbers."""
    weights = np.where(np.arange(n) % 5 == 2, 0, np.arange(n) + 1.0)
    given_weights: Any = weights
    if kind == "zarr":
        given_weights = zarr.create_array({}, data=weights, chunks=(min(chunk, n),), fill_value=-1)
    if kind == "dask":
        given_weights = dask.array.from_array(weights, chunks=min(chunk, n))
    parts = tuple(Part(i, start, stop) for i, (start, stop) in enumerate(data.draw(cuts(n))))
    source = weighted(ArraySource(np.arange(float(n))[:, None]), given_weights)
    passes = Data(source, Plan(parts, block_rows), Threads(1), cache)

    def seen(blocks: Any) -> list[tuple[float, float, int]]:
        found = []
        for block in blocks:
            assert 0 < len(block.rows) <= block_rows
            found += zip(block.rows[:, 0].tolist(), block.weights.tolist(), block.numbers.tolist(), strict=True)
        return found

    wanted = [(float(i), i + 1.0, i) for i in range(n) if i % 5 != 2]
    for _ in range(2):
        assert passes.sums(seen) == wanted
    slices = [Slice(part, k, of) for part in parts for k in range(of) if part.stop - part.start > k]
    assert sorted(one[:2] for one in passes.sums(seen, slices)) == [one[:2] for one in wanted]
    for part in parts:
        first, last = covering(source.weights, part.start, part.stop)
        assert first <= part.start < part.stop <= last
        assert {first, last} <= set(source.weights.edges.tolist())


# --- bad weights -----------------------------------------------------------------------------------------------


def spoiled(at: int, value: float) -> np.ndarray:
    weights = REAL.copy()
    weights[[at, at + 1]] = value
    return weights


BAD = {
    "NaN": (spoiled(700, np.nan), r"the weight of row 700 is nan; expected numbers from 0 to 1e\+150"),
    "negative": (spoiled(701, -0.5), r"the weight of row 701 is -0.5; expected"),
    "infinite": (spoiled(1, np.inf), r"the weight of row 1 is inf; expected"),
    "huge": (spoiled(1, 1e200), r"the weight of row 1 is 1e\+200; expected"),
    "all zero": (np.zeros(N), f"all {N} weights are zero, so no row of .* counts"),
    "too few": (REAL[1:], f"{N - 1} weights for {N} rows of .*in the same order"),
    "two a row": (np.ones((N, 2)), "expected one weight a row, found 2 columns"),
    "text": (["a"] * N, "expected real numbers, found dtype <U1 .strings"),
    "complex": (REAL * 1j, "expected real numbers, found dtype complex128"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_weights_are_refused_by_name_and_row(tmp_path: Path, name: str) -> None:
    weights, expected = BAD[name]
    model = fit(ROWS["full"], max_iter=1)
    calls: dict[str, Any] = {
        "fit": lambda X, w: fit(X, w),
        "fit on a sample": lambda X, w: fit(X, w, sample_rows=150),
        "score": lambda X, w: model.score(X, sample_weight=w),
    }
    if name != "all zero":  # statistics of no rows are what they are
        calls["statistics"] = lambda X, w: Statistics.of(model, X, sample_weight=w)
    for call in calls.values():
        with pytest.raises(DataError, match=f"^sample_weight: {expected}"):
            call(ROWS["full"], weights)
    if name in ("NaN", "negative", "too few", "all zero"):
        data, path = stored(tmp_path, ROWS["full"], weights, 130, 350)
        for call in calls.values():
            with pytest.raises(DataError, match=f"weights-130-350.zarr: {expected}"):
                call(data, path)


def test_bad_weights_are_found_before_rows_are_read(tmp_path: Path) -> None:
    source = open_source(stored(tmp_path, ROWS["full"], REAL, 130, 350)[0])
    source.read = lambda start, stop: pytest.fail("rows were read")  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"the weight of row 700 is nan; .* \(and 1 more are as bad\)"):
        fit(source, spoiled(700, np.nan))


def test_too_few_rows_that_count_are_refused() -> None:
    weights = np.zeros(N)
    weights[:2] = 1
    with pytest.raises(DataError, match="2 rows have a weight above zero, too few for n_components = 3"):
        fit(ROWS["full"], weights)


def test_bad_rows_keep_their_numbers_where_others_are_left_out() -> None:
    rows = ROWS["full"].copy()
    rows[901] = np.nan
    weights = np.where(np.arange(N) % 2 == 0, 0.0, 1.0)
    with pytest.raises(DataError, match=f"in 1 of {N} rows, the first in row 901 "):
        fit(rows, weights)
    with pytest.raises(DataError, match="first in row 901"):
        fit(ROWS["full"]).score(rows, sample_weight=weights)


@pytest.mark.parametrize("name", ["em", "stochastic", "incremental"])
def test_weights_that_change_under_a_fit_are_told(tmp_path: Path, name: str) -> None:
    data, weights = stored(tmp_path, ROWS["full"], REAL, 130, 350)

    def change(event: Event) -> None:
        if isinstance(event, PilotDone):
            zarr.open_array(weights, mode="r+")[7] = REAL[7] + 1e-3

    with pytest.raises(ValueError, match="the data changed under the fit"):
        fit(data, weights, callbacks=(change,), sample_rows=150, cache="never", algorithm=ALGORITHMS[name])


# --- what is told, read and taken ------------------------------------------------------------------------------


def test_events_count_rows_and_the_model_tells_of_the_weights(paths: tuple[str, str]) -> None:
    data, weights = paths
    for name, algorithm in ALGORITHMS.items():
        told: list[Event] = []
        model = fit(data, weights, algorithm=algorithm, callbacks=(told.append,), sample_rows=150)
        laps = [event for event in told if isinstance(event, PassDone)]
        assert {(event.rows, event.bytes) for event in laps} == {(N, N * (D + 1) * 8)}, name
        assert model.provenance_["data"]["weights"] == open_source(weights, column=True).fingerprint()
    assert fit(data, REAL).provenance_["data"]["weights"].keys() == {"kind", "shape", "dtype", "rows", "digest"}
    assert "weights" not in fit(data).provenance_["data"]


def test_a_cache_reads_weights_once(tmp_path: Path) -> None:
    data, path = stored(tmp_path, ROWS["full"], REAL, 130, 350)
    reads = {}
    for cache in ("never", "always"):
        weights = open_source(path, column=True)
        plain, reads[cache] = weights.read, 0

        def counting(start: int, stop: int, cache: str = cache, plain: Any = plain) -> Any:
            reads[cache] += 1
            return plain(start, stop)

        weights.read = counting  # type: ignore[method-assign]
        fit(data, weights, cache=cache, sample_rows=150, max_iter=3)
    once, parts = -(-N // 350), -(-N // 130)
    assert reads == {"never": once + 4 * min(8, parts), "always": once + min(8, parts)}


# --- the command line ------------------------------------------------------------------------------------------


def run(code: int, *arguments: object) -> Any:
    """What a command prints as JSON that ends with this exit code; what it complains of, if that is not 0."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--log-format", "json"])
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout) if code == 0 else result.stderr


def test_the_command_line_fits_and_scores_with_weights(tmp_path: Path) -> None:
    data, weights = stored(tmp_path, ROWS["full"], REAL, 130, 350)
    np.save(tmp_path / "weights.npy", REAL)
    model = tmp_path / "m.gmm"
    run(0, "fit", data, "-k", K, "--seed", 0, "--weights", weights, "-o", model)
    found, wanted = (
        GaussianMixture.load(model),
        GaussianMixture(K, random_state=0, stop="predicted").fit(data, sample_weight=REAL),
    )
    np.testing.assert_allclose(np.sort(found.weights_), np.sort(wanted.weights_), rtol=1e-9)
    for path in (weights, tmp_path / "weights.npy"):
        scored = run(0, "score", data, "-m", model, "--weights", path)
        assert (scored["rows"], scored["weight"]) == (N, pytest.approx(REAL.sum()))
        assert scored["mean_log_density"] == pytest.approx(found.score(data, sample_weight=REAL), rel=1e-12)
        assert scored["bic"] == pytest.approx(found.bic(data, sample_weight=REAL), rel=1e-12)
    assert "weight" not in run(0, "score", data, "-m", model)
    assert run(0, "inspect", model)["weights"] == weights
    inside = Path(weights) / "model.gmm"
    assert "weights-130-350.zarr" in run(3, "fit", data, "-k", K, "--weights", weights, "-o", inside, "--overwrite")
    assert "needs --weights" in run(2, "score", data, "-m", model, "--weights-column", "w")
    assert "needs --weights" in run(2, "score", data, "-m", model, "--weights", weights, "--weights-column", "w")
    assert "no such file" in run(3, "score", data, "-m", model, "--weights", tmp_path / "none.npy")


def test_the_command_line_takes_weights_from_a_column(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = dict(zip(("x", "y", "z", "w"), [*ROWS["full"].T, REAL], strict=True))
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet", row_group_size=400)
    path, model = tmp_path / "rows.parquet", tmp_path / "m.gmm"
    fit(open_source(path, columns=["x", "y", "z"]), max_iter=1).save(model)
    command = ("score", path, "-m", model, "--columns", "x,y,z", "--weights", path)
    found = run(0, *command, "--weights-column", "w")
    assert found["weight"] == pytest.approx(REAL.sum())
    assert "--weights-column" in run(3, *command)


def test_absent_chunks_of_weights_are_refused_unless_accepted(tmp_path: Path) -> None:
    data = stored(tmp_path, ROWS["full"], REAL, 130, 350)[0]
    weights = np.where(np.arange(N) < 700, 0.0, 1.0)
    zarr.create_array(tmp_path / "mask.zarr", data=weights, chunks=(350,))
    model = tmp_path / "m.gmm"
    assert "mask.zarr: 2 of 5 stored chunks are missing" in run(
        3, "fit", data, "-k", K, "--weights", tmp_path / "mask.zarr", "-o", model
    )
    accepted = ("--weights", tmp_path / "mask.zarr", "--accept-missing")
    run(0, "fit", data, "-k", K, *accepted, "-o", model, "--max-iter", 1)
    assert run(0, "score", data, "-m", model, *accepted)["weight"] == N - 700
