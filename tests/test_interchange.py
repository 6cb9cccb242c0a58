"""Mixtures to and from scikit-learn, ONNX and plain parameters; marginals and conditionals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as Theirs

from gmmdask import GaussianMixture
from gmmdask.conditioning import conditional, marginal
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.interchange import to_theirs
from gmmdask.mixture import Mixture
from gmmdask.testing.passes import parameters_of
from gmmdask.testing.reference import log_density, log_joint
from gmmdask.testing.strategies import LAW, covariance_types, generators, mixtures, random_mixture


def model_of(mixture: Mixture) -> GaussianMixture:
    parts = (mixture.weights, mixture.means, mixture.covariances)
    return GaussianMixture.from_parameters(*parts, covariance_type=mixture.covariance_type)


def densities(mixture: Mixture, rows: Array) -> Array:
    return log_density(log_joint(rows, parameters_of(mixture)))


def some(covariance_type: str, n_components: int = 3, d: int = 4) -> Mixture:
    return random_mixture(np.random.default_rng(7), covariance_type, n_components, d)


# --- marginals and conditionals --------------------------------------------------------------------------------


@st.composite
def split_mixtures(draw: st.DrawFn) -> tuple[Mixture, list[int], list[int]]:
    """A mixture, some of its features in any order, and the others in theirs; neither empty."""
    mixture = draw(mixtures(draw(covariance_types), max_d=6).filter(lambda mixture: mixture.d > 1))
    chosen = draw(st.permutations(range(mixture.d)))[: draw(st.integers(1, mixture.d - 1))]
    return mixture, chosen, [i for i in range(mixture.d) if i not in chosen]


@LAW
@given(drawn=split_mixtures(), rng=generators)
def test_a_joint_density_is_the_marginals_times_the_conditionals(drawn: tuple, rng: np.random.Generator) -> None:
    mixture, chosen, rest = drawn
    rows = mixture.sample(5, rng)[0] + rng.normal(size=(5, mixture.d))
    for row, joint in zip(rows, densities(mixture, rows), strict=True):
        known = densities(marginal(mixture, chosen), row[None, chosen])[0]
        left = densities(conditional(mixture, chosen, row[chosen]), row[None, rest])[0]
        assert known + left == pytest.approx(joint, abs=1e-8)


@LAW
@given(drawn=split_mixtures(), rng=generators)
def test_given_one_by_one_is_given_at_once(drawn: tuple, rng: np.random.Generator) -> None:
    mixture, chosen, _ = drawn
    values = 3 * rng.normal(size=len(chosen))
    at_once, model = conditional(mixture, chosen, values), model_of(mixture)
    model.feature_names_in_ = np.array([f"f{i}" for i in range(mixture.d)], dtype=object)
    for feature, value in zip(chosen, values, strict=True):
        model = model.conditional({f"f{feature}": value})
    np.testing.assert_allclose(model.weights_, at_once.weights, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(model.means_, at_once.means, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(model.covariances_, at_once.covariances, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_the_marginal_is_the_law_of_the_samples_features(covariance_type: str) -> None:
    mixture, kept = some(covariance_type), [2, 0]
    rows = mixture.sample(40_000, np.random.default_rng(0))[0][:, kept]
    found = marginal(mixture, kept)
    assert found.covariance_type == covariance_type
    mean, covariance = found.moments()
    np.testing.assert_allclose(rows.mean(axis=0), mean, atol=5 * np.sqrt(np.diag(covariance).max() / 40_000))
    np.testing.assert_allclose(np.cov(rows.T), covariance, atol=0.03 * np.trace(covariance))


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_given_nothing_it_is_itself_and_so_is_the_marginal_of_everything(covariance_type: str) -> None:
    model = model_of(some(covariance_type))
    for same in (model.conditional({}), model.marginal(range(4))):
        for name in ("weights_", "means_", "covariances_"):
            assert getattr(same, name).tobytes() == getattr(model, name).tobytes()
        assert same.covariance_type == covariance_type


def test_values_far_from_everything_leave_the_nearest_component() -> None:
    found = conditional(some("full"), [0], np.array([1e6]))
    assert np.isfinite(found.means).all()
    assert found.weights.max() == pytest.approx(1.0)


def test_names_stand_for_features_and_stay_with_them() -> None:
    model = model_of(some("full"))
    model.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    assert list(model.marginal(["d", 1]).feature_names_in_) == ["d", "b"]
    found = model.conditional({"c": 0.5, 0: 1})
    assert list(found.feature_names_in_) == ["b", "d"]
    np.testing.assert_array_equal(found.means_, model.conditional({2: 0.5, "a": 1.0}).means_)


BAD_FEATURES = {
    "beyond the last": (lambda m: m.marginal([0, 4]), r"feature 4: expected an index from 0 to 3"),
    "negative": (lambda m: m.marginal([-1]), r"feature -1: expected an index from 0 to 3"),
    "twice": (lambda m: m.marginal([1, 2, 1]), r"feature 1 is named more than once"),
    "none": (lambda m: m.marginal([]), r"no features are named"),
    "a text": (lambda m: m.marginal("ab"), r"features='ab': expected a list"),
    "a name without names": (lambda m: m.marginal(["a"]), r"feature 'a': the model's features have no names"),
    "a fraction": (lambda m: m.marginal([0.5]), r"feature 0\.5: expected an index"),
    "all given": (lambda m: m.conditional(dict.fromkeys(range(4), 0.0)), r"all 4 features are given"),
    "not a dictionary": (lambda m: m.conditional([1.0]), r"expected a dictionary of feature: value, found a list"),
    "no number": (lambda m: m.conditional({0: np.nan}), r"feature 0 is given as nan: expected a finite number"),
    "text as value": (lambda m: m.conditional({0: "x"}), r"feature 0 is given as 'x': expected a finite number"),
}


@pytest.mark.parametrize(("ask", "words"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_what_is_wrong_with_features_is_said(ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask(model_of(some("full")))


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    model = model_of(some("diag", d=2))
    model.feature_names_in_ = np.array(["a", "b"], dtype=object)
    with pytest.raises(ValueError, match="feature 'z' is unknown: expected one of a, b"):
        model.conditional({"z": 1.0})


# --- parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_parameters_come_back_and_can_be_saved(covariance_type: str, tmp_path: Any) -> None:
    mixture = some(covariance_type)
    model = model_of(mixture)
    model.save(tmp_path / "m.gmm")
    again = GaussianMixture.load(tmp_path / "m.gmm")
    for name in ("weights", "means", "covariances"):
        assert getattr(again, f"{name}_").tobytes() == getattr(mixture, name).tobytes()
    rows = mixture.sample(50, np.random.default_rng(0))[0]
    np.testing.assert_allclose(again.score_samples(rows), densities(mixture, rows), rtol=1e-9)


HALF, EYES = [0.5, 0.5], [np.eye(2), np.eye(2)]
BAD_PARAMETERS = {
    "sum": ([0.5, 0.6], np.zeros((2, 2)), EYES, "full", r"'weights' should be"),
    "number of weights": ([1.0], np.zeros((2, 2)), EYES, "full", r"'weights' should have the shape of \(2,\)"),
    "flat means": (HALF, np.zeros(2), EYES, "full", r"'means' should have the shape of \(K, d\), but got \(2,\)"),
    "NaN": (HALF, [[0, np.nan], [0, 0]], EYES, "full", "'means' should hold finite numbers"),
    "shape": (
        HALF,
        np.zeros((2, 2)),
        np.ones((2, 2)),
        "full",
        r"'full covariance' should have the shape of \(2, 2, 2\)",
    ),
    "skew": (HALF, np.zeros((2, 2)), [np.eye(2), [[1, 0.5], [0, 1]]], "full", "that of component 1 differs from its"),
    "indefinite": (HALF, np.zeros((2, 2)), [np.eye(2), [[1, 2], [2, 1]]], "full", "component 1 is not positive"),
    "negative": (HALF, np.zeros((2, 2)), [1.0, -1.0], "spherical", "component 1 is not positive"),
    "nothing": (HALF, np.zeros((2, 2)), None, "diag", "'covariances' is None"),
    "family": (HALF, np.zeros((2, 2)), EYES, "round", "covariance_type='round': expected one of full"),
}


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "kind", "words"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS
)
def test_parameters_that_make_no_mixture_are_refused(
    weights: Any, means: Any, covariances: Any, kind: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        GaussianMixture.from_parameters(weights, means, covariances, covariance_type=kind)


# --- scikit-learn and ONNX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_scikit_learns_model_of_ours_says_the_same(covariance_type: str) -> None:
    truth = some(covariance_type)
    rows = truth.sample(600, np.random.default_rng(0))[0]
    ours = GaussianMixture(3, covariance_type=covariance_type, random_state=5, init_params="kmeans-whitened").fit(rows)
    theirs = ours.to_sklearn()
    np.testing.assert_array_equal(theirs.predict(rows), ours.predict(rows))
    np.testing.assert_allclose(theirs.predict_proba(rows), ours.predict_proba(rows), atol=1e-9)
    np.testing.assert_allclose(theirs.score_samples(rows), ours.score_samples(rows), rtol=1e-9)
    assert theirs.bic(rows) == pytest.approx(ours.bic(rows), rel=1e-10)
    assert theirs.aic(rows) == pytest.approx(ours.aic(rows), rel=1e-10)
    drawn = theirs.sample(20_000)[0]
    np.testing.assert_allclose(drawn.mean(axis=0), truth.moments()[0], atol=0.3)
    for name in ("converged_", "n_iter_", "lower_bound_", "lower_bounds_", "n_features_in_"):
        assert getattr(theirs, name) == getattr(ours, name), name
    theirs.means_[:] = 0.0
    assert not (ours.means_ == 0).any()


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_there_and_back_scikit_learns_model_predicts_the_same(covariance_type: str) -> None:
    rows = some(covariance_type).sample(400, np.random.default_rng(1))[0]
    first = Theirs(3, covariance_type=covariance_type, random_state=0, tol=1e-4, reg_covar=1e-5).fit(rows)
    ours = GaussianMixture.from_sklearn(first)
    again = ours.to_sklearn()
    assert again.get_params() == first.get_params()
    np.testing.assert_array_equal(again.predict_proba(rows), first.predict_proba(rows))
    np.testing.assert_allclose(ours.predict_proba(rows), first.predict_proba(rows), atol=1e-9)
    assert (ours.n_iter_, ours.lower_bound_, ours.converged_) == (first.n_iter_, first.lower_bound_, first.converged_)
    first.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    assert list(GaussianMixture.from_sklearn(first).to_sklearn().feature_names_in_) == ["a", "b", "c", "d"]


def test_only_fitted_mixtures_of_scikit_learn_are_taken() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(TypeError, match=r"expected a fitted sklearn\.mixture\.GaussianMixture, found Bayesian"):
        GaussianMixture.from_sklearn(BayesianGaussianMixture().fit(rows))
    with pytest.raises(NotFittedError):
        GaussianMixture.from_sklearn(Theirs())
    half = Theirs()
    half.weights_, half.means_ = np.ones(1), np.zeros((1, 2))
    with pytest.raises(ValueError, match="'covariances' is None"):
        GaussianMixture.from_sklearn(half)
    with pytest.raises(NotFittedError):
        GaussianMixture().to_sklearn()


def test_a_family_that_scikit_learn_does_not_know_goes_there_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "ball", FAMILIES["spherical"])
    mixture = some("spherical")
    ball = Mixture("ball", mixture.weights, mixture.means, mixture.covariances)
    rows = mixture.sample(50, np.random.default_rng(0))[0]
    theirs = to_theirs(ball, {}, {})
    assert theirs.covariance_type == "full"
    np.testing.assert_allclose(theirs.score_samples(rows), densities(mixture, rows), rtol=1e-9)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_onnx_says_the_same(covariance_type: str) -> None:
    onnxruntime, skl2onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("skl2onnx")
    types = pytest.importorskip("skl2onnx.common.data_types")
    model = model_of(some(covariance_type))
    rows = model.sample(500)[0]
    inputs = [("rows", types.DoubleTensorType([None, 4]))]
    exported = skl2onnx.to_onnx(model.to_sklearn(), initial_types=inputs, options={"score_samples": True})
    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, probabilities, scores = session.run(None, {"rows": rows})
    np.testing.assert_array_equal(labels.ravel(), model.predict(rows))
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=1e-5)
    np.testing.assert_allclose(scores.ravel(), model.score_samples(rows), atol=1e-5)
