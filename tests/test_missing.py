"""Missing values: the kernel against one row after another, fits against brute force, what predictions make of gaps."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array
import dask.config
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr

from gmmdask import GaussianMixture, patterns, unknown
from gmmdask.algorithms import Algorithm, Batch, Beginning, Gradient, Incremental, Squarem, Stochastic
from gmmdask.ambiguity import Ambiguity
from gmmdask.cli import main
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.estep import EStep, ESteps, incomplete_stats
from gmmdask.execution import Threads, one_thread
from gmmdask.fit import advance
from gmmdask.frame import Conjugate, Frame, Prior
from gmmdask.gradients import gradient, mixture_at, objective
from gmmdask.initialise import lone_gaussian
from gmmdask.kernels import MISSING
from gmmdask.mixture import Mixture
from gmmdask.moments import Observed
from gmmdask.outcome import Event, PassDone
from gmmdask.pilot import Pilot, first_look
from gmmdask.run import Run
from gmmdask.selfcheck import ChangedData, Expected
from gmmdask.sources import ArraySource, DataError
from gmmdask.stats import Layout
from gmmdask.task import Block, Data, cut_blocks
from gmmdask.testing import reference
from gmmdask.testing.contracts import AlgorithmTests
from gmmdask.testing.contracts.algorithm import PLAN, bits
from gmmdask.testing.passes import assert_stats_agree, data_of, e_step, identity_frame, parameters_of, run_of
from gmmdask.testing.strategies import (
    LAW,
    covariance_types,
    cuts,
    generators,
    mixtures,
    random_mixture,
    row_arrays,
    row_weights,
    with_gaps,
)

every_family = pytest.mark.parametrize("covariance_type", FAMILIES)
SHIFT, SCALES = np.array([100.0, -3.0, 0.5]), np.array([1.0, 50.0, 0.01])


def observed_frame(mixture: Mixture, rows: Array) -> Frame:
    return Frame.by_feature(mixture.family, np.nanmean(rows, axis=0), np.nanvar(rows, axis=0))


def some_rows(covariance_type: str, n: int = 400, share: float = 0.3) -> tuple[Mixture, Array]:
    """A mixture of well separated components in units of its own, and rows of it with gaps; one lacks everything."""
    rng = np.random.default_rng(5)
    truth = random_mixture(rng, covariance_type, 3, 3, separation=4.0)
    rows = with_gaps(rng, truth.sample(n, rng)[0], share)
    rows[7] = np.nan
    return truth, rows


# --- the kernel ------------------------------------------------------------------------------------------------


@settings(LAW, max_examples=40)
@given(data=st.data(), covariance_type=covariance_types, rng=generators, weighted=st.booleans(), small=st.booleans())
def test_the_kernel_agrees_with_one_row_after_another(
    data: st.DataObject, covariance_type: str, rng: np.random.Generator, weighted: bool, small: bool
) -> None:
    """Of any patterns, those of nothing and of everything among them, in any cuts, and in the smallest of batches."""
    mixture = data.draw(mixtures(covariance_type, max_components=3, max_d=4))
    inside = with_gaps(rng, data.draw(row_arrays(mixture.d, max_rows=25)), data.draw(st.sampled_from([0.0, 0.3, 0.8])))
    frame = Frame.by_feature(mixture.family, 3 * rng.normal(size=mixture.d), 10 ** rng.uniform(-1, 1, mixture.d))
    rows = inside * frame.inverse + frame.origin
    weights = data.draw(row_weights(len(rows))) if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(patterns, "LEAST_ROWS", 3)
            patch.setattr(patterns, "BATCH_SIZE", 1)
            patch.setattr(patterns, "INVERSES", 5)
            patch.setattr(unknown, "INVERSES", 5)
            patch.setattr(unknown, "SMALL", 2)
        stats = e_step(rows, mixture, MISSING, frame, data.draw(cuts(len(rows))), weights)
    zero = np.zeros_like(mixture.means)
    sums = reference.incomplete_statistics(inside, parameters_of(mixture), zero, weights, np.longdouble)
    units = np.sum(np.isnan(rows) @ np.log(frame.matrix) * (1 if weights is None else weights))  # of what is missing
    sums = sums._replace(log_likelihood=sums.log_likelihood - units, entropy=sums.entropy - units)
    assert_stats_agree(stats.about(zero), sums, 1e-11)


@every_family
def test_more_features_than_a_word_of_the_code_has_bits(covariance_type: str) -> None:
    rng = np.random.default_rng(0)
    mixture = random_mixture(rng, covariance_type, 2, 70)
    rows = with_gaps(rng, rng.normal(size=(6, 70)))
    rows[:, 66:] = [[0, np.nan, 0, np.nan]] * 3 + [[np.nan, 0, np.nan, 0]] * 3
    stats = e_step(rows, mixture, MISSING, identity_frame(70), [(0, 6)])
    zero = np.zeros_like(mixture.means)
    assert_stats_agree(stats.about(zero), reference.incomplete_statistics(rows, parameters_of(mixture), zero), 1e-10)


def test_a_frame_that_mixes_features_is_refused() -> None:
    mixture = random_mixture(np.random.default_rng(0), "full", 2, 2)
    frame = Frame.of(mixture.family, *mixture.moments())
    with pytest.raises(ValueError, match="keeps features apart"):
        e_step(np.array([[1.0, np.nan]]), mixture, MISSING, frame, [(0, 1)])


@pytest.mark.parametrize(("covariance_type", "penalised"), [*((name, False) for name in FAMILIES), ("full", True)])
def test_gradients_are_those_of_the_likelihood_of_what_is_there(covariance_type: str, penalised: bool) -> None:
    """Fisher's identity: derivatives follow from expected statistics as they do from those of whole rows."""
    rng = np.random.default_rng(3)
    start, rows = random_mixture(rng, covariance_type, 2, 3), with_gaps(rng, 2 * rng.normal(size=(25, 3)), 0.4)
    prior = Prior(start.family.isotropic(0.0, 2, 3), Conjugate.named("mclust", 2, 3) if penalised else None)

    def value(point: Array) -> float:
        mixture = mixture_at(point, start, prior)
        stats = e_step(rows, mixture, MISSING, identity_frame(3), [(0, 25)])
        return objective(stats, mixture, prior)[0]

    point = start.coordinates()
    mixture = mixture_at(point, start, prior)
    slopes = gradient(point, e_step(rows, mixture, MISSING, identity_frame(3), [(0, 25)]), mixture, prior)
    differences = [(value(point + step) - value(point - step)) / 2e-5 for step in 1e-5 * np.eye(len(point))]
    np.testing.assert_allclose(slopes, differences, rtol=1e-6, atol=1e-8)


@every_family
def test_assigned_rows_with_gaps_count_with_what_one_gaussian_expects(covariance_type: str) -> None:
    rng = np.random.default_rng(1)
    rows, family = with_gaps(rng, rng.normal(size=(40, 3))), FAMILIES[covariance_type]
    gaussian, weights = random_mixture(rng, "full", 1, 3), 1.0 + np.arange(40) % 3
    assigned, frame = np.arange(40) % 3 - 1, identity_frame(3)
    layout = Layout(covariance_type, 2, 3, frame.digest)
    stats = incomplete_stats(layout, frame, gaussian, rows, assigned, weights).about(np.zeros((2, 3)))
    for k in range(2):
        mine = np.where(assigned == k, weights, 0.0)
        sums = reference.incomplete_statistics(rows, parameters_of(gaussian), np.zeros((1, 3)), mine)
        assert stats.mass[k] == pytest.approx(mine.sum())
        np.testing.assert_allclose(stats.first[k], sums.first[0], rtol=1e-11, atol=1e-11)
        if not family.shared:
            np.testing.assert_allclose(stats.second[k], family.pack(sums.second[0]), rtol=1e-11, atol=1e-11)
    if family.shared:
        both = np.where(assigned >= 0, weights, 0.0)
        total = reference.incomplete_statistics(rows, parameters_of(gaussian), np.zeros((1, 3)), both).second[0]
        np.testing.assert_allclose(stats.second[0], family.pack(total), rtol=1e-11, atol=1e-11)


# --- the first look --------------------------------------------------------------------------------------------


@LAW
@given(data=st.data(), rng=generators, weighted=st.booleans())
def test_moments_are_those_of_the_values_that_features_have(
    data: st.DataObject, rng: np.random.Generator, weighted: bool
) -> None:
    d = data.draw(st.integers(1, 4))
    rows = with_gaps(rng, data.draw(row_arrays(d)), 0.5) + 1e6
    weights = data.draw(row_weights(len(rows))) + 0.5 if weighted else None
    parts = [Observed.of(rows[a:b], None if weights is None else weights[a:b]) for a, b in data.draw(cuts(len(rows)))]
    found = sum(parts[1:], parts[0])
    given_weights = np.ones(len(rows)) if weights is None else weights
    assert found.weight == pytest.approx(given_weights.sum())
    for j in range(d):
        there = ~np.isnan(rows[:, j])
        w, values = given_weights[there], rows[there, j]
        assert found.weights[j] == pytest.approx(w.sum())
        if there.any():
            mean = w @ (values - 1e6) / w.sum()
            assert found.mean[j] - 1e6 == pytest.approx(mean, abs=1e-9)
            assert found.variation[j] == pytest.approx(w @ (values - 1e6 - mean) ** 2, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_the_order_of_rows_is_told_as_without_gaps(share: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 3))
    for order, low, high in ((slice(None), 0.8, 1.25), (np.argsort(rows[:, 0]), 10.0, np.inf)):
        blocks = cut_blocks([with_gaps(rng, rows[order], share)], 0, 100)
        found = Pilot(3, np.dtype(np.float64), 0, 0, missing=True)(blocks)
        assert low < found.order_ratio < high
        assert found.is_sorted == (low > 1)
        data = data_of(with_gaps(rng, rows[order], share))
        assert first_look(data, 0, 100, 0, missing=True).is_sorted == (low > 1)


@pytest.mark.parametrize("sample_rows", [None, 700])
def test_rows_without_any_value_do_not_shape_the_start(sample_rows: int | None) -> None:
    rng = np.random.default_rng(0)
    means = 8 * rng.normal(size=(3, 3))
    rows = with_gaps(np.random.default_rng(3), means[rng.integers(3, size=2000)] + rng.normal(size=(2000, 3)), 0.3)
    rows[::7] = np.nan
    full = rows[~np.isnan(rows).all(axis=1)]
    settings = {"missing": "em", "random_state": 0, "n_init": 4, "sample_rows": sample_rows}
    found, wanted = (GaussianMixture(3, **settings).fit(given).score(full) for given in (rows, full))
    assert found == pytest.approx(wanted, abs=0.01)


# --- fits ------------------------------------------------------------------------------------------------------

LAPS = 3


def brute_force(start: Mixture, rows: Array, weights: Array | None = None) -> tuple[Any, ...]:
    return reference.em(start.covariance_type, rows, parameters_of(start), LAPS, 1e-6, weights)


def given_start(start: Mixture) -> dict[str, Any]:
    precisions = start.family.precisions(start.root)
    return {"weights_init": start.weights, "means_init": start.means, "precisions_init": precisions}


def fit(rows: Any, covariance_type: str, scheduler: Any = "synchronous", **others: Any) -> GaussianMixture:
    weights = others.pop("sample_weight", None)
    chosen = {"tol": 0, "max_iter": LAPS, "random_state": 0, **others}
    model = GaussianMixture(3, covariance_type=covariance_type, missing="em", **chosen)
    return model.fit(rows, scheduler=scheduler, sample_weight=weights)


def assert_models_agree(model: GaussianMixture, wanted: tuple[Any, ...], tolerance: float = 1e-10) -> None:
    found = (model.weights_, model.means_, model.covariances_)
    for array, target in zip(found, wanted[:3], strict=True):
        np.testing.assert_allclose(array, target, rtol=0, atol=tolerance * max(1.0, np.abs(target).max()))
    np.testing.assert_allclose(model.lower_bounds_, wanted[3], rtol=tolerance, atol=tolerance)


@every_family
@pytest.mark.parametrize("weighted", [False, True])
def test_fits_equal_a_brute_force_in_and_out_of_core(covariance_type: str, weighted: bool, tmp_path: Path) -> None:
    truth, rows = some_rows(covariance_type, 150)
    weights = 1.0 + np.arange(len(rows)) % 3 if weighted else None
    start = replace(truth, means=truth.means + 0.3)
    wanted = brute_force(start, rows, weights)
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(31, 3))
    assert_models_agree(fit(rows, covariance_type, sample_weight=weights, **given_start(start)), wanted)
    options = {"sample_rows": 50, "accelerate": None, "sample_weight": weights, **given_start(start)}
    outside = fit(str(tmp_path / "rows"), covariance_type, Threads(2), **options)
    assert_models_agree(outside, wanted)
    assert outside.provenance_["kernel"] == "missing"
    again = fit(rows[:, :], covariance_type, **{**options, "sample_rows": 49})  # other parts and blocks
    assert_models_agree(again, wanted)


def test_float32_rows_and_offsets_keep_their_digits() -> None:
    truth, rows = some_rows("full", 150)
    rows32 = rows.astype(np.float32)
    start = given_start(truth)
    assert_models_agree(fit(rows32, "full", **start), brute_force(truth, rows32.astype(np.float64)))
    far = rows * SCALES + 1e6 * SHIFT
    model = fit(far, "full", prior="mclust", init_params="random_from_data")
    near = fit((far - 1e6 * SHIFT) / SCALES, "full", prior="mclust", init_params="random_from_data")
    np.testing.assert_allclose((model.means_ - 1e6 * SHIFT) / SCALES, near.means_, atol=1e-6)
    np.testing.assert_allclose(model.covariances_ / np.outer(SCALES, SCALES), near.covariances_, atol=1e-6)


@pytest.mark.parametrize(("covariance_type", "sample_rows"), [*((name, None) for name in FAMILIES), ("full", 150)])
def test_without_gaps_the_model_is_that_of_whole_rows(covariance_type: str, sample_rows: int | None) -> None:
    truth = random_mixture(np.random.default_rng(2), covariance_type, 3, 3, 4.0)
    rows = truth.sample(600, np.random.default_rng(3))[0]
    options = {"tol": 0, "max_iter": LAPS, "random_state": 0, "sample_rows": sample_rows, "stop": "gain"}
    plain = GaussianMixture(3, covariance_type=covariance_type, **options).fit(rows)
    # the other starts on a sample see whitened rows here and scaled ones there: the best may be another
    tolerance = 1e-9 if sample_rows is None else 2e-2
    model = fit(rows, covariance_type, sample_rows=sample_rows, stop="gain")
    assert model.score(rows) == pytest.approx(plain.score(rows), abs=tolerance)
    if sample_rows is None:
        assert_models_agree(model, (plain.weights_, plain.means_, plain.covariances_, plain.lower_bounds_), 1e-9)


@pytest.mark.parametrize(
    ("init_params", "sample_rows"),
    [("kmeans", 300), ("k-means++", None), ("random", None), ("random_from_data", 300), ("kmeans-whitened", None)],
)
def test_starts_see_what_one_gaussian_expects_in_gaps(init_params: str, sample_rows: int | None) -> None:
    truth, rows = some_rows("full", 900)
    options = {"tol": 1e-6, "max_iter": 200, "n_init": 4, "init_params": init_params, "sample_rows": sample_rows}
    model = fit(rows, "full", **options)
    assert model.converged_
    reached = GaussianMixture.from_parameters(truth.weights, truth.means, truth.covariances).set_params(missing="em")
    assert model.score(rows) > reached.score(rows)


@pytest.mark.parametrize("sample_rows", [None, 400])
def test_moves_of_components_see_it_too(sample_rows: int | None) -> None:
    """From a start where two clusters share a component, and two components a cluster."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [40.0, 0.0], [48.0, 0.0]])
    rows = with_gaps(rng, np.repeat(centres, 300, axis=0) + rng.normal(size=(900, 2)), 0.2)[rng.permutation(900)]
    start = {"weights_init": [0.25, 0.25, 0.5], "means_init": [[-1.0, 0.0], [1.0, 0.0], [44.0, 0.0]]}
    options = {"precisions_init": [0.5, 0.5, 0.05], "tol": 1e-5, "max_iter": 200, "sample_rows": sample_rows, **start}
    stuck = fit(rows, "spherical", **options)
    found = fit(rows, "spherical", refine="split-merge", **options)
    assert found.score(rows) > stuck.score(rows) + 0.1
    np.testing.assert_allclose(np.sort(found.means_[:, 0]), centres[:, 0], atol=0.5)


def test_features_that_depend_on_each_other_are_carried() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1)) + 6 * (np.arange(300)[:, None] % 3)
    rows = with_gaps(rng, np.hstack([x, 2 * x, -x]), 0.2)
    model = fit(rows, "full", reg_covar=1e-4, max_iter=20)
    filled = model.impute(rows)
    known = ~np.isnan(rows).all(axis=1)
    np.testing.assert_allclose(filled[known, 1], 2 * filled[known, 0], atol=0.05)


def test_the_lone_gaussian_is_near_its_maximum() -> None:
    rng = np.random.default_rng(4)
    truth = random_mixture(rng, "full", 1, 3)
    rows = with_gaps(rng, truth.sample(4000, rng)[0])
    frame = observed_frame(truth, rows)
    with one_thread():
        found = frame.mixture_out(lone_gaussian(rows, frame, Threads(1)))
    np.testing.assert_allclose(found.means, truth.means, atol=0.1)
    np.testing.assert_allclose(found.covariances, truth.covariances, atol=0.15)


class IncompleteTests(AlgorithmTests):
    """The contract of an algorithm, on rows with gaps."""

    families = ("full",)

    @pytest.fixture
    def rows(self, start: Mixture) -> Array:
        truth = random_mixture(np.random.default_rng(9), start.covariance_type, 3, 3)
        return with_gaps(np.random.default_rng(11), truth.sample(650, np.random.default_rng(10))[0])

    @pytest.fixture
    def run(self, start: Mixture, rows: Array) -> Run:
        frame = observed_frame(start, rows)
        sample = e_step(rows[:100], frame.mixture_in(start), MISSING, frame, [(0, 100)]) if self.sampled else None
        beginning = Beginning(3, PLAN.steps, sample, self.sampled)
        return replace(run_of("run", self.algorithm, start, frame, beginning=beginning), fast=MISSING)

    def test_every_lap_adds_up_to_all_rows(self, run: Run, rows: Array) -> None:
        held_out = self.held_out(rows)
        beside = None if held_out is None else data_of(held_out)
        data = Data(ArraySource(rows), PLAN, Threads(1))
        advance((run,), data, lambda event: None, Expected(650.0, None, None), held_out=beside)
        with pytest.raises(ChangedData, match="weight 650 against 649"):
            advance((run,), data, lambda event: None, Expected(649.0, None, None), held_out=beside)


class TestBatch(IncompleteTests):
    algorithm, max_iter, monotone = Batch(tol=0, max_iter=8), 8, True
    families = ("full", "spherical")


class TestSquarem(IncompleteTests):
    algorithm, max_iter, monotone = Squarem(Batch(tol=0, max_iter=10)), 10, True


class TestStochastic(IncompleteTests):
    algorithm, max_iter, sampled = Stochastic(tol=0, max_iter=2, mini_batches=9), 2, True


class TestIncremental(IncompleteTests):
    algorithm, max_iter, monotone = Incremental(tol=0, max_iter=3, mini_batches=9), 3, True


ALGORITHMS: dict[str, Algorithm | str] = {
    "em": "em",
    "incremental": "incremental",
    "gradient": "gradient",
    "adam": Gradient("adam", tol=1e-7, max_iter=300, learning_rate=0.05),
    "riemannian": "riemannian",
}


def test_algorithms_end_where_em_does() -> None:
    _, rows = some_rows("full", 600, 0.2)
    found = {
        name: fit(rows, "full", algorithm=algorithm, tol=1e-7, max_iter=300).score(rows)
        for name, algorithm in ALGORITHMS.items()
    }
    assert all(score == pytest.approx(found["em"], abs=2e-4) for score in found.values()), found


@every_family
def test_the_bound_never_falls_under_a_prior(covariance_type: str) -> None:
    _, rows = some_rows(covariance_type)
    model = fit(rows, covariance_type, prior="mclust", max_iter=20, accelerate=None, init_params="random")
    bounds = np.array(model.lower_bounds_)
    assert np.all(np.diff(bounds) >= -1e-12 * np.abs(bounds[1:]))


class Interrupted(Exception):
    """Ends a fit after a lap, as SIGKILL would."""


class Stop:
    def __call__(self, event: Event) -> None:
        if isinstance(event, PassDone) and event.lap == 2:
            raise Interrupted


def test_it_resumes_to_the_same_bits_on_any_threads(tmp_path: Path) -> None:
    _, rows = some_rows("full", 1200)
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(100, 3))
    data, place, options = str(tmp_path / "rows"), tmp_path / "checkpoint", {"sample_rows": 400, "max_iter": 6}
    whole = fit(data, "full", **options)
    assert bits(fit(data, "full", Threads(2), **options).mixture_) == bits(whole.mixture_)
    model = GaussianMixture(3, missing="em", tol=0, random_state=0, checkpoint=place, **options)
    with dask.config.set({"gmmdask.checkpoint-interval": 0}):
        with pytest.raises(Interrupted):
            model.set_params(callbacks=(Stop(),)).fit(data)
        with pytest.raises(ValueError, match=r"other settings .*missing: 'em' then, None now"):
            GaussianMixture(3, tol=0, random_state=0, checkpoint=place, **options).fit(data, resume="force")
        resumed = model.set_params(callbacks=()).fit(data, resume=True)
    assert bits(resumed.mixture_) == bits(whole.mixture_)


# --- what is refused -------------------------------------------------------------------------------------------


def broken(value: float, at: tuple[int, int] = (77, 1)) -> Array:
    rows = some_rows("full")[1]
    rows[at] = value
    return rows


REFUSED = {
    "infinity": (broken(np.inf), {}, r"Input contains infinity .* in 1 of 400 rows, the first in row 77"),
    "a huge number": (broken(1e200), {}, r"numbers beyond 1e\+150\) in 1 of 400 rows, the first in row 77"),
    "no value of a feature": (
        np.column_stack([broken(0.0), np.full(400, np.nan)]),
        {},
        r"features \[3\] have no value in any row: nothing can be learned\. Leave them out",
    ),
    "NaN unasked for": (broken(0.0), {"missing": "error"}, r"NaN .*missing='em' \(--missing em\) fits what is there"),
    "a start by passes": (broken(0.0), {"init_params": "k-means||"}, r"'k-means\|\|' needs distances of whole rows"),
    "noise beside": (broken(0.0), {"noise": True}, r"noise=True has a density of whole rows only"),
    "another word": (broken(0.0), {"missing": "drop"}, r"'missing' parameter of GaussianMixture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fitted_is_refused(name: str) -> None:
    rows, options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, **{"missing": "em", **options}).fit(rows)


def test_a_constant_feature_is_told_and_carried() -> None:
    rows = broken(0.0)
    rows[:, 2] = np.where(np.isnan(rows[:, 2]), np.nan, 4.0)
    with pytest.warns(UserWarning, match=r"features \[2\] are constant"):
        model = fit(rows, "full")
    np.testing.assert_allclose(model.means_[:, 2], 4.0)
    with pytest.raises(ValueError, match=r"features \[2\] are constant"):
        fit(rows, "full", reg_covar=0)


def test_streams_and_statistics_take_whole_rows() -> None:
    rows = broken(0.0)
    with pytest.raises(ValueError, match=r"missing='em': partial_fit learns whole rows"):
        GaussianMixture(2, missing="em").partial_fit(rows)
    with pytest.raises(DataError, match=r"NaN or infinity"):
        fit(rows, "full").statistics(rows)


# --- predictions -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["full", "diag"])
def model(request: pytest.FixtureRequest) -> GaussianMixture:
    return fit(some_rows(request.param)[1] * SCALES + SHIFT, request.param)


@pytest.fixture
def rows(model: GaussianMixture) -> Array:
    return (some_rows(model.covariance_type)[1] * SCALES + SHIFT)[:60]


def by_hand(model: GaussianMixture, rows: Array) -> Iterator[tuple[Array, float, Array]]:
    """Posterior probabilities, log density and completed row of each row."""
    parameters = parameters_of(model.mixture_)
    for row in rows:
        there = ~np.isnan(row)
        covariances = parameters.covariances[:, there][:, :, there]
        seen = reference.Parameters(parameters.weights, parameters.means[:, there], covariances)
        joint = reference.log_joint(row[None, there], seen)
        density = reference.log_density(joint)[0]
        resp = np.exp(joint[:, 0] - density)
        parts = zip(parameters.means, parameters.covariances, strict=True)
        expected = [reference.filled(row, there, mean, covariance, np.float64)[0] for mean, covariance in parts]
        yield resp, density, resp @ np.array(expected)


def test_predictions_go_by_what_is_there(model: GaussianMixture, rows: Array) -> None:
    resp, density, completed = map(np.array, zip(*by_hand(model, rows), strict=True))
    np.testing.assert_allclose(model.predict_proba(rows), resp, atol=1e-10)
    np.testing.assert_allclose(model.score_samples(rows), density, atol=1e-9)
    np.testing.assert_array_equal(model.predict(rows), resp.argmax(axis=1))
    assert model.score(rows) == pytest.approx(density.mean(), abs=1e-10)
    weights = 1.0 + np.arange(len(rows)) % 4
    assert model.score(rows, sample_weight=weights) == pytest.approx(weights @ density / weights.sum(), abs=1e-10)
    assert model.bic(rows) - model.aic(rows) == pytest.approx(model.mixture_.n_parameters * (math.log(60) - 2))
    imputed = model.impute(rows)
    np.testing.assert_allclose((imputed - SHIFT) / SCALES, (completed - SHIFT) / SCALES, atol=1e-9)
    there = ~np.isnan(rows)
    np.testing.assert_array_equal(imputed[there], rows[there])
    nothing = np.full((1, 3), np.nan)
    assert model.score_samples(nothing)[0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(model.predict_proba(nothing)[0], model.weights_, atol=1e-12)
    np.testing.assert_allclose(model.impute(nothing)[0], model.weights_ @ model.means_, rtol=1e-10)


def test_criteria_go_by_labels_and_by_what_is_there(model: GaussianMixture, rows: Array) -> None:
    """And not by the uncertainty of what is missing, which the entropy of an E-step has in it."""
    resp, density, _ = map(np.array, zip(*by_hand(model, rows), strict=True))
    weights, frame = 1.0 + np.arange(len(rows)) % 4, Frame.by_feature(model.mixture_.family, SHIFT, SCALES**2)
    steps = ((frame, EStep(frame.mixture_in(model.mixture_), MISSING)),)
    blocks = [Block(rows[a : a + 25], weights[a : a + 25], a) for a in range(0, len(rows), 25)]
    (found,), (whole,) = Ambiguity(steps, 25)(blocks).items, ESteps(steps, 25)(blocks).items
    assert found.weight == weights.sum()
    assert found.log_likelihood + found.weight * frame.log_det == pytest.approx(weights @ density, abs=1e-8)
    assert found.entropy == pytest.approx(weights @ entr(resp).sum(axis=1), abs=1e-8)
    np.testing.assert_allclose(found.mass, weights @ resp, rtol=1e-9)
    assert abs(whole.entropy - found.entropy) > 1


def test_they_are_lazy_for_stored_rows(model: GaussianMixture, rows: Array, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "rows", data=rows, chunks=(25, 3))
    lazy = dask.array.from_array(rows, chunks=(25, 3))
    for name in ("predict", "predict_proba", "score_samples", "impute", "outliers"):
        wanted = getattr(model, name)(rows)
        for data in (str(tmp_path / "rows"), lazy):
            found = getattr(model, name)(data)
            assert isinstance(found, dask.array.Array)
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(found.compute(), wanted, rtol=1e-12, atol=1e-12)


def test_dtypes_stay_where_gaps_are_filled(model: GaussianMixture, rows: Array) -> None:
    found = model.impute(rows.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.impute(rows), rtol=1e-5)
    whole = np.arange(6).reshape(2, 3)
    assert model.impute(whole).dtype == np.float64
    np.testing.assert_array_equal(model.impute(whole), whole)


def test_a_model_knows_whether_nan_is_missing(model: GaussianMixture, rows: Array, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    loaded = GaussianMixture.load(tmp_path / "model")
    assert loaded.missing == "em"
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert loaded.__sklearn_tags__().input_tags.allow_nan
    loaded.set_params(missing="error")
    with pytest.raises(DataError, match=r"NaN or infinity, first in row \d+\. .*missing='em' \(--missing em\)"):
        loaded.predict(rows)
    np.testing.assert_array_equal(loaded.impute(rows), model.impute(rows))  # there NaN can be nothing else
    marginal = model.marginal([0, 2])
    np.testing.assert_allclose(
        marginal.score_samples(rows[:, [0, 2]]), model.score_samples(only(rows, [0, 2])), atol=1e-10
    )
    with pytest.raises(DataError, match=r"Input contains infinity, first in row 3"):
        model.predict(np.where(np.arange(60)[:, None] == 3, np.inf, rows))


def only(rows: Array, features: list[int]) -> Array:
    """Rows that lack all other features."""
    found = np.full_like(rows, np.nan)
    found[:, features] = rows[:, features]
    return found


def test_outliers_by_rows_that_are_named(model: GaussianMixture, rows: Array) -> None:
    assert model.outliers(rows, 0.25, reference=rows).mean() == pytest.approx(0.25, abs=0.03)


def test_the_commands_take_gaps(tmp_path: Path) -> None:
    _, rows = some_rows("diag")
    data, model, out = (str(tmp_path / name) for name in ("rows.npy", "model.gmm", "out.zarr"))
    np.save(data, rows)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == code, done.output
        return done.output

    fitted = ("fit", data, "-k", "3", "--covariance", "diag", "--seed", "0", "--output", model)
    assert "missing='em' (--missing em)" in run(*fitted, code=3)
    run(*fitted, "--missing", "em")
    run("predict", data, "-m", model, "-o", out, "--what", "labels,imputed", "--outliers", "0.05")
    loaded = GaussianMixture.load(model)
    written = {name: zarr.open_array(f"{out}/{name}", mode="r")[:] for name in ("labels", "imputed", "outlier")}
    np.testing.assert_array_equal(written["labels"], loaded.predict(rows))
    np.testing.assert_array_equal(written["imputed"], loaded.impute(rows))
    np.testing.assert_array_equal(written["outlier"], loaded.outliers(rows, 0.05))
    assert "nan" not in run("score", data, "-m", model).lower()
    assert "NaN" in run("score", data, "-m", model, "--missing", "error", code=3)
    assert "NaN" in run("predict", data, "-m", model, "-o", out, "--overwrite", "--missing", "error", code=3)
    np.testing.assert_array_equal(zarr.open_array(f"{out}/labels", mode="r")[:], loaded.predict(rows))


# --- what is found ---------------------------------------------------------------------------------------------

SEEDS, REPLICATES, ROWS = 30, 90, 4000


def missing_at_random(rows: Array, rng: np.random.Generator) -> Array:
    """30 % of the values: features after the first are missing where that one is large, most often."""
    d, found = rows.shape[1], rows.copy()
    chance = 0.3 * d / (d - 1) * 2 / (1 + np.exp(-2 * (rows[:, :1] - np.median(rows[:, 0])) / rows[:, 0].std()))
    found[:, 1:][rng.random((len(rows), d - 1)) < chance] = np.nan
    return found


def z_scores(covariance_type: str) -> tuple[Array, float]:
    """Of 30 fits against the truth (30, parameters), by standard errors of 60 others; and the share that is missing."""
    truth = random_mixture(np.random.default_rng(1), covariance_type, 3, 4, separation=3.0)
    found, shares = [], []
    for seed in range(REPLICATES):
        rng = np.random.default_rng([17, seed])
        rows = missing_at_random(truth.sample(ROWS, rng)[0], rng)
        shares.append(np.isnan(rows).mean())
        model = fit(rows, covariance_type, tol=1e-8, max_iter=300, accelerate="squarem", **given_start(truth))
        found.append(np.concatenate([model.weights_, model.means_.ravel(), model.covariances_.ravel()]))
    wanted = np.concatenate([truth.weights, truth.means.ravel(), truth.covariances.ravel()])
    errors = np.std(found[SEEDS:], axis=0, ddof=1)
    return (np.array(found[:SEEDS]) - wanted) / errors, float(np.mean(shares))


@pytest.mark.slow
@every_family
def test_parameters_are_unbiased_and_as_exact_as_replicates_are(covariance_type: str) -> None:
    """Done-when 3 of issue 8, where 30 % of the values are missing at random."""
    z, share = z_scores(covariance_type)
    assert abs(share - 0.3) < 0.02
    assert np.sqrt(np.mean(z**2)) <= 1.3
    assert np.abs(z.mean(axis=0)).max() <= 1
    assert np.abs(z).max() <= 4.5
