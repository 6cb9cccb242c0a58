"""What every covariance family has to keep."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.algorithms import Batch
from gmmdask.container import pack, unpack
from gmmdask.covariance import Family
from gmmdask.covariance._base import Array
from gmmdask.estep import available
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import kernel_for
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Event, PassDone
from gmmdask.stats import Layout, Stats
from gmmdask.testing import reference
from gmmdask.testing.contracts.slopes import SlopeTests
from gmmdask.testing.passes import (
    assert_stats_agree,
    data_of,
    e_step,
    fit_data,
    frame_of_rows,
    identity_frame,
    mixture_of,
    packed,
    parameters_of,
    run_of,
)
from gmmdask.testing.strategies import (
    LAW,
    cuts,
    generators,
    mixtures,
    random_covariances,
    random_mixture,
    row_arrays,
    row_weights,
)

kernels = st.sampled_from(available())


def features_of(family: Family, x: Array) -> Array:
    """Quadratic features (p, b) of x (d, b)."""
    out = np.full((family.packed_size(len(x)), x.shape[1]), np.nan)
    family.quadratic(x, out)
    return out


def random_frame(family: Family, rng: np.random.Generator, d: int) -> Frame:
    """A frame of the family's kind whose axes differ in scale."""
    scales = 10 ** rng.uniform(-1, 1, d)
    return Frame.of(family, 3 * rng.normal(size=d), random_covariances(rng, 1, d)[0] * np.outer(scales, scales))


class FamilyTests(SlopeTests):
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

    # --- statistics --------------------------------------------------------------------------------------------

    @LAW
    @given(data=st.data(), kernel=kernels, rng=generators, weighted=st.booleans())
    def test_e_step_agrees_with_the_reference(
        self, data: st.DataObject, kernel: str, rng: np.random.Generator, weighted: bool
    ) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        frame = random_frame(self.family, rng, mixture.d)
        inside = data.draw(row_arrays(mixture.d))
        back = np.diag(frame.inverse) if frame.inverse.ndim == 1 else frame.inverse
        rows = inside @ back.T + frame.origin
        weights = data.draw(row_weights(len(rows))) if weighted else None
        pieces = data.draw(cuts(len(rows)))
        at = data.draw(st.integers(1, len(pieces)))
        stats = e_step(rows, mixture, kernel, frame, pieces[:at], weights)
        if pieces[at:]:
            stats += e_step(rows, mixture, kernel, frame, pieces[at:], weights)
        zero = np.zeros_like(mixture.means)
        sums = reference.statistics(inside, parameters_of(mixture), zero, weights, np.longdouble)
        assert_stats_agree(stats.about(zero), sums, 1e-11)

    @LAW
    @given(data=st.data(), kernel=kernels, rng=generators)
    def test_statistics_move_to_any_origin(self, data: st.DataObject, kernel: str, rng: np.random.Generator) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        rows = data.draw(row_arrays(mixture.d))
        origin = rng.normal(size=mixture.means.shape)
        stats = e_step(rows, mixture, kernel, identity_frame(mixture.d), [(0, len(rows))])
        sums = reference.statistics(rows, parameters_of(mixture), origin, dtype=np.longdouble)
        moved = stats.about(origin)
        assert_stats_agree(moved, sums, 1e-11)
        back = moved.about(stats.origin)
        np.testing.assert_allclose(back.vector, stats.vector, rtol=0, atol=1e-11 * max(1, np.abs(stats.vector).max()))

    def test_the_centred_kernel_is_exact_for_narrow_components(self) -> None:
        rng, width = np.random.default_rng(5), 1e-6
        means = np.array([[1.0, -2.0], [1.5, 0.5]])
        covariances = self.family.isotropic(width**2, 2, 2)
        mixture = Mixture(self.covariance_type, np.array([0.4, 0.6]), means, covariances)
        rows = means[rng.integers(0, 2, 400)] + width * rng.normal(size=(400, 2))
        assert kernel_for(mixture) == "centred"
        stats = e_step(rows, mixture, "centred", identity_frame(2), [(0, 150), (150, 400)])
        sums = reference.statistics(rows, parameters_of(mixture), means, dtype=np.longdouble)
        prior = Prior(self.family.isotropic(0.0, 2, 2))
        found = m_step(stats, prior).covariances
        wanted = reference.m_step(self.covariance_type, sums, means)[2].astype(np.float64)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * width**2)

    def test_responsibilities_of_rows_far_from_everything(self) -> None:
        """Densities underflow long before log densities do; what is floored is an exact zero."""
        mixture = random_mixture(np.random.default_rng(2), self.covariance_type, 3, 2)
        rows = np.array([[1e5, -1e5], [0.0, 0.0]])
        for kernel in available():
            stats = e_step(rows, mixture, kernel, identity_frame(2), [(0, 2)])
            assert np.all(np.isfinite(stats.vector))
            assert abs(stats.mass.sum() - 2) < 1e-12
            sums = reference.statistics(rows, parameters_of(mixture), np.zeros((3, 2)), dtype=np.longdouble)
            np.testing.assert_allclose(stats.log_likelihood, float(sums.log_likelihood), rtol=1e-12)

    def test_responsibilities_too_small_to_matter_are_exact_zeros(self) -> None:
        means, covariances = np.array([[0.0, 0.0], [100.0, 0.0]]), self.family.isotropic(1.0, 2, 2)
        mixture = Mixture(self.covariance_type, np.array([0.5, 0.5]), means, covariances)
        rows = np.random.default_rng(0).normal(size=(5000, 2))
        for kernel in available():
            stats = e_step(rows, mixture, kernel, identity_frame(2), [(0, 5000)])
            assert stats.mass.tolist() == [5000.0, 0.0]

    # --- priors ------------------------------------------------------------------------------------------------

    @LAW
    @given(data=st.data(), kernel=kernels, rng=generators)
    def test_the_log_likelihood_never_falls(self, data: st.DataObject, kernel: str, rng: np.random.Generator) -> None:
        truth = data.draw(mixtures(self.covariance_type))
        rows = truth.sample(300, rng)[0]
        start = random_mixture(rng, self.covariance_type, truth.n_components, truth.d, separation=1.0)
        bounds: list[float] = []

        def emit(event: Event) -> None:
            if isinstance(event, PassDone):
                bounds.append(event.lower_bound)

        algorithm = Batch(tol=0, max_iter=8, kernel=kernel)
        fit_data(data_of(rows), run_of("run", algorithm, start, frame_of_rows(start, rows)), emit=emit)
        assert len(bounds) == 8
        assert np.all(np.diff(bounds) >= -1e-12 * np.abs(bounds[1:]))

    @LAW
    @given(data=st.data(), rng=generators)
    def test_a_fit_commutes_with_a_map_of_the_data(self, data: st.DataObject, rng: np.random.Generator) -> None:
        """x ↦ A x + b with any A that the family's frames may have: scales, or any invertible matrix."""
        start = data.draw(mixtures(self.covariance_type))
        rows = start.sample(300, rng)[0]
        there = random_frame(self.family, rng, start.d)
        moved = there.points_in(rows)
        fits: list[Mixture] = []
        for points, mixture in ((rows, start), (moved, there.mixture_in(start))):
            run = run_of("run", Batch(tol=0, max_iter=5), mixture, frame_of_rows(mixture, points))
            fits.extend(mixture_of(ended) for ended in fit_data(data_of(points), run))
        np.testing.assert_allclose(fits[1].weights, fits[0].weights, rtol=0, atol=1e-9)
        back = there.mixture_out(fits[1])
        scale = np.abs(rows).max()
        np.testing.assert_allclose(back.means, fits[0].means, rtol=0, atol=1e-9 * scale)
        np.testing.assert_allclose(back.covariances, fits[0].covariances, rtol=0, atol=1e-9 * scale**2)
