"""The covariance families: the contract applied to each, and scikit-learn's conventions."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as PeerMixture
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky

from gmmdask.covariance import FAMILIES, IllDefinedCovariance
from gmmdask.testing import reference
from gmmdask.testing.contracts import FamilyTests
from gmmdask.testing.passes import parameters_of
from gmmdask.testing.strategies import random_mixture


class TestFull(FamilyTests):
    covariance_type = "full"


class TestTied(FamilyTests):
    covariance_type = "tied"


class TestDiag(FamilyTests):
    covariance_type = "diag"


class TestSpherical(FamilyTests):
    covariance_type = "spherical"


def test_every_family_keeps_the_contract() -> None:
    assert {cls.covariance_type for cls in FamilyTests.__subclasses__()} == set(FAMILIES)
    assert all(family.name == name for name, family in FAMILIES.items())


@pytest.mark.parametrize("covariance_type", FAMILIES)
@pytest.mark.parametrize(("n_components", "d"), [(1, 1), (3, 1), (1, 4), (3, 4)])
def test_shapes_and_numbers_of_parameters_are_scikit_learns(covariance_type: str, n_components: int, d: int) -> None:
    mixture = random_mixture(np.random.default_rng(3), covariance_type, n_components, d)
    peer = PeerMixture(n_components, covariance_type=covariance_type)
    peer.means_, peer.covariances_ = mixture.means, mixture.covariances
    assert mixture.n_parameters == peer._n_parameters()
    wanted = _compute_precision_cholesky(mixture.covariances, covariance_type)
    found = mixture.family.precisions_cholesky(mixture.root)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    peer.precisions_cholesky_, peer.weights_ = wanted, mixture.weights
    rows = mixture.sample(20, np.random.default_rng(0))[0]
    wanted = peer._estimate_weighted_log_prob(rows).T
    np.testing.assert_allclose(reference.log_joint(rows, parameters_of(mixture)), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("covariance_type", "covariances", "component"),
    [
        ("full", np.array([np.eye(2), np.diag([1.0, 0.0])]), 1),
        ("full", np.array([[[1.0, 2.0], [2.0, 1.0]], np.eye(2)]), 0),
        ("tied", np.diag([1.0, -1.0]), None),
        ("diag", np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]), 2),
        ("diag", np.array([[1.0, np.nan]]), 0),
        ("spherical", np.array([1.0, -1e-9]), 1),
        ("spherical", np.array([np.inf, 1.0]), 0),
    ],
)
def test_a_covariance_that_is_not_positive_definite_is_named(
    covariance_type: str, covariances: np.ndarray, component: int | None
) -> None:
    with pytest.raises(IllDefinedCovariance, match="ill-defined empirical covariance") as caught:
        FAMILIES[covariance_type].root(covariances, 2)
    assert caught.value.component == component
    assert ("shared" if component is None else f"component {component}") in str(caught.value)


@pytest.mark.parametrize("component", [None, 2])
def test_the_error_survives_the_way_back_from_a_worker(component: int | None) -> None:
    error = IllDefinedCovariance(component)
    kind, arguments, *_ = error.__reduce__()
    back = kind(*arguments)
    assert (back.component, str(back)) == (error.component, str(error))
