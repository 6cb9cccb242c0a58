"""What a family's derivatives have to keep: of the likelihood, of priors, in every coordinate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmdask.covariance._base import Array
from gmmdask.estep import available
from gmmdask.frame import Conjugate, Prior
from gmmdask.gradients import gradient, mixture_at
from gmmdask.mstep import m_step
from gmmdask.testing import reference
from gmmdask.testing.contracts.sums import OfFamily
from gmmdask.testing.passes import (
    e_step,
    identity_frame,
    packed,
    parameters_of,
)
from gmmdask.testing.strategies import (
    LAW,
    generators,
    mixtures,
    row_arrays,
    row_weights,
)

kernels = st.sampled_from(available())


class SlopeTests(OfFamily):
    """Of gradients."""

    @settings(LAW, max_examples=8)
    @given(data=st.data(), rng=generators, concentration=st.sampled_from([1.0, 1.5, 20.0]), penalised=st.booleans())
    def test_the_map_step_is_the_maximum_of_the_expected_log_posterior(
        self, data: st.DataObject, rng: np.random.Generator, concentration: float, penalised: bool
    ) -> None:
        """By numerical gradient, in unconstrained coordinates: of few rows too, and about any origin.

        Covariances have a maximum without a prior where there are rows for them: weights alone are penalised then.
        """
        mixture = data.draw(mixtures(self.covariance_type, max_components=3, max_d=3))
        rows = data.draw(row_arrays(mixture.d, max_rows=30)) if penalised else mixture.sample(200, rng)[0]
        stats = e_step(rows, mixture, "centred", identity_frame(mixture.d), [(0, len(rows))])
        conjugate = Conjugate(0.5 * rng.random() + 0.01, mixture.d + 3 * rng.random(), 0.1 + rng.random())
        known = conjugate if penalised else None
        prior = Prior(np.zeros_like(mixture.covariances), known, concentration=concentration)
        found = m_step(stats, prior)

        def objective(coordinates: Array) -> float:
            other = found.at(coordinates)
            return other.expected_log_joint(stats) + prior.log_density(other)

        at, h = found.coordinates(), 1e-4
        gradient = [(objective(at + step) - objective(at - step)) / (2 * h) for step in h * np.eye(at.size)]
        np.testing.assert_allclose(gradient, 0, atol=1e-5 * (len(rows) + 10))

    @LAW
    @given(data=st.data(), rng=generators)
    def test_the_log_prior_is_that_of_dense_matrices(self, data: st.DataObject, rng: np.random.Generator) -> None:
        """Its terms but for the power of the determinant, which the maximum above fixes."""
        mixture = data.draw(mixtures(self.covariance_type))
        k, d = mixture.n_components, mixture.d
        conjugate = Conjugate(0.3, d + 2.0, 0.7)
        power = conjugate.rows(self.family, k, d)
        own = range(1 if self.family.shared else k)
        dense = mixture.dense_covariances()
        inverse, log_det = np.linalg.inv(dense), np.linalg.slogdet(dense)[1]
        scale = conjugate.scale * (1 if self.family.packed_size(d) > 1 else 1 / d)
        pull = np.einsum("ki,kij,kj->", mixture.means, inverse, mixture.means)
        wanted = -0.5 * (power * log_det.sum() + scale * sum(np.trace(inverse[i]) for i in own) + 0.3 * pull)
        assert conjugate.log_density(mixture) == pytest.approx(wanted, rel=1e-9, abs=1e-9)

    # --- gradients ---------------------------------------------------------------------------------------------

    @settings(LAW, max_examples=12)
    @given(
        data=st.data(),
        rng=generators,
        weighted=st.booleans(),
        penalised=st.booleans(),
        reg_covar=st.floats(0, 0.1),
        concentration=st.sampled_from([1.0, 1.5, 20.0]),
    )
    def test_gradients_are_central_differences(
        self,
        data: st.DataObject,
        rng: np.random.Generator,
        weighted: bool,
        penalised: bool,
        reg_covar: float,
        concentration: float,
    ) -> None:
        """Of the reference's likelihood, in every coordinate: of logits, means and the family's own."""
        mixture = data.draw(mixtures(self.covariance_type, max_components=3, max_d=3))
        rows, (k, d) = data.draw(row_arrays(mixture.d, max_rows=40)), mixture.means.shape
        weights = data.draw(row_weights(len(rows))) if weighted else np.ones(len(rows))
        conjugate = Conjugate(0.01 + rng.random(), d + 3 * rng.random(), 0.1 + rng.random()) if penalised else None
        added = self.family.isotropic(reg_covar, k, d)
        prior = Prior(added, conjugate, weight=float(weights.sum()), concentration=concentration)
        at, h = mixture.coordinates(), 1e-5

        def wanted(coordinates: Array) -> float:
            other = mixture_at(coordinates, mixture, prior)
            nats = weights @ reference.log_density(reference.log_joint(rows, parameters_of(other)))
            return float(nats + prior.log_density(other)) / weights.sum()

        here = mixture_at(at, mixture, prior)
        stats = e_step(rows, here, "centred", identity_frame(d), [(0, len(rows))], weights)
        found = gradient(at, stats, here, prior)
        differences = [(wanted(at + step) - wanted(at - step)) / (2 * h) for step in h * np.eye(at.size)]
        assert np.all(np.abs(found - differences) <= 1e-6 * np.maximum(1, np.abs(found)))

    @settings(LAW, max_examples=6)
    @given(data=st.data())
    def test_information_is_how_curved_the_likelihood_is(self, data: st.DataObject) -> None:
        """Of rows with the component's own moments, by differences of the slope."""
        mixture, family, h = data.draw(mixtures(self.covariance_type, max_d=3)), self.family, 1e-5
        mass, at, d = 1 + mixture.weights, family.coordinates(mixture.covariances), mixture.d
        scatter = packed(family, mass[:, None, None] * mixture.dense_covariances())

        def slope(coordinates: Array) -> Array:
            root = family.root(family.from_coordinates(coordinates, d), d)
            return family.chain(coordinates, family.slope(root, scatter, mass, d), d)

        found = family.information(mixture.root, mass, d)
        assert found.shape == at.shape
        for place in np.ndindex(at.shape):
            step = np.zeros_like(at)
            step[place] = h
            bend = (slope(at - step) - slope(at + step))[place] / (2 * h)
            assert found[place] == pytest.approx(bend, rel=1e-6, abs=1e-6)

    @LAW
    @given(data=st.data(), rng=generators)
    def test_eigenvalues_are_clipped_from_below(self, data: st.DataObject, rng: np.random.Generator) -> None:
        mixture, least = data.draw(mixtures(self.covariance_type)), 0.8
        n_components, d = mixture.means.shape
        found = self.family.dense(self.family.floored(mixture.covariances, least), n_components, d)
        for covariance, lifted in zip(mixture.dense_covariances(), found, strict=True):
            values, vectors = np.linalg.eigh(covariance)
            wanted = (vectors * np.maximum(values, least)) @ vectors.T
            np.testing.assert_allclose(lifted, wanted, rtol=1e-12, atol=1e-12)
        same = self.family.floored(mixture.covariances, 0.0)
        assert same.tobytes() == mixture.covariances.tobytes()

    # --- fits --------------------------------------------------------------------------------------------------
