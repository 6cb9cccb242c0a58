"""Pictures of mixtures: axes in, axes out, in any thread and notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmdask.covariance._base import Array
from gmmdask.matching import mixture_of
from gmmdask.mixture import Mixture
from gmmdask.plot.shown import densities, marginal, table, telling_features, thinned, with_values
from gmmdask.plot.style import (
    INK,
    LEGEND_COMPONENTS,
    QUALITATIVE,
    QUIET,
    colours,
    feature_name,
    keys,
    new_axes,
    new_figure,
    panel_size,
    panels,
    part,
    save,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCATTER_ROWS, HISTOGRAM_ROWS = 20_000, 200_000
MOST_MARGINALS = 16
MOST_NUMBERED = 30  # components, whose means have their numbers beside them
GRID_POINTS = 240
INSIDE = (0.95, 0.8, 0.6, 0.4, 0.2)  # shares of the mass that density contours hold


def scatter(
    rows: np.ndarray,
    labels: np.ndarray | None,
    mixture: Mixture | None = None,
    features: tuple[int, int] = (0, 1),
    ax: "Axes | None" = None,
    names: Sequence[str] | None = None,
) -> "Axes":
    """Rows coloured by component, with means and ellipses if there is a mixture.

    Parameters
    ----------
    rows : (n, d), in memory; at most 20,000 of them are drawn, at random, of those that lack (NaN) neither value.
    labels : (n,) component numbers, -1 for noise, which is grey; or None for grey rows.
    features : the two that are drawn.
    names : (d,) of the features.
    """
    ax, mixture = new_axes() if ax is None else ax, None if mixture is None else mixture_of(mixture)
    i, j = features
    rows = table(rows, None if mixture is None else mixture.d)
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels of {len(rows)} rows: expected one of each.")
    chosen = with_values(rows, features, SCATTER_ROWS)
    colour: Any = QUIET
    if labels is not None:
        n_components = mixture.n_components if mixture is not None else int(np.max(labels)) + 1
        colour = np.vstack([colours(n_components), part("colors").to_rgb(QUIET)])[labels[chosen]]
    size = float(np.clip(16_000 / max(len(chosen), 1), 3.0, 16.0))
    opacity = float(np.clip(30 / max(len(chosen), 1) ** 0.5, 0.35, 0.8))
    ax.scatter(rows[chosen, i], rows[chosen, j], s=size, c=colour, alpha=opacity, linewidths=0, rasterized=True)
    if mixture is not None:
        ellipses(mixture, features, ax)
    tidy(ax, "Rows by component", feature_name(names, i), feature_name(names, j))
    return ax


def ellipses(
    mixture: Mixture,
    features: tuple[int, int] = (0, 1),
    ax: "Axes | None" = None,
    sigmas: Sequence[float] | None = None,
) -> "Axes":
    """The mean of each component, and its covariance as ellipses at some numbers of standard deviations.

    By default at one and two of them; of more than 12 components, at two.
    """
    ax, mixture = new_axes() if ax is None else ax, mixture_of(mixture)
    few = mixture.n_components <= LEGEND_COMPONENTS
    sigmas = ((1, 2) if few else (2,)) if sigmas is None else sigmas
    crowd, opacity = (1.0, 1.0) if few else (0.5, 0.7)
    halo = [part("patheffects").withStroke(linewidth=2.4, foreground="white")] if few else []
    ellipse, flat, shades = part("patches").Ellipse, marginal(mixture, features), colours(mixture.n_components)
    for mean, covariance, shade in zip(flat.means, flat.covariances, shades, strict=True):
        values, vectors = np.linalg.eigh(covariance)
        axes = 2 * np.sqrt(np.maximum(values, 0))
        angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
        for at, number in enumerate(sigmas):
            outline = ellipse(mean, *(number * axes), angle=angle, fill=False, edgecolor=shade, zorder=3)
            outline.set(linewidth=(1.0 if at else 1.4) * crowd, alpha=opacity, path_effects=halo)
            ax.add_patch(outline)
    x, y = flat.means.T
    ax.scatter(x, y, s=26 * crowd**2, c=shades, edgecolors="white", linewidths=crowd, zorder=4)
    if len(QUALITATIVE) < mixture.n_components <= MOST_NUMBERED:
        number_means(ax, flat.means)  # colours alone do not tell so many apart
    ax.autoscale_view()
    tidy(ax)
    return ax


def number_means(ax: "Axes", means: Array) -> None:
    """The numbers of components beside their means (K, 2)."""
    outlined = [part("patheffects").withStroke(linewidth=1.8, foreground="white")]
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 6.5, "color": INK, "path_effects": outlined}
    for k, mean in enumerate(means):
        ax.annotate(str(k), mean, (3, 2), zorder=5, clip_on=True, **style)


def marginals(
    rows: np.ndarray,
    mixture: Mixture,
    features: Sequence[int] | None = None,
    axes: "Sequence[Axes] | None" = None,
    names: Sequence[str] | None = None,
) -> "list[Axes]":
    """A histogram of each feature under the density of the mixture (dark) and of its components (coloured).

    Parameters
    ----------
    rows : (n, d), in memory; NaN is missing, and counts nowhere.
    features : which; the first 16 by default.
    axes : as many as there are features.
    """
    mixture = mixture_of(mixture)
    rows, features = table(rows, mixture.d), range(min(mixture.d, MOST_MARGINALS)) if features is None else features
    if axes is None:
        axes = panels(new_figure(*panel_size(len(features))), len(features))
    chosen = thinned(len(rows), HISTOGRAM_ROWS)
    for ax, i in zip(axes, features, strict=True):
        draw_marginal(ax, np.asarray(rows[chosen, i], dtype=np.float64), marginal(mixture, [i]))
        tidy(ax, x=feature_name(names, i), grid=False)
        ax.spines["left"].set_visible(False)
        ax.set_yticks([])
    return list(axes)


def draw_marginal(ax: "Axes", values: Array, mixture: Mixture, limits: tuple[float, float] | None = None) -> None:
    """One feature: values (n,) and a mixture in one dimension; what is shown of it, by default all values.

    NaN is no value; without any, the components alone are drawn.
    """
    values = values[~np.isnan(values)]
    if limits is None and not len(values):
        limits = reach(mixture)
    n_bins = int(np.clip(2 * len(values) ** (1 / 3), 10, 80))
    heights, edges = np.histogram(values, bins=n_bins, range=limits)
    share = heights / (max(len(values), 1) * np.diff(edges))
    ax.stairs(share, edges, fill=True, color="#d9dde2", linewidth=0)
    low, high = (edges[0] - 0.05 * np.ptp(edges), edges[-1] + 0.05 * np.ptp(edges)) if limits is None else limits
    # wide steps miss narrow components: each one brings points of its own
    own = mixture.means + np.sqrt(mixture.covariances[:, 0]) * np.linspace(-4, 4, 33)
    x = np.unique(np.concatenate([np.linspace(low, high, 400), own[(own >= low) & (own <= high)]]))
    found = densities(mixture, x[:, None])
    total = found.sum(axis=0)
    if (noise := mixture.noise) is not None:
        total += np.exp(noise.log_joint) * ((x >= noise.low[0]) & (x <= noise.high[0]))
    many = mixture.n_components > LEGEND_COMPONENTS
    ax.plot(x, total, color=INK, linewidth=2.0)
    for colour, curve in zip(colours(mixture.n_components), found, strict=True):
        ax.plot(x, curve, color=colour, linewidth=0.7 if many else 1.1, rasterized=many)
    ax.set_xlim(low, high)
    ax.set_ylim(0, 1.08 * (np.clip(total.max(), np.max(share), 4 * np.max(share)) if len(values) else total.max()))


def reach(mixture: Mixture) -> tuple[float, float]:
    """Where nearly all of a mixture in one dimension is."""
    deviations = 3 * np.sqrt(mixture.covariances[:, 0, 0])
    return float((mixture.means[:, 0] - deviations).min()), float((mixture.means[:, 0] + deviations).max())


def density(
    mixture: Mixture,
    features: tuple[int, int] = (0, 1),
    rows: np.ndarray | None = None,
    ax: "Axes | None" = None,
    names: Sequence[str] | None = None,
) -> "Axes":
    """Contours of the mixture's density on two features: the smallest regions that hold 20 to 95 % of the mass.

    Parameters
    ----------
    rows : (n, d), drawn underneath as dots; those that lack a value (NaN) of the two are left out.
    """
    ax, mixture = new_axes() if ax is None else ax, mixture_of(mixture)
    i, j = features
    flat = marginal(mixture, features)
    reach = 3.2 * np.sqrt(np.diagonal(flat.covariances, axis1=1, axis2=2))
    low, high = (flat.means - reach).min(axis=0), (flat.means + reach).max(axis=0)
    x, y = (np.linspace(a, b, GRID_POINTS) for a, b in zip(low, high, strict=True))
    total = np.zeros(GRID_POINTS**2)
    for k in range(mixture.n_components):
        total += densities(flat.reordered([k]), np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))[0]
    surface = total.reshape(GRID_POINTS, GRID_POINTS)
    levels = mass_levels(total)
    shades = part("cm").Blues(np.linspace(0.12, 0.75, len(levels)))
    ax.contourf(x, y, surface, levels=[*levels, np.inf], colors=shades)
    if rows is not None:
        chosen = with_values(rows, features, SCATTER_ROWS // 10)
        ax.scatter(rows[chosen, i], rows[chosen, j], s=2.0, c=INK, alpha=0.35, linewidths=0, rasterized=True)
    tidy(ax, "Density", feature_name(names, i), feature_name(names, j))
    return ax


def mass_levels(values: Array) -> Array:
    """Heights, rising, above which the shares `INSIDE` of the total of density values on a regular grid lie."""
    falling = np.sort(values)[::-1]
    share = np.cumsum(falling) / falling.sum()
    return np.unique(falling[np.minimum(np.searchsorted(share, INSIDE), len(falling) - 2)])


def overview(
    rows: np.ndarray,
    labels: np.ndarray | None,
    mixture: Mixture,
    path: str | Path,
    features: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """One PNG of a fit: rows by component and density on two features, and the marginals of up to 16.

    Parameters
    ----------
    rows, labels : (n, d) and (n,), in memory: a sample will do; NaN is missing.
    features : the two of the upper pictures; those in which the components differ most by default.
    """
    n_marginals = min(mixture.d, MOST_MARGINALS)
    _, height = panel_size(n_marginals)
    if mixture.d == 1:
        figure = new_figure(8.0, 4.0)
        bottom = figure.subfigures()
    else:
        figure = new_figure(11.0, 5.0 + height)
        top, bottom = figure.subfigures(2, 1, height_ratios=[4.7, height + 0.3])
        first, second = telling_features(mixture) if features is None else features
        pair = (first, second)
        left, right = panels(top, 2)
        scatter(rows, labels, mixture, pair, left, names)
        density(mixture, pair, None, right, names)
        right.set(xlim=left.get_xlim(), ylim=left.get_ylim())
    marginals(rows, mixture, axes=panels(bottom, n_marginals), names=names)
    title = "Rows (grey), mixture (black) and components (coloured)"
    if n_marginals < mixture.d:
        title += f": the first {n_marginals} of {mixture.d} features"
    bottom.suptitle(title, fontsize=10, color=INK, x=0.01, horizontalalignment="left")
    if mixture.n_components <= LEGEND_COMPONENTS:
        style = {"frameon": False, "fontsize": 9, "title_fontsize": 9, "labelcolor": INK}
        figure.legend(handles=keys(mixture), loc="outside right upper", title="component: weight", **style)
    save(figure.axes[0], path)
