"""What scikit-learn promises of an estimator: its checks, and the tests of its own GaussianMixture run on ours."""

import importlib.util
import inspect
import pickle
import re
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import joblib
import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.mixture import GaussianMixture as Oracle
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

from gmmdask import GaussianMixture
from gmmdask.covariance import FAMILIES
from gmmdask.execution import one_thread

IRIS, WINE = datasets.load_iris().data, datasets.load_wine().data
DIGITS = PCA(12, random_state=0).fit_transform(datasets.load_digits().data)

# --- the checks of any estimator -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks set max_iter to a few
@pytest.mark.filterwarnings("ignore:features .* are constant or linearly dependent")  # some of their data are
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_scikit_learn_finds_nothing_against_the_estimator(covariance_type: str) -> None:
    results = check_estimator(GaussianMixture(covariance_type=covariance_type), on_skip=None, on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] != "passed"}
    failed.pop("check_array_api_input", None)  # skipped where SciPy's array API is not switched on
    assert not failed
    assert Counter(result["status"] for result in results)["passed"] >= 40


# --- the tests of scikit-learn's class -------------------------------------------------------------------------

LEFT_OUT = {
    "test_suffstat_sk_full": "tests private functions only",
    "test_suffstat_sk_tied": "tests private functions only",
    "test_suffstat_sk_diag": "tests private functions only",
    "test_gaussian_suffstat_sk_spherical": "tests private functions only",
    "test_compute_log_det_cholesky": "tests private functions only",
    "test_gaussian_mixture_log_probabilities": "tests private functions only",
    "test_gaussian_mixture_precisions_init": "calls the private methods _set_parameters and _initialize",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": "counts calls of a private function",
    "test_gaussian_mixture_array_api_compliance": "arrays of other libraries than NumPy, an experiment of theirs",
    "test_gaussian_mixture_raises_where_array_api_not_implemented": "the same",
}


class WithPrivateCount(GaussianMixture):
    """With the private method that two of their tests ask for the number of parameters."""

    def _n_parameters(self) -> int:
        return self.mixture_.n_parameters


WithPrivateCount.__name__ = "GaussianMixture"  # messages tell it


def their_tests() -> dict[str, Callable[..., None]]:
    """Those of the installed version, in a module of their own in which `GaussianMixture` is ours."""
    spec = importlib.util.find_spec("sklearn.mixture.tests.test_gaussian_mixture")
    if spec is None or spec.loader is None:
        return {}
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.GaussianMixture = WithPrivateCount  # type: ignore[attr-defined]
    found = inspect.getmembers(module, inspect.isfunction)
    return {name: test for name, test in found if name.startswith("test_") and name not in LEFT_OUT}


THEIRS = their_tests()
globals().update({name: pytest.mark.filterwarnings("ignore")(test) for name, test in THEIRS.items()})


@pytest.fixture
def global_dtype() -> type:
    """Of rows and parameters: ours are float64 whatever the rows are, theirs have the rows' type."""
    return np.float64


@pytest.fixture(params=[0, 42])
def global_random_seed(request: pytest.FixtureRequest) -> int:
    seed: int = request.param
    return seed


def test_most_of_their_tests_are_run() -> None:
    if not THEIRS:
        pytest.skip("this scikit-learn came without its tests")
    assert len(THEIRS) >= 25


# --- the same fits ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of theirs, at tol=0
@pytest.mark.parametrize("rows", [IRIS, WINE], ids=["iris", "wine"])
def test_a_grid_search_has_their_scores_and_their_best_candidate(rows: np.ndarray) -> None:
    grid = {"n_components": [1, 2, 4], "covariance_type": list(FAMILIES)}
    ours = GridSearchCV(GaussianMixture(tol=0, max_iter=50, random_state=0), grid, cv=4).fit(rows)
    with one_thread():
        theirs = GridSearchCV(Oracle(tol=0, max_iter=50, random_state=0), grid, cv=4).fit(rows)
    assert ours.best_params_ == theirs.best_params_
    for split in range(4):
        name = f"split{split}_test_score"
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=0, atol=1e-6)


SAME = [("iris", IRIS, 3, name) for name in FAMILIES] + [("wine", WINE, 3, name) for name in FAMILIES]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("rows", "k", "covariance_type"),
    [*(case[1:] for case in SAME), (DIGITS, 10, "full")],
    ids=[*(f"{case[0]}-{case[3]}" for case in SAME), "digits-full"],
)
def test_the_defaults_are_their_fit(rows: np.ndarray, k: int, covariance_type: str, seed: int) -> None:
    ours = GaussianMixture(k, covariance_type=covariance_type, random_state=seed).fit(rows)
    with one_thread():
        theirs = Oracle(k, covariance_type=covariance_type, random_state=seed).fit(rows)
    assert ours.n_iter_ == theirs.n_iter_
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bounds_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_starts_drawn_one_after_another_from_one_random_state_are_theirs(init_params: str) -> None:
    settings = {"init_params": init_params, "n_init": 3, "max_iter": 300}
    ours, theirs = (kind(3, random_state=np.random.RandomState(5), **settings) for kind in (GaussianMixture, Oracle))
    for _ in range(2):  # the second fit draws on
        np.testing.assert_allclose(ours.fit(WINE).means_, theirs.fit(WINE).means_, rtol=1e-6)


# --- settings and messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 1.5),
        ("covariance_type", "round"),
        ("tol", -1e-3),
        ("tol", "small"),
        ("reg_covar", -1),
        ("max_iter", -1),
        ("n_init", 0),
        ("init_params", "guess"),
        ("weights_init", 0.5),
        ("means_init", "here"),
        ("precisions_init", 3),
        ("random_state", "today"),
        ("warm_start", "yes"),
        ("verbose", -1),
        ("verbose_interval", 0),
    ],
)
def test_bad_settings_are_told_as_they_do(name: str, value: object) -> None:
    told = []
    for kind in (GaussianMixture, Oracle):
        with pytest.raises(InvalidParameterError) as caught:
            kind().set_params(**{name: value}).fit(IRIS)
        told.append(re.sub(r"\{.*\}", "...", str(caught.value)))  # ours has a method more to start
    assert told[0] == told[1]


def test_precisions_must_be_symmetric() -> None:
    lopsided = np.eye(4) + np.diag([0.5, 0, 0], 1)
    for covariance_type, given in (("full", [lopsided]), ("tied", lopsided)):
        with pytest.raises(ValueError, match="should be symmetric, positive-definite"):
            GaussianMixture(covariance_type=covariance_type, precisions_init=given).fit(IRIS)


def test_a_warm_start_refuses_another_mixture() -> None:
    model = GaussianMixture(2, random_state=0, warm_start=True).fit(IRIS)
    for changed, rows in (({"n_components": 3}, IRIS), ({"covariance_type": "diag"}, IRIS), ({}, IRIS[:, :3])):
        again = pickle.loads(pickle.dumps(model)).set_params(**changed)
        with pytest.raises(ValueError, match=r"warm_start=True goes on from the last fit.*\(2, 4, 'full'\)"):
            again.fit(rows)


def test_convergence_is_warned_of_as_they_do_but_not_where_nothing_was_to_converge() -> None:
    for kind in (GaussianMixture, Oracle):
        with pytest.warns(ConvergenceWarning, match=r"Best performing initialization did not converge\. Try different"):
            kind(3, random_state=0, max_iter=2).fit(IRIS)
    assert GaussianMixture(3, random_state=0, tol=0, max_iter=2).fit(IRIS).converged_ is False


def test_nothing_answers_before_a_fit() -> None:
    model = GaussianMixture(2)
    for ask in (model.predict, model.predict_proba, model.score_samples, model.score, model.bic, model.aic):
        with pytest.raises(NotFittedError, match="This GaussianMixture instance is not fitted yet"):
            ask(IRIS)
    with pytest.raises(NotFittedError):
        model.sample()


# --- what is printed -------------------------------------------------------------------------------------------


def told_iterations(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"[Ii]teration (\d+)", text)]


@pytest.mark.parametrize("verbose", [0, 1, 2, True])
def test_what_verbose_prints(verbose: int, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for kind in (GaussianMixture, Oracle):
        model = kind(3, random_state=0, verbose=verbose, verbose_interval=4).fit(IRIS)
        texts.append(capsys.readouterr().out)
    ours, theirs = texts
    assert told_iterations(ours) == told_iterations(theirs) == ([4, 8, 12, 16] if verbose else [])
    assert (f"Initialization 0 {'converged' if model.converged_ else ''}" in ours) == bool(verbose)
    assert ours.count("time lapse") == (theirs.count("time lapse") + 1 if verbose == 2 else 0)  # and the first look
    changes = [re.findall(r"ll change (\S+)", text) for text in texts]
    assert changes[0] == changes[1]
    assert len(changes[0]) == (4 if verbose == 2 else 0)


def test_verbose_tells_starts_apart_and_callbacks_still_hear(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[object] = []
    model = GaussianMixture(3, random_state=0, n_init=2, max_iter=3, tol=0, verbose=1, verbose_interval=2)
    model.set_params(callbacks=[heard.append]).fit(IRIS)
    lines = capsys.readouterr().out.splitlines()
    for start in (0, 1):
        words = (f"Initialization {start}", f"  Initialization {start}: iteration 2")
        for line in (*words, f"Initialization {start} did not converge"):
            assert lines.count(line) == 1
    assert heard


# --- data and seeds --------------------------------------------------------------------------------------------


def test_float32_rows_are_fitted_in_float64() -> None:
    rows = IRIS.astype(np.float32)
    settings = {"init_params": "random_from_data", "random_state": 0, "max_iter": 500}
    here, there = (GaussianMixture(3, **settings).fit(x) for x in (rows, rows.astype(float)))
    assert here.means_.dtype == here.covariances_.dtype == here.predict_proba(rows).dtype == np.float64
    np.testing.assert_allclose(here.means_, there.means_, rtol=1e-10)


def test_one_component_and_one_feature_are_the_moments_of_the_rows() -> None:
    column = IRIS[:, [2]]
    for covariance_type in FAMILIES:
        model = GaussianMixture(covariance_type=covariance_type, reg_covar=0).fit(column)
        np.testing.assert_allclose(model.means_, [column.mean(axis=0)], rtol=1e-12)
        np.testing.assert_allclose(model.covariances_.ravel(), [column.var()], rtol=1e-12)
        np.testing.assert_array_equal(model.predict(column), 0)


def test_numbers_that_came_as_objects() -> None:
    model = GaussianMixture(2, random_state=0).fit(IRIS.astype(object))
    assert model.means_.tobytes() == GaussianMixture(2, random_state=0).fit(IRIS).means_.tobytes()
    mixed = IRIS.astype(object)
    mixed[3, 1] = {"width": 3}
    with pytest.raises(TypeError, match=r"found objects: .*number.*not 'dict'"):
        model.fit(mixed)
    mixed[3, 1] = "wide"
    with pytest.raises(ValueError, match=r"found objects: .*'wide'"):
        model.predict(mixed)


def test_sparse_rows_are_refused_with_the_remedy() -> None:
    for make in (sparse.csr_array, sparse.coo_matrix):
        with pytest.raises(ValueError, match=r"Sparse data is not supported, make it dense by \.toarray\(\)"):
            GaussianMixture().fit(make(IRIS))


@pytest.mark.parametrize("sample_rows", [None, 1000], ids=["all rows", "a sample"])
def test_what_a_random_state_decides(sample_rows: int | None) -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 2))

    def means(random_state: object) -> bytes:
        settings = {"init_params": "random_from_data", "tol": 0, "max_iter": 1, "sample_rows": sample_rows}
        found: bytes = GaussianMixture(3, random_state=random_state, **settings).fit(rows).means_.tobytes()
        return found

    assert means(7) == means(7) != means(8)
    drawn = np.random.RandomState(7)
    first, second = means(drawn), means(drawn)
    assert first == means(np.random.RandomState(7)) != second
    kept = np.random.get_state()  # noqa: NPY002 - it is what None stands for
    try:
        np.random.seed(7)  # noqa: NPY002
        first, second = means(None), means(None)
        np.random.seed(7)  # noqa: NPY002
        assert first == means(None) != second
    finally:
        np.random.set_state(kept)  # noqa: NPY002


# --- in company ------------------------------------------------------------------------------------------------


def test_a_fitted_estimator_travels_as_a_pickle() -> None:
    model = GaussianMixture(3, random_state=0).fit(IRIS)
    stream = GaussianMixture(2, random_state=0, sample_rows=100).partial_fit(IRIS)
    for fitted in (model, stream):
        copy = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(copy.predict_proba(IRIS), fitted.predict_proba(IRIS))
        assert vars(copy).keys() == vars(fitted).keys()


def test_pipelines_and_cross_validation() -> None:
    scores = [
        cross_val_score(make_pipeline(StandardScaler(), kind(2, random_state=0)), WINE, cv=3)
        for kind in (GaussianMixture, Oracle)
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)


def test_a_search_in_threads_has_the_bits_of_one_after_another() -> None:
    def scores(backend: str) -> list[bytes]:
        with joblib.parallel_backend(backend):
            search = GridSearchCV(GaussianMixture(random_state=0), {"n_components": [2, 3]}, n_jobs=2, cv=4).fit(IRIS)
        return [search.cv_results_[f"split{split}_test_score"].tobytes() for split in range(4)]

    assert scores("threading") == scores("sequential")


def test_what_fit_takes_is_routed() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        asking = GaussianMixture(2, random_state=0).set_fit_request(scheduler=True, resume=True)
        chain = make_pipeline(StandardScaler(), asking)
        assert chain.fit(WINE, scheduler="synchronous", resume=False)[-1].means_.shape == (2, 13)
        with pytest.raises(ValueError, match="scheduler='nowhere'"):
            chain.fit(WINE, scheduler="nowhere")
        with pytest.raises(UnsetMetadataPassedError, match="scheduler"):
            make_pipeline(StandardScaler(), GaussianMixture(2)).fit(WINE, scheduler="nowhere")


def test_its_tags() -> None:
    tags = sklearn.utils.get_tags(GaussianMixture())
    assert (tags.estimator_type, tags.input_tags.sparse, tags.input_tags.allow_nan) == (
        "density_estimator",
        False,
        False,
    )
    assert not tags.target_tags.required
