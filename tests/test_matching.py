"""Which component is which: laws of the matching."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmdask import GaussianMixture, bhattacharyya, match, symmetric_kl
from gmmdask.covariance import FAMILIES
from gmmdask.mixture import Mixture
from gmmdask.synthetic import random_mixture
from gmmdask.testing.strategies import LAW


@LAW
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(1, 8),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.sampled_from(["symmetric_kl", "bhattacharyya"]),
    st.data(),
)
def test_the_order_of_a_permuted_mixture_is_found(covariance_type, n_components, d, seed, distance, data):
    mixture = random_mixture(n_components, d, covariance_type, seed)
    permuted = mixture.reordered(np.array(data.draw(st.permutations(range(n_components)))))
    found = permuted.reordered(match(mixture, permuted, distance))
    np.testing.assert_array_equal(found.means, mixture.means)
    np.testing.assert_array_equal(found.weights, mixture.weights)
    np.testing.assert_array_equal(found.covariances, mixture.covariances)


def test_shapes_decide_where_means_agree():
    variances = np.array([[1.0, 9.0], [9.0, 1.0], [1.0, 1.0]])
    mixture = Mixture("diag", np.full(3, 1 / 3), np.zeros((3, 2)), variances)
    np.testing.assert_array_equal(match(mixture, mixture.reordered([2, 0, 1])), [1, 2, 0])


def test_families_and_weights_may_differ():
    mixture = random_mixture(4, 3, "diag", seed=1)
    dense = Mixture("full", mixture.weights[::-1], mixture.means[::-1], mixture.dense_covariances()[::-1])
    np.testing.assert_array_equal(match(mixture, dense), [3, 2, 1, 0])


def test_symmetric_kl_is_the_mean_log_ratio_of_densities():
    """KL(p|q) + KL(q|p) in one dimension, by quadrature on a fine grid."""
    a = Mixture("diag", np.ones(1), np.array([[0.3]]), np.array([[0.8]]))
    b = Mixture("diag", np.ones(1), np.array([[-0.5]]), np.array([[1.7]]))
    x = np.linspace(-14, 14, 20001)
    log_p, log_q = (m.log_scale[0] - 0.5 * (x - m.means[0, 0]) ** 2 / m.covariances[0, 0] for m in (a, b))
    expected = np.sum((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)) * (x[1] - x[0])
    assert symmetric_kl(a, b)[0, 0] == pytest.approx(expected, rel=1e-9)
    overlap = np.sum(np.exp(0.5 * (log_p + log_q))) * (x[1] - x[0])
    assert bhattacharyya(a, b)[0, 0] == pytest.approx(-np.log(overlap), rel=1e-9)


@pytest.mark.parametrize("distance", [symmetric_kl, bhattacharyya])
@LAW
@given(st.integers(0, 1000))
def test_distances_are_symmetric_and_invariant_under_linear_maps(distance, seed):
    a, b = random_mixture(3, 2, "full", seed), random_mixture(4, 2, "full", seed + 1)
    linear, shift = np.array([[2.0, 1.0], [0.0, 300.0]]), np.array([5.0, -7.0])
    mapped = [Mixture("full", m.weights, m.means @ linear.T + shift, linear @ m.covariances @ linear.T) for m in (a, b)]
    found = distance(a, b)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(distance(b, a).T, found, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(distance(*mapped), found, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.diag(distance(a, a)), 0, atol=1e-10)


def test_mixtures_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="3 components in 2 dimensions and 4 in 2"):
        match(random_mixture(3), random_mixture(4))
    with pytest.raises(ValueError, match="3 in 1"):
        match(random_mixture(3), random_mixture(3, 1))
    with pytest.raises(ValueError, match="distance='euclid': expected one of symmetric_kl, bhattacharyya"):
        match(random_mixture(3), random_mixture(3), "euclid")
    with pytest.raises(ValueError, match="expected a fitted GaussianMixture, found GaussianMixture"):
        match(GaussianMixture(), random_mixture(3))


def test_fitted_models_are_matched_and_sorted():
    rows = random_mixture(4, 2, seed=2).sample(2000, np.random.default_rng(0))[0]
    model = GaussianMixture(4, random_state=0).fit(rows)
    found = model.sorted()
    assert np.all(np.diff(found.weights_) <= 0)
    order = match(found, model)
    np.testing.assert_array_equal(model.means_[order], found.means_)
    np.testing.assert_array_equal(model.precisions_[order], found.precisions_)
    assert found.score(rows) == pytest.approx(model.score(rows), abs=1e-12)
    assert found.get_params() == model.get_params()
    assert found.outcome_ == model.outcome_
    np.testing.assert_array_equal(order[found.predict(rows)], model.predict(rows))
