"""GaussianMixture against scikit-learn's, and its own promises."""

import warnings

import dask.array
import numpy as np
import pytest
import zarr
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as Oracle

from gmmdask import GaussianMixture
from gmmdask.algorithms import Batch
from gmmdask.covariance import FAMILIES
from gmmdask.estep import available
from gmmdask.outcome import DirectionsWithoutSpread, KernelChanged, PassDone, Reason
from gmmdask.testing.oracle import compare

DATA = {
    "iris": (datasets.load_iris().data, 3),
    "wine": (datasets.load_wine().data, 3),
    "breast cancer": (datasets.load_breast_cancer().data, 2),
    "digits": (PCA(12, random_state=0).fit_transform(datasets.load_digits().data), 10),
}
IRIS = DATA["iris"][0]


@pytest.mark.parametrize("kernel", available())
@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("name", DATA)
def test_same_start_and_iterations_give_the_models_of_scikit_learn(
    name: str, covariance_type: str, kernel: str
) -> None:
    rows, k = DATA[name]
    assert compare(rows, k, covariance_type, kernel).worst < 1e-9


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("init_params", ["kmeans", "random"])
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_defaults_give_the_fit_of_scikit_learn(name: str, init_params: str, covariance_type: str) -> None:
    rows, k = DATA[name]
    settings = {"covariance_type": covariance_type, "init_params": init_params, "n_init": 2, "random_state": 1}
    ours, theirs = GaussianMixture(k, **settings).fit(rows), Oracle(k, **settings).fit(rows)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-8)
    np.testing.assert_allclose(ours.precisions_cholesky_, theirs.precisions_cholesky_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.lower_bound_, theirs.lower_bound_, rtol=1e-10)
    np.testing.assert_allclose(ours.score_samples(rows), theirs.score_samples(rows), rtol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(rows), theirs.predict_proba(rows), atol=1e-8)
    np.testing.assert_array_equal(ours.predict(rows), theirs.predict(rows))
    np.testing.assert_allclose([ours.bic(rows), ours.aic(rows)], [theirs.bic(rows), theirs.aic(rows)], rtol=1e-10)


def test_parameters_of_scikit_learn_come_first_in_its_order_with_its_defaults() -> None:
    theirs = Oracle().get_params(deep=False)
    ours = GaussianMixture().get_params(deep=False)
    assert {name: ours[name] for name in theirs} == theirs
    signature = list(GaussianMixture.__init__.__annotations__)
    known = [name for name in Oracle.__init__.__code__.co_varnames if name in theirs]
    assert signature[: len(known)] == known


def test_clone_has_the_same_parameters_and_no_fit() -> None:
    fitted = GaussianMixture(2, tol=1e-2, algorithm=Batch(tol=0, max_iter=3)).fit(IRIS)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(IRIS)


def test_warm_start_goes_on_where_the_last_fit_ended() -> None:
    whole = GaussianMixture(3, random_state=0, tol=0, max_iter=10).fit(IRIS)
    parts = GaussianMixture(3, random_state=0, tol=0, max_iter=5, warm_start=True)
    parts.fit(IRIS).fit(IRIS)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-10)


def test_max_iter_0_is_the_start() -> None:
    found = GaussianMixture(3, random_state=0, max_iter=0).fit(IRIS)
    theirs = Oracle(3, random_state=0, max_iter=0).fit(IRIS)
    assert (found.n_iter_, found.converged_, found.lower_bound_) == (0, False, -np.inf)
    np.testing.assert_allclose(found.means_, theirs.means_, rtol=1e-12)


def test_stopping_early_warns_and_says_what_to_do() -> None:
    with pytest.warns(ConvergenceWarning, match="Raise max_iter or tol"):
        found = GaussianMixture(3, random_state=0, max_iter=2).fit(IRIS)
    assert found.outcome_.reason is Reason.MAX_ITER


def test_history_has_a_row_per_pass_and_outcome_says_why() -> None:
    found = GaussianMixture(3, random_state=0).fit(IRIS)
    assert [row["lap"] for row in found.history_] == list(range(1, found.n_iter_ + 1))
    assert [row["lower_bound"] for row in found.history_] == found.lower_bounds_
    assert {row["rows"] for row in found.history_} == {len(IRIS)}
    assert "converged after" in found.outcome_.sentence


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"covariance_type": "fool"}, "covariance_type"),
        ({"init_params": "magic"}, "init_params"),
        ({"stop": "never"}, "stop"),
        ({"tol": -1.0}, "tol"),
        ({"n_components": 200}, "Expected n_samples >= n_components but got n_components = 200, n_samples = 150"),
        ({"n_components": 2, "means_init": [[0.0]]}, r"should have the shape of \(2, 4\), but got \(1, 1\)"),
        ({"n_components": 2, "weights_init": [0.9, 0.9]}, "normalized"),
        ({"n_components": 1, "precisions_init": [-np.eye(4)]}, "positive-definite"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**settings).fit(IRIS)


def test_constant_features_warn_and_are_an_error_without_regularisation() -> None:
    rows = np.column_stack([IRIS, np.ones(len(IRIS)), IRIS[:, 0]])
    told: list[object] = []
    with pytest.warns(UserWarning, match=r"features \[0, 4, 5\]"):
        found = GaussianMixture(2, random_state=0, callbacks=(told.append,)).fit(rows)
    assert [e.features for e in told if isinstance(e, DirectionsWithoutSpread)] == [(0, 4, 5)]
    np.testing.assert_allclose(found.means_, Oracle(2, random_state=0).fit(rows).means_, rtol=1e-6)
    with pytest.raises(ValueError, match=r"ill-defined empirical covariance.*constant or linearly dependent"):
        GaussianMixture(2, random_state=0, reg_covar=0).fit(rows)


def test_a_collapsed_component_is_an_error_that_names_it() -> None:
    rows = np.concatenate([np.random.default_rng(0).normal(size=(50, 2)), np.full((50, 2), 9.0)])
    with pytest.raises(ValueError, match=r"ill-defined empirical covariance.*component \d is not positive definite"):
        GaussianMixture(2, random_state=0, reg_covar=0).fit(rows)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_one_row_that_is_far_in_all_features_is_no_change_of_the_data(covariance_type: str) -> None:
    """Where it makes nearly all of the covariance, the others' part of it is known to few digits."""
    rows = np.r_[np.random.default_rng(0).normal(size=(20_000, 3)), [[1e8] * 3]]
    found = GaussianMixture(1, covariance_type=covariance_type).fit(rows)
    theirs = Oracle(1, covariance_type=covariance_type).fit(rows)
    assert found.lower_bound_ == pytest.approx(theirs.lower_bound_, rel=1e-6)


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize(("offset", "dtype"), [(1e3, "f8"), (1e5, "f8"), (1e8, "f8"), (1e3, "f4")])
def test_offsets_do_not_move_the_fit(offset: float, dtype: str, covariance_type: str) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(1500, 3)), rng.normal(size=(1500, 3)) + 5])
    shifted = (rows + offset).astype(dtype)
    settings = {"covariance_type": covariance_type, "random_state": 0, "tol": 0, "max_iter": 15}
    there = GaussianMixture(2, **settings).fit(shifted)
    here = GaussianMixture(2, **settings).fit(shifted.astype(float) - offset)
    bound = 1e-8 if dtype == "f8" else 1e-5
    assert np.abs(there.weights_ - here.weights_).max() < bound
    assert np.abs(there.means_ - offset - here.means_).max() < bound
    assert np.abs(there.covariances_ - here.covariances_).max() < bound


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_the_centred_kernel_takes_over_for_a_narrow_component(covariance_type: str) -> None:
    """Against EM in long double, centred about the means."""
    rng, width, middle = np.random.default_rng(0), 1e-5, np.array([1.0, -0.5, 0.3])
    rows = np.concatenate([rng.normal(size=(3000, 3)), middle + width * rng.normal(size=(3000, 3))])
    family = FAMILIES[covariance_type]
    variances = family.isotropic(1.0, 2, 3)
    variances[1] *= width**2
    told: list[object] = []
    found = GaussianMixture(
        2,
        covariance_type=covariance_type,
        reg_covar=0,
        tol=0,
        max_iter=3,
        weights_init=[0.5, 0.5],
        means_init=[np.zeros(3), middle],
        precisions_init=family.from_precisions(variances),
        callbacks=(told.append,),
    ).fit(rows)
    assert [event.kernel for event in told if isinstance(event, KernelChanged)] == ["centred"]
    mean, covariance = long_double_em(rows, family.dense(variances, 2, 3), np.stack([np.zeros(3), middle]), 3)
    dense = found.mixture_.dense_covariances()[1]
    wanted = {"full": covariance, "diag": np.diag(np.diag(covariance))}.get(
        covariance_type, np.eye(3) * np.trace(covariance) / 3
    )
    assert np.abs(found.means_[1] - mean).max() < 1e-6 * width
    assert np.abs(dense - wanted).max() < 1e-6 * width**2


def long_double_em(rows: np.ndarray, covariances: np.ndarray, means: np.ndarray, iterations: int) -> tuple:
    """Mean and covariance of the second component after EM in long double. The two do not overlap, so that the
    densities may come from any family; only what is summed matters."""
    x, mean, cov, weights = (np.array(a, np.longdouble) for a in (rows, means, covariances, [0.5, 0.5]))
    for _ in range(iterations):
        log_joint = []
        for k in range(2):
            z = (x - mean[k]) / np.sqrt(np.diag(cov[k]))
            log_joint.append(np.log(weights[k]) - np.log(np.diag(cov[k])).sum() / 2 - (z * z).sum(axis=1) / 2)
        resp = np.exp(np.array(log_joint) - np.max(log_joint, axis=0))
        resp /= resp.sum(axis=0)
        mass = resp.sum(axis=1)
        mean = np.stack([(resp[k][:, None] * x).sum(axis=0) / mass[k] for k in range(2)])
        for k in range(2):
            z = x - mean[k]
            cov[k] = np.einsum("n,ni,nj->ij", resp[k], z, z) / mass[k]
        weights = mass / mass.sum()
    return mean[1].astype(float), cov[1].astype(float)


def test_predictions_are_numpy_for_arrays_and_lazy_dask_for_stores(tmp_path) -> None:
    model = GaussianMixture(3, random_state=0).fit(IRIS)
    stored = zarr.create_array(tmp_path / "iris.zarr", shape=IRIS.shape, chunks=(40, 4), dtype="f8")
    stored[:] = IRIS
    for data in (str(tmp_path / "iris.zarr"), stored, dask.array.from_array(IRIS, chunks=(37, 4))):
        for method in (model.predict, model.predict_proba, model.score_samples):
            lazy = method(data)
            assert isinstance(lazy, dask.array.Array)
            assert lazy.dtype == method(IRIS).dtype
            np.testing.assert_array_equal(lazy.compute(), method(IRIS))
    assert isinstance(model.predict(IRIS), np.ndarray)
    assert model.predict(dask.array.from_array(IRIS, chunks=(37, 4))).chunks == ((37, 37, 37, 37, 2),)


def test_predicting_refuses_other_widths_and_bad_rows() -> None:
    model = GaussianMixture(2, random_state=0).fit(IRIS)
    with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 4 features as input"):
        model.predict(IRIS[:, :3])
    broken = IRIS.copy()
    broken[77, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity, first in row 77"):
        model.score_samples(broken)


def test_samples_come_in_order_of_component_with_the_moments_of_the_mixture() -> None:
    model = GaussianMixture(3, random_state=0).fit(IRIS)
    rows, labels = model.sample(20000)
    assert rows.shape == (20000, 4)
    assert (np.diff(labels) >= 0).all()
    mean, covariance = model.mixture_.moments()
    assert np.abs(rows.mean(axis=0) - mean).max() < 5 * np.sqrt(np.diag(covariance).max() / 20000)
    np.testing.assert_array_equal(rows, model.sample(20000)[0])


def test_large_data_are_started_on_a_sample_and_end_as_well_as_a_fit_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(15000, 2)) + 6 * np.array([k % 2, k // 2]) for k in range(4)])
    told: list[object] = []
    large = GaussianMixture(4, random_state=0, sample_rows=2000, n_init=2, tol=1e-6, callbacks=(told.append,)).fit(rows)
    small = GaussianMixture(4, random_state=0, sample_rows=10**6, tol=1e-6).fit(rows)
    assert large.lower_bound_ == pytest.approx(small.lower_bound_, abs=1e-6)
    assert large.n_iter_ <= 6
    assert sum(isinstance(event, PassDone) for event in told) == large.n_iter_


def test_one_row_one_feature_one_component_and_integers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one row has no spread
        single = GaussianMixture(1).fit([[3.0, 4.0]])
    np.testing.assert_array_equal(single.means_, [[3.0, 4.0]])
    column = np.arange(100)[:, None]
    found = GaussianMixture(1).fit(column)
    np.testing.assert_allclose([found.means_[0, 0], found.covariances_[0, 0, 0]], [49.5, column.var() + 1e-6])


def test_duplicates_and_sorted_rows_fit() -> None:
    rows = np.repeat(IRIS, 20, axis=0)
    many, few = (GaussianMixture(3, random_state=0, tol=0, max_iter=30).fit(r) for r in (rows, IRIS))
    start = {"weights_init": few.weights_, "means_init": few.means_, "precisions_init": few.precisions_}
    again = [GaussianMixture(3, tol=0, max_iter=5, **start).fit(r).means_ for r in (rows, IRIS)]
    np.testing.assert_allclose(again[0], again[1], rtol=1e-9)
    assert np.isfinite(many.means_).all()


def test_a_loaded_model_remembers_how_it_was_fitted(tmp_path) -> None:
    fitted = GaussianMixture(3, random_state=0, n_init=2).fit(IRIS)
    fitted.save(tmp_path / "m.gmm")
    loaded = GaussianMixture.load(tmp_path / "m.gmm")
    for name in ("n_iter_", "converged_", "lower_bound_", "lower_bounds_", "outcome_", "history_", "n_init"):
        assert getattr(loaded, name) == getattr(fitted, name), name
    assert loaded.made(fitted.provenance_, IRIS) is False  # its seed is not told: it may have been drawn
    assert fitted.made(loaded.provenance_, IRIS) is True
