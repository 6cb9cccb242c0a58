"""What a family's E-steps and fits have to keep: sums, their origins, extreme rows, monotony, units."""

from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gmmdask.algorithms import Batch
from gmmdask.covariance import FAMILIES, Family
from gmmdask.covariance._base import Array
from gmmdask.estep import available
from gmmdask.frame import Frame, Prior
from gmmdask.kernels import kernel_for
from gmmdask.mixture import Mixture
from gmmdask.mstep import m_step
from gmmdask.outcome import Event, PassDone
from gmmdask.stats import Stats
from gmmdask.testing import reference
from gmmdask.testing.passes import (
    assert_stats_agree,
    data_of,
    e_step,
    fit_data,
    frame_of_rows,
    identity_frame,
    mixture_of,
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


def random_frame(family: Family, rng: np.random.Generator, d: int) -> Frame:
    """A frame of the family's kind whose axes differ in scale."""
    scales = 10 ** rng.uniform(-1, 1, d)
    return Frame.of(family, 3 * rng.normal(size=d), random_covariances(rng, 1, d)[0] * np.outer(scales, scales))


def rows_of(inside: Array, frame: Frame) -> Array:
    """Rows (n, d) in data units of points in a frame."""
    back = np.diag(frame.inverse) if frame.inverse.ndim == 1 else frame.inverse
    return inside @ back.T + frame.origin


def assert_e_steps_agree(
    data: st.DataObject, mixture: Mixture, inside: Array, kernel: str, frame: Frame, weights: Array | None
) -> Stats:
    """Compares statistics of points (n, d), by two E-steps with cuts anywhere, with the reference's; returns them."""
    rows, pieces = rows_of(inside, frame), data.draw(cuts(len(inside)))
    at = data.draw(st.integers(1, len(pieces)))
    stats = e_step(rows, mixture, kernel, frame, pieces[:at], weights)
    if pieces[at:]:
        stats += e_step(rows, mixture, kernel, frame, pieces[at:], weights)
    zero = np.zeros_like(mixture.means)
    sums = reference.statistics(inside, parameters_of(mixture), zero, weights, np.longdouble)
    assert_stats_agree(stats.about(zero), sums, 1e-11)
    return stats


class OfFamily:
    """A subclass sets `covariance_type`, a key of `FAMILIES`."""

    covariance_type: ClassVar[str]

    @property
    def family(self) -> Family:
        return FAMILIES[self.covariance_type]


class SumTests(OfFamily):
    """Of E-steps and of fits by EM."""

    # --- statistics --------------------------------------------------------------------------------------------

    @LAW
    @given(data=st.data(), kernel=kernels, rng=generators, weighted=st.booleans())
    def test_e_step_agrees_with_the_reference(
        self, data: st.DataObject, kernel: str, rng: np.random.Generator, weighted: bool
    ) -> None:
        mixture = data.draw(mixtures(self.covariance_type))
        frame = random_frame(self.family, rng, mixture.d)
        inside = data.draw(row_arrays(mixture.d))
        weights = data.draw(row_weights(len(inside))) if weighted else None
        assert_e_steps_agree(data, mixture, inside, kernel, frame, weights)

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
