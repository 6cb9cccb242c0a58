"""Pictures: what they draw, not how it looks."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from gmmdask import GaussianMixture
from gmmdask.covariance import FAMILIES
from gmmdask.matching import bhattacharyya
from gmmdask.mixture import Mixture
from gmmdask.noise import Noise
from gmmdask.plot import (
    calibration,
    convergence,
    matrices,
    pairs,
    profiles,
    responsibilities,
    selection,
    similarity,
    style,
    weights,
)
from gmmdask.plot import pictures as plot
from gmmdask.synthetic import random_mixture
from gmmdask.testing.strategies import with_gaps

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
    figure = style.new_figure(8, 6)
    before = style.import_module("matplotlib").rcParams.copy()
    axes = style.panels(figure, 5)
    assert plot.scatter(rows, labels, mixture, ax=axes[0]) is axes[0]
    assert plot.density(mixture, ax=axes[1]) is axes[1]
    assert convergence([{"lap": 1, "lower_bound": -3.0}], axes[2]) is axes[2]
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
    np.testing.assert_allclose(points.get_facecolors()[:, :3], style.colours(3)[labels[at]])


@pytest.mark.parametrize("n_components", [1, 2, 10, 11, 40, 100])
def test_components_have_colours_of_their_own(n_components):
    colours = style.colours(n_components)
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
    (line,) = convergence(history).lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 3, 5, 7, 9])
    np.testing.assert_array_equal(line.get_ydata(), [-1.0 / (i + 1) for i in range(5)])


BAD = {
    "a feature that is not there": (
        lambda rows, m: pairs(rows, m, [0, 7]),
        r"features=\[0, 7\]: expected some of",
    ),
    "no feature": (lambda rows, m: pairs(rows, m, []), r"features=\[\]"),
    "one feature only": (lambda rows, m: plot.ellipses(fitted(2, 1)[2]), r"features=\[0, 1\]: expected some of 0 to 0"),
    "rows of another width": (
        lambda rows, m: plot.marginals(rows[:, :1], m),
        r"rows of shape \(400, 1\): expected \(n, 2\)",
    ),
    "no rows": (lambda rows, m: plot.scatter(rows[:0], None, m), r"rows of shape \(0, 2\)"),
    "too few labels": (lambda rows, m: plot.scatter(rows, np.zeros(3, int), m), "3 labels of 400 rows"),
    "too few names": (lambda rows, m: plot.marginals(rows, m, names=["a"]), "1 names: there is none for feature 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_told(name):
    draw, words = BAD[name]
    rows, _, mixture = fitted(2, 2)
    with pytest.raises(ValueError, match=words):
        draw(rows, mixture)


def test_convergence_keeps_other_runs_in_the_background():
    best, other = convergence([{"lap": 1, "lower_bound": -1.0}], others={"start 1": [-3.0, -2.0]}).lines[::-1]
    assert best.get_zorder() > other.get_zorder()
    np.testing.assert_array_equal(other.get_xydata(), [[1, -3], [2, -2]])


def test_many_axes_are_saved_too(tmp_path):
    rows, _, mixture = fitted(2, 2)
    for at, axes in enumerate((pairs(rows, mixture), plot.marginals(rows, mixture))):
        style.save(axes, tmp_path / f"{at}.png")
        assert (tmp_path / f"{at}.png").read_bytes().startswith(b"\x89PNG")
        assert style.svg(axes).startswith("<?xml")


def test_axes_are_saved_with_the_whole_figure(tmp_path):
    figure = style.new_figure(3, 2)
    ax = convergence([{"lap": 1, "lower_bound": -1.0}], figure.subfigures(1, 2)[0].add_subplot())
    style.save(ax, tmp_path / "part.png")
    assert (tmp_path / "part.png").read_bytes()[16:24] == bytes([0, 0, 450 >> 8, 450 & 255, 0, 0, 300 >> 8, 300 & 255])


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    rows, labels, mixture = fitted(2, 2)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: plot.overview(rows, labels, mixture, tmp_path / "fit.png"),
        lambda: plot.scatter(rows, labels, mixture),
        lambda: convergence([]),
    ):
        with pytest.raises(ImportError, match=r'pip install "gmmdask\[plot\]"'):
            draw()


SHAPES = [(1, 1), (12, 2), (3, 16), (100, 2), (2, 100)]


@pytest.mark.parametrize(("n_components", "d"), SHAPES)
def test_every_picture_is_drawn_for_any_shape(n_components, d):
    """In axes of its own, which it returns; a figure with it is SVG without a word of other places."""
    rows, labels, mixture = fitted(n_components, d, "diag")
    posteriors, panels = np.eye(n_components)[labels], pairs(rows, mixture)
    axes = [panels[0, 0], weights(mixture), similarity(mixture), responsibilities(posteriors)]
    axes += [profiles(mixture), calibration(np.linspace(0, 1, 5), np.full((n_components, 5), 0.5))]
    for ax in axes:
        ax.figure.draw_without_rendering()
    assert panels.shape == (min(d, 4),) * 2
    assert style.svg(axes[1]).startswith("<?xml")


def test_a_pair_plot_has_rows_ellipses_and_curves_where_they_belong():
    rows, _, mixture = fitted(3, 6, n=5000)
    names = [f"name {i}" for i in range(6)]
    figure = style.new_figure(6, 6)
    given = figure.subplots(3, 3)
    axes = pairs(rows, mixture, [4, 0, 5], given, names)
    assert np.array_equal(axes, given)
    for down, across in np.ndindex(3, 3):
        ax = axes[down, across]
        assert ax.axison == (down >= across)
        assert len(ax.patches) == (3 if down > across else down == across)
        assert len(ax.lines) == (4 if down == across else 0)
        if down > across:
            assert ax.get_xlim() == axes[2, across].get_xlim()
            counts = ax.collections[0].get_array()
            assert len(rows) * 0.98 <= counts.sum() <= len(rows)
    assert [ax.get_xlabel() for ax in axes[2]] == ["name 4", "name 0", "name 5"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["", "name 0", "name 5"]


def test_pictures_take_estimators():
    rows, labels, mixture = fitted(2, 2)
    model = GaussianMixture.from_parameters(mixture.weights, mixture.means, mixture.covariances)
    assert len(weights(model).patches) == 2
    assert len(plot.ellipses(model).patches) == 4
    assert len(plot.scatter(rows, labels, model).patches) == 4
    assert len(plot.marginals(rows, model)) == 2
    assert plot.density(model).collections


def test_each_run_has_a_line():
    history = [{"run": f"start-{run}", "lap": lap, "lower_bound": -lap - run} for lap in (1, 2) for run in range(3)]
    ax = convergence(history)
    assert [list(line.get_ydata()) for line in ax.lines] == [[-1 - run, -2 - run] for run in range(3)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["start-0", "start-1", "start-2"]


def candidates():
    return tuple(
        {
            "covariance_type": kind,
            "components": k,
            "behind": abs(k - 3) / 10,
            "behind_error": 0.01 * k,
            "score": -abs(k - 3) / 10,
            "score_error": 0.5,
            "bic": 1000.0 + k,
            "state": "fitted" if k < 5 else "dropped after pass 2",
        }
        for kind in ("full", "diag")
        for k in range(2, 7)
    )


@pytest.mark.parametrize(("criterion", "error"), [("behind", "behind_error"), ("score", "score_error"), ("bic", None)])
def test_candidates_have_their_place_and_their_error(criterion, error):
    """Fitted ones on a line, others beside it; a failed one, which has no score, nowhere."""
    table = candidates()
    failed = {"covariance_type": "full", "components": 9, "state": "failed: ill-defined", "behind": None, "bic": np.nan}
    ax = selection((*table, failed), criterion=criterion)
    for at, kind in enumerate(("full", "diag")):
        for fitted_ones, container in zip((True, False), ax.containers[2 * at : 2 * at + 2], strict=True):
            rows = [row for row in table if row["covariance_type"] == kind and (row["components"] < 5) is fitted_ones]
            line, _, bars = container
            np.testing.assert_allclose(line.get_ydata(orig=False), [row[criterion] for row in rows])
            assert np.abs(line.get_xdata(orig=False) - [row["components"] for row in rows]).max() < 0.5
            if error:
                lengths = [np.ptp(segment[:, 1]) for segment in bars[0].get_segments()]
                np.testing.assert_allclose(lengths, [2 * row[error] for row in rows])
            else:
                assert not bars
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["full", "diag"]
    assert ax.yaxis_inverted() == (criterion == "behind")


def test_chosen_candidates_have_a_ring():
    class Selection:
        table_ = candidates()

    choices = {
        "one_standard_error": {"covariance_type": "diag", "components": 3},
        "bic": {"covariance_type": "full", "components": 2},
        "aic": {"covariance_type": "full", "components": 2},
    }
    told = {"table": list(candidates()), "choices": choices, "sentence": ""}
    for ax in (selection(told), selection(Selection(), choices=choices)):
        assert sorted(text.get_text() for text in ax.texts) == ["bic, aic", "one standard error"]
        assert len(ax.collections) >= 2
    assert not selection(Selection()).texts
    with pytest.raises(ValueError, match="criterion='best': expected one of"):
        selection(Selection(), criterion="best")


def test_noise_is_in_the_curve_of_the_whole_and_a_bar():
    clean = random_mixture(2, 2, "full")
    mixture = replace(clean, weights=0.7 * clean.weights, noise=Noise(0.3, np.full(2, -9.0), np.full(2, 9.0)))
    rows, _ = mixture.sample(2000, np.random.default_rng(0))
    *_, noise = weights(mixture).patches
    assert noise.get_height() == 0.3
    for ax in plot.marginals(rows, mixture):
        total, *parts = (np.trapezoid(line.get_ydata(), line.get_xdata()) for line in ax.lines)
        assert total == pytest.approx(1, abs=0.02)
        assert sum(parts) == pytest.approx(0.7, abs=0.02)


def test_bars_are_the_weights():
    mixture = random_mixture(7, 2)
    assert [bar.get_height() for bar in weights(mixture).patches] == pytest.approx(list(mixture.weights))


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_overlaps_are_symmetric_and_one_with_themselves(covariance_type):
    mixture = random_mixture(5, 3, covariance_type, separation=1)
    overlap = matrices.overlaps(mixture)
    np.testing.assert_allclose(overlap, overlap.T, atol=1e-12)
    np.testing.assert_allclose(np.diag(overlap), 1, atol=1e-9)
    np.testing.assert_allclose(overlap, np.exp(-bhattacharyya(mixture, mixture)), atol=1e-9)
    shown = similarity(mixture).images[0].get_array()
    np.testing.assert_allclose(shown, overlap)
    if mixture.family.shared:
        np.testing.assert_allclose(matrices.overlaps(mixture, "symmetric_kl"), overlap, atol=1e-9)
    with pytest.raises(ValueError, match="distance='far': expected one of"):
        similarity(mixture, distance="far")


def test_posteriors_are_averaged_by_label():
    """A label's line adds up to one; a component that no row is labelled with has none."""
    posteriors = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5, 0.5], size=500)
    posteriors[:, 2] *= 1e-3
    posteriors /= posteriors.sum(axis=1)[:, None]
    found = matrices.by_label(posteriors)
    labels = posteriors.argmax(axis=1)
    for k in (0, 1, 3):
        np.testing.assert_allclose(found[k], posteriors[labels == k].mean(axis=0))
    assert np.isnan(found[2]).all()
    shown = responsibilities(posteriors).images[0].get_array()
    assert np.array_equal(np.ma.getmaskarray(shown), np.isnan(found))


def test_profiles_are_means_in_standard_deviations_of_the_mixture():
    mixture = Mixture("diag", np.array([0.5, 0.5]), np.array([[0.0, 5.0], [2.0, 5.0]]), np.full((2, 2), 3.0))
    np.testing.assert_allclose(matrices.standardised_means(mixture), [[-0.5, 0], [0.5, 0]], atol=1e-12)
    ax = profiles(mixture, names=["cost in $", "a$b$"])
    assert [label.get_text() for label in ax.get_yticklabels()] == [r"cost in \$", r"a\$b\$"]
    assert "<svg" in style.svg(ax)  # and no formula that cannot be read


# --- missing values --------------------------------------------------------------------------------------------


def rows_with_gaps(d=3, share=0.3):
    rows, labels, mixture = fitted(3, d, n=900)
    return with_gaps(np.random.default_rng(1), rows, share), labels, mixture


def test_dots_are_the_rows_that_lack_neither_value():
    rows, labels, mixture = rows_with_gaps()
    both = ~np.isnan(rows[:, [2, 0]]).any(axis=1)
    points = plot.scatter(rows, labels, mixture, (2, 0)).collections[0]
    found = np.column_stack([points.get_offsets(), points.get_facecolors()[:, :3]])
    wanted = np.column_stack([rows[both][:, [2, 0]], style.colours(3)[labels[both]]])
    assert np.array_equal(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)])
    dots = np.asarray(plot.density(mixture, (2, 0), rows).collections[-1].get_offsets())
    assert np.array_equal(dots[np.lexsort(dots.T)], rows[both][:, [2, 0]][np.lexsort(rows[both][:, [2, 0]].T)])


def test_rows_are_drawn_up_to_a_number_of_those_that_are_there():
    rows = np.full((3 * plot.SCATTER_ROWS, 2), np.nan)
    rows[::2] = 0.0
    assert len(plot.scatter(rows, None).collections[0].get_offsets()) == plot.SCATTER_ROWS


def heights(ax):
    return ax.patches[0].get_data().values


def test_histograms_are_those_of_the_values_that_are_there():
    rows, _, mixture = rows_with_gaps()
    for at, ax in enumerate(plot.marginals(rows, mixture)):
        there = rows[~np.isnan(rows[:, at])]
        np.testing.assert_array_equal(heights(ax), heights(plot.marginals(there, mixture, [at])[0]))
        assert ax.get_xlim() == plot.marginals(there, mixture, [at])[0].get_xlim()
    axes = pairs(rows, mixture, [0, 1, 2])
    for down, across in ((1, 0), (2, 0), (2, 1)):
        counts = axes[down, across].collections[0].get_array()
        both = (~np.isnan(rows[:, [down, across]])).all(axis=1).sum()
        assert both - 8 <= counts.sum() <= both  # but for the outermost


@pytest.mark.parametrize("d", [1, 3])
def test_a_feature_without_values_has_its_components_alone(tmp_path, d):
    rows, labels, mixture = rows_with_gaps(d)
    rows[:, 0] = np.nan
    (ax,) = plot.marginals(rows, mixture, [0])
    assert not heights(ax).any()
    total, *parts = ax.lines
    assert len(parts) == 3
    assert np.trapezoid(total.get_ydata(), total.get_xdata()) == pytest.approx(1, abs=0.02)
    assert total.get_ydata().max() < ax.get_ylim()[1]
    grid = pairs(rows, mixture, range(min(d, 3)))
    low, high = grid[0, 0].get_xlim()
    assert low < mixture.means[:, 0].min() < mixture.means[:, 0].max() < high
    grid[0, 0].figure.draw_without_rendering()
    if d > 1:
        assert len(grid[1, 0].patches) == 3
        assert not len(plot.scatter(rows, labels, mixture).collections[0].get_offsets())
        assert plot.density(mixture, (0, 1), rows).collections
    plot.overview(rows, labels, mixture, tmp_path / "fit.png", None if d == 1 else (0, 1))
    assert (tmp_path / "fit.png").stat().st_size
