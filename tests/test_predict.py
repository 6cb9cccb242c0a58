"""Labels, posteriors and log densities: right, the same whatever holds the rows, and written whole or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.covariance import FAMILIES
from gmmdask.execution import Threads
from gmmdask.execution.distributed import local_cluster
from gmmdask.kernels import kernel_for
from gmmdask.mixture import Mixture
from gmmdask.outputs import OutputError
from gmmdask.predict import WHATS, Prediction, predict, total_score
from gmmdask.sources import ArraySource, DataError, Source, open_source
from gmmdask.synthetic import random_mixture
from gmmdask.testing import reference
from gmmdask.testing.reference import Parameters
from gmmdask.testing.strategies import LAW, covariance_types, cuts, generators, mixtures, row_arrays
from gmmdask.write import write_predictions

N, D, K = 5000, 3, 4
SHAPES = {"labels": (N,), "proba": (N, K), "score": (N,)}


def parameters(mixture: Mixture) -> Parameters:
    return Parameters(mixture.weights, mixture.means, mixture.dense_covariances())


def rows_of(mixture: Mixture, n: int = N) -> np.ndarray:
    return mixture.sample(n, np.random.default_rng(1))[0]


# --- right -----------------------------------------------------------------------------------------------------


@LAW
@given(data=st.data(), covariance_type=covariance_types)
def test_predictions_are_those_of_the_textbook(data: st.DataObject, covariance_type: str) -> None:
    mixture = data.draw(mixtures(covariance_type))
    rows = data.draw(row_arrays(mixture.d))
    joint = reference.log_joint(rows, parameters(mixture))
    score = reference.log_density(joint)
    source = ArraySource(rows)
    np.testing.assert_allclose(predict(mixture, source, "score"), score, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(predict(mixture, source, "proba"), np.exp(joint - score).T, atol=1e-10)
    labels = predict(mixture, source, "labels")
    assert np.all(joint.max(axis=0) - joint[labels, np.arange(len(rows))] < 1e-9)
    assert total_score(mixture, source, Threads(1))[0] == pytest.approx(score.sum(), rel=1e-10)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_posteriors_sum_to_one_and_labels_are_their_largest(covariance_type: str) -> None:
    mixture = random_mixture(K, D, covariance_type)
    far = np.concatenate([scale * rows_of(mixture, 300) for scale in (0, 1, 10, 1e3, 1e8, 1e50, 1e100)])
    source = ArraySource(far)
    posteriors, labels = predict(mixture, source, "proba"), predict(mixture, source, "labels")
    assert posteriors.min() >= 0
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(posteriors[np.arange(len(far)), labels], posteriors.max(axis=1))
    assert np.isfinite(predict(mixture, source, "score")).all()


@pytest.mark.parametrize("width", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_narrow_components_agree_with_long_double(covariance_type: str, width: float) -> None:
    """Two components side by side, far narrower than the distance to the third: where expanding the square fails."""
    family, rng, middle = FAMILIES[covariance_type], np.random.default_rng(0), np.array([1.0, -0.5, 0.3])
    means = np.array([np.zeros(3), middle, middle + 2 * width])
    own = family.isotropic(width**2, 3, 3)
    if not family.shared:
        own[0] /= width**2
    mixture = Mixture(covariance_type, np.array([0.5, 0.3, 0.2]), means, own)
    rows = np.concatenate([middle + width * rng.normal(size=(400, 3)), rng.normal(size=(100, 3))])
    if width < 1e-3:
        assert kernel_for(Prediction(mixture, "proba").frame.mixture_in(mixture)) == "centred"
    joint = reference.log_joint(rows, parameters(mixture), np.longdouble)
    score = reference.log_density(joint)
    assert np.abs(predict(mixture, ArraySource(rows), "proba") - np.exp(joint - score).T).max() < 1e-6
    assert np.abs(predict(mixture, ArraySource(rows), "score") / score - 1).max() < 1e-6


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_a_component_without_weight_takes_no_row(covariance_type: str) -> None:
    mixture = random_mixture(3, D, covariance_type)
    bare = Mixture(covariance_type, np.array([0.4, 0.0, 0.6]), mixture.means, mixture.covariances)
    source = ArraySource(rows_of(mixture))
    assert set(predict(bare, source, "labels")) == {0, 2}
    assert not predict(bare, source, "proba")[:, 1].any()


@LAW
@given(rng=generators, data=st.data())
def test_a_prediction_does_not_depend_on_company(rng: np.random.Generator, data: st.DataObject) -> None:
    mixture, rows = random_mixture(K, D, "full"), 3 * rng.normal(size=(60, D))
    for what in WHATS:
        whole = predict(mixture, ArraySource(rows), what)
        pieces = [predict(mixture, ArraySource(rows[a:b]), what) for a, b in data.draw(cuts(60))]
        np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "i1", "u1", ">f8", "?"])
def test_rows_of_any_real_dtype(dtype: str) -> None:
    mixture = random_mixture(K, D, "full")
    rows = np.abs(4 * rows_of(mixture, 500)).astype(dtype)
    for what in WHATS:
        here = predict(mixture, ArraySource(rows), what)
        np.testing.assert_array_equal(here, predict(mixture, ArraySource(rows.astype(float)), what))


# --- the same whatever holds the rows --------------------------------------------------------------------------


def stores(rows: np.ndarray, folder: Path) -> Iterator[tuple[str, Any]]:
    np.save(folder / "C.npy", rows)
    np.save(folder / "F.npy", np.asfortranarray(rows))
    yield "C.npy", folder / "C.npy"
    yield "F.npy", folder / "F.npy"
    layouts = {
        "even": {"chunks": (500, D)},
        "odd": {"chunks": (37, D)},
        "whole": {"chunks": (N, D)},
        "columns": {"chunks": (700, 2)},
        "shards": {"chunks": (100, D), "shards": (1000, D)},
        "v2": {"chunks": (600, D), "zarr_format": 2},
    }
    for name, layout in layouts.items():
        zarr.create_array(folder / name, data=rows, **layout)
        yield name, folder / name
    yield "dask", dask.array.from_array(rows, chunks=((500, 2500, 2000), (2, 1)))
    yield "array", rows
    yield "fortran", np.asfortranarray(rows)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_arrays_stores_and_files_give_the_same_predictions(tmp_path: Path, covariance_type: str) -> None:
    mixture = random_mixture(K, D, covariance_type)
    rows = rows_of(mixture)
    expected = {what: predict(mixture, ArraySource(rows), what) for what in WHATS}
    for number, (name, data) in enumerate(stores(rows, tmp_path)):
        source, out = open_source(data), tmp_path / f"out-{number}"
        write_predictions(mixture, source, out, WHATS, Threads(2), overwrite=False)
        written = zarr.open_group(out, mode="r")
        for what in WHATS:
            found = predict(mixture, source, what)
            assert found.shape == written[what].shape == expected[what].shape
            for values in (np.asarray(found), written[what][:]):
                np.testing.assert_allclose(values, expected[what], rtol=1e-12, atol=1e-12, err_msg=f"{name} {what}")
            assert found.dtype == expected[what].dtype


def test_lazy_predictions_are_aligned_with_storage_and_read_nothing_until_asked(tmp_path: Path) -> None:
    mixture = random_mixture(K, D, "full")
    zarr.create_array(tmp_path / "rows", data=rows_of(mixture), chunks=(2000, D))
    source = open_source(tmp_path / "rows")
    (tmp_path / "rows" / "c" / "2" / "0").unlink()
    lazy = predict(mixture, source, "proba")
    assert lazy.chunks == ((2000, 2000, 1000), (K,))
    assert lazy[:10].compute().shape == (10, K)
    assert predict(mixture, source, "labels").chunks == ((2000, 2000, 1000),)


def test_lazy_predictions_fail_in_words(tmp_path: Path) -> None:
    mixture = random_mixture(K, D, "full")
    zarr.create_array(tmp_path / "rows", data=rows_of(mixture), chunks=(2000, D))
    lazy = predict(mixture, open_source(tmp_path / "rows"), "labels")
    (tmp_path / "rows" / "c" / "2" / "0").write_bytes(b"no chunk")
    with pytest.raises(DataError, match=r"c/2/0 \(rows 4000 to 4999\) cannot be decoded"):
        lazy.compute(scheduler="synchronous")


def test_a_cluster_writes_the_bits_of_one_thread(tmp_path: Path) -> None:
    mixture = random_mixture(K, D, "full")
    zarr.create_array(tmp_path / "rows", data=rows_of(mixture), chunks=(300, D))
    source = open_source(tmp_path / "rows")
    with local_cluster(2) as executor:
        write_predictions(mixture, source, tmp_path / "there", WHATS, executor, overwrite=False)
        total = total_score(mixture, source, executor)[0]
    for threads in (1, 3):
        write_predictions(mixture, source, tmp_path / f"{threads}", WHATS, Threads(threads), overwrite=False)
        assert contents(tmp_path / f"{threads}") == contents(tmp_path / "there")
        assert total_score(mixture, source, Threads(threads))[0] == total


# --- what is written -------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Mixture, Path]:
    mixture = random_mixture(K, D, "full")
    zarr.create_array(tmp_path / "rows", data=rows_of(mixture), chunks=(700, D))
    return mixture, tmp_path / "rows"


@pytest.mark.parametrize(
    ("k", "dtype"),
    [(1, "uint8"), (2, "uint8"), (256, "uint8"), (257, "uint16"), (65_536, "uint16"), (65_537, "uint32")],
)
def test_labels_have_the_smallest_unsigned_dtype(tmp_path: Path, k: int, dtype: str) -> None:
    mixture = Mixture("spherical", np.full(k, 1 / k), np.arange(float(k))[:, None], np.full(k, 1e-2))
    rows = np.array([[0.0], [k - 1.0]])
    write_predictions(mixture, ArraySource(rows), tmp_path / "out", ("labels",), Threads(1), overwrite=False)
    labels = zarr.open_array(tmp_path / "out" / "labels", mode="r")
    assert labels.dtype == dtype
    assert labels[:].tolist() == [0, k - 1]


@pytest.mark.parametrize(
    ("layout", "chunk"),
    [
        ({"chunks": (700, D)}, 700),
        ({"chunks": (100, D), "shards": (500, D)}, 500),
        ({"chunks": (700, 1)}, 700),
        ({"chunks": (N, D)}, N),
        ({"chunks": (10 * N, D)}, N),
    ],
    ids=str,
)
def test_outputs_are_aligned_with_the_write_grid_of_the_input(
    tmp_path: Path, layout: dict[str, Any], chunk: int
) -> None:
    mixture = random_mixture(K, D, "full")
    zarr.create_array(tmp_path / "rows", data=rows_of(mixture), **layout)
    write_predictions(mixture, open_source(tmp_path / "rows"), tmp_path / "out", WHATS, Threads(2), overwrite=False)
    for what, shape in SHAPES.items():
        array = zarr.open_array(tmp_path / "out" / what, mode="r")
        assert array.shape == shape
        assert array.chunks == (chunk, *shape[1:])


def test_chunks_of_zeros_are_stored(tmp_path: Path, stored: tuple[Mixture, Path]) -> None:
    """A finished chunk can be told from a missing one, even where all its labels are 0."""
    one = random_mixture(1, D, "full")
    write_predictions(one, open_source(stored[1]), tmp_path / "out", WHATS, Threads(2), overwrite=False)
    for what in WHATS:
        array = zarr.open_array(tmp_path / "out" / what, mode="r")
        assert len([file for file in (tmp_path / "out" / what / "c").rglob("*") if file.is_file()]) == array.nchunks
    assert not zarr.open_array(tmp_path / "out" / "labels", mode="r")[:].any()


def test_each_chunk_is_written_once(
    tmp_path: Path, stored: tuple[Mixture, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks do not end where chunks do: writing what is there would read and write chunks again and again."""
    mixture, path = stored
    written: list[tuple[int, int]] = []
    real = zarr.Array.__setitem__

    def watched(array: Any, where: Any, values: Any) -> None:
        if array.shape == (N,):
            written.append((where.start, where.stop))
        real(array, where, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", watched)
    monkeypatch.setattr(Prediction, "block_rows", 512)
    write_predictions(mixture, open_source(path), tmp_path / "out", ("labels",), Threads(1), overwrite=False)
    assert all(start % 700 == 0 and (stop % 700 == 0 or stop == N) for start, stop in written)
    assert sum(stop - start for start, stop in written) == N


def test_an_output_that_exists_needs_overwrite(tmp_path: Path, stored: tuple[Mixture, Path]) -> None:
    mixture, path = stored
    out = tmp_path / "out"
    write_predictions(mixture, open_source(path), out, ("labels",), Threads(1), overwrite=False)
    before = contents(out)
    with pytest.raises(OutputError, match=r"out: exists already.*--overwrite"):
        write_predictions(mixture, open_source(path), out, ("score",), Threads(1), overwrite=False)
    assert contents(out) == before
    write_predictions(mixture, open_source(path), out, ("score",), Threads(1), overwrite=True)
    assert {file.split("/")[0] for file in contents(out)} == {"zarr.json", "score"}


@pytest.mark.parametrize("trouble", ["a row of NaN", "a broken chunk", "a full disk", "Ctrl-C"])
@pytest.mark.parametrize(("exists", "threads"), [(True, 1), (False, 1), (True, 3)])
def test_a_failure_in_the_middle_leaves_what_was_there(
    tmp_path: Path,
    stored: tuple[Mixture, Path],
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    exists: bool,
    threads: int,
) -> None:
    mixture, path = stored
    if exists:
        write_predictions(mixture, open_source(path), tmp_path / "out", WHATS, Threads(2), overwrite=False)
    before = contents(tmp_path)
    errors: dict[str, Any] = {
        "a row of NaN": (DataError, r"rows: Input contains NaN or infinity, first in row 4990"),
        "a broken chunk": (DataError, r"rows: chunk c/7/0 \(rows 4900 to 4999\) cannot be decoded"),
        "a full disk": (OSError, "No space left"),
        "Ctrl-C": (KeyboardInterrupt, None),
    }
    if trouble == "a row of NaN":
        zarr.open_array(path, mode="r+")[4990, 1] = np.nan
        before = {**before, **{f"rows/{name}": data for name, data in contents(path).items()}}
    elif trouble == "a broken chunk":
        (path / "c" / "7" / "0").write_bytes(b"broken")
        before["rows/c/7/0"] = b"broken"
    else:
        real, error = zarr.Array.__setitem__, errors[trouble][0](*["No space left"] * (trouble == "a full disk"))

        def refuse(array: Any, where: Any, values: Any) -> None:
            if where.start >= 4200:
                raise error
            real(array, where, values)

        monkeypatch.setattr(zarr.Array, "__setitem__", refuse)
    kind, words = errors[trouble]
    with Threads(threads) as executor, pytest.raises(kind, match=words):
        write_predictions(mixture, open_source(path), tmp_path / "out", WHATS, executor, overwrite=exists)
    kept = {".out.partial"} if issubclass(kind, OSError | KeyboardInterrupt) else set()
    left = {name: data for name, data in contents(tmp_path).items() if name.split("/")[0] not in kept}
    assert left == before
    assert {file.name for file in tmp_path.iterdir()} == kept | ({"rows", "out"} if exists else {"rows"})


def test_an_output_never_takes_the_place_of_the_rows(tmp_path: Path, stored: tuple[Mixture, Path]) -> None:
    mixture, path = stored
    before = contents(path)
    (tmp_path / "link").symlink_to(path)
    for out in (path, tmp_path / "link", tmp_path / "." / "rows"):
        with pytest.raises(OutputError, match=out.name):
            write_predictions(mixture, open_source(path), out, ("labels",), Threads(1), overwrite=True)
    assert contents(path) == before


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path, stored: tuple[Mixture, Path]) -> None:
    mixture, path = stored
    (tmp_path / "notes").write_text("dear diary")
    with pytest.raises(OutputError, match="notes"):
        write_predictions(mixture, open_source(path), tmp_path / "notes", ("labels",), Threads(1), overwrite=True)
    assert (tmp_path / "notes").read_text() == "dear diary"


# --- what cannot be predicted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", WHATS)
def test_the_first_bad_row_is_named(what: str, bad: float) -> None:
    mixture = random_mixture(K, D, "full")
    rows = rows_of(mixture, 70_000)
    rows[[61_234, 61_235, 69_999], [0, 1, 2]] = bad
    for data in (rows, dask.array.from_array(rows, chunks=(20_000, D))):
        with pytest.raises(DataError, match="Input contains NaN or infinity, first in row"):
            np.asarray(predict(mixture, open_source(data), what))
    with pytest.raises(DataError, match="row 61234"):
        predict(mixture, ArraySource(rows), what)
    with pytest.raises(DataError, match="row 61234"):
        total_score(mixture, ArraySource(rows), Threads(2))


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("value", [1e160, 1e300])
def test_a_row_whose_density_cannot_be_computed_is_refused_and_not_labelled(covariance_type: str, value: float) -> None:
    mixture = random_mixture(K, D, covariance_type)
    rows = rows_of(mixture, 50)
    rows[17] = value
    for what in WHATS:
        with pytest.raises(DataError, match="row 17"):
            predict(mixture, ArraySource(rows), what)


@pytest.mark.parametrize("d", [D - 1, D + 1])
def test_rows_of_another_width_are_refused(tmp_path: Path, d: int) -> None:
    mixture, source = random_mixture(K, D, "full"), ArraySource(np.ones((10, d)))
    words = f"X has {d} features, but GaussianMixture is expecting {D} features"
    for what in WHATS:
        with pytest.raises(DataError, match=words):
            predict(mixture, source, what)
    with pytest.raises(DataError, match=words):
        total_score(mixture, source, Threads(1))
    with pytest.raises(DataError, match=words):
        write_predictions(mixture, source, tmp_path / "out", WHATS, Threads(1), overwrite=False)
    assert not list(tmp_path.iterdir())


def test_one_row() -> None:
    mixture, source = random_mixture(K, D, "full"), ArraySource(np.zeros((1, D)))
    found: dict[str, Source | np.ndarray] = {what: predict(mixture, source, what) for what in WHATS}
    assert [found[what].shape for what in WHATS] == [(1,), (1, K), (1,)]
