"""Synthetic data sets: what is drawn, and how it gets to disk."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from gmmdask import outputs
from gmmdask.covariance import FAMILIES
from gmmdask.mixture import Mixture
from gmmdask.outputs import OutputError
from gmmdask.sources import open_source
from gmmdask.synthetic import make_dataset, random_mixture

KINDS = ("npy", "zarr")
MIXTURE = random_mixture(3, 2, "full")


def load(path):
    return np.load(path) if str(path).endswith(".npy") else zarr.open_array(path, mode="r")[...]


def written(folder, kind, n=1000, **settings):
    make_dataset(MIXTURE, n, folder / f"rows.{kind}", **settings)
    return load(folder / f"rows.{kind}")


def snapshot(folder):
    """Every file below a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# --- mixtures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize(("n_components", "d"), [(1, 1), (3, 2), (40, 1), (5, 16), (100, 3)])
def test_a_random_mixture_is_a_mixture(covariance_type, n_components, d):
    mixture = random_mixture(n_components, d, covariance_type, seed=4)
    assert mixture.means.shape == (n_components, d)
    assert mixture.covariances.shape == mixture.family.own_shape(n_components, d)
    assert mixture.weights.sum() == pytest.approx(1)
    assert np.all(mixture.weights > 0)
    assert np.all(np.isfinite(mixture.log_scale))  # positive definite


def test_separation_is_the_distance_of_the_two_closest_means():
    means = random_mixture(12, 3, separation=5.0).means
    distances = np.linalg.norm(means[:, None] - means, axis=-1)[np.triu_indices(12, 1)]
    assert distances.min() == pytest.approx(5.0)


def test_the_seed_decides_the_mixture():
    assert np.array_equal(random_mixture(seed=3).means, random_mixture(seed=3).means)
    assert not np.array_equal(random_mixture(seed=3).means, random_mixture(seed=4).means)


@pytest.mark.parametrize(
    "settings",
    [{"n_components": 0}, {"d": 0}, {"covariance_type": "round"}, {"separation": -1}, {"separation": np.nan}],
)
def test_mixtures_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}.*{next(iter(settings.values()))}"):
        random_mixture(**settings)


# --- what is drawn ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_the_rows(tmp_path, kind):
    one = written(tmp_path, kind, chunk_rows=64, threads=1)
    many = written(tmp_path, kind, chunk_rows=64, threads=5, overwrite=True)
    np.testing.assert_array_equal(one, many)


def test_a_chunk_depends_on_seed_and_number_only(tmp_path):
    short = written(tmp_path, "npy", n=300, chunk_rows=100)
    long = written(tmp_path, "npy", n=500, chunk_rows=100, overwrite=True)
    other = written(tmp_path, "npy", n=300, chunk_rows=100, seed=1, overwrite=True)
    np.testing.assert_array_equal(short, long[:300])
    assert not np.isin(short, other).any()
    assert len(np.unique(short)) == short.size  # no chunk repeats another


def test_both_kinds_and_both_dtypes_hold_the_same_rows(tmp_path):
    rows = written(tmp_path, "npy", chunk_rows=77)
    np.testing.assert_array_equal(written(tmp_path, "zarr", chunk_rows=77), rows)
    single = written(tmp_path, "zarr", chunk_rows=77, dtype="float32", overwrite=True)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, rows.astype(np.float32))


def test_default_chunks_are_about_8_mib_of_float64(tmp_path):
    for dtype in ("float64", "float32"):
        make_dataset(MIXTURE, 600_000, tmp_path / "rows.zarr", dtype=dtype, overwrite=True)
        assert zarr.open_array(tmp_path / "rows.zarr", mode="r").chunks == (524_288, 2)


def test_moments_are_the_mixtures(tmp_path):
    n = 200_000
    rows = written(tmp_path, "zarr", n=n, chunk_rows=30_000, labels=tmp_path / "labels.npy")
    labels = np.load(tmp_path / "labels.npy")
    mean, covariance = MIXTURE.moments()
    # five standard errors; the variance of an estimated covariance entry is at most a few times its Gaussian value
    scale = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(rows.mean(axis=0) - mean) < 5 * scale / n**0.5)
    assert np.all(np.abs(np.cov(rows.T) - covariance) < 5 * 2 * np.outer(scale, scale) / n**0.5)
    for k, weight in enumerate(MIXTURE.weights):
        of_k = rows[labels == k]
        assert abs(len(of_k) - n * weight) < 5 * (n * weight * (1 - weight)) ** 0.5
        widths = np.sqrt(np.diag(MIXTURE.covariances[k]))
        assert np.all(np.abs(of_k.mean(axis=0) - MIXTURE.means[k]) < 5 * widths / len(of_k) ** 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_components", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_labels_have_the_smallest_dtype(tmp_path, kind, n_components, dtype):
    mixture = Mixture(
        "spherical",
        np.full(n_components, 1 / n_components),
        np.arange(n_components)[:, None] * 100.0,
        np.ones(n_components),
    )
    make_dataset(mixture, 5000, tmp_path / "rows.npy", chunk_rows=999, labels=tmp_path / f"labels.{kind}")
    labels = load(tmp_path / f"labels.{kind}")
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, np.rint(np.load(tmp_path / "rows.npy")[:, 0] / 100))


def test_chunks_of_zeros_are_stored(tmp_path):
    """Left out, they could not be told from lost ones."""
    make_dataset(random_mixture(1), 100, tmp_path / "rows.npy", chunk_rows=9, labels=tmp_path / "labels.zarr")
    labels = zarr.open_array(tmp_path / "labels.zarr", mode="r")
    assert not np.any(labels[...])
    assert labels.nchunks_initialized == labels.nchunks == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_rows", [1, 1000, None])
def test_one_row(tmp_path, kind, chunk_rows):
    assert written(tmp_path, kind, n=1, chunk_rows=chunk_rows, labels=tmp_path / "labels.npy").shape == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_sources_read_what_was_written(tmp_path, kind):
    rows = written(tmp_path, kind, n=1000, chunk_rows=300)
    source = open_source(tmp_path / f"rows.{kind}")  # counts the chunks of a Zarr array: none is missing
    np.testing.assert_array_equal(np.concatenate(list(source.read(0, 1000))), rows)


# --- outputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_existing_output_is_refused_and_untouched(tmp_path, kind):
    written(tmp_path, kind)
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match=rf"rows\.{kind}: exists already.*overwrite=True"):
        written(tmp_path, kind, seed=1)
    assert snapshot(tmp_path) == before


def test_existing_labels_are_refused_before_rows_are_written(tmp_path):
    (tmp_path / "labels.npy").write_text("mine")
    with pytest.raises(OutputError, match=r"labels\.npy: exists already"):
        written(tmp_path, "npy", labels=tmp_path / "labels.npy")
    assert os.listdir(tmp_path) == ["labels.npy"]


@pytest.mark.parametrize("kind", KINDS)
def test_overwriting_leaves_nothing_of_the_old(tmp_path, kind):
    written(tmp_path, kind, n=900, chunk_rows=10)
    rows = written(tmp_path, kind, n=100, chunk_rows=50, seed=2, overwrite=True)
    (tmp_path / "fresh").mkdir()
    np.testing.assert_array_equal(rows, written(tmp_path / "fresh", kind, n=100, chunk_rows=50, seed=2))
    fresh = snapshot(tmp_path / "fresh")
    assert {name: data for name, data in snapshot(tmp_path).items() if not name.startswith("fresh")} == fresh


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_leaves_nothing_new_and_everything_old(tmp_path, monkeypatch, kind, earlier, threads):
    if earlier:
        written(tmp_path, kind, labels=tmp_path / "labels.npy")
    before, drawn, sample = snapshot(tmp_path), [], Mixture.sample

    def fails_in_the_middle(mixture, n, rng):
        drawn.append(n)
        if len(drawn) == 7:
            raise RuntimeError("no more rows")
        return sample(mixture, n, rng)

    monkeypatch.setattr(Mixture, "sample", fails_in_the_middle)
    with pytest.raises(RuntimeError, match="no more rows"):
        written(tmp_path, kind, chunk_rows=1, threads=threads, labels=tmp_path / "labels.npy", overwrite=earlier)
    assert snapshot(tmp_path) == before
    assert set(os.listdir(tmp_path)) == ({f"rows.{kind}", "labels.npy"} if earlier else set())
    assert len(drawn) < 50  # the other 993 chunks are not drawn in vain


def test_an_old_array_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    written(tmp_path, "zarr")
    before, replace = snapshot(tmp_path), os.replace

    def refuses_the_new(source, target):
        if Path(target).name == "rows.zarr" and not str(source).endswith(".old"):
            raise PermissionError("no")
        replace(source, target)

    monkeypatch.setattr(outputs.os, "replace", refuses_the_new)
    with pytest.raises(PermissionError):
        written(tmp_path, "zarr", seed=1, overwrite=True)
    assert snapshot(tmp_path) == before


def test_a_folder_that_is_no_array_is_never_replaced(tmp_path):
    precious = tmp_path / "precious"
    zarr.create_group(precious / "group").create_array("inside", shape=(3,), dtype="f8")
    before = snapshot(tmp_path)
    for path in (precious, precious / "group"):
        with pytest.raises(OutputError, match="neither a Zarr array nor an earlier output"):
            make_dataset(MIXTURE, 10, path, overwrite=True)
    assert snapshot(tmp_path) == before


def test_a_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rows.zarr").symlink_to(tmp_path / "elsewhere" / "real.zarr")
    first = written(tmp_path, "zarr")
    second = written(tmp_path, "zarr", seed=1, overwrite=True)
    assert (tmp_path / "rows.zarr").is_symlink()
    assert not np.array_equal(first, second)
    assert os.listdir(tmp_path / "elsewhere") == ["real.zarr"]


def test_names_that_cannot_be_written_are_refused(tmp_path):
    for path, words in (("s3://bucket/rows.zarr", "found a URL"), (tmp_path / "no" / "rows.npy", "does not exist")):
        with pytest.raises(OutputError, match=words):
            make_dataset(MIXTURE, 10, path)
    with pytest.raises(OutputError, match="have this name"):
        make_dataset(MIXTURE, 10, tmp_path / "rows.npy", labels=tmp_path / "rows.npy")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("settings", [{"n": 0}, {"chunk_rows": 0}, {"threads": 0}, {"dtype": "int32"}])
def test_settings_out_of_range_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must.*got {next(iter(settings.values()))}"):
        written(tmp_path, "npy", **settings)
    assert not os.listdir(tmp_path)
