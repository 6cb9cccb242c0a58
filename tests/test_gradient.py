"""Gradient and Riemannian algorithms: derivatives, the line search, L-BFGS, and where their fits end."""

from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm
from sklearn.datasets import load_iris, load_wine

from gmmdask import GaussianMixture, container
from gmmdask.algorithms import Algorithm, Beginning, Gradient, Riemannian
from gmmdask.algorithms._climb import two_loops
from gmmdask.algorithms._projected import onto_simplex, plain, plain_gradient, projected
from gmmdask.algorithms._search import FLAT, RISE, Search
from gmmdask.algorithms._steps import StepsState
from gmmdask.algorithms.riemannian import Cone, Parts, packed, unpacked
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array
from gmmdask.frame import Conjugate, Prior
from gmmdask.gradients import bared, has_room, is_sound, objective
from gmmdask.mixture import Mixture
from gmmdask.outcome import Event, PassDone, Reason
from gmmdask.stats import Layout, Stats
from gmmdask.synthetic import random_mixture as synthetic_mixture
from gmmdask.testing import reference
from gmmdask.testing.ends import EM, em_starts, ended
from gmmdask.testing.passes import data_of, e_step, fit_data, frame_of_rows, identity_frame, parameters_of, run_of
from gmmdask.testing.strategies import LAW, covariance_types, generators, mixtures, random_mixture, row_arrays


def stats_of(rows: Array, mixture: Mixture) -> Stats:
    return e_step(rows, mixture, "centred", identity_frame(mixture.d), [(0, len(rows))])


def prior_of(mixture: Mixture, penalised: bool = False, reg_covar: float = 0.0, concentration: float = 1.0) -> Prior:
    conjugate = Conjugate.named("mclust", *mixture.means.shape) if penalised else None
    added = mixture.family.isotropic(reg_covar, *mixture.means.shape)
    return Prior(added, conjugate, concentration=concentration)


def value_of(rows: Array, mixture: Mixture, prior: Prior) -> float:
    """The objective by the reference."""
    nats = reference.log_density(reference.log_joint(rows, parameters_of(mixture))).sum()
    return float(nats + prior.log_density(mixture)) / len(rows)


ALPHAS = st.sampled_from([1.0, 1.5, 8.0])  # of a Dirichlet prior of weights


# --- derivatives -----------------------------------------------------------------------------------------------


@LAW
@given(
    data=st.data(),
    rng=generators,
    penalised=st.booleans(),
    reg_covar=st.sampled_from([0.0, 0.05]),
    concentration=ALPHAS,
)
def test_riemannian_slopes_are_central_differences_along_geodesics(
    data: st.DataObject, rng: np.random.Generator, penalised: bool, reg_covar: float, concentration: float
) -> None:
    """At points with any corner s, of the value that a point of the cone has: log Σ π c beside the likelihood's, for
    every row and those of a Dirichlet prior.
    """
    start = data.draw(mixtures("full", max_components=3, max_d=3))
    rows, prior, cone = data.draw(row_arrays(start.d)), prior_of(start, penalised, reg_covar, concentration), Cone()
    counted = 1 + start.n_components * (concentration - 1) / len(rows)
    size = start.n_components * (1 + (start.d + 1) * (start.d + 2) // 2)
    point = cone.moved(cone.enter(start, prior), 0.3 * rng.normal(size=size), start)

    def value(step: Array) -> float:
        moved = cone.moved(point, step, start)
        shares = Parts.of(moved, start).shares
        return value_of(rows, cone.mixture(moved, start, prior), prior) + counted * np.log(shares.sum())

    mixture = cone.mixture(point, start, prior)
    found, slopes = cone.measured(point, stats_of(rows, mixture), mixture, prior)
    assert found == pytest.approx(value(np.zeros(size)), abs=1e-11)
    differences = [(value(step) - value(-step)) / 2e-5 for step in 1e-5 * np.eye(size)]
    assert np.all(np.abs(slopes - differences) <= 1e-6 * np.maximum(1, np.abs(slopes)))


@LAW
@given(data=st.data(), rng=generators)
def test_the_cone_is_that_of_hosseini_and_sra(data: st.DataObject, rng: np.random.Generator) -> None:
    """The density of [x; 1] under Ω, the Euclidean gradient ½ (Ω⁻¹ S̃ Ω⁻¹ - N Ω⁻¹), and geodesics of Ω."""
    mixture = data.draw(mixtures("full", max_components=3, max_d=3))
    rows, prior, cone, k = data.draw(row_arrays(mixture.d)), prior_of(mixture), Cone(), mixture.n_components
    m = mixture.d + 1
    step = np.concatenate([np.zeros(k), 0.3 * rng.normal(size=k * m * (m + 1) // 2)])
    start = Parts.of(cone.enter(mixture, prior), mixture).frames
    point = cone.moved(cone.enter(mixture, prior), step, mixture)
    parts = Parts.of(point, mixture)
    omega, inverse = parts.frames @ parts.frames.transpose(0, 2, 1), np.linalg.inv(parts.frames)
    for there, frame, tangent in zip(omega, start, unpacked(step[k:], k, m), strict=True):
        np.testing.assert_allclose(there, frame @ expm(tangent) @ frame.T, rtol=1e-9, atol=1e-9)
    y = np.column_stack([rows, np.ones(len(rows))])
    square = np.einsum("ni,kij,nj->kn", y, np.linalg.inv(omega), y)
    log_normal = -0.5 * (m * np.log(2 * np.pi) + np.linalg.slogdet(omega)[1][:, None] + square)
    joint = np.log(parts.weights)[:, None] + 0.5 * np.log(2 * np.pi) + 0.5 + log_normal
    here = cone.mixture(point, mixture, prior)
    value, slopes = cone.measured(point, stats_of(rows, here), here, prior)
    assert value == pytest.approx(float(np.mean(np.logaddexp.reduce(joint))), abs=1e-10)
    resp = np.exp(joint - np.logaddexp.reduce(joint))
    moments = np.einsum("kn,ni,nj->kij", resp, y, y)
    eye = resp.sum(axis=1)[:, None, None] * np.eye(m)
    turned = 0.5 * (inverse @ moments @ inverse.transpose(0, 2, 1) - eye)
    np.testing.assert_allclose(slopes[k:] * len(rows), packed(turned), rtol=1e-8, atol=1e-7)


@LAW
@given(data=st.data(), rng=generators, penalised=st.booleans(), concentration=ALPHAS)
def test_settling_keeps_the_mixture_and_loses_nothing(
    data: st.DataObject, rng: np.random.Generator, penalised: bool, concentration: float
) -> None:
    start = data.draw(mixtures("full", max_components=3, max_d=3))
    prior, cone = prior_of(start, penalised, concentration=concentration), Cone()
    rows = data.draw(row_arrays(start.d))
    size = start.n_components * (1 + (start.d + 1) * (start.d + 2) // 2)
    point = cone.moved(cone.enter(start, prior), 0.3 * rng.normal(size=size), start)
    settled = cone.settled(point, start)
    here, there = (cone.mixture(at, start, prior) for at in (point, settled))
    np.testing.assert_allclose(Parts.of(settled, start).corners, 1, rtol=1e-12)
    np.testing.assert_allclose(plain(there), plain(here), rtol=1e-9, atol=1e-9)
    stats = stats_of(rows, here)
    values = [cone.measured(at, stats, here, prior)[0] for at in (point, settled)]
    assert values[1] >= values[0] - 1e-12
    assert values[1] == pytest.approx(objective(stats, here, prior)[0], abs=1e-12)


@LAW
@given(data=st.data(), covariance_type=covariance_types, penalised=st.booleans(), concentration=ALPHAS)
def test_plain_gradients_are_central_differences(
    data: st.DataObject, covariance_type: str, penalised: bool, concentration: float
) -> None:
    """Weights need not sum to one here, and both entries of a pair off the diagonal move together."""
    mixture = data.draw(mixtures(covariance_type, max_components=3, max_d=3))
    rows, prior = data.draw(row_arrays(mixture.d)), prior_of(mixture, penalised, concentration=concentration)
    (k, d), at, h = mixture.means.shape, plain(mixture), 1e-6

    def value(vector: Array) -> float:
        weights, means = vector[:k], vector[k : k + k * d].reshape(k, d)
        covariances = vector[k + k * d :].reshape(mixture.covariances.shape)
        if covariance_type in ("full", "tied"):
            covariances = 0.5 * (covariances + np.swapaxes(covariances, -1, -2))
        return value_of(rows, Mixture(covariance_type, weights, means, covariances), prior)

    found = plain_gradient(stats_of(rows, mixture), mixture, prior)
    differences = [(value(at + step) - value(at - step)) / (2 * h) for step in h * np.eye(at.size)]
    np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-6)


@LAW
@given(data=st.data(), covariance_type=covariance_types, reg_covar=st.floats(1e-3, 3.0))
def test_regularisation_is_taken_out_as_far_as_it_goes(
    data: st.DataObject, covariance_type: str, reg_covar: float
) -> None:
    mixture = data.draw(mixtures(covariance_type))
    prior = prior_of(mixture, reg_covar=reg_covar)
    bare = bared(mixture, prior)
    least = np.linalg.eigvalsh(bare.dense_covariances())[:, 0]
    assert least.min() >= reg_covar * (1 - 1e-9)
    roomy = np.linalg.eigvalsh(mixture.dense_covariances())[:, 0].min() >= 2 * reg_covar
    assert has_room(mixture, prior) == roomy
    if roomy:
        added = bare.covariances + prior.regularisation
        np.testing.assert_allclose(added, mixture.covariances, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_mixtures_that_no_step_may_end_in(covariance_type: str) -> None:
    mixture = random_mixture(np.random.default_rng(0), covariance_type, 2, 2)
    assert is_sound(mixture)
    for scale in (1e150, 1e-150):
        assert is_sound(replace(mixture, covariances=mixture.covariances * scale))
    bad = [replace(mixture, means=mixture.means * np.inf), replace(mixture, covariances=-mixture.covariances)]
    if covariance_type != "spherical":
        narrow = np.diag([1.0, 1e-7])
        own = mixture.family.transform(mixture.covariances, narrow if covariance_type != "diag" else np.diag(narrow))
        bad.append(replace(mixture, covariances=own))
    assert not any(map(is_sound, bad))


# --- projections -----------------------------------------------------------------------------------------------


@LAW
@given(st.integers(1, 8), generators)
def test_the_simplex_has_no_nearer_weights(k: int, rng: np.random.Generator) -> None:
    """Optimality: no direction within the simplex leads nearer."""
    vector = 2 * rng.normal(size=k)
    found = onto_simplex(vector)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    others = rng.dirichlet(np.ones(k), size=20)
    assert np.all((others - found) @ (vector - found) <= 1e-12)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_a_projection_is_a_mixture_whatever_it_is_given(covariance_type: str) -> None:
    mixture = random_mixture(np.random.default_rng(0), covariance_type, 3, 2)
    prior = prior_of(mixture, reg_covar=1e-3)
    vector = 50 * np.random.default_rng(1).normal(size=plain(mixture).size)
    if covariance_type in ("full", "tied"):
        matrices = vector[9:].reshape(-1, 2, 2)
        vector[9:] = (matrices + matrices.transpose(0, 2, 1)).ravel()
    found = projected(vector, mixture, prior)
    assert found.weights.min() > 0
    assert np.linalg.eigvalsh(found.dense_covariances()).min() >= 1e-3
    same = projected(plain(mixture), mixture, prior)
    np.testing.assert_allclose(plain(same), plain(mixture), rtol=1e-12)


# --- the line search, and L-BFGS ------------------------------------------------------------------------------


CURVES = {  # value and slope, each rising from zero
    "parabola": lambda t: (2 * t - t**2, 2 - 2 * t),
    "far": lambda t: (t / 100 - (t / 200) ** 2, 1 / 100 - t / 20_000),
    "near": lambda t: (t - 500 * t**2, 1 - 1000 * t),
    "wave": lambda t: (np.sin(3 * t) - 0.1 * t, 3 * np.cos(3 * t) - 0.1),
    "cliff": lambda t: (0.9 * t + 0.1 * np.log1p(-t / 0.3), 0.9 - 0.1 / (0.3 - t)) if t < 0.3 else (-inf, 0.0),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("length", [1e-4, 0.3, 1.0, 40.0])
def test_a_search_ends_where_the_strong_wolfe_conditions_hold(curve: str, length: float) -> None:
    value, slope = CURVES[curve](0.0)
    search = Search.of(value, slope, length)
    for _ in range(16):
        found, steep = CURVES[curve](search.length)
        if search.accepts(found, steep):
            break
        search = search.narrowed(found, steep)
        assert not search.exhausted
    assert found >= value + RISE * search.length * slope - 1e-12
    assert abs(steep) <= FLAT * slope


def test_a_search_for_what_is_not_there_gives_up() -> None:
    search, asked = Search.of(1.0, 1.0, 1.0), 0
    while not search.exhausted:
        assert not search.accepts(0.5, 1.0)
        search, asked = search.narrowed(0.5, 1.0), asked + 1
    assert asked <= 40
    search = Search.of(1.0, 1.0, 1.0)
    while not search.exhausted:
        assert search.shortened().length < search.length
        search = search.shortened()


@LAW
@given(st.integers(1, 6), st.integers(1, 9), generators)
def test_the_two_loops_are_the_bfgs_matrix(size: int, n_pairs: int, rng: np.random.Generator) -> None:
    """H ← (I - ρ s yᵀ) H (I - ρ y sᵀ) + ρ s sᵀ, from a multiple of the scales (Nocedal and Wright 2006, 6.17)."""
    bend = rng.normal(size=(size, size))
    bend = bend @ bend.T + np.eye(size)
    pairs = tuple((step, bend @ step) for step in rng.normal(size=(n_pairs, size)))
    scales, gradient = 0.5 + rng.random(size), rng.normal(size=size)
    step, lost = pairs[-1]
    matrix = np.diag(scales) * (step @ lost) / (lost @ (scales * lost))
    for step, lost in pairs:
        rho = 1 / (step @ lost)
        left = np.eye(size) - rho * np.outer(step, lost)
        matrix = left @ matrix @ left.T + rho * np.outer(step, step)
    np.testing.assert_allclose(two_loops(pairs, gradient, scales), matrix @ gradient, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(two_loops((), gradient, scales), scales * gradient)


# --- steps -----------------------------------------------------------------------------------------------------


def test_adam_is_kingma_and_bas_and_sgd_has_momentum() -> None:
    """In the reference's arithmetic, in one dimension: slopes of logit, mean and log σ² of one component."""
    rows = np.random.default_rng(0).normal(1.0, 1.5, size=(60, 1))
    start = Mixture("diag", np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    for optimizer in ("adam", "sgd"):
        algorithm = Gradient(optimizer, tol=0, max_iter=9, learning_rate=0.05, schedule="sqrt", decay=4)
        state, prior = algorithm.start(start, Beginning()), prior_of(start)
        mean, log_variance, first, second = 0.0, 0.0, np.zeros(2), np.zeros(2)
        for t in range(1, 8):
            assert isinstance(state, StepsState)
            state, _ = algorithm.tell(state, (stats_of(rows, state.current),), prior)
            z = rows[:, 0] - mean
            slope = np.array([z.mean() / np.exp(log_variance), 0.5 * ((z**2).mean() / np.exp(log_variance) - 1)])
            rate = 0.05 / np.sqrt(1 + (t - 1) / 4)
            if optimizer == "adam":
                first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
                step = rate * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            else:
                first = 0.9 * first + slope
                step = rate * first
            mean, log_variance = mean + step[0], log_variance + step[1]
            np.testing.assert_allclose(state.mixture.means, mean, rtol=1e-10)
            np.testing.assert_allclose(state.mixture.covariances, np.exp(log_variance), rtol=1e-10)


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "projected"])
def test_covariances_stay_positive_definite_however_long_the_steps(covariance_type: str, optimizer: str) -> None:
    start = random_mixture(np.random.default_rng(0), covariance_type, 3, 2)
    rows = start.sample(40, np.random.default_rng(1))[0]
    seen: list[Event] = []
    algorithm = Gradient(optimizer, tol=0, max_iter=25, learning_rate=30.0)
    (last,) = fit_data(data_of(rows), run_of("run", algorithm, start, frame_of_rows(start, rows)), emit=seen.append)
    assert np.isfinite(last.frame.mixture_out(last.state.mixture).root).all()
    bounds = [event.lower_bound for event in seen if isinstance(event, PassDone)]
    assert len(bounds) == 25
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "newton"}, "optimizer='newton': expected one of sgd, adam, lbfgs, projected"),
        ({"schedule": "step"}, "schedule='step': expected one of constant, sqrt, inverse"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0: expected a positive number"),
        ({"learning_rate": 0.1}, r"learning_rate=0\.1: optimizer='lbfgs' has none"),
        ({"momentum": 1.0}, r"momentum=1\.0: expected a number from 0"),
        ({"memory": 0}, "memory=0: expected 1 or more"),
        ({"mini_batches": 10}, "mini_batches=10: optimizer='lbfgs' compares values of all rows"),
    ],
)
def test_settings_that_are_none(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gradient(**settings)  # type: ignore[arg-type]


def test_the_cone_is_for_full_covariances() -> None:
    with pytest.raises(ValueError, match="covariance_type='diag': Riemannian fits full only"):
        GaussianMixture(2, covariance_type="diag", algorithm="riemannian").fit(load_iris().data)


# --- where fits end --------------------------------------------------------------------------------------------


SYNTHETIC = synthetic_mixture(3, 2, "full", 1, 2.0).sample(600, np.random.default_rng(0))[0]
DATA = {"iris": (load_iris().data, 3, True), "wine": (load_wine().data, 3, True), "synthetic": (SYNTHETIC, 3, False)}


@cache
def ems_ends(name: str) -> list[tuple[Mixture, float]]:
    """Where EM is after 10 iterations, and its last bound from there on."""
    rows, k, penalised = DATA[name]
    starts = em_starts(rows, k, "full", penalised, 10)
    return [(start, ended(rows, start, EM, penalised).bounds[-1]) for start in starts]


@pytest.mark.parametrize("name", ["iris", "synthetic", pytest.param("wine", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "algorithm", [Gradient(tol=0, max_iter=400), Riemannian(tol=0, max_iter=400)], ids=["lbfgs", "cone"]
)
def test_from_ems_tenth_iteration_they_end_where_em_does(name: str, algorithm: Algorithm) -> None:
    """Or at another optimum, in at least 8 of 10 starts, by covariances that are positive definite at every step."""
    rows, _, penalised = DATA[name]
    found = [(ended(rows, start, algorithm, penalised), em) for start, em in ems_ends(name)]
    assert sum(end.as_good_as(em) for end, em in found) >= 8
    assert min(end.smallest for end, _ in found) > 0


@pytest.mark.parametrize("covariance_type", ["tied", "diag", "spherical"])
def test_lbfgs_ends_where_em_does_in_every_family(covariance_type: str) -> None:
    for start in em_starts(SYNTHETIC, 3, covariance_type, False, 2):
        em, found = (ended(SYNTHETIC, start, each, False) for each in (EM, Gradient(tol=0, max_iter=300)))
        outcome = found.run.state.outcome
        assert outcome is not None
        assert outcome.reason is Reason.CONVERGED
        assert "gradient_tol=1e-06" in outcome.sentence
        assert found.bounds[-1] == pytest.approx(em.bounds[-1], abs=1e-6)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("tied", "diag", "spherical")]


@pytest.mark.parametrize("covariance_type", ["full", *SLOW])
def test_adam_comes_within_a_thousandth_of_em(covariance_type: str) -> None:
    rows = SYNTHETIC[:300]
    (start,) = em_starts(rows, 3, covariance_type, True, 1)
    em = ended(rows, start, EM, True)
    algorithm = Gradient("adam", tol=0, max_iter=2000, learning_rate=1e-2, gradient_tol=0)
    found = ended(rows, start, algorithm, True)
    assert len(found.bounds) == 2000
    assert found.bounds[-1] >= em.bounds[-1] - 1e-3
    assert found.smallest > 0


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("sgd", 0.03)])
def test_mini_batches_come_near_em(optimizer: str, rate: float) -> None:
    rows = synthetic_mixture(3, 2, "full", 0, 4.0).sample(20_000, np.random.default_rng(0))[0]
    settings = {"random_state": 0, "sample_rows": 500}
    best = GaussianMixture(3, tol=1e-6, **settings).fit(rows)
    algorithm = Gradient(optimizer, 0, 6, rate, schedule="inverse", decay=20, mini_batches=20)
    found = GaussianMixture(3, algorithm=algorithm, **settings).fit(rows)
    assert found.score(rows) > best.score(rows) - 5e-4
    assert "laps" in found.outcome_.sentence


def test_lbfgs_stops_by_the_gain_and_says_so() -> None:
    found = GaussianMixture(3, algorithm="gradient", tol=1e-4, random_state=0).fit(SYNTHETIC)
    best = GaussianMixture(3, tol=1e-8, max_iter=1000, random_state=0).fit(SYNTHETIC)
    assert found.converged_
    assert (
        "the last steps gained less than tol=0.0001 nats per row; the gradient's length is" in found.outcome_.sentence
    )
    assert found.score(SYNTHETIC) > best.score(SYNTHETIC) - 1e-3
    assert found.lower_bound_ == pytest.approx(found.score(SYNTHETIC), abs=1e-9)  # that of the model, not of one before


@pytest.mark.parametrize("algorithm", ["gradient", "riemannian"])
def test_a_warm_start_goes_on(algorithm: str) -> None:
    settings = {"algorithm": algorithm, "warm_start": True, "random_state": 0, "tol": 0, "max_iter": 5}
    model = GaussianMixture(3, **settings).fit(SYNTHETIC)
    first = model.lower_bound_
    assert model.fit(SYNTHETIC).lower_bound_ >= first - 1e-9


@pytest.mark.parametrize(
    "algorithm", [Gradient(tol=0, max_iter=20), Gradient("adam", tol=0, max_iter=20), Riemannian(tol=0, max_iter=20)]
)
@pytest.mark.parametrize("empty", ["reseed", "drop"])
def test_components_without_rows_are_repaired(algorithm: Algorithm, empty: str) -> None:
    means = np.array([[0.0, 0.0], [4.0, 0.0], [500.0, 500.0]])
    rows = Mixture("full", np.array([0.5, 0.5]), means[:2], np.array([np.eye(2)] * 2)).sample(
        300, np.random.default_rng(0)
    )[0]
    settings = {"means_init": means, "weights_init": [0.3, 0.3, 0.4], "precisions_init": [np.eye(2)] * 3}
    found = GaussianMixture(3, algorithm=algorithm, empty=empty, **settings).fit(rows)
    assert ("reseeded" if empty == "reseed" else "dropped") in found.outcome_.sentence
    assert len(found.weights_) == (3 if empty == "reseed" else 2)
    assert np.isfinite(found.score(rows))


# --- states ----------------------------------------------------------------------------------------------------

EVERY = {
    "lbfgs": Gradient(tol=0, max_iter=9, memory=3),
    "adam": Gradient("adam", tol=0, max_iter=9),
    "sgd": Gradient("sgd", tol=0, max_iter=9),
    "projected": Gradient("projected", tol=0, max_iter=9),
    "cone": Riemannian(tol=0, max_iter=9, memory=3),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_fit_that_has_ended_goes_on_with_more_laps(name: str, tmp_path: Path) -> None:
    whole = GaussianMixture(3, algorithm=EVERY[name], random_state=0).fit(SYNTHETIC)
    settings = {"random_state": 0, "checkpoint": tmp_path / "c"}
    first = GaussianMixture(3, algorithm=replace(EVERY[name], max_iter=4), **settings).fit(SYNTHETIC)
    assert first.n_iter_ == 4
    assert "stopped after max_iter=4" in first.outcome_.sentence
    again = GaussianMixture(3, algorithm=EVERY[name], **settings).fit(SYNTHETIC, resume=True)
    assert again.n_iter_ == 9
    assert again.means_.tobytes() == whole.means_.tobytes()
    assert again.lower_bounds_ == whole.lower_bounds_


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_states_take_no_more_than_is_computed(name: str, covariance_type: str) -> None:
    algorithm = EVERY[name]
    if algorithm.families and covariance_type not in algorithm.families:
        pytest.skip("not fitted by it")
    start = random_mixture(np.random.default_rng(0), covariance_type, 9, 5)
    rows = start.sample(400, np.random.default_rng(1))[0]
    (last,) = fit_data(data_of(rows), run_of("run", algorithm, start, frame_of_rows(start, rows)))
    arrays: container.Arrays = {}
    container.pack(last.state, arrays)
    taken = sum(array.nbytes for array in arrays.values())
    assert taken <= algorithm.kept_bytes(8 * Layout(covariance_type, 9, 5, "").size, 1) <= 16 * taken
