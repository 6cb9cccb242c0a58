"""Data arguments of every kind: the same rows give the same model, predictions and scores, and names are kept."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import dask.array as da
import dask.dataframe as dd
import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency

from gmmdask import GaussianMixture, Statistics
from gmmdask.cli import main
from gmmdask.container import FileError
from gmmdask.model_file import Model, load_model, save_model
from gmmdask.sources import DataError, Source, open_source
from gmmdask.synthetic import random_mixture
from gmmdask.testing.contracts import SourceTests
from gmmdask.testing.strategies import LAW

N, D, K = 1500, 3, 3
NAMES = ["width", "height", "mass"]
TRUTH = random_mixture(K, D, "full", seed=5)
ROWS = TRUTH.sample(N, np.random.default_rng(5))[0]
FRAME = pd.DataFrame(ROWS, columns=NAMES)


def table(rows: np.ndarray, names: list[str] = NAMES) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=names[: rows.shape[1]])


def stored(folder: Path, *names: str) -> str:
    """Rows as .npy, Zarr and Parquet files; the path of one of them."""
    np.save(folder / "rows.npy", ROWS)
    zarr.create_array(folder / "rows.zarr", data=ROWS, chunks=(700, D))
    (folder / "rows").mkdir()
    for i, at in enumerate(range(0, N, 500)):
        pq.write_table(pa.table(table(ROWS[at : at + 500])), folder / "rows" / f"{i}.parquet", row_group_size=150)
    pq.write_table(pa.table(FRAME), folder / "rows.parquet", row_group_size=450)
    return "/".join([str(folder), *names])


PATHS: dict[str, Callable[[Path], str]] = {
    "npy": lambda folder: stored(folder, "rows.npy"),
    "npy URL": lambda folder: f"file://{stored(folder, 'rows.npy')}",
    "zarr": lambda folder: stored(folder, "rows.zarr"),
    "zarr URL": lambda folder: f"file://{stored(folder, 'rows.zarr')}",
    "parquet": lambda folder: stored(folder, "rows.parquet"),
    "parquet URL": lambda folder: f"file://{stored(folder, 'rows.parquet')}",
    "parquet folder": lambda folder: stored(folder, "rows"),
    "parquet pattern": lambda folder: stored(folder, "rows", "*.parquet"),
}
IN_MEMORY: dict[str, Callable[[], Any]] = {
    "array": lambda: ROWS,
    "xarray": lambda: xr.DataArray(ROWS, dims=("row", "feature"), coords={"feature": NAMES}),
    "pandas": lambda: FRAME,
    "pandas, nullable": lambda: FRAME.astype("Float64"),
    "pandas, of Arrow": lambda: FRAME.astype("float64[pyarrow]"),
    "polars": lambda: pl.DataFrame(ROWS, schema=NAMES),
}
LAZY: dict[str, Callable[[], Any]] = {
    "dask": lambda: da.from_array(ROWS, chunks=(640, 2)),
    "dask, unknown": lambda: (lambda array: array[array[:, 0] > -np.inf])(da.from_array(ROWS, chunks=(640, D))),
    "xarray of dask": lambda: xr.DataArray(da.from_array(ROWS, chunks=(800, D)), coords={"dim_1": NAMES}),
    "dask frame": lambda: dd.from_pandas(FRAME, npartitions=5),
    "dask frame, unknown": lambda: (lambda f: f[f["width"] > -np.inf])(dd.from_pandas(FRAME, npartitions=5)),
}
NAMELESS = {"array", "npy", "npy URL", "zarr", "zarr URL", "dask", "dask, unknown"}


def of_kind(kind: str, folder: Path) -> Any:
    return PATHS[kind](folder) if kind in PATHS else {**IN_MEMORY, **LAZY}[kind]()


# --- the same whatever holds the rows --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wanted() -> dict[str, Any]:
    """What the rows as an array give, by passes over all of them after a start on a sample."""
    return used(fitted(ROWS, **START))


@pytest.fixture(scope="module")
def commanded() -> dict[str, Any]:
    """The same from a start of its own."""
    return used(fitted(ROWS))


def used(model: GaussianMixture) -> dict[str, Any]:
    found = {name: getattr(model, name)(ROWS) for name in ("predict", "predict_proba", "score_samples", "outliers")}
    return {**found, "means_": model.means_, "covariances_": model.covariances_, "score": model.score(ROWS)}


START = {
    "weights_init": TRUTH.weights,
    "means_init": TRUTH.means,
    "precisions_init": TRUTH.family.precisions(TRUTH.root),
}


def fitted(data: Any, **start: Any) -> GaussianMixture:
    return GaussianMixture(K, random_state=0, sample_rows=300, tol=0, max_iter=3, **start).fit(data)


@pytest.mark.parametrize("kind", [*PATHS, *IN_MEMORY, *LAZY])
def test_every_kind_of_data_gives_the_same_model_and_predictions(
    kind: str, wanted: dict[str, Any], tmp_path: Path
) -> None:
    data = of_kind(kind, tmp_path)
    model = fitted(data, **START)
    assert model.n_iter_ == 3
    assert hasattr(model, "feature_names_in_") == (kind not in NAMELESS)
    for name in ("means_", "covariances_"):
        np.testing.assert_allclose(getattr(model, name), wanted[name], rtol=0, atol=1e-10)
    assert model.score(data) == pytest.approx(wanted["score"], abs=1e-10)
    for name in ("predict", "predict_proba", "score_samples", "outliers"):
        found = getattr(model, name)(data)
        assert isinstance(found, np.ndarray if kind in IN_MEMORY else da.Array)
        assert found.dtype == wanted[name].dtype
        np.testing.assert_allclose(np.asarray(found), wanted[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_predictions_have_the_chunks_of_the_rows(kind: str) -> None:
    data, model = LAZY[kind](), GaussianMixture.from_statistics(Statistics.of(TRUTH, ROWS))
    rows = open_source(data).array.chunks[0]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model was fitted without names
        assert model.predict(data).chunks == (rows,)
        assert model.predict_proba(data).chunks == (rows, (K,))
        assert model.outliers(data, 0.1, reference=ROWS).chunks == (rows,)


@pytest.mark.parametrize("kind", PATHS)
def test_commands_take_every_kind_of_path(kind: str, commanded: dict[str, Any], tmp_path: Path) -> None:
    data, model, out = of_kind(kind, tmp_path), tmp_path / "m.gmm", tmp_path / "out"
    start = ("fit", data, "-k", K, "--seed", 0, "--sample-rows", 300, "--tol", 0, "--max-iter", 3)
    run(*start, "--accelerate", "squarem", "-o", model)
    run("predict", data, "-m", model, "-o", out, "--what", "score", "--outliers", 0.01)
    scored = json.loads(run("score", data, "-m", model, "--log-format", "json"))
    written = zarr.open_group(out, mode="r")
    np.testing.assert_allclose(written["score"][:], commanded["score_samples"], rtol=0, atol=1e-9)  # type: ignore[index]
    np.testing.assert_array_equal(written["outlier"][:], commanded["outliers"])  # type: ignore[index]
    assert scored["mean_log_density"] == pytest.approx(commanded["score"], abs=1e-10)
    assert load_model(model).feature_names == (None if kind in NAMELESS else tuple(NAMES))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("kind", [*IN_MEMORY, *LAZY])
def test_a_stream_takes_rows_in_memory_of_every_kind(kind: str) -> None:
    data, model = of_kind(kind, Path()), GaussianMixture(K, random_state=0)
    whole = GaussianMixture(K, random_state=0).partial_fit(ROWS).partial_fit(ROWS)
    assert model.partial_fit(data).partial_fit(data).means_.tobytes() == whole.means_.tobytes()
    if kind not in NAMELESS:
        with pytest.raises(ValueError, match="unseen at fit time:\n- heft"):
            model.partial_fit(FRAME.rename(columns={"mass": "heft"}))


def test_a_stream_takes_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="partial_fit takes rows in memory"):
        GaussianMixture(K).partial_fit(of_kind("npy", tmp_path))


# --- sources ---------------------------------------------------------------------------------------------------


class TestPandas(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(table(rows))


class TestFloat32Pandas(TestPandas):
    dtype = "float32"


class TestPolars(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(pl.DataFrame(rows, schema=NAMES))


class TestIntegerPolars(TestPolars):
    dtype = "int32"


class TestXarray(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(xr.DataArray(rows, dims=("t", "f"), coords={"f": NAMES}))


class TestXarrayOfDask(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(xr.DataArray(da.from_array(rows, chunks=(170, 2))))


class TestDaskFrame(SourceTests):
    stored = False

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        return open_source(dd.from_pandas(table(rows), npartitions=6))


class TestNpyUrl(SourceTests):
    n = 9000
    order: ClassVar[Any] = "C"

    @pytest.fixture(autouse=True)
    def small_reads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gmmdask.sources.npy_url.READ_BYTES", 20_000)

    def make(self, rows: np.ndarray, folder: Path) -> Source:
        np.save(folder / "rows.npy", np.asarray(rows, order=self.order))
        return open_source(f"file://{folder}/rows.npy")


class TestFortranNpyUrl(TestNpyUrl):
    order: ClassVar[Any] = "F"


def test_a_npy_file_behind_a_url_that_is_none() -> None:
    for content, words in ((b"no array", "no .npy file can be read there"), (None, "no .npy file can be read")):
        if content is not None:
            fsspec.filesystem("memory").pipe("/rows.npy", content)
        with pytest.raises(DataError, match=words):
            open_source("memory://rows.npy" if content else "memory://nothing.npy")
    whole = npy_bytes(ROWS)
    fsspec.filesystem("memory").pipe("/rows.npy", whole[:-1])
    with pytest.raises(DataError, match=f"expected {len(whole)} bytes, found {len(whole) - 1}"):
        open_source("memory://rows.npy")
    fsspec.filesystem("memory").pipe("/rows.npy", whole)
    source = open_source("memory://rows.npy")
    fsspec.filesystem("memory").pipe("/rows.npy", whole[:-1])
    with pytest.raises(DataError, match=f"ends before row {N - 1}"):
        list(source.read(0, N))


def npy_bytes(array: np.ndarray) -> bytes:
    with fsspec.open("memory://a.npy", "wb") as file:
        np.save(file, array)
    content: bytes = fsspec.filesystem("memory").cat("/a.npy")
    return content


@given(missing=st.lists(st.sampled_from([1.5, 2.0, None]), min_size=2, max_size=9), flags=st.booleans())
@LAW
def test_missing_values_of_tables_are_nan(missing: list[float | None], flags: bool) -> None:
    rows = np.array([[np.nan if value is None else value, flags] for value in missing])
    for frame in (
        pd.DataFrame({"a": pd.array(missing, "Float64"), "b": flags}),
        pd.DataFrame({"a": pd.array(missing, "float64[pyarrow]"), "b": flags}),
        pl.DataFrame({"a": pl.Series(missing, dtype=pl.Float64), "b": [flags] * len(missing)}),
        pl.DataFrame({"a": pl.Series(missing, dtype=pl.Decimal(9, 2)), "b": [flags] * len(missing)}),
    ):
        np.testing.assert_array_equal(next(open_source(frame).read(0, len(rows))), rows)


DATES = pd.to_datetime(["2020-01-01"] * 2)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "pandas": (lambda: pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": DATES}), "'b' of type str.*, 'c' of type date"),
    "objects": (lambda: pd.DataFrame({"a": np.array([1, None], object)}), "'a' of type object"),
    "categories": (lambda: pd.DataFrame({"a": pd.Categorical(["x", "y"])}), "'a' of type category"),
    "complex": (lambda: pd.DataFrame({"a": [1j, 2]}), "'a' of type complex128"),
    "polars": (lambda: pl.DataFrame({"a": [1.0], "b": ["x"]}), "'b' of type String.*Choose the columns"),
    "dask": (lambda: dd.from_pandas(pd.DataFrame({"a": [1, 2], "b": DATES}), npartitions=1), "'b' of type datetime64"),
    "many": (lambda: pd.DataFrame({f"c{j}": ["x"] for j in range(20)}), "'c7' of type str and 12 more"),
    "lazy": (lambda: pl.LazyFrame({"a": [1.0]}), "LazyFrame: collect it first"),
    "no columns": (lambda: pl.DataFrame(), r"0 sample"),
    "no rows": (lambda: FRAME[:0], r"0 sample"),
    "series": (lambda: FRAME["mass"], "expected a 2-d array"),
    "dataset": (lambda: xr.Dataset({"a": ("x", [1.0, 2.0])}), "xarray Dataset: expected a DataArray.*to_dataarray"),
    "1-d": (lambda: xr.DataArray([1.0, 2.0]), "xarray.DataArray: expected a 2-d array"),
    "3-d": (lambda: xr.DataArray(np.ones((2, 2, 2))), "xarray.DataArray: expected a 2-d array"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_tables_that_cannot_be_fitted_are_refused_in_words(kind: str) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(DataError, match=words):
        open_source(make())


def test_names_of_which_only_some_are_strings_are_refused() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], 5: [1.0, 2.0]})
    with pytest.raises(TypeError, match="Feature names are only supported if all input features have string names"):
        open_source(frame)
    assert open_source(pd.DataFrame(ROWS)).feature_names is None


# --- names of features -----------------------------------------------------------------------------------------

OTHERS: dict[str, pd.DataFrame] = {
    "other names": FRAME.rename(columns={"mass": "heft"}),
    "another order": FRAME[["mass", "width", "height"]],
    "one less": FRAME[["width", "height"]],
    "one more": FRAME.assign(more=1.0),
}


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """Ours and scikit-learn's, fitted to the table."""
    return GaussianMixture(1).fit(FRAME), Theirs(1).fit(FRAME)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "score_samples", "score", "outliers", "statistics", "bic"]
)
@pytest.mark.parametrize("other", OTHERS)
def test_features_of_other_names_are_refused_in_the_words_of_scikit_learn(
    method: str, other: str, both: tuple[Any, Any]
) -> None:
    with pytest.raises(ValueError, match="feature names should match") as ours:
        getattr(both[0], method)(OTHERS[other])
    with pytest.raises(ValueError, match="feature names should match") as theirs:
        both[1].predict(OTHERS[other])
    assert str(ours.value).startswith(str(theirs.value).rstrip())
    assert ", ".join(OTHERS[other].columns) in str(ours.value)
    assert "expected width, height, mass" in str(ours.value)


def test_statistics_at_a_model_check_names_too(both: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="feature names should match"):
        Statistics.of(both[0], OTHERS["other names"])
    assert Statistics.of(both[0].mixture_, OTHERS["other names"]).weight == N


def test_missing_names_are_warned_of_as_by_scikit_learn() -> None:
    for fit, use in ((FRAME, ROWS), (ROWS, FRAME)):
        with pytest.warns(UserWarning, match="feature names") as theirs:
            Theirs(1).fit(fit).predict(use)
        with pytest.warns(UserWarning, match="feature names") as ours:
            GaussianMixture(1).fit(fit).predict(use)
        assert [str(one.message) for one in ours] == [str(one.message) for one in theirs]


def test_scikit_learns_own_check_of_names() -> None:
    check_dataframe_column_names_consistency("GaussianMixture", GaussianMixture())


def test_names_are_those_of_the_last_fit() -> None:
    model = GaussianMixture(1).fit(FRAME)
    assert model.feature_names_in_.tolist() == NAMES
    assert not hasattr(model.fit(ROWS), "feature_names_in_")


def test_names_are_kept_in_the_file(tmp_path: Path) -> None:
    GaussianMixture(1).fit(FRAME).save(tmp_path / "m")
    model = GaussianMixture.load(tmp_path / "m")
    assert model.feature_names_in_.tolist() == NAMES
    with pytest.raises(ValueError, match="same order"):
        model.predict(OTHERS["another order"])
    save_model(tmp_path / "old", Model(TRUTH, {}))
    assert not hasattr(GaussianMixture.load(tmp_path / "old"), "feature_names_in_")
    save_model(tmp_path / "wrong", Model(TRUTH, {}, feature_names=("a", "b")))
    with pytest.raises(FileError, match="names of 3 features"):
        load_model(tmp_path / "wrong")


def test_commands_check_names(tmp_path: Path) -> None:
    data, model = of_kind("parquet", tmp_path), tmp_path / "m.gmm"
    run("fit", data, "-k", 1, "-o", model)
    pq.write_table(pa.table(OTHERS["another order"]), tmp_path / "other.parquet")
    rest = {"predict": ("-o", tmp_path / "out"), "score": (), "update": ("-o", tmp_path / "new")}
    for command, more in rest.items():
        arguments = [command, str(tmp_path / "other.parquet"), "-m", str(model), *map(str, more)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 3
        assert "Feature names must be in the same order" in result.stderr
    run("update", data, "-m", model, "-o", tmp_path / "new")
    assert "width, height, mass" in run("inspect", tmp_path / "new")
    assert load_model(tmp_path / "new").feature_names == tuple(NAMES)


# --- packages --------------------------------------------------------------------------------------------------


def test_optional_packages_are_not_needed_and_not_imported_by_us() -> None:
    """scikit-learn and dask import some of them by themselves, where they are installed: so they are made missing."""
    code = (
        "import builtins, sys\n"
        "optional, real, asked = ('pandas', 'polars', 'xarray', 'pyarrow'), builtins.__import__, []\n"
        "class Missing:\n"
        "    def find_spec(name, *rest):\n"
        "        if name.split('.')[0] in optional:\n"
        "            raise ImportError(name)\n"
        "def watched(name, globals=None, *rest, **more):\n"
        "    who = (globals or {}).get('__name__', '')\n"
        "    asked.extend([name] if name.split('.')[0] in optional and who.startswith('gmmdask') else [])\n"
        "    return real(name, globals, *rest, **more)\n"
        "builtins.__import__ = watched\n"
        "sys.meta_path.insert(0, Missing)\n"
        "import numpy as np, gmmdask\n"
        "rows = np.random.default_rng(0).normal(size=(200, 2))\n"
        "gmmdask.GaussianMixture(2, random_state=0).fit(rows).predict(rows)\n"
        "print(asked, [name for name in optional if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] []"
