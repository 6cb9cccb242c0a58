"""Pictures: what they draw, not how it looks."""

import sys
import threading

import numpy as np
import pytest

from gmmdask.covariance import FAMILIES
from gmmdask.mixture import Mixture
from gmmdask.plot import pictures as plot
from gmmdask.plot import style
from gmmdask.synthetic import random_mixture

pytest.importorskip("matplotlib")


def fitted(n_components, d, covariance_type="full", n=400):
    mixture = random_mixture(n_components, d, covariance_type)
    return (*mixture.sample(n, np.random.default_rng(0)), mixture)


@pytest.mark.parametrize(("n_components", "d"), [(1, 1), (3, 1), (1, 2), (3, 2), (40, 2), (3, 16), (12, 3), (2, 18)])
def test_an_overview_of_any_shape_is_a_png(tmp_path, n_components, d):
    rows, labels, mixture = fitted(n_components, d)
    plot.overview(rows, labels, mixture, tmp_path / "fit.png", names=[f"name {i}" for i in range(d)])
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_every_family_is_drawn(covariance_type):
    rows, labels, mixture = fitted(3, 3, covariance_type)
    plot.scatter(rows, labels, mixture, (0, 2))
    plot.density(mixture, (1, 2), rows)
    assert len(plot.marginals(rows, mixture)) == 3


def test_pictures_are_drawn_on_the_axes_given_and_touch_no_global_state():
    rows, labels, mixture = fitted(3, 2)
    figure = plot.new_figure(8, 6)
    before = style.import_module("matplotlib").rcParams.copy()
    axes = plot.panels(figure, 5)
    assert plot.scatter(rows, labels, mixture, ax=axes[0]) is axes[0]
    assert plot.density(mixture, ax=axes[1]) is axes[1]
    assert plot.convergence([{"lap": 1, "lower_bound": -3.0}], axes[2]) is axes[2]
    assert plot.marginals(rows, mixture, axes=axes[3:]) == axes[3:]
    figure.canvas.draw()
    assert style.import_module("matplotlib").rcParams.copy() == before
    assert "matplotlib.pyplot" not in sys.modules


def test_pictures_are_made_in_any_thread(tmp_path):
    failed = []

    def draw(i):
        try:
            plot.overview(*fitted(3, 2), tmp_path / f"{i}.png")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_ellipses_are_the_covariances():
    """The boundary of an ellipse at s standard deviations lies at Mahalanobis distance s of the mean."""
    mixture = random_mixture(4, 5, "full", seed=3)
    drawn = plot.ellipses(mixture, (3, 1)).patches
    assert len(drawn) == 2 * 4
    for at, ellipse in enumerate(drawn):
        k, sigmas = divmod(at, 2)
        boundary = ellipse.get_patch_transform().transform(ellipse.get_path().vertices[::3])  # on the curve
        z = boundary - mixture.means[k, [3, 1]]
        covariance = mixture.covariances[k][np.ix_([3, 1], [3, 1])]
        distance = np.sqrt(np.einsum("ni,ni->n", z, np.linalg.solve(covariance, z.T).T))
        np.testing.assert_allclose(distance, sigmas + 1, rtol=1e-3)


def test_ellipses_of_a_known_mixture_have_its_axes():
    mixture = Mixture("diag", np.ones(1), np.array([[1.0, 2.0]]), np.array([[4.0, 9.0]]))
    inner, outer = plot.ellipses(mixture).patches
    assert sorted([inner.width, inner.height]) == pytest.approx([4, 6])
    assert sorted([outer.width, outer.height]) == pytest.approx([8, 12])
    assert tuple(inner.center) == (1.0, 2.0)


def test_ellipses_keep_the_names_of_axes_they_are_added_to():
    rows, labels, mixture = fitted(2, 2)
    ax = plot.ellipses(mixture, ax=plot.scatter(rows, labels, names=["length", "width"]))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length", "width")


def test_rows_have_the_colour_of_their_component_and_are_thinned():
    n = plot.SCATTER_ROWS + 5000
    rows = np.column_stack([np.arange(n), np.zeros(n)])
    labels = np.arange(n) % 3
    points = plot.scatter(rows, labels).collections[0]
    at = np.asarray(points.get_offsets())[:, 0].astype(int)
    assert len(np.unique(at)) == plot.SCATTER_ROWS
    np.testing.assert_allclose(points.get_facecolors()[:, :3], plot.colours(3)[labels[at]])


@pytest.mark.parametrize("n_components", [1, 2, 10, 11, 40, 100])
def test_components_have_colours_of_their_own(n_components):
    colours = plot.colours(n_components)
    assert colours.shape == (n_components, 3)
    assert len(np.unique(colours, axis=0)) == n_components
    assert np.all((colours >= 0) & (colours <= 1))


def test_curves_add_up_and_have_mass_one():
    """Of each feature: the dark curve is the sum of the coloured ones, and its area is one."""
    rows, _, mixture = fitted(3, 2, "full", n=5000)
    for ax in plot.marginals(rows, mixture):
        total, *parts = (np.asarray(line.get_ydata()) for line in ax.lines)
        x = np.asarray(ax.lines[0].get_xdata())
        assert len(parts) == 3
        np.testing.assert_allclose(sum(parts), total)
        assert np.trapezoid(total, x) == pytest.approx(1, abs=0.01)
        for curve, weight in zip(parts, mixture.weights, strict=True):
            assert np.trapezoid(curve, x) == pytest.approx(weight, abs=0.01)


def test_narrow_components_are_not_missed():
    mixture = Mixture("diag", np.array([0.5, 0.5]), np.array([[0.0], [3.3]]), np.array([[1.0], [1e-8]]))
    rows, _ = mixture.sample(2000, np.random.default_rng(0))
    (ax,) = plot.marginals(rows, mixture)
    peak = 0.5 / np.sqrt(2 * np.pi * 1e-8)
    assert np.max(ax.lines[0].get_ydata()) == pytest.approx(peak, rel=1e-3)
    assert ax.get_ylim()[1] < peak / 10  # and do not flatten the others


def test_density_contours_hold_the_stated_shares():
    """A Gaussian holds 1 - exp(-r²/2) within r standard deviations."""
    mixture = Mixture("full", np.ones(1), np.zeros((1, 2)), np.array([[[2.0, 0.5], [0.5, 1.0]]]))
    levels = plot.density(mixture).collections[0].levels[:-1]
    peak = np.exp(mixture.log_scale[0])
    np.testing.assert_allclose(1 - levels / peak, plot.INSIDE, atol=0.01)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_densities_integrate_to_the_weights(covariance_type):
    mixture = plot.marginal(random_mixture(3, 4, covariance_type), [2, 0])
    low, high = mixture.means.min(axis=0) - 12, mixture.means.max(axis=0) + 12
    x, y = (np.linspace(a, b, 400) for a, b in zip(low, high, strict=True))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    masses = plot.densities(mixture, points).sum(axis=1) * (x[1] - x[0]) * (y[1] - y[0])
    np.testing.assert_allclose(masses, mixture.weights, rtol=1e-6)


def test_telling_features_are_those_in_which_the_means_differ():
    means = np.zeros((2, 6))
    means[1, [1, 4]] = 3.0, 200.0
    variances = np.ones((2, 6))
    variances[:, [2, 4]] = 1e6, 100.0
    assert plot.telling_features(Mixture("diag", np.full(2, 0.5), means, variances)) == (1, 4)


def test_convergence_shows_the_history():
    history = [{"lap": 2 * i + 1, "lower_bound": -1.0 / (i + 1), "seconds": 3} for i in range(5)]
    (line,) = plot.convergence(history).lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 3, 5, 7, 9])
    np.testing.assert_array_equal(line.get_ydata(), [-1.0 / (i + 1) for i in range(5)])


def test_axes_are_saved_with_the_whole_figure(tmp_path):
    figure = plot.new_figure(3, 2)
    ax = plot.convergence([{"lap": 1, "lower_bound": -1.0}], figure.subfigures(1, 2)[0].add_subplot())
    plot.save(ax, tmp_path / "part.png")
    assert (tmp_path / "part.png").read_bytes()[16:24] == bytes([0, 0, 450 >> 8, 450 & 255, 0, 0, 300 >> 8, 300 & 255])


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    rows, labels, mixture = fitted(2, 2)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: plot.overview(rows, labels, mixture, tmp_path / "fit.png"),
        lambda: plot.scatter(rows, labels, mixture),
        lambda: plot.convergence([]),
    ):
        with pytest.raises(ImportError, match=r'pip install "gmmdask\[plot\]"'):
            draw()
