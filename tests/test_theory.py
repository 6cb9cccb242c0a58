"""The laws that docs/theory.md states, against finite differences or against the fits themselves."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gmmdask import GaussianMixture
from gmmdask.algorithms import Batch
from gmmdask.covariance import FAMILIES
from gmmdask.covariance._base import Array, IllDefinedCovariance
from gmmdask.frame import Conjugate, Prior
from gmmdask.gradients import slopes
from gmmdask.matching import match
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.stats import Stats
from gmmdask.testing import reference
from gmmdask.testing.passes import (
    data_of,
    e_step,
    fit_data,
    frame_of_rows,
    identity_frame,
    mixture_of,
    parameters_of,
    run_of,
)
from gmmdask.testing.strategies import LAW, covariance_types, generators, mixtures, random_mixture, row_arrays


def statistics(rows: Array, mixture: Mixture) -> Stats:
    return e_step(rows, mixture, "centred", identity_frame(mixture.d), [(0, len(rows))])


def flat(mixture: Mixture) -> Prior:
    """No prior, in the frame of the data's own units."""
    return Prior(np.zeros_like(mixture.covariances))


# --- the bound that EM climbs ----------------------------------------------------------------------------------


@LAW
@given(data=st.data())
def test_the_bound_touches_the_likelihood_where_it_was_made_and_is_below_it_elsewhere(data: st.DataObject) -> None:
    """Σ r log π N - Σ r log r: at the mixture that the responsibilities are of it is LL, at any other at most LL."""
    mixture = data.draw(mixtures(data.draw(covariance_types)))
    rows, (k, d) = data.draw(row_arrays(mixture.d)), mixture.means.shape
    stats = statistics(rows, mixture)
    assert mixture.expected_log_joint(stats) + stats.entropy == pytest.approx(stats.log_likelihood, rel=1e-9)
    other = random_mixture(data.draw(generators), mixture.covariance_type, k, d)
    there = statistics(rows, other).log_likelihood
    assert other.expected_log_joint(stats) + stats.entropy <= there + 1e-9 * abs(there)


@LAW
@given(data=st.data())
def test_an_m_step_is_where_the_bound_is_highest(data: st.DataObject) -> None:
    mixture = data.draw(mixtures(data.draw(covariance_types), max_components=3, max_d=3))
    rows = mixture.sample(60, data.draw(generators))[0]
    stats = statistics(rows, mixture)
    best = m_step(stats, flat(mixture))
    top, at = best.expected_log_joint(stats), best.coordinates()
    for direction in data.draw(generators).normal(size=(5, at.size)):
        for step in (1e-3, 0.1):
            assert best.at(at + step * direction).expected_log_joint(stats) <= top + 1e-9 * abs(top)


# --- seven points ----------------------------------------------------------------------------------------------

POINTS = np.array([-2.2, -1.3, -0.5, 0.2, 0.9, 1.6, 2.9])[:, None]


def on_one_point(width: float) -> Mixture:
    variances = np.array([[POINTS.var()], [width**2]])
    return Mixture("diag", np.array([6, 1]) / 7, np.array([[POINTS.mean()], POINTS[5]]), variances)


def test_a_component_on_one_point_makes_the_likelihood_grow_without_bound() -> None:
    """By log 10 nats with every tenth of its width, for a hundred of them."""
    scores = [statistics(POINTS, on_one_point(10.0**-e)).log_likelihood for e in range(4, 104)]
    np.testing.assert_allclose(np.diff(scores), math.log(10), rtol=1e-3)


def test_em_without_remedy_collapses_on_the_point() -> None:
    mixture, scores, widths = on_one_point(0.2), [], [0.2]
    while widths[-1] > 0:
        stats = statistics(POINTS, mixture)
        scores.append(stats.log_likelihood)
        mixture = m_step(stats, flat(mixture))
        widths.append(float(np.sqrt(mixture.covariances.min())))
    assert len(scores) < 10
    with pytest.raises(IllDefinedCovariance):
        statistics(POINTS, mixture)
    assert all(b < a for a, b in pairwise(widths))
    assert all(b > a for a, b in pairwise(scores))


@LAW
@given(width=st.floats(1e-3, 1.0), reg_covar=st.sampled_from([1e-6, 1e-2]))
def test_reg_covar_keeps_it_from_collapsing(width: float, reg_covar: float) -> None:
    mixture, most = on_one_point(width), 7 * (3 - 0.5 * math.log(2 * math.pi * reg_covar))
    for _ in range(20):
        stats = statistics(POINTS, mixture)
        assert stats.log_likelihood < most
        mixture = m_step(stats, Prior(np.full((2, 1), reg_covar)))
        assert mixture.covariances.min() >= reg_covar


@LAW
@given(width=st.floats(1e-3, 1.0), laps=st.integers(1, 20))
def test_a_prior_keeps_it_from_collapsing(width: float, laps: int) -> None:
    """σ² = (λ + NS + B)/(ν + N + 3) is at least λ/(ν + W + 3), times the variance of the data."""
    mixture, frame = on_one_point(width), frame_of_rows(on_one_point(1.0), POINTS)
    conjugate = Conjugate.named("mclust", 2, 1)
    assert conjugate is not None
    inside = frame.mixture_in(mixture)
    for _ in range(laps):
        stats = e_step(POINTS, inside, "centred", frame, [(0, 7)])
        inside = m_step(stats, Prior(np.zeros((2, 1)), conjugate))
    least = POINTS.var() * conjugate.scale / (conjugate.degrees + 7 + 3)
    assert frame.mixture_out(inside).covariances.min() >= least * (1 - 1e-9)


@pytest.mark.parametrize("options", [{"reg_covar": 0.0}, {"reg_covar": 1e-6}, {"reg_covar": 0.0, "prior": "mclust"}])
def test_fits_from_several_starts_stay_finite(options: dict[str, object]) -> None:
    """Also without reg_covar and prior: a component that is left with one point begins anew."""
    start = {"covariance_type": "diag", "n_init": 4, "random_state": 0}
    found = GaussianMixture(2, **start, **options).fit(POINTS)
    assert np.isfinite(found.lower_bound_)
    assert np.isfinite(found.score_samples(POINTS)).all()
    assert found.covariances_.min() > 0


# --- the order of components -----------------------------------------------------------------------------------


@LAW
@given(data=st.data(), n_components=st.integers(2, 4))
def test_all_orders_of_components_are_as_likely(data: st.DataObject, n_components: int) -> None:
    kind = data.draw(covariance_types)
    mixture = random_mixture(data.draw(generators), kind, n_components, 2)
    rows = data.draw(row_arrays(2))
    scores = [
        statistics(rows, mixture.reordered(list(order))).log_likelihood for order in permutations(range(n_components))
    ]
    assert len(scores) == math.factorial(n_components)
    np.testing.assert_allclose(scores, scores[0], rtol=1e-12)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_fits_from_all_orders_of_a_start_are_one_fit_and_match_undoes_the_order(covariance_type: str) -> None:
    truth = random_mixture(np.random.default_rng(0), covariance_type, 3, 2, separation=4.0)
    rows = truth.sample(300, np.random.default_rng(1))[0]
    orders = [list(order) for order in permutations(range(3))]
    frame = frame_of_rows(truth, rows)
    runs = [run_of(str(o), Batch(tol=0, max_iter=15), truth.reordered(o), frame) for o in orders]
    fits = [mixture_of(run) for run in fit_data(data_of(rows), *runs)]
    for order, fit in zip(orders, fits, strict=True):
        np.testing.assert_allclose(fit.means, fits[0].means[order], rtol=1e-9, atol=1e-9)
        matched = fit.reordered(match(fits[0], fit))
        np.testing.assert_allclose(matched.means, fits[0].means, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(matched.weights, fits[0].weights, rtol=1e-9)
        np.testing.assert_allclose(matched.covariances, fits[0].covariances, rtol=1e-8, atol=1e-9)


# --- k-means ---------------------------------------------------------------------------------------------------


@LAW
@given(
    rng=generators,
    n=st.integers(20, 200),
    d=st.integers(1, 4),
    k=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_an_em_step_of_vanishing_variance_is_a_step_of_lloyd(
    rng: np.random.Generator, n: int, d: int, k: int, scale: float
) -> None:
    """Weights 1/K and Σ = σ² I given, σ² = 1e-12 of the scale: equal to 1e-12 of the scale."""
    rows = scale * rng.normal(size=(n, d))
    means = rows[rng.choice(n, k, replace=False)] + 0.01 * scale * rng.normal(size=(k, d))
    distances = ((rows[:, None] - means) ** 2).sum(axis=2)
    nearest, variance = np.argmin(distances, axis=1), 1e-12 * scale**2
    assume(len(np.unique(nearest)) == k)
    if k > 1:
        first, second = np.sort(distances, axis=1)[:, :2].T
        assume(np.min(second - first) > 200 * variance)  # no row lies on a border
    lloyd = np.array([rows[nearest == i].mean(axis=0) for i in range(k)])
    mixture = Mixture("spherical", np.full(k, 1 / k), means, np.full(k, variance))
    stats = statistics(rows, mixture)
    np.testing.assert_array_equal(np.round(stats.mass), np.bincount(nearest, minlength=k))
    em = stats.origin + stats.first / stats.mass[:, None]
    np.testing.assert_allclose(em, lloyd, rtol=0, atol=1e-12 * scale)


# --- the textbook's derivatives --------------------------------------------------------------------------------


def log_likelihood(rows: Array, weights: Array, means: Array, covariances: Array) -> float:
    """By the dense reference; weights need not sum to one."""
    return float(
        reference.log_density(reference.log_joint(rows, reference.Parameters(weights, means, covariances))).sum()
    )


def central_difference(function: object, at: Array, step: float = 1e-5) -> Array:
    """Derivatives of a function of an array, in its shape."""
    found = np.empty_like(at)
    for index in np.ndindex(at.shape):
        shifted = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            shifted.append(function(moved))  # type: ignore[operator]
        found[index] = (shifted[0] - shifted[1]) / (2 * step)
    return found


def close(found: Array, expected: Array) -> bool:
    return bool(np.all(np.abs(found - expected) <= 1e-6 * np.maximum(1, np.abs(expected).max())))


@LAW
@given(data=st.data())
def test_the_textbook_derivatives_in_one_dimension(data: st.DataObject) -> None:
    """∂/∂μ = Σ γ (x - μ)/σ², ∂/∂σ² = ½ Σ γ ((x - μ)²/σ⁴ - 1/σ²), ∂/∂π = Σ γ/π, with γ from the dense reference."""
    mixture = data.draw(mixtures("diag", max_components=4, max_d=1))
    rows = data.draw(row_arrays(1))
    weights, means, covariances, _ = parameters_of(mixture)
    joint = reference.log_joint(rows, parameters_of(mixture))
    resp, x = np.exp(joint - reference.log_density(joint)), rows[:, 0]
    mu, variance = means[:, :1], covariances[:, :, 0]
    by_hand = {
        "weights": (resp / weights[:, None]).sum(axis=1),
        "means": (resp * (x - mu) / variance).sum(axis=1)[:, None],
        "variances": 0.5 * (resp * ((x - mu) ** 2 / variance**2 - 1 / variance)).sum(axis=1)[:, None, None],
    }
    found = slopes(statistics(rows, mixture), mixture, flat(mixture))
    assert close(found.mass / weights, by_hand["weights"])
    assert close(found.means, by_hand["means"])
    assert close(found.covariances[:, :, None], by_hand["variances"])
    assert close(by_hand["weights"], central_difference(lambda w: log_likelihood(rows, w, means, covariances), weights))
    assert close(by_hand["means"], central_difference(lambda m: log_likelihood(rows, weights, m, covariances), means))
    assert close(
        by_hand["variances"], central_difference(lambda c: log_likelihood(rows, weights, means, c), covariances)
    )


@LAW
@given(data=st.data())
def test_an_m_step_is_a_scaled_gradient_step(data: st.DataObject) -> None:
    """(Xu and Jordan 1996): by (diag π - ππᵀ)/W, by Σ/N, and by 2/N Σ · Σ, less what the mean has moved."""
    mixture = data.draw(mixtures("full", max_components=4, max_d=4))
    rows = mixture.sample(80, data.draw(generators))[0]
    stats = statistics(rows, mixture)
    found, new = slopes(stats, mixture, flat(mixture)), m_step(stats, flat(mixture))
    weights, covariances, mass = mixture.weights, mixture.covariances, stats.mass
    step = (np.diag(weights) - np.outer(weights, weights)) @ (found.mass / weights) / stats.weight
    np.testing.assert_allclose(new.weights - weights, step, atol=1e-10)
    moved = np.einsum("kij,kj->ki", covariances, found.means) / mass[:, None]
    np.testing.assert_allclose(new.means - mixture.means, moved, rtol=1e-7, atol=1e-9)
    turned = 2 / mass[:, None, None] * (covariances @ found.covariances @ covariances)
    turned -= moved[:, :, None] * moved[:, None, :]
    np.testing.assert_allclose(new.covariances - covariances, turned, rtol=1e-7, atol=1e-8)
