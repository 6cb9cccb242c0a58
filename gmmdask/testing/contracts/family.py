"""What every covariance family has to keep."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.container import pack, unpack
from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.estep import available
from gmmdask.frame import Frame, Prior
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.stats import Layout, Stats
from gmmdask.testing import reference
from gmmdask.testing.contracts.slopes import SlopeTests
from gmmdask.testing.contracts.sums import SumTests, random_frame
from gmmdask.testing.passes import (
    packed,
    parameters_of,
)
from gmmdask.testing.strategies import (
    LAW,
    generators,
    mixtures,
    random_covariances,
    row_arrays,
)

kernels = st.sampled_from(available())


def features_of(family: Family, x: Array) -> Array:
    """Quadratic features (p, b) of x (d, b)."""
    out = np.full((family.packed_size(len(x)), x.shape[1]), np.nan)
    family.quadratic(x, out)
    return out


class FamilyTests(SumTests, SlopeTests):
    """A subclass sets `covariance_type`, a key of `FAMILIES`."""

    @LAW
    @given(data=st.data())
    def test_whitened_rows_and_log_det_agree_with_the_dense_inverse(self, data: st.DataObject) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        z = data.draw(row_arrays(mixture.d)).T
        half_log_det = np.broadcast_to(
            self.family.half_log_det_precision(mixture.root, mixture.d), mixture.n_components
        )
        for k, covariance in enumerate(mixture.dense_covariances()):
            white = self.family.whiten(mixture.root, k, z)
            wanted = np.einsum("ib,ij,jb->b", z, np.linalg.inv(covariance), z)
            np.testing.assert_allclose((white**2).sum(axis=0), wanted, rtol=1e-11)
            wanted = -0.5 * np.linalg.slogdet(covariance)[1]
            np.testing.assert_allclose(half_log_det[0 if self.family.shared else k], wanted, rtol=0, atol=1e-12)

    @LAW
    @given(data=st.data())
    def test_coefficients_are_the_expanded_square(self, data: st.DataObject) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        x = data.draw(row_arrays(mixture.d)).T
        quadratic, linear, constant = self.family.coefficients(mixture.root, mixture.means)
        found = quadratic @ features_of(self.family, x) + linear @ x + constant[:, None]
        for k, covariance in enumerate(mixture.dense_covariances()):
            z = x - mixture.means[k][:, None]
            wanted = -0.5 * np.einsum("ib,ij,jb->b", z, np.linalg.inv(covariance), z)
            np.testing.assert_allclose(found[k], wanted, rtol=1e-10, atol=1e-10)

    @LAW
    @given(data=st.data())
    def test_files_give_back_what_arithmetic_has_made(self, data: st.DataObject) -> None:
        given, arrays = data.draw(mixtures(self.covariance_type)), dict[str, Array]()
        mixture = replace(given, covariances=0.5 * given.covariances)
        back = unpack(pack(mixture, arrays), arrays, {"Mixture": Mixture})
        assert back.digest == mixture.digest

    @LAW
    @given(data=st.data())
    def test_precisions_are_inverses(self, data: st.DataObject) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        family, shape = self.family, (mixture.n_components, mixture.d)
        precisions = family.precisions(mixture.root)
        wanted = np.linalg.inv(mixture.dense_covariances())
        np.testing.assert_allclose(family.dense(precisions, *shape), wanted, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(family.from_precisions(precisions), mixture.covariances, rtol=1e-10, atol=1e-12)

    @LAW
    @given(data=st.data())
    def test_cancellation_bounds_the_terms_of_the_square(self, data: st.DataObject) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        found = self.family.cancellation(mixture.root, mixture.covariances, mixture.means)
        for k, covariance in enumerate(mixture.dense_covariances()):
            a = np.abs(mixture.means[k]) + 3 * np.sqrt(np.diag(covariance))
            np.testing.assert_allclose(found[k], a @ np.abs(np.linalg.inv(covariance)) @ a, rtol=1e-10)

    # --- moments -----------------------------------------------------------------------------------------------

    @LAW
    @given(data=st.data(), d=st.integers(1, 5), rng=generators)
    def test_moments_agree_with_dense_ones(self, data: st.DataObject, d: int, rng: np.random.Generator) -> None:
        x = data.draw(row_arrays(d)).T
        resp = rng.random(x.shape[1])
        dense = np.einsum("b,ib,jb->ij", resp, x, x)
        tolerance = {"rtol": 1e-12, "atol": 1e-12 * np.trace(dense)}
        np.testing.assert_allclose(features_of(self.family, x) @ resp, self.family.pack(dense), **tolerance)
        np.testing.assert_allclose(self.family.scatter(x, resp), self.family.pack(dense), **tolerance)
        assert self.family.pack(dense).shape == (self.family.packed_size(d),)

    @LAW
    @given(n_components=st.integers(1, 5), d=st.integers(1, 5), rng=generators)
    def test_outer_is_the_packed_symmetric_part(self, n_components: int, d: int, rng: np.random.Generator) -> None:
        a, b = rng.normal(size=(2, n_components, d))
        dense = np.array([(np.outer(p, q) + np.outer(q, p)) / 2 for p, q in zip(a, b, strict=True)])
        np.testing.assert_allclose(self.family.outer(a, b), packed(self.family, dense), rtol=1e-12, atol=1e-13)

    @LAW
    @given(data=st.data())
    def test_m_step_agrees_with_the_reference(self, data: st.DataObject) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        rows = np.concatenate([data.draw(row_arrays(mixture.d)), mixture.sample(40, np.random.default_rng(0))[0]])
        origin = np.zeros_like(mixture.means)
        sums = reference.statistics(rows, parameters_of(mixture), origin)
        stats = Stats.zero(Layout(self.covariance_type, mixture.n_components, mixture.d, "frame"))
        stats.vector[0], stats.mass[:], stats.first[:] = sums.weight, sums.mass, sums.first
        stats.second[:] = packed(self.family, sums.second)
        found = m_step(stats, Prior(self.family.isotropic(0.25, mixture.n_components, mixture.d)))
        wanted = reference.m_step(self.covariance_type, sums, origin, 0.25)
        for value, other in zip((found.weights, found.means, found.covariances), wanted, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-10, atol=1e-10)

    # --- shapes and coordinates --------------------------------------------------------------------------------

    @LAW
    @given(data=st.data())
    def test_shapes(self, data: st.DataObject) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        n_components, d = mixture.n_components, mixture.d
        ball = self.family.isotropic(2.5, n_components, d)
        assert ball.shape == mixture.covariances.shape == self.family.own_shape(n_components, d)
        np.testing.assert_array_equal(self.family.dense(ball, n_components, d), [2.5 * np.eye(d)] * n_components)
        dense = reference.DENSE[self.covariance_type](mixture.covariances, n_components, d)
        np.testing.assert_array_equal(self.family.dense(mixture.covariances, n_components, d), dense)

    @LAW
    @given(data=st.data(), rng=generators)
    def test_a_change_of_frame_is_a_change_of_variables(self, data: st.DataObject, rng: np.random.Generator) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        rows = data.draw(row_arrays(mixture.d))
        frame = random_frame(self.family, rng, mixture.d)
        inside = frame.mixture_in(mixture)
        found = reference.log_joint(frame.points_in(rows), parameters_of(inside)) + frame.log_det
        np.testing.assert_allclose(found, reference.log_joint(rows, parameters_of(mixture)), rtol=1e-9, atol=1e-9)
        back = frame.mixture_out(inside)
        np.testing.assert_allclose(back.means, mixture.means, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(back.covariances, mixture.covariances, rtol=1e-10, atol=1e-10)

    @LAW
    @given(d=st.integers(1, 5), rng=generators)
    def test_data_has_unit_spread_in_its_frame(self, d: int, rng: np.random.Generator) -> None:
        scales = 10 ** rng.uniform(-6, 6, d)
        covariance = random_covariances(rng, 1, d)[0] * np.outer(scales, scales)
        frame = Frame.of(self.family, np.zeros(d), covariance)
        inside = self.family.pack(frame.covariance_in(covariance))
        np.testing.assert_allclose(inside, self.family.pack(np.eye(d)), rtol=1e-9, atol=1e-9)

    def test_directions_without_spread_keep_scale_one(self) -> None:
        frame = Frame.of(self.family, np.zeros(3), np.zeros((3, 3)))
        dense = np.diag(frame.matrix) if frame.matrix.ndim == 1 else frame.matrix
        np.testing.assert_allclose(dense @ dense.T, np.eye(3), atol=1e-12)

    @LAW
    @given(d=st.integers(1, 6), rng=generators)
    def test_factors_are_those_of_the_quadratic_features(self, d: int, rng: np.random.Generator) -> None:
        x = rng.normal(size=(d, 4))
        left, right = self.family.factors(d)
        lines = np.vstack([x, np.ones(4), (x**2).sum(axis=0)])
        features = np.empty((self.family.packed_size(d), 4))
        self.family.quadratic(x, features)
        np.testing.assert_allclose(lines[left] * lines[right], features, rtol=1e-14)
