"""The pair plot: rows as a density, and the components as ellipses over it, feature by feature."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.matching import mixture_of
from gmmdask.mixture import Mixture
from gmmdask.plot.pictures import HISTOGRAM_ROWS, draw_marginal, ellipses, reach
from gmmdask.plot.shown import check_features, marginal, table, telling_features, thinned
from gmmdask.plot.style import INK, LEGEND_COMPONENTS, feature_name, keys, new_figure, part, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FEATURES = 4  # of a pair plot, where nobody says which
CELLS = 64  # of a shaded density, each way
OUTSIDE = 0.001  # of the rows that a panel may leave out on either side


def pairs(
    rows: np.ndarray,
    mixture: Mixture,
    features: Sequence[int] | None = None,
    axes: Any = None,
    names: Sequence[str] | None = None,
) -> Any:
    """Below the diagonal every pair of features, on it each alone: rows in grey, components in colour.

    Parameters
    ----------
    rows : (n, d), in memory: a sample will do; at most 200,000 of them are drawn, chosen at random. A panel has those
        that lack (NaN) none of its features.
    mixture : or a fitted estimator.
    features : which; by default the four at most in which the components differ most.
    axes : (m, m) of matplotlib's axes, for m features.
    names : (d,) of the features.

    Returns
    -------
    axes (m, m), an array; those above the diagonal are empty.
    """
    mixture = mixture_of(mixture)
    rows = table(rows, mixture.d)
    features = telling_features(mixture, MOST_FEATURES) if features is None else features
    check_features(mixture, features)
    m = len(features)
    axes = new_figure(2.1 * m + 1.0, 2.0 * m + 0.6).subplots(m, m, squeeze=False) if axes is None else np.asarray(axes)
    values = np.asarray(rows[thinned(len(rows), HISTOGRAM_ROWS)][:, list(features)], dtype=np.float64)
    limits = [panel_limits(values[:, at], marginal(mixture, [i])) for at, i in enumerate(features)]
    for (down, across), ax in np.ndenumerate(axes):
        if down < across:
            ax.set_axis_off()
            continue
        if down == across:
            draw_marginal(ax, values[:, down], marginal(mixture, [features[down]]), limits[down])
            ax.spines["left"].set_visible(False)
            ax.set_yticks([])
        else:
            both = values[~np.isnan(values[:, [across, down]]).any(axis=1)]
            shade(ax, both[:, across], both[:, down], limits[across], limits[down])
            ellipses(mixture, (features[across], features[down]), ax, sigmas=(2,))
            ax.set(xlim=limits[across], ylim=limits[down])
        if down < m - 1:
            ax.tick_params(labelbottom=False)
        if across:
            ax.tick_params(labelleft=False)
        below, left = down == m - 1, across == 0 and down > 0
        x, y = (feature_name(names, features[at]) for at in (across, down))
        tidy(ax, x if down == across < m - 1 else "", x if below else "", y if left else "", grid=False)
    if m > 1 and mixture.n_components <= LEGEND_COMPONENTS:
        style = {"frameon": False, "fontsize": 8, "title_fontsize": 8, "labelcolor": INK}
        axes[0, -1].legend(handles=keys(mixture), loc="upper right", title="component: weight", **style)
    return axes


def panel_limits(values: Array, alone: Mixture) -> tuple[float, float]:
    """What a panel shows of one feature: nearly all values that are there, and the means of the components."""
    values = values[~np.isnan(values)]
    if not len(values):
        return reach(alone)
    low, high = np.quantile(values, [OUTSIDE, 1 - OUTSIDE])
    low, high = min(low, alone.means.min()), max(high, alone.means.max())
    room = 0.06 * (high - low) or max(abs(low) * 0.06, 1e-6)
    return float(low - room), float(high + room)


def shade(ax: "Axes", x: Array, y: Array, across: tuple[float, float], down: tuple[float, float]) -> None:
    """How many rows (n,) are where, in greys; empty cells stay white."""
    cells = int(np.clip(2 * len(x) ** (1 / 3), 12, CELLS))
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=cells, range=(across, down))
    if counts.any():
        greys = part("colors").ListedColormap(part("cm").Greys(np.linspace(0.12, 0.62, 64)))  # ellipses stay visible
        norm = part("colors").LogNorm(1, max(counts.max(), 2))
        filled = np.ma.masked_equal(counts.T, 0)
        ax.pcolormesh(x_edges, y_edges, filled, cmap=greys, norm=norm, rasterized=True, zorder=0.5)
